//! Replaying the records gives the live lasting state, and refuses a journal that does not fit.

use super::{
    desk::{DESKS, IDN, MOD, MYS, PHL, bundle, first_note, hash_of, next_note},
    world::World,
};
use crate::{
    exchange::{Exchange, Input, ReplayError},
    limits::Limits,
    record::Record,
    wire::{
        Position, Precedence,
        envelope::Core,
        order::OrderKind,
        pb::{self, frame::Kind},
        receipt::ReceiptKind,
    },
};

/// A relay that has done everything that makes a record, and has things left to deliver.
pub(crate) fn busy() -> World {
    let mut world = World::new();
    world.input(Input::Started { software: "pouch 1".to_owned() });
    let [hub, idn, mys, phl] = DESKS.map(|desk| world.open(desk));
    for number in 1..=4 {
        world.submit(idn, &IDN.core(number, &[MOD, MYS]));
    }
    world.submit(hub, &Core { precedence_action: Precedence::Flash, ..MOD.core(9, &[IDN, MYS, PHL]) });
    let mut bad = PHL.core(1, &[MYS]);
    bad.topic = "weather".to_owned();
    world.submit(phl, &bad);
    let first = hash_of(&IDN.submit(&IDN.core(1, &[MOD, MYS])));
    for (number, kind) in [(1, ReceiptKind::Delivered), (2, ReceiptKind::Read)] {
        let item = MYS.receipt(kind, IDN, &[(first, Position(6))]);
        world.say(mys, Kind::Stored(MYS.stored(number, &[item])));
    }
    world.say(idn, Kind::Confirm(pb::Confirm { position: 12 }));
    let note = next_note(&first_note(), |draft| draft.parties[4].name = "Philippines".to_owned());
    world.input(Input::RosterOffered { note });
    for (number, kind) in [
        (1, OrderKind::Suspend { party: PHL.number, until_s: u64::MAX }),
        (2, OrderKind::Minimize { until_s: 1 }),
    ] {
        world.say(hub, Kind::Order(MOD.order(1, number, kind)));
    }
    world
}

#[test]
fn replaying_the_records_gives_the_live_lasting_state() {
    let mut live = busy();
    let (base, size) = (live.exchange.base(), live.exchange.tree().size());
    let mut replayed = live.restart();
    assert_eq!(replayed.exchange.tree().size(), size);
    assert_ne!(replayed.exchange.base(), base, "what IDN confirmed is no record");
    replayed.exchange.replay_base(&base).expect("it says the same");
    assert_eq!(replayed.exchange.base(), base);
}

#[test]
fn the_base_alone_gives_the_same_state_as_all_records_before_it() {
    let mut live = busy();
    let base = live.exchange.base();
    let mut restored = live.restored(&base);
    assert_eq!(restored.router, live.exchange.router);
    assert_eq!((restored.base(), restored.tree()), (base, live.exchange.tree()));
    assert_eq!(restored.roster().map(|roster| roster.version()), Some(2));
}

#[test]
fn a_first_base_that_is_cut_short_is_refused_and_a_flipped_one_never_panics() {
    let mut live = busy();
    let base = live.exchange.base();
    for cut in (0..base.len()).step_by(5) {
        assert!(live.try_restored(&base[..cut]).is_err(), "cut at {cut}");
    }
    // That no bit is flipped is the journal's checksum to say; here it must only be read without harm.
    let read = (0..base.len() * 8).step_by(13).filter(|bit| {
        let mut flipped = base.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        live.try_restored(&flipped).is_ok()
    });
    assert!(read.count() < base.len() * 8, "some are refused");
}

#[test]
fn what_is_delivered_after_a_restart_is_what_would_have_been_without_it() {
    let after_reconnect = |world: &mut World| {
        DESKS.map(|desk| {
            let conn = world.connect(desk);
            let numbers = pb::Hello { roster_version: 2, confirmed: 13, ..desk.hello() };
            world.hello(conn, numbers);
            world.credit(conn, 99, 1 << 30);
            world.told(conn)
        })
    };
    let mut live = busy();
    let expected = after_reconnect(&mut live);
    let orders = ["order 1 suspend at 15, before Welcome", "order 2 minimize at 16, before Welcome"];
    assert_eq!(expected[1][..2], orders);
    assert_eq!(expected[1][3..], ["Receipt 13 read [6] by MYS", "Deliver 10 \"text 9\" 0"]);
    assert_eq!(after_reconnect(&mut busy().restart()), expected);
}

