//! The desks of a small bloc, their keys, and what they sign.

use bytes::Bytes;
use rcgen::{CertificateParams, SanType};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::{
    audit::Checkpoint,
    batch::{Proof, PublicKey, Tag, item_leaf, signed_bytes},
    identity::PartyId,
    merkle::{self, Hash, Tree, sha256},
    note::{KeyKind, Note, NoteSignature, Vkey, cosigned_bytes, signed_bytes as note_signed_bytes},
    roster::{
        BundleFormat, LabelPolicy, Party, PartyKind, PartyNumber, RosterDraft, RosterKeys, Topic, TrustBundle,
    },
    session::hello::{Binding, End},
    wire::{
        DispatchId, EnvelopeHash, Position, Precedence, Role, SubmissionNumber,
        convert::proof_frame,
        envelope::{Addressee, Core, Sealing, Wrap, header_bytes, join_wraps, wrap_leaf},
        order::{Order, OrderKind},
        pb,
        receipt::{ReceiptItem, ReceiptKind, ReceiptPart, join_parts},
    },
};

pub(crate) const DOMAIN: &str = "bloc.example";
/// When the tests begin: microseconds since 1970.
pub(crate) const START_US: u64 = 1_790_000_000_000_000;

/// A party of the roster below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Desk {
    pub(crate) number: PartyNumber,
    pub(crate) code: &'static str,
    path: &'static str,
    /// Its sign key is made from it.
    seed: u8,
}

const RELAY: Desk = Desk { number: PartyNumber(1), code: "RELAY", path: "relay/a", seed: 11 };
pub(crate) const MOD: Desk = Desk { number: PartyNumber(2), code: "MOD", path: "hub", seed: 12 };
pub(crate) const IDN: Desk = Desk { number: PartyNumber(3), code: "IDN", path: "mission/idn", seed: 13 };
pub(crate) const MYS: Desk = Desk { number: PartyNumber(4), code: "MYS", path: "mission/mys", seed: 14 };
pub(crate) const PHL: Desk = Desk { number: PartyNumber(5), code: "PHL", path: "mission/phl", seed: 15 };
/// A certificate that no roster knows.
pub(crate) const STRANGER: Desk =
    Desk { number: PartyNumber(99), code: "STRANGER", path: "mission/xyz", seed: 16 };
pub(crate) const DESKS: [Desk; 4] = [MOD, IDN, MYS, PHL];

pub(crate) fn code_of(number: PartyNumber) -> &'static str {
    [RELAY, MOD, IDN, MYS, PHL].iter().find(|desk| desk.number == number).map_or("?", |desk| desk.code)
}

pub(crate) fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey::checked(pair(seed).public_key().as_ref()).unwrap()
}

fn sign_one(seed: u8, tag: Tag, leaf: Hash) -> Proof {
    let signature = pair(seed).sign(&signed_bytes(DOMAIN, tag, 1, &leaf));
    Proof { count: 1, index: 0, path: Vec::new(), signature: signature.as_ref().try_into().unwrap() }
}

impl Desk {
    /// With another sign key.
    pub(crate) fn signing_with(self, seed: u8) -> Desk {
        Desk { seed, ..self }
    }

    pub(crate) fn key(&self) -> PublicKey {
        public(self.seed)
    }

    /// As TLS would have verified it.
    pub(crate) fn id(&self) -> PartyId {
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://{DOMAIN}/{}", self.path);
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        PartyId::from_verified(certificate.der()).unwrap()
    }

    /// A first contact: incarnation 1, the roster of the bundle in hand.
    pub(crate) fn hello(&self) -> pb::Hello {
        pb::Hello {
            protocol: 1,
            software: "desk of a test".to_owned(),
            role: 1,
            incarnation: 1,
            instance: Bytes::from_static(&[1; 16]),
            store_id: Bytes::from(vec![self.seed; 16]),
            roster_version: 1,
            ..pb::Hello::default()
        }
    }

    /// Signs a Hello for the connection with this exporter.
    pub(crate) fn signed_hello(&self, mut hello: pb::Hello, exporter: [u8; 32]) -> pb::Hello {
        let binding = Binding {
            exporter,
            end: End::Desk,
            incarnation: hello.incarnation,
            instance: (&*hello.instance).try_into().unwrap(),
            checkpoint: hello.checkpoint.clone(),
        };
        hello.proof = Some(proof_frame(&sign_one(self.seed, Tag::Hello, binding.leaf())));
        hello
    }

