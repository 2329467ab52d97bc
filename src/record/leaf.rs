//! Leaves and openings: what the audit log hashes of a record (FORMATS 8).

use crate::{
    limits,
    merkle::{self, Hash},
    record::SALT_BYTES,
    wire::Malformed,
};

/// Bytes of a traffic leaf: `01 01 || commitment[32]`.
pub const TRAFFIC_LEAF_BYTES: usize = 2 + limits::HASH_BYTES;
/// Bytes of an opening.
pub const OPENING_BYTES: usize = 1 + 8 + 4 + limits::HASH_BYTES;

pub(super) const LEAF_VERSION: u8 = 1;
const TRAFFIC: u8 = 1;
pub(super) const ADMINISTRATIVE: u8 = 2;

/// What a traffic record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpeningKind {
    /// An accepted envelope; the hash is the envelope hash.
    Envelope,
    /// A desk's receipts; the hash is their batch root.
    Receipts,
    /// A final refusal; the hash is the envelope hash.
    Refusal,
    /// An envelope past its time; the hash is the envelope hash.
    Expiry,
}

impl OpeningKind {
    /// 1 to 4 in the order above.
    pub fn code(self) -> u8 {
        self as u8 + 1
    }

    fn from_code(code: u8) -> Option<OpeningKind> {
        [OpeningKind::Envelope, OpeningKind::Receipts, OpeningKind::Refusal, OpeningKind::Expiry]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// The metadata that a traffic leaf commits to: `u8 kind || u64 log time_us || u32 roster version || hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What the record is about.
    pub kind: OpeningKind,
    /// The relay's log time, microseconds since 1970.
    pub log_time_us: u64,
    /// Roster in force at the relay.
    pub roster_version: u32,
    /// What the kind says.
    pub hash: Hash,
}

impl Opening {
    /// The 45 bytes that are committed to.
    pub fn encode(&self) -> [u8; OPENING_BYTES] {
        let mut out = [0; OPENING_BYTES];
        out[0] = self.kind.code();
        out[1..9].copy_from_slice(&self.log_time_us.to_be_bytes());
        out[9..13].copy_from_slice(&self.roster_version.to_be_bytes());
        out[13..].copy_from_slice(self.hash.as_bytes());
        out
    }

    /// Reads an opening.
    ///
    /// # Errors
    /// [`Malformed`] for a wrong length or an unknown kind.
    pub fn decode(bytes: &[u8]) -> Result<Opening, Malformed> {
        let bytes: &[u8; OPENING_BYTES] =
            bytes.try_into().map_err(|_| Malformed::new("opening", "is not 45 bytes"))?;
        let (kind, rest) = (bytes[0], &bytes[1..]);
        let (time, rest) = rest.split_first_chunk().expect("45 bytes hold the time");
        let (version, hash) = rest.split_first_chunk().expect("45 bytes hold the version");
        Ok(Opening {
            kind: OpeningKind::from_code(kind).ok_or(Malformed::new("opening", "is of an unknown kind"))?,
            log_time_us: u64::from_be_bytes(*time),
            roster_version: u32::from_be_bytes(*version),
            hash: Hash(hash.try_into().expect("32 bytes are left of 45")),
        })
    }

    /// The traffic leaf that commits to this opening under a salt.
    pub fn leaf(&self, salt: &[u8; SALT_BYTES]) -> [u8; TRAFFIC_LEAF_BYTES] {
        traffic_leaf(salt, &self.encode())
    }
}

/// The traffic leaf that commits to these bytes, whatever they are: what a relay says are salt and opening.
pub fn traffic_leaf(salt: &[u8], opening: &[u8]) -> [u8; TRAFFIC_LEAF_BYTES] {
    let commitment = merkle::sha256_parts(&[b"pouch-opening/v1\0", salt, opening]);
    let mut leaf = [0; TRAFFIC_LEAF_BYTES];
    leaf[..2].copy_from_slice(&[LEAF_VERSION, TRAFFIC]);
    leaf[2..].copy_from_slice(commitment.as_bytes());
    leaf
}

/// Whether a leaf is of the traffic kind: a commitment.
pub fn is_traffic(leaf: &[u8]) -> bool {
    leaf.starts_with(&[LEAF_VERSION, TRAFFIC])
}

/// Whether a leaf is of the administrative kind.
pub fn is_administrative(leaf: &[u8]) -> bool {
    leaf.starts_with(&[LEAF_VERSION, ADMINISTRATIVE])
}
