//! How a relay stands, as its admin socket gives it in JSON and `pouch relay status` shows it. Times are
//! RFC 3339 in UTC, parties are roster codes. No content, no subject, no key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::alarms::Alarm;

/// Where the admin socket lies in the relay's folder.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// The relay's SPIFFE ID.
    pub relay: String,
    /// Version of pouch.
    pub version: String,
    /// When it started.
    pub started: String,
    /// Seconds since then.
    pub uptime_s: u64,
    /// What keeps it from serving, in words; empty when it is ready.
    pub not_ready: Vec<String>,
    /// Version of the roster in force, 0 before the first.
    pub roster_version: u32,
    /// Records in the journal.
    pub records: u64,
    /// The relay's own time, by which envelopes are dated.
    pub log_time: String,
    /// How far the wall clock is ahead of it, in seconds; negative when behind.
    pub clock_ahead_s: i64,
    /// Connections, sessions and handshakes that are waiting for a Hello together.
    pub connections: u64,
    /// Open sessions, by party.
    pub sessions: Vec<SessionStatus>,
    /// Mailboxes in which something waits, by party.
    pub mailboxes: Vec<MailboxStatus>,
    /// The journal.
    pub journal: JournalStatus,
    /// The audit log; absent only where a bench leaves it out.
    pub log: Option<LogStatus>,
    /// Handshakes since the start, by how they ended.
    pub handshakes: BTreeMap<String, u64>,
    /// Alarms that stand, each with what to do.
    pub alarms: Vec<Alarm>,
}

/// One open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Whose.
    pub party: String,
    /// Since when.
    pub since: String,
    /// Of its store.
    pub incarnation: u32,
    /// Name and version, as the desk gives them.
    pub software: String,
    /// Serial of its certificate, lower hex.
    pub serial: String,
}

/// What waits for one party.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxStatus {
    /// For whom.
    pub party: String,
    /// Envelopes by precedence.
    pub waiting: BTreeMap<String, u64>,
    /// When the oldest of them was accepted.
    pub oldest: Option<String>,
    /// Receipt records.
    pub receipts: u64,
}

/// How the journal does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Bytes of all files in its folder.
    pub bytes: u64,
    /// Those files, spare segments included.
    pub files: u64,
    /// Batches synced since the start.
    pub syncs: u64,
    /// Milliseconds that the sync under way has taken, where there is one.
    pub busy_ms: Option<u64>,
    /// Records on their way to the disk.
    pub records_pending: u64,
}

/// How the audit log does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Leaves under the newest checkpoint that the relay has signed.
    pub signed: u64,
    /// Leaves under the newest one that a quorum has witnessed; what lies after them is not proven yet.
    pub published: u64,
    /// When that was, at the latest the relay's start; absent before the first.
    pub published_at: Option<String>,
    /// Witnesses that have cosigned the newest signed one.
    pub cosigned_by: Vec<String>,
    /// Witnesses that have not: away, slow, or refusing, which an alarm says.
    pub missing: Vec<String>,
    /// How many must.
    pub quorum: u64,
}
