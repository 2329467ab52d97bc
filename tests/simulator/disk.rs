//! A disk in memory: sectors, torn writes, names that a power cut takes back, operations that fail halfway, and
//! syncs that fail and then show in the page cache what is not on the disk. The journal's own tests run on it too
//! (`src/journal/tests`): so the parent brings what the journal asks of a disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{Disk, SegmentFile, SegmentId, chance::Chance};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How far the operation that fails came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing happened. A sync that fails so marks its sectors clean, as Linux does: reading gives them
    /// back, and only a power cut shows that they never reached the disk.
    Before,
    Half,
    After,
}

pub const FAILURES: [Failure; 3] = [Failure::Before, Failure::Half, Failure::After];

/// Which promise of a real disk this one breaks, to see that the tests notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskLie {
    /// A sync of a file does nothing.
    SyncSkipped,
    /// A sync of the directory does nothing.
    DirectorySyncSkipped,
    /// An operation that failed is tried again, and its failure kept quiet.
    FailedOperationRetried,
    /// Every other id that is drawn is the same: a segment that is used again has the id that it had.
    IdsRepeated,
}

/// Shared by all its clones: a process that dies does not take the disk with it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    disk: SimDisk,
    number: u64,
}

#[derive(Clone)]
struct State {
    chance: Chance,
    lie: Option<DiskLie>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// The names after each change since the last directory sync.
    names_since: Vec<BTreeMap<String, u64>>,
    files: BTreeMap<u64, Content>,
    /// Bytes of all files that have names, at most.
    room: usize,
    operations: u64,
    ids: u64,
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
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::lying(seed, None)
    }

    pub fn lying(seed: u64, lie: Option<DiskLie>) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            chance: Chance::new(seed),
            lie,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            names_since: Vec::new(),
            files: BTreeMap::new(),
            room: usize::MAX,
            operations: 0,
            ids: 0,
            fail_at: None,
            failed: false,
            operations_after_failure: 0,
        })))
    }

    /// A disk with the same content that changes on its own, and by chance in another way.
    pub fn copy(&self, seed: u64) -> SimDisk {
        let state = State { chance: Chance::new(seed), ..self.state().clone() };
        SimDisk(Arc::new(Mutex::new(state)))
    }

    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Operations that change something, so far.
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

    /// Gives the disk room for so many bytes, and no more.
    pub fn give_room(&self, bytes: usize) {
        self.state().room = bytes;
    }

    /// Leaves room for so many more bytes, and no more.
    pub fn fill(&self, free_bytes: usize) {
        let state = &mut *self.state();
        state.room = state.used() + free_bytes;
    }

    /// Lets everything succeed from now on.
    pub fn heal(&self) {
        let mut state = self.state();
        state.fail_at = None;
        state.room = usize::MAX;
        state.failed = false;
    }

    /// Whether an operation of this process has failed.
    pub fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// Operations that were tried after one that failed, by the same process.
    pub fn operations_after_failure(&self) -> u64 {
        self.state().operations_after_failure
    }

    /// Loses any part of what was not synced, sector by sector, and names since some change.
    pub fn cut_power(&self) {
        let state = &mut *self.state();
        let kept = state.chance.index(state.names_since.len() + 1);
        if let Some(last) = kept.checked_sub(1) {
            state.durable_names = state.names_since.swap_remove(last);
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

    /// What a reader sees of a file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[&state.names[name]].bytes.clone()
    }

    /// Changes a file behind the journal's back, durably.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut *self.state();
        let content = state.files.get_mut(&state.names[name]).expect("a name has a file");
        change(&mut content.bytes);
        content.durable.clone_from(&content.bytes);
    }

    /// Flips one bit behind the journal's back, where there is one; what was not synced stays so.
    pub fn flip(&self, name: &str, bit: usize) -> bool {
        let state = &mut *self.state();
        let content = state.files.get_mut(&state.names[name]).expect("a name has a file");
        let is_there =
            [&mut content.bytes, &mut content.durable].into_iter().all(|bytes| bit / 8 < bytes.len());
        if is_there {
            content.bytes[bit / 8] ^= 1 << (bit % 8);
            content.durable[bit / 8] ^= 1 << (bit % 8);
        }
        is_there
    }

    /// Makes a file behind the journal's back, durably.
    pub fn plant(&self, name: &str, bytes: Vec<u8>) {
        let number = self.state().next_file();
        let content = Content { durable: bytes.clone(), bytes, dirty: BTreeSet::new() };
        self.state().files.insert(number, content);
        self.tamper_names(|names| assert!(names.insert(name.to_owned(), number).is_none()));
    }

    /// Changes which names there are behind the journal's back, durably.
    pub fn tamper_names(&self, change: impl FnOnce(&mut BTreeMap<String, u64>)) {
        let state = &mut *self.state();
        change(&mut state.names);
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
        if state.lie == Some(DiskLie::FailedOperationRetried) {
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

impl State {
    /// Bytes of all files that have names.
    fn used(&self) -> usize {
        self.names.values().map(|number| self.files[number].bytes.len()).sum()
    }

    /// How many of so many bytes can be written at an offset.
    fn fits(&self, file: u64, bytes: usize, offset: u64) -> usize {
        if self.room == usize::MAX {
            return bytes;
        }
        let most = self.files[&file].bytes.len().saturating_add(self.room.saturating_sub(self.used()));
        most.saturating_sub(usize::try_from(offset).expect("small")).min(bytes)
    }

    fn next_file(&self) -> u64 {
        self.files.last_key_value().map_or(0, |(last, _)| last + 1)
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
        let end = ((sector + 1) * SECTOR).min(self.bytes.len());
        let start = (sector * SECTOR).min(end);
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
        self.bytes.clone_from(&self.durable);
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
            let number = state.next_file();
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
        let number = *self.state().names.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.change_names(|names| {
            names.remove(from);
            names.insert(to.to_owned(), number);
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if !self.state().names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change_names(|names| {
            names.remove(name);
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.operate(|state, failure| {
            let reaches = failure.is_none() || failure == Some(Failure::After);
            if reaches && state.lie != Some(DiskLie::DirectorySyncSkipped) {
                state.durable_names = state.names.clone();
                state.names_since.clear();
            }
        })
    }

    fn random_id(&self) -> io::Result<SegmentId> {
        let state = &mut *self.state();
        let id = state.chance.bytes();
        state.ids += 1;
        let repeats = state.lie == Some(DiskLie::IdsRepeated) && state.ids.is_multiple_of(2);
        Ok(SegmentId(if repeats { [7; 16] } else { id }))
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
        let fits = self.disk.state().fits(self.number, bytes.len(), offset);
        if fits < bytes.len() {
            self.write_at(&bytes[..fits], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(offset).expect("small");
        self.disk.operate(|state, failure| {
            let written = match failure {
                Some(Failure::Before) => 0,
                Some(Failure::Half) => bytes.len() / 2,
                None | Some(Failure::After) => bytes.len(),
            };
            let content = state.files.get_mut(&self.number).expect("an open file stays");
            let end = start + written;
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
            if state.lie != Some(DiskLie::SyncSkipped) {
                let content = state.files.get_mut(&self.number).expect("an open file stays");
                content.sync(failure, &mut state.chance);
            }
        })
    }
}
