//! The relay's journal as the world runs it: what `journal/handle.rs` does on its thread, and what a start reads.

use std::sync::Arc;

use bytes::Bytes;
use pouch::{
    exchange::{Body, Exchange, Input, ReplayError, Room},
    journal::{self, JournalError, Options, Reader, Replayed, Writer, recover},
    record::{
        Record, Ticket,
        administrative::{Act, AdministrativeLeaf},
        content::Content,
        leaf::is_administrative,
    },
    tiles::{LogError, Opening},
    wire::Position,
};

use super::{
    bloc::BLOC,
    chance::Chance,
    checker::{Promise, Violation},
    disk::SimDisk,
    lies::Lie,
    relay::RelayEvent,
    world::World,
};

/// Small, so that a run fills several segments and uses some again.
pub const SMALL_JOURNAL: Options = Options {
    segment_bytes: 128 * 1024,
    spare_segments: 2,
    reserve_segments: 1,
    segments_max: 5,
    ..Options::DEFAULT
};
/// Encoded bytes of one batch.
const BATCH_BYTES: usize = 32 * 1024;

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A journal read back: the exchange that it makes, and the leaves of its records.
pub struct Opened {
    pub exchange: Exchange,
    pub writer: Writer,
    pub reader: Reader,
    /// Position of the first record that was replayed.
    pub first: u64,
    pub leaves: Vec<Bytes>,
    /// The audit log, not yet held against all of it.
    pub log: Result<Opening, LogError>,
}

/// What builds an exchange from a journal.
struct Replay {
    disk: SimDisk,
    lie: Option<Lie>,
    exchange: Exchange,
    is_first: bool,
    first: u64,
    leaves: Vec<Bytes>,
    /// What went wrong with it is told when the journal was read.
    log: Result<Opening, LogError>,
}

impl Replay {
    fn new(world: &World) -> Replay {
        let exchange = Exchange::new(world.limits_of_relay(), BLOC.trust.clone());
        let (disk, lie) = (world.disk.clone(), world.lie);
        let log = world.log.open();
        Replay { disk, lie, exchange, is_first: true, first: 0, leaves: Vec::new(), log }
    }

    fn log_takes(&mut self, position: Position, leaf: &Bytes) {
        if let Ok(log) = &mut self.log
            && let Err(error) = log.take(position, leaf)
        {
            self.log = Err(error);
        }
    }

    /// As `relay/recovery.rs` does where the log's files end before the oldest segment begins.
    fn catch_up(&mut self) -> Result<(), StartError> {
        let end = Position(self.first);
        if self.log.as_ref().is_ok_and(|log| log.from() >= end) {
            return Ok(());
        }
        let disk = self.disk.shared();
        journal::observe(&*disk, &mut |replayed| match replayed {
            Replayed::Archived(position, record) | Replayed::Record(position, record) if position < end => {
                self.log_takes(position, &record.leaf);
                Ok(())
            }
            Replayed::Archived(..) | Replayed::Record(..) | Replayed::Base(_) => Ok::<_, StartError>(()),
        })
    }

    fn take(&mut self, replayed: Replayed) -> Result<(), StartError> {
        match replayed {
            Replayed::Base(base) if std::mem::take(&mut self.is_first) => {
                if self.lie != Some(Lie::BaseNotReplayed) {
                    let note = |position| Ok::<_, StartError>(journal::note(&*self.disk.shared(), position)?);
                    self.exchange.restore(&base, note)?;
                }
                self.first = self.exchange.tree().size();
                self.catch_up()?;
            }
            Replayed::Base(base) => self.exchange.replay_base(&base)?,
            Replayed::Record(position, record) => {
                self.leaves.push(record.leaf.clone());
                self.log_takes(position, &record.leaf);
                self.exchange.replay(position, &record)?;
            }
            Replayed::Archived(..) => unreachable!("only an observer is told of archives"),
        }
        Ok(())
    }
}

impl World {
    /// Reads the journal back and goes on in a fresh segment.
    pub fn open_journal(&self) -> Result<Opened, StartError> {
        let mut replay = Replay::new(self);
        let recovered =
            recover(self.disk.shared(), self.journal.clone(), &mut |replayed| replay.take(replayed))?;
        let base = replay.exchange.base();
        let forgets = self.lie == Some(Lie::LastBatchNotReplayed);
        let (mut writer, reader) =
            recovered.open(&base, &mut |replayed| if forgets { Ok(()) } else { replay.take(replayed) })?;
        let Replay { exchange, first, leaves, log, .. } = replay;
        exchange.erasure().into_iter().for_each(|erasure| writer.erase(erasure));
        Ok(Opened { exchange, writer, reader, first, leaves, log })
    }

