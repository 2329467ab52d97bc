//! The seam between the log and the file system.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// A folder of files, named by relative paths with `/` between folders.
///
/// What is assumed of it: after a crash each file that was being put is whole, old or new, whatever became of
/// the others; what [`Folder::put`] returned for stays.
pub trait Folder: Send + Sync {
    /// A file's bytes; `None` where there is none.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Writes whole files in place of those of the same name; all of them are durable on return.
    ///
    /// # Errors
    /// What the system says. Some of the files may be new then, and none is half of both.
    fn put(&self, files: &[(String, Vec<u8>)]) -> io::Result<()>;

    /// Removes a file or a folder with all that is in it. One that is not there is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// The names in a folder, rising; none where there is no such folder.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
}

/// A folder of the real file system. Files are made in a folder beside it, so that it never holds half of one.
#[derive(Clone, Debug)]
pub struct DiskFolder {
    root: PathBuf,
    making: PathBuf,
}

impl DiskFolder {
    /// Opens `root`, which is made where it is missing, as is `root.making` beside it.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(root: &Path) -> io::Result<DiskFolder> {
        let mut making = root.as_os_str().to_owned();
        making.push(".making");
        let making = PathBuf::from(making);
        fs::create_dir_all(root)?;
        if making.exists() {
            fs::remove_dir_all(&making)?;
        }
        fs::create_dir_all(&making)?;
        Ok(DiskFolder { root: root.to_owned(), making })
    }

    /// Looks at a folder that somebody else keeps: nothing is made, and [`Folder::put`] fails.
    pub fn observe(root: &Path) -> DiskFolder {
        DiskFolder { root: root.to_owned(), making: root.join("not-ours") }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Folder for DiskFolder {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match patiently(|| fs::read(self.root.join(path))) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for (place, (_, bytes)) in files.iter().enumerate() {
            patiently(|| fs::write(self.making.join(place.to_string()), bytes))?;
        }
        // One call for all of them: a sync for each of a thousand tiles takes seconds.
        sync(&self.making)?;
        for (place, (path, _)) in files.iter().enumerate() {
            let target = self.root.join(path);
            let folder = target.parent().unwrap_or(&self.root);
            if folders.insert(folder.to_owned()) {
                fs::create_dir_all(folder)?;
            }
            fs::rename(self.making.join(place.to_string()), &target)?;
        }
        sync(&self.root)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.root.join(path);
        let removed = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => patiently(|| fs::remove_dir_all(&path)),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = match patiently(|| fs::read_dir(self.root.join(path))) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Makes durable whatever was written to the file system that holds a folder, names included.
fn sync(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(patiently(|| File::open(folder))?)?)
}

/// Waits while the process or the system has no file descriptor left: peers use them up, and give them back. No
/// envelope waits for it.
fn patiently<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if NO_DESCRIPTORS.contains(&error.raw_os_error()) => thread::sleep(PATIENCE),
            done => return done,
        }
    }
}

/// Of the process, and of the system.
const NO_DESCRIPTORS: [Option<i32>; 2] =
    [Some(rustix::io::Errno::MFILE.raw_os_error()), Some(rustix::io::Errno::NFILE.raw_os_error())];
/// Between two attempts.
const PATIENCE: Duration = Duration::from_millis(100);
