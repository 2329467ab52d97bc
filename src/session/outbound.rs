//! What the relay says to a desk. The connection's task turns it into frames, and signs what the
//! relay itself says (Welcome, refusals), so that the exchange needs no key.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::{
    audit::AddCheckpoint,
    batch::{Proof, Tag, item_leaf},
    limits,
    merkle::{self, Hash},
    record::{
        content::{AcceptedReceipts, Traffic},
        expiry::ExpiredEnvelope,
    },
    roster::PartyNumber,
    session::{
        hello::{Binding, End, PROTOCOL},
        window::Credit,
    },
    wire::{
        EnvelopeHash, Position, SubmissionNumber, codec, convert,
        direct::{self, Proven},
        envelope::Envelope,
        pb::{self, frame::Kind},
        receipt::{ReceiptItem, ReceiptKind},
    },
};

/// A frame to a desk, before it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// Opens the session.
    Welcome(Box<Welcome>),
    /// An administrative leaf and what lies beside it, sent in chunks.
    Administrative {
        /// Of the leaf.
        position: Position,
        /// Its bytes.
        leaf: Bytes,
        /// The roster note, or empty.
        beside: Bytes,
        /// Before Welcome frames are smaller.
        before_welcome: bool,
    },
    /// An envelope's record is durable.
    Accepted {
        /// Its number.
        submission: SubmissionNumber,
        /// Its name.
        hash: EnvelopeHash,
        /// Its place.
        position: Position,
        /// What proves its leaf.
        traffic: Traffic,
    },
    /// An envelope will never be accepted.
    Refused(Box<Refusal>),
    /// Not now.
    Deferred {
        /// It and all above it.
        submission: SubmissionNumber,
        /// When to come again.
        retry_after_ms: u32,
    },
    /// An envelope for this addressee.
    Deliver {
        /// Its place.
        position: Position,
        /// Its parts.
        envelope: Arc<Envelope>,
        /// Of the addressee in the core.
        index: usize,
        /// What proves its leaf.
        traffic: Traffic,
    },
    /// Receipts are durable.
    StoredAt {
        /// Number of their frame.
        number: u64,
        /// Their place; none where it is forgotten.
        position: Position,
        /// What proves their leaf; nothing where it is erased.
        traffic: Option<Traffic>,
    },
    /// A receipt for this party.
    Receipt {
        /// Of its record.
        position: Position,
        /// The record.
        receipts: Arc<AcceptedReceipts>,
        /// Which item.
        index: usize,
    },
    /// A receipt of the relay's own: an envelope expired.
    Expired {
        /// Of its record.
        position: Position,
        /// The record.
        expired: Arc<ExpiredEnvelope>,
        /// Which addressee.
        index: usize,
    },
    /// What became of a publication or an order.
    Administered {
        /// As asked.
        request: u64,
        /// What became of it.
        code: pb::AdministeredCode,
        /// In words, where it was not done.
        sentence: String,
        /// Of its record.
        position: Position,
        /// The last order's number.
        order_number: u32,
    },
    /// A published checkpoint, with its cosignatures.
    Checkpoint(Bytes),
    /// Asks a witness for its cosignature.
    AddCheckpoint(Box<AddCheckpoint>),
    /// A piece of a file of the audit log.
    Fetched {
        /// As asked.
        request: u64,
        /// Whether there is a file of the name; without one this is all.
        found: bool,
        /// Of the file.
        total_bytes: usize,
        /// Where this piece begins.
        offset: usize,
        /// At most [`FILE_CHUNK_BYTES_MAX`].
        chunk: Bytes,
    },
    /// What the desk may submit in all.
    Credit(Credit),
    /// To be answered.
    Ping(u64),
    /// Answers a ping.
    Pong {
        /// Echoed.
        token: u64,
        /// Log time.
        time_us: u64,
    },
    /// The last frame.
    Goodbye {
        /// Why.
        code: pb::GoodbyeCode,
        /// In words.
        sentence: String,
        /// With `INCARNATION_OLD`.
        incarnation: u32,
    },
}

/// What a Welcome says, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The newest published checkpoint, or empty.
    pub checkpoint: Bytes,
    /// Log time.
    pub time_us: u64,
    /// Roster in force.
    pub roster_version: u32,
    /// Its hash.
    pub roster_hash: Hash,
    /// The desk's incarnation as the log has it.
    pub incarnation_known: u32,
    /// Last submission number spent.
    pub last_accepted: SubmissionNumber,
    /// Last Stored number.
    pub last_stored: u64,
    /// First grant.
    pub credit: Credit,
}

