//! The demo's processes together: a relay and five desks over a throw-away PKI, on one port of 127.0.0.1.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use crate::config::{DeskConfig, LogConfig, LogFormat, RelayConfig};
use crate::demo::place::socket;
use crate::demo::process::{Death, Process};
use crate::demo::{DESKS, DemoError, HUB};
use crate::desk::client::{ClientError, DeskClient};
use crate::desk::view::Status;
use crate::identity::Kind;
use crate::pki::{Example, example_parties, make_example};

/// The relay's name among the processes; the desks' are their codes.
pub const RELAY: &str = "relay";

/// The trust bundle, in the demo's folder.
pub const TRUST_FILE: &str = "trust";
/// The log's public key as C2SP tools take it, in the relay's folder.
const VKEY_FILE: &str = "log.vkey";

/// How long a desk may take from its start to contact with the relay.
const CONTACT_TIME_MAX: Duration = Duration::from_secs(20);
/// How often what cannot be waited for is asked again.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A set stage: PKI and configurations are made, processes come and go.
#[derive(Debug)]
pub struct Stage {
    folder: PathBuf,
    example: Example,
    address: SocketAddr,
    processes: BTreeMap<&'static str, Process>,
    deaths: mpsc::Sender<Death>,
    silent: Option<(&'static str, Timestamp)>,
    /// Keeps the port from being given to anybody but the relay, also while that is down.
    _port: Socket,
}

impl Stage {
    /// Makes PKI and configurations below `folder`. The receiver is told of daemons that end by themselves.
    ///
    /// # Errors
    /// [`DemoError::Port`], [`DemoError::Pki`], [`DemoError::File`].
    pub fn set(folder: &Path) -> Result<(Stage, mpsc::Receiver<Death>), DemoError> {
        let (port, address) = free_port().map_err(DemoError::Port)?;
        let parties = example_parties();
        let example = make_example(&folder.join("pki"), &parties, &[address.to_string()], SystemTime::now())?;
        let (deaths, receiver) = mpsc::channel(parties.len());
        let (folder, processes) = (folder.to_owned(), BTreeMap::new());
        let stage = Stage { folder, example, address, processes, deaths, silent: None, _port: port };
        stage.configure_relay()?;
        stage.write_anchors()?;
        for (code, _) in DESKS {
            stage.configure_desk(code)?;
        }
        Ok((stage, receiver))
    }

    /// Starts everything, and returns when all desks are in contact.
    ///
    /// # Errors
    /// [`DemoError::Late`] and those of [`Stage::start_one`].
    pub async fn start(&mut self) -> Result<(), DemoError> {
        self.start_one(RELAY)?;
        for (code, _) in DESKS {
            self.start_one(code)?;
        }
        for (code, _) in DESKS {
            self.in_contact(code).await?;
        }
        Ok(())
    }

    /// Starts the relay or one desk.
    ///
    /// # Errors
    /// [`DemoError::Spawn`], [`DemoError::File`].
    pub fn start_one(&mut self, name: &'static str) -> Result<(), DemoError> {
        let daemon = match name {
            RELAY => "relay",
            HUB => "hub",
            _ => "mission",
        };
        let mut arguments: Vec<OsString> = vec![daemon.into(), "--config".into()];
        arguments.push(self.party_folder(name).join("pouch.toml").into());
        arguments.push("--example".into());
        let log = self.log(name);
        self.processes.insert(name, Process::start(name, &arguments, &log, self.deaths.clone())?);
        if self.silent.is_some_and(|(code, _)| code == name) {
            self.silent = None;
        }
        Ok(())
    }

    /// Kills the relay or one desk with -9.
    pub async fn kill_one(&mut self, name: &str) {
        if let Some(process) = self.processes.remove(name) {
            process.kill().await;
        }
    }

    /// Stops a desk on purpose, and remembers since when it is silent.
    pub async fn silence(&mut self, code: &str) {
        let known = DESKS.iter().find(|(known, _)| *known == code);
        if let Some(process) = self.processes.remove(code) {
            process.stop().await;
            self.silent = known.map(|(code, _)| (*code, Timestamp::now()));
        }
    }

    /// Stops everything, the relay last. All processes have ended when this returns.
    pub async fn stop_all(&mut self) {
        let relay = self.processes.remove(RELAY);
        let mut stopping = tokio::task::JoinSet::new();
        for (_, process) in std::mem::take(&mut self.processes) {
            stopping.spawn(process.stop());
        }
        stopping.join_all().await;
        if let Some(relay) = relay {
            relay.stop().await;
        }
    }

    /// Where the relay listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The throw-away PKI.
    pub fn example(&self) -> &Example {
        &self.example
    }

    /// The desk that is silent on purpose, and since when.
    pub fn silent(&self) -> Option<(&'static str, Timestamp)> {
        self.silent
    }

    /// Whether this desk's daemon was started and not stopped.
    pub fn is_up(&self, code: &str) -> bool {
        self.processes.contains_key(code)
    }

