//! Each way in which a relay can lie about its audit log, against whole desks: who notices, by which alarm, how soon.

use std::time::Duration;

use pouch::limits::Limits;

use super::{
    bloc::DESKS,
    checker::Violation,
    liar::{Deceit, Liar},
    on_two_threads,
    trace::Trace,
    world::World,
};

/// Seeds for each deceit.
const SEEDS: u64 = 8;
/// A lie is noticed within two checkpoint intervals, and the time that questions and answers take on a slow line.
const NOTICED_WITHIN: Duration = Duration::from_secs(2 * 10 + 2);
/// The longest run: the lie begins within 40 s, and a roster that it is about comes within 25 s more.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);
/// So long a run goes on once a desk has noticed: it must cosign nothing more.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// Each deceit, and the alarm by which a desk notices it.
const DECEITS: [(Deceit, &str); 16] = [
    (Deceit::Drops, "audit-log"),
    (Deceit::Edits, "audit-log"),
    (Deceit::EditsFile, "audit-log"),
    (Deceit::Reorders, "audit-log"),
    (Deceit::Forks, "forked"),
    (Deceit::Rewinds, "audit-log"),
    (Deceit::SignsAnew, "audit-log"),
    (Deceit::SignsByAnother, "audit-log"),
    (Deceit::Omits, "audit-log"),
    (Deceit::Withholds, "audit-log"),
    (Deceit::WithholdsLeaf, "audit-log"),
    (Deceit::WrongSize, "audit-log"),
    (Deceit::Stale, "checkpoint-overdue"),
    (Deceit::FutureTime, "log-time"),
    (Deceit::Duplicates, "audit-log"),
    (Deceit::CutsTail, "audit-log"),
];

/// A bloc under a relay that lies, with nothing else amiss, until a desk notices.
fn run(seed: u64, deceit: Deceit) -> Result<Liar, Violation> {
    let mut world = World::at_rest(seed, DESKS.len(), None, Trace::new(false));
    world.limits = Limits::DEFAULT;
    world.troubled = false;
    let since = world.chance.between(20_000, 40_000);
    let liar = Liar::new(deceit, since);
    world.relay_skew_us = liar.skew_us();
    world.liar = Some(liar);
    let mut ends = None;
    while world.now < ends.unwrap_or(RUN_TIME_MAX) {
        for desk in 0..DESKS.len() {
            if world.chance.one_in(4) {
                world.write_dispatch(desk);
            }
        }
        let second = world.now.as_secs();
        if deceit.takes_rosters() && second > 45 && second.is_multiple_of(6) {
            // Suspended, and welcome again: two rosters.
            world.suspend_or_lift(3);
        }
        let ran = world.run_until(world.now + Duration::from_secs(1));
        // Once it was caught, the whole relay below may find it out by what a victim's Hello brings, and stop.
        if ends.is_none() {
            ran?;
        } else if ran.is_err() {
            break;
        }
        let liar = world.liar.as_ref().expect("it was put there");
        if !liar.caught.is_empty() {
            ends.get_or_insert(world.now + AFTERWARDS);
        }
    }
    Ok(world.liar.take().expect("it was put there"))
}

/// FAULTS 82. That nobody is blamed falsely, every other run of the simulator holds.
#[test]
fn whatever_a_relay_lies_about_its_log_a_whole_desk_notices_within_two_checkpoints() {
    for (deceit, alarm) in DECEITS {
        for (seed, run) in on_two_threads(0..SEEDS, |seed| (seed, run(seed, deceit))) {
            let liar = run.unwrap_or_else(|broken| panic!("{deceit:?}, seed {seed}: {broken:?}"));
            assert!(liar.lied_before(RUN_TIME_MAX), "{deceit:?}, seed {seed}: it never came to lie");
            let first = liar.caught.first();
            println!(
                "{deceit:?}, seed {seed}: {:?}",
                first.map(|f| (f.after, f.desk, &f.key, f.sentence.get(..90)))
            );
            let first = first.unwrap_or_else(|| panic!("{deceit:?}, seed {seed}: nobody notices"));
            assert_eq!(first.key, alarm, "{deceit:?}, seed {seed}");
            assert!(first.after <= NOTICED_WITHIN, "{deceit:?}, seed {seed}: {first:?}");
            // Of a fork, whoever gets something from the other side first.
            let notices = deceit == Deceit::Forks || deceit.victims().contains(&first.desk);
            assert!(notices, "{deceit:?}, seed {seed}: {first:?}");
            assert_eq!(liar.cosigned_after_alarm, 0, "{deceit:?}, seed {seed}");
        }
    }
}
