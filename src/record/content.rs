//! What a record says: the typed content of leaf, opening, header and body.
//!
//! | kind | header | body |
//! |---|---|---|
//! | envelope | header bytes as signed | the envelope's stored form |
//! | receipts | `u32 receiptor, u64 number, u8 count, signature[64]` | items as in the Stored frame |
//! | refusal | `u32 sender, u64 submission number, u16 code` | empty |
//! | expiry | [`ExpiredEnvelope`] | empty |
//! | administrative | empty | the roster note, or empty |

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    batch::{self, Tag},
    merkle::{self, Hash},
    record::{
        Record, SALT_BYTES,
        administrative::{Act, AdministrativeLeaf},
        expiry::ExpiredEnvelope,
        leaf::{OPENING_BYTES, Opening, OpeningKind, TRAFFIC_LEAF_BYTES, is_administrative},
    },
    roster::PartyNumber,
    wire::{
        EnvelopeHash, Malformed, SubmissionNumber,
        envelope::{Core, Envelope},
        receipt::{ReceiptBatch, join_parts, split_parts},
    },
};

/// The content of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An accepted envelope.
    Envelope(AcceptedEnvelope),
    /// Receipts of one desk.
    Receipts(AcceptedReceipts),
    /// A final refusal of a correctly signed envelope.
    Refusal(RecordedRefusal),
    /// An envelope that was not settled in time.
    Expired(ExpiredEnvelope),
    /// An administrative act.
    Administrative(AdministrativeRecord),
}

/// Salt and opening of a traffic leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Blinds the commitment.
    pub salt: [u8; SALT_BYTES],
    /// What is committed to.
    pub opening: Opening,
}

/// See [`Content::Envelope`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedEnvelope {
    /// Salt and opening.
    pub traffic: Traffic,
    /// Shared with the connections that deliver it.
    pub envelope: Arc<Envelope>,
    /// What its header says.
    pub core: Box<Core>,
    /// Its name.
    pub hash: EnvelopeHash,
}

/// See [`Content::Receipts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedReceipts {
    /// Salt and opening.
    pub traffic: Traffic,
    /// The desk that signed.
    pub receiptor: PartyNumber,
    /// What it signed.
    pub batch: Arc<ReceiptBatch>,
}

/// See [`Content::Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedRefusal {
    /// Salt and opening.
    pub traffic: Traffic,
    /// Whose submission.
    pub sender: PartyNumber,
    /// Its number, spent.
    pub submission: SubmissionNumber,
    /// Its name.
    pub hash: EnvelopeHash,
    /// Refusal code.
    pub code: u16,
}

/// See [`Content::Administrative`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdministrativeRecord {
    /// In clear.
    pub leaf: AdministrativeLeaf,
    /// The roster note where it is a roster.
    pub beside: Bytes,
}

impl Content {
    /// The record to journal.
    pub fn to_record(&self) -> Record {
        match self {
            Content::Envelope(accepted) => {
                let envelope = &accepted.envelope;
                traffic_record(&accepted.traffic, envelope.header.clone(), envelope.stored.clone())
            }
            Content::Receipts(receipts) => {
                let mut header = BytesMut::with_capacity(4 + 8 + 1 + 64);
                header.put_u32(receipts.receiptor.0);
                header.put_u64(receipts.batch.number);
                header.put_u8(u8::try_from(receipts.batch.parts.len()).expect("at most 64 items"));
                header.put_slice(&receipts.batch.signature);
                traffic_record(&receipts.traffic, header.freeze(), join_parts(&receipts.batch.parts))
            }
            Content::Refusal(refusal) => {
                let mut header = BytesMut::with_capacity(4 + 8 + 2);
                header.put_u32(refusal.sender.0);
                header.put_u64(refusal.submission.0);
                header.put_u16(refusal.code);
                traffic_record(&refusal.traffic, header.freeze(), Bytes::new())
            }
            Content::Expired(expired) => traffic_record(&expired.traffic, expired.header(), Bytes::new()),
            Content::Administrative(record) => Record {
                leaf: record.leaf.encode(),
                salt: Bytes::new(),
                opening: Bytes::new(),
                header: Bytes::new(),
                body: record.beside.clone(),
            },
        }
    }

    /// Reads a journaled record, and checks that its leaf commits to its opening and its opening to its content.
    ///
    /// # Errors
    /// [`Malformed`]: the record is of a kind that this version does not know, or is damaged in a way that
    /// its checksum does not show. It is never skipped.
    pub fn from_record(record: &Record) -> Result<Content, Malformed> {
        Content::read(record, Envelope::from_stored)
    }

    /// As [`Content::from_record`], but takes an envelope's ciphertext on trust, which the record's checksum covers:
    /// for replay, which delivers nothing. What is delivered is loaded anew, and hashed then.
    ///
    /// # Errors
    /// As [`Content::from_record`].
    pub fn from_replay(record: &Record) -> Result<Content, Malformed> {
        Content::read(record, Envelope::from_replay)
    }

