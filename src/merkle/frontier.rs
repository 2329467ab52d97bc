//! The right edge of a growing tree.

use super::{Hash, MerkleError, empty_root, node_hash};

/// The right edge of an append-only tree: the roots of its complete subtrees, largest first.
///
/// That is all it takes to append and to know the root: at most 64 hashes, 2 KiB, for any size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// A tree without leaves.
    pub fn new() -> Frontier {
        Frontier::default()
    }

    /// Puts back what [`parts`](Frontier::parts) gave.
    ///
    /// # Errors
    /// [`MerkleError::FrontierParts`] if a tree of that size has another number of complete subtrees.
    pub fn from_parts(size: u64, subtrees: &[Hash]) -> Result<Frontier, MerkleError> {
        let expected = subtrees_of(size);
        if subtrees.len() != expected {
            return Err(MerkleError::FrontierParts { size, expected, found: subtrees.len() });
        }
        Ok(Frontier { size, subtrees: subtrees.to_vec() })
    }

    /// The size and the roots of the complete subtrees, largest first: what a journal's base keeps.
    pub fn parts(&self) -> (u64, &[Hash]) {
        (self.size, &self.subtrees)
    }

    /// Appends a leaf that is already hashed; about two node hashes' work in the mean.
    pub fn append(&mut self, leaf: Hash) {
        self.append_subtree(0, leaf);
    }

    /// Appends a complete subtree of 2^level leaves at once, whose root is known.
    ///
    /// # Panics
    /// If it does not begin where such a subtree begins.
    pub fn append_subtree(&mut self, level: u32, root: Hash) {
        assert!(self.size.trailing_zeros() >= level, "a subtree begins at a multiple of its leaves");
        let mut node = root;
        for _ in 0..(self.size >> level).trailing_ones() {
            let left = self.subtrees.pop().expect("one complete subtree for each bit set in the size");
            node = node_hash(&left, &node);
        }
        self.subtrees.push(node);
        self.size += 1 << level;
        debug_assert_eq!(self.subtrees.len(), subtrees_of(self.size));
    }

    /// Counts a leaf that nobody hashed. The root means nothing from then on, and no base that holds it fits any leaves:
    /// for a bench that measures what a tree costs.
    pub fn skip(&mut self) {
        self.size += 1;
        self.subtrees.resize(subtrees_of(self.size), Hash::ZERO);
    }

    /// Leaves appended so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree as it is now.
    pub fn root(&self) -> Hash {
        let folded = self.subtrees.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        folded.unwrap_or_else(empty_root)
    }
}

fn subtrees_of(size: u64) -> usize {
    usize::try_from(size.count_ones()).expect("at most 64 bits are set")
}
