//! The outbox as people and programs see it: handing a dispatch in, and how far each one came.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    Store, StoreError, Tx,
    columns::{integer, micros, optional_time, time_text},
    draft::{self, Draft},
    naming::{TypedId, id_text, new_id, next_dtg, next_reference, random, take_short, typed_id},
    orders,
    schema::exists,
};
use crate::{
    desk::{
        error::DeskError,
        view::{AddresseeState, NewDispatch, Outgoing, Refusal},
    },
    limits,
    merkle::Hash,
    wire::{DispatchId, Precedence, Role},
};

impl Store {
    /// Takes a dispatch into the outbox: durable when this returns. It is checked against the roster
    /// where one is held, and otherwise when it is sealed.
    ///
    /// # Errors
    /// [`DeskError`] says what to change.
    pub(in crate::desk) fn enqueue(
        &mut self,
        new: NewDispatch,
        now: Timestamp,
    ) -> Result<Outgoing, DeskError> {
        let draft = Draft::check(new, now)?;
        self.write(|tx| {
            if let Some(seq) = earlier(tx, &draft)? {
                return Ok(Outgoing { duplicate: true, ..view(tx, seq)? });
            }
            if let (Some(roster), Some(own)) = (tx.roster, tx.own()) {
                draft.check_roster(roster, own)?;
                for (code, _) in &draft.addressees {
                    orders::check_addressee(tx, draft::addressee(roster, own, code)?.number, now)?;
                }
            }
            let sql = "SELECT count(*) FROM outbox WHERE state = 0";
            let waiting: u64 = tx.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            if waiting >= limits::OUTBOX_WAITING_MAX {
                return Err(DeskError::OutboxFull { waiting });
            }
            let seq = insert(tx, &draft, now)?;
            Ok(view(tx, seq)?)
        })
    }

    /// The newest dispatches of the outbox, newest first.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub(in crate::desk) fn outbox(&self, limit: u32) -> Result<Vec<Outgoing>, DeskError> {
        let tx = self.read();
        let mut statement = tx.db.prepare_cached("SELECT seq FROM outbox ORDER BY seq DESC LIMIT ?1")?;
        let seqs: Vec<i64> = statement.query_map([limit], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(seqs.into_iter().map(|seq| view(&tx, seq)).collect::<Result<_, _>>()?)
    }

    /// One dispatch of the outbox, by UUID or short id.
    ///
    /// # Errors
    /// [`DeskError::NotFound`], [`DeskError::Store`].
    pub(in crate::desk) fn outgoing(&self, id: &str) -> Result<Outgoing, DeskError> {
        let tx = self.read();
        let seq = find(&tx, id)?.ok_or_else(|| DeskError::NotFound { id: id.to_owned() })?;
        Ok(view(&tx, seq)?)
    }
}

/// The dispatch that the caller handed in before under the same key.
fn earlier(tx: &Tx<'_>, draft: &Draft) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT seq FROM outbox WHERE idempotency_key = ?1";
    let found = match &draft.idempotency_key {
        Some(key) => tx.db.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?,
        None => None,
    };
    Ok(found)
}

fn find(tx: &Tx<'_>, id: &str) -> Result<Option<i64>, StoreError> {
    let first = |row: &Row<'_>| row.get(0);
    let found = match typed_id(id) {
        TypedId::Short(short) => {
            tx.db.prepare_cached("SELECT seq FROM outbox WHERE short = ?1")?.query_row([short], first)
        }
        TypedId::Long(id) => tx
            .db
            .prepare_cached("SELECT seq FROM outbox WHERE id = ?1 OR wire_id = ?1")?
            .query_row([DispatchId(id)], first),
    };
    Ok(found.optional()?)
}

