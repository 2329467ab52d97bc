//! The journal's thread panics: nothing that was not durable is acknowledged, and the process ends.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    handle::{LONG, journal},
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

/// A real disk whose code panics in one of its writes.
struct Buggy {
    disk: Arc<dyn Disk>,
    left: Arc<AtomicUsize>,
}

struct BuggyFile {
    file: Arc<dyn SegmentFile>,
    left: Arc<AtomicUsize>,
}

impl Buggy {
    fn file(&self, file: Arc<dyn SegmentFile>) -> Arc<dyn SegmentFile> {
        Arc::new(BuggyFile { file, left: self.left.clone() })
    }
}

impl Disk for Buggy {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        self.disk.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        self.disk.open(name).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn random_id(&self) -> io::Result<SegmentId> {
        self.disk.random_id()
    }
}

impl SegmentFile for BuggyFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        assert!(left > 0, "a bug in the disk's code");
        self.file.write_at(bytes, offset)
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.file.cut(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Run by the test below in a process of its own.
#[test]
#[ignore = "needs a directory, and ends its process"]
fn lives_on_a_disk_with_a_bug() {
    let directory = std::env::var(DIRECTORY).expect("the parent names it");
    let writes = std::env::var(WRITES).expect("the parent says").parse().expect("a number");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(Path::new(&directory)).expect("ours"));
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let (journal, _, events, _) = journal(Arc::new(Buggy { disk, left: left.clone() }), OPTIONS);
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
