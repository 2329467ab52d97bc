//! Loads records back by position, from any thread.

use std::ops::Range;
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use super::JournalError;
use super::disk::SegmentFile;
use super::segment::{BATCH_HEADER_BYTES, BOUNDARY, BatchHeader, SegmentHeader, table_entries};
use crate::record::Record;
use crate::wire::Position;

/// Loads durable records. Clones share one index, which takes 8 bytes a batch.
#[derive(Clone, Default)]
pub struct Reader {
    // A lock, because the writer adds batches while other threads look them up. It is held for a
    // binary search and never while the disk is read.
    segments: Arc<RwLock<Vec<IndexedSegment>>>,
}

/// A segment in use.
#[derive(Clone)]
pub(super) struct OpenSegment {
    pub(super) name: Arc<str>,
    pub(super) file: Arc<dyn SegmentFile>,
    pub(super) header: SegmentHeader,
}

struct IndexedSegment {
    open: OpenSegment,
    /// Positions below this one are in the batches.
    end_position: u64,
    batches: Vec<IndexedBatch>,
}

struct IndexedBatch {
    /// Position of its first record, counted from the segment's first.
    position: u32,
    /// Where it begins, counted in boundaries.
    boundary: u32,
}

impl Reader {
    /// Reads the record at `position` from the disk and checks it again. Blocks for the disk.
    ///
    /// # Errors
    /// [`JournalError::NoRecord`] if that position is not durable yet, [`JournalError::Corrupt`]
    /// if what was durable does not read back, [`JournalError::Disk`] if the disk fails.
    pub fn load(&self, position: Position) -> Result<Record, JournalError> {
        let (segment, offset) = self.find(position.0).ok_or(JournalError::NoRecord(position.0))?;
        let corrupt = |problem| JournalError::Corrupt {
            file: segment.name.to_string(),
            offset,
            position: position.0,
            problem,
        };
        let read = |range: Range<u64>| {
            let length = usize::try_from(range.end - range.start).expect("shorter than a batch");
            let mut bytes = vec![0; length];
            let filled = segment.file.read_at(&mut bytes, offset + range.start);
            filled.map(|()| bytes).map_err(JournalError::disk("read", &segment.name))
        };
        let header = BatchHeader::decode(&read(0..BATCH_HEADER_BYTES as u64)?)
            .filter(|header| header.segment == segment.header.id)
            .ok_or_else(|| corrupt("no valid batch header"))?;
        let index = position.0.checked_sub(header.head.position).and_then(|index| u32::try_from(index).ok());
        let index = index.filter(|index| *index < header.count).ok_or_else(|| corrupt("another batch"))?;
        let table = read(table_entries(index))?;
        let range = header.record_range(index, &table).ok_or_else(|| corrupt("damaged table of records"))?;
        Record::decode(&Bytes::from(read(range)?)).map_err(|_| corrupt("damaged record"))
    }

    /// Adds a segment without batches.
    pub(super) fn add_segment(&self, open: OpenSegment) {
        let end_position = open.header.first.position;
        self.write(|segments| segments.push(IndexedSegment { open, end_position, batches: Vec::new() }));
    }

    /// Forgets the newest segment, which holds no batch.
    pub(super) fn remove_newest_segment(&self) {
        self.write(|segments| {
            let removed = segments.pop();
            assert!(removed.is_none_or(|segment| segment.batches.is_empty()), "durable records stay");
        });
    }

    /// Adds a durable batch of records to the newest segment.
    pub(super) fn add_batch(&self, positions: Range<u64>, offset: u64) {
        self.write(|segments| {
            let segment = segments.last_mut().expect("a batch is in a segment");
            let first = segment.open.header.first.position;
            let position = u32::try_from(positions.start - first).expect("a segment holds fewer records");
            let boundary = u32::try_from(offset / BOUNDARY).expect("a segment holds fewer boundaries");
            segment.batches.push(IndexedBatch { position, boundary });
            segment.end_position = positions.end;
        });
    }

    fn find(&self, position: u64) -> Option<(OpenSegment, u64)> {
        let segments = self.segments.read().expect("no holder of the lock panics");
        let before = segments.partition_point(|segment| segment.open.header.first.position <= position);
        let segment = segments.get(before.checked_sub(1)?).filter(|found| position < found.end_position)?;
        let first = segment.open.header.first.position;
        let upto = segment.batches.partition_point(|batch| first + u64::from(batch.position) <= position);
        let batch = segment.batches.get(upto.checked_sub(1)?)?;
        Some((segment.open.clone(), u64::from(batch.boundary) * BOUNDARY))
    }

    fn write(&self, change: impl FnOnce(&mut Vec<IndexedSegment>)) {
        change(&mut self.segments.write().expect("no holder of the lock panics"));
    }
}
