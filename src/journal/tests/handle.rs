//! The journal's thread, over a real directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::sim::{Failure, SimDisk};
use super::*;
use crate::journal::{Append, AppendError, Event, FileDisk, Journal, Urgency};
use crate::record::Ticket;

/// Longer than any test may take: a wait that ends by this is a failure.
pub(super) const LONG: Duration = Duration::from_secs(20);

fn file_disk(directory: &Path) -> Arc<dyn Disk> {
    Arc::new(FileDisk::open(directory).expect("the directory is ours"))
}

/// A running journal whose events the test takes from a channel; tells the records found.
pub(super) fn journal(disk: Arc<dyn Disk>, options: Options) -> (Journal, Reader, Receiver<Event>, u64) {
    let (sender, events) = channel();
    // Nobody listens any more once a test has failed.
    let tell = move |event| sender.send(event).unwrap_or_default();
    let (journal, reader, records) = journal_telling(disk, options, tell);
    (journal, reader, events, records)
}

fn journal_telling(
    disk: Arc<dyn Disk>,
    options: Options,
    events: impl FnMut(Event) + Send + 'static,
) -> (Journal, Reader, u64) {
    let mut counter = Counter::default();
    let mut replay = |replayed| counter.replay(replayed);
    let recovered = recover::<JournalError>(disk, options, &mut replay).expect("a whole journal");
    let base = recovered.next_position().0.to_be_bytes();
    let (writer, reader) = recovered.open(&base, &mut replay).expect("the disk is well");
    let journal = Journal::start(writer, events).expect("threads can be started");
    (journal, reader, counter.records)
}

fn appends(positions: std::ops::Range<u64>, urgency: Urgency) -> Vec<Append> {
    let append = |position| Append { ticket: Ticket(1000 + position), record: record(position), urgency };
    positions.map(append).collect()
}

/// Plays the engine until all records up to `end` are durable; returns the batches' sizes.
fn run_until(journal: &Journal, events: &Receiver<Event>, durable: &mut u64, end: u64) -> Vec<usize> {
    let mut batches = Vec::new();
    while *durable < end {
        match events.recv_timeout(LONG).expect("the journal goes on") {
            Event::Durable(records) => {
                batches.push(records.len());
                for (ticket, position) in records {
                    assert_eq!((ticket, position), (Ticket(1000 + *durable), Position(*durable)));
                    *durable += 1;
                }
            }
            Event::BaseWanted => journal.base(durable.to_be_bytes().to_vec()).expect("it listens"),
            // Whoever does not answer keeps everything.
            Event::NeededWanted(_) => {}
            Event::Room(has_room) => panic!("room: {has_room}"),
            Event::Erased(erased) => panic!("erased: {erased:?}"),
            Event::Failed(error) => panic!("{error}"),
        }
    }
    batches
}

#[test]
fn records_become_durable_in_ticket_order_across_segments_and_restarts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut durable = 0;
    for _ in 0..3 {
        let (journal, reader, events, records) = journal(file_disk(directory.path()), OPTIONS);
        assert_eq!(records, durable);
        for first in (durable..durable + 60).step_by(5) {
            journal.append(appends(first..first + 5, Urgency::Now)).expect("room");
        }
        let end = durable + 60;
        run_until(&journal, &events, &mut durable, end);
        assert_eq!(reader.load(Position(end - 1)).expect("durable"), record(end - 1));
        journal.stop();
    }
    let segments = fs::read_dir(directory.path()).expect("a directory").count();
    assert!(segments > 10, "{segments}");
}

#[test]
fn receipts_alone_wait_for_a_batch_to_ride_with() {
    let options = Options { receipts_wait_max: LONG * 10, ..OPTIONS };
    let (journal, _, events, mut durable) = journal(SimDisk::new(1).shared(), options);
    journal.append(appends(0..2, Urgency::Rides)).expect("room");
    journal.append(appends(2..3, Urgency::Now)).expect("room");
    assert_eq!(run_until(&journal, &events, &mut durable, 3), [3]);
    journal.stop();
}

#[test]
fn receipts_alone_go_when_nothing_comes_to_ride_with() {
    let (journal, _, events, mut durable) = journal(SimDisk::new(1).shared(), OPTIONS);
    journal.append(appends(0..2, Urgency::Rides)).expect("room");
    assert_eq!(run_until(&journal, &events, &mut durable, 2), [2]);
    journal.stop();
}

