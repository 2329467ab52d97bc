//! Random traffic with crashes: nothing accepted is lost, every number is written once, every stream
//! arrives in order, and replay gives the live state.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    desk::{DESKS, Desk, hash_of},
    world::World,
};
use crate::{
    exchange::{ConnId, Input, Room},
    limits::Limits,
    record::content::Content,
    roster::PartyNumber,
    session::{outbound::Outbound, window::Allowance},
    wire::{
        EnvelopeHash, Position, Precedence,
        envelope::{Core, parse_header},
        pb::{self, frame::Kind},
        receipt::ReceiptKind,
    },
};

#[derive(Clone, Debug)]
enum Step {
    /// A desk writes to some of the others.
    Write { desk: usize, to: u8, precedence: usize },
    /// A desk connects, taking over from its own older session.
    Connect { desk: usize },
    /// A desk's connection breaks; what it has not read is lost.
    Break { desk: usize },
    /// A desk reads what came, and sends what its window allows, after Deferred as well.
    Send { desk: usize },
    /// A desk reads what came, settles all that it has stored, and confirms its receipts.
    Settle { desk: usize },
    /// The journal syncs one record.
    Sync,
    /// The journal answers one load.
    Load,
    /// The journal's room changes.
    Room { plenty: bool },
    /// The relay is killed; this many unsynced records turn out to be on the disk.
    Crash { survive: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let desk = 0..DESKS.len();
    prop_oneof![
        6 => (desk.clone(), 1u8..8, 0usize..4).prop_map(|(desk, to, precedence)| Step::Write { desk, to, precedence }),
        2 => desk.clone().prop_map(|desk| Step::Connect { desk }),
        1 => desk.clone().prop_map(|desk| Step::Break { desk }),
        4 => desk.clone().prop_map(|desk| Step::Send { desk }),
        3 => desk.prop_map(|desk| Step::Settle { desk }),
        6 => Just(Step::Sync),
        3 => Just(Step::Load),
        1 => any::<bool>().prop_map(|plenty| Step::Room { plenty }),
        1 => (0usize..4).prop_map(|survive| Step::Crash { survive }),
    ]
}

/// A party's session may be taken over after this long.
const TAKE_OVER_EVERY: Duration = Duration::from_secs(10);

/// A desk that keeps what a store would keep, and forgets the rest with its session.
struct Peer {
    desk: Desk,
    // In its store.
    outbox: BTreeMap<u64, Core>,
    accepted: BTreeMap<u64, (EnvelopeHash, Position)>,
    stored: BTreeMap<u64, pb::Stored>,
    /// Unsettled, by position.
    inbox: BTreeMap<u64, (PartyNumber, EnvelopeHash)>,
    settled: BTreeSet<u64>,
    /// Submission numbers by sender and precedence, as they came in first.
    streams: BTreeMap<(PartyNumber, Precedence), Vec<u64>>,
    receipts: BTreeMap<u64, BTreeSet<u64>>,
    last_submission: u64,
    last_stored: u64,
    // Of its session.
    conn: Option<ConnId>,
    is_welcome: bool,
    allowance: Allowance,
    next_to_send: u64,
    read: usize,
}

impl Peer {
    fn new(desk: Desk) -> Peer {
        Peer {
            desk,
            outbox: BTreeMap::new(),
            accepted: BTreeMap::new(),
            stored: BTreeMap::new(),
            inbox: BTreeMap::new(),
            settled: BTreeSet::new(),
            streams: BTreeMap::new(),
            receipts: BTreeMap::new(),
            last_submission: 0,
            last_stored: 0,
            conn: None,
            is_welcome: false,
            allowance: Allowance::default(),
            next_to_send: 0,
            read: 0,
        }
    }

    fn connect(&mut self, world: &mut World) {
        world.now.mono += TAKE_OVER_EVERY;
        let conn = world.connect(self.desk);
        (self.conn, self.is_welcome) = (Some(conn), false);
        self.allowance = Allowance::default();
        self.next_to_send = 0;
        self.read = world.sent.len();
        let confirmed = self.receipts.last_key_value().map_or(0, |(position, _)| position + 1);
        world.hello(conn, pb::Hello { confirmed, ..self.desk.hello() });
        self.take_in(world);
    }

    fn send(&mut self, world: &mut World) {
        self.take_in(world);
        let Some(conn) = self.conn.filter(|_| self.is_welcome) else { return };
        let due: Vec<Core> = self.outbox.range(self.next_to_send..).map(|(_, core)| core.clone()).collect();
        for core in due {
            if !self.allowance.is_open() || self.next_to_send > core.submission.0 {
                break;
            }
            self.allowance.spend(500);
            self.next_to_send = core.submission.0 + 1;
            world.submit(conn, &core);
            self.take_in(world);
        }
    }

