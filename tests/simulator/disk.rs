//! A disk in memory: sectors, torn writes, names that a power cut takes back, and syncs that fail and
//! then show in the page cache what is not on the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use pouch::journal::{Disk, SegmentFile, SegmentId};

use super::{chance::Chance, lies::Lie};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How far the operation that fails came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing happened. A sync that fails so marks its sectors clean, as Linux does.
    Before,
    Half,
    After,
}

pub const FAILURES: [Failure; 3] = [Failure::Before, Failure::Half, Failure::After];

/// Shared by all its clones: a process that dies does not take the disk with it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    disk: SimDisk,
    number: u64,
}

struct State {
    chance: Chance,
    lie: Option<Lie>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// The names after each change since the last directory sync.
    names_since: Vec<BTreeMap<String, u64>>,
    files: BTreeMap<u64, Content>,
    operations: u64,
    fail_at: Option<(u64, Failure)>,
    failed: bool,
    operations_after_failure: u64,
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl SimDisk {
    pub fn new(chance: Chance, lie: Option<Lie>) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            chance,
            lie,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            names_since: Vec::new(),
            files: BTreeMap::new(),
            operations: 0,
            fail_at: None,
            failed: false,
            operations_after_failure: 0,
        })))
    }

    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Fails the operation after the next `skip` ones, once.
    pub fn fail_after(&self, skip: u64, failure: Failure) {
        let mut state = self.state();
        state.fail_at = Some((state.operations + skip, failure));
    }

    /// A new process: nothing has failed yet, as far as it knows.
    pub fn restart(&self) {
        self.state().failed = false;
    }

    /// Lets everything succeed from now on.
    pub fn heal(&self) {
        self.state().fail_at = None;
    }

    pub fn operations_after_failure(&self) -> u64 {
        self.state().operations_after_failure
    }

    /// Loses any part of what was not synced, sector by sector, and names since some change.
    pub fn cut_power(&self) {
        let state = &mut *self.state();
        let kept = state.chance.index(state.names_since.len() + 1);
        if let Some(last) = kept.checked_sub(1) {
            state.durable_names = state.names_since[last].clone();
        }
        state.names = state.durable_names.clone();
        state.names_since.clear();
        let in_use: BTreeSet<u64> = state.names.values().copied().collect();
        state.files.retain(|number, _| in_use.contains(number));
        for content in state.files.values_mut() {
            content.cut_power(&mut state.chance);
        }
    }

    /// Names of the segments in use, oldest first.
    pub fn segments(&self) -> Vec<String> {
        self.state().names.keys().filter(|name| name.starts_with("segment-")).cloned().collect()
    }

    /// Flips one bit behind the journal's back.
    pub fn flip(&self, name: &str, bit: usize) {
        let state = &mut *self.state();
        let content = state.files.get_mut(&state.names[name]).expect("a name has a file");
        content.bytes[bit / 8] ^= 1 << (bit % 8);
        content.durable[bit / 8] ^= 1 << (bit % 8);
    }

    /// Takes names away behind the journal's back, durably.
    pub fn forget(&self, gone: impl Fn(&str) -> bool) {
        let state = &mut *self.state();
        state.names.retain(|name, _| !gone(name));
        state.durable_names = state.names.clone();
        state.names_since.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while holding the disk")
    }

    /// Counts an operation that changes something and carries it out as far as it goes.
    fn operate(&self, step: impl Fn(&mut State, Option<Failure>)) -> io::Result<()> {
        let state = &mut *self.state();
        let failure = state.fail_at.filter(|(at, _)| *at == state.operations).map(|(_, failure)| failure);
        state.operations += 1;
        state.operations_after_failure += u64::from(state.failed);
        step(state, failure);
        if failure.is_none() {
            return Ok(());
        }
        if state.lie == Some(Lie::FailedOperationRetried) {
            step(state, None);
            return Ok(());
        }
        state.failed = true;
        Err(io::Error::other("the simulated disk fails"))
    }

    fn change_names(&self, change: impl Fn(&mut BTreeMap<String, u64>)) -> io::Result<()> {
        self.operate(|state, failure| {
            if failure != Some(Failure::Before) {
                change(&mut state.names);
                state.names_since.push(state.names.clone());
            }
        })
    }
}

