//! What of a relay can be changed while it runs: its TLS, and the roster that it is offered.
//!
//! A reload is all or nothing: everything is read and checked first, as the desks will check it, and on
//! any error what was in force goes on. Live sessions keep the TLS that they were made with.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::ServerConfig;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{RelayError, engine::Message};
use crate::{
    alarms::{AlarmKind, Alarms},
    config::{self, ConfigError, RelayConfig},
    identity::{Kind, SpiffeId},
    limits::CERTIFICATE_LOOKED_AT_EVERY,
    roster::TrustBundle,
    service::{self, Reload},
    tls::{self, Credentials, Dates, KeyExchange, Purpose, RevocationLists, Validity},
};

/// The TLS of one configuration, and whose it is.
pub(super) struct Loaded {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) id: SpiffeId,
    validity: Validity,
    serial: String,
    revoked: RevocationLists,
}

/// Reads a relay's certificates and checks them as a desk will.
pub(super) fn load(config: &RelayConfig, bundle: &TrustBundle, dates: Dates) -> Result<Loaded, RelayError> {
    let credentials = Credentials::load(&config.pki)?;
    let id = credentials.party_id()?.spiffe().clone();
    if id.kind() != Kind::Relay || id.trust_domain() != bundle.trust_domain {
        return Err(RelayError::NotARelay {
            folder: config.pki.clone(),
            id: id.to_string(),
            trust_domain: bundle.trust_domain.clone(),
        });
    }
    let root = tls::load_root(&config.root, &bundle.root_key_sha256)?;
    credentials.check(Purpose::Relay, &root, &bundle.trust_domain, dates)?;
    let key_exchange = if config.allow_x25519 { KeyExchange::HybridOrClassical } else { KeyExchange::Hybrid };
    let revoked = RevocationLists::load(&config.crl, &credentials, &root)?;
    let tls = tls::server_config(&credentials, &root, &bundle.trust_domain, key_exchange, &revoked)?;
    Ok(Loaded { tls, id, validity: credentials.validity()?, serial: credentials.serial()?, revoked })
}

/// The roster file's note, where there is a file.
pub(super) fn read_roster(config: &RelayConfig) -> Result<Option<Bytes>, RelayError> {
    match std::fs::read(&config.roster) {
        Ok(note) => Ok(Some(note.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RelayError::RosterFile { path: config.roster.clone(), source }),
    }
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error("the certificate in {} is for {found}, and this relay is {own}: put this relay's own there", folder.display())]
    OtherRelay { folder: PathBuf, found: Box<SpiffeId>, own: Box<SpiffeId> },
}

/// Carries reloads out, and looks at the dates of the certificate and of the lists of revoked ones.
pub(super) struct Reloader {
    config: RelayConfig,
    bundle: TrustBundle,
    id: SpiffeId,
    validity: Validity,
    revoked: RevocationLists,
    tls: Arc<ArcSwap<ServerConfig>>,
    alarms: Alarms,
    to_engine: mpsc::Sender<Message>,
}

impl Reloader {
    /// For a relay that started with `loaded`.
    pub(super) fn new(
        config: RelayConfig,
        bundle: TrustBundle,
        loaded: Loaded,
        alarms: Alarms,
        to_engine: mpsc::Sender<Message>,
    ) -> Reloader {
        let Loaded { tls, id, validity, revoked, .. } = loaded;
        let tls = Arc::new(ArcSwap::new(tls));
        let reloader = Reloader { config, bundle, id, validity, revoked, tls, alarms, to_engine };
        reloader.look();
        reloader
    }

    /// The TLS for the next handshake.
    pub(super) fn tls(&self) -> Arc<ArcSwap<ServerConfig>> {
        self.tls.clone()
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self, mut reloads: mpsc::Receiver<Reload<RelayConfig>>) {
        loop {
            let next_look = Instant::now() + CERTIFICATE_LOOKED_AT_EVERY;
            tokio::select! {
                reload = service::next_reload(&mut reloads) => self.reload(reload).await,
                () = sleep_until(next_look) => self.look(),
            }
        }
    }

