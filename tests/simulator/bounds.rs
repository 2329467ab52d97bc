//! Promise 5: what the relay itself says of its queues, held against the limits that it runs with.

use pouch::{
    exchange::Report,
    limits::{self, Limits},
    session::outbound::Outbound,
};

use super::{
    bloc::DESKS,
    checker::{Checker, Promise},
};

/// Stored frames that a desk has unanswered at most.
const STORED_IN_FLIGHT_MAX: u64 = 64;

impl Checker {
    /// How the exchange stands.
    pub fn relay_reports(&mut self, report: &Report, limits: &Limits) {
        let pool_bytes = report.credit_pool_bytes;
        self.must(pool_bytes <= limits.window_pool_bytes, Promise::Bounds, || {
            format!("{pool_bytes} bytes are left of a pool of {}", limits.window_pool_bytes)
        });
        // What desks may have under way, and one administrative act at a time.
        let pending_max = DESKS.len() as u64 * (limits.window_envelopes_max + STORED_IN_FLIGHT_MAX) + 1;
        let pending = report.records_pending as u64;
        self.must(pending <= pending_max, Promise::Bounds, || format!("{pending} records are pending"));
        let sessions = report.sessions.len();
        self.must(sessions <= DESKS.len(), Promise::Bounds, || {
            format!("{sessions} sessions of {} desks", DESKS.len())
        });
        for mailbox in &report.mailboxes {
            let waits: usize = mailbox.waiting.iter().sum();
            self.must(waits <= limits.mailbox_envelopes_max, Promise::Bounds, || {
                format!("{waits} envelopes wait for party {}", mailbox.party)
            });
            if waits == limits.mailbox_envelopes_max {
                self.came("full mailbox");
            }
        }
    }

    /// A frame joins those on their way to a desk.
    pub fn relay_queues(&mut self, desk: usize, frame: &Outbound, queued_bytes: usize, limits: &Limits) {
        let bytes_max = match frame {
            Outbound::Deliver { .. } => limits.connection_queue_bytes_max,
            // Rosters do not count, and with them goes the last word.
            Outbound::Administrative { .. } | Outbound::Welcome(_) | Outbound::Goodbye { .. } => return,
            _ => limits.connection_backlog_bytes_max + limits::FRAME_BYTES_MAX,
        };
        self.must(queued_bytes <= bytes_max, Promise::Bounds, || {
            format!("{queued_bytes} bytes are on their way to {} as one more frame goes", DESKS[desk])
        });
    }
}
