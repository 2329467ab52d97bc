//! A desk as a process: from its configuration to store, link and API, until it is told to stop.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{
    alarms::Alarms,
    config::{self, ConfigError, DeskConfig},
    desk::{
        api,
        handle::DeskHandle,
        link::{
            machine::Setup,
            shell::{self, Edges},
        },
        probed::ProbedDesk,
        reload::{self, Reloader},
        status::LinkStatus,
        store::{Store, StoreError, StoreThread},
        witness::WitnessDoor,
    },
    identity::{Kind, SpiffeId},
    keys::{KeyError, SigningKey},
    limits::{CLOCKS_LOOKED_AT_EVERY, Limits},
    probes::{self, Doors},
    roster::{self, Roster, RosterError, TrustBundle},
    service::{self, Commands},
    socket::{self, SocketError},
    tls::{self, Dates, TlsError},
};

/// Requests of the hub that wait for the one under way; more callers wait for room.
const REQUESTS_MAX: usize = 4;

/// Which daemon a desk runs as; its certificate must say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// At an embassy.
    Mission,
    /// At the ministry.
    Hub,
}

impl Daemon {
    pub(super) fn kind(self) -> Kind {
        match self {
            Daemon::Mission => Kind::Mission,
            Daemon::Hub => Kind::Hub,
        }
    }
}

/// Why a desk did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DeskRunError {
    /// The configuration names what cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The `sign` key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate is for another daemon.
    #[error("the certificate is of {id}: start `pouch {}`, or set `pki` to this desk's folder", id.kind())]
    OtherDaemon {
        /// Whose it is.
        id: SpiffeId,
    },
    /// A reload found the certificate of another desk.
    #[error("the certificate is of {found}, and this desk is {own}: put this desk's own there")]
    OtherDesk {
        /// Whose it is.
        found: SpiffeId,
        /// Who this desk is.
        own: SpiffeId,
    },
    /// Certificate and trust bundle come from different ministries.
    #[error("the certificate is of {id}, trust.toml of {trust_domain}: use both of one ministry")]
    OtherDomain {
        /// Whose the certificate is.
        id: SpiffeId,
        /// The bundle's.
        trust_domain: String,
    },
    /// The roster file cannot be read.
    #[error("{path}: {source}: put the ministry's roster there, or leave `roster` out and the relay sends one", path = path.display())]
    RosterFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The roster file is not the roster that the trust bundle names.
    #[error("{path}: {source}: get it from the ministry once more, or leave `roster` out and the relay sends one", path = path.display())]
    Roster {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: RosterError,
    },
    /// The API's socket cannot be listened on.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The address for probes, or for the witness, cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; set `admin` or `witness_listen` to an address of this machine that is free"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The store cannot be opened, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused something that every daemon needs.
    #[error("{what}: {source}: free memory or raise this daemon's limits, then start it again")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl DeskRunError {
    /// The daemon's exit code (DESIGN 8 and 11).
    pub fn exit_code(&self) -> u8 {
        match self {
            DeskRunError::Store(error) => error.exit_code(),
            DeskRunError::Socket(SocketError::InUse(_)) => 73,
            DeskRunError::System { .. } => 70,
            DeskRunError::Config(_)
            | DeskRunError::Key(_)
            | DeskRunError::Tls(_)
            | DeskRunError::OtherDaemon { .. }
            | DeskRunError::OtherDesk { .. }
            | DeskRunError::OtherDomain { .. }
            | DeskRunError::RosterFile { .. }
            | DeskRunError::Roster { .. }
            | DeskRunError::Listen { .. }
            | DeskRunError::Socket(SocketError::Occupied(_) | SocketError::Io { .. }) => 78,
        }
    }
}

