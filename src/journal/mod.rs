//! The journal: the one durable write path, an append-only log of records with group commit.
//!
//! Start it in three steps: [`recover`] streams what is there, [`Recovered::open`] takes a fresh
//! segment into use and gives a [`Writer`] and a [`Reader`], [`Journal::start`] puts the writer
//! on its own thread.
//!
//! What holds at every instant, and why:
//! - At most one batch is not yet durable, because a batch is written after the sync of the one
//!   before it. So damage with a later batch behind it is corruption, and damage at the very end
//!   is a torn tail; a batch is *confirmed* once a later one exists.
//! - No process appends to a segment that another one wrote. At start the one unconfirmed batch
//!   is written again into a fresh segment, synced, and only then counted, because after a failed
//!   sync the page cache shows what the disk does not hold.
//! - A segment gets its name when header and base are durable, and its first batch when the name
//!   is. Then the segment before it gets a footer, so that losing the newest segment is noticed.
//! - A failed write or sync is final: the writer does nothing more.
//! - A segment of whose records none is needed any more, or few that were carried into the newest one,
//!   is archived and used again. So every position from 0 on is in an archive, a segment, or both, and
//!   the base of the oldest segment is the state that a start begins with.
//!
//! `segment` has the bytes, `disk` what is assumed of the disk.

mod archive;
mod disk;
mod handle;
mod reader;
mod recover;
mod segment;
mod spares;
#[cfg(test)]
mod tests;
mod vitals;
mod writer;

use std::io::{self, ErrorKind};
use std::time::Duration;

pub use disk::{Disk, FileDisk, SegmentFile};
pub use handle::{Append, AppendError, Event, Journal, Urgency};
pub use reader::Reader;
pub use recover::{Recovered, Replayed, note, observe, recover};
pub use segment::SegmentId;
pub use vitals::{SYNC_CLASSES, Syncs, Vitals};
pub use writer::Writer;

use segment::{BATCH_BYTES_MAX, BOUNDARY, BOUNDARY_BYTES};

/// Bounds of a journal. Segments of another size that exist already are read all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a new segment: a multiple of 4 KiB, at least 64 KiB. A base takes at most half of
    /// it, and so does a batch: 16 MiB is the least that fits every record.
    pub segment_bytes: u64,
    /// Segments made ready ahead of need; without one a roll waits 110 ms and more.
    pub spare_segments: usize,
    /// How many of them are left alone until the disk is full: then the last two are for archives and for the next
    /// start, the others for receipts and administrative records.
    pub reserve_segments: usize,
    /// Segments kept, one for receipts alone included. Reached: no room but for receipts and administrative
    /// records, until old ones are not needed any more; their own bounds keep these few.
    pub segments_max: usize,
    /// Bytes of memory of records handed in and not yet durable. Reached: [`AppendError::Full`].
    pub queue_bytes_max: usize,
    /// Calls of [`Journal::append`] whose records no batch has taken up yet. Reached: the same.
    pub queue_appends_max: usize,
    /// How long a record of receipts alone may wait for a batch to ride with (FORMATS 7).
    pub receipts_wait_max: Duration,
    /// How long a full disk is left alone before it is tried again, and how often it is asked which old records
    /// are still needed.
    pub retry_every: Duration,
    /// Idleness after which a seal confirms the last batch (DESIGN 8).
    pub seal_after: Duration,
}

impl Options {
    /// What a relay runs with.
    pub const DEFAULT: Options = Options {
        segment_bytes: 64 * 1024 * 1024,
        spare_segments: 4,
        reserve_segments: 3,
        segments_max: 128,
        queue_bytes_max: 32 * 1024 * 1024,
        queue_appends_max: 1024,
        receipts_wait_max: Duration::from_millis(2),
        retry_every: Duration::from_secs(1),
        seal_after: Duration::from_millis(100),
    };

    /// As [`Options::DEFAULT`], with at most so many bytes of segments: at least four of them.
    pub fn with_bytes_max(bytes_max: u64) -> Options {
        let segments = usize::try_from(bytes_max / Options::DEFAULT.segment_bytes).unwrap_or(usize::MAX);
        Options { segments_max: segments.max(Options::SEGMENTS_MAX_LEAST), ..Options::DEFAULT }
    }

