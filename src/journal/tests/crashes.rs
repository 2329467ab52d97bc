//! Every operation fails once before it took effect, once halfway and once after, and power goes
//! at any time. Whatever happens, what was promised holds.

use super::chance::Chance;
use super::sim::{DiskLie, FAILURES, Failure, SimDisk};
use super::*;

/// What somebody outside may rely on.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    /// Records that were acknowledged, or seen after a start.
    durable: u64,
    /// Records that were handed in.
    attempted: u64,
}

impl Promised {
    /// A start may find what was acknowledged, what was only attempted, and nothing else.
    fn check_start(&mut self, disk: &SimDisk) -> Result<(Writer, Reader), JournalError> {
        let (writer, reader, records) = start(disk.shared())?;
        assert!(records >= self.durable, "broken promise: {records} records of {self:?}");
        assert!(records <= self.attempted, "broken promise: {records} records of {self:?}");
        *self = Promised { durable: records, attempted: records };
        Ok((writer, reader))
    }

    /// A start and some traffic with rolls and seals, as far as the disk lets it.
    fn live(&mut self, disk: &SimDisk) -> Result<(), JournalError> {
        let (mut writer, reader) = self.check_start(disk)?;
        let end = self.durable + 24;
        while self.durable < end {
            let count = 1 + self.durable % 4;
            self.attempted = self.durable + count;
            append(&mut writer, count)?;
            self.durable = self.attempted;
            let last = self.durable - 1;
            assert_eq!(reader.load(Position(last)).expect("durable"), record(last));
            if self.durable.is_multiple_of(3) {
                writer.seal()?;
            }
        }
        writer.seal()
    }

    /// As [`Promised::live`] on a disk where one operation fails: says whether it came to that.
    fn live_until_failure(&mut self, disk: &SimDisk) -> bool {
        match self.live(disk) {
            Ok(()) => false,
            Err(JournalError::Disk { .. }) => true,
            Err(other) => panic!("broken promise: {other}"),
        }
    }
}

/// A disk with a few segments, and what they promise.
fn lived(disk: SimDisk) -> (SimDisk, Promised) {
    let mut promised = Promised::default();
    promised.live(&disk).expect("the disk is well");
    (disk, promised)
}

#[test]
fn a_journal_reads_back_what_was_acknowledged() {
    let (disk, mut promised) = lived(SimDisk::new(1));
    promised.live(&disk).expect("the disk is well");
    assert!(disk.segments().len() >= 4, "the scenario rolls");
    let (_, reader) = promised.check_start(&disk).expect("the disk is well");
    for position in 0..promised.durable {
        assert_eq!(reader.load(Position(position)).expect("durable"), record(position));
    }
    let beyond = reader.load(Position(promised.durable));
    assert!(matches!(beyond, Err(JournalError::NoRecord(_))), "{beyond:?}");
}

/// FAULTS 1 and 11, on a disk that fails.
#[test]
fn after_any_failed_operation_the_journal_does_nothing_more_and_loses_nothing() {
    let (disk, promised) = lived(SimDisk::new(2));
    let before = disk.operations();
    let healthy = disk.copy(2);
    promised.clone().live(&healthy).expect("the disk is well");
    let operations = healthy.operations() - before;
    assert!(operations > 40, "{operations}");
    for (operation, failure) in (0..operations).flat_map(|n| FAILURES.map(|failure| (n, failure))) {
        let (failing, mut promised) = (disk.copy(operation), promised);
        failing.fail_after(operation, failure);
        assert!(promised.live_until_failure(&failing), "operation {operation} fails");
        assert_eq!(failing.operations_after_failure(), 0, "operation {operation} {failure:?}");
        for cut in 0..3 {
            let (restarted, mut promised) = (failing.copy(operation ^ cut), promised);
            restarted.heal();
            if cut > 0 {
                restarted.cut_power();
            }
            let lived = promised.live(&restarted);
            lived.unwrap_or_else(|error| panic!("operation {operation} {failure:?}, cut {cut}: {error}"));
        }
    }
}

