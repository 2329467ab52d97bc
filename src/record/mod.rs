//! One journal entry: a leaf of the audit tree and what the relay keeps beside it.
//!
//! Layout, final from the first day (integers big endian, the body is the rest):
//!
//! ```text
//!  0  u32  CRC32C of everything that follows
//!  4  u8   layout, 01
//!  5  u8   length of the salt, 0 or 32
//!  6  u16  length of the leaf
//!  8  u16  length of the opening
//! 10  u16  zero
//! 12  u32  length of the header
//! 16       leaf || salt || opening || header || body
//! ```
//!
//! The journal keeps each record's end beside it, so a record does not say its own length. A
//! layout byte that is not known is refused, never skipped.

pub mod administrative;
pub mod content;
pub mod expiry;
pub mod leaf;

use bytes::Bytes;

use crate::limits::{ADMINISTRATIVE_LEAF_BYTES_MAX, FRAME_BYTES_MAX, ROSTER_BYTES_MAX};

/// Names a record from the moment it is handed to the journal until it has a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Bytes before the leaf.
pub const RECORD_HEAD_BYTES: usize = 16;
/// Bytes of a salt that is present (FORMATS 8).
pub const SALT_BYTES: usize = 32;
/// Bytes of an opening; today's takes 45 (FORMATS 8). A longer one is refused by [`Record::encode`].
pub const OPENING_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the longest record: every part at its bound.
pub const RECORD_BYTES_MAX: usize = RECORD_HEAD_BYTES
    + ADMINISTRATIVE_LEAF_BYTES_MAX
    + SALT_BYTES
    + OPENING_BYTES_MAX
    + FRAME_BYTES_MAX
    + ROSTER_BYTES_MAX;

const LAYOUT: u8 = 1;
const CRC_BYTES: usize = 4;

