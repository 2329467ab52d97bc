//! Proofs that the log holds a leaf: cut from tiles, verified, and kept for good, so that a proof file can be written
//! with no relay at hand.
//!
//! A proof leads to the newest checkpoint that log and quorum have signed. Where a tile is not kept here, the link
//! fetches it; nothing that comes so is believed before a path through it leads to the checkpoint's root.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, Tx, alarms,
    columns::integer,
    doubts::{self, Shown},
    tiles,
};
use crate::{
    audit::{AuditError, LeafProof, LogTrust, SignedCheckpoint, TilePath, TileTree},
    limits::{HASH_BYTES, PROOFS_PER_TURN},
    merkle::{Hash, root_from_inclusion},
    wire::Position,
};

/// Tiles that the link fetched from the relay, by level and index, as wide as they came. Nothing in them is verified.
pub type FetchedTiles = BTreeMap<(u8, u64), Bytes>;

/// The checkpoint that was opened last: by which roster, its note, and what it is where it counts. A turn of proving
/// comes with each record that the relay tells of, a checkpoint seldom.
pub(super) type Opened = RefCell<Option<(Hash, Vec<u8>, Option<SignedCheckpoint>)>>;

/// What became of a turn of proving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proved {
    /// Where the next turn goes on; `None` where all that is owed was looked at.
    pub next: Option<Position>,
    /// Tiles that are needed and not at hand, with the first leaf whose proof needs each.
    pub missing: BTreeMap<TilePath, Position>,
    /// Fetched tiles that do not make the checkpoint's root.
    pub damaged: BTreeSet<TilePath>,
}

impl Store {
    /// Cuts proofs that are owed, by position from `after` on: at most [`PROOFS_PER_TURN`]. `fetched` are tiles that
    /// were missing in an earlier turn. Durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prove(
        &mut self,
        fetched: &FetchedTiles,
        after: Option<Position>,
        now: Timestamp,
    ) -> Result<Proved, StoreError> {
        self.write(|tx| match witnessed(tx)? {
            Some(signed) => prove(tx, &signed, fetched, after, now),
            None => Ok(Proved::default()),
        })
    }
}

/// The proof that the log holds this leaf at a position, with what opens it; `None` where there is none.
pub(super) fn proof_of(
    tx: &Tx<'_>,
    position: Position,
    leaf: Hash,
    extra: Option<Vec<u8>>,
) -> Result<Option<LeafProof>, StoreError> {
    let sql = "SELECT path, note FROM proofs JOIN checkpoints ON checkpoint = id
        WHERE position = ?1 AND leaf = ?2 AND found IS NULL";
    let mut statement = tx.db.prepare_cached(sql)?;
    let row = statement
        .query_row(params![position, leaf], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)));
    let Some((path, note)) = row.optional()? else { return Ok(None) };
    let (path, _) = path.as_chunks::<HASH_BYTES>();
    let checkpoint = String::from_utf8(note)
        .map_err(|_| StoreError::Corrupt { what: "a checkpoint that a proof leads to" })?;
    let path = path.iter().copied().map(Hash).collect();
    Ok(Some(LeafProof { extra, index: position.0, path, checkpoint }))
}

/// The newest checkpoint that log and quorum have signed, by the roster in force. Where the roster has no witness
/// yet, the log's own signature is all there can be.
pub(super) fn witnessed(tx: &Tx<'_>) -> Result<Option<SignedCheckpoint>, StoreError> {
    let note = tx.db.prepare_cached("SELECT witnessed FROM log")?.query_row([], |row| row.get(0));
    let note: Option<Vec<u8>> = note.optional()?;
    let (Some(note), Some(roster)) = (note, tx.roster) else { return Ok(None) };
    let mut opened = tx.opened.borrow_mut();
    match &*opened {
        Some((by, of, signed)) if *by == roster.hash() && *of == note => Ok(signed.clone()),
        _ => {
            let trust = LogTrust::of(roster);
            // One that another roster's witnesses signed counts no longer: the next one will.
            let signed = trust.open(&note).ok();
            let signed = signed.filter(|signed| trust.quorum() == 0 || signed.is_witnessed());
            *opened = Some((roster.hash(), note, signed.clone()));
            Ok(signed)
        }
    }
}

/// More witnesses have cosigned a checkpoint that proofs lead to already.
pub(super) fn improve(tx: &Tx<'_>, signed: &SignedCheckpoint) -> Result<(), StoreError> {
    if let Some(id) = known(tx, signed)? {
        let sql =
            "UPDATE checkpoints SET witnesses = ?2, of = ?3, note = ?4 WHERE id = ?1 AND witnesses < ?2";
        let (witnesses, of) = counted(tx, signed);
        tx.db.prepare_cached(sql)?.execute(params![id, witnesses, of, signed.note.to_bytes()])?;
    }
    Ok(())
}

