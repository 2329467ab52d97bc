//! A ministry in small: relay, hub and two missions with keys, a roster, and what they send.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    audit::Checkpoint,
    batch::{self, Tag},
    keys::SigningKey,
    merkle::{self, Hash},
    note::Note,
    record::{
        administrative::{Act, AdministrativeLeaf, ChainHead},
        leaf::{Opening, OpeningKind},
    },
    roster::{
        BundleFormat, LabelPolicy, Party, PartyNumber, Roster, RosterDraft, RosterKeys, Topic, TrustBundle,
        verify_first,
    },
    wire::{
        DispatchId, EnvelopeHash, Position, Precedence, Role, SubmissionNumber, convert,
        envelope::{Addressee, Core, Envelope, Sealing, Wrap, header_bytes, join_wraps, wrap_leaf},
        pb,
        receipt::{ReceiptItem, ReceiptKind},
    },
};

pub(super) const DOMAIN: &str = "bloc.example";
pub(super) const ORIGIN: &str = "bloc.example/log";
pub(super) const RELAY: PartyNumber = PartyNumber(1);
pub(super) const MOD: PartyNumber = PartyNumber(2);
/// The desk under test.
pub(super) const IDN: PartyNumber = PartyNumber(3);
pub(super) const MYS: PartyNumber = PartyNumber(4);
const PARTIES: [(&str, &str); 4] =
    [("relay/a", "RELAY-A"), ("hub", "MOD"), ("mission/idn", "IDN"), ("mission/mys", "MYS")];

pub(super) struct World {
    keys: Vec<Arc<SigningKey>>,
    witnesses: Vec<Arc<SigningKey>>,
    log_key: SigningKey,
    roster_key: SigningKey,
    pub(super) note: Vec<u8>,
    pub(super) roster: Arc<Roster>,
    pub(super) trust: TrustBundle,
}

impl World {
    pub(super) fn new() -> World {
        let roster_key = SigningKey::generate().expect("random bytes");
        let keys: Vec<_> =
            PARTIES.iter().map(|_| Arc::new(SigningKey::generate().expect("random bytes"))).collect();
        let witnesses: Vec<_> =
            PARTIES.iter().map(|_| Arc::new(SigningKey::generate().expect("random bytes"))).collect();
        let log_key = SigningKey::generate().expect("random bytes");
        let vkey = roster_key.vkey("bloc.example/roster-1").expect("a name");
        let labels =
            LabelPolicy { policy: "BLOC".into(), classifications: vec!["OPEN".into(), "RESTRICTED".into()] };
        let signers = RosterKeys { threshold: 1, keys: vec![vkey] };
        let mut draft = RosterDraft::init(DOMAIN, signers, ORIGIN, labels);
        draft.log.keys = vec![log_key.vkey(ORIGIN).expect("a name")];
        for topic in ["maritime", "cyber"] {
            draft.topics.push(Topic { id: topic.into(), name: topic.into() });
        }
        for (((path, code), key), witness) in PARTIES.iter().zip(&keys).zip(&witnesses) {
            let number = draft.next_number();
            let id = format!("spiffe://{DOMAIN}/{path}").parse().expect("an id");
            let mut party = Party::new(number, id, code, code, key.public());
            if number != RELAY {
                party.witness = Some(witness.public());
                party.is_witness = number != MOD;
                party.topics = vec!["maritime".into()];
                party.clearance = "OPEN".into();
            }
            draft.add(party);
        }
        let note = signed_note(&roster_key, &draft);
        let trust = TrustBundle {
            format: BundleFormat::V1,
            trust_domain: DOMAIN.into(),
            root_key_sha256: Hash::ZERO,
            roster_version: 1,
            roster_hash: merkle::sha256(&note),
            log_origin: draft.log.origin.clone(),
            threshold: 1,
            roster_keys: draft.roster.keys.clone(),
        };
        let roster = Arc::new(verify_first(&note, &trust).expect("a first roster"));
        World { keys, witnesses, log_key, roster_key, note, roster, trust }
    }

