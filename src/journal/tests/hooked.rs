//! A disk on which something happens before each read, write and sync.

use std::io;

use super::*;

/// What is about to be done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Read,
    Write,
    Sync,
}

type Hook = Arc<dyn Fn(About) + Send + Sync>;

/// A disk with a hook.
#[derive(Clone)]
pub(super) struct HookedDisk {
    disk: Arc<dyn Disk>,
    hook: Hook,
}

struct HookedFile {
    file: Arc<dyn SegmentFile>,
    hook: Hook,
}

impl HookedDisk {
    pub(super) fn new(disk: Arc<dyn Disk>, hook: impl Fn(About) + Send + Sync + 'static) -> HookedDisk {
        HookedDisk { disk, hook: Arc::new(hook) }
    }

    fn file(&self, file: Arc<dyn SegmentFile>) -> Arc<dyn SegmentFile> {
        Arc::new(HookedFile { file, hook: self.hook.clone() })
    }
}

impl Disk for HookedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        self.disk.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        self.disk.open(name).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn random_id(&self) -> io::Result<SegmentId> {
        self.disk.random_id()
    }
}

impl SegmentFile for HookedFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (self.hook)(About::Read);
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (self.hook)(About::Write);
        self.file.write_at(bytes, offset)
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.file.cut(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        (self.hook)(About::Sync);
        self.file.sync()
    }
}
