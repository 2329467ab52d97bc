//! The journal's thread panics: nothing that was not durable is acknowledged, and the process ends.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    handle::{LONG, journal},
    hooked::{About, HookedDisk},
    real::{last_said, restarted},
    *,
};
use crate::{
    journal::{Append, Event, FileDisk, Urgency},
    record::Ticket,
};

/// Where the child finds its journal, and after how many writes its disk has a bug.
const DIRECTORY: &str = "POUCH_TEST_PANICS";
const WRITES: &str = "POUCH_TEST_PANICS_AFTER";

/// Run by the test below in a process of its own.
#[test]
#[ignore = "needs a directory, and ends its process"]
fn lives_on_a_disk_with_a_bug() {
    let directory = std::env::var(DIRECTORY).expect("the parent names it");
    let writes = std::env::var(WRITES).expect("the parent says").parse().expect("a number");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(Path::new(&directory)).expect("ours"));
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let buggy = HookedDisk::new(disk, {
        let left = left.clone();
        move |about| {
            let is_bug = about == About::Write && left.fetch_sub(1, Ordering::SeqCst) == 0;
            assert!(!is_bug, "a bug in the disk's code");
        }
    });
    let (journal, _, events, _) = journal(Arc::new(buggy), OPTIONS);
    for position in 0.. {
        if position == 5 {
            left.store(writes, Ordering::SeqCst);
        }
        let append = Append { ticket: Ticket(position), record: record(position), urgency: Urgency::Now };
        println!("attempted {}", position + 1);
        journal.append(vec![append]).expect("the queue has room");
        loop {
            match events.recv_timeout(LONG).expect("the journal goes on, or the process ends") {
                Event::Durable(_) => break println!("durable {}", position + 1),
                Event::BaseWanted => {
                    journal.base(position.to_be_bytes().to_vec()).expect("it listens");
                }
                Event::NeededWanted(end) => {
                    journal.needed(end, (0..end.0).map(Position).collect()).expect("it listens");
                }
                Event::Room(_) | Event::Erased(_) => {}
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }
}

/// FAULTS 38.
#[test]
fn a_panic_in_the_journals_thread_ends_the_process_and_nothing_is_acknowledged_after_it() {
    for writes in [0, 1, 4] {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let this = std::env::current_exe().expect("a test binary has a path");
        let mut child = Command::new(this);
        child.args([
            "--ignored",
            "--exact",
            "--nocapture",
            "journal::tests::panics::lives_on_a_disk_with_a_bug",
        ]);
        child.env(DIRECTORY, folder.path()).env(WRITES, writes.to_string()).stdin(Stdio::null());
        let output = child.output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{told}");
        assert!(told.contains("a bug in the disk's code"), "{told}");
        let said = String::from_utf8_lossy(&output.stdout);
        let durable = last_said(&said, "durable ").expect("some were");
        let attempted = last_said(&said, "attempted ").expect("more were");
        assert!(durable >= 5 && attempted == durable + 1, "{said}");
        let records = restarted(folder.path());
        assert!((durable..=attempted).contains(&records), "{records}, not {durable} to {attempted}");
    }
}
