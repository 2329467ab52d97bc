//! What the relay says, held against signatures, the roster and the log's openings. Arithmetic over
//! bytes: nothing here is kept but by the batch verifier.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    batch::{self, BatchError, Proof, PublicKey, Tag},
    desk::store::{Delivery, ReceivedReceipt},
    merkle::{self, Hash},
    record::{
        SALT_BYTES,
        administrative::AdministrativeLeaf,
        leaf::{Opening, OpeningKind},
    },
    roster::{PartyNumber, Roster, SignKeys},
    wire::{
        EnvelopeHash, Malformed, Position, convert, envelope,
        pb::{self, frame::Kind},
        receipt::{ReceiptItem, ReceiptKind, ReceiptPart, SetAsideReason},
    },
};

/// Why something that the relay said is not believed. The relay is at fault, or whoever it speaks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The signature does not verify.
    #[error(transparent)]
    Signature(#[from] BatchError),
    /// The signer may not say this, or this desk is not concerned.
    #[error("{0}")]
    Wrong(&'static str),
}

/// What the link verifies by: this desk in the newest roster, and the keys of all versions.
pub(super) struct Judge<'a> {
    pub(super) roster: &'a Roster,
    pub(super) keys: &'a SignKeys,
    pub(super) own: PartyNumber,
    pub(super) verifier: &'a mut batch::Verifier,
}

