//! Lines that lose one packet in five, or two, and bring the others out of order: TCP sends what is lost again and holds
//! back what came too early (FAULTS 43). All time is the world's.

use std::time::Duration;

use pouch::limits::Limits;

use super::{bloc::DESKS, on_two_threads, trace::Trace, world::World};

const DISPATCHES: usize = 40;
/// Of a body: several packets.
const BODY_BYTES: usize = 8_000;
/// A packet is lost twice in a row now and then, but none for so long that an end thinks the other dead.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Every desk writes to all others, until all has arrived; gives how long that took, and how many lines there were.
fn run(seed: u64, lost_percent: u64) -> (Duration, u64) {
    let mut world = World::at_rest(seed, DESKS.len(), None, Trace::new(false));
    (world.troubled, world.limits, world.lost_percent) = (false, Limits::DEFAULT, lost_percent);
    world.body_bytes_max = BODY_BYTES;
    world.run_until(Duration::from_secs(10)).expect("nothing else goes wrong");
    for number in 0..DISPATCHES {
        world.write_dispatch(number % DESKS.len());
    }
    let began = world.now;
    while !world.desks.iter().all(|desk| desk.is_drained()) {
        assert!(world.now < began + TIME_MAX, "seed {seed}: it hangs");
        world.run_until(world.now + Duration::from_millis(100)).expect("nothing else goes wrong");
    }
    world.settle().expect("nothing else goes wrong");
    (world.now - began, world.next_line() - 1)
}

/// FAULTS 43.
#[test]
fn on_lines_that_lose_packets_everything_arrives_once_and_no_session_ends() {
    for (seed, lost_percent, (took, lines)) in
        on_two_threads(0..16, |seed| (seed, 20 + seed % 2 * 20, run(seed, 20 + seed % 2 * 20)))
    {
        println!("seed {seed}: {lost_percent} % lost, {took:?}");
        assert_eq!(lines, DESKS.len() as u64, "seed {seed}: a session was given up");
    }
}
