//! Orders of the hub: instructions that narrow (FORMATS 3).
//!
//! Item, big endian: `u32 number || u8 kind || u64 subject || u64 until_s || salt[32] || u8 n`. n counts the
//! consents of persons that would follow; it is 0 until desks have people.

use bytes::Bytes;

use crate::{
    batch::{self, BatchError, Proof, PublicKey, Tag},
    merkle::Hash,
    roster::PartyNumber,
    wire::{Malformed, Position, convert, pb},
};

/// Bytes of an order's item.
pub const ORDER_BYTES: usize = 4 + 1 + 8 + 8 + 32 + 1;
/// Bytes of a random salt, so that nobody can guess the item.
pub const ORDER_SALT_BYTES: usize = 32;

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// The party may not take part until a time; `u64::MAX` is until it is lifted.
    Suspend {
        /// Which.
        party: PartyNumber,
        /// Seconds since 1970.
        until_s: u64,
    },
    /// The party's suspension by order ends; one in the roster does not.
    Lift {
        /// Which.
        party: PartyNumber,
    },
    /// Neither ROUTINE nor PRIORITY is sent until a time; a time that is past ends it.
    Minimize {
        /// Seconds since 1970.
        until_s: u64,
    },
    /// What the relay keeps of one record is to be erased. It is recorded; nothing carries it out yet.
    Erase {
        /// Which record.
        position: Position,
    },
}

impl OrderKind {
    /// Lower-case name as commands and the API use it.
    pub fn name(self) -> &'static str {
        match self {
            OrderKind::Suspend { .. } => "suspend",
            OrderKind::Lift { .. } => "lift",
            OrderKind::Minimize { .. } => "minimize",
            OrderKind::Erase { .. } => "erase",
        }
    }

    /// Code, subject and time as in the item.
    fn parts(self) -> (u8, u64, u64) {
        match self {
            OrderKind::Suspend { party, until_s } => (1, party.0.into(), until_s),
            OrderKind::Lift { party } => (2, party.0.into(), 0),
            OrderKind::Minimize { until_s } => (3, 0, until_s),
            OrderKind::Erase { position } => (4, position.0, 0),
        }
    }

    fn from_parts(code: u8, subject: u64, until_s: u64) -> Option<OrderKind> {
        let party = || u32::try_from(subject).ok().map(PartyNumber);
        let kind = match code {
            1 => OrderKind::Suspend { party: party()?, until_s },
            2 => OrderKind::Lift { party: party()? },
            3 => OrderKind::Minimize { until_s },
            4 => OrderKind::Erase { position: Position(subject) },
            _ => return None,
        };
        // What a kind does not use is zero.
        (kind.parts() == (code, subject, until_s)).then_some(kind)
    }
}

/// One order, as its item says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// From 1, strictly rising.
    pub number: u32,
    /// What is ordered.
    pub kind: OrderKind,
    /// Random.
    pub salt: [u8; ORDER_SALT_BYTES],
}