    const SEGMENTS_MAX_LEAST: usize = 4;

    const SEGMENT_BYTES_MIN: u64 = 16 * BOUNDARY;

    fn batch_bytes_max(&self) -> usize {
        usize::try_from(self.segment_bytes / 2).map_or(BATCH_BYTES_MAX, |half| half.min(BATCH_BYTES_MAX))
    }

    /// Bytes of a base at most: half of a segment, or less where behind it there would be no room for the first batch.
    pub fn base_bytes_max(&self) -> usize {
        let half = usize::try_from(self.segment_bytes / 2).unwrap_or(usize::MAX);
        half.min(2 * half - self.batch_bytes_max() - 4 * BOUNDARY_BYTES)
    }

    /// A quarter of a segment (DESIGN 8): more is not worth carrying.
    fn carried_bytes_max(&self) -> usize {
        usize::try_from(self.segment_bytes / 4).unwrap_or(usize::MAX)
    }

    fn check(&self) -> Result<(), JournalError> {
        let bytes = self.segment_bytes;
        if bytes < Self::SEGMENT_BYTES_MIN || !bytes.is_multiple_of(BOUNDARY) {
            return Err(JournalError::SegmentBytes(bytes));
        }
        Ok(())
    }
}

/// Why the journal cannot start, or has stopped. None of them can be retried in this process.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Our disk failed; what the last batch became is for the next start to settle.
    #[error("cannot {operation} {file} in the journal: {source}; check the disk, then start again")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something that was durable is damaged or gone. Nothing was changed.
    #[error(
        "journal is damaged: {file} at offset {offset}, position {position}: {problem}; nothing was changed: \
         keep a copy of the whole directory, then check the disk"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// The first byte of the damaged batch or header.
        offset: u64,
        /// Of the first record that cannot be read.
        position: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// A newer version wrote this.
    #[error("{file} in the journal has {what}, unknown to this version: start the version that wrote it")]
    Unsupported {
        /// The file.
        file: String,
        /// Which field and value.
        what: String,
    },
    /// Another process holds the directory; it was not disturbed.
    #[error("journal directory {directory} is in use by another process: stop that one first")]
    AlreadyRunning {
        /// The directory.
        directory: String,
    },
    /// The operator set something wrong about the directory.
    #[error("journal directory {directory} {problem}")]
    Configuration {
        /// The directory.
        directory: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Not a size that a segment can have.
    #[error("segments of {0} bytes are not possible: set a multiple of 4096, 65536 or more")]
    SegmentBytes(u64),
    /// A base or a record does not fit: segments are too small for this relay.
    #[error("{what} of {bytes} bytes does not fit, the most is {bytes_max}: set larger segments")]
    TooLong {
        /// Base or record.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// A record that breaks its own bounds: whoever made it is wrong.
    #[error("record cannot be written: {0}")]
    Record(#[from] crate::record::RecordError),
    /// No durable record has this position.
    #[error("no record at position {0}")]
    NoRecord(u64),
    /// An earlier call failed, and said why.
    #[error("the journal has stopped after an error: start the process again")]
    Stopped,
}

impl JournalError {
    /// The exit code that tells the service manager what happened (DESIGN 8).
    pub fn exit_code(&self) -> u8 {
        match self {
            JournalError::Disk { .. }
            | JournalError::Record(_)
            | JournalError::NoRecord(_)
            | JournalError::Stopped => EXIT_DISK_FAILED,
            JournalError::Corrupt { .. } => 71,
            JournalError::AlreadyRunning { .. } => 73,
            JournalError::Unsupported { .. }
            | JournalError::Configuration { .. }
            | JournalError::SegmentBytes(_)
            | JournalError::TooLong { .. } => 78,
        }
    }

    /// Whether all that is missing is room on the disk.
    fn is_full(&self) -> bool {
        let JournalError::Disk { source, .. } = self else { return false };
        matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
    }

    fn disk(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> JournalError {
        let file = file.to_owned();
        move |source| JournalError::Disk { operation, file, source }
    }
}

const EXIT_DISK_FAILED: u8 = 70;
