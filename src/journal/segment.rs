//! The bytes of a segment, pure: headers, batches, the chain. Integers are big endian.
//!
//! A segment is a file of `segment_bytes`, zero-filled and synced before its first use, so that a
//! shorter one is damaged, never torn:
//!
//! ```text
//! offset 0                       segment header, 4 KiB
//! 4096                           base batches: the exchange as it stood before the first record
//! then, each on a 4 KiB boundary data and seal batches
//! segment_bytes - 4096           footer: an end batch, once a later segment is durable
//! ```
//!
//! Segment header: `POUCHJNL`, u32 version 1, u32 zero, id[16], u64 segment_bytes, u64 first
//! position, u64 first sequence, chain[32], zeros, and in its last four bytes the CRC32C of all
//! before. The file is called after its first sequence and position, so that a renamed one is noticed.
//!
//! Batch header, 96 bytes:
//!
//! ```text
//!  0  "PBAT"               48  previous chain value, 32 bytes
//!  4  u8 kind, 3 zeros     80  u32 CRC32C of payload and padding
//!  8  u64 sequence         84  8 zeros
//! 16  segment id, 16 bytes 92  u32 CRC32C of the 92 bytes before
//! 32  u64 first position
//! 40  u32 count
//! 44  u32 length of the payload
//! ```
//!
//! Payload by kind: data (1), `count` records: u32 end of each, counted from the end of this
//! table, then the records; base (2), a piece of the base, `count` more pieces follow; seal (3),
//! nothing; end (4), nothing, and sequence, position and chain are those of the segment that
//! follows; carried (5), as data, and behind the records the u64 position of each: records of a segment
//! that is to be used again. They take no position here. Zeros pad a batch to the next boundary.
//!
//! The chain value after a batch is `SHA-256(previous || header || hashes)`; the hashes are for
//! data the leaf hash of each record, which commits to what it says, for base the SHA-256 of the piece.
//! What a leaf does not commit to (signatures) is under the payload's checksum in the header.

use std::ops::Range;

use bytes::Bytes;

use crate::merkle::{Hash, leaf_hash, sha256, sha256_parts};
use crate::record::{Record, RecordError};

/// What batches are aligned to, and the size of segment header and footer.
pub(super) const BOUNDARY_BYTES: usize = 4096;
/// [`BOUNDARY_BYTES`] as an offset.
pub(super) const BOUNDARY: u64 = BOUNDARY_BYTES as u64;
/// Bytes of a batch header.
pub(super) const BATCH_HEADER_BYTES: usize = 96;
/// Bytes that one batch takes on disk at most, header and padding included.
pub(super) const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

const SEGMENT_PREFIX: &str = "segment-";
const SEGMENT_MAGIC: [u8; 8] = *b"POUCHJNL";
const VERSION: u32 = 1;
const BATCH_MAGIC: [u8; 4] = *b"PBAT";
const TABLE_ENTRY_BYTES: usize = 4;
const POSITION_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

/// Tells the lives of a segment apart: random, new each time a file is taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentId(pub [u8; 16]);

/// Where the log goes on: what the next batch must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) position: u64,
    pub(super) sequence: u64,
    pub(super) chain: Hash,
}

impl Head {
    /// Before the first batch of a journal.
    pub(super) const START: Head = Head { position: 0, sequence: 0, chain: Hash::ZERO };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) id: SegmentId,
    pub(super) segment_bytes: u64,
    /// Where the log stood when the segment was taken into use.
    pub(super) first: Head,
}

/// Why a segment header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderDamage {
    Bytes,
    Version(u32),
}

