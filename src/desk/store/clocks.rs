//! What is overdue: a clock runs for each addressee of what is sent from here, and for what this desk owes.
//!
//! A clock is a row with the time when it runs out, so that it runs on while the desk is off. What ends it is in
//! the same transaction as the step itself: a receipt, an answer, an acknowledgement. What ran out, `overdue` notices.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Store, StoreError, Tx,
    columns::{integer, micros, time_text},
};
use crate::{
    config::ClocksConfig,
    desk::{
        view::Awaited,
        worktime::{WorkingTime, later},
    },
    roster::{Party, PartyNumber},
    seal::OpenedDispatch,
    wire::{DispatchId, Precedence, Role, pb},
};

/// What a clock is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Clock {
    /// An addressee must have it, and have acknowledged it where that was asked for at no time of its own.
    Service,
    /// An addressee owes an answer.
    Answer,
    /// This desk must acknowledge.
    OwnAcknowledgement,
    /// This desk owes an answer.
    OwnAnswer,
    /// An addressee must have acknowledged it by the time that it names.
    Acknowledgement,
}

impl Clock {
    pub(super) const ALL: [Clock; 5] =
        [Clock::Service, Clock::Answer, Clock::OwnAcknowledgement, Clock::OwnAnswer, Clock::Acknowledgement];

    /// As it stands in the table.
    pub(super) const fn code(self) -> i64 {
        match self {
            Clock::Service => 1,
            Clock::Answer => 2,
            Clock::OwnAcknowledgement => 3,
            Clock::OwnAnswer => 4,
            Clock::Acknowledgement => 5,
        }
    }
}

impl Store {
    /// Sets the times that clocks run for, and counts those that run anew by the roster held.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_clocks(&mut self, clocks: &ClocksConfig) -> Result<(), StoreError> {
        self.clocks = clocks.clone();
        self.write(recount)
    }
}

