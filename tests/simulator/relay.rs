//! The relay process as the world runs it: the edge of `relay/engine.rs`, with the queue for a clock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use pouch::{
    batch::{Proof, Tag},
    exchange::{Body, ConnId, Exchange, Input, Now, Output, ReplayError},
    journal::{JournalError, Options, Reader, Replayed, Writer, recover},
    limits,
    merkle::Hash,
    record::{Record, SALT_BYTES, Ticket, content::Content},
    session::{
        inbound::{Inbound, Intake},
        outbound::{Outbound, Signer},
    },
    wire::{
        Position,
        codec::{self, FrameDecoder},
        pb::frame::Kind,
    },
};

use super::{
    bloc::{BLOC, DOMAIN},
    chance::Chance,
    checker::{Promise, Violation, roster_version},
    disk::SimDisk,
    lies::Lie,
    network::End,
    world::{Event, RelayEvent, START_US, World},
};

/// Small, so that a run fills several.
const OPTIONS: Options = Options { segment_bytes: 128 * 1024, spare_segments: 1, ..Options::DEFAULT };
/// Encoded bytes of one batch.
const BATCH_BYTES: usize = 32 * 1024;

/// A relay that runs.
pub struct Relay {
    pub exchange: Exchange,
    writer: Writer,
    reader: Reader,
    started: Duration,
    instance: [u8; 16],
    /// Lines that it holds open, by the number that is also the connection's.
    pub sides: BTreeMap<u64, Side>,
    appends: Vec<(Ticket, Record)>,
    committing: bool,
}

/// The relay's end of a line.
pub struct Side {
    pub desk: usize,
    /// Whether its session is open.
    pub welcomed: bool,
    exporter: [u8; 32],
    intake: Intake,
    decoder: FrameDecoder,
    /// Whether it broke the protocol, so that nothing more is read.
    broken: bool,
    /// For lies about what the desk is told.
    withholds: bool,
    held: Option<Kind>,
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

impl Relay {
    pub fn due(&self) -> Duration {
        self.started + self.exchange.poll_timeout()
    }

    pub fn is_idle(&self) -> bool {
        self.exchange.is_idle() && self.appends.is_empty() && !self.committing
    }
}

/// A journal read back: the exchange that it makes, and the leaves of its records.
pub struct Opened {
    exchange: Exchange,
    writer: Writer,
    reader: Reader,
    pub leaves: Vec<Bytes>,
}

impl World {
    /// Reads the journal back and goes on in a fresh segment.
    pub fn open_journal(&self) -> Result<Opened, StartError> {
        let mut exchange = Exchange::new(self.limits.clone(), BLOC.trust.clone());
        let mut leaves = Vec::new();
        let mut replay = |exchange: &mut Exchange, replayed: Replayed| -> Result<(), StartError> {
            match replayed {
                Replayed::Base(base) => exchange.replay_base(&base)?,
                Replayed::Record(position, record) => {
                    leaves.push(record.leaf.clone());
                    exchange.replay(position, &record)?;
                }
                Replayed::Archived(..) => unreachable!("only an observer is told of archives"),
            }
            Ok(())
        };
        let recovered =
            recover(self.disk.shared(), OPTIONS, &mut |replayed| replay(&mut exchange, replayed))?;
        let base = exchange.base();
        let forgets = self.lie == Some(Lie::LastBatchNotReplayed);
        let (writer, reader) = recovered.open(&base, &mut |replayed| {
            if forgets { Ok(()) } else { replay(&mut exchange, replayed) }
        })?;
        Ok(Opened { exchange, writer, reader, leaves })
    }

    pub fn start_relay(&mut self) {
        if self.relay.is_some() {
            return;
        }
        self.disk.restart();
        match self.open_journal() {
            Ok(opened) => {
                self.checker.recovered(&opened.leaves);
                self.run_relay(opened);
            }
            // The disk failed in the middle of a start: the next one settles it.
            Err(StartError::Journal(JournalError::Disk { .. })) => self.kill_relay(true),
            Err(error) => {
                let words = format!("the relay does not start: {error}");
                self.checker.broken(Violation::new(Promise::Corruption, words));
            }
        }
    }

