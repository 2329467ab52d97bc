//! The seeded simulator: relay, desks, lines, disk and clocks in one deterministic world (ARCHITECTURE,
//! "The simulator"). `POUCH_SEED=7 cargo test --test simulator one_seed -- --nocapture` tells one run;
//! `POUCH_SEEDS=1000..5000 cargo test --test simulator seeds` runs many.

#[path = "simulator/alarms.rs"]
mod alarms;
#[path = "simulator/bloc.rs"]
mod bloc;
#[path = "simulator/bounds.rs"]
mod bounds;
#[path = "simulator/caught.rs"]
mod caught;
#[path = "simulator/chance.rs"]
mod chance;
#[path = "simulator/checker.rs"]
mod checker;
#[path = "simulator/desk.rs"]
mod desk;
#[path = "simulator/disk.rs"]
#[expect(dead_code, reason = "the journal's own tests do more to a disk")]
mod disk;
#[path = "simulator/erasure.rs"]
mod erasure;
#[path = "simulator/faults.rs"]
mod faults;
#[path = "simulator/impostor.rs"]
mod impostor;
#[path = "simulator/inboxes.rs"]
mod inboxes;
#[path = "simulator/journal.rs"]
mod journal;
#[path = "simulator/liar.rs"]
mod liar;
#[path = "simulator/lies.rs"]
mod lies;
#[path = "simulator/log.rs"]
mod log;
#[path = "simulator/lossy_line.rs"]
mod lossy_line;
#[path = "simulator/ministry.rs"]
mod ministry;
#[path = "simulator/network.rs"]
mod network;
#[path = "simulator/people.rs"]
mod people;
#[path = "simulator/relay.rs"]
mod relay;
#[path = "simulator/shelf.rs"]
#[expect(dead_code, reason = "the log's own tests do more to a folder")]
mod shelf;
#[path = "simulator/sides.rs"]
mod sides;
#[path = "simulator/thin_line.rs"]
mod thin_line;
#[path = "simulator/trace.rs"]
mod trace;
#[path = "simulator/world.rs"]
mod world;
#[path = "simulator/worn_line.rs"]
mod worn_line;

use std::{
    collections::BTreeSet,
    env,
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use pouch::{
    journal::{Disk, SegmentFile, SegmentId},
    tiles::Folder,
};

use checker::{Promise, Violation};
use disk::{DiskLie, FAILURES, Failure};
use lies::Lie;
use trace::Trace;
use world::{Event, World};

/// How long things go wrong in one run.
const TROUBLED_TIME: Duration = Duration::from_secs(5);
/// Seeds that a plain `cargo test` runs; `POUCH_SEEDS` asks for others.
const SEEDS: Range<u64> = 0..1000;
/// Within so many seeds a planted bug is found.
const SEEDS_PER_LIE: u64 = 100;

/// What a hundred seeds come to at least once, or nothing is shown of it.
const COMES_UP: [&str; 28] = [
    "asked whether a checkpoint is held back",
    "checkpoint",
    "death between quorum and publication",
    "death between signature and publication",
    "death between sync and tree",
    "death between the copies of what is published",
    "death between tiles and signature",
    "death while tiles are written",
    "deferred",
    "disk failure",
    "erased beside what waits",
    "expired by a clock that was ahead",
    "forged sender",
    "full mailbox",
    "key rotated",
    "log's files lost",
    "no room",
    "openings erased",
    "refused for MINIMIZE",
    "restored store",
    "roll",
    "room again",
    "roster through the hub's session",
    "segment carried on",
    "segment given up",
    "sent again when it was erased",
    "taken over",
    "witnessed checkpoint",
];

/// A run that broke no promise.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    /// Of the trace.
    hash: u64,
    came: BTreeSet<&'static str>,
}

/// One run: faults all the time, and then none until everything is drained.
fn run(seed: u64, lie: Option<Lie>, loud: bool) -> Result<Ran, Violation> {
    let mut world = World::new(seed, lie, Trace::new(loud));
    world.at(Duration::from_millis(300), Event::Fault);
    world.run_until(TROUBLED_TIME)?;
    world.heal();
    world.settle()?;
    Ok(Ran { hash: world.trace.hash(), came: world.checker.came })
}

