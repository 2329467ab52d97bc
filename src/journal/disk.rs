//! The one seam between the journal and the world: a directory of files, and randomness.
//!
//! What is assumed of a disk: 512 bytes are written whole or not at all; what `sync` covered stays;
//! what it did not cover may survive in any part; a name is durable after `sync_directory`. After
//! a failed sync nothing is assumed, not even that reading tells what is on the disk.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::OFlags;

use super::JournalError;
use super::segment::SegmentId;

/// A directory that belongs to one journal. Names are plain file names.
pub trait Disk: Send + Sync {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file; fails if the name is taken.
    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// Gives a file another name, in place of whatever had that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all names durable as they are now. A failure is final.
    fn sync_directory(&self) -> io::Result<()>;
    /// Draws an id that nobody can foresee, so that no body can pose as a batch.
    fn random_id(&self) -> io::Result<SegmentId>;
}

/// An open file, read and written at offsets from any thread.
pub trait SegmentFile: Send + Sync {
    /// Bytes of the file.
    fn bytes(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`, or fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, or fails with any part of it written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Keeps the first `bytes` alone, and gives back the room of the rest; durable with the next sync.
    fn cut(&self, bytes: u64) -> io::Result<()>;
    /// Makes everything written so far durable (fdatasync). A failure is final.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the file system, locked for this process until it is dropped.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
    handle: File,
    /// Absent where the directory is only observed: then nothing can be written.
    lock: Option<File>,
}

const LOCK_NAME: &str = "lock";
/// Nobody but the owner reads what the relay keeps of who wrote to whom.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const WRITABLE_BY_OTHERS: u32 = 0o022;

impl FileDisk {
    /// Opens `directory`, made with mode 0700 if only it is missing, and locks it.
    ///
    /// # Errors
    /// [`JournalError::AlreadyRunning`] if another process holds it, and then nothing was
    /// touched; [`JournalError::Configuration`] if it is not a directory of this user that nobody
    /// else can write to.
    pub fn open(directory: &Path) -> Result<FileDisk, JournalError> {
        let refuse = |problem: String| JournalError::Configuration {
            directory: directory.display().to_string(),
            problem,
        };
        match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(refuse(format!("cannot be made ({error}): make its parent first"))),
        }
        let metadata =
            fs::metadata(directory).map_err(|error| refuse(format!("cannot be read ({error})")))?;
        let user = rustix::process::geteuid().as_raw();
        if !metadata.is_dir() {
            return Err(refuse("is no directory: name another in the configuration".into()));
        }
        if metadata.uid() != user {
            let owner = metadata.uid();
            return Err(refuse(format!(
                "belongs to user {owner}, not to {user}: chown it, or run as its owner"
            )));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(refuse("can be written by others: chmod it to 0700".into()));
        }
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(directory.join(LOCK_NAME))
            .map_err(|error| refuse(format!("cannot be written ({error}): check its mode and its mount")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::AlreadyRunning { directory: directory.display().to_string() });
            }
            Err(TryLockError::Error(error)) => return Err(refuse(format!("cannot be locked ({error})"))),
        }
        let handle = File::open(directory).map_err(|error| refuse(format!("cannot be opened ({error})")))?;
        Ok(FileDisk { directory: directory.to_owned(), handle, lock: Some(lock) })
    }

    /// Opens a directory that another process may hold, for reading alone.
    ///
    /// # Errors
    /// [`JournalError::Configuration`] if it cannot be read.
    pub fn observe(directory: &Path) -> Result<FileDisk, JournalError> {
        let handle = File::open(directory).map_err(|error| JournalError::Configuration {
            directory: directory.display().to_string(),
            problem: format!("cannot be read ({error}): name the folder of a journal, as its owner"),
        })?;
        Ok(FileDisk { directory: directory.to_owned(), handle, lock: None })
    }
}

impl Drop for FileDisk {
    fn drop(&mut self) {
        // By hand: a process that is being started by another thread holds a copy of the file until it runs its program.
        if let Some(lock) = &self.lock
            && let Err(error) = lock.unlock()
        {
            tracing::debug!(%error, "the lock goes with its file");
        }
    }
}

impl Disk for FileDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        let path = self.directory.join(name);
        Ok(Arc::new(DirectFile::open(options.open(&path)?, &path)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let path = self.directory.join(name);
        let writable = self.lock.is_some();
        let file = OpenOptions::new().read(true).write(writable).open(&path)?;
        Ok(Arc::new(if writable { DirectFile::open(file, &path) } else { DirectFile { file, direct: None } }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn random_id(&self) -> io::Result<SegmentId> {
        let mut id = [0; 16];
        let drawn = SystemRandom::new().fill(&mut id);
        drawn.map_err(|_| io::Error::other("the system gives no random bytes"))?;
        Ok(SegmentId(id))
    }
}

/// A file of the file system, written past the page cache where the file system can do that: no copy into
/// the kernel, and what is read back comes from the disk.
struct DirectFile {
    file: File,
    /// The same file opened for direct writes.
    direct: Option<File>,
}

thread_local! {
    /// From where this thread's direct writes are made: as large as its largest batch.
    static ROOM: RefCell<AlignedRoom> = RefCell::default();
}

/// What direct writes are aligned to, in memory, in length and in the file.
const DIRECT_BYTES: usize = 4096;

impl DirectFile {
    fn open(file: File, path: &Path) -> DirectFile {
        let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
        // Some file systems cannot (tmpfs): then writes go through the page cache as any program's.
        let direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok();
        DirectFile { file, direct }
    }
}

impl SegmentFile for DirectFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_aligned =
            bytes.len().is_multiple_of(DIRECT_BYTES) && offset.is_multiple_of(DIRECT_BYTES as u64);
        match &self.direct {
            Some(direct) if is_aligned => {
                ROOM.with_borrow_mut(|room| direct.write_all_at(room.aligned(bytes), offset))
            }
            _ => self.file.write_all_at(bytes, offset),
        }
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Memory that begins where direct writes want it to.
#[derive(Default)]
struct AlignedRoom(Vec<u8>);

impl AlignedRoom {
    /// A copy of `bytes`, aligned to [`DIRECT_BYTES`].
    fn aligned(&mut self, bytes: &[u8]) -> &[u8] {
        let needed = bytes.len() + DIRECT_BYTES;
        if self.0.len() < needed {
            self.0 = vec![0; needed];
        }
        let start = self.0.as_ptr().align_offset(DIRECT_BYTES);
        let aligned = &mut self.0[start..start + bytes.len()];
        aligned.copy_from_slice(bytes);
        aligned
    }
}