impl SegmentHeader {
    /// The name of the file that this header belongs to.
    pub(super) fn file_name(&self) -> String {
        segment_name(self.first.sequence, self.first.position)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BOUNDARY_BYTES);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.segment_bytes.to_be_bytes());
        out.extend_from_slice(&self.first.position.to_be_bytes());
        out.extend_from_slice(&self.first.sequence.to_be_bytes());
        out.extend_from_slice(self.first.chain.as_bytes());
        out.resize(BOUNDARY_BYTES - CRC_BYTES, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8; BOUNDARY_BYTES]) -> Result<SegmentHeader, HeaderDamage> {
        let (body, crc) = bytes.split_at(BOUNDARY_BYTES - CRC_BYTES);
        let mut fields = Fields(body);
        if crc32c::crc32c(body).to_be_bytes() != crc || fields.take() != SEGMENT_MAGIC {
            return Err(HeaderDamage::Bytes);
        }
        let version = fields.u32();
        if version != VERSION {
            return Err(HeaderDamage::Version(version));
        }
        fields.take::<4>();
        let id = SegmentId(fields.take());
        let segment_bytes = fields.u64();
        let (position, sequence) = (fields.u64(), fields.u64());
        let first = Head { position, sequence, chain: Hash(fields.take()) };
        Ok(SegmentHeader { id, segment_bytes, first })
    }
}

/// The first position that a segment's name tells, so that a damaged header can be placed; an
/// error if the name only looks like one, `None` if it is another kind of file.
pub(super) fn parse_segment_name(name: &str) -> Option<Result<u64, ()>> {
    let numbers = name.strip_prefix(SEGMENT_PREFIX)?;
    let (sequence, position) = numbers.split_once('-').unwrap_or_default();
    let parsed = sequence.parse::<u64>().and_then(|sequence| Ok((sequence, position.parse()?)));
    let own = parsed.ok().filter(|(sequence, position)| segment_name(*sequence, *position) == name);
    Some(own.map(|(_, position)| position).ok_or(()))
}

