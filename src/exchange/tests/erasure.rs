//! Openings that are past their time: the leaf that names them, and what is said of them afterwards.

use std::time::Duration;

use super::{
    desk::{IDN, MYS, START_US, hash_of},
    world::World,
};
use crate::{
    exchange::Input,
    limits::Limits,
    wire::{
        Position,
        envelope::Core,
        pb::{self, frame::Kind},
        receipt::ReceiptKind,
    },
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Days that openings are kept here.
const KEPT: u32 = 90;

fn limits() -> Limits {
    Limits { openings_keep: KEPT * DAY, ..Limits::DEFAULT }
}

/// The stored number 1 of Malaysia, for Indonesia's first envelope.
fn stored(core: &Core) -> pb::Stored {
    MYS.stored(1, &[MYS.receipt(ReceiptKind::Delivered, IDN, &[(hash_of(&IDN.submit(core)), Position(3))])])
}

/// One envelope is delivered on the first day, at 3, with its receipt at 4; another waits for Malaysia from
/// the second day on.
fn two_days() -> (World, Core) {
    let mut world = World::with_limits(limits());
    let [idn, mys] = [IDN, MYS].map(|desk| world.open(desk));
    let core = Core { expires_s: START_US / 1_000_000 + 50 * 86_400, ..IDN.core(1, &[MYS]) };
    assert!(world.submit(idn, &core).contains(&"IDN < Accepted 1 at 3".to_owned()));
    world.say(mys, Kind::Stored(stored(&core)));
    for conn in [idn, mys] {
        world.close(conn);
    }
    world.wait(DAY);
    let idn = world.open(IDN);
    world.submit(idn, &Core { submission: crate::wire::SubmissionNumber(2), ..core.clone() });
    world.close(idn);
    (world, core)
}

/// Days pass, one by one; gives what came of the last.
fn days(world: &mut World, count: u32) -> Vec<String> {
    (0..count).map(|_| world.wait(DAY)).last().unwrap_or_default()
}

#[test]
fn what_is_older_than_is_kept_is_named_by_a_leaf_once_it_is_a_whole_day() {
    let (mut world, _) = two_days();
    // The day by log time on which the first records were made ends less than a day after them.
    assert_eq!(days(&mut world, KEPT - 2), [""; 0]);
    assert_eq!(world.exchange.erasure(), None);
    assert_eq!(days(&mut world, 2), ["append erasures through 4"]);
    let erasure = world.exchange.erasure().expect("just written");
    assert_eq!((erasure.through, erasure.at.0), (Position(4), world.durable.len() as u64 - 1));
    assert_eq!(world.wait(Duration::from_secs(1)), [""; 0], "once");
    let next = days(&mut world, 60);
    assert!(next.is_empty(), "{next:?}");
    assert!(world.exchange.erasure().expect("kept").through > Position(4), "then what came later");
}

#[test]
fn a_repetition_of_what_is_erased_is_answered_and_nothing_that_waits_is_lost() {
    let (mut world, core) = two_days();
    days(&mut world, KEPT);
    assert!(world.exchange.erasure().is_some());
    let idn = world.open(IDN);
    let told = world.told(idn);
    assert!(told.contains(&"Receipt 4 delivered [3] by MYS".to_owned()), "it still waits: {told:?}");
    let again = world.submit(idn, &core);
    assert!(again[0].starts_with("IDN < Refused 1 OldNumber"), "{again:?}");
    let mys = world.open(MYS);
    let again = world.say(mys, Kind::Stored(stored(&core)));
    assert_eq!(again, ["MYS < StoredAt 1 at 18446744073709551615"], "taken; what proves it is erased");
    let unknown = MYS.stored(0, &[]);
    assert!(world.say(mys, Kind::Stored(unknown))[0].contains("Goodbye"));
}

#[test]
fn a_restart_knows_what_was_erased_and_its_base_says_the_same() {
    let (mut world, _) = two_days();
    days(&mut world, KEPT);
    let (erasure, base) = (world.exchange.erasure(), world.exchange.base());
    let mut restarted = world.restart();
    assert_eq!((restarted.exchange.erasure(), restarted.exchange.base()), (erasure, base.clone()));
    assert_eq!(restarted.restored(&base).erasure(), erasure);
    for cut in 0..base.len() {
        assert!(restarted.try_restored(&base[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn a_base_of_the_version_before_is_read_and_days_are_noted_anew_from_there() {
    let (world, _) = two_days();
    let before = world.exchange.base_of_records(4);
    let whole = |base: &[u8]| [base, &[0; 4][..]].concat();
    let restored = world.restored(&whole(&before));
    let mut met = world.restart();
    met.exchange.replay_base(&whole(&before)).expect("the same state");
    assert_eq!(restored.base_of_records(5), met.exchange.base_of_records(5));
    assert_eq!(restored.erasure(), None);
}

#[test]
fn nothing_is_erased_while_the_clock_is_in_doubt_nor_because_it_was_accepted() {
    let (mut world, _) = two_days();
    world.now.wall_us += 1_000 * 86_400_000_000;
    assert_eq!(world.wait(Duration::from_secs(1)), [""; 0]);
    assert!(world.exchange.is_clock_in_doubt());
    let seen = world.input(Input::ClockAccepted);
    assert_eq!(seen, ["append clock accepted"]);
    let seen = days(&mut world, KEPT - 2);
    assert!(seen.is_empty() && world.exchange.erasure().is_none(), "nothing is older for it: {seen:?}");
    days(&mut world, 3);
    assert!(world.exchange.erasure().is_some());
}