    /// What any desk may write: ROUTINE, about maritime security, under version 1 of the roster.
    pub(crate) fn core(&self, number: u64, to: &[Desk]) -> Core {
        let addressee = |desk: &Desk| Addressee { party: desk.number, role: Role::To };
        Core {
            trust_domain: DOMAIN.to_owned(),
            id: DispatchId([u8::try_from(number % 251).unwrap(); 16]),
            sender: self.number,
            submission: SubmissionNumber(number),
            roster_version: 1,
            roster_hash: sha256(&first_note()),
            addressees: to.iter().map(addressee).collect(),
            precedence_action: Precedence::Routine,
            precedence_info: Precedence::Routine,
            topic: "maritime".to_owned(),
            label: "BLOC RESTRICTED".to_owned(),
            exercise: true,
            expires_s: START_US / 1_000_000 + 86_400,
            size_bucket: 0,
            commitment: None,
            attachments: Vec::new(),
            supersedes: None,
            checkpoint_size: 0,
            checkpoint_root: merkle::empty_root(),
            sealing: Sealing::Clear,
        }
    }

    /// The envelope of a core, signed alone.
    pub(crate) fn submit(&self, core: &Core) -> pb::Submit {
        self.submit_text(core, &Bytes::from(format!("text {}", core.submission.0)))
    }

    pub(crate) fn submit_text(&self, core: &Core, text: &Bytes) -> pb::Submit {
        let wrap = |addressee: &Addressee| Wrap {
            generation: 0,
            bytes: Bytes::from(format!("slip for {}", addressee.party)),
        };
        let wraps: Vec<Wrap> = core.addressees.iter().map(wrap).collect();
        let leaf_of = |(addressee, wrap): (&Addressee, &Wrap)| wrap_leaf(addressee.party, 0, &wrap.bytes);
        let leaves: Vec<Hash> = core.addressees.iter().zip(&wraps).map(leaf_of).collect();
        let header = header_bytes(core, text, &Tree::new(&leaves).root());
        let proof = sign_one(self.seed, Tag::Envelope, item_leaf(Tag::Envelope, &header));
        pb::Submit {
            header,
            proof: Some(proof_frame(&proof)),
            ciphertext: text.clone(),
            wraps: join_wraps(&wraps),
        }
    }

    /// An order that this desk signs.
    pub(crate) fn order(&self, request: u64, number: u32, kind: OrderKind) -> pb::Order {
        let order = Order { number, kind, salt: [9; 32] };
        let proof = proof_frame(&sign_one(self.seed, Tag::Order, order.leaf()));
        pb::Order { request, item: order.encode(), proof: Some(proof) }
    }

    /// What this desk says of envelopes of one sender.
    pub(crate) fn receipt(
        &self,
        kind: ReceiptKind,
        sender: Desk,
        envelopes: &[(EnvelopeHash, Position)],
    ) -> ReceiptItem {
        ReceiptItem::own(kind, self.number, sender.number, START_US, 1, envelopes.to_vec())
    }

    /// The Stored frame of some receipts.
    pub(crate) fn stored(&self, number: u64, items: &[ReceiptItem]) -> pb::Stored {
        let part = |item: &ReceiptItem| ReceiptPart {
            bytes: item.encode(),
            details: Bytes::new(),
            item: item.clone(),
        };
        let parts: Vec<ReceiptPart> = items.iter().map(part).collect();
        let leaves: Vec<Hash> = parts.iter().map(|part| item_leaf(Tag::Receipt, &part.bytes)).collect();
        let count = u8::try_from(parts.len()).unwrap();
        let signed = signed_bytes(DOMAIN, Tag::Receipt, count, &merkle::root(&leaves));
        pb::Stored {
            number,
            count: count.into(),
            items: join_parts(&parts),
            signature: Bytes::copy_from_slice(pair(self.seed).sign(&signed).as_ref()),
        }
    }
}

/// The name of an envelope.
pub(crate) fn hash_of(submit: &pb::Submit) -> EnvelopeHash {
    EnvelopeHash(item_leaf(Tag::Envelope, &submit.header))
}

