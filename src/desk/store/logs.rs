//! When the relay begins a new log, as after a loss that no backup mends: the roster names its origin (FORMATS 3
//! and 4). Positions of the old log mean nothing in it, and what nobody is known to have goes out again.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{
    StoreError, Tx, alarms, claims,
    columns::integer,
    orders, owing, receipts,
    sealing::{self, Room, SealedSubmit},
    tiles,
};
use crate::{identity::Kind, keys::SigningKey, limits, wire::receipt::ReceiptKind};

/// Whether the roster held names another log than the one that this store knows positions of. The first one
/// that a store meets is noted, and is nothing new.
pub(super) fn is_new(tx: &Tx<'_>) -> Result<bool, StoreError> {
    let Some(roster) = tx.roster else { return Ok(false) };
    let origin = &roster.content().log.origin;
    tx.db.execute("UPDATE desk SET log_origin = ?1 WHERE log_origin = ''", [origin])?;
    let known: String = tx.db.query_row("SELECT log_origin FROM desk", [], |row| row.get(0))?;
    Ok(known != *origin)
}

/// Begins with the log that the roster names, which has spent this desk's numbers up to `last_accepted`. All
/// sealed envelopes above it go out again as the same bytes, from the first on that an addressee is not known to
/// have; who has one takes it no second time. Receipts that settle are made anew when their envelopes come again.
/// Orders ended with their log.
pub(super) fn begin(tx: &Tx<'_>, last_accepted: u64, now: Timestamp) -> Result<(), StoreError> {
    let sql = "SELECT min(number) FROM submissions JOIN addressees USING (dispatch)
        WHERE state IN (0, 1) AND number > ?1 AND delivered_at IS NULL AND set_aside_at IS NULL AND expired_at IS NULL";
    let first: Option<u64> = tx.db.query_row(sql, [integer(last_accepted)], |row| row.get(0))?;
    if let Some(first) = first {
        // Those between, too: within a session the relay takes no number that leaves one out.
        let sql = "UPDATE submissions SET state = 3 WHERE number >= ?1 AND state IN (0, 1)";
        tx.db.execute(sql, [integer(first)])?;
    }
    receipts::take_back(tx)?;
    owing::forget(tx)?;
    tiles::clear(tx)?;
    claims::clear(tx)?;
    tx.db.execute("UPDATE log SET ahead = NULL", [])?;
    let settling = [ReceiptKind::Delivered, ReceiptKind::SetAside].map(ReceiptKind::code);
    tx.db.execute("DELETE FROM receipts_due WHERE kind IN (?1, ?2)", settling)?;
    let sql = "INSERT INTO stored_earlier (log, number, receipts, position, salt, opening, frame)
        SELECT desk.log, number, receipts, stored.position, salt, opening, frame FROM stored, desk";
    tx.db.execute(sql, [])?;
    tx.db.execute("DELETE FROM stored", [])?;
    let sql = "UPDATE desk SET log = log + 1, log_origin = ?1, log_floor = coalesce(?2 - 1, last_submission),
        position = 0, confirmed = 0, last_stored = 0";
    let origin = tx.roster.map(|roster| roster.content().log.origin.as_str());
    tx.db.execute(sql, params![origin.unwrap_or_default(), first.map(integer)])?;
    let mut sentence = "the roster names a new log of the relay: mail goes on, and what no addressee is known to have \
        goes out again by itself; save this desk's folder, which has the old log's receipts, and call the ministry to \
        compare which are missing"
        .to_owned();
    let stood = orders::forget(tx, now)?;
    if tx.me.kind() == Kind::Hub && !stood.is_empty() {
        let again = "; orders ended with the old log, give those again that should stand: ";
        sentence.push_str(again);
        sentence.push_str(&stood.join(", "));
    }
    alarms::raise(tx, now, "relay-log", &sentence)
}

/// Whether anything waits to be sent again.
pub(super) fn waits(tx: &Tx<'_>) -> Result<bool, StoreError> {
    Ok(super::schema::exists(tx.db, "SELECT 1 FROM submissions WHERE state = 3 LIMIT 1", [])?)
}

/// The next envelopes to be sent again, as far as there is room: the same headers, signed by `sign`.
pub(super) fn next(tx: &Tx<'_>, sign: &SigningKey, room: Room) -> Result<Vec<SealedSubmit>, StoreError> {
    let mut bytes_left = room.bytes;
    let sql = "UPDATE submissions SET state = 0 WHERE number =
        (SELECT min(number) FROM submissions WHERE state = 3) RETURNING number, length(frame)";
    let mut first: Option<u64> = None;
    for _ in 0..room.envelopes.min(limits::BATCH_ITEMS_MAX as u64) {
        if bytes_left == 0 {
            break;
        }
        let both = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let taken: Option<(u64, u64)> = tx.db.prepare_cached(sql)?.query_row([], both).optional()?;
        let Some((number, bytes)) = taken else { break };
        first = first.or(Some(number));
        bytes_left = bytes_left.saturating_sub(bytes);
    }
    let mut submits = sealing::resend(tx, sign)?;
    // Lower ones are on their way already.
    submits.retain(|submit| Some(submit.number) >= first);
    Ok(submits)
}

/// Whether every addressee of a dispatch has it, has set it aside, or let it expire.
pub(super) fn is_settled(tx: &Tx<'_>, dispatch: i64) -> Result<bool, StoreError> {
    let sql = "SELECT count(*) > 0 AND count(*) = count(coalesce(delivered_at, set_aside_at, expired_at))
        FROM addressees WHERE dispatch = ?1";
    Ok(tx.db.prepare_cached(sql)?.query_row([dispatch], |row| row.get(0))?)
}
