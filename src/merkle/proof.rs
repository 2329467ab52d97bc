//! Paths: made from leaves at hand, verified from what a peer sent.
//!
//! Everything here is one walk. In a tree where an odd last node rises unchanged, a node's sibling
//! at each level follows from its index and the index of the level's last node; [`Climb`] says
//! which side it is on. Making a path collects the siblings, verifying one hashes them in.

use std::ops::Range;

use super::{Hash, MerkleError, empty_root, node_hash};

/// Where a node's sibling lies at one level of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sibling {
    /// To the left: the path's hash goes first.
    Left,
    /// To the right: the path's hash goes second.
    Right,
    /// There is none: the node is the odd last one and rises unchanged.
    Absent,
}

/// The way from a node up to the root, one [`Sibling`] for each level below the root.
#[derive(Clone, Copy, Debug)]
pub struct Climb {
    index: u64,
    last: u64,
}

impl Climb {
    /// Starts at leaf `index` of a tree of `size` leaves.
    ///
    /// # Errors
    /// [`MerkleError::IndexBeyondSize`] if there is no such leaf.
    pub fn new(index: u64, size: u64) -> Result<Climb, MerkleError> {
        if index >= size {
            return Err(MerkleError::IndexBeyondSize { index, size });
        }
        Ok(Climb { index, last: size - 1 })
    }

    /// How many hashes the path of this climb has.
    pub fn path_hashes(self) -> usize {
        self.filter(|sibling| *sibling != Sibling::Absent).count()
    }

    /// Goes up while the node is a right child; returns how many levels that was.
    fn skip_right_children(&mut self) -> usize {
        let levels = self.index.trailing_ones();
        self.index >>= levels;
        self.last >>= levels;
        usize::try_from(levels).expect("at most 64 levels")
    }
}

impl Iterator for Climb {
    type Item = Sibling;

    fn next(&mut self) -> Option<Sibling> {
        if self.last == 0 {
            return None;
        }
        let sibling = if self.index % 2 == 1 {
            Sibling::Left
        } else if self.index < self.last {
            Sibling::Right
        } else {
            Sibling::Absent
        };
        self.index /= 2;
        self.last /= 2;
        Some(sibling)
    }
}

/// A whole tree in memory, for making many paths: about two hashes, 64 bytes, for each leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Level after level: the leaves first, the root last.
    nodes: Vec<Hash>,
    leaves: usize,
}

impl Tree {
    /// Hashes the leaves up to the root.
    pub fn new(leaves: &[Hash]) -> Tree {
        let mut nodes = Vec::with_capacity(nodes_of(leaves.len()));
        nodes.extend_from_slice(leaves);
        let (mut level, mut width) = (0, leaves.len());
        while width > 1 {
            for left in (level..level + width).step_by(2) {
                // An odd last node rises unchanged.
                let odd = left + 1 == level + width;
                nodes.push(if odd { nodes[left] } else { node_hash(&nodes[left], &nodes[left + 1]) });
            }
            level += width;
            width = width.div_ceil(2);
        }
        Tree { nodes, leaves: leaves.len() }
    }

    /// Leaves in the tree.
    pub fn size(&self) -> usize {
        self.leaves
    }

    /// The root; of no leaves, [`empty_root`].
    pub fn root(&self) -> Hash {
        self.nodes.last().copied().unwrap_or_else(empty_root)
    }

    /// The path that proves leaf `index` to be in this tree.
    ///
    /// # Panics
    /// If there is no such leaf.
    pub fn inclusion_path(&self, index: usize) -> Vec<Hash> {
        let climb = Climb::new(wide(index), wide(self.size())).expect("the leaf is in the tree");
        self.siblings(climb, 0, index)
    }

    /// The path that proves the first `old_size` leaves to be the whole of an older tree.
    ///
    /// # Panics
    /// If the older tree is the larger one.
    pub fn consistency_path(&self, old_size: usize) -> Vec<Hash> {
        assert!(old_size <= self.size(), "an older tree is no larger than this one");
        if old_size == 0 || old_size == self.size() {
            return Vec::new();
        }
        let mut climb = Climb::new(wide(old_size - 1), wide(self.size())).expect("old_size is not larger");
        let level = climb.skip_right_children();
        let node = (old_size - 1) >> level;
        // The older tree's last complete subtree, unless that is the older tree itself.
        let mut path = if node == 0 { Vec::new() } else { vec![self.level(level)[node]] };
        path.extend(self.siblings(climb, level, node));
        path
    }

    fn level(&self, level: usize) -> &[Hash] {
        let (mut start, mut width) = (0, self.leaves);
        for _ in 0..level {
            start += width;
            width = width.div_ceil(2);
        }
        &self.nodes[start..start + width]
    }

    fn siblings(&self, climb: Climb, level: usize, index: usize) -> Vec<Hash> {
        let mut path = Vec::with_capacity(climb.path_hashes());
        for (up, sibling) in climb.enumerate() {
            let (nodes, node) = (self.level(level + up), index >> up);
            match sibling {
                Sibling::Left => path.push(nodes[node - 1]),
                Sibling::Right => path.push(nodes[node + 1]),
                Sibling::Absent => {}
            }
        }
        path
    }
}

/// The root over the leaves; of none, [`empty_root`].
pub fn root(leaves: &[Hash]) -> Hash {
    Tree::new(leaves).root()
}

/// The path that proves leaf `index`. For several leaves of one tree, make a [`Tree`] once.
///
/// # Panics
/// If there is no such leaf.
pub fn inclusion_path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    Tree::new(leaves).inclusion_path(index)
}