/// What a refusal says, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Spent; 0 where it could not be read.
    pub submission: SubmissionNumber,
    /// Its name.
    pub hash: EnvelopeHash,
    /// Why.
    pub code: pb::RefusalCode,
    /// In words.
    pub sentence: String,
    /// Whose.
    pub sender: PartyNumber,
    /// The relay's number in the roster.
    pub relay: PartyNumber,
    /// Log time.
    pub time_us: u64,
    /// Roster in force.
    pub roster_version: u32,
    /// Where it is a record: its place and what proves its leaf.
    pub recorded: Option<(Position, Traffic)>,
}

/// What the connection's task adds: the relay's signature, and what only this connection knows.
pub struct Signer<'a> {
    /// Signs one batch leaf.
    pub sign: &'a dyn Fn(Tag, Hash) -> Proof,
    /// TLS exporter of the connection.
    pub exporter: [u8; 32],
    /// Random at each start of the relay.
    pub instance: [u8; 16],
    /// Name and version.
    pub software: &'a str,
}

/// Bytes of a file of the audit log in one frame.
pub const FILE_CHUNK_BYTES_MAX: usize = CHUNK_BYTES;
const CHUNK_BYTES: usize = 32 * 1024;
const CHUNK_BEFORE_WELCOME_BYTES: usize = 3 * 1024;
const FRAME_HEAD_BYTES_MAX: usize = 256;
const _: () =
    assert!(CHUNK_BEFORE_WELCOME_BYTES + FRAME_HEAD_BYTES_MAX < limits::FRAME_BEFORE_WELCOME_BYTES_MAX);
const _: () = assert!(
    limits::ADMINISTRATIVE_LEAF_BYTES_MAX + CHUNK_BYTES + FRAME_HEAD_BYTES_MAX < limits::FRAME_BYTES_MAX
);

impl Outbound {
    /// Bytes that it takes on the wire, within a few dozen.
    pub fn bytes(&self) -> usize {
        match self {
            Outbound::Deliver { envelope, index, .. } => envelope.bytes_for(*index) + 512,
            Outbound::Receipt { receipts, index, .. } => {
                let part = &receipts.batch.parts[*index];
                part.bytes.len() + part.details.len() + 512
            }
            Outbound::Administrative { leaf, beside, .. } => leaf.len() + beside.len() + 64,
            Outbound::Expired { .. } => 768,
            Outbound::Checkpoint(note) => note.len() + 16,
            Outbound::AddCheckpoint(request) => request.checkpoint.len() + request.path.len() * 48 + 64,
            Outbound::Fetched { chunk, .. } => chunk.len() + 64,
            Outbound::Refused(_) | Outbound::Goodbye { .. } | Outbound::Administered { .. } => 1024,
            Outbound::Welcome(welcome) => welcome.checkpoint.len() + 256,
            Outbound::Accepted { .. } | Outbound::StoredAt { .. } => 256,
            // What it takes in memory, which is more than on the wire.
            Outbound::Deferred { .. } | Outbound::Credit(_) | Outbound::Ping(_) | Outbound::Pong { .. } => {
                160
            }
        }
    }

    /// Appends its frames to `out`, each behind its length.
    pub fn encode(self, signer: &Signer<'_>, out: &mut BytesMut) {
        match self {
            Outbound::Accepted { submission, hash, position, traffic } => {
                let proven = Proven { salt: &traffic.salt, opening: &traffic.opening.encode() };
                direct::accepted(submission, &hash, position, proven, out);
            }
            Outbound::Deliver { position, envelope, index, traffic } => {
                let proven = Proven { salt: &traffic.salt, opening: &traffic.opening.encode() };
                direct::deliver(position, &envelope, index, proven, out);
            }
            other => other.frames(signer, |kind| {
                codec::encode(kind, out);
            }),
        }
    }

