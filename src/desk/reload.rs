//! What of a desk can be changed while it runs: the TLS of its next connection.
//!
//! As at the relay, a reload is all or nothing, and an open connection keeps the TLS that it was made with.

use std::{convert::Infallible, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    alarms::{AlarmKind, Alarms},
    config::{self, DeskConfig},
    desk::run::{Daemon, DeskRunError},
    identity::SpiffeId,
    limits::CERTIFICATE_LOOKED_AT_EVERY,
    roster::TrustBundle,
    service::{self, Reload},
    tls::{self, Credentials, Dates, KeyExchange, Purpose, Validity},
};

/// The TLS of one configuration, and whose it is.
pub(super) struct Loaded {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) id: SpiffeId,
    validity: Validity,
    serial: String,
}

/// Reads a desk's certificates and checks them as the relay will.
///
/// # Errors
/// [`DeskRunError::Tls`], [`DeskRunError::OtherDaemon`], [`DeskRunError::OtherDomain`].
pub(super) fn load(
    config: &DeskConfig,
    daemon: Daemon,
    trust: &TrustBundle,
    dates: Dates,
) -> Result<Loaded, DeskRunError> {
    let credentials = Credentials::load(&config.pki)?;
    let id = credentials.party_id()?.spiffe().clone();
    if id.kind() != daemon.kind() {
        return Err(DeskRunError::OtherDaemon { id });
    }
    if id.trust_domain() != trust.trust_domain {
        return Err(DeskRunError::OtherDomain { id, trust_domain: trust.trust_domain.clone() });
    }
    let root = tls::load_root(&config.root, &trust.root_key_sha256)?;
    credentials.check(Purpose::Desk, &root, &trust.trust_domain, dates)?;
    let key_exchange = if config.allow_x25519 { KeyExchange::HybridOrClassical } else { KeyExchange::Hybrid };
    let tls = tls::client_config(&credentials, &root, &trust.trust_domain, key_exchange)?;
    Ok(Loaded { tls, id, validity: credentials.validity()?, serial: credentials.serial()? })
}

/// Carries reloads out, and looks at the certificate's dates.
pub(super) struct Reloader {
    config: DeskConfig,
    daemon: Daemon,
    trust: TrustBundle,
    id: SpiffeId,
    validity: Validity,
    tls: Arc<ArcSwap<ClientConfig>>,
    alarms: Alarms,
}

impl Reloader {
    /// For a desk that started with `loaded`.
    pub(super) fn new(
        config: DeskConfig,
        daemon: Daemon,
        trust: TrustBundle,
        loaded: Loaded,
        alarms: Alarms,
    ) -> Reloader {
        let Loaded { tls, id, validity, .. } = loaded;
        let tls = Arc::new(ArcSwap::new(tls));
        let reloader = Reloader { config, daemon, trust, id, validity, tls, alarms };
        reloader.look();
        reloader
    }

    /// The TLS for the next connection.
    pub(super) fn tls(&self) -> Arc<ArcSwap<ClientConfig>> {
        self.tls.clone()
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self, mut reloads: mpsc::Receiver<Reload<DeskConfig>>) -> Infallible {
        loop {
            let next_look = Instant::now() + CERTIFICATE_LOOKED_AT_EVERY;
            tokio::select! {
                reload = service::next_reload(&mut reloads) => self.reload(reload),
                () = sleep_until(next_look) => self.look(),
            }
        }
    }

    fn reload(&mut self, reload: Reload<DeskConfig>) {
        match reload.map_err(DeskRunError::Config).and_then(|config| self.check(config)) {
            Ok((config, loaded)) => {
                self.warn_of_what_needs_a_restart(&config);
                tracing::info!(serial = loaded.serial, "reloaded; the next connection uses this certificate");
                (self.config, self.validity) = (config, loaded.validity);
                self.tls.store(loaded.tls);
                self.alarms.clear(AlarmKind::Reload);
            }
            Err(error) => {
                let sentence = format!("nothing was reloaded, what was in force goes on: {error}");
                self.alarms.raise(AlarmKind::Reload, sentence);
            }
        }
        self.look();
        service::ready();
    }

    fn check(&self, config: DeskConfig) -> Result<(DeskConfig, Loaded), DeskRunError> {
        let loaded = load(&config, self.daemon, &self.trust, Dates::MustHold)?;
        if loaded.id != self.id {
            return Err(DeskRunError::OtherDesk { found: loaded.id, own: self.id.clone() });
        }
        Ok((config, loaded))
    }

    fn warn_of_what_needs_a_restart(&self, new: &DeskConfig) {
        let old = &self.config;
        let changed = [
            ("dir", old.dir != new.dir),
            ("relays", old.relays != new.relays),
            ("admin", old.admin != new.admin),
            ("witness_listen", old.witness_listen != new.witness_listen),
            ("socket", old.socket != new.socket),
            ("clocks", old.clocks != new.clocks),
            ("log", old.log != new.log),
            ("trust", config::trust_bundle(&new.trust).is_ok_and(|trust| trust != self.trust)),
        ];
        for (key, _) in changed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "this key was changed and stays as it was until the desk is restarted");
        }
    }

    fn look(&self) {
        self.alarms.set(AlarmKind::Certificate, self.validity.warning(SystemTime::now()));
        let allowed = self.config.allow_x25519.then(|| {
            "plain X25519 is allowed, so what is recorded today may be read when quantum computers come: \
             set `allow_x25519 = false` once the relay does without"
                .to_owned()
        });
        self.alarms.set(AlarmKind::X25519Allowed, allowed);
    }
}
