//! Two or three desks and a relay of ten lines: stores exchange real envelopes, signatures verified.

mod expired;
mod addressing;
mod claims;
mod clocks;
mod inbox;
mod kills;
mod logs;
mod opening;
mod orders;
mod outbox;
mod proofs;
mod receipts;
mod restored;
mod rotation;
mod sealing;
mod upgrade;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::{
    batch::{PublicKey, Verifier},
    desk::view::NewDispatch,
    keys::SigningKey,
    merkle::{Hash, sha256},
    note::Note,
    record::leaf::{Opening, OpeningKind},
    roster::{
        BundleFormat, LabelPolicy, Party, PartyNumber, RosterDraft, RosterKeys, Topic, verify_first,
        verify_next,
    },
    wire::{
        convert::deliver_frame,
        envelope::{Core, VerifiedEnvelope, parse_header},
        pb,
        receipt::VerifiedReceipts,
    },
};

const DOMAIN: &str = "bloc.example";
const PARTIES: [(&str, &str); 4] =
    [("relay/a", "RELAY-A"), ("hub", "MOD"), ("mission/idn", "IDN"), ("mission/mys", "MYS")];

/// 24 November 2026, 10:15 UTC.
fn now() -> Timestamp {
    "2026-11-24T10:15:00Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_secs(seconds)
}

/// Roster, keys and trust bundle of a small bloc.
struct Bloc {
    roster_key: SigningKey,
    signs: BTreeMap<&'static str, SigningKey>,
    witnesses: BTreeMap<&'static str, SigningKey>,
    log: SigningKey,
    roster: Arc<Roster>,
    note: Vec<u8>,
    bundle: TrustBundle,
}

impl Bloc {
    fn new() -> Bloc {
        let roster_key = SigningKey::generate().unwrap();
        let keys = RosterKeys { threshold: 1, keys: vec![roster_key.vkey("bloc.example/roster").unwrap()] };
        let classifications = vec!["BLOC UNCLASSIFIED".to_owned(), "BLOC RESTRICTED".to_owned()];
        let labels = LabelPolicy { policy: "BLOC".to_owned(), classifications };
        let mut draft = RosterDraft::init(DOMAIN, keys.clone(), "bloc.example/log", labels);
        let log = SigningKey::generate().unwrap();
        draft.log.keys = vec![log.vkey("bloc.example/log").unwrap()];
        draft.relay_addresses = vec!["relay.bloc.example:7443".to_owned()];
        for id in ["maritime", "cyber"] {
            draft.topics.push(Topic { id: id.to_owned(), name: id.to_owned() });
        }
        let (mut signs, mut witnesses) = (BTreeMap::new(), BTreeMap::new());
        for (path, code) in PARTIES {
            let (sign, witness) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
            let mut party = party(draft.next_number(), path, code, sign.public());
            party.witness = party.witness.map(|_| witness.public());
            draft.add(party);
            signs.insert(code, sign);
            witnesses.insert(code, witness);
        }
        let note = signed(&roster_key, &draft);
        let bundle = TrustBundle {
            format: BundleFormat::V1,
            trust_domain: DOMAIN.to_owned(),
            root_key_sha256: Hash::ZERO,
            roster_version: 1,
            roster_hash: sha256(&note),
            log_origin: "bloc.example/log".to_owned(),
            threshold: 1,
            roster_keys: keys.keys,
        };
        let roster = Arc::new(verify_first(&note, &bundle).unwrap());
        Bloc { roster_key, signs, witnesses, log, roster, note, bundle }
    }

    /// The next version of the roster, with its note.
    fn next(&self, change: impl FnOnce(&mut RosterDraft)) -> (Arc<Roster>, Vec<u8>) {
        let mut draft = RosterDraft::next(&self.roster).unwrap();
        change(&mut draft);
        let note = signed(&self.roster_key, &draft);
        (Arc::new(verify_next(&note, &self.roster).unwrap()), note)
    }

