//! The bloc that every run is about: a ministry, three missions, their keys and the rosters between them.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    sync::{Arc, LazyLock},
};

use data_encoding::BASE64;
use pouch::{
    audit::witness_name,
    identity::PartyId,
    keys::SigningKey,
    merkle::{self, Hash},
    note::{KeyKind, Note, Vkey},
    roster::{
        BundleFormat, LabelPolicy, Party, Roster, RosterDraft, RosterKeys, Status, Topic, TrustBundle,
        verify_next,
    },
};
use rcgen::{CertificateParams, SanType};

pub const DOMAIN: &str = "bloc.example";
pub const ORIGIN: &str = "bloc.example/log";
const ROSTER_KEY: &str = "bloc.example/roster-1";
/// The relay is party 1; the desks follow in this order.
pub const DESKS: [&str; 4] = ["MOD", "IDN", "MYS", "PHL"];
const PATHS: [&str; 5] = ["relay/a", "hub", "mission/idn", "mission/mys", "mission/phl"];
pub const RELAY_SERIAL: &str = "0a";
/// Cosignatures that a checkpoint needs: of three witnesses, none of whom lies, `floor((3 + 0) / 2) + 1`; of two as many.
pub const QUORUM: usize = 2;
/// Sign keys that a desk may have one after the other.
pub const KEYS_OF_A_DESK: usize = 3;

pub struct Bloc {
    pub relay_key: SigningKey,
    pub relay: PartyId,
    /// In the order of [`DESKS`]: the sign key of each, and those that replace it one after the other.
    pub keys: Vec<[Arc<SigningKey>; KEYS_OF_A_DESK]>,
    pub ids: Vec<PartyId>,
    /// In the order of [`DESKS`]: what each cosigns the audit log with.
    pub witnesses: Vec<Arc<SigningKey>>,
    /// Signs the audit log's checkpoints.
    pub log_key: SigningKey,
    pub first_note: Vec<u8>,
    pub trust: TrustBundle,
    roster_key: SigningKey,
}

/// The same for every run: keys cost time, and no run depends on which they are.
pub static BLOC: LazyLock<Bloc> = LazyLock::new(Bloc::new);

