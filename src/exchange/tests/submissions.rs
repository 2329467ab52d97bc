//! Accepted after Durable, submission numbers, windows, and a journal without room.

use super::{
    desk::{IDN, MOD, MYS},
    world::World,
};
use crate::{
    exchange::{Input, Room},
    limits::Limits,
    wire::pb::frame::Kind,
};

/// A world with a roster at 0, IDN at 1 and MOD at 2.
fn two_desks() -> (World, super::super::ConnId, super::super::ConnId) {
    let mut world = World::new();
    let (idn, mod_) = (world.open(IDN), world.open(MOD));
    (world, idn, mod_)
}

#[test]
fn an_envelope_is_accepted_and_delivered_only_when_its_record_is_durable() {
    let (mut world, idn, _) = two_desks();
    world.holds_sync = true;
    assert_eq!(world.submit(idn, &IDN.core(1, &[MOD])), ["append envelope 1 of IDN"]);
    assert_eq!(world.sync(), ["IDN < Accepted 1 at 3", "MOD < Deliver 3 \"text 1\" 0"]);
    assert!(world.exchange.is_idle());
}

#[test]
fn what_was_appended_together_is_answered_in_order() {
    let (mut world, idn, _) = two_desks();
    world.holds_sync = true;
    for number in 1..=3 {
        world.submit(idn, &IDN.core(number, &[MYS]));
    }
    assert_eq!(
        world.sync_all(),
        ["IDN < Accepted 1 at 3", "IDN < Accepted 2 at 4", "IDN < Credit 10 66536", "IDN < Accepted 3 at 5"]
    );
}

#[test]
fn a_repeated_number_with_the_same_envelope_gets_the_same_position() {
    let (mut world, idn, _) = two_desks();
    let core = IDN.core(1, &[MYS]);
    assert_eq!(world.submit(idn, &core), ["append envelope 1 of IDN", "IDN < Accepted 1 at 3"]);
    assert_eq!(world.submit(idn, &core), ["IDN < Accepted 1 at 3", "IDN < Credit 10 66536"]);
    let mut world = world.restart();
    let idn = world.open(IDN);
    assert_eq!(world.submit(idn, &core), ["IDN < Accepted 1 at 3"]);
}

#[test]
fn a_repetition_of_what_is_being_written_waits_for_the_same_record() {
    let (mut world, idn, _) = two_desks();
    world.holds_sync = true;
    let core = IDN.core(1, &[MYS]);
    world.submit(idn, &core);
    world.close(idn);
    let again = world.open(IDN);
    assert_eq!(world.submit(again, &core), [""; 0]);
    assert_eq!(world.submit(again, &IDN.core(2, &[MYS])), ["append envelope 2 of IDN"]);
    assert_eq!(world.sync_all(), ["IDN < Accepted 1 at 3", "IDN < Accepted 2 at 4", "IDN < Credit 10 66536"]);
}

#[test]
fn a_number_of_another_envelope_is_refused_and_settles_nothing() {
    let (mut world, idn, _) = two_desks();
    world.holds_sync = true;
    world.submit(idn, &IDN.core(1, &[MYS]));
    let mut other = IDN.core(1, &[MYS]);
    other.exercise = false;
    assert_eq!(world.submit(idn, &other), ["IDN < Refused 1 NumberReused"], "while it is written");
    world.sync();
    let refused = ["IDN < Refused 1 NumberReused"];
    assert_eq!(world.submit(idn, &other), refused, "and after");
    assert_eq!(world.submit(idn, &IDN.core(1, &[MYS])), ["IDN < Accepted 1 at 3", "IDN < Credit 12 67536"]);
}

#[test]
fn only_the_first_new_number_after_welcome_may_jump() {
    let (mut world, idn, _) = two_desks();
    assert_eq!(
        world.submit(idn, &IDN.core(5, &[MYS])),
        ["append envelope 5 of IDN", "IDN < Accepted 5 at 3"]
    );
    assert_eq!(world.submit(idn, &IDN.core(7, &[MYS])), ["IDN < Goodbye Protocol", "IDN closed"]);
    let idn = world.open(IDN);
    let jump = world.submit(idn, &IDN.core(7, &[MYS]));
    assert_eq!(jump, ["append envelope 7 of IDN", "IDN < Accepted 7 at 4"]);
    assert_eq!(world.submit(idn, &IDN.core(6, &[MYS]))[0], "IDN < Refused 6 OldNumber", "jumped over");
    assert_eq!(world.submit(idn, &IDN.core(8, &[MYS]))[0], "append envelope 8 of IDN");
}