/// FAULTS 29.
#[test]
fn a_base_of_another_version_is_refused_by_its_number_first_or_later() {
    let mut live = busy();
    let mut base = live.exchange.base();
    base[0] += 1;
    let first = live.try_restored(&base).expect_err("refused");
    let later = live.exchange.replay_base(&base).expect_err("refused");
    for refused in [first, later] {
        assert!(matches!(refused, ReplayError::BaseVersion(version, _) if version == base[0]), "{refused}");
    }
}

/// FAULTS 6, of notes: a base names the hash of each.
#[test]
fn a_roster_note_that_was_cut_or_flipped_is_refused_by_the_base_that_names_it() {
    let mut live = busy();
    let base = live.exchange.base();
    let whole = live.durable[0].body.to_vec();
    let restored = |live: &World| live.try_restored(&base).map(|_| ());
    assert!(restored(&live).is_ok());
    for length in (0..whole.len()).step_by(29) {
        live.durable[0].body = whole[..length].to_vec().into();
        assert!(matches!(restored(&live), Err(ReplayError::FirstBase(_))), "cut at {length}");
    }
    for bit in (0..whole.len() * 8).step_by(61) {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        live.durable[0].body = flipped.into();
        assert!(matches!(restored(&live), Err(ReplayError::FirstBase(_))), "bit {bit}");
    }
}

#[test]
fn a_base_that_says_anything_else_is_refused() {
    let mut live = busy();
    let base = live.exchange.base();
    let mut replayed = live.restart();
    let records_only = replayed.exchange.base();
    assert!(replayed.exchange.replay_base(&records_only).is_ok(), "nothing confirmed");
    for cut in 0..base.len() {
        assert!(matches!(replayed.exchange.replay_base(&base[..cut]), Err(ReplayError::Base(_))), "{cut}");
    }
    for byte in 0..replayed.exchange.base_of_records(5).len() {
        let mut other = base.clone();
        other[byte] ^= 1;
        assert!(replayed.exchange.replay_base(&other).is_err(), "byte {byte}");
    }
}

/// How replay ends when the record at `at` is another one.
fn replayed_with(at: usize, record: Record) -> Result<(), ReplayError> {
    let mut records = busy().durable;
    records[at] = record;
    let mut exchange = Exchange::new(Limits::DEFAULT, bundle());
    (0..).zip(&records).try_for_each(|(position, record)| exchange.replay(Position(position), record))
}

#[test]
fn a_journal_that_does_not_fit_is_refused_with_its_position() {
    let records = busy().durable;
    let at = |error: Result<(), ReplayError>| match error {
        Ok(()) => panic!("taken"),
        Err(ReplayError::Malformed { position, .. } | ReplayError::Roster { position, .. }) => position.0,
        Err(ReplayError::Chain(position) | ReplayError::Base(position)) => position.0,
        Err(ReplayError::Order { position, .. }) => position.0,
        Err(ReplayError::FirstBase(problem)) => panic!("{problem}"),
        Err(ReplayError::BaseVersion(version, _)) => panic!("version {version}"),
    };
    let damaged = Record { salt: vec![0; 32].into(), ..records[6].clone() };
    assert_eq!(at(replayed_with(6, damaged)), 6);
    assert_eq!(at(replayed_with(2, records[3].clone())), 2, "an administrative leaf is missing");
    assert_eq!(at(replayed_with(0, records[14].clone())), 0, "not the first roster");
    let mut exchange = Exchange::new(Limits::DEFAULT, bundle());
    assert_eq!(at(exchange.replay(Position(1), &records[0])), 1);
    let mut other = bundle();
    other.roster_hash = crate::merkle::Hash::ZERO;
    let foreign = Exchange::new(Limits::DEFAULT, other).replay(Position(0), &records[0]);
    assert!(matches!(foreign, Err(ReplayError::Roster { .. })), "another relay's");
}
