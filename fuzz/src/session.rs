//! A whole session among others: one desk says anything to the relay's intake and exchange, in any order with
//! syncs, loads, time and restarts, while two others write to each other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{BufMut, Bytes};
use pouch::{
    exchange::{Body, ConnId, Exchange, Input as Event, Now, Output},
    limits::{FRAME_BEFORE_WELCOME_BYTES_MAX, FRAME_BYTES_MAX, Limits},
    record::{Record, SALT_BYTES, Ticket, content::Content},
    session::{
        inbound::{Inbound, Intake},
        outbound::Outbound,
    },
    wire::{
        EnvelopeHash, Position,
        codec::FrameDecoder,
        envelope::Core,
        pb::{self, frame::Kind},
        receipt::ReceiptKind,
    },
};
use prost::Message;

use super::{
    Input,
    bloc::{BLOC, DOMAIN, Desk},
    peer::Peer,
};

/// Steps of one input, at most.
const STEPS_MAX: usize = 256;
/// What one step may make the exchange do: a window of answers, deliveries and receipts, with room.
const OUTPUTS_MAX: usize = 4_096;
/// Places in [`super::bloc::Bloc::desks`].
const MINISTRY: usize = 0;
const EMBASSY: usize = 1;
const ATTACKER: usize = 2;

struct Connection {
    desk: &'static Desk,
    intake: Intake,
    decoder: FrameDecoder,
    exporter: [u8; 32],
    is_closed: bool,
    /// Of its own envelopes: highest position that was accepted, by hash.
    accepted: Option<(EnvelopeHash, Position)>,
    /// The newest envelope that it was delivered.
    delivered: Option<(EnvelopeHash, Position)>,
    welcome: Option<(u64, u64)>,
    stored_at: u64,
}

struct World {
    exchange: Exchange,
    now: Now,
    durable: Vec<Record>,
    unsynced: VecDeque<(Ticket, Record)>,
    loads: VecDeque<Position>,
    connections: BTreeMap<ConnId, Connection>,
    /// Connections by place among the desks.
    current: [ConnId; 3],
    salts: u64,
    next_conn: u64,
}

/// Input: steps, each a byte and what it takes. Nothing panics, no step makes the relay do more than so much, a
/// restart tells the same tree, and the two honest desks never notice.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.exchange_one_dispatch();
}