    /// The records of the whole log without header and body, as `pouch relay log` reads them.
    pub fn shown_log(&self) -> Result<Vec<Record>, JournalError> {
        let mut records = Vec::new();
        journal::observe(&*self.disk.shared(), &mut |replayed| {
            if let Replayed::Record(position, record) | Replayed::Archived(position, record) = replayed {
                assert_eq!(position, Position(records.len() as u64), "every position is shown once");
                records.push(Record { header: Bytes::new(), body: Bytes::new(), ..record });
            }
            Ok::<(), JournalError>(())
        })?;
        Ok(records)
    }

    /// The records of the next batch.
    fn take_batch(&mut self) -> Vec<(Ticket, Record)> {
        let Some(relay) = &mut self.relay else { return Vec::new() };
        let mut bytes = 0;
        let fits = |(_, record): &&(Ticket, Record)| {
            bytes += record.encoded_len();
            bytes <= BATCH_BYTES
        };
        let count = relay.appends.iter().take_while(fits).count().max(1).min(relay.appends.len());
        relay.appends.drain(..count).collect()
    }

    pub fn commit(&mut self) {
        let batch = self.take_batch();
        if self.lie == Some(Lie::DurableBeforeSync) {
            let next = self.relay.as_ref().expect("its own event").writer.next_position();
            let positions = (next.0..).map(Position);
            let durable: Vec<_> = batch.iter().map(|(ticket, _)| *ticket).zip(positions).collect();
            self.relay_durable(&durable);
            return self.relay_later(5, 20, RelayEvent::Write(batch));
        }
        if let Some(durable) = self.write(&batch) {
            self.relay_later(0, 2, RelayEvent::Durable(durable));
        }
    }

    /// Appends a batch and syncs it, or ends the process where the disk fails.
    pub fn write(&mut self, batch: &[(Ticket, Record)]) -> Option<Vec<(Ticket, Position)>> {
        let relay = self.relay.as_mut()?;
        let records: Vec<Record> = batch.iter().map(|(_, record)| record.clone()).collect();
        let bytes = records.iter().map(Record::encoded_len).sum();
        let next = relay.writer.next_position();
        let is_due = relay.writer.needs_segment(records.len(), bytes);
        let rolled = if is_due || relay.exchange.wants_base() || relay.writer.wants_roll() {
            self.checker.came("roll");
            relay.writer.roll(&relay.exchange.base())
        } else {
            Ok(())
        };
        let positions = || batch.iter().map(|(ticket, _)| *ticket).zip((next.0..).map(Position)).collect();
        match rolled.and_then(|()| relay.writer.append(&records)) {
            Ok(first) => {
                self.checker.durable(first, &records);
                Some(positions())
            }
            Err(_) if self.lie == Some(Lie::DurableAfterFailure) => {
                self.checker.durable(next, &records);
                self.relay_durable(&positions());
                self.kill_relay(false);
                None
            }
            Err(error) => {
                self.journal_failed(&error);
                None
            }
        }
    }

    /// A disk that fails ends the process; anything else must not happen.
    fn journal_failed(&mut self, error: &JournalError) {
        match error {
            JournalError::Disk { .. } => {
                self.checker.came("disk failure");
                let power_cut = self.chance.one_in(2);
                self.kill_relay(power_cut);
            }
            error => {
                let words = format!("the journal stops: {error}");
                self.checker.broken(Violation::new(Promise::Corruption, words));
            }
        }
    }

    pub fn committed(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        relay.committing = !relay.appends.is_empty();
        if relay.committing {
            self.relay_later(0, 1, RelayEvent::Commit);
        } else {
            self.relay_later(100, 100, RelayEvent::Seal);
        }
        self.ask_what_is_needed();
        self.tell_room();
    }

    pub fn seal(&mut self) {
        let Some(relay) = self.relay.as_mut().filter(|relay| !relay.committing) else { return };
        if let Err(error) = relay.writer.seal() {
            self.journal_failed(&error);
        }
    }

