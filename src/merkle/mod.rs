//! RFC 6962 Merkle trees: appending, roots, inclusion and consistency.
//!
//! The audit log, batch signatures and the tree of wraps all use this one arithmetic
//! (FORMATS, first paragraph): leaf `H(00 || entry)`, node `H(01 || left || right)`, no duplicated
//! odd nodes, SHA-256 throughout. Nothing here keeps more than it is given, and nothing panics on
//! what a peer sends: paths of a wrong length are errors.

mod frontier;
mod proof;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256, digest};

use crate::limits::HASH_BYTES;

pub use frontier::Frontier;
pub use proof::{
    Climb, Sibling, Tree, consistency_path, consistency_ranges, inclusion_path, inclusion_ranges, root,
    root_from_inclusion, verify_consistency,
};

/// A SHA-256 hash: the name of a leaf, a node, an envelope or a file. Shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// 32 zero bytes: "there is none" in fixed layouts.
    pub const ZERO: Hash = Hash([0; HASH_BYTES]);

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = MerkleError;

    fn try_from(bytes: &[u8]) -> Result<Hash, MerkleError> {
        bytes.try_into().map(Hash).map_err(|_| MerkleError::HashLength { bytes: bytes.len() })
    }
}

impl FromStr for Hash {
    type Err = MerkleError;

    /// Reads exactly what `Display` writes: 64 lower-case hex digits.
    fn from_str(text: &str) -> Result<Hash, MerkleError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| MerkleError::HashText)?;
        Hash::try_from(bytes.as_slice())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why bytes, a path or a proof of a Merkle tree are not what they claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// Bytes that should be a hash have another length.
    #[error("a hash has 32 bytes, not {bytes}")]
    HashLength {
        /// The length found.
        bytes: usize,
    },
    /// Text that should be a hash is not lower-case hex.
    #[error("a hash is written as 64 lower-case hex digits")]
    HashText,
    /// The leaf would lie beyond the end of the tree.
    #[error("leaf {index} is not in a tree of {size}")]
    IndexBeyondSize {
        /// The claimed index.
        index: u64,
        /// The claimed size.
        size: u64,
    },
    /// The path is longer or shorter than the tree demands.
    #[error("the path has not the length that the tree demands")]
    PathLength,
    /// The older tree is the larger one.
    #[error("a tree of {old} cannot grow into one of {new}")]
    Shrunk {
        /// The claimed older size.
        old: u64,
        /// The claimed newer size.
        new: u64,
    },
    /// The path does not lead to the root that was claimed.
    #[error("the path leads to another root")]
    RootMismatch,
    /// The parts of a frontier do not fit its size.
    #[error("a tree of {size} has {expected} complete subtrees, not {found}")]
    FrontierParts {
        /// The claimed size.
        size: u64,
        /// Complete subtrees of a tree of that size.
        expected: usize,
        /// Parts found.
        found: usize,
    },
}

/// What [`sha256_parts`] copies together: an opening, a leaf, an item of a batch.
const SHORT_BYTES: usize = 512;

/// SHA-256 of the bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    finished(digest(&SHA256, bytes))
}

/// SHA-256 of the parts, one after the other. Short ones are laid side by side first: hashing a leaf costs
/// less than starting and ending a digest for each of its parts.
pub fn sha256_parts(parts: &[&[u8]]) -> Hash {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    if bytes <= SHORT_BYTES {
        let (mut all, mut at) = ([0; SHORT_BYTES], 0);
        for part in parts {
            all[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        return sha256(&all[..bytes]);
    }
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    finished(context.finish())
}

/// The hash of a leaf that holds the entry: `H(00 || entry)` (RFC 6962 section 2.1).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    sha256_parts(&[&[0x00], entry])
}

/// The hash of an inner node: `H(01 || left || right)` (RFC 6962 section 2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0x01; 1 + 2 * HASH_BYTES];
    bytes[1..1 + HASH_BYTES].copy_from_slice(&left.0);
    bytes[1 + HASH_BYTES..].copy_from_slice(&right.0);
    sha256(&bytes)
}

/// The root of a tree without leaves: `SHA-256("")` (RFC 6962 section 2.1).
pub fn empty_root() -> Hash {
    sha256(&[])
}

fn finished(digest: ring::digest::Digest) -> Hash {
    Hash::try_from(digest.as_ref()).expect("a SHA-256 digest has 32 bytes")
}