impl World {
    fn new() -> World {
        let mut world = World {
            exchange: Exchange::new(Limits::DEFAULT, BLOC.bundle.clone()),
            now: Now { mono: Duration::from_secs(1), wall_us: 1_790_000_000_000_000 },
            durable: Vec::new(),
            unsynced: VecDeque::new(),
            loads: VecDeque::new(),
            connections: BTreeMap::new(),
            current: [ConnId(0); 3],
            salts: 0,
            next_conn: 0,
        };
        world.event(Event::RosterOffered { note: BLOC.note.clone() });
        world.sync_all();
        for place in [MINISTRY, EMBASSY] {
            world.open(place);
        }
        world.connect(ATTACKER);
        world.exchange_one_dispatch();
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => self.say_bytes(ATTACKER, input.counted()),
            1 => self.hello(input),
            2 => self.submit(input),
            3 => self.stored(input),
            4 => self.say(ATTACKER, Kind::Confirm(pb::Confirm { position: u64::from(input.short()) })),
            5 => {
                let (envelopes, bytes) = (input.short().into(), u64::from(input.short()) << 8);
                self.say(ATTACKER, Kind::Credit(pb::Credit { envelopes, bytes }));
            }
            6 => self.connect(ATTACKER),
            7 => self.sync(usize::from(input.byte())),
            8 => self.load(),
            9 => self.wait(Duration::from_millis(u64::from(input.short()) % 10_000)),
            10 => self.exchange_one_dispatch(),
            11 => self.restart(),
            12 => self.say(ATTACKER, Kind::Ping(pb::Ping { token: input.byte().into() })),
            13 => self.header(input),
            14 => self.say(
                ATTACKER,
                Kind::Publish(pb::Publish {
                    request: input.byte().into(),
                    total_bytes: u32::from(input.short()) << 7,
                    offset: input.short().into(),
                    chunk: Bytes::copy_from_slice(input.counted()),
                }),
            ),
            // Credit in plenty, so that what waits is sent.
            _ => self.say(ATTACKER, Kind::Credit(pb::Credit { envelopes: 1 << 20, bytes: 1 << 40 })),
        }
    }

    fn peer(place: usize) -> Peer<'static> {
        let desk = &BLOC.desks[place];
        Peer { roster: &BLOC.roster, number: desk.number, key: &desk.sign }
    }

    fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.now.wall_us)
    }

    fn connection(&mut self, place: usize) -> &mut Connection {
        self.connections.get_mut(&self.current[place]).expect("every desk is connected")
    }

    fn connect(&mut self, place: usize) {
        if let Some(old) = self.connections.remove(&self.current[place]) {
            assert!(place == ATTACKER || old.is_closed);
            self.event(Event::Closed { conn: self.current[place] });
        }
        self.next_conn += 1;
        let (conn, desk) = (ConnId(self.next_conn), &BLOC.desks[place]);
        let exporter = [u8::try_from(self.next_conn % 251).expect("below 251"); 32];
        let connection = Connection {
            desk,
            intake: Intake::new(DOMAIN, exporter),
            decoder: FrameDecoder::new(FRAME_BEFORE_WELCOME_BYTES_MAX),
            exporter,
            is_closed: false,
            accepted: None,
            delivered: None,
            welcome: None,
            stored_at: 0,
        };
        self.connections.insert(conn, connection);
        self.current[place] = conn;
        self.event(Event::Connected { conn, party: desk.id.clone(), serial: "0a".to_owned() });
    }

    /// Opens a session in order.
    fn open(&mut self, place: usize) {
        self.connect(place);
        let exporter = self.connection(place).exporter;
        self.say(place, Kind::Hello(World::peer(place).hello(exporter)));
        self.sync_all();
        assert!(self.connection(place).welcome.is_some(), "an honest desk is welcome");
        self.say(place, Kind::Credit(pb::Credit { envelopes: 1 << 20, bytes: 1 << 40 }));
    }

    fn hello(&mut self, input: &mut Input<'_>) {
        let exporter = self.connection(ATTACKER).exporter;
        let mut hello = World::peer(ATTACKER).hello(exporter);
        match input.byte() % 8 {
            1 => hello.protocol = input.byte().into(),
            2 => hello.incarnation = u32::from(input.short()),
            3 => hello.store_id = Bytes::copy_from_slice(input.take(16)),
            4 => hello.roster_version = input.byte().into(),
            5 => hello.confirmed = input.short().into(),
            6 => hello.proof = None,
            _ => {}
        }
        self.say(ATTACKER, Kind::Hello(hello));
    }

    /// An envelope signed in order, with one field of its core changed.
    fn submit(&mut self, input: &mut Input<'_>) {
        let last = self.connection(ATTACKER).welcome.map_or(0, |(last, _)| last);
        let number = last + 1 + u64::from(input.byte() % 16);
        let to = BLOC.desks[usize::from(input.byte()) % BLOC.desks.len()].number;
        let mut core = World::peer(ATTACKER).core(number.max(1), &[to], self.time());
        let value = input.byte();
        match input.byte() % 12 {
            1 => core.sender = BLOC.desks[usize::from(value) % BLOC.desks.len()].number,
            2 => core.topic = "x".repeat(usize::from(value)),
            3 => core.label = "BLOC CONFIDENTIAL".to_owned(),
            4 => core.expires_s = u64::from(value) << 24,
            5 => core.roster_version = value.into(),
            6 => core.addressees.extend(repeated_addressees(&core, value)),
            7 => core.trust_domain = "other.example".to_owned(),
            8 => core.submission.0 = u64::MAX - u64::from(value),
            9 => core.precedence_action = pouch::wire::Precedence::Flash,
            10 => core.size_bucket = value.into(),
            _ => {}
        }
        let text = vec![b'x'; usize::from(input.byte()) * 64];
        self.say(ATTACKER, Kind::Submit(World::peer(ATTACKER).submit(&core, &text)));
    }

    /// Any header bytes, signed in order.
    fn header(&mut self, input: &mut Input<'_>) {
        let submit = pb::Submit {
            ciphertext: Bytes::copy_from_slice(input.counted()),
            wraps: Bytes::copy_from_slice(input.counted()),
            ..pb::Submit::default()
        };
        let header = Bytes::copy_from_slice(input.counted());
        self.say(ATTACKER, Kind::Submit(World::peer(ATTACKER).sign_header(header, submit)));
    }

    /// Receipts signed in order: of its own mail, of mail that is another's, or of nothing.
    fn stored(&mut self, input: &mut Input<'_>) {
        let connection = self.connection(ATTACKER);
        let stored = connection.welcome.map_or(0, |(_, stored)| stored).max(connection.stored_at);
        let number = stored + 1 + u64::from(input.byte() % 4) / 3;
        let kind = ReceiptKind::from_code(1 + input.byte() % 7).expect("1 to 7");
        let sender = BLOC.desks[usize::from(input.byte()) % BLOC.desks.len()].number;
        let accepted = self.connection(EMBASSY).accepted;
        let connection = self.connection(ATTACKER);
        let envelope = match input.byte() % 4 {
            0 => connection.delivered,
            1 => connection.accepted,
            2 => accepted,
            _ => None,
        };
        let made_up = (EnvelopeHash(pouch::merkle::Hash([input.byte(); 32])), Position(input.short().into()));
        let envelopes = vec![envelope.unwrap_or(made_up); 1 + usize::from(input.byte() % 3)];
        let item = World::peer(ATTACKER).receipt(kind, sender, &envelopes);
        let items = vec![item; 1 + usize::from(input.byte() % 3)];
        self.say(ATTACKER, Kind::Stored(World::peer(ATTACKER).stored(number, &items)));
    }

    /// The embassy writes to the ministry, whose desk stores it; both hear of it.
    fn exchange_one_dispatch(&mut self) {
        self.sync_all();
        for place in [MINISTRY, EMBASSY] {
            if self.connection(place).is_closed {
                panic!("an honest session was closed");
            }
        }
        let number = self.connection(EMBASSY).welcome.expect("open").0 + 1;
        let to = BLOC.desks[MINISTRY].number;
        let core: Core = World::peer(EMBASSY).core(number, &[to], self.time());
        self.say(EMBASSY, Kind::Submit(World::peer(EMBASSY).submit(&core, b"honest")));
        self.sync_all();
        let accepted = self.connection(EMBASSY).accepted.expect("an honest envelope is accepted");
        self.connection(EMBASSY).welcome.as_mut().expect("open").0 = number;
        while self.connection(MINISTRY).delivered != Some(accepted) {
            assert!(!self.loads.is_empty(), "an honest envelope is delivered");
            self.load();
        }
        let sender = BLOC.desks[EMBASSY].number;
        let item = World::peer(MINISTRY).receipt(ReceiptKind::Delivered, sender, &[accepted]);
        let number = self.connection(MINISTRY).stored_at + 1;
        self.say(MINISTRY, Kind::Stored(World::peer(MINISTRY).stored(number, &[item])));
        self.sync_all();
        assert_eq!(self.connection(MINISTRY).stored_at, number, "an honest receipt is durable");
    }

    fn say(&mut self, place: usize, frame: Kind) {
        let wire = pb::Frame { kind: Some(frame) }.encode_length_delimited_to_vec();
        self.say_bytes(place, &wire);
    }

    fn say_bytes(&mut self, place: usize, bytes: &[u8]) {
        let conn = self.current[place];
        let connection = self.connection(place);
        if connection.is_closed {
            return;
        }
        if connection.welcome.is_some() {
            connection.decoder.allow(FRAME_BYTES_MAX);
        }
        connection.decoder.buffer().put_slice(bytes);
        let key = connection.desk.sign.public();
        let mut frames = Vec::new();
        while !matches!(frames.last(), Some(Inbound::Violation(_)))
            && let Some(frame) = connection.intake.take(&mut connection.decoder, Some(&key))
        {
            frames.push(frame);
        }
        self.event(Event::Heard { conn });
        for frame in frames {
            self.event(Event::Received { conn, frame });
        }
    }

    fn sync_all(&mut self) {
        self.sync(usize::MAX);
    }

    fn sync(&mut self, most: usize) {
        for _ in 0..most {
            let Some((ticket, record)) = self.unsynced.pop_front() else { return };
            let position = Position(self.durable.len() as u64);
            self.durable.push(record);
            self.event(Event::Durable { ticket, position });
        }
    }

    fn load(&mut self) {
        let Some(position) = self.loads.pop_front() else { return };
        let record = &self.durable[usize::try_from(position.0).expect("in memory")];
        let body = match Content::from_record(record).expect("we wrote it") {
            Content::Envelope(accepted) => Body::Envelope(accepted.envelope),
            Content::Receipts(receipts) => Body::Receipts(Arc::new(receipts)),
            Content::Expired(expired) => Body::Expired(Arc::new(expired)),
            Content::Refusal(_) | Content::Administrative(_) => panic!("nothing to deliver at {position}"),
        };
        self.event(Event::Loaded { position, body });
    }

    /// Time passes, and the honest desks answer pings.
    fn wait(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall_us += u64::try_from(time.as_micros()).expect("seconds");
        for place in [MINISTRY, EMBASSY] {
            let conn = self.current[place];
            self.event(Event::Heard { conn });
        }
        if self.now.mono >= self.exchange.poll_timeout() {
            self.exchange.handle_timeout(self.now);
            self.drain();
        }
    }

    /// The relay is killed, and replays what was durable.
    fn restart(&mut self) {
        let tree = self.exchange.tree().clone();
        self.exchange = Exchange::new(Limits::DEFAULT, BLOC.bundle.clone());
        for (position, record) in (0..).map(Position).zip(&self.durable) {
            self.exchange.replay(position, record).expect("what was written can be read");
        }
        assert!(self.exchange.poll_output().is_none(), "replay does nothing to the outside");
        assert_eq!(self.exchange.tree(), &tree, "replay tells what was durable");
        self.unsynced.clear();
        self.loads.clear();
        for connection in self.connections.values_mut() {
            connection.is_closed = true;
        }
        self.wait(Duration::from_secs(60));
        for place in [MINISTRY, EMBASSY] {
            self.open(place);
        }
        self.connect(ATTACKER);
    }

    fn event(&mut self, event: Event) {
        self.salt();
        self.exchange.handle(event, self.now);
        self.drain();
    }

    fn salt(&mut self) {
        for _ in 0..self.exchange.salts_wanted() {
            self.salts += 1;
            let mut salt = [0; SALT_BYTES];
            salt[..8].copy_from_slice(&self.salts.to_be_bytes());
            self.exchange.add_salts(&salt);
        }
    }

    fn drain(&mut self) {
        let mut written = VecDeque::new();
        let mut outputs = 0;
        loop {
            while let Some(output) = self.exchange.poll_output() {
                outputs += 1;
                assert!(outputs <= OUTPUTS_MAX, "one step makes the relay do without end");
                match output {
                    Output::Send { conn, frame } => {
                        written.push_back((conn, frame.bytes()));
                        if let Some(connection) = self.connections.get_mut(&conn) {
                            connection.hear(&frame);
                        }
                    }
                    Output::Append { ticket, record, .. } => self.unsynced.push_back((ticket, record)),
                    Output::Load { position } => self.loads.push_back(position),
                    Output::Close { conn } => {
                        if let Some(connection) = self.connections.get_mut(&conn) {
                            connection.is_closed = true;
                        }
                    }
                    // What an edge would log or take over.
                    _ => {}
                }
            }
            let Some((conn, bytes)) = written.pop_front() else { return };
            self.salt();
            self.exchange.handle(Event::Written { conn, bytes }, self.now);
        }
    }
}

impl Connection {
    fn hear(&mut self, frame: &Outbound) {
        match frame {
            Outbound::Welcome(welcome) => {
                self.welcome = Some((welcome.last_accepted.0, welcome.last_stored));
                self.stored_at = welcome.last_stored;
            }
            Outbound::Accepted { hash, position, .. } => self.accepted = Some((*hash, *position)),
            Outbound::Deliver { position, envelope, .. } => {
                let leaf = pouch::batch::item_leaf(pouch::batch::Tag::Envelope, &envelope.header);
                self.delivered = Some((EnvelopeHash(leaf), *position));
            }
            Outbound::StoredAt { number, .. } => self.stored_at = *number,
            _ => {}
        }
    }
}

/// More addressees than one, some of whom no roster lists.
fn repeated_addressees(core: &Core, count: u8) -> Vec<pouch::wire::envelope::Addressee> {
    let first = core.addressees[0];
    let party = |index: u8| pouch::roster::PartyNumber(1000 + u32::from(index));
    (0..count % 127).map(|index| pouch::wire::envelope::Addressee { party: party(index), ..first }).collect()
}