#[test]
fn a_number_below_one_that_is_being_written_is_old_before_and_after_a_reconnect() {
    let (mut world, idn, _) = two_desks();
    world.holds_sync = true;
    world.submit(idn, &IDN.core(5, &[MYS]));
    assert_eq!(world.submit(idn, &IDN.core(4, &[MYS])), ["IDN < Refused 4 OldNumber"]);
    world.close(idn);
    let idn = world.open(IDN);
    assert_eq!(world.submit(idn, &IDN.core(4, &[MYS])), ["IDN < Refused 4 OldNumber"]);
}

#[test]
fn a_number_older_than_the_table_is_refused_and_settles_nothing() {
    let (mut world, idn, _) = two_desks();
    for number in 1..=513 {
        world.submit(idn, &IDN.core(number, &[MYS]));
    }
    let oldest = world.submit(idn, &IDN.core(1, &[MYS]));
    assert_eq!(oldest[0], "IDN < Refused 1 OldNumber");
    assert_eq!(world.submit(idn, &IDN.core(2, &[MYS]))[0], "IDN < Accepted 2 at 4", "the oldest remembered");
}

#[test]
fn more_envelopes_than_the_window_end_the_session() {
    let (mut world, idn, _) = two_desks();
    world.holds_sync = true;
    for number in 1..=Limits::DEFAULT.window_envelopes_min {
        assert_eq!(world.submit(idn, &IDN.core(number, &[MYS])).len(), 1);
    }
    let beyond = IDN.core(Limits::DEFAULT.window_envelopes_min + 1, &[MYS]);
    assert_eq!(world.submit(idn, &beyond), ["IDN < Goodbye Protocol", "IDN closed"]);
    assert_eq!(world.sync_all(), [""; 0], "nobody is left to answer; all eight are durable");
    assert_eq!(world.durable.len(), 11);
}

#[test]
fn bytes_may_be_overdrawn_by_one_frame_and_then_end_the_session() {
    let (mut world, idn, _) = two_desks();
    world.holds_sync = true;
    let frame = |number| Kind::Submit(IDN.submit(&IDN.core(number, &[MYS])));
    assert_eq!(world.say_bytes(idn, frame(1), 262_144), ["append envelope 1 of IDN"]);
    assert_eq!(world.say_bytes(idn, frame(2), 10), ["IDN < Goodbye Protocol", "IDN closed"]);
}

/// FAULTS 10: submissions.
#[test]
fn without_room_a_new_envelope_and_all_above_it_wait_until_it_comes_again() {
    let (mut world, idn, _) = two_desks();
    world.submit(idn, &IDN.core(1, &[MYS]));
    assert_eq!(world.input(Input::Room(Room::ReceiptsOnly)), [""; 0]);
    let told = |seen: Vec<String>| seen[0].clone();
    assert_eq!(told(world.submit(idn, &IDN.core(2, &[MYS]))), "IDN < Deferred 2");
    assert_eq!(
        told(world.submit(idn, &IDN.core(1, &[MYS]))),
        "IDN < Accepted 1 at 3",
        "a repetition is answered"
    );
    world.input(Input::Room(Room::Plenty));
    assert_eq!(told(world.submit(idn, &IDN.core(3, &[MYS]))), "IDN < Deferred 3");
    let mut unreadable = IDN.submit(&IDN.core(4, &[MYS]));
    unreadable.ciphertext = "another".into();
    assert_eq!(told(world.say(idn, Kind::Submit(unreadable))), "IDN < Deferred 4");
    assert_eq!(told(world.submit(idn, &IDN.core(2, &[MYS]))), "append envelope 2 of IDN");
    assert_eq!(told(world.submit(idn, &IDN.core(3, &[MYS]))), "append envelope 3 of IDN");
}

#[test]
fn a_deferred_first_number_is_not_lost_to_a_repetition_below_it() {
    let (mut world, idn, _) = two_desks();
    let first = IDN.core(1, &[MYS]);
    world.submit(idn, &first);
    world.close(idn);
    let idn = world.open(IDN);
    world.input(Input::Room(Room::ReceiptsOnly));
    assert_eq!(world.submit(idn, &IDN.core(2, &[MYS])), ["IDN < Deferred 2"]);
    world.input(Input::Room(Room::Plenty));
    world.submit(idn, &first);
    assert_eq!(world.submit(idn, &IDN.core(3, &[MYS])), ["IDN < Deferred 3"]);
    assert_eq!(world.submit(idn, &IDN.core(2, &[MYS]))[0], "append envelope 2 of IDN");
}
