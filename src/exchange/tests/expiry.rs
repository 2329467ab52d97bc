//! What still waits when its time is over, and a clock that nobody can trust.

use std::time::Duration;

use super::{
    desk::{Desk, IDN, MOD, MYS, PHL, START_US, hash_of},
    world::World,
};
use crate::{
    exchange::{ClockStanding, Input, Notice},
    record::leaf::Opening,
    wire::{
        Position,
        envelope::Core,
        pb::{self, frame::Kind},
        receipt::ReceiptKind,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// What a desk writes that lives for 20 seconds.
fn short_lived(desk: Desk, number: u64, to: &[Desk]) -> Core {
    Core { expires_s: START_US / 1_000_000 + 20, ..desk.core(number, to) }
}

#[test]
fn what_waits_past_its_time_is_taken_out_with_a_receipt_for_both_sides() {
    let mut world = World::new();
    let idn = world.open(IDN);
    world.submit(idn, &short_lived(IDN, 1, &[MYS]));
    assert_eq!(world.wait(19 * SECOND), ["IDN < Ping"]);
    let expected = ["append expiry of 2 of IDN", "IDN < Receipt 3 expired [2] of IDN to MYS"];
    assert_eq!(world.wait(SECOND), expected);
    assert_eq!(world.wait(SECOND), [""; 0], "once");
    let mys = world.open(MYS);
    let told = world.told(mys);
    assert_eq!(told.last().map(String::as_str), Some("Receipt 3 expired [2] of IDN to MYS"));
    assert!(told.iter().all(|line| !line.starts_with("Deliver")), "{told:?}");
}

#[test]
fn only_those_who_have_not_settled_it_lose_it() {
    let mut world = World::new();
    let [idn, mys, _] = [IDN, MYS, PHL].map(|desk| world.open(desk));
    let core = short_lived(IDN, 1, &[MYS, PHL]);
    world.submit(idn, &core);
    let item = MYS.receipt(ReceiptKind::Delivered, IDN, &[(hash_of(&IDN.submit(&core)), Position(4))]);
    world.say(mys, Kind::Stored(MYS.stored(1, &[item])));
    let seen = world.wait(20 * SECOND);
    assert!(seen.contains(&"IDN < Receipt 6 expired [4] of IDN to PHL".to_owned()), "{seen:?}");
    assert!(seen.contains(&"PHL < Receipt 6 expired [4] of IDN to PHL".to_owned()), "{seen:?}");
    assert!(seen.iter().all(|line| !line.contains("to MYS")), "{seen:?}");
}

#[test]
fn what_is_settled_while_its_expiry_is_written_has_not_expired() {
    let mut world = World::new();
    let [idn, mys] = [IDN, MYS].map(|desk| world.open(desk));
    let core = short_lived(IDN, 1, &[MYS]);
    world.submit(idn, &core);
    world.holds_sync = true;
    let item = MYS.receipt(ReceiptKind::Delivered, IDN, &[(hash_of(&IDN.submit(&core)), Position(3))]);
    world.say(mys, Kind::Stored(MYS.stored(1, &[item])));
    let seen = world.wait(20 * SECOND);
    assert_eq!(seen.last().map(String::as_str), Some("append expiry of 3 of IDN"));
    let seen = world.sync_all();
    let expected = ["MYS < StoredAt 1 at 4", "IDN < Receipt 4 delivered [3] by MYS"];
    assert_eq!(seen, expected, "its receipt came first, and no second one says otherwise");
}

#[test]
fn expiry_is_rebuilt_by_replay_and_goes_on_after_a_restart() {
    let mut world = World::new();
    let idn = world.open(IDN);
    world.submit(idn, &short_lived(IDN, 1, &[MYS]));
    world.submit(idn, &Core { expires_s: START_US / 1_000_000 + 60, ..IDN.core(2, &[MYS]) });
    world.wait(20 * SECOND);
    let live = world.exchange.base();
    let mut world = world.restart();
    assert_eq!(world.exchange.base(), live);
    let mys = world.open(MYS);
    assert!(world.told(mys).contains(&"Deliver 3 \"text 2\" 0".to_owned()), "{:?}", world.told(mys));
    world.close(mys);
    assert_eq!(world.wait(40 * SECOND), ["append expiry of 3 of IDN"]);
}

#[test]
fn many_expire_lot_by_lot_and_all_of_them_in_the_end() {
    let mut world = World::new();
    let hub = world.open(MOD);
    for number in 1..=100 {
        world.submit(hub, &short_lived(MOD, number, &[PHL]));
    }
    let mut seen = world.wait(20 * SECOND);
    assert_eq!(seen.iter().filter(|line| line.starts_with("append expiry")).count(), 32);
    for _ in 0..4 {
        seen.extend(world.wait(Duration::from_millis(20)));
    }
    assert_eq!(seen.iter().filter(|line| line.starts_with("append expiry")).count(), 100);
}

/// A relay that was stopped with one envelope waiting, started again under another wall clock.
fn started_at(wall_us: u64) -> World {
    let mut world = World::new();
    let idn = world.open(IDN);
    world.submit(idn, &short_lived(IDN, 1, &[MYS]));
    let mut world = world.restart();
    world.now.wall_us = wall_us;
    world
}

#[test]
fn nothing_expires_by_a_clock_in_doubt_until_an_operator_accepts_it() {
    let year_us = 365 * 24 * 3600 * 1_000_000;
    let mut world = started_at(START_US + 10 * year_us);
    assert_eq!(world.wait(SECOND), [""; 0], "ten years ahead");
    assert!(
        matches!(world.notices[..], [Notice::Clock { standing: ClockStanding::InDoubt, ahead_s }] if ahead_s > 300_000_000)
    );
    assert!(world.exchange.is_clock_in_doubt());
    for _ in 0..60 {
        assert_eq!(world.wait(SECOND), [""; 0], "and the log's own time does not make it expire either");
    }
    assert_eq!(world.notices.len(), 1, "said once");
    assert_eq!(world.input(Input::ClockAccepted), ["append clock accepted"]);
    assert_eq!(world.wait(SECOND), ["append expiry of 2 of IDN"]);
    assert_eq!(world.input(Input::ClockAccepted), [""; 0], "nothing is in doubt any more");
    assert!(!world.restart().exchange.is_clock_in_doubt());
}

/// FAULTS 32, for a clock that is right at the start and jumps later. The simulator has jumps of all clocks amid traffic.
#[test]
fn a_clock_that_jumps_while_the_relay_runs_expires_nothing_early_changes_no_order_and_is_told() {
    const DAY_US: i64 = 86_400_000_000;
    for (jump_us, expected) in [
        (DAY_US, ClockStanding::Off),
        (3_650 * DAY_US, ClockStanding::InDoubt),
        (-DAY_US, ClockStanding::Off),
        (-3_650 * DAY_US, ClockStanding::Off),
    ] {
        let mut world = World::new();
        let (idn, hour) = (world.open(IDN), START_US / 1_000_000 + 3_600);
        world.submit(idn, &Core { expires_s: hour, ..IDN.core(1, &[MYS]) });
        world.wait(SECOND);
        world.now.wall_us = world.now.wall_us.checked_add_signed(jump_us).unwrap();
        let seen: Vec<String> = (0..20 * 60).flat_map(|_| world.wait(SECOND)).collect();
        assert!(!seen.iter().any(|line| line.contains("expiry")), "{jump_us}: {seen:?}");
        let standing = world.notices.iter().find_map(|notice| match notice {
            Notice::Clock { standing, .. } => Some(*standing),
            _ => None,
        });
        assert_eq!(standing, Some(expected), "{jump_us}");

        let (idn, mys) = (world.open(IDN), world.connect(MYS));
        world.submit(idn, &Core { expires_s: hour, ..IDN.core(2, &[MYS]) });
        world.hello(mys, MYS.hello());
        world.credit(mys, 9, 1 << 20);
        let told = world.told(mys);
        let delivered: Vec<&String> = told.iter().filter(|line| line.starts_with("Deliver")).collect();
        assert!(delivered.len() == 2 && delivered[0].contains("text 1"), "{jump_us}: {told:?}");
        let traffic = world.durable.iter().filter_map(|record| Opening::decode(&record.opening).ok());
        let times: Vec<u64> = traffic.map(|opening| opening.log_time_us).collect();
        assert!(
            times.is_sorted() && times.iter().all(|time| *time < hour * 1_000_000),
            "{jump_us}: {times:?}"
        );
    }
}

#[test]
fn a_clock_that_went_back_is_in_doubt_and_order_is_unaffected() {
    let mut world = started_at(START_US - 3_600_000_000);
    world.wait(SECOND);
    assert!(world.exchange.is_clock_in_doubt());
    let idn = world.connect(IDN);
    world.hello(idn, pb::Hello { roster_version: 1, ..IDN.hello() });
    assert_eq!(
        world.submit(idn, &IDN.core(2, &[MYS])),
        ["append envelope 2 of IDN", "IDN < Accepted 2 at 3"]
    );
    assert_eq!(world.input(Input::ClockAccepted), ["append clock accepted"]);
    let mut world = world.restart();
    world.wait(SECOND);
    assert!(!world.exchange.is_clock_in_doubt(), "it was accepted an hour behind");
}
