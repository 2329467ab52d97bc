//! What ran out: each clock is noticed once, and holds up the alarm of its kind until it has ended.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, Tx, alarms,
    clocks::Clock,
    columns::{micros, time_text},
};
use crate::{desk::view::Overdue, roster::PartyNumber};

impl Store {
    /// Notices what became overdue by `now`, and raises, changes or ends an alarm for each kind of it. Returns when
    /// the next clock runs out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn look_at_clocks(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.write(|tx| {
            let mut next: Option<i64> = None;
            for clock in Clock::ALL {
                let sql = "UPDATE clocks SET overdue_at = ?2
                    WHERE kind = ?1 AND due_at <= ?2 AND overdue_at IS NULL AND ended_at IS NULL";
                let new = tx.db.prepare_cached(sql)?.execute(params![clock.code(), micros(now)])?;
                hold_alarm(tx, clock, new > 0, now)?;
                let sql = "SELECT min(due_at) FROM clocks WHERE kind = ?1 AND overdue_at IS NULL AND ended_at IS NULL";
                let first: Option<i64> =
                    tx.db.prepare_cached(sql)?.query_row([clock.code()], |row| row.get(0))?;
                next = [next, first].into_iter().flatten().min();
            }
            Ok(next.map(|due| Timestamp::from_microsecond(due).unwrap_or(Timestamp::MAX)))
        })
    }
}

/// How many clocks have run out and not ended.
pub(super) fn count(tx: &Tx<'_>) -> Result<Overdue, StoreError> {
    let of = |clock: Clock| {
        let sql =
            "SELECT count(*) FROM clocks WHERE kind = ?1 AND overdue_at IS NOT NULL AND ended_at IS NULL";
        tx.db.prepare_cached(sql)?.query_row([clock.code()], |row| row.get(0))
    };
    Ok(Overdue {
        addressees: of(Clock::Service)?,
        answers: of(Clock::Answer)?,
        acknowledgements_owed: of(Clock::OwnAcknowledgement)?,
        answers_owed: of(Clock::OwnAnswer)?,
        acknowledgements: of(Clock::Acknowledgement)?,
    })
}

impl Clock {
    /// Key of the alarm.
    fn key(self) -> &'static str {
        match self {
            Clock::Service => "overdue",
            Clock::Answer => "overdue-answer",
            Clock::OwnAcknowledgement => "owed-acknowledgement",
            Clock::OwnAnswer => "owed-answer",
            Clock::Acknowledgement => "overdue-acknowledgement",
        }
    }
}

/// Raises the alarm of a kind where something new is overdue, keeps its words up to date, and ends it where
/// nothing is overdue any more. One that a person has closed stays closed until there is something new.
fn hold_alarm(tx: &Tx<'_>, clock: Clock, is_new: bool, now: Timestamp) -> Result<(), StoreError> {
    let Some(sentence) = sentence(tx, clock)? else { return alarms::hold(tx, now, clock.key(), None) };
    if is_new {
        return alarms::raise(tx, now, clock.key(), &sentence);
    }
    let sql = "UPDATE alarms SET sentence = ?2 WHERE key = ?1 AND closed_at IS NULL AND sentence <> ?2";
    tx.db.prepare_cached(sql)?.execute(params![clock.key(), sentence])?;
    Ok(())
}

/// How many are overdue, the oldest, and what to do.
fn sentence(tx: &Tx<'_>, clock: Clock) -> Result<Option<String>, StoreError> {
    let sql = "SELECT item, party, due_at FROM clocks
        WHERE kind = ?1 AND overdue_at IS NOT NULL AND ended_at IS NULL ORDER BY due_at, item, party LIMIT 1";
    let oldest = tx.db.prepare_cached(sql)?.query_row([clock.code()], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, PartyNumber>(1)?, row.get::<_, i64>(2)?))
    });
    let Some((item, party, due)) = oldest.optional()? else { return Ok(None) };
    let sql = match clock {
        Clock::Service | Clock::Answer | Clock::Acknowledgement => "SELECT short FROM outbox WHERE seq = ?1",
        Clock::OwnAcknowledgement | Clock::OwnAnswer => "SELECT short FROM inbox WHERE register = ?1",
    };
    let short: String = tx.db.prepare_cached(sql)?.query_row([item], |row| row.get(0))?;
    let sql = "SELECT count(*) FROM clocks WHERE kind = ?1 AND overdue_at IS NOT NULL AND ended_at IS NULL";
    let count: u64 = tx.db.prepare_cached(sql)?.query_row([clock.code()], |row| row.get(0))?;
    let (code, due) = (tx.code(party), time_text(due));
    Ok(Some(match clock {
        Clock::Service => format!(
            "{count} not delivered or not acknowledged in time, the oldest {short} to {code}, due {due} (`pouch outbox \
             {short}`); mail goes on; nothing need be saved; telephone {code}"
        ),
        Clock::Answer => format!(
            "{count} not answered in time, the oldest {short} to {code}, due {due} (`pouch outbox {short}`); mail goes on; nothing \
             need be saved; telephone {code}"
        ),
        Clock::Acknowledgement => format!(
            "{count} not acknowledged by the time that was named, the oldest {short} to {code}, due {due} (`pouch outbox \
             {short}`); mail goes on; nothing need be saved; telephone {code}"
        ),
        Clock::OwnAcknowledgement => format!(
            "{count} that this desk has not acknowledged in time, the oldest {short} from {code}, due {due}; mail \
             goes on; nothing need be saved; read it and `pouch ack {short}`, or telephone {code}"
        ),
        Clock::OwnAnswer => format!(
            "{count} that this desk has not answered in time, the oldest {short} from {code}, due {due}; mail goes \
             on; nothing need be saved; `pouch reply {short}`, or telephone {code}"
        ),
    }))
}