impl Judge<'_> {
    /// Checks an envelope for this desk. One that fails is still a delivery, to be set aside: it
    /// must neither be lost nor stop later ones.
    ///
    /// # Errors
    /// [`Unproven`] where it is no envelope for this desk at all, so that no receipt could name it.
    pub(super) fn delivery(&mut self, frame: pb::Deliver) -> Result<Delivery, Unproven> {
        let (core, _) = envelope::parse_header(&frame.header)?;
        let addressee = core.addressees.iter().find(|addressee| addressee.party == self.own);
        let role = addressee.ok_or(Unproven::Wrong("this desk is no addressee of the envelope"))?.role;
        let envelope_hash = EnvelopeHash(batch::item_leaf(Tag::Envelope, &frame.header));
        let checked = self.check_delivery(&frame, &core, envelope_hash);
        Ok(Delivery { position: Position(frame.position), envelope_hash, core, role, checked, frame })
    }

    fn check_delivery(
        &mut self,
        frame: &pb::Deliver,
        core: &envelope::Core,
        hash: EnvelopeHash,
    ) -> Result<(), SetAsideReason> {
        let sender = self.roster.party(core.sender).ok_or(SetAsideReason::NotPermitted)?;
        let opening = opens(&frame.salt, &frame.opening, OpeningKind::Envelope, hash.0);
        let opening = opening.map_err(|_| SetAsideReason::Malformed)?;
        let key = self.key_at(core.sender, &opening).map_err(|_| SetAsideReason::BadSignature)?;
        let proof = convert::proof(frame.proof.as_ref()).map_err(|_| SetAsideReason::BadSignature)?;
        self.signed(Tag::Envelope, &key, hash.0, &proof).map_err(|_| SetAsideReason::BadSignature)?;
        let parts = convert::delivered_parts(frame).map_err(|_| SetAsideReason::Malformed)?;
        if parts.addressee != self.own {
            return Err(SetAsideReason::Malformed);
        }
        // An older roster may have allowed more: then the relay's check at submission stands.
        let permitted = core.roster_version != self.roster.version()
            || (self.roster.may_use_topic(sender, &core.topic) && self.roster.cleared(sender, &core.label));
        if permitted { Ok(()) } else { Err(SetAsideReason::NotPermitted) }
    }

    /// Checks a receipt: its signer is the only one whose word counts for this step, its signature is
    /// that signer's, and the log's opening names it.
    ///
    /// # Errors
    /// [`Unproven`]; the receipt proves nothing then.
    pub(super) fn receipt(&mut self, frame: pb::Receipt) -> Result<ReceivedReceipt, Unproven> {
        let part = ReceiptPart::parse(frame.item, frame.details)?;
        self.concerns_us(&part.item)?;
        self.is_rightful(&part.item)?;
        let proof = convert::proof(frame.proof.as_ref())?;
        let leaf = batch::item_leaf(Tag::Receipt, &part.bytes);
        let opening = opens_receipt((&frame.salt, &frame.opening), &part.item, leaf, &proof)?;
        let key = match part.item.kind {
            // The relay signs what is its own when it sends it, whenever the record was made.
            ReceiptKind::Refused | ReceiptKind::Expired => self.newest_key(part.item.receiptor)?,
            ReceiptKind::Delivered
            | ReceiptKind::SetAside
            | ReceiptKind::Read
            | ReceiptKind::Acknowledged
            | ReceiptKind::Withdrawn => self.key_at(part.item.receiptor, &opening)?,
        };
        self.signed(Tag::Receipt, &key, leaf, &proof)?;
        let position = Position(frame.position);
        Ok(ReceivedReceipt { position, part, proof, salt: frame.salt, opening: frame.opening })
    }

    /// Checks a refusal of the envelope with this hash: signed by the relay, for this code; and where it is a record,
    /// that the log's opening names it.
    ///
    /// # Errors
    /// [`Unproven`]; the envelope is not refused then.
    pub(super) fn refused(&mut self, frame: &pb::Refused, hash: EnvelopeHash) -> Result<(), Unproven> {
        // As the store will read it: a refusal has no details.
        let ReceiptPart { item, .. } = ReceiptPart::parse(frame.item.clone(), Bytes::new())?;
        let names_it = matches!(*item.envelopes, [(named, _)] if named == hash);
        let says_so = item.kind == ReceiptKind::Refused && u32::from(item.reason) == frame.code;
        if !names_it || !says_so || item.sender != self.own {
            return Err(Unproven::Wrong("the refusal's signed item says something else"));
        }
        self.is_rightful(&item)?;
        if frame.recorded {
            opens(&frame.salt, &frame.opening, OpeningKind::Refusal, hash.0)?;
        }
        let key = self.newest_key(item.receiptor)?;
        let proof = convert::proof(frame.proof.as_ref())?;
        self.signed(Tag::Receipt, &key, batch::item_leaf(Tag::Receipt, &frame.item), &proof)
    }

    fn signed(&mut self, tag: Tag, key: &PublicKey, leaf: Hash, proof: &Proof) -> Result<(), Unproven> {
        Ok(self.verifier.verify(self.roster.trust_domain(), tag, key, leaf, proof)?)
    }

    fn concerns_us(&self, item: &ReceiptItem) -> Result<(), Unproven> {
        let concerned = match item.kind {
            ReceiptKind::Delivered
            | ReceiptKind::SetAside
            | ReceiptKind::Read
            | ReceiptKind::Acknowledged
            | ReceiptKind::Refused => item.sender == self.own,
            ReceiptKind::Withdrawn | ReceiptKind::Expired => {
                item.sender == self.own || item.addressee == self.own
            }
        };
        if concerned { Ok(()) } else { Err(Unproven::Wrong("the receipt is not for this desk")) }
    }

    /// The key that the party had when the record was made: what waited at the relay while a key was
    /// replaced is as good as before. The relay held signer and key together under that very roster.
    fn key_at(&self, party: PartyNumber, opening: &Opening) -> Result<PublicKey, Unproven> {
        self.keys.at(party, opening.roster_version).copied().ok_or(NOT_IN_ROSTER)
    }

    fn newest_key(&self, party: PartyNumber) -> Result<PublicKey, Unproven> {
        Ok(self.roster.party(party).ok_or(NOT_IN_ROSTER)?.sign)
    }

    /// Whether the receiptor is the one party whose word counts for this step (FORMATS 7).
    fn is_rightful(&self, item: &ReceiptItem) -> Result<(), Unproven> {
        let relay = self.roster.relay();
        let rightful = match item.kind {
            ReceiptKind::Delivered
            | ReceiptKind::SetAside
            | ReceiptKind::Read
            | ReceiptKind::Acknowledged => Some(item.addressee),
            ReceiptKind::Withdrawn => Some(item.sender),
            ReceiptKind::Refused | ReceiptKind::Expired => relay.map(|relay| relay.number),
        };
        if rightful == Some(item.receiptor) {
            return Ok(());
        }
        Err(Unproven::Wrong("the receiptor may not say this"))
    }
}

