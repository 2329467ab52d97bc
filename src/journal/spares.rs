//! Segments made ready ahead of need: zero-filled and synced, so that a sync of the log later
//! touches no metadata. A segment that nobody needs any more is archived and becomes a spare again, with its old
//! bytes; while openings are erased, these are zeroed first, and archives written anew.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::archive::{self, PREPARING_PREFIX};
use super::reader::OpenSegment;
use super::segment::Head;
use super::{Disk, JournalError, Options};

const SPARE_PREFIX: &str = "spare-";
/// Of a spare that holds what a segment held.
const USED_PREFIX: &str = "used-";
/// Zeros written between two syncs, so that a sync of the log never waits behind all 64 MiB.
const ZEROS_BYTES: usize = 4 * 1024 * 1024;
/// Spares that become no segment while the disk is full: one for archives, whose segment becomes a spare in its
/// place, and one for the next start.
const KEPT_ON_A_FULL_DISK: usize = 2;
/// The same where the segment is to give others up: what a start would do, this one does. Only a process that dies
/// before the first of them is archived leaves the next one without a spare for its archive.
const KEPT_FOR_ARCHIVES: usize = 1;

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
    /// Used ones that are to be zeroed before they are ready.
    used: VecDeque<String>,
    /// What is being erased.
    erasing: Option<Erasing>,
    /// Below which position archives are written without salts and openings.
    erased_below: u64,
    /// To be archived, oldest first, each with the head behind its end.
    retired: VecDeque<(OpenSegment, Head)>,
    /// Whether a segment may be given up at any moment: then none is made, for it becomes a spare without being filled.
    is_awaiting: bool,
    /// How many are kept ready.
    keep: usize,
    /// An archive from which nothing can be erased.
    damaged: Option<JournalError>,
    /// Whether the disk had no room, and no spare was made since.
    is_full: bool,
    /// Why nothing more is made, until somebody was told.
    failed: Option<JournalError>,
    /// Whether nothing more is made.
    is_over: bool,
    ends: bool,
}

/// How far the archives are.
#[derive(Clone, Copy)]
struct Erasing {
    /// Archives that end here or below are done; `None` where all are.
    from: Option<u64>,
}

