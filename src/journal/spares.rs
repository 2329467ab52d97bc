//! Segments made ready ahead of need: zero-filled and synced, so that a sync of the log later
//! touches no metadata. A segment that nobody needs any more is archived and becomes a spare again.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::archive::{self, PREPARING_PREFIX};
use super::reader::OpenSegment;
use super::segment::Head;
use super::{Disk, JournalError, Options};

const SPARE_PREFIX: &str = "spare-";
/// Zeros written between two syncs, so that a sync of the log never waits behind all 64 MiB.
const ZEROS_BYTES: usize = 4 * 1024 * 1024;
/// Spares that become no segment while the disk is full: one for archives, whose segment becomes a spare in its
/// place, and one for the next start.
const KEPT_ON_A_FULL_DISK: usize = 2;

/// Names of files that are ready to become segments. What they hold carries another segment id.
pub(super) struct Spares {
    maker: Arc<Maker>,
    thread: Option<JoinHandle<()>>,
}

struct Maker {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    /// How many are not used up while others can be made.
    reserve: usize,
    retry_every: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<String>,
    /// To be archived, oldest first, each with the head behind its end.
    retired: VecDeque<(OpenSegment, Head)>,
    /// How many are kept ready.
    keep: usize,
    /// Whether the disk had no room, and no spare was made since.
    is_full: bool,
    /// Why nothing more is made.
    failed: Option<JournalError>,
    ends: bool,
}

enum Work {
    Archive(OpenSegment, Head),
    Make,
    End,
}

impl Work {
    fn is_archive(&self) -> bool {
        matches!(self, Work::Archive(..))
    }
}

impl State {
    /// What there is to do: archives before spares, because each may become one.
    fn due(&self) -> Option<Work> {
        match self.retired.front().cloned() {
            Some((segment, end)) => Some(Work::Archive(segment, end)),
            None => (self.ready.len() < self.keep).then_some(Work::Make),
        }
    }
}

impl Spares {
    /// Takes over what an earlier process left: whole spares are kept, as many as are wanted, and unfinished
    /// ones removed.
    pub(super) fn adopt(
        disk: &Arc<dyn Disk>,
        names: &[String],
        options: &Options,
    ) -> Result<Spares, JournalError> {
        let (segment_bytes, keep) = (options.segment_bytes, options.spare_segments);
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
        let state = Mutex::new(State { ready, keep, ..State::default() });
        let maker = Maker {
            disk: disk.clone(),
            segment_bytes,
            reserve: options.reserve_segments.min(keep.saturating_sub(1)),
            retry_every: options.retry_every,
            state,
            changed: Condvar::new(),
        };
        Ok(Spares { maker: Arc::new(maker), thread: None })
    }

    /// Keeps spares ready and archives from now on, by a thread that ends with [`Spares::stop`].
    pub(super) fn work_in_background(&mut self) -> Result<(), JournalError> {
        let maker = self.maker.clone();
        let thread = thread::Builder::new()
            .name("journal-spares".into())
            .spawn(move || maker.work())
            .map_err(JournalError::disk("start the thread for", "spare segments"))?;
        self.thread = Some(thread);
        Ok(())
    }

    /// The name of a file ready for use; waits for one to be made only if none is ready beyond the reserve, so that
    /// this is whole when the disk turns out to be full. `None` where the disk
    /// has no room for another one, and all that is left is [`KEPT_ON_A_FULL_DISK`].
    pub(super) fn take(&self) -> Result<Option<String>, JournalError> {
        let mut state = self.maker.state();
        loop {
            let kept = match self.thread {
                None => 0,
                Some(_) if state.is_full => KEPT_ON_A_FULL_DISK.min(self.maker.reserve),
                Some(_) => self.maker.reserve,
            };
            if state.ready.len() > kept {
                self.maker.changed.notify_all();
                return Ok(state.ready.pop_front());
            }
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            // Nobody makes one ahead of need.
            if self.thread.is_none() || state.keep == 0 {
                drop(state);
                return match self.maker.make() {
                    Err(error) if error.is_full() => Ok(None),
                    made => made.map(Some),
                };
            }
            if state.is_full {
                return Ok(None);
            }
            state = self.maker.changed.wait(state).expect("no holder of the lock panics");
        }
    }

    /// Archives a segment of which nothing is needed any more, up to the head behind its end, and then makes
    /// it a spare; in the background where that works.
    pub(super) fn retire(&self, segment: OpenSegment, end: Head) -> Result<(), JournalError> {
        self.maker.state().retired.push_back((segment, end));
        if self.thread.is_none() {
            return self.maker.work_off(Work::is_archive);
        }
        self.maker.changed.notify_all();
        Ok(())
    }

    /// Archives and makes spares here and now, as far as the disk has room. For whoever has no thread for it.
    pub(super) fn tend(&self) -> Result<(), JournalError> {
        self.maker.work_off(|_| true)
    }

    /// Whether the disk has no room for another one, and not more than `reserve` are left.
    pub(super) fn is_short(&self, reserve: usize) -> bool {
        let state = self.maker.state();
        state.is_full && state.ready.len() <= reserve
    }

