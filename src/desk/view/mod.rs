//! What the desk's API takes and gives, as JSON. Times are RFC 3339 in UTC, ids are UUID text, parties
//! are roster codes (`MOD`, `IDN`), hashes are lower hex.

mod evidence;

use serde::{Deserialize, Serialize};

use crate::limits::DISPATCH_BYTES_MAX;

pub use evidence::{BatchShare, Evidence, ProvenEnvelope, ProvenLeaf, ProvenReceipt, ProvenRoster};

/// Bytes of a request's body: the longest dispatch fits, whatever JSON's escapes make of it (at most
/// six bytes for one). A longer one is answered 413 `too-large`.
pub const REQUEST_BYTES_MAX: usize = 6 * DISPATCH_BYTES_MAX;
/// Bytes of an answer's body; a client gives up on a longer one.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of one list. A higher `limit` is answered 400 `usage`.
pub const LIST_MAX: u32 = 500;
/// Seconds of one `?wait=`. A higher `timeout_s` is answered 400 `usage`.
pub const WAIT_S_MAX: u64 = 300;
/// Entries of a list where `limit` is absent.
pub const LIST_DEFAULT: u32 = 100;
/// Seconds of a `?wait=` where `timeout_s` is absent.
pub const WAIT_S_DEFAULT: u64 = 30;

/// A dispatch handed in by a person or a program: `POST /v1/dispatches`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDispatch {
    /// Action addressees, at least one: codes of parties, groups and offices, or `ALL`. The desk expands
    /// them by the roster in force when it seals.
    pub to: Vec<String>,
    /// Information addressees, as `to`. Who is named in both is addressed for action.
    #[serde(default)]
    pub info: Vec<String>,
    /// XMT, as `to`: taken out of what groups and `ALL` become.
    #[serde(default)]
    pub exempt: Vec<String>,
    /// Topic id of the roster.
    pub topic: String,
    /// `routine`, `priority`, `immediate` or `flash`.
    #[serde(default = "routine")]
    pub precedence: String,
    /// Towards `info`; as `precedence` where empty, never above it.
    #[serde(default)]
    pub info_precedence: String,
    /// Label of the roster's policy; its lowest where empty.
    #[serde(default)]
    pub label: String,
    /// `note-verbale`, `aide-memoire`, `circular-note`, `request`, `report`, `check-in`, `contact`, `cancellation`; `report` where empty.
    #[serde(default)]
    pub kind: String,
    /// One line, at most 200 bytes.
    pub subject: String,
    /// UTF-8, at most 200 KiB.
    #[serde(default)]
    pub body: String,
    /// BCP 47 tag, `en` where empty.
    #[serde(default)]
    pub language: String,
    /// Sender's registry number; made by the desk where empty.
    #[serde(default)]
    pub reference: String,
    /// Id (UUID or short) of the dispatch that this one answers.
    #[serde(default)]
    pub in_reply_to: Option<String>,
    /// Whether a person must acknowledge.
    #[serde(default)]
    pub acknowledgement_required: bool,
    /// By when a person must acknowledge, which this asks for; where absent, by precedence. RFC 3339 or a date-time group.
    #[serde(default)]
    pub acknowledgement_due: Option<String>,
    /// When an answer is due, written likewise.
    #[serde(default)]
    pub answer_due: Option<String>,
    /// Seconds from now until it expires; by precedence where absent (routine 30 days, flash 1 day).
    #[serde(default)]
    pub expires_s: Option<u64>,
    /// EXERCISE traffic.
    #[serde(default)]
    pub exercise: bool,
    /// Originator's office and person, free text.
    #[serde(default)]
    pub office: String,
    /// See `office`.
    #[serde(default)]
    pub person: String,
    /// The caller's own key: the same key twice gives the same dispatch back and queues nothing.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

fn routine() -> String {
    "routine".to_owned()
}