fn prove(
    tx: &Tx<'_>,
    signed: &SignedCheckpoint,
    fetched: &FetchedTiles,
    after: Option<Position>,
    now: Timestamp,
) -> Result<Proved, StoreError> {
    let sql = "SELECT position, leaf FROM proofs
        WHERE checkpoint IS NULL AND position > ?1 AND position < ?2 ORDER BY position LIMIT ?3";
    let after = after.map_or(-1, |after| integer(after.0));
    let mut statement = tx.db.prepare_cached(sql)?;
    let bounds = params![after, integer(signed.checkpoint.size), PROOFS_PER_TURN];
    let rows = statement.query_map(bounds, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let owed: Vec<(Position, Hash)> = rows.collect::<Result<_, _>>()?;
    let is_whole_turn = owed.len() as u64 == u64::from(PROOFS_PER_TURN);
    let next = owed.last().map(|(position, _)| *position).filter(|_| is_whole_turn);
    let mut proved = Proved { next, ..Proved::default() };
    for (position, leaf) in owed {
        match cut(tx, signed, fetched, position)? {
            Cut::Path { found, path } => {
                let path: Vec<u8> = path.iter().flat_map(|hash| hash.0).collect();
                let is_lie = found != leaf;
                let found = Some(found).filter(|_| is_lie);
                let sql = "UPDATE proofs SET checkpoint = ?3, found = ?4, path = ?5 WHERE position = ?1 AND leaf = ?2";
                let id = checkpoint_id(tx, signed)?;
                tx.db.prepare_cached(sql)?.execute(params![position, leaf, id, found, path])?;
                if is_lie {
                    let note = signed.note.to_bytes();
                    let shown = Shown { what: &note, proof: &[] };
                    doubts::raise(tx, now, alarms::AUDIT_LOG, &another_leaf(position), &shown)?;
                }
            }
            Cut::Missing(path) => drop(proved.missing.entry(path).or_insert(position)),
            Cut::Damaged(paths) => proved.damaged.extend(paths),
        }
    }
    Ok(proved)
}

/// What the tiles give for a position.
enum Cut {
    /// The leaf that is there, and its path to the checkpoint's root.
    Path { found: Hash, path: Vec<Hash> },
    /// This tile is not at hand.
    Missing(TilePath),
    /// They make another root: these were fetched. Those of our own are given up.
    Damaged(Vec<TilePath>),
}

fn cut(
    tx: &Tx<'_>,
    signed: &SignedCheckpoint,
    fetched: &FetchedTiles,
    position: Position,
) -> Result<Cut, StoreError> {
    let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
    let used = RefCell::new((Vec::new(), Vec::new()));
    let mut tree = TileTree::new(size, |path: TilePath| {
        let wide = |bytes: &&Bytes| bytes.len() >= usize::from(path.width) * HASH_BYTES;
        if let Some(bytes) = tiles::read(tx, path)? {
            used.borrow_mut().0.push(path);
            Ok(bytes)
        } else if let Some(bytes) = fetched.get(&(path.level, path.index)).filter(wide) {
            used.borrow_mut().1.push(path);
            Ok(bytes.to_vec())
        } else {
            Err(CutError::Missing(path))
        }
    });
    let found = tree.leaf(position.0);
    let cut = found.and_then(|found| Ok((found, tree.inclusion_path(position.0)?)));
    drop(tree);
    match cut {
        Ok((found, path)) if root_from_inclusion(found, position.0, size, &path) == Ok(root) => {
            Ok(Cut::Path { found, path })
        }
        Err(CutError::Missing(path)) => Ok(Cut::Missing(path)),
        Err(CutError::Store(error)) => Err(error),
        Ok(_) | Err(CutError::Audit) => {
            let (own, fetched) = used.into_inner();
            own.into_iter().try_for_each(|path| tiles::drop_tile(tx, path))?;
            Ok(Cut::Damaged(fetched))
        }
    }
}

pub(super) enum CutError {
    /// This tile is not at hand.
    Missing(TilePath),
    /// The store failed.
    Store(StoreError),
    /// Tiles that make no tree.
    Audit,
}

impl From<AuditError> for CutError {
    fn from(_: AuditError) -> CutError {
        CutError::Audit
    }
}

impl From<StoreError> for CutError {
    fn from(error: StoreError) -> CutError {
        CutError::Store(error)
    }
}

/// The row of a checkpoint that proofs lead to.
fn checkpoint_id(tx: &Tx<'_>, signed: &SignedCheckpoint) -> Result<i64, StoreError> {
    if let Some(id) = known(tx, signed)? {
        return Ok(id);
    }
    let (witnesses, of) = counted(tx, signed);
    let sql = "INSERT INTO checkpoints (size, witnesses, of, note) VALUES (?1, ?2, ?3, ?4)";
    let row = params![integer(signed.checkpoint.size), witnesses, of, signed.note.to_bytes()];
    tx.db.prepare_cached(sql)?.execute(row)?;
    Ok(tx.db.last_insert_rowid())
}

/// Finds one by all that it says: logs of another origin have their own checkpoint of the same size.
fn known(tx: &Tx<'_>, signed: &SignedCheckpoint) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT id FROM checkpoints WHERE size = ?1 AND substr(note, 1, length(?2)) = ?2";
    let size = integer(signed.checkpoint.size);
    let found =
        tx.db.prepare_cached(sql)?.query_row(params![size, signed.note.text().as_bytes()], |row| row.get(0));
    Ok(found.optional()?)
}

/// How many witnesses have cosigned, of how many.
fn counted(tx: &Tx<'_>, signed: &SignedCheckpoint) -> (u32, u32) {
    let of = tx.roster.map_or(0, |roster| roster.witnesses().count());
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (small(signed.witnesses.len()), small(of))
}

fn another_leaf(position: Position) -> String {
    format!(
        "the audit log holds another leaf at position {} than the relay told this desk of; {}",
        position.0,
        alarms::LOG_WHAT_NOW
    )
}
