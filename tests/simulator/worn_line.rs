//! A line that breaks after every number of bytes that a session has, each way (FAULTS 40).

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use super::{
    network::{End, Line},
    trace::Trace,
    world::World,
};

const HUB: usize = 0;
const MISSION: usize = 1;
/// Offsets that one world goes through: a desk's wait between attempts grows meanwhile.
const OFFSETS: u64 = 8;
const STEP: Duration = Duration::from_millis(100);
/// More than the longest wait between attempts, and a session.
const TIME_MAX: Duration = Duration::from_secs(60);

/// The mission's line, while it carries.
fn line(world: &World) -> Option<(&u64, &Line)> {
    world.lines.iter().rfind(|(_, on)| on.desk == MISSION && !on.is_cut())
}

fn is_drained(world: &World) -> bool {
    world.desks.iter().all(|desk| desk.is_drained())
}

/// Gives both ends something to say in their next session, which comes on a new line.
fn begin(world: &mut World, lasts: Option<(End, u64)>) {
    for (from, to) in [(MISSION, HUB), (HUB, MISSION)] {
        world.post(from, vec![to], "routine", 10);
    }
    world.lasts = lasts;
    if let Some(before) = line(world).map(|(line, _)| *line) {
        world.break_line(before);
    }
}

fn run_until(world: &mut World, what: &str, wanted: impl Fn(&World) -> bool) {
    let until = world.now + TIME_MAX;
    while !wanted(world) {
        assert!(world.now < until, "{what}: it hangs");
        world.run_until(world.now + STEP).unwrap_or_else(|broken| panic!("{what}: {broken:?}"));
    }
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed, None, Trace::new(false));
    world.troubled = false;
    run_until(&mut world, "first contact", |world| {
        world.now > STEP && line(world).is_some() && is_drained(world)
    });
    world
}

/// Bytes that such a session carries towards an end.
fn bytes(towards: End) -> u64 {
    let mut world = world(1);
    begin(&mut world, None);
    run_until(&mut world, "a whole session", |world| line(world).is_some() && is_drained(world));
    line(&world).expect("it stands").1.passed(towards)
}

fn break_at_each(towards: End, offsets: Range<u64>) {
    let mut world = world(offsets.start);
    for offset in offsets.clone() {
        begin(&mut world, Some((towards, offset)));
        // Its line was made, and has broken, or has carried all there is.
        run_until(&mut world, &format!("{towards:?} {offset}"), |world| {
            world.lasts.is_none() && (line(world).is_none() || is_drained(world))
        });
    }
    world.heal();
    world.settle().unwrap_or_else(|broken| panic!("{towards:?} {offsets:?}: {broken:?}"));
}

/// FAULTS 40.
#[test]
fn a_line_that_breaks_at_any_byte_of_a_session_loses_nothing_and_doubles_nothing() {
    for towards in [End::Relay, End::Desk] {
        let bytes = bytes(towards);
        assert!(bytes > 800, "{towards:?}: {bytes}");
        let next = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let start = next.fetch_add(OFFSETS, Ordering::Relaxed);
                        if start >= bytes {
                            return;
                        }
                        break_at_each(towards, start..(start + OFFSETS).min(bytes));
                    }
                });
            }
        });
    }
}
