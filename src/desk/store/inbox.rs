//! The inbox and its register: taking what was delivered, exactly once, and what people and programs see.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    Store, StoreError, Tx, alarms,
    columns::{integer, micros, optional_time, time_text},
    draft::kind_name,
    naming::{TypedId, id_text, take_short, typed_id},
    outbox::role_name,
    receipts::{self, Due},
    streams::{self, Arrival},
};
use crate::{
    desk::{
        error::DeskError,
        view::{Cursor, InboxFilter, Incoming, IncomingWhole, Mark},
    },
    limits,
    seal::{self, OpenedDispatch, Slip},
    wire::{
        DispatchId, EnvelopeHash, Position, Precedence, Role,
        envelope::{Core, parse_header},
        pb,
        receipt::{ReceiptKind, SetAsideReason},
    },
};

/// Entries of a list where the caller names no limit, and at most.
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 500;

/// An envelope that came for this desk.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Of its record.
    pub position: Position,
    /// Its name: the batch leaf of the header in `frame`.
    pub envelope_hash: EnvelopeHash,
    /// What the header says.
    pub core: Core,
    /// How this desk is addressed.
    pub role: Role,
    /// What the link found of signature, wrap path and roster.
    pub checked: Result<(), SetAsideReason>,
    /// As it came.
    pub frame: pb::Deliver,
}

impl Store {
    /// Takes envelopes into the inbox, in their order, and queues a receipt for each, also where it came
    /// before. What was not `checked` or does not open is set aside, with an alarm; it never holds up the
    /// rest. Durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn deliver(&mut self, deliveries: Vec<Delivery>, now: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| deliveries.iter().try_for_each(|delivery| take(tx, delivery, now)))
    }

    /// The inbox from `filter.after` on, in register order.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub(in crate::desk) fn inbox(&self, filter: &InboxFilter) -> Result<Vec<Incoming>, DeskError> {
        let tx = self.read();
        let sql = format!(
            "SELECT {COLUMNS} FROM inbox WHERE register > ?1 AND (?2 IS NULL OR topic = ?2)
             AND (?3 = 0 OR (acknowledgement = 1 AND acknowledged_at IS NULL AND set_aside IS NULL))
             ORDER BY register LIMIT ?4"
        );
        let mut statement = tx.db.prepare_cached(&sql)?;
        let (after, unacked) = (integer(filter.after.unwrap_or(0)), filter.unacked.unwrap_or(false));
        let limit = filter.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
        let rows = statement.query_map(params![after, filter.topic, unacked, limit], incoming)?;
        let rows: Vec<Incoming> = rows.collect::<Result<_, _>>()?;
        Ok(rows.into_iter().map(|row| with_notices(&tx, row)).collect::<Result<_, _>>()?)
    }

    /// One dispatch of the inbox with its text, by UUID or short id.
    ///
    /// # Errors
    /// [`DeskError::NotFound`], [`DeskError::Store`].
    pub(in crate::desk) fn incoming(&self, id: &str) -> Result<IncomingWhole, DeskError> {
        let tx = self.read();
        let summary = find(&tx, id)?;
        Ok(whole(&tx, summary)?)
    }

    /// Notes that a person read a dispatch, the first time with a receipt.
    ///
    /// # Errors
    /// [`DeskError::NotFound`], [`DeskError::Invalid`] for what was set aside, [`DeskError::TooLarge`].
    pub(in crate::desk) fn mark_read(
        &mut self,
        id: &str,
        mark: &Mark,
        now: Timestamp,
    ) -> Result<Incoming, DeskError> {
        self.write(|tx| mark_step(tx, id, mark, ReceiptKind::Read, now))
    }

    /// Notes that a person acknowledged a dispatch, the first time with a receipt; it then counts as read.
    ///
    /// # Errors
    /// As [`Store::mark_read`].
    pub(in crate::desk) fn acknowledge(
        &mut self,
        id: &str,
        mark: &Mark,
        now: Timestamp,
    ) -> Result<Incoming, DeskError> {
        self.write(|tx| {
            mark_step(tx, id, &Mark { who: mark.who.clone(), ..Mark::default() }, ReceiptKind::Read, now)?;
            mark_step(tx, id, mark, ReceiptKind::Acknowledged, now)
        })
    }

    /// Where a named reader stands; at 0 where it has not committed yet.
    ///
    /// # Errors
    /// [`DeskError::Invalid`] for a name that is empty or too long, [`DeskError::Store`].
    pub(in crate::desk) fn cursor(&self, name: &str) -> Result<Cursor, DeskError> {
        check_cursor_name(name)?;
        let sql = "SELECT register FROM cursors WHERE name = ?1";
        let register = self.connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?;
        Ok(Cursor { register: register.unwrap_or(0) })
    }

    /// Moves a named reader; it may go back, to see dispatches again.
    ///
    /// # Errors
    /// [`DeskError::Invalid`] beyond the register's end or for a bad name, [`DeskError::Store`].
    pub(in crate::desk) fn commit(&mut self, name: &str, cursor: Cursor) -> Result<Cursor, DeskError> {
        check_cursor_name(name)?;
        self.write(|tx| {
            if cursor.register > last_register(tx)? {
                let problem = "is beyond the register's end; commit what `pouch inbox` has shown";
                return Err(DeskError::Invalid { field: "register", problem });
            }
            let sql = "SELECT count(*) FROM cursors WHERE name <> ?1";
            let others: u64 = tx.db.prepare_cached(sql)?.query_row([name], |row| row.get(0))?;
            if others >= limits::CURSORS_MAX {
                let problem = "would be one cursor too many; use one of those there are";
                return Err(DeskError::Invalid { field: "name", problem });
            }
            let sql = "INSERT OR REPLACE INTO cursors (name, register) VALUES (?1, ?2)";
            tx.db.prepare_cached(sql)?.execute(params![name, integer(cursor.register)])?;
            Ok(cursor)
        })
    }
}

