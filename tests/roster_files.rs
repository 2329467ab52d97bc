//! Rosters as the holders of the roster keys make them, and whole example PKIs.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use pouch::identity::{Kind, PartyId};
use pouch::keys::SigningKey;
use pouch::pki::roster_files::{self, Entry};
use pouch::pki::{self, Ca, Example, PkiError};
use pouch::roster::{PartyNumber, RosterDraft, RosterError, Status};
use pouch::tls::{self, Credentials, KeyExchange, RevocationLists};
use rustls::{ClientConnection, ServerConnection, StreamOwned};
use serde::Deserialize;
use tempfile::TempDir;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, KeyUsage};

#[test]
fn an_example_is_whole_and_verifies_from_its_trust_bundle() {
    let (folder, example) = example();
    assert_eq!(example.roster.trust_domain(), "mod.example");
    assert_eq!(example.roster.parties().count(), 6);
    assert_eq!(example.roster.quorum(), 3);
    assert_eq!(example.roster.group("ACI").unwrap().members, [3, 4, 5, 6].map(PartyNumber));
    for party in example.roster.parties() {
        let own = example.party_folder(&party.id);
        let credentials = Credentials::load(&own).unwrap();
        assert_eq!(credentials.party_id().unwrap().spiffe(), &party.id);
        assert_eq!(SigningKey::load(&own.join("sign.key")).unwrap().public(), party.sign);
        match party.kind {
            Kind::Relay => {
                let log = SigningKey::load(&own.join("log.key")).unwrap();
                let vkey = log.vkey(&example.trust.log_origin).unwrap();
                assert_eq!(example.roster.content().log.keys, [vkey]);
            }
            _ => {
                let witness = SigningKey::load(&own.join("witness.key")).unwrap();
                assert_eq!(Some(witness.public()), party.witness);
            }
        }
        // Each box has all that it needs to verify the roster by itself.
        let bundle = fs::read_to_string(own.join("trust.toml")).unwrap().parse().unwrap();
        assert_eq!(bundle, example.trust);
        let note = fs::read(own.join("roster.note")).unwrap();
        assert_eq!(roster_files::verify(&bundle, &[note]).unwrap(), example.roster);
        tls::load_root(&own.join("root.pem"), &bundle.root_key_sha256).unwrap();
    }
    assert!(folder.path().join("ca/root.key").exists());
}

#[test]
fn every_desk_of_an_example_reaches_its_relay_over_tcp() {
    let (folder, example) = example();
    let root = tls::load_root(&folder.path().join("root.pem"), &example.trust.root_key_sha256).unwrap();
    let credentials = |name: &str| Credentials::load(&folder.path().join(name)).unwrap();
    let server = tls::server_config(
        &credentials("relay"),
        &root,
        "mod.example",
        KeyExchange::Hybrid,
        &RevocationLists::default(),
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let relay = thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..5 {
            let (stream, _) = listener.accept().unwrap();
            tls::set_socket_options(&stream).unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(server.clone()).unwrap(), stream);
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).unwrap();
            seen.push(tls::peer(&stream.conn).unwrap().0);
            stream.write_all(&tls::channel_binding(&stream.conn).unwrap()).unwrap();
            stream.flush().unwrap();
        }
        seen
    });
    for name in ["hub", "idn", "mys", "phl", "vnm"] {
        let client =
            tls::client_config(&credentials(name), &root, "mod.example", KeyExchange::Hybrid).unwrap();
        let connection = ClientConnection::new(client, tls::server_name("mod.example").unwrap()).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        tls::set_socket_options(&stream).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        tls::raise_buffer_limit(&mut stream.conn);
        stream.write_all(b"bind").unwrap();
        let mut binding = [0; 32];
        stream.read_exact(&mut binding).unwrap();
        assert_eq!(binding, tls::channel_binding(&stream.conn).unwrap());
    }
    let seen: Vec<String> = relay.join().unwrap().iter().map(PartyId::to_string).collect();
    assert_eq!(seen[0], "spiffe://mod.example/hub");
    assert_eq!(seen[4], "spiffe://mod.example/mission/vnm");
}

