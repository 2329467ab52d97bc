//! Segments that nobody needs are archived and used again, and nothing that is needed or was logged is lost.

use std::sync::Mutex;

use super::chance::Chance;
use super::hooked::{About, HookedDisk};
use super::sim::{FAILURES, SimDisk};
use super::*;
use crate::journal::archive;

/// What is still needed of all records below a position: every seventh.
fn needed(end: Position) -> Vec<Position> {
    (0..end.0).filter(|position| position.is_multiple_of(7)).map(Position).collect()
}

/// What is still needed when everything before the last `count` records is settled.
fn needed_of_last(count: u64, end: Position, next: Position) -> Vec<Position> {
    (next.0.saturating_sub(count)..end.0).map(Position).collect()
}

/// Appends records one by one up to `end`, and gives segments up after each.
fn live(
    writer: &mut Writer,
    end: u64,
    needed: impl Fn(Position) -> Vec<Position>,
) -> Result<(), JournalError> {
    while writer.next_position().0 < end {
        append(writer, 1)?;
        while let Some(end) = writer.oldest_end() {
            if !writer.retire_oldest(&needed(end))? {
                break;
            }
        }
    }
    Ok(())
}

/// Leaf, salt and opening of every position from 0 to `end`, from archives and segments together.
pub(super) fn log(disk: &dyn Disk, reader: &Reader, end: u64) -> Vec<Record> {
    let names = disk.list().expect("the disk is well");
    let (spans, _) = archive::spans(&names).expect("no archive is missing");
    let mut log = Vec::new();
    for span in spans {
        let each = |position, record| {
            assert_eq!(position, Position(log.len() as u64));
            log.push(record);
            Ok::<(), JournalError>(())
        };
        archive::read(disk, span, each).expect("a whole archive");
    }
    for position in log.len() as u64..end {
        let whole = reader.load(Position(position)).expect("kept");
        log.push(Record { header: Bytes::new(), body: Bytes::new(), ..whole });
    }
    log
}

pub(super) fn expected_log(end: u64) -> Vec<Record> {
    let bare = |record: Record| Record { header: Bytes::new(), body: Bytes::new(), ..record };
    records(0..end).into_iter().map(bare).collect()
}

#[test]
fn a_segment_of_which_nothing_is_needed_is_archived_and_used_again() {
    let disk = SimDisk::new(1);
    let (mut writer, reader, _) = start(disk.shared()).expect("the disk is well");
    live(&mut writer, 300, |_| Vec::new()).expect("the disk is well");
    assert!(disk.segments().len() <= 2, "{:?}", disk.segments());
    assert_eq!(log(&disk, &reader, 300), expected_log(300));
    drop(writer);
    let (_, counter) = read(disk.shared()).expect("the disk is well");
    assert!(counter.bases <= 2, "replay begins with the oldest segment kept");
}

/// How many spares there are, and how many of them held a segment before.
fn spares(disk: &SimDisk) -> (usize, usize) {
    let names = disk.list().expect("the disk is well");
    let called = |start: &str| names.iter().filter(|name| name.starts_with(start)).count();
    (called("spare-") + called("used-"), called("used-"))
}

#[test]
fn no_spare_is_filled_in_place_of_a_segment_that_is_about_to_be_given_up() {
    let disk = SimDisk::new(1);
    let (mut writer, ..) = start(disk.shared()).expect("the disk is well");
    writer.tend().expect("the disk is well");
    assert_eq!(spares(&disk), (2, 0));
    while disk.segments().len() < 2 {
        append(&mut writer, 1).expect("the disk is well");
    }
    writer.tend().expect("the disk is well");
    assert_eq!(spares(&disk), (1, 0), "the oldest may be given up");
    let first = writer.oldest_end().expect("two segments").0;
    assert!(writer.retire_oldest(&[]).expect("the disk is well"));
    writer.tend().expect("the disk is well");
    assert_eq!(spares(&disk), (2, 1), "and it was, without a spare for its archive");
    while disk.segments().len() < 2 {
        append(&mut writer, 1).expect("the disk is well");
    }
    let all: Vec<Position> = (first..writer.next_position().0).map(Position).collect();
    assert!(!writer.retire_oldest(&all).expect("the disk is well"));
    writer.tend().expect("the disk is well");
    assert_eq!(spares(&disk), (2, 1), "one is filled where it cannot be");
}

#[test]
fn what_is_still_needed_is_carried_on_and_found_after_every_start() {
    let disk = SimDisk::new(2);
    for end in [60, 140, 260] {
        let (mut writer, reader, _) = start(disk.shared()).expect("the disk is well");
        live(&mut writer, end, needed).expect("the disk is well");
        for position in needed(Position(end)) {
            assert_eq!(reader.load(position).expect("needed"), record(position.0), "{position}");
        }
        assert_eq!(log(&disk, &reader, end), expected_log(end));
    }
    assert!(!disk.segments().contains(&"segment-0000000000000000-0000000000000000".to_owned()));
}

