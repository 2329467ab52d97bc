//! When openings and headers are erased: what is older than `openings_keep` by log time is named by an
//! administrative leaf (FORMATS 8). Once that is durable, the journal acts on it. Leaves and tree stay as they are.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, TryGetError};

use super::Exchange;
use crate::{
    limits::{ERASURE_MARKS_MAX, Limits},
    record::administrative::{Act, Erasure},
    wire::{Malformed, Position},
};

/// What was erased, and where in the log each day began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Erasures {
    // Lasting.
    last: Option<Erasure>,
    /// Beginnings of days by log time, in microseconds, and the first position of each; only of days with records.
    days: VecDeque<(u64, Position)>,
    // Of this process.
    in_line: bool,
}

impl Erasures {
    /// Bytes of a base at most.
    pub(super) const BYTES_MAX: usize = 2 * 8 + 2 + ERASURE_MARKS_MAX * (8 + 8);

    /// Notes that a record of this log time stands here.
    pub(super) fn note(&mut self, log_time_us: u64, position: Position, limits: &Limits) {
        let day_us = micros(limits.erasure_every);
        let day = log_time_us - log_time_us % day_us;
        if self.days.back().is_some_and(|(last, _)| day <= *last) {
            return;
        }
        // What stands before the day that is forgotten is erased with the next one.
        if self.days.len() == ERASURE_MARKS_MAX {
            self.days.pop_front();
        }
        self.days.push_back((day, position));
    }

    /// An operator has accepted a clock that is ahead of log time by so much: nothing is older for it. What is erased by
    /// mistake is lost.
    pub(super) fn jumped(&mut self, ahead_us: u64) {
        self.days.iter_mut().for_each(|(day, _)| *day = day.saturating_add(ahead_us));
    }

    /// The last position whose record, and every one before it, is older than is kept; `None` where it is erased.
    fn due(&self, now_us: u64, limits: &Limits) -> Option<Position> {
        let is_old = |day: u64| day.saturating_add(micros(limits.openings_keep)) <= now_us;
        let (_, end) = self.days.iter().rev().find(|(day, _)| is_old(*day))?;
        let through = Position(end.0.checked_sub(1)?);
        self.last.is_none_or(|last| through > last.through).then_some(through)
    }

    /// Takes in what a leaf says.
    fn take(&mut self, erasure: Erasure) {
        self.in_line = false;
        self.last = Some(erasure);
        self.days.retain(|(_, first)| first.0 > erasure.through.0.saturating_add(1));
    }

    /// `u64 through || u64 position of the leaf that says so || u16 n || n x (u64 log time_us || u64 position)`;
    /// where nothing was erased, the first two are 2^64-1.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let none = Erasure { through: Position::NONE, at: Position::NONE };
        let Erasure { through, at } = self.last.unwrap_or(none);
        out.put_u64(through.0);
        out.put_u64(at.0);
        out.put_u16(u16::try_from(self.days.len()).expect("at most ERASURE_MARKS_MAX"));
        for (day, position) in &self.days {
            out.put_u64(*day);
            out.put_u64(position.0);
        }
    }

    pub(super) fn decode(fields: &mut &[u8]) -> Result<Erasures, Malformed> {
        let short = |_: TryGetError| Malformed::new("erasures in the base", "are cut short");
        let through = Position(fields.try_get_u64().map_err(short)?);
        let at = Position(fields.try_get_u64().map_err(short)?);
        let last = (through != Position::NONE).then_some(Erasure { through, at });
        let count = fields.try_get_u16().map_err(short)?;
        let mut day = || Ok((fields.try_get_u64()?, Position(fields.try_get_u64()?)));
        let days = (0..count).map(|_| day().map_err(short)).collect::<Result<_, _>>()?;
        Ok(Erasures { last, days, in_line: false })
    }
}

impl Exchange {
    /// What the log says is erased: whoever keeps its records finishes that at a start.
    pub fn erasure(&self) -> Option<Erasure> {
        self.erasures.last
    }

    /// Puts the next erasure in line, where one is due; not while the clock is in doubt, by which it would be.
    pub(super) fn erase(&mut self) {
        if self.stopping || self.clock.is_in_doubt() || self.erasures.in_line {
            return;
        }
        if let Some(through) = self.erasures.due(self.clock.time_us(), &self.limits) {
            self.erasures.in_line = true;
            self.administer(Act::Erasures { through });
        }
    }

    /// A leaf that says so is durable: nothing that is kept in memory tells of those records either, but for what
    /// still waits.
    pub(super) fn erased(&mut self, through: Position, at: Position) {
        self.erasures.take(Erasure { through, at });
        self.router.forget_below(Position(through.0.saturating_add(1)));
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
