//! Making and opening envelopes: with `desk`, the only code that reads a dispatch (DESIGN 10).
//!
//! Until sealing exists, the ciphertext is the dispatch in clear and the wrap is the slip in clear
//! (FORMATS 5), and the core says so: [`Sealing::Clear`](crate::wire::envelope::Sealing::Clear). Nothing
//! here hides anything from the relay yet. Signing is [`SigningKey`](crate::keys::SigningKey)'s, for up
//! to 64 headers at once.

mod open;
#[cfg(test)]
mod tests;

pub use open::{
    BODY_BYTES_MAX, LANGUAGE_BYTES_MAX, ORIGINATOR_BYTES_MAX, Opened, OpenedDispatch, REFERENCE_BYTES_MAX,
    SUBJECT_BYTES_MAX, open,
};

use bytes::Bytes;
use prost::Message;

use crate::{
    batch::{self, Proof, Tag},
    merkle::{self, Hash},
    wire::{
        EnvelopeHash, Malformed,
        convert::proof_frame,
        envelope::{Core, Wrap, header_bytes, join_wraps, wrap_leaf},
        pb,
    },
};

/// Numbers that one slip may give up (FORMATS 5); the next slip carries the rest.
pub const SLIP_VOIDED_MAX: usize = 64;

/// Bytes of a wrap in clear: a slip with everything at its bound takes 760, the rest is for later fields. A
/// longer one is malformed, and is not parsed.
const SLIP_BYTES_MAX: usize = 1024;

/// What only sender and addressee see: the count of envelopes between the two at one precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slip {
    /// The sender's incarnation, from 1.
    pub epoch: u32,
    /// Stream number, from 1 in that epoch, at most `i64::MAX`.
    pub number: u64,
    /// Envelope hash before it in that stream, zeros where there is none.
    pub previous: Hash,
    /// Numbers of this stream that refusals used up, at most [`SLIP_VOIDED_MAX`].
    pub voided: Vec<u64>,
}

impl Slip {
    /// Reads a wrap in clear.
    ///
    /// # Errors
    /// [`Malformed`] names the field that breaks its bound.
    pub fn decode(wrap: &[u8]) -> Result<Slip, Malformed> {
        let malformed = |problem| Malformed { what: "slip", problem };
        if wrap.len() > SLIP_BYTES_MAX {
            return Err(malformed("is longer than 1 KiB"));
        }
        let slip = pb::Slip::decode(wrap).map_err(|_| malformed("is not protobuf"))?;
        let in_range = |number: u64| (1..=i64::MAX.unsigned_abs()).contains(&number);
        if slip.epoch == 0 || !in_range(slip.number) {
            return Err(malformed("has an epoch or a number out of range"));
        }
        if slip.voided.len() > SLIP_VOIDED_MAX || !slip.voided.iter().copied().all(in_range) {
            return Err(malformed("gives up more than 64 numbers, or one out of range"));
        }
        let previous =
            Hash::try_from(&*slip.previous).map_err(|_| malformed("has no previous hash of 32 bytes"))?;
        Ok(Slip { epoch: slip.epoch, number: slip.number, previous, voided: slip.voided })
    }

    /// The wrap in clear.
    pub fn encode(&self) -> Bytes {
        let slip = pb::Slip {
            epoch: self.epoch,
            number: self.number,
            previous: Bytes::copy_from_slice(self.previous.as_bytes()),
            voided: self.voided.clone(),
        };
        slip.encode_to_vec().into()
    }
}

/// Lays out a dispatch: draft and release, each as the bytes to sign, without signatures until desks
/// have people (FORMATS 5). The same arguments give the same bytes.
pub fn compose(draft: &pb::Draft, reference: &str, dtg: &str) -> Bytes {
    let draft = Bytes::from(draft.encode_to_vec());
    let release = pb::Release {
        reference: reference.to_owned(),
        dtg: dtg.to_owned(),
        draft_hash: Bytes::copy_from_slice(merkle::sha256(&draft).as_bytes()),
    };
    let dispatch = pb::Dispatch {
        draft,
        draft_signature: Bytes::new(),
        release: release.encode_to_vec().into(),
        release_signature: Bytes::new(),
    };
    dispatch.encode_to_vec().into()
}

/// An envelope that wants only its share of a batch signature.
#[derive(Clone, Debug)]
pub struct Sealed {
    header: Bytes,
    ciphertext: Bytes,
    wraps: Bytes,
    hash: EnvelopeHash,
}

/// Seals a dispatch to the core's addressees, with one slip for each in the core's order.
///
/// # Panics
/// When slips and addressees differ in number: the caller made both.
pub fn seal(core: &Core, dispatch: Bytes, slips: &[Slip]) -> Sealed {
    assert_eq!(core.addressees.len(), slips.len(), "one slip for each addressee");
    let wraps: Vec<Wrap> = slips.iter().map(|slip| Wrap { generation: 0, bytes: slip.encode() }).collect();
    let leaves: Vec<Hash> = core
        .addressees
        .iter()
        .zip(&wraps)
        .map(|(addressee, wrap)| wrap_leaf(addressee.party, wrap.generation, &wrap.bytes))
        .collect();
    let header = header_bytes(core, &dispatch, &merkle::root(&leaves));
    let hash = EnvelopeHash(batch::item_leaf(Tag::Envelope, &header));
    Sealed { header, ciphertext: dispatch, wraps: join_wraps(&wraps), hash }
}

impl Sealed {
    /// The envelope's name, and the leaf to sign.
    pub fn hash(&self) -> EnvelopeHash {
        self.hash
    }

    /// Bytes of its Submit frame, at most; a batch proof takes up to 300.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.ciphertext.len() + self.wraps.len() + 300
    }

    /// The frame that submits it.
    pub fn submit(self, proof: &Proof) -> pb::Submit {
        pb::Submit {
            header: self.header,
            proof: Some(proof_frame(proof)),
            ciphertext: self.ciphertext,
            wraps: self.wraps,
        }
    }
}