/// A dispatch of the outbox: answer to `POST /v1/dispatches`, `GET /v1/outbox`, `GET /v1/outbox/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// UUID v7.
    pub id: String,
    /// Crockford base32, 4 to 6 characters, unique in this desk's register.
    pub short: String,
    /// The sender's registry number.
    pub reference: String,
    /// Date-time group.
    pub dtg: String,
    /// One line.
    pub subject: String,
    /// Topic id.
    pub topic: String,
    /// As in [`NewDispatch`].
    pub precedence: String,
    /// As in [`NewDispatch`].
    pub info_precedence: String,
    /// As in [`NewDispatch`].
    pub label: String,
    /// As in [`NewDispatch`].
    pub exercise: bool,
    /// `queued`, `sealed` (submitted, no answer yet), `accepted`, `refused`.
    pub state: String,
    /// When it entered the outbox.
    pub queued_at: String,
    /// When the relay's Accepted came.
    pub accepted_at: Option<String>,
    /// Its record's position in the log.
    pub position: Option<u64>,
    /// Who has witnessed that the log holds it; absent until that is proven.
    #[serde(default)]
    pub witnessed: Option<Witnessed>,
    /// Its name in the log.
    pub envelope_hash: Option<String>,
    /// Where refused: code and sentence.
    pub refusal: Option<Refusal>,
    /// Whom the writer named, as written, and what that became.
    pub named: Vec<Named>,
    /// One per addressee, TO first; none before the desk holds a roster.
    pub addressees: Vec<AddresseeState>,
    /// Whether the call found the dispatch by its idempotency key.
    #[serde(default)]
    pub duplicate: bool,
}

/// A step of a dispatch's life that a sender may wait for: `?wait=` of `GET /v1/outbox/{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The relay holds it durably.
    Accepted,
    /// It is durable and opened at every addressee.
    Delivered,
    /// A person read it at every TO addressee.
    Read,
    /// A person acknowledged it at every TO addressee.
    Ack,
}

/// Whether a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has.
    Reached,
    /// It may still come.
    Waiting,
    /// It cannot: the relay refused the dispatch, or an addressee set it aside or let it expire.
    Never,
}

impl Outgoing {
    /// How this dispatch stands to `step`.
    pub fn progress(&self, step: Step) -> Progress {
        let counts = |addressee: &&AddresseeState| match step {
            Step::Accepted => false,
            Step::Delivered => true,
            Step::Read | Step::Ack => addressee.role == "to",
        };
        let came = |addressee: &AddresseeState| match step {
            Step::Accepted => true,
            Step::Delivered => addressee.delivered_at.is_some(),
            Step::Read => addressee.read_at.is_some(),
            Step::Ack => addressee.acknowledged_at.is_some(),
        };
        let mut waited_for = self.addressees.iter().filter(counts);
        if self.state == "refused" {
            Progress::Never
        } else if self.state != "accepted" {
            Progress::Waiting
        } else if waited_for.clone().any(|addressee| addressee.is_lost()) {
            Progress::Never
        } else if waited_for.all(came) {
            Progress::Reached
        } else {
            Progress::Waiting
        }
    }
}

/// How many witnesses have cosigned the checkpoint under which something is proven to be in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witnessed {
    /// Witnesses that have.
    pub by: u32,
    /// Witnesses in the roster then; 0 where it had none yet.
    pub of: u32,
}

impl Witnessed {
    /// In words, for what may be witnessed or not.
    pub fn words(witnessed: Option<Witnessed>) -> String {
        match witnessed {
            None => "not yet witnessed".to_owned(),
            Some(Witnessed { of: 0, .. }) => "no witness yet".to_owned(),
            Some(Witnessed { by, of }) => format!("witnessed by {by} of {of}"),
        }
    }
}

/// One code that the writer of a dispatch named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// As written, in capitals.
    pub code: String,
    /// `to`, `info` or `exempt`.
    pub role: String,
    /// Parties that it stands for, by the roster that the dispatch was addressed by; absent before.
    pub parties: Option<u32>,
    /// Members that get nothing because they are suspended or revoked.
    pub left_out: Vec<String>,
}

