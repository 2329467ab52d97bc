//! Appends batches to the newest segment, one write and one sync each.

use std::io::ErrorKind;
use std::sync::Arc;

use super::reader::{OpenSegment, Reader};
use super::segment::{
    BATCH_HEADER_BYTES, BOUNDARY, BOUNDARY_BYTES, Content, Framer, Head, SegmentHeader, batch_bytes,
    carried_bytes,
};
use super::spares::Spares;
use super::{Disk, JournalError, Options};
use crate::record::{Record, administrative::Erasure};
use crate::wire::Position;

/// The one writer of a journal. After an error every further call answers
/// [`JournalError::Stopped`], because nobody knows what the disk holds.
pub struct Writer {
    disk: Arc<dyn Disk>,
    options: Options,
    spares: Spares,
    framer: Framer,
    reader: Reader,
    head: Head,
    /// The segment written to; before the first [`Writer::take_segment`] the newest one kept.
    current: Option<OpenSegment>,
    /// Where the next batch goes in it.
    offset: u64,
    /// The file of the next segment, where that is sure already.
    reserved: Option<String>,
    /// Whether the last batch holds records, so that a seal would confirm some.
    unsealed: bool,
    /// Whether the oldest segment was not given up for want of room in the newest one alone.
    is_crowded: bool,
    /// What the log says is erased, until it is.
    erasing: Option<Erasure>,
    stopped: bool,
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        spares: Spares,
        reader: Reader,
        head: Head,
        newest: Option<OpenSegment>,
    ) -> Writer {
        Writer {
            disk,
            options,
            spares,
            framer: Framer::default(),
            reader,
            head,
            current: newest,
            offset: 0,
            reserved: None,
            unsealed: false,
            is_crowded: false,
            erasing: None,
            stopped: false,
        }
    }

    /// The position that the next record gets.
    pub fn next_position(&self) -> Position {
        Position(self.head.position)
    }

    /// Whether a batch of so many records and encoded bytes needs [`Writer::roll`] first.
    pub fn needs_segment(&self, records: usize, encoded_bytes: usize) -> bool {
        let Some(segment) = &self.current else { return true };
        self.offset + batch_bytes(records, encoded_bytes) as u64 > footer_offset(segment)
    }

    /// Whether records of so many encoded bytes may be one batch.
    pub(super) fn fits_batch(&self, records: usize, encoded_bytes: usize) -> bool {
        batch_bytes(records, encoded_bytes) <= self.options.batch_bytes_max()
    }

    /// Appends the records as one batch with one sync; they are durable when it returns. The first
    /// gets the position returned, the others those after it.
    ///
    /// # Errors
    /// [`JournalError::Disk`]: whether the batch is durable is for the next start to settle.
    /// [`JournalError::TooLong`] if it needs [`Writer::roll`] first.
    pub fn append(&mut self, records: &[Record]) -> Result<Position, JournalError> {
        self.final_on_error(|writer| {
            let first = writer.head.position;
            let bytes = records.iter().map(Record::encoded_len).sum();
            if !writer.fits_batch(records.len(), bytes) {
                let bytes_max = writer.options.batch_bytes_max();
                return Err(JournalError::TooLong { what: "batch", bytes, bytes_max });
            }
            let offset = writer.offset;
            writer.write(Content::Records(records))?;
            writer.sync()?;
            writer.reader.add_batch(first..writer.head.position, offset);
            writer.unsealed = true;
            // Before the next segment can begin: a spare with old bytes must not become it.
            let erasures = (first..).zip(records);
            let erasure = erasures.filter_map(|(at, record)| Erasure::of(Position(at), &record.leaf)).last();
            if let Some(erasure) = erasure {
                writer.erase(erasure);
            }
            Ok(Position(first))
        })
    }

    /// Begins to erase what the log says is erased, or goes on with it after a start: archives are written anew, and
    /// segments that were begun before the leaf that says so are given up as soon as no more of them is needed than can
    /// be carried. [`Writer::append`] does so by itself for a leaf that it appends.
    pub fn erase(&mut self, erasure: Erasure) {
        self.erasing = Some(erasure);
        let below = erasure.through.0.saturating_add(1);
        self.reserved = self.spares.erase(below, self.reserved.take());
    }

    /// Whether a segment should begin, though the newest one has room, so that this one can be given up: its records are
    /// to be erased, or its base tells of some. Only where a spare is at hand for it.
    pub fn wants_roll(&self) -> bool {
        let Some((erasure, current)) = self.erasing.zip(self.current.as_ref()) else { return false };
        current.header.first.position <= erasure.at.0 && self.spares.has_ready()
    }

    /// What has been erased since this was asked last: the last position, or the archive that was left as it is because
    /// it is damaged.
    pub fn erased(&mut self) -> Option<Result<Position, JournalError>> {
        let erasure = self.erasing?;
        let is_clean = self.reader.oldest_position().is_none_or(|first| first > erasure.at.0);
        if !is_clean || !self.spares.is_erased() {
            return None;
        }
        self.erasing = None;
        Some(self.spares.end_erasing().map_or(Ok(erasure.through), Err))
    }

    /// Whether something is still to be erased.
    pub(super) fn is_erasing(&self) -> bool {
        self.erasing.is_some()
    }

    /// Appends an empty batch, which confirms the one before it: from now on damage there is
    /// corruption. Does nothing if there is nothing to confirm, or no room before the next roll.
    pub fn seal(&mut self) -> Result<(), JournalError> {
        self.final_on_error(|writer| {
            if writer.unsealed && !writer.needs_segment(0, 0) {
                writer.write(Content::Seal)?;
                writer.sync()?;
            }
            writer.unsealed = false;
            Ok(())
        })
    }

    /// Makes sure of a file for the next [`Writer::roll`]; says no while the disk has no room for one. Whoever rolls tries
    /// next whether the oldest segment can be given up.
    ///
    /// # Errors
    /// [`JournalError::Disk`]; it is final.
    pub(super) fn reserve_segment(&mut self) -> Result<bool, JournalError> {
        self.final_on_error(|writer| {
            if writer.reserved.is_none() {
                writer.spares.await_segment(writer.current.is_some());
                writer.reserved = writer.spares.take()?;
            }
            Ok(writer.reserved.is_some())
        })
    }

    /// The same for a segment into which the oldest one's needed records are carried: it may be had where others may not.
    ///
    /// # Errors
    /// As [`Writer::reserve_segment`].
    pub(super) fn reserve_segment_to_carry(&mut self) -> Result<bool, JournalError> {
        self.final_on_error(|writer| {
            if writer.reserved.is_none() {
                writer.reserved = writer.spares.take_to_carry()?;
            }
            Ok(writer.reserved.is_some())
        })
    }

    /// Goes on in a fresh segment that begins with `base`: the exchange after all records so far.
    ///
    /// # Errors
    /// [`JournalError::TooLong`] if the base takes more than half of a segment.
    pub fn roll(&mut self, base: &[u8]) -> Result<(), JournalError> {
        self.reserve_segment()?;
        self.take_segment(base, &[])
    }

    /// As [`Writer::roll`], with `records` as the first batch, durable before the segment counts.
    pub(super) fn take_segment(&mut self, base: &[u8], records: &[Record]) -> Result<(), JournalError> {
        self.final_on_error(|writer| {
            let bytes_max = writer.options.base_bytes_max();
            if base.len() > bytes_max {
                return Err(JournalError::TooLong { what: "base", bytes: base.len(), bytes_max });
            }
            writer.is_crowded = false;
            let previous = writer.current.take();
            let spare = writer.prepare(base)?;
            let first_batch = (writer.head.position, writer.offset);
            if !records.is_empty() {
                writer.write(Content::Records(records))?;
            }
            writer.sync()?;
            writer.name_segment(&spare)?;
            if !records.is_empty() {
                writer.reader.add_batch(first_batch.0..writer.head.position, first_batch.1);
            }
            writer.unsealed = !records.is_empty();
            previous.map_or(Ok(()), |previous| writer.write_footer(&previous))
        })
    }

    /// Whether the last batch holds records that nothing confirms.
    pub(super) fn has_unsealed(&self) -> bool {
        self.unsealed
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Keeps spare segments ready, and archives, by a second thread.
    pub(super) fn make_spares_in_background(&mut self) -> Result<(), JournalError> {
        self.spares.work_in_background()
    }

    /// Archives what was given up, and makes spare segments ready, as far as the disk has room. A [`Journal`]
    /// does so on a thread of its own: this is for whoever runs a writer without one.
    ///
    /// # Errors
    /// [`JournalError::Disk`] and [`JournalError::Corrupt`]; they are final.
    ///
    /// [`Journal`]: super::Journal
    pub fn tend(&mut self) -> Result<(), JournalError> {
        self.final_on_error(|writer| writer.spares.tend())
    }

    /// Positions below this one are in the oldest segment, which could be used again once none of them is
    /// needed; `None` while there is only the one that is written to.
    pub fn oldest_end(&self) -> Option<Position> {
        self.reader.oldest().map(|(_, end)| Position(end.position))
    }

    /// Whether there is room for everything, or only for receipts and administrative records.
    pub fn has_room(&self) -> bool {
        let kept = self.reader.segments() + self.spares.retiring();
        kept < self.options.segments_max && !self.spares.is_short(self.options.reserve_segments)
    }

    /// Gives the oldest segment up, if of all its records only `needed` ones are still needed and those are
    /// few: they are carried into the newest segment, and the old one is archived and becomes a spare. Says
    /// whether it did; else it may once fewer are needed, or the newest segment is newer.
    ///
    /// # Errors
    /// [`JournalError::Disk`] and [`JournalError::Corrupt`]; they are final.
    pub fn retire_oldest(&mut self, needed: &[Position]) -> Result<bool, JournalError> {
        self.final_on_error(|writer| {
            let retired = writer.retire_one(needed);
            writer.spares.await_segment(false);
            retired
        })
    }

    fn retire_one(&mut self, needed: &[Position]) -> Result<bool, JournalError> {
        self.is_crowded = false;
        if let Some(error) = self.spares.failure() {
            return Err(error);
        }
        let Some((oldest, end)) = self.reader.oldest() else { return Ok(false) };
        let Some(carried) = self.load_needed(needed)? else { return Ok(false) };
        self.is_crowded = !self.carry(&carried)?;
        if self.is_crowded {
            return Ok(false);
        }
        self.reader.remove_oldest_segment();
        self.spares.retire(oldest, end)?;
        Ok(true)
    }

    /// Whether the last [`Writer::retire_oldest`] would have given a segment up if the newest one had room for what is
    /// carried: it has after [`Writer::roll`].
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// The needed records of the oldest segment; `None` if they are more than a quarter of one.
    fn load_needed(&self, needed: &[Position]) -> Result<Option<Vec<(u64, Record)>>, JournalError> {
        let needed = || needed.iter().copied().filter(|position| self.reader.is_in_oldest(position.0));
        if !self.reader.take_at_most(needed(), self.options.carried_bytes_max())? {
            return Ok(None);
        }
        let loaded = needed().map(|position| Ok((position.0, self.reader.load(position)?)));
        loaded.collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// Writes records into the newest segment once more, confirmed when it returns: so that a start never
    /// has to write them again. Says whether there was room before the next roll.
    fn carry(&mut self, carried: &[(u64, Record)]) -> Result<bool, JournalError> {
        if carried.is_empty() {
            return Ok(true);
        }
        let mut batches = vec![Vec::new()];
        let mut bytes = 0;
        for (position, record) in carried {
            let batch = batches.last_mut().expect("there is always one");
            bytes += record.encoded_len();
            if !batch.is_empty() && carried_bytes(batch.len() + 1, bytes) > self.options.batch_bytes_max() {
                bytes = record.encoded_len();
                batches.push(vec![(*position, record.clone())]);
            } else {
                batch.push((*position, record.clone()));
            }
        }
        let size = |batch: &Vec<(u64, Record)>| {
            carried_bytes(batch.len(), batch.iter().map(|(_, record)| record.encoded_len()).sum()) as u64
        };
        let needed = batches.iter().map(size).sum::<u64>() + BOUNDARY;
        let Some(segment) = &self.current else { return Ok(false) };
        if self.offset + needed > footer_offset(segment) {
            return Ok(false);
        }
        for batch in &batches {
            let offset = self.offset;
            self.write(Content::Carried(batch))?;
            self.sync()?;
            let positions: Vec<u64> = batch.iter().map(|(position, _)| *position).collect();
            self.reader.add_carried(&positions, offset);
        }
        self.write(Content::Seal)?;
        self.sync()?;
        self.unsealed = false;
        Ok(true)
    }

    /// Writes header and base into a spare, which becomes the current segment but for its name.
    fn prepare(&mut self, base: &[u8]) -> Result<String, JournalError> {
        let spare = match self.reserved.take() {
            Some(spare) => Some(spare),
            None => self.spares.take()?,
        };
        let full = || JournalError::disk("make", "a segment")(ErrorKind::StorageFull.into());
        let spare = spare.ok_or_else(full)?;
        let file = self.disk.open(&spare).map_err(JournalError::disk("open", &spare))?;
        let id = self.disk.random_id().map_err(JournalError::disk("draw an id for", &spare))?;
        let header = SegmentHeader { id, segment_bytes: self.options.segment_bytes, first: self.head };
        file.write_at(&header.encode(), 0).map_err(JournalError::disk("write", &spare))?;
        self.current = Some(OpenSegment { name: header.file_name().into(), file, header });
        self.offset = BOUNDARY;
        let piece_bytes_max = self.options.batch_bytes_max() - BATCH_HEADER_BYTES - BOUNDARY_BYTES;
        let pieces = base.len().div_ceil(piece_bytes_max).max(1);
        for index in 0..pieces {
            let piece = &base[index * piece_bytes_max..base.len().min((index + 1) * piece_bytes_max)];
            let more = u32::try_from(pieces - 1 - index).expect("pieces fit a segment");
            self.write(Content::Base { piece, more })?;
        }
        Ok(spare)
    }

    fn name_segment(&mut self, spare: &str) -> Result<(), JournalError> {
        let segment = self.current()?;
        self.disk.rename(spare, &segment.name).map_err(JournalError::disk("rename", spare))?;
        self.disk.sync_directory().map_err(JournalError::disk("sync the directory for", &segment.name))?;
        self.reader.add_segment(segment);
        Ok(())
    }

    /// Says in `previous` that a segment follows it.
    fn write_footer(&mut self, previous: &OpenSegment) -> Result<(), JournalError> {
        let first = self.current()?.header.first;
        self.framer.frame(previous.header.id, first, Content::End)?;
        let written = previous.file.write_at(self.framer.bytes(), footer_offset(previous));
        written.map_err(JournalError::disk("write", &previous.name))?;
        previous.file.sync().map_err(JournalError::disk("sync", &previous.name))
    }

    fn write(&mut self, content: Content<'_>) -> Result<(), JournalError> {
        let segment = self.current()?;
        let head = self.framer.frame(segment.header.id, self.head, content)?;
        let bytes = self.framer.bytes();
        if self.offset + bytes.len() as u64 > footer_offset(&segment) {
            let bytes_max = usize::try_from(footer_offset(&segment) - self.offset).unwrap_or(usize::MAX);
            return Err(JournalError::TooLong { what: "batch", bytes: bytes.len(), bytes_max });
        }
        segment.file.write_at(bytes, self.offset).map_err(JournalError::disk("write", &segment.name))?;
        self.head = head;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<(), JournalError> {
        let segment = self.current()?;
        segment.file.sync().map_err(JournalError::disk("sync", &segment.name))
    }

    fn current(&self) -> Result<OpenSegment, JournalError> {
        self.current.clone().ok_or(JournalError::Stopped)
    }

    fn final_on_error<T>(
        &mut self,
        step: impl FnOnce(&mut Writer) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        if self.stopped {
            return Err(JournalError::Stopped);
        }
        self.stopped = true;
        let done = step(self)?;
        self.stopped = false;
        Ok(done)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.spares.stop();
    }
}

fn footer_offset(segment: &OpenSegment) -> u64 {
    segment.header.segment_bytes - BOUNDARY
}