/// Starts the clocks of a dispatch that was addressed just now, by the roster in force: each once, and none of
/// whom it no longer goes to.
pub(super) fn addressed(tx: &Tx<'_>, seq: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM clocks WHERE kind IN (1, 2, 5) AND item = ?1
        AND party NOT IN (SELECT party FROM addressees WHERE dispatch = ?1)";
    tx.db.prepare_cached(sql)?.execute([seq])?;
    let sql = "SELECT party, role, queued_at, iif(role = 1, precedence, info_precedence), answer_due_s,
        acknowledgement_due_s FROM addressees JOIN outbox ON dispatch = seq WHERE dispatch = ?1";
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query([seq])?;
    while let Some(row) = rows.next()? {
        let (party, role, at): (PartyNumber, Role, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let precedence = row.get(3)?;
        start(tx, Clock::Service, seq, party, Started { at, precedence, of: working(tx, party) })?;
        if role == Role::To {
            named(tx.db, (Clock::Answer, seq, party), at, row.get(4)?)?;
            named(tx.db, (Clock::Acknowledgement, seq, party), at, row.get(5)?)?;
        }
    }
    Ok(())
}

/// A dispatch that came in, as far as clocks are concerned.
pub(super) struct Arrived {
    pub register: u64,
    pub sender: PartyNumber,
    pub role: Role,
    pub precedence: Precedence,
    pub at: i64,
    pub acknowledgement: bool,
    pub acknowledgement_due_s: i64,
    pub answer_due_s: u64,
    pub in_reply_to: Option<DispatchId>,
    pub exercise: bool,
}

impl Arrived {
    /// From what an inbox knows, and what the dispatch itself says.
    pub(super) fn new(
        register: u64,
        sender: PartyNumber,
        role: Role,
        precedence: Precedence,
        at: i64,
        draft: &pb::Draft,
    ) -> Arrived {
        Arrived {
            register,
            sender,
            role,
            precedence,
            at,
            acknowledgement: draft.acknowledgement_required,
            acknowledgement_due_s: acknowledgement_due_s(draft),
            answer_due_s: draft.answer_due_s,
            in_reply_to: draft.in_reply_to[..].try_into().ok().map(DispatchId),
            exercise: draft.exercise,
        }
    }
}

/// Starts the clocks of a dispatch that came in, and ends those of what it answers.
pub(super) fn arrived(tx: &Tx<'_>, new: &Arrived) -> Result<(), StoreError> {
    answers(tx.db, new)?;
    if new.role == Role::To {
        let (register, sender) = (integer(new.register), new.sender);
        if new.acknowledgement_due_s > 0 {
            named(tx.db, (Clock::OwnAcknowledgement, register, sender), new.at, new.acknowledgement_due_s)?;
        } else if new.acknowledgement {
            let started = Started { at: new.at, precedence: new.precedence, of: tx.own() };
            start(tx, Clock::OwnAcknowledgement, register, sender, started)?;
        }
        named(tx.db, (Clock::OwnAnswer, register, sender), new.at, integer(new.answer_due_s))?;
    }
    Ok(())
}

/// When a dispatch asks to be acknowledged, in seconds since 1970; 0 where it leaves that to its precedence, or names
/// a time that cannot be.
pub(super) fn acknowledgement_due_s(draft: &pb::Draft) -> i64 {
    let due_s = integer(draft.acknowledgement_due_s);
    if draft.acknowledgement_required && Timestamp::from_second(due_s).is_ok() { due_s } else { 0 }
}

/// Ends the clocks of what a dispatch that came in answers.
fn answers(db: &Connection, new: &Arrived) -> Result<(), StoreError> {
    let Some(answered) = new.in_reply_to else { return Ok(()) };
    // Another id was in the envelope where it was sealed again after it had been accepted.
    let sql = "SELECT seq FROM outbox WHERE (id = ?1 OR wire_id = ?1) AND exercise = ?2";
    let found = db.prepare_cached(sql)?.query_row(params![answered, new.exercise], |row| row.get(0));
    let Some(seq) = found.optional()? else { return Ok(()) };
    let sql =
        "UPDATE addressees SET answered_at = coalesce(answered_at, ?3) WHERE dispatch = ?1 AND party = ?2";
    db.prepare_cached(sql)?.execute(params![seq, new.sender, new.at])?;
    settle(db, seq, new.at)
}

/// Ends the clocks of a dispatch's addressees whose steps have come, or never will.
pub(super) fn settle(db: &Connection, seq: i64, at: i64) -> Result<(), StoreError> {
    // Who has answered has read it, whatever became of the receipts.
    let sql = "UPDATE clocks SET ended_at = ?2 WHERE kind IN (1, 2, 5) AND item = ?1 AND ended_at IS NULL AND EXISTS
        (SELECT 1 FROM addressees JOIN outbox ON dispatch = seq WHERE dispatch = ?1 AND addressees.party = clocks.party
            AND (answered_at IS NOT NULL OR set_aside_at IS NOT NULL OR expired_at IS NOT NULL
                OR (clocks.kind = 5 AND acknowledged_at IS NOT NULL)
                OR (clocks.kind = 1 AND delivered_at IS NOT NULL
                    AND (acknowledgement = 0 OR role = 2 OR acknowledged_at IS NOT NULL OR EXISTS
                        (SELECT 1 FROM clocks AS named WHERE kind = 5 AND item = ?1 AND party = addressees.party)))))";
    db.prepare_cached(sql)?.execute([seq, at])?;
    Ok(())
}

/// Takes back the clocks of a dispatch that was refused for good: that is a person's matter now.
pub(super) fn given_back(tx: &Tx<'_>, seq: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM clocks WHERE kind IN (1, 2, 5) AND item = ?1";
    tx.db.prepare_cached(sql)?.execute([seq])?;
    Ok(())
}

/// A person here has acknowledged a dispatch.
pub(super) fn acknowledged(tx: &Tx<'_>, register: i64, at: i64) -> Result<(), StoreError> {
    let sql = "UPDATE clocks SET ended_at = ?2 WHERE kind = 3 AND item = ?1 AND ended_at IS NULL";
    tx.db.prepare_cached(sql)?.execute([register, at])?;
    Ok(())
}

/// The relay has accepted a dispatch: where it answers one of its addressees, nothing more is owed to that one.
pub(super) fn accepted(db: &Connection, seq: i64, at: i64) -> Result<(), StoreError> {
    let sql = "UPDATE clocks SET ended_at = ?2 WHERE kind IN (3, 4) AND ended_at IS NULL AND item IN
        (SELECT register FROM outbox JOIN inbox ON inbox.id = outbox.in_reply_to
            JOIN addressees ON dispatch = seq AND party = sender WHERE seq = ?1 AND set_aside IS NULL)";
    db.prepare_cached(sql)?.execute([seq, at])?;
    Ok(())
}

/// Counts the clocks that run by precedence anew: hours, holidays or the configuration changed. One that ran out before and would
/// have by then all the same stays noticed.
pub(super) fn recount(tx: &Tx<'_>) -> Result<(), StoreError> {
    let sql = "SELECT kind, item, party, started_at, due_at, precedence FROM clocks
        WHERE kind IN (1, 3) AND ended_at IS NULL AND NOT (kind = 3 AND EXISTS
            (SELECT 1 FROM inbox WHERE register = item AND acknowledgement_due_s > 0))";
    let mut known: BTreeMap<PartyNumber, Option<WorkingTime>> = BTreeMap::new();
    let mut changed: Vec<(i64, i64, PartyNumber, i64)> = Vec::new();
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, item, party) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (at, before, precedence): (i64, i64, Precedence) = (row.get(3)?, row.get(4)?, row.get(5)?);
        let of = if kind == Clock::Service.code() { working(tx, party) } else { tx.own() };
        let number = of.map_or(party, |of| of.number);
        let working = known.entry(number).or_insert_with(|| of.map(WorkingTime::of));
        let due = micros(due(tx.clocks, at, precedence, working.as_ref()));
        if due != before {
            changed.push((kind, item, party, due));
        }
    }
    let sql = "UPDATE clocks SET due_at = ?4, overdue_at = iif(overdue_at >= ?4, overdue_at, NULL)
        WHERE kind = ?1 AND item = ?2 AND party = ?3";
    let mut statement = tx.db.prepare_cached(sql)?;
    for (kind, item, party, due) in changed {
        statement.execute(params![kind, item, party, due])?;
    }
    Ok(())
}

