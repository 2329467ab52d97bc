//! The sole owner of exchange and journal: takes inputs from connections and the journal's thread, and
//! carries the exchange's outputs out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    RelayError,
    channel::FramesSender,
    clock,
    keeper::{self, Keeper},
    notices::{Counts, Notices},
    recovery::Opened,
};
use crate::{
    alarms::Alarms,
    exchange::{Body, ConnId, Exchange, Input, Now, Output, Report, Room},
    identity::{PartyId, SpiffeId},
    journal::{Append, AppendError, Event, Journal, JournalError, Reader, Urgency, Vitals},
    limits::LOG_RETRY_EVERY,
    merkle::Hash,
    record::{Record, SALT_BYTES, content::Content},
    roster::{PartyNumber, Roster},
    session::{inbound::Inbound, outbound::Outbound},
    tiles::{Log, LogError, Outcome},
    wire::{Position, pb::GoodbyeCode},
};

/// Messages that wait for the engine; a connection that finds it full waits, and so does its desk.
pub(super) const INPUTS_MAX: usize = 1_024;
/// Messages taken up before their outputs are carried out.
const INPUTS_AT_ONCE: usize = 64;
/// Events of the journal's thread that wait. More than its queue of appends, so that it never waits.
const EVENTS_MAX: usize = 4_096;
/// What the audit log's thread has done that waits: one checkpoint at a time is signed.
const OUTCOMES_MAX: usize = 4;

/// What connections and loaders tell the engine.
pub(super) enum Message {
    /// A handshake ended.
    Connected { conn: ConnId, party: PartyId, serial: String, frames: FramesSender },
    /// Bytes came, and with them these checked frames, in order; none where the next is not whole yet.
    Received { conn: ConnId, frames: Vec<Inbound> },
    /// Some of a frame that takes long went out: the desk takes it, and lives.
    Lives { conn: ConnId },
    /// Frames went out.
    Written { conn: ConnId, bytes: usize },
    /// The connection is gone.
    Closed { conn: ConnId },
    /// A record was read back for delivery.
    Loaded { position: Position, record: Result<Record, JournalError> },
    /// What a look into the log's files came to, and why they cannot be read.
    Looked { found: Input, error: Option<LogError> },
    /// A reload changed what the relay runs with.
    Configured { hash: Hash },
    /// The roster file was read again.
    RosterOffered { note: Bytes },
    /// Somebody would read the audit log. An asker that is gone needs no answer.
    AdmitReader { id: SpiffeId, serial: String, answer: oneshot::Sender<Result<PartyNumber, GoodbyeCode>> },
    /// An operator asks how things are. An asker that is gone needs no answer.
    Report(oneshot::Sender<EngineReport>),
}

/// How engine and exchange stand.
#[derive(Debug)]
pub(super) struct EngineReport {
    pub(super) exchange: Report,
    pub(super) counts: Counts,
    /// Connections whose handshake is done.
    pub(super) connections: usize,
}

pub(super) struct Engine {
    exchange: Exchange,
    journal: Journal,
    reader: Reader,
    events: mpsc::Receiver<Event>,
    keeper: Keeper,
    outcomes: mpsc::Receiver<Outcome>,
    inputs: mpsc::Receiver<Message>,
    to_self: mpsc::Sender<Message>,
    roster: Arc<ArcSwapOption<Roster>>,
    /// Whether there is one: until then nobody is let in.
    has_roster: watch::Sender<bool>,
    notices: Notices,
    /// The relay's folder.
    dir: PathBuf,
    connections: BTreeMap<ConnId, FramesSender>,
    /// Connections whose task has not ended: some may still be writing their last frame.
    tasks: BTreeSet<ConnId>,
    started: Instant,
    /// As this round began.
    now: Now,
    random: SystemRandom,
    // Gathered over one round of inputs.
    appends: Vec<Append>,
    frames: BTreeMap<ConnId, Vec<Outbound>>,
    dropped: Vec<ConnId>,
    /// Whether the journal was asked for a segment that it has not begun.
    roll_asked: bool,
}