#[test]
fn a_record_whose_segment_is_used_again_between_looking_it_up_and_reading_it_is_read_where_it_was_carried_to()
{
    type Step = Box<dyn FnOnce() + Send>;
    let before_read = Arc::new(Mutex::new(None::<Step>));
    let sim = SimDisk::new(7);
    let disk = HookedDisk::new(sim.shared(), {
        let before_read = before_read.clone();
        move |about| {
            let step = before_read.lock().expect("no step panics").take_if(|_| about == About::Read);
            if let Some(step) = step {
                step();
            }
        }
    });
    let (mut writer, reader, _) = start(Arc::new(disk)).expect("the disk is well");
    live(&mut writer, 9, needed).expect("the disk is well");
    let first = sim.segments()[0].clone();
    let goes_on = move || live(&mut writer, 200, needed).expect("the disk is well");
    *before_read.lock().expect("nobody holds it") = Some(Box::new(goes_on));
    assert_eq!(reader.load(Position(7)).expect("needed"), record(7));
    assert!(!sim.segments().contains(&first), "it was given up meanwhile");
}

#[test]
fn a_segment_stays_while_more_than_a_quarter_of_one_is_needed_of_it() {
    let disk = SimDisk::new(3);
    let (mut writer, reader, _) = start(disk.shared()).expect("the disk is well");
    live(&mut writer, 200, |end| (0..end.0).map(Position).collect()).expect("the disk is well");
    assert!(disk.segments().len() > 8, "{:?}", disk.segments());
    assert_eq!(reader.load(Position(0)).expect("kept"), record(0));
}

#[test]
fn recycling_survives_every_failed_operation_and_a_power_cut_behind_it() {
    let disk = SimDisk::new(4);
    let (mut writer, ..) = start(disk.shared()).expect("the disk is well");
    live(&mut writer, 40, needed).expect("the disk is well");
    drop(writer);
    let healthy = disk.copy(4);
    let before = healthy.operations();
    let run = |disk: &SimDisk| -> Result<(), JournalError> {
        let (mut writer, _, records) = start(disk.shared())?;
        live(&mut writer, records + 30, needed)
    };
    run(&healthy).expect("the disk is well");
    let operations = healthy.operations() - before;
    assert!(operations > 100, "{operations}");
    for operation in 0..operations {
        for failure in FAILURES {
            let disk = disk.copy(operation);
            disk.fail_after(operation, failure);
            if run(&disk).is_ok() {
                continue;
            }
            disk.heal();
            disk.cut_power();
            let (writer, reader, records) = start(disk.shared()).expect("a power cut is no damage");
            assert!(records >= 40, "operation {operation}: {records} records");
            for position in needed(Position(records)) {
                let found = reader.load(position);
                assert_eq!(found.expect("needed"), record(position.0), "operation {operation}, {failure:?}");
            }
            assert_eq!(log(&disk, &reader, records), expected_log(records), "operation {operation}");
            drop(writer);
        }
    }
}

#[test]
fn power_may_go_at_any_time_while_segments_are_used_again() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let mut chance = Chance::new(seed);
        let mut durable = 0;
        for _ in 0..6 {
            let (mut writer, reader, records) = start(disk.shared()).expect("a power cut is no damage");
            assert!(records >= durable, "seed {seed}: {records} of {durable}");
            let keep = chance.below(12);
            for position in needed_of_last(keep, Position(records), Position(records)) {
                assert_eq!(reader.load(position).expect("needed"), record(position.0), "seed {seed}");
            }
            durable = records + 1 + chance.below(40);
            let needed = |end| needed_of_last(12, end, Position(durable));
            live(&mut writer, durable, needed).expect("the disk is well");
            drop(writer);
            disk.heal();
            disk.cut_power();
        }
    }
}

#[test]
fn a_missing_archive_or_segment_behind_one_is_refused() {
    let disk = SimDisk::new(5);
    let (mut writer, ..) = start(disk.shared()).expect("the disk is well");
    live(&mut writer, 200, |_| Vec::new()).expect("the disk is well");
    drop(writer);
    let archives: Vec<_> =
        disk.list().expect("well").into_iter().filter(|name| name.starts_with("archive-")).collect();
    for name in archives.iter().chain(disk.segments().first()) {
        let copy = disk.copy(5);
        copy.remove(name).expect("well");
        let found = read(copy.shared()).map(|_| ());
        assert!(matches!(found, Err(JournalError::Corrupt { .. })), "{name}: {found:?}");
    }
}

#[test]
fn archives_that_changed_names_and_a_missing_note_are_refused() {
    let disk = SimDisk::new(6);
    let (mut writer, ..) = start(disk.shared()).expect("the disk is well");
    live(&mut writer, 200, |_| Vec::new()).expect("the disk is well");
    drop(writer);
    let (spans, _) = archive::spans(&disk.list().expect("well")).expect("none is missing");
    let names: Vec<_> =
        disk.list().expect("well").into_iter().filter(|name| name.starts_with("archive-")).collect();
    disk.rename(&names[1], &names[0]).expect("well");
    let swapped = archive::read(&*disk.shared(), spans[0], |_, _| Ok::<(), JournalError>(()));
    assert!(matches!(swapped, Err(JournalError::Corrupt { .. })), "{swapped:?}");
    let missing = archive::read_note(&*disk.shared(), Position(3));
    assert!(matches!(missing, Err(JournalError::Corrupt { position: 3, .. })), "{missing:?}");
}