    /// Hands its frames to `out`, one or more.
    pub fn frames(self, signer: &Signer<'_>, mut out: impl FnMut(Kind)) {
        let frame = match self {
            Outbound::Administrative { position, leaf, beside, before_welcome } => {
                return administrative(position, leaf, &beside, before_welcome, out);
            }
            Outbound::Checkpoint(note) => Kind::Checkpoint(pb::Checkpoint { note }),
            Outbound::AddCheckpoint(request) => add_checkpoint(&request),
            Outbound::Fetched { request, found, total_bytes, offset, chunk } => Kind::Fetched(pb::Fetched {
                request,
                found,
                total_bytes: u32::try_from(total_bytes).expect("a bundle is at most 16 MiB"),
                offset: u32::try_from(offset).expect("below the total"),
                chunk,
            }),
            Outbound::Welcome(welcome) => welcome.frame(signer),
            Outbound::Accepted { submission, hash, position, traffic } => Kind::Accepted(pb::Accepted {
                submission: submission.0,
                envelope_hash: bytes_of(&hash.0),
                position: position.0,
                salt: salt(&traffic),
                opening: opening(&traffic),
            }),
            Outbound::Refused(refusal) => refusal.frame(signer),
            Outbound::Deferred { submission, retry_after_ms } => {
                Kind::Deferred(pb::Deferred { submission: submission.0, retry_after_ms })
            }
            Outbound::Deliver { position, envelope, index, traffic } => Kind::Deliver(
                convert::deliver_frame(position, &envelope, index, salt(&traffic), opening(&traffic)),
            ),
            Outbound::StoredAt { number, position, traffic } => Kind::StoredAt(pb::StoredAt {
                number,
                position: position.0,
                salt: traffic.as_ref().map(salt).unwrap_or_default(),
                opening: traffic.as_ref().map(opening).unwrap_or_default(),
            }),
            Outbound::Receipt { position, receipts, index } => Kind::Receipt(pb::Receipt {
                position: position.0,
                item: receipts.batch.parts[index].bytes.clone(),
                proof: Some(convert::proof_frame(&receipts.batch.proof(index))),
                details: receipts.batch.parts[index].details.clone(),
                salt: salt(&receipts.traffic),
                opening: opening(&receipts.traffic),
            }),
            Outbound::Expired { position, expired, index } => {
                expired_receipt(position, &expired, index, signer)
            }
            Outbound::Administered { request, code, sentence, position, order_number } => {
                Kind::Administered(pb::Administered {
                    request,
                    code: i32::from(code).unsigned_abs(),
                    sentence: convert::sentence(&sentence),
                    position: position.0,
                    order_number,
                })
            }
            Outbound::Credit(credit) => {
                Kind::Credit(pb::Credit { envelopes: credit.envelopes, bytes: credit.bytes })
            }
            Outbound::Ping(token) => Kind::Ping(pb::Ping { token }),
            Outbound::Pong { token, time_us } => Kind::Pong(pb::Pong { token, time_us }),
            Outbound::Goodbye { code, sentence, incarnation } => Kind::Goodbye(pb::Goodbye {
                code: i32::from(code).unsigned_abs(),
                sentence: convert::sentence(&sentence),
                incarnation,
            }),
        };
        out(frame);
    }
}

impl Welcome {
    fn frame(&self, signer: &Signer<'_>) -> Kind {
        let binding = Binding {
            exporter: signer.exporter,
            end: End::Relay,
            incarnation: RELAY_INCARNATION,
            instance: signer.instance,
            checkpoint: self.checkpoint.clone(),
        };
        Kind::Welcome(pb::Welcome {
            protocol: PROTOCOL,
            software: signer.software.to_owned(),
            role: End::Relay.code().into(),
            incarnation: RELAY_INCARNATION,
            instance: Bytes::copy_from_slice(&signer.instance),
            checkpoint: self.checkpoint.clone(),
            proof: Some(convert::proof_frame(&(signer.sign)(Tag::Hello, binding.leaf()))),
            time_us: self.time_us,
            roster_version: self.roster_version,
            roster_hash: bytes_of(&self.roster_hash),
            incarnation_known: self.incarnation_known,
            last_accepted: self.last_accepted.0,
            credit_envelopes: self.credit.envelopes,
            credit_bytes: self.credit.bytes,
            last_stored: self.last_stored,
        })
    }
}

/// Until relays are restored from backups, which the audit log has to see first.
const RELAY_INCARNATION: u32 = 1;

impl Refusal {
    /// The receipt that the relay signs for it.
    pub fn item(&self) -> ReceiptItem {
        ReceiptItem {
            kind: ReceiptKind::Refused,
            reason: refusal_code(self.code),
            receiptor: self.relay,
            sender: self.sender,
            addressee: self.sender,
            time_us: self.time_us,
            roster_version: self.roster_version,
            checkpoint_size: 0,
            checkpoint_root: merkle::empty_root(),
            details_hash: Hash::ZERO,
            envelopes: vec![(self.hash, Position::NONE)],
        }
    }

