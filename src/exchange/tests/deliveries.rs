//! What goes out, in which order, and what holds it back.

use std::time::Duration;

use super::{
    desk::{Desk, IDN, MOD, MYS, PHL, hash_of},
    world::World,
};
use crate::{
    exchange::{ConnId, Input},
    limits::Limits,
    session::outbound::Outbound,
    wire::{
        Position, Precedence,
        envelope::Core,
        pb::{self, frame::Kind},
        receipt::ReceiptKind,
    },
};

fn core_at(precedence: Precedence, from: Desk, number: u64, to: &[Desk]) -> Core {
    Core { precedence_action: precedence, ..from.core(number, to) }
}

/// A relay where IDN is connected and MYS was once, and the connection of IDN.
fn idn_and_absent_mys(limits: Limits) -> (World, ConnId) {
    let mut world = World::with_limits(limits);
    let idn = world.open(IDN);
    let mys = world.open(MYS);
    world.close(mys);
    (world, idn)
}

/// MYS opens a session and grants credit; what it is sent after Welcome.
fn come_back(world: &mut World, envelopes: u64) -> (ConnId, Vec<String>) {
    let mys = world.connect(MYS);
    let mut seen = world.hello(mys, MYS.hello());
    assert!(seen.remove(0).starts_with("MYS < Welcome"));
    seen.extend(world.credit(mys, envelopes, 1 << 30));
    (mys, seen)
}

/// MYS stores IDN's first envelope, which is at 3.
fn store_first(world: &mut World, mys: ConnId) {
    let hash = hash_of(&IDN.submit(&IDN.core(1, &[MYS])));
    let item = MYS.receipt(ReceiptKind::Delivered, IDN, &[(hash, Position(3))]);
    world.say(mys, Kind::Stored(MYS.stored(1, &[item])));
}

#[test]
fn flash_goes_first_then_receipts_then_the_rest_by_precedence_and_age() {
    let mut world = World::new();
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    world.submit(idn, &IDN.core(1, &[MYS]));
    world.close(idn);
    store_first(&mut world, mys);
    for (number, precedence) in [
        (1, Precedence::Routine),
        (2, Precedence::Immediate),
        (3, Precedence::Priority),
        (4, Precedence::Flash),
        (5, Precedence::Routine),
        (6, Precedence::Flash),
    ] {
        world.submit(mys, &core_at(precedence, MYS, number, &[IDN]));
    }
    let idn = world.connect(IDN);
    let seen = world.hello(idn, IDN.hello());
    assert_eq!(seen[1..], ["IDN < Receipt 4 delivered [3] by MYS"], "receipts need no credit");
    let seen = world.credit(idn, 100, 1 << 30);
    let delivered = [
        "IDN < Deliver 8 \"text 4\" 0",
        "IDN < Deliver 10 \"text 6\" 0",
        "IDN < Deliver 6 \"text 2\" 0",
        "IDN < Deliver 7 \"text 3\" 0",
        "IDN < Deliver 5 \"text 1\" 0",
        "IDN < Deliver 9 \"text 5\" 0",
    ];
    assert_eq!(seen, delivered);
}

#[test]
fn flash_overtakes_receipts_and_both_overtake_the_rest_in_a_queue_that_is_full() {
    let mut world = World::with_limits(Limits { connection_queue_bytes_max: 1, ..Limits::DEFAULT });
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    world.submit(idn, &IDN.core(1, &[MYS]));
    world.holds_writes = true;
    let routine = world.submit(mys, &MYS.core(1, &[IDN]));
    assert_eq!(routine[2], "IDN < Deliver 4 \"text 1\" 0", "one frame fits");
    world.submit(mys, &core_at(Precedence::Immediate, MYS, 2, &[IDN]));
    store_first(&mut world, mys);
    world.submit(mys, &core_at(Precedence::Flash, MYS, 3, &[IDN]));
    for next in ["Deliver 7 \"text 3\" 0", "Receipt 6 delivered [3] by MYS", "Deliver 5 \"text 2\" 0"] {
        let seen = world.input(Input::Written { conn: idn, bytes: usize::MAX });
        assert_eq!(seen, [format!("IDN < {next}")]);
    }
}

#[test]
fn flash_overtakes_what_waits_for_credit_and_nothing_is_sent_beyond_it() {
    let (mut world, idn) = idn_and_absent_mys(Limits::DEFAULT);
    for number in 1..=3 {
        world.submit(idn, &IDN.core(number, &[MYS]));
    }
    let (mys, seen) = come_back(&mut world, 1);
    assert_eq!(seen, ["MYS < Deliver 3 \"text 1\" 0"]);
    world.submit(idn, &core_at(Precedence::Flash, IDN, 4, &[MYS]));
    assert_eq!(
        world.credit(mys, 3, 1 << 30),
        ["MYS < Deliver 6 \"text 4\" 0", "MYS < Deliver 4 \"text 2\" 0"]
    );
    assert_eq!(world.credit(mys, 2, 1 << 30), [""; 0], "a smaller total changes nothing");
}

#[test]
fn byte_credit_is_overdrawn_by_one_envelope_at_most() {
    let (mut world, idn) = idn_and_absent_mys(Limits::DEFAULT);
    world.submit(idn, &IDN.core(1, &[MYS]));
    world.submit(idn, &IDN.core(2, &[MYS]));
    let mys = world.connect(MYS);
    world.hello(mys, MYS.hello());
    assert_eq!(world.credit(mys, 10, 1), ["MYS < Deliver 3 \"text 1\" 0"]);
}