#[test]
fn what_is_handed_in_during_a_roll_follows_after_it() {
    let (journal, _, events, mut durable) = journal(SimDisk::new(1).shared(), OPTIONS);
    let mut handed_in = 0;
    loop {
        journal.append(appends(handed_in..handed_in + 1, Urgency::Now)).expect("room");
        handed_in += 1;
        match events.recv_timeout(LONG).expect("the journal goes on") {
            Event::Durable(records) => durable += records.len() as u64,
            Event::BaseWanted => break,
            Event::NeededWanted(_) | Event::Room(_) => {}
            Event::Erased(erased) => panic!("erased: {erased:?}"),
            Event::Failed(error) => panic!("{error}"),
        }
    }
    journal.append(appends(handed_in..handed_in + 9, Urgency::Now)).expect("room");
    journal.base(durable.to_be_bytes().to_vec()).expect("it listens");
    run_until(&journal, &events, &mut durable, handed_in + 9);
    journal.stop();
}

#[test]
fn a_segment_that_is_asked_for_begins_with_the_next_batch() {
    let disk = SimDisk::new(1);
    let (journal, _, events, mut durable) = journal(disk.shared(), OPTIONS);
    assert!(journal.roll());
    for end in 1..=2 {
        journal.append(appends(end - 1..end, Urgency::Now)).expect("room");
        run_until(&journal, &events, &mut durable, end);
        assert_eq!(disk.segments().len(), 2, "one segment, and once");
    }
    journal.stop();
}

#[test]
fn a_full_queue_gives_the_records_back() {
    let options = Options { queue_bytes_max: 1, queue_appends_max: 1, ..OPTIONS };
    let (journal, _, events, mut durable) = journal(SimDisk::new(1).shared(), options);
    let (mut next, mut refused) = (0, 0);
    while refused < 3 {
        match journal.append(appends(next..next + 2, Urgency::Now)) {
            Ok(()) => next += 2,
            Err(AppendError::Full(records)) => {
                assert_eq!(records.len(), 2);
                refused += 1;
                run_until(&journal, &events, &mut durable, next);
            }
            Err(AppendError::Stopped) => panic!("it runs"),
        }
    }
    journal.stop();
}

#[test]
fn an_idle_journal_is_sealed_and_so_is_a_stopped_one() {
    let seal_at_once = Options { seal_after: Duration::ZERO, ..OPTIONS };
    let never = Options { seal_after: LONG * 10, ..OPTIONS };
    for options in [seal_at_once, never.clone()] {
        let disk = SimDisk::new(1);
        let (journal, _, events, mut durable) = journal(disk.shared(), options.clone());
        journal.append(appends(0..1, Urgency::Now)).expect("room");
        run_until(&journal, &events, &mut durable, 1);
        let started = Instant::now();
        let sealed = || read(disk.copy(0).shared()).expect("a whole journal").0.unconfirmed() == 0;
        while options != never && !sealed() {
            assert!(started.elapsed() < LONG, "no seal came");
            std::thread::yield_now();
        }
        journal.stop();
        assert!(sealed());
    }
}

#[test]
fn a_failed_disk_is_told_once_and_ends_the_thread() {
    let disk = SimDisk::new(1);
    let options = Options { spare_segments: 0, ..OPTIONS };
    let (journal, reader, events, mut durable) = journal(disk.shared(), options);
    journal.append(appends(0..1, Urgency::Now)).expect("room");
    run_until(&journal, &events, &mut durable, 1);
    disk.fail_after(1, Failure::Before);
    journal.append(appends(1..3, Urgency::Now)).expect("room");
    match events.recv_timeout(LONG).expect("an event") {
        Event::Failed(error) => assert_eq!(error.exit_code(), 70),
        other => panic!("{other:?}"),
    }
    assert!(events.recv_timeout(LONG).is_err(), "nothing comes after it");
    assert!(matches!(journal.append(appends(3..4, Urgency::Now)), Err(AppendError::Stopped)));
    assert_eq!(reader.load(Position(0)).expect("durable"), record(0));
    assert!(matches!(reader.load(Position(1)), Err(JournalError::NoRecord(1))));
    assert_eq!(disk.operations_after_failure(), 0);
    journal.stop();
}

