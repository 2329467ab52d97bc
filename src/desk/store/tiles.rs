//! Hashes of the audit log's tree, kept as its leaves are followed: what proofs are cut from, with no relay.
//!
//! A row is a tile as tlog-tiles has it, whole or as far as the log was followed. Beyond the verified size its
//! hashes are provisional: nobody reads them, and following again writes them again. Of level 0 the newest
//! [`LEAF_TILES_KEPT`] stay, 8 KiB each; those above are one 256th of that, and stay.

use rusqlite::{OptionalExtension, params};

use super::{StoreError, Tx, columns::integer};
use crate::{
    audit::{TILE_HASHES, TilePath},
    limits::{HASH_BYTES, LEAF_TILES_KEPT},
    merkle::{self, Hash},
};

/// Keeps the hashes of leaves from index `first` on. Where those before them in a tile are not kept, as in a store
/// that followed the log before tiles were, the tile is left out: the log has it.
pub(super) fn append(tx: &Tx<'_>, first: u64, leaves: &[Hash]) -> Result<(), StoreError> {
    let mut at = first;
    let mut rest = leaves;
    while !rest.is_empty() {
        let room = usize::try_from(TILE_HASHES - at % TILE_HASHES).expect("at most 256");
        let (now, later) = rest.split_at(room.min(rest.len()));
        place(tx, 0, at, now)?;
        at += now.len() as u64;
        rest = later;
    }
    let newest = at / TILE_HASHES;
    let sql = "DELETE FROM tiles WHERE level = 0 AND tile < ?1";
    tx.db.prepare_cached(sql)?.execute([integer(newest.saturating_sub(LEAF_TILES_KEPT))])?;
    Ok(())
}

/// The hashes of a tile, at least as wide as asked, where they are kept.
pub(super) fn read(tx: &Tx<'_>, path: TilePath) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT hashes FROM tiles WHERE level = ?1 AND tile = ?2";
    let key = params![path.level, integer(path.index)];
    let hashes: Option<Vec<u8>> = tx.db.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
    Ok(hashes.filter(|hashes| hashes.len() >= usize::from(path.width) * HASH_BYTES))
}

/// Gives up a tile that does not fit the tree: the log has it.
pub(super) fn drop_tile(tx: &Tx<'_>, path: TilePath) -> Result<(), StoreError> {
    let sql = "DELETE FROM tiles WHERE level = ?1 AND tile = ?2";
    tx.db.prepare_cached(sql)?.execute(params![path.level, integer(path.index)])?;
    Ok(())
}

/// Forgets all of it: another log begins.
pub(super) fn clear(tx: &Tx<'_>) -> Result<(), StoreError> {
    tx.db.execute("DELETE FROM tiles", [])?;
    Ok(())
}

/// Puts nodes of one tile behind those before `at`, and the root of a tile that is full into the one above.
fn place(tx: &Tx<'_>, level: u8, at: u64, nodes: &[Hash]) -> Result<(), StoreError> {
    let (tile, before) = (at / TILE_HASHES, usize::try_from(at % TILE_HASHES).expect("below 256"));
    let key = |width| TilePath { level, index: tile, width };
    let before_bytes = before * HASH_BYTES;
    let mut hashes = match before {
        0 => Vec::new(),
        _ => match read(tx, key(u16::try_from(before).expect("below 256")))? {
            Some(mut kept) => {
                kept.truncate(before_bytes);
                kept
            }
            None => return Ok(()),
        },
    };
    nodes.iter().for_each(|node| hashes.extend_from_slice(node.as_bytes()));
    let sql = "INSERT OR REPLACE INTO tiles (level, tile, hashes) VALUES (?1, ?2, ?3)";
    tx.db.prepare_cached(sql)?.execute(params![level, integer(tile), hashes])?;
    let (whole, _) = hashes.as_chunks::<HASH_BYTES>();
    if whole.len() as u64 == TILE_HASHES {
        let whole: Vec<Hash> = whole.iter().copied().map(Hash).collect();
        place(tx, level + 1, tile, &[merkle::root(&whole)])?;
    }
    Ok(())
}
