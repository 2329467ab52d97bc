//! Reads a journal back, tells a torn tail from damage, and makes it ready to go on.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::archive::{self, Span};
use super::reader::{OpenSegment, Reader};
use super::segment::{
    BATCH_BYTES_MAX, BOUNDARY, BOUNDARY_BYTES, Batch, BatchHeader, Head, HeaderDamage, Kind, SegmentHeader,
    open_batch, parse_segment_name,
};
use super::spares::Spares;
use super::{Disk, JournalError, Options, Writer};
use crate::record::Record;
use crate::wire::Position;

/// What a journal gives back, in the order in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The relay's past: leaf, salt and opening of a record whose segment is gone. Only [`observe`] tells.
    Archived(Position, Record),
    /// A segment begins: its base, the exchange after all records before it. The first one is
    /// where replay starts; a later one adds what no record says (confirm floors).
    Base(Bytes),
    /// A record and its position; the positions are dense.
    Record(Position, Record),
}

impl Replayed {
    /// Bytes that it holds in memory, within a few hundred.
    pub fn bytes(&self) -> usize {
        match self {
            Replayed::Archived(_, record) | Replayed::Record(_, record) => record.encoded_len(),
            Replayed::Base(base) => base.len(),
        }
    }
}

/// A journal that was read and not yet touched.
pub struct Recovered {
    disk: Arc<dyn Disk>,
    options: Options,
    reader: Reader,
    /// After the last confirmed batch.
    head: Head,
    /// Records of the batch that no later one confirms.
    unconfirmed: Vec<Record>,
    /// The newest segment that stays.
    newest: Option<OpenSegment>,
    spares: Spares,
}

/// Bytes read at once when looking for batches behind the end of the log.
const SCAN_BYTES: u64 = 1024 * 1024;

/// Streams every confirmed record and every base to `replay`, and changes no segment.
/// Memory: one batch at a time, and 8 bytes a batch for the index.
///
/// # Errors
/// [`JournalError::Corrupt`] with the place, unless all that is missing is the last batch, which
/// may never have been durable; whatever `replay` answers, at once.
pub fn recover<E: From<JournalError>>(
    disk: Arc<dyn Disk>,
    options: Options,
    replay: &mut dyn FnMut(Replayed) -> Result<(), E>,
) -> Result<Recovered, E> {
    options.check()?;
    let names = disk.list().map_err(JournalError::disk("list", "the directory"))?;
    let (mut segments, _) = open_segments(&*disk, &names)?;
    let reader = Reader::default();
    let mut walk = Walk::start(&segments, &reader, replay, true);
    walk.segments(&segments)?;
    let Walk { mut head, held, carries, .. } = walk;
    let mut unconfirmed = Vec::new();
    if let Some(Held { batch, .. }) = held {
        head = batch.header.head;
        // Carried records that nothing confirms are still where they were carried from.
        if batch.kind == Kind::Data {
            unconfirmed = batch.records;
        }
    }
    // A newest segment without a confirmed record is made anew under the same name, so that idle
    // restarts take no room.
    let is_empty = |newest: &mut OpenSegment| newest.header.first.position == head.position && !carries;
    if let Some(empty) = segments.pop_if(is_empty) {
        head = empty.header.first;
        reader.remove_newest_segment();
    }
    let spares = Spares::adopt(&disk, &names, &options)?;
    Ok(Recovered { disk, options, reader, head, unconfirmed, newest: segments.pop(), spares })
}

/// Streams every confirmed record of a journal that another process may be writing (see
/// [`FileDisk::observe`](super::FileDisk::observe)), and changes nothing. It ends before the first batch that is
/// not whole yet, and cannot tell that from damage.
///
/// # Errors
/// As [`recover`], but for damage at the end.
pub fn observe<E: From<JournalError>>(
    disk: &dyn Disk,
    replay: &mut dyn FnMut(Replayed) -> Result<(), E>,
) -> Result<(), E> {
    let names = disk.list().map_err(JournalError::disk("list", "the directory"))?;
    let (segments, archived) = open_segments(disk, &names)?;
    for span in archived {
        archive::read(disk, span, |position, record| replay(Replayed::Archived(position, record)))?;
    }
    let reader = Reader::default();
    let mut walk = Walk::start(&segments, &reader, replay, false);
    walk.segments(&segments)?;
    walk.release()
}

