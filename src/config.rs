//! What an operator sets: the configuration of relay and desk.
//!
//! The doc comment on each key is the manual: `pouch config example` prints it, with the default.
//! Order of precedence, lowest first: defaults, the file, `conf.d/*.toml` beside it in the order of their
//! names, `POUCH_*` variables, `--set KEY=VALUE`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Table;
use toml::de::{DeTable, DeValue};
use tracing_subscriber::EnvFilter;

pub use clocks::ClocksConfig;
pub use error::{ConfigError, TrustError};
pub use manual::{example, hash, show};
pub use span::Span;

use crate::limits::OPENINGS_KEEP_DAYS_MIN;
use crate::roster::TrustBundle;

/// Declares a configuration, and keeps the doc comments of its keys as text for `pouch config example`.
macro_rules! settings {
    ($(#[$doc:meta])* pub struct $name:ident {
        $($(#[doc = $meaning:literal])+ $key:ident: $kind:ty = $default:expr;)+
    } $([$table:ident]: $inner:ident)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $meaning])+ pub $key: $kind,)+
            $(#[doc = "The table of this name."] pub $table: $inner,)*
        }

        impl $name {
            pub(crate) const KEYS: &[Key] = &[$(Key { name: stringify!($key), meaning: &[$($meaning),+] }),+];
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ $($table: $inner::default(),)* }
            }
        }
    };
}

// Below the macro, which they use.
mod clocks;
mod error;
mod manual;
mod span;

settings! {
    /// Configuration of `pouch relay`.
    pub struct RelayConfig {
        /// Address and port on which desks connect.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7443));
        /// Folder of the journal: on a local disk, used by this relay alone.
        dir: PathBuf = "/var/lib/pouch/relay".into();
        /// Folder with this relay's tls.key, tls.pem, sign.key and log.key; keys have mode 0600.
        pki: PathBuf = "/etc/pouch/pki".into();
        /// Roster, a signed note. Offered at each start and reload: the first, and later the version after the one in force.
        roster: PathBuf = "/etc/pouch/roster.note".into();
        /// Trust bundle of the ministry.
        trust: PathBuf = "/etc/pouch/trust.toml".into();
        /// Certificate of the root CA, in PEM; the trust bundle names its key.
        root: PathBuf = "/etc/pouch/root.pem".into();
        /// Lists of certificates that the own CA has revoked (CRL, in PEM), one for each CA; of at most 1 MiB each. Not
        /// needed where the roster revokes them: that also ends sessions that are open, which a list does not.
        crl: Vec<PathBuf> = Vec::new();
        /// Whether desks without post-quantum key exchange may connect by plain X25519. An alarm warns of it.
        allow_x25519: bool = false;
        /// Address and port for /metrics, /livez and /readyz, as "127.0.0.1:9464"; off without it. It has no password: keep it on this machine.
        admin: Option<SocketAddr> = None;
        /// Address and port on which parties and auditors read the audit log over HTTPS, by certificate, as "0.0.0.0:7444"; off without it.
        log_listen: Option<SocketAddr> = None;
        /// Bytes of journal kept at most; at least 256 MiB. Reached: desks wait until old mail is settled.
        journal_bytes_max: u64 = 8 * 1024 * 1024 * 1024;
        /// Days by log time after which salts, openings and headers of envelopes and receipts are erased at the relay; at
        /// least 90. The audit log's own files stay whole.
        openings_keep_days: u32 = 400;
    }
    [log]: LogConfig
}

settings! {
    /// Configuration of `pouch mission` and `pouch hub`.
    pub struct DeskConfig {
        /// Folder of outbox and inbox: on a local disk, used by this desk alone.
        dir: PathBuf = "/var/lib/pouch/desk".into();
        /// Folder with this desk's tls.key, tls.pem, sign.key and witness.key; keys have mode 0600.
        pki: PathBuf = "/etc/pouch/pki".into();
        /// Relay addresses as "host:port", tried in this order; at least one, at most 16. Those that the newest
        /// roster lists are tried after them.
        relays: Vec<String> = Vec::new();
        /// HTTP proxy as "host:port" that the desk asks to connect it (CONNECT); without it, it connects itself.
        proxy: Option<String> = None;
        /// Trust bundle of the ministry.
        trust: PathBuf = "/etc/pouch/trust.toml".into();
        /// Certificate of the root CA, in PEM; the trust bundle names its key.
        root: PathBuf = "/etc/pouch/root.pem".into();
        /// Roster to begin with, a signed note; without it the desk asks the relay for one.
        roster: Option<PathBuf> = None;
        /// Unix socket on which this box's programs reach the desk; made with mode 0660.
        socket: PathBuf = "/run/pouch/desk.sock".into();
        /// Address and port for /metrics, /livez and /readyz, as "127.0.0.1:9465"; off without it. It has no password: keep it on this machine.
        admin: Option<SocketAddr> = None;
        /// Address and port on which this desk answers as a witness over plain HTTP (C2SP tlog-witness), as "127.0.0.1:7445"; off without it. The relay needs it not: it asks on the session.
        witness_listen: Option<SocketAddr> = None;
        /// Whether the desk may use plain X25519 with a relay that lacks post-quantum key exchange. An alarm warns of it.
        allow_x25519: bool = false;
    }
    [clocks]: ClocksConfig
    [log]: LogConfig
}

