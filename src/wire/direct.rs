//! The two frames that a busy relay says most, written straight into a connection's buffer: the bytes that
//! [`codec::encode`](super::codec::encode) makes of the same frame, without a copy of each part before.

use bytes::{BufMut, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::{
    limits,
    merkle::Hash,
    wire::{EnvelopeHash, Position, SubmissionNumber, envelope::Envelope},
};

/// Salt and opening of a record, as frames carry them.
#[derive(Clone, Copy, Debug)]
pub struct Proven<'a> {
    /// 32 bytes.
    pub salt: &'a [u8],
    /// 45 bytes.
    pub opening: &'a [u8],
}

/// Appends an Accepted frame.
pub fn accepted(
    submission: SubmissionNumber,
    hash: &EnvelopeHash,
    position: Position,
    proven: Proven<'_>,
    out: &mut BytesMut,
) {
    const ACCEPTED: u8 = 4;
    let message = [
        (1, Field::Number(submission.0)),
        (2, Field::Bytes(hash.0.as_bytes())),
        (3, Field::Number(position.0)),
        (4, Field::Bytes(proven.salt)),
        (5, Field::Bytes(proven.opening)),
    ];
    frame(ACCEPTED, &message, out);
}

/// Appends the Deliver frame of an envelope to the addressee at `index` of its core.
///
/// # Panics
/// If there is no such addressee.
pub fn deliver(
    position: Position,
    envelope: &Envelope,
    index: usize,
    proven: Proven<'_>,
    out: &mut BytesMut,
) {
    const DELIVER: u8 = 7;
    let (count, item) = envelope.place_in_batch();
    let proof = [
        (1, Field::Number(count.into())),
        (2, Field::Number(item.into())),
        (3, Field::Bytes(envelope.path_bytes())),
        (4, Field::Bytes(envelope.signature_bytes())),
    ];
    let (generation, wrap) = envelope.wrap_bytes(index);
    let wrap_path = envelope.wrap_path(index);
    let message = [
        (1, Field::Number(position.0)),
        (2, Field::Bytes(&envelope.header)),
        (3, Field::Message(&proof)),
        (4, Field::Bytes(envelope.ciphertext_bytes())),
        (5, Field::Number(index as u64)),
        (6, Field::Number(generation.into())),
        (7, Field::Bytes(wrap)),
        (8, Field::Hashes(&wrap_path)),
        (9, Field::Bytes(proven.salt)),
        (10, Field::Bytes(proven.opening)),
    ];
    frame(DELIVER, &message, out);
}

/// A field of a message, in protobuf's encoding; what is zero or empty is left out.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Hashes(&'a [Hash]),
    Message(&'a [(u8, Field<'a>)]),
}

/// Protobuf's wire types.
const VARINT: u8 = 0;
const LENGTH_DELIMITED: u8 = 2;

impl Field<'_> {
    /// Bytes of its content, without key and length.
    fn content_bytes(&self) -> usize {
        match self {
            Field::Number(number) => encoded_len_varint(*number),
            Field::Bytes(bytes) => bytes.len(),
            Field::Hashes(hashes) => hashes.len() * limits::HASH_BYTES,
            Field::Message(fields) => message_bytes(fields),
        }
    }

    fn is_left_out(&self) -> bool {
        match self {
            Field::Number(number) => *number == 0,
            Field::Bytes(bytes) => bytes.is_empty(),
            Field::Hashes(hashes) => hashes.is_empty(),
            Field::Message(_) => false,
        }
    }
}

fn message_bytes(fields: &[(u8, Field<'_>)]) -> usize {
    let with_key = |field: &Field<'_>| {
        let bytes = field.content_bytes();
        let length = if matches!(field, Field::Number(_)) { 0 } else { encoded_len_varint(bytes as u64) };
        1 + length + bytes
    };
    fields.iter().filter(|(_, field)| !field.is_left_out()).map(|(_, field)| with_key(field)).sum()
}

/// Field numbers below 16 make keys of one byte.
fn put_message(fields: &[(u8, Field<'_>)], out: &mut BytesMut) {
    for (number, field) in fields.iter().filter(|(_, field)| !field.is_left_out()) {
        debug_assert!(*number < 16, "a key of one byte");
        if let Field::Number(value) = field {
            out.put_u8(number << 3 | VARINT);
            encode_varint(*value, out);
            continue;
        }
        out.put_u8(number << 3 | LENGTH_DELIMITED);
        encode_varint(field.content_bytes() as u64, out);
        match field {
            Field::Number(_) => {}
            Field::Bytes(bytes) => out.put_slice(bytes),
            Field::Hashes(hashes) => hashes.iter().for_each(|hash| out.put_slice(hash.as_bytes())),
            Field::Message(fields) => put_message(fields, out),
        }
    }
}

/// A frame is a message with one field, its kind, behind its own length.
fn frame(kind: u8, message: &[(u8, Field<'_>)], out: &mut BytesMut) {
    let frame = [(kind, Field::Message(message))];
    let bytes = message_bytes(&frame);
    out.reserve(bytes + encoded_len_varint(bytes as u64));
    encode_varint(bytes as u64, out);
    put_message(&frame, out);
}
