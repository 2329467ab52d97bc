//! Sessions and router as one deterministic state machine: inputs in, outputs out, time as an argument.
//!
//! Follow an envelope: [`Exchange::handle`] gets it as `Received`, `submit` decides and appends it to
//! the journal, [`Exchange::handle`] gets `Durable`, `apply` changes the lasting state and `submit`
//! answers Accepted, `deliver` sends it to its addressees, `receipts` takes their receipts.
//!
//! Checks look at durable and pending state; lasting state changes only in `apply`, live at `Durable` and
//! at replay alike. The edge hands in inputs, one or many, and then carries out all outputs in order.

mod administer;
mod apply;
mod base;
mod bodies;
mod checkpoint;
mod clock;
mod deliver;
mod erasure;
mod expiry;
mod files;
mod io;
mod notice;
mod open;
mod quotas;
mod receipts;
mod report;
mod requests;
mod submit;
mod takeover;
#[cfg(test)]
pub(crate) mod tests;
mod watchers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    identity::PartyId,
    limits::Limits,
    merkle::{Frontier, Hash},
    record::{
        SALT_BYTES, Ticket,
        administrative::{Act, ChainHead},
        content::Content,
    },
    roster::{PartyNumber, Roster, TrustBundle},
    router::{Router, orders::Orders, policy::RosterHistory},
    session::{
        inbound::Inbound,
        outbound::Outbound,
        queue::Queue,
        window::{Allowance, Grant},
    },
    wire::{EnvelopeHash, Position, SubmissionNumber, pb::GoodbyeCode},
};

pub use apply::{Past, ReplayError};
pub use base::base_bytes_max;
use bodies::Bodies;
pub use bodies::Body;
use clock::LogClock;
pub use clock::Standing as ClockStanding;
pub use io::{ConnId, Input, Now, Output, Room};
pub use notice::Notice;
pub use report::{LogReport, MailboxReport, Report, SessionReport};

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// TLS is up, no Hello yet; a deadline.
    AwaitsHello { until: Duration },
    /// Hello is good; the checkpoint that it brought is held against the log.
    Checking,
    /// Hello is good, its incarnation is being written.
    Opening,
    /// Welcome was sent.
    Open,
}

/// One connection.
#[derive(Debug)]
struct Session {
    id: PartyId,
    serial: String,
    /// 0 until its Hello is taken.
    party: PartyNumber,
    stage: Stage,
    /// Its process, by Hello.
    instance: [u8; 16],
    /// Name and version, by Hello.
    software: String,
    /// When its Hello was taken.
    since: Duration,
    heard: Duration,
    sent: Duration,
    pinged: Duration,
    submits: Grant,
    delivers: Allowance,
    /// What was sent and has not left.
    queue: Queue,
    /// The last new submission number of this session: the next is one higher.
    last_new: Option<SubmissionNumber>,
    /// Submissions from here on are deferred until this one comes again.
    deferred_from: Option<SubmissionNumber>,
    bad_signatures: u32,
    /// A roster that the hub is publishing.
    publication: Option<requests::Publication>,
    watcher: watchers::Watcher,
    /// The file of the audit log that it asked for.
    file: Option<files::File>,
    /// Whether the file's next piece goes before mail that is no FLASH: they take turns.
    is_files_turn: bool,
}

impl Session {
    /// Whether a new number follows the one before it in this session; the first may jump.
    fn is_dense(&self, number: SubmissionNumber) -> bool {
        self.last_new.is_none_or(|last| Some(number.0) == last.0.checked_add(1))
    }

    /// Whether a number must wait for a deferred one below it, which ends the wait by coming again.
    fn must_wait(&mut self, number: SubmissionNumber) -> bool {
        if self.deferred_from == Some(number) {
            self.deferred_from = None;
        }
        self.deferred_from.is_some_and(|from| number > from)
    }
}

/// A record on its way to the disk.
#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    content: Content,
    /// Of its record, which is on its way.
    leaf: Hash,
    /// Connections to answer, with the bytes of credit that the answer gives back.
    waiters: Vec<(ConnId, u64)>,
}