/// A clock that runs.
pub(super) struct Running {
    due_at: i64,
    is_overdue: bool,
}

/// Of clocks and what each awaits, the first that runs out, as the API shows it.
pub(super) fn first<const N: usize>(clocks: [(Option<Running>, &str); N]) -> Option<Awaited> {
    let running = clocks.into_iter().filter_map(|(clock, step)| clock.map(|clock| (clock, step)));
    let (Running { due_at, is_overdue }, step) = running.min_by_key(|(clock, _)| clock.due_at)?;
    Some(Awaited { step: step.to_owned(), due_at: time_text(due_at), overdue: is_overdue })
}

/// A clock that runs, from the two columns that begin there; `None` where none does.
pub(super) fn running(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Running>> {
    let due_at: Option<i64> = row.get(column)?;
    let overdue_at: Option<i64> = row.get(column + 1)?;
    Ok(due_at.map(|due_at| Running { due_at, is_overdue: overdue_at.is_some() }))
}

/// When a clock started, of what precedence, and whose working time it counts.
struct Started<'a> {
    at: i64,
    precedence: Precedence,
    of: Option<&'a Party>,
}

fn start(
    tx: &Tx<'_>,
    clock: Clock,
    item: i64,
    party: PartyNumber,
    started: Started<'_>,
) -> Result<(), StoreError> {
    let Started { at, precedence, of } = started;
    let counts_hours = tx.clocks.working_hours.contains(&precedence);
    let working = of.filter(|_| counts_hours).map(WorkingTime::of);
    let due = due(tx.clocks, at, precedence, working.as_ref());
    insert(tx.db, (clock, item, party), at, precedence, micros(due))
}

/// Starts a clock towards a time that a dispatch names, where it names one that can be.
fn named(db: &Connection, of: (Clock, i64, PartyNumber), at: i64, due_s: i64) -> Result<(), StoreError> {
    match Timestamp::from_second(due_s).ok().filter(|_| due_s > 0) {
        // It stands for itself, whatever the precedence.
        Some(due) => insert(db, of, at, Precedence::Routine, micros(due)),
        None => Ok(()),
    }
}

fn insert(
    db: &Connection,
    (clock, item, party): (Clock, i64, PartyNumber),
    at: i64,
    precedence: Precedence,
    due: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO clocks (kind, item, party, started_at, precedence, due_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    db.prepare_cached(sql)?.execute(params![clock.code(), item, party, at, precedence, due])?;
    Ok(())
}

/// When a clock that started at `at` runs out. A party that the roster does not know works around the clock.
fn due(clocks: &ClocksConfig, at: i64, precedence: Precedence, working: Option<&WorkingTime>) -> Timestamp {
    let (start, span) = (Timestamp::from_microsecond(at).unwrap_or_default(), clocks.span(precedence).0);
    match working.filter(|_| clocks.working_hours.contains(&precedence)) {
        Some(working) => working.due(start, span),
        None => later(start, span),
    }
}

fn working<'a>(tx: &Tx<'a>, party: PartyNumber) -> Option<&'a Party> {
    tx.roster.and_then(|roster| roster.party(party))
}

