//! A mission behind a satellite: 64 kbit/s, 600 ms there and back (FAULTS 44). All time is the world's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use pouch::{journal::Options, limits::Limits};

use super::{
    network::{End, Thin},
    trace::Trace,
    world::World,
};

const THIN: Thin = Thin { bytes_per_s: 64_000 / 8, latency: Duration::from_millis(300) };
/// The line is what is narrow here.
const ROOMY: Options = Options { segment_bytes: 1024 * 1024, spare_segments: 1, ..Options::DEFAULT };
const HUB: usize = 0;
const MISSION: usize = 1;
/// Dispatches that are there before the FLASH, and the bytes of each.
const BULK: usize = 60;
const BULK_BYTES: usize = 6_000;
/// The FLASH comes when so many of them have arrived.
const ARRIVED_BEFORE: usize = 25;
const STEP: Duration = Duration::from_millis(50);
/// Long enough for all of it at a tenth of the rate.
const TIME_MAX: Duration = Duration::from_secs(400);

/// What a run of bulk and one FLASH in its middle came to.
struct Outcome {
    /// Share of what the line could have carried until the last dispatch was there, in percent.
    used: u64,
    /// Bulk that arrived after the FLASH was written and before it.
    before_flash: usize,
    flash_took: Duration,
}

fn arrived(world: &World, desk: usize) -> Vec<String> {
    let mut statement =
        world.desks[desk].disk.prepare("SELECT subject FROM inbox ORDER BY register").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn run_until(world: &mut World, wanted: impl Fn(&World) -> bool) {
    while !wanted(world) {
        assert!(world.now < TIME_MAX, "it takes too long");
        world.run_until(world.now + STEP).unwrap();
    }
}

/// Bulk from one desk to another, and a FLASH behind it, over the mission's thin line.
fn bulk_and_flash(from: usize, to: usize) -> Outcome {
    let mut world = World::new(1, None, Trace::new(false));
    (world.troubled, world.thin, world.limits) = (false, Some(THIN), Limits::DEFAULT);
    world.journal = ROOMY;
    world.run_until(Duration::from_secs(10)).unwrap();
    let towards = if from == MISSION { End::Relay } else { End::Desk };
    let passed = |world: &World| {
        world.lines.values().filter(|on| on.desk == MISSION).map(|on| on.passed(towards)).sum::<u64>()
    };
    let (began, passed_before) = (world.now, passed(&world));
    for _ in 0..BULK {
        world.post(from, vec![to], "routine", BULK_BYTES);
    }
    run_until(&mut world, |world| arrived(world, to).len() >= ARRIVED_BEFORE);
    let (before, written_at) = (arrived(&world, to).len(), world.now);
    world.post(from, vec![to], "flash", 500);
    let flash = format!("{}/{}", super::bloc::DESKS[from], BULK + 1);
    run_until(&mut world, |world| arrived(world, to).contains(&flash));
    let flash_took = world.now - written_at;
    run_until(&mut world, |world| arrived(world, to).len() == BULK + 1);
    let carried = passed(&world) - passed_before;
    let could = u64::try_from((world.now - began).as_millis()).unwrap() * THIN.bytes_per_s / 1_000;
    world.settle().unwrap();
    let at = arrived(&world, to).iter().position(|subject| *subject == flash).unwrap();
    Outcome { used: carried * 100 / could, before_flash: at - before, flash_took }
}

fn check(from: usize, to: usize) {
    let Outcome { used, before_flash, flash_took } = bulk_and_flash(from, to);
    println!("{used} % of the line used; the FLASH took {flash_took:?}, behind {before_flash} others");
    assert!(used >= 80, "{used} % of the line are used");
    // What the kernel holds, what is queued, and one frame: about 30 KB, of the 230 KB that waited.
    assert!(before_flash <= 6, "{before_flash} went before the FLASH");
    assert!(flash_took < Duration::from_secs(6), "{flash_took:?}");
}

/// FAULTS 44.
#[test]
fn a_flash_overtakes_bulk_from_a_mission_on_a_thin_line_that_is_used_to_80_percent() {
    check(MISSION, HUB);
}

/// FAULTS 44.
#[test]
fn a_flash_overtakes_bulk_to_a_mission_on_a_thin_line_that_is_used_to_80_percent() {
    check(HUB, MISSION);
}

/// As long, and a hundred times as wide: the window decides, and it must not stay at the 8 envelopes of its
/// beginning, of which the line would carry 13 a second.
#[test]
fn on_a_long_line_that_is_not_thin_the_window_grows_until_it_is_no_hindrance() {
    let mut world = World::new(1, None, Trace::new(false));
    let wide = Thin { bytes_per_s: 1_000_000, latency: Duration::from_millis(300) };
    (world.troubled, world.thin, world.limits) = (false, Some(wide), Limits::DEFAULT);
    world.journal = ROOMY;
    world.run_until(Duration::from_secs(10)).unwrap();
    let began = world.now;
    for _ in 0..400 {
        world.post(MISSION, vec![HUB], "routine", 500);
    }
    run_until(&mut world, |world| arrived(world, HUB).len() == 400);
    let took = world.now - began;
    assert!(took < Duration::from_secs(10), "{took:?}");
}
