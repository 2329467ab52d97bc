//! How what was sent and received stands in the log: proven, and witnessed by how many.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, Tx, alarms,
    columns::{integer, micros},
    owing::leaf_of,
};
use crate::{
    desk::view::Witnessed,
    limits::{CHECKPOINTS_OWED_MAX, PUBLISHED_APART, UNPROVEN_TIME_MAX},
    roster::PartyNumber,
    wire::{
        EnvelopeHash, Position,
        receipt::{ReceiptItem, ReceiptKind},
    },
};

/// Key of the alarm that the relay shows no checkpoint over what it told of.
pub(super) const UNCOVERED: &str = "checkpoint-overdue";

impl Store {
    /// Notes that the relay owes a checkpoint over this leaf for too long, though its session lives; or, of none, that it
    /// owes none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn uncovered(&mut self, position: Option<Position>, now: Timestamp) -> Result<(), StoreError> {
        let sentence = position.map(|position| {
            format!(
                "the relay answers, and for two intervals it has shown no checkpoint of the audit log over position {}, which it \
                 told this desk of: its log hangs, or it holds checkpoints back; mail goes on, there is nothing to save, and \
                 call whoever runs the relay; if the relay has no trouble, telephone the ministry's watch officer and one other \
                 mission",
                position.0
            )
        });
        self.write(|tx| alarms::hold(tx, now, UNCOVERED, sentence.as_deref()))
    }

    /// Raises or ends the alarm that proofs are owed for longer than [`UNPROVEN_TIME_MAX`], whatever checkpoints came,
    /// while this desk has run, `running` until now. To be called now and then. The time is counted from the first call
    /// on that sees a proof owed: a wall clock that is set accuses nobody.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn look_at_proofs(&mut self, running: Duration, now: Timestamp) -> Result<(), StoreError> {
        let sql = "SELECT count(*), min(rowid) FROM proofs WHERE checkpoint IS NULL";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (count, oldest): (u64, Option<i64>) =
            self.connection.prepare_cached(sql)?.query_row([], row).map_err(StoreError::from)?;
        let seen = self.oldest_owed.filter(|(seen, _)| Some(*seen) == oldest);
        self.oldest_owed = seen.or(oldest.map(|oldest| (oldest, running)));
        let is_due = self.oldest_owed.is_some_and(|(_, since)| running >= since + UNPROVEN_TIME_MAX);
        self.write(|tx| hold_unproven(tx, is_due.then_some(count), now))
    }
}

/// Who has witnessed the leaf that salt and opening make at a position; `None` while its proof is owed.
pub(super) fn of_leaf(
    tx: &Tx<'_>,
    position: Position,
    salt: &[u8],
    opening: &[u8],
) -> Result<Option<Witnessed>, StoreError> {
    let sql = "SELECT witnesses, of FROM proofs JOIN checkpoints ON checkpoint = id
        WHERE position = ?1 AND leaf = ?2 AND found IS NULL";
    let key = params![position, leaf_of(salt, opening)];
    let found =
        tx.db.prepare_cached(sql)?.query_row(key, |row| Ok(Witnessed { by: row.get(0)?, of: row.get(1)? }));
    Ok(found.optional()?)
}

/// Who has witnessed an accepted envelope of this desk.
pub(super) fn of_sent(tx: &Tx<'_>, envelope: EnvelopeHash) -> Result<Option<Witnessed>, StoreError> {
    let sql = "SELECT position, salt, opening FROM submissions WHERE hash = ?1 AND state = 1";
    leaf_in(tx, sql, envelope)
}

/// Who has witnessed an envelope of the inbox.
pub(super) fn of_received(tx: &Tx<'_>, envelope: EnvelopeHash) -> Result<Option<Witnessed>, StoreError> {
    leaf_in(tx, "SELECT position, salt, opening FROM inbox WHERE hash = ?1", envelope)
}

fn leaf_in(tx: &Tx<'_>, sql: &str, envelope: EnvelopeHash) -> Result<Option<Witnessed>, StoreError> {
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query([envelope])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (salt, opening): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
    of_leaf(tx, row.get(0)?, &salt, &opening)
}

/// Who has witnessed the receipts that came for an envelope, by addressee and kind.
pub(super) fn of_receipts(
    tx: &Tx<'_>,
    envelope: EnvelopeHash,
) -> Result<BTreeMap<(PartyNumber, ReceiptKind), Witnessed>, StoreError> {
    let sql = "SELECT item, position, salt, opening FROM receipts_of JOIN receipts_in USING (position, hash)
        WHERE envelope = ?1";
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query([envelope])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let bytes: Vec<u8> = row.get(0)?;
        let item = ReceiptItem::decode(&bytes).map_err(|_| StoreError::Corrupt { what: "a receipt" })?;
        let (salt, opening): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
        if let Some(witnessed) = of_leaf(tx, row.get(1)?, &salt, &opening)? {
            found.insert((item.addressee, item.kind), witnessed);
        }
    }
    Ok(found)
}

/// Raises or ends the alarm that proofs are overdue: a checkpoint of so many leaves was published, not the first one
/// since the relay told of a leaf that it does not cover, and for longer than it takes to publish them. How far this
/// desk has followed, or what it has fetched, does not matter.
pub(super) fn hold_overdue(tx: &Tx<'_>, size: u64, now: Timestamp) -> Result<(), StoreError> {
    let sql = "SELECT count(*), min(position) FROM proofs, log WHERE checkpoint IS NULL
        AND published - owed_count >= ?1 AND abs(?2 - owed_at) >= ?3 AND position >= ?4";
    let least = i64::try_from((PUBLISHED_APART * CHECKPOINTS_OWED_MAX).as_micros()).expect("seconds");
    let row = params![CHECKPOINTS_OWED_MAX, micros(now), least, integer(size)];
    let (count, first): (u64, Option<i64>) =
        tx.db.prepare_cached(sql)?.query_row(row, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sentence = first.map(|first| {
        format!(
            "{count} records that the relay told this desk of are not proven to be in the audit log, though two \
             checkpoints have come since (the first at position {first}); mail goes on: save this desk's folder, do not \
             restart anything, and telephone the ministry's watch officer and one other mission"
        )
    });
    alarms::hold(tx, now, "proof-overdue", sentence.as_deref())
}

/// Raises or ends the alarm that no quorum signs.
fn hold_unproven(tx: &Tx<'_>, overdue: Option<u64>, now: Timestamp) -> Result<(), StoreError> {
    let sentence = overdue.map(|count| {
        format!(
            "for {} minutes no checkpoint that log and quorum have signed has covered {count} records that the relay \
             told this desk of: too few desks cosign, the line is down, or the relay holds checkpoints back; mail \
             goes on, there is nothing to save, and telephone the ministry's watch officer if it does not end by itself",
            UNPROVEN_TIME_MAX.as_secs() / 60,
        )
    });
    alarms::hold(tx, now, "unproven", sentence.as_deref())
}
