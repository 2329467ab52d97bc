//! `pouch bench`: drives a running relay over mutual TLS, from its own process, and says how fast it was.
//!
//! `desk` opens sessions, `publisher` and `consumer` are the two ends of the traffic, `workloads`
//! puts them together, `crowd` is many sessions without any, `process` is what the kernel tells of the relay,
//! `log` is what the audit log costs, `ceilings` measures what disk and cipher give on this machine at that hour, `report` is what comes out. The generator speaks the wire protocol itself, without a desk's store, so
//! that the relay is the slower end. With no address, `throwaway` starts a relay in a process of its own.
//!
//! It settles whatever the consumer's mailbox holds, so it only ever drives a relay with example keys.

mod ceilings;
mod consumer;
mod crowd;
mod desk;
mod log;
mod process;
mod publisher;
mod report;
mod throwaway;
mod workloads;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    config::ConfigError,
    identity::SpiffeId,
    keys::KeyError,
    note::NoteError,
    pki::{self, Example, PkiError},
    roster::RosterError,
    service,
    session::hello::HelloError,
    tiles::{Fault, LogError},
    tls::TlsError,
    wire::{Malformed, codec::CodecError},
};

use process::Process;
use throwaway::{Purpose, Relay, Scratch};

pub use report::{Ceilings, Figures, Line, LogCost, Sessions, rows};

/// Publishers of W1.
pub const PUBLISHERS: usize = 8;
/// Addressees of each envelope in W3.
pub const ADDRESSEES: usize = 100;
/// Idle sessions of W4, each of a desk of its own.
pub const SESSIONS: usize = 2_000;
/// How long a workload runs unless told otherwise.
pub const SECONDS_DEFAULT: u64 = 10;
/// How long a workload may run, so that all of them together end within 300 s.
pub const SECONDS_MAX: u64 = 30;

/// What to measure, and against which relay.
#[derive(Clone, Debug)]
pub struct Options {
    /// A relay that runs already; without one, a throw-away relay is started.
    pub target: Option<Target>,
    /// How long each workload submits, unless its count is reached before.
    pub time: Duration,
    /// How many sessions W4 opens, at most [`SESSIONS`]; as many missions the throw-away relay's roster has, and
    /// never fewer than the other workloads need. A roster with fewer missions makes it smaller.
    pub sessions: usize,
    /// Whether to run every workload a second time with receivers that verify what they get.
    pub verify: bool,
}

