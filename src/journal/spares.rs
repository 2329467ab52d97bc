//! Segments made ready ahead of need: zero-filled and synced, so that a sync of the log later
//! touches no metadata.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::{Disk, JournalError};

const SPARE_PREFIX: &str = "spare-";
const PREPARING_PREFIX: &str = "preparing-";
/// Zeros written between two syncs, so that a sync of the log never waits behind all 64 MiB.
const ZEROS_BYTES: usize = 4 * 1024 * 1024;

/// Names of files that are ready to become segments. What they hold carries another segment id.
pub(super) struct Spares {
    maker: Maker,
    ready: VecDeque<String>,
    background: Option<(Receiver<String>, JoinHandle<()>)>,
}

#[derive(Clone)]
struct Maker {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
}

impl Spares {
    /// Takes over what an earlier process left: whole spares are kept, at most `keep`, and
    /// unfinished ones removed.
    pub(super) fn adopt(
        disk: &Arc<dyn Disk>,
        names: &[String],
        segment_bytes: u64,
        keep: usize,
    ) -> Result<Spares, JournalError> {
        let mut ready = VecDeque::new();
        for name in names {
            if name.starts_with(SPARE_PREFIX) && ready.len() < keep {
                let file = disk.open(name).map_err(JournalError::disk("open", name))?;
                if file.bytes().map_err(JournalError::disk("measure", name))? == segment_bytes {
                    ready.push_back(name.clone());
                    continue;
                }
            }
            if name.starts_with(SPARE_PREFIX) || name.starts_with(PREPARING_PREFIX) {
                disk.remove(name).map_err(JournalError::disk("remove", name))?;
            }
        }
        Ok(Spares { maker: Maker { disk: disk.clone(), segment_bytes }, ready, background: None })
    }

    /// Keeps up to `count` ready from now on, by a thread that ends with [`Spares::stop`].
    pub(super) fn make_in_background(&mut self, count: usize) -> Result<(), JournalError> {
        // The thread holds one more while the channel is full.
        let Some(waiting) = count.checked_sub(1) else { return Ok(()) };
        let (sender, receiver) = sync_channel(waiting);
        let (maker, ready) = (self.maker.clone(), std::mem::take(&mut self.ready));
        let thread = thread::Builder::new()
            .name("journal-spares".into())
            .spawn(move || keep_making(&maker, ready, &sender))
            .map_err(JournalError::disk("start the thread for", "spare segments"))?;
        self.background = Some((receiver, thread));
        Ok(())
    }

    /// The name of a file ready for use; makes one, and so blocks, only if none is ready.
    pub(super) fn take(&mut self) -> Result<String, JournalError> {
        let made = self.background.as_ref().and_then(|(names, _)| names.recv().ok());
        // A thread that failed has ended: making one here brings the error up, or the disk has
        // room again.
        made.or_else(|| self.ready.pop_front()).map_or_else(|| self.maker.make(), Ok)
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&mut self) {
        if let Some((names, thread)) = self.background.take() {
            drop(names);
            if thread.join().is_err() {
                tracing::error!("the thread that makes spare segments panicked");
            }
        }
    }
}

fn keep_making(maker: &Maker, mut ready: VecDeque<String>, sender: &SyncSender<String>) {
    loop {
        let name = match ready.pop_front().map_or_else(|| maker.make(), Ok) {
            Ok(name) => name,
            Err(error) => {
                tracing::warn!(%error, "no spare segment could be made");
                return;
            }
        };
        if sender.send(name).is_err() {
            return;
        }
    }
}

impl Maker {
    fn make(&self) -> Result<String, JournalError> {
        let id = self.disk.random_id().map_err(JournalError::disk("draw a name for", "a spare segment"))?;
        let id = u128::from_be_bytes(id.0);
        let preparing = format!("{PREPARING_PREFIX}{id:032x}");
        let file = self.disk.create(&preparing).map_err(JournalError::disk("create", &preparing))?;
        let zeros = vec![0; ZEROS_BYTES];
        let mut offset = 0;
        while offset < self.segment_bytes {
            let left = usize::try_from(self.segment_bytes - offset).unwrap_or(ZEROS_BYTES);
            let piece = &zeros[..left.min(ZEROS_BYTES)];
            file.write_at(piece, offset).map_err(JournalError::disk("fill", &preparing))?;
            file.sync().map_err(JournalError::disk("sync", &preparing))?;
            offset += piece.len() as u64;
        }
        let name = format!("{SPARE_PREFIX}{id:032x}");
        self.disk.rename(&preparing, &name).map_err(JournalError::disk("rename", &preparing))?;
        Ok(name)
    }
}
