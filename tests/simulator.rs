//! The seeded simulator: relay, desks, lines, disk and clocks in one deterministic world (ARCHITECTURE,
//! "The simulator"). `POUCH_SEED=7 cargo test --test simulator one_seed -- --nocapture` tells one run;
//! `POUCH_SEEDS=1000..5000 cargo test --test simulator seeds` runs many.

#[path = "simulator/bloc.rs"]
mod bloc;
#[path = "simulator/chance.rs"]
mod chance;
#[path = "simulator/checker.rs"]
mod checker;
#[path = "simulator/desk.rs"]
mod desk;
#[path = "simulator/disk.rs"]
mod disk;
#[path = "simulator/lies.rs"]
mod lies;
#[path = "simulator/network.rs"]
mod network;
#[path = "simulator/people.rs"]
mod people;
#[path = "simulator/relay.rs"]
mod relay;
#[path = "simulator/thin_line.rs"]
mod thin_line;
#[path = "simulator/trace.rs"]
mod trace;
#[path = "simulator/world.rs"]
mod world;
#[path = "simulator/worn_line.rs"]
mod worn_line;

use std::{
    env,
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use checker::{Promise, Violation};
use disk::FAILURES;
use lies::Lie;
use trace::Trace;
use world::{Event, World};

/// How long things go wrong in one run.
const TROUBLED_TIME: Duration = Duration::from_secs(5);
/// Seeds that a plain `cargo test` runs; `POUCH_SEEDS` asks for others.
const SEEDS: Range<u64> = 0..100;
/// Within so many seeds a planted bug is found.
const SEEDS_PER_LIE: u64 = 100;

/// One run: faults all the time, and then none until everything is drained. Gives the trace's hash.
fn run(seed: u64, lie: Option<Lie>, loud: bool) -> Result<u64, Violation> {
    let mut world = World::new(seed, lie, Trace::new(loud));
    world.at(Duration::from_millis(300), Event::Fault);
    world.run_until(TROUBLED_TIME)?;
    world.heal();
    world.settle()?;
    Ok(world.trace.hash())
}

/// As [`run`], with a panic of the product told as what it is.
fn outcome(seed: u64) -> Result<u64, String> {
    let rerun = format!("POUCH_SEED={seed} cargo test --test simulator one_seed -- --nocapture");
    match panic::catch_unwind(AssertUnwindSafe(|| run(seed, None, false))) {
        Ok(Ok(hash)) => Ok(hash),
        Ok(Err(violation)) => Err(format!("seed {seed} breaks a promise: {violation:?}; rerun: {rerun}")),
        Err(_) => Err(format!("seed {seed} panics; rerun: {rerun}")),
    }
}

fn seeds_asked_for() -> Range<u64> {
    let Ok(text) = env::var("POUCH_SEEDS") else { return SEEDS };
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.expect("POUCH_SEEDS=from..to, two numbers")
}

#[test]
fn every_promise_holds_whatever_goes_wrong_and_everything_drains_once_nothing_does() {
    let seeds = seeds_asked_for();
    let next = AtomicU64::new(seeds.start);
    let broken: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mine = std::iter::from_fn(|| {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        (seed < seeds.end).then_some(seed)
                    });
                    mine.filter_map(|seed| outcome(seed).err()).collect::<Vec<String>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("panics were caught")).collect()
    });
    assert!(broken.is_empty(), "{} of {seeds:?} fail:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn one_seed() {
    let Ok(seed) = env::var("POUCH_SEED") else { return };
    let seed = seed.parse().expect("POUCH_SEED is a number");
    let hash = run(seed, None, true);
    println!("seed {seed}: {hash:x?}");
    assert!(hash.is_ok(), "{hash:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 4] {
        assert_eq!(outcome(seed), outcome(seed));
    }
    assert_ne!(outcome(3), outcome(4));
}

/// A fixed small run, in which the disk operation after the next `skip` ones fails: says whether it came to
/// that.
fn run_with_failure(skip: u64, failure: disk::Failure) -> Result<bool, Violation> {
    let mut world = World::new(1, None, Trace::new(false));
    world.fail_disk(skip, failure);
    world.run_until(Duration::from_millis(600))?;
    let came = world.disk.operations() > skip;
    world.heal();
    world.settle()?;
    Ok(came)
}

#[test]
#[ignore = "takes minutes; run it with `--ignored` when the journal changes"]
fn whichever_disk_operation_fails_and_however_far_it_came_every_promise_holds() {
    let mut operation = 0;
    loop {
        let came = FAILURES.map(|failure| match run_with_failure(operation, failure) {
            Ok(came) => came,
            Err(violation) => panic!("operation {operation} {failure:?}: {violation:?}"),
        });
        if came == [false; 3] {
            break;
        }
        operation += 1;
    }
    assert!(operation > 40, "the run has {operation} disk operations");
}

/// Which promises a lie breaks first, seed by seed until one does.
fn caught(lie: Lie) -> (u64, Violation) {
    let found = (0..SEEDS_PER_LIE).find_map(|seed| Some((seed, run(seed, Some(lie), false).err()?)));
    found.unwrap_or_else(|| panic!("{lie:?} goes unnoticed for {SEEDS_PER_LIE} seeds"))
}

/// Each planted bug, and the promises by which it may be noticed.
const LIES: [(Lie, &[Promise]); 17] = [
    (Lie::DuplicateInboxEntry, &[Promise::ExactlyOnce]),
    (Lie::SenderForged, &[Promise::Sender]),
    (Lie::ReceiptForAnothers, &[Promise::Receipts, Promise::ExactlyOnce]),
    (Lie::DurableBeforeSync, &[Promise::Accepted]),
    (Lie::SyncSkipped, &[Promise::Accepted, Promise::Corruption]),
    (Lie::DirectorySyncSkipped, &[Promise::Accepted, Promise::Corruption]),
    (Lie::FailedOperationRetried, &[Promise::Accepted, Promise::Corruption]),
    (Lie::RecoveryTruncates, &[Promise::Accepted]),
    (Lie::LastBatchNotReplayed, &[Promise::Accepted]),
    (Lie::OldSegmentIdAccepted, &[Promise::Corruption, Promise::Accepted]),
    (Lie::AcceptedElsewhere, &[Promise::Accepted]),
    (Lie::StoredBeforeCommit, &[Promise::Receipts]),
    (Lie::WindowOffByOne, &[Promise::Bounds]),
    (Lie::CreditIgnored, &[Promise::Bounds]),
    (Lie::RosterWithheld, &[Promise::Accepted]),
    (Lie::DeliveriesSwapped, &[Promise::Order]),
    (Lie::SuspensionIgnored, &[Promise::Suspension]),
];

#[test]
fn every_planted_bug_is_caught_by_the_promise_that_it_breaks() {
    for (lie, promises) in LIES {
        let (seed, violation) = caught(lie);
        println!("{lie:?}: seed {seed}, {:?}: {}", violation.promise, violation.words);
        assert!(promises.contains(&violation.promise), "{lie:?} is taken for {violation:?}");
    }
}
