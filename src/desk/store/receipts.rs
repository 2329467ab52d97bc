//! Receipts that this desk owes: queued with each step, then grouped and signed, one frame at a time.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, Tx, alarms, claims,
    columns::{integer, micros},
    naming::random,
    owing,
};
use crate::{
    batch::{Tag, item_leaf},
    desk::{error::DeskError, view::Mark},
    keys::SigningKey,
    limits,
    merkle::{self, Hash},
    record::{
        SALT_BYTES,
        leaf::{Opening, OpeningKind},
    },
    roster::{Party, PartyNumber, Roster},
    wire::{
        EnvelopeHash, Position, pb,
        receipt::{ReceiptItem, ReceiptKind, ReceiptPart, VerifiedReceipts, join_parts, split_parts},
    },
};

/// Bytes of the items of one Stored frame: a control frame with room for what stands around them.
const STORED_BYTES_MAX: usize = 60 * 1024;
/// Bytes of a person's name in a receipt.
pub(super) const WHO_BYTES_MAX: usize = 200;
/// Bytes of a remark in a receipt.
const REMARK_BYTES_MAX: usize = 3 * 1024;
const DETAILS_SALT_BYTES: usize = 32;
const _: () = assert!(DETAILS_SALT_BYTES + WHO_BYTES_MAX + REMARK_BYTES_MAX + 16 < limits::DETAILS_BYTES_MAX);

/// A step that this desk owes a receipt for.
pub(super) struct Due {
    pub kind: ReceiptKind,
    pub reason: u16,
    pub sender: PartyNumber,
    pub at: i64,
    pub hash: EnvelopeHash,
    pub position: Position,
    /// Empty, or `salt[32] || Details`.
    pub details: Bytes,
}

impl Store {
    /// Whether a receipt waits to be signed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn receipts_waiting(&self) -> Result<bool, StoreError> {
        Ok(super::schema::exists(&self.connection, "SELECT 1 FROM receipts_due LIMIT 1", [])?)
    }

    /// Signs the receipts that wait, oldest first, as far as one frame goes: grouped by sender, kind and
    /// reason, one batch signature over all groups. The very frame is durable when this returns. `None`
    /// where nothing waits, or no roster knows this desk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn make_stored(
        &mut self,
        sign: &SigningKey,
        now: Timestamp,
    ) -> Result<Option<pb::Stored>, StoreError> {
        self.write(|tx| match (tx.roster, tx.own()) {
            (Some(roster), Some(own)) => make(tx, roster, own, sign, now),
            _ => Ok(None),
        })
    }

    /// Frames that the relay has not answered, in the order of their numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unanswered_stored(&self) -> Result<Vec<pb::Stored>, StoreError> {
        unanswered(&self.read())
    }

    /// Notes that a frame's record is durable at the relay, if its opening names what was signed, or is erased there by
    /// now; otherwise the frame stays unanswered. An alarm tells of both but the first. A repetition changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stored_at(&mut self, stored_at: &pb::StoredAt, now: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| {
            let sql = "SELECT frame FROM stored WHERE number = ?1 AND position IS NULL";
            let number = integer(stored_at.number);
            let frame = tx.db.prepare_cached(sql)?.query_row([number], |row| row.get::<_, Vec<u8>>(0));
            let Some(frame) = frame.optional()? else { return Ok(()) };
            if Position(stored_at.position) == Position::NONE
                && stored_at.salt.is_empty()
                && stored_at.opening.is_empty()
            {
                return erased(tx, number, now);
            }
            let root = merkle::root(&leaves(&parts(&decoded(frame)?)?));
            let named = Opening::decode(&stored_at.opening);
            let fits = named.is_ok_and(|named| named.kind == OpeningKind::Receipts && named.hash == root);
            if !fits || stored_at.salt.len() != SALT_BYTES {
                let sentence = format!(
                    "the relay logged other receipts than this desk signed (frame {number}, position {}); they go out \
                     again with the next session, mail goes on: save this desk's folder, and tell the ministry to check the relay",
                    stored_at.position
                );
                return alarms::raise(tx, now, "relay-stored", &sentence);
            }
            let sql = "UPDATE stored SET position = ?2, salt = ?3, opening = ?4 WHERE number = ?1";
            let (salt, opening) = (&stored_at.salt[..], &stored_at.opening[..]);
            let position = Position(stored_at.position);
            tx.db.prepare_cached(sql)?.execute(params![number, position, salt, opening])?;
            owing::owe(tx, position, owing::leaf_of(salt, opening), now)
        })
    }
}

/// Takes the relay's word that it had taken a frame, and has erased what proves it: nothing is owed for it. A person
/// hears of it, who can ask the senders.
fn erased(tx: &Tx<'_>, number: i64, now: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE stored SET position = ?2 WHERE number = ?1";
    tx.db.prepare_cached(sql)?.execute(params![number, Position::NONE])?;
    let sentence = format!(
        "the relay says that it took this desk's receipts (frame {number}) so long ago that it has erased what proves it; \
         that is its word alone; mail goes on; nothing need be saved; where a sender misses a receipt, or this desk was not \
         away for months, call the ministry"
    );
    alarms::raise(tx, now, "receipts-erased", &sentence)
}