settings! {
    /// What a daemon writes to standard error.
    pub struct LogConfig {
        /// "text", "json", or "auto": text on a terminal, JSON otherwise.
        format: LogFormat = LogFormat::Auto;
        /// Least level: "error", "warn", "info", "debug" or "trace"; by module as "info,pouch::relay=debug".
        level: String = "info".to_owned();
    }
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text where standard error is a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Where a daemon looks for its configuration.
pub const FILE_DEFAULT: &str = "/etc/pouch/pouch.toml";

/// Most relay addresses that one desk is given; more are refused.
const RELAYS_MAX: usize = 16;

/// One key, as the manual shows it.
pub struct Key {
    name: &'static str,
    /// Doc comment, line by line, each with its leading space.
    meaning: &'static [&'static str],
}

/// A configuration that [`load`] reads: relay's or desk's.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// Which daemon `pouch config example` should be asked for.
    const DAEMON: &'static str;
    /// Keys outside any table.
    const KEYS: &'static [Key];
    /// Tables with their keys.
    const TABLES: &'static [(&'static str, &'static [Key])];

    /// Paths, which in a file start from the file's folder where relative.
    fn paths(&mut self) -> Vec<&mut PathBuf>;

    /// Where the trust bundle lies.
    fn trust(&self) -> &Path;

    /// The `[log]` table.
    fn log(&self) -> &LogConfig;

    /// Checks what types alone do not.
    fn check(&self) -> Result<(), ConfigError>;
}

impl Settings for RelayConfig {
    const DAEMON: &'static str = "relay";
    const KEYS: &'static [Key] = RelayConfig::KEYS;
    const TABLES: &'static [(&'static str, &'static [Key])] = &[("log", LogConfig::KEYS)];

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = vec![&mut self.dir, &mut self.pki, &mut self.roster, &mut self.trust, &mut self.root];
        paths.extend(&mut self.crl);
        paths
    }

    fn trust(&self) -> &Path {
        &self.trust
    }

    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.openings_keep_days < OPENINGS_KEEP_DAYS_MIN {
            let problem = format!(
                "is {}: write {OPENINGS_KEEP_DAYS_MIN} or more, longer than an envelope lives",
                self.openings_keep_days
            );
            return Err(ConfigError::Value { key: "openings_keep_days", problem });
        }
        self.log.check()
    }
}

impl RelayConfig {
    /// How long openings are kept.
    pub fn openings_keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.openings_keep_days) * 24 * 3600)
    }
}

impl Settings for DeskConfig {
    const DAEMON: &'static str = "mission";
    const KEYS: &'static [Key] = DeskConfig::KEYS;
    const TABLES: &'static [(&'static str, &'static [Key])] =
        &[("clocks", ClocksConfig::KEYS), ("log", LogConfig::KEYS)];

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = vec![&mut self.dir, &mut self.pki, &mut self.trust, &mut self.root, &mut self.socket];
        paths.extend(&mut self.roster);
        paths
    }

    fn trust(&self) -> &Path {
        &self.trust
    }

    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.relays.is_empty() || self.relays.len() > RELAYS_MAX {
            let problem = format!("holds {} addresses: name 1 to {RELAYS_MAX} relays", self.relays.len());
            return Err(ConfigError::Value { key: "relays", problem });
        }
        let relays = self.relays.iter().map(|relay| ("relays", relay));
        for (key, address) in relays.chain(self.proxy.iter().map(|proxy| ("proxy", proxy))) {
            let whole = address.rsplit_once(':').is_some_and(|(host, port)| {
                let is_host = !host.is_empty() && host.chars().all(|char| char.is_ascii_graphic());
                is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !whole {
                let problem = format!("holds {address:?}: write it as \"host:port\"");
                return Err(ConfigError::Value { key, problem });
            }
        }
        self.clocks.check()?;
        self.log.check()
    }
}