/// How far an outgoing dispatch came at one addressee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddresseeState {
    /// Roster code.
    pub code: String,
    /// `to` or `info`.
    pub role: String,
    /// The last step that is known: `waiting` (not accepted yet), `accepted`, `delivered`, `read`, `acknowledged`, `answered`;
    /// or how it ended without: `set aside`, `expired`.
    pub state: String,
    /// Who has witnessed the receipt of that step, or Accepted; absent until that is proven.
    #[serde(default)]
    pub witnessed: Option<Witnessed>,
    /// When the relay's Accepted came.
    pub accepted_at: Option<String>,
    /// Times from the addressee's own signed receipts.
    pub delivered_at: Option<String>,
    /// See `delivered_at`.
    pub set_aside_at: Option<String>,
    /// Reason of the set-aside receipt.
    pub set_aside_reason: Option<String>,
    /// When it expired at the relay, which this desk had not fetched it from in time; by the relay's signed word.
    pub expired_at: Option<String>,
    /// See `delivered_at`.
    pub read_at: Option<String>,
    /// See `delivered_at`.
    pub acknowledged_at: Option<String>,
    /// Who acknowledged, with a remark; a peer's text.
    pub remark: Option<String>,
    /// When its answer came here.
    pub answered_at: Option<String>,
    /// What is still awaited of it, due first; absent where nothing is.
    pub awaited: Option<Awaited>,
}

/// What must have come, or been done, by a certain time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// `delivery`, `acknowledgement` or `answer`.
    pub step: String,
    /// By when: by precedence and `[clocks]`, or as the dispatch says of its acknowledgement or its answer.
    pub due_at: String,
    /// Whether that time is past. It is looked for at least every 10 seconds.
    pub overdue: bool,
}

impl AddresseeState {
    /// Whether it will never be delivered as it is: set aside, or expired.
    pub fn is_lost(&self) -> bool {
        self.delivered_at.is_none() && (self.set_aside_at.is_some() || self.expired_at.is_some())
    }
}

/// Why the relay refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// `ROSTER_STALE`, `TOPIC`, ...
    pub code: String,
    /// Plain words.
    pub sentence: String,
}

/// A dispatch of the inbox, as a list shows it: `GET /v1/dispatches`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// The receiver's own number, gap-free from 1.
    pub register: u64,
    /// UUID v7 given by the sender.
    pub id: String,
    /// Crockford base32, 4 to 6 characters, unique in this desk's register.
    pub short: String,
    /// Sender's code.
    pub from: String,
    /// `to` or `info`: how this desk was addressed.
    pub role: String,
    /// The sender's registry number; a peer's text, as are `dtg` and `subject`.
    pub reference: String,
    /// Date-time group.
    pub dtg: String,
    /// One line.
    pub subject: String,
    /// Topic id.
    pub topic: String,
    /// As in [`NewDispatch`].
    pub precedence: String,
    /// As in [`NewDispatch`].
    pub label: String,
    /// As in [`NewDispatch`].
    pub kind: String,
    /// As in [`NewDispatch`].
    pub exercise: bool,
    /// As in [`NewDispatch`].
    pub acknowledgement_required: bool,
    /// When it became durable here.
    pub received_at: String,
    /// When a person here first read it.
    pub read_at: Option<String>,
    /// When a person here acknowledged it.
    pub acknowledged_at: Option<String>,
    /// Whether it was set aside instead of opened, and why.
    pub set_aside: Option<String>,
    /// The acknowledgement or the answer that this desk owes, whichever is due first; absent where it owes none, or none
    /// by a certain time.
    pub awaited: Option<Awaited>,
    /// Notices about its stream: a gap before it, a new epoch; for a person.
    pub notices: Vec<String>,
    /// Its record's position in the log.
    pub position: u64,
    /// Who has witnessed that the log holds it; absent until that is proven.
    #[serde(default)]
    pub witnessed: Option<Witnessed>,
    /// Its name in the log.
    pub envelope_hash: String,
}

