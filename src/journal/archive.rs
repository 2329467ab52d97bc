//! What stays of a segment that is used again: leaf, salt and opening of each record, from which the audit
//! log is rebuilt, and the notes of administrative records. Headers and bodies go.
//!
//! An archive is called after its positions, `archive-<first>-<end>`. Integers are big endian:
//!
//! ```text
//!  0  "POUCHARC"              16  u64 first position
//!  8  u32 version 3           24  u64 end: the position after the last
//! 12  u32 zero                32  u64 below which traffic records have neither salt nor opening: they are erased
//!                             40  u32 CRC32C of all before
//!                             44  entries
//! ```
//!
//! An archive of version 1 lacks the fields from 32 on, one of version 2 that at 40: the next erasure writes it anew,
//! whatever its head says, for nothing but the whole would show a flipped bit there.
//!
//! An entry is `u16 length of the leaf || u8 length of the salt || u16 length of the opening || leaf || salt
//! || opening`; behind the last one stands the SHA-256 of all before. The body of an administrative record
//! lies in `note-<position>`, as it is: its leaf holds its hash.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{Context, SHA256};

use super::reader::OpenSegment;
use super::recover::SegmentReader;
use super::segment::Head;
use super::{Disk, JournalError, SegmentFile};
use crate::record::{
    Record,
    leaf::{is_administrative, is_traffic},
};
use crate::wire::Position;

const ARCHIVE_PREFIX: &str = "archive-";
const NOTE_PREFIX: &str = "note-";
/// Names of files that are not whole yet; a start removes them.
pub(super) const PREPARING_PREFIX: &str = "preparing-";
const MAGIC: [u8; 8] = *b"POUCHARC";
const VERSION: u32 = 3;
/// Of version 1, and what the later ones begin with.
const HEAD_BYTES: usize = 32;
const ERASED_BYTES: usize = 8;
const CRC_BYTES: usize = 4;
const ENTRY_HEAD_BYTES: usize = 5;
const HASH_BYTES: usize = 32;
/// Bytes gathered before a write, and read at once.
const PIECE_BYTES: usize = 1024 * 1024;

/// Positions of an archive, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn name(self) -> String {
        format!("{ARCHIVE_PREFIX}{:016}-{:016}", self.first, self.end)
    }

    fn parse(name: &str) -> Option<Span> {
        let (first, end) = name.strip_prefix(ARCHIVE_PREFIX)?.split_once('-')?;
        let span = Span { first: first.parse().ok()?, end: end.parse().ok()? };
        (span.name() == name).then_some(span)
    }
}

/// The archives among the names, which together hold every position from 0 to the end that is returned.
///
/// # Errors
/// [`JournalError::Corrupt`] where one is missing.
pub(super) fn spans(names: &[String]) -> Result<(Vec<Span>, u64), JournalError> {
    let mut found: Vec<Span> = names.iter().filter_map(|name| Span::parse(name)).collect();
    found.sort_unstable();
    let mut end = 0;
    for span in &found {
        if span.first != end {
            let problem = "the archive before this one is missing";
            return Err(JournalError::Corrupt { file: span.name(), offset: 0, position: end, problem });
        }
        end = span.end;
    }
    Ok((found, end))
}

/// Archives a segment that ends where `end` begins, durable when it returns. Doing it twice changes nothing.
///
/// `spare` may give a file that has room already, so that a full disk can be archived too: it is as long as the
/// segment, and an archive never longer. What is too much of it goes back to the disk, and gives notes their room.
/// Traffic records below `erased_below` are archived without salt and opening.
///
/// # Errors
/// [`JournalError::Disk`], [`JournalError::Corrupt`] where the segment does not read back.
pub(super) fn write(
    disk: &dyn Disk,
    segment: &OpenSegment,
    end: Head,
    erased_below: u64,
    spare: impl FnOnce() -> Option<String>,
) -> Result<(), JournalError> {
    let span = Span { first: segment.header.first.position, end: end.position };
    if span.first == span.end {
        return Ok(());
    }
    let name = span.name();
    let mut out = PieceWriter::start(disk, &name, spare)?;
    let mut write = || {
        if write_entries(&mut out, segment, end, span, erased_below)? {
            write_notes(disk, segment, end)?;
        }
        Ok(())
    };
    let written = write();
    if written.as_ref().is_err_and(JournalError::is_full) {
        // What is there of it takes the room that others wait for.
        disk.remove(&out.preparing).map_err(JournalError::disk("remove", &out.preparing))?;
    }
    written?;
    out.give_name()?;
    disk.sync_directory().map_err(JournalError::disk("sync the directory for", &name))
}