const _: () = assert!(ADMINISTRATIVE_LEAF_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(OPENING_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(RECORD_BYTES_MAX <= u32::MAX as usize);

/// What the journal holds at one position. Cloning shares the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What the audit log hashes: never empty, at most [`ADMINISTRATIVE_LEAF_BYTES_MAX`].
    pub leaf: Bytes,
    /// Blinds the leaf's commitment: [`SALT_BYTES`], or empty where the leaf is in clear or erased.
    pub salt: Bytes,
    /// The metadata the leaf commits to: at most [`OPENING_BYTES_MAX`].
    pub opening: Bytes,
    /// Signed bytes that prove the record, as received: at most [`FRAME_BYTES_MAX`].
    pub header: Bytes,
    /// What is delivered: ciphertext and wraps, or a roster note; at most [`ROSTER_BYTES_MAX`].
    pub body: Bytes,
}

/// Why bytes are no record, or a record has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A part is longer or shorter than its bound allows: the caller made a wrong record.
    #[error("{part} of {bytes} bytes is out of bounds")]
    OutOfBounds {
        /// Which part.
        part: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The bytes end before the parts that they announce.
    #[error("record is cut short")]
    Short,
    /// The checksum does not fit the bytes.
    #[error("checksum of the record does not fit")]
    Checksum,
    /// A layout that this version does not know, or set bits where zero belongs.
    #[error("record layout {0} is unknown to this version")]
    Layout(u8),
}

impl Record {
    /// Bytes that [`Record::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        RECORD_HEAD_BYTES
            + self.leaf.len()
            + self.salt.len()
            + self.opening.len()
            + self.header.len()
            + self.body.len()
    }

    /// Appends the record to `out`, or leaves `out` alone and says which part is out of bounds.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.check()?;
        let length = |bytes: &Bytes| u16::try_from(bytes.len()).expect("checked against its bound");
        let salt_length = u8::try_from(self.salt.len()).expect("0 or 32 by check");
        let header_length = u32::try_from(self.header.len()).expect("checked against its bound");
        let start = out.len();
        out.reserve(self.encoded_len());
        out.extend_from_slice(&[0; CRC_BYTES]);
        out.extend_from_slice(&[LAYOUT, salt_length]);
        out.extend_from_slice(&length(&self.leaf).to_be_bytes());
        out.extend_from_slice(&length(&self.opening).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&header_length.to_be_bytes());
        for part in [&self.leaf, &self.salt, &self.opening, &self.header, &self.body] {
            out.extend_from_slice(part);
        }
        let crc = crc32c::crc32c(&out[start + CRC_BYTES..]);
        out[start..start + CRC_BYTES].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }

    /// Reads a record that takes up all of `bytes`. Its parts share the memory of `bytes`: copy
    /// what outlives the batch that they came from.
    pub fn decode(bytes: &Bytes) -> Result<Record, RecordError> {
        let head = bytes.first_chunk::<RECORD_HEAD_BYTES>().ok_or(RecordError::Short)?;
        let [c0, c1, c2, c3, layout, salt_length, l0, l1, o0, o1, z0, z1, h0, h1, h2, h3] = *head;
        if crc32c::crc32c(&bytes[CRC_BYTES..]) != u32::from_be_bytes([c0, c1, c2, c3]) {
            return Err(RecordError::Checksum);
        }
        if layout != LAYOUT || [z0, z1] != [0, 0] {
            return Err(RecordError::Layout(layout));
        }
        let header_length = usize::try_from(u32::from_be_bytes([h0, h1, h2, h3]));
        let mut rest = bytes.slice(RECORD_HEAD_BYTES..);
        let mut part = |length: usize| {
            if length <= rest.len() { Ok(rest.split_to(length)) } else { Err(RecordError::Short) }
        };
        let leaf = part(usize::from(u16::from_be_bytes([l0, l1])))?;
        let salt = part(usize::from(salt_length))?;
        let opening = part(usize::from(u16::from_be_bytes([o0, o1])))?;
        let header = part(header_length.map_err(|_| RecordError::Short)?)?;
        let record = Record { leaf, salt, opening, header, body: rest };
        record.check()?;
        Ok(record)
    }

    fn check(&self) -> Result<(), RecordError> {
        let within = |part: &'static str, bytes: usize, fits: bool| {
            if fits { Ok(()) } else { Err(RecordError::OutOfBounds { part, bytes }) }
        };
        let (leaf, salt, opening) = (self.leaf.len(), self.salt.len(), self.opening.len());
        within("leaf", leaf, (1..=ADMINISTRATIVE_LEAF_BYTES_MAX).contains(&leaf))?;
        within("salt", salt, salt == 0 || salt == SALT_BYTES)?;
        within("opening", opening, opening <= OPENING_BYTES_MAX)?;
        within("header", self.header.len(), self.header.len() <= FRAME_BYTES_MAX)?;
        within("body", self.body.len(), self.body.len() <= ROSTER_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        Record {
            leaf: Bytes::from_static(b"leaf"),
            salt: Bytes::from_static(&[7; SALT_BYTES]),
            opening: Bytes::from_static(b"opening"),
            header: Bytes::from_static(b"header"),
            body: Bytes::from_static(b"body of the dispatch"),
        }
    }

    fn encoded(record: &Record) -> Bytes {
        let mut out = Vec::new();
        record.encode(&mut out).expect("within bounds");
        Bytes::from(out)
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let bare = Record { leaf: Bytes::from_static(b"l"), ..Record::default() };
        for record in [sample(), bare] {
            let bytes = encoded(&record);
            assert_eq!(bytes.len(), record.encoded_len());
            assert_eq!(Record::decode(&bytes), Ok(record));
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = encoded(&sample());
        assert_eq!(bytes[4..16], [1, 32, 0, 4, 0, 7, 0, 0, 0, 0, 0, 6]);
        assert_eq!(bytes[16..20], *b"leaf");
        assert_eq!(bytes[0..4], crc32c::crc32c(&bytes[4..]).to_be_bytes());
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        let bytes = encoded(&sample());
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes.slice(..length)).is_err(), "cut at {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&Bytes::from(flipped)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_length_that_lies_under_a_fitting_checksum_is_refused() {
        let mut bytes = encoded(&sample()).to_vec();
        bytes[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Record::decode(&Bytes::from(bytes)), Err(RecordError::Short));
    }

    #[test]
    fn an_unknown_layout_is_refused() {
        let mut bytes = encoded(&sample()).to_vec();
        bytes[4] = 2;
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Record::decode(&Bytes::from(bytes)), Err(RecordError::Layout(2)));
    }

    #[test]
    fn parts_out_of_bounds_are_refused_and_write_nothing() {
        let long = |bytes| Bytes::from(vec![0; bytes]);
        let records = [
            Record { leaf: Bytes::new(), ..sample() },
            Record { leaf: long(ADMINISTRATIVE_LEAF_BYTES_MAX + 1), ..sample() },
            Record { salt: long(31), ..sample() },
            Record { opening: long(OPENING_BYTES_MAX + 1), ..sample() },
            Record { header: long(FRAME_BYTES_MAX + 1), ..sample() },
            Record { body: long(ROSTER_BYTES_MAX + 1), ..sample() },
        ];
        for record in records {
            let mut out = vec![1, 2, 3];
            assert!(matches!(record.encode(&mut out), Err(RecordError::OutOfBounds { .. })));
            assert_eq!(out, [1, 2, 3]);
        }
    }
}