/// FAULTS 25.
#[test]
fn a_crash_during_recovery_converges() {
    let (disk, promised) = lived(SimDisk::new(3));
    for operation in (0..40).step_by(4) {
        let (crashed, mut promised) = (disk.copy(operation), promised);
        crashed.fail_after(operation, Failure::Half);
        assert!(promised.live_until_failure(&crashed), "operation {operation} fails");
        for second in 0..12 {
            for failure in FAILURES {
                let (recovering, mut promised) = (crashed.copy(second), promised);
                recovering.cut_power();
                recovering.fail_after(second, failure);
                if promised.live_until_failure(&recovering) {
                    recovering.cut_power();
                }
                recovering.heal();
                promised.live(&recovering).expect("the disk is well again");
            }
        }
    }
}

/// Lives through a few crashes at chance places, each with or without a power cut.
fn soak(seed: u64, lie: Option<DiskLie>) {
    let (disk, mut promised) = lived(SimDisk::lying(seed, lie));
    let mut chance = Chance::new(seed);
    for _ in 0..6 {
        let failure = *chance.pick(&FAILURES);
        disk.fail_after(chance.below(60), failure);
        promised.live_until_failure(&disk);
        disk.heal();
        if chance.one_in(2) {
            disk.cut_power();
        }
    }
    let lived = promised.live(&disk);
    lived.unwrap_or_else(|error| panic!("broken promise with seed {seed}: {error}"));
}

/// FAULTS 2, 3 and 22: any part of what was not synced is lost, and any name.
#[test]
fn any_run_of_crashes_and_power_cuts_keeps_every_promise() {
    for seed in 0..100 {
        soak(seed, None);
    }
}

#[test]
#[should_panic(expected = "broken promise")]
fn the_harness_notices_a_disk_whose_sync_does_nothing() {
    (0..20).for_each(|seed| soak(seed, Some(DiskLie::SyncSkipped)));
}

/// FAULTS 21.
#[test]
#[should_panic(expected = "broken promise")]
fn the_harness_notices_a_disk_whose_directory_sync_does_nothing() {
    (0..20).for_each(|seed| soak(seed, Some(DiskLie::DirectorySyncSkipped)));
}

/// FAULTS 13.
#[test]
fn what_a_start_showed_survives_a_power_cut_though_the_failed_sync_before_it_lied() {
    for operation in 0..40 {
        let (disk, mut promised) = lived(SimDisk::new(operation));
        disk.fail_after(operation, Failure::Before);
        assert!(promised.live_until_failure(&disk));
        disk.heal();
        // The page cache still shows the batch; whoever counts it from here on may rely on it.
        promised.check_start(&disk).expect("the disk is well again");
        disk.cut_power();
        promised.check_start(&disk).expect("the disk is well again");
    }
}

#[test]
fn a_writer_that_failed_stays_stopped() {
    let (disk, _) = lived(SimDisk::new(5));
    let (mut writer, _, _) = start(disk.shared()).expect("the disk is well");
    disk.fail_after(1, Failure::Before);
    let failed = append(&mut writer, 1).expect_err("the sync fails");
    assert_eq!(failed.exit_code(), 70);
    assert!(matches!(append(&mut writer, 1), Err(JournalError::Stopped)));
    assert!(matches!(writer.seal(), Err(JournalError::Stopped)));
    assert!(matches!(writer.roll(&[]), Err(JournalError::Stopped)));
    assert_eq!(disk.operations_after_failure(), 0);
}

#[test]
fn idle_restarts_take_no_room() {
    let (disk, mut promised) = lived(SimDisk::new(6));
    promised.check_start(&disk).expect("the disk is well");
    let segments = disk.segments();
    for _ in 0..5 {
        promised.check_start(&disk).expect("the disk is well");
        assert_eq!(disk.segments(), segments);
    }
}