/// Writes the archive's bytes, and says whether the segment holds notes.
fn write_entries(
    out: &mut PieceWriter<'_>,
    segment: &OpenSegment,
    end: Head,
    span: Span,
    erased_below: u64,
) -> Result<bool, JournalError> {
    push_head(out, span, erased_below)?;
    let mut batches = SegmentReader::start(segment);
    let mut has_notes = false;
    while let Some(batch) = batches.next_until(end)? {
        for (position, record) in batch {
            out.push(&entry(&record, position < erased_below))?;
            has_notes |= has_note(&record);
        }
    }
    out.push_hash();
    out.finish()?;
    Ok(has_notes)
}

fn push_head(out: &mut PieceWriter<'_>, span: Span, erased_below: u64) -> Result<(), JournalError> {
    let mut head = Vec::with_capacity(HEAD_BYTES + ERASED_BYTES + CRC_BYTES);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    for field in [span.first, span.end, erased_below] {
        head.extend_from_slice(&field.to_be_bytes());
    }
    let crc = crc32c::crc32c(&head);
    head.extend_from_slice(&crc.to_be_bytes());
    out.push(&head)
}

/// Erases salts and openings of traffic records below a position from an archive, durable when it returns: it is
/// written anew beside the old one, which is checked meanwhile. Says nothing where that was done before.
///
/// # Errors
/// [`JournalError::Corrupt`] where the old one is damaged: then it stays. [`JournalError::Disk`].
pub(super) fn erase(disk: &dyn Disk, span: Span, below: u64) -> Result<(), JournalError> {
    let name = span.name();
    if erased_below(disk, &name)? >= below.min(span.end) {
        return Ok(());
    }
    let mut out = PieceWriter::start(disk, &name, || None)?;
    let mut rewrite = || {
        push_head(&mut out, span, below)?;
        read(disk, span, |position, record| out.push(&entry(&record, position.0 < below)))?;
        out.push_hash();
        out.finish()
    };
    let rewritten = rewrite();
    if rewritten.as_ref().is_err_and(|error| error.is_full() || is_unreadable(error, &name)) {
        // What is there of it takes the room that others wait for.
        disk.remove(&out.preparing).map_err(JournalError::disk("remove", &out.preparing))?;
    }
    rewritten?;
    out.give_name()?;
    disk.sync_directory().map_err(JournalError::disk("sync the directory for", &name))
}

/// Whether an error says that this archive cannot be read, as it stands or from this disk.
pub(super) fn is_unreadable(error: &JournalError, name: &str) -> bool {
    match error {
        JournalError::Corrupt { .. } | JournalError::Unsupported { .. } => true,
        JournalError::Disk { operation, file, .. } => {
            file == name && matches!(*operation, "open" | "measure" | "read")
        }
        _ => false,
    }
}

/// What an archive's head says of erasure; nothing where it has no checksum, or is cut short.
fn erased_below(disk: &dyn Disk, name: &str) -> Result<u64, JournalError> {
    let file = disk.open(name).map_err(JournalError::disk("open", name))?;
    let mut head = [0; HEAD_BYTES + ERASED_BYTES + CRC_BYTES];
    if file.bytes().map_err(JournalError::disk("measure", name))? < head.len() as u64 {
        return Ok(0);
    }
    file.read_at(&mut head, 0).map_err(JournalError::disk("read", name))?;
    if head[8..12] != VERSION.to_be_bytes() {
        return Ok(0);
    }
    let (head, crc) = head.split_at(HEAD_BYTES + ERASED_BYTES);
    if crc32c::crc32c(head).to_be_bytes() != crc {
        return Err(damaged(name, 0, 0, "the archive's head does not fit its checksum"));
    }
    Ok(u64::from_be_bytes(head[HEAD_BYTES..].try_into().expect("eight bytes")))
}

fn write_notes(disk: &dyn Disk, segment: &OpenSegment, end: Head) -> Result<(), JournalError> {
    let mut batches = SegmentReader::start(segment);
    while let Some(batch) = batches.next_until(end)? {
        for (position, record) in batch.into_iter().filter(|(_, record)| has_note(record)) {
            let name = note_name(position);
            let mut out = PieceWriter::start(disk, &name, || None)?;
            out.push(&record.body)?;
            out.finish()?;
            out.give_name()?;
        }
    }
    Ok(())
}