impl Engine {
    pub(super) fn start(
        opened: Opened,
        dir: PathBuf,
        roster: Arc<ArcSwapOption<Roster>>,
        has_roster: watch::Sender<bool>,
        alarms: Alarms,
        to_self: mpsc::Sender<Message>,
        inputs: mpsc::Receiver<Message>,
    ) -> Result<Engine, RelayError> {
        let Opened { exchange, writer, reader, log } = opened;
        let (to_engine, events) = mpsc::channel(EVENTS_MAX);
        let journal = Journal::start(writer, move |event| {
            // The engine is gone only when the process ends; then nobody waits for the event.
            if to_engine.blocking_send(event).is_err() {
                tracing::debug!("the journal's last event came after the engine's end");
            }
        })?;
        let (to_engine, outcomes) = mpsc::channel(OUTCOMES_MAX);
        let files = log.continued.files.clone();
        let (view, retry_every) = (log.continued.view, LOG_RETRY_EVERY);
        let log = Log::start(view, files.clone(), log.key, log.origin, retry_every, move |outcome| {
            if to_engine.blocking_send(outcome).is_err() {
                tracing::debug!("the audit log's last outcome came after the engine's end");
            }
        })?;
        roster.store(exchange.roster().cloned());
        has_roster.send_replace(exchange.roster().is_some());
        let keeper = Keeper::new(log, files, exchange.keeps_log(), to_self.clone());
        let started = Instant::now();
        Ok(Engine {
            exchange,
            journal,
            reader,
            events,
            keeper,
            outcomes,
            inputs,
            to_self,
            roster,
            has_roster,
            notices: Notices::new(alarms),
            dir,
            connections: BTreeMap::new(),
            tasks: BTreeSet::new(),
            started,
            now: now_since(started),
            random: SystemRandom::new(),
            appends: Vec::new(),
            frames: BTreeMap::new(),
            dropped: Vec::new(),
            roll_asked: false,
        })
    }

    /// How the journal's syncs go.
    pub(super) fn vitals(&self) -> Arc<Vitals> {
        self.journal.vitals()
    }

    /// Says to the exchange what comes `first`, runs until told to stop, then tells every desk, waits for what is being
    /// written, and seals the journal.
    pub(super) async fn run(
        mut self,
        first: Vec<Input>,
        mut shutdown: watch::Receiver<bool>,
        drain_time_max: Duration,
    ) -> Result<(), RelayError> {
        self.keep_roster_notes(0);
        for input in first {
            self.input(input)?;
        }
        self.carry_out()?;
        while !*shutdown.borrow() {
            self.round(Some(&mut shutdown)).await?;
        }
        tracing::info!("stopping");
        self.now = now_since(self.started);
        self.input(Input::Stopping)?;
        self.carry_out()?;
        let deadline = self.started.elapsed() + drain_time_max;
        while !(self.exchange.is_idle() && self.tasks.is_empty()) && self.started.elapsed() < deadline {
            self.round(None).await?;
        }
        let Engine { journal, .. } = self;
        tokio::task::spawn_blocking(move || journal.stop()).await.map_err(|_| JournalError::Stopped)?;
        Ok(())
    }

    /// Waits for something to happen, and carries out what follows from it.
    async fn round(&mut self, shutdown: Option<&mut watch::Receiver<bool>>) -> Result<(), RelayError> {
        let timeout = tokio::time::Instant::from_std(self.started + self.exchange.poll_timeout());
        let mut messages = Vec::new();
        // While the journal's queue is full, desks wait: their messages stay where they are.
        let takes_inputs = self.appends.is_empty() && !self.keeper.is_behind();
        let (mut event, mut outcome) = (None, None);
        tokio::select! {
            biased;
            next = self.outcomes.recv() => outcome = Some(next.unwrap_or(Outcome::Failed(LogError::Stopped))),
            next = self.events.recv() => event = Some(next.unwrap_or(Event::Failed(JournalError::Stopped))),
            _ = self.inputs.recv_many(&mut messages, INPUTS_AT_ONCE), if takes_inputs => {}
            () = tokio::time::sleep_until(timeout) => {}
            () = told_to_stop(shutdown) => {}
        }
        // One reading of the clocks for all that this round has to do.
        self.now = now_since(self.started);
        if let Some(event) = event {
            self.journal_event(event)?;
        }
        match outcome {
            Some(Outcome::Signed(note)) => self.input(Input::Signed { note })?,
            Some(Outcome::Published(note)) => self.input(Input::Published { note })?,
            Some(Outcome::Full(is_full)) => self.notices.log_room(!is_full),
            Some(Outcome::Failed(error)) => return Err(error.into()),
            None => {}
        }
        for message in messages {
            self.message(message)?;
        }
        // Here and not in its own arm: inputs that never end must not keep deadlines from being looked at.
        if self.now.mono >= self.exchange.poll_timeout() {
            if !takes_inputs {
                self.exchange.hear_all(self.now);
            }
            self.exchange.handle_timeout(self.now);
            self.look_for_acceptance()?;
        }
        while let Ok(event) = self.events.try_recv() {
            self.journal_event(event)?;
        }
        if !self.roll_asked && self.exchange.wants_base() {
            self.roll_asked = self.journal.roll();
        }
        self.carry_out()
    }

