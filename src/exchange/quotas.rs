//! What parties use of their quotas, by log time. Of this process: a restart forgets it, which no party can
//! bring about.

use std::{collections::VecDeque, time::Duration};

use super::{Exchange, files};
use crate::{
    roster::{Party, PartyNumber},
    wire::{Precedence, envelope::Core, receipt::VerifiedReceipts},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What one party used.
#[derive(Debug)]
pub(super) struct Usage {
    envelopes: Window,
    flashes: Window,
    bytes: Window,
    /// Envelopes named by receipts that settle nothing, or nothing any more.
    marks: Window,
    /// Files of the audit log, by this process's clock.
    pub(super) files: files::Turns,
}

impl Default for Usage {
    fn default() -> Usage {
        Usage {
            envelopes: Window::new(MINUTE),
            flashes: Window::new(HOUR),
            bytes: Window::new(HOUR),
            marks: Window::new(MINUTE),
            files: files::Turns::default(),
        }
    }
}

/// Slots that a window's time is cut into.
const SLOTS: u64 = 60;

/// Amounts used within a time, in slots of a 60th of it: any stretch of that time lies within what is counted,
/// so that no bound is passed at a border between two windows. At most 61 slots.
#[derive(Debug)]
struct Window {
    slot_us: u64,
    slots: VecDeque<(u64, u64)>,
}

impl Window {
    fn new(time: Duration) -> Window {
        let slot_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX) / SLOTS;
        Window { slot_us, slots: VecDeque::new() }
    }

    fn used(&self, now_us: u64) -> u64 {
        let slot = now_us / self.slot_us;
        let counted = self.slots.iter().filter(|(at, _)| at + SLOTS >= slot);
        counted.map(|(_, amount)| amount).fold(0, |sum, amount| sum.saturating_add(*amount))
    }

    fn add(&mut self, now_us: u64, amount: u64) {
        let slot = now_us / self.slot_us;
        while self.slots.front().is_some_and(|(at, _)| at + SLOTS < slot) {
            self.slots.pop_front();
        }
        match self.slots.back_mut() {
            Some((at, used)) if *at == slot => *used = used.saturating_add(amount),
            _ => self.slots.push_back((slot, amount)),
        }
    }
}

impl Exchange {
    /// Whether one more envelope, of so many bytes, is within its sender's quotas.
    pub(super) fn is_within_quotas(&self, sender: &Party, core: &Core, bytes: u64) -> bool {
        let quotas = &sender.quotas;
        let Some(usage) = self.usage.get(&sender.number) else {
            return quotas.envelopes_per_minute != Some(0)
                && (core.precedence_action != Precedence::Flash || quotas.flash_per_hour != Some(0))
                && quotas.bytes_per_hour.is_none_or(|most| bytes <= most);
        };
        let now_us = self.clock.time_us();
        let fits = |window: &Window, more: u64, most: Option<u64>| {
            most.is_none_or(|most| window.used(now_us).saturating_add(more) <= most)
        };
        let flashes = u64::from(core.precedence_action == Precedence::Flash);
        fits(&usage.envelopes, 1, quotas.envelopes_per_minute.map(u64::from))
            && (flashes == 0 || fits(&usage.flashes, flashes, quotas.flash_per_hour.map(u64::from)))
            && fits(&usage.bytes, bytes, quotas.bytes_per_hour)
    }

    /// Counts an envelope that is accepted, where its sender has quotas at all.
    pub(super) fn use_quotas(&mut self, sender: PartyNumber, precedence: Precedence, bytes: u64) {
        let party = self.roster.as_ref().and_then(|roster| roster.party(sender));
        if party.is_none_or(|party| party.quotas.is_unlimited()) {
            return;
        }
        let now_us = self.clock.time_us();
        let usage = self.usage.entry(sender).or_default();
        usage.envelopes.add(now_us, 1);
        usage.bytes.add(now_us, bytes);
        if precedence == Precedence::Flash {
            usage.flashes.add(now_us, 1);
        }
    }

    /// Counts what receipts say beyond settling: nothing but a rate bounds how often a desk may say it. False
    /// where that is reached, and then nothing is counted.
    pub(super) fn may_mark(&mut self, party: PartyNumber, receipts: &VerifiedReceipts) -> bool {
        let parts = receipts.batch().parts.iter();
        let marks = parts.filter(|part| !self.router.settles(party, &part.item));
        let marks = marks.map(|part| part.item.envelopes.len() as u64);
        let marks: u64 = marks.sum();
        if marks == 0 {
            return true;
        }
        let (now_us, most) = (self.clock.time_us(), self.limits.marks_per_minute_max);
        let window = &mut self.usage.entry(party).or_default().marks;
        // One frame alone always passes, or a desk that holds it could never go on.
        let used = window.used(now_us);
        let passes = used == 0 || used.saturating_add(marks) <= most;
        if passes {
            window.add(now_us, marks);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn no_minute_holds_more_than_was_counted_wherever_it_begins() {
        let mut window = Window::new(MINUTE);
        window.add(59 * SECOND_US + 999_999, 5);
        assert_eq!(window.used(60 * SECOND_US), 5, "across the border of a minute");
        assert_eq!(window.used(119 * SECOND_US), 5);
        assert_eq!(window.used(120 * SECOND_US), 0);
        window.add(130 * SECOND_US, 1);
        window.add(130 * SECOND_US, 2);
        assert_eq!((window.used(130 * SECOND_US), window.slots.len()), (3, 1), "what is past is forgotten");
    }

    #[test]
    fn a_window_keeps_at_most_61_slots() {
        let mut window = Window::new(MINUTE);
        for second in 0..1_000 {
            window.add(second * SECOND_US, 1);
        }
        assert_eq!((window.slots.len(), window.used(999 * SECOND_US)), (61, 61));
    }
}