    /// A client of a desk's API.
    pub fn desk(&self, code: &str) -> DeskClient {
        DeskClient::new(socket(&self.folder, code))
    }

    /// The trust bundle that all its daemons go by.
    pub fn trust_file(&self) -> PathBuf {
        self.folder.join(TRUST_FILE)
    }

    /// The relay's folder, with its journal.
    pub fn relay_folder(&self) -> PathBuf {
        self.party_folder(RELAY)
    }

    /// Waits until a desk is in contact with the relay.
    ///
    /// # Errors
    /// [`DemoError::Late`], [`DemoError::Desk`].
    pub async fn in_contact(&self, code: &str) -> Result<Status, DemoError> {
        let what = format!("{code} in contact with the relay");
        until(&what, CONTACT_TIME_MAX, async || match self.desk(code).status().await {
            Ok(status) => Ok(Some(status).filter(|status| status.link == "in contact")),
            // The daemon is not yet that far.
            Err(ClientError::Unreachable { .. } | ClientError::Broken(_)) => Ok(None),
            Err(error) => Err(DemoError::desk(code)(error)),
        })
        .await
    }

    fn configure_relay(&self) -> Result<(), DemoError> {
        let pki = self.pki_folder(|kind, _| kind == Kind::Relay);
        let config = RelayConfig {
            listen: self.address,
            dir: self.party_folder(RELAY),
            roster: pki.join("roster.note"),
            trust: pki.join("trust.toml"),
            root: pki.join("root.pem"),
            pki,
            log: log(),
            ..RelayConfig::default()
        };
        self.write_config(RELAY, &config)
    }

    /// What a log is checked with: the bundle for `pouch audit`, the log's key for tools of others.
    fn write_anchors(&self) -> Result<(), DemoError> {
        let keys = self.example.roster.content().log.keys.iter();
        let vkeys: String = keys.map(|key| format!("{key}\n")).collect();
        let trust = self.example.trust.to_string();
        for (file, text) in [(self.party_folder(RELAY).join(VKEY_FILE), vkeys), (self.trust_file(), trust)] {
            fs::write(&file, text).map_err(DemoError::file(&file))?;
        }
        Ok(())
    }

    fn configure_desk(&self, code: &'static str) -> Result<(), DemoError> {
        let pki = self.pki_folder(|_, party| party == code);
        let config = DeskConfig {
            dir: self.party_folder(code),
            relays: vec![self.address.to_string()],
            roster: Some(pki.join("roster.note")),
            trust: pki.join("trust.toml"),
            root: pki.join("root.pem"),
            pki,
            socket: socket(&self.folder, code),
            log: log(),
            ..DeskConfig::default()
        };
        self.write_config(code, &config)
    }

    fn write_config(&self, name: &str, config: &impl Serialize) -> Result<(), DemoError> {
        let folder = self.party_folder(name);
        fs::create_dir(&folder).map_err(DemoError::file(&folder))?;
        let file = folder.join("pouch.toml");
        let text = toml::to_string(config).expect("paths were checked to be UTF-8");
        fs::write(&file, text).map_err(DemoError::file(&file))
    }

    fn party_folder(&self, name: &str) -> PathBuf {
        self.folder.join(name.to_lowercase())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.party_folder(name).join("pouch.log")
    }

    fn pki_folder(&self, is_it: impl Fn(Kind, &str) -> bool) -> PathBuf {
        let mut parties = self.example.roster.parties();
        let party = parties.find(|party| is_it(party.kind, &party.code));
        self.example.party_folder(&party.expect("the example has a relay and every desk").id)
    }
}

/// Asks every 20 ms until there is an answer. What can be waited for at the API itself should be.
///
/// # Errors
/// [`DemoError::Late`], and whatever `ask` brings.
pub async fn until<T>(
    what: &str,
    time_max: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, DemoError>,
) -> Result<T, DemoError> {
    let asking = async {
        let mut pause = interval(ASK_EVERY);
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            pause.tick().await;
        }
    };
    timeout(time_max, asking).await.map_err(|_| DemoError::late(what, time_max))?
}

fn log() -> LogConfig {
    LogConfig { format: LogFormat::Text, ..LogConfig::default() }
}

/// A port of 127.0.0.1 and the socket that reserves it. Bound with SO_REUSEADDR and never listening, the
/// socket leaves the port to a listener that sets the same, while the kernel gives it to nobody else: not
/// to a desk that connects while the relay is down, which could then reach itself.
fn free_port() -> std::io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    Ok((socket, address.expect("bound to an IPv4 address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reserved_port_is_the_relays_to_listen_on_again_and_again() {
        let (_port, address) = free_port().unwrap();
        for _ in 0..2 {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            assert_eq!(listener.local_addr().unwrap(), address);
            let _client = tokio::net::TcpStream::connect(address).await.unwrap();
            let _accepted = listener.accept().await.unwrap();
        }
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn what_never_comes_is_late() {
        let never = until("the end", Duration::from_millis(1), async || Ok(None::<()>)).await;
        assert!(never.unwrap_err().to_string().contains("the end"));
    }
}
