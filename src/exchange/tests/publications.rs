//! Rosters that the hub publishes through its session.

use std::time::Duration;

use bytes::Bytes;

use super::{
    desk::{IDN, MOD, first_note, next_note},
    world::World,
};
use crate::{
    exchange::ConnId,
    limits,
    roster::Status,
    wire::pb::{self, frame::Kind},
};

fn second_note() -> Bytes {
    next_note(&first_note(), |draft| draft.parties[4].name = "Philippines".to_owned())
}

/// The chunks of a note, of so many bytes each.
fn chunks(request: u64, note: &Bytes, bytes: usize) -> Vec<pb::Publish> {
    let chunk = |offset| pb::Publish {
        request,
        total_bytes: u32::try_from(note.len()).unwrap(),
        offset: u32::try_from(offset).unwrap(),
        chunk: note.slice(offset..note.len().min(offset + bytes)),
    };
    (0..note.len()).step_by(bytes).map(chunk).collect()
}

fn publish(world: &mut World, conn: ConnId, request: u64, note: &Bytes) -> Vec<String> {
    chunks(request, note, 1_000).into_iter().flat_map(|chunk| world.say(conn, Kind::Publish(chunk))).collect()
}

#[test]
fn a_roster_of_the_hub_is_in_force_at_its_position_and_every_session_gets_it() {
    let mut world = World::new();
    let (hub, _) = (world.open(MOD), world.open(IDN));
    let seen = publish(&mut world, hub, 7, &second_note());
    let expected = [
        "append roster 2",
        "roster 2 in force",
        "MOD < roster 2 at 3",
        "IDN < roster 2 at 3",
        "MOD < Done 7 at 3",
    ];
    assert_eq!(seen, expected);
    assert_eq!(publish(&mut world, hub, 8, &second_note()), ["MOD < Known 8"], "twice is harmless");
    assert_eq!(world.restart().exchange.roster().unwrap().version(), 2);
}

#[test]
fn the_hub_is_told_only_when_the_roster_is_durable_and_asks_one_thing_at_a_time() {
    let mut world = World::new();
    let hub = world.open(MOD);
    world.holds_sync = true;
    assert_eq!(publish(&mut world, hub, 1, &second_note()), ["append roster 2"]);
    assert_eq!(publish(&mut world, hub, 2, &second_note()), ["MOD < Busy 2"]);
    assert_eq!(world.sync(), ["roster 2 in force", "MOD < roster 2 at 2", "MOD < Done 1 at 2"]);
}

#[test]
fn a_roster_that_does_not_follow_is_declined_and_the_one_in_force_stays() {
    let mut world = World::new();
    let hub = world.open(MOD);
    let gap = next_note(&second_note(), |_| ());
    let mut forged = second_note().to_vec();
    let at = forged.windows(4).position(|bytes| bytes == b"Phil").unwrap();
    forged[at] = b'F';
    for note in [gap, Bytes::from(forged), Bytes::from_static(b"noise")] {
        assert_eq!(publish(&mut world, hub, 1, &note), ["MOD < NotValid 1"]);
    }
    assert_eq!(world.exchange.roster().unwrap().version(), 1);
    assert_eq!(publish(&mut world, hub, 2, &second_note()).len(), 4, "and a good one is taken afterwards");
}

#[test]
fn only_the_hubs_session_publishes() {
    let mut world = World::new();
    let idn = world.open(IDN);
    let first = chunks(1, &second_note(), 100).remove(0);
    assert_eq!(world.say(idn, Kind::Publish(first)), ["IDN < Goodbye Protocol", "IDN closed"]);
}

#[test]
fn chunks_that_do_not_continue_or_announce_too_much_end_the_session() {
    let mut world = World::new();
    let good = chunks(1, &second_note(), 100);
    let bound = u32::try_from(limits::ROSTER_BYTES_MAX).unwrap();
    let wrong = [
        vec![pb::Publish { total_bytes: bound + 1, ..good[0].clone() }],
        vec![pb::Publish { total_bytes: 0, ..good[0].clone() }],
        vec![good[1].clone()],
        vec![good[0].clone(), good[0].clone()],
        vec![good[0].clone(), pb::Publish { request: 2, ..good[1].clone() }],
        vec![good[0].clone(), pb::Publish { chunk: Bytes::new(), ..good[1].clone() }],
        vec![pb::Publish { total_bytes: 50, ..good[0].clone() }],
    ];
    for chunks in wrong {
        let hub = world.open(MOD);
        let seen: Vec<String> =
            chunks.into_iter().flat_map(|chunk| world.say(hub, Kind::Publish(chunk))).collect();
        assert_eq!(seen, ["MOD < Goodbye Protocol", "MOD closed"]);
    }
}

#[test]
fn a_publication_that_does_not_end_in_time_ends_the_session() {
    let mut world = World::new();
    let hub = world.open(MOD);
    world.say(hub, Kind::Publish(chunks(1, &second_note(), 100).remove(0)));
    let step = Duration::from_secs(5);
    let steps = u32::try_from(world.limits.publication_time_max.as_secs() / step.as_secs()).unwrap();
    for _ in 1..steps {
        world.wait(step);
        world.say(hub, Kind::Pong(pb::Pong::default()));
    }
    assert_eq!(world.wait(step), ["MOD < Goodbye Protocol", "MOD closed"]);
}

#[test]
fn a_hub_that_the_new_roster_suspends_is_closed_and_not_answered() {
    let mut world = World::new();
    let hub = world.open(MOD);
    let note = next_note(&first_note(), |draft| draft.parties[1].status = Status::Suspended);
    let seen = publish(&mut world, hub, 1, &note);
    assert_eq!(seen, ["append roster 2", "roster 2 in force", "MOD < Goodbye Suspended", "MOD closed"]);
}

#[test]
fn a_roster_with_another_origin_is_for_another_log() {
    let mut world = World::new();
    let hub = world.open(MOD);
    let note = next_note(&first_note(), |draft| {
        draft.log.origin = "bloc.example/log-2".to_owned();
        draft.log.keys.clear();
    });
    let seen = publish(&mut world, hub, 1, &note);
    assert!(seen.len() == 1 && seen[0].starts_with("MOD < NotValid 1"), "{seen:?}");
    assert_eq!(world.exchange.roster().unwrap().version(), 1);
}
