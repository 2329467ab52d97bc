//! The journal's own thread: natural group commit. While one sync runs the next batch gathers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{EXIT_DISK_FAILED, JournalError, Options, Vitals, Writer};
use crate::record::{Record, Ticket};
use crate::wire::Position;

/// A record on its way into the journal.
#[derive(Clone, Debug)]
pub struct Append {
    /// Comes back with the position.
    pub ticket: Ticket,
    /// What to keep.
    pub record: Record,
    /// Whether it may wait for company.
    pub urgency: Urgency,
}

/// How soon a record must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// With the next sync.
    Now,
    /// Receipts alone: with the next batch, or after [`Options::receipts_wait_max`].
    Rides,
}

/// What the journal's thread tells.
#[derive(Debug)]
pub enum Event {
    /// These records are durable: in ticket order, positions dense.
    Durable(Vec<(Ticket, Position)>),
    /// A new segment is due. Answer with [`Journal::base`] once every Durable so far is applied;
    /// nothing becomes durable before that.
    BaseWanted,
    /// Which records below this position are still needed? Answer with [`Journal::needed`] once every
    /// Durable so far is applied; the journal goes on meanwhile.
    NeededWanted(Position),
    /// There is room again for everything, or only for receipts and administrative records: then nothing
    /// else should be handed in. What is handed in when even their room is used up waits until there is some.
    Room(bool),
    /// What the log says is erased is: through which position. Or all but an archive that is damaged.
    Erased(Result<Position, JournalError>),
    /// The last event: what was not Durable may or may not be. The process must exit with the
    /// error's code.
    Failed(JournalError),
}

/// Why records were not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The queue is at its bound; here are the records back, to hand in after the next Durable.
    #[error("the journal's queue is full")]
    Full(Vec<Append>),
    /// The thread has ended; [`Event::Failed`] said why.
    #[error("the journal has stopped")]
    Stopped,
}

/// Hands records to the journal's thread. For one owner: order is the order of the calls.
pub struct Journal {
    commands: SyncSender<Command>,
    queued_bytes: Arc<AtomicUsize>,
    queue_bytes_max: usize,
    vitals: Arc<Vitals>,
    thread: JoinHandle<()>,
}

enum Command {
    Append(Vec<Append>),
    Base(Vec<u8>),
    Needed(Needed),
    Roll,
}

impl Journal {
    /// Puts the writer on a thread of its own, which calls `events`. The callback must not wait
    /// for whoever appends. A panic in the thread, or in the callback, ends the process with 70.
    pub fn start(
        mut writer: Writer,
        events: impl FnMut(Event) + Send + 'static,
    ) -> Result<Journal, JournalError> {
        writer.make_spares_in_background()?;
        let options = writer.options().clone();
        let (commands, received) = sync_channel(options.queue_appends_max);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let queue_bytes_max = options.queue_bytes_max;
        let vitals = Arc::new(Vitals::default());
        let committer = Committer {
            writer,
            options,
            commands: received,
            events: Box::new(events),
            pending: Pending::default(),
            urgent: false,
            roll_wanted: false,
            is_stuck: false,
            retiring: Retiring::default(),
            has_room: true,
            queued_bytes: queued_bytes.clone(),
            vitals: vitals.clone(),
        };
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || committer.run())
            .map_err(JournalError::disk("start the thread for", "the writer"))?;
        Ok(Journal { commands, queued_bytes, queue_bytes_max, vitals, thread })
    }

    /// Hands records in, in ticket order, without waiting. Each comes back in an
    /// [`Event::Durable`], or the journal fails.
    pub fn append(&self, records: Vec<Append>) -> Result<(), AppendError> {
        let bytes = records.iter().map(|append| queue_bytes(&append.record)).sum();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A single call larger than the bound is let through when nothing else waits.
        if queued > 0 && queued + bytes > self.queue_bytes_max {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(AppendError::Full(records));
        }
        self.commands.try_send(Command::Append(records)).map_err(|error| {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(Command::Append(records)) => AppendError::Full(records),
                TrySendError::Full(_) | TrySendError::Disconnected(_) => AppendError::Stopped,
            }
        })
    }

    /// Answers [`Event::BaseWanted`]. May wait for the thread to take up what was appended before,
    /// which it does without waiting for anyone. Without effect when no base is wanted.
    pub fn base(&self, base: Vec<u8>) -> Result<(), AppendError> {
        self.commands.send(Command::Base(base)).map_err(|_| AppendError::Stopped)
    }

    /// Asks for a new segment with the next batch, though the newest one has room: for the sake of its base.
    /// Says whether the queue took it; else ask again.
    pub fn roll(&self) -> bool {
        self.commands.try_send(Command::Roll).is_ok()
    }

    /// How its syncs go.
    pub fn vitals(&self) -> Arc<Vitals> {
        self.vitals.clone()
    }

    /// Answers [`Event::NeededWanted`] about `below`: positions that somebody still waits for, rising. Others below that
    /// one may be gone from now on. May wait as [`Journal::base`].
    pub fn needed(&self, below: Position, positions: Vec<Position>) -> Result<(), AppendError> {
        self.commands.send(Command::Needed(Needed { below, positions })).map_err(|_| AppendError::Stopped)
    }

    /// Makes durable what was handed in, seals the log and waits for the thread to end. Records
    /// that need a new segment are left out: whoever must have them waits for their Durable first.
    pub fn stop(self) {
        drop(self.commands);
        // A panic in the thread has ended the process before join could tell of it.
        self.thread.join().expect("the thread ends the process when it panics");
    }
}

