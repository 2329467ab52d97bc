//! `pouch demo tamper`: one byte of the audit log changed behind the relay's back, for whoever wants to see it found.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::audit::{Bundle, BundlePath, Checkpoint, TILE_HASHES};
use crate::demo::DemoError;
use crate::limits::{CHECKPOINT_BYTES_MAX, LOG_BUNDLE_BYTES_MAX};
use crate::note::Note;
use crate::record::leaf::{TRAFFIC_LEAF_BYTES, is_traffic};
use crate::tiles::CHECKPOINT_FILE;

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampered {
    /// The leaf.
    pub index: u64,
    /// The file that holds it.
    pub file: PathBuf,
    /// The byte's place in the file.
    pub offset: u64,
    /// Before and after.
    pub bytes: (u8, u8),
}

/// Changes one byte of the newest traffic leaf that the log's checkpoint covers, in the file that whoever verifies
/// the log reads.
///
/// # Errors
/// [`DemoError::NothingToTamper`] while no checkpoint is published, [`DemoError::File`].
pub fn tamper(log: &Path) -> Result<Tampered, DemoError> {
    let size = published(log)?.ok_or(DemoError::NothingToTamper)?.size;
    for index in (0..size).rev() {
        let path =
            BundlePath::in_log(index / TILE_HASHES, size).expect("a leaf below the size has its bundle");
        let file = file_of(log, path)?;
        let bytes = read(&file, LOG_BUNDLE_BYTES_MAX)?.ok_or(DemoError::NothingToTamper)?;
        let within = u16::try_from(index % TILE_HASHES).expect("below 256");
        let start = Bundle::end_of(&bytes, within).map_err(|_| DemoError::NothingToTamper)? + LENGTH_BYTES;
        let offset = start + TRAFFIC_LEAF_BYTES - 1;
        if bytes.get(start..).is_some_and(is_traffic) && offset < bytes.len() {
            let (before, after) = (bytes[offset], bytes[offset] ^ 1);
            let offset = u64::try_from(offset).expect("a bundle is far below 2^64 bytes");
            let tampered = Tampered { index, file, offset, bytes: (before, after) };
            tampered.put(after)?;
            return Ok(tampered);
        }
    }
    Err(DemoError::NothingToTamper)
}

/// Does so in the log of a running relay and in a copy that is made at `copy`, and says what was changed in the copy.
/// With the next traffic the relay writes a file that is not yet full anew, from memory, and the change is gone.
///
/// # Errors
/// As [`tamper`].
pub fn tamper_running(log: &Path, copy: &Path) -> Result<Tampered, DemoError> {
    copy_log(log, copy)?;
    let tampered = tamper(copy)?;
    let within = tampered.file.strip_prefix(copy).expect("it was found below the copy");
    Tampered { file: log.join(within), ..tampered.clone() }.put(tampered.bytes.1)?;
    Ok(tampered)
}

impl Tampered {
    /// Puts the byte back.
    ///
    /// # Errors
    /// [`DemoError::File`].
    pub fn mend(&self) -> Result<(), DemoError> {
        self.put(self.bytes.0)
    }

    fn put(&self, byte: u8) -> Result<(), DemoError> {
        let put = || {
            let mut file = OpenOptions::new().write(true).open(&self.file)?;
            file.seek(SeekFrom::Start(self.offset))?;
            file.write_all(&[byte])
        };
        put().map_err(DemoError::file(&self.file))
    }
}

/// Copies a log as it is at one moment: the checkpoint first, so that whatever grows meanwhile is beyond it.
fn copy_log(log: &Path, copy: &Path) -> Result<(), DemoError> {
    let path = log.join(CHECKPOINT_FILE);
    let checkpoint = read(&path, CHECKPOINT_BYTES_MAX)?.ok_or(DemoError::NothingToTamper)?;
    match fs::remove_dir_all(copy) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(DemoError::file(copy)(error)),
        Ok(()) | Err(_) => {}
    }
    for part in ["roster", "tile"] {
        copy_folder(&log.join(part), &copy.join(part))?;
    }
    let path = copy.join(CHECKPOINT_FILE);
    fs::write(&path, checkpoint).map_err(DemoError::file(&path))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), DemoError> {
    fs::create_dir_all(to).map_err(DemoError::file(to))?;
    for entry in fs::read_dir(from).map_err(DemoError::file(from))? {
        let entry = entry.map_err(DemoError::file(from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(DemoError::file(&from))?;
        let copied = if kind.is_dir() {
            copy_folder(&from, &to)
        } else {
            fs::copy(&from, &to).map(drop).map_err(DemoError::file(&from))
        };
        match copied {
            // A partial tile goes when the full one is there.
            Err(DemoError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            copied => copied?,
        }
    }
    Ok(())
}

const LENGTH_BYTES: usize = 2;

fn published(log: &Path) -> Result<Option<Checkpoint>, DemoError> {
    let note = read(&log.join(CHECKPOINT_FILE), CHECKPOINT_BYTES_MAX)?;
    let checkpoint = note.and_then(|note| Note::parse(&note).ok()?.text().parse().ok());
    Ok(checkpoint)
}

/// The file that a verifier reads: of this width, or the full one.
fn file_of(log: &Path, path: BundlePath) -> Result<PathBuf, DemoError> {
    let exact = log.join(path.to_string());
    let there = exact.try_exists().map_err(DemoError::file(&exact))?;
    let full = BundlePath { width: u16::try_from(TILE_HASHES).expect("256"), ..path };
    Ok(if there { exact } else { log.join(full.to_string()) })
}

fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, DemoError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Err(error) if ErrorKind::NotFound == std::io::Error::kind(&error) => Ok(None),
        read => read.map(Some).map_err(DemoError::file(path)),
    }
}
