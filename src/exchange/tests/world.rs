//! A relay around the exchange, as small as can be: a journal in memory that syncs when told, and
//! connections that tell what they were sent in one line each.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::desk::{DOMAIN, Desk, START_US, bundle, checkpoint_note, code_of, first_note};
use crate::{
    audit::Checkpoint,
    exchange::{Body, ConnId, Exchange, Input, Notice, Now, Output, ReplayError},
    limits::Limits,
    merkle::{self, Hash},
    note::Note,
    record::{
        Record, SALT_BYTES, Ticket,
        administrative::{Act, AdministrativeLeaf},
        content::{Content, Traffic},
    },
    session::{inbound::Intake, outbound::Outbound},
    wire::{
        Position,
        envelope::Core,
        pb::{self, frame::Kind},
    },
};

/// What a frame counts on the wire where a test does not care.
const FRAME_BYTES: u64 = 500;

pub(crate) struct World {
    pub(crate) exchange: Exchange,
    pub(crate) limits: Limits,
    pub(crate) now: Now,
    /// The journal: index is position.
    pub(crate) durable: Vec<Record>,
    /// Appended and not durable.
    pub(crate) unsynced: VecDeque<(Ticket, Record)>,
    /// Whether `Durable` waits for [`World::sync`].
    pub(crate) holds_sync: bool,
    /// Whether `Loaded` waits for [`World::load`].
    pub(crate) holds_loads: bool,
    /// Whether nothing leaves the connections' queues.
    pub(crate) holds_writes: bool,
    /// Whether no checkpoint is ever signed.
    pub(crate) holds_signing: bool,
    /// Whether what is published does not get to the disk until a test hands it in.
    pub(crate) holds_publishing: bool,
    /// Whether no path is found in the log's files.
    pub(crate) proves_nothing: bool,
    /// Whether files of the log are not read until a test hands them in.
    pub(crate) holds_files: bool,
    pub(crate) loads: VecDeque<Position>,
    pub(crate) notices: Vec<Notice>,
    /// Every frame sent.
    pub(crate) sent: Vec<(ConnId, Outbound)>,
    connections: BTreeMap<ConnId, (Desk, Intake)>,
    next_conn: u64,
    salts: u64,
}

impl World {
    /// A relay with version 1 of the roster in force, at position 0.
    pub(crate) fn new() -> World {
        World::with_limits(Limits::DEFAULT)
    }

    pub(crate) fn with_limits(limits: Limits) -> World {
        let mut world = World::empty(limits);
        let seen = world.input(Input::RosterOffered { note: first_note() });
        assert_eq!(seen, ["append roster 1", "roster 1 in force"]);
        world
    }

    /// A relay that has never run.
    pub(crate) fn empty(limits: Limits) -> World {
        World {
            exchange: Exchange::new(limits.clone(), bundle()),
            limits,
            now: Now { mono: Duration::from_secs(1), wall_us: START_US },
            durable: Vec::new(),
            unsynced: VecDeque::new(),
            holds_sync: false,
            holds_loads: false,
            holds_writes: false,
            holds_signing: false,
            holds_publishing: false,
            proves_nothing: false,
            holds_files: false,
            loads: VecDeque::new(),
            notices: Vec::new(),
            sent: Vec::new(),
            connections: BTreeMap::new(),
            next_conn: 0,
            salts: 0,
        }
    }

    /// A relay that keeps an audit log, with version 1 of the roster in force.
    pub(crate) fn keeping_log(limits: Limits) -> World {
        let mut world = World::empty(limits);
        world.exchange.keep_log(None, None).unwrap();
        let seen = world.input(Input::RosterOffered { note: first_note() });
        assert_eq!(seen, ["append roster 1", "roster 1 in force"]);
        world
    }

    /// Kills the relay and starts it again on what was durable.
    pub(crate) fn restart(self) -> World {
        let mut world = World::empty(self.limits);
        world.now = self.now;
        world.next_conn = self.next_conn;
        world.salts = self.salts;
        for (position, record) in (0..).zip(&self.durable) {
            world.exchange.replay(Position(position), record).expect("what was written can be read");
        }
        assert!(world.exchange.poll_output().is_none(), "replay does nothing to the outside");
        world.durable = self.durable;
        world
    }