/// A relay that runs already.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What `pouch pki` calls an example: trust bundle, root, roster, and a folder of keys for each desk.
    pub pki: PathBuf,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file or folder cannot be made or read.
    #[error("{path}: {source}: check that the folder exists and is yours, or set TMPDIR to one that is", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The throw-away relay did not come up.
    #[error("the throw-away relay ended before it listened ({0}): its last words stand above")]
    Relay(std::process::ExitStatus),
    /// Nobody listens.
    #[error("no relay at {address} ({source}): check that it runs, or leave the address out")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Real keys.
    #[error(
        "trust domain {0} is no example, and a bench settles whatever waits for its consumer: run it without an address"
    )]
    NotAnExample(String),
    /// The PKI folder lacks a desk.
    #[error("the roster in {path} lists no {wanted} whose folder of keys lies there: give one that `pouch pki example` made", path = path.display())]
    NoDesk {
        /// The PKI folder.
        path: PathBuf,
        /// Mission or hub.
        wanted: &'static str,
    },
    /// The relay has another roster.
    #[error(
        "the relay has version {relay} of the roster, this folder {ours}: give the folder that the relay was started with"
    )]
    RosterDiffers {
        /// In force at the relay.
        relay: u32,
        /// In the PKI folder.
        ours: u32,
    },
    /// The connection broke.
    #[error("the connection of {party} broke ({source}): see the relay's log")]
    Broken {
        /// Whose.
        party: SpiffeId,
        /// What the system said.
        source: io::Error,
    },
    /// The relay ended a session.
    #[error("the relay ended the session of {party}: {sentence}")]
    Goodbye {
        /// Whose.
        party: SpiffeId,
        /// The relay's words.
        sentence: String,
        /// The incarnation that the log knows, where that was the reason; otherwise 0.
        incarnation: u32,
    },
    /// The relay would not take an envelope.
    #[error("the relay refused or deferred an envelope ({0}): see the relay's log")]
    Refused(String),
    /// Nothing came for too long.
    #[error("the relay said nothing for {} s: see its log", .0.as_secs())]
    Silent(Duration),
    /// The relay answered something that does not fit, or a proof failed under `--verify`.
    #[error("the relay's answer does not hold: {0}: report it to the maintainers")]
    Wrong(&'static str),
    /// Stopped by the person at the terminal.
    #[error("interrupted: no figures")]
    Interrupted,
    /// The trust bundle.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The example PKI.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The roster.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The relay did not prove itself.
    #[error("the relay's Welcome is not believed: {0}: check that the folder belongs to this relay")]
    Hello(#[from] HelloError),
    /// No frames of ours.
    #[error("the relay sent no frames of this protocol ({0}): check the address")]
    Codec(#[from] CodecError),
    /// Signed bytes that cannot be read.
    #[error("the relay's answer does not hold: {0}: report it to the maintainers")]
    Malformed(#[from] Malformed),
    /// The audit log's files cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The audit log that the relay wrote does not verify.
    #[error("the relay's audit log does not hold: {0}: report it to the maintainers")]
    Fault(#[from] Fault),
    /// The relay's checkpoint cannot be read.
    #[error("the relay's checkpoint does not hold: {0}: report it to the maintainers")]
    Note(#[from] NoteError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: restart the machine")]
    Random,
}

impl BenchError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> BenchError {
        let path = path.to_owned();
        move |source| BenchError::File { path, source }
    }
}

/// Measures, and hands each line to `each` as soon as it stands. Everything that it started and made is
/// gone when it returns, also when the future is dropped.
///
/// # Errors
/// [`BenchError`].
pub async fn run(options: &Options, mut each: impl FnMut(&Line)) -> Result<(), BenchError> {
    service::raise_descriptor_limit();
    let scratch = Scratch::new()?;
    let own = options.target.is_none();
    let missions = if own { options.sessions.max(ADDRESSEES) } else { 1 };
    let example = pki::example_bloc(missions);
    let example = pki::make_example(&scratch.path().join("pki"), &example, &[], SystemTime::now())?;
    let ceilings = ceilings::measure(scratch.path(), &example)?;
    let relay_kib_per_session = session_kib(options, &scratch, &example).await?;
    let (target, process, running) = match &options.target {
        Some(target) => (target.clone(), Process::listening_on(target.address), None),
        None => {
            let relay = Relay::start(&scratch, &example, Purpose::Traffic).await?;
            (relay.target().clone(), Some(relay.process()), Some(relay))
        }
    };
    let (mut site, relay) = desk::Site::load(&target, options.sessions.max(ADDRESSEES))?;
    let passes: &[bool] = if options.verify { &[false, true] } else { &[false] };
    for &verify in passes {
        let run = workloads::Run { time: options.time, verify, process, relay: relay.clone() };
        let (figures, after) = run.w1(site).await?;
        each(&Line::Figures(figures));
        let (figures, after) = run.w2(after).await?;
        each(&Line::Figures(figures));
        let (figures, after) = run.w3(after).await?;
        each(&Line::Figures(figures));
        site = after;
    }
    site.missions.truncate(options.sessions);
    let sessions = crowd::handshakes(site.missions, &relay, process).await?;
    each(&Line::Sessions(Sessions { relay_kib_per_session, ..sessions }));
    if let Some(running) = running {
        drop(running);
        each(&Line::Log(log::measure(options, &scratch).await?));
    }
    each(&Line::Limits(ceilings));
    Ok(())
}

/// Looks at memory in a relay of its own, or what others left in it would be used again and not be seen.
async fn session_kib(
    options: &Options,
    scratch: &Scratch,
    example: &Example,
) -> Result<Option<f64>, BenchError> {
    let (target, process, _relay) = match &options.target {
        Some(target) => (target.clone(), Process::listening_on(target.address), None),
        None => {
            let relay = Relay::start(scratch, example, Purpose::Memory).await?;
            (relay.target().clone(), Some(relay.process()), Some(relay))
        }
    };
    let Some(process) = process else { return Ok(None) };
    let (site, relay) = desk::Site::load(&target, options.sessions)?;
    crowd::session_kib(site.missions, &relay, process).await
}
