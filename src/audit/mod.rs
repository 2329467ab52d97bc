//! The audit log's arithmetic over bytes: checkpoints, tiles, bundles, proofs, and who must have signed.
//!
//! Formats are C2SP's, so that tools that others wrote read them too (FORMATS 8): `checkpoint` is
//! tlog-checkpoint, `tile` and `bundle` are tlog-tiles, `proof` is tlog-proof, `witness` is tlog-witness.
//! `trust` says whose signatures count, from a roster and never from the log itself. `tree` finds roots and
//! paths in tiles, and `follow` is what whoever watches a log does with every leaf. `file` is the proof file of one
//! dispatch, and [`check()`] says what it proves, on the `rosters` that a trust bundle leads
//! to; `standing` is what it says of the signers' keys.
//!
//! Nothing here reads a file or asks a peer: tiles come in through a closure. Nothing panics on what a
//! peer sends.

mod bundle;
mod check;
mod checkpoint;
mod file;
mod follow;
mod proof;
mod proven;
mod rosters;
mod standing;
#[cfg(test)]
mod tests;
mod tile;
mod tree;
mod trust;
mod witness;

pub use bundle::Bundle;
pub use check::{check, sift};
pub use checkpoint::Checkpoint;
pub use file::{FiledReceipt, FiledRoster, Part, ProofFile, ProofFileError, SignedItem};
pub use follow::{Followed, Follower};
pub use proof::LeafProof;
pub use proven::{
    KeyInForce, LogFacts, Outcome, ProofFault, ProvenDispatch, ProvenLeaf, ProvenReceipt, Revocation, Ruling,
    Standing,
};
pub use tile::{BundlePath, TILE_HASHES, TilePath, bundles_between, tiles_between};
pub use tree::TileTree;
pub use trust::{LogTrust, SignedCheckpoint, witness_name};
pub use witness::{AddCheckpoint, Answer, OLD_LINE_PATH_MAX};

use crate::{merkle::MerkleError, note::NoteError, wire::Malformed};

/// Why a log, or a part of it, is not what it claims. Texts name no value: it may come from a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// Not a signed note, or badly signed.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not a checkpoint.
    #[error("a checkpoint has three lines: origin, size, and root in base64")]
    Checkpoint,
    /// A checkpoint of another log.
    #[error("the checkpoint is of another log")]
    Origin,
    /// Not signed by a key of the log.
    #[error("the checkpoint is not signed by the log's key in the roster")]
    Unsigned,
    /// Longer than its bound.
    #[error("{what} is longer than {bytes_max} bytes")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its bound.
        bytes_max: usize,
    },
    /// Not the path of a tile or a bundle.
    #[error("a tile is named `tile/L/N` or `tile/entries/N`, with `.p/W` behind it where it is not full")]
    Path,
    /// A tile of another length than its width demands.
    #[error("a tile holds 32 bytes for each of its hashes, and this one has another length")]
    Tile,
    /// A bundle that is cut short, too long, or of another width.
    #[error("a bundle holds two bytes of length and that many bytes for each of its entries")]
    Bundle,
    /// Not a proof.
    #[error("a proof begins with `c2sp.org/tlog-proof@v1`, names an index, and ends in a checkpoint")]
    Proof,
    /// Not a request to a witness.
    #[error("a request to a witness names the old size, at most 63 hashes, and ends in a checkpoint")]
    Request,
    /// A path or a root does not fit.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    /// A leaf that this version does not know.
    #[error("leaf {index} is not of a known form: {source}")]
    Leaf {
        /// Where it stands.
        index: u64,
        /// What is wrong with it.
        source: Malformed,
    },
    /// An administrative leaf names another one before it than there is.
    #[error("administrative leaf {index} names another one before it: one was left out, or put in")]
    Chain {
        /// Where it stands.
        index: u64,
    },
    /// A leaf stands in the log a second time.
    #[error("leaf {index} is the same as one before it: it was put in a second time")]
    Repeated {
        /// Where it stands.
        index: u64,
    },
    /// The log holds a roster that the relay has not sent to this desk.
    #[error("the log has a roster {version}, at position {index}, that the relay did not send to this desk")]
    RosterUntold {
        /// Where its leaf stands.
        index: u64,
        /// Its version.
        version: u32,
    },
    /// The leaves that were followed make another root.
    #[error("the leaves below {size} make another root than the checkpoint has")]
    Root {
        /// The checkpoint's size.
        size: u64,
    },
}
