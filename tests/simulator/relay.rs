//! The relay process as the world runs it: what `relay/engine.rs` does, with the world's queue for a clock.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use pouch::{
    exchange::{ConnId, Exchange, Input, Now, Output},
    journal::{JournalError, Reader, Writer},
    record::{Record, SALT_BYTES, Ticket},
    tiles::View,
    wire::Position,
};

use super::{
    bloc::BLOC,
    checker::{Promise, Violation},
    journal::{Opened, StartError, tell_wrong_time},
    lies::Lie,
    network::End,
    sides::Side,
    world::{Event, START_US, World},
};

/// A clock that is further ahead of the last record is in doubt (FORMATS 8).
const BELIEVED_AHEAD_US: i64 = 30 * 24 * 3_600_000_000;

/// What happens inside the process.
#[derive(Debug)]
pub enum RelayEvent {
    Commit,
    Durable(Vec<(Ticket, Position)>),
    Write(Vec<(Ticket, Record)>),
    Seal,
    Retire(Vec<Position>),
    Tend,
    Load(Position),
    Written(u64, usize),
    /// The audit log's thread publishes the next one.
    Publish,
    /// What the audit log's thread, or a reader of its files, has found.
    Log(Input),
}

/// A relay that runs.
pub struct Relay {
    pub exchange: Exchange,
    pub writer: Writer,
    pub reader: Reader,
    pub started: Duration,
    pub instance: [u8; 16],
    /// Lines that it holds open, by the number that is also the connection's.
    pub sides: BTreeMap<u64, Side>,
    pub appends: Vec<(Ticket, Record)>,
    pub committing: bool,
    /// Whether an answer to what is needed of the oldest segment is on its way.
    pub retiring: bool,
    /// What the exchange was told of the journal's room.
    pub has_room: bool,
    /// The audit log's tiles.
    pub view: View,
    /// Leaves of records on their way to the disk.
    pub leaves: VecDeque<Bytes>,
    /// Checkpoints that are to be published, oldest first.
    pub publishing: VecDeque<Bytes>,
}

impl Relay {
    pub fn due(&self) -> Duration {
        self.started + self.exchange.poll_timeout()
    }

    pub fn is_idle(&self) -> bool {
        self.exchange.is_idle() && self.appends.is_empty() && !self.committing
    }
}

impl World {
    pub fn start_relay(&mut self) {
        if self.relay.is_some() {
            return;
        }
        self.disk.restart();
        match self.open_journal() {
            Ok(opened) => self.run_relay(opened),
            // The disk failed in the middle of a start: the next one settles it.
            Err(StartError::Journal(JournalError::Disk { .. })) => self.kill_relay(true),
            Err(error) => {
                let words = format!("the relay does not start: {error}");
                self.checker.broken(Violation::new(Promise::Corruption, words));
            }
        }
    }

    fn run_relay(&mut self, opened: Opened) {
        let Opened { mut exchange, writer, reader, first, leaves, log } = opened;
        match self.shown_log() {
            Ok(log) => self.checker.recovered(first, &leaves, &log),
            Err(error) => {
                let words = format!("what the relay started with cannot be shown: {error}");
                return self.checker.broken(Violation::new(Promise::Corruption, words));
            }
        }
        let view = match self.log.go_on(log, &mut exchange) {
            Ok(view) => view,
            Err(error) => {
                let words = format!("the audit log does not go on: {error}");
                return self.checker.broken(Violation::new(Promise::Log, words));
            }
        };
        self.checker.clock_was_ahead |= (1..BELIEVED_AHEAD_US).contains(&self.relay_skew_us);
        if let Some(roster) = exchange.roster() {
            self.checker.roster_in_force(self.now, roster);
        }
        let has_roster = exchange.roster().is_some();
        self.trace.note(self.now, || format!("the relay starts: {} records from {first} on", leaves.len()));
        self.relay = Some(Relay {
            exchange,
            writer,
            reader,
            started: self.now,
            instance: self.chance.bytes(),
            sides: BTreeMap::new(),
            appends: Vec::new(),
            committing: false,
            retiring: false,
            has_room: true,
            view,
            leaves: VecDeque::new(),
            publishing: VecDeque::new(),
        });
        if !has_roster {
            let note = Bytes::from(BLOC.first_note.clone());
            self.relay_input(Input::RosterOffered { note });
        }
        self.relay_input(Input::Started { software: "simulated".to_owned() });
        self.relay_later(1, 500, RelayEvent::Tend);
    }