    /// While the machine's clock is in doubt, looks whether an operator has accepted it.
    fn look_for_acceptance(&mut self) -> Result<(), RelayError> {
        if self.exchange.is_clock_in_doubt() && clock::was_accepted(&self.dir, self.now.wall_us) {
            return self.input(Input::ClockAccepted);
        }
        Ok(())
    }

    fn message(&mut self, message: Message) -> Result<(), RelayError> {
        match message {
            Message::Connected { conn, party, serial, frames } => {
                self.connections.insert(conn, frames);
                self.tasks.insert(conn);
                self.input(Input::Connected { conn, party, serial })
            }
            Message::Received { conn, frames } => {
                self.input(Input::Heard { conn })?;
                for frame in frames {
                    self.input(Input::Received { conn, frame })?;
                }
                Ok(())
            }
            Message::Lives { conn } => self.input(Input::Heard { conn }),
            Message::Written { conn, bytes } => self.input(Input::Written { conn, bytes }),
            Message::Closed { conn } => {
                self.connections.remove(&conn);
                self.tasks.remove(&conn);
                self.input(Input::Closed { conn })
            }
            // Settled meanwhile: its segment may be in use again.
            Message::Loaded { position, record: Err(error) } if !self.exchange.needs(position) => {
                tracing::debug!(%error, "a body came too late to be needed");
                self.input(Input::LoadedNothing { position })
            }
            Message::Loaded { position, record } => {
                let body = body_of(position, &record?)?;
                self.input(Input::Loaded { position, body })
            }
            Message::Looked { found, error } => {
                error.iter().for_each(|error| self.notices.log_file(error));
                self.input(found)
            }
            Message::Configured { hash } => self.input(Input::Configured { hash }),
            Message::RosterOffered { note } => self.input(Input::RosterOffered { note }),
            Message::AdmitReader { id, serial, answer } => {
                answer.send(self.exchange.admit_reader(&id, &serial)).unwrap_or_default();
                Ok(())
            }
            Message::Report(answer) => {
                let exchange = self.exchange.report(self.now);
                let (counts, connections) = (self.notices.counts().clone(), self.tasks.len());
                answer.send(EngineReport { exchange, counts, connections }).unwrap_or_default();
                Ok(())
            }
        }
    }

    fn journal_event(&mut self, event: Event) -> Result<(), RelayError> {
        match event {
            Event::Durable(durable) => {
                self.keeper.durable(durable.len());
                for (ticket, position) in durable {
                    self.input(Input::Durable { ticket, position })?;
                }
                Ok(())
            }
            Event::BaseWanted => {
                self.roll_asked = false;
                self.journal.base(self.exchange.base()).map_err(|_| JournalError::Stopped.into())
            }
            Event::NeededWanted(end) => self
                .journal
                .needed(end, self.exchange.needed_below(end))
                .map_err(|_| JournalError::Stopped.into()),
            Event::Room(has_room) => {
                let room = if has_room { Room::Plenty } else { Room::ReceiptsOnly };
                self.notices.journal_room(has_room);
                self.input(Input::Room(room))
            }
            Event::Erased(erased) => {
                self.notices.erased(erased);
                Ok(())
            }
            // What the last batch became is unknown: nothing more may be said to anybody (promise 9).
            Event::Failed(error) => Err(error.into()),
        }
    }

    /// Hands one input to the exchange; its outputs are taken at the end of the round.
    fn input(&mut self, input: Input) -> Result<(), RelayError> {
        let wanted = self.exchange.salts_wanted();
        if wanted > 0 {
            let mut salts = vec![0; wanted * SALT_BYTES];
            self.random.fill(&mut salts).map_err(|_| RelayError::Random)?;
            self.exchange.add_salts(&salts);
        }
        self.exchange.handle(input, self.now);
        Ok(())
    }