/// A whole dispatch: `GET /v1/dispatches/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncomingWhole {
    /// As in the list.
    #[serde(flatten)]
    pub summary: Incoming,
    /// All addressees, TO first.
    pub addressees: Vec<(String, String)>,
    /// XMT: members of a group that the sender left out.
    pub exempt: Vec<String>,
    /// Originator's office and person; a peer's text.
    pub office: String,
    /// See `office`.
    pub person: String,
    /// BCP 47 tag.
    pub language: String,
    /// UUID of what it answers.
    pub in_reply_to: Option<String>,
    /// By when a person must acknowledge; absent where that goes by precedence.
    #[serde(default)]
    pub acknowledgement_due: Option<String>,
    /// When an answer is due.
    pub answer_due: Option<String>,
    /// A peer's text.
    pub body: String,
}

/// Filters of the inbox list; all are optional and narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboxFilter {
    /// Only register numbers above this one.
    pub after: Option<u64>,
    /// Only this topic.
    pub topic: Option<String>,
    /// Only what asks for acknowledgement and has none.
    pub unacked: Option<bool>,
    /// At most so many, 1 to 500; 100 where absent.
    pub limit: Option<u32>,
    /// Where nothing fits, wait for so many seconds, 1 to 300, until something does.
    pub wait_s: Option<u64>,
}

/// `POST /v1/dispatches/{id}/read` and `/acknowledge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Who reads or acknowledges, free text, at most 200 bytes.
    #[serde(default)]
    pub who: String,
    /// At most 3 KiB.
    #[serde(default)]
    pub remark: String,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `mission` or `hub`.
    pub daemon: String,
    /// Own code.
    pub code: String,
    /// Trust domain.
    pub trust_domain: String,
    /// `connecting`, `in contact`, `offline`.
    pub link: String,
    /// Why the link is not in contact, in plain words with what to do.
    pub link_reason: Option<String>,
    /// Relay address in use or tried last.
    pub relay: String,
    /// Since when the link is as it is.
    pub since: String,
    /// Last time anything was heard from the relay.
    pub last_contact: Option<String>,
    /// Roster version held.
    pub roster_version: u32,
    /// Outbox dispatches not yet accepted.
    pub queued: u64,
    /// Outbox dispatches accepted but not delivered to every addressee.
    pub undelivered: u64,
    /// `queued`, by precedence.
    pub waiting: Waiting,
    /// When the oldest dispatch that waits for the relay was handed in.
    pub oldest_queued_at: Option<String>,
    /// When the oldest dispatch that is not delivered to every addressee was accepted.
    pub oldest_undelivered_at: Option<String>,
    /// Refused.
    pub refused: u64,
    /// Inbox dispatches in all, and those unread, and those with an acknowledgement owed.
    pub inbox: u64,
    /// See `inbox`.
    pub unread: u64,
    /// See `inbox`.
    pub unacknowledged: u64,
    /// Set aside instead of opened.
    pub set_aside: u64,
    /// What is overdue.
    pub overdue: Overdue,
    /// Records that the relay told of and that are not proven to be in the audit log yet.
    #[serde(default)]
    pub proofs_owed: u64,
    /// Leaves of the audit log that this desk has verified.
    #[serde(default)]
    pub log_verified: u64,
    /// Receipts made here that the relay has not yet logged.
    pub receipts_waiting: u64,
    /// Orders that stand, in words: MINIMIZE, suspended parties.
    pub orders: Vec<String>,
    /// Alarms that nobody has taken, and what is wrong now, newest last; each says what to do.
    pub alarms: Vec<String>,
    /// Version of pouch.
    pub version: String,
}

/// The trust bundle that names the roster in force: `GET /v1/trust`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The version that it names.
    pub roster_version: u32,
    /// The bundle, TOML as `trust.toml`.
    pub bundle: String,
}

/// How much is overdue, by what is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// Addressees that a dispatch has not reached in time, or that have not acknowledged it by its precedence.
    pub addressees: u64,
    /// Addressees that have not acknowledged by the time that a dispatch names.
    #[serde(default)]
    pub acknowledgements: u64,
    /// Answers that addressees owe this desk.
    pub answers: u64,
    /// Acknowledgements that this desk owes.
    pub acknowledgements_owed: u64,
    /// Answers that this desk owes.
    pub answers_owed: u64,
}