    /// Finds out what is needed of the oldest segment; called when all that is durable was applied.
    fn ask_what_is_needed(&mut self) {
        let Some(relay) = self.relay.as_mut().filter(|relay| !relay.retiring) else { return };
        if let Some(end) = relay.writer.oldest_end() {
            relay.retiring = true;
            let needed = relay.exchange.needed_below(end);
            self.relay_later(0, 10, RelayEvent::Retire(needed));
        }
    }

    pub fn retire(&mut self, needed: &[Position]) {
        let Some(relay) = &mut self.relay else { return };
        relay.retiring = false;
        match relay.writer.retire_oldest(needed) {
            Ok(true) => {
                self.checker.came(if needed.is_empty() { "segment given up" } else { "segment carried on" });
                self.checker.erasure.carried(needed);
                self.tend();
            }
            Ok(false) => self.tell_room(),
            Err(error) => self.journal_failed(&error),
        }
    }

    /// Archives and makes spares, as the journal's second thread does.
    pub fn tend(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        let idle = !relay.committing;
        let rolled = if idle && relay.writer.wants_roll() {
            relay.writer.roll(&relay.exchange.base())
        } else {
            Ok(())
        };
        let tended = rolled.and_then(|()| relay.writer.tend());
        self.look_at_erasure();
        match tended {
            Ok(()) if idle => self.ask_what_is_needed(),
            Ok(()) => {}
            Err(error) => return self.journal_failed(&error),
        }
        self.tell_room();
    }

    fn tell_room(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        let has_room = relay.writer.has_room();
        if has_room != relay.has_room {
            relay.has_room = has_room;
            self.checker.came(if has_room { "room again" } else { "no room" });
            self.trace.note(self.now, || format!("the journal has room: {has_room}"));
            self.relay_input(Input::Room(if has_room { Room::Plenty } else { Room::ReceiptsOnly }));
        }
    }

    pub fn load(&mut self, position: Position) {
        let Some(relay) = &self.relay else { return };
        let record = match relay.reader.load(position) {
            Ok(record) => record,
            // Settled meanwhile: its segment may be in use again.
            Err(_) if !relay.exchange.needs(position) => {
                return self.relay_input(Input::LoadedNothing { position });
            }
            Err(error) => {
                let words = format!("what waits at {position} cannot be loaded: {error}");
                return self.checker.broken(Violation::new(Promise::Accepted, words));
            }
        };
        let body = match Content::from_record(&record).expect("we wrote it") {
            Content::Envelope(accepted) => Body::Envelope(accepted.envelope),
            Content::Receipts(receipts) => Body::Receipts(Arc::new(receipts)),
            Content::Expired(expired) => Body::Expired(Arc::new(expired)),
            Content::Refusal(_) | Content::Administrative(_) => return,
        };
        self.relay_input(Input::Loaded { position, body });
    }

    /// Damages a confirmed part of the journal: says whether the relay refuses to start, and mends it again.
    pub fn refuses_damage(&mut self, chance: &mut Chance) -> Option<bool> {
        let disk = self.disk.clone();
        let segments = disk.segments();
        if segments.is_empty() {
            return None;
        }
        let name = chance.pick(&segments).clone();
        // The first batch after the header: the base, durable before the segment had its name.
        let bit = 8 * 4096 + chance.index(8 * 4096);
        if !disk.flip(&name, bit) {
            return None;
        }
        let mut replay = Replay::new(self);
        let read = recover(disk.shared(), self.journal.clone(), &mut |replayed| replay.take(replayed));
        let refused = matches!(read, Err(StartError::Journal(JournalError::Corrupt { .. })));
        if refused && self.lie == Some(Lie::RecoveryTruncates) {
            disk.tamper_names(|names| {
                names.retain(|found, _| !found.starts_with("segment-") || *found < name)
            });
            return Some(true);
        }
        disk.flip(&name, bit);
        Some(refused)
    }
}

/// Sets the time in the leaf of a start back by an hour.
pub fn tell_wrong_time(record: &mut Record) {
    if is_administrative(&record.leaf) {
        let mut leaf = AdministrativeLeaf::decode(&record.leaf).expect("we made it");
        if matches!(leaf.act, Act::Started { .. }) {
            leaf.log_time_us -= 3_600_000_000;
            record.leaf = leaf.encode();
        }
    }
}