    fn drain(&mut self) -> Result<(), RelayError> {
        while let Some(output) = self.exchange.poll_output() {
            match output {
                Output::Send { conn, frame } => {
                    self.notices.sent(&frame);
                    self.frames.entry(conn).or_default().push(frame);
                }
                Output::Append { ticket, record, urgent } => {
                    let urgency = if urgent { Urgency::Now } else { Urgency::Rides };
                    self.keeper.append(&record.leaf);
                    self.appends.push(Append { ticket, record, urgency });
                }
                Output::Load { position } => self.load(position),
                Output::Close { conn } => {
                    self.send_frames(conn);
                    self.connections.remove(&conn);
                }
                Output::RosterInForce(roster) => {
                    self.notices.roster_in_force(&roster);
                    self.keep_roster_notes(roster.version());
                    self.roster.store(Some(roster));
                    self.has_roster.send_replace(true);
                }
                Output::Sign { size, root } => self.keeper.sign(size, root),
                Output::Publish { note } => self.keeper.publish(note),
                Output::Prove { conn, old_size, size, root } => self.keeper.prove(conn, old_size, size, root),
                Output::Fetch { conn, request, name } => self.keeper.fetch(conn, request, name),
                Output::Forked { note } => {
                    keeper::keep_evidence(&self.dir, &note)?;
                    return Err(RelayError::Forked { evidence: self.dir.join(keeper::EVIDENCE_FOLDER) });
                }
                Output::Notice(notice) => {
                    self.notices.take(&notice, self.exchange.roster().map(|roster| &**roster));
                }
            }
        }
        Ok(())
    }

    /// Shows the notes of this roster version and those after it beside the audit log.
    fn keep_roster_notes(&mut self, from: u32) {
        for (version, note) in self.exchange.roster_notes().filter(|(version, _)| *version >= from) {
            self.keeper.roster(version, note);
        }
    }

    /// Takes the exchange's outputs, and hands what was gathered to the journal and to the connections.
    fn carry_out(&mut self) -> Result<(), RelayError> {
        loop {
            self.drain()?;
            self.keeper.carry_out()?;
            if !self.appends.is_empty() {
                match self.journal.append(std::mem::take(&mut self.appends)) {
                    Ok(()) => {}
                    Err(AppendError::Full(appends)) => self.appends = appends,
                    Err(AppendError::Stopped) => return Err(JournalError::Stopped.into()),
                }
            }
            while let Some(conn) = self.frames.keys().next().copied() {
                self.send_frames(conn);
            }
            if self.dropped.is_empty() {
                return Ok(());
            }
            // What a closed session was sent is due again; nothing it causes is sent to it.
            for conn in std::mem::take(&mut self.dropped) {
                self.input(Input::Closed { conn })?;
            }
        }
    }

    fn send_frames(&mut self, conn: ConnId) {
        let Some(frames) = self.frames.remove(&conn) else { return };
        let Some(connection) = self.connections.get(&conn) else { return };
        if connection.frames.try_send(frames).is_err() {
            tracing::warn!(conn = conn.0, "a desk takes nothing from its connection; dropped");
            self.connections.remove(&conn);
            self.dropped.push(conn);
        }
    }

    fn load(&self, position: Position) {
        let (reader, to_self) = (self.reader.clone(), self.to_self.clone());
        tokio::task::spawn_blocking(move || {
            let message = Message::Loaded { position, record: reader.load(position) };
            if to_self.blocking_send(message).is_err() {
                tracing::debug!("a body came back after the engine's end");
            }
        });
    }
}

fn now_since(started: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono: started.elapsed(), wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX) }
}

async fn told_to_stop(shutdown: Option<&mut watch::Receiver<bool>>) {
    if let Some(shutdown) = shutdown
        && shutdown.changed().await.is_ok()
    {
        return;
    }
    // A sender that is gone can never tell; the process is then stopped by its signal.
    std::future::pending().await
}

fn body_of(position: Position, record: &Record) -> Result<Body, RelayError> {
    let malformed = |source| crate::exchange::ReplayError::Malformed { position, source };
    match Content::from_record(record).map_err(malformed)? {
        Content::Envelope(accepted) => Ok(Body::Envelope(accepted.envelope)),
        Content::Receipts(receipts) => Ok(Body::Receipts(Arc::new(receipts))),
        Content::Expired(expired) => Ok(Body::Expired(Arc::new(expired))),
        Content::Refusal(_) | Content::Administrative(_) => Err(JournalError::NoRecord(position.0).into()),
    }
}
