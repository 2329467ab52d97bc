//! Arrivals: what was delivered goes into the inbox and its register, exactly once.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, Tx, alarms,
    claims::{self, Claim},
    clocks::{self, Arrived},
    columns::{integer, micros},
    naming::take_short,
    owing,
    receipts::{self, Due},
    streams::{self, Arrival},
};
use crate::{
    seal::{self, OpenedDispatch, Slip},
    wire::{
        DispatchId, EnvelopeHash, Position, Role,
        envelope::Core,
        pb,
        receipt::{ReceiptKind, SetAsideReason},
    },
};

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
}

/// The newest register number, 0 where there is none.
pub(super) fn last_register(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let sql = "SELECT max(register) FROM inbox";
    let last: Option<u64> = tx.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}

fn take(tx: &Tx<'_>, delivery: &Delivery, now: Timestamp) -> Result<(), StoreError> {
    let Delivery { core, envelope_hash: hash, position, .. } = delivery;
    if let Some(reason) = known(tx, hash)? {
        return receipt(tx, delivery, reason, now);
    }
    let leaf = owing::leaf_of(&delivery.frame.salt, &delivery.frame.opening);
    owing::owe(tx, *position, leaf, now)?;
    if delivery.checked.is_ok() {
        claims::look_at(tx, &Claim::of_envelope(delivery), now)?;
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
        let sentence = format!(
            "register {register} from {code} was set aside: {words}; other mail goes on; it is kept, nothing need be saved; call {code} to have it sent again"
        );
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
        proof, salt, opening, content, acknowledgement_due_s)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
        ?22, ?23, ?24, ?25, ?26)";
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
        clocks::acknowledgement_due_s(&draft),
    ])?;
    if dispatch.is_ok() {
        let precedence = core.precedence(delivery.role);
        let new = Arrived::new(register, core.sender, delivery.role, precedence, micros(now), &draft);
        clocks::arrived(tx, &new)?;
    }
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
