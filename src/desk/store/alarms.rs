//! Alarms for a person: raised in the transaction that found the reason, kept until the key is raised again.

use jiff::Timestamp;
use rusqlite::params;

use super::{StoreError, Tx, columns::micros};

/// Alarms kept; the oldest go first. They are for a person, not the record: that is the log.
const ALARMS_MAX: u32 = 200;

/// Raises an alarm. A second one under the same key replaces the first. The sentence holds codes and
/// numbers, never a peer's text, and says what to do.
pub(super) fn raise(tx: &Tx<'_>, now: Timestamp, key: &str, sentence: &str) -> Result<(), StoreError> {
    tracing::warn!(alarm = key, "alarm raised");
    let sql = "INSERT OR REPLACE INTO alarms (key, at, sentence) VALUES (?1, ?2, ?3)";
    tx.db.prepare_cached(sql)?.execute(params![key, micros(now), sentence])?;
    let sql = "DELETE FROM alarms WHERE key IN (SELECT key FROM alarms ORDER BY at DESC LIMIT -1 OFFSET ?1)";
    tx.db.prepare_cached(sql)?.execute([ALARMS_MAX])?;
    Ok(())
}

/// All alarms with their times, oldest first.
pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<(i64, String)>, StoreError> {
    let mut statement = tx.db.prepare_cached("SELECT at, sentence FROM alarms ORDER BY at, key")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
