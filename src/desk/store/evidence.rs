//! Receipts of others for what was sent here: kept as they came, and what they say of each addressee.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, Tx, alarms,
    claims::{self, Claim},
    clocks,
    columns::{integer, micros},
    expired, owing,
};
use crate::{
    batch::Proof,
    merkle,
    wire::{
        EnvelopeHash, Position, SubmissionNumber,
        convert::{self, proof_frame},
        pb,
        receipt::{ReceiptItem, ReceiptKind, ReceiptPart, SetAsideReason},
    },
};

/// A receipt that came for what this desk sent, with its signature verified by the link.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedReceipt {
    /// Of the record that holds it.
    pub position: Position,
    /// Item and details.
    pub part: ReceiptPart,
    /// The receiptor's share of a batch signature.
    pub proof: Proof,
    /// Of the record.
    pub salt: Bytes,
    /// Of the record.
    pub opening: Bytes,
}

impl Store {
    /// Takes receipts of others, keeps them as evidence and notes what they prove. A repetition changes
    /// nothing. When this returns, all may be confirmed through their highest position.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn receipts(&mut self, receipts: Vec<ReceivedReceipt>, now: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| {
            for receipt in &receipts {
                if keep(tx, receipt, now)? {
                    apply(tx, &receipt.part, now)?;
                }
            }
            if let Some(highest) = receipts.iter().map(|receipt| receipt.position).max() {
                let sql = "UPDATE desk SET confirmed = ?1 WHERE confirmed < ?1";
                tx.db.prepare_cached(sql)?.execute([highest])?;
            }
            Ok(())
        })
    }
}

/// Keeps a receipt; false where it was kept before.
fn keep(tx: &Tx<'_>, receipt: &ReceivedReceipt, now: Timestamp) -> Result<bool, StoreError> {
    let sql = "INSERT OR IGNORE INTO receipts_in (position, hash, item, proof, details, salt, opening)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (part, position) = (&receipt.part, receipt.position);
    let hash = merkle::sha256(&part.bytes);
    let kept = tx.db.prepare_cached(sql)?.execute(params![
        position,
        hash,
        &part.bytes[..],
        proof_frame(&receipt.proof).encode_to_vec(),
        &part.details[..],
        &receipt.salt[..],
        &receipt.opening[..]
    ])?;
    if kept == 1 {
        owing::index_receipt(tx.db, position, hash, &part.item)?;
        owing::owe(tx, position, owing::leaf_of(&receipt.salt, &receipt.opening), now)?;
        claims::look_at(tx, &Claim::of_receipt(receipt), now)?;
    }
    Ok(kept == 1)
}

/// Keeps a refusal that the log holds, which the link has verified: what a proof file shows of it.
pub(super) fn keep_refusal(
    tx: &Tx<'_>,
    number: SubmissionNumber,
    refused: &pb::Refused,
    now: Timestamp,
) -> Result<(), StoreError> {
    let corrupt = || StoreError::Corrupt { what: "a refusal" };
    let part = ReceiptPart::parse(refused.item.clone(), Bytes::new()).map_err(|_| corrupt())?;
    let proof = convert::proof(refused.proof.as_ref()).map_err(|_| corrupt())?;
    let (position, salt, opening) =
        (Position(refused.position), refused.salt.clone(), refused.opening.clone());
    // What it accepted before, against its word, stays proven as that.
    let sql = "UPDATE submissions SET position = ?2, salt = ?3, opening = ?4 WHERE number = ?1 AND position IS NULL";
    tx.db.prepare_cached(sql)?.execute(params![number, position, &salt[..], &opening[..]])?;
    keep(tx, &ReceivedReceipt { position, part, proof, salt, opening }, now).map(drop)
}