/// What runs on the thread.
struct Committer {
    writer: Writer,
    options: Options,
    commands: Receiver<Command>,
    events: Box<dyn FnMut(Event) + Send>,
    pending: Pending,
    /// Whether something pending must not wait.
    urgent: bool,
    /// Whether the next batch begins a segment.
    roll_wanted: bool,
    /// Whether what is pending needs a segment, and there is no room for one.
    is_stuck: bool,
    retiring: Retiring,
    has_room: bool,
    queued_bytes: Arc<AtomicUsize>,
    vitals: Arc<Vitals>,
}

/// Records that wait, and the ticket of each, in order.
#[derive(Default)]
struct Pending {
    tickets: VecDeque<Ticket>,
    records: VecDeque<Record>,
}

impl Pending {
    fn extend(&mut self, appends: Vec<Append>) {
        self.tickets.extend(appends.iter().map(|append| append.ticket));
        self.records.extend(appends.into_iter().map(|append| append.record));
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// Where giving up the oldest segment stands.
#[derive(Default)]
struct Retiring {
    /// When it was last asked what is needed of it, or what was needed was too much.
    asked: Option<Instant>,
    /// The answer.
    needed: Option<Needed>,
    /// How many were needed when that was too much: it is tried again when they are an eighth fewer, or after
    /// the next roll, which makes room.
    too_many: Option<usize>,
}

/// Which records below a position are still needed.
struct Needed {
    below: Position,
    positions: Vec<Position>,
}

/// What to do after waiting.
enum Next {
    Commit,
    Seal,
    Retire,
    End,
}

impl Committer {
    fn run(mut self) {
        let _guard = EndsProcessOnPanic;
        if let Err(error) = self.commit_until_end() {
            (self.events)(Event::Failed(error));
        }
    }

    fn commit_until_end(&mut self) -> Result<(), JournalError> {
        loop {
            match self.wait() {
                Next::Commit => {
                    if !self.commit()? {
                        return Ok(());
                    }
                }
                Next::Seal => self.writer.seal()?,
                Next::Retire => {
                    if !self.retire()? {
                        return Ok(());
                    }
                }
                Next::End => return self.writer.seal(),
            }
        }
    }

    /// Gathers what has come; waits where nothing has to be written at once.
    fn wait(&mut self) -> Next {
        let mut since = Instant::now();
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.take(command);
            }
            if self.urgent && !self.is_stuck {
                return Next::Commit;
            }
            if self.retiring.needed.is_some() {
                return Next::Retire;
            }
            let (patience, then) = self.patience();
            match self.receive(patience.map(|patience| patience.saturating_sub(since.elapsed()))) {
                Ok(command) => {
                    if self.pending.is_empty() {
                        since = Instant::now();
                    }
                    self.take(command);
                }
                Err(RecvTimeoutError::Timeout) => return then,
                Err(RecvTimeoutError::Disconnected) if self.pending.is_empty() || self.is_stuck => {
                    return Next::End;
                }
                Err(RecvTimeoutError::Disconnected) => return Next::Commit,
            }
        }
    }

    /// How long to wait for commands, and what to do then.
    fn patience(&self) -> (Option<Duration>, Next) {
        if !self.pending.is_empty() && !self.is_stuck {
            (Some(self.options.receipts_wait_max), Next::Commit)
        } else if self.writer.has_unsealed() {
            (Some(self.options.seal_after), Next::Seal)
        } else if self.is_stuck {
            (Some(self.options.retry_every), Next::Commit)
        } else if self.writer.oldest_end().is_some() || self.writer.is_erasing() || !self.has_room {
            (Some(self.options.retry_every), Next::Retire)
        } else {
            (None, Next::End)
        }
    }

    fn receive(&self, patience: Option<Duration>) -> Result<Command, RecvTimeoutError> {
        match patience {
            Some(patience) => self.commands.recv_timeout(patience),
            None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Append(records) => {
                self.urgent |= records.iter().any(|record| record.urgency == Urgency::Now);
                self.pending.extend(records);
            }
            // Nobody asked: the answer to a question that was settled.
            Command::Base(_) => {}
            Command::Needed(needed) => self.retiring.needed = Some(needed),
            Command::Roll => self.roll_wanted = true,
        }
    }

