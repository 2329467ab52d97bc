//! The inbox as people and programs see it: lists, whole dispatches, what a person did, cursors.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    Store, StoreError, Tx,
    arrivals::last_register,
    clocks,
    columns::{integer, micros, optional_time, time_text},
    draft::kind_name,
    naming::{TypedId, id_text, typed_id},
    outbox::role_name,
    receipts::{self, Due},
    standing, streams,
};
use crate::{
    desk::{
        error::DeskError,
        view::{InboxFilter, Incoming, IncomingWhole, LIST_DEFAULT, LIST_MAX, Mark},
    },
    roster::PartyNumber,
    seal::OpenedDispatch,
    wire::{
        DispatchId, EnvelopeHash, Position, Precedence,
        envelope::parse_header,
        pb,
        receipt::{ReceiptKind, SetAsideReason},
    },
};

impl Store {
    /// The inbox from `filter.after` on, in register order.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub(in crate::desk) fn inbox(&self, filter: &InboxFilter) -> Result<Vec<Incoming>, DeskError> {
        let tx = self.read();
        let sql = format!(
            "SELECT {COLUMNS} FROM {FROM} WHERE register > ?1 AND (?2 IS NULL OR topic = ?2)
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
    pub fn mark_read(&mut self, id: &str, mark: &Mark, now: Timestamp) -> Result<Incoming, DeskError> {
        self.write(|tx| mark_step(tx, id, mark, Step::Read, now))
    }

    /// Notes that a person acknowledged a dispatch, the first time with a receipt; it then counts as read.
    ///
    /// # Errors
    /// As [`Store::mark_read`].
    pub fn acknowledge(&mut self, id: &str, mark: &Mark, now: Timestamp) -> Result<Incoming, DeskError> {
        self.write(|tx| {
            mark_step(tx, id, &Mark { who: mark.who.clone(), ..Mark::default() }, Step::Read, now)?;
            mark_step(tx, id, mark, Step::Acknowledge, now)
        })
    }

    /// The highest register number, 0 for an empty inbox.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub(in crate::desk) fn last_register(&self) -> Result<u64, DeskError> {
        Ok(last_register(&self.read())?)
    }
}

/// What a person does with a dispatch.
#[derive(Clone, Copy)]
enum Step {
    Read,
    Acknowledge,
}

impl Step {
    fn receipt(self) -> ReceiptKind {
        match self {
            Step::Read => ReceiptKind::Read,
            Step::Acknowledge => ReceiptKind::Acknowledged,
        }
    }

    /// Notes the time of the first one.
    fn sql(self) -> &'static str {
        match self {
            Step::Read => "UPDATE inbox SET read_at = ?2 WHERE register = ?1 AND read_at IS NULL",
            Step::Acknowledge => {
                "UPDATE inbox SET acknowledged_at = ?2 WHERE register = ?1 AND acknowledged_at IS NULL"
            }
        }
    }
}

/// A person's step on one dispatch: the first one counts and makes a receipt.
fn mark_step(tx: &Tx<'_>, id: &str, mark: &Mark, step: Step, now: Timestamp) -> Result<Incoming, DeskError> {
    let details = receipts::details(mark)?;
    let row = find(tx, id)?;
    if row.set_aside.is_some() {
        let problem = "names a dispatch that was set aside; ask its sender to send it again";
        return Err(DeskError::Invalid { field: "id", problem });
    }
    let register = integer(row.register);
    if tx.db.prepare_cached(step.sql())?.execute(params![register, micros(now)])? == 0 {
        return Ok(row);
    }
    if matches!(step, Step::Acknowledge) {
        clocks::acknowledged(tx, register, micros(now))?;
    }
    let sql = "SELECT sender, hash, position FROM inbox WHERE register = ?1";
    let due = tx.db.prepare_cached(sql)?.query_row([register], |row| {
        Ok(Due {
            kind: step.receipt(),
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
    "register, id, short, sender_code, role, reference, dtg, subject, topic, inbox.precedence, label,
    inbox.kind, exercise, acknowledgement, received_at, read_at, acknowledged_at, set_aside, position, hash,
    own.due_at, own.overdue_at, answer.due_at, answer.overdue_at";

const FROM: &str = "inbox
    LEFT JOIN clocks AS own ON own.kind = 3 AND own.item = register AND own.party = sender AND own.ended_at IS NULL
    LEFT JOIN clocks AS answer ON answer.kind = 4 AND answer.item = register AND answer.party = sender
        AND answer.ended_at IS NULL";

fn incoming(row: &Row<'_>) -> rusqlite::Result<Incoming> {
    let set_aside: Option<u16> = row.get(17)?;
    let own = (clocks::running(row, 20)?, "acknowledgement");
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
        awaited: clocks::first([own, (clocks::running(row, 22)?, "answer")]),
        notices: Vec::new(),
        witnessed: None,
        position: row.get::<_, Position>(18)?.0,
        envelope_hash: row.get::<_, EnvelopeHash>(19)?.to_string(),
    })
}

fn with_notices(tx: &Tx<'_>, row: Incoming) -> Result<Incoming, StoreError> {
    let hash = row.envelope_hash.parse().map(EnvelopeHash);
    let hash = hash.map_err(|_| StoreError::Corrupt { what: "an envelope's name" })?;
    let witnessed = standing::of_received(tx, hash)?;
    Ok(Incoming { notices: streams::notices(tx, row.register)?, witnessed, ..row })
}

pub(super) fn find(tx: &Tx<'_>, id: &str) -> Result<Incoming, DeskError> {
    let found = match typed_id(id) {
        TypedId::Short(short) => {
            let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE short = ?1");
            tx.db.prepare_cached(&sql)?.query_row([short], incoming).optional()?
        }
        TypedId::Long(id) => {
            let sql = format!(
                "SELECT {COLUMNS} FROM {FROM} WHERE id = ?1 ORDER BY set_aside IS NOT NULL, register"
            );
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
    let (core, _) = parse_header(&header).map_err(corrupt("a header"))?;
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
    let exempt = draft.exempt.iter().map(|party| tx.code(PartyNumber(*party))).collect();
    let acknowledgement_due_s = clocks::acknowledgement_due_s(&draft);
    let from = draft.from.unwrap_or_default();
    let in_reply_to = <[u8; 16]>::try_from(&draft.in_reply_to[..]).ok();
    let time =
        |due_s: i64| Timestamp::from_second(due_s).ok().filter(|_| due_s > 0).map(|due| due.to_string());
    Ok(IncomingWhole {
        summary,
        addressees,
        exempt,
        office: from.office,
        person: from.person,
        language: draft.language,
        in_reply_to: in_reply_to.as_ref().map(id_text),
        acknowledgement_due: time(acknowledgement_due_s),
        answer_due: time(integer(draft.answer_due_s)),
        body: draft.body,
    })
}