/// What is being written of one party.
#[derive(Debug, Default)]
struct InFlight {
    submissions: BTreeMap<SubmissionNumber, (EnvelopeHash, Ticket)>,
    /// With the root of the receipts.
    stored: BTreeMap<u64, (Hash, Ticket)>,
    /// The newest incarnation and its store, until it is durable.
    incarnation: Option<(u32, [u8; 16])>,
    /// Envelopes being written to its mailbox.
    to_mailbox: usize,
}

/// The relay's core. Owned by one task; no lock, no I/O.
#[derive(Debug)]
pub struct Exchange {
    limits: Limits,
    bundle: TrustBundle,
    // Lasting: changes only in `apply`.
    router: Router,
    roster: Option<Arc<Roster>>,
    history: RosterHistory,
    roster_leaves: Vec<(u32, Position, Bytes, Bytes)>,
    orders: Orders,
    chain: ChainHead,
    tree: Frontier,
    last_record_us: u64,
    clock: LogClock,
    erasures: erasure::Erasures,
    checkpoints: checkpoint::Checkpoints,
    // Of this process.
    sessions: BTreeMap<ConnId, Session>,
    by_party: BTreeMap<PartyNumber, ConnId>,
    take_overs: BTreeMap<PartyNumber, takeover::TakeOvers>,
    usage: BTreeMap<PartyNumber, quotas::Usage>,
    /// Connections whose mailbox, credit or queue changed since the last output.
    due: BTreeSet<ConnId>,
    pending: VecDeque<Pending>,
    in_flight: BTreeMap<PartyNumber, InFlight>,
    /// Addressees of envelopes that are being written.
    addressees_pending: usize,
    next_ticket: Ticket,
    administrative: administer::Queue,
    bodies: Bodies,
    files: files::Files,
    loading: BTreeSet<Position>,
    /// Envelopes whose expiry is being written.
    expiring: BTreeSet<Position>,
    /// What was last said of the machine's clock.
    clock_told: clock::Standing,
    pool_bytes: u64,
    room: Room,
    stopping: bool,
    salts: VecDeque<[u8; SALT_BYTES]>,
    outputs: VecDeque<Output>,
    next_tick: Duration,
}

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

impl Exchange {
    /// An exchange with no records, which trusts rosters that follow this bundle.
    pub fn new(limits: Limits, bundle: TrustBundle) -> Exchange {
        Exchange {
            bodies: Bodies::new(limits.body_cache_bytes_max),
            pool_bytes: limits.window_pool_bytes,
            limits,
            bundle,
            router: Router::default(),
            roster: None,
            history: RosterHistory::default(),
            roster_leaves: Vec::new(),
            orders: Orders::default(),
            chain: ChainHead::START,
            tree: Frontier::new(),
            last_record_us: 0,
            clock: LogClock::new(0),
            erasures: erasure::Erasures::default(),
            checkpoints: checkpoint::Checkpoints::default(),
            sessions: BTreeMap::new(),
            by_party: BTreeMap::new(),
            take_overs: BTreeMap::new(),
            usage: BTreeMap::new(),
            due: BTreeSet::new(),
            pending: VecDeque::new(),
            in_flight: BTreeMap::new(),
            addressees_pending: 0,
            next_ticket: Ticket(0),
            administrative: administer::Queue::default(),
            files: files::Files::default(),
            loading: BTreeSet::new(),
            expiring: BTreeSet::new(),
            clock_told: clock::Standing::Good,
            room: Room::Plenty,
            stopping: false,
            salts: VecDeque::new(),
            outputs: VecDeque::new(),
            next_tick: Duration::ZERO,
        }
    }

    /// How many more salts it wants before the next input: random, 32 bytes each, one for each record. Many
    /// at a time and seldom, so that drawing them is not a system call for each record.
    pub fn salts_wanted(&self) -> usize {
        if self.salts.len() >= SALTS_LEAST { 0 } else { SALTS_KEPT - self.salts.len() }
    }