fn has_note(record: &Record) -> bool {
    is_administrative(&record.leaf) && !record.body.is_empty()
}

fn entry(record: &Record, is_erased: bool) -> Vec<u8> {
    if is_erased && is_traffic(&record.leaf) {
        return entry(&Record { leaf: record.leaf.clone(), ..Record::default() }, false);
    }
    let length = |bytes: &Bytes| u16::try_from(bytes.len()).expect("a record was checked against its bounds");
    let mut out =
        Vec::with_capacity(ENTRY_HEAD_BYTES + record.leaf.len() + record.salt.len() + record.opening.len());
    out.extend_from_slice(&length(&record.leaf).to_be_bytes());
    out.push(u8::try_from(record.salt.len()).expect("0 or 32"));
    out.extend_from_slice(&length(&record.opening).to_be_bytes());
    out.extend_from_slice(&record.leaf);
    out.extend_from_slice(&record.salt);
    out.extend_from_slice(&record.opening);
    out
}

fn note_name(position: u64) -> String {
    format!("{NOTE_PREFIX}{position:016}")
}

/// Reads back the body of an administrative record whose segment is gone.
///
/// # Errors
/// [`JournalError::Corrupt`] where it is missing, [`JournalError::Disk`] where it cannot be read. Its hash is
/// the caller's to check.
pub(super) fn read_note(disk: &dyn Disk, position: Position) -> Result<Bytes, JournalError> {
    let name = note_name(position.0);
    let file = disk.open(&name).map_err(|error| match error.kind() {
        ErrorKind::NotFound => damaged(&name, 0, position.0, "the note is missing"),
        _ => JournalError::disk("open", &name)(error),
    })?;
    let bytes = file.bytes().map_err(JournalError::disk("measure", &name))?;
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= crate::limits::ROSTER_BYTES_MAX);
    let bytes = bytes.ok_or_else(|| damaged(&name, 0, position.0, "the note is longer than any"))?;
    let mut note = vec![0; bytes];
    file.read_at(&mut note, 0).map_err(JournalError::disk("read", &name))?;
    Ok(note.into())
}

/// Streams an archive's records, without headers and bodies, and checks its hash at the end.
///
/// # Errors
/// [`JournalError::Corrupt`], [`JournalError::Disk`], and whatever `record` answers, at once.
pub(super) fn read<E: From<JournalError>>(
    disk: &dyn Disk,
    span: Span,
    mut each: impl FnMut(Position, Record) -> Result<(), E>,
) -> Result<(), E> {
    let name = span.name();
    let mut input = PieceReader::open(disk, &name)?;
    input.take_head(span)?;
    for position in span.first..span.end {
        let head = input.take(ENTRY_HEAD_BYTES, position)?;
        let leaf = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let (salt, opening) = (usize::from(head[2]), usize::from(u16::from_be_bytes([head[3], head[4]])));
        let mut parts = Bytes::from(input.take(leaf + salt + opening, position)?);
        let leaf = parts.split_to(leaf);
        let salt = parts.split_to(salt);
        each(Position(position), Record { leaf, salt, opening: parts, ..Record::default() })?;
    }
    Ok(input.check_end(span.end)?)
}

fn damaged(file: &str, offset: u64, position: u64, problem: &'static str) -> JournalError {
    JournalError::Corrupt { file: file.to_owned(), offset, position, problem }
}

/// Writes a file in pieces under a passing name, and gives it its own once it is durable.
struct PieceWriter<'a> {
    disk: &'a dyn Disk,
    file: Arc<dyn SegmentFile>,
    name: &'a str,
    preparing: String,
    piece: Vec<u8>,
    offset: u64,
    hash: Context,
}

