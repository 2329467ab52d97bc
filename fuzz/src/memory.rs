//! A journal's directory in memory, which keeps everything at once and never fails.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pouch::journal::{Disk, SegmentFile, SegmentId};

type Content = Arc<Mutex<Vec<u8>>>;

/// Files by name.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Content>>>,
    ids: Arc<Mutex<u8>>,
}

struct MemoryFile(Content);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// A disk that holds these files.
    pub fn holding(files: &BTreeMap<String, Vec<u8>>) -> MemoryDisk {
        let files = files.iter().map(|(name, bytes)| (name.clone(), Content::new(bytes.clone().into())));
        MemoryDisk { files: Arc::new(Mutex::new(files.collect())), ids: Arc::default() }
    }

    /// A copy of every file.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.files).iter().map(|(name, content)| (name.clone(), lock(content).clone())).collect()
    }

    /// For the journal, which shares it with its files.
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let content = Content::default();
        match lock(&self.files).insert(name.to_owned(), content.clone()) {
            None => Ok(Arc::new(MemoryFile(content))),
            Some(_) => Err(ErrorKind::AlreadyExists.into()),
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let content = lock(&self.files).get(name).cloned().ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile(content)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let content = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.files).remove(name).map(|_| ()).ok_or(ErrorKind::NotFound.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn random_id(&self) -> io::Result<SegmentId> {
        let mut next = lock(&self.ids);
        *next = next.wrapping_add(1);
        Ok(SegmentId([*next; 16]))
    }
}

impl SegmentFile for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = lock(&self.0);
        let start = usize::try_from(offset).map_err(|_| ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(content.get(start..end).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = lock(&self.0);
        let start = usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
        let end = start + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        lock(&self.0).truncate(usize::try_from(bytes).map_err(|_| ErrorKind::InvalidInput)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
