//! A desk made by hand: what it signs is well formed but for what a test changes. It keeps nothing and
//! follows no rule.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pouch::{
    batch::{Tag, item_leaf},
    keys::SigningKey,
    merkle::{Hash, empty_root},
    roster::{PartyNumber, Roster},
    seal::{self, Slip},
    session::hello::{Binding, End, PROTOCOL},
    wire::{
        DispatchId, EnvelopeHash, Position, Precedence, Role, SubmissionNumber,
        convert::proof_frame,
        envelope::{Addressee, Core, Sealing},
        pb,
        receipt::{ReceiptItem, ReceiptKind, ReceiptPart, join_parts},
    },
};

/// Who it is, and what it signs with.
pub struct Peer<'a> {
    /// Rules of the bloc, and its trust domain.
    pub roster: &'a Roster,
    /// As the roster numbers it.
    pub number: PartyNumber,
    /// The roster's key for it, or another.
    pub key: &'a SigningKey,
}

impl Peer<'_> {
    /// A Hello for the connection with this exporter, as of a first contact.
    pub fn hello(&self, exporter: [u8; 32]) -> pb::Hello {
        self.hello_with(exporter, Bytes::new())
    }

    /// The same with a checkpoint of the log.
    pub fn hello_with(&self, exporter: [u8; 32], checkpoint: Bytes) -> pb::Hello {
        let instance = [1; 16];
        let binding =
            Binding { exporter, end: End::Desk, incarnation: 1, instance, checkpoint: checkpoint.clone() };
        pb::Hello {
            protocol: PROTOCOL,
            software: "a desk made by hand".to_owned(),
            role: End::Desk.code().into(),
            incarnation: 1,
            instance: Bytes::copy_from_slice(&instance),
            store_id: Bytes::from_static(&[2; 16]),
            roster_version: self.roster.version(),
            roster_hash: Bytes::copy_from_slice(self.roster.hash().as_bytes()),
            checkpoint,
            proof: Some(self.sign_one(Tag::Hello, binding.leaf())),
            ..pb::Hello::default()
        }
    }

    /// What any desk may write, an hour from `now` at the latest.
    pub fn core(&self, number: u64, to: &[PartyNumber], now: SystemTime) -> Core {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let content = self.roster.content();
        Core {
            trust_domain: self.roster.trust_domain().to_owned(),
            id: DispatchId([u8::try_from(number % 251).expect("below 251"); 16]),
            sender: self.number,
            submission: SubmissionNumber(number),
            roster_version: self.roster.version(),
            roster_hash: self.roster.hash(),
            addressees: to.iter().map(|party| Addressee { party: *party, role: Role::To }).collect(),
            precedence_action: Precedence::Routine,
            precedence_info: Precedence::Routine,
            topic: content.topics[0].id.clone(),
            label: content.labels.classifications[0].clone(),
            exercise: true,
            expires_s: (now + Duration::from_secs(3600)).as_secs(),
            size_bucket: 0,
            commitment: None,
            attachments: Vec::new(),
            supersedes: None,
            checkpoint_size: 0,
            checkpoint_root: empty_root(),
            sealing: Sealing::Clear,
        }
    }

    /// The envelope of a core, signed alone, with any bytes as its dispatch.
    pub fn submit(&self, core: &Core, dispatch: &[u8]) -> pb::Submit {
        let slip = Slip { epoch: 1, number: core.submission.0, previous: Hash::ZERO, voided: Vec::new() };
        let slips = vec![slip; core.addressees.len()];
        let sealed = seal::seal(core, Bytes::copy_from_slice(dispatch), &slips);
        let leaf = sealed.hash().0;
        let mut proofs = self.key.sign_batch(self.roster.trust_domain(), Tag::Envelope, &[leaf]);
        sealed.submit(&proofs.remove(0))
    }

    /// A header signed anew after a test changed it.
    pub fn sign_header(&self, header: Bytes, submit: pb::Submit) -> pb::Submit {
        let proof = self.sign_one(Tag::Envelope, item_leaf(Tag::Envelope, &header));
        pb::Submit { header, proof: Some(proof), ..submit }
    }

    /// What this desk says of envelopes of one sender.
    pub fn receipt(
        &self,
        kind: ReceiptKind,
        sender: PartyNumber,
        envelopes: &[(EnvelopeHash, Position)],
    ) -> ReceiptItem {
        ReceiptItem::own(kind, self.number, sender, 1, self.roster.version(), envelopes.to_vec())
    }

    /// The Stored frame of 1 to 64 receipts.
    pub fn stored(&self, number: u64, items: &[ReceiptItem]) -> pb::Stored {
        let parts: Vec<ReceiptPart> = items
            .iter()
            .map(|item| ReceiptPart { bytes: item.encode(), details: Bytes::new(), item: item.clone() })
            .collect();
        let leaves: Vec<Hash> = parts.iter().map(|part| item_leaf(Tag::Receipt, &part.bytes)).collect();
        let proofs = self.key.sign_batch(self.roster.trust_domain(), Tag::Receipt, &leaves);
        pb::Stored {
            number,
            count: u32::try_from(parts.len()).expect("at most 64"),
            items: join_parts(&parts),
            signature: Bytes::copy_from_slice(&proofs[0].signature),
        }
    }

    fn sign_one(&self, tag: Tag, leaf: Hash) -> pb::BatchProof {
        proof_frame(&self.key.sign_batch(self.roster.trust_domain(), tag, &[leaf]).remove(0))
    }
}