impl Content {
    fn sync(&mut self, failure: Option<Failure>, chance: &mut Chance) {
        let dirty = std::mem::take(&mut self.dirty);
        self.durable.resize(self.bytes.len(), 0);
        for sector in dirty {
            let reaches = match failure {
                Some(Failure::Before) => false,
                Some(Failure::Half) => chance.one_in(2),
                None | Some(Failure::After) => true,
            };
            if reaches {
                self.persist(sector);
            }
        }
    }

    fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = self.bytes.len().min(start + SECTOR);
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.bytes[start..end]);
    }

    fn cut_power(&mut self, chance: &mut Chance) {
        for sector in std::mem::take(&mut self.dirty) {
            if chance.one_in(2) {
                self.persist(sector);
            }
        }
        self.bytes = self.durable.clone();
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let number = {
            let state = &mut *self.state();
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let number = state.files.last_key_value().map_or(0, |(last, _)| last + 1);
            state.files.insert(number, Content::default());
            number
        };
        self.change_names(|names| {
            names.insert(name.to_owned(), number);
        })?;
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let number = *self.state().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if !self.state().names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change_names(|names| {
            if let Some(number) = names.remove(from) {
                names.insert(to.to_owned(), number);
            }
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change_names(|names| {
            names.remove(name);
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.operate(|state, failure| {
            let does_it = failure.is_none() || failure == Some(Failure::After);
            if does_it && state.lie != Some(Lie::DirectorySyncSkipped) {
                state.durable_names = state.names.clone();
                state.names_since.clear();
            }
        })
    }

    fn random_id(&self) -> io::Result<SegmentId> {
        let state = &mut *self.state();
        let id = state.chance.bytes();
        Ok(SegmentId(if state.lie == Some(Lie::OldSegmentIdAccepted) { [7; 16] } else { id }))
    }
}

impl SegmentFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.number].bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        let start = usize::try_from(offset).expect("small");
        let read = state.files[&self.number].bytes.get(start..start + buffer.len());
        buffer.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.operate(|state, failure| {
            let written = match failure {
                Some(Failure::Before) => 0,
                Some(Failure::Half) => bytes.len() / 2,
                None | Some(Failure::After) => bytes.len(),
            };
            let recycled =
                bytes.iter().all(|byte| *byte == 0) && state.lie == Some(Lie::OldSegmentIdAccepted);
            let before = state.files.range(..self.number).next_back().map(|(_, older)| older.bytes.clone());
            let content = state.files.get_mut(&self.number).expect("an open file stays");
            let start = usize::try_from(offset).expect("small");
            let end = start + written;
            let older = before.filter(|older| recycled && older.len() >= end);
            let bytes = older.as_ref().map_or(bytes, |older| &older[start..]);
            if content.bytes.len() < end {
                content.bytes.resize(end, 0);
            }
            content.bytes[start..end].copy_from_slice(&bytes[..written]);
            content.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
        })
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.disk.operate(|state, failure| {
            if failure != Some(Failure::Before) {
                let content = state.files.get_mut(&self.number).expect("an open file stays");
                content.bytes.truncate(usize::try_from(bytes).expect("small"));
                let sectors = content.bytes.len().div_ceil(SECTOR);
                content.dirty.retain(|sector| *sector < sectors);
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operate(|state, failure| {
            if state.lie == Some(Lie::SyncSkipped) {
                return;
            }
            let content = state.files.get_mut(&self.number).expect("an open file stays");
            content.sync(failure, &mut state.chance);
        })
    }
}