impl LogConfig {
    fn check(&self) -> Result<(), ConfigError> {
        match EnvFilter::builder().parse(&self.level) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(ConfigError::Value { key: "log.level", problem: format!("is no level: {error}") })
            }
        }
    }
}

/// Reads the trust bundle of a configuration.
///
/// # Errors
/// [`ConfigError::Trust`] when it is absent or none.
pub fn trust_bundle(path: &Path) -> Result<TrustBundle, ConfigError> {
    let failed = |source| ConfigError::Trust { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(|error| failed(TrustError::Unreadable(error)))?;
    text.parse().map_err(|error| failed(TrustError::Malformed(error)))
}

/// Whether the keys of this trust domain are examples that anybody can read: names under `.example`
/// (RFC 2606).
pub fn is_example(trust_domain: &str) -> bool {
    trust_domain == "example" || trust_domain.ends_with(".example")
}

/// Settings, and where each key that is not at its default was set last.
#[derive(Clone, Debug)]
pub struct Loaded<S> {
    /// What the daemon runs with.
    pub settings: S,
    /// By key, as `log.level`: a file's name, `POUCH_LISTEN` or `--set listen`.
    pub origins: BTreeMap<String, String>,
}

/// Reads a configuration: defaults, then `file`, then its drop-ins, then variables, then `flags` as (key,
/// value).
///
/// `variable` looks up one environment variable. Lists are written `a,b` in variables and flags.
///
/// # Errors
/// [`ConfigError`] names the file and place, the variable or the flag.
pub fn load<S: Settings>(
    file: &Path,
    variable: impl Fn(&str) -> Option<String>,
    flags: &[(String, String)],
) -> Result<S, ConfigError> {
    load_with_origins(file, variable, flags).map(|loaded| loaded.settings)
}

/// As [`load`], and says where each value comes from.
///
/// # Errors
/// As [`load`].
pub fn load_with_origins<S: Settings>(
    file: &Path,
    variable: impl Fn(&str) -> Option<String>,
    flags: &[(String, String)],
) -> Result<Loaded<S>, ConfigError> {
    let unreadable = |file: &Path| {
        let file = file.to_owned();
        move |source| ConfigError::Unreadable { file, source, daemon: S::DAEMON }
    };
    let mut whole = Table::try_from(S::default()).expect("a configuration of scalars and lists is TOML");
    let mut origins = BTreeMap::new();
    for file in [file.to_owned()].into_iter().chain(drop_ins(file)?) {
        let text = std::fs::read_to_string(&file).map_err(unreadable(&file))?;
        let (settings, keys) = parse::<S>(&file, &text)?;
        let values = Table::try_from(&settings).expect("what came from TOML is TOML");
        for key in keys {
            lay_over(&mut whole, &values, &key);
            origins.insert(key, file.display().to_string());
        }
    }
    let mut settings: S = whole.try_into().expect("each value was checked in its own file");
    for key in every_key::<S>() {
        let name = format!("POUCH_{}", key.replace('.', "_").to_uppercase());
        if let Some(value) = variable(&name) {
            settings = with(&settings, &key, &value, &name)?;
            origins.insert(key, name);
        }
    }
    for (key, value) in flags {
        let origin = format!("--set {key}");
        if !every_key::<S>().contains(key) {
            return Err(ConfigError::Override { origin, problem: hint::<S>(key) });
        }
        settings = with(&settings, key, value, &origin)?;
        origins.insert(key.clone(), origin);
    }
    settings.check()?;
    Ok(Loaded { settings, origins })
}

/// The files of `conf.d` beside `file`, in the order of their names.
fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = file.with_file_name("conf.d");
    let failed = |source| ConfigError::DropIns { folder: folder.clone(), source };
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Copies the value of one key, as `log.level`, from one table to another.
fn lay_over(whole: &mut Table, values: &Table, key: &str) {
    let (table, name) = key.split_once('.').unwrap_or(("", key));
    let from =
        if table.is_empty() { Some(values) } else { values.get(table).and_then(toml::Value::as_table) };
    let to =
        if table.is_empty() { Some(whole) } else { whole.get_mut(table).and_then(toml::Value::as_table_mut) };
    if let (Some(value), Some(to)) = (from.and_then(|from| from.get(name)), to) {
        to.insert(name.to_owned(), value.clone());
    }
}

fn every_key<S: Settings>() -> Vec<String> {
    let own = S::KEYS.iter().map(|key| key.name.to_owned());
    let of_table = |(table, keys): &(&str, &'static [Key])| {
        let table = table.to_string();
        keys.iter().map(move |key| format!("{table}.{}", key.name))
    };
    own.chain(S::TABLES.iter().flat_map(of_table)).collect()
}

/// The settings of one file, and the keys that it sets.
fn parse<S: Settings>(file: &Path, text: &str) -> Result<(S, Vec<String>), ConfigError> {
    let malformed = |error: toml::de::Error| {
        let (line, column) = place(text, &error.span().unwrap_or_default());
        let message = error.message().replace('\n', ", ");
        ConfigError::Malformed { file: file.to_owned(), line, column, message, daemon: S::DAEMON }
    };
    let document = DeTable::parse(text).map_err(malformed)?;
    if let Some((key, span)) = unknown_key::<S>(document.get_ref()) {
        let (line, column) = place(text, &span);
        let hint = hint::<S>(&key);
        return Err(ConfigError::UnknownKey { file: file.to_owned(), line, column, key, hint });
    }
    let keys = keys(document.get_ref());
    let mut settings: S = toml::from_str(text).map_err(malformed)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    for path in settings.paths() {
        *path = folder.join(&path);
    }
    Ok((settings, keys))
}

/// The keys that a document sets, as `log.level`.
fn keys(document: &DeTable<'_>) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in document {
        match value.get_ref() {
            DeValue::Table(table) => {
                keys.extend(table.keys().map(|inner| format!("{}.{}", key.get_ref(), inner.get_ref())));
            }
            _ => keys.push(key.get_ref().to_string()),
        }
    }
    keys
}