    fn run_relay(&mut self, Opened { exchange, writer, reader, leaves }: Opened) {
        let has_roster = exchange.roster().is_some();
        self.trace.note(self.now, || format!("the relay starts with {} records", leaves.len()));
        self.relay = Some(Relay {
            exchange,
            writer,
            reader,
            started: self.now,
            instance: self.chance.bytes(),
            sides: BTreeMap::new(),
            appends: Vec::new(),
            committing: false,
        });
        if !has_roster {
            let note = Bytes::from(BLOC.first_note.clone());
            self.relay_input(Input::RosterOffered { note });
        }
        self.relay_input(Input::Started { software: "simulated".to_owned() });
    }

    /// Ends the process; its lines break, or fall silent with the power.
    pub fn kill_relay(&mut self, power_cut: bool) {
        self.trace.note(self.now, || format!("the relay dies, power cut: {power_cut}"));
        self.relay = None;
        self.relay_generation += 1;
        self.checker.relay_died(self.disk.operations_after_failure());
        let lines: Vec<u64> = self.lines.keys().copied().collect();
        for line in lines {
            if power_cut && self.chance.one_in(2) {
                self.lines.get_mut(&line).expect("listed").go_silent();
            } else {
                self.send_end(line, End::Desk);
            }
            self.lines.get_mut(&line).expect("listed").ended.insert(End::Relay);
        }
        if power_cut {
            self.disk.cut_power();
        }
        let later = self.chance.between(1, 300);
        self.after(later, Event::RelayStarts);
    }

    pub fn relay_now(&self) -> Now {
        let started = self.relay.as_ref().map_or(self.now, |relay| relay.started);
        let elapsed = i64::try_from(self.now.as_micros()).expect("a short run");
        let wall_us = u64::try_from(START_US + elapsed + self.relay_skew_us).expect("after 1970");
        Now { mono: self.now - started, wall_us }
    }

    pub fn relay_input(&mut self, input: Input) {
        let now = self.relay_now();
        let Some(relay) = &mut self.relay else { return };
        let wanted = relay.exchange.salts_wanted();
        for _ in 0..wanted {
            relay.exchange.add_salts(&self.chance.bytes::<SALT_BYTES>());
        }
        relay.exchange.handle(input, now);
        self.relay_carries_out();
    }

    pub fn relay_timeout(&mut self) {
        let now = self.relay_now();
        let Some(relay) = &mut self.relay else { return };
        relay.exchange.handle_timeout(now);
        self.relay_carries_out();
    }

    pub fn relay_event(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Commit => self.commit(),
            RelayEvent::Durable(durable) => {
                for (ticket, position) in durable {
                    self.relay_input(Input::Durable { ticket, position });
                }
                self.committed();
            }
            RelayEvent::Write => {
                let batch = self.take_batch();
                self.write(&batch);
                self.committed();
            }
            RelayEvent::Seal => {
                let Some(relay) = self.relay.as_mut().filter(|relay| !relay.committing) else { return };
                if relay.writer.seal().is_err() {
                    self.kill_relay(true);
                }
            }
            RelayEvent::Load(position) => self.load(position),
            RelayEvent::Written(line, bytes) => {
                self.relay_input(Input::Written { conn: ConnId(line), bytes });
            }
        }
    }

    fn relay_later(&mut self, least_ms: u64, most_ms: u64, event: RelayEvent) {
        let later = self.chance.between(least_ms, most_ms);
        self.after(later, Event::Relay(self.relay_generation, event));
    }

    fn relay_carries_out(&mut self) {
        while let Some(output) = self.relay.as_mut().and_then(|relay| relay.exchange.poll_output()) {
            match output {
                Output::Send { conn, frame } => self.relay_says(conn.0, frame),
                Output::Append { ticket, record, .. } => {
                    let relay = self.relay.as_mut().expect("it just spoke");
                    relay.appends.push((ticket, record));
                    if !relay.committing {
                        relay.committing = true;
                        self.relay_later(0, 3, RelayEvent::Commit);
                    }
                }
                Output::Load { position } => self.relay_later(0, 5, RelayEvent::Load(position)),
                Output::Close { conn } => self.relay_closes(conn.0),
                Output::RosterInForce(roster) => {
                    let words = roster.version();
                    self.trace.note(self.now, || format!("roster {words} in force"));
                    self.checker.roster_in_force(self.now, &roster);
                }
                Output::Notice(notice) => self.trace.note(self.now, || format!("{notice:?}")),
            }
        }
    }

    /// The records of the next batch, which stay with the appends until they are written.
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