/// Queues a receipt; one for the same step of the same envelope that waits already is enough.
pub(super) fn queue(tx: &Tx<'_>, due: &Due) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO receipts_due (kind, reason, sender, at, hash, position, details)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    tx.db.prepare_cached(sql)?.execute(params![
        due.kind.code(),
        due.reason,
        due.sender,
        due.at,
        due.hash,
        due.position,
        &due.details[..]
    ])?;
    Ok(())
}

/// Lays out who did a step and the remark, behind a salt that nobody can guess.
pub(super) fn details(mark: &Mark) -> Result<Bytes, DeskError> {
    for (field, text, bytes_max) in
        [("who", &mark.who, WHO_BYTES_MAX), ("remark", &mark.remark, REMARK_BYTES_MAX)]
    {
        if text.len() > bytes_max {
            return Err(DeskError::TooLarge { field, bytes: text.len(), bytes_max });
        }
    }
    let mut details = random::<DETAILS_SALT_BYTES>()?.to_vec();
    details.extend(pb::Details { who: mark.who.clone(), remark: mark.remark.clone() }.encode_to_vec());
    Ok(details.into())
}

/// What is signed and unanswered, signed by `sign`: the items stay, and with them number and root, so that the
/// relay knows what it has taken.
pub(super) fn resend(tx: &Tx<'_>, sign: &SigningKey) -> Result<Vec<pb::Stored>, StoreError> {
    let mut frames = unanswered(tx)?;
    let Some(roster) = tx.roster else { return Ok(frames) };
    let (domain, key) = (roster.trust_domain(), sign.public());
    let sql = "UPDATE stored SET frame = ?2 WHERE number = ?1";
    let mut statement = tx.db.prepare_cached(sql)?;
    for frame in &mut frames {
        if VerifiedReceipts::verify(frame.clone(), domain, &key).is_err() {
            frame.signature = signature(&parts(frame)?, domain, sign);
            statement.execute(params![integer(frame.number), frame.encode_to_vec()])?;
        }
    }
    Ok(frames)
}

/// Takes the frames that nobody answered apart: their receipts wait again, and go out under other numbers.
/// Those that the relay has after all come to their senders a second time, which changes nothing.
pub(super) fn take_back(tx: &Tx<'_>) -> Result<(), StoreError> {
    for frame in unanswered(tx)? {
        for ReceiptPart { item, details, .. } in parts(&frame)? {
            let at = integer(item.time_us);
            for (hash, position) in item.envelopes {
                let (kind, reason, sender) = (item.kind, item.reason, item.sender);
                queue(tx, &Due { kind, reason, sender, at, hash, position, details: details.clone() })?;
            }
        }
    }
    let sql = "DELETE FROM stored_of WHERE log = (SELECT log FROM desk)
        AND number IN (SELECT number FROM stored WHERE position IS NULL)";
    tx.db.execute(sql, [])?;
    tx.db.execute("DELETE FROM stored WHERE position IS NULL", [])?;
    Ok(())
}

/// The items of a frame that this desk keeps.
pub(super) fn parts(frame: &pb::Stored) -> Result<Vec<ReceiptPart>, StoreError> {
    let corrupt = StoreError::Corrupt { what: "a receipt frame" };
    let Ok(count) = usize::try_from(frame.count) else { return Err(corrupt) };
    split_parts(frame.items.clone(), count).map_err(|_| corrupt)
}

fn leaves(parts: &[ReceiptPart]) -> Vec<Hash> {
    parts.iter().map(|part| item_leaf(Tag::Receipt, &part.bytes)).collect()
}

pub(super) fn decoded(frame: Vec<u8>) -> Result<pb::Stored, StoreError> {
    pb::Stored::decode(Bytes::from(frame)).map_err(|_| StoreError::Corrupt { what: "a receipt frame" })
}

/// One signature over all items.
fn signature(parts: &[ReceiptPart], domain: &str, sign: &SigningKey) -> Bytes {
    let proofs = sign.sign_batch(domain, Tag::Receipt, &leaves(parts));
    let proof = proofs.first().expect("a proof for each of at least one item");
    Bytes::copy_from_slice(&proof.signature)
}

