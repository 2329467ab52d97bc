//! How the exchange stands, for an operator: sessions, mailboxes, clock. No content, subject or key.

use std::time::Duration;

use super::{ConnId, Exchange, Now, Stage};
use crate::{
    roster::PartyNumber,
    wire::{Position, Precedence},
};

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Log time, microseconds since 1970.
    pub log_time_us: u64,
    /// Version of the roster in force; 0 before the first.
    pub roster_version: u32,
    /// Records that are durable.
    pub records: u64,
    /// Records on their way to the disk.
    pub records_pending: usize,
    /// Bytes that are left of the credit that all sessions share.
    pub credit_pool_bytes: u64,
    /// Open sessions, by party.
    pub sessions: Vec<SessionReport>,
    /// Mailboxes in which something waits, by party.
    pub mailboxes: Vec<MailboxReport>,
    /// The audit log, where an edge keeps one.
    pub log: Option<LogReport>,
}

/// How far checkpoints of the audit log have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// Leaves under the newest one that is signed; 0 before the first.
    pub signed: u64,
    /// Leaves under the newest one that a quorum has witnessed, and how long ago that was; where it was before the start,
    /// since the start.
    pub published: Option<(u64, Duration)>,
    /// Witnesses that have cosigned the newest signed one.
    pub cosigned_by: Vec<PartyNumber>,
    /// Those that count for it as well, and have not.
    pub missing: Vec<PartyNumber>,
    /// How many must.
    pub quorum: usize,
}

/// One open session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// Its connection.
    pub conn: ConnId,
    /// Whose.
    pub party: PartyNumber,
    /// How long since its Hello.
    pub open_for: Duration,
    /// The store's, as the log has it.
    pub incarnation: u32,
    /// Name and version by Hello, at most 64 bytes of the peer's choice.
    pub software: String,
    /// The certificate's, lower hex.
    pub serial: String,
}

/// What waits for one party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxReport {
    /// For whom.
    pub party: PartyNumber,
    /// Envelopes not settled, in the order of [`Precedence::HIGHEST_FIRST`].
    pub waiting: [usize; 4],
    /// Log time of the oldest of them, where there is one.
    pub oldest_us: Option<u64>,
    /// Receipt records not confirmed.
    pub receipts: usize,
}

impl Exchange {
    /// Walks sessions and mailboxes: for now and then, not for every input.
    pub fn report(&self, now: Now) -> Report {
        Report {
            log_time_us: self.clock.time_us(),
            roster_version: self.roster.as_ref().map_or(0, |roster| roster.version()),
            records: self.tree.size(),
            records_pending: self.pending.len(),
            credit_pool_bytes: self.pool_bytes,
            sessions: self.by_party.values().filter_map(|conn| self.session_report(*conn, now)).collect(),
            mailboxes: self.mailbox_reports(),
            log: self.checkpoints.report(now),
        }
    }

    fn session_report(&self, conn: ConnId, now: Now) -> Option<SessionReport> {
        let session = self.sessions.get(&conn).filter(|session| session.stage == Stage::Open)?;
        Some(SessionReport {
            conn,
            party: session.party,
            open_for: now.mono.saturating_sub(session.since),
            incarnation: self.router.known(session.party).map_or(0, |state| state.incarnation),
            software: session.software.clone(),
            serial: session.serial.clone(),
        })
    }

    fn mailbox_reports(&self) -> Vec<MailboxReport> {
        let parties = self.router.parties().map(|(party, state)| {
            let mailbox = &state.mailbox;
            let oldest = mailbox.oldest().and_then(|position: Position| self.router.held(position));
            MailboxReport {
                party,
                waiting: Precedence::HIGHEST_FIRST.map(|precedence| mailbox.unsettled(precedence)),
                oldest_us: oldest.map(|held| held.traffic.opening.log_time_us),
                receipts: mailbox.receipts_unconfirmed(),
            }
        });
        parties.filter(|report| report.oldest_us.is_some() || report.receipts > 0).collect()
    }
}
