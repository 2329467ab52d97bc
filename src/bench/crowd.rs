//! W4: many sessions that say nothing, as at night, and all of them again, as after an outage.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{
    BenchError,
    desk::{Desk, RelayEnd, Session},
    process::Process,
    report::Sessions,
};

/// Handshakes under way at once: half of what the relay takes.
const HANDSHAKES_AT_ONCE: usize = 32;

/// KiB by which the relay's process grows for each session that is open and idle.
pub(super) async fn session_kib(
    desks: Vec<Desk>,
    relay: &Arc<RelayEnd>,
    process: Process,
) -> Result<Option<f64>, BenchError> {
    let (sessions, empty) = (desks.len(), process.resident_kib());
    let crowd = Crowd::gather(desks, relay).await?;
    let grown = empty.zip(process.resident_kib()).map(|(empty, full)| full.saturating_sub(empty) as f64);
    crowd.leave().await?;
    Ok(grown.map(|kib| each(kib, sessions)))
}

/// Opens a session of each desk twice, so that the log knows the desks and records nothing the second time. That
/// one counts.
pub(super) async fn handshakes(
    desks: Vec<Desk>,
    relay: &Arc<RelayEnd>,
    process: Option<Process>,
) -> Result<Sessions, BenchError> {
    let sessions = desks.len();
    let desks = Crowd::gather(desks, relay).await?.leave().await?;
    let used = || process.and_then(|process| process.used());
    let (before, began) = (used(), Instant::now());
    let crowd = Crowd::gather(desks, relay).await?;
    let seconds = began.elapsed().as_secs_f64();
    let spent = before.zip(used()).map(|(before, after)| after.saturating_sub(before).as_secs_f64());
    crowd.leave().await?;
    Ok(Sessions {
        workload: "w4",
        sessions,
        handshakes_per_s: (sessions as f64 / seconds).round() as u64,
        relay_cpu_ms_per_handshake: spent.map(|spent| each(spent * 1e3, sessions)),
        relay_kib_per_session: None,
    })
}

fn each(sum: f64, sessions: usize) -> f64 {
    (sum * 100.0 / sessions as f64).round() / 100.0
}

/// Open sessions, each in its own task, that answer pings and nothing else.
struct Crowd {
    tasks: JoinSet<Result<Desk, BenchError>>,
    leaving: watch::Sender<bool>,
}

impl Crowd {
    /// Returns when every session is open.
    async fn gather(desks: Vec<Desk>, relay: &Arc<RelayEnd>) -> Result<Crowd, BenchError> {
        let mut missing = desks.len();
        let (opened, mut all_open) = mpsc::channel(HANDSHAKES_AT_ONCE);
        let (leaving, left) = watch::channel(false);
        let places = Arc::new(Semaphore::new(HANDSHAKES_AT_ONCE));
        let mut tasks = JoinSet::new();
        for desk in desks {
            let (relay, opened, places, left) = (relay.clone(), opened.clone(), places.clone(), left.clone());
            tasks.spawn(async move { attend(desk, &relay, &places, &opened, left).await });
        }
        while missing > 0 {
            tokio::select! {
                Some(()) = all_open.recv() => missing -= 1,
                Some(ended) = tasks.join_next() => {
                    ended.map_err(|_| BenchError::Wrong("an idle session's task panicked"))??;
                }
            }
        }
        Ok(Crowd { tasks, leaving })
    }

    /// Closes all sessions, and gives the desks back in their order.
    async fn leave(mut self) -> Result<Vec<Desk>, BenchError> {
        self.leaving.send_replace(true);
        let mut desks = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            desks.push(ended.map_err(|_| BenchError::Wrong("an idle session's task panicked"))??);
        }
        desks.sort_unstable_by_key(|desk| desk.number);
        Ok(desks)
    }
}

async fn attend(
    mut desk: Desk,
    relay: &RelayEnd,
    places: &Semaphore,
    opened: &mpsc::Sender<()>,
    mut left: watch::Receiver<bool>,
) -> Result<Desk, BenchError> {
    let place = places.acquire().await;
    let mut session = Session::open(&mut desk, relay).await?;
    drop(place);
    // Nobody counts any more only when the bench ends.
    if opened.send(()).await.is_ok() {
        let idle = async {
            loop {
                session.receive().await?;
                while session.next()?.is_some() {}
                session.flush().await?;
            }
        };
        tokio::select! {
            ended = idle => return ended,
            _ = left.wait_for(|leaving| *leaving) => {}
        }
    }
    session.close().await?;
    Ok(desk)
}