    fn commit(&mut self) {
        if self.lie == Some(Lie::DurableBeforeSync) {
            let relay = self.relay.as_ref().expect("its own event");
            let positions = (relay.writer.next_position().0..).map(Position);
            let told: Vec<_> = relay.appends.iter().map(|(ticket, _)| *ticket).zip(positions).collect();
            for (ticket, position) in told {
                self.relay_input(Input::Durable { ticket, position });
            }
            return self.relay_later(5, 20, RelayEvent::Write);
        }
        let batch = self.take_batch();
        if let Some(durable) = self.write(&batch) {
            self.relay_later(0, 2, RelayEvent::Durable(durable));
        }
    }

    /// Appends a batch and syncs it, or ends the process where the disk fails.
    fn write(&mut self, batch: &[(Ticket, Record)]) -> Option<Vec<(Ticket, Position)>> {
        let relay = self.relay.as_mut()?;
        let records: Vec<Record> = batch.iter().map(|(_, record)| record.clone()).collect();
        let bytes = records.iter().map(Record::encoded_len).sum();
        let mut written = Ok(Position(0));
        if relay.writer.needs_segment(records.len(), bytes) {
            written = relay.writer.roll(&relay.exchange.base()).map(|()| Position(0));
        }
        match written.and_then(|_| relay.writer.append(&records)) {
            Ok(first) => {
                self.checker.durable(first, &records);
                let positions = (first.0..).map(Position);
                Some(batch.iter().map(|(ticket, _)| *ticket).zip(positions).collect())
            }
            Err(JournalError::Disk { .. }) => {
                let power_cut = self.chance.one_in(2);
                self.kill_relay(power_cut);
                None
            }
            Err(error) => {
                self.checker.broken(Violation::new(Promise::Accepted, format!("not written: {error}")));
                None
            }
        }
    }

    fn committed(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        relay.committing = !relay.appends.is_empty();
        if relay.committing {
            self.relay_later(0, 1, RelayEvent::Commit);
        } else {
            self.relay_later(100, 100, RelayEvent::Seal);
        }
    }

