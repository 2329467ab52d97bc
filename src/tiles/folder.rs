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
/// the others; what [`Folder::show`] or [`Folder::put`] returned for stays.
pub trait Folder: Send + Sync {
    /// A file's bytes; `None` where there is none.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes whole files that nobody sees before they are shown. They need not be durable, and are gone when the folder is
    /// opened anew. Those that were made before under the same names are replaced.
    ///
    /// # Errors
    /// What the system says. Some of the files may be made then.
    fn make(&self, files: &[(String, Vec<u8>)]) -> io::Result<()>;

    /// Shows files that were made, in place of those of the same name; all of them are durable on return.
    ///
    /// # Errors
    /// What the system says. Some of the files may be new then, and none is half of both. Where it says that there is no
    /// room it can be tried again; a failed sync never says so.
    fn show(&self, paths: &[String]) -> io::Result<()>;

    /// Makes files and shows them.
    ///
    /// # Errors
    /// As [`Folder::make`] and [`Folder::show`].
    fn put(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        self.make(files)?;
        let paths: Vec<String> = files.iter().map(|(path, _)| path.clone()).collect();
        self.show(&paths)
    }

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
        // Files that are synced alone must not lie in a folder whose own name is not durable.
        sync_all(root)?;
        Ok(DiskFolder { root: root.to_owned(), making })
    }

    /// Looks at a folder that somebody else keeps: nothing is made, and [`Folder::make`] fails.
    pub fn observe(root: &Path) -> DiskFolder {
        DiskFolder { root: root.to_owned(), making: root.join("not-ours") }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a file lies before it is shown; no name of the log's has a plus sign.
    fn made(&self, path: &str) -> PathBuf {
        self.making.join(path.replace('/', "+"))
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

    fn make(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        files.iter().try_for_each(|(path, bytes)| patiently(|| fs::write(self.made(path), bytes)))
    }

    fn show(&self, paths: &[String]) -> io::Result<()> {
        // One call for many: a sync for each of a thousand tiles takes seconds. And none of the whole file system for a
        // few, where the journal waits for its own.
        let is_few = paths.len() <= SYNCED_ALONE_MAX;
        if is_few {
            paths.iter().try_for_each(|path| sync_alone(&self.made(path)).or_else(shown_before))?;
        } else {
            sync_all(&self.making)?;
        }
        let mut folders = BTreeSet::new();
        for path in paths {
            let target = self.root.join(path);
            let folder = target.parent().unwrap_or(&self.root);
            if folders.insert(folder.to_owned()) {
                fs::create_dir_all(folder)?;
            }
            fs::rename(self.made(path), &target)
                .or_else(|error| if target.exists() { shown_before(error) } else { Err(error) })?;
        }
        if !is_few {
            return sync_all(&self.root);
        }
        let above = |folder: &PathBuf| -> Vec<PathBuf> {
            let above = folder.ancestors().take_while(|above| above.starts_with(&self.root));
            above.map(Path::to_owned).collect()
        };
        let folders: BTreeSet<PathBuf> = folders.iter().flat_map(above).collect();
        folders.iter().try_for_each(|folder| sync_alone(folder))
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

/// A file that an earlier attempt has shown already.
fn shown_before(error: io::Error) -> io::Result<()> {
    if is_absent(&error) { Ok(()) } else { Err(error) }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Makes durable whatever was written to the file system that holds a folder, names included.
fn sync_all(folder: &Path) -> io::Result<()> {
    rustix::fs::syncfs(patiently(|| File::open(folder))?).map_err(|error| is_final(error.into()))
}

/// Makes one file durable, or the names in one folder.
fn sync_alone(path: &Path) -> io::Result<()> {
    patiently(|| File::open(path))?.sync_all().map_err(is_final)
}

/// A sync that failed is not tried again, also where all it lacked was room: the system tells of what it could not write
/// once, and the next sync says that all is well.
fn is_final(error: io::Error) -> io::Error {
    io::Error::other(error)
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

/// Files that are synced one by one: what a checkpoint writes while little is going on.
const SYNCED_ALONE_MAX: usize = 8;
/// Of the process, and of the system.
const NO_DESCRIPTORS: [Option<i32>; 2] =
    [Some(rustix::io::Errno::MFILE.raw_os_error()), Some(rustix::io::Errno::NFILE.raw_os_error())];
/// Between two attempts.
const PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// FAULTS 11.
    #[test]
    fn a_sync_that_fails_is_never_taken_for_want_of_room() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(is_final(full).kind(), io::ErrorKind::Other);
        // What has no disk behind it cannot be synced.
        let refused = sync_alone(Path::new("/dev/full")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Other);
    }
}
