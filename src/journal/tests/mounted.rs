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
    /// Whether the file lies on a disk of its own, which may be smaller than the file.
    is_thin: bool,
}

impl Mounted {
    /// `None`, said on standard error, where this user may not mount.
    fn new(mebibytes: u64) -> Option<Mounted> {
        Mounted { folder: tempfile::tempdir().expect("a temporary directory"), is_thin: false }
            .made(mebibytes)
    }

    /// The file has so many mebibytes, and its disk so many kibibytes.
    fn thin(mebibytes: u64, disk_kibibytes: u64) -> Option<Mounted> {
        let mut mounted =
            Mounted { folder: tempfile::tempdir().expect("a temporary directory"), is_thin: false };
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={disk_kibibytes}k"), "tmpfs"])
            .arg(mounted.folder.path());
        if let Err(problem) = run(&mut mount) {
            eprintln!("skipped: no disk of its own can be mounted here ({problem})");
            return None;
        }
        mounted.is_thin = true;
        mounted.made(mebibytes)
    }

    /// The thin file's disk has more room from now on.
    fn give_room(&self) {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "remount,size=64m"]).arg(self.folder.path())).expect("it was mounted");
    }

    fn made(self, mebibytes: u64) -> Option<Mounted> {
        let mounted = self;
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
        let unmounted = self.unmount();
        let below = if self.is_thin { run(Command::new("umount").arg(self.folder.path())) } else { Ok(()) };
        if let Err(problem) = unmounted.and(below) {
            eprintln!("not unmounted: {problem}");
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(told.trim().to_owned()) }
}

/// More than the disks of these tests hold.
const RECORDS_MAX: u64 = 1_000;

fn file_disk(directory: &Path) -> Arc<dyn Disk> {
    Arc::new(FileDisk::open(directory).expect("the directory is ours"))
}

/// FAULTS 10 and 28.
#[test]
fn a_full_file_system_defers_what_can_wait_and_resumes_by_itself() {
    let Some(mounted) = Mounted::new(5) else { return };
    lives_through_a_full_disk(&file_disk(&mounted.journal()), 256 * 1024);
}

/// Appends until the disk fails for good, as it has to by then; gives how many records were acknowledged.
fn append_until_it_fails(writer: &mut Writer) -> u64 {
    for _ in 0..RECORDS_MAX {
        let durable = writer.next_position().0;
        match append(writer, 1) {
            Ok(_) => {}
            Err(error @ JournalError::Disk { .. }) => {
                assert_eq!(error.exit_code(), 70, "{error}");
                return durable;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk never fails")
}

/// FAULTS 18: a file system that met a fault of its own lets nothing more be written.
#[test]
fn a_file_system_that_becomes_read_only_stops_the_journal_and_takes_nothing_back() {
    let Some(mounted) = Mounted::new(24) else { return };
    let (mut writer, _, _) = start(file_disk(&mounted.journal())).expect("a new journal");
    for _ in 0..5 {
        append(&mut writer, 3).expect("the disk is well");
    }
    run(Command::new("mount").args(["-o", "remount,abort"]).arg(mounted.root())).expect("ext4 knows how to");
    assert_eq!(append_until_it_fails(&mut writer), 15);
    drop(writer);
    mounted.unmount().expect("nobody uses it");
    mounted.mount().expect("it is repaired");
    assert!((15..=16).contains(&restarted(&mounted.journal())));
}

/// FAULTS 11: the file system has room, and the disk below it has none. It is told only when the data is to get there.
#[test]
fn a_disk_that_has_less_room_than_it_says_stops_the_journal_which_recovers_what_it_acknowledged() {
    for disk_kibibytes in (700..2_200).step_by(300) {
        let Some(mounted) = Mounted::thin(24, disk_kibibytes) else { return };
        let Ok((mut writer, _, _)) = start(file_disk(&mounted.journal())) else {
            assert!(disk_kibibytes < 1_500, "there is room for a first segment");
            continue;
        };
        let durable = append_until_it_fails(&mut writer);
        drop(writer);
        mounted.give_room();
        mounted.unmount().expect("nobody uses it");
        mounted.mount().expect("it is repaired");
        let records = restarted(&mounted.journal());
        println!("{disk_kibibytes} KiB: {durable} acknowledged, {records} found");
        assert!((durable..=durable + 1).contains(&records), "{disk_kibibytes}: {records}, not {durable}");
    }
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
