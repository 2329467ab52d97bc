//! A real directory under a real kernel: `shim.c` stands between, cuts writes short and kills.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::*;
use crate::journal::FileDisk;

/// Where the child finds its journal.
const DIRECTORY: &str = "POUCH_TEST_JOURNAL";
const BATCHES: u64 = 10;

fn file_disk(directory: &Path) -> Arc<dyn Disk> {
    Arc::new(FileDisk::open(directory).expect("the directory is ours"))
}

/// Run by the tests below in processes of their own: a start, and traffic that rolls. What it may rely on it
/// says on standard output, which outlives it.
#[test]
#[ignore = "needs a directory, and may be killed"]
fn lives_in_a_directory() {
    let directory = std::env::var(DIRECTORY).expect("the parent names it");
    let (mut writer, _, records) = start(file_disk(Path::new(&directory))).expect("a whole journal");
    println!("durable {records}");
    for batch in 0..BATCHES {
        let count = 1 + batch % 4;
        println!("attempted {}", writer.next_position().0 + count);
        append(&mut writer, count).expect("the disk is well");
        println!("durable {}", writer.next_position().0);
        if batch % 3 == 0 {
            writer.seal().expect("the disk is well");
        }
    }
}

struct Shim {
    folder: tempfile::TempDir,
}

impl Shim {
    fn build() -> Shim {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal/tests/shim.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("shim.so")).arg(source);
        let built = compiler.output().expect("a C compiler, as for SQLite");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Shim { folder }
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn live(&self, directory: &Path, shim: &[(&str, &str)]) -> Output {
        let mut child = child(directory);
        child.env("LD_PRELOAD", self.folder.path().join("shim.so"));
        child.envs(shim.iter().copied()).output().expect("it runs")
    }
}

/// A process that runs [`lives_in_a_directory`].
pub(super) fn child(directory: &Path) -> Command {
    let this = std::env::current_exe().expect("a test binary has a path");
    let name = "journal::tests::real::lives_in_a_directory";
    let mut child = Command::new(this);
    child.args(["--ignored", "--exact", "--nocapture", name]).env(DIRECTORY, directory);
    child
}

/// The last number that a child said under a name.
pub(super) fn last_said(text: &str, name: &str) -> Option<u64> {
    let mut said = text.lines().filter_map(|line| line.split_once(name)?.1.trim().parse().ok());
    said.next_back()
}

/// Starts in this process, and checks every record.
pub(super) fn restarted(directory: &Path) -> u64 {
    let (_, reader, records) = start(file_disk(directory)).expect("a whole journal");
    for position in 0..records {
        assert_eq!(reader.load(Position(position)).expect("durable"), record(position));
    }
    records
}

/// FAULTS 15.
#[test]
fn writes_that_the_kernel_cuts_short_are_completed_and_every_checksum_fits() {
    let shim = Shim::build();
    let directory = shim.directory("journal");
    let output = shim.live(&directory, &[("SHIM_WRITE_BYTES_MAX", "4096")]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("shortened") && !told.contains("shortened 0"), "{told}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(Some(restarted(&directory)), last_said(&said, "durable "));
}

/// FAULTS 1: a SIGKILL before, within or after each write, sync, rename and removal of a first start and of
/// the traffic and rolls after it; and then again in the start after that.
#[test]
fn a_process_killed_at_any_operation_has_kept_what_it_acknowledged() {
    let shim = Shim::build();
    let directory = |operation: usize| shim.directory(&operation.to_string());
    for (operation, how) in (1..).zip(["before", "half", "after"].into_iter().cycle()) {
        let at = operation.to_string();
        let first = shim.live(&directory(operation), &[("SHIM_KILL_AT", &at), ("SHIM_KILL", how)]);
        if first.status.success() {
            return assert!(operation > 40, "{operation} operations");
        }
        let again = (1 + operation % 7).to_string();
        let second = shim.live(&directory(operation), &[("SHIM_KILL_AT", &again), ("SHIM_KILL", how)]);
        let said = [first, second].map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let most = |name| said.iter().filter_map(|said| last_said(said, name)).max().unwrap_or(0);
        let (durable, attempted) = (most("durable "), most("attempted "));
        let records = restarted(&directory(operation));
        let fits = (durable..=attempted.max(durable)).contains(&records);
        assert!(fits, "operation {operation} {how}: {records}, not {durable} to {attempted}");
    }
}
