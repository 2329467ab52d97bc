//! Log time: the relay's one clock for expiry and openings (FORMATS 8).

use std::time::Duration;

use crate::{exchange::Now, limits::Limits};

/// A clock that differs by more is named to the operator, and by how much one may be behind the last record
/// at start without being in doubt: ordinary corrections stay below it.
const DIFFERENCE_MAX: Duration = Duration::from_secs(60);
/// A clock that is further ahead is in doubt (FORMATS 8).
const AHEAD_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How the machine's clock stands to log time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Within a minute.
    Good,
    /// Further away; log time makes up for it slowly.
    Off,
    /// So far away that nothing expires until an operator has accepted it.
    InDoubt,
}

/// Advances with the monotonic clock, follows a wall clock that is ahead by at most 60 s a minute, waits
/// for one that is behind, and never goes back. While the wall clock is in doubt it is not followed at all.
#[derive(Clone, Debug)]
pub struct LogClock {
    time_us: u64,
    mono: Option<Duration>,
    is_in_doubt: bool,
    /// The wall clock that an operator accepted last, or 0.
    accepted_us: u64,
}

impl LogClock {
    /// Starts at the log time of the last record, or 0 where there is none.
    pub fn new(last_us: u64) -> LogClock {
        LogClock { time_us: last_us, mono: None, is_in_doubt: false, accepted_us: 0 }
    }

    /// The time as of the last [`LogClock::advance`], microseconds since 1970.
    pub fn time_us(&self) -> u64 {
        self.time_us
    }

    /// Whether an operator has to look at the machine's clock.
    pub fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// The wall clock that an operator accepted last, or 0: lasting state.
    pub fn accepted_us(&self) -> u64 {
        self.accepted_us
    }

    /// Takes over the time of a replayed record.
    pub fn replay(&mut self, time_us: u64) {
        self.time_us = self.time_us.max(time_us);
    }

    /// Takes over what an operator accepted.
    pub fn accept(&mut self, wall_us: u64) {
        self.accepted_us = wall_us;
        self.time_us = self.time_us.max(wall_us);
        self.is_in_doubt = false;
    }

    /// The monotonic time of the last input.
    pub fn mono(&self) -> Duration {
        self.mono.unwrap_or_default()
    }

    /// Moves on. The first call adopts the wall clock, for the time that the process was not running, unless
    /// that is in doubt: before the last record and what an operator accepted, or too far ahead.
    pub fn advance(&mut self, now: Now, limits: &Limits) {
        let is_first = self.time_us == 0;
        let before = self.mono.replace(now.mono);
        let is_behind = |than_us: u64| now.wall_us.saturating_add(micros(DIFFERENCE_MAX)) < than_us;
        if before.is_none() {
            // Where a clock behind the log was accepted, what was accepted counts in the place of the log.
            let least_us = if self.accepted_us == 0 { self.time_us } else { self.accepted_us };
            self.is_in_doubt = is_behind(self.time_us.min(least_us));
        }
        self.is_in_doubt |= !is_first && now.wall_us > self.time_us.saturating_add(micros(AHEAD_MAX));
        let elapsed_us = micros(before.map_or(Duration::ZERO, |before| now.mono.saturating_sub(before)));
        if self.is_in_doubt {
            self.time_us = self.time_us.saturating_add(elapsed_us);
        } else if before.is_none() {
            self.time_us = self.time_us.max(now.wall_us);
        } else {
            let catch_up_us = elapsed_us.saturating_mul(micros(limits.log_time_catch_up_per_minute))
                / micros(Duration::from_secs(60));
            let (low, high) = (self.time_us + elapsed_us / 2, self.time_us + elapsed_us + catch_up_us);
            self.time_us = now.wall_us.clamp(low, high);
        }
    }

    /// How the machine's clock stands.
    pub fn standing(&self, now: Now) -> Standing {
        if self.is_in_doubt {
            Standing::InDoubt
        } else if now.wall_us.abs_diff(self.time_us) > micros(DIFFERENCE_MAX) {
            Standing::Off
        } else {
            Standing::Good
        }
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

    fn started(last_us: u64, wall_us: u64) -> LogClock {
        let mut clock = LogClock::new(last_us);
        clock.advance(now(0, wall_us), &Limits::DEFAULT);
        clock
    }

    #[test]
    fn a_clock_before_the_last_record_or_thirty_days_after_it_is_in_doubt_and_not_followed() {
        const LAST: u64 = 100 * DAY_US;
        for (wall_us, doubted) in [
            (LAST - 61_000_000, true),
            (LAST - 60_000_000, false),
            (LAST + 30 * DAY_US, false),
            (LAST + 30 * DAY_US + 1, true),
            (LAST + 3_650 * DAY_US, true),
        ] {
            let mut clock = started(LAST, wall_us);
            assert_eq!(clock.is_in_doubt(), doubted, "{wall_us}");
            clock.advance(now(60, wall_us + 60_000_000), &Limits::DEFAULT);
            let expected = if doubted { LAST + 60_000_000 } else { clock.time_us() };
            assert_eq!(clock.time_us(), expected, "it only counts on");
        }
        assert!(!started(0, 5).is_in_doubt(), "a journal without records has no opinion");
    }

    #[test]
    fn an_accepted_clock_is_adopted_and_stays_accepted_at_the_next_start() {
        const LAST: u64 = 100 * DAY_US;
        let mut ahead = started(LAST, 500 * DAY_US);
        ahead.accept(500 * DAY_US);
        assert_eq!((ahead.is_in_doubt(), ahead.time_us()), (false, 500 * DAY_US));
        for (wall_us, doubted) in [(90 * DAY_US + 9, false), (89 * DAY_US, true)] {
            let mut behind = LogClock::new(LAST);
            behind.accept(90 * DAY_US);
            behind.advance(now(0, wall_us), &Limits::DEFAULT);
            assert_eq!(behind.is_in_doubt(), doubted);
            assert_eq!(behind.time_us(), LAST, "never back");
        }
    }

    #[test]
    fn a_clock_that_jumps_years_ahead_while_running_is_in_doubt() {
        let mut clock = started(0, DAY_US);
        clock.advance(now(1, DAY_US + 1_000_000), &Limits::DEFAULT);
        assert_eq!(clock.standing(now(1, DAY_US + 1_000_000)), Standing::Good);
        assert_eq!(clock.standing(now(1, 2 * DAY_US)), Standing::Off);
        clock.advance(now(2, 3_650 * DAY_US), &Limits::DEFAULT);
        assert_eq!(clock.standing(now(2, 3_650 * DAY_US)), Standing::InDoubt);
        assert_eq!(clock.time_us(), DAY_US + 2_000_000);
    }
}
