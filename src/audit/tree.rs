//! Roots and paths, found in tiles.

use std::{collections::BTreeMap, ops::Range};

use super::{
    AuditError,
    tile::{TILE_HASHES, TilePath},
};
use crate::{
    limits::HASH_BYTES,
    merkle::{self, Hash, node_hash},
};

/// A tree of a certain size whose nodes stand in tiles. Each tile is asked for once and kept: 8 KiB each.
pub struct TileTree<F> {
    size: u64,
    read: F,
    kept: BTreeMap<(u8, u64), Vec<Hash>>,
}

impl<E, F> TileTree<F>
where
    E: From<AuditError>,
    F: FnMut(TilePath) -> Result<Vec<u8>, E>,
{
    /// A tree of so many leaves. `read` gives the bytes of a tile as wide as asked, or wider.
    pub fn new(size: u64, read: F) -> TileTree<F> {
        TileTree { size, read, kept: BTreeMap::new() }
    }

    /// The root.
    ///
    /// # Errors
    /// What `read` answers, and [`AuditError::Tile`].
    pub fn root(&mut self) -> Result<Hash, E> {
        self.root_of(0..self.size)
    }

    /// The path that proves leaf `index` to be in the tree.
    ///
    /// # Errors
    /// As [`TileTree::root`], and [`AuditError::Merkle`] if there is no such leaf.
    pub fn inclusion_path(&mut self, index: u64) -> Result<Vec<Hash>, E> {
        let ranges = merkle::inclusion_ranges(index, self.size).map_err(AuditError::from)?;
        ranges.into_iter().map(|range| self.root_of(range)).collect()
    }

    /// The path that proves the first `old_size` leaves to be the whole of an older tree.
    ///
    /// # Errors
    /// As [`TileTree::root`], and [`AuditError::Merkle`] if the older tree is the larger one.
    pub fn consistency_path(&mut self, old_size: u64) -> Result<Vec<Hash>, E> {
        let ranges = merkle::consistency_ranges(old_size, self.size).map_err(AuditError::from)?;
        ranges.into_iter().map(|range| self.root_of(range)).collect()
    }

    /// The root of the older tree over the first so many leaves.
    ///
    /// # Errors
    /// As [`TileTree::consistency_path`].
    pub fn old_root(&mut self, old_size: u64) -> Result<Hash, E> {
        merkle::consistency_ranges(old_size, self.size).map_err(AuditError::from)?;
        self.root_of(0..old_size)
    }

    /// The hash of one leaf.
    ///
    /// # Errors
    /// As [`TileTree::inclusion_path`].
    pub fn leaf(&mut self, index: u64) -> Result<Hash, E> {
        merkle::inclusion_ranges(index, self.size).map_err(AuditError::from)?;
        self.node(0, index)
    }

    /// The root over a range of leaves that starts where a subtree starts which holds all of it.
    fn root_of(&mut self, range: Range<u64>) -> Result<Hash, E> {
        let mut nodes = Vec::new();
        let (mut at, mut left) = (range.start, range.end - range.start);
        while left > 0 {
            let level = left.ilog2();
            nodes.push(self.node(level, at >> level)?);
            at += 1 << level;
            left -= 1 << level;
        }
        let folded = nodes.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
        Ok(folded.unwrap_or_else(merkle::empty_root))
    }

    /// The root of the complete subtree of 2^level leaves, counted from the left.
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, E> {
        let tile_level = u8::try_from(level / 8).expect("a tree has at most 64 levels");
        // So many hashes of the tile lie below the node; 128 at most, so all of them in one tile.
        let width = 1_u64 << (level % 8);
        let first = index * width;
        let hashes = self.tile(tile_level, first / TILE_HASHES)?;
        let at = usize::try_from(first % TILE_HASHES).expect("below 256");
        let below = hashes.get(at..at + usize::try_from(width).expect("at most 128"));
        Ok(merkle::root(below.ok_or(AuditError::Tile)?))
    }

    fn tile(&mut self, level: u8, index: u64) -> Result<&[Hash], E> {
        let path = TilePath::in_tree(level, index, self.size).ok_or(AuditError::Tile)?;
        if !self.kept.contains_key(&(level, index)) {
            let bytes = (self.read)(path)?;
            let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
            if !rest.is_empty() || hashes.len() < usize::from(path.width) {
                return Err(AuditError::Tile.into());
            }
            self.kept.insert((level, index), hashes.iter().copied().map(Hash).collect());
        }
        Ok(&self.kept[&(level, index)])
    }
}