fn apply(tx: &Tx<'_>, part: &ReceiptPart, now: Timestamp) -> Result<(), StoreError> {
    let item = &part.item;
    if is_for_addressee(tx, item) {
        return expired::note(tx, item);
    }
    // 1 to 4 and 7 are the codes of the kinds that concern an addressee.
    let sql = "UPDATE addressees SET
        delivered_at = coalesce(delivered_at, iif(?3 = 1, ?4, NULL)),
        set_aside_at = coalesce(set_aside_at, iif(?3 = 2, ?4, NULL)),
        set_aside_reason = coalesce(set_aside_reason, iif(?3 = 2, ?5, NULL)),
        expired_at = coalesce(expired_at, iif(?3 = 7, ?4, NULL)),
        read_at = coalesce(read_at, iif(?3 = 3, ?4, NULL)),
        acknowledged_at = coalesce(acknowledged_at, iif(?3 = 4, ?4, NULL)),
        remark = coalesce(remark, iif(?3 = 4, ?5, NULL))
        WHERE dispatch = (SELECT dispatch FROM submissions WHERE hash = ?1) AND party = ?2";
    let mut statement = tx.db.prepare_cached(sql)?;
    let (kind, at, words) = (item.kind.code(), integer(item.time_us), words(part));
    for (hash, _) in &item.envelopes {
        let concerns = is_signers(tx, item);
        if !concerns || statement.execute(params![hash, item.addressee, kind, at, words])? == 0 {
            unexpected(tx, item, now)?;
        } else if matches!(item.kind, ReceiptKind::SetAside | ReceiptKind::Expired) {
            undelivered(tx, item, hash, now)?;
        }
        if concerns && item.kind != ReceiptKind::Read {
            let sql = "SELECT dispatch FROM submissions WHERE hash = ?1";
            let dispatch = tx.db.prepare_cached(sql)?.query_row([hash], |row| row.get(0)).optional()?;
            dispatch.map_or(Ok(()), |dispatch| clocks::settle(tx.db, dispatch, micros(now)))?;
        }
    }
    Ok(())
}

/// Whether this kind of receipt is its receiptor's to give (FORMATS 7), for something of this desk.
fn is_signers(tx: &Tx<'_>, item: &ReceiptItem) -> bool {
    let signer = match item.kind {
        ReceiptKind::Delivered | ReceiptKind::SetAside | ReceiptKind::Read | ReceiptKind::Acknowledged => {
            Some(item.addressee)
        }
        ReceiptKind::Expired => tx.roster.and_then(|roster| roster.relay()).map(|relay| relay.number),
        // The desk's own, and what travels inside Refused.
        ReceiptKind::Withdrawn | ReceiptKind::Refused => None,
    };
    signer == Some(item.receiptor) && tx.own().is_some_and(|own| own.number == item.sender)
}

/// Whether the relay says that something for this desk expired.
fn is_for_addressee(tx: &Tx<'_>, item: &ReceiptItem) -> bool {
    let relay = tx.roster.and_then(|roster| roster.relay()).map(|relay| relay.number);
    item.kind == ReceiptKind::Expired
        && relay == Some(item.receiptor)
        && tx.own().is_some_and(|own| own.number == item.addressee)
}

/// What a person reads beside the time: who acknowledged with a remark, or why it was not opened.
fn words(part: &ReceiptPart) -> Option<String> {
    match part.item.kind {
        ReceiptKind::SetAside => Some(SetAsideReason::words(part.item.reason).to_owned()),
        ReceiptKind::Acknowledged => {
            let details = pb::Details::decode(part.details.get(32..)?).ok()?;
            let said = [details.who, details.remark].into_iter().filter(|said| !said.is_empty());
            Some(said.collect::<Vec<_>>().join(": ")).filter(|said| !said.is_empty())
        }
        ReceiptKind::Delivered
        | ReceiptKind::Read
        | ReceiptKind::Withdrawn
        | ReceiptKind::Refused
        | ReceiptKind::Expired => None,
    }
}

fn undelivered(
    tx: &Tx<'_>,
    item: &ReceiptItem,
    hash: &EnvelopeHash,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "SELECT short FROM outbox JOIN submissions ON dispatch = seq WHERE submissions.hash = ?1";
    let short: String = tx.db.prepare_cached(sql)?.query_row([hash], |row| row.get(0))?;
    let code = tx.code(item.addressee);
    let what = if item.kind == ReceiptKind::Expired { "expired before" } else { "was set aside by" };
    let sentence = format!(
        "{short} {what} {code} (`pouch outbox` says why); other mail goes on; nothing need be saved; send it again, or call {code}"
    );
    alarms::raise(tx, now, &format!("undelivered-{short}-{code}"), &sentence)
}

fn unexpected(tx: &Tx<'_>, item: &ReceiptItem, now: Timestamp) -> Result<(), StoreError> {
    let code = tx.code(item.receiptor);
    let sentence = format!(
        "a receipt ({}) from {code} fits nothing that this desk sent; mail goes on; save this desk's folder, and if its store was not restored, tell \
         the ministry",
        item.kind.name()
    );
    alarms::raise(tx, now, &format!("receipt-{code}"), &sentence)
}