    fn load(&mut self, position: Position) {
        let Some(relay) = &self.relay else { return };
        let record = match relay.reader.load(position) {
            Ok(record) => record,
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

    /// A TLS handshake ends.
    pub fn relay_connected(&mut self, line: u64, desk: usize, exporter: [u8; 32]) {
        let Some(relay) = &mut self.relay else { return };
        let side = Side {
            desk,
            welcomed: false,
            exporter,
            intake: Intake::new(DOMAIN, exporter),
            decoder: FrameDecoder::new(limits::FRAME_BEFORE_WELCOME_BYTES_MAX),
            broken: false,
            withholds: false,
            held: None,
        };
        relay.sides.insert(line, side);
        let (party, serial) = (BLOC.ids[desk].clone(), "0b".to_owned());
        self.relay_input(Input::Connected { conn: ConnId(line), party, serial });
    }

    pub fn relay_reads(&mut self, line: u64, bytes: &[u8]) {
        let Some(relay) = &mut self.relay else { return };
        let Some(side) = relay.sides.get_mut(&line).filter(|side| !side.broken) else { return };
        side.decoder.buffer().extend_from_slice(bytes);
        self.relay_input(Input::Heard { conn: ConnId(line) });
        while let Some(relay) = &mut self.relay {
            let roster = relay.exchange.roster().cloned();
            let Some(side) = relay.sides.get_mut(&line).filter(|side| !side.broken) else { return };
            let party = roster.as_ref().and_then(|roster| roster.party_by_id(BLOC.ids[side.desk].spiffe()));
            let Some(frame) = side.intake.take(&mut side.decoder, party.map(|party| &party.sign)) else {
                return;
            };
            side.broken = matches!(frame, Inbound::Violation(_));
            self.relay_input(Input::Received { conn: ConnId(line), frame });
        }
    }

    pub fn relay_lost(&mut self, line: u64) {
        if let Some(relay) = &mut self.relay
            && relay.sides.remove(&line).is_some()
        {
            self.relay_input(Input::Closed { conn: ConnId(line) });
        }
    }

    fn relay_closes(&mut self, line: u64) {
        let Some(relay) = &mut self.relay else { return };
        let Some(side) = relay.sides.get(&line) else { return };
        let ignored = self.lie == Some(Lie::SuspensionIgnored) && self.checker.is_suspended(side.desk);
        if !ignored {
            relay.sides.remove(&line);
            self.send_end(line, End::Desk);
            if let Some(on) = self.lines.get_mut(&line) {
                on.ended.insert(End::Relay);
            }
        }
    }

    fn relay_says(&mut self, line: u64, frame: Outbound) {
        let Some(relay) = &mut self.relay else { return };
        let Some(side) = relay.sides.get_mut(&line) else { return };
        let (desk, bytes) = (side.desk, frame.bytes());
        let is_last = matches!(frame, Outbound::Goodbye { .. });
        if is_last && self.lie == Some(Lie::SuspensionIgnored) && self.checker.is_suspended(desk) {
            return;
        }
        let sign = |tag: Tag, leaf: Hash| -> Proof {
            BLOC.relay_key.sign_batch(DOMAIN, tag, &[leaf]).pop().expect("one leaf, one proof")
        };
        let signer =
            Signer { sign: &sign, exporter: side.exporter, instance: relay.instance, software: "simulated" };
        if matches!(frame, Outbound::Welcome(_)) {
            side.welcomed = true;
            side.decoder.allow(limits::FRAME_BYTES_MAX);
        }
        let mut frames = Vec::new();
        frame.frames(&signer, |kind| frames.push(kind));
        let mut buffer = BytesMut::new();
        for kind in frames {
            for mut kind in side.twist(self.lie, kind) {
                self.checker.relay_says(self.now, line, desk, &kind);
                if self.lie == Some(Lie::WindowOffByOne) {
                    add_credit(&mut kind, 1);
                }
                codec::encode(kind, &mut buffer);
            }
        }
        self.send(line, End::Desk, &buffer);
        let taken_in = self.lines.get(&line).map_or(Duration::ZERO, |on| on.taken_in(End::Desk, self.now));
        let later = taken_in + self.chance.between(0, 4);
        self.after(later, Event::Relay(self.relay_generation, RelayEvent::Written(line, bytes)));
    }
}

impl Side {
    /// What a lie makes of a frame to the desk: the frames that go out instead.
    fn twist(&mut self, lie: Option<Lie>, mut kind: Kind) -> Vec<Kind> {
        match (lie, &mut kind) {
            (Some(Lie::RosterWithheld), Kind::Administrative(frame)) => {
                if frame.offset == 0 {
                    self.withholds = roster_version(&frame.leaf).is_some_and(|version| version > 1);
                }
                if self.withholds { Vec::new() } else { vec![kind] }
            }
            (Some(Lie::AcceptedElsewhere), Kind::Accepted(accepted)) => {
                accepted.position = accepted.position.saturating_sub(1);
                vec![kind]
            }
            (Some(Lie::DeliveriesSwapped), Kind::Deliver(_)) => match self.held.take() {
                None => {
                    self.held = Some(kind);
                    Vec::new()
                }
                Some(held) => vec![kind, held],
            },
            (Some(Lie::DeliveriesSwapped), _) => vec![kind].into_iter().chain(self.held.take()).collect(),
            _ => vec![kind],
        }
    }
}

/// Grants more than was granted.
pub fn add_credit(kind: &mut Kind, envelopes: u64) {
    match kind {
        Kind::Welcome(welcome) => welcome.credit_envelopes += envelopes,
        Kind::Credit(credit) => credit.envelopes += envelopes,
        _ => {}
    }
}

/// Damages a confirmed part of the journal: says whether the relay refuses to start, and mends it again.
pub fn refuses_damage(world: &mut World, chance: &mut Chance) -> Option<bool> {
    let disk: SimDisk = world.disk.clone();
    let segments = disk.segments();
    let older = segments.len().checked_sub(1).filter(|older| *older > 0)?;
    let name = segments[chance.index(older)].clone();
    // The first batch after the header: the base, whole and confirmed.
    let bit = 8 * 4096 + chance.index(8 * 4096);
    disk.flip(&name, bit);
    let mut exchange = Exchange::new(world.limits.clone(), BLOC.trust.clone());
    let read: Result<_, StartError> = recover(disk.shared(), OPTIONS, &mut |replayed| {
        match replayed {
            Replayed::Base(base) => exchange.replay_base(&base)?,
            Replayed::Record(position, record) => exchange.replay(position, &record)?,
            Replayed::Archived(..) => unreachable!("only an observer is told of archives"),
        }
        Ok(())
    });
    let refused = matches!(read, Err(StartError::Journal(JournalError::Corrupt { .. })));
    if refused && world.lie == Some(Lie::RecoveryTruncates) {
        let last = name.clone();
        disk.forget(move |name| name.starts_with("segment-") && *name >= *last);
        return Some(true);
    }
    disk.flip(&name, bit);
    Some(refused)
}