pub(super) fn unanswered(tx: &Tx<'_>) -> Result<Vec<pb::Stored>, StoreError> {
    let mut statement =
        tx.db.prepare_cached("SELECT frame FROM stored WHERE position IS NULL ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut frames = Vec::new();
    while let Some(row) = rows.next()? {
        frames.push(decoded(row.get(0)?)?);
    }
    Ok(frames)
}

fn make(
    tx: &Tx<'_>,
    roster: &Roster,
    own: &Party,
    sign: &SigningKey,
    now: Timestamp,
) -> Result<Option<pb::Stored>, StoreError> {
    let (own, roster_version, checkpoint) = (own.number, roster.version(), claims::own(tx)?);
    let mut groups = Groups { own, roster_version, now, checkpoint, parts: Vec::new(), bytes: 0 };
    let sql = "SELECT kind, reason, sender, at, hash, position, details, seq FROM receipts_due ORDER BY seq";
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut through: i64 = 0;
    while let Some(row) = rows.next()? {
        let kind =
            ReceiptKind::from_code(row.get(0)?).ok_or(StoreError::Corrupt { what: "a receipt's kind" })?;
        let due = Due {
            kind,
            reason: row.get(1)?,
            sender: row.get(2)?,
            at: row.get(3)?,
            hash: row.get(4)?,
            position: row.get(5)?,
            details: row.get::<_, Vec<u8>>(6)?.into(),
        };
        if !groups.add(due) {
            break;
        }
        through = row.get(7)?;
    }
    drop(rows);
    if groups.parts.is_empty() {
        return Ok(None);
    }
    tx.db.prepare_cached("DELETE FROM receipts_due WHERE seq <= ?1")?.execute([through])?;
    sign_groups(tx, roster, groups, sign).map(Some)
}

fn sign_groups(
    tx: &Tx<'_>,
    roster: &Roster,
    groups: Groups,
    sign: &SigningKey,
) -> Result<pb::Stored, StoreError> {
    let parts: Vec<ReceiptPart> = groups
        .parts
        .into_iter()
        .map(|(item, details)| ReceiptPart { bytes: item.encode(), details, item })
        .collect();
    let sql = "UPDATE desk SET last_stored = last_stored + 1 RETURNING last_stored";
    let number: u64 = tx.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    let frame = pb::Stored {
        number,
        count: u32::try_from(parts.len()).expect("at most 64 groups"),
        items: join_parts(&parts),
        signature: signature(&parts, roster.trust_domain(), sign),
    };
    let receipts: usize = parts.iter().map(|part| part.item.envelopes.len()).sum();
    let sql = "INSERT INTO stored (number, receipts, frame) VALUES (?1, ?2, ?3)";
    tx.db.prepare_cached(sql)?.execute(params![
        integer(number),
        integer(receipts as u64),
        frame.encode_to_vec()
    ])?;
    let log = tx.db.prepare_cached("SELECT log FROM desk")?.query_row([], |row| row.get(0))?;
    let envelopes = parts.iter().flat_map(|part| &part.item.envelopes);
    owing::index_stored(tx.db, log, integer(number), envelopes)?;
    Ok(frame)
}

/// The items of one frame while it fills.
struct Groups {
    own: PartyNumber,
    roster_version: u32,
    now: Timestamp,
    /// Size and root of the newest verified checkpoint.
    checkpoint: (u64, Hash),
    parts: Vec<(ReceiptItem, Bytes)>,
    bytes: usize,
}

/// Bytes of an item without envelopes, with the lengths around it, rounded up; and of one envelope in it.
const ITEM_BYTES: usize = 128;
const ENVELOPE_BYTES: usize = limits::HASH_BYTES + 8;

impl Groups {
    /// Adds one step; false where it does not fit any more.
    fn add(&mut self, due: Due) -> bool {
        let fits = |item: &ReceiptItem| {
            (item.kind, item.reason, item.sender) == (due.kind, due.reason, due.sender)
                && item.details_hash == Hash::ZERO
                && item.envelopes.len() < limits::RECEIPT_ENVELOPES_MAX
        };
        let open = self.parts.iter().rposition(|(item, _)| due.details.is_empty() && fits(item));
        let head = if open.is_some() { 0 } else { ITEM_BYTES };
        let bytes = self.bytes + head + ENVELOPE_BYTES + due.details.len();
        if bytes > STORED_BYTES_MAX || (open.is_none() && self.parts.len() == limits::BATCH_ITEMS_MAX) {
            return false;
        }
        self.bytes = bytes;
        let envelope = (due.hash, due.position);
        match open {
            Some(at) => self.parts[at].0.envelopes.push(envelope),
            None => self.parts.push(self.item(due, envelope)),
        }
        true
    }

    fn item(&self, due: Due, envelope: (EnvelopeHash, Position)) -> (ReceiptItem, Bytes) {
        // What a person did carries its own time; what the desk did is dated by its signature.
        let (at, details_hash) = match due.details.is_empty() {
            true => (micros(self.now), Hash::ZERO),
            false => (due.at, merkle::sha256(&due.details)),
        };
        let (time_us, version) = (u64::try_from(at).unwrap_or_default(), self.roster_version);
        let item = ReceiptItem {
            reason: due.reason,
            details_hash,
            checkpoint_size: self.checkpoint.0,
            checkpoint_root: self.checkpoint.1,
            ..ReceiptItem::own(due.kind, self.own, due.sender, time_us, version, vec![envelope])
        };
        (item, due.details)
    }
}
