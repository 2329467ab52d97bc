//! When to try again: full jitter, so that desks do not come back in lockstep after an outage.

use std::time::Duration;

/// Ceiling of the first wait.
const WAIT_MIN: Duration = Duration::from_millis(200);
/// Ceiling of every wait; reached at the eighth failure in a row.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Counts failures in a row. The ceiling of the wait doubles with each.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait before the next attempt: `jitter`, 64 random bits, chooses it between zero and the ceiling.
    pub(super) fn wait(&mut self, jitter: u64) -> Duration {
        let ceiling = WAIT_MIN.saturating_mul(1 << self.failures.min(16)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        let share = u128::from(jitter) * ceiling.as_nanos() / u128::from(u64::MAX);
        Duration::from_nanos(u64::try_from(share).expect("at most the ceiling, which is seconds"))
    }

    /// Forgets the failures: the last session was a good one.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_from_a_fifth_of_a_second_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<u128> = (0..10).map(|_| backoff.wait(u64::MAX).as_millis()).collect();
        assert_eq!(ceilings, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.wait(u64::MAX), WAIT_MIN);
    }

    /// FAULTS 46.
    #[test]
    fn jitter_spreads_the_wait_over_the_whole_time_below_the_ceiling() {
        assert_eq!(Backoff::default().wait(0), Duration::ZERO);
        assert_eq!(Backoff::default().wait(u64::MAX / 2).as_millis(), 99);
        let mut backoff = Backoff::default();
        for _ in 0..1_000 {
            assert!(backoff.wait(u64::MAX) <= WAIT_MAX);
        }
    }
}
