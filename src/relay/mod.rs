//! The relay process: everything that carries the exchange's outputs out.
//!
//! `listener` accepts and shakes hands, `connection` checks what one desk says and encodes what it is
//! told, `engine` owns the exchange and the journal. The relay holds no CA key and cannot name the
//! functions that open a seal.

mod admin;
mod channel;
pub mod clock;
mod connection;
mod engine;
mod handshakes;
mod keeper;
mod listener;
pub mod log;
mod log_listener;
mod notices;
mod recovery;
mod reload;
pub mod status;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, watch},
};

use admin::Admin;
use handshakes::Handshakes;
use log_listener::LogDoor;
use reload::Reloader;

use crate::{
    alarms::Alarms,
    config::{self, ConfigError, RelayConfig},
    exchange::{Input, ReplayError},
    journal::JournalError,
    keys::{KeyError, SigningKey},
    limits::Limits,
    probes,
    roster::{self, Roster, RosterError, TrustBundle},
    service::{self, Commands},
    session::hello::SOFTWARE,
    socket::{self, SocketError},
    tiles::LogError,
    tls::{Dates, TlsError},
};

/// Where the journal lies in the relay's folder.
pub(crate) const JOURNAL_FOLDER: &str = "journal";
/// How long a stop may wait for records and last frames; the daemon is ended a second later.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(4);

/// Why the relay did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's content.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The trust bundle.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificate or TLS key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The sign key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate is not a relay's.
    #[error(
        "the certificate in {folder} is for {id}, not for a relay of {trust_domain}: give the relay its own PKI folder"
    )]
    NotARelay {
        /// The PKI folder.
        folder: PathBuf,
        /// Whose certificate it is.
        id: String,
        /// The trust bundle's.
        trust_domain: String,
    },
    /// The roster file.
    #[error(
        "cannot read roster {path}: {source}; give the path of a signed roster, or of none once the journal holds one"
    )]
    RosterFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The first roster.
    #[error("{path}: {source}: get the roster that the trust bundle names from the ministry")]
    Roster {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<RosterError>,
    },
    /// The audit log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A relay that is no example may not be without an audit log.
    #[error(
        "a relay of {0} keeps an audit log: leave out --without-log, which is for a bench with example keys"
    )]
    WithoutLog(String),
    /// A party has a checkpoint that this relay's key has signed, and that is none of its history.
    #[error(
        "a party holds a checkpoint that this relay's log key has signed and that its journal does not lead to (kept in {evidence}): the journal was restored from an older copy, or the key was used elsewhere. Delete nothing: save the relay's folder, tell the ministry, and put the newest journal back; where there is none, start a new log under a new origin in a new roster. Until then the relay does not start",
        evidence = evidence.display()
    )]
    Forked {
        /// The folder that keeps it.
        evidence: PathBuf,
    },
    /// The address.
    #[error("cannot listen on {address}: {source}; is another relay running, or is the port taken?")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The admin socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The folder.
    #[error("cannot make folder {path}: {source}; make it and give it to the relay's user")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system's random numbers.
    #[error("the system gives no random numbers; the relay cannot work without")]
    Random,
}

impl RelayError {
    /// The process's exit code (DESIGN 8).
    pub fn exit_code(&self) -> u8 {
        match self {
            RelayError::Journal(error) => error.exit_code(),
            RelayError::Replay(ReplayError::BaseVersion(..)) => 78,
            RelayError::Replay(_) => 71,
            RelayError::Random => 70,
            RelayError::Log(error) => error.exit_code(),
            RelayError::Forked { .. } => 72,
            RelayError::Config(_)
            | RelayError::Tls(_)
            | RelayError::Key(_)
            | RelayError::NotARelay { .. }
            | RelayError::WithoutLog(_)
            | RelayError::RosterFile { .. }
            | RelayError::Roster { .. }
            | RelayError::Listen { .. }
            | RelayError::Socket(_)
            | RelayError::Folder { .. } => 78,
        }
    }
}

/// What all connections share. The roster is the one in force, swapped by the engine; the TLS is that of the
/// next handshake, swapped by a reload.
struct Shared {
    tls: Arc<ArcSwap<ServerConfig>>,
    trust_domain: String,
    sign: SigningKey,
    instance: [u8; 16],
    roster: Arc<ArcSwapOption<Roster>>,
    handshakes: Handshakes,
    alarms: Alarms,
    limits: Limits,
}

/// Runs a relay until it is told to stop, or fails. A reload swaps its TLS and offers the roster file again;
/// nobody is dropped by it.
///
/// # Errors
/// [`RelayError`], with the exit code of the process. Nothing that was accepted is lost by any of them.
pub async fn run(config: RelayConfig, commands: impl Into<Commands<RelayConfig>>) -> Result<(), RelayError> {
    run_with(config, commands.into(), AuditLog::Kept).await
}

/// The same without an audit log, so that a bench sees what it costs: with example keys alone. Its journal is of no use
/// afterwards.
///
/// # Errors
/// As [`run`].
pub async fn run_without_log(
    config: RelayConfig,
    commands: impl Into<Commands<RelayConfig>>,
) -> Result<(), RelayError> {
    run_with(config, commands.into(), AuditLog::LeftOut).await
}

/// Whether there is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AuditLog {
    Kept,
    LeftOut,
}