/// Reads the body of an administrative record whose segment is gone: a roster's note.
///
/// # Errors
/// [`JournalError::Disk`] where it is missing. Whether it is the right one is the caller's to check.
pub fn note(disk: &dyn Disk, position: Position) -> Result<Bytes, JournalError> {
    archive::read_note(disk, position)
}

impl Recovered {
    /// The position after all records that were streamed so far.
    pub fn next_position(&self) -> Position {
        Position(self.head.position)
    }

    /// Records of the last batch, which [`Recovered::open`] makes durable again before it streams
    /// them; 0 after a clean stop.
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Goes on in a fresh segment: writes `base`, the exchange after all that was streamed, and
    /// the unconfirmed batch, makes both durable, and only then streams that batch's records.
    ///
    /// # Errors
    /// Those of [`Writer::roll`], and whatever `replay` answers.
    pub fn open<E: From<JournalError>>(
        self,
        base: &[u8],
        replay: &mut dyn FnMut(Replayed) -> Result<(), E>,
    ) -> Result<(Writer, Reader), E> {
        let Recovered { disk, options, reader, head, unconfirmed, newest, spares } = self;
        spares.zero_next()?;
        let mut writer = Writer::new(disk, options, spares, reader.clone(), head, newest);
        writer.take_segment(base, &unconfirmed)?;
        for (position, record) in (head.position..).zip(unconfirmed) {
            replay(Replayed::Record(Position(position), record))?;
        }
        Ok((writer, reader))
    }
}

/// Opens the segments that the names tell of, in the order of their sequences; with the archives of what is
/// before them, which must be there.
fn open_segments(disk: &dyn Disk, names: &[String]) -> Result<(Vec<OpenSegment>, Vec<Span>), JournalError> {
    let mut segments = Vec::new();
    for name in names {
        match parse_segment_name(name) {
            None => {}
            Some(Ok(position)) => segments.push(open_segment(disk, name, position)?),
            Some(Err(())) => {
                let (file, problem) = (name.clone(), "the journal gives no such name");
                return Err(JournalError::Corrupt { file, offset: 0, position: 0, problem });
            }
        }
    }
    segments.sort_by_key(|segment| segment.header.first.sequence);
    let (mut archived, archived_end) = archive::spans(names)?;
    let first = segments.first().map_or(0, |segment| segment.header.first.position);
    // A segment that was archived a moment before the end may still be here; then it counts.
    archived.retain(|span| span.end <= first);
    if archived.last().map_or(0, |span| span.end) != first || (segments.is_empty() && archived_end > 0) {
        let file = segments.first().map_or("the newest segment".to_owned(), |first| first.name.to_string());
        let problem = "what comes before it is in no segment and in no archive";
        return Err(JournalError::Corrupt { file, offset: 0, position: archived_end, problem });
    }
    Ok((segments, archived))
}

fn open_segment(disk: &dyn Disk, name: &str, position: u64) -> Result<OpenSegment, JournalError> {
    let corrupt =
        |offset, problem| JournalError::Corrupt { file: name.to_owned(), offset, position, problem };
    let file = disk.open(name).map_err(JournalError::disk("open", name))?;
    let bytes = file.bytes().map_err(JournalError::disk("measure", name))?;
    if bytes < BOUNDARY {
        return Err(corrupt(bytes, "the file ends in its header"));
    }
    let mut header = [0; BOUNDARY_BYTES];
    file.read_at(&mut header, 0).map_err(JournalError::disk("read", name))?;
    let header = match SegmentHeader::decode(&header) {
        Ok(header) => header,
        Err(HeaderDamage::Bytes) => return Err(corrupt(0, "no valid segment header")),
        Err(HeaderDamage::Version(version)) => {
            let what = format!("version {version}");
            return Err(JournalError::Unsupported { file: name.to_owned(), what });
        }
    };
    if header.file_name() != name {
        return Err(corrupt(0, "the name belongs to another segment"));
    }
    if bytes != header.segment_bytes {
        return Err(corrupt(bytes.min(header.segment_bytes), "the file has not its own length"));
    }
    Ok(OpenSegment { name: name.into(), file, header })
}