/// Checks that Accepted is about the envelope with this hash, and that its opening names it.
///
/// # Errors
/// [`Unproven`]; the envelope is not accepted then.
pub(super) fn accepted(frame: &pb::Accepted, hash: EnvelopeHash) -> Result<(), Unproven> {
    if *frame.envelope_hash != *hash.0.as_bytes() {
        return Err(Unproven::Wrong("another envelope was accepted under this number"));
    }
    opens(&frame.salt, &frame.opening, OpeningKind::Envelope, hash.0).map(|_| ())
}

/// Log time of the record that a frame tells of; `None` where it tells of none. Microseconds since 1970.
pub(super) fn log_time_us(frame: &Kind) -> Option<u64> {
    let opening = match frame {
        Kind::Accepted(frame) => &frame.opening,
        Kind::Deliver(frame) => &frame.opening,
        Kind::StoredAt(frame) => &frame.opening,
        Kind::Receipt(frame) => &frame.opening,
        Kind::Refused(frame) if frame.recorded => &frame.opening,
        Kind::Administrative(frame) => {
            return AdministrativeLeaf::decode(&frame.leaf).ok().map(|leaf| leaf.log_time_us);
        }
        _ => return None,
    };
    Opening::decode(opening).ok().map(|opening| opening.log_time_us)
}

/// The alarm for a log whose time is ahead.
pub(super) fn log_time_is_ahead(ahead: Duration) -> String {
    format!(
        "the audit log's time is {} s ahead of this machine's clock: check this one with `timedatectl`; if it is right, \
         the relay writes a false time: mail goes on, save this desk's folder and telephone the ministry",
        ahead.as_secs()
    )
}

/// The alarm for a delivery that is none.
pub(super) fn no_envelope(position: u64, problem: &Unproven) -> String {
    format!(
        "the relay delivered something at position {position} that is no envelope for this desk ({problem}); other mail goes on; \
         save this desk's folder, and tell the ministry"
    )
}

/// The alarm for a receipt that is none.
pub(super) fn no_receipt(position: u64, problem: &Unproven) -> String {
    format!(
        "the relay delivered a receipt at position {position} that proves nothing ({problem}); mail goes on; save this \
         desk's folder, and tell the ministry"
    )
}

const NOT_IN_ROSTER: Unproven = Unproven::Wrong("the signer is not in the roster");

/// A salt of another length moves the border to the opening: the leaf would be the same, and no proof file could show it.
fn opens(salt: &[u8], opening: &[u8], kind: OpeningKind, hash: Hash) -> Result<Opening, Unproven> {
    let opening = Opening::decode(opening)?;
    let fits = salt.len() == SALT_BYTES && opening.kind == kind && opening.hash == hash;
    if fits { Ok(opening) } else { Err(Unproven::Wrong("the log's opening names something else")) }
}

/// The opening of receipts names their batch's root, that of a refusal or an expiry the envelope.
fn opens_receipt(
    (salt, opening): (&[u8], &[u8]),
    item: &ReceiptItem,
    leaf: Hash,
    proof: &Proof,
) -> Result<Opening, Unproven> {
    match (item.kind, &*item.envelopes) {
        (ReceiptKind::Refused, [(hash, _)]) => return opens(salt, opening, OpeningKind::Refusal, hash.0),
        (ReceiptKind::Expired, [(hash, _)]) => return opens(salt, opening, OpeningKind::Expiry, hash.0),
        (ReceiptKind::Refused | ReceiptKind::Expired, _) => {
            return Err(Unproven::Wrong("a receipt of the relay's own names more than one envelope"));
        }
        _ => {}
    }
    let (index, count) = (u64::from(proof.index), u64::from(proof.count));
    let root =
        merkle::root_from_inclusion(leaf, index, count, &proof.path).map_err(|_| BatchError::PathLength)?;
    opens(salt, opening, OpeningKind::Receipts, root)
}