impl Bloc {
    fn new() -> Bloc {
        let folder = tempfile::tempdir().expect("temporary folder");
        // Made of its words, so that no tracked file looks as if it held one.
        let label = ["PRIVATE", "KEY"].join(" ");
        let key = |seed: u8| {
            // PKCS#8 of an Ed25519 key (RFC 8410), without the public half.
            let mut der = vec![
                0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
                0x20,
            ];
            der.extend([seed; 32]);
            let path = folder.path().join(seed.to_string());
            let text = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(&der));
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).expect("a new file");
            file.write_all(text.as_bytes()).expect("written");
            SigningKey::load(&path).expect("a key")
        };
        let (relay_key, roster_key, log_key) = (key(1), key(2), key(3));
        let witnesses: Vec<_> = (51..).take(DESKS.len()).map(|seed| Arc::new(key(seed))).collect();
        let desk_keys = |desk: u8| [1, 2, 3].map(|generation| Arc::new(key(10 * generation + desk)));
        let keys: Vec<_> = (0..).take(DESKS.len()).map(desk_keys).collect();
        let labels =
            LabelPolicy { policy: "BLOC".into(), classifications: vec!["OPEN".into(), "RESTRICTED".into()] };
        let signers =
            RosterKeys { threshold: 1, keys: vec![roster_key.vkey(ROSTER_KEY).expect("a sound name")] };
        let mut draft = RosterDraft::init(DOMAIN, signers, ORIGIN, labels);
        draft.log.keys = vec![log_key.vkey(ORIGIN).expect("a sound name")];
        draft.topics.push(Topic { id: "maritime".into(), name: "Maritime security".into() });
        for (index, path) in PATHS.iter().enumerate() {
            let id = format!("spiffe://{DOMAIN}/{path}").parse().expect("an id");
            let (code, sign) = match index.checked_sub(1) {
                None => ("RELAY-A", relay_key.public()),
                Some(desk) => (DESKS[desk], keys[desk][0].public()),
            };
            let mut party = Party::new(draft.next_number(), id, code, code, sign);
            if index > 0 {
                party.witness = Some(witnesses[index - 1].public());
                party.is_witness = index > 1;
                party.topics = vec!["maritime".into()];
                party.clearance = "OPEN".into();
            }
            draft.add(party);
        }
        let first_note = signed(&roster_key, &draft);
        let trust = TrustBundle {
            format: BundleFormat::V1,
            trust_domain: DOMAIN.into(),
            root_key_sha256: Hash::ZERO,
            roster_version: 1,
            roster_hash: merkle::sha256(&first_note),
            log_origin: draft.log.origin.clone(),
            threshold: 1,
            roster_keys: draft.roster.keys.clone(),
        };
        let [relay, desks @ ..] = PATHS.map(certified);
        let ids = desks.to_vec();
        Bloc { relay_key, relay, keys, ids, witnesses, log_key, first_note, trust, roster_key }
    }

    /// The version after `roster`, as the ministry wants it.
    pub fn next_note(&self, roster: &Roster, wanted: &Wanted) -> (Vec<u8>, Roster) {
        let mut draft = RosterDraft::next(roster).expect("versions are left");
        for party in &mut draft.parties {
            if let Some(desk) = desk_of(&party.code) {
                party.status = wanted.status(desk);
                party.sign = self.keys[desk][wanted.keys[desk]].public();
            }
        }
        draft.retire_keys_of(roster);
        let note = signed(&self.roster_key, &draft);
        let next = verify_next(&note, roster).expect("signed and numbered as it must be");
        (note, next)
    }

    /// How many of the witnesses have cosigned a checkpoint.
    pub fn cosigned_by(&self, note: &[u8]) -> usize {
        let note = Note::parse(note).expect("a note of the relay's");
        let keys = self.ids.iter().zip(&self.witnesses).map(|(id, key)| {
            let key = Vkey::new(&witness_name(id.spiffe()), KeyKind::Cosignature, key.public().0);
            key.expect("a SPIFFE ID names a witness")
        });
        let keys: Vec<Vkey> = keys.collect();
        note.verify(&keys).map_or(0, |signers| signers.len())
    }

    /// Whether a roster says what the ministry wants.
    pub fn is_as_wanted(&self, roster: &Roster, wanted: &Wanted) -> bool {
        roster.parties().all(|party| {
            desk_of(&party.code).is_none_or(|desk| {
                party.status == wanted.status(desk)
                    && party.sign == self.keys[desk][wanted.keys[desk]].public()
            })
        })
    }
}

/// What the ministry wants the roster to say.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Desks that are suspended.
    pub suspended: Vec<usize>,
    /// Which of its keys each desk has.
    pub keys: [usize; DESKS.len()],
}

impl Wanted {
    fn status(&self, desk: usize) -> Status {
        if self.suspended.contains(&desk) { Status::Suspended } else { Status::Active }
    }
}

/// The desk of a party's code.
pub fn desk_of(code: &str) -> Option<usize> {
    DESKS.iter().position(|known| *known == code)
}

/// As TLS would have verified it.
fn certified(path: &str) -> PartyId {
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://{DOMAIN}/{path}");
    params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().expect("an ASCII name")));
    let key = rcgen::KeyPair::generate().expect("random bytes");
    let certificate = params.self_signed(&key).expect("a certificate");
    PartyId::from_verified(certificate.der()).expect("one URI name")
}

fn signed(key: &SigningKey, draft: &RosterDraft) -> Vec<u8> {
    let text = draft.text().expect("a sound draft");
    let mut note = Note::new(&text).expect("clean text");
    note.add(key.sign_note(ROSTER_KEY, &text).expect("a sound name")).expect("one signature");
    note.to_bytes()
}
