//! Every operation fails once before it took effect and once after, and power goes at any time.

use super::sim::{FAILURES, Failure, Lie, Random, SimDisk};
use super::*;

/// What somebody outside may rely on.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    /// Records that were acknowledged, or seen after a start.
    durable: u64,
    /// Records that were handed in.
    attempted: u64,
}

/// A start and some traffic with rolls and seals, as far as the disk lets it.
fn live(disk: &SimDisk, promised: &mut Promised) -> Result<(), JournalError> {
    let (mut writer, reader, records) = start(disk.shared())?;
    assert!(records >= promised.durable, "lost: {records} of {promised:?}");
    assert!(records <= promised.attempted, "invented: {records} of {promised:?}");
    *promised = Promised { durable: records, attempted: records };
    let end = records + 24;
    while promised.durable < end {
        let count = 1 + promised.durable % 4;
        promised.attempted = promised.durable + count;
        append(&mut writer, count)?;
        promised.durable = promised.attempted;
        let last = promised.durable - 1;
        assert_eq!(reader.load(Position(last)).expect("durable"), record(last));
        if promised.durable % 3 == 0 {
            writer.seal()?;
        }
    }
    writer.seal()
}

fn prepared(seed: u64) -> (SimDisk, Promised) {
    let (disk, mut promised) = (SimDisk::new(seed), Promised::default());
    live(&disk, &mut promised).expect("the disk is well");
    (disk, promised)
}

#[test]
fn a_journal_reads_back_what_was_acknowledged() {
    let (disk, mut promised) = prepared(1);
    live(&disk, &mut promised).expect("the disk is well");
    let segments = disk.files().iter().filter(|(name, _)| name.starts_with("segment-")).count();
    assert!(segments >= 4, "the scenario rolls: {segments}");
    let (_, reader, records) = start(disk.shared()).expect("the disk is well");
    assert_eq!(records, promised.durable);
    for position in 0..records {
        assert_eq!(reader.load(Position(position)).expect("durable"), record(position));
    }
    assert!(matches!(reader.load(Position(records)), Err(JournalError::NoRecord(_))));
}
