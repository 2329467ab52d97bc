//! Proofs owed: for every leaf that the relay told of, that the log holds it has yet to be proven (FORMATS 9).

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{
    StoreError, Tx,
    columns::micros,
    receipts::{decoded, parts},
};
use crate::{
    merkle::{self, Hash},
    record::leaf::traffic_leaf,
    wire::{EnvelopeHash, Position, receipt::ReceiptItem},
};

/// The hash of the leaf that salt and opening make.
pub(super) fn leaf_of(salt: &[u8], opening: &[u8]) -> Hash {
    merkle::leaf_hash(&traffic_leaf(salt, opening))
}

/// Notes that the relay told of a leaf. Told again, it is owed no second time; another leaf at the same position is
/// another proof, of which one cannot be paid.
pub(super) fn owe(tx: &Tx<'_>, position: Position, leaf: Hash, now: Timestamp) -> Result<(), StoreError> {
    insert(tx.db, position, leaf, micros(now))
}

/// Forgets what is owed of a log that ended: nobody can pay it. What was proven stays.
pub(super) fn forget(tx: &Tx<'_>) -> Result<(), StoreError> {
    tx.db.execute("DELETE FROM proofs WHERE checkpoint IS NULL", [])?;
    Ok(())
}

/// Notes which envelopes a receipt of another party names.
pub(super) fn index_receipt(
    db: &Connection,
    position: Position,
    item_hash: Hash,
    item: &ReceiptItem,
) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO receipts_of (envelope, position, hash) VALUES (?1, ?2, ?3)";
    let mut statement = db.prepare_cached(sql)?;
    for (envelope, _) in &item.envelopes {
        statement.execute(params![envelope, position, item_hash])?;
    }
    Ok(())
}

/// Notes which envelopes a frame of this desk names.
pub(super) fn index_stored<'a>(
    db: &Connection,
    log: i64,
    number: i64,
    envelopes: impl IntoIterator<Item = &'a (EnvelopeHash, Position)>,
) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO stored_of (envelope, log, number) VALUES (?1, ?2, ?3)";
    let mut statement = db.prepare_cached(sql)?;
    for (envelope, _) in envelopes {
        statement.execute(params![envelope, log, number])?;
    }
    Ok(())
}

/// Owes a proof for all that a store holds which knew of none, from now on, and notes what its receipts name. Where it
/// has met more than one log, only its own frames are known to be of this one: for the others nothing is owed.
pub(super) fn owe_all(db: &Connection) -> Result<(), StoreError> {
    let now = db.query_row("SELECT unixepoch() * 1000000", [], |row| row.get(0))?;
    let sql = "SELECT submissions.position, salt, opening FROM submissions, desk WHERE state = 1 AND log = 1
        UNION ALL SELECT inbox.position, salt, opening FROM inbox, desk WHERE log = 1
        UNION ALL SELECT receipts_in.position, salt, opening FROM receipts_in, desk WHERE log = 1
        UNION ALL SELECT position, salt, opening FROM stored WHERE position IS NOT NULL";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (salt, opening): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get(1)?, row.get(2)?);
        if let (Some(salt), Some(opening)) = (salt, opening) {
            insert(db, row.get(0)?, leaf_of(&salt, &opening), now)?;
        }
    }
    let mut statement = db.prepare("SELECT position, hash, item FROM receipts_in")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // Hash by hash it was verified before it was kept.
        if let Ok(item) = ReceiptItem::decode(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?) {
            index_receipt(db, row.get(0)?, row.get(1)?, &item)?;
        }
    }
    let sql = "SELECT desk.log, number, frame FROM stored, desk UNION ALL SELECT log, number, frame FROM stored_earlier";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let parts = parts(&decoded(row.get(2)?)?)?;
        let envelopes = parts.iter().flat_map(|part| &part.item.envelopes);
        index_stored(db, row.get(0)?, row.get(1)?, envelopes)?;
    }
    Ok(())
}

fn insert(db: &Connection, position: Position, leaf: Hash, owed_at: i64) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO proofs (position, leaf, owed_at, owed_count)
        VALUES (?1, ?2, ?3, coalesce((SELECT published FROM log), 0))";
    db.prepare_cached(sql)?.execute(params![position, leaf, owed_at])?;
    Ok(())
}
