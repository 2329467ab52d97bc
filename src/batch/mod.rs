//! Batch signatures (FORMATS 2): the one signature there is, but for C2SP notes.
//!
//! One Ed25519 signature covers the root over 1 to 64 items of one [`Tag`]; each item carries a
//! [`Proof`] of its own. Verifying is here; signing needs a private key and lives in `keys`.

mod key;
mod verifier;

#[cfg(test)]
mod tests;

use std::fmt;

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::limits::{BATCH_ITEMS_MAX, HASH_BYTES};
use crate::merkle::{self, Climb, Hash};

pub use key::{KeyError, PublicKey};
pub use verifier::Verifier;

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What kind of item a batch signature is over; part of what is signed, so that no signature means
/// two things. Who may use which: FORMATS 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Header bytes of an envelope.
    Envelope,
    /// A receipt for one or more envelopes.
    Receipt,
    /// A prekey of one generation.
    Prekey,
    /// A Hello or a Welcome, bound to its TLS session.
    Hello,
    /// A desk's commitment: handover, break-glass.
    Note,
    /// A person's key, announced by its desk.
    Person,
    /// Renewal of a certificate.
    Renewal,
    /// The hub's order that narrows.
    Order,
    /// The hub's answer to an enrolment.
    EnrolAnswer,
    /// A person's draft.
    Draft,
    /// A person's release.
    Release,
    /// A person's consent to an order.
    OrderPerson,
    /// A new party's request, by its sign and witness keys.
    EnrolRequest,
}

impl Tag {
    /// The tag as it is hashed and signed.
    pub fn as_str(self) -> &'static str {
        match self {
            Tag::Envelope => "envelope",
            Tag::Receipt => "receipt",
            Tag::Prekey => "prekey",
            Tag::Hello => "hello",
            Tag::Note => "note",
            Tag::Person => "person",
            Tag::Renewal => "renewal",
            Tag::Order => "order",
            Tag::EnrolAnswer => "enrol-answer",
            Tag::Draft => "draft",
            Tag::Release => "release",
            Tag::OrderPerson => "order-person",
            Tag::EnrolRequest => "enrol-request",
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one item of a batch carries to prove itself: its place, its path, and the signature over
/// the batch's root. At most 6 hashes and a signature, 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Items in the batch: 1 to 64.
    pub count: u8,
    /// This item's place among them, from 0.
    pub index: u8,
    /// Siblings from the leaf upwards, exactly as many as (count, index) demand.
    pub path: Vec<Hash>,
    /// Ed25519 over [`signed_bytes`].
    pub signature: [u8; SIGNATURE_BYTES],
}

impl Proof {
    /// Builds a proof from the fields of a frame, checking every length.
    ///
    /// # Errors
    /// [`BatchError::Count`], [`BatchError::Index`], [`BatchError::PathLength`] (the path is the
    /// hashes one after the other) or [`BatchError::SignatureLength`].
    pub fn from_parts(count: u32, index: u32, path: &[u8], signature: &[u8]) -> Result<Proof, BatchError> {
        let signature =
            signature.try_into().map_err(|_| BatchError::SignatureLength { bytes: signature.len() })?;
        let (hashes, rest) = path.as_chunks::<HASH_BYTES>();
        let proof = Proof {
            count: u8::try_from(count).map_err(|_| BatchError::Count { count })?,
            index: u8::try_from(index).map_err(|_| BatchError::Index { index, count })?,
            path: hashes.iter().copied().map(Hash).collect(),
            signature,
        };
        if !rest.is_empty() {
            return Err(BatchError::PathLength);
        }
        proof.climb()?;
        Ok(proof)
    }

    /// The path as a frame carries it: the hashes one after the other.
    pub fn path_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.path.len() * HASH_BYTES);
        self.path.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
        bytes
    }

    /// The way up from this item, with count, index and path length checked.
    fn climb(&self) -> Result<Climb, BatchError> {
        let climb = climb(self.count, self.index)?;
        if climb.path_hashes() == self.path.len() { Ok(climb) } else { Err(BatchError::PathLength) }
    }
}