    fn settle(&mut self, world: &mut World) {
        self.take_in(world);
        let Some(conn) = self.conn.filter(|_| self.is_welcome) else { return };
        for (position, (sender, hash)) in std::mem::take(&mut self.inbox) {
            let sender = DESKS.into_iter().find(|desk| desk.number == sender).expect("a desk sent it");
            let item = self.desk.receipt(ReceiptKind::Delivered, sender, &[(hash, Position(position))]);
            self.last_stored += 1;
            self.stored.insert(self.last_stored, self.desk.stored(self.last_stored, &[item]));
            self.settled.insert(position);
        }
        for frame in self.stored.values().cloned().collect::<Vec<_>>() {
            world.say(conn, Kind::Stored(frame));
        }
        if let Some((position, _)) = self.receipts.last_key_value() {
            world.say(conn, Kind::Confirm(pb::Confirm { position: *position }));
        }
        self.take_in(world);
    }

    /// Reads what was sent to its connection since it last looked.
    fn take_in(&mut self, world: &mut World) {
        let Some(conn) = self.conn else { return };
        let news: Vec<Outbound> = world.sent[self.read..]
            .iter()
            .filter(|(to, _)| *to == conn)
            .map(|(_, frame)| frame.clone())
            .collect();
        self.read = world.sent.len();
        let was_welcome = self.is_welcome;
        for frame in news {
            self.take(frame);
        }
        if self.is_welcome && !was_welcome {
            world.credit(conn, 1_000_000, 1 << 40);
            self.take_in(world);
        }
    }

    fn take(&mut self, frame: Outbound) {
        match frame {
            Outbound::Welcome(welcome) => {
                assert!(welcome.last_accepted.0 <= self.last_submission);
                let newest = self.accepted.last_key_value().map_or(0, |(number, _)| *number);
                assert!(welcome.last_accepted.0 >= newest, "what was accepted is never forgotten");
                self.is_welcome = true;
                self.allowance.raise(welcome.credit);
            }
            Outbound::Credit(credit) => self.allowance.raise(credit),
            Outbound::Accepted { submission, hash, position, .. } => {
                self.outbox.remove(&submission.0);
                let before = self.accepted.insert(submission.0, (hash, position));
                assert!(before.is_none_or(|before| before == (hash, position)), "always the same position");
            }
            Outbound::Deferred { submission, .. } => {
                self.next_to_send = self.next_to_send.min(submission.0);
            }
            Outbound::Deliver { position, envelope, index, .. } => {
                self.deliver(position, &envelope.header, index)
            }
            Outbound::StoredAt { number, .. } => {
                self.stored.remove(&number);
            }
            Outbound::Receipt { position, receipts, index } => {
                let item = &receipts.batch.parts[index].item;
                assert_eq!(item.sender, self.desk.number);
                let named = item.envelopes.iter().map(|(_, position)| position.0);
                self.receipts.entry(position.0).or_default().extend(named);
            }
            Outbound::Expired { .. } => panic!("nothing expires within this test"),
            Outbound::Administrative { .. }
            | Outbound::Administered { .. }
            | Outbound::Checkpoint(_)
            | Outbound::AddCheckpoint(_)
            | Outbound::Fetched { .. }
            | Outbound::Ping(_)
            | Outbound::Pong { .. } => {}
            Outbound::Refused(refusal) => panic!("an honest desk is refused: {refusal:?}"),
            Outbound::Goodbye { code, .. } => panic!("an honest desk is closed: {code:?}"),
        }
    }

    fn deliver(&mut self, position: Position, header: &bytes::Bytes, index: usize) {
        let (core, _) = parse_header(header).expect("a desk wrote it");
        assert_eq!(core.addressees[index].party, self.desk.number);
        if self.settled.contains(&position.0) {
            return; // Stored was said, and is on its way or lost
        }
        let hash = EnvelopeHash(crate::batch::item_leaf(crate::batch::Tag::Envelope, header));
        if self.inbox.insert(position.0, (core.sender, hash)).is_none() {
            let stream = self.streams.entry((core.sender, core.precedence_action)).or_default();
            assert!(stream.last().is_none_or(|last| *last < core.submission.0), "in order, once: {core:?}");
            stream.push(core.submission.0);
        }
    }
}

struct Run {
    world: World,
    peers: Vec<Peer>,
    written: BTreeMap<(PartyNumber, u64), Core>,
}

impl Run {
    fn new() -> Run {
        let mut world = World::with_limits(Limits {
            body_cache_bytes_max: 1_500,
            connection_queue_bytes_max: 4_000,
            receipts_in_flight_max: 3,
            ..Limits::DEFAULT
        });
        world.holds_sync = true;
        world.holds_loads = true;
        Run { world, peers: DESKS.map(Peer::new).into(), written: BTreeMap::new() }
    }

