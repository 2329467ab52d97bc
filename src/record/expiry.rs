//! An envelope that was taken out of mailboxes because its time is over: the relay's own record, from which
//! it signs a receipt for the sender and for each addressee that had not settled it.
//!
//! Header, big endian: `u64 position of the envelope || u32 relay || u32 sender || u8 n || n x (u32 addressee
//! || u8 precedence towards it, 1 ROUTINE to 4 FLASH)`. The opening's hash is the envelope hash.

use bytes::{Buf, BufMut, Bytes};

use crate::{
    limits::ADDRESSEES_MAX,
    merkle::{self, Hash},
    record::content::Traffic,
    roster::PartyNumber,
    wire::{
        EnvelopeHash, Malformed, Position, Precedence,
        receipt::{ReceiptItem, ReceiptKind},
    },
};

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredEnvelope {
    /// Salt and opening of its record.
    pub traffic: Traffic,
    /// Where the envelope stands.
    pub position: Position,
    /// The relay that says so.
    pub relay: PartyNumber,
    /// Who sent it.
    pub sender: PartyNumber,
    /// Who had not settled it, with the precedence towards each: 1 to 128.
    pub addressees: Vec<(PartyNumber, Precedence)>,
}

const HEAD_BYTES: usize = 8 + 4 + 4 + 1;
const ADDRESSEE_BYTES: usize = 4 + 1;

impl ExpiredEnvelope {
    /// The receipt for one addressee, which its sender gets too. Its reason is the precedence, by which the
    /// addressee knows the stream that has a gap.
    pub fn item(&self, index: usize) -> ReceiptItem {
        let (addressee, precedence) = self.addressees[index];
        let opening = &self.traffic.opening;
        ReceiptItem {
            kind: ReceiptKind::Expired,
            reason: u16::from(precedence_code(precedence)),
            receiptor: self.relay,
            sender: self.sender,
            addressee,
            time_us: opening.log_time_us,
            roster_version: opening.roster_version,
            checkpoint_size: 0,
            checkpoint_root: merkle::empty_root(),
            details_hash: Hash::ZERO,
            envelopes: vec![(EnvelopeHash(opening.hash), self.position)],
        }
    }

    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        size_of::<ExpiredEnvelope>() + self.addressees.len() * size_of::<(PartyNumber, Precedence)>()
    }

    /// The record's header.
    pub(super) fn header(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.addressees.len() * ADDRESSEE_BYTES);
        out.put_u64(self.position.0);
        out.put_u32(self.relay.0);
        out.put_u32(self.sender.0);
        out.put_u8(u8::try_from(self.addressees.len()).expect("at most 128 addressees"));
        for (party, precedence) in &self.addressees {
            out.put_u32(party.0);
            out.put_u8(precedence_code(*precedence));
        }
        out.into()
    }

    pub(super) fn from_header(traffic: Traffic, header: &[u8]) -> Result<ExpiredEnvelope, Malformed> {
        let wrong = Malformed::new("expiry's header", "has the wrong length");
        let (mut head, mut list) = header.split_at_checked(HEAD_BYTES).ok_or(wrong)?;
        let (position, relay, sender) =
            (Position(head.get_u64()), PartyNumber(head.get_u32()), PartyNumber(head.get_u32()));
        let count = usize::from(head.get_u8());
        if !(1..=ADDRESSEES_MAX).contains(&count) || list.len() != count * ADDRESSEE_BYTES {
            return Err(wrong);
        }
        let mut addressees = Vec::with_capacity(count);
        for _ in 0..count {
            let party = PartyNumber(list.get_u32());
            let precedence = precedence_from_code(list.get_u8().into())
                .ok_or(Malformed::new("expiry's precedence", "is none of the four"))?;
            addressees.push((party, precedence));
        }
        Ok(ExpiredEnvelope { traffic, position, relay, sender, addressees })
    }
}

/// 1 for ROUTINE to 4 for FLASH.
fn precedence_code(precedence: Precedence) -> u8 {
    precedence as u8 + 1
}

/// The precedence that the reason of an expired receipt names.
pub fn precedence_from_code(code: u16) -> Option<Precedence> {
    Precedence::HIGHEST_FIRST.into_iter().find(|precedence| u16::from(precedence_code(*precedence)) == code)
}
