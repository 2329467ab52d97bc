//! Rosters offered, in force, and sent to desks.

use super::{
    desk::{IDN, MOD, MYS, first_note, next_note, public},
    world::World,
};
use crate::{
    exchange::{Input, Notice},
    limits::Limits,
    roster::{Party, Status},
    session::outbound::Outbound,
    wire::{pb, pb::GoodbyeCode},
};
use bytes::Bytes;

fn offer(world: &mut World, note: &Bytes) -> Vec<String> {
    world.input(Input::RosterOffered { note: note.clone() })
}

fn refused_notes(world: &World) -> usize {
    world.notices.iter().filter(|notice| matches!(notice, Notice::RosterRefused(_))).count()
}

fn second_note() -> Bytes {
    next_note(&first_note(), |draft| draft.parties[4].name = "Philippines".to_owned())
}

#[test]
fn a_roster_beyond_what_one_log_holds_is_declined_and_the_one_in_force_stays() {
    let first = first_note();
    let next = next_note(&first, |draft| draft.parties[4].name = "Philippines".to_owned());
    for (spare, versions) in [(0, 2), (1, 1)] {
        let roster_notes_bytes_max = first.len() + next.len() - spare;
        let mut world = World::with_limits(Limits { roster_notes_bytes_max, ..Limits::DEFAULT });
        world.input(Input::RosterOffered { note: next.clone() });
        assert_eq!(world.exchange.roster().map(|roster| roster.version()), Some(versions));
    }
}

/// FAULTS 70: no roster that does not follow is taken.
#[test]
fn the_first_roster_is_the_bundles_and_the_next_follows_the_chain() {
    let mut world = World::empty(Limits::DEFAULT);
    assert_eq!(offer(&mut world, &second_note()), [""; 0], "not the bundle's");
    assert_eq!(refused_notes(&world), 1);
    assert_eq!(offer(&mut world, &first_note()), ["append roster 1", "roster 1 in force"]);
    assert_eq!(offer(&mut world, &first_note()), [""; 0], "again");
    let third = next_note(&second_note(), |_| ());
    assert_eq!(offer(&mut world, &third), [""; 0], "a gap");
    assert_eq!(offer(&mut world, &second_note()), ["append roster 2", "roster 2 in force"]);
    assert_eq!(offer(&mut world, &Bytes::from_static(b"noise")), [""; 0]);
    assert_eq!(refused_notes(&world), 3, "the same version again is no refusal");
    assert_eq!(offer(&mut world, &third), ["append roster 3", "roster 3 in force"]);
    assert_eq!(world.restart().exchange.roster().unwrap().version(), 3);
}

#[test]
fn a_roster_file_that_was_in_force_is_no_news_and_a_rival_of_it_is() {
    let mut world = World::new();
    offer(&mut world, &second_note());
    let mut world = world.restart();
    for note in [first_note(), second_note()] {
        assert_eq!(offer(&mut world, &note), [""; 0]);
        assert_eq!(refused_notes(&world), 0, "the operator's file is as it was");
    }
    let rival = next_note(&first_note(), |draft| draft.parties[4].name = "Elsewhere".to_owned());
    assert_eq!(offer(&mut world, &rival), [""; 0]);
    assert_eq!(refused_notes(&world), 1);
    let hub = world.open(MOD);
    let first = first_note();
    let total_bytes = u32::try_from(first.len()).unwrap();
    let old = pb::Publish { request: 1, total_bytes, offset: 0, chunk: first };
    assert_eq!(
        world.say(hub, pb::frame::Kind::Publish(old)),
        ["MOD < NotValid 1"],
        "who publishes it is told"
    );
}

#[test]
fn everybody_but_a_relay_reads_the_log_while_neither_suspended_nor_revoked() {
    let mut world = World::empty(Limits::DEFAULT);
    let reads = |world: &World, path: &str| {
        let id = format!("spiffe://bloc.example/{path}").parse().unwrap();
        world.exchange.admit_reader(&id, "7f").map(|_| ())
    };
    assert_eq!(reads(&world, "mission/idn"), Err(GoodbyeCode::NotReady), "no roster is in force");
    offer(&mut world, &first_note());
    let second = next_note(&first_note(), |draft| {
        for (path, code, seed) in [("auditor/court", "COURT", 50), ("operator/one", "ONE", 51)] {
            let id = format!("spiffe://bloc.example/{path}").parse().unwrap();
            let mut party = Party::new(draft.next_number(), id, code, code, public(seed));
            party.witness = Some(public(seed + 100));
            draft.add(party);
        }
        draft.parties[2].status = Status::Suspended;
        draft.parties[3].revoked_serials = vec!["7f".to_owned()];
    });
    offer(&mut world, &second);
    for path in ["hub", "mission/phl", "auditor/court", "operator/one"] {
        assert_eq!(reads(&world, path), Ok(()), "{path}");
    }
    for path in ["mission/idn", "mission/mys"] {
        assert_eq!(reads(&world, path), Err(GoodbyeCode::Suspended), "{path}");
    }
    for path in ["relay/a", "auditor/other", "mission/xyz"] {
        assert_eq!(reads(&world, path), Err(GoodbyeCode::NotInRoster), "{path}");
    }
}