/// Reads segments one after the other and holds back the batch that nothing confirms yet.
struct Walk<'a, E> {
    head: Head,
    held: Option<Held>,
    reader: &'a Reader,
    replay: &'a mut dyn FnMut(Replayed) -> Result<(), E>,
    /// Whether what lies behind the end is looked at: not while it is being written.
    scans: bool,
    /// Whether this segment holds carried records that count.
    carries: bool,
}

struct Held {
    batch: Batch,
    offset: u64,
}

/// Reads the records of one segment, batch by batch.
pub(super) struct SegmentReader<'a> {
    segment: &'a OpenSegment,
    head: Head,
    offset: u64,
}

impl SegmentReader<'_> {
    /// Begins at the segment's first record.
    pub(super) fn start(segment: &OpenSegment) -> SegmentReader<'_> {
        SegmentReader { segment, head: segment.header.first, offset: BOUNDARY }
    }

    /// The next batch of records with their positions, until the log goes on at `end` elsewhere.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] where it does not read back.
    pub(super) fn next_until(&mut self, end: Head) -> Result<Option<Vec<(u64, Record)>>, JournalError> {
        while self.head.sequence != end.sequence {
            let Some(batch) = read_batch(self.segment, self.offset, self.head)? else {
                return Err(corrupt(self.segment, self.offset, self.head, "no valid batch"));
            };
            self.head = batch.after;
            self.offset += batch.header.bytes_on_disk();
            if batch.kind == Kind::Data {
                return Ok(Some((batch.header.head.position..).zip(batch.records).collect()));
            }
        }
        Ok(None)
    }
}

impl<'a, E: From<JournalError>> Walk<'a, E> {
    fn start(
        segments: &[OpenSegment],
        reader: &'a Reader,
        replay: &'a mut dyn FnMut(Replayed) -> Result<(), E>,
        scans: bool,
    ) -> Walk<'a, E> {
        let head = segments.first().map_or(Head::START, |oldest| oldest.header.first);
        Walk { head, held: None, reader, replay, scans, carries: false }
    }

    fn segments(&mut self, segments: &[OpenSegment]) -> Result<(), E> {
        for (index, segment) in segments.iter().enumerate() {
            self.segment(segment, segments.get(index + 1).map(|next| next.header.first))?;
        }
        Ok(())
    }

    /// Reads one segment up to `end`, where the next one begins, or to the end of the log.
    fn segment(&mut self, segment: &OpenSegment, end: Option<Head>) -> Result<(), E> {
        if segment.header.first != self.head {
            return Err(corrupt(segment, 0, self.head, "it does not follow: a segment is missing").into());
        }
        self.reader.add_segment(segment.clone());
        self.carries = false;
        let mut offset = self.base(segment)?;
        while end.is_none_or(|end| end.sequence != self.head.sequence) {
            let Some(batch) = read_batch(segment, offset, self.head)? else {
                if end.is_some() {
                    return Err(corrupt(segment, offset, self.head, "no valid batch").into());
                }
                return if self.scans { Ok(scan_behind(segment, offset, self.head)?) } else { Ok(()) };
            };
            if batch.kind == Kind::Base {
                return Err(corrupt(segment, offset, self.head, "a base among records").into());
            }
            self.release()?;
            self.head = batch.after;
            let bytes = batch.header.bytes_on_disk();
            self.held = Some(Held { batch, offset });
            offset += bytes;
        }
        if end.is_some_and(|end| end != self.head) {
            return Err(corrupt(segment, offset, self.head, "the next segment does not follow").into());
        }
        self.release()
    }

    /// Reads the base; it was durable before the segment got its name, so it is complete.
    fn base(&mut self, segment: &OpenSegment) -> Result<u64, E> {
        let mut base = BytesMut::new();
        let mut offset = BOUNDARY;
        loop {
            let batch = read_batch(segment, offset, self.head)?.filter(|batch| batch.kind == Kind::Base);
            let Some(batch) = batch else {
                return Err(corrupt(segment, offset, self.head, "the base is incomplete").into());
            };
            self.head = batch.after;
            offset += batch.header.bytes_on_disk();
            base.extend_from_slice(&batch.piece);
            if batch.header.count == 0 {
                (self.replay)(Replayed::Base(base.freeze()))?;
                return Ok(offset);
            }
        }
    }

    /// Streams the batch held back, now that it is confirmed.
    fn release(&mut self) -> Result<(), E> {
        let Some(Held { batch, offset }) = self.held.take() else { return Ok(()) };
        let first = batch.header.head.position;
        match batch.kind {
            Kind::Data => self.reader.add_batch(first..batch.after.position, offset),
            Kind::Carried => {
                self.reader.add_carried(&batch.carried, offset);
                self.carries = true;
                return Ok(());
            }
            Kind::Base | Kind::Seal | Kind::End => {}
        }
        for (position, record) in (first..).zip(batch.records) {
            (self.replay)(Replayed::Record(Position(position), record))?;
        }
        Ok(())
    }
}