impl Order {
    /// The item to sign.
    pub fn encode(&self) -> Bytes {
        let (code, subject, until_s) = self.kind.parts();
        let mut out = Vec::with_capacity(ORDER_BYTES);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.push(code);
        out.extend_from_slice(&subject.to_be_bytes());
        out.extend_from_slice(&until_s.to_be_bytes());
        out.extend_from_slice(&self.salt);
        out.push(0);
        out.into()
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Malformed`] for a wrong length, an unknown kind, number 0 or consents.
    pub fn decode(item: &[u8]) -> Result<Order, Malformed> {
        let item: &[u8; ORDER_BYTES] =
            item.try_into().map_err(|_| Malformed::new("order", "is not 54 bytes"))?;
        let (number, rest) = item.split_first_chunk().expect("54 bytes hold the number");
        let (code, rest) = (rest[0], &rest[1..]);
        let (subject, rest) = rest.split_first_chunk().expect("49 bytes hold the subject");
        let (until_s, rest) = rest.split_first_chunk().expect("41 bytes hold the time");
        let (salt, consents) = rest.split_first_chunk().expect("33 bytes hold the salt");
        let number = u32::from_be_bytes(*number);
        if number == 0 {
            return Err(Malformed::new("order's number", "is zero"));
        }
        if consents != [0] {
            return Err(Malformed::new("order", "holds consents, and desks have no people yet"));
        }
        let kind = OrderKind::from_parts(code, u64::from_be_bytes(*subject), u64::from_be_bytes(*until_s));
        Ok(Order { number, kind: kind.ok_or(Malformed::new("order", "is of an unknown kind"))?, salt: *salt })
    }

    /// The batch leaf to sign.
    pub fn leaf(&self) -> Hash {
        batch::item_leaf(Tag::Order, &self.encode())
    }
}

/// An order with what proves that the hub gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedOrder {
    /// What its item says.
    pub order: Order,
    /// Tag `order`, by the hub's sign key.
    pub proof: Proof,
}

/// Why an order is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not signed by the key that the roster lists for the hub.
    #[error("not signed by the key that the roster lists for the hub: {0}")]
    Signature(#[from] BatchError),
}

impl SignedOrder {
    /// Reads a frame; the signature is the caller's to verify.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(frame: &pb::Order) -> Result<SignedOrder, Malformed> {
        Ok(SignedOrder { order: Order::decode(&frame.item)?, proof: convert::proof(frame.proof.as_ref())? })
    }

    /// Verifies that this key gave the order.
    ///
    /// # Errors
    /// [`OrderError::Signature`].
    pub fn verify(&self, trust_domain: &str, key: &PublicKey) -> Result<(), OrderError> {
        let leaf = self.order.leaf();
        Ok(batch::Verifier::new(1).verify(trust_domain, Tag::Order, key, leaf, &self.proof)?)
    }

    /// Item and proof as an administrative leaf holds them: `item || u8 count || u8 index || signature[64] ||
    /// path`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.order.encode().to_vec();
        out.extend_from_slice(&[self.proof.count, self.proof.index]);
        out.extend_from_slice(&self.proof.signature);
        out.extend_from_slice(&self.proof.path_bytes());
        out
    }

    /// Reads [`SignedOrder::encode`].
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<SignedOrder, Malformed> {
        let short = Malformed::new("signed order", "is too short");
        let (item, rest) = bytes.split_first_chunk::<ORDER_BYTES>().ok_or(short)?;
        let ([count, index], rest) = rest.split_first_chunk::<2>().ok_or(short)?;
        let (signature, path) = rest.split_first_chunk::<{ batch::SIGNATURE_BYTES }>().ok_or(short)?;
        let proof = Proof::from_parts((*count).into(), (*index).into(), path, signature)
            .map_err(|_| Malformed::new("signed order", "has a proof of the wrong length"))?;
        Ok(SignedOrder { order: Order::decode(item)?, proof })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [OrderKind; 5] = [
        OrderKind::Suspend { party: PartyNumber(3), until_s: 1_800_000_000 },
        OrderKind::Suspend { party: PartyNumber(3), until_s: u64::MAX },
        OrderKind::Lift { party: PartyNumber(3) },
        OrderKind::Minimize { until_s: 1_800_000_000 },
        OrderKind::Erase { position: Position(77) },
    ];

    #[test]
    fn every_order_reads_back_and_no_truncation_or_extension_does() {
        for kind in KINDS {
            let order = Order { number: 9, kind, salt: [7; 32] };
            let proof = Proof { count: 2, index: 1, path: vec![Hash([3; 32])], signature: [5; 64] };
            let signed = SignedOrder { order, proof };
            let bytes = signed.encode();
            assert_eq!(SignedOrder::decode(&bytes), Ok(signed));
            for cut in 0..bytes.len() {
                assert!(SignedOrder::decode(&bytes[..cut]).is_err(), "{kind:?} cut at {cut}");
            }
            assert!(SignedOrder::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn number_zero_unknown_kinds_consents_and_unused_fields_are_refused() {
        let good =
            Order { number: 1, kind: OrderKind::Lift { party: PartyNumber(3) }, salt: [0; 32] }.encode();
        assert!(Order::decode(&good).is_ok());
        for (at, byte) in [(3, 0), (4, 0), (4, 5), (5, 1), (20, 1), (53, 1)] {
            let mut wrong = good.to_vec();
            wrong[at] = byte;
            assert!(Order::decode(&wrong).is_err(), "byte {at} = {byte}");
        }
    }
}
