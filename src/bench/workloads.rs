//! W1, how much; W2, how soon; W3, how much to many.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    ADDRESSEES, BenchError, PUBLISHERS,
    consumer::Consumer,
    desk::{Desk, RelayEnd, Site},
    process::Process,
    publisher::{Pace, Publisher},
    report::{Figures, Latencies, micros},
};
use crate::roster::PartyNumber;

/// Envelopes of one publisher that are submitted and not accepted.
const IN_FLIGHT_MAX: usize = 256;
/// W1: envelopes of one publisher that are accepted and not settled. Of all eight together they fit the
/// relay's cache of bodies, so that a consumer that lags behind slows the publishers and not the disk.
const UNSETTLED_MAX: usize = 4_096;
/// W1: envelopes of one publisher; of all eight together at most 2 GiB in the journal.
const SUBMISSIONS_MAX: u64 = 125_000;
/// W2: envelopes.
const ROUNDS_MAX: u64 = 20_000;
/// W3: envelopes that are accepted and not settled by all; 102,400 deliveries.
const FAN_OUT_UNSETTLED_MAX: usize = 1_024;
/// W3: envelopes, each of 7 KiB with its wraps.
const FAN_OUT_SUBMISSIONS_MAX: u64 = 60_000;

/// How workloads run.
pub(super) struct Run {
    pub(super) time: Duration,
    pub(super) verify: bool,
    /// The relay's, where it can be seen.
    pub(super) process: Option<Process>,
    pub(super) relay: Arc<RelayEnd>,
}

/// Desks of the two ends.
struct Ends<T, U> {
    publishers: Vec<T>,
    consumers: Vec<U>,
}

impl Run {
    /// All publishers, 256 in flight each; one consumer that settles each.
    pub(super) async fn w1(&self, site: Site) -> Result<(Figures, Site), BenchError> {
        let pace = Pace {
            time: self.time,
            submissions_max: SUBMISSIONS_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            unsettled_max: UNSETTLED_MAX,
        };
        let Site { hub, mut missions } = site;
        let publishers = missions.drain(..PUBLISHERS.min(missions.len())).collect();
        let ends = Ends { publishers, consumers: vec![hub] };
        let (figures, mut ends) = self.traffic("w1", ends, pace).await?;
        missions.splice(..0, ends.publishers);
        Ok((figures, Site { hub: ends.consumers.swap_remove(0), missions }))
    }

    /// One publisher, 256 in flight; up to 100 addressees that settle each.
    pub(super) async fn w3(&self, site: Site) -> Result<(Figures, Site), BenchError> {
        let pace = Pace {
            time: self.time,
            submissions_max: FAN_OUT_SUBMISSIONS_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            unsettled_max: FAN_OUT_UNSETTLED_MAX,
        };
        let Site { hub, mut missions } = site;
        let consumers = missions.drain(..ADDRESSEES.min(missions.len())).collect();
        let ends = Ends { publishers: vec![hub], consumers };
        let (figures, mut ends) = self.traffic("w3", ends, pace).await?;
        missions.splice(..0, ends.consumers);
        Ok((figures, Site { hub: ends.publishers.swap_remove(0), missions }))
    }

    /// Has each publisher write to all consumers.
    async fn traffic(
        &self,
        workload: &'static str,
        desks: Ends<Desk, Desk>,
        pace: Pace,
    ) -> Result<(Figures, Ends<Desk, Desk>), BenchError> {
        let mut ends = self.open(desks).await?;
        let (used, began) = (self.used(), Instant::now());
        ends = run_all(ends, pace).await?;
        let used = self.used_since(used);

        let publishers = &ends.publishers;
        let accepted: u64 = publishers.iter().map(|publisher| publisher.accepted).sum();
        let due: u64 = publishers.iter().map(Publisher::deliveries_due).sum();
        let accepted_at = publishers.iter().filter_map(|publisher| publisher.accepted_at).max();
        let mut latencies = Latencies::default();
        for publisher in publishers {
            latencies.extend(&publisher.accepted_us);
        }
        let (p50_us, p99_us) = latencies.p50_p99();
        let tallies = || ends.consumers.iter().map(|consumer| &consumer.tally);
        let delivered: u64 = tallies().map(|tally| tally.delivered).sum();
        let delivered_at = ends.consumers.iter().filter_map(|consumer| consumer.delivered_at).max();
        let mut figures = Figures {
            workload,
            verify: self.verify,
            publishers: publishers.len(),
            addressees: ends.consumers.len(),
            envelopes: accepted,
            envelopes_per_s: Some(per_second(accepted, began, accepted_at)),
            deliveries_per_s: Some(per_second(delivered, began, delivered_at)),
            p50_us,
            p99_us,
            accepted_p50_us: None,
            delivered_p50_us: None,
            relay_cpu_s_per_million: None,
            lost: due.saturating_sub(delivered),
            duplicated: tallies().map(|tally| tally.duplicated).sum(),
        };
        figures.charge(used);
        Ok((figures, close(ends).await?))
    }