/// The path that proves the first `old_size` leaves to be the whole of an older tree.
///
/// # Panics
/// If the older tree is the larger one.
pub fn consistency_path(leaves: &[Hash], old_size: usize) -> Vec<Hash> {
    Tree::new(leaves).consistency_path(old_size)
}

/// The subtrees whose roots prove leaf `index` to be in a tree of `size`, from below: ranges of leaves, for
/// whoever finds roots elsewhere than in a [`Tree`].
///
/// # Errors
/// [`MerkleError::IndexBeyondSize`].
pub fn inclusion_ranges(index: u64, size: u64) -> Result<Vec<Range<u64>>, MerkleError> {
    Ok(sibling_ranges(Climb::new(index, size)?, 0, index, size))
}

/// The subtrees whose roots prove a tree of `size` to start with the `old_size` leaves of an older one.
///
/// # Errors
/// [`MerkleError::Shrunk`].
pub fn consistency_ranges(old_size: u64, size: u64) -> Result<Vec<Range<u64>>, MerkleError> {
    if old_size > size {
        return Err(MerkleError::Shrunk { old: old_size, new: size });
    }
    if old_size == 0 || old_size == size {
        return Ok(Vec::new());
    }
    let mut climb = Climb::new(old_size - 1, size)?;
    let level = climb.skip_right_children();
    let node = (old_size - 1) >> level;
    // The older tree's last complete subtree, unless that is the older tree itself.
    let mut ranges = if node == 0 { Vec::new() } else { vec![leaves_below(node, level, size)] };
    ranges.extend(sibling_ranges(climb, level, node, size));
    Ok(ranges)
}

/// The root that leaf and path lead to; the caller compares it with the root it trusts.
///
/// # Errors
/// [`MerkleError::IndexBeyondSize`], or [`MerkleError::PathLength`] unless the path has exactly the
/// length that index and size demand (RFC 9162 section 2.1.3.2).
pub fn root_from_inclusion(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Result<Hash, MerkleError> {
    let climb = Climb::new(index, size)?;
    let mut path = path.iter();
    let mut node = leaf;
    for sibling in climb {
        match sibling {
            Sibling::Left => node = node_hash(path.next().ok_or(MerkleError::PathLength)?, &node),
            Sibling::Right => node = node_hash(&node, path.next().ok_or(MerkleError::PathLength)?),
            Sibling::Absent => {}
        }
    }
    if path.next().is_some() { Err(MerkleError::PathLength) } else { Ok(node) }
}

/// Verifies that a tree of `new_size` leaves starts with all the leaves of one of `old_size`
/// (RFC 9162 section 2.1.4.2).
///
/// Everything is consistent with the empty tree, by an empty path; so is a tree with itself.
///
/// # Errors
/// [`MerkleError::Shrunk`], [`MerkleError::PathLength`] unless the length is exact, or
/// [`MerkleError::RootMismatch`].
pub fn verify_consistency(
    old_size: u64,
    old_root: Hash,
    new_size: u64,
    new_root: Hash,
    path: &[Hash],
) -> Result<(), MerkleError> {
    if old_size > new_size {
        return Err(MerkleError::Shrunk { old: old_size, new: new_size });
    }
    if old_size == 0 || old_size == new_size {
        let old_fits = old_size > 0 || old_root == empty_root();
        let new_fits = old_size < new_size || old_root == new_root;
        return match (path.is_empty(), old_fits && new_fits) {
            (true, true) => Ok(()),
            (true, false) => Err(MerkleError::RootMismatch),
            (false, _) => Err(MerkleError::PathLength),
        };
    }
    let mut path = path.iter();
    let mut climb = Climb::new(old_size - 1, new_size)?;
    climb.skip_right_children();
    let seed = if climb.index == 0 { old_root } else { *path.next().ok_or(MerkleError::PathLength)? };
    let (mut old, mut new) = (seed, seed);
    for sibling in climb {
        match sibling {
            Sibling::Left => {
                let left = path.next().ok_or(MerkleError::PathLength)?;
                (old, new) = (node_hash(left, &old), node_hash(left, &new));
            }
            Sibling::Right => new = node_hash(&new, path.next().ok_or(MerkleError::PathLength)?),
            Sibling::Absent => {}
        }
    }
    if path.next().is_some() {
        return Err(MerkleError::PathLength);
    }
    if old == old_root && new == new_root { Ok(()) } else { Err(MerkleError::RootMismatch) }
}

fn sibling_ranges(climb: Climb, level: usize, index: u64, size: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::with_capacity(climb.path_hashes());
    for (up, sibling) in climb.enumerate() {
        let node = index >> up;
        match sibling {
            Sibling::Left => ranges.push(leaves_below(node - 1, level + up, size)),
            Sibling::Right => ranges.push(leaves_below(node + 1, level + up, size)),
            Sibling::Absent => {}
        }
    }
    ranges
}

/// The leaves under a node that exists in a tree of `size`; the last node of a level may have fewer.
fn leaves_below(node: u64, level: usize, size: u64) -> Range<u64> {
    let end = (u128::from(node) + 1) << level;
    node << level..u64::try_from(end).unwrap_or(size).min(size)
}

/// Nodes of a tree over so many leaves, all levels together.
fn nodes_of(leaves: usize) -> usize {
    let (mut nodes, mut width) = (leaves, leaves);
    while width > 1 {
        width = width.div_ceil(2);
        nodes += width;
    }
    nodes
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("a count in memory fits 64 bits")
}