fn segment_name(sequence: u64, position: u64) -> String {
    format!("{SEGMENT_PREFIX}{sequence:016}-{position:016}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Base,
    Seal,
    End,
    Carried,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Data => 1,
            Kind::Base => 2,
            Kind::Seal => 3,
            Kind::End => 4,
            Kind::Carried => 5,
        }
    }

    fn from_byte(byte: u8) -> Result<Kind, u8> {
        match byte {
            1 => Ok(Kind::Data),
            2 => Ok(Kind::Base),
            3 => Ok(Kind::Seal),
            4 => Ok(Kind::End),
            5 => Ok(Kind::Carried),
            unknown => Err(unknown),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// `Err` holds a kind that this version does not know.
    pub(super) kind: Result<Kind, u8>,
    pub(super) segment: SegmentId,
    pub(super) head: Head,
    pub(super) count: u32,
    pub(super) length: u32,
    payload_crc: u32,
}

impl BatchHeader {
    /// Reads a header from the front of `bytes`; `None` unless magic and checksum fit.
    pub(super) fn decode(bytes: &[u8]) -> Option<BatchHeader> {
        let header = bytes.first_chunk::<BATCH_HEADER_BYTES>()?;
        let (body, crc) = header.split_at(BATCH_HEADER_BYTES - CRC_BYTES);
        let mut fields = Fields(body);
        if fields.take() != BATCH_MAGIC || crc32c::crc32c(body).to_be_bytes() != crc {
            return None;
        }
        let [kind, _, _, _] = fields.take();
        let sequence = fields.u64();
        let segment = SegmentId(fields.take());
        let position = fields.u64();
        let (count, length) = (fields.u32(), fields.u32());
        let head = Head { position, sequence, chain: Hash(fields.take()) };
        let payload_crc = fields.u32();
        Some(BatchHeader { kind: Kind::from_byte(kind), segment, head, count, length, payload_crc })
    }

    /// Bytes on disk, from the header's first to the end of the padding.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        (BATCH_HEADER_BYTES as u64 + u64::from(self.length)).next_multiple_of(BOUNDARY)
    }

    /// Whether `batch`, as long as [`BatchHeader::bytes_on_disk`] says, has the announced checksum.
    pub(super) fn payload_fits(&self, batch: &[u8]) -> bool {
        crc32c::crc32c(&batch[BATCH_HEADER_BYTES..]) == self.payload_crc
    }

    /// Where the `index`-th record lies in the batch, given what [`table_entries`] names, from there on.
    pub(super) fn record_range(&self, index: u32, table: &[u8]) -> Option<Range<u64>> {
        let mut fields = Fields(table);
        let start = if index == 0 { 0 } else { u64::from(fields.u32()) };
        let end = u64::from(fields.u32());
        let records = BATCH_HEADER_BYTES as u64 + u64::from(self.count) * TABLE_ENTRY_BYTES as u64;
        let within = start <= end && records + end <= BATCH_HEADER_BYTES as u64 + u64::from(self.length);
        within.then_some(records + start..records + end)
    }

    fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let kind = self.kind.map_or_else(|byte| byte, Kind::byte);
        let mut out = Vec::with_capacity(BATCH_HEADER_BYTES);
        out.extend_from_slice(&BATCH_MAGIC);
        out.extend_from_slice(&[kind, 0, 0, 0]);
        out.extend_from_slice(&self.head.sequence.to_be_bytes());
        out.extend_from_slice(&self.segment.0);
        out.extend_from_slice(&self.head.position.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
        out.extend_from_slice(self.head.chain.as_bytes());
        out.extend_from_slice(&self.payload_crc.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out.try_into().expect("the fields above are 96 bytes")
    }
}

/// Where in a batch the ends of these records lie, and before them the end of the record in front, if any.
pub(super) fn table_entries(records: Range<u32>) -> Range<u64> {
    let entry = |index: u32| BATCH_HEADER_BYTES as u64 + u64::from(index) * TABLE_ENTRY_BYTES as u64;
    entry(records.start.saturating_sub(1))..entry(records.end)
}

/// Bytes that a batch of records takes on disk, given their number and encoded bytes.
pub(super) fn batch_bytes(count: usize, encoded_bytes: usize) -> usize {
    (BATCH_HEADER_BYTES + count * TABLE_ENTRY_BYTES + encoded_bytes).next_multiple_of(BOUNDARY_BYTES)
}

/// Bytes that a batch of carried records takes on disk.
pub(super) fn carried_bytes(count: usize, encoded_bytes: usize) -> usize {
    batch_bytes(count, encoded_bytes + count * POSITION_BYTES)
}

/// What a batch holds when it is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Records(&'a [Record]),
    Carried(&'a [(u64, Record)]),
    Base { piece: &'a [u8], more: u32 },
    Seal,
    End,
}

/// Makes batches in one buffer that is used again and again.
#[derive(Default)]
pub(super) struct Framer {
    bytes: Vec<u8>,
    hashes: Vec<u8>,
}

impl Framer {
    /// The batch that [`Framer::frame`] made last, padding included.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes the batch at `head` and returns the head after it.
    pub(super) fn frame(
        &mut self,
        segment: SegmentId,
        head: Head,
        content: Content<'_>,
    ) -> Result<Head, RecordError> {
        self.bytes.clear();
        self.bytes.resize(BATCH_HEADER_BYTES, 0);
        self.hashes.clear();
        let (kind, count, records) = match content {
            Content::Records(records) => {
                (Kind::Data, self.push_records(records.iter(), records.len())?, records.len() as u64)
            }
            Content::Carried(carried) => {
                let records = carried.iter().map(|(_, record)| record);
                let count = self.push_records(records, carried.len())?;
                for (position, _) in carried {
                    self.bytes.extend_from_slice(&position.to_be_bytes());
                }
                (Kind::Carried, count, 0)
            }
            Content::Base { piece, more } => {
                self.bytes.extend_from_slice(piece);
                self.hashes.extend_from_slice(sha256(piece).as_bytes());
                (Kind::Base, more, 0)
            }
            Content::Seal => (Kind::Seal, 0, 0),
            Content::End => (Kind::End, 0, 0),
        };
        let length = u32::try_from(self.bytes.len() - BATCH_HEADER_BYTES).expect("at most BATCH_BYTES_MAX");
        self.bytes.resize(self.bytes.len().next_multiple_of(BOUNDARY_BYTES), 0);
        assert!(self.bytes.len() <= BATCH_BYTES_MAX, "the caller splits batches");
        let payload_crc = crc32c::crc32c(&self.bytes[BATCH_HEADER_BYTES..]);
        let header = BatchHeader { kind: Ok(kind), segment, head, count, length, payload_crc }.encode();
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header);
        Ok(head_after(head, records, &header, &self.hashes))
    }

    fn push_records<'a>(
        &mut self,
        records: impl Iterator<Item = &'a Record>,
        count: usize,
    ) -> Result<u32, RecordError> {
        let table = self.bytes.len();
        let start = table + count * TABLE_ENTRY_BYTES;
        self.bytes.resize(start, 0);
        for (index, record) in records.enumerate() {
            record.encode(&mut self.bytes)?;
            let end = u32::try_from(self.bytes.len() - start).expect("at most BATCH_BYTES_MAX");
            let entry = table + index * TABLE_ENTRY_BYTES;
            self.bytes[entry..entry + TABLE_ENTRY_BYTES].copy_from_slice(&end.to_be_bytes());
            self.hashes.extend_from_slice(leaf_hash(&record.leaf).as_bytes());
        }
        Ok(u32::try_from(count).expect("a batch's table is shorter than BATCH_BYTES_MAX"))
    }
}

