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

/// Where a batch begins.
#[derive(Clone)]
struct BatchPlace {
    segment: OpenSegment,
    offset: u64,
}

/// A batch on disk whose header was read and checked.
struct Batch {
    place: BatchPlace,
    header: BatchHeader,
}

impl Batch {
    fn open(place: BatchPlace, position: Position) -> Result<Batch, JournalError> {
        let header = BatchHeader::decode(&place.read(0..BATCH_HEADER_BYTES as u64)?)
            .filter(|header| header.segment == place.segment.header.id)
            .ok_or_else(|| place.corrupt(position, "no valid batch header"))?;
        Ok(Batch { place, header })
    }

    /// The index of a record among those of the batch, where it was carried there `carried`.
    fn index(&self, position: Position, carried: Option<u32>) -> Result<u32, JournalError> {
        let counted = position.0.checked_sub(self.header.head.position);
        let counted = counted.and_then(|index| u32::try_from(index).ok());
        let is_carried = self.header.kind == Ok(Kind::Carried);
        let index = carried.or(counted).filter(|_| carried.is_some() == is_carried);
        index
            .filter(|index| *index < self.header.count)
            .ok_or_else(|| self.place.corrupt(position, "another batch"))
    }

    fn record_range(&self, position: Position, index: u32, table: &[u8]) -> Result<Range<u64>, JournalError> {
        let range = self.header.record_range(index, table);
        range.ok_or_else(|| self.place.corrupt(position, "damaged table of records"))
    }
}

impl BatchPlace {
    fn is(&self, other: &BatchPlace) -> bool {
        self.offset == other.offset && self.segment.header.id == other.segment.header.id
    }

    /// Bytes of the batch, counted from its first.
    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, JournalError> {
        let length = usize::try_from(range.end - range.start).expect("shorter than a batch");
        let mut bytes = vec![0; length];
        let filled = self.segment.file.read_at(&mut bytes, self.offset + range.start);
        filled.map(|()| bytes).map_err(JournalError::disk("read", &self.segment.name))
    }

    fn corrupt(&self, position: Position, problem: &'static str) -> JournalError {
        let (file, offset) = (self.segment.name.to_string(), self.offset);
        JournalError::Corrupt { file, offset, position: position.0, problem }
    }
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
        let (mut place, mut index) = self.find(position.0).ok_or(JournalError::NoRecord(position.0))?;
        loop {
            let error = match read_record(&place, index, position) {
                Ok(record) => return Ok(record),
                Err(error) => error,
            };
            // Meanwhile it may have been carried on, and the segment where it was used for something else.
            match self.find(position.0) {
                Some((now, now_index)) if !now.is(&place) => (place, index) = (now, now_index),
                _ => return Err(error),
            }
        }
    }

    /// Whether the records at these positions take no more than `bytes_max` encoded. Reads no record: only the tables
    /// of their batches, each once where the positions rise.
    ///
    /// # Errors
    /// As [`Reader::load`].
    pub(super) fn take_at_most(
        &self,
        positions: impl Iterator<Item = Position>,
        bytes_max: usize,
    ) -> Result<bool, JournalError> {
        let (mut bytes, mut open) = (0, None::<(Batch, Vec<u8>)>);
        for position in positions {
            let (place, index) = self.find(position.0).ok_or(JournalError::NoRecord(position.0))?;
            if open.as_ref().is_none_or(|(batch, _)| !batch.place.is(&place)) {
                let batch = Batch::open(place, position)?;
                let table = batch.place.read(table_entries(0..batch.header.count))?;
                open = Some((batch, table));
            }
            let (batch, table) = open.as_ref().expect("opened above");
            let index = batch.index(position, index)?;
            let entries = table_entries(index..index + 1);
            let start = entries.start - table_entries(0..1).start;
            let start = usize::try_from(start).expect("shorter than a batch");
            let range = batch.record_range(position, index, &table[start..])?;
            bytes += usize::try_from(range.end - range.start).expect("shorter than a batch");
            if bytes > bytes_max {
                return Ok(false);
            }
        }
        Ok(true)
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

    /// The batch that holds a record, and the record's index where it was carried there.
    fn find(&self, position: u64) -> Option<(BatchPlace, Option<u32>)> {
        let index = self.read();
        let segments = &index.segments;
        let place = |segment: &IndexedSegment, boundary: u32| BatchPlace {
            segment: segment.open.clone(),
            offset: u64::from(boundary) * BOUNDARY,
        };
        if let Some(carried) = index.carried.get(&position) {
            let is_it = |segment: &&IndexedSegment| segment.open.header.first.sequence == carried.segment;
            return Some((place(segments.iter().find(is_it)?, carried.boundary), Some(carried.index)));
        }
        let before = segments.partition_point(|segment| segment.open.header.first.position <= position);
        let segment = segments.get(before.checked_sub(1)?).filter(|found| position < found.end_position)?;
        let first = segment.open.header.first.position;
        let upto = segment.batches.partition_point(|batch| first + u64::from(batch.position) <= position);
        let batch = segment.batches.get(upto.checked_sub(1)?)?;
        Some((place(segment, batch.boundary), None))
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().expect("no holder of the lock panics")
    }

    fn write(&self, change: impl FnOnce(&mut Index)) {
        change(&mut self.index.write().expect("no holder of the lock panics"));
    }
}

fn read_record(place: &BatchPlace, carried: Option<u32>, position: Position) -> Result<Record, JournalError> {
    let batch = Batch::open(place.clone(), position)?;
    let index = batch.index(position, carried)?;
    let table = place.read(table_entries(index..index + 1))?;
    let record = place.read(batch.record_range(position, index, &table)?)?;
    Record::decode(&Bytes::from(record)).map_err(|_| place.corrupt(position, "damaged record"))
}

fn boundary(offset: u64) -> u32 {
    u32::try_from(offset / BOUNDARY).expect("a segment holds fewer boundaries")
}