/// Version 1: relay, ministry and three missions, one roster key.
pub(crate) fn first_draft() -> RosterDraft {
    let classifications = ["BLOC UNCLASSIFIED", "BLOC RESTRICTED", "BLOC CONFIDENTIAL"].map(str::to_owned);
    let labels = LabelPolicy { policy: "BLOC".to_owned(), classifications: classifications.to_vec() };
    let keys = RosterKeys { threshold: 1, keys: vec![roster_key()] };
    let mut draft = RosterDraft::init(DOMAIN, keys, ORIGIN, labels);
    draft.log.keys = vec![Vkey::new(ORIGIN, KeyKind::Ed25519, public(LOG_SEED).0).unwrap()];
    draft.relay_addresses = vec!["relay.bloc.example:7443".to_owned()];
    for id in ["maritime", "cyber", "peacekeeping"] {
        draft.topics.push(Topic { id: id.to_owned(), name: id.to_owned() });
    }
    for desk in [RELAY, MOD, IDN, MYS, PHL] {
        let id = format!("spiffe://{DOMAIN}/{}", desk.path).parse().unwrap();
        let mut party = Party::new(desk.number, id, desk.code, desk.code, desk.key());
        if party.kind != PartyKind::Relay {
            party.witness = Some(public(desk.seed + 100));
            party.topics = vec!["maritime".to_owned(), "cyber".to_owned()];
            party.clearance = "BLOC RESTRICTED".to_owned();
        }
        draft.add(party);
    }
    draft.parties[1].topics.push("peacekeeping".to_owned());
    draft.parties[1].clearance = "BLOC CONFIDENTIAL".to_owned();
    draft
}

/// Version 1 as a signed note.
pub(crate) fn first_note() -> Bytes {
    sign_roster(&first_draft())
}

/// The version after another note's, changed.
pub(crate) fn next_note(before: &Bytes, change: impl FnOnce(&mut RosterDraft)) -> Bytes {
    let note = Note::parse(before).unwrap();
    let mut draft = RosterDraft::parse(note.text()).unwrap();
    draft.version += 1;
    draft.previous = Some(sha256(before));
    change(&mut draft);
    sign_roster(&draft)
}

/// What the relay was started with.
pub(crate) fn bundle() -> TrustBundle {
    TrustBundle {
        format: BundleFormat::V1,
        trust_domain: DOMAIN.to_owned(),
        root_key_sha256: sha256(b"root key"),
        roster_version: 1,
        roster_hash: sha256(&first_note()),
        log_origin: ORIGIN.to_owned(),
        threshold: 1,
        roster_keys: vec![roster_key()],
    }
}

/// A checkpoint that the log's key has signed.
pub(crate) fn checkpoint_note(size: u64, root: Hash) -> Bytes {
    checkpoint_note_of(ORIGIN, size, root)
}

/// The same of a log of another name.
pub(crate) fn checkpoint_note_of(origin: &str, size: u64, root: Hash) -> Bytes {
    let text = Checkpoint { origin: origin.to_owned(), size, root }.to_string();
    let mut note = Note::new(&text).unwrap();
    let key = Vkey::new(origin, KeyKind::Ed25519, public(LOG_SEED).0).unwrap();
    let blob = pair(LOG_SEED).sign(note_signed_bytes(&text)).as_ref().to_vec();
    note.add(NoteSignature { name: origin.to_owned(), key_id: key.key_id(), blob }).unwrap();
    note.to_bytes().into()
}

impl Desk {
    /// Its cosignature of a checkpoint.
    pub(crate) fn cosign(&self, checkpoint: &Checkpoint) -> NoteSignature {
        let (seed, name) = (self.seed + 100, format!("{DOMAIN}/{}", self.path));
        let key = Vkey::new(&name, KeyKind::Cosignature, public(seed).0).unwrap();
        let signature = pair(seed).sign(&cosigned_bytes(7, &checkpoint.to_string()));
        let blob = [7_u64.to_be_bytes().as_slice(), signature.as_ref()].concat();
        NoteSignature { name, key_id: key.key_id(), blob }
    }
}

const ORIGIN: &str = "bloc.example/log";
pub(crate) const LOG_SEED: u8 = 2;
const ROSTER_SEED: u8 = 1;

fn roster_key() -> Vkey {
    Vkey::new("bloc.example/roster", KeyKind::Ed25519, public(ROSTER_SEED).0).unwrap()
}

fn sign_roster(draft: &RosterDraft) -> Bytes {
    let text = draft.text().unwrap();
    let mut note = Note::new(&text).unwrap();
    let blob = pair(ROSTER_SEED).sign(note_signed_bytes(&text)).as_ref().to_vec();
    let key = roster_key();
    note.add(NoteSignature { name: key.name().to_owned(), key_id: key.key_id(), blob }).unwrap();
    note.to_bytes().into()
}