    /// Gives up old segments as far as the last answer goes, and asks again in time; `false` if everyone has left and a
    /// base is missing.
    fn retire(&mut self) -> Result<bool, JournalError> {
        let mut retired = false;
        // An answer that was asked for sooner says nothing of what a newer segment holds.
        let is_of_oldest = |needed: &Needed| Some(needed.below) == self.writer.oldest_end();
        if let Some(Needed { positions, .. }) = self.retiring.needed.take().filter(is_of_oldest) {
            let is_worth_it = |many: usize| positions.len() <= many - many.div_ceil(8);
            if self.retiring.too_many.is_none_or(is_worth_it) {
                retired = self.writer.retire_oldest(&positions)?;
                self.retiring.too_many = (!retired).then_some(positions.len());
            }
        }
        if retired {
            self.is_stuck = false;
        }
        // No batch may come that would begin a segment: submissions wait for room, or there is no traffic.
        let is_sure = match self.writer.is_crowded() {
            true if !self.has_room => self.writer.reserve_segment_to_carry()?,
            true if self.writer.is_erasing() => self.writer.reserve_segment()?,
            _ => self.writer.wants_roll() && self.writer.reserve_segment()?,
        };
        if is_sure && !self.begin_segment()? {
            return Ok(false);
        }
        if let Some(erased) = self.writer.erased() {
            (self.events)(Event::Erased(erased));
        }
        self.ask(retired);
        self.tell_room();
        Ok(true)
    }

    /// Goes on in the segment that was reserved; `false` if everyone has left and a base is missing.
    fn begin_segment(&mut self) -> Result<bool, JournalError> {
        let Some(base) = self.wait_for_base() else { return Ok(false) };
        self.writer.roll(&base)?;
        self.roll_wanted = false;
        self.retiring.too_many = None;
        self.ask(true);
        Ok(true)
    }

    fn ask(&mut self, at_once: bool) {
        let Some(end) = self.writer.oldest_end() else { return };
        if at_once || self.retiring.asked.is_none_or(|asked| asked.elapsed() >= self.options.retry_every) {
            self.retiring.asked = Some(Instant::now());
            (self.events)(Event::NeededWanted(end));
        }
    }

    fn tell_room(&mut self) {
        let has_room = self.writer.has_room();
        if has_room != self.has_room {
            self.has_room = has_room;
            (self.events)(Event::Room(has_room));
        }
    }

    /// Writes one batch of what is pending, or nothing where that needs a segment for which there is no room;
    /// `false` if everyone has left and a base is missing.
    fn commit(&mut self) -> Result<bool, JournalError> {
        let (count, bytes) = self.next_batch()?;
        let needs_segment = self.writer.needs_segment(count, bytes);
        if needs_segment || self.roll_wanted || self.writer.wants_roll() {
            let is_sure = self.writer.reserve_segment()?;
            self.is_stuck = needs_segment && !is_sure;
            if self.is_stuck {
                self.ask(false);
                self.tell_room();
                return Ok(true);
            }
            if is_sure && !self.begin_segment()? {
                return Ok(false);
            }
        }
        self.tell_room();
        self.vitals.begin();
        let first = self.writer.append(&self.pending.records.make_contiguous()[..count])?;
        self.vitals.end();
        let waited: usize = self.pending.records.drain(..count).map(|record| queue_bytes(&record)).sum();
        self.queued_bytes.fetch_sub(waited, Ordering::Relaxed);
        let tickets = self.pending.tickets.drain(..count);
        (self.events)(Event::Durable(tickets.zip((first.0..).map(Position)).collect()));
        // What did not fit goes with the batch right after this one.
        self.urgent = !self.pending.is_empty();
        Ok(true)
    }

    /// How many of the records that wait are the next batch, and their bytes.
    fn next_batch(&self) -> Result<(usize, usize), JournalError> {
        let (mut count, mut bytes) = (0, 0);
        for next in &self.pending.records {
            let with_next = bytes + next.encoded_len();
            if !self.writer.fits_batch(count + 1, with_next) {
                break;
            }
            (count, bytes) = (count + 1, with_next);
        }
        if count == 0 {
            let bytes = self.pending.records.front().map_or(0, Record::encoded_len);
            let bytes_max = self.options.batch_bytes_max();
            return Err(JournalError::TooLong { what: "record", bytes, bytes_max });
        }
        Ok((count, bytes))
    }

    fn wait_for_base(&mut self) -> Option<Vec<u8>> {
        (self.events)(Event::BaseWanted);
        loop {
            match self.commands.recv().ok()? {
                Command::Base(base) => return Some(base),
                other => self.take(other),
            }
        }
    }
}

/// What a record that waits counts for: small ones take more memory than they encode to.
fn queue_bytes(record: &Record) -> usize {
    record.encoded_len() + size_of::<Append>()
}

/// A journal that cannot go on must not leave the rest of the relay running (FAULTS 38).
struct EndsProcessOnPanic;

impl Drop for EndsProcessOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::exit(i32::from(EXIT_DISK_FAILED));
        }
    }
}