    fn take(&mut self, step: Step) {
        let Run { world, peers, written } = self;
        match step {
            Step::Write { desk, to, precedence } => {
                let peer = &mut peers[desk];
                let others = DESKS.into_iter().filter(|other| *other != peer.desk).enumerate();
                let to: Vec<Desk> =
                    others.filter(|(bit, _)| to & (1 << bit) != 0).map(|(_, desk)| desk).collect();
                peer.last_submission += 1;
                let core = Core {
                    precedence_action: Precedence::HIGHEST_FIRST[precedence],
                    ..peer.desk.core(peer.last_submission, &to)
                };
                written.insert((peer.desk.number, peer.last_submission), core.clone());
                peer.outbox.insert(peer.last_submission, core);
            }
            Step::Connect { desk } => peers[desk].connect(world),
            Step::Break { desk } => {
                if let Some(conn) = peers[desk].conn.take() {
                    world.close(conn);
                }
            }
            Step::Send { desk } => peers[desk].send(world),
            Step::Settle { desk } => peers[desk].settle(world),
            Step::Sync => {
                if !world.unsynced.is_empty() {
                    world.sync();
                }
            }
            Step::Load => {
                if !world.loads.is_empty() {
                    world.load();
                }
            }
            Step::Room { plenty } => {
                let room = if plenty { Room::Plenty } else { Room::ReceiptsOnly };
                world.input(Input::Room(room));
            }
            Step::Crash { survive } => self.crash(survive),
        }
    }

    fn crash(&mut self, survive: usize) {
        let mut old = std::mem::replace(&mut self.world, World::empty(Limits::DEFAULT));
        let (base, synced) = (old.exchange.base(), old.durable.len());
        let unsynced: Vec<_> = old.unsynced.iter().take(survive).map(|(_, record)| record.clone()).collect();
        let mut world = old.restart();
        world.exchange.replay_base(&base).expect("replay gives the live state");
        assert_eq!(world.exchange.base(), base);
        // And so does the base alone, with which the world goes on.
        let restored = world.restored(&base);
        assert_eq!(restored.router, world.exchange.router);
        world.exchange = restored;
        for record in unsynced {
            world.exchange.replay(Position(world.durable.len() as u64), &record).expect("we wrote it");
            world.durable.push(record);
        }
        assert!(world.durable.len() >= synced);
        world.holds_sync = true;
        world.holds_loads = true;
        self.world = world;
        for peer in &mut self.peers {
            peer.conn = None;
        }
    }

    /// Everybody connects, sends and settles until nothing moves.
    fn finish(&mut self) {
        self.take(Step::Room { plenty: true });
        for desk in 0..DESKS.len() {
            self.take(Step::Connect { desk });
        }
        let mut quiet = 0;
        while quiet < 2 {
            let before = self.world.sent.len();
            while !self.world.unsynced.is_empty() || !self.world.loads.is_empty() {
                self.take(Step::Sync);
                self.take(Step::Load);
            }
            for desk in 0..DESKS.len() {
                self.take(Step::Send { desk });
                self.take(Step::Settle { desk });
            }
            let is_quiet = self.world.sent.len() == before && self.world.unsynced.is_empty();
            quiet = if is_quiet && self.world.loads.is_empty() { quiet + 1 } else { 0 };
        }
    }

    fn check(&self) {
        let mut places = BTreeMap::new();
        for (position, record) in (0..).zip(&self.world.durable) {
            if let Content::Envelope(accepted) = Content::from_record(record).expect("we wrote it") {
                let before = places.insert((accepted.core.sender, accepted.core.submission.0), position);
                assert_eq!(before, None, "one record for each number");
            }
        }
        assert_eq!(places.len(), self.written.len(), "all that was written is accepted");
        for ((sender, number), core) in &self.written {
            let place = places[&(*sender, *number)];
            let author = self.peers.iter().find(|peer| peer.desk.number == *sender).expect("a desk");
            let hash = hash_of(&author.desk.submit(core));
            assert_eq!(author.accepted[number], (hash, Position(place)));
            for addressee in &core.addressees {
                let reader = self.peers.iter().find(|peer| peer.desk.number == addressee.party);
                assert!(reader.expect("a desk").settled.contains(&place), "{number} of {sender} got lost");
            }
            let receipts = author.receipts.values().filter(|named| named.contains(&place)).count();
            assert_eq!(receipts, core.addressees.len(), "one delivered receipt from each addressee");
        }
        assert!(self.world.exchange.is_idle());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_loses_doubles_or_reorders_what_was_accepted(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in steps {
            run.take(step);
        }
        run.finish();
        run.check();
        run.crash(0);
    }
}