fn insert(tx: &Tx<'_>, draft: &Draft, now: Timestamp) -> Result<i64, DeskError> {
    let id = new_id();
    let in_reply_to = draft.in_reply_to.as_deref().map(|id| answered(tx, id, draft.exercise)).transpose()?;
    let reference = match &draft.reference {
        Some(given) if exists(tx.db, "SELECT 1 FROM outbox WHERE reference = ?1", [given])? => {
            return Err(DeskError::ReferenceTaken { reference: given.clone() });
        }
        Some(given) => given.clone(),
        None => next_reference(tx, now)?,
    };
    let sql = "INSERT INTO outbox (id, wire_id, short, idempotency_key, reference, dtg, precedence, state, topic,
        label, kind, exercise, acknowledgement, answer_due_s, expires_s, queued_at, language, office, person,
        in_reply_to, salt, subject, body)
        VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)";
    tx.db.prepare_cached(sql)?.execute(params![
        id,
        take_short(tx, &id)?,
        draft.idempotency_key,
        reference,
        next_dtg(tx, now)?,
        draft.precedence,
        draft.topic,
        draft.label,
        i32::from(draft.kind),
        draft.exercise,
        draft.acknowledgement,
        integer(draft.answer_due_s),
        integer(draft.expires_s),
        micros(now),
        draft.language,
        draft.office,
        draft.person,
        in_reply_to,
        random::<32>()?,
        draft.subject,
        draft.body,
    ])?;
    let seq = tx.db.last_insert_rowid();
    let sql = "INSERT INTO addressees (dispatch, ordinal, code, role) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = tx.db.prepare_cached(sql)?;
    for (ordinal, (code, role)) in (0_i64..).zip(&draft.addressees) {
        statement.execute(params![seq, ordinal, code, role])?;
    }
    Ok(seq)
}

/// The id of the dispatch that a new one answers: something in this register, and never exercise and real
/// traffic together.
fn answered(tx: &Tx<'_>, id: &str, exercise: bool) -> Result<DispatchId, DeskError> {
    let both = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let found: Option<(DispatchId, bool)> = match typed_id(id) {
        TypedId::Short(short) => {
            let sql = "SELECT id, exercise FROM inbox WHERE short = ?1
                UNION ALL SELECT id, exercise FROM outbox WHERE short = ?1 LIMIT 1";
            tx.db.prepare_cached(sql)?.query_row([short], both).optional()?
        }
        TypedId::Long(id) => {
            let sql = "SELECT id, exercise FROM inbox WHERE id = ?1
                UNION ALL SELECT id, exercise FROM outbox WHERE id = ?1 LIMIT 1";
            tx.db.prepare_cached(sql)?.query_row([DispatchId(id)], both).optional()?
        }
    };
    match found {
        None => Err(DeskError::NotFound { id: id.to_owned() }),
        Some((_, of_exercise)) if of_exercise != exercise => Err(DeskError::ExerciseMix),
        Some((id, _)) => Ok(id),
    }
}

/// One dispatch of the outbox as the API shows it.
fn view(tx: &Tx<'_>, seq: i64) -> Result<Outgoing, StoreError> {
    let sql = "SELECT id, short, reference, dtg, subject, topic, precedence, exercise, state, queued_at,
        accepted_at, position, hash, refusal_code, refusal FROM outbox WHERE seq = ?1";
    let outgoing = tx.db.prepare_cached(sql)?.query_row([seq], |row| {
        let hash: Option<Hash> = row.get(12)?;
        let refusal: Option<String> = row.get(13)?;
        Ok(Outgoing {
            id: id_text(&row.get::<_, DispatchId>(0)?.0),
            short: row.get(1)?,
            reference: row.get(2)?,
            dtg: row.get(3)?,
            subject: row.get(4)?,
            topic: row.get(5)?,
            precedence: row.get::<_, Precedence>(6)?.name().to_owned(),
            exercise: row.get(7)?,
            state: state_name(row.get(8)?).to_owned(),
            queued_at: time_text(row.get(9)?),
            accepted_at: optional_time(row, 10)?,
            position: row.get(11)?,
            envelope_hash: hash.map(|hash| hash.to_string()),
            refusal: match refusal {
                Some(code) => Some(Refusal { code, sentence: row.get(14)? }),
                None => None,
            },
            addressees: Vec::new(),
            duplicate: false,
        })
    })?;
    Ok(Outgoing { addressees: addressees(tx, seq)?, ..outgoing })
}

fn addressees(tx: &Tx<'_>, seq: i64) -> Result<Vec<AddresseeState>, StoreError> {
    let sql =
        "SELECT code, role, delivered_at, set_aside_at, set_aside_reason, read_at, acknowledged_at, remark
        FROM addressees WHERE dispatch = ?1 ORDER BY ordinal";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map([seq], |row| {
        Ok(AddresseeState {
            code: row.get(0)?,
            role: role_name(row.get(1)?).to_owned(),
            delivered_at: optional_time(row, 2)?,
            set_aside_at: optional_time(row, 3)?,
            set_aside_reason: row.get(4)?,
            read_at: optional_time(row, 5)?,
            acknowledged_at: optional_time(row, 6)?,
            remark: row.get(7)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A dispatch's state as the API writes it.
fn state_name(state: i64) -> &'static str {
    match state {
        0 => "queued",
        1 => "sealed",
        2 => "accepted",
        _ => "refused",
    }
}

/// `to` or `info`.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::To => "to",
        Role::Info => "info",
    }
}
