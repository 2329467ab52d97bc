//! One dispatch of the bloc in its log, and the file that proves it.

#[path = "../support/unlit_vessel.rs"]
mod unlit_vessel;

use bytes::Bytes;
use pouch::{
    audit::{Checkpoint, FiledReceipt, FiledRoster, LeafProof, LogFacts, ProofFile, SignedItem},
    batch::{Tag, item_leaf},
    merkle::{Hash, Tree, empty_root, leaf_hash, root, sha256},
    record::{
        administrative::{Act, AdministrativeLeaf, ChainHead},
        leaf::{Opening, OpeningKind},
    },
    roster::{PartyNumber, Roster, RosterDraft, verify_first, verify_next},
    seal::{self, Slip},
    tiles::{Folder, View, roster_file},
    wire::{
        DispatchId, EnvelopeHash, Position, Precedence, Role, SubmissionNumber,
        envelope::{Addressee, Core, Sealing},
        order::{Order, OrderKind, SignedOrder},
        pb,
        receipt::{ReceiptItem, ReceiptKind},
    },
};
use prost::Message;

use super::bloc::{Bloc, Files, ORIGIN};

pub const RELAY: PartyNumber = PartyNumber(1);
/// The hub, which is TO; Indonesia sends, Malaysia is INFO.
pub const MOD: PartyNumber = PartyNumber(2);
pub const IDN: PartyNumber = PartyNumber(3);
pub const MYS: PartyNumber = PartyNumber(4);
/// Where the envelope stands.
pub const PLACE: u64 = 3;

/// A log that holds a dispatch from Indonesia and its receipts.
pub struct World {
    pub bloc: Bloc,
    /// Rising; the first is the bloc's own.
    pub rosters: Vec<Roster>,
    notes: Vec<Vec<u8>>,
    leaves: Vec<Bytes>,
    header: Bytes,
    ciphertext: Bytes,
    /// Signed item, details, salt and opening of the leaf, index.
    signed: Vec<Signed>,
}

struct Signed {
    bytes: Bytes,
    proof: pouch::batch::Proof,
    details: Vec<u8>,
    extra: Vec<u8>,
    index: u64,
}

/// What the next roster version changes, and whether it is in force before the envelope.
pub type Change = (bool, fn(&mut RosterDraft));

/// What a world is made with.
pub struct Plan {
    /// Version by which the sender addressed.
    pub header: u32,
    /// Version by which the relay judged.
    pub opening: u32,
    /// Version that receipts name.
    pub receipt: u32,
    /// Changes that make versions 2 and on; each comes into force before the envelope if `true`.
    pub later: Vec<Change>,
    /// Codes of the missions; IDN and MYS are among them.
    pub missions: &'static [&'static str],
    /// Whether the relay refuses it.
    pub is_refused: bool,
    /// What is ordered behind the receipts, by whose key, from order 1 on.
    pub orders: Vec<(&'static str, OrderKind)>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            header: 1,
            opening: 1,
            receipt: 1,
            later: Vec::new(),
            missions: &["IDN", "MYS", "PHL"],
            is_refused: false,
            orders: Vec::new(),
        }
    }
}

impl World {
    pub fn new(plan: Plan) -> World {
        let bloc = Bloc::of(plan.missions);
        let mut notes = vec![bloc.note.clone()];
        let mut rosters = vec![verify_first(&bloc.note, &bloc.trust).unwrap()];
        for (_, change) in &plan.later {
            notes.push(bloc.next_roster(rosters.last().unwrap(), change));
            rosters.push(verify_next(notes.last().unwrap(), rosters.last().unwrap()).unwrap());
        }
        let mut world = World {
            bloc,
            rosters,
            notes,
            leaves: Vec::new(),
            header: Bytes::new(),
            ciphertext: Bytes::new(),
            signed: Vec::new(),
        };
        let mut chain = ChainHead::START;
        let mut administer = |world: &mut World, act| {
            let leaf = AdministrativeLeaf { log_time_us: 7, previous: chain, act };
            chain = leaf.head_at(Position(world.leaves.len() as u64));
            world.leaves.push(leaf.encode());
        };
        let roster = |world: &World, version: usize| {
            let note = &world.notes[version - 1];
            Act::Roster { version: version as u32, hash: sha256(note), length: note.len() as u32 }
        };
        let act = roster(&world, 1);
        administer(&mut world, act);
        let mut version = 1;
        let before = plan.later.iter().take_while(|(before, _)| *before).count();
        for _ in 0..before {
            version += 1;
            let act = roster(&world, version);
            administer(&mut world, act);
        }
        while (world.leaves.len() as u64) < PLACE {
            administer(&mut world, Act::Started { software: "pouch".into() });
        }
        world.send(&plan);
        for _ in before..plan.later.len() {
            version += 1;
            let act = roster(&world, version);
            administer(&mut world, act);
        }
        if plan.is_refused {
            world.refuse(&plan);
        } else {
            world.receive(&plan);
        }
        for (number, (by, kind)) in (1..).zip(&plan.orders) {
            let order = Order { number, kind: *kind, salt: [8; 32] };
            let proof =
                world.bloc.signers[*by].sign_batch("bloc.example", Tag::Order, &[order.leaf()]).remove(0);
            administer(&mut world, Act::Order(Box::new(SignedOrder { order, proof })));
        }
        administer(&mut world, Act::Stopped);
        world
    }

