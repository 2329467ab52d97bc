//! What a witness and an auditor do with a log: look at every leaf, and hold each checkpoint against them.

use super::{AuditError, Checkpoint};
use crate::{
    limits::HASH_BYTES,
    merkle::{self, Frontier, Hash},
    record::{
        administrative::{AdministrativeLeaf, ChainHead},
        leaf::{self, TRAFFIC_LEAF_BYTES},
    },
    wire::{Malformed, Position},
};

/// A log as far as it was followed: 2 KiB at most, whatever its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    tree: Frontier,
    chain: ChainHead,
}

/// What a leaf turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// A commitment: it says nothing to whoever has not its opening.
    Traffic,
    /// In clear.
    Administrative(Box<AdministrativeLeaf>),
}

impl Follower {
    /// Before the first leaf.
    pub fn new() -> Follower {
        Follower { tree: Frontier::new(), chain: ChainHead::START }
    }

    /// Puts back what was followed before.
    pub fn at(tree: Frontier, chain: ChainHead) -> Follower {
        Follower { tree, chain }
    }

    /// As it is kept: `u64 position of the newest administrative leaf || its hash[32] || u64 size`, then the roots
    /// of the tree's complete subtrees, largest first.
    pub fn encode(&self) -> Vec<u8> {
        let (size, subtrees) = self.tree.parts();
        let mut out = Vec::with_capacity(HEAD_BYTES + subtrees.len() * HASH_BYTES);
        out.extend_from_slice(&self.chain.position.0.to_be_bytes());
        out.extend_from_slice(self.chain.hash.as_bytes());
        out.extend_from_slice(&size.to_be_bytes());
        subtrees.iter().for_each(|hash| out.extend_from_slice(hash.as_bytes()));
        out
    }

    /// Reads what [`Follower::encode`] wrote.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Follower, Malformed> {
        let wrong = Malformed::new("state of a follower", "has the wrong length");
        let (head, subtrees) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(wrong)?;
        let (position, rest) = head.split_first_chunk().expect("the head holds the position");
        let (hash, size) = rest.split_first_chunk().expect("the head holds the hash");
        let (subtrees, rest) = subtrees.as_chunks::<HASH_BYTES>();
        let subtrees: Vec<Hash> = subtrees.iter().copied().map(Hash).collect();
        let size = u64::from_be_bytes(size.try_into().expect("eight bytes of the head are left"));
        let tree = Frontier::from_parts(size, &subtrees).map_err(|_| wrong)?;
        let chain = ChainHead { position: Position(u64::from_be_bytes(*position)), hash: Hash(*hash) };
        if rest.is_empty() { Ok(Follower { tree, chain }) } else { Err(wrong) }
    }

    /// How many leaves were followed.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root over them.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The tree's right edge.
    pub fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// The newest administrative leaf.
    pub fn chain(&self) -> ChainHead {
        self.chain
    }

    /// Takes the next leaf.
    ///
    /// # Errors
    /// [`AuditError::Leaf`], or [`AuditError::Chain`] where an administrative leaf before this one was withheld.
    /// Nothing is changed then.
    pub fn take(&mut self, entry: &[u8]) -> Result<Followed, AuditError> {
        let hash = merkle::leaf_hash(entry);
        let followed = self.look(self.tree.size(), entry, hash)?;
        self.grow(0, hash);
        Ok(followed)
    }

    /// Looks at a leaf whose hash is known, and leaves the tree behind: [`Follower::grow`] takes it and its neighbours
    /// in. An index that is not the next one gives words of another leaf, and nothing worse.
    ///
    /// # Errors
    /// As [`Follower::take`].
    pub fn look(&mut self, index: u64, entry: &[u8], hash: Hash) -> Result<Followed, AuditError> {
        let unknown = |source| AuditError::Leaf { index, source };
        if leaf::is_traffic(entry) {
            if entry.len() != TRAFFIC_LEAF_BYTES {
                return Err(unknown(Malformed::new("traffic leaf", "is not 34 bytes")));
            }
            Ok(Followed::Traffic)
        } else {
            let leaf = AdministrativeLeaf::decode(entry).map_err(unknown)?;
            if leaf.previous != self.chain {
                return Err(AuditError::Chain { index });
            }
            self.chain = ChainHead { position: Position(index), hash };
            Ok(Followed::Administrative(Box::new(leaf)))
        }
    }

    /// Takes in 2^level leaves that were looked at, by the root over them.
    ///
    /// # Panics
    /// If they do not begin where such a subtree begins.
    pub fn grow(&mut self, level: u32, root: Hash) {
        self.tree.append_subtree(level, root);
    }

    /// Holds a checkpoint of exactly the size that was followed against the leaves.
    ///
    /// # Errors
    /// [`AuditError::Root`].
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<(), AuditError> {
        let fits = checkpoint.size == self.tree.size() && checkpoint.root == self.tree.root();
        if fits { Ok(()) } else { Err(AuditError::Root { size: checkpoint.size }) }
    }
}

const HEAD_BYTES: usize = 8 + HASH_BYTES + 8;

impl Default for Follower {
    fn default() -> Follower {
        Follower::new()
    }
}
