//! What an operator sees of a running relay: status, readiness, metrics, and strangers at its door.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use pouch::{
    alarms::AlarmKind,
    desk::view::{NewDispatch, Step},
    pki::{self, Ca, Example},
    relay::status::RelayStatus,
    tls::{self, Credentials, KeyExchange},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SignatureScheme, client::ResolvesClientCert,
    crypto::CryptoProvider, sign::CertifiedKey,
};
use support::Site;

const TIME_MAX: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// A certificate made so long ago ended a minute ago; that of its CA, an hour old, goes on.
const A_LIFE_AGO: Duration = Duration::from_secs(90 * 86_400 + 60);

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_says_who_is_there_and_what_waits_for_whom() {
    let mut site = Site::new();
    site.start("relay");
    site.start("idn");
    let there = site.relay_until(|status| status.sessions.len() == 1).await;
    let session = &there.sessions[0];
    assert_eq!((session.party.as_str(), session.incarnation), ("IDN", 1));
    assert!(session.software.starts_with("pouch "), "{session:?}");
    assert_eq!((&there.not_ready, there.roster_version), (&Vec::new(), 1));

    let sent = site.desk("idn").send(&note()).await.unwrap();
    site.desk("idn").wait(&sent.id, Step::Accepted, TIME_MAX).await.unwrap();
    let waits = site.relay_until(|status| !status.mailboxes.is_empty()).await;
    let mailbox = &waits.mailboxes[0];
    assert_eq!(mailbox.party, "MOD");
    assert_eq!(mailbox.waiting, BTreeMap::from([("flash".to_owned(), 1)]));
    assert!(mailbox.oldest.is_some() && waits.journal.syncs > 0 && waits.journal.bytes > 0, "{waits:?}");

    let shown = relay_status(&site, &[]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("ready     yes"), "{shown}");
    assert!(shown.contains("MOD       1 flash waiting"), "{shown}");
    site.kill("idn");
    site.relay_until(|status| status.sessions.is_empty()).await;
}

