//! Whether the relay lives: bytes come, or are asked for by a ping; without any for too long the session is over.

use std::time::Duration;

use crate::limits::Limits;

/// When the relay was heard last.
#[derive(Debug)]
pub(super) struct Pulse {
    heard: Duration,
    /// The last ping since then.
    pinged: Option<Duration>,
}

impl Pulse {
    /// TLS is up.
    pub(super) fn new(now: Duration) -> Pulse {
        Pulse { heard: now, pinged: None }
    }

    /// Bytes came.
    pub(super) fn heard(&mut self, now: Duration) {
        *self = Pulse::new(now);
    }

    /// When the session is over, unless bytes come before.
    pub(super) fn dead_at(&self, limits: &Limits, is_open: bool) -> Duration {
        self.heard + if is_open { limits.silence_max } else { limits.hello_time_max }
    }

    /// When a ping is due.
    pub(super) fn ping_at(&self, limits: &Limits) -> Duration {
        self.pinged.unwrap_or(self.heard) + limits.ping_every
    }

    /// Whether a ping is due now; it counts as sent then.
    pub(super) fn pings(&mut self, limits: &Limits, now: Duration) -> bool {
        let is_due = now >= self.ping_at(limits);
        if is_due {
            self.pinged = Some(now);
        }
        is_due
    }
}