    fn frame(&self, signer: &Signer<'_>) -> Kind {
        let item = self.item().encode();
        let proof = (signer.sign)(Tag::Receipt, item_leaf(Tag::Receipt, &item));
        Kind::Refused(pb::Refused {
            submission: self.submission.0,
            envelope_hash: bytes_of(&self.hash.0),
            code: refusal_code(self.code).into(),
            sentence: convert::sentence(&self.sentence),
            item,
            proof: Some(convert::proof_frame(&proof)),
            recorded: self.recorded.is_some(),
            position: self.recorded.map_or(Position::NONE, |(position, _)| position).0,
            salt: self.recorded.map(|(_, traffic)| salt(&traffic)).unwrap_or_default(),
            opening: self.recorded.map(|(_, traffic)| opening(&traffic)).unwrap_or_default(),
        })
    }
}

/// A refusal's code as receipts and records carry it.
pub fn refusal_code(code: pb::RefusalCode) -> u16 {
    u16::try_from(i32::from(code)).expect("codes are small and not negative")
}

/// The relay's own receipt for an envelope that expired, signed now.
fn expired_receipt(position: Position, expired: &ExpiredEnvelope, index: usize, signer: &Signer<'_>) -> Kind {
    let item = expired.item(index).encode();
    let proof = (signer.sign)(Tag::Receipt, item_leaf(Tag::Receipt, &item));
    Kind::Receipt(pb::Receipt {
        position: position.0,
        item,
        proof: Some(convert::proof_frame(&proof)),
        details: Bytes::new(),
        salt: salt(&expired.traffic),
        opening: opening(&expired.traffic),
    })
}

fn add_checkpoint(request: &AddCheckpoint) -> Kind {
    Kind::AddCheckpoint(pb::AddCheckpoint { request: request.to_string().into() })
}

fn administrative(
    position: Position,
    leaf: Bytes,
    beside: &Bytes,
    before_welcome: bool,
    mut out: impl FnMut(Kind),
) {
    let chunk_bytes = if before_welcome { CHUNK_BEFORE_WELCOME_BYTES } else { CHUNK_BYTES };
    let total_bytes = u32::try_from(beside.len()).expect("a roster note is at most 4 MiB");
    let mut offset = 0;
    let mut leaf = leaf;
    loop {
        let end = (offset + chunk_bytes).min(beside.len());
        out(Kind::Administrative(pb::Administrative {
            position: position.0,
            leaf: std::mem::take(&mut leaf),
            total_bytes,
            offset: u32::try_from(offset).expect("below the total"),
            chunk: beside.slice(offset..end),
        }));
        offset = end;
        if offset == beside.len() {
            return;
        }
    }
}

fn salt(traffic: &Traffic) -> Bytes {
    Bytes::copy_from_slice(&traffic.salt)
}

fn opening(traffic: &Traffic) -> Bytes {
    Bytes::copy_from_slice(&traffic.opening.encode())
}

fn bytes_of(hash: &Hash) -> Bytes {
    Bytes::copy_from_slice(hash.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::leaf::{Opening, OpeningKind},
        wire::tests::envelope_to,
    };

    #[test]
    fn frames_that_are_written_directly_are_the_bytes_that_protobuf_makes() {
        let sign = |_: Tag, _: Hash| -> Proof { unreachable!("neither frame is signed by the relay") };
        let signer = Signer { sign: &sign, exporter: [0; 32], instance: [0; 16], software: "" };
        for (hash, number) in [(Hash([7; 32]), 0), (Hash::ZERO, 127), (Hash([1; 32]), u64::MAX)] {
            let opening =
                Opening { kind: OpeningKind::Envelope, log_time_us: number, roster_version: 1, hash };
            let traffic = Traffic { salt: [3; 32], opening };
            let mut frames = vec![Outbound::Accepted {
                submission: SubmissionNumber(number),
                hash: EnvelopeHash(hash),
                position: Position(number),
                traffic,
            }];
            for addressees in [1, 3, 128_u32] {
                let envelope = Arc::new(envelope_to(addressees));
                let deliver = |index| Outbound::Deliver {
                    position: Position(number),
                    envelope: envelope.clone(),
                    index,
                    traffic,
                };
                frames.extend([0, addressees as usize - 1].map(deliver));
            }
            for frame in frames {
                let (mut direct, mut protobuf) = (BytesMut::new(), BytesMut::new());
                frame.clone().frames(&signer, |kind| {
                    codec::encode(kind, &mut protobuf);
                });
                frame.encode(&signer, &mut direct);
                assert_eq!(direct, protobuf);
            }
        }
    }
}
