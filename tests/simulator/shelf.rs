//! A folder of the audit log in memory, which can fail in the middle of a `put`. The log's own tests run on it too
//! (`src/tiles/tests.rs`): so the parent brings what the log asks of a folder.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard},
};

use super::Folder;

/// A folder in memory, which can fail in the middle of showing files.
#[derive(Default)]
pub struct Shelf {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What was made and not shown.
    made: Mutex<BTreeMap<String, Vec<u8>>>,
    /// So many more files are shown, then everything fails.
    left: Mutex<Option<usize>>,
    /// So many more attempts to put files find no room after the first of them.
    full: Mutex<usize>,
}

impl Shelf {
    /// Everything that is there.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.lock().clone()
    }

    /// Everything fails after so many more files, until `None` mends it.
    pub fn fail_after(&self, files: Option<usize>) {
        *self.left.lock().expect("nobody panics with it") = files;
    }

    /// So many more attempts to put files find no room after the first of them.
    pub fn fill(&self, attempts: usize) {
        *self.full.lock().expect("nobody panics with it") = attempts;
    }

    /// Somebody else touches the files.
    pub fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().expect("nobody panics with it")
    }

    fn step(&self) -> io::Result<()> {
        match &mut *self.left.lock().expect("nobody panics with it") {
            Some(0) => Err(io::Error::other("power cut")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Folder for Shelf {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().get(path).cloned())
    }

    fn make(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        for (path, bytes) in files {
            self.made.lock().expect("nobody panics with it").insert(path.clone(), bytes.clone());
            let mut full = self.full.lock().expect("nobody panics with it");
            if *full > 0 {
                *full -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(())
    }

    fn show(&self, paths: &[String]) -> io::Result<()> {
        for path in paths {
            self.step()?;
            let bytes = self.made.lock().expect("nobody panics with it").remove(path);
            let bytes = bytes.expect("what is shown was made, and nobody tries again after a power cut");
            self.lock().insert(path.clone(), bytes);
        }
        self.step()
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.step()?;
        let inside = format!("{path}/");
        self.lock().retain(|name, _| name != path && !name.starts_with(&inside));
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let inside = format!("{path}/");
        let files = self.lock();
        let names = files.keys().filter_map(|name| name.strip_prefix(&inside));
        let mut names: Vec<String> =
            names.filter_map(|name| name.split('/').next()).map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }
}