impl<'a> PieceWriter<'a> {
    /// Begins in the file that an attempt before this one left, or in a spare, or in a new one.
    fn start(
        disk: &'a dyn Disk,
        name: &'a str,
        spare: impl FnOnce() -> Option<String>,
    ) -> Result<PieceWriter<'a>, JournalError> {
        let preparing = format!("{PREPARING_PREFIX}{name}");
        let file = match disk.open(&preparing) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => match spare() {
                Some(spare) => {
                    disk.rename(&spare, &preparing).map_err(JournalError::disk("rename", &spare))?;
                    disk.open(&preparing).map_err(JournalError::disk("open", &preparing))?
                }
                None => disk.create(&preparing).map_err(JournalError::disk("create", &preparing))?,
            },
            Err(error) => return Err(JournalError::disk("open", &preparing)(error)),
        };
        let hash = Context::new(&SHA256);
        Ok(PieceWriter { disk, file, name, preparing, piece: Vec::new(), offset: 0, hash })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        self.hash.update(bytes);
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES { self.write_piece() } else { Ok(()) }
    }

    fn push_hash(&mut self) {
        let hash = self.hash.clone().finish();
        self.piece.extend_from_slice(hash.as_ref());
    }

    /// Makes what was pushed durable, and all that the file holds.
    fn finish(&mut self) -> Result<(), JournalError> {
        self.write_piece()?;
        self.file.cut(self.offset).map_err(JournalError::disk("cut", &self.preparing))?;
        self.file.sync().map_err(JournalError::disk("sync", &self.preparing))
    }

    fn give_name(self) -> Result<(), JournalError> {
        self.disk.rename(&self.preparing, self.name).map_err(JournalError::disk("rename", &self.preparing))
    }

    fn write_piece(&mut self) -> Result<(), JournalError> {
        let written = self.file.write_at(&self.piece, self.offset);
        written.map_err(JournalError::disk("write", &self.preparing))?;
        self.offset += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}

/// Reads a file from its front, and hashes what was taken.
struct PieceReader<'a> {
    file: Arc<dyn SegmentFile>,
    name: &'a str,
    bytes: u64,
    piece: Bytes,
    /// Where the piece ends in the file.
    offset: u64,
    hash: Context,
}

impl<'a> PieceReader<'a> {
    fn open(disk: &dyn Disk, name: &'a str) -> Result<PieceReader<'a>, JournalError> {
        let file = disk.open(name).map_err(JournalError::disk("open", name))?;
        let bytes = file.bytes().map_err(JournalError::disk("measure", name))?;
        Ok(PieceReader { file, name, bytes, piece: Bytes::new(), offset: 0, hash: Context::new(&SHA256) })
    }

    /// Reads the head. The hash at the end covers what is not looked at.
    fn take_head(&mut self, span: Span) -> Result<(), JournalError> {
        let head = self.take(HEAD_BYTES, span.first)?;
        if head[..8] != MAGIC {
            return Err(damaged(self.name, 0, span.first, "no archive begins so"));
        }
        let version = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        if !(1..=VERSION).contains(&version) {
            let what = format!("version {version}");
            return Err(JournalError::Unsupported { file: self.name.to_owned(), what });
        }
        if head[16..24] != span.first.to_be_bytes() || head[24..32] != span.end.to_be_bytes() {
            return Err(damaged(self.name, 0, span.first, "the name belongs to another archive"));
        }
        let more = match version {
            1 => 0,
            2 => ERASED_BYTES,
            _ => ERASED_BYTES + CRC_BYTES,
        };
        self.take(more, span.first).map(drop)
    }

    fn take(&mut self, length: usize, position: u64) -> Result<Vec<u8>, JournalError> {
        let mut taken = Vec::with_capacity(length);
        while taken.len() < length {
            if self.piece.is_empty() {
                self.read_piece(position)?;
            }
            let part = self.piece.split_to(self.piece.len().min(length - taken.len()));
            taken.extend_from_slice(&part);
        }
        self.hash.update(&taken);
        Ok(taken)
    }

    fn read_piece(&mut self, position: u64) -> Result<(), JournalError> {
        let left = usize::try_from(self.bytes - self.offset).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        if left == 0 {
            return Err(damaged(self.name, self.offset, position, "the archive ends too soon"));
        }
        let mut piece = vec![0; left];
        self.file.read_at(&mut piece, self.offset).map_err(JournalError::disk("read", self.name))?;
        self.offset += left as u64;
        self.piece = piece.into();
        Ok(())
    }

    fn check_end(mut self, position: u64) -> Result<(), JournalError> {
        let hash = self.hash.clone().finish();
        let written = self.take(HASH_BYTES, position)?;
        if written != hash.as_ref() || !self.piece.is_empty() || self.offset != self.bytes {
            return Err(damaged(self.name, 0, position, "the archive does not fit its own hash"));
        }
        Ok(())
    }
}
