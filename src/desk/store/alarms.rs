//! Alarms for a person: raised in the transaction that found the reason, shown until somebody takes them.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    Store, StoreError, Tx,
    columns::{micros, optional_time, time_text},
    receipts::WHO_BYTES_MAX,
};
use crate::desk::{error::DeskError, view::Alarm};

/// Alarms kept; the oldest go first. They are for a person, not the record: that is the log.
const ALARMS_MAX: u32 = 200;

const COLUMNS: &str = "key, at, sentence, taken_at, taken_by";

impl Store {
    /// All alarms that are kept, oldest first.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub(in crate::desk) fn alarms(&self) -> Result<Vec<Alarm>, DeskError> {
        let tx = self.read();
        let mut statement =
            tx.db.prepare_cached(&format!("SELECT {COLUMNS} FROM alarms ORDER BY at, key"))?;
        let rows = statement.query_map([], alarm)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that somebody looks after an alarm; who takes it first, has it. Raised again, it is nobody's.
    ///
    /// # Errors
    /// [`DeskError::UnknownAlarm`], [`DeskError::TooLarge`], [`DeskError::Store`].
    pub(in crate::desk) fn take_alarm(
        &mut self,
        key: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<Alarm, DeskError> {
        if who.len() > WHO_BYTES_MAX {
            return Err(DeskError::TooLarge { field: "who", bytes: who.len(), bytes_max: WHO_BYTES_MAX });
        }
        self.write(|tx| {
            let sql = "UPDATE alarms SET taken_at = ?2, taken_by = ?3 WHERE key = ?1 AND taken_at IS NULL";
            tx.db.prepare_cached(sql)?.execute(params![key, micros(now), who])?;
            let sql = format!("SELECT {COLUMNS} FROM alarms WHERE key = ?1");
            let found = tx.db.prepare_cached(&sql)?.query_row([key], alarm).optional()?;
            found.ok_or_else(|| DeskError::UnknownAlarm { key: key.to_owned() })
        })
    }
}

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

/// Alarms that nobody has taken, with their times, oldest first.
pub(super) fn open(tx: &Tx<'_>) -> Result<Vec<(i64, String)>, StoreError> {
    let sql = "SELECT at, sentence FROM alarms WHERE taken_at IS NULL ORDER BY at, key";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn alarm(row: &Row<'_>) -> rusqlite::Result<Alarm> {
    Ok(Alarm {
        key: row.get(0)?,
        at: time_text(row.get(1)?),
        sentence: row.get(2)?,
        taken_at: optional_time(row, 3)?,
        taken_by: row.get(4)?,
    })
}