    /// The key with which a party cosigns.
    pub(super) fn witness(&self, party: PartyNumber) -> &Arc<SigningKey> {
        &self.witnesses[party.0 as usize - 1]
    }

    /// A checkpoint that the log's key has signed.
    pub(super) fn checkpoint(&self, size: u64, root: Hash) -> Note {
        let text = Checkpoint { origin: ORIGIN.into(), size, root }.to_string();
        let mut note = Note::new(&text).expect("a checkpoint");
        note.add(self.log_key.sign_note(ORIGIN, &text).expect("a name")).expect("the first");
        note
    }

    pub(super) fn key(&self, party: PartyNumber) -> &Arc<SigningKey> {
        &self.keys[party.0 as usize - 1]
    }

    /// A version after the first, changed and signed.
    pub(super) fn next_note(&self, change: impl FnOnce(&mut RosterDraft)) -> Vec<u8> {
        let mut draft = RosterDraft::next(&self.roster).expect("versions are left");
        change(&mut draft);
        signed_note(&self.roster_key, &draft)
    }

    /// The frames that carry a roster note, in chunks of 3 KiB or less.
    pub(super) fn administrative(&self, position: u64, note: &[u8]) -> Vec<pb::Administrative> {
        let act = Act::Roster {
            version: 1,
            hash: merkle::sha256(note),
            length: u32::try_from(note.len()).expect("short"),
        };
        let leaf = AdministrativeLeaf { log_time_us: 1, previous: ChainHead::START, act }.encode();
        let chunks = note.chunks(500).scan(0, |offset, chunk| {
            let at = *offset;
            *offset += u32::try_from(chunk.len()).expect("short");
            Some((at, chunk))
        });
        let frame = |(offset, chunk): (u32, &[u8])| pb::Administrative {
            position,
            leaf: if offset == 0 { leaf.clone() } else { Bytes::new() },
            total_bytes: u32::try_from(note.len()).expect("short"),
            offset,
            chunk: Bytes::copy_from_slice(chunk),
        };
        chunks.map(frame).collect()
    }

    /// What `core` says for a plain envelope.
    pub(super) fn core(&self, sender: PartyNumber, to: PartyNumber, number: u64) -> Core {
        Core {
            trust_domain: DOMAIN.into(),
            id: DispatchId([u8::try_from(number % 251).expect("below 251"); 16]),
            sender,
            submission: SubmissionNumber(number),
            roster_version: self.roster.version(),
            roster_hash: self.roster.hash(),
            addressees: vec![
                Addressee { party: to, role: Role::To },
                Addressee { party: MYS, role: Role::Info },
            ],
            precedence_action: Precedence::Routine,
            precedence_info: Precedence::Routine,
            topic: "maritime".into(),
            label: "OPEN".into(),
            exercise: true,
            expires_s: 2_000_000_000,
            size_bucket: 0,
            commitment: None,
            attachments: Vec::new(),
            supersedes: None,
            checkpoint_size: 0,
            checkpoint_root: merkle::empty_root(),
            sealing: Sealing::Clear,
        }
    }

    /// Envelopes of one batch by the key of `signer`, as they are submitted.
    pub(super) fn submits(&self, signer: PartyNumber, cores: &[Core]) -> Vec<pb::Submit> {
        let wraps: Vec<Vec<Wrap>> = cores.iter().map(wraps_of).collect();
        let ciphertext = Bytes::from_static(b"dispatch");
        let headers: Vec<Bytes> = cores
            .iter()
            .zip(&wraps)
            .map(|(core, wraps)| {
                let leaves: Vec<Hash> = core
                    .addressees
                    .iter()
                    .zip(wraps)
                    .map(|(addressee, wrap)| wrap_leaf(addressee.party, wrap.generation, &wrap.bytes))
                    .collect();
                header_bytes(core, &ciphertext, &merkle::root(&leaves))
            })
            .collect();
        let leaves: Vec<Hash> =
            headers.iter().map(|header| batch::item_leaf(Tag::Envelope, header)).collect();
        let proofs = self.key(signer).sign_batch(DOMAIN, Tag::Envelope, &leaves);
        headers
            .into_iter()
            .zip(proofs)
            .zip(&wraps)
            .map(|((header, proof), wraps)| pb::Submit {
                header,
                proof: Some(convert::proof_frame(&proof)),
                ciphertext: ciphertext.clone(),
                wraps: join_wraps(wraps),
            })
            .collect()
    }

