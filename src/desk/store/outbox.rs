//! The outbox as people and programs see it: handing a dispatch in, and how far each one came.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    Store, StoreError, Tx,
    addressing::{Addressed, Directory, Naming},
    clocks,
    columns::{integer, micros, optional_time, time_text},
    draft::Draft,
    naming::{TypedId, id_text, new_id, next_dtg, next_reference, random, take_short, typed_id},
    schema::exists,
    standing,
};
use crate::{
    desk::{
        error::DeskError,
        view::{AddresseeState, Named, NewDispatch, Outgoing, Refusal},
    },
    limits,
    merkle::Hash,
    roster::PartyNumber,
    wire::{DispatchId, EnvelopeHash, Precedence, Role, receipt::ReceiptKind},
};

impl Store {
    /// Takes a dispatch into the outbox: durable when this returns. It is checked against the roster
    /// where one is held, and otherwise when it is sealed.
    ///
    /// # Errors
    /// [`DeskError`] says what to change.
    pub fn enqueue(&mut self, new: NewDispatch, now: Timestamp) -> Result<Outgoing, DeskError> {
        let draft = Draft::check(new, now)?;
        self.write(|tx| {
            if let Some(seq) = earlier(tx, &draft)? {
                return Ok(Outgoing { duplicate: true, ..view(tx, seq)? });
            }
            let addressed = match (tx.roster, tx.own()) {
                (Some(roster), Some(own)) => Some(draft.address(&Directory::open(tx, roster, own, now)?)?),
                _ => None,
            };
            let sql = "SELECT count(*) FROM outbox WHERE state = 0";
            let waiting: u64 = tx.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            if waiting >= limits::OUTBOX_WAITING_MAX {
                return Err(DeskError::OutboxFull { waiting });
            }
            let seq = insert(tx, &draft, now)?;
            if let Some(addressed) = addressed {
                keep_addressed(tx, seq, &addressed)?;
            }
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

pub(super) fn find(tx: &Tx<'_>, id: &str) -> Result<Option<i64>, StoreError> {
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
        in_reply_to, salt, subject, body, info_precedence, acknowledgement_due_s)
        VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";
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
        draft.info_precedence,
        integer(draft.acknowledgement_due_s),
    ])?;
    let seq = tx.db.last_insert_rowid();
    let sql = "INSERT INTO names (dispatch, ordinal, code, naming) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = tx.db.prepare_cached(sql)?;
    for (ordinal, (code, naming)) in (0_i64..).zip(&draft.names) {
        statement.execute(params![seq, ordinal, code, naming])?;
    }
    Ok(seq)
}

/// Keeps whom a dispatch goes to. What is known of an addressee stays, however often it is addressed anew.
pub(super) fn keep_addressed(tx: &Tx<'_>, seq: i64, addressed: &Addressed<'_>) -> Result<(), StoreError> {
    let sql = "UPDATE names SET parties = ?3, left_out = ?4 WHERE dispatch = ?1 AND ordinal = ?2";
    let mut statement = tx.db.prepare_cached(sql)?;
    for (ordinal, became) in (0_i64..).zip(&addressed.became) {
        let parties = integer(became.parties as u64);
        statement.execute(params![seq, ordinal, parties, became.left_out.join(" ")])?;
    }
    tx.db.prepare_cached("UPDATE addressees SET ordinal = -1 WHERE dispatch = ?1")?.execute([seq])?;
    let sql = "INSERT INTO addressees (dispatch, ordinal, code, role, party) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT DO UPDATE SET ordinal = ?2, role = ?4, party = ?5";
    let mut statement = tx.db.prepare_cached(sql)?;
    for (ordinal, (party, role)) in (0_i64..).zip(&addressed.addressees) {
        statement.execute(params![seq, ordinal, party.code, role, party.number])?;
    }
    let sql = "DELETE FROM addressees WHERE dispatch = ?1 AND ordinal = -1";
    tx.db.prepare_cached(sql)?.execute([seq])?;
    clocks::addressed(tx, seq)
}

/// Whom the writer of a dispatch named.
pub(super) fn names(tx: &Tx<'_>, seq: i64) -> Result<Vec<(String, Naming)>, StoreError> {
    let sql = "SELECT code, naming FROM names WHERE dispatch = ?1 ORDER BY ordinal";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
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
        accepted_at, position, hash, refusal_code, refusal, info_precedence, label FROM outbox WHERE seq = ?1";
    let (outgoing, hash) = tx.db.prepare_cached(sql)?.query_row([seq], |row| {
        let hash: Option<Hash> = row.get(12)?;
        let refusal: Option<String> = row.get(13)?;
        let outgoing = Outgoing {
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
            info_precedence: row.get::<_, Precedence>(15)?.name().to_owned(),
            label: row.get(16)?,
            witnessed: None,
            named: Vec::new(),
            addressees: Vec::new(),
            duplicate: false,
        };
        Ok((outgoing, hash.map(EnvelopeHash)))
    })?;
    let mut addressees = addressees(tx, seq)?;
    let mut witnessed = None;
    if let Some(hash) = hash {
        witnessed = standing::of_sent(tx, hash)?;
        let receipts = standing::of_receipts(tx, hash)?;
        for (party, addressee) in &mut addressees {
            addressee.witnessed = match last_kind(&addressee.state) {
                Some(kind) => receipts.get(&(*party, kind)).copied(),
                None => witnessed,
            };
        }
    }
    let addressees = addressees.into_iter().map(|(_, addressee)| addressee).collect();
    Ok(Outgoing { named: named(tx, seq)?, addressees, witnessed, ..outgoing })
}

/// What was addressed, as written, and what it became.
fn named(tx: &Tx<'_>, seq: i64) -> Result<Vec<Named>, StoreError> {
    let sql = "SELECT code, naming, parties, left_out FROM names WHERE dispatch = ?1 ORDER BY ordinal";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map([seq], |row| {
        let left_out: String = row.get(3)?;
        Ok(Named {
            code: row.get(0)?,
            role: row.get::<_, Naming>(1)?.name().to_owned(),
            parties: row.get(2)?,
            left_out: left_out.split_whitespace().map(str::to_owned).collect(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn addressees(tx: &Tx<'_>, seq: i64) -> Result<Vec<(PartyNumber, AddresseeState)>, StoreError> {
    let sql =
        "SELECT code, role, delivered_at, set_aside_at, set_aside_reason, read_at, acknowledged_at, remark,
        expired_at, accepted_at, answered_at, service.due_at, service.overdue_at, answer.due_at, answer.overdue_at,
        named.due_at, named.overdue_at, addressees.party FROM addressees JOIN outbox ON dispatch = seq
        LEFT JOIN clocks AS service ON service.kind = 1 AND service.item = dispatch
            AND service.party = addressees.party AND service.ended_at IS NULL
        LEFT JOIN clocks AS answer ON answer.kind = 2 AND answer.item = dispatch
            AND answer.party = addressees.party AND answer.ended_at IS NULL
        LEFT JOIN clocks AS named ON named.kind = 5 AND named.item = dispatch
            AND named.party = addressees.party AND named.ended_at IS NULL
        WHERE dispatch = ?1 ORDER BY ordinal";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map([seq], |row| {
        let mut addressee = AddresseeState {
            code: row.get(0)?,
            role: role_name(row.get(1)?).to_owned(),
            delivered_at: optional_time(row, 2)?,
            set_aside_at: optional_time(row, 3)?,
            set_aside_reason: row.get(4)?,
            read_at: optional_time(row, 5)?,
            acknowledged_at: optional_time(row, 6)?,
            remark: row.get(7)?,
            expired_at: optional_time(row, 8)?,
            accepted_at: optional_time(row, 9)?,
            answered_at: optional_time(row, 10)?,
            state: String::new(),
            witnessed: None,
            awaited: None,
        };
        addressee.state = last_step(&addressee).to_owned();
        let step = if addressee.delivered_at.is_none() { "delivery" } else { "acknowledgement" };
        addressee.awaited = clocks::first([
            (clocks::running(row, 11)?, step),
            (clocks::running(row, 15)?, "acknowledgement"),
            (clocks::running(row, 13)?, "answer"),
        ]);
        Ok((row.get(17)?, addressee))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The last step of the chain of receipts. What an addressee said outweighs what the relay said of it.
fn last_step(addressee: &AddresseeState) -> &'static str {
    let steps = [
        ("answered", &addressee.answered_at),
        ("acknowledged", &addressee.acknowledged_at),
        ("read", &addressee.read_at),
        ("delivered", &addressee.delivered_at),
        ("set aside", &addressee.set_aside_at),
        ("expired", &addressee.expired_at),
        ("accepted", &addressee.accepted_at),
    ];
    steps.into_iter().find(|(_, at)| at.is_some()).map_or("waiting", |(step, _)| step)
}

/// The receipt that says this last step; `None` where none is there yet.
fn last_kind(step: &str) -> Option<ReceiptKind> {
    let kinds = [
        ReceiptKind::Acknowledged,
        ReceiptKind::Read,
        ReceiptKind::Delivered,
        ReceiptKind::SetAside,
        ReceiptKind::Expired,
    ];
    kinds.into_iter().find(|kind| kind.name() == step)
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