/// As [`run`], with a panic of the product told as what it is.
fn outcome(seed: u64) -> Result<Ran, String> {
    let rerun = format!("POUCH_SEED={seed} cargo test --test simulator one_seed -- --nocapture");
    match panic::catch_unwind(AssertUnwindSafe(|| run(seed, None, false))) {
        Ok(Ok(ran)) => Ok(ran),
        Ok(Err(violation)) => Err(format!("seed {seed} breaks a promise: {violation:?}; rerun: {rerun}")),
        Err(_) => Err(format!("seed {seed} panics; rerun: {rerun}")),
    }
}

/// Does something for each number, in whichever order.
fn on_two_threads<T: Send>(numbers: Range<u64>, each: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(numbers.start);
    let mine = || {
        let taken = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        taken.take_while(|number| *number < numbers.end).map(&each).collect::<Vec<T>>()
    };
    thread::scope(|scope| {
        let workers = [scope.spawn(mine), scope.spawn(mine)];
        workers.into_iter().flat_map(|worker| worker.join().expect("panics were caught")).collect()
    })
}

fn seeds_asked_for() -> Range<u64> {
    let Ok(text) = env::var("POUCH_SEEDS") else { return SEEDS };
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.expect("POUCH_SEEDS=from..to, two numbers")
}

/// FAULTS 1 to 3, 25, 32 and 52, amid traffic.
#[test]
fn every_promise_holds_whatever_goes_wrong_and_everything_drains_once_nothing_does() {
    let seeds = seeds_asked_for();
    let runs = on_two_threads(seeds.clone(), outcome);
    let broken: Vec<&str> = runs.iter().filter_map(|run| run.as_ref().err()).map(String::as_str).collect();
    assert!(broken.is_empty(), "{} of {seeds:?} fail:\n{}", broken.len(), broken.join("\n"));
    let came: BTreeSet<&str> = runs.iter().flatten().flat_map(|ran| ran.came.iter().copied()).collect();
    let missing: Vec<&str> = COMES_UP.into_iter().filter(|kind| !came.contains(kind)).collect();
    assert!(runs.len() < 100 || missing.is_empty(), "never came up: {missing:?}");
}

#[test]
fn one_seed() {
    let Ok(seed) = env::var("POUCH_SEED") else { return };
    let seed = seed.parse().expect("POUCH_SEED is a number");
    let ran = run(seed, None, true);
    println!("seed {seed}: {ran:x?}");
    assert!(ran.is_ok(), "{ran:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 4] {
        assert_eq!(outcome(seed), outcome(seed));
    }
    assert_ne!(outcome(3), outcome(4));
}

/// A fixed small run with a roll, a restart and a segment used again, in which the disk operation after the next
/// `skip` ones fails: gives how many there were until then, and
/// what happened.
fn run_with_failure(skip: u64, failure: Failure) -> Result<(u64, BTreeSet<&'static str>), Violation> {
    let mut world = World::at_rest(1, 2, None, Trace::new(false));
    world.body_bytes_max = 24_000;
    // Nothing else goes wrong.
    world.troubled = false;
    world.fail_disk(skip, failure);
    for time in [60, 90, 120, 150] {
        world.run_until(Duration::from_millis(time))?;
        world.write_dispatch(0);
        world.write_dispatch(1);
    }
    world.run_until(Duration::from_millis(250))?;
    world.kill_relay(true);
    world.run_until(Duration::from_millis(600))?;
    let operations = world.disk.operations();
    world.heal();
    world.settle()?;
    Ok((operations, world.checker.came))
}