    /// Ends the process; its lines break, or fall silent with the power.
    pub fn kill_relay(&mut self, power_cut: bool) {
        self.trace.note(self.now, || format!("the relay dies, power cut: {power_cut}"));
        self.log_dies();
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
        self.relay_hears(input);
        self.relay_carries_out();
    }

    pub fn relay_hears(&mut self, input: Input) {
        let now = self.relay_now();
        let Some(relay) = &mut self.relay else { return };
        let wanted = relay.exchange.salts_wanted();
        for _ in 0..wanted {
            relay.exchange.add_salts(&self.chance.bytes::<SALT_BYTES>());
        }
        relay.exchange.handle(input, now);
    }

    pub fn relay_timeout(&mut self) {
        let now = self.relay_now();
        let Some(relay) = &mut self.relay else { return };
        relay.exchange.handle_timeout(now);
        self.checker.relay_reports(&relay.exchange.report(now), &self.limits);
        self.relay_carries_out();
    }

    pub fn relay_event(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Commit => self.commit(),
            RelayEvent::Durable(durable) => {
                self.relay_durable(&durable);
                self.committed();
            }
            RelayEvent::Write(batch) => {
                self.write(&batch);
                self.committed();
            }
            RelayEvent::Seal => self.seal(),
            RelayEvent::Retire(needed) => self.retire(&needed),
            RelayEvent::Tend => {
                self.tend();
                self.relay_later(300, 700, RelayEvent::Tend);
            }
            RelayEvent::Load(position) => self.load(position),
            RelayEvent::Publish => self.publish_next(),
            RelayEvent::Log(input) => self.relay_input(input),
            RelayEvent::Written(line, bytes) => {
                if let Some(side) = self.relay.as_mut().and_then(|relay| relay.sides.get_mut(&line)) {
                    side.queued_bytes -= bytes;
                }
                self.relay_input(Input::Written { conn: ConnId(line), bytes });
            }
        }
    }

    pub fn relay_later(&mut self, least_ms: u64, most_ms: u64, event: RelayEvent) {
        let later = self.chance.between(least_ms, most_ms);
        self.after(later, Event::Relay(self.relay_generation, event));
    }

    pub fn relay_carries_out(&mut self) {
        while let Some(output) = self.relay.as_mut().and_then(|relay| relay.exchange.poll_output()) {
            match output {
                Output::Send { conn, frame } => self.relay_says(conn.0, frame),
                Output::Append { ticket, mut record, .. } => {
                    if self.lie == Some(Lie::LogTimeGoesBack) {
                        tell_wrong_time(&mut record);
                    }
                    let relay = self.relay.as_mut().expect("it just spoke");
                    relay.leaves.push_back(record.leaf.clone());
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
                Output::Notice(notice) => self.notice(&notice),
                Output::Sign { size, root } => self.sign(size, root),
                Output::Prove { conn, old_size, size, root } => self.prove(conn, old_size, size, root),
                Output::Fetch { conn, request, name } => self.fetch(conn, request, &name),
                Output::Publish { note } => self.publish_later(note),
                Output::Forked { .. } => {
                    let words = "a party's checkpoint is none of the log's history";
                    self.checker.broken(Violation::new(Promise::Log, words));
                }
            }
        }
    }
}