/// Starts and ends the clocks of a store that had none, as far as it tells: what waits has waited since it was handed
/// in or came. Due times are those of clocks that always run, until [`Store::set_clocks`] counts them.
pub(super) fn upgrade(db: &Connection) -> Result<(), StoreError> {
    db.execute_batch(UPGRADE)?;
    let sql =
        "SELECT register, sender, role, precedence, received_at, content FROM inbox WHERE set_aside IS NULL";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let content: Vec<u8> = row.get(5)?;
        let opened = OpenedDispatch::decode(&content.into());
        let opened = opened.map_err(|_| StoreError::Corrupt { what: "a dispatch" })?;
        let new =
            Arrived::new(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, opened.draft());
        answers(db, &new)?;
        if new.role == Role::To {
            let register = integer(new.register);
            named(db, (Clock::OwnAnswer, register, new.sender), new.at, integer(new.answer_due_s))?;
        }
    }
    let mut statement =
        db.prepare("SELECT seq, accepted_at FROM outbox WHERE state = 2 AND in_reply_to IS NOT NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        accepted(db, row.get(0)?, row.get(1)?)?;
    }
    Ok(())
}

/// Gives a store that knew no times to acknowledge by those of what waits here for an acknowledgement: it may be from
/// a desk that knew them already. Nothing that was sent from here named one.
pub(super) fn upgrade_named(db: &Connection) -> Result<(), StoreError> {
    db.execute_batch(UPGRADE_NAMED)?;
    let sql = "SELECT register, content FROM inbox JOIN clocks ON clocks.kind = 3 AND item = register AND party = sender
        WHERE ended_at IS NULL";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (register, content): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let opened = OpenedDispatch::decode(&content.into());
        let opened = opened.map_err(|_| StoreError::Corrupt { what: "a dispatch" })?;
        let due_s = acknowledgement_due_s(opened.draft());
        if due_s > 0 {
            let sql = "UPDATE inbox SET acknowledgement_due_s = ?2 WHERE register = ?1";
            db.execute(sql, [register, due_s])?;
            let sql =
                "UPDATE clocks SET due_at = ?2 * 1000000, overdue_at = NULL WHERE kind = 3 AND item = ?1";
            db.execute(sql, [register, due_s])?;
        }
    }
    Ok(())
}

const UPGRADE_NAMED: &str = "
ALTER TABLE outbox ADD COLUMN acknowledgement_due_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbox ADD COLUMN acknowledgement_due_s INTEGER NOT NULL DEFAULT 0;
";

const UPGRADE: &str = "
ALTER TABLE addressees ADD COLUMN answered_at INTEGER;
CREATE TABLE clocks (
    kind       INTEGER NOT NULL,
    item       INTEGER NOT NULL,
    party      INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    precedence INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    overdue_at INTEGER,
    ended_at   INTEGER,
    PRIMARY KEY (kind, item, party)
) STRICT, WITHOUT ROWID;
CREATE INDEX clocks_ticking ON clocks (kind, due_at) WHERE overdue_at IS NULL AND ended_at IS NULL;
CREATE INDEX clocks_overdue ON clocks (kind, due_at) WHERE overdue_at IS NOT NULL AND ended_at IS NULL;
INSERT INTO clocks (kind, item, party, started_at, precedence, due_at)
    SELECT 1, dispatch, party, queued_at, iif(role = 1, precedence, info_precedence), queued_at
    FROM addressees JOIN outbox ON dispatch = seq
    WHERE state <> 3 AND set_aside_at IS NULL AND expired_at IS NULL
        AND (delivered_at IS NULL OR (acknowledgement = 1 AND role = 1 AND acknowledged_at IS NULL));
INSERT INTO clocks (kind, item, party, started_at, precedence, due_at)
    SELECT 2, dispatch, party, queued_at, 0, answer_due_s * 1000000 FROM addressees JOIN outbox ON dispatch = seq
    WHERE state <> 3 AND role = 1 AND set_aside_at IS NULL AND expired_at IS NULL
        AND answer_due_s BETWEEN 1 AND 253402207200;
INSERT INTO clocks (kind, item, party, started_at, precedence, due_at)
    SELECT 3, register, sender, received_at, precedence, received_at FROM inbox
    WHERE role = 1 AND acknowledgement = 1 AND acknowledged_at IS NULL AND set_aside IS NULL;
";
