//! Orders of the hub: suspend, lift, MINIMIZE, erase.

use super::{
    desk::{Desk, IDN, MOD, MYS, START_US, first_note, next_note},
    world::World,
};
use crate::{
    exchange::{ConnId, Input},
    roster::Status,
    wire::{
        Position, Precedence,
        envelope::Core,
        order::OrderKind,
        pb::{self, frame::Kind},
    },
};

const NOW_S: u64 = START_US / 1_000_000;
const SUSPEND_IDN: OrderKind = OrderKind::Suspend { party: IDN.number, until_s: u64::MAX };

fn give(world: &mut World, hub: ConnId, number: u32, kind: OrderKind) -> Vec<String> {
    world.say(hub, Kind::Order(MOD.order(u64::from(number), number, kind)))
}

/// How a desk is met that knows the log below a position.
fn greeted(world: &mut World, desk: Desk, position: u64) -> Vec<String> {
    let conn = world.connect(desk);
    world.hello(conn, pb::Hello { position, ..desk.hello() })
}

#[test]
fn a_suspended_party_is_closed_at_once_and_refused_until_it_is_lifted() {
    let mut world = World::new();
    let (hub, _) = (world.open(MOD), world.open(IDN));
    let expected = [
        "append order 1 suspend",
        "IDN < Goodbye Suspended",
        "IDN closed",
        "MOD < order 1 suspend at 3",
        "MOD < Done 1 at 3",
    ];
    assert_eq!(give(&mut world, hub, 1, SUSPEND_IDN), expected);
    assert_eq!(greeted(&mut world, IDN, 0), ["IDN < Goodbye Suspended", "IDN closed"]);
    let refused = world.submit(hub, &MOD.core(1, &[IDN]));
    assert!(refused[1].starts_with("MOD < Refused 1 UnknownAddressee"), "{refused:?}");
    give(&mut world, hub, 2, OrderKind::Lift { party: IDN.number });
    let seen = greeted(&mut world, IDN, 3);
    assert_eq!(seen[0], "IDN < order 2 lift at 5, before Welcome", "and not the one that it replaced");
    assert!(seen[1].starts_with("IDN < Welcome"));
}

#[test]
fn a_suspension_is_in_force_only_when_it_is_durable_and_survives_a_restart() {
    let mut world = World::new();
    let (hub, idn) = (world.open(MOD), world.open(IDN));
    world.holds_sync = true;
    assert_eq!(give(&mut world, hub, 1, SUSPEND_IDN), ["append order 1 suspend"]);
    assert_eq!(world.submit(idn, &IDN.core(1, &[MYS])), ["append envelope 1 of IDN"]);
    world.sync_all();
    let mut world = world.restart();
    assert_eq!(greeted(&mut world, IDN, 0), ["IDN < Goodbye Suspended", "IDN closed"]);
    let hub = world.open(MOD);
    assert_eq!(give(&mut world, hub, 1, SUSPEND_IDN), ["MOD < Number 1"], "the number is spent for good");
}

#[test]
fn a_suspension_ends_by_itself_at_its_time() {
    let mut world = World::new();
    let hub = world.open(MOD);
    give(&mut world, hub, 1, OrderKind::Suspend { party: IDN.number, until_s: NOW_S + 20 });
    assert_eq!(greeted(&mut world, IDN, 0)[0], "IDN < Goodbye Suspended");
    world.wait(std::time::Duration::from_secs(20));
    assert!(greeted(&mut world, IDN, 9).iter().any(|line| line.starts_with("IDN < Welcome")));
}

#[test]
fn a_lift_does_not_end_a_suspension_in_the_roster() {
    let mut world = World::new();
    let hub = world.open(MOD);
    let note = next_note(&first_note(), |draft| draft.parties[2].status = Status::Suspended);
    world.input(Input::RosterOffered { note });
    give(&mut world, hub, 1, OrderKind::Lift { party: IDN.number });
    assert_eq!(greeted(&mut world, IDN, 0), ["IDN < Goodbye Suspended", "IDN closed"]);
}

#[test]
fn numbers_rise_and_an_order_is_never_taken_twice() {
    let mut world = World::new();
    let hub = world.open(MOD);
    give(&mut world, hub, 5, OrderKind::Minimize { until_s: NOW_S + 60 });
    for number in [5, 4, 1] {
        let seen = give(&mut world, hub, number, OrderKind::Minimize { until_s: 0 });
        assert_eq!(seen, [format!("MOD < Number {number}")]);
    }
    assert_eq!(give(&mut world, hub, 6, OrderKind::Minimize { until_s: 0 })[0], "append order 6 minimize");
}

#[test]
fn minimize_keeps_routine_and_priority_back_until_its_time() {
    let mut world = World::new();
    let (hub, idn) = (world.open(MOD), world.open(IDN));
    give(&mut world, hub, 1, OrderKind::Minimize { until_s: NOW_S + 20 });
    let of = |precedence, number| Core { precedence_action: precedence, ..IDN.core(number, &[MYS]) };
    for (number, precedence) in [(1, Precedence::Routine), (2, Precedence::Priority)] {
        let seen = world.submit(idn, &of(precedence, number));
        assert!(seen[1].contains("Minimize"), "{seen:?}");
    }
    for (number, precedence) in [(3, Precedence::Immediate), (4, Precedence::Flash)] {
        assert_eq!(world.submit(idn, &of(precedence, number))[0], format!("append envelope {number} of IDN"));
    }
    world.wait(std::time::Duration::from_secs(20));
    assert_eq!(world.submit(idn, &of(Precedence::Routine, 5))[0], "append envelope 5 of IDN");
}

#[test]
fn an_order_that_makes_no_sense_is_declined() {
    let mut world = World::new();
    let hub = world.open(MOD);
    let senseless = [
        OrderKind::Suspend { party: MOD.number, until_s: u64::MAX },
        OrderKind::Suspend { party: crate::roster::PartyNumber(77), until_s: u64::MAX },
        OrderKind::Suspend { party: IDN.number, until_s: NOW_S },
        OrderKind::Lift { party: MOD.number },
        OrderKind::Erase { position: Position(2) },
    ];
    for kind in senseless {
        assert_eq!(give(&mut world, hub, 1, kind), ["MOD < NotValid 1"], "{kind:?}");
    }
    let erase = give(&mut world, hub, 1, OrderKind::Erase { position: Position(1) });
    assert_eq!(erase, ["append order 1 erase", "MOD < Done 1 at 2"], "recorded, and no desk needs to know");
}

#[test]
fn only_the_hub_orders_and_only_with_the_rosters_key() {
    let mut world = World::new();
    let idn = world.open(IDN);
    let goodbye = |code| [format!("{code} < Goodbye Protocol"), format!("{code} closed")];
    let order = IDN.order(1, 1, OrderKind::Lift { party: MYS.number });
    assert_eq!(world.say(idn, Kind::Order(order)), goodbye("IDN"));
    let hub = world.open(MOD);
    let forged = IDN.order(1, 1, SUSPEND_IDN);
    assert_eq!(world.say(hub, Kind::Order(forged)), goodbye("MOD"), "signed by another party");
    assert_eq!(world.exchange.tree().size(), 3, "nothing was recorded");
}

#[test]
fn two_orders_in_line_are_one_too_many() {
    let mut world = World::new();
    let hub = world.open(MOD);
    world.holds_sync = true;
    give(&mut world, hub, 1, SUSPEND_IDN);
    assert_eq!(give(&mut world, hub, 2, OrderKind::Minimize { until_s: 1 }), ["MOD < Busy 2"]);
}