/// Hashes on the path of the item at `index` of a batch of `count`.
///
/// # Errors
/// [`BatchError::Count`] or [`BatchError::Index`].
pub fn path_hashes(count: u8, index: u8) -> Result<usize, BatchError> {
    climb(count, index).map(Climb::path_hashes)
}

fn climb(count: u8, index: u8) -> Result<Climb, BatchError> {
    if !(1..=BATCH_ITEMS_MAX).contains(&usize::from(count)) {
        return Err(BatchError::Count { count: count.into() });
    }
    let outside = |_| BatchError::Index { index: index.into(), count: count.into() };
    Climb::new(index.into(), count.into()).map_err(outside)
}

/// Why an item is not proven by its batch signature. The peer is at fault in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A batch is empty or too large.
    #[error("a batch has 1 to 64 items, not {count}")]
    Count {
        /// The count claimed.
        count: u32,
    },
    /// The item would lie beyond the end of its batch.
    #[error("item {index} is not in a batch of {count}")]
    Index {
        /// The index claimed.
        index: u32,
        /// The count claimed.
        count: u32,
    },
    /// The path is longer or shorter than count and index demand.
    #[error("the path has not the length that count and index demand")]
    PathLength,
    /// The signature is no Ed25519 signature.
    #[error("a signature has 64 bytes, not {bytes}")]
    SignatureLength {
        /// The length found.
        bytes: usize,
    },
    /// The signature is not this key's over this trust domain, tag, count, item and path.
    #[error("the batch signature does not cover this item")]
    Signature,
}

/// The leaf of an item: `H(00 || len8 tag || item)`. Of an envelope's header it is the envelope hash.
pub fn item_leaf(tag: Tag, item: &[u8]) -> Hash {
    let tag = tag.as_str().as_bytes();
    merkle::sha256_parts(&[&[0x00, len8(tag)], tag, item])
}

/// What the signature is over: `pouch-batch/v1 || 0A || len8 trust domain || len8 tag || u32 count || root`.
///
/// # Panics
/// If the trust domain is longer than 255 bytes, which [`crate::identity`] and the roster refuse.
pub fn signed_bytes(trust_domain: &str, tag: Tag, count: u8, root: &Hash) -> Vec<u8> {
    const PREFIX: &[u8] = b"pouch-batch/v1\n";
    let (domain, tag) = (trust_domain.as_bytes(), tag.as_str().as_bytes());
    let mut bytes = Vec::with_capacity(PREFIX.len() + 1 + domain.len() + 1 + tag.len() + 4 + HASH_BYTES);
    bytes.extend_from_slice(PREFIX);
    bytes.push(len8(domain));
    bytes.extend_from_slice(domain);
    bytes.push(len8(tag));
    bytes.extend_from_slice(tag);
    bytes.extend_from_slice(&u32::from(count).to_be_bytes());
    bytes.extend_from_slice(&root.0);
    bytes
}

/// Verifies a batch whose items are all at hand, and returns its root.
///
/// # Errors
/// [`BatchError::Count`] for none or more than 64 leaves, [`BatchError::Signature`].
pub fn verify_whole(
    trust_domain: &str,
    tag: Tag,
    key: &PublicKey,
    leaves: &[Hash],
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<Hash, BatchError> {
    if !(1..=BATCH_ITEMS_MAX).contains(&leaves.len()) {
        return Err(BatchError::Count { count: u32::try_from(leaves.len()).unwrap_or(u32::MAX) });
    }
    let count = u8::try_from(leaves.len()).expect("at most BATCH_ITEMS_MAX, which fits a byte");
    let root = merkle::root(leaves);
    verify_root(trust_domain, tag, key, count, &root, signature)?;
    Ok(root)
}

/// Verifies a batch whose root was just recomputed from all its items.
///
/// # Errors
/// [`BatchError::Signature`].
pub fn verify_root(
    trust_domain: &str,
    tag: Tag,
    key: &PublicKey,
    count: u8,
    root: &Hash,
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<(), BatchError> {
    UnparsedPublicKey::new(&ED25519, &key.0)
        .verify(&signed_bytes(trust_domain, tag, count, root), signature)
        .map_err(|_| BatchError::Signature)
}

fn len8(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).expect("tags and trust domains have at most 255 bytes")
}
