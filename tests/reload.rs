//! Certificates are changed under a running relay and a running desk (FAULTS 80): new connections use the
//! new ones, nobody is dropped, and what is wrong changes nothing. What a relay runs with stands in its log.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use pouch::{
    alarms::AlarmKind,
    desk::view::{NewDispatch, Status, Step},
    identity::Kind,
    limits::ROSTER_BYTES_MAX,
    merkle,
    pki::{self, Ca, Issued},
    relay::status::RelayStatus,
    roster::RosterDraft,
    tls::{self, Credentials, KeyExchange},
};
use support::{Site, next_roster};
use tokio::time::timeout;

const TIME_MAX: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// A certificate made so long ago ended a minute ago; that of its CA, an hour old, goes on.
const A_LIFE_AGO: Duration = Duration::from_secs(90 * 86_400 + 60);

/// FAULTS 80.
#[tokio::test(flavor = "multi_thread")]
async fn a_relays_new_certificate_is_taken_up_at_a_reload_and_nobody_is_dropped() {
    let mut site = Site::new();
    site.start("relay");
    site.start("idn");
    let before = until(&site, "idn", |status| status.link == "in contact").await;

    let issued = renew(&site, "relay", SystemTime::now());
    assert_ne!(shown_serial(&site).await, issued.serial, "the old one until it is told");
    site.reload("relay");
    while shown_serial(&site).await != issued.serial {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let sent = site.desk("idn").send(&note()).await.unwrap();
    site.desk("idn").wait(&sent.id, Step::Accepted, TIME_MAX).await.unwrap();
    let after = until(&site, "idn", |_| true).await;
    assert_eq!((after.link.as_str(), after.since), ("in contact", before.since), "the session stayed");
}

/// FAULTS 70: rosters. Whatever does not follow leaves the last good one in force, with an alarm; mail goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_roster_file_is_taken_up_at_a_reload_nobody_is_dropped_and_a_bad_one_changes_nothing() {
    let mut site = Site::new();
    site.start("relay");
    site.start("idn");
    let before = until(&site, "idn", |status| status.link == "in contact").await;
    let first = site.example().roster.clone();
    let named = |name: &'static str| move |draft: &mut RosterDraft| draft.parties[4].name = name.to_owned();
    let (second, second_note) = next_roster(site.example(), &first, named("Manila"));
    let file = site.example().folder.join("relay/roster.note");
    fs::write(&file, &second_note).unwrap();
    site.reload("relay");
    until(&site, "idn", |status| status.roster_version == 2).await;

    let other = pki::make_example(
        &site.dir("other"),
        &pki::example_parties(),
        &["localhost:1".to_owned()],
        SystemTime::now(),
    )
    .unwrap();
    let (others, _) = next_roster(&other, &other.roster, named("Manila"));
    let (third, good) = next_roster(site.example(), &second, named("Philippines"));
    let bad = [
        (b"noise".to_vec(), "no valid signed note"),
        (next_roster(site.example(), &first, named("Cebu")).1, "another roster of version 2"),
        (next_roster(&other, &others, named("Manila")).1, "signed by 0 of the roster keys in force"),
        (next_roster(site.example(), &third, named("Davao")).1, "does not follow version 2 in force"),
        (vec![b'x'; ROSTER_BYTES_MAX + 1], "at most 4194304 bytes"),
    ];
    for (bad, words) in bad {
        fs::write(&file, bad).unwrap();
        site.reload("relay");
        let told = |status: &RelayStatus| status.alarms.iter().any(|alarm| alarm.sentence.contains(words));
        let status = site.relay_until(told).await;
        assert_eq!((status.roster_version, status.alarms[0].kind), (2, AlarmKind::Roster), "{words}");
        let sent = site.desk("idn").send(&note()).await.unwrap();
        site.desk("idn").wait(&sent.id, Step::Accepted, TIME_MAX).await.unwrap();
    }
    fs::write(&file, good).unwrap();
    site.reload("relay");
    let after = until(&site, "idn", |status| status.roster_version == 3).await;
    assert_eq!((after.link.as_str(), after.since), ("in contact", before.since), "the session stayed");
    site.relay_until(|status| status.alarms.is_empty()).await;
}

