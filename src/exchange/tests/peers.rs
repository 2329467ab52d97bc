//! Peers that vanish, dawdle, never settle or never stop (FAULTS 41, 49, 64, 77): what they hold is bounded, and
//! comes back.

use std::time::Duration;

use super::{
    desk::{IDN, MYS},
    world::World,
};
use crate::{exchange::Input, limits::Limits};

const SECOND: Duration = Duration::from_secs(1);

fn with<'a>(seen: &'a [String], words: &'a str) -> impl Iterator<Item = &'a String> {
    seen.iter().filter(move |line| line.contains(words))
}

/// FAULTS 41.
#[test]
fn a_desk_that_vanishes_is_forgotten_within_30_s_and_its_credit_goes_back_to_the_pool() {
    let mut world = World::new();
    let idn = world.open(IDN);
    for number in 1..=200 {
        world.submit(idn, &IDN.core(number, &[MYS]));
    }
    let whole = Limits::DEFAULT.window_pool_bytes;
    assert!(world.exchange.report(world.now).credit_pool_bytes < whole, "its window has grown");
    let mut waited = Duration::ZERO;
    while !world.exchange.report(world.now).sessions.is_empty() {
        world.wait(SECOND);
        waited += SECOND;
        assert!(waited <= 30 * SECOND);
    }
    assert_eq!(world.exchange.report(world.now).credit_pool_bytes, whole);
    assert!(world.exchange.sessions.is_empty(), "nor is anything else of it kept");
}

/// FAULTS 77: before Hello.
#[test]
fn a_hello_that_comes_byte_by_byte_is_not_waited_for() {
    let mut world = World::new();
    let conn = world.connect(IDN);
    for _ in 0..4 {
        assert_eq!(world.wait(SECOND), [""; 0]);
        world.input(Input::Heard { conn });
    }
    assert_eq!(world.wait(SECOND), ["IDN < Goodbye Silent", "IDN closed"]);
}

/// FAULTS 49.
#[test]
fn a_reader_that_asks_for_more_and_never_settles_gets_each_envelope_once_until_its_mailbox_is_full() {
    let mut world = World::with_limits(Limits { mailbox_envelopes_max: 20, ..Limits::DEFAULT });
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    let (mut delivered, mut refused) = (0, 0);
    for number in 1..=30 {
        let mut seen = world.submit(idn, &IDN.core(number, &[MYS]));
        seen.extend(world.credit(mys, 1_000_000 + number, (1 << 40) + number));
        delivered += with(&seen, "MYS < Deliver").count();
        refused += with(&seen, "MailboxFull").filter(|line| line.starts_with("IDN < Refused")).count();
    }
    assert_eq!((delivered, refused), (20, 10));
}

/// FAULTS 64.
#[test]
fn a_desk_that_never_stops_submitting_has_no_more_in_flight_than_the_largest_window() {
    let mut world = World::new();
    let idn = world.open(IDN);
    let mut number = 0;
    let mut submit = |world: &mut World| {
        number += 1;
        world.submit(idn, &IDN.core(number, &[MYS]))
    };
    for _ in 0..2_000 {
        submit(&mut world);
    }
    world.holds_sync = true;
    let mut seen = Vec::new();
    while with(&seen, "IDN closed").next().is_none() {
        seen = submit(&mut world);
        assert!(world.unsynced.len() <= 512, "the window is at most 512");
    }
    assert_eq!(seen, ["IDN < Goodbye Protocol", "IDN closed"]);
    assert!(world.unsynced.len() > 256, "and it had grown: {}", world.unsynced.len());
}
