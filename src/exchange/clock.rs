//! Log time: the relay's one clock for expiry and openings (FORMATS 8).

use std::time::Duration;

use crate::{exchange::Now, limits::Limits};

/// Advances with the monotonic clock, follows a wall clock that is ahead by at most 60 s a minute, waits
/// for one that is behind, and never goes back.
#[derive(Clone, Debug)]
pub struct LogClock {
    time_us: u64,
    mono: Option<Duration>,
}

impl LogClock {
    /// Starts at the log time of the last record, or 0 where there is none.
    pub fn new(last_us: u64) -> LogClock {
        LogClock { time_us: last_us, mono: None }
    }

    /// The time as of the last [`LogClock::advance`], microseconds since 1970.
    pub fn time_us(&self) -> u64 {
        self.time_us
    }

    /// Takes over the time of a replayed record.
    pub fn replay(&mut self, time_us: u64) {
        self.time_us = self.time_us.max(time_us);
    }

    /// Moves on. The first call adopts the wall clock, for the time that the process was not running.
    pub fn advance(&mut self, now: Now, limits: &Limits) {
        let Some(before) = self.mono.replace(now.mono) else {
            self.time_us = self.time_us.max(now.wall_us);
            return;
        };
        let elapsed_us = micros(now.mono.saturating_sub(before));
        let catch_up_us = elapsed_us.saturating_mul(micros(limits.log_time_catch_up_per_minute))
            / micros(Duration::from_secs(60));
        let (low, high) = (self.time_us + elapsed_us / 2, self.time_us + elapsed_us + catch_up_us);
        self.time_us = now.wall_us.clamp(low, high);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: u64 = 86_400_000_000;

    fn now(mono_s: u64, wall_us: u64) -> Now {
        Now { mono: Duration::from_secs(mono_s), wall_us }
    }

    #[test]
    fn a_wall_clock_that_jumps_ahead_is_followed_a_minute_a_minute_and_one_that_jumps_back_is_not() {
        let limits = Limits::DEFAULT;
        let mut clock = LogClock::new(0);
        clock.advance(now(0, DAY_US), &limits);
        assert_eq!(clock.time_us(), DAY_US);
        clock.advance(now(60, 10 * DAY_US), &limits);
        assert_eq!(clock.time_us(), DAY_US + 120_000_000);
        clock.advance(now(61, 0), &limits);
        assert!(clock.time_us() > DAY_US + 120_000_000, "never back");
    }

    #[test]
    fn log_time_never_falls_behind_the_last_record() {
        let mut clock = LogClock::new(5 * DAY_US);
        clock.advance(now(0, DAY_US), &Limits::DEFAULT);
        assert_eq!(clock.time_us(), 5 * DAY_US);
    }
}