#[test]
fn a_flash_without_credit_does_not_hold_back_receipts() {
    let mut world = World::new();
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    world.submit(idn, &IDN.core(1, &[MYS]));
    world.close(idn);
    world.submit(mys, &core_at(Precedence::Flash, MYS, 1, &[IDN]));
    let idn = world.connect(IDN);
    world.hello(idn, IDN.hello());
    store_first(&mut world, mys);
    assert_eq!(world.told(idn).last().map(String::as_str), Some("Receipt 5 delivered [3] by MYS"));
}

#[test]
fn a_connection_that_does_not_drain_gets_no_more_than_its_queue_holds() {
    let limits = Limits { connection_queue_bytes_max: 4_000, ..Limits::DEFAULT };
    let (mut world, idn) = idn_and_absent_mys(limits);
    for number in 1..=20 {
        world.submit(idn, &IDN.core(number, &[MYS]));
    }
    world.holds_writes = true;
    let (mys, seen) = come_back(&mut world, 100);
    assert!((2..8).contains(&seen.len()), "{seen:?}");
    let bytes: usize =
        world.sent.iter().filter(|(conn, _)| *conn == mys).map(|(_, frame)| frame.bytes()).sum();
    assert!((4_000..6_000).contains(&bytes), "one frame too many at most: {bytes}");
    world.holds_writes = false;
    let rest = world.input(Input::Written { conn: mys, bytes });
    assert_eq!(seen.len() + rest.len(), 20);
}

#[test]
fn what_was_sent_and_not_settled_comes_again_in_order_after_a_reconnect() {
    let (mut world, idn) = idn_and_absent_mys(Limits::DEFAULT);
    world.submit(idn, &IDN.core(1, &[MYS]));
    world.submit(idn, &IDN.core(2, &[MYS]));
    let (mys, first) = come_back(&mut world, 1);
    assert_eq!(first.len(), 1);
    assert_eq!(world.close(mys), [""; 0]);
    let (_, again) = come_back(&mut world, 2);
    assert_eq!(again, ["MYS < Deliver 3 \"text 1\" 0", "MYS < Deliver 4 \"text 2\" 0"]);
    let mut world = world.restart();
    let (_, again) = come_back(&mut world, 2);
    assert_eq!(again[0], "load 3", "after a restart bodies come from the journal");
    assert_eq!(world.sent.iter().filter(|(_, frame)| matches!(frame, Outbound::Deliver { .. })).count(), 2);
}

#[test]
fn bodies_that_left_the_cache_are_loaded_and_keep_their_order() {
    let limits = Limits { body_cache_bytes_max: 1, ..Limits::DEFAULT };
    let (mut world, idn) = idn_and_absent_mys(limits);
    for number in 1..=40 {
        world.submit(idn, &IDN.core(number, &[MYS]));
    }
    world.holds_loads = true;
    let (mys, seen) = come_back(&mut world, 100);
    assert_eq!(seen, (3..19).map(|at| format!("load {at}")).collect::<Vec<_>>(), "sixteen ahead");
    world.submit(idn, &core_at(Precedence::Flash, IDN, 41, &[MYS]));
    assert_eq!(world.told(mys).last().map(String::as_str), Some("Deliver 43 \"text 41\" 0"));
    // Answered in the wrong order, and one of them late.
    world.loads.swap(0, 3);
    while !world.loads.is_empty() {
        world.load();
    }
    let delivered: Vec<String> =
        world.told(mys).into_iter().filter(|line| line.starts_with("Deliver")).skip(1).collect();
    let expected: Vec<String> =
        (1..=40).map(|number| format!("Deliver {} \"text {number}\" 0", number + 2)).collect();
    assert_eq!(delivered, expected);
}

#[test]
fn a_body_that_comes_after_its_session_is_delivered_in_the_next() {
    let limits = Limits { body_cache_bytes_max: 1, ..Limits::DEFAULT };
    let (mut world, idn) = idn_and_absent_mys(limits);
    world.submit(idn, &IDN.core(1, &[MYS]));
    world.submit(idn, &IDN.core(2, &[PHL]));
    world.holds_loads = true;
    let (mys, seen) = come_back(&mut world, 9);
    assert_eq!(seen, ["load 3"]);
    world.close(mys);
    assert_eq!(world.load(), [""; 0]);
    let (_, seen) = come_back(&mut world, 9);
    assert_eq!(seen, ["MYS < Deliver 3 \"text 1\" 0"]);
}

#[test]
fn each_addressee_gets_its_own_wrap_and_one_that_settles_leaves_the_other_waiting() {
    let (mut world, idn) = idn_and_absent_mys(Limits::DEFAULT);
    let hub = world.open(MOD);
    let core = IDN.core(1, &[MYS, MOD]);
    let seen = world.submit(idn, &core);
    assert_eq!(seen[1..], ["IDN < Accepted 1 at 4", "MOD < Deliver 4 \"text 1\" 1"]);
    let hash = hash_of(&IDN.submit(&core));
    let settled = MOD.receipt(ReceiptKind::Delivered, IDN, &[(hash, Position(4))]);
    world.say(hub, Kind::Stored(MOD.stored(1, &[settled])));
    let (_, seen) = come_back(&mut world, 9);
    assert_eq!(seen, ["MYS < Deliver 4 \"text 1\" 0"]);
    world.close(hub);
    let hub = world.connect(MOD);
    world.hello(hub, pb::Hello { last_stored: 1, ..MOD.hello() });
    assert_eq!(world.credit(hub, 9, 1 << 30), [""; 0]);
    assert_eq!(world.wait(Duration::from_secs(1)), [""; 0]);
}