#[test]
fn socket_options_are_set_on_the_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    tls::set_socket_options(&stream).unwrap();
    let socket = socket2::SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(25)));
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16 * 1024);
}

#[test]
fn holders_sign_one_after_the_other_and_one_alone_is_not_enough() {
    let (folder, example) = example();
    let draft = RosterDraft::next(&example.roster).unwrap().text().unwrap();
    let one = roster_files::sign(&draft, &[roster_key(folder.path(), 1)], &[]).unwrap();
    let bytes = |note: &pouch::note::Note| vec![first_note(folder.path()), note.to_bytes()];
    let error = roster_files::verify(&example.trust, &bytes(&one)).unwrap_err();
    assert!(
        matches!(error, PkiError::Roster(RosterError::Unsigned { found: 1, threshold: 2, .. })),
        "{error}"
    );

    // The same holder again counts once.
    let again = roster_files::sign(&one.to_string(), &[roster_key(folder.path(), 1)], &[]).unwrap();
    assert!(roster_files::verify(&example.trust, &bytes(&again)).is_err());

    let two = roster_files::sign(&one.to_string(), &[roster_key(folder.path(), 3)], &[]).unwrap();
    assert_eq!(roster_files::verify(&example.trust, &bytes(&two)).unwrap().version(), 2);
}

#[test]
fn a_key_of_nobody_signs_no_roster() {
    let (folder, example) = example();
    let draft = RosterDraft::next(&example.roster).unwrap().text().unwrap();
    for key in
        [SigningKey::generate().unwrap(), SigningKey::load(&folder.path().join("hub/sign.key")).unwrap()]
    {
        let error = roster_files::sign(&draft, &[key], &[]).unwrap_err();
        assert!(matches!(error, PkiError::NotRosterKey(_)), "{error}");
    }
}

#[test]
fn a_note_whose_text_we_would_not_write_is_not_signed() {
    let (folder, _) = example();
    let note = String::from_utf8(first_note(folder.path())).unwrap();
    let altered = note.replacen("format =", "# a line that no draft holds\nformat =", 1);
    let error = roster_files::sign(&altered, &[roster_key(folder.path(), 1)], &[]).unwrap_err();
    assert!(matches!(error, PkiError::Altered), "{error}");
}

#[test]
fn a_replaced_box_keeps_its_number_and_its_old_keys_never_return() {
    let (folder, example) = example();
    let (old_box, new_box) = (folder.path().join("idn"), folder.path().join("idn-new"));
    let applicant = pki::example_party("mission/idn", "IDN", "Embassy of the Republic of Indonesia");
    let request = pki::request(&new_box, &applicant).unwrap();
    let issued =
        Ca::open(&folder.path().join("ca")).unwrap().issue(&request, None, SystemTime::now()).unwrap();

    let mut draft = RosterDraft::next(&example.roster).unwrap();
    roster_files::add(&mut draft, Entry::new(&request, &issued)).unwrap();
    let roster = sign_and_verify(folder.path(), &example, &draft).unwrap();
    let party = roster.party_by_code("IDN").unwrap();
    assert_eq!((party.number, party.sign), (PartyNumber(3), request.sign));
    assert_eq!((party.clearance.as_str(), party.status), ("BLOC CONFIDENTIAL", Status::Active));
    for key in ["sign.key", "witness.key"] {
        let old = SigningKey::load(&old_box.join(key)).unwrap().public();
        assert!(draft.revoked_keys.contains(&old), "{key}");
    }
}