    /// An exchange that begins with a base, and finds roster notes in the journal.
    pub(crate) fn restored(&self, base: &[u8]) -> Exchange {
        self.try_restored(base).expect("it was written here")
    }

    pub(crate) fn try_restored(&self, base: &[u8]) -> Result<Exchange, ReplayError> {
        let mut exchange = Exchange::new(self.limits.clone(), bundle());
        exchange.restore(base, |position| {
            let record = usize::try_from(position.0).ok().and_then(|index| self.durable.get(index));
            Ok::<_, ReplayError>(record.map(|record| record.body.clone()).unwrap_or_default())
        })?;
        Ok(exchange)
    }

    /// Hands an input in, carries out what comes of it, and tells it line by line.
    pub(crate) fn input(&mut self, input: Input) -> Vec<String> {
        let mut seen = Vec::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.add_salts();
            self.exchange.handle(input, self.now);
            self.drain(&mut seen, &mut inputs);
        }
        seen
    }

    /// Lets time pass and tells what came of it.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<String> {
        self.now.mono += time;
        self.now.wall_us += u64::try_from(time.as_micros()).unwrap();
        let mut seen = Vec::new();
        let mut inputs = VecDeque::new();
        if self.now.mono >= self.exchange.poll_timeout() {
            self.add_salts();
            self.exchange.handle_timeout(self.now);
        }
        self.drain(&mut seen, &mut inputs);
        while let Some(input) = inputs.pop_front() {
            seen.extend(self.input(input));
        }
        seen
    }

    /// The journal syncs the oldest record.
    pub(crate) fn sync(&mut self) -> Vec<String> {
        let (ticket, record) = self.unsynced.pop_front().expect("something is to be synced");
        let position = Position(self.durable.len() as u64);
        self.durable.push(record);
        self.input(Input::Durable { ticket, position })
    }

    pub(crate) fn sync_all(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while !self.unsynced.is_empty() {
            seen.extend(self.sync());
        }
        seen
    }

    /// The journal answers the oldest load.
    pub(crate) fn load(&mut self) -> Vec<String> {
        let position = self.loads.pop_front().expect("something is to be loaded");
        let body = self.body(position);
        self.input(Input::Loaded { position, body })
    }

    /// A TLS handshake ends.
    pub(crate) fn connect(&mut self, desk: Desk) -> ConnId {
        let (conn, seen) = self.connect_telling(desk, "0a");
        assert_eq!(seen, [""; 0]);
        conn
    }

    pub(crate) fn connect_telling(&mut self, desk: Desk, serial: &str) -> (ConnId, Vec<String>) {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        self.connections.insert(conn, (desk, Intake::new(DOMAIN, exporter(conn))));
        let seen = self.input(Input::Connected { conn, party: desk.id(), serial: serial.to_owned() });
        (conn, seen)
    }

    /// Opens a session for a desk that is known or new, with as much credit as it may want.
    pub(crate) fn open(&mut self, desk: Desk) -> ConnId {
        let conn = self.connect(desk);
        let seen = self.hello(conn, desk.hello());
        assert!(seen.iter().any(|line| line.contains("Welcome")), "{seen:?}");
        self.credit(conn, 1_000_000, 1 << 40);
        conn
    }

    pub(crate) fn credit(&mut self, conn: ConnId, envelopes: u64, bytes: u64) -> Vec<String> {
        self.say(conn, Kind::Credit(pb::Credit { envelopes, bytes }))
    }

    /// A desk says Hello, signed for its connection.
    pub(crate) fn hello(&mut self, conn: ConnId, hello: pb::Hello) -> Vec<String> {
        let desk = self.connections[&conn].0;
        self.say(conn, Kind::Hello(desk.signed_hello(hello, exporter(conn))))
    }

    /// A desk sends a frame, which is checked under the key that it says is its own.
    pub(crate) fn say(&mut self, conn: ConnId, frame: Kind) -> Vec<String> {
        self.say_bytes(conn, frame, FRAME_BYTES)
    }

    pub(crate) fn say_bytes(&mut self, conn: ConnId, frame: Kind, bytes: u64) -> Vec<String> {
        let (desk, intake) = self.connections.get_mut(&conn).expect("connected");
        let frame = intake.check(frame, bytes, Some(&desk.key()));
        self.input(Input::Received { conn, frame })
    }

    pub(crate) fn submit(&mut self, conn: ConnId, core: &Core) -> Vec<String> {
        let frame = self.connections[&conn].0.submit(core);
        self.say(conn, Kind::Submit(frame))
    }

    pub(crate) fn close(&mut self, conn: ConnId) -> Vec<String> {
        self.input(Input::Closed { conn })
    }

    /// All that one connection was told.
    pub(crate) fn told(&self, conn: ConnId) -> Vec<String> {
        self.sent.iter().filter(|(to, _)| *to == conn).map(|(_, frame)| tell(frame)).collect()
    }

    /// The last frame that was sent.
    pub(crate) fn last_sent(&self) -> &Outbound {
        &self.sent.last().expect("something was sent").1
    }

    pub(crate) fn body(&self, position: Position) -> Body {
        let record = &self.durable[usize::try_from(position.0).unwrap()];
        match Content::from_record(record).unwrap() {
            Content::Envelope(accepted) => Body::Envelope(accepted.envelope),
            Content::Receipts(receipts) => Body::Receipts(receipts.into()),
            Content::Expired(expired) => Body::Expired(expired.into()),
            Content::Refusal(_) | Content::Administrative(_) => panic!("nothing to deliver at {position}"),
        }
    }

    fn add_salts(&mut self) {
        for _ in 0..self.exchange.salts_wanted() {
            self.salts += 1;
            let mut salt = [0; SALT_BYTES];
            salt[..8].copy_from_slice(&self.salts.to_be_bytes());
            self.exchange.add_salts(&salt);
        }
    }

    fn drain(&mut self, seen: &mut Vec<String>, inputs: &mut VecDeque<Input>) {
        while let Some(output) = self.exchange.poll_output() {
            match output {
                Output::Send { conn, frame } => {
                    self.check_proof(&frame);
                    seen.push(format!("{} < {}", self.connections[&conn].0.code, tell(&frame)));
                    if !self.holds_writes {
                        inputs.push_back(Input::Written { conn, bytes: frame.bytes() });
                    }
                    self.sent.push((conn, frame));
                }
                Output::Append { ticket, record, urgent } => {
                    let content = Content::from_record(&record).expect("we wrote it");
                    assert_eq!(urgent, !matches!(content, Content::Receipts(_) | Content::Expired(_)));
                    seen.push(format!("append {}", tell_content(&content)));
                    if self.holds_sync {
                        self.unsynced.push_back((ticket, record));
                    } else {
                        let position = Position(self.durable.len() as u64);
                        self.durable.push(record);
                        inputs.push_back(Input::Durable { ticket, position });
                    }
                }
                Output::Load { position } => {
                    seen.push(format!("load {position}"));
                    if self.holds_loads {
                        self.loads.push_back(position);
                    } else {
                        inputs.push_back(Input::Loaded { position, body: self.body(position) });
                    }
                }
                Output::Close { conn } => seen.push(format!("{} closed", self.connections[&conn].0.code)),
                Output::RosterInForce(roster) => seen.push(format!("roster {} in force", roster.version())),
                Output::Notice(notice) => self.notices.push(notice),
                Output::Sign { size, root } => {
                    seen.push(format!("sign {size}"));
                    assert_eq!(root, merkle::root(&self.leaves(size)));
                    if !self.holds_signing {
                        inputs.push_back(Input::Signed { note: checkpoint_note(size, root) });
                    }
                }
                Output::Prove { conn, old_size, .. } if self.proves_nothing => {
                    inputs.push_back(Input::Unproved { conn, old_size });
                }
                Output::Prove { conn, old_size, size, .. } => {
                    let path =
                        merkle::consistency_path(&self.leaves(size), usize::try_from(old_size).unwrap());
                    inputs.push_back(Input::Proved { conn, old_size, size, path });
                }
                Output::Fetch { conn, request, name } => {
                    seen.push(format!("{} fetches {name}", self.connections[&conn].0.code));
                    if !self.holds_files {
                        inputs.push_back(Input::Fetched { conn, request, bytes: Some(Bytes::from(name)) });
                    }
                }
                Output::Publish { note } => {
                    seen.push(format!("publish {}", tell_note(&note)));
                    if !self.holds_publishing {
                        inputs.push_back(Input::Published { note });
                    }
                }
                Output::Forked { note } => seen.push(format!("forked by {}", tell_note(&note))),
            }
        }
    }

    /// Hashes of the first so many leaves.
    pub(crate) fn leaves(&self, size: u64) -> Vec<Hash> {
        let records = &self.durable[..usize::try_from(size).unwrap()];
        records.iter().map(|record| merkle::leaf_hash(&record.leaf)).collect()
    }

    /// Promise 1: whatever names a position names a record that is durable, and proves its leaf.
    fn check_proof(&self, frame: &Outbound) {
        let (position, traffic) = match frame {
            Outbound::Accepted { position, traffic, .. }
            | Outbound::Deliver { position, traffic, .. }
            | Outbound::StoredAt { position, traffic: Some(traffic), .. } => (*position, *traffic),
            Outbound::StoredAt { traffic: None, .. } => return,
            Outbound::Receipt { position, receipts, .. } => (*position, receipts.traffic),
            Outbound::Expired { position, expired, .. } => (*position, expired.traffic),
            Outbound::Refused(refusal) => match refusal.recorded {
                Some(recorded) => recorded,
                None => return,
            },
            Outbound::Administrative { position, leaf, .. } => {
                let record = &self.durable[usize::try_from(position.0).unwrap()];
                return assert_eq!(record.leaf, leaf);
            }
            Outbound::Welcome(_)
            | Outbound::Checkpoint(_)
            | Outbound::AddCheckpoint(_)
            | Outbound::Fetched { .. }
            | Outbound::Deferred { .. }
            | Outbound::Credit(_)
            | Outbound::Ping(_)
            | Outbound::Pong { .. }
            | Outbound::Administered { .. }
            | Outbound::Goodbye { .. } => return,
        };
        let Traffic { salt, opening } = traffic;
        let record = self.durable.get(usize::try_from(position.0).unwrap()).expect("the record is durable");
        assert_eq!(record.leaf, opening.leaf(&salt)[..], "{frame:?}");
    }
}

