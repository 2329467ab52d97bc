//! Behaviour of the journal over a simulated disk and a real one.

mod archives;
#[path = "../../../tests/simulator/chance.rs"]
#[expect(dead_code, reason = "the simulator draws more kinds of things")]
mod chance;
mod crashes;
mod damage;
mod erasure;
mod full;
mod golden;
mod handle;
mod hooked;
mod mounted;
mod panics;
mod real;
mod recycle;
#[path = "../../../tests/simulator/disk.rs"]
#[expect(dead_code, reason = "the simulator tells more lies, and fills the disk")]
mod sim;
mod slow;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::{
    Disk, JournalError, Options, Reader, Recovered, Replayed, SegmentFile, SegmentId, Writer, recover,
};
use crate::record::Record;
use crate::wire::Position;

/// Small segments, so that a few records fill one.
const OPTIONS: Options = Options { segment_bytes: 64 * 1024, spare_segments: 2, ..Options::DEFAULT };

/// The record that every test writes at this position: its parts differ in length and content.
/// The first few are short, so that a test can flip every bit of them.
fn record(position: u64) -> Record {
    // Made once: some tests compare a million of them.
    static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| (0..1024).map(make_record).collect());
    RECORDS[usize::try_from(position).expect("small")].clone()
}

fn make_record(position: u64) -> Record {
    let text = format!("record {position}");
    let length = if position < 8 { 9 * position } else { position * 997 % 9000 };
    let length = usize::try_from(length).expect("small");
    Record {
        leaf: Bytes::from(text.clone()),
        salt: if position.is_multiple_of(2) { Bytes::from_static(&[7; 32]) } else { Bytes::new() },
        opening: Bytes::from(text.clone()),
        header: Bytes::from(text.repeat(3)),
        body: Bytes::from(text.repeat(length / text.len() + 1)).slice(..length),
    }
}

fn records(positions: std::ops::Range<u64>) -> Vec<Record> {
    positions.map(record).collect()
}

/// What the exchange is here: it counts. Panics if a record or a base is not the expected one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counter {
    records: u64,
    bases: u64,
}

impl Counter {
    fn base(&self) -> Vec<u8> {
        self.records.to_be_bytes().to_vec()
    }

    fn replay(&mut self, replayed: Replayed) -> Result<(), JournalError> {
        match replayed {
            Replayed::Base(base) => {
                if self.bases == 0 {
                    self.records = u64::from_be_bytes(base[..].try_into().expect("8 bytes"));
                }
                assert_eq!(base, self.base(), "a base is the state at its place");
                self.bases += 1;
            }
            Replayed::Archived(..) => panic!("only an observer is told of the past"),
            Replayed::Record(position, found) => {
                assert_eq!(position, Position(self.records));
                assert_eq!(found, record(self.records));
                self.records += 1;
            }
        }
        Ok(())
    }
}

fn read(disk: Arc<dyn Disk>) -> Result<(Recovered, Counter), JournalError> {
    let mut counter = Counter::default();
    let recovered = recover(disk, OPTIONS, &mut |replayed| counter.replay(replayed))?;
    Ok((recovered, counter))
}

/// Recovers, goes on in a fresh segment, and says how many records there are.
fn start(disk: Arc<dyn Disk>) -> Result<(Writer, Reader, u64), JournalError> {
    let (recovered, mut counter) = read(disk)?;
    let base = counter.base();
    let (writer, reader) = recovered.open(&base, &mut |replayed| counter.replay(replayed))?;
    assert_eq!(writer.next_position(), Position(counter.records));
    Ok((writer, reader, counter.records))
}

/// Appends the next `count` records as one batch, in a fresh segment if need be.
fn append(writer: &mut Writer, count: u64) -> Result<Position, JournalError> {
    let next = writer.next_position().0;
    let batch = records(next..next + count);
    if writer.needs_segment(batch.len(), batch.iter().map(Record::encoded_len).sum()) {
        writer.roll(&Counter { records: next, bases: 0 }.base())?;
    }
    writer.append(&batch)
}