    /// Segments that wait to be archived.
    pub(super) fn retiring(&self) -> usize {
        self.maker.state().retired.len()
    }

    /// Why an archive could not be written, if that is final.
    pub(super) fn failure(&self) -> Option<JournalError> {
        self.maker.state().failed.take()
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.maker.state().ends = true;
            self.maker.changed.notify_all();
            if thread.join().is_err() {
                tracing::error!("the thread that makes spare segments panicked");
            }
        }
    }
}

impl Maker {
    fn work(&self) {
        let mut was_full = false;
        loop {
            match self.next_work(was_full) {
                Work::End => return,
                work => was_full = self.carry_out(work),
            }
        }
    }

    /// Does what is due and wanted, until nothing is or the disk has no room.
    fn work_off(&self, is_wanted: impl Fn(&Work) -> bool) -> Result<(), JournalError> {
        loop {
            let due = self.state().due().filter(&is_wanted);
            let Some(work) = due else { return Ok(()) };
            let was_full = self.carry_out(work);
            if let Some(error) = self.state().failed.take() {
                return Err(error);
            }
            if was_full {
                return Ok(());
            }
        }
    }

    /// Does one thing, and says whether the disk had no room for it.
    fn carry_out(&self, work: Work) -> bool {
        let worked = match work {
            Work::End => return false,
            Work::Archive(segment, end) => self.archive(&segment, end).inspect(|()| {
                self.state().retired.pop_front();
            }),
            Work::Make => self.make().map(|name| {
                let mut state = self.state();
                state.ready.push_back(name);
                state.is_full = false;
            }),
        };
        let mut state = self.state();
        let was_full = worked.as_ref().is_err_and(JournalError::is_full);
        // Only a spare that was made shows that there is room again.
        state.is_full |= was_full;
        match worked {
            Ok(()) => {}
            Err(error) if was_full => {
                tracing::warn!(%error, "no room for a spare segment or an archive")
            }
            Err(error) => {
                tracing::error!(%error, "no spare segment, no archive any more");
                state.failed = Some(error);
                state.keep = 0;
                state.retired.clear();
            }
        }
        self.changed.notify_all();
        was_full
    }

    /// Waits until there is something to do. A full disk is given a pause.
    fn next_work(&self, was_full: bool) -> Work {
        let mut state = self.state();
        let mut paused = !was_full;
        loop {
            if state.ends {
                return Work::End;
            }
            match state.due() {
                Some(work) if paused => return work,
                Some(_) => {
                    let waited = self.changed.wait_timeout(state, self.retry_every);
                    let (again, timeout) = waited.expect("no holder of the lock panics");
                    state = again;
                    paused = timeout.timed_out();
                }
                None => state = self.changed.wait(state).expect("no holder of the lock panics"),
            }
        }
    }

    fn make(&self) -> Result<String, JournalError> {
        let id = self.disk.random_id().map_err(JournalError::disk("draw a name for", "a spare segment"))?;
        let id = u128::from_be_bytes(id.0);
        let preparing = format!("{PREPARING_PREFIX}{id:032x}");
        let file = self.disk.create(&preparing).map_err(JournalError::disk("create", &preparing))?;
        let filled = self.fill(&*file, &preparing);
        if filled.as_ref().is_err_and(JournalError::is_full) {
            // What is there of it takes the room that others wait for.
            self.disk.remove(&preparing).map_err(JournalError::disk("remove", &preparing))?;
        }
        filled?;
        let name = format!("{SPARE_PREFIX}{id:032x}");
        self.disk.rename(&preparing, &name).map_err(JournalError::disk("rename", &preparing))?;
        Ok(name)
    }

    fn fill(&self, file: &dyn super::SegmentFile, name: &str) -> Result<(), JournalError> {
        let zeros = vec![0; ZEROS_BYTES];
        let mut offset = 0;
        while offset < self.segment_bytes {
            let left = usize::try_from(self.segment_bytes - offset).unwrap_or(ZEROS_BYTES);
            let piece = &zeros[..left.min(ZEROS_BYTES)];
            file.write_at(piece, offset).map_err(JournalError::disk("fill", name))?;
            file.sync().map_err(JournalError::disk("sync", name))?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Archives a segment, and makes it a spare, or nothing where there are enough. The name is durable
    /// before the file is written to again: else a power cut would bring back the old name with what is new.
    fn archive(&self, segment: &OpenSegment, end: Head) -> Result<(), JournalError> {
        archive::write(&*self.disk, segment, end, || self.state().ready.pop_front())?;
        let is_wanted = {
            let state = self.state();
            state.ready.len() < state.keep && segment.header.segment_bytes == self.segment_bytes
        };
        if is_wanted {
            let name = format!("{SPARE_PREFIX}{:032x}", u128::from_be_bytes(segment.header.id.0));
            self.disk.rename(&segment.name, &name).map_err(JournalError::disk("rename", &segment.name))?;
            self.disk.sync_directory().map_err(JournalError::disk("sync the directory for", &name))?;
            self.state().ready.push_back(name);
        } else {
            self.disk.remove(&segment.name).map_err(JournalError::disk("remove", &segment.name))?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}