pub(crate) fn exporter(conn: ConnId) -> [u8; 32] {
    [u8::try_from(conn.0 % 251).unwrap(); 32]
}

/// Size and signatures of a checkpoint.
fn tell_note(note: &[u8]) -> String {
    let note = Note::parse(note).unwrap();
    let checkpoint: Checkpoint = note.text().parse().unwrap();
    format!("{} signed by {}", checkpoint.size, note.signatures().len())
}

/// A frame in one line.
fn tell(frame: &Outbound) -> String {
    match frame {
        Outbound::Welcome(welcome) => format!(
            "Welcome incarnation {} roster {} submitted {} stored {}",
            welcome.incarnation_known, welcome.roster_version, welcome.last_accepted.0, welcome.last_stored
        ),
        Outbound::Administrative { position, leaf, before_welcome, .. } => {
            let act = tell_act(&AdministrativeLeaf::decode(leaf).unwrap().act);
            let early = if *before_welcome { ", before Welcome" } else { "" };
            format!("{act} at {position}{early}")
        }
        Outbound::Accepted { submission, position, .. } => format!("Accepted {} at {position}", submission.0),
        Outbound::Refused(refusal) => {
            let recorded = refusal.recorded.map(|(position, _)| format!(" at {position}"));
            format!("Refused {} {:?}{}", refusal.submission.0, refusal.code, recorded.unwrap_or_default())
        }
        Outbound::Deferred { submission, .. } => format!("Deferred {}", submission.0),
        Outbound::Deliver { position, envelope, index, .. } => {
            format!("Deliver {position} {:?} {index}", text_of(&envelope.ciphertext()))
        }
        Outbound::StoredAt { number, position, .. } => format!("StoredAt {number} at {position}"),
        Outbound::Receipt { position, receipts, index } => {
            let item = &receipts.batch.parts[*index].item;
            let positions: Vec<u64> = item.envelopes.iter().map(|(_, position)| position.0).collect();
            format!("Receipt {position} {} {positions:?} by {}", item.kind.name(), code_of(item.receiptor))
        }
        Outbound::Expired { position, expired, index } => {
            let item = expired.item(*index);
            let (sender, addressee) = (code_of(item.sender), code_of(item.addressee));
            format!("Receipt {position} expired [{}] of {sender} to {addressee}", expired.position)
        }
        Outbound::Checkpoint(note) => format!("Checkpoint {}", tell_note(note)),
        Outbound::AddCheckpoint(request) => {
            format!("AddCheckpoint {} from {}", tell_note(request.checkpoint.as_bytes()), request.old_size)
        }
        Outbound::Fetched { request, found, total_bytes, offset, chunk } => {
            let end = offset + chunk.len();
            format!(
                "Fetched {request}, {offset} to {end} of {total_bytes} bytes{}",
                if *found { "" } else { ", absent" }
            )
        }
        Outbound::Credit(credit) => format!("Credit {} {}", credit.envelopes, credit.bytes),
        Outbound::Administered { request, code, position: Position::NONE, .. } => {
            format!("{code:?} {request}")
        }
        Outbound::Administered { request, code, position, .. } => {
            format!("{code:?} {request} at {position}")
        }
        Outbound::Ping(_) => "Ping".to_owned(),
        Outbound::Pong { token, .. } => format!("Pong {token}"),
        Outbound::Goodbye { code, incarnation: 0, .. } => format!("Goodbye {code:?}"),
        Outbound::Goodbye { code, incarnation, .. } => format!("Goodbye {code:?} {incarnation}"),
    }
}