/// A batch as read back, its checksums checked.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) header: BatchHeader,
    pub(super) kind: Kind,
    pub(super) records: Vec<Record>,
    /// Where the records of a carried batch stand in the log; empty for other kinds.
    pub(super) carried: Vec<u64>,
    /// The piece of the base, empty for other kinds.
    pub(super) piece: Bytes,
    pub(super) after: Head,
}

/// Reads what a batch holds, once header and payload were found to fit their checksums. `Err` is
/// a kind that this version does not know, `Ok(None)` a payload that nobody can have written.
pub(super) fn open_batch(header: BatchHeader, bytes: &Bytes) -> Result<Option<Batch>, u8> {
    let kind = header.kind?;
    let length = usize::try_from(header.length).expect("the bytes are in memory");
    let payload = bytes.slice(BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + length);
    let mut hashes = Vec::new();
    let (mut records, mut carried, mut piece) = (Vec::new(), Vec::new(), Bytes::new());
    match kind {
        Kind::Data => match open_records(header.count, &payload) {
            Some(read) => records = read,
            None => return Ok(None),
        },
        Kind::Carried => match open_carried(header.count, payload) {
            Some((read, positions)) => (records, carried) = (read, positions),
            None => return Ok(None),
        },
        Kind::Base => {
            hashes.extend_from_slice(sha256(&payload).as_bytes());
            piece = payload;
        }
        Kind::Seal | Kind::End if header.length != 0 || header.count != 0 => return Ok(None),
        Kind::Seal | Kind::End => {}
    }
    for record in &records {
        hashes.extend_from_slice(leaf_hash(&record.leaf).as_bytes());
    }
    let appended = if kind == Kind::Data { records.len() as u64 } else { 0 };
    let after = head_after(header.head, appended, &bytes[..BATCH_HEADER_BYTES], &hashes);
    Ok(Some(Batch { header, kind, records, carried, piece, after }))
}

fn open_carried(count: u32, mut payload: Bytes) -> Option<(Vec<Record>, Vec<u64>)> {
    let bytes = usize::try_from(count).ok()?.checked_mul(POSITION_BYTES)?;
    let positions = payload.split_off(payload.len().checked_sub(bytes)?);
    let positions = positions.as_chunks().0.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect();
    Some((open_records(count, &payload)?, positions))
}

fn open_records(count: u32, payload: &Bytes) -> Option<Vec<Record>> {
    let count = usize::try_from(count).ok().filter(|count| *count > 0)?;
    let start = count.checked_mul(TABLE_ENTRY_BYTES).filter(|start| *start <= payload.len())?;
    let records = payload.slice(start..);
    let mut table = Fields(&payload[..start]);
    let mut opened = Vec::with_capacity(count);
    let mut from = 0;
    for _ in 0..count {
        let end = usize::try_from(table.u32()).ok().filter(|end| (from..=records.len()).contains(end))?;
        opened.push(Record::decode(&records.slice(from..end)).ok()?);
        from = end;
    }
    (from == records.len()).then_some(opened)
}

fn head_after(head: Head, records: u64, header: &[u8], hashes: &[u8]) -> Head {
    Head {
        position: head.position + records,
        sequence: head.sequence + 1,
        chain: sha256_parts(&[head.chain.as_bytes(), header, hashes]),
    }
}

/// Takes fields of a fixed layout from the front of bytes known to be long enough.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().expect("the layout is shorter than the bytes");
        self.0 = rest;
        *field
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}
