//! Lists of revoked certificates at the relay (FAULTS 70): who is kept out, what is no list, and what a reload with
//! a bad one leaves in force.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use pouch::{
    alarms::AlarmKind,
    pki::{self, Example},
    relay::status::RelayStatus,
    tls::{self, Credentials, RevocationListError, RevocationLists, TlsError},
};
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber};
use support::Site;

const DAY: Duration = Duration::from_secs(86_400);

/// FAULTS 70.
#[tokio::test(flavor = "multi_thread")]
async fn a_desk_on_the_list_is_turned_away_and_the_others_are_not() {
    let mut site = Site::new();
    let file = site.dir("relay").with_extension("crl");
    fs::write(&file, list(site.example(), &["idn"], SystemTime::now())).unwrap();
    site.start_with("relay", &format!("crl = [{file:?}]\n"));
    site.start("idn");
    site.relay_until(|status| turned_away(status) > 0).await;
    site.start("hub");
    let status = site.relay_until(|status| !status.sessions.is_empty()).await;
    assert_eq!(status.sessions.iter().map(|session| session.party.as_str()).collect::<Vec<_>>(), ["MOD"]);
    assert_eq!(status.alarms, Vec::new());
}

/// FAULTS 70.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_a_bad_list_leaves_the_last_good_one_in_force() {
    let mut site = Site::new();
    let file = site.dir("relay").with_extension("crl");
    let now = SystemTime::now();
    fs::write(&file, list(site.example(), &["idn"], now)).unwrap();
    site.start_with("relay", &format!("crl = [{file:?}]\n"));
    site.relay_until(|_| true).await;
    let other = tempfile::tempdir().unwrap();
    let other = example(&other.path().join("other"));
    for (bad, words) in [
        (list(&other, &[], now), "neither root.pem nor a CA in tls.pem signed it"),
        ("noise".to_owned(), "no whole X.509 list"),
        (list(site.example(), &[], now - DAY), "older than the list"),
    ] {
        fs::write(&file, bad).unwrap();
        site.reload("relay");
        let says = |status: &RelayStatus| status.alarms.iter().any(|alarm| alarm.sentence.contains(words));
        let status = site.relay_until(says).await;
        assert_eq!(status.alarms[0].kind, AlarmKind::Reload);
    }
    site.start("idn");
    site.relay_until(|status| turned_away(status) > 0).await;

    fs::write(&file, list(site.example(), &[], now + Duration::from_secs(1))).unwrap();
    site.reload("relay");
    let status = site.relay_until(|status| !status.sessions.is_empty()).await;
    assert_eq!(status.alarms, Vec::new());
}

/// FAULTS 70.
#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_list_raises_an_alarm_and_traffic_goes_on() {
    let mut site = Site::new();
    let file = site.dir("relay").with_extension("crl");
    fs::write(&file, list(site.example(), &["idn"], SystemTime::now() - 40 * DAY)).unwrap();
    site.start_with("relay", &format!("crl = [{file:?}]\n"));
    site.start("hub");
    let status = site.relay_until(|status| !status.sessions.is_empty()).await;
    assert_eq!(status.alarms.iter().map(|alarm| alarm.kind).collect::<Vec<_>>(), [AlarmKind::Crl]);
    assert!(status.alarms[0].sentence.ends_with("get the newest one and reload the relay"), "{status:?}");
    site.start("idn");
    site.relay_until(|status| turned_away(status) > 0).await;

    fs::write(&file, list(site.example(), &["idn"], SystemTime::now())).unwrap();
    site.reload("relay");
    site.relay_until(|status| status.alarms.is_empty()).await;
}

/// FAULTS 70.
#[test]
fn what_is_no_list_of_an_own_ca_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (example(&folder.path().join("own")), example(&folder.path().join("other")));
    let now = SystemTime::now();
    let good = list(&own, &["idn"], now);
    let altered = good.replacen("\nMI", "\nMH", 1);
    let long = format!("{good}{}", " ".repeat(1024 * 1024));
    let cases = [
        (vec![list(&other, &[], now)], RevocationListError::Foreign),
        (vec![signed_by_a_stranger(&own, now)], RevocationListError::Foreign),
        (vec![String::new()], RevocationListError::Malformed),
        (vec![altered], RevocationListError::Malformed),
        (vec![long], RevocationListError::TooLong),
        (vec![good.clone(), list(&own, &[], now + DAY)], RevocationListError::Twice),
    ];
    for (texts, expected) in cases {
        match load(&own, &texts) {
            Err(TlsError::RevocationList { problem, .. }) => assert_eq!(problem, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
    }
    assert!(load(&own, &[good]).is_ok());
    let nowhere = load_files(&own, &["/nowhere/ca.crl".into()]);
    assert!(matches!(nowhere, Err(TlsError::File { .. })), "{nowhere:?}");
}

fn load(example: &Example, texts: &[String]) -> Result<RevocationLists, TlsError> {
    let folder = tempfile::tempdir().unwrap();
    let write = |(index, text): (usize, &String)| {
        let path = folder.path().join(format!("{index}.crl"));
        fs::write(&path, text).unwrap();
        path
    };
    load_files(example, &texts.iter().enumerate().map(write).collect::<Vec<_>>())
}

fn load_files(example: &Example, files: &[PathBuf]) -> Result<RevocationLists, TlsError> {
    let own = Credentials::load(&example.folder.join("relay")).unwrap();
    let root = tls::load_root(&example.folder.join("root.pem"), &example.trust.root_key_sha256).unwrap();
    RevocationLists::load(files, &own, &root)
}

fn example(folder: &std::path::Path) -> Example {
    let addresses = ["localhost:1".to_owned()];
    pki::make_example(folder, &pki::example_parties(), &addresses, SystemTime::now()).unwrap()
}

/// A list by the example's issuing CA, which says that the next one comes 30 days after `made`.
fn list(example: &Example, revoked: &[&str], made: SystemTime) -> String {
    let key = fs::read_to_string(example.folder.join("ca/issuing.key")).unwrap();
    sign(example, &KeyPair::from_pem(&key).unwrap(), revoked, made)
}

/// A list that names the example's issuing CA, under a key of somebody else.
fn signed_by_a_stranger(example: &Example, made: SystemTime) -> String {
    sign(example, &KeyPair::generate().unwrap(), &[], made)
}

fn sign(example: &Example, key: &KeyPair, revoked: &[&str], made: SystemTime) -> String {
    let certificate = fs::read_to_string(example.folder.join("ca/issuing.pem")).unwrap();
    let serial_of = |party: &&str| {
        let serial = Credentials::load(&example.folder.join(party)).unwrap().serial().unwrap();
        data_encoding::HEXLOWER.decode(serial.as_bytes()).unwrap()
    };
    let revoked_certs = revoked.iter().map(serial_of).map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial),
        revocation_time: made.into(),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: made.into(),
        next_update: (made + 30 * DAY).into(),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&Issuer::from_ca_cert_pem(&certificate, key).unwrap()).unwrap().pem().unwrap()
}

fn turned_away(status: &RelayStatus) -> u64 {
    status.handshakes.get("revoked").copied().unwrap_or(0)
}
