//! Alarms for a person: raised in the transaction that found the reason, shown until somebody takes them or
//! they are closed, by a person or because their cause is over.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    Store, StoreError, Tx,
    columns::{micros, optional_time, time_text},
    doubts,
    receipts::WHO_BYTES_MAX,
};
use crate::{
    alarms::is_whole,
    desk::{error::DeskError, view::Alarm},
};

/// Alarms kept; closed ones go first, then the oldest, and last those for which the desk cosigns nothing. They are for a person, not the record: that is the log.
const ALARMS_MAX: u32 = 200;

/// Key of the alarm that the relay puts everything off.
pub(super) const RELAY_DEFERS: &str = "relay-defers";

/// Key of the alarm that the audit log does not fit.
pub(in crate::desk) const AUDIT_LOG: &str = "audit-log";

/// Key of the alarm that two histories of the audit log were signed.
pub(in crate::desk) const FORKED: &str = "forked";

/// What every alarm about a log that does not fit ends with.
pub(in crate::desk) const LOG_WHAT_NOW: &str = "this desk cosigns no checkpoint until somebody closes this alarm; mail \
    goes on: save this desk's folder and what `pouch alarms --json --all` prints, do not restart anything, and telephone the \
    ministry's watch officer and one other mission";

const COLUMNS: &str = "key, at, sentence, taken_at, taken_by, closed_at, closed_by";

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
        let mut alarms: Vec<Alarm> = rows.collect::<Result<_, _>>()?;
        for alarm in &mut alarms {
            alarm.evidence = doubts::evidence(&tx, &alarm.key)?;
        }
        Ok(alarms)
    }

    /// Raises an alarm of the link.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn raise_alarm(&mut self, key: &str, sentence: &str, now: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| raise(tx, now, key, sentence))
    }

    /// Raises an alarm, unless the last one of its key said the very same: a person may have closed that one since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn raise_alarm_once(&mut self, key: &str, sentence: &str, now: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| {
            let sql = "SELECT EXISTS (SELECT 1 FROM alarms WHERE key = ?1 AND sentence = ?2)";
            let is_known: bool = tx.db.prepare_cached(sql)?.query_row([key, sentence], |row| row.get(0))?;
            if is_known { Ok(()) } else { raise(tx, now, key, sentence) }
        })
    }

    /// Notes whether the relay has put everything new off for long.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn relay_defers(&mut self, defers: bool, now: Timestamp) -> Result<(), StoreError> {
        let sentence = "the relay takes nothing new for now: its journal has no room, or this desk has too many receipts \
            to fetch first; dispatches wait here, mail that comes in goes on; nothing need be saved; if it lasts, call whoever \
            runs the relay";
        self.write(|tx| hold(tx, now, RELAY_DEFERS, defers.then_some(sentence)))
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
        let sql = "UPDATE alarms SET taken_at = ?2, taken_by = ?3
            WHERE key = ?1 AND taken_at IS NULL AND closed_at IS NULL";
        self.change_alarm(sql, key, who, now)
    }

    /// Notes that an alarm is over, by a person's word; who closes it first, has closed it. Raised again, it
    /// is open again.
    ///
    /// # Errors
    /// As [`Store::take_alarm`].
    pub(in crate::desk) fn close_alarm(
        &mut self,
        key: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<Alarm, DeskError> {
        let sql = "UPDATE alarms SET closed_at = ?2, closed_by = ?3 WHERE key = ?1 AND closed_at IS NULL";
        self.change_alarm(sql, key, who, now)
    }

    fn change_alarm(&mut self, sql: &str, key: &str, who: &str, now: Timestamp) -> Result<Alarm, DeskError> {
        if who.len() > WHO_BYTES_MAX {
            return Err(DeskError::TooLarge { field: "who", bytes: who.len(), bytes_max: WHO_BYTES_MAX });
        }
        self.write(|tx| {
            tx.db.prepare_cached(sql)?.execute(params![key, micros(now), who])?;
            let sql = format!("SELECT {COLUMNS} FROM alarms WHERE key = ?1");
            let found = tx.db.prepare_cached(&sql)?.query_row([key], alarm).optional()?;
            let found = found.ok_or_else(|| DeskError::UnknownAlarm { key: key.to_owned() })?;
            Ok(Alarm { evidence: doubts::evidence(tx, key)?, ..found })
        })
    }
}

/// Raises an alarm. A second one under the same key replaces the first. The sentence holds codes and
/// numbers, never a peer's text, and says whether mail goes on, what to save and whom to call.
pub(super) fn raise(tx: &Tx<'_>, now: Timestamp, key: &str, sentence: &str) -> Result<(), StoreError> {
    debug_assert!(is_whole(sentence), "says neither of mail, what to save, whom to call: {sentence}");
    tracing::warn!(alarm = key, "alarm raised");
    let sql = "INSERT OR REPLACE INTO alarms (key, at, sentence) VALUES (?1, ?2, ?3)";
    tx.db.prepare_cached(sql)?.execute(params![key, micros(now), sentence])?;
    let sql = "DELETE FROM alarms WHERE key IN
        (SELECT key FROM alarms ORDER BY closed_at IS NULL DESC, key IN (?2, ?3) DESC, at DESC LIMIT -1 OFFSET ?1)";
    tx.db.prepare_cached(sql)?.execute(params![ALARMS_MAX, AUDIT_LOG, FORKED])?;
    Ok(())
}

/// Holds an alarm to its cause: raised while there is a sentence, closed when there is none. One that is open
/// already keeps its beginning and who has taken it.
pub(super) fn hold(tx: &Tx<'_>, now: Timestamp, key: &str, sentence: Option<&str>) -> Result<(), StoreError> {
    let Some(sentence) = sentence else {
        let sql = "UPDATE alarms SET closed_at = ?2 WHERE key = ?1 AND closed_at IS NULL";
        tx.db.prepare_cached(sql)?.execute(params![key, micros(now)])?;
        return Ok(());
    };
    let sql = "UPDATE alarms SET sentence = ?2 WHERE key = ?1 AND closed_at IS NULL";
    match tx.db.prepare_cached(sql)?.execute(params![key, sentence])? {
        0 => raise(tx, now, key, sentence),
        _ => Ok(()),
    }
}

/// Open alarms that nobody has taken, with their times, oldest first.
pub(super) fn open(tx: &Tx<'_>) -> Result<Vec<(i64, String)>, StoreError> {
    let sql = "SELECT at, sentence FROM alarms WHERE taken_at IS NULL AND closed_at IS NULL ORDER BY at, key";
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
        closed_at: optional_time(row, 5)?,
        closed_by: row.get(6)?,
        evidence: Vec::new(),
    })
}
