//! `pouch demo`: a ministry, four embassies and a relay on this machine, with keys that live as long as it runs.
//!
//! [`scenario`] has the texts, [`place`] the folder they live in, [`stage`] the processes, [`play`] hands in
//! and answers what the scenario says, [`screen`] shows how it stands, [`mod@check`] plays to the end and
//! has [`verify`] look at what came of it. [`mod@tamper`] changes a byte of the log, to see it found.

pub mod error;
pub mod scenario;
pub mod place;
pub mod process;
pub mod stage;
pub mod play;
pub mod screen;
pub mod verify;
pub mod tamper;
pub mod check;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub use error::DemoError;

use place::Place;
use play::Play;
use process::Death;
use scenario::Scenario;
use stage::Stage;

/// The desks of the demo: code, and what people call it in short. The hub comes first.
pub const DESKS: [(&str, &str); 5] = [
    ("MOD", "Ministry of Defence"),
    ("IDN", "Indonesia"),
    ("MYS", "Malaysia"),
    ("PHL", "Philippines"),
    ("VNM", "Viet Nam"),
];

/// The hub's code.
pub const HUB: &str = "MOD";

/// How long `--check` may take in all.
const CHECK_TIME_MAX: Duration = Duration::from_secs(60);

/// Runs the demo until SIGINT or SIGTERM: starts everything, plays the scenario, writes the first screen
/// to `out`, and waits. What it made is erased at the end, unless `dir` names a folder for it.
///
/// Call it on a runtime of one thread: the daemons end with the thread that started them.
///
/// # Errors
/// [`DemoError`], after everything that was started has ended.
pub async fn run(dir: Option<&Path>, out: &mut dyn Write) -> Result<(), DemoError> {
    let place = Place::make(dir)?;
    let (mut stage, mut deaths) = Stage::set(place.folder())?;
    let scenario = Scenario::load();
    let shown = async {
        stage.start().await?;
        let mut play = Play::new(&scenario);
        play.until_silence(&mut stage).await?;
        play.rest(&stage).await?;
        play.settled(&stage).await?;
        let screen = screen::first(&stage, &place).await?;
        let pointer = place.announce()?;
        out.write_all(screen.as_bytes()).and_then(|()| out.flush()).map_err(DemoError::Output)?;
        Ok(pointer)
    };
    let ended = match unless_interrupted(shown, &mut deaths).await {
        // The pointer goes when the wait is over.
        Ok(Some(_pointer)) => {
            unless_interrupted(std::future::pending::<Result<(), _>>(), &mut deaths).await.map(drop)
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    stage.stop_all().await;
    ended
}

/// Plays the scenario to its end with a relay killed on the way, verifies what came of it, and writes
/// figures, or one line for each failed check, to `out`. Takes at most a minute.
///
/// # Errors
/// [`DemoError::ChecksFailed`], and whatever kept the checks from being made.
pub async fn check(dir: Option<&Path>, out: &mut dyn Write) -> Result<(), DemoError> {
    let place = Place::make(dir)?;
    let (mut stage, mut deaths) = Stage::set(place.folder())?;
    let checked = async {
        let checked = tokio::time::timeout(CHECK_TIME_MAX, check::play_and_verify(&mut stage)).await;
        checked.map_err(|_| DemoError::late("the whole check", CHECK_TIME_MAX))?
    };
    let ended = unless_interrupted(checked, &mut deaths).await;
    stage.stop_all().await;
    match ended? {
        Some(report) => report.write(out),
        None => Err(DemoError::Interrupted),
    }
}

/// What `work` brings; nothing where a signal comes first; an error where a daemon ends by itself.
async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, DemoError>>,
    deaths: &mut mpsc::Receiver<Death>,
) -> Result<Option<T>, DemoError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DemoError::System)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::System)?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
        Some(death) = deaths.recv() => Err(DemoError::Died(death)),
        done = work => done.map(Some),
    }
}