#[test]
fn whichever_disk_operation_fails_and_however_far_it_came_every_promise_holds() {
    let (operations, came) = run_with_failure(u64::MAX / 2, Failure::Before).expect("nothing goes wrong");
    assert!((100..600).contains(&operations), "the run has {operations} disk operations");
    assert!(came.contains("roll") && came.contains("segment carried on"), "{came:?}");
    let broken = on_two_threads(0..operations, |operation| {
        let each = FAILURES.map(|failure| {
            let run = panic::catch_unwind(|| run_with_failure(operation, failure));
            match run {
                Ok(Ok(_)) => None,
                Ok(Err(violation)) => Some(format!("operation {operation} {failure:?}: {violation:?}")),
                Err(_) => Some(format!("operation {operation} {failure:?} panics")),
            }
        });
        each.into_iter().flatten().collect::<Vec<_>>()
    });
    let broken = broken.concat();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Which promises a lie breaks first, seed by seed until one does.
fn caught(lie: Lie) -> (u64, Violation) {
    let found = (0..SEEDS_PER_LIE).find_map(|seed| Some((seed, run(seed, Some(lie), false).err()?)));
    found.unwrap_or_else(|| panic!("{lie:?} goes unnoticed for {SEEDS_PER_LIE} seeds"))
}

/// Each planted bug, and the promises by which it may be noticed.
const LIES: [(Lie, &[Promise]); 30] = [
    (Lie::DurableAfterFailure, &[Promise::FailedDisk, Promise::Log]),
    (Lie::LogTimeGoesBack, &[Promise::LogTime]),
    (Lie::BaseNotReplayed, &[Promise::Corruption, Promise::Accepted, Promise::Log]),
    (Lie::DuplicateInboxEntry, &[Promise::ExactlyOnce]),
    (Lie::SenderForged, &[Promise::Sender]),
    (Lie::ReceiptForAnothers, &[Promise::Receipts, Promise::ExactlyOnce]),
    (Lie::DurableBeforeSync, &[Promise::Accepted, Promise::Log]),
    (Lie::OnDisk(DiskLie::SyncSkipped), &[Promise::Accepted, Promise::Corruption, Promise::Log]),
    (Lie::OnDisk(DiskLie::DirectorySyncSkipped), &[Promise::Accepted, Promise::Corruption, Promise::Log]),
    (Lie::OnDisk(DiskLie::FailedOperationRetried), &[Promise::Accepted, Promise::Corruption, Promise::Log]),
    (Lie::RecoveryTruncates, &[Promise::Accepted, Promise::Corruption, Promise::Log]),
    (Lie::LastBatchNotReplayed, &[Promise::Accepted, Promise::Log]),
    (Lie::OnDisk(DiskLie::IdsRepeated), &[Promise::Corruption, Promise::Accepted, Promise::Log]),
    (Lie::AcceptedElsewhere, &[Promise::Accepted]),
    (Lie::CheckpointBeforeDurable, &[Promise::Log]),
    (Lie::LeafChanged, &[Promise::Log]),
    (Lie::CheckpointForked, &[Promise::Log]),
    (Lie::LeafLost, &[Promise::Log]),
    (Lie::TilesNotWritten, &[Promise::Log]),
    (Lie::PublishedUnwitnessed, &[Promise::Log]),
    (Lie::ToldBeforePublished, &[Promise::Log]),
    (Lie::StoredBeforeCommit, &[Promise::Receipts]),
    (Lie::WindowOffByOne, &[Promise::Bounds]),
    (Lie::CreditIgnored, &[Promise::Bounds]),
    (Lie::RosterWithheld, &[Promise::Accepted, Promise::Log]),
    (Lie::DeliveriesSwapped, &[Promise::Order]),
    (Lie::SuspensionIgnored, &[Promise::Suspension]),
    (Lie::ErasedTooEarly, &[Promise::Erasure]),
    (Lie::ErasedWithoutLeaf, &[Promise::Erasure]),
    (Lie::ArchiveNotErased, &[Promise::Erasure]),
];

#[test]
fn every_planted_bug_is_caught_by_the_promise_that_it_breaks() {
    for (lie, promises) in LIES {
        let (seed, violation) = caught(lie);
        println!("{lie:?}: seed {seed}, {:?}: {}", violation.promise, violation.words);
        assert!(promises.contains(&violation.promise), "{lie:?} is taken for {violation:?}");
    }
}