#[test]
fn a_version_that_changes_the_roster_keys_needs_the_former_ones_too() {
    let (folder, example) = example();
    let fresh = SigningKey::generate().unwrap();
    let mut draft = RosterDraft::next(&example.roster).unwrap();
    let former = draft.roster.keys.clone();
    draft.roster.keys[0] = fresh.vkey("roster.mod.example").unwrap();
    draft.retire_keys_of(&example.roster);
    let text = draft.text().unwrap();

    let key = |number| roster_key(folder.path(), number);
    let error = roster_files::sign(&text, &[key(1)], &[]).unwrap_err();
    assert!(matches!(error, PkiError::NotRosterKey(_)), "{error}");
    let signed = |keys: &[SigningKey]| {
        let note = roster_files::sign(&text, keys, &former).unwrap().to_bytes();
        roster_files::verify(&example.trust, &[first_note(folder.path()), note])
    };
    // Two of the former keys, of which only one stays; and the new one alone beside one that stays.
    assert!(matches!(signed(&[key(1), key(2)]), Err(PkiError::Roster(RosterError::Unsigned { .. }))));
    assert!(matches!(
        signed(&[fresh, key(2)]),
        Err(PkiError::Roster(RosterError::Unsigned { found: 1, .. }))
    ));
    assert_eq!(signed(&[key(1), key(2), key(3)]).unwrap().version(), 2);
}

