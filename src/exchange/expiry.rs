//! What still waits when its time is over is taken out of the mailboxes, as a record, with receipts for both
//! sides. Nothing expires while the clock is in doubt.

use std::time::Duration;

use super::{Exchange, Notice, Now};
use crate::{
    record::{administrative::Act, content::Content, expiry::ExpiredEnvelope, leaf::OpeningKind},
    wire::Position,
};

/// Envelopes that expire at once; more wait for [`EXPIRY_PAUSE`]. Within the salts kept for any input.
const EXPIRIES_AT_ONCE: usize = 32;
/// Between two lots of envelopes that expire.
const EXPIRY_PAUSE: Duration = Duration::from_millis(20);
/// Expiry records being written. Reached: the rest waits until some are durable.
const EXPIRIES_IN_FLIGHT_MAX: usize = 256;

impl Exchange {
    /// Whether the machine's clock is in doubt: then nothing expires until an operator has accepted it.
    pub fn is_clock_in_doubt(&self) -> bool {
        self.clock.is_in_doubt()
    }

    /// The operator says that the machine's clock is right.
    pub(super) fn accept_clock(&mut self, now: Now) {
        if self.clock.is_in_doubt() {
            self.administer(Act::ClockAccepted { wall_us: now.wall_us });
        }
    }

    /// Says once how the machine's clock stands, each time that this changes.
    pub(super) fn watch_clock(&mut self, now: Now) {
        let standing = self.clock.standing(now);
        if standing != self.clock_told {
            self.clock_told = standing;
            let ahead_s = i128::from(now.wall_us) - i128::from(self.clock.time_us());
            let ahead_s = i64::try_from(ahead_s / 1_000_000).unwrap_or(i64::MAX);
            self.notice(Notice::Clock { ahead_s, standing });
        }
    }

    /// Takes out what is past its time, some at once; what its addressees settle meanwhile stays settled.
    pub(super) fn expire(&mut self, now: Now) {
        if self.stopping || self.clock.is_in_doubt() {
            return;
        }
        let room = EXPIRIES_IN_FLIGHT_MAX.saturating_sub(self.expiring.len());
        let most = EXPIRIES_AT_ONCE.min(room).min(self.salts.len());
        let due = self.router.expired(self.now_s()).filter(|position| !self.expiring.contains(position));
        let due: Vec<Position> = due.take(most).collect();
        let is_all = due.len() < most;
        for position in due {
            self.expire_one(position);
        }
        if !is_all {
            self.next_tick = now.mono + EXPIRY_PAUSE;
        }
    }

    fn expire_one(&mut self, position: Position) {
        let relay = self.roster.as_ref().and_then(|roster| roster.relay()).map(|relay| relay.number);
        // A roster without an active relay: nobody could verify its word.
        let (Some(held), Some(relay)) = (self.router.held(position), relay) else { return };
        let (hash, sender) = (held.hash, held.sender);
        let unsettled = held.addressees.iter().filter(|waiting| !waiting.settled);
        let addressees = unsettled.map(|waiting| (waiting.party, waiting.precedence)).collect();
        let traffic = self.traffic(OpeningKind::Expiry, hash.0);
        let expired = ExpiredEnvelope { traffic, position, relay, sender, addressees };
        self.expiring.insert(position);
        self.append(Content::Expired(expired), false, Vec::new());
    }
}