fn check_cursor_name(name: &str) -> Result<(), DeskError> {
    if !name.is_empty() && seal::is_line(name, limits::NAME_BYTES_MAX) {
        return Ok(());
    }
    Err(DeskError::Invalid { field: "name", problem: "is no cursor's name; use one line of 1 to 128 bytes" })
}

fn last_register(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let sql = "SELECT max(register) FROM inbox";
    let last: Option<u64> = tx.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}

fn take(tx: &Tx<'_>, delivery: &Delivery, now: Timestamp) -> Result<(), StoreError> {
    let Delivery { core, envelope_hash: hash, position, .. } = delivery;
    if let Some(reason) = known(tx, hash)? {
        return receipt(tx, delivery, reason, now);
    }
    let (slip, dispatch) = open(delivery);
    let first = first_copy(tx, core, dispatch.is_ok())?;
    let register = match first {
        Some(register) => {
            let sql = "INSERT INTO copies (hash, register, position) VALUES (?1, ?2, ?3)";
            tx.db.prepare_cached(sql)?.execute(params![hash, integer(register), position])?;
            register
        }
        None => enter(tx, delivery, &dispatch, now)?,
    };
    if let Some(slip) = &slip {
        let precedence = core.precedence(delivery.role);
        let arrival = Arrival { sender: core.sender, precedence, slip, hash: *hash, register };
        streams::received(tx, &arrival, now)?;
    }
    let reason = dispatch.err();
    if let Some(reason) = reason {
        let (code, words) = (tx.code(core.sender), SetAsideReason::words(reason.code()));
        let sentence =
            format!("register {register} from {code} was set aside: {words}; ask {code} to send it again");
        alarms::raise(tx, now, &format!("set-aside-{register}"), &sentence)?;
    }
    receipt(tx, delivery, reason.map(|reason| reason.code()), now)
}

/// Slip and dispatch. What the link could not verify is not even read.
fn open(delivery: &Delivery) -> (Option<Slip>, Result<OpenedDispatch, SetAsideReason>) {
    match delivery.checked {
        Ok(()) => {
            let opened = seal::open(&delivery.core, &delivery.frame.ciphertext, &delivery.frame.wrap);
            (opened.slip, opened.dispatch)
        }
        Err(reason) => (None, Err(reason)),
    }
}