enum Work {
    Archive(OpenSegment, Head),
    Zero(String),
    Make,
    Erase { from: u64, below: u64 },
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
        if self.is_over {
            return None;
        }
        if let Some((segment, end)) = self.retired.front().cloned() {
            return Some(Work::Archive(segment, end));
        }
        if let Some(name) = self.used.front() {
            return Some(Work::Zero(name.clone()));
        }
        if self.ready.len() < self.keep && !self.is_awaiting {
            return Some(Work::Make);
        }
        let from = self.erasing.and_then(|erasing| erasing.from)?;
        Some(Work::Erase { from, below: self.erased_below })
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
        let is_spare = |name: &str| name.starts_with(SPARE_PREFIX) || name.starts_with(USED_PREFIX);
        let mut names: Vec<&String> = names.iter().collect();
        // Zeroed ones first: the next segment must hold nothing of what may be erased by now.
        names.sort_by_key(|name| name.starts_with(USED_PREFIX));
        for name in names {
            if is_spare(name) && ready.len() < keep {
                let file = disk.open(name).map_err(JournalError::disk("open", name))?;
                if file.bytes().map_err(JournalError::disk("measure", name))? == segment_bytes {
                    ready.push_back(name.clone());
                    continue;
                }
            }
            if is_spare(name) || name.starts_with(PREPARING_PREFIX) {
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

    /// Sees to it that the next spare holds nothing of an old segment. For a start, where what is erased is not known yet.
    pub(super) fn zero_next(&self) -> Result<(), JournalError> {
        let next = self.maker.state().ready.front().filter(|name| name.starts_with(USED_PREFIX)).cloned();
        let Some(used) = next else { return Ok(()) };
        let zeroed = self.maker.zero(&used)?;
        let mut state = self.maker.state();
        state.ready.pop_front();
        state.ready.push_front(zeroed);
        Ok(())
    }

    /// Erases salts and openings of traffic records below a position from the archives, and whatever spares hold of old
    /// segments; what is given up from now on, too. It goes on behind everything else there is to do. Gives back the
    /// spare that was reserved already, if that holds nothing old.
    pub(super) fn erase(&self, below: u64, reserved: Option<String>) -> Option<String> {
        let mut state = self.maker.state();
        state.erased_below = below;
        state.erasing = Some(Erasing { from: Some(0) });
        let is_used = |name: &String| name.starts_with(USED_PREFIX);
        let (used, ready) = state.ready.drain(..).partition(is_used);
        state.ready = ready;
        state.used.extend::<VecDeque<String>>(used);
        let (dirty, kept) =
            if reserved.as_ref().is_some_and(is_used) { (reserved, None) } else { (None, reserved) };
        state.used.extend(dirty);
        drop(state);
        self.maker.changed.notify_all();
        kept
    }

    /// Whether all that can be erased is.
    pub(super) fn is_erased(&self) -> bool {
        let state = self.maker.state();
        let is_through = state.erasing.is_none_or(|erasing| erasing.from.is_none());
        is_through && state.used.is_empty() && state.retired.is_empty()
    }

    /// Ends the erasing; says which archive was left because it is damaged.
    pub(super) fn end_erasing(&self) -> Option<JournalError> {
        let mut state = self.maker.state();
        state.erasing = None;
        state.damaged.take()
    }

    /// Whether a spare can be had without waiting for one to be made.
    pub(super) fn has_ready(&self) -> bool {
        let state = self.maker.state();
        self.thread.is_none() || state.ready.len() > self.maker.reserve
    }

    /// The name of a file ready for use; waits for one to be made only if none is ready beyond the reserve, so that
    /// this is whole when the disk turns out to be full. `None` where the disk
    /// has no room for another one, and all that is left is [`KEPT_ON_A_FULL_DISK`].
    pub(super) fn take(&self) -> Result<Option<String>, JournalError> {
        self.take_but(KEPT_ON_A_FULL_DISK)
    }

    /// As [`Spares::take`], for a segment into which needed records are carried, so that others can be given up.
    pub(super) fn take_to_carry(&self) -> Result<Option<String>, JournalError> {
        self.take_but(KEPT_FOR_ARCHIVES)
    }

    fn take_but(&self, kept_on_a_full_disk: usize) -> Result<Option<String>, JournalError> {
        let mut state = self.maker.state();
        loop {
            let kept = match self.thread {
                None => 0,
                Some(_) if state.is_full => kept_on_a_full_disk.min(self.maker.reserve),
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
            if self.thread.is_none() || state.keep == 0 || state.is_over {
                drop(state);
                return match self.maker.make() {
                    Err(error) if error.is_full() => Ok(None),
                    made => made.map(Some),
                };
            }
            if state.is_full {
                return Ok(None);
            }
            if std::mem::take(&mut state.is_awaiting) {
                self.maker.changed.notify_all();
            }
            state = self.maker.changed.wait(state).expect("no holder of the lock panics");
        }
    }

    /// Says whether it is to be seen soon if the oldest segment can be given up, so that it becomes the next spare.
    pub(super) fn await_segment(&self, is_awaiting: bool) {
        self.maker.state().is_awaiting = is_awaiting;
        if !is_awaiting {
            self.maker.changed.notify_all();
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
        let mut is_urgent = true;
        let worked = match work {
            Work::End => return false,
            Work::Archive(segment, end) => self.archive(&segment, end).inspect(|()| {
                self.state().retired.pop_front();
            }),
            Work::Zero(used) => self.zero(&used).map(|name| {
                let mut state = self.state();
                state.used.pop_front();
                state.ready.push_back(name);
            }),
            Work::Make => self.make().map(|name| {
                let mut state = self.state();
                state.ready.push_back(name);
                state.is_full = false;
            }),
            Work::Erase { from, below } => {
                // No room for it is no reason to defer anything: it waits.
                is_urgent = false;
                self.erase_next(from, below)
            }
        };
        let mut state = self.state();
        let was_full = worked.as_ref().is_err_and(JournalError::is_full);
        // Only a spare that was made shows that there is room again.
        state.is_full |= was_full && is_urgent;
        match worked {
            Ok(()) => {}
            Err(error) if was_full => {
                tracing::warn!(%error, "no room for a spare segment or an archive")
            }
            Err(error) => {
                tracing::error!(%error, "no spare segment, no archive any more");
                state.failed = Some(error);
                state.is_over = true;
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

    /// Erases from the archive that begins at a position or holds it, and moves on.
    fn erase_next(&self, from: u64, below: u64) -> Result<(), JournalError> {
        let names = self.disk.list().map_err(JournalError::disk("list", "the directory"))?;
        let (spans, _) = archive::spans(&names)?;
        let next = spans.into_iter().find(|span| span.end > from && span.first < below);
        let erased = next.map_or(Ok(()), |span| archive::erase(&*self.disk, span, below));
        let is_damage =
            |error: &JournalError| next.is_some_and(|span| archive::is_unreadable(error, &span.name()));
        let moved = next.map(|span| span.end);
        let mut state = self.state();
        match erased {
            Ok(()) => {}
            // The relay goes on without it, and says so: mail does not wait for what is this old.
            Err(error) if is_damage(&error) => {
                tracing::error!(%error, "an archive cannot be read, and nothing is erased from it");
                state.damaged.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
        // Another erasure may have begun meanwhile, which begins anew.
        if let Some(erasing) = state.erasing.as_mut().filter(|erasing| erasing.from == Some(from)) {
            erasing.from = moved;
        }
        Ok(())
    }

    /// Fills a used spare with zeros, and says how it is called then.
    fn zero(&self, used: &str) -> Result<String, JournalError> {
        let file = self.disk.open(used).map_err(JournalError::disk("open", used))?;
        self.fill(&*file, used)?;
        let name = used.replacen(USED_PREFIX, SPARE_PREFIX, 1);
        self.disk.rename(used, &name).map_err(JournalError::disk("rename", used))?;
        Ok(name)
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
        let erased_below = self.state().erased_below;
        let written = archive::write(&*self.disk, segment, end, erased_below, || None);
        if written.as_ref().is_err_and(JournalError::is_full) {
            archive::write(&*self.disk, segment, end, erased_below, || self.state().ready.pop_front())?;
        } else {
            written?;
        }
        let is_wanted = {
            let state = self.state();
            state.ready.len() + state.used.len() < state.keep
                && segment.header.segment_bytes == self.segment_bytes
        };
        if is_wanted {
            let name = format!("{USED_PREFIX}{:032x}", u128::from_be_bytes(segment.header.id.0));
            self.disk.rename(&segment.name, &name).map_err(JournalError::disk("rename", &segment.name))?;
            self.disk.sync_directory().map_err(JournalError::disk("sync the directory for", &name))?;
            let mut state = self.state();
            if state.erasing.is_some() { state.used.push_back(name) } else { state.ready.push_back(name) }
        } else {
            self.disk.remove(&segment.name).map_err(JournalError::disk("remove", &segment.name))?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}