/// An alarm that the desk keeps: `GET /v1/alarms`, `POST /v1/alarms/{key}/take` and `/close`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// What it is about; raised again, it replaces the one before.
    pub key: String,
    /// When it was raised last.
    pub at: String,
    /// Plain words that end with what to do.
    pub sentence: String,
    /// Since when somebody looks after it.
    pub taken_at: Option<String>,
    /// Who does.
    pub taken_by: String,
    /// Since when it is over.
    pub closed_at: Option<String>,
    /// Who said so; empty where its cause ended by itself.
    pub closed_by: String,
    /// What an alarm about the audit log rests on: the first eight, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<LogEvidence>,
}

/// What was shown that does not fit the audit log. Bytes are in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEvidence {
    /// When it came.
    pub at: String,
    /// What was said of it then.
    pub sentence: String,
    /// As it came: a checkpoint, a request to cosign one (tlog-witness), a header, or the item of a receipt.
    pub shown: String,
    /// Its author's share of a batch signature, where the signature is not in what was shown.
    pub proof: String,
    /// The newest checkpoint that this desk had verified by then.
    pub held: String,
}

/// Dispatches that wait in the outbox for the relay, by precedence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// See the type.
    pub flash: u64,
    /// See the type.
    pub immediate: u64,
    /// See the type.
    pub priority: u64,
    /// See the type.
    pub routine: u64,
}

/// Query of `GET /v1/outbox/{id}`: with `wait`, the answer comes when the dispatch has reached that
/// step, never can, or after `timeout_s` seconds (1 to 300; 30 where absent), whichever is first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxWait {
    /// The step to wait for.
    pub wait: Option<Step>,
    /// For how long.
    pub timeout_s: Option<u64>,
}

/// Query of `GET /v1/outbox`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxFilter {
    /// The newest so many, newest first, 1 to 500; 100 where absent.
    pub limit: Option<u32>,
}

/// Every error of the API, with an HTTP status of 400, 403, 404, 409, 413, 500, 503 or 504.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// `usage`, `unknown-addressee`, `not-permitted`, `not-found`, `not-proven`, `too-large`, `full`,
    /// `no-contact`, `declined`, `unanswered`, `internal`.
    pub code: String,
    /// Plain words that end with what to do.
    pub sentence: String,
}

/// An order to be given: `POST /v1/orders`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    /// `suspend`, `lift`, `minimize` or `erase`.
    pub kind: String,
    /// Code of the mission to suspend or lift.
    #[serde(default)]
    pub party: String,
    /// Until when to suspend or minimize, RFC 3339 or a date-time group; to suspend until lifted, empty. A
    /// time that is past ends MINIMIZE.
    #[serde(default)]
    pub until: String,
    /// Position of the record to erase.
    #[serde(default)]
    pub position: Option<u64>,
}

/// What was put in force: answer of `POST /v1/orders` and `POST /v1/roster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Where its record stands in the log; absent where the very same was in force before.
    pub position: Option<u64>,
    /// The order's number; absent for a roster.
    pub number: Option<u32>,
}

/// Where a cursor stands: answer of `GET /v1/cursors/{name}`, and of its `take` and `commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Everything up to this register number has been taken.
    pub register: u64,
}

/// Body of `POST /v1/cursors/{name}/commit`. While a reader has taken the cursor, only it may commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Everything up to this register number has been taken.
    pub register: u64,
    /// As in [`TakeCursor`]; empty for whoever has not taken the cursor.
    #[serde(default)]
    pub reader: String,
}

/// Body of `POST /v1/cursors/{name}/take`: of two readers of one cursor, one gets it, and the other 409 `taken`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeCursor {
    /// What the reader calls itself, other than any other: one line of 1 to 128 bytes.
    pub reader: String,
    /// For how many seconds, at most 600; 0 gives it back. Ask again before they are over; a desk that starts forgets.
    pub lease_s: u64,
}