    fn send(&mut self, plan: &Plan) {
        let roster = &self.rosters[plan.header as usize - 1];
        let core = Core {
            roster_version: roster.version(),
            roster_hash: roster.hash(),
            ..unlit_vessel::core(IDN, MOD, MYS)
        };
        let draft = unlit_vessel::draft(IDN, MOD, MYS);
        let slip = Slip { epoch: 1, number: 1, previous: Hash::ZERO, voided: Vec::new() };
        let dispatch = seal::compose(&draft, "IDN/2026/0001", "241015ZNOV26");
        let sealed = seal::seal(&core, dispatch, &[slip.clone(), slip]);
        let leaf = sealed.hash().0;
        let proof = self.bloc.signers["IDN"].sign_batch("bloc.example", Tag::Envelope, &[leaf]).remove(0);
        let submit = sealed.submit(&proof);
        (self.header, self.ciphertext) = (submit.header.clone(), submit.ciphertext);
        let kind = if plan.is_refused { OpeningKind::Refusal } else { OpeningKind::Envelope };
        self.log(plan.opening, kind, leaf, vec![(submit.header, proof, Vec::new())]);
    }

    fn receive(&mut self, plan: &Plan) {
        let named = (EnvelopeHash(item_leaf(Tag::Envelope, &self.header)), Position(PLACE));
        let item = |kind, party| {
            ReceiptItem::own(kind, party, IDN, 1_795_000_000_000_000, plan.receipt, vec![named])
        };
        let said = pb::Details { who: "Watch officer".into(), remark: "Coast guard informed".into() };
        let details = [vec![6; 32], said.encode_to_vec()].concat();
        let acknowledged =
            ReceiptItem { details_hash: sha256(&details), ..item(ReceiptKind::Acknowledged, MOD) };
        let other = ReceiptItem { sender: MYS, ..item(ReceiptKind::Delivered, MOD) };
        self.receipts(
            plan,
            "MOD",
            vec![(item(ReceiptKind::Delivered, MOD), Vec::new()), (other, Vec::new())],
        );
        self.receipts(plan, "MYS", vec![(item(ReceiptKind::Delivered, MYS), Vec::new())]);
        self.receipts(plan, "MOD", vec![(acknowledged, details)]);
    }

    /// What the relay signs when it sends its refusal, which has the envelope's own leaf.
    fn refuse(&mut self, plan: &Plan) {
        let hash = EnvelopeHash(item_leaf(Tag::Envelope, &self.header));
        let item = ReceiptItem {
            kind: ReceiptKind::Refused,
            reason: u16::try_from(i32::from(pb::RefusalCode::Topic)).unwrap(),
            addressee: IDN,
            ..ReceiptItem::own(
                ReceiptKind::Refused,
                RELAY,
                IDN,
                1,
                plan.receipt,
                vec![(hash, Position::NONE)],
            )
        };
        let bytes = item.encode();
        let leaf = item_leaf(Tag::Receipt, &bytes);
        let proof = self.bloc.signers["RELAY"].sign_batch("bloc.example", Tag::Receipt, &[leaf]).remove(0);
        let (extra, index) = (self.signed[0].extra.clone(), self.signed[0].index);
        self.signed.push(Signed { bytes, proof, details: Vec::new(), extra, index });
    }