fn tell_content(content: &Content) -> String {
    match content {
        Content::Envelope(accepted) => {
            format!("envelope {} of {}", accepted.core.submission.0, code_of(accepted.core.sender))
        }
        Content::Receipts(receipts) => {
            format!("receipts {} of {}", receipts.batch.number, code_of(receipts.receiptor))
        }
        Content::Refusal(refusal) => {
            format!("refusal {} of {}", refusal.submission.0, code_of(refusal.sender))
        }
        Content::Expired(expired) => {
            format!("expiry of {} of {}", expired.position, code_of(expired.sender))
        }
        Content::Administrative(record) => tell_act(&record.leaf.act),
    }
}

fn tell_act(act: &Act) -> String {
    match act {
        Act::Roster { version, .. } => format!("roster {version}"),
        Act::Incarnation { party, incarnation, .. } => {
            format!("incarnation {incarnation} of {}", code_of(*party))
        }
        Act::Started { software } => format!("start of {software}"),
        Act::Stopped => "stop".to_owned(),
        Act::Refusals { party, code, count, .. } => {
            let code = pb::RefusalCode::try_from(i32::from(*code)).unwrap();
            format!("{count} refusals {code:?} of {}", code_of(*party))
        }
        Act::Order(signed) => format!("order {} {}", signed.order.number, signed.order.kind.name()),
        Act::Cloned { party, .. } => format!("clones of {}", code_of(*party)),
        Act::ClockAccepted { .. } => "clock accepted".to_owned(),
        Act::Erasures { through } => format!("erasures through {}", through.0),
        Act::Configuration { hash } => format!("configuration {}", &hash.to_string()[..4]),
    }
}

fn text_of(ciphertext: &Bytes) -> String {
    String::from_utf8(ciphertext.to_vec()).unwrap()
}
