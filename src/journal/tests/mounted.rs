//! A real file system of its own, on a file: it fills up, and its power is cut. Needs the right to mount; where that
//! is missing, these tests say so and pass.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::full::lives_through_a_full_disk;
use super::real::{child, last_said, restarted};
use super::*;
use crate::journal::FileDisk;

/// An ext4 in a file, mounted until it is dropped.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    /// `None`, said on standard error, where this user may not mount.
    fn new(mebibytes: u64) -> Option<Mounted> {
        let mounted = Mounted { folder: tempfile::tempdir().expect("a temporary directory") };
        let image = std::fs::File::create(mounted.folder.path().join("image")).expect("ours");
        image.set_len(mebibytes * 1024 * 1024).expect("ours");
        std::fs::create_dir(mounted.root()).expect("ours");
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(mounted.image()));
        if let Err(problem) = made.and_then(|()| mounted.mount()) {
            eprintln!("skipped: no file system of its own can be mounted here ({problem})");
            return None;
        }
        Some(mounted)
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.root()))
    }

    fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(self.root()))
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn journal(&self) -> PathBuf {
        self.root().join("journal")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(problem) = self.unmount() {
            eprintln!("not unmounted: {problem}");
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(told.trim().to_owned()) }
}

fn file_disk(directory: &Path) -> Arc<dyn Disk> {
    Arc::new(FileDisk::open(directory).expect("the directory is ours"))
}

/// FAULTS 10 and 28.
#[test]
fn a_full_file_system_defers_what_can_wait_and_resumes_by_itself() {
    let Some(mounted) = Mounted::new(5) else { return };
    lives_through_a_full_disk(&file_disk(&mounted.journal()), 256 * 1024);
}

/// FAULTS 2 and 22: the power goes after the n-th acknowledgement of one life after the other, which roll. As
/// writes go past the page cache, what it takes are names and lengths; lost sectors are the simulated disk's.
#[test]
fn whatever_was_acknowledged_when_the_power_went_is_there_afterwards() {
    let Some(mounted) = Mounted::new(24) else { return };
    let cut_power = mounted.folder.path().join("cut_power");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal/tests/cut_power.c");
    run(Command::new("cc").arg("-o").arg(&cut_power).arg(source)).expect("a C compiler, as for SQLite");
    let (mut durable, mut attempted) = (0, 0);
    for batches in 1..=10 {
        let mut life = child(&mounted.journal()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let life = life.as_mut().expect("it runs");
        let (mut said, mut acknowledged) = (String::new(), 0);
        for line in BufReader::new(life.stdout.take().expect("piped")).lines() {
            let line = line.expect("readable");
            acknowledged += u64::from(line.starts_with("durable "));
            said = said + &line + "\n";
            if acknowledged == batches {
                acknowledged += 1;
                run(Command::new(&cut_power).arg(mounted.root())).expect("ext4 knows how to");
            }
        }
        life.wait().expect("it ends");
        durable = last_said(&said, "durable ").unwrap_or(0).max(durable);
        attempted = last_said(&said, "attempted ").unwrap_or(0).max(attempted);
        mounted.unmount().expect("nobody uses it");
        mounted.mount().expect("the power is back");
        let records = restarted(&mounted.journal());
        let fits = (durable..=attempted.max(durable)).contains(&records);
        assert!(fits, "after {batches} batches: {records}, not {durable} to {attempted}");
        durable = records;
    }
}