#[test]
fn a_relay_that_does_not_run_is_unreachable_and_named_with_its_cure() {
    let site = Site::new();
    let output = relay_status(&site, &["--json"]);
    assert_eq!(output.status.code(), Some(3));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.trim_end().ends_with("start `pouch relay`, or name its folder with --dir"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitoring_system_gets_metrics_and_readiness_and_nobodys_name() {
    let mut site = Site::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.start_with("relay", &format!("admin = \"{address}\"\n"));
    site.start("idn");
    site.relay_until(|status| status.sessions.len() == 1).await;
    let sent = site.desk("idn").send(&note()).await.unwrap();
    site.desk("idn").wait(&sent.id, Step::Accepted, TIME_MAX).await.unwrap();

    let get = |target: &str| get(TcpStream::connect(address).unwrap(), target);
    assert_eq!(get("/livez"), (200, "alive\n".to_owned()));
    assert_eq!(get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(get("/v1/status").0, 404, "names stay on the socket of the relay's folder");
    until_metric(&get, "pouch_relay_log_cosignatures 1");
    let text = until_metric(&get, "pouch_relay_accepted_total 1");
    check_exposition(&text);
    for line in [
        "pouch_relay_ready 1",
        "pouch_relay_sessions 1",
        "pouch_relay_roster_version 1",
        "pouch_relay_mailbox_envelopes{precedence=\"flash\"} 1",
        "pouch_relay_handshakes_total{end=\"ok\"} 1",
        "pouch_relay_alarm{kind=\"certificate\"} 0",
        // One mission of four is there, and three must cosign.
        "pouch_relay_log_quorum 3",
        "pouch_relay_log_published_size 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for name in ["IDN", "idn", "MOD", "spiffe", "unlit"] {
        assert!(!text.contains(name), "{name} is in\n{text}");
    }
    assert_eq!(get_local(&site, "/metrics").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_gives_metrics_where_its_admin_address_says_and_its_api_only_on_its_socket() {
    let mut site = Site::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.start("relay");
    site.start_with("idn", &format!("admin = \"{address}\"\n"));
    site.relay_until(|status| status.sessions.len() == 1).await;
    let get = |target: &str| get(TcpStream::connect(address).unwrap(), target);
    assert_eq!(get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(get("/v1/status").0, 404, "whoever reaches the address is not the desk's user");
    let text = until_metric(&get, "pouch_desk_in_contact 1");
    check_exposition(&text);
}

/// FAULTS 67, 68, 73: each is closed and counted by its kind, and the log has a line for each kind, not for
/// each stranger.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_turned_away_counted_by_kind_and_logged_once() {
    let mut site = Site::new();
    site.start("relay");
    site.relay_until(|status| status.not_ready.is_empty()).await;
    let noise = [0xa5; 64];
    let ssl_2_hello = [0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80, 2, 0, 0x80];
    let not_tls: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", &ssl_2_hello, &noise];
    for _ in 0..10 {
        for bytes in not_tls {
            let mut stream = TcpStream::connect(site.address()).unwrap();
            stream.write_all(bytes).unwrap();
            assert_closed(&mut stream);
        }
    }
    let other = pki::make_example(
        &site.dir("other-pki"),
        &pki::example_parties(),
        &["localhost:1".to_owned()],
        SystemTime::now(),
    )
    .unwrap();
    let expired = renewed(site.example(), SystemTime::now() - A_LIFE_AGO);
    let early = renewed(site.example(), SystemTime::now() + DAY);
    let strangers = [
        (config(site.example(), &site.example().folder.join("relay")), "unfit-certificate"),
        (config(site.example(), &other.folder.join("idn")), "other-ca"),
        (config(site.example(), expired.path()), "expired"),
        (config(site.example(), early.path()), "not-yet-valid"),
        (without_certificate(site.example()), "no-certificate"),
    ];
    for (config, _) in &strangers {
        for _ in 0..3 {
            let name = tls::server_name(&site.example().trust.trust_domain).unwrap();
            let mut connection = ClientConnection::new(config.clone(), name).unwrap();
            let mut stream = TcpStream::connect(site.address()).unwrap();
            let mut turned_away = rustls::Stream::new(&mut connection, &mut stream);
            assert!(turned_away.read(&mut [0]).is_err(), "the alert says why");
        }
    }

    site.start("idn");
    let after = site.relay_until(|status| status.sessions.len() == 1).await;
    let expected = strangers.iter().map(|(_, kind)| (*kind, 3)).chain([("not-pouch", 40), ("ok", 1)]);
    let expected: BTreeMap<String, u64> = expected.map(|(kind, count)| (kind.to_owned(), count)).collect();
    let found: BTreeMap<String, u64> = after.handshakes.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(found, expected);
    let lines = site.words("relay").matches("handshake refused").count();
    assert!((6..=12).contains(&lines), "a line for each kind and minute, not {lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_post_quantum_key_exchange_needs_leave_and_raises_alarms() {
    let mut site = Site::new();
    site.start("relay");
    site.relay_until(|status| status.not_ready.is_empty()).await;
    assert!(!shakes_hands_classically(&site), "not by default");
    let strict = site.relay_until(|status| status.handshakes["not-pouch"] == 1).await;
    assert_eq!(strict.alarms, Vec::new());
    assert!(site.stop("relay").0.success());

    site.start_with("relay", "allow_x25519 = true\n");
    let allowed = site.relay_until(|status| status.not_ready.is_empty()).await;
    assert_eq!(kinds(&allowed), [AlarmKind::X25519Allowed]);
    assert!(shakes_hands_classically(&site));
    let used = site.relay_until(|status| status.handshakes["ok-x25519"] == 1).await;
    assert_eq!(kinds(&used), [AlarmKind::X25519Allowed, AlarmKind::X25519Used]);
    assert!(used.alarms[1].sentence.starts_with("spiffe://mod.example/mission/idn"), "{used:?}");
}

fn kinds(status: &RelayStatus) -> Vec<AlarmKind> {
    status.alarms.iter().map(|alarm| alarm.kind).collect()
}

/// Whether the relay agrees on keys with a desk that has plain X25519 alone.
fn shakes_hands_classically(site: &Site) -> bool {
    let proper = config(site.example(), &site.example().folder.join("idn"));
    let groups = vec![rustls::crypto::ring::kx_group::X25519];
    let provider = CryptoProvider { kx_groups: groups, ..rustls::crypto::ring::default_provider() };
    let pem = site.example().folder.join("root.pem");
    let mut roots = RootCertStore::empty();
    roots.add(tls::read_certificates(&pem).unwrap().remove(0)).unwrap();
    let mut classical = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(proper.client_auth_cert_resolver.clone());
    classical.alpn_protocols = vec![tls::ALPN.to_vec()];
    let name = tls::server_name(&site.example().trust.trust_domain).unwrap();
    let mut connection = ClientConnection::new(Arc::new(classical), name).unwrap();
    let mut stream = TcpStream::connect(site.address()).unwrap();
    while connection.is_handshaking() {
        if connection.complete_io(&mut stream).is_err() {
            return false;
        }
    }
    true
}

/// FAULTS 19: the relay does not start, and one line says what to do.
#[test]
fn a_key_that_others_can_read_keeps_the_relay_from_starting() {
    use std::os::unix::fs::PermissionsExt;
    for key in ["tls.key", "sign.key"] {
        let mut site = Site::new();
        let path = site.example().folder.join("relay").join(key);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        site.start("relay");
        assert_eq!(site.ended("relay").code(), Some(78));
        let words = site.words("relay");
        assert!(words.contains("chmod 600") && words.lines().count() == 1, "{words}");
    }
}

/// FAULTS 20: the second ends with 73, and the first is unharmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_on_the_same_folder_ends_and_leaves_the_first_alone() {
    let mut site = Site::new();
    site.start("relay");
    site.relay_until(|status| status.not_ready.is_empty()).await;
    let second = Command::new(env!("CARGO_BIN_EXE_pouch"))
        .args(["relay", "--example", "--set", "listen=127.0.0.1:0", "--config"])
        .arg(site.dir("relay").with_extension("toml"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(73), "{}", String::from_utf8_lossy(&second.stderr));
    let first = site.relay_until(|status| status.not_ready.is_empty()).await;
    assert_eq!(first.alarms, Vec::new());
    assert!(site.stop("relay").0.success());
}

fn relay_status(site: &Site, more: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pouch"));
    command.args(["relay", "status", "--dir"]).arg(site.dir("relay")).args(more).output().unwrap()
}

fn until_metric(get: &impl Fn(&str) -> (u16, String), line: &str) -> String {
    let until = Instant::now() + TIME_MAX;
    loop {
        let (code, text) = get("/metrics");
        assert_eq!(code, 200);
        if text.lines().any(|found| found == line) {
            return text;
        }
        assert!(Instant::now() < until, "{line} is not in\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn get_local(site: &Site, target: &str) -> (u16, String) {
    get(UnixStream::connect(site.dir("relay").join("admin.sock")).unwrap(), target)
}

fn get(mut stream: impl Read + Write, target: &str) -> (u16, String) {
    write!(stream, "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Holds a text against the exposition format: every sample belongs to the family before it, every family has
/// HELP and TYPE, no series comes twice, counters end in `_total`, and values are numbers.
fn check_exposition(text: &str) {
    let (mut family, mut kind) = ("", "");
    let mut series = BTreeSet::new();
    let mut families = BTreeSet::new();
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
    };
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            (family, kind) = (help.split(' ').next().unwrap(), "");
            assert!(is_name(family) && families.insert(family), "{line}");
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, stated) = of.split_once(' ').unwrap();
            assert_eq!(name, family, "{line}");
            kind = stated;
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() && series.insert(name), "{line}");
            let bare = name.split('{').next().unwrap();
            let fits = match kind {
                "counter" => bare == family && bare.ends_with("_total"),
                "gauge" => bare == family,
                "histogram" => {
                    bare.strip_prefix(family).is_some_and(|s| ["_bucket", "_sum", "_count"].contains(&s))
                }
                _ => false,
            };
            assert!(fits, "{line} under {family} {kind}");
        }
    }
    assert!(families.len() > 12, "{text}");
}

fn assert_closed(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(TIME_MAX)).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(bytes) => assert!(bytes <= 16, "at most an alert: {rest:?}"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

/// A desk's TLS with the credentials of `folder`, under the site's root.
fn config(example: &Example, folder: &Path) -> Arc<ClientConfig> {
    let credentials = Credentials::load(folder).unwrap();
    let root = tls::load_root(&example.folder.join("root.pem"), &example.trust.root_key_sha256).unwrap();
    tls::client_config(&credentials, &root, &example.trust.trust_domain, KeyExchange::Hybrid).unwrap()
}

fn without_certificate(example: &Example) -> Arc<ClientConfig> {
    let mut config = (*config(example, &example.folder.join("idn"))).clone();
    config.client_auth_cert_resolver = Arc::new(Nobody);
    Arc::new(config)
}

#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A folder with a certificate of IDN that begins at `from`.
fn renewed(example: &Example, from: SystemTime) -> tempfile::TempDir {
    let made = tempfile::tempdir().unwrap();
    let parties = pki::example_parties();
    let idn = parties.iter().find(|party| party.code == "IDN").unwrap();
    let folder = made.path().join("box");
    let request = pki::request(&folder, idn).unwrap();
    let issued = Ca::open(&example.folder.join("ca")).unwrap().issue(&request, None, from).unwrap();
    fs::rename(folder.join("tls.key"), made.path().join("tls.key")).unwrap();
    fs::write(made.path().join("tls.pem"), issued.chain_pem).unwrap();
    made
}

fn note() -> NewDispatch {
    NewDispatch {
        to: vec!["MOD".to_owned()],
        topic: "maritime".to_owned(),
        precedence: "flash".to_owned(),
        subject: "EXERCISE unlit vessel".to_owned(),
        body: "EXERCISE".to_owned(),
        exercise: true,
        ..NewDispatch::default()
    }
}
