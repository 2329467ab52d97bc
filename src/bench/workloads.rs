//! W1, how much, and W2, how soon.

use std::time::{Duration, Instant};

use tokio::{sync::oneshot, task::JoinSet};

use super::{
    BenchError,
    consumer::Consumer,
    desk::{Desk, Site},
    publisher::{Pace, Publisher},
    report::{Figures, Latencies, micros},
    throwaway::Processor,
};

/// W1: envelopes of one publisher that are submitted and not accepted.
const IN_FLIGHT_MAX: usize = 256;
/// W1: envelopes of one publisher that are accepted and not settled. Of all eight together they fit the
/// relay's cache of bodies, so that a consumer that lags behind slows the publishers and not the disk.
const UNSETTLED_MAX: usize = 4_096;
/// W1: envelopes of one publisher; of all eight together at most 2 GiB in the journal.
const SUBMISSIONS_MAX: u64 = 125_000;
/// W2: envelopes.
const ROUNDS_MAX: u64 = 20_000;

/// How workloads run.
pub(super) struct Run {
    pub(super) time: Duration,
    pub(super) verify: bool,
    /// The relay's processor time, where the relay is ours.
    pub(super) processor: Option<Processor>,
}

impl Run {
    /// All publishers, 256 in flight each; one consumer that settles each.
    pub(super) async fn w1(&self, site: Site) -> Result<(Figures, Site), BenchError> {
        let Site { publishers: desks, consumer, relay } = site;
        let to = consumer.addressed();
        let mut consumer = Consumer::open(consumer, relay.clone(), self.verify).await?;
        let mut publishers = Vec::new();
        for desk in desks {
            let publisher = Publisher::open(desk, relay.clone(), &to, self.verify).await?;
            consumer.tally.expect(publisher.last_before());
            publishers.push(publisher);
        }
        let used = self.used();
        let began = Instant::now();
        let pace = Pace {
            until: began + self.time,
            submissions_max: SUBMISSIONS_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            unsettled_max: UNSETTLED_MAX,
        };
        let (publishers, consumer) = run_all(publishers, consumer, pace).await?;
        let used = self.used_since(used);

        let accepted: u64 = publishers.iter().map(|publisher| publisher.accepted).sum();
        let accepted_at = publishers.iter().filter_map(|publisher| publisher.accepted_at).max();
        let mut latencies = Latencies::default();
        for publisher in &publishers {
            latencies.extend(&publisher.accepted_us);
        }
        let (p50_us, p99_us) = latencies.p50_p99();
        let mut figures = Figures {
            workload: "w1",
            verify: self.verify,
            publishers: publishers.len(),
            envelopes: accepted,
            envelopes_per_s: Some(per_second(accepted, began, accepted_at)),
            deliveries_per_s: Some(per_second(consumer.tally.delivered, began, consumer.delivered_at)),
            p50_us,
            p99_us,
            accepted_p50_us: None,
            delivered_p50_us: None,
            relay_cpu_s_per_million: None,
            lost: accepted.saturating_sub(consumer.tally.delivered),
            duplicated: consumer.tally.duplicated,
        };
        figures.charge(used);
        let mut desks: Vec<Desk> = Vec::new();
        for publisher in publishers {
            desks.push(publisher.close().await?);
        }
        let consumer = consumer.close().await?;
        Ok((figures, Site { publishers: desks, consumer, relay }))
    }

    /// One publisher, one envelope at a time: until it is accepted, and until it is delivered.
    pub(super) async fn w2(&self, site: Site) -> Result<(Figures, Site), BenchError> {
        let Site { publishers: mut desks, consumer, relay } = site;
        let to = consumer.addressed();
        let mut consumer = Consumer::open(consumer, relay.clone(), self.verify).await?;
        let desk = desks.swap_remove(0);
        let mut publisher = Publisher::open(desk, relay.clone(), &to, self.verify).await?;
        consumer.tally.expect(publisher.last_before());
        let used = self.used();
        let began = Instant::now();
        let (mut accepted, mut delivered, mut both) = <(Latencies, Latencies, Latencies)>::default();
        for round in 1..=ROUNDS_MAX {
            let since = Instant::now();
            if since - began > self.time {
                break;
            }
            let (accepted_at, delivered_at) =
                tokio::try_join!(publisher.submit_one(), consumer.until_delivered(round))?;
            accepted.push(micros(accepted_at - since));
            delivered.push(micros(delivered_at - since));
            both.push(micros(accepted_at.max(delivered_at) - since));
        }
        let used = self.used_since(used);
        let pace = Pace { until: Instant::now(), submissions_max: 0, in_flight_max: 0, unsettled_max: 0 };
        let (mut publishers, consumer) = run_all(vec![publisher], consumer, pace).await?;
        let publisher = publishers.swap_remove(0);

        let (p50_us, p99_us) = both.p50_p99();
        let mut figures = Figures {
            workload: "w2",
            verify: self.verify,
            publishers: 1,
            envelopes: publisher.accepted,
            envelopes_per_s: None,
            deliveries_per_s: None,
            p50_us,
            p99_us,
            accepted_p50_us: Some(accepted.p50_p99().0),
            delivered_p50_us: Some(delivered.p50_p99().0),
            relay_cpu_s_per_million: None,
            lost: publisher.accepted.saturating_sub(consumer.tally.delivered),
            duplicated: consumer.tally.duplicated,
        };
        figures.charge(used);
        desks.insert(0, publisher.close().await?);
        let consumer = consumer.close().await?;
        Ok((figures, Site { publishers: desks, consumer, relay }))
    }

    fn used(&self) -> Option<Duration> {
        self.processor.and_then(|processor| processor.used())
    }

    fn used_since(&self, before: Option<Duration>) -> Option<Duration> {
        Some(self.used()?.saturating_sub(before?))
    }
}

/// Lets all publishers publish, each in its own task, and the consumer consume, until every publisher is done.
async fn run_all(
    publishers: Vec<Publisher>,
    mut consumer: Consumer,
    pace: Pace,
) -> Result<(Vec<Publisher>, Consumer), BenchError> {
    let (done, all_done) = oneshot::channel::<()>();
    let consuming = async move {
        tokio::select! {
            ended = consumer.consume() => ended?,
            // Sent or dropped: either way nobody publishes any more.
            _ = all_done => {}
        }
        Ok::<Consumer, BenchError>(consumer)
    };
    let mut tasks = JoinSet::new();
    for mut publisher in publishers {
        tasks.spawn(async move {
            publisher.publish(pace).await?;
            Ok::<Publisher, BenchError>(publisher)
        });
    }
    let publishing = async move {
        let mut publishers = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            publishers.push(ended.map_err(|_| BenchError::Wrong("a publisher's task panicked"))??);
        }
        drop(done);
        Ok(publishers)
    };
    tokio::try_join!(publishing, consuming)
}

fn per_second(count: u64, began: Instant, ended: Option<Instant>) -> u64 {
    let seconds = ended.map_or(0.0, |ended| (ended - began).as_secs_f64());
    if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 }
}
