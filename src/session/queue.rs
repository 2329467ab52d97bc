//! What is queued to one connection and has not left, and how much may be, so that a FLASH never waits long
//! behind it: about what the line takes in a second.

use std::time::Duration;

use crate::limits::Limits;

/// Lines are measured in bytes a this long.
const SECOND_US: u128 = 1_000_000;

/// Bytes queued to one connection, and the bound that its line has earned: it starts at
/// [`Limits::queue_bytes_min`], doubles with each large write that leaves fast, up to
/// [`Limits::connection_queue_bytes_max`], and falls to what the line takes in a second with each that leaves slowly.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    bytes: usize,
    bytes_max: usize,
    /// Since when the oldest of them waits; anything while there are none.
    since: Duration,
}

impl Queue {
    /// Nothing is queued.
    pub fn new(limits: &Limits) -> Queue {
        let bytes_max = limits.queue_bytes_min.min(limits.connection_queue_bytes_max);
        Queue { bytes: 0, bytes_max, since: Duration::ZERO }
    }

    /// Bytes that have not left.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that may still be queued; the last frame may go over.
    pub fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    /// The bound: about what the line takes in a second.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Counts a frame that is queued now.
    pub fn add(&mut self, bytes: usize, now: Duration) {
        if self.bytes == 0 {
            self.since = now;
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts bytes that left together now.
    pub fn left(&mut self, bytes: usize, now: Duration, limits: &Limits) {
        let took = now.saturating_sub(self.since).as_micros().max(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.since = now;
        // A small write tells how long a round takes, not how fast the line is.
        if bytes >= self.bytes_max.min(limits.queue_bytes_min) / 2 {
            let in_a_second = usize::try_from(bytes as u128 * SECOND_US / took).unwrap_or(usize::MAX);
            let bytes_max = in_a_second.min(self.bytes_max * 2).max(limits.queue_bytes_min);
            self.bytes_max = bytes_max.min(limits.connection_queue_bytes_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits::DEFAULT;

    /// Fills the queue to its bound again and again on a line of so many bytes a second, which takes what is
    /// queued in one write each time; gives the bounds.
    fn bounds(bytes_per_s: u64, rounds: u32) -> Vec<usize> {
        let (mut queue, mut now) = (Queue::new(&LIMITS), Duration::ZERO);
        (0..rounds)
            .map(|_| {
                while queue.room() > 0 {
                    queue.add(1_500, now);
                }
                now += Duration::from_micros(queue.bytes() as u64 * 1_000_000 / bytes_per_s);
                queue.left(queue.bytes(), now, &LIMITS);
                queue.room()
            })
            .collect()
    }

    #[test]
    fn a_fast_line_doubles_its_bound_and_a_slow_one_keeps_the_least() {
        let (least, most) = (LIMITS.queue_bytes_min, LIMITS.connection_queue_bytes_max);
        assert_eq!(bounds(100_000_000, 5), [2 * least, 4 * least, 8 * least, most, most]);
        assert_eq!(bounds(8_000, 3), [least; 3]);
    }

    #[test]
    fn a_line_that_becomes_slow_holds_no_more_than_it_takes_in_a_second() {
        let mut queue = Queue::new(&LIMITS);
        for _ in 0..4 {
            queue.add(LIMITS.connection_queue_bytes_max, Duration::ZERO);
            queue.left(LIMITS.connection_queue_bytes_max, Duration::from_millis(1), &LIMITS);
        }
        assert_eq!(queue.room(), LIMITS.connection_queue_bytes_max);
        queue.add(60_000, Duration::from_secs(5));
        queue.left(60_000, Duration::from_secs(7), &LIMITS);
        assert_eq!(queue.room(), 30_000);
    }

    #[test]
    fn small_writes_and_idle_times_say_nothing_about_the_line() {
        let mut queue = Queue::new(&LIMITS);
        queue.add(20_000, Duration::ZERO);
        queue.left(20_000, Duration::from_millis(1), &LIMITS);
        let room = queue.room();
        queue.add(200, Duration::from_secs(3));
        queue.left(200, Duration::from_secs(4), &LIMITS);
        assert_eq!(queue.room(), room, "a ping that left after a second");
        queue.add(20_000, Duration::from_secs(60));
        queue.left(20_000, Duration::from_secs(60), &LIMITS);
        assert_eq!(queue.room(), 2 * room, "the minute without traffic does not count");
    }
}