/// Runs a desk until `stop` turns true: then the relay is told, calls of the API are finished, and the
/// store is closed, all within a few seconds. A desk starts and takes dispatches without a relay. A reload swaps
/// the TLS of the next connection; the one that is open stays.
///
/// Dropping the future ends the desk as `kill -9` would: nothing that was answered is lost.
///
/// # Errors
/// [`DeskRunError`]: what the operator has to mend, or that the store failed.
pub async fn run(
    config: &DeskConfig,
    daemon: Daemon,
    commands: impl Into<Commands<DeskConfig>>,
) -> Result<(), DeskRunError> {
    let Commands { stop, reloads } = commands.into();
    let trust = config::trust_bundle(&config.trust)?;
    let loaded = reload::load(config, daemon, &trust, Dates::Warned)?;
    let id = loaded.id.clone();
    let relay_name = tls::server_name(&trust.trust_domain)?;
    let sign = Arc::new(SigningKey::load(&config.pki.join("sign.key"))?);
    let witness = Arc::new(SigningKey::load(&config.pki.join("witness.key"))?);
    let instance = instance()?;

    let store = open_store(config, &id, &trust)?;
    let roster = store.facts()?.roster;
    let (store, thread) = StoreThread::start(store).map_err(system("no thread for the store"))?;
    let listener = socket::bind(&config.socket)?;
    let status = watch::Sender::new(LinkStatus::starting(Timestamp::now()));
    let admin = probes::listen(config.admin).await;
    let admin = admin.map_err(|(address, source)| DeskRunError::Listen { address, source })?;
    let asked = probes::listen(config.witness_listen).await;
    let asked = asked.map_err(|(address, source)| DeskRunError::Listen { address, source })?;
    let door = WitnessDoor::new(id.clone(), witness.clone(), store.clone()).routes();
    let cosigning = Doors { local: None, open: asked.map(|listener| (listener, door)) };
    let (asks, requests) = mpsc::channel(REQUESTS_MAX);
    let alarms = Alarms::default();
    let reloader = Reloader::new(config.clone(), daemon, trust.clone(), loaded, alarms.clone());
    let handle = DeskHandle::new(store.clone(), status.subscribe());
    let handle = handle.with_requests(asks).with_alarms(alarms.clone()).with_trust(trust.clone());
    let probed = Arc::new(ProbedDesk {
        handle: handle.clone(),
        id: id.clone(),
        sign: sign.public(),
        alarms: alarms.clone(),
        started: Timestamp::now(),
    });
    let routes = probes::routes(probed.clone());
    let doors = Doors { local: None, open: admin.map(|listener| (listener, routes.clone())) };
    tracing::info!(%id, socket = %config.socket.display(), "desk started");

    let (limits, relays) = (Limits::DEFAULT, config.relays.clone());
    let setup = Setup { id, trust, sign, witness, instance, limits, relays, roster };
    let (proxy, tls) = (config.proxy.clone(), reloader.tls());
    let edges = Edges { proxy, tls, relay_name, store: store.clone(), status, requests, alarms };
    let link = async { shell::run(setup, edges, stop.clone()).await.map_err(DeskRunError::from) };
    let api = async {
        let served = api::serve(listener, config.socket.clone(), handle, routes, stop.clone()).await;
        served.map_err(system("the API's socket failed"))
    };
    service::ready();
    tokio::select! {
        ended = async { tokio::try_join!(link, api) } => { ended?; }
        never = reloader.run(reloads) => match never {},
        never = probes::serve(doors) => match never {},
        never = probes::serve(cosigning) => match never {},
        error = look_at_clocks(&store) => return Err(error.into()),
        never = probes::feed_watchdog(probed) => match never {},
        () = store.stopped() => return Err(StoreError::Stopped.into()),
    }
    drop(store);
    let closed = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
    tracing::info!(store_closed = closed.is_ok_and(|closed| closed), "desk stopped");
    Ok(())
}

/// Notices what becomes overdue, of dispatches and of proofs, until the store fails.
async fn look_at_clocks(store: &StoreThread) -> StoreError {
    let started = Instant::now();
    loop {
        let looked = store.call(move |store| {
            let now = Timestamp::now();
            store.look_at_proofs(started.elapsed(), now)?;
            store.look_at_clocks(now)
        });
        let next = match looked.await {
            Ok(next) => next,
            Err(error) => return error,
        };
        // The wall clock may be set meanwhile, and something may come that is due sooner.
        let until = next.and_then(|next| Duration::try_from(next.duration_since(Timestamp::now())).ok());
        sleep(until.unwrap_or(CLOCKS_LOOKED_AT_EVERY).min(CLOCKS_LOOKED_AT_EVERY)).await;
    }
}

/// Opens the store, and gives it the roster file while it holds no roster.
fn open_store(config: &DeskConfig, id: &SpiffeId, trust: &TrustBundle) -> Result<Store, DeskRunError> {
    let mut store = Store::open(&config.dir, id.clone(), trust)?;
    if let (Some(path), None) = (&config.roster, store.facts()?.roster) {
        let (roster, note) = first_roster(path, trust)?;
        store.learn_roster(None, Arc::new(roster), &note)?;
    }
    store.set_clocks(&config.clocks)?;
    Ok(store)
}

fn first_roster(path: &Path, trust: &TrustBundle) -> Result<(Roster, Vec<u8>), DeskRunError> {
    let unreadable = |source| DeskRunError::RosterFile { path: path.to_owned(), source };
    let wrong = |source| DeskRunError::Roster { path: path.to_owned(), source };
    let note = std::fs::read(path).map_err(unreadable)?;
    let roster = roster::verify_first(&note, trust).map_err(wrong)?;
    Ok((roster, note))
}

/// Random at each start, so that two machines with one identity are told apart (FORMATS 4).
fn instance() -> Result<[u8; 16], DeskRunError> {
    let mut instance = [0; 16];
    let filled = SystemRandom::new().fill(&mut instance);
    filled.map_err(|_| system("no random bytes")(io::ErrorKind::Other.into()))?;
    Ok(instance)
}

fn system(what: &'static str) -> impl Fn(io::Error) -> DeskRunError {
    move |source| DeskRunError::System { what, source }
}