    /// A desk that holds the roster.
    fn desk(&self, code: &'static str) -> Desk {
        let mut desk = self.desk_without_roster(code);
        desk.store.learn_roster(None, self.roster.clone(), &self.note).unwrap();
        desk
    }

    fn desk_without_roster(&self, code: &'static str) -> Desk {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), id(code), &self.bundle).unwrap();
        Desk { store, folder, code }
    }

    fn sign(&self, code: &str) -> &SigningKey {
        &self.signs[code]
    }

    fn number(&self, code: &str) -> PartyNumber {
        self.roster.party_by_code(code).unwrap().number
    }

    /// Seals all that waits at a desk.
    fn seal(&self, desk: &mut Desk) -> Vec<SealedSubmit> {
        desk.store.seal_next(self.sign(desk.code), Room { envelopes: 512, bytes: 1 << 20 }, now()).unwrap()
    }

    /// What the relay delivers of a submission, with its signature and every hash verified.
    fn delivery(&self, submit: &SealedSubmit, to: &str, position: u64) -> Delivery {
        let sender = self.roster.party(core(submit).sender).unwrap();
        let mut verifier = Verifier::new(4);
        let verified = VerifiedEnvelope::verify(&submit.submit, DOMAIN, &sender.sign, &mut verifier).unwrap();
        let index = verified.core().addressees.iter().position(|a| a.party == self.number(to)).unwrap();
        let (salt, opening) = (Bytes::from_static(&[7; 32]), Bytes::from_static(&[8; 45]));
        let frame = deliver_frame(Position(position), verified.envelope(), index, salt, opening);
        Delivery {
            position: Position(position),
            envelope_hash: verified.hash(),
            role: verified.core().addressees[index].role,
            core: verified.core().clone(),
            checked: Ok(()),
            frame,
        }
    }

    /// The relay's answer to a Stored frame.
    fn stored_at(&self, stored: &pb::Stored, from: &str, position: u64) -> pb::StoredAt {
        let key = self.sign(from).public();
        let hash = VerifiedReceipts::verify(stored.clone(), DOMAIN, &key).unwrap().root();
        let opening = Opening { kind: OpeningKind::Receipts, log_time_us: 1, roster_version: 1, hash };
        let (salt, opening) = (Bytes::from_static(&[7; 32]), Bytes::copy_from_slice(&opening.encode()));
        pb::StoredAt { number: stored.number, position, salt, opening }
    }

    /// Signs all that a desk owes in one frame, which the relay takes at this position.
    fn settle(&self, desk: &mut Desk, position: u64) -> pb::Stored {
        let stored = desk.store.make_stored(self.sign(desk.code), now()).unwrap().unwrap();
        desk.store.stored_at(&self.stored_at(&stored, desk.code, position), now()).unwrap();
        stored
    }

    /// The receipts of a Stored frame, with their signature verified.
    fn receipts(&self, stored: pb::Stored, from: &str, position: u64) -> Vec<ReceivedReceipt> {
        let key = self.sign(from).public();
        let batch = VerifiedReceipts::verify(stored, DOMAIN, &key).unwrap().into_batch();
        let receipt = |(index, part): (usize, &crate::wire::receipt::ReceiptPart)| ReceivedReceipt {
            position: Position(position),
            part: part.clone(),
            proof: batch.proof(index),
            salt: Bytes::from_static(&[7; 32]),
            opening: Bytes::from_static(&[8; 45]),
        };
        batch.parts.iter().enumerate().map(receipt).collect()
    }
}

/// A desk's store in a folder of its own.
struct Desk {
    store: Store,
    folder: TempDir,
    code: &'static str,
}

impl Desk {
    /// Hands in a dispatch and gives its short id.
    fn send(&mut self, new: NewDispatch) -> String {
        self.store.enqueue(new, now()).unwrap().short
    }

