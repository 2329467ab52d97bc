//! One daemon as a child process: started, stopped, killed, and missed when it ends by itself.

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::demo::DemoError;

/// How long a daemon may take to end after SIGTERM (issue 3, point 9); then it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// Signals under way to one process.
const ORDERS_MAX: usize = 4;
/// How much of a log's end is shown when its daemon ended by itself.
const LAST_BYTES: u64 = 2048;
const LAST_LINES: usize = 3;

/// A running daemon. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    orders: mpsc::Sender<Signal>,
    ended: watch::Receiver<bool>,
}

/// A daemon that ended though nobody stopped it.
#[derive(Debug)]
pub struct Death {
    name: String,
    status: io::Result<ExitStatus>,
    /// Read at once: the log may be erased before anybody asks.
    last_lines: io::Result<String>,
}

impl Process {
    /// Starts `pouch` with these arguments and standard error appended to `log`. The process ends with
    /// the thread that calls this, also where that is killed; if it ends before it is told to, a
    /// [`Death`] goes to `deaths`.
    ///
    /// # Errors
    /// [`DemoError::Spawn`], [`DemoError::File`] for the log.
    pub fn start(
        name: &str,
        arguments: &[OsString],
        log: &Path,
        deaths: mpsc::Sender<Death>,
    ) -> Result<Process, DemoError> {
        let failed = |source| DemoError::Spawn { name: name.to_owned(), source };
        let stderr = OpenOptions::new().create(true).append(true).open(log).map_err(DemoError::file(log))?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["demo", "daemon", "--parent", &std::process::id().to_string(), "--"]).args(arguments);
        // What is set for a real desk on this machine must not reach the demo's.
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"POUCH_") {
                command.env_remove(variable);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        // Out of the terminal's reach: Ctrl-C goes to the demo, which then stops its daemons in order.
        command.process_group(0);
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(failed)?;
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (ending, ended) = watch::channel(false);
        let (name, log) = (name.to_owned(), log.to_owned());
        tokio::spawn(async move {
            let missed = attend(child, ordered).await;
            let death = missed.map(|status| Death { name, status, last_lines: last_lines(&log) });
            ending.send_replace(true);
            if let Some(death) = death
                && deaths.send(death).await.is_err()
            {
                tracing::debug!("a daemon ended after the demo");
            }
        });
        Ok(Process { orders, ended })
    }

    /// Asks the process to end, and kills it where it takes too long. It has ended when this returns.
    pub async fn stop(mut self) {
        self.order(Signal::TERM).await;
        if timeout(STOP_TIME_MAX, self.end()).await.is_err() {
            self.kill().await;
        }
    }

    /// Kills the process with -9. It has ended when this returns.
    pub async fn kill(mut self) {
        self.order(Signal::KILL).await;
        self.end().await;
    }

    async fn order(&self, signal: Signal) {
        if self.orders.send(signal).await.is_err() {
            tracing::debug!("the process has ended already");
        }
    }

    async fn end(&mut self) {
        if self.ended.wait_for(|ended| *ended).await.is_err() {
            tracing::debug!("the process ended with its attendant");
        }
    }
}

/// Waits for the end of a child and passes signals on. Returns its status where it got no signal from here.
async fn attend(mut child: Child, mut orders: mpsc::Receiver<Signal>) -> Option<io::Result<ExitStatus>> {
    let mut unasked = true;
    loop {
        tokio::select! {
            status = child.wait() => return unasked.then_some(status),
            order = orders.recv() => {
                unasked = false;
                // Not waited for yet, so the number is still this child's.
                let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                let sent = pid.map(|pid| rustix::process::kill_process(pid, order.unwrap_or(Signal::KILL)));
                if let Some(Err(error)) = sent {
                    tracing::debug!(%error, "signal not sent");
                }
                if order.is_none() {
                    return child.wait().await.err().map(Err);
                }
            }
        }
    }
}

/// Turns this process into `pouch` with these arguments, which the kernel kills when `parent`, that started
/// it, ends. Returns only on failure.
pub fn become_daemon(parent: u32, arguments: &[OsString]) -> io::Error {
    let replaced = || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before the line above.
        if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != i32::try_from(parent).ok() {
            return Err(io::Error::other("the demo that started this daemon has ended"));
        }
        std::env::current_exe()
    };
    match replaced() {
        Ok(pouch) => Command::new(pouch).args(arguments).exec(),
        Err(error) => error,
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended by itself, ", self.name)?;
        match &self.status {
            Ok(status) => write!(f, "{status}")?,
            Err(error) => write!(f, "and how is unknown: {error}")?,
        }
        match &self.last_lines {
            Ok(lines) => write!(f, "; its log ends with: {lines}"),
            Err(error) => write!(f, "; its log cannot be read: {error}"),
        }
    }
}

/// The last few lines of a log, as one.
fn last_lines(log: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(log)?;
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(end.saturating_sub(LAST_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    Ok(if last.is_empty() { "nothing".to_owned() } else { last.join(" | ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_tells_who_how_and_the_last_words() {
        use std::os::unix::process::ExitStatusExt;
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "one\ntwo\nthree\n\nfour\n").unwrap();
        let status = Ok(ExitStatus::from_raw(78 << 8));
        let death = Death { name: "relay".to_owned(), status, last_lines: last_lines(&log) };
        let expected = "relay ended by itself, exit status: 78; its log ends with: two | three | four";
        assert_eq!(death.to_string(), expected);
    }

    fn sleeper() -> Child {
        tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap()
    }

    #[tokio::test]
    async fn a_child_that_was_told_to_end_is_not_missed() {
        let (orders, ordered) = mpsc::channel(1);
        orders.send(Signal::TERM).await.unwrap();
        assert!(attend(sleeper(), ordered).await.is_none());
    }

    #[tokio::test]
    async fn a_child_ends_when_its_handle_is_dropped() {
        let (orders, ordered) = mpsc::channel(1);
        drop(orders);
        assert!(attend(sleeper(), ordered).await.is_none());
    }

    #[tokio::test]
    async fn a_child_that_ends_by_itself_is_missed() {
        let (_orders, ordered) = mpsc::channel(1);
        let child = tokio::process::Command::new("false").spawn().unwrap();
        assert_eq!(attend(child, ordered).await.unwrap().unwrap().code(), Some(1));
    }

    #[test]
    fn a_daemon_whose_demo_has_ended_does_not_begin() {
        let error = become_daemon(0, &["--version".into()]);
        assert_eq!(error.to_string(), "the demo that started this daemon has ended");
    }
}