fn unknown_key<S: Settings>(document: &DeTable<'_>) -> Option<(String, Range<usize>)> {
    let known = every_key::<S>();
    let is_table = |key: &str| S::TABLES.iter().any(|(table, _)| *table == key);
    let mut unknown = Vec::new();
    for (key, value) in document {
        match value.get_ref() {
            DeValue::Table(table) if is_table(key.get_ref()) => {
                let name = |inner: &str| format!("{}.{inner}", key.get_ref());
                let inner = table.keys().map(|inner| (name(inner.get_ref()), inner.span()));
                unknown.extend(inner.filter(|(name, _)| !known.contains(name)));
            }
            _ if is_table(key.get_ref()) || known.iter().any(|name| name == key.get_ref()) => (),
            _ => unknown.push((key.get_ref().to_string(), key.span())),
        }
    }
    unknown.into_iter().min_by_key(|(_, span)| span.start)
}

/// Line and column, both from 1, of the start of `span`.
fn place(text: &str, span: &Range<usize>) -> (usize, usize) {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or(before);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// Names the key that `key` was probably meant to be.
fn hint<S: Settings>(key: &str) -> String {
    let nearest = every_key::<S>()
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&known, key), known))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 3);
    match nearest {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => format!("`pouch config example {}` lists every key", S::DAEMON),
    }
}

