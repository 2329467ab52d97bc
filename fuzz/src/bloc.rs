//! A bloc whose keys never change, so that an input means the same in every run.

use std::{path::Path, sync::LazyLock};

use bytes::Bytes;
use data_encoding::BASE64;
use pouch::{
    identity::PartyId,
    keys::{SigningKey, write_private},
    merkle::sha256,
    note::{Note, Vkey},
    roster::{
        BundleFormat, LabelPolicy, Party, PartyKind, PartyNumber, Roster, RosterDraft, RosterKeys, Topic,
        TrustBundle, verify_first,
    },
};
use rcgen::{CertificateParams, KeyPair, SanType};

/// Its trust domain.
pub const DOMAIN: &str = "bloc.example";
const ROSTER_KEY_NAME: &str = "bloc.example/roster";
/// Path in the SPIFFE ID and code of each party, in the order of their numbers from 1.
const PARTIES: [(&str, &str); 5] = [
    ("relay/a", "RELAY"),
    ("hub", "MOD"),
    ("mission/idn", "IDN"),
    ("mission/mys", "MYS"),
    ("mission/phl", "PHL"),
];

/// One desk of it.
pub struct Desk {
    /// As its certificate names it.
    pub id: PartyId,
    /// As the roster numbers it.
    pub number: PartyNumber,
    /// Its sign key.
    pub sign: SigningKey,
}

/// Keys, the first roster, and what a relay trusts.
pub struct Bloc {
    /// All but the relay: ministry, then missions.
    pub desks: Vec<Desk>,
    /// Signs rosters.
    pub roster_key: SigningKey,
    /// Version 1.
    pub roster: Roster,
    /// Its signed note.
    pub note: Bytes,
    /// What a relay starts with.
    pub bundle: TrustBundle,
}

/// The one there is.
pub static BLOC: LazyLock<Bloc> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("temporary folder");
    let roster_key = key(folder.path(), 1);
    let labels = LabelPolicy {
        policy: "BLOC".to_owned(),
        classifications: vec!["BLOC UNCLASSIFIED".to_owned(), "BLOC RESTRICTED".to_owned()],
    };
    let keys = RosterKeys { threshold: 1, keys: vec![roster_vkey(&roster_key)] };
    let mut draft = RosterDraft::init(DOMAIN, keys, "bloc.example/log", labels);
    draft.relay_addresses = vec!["relay.bloc.example:7443".to_owned()];
    draft.topics.push(Topic { id: "maritime".to_owned(), name: "Maritime security".to_owned() });
    let mut desks = Vec::new();
    for (number, (path, code)) in (1u8..).zip(PARTIES) {
        let sign = key(folder.path(), 10 + number);
        let uri = format!("spiffe://{DOMAIN}/{path}");
        let id = uri.parse().expect("an id");
        let number = PartyNumber(number.into());
        let mut party = Party::new(number, id, code, code, sign.public());
        if party.kind != PartyKind::Relay {
            party.witness = Some(key(folder.path(), 110 + u8::try_from(number.0).expect("small")).public());
            party.topics = vec!["maritime".to_owned()];
            party.clearance = "BLOC RESTRICTED".to_owned();
            desks.push(Desk { id: certified(&uri), number, sign });
        }
        draft.add(party);
    }
    let note = sign_note(&roster_key, &draft.text().expect("a draft")).expect("a text of ours");
    let bundle = TrustBundle {
        format: BundleFormat::V1,
        trust_domain: DOMAIN.to_owned(),
        root_key_sha256: sha256(b"root key"),
        roster_version: 1,
        roster_hash: sha256(&note),
        log_origin: "bloc.example/log".to_owned(),
        threshold: 1,
        roster_keys: vec![roster_vkey(&roster_key)],
    };
    let roster = verify_first(&note, &bundle).expect("the first roster is sound");
    Bloc { desks, roster_key, roster, note, bundle }
});

/// A note over any text that a note may have, signed by the roster key.
pub fn sign_note(key: &SigningKey, text: &str) -> Option<Bytes> {
    let mut note = Note::new(text).ok()?;
    note.add(key.sign_note(ROSTER_KEY_NAME, text).ok()?).ok()?;
    Some(note.to_bytes().into())
}

fn roster_vkey(key: &SigningKey) -> Vkey {
    key.vkey(ROSTER_KEY_NAME).expect("a name that a signer may have")
}

/// A key that follows from its seed alone, by way of a file, which is how keys come in.
fn key(folder: &Path, seed: u8) -> SigningKey {
    // PKCS#8 of Ed25519 without the public half (RFC 8410).
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend([seed; 32]);
    let base64 = BASE64.encode(&pkcs8);
    let path = folder.join(format!("{seed}.key"));
    // Made of its words, so that no tracked file looks as if it held one.
    let label = ["PRIVATE", "KEY"].join(" ");
    let pem = format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n");
    write_private(&path, pem.as_bytes()).expect("key written");
    SigningKey::load(&path).expect("key read")
}

/// A party as TLS would have verified it.
fn certified(uri: &str) -> PartyId {
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
    let pair = KeyPair::generate().expect("a key pair");
    let certificate = params.self_signed(&pair).expect("a certificate");
    PartyId::from_verified(certificate.der()).expect("one id in it")
}