    /// One publisher, one envelope at a time: until it is accepted, and until it is delivered.
    pub(super) async fn w2(&self, site: Site) -> Result<(Figures, Site), BenchError> {
        let Site { hub, mut missions } = site;
        let desks = Ends { publishers: missions.drain(..1).collect(), consumers: vec![hub] };
        let mut ends = self.open(desks).await?;
        let (publisher, consumer) = (&mut ends.publishers[0], &mut ends.consumers[0]);
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
        let pace = Pace { time: Duration::ZERO, submissions_max: 0, in_flight_max: 0, unsettled_max: 0 };
        ends = run_all(ends, pace).await?;

        let (publisher, tally) = (&ends.publishers[0], &ends.consumers[0].tally);
        let (p50_us, p99_us) = both.p50_p99();
        let mut figures = Figures {
            workload: "w2",
            verify: self.verify,
            publishers: 1,
            addressees: 1,
            envelopes: publisher.accepted,
            envelopes_per_s: None,
            deliveries_per_s: None,
            p50_us,
            p99_us,
            accepted_p50_us: Some(accepted.p50_p99().0),
            delivered_p50_us: Some(delivered.p50_p99().0),
            relay_cpu_s_per_million: None,
            lost: publisher.accepted.saturating_sub(tally.delivered),
            duplicated: tally.duplicated,
        };
        figures.charge(used);
        let mut ends = close(ends).await?;
        missions.splice(..0, ends.publishers);
        Ok((figures, Site { hub: ends.consumers.swap_remove(0), missions }))
    }

    async fn open(&self, desks: Ends<Desk, Desk>) -> Result<Ends<Publisher, Consumer>, BenchError> {
        let to: Vec<PartyNumber> = desks.consumers.iter().map(|desk| desk.number).collect();
        let mut ends = Ends { publishers: Vec::new(), consumers: Vec::new() };
        for desk in desks.consumers {
            ends.consumers.push(Consumer::open(desk, self.relay.clone(), self.verify).await?);
        }
        for desk in desks.publishers {
            let publisher = Publisher::open(desk, self.relay.clone(), &to, self.verify).await?;
            ends.consumers.iter_mut().for_each(|consumer| consumer.tally.expect(publisher.last_before()));
            ends.publishers.push(publisher);
        }
        Ok(ends)
    }

    fn used(&self) -> Option<Duration> {
        self.process.and_then(|process| process.used())
    }

    fn used_since(&self, before: Option<Duration>) -> Option<Duration> {
        Some(self.used()?.saturating_sub(before?))
    }
}

async fn close(ends: Ends<Publisher, Consumer>) -> Result<Ends<Desk, Desk>, BenchError> {
    let mut desks = Ends { publishers: Vec::new(), consumers: Vec::new() };
    for publisher in ends.publishers {
        desks.publishers.push(publisher.close().await?);
    }
    for consumer in ends.consumers {
        desks.consumers.push(consumer.close().await?);
    }
    Ok(desks)
}

/// Lets all publishers publish and all consumers consume, each in its own task, until every publisher is done.
async fn run_all(
    ends: Ends<Publisher, Consumer>,
    pace: Pace,
) -> Result<Ends<Publisher, Consumer>, BenchError> {
    let (done, all_done) = watch::channel(false);
    let mut consuming = JoinSet::new();
    for mut consumer in ends.consumers {
        let mut all_done = all_done.clone();
        consuming.spawn(async move {
            tokio::select! {
                ended = consumer.consume() => ended?,
                // Said or dropped: either way nobody publishes any more.
                _ = all_done.wait_for(|done| *done) => {}
            }
            Ok(consumer)
        });
    }
    let mut publishing = JoinSet::new();
    for mut publisher in ends.publishers {
        publishing.spawn(async move {
            publisher.publish(pace).await?;
            Ok(publisher)
        });
    }
    let published = async {
        let publishers = all(&mut publishing).await?;
        done.send_replace(true);
        Ok(publishers)
    };
    let (mut publishers, mut consumers) = tokio::try_join!(published, all(&mut consuming))?;
    publishers.sort_unstable_by_key(Publisher::number);
    consumers.sort_unstable_by_key(Consumer::number);
    Ok(Ends { publishers, consumers })
}

/// What the tasks return, or the first error.
async fn all<T: 'static>(tasks: &mut JoinSet<Result<T, BenchError>>) -> Result<Vec<T>, BenchError> {
    let mut ended = Vec::new();
    while let Some(task) = tasks.join_next().await {
        ended.push(task.map_err(|_| BenchError::Wrong("a desk's task panicked"))??);
    }
    Ok(ended)
}

fn per_second(count: u64, began: Instant, ended: Option<Instant>) -> u64 {
    let seconds = ended.map_or(0.0, |ended| (ended - began).as_secs_f64());
    if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 }
}