/// The same settings with one key set from text, whose kind is that of the key.
fn with<S: Settings>(settings: &S, key: &str, text: &str, origin: &str) -> Result<S, ConfigError> {
    let wrong = |problem: String| ConfigError::Override { origin: origin.to_owned(), problem };
    let mut whole = Table::try_from(settings).map_err(|error| wrong(error.to_string()))?;
    let (table, name) = match key.split_once('.') {
        Some((table, name)) => (whole.get_mut(table).and_then(toml::Value::as_table_mut), name),
        None => (Some(&mut whole), key),
    };
    let table = table.expect("every key's table is part of the settings");
    let value = match table.get(name) {
        Some(toml::Value::Boolean(_)) => {
            let value =
                text.parse::<bool>().map_err(|_| wrong(format!("`{text}` is neither true nor false")))?;
            toml::Value::Boolean(value)
        }
        Some(toml::Value::Integer(_)) => {
            let value = text.parse::<i64>().map_err(|_| wrong(format!("`{text}` is no whole number")))?;
            toml::Value::Integer(value)
        }
        Some(toml::Value::Array(_)) => {
            text.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>().into()
        }
        Some(_) | None => toml::Value::String(text.to_owned()),
    };
    table.insert(name.to_owned(), value);
    whole.try_into().map_err(|error: toml::de::Error| wrong(error.message().replace('\n', ", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pouch.toml");
        std::fs::write(&file, text).unwrap();
        (folder, file)
    }

    fn refusal<S: Settings + std::fmt::Debug>(text: &str) -> String {
        let (folder, file) = written(text);
        let text = load::<S>(&file, nothing, &[]).unwrap_err().to_string();
        text.replace(folder.path().to_str().unwrap(), "")
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let (_folder, file) = written("");
        assert_eq!(load::<RelayConfig>(&file, nothing, &[]).unwrap(), RelayConfig::default());
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_the_file() {
        let (_folder, file) = written("listen = \"127.0.0.1:1\"\ndir = \"/a\"\nallow_x25519 = true\n");
        let variable = |name: &str| match name {
            "POUCH_DIR" => Some("/b".to_owned()),
            "POUCH_LISTEN" => Some("127.0.0.1:2".to_owned()),
            "POUCH_LOG_LEVEL" => Some("debug".to_owned()),
            _ => None,
        };
        let flags = [("listen".to_owned(), "127.0.0.1:3".to_owned())];
        let config: RelayConfig = load(&file, variable, &flags).unwrap();
        assert_eq!(config.listen, "127.0.0.1:3".parse().unwrap());
        assert_eq!((config.dir, config.log.level.as_str()), ("/b".into(), "debug"));
        assert!(config.allow_x25519);
    }

    #[test]
    fn drop_ins_lie_over_the_file_in_the_order_of_their_names_and_each_value_has_an_origin() {
        let (folder, file) = written("dir = \"a\"\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"warn\"\n");
        let drop_ins = folder.path().join("conf.d");
        std::fs::create_dir(&drop_ins).unwrap();
        std::fs::write(drop_ins.join("20.toml"), "listen = \"127.0.0.1:3\"\n").unwrap();
        std::fs::write(drop_ins.join("10.toml"), "listen = \"127.0.0.1:2\"\n[log]\nformat = \"json\"\n")
            .unwrap();
        std::fs::write(drop_ins.join("README"), "not TOML").unwrap();
        let variable = |name: &str| (name == "POUCH_TRUST").then(|| "/t".to_owned());
        let loaded: Loaded<RelayConfig> = load_with_origins(&file, variable, &[]).unwrap();
        let config = &loaded.settings;
        assert_eq!((config.listen.port(), &config.dir), (3, &folder.path().join("a")));
        assert_eq!((config.log.level.as_str(), config.log.format), ("warn", LogFormat::Json));
        let shown = show(&loaded, true);
        for (line, origin) in [("listen = \"127.0.0.1:3\"", "20.toml"), ("level = \"warn\"", "pouch.toml")] {
            let found = shown.lines().find(|shown| shown.starts_with(line)).unwrap();
            assert!(found.ends_with(origin), "{found}");
        }
        assert!(shown.contains("trust = \"/t\"  # POUCH_TRUST\n"), "{shown}");
        assert!(shown.contains("root = \"/etc/pouch/root.pem\"  # default\n"), "{shown}");
        std::fs::write(drop_ins.join("30.toml"), "\nlisen = 1\n").unwrap();
        let error = load::<RelayConfig>(&file, nothing, &[]).unwrap_err().to_string();
        assert!(error.contains("conf.d/30.toml:2:1: unknown key `lisen`"), "{error}");
    }

    #[test]
    fn lists_and_absent_keys_can_be_set_from_variables() {
        let (_folder, file) = written("");
        let variable = |name: &str| match name {
            "POUCH_RELAYS" => Some("a:1, [::1]:2".to_owned()),
            "POUCH_ROSTER" => Some("/r".to_owned()),
            _ => None,
        };
        let config: DeskConfig = load(&file, variable, &[]).unwrap();
        assert_eq!((config.relays, config.roster), (vec!["a:1".into(), "[::1]:2".into()], Some("/r".into())));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_key_meant() {
        assert_eq!(
            refusal::<RelayConfig>("dir = \"/a\"\nlisen = 1\n"),
            "/pouch.toml:2:1: unknown key `lisen`: did you mean `listen`?"
        );
        assert_eq!(
            refusal::<RelayConfig>("[log]\n  levle = \"info\"\n"),
            "/pouch.toml:2:3: unknown key `log.levle`: did you mean `log.level`?"
        );
        assert_eq!(
            refusal::<DeskConfig>("colour_scheme = 1\n"),
            "/pouch.toml:1:1: unknown key `colour_scheme`: `pouch config example mission` lists every key"
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_with_its_place() {
        let text = refusal::<RelayConfig>("dir = \"/a\"\nlisten = \"nowhere\"\n");
        assert!(text.starts_with("/pouch.toml:2:10: invalid socket address syntax"), "{text}");
        let text = refusal::<RelayConfig>("dir = \n");
        assert!(text.starts_with("/pouch.toml:1:"), "{text}");
        assert!(refusal::<RelayConfig>("log = 3\n").contains("pouch.toml:1:7: invalid type"));
    }

    #[test]
    fn a_variable_or_flag_that_does_not_fit_is_named() {
        let (_folder, file) = written("");
        let variable = |name: &str| (name == "POUCH_ALLOW_X25519").then(|| "maybe".to_owned());
        let text = load::<RelayConfig>(&file, variable, &[]).unwrap_err().to_string();
        assert_eq!(text, "POUCH_ALLOW_X25519: `maybe` is neither true nor false");
        let flags = [("lisen".to_owned(), "x".to_owned())];
        let text = load::<RelayConfig>(&file, nothing, &flags).unwrap_err().to_string();
        assert_eq!(text, "--set lisen: did you mean `listen`?");
    }

    #[test]
    fn a_desk_without_a_usable_relay_address_is_refused() {
        assert_eq!(refusal::<DeskConfig>(""), "`relays` holds 0 addresses: name 1 to 16 relays");
        for address in ["relay.example", ":7443", "relay.example:0", "relay.example:70000"] {
            let text = refusal::<DeskConfig>(&format!("relays = [{address:?}]\n"));
            assert!(text.ends_with("write it as \"host:port\""), "{text}");
        }
        let proxy = refusal::<DeskConfig>("relays = [\"a:1\"]\nproxy = \"http proxy:3128\"\n");
        assert_eq!(proxy, "`proxy` holds \"http proxy:3128\": write it as \"host:port\"");
    }

    #[test]
    fn an_unknown_log_level_is_refused() {
        let text = refusal::<RelayConfig>("[log]\nlevel = \"pouch=loud\"\n");
        assert!(text.starts_with("`log.level` is no level"), "{text}");
    }

    #[test]
    fn a_time_of_a_clock_that_nobody_can_mean_is_refused() {
        let with = |text: &str| refusal::<DeskConfig>(&format!("relays = [\"a:1\"]\n[clocks]\n{text}"));
        let range = "write a span from \"1m\" to \"60d\"";
        assert_eq!(with("flash = \"30s\"\n"), format!("`clocks.flash` holds \"30s\": {range}"));
        assert_eq!(with("routine = \"61d\"\n"), format!("`clocks.routine` holds \"61d\": {range}"));
        let kind = with("priority = \"soon\"\n");
        assert!(kind.contains("pouch.toml:3:12: `soon` is no span of time: write"), "{kind}");
        assert!(with("working_hours = [\"urgent\"]\n").contains("expected one of `routine`, `priority`"));
        assert!(
            with("falsh = \"1m\"\n").ends_with("unknown key `clocks.falsh`: did you mean `clocks.flash`?")
        );
    }

    #[test]
    fn only_names_under_example_are_examples() {
        assert_eq!(["example", "bloc.example"].map(is_example), [true, true]);
        assert_eq!(["notexample", "example.org", "bloc.example.org"].map(is_example), [false, false, false]);
    }

    #[test]
    fn an_absent_trust_bundle_is_named_with_its_cure() {
        let text = trust_bundle(Path::new("/nowhere/trust.toml")).unwrap_err().to_string();
        assert!(text.ends_with("get it from the ministry, and set `trust` to where it lies"), "{text}");
    }

    #[test]
    fn relative_paths_start_from_the_files_folder() {
        let (folder, file) = written("dir = \"journal\"\n");
        let config: RelayConfig = load(&file, nothing, &[]).unwrap();
        assert_eq!(config.dir, folder.path().join("journal"));
        assert_eq!(config.pki, Path::new("/etc/pouch/pki"));
    }

    #[test]
    fn the_example_lists_every_key_and_means_the_defaults() {
        let text = example::<DeskConfig>();
        for key in every_key::<DeskConfig>() {
            let name = key.rsplit('.').next().unwrap();
            assert!(text.lines().any(|line| line.starts_with(&format!("#{name} "))), "{key}");
        }
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| rest.contains(" = ")).unwrap_or(line))
            .fold(String::new(), |text, line| text + line + "\n");
        assert_eq!(parse::<DeskConfig>(Path::new("x"), &uncommented).unwrap().0, DeskConfig::default());
    }
}