    /// The frame that delivers an envelope to its first addressee.
    pub(super) fn deliver(&self, signer: PartyNumber, core: &Core, position: u64) -> pb::Deliver {
        self.deliver_to(0, signer, core, position)
    }

    /// The frame that delivers an envelope to the addressee at this index.
    pub(super) fn deliver_to(
        &self,
        index: usize,
        signer: PartyNumber,
        core: &Core,
        position: u64,
    ) -> pb::Deliver {
        let submit = self.submits(signer, std::slice::from_ref(core)).remove(0);
        let hash = hash_of(&submit);
        let proof = convert::proof(submit.proof.as_ref()).expect("our own proof");
        let (envelope, _) = Envelope::from_submit(&submit, &proof).expect("our own envelope");
        let opening = opening(OpeningKind::Envelope, hash.0);
        convert::deliver_frame(Position(position), &envelope, index, Bytes::from_static(&[7; 32]), opening)
    }

    /// A receipt about envelopes of the desk under test.
    pub(super) fn receipt(&self, signer: PartyNumber, item: &ReceiptItem, position: u64) -> pb::Receipt {
        let bytes = item.encode();
        let leaf = batch::item_leaf(Tag::Receipt, &bytes);
        let proof = self.key(signer).sign_batch(DOMAIN, Tag::Receipt, &[leaf]).remove(0);
        let opening = match item.kind {
            ReceiptKind::Refused => opening(OpeningKind::Refusal, item.envelopes[0].0.0),
            ReceiptKind::Expired => opening(OpeningKind::Expiry, item.envelopes[0].0.0),
            _ => opening(OpeningKind::Receipts, leaf),
        };
        pb::Receipt {
            position,
            item: bytes,
            proof: Some(convert::proof_frame(&proof)),
            details: Bytes::new(),
            salt: Bytes::from_static(&[7; 32]),
            opening,
        }
    }
}

/// A receipt item by `addressee` for one envelope of the desk under test.
pub(super) fn item(kind: ReceiptKind, receiptor: PartyNumber, addressee: PartyNumber) -> ReceiptItem {
    let envelopes = vec![(EnvelopeHash(Hash([5; 32])), Position(9))];
    ReceiptItem { addressee, ..ReceiptItem::own(kind, receiptor, IDN, 1, 1, envelopes) }
}

pub(super) fn hash_of(submit: &pb::Submit) -> EnvelopeHash {
    EnvelopeHash(batch::item_leaf(Tag::Envelope, &submit.header))
}

pub(super) fn opening(kind: OpeningKind, hash: Hash) -> Bytes {
    Bytes::copy_from_slice(&Opening { kind, log_time_us: 1, roster_version: 1, hash }.encode())
}

fn wraps_of(core: &Core) -> Vec<Wrap> {
    let wrap = |addressee: &Addressee| Wrap {
        generation: 0,
        bytes: Bytes::from(format!("slip {}", addressee.party)),
    };
    core.addressees.iter().map(wrap).collect()
}

fn signed_note(key: &SigningKey, draft: &RosterDraft) -> Vec<u8> {
    let text = draft.text().expect("a sound draft");
    let mut note = Note::new(&text).expect("clean text");
    let signature = key.sign_note("bloc.example/roster-1", &text).expect("a name");
    note.add(signature).expect("one signature");
    note.to_bytes()
}
