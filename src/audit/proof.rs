//! The proof that one leaf is in a log (tlog-proof).

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use data_encoding::BASE64;

use super::{
    AuditError, LogTrust, SignedCheckpoint,
    checkpoint::{base64_hash, decimal},
};
use crate::{
    limits::{CHECKPOINT_BYTES_MAX, LEAF_PROOF_BYTES_MAX},
    merkle::{self, Hash},
    note::base64_bytes,
};

/// One leaf's path to the root of a checkpoint, and the checkpoint. Nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafProof {
    /// What opens the leaf, for whoever may know it: for Pouch, salt and opening.
    pub extra: Option<Vec<u8>>,
    /// Where the leaf stands.
    pub index: u64,
    /// From the leaf's sibling up.
    pub path: Vec<Hash>,
    /// A signed note, as it was published.
    pub checkpoint: String,
}

impl LeafProof {
    /// Verifies checkpoint and path for a leaf, and says who signed.
    ///
    /// # Errors
    /// As [`LogTrust::open`], and [`AuditError::Merkle`].
    pub fn verify(&self, leaf: Hash, trust: &LogTrust) -> Result<SignedCheckpoint, AuditError> {
        let signed = trust.open(self.checkpoint.as_bytes())?;
        let root = merkle::root_from_inclusion(leaf, self.index, signed.checkpoint.size, &self.path)?;
        if root == signed.checkpoint.root {
            Ok(signed)
        } else {
            Err(merkle::MerkleError::RootMismatch.into())
        }
    }
}

impl FromStr for LeafProof {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<LeafProof, AuditError> {
        if text.len() > LEAF_PROOF_BYTES_MAX {
            return Err(AuditError::TooLong { what: "a proof", bytes_max: LEAF_PROOF_BYTES_MAX });
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(AuditError::Proof)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) || checkpoint.len() > CHECKPOINT_BYTES_MAX {
            return Err(AuditError::Proof);
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(base64) => {
                let extra = base64_bytes(base64).ok_or(AuditError::Proof)?;
                lines.next();
                Some(extra)
            }
            None => None,
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let path: Option<Vec<Hash>> = lines.map(base64_hash).collect();
        match (index, path) {
            (Some(index), Some(path)) if path.len() <= PATH_HASHES_MAX => {
                Ok(LeafProof { extra, index, path, checkpoint: checkpoint.to_owned() })
            }
            _ => Err(AuditError::Proof),
        }
    }
}

impl fmt::Display for LeafProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", BASE64.encode(hash.as_bytes()))?;
        }
        f.write_char('\n')?;
        f.write_str(&self.checkpoint)
    }
}

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A tree of 2^63 leaves has paths of 63 hashes.
const PATH_HASHES_MAX: usize = 63;