/// Whether this very envelope came before, with the reason for which it was set aside, if it was.
#[expect(clippy::option_option, reason = "came or not, and then set aside or not")]
fn known(tx: &Tx<'_>, hash: &EnvelopeHash) -> Result<Option<Option<u16>>, StoreError> {
    let sql = "SELECT set_aside FROM inbox WHERE hash = ?1 UNION ALL SELECT NULL FROM copies WHERE hash = ?1";
    Ok(tx.db.prepare_cached(sql)?.query_row([hash], |row| row.get(0)).optional()?)
}

/// The register number of a dispatch that another envelope brought before.
fn first_copy(tx: &Tx<'_>, core: &Core, opens: bool) -> Result<Option<u64>, StoreError> {
    if !opens {
        return Ok(None);
    }
    let sql = "SELECT register FROM inbox WHERE sender = ?1 AND root_id = ?2 AND set_aside IS NULL";
    let found = tx.db.prepare_cached(sql)?.query_row(params![core.sender, root_id(core)], |row| row.get(0));
    Ok(found.optional()?)
}

fn root_id(core: &Core) -> DispatchId {
    core.supersedes.unwrap_or(core.id)
}

/// Gives a dispatch its register number.
fn enter(
    tx: &Tx<'_>,
    delivery: &Delivery,
    dispatch: &Result<OpenedDispatch, SetAsideReason>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let Delivery { core, frame, .. } = delivery;
    let register = last_register(tx)? + 1;
    let (draft, release) = match dispatch {
        Ok(opened) => (opened.draft().clone(), opened.release().clone()),
        Err(_) => (pb::Draft::default(), pb::Release::default()),
    };
    let sql = "INSERT INTO inbox (register, hash, id, root_id, sender, sender_code, role, short, reference, dtg,
        topic, precedence, label, kind, exercise, acknowledgement, position, received_at, set_aside, subject, header,
        proof, salt, opening, content)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
        ?22, ?23, ?24, ?25)";
    tx.db.prepare_cached(sql)?.execute(params![
        integer(register),
        delivery.envelope_hash,
        core.id,
        root_id(core),
        core.sender,
        tx.code(core.sender),
        delivery.role,
        take_short(tx, &core.id)?,
        release.reference,
        release.dtg,
        core.topic,
        core.precedence(delivery.role),
        core.label,
        draft.r#type,
        core.exercise,
        draft.acknowledgement_required,
        delivery.position,
        micros(now),
        dispatch.as_ref().err().map(|reason| reason.code()),
        draft.subject,
        &frame.header[..],
        frame.proof.clone().unwrap_or_default().encode_to_vec(),
        &frame.salt[..],
        &frame.opening[..],
        &frame.ciphertext[..],
    ])?;
    Ok(register)
}

fn receipt(tx: &Tx<'_>, delivery: &Delivery, reason: Option<u16>, now: Timestamp) -> Result<(), StoreError> {
    let kind = if reason.is_some() { ReceiptKind::SetAside } else { ReceiptKind::Delivered };
    receipts::queue(
        tx,
        &Due {
            kind,
            reason: reason.unwrap_or(0),
            sender: delivery.core.sender,
            at: micros(now),
            hash: delivery.envelope_hash,
            position: delivery.position,
            details: Bytes::new(),
        },
    )
}

/// A person's step on one dispatch: the first one counts and makes a receipt.
fn mark_step(
    tx: &Tx<'_>,
    id: &str,
    mark: &Mark,
    kind: ReceiptKind,
    now: Timestamp,
) -> Result<Incoming, DeskError> {
    let details = receipts::details(mark)?;
    let row = find(tx, id)?;
    if row.set_aside.is_some() {
        let problem = "names a dispatch that was set aside; ask its sender to send it again";
        return Err(DeskError::Invalid { field: "id", problem });
    }
    let sql = match kind {
        ReceiptKind::Acknowledged => {
            "UPDATE inbox SET acknowledged_at = ?2 WHERE register = ?1 AND acknowledged_at IS NULL"
        }
        _ => "UPDATE inbox SET read_at = ?2 WHERE register = ?1 AND read_at IS NULL",
    };
    let register = integer(row.register);
    if tx.db.prepare_cached(sql)?.execute(params![register, micros(now)])? == 0 {
        return Ok(row);
    }
    let sql = "SELECT sender, hash, position FROM inbox WHERE register = ?1";
    let due = tx.db.prepare_cached(sql)?.query_row([register], |row| {
        Ok(Due {
            kind,
            reason: 0,
            sender: row.get(0)?,
            at: micros(now),
            hash: row.get(1)?,
            position: row.get(2)?,
            details,
        })
    })?;
    receipts::queue(tx, &due)?;
    find(tx, id)
}