    /// What a kill at this instant leaves, opened again: the files as they are, without the orderly close.
    fn killed(self, bloc: &Bloc) -> Desk {
        self.copied(bloc)
    }

    /// A copy of the store as it is, which goes on beside this one.
    fn copied(&self, bloc: &Bloc) -> Desk {
        let folder = TempDir::new().unwrap();
        for file in ["desk.sqlite", "desk.sqlite-wal"] {
            std::fs::copy(self.folder.path().join(file), folder.path().join(file)).unwrap();
        }
        let store = Store::open(folder.path(), id(self.code), &bloc.bundle).unwrap();
        Desk { store, folder, code: self.code }
    }

    fn status(&self) -> crate::desk::view::Status {
        self.store.status(&crate::desk::status::LinkStatus::starting(now()), now()).unwrap()
    }
}

fn id(code: &str) -> SpiffeId {
    let (path, _) = PARTIES.iter().find(|(_, known)| *known == code).unwrap();
    format!("spiffe://{DOMAIN}/{path}").parse().unwrap()
}

fn party(number: PartyNumber, path: &str, code: &str, sign: PublicKey) -> Party {
    let id = format!("spiffe://{DOMAIN}/{path}").parse().unwrap();
    let mut party = Party::new(number, id, code, code, sign);
    if path != "relay/a" {
        party.witness = Some(SigningKey::generate().unwrap().public());
        party.topics = vec!["maritime".to_owned(), "cyber".to_owned()];
        party.clearance = "BLOC RESTRICTED".to_owned();
    }
    party
}

fn signed(key: &SigningKey, draft: &RosterDraft) -> Vec<u8> {
    let text = draft.text().unwrap();
    let mut note = Note::new(&text).unwrap();
    note.add(key.sign_note("bloc.example/roster", &text).unwrap()).unwrap();
    note.to_bytes()
}

/// What Welcome says to the first incarnation of a store.
fn welcome_facts(last_accepted: u64, last_stored: u64) -> WelcomeFacts {
    WelcomeFacts {
        last_accepted,
        last_stored,
        incarnation_known: 1,
        is_new_incarnation: false,
        other_roster: None,
        clock_off_s: None,
    }
}

/// What a Welcome has the desk send again.
fn resent(resumption: Result<Resumption, StoreError>) -> Resend {
    match resumption.unwrap() {
        Resumption::GoesOn(resend) => resend,
        other => panic!("{other:?}"),
    }
}

/// A dispatch about a vessel.
fn dispatch(to: &str, precedence: &str, subject: &str) -> NewDispatch {
    NewDispatch {
        to: vec![to.to_owned()],
        topic: "maritime".to_owned(),
        precedence: precedence.to_owned(),
        subject: subject.to_owned(),
        body: format!("{subject}, two miles east of the anchorage.\n"),
        exercise: true,
        ..NewDispatch::default()
    }
}

fn core(submit: &SealedSubmit) -> Core {
    parse_header(&submit.submit.header).unwrap().0
}

fn hash(submit: &SealedSubmit) -> Hash {
    crate::batch::item_leaf(crate::batch::Tag::Envelope, &submit.submit.header)
}

fn accepted(submit: &SealedSubmit, position: u64) -> pb::Accepted {
    pb::Accepted {
        submission: submit.number,
        envelope_hash: Bytes::copy_from_slice(hash(submit).as_bytes()),
        position,
        salt: Bytes::from_static(&[7; 32]),
        opening: Bytes::from_static(&[8; 45]),
    }
}

fn refused(submit: &SealedSubmit, code: pb::RefusalCode) -> pb::Refused {
    pb::Refused {
        submission: submit.number,
        envelope_hash: Bytes::copy_from_slice(hash(submit).as_bytes()),
        code: u32::try_from(i32::from(code)).unwrap(),
        sentence: "no".to_owned(),
        ..pb::Refused::default()
    }
}
