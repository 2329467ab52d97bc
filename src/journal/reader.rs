//! Loads records back by position, from any thread.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use bytes::Bytes;

use super::JournalError;
use super::disk::SegmentFile;
use super::segment::{BATCH_HEADER_BYTES, BOUNDARY, BatchHeader, Head, Kind, SegmentHeader, table_entries};
use crate::record::Record;
use crate::wire::Position;

/// Loads durable records that are still needed. Clones share one index, which takes 8 bytes a batch and
/// some 50 a carried record.
#[derive(Clone, Default)]
pub struct Reader {
    // A lock, because the writer adds batches while other threads look them up. It is held for a
    // search and never while the disk is read.
    index: Arc<RwLock<Index>>,
}

#[derive(Default)]
struct Index {
    segments: VecDeque<IndexedSegment>,
    /// Records that were carried out of segments that are gone.
    carried: BTreeMap<u64, Place>,
}

/// Where a carried record lies.
struct Place {
    /// First sequence of its segment.
    segment: u64,
    boundary: u32,
    /// Among the records of its batch.
    index: u32,
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
    /// [`JournalError::NoRecord`] if that position is not durable yet or no longer kept,
    /// [`JournalError::Corrupt`] if what was durable does not read back, [`JournalError::Disk`] if the disk
    /// fails. Once nobody needs a record any more, its segment may be used again at any time: then any of
    /// these can come.
    pub fn load(&self, position: Position) -> Result<Record, JournalError> {
        let (segment, offset, carried) = self.find(position.0).ok_or(JournalError::NoRecord(position.0))?;
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
        let counted =
            position.0.checked_sub(header.head.position).and_then(|index| u32::try_from(index).ok());
        let index = carried.or(counted).filter(|_| carried.is_some() == (header.kind == Ok(Kind::Carried)));
        let index = index.filter(|index| *index < header.count).ok_or_else(|| corrupt("another batch"))?;
        let table = read(table_entries(index))?;
        let range = header.record_range(index, &table).ok_or_else(|| corrupt("damaged table of records"))?;
        Record::decode(&Bytes::from(read(range)?)).map_err(|_| corrupt("damaged record"))
    }

    /// Adds a segment without batches.
    pub(super) fn add_segment(&self, open: OpenSegment) {
        let end_position = open.header.first.position;
        let segment = IndexedSegment { open, end_position, batches: Vec::new() };
        self.write(|index| index.segments.push_back(segment));
    }

    /// Forgets the newest segment, which holds no batch that counts.
    pub(super) fn remove_newest_segment(&self) {
        self.write(|index| {
            let removed = index.segments.pop_back();
            assert!(removed.is_none_or(|segment| segment.batches.is_empty()), "durable records stay");
        });
    }

    /// Forgets the oldest segment, of whose records none is needed any more.
    pub(super) fn remove_oldest_segment(&self) {
        self.write(|index| {
            let Some(removed) = index.segments.pop_front() else { return };
            let sequence = removed.open.header.first.sequence;
            index.carried.retain(|_, place| place.segment != sequence);
        });
    }

    /// Adds a durable batch of records to the newest segment.
    pub(super) fn add_batch(&self, positions: Range<u64>, offset: u64) {
        self.write(|index| {
            let segment = index.segments.back_mut().expect("a batch is in a segment");
            let first = segment.open.header.first.position;
            let position = u32::try_from(positions.start - first).expect("a segment holds fewer records");
            segment.batches.push(IndexedBatch { position, boundary: boundary(offset) });
            segment.end_position = positions.end;
        });
    }

    /// Adds a durable batch of carried records to the newest segment: from now on they are read there.
    pub(super) fn add_carried(&self, positions: &[u64], offset: u64) {
        self.write(|index| {
            let segment = index.segments.back().expect("a batch is in a segment").open.header.first.sequence;
            for (place, position) in (0..).zip(positions) {
                let place = Place { segment, boundary: boundary(offset), index: place };
                index.carried.insert(*position, place);
            }
        });
    }

    /// How many segments are kept.
    pub(super) fn segments(&self) -> usize {
        self.read().segments.len()
    }

    /// Where the oldest segment begins.
    pub(super) fn oldest_position(&self) -> Option<u64> {
        self.read().segments.front().map(|segment| segment.open.header.first.position)
    }

    /// The oldest segment, and the first head of the one after it; `None` while there is only one.
    pub(super) fn oldest(&self) -> Option<(OpenSegment, Head)> {
        let index = self.read();
        let next = index.segments.get(1)?;
        Some((index.segments[0].open.clone(), next.open.header.first))
    }

    /// Whether a position's record is read from the oldest segment, by itself or carried there.
    pub(super) fn is_in_oldest(&self, position: u64) -> bool {
        let index = self.read();
        let Some(oldest) = index.segments.front() else { return false };
        match index.carried.get(&position) {
            Some(place) => place.segment == oldest.open.header.first.sequence,
            None => position < oldest.end_position,
        }
    }

    fn find(&self, position: u64) -> Option<(OpenSegment, u64, Option<u32>)> {
        let index = self.read();
        let segments = &index.segments;
        if let Some(place) = index.carried.get(&position) {
            let segment =
                segments.iter().find(|segment| segment.open.header.first.sequence == place.segment)?;
            return Some((segment.open.clone(), u64::from(place.boundary) * BOUNDARY, Some(place.index)));
        }
        let before = segments.partition_point(|segment| segment.open.header.first.position <= position);
        let segment = segments.get(before.checked_sub(1)?).filter(|found| position < found.end_position)?;
        let first = segment.open.header.first.position;
        let upto = segment.batches.partition_point(|batch| first + u64::from(batch.position) <= position);
        let batch = segment.batches.get(upto.checked_sub(1)?)?;
        Some((segment.open.clone(), u64::from(batch.boundary) * BOUNDARY, None))
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().expect("no holder of the lock panics")
    }

    fn write(&self, change: impl FnOnce(&mut Index)) {
        change(&mut self.index.write().expect("no holder of the lock panics"));
    }
}

fn boundary(offset: u64) -> u32 {
    u32::try_from(offset / BOUNDARY).expect("a segment holds fewer boundaries")
}
