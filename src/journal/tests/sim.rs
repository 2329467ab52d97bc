//! A disk in memory that fails on demand and loses what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::{Disk, SegmentFile, SegmentId};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How the chosen operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing happened. A sync that fails so marks its sectors clean, as Linux does: reading
    /// gives them back, and only a power cut shows that they never reached the disk.
    Before,
    /// Half of it happened.
    Half,
    /// All of it happened.
    After,
}

pub const FAILURES: [Failure; 3] = [Failure::Before, Failure::Half, Failure::After];

/// Which promise of a real disk this one breaks, to see that the tests notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    None,
    SyncDoesNothing,
    SyncDirectoryDoesNothing,
}

/// Shared by all its clones: dropping a writer does not lose the disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    disk: SimDisk,
    number: u64,
}

struct State {
    random: Random,
    lie: Lie,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// The names after each change since the last directory sync.
    names_since: Vec<BTreeMap<String, u64>>,
    files: BTreeMap<u64, Content>,
    operations: u64,
    fail_at: Option<(u64, Failure)>,
    failed: bool,
    operations_after_failure: u64,
    /// Bytes of all files that have names, at most.
    room: usize,
}

impl State {
    /// How many of so many bytes can be written at an offset.
    fn fits(&self, file: u64, bytes: usize, offset: u64) -> usize {
        let used: usize = self.names.values().map(|number| self.files[number].bytes.len()).sum();
        let own = self.files[&file].bytes.len();
        let most = own.saturating_add(self.room.saturating_sub(used));
        most.saturating_sub(usize::try_from(offset).expect("small")).min(bytes)
    }
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// xorshift64*: enough to choose sectors, and the seed says it all.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

impl SimDisk {
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::lying(seed, Lie::None)
    }

    pub fn lying(seed: u64, lie: Lie) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            lie,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            names_since: Vec::new(),
            files: BTreeMap::new(),
            operations: 0,
            fail_at: None,
            failed: false,
            operations_after_failure: 0,
            room: usize::MAX,
        })))
    }

    /// Gives the disk room for so many bytes, and no more.
    pub fn give_room(&self, bytes: usize) {
        self.state().room = bytes;
    }

    /// A disk with the same content that changes on its own, and by chance in another way.
    pub fn copy(&self, seed: u64) -> SimDisk {
        let state = self.state();
        SimDisk(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            names_since: state.names_since.clone(),
            files: state.files.clone(),
            ..*state
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
        state.failed = false;
        state.operations_after_failure = 0;
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
        let kept = state.random.below(state.names_since.len() as u64 + 1);
        if let Some(last) = usize::try_from(kept).expect("small").checked_sub(1) {
            state.durable_names = state.names_since[last].clone();
        }
        state.names = state.durable_names.clone();
        state.names_since.clear();
        for content in state.files.values_mut() {
            content.cut_power(&mut state.random);
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

    /// Makes a file behind the journal's back, durably.
    pub fn plant(&self, name: &str, bytes: Vec<u8>) {
        let number = self.state().files.len() as u64;
        let content = Content { durable: bytes.clone(), bytes, dirty: BTreeSet::new() };
        self.state().files.insert(number, content);
        self.tamper_names(|names| assert!(names.insert(name.to_owned(), number).is_none()));
    }

    /// Gives names other files behind the journal's back, durably.
    pub fn tamper_names(&self, change: impl FnOnce(&mut BTreeMap<String, u64>)) {
        let state = &mut *self.state();
        change(&mut state.names);
        state.durable_names = state.names.clone();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    /// Counts an operation that changes something and carries it out as far as it goes.
    fn operate(&self, step: impl FnOnce(&mut State, Option<Failure>)) -> io::Result<()> {
        let state = &mut *self.state();
        let failure = state.fail_at.filter(|(at, _)| *at == state.operations).map(|(_, failure)| failure);
        state.operations += 1;
        state.operations_after_failure += u64::from(state.failed);
        step(state, failure);
        if failure.is_some() {
            state.failed = true;
            return Err(io::Error::other("simulated failure"));
        }
        Ok(())
    }

    fn change_names(&self, change: impl FnOnce(&mut BTreeMap<String, u64>)) -> io::Result<()> {
        self.operate(|state, failure| {
            if failure != Some(Failure::Before) {
                change(&mut state.names);
                state.names_since.push(state.names.clone());
            }
        })
    }
}

impl Content {
    fn sync(&mut self, failure: Option<Failure>, random: &mut Random) {
        let dirty = std::mem::take(&mut self.dirty);
        self.durable.resize(self.bytes.len(), 0);
        for sector in dirty {
            let reaches = match failure {
                Some(Failure::Before) => false,
                Some(Failure::Half) => random.below(2) == 0,
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

    fn cut_power(&mut self, random: &mut Random) {
        for sector in std::mem::take(&mut self.dirty) {
            if random.below(2) == 0 {
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
        let number = self.state().files.len() as u64;
        self.state().files.insert(number, Content::default());
        self.change_names(|names| {
            assert!(names.insert(name.to_owned(), number).is_none(), "{name} is taken");
        })?;
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let number = self.state().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change_names(|names| {
            let number = names.remove(from).expect("only what exists is renamed");
            names.insert(to.to_owned(), number);
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change_names(|names| assert!(names.remove(name).is_some(), "only what exists is removed"))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.operate(|state, failure| {
            let reaches = failure.is_none() || failure == Some(Failure::After);
            if reaches && state.lie != Lie::SyncDirectoryDoesNothing {
                state.durable_names = state.names.clone();
                state.names_since.clear();
            }
        })
    }

    fn random_id(&self) -> io::Result<SegmentId> {
        let random = &mut self.state().random;
        let mut id = [0; 16];
        id.fill_with(|| u8::try_from(random.below(256)).expect("below 256"));
        Ok(SegmentId(id))
    }
}

impl SegmentFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.number].bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        let start = usize::try_from(offset).expect("small");
        let bytes = &state.files[&self.number].bytes;
        let read = bytes.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(read);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fits = self.disk.state().fits(self.number, bytes.len(), offset);
        if fits < bytes.len() {
            self.write_at(&bytes[..fits], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.operate(|state, failure| {
            let written = match failure {
                Some(Failure::Before) => 0,
                Some(Failure::Half) => bytes.len() / 2,
                None | Some(Failure::After) => bytes.len(),
            };
            let content = state.files.get_mut(&self.number).expect("files stay");
            let start = usize::try_from(offset).expect("small");
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
                let content = state.files.get_mut(&self.number).expect("files stay");
                content.bytes.truncate(usize::try_from(bytes).expect("small"));
                let sectors = content.bytes.len().div_ceil(SECTOR);
                content.dirty.retain(|sector| *sector < sectors);
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operate(|state, failure| {
            if state.lie != Lie::SyncDoesNothing {
                let content = state.files.get_mut(&self.number).expect("files stay");
                content.sync(failure, &mut state.random);
            }
        })
    }
}