#[test]
fn a_roster_is_in_force_only_when_it_is_durable() {
    let mut world = World::new();
    let idn = world.open(IDN);
    world.holds_sync = true;
    let suspended = next_note(&first_note(), |draft| draft.parties[2].status = Status::Suspended);
    assert_eq!(offer(&mut world, &suspended), ["append roster 2"]);
    assert_eq!(world.submit(idn, &IDN.core(1, &[MYS])), ["append envelope 1 of IDN"]);
    assert_eq!(world.sync(), ["roster 2 in force", "IDN < Goodbye Suspended", "IDN closed"]);
    assert_eq!(world.sync(), [""; 0], "durable, though its sender is gone");
}

#[test]
fn rosters_offered_while_one_is_being_written_wait_and_are_checked_against_it() {
    let mut world = World::new();
    world.holds_sync = true;
    let rival = next_note(&first_note(), |draft| draft.parties[4].name = "Elsewhere".to_owned());
    let third = next_note(&second_note(), |_| ());
    assert_eq!(offer(&mut world, &second_note()), ["append roster 2"]);
    for note in [second_note(), rival, third] {
        assert_eq!(offer(&mut world, &note), [""; 0]);
    }
    assert_eq!(world.sync(), ["roster 2 in force", "append roster 3"]);
    assert_eq!(refused_notes(&world), 1, "the rival");
    assert_eq!(world.sync(), ["roster 3 in force"]);
    world.restart();
}

#[test]
fn open_sessions_are_sent_a_new_roster_with_its_note() {
    let mut world = World::new();
    world.open(IDN);
    let note = second_note();
    let seen = offer(&mut world, &note);
    assert_eq!(seen, ["append roster 2", "roster 2 in force", "IDN < roster 2 at 2"]);
    let Outbound::Administrative { beside, .. } = world.last_sent() else { panic!("the leaf") };
    assert_eq!(*beside, note);
}

#[test]
fn a_desk_gets_every_roster_that_it_lacks_before_welcome() {
    let mut world = World::new();
    offer(&mut world, &second_note());
    for (seen, sent) in [(0, &["roster 1 at 0", "roster 2 at 1"][..]), (1, &["roster 2 at 1"]), (2, &[])] {
        let hub = world.connect(MOD);
        world.hello(hub, pb::Hello { roster_version: seen, ..MOD.hello() });
        let mut expected: Vec<String> = sent.iter().map(|line| format!("{line}, before Welcome")).collect();
        expected.push("Welcome incarnation 1 roster 2 submitted 0 stored 0".to_owned());
        assert_eq!(world.told(hub), expected);
        world.close(hub);
    }
}

#[test]
fn a_roster_that_comes_between_hello_and_welcome_is_sent_before_welcome() {
    let mut world = World::new();
    world.holds_sync = true;
    offer(&mut world, &second_note());
    let hub = world.connect(MOD);
    assert_eq!(world.hello(hub, MOD.hello()), [""; 0], "one administrative act at a time");
    world.sync_all();
    let expected = ["roster 2 at 1, before Welcome", "Welcome incarnation 1 roster 2 submitted 0 stored 0"];
    assert_eq!(world.told(hub), expected);
}

#[test]
fn a_party_whose_key_changed_is_closed_and_comes_back_with_the_new_one() {
    let mut world = World::new();
    let idn = world.open(IDN);
    let note = next_note(&first_note(), |draft| {
        draft.revoked_keys = vec![draft.parties[2].sign];
        draft.parties[2].sign = public(50);
    });
    let seen = offer(&mut world, &note);
    let expected = ["append roster 2", "roster 2 in force", "IDN < Goodbye BadSignature", "IDN closed"];
    assert_eq!(seen, expected);
    assert_eq!(world.submit(idn, &IDN.core(1, &[MYS])), [""; 0]);
    let old = world.connect(IDN);
    assert_eq!(world.hello(old, IDN.hello()), ["IDN < Goodbye BadSignature", "IDN closed"]);
    let new = IDN.signing_with(50);
    let conn = world.connect(new);
    let seen = world.hello(conn, pb::Hello { roster_version: 2, ..IDN.hello() });
    assert_eq!(seen, ["IDN < Welcome incarnation 1 roster 2 submitted 0 stored 0"]);
}