    fn read(
        record: &Record,
        envelope: fn(Bytes, Bytes) -> Result<(Envelope, Core), Malformed>,
    ) -> Result<Content, Malformed> {
        if is_administrative(&record.leaf) {
            return administrative(record).map(Content::Administrative);
        }
        let salt = (&*record.salt).try_into().map_err(|_| Malformed::new("salt", "is not 32 bytes"))?;
        let traffic = Traffic { salt, opening: Opening::decode(&record.opening)? };
        if record.leaf != traffic.opening.leaf(&salt)[..] {
            return Err(Malformed::new("leaf", "does not commit to its opening"));
        }
        let content = match traffic.opening.kind {
            OpeningKind::Envelope => Content::Envelope(accepted_envelope(traffic, record, envelope)?),
            OpeningKind::Receipts => Content::Receipts(accepted_receipts(traffic, record)?),
            OpeningKind::Refusal => Content::Refusal(recorded_refusal(traffic, record)?),
            OpeningKind::Expiry => Content::Expired(expired_envelope(traffic, record)?),
        };
        Ok(content)
    }

    /// The relay's log time of this record.
    pub fn log_time_us(&self) -> u64 {
        match self {
            Content::Envelope(AcceptedEnvelope { traffic, .. })
            | Content::Receipts(AcceptedReceipts { traffic, .. })
            | Content::Refusal(RecordedRefusal { traffic, .. })
            | Content::Expired(ExpiredEnvelope { traffic, .. }) => traffic.opening.log_time_us,
            Content::Administrative(record) => record.leaf.log_time_us,
        }
    }
}

/// RFC 6962 hash of a record's leaf.
pub fn leaf_hash(record: &Record) -> Hash {
    merkle::leaf_hash(&record.leaf)
}

fn traffic_record(traffic: &Traffic, header: Bytes, body: Bytes) -> Record {
    // One piece of memory for the three.
    let mut bytes = Vec::with_capacity(TRAFFIC_LEAF_BYTES + SALT_BYTES + OPENING_BYTES);
    bytes.extend_from_slice(&traffic.opening.leaf(&traffic.salt));
    bytes.extend_from_slice(&traffic.salt);
    bytes.extend_from_slice(&traffic.opening.encode());
    let mut opening = Bytes::from(bytes);
    let leaf = opening.split_to(TRAFFIC_LEAF_BYTES);
    let salt = opening.split_to(SALT_BYTES);
    Record { leaf, salt, opening, header, body }
}

fn accepted_envelope(
    traffic: Traffic,
    record: &Record,
    envelope: fn(Bytes, Bytes) -> Result<(Envelope, Core), Malformed>,
) -> Result<AcceptedEnvelope, Malformed> {
    let (envelope, core) = envelope(record.header.clone(), record.body.clone())?;
    let hash = batch::item_leaf(Tag::Envelope, &envelope.header);
    if hash != traffic.opening.hash {
        return Err(Malformed::new("opening", "names another envelope"));
    }
    Ok(AcceptedEnvelope {
        traffic,
        envelope: Arc::new(envelope),
        core: Box::new(core),
        hash: EnvelopeHash(hash),
    })
}

fn accepted_receipts(traffic: Traffic, record: &Record) -> Result<AcceptedReceipts, Malformed> {
    let header: &[u8; 77] =
        (&*record.header).try_into().map_err(|_| Malformed::new("receipts' header", "is not 77 bytes"))?;
    let mut fields: &[u8] = header;
    let receiptor = PartyNumber(fields.get_u32());
    let number = fields.get_u64();
    let count = usize::from(fields.get_u8());
    let signature = fields.try_into().expect("64 of 77 bytes are left");
    let batch = ReceiptBatch::new(number, split_parts(record.body.clone(), count)?, signature);
    if batch.tree.root() != traffic.opening.hash {
        return Err(Malformed::new("opening", "names other receipts"));
    }
    Ok(AcceptedReceipts { traffic, receiptor, batch: Arc::new(batch) })
}

fn recorded_refusal(traffic: Traffic, record: &Record) -> Result<RecordedRefusal, Malformed> {
    let header: &[u8; 14] =
        (&*record.header).try_into().map_err(|_| Malformed::new("refusal's header", "is not 14 bytes"))?;
    if !record.body.is_empty() {
        return Err(Malformed::new("refusal", "has a body"));
    }
    let mut fields: &[u8] = header;
    Ok(RecordedRefusal {
        traffic,
        sender: PartyNumber(fields.get_u32()),
        submission: SubmissionNumber(fields.get_u64()),
        code: fields.get_u16(),
        hash: EnvelopeHash(traffic.opening.hash),
    })
}

fn expired_envelope(traffic: Traffic, record: &Record) -> Result<ExpiredEnvelope, Malformed> {
    if !record.body.is_empty() {
        return Err(Malformed::new("expiry", "has a body"));
    }
    ExpiredEnvelope::from_header(traffic, &record.header)
}

fn administrative(record: &Record) -> Result<AdministrativeRecord, Malformed> {
    let leaf = AdministrativeLeaf::decode(&record.leaf)?;
    if [&record.salt, &record.opening, &record.header].iter().any(|part| !part.is_empty()) {
        return Err(Malformed::new("administrative record", "has a part that belongs to traffic"));
    }
    let fits = match &leaf.act {
        Act::Roster { hash, length, .. } => {
            u32::try_from(record.body.len()) == Ok(*length) && merkle::sha256(&record.body) == *hash
        }
        Act::Incarnation { .. }
        | Act::Started { .. }
        | Act::Stopped
        | Act::Refusals { .. }
        | Act::Order(_)
        | Act::Cloned { .. }
        | Act::ClockAccepted { .. }
        | Act::Erasures { .. }
        | Act::Configuration { .. } => record.body.is_empty(),
    };
    if !fits {
        return Err(Malformed::new("administrative leaf", "does not fit what lies beside it"));
    }
    Ok(AdministrativeRecord { leaf, beside: record.body.clone() })
}