/// FAULTS 20.
#[test]
fn a_second_instance_is_told_and_the_first_is_unharmed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (journal, _, events, mut durable) = journal(file_disk(directory.path()), OPTIONS);
    let second = FileDisk::open(directory.path()).expect_err("the first holds it");
    assert!(matches!(second, JournalError::AlreadyRunning { .. }), "{second}");
    assert_eq!(second.exit_code(), 73);
    journal.append(appends(0..9, Urgency::Now)).expect("room");
    run_until(&journal, &events, &mut durable, 9);
    journal.stop();
    drop(events);
    assert_eq!(start(file_disk(directory.path())).expect("free again").2, 9);
}

/// FAULTS 19.
#[test]
fn a_directory_that_others_can_write_to_or_that_is_none_is_refused_with_what_to_do() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let directory = parent.path().join("journal");
    drop(file_disk(&directory));
    assert_eq!(fs::metadata(&directory).expect("made").permissions().mode() & 0o777, 0o700);
    fs::set_permissions(&directory, Permissions::from_mode(0o770)).expect("ours");
    let open = FileDisk::open(&directory).expect_err("writable by others");
    // What is not ours: made so where the test may, else what never is.
    let foreign = parent.path().join("foreign");
    fs::create_dir(&foreign).expect("ours");
    let is_given = std::os::unix::fs::chown(&foreign, Some(65_534), None).is_ok();
    let foreign = FileDisk::open(if is_given { &foreign } else { Path::new("/") }).expect_err("another's");
    let file = parent.path().join("file");
    fs::write(&file, "").expect("ours");
    let no_directory = FileDisk::open(&file).expect_err("a file");
    let no_parent = FileDisk::open(&parent.path().join("a/b")).expect_err("no parent");
    for (error, advice) in [
        (open, "chmod"),
        (foreign, "chown it"),
        (no_directory, "name another"),
        (no_parent, "make its parent"),
    ] {
        assert!(error.to_string().contains(advice), "{error}");
        assert_eq!(error.exit_code(), 78);
    }
}

/// Run by the test below in a process of its own, which it ends.
#[test]
#[ignore = "ends the process"]
fn panics_on_the_journal_thread() {
    let (journal, _, _) = journal_telling(SimDisk::new(1).shared(), OPTIONS, |event| panic!("{event:?}"));
    journal.append(appends(0..1, Urgency::Now)).expect("room");
    std::thread::sleep(LONG);
}

#[test]
fn a_panic_on_the_journal_thread_ends_the_process() {
    let this = std::env::current_exe().expect("a test binary has a path");
    let name = "journal::tests::handle::panics_on_the_journal_thread";
    let child = Command::new(this).args(["--ignored", "--exact", name]).output().expect("it runs");
    assert_eq!(child.status.code(), Some(70), "{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
fn an_answer_that_was_asked_for_sooner_gives_no_newer_segment_up() {
    const WAITS: Position = Position(30);
    let options = Options { retry_every: Duration::from_millis(1), ..OPTIONS };
    let (journal, reader, events, mut durable) = journal(SimDisk::new(1).shared(), options);
    journal.append(appends(0..60, Urgency::Now)).expect("room");
    let (mut answered, mut late) = (Position(0), None);
    loop {
        match events.recv_timeout(LONG).expect("the journal goes on") {
            Event::Durable(records) => durable += records.len() as u64,
            Event::BaseWanted => journal.base(durable.to_be_bytes().to_vec()).expect("it listens"),
            // Two segments later what waits was carried on.
            Event::NeededWanted(end) if durable == 60 && end > Position(WAITS.0 + 20) => break,
            // The answer before comes once more, and only when it is asked again the one that is due.
            Event::NeededWanted(end) if answered > Position(0) && late != Some(end) => {
                late = Some(end);
                let needed = (answered > WAITS).then_some(WAITS);
                journal.needed(answered, needed.into_iter().collect()).expect("it listens");
            }
            Event::NeededWanted(end) => {
                answered = end;
                let needed = (end > WAITS).then_some(WAITS);
                journal.needed(end, needed.into_iter().collect()).expect("it listens");
            }
            Event::Room(_) => {}
            Event::Erased(erased) => panic!("erased: {erased:?}"),
            Event::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(reader.load(WAITS).expect("it is waited for"), record(WAITS.0));
    journal.stop();
}