/// The batch at `offset` that goes on from `head`; `None` where bytes are those of a batch that
/// was not written to its end, or of none.
fn read_batch(segment: &OpenSegment, offset: u64, head: Head) -> Result<Option<Batch>, JournalError> {
    let footer = segment.header.segment_bytes - BOUNDARY;
    if offset >= footer {
        return Ok(None);
    }
    let read = |bytes: &mut [u8], offset| {
        segment.file.read_at(bytes, offset).map_err(JournalError::disk("read", &segment.name))
    };
    let mut bytes = vec![0; BOUNDARY_BYTES];
    read(&mut bytes, offset)?;
    let Some(header) = own_header(segment, &bytes) else { return Ok(None) };
    // From here on the header is one that this journal wrote here, whole.
    if header.head != head {
        return Err(corrupt(segment, offset, head, "a batch that does not follow the one before"));
    }
    let length = usize::try_from(header.bytes_on_disk()).ok().filter(|length| *length <= BATCH_BYTES_MAX);
    let Some(length) = length.filter(|_| offset + header.bytes_on_disk() <= footer) else {
        return Err(corrupt(segment, offset, head, "a batch longer than its segment"));
    };
    bytes.resize(length, 0);
    read(&mut bytes[BOUNDARY_BYTES..], offset + BOUNDARY)?;
    if !header.payload_fits(&bytes) {
        return Ok(None);
    }
    match open_batch(header, &Bytes::from(bytes)) {
        Ok(Some(batch)) if batch.kind != Kind::End => Ok(Some(batch)),
        Ok(_) => Err(corrupt(segment, offset, head, "a batch that cannot be read")),
        Err(kind) => {
            let what = format!("a batch of kind {kind} at offset {offset}");
            Err(JournalError::Unsupported { file: segment.name.to_string(), what })
        }
    }
}

/// Refuses the journal if anything behind the end of its log was written after it: then what is
/// missing there was durable.
fn scan_behind(segment: &OpenSegment, end: u64, head: Head) -> Result<(), JournalError> {
    let bytes = segment.header.segment_bytes;
    let mut offset = end.saturating_add(BOUNDARY).min(bytes - BOUNDARY);
    let mut buffer = Vec::new();
    while offset < bytes {
        let length = (bytes - offset).min(SCAN_BYTES);
        buffer.resize(usize::try_from(length).expect("at most SCAN_BYTES"), 0);
        segment.file.read_at(&mut buffer, offset).map_err(JournalError::disk("read", &segment.name))?;
        for header in buffer.chunks(BOUNDARY_BYTES).filter_map(|bytes| own_header(segment, bytes)) {
            if header.kind == Ok(Kind::End) {
                return Err(corrupt(segment, end, head, "the segment after this one is missing"));
            }
            if header.head.sequence >= head.sequence {
                return Err(corrupt(segment, end, head, "no valid batch, but later ones behind it"));
            }
        }
        offset += length;
    }
    Ok(())
}

fn own_header(segment: &OpenSegment, bytes: &[u8]) -> Option<BatchHeader> {
    BatchHeader::decode(bytes).filter(|header| header.segment == segment.header.id)
}

fn corrupt(segment: &OpenSegment, offset: u64, head: Head, problem: &'static str) -> JournalError {
    JournalError::Corrupt { file: segment.name.to_string(), offset, position: head.position, problem }
}
