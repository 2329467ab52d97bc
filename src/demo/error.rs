//! Why the demo does not go on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::ConfigError;
use crate::demo::process::Death;
use crate::desk::client::ClientError;
use crate::pki::PkiError;
use crate::relay::log::LogError;

/// Why the demo ended. Each text ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The throw-away PKI could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A file or folder of the demo's own.
    #[error("{}: {source}: choose another folder with --dir, or free some space", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// `--dir` names a folder with something in it.
    #[error("{} is not empty: name a new folder with --dir", .0.display())]
    NotEmpty(PathBuf),
    /// Unix sockets need short paths, configuration files UTF-8 ones.
    #[error("{} is too long for a socket below it, or not UTF-8: name a shorter folder with --dir", .0.display())]
    PathUnusable(PathBuf),
    /// The file that says where the demo runs.
    #[error("{}: {source}: set XDG_RUNTIME_DIR to a folder of your own", path.display())]
    Pointer {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Somebody else's file stands where the demo's pointer should.
    #[error("{} is not a private file of this user: remove it and start `pouch demo` again", .0.display())]
    PointerNotOurs(PathBuf),
    /// No demo runs.
    #[error("no demo is running: start `pouch demo` in another terminal")]
    NotRunning,
    /// A code that is no desk of the demo.
    #[error("{code} is no desk of the demo: use one of MOD, IDN, MYS, PHL, VNM")]
    UnknownDesk {
        /// As typed.
        code: String,
    },
    /// No port of the loopback interface is free, or none can be had.
    #[error("no port on 127.0.0.1: {0}: bring the loopback interface up with `ip link set lo up`")]
    Port(std::io::Error),
    /// A daemon could not be started.
    #[error("cannot start {name}: {source}: check that this binary still lies where it was started")]
    Spawn {
        /// Which.
        name: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A daemon ended by itself.
    #[error("{0}")]
    Died(Death),
    /// A desk did not answer, or said no.
    #[error("{code}: {source}")]
    Desk {
        /// Whose.
        code: String,
        /// Why.
        source: ClientError,
    },
    /// Something did not happen in time.
    #[error(
        "not within {} s: {what}: run `pouch demo --check --dir DIR` and read the logs below DIR",
        time_max.as_secs()
    )]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        time_max: Duration,
    },
    /// The demo's own trust bundle.
    #[error(transparent)]
    Trust(ConfigError),
    /// The relay's log does not read back.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no published checkpoint over a traffic leaf yet.
    #[error("the relay has published no checkpoint over any traffic yet: wait ten seconds and try again")]
    NothingToTamper,
    /// The play went to its end and these checks failed.
    #[error("{0} checks failed: run it again with --dir DIR and read the logs below DIR")]
    ChecksFailed(usize),
    /// A signal came before the end.
    #[error("interrupted before the end: run it again")]
    Interrupted,
    /// Standard output cannot be written.
    #[error("standard output: {0}: send it elsewhere")]
    Output(std::io::Error),
    /// The system refused what every program needs.
    #[error("the system: {0}: free memory or raise the limits on files")]
    System(std::io::Error),
}

impl DemoError {
    /// [`DemoError::File`] for this path.
    pub(super) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> DemoError {
        let path = path.to_owned();
        move |source| DemoError::File { path, source }
    }

    /// [`DemoError::Desk`] for this desk.
    pub(super) fn desk(code: &str) -> impl FnOnce(ClientError) -> DemoError {
        let code = code.to_owned();
        move |source| DemoError::Desk { code, source }
    }

    /// [`DemoError::Late`].
    pub(super) fn late(what: &str, time_max: Duration) -> DemoError {
        DemoError::Late { what: what.to_owned(), time_max }
    }
}