    /// Hands in salts; see [`Exchange::salts_wanted`].
    pub fn add_salts(&mut self, salts: &[u8]) {
        self.salts.extend(salts.as_chunks::<SALT_BYTES>().0);
    }

    /// Takes one input. Drain [`Exchange::poll_output`] after it, or after a few: what mailboxes have due is
    /// sent then, once for all of them.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.clock.advance(now, &self.limits);
        match input {
            Input::Connected { conn, party, serial } => self.connected(conn, party, serial, now),
            Input::Received { conn, frame } => self.received(conn, frame, now),
            Input::Heard { conn } => self.heard(conn, now),
            Input::Written { conn, bytes } => self.written(conn, bytes, now),
            Input::Closed { conn } => self.closed(conn),
            Input::Durable { ticket, position } => self.durable(ticket, position),
            Input::Loaded { position, body } => self.loaded(position, body),
            Input::LoadedNothing { position } => {
                self.loading.remove(&position);
            }
            Input::RosterOffered { note } => self.administer_roster(note, None),
            Input::Room(room) => self.room = room,
            Input::Started { software } => self.administer(Act::Started { software }),
            Input::Configured { hash } => self.administer(Act::Configuration { hash }),
            Input::ClockAccepted => self.accept_clock(now),
            Input::Signed { note } => self.checkpoint_signed(note),
            Input::Published { note } => self.checkpoint_published(note),
            Input::Proved { conn, old_size, size, path } => self.proved(conn, old_size, size, path),
            Input::Unproved { conn, old_size } => self.unproved(conn, old_size),
            Input::Unreadable { conn, request } => self.unreadable(conn, request),
            Input::Fetched { conn, request, bytes } => self.fetched(conn, request, bytes),
            Input::Stopping => self.stop(),
        }
    }

    /// Looks at deadlines; call it when [`Exchange::poll_timeout`] is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.clock.advance(now, &self.limits);
        self.next_tick = now.mono + TICK;
        let due: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in due {
            self.check_deadlines(conn, now);
            self.look_at_file(conn);
        }
        self.take_files_back();
        self.administer_past_counts();
        self.watch_clock(now);
        self.expire(now);
        self.erase();
        self.time_checkpoint(now);
        self.watch_witnesses(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            let checkpoint = self.checkpoint_due();
            self.outputs.extend(checkpoint);
            for conn in std::mem::take(&mut self.due) {
                self.deliver(conn);
            }
        }
        self.outputs.pop_front()
    }

    /// When to call [`Exchange::handle_timeout`].
    pub fn poll_timeout(&self) -> Duration {
        self.next_tick
    }

    /// The roster in force.
    pub fn roster(&self) -> Option<&Arc<Roster>> {
        self.roster.as_ref()
    }

    /// The notes of all roster versions that came into force, oldest first.
    pub fn roster_notes(&self) -> impl Iterator<Item = (u32, Bytes)> {
        self.roster_leaves.iter().map(|(version, _, _, note)| (*version, note.clone()))
    }

    /// Size and root of the audit tree over all durable records.
    pub fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// Records below a position that the journal must still be able to load, rising.
    pub fn needed_below(&self, end: Position) -> Vec<Position> {
        self.router.needed_below(end)
    }

    /// Whether somebody still waits for a record.
    pub fn needs(&self, position: Position) -> bool {
        self.router.is_needed(position)
    }

    /// Whether every record that was appended is durable and answered.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.administrative.is_empty()
    }

    fn received(&mut self, conn: ConnId, frame: Inbound, now: Now) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.heard = now.mono;
        match (session.stage, frame) {
            (_, Inbound::Goodbye) => self.close_quietly(conn),
            (Stage::Open, Inbound::LogBehind) => {
                let party = session.party;
                self.notice(Notice::LogBehind { party });
                self.close_quietly(conn);
            }
            (_, Inbound::LogBehind) => self.close_quietly(conn),
            (_, Inbound::Violation(words)) => self.goodbye(conn, GoodbyeCode::Protocol, words),
            (Stage::AwaitsHello { .. }, Inbound::Hello(hello)) => self.hello(conn, hello),
            (Stage::AwaitsHello { .. }, Inbound::BadHello(code, words)) => self.bad_hello(conn, code, words),
            (Stage::Open, Inbound::Submit(envelope, bytes)) => self.submit(conn, *envelope, bytes),
            (Stage::Open, Inbound::BadSubmit(bad, bytes)) => self.bad_submit(conn, &bad, bytes),
            (Stage::Open, Inbound::Stored(receipts)) => self.stored(conn, *receipts),
            (Stage::Open, Inbound::Confirm(position)) => self.confirm(conn, position),
            (Stage::Open, Inbound::Publish(chunk)) => self.publish(conn, &chunk, now),
            (Stage::Open, Inbound::Order(request, order, key)) => self.order(conn, request, order, &key),
            (Stage::Open, Inbound::Witnessed(answer)) => self.witnessed(conn, &answer),
            (Stage::Open, Inbound::Fetch(request, name)) => self.fetch(conn, request, name),
            (Stage::Open, Inbound::Credit(credit)) => {
                session.delivers.raise(credit);
                self.due.insert(conn);
            }
            (Stage::Open, Inbound::Ping(token)) => {
                let time_us = self.clock.time_us();
                self.send(conn, Outbound::Pong { token, time_us });
            }
            (Stage::Open, Inbound::Pong) => {}
            (Stage::Open, Inbound::Hello(_) | Inbound::BadHello(..)) => {
                self.goodbye(conn, GoodbyeCode::Protocol, "a second Hello".to_owned());
            }
            (Stage::AwaitsHello { .. } | Stage::Checking | Stage::Opening, _) => {
                self.goodbye(conn, GoodbyeCode::Protocol, "a frame before the session is open".to_owned());
            }
        }
    }

    /// Log time in seconds.
    fn now_s(&self) -> u64 {
        self.clock.time_us() / 1_000_000
    }

    /// Takes every desk for heard: nothing was taken from any, whatever they said.
    pub fn hear_all(&mut self, now: Now) {
        self.sessions.values_mut().for_each(|session| session.heard = now.mono);
    }

    fn heard(&mut self, conn: ConnId, now: Now) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.heard = now.mono;
        }
    }

    fn written(&mut self, conn: ConnId, bytes: usize, now: Now) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.queue.left(bytes, now.mono, &self.limits);
            self.due.insert(conn);
        }
    }

    fn durable(&mut self, ticket: Ticket, position: Position) {
        let pending = self.pending.pop_front().expect("nothing is durable that was not appended");
        assert_eq!(pending.ticket, ticket, "tickets come back in order");
        self.finish(pending, position);
    }

    fn send(&mut self, conn: ConnId, frame: Outbound) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.queue.add(frame.bytes(), self.clock.mono());
        session.sent = self.clock.mono();
        let is_bounded = !matches!(
            frame,
            Outbound::Administrative { .. } | Outbound::Welcome(_) | Outbound::Goodbye { .. }
        );
        let reads_nothing = is_bounded && session.queue.bytes() > self.limits.connection_backlog_bytes_max;
        self.outputs.push_back(Output::Send { conn, frame });
        if reads_nothing {
            self.close_quietly(conn);
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    fn append(&mut self, content: Content, urgent: bool, waiters: Vec<(ConnId, u64)>) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0 + 1);
        let record = content.to_record();
        let leaf = self.leaf_hash(&record);
        self.outputs.push_back(Output::Append { ticket, record, urgent });
        self.pending.push_back(Pending { ticket, content, leaf, waiters });
        ticket
    }

    fn salt(&mut self) -> [u8; SALT_BYTES] {
        self.salts.pop_front().expect("the edge hands in the salts wanted before each input")
    }
}

/// No input makes more records than this.
const SALTS_LEAST: usize = 64;
/// Salts kept after each draw: 32 KiB.
const SALTS_KEPT: usize = 1_024;
