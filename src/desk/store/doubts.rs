//! Doubts about the audit log: what the relay has shown that does not fit is kept, and as long as such an alarm is
//! open the desk cosigns nothing. Mail goes on.

use data_encoding::BASE64;
use jiff::Timestamp;
use rusqlite::params;

use super::{
    Store, StoreError, Tx, alarms,
    columns::{micros, time_text},
    schema,
};
use crate::{desk::view::LogEvidence, limits::LOG_EVIDENCE_MAX};

/// What an alarm about the log rests on, as it came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown<'a> {
    /// A checkpoint, a request to cosign one, a header, the item of a receipt, or a roster's leaf.
    pub what: &'a [u8],
    /// The author's share of a batch signature, where that is not in it.
    pub proof: &'a [u8],
}

impl Store {
    /// Raises an alarm about the audit log, with what it rests on: a checkpoint or a request to cosign one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn doubt_log(
        &mut self,
        key: &str,
        sentence: &str,
        shown: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|tx| raise(tx, now, key, sentence, &Shown { what: shown, proof: &[] }))
    }

    /// Whether this desk may cosign checkpoints: no alarm says that the log does not fit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn trusts_log(&self) -> Result<bool, StoreError> {
        trusts(&self.read())
    }
}

/// Whether no alarm is open which says that the log does not fit.
pub(super) fn trusts(tx: &Tx<'_>) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM alarms WHERE key IN (?1, ?2) AND closed_at IS NULL";
    Ok(!schema::exists(tx.db, sql, [alarms::AUDIT_LOG, alarms::FORKED])?)
}

/// Raises an alarm about the log. One that is open keeps its first words, which are nearest to the cause; what is
/// shown is kept each time, up to [`LOG_EVIDENCE_MAX`] of a kind; what the relay has shown and what authors have claimed
/// have each their own room. When it is raised anew, at most half of what was kept before stays.
pub(super) fn raise(
    tx: &Tx<'_>,
    now: Timestamp,
    key: &str,
    sentence: &str,
    shown: &Shown<'_>,
) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM alarms WHERE key = ?1 AND closed_at IS NULL";
    if !schema::exists(tx.db, sql, [key])? {
        alarms::raise(tx, now, key, sentence)?;
        make_room(tx, key)?;
    }
    let sql = "INSERT OR IGNORE INTO evidence (key, at, sentence, shown, proof, held)
        SELECT ?1, ?2, ?3, ?4, ?5, coalesce((SELECT iif(length(witnessed) > 0, witnessed, note) FROM log), x'')
        WHERE (SELECT count(*) FROM evidence WHERE key = ?1 AND (proof = x'') = (?5 = x'')) < ?6";
    tx.db.prepare_cached(sql)?.execute(params![
        key,
        micros(now),
        sentence,
        shown.what,
        shown.proof,
        LOG_EVIDENCE_MAX
    ])?;
    Ok(())
}

/// Lets go what was kept in the middle of the alarms before: the first and the last of it stay.
fn make_room(tx: &Tx<'_>, key: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM evidence WHERE key = ?1 AND (proof = x'') = ?2
        AND rowid NOT IN (SELECT rowid FROM evidence WHERE key = ?1 AND (proof = x'') = ?2 ORDER BY rowid LIMIT ?3)
        AND rowid NOT IN (SELECT rowid FROM evidence WHERE key = ?1 AND (proof = x'') = ?2 ORDER BY rowid DESC LIMIT ?3)";
    let mut statement = tx.db.prepare_cached(sql)?;
    [true, false].into_iter().try_for_each(|is_shown| {
        statement.execute(params![key, is_shown, LOG_EVIDENCE_MAX / 4])?;
        Ok(())
    })
}

/// What is kept of the alarm of a key, oldest first.
pub(super) fn evidence(tx: &Tx<'_>, key: &str) -> Result<Vec<LogEvidence>, StoreError> {
    let sql = "SELECT at, sentence, shown, proof, held FROM evidence WHERE key = ?1 ORDER BY rowid";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map([key], |row| {
        let base64 = |column| Ok::<_, rusqlite::Error>(BASE64.encode(&row.get::<_, Vec<u8>>(column)?));
        Ok(LogEvidence {
            at: time_text(row.get(0)?),
            sentence: row.get(1)?,
            shown: base64(2)?,
            proof: base64(3)?,
            held: base64(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
