//! Certificates and rosters on files, as the officers of a ministry and an embassy handle them.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use pouch::identity::{PartyId, SpiffeId};
use pouch::keys::SigningKey;
use pouch::pki::{self, Applicant, PkiError, Request, RequestError};
use pouch::roster::PartyNumber;
use pouch::tls;
use tempfile::TempDir;

const TRUST_DOMAIN: &str = "mod.example";

#[test]
fn a_request_made_on_the_partys_box_comes_back_as_its_certificate() {
    let folder = TempDir::new().unwrap();
    let mut ca = pki::init(&folder.path().join("ca"), TRUST_DOMAIN, SystemTime::now()).unwrap();
    let box_folder = folder.path().join("idn");
    let made = pki::request(&box_folder, &indonesia()).unwrap();
    for key in ["tls.key", "sign.key", "witness.key"] {
        let mode = fs::metadata(box_folder.join(key)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{key}");
    }
    assert!(!box_folder.join("log.key").exists());

    let read = Request::load(&box_folder.join("request.toml")).unwrap();
    assert_eq!(read.id.to_string(), "spiffe://mod.example/mission/idn");
    assert_eq!((read.sign, read.witness, read.log), (made.sign, made.witness, None));
    assert_eq!(read.sign, SigningKey::load(&box_folder.join("sign.key")).unwrap().public());

    let issued = ca.issue(&read, None, SystemTime::now()).unwrap();
    assert_eq!(issued.number, PartyNumber(1));
    fs::write(box_folder.join("tls.pem"), &issued.chain_pem).unwrap();
    let chain = tls::read_certificates(&box_folder.join("tls.pem")).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(PartyId::from_verified(&chain[0]).unwrap().spiffe(), &read.id);
    assert_eq!(tls::serial_hex(&chain[0]).unwrap(), issued.serial);
    // Key and certificate belong together, and rustls takes them.
    let credentials = tls::Credentials::load(&box_folder).unwrap();
    let root = tls::read_certificates(&ca.root_path()).unwrap().remove(0);
    tls::client_config(&credentials, &root, TRUST_DOMAIN, tls::KeyExchange::Hybrid).unwrap();
}

#[test]
fn a_relay_has_a_log_key_and_no_witness_key() {
    let folder = TempDir::new().unwrap();
    let request = pki::request(folder.path(), &applicant("relay/a", "RELAY", "Relay A")).unwrap();
    assert!(request.log.is_some() && request.witness.is_none());
    assert!(folder.path().join("log.key").exists() && !folder.path().join("witness.key").exists());
}

#[test]
fn a_lost_request_is_made_again_with_the_same_keys() {
    let folder = TempDir::new().unwrap();
    let first = pki::request(folder.path(), &indonesia()).unwrap();
    fs::remove_file(folder.path().join("request.toml")).unwrap();
    let second = pki::request(folder.path(), &indonesia()).unwrap();
    assert_eq!((first.sign, first.witness), (second.sign, second.witness));
}

#[test]
fn a_request_that_was_changed_on_its_way_is_refused() {
    let folder = TempDir::new().unwrap();
    pki::request(folder.path(), &indonesia()).unwrap();
    let text = fs::read_to_string(folder.path().join("request.toml")).unwrap();
    let other_folder = TempDir::new().unwrap();
    pki::request(other_folder.path(), &indonesia()).unwrap();
    let other = fs::read_to_string(other_folder.path().join("request.toml")).unwrap();
    let line = |text: &str, key: &str| {
        let mut lines = text.lines();
        lines.find(|line| line.starts_with(&format!("{key} = "))).unwrap().to_owned()
    };

    for key in ["id", "code", "name", "sign", "witness", "nonce"] {
        let ours = line(&text, key);
        let theirs = match key {
            "id" => "id = \"spiffe://mod.example/mission/mys\"".to_owned(),
            "code" => "code = \"MYS\"".to_owned(),
            "name" => "name = \"Embassy of Malaysia\"".to_owned(),
            _ => line(&other, key),
        };
        let error = Request::parse(&text.replacen(&ours, &theirs, 1)).unwrap_err();
        assert!(matches!(error, RequestError::Signature(_)), "{key}: {error}");
    }
    let csr = |text: &str| {
        let end = text.find("-----END CERTIFICATE").unwrap();
        text[text.find("-----BEGIN CERTIFICATE").unwrap()..end].to_owned()
    };
    let swapped = text.replacen(&csr(&text), &csr(&other), 1);
    assert!(matches!(Request::parse(&swapped), Err(RequestError::Signature(_))));

    // The witness key signs too: without its signature nobody can claim another's key.
    let (head, tail) = text.rsplit_once("[signatures]").unwrap();
    let unwitnessed = format!("{head}[signatures]\n{}\n", line(tail, "sign"));
    assert!(matches!(Request::parse(&unwitnessed), Err(RequestError::Signature("witness"))));
    assert!(matches!(Request::parse(head), Err(RequestError::Unsigned)));
    assert!(Request::parse(&text).is_ok());
}

#[test]
fn a_request_of_another_trust_domain_is_refused_by_the_ca() {
    let folder = TempDir::new().unwrap();
    let mut ca = pki::init(&folder.path().join("ca"), "other.example", SystemTime::now()).unwrap();
    let request = pki::request(&folder.path().join("idn"), &indonesia()).unwrap();
    let error = ca.issue(&request, None, SystemTime::now()).unwrap_err();
    assert!(matches!(error, PkiError::OtherTrustDomain { .. }), "{error}");
}

#[test]
fn a_party_keeps_its_number_and_no_number_is_given_twice() {
    let folder = TempDir::new().unwrap();
    let ca_folder = folder.path().join("ca");
    let mut ca = pki::init(&ca_folder, TRUST_DOMAIN, SystemTime::now()).unwrap();
    let idn = pki::request(&folder.path().join("idn"), &indonesia()).unwrap();
    let mys =
        pki::request(&folder.path().join("mys"), &applicant("mission/mys", "MYS", "Embassy of Malaysia"))
            .unwrap();
    let now = SystemTime::now();
    assert_eq!(ca.issue(&idn, Some(PartyNumber(7)), now).unwrap().number, PartyNumber(7));
    assert!(matches!(ca.issue(&mys, Some(PartyNumber(7)), now), Err(PkiError::Number { .. })));
    assert!(matches!(ca.issue(&mys, Some(PartyNumber(0)), now), Err(PkiError::Number { .. })));
    assert!(matches!(ca.issue(&idn, Some(PartyNumber(8)), now), Err(PkiError::Number { .. })));

    // The index remembers when the folder is opened again.
    let mut ca = pki::Ca::open(&ca_folder).unwrap();
    assert_eq!(ca.issue(&mys, None, now).unwrap().number, PartyNumber(8));
    let first = ca.issue(&idn, None, now).unwrap();
    let second = ca.issue(&idn, None, now).unwrap();
    assert_eq!((first.number, second.number), (PartyNumber(7), PartyNumber(7)));
    assert_ne!(first.serial, second.serial);
}

#[test]
fn a_certificate_is_valid_from_an_hour_back_and_for_ninety_days() {
    let folder = TempDir::new().unwrap();
    let now = SystemTime::now();
    let mut ca = pki::init(&folder.path().join("ca"), TRUST_DOMAIN, now).unwrap();
    let request = pki::request(&folder.path().join("idn"), &indonesia()).unwrap();
    let issued = ca.issue(&request, None, now).unwrap();
    let days = issued.expires.as_second() - jiff::Timestamp::try_from(now).unwrap().as_second();
    assert_eq!(days, 90 * 24 * 3600);

    let path = folder.path().join("tls.pem");
    fs::write(&path, &issued.chain_pem).unwrap();
    let shown = pki::show(&path, now).unwrap();
    assert!(shown.contains("89 days left") || shown.contains("90 days left"), "{shown}");
    let later = pki::show(&path, now + Duration::from_secs(91 * 24 * 3600)).unwrap();
    assert!(later.contains("EXPIRED"), "{later}");
}

#[test]
fn a_ca_is_never_made_over_another() {
    let folder = TempDir::new().unwrap();
    pki::init(folder.path(), TRUST_DOMAIN, SystemTime::now()).unwrap();
    let root = fs::read(folder.path().join("root.pem")).unwrap();
    assert!(matches!(pki::init(folder.path(), TRUST_DOMAIN, SystemTime::now()), Err(PkiError::Key(_))));
    assert_eq!(fs::read(folder.path().join("root.pem")).unwrap(), root);
}

#[test]
fn the_issuing_ca_works_without_the_roots_key() {
    let folder = TempDir::new().unwrap();
    let ca_folder = folder.path().join("ca");
    pki::init(&ca_folder, TRUST_DOMAIN, SystemTime::now()).unwrap();
    fs::remove_file(ca_folder.join("root.key")).unwrap();
    let request = pki::request(&folder.path().join("idn"), &indonesia()).unwrap();
    pki::Ca::open(&ca_folder).unwrap().issue(&request, None, SystemTime::now()).unwrap();
}

#[test]
fn a_trust_domain_that_gives_no_identities_is_refused() {
    let folder = TempDir::new().unwrap();
    for name in ["", "MOD.example", "mod example", "mod/example", "-.example"] {
        let made = pki::init(folder.path(), name, SystemTime::now());
        assert!(matches!(made, Err(PkiError::TrustDomain(_))), "{name:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn show_tells_keys_and_requests_apart_and_never_prints_a_private_key() {
    let folder = TempDir::new().unwrap();
    pki::request(folder.path(), &indonesia()).unwrap();
    let now = SystemTime::now();
    for key in ["sign.key", "tls.key"] {
        let path = folder.path().join(key);
        let secret = fs::read_to_string(&path).unwrap();
        let shown = pki::show(&path, now).unwrap();
        assert!(shown.starts_with("private key, "), "{shown}");
        assert!(!shown.contains(secret.lines().nth(1).unwrap()), "{shown}");
    }
    let shown = pki::show(&folder.path().join("request.toml"), now).unwrap();
    assert!(shown.contains("Embassy of the Republic of Indonesia"), "{shown}");
    fs::write(folder.path().join("note.txt"), "hello").unwrap();
    assert!(matches!(pki::show(&folder.path().join("note.txt"), now), Err(PkiError::Unknown(_))));
}

fn indonesia() -> Applicant {
    applicant("mission/idn", "IDN", "Embassy of the Republic of Indonesia")
}

fn applicant(path: &str, code: &str, name: &str) -> Applicant {
    let id = SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}/{path}")).unwrap();
    Applicant { id, code: code.to_owned(), name: name.to_owned() }
}

#[test]
fn a_revoked_serial_goes_into_the_draft_once_and_from_a_roster_into_a_crl() {
    let folder = TempDir::new().unwrap();
    let example = pki::make_example(folder.path(), &pki::example_parties(), &[], SystemTime::now()).unwrap();
    let ca = pki::Ca::open(&folder.path().join("ca")).unwrap();
    let certificates = tls::read_certificates(&folder.path().join("idn/tls.pem")).unwrap();
    let serial = tls::serial_hex(&certificates[0]).unwrap();
    let mut draft = pouch::roster::RosterDraft::next(&example.roster).unwrap();
    let id = pki::revoke(&mut draft, &ca, &serial.to_uppercase()).unwrap().unwrap();
    assert_eq!(id.to_string(), "spiffe://mod.example/mission/idn");
    assert_eq!(pki::revoke(&mut draft, &ca, &serial).unwrap(), None, "once");
    let idn = draft.parties.iter().find(|party| party.id == id).unwrap();
    assert_eq!(idn.revoked_serials, std::slice::from_ref(&serial));
    draft.text().unwrap();
    let unknown = pki::revoke(&mut draft, &ca, "7f").unwrap_err();
    assert!(matches!(unknown, PkiError::UnknownSerial(_)), "{unknown}");
    draft.parties.retain(|party| party.id != id);
    assert!(matches!(pki::revoke(&mut draft, &ca, &serial), Err(PkiError::NotInDraft(_))));

    let mut revoking = pouch::roster::RosterDraft::next(&example.roster).unwrap();
    pki::revoke(&mut revoking, &ca, &serial).unwrap();
    let pem = pki::crl(&ca, &revoking, SystemTime::now()).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let (_, list) = x509_parser::parse_x509_crl(&pem.contents).unwrap();
    let serials: Vec<String> =
        list.iter_revoked_certificates().map(|revoked| format!("{:x}", revoked.user_certificate)).collect();
    assert_eq!(serials, [serial]);
    assert_eq!(
        list.crl_number().map(|number| number.to_string()),
        Some("2".to_owned()),
        "the roster's version"
    );
    let issuing = tls::read_certificates(&folder.path().join("ca/issuing.pem")).unwrap();
    let (_, issuing) = x509_parser::parse_x509_certificate(&issuing[0]).unwrap();
    assert_eq!(list.issuer(), issuing.subject());
}
