//! Working time: when a span of it is over, by an addressee's hours, holidays and time zone. Arithmetic only.
//!
//! A shift belongs to the day on which it starts, by the local calendar. None starts on a holiday, and one that runs
//! past midnight into a holiday ends there. Where clocks are set forward or back, a shift lasts as long as it really
//! does. Whoever has no hours in the roster works around the clock, but on its holidays.

use std::time::Duration;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, Weekday},
    tz::TimeZone,
};

use crate::{
    limits,
    roster::{Day, Party, Window},
};

/// When somebody works.
#[derive(Clone, Debug)]
pub(super) struct WorkingTime {
    zone: TimeZone,
    /// In the order of their starts on a day.
    windows: Vec<Window>,
    holidays: Vec<Date>,
}

impl WorkingTime {
    /// As the roster has it. A time zone that this machine does not know counts as UTC.
    pub(super) fn of(party: &Party) -> WorkingTime {
        let zone = TimeZone::get(&party.time_zone).unwrap_or_else(|_| {
            tracing::warn!(party = party.code, zone = party.time_zone, "an unknown time zone counts as UTC");
            TimeZone::UTC
        });
        WorkingTime::new(zone, party.working_hours.clone(), party.holidays.clone())
    }

    fn new(zone: TimeZone, mut windows: Vec<Window>, mut holidays: Vec<Date>) -> WorkingTime {
        windows.sort_by_key(|window| window.from);
        holidays.sort();
        WorkingTime { zone, windows, holidays }
    }

    /// When `span` of working time after `start` is over: at the latest [`limits::CLOCK_DAYS_MAX`] days after it, or
    /// at the end of time.
    pub(super) fn due(&self, start: Timestamp, span: Duration) -> Timestamp {
        let latest = later(start, Duration::from_secs(u64::from(limits::CLOCK_DAYS_MAX) * 24 * 3600));
        let first = start.to_zoned_datetime(self.zone.clone()).date();
        let mut left = span;
        // What was counted ends here: shifts may overlap.
        let mut counted = start;
        for ahead in -1..=i32::from(limits::CLOCK_DAYS_MAX) {
            let Ok(day) = first.checked_add(ahead.days()) else { return latest };
            for (from, until) in self.shifts(day) {
                let from = from.max(counted);
                let Ok(length) = Duration::try_from(until.duration_since(from)) else { continue };
                if length >= left {
                    return later(from, left).min(latest);
                }
                left -= length;
                counted = until;
            }
        }
        latest
    }

    /// The shifts that start on a day, in the order of their starts.
    fn shifts(&self, day: Date) -> Vec<(Timestamp, Timestamp)> {
        if self.is_holiday(day) {
            return Vec::new();
        }
        let Ok(next) = day.tomorrow() else { return Vec::new() };
        if self.windows.is_empty() {
            return self.instant(day, None).zip(self.instant(next, None)).into_iter().collect();
        }
        let windows = self.windows.iter().filter(|window| window.days.contains(&day_of(day)));
        let shift = |window: &Window| {
            let until = match (window.until < window.from, self.is_holiday(next)) {
                (false, _) => self.instant(day, Some(window)),
                (true, false) => self.instant(next, Some(window)),
                (true, true) => self.instant(next, None),
            };
            let from = day.to_datetime(window.from).to_zoned_datetime(self.zone.clone()).ok()?;
            Some((from.timestamp(), until?))
        };
        windows.filter_map(shift).collect()
    }

    /// When a window ends if it ends on a day; without one, the day's midnight.
    fn instant(&self, day: Date, until: Option<&Window>) -> Option<Timestamp> {
        let time = until.map(|window| window.until).unwrap_or_default();
        day.to_datetime(time).to_zoned_datetime(self.zone.clone()).ok().map(|at| at.timestamp())
    }

    fn is_holiday(&self, day: Date) -> bool {
        self.holidays.binary_search(&day).is_ok()
    }
}

/// `start` and so much later, or the end of time.
pub(super) fn later(start: Timestamp, span: Duration) -> Timestamp {
    start.saturating_add(span).unwrap_or(Timestamp::MAX)
}