/// FAULTS 80.
#[tokio::test(flavor = "multi_thread")]
async fn a_desks_new_certificate_is_taken_up_with_its_next_connection_and_the_session_stays() {
    let mut site = Site::new();
    site.start("relay");
    site.start("idn");
    let before = until(&site, "idn", |status| status.link == "in contact").await;
    let old = site.relay_status().sessions[0].serial.clone();
    let issued = renew(&site, "idn", SystemTime::now());
    site.reload("idn");
    said(&site, "idn", "the next connection uses this certificate").await;
    let after = until(&site, "idn", |_| true).await;
    assert_eq!((after.link.as_str(), after.since), ("in contact", before.since), "the session stayed");

    site.kill("relay");
    until(&site, "idn", |status| status.link != "in contact").await;
    site.start("relay");
    until(&site, "idn", |status| status.link == "in contact").await;
    let new = site.relay_status().sessions[0].serial.clone();
    assert!(new == issued.serial && new != old, "{old}, {new}, {}", issued.serial);
}

/// FAULTS 80.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_keeps_its_last_good_certificate_until_a_better_one_comes() {
    let mut site = Site::new();
    site.start("relay");
    let first = shown_serial(&site).await;

    let pki = site.example().folder.join("relay");
    let good = fs::read(pki.join("tls.pem")).unwrap();
    fs::write(pki.join("tls.pem"), "no certificate").unwrap();
    site.reload("relay");
    said(&site, "relay", "no certificate in it").await;
    // The key of another certificate.
    fs::write(pki.join("tls.pem"), &good).unwrap();
    let own_key = fs::read(pki.join("tls.key")).unwrap();
    fs::write(pki.join("tls.key"), fs::read(site.example().folder.join("idn/tls.key")).unwrap()).unwrap();
    site.reload("relay");
    said(&site, "relay", "belong together").await;
    fs::write(pki.join("tls.key"), own_key).unwrap();
    // One that has expired.
    renew(&site, "relay", SystemTime::now() - A_LIFE_AGO);
    site.reload("relay");
    said(&site, "relay", "the certificate has expired").await;
    assert_eq!(shown_serial(&site).await, first);

    let issued = renew(&site, "relay", SystemTime::now());
    site.reload("relay");
    said(&site, "relay", "alarm over").await;
    assert_eq!(shown_serial(&site).await, issued.serial);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_warns_of_its_certificate_and_of_a_reload_that_failed_until_both_are_mended() {
    let mut site = Site::new();
    renew(&site, "idn", SystemTime::now() - 70 * DAY + DAY / 2);
    site.start("relay");
    site.start("idn");
    let warned = until(&site, "idn", |status| status.link == "in contact").await;
    assert!(warned.alarms.iter().any(|alarm| alarm.contains("in 20 days")), "{:?}", warned.alarms);

    renew(&site, "idn", SystemTime::now() - A_LIFE_AGO);
    site.reload("idn");
    let refused = until(&site, "idn", |status| status.alarms.len() == 2).await;
    assert!(refused.alarms.iter().any(|alarm| alarm.starts_with("nothing was reloaded")), "{refused:?}");
    assert_eq!((refused.link.as_str(), &refused.since), ("in contact", &warned.since));

    renew(&site, "idn", SystemTime::now());
    site.reload("idn");
    let mended = until(&site, "idn", |status| status.alarms.is_empty()).await;
    assert_eq!((mended.link.as_str(), mended.since), ("in contact", warned.since));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_configuration_that_a_relay_starts_with_and_each_that_a_reload_changes() {
    let mut site = Site::new();
    site.start("relay");
    site.relay_until(|status| status.not_ready.is_empty()).await;
    let file = site.file("relay");
    let began = shown_hash(&file);
    let text = fs::read_to_string(&file).unwrap();
    // The last needs a restart, so the relay runs on with what it had, and the log says nothing.
    let changes = ["", "allow_x25519 = true\n", "allow_x25519 = true\nopenings_keep_days = 500\n"];
    for (times, change) in (1..).zip(changes) {
        fs::write(&file, format!("{text}{change}")).unwrap();
        site.reload("relay");
        while site.words("relay").matches("reloaded; new connections").count() < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let last = shown_hash(&file);
    fs::write(&file, format!("{text}{}", changes[1])).unwrap();
    let changed = shown_hash(&file);
    assert!(site.stop("relay").0.success());
    assert_eq!(named_hashes(&site), [began.clone(), changed.clone()]);

    fs::write(&file, format!("{text}{}", changes[2])).unwrap();
    site.start_again("relay");
    site.relay_until(|status| status.not_ready.is_empty()).await;
    assert!(site.stop("relay").0.success());
    assert_eq!(named_hashes(&site), [began, changed, last]);
}

/// SHA-256 of what `pouch config show relay` prints of a file.
fn shown_hash(file: &Path) -> String {
    let shown = pouch(&["config", "show", "relay", "--config"], file);
    merkle::sha256(shown.as_bytes()).to_string()
}

/// The hashes of configurations that a relay's log names, in order.
fn named_hashes(site: &Site) -> Vec<String> {
    let told = pouch(&["relay", "log", "--dir"], &site.dir("relay"));
    told.split("SHA-256 ").skip(1).map(|rest| rest[..64].to_owned()).collect()
}

fn pouch(arguments: &[&str], path: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pouch")).args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expired_before_the_start_keeps_no_desk_from_taking_dispatches() {
    let mut site = Site::new();
    renew(&site, "idn", SystemTime::now() - A_LIFE_AGO);
    site.start("idn");
    let status = until(&site, "idn", |_| true).await;
    assert!(status.alarms.iter().any(|alarm| alarm.contains("nothing can connect")), "{:?}", status.alarms);
}

/// Gives a party's folder a new key and a certificate for it that begins at `from`.
fn renew(site: &Site, party: &str, from: SystemTime) -> Issued {
    let folder = site.example().folder.join(party);
    let made = tempfile::tempdir().unwrap();
    let applicant = pki::example_parties()
        .into_iter()
        .find(|applicant| applicant.id.name().unwrap_or("hub") == party || is_relay(applicant, party))
        .unwrap();
    let request = pki::request(&made.path().join("box"), &applicant).unwrap();
    let issued = Ca::open(&site.example().folder.join("ca")).unwrap().issue(&request, None, from).unwrap();
    fs::copy(made.path().join("box/tls.key"), folder.join("tls.key")).unwrap();
    fs::write(folder.join("tls.pem"), &issued.chain_pem).unwrap();
    issued
}

fn is_relay(applicant: &pki::Applicant, party: &str) -> bool {
    party == "relay" && applicant.id.kind() == Kind::Relay
}

/// The serial of the certificate that the relay shows to a new connection.
async fn shown_serial(site: &Site) -> String {
    let pki = site.example().folder.join("mys");
    let credentials = Credentials::load(&pki).unwrap();
    let trust = &site.example().trust;
    let root = tls::load_root(&pki.join("root.pem"), &trust.root_key_sha256).unwrap();
    let config = tls::client_config(&credentials, &root, &trust.trust_domain, KeyExchange::Hybrid).unwrap();
    let name = tls::server_name(&trust.trust_domain).unwrap();
    let address = site.address();
    let shaken = tokio::task::spawn_blocking(move || {
        let mut stream = connected(address);
        let mut connection = rustls::ClientConnection::new(config, name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).unwrap();
        }
        tls::peer(&connection).unwrap().1
    });
    timeout(TIME_MAX, shaken).await.expect("the relay shakes hands").unwrap()
}

/// A connection to the relay, once it listens.
fn connected(address: std::net::SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Waits until a desk's status is as wanted.
async fn until(site: &Site, party: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let desk = site.desk(party);
    let asking = async {
        loop {
            match desk.status().await {
                Ok(status) if wanted(&status) => return status,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    match timeout(TIME_MAX, asking).await {
        Ok(status) => status,
        Err(_) => panic!("{party} is not so: {:?}\n{}", desk.status().await, site.last_words(party)),
    }
}

/// Waits until a process's log holds these words.
async fn said(site: &Site, party: &str, words: &str) {
    let reading = async {
        while !site.last_words(party).contains(words) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(TIME_MAX, reading).await.is_ok(), "{words:?} not said: {}", site.last_words(party));
}

fn note() -> NewDispatch {
    NewDispatch {
        to: vec!["MOD".to_owned()],
        topic: "maritime".to_owned(),
        precedence: "routine".to_owned(),
        subject: "EXERCISE unlit vessel".to_owned(),
        body: "EXERCISE".to_owned(),
        exercise: true,
        ..NewDispatch::default()
    }
}