    async fn reload(&mut self, reload: Reload<RelayConfig>) {
        match reload.map_err(ReloadError::Config).and_then(|config| self.check(config)) {
            Ok((config, loaded, roster)) => {
                let config = self.without_what_needs_a_restart(config);
                tracing::info!(serial = loaded.serial, "reloaded; new connections use this certificate");
                let (before, hash) = (config::hash(&self.config), config::hash(&config));
                (self.config, self.validity, self.revoked) = (config, loaded.validity, loaded.revoked);
                self.tls.store(loaded.tls);
                self.alarms.clear(AlarmKind::Reload);
                self.alarms.clear(AlarmKind::Roster);
                if hash != before {
                    self.tell(Message::Configured { hash }).await;
                }
                if let Some(note) = roster {
                    self.tell(Message::RosterOffered { note }).await;
                }
            }
            Err(error) => {
                let sentence = format!("nothing was reloaded, what was in force goes on: {error}");
                self.alarms.raise(AlarmKind::Reload, sentence);
            }
        }
        self.look();
        service::ready();
    }

    async fn tell(&self, message: Message) {
        if self.to_engine.send(message).await.is_err() {
            tracing::debug!("a reload came after the engine's end");
        }
    }

    /// Everything that a reload brings, or why none of it is taken.
    fn check(&self, config: RelayConfig) -> Result<(RelayConfig, Loaded, Option<Bytes>), ReloadError> {
        let loaded = load(&config, &self.bundle, Dates::MustHold)?;
        if loaded.id != self.id {
            return Err(ReloadError::OtherRelay {
                folder: config.pki,
                found: Box::new(loaded.id),
                own: Box::new(self.id.clone()),
            });
        }
        loaded.revoked.follow(&self.revoked).map_err(RelayError::Tls)?;
        let roster = read_roster(&config)?;
        Ok((config, loaded, roster))
    }

    /// What the relay runs with after a reload: a key that needs a restart stays as it was, and a line says so.
    fn without_what_needs_a_restart(&self, new: RelayConfig) -> RelayConfig {
        let old = &self.config;
        let changed = [
            ("listen", old.listen != new.listen),
            ("dir", old.dir != new.dir),
            ("log_listen", old.log_listen != new.log_listen),
            ("admin", old.admin != new.admin),
            ("log", old.log != new.log),
            ("journal_bytes_max", old.journal_bytes_max != new.journal_bytes_max),
            ("openings_keep_days", old.openings_keep_days != new.openings_keep_days),
            ("trust", config::trust_bundle(&new.trust).is_ok_and(|bundle| bundle != self.bundle)),
        ];
        for (key, _) in changed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "this key was changed and stays as it was until the relay is restarted");
        }
        RelayConfig {
            listen: old.listen,
            dir: old.dir.clone(),
            log_listen: old.log_listen,
            admin: old.admin,
            log: old.log.clone(),
            journal_bytes_max: old.journal_bytes_max,
            openings_keep_days: old.openings_keep_days,
            trust: old.trust.clone(),
            ..new
        }
    }

    fn look(&self) {
        let now = SystemTime::now();
        self.alarms.set(AlarmKind::Certificate, self.validity.warning(now));
        self.alarms.set(AlarmKind::Crl, self.revoked.warning(now));
        let allowed = self.config.allow_x25519.then(|| {
            "plain X25519 is allowed, so what is recorded today may be read when quantum computers come: \
             set `allow_x25519 = false` once no desk needs it"
                .to_owned()
        });
        if allowed.is_none() {
            self.alarms.clear(AlarmKind::X25519Used);
        }
        self.alarms.set(AlarmKind::X25519Allowed, allowed);
    }
}