fn day_of(date: Date) -> Day {
    match date.weekday() {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

#[cfg(test)]
mod tests {
    use jiff::{civil::date, civil::time};
    use proptest::prelude::*;

    use super::*;

    const WEEK: [Day; 5] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn window(days: &[Day], from: i8, until: i8) -> Window {
        Window { days: days.to_vec(), from: time(from, 0, 0, 0), until: time(until, 0, 0, 0) }
    }

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3600)
    }

    /// When so many hours are over, by local clocks.
    fn due(working: &WorkingTime, start: &str, span: u64) -> String {
        let start: jiff::civil::DateTime = start.parse().unwrap();
        let start = start.to_zoned_datetime(working.zone.clone()).unwrap().timestamp();
        let due = working.due(start, hours(span)).to_zoned_datetime(working.zone.clone());
        due.strftime("%a %d %b %H:%M").to_string()
    }

    #[test]
    fn six_working_hours_are_over_on_the_day_on_which_an_officer_would_say_so() {
        let office = |holidays: &[Date]| {
            WorkingTime::new(zone("Asia/Jakarta"), vec![window(&WEEK, 8, 16)], holidays.to_vec())
        };
        let usual = office(&[]);
        for (start, expected) in [
            ("2026-11-24 09:00", "Tue 24 Nov 15:00"),
            ("2026-11-24 10:00", "Tue 24 Nov 16:00"), // to the end of the shift, not the next morning
            ("2026-11-24 10:01", "Wed 25 Nov 08:01"),
            ("2026-11-24 03:00", "Tue 24 Nov 14:00"), // before the day begins
            ("2026-11-27 15:00", "Mon 30 Nov 13:00"), // over the weekend
            ("2026-11-28 12:00", "Mon 30 Nov 14:00"),
        ] {
            assert_eq!(due(&usual, start, 6), expected, "{start}");
        }
        let in_a_row: Vec<Date> = (16..=23).map(|day| date(2026, 3, day)).collect();
        let lebaran = office(&in_a_row);
        assert_eq!(due(&lebaran, "2026-03-13 14:00", 6), "Tue 24 Mar 12:00");
    }

    #[test]
    fn a_night_shift_counts_past_midnight_but_not_into_a_holiday() {
        let nights = |holidays: &[Date]| {
            WorkingTime::new(TimeZone::UTC, vec![window(&[Day::Mon, Day::Tue], 22, 6)], holidays.to_vec())
        };
        assert_eq!(due(&nights(&[]), "2026-11-23 23:00", 3), "Tue 24 Nov 02:00");
        assert_eq!(
            due(&nights(&[]), "2026-11-24 01:00", 3),
            "Tue 24 Nov 04:00",
            "in the shift of the day before"
        );
        assert_eq!(due(&nights(&[]), "2026-11-25 05:00", 3), "Tue 01 Dec 00:00");
        let tuesday = nights(&[date(2026, 11, 24)]);
        assert_eq!(due(&tuesday, "2026-11-23 23:00", 3), "Tue 01 Dec 00:00", "one hour, then a week's wait");
    }

    #[test]
    fn a_shift_over_a_change_of_clocks_lasts_as_long_as_it_does() {
        let nights = |name: &str| WorkingTime::new(zone(name), vec![window(&[Day::Sat], 22, 6)], Vec::new());
        let berlin = nights("Europe/Berlin");
        assert_eq!(due(&berlin, "2026-03-28 22:00", 7), "Sun 29 Mar 06:00", "seven hours: one is missing");
        assert_eq!(due(&berlin, "2026-10-24 22:00", 9), "Sun 25 Oct 06:00", "nine hours: one comes twice");
    }

    #[test]
    fn who_has_no_hours_works_around_the_clock_but_on_its_holidays() {
        let always = WorkingTime::new(zone("Asia/Manila"), Vec::new(), Vec::new());
        assert_eq!(due(&always, "2026-11-28 23:00", 6), "Sun 29 Nov 05:00");
        let christmas =
            WorkingTime::new(TimeZone::UTC, Vec::new(), vec![date(2026, 12, 25), date(2026, 12, 26)]);
        assert_eq!(due(&christmas, "2026-12-24 23:00", 3), "Sun 27 Dec 02:00");
    }

    #[test]
    fn absurd_hours_run_out_after_sixty_days_and_overlapping_ones_count_once() {
        let minute = Window { days: vec![Day::Wed], from: time(3, 0, 0, 0), until: time(3, 1, 0, 0) };
        let absurd = WorkingTime::new(TimeZone::UTC, vec![minute], Vec::new());
        assert_eq!(due(&absurd, "2026-11-24 10:15", 6), "Sat 23 Jan 10:15");
        let never = WorkingTime::new(TimeZone::UTC, vec![window(&[], 8, 16)], Vec::new());
        assert_eq!(due(&never, "2026-11-24 10:15", 6), "Sat 23 Jan 10:15");
        let overlapping = vec![window(&WEEK, 12, 16), window(&WEEK, 8, 14), window(&WEEK, 9, 10)];
        let twice = WorkingTime::new(TimeZone::UTC, overlapping, Vec::new());
        assert_eq!(due(&twice, "2026-11-24 08:00", 8), "Tue 24 Nov 16:00");
        assert_eq!(never.due(Timestamp::MAX, hours(6)), Timestamp::MAX);
        assert_eq!(usual_of_a_far_future(), Timestamp::MAX);
    }

    fn usual_of_a_far_future() -> Timestamp {
        let almost = Timestamp::MAX - jiff::SignedDuration::from_hours(30 * 24);
        WorkingTime::new(TimeZone::UTC, vec![window(&[], 8, 16)], Vec::new()).due(almost, hours(6))
    }

    /// Whether a minute is worked, asked of it alone.
    fn works(working: &WorkingTime, at: Timestamp) -> bool {
        let local = at.to_zoned_datetime(working.zone.clone()).date();
        if working.holidays.contains(&local) {
            return false;
        }
        let instant = |day: Date, time| {
            day.to_datetime(time).to_zoned_datetime(working.zone.clone()).unwrap().timestamp()
        };
        let covers = |window: &Window, day: Date| {
            let end = if window.until < window.from { day.tomorrow().unwrap() } else { day };
            window.days.contains(&day_of(day))
                && !working.holidays.contains(&day)
                && instant(day, window.from) <= at
                && at < instant(end, window.until)
        };
        let days = [local.yesterday().unwrap(), local];
        working.windows.is_empty()
            || working.windows.iter().any(|window| days.iter().any(|day| covers(window, *day)))
    }

    /// Minute by minute.
    fn counted(working: &WorkingTime, start: Timestamp, minutes: u64) -> Timestamp {
        let minute = Duration::from_secs(60);
        let latest = later(start, Duration::from_secs(u64::from(limits::CLOCK_DAYS_MAX) * 24 * 3600));
        let (mut at, mut left) = (start, minutes);
        while left > 0 && at < latest {
            left -= u64::from(works(working, at));
            at = later(at, minute);
        }
        at
    }

    fn any_window() -> impl Strategy<Value = Window> {
        let days = proptest::collection::btree_set(0_usize..7, 1..4);
        let all = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];
        // Of every quarter of an hour, so that those in which clocks are changed come too.
        (days, 0_i8..96, 1_i8..96).prop_map(move |(days, from, after)| {
            let quarter = |quarters: i8| time((quarters % 96) / 4, 15 * (quarters % 4), 0, 0);
            let until = (i16::from(from) + i16::from(after)) % 96;
            let until = i8::try_from(until).unwrap();
            Window {
                days: days.into_iter().map(|day| all[day]).collect(),
                from: quarter(from),
                until: quarter(until),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_due_time_is_that_of_a_count_minute_by_minute(
            zone_index in 0_usize..5,
            windows in proptest::collection::vec(any_window(), 0..4),
            holidays in proptest::collection::btree_set(0_i32..12, 0..5),
            start in 0_i64..10 * 1440,
            minutes in 1_u64..900,
            changes in 0_usize..3,
        ) {
            let zone = zone(["UTC", "Asia/Jakarta", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"][zone_index]);
            // Around both changes of clocks, and an ordinary week.
            let first = [date(2026, 3, 24), date(2026, 10, 20), date(2026, 11, 20)][changes];
            let holidays = holidays.into_iter().map(|day| first + day.days()).collect();
            let working = WorkingTime::new(zone, windows, holidays);
            let start = first.to_zoned_datetime(TimeZone::UTC).unwrap().timestamp() + (start * 60).seconds();
            prop_assert_eq!(working.due(start, Duration::from_secs(60 * minutes)), counted(&working, start, minutes));
        }
    }
}