    /// Logs receipts that one desk signs as a batch.
    pub fn receipts(&mut self, plan: &Plan, by: &str, items: Vec<(ReceiptItem, Vec<u8>)>) {
        let leaves: Vec<Hash> =
            items.iter().map(|(item, _)| item_leaf(Tag::Receipt, &item.encode())).collect();
        let proofs = self.bloc.signers[by].sign_batch("bloc.example", Tag::Receipt, &leaves);
        let signed = items.into_iter().zip(proofs);
        let signed = signed.map(|((item, details), proof)| (item.encode(), proof, details)).collect();
        self.log(plan.opening, OpeningKind::Receipts, root(&leaves), signed);
    }

    fn log(
        &mut self,
        roster_version: u32,
        kind: OpeningKind,
        hash: Hash,
        signed: Vec<(Bytes, pouch::batch::Proof, Vec<u8>)>,
    ) {
        let index = self.leaves.len() as u64;
        let salt = sha256(&index.to_be_bytes()).0;
        let opening = Opening { kind, log_time_us: 1_795_000_000_000_000 + index, roster_version, hash };
        self.leaves.push(Bytes::copy_from_slice(&opening.leaf(&salt)));
        let extra = [&salt[..], &opening.encode()].concat();
        for (bytes, proof, details) in signed {
            self.signed.push(Signed { bytes, proof, details, extra: extra.clone(), index });
        }
    }

    fn tree(&self) -> Tree {
        Tree::new(&self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect::<Vec<_>>())
    }

    /// The checkpoint of the whole log with so many cosignatures.
    pub fn checkpoint(&self, cosignatures: usize) -> String {
        let size = self.leaves.len() as u64;
        let checkpoint = Checkpoint { origin: ORIGIN.into(), size, root: self.tree().root() };
        String::from_utf8(self.bloc.checkpoint(&checkpoint, cosignatures)).unwrap()
    }

    /// The file that proves it all, with the receipts that are Indonesia's.
    pub fn file(&self) -> ProofFile {
        let (tree, checkpoint) = (self.tree(), self.checkpoint(3));
        let leaf = |extra: &[u8], index: u64| LeafProof {
            extra: Some(extra.to_vec()),
            index,
            path: tree.inclusion_path(index as usize),
            checkpoint: checkpoint.clone(),
        };
        let item = |signed: &Signed| SignedItem {
            bytes: signed.bytes.to_vec(),
            signature: signed.proof.clone(),
            leaf: leaf(&signed.extra, signed.index),
        };
        let is_ours =
            |signed: &&Signed| ReceiptItem::decode(&signed.bytes).is_ok_and(|item| item.sender == IDN);
        let receipts = self.signed[1..].iter().filter(is_ours);
        let receipts =
            receipts.map(|signed| FiledReceipt { item: item(signed), details: signed.details.clone() });
        let rosters = (1..).zip(&self.notes).map(|(version, note)| FiledRoster {
            version,
            note: note.clone(),
            leaf: self.roster_place(version).map(|index| leaf(&self.leaves[index as usize], index)),
        });
        let mut file = ProofFile {
            envelope: item(&self.signed[0]),
            ciphertext: Some(self.ciphertext.to_vec()),
            receipts: receipts.collect(),
            rosters: rosters.collect(),
        };
        file.sort();
        file
    }

    fn roster_place(&self, wanted: u32) -> Option<u64> {
        (0..).zip(&self.leaves).find_map(|(index, leaf)| match AdministrativeLeaf::decode(leaf).ok()?.act {
            Act::Roster { version, .. } if version == wanted => Some(index),
            _ => None,
        })
    }

    /// The log as files.
    pub fn files(&self) -> Files {
        let files = Files::default();
        let mut view = View::open(std::sync::Arc::new(files.clone()), None).unwrap();
        self.leaves.iter().for_each(|leaf| view.take(leaf.clone()).unwrap());
        view.write().unwrap();
        view.publish(self.checkpoint(3).as_bytes()).unwrap();
        for (version, note) in (1..).zip(&self.notes) {
            files.put(&[(roster_file(version), note.clone())]).unwrap();
        }
        files
    }

    /// What that log says, verified from the bundle.
    pub fn facts(&self, file: &ProofFile) -> LogFacts {
        let files = self.files();
        let found = pouch::tiles::verify(&files, &self.bloc.trust, None).unwrap();
        pouch::tiles::facts(&files, &found, file.leaves().map(|leaf| leaf.index)).unwrap()
    }
}