async fn run_with(
    config: RelayConfig,
    commands: Commands<RelayConfig>,
    audit_log: AuditLog,
) -> Result<(), RelayError> {
    let Commands { stop, reloads } = commands;
    let bundle = config::trust_bundle(&config.trust)?;
    if audit_log == AuditLog::LeftOut && !config::is_example(&bundle.trust_domain) {
        return Err(RelayError::WithoutLog(bundle.trust_domain));
    }
    let loaded = reload::load(&config, &bundle, Dates::Warned)?;
    let offered = reload::read_roster(&config)?;
    let sign = SigningKey::load(&config.pki.join("sign.key"))?;
    // Off this thread, so that a signal is heard while gigabytes are read back.
    let (folder, bytes_max, trust) = (config.dir.clone(), config.journal_bytes_max, bundle.clone());
    let keep = config.openings_keep();
    let log_key = config.pki.join("log.key");
    let reading =
        tokio::task::spawn_blocking(move || recovery::open(&folder, bytes_max, keep, &log_key, trust));
    let mut opened = reading.await.map_err(|_| JournalError::Stopped)??;
    if audit_log == AuditLog::LeftOut {
        opened.exchange.leave_out_log();
    }
    if opened.exchange.roster().is_none() {
        let first = check_first_roster(&config, &bundle, offered.as_deref())?;
        if !first.content().log.keys.contains(&opened.log.vkey) {
            let (origin, path) = (bundle.log_origin.clone(), config.pki.join("log.key"));
            return Err(LogError::ForeignKey { origin, path }.into());
        }
    }
    listener::raise_descriptor_limit(Limits::DEFAULT.connections_max);
    let listener = listen(config.listen).await?;
    let admin_socket = socket::bind(&config.dir.join(status::ADMIN_SOCKET))?;
    let admin_listener = probes::listen(config.admin).await;
    let admin_listener =
        admin_listener.map_err(|(address, source)| RelayError::Listen { address, source })?;
    let log_listener = probes::listen(config.log_listen).await;
    let log_listener = log_listener.map_err(|(address, source)| RelayError::Listen { address, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, trust_domain = %bundle.trust_domain, "relay listens");
    }
    let (to_engine, inputs) = mpsc::channel(engine::INPUTS_MAX);
    let (alarms, trust_domain) = (Alarms::default(), bundle.trust_domain.clone());
    let (dir, first) = (config.dir.clone(), first_inputs(&config, offered));
    let (journal, id, log_key) =
        (config.dir.join(JOURNAL_FOLDER), loaded.id.clone(), opened.log.vkey.clone());
    let reloader = Reloader::new(config, bundle, loaded, alarms.clone(), to_engine.clone());
    let shared = Arc::new(shared(reloader.tls(), trust_domain, sign, alarms.clone())?);
    let (roster, (has_roster, roster_comes)) = (shared.roster.clone(), watch::channel(false));
    let accepting = tokio::spawn(listener::accept(listener, shared.clone(), roster_comes, to_engine.clone()));
    let door = LogDoor::new(shared.clone(), opened.log.continued.files.served.clone(), to_engine.clone());
    let showing_log = tokio::spawn(log_listener::serve(log_listener, Arc::new(door)));
    let reloading = tokio::spawn(reloader.run(reloads));
    let engine =
        engine::Engine::start(opened, dir, roster, has_roster, alarms.clone(), to_engine.clone(), inputs)?;
    let (vitals, started, last) = (engine.vitals(), Timestamp::now(), Mutex::new(None));
    let admin = Admin { id, log_key, shared, alarms, vitals, journal, to_engine, started, last };
    let admin = Arc::new(admin);
    let administering = tokio::spawn(probes::serve(admin.clone().doors(admin_socket, admin_listener)));
    let feeding = tokio::spawn(probes::feed_watchdog(admin));
    service::ready();
    // A task among those of the connections, so that what these hand it needs no other thread to wake up.
    let ended = tokio::spawn(engine.run(first, stop, DRAIN_TIME_MAX)).await;
    let ended = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    accepting.abort();
    showing_log.abort();
    reloading.abort();
    administering.abort();
    feeding.abort();
    ended
}

/// What the exchange is told before anybody connects.
fn first_inputs(config: &RelayConfig, offered: Option<Bytes>) -> Vec<Input> {
    let started = Input::Started { software: SOFTWARE.to_owned() };
    let configured = Input::Configured { hash: config::hash(config) };
    [started, configured].into_iter().chain(offered.map(|note| Input::RosterOffered { note })).collect()
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RelayError> {
    TcpListener::bind(address).await.map_err(|source| RelayError::Listen { address, source })
}

fn shared(
    tls: Arc<ArcSwap<ServerConfig>>,
    trust_domain: String,
    sign: SigningKey,
    alarms: Alarms,
) -> Result<Shared, RelayError> {
    let mut instance = [0; 16];
    SystemRandom::new().fill(&mut instance).map_err(|_| RelayError::Random)?;
    let (roster, limits) = (Arc::new(ArcSwapOption::empty()), Limits::DEFAULT);
    let handshakes = Handshakes::default();
    Ok(Shared { tls, trust_domain, sign, instance, roster, handshakes, alarms, limits })
}

/// A relay without any roster admits nobody: it starts only with a first one that is good.
fn check_first_roster(
    config: &RelayConfig,
    bundle: &TrustBundle,
    note: Option<&[u8]>,
) -> Result<Roster, RelayError> {
    let path = || config.roster.clone();
    let Some(note) = note else {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(RelayError::RosterFile { path: path(), source });
    };
    roster::verify_first(note, bundle)
        .map_err(|source| RelayError::Roster { path: path(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{exchange, journal::Options};

    #[test]
    fn a_base_at_its_bounds_fits_a_segment() {
        let most = exchange::base_bytes_max(&Limits::DEFAULT);
        assert!(most <= Options::DEFAULT.base_bytes_max(), "{most}");
    }
}