#[test]
fn a_version_that_keeps_out_the_witnesses_of_the_one_before_is_warned_of() {
    let (folder, example) = example();
    let checked = |suspended: usize| {
        let mut draft = RosterDraft::next(&example.roster).unwrap();
        let witnesses = draft.parties.iter_mut().filter(|party| party.is_witness);
        witnesses.take(suspended).for_each(|party| party.status = Status::Suspended);
        let keys = [roster_key(folder.path(), 1), roster_key(folder.path(), 2)];
        let note = roster_files::sign(&draft.text().unwrap(), &keys, &[]).unwrap().to_bytes();
        fs::write(folder.path().join("next.note"), note).unwrap();
        let mut pouch = std::process::Command::new(env!("CARGO_BIN_EXE_pouch"));
        pouch.args(["roster", "check", "--trust", "relay/trust.toml", "roster.note", "next.note"]);
        let output = pouch.current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let too_many = example.roster.witnesses().count() - example.roster.quorum() + 1;
    assert!(!checked(too_many - 1).contains("Do not publish"));
    let words = checked(too_many);
    assert!(words.contains("Do not publish it") && words.contains("Take fewer"), "{words}");
}

#[test]
fn a_trust_bundle_is_made_only_of_a_roster_with_its_signatures() {
    let (folder, example) = example();
    let root = tls::read_certificates(&folder.path().join("root.pem")).unwrap().remove(0);
    let note = first_note(folder.path());
    assert_eq!(roster_files::trust_bundle(&note, &root).unwrap(), example.trust);
    let text = String::from_utf8(note).unwrap();
    let lines = text.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    assert!(matches!(
        roster_files::trust_bundle(lines.as_bytes(), &root),
        Err(PkiError::Roster(RosterError::Unsigned { .. }))
    ));
}

#[test]
fn a_roster_is_shown_in_words() {
    let (folder, _) = example();
    let shown = pki::show(&folder.path().join("roster.note"), SystemTime::now()).unwrap();
    assert!(shown.starts_with("roster version 1 of mod.example\n"), "{shown}");
    assert!(shown.contains("High Commission of Malaysia (active, witness)"), "{shown}");
    let draft = roster_files::init(&folder.path().join("other"), "other.example", 3, 2).unwrap();
    assert!(roster_files::show(&draft.text().unwrap()).unwrap().contains("2 of 3 keys must sign"));
}

#[test]
fn certificates_hold_what_the_documented_profiles_say() {
    let (folder, _) = example();
    let profiles: Profiles = toml::from_str(include_str!("../certs-example/profiles.toml")).unwrap();
    for (file, name, profile) in [
        ("ca/root.pem", "", &profiles.root),
        ("ca/issuing.pem", "", &profiles.issuing),
        ("relay/tls.pem", "a", &profiles.relay),
        ("hub/tls.pem", "", &profiles.hub),
        ("idn/tls.pem", "idn", &profiles.mission),
    ] {
        let der = tls::read_certificates(&folder.path().join(file)).unwrap().remove(0);
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let found = Profile::of(&certificate);
        let filled = |text: &String| text.replace("<td>", "mod.example").replace("<name>", name);
        let expected = Profile {
            subject: filled(&profile.subject),
            names: profile.names.iter().map(filled).collect(),
            ..profile.clone()
        };
        assert_eq!(found, expected, "{file}");
        assert_eq!(certificate.raw_serial().len(), 16, "{file}");
    }
}

#[derive(Deserialize)]
struct Profiles {
    root: Profile,
    issuing: Profile,
    relay: Profile,
    hub: Profile,
    mission: Profile,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Profile {
    subject: String,
    days: i64,
    ca: bool,
    path_length: Option<u32>,
    key_usage: Vec<String>,
    extended_key_usage: Vec<String>,
    names: Vec<String>,
}

impl Profile {
    fn of(certificate: &X509Certificate<'_>) -> Profile {
        let validity = certificate.validity();
        let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
        let usage = certificate.key_usage().unwrap().unwrap().value;
        type Bit = fn(&KeyUsage) -> bool;
        let usages: [(&str, Bit); 4] = [
            ("digitalSignature", KeyUsage::digital_signature),
            ("keyEncipherment", KeyUsage::key_encipherment),
            ("keyCertSign", KeyUsage::key_cert_sign),
            ("cRLSign", KeyUsage::crl_sign),
        ];
        let usages = usages.iter().filter(|(_, is_set)| is_set(usage));
        let extended = certificate.extended_key_usage().unwrap().map(|extension| extension.value);
        let purposes = [
            ("serverAuth", extended.is_some_and(|usage| usage.server_auth)),
            ("clientAuth", extended.is_some_and(|usage| usage.client_auth)),
            ("another", extended.is_some_and(|usage| usage.any || !usage.other.is_empty())),
        ];
        let names = certificate.subject_alternative_name().unwrap();
        let names = names.map(|names| names.value.general_names.iter().map(shown).collect());
        let basic = certificate.basic_constraints().unwrap().unwrap().value;
        Profile {
            subject: certificate.subject().to_string(),
            days: (seconds - 3600) / (24 * 3600),
            ca: basic.ca,
            path_length: basic.path_len_constraint,
            key_usage: usages.map(|(name, _)| (*name).to_owned()).collect(),
            extended_key_usage: purposes.iter().filter(|p| p.1).map(|p| p.0.to_owned()).collect(),
            names: names.unwrap_or_default(),
        }
    }
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI {uri}"),
        GeneralName::DNSName(name) => format!("DNS {name}"),
        other => format!("{other:?}"),
    }
}

fn example() -> (TempDir, Example) {
    let folder = TempDir::new().unwrap();
    let addresses = ["127.0.0.1:7443".to_owned()];
    let made = pki::make_example(folder.path(), &pki::example_parties(), &addresses, SystemTime::now());
    (folder, made.unwrap())
}

fn sign_and_verify(
    folder: &Path,
    example: &Example,
    draft: &RosterDraft,
) -> Result<pouch::roster::Roster, PkiError> {
    let keys = [roster_key(folder, 1), roster_key(folder, 2)];
    let note = roster_files::sign(&draft.text()?, &keys, &[])?.to_bytes();
    roster_files::verify(&example.trust, &[first_note(folder), note])
}

fn roster_key(folder: &Path, number: u32) -> SigningKey {
    SigningKey::load(&roster_files::key_path(&folder.join("roster"), number)).unwrap()
}

fn first_note(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("roster.note")).unwrap()
}