const COLUMNS: &str =
    "register, id, short, sender_code, role, reference, dtg, subject, topic, precedence, label,
    kind, exercise, acknowledgement, received_at, read_at, acknowledged_at, set_aside, position, hash";

fn incoming(row: &Row<'_>) -> rusqlite::Result<Incoming> {
    let set_aside: Option<u16> = row.get(17)?;
    Ok(Incoming {
        register: row.get(0)?,
        id: id_text(&row.get::<_, DispatchId>(1)?.0),
        short: row.get(2)?,
        from: row.get(3)?,
        role: role_name(row.get(4)?).to_owned(),
        reference: row.get(5)?,
        dtg: row.get(6)?,
        subject: row.get(7)?,
        topic: row.get(8)?,
        precedence: row.get::<_, Precedence>(9)?.name().to_owned(),
        label: row.get(10)?,
        kind: kind_name(row.get(11)?).to_owned(),
        exercise: row.get(12)?,
        acknowledgement_required: row.get(13)?,
        received_at: time_text(row.get(14)?),
        read_at: optional_time(row, 15)?,
        acknowledged_at: optional_time(row, 16)?,
        set_aside: set_aside.map(|code| SetAsideReason::words(code).to_owned()),
        notices: Vec::new(),
        position: row.get::<_, Position>(18)?.0,
        envelope_hash: row.get::<_, EnvelopeHash>(19)?.to_string(),
    })
}

fn with_notices(tx: &Tx<'_>, row: Incoming) -> Result<Incoming, StoreError> {
    Ok(Incoming { notices: streams::notices(tx, row.register)?, ..row })
}

fn find(tx: &Tx<'_>, id: &str) -> Result<Incoming, DeskError> {
    let found = match typed_id(id) {
        TypedId::Short(short) => {
            let sql = format!("SELECT {COLUMNS} FROM inbox WHERE short = ?1");
            tx.db.prepare_cached(&sql)?.query_row([short], incoming).optional()?
        }
        TypedId::Long(id) => {
            let sql =
                format!("SELECT {COLUMNS} FROM inbox WHERE id = ?1 ORDER BY set_aside IS NOT NULL, register");
            tx.db.prepare_cached(&sql)?.query_row([DispatchId(id)], incoming).optional()?
        }
    };
    let row = found.ok_or_else(|| DeskError::NotFound { id: id.to_owned() })?;
    Ok(with_notices(tx, row)?)
}

fn whole(tx: &Tx<'_>, summary: Incoming) -> Result<IncomingWhole, StoreError> {
    let sql = "SELECT header, content FROM inbox WHERE register = ?1";
    let (header, content): (Vec<u8>, Vec<u8>) = tx
        .db
        .prepare_cached(sql)?
        .query_row([integer(summary.register)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let corrupt = |what| move |_| StoreError::Corrupt { what };
    let (core, _) = parse_header(&header.into()).map_err(corrupt("a header"))?;
    let addressees = core
        .addressees
        .iter()
        .map(|addressee| (tx.code(addressee.party), role_name(addressee.role).to_owned()))
        .collect();
    // What was set aside has no text that anybody vouches for.
    let draft = match &summary.set_aside {
        Some(_) => pb::Draft::default(),
        None => OpenedDispatch::decode(&content.into()).map_err(corrupt("a dispatch"))?.draft().clone(),
    };
    let from = draft.from.unwrap_or_default();
    let in_reply_to = <[u8; 16]>::try_from(&draft.in_reply_to[..]).ok();
    let due = i64::try_from(draft.answer_due_s).ok().filter(|due| *due != 0);
    Ok(IncomingWhole {
        summary,
        addressees,
        office: from.office,
        person: from.person,
        language: draft.language,
        in_reply_to: in_reply_to.as_ref().map(id_text),
        answer_due: due.and_then(|due| Timestamp::from_second(due).ok()).map(|due| due.to_string()),
        body: draft.body,
    })
}
