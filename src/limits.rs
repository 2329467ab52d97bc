//! The bounds that formats and several modules share: unit, source, and what happens when each is reached.
//! A bound of one module alone stands in that module.
//!
//! Bounds that a simulator wants to shrink are fields of [`Limits`]; bounds that are part of a
//! format are constants, because changing one changes the format.

use std::time::Duration;

/// Bytes of a SHA-256 hash.
pub const HASH_BYTES: usize = 32;
/// Items under one batch signature (FORMATS 2). A larger batch is malformed.
pub const BATCH_ITEMS_MAX: usize = 64;
/// Addressees of one envelope (FORMATS 5). More: the desk refuses to seal, the relay to parse.
pub const ADDRESSEES_MAX: usize = 128;
/// Attachments named by one envelope (FORMATS 5). More: refused as malformed.
pub const ATTACHMENTS_MAX: usize = 16;
/// Envelopes named by one receipt item (FORMATS 7). More: the desk makes a second item.
pub const RECEIPT_ENVELOPES_MAX: usize = 256;
/// Bytes of a receipt's details (FORMATS 7). More: the desk refuses the remark.
pub const DETAILS_BYTES_MAX: usize = 4 * 1024;
/// Bytes of an administrative leaf (FORMATS 8). More: refused before it is formed.
pub const ADMINISTRATIVE_LEAF_BYTES_MAX: usize = 60 * 1024;
/// Bytes of a trust domain: a DNS name that leaves room for `relay.` before it (RFC 1035: 253). Longer:
/// refused wherever it is parsed.
pub const TRUST_DOMAIN_BYTES_MAX: usize = 247;
/// Bytes of a party's name in its SPIFFE ID, as of a DNS label. Longer: the id is refused.
pub const PARTY_NAME_BYTES_MAX: usize = 63;
/// Bytes of a roster note (FORMATS 3). A longer one is refused before it is parsed.
pub const ROSTER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Parties in a roster (FORMATS 3). More: the roster is refused.
pub const ROSTER_PARTIES_MAX: usize = 16_384;
/// Witnesses in a roster (FORMATS 3). More: the roster is refused.
pub const ROSTER_WITNESSES_MAX: usize = 24;
/// Roster keys (FORMATS 3). Two thresholds of them must fit on one note while keys change. More: refused.
pub const ROSTER_KEYS_MAX: usize = NOTE_SIGNATURES_MAX;
/// Threshold of the roster keys, so that the old one and a new one fit on one note. More: refused.
pub const ROSTER_THRESHOLD_MAX: u32 = 8;
/// Log keys in a roster: the one in use and those it replaces. More: the roster is refused.
pub const ROSTER_LOG_KEYS_MAX: usize = 4;
/// Relay addresses in a roster. More: the roster is refused.
pub const ROSTER_ADDRESSES_MAX: usize = 16;
/// Topics in a roster. More: the roster is refused.
pub const ROSTER_TOPICS_MAX: usize = 64;
/// Classifications in the label policy. More: the roster is refused.
pub const ROSTER_LABELS_MAX: usize = 16;
/// Groups, and offices, in a roster. More of either: the roster is refused.
pub const ROSTER_GROUPS_MAX: usize = 4_096;
/// Elements of any list in one party's entry, office or group: serials, holidays, windows, duty list,
/// holders, members. As many members as an envelope has addressees. More: the roster is refused.
pub const ROSTER_LIST_MAX: usize = ADDRESSEES_MAX;
/// Bytes of an address code (`IDN`, `ACI-CHAIR`). Longer: the roster is refused.
pub const CODE_BYTES_MAX: usize = 16;
/// Bytes of a topic's id and of a label, as in an envelope's core. Longer: the roster is refused.
pub const TOPIC_BYTES_MAX: usize = 64;
/// Bytes of a name that a roster gives to people to read. Longer: the roster is refused.
pub const NAME_BYTES_MAX: usize = 128;
/// Signature lines on one signed note (FORMATS 8). More: the note is refused.
pub const NOTE_SIGNATURES_MAX: usize = 16;
/// Bytes of a checkpoint with all its signature lines: 16 of them, each with the longest name a key may have.
/// Longer: refused before it is parsed.
pub const CHECKPOINT_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request to a witness: the longest path and a checkpoint. Longer: refused before it is parsed.
pub const ADD_CHECKPOINT_BYTES_MAX: usize = CHECKPOINT_BYTES_MAX + 3 * 1024;
/// Bytes of the proof of one leaf: what opens it, the longest path and a checkpoint. Longer: refused before it
/// is parsed.
pub const LEAF_PROOF_BYTES_MAX: usize = ADD_CHECKPOINT_BYTES_MAX + 6 * 1024;
/// Bytes of a proof file: rosters of a dozen parties and three receipts of each of 128 addressees take less than
/// half. Longer: neither written nor read.
pub const PROOF_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Receipts in a proof file: each addressee may give six, and the relay one for each. More: as above.
pub const PROOF_FILE_RECEIPTS_MAX: usize = 8 * ADDRESSEES_MAX;
/// Keys of a relay under which a receipt of its own is tried: those that it has got since the record. More are not.
pub const RELAY_KEYS_TRIED_MAX: usize = 16;
/// Suspensions and lifts that are kept of a log that is verified: more than a ministry gives in its life. With more
/// the log is refused.
pub const LOG_ORDERS_MAX: usize = 65_536;
/// Cosignatures published with one checkpoint (FORMATS 9): with the log's own line, all that a note holds. More
/// are left out.
pub const COSIGNATURES_MAX: usize = NOTE_SIGNATURES_MAX - 1;
/// Bytes of what a witness answers: one signature line. Longer: its session is closed.
pub const WITNESSED_BYTES_MAX: usize = 1024;
/// Times that a witness may say about one checkpoint that it has cosigned another one than it was asked from: one that
/// follows what is published meanwhile does so. More: it is asked about the next one, and an alarm says so.
pub const WITNESS_CONFLICTS_MAX: u32 = 8;
/// Bytes of a bundle: 256 of the longest leaves. A file that is announced longer ends the session.
pub const LOG_BUNDLE_BYTES_MAX: usize = 256 * (ADMINISTRATIVE_LEAF_BYTES_MAX + 2);
/// Bytes of the name of a file of the log. Longer: the session of who asks is closed.
pub const LOG_NAME_BYTES_MAX: usize = 64;
/// Bytes of a frame before Welcome (DESIGN 7). A longer one closes the connection.
pub const FRAME_BEFORE_WELCOME_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a control frame (DESIGN 7). A longer one closes the session.
pub const FRAME_CONTROL_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a frame that carries an envelope (DESIGN 7). A longer one closes the session.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Bytes a second that a frame which has begun must bring (FORMATS 4), over [`FRAME_PACE_OVER`]. Fewer: the
/// relay closes the session.
pub const FRAME_BYTES_PER_SECOND_MIN: u64 = 512;
/// See [`FRAME_BYTES_PER_SECOND_MIN`].
pub const FRAME_PACE_OVER: Duration = Duration::from_secs(30);
/// Bytes of a sentence or a name in a control frame. A longer one is cut by the writer.
pub const SENTENCE_BYTES_MAX: usize = 400;
/// Submissions of one sender that the relay remembers (FORMATS 5): the largest window.
pub const SUBMISSIONS_REMEMBERED: usize = 512;
/// Submissions remembered of all senders together: 128 windows. Beyond it the sender that was silent longest
/// has half of its own forgotten; a number so old is then answered `OLD_NUMBER`.
pub const SUBMISSIONS_REMEMBERED_IN_ALL: usize = 128 * SUBMISSIONS_REMEMBERED;
/// Stored frames remembered of all desks together, as [`SUBMISSIONS_REMEMBERED_IN_ALL`].
pub const STORED_REMEMBERED_IN_ALL: usize = 128 * SUBMISSIONS_REMEMBERED;
/// How far ahead an envelope may expire (FORMATS 5). Further: refused `EXPIRY`.
pub const EXPIRY_MAX: Duration = Duration::from_secs(60 * 24 * 3600);
/// Bytes of a dispatch in clear: the largest bucket of FORMATS 6. A longer text is refused by the
/// desk, which says to send it in parts until attachments exist.
pub const DISPATCH_BYTES_MAX: usize = 208 * 1024;

/// How long before its end a daemon warns of its own certificate: a third of the 90 days that one lasts.
pub const CERTIFICATE_WARNED_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of a file of revoked certificates (CRL): some 20,000 serials. Longer: refused before it is parsed.
pub const CRL_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Lists of revoked certificates that a relay goes by, one for each CA. More are refused.
pub const CRLS_MAX: usize = 8;
/// How often a daemon looks at its own certificate's dates; an alarm is at most this late.
pub const CERTIFICATE_LOOKED_AT_EVERY: Duration = Duration::from_secs(3600);

/// Operators' connections to a relay at once, both listeners together. Reached: the next wait in the kernel's queue.
pub const ADMIN_CONNECTIONS_MAX: usize = 16;
/// Of these, connections from one address, or one IPv6 network of 64 bits. Reached: the next is closed.
pub const ADMIN_CONNECTIONS_PER_ADDRESS_MAX: usize = 4;
/// An operator's request and its answer must be done within this, or the connection is dropped.
pub const ADMIN_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections at once to the audit log's HTTPS listener. Reached: the next wait in the kernel's queue.
pub const LOG_CONNECTIONS_MAX: usize = 64;
/// Of these, connections of one party. Reached: the next is told 429.
pub const LOG_CONNECTIONS_PER_PARTY_MAX: usize = 8;
/// Bytes of one request to it, headers included; hyper takes no less. More: 431, and the connection is closed.
pub const LOG_REQUEST_BYTES_MAX: usize = 8 * 1024;
/// How long one of its connections may take requests; an answer under way may then take [`ADMIN_TIME_MAX`] more. A
/// reader who is suspended meanwhile reads no longer than that.
pub const LOG_CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// Requests a second that a desk answers as a witness over HTTP, where nobody proves who asks. More: told to come again.
pub const WITNESS_REQUESTS_PER_S_MAX: u32 = 20;
/// Of these, requests from one address, so that no stranger shuts the collectors out. More: told to come again.
pub const WITNESS_REQUESTS_PER_ADDRESS_PER_S_MAX: u32 = 4;
/// How long whoever verifies a log over the network waits for one file: at 64 kbit/s a bundle of traffic leaves takes a
/// second. Reached: the log counts as unreadable.
pub const REMOTE_FILE_TIME_MAX: Duration = Duration::from_secs(60);
/// The engine must answer an operator within this, or the relay is called not ready.
pub const ENGINE_ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long one report of the engine serves all who ask: so often at most does it walk the mailboxes.
pub const ADMIN_REPORT_KEPT: Duration = Duration::from_millis(250);
/// A sync of the journal that takes longer is stuck, and the relay is called not ready.
pub const SYNC_STUCK_AFTER: Duration = Duration::from_secs(10);

/// Receipts in one mailbox that settled nothing: what was read or acknowledged. Reached: the oldest go.
pub const MAILBOX_MARKS_MAX: usize = 100_000;
/// The same in all mailboxes together. Reached: the party that has most of them loses half of its own.
pub const MARKS_IN_ALL_MAX: usize = 131_072;
/// Days by log time whose beginnings in the log the relay remembers, until they are erased: more than eleven years.
/// Reached: what is older is erased with the day after it.
pub const ERASURE_MARKS_MAX: usize = 4_096;
/// Days that openings are kept at least, by configuration: longer than an envelope lives ([`EXPIRY_MAX`]), so that what
/// is erased has been settled or has expired.
pub const OPENINGS_KEEP_DAYS_MIN: u32 = 90;
/// Versions of the roster in one log. Reached: the next is declined, and a new log is due.
pub const ROSTER_VERSIONS_MAX: usize = 4_096;
/// Parties that an order to suspend or to lift names. Reached: an order about another one is declined.
pub const ORDERS_STANDING_MAX: usize = 1_024;
/// Dispatches that wait in a desk's outbox. Reached: the desk takes no more until some are sent.
pub const OUTBOX_WAITING_MAX: u64 = 10_000;
/// Batches of leaves and checkpoints that wait for the audit log's thread. Reached: leaves wait at the engine.
pub const LOG_COMMANDS_MAX: usize = 64;
/// How often the audit log's thread tries again to write its files to a full disk.
pub const LOG_RETRY_EVERY: Duration = Duration::from_secs(1);
/// Durable leaves that wait at the engine for the audit log's thread, 34 bytes each as a rule. Reached: desks wait.
pub const LOG_LEAVES_BEHIND_MAX: usize = 1_000_000;
/// Durable leaves that the audit log's thread is told at once, unless it has to sign before.
pub const LOG_LEAVES_AT_ONCE: usize = 256;
/// Tiles of leaf hashes of the audit log that a desk keeps, 8 KiB each: 128 MiB, four million leaves. Older ones go,
/// and are fetched again where a proof needs them.
pub const LEAF_TILES_KEPT: u64 = 16_384;
/// Proofs that a desk cuts in one visit to its store, 0.1 ms each. More wait for their next turn.
pub const PROOFS_PER_TURN: u32 = 32;
/// Tiles of the audit log that a desk has fetched for proofs and holds in memory, 8 KiB each. Reached: those of later
/// proofs go.
pub const PROOF_TILES_HELD_MAX: usize = 64;
/// Tiles that a desk makes room for where proofs lack so many and those that it holds are for later ones.
pub const PROOF_TILES_WANTED_MIN: usize = 16;
/// Bytes of a tile. A file that is announced longer where a tile was asked for ends the session.
pub const LOG_TILE_BYTES_MAX: usize = 256 * HASH_BYTES;
/// Leaves of the audit log that a desk follows before it keeps how far it is: 512 KiB of hashes in memory.
pub const LEAVES_PER_STEP: usize = 16_384;
/// Claims about a larger audit log than a desk has verified that it keeps of each author, until it has caught up.
/// Reached: the smallest stay.
pub const CLAIMS_HELD_MAX: u32 = 8;
/// Roots of verified checkpoints that a desk keeps to hold claims against: half a day's. Older ones are found in tiles.
pub const ROOTS_KEPT: u32 = 4_096;
/// Pieces of evidence that a desk keeps for each kind of alarm about the audit log, as many again of what authors claim.
/// Reached: the first stay, until the alarm is closed and raised anew.
pub const LOG_EVIDENCE_MAX: u32 = 8;
/// Published checkpoints that come sooner one after the other are counted as one where a desk counts how long a
/// proof is owed: as often as one is signed at most.
pub const PUBLISHED_APART: Duration = Duration::from_secs(10);
/// Checkpoints that may come before a proof is paid (FORMATS 9). More: an alarm.
pub const CHECKPOINTS_OWED_MAX: u32 = 2;
/// How long a proof may be owed at all, whether checkpoints come or not (FORMATS 9: no quorum for 10 minutes). Longer: an
/// alarm.
pub const UNPROVEN_TIME_MAX: Duration = Duration::from_secs(600);
/// Connections to a desk's API at once. Reached: the next one waits in the kernel until another ends.
pub const API_CONNECTIONS_MAX: usize = 128;
/// How long a client of a desk's API may say nothing; its connection is then closed. Longer than any call.
pub const API_IDLE_TIME_MAX: Duration = Duration::from_secs(600);
/// How long one call of a desk's API may take, its body and its waiting included. Longer: 504 `unanswered`.
pub const API_CALL_TIME_MAX: Duration = Duration::from_secs(400);
/// Named cursors of a desk's readers. Reached: no new name is taken.
pub const CURSORS_MAX: u64 = 256;
/// How long a reader may have a cursor to itself without saying so again. Longer: refused.
pub const LEASE_TIME_MAX: Duration = Duration::from_secs(600);
/// The shortest time that a desk's clock for a precedence may be set to. Shorter: the configuration is refused.
pub const CLOCK_TIME_MIN: Duration = Duration::from_secs(60);
/// The longest, by which every dispatch has expired. Longer: refused.
pub const CLOCK_TIME_MAX: Duration = EXPIRY_MAX;
/// Days after its start by which a clock that counts working hours has run out, however few they are.
pub const CLOCK_DAYS_MAX: u16 = 60;
/// How often a desk looks for what became overdue, at the least.
pub const CLOCKS_LOOKED_AT_EVERY: Duration = Duration::from_secs(10);

const _: () = assert!(CLOCK_DAYS_MAX as u64 * 24 * 3600 >= CLOCK_TIME_MAX.as_secs());
const _: () = assert!(ENGINE_ANSWER_TIME_MAX.as_secs() < ADMIN_TIME_MAX.as_secs());
const _: () = assert!(API_CALL_TIME_MAX.as_secs() < API_IDLE_TIME_MAX.as_secs());
const _: () = assert!(OPENINGS_KEEP_DAYS_MIN as u64 * 24 * 3600 > EXPIRY_MAX.as_secs());
const _: () = assert!(DISPATCH_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(FRAME_BEFORE_WELCOME_BYTES_MAX <= FRAME_CONTROL_BYTES_MAX);
const _: () = assert!(FRAME_CONTROL_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(ADMINISTRATIVE_LEAF_BYTES_MAX < FRAME_CONTROL_BYTES_MAX);
const _: () = assert!(2 * ROSTER_THRESHOLD_MAX as usize <= NOTE_SIGNATURES_MAX);
const _: () = assert!(BATCH_ITEMS_MAX <= u8::MAX as usize);
// A leaf lies under eight tiles at most: none that a proof needs is let go for another one of it.
const _: () = assert!(PROOF_TILES_WANTED_MIN + 8 < PROOF_TILES_HELD_MAX);
const _: () = {
    let (most, liars) = (ROSTER_WITNESSES_MAX, (ROSTER_WITNESSES_MAX - 1) / 4);
    assert!(
        (most + liars) / 2 < COSIGNATURES_MAX,
        "a roster that sets no `faults` can have its quorum published"
    );
};

/// Bounds of a running relay or desk, together so that a simulator can shrink them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A TLS handshake must end within this, or the connection is dropped (FORMATS 4).
    pub handshake_time_max: Duration,
    /// A Hello must come within this after the handshake, or the connection is closed (FORMATS 4).
    pub hello_time_max: Duration,
    /// A ping is sent after this much silence (FORMATS 4).
    pub ping_every: Duration,
    /// A session without any received byte for this long is dead and closed (FORMATS 4).
    pub silence_max: Duration,
    /// Handshakes under way at once; further connections wait in the kernel's queue.
    pub handshakes_max: usize,
    /// Connections at once, sessions and handshakes together; further ones are dropped at accept.
    pub connections_max: usize,
    /// Connections of one party that the relay admits at once, whatever became of those before; one more with each
    /// [`Limits::connection_per_party_every`]. Reached: it is turned away with RATE.
    pub connections_per_party_burst: u32,
    /// See [`Limits::connections_per_party_burst`].
    pub connection_per_party_every: Duration,
    /// Envelopes that Welcome grants before any credit grows (FORMATS 4).
    pub window_envelopes_min: u64,
    /// Bytes that Welcome grants (FORMATS 4). May be overdrawn by one frame.
    pub window_bytes_min: u64,
    /// Envelopes that one session's credit grows to (FORMATS 4).
    pub window_envelopes_max: u64,
    /// Bytes that one session's credit grows to (FORMATS 4).
    pub window_bytes_max: u64,
    /// Bytes of credit growth shared by all sessions (FORMATS 4). Used up: windows stay small.
    pub window_pool_bytes: u64,
    /// Receipts in flight to one desk beyond what it confirmed. Reached: more wait in its mailbox.
    pub receipts_in_flight_max: usize,
    /// Envelopes waiting in one mailbox. Reached: submissions to it are refused `MAILBOX_FULL`.
    pub mailbox_envelopes_max: usize,
    /// Receipts waiting for one party, unconfirmed. Reached: what it submits is deferred until it confirms, and
    /// what is submitted to it is refused `MAILBOX_FULL`.
    pub mailbox_receipts_max: usize,
    /// Bytes of a segment's base for envelopes that somebody has not settled, and for the receipts that came of
    /// envelopes or may yet come: some 120 an envelope, 25 more for each further addressee. Reached:
    /// submissions are refused `MAILBOX_FULL`.
    pub lasting_bytes_max: usize,
    /// Bytes of it that desks have confirmed since the last base. Reached: a new segment begins, whose base says so.
    pub confirmed_bytes_max: usize,
    /// Bytes of bodies kept in memory for delivery. Beyond it the oldest go and are loaded back.
    pub body_cache_bytes_max: usize,
    /// Bytes queued to one connection, at either end, before nothing more is delivered or sealed for it, on a fast
    /// line: a FLASH waits behind no more.
    pub connection_queue_bytes_max: usize,
    /// The same on a line that takes no more than this in a second; how every session begins.
    pub queue_bytes_min: usize,
    /// Bytes queued to one connection in all, answers included. Beyond it the desk reads nothing of what it
    /// asks for, and its session is dropped; rosters do not count.
    pub connection_backlog_bytes_max: usize,
    /// Bad signatures that one session may send before it is closed.
    pub bad_signatures_max: u32,
    /// Refusals of one party that become records within a second; the rest are only counted (FORMATS 8).
    pub refusal_records_per_second_max: u32,
    /// Envelopes that one desk may say within a minute were read or acknowledged. Reached: its session is closed
    /// with RATE, and it comes again.
    pub marks_per_minute_max: u64,
    /// Files of the audit log that one party may ask for at once, whatever session it does it in; one more with each
    /// [`Limits::file_per_party_every`]. Reached: the next is read when its turn comes. A log of a million leaves has
    /// 3,907 bundles.
    pub files_per_party_burst: u32,
    /// See [`Limits::files_per_party_burst`].
    pub file_per_party_every: Duration,
    /// Bytes of such files that all sessions together hold until they have left; one that is being read counts as
    /// [`LOG_BUNDLE_BYTES_MAX`]. Reached: the next is read when others have left.
    pub files_bytes_max: usize,
    /// Bytes a second at which such a file leaves at the least, 64 kbit/s. Slower: its place goes to a session that waits
    /// for one, and the rest of it waits for the next turn.
    pub file_bytes_per_second_min: u64,
    /// Bytes of all roster notes in one log, which desks are shown from memory. Reached: the next roster is declined,
    /// and a new log is due.
    pub roster_notes_bytes_max: usize,
    /// A roster that the hub publishes must have come whole within this, or its session is closed.
    pub publication_time_max: Duration,
    /// A checkpoint is signed so often while there is traffic (FORMATS 10).
    pub checkpoint_every: Duration,
    /// And so often while there is none.
    pub checkpoint_idle_every: Duration,
    /// Within this a relay has shown each desk in session a signed checkpoint over whatever it has told it of: two
    /// intervals. Longer, and a ping was answered since: the desk tells a person.
    pub checkpoint_owed_time_max: Duration,
    /// A signed checkpoint that no quorum witnesses for this long is an alarm (FORMATS 9).
    pub unwitnessed_time_max: Duration,
    /// How old by log time openings and headers become before they are erased (FORMATS 8).
    pub openings_keep: Duration,
    /// They are erased by whole days; this long is a day.
    pub erasure_every: Duration,
    /// Log time follows a wall clock that runs ahead by at most this share of elapsed time (FORMATS 8).
    pub log_time_catch_up_per_minute: Duration,
}

impl Limits {
    /// What a relay and a desk run with.
    pub const DEFAULT: Limits = Limits {
        handshake_time_max: Duration::from_secs(5),
        hello_time_max: Duration::from_secs(5),
        ping_every: Duration::from_secs(10),
        silence_max: Duration::from_secs(25),
        handshakes_max: 64,
        connections_max: 4_096,
        connections_per_party_burst: 128,
        connection_per_party_every: Duration::from_secs(1),
        window_envelopes_min: 8,
        window_bytes_min: 64 * 1024,
        window_envelopes_max: 512,
        window_bytes_max: 1024 * 1024,
        window_pool_bytes: 64 * 1024 * 1024,
        receipts_in_flight_max: 1_024,
        mailbox_envelopes_max: 100_000,
        mailbox_receipts_max: 100_000,
        lasting_bytes_max: 14 * 1024 * 1024,
        confirmed_bytes_max: 4 * 1024 * 1024,
        body_cache_bytes_max: 64 * 1024 * 1024,
        connection_queue_bytes_max: 128 * 1024,
        queue_bytes_min: 8 * 1024,
        connection_backlog_bytes_max: 8 * 1024 * 1024,
        bad_signatures_max: 8,
        refusal_records_per_second_max: 10,
        marks_per_minute_max: 6_000,
        files_per_party_burst: 4_096,
        file_per_party_every: Duration::from_millis(1),
        files_bytes_max: 64 * 1024 * 1024,
        file_bytes_per_second_min: 8_000,
        roster_notes_bytes_max: 64 * 1024 * 1024,
        publication_time_max: Duration::from_secs(15 * 60),
        checkpoint_every: Duration::from_secs(10),
        checkpoint_idle_every: Duration::from_secs(60),
        checkpoint_owed_time_max: Duration::from_secs(20),
        unwitnessed_time_max: Duration::from_secs(600),
        openings_keep: Duration::from_secs(400 * 24 * 3600),
        erasure_every: Duration::from_secs(24 * 3600),
        log_time_catch_up_per_minute: Duration::from_secs(60),
    };

    /// How long so many bytes of a file of the audit log may take to leave, before it may have to wait once more.
    pub fn file_time(&self, bytes: usize) -> Duration {
        Duration::from_millis(bytes as u64 * 1_000 / self.file_bytes_per_second_min)
    }
}

const _: () = {
    let limits = Limits::DEFAULT;
    assert!(limits.window_envelopes_max as usize <= SUBMISSIONS_REMEMBERED);
    assert!(limits.window_bytes_min <= limits.window_bytes_max);
    assert!(limits.window_bytes_max >= FRAME_BYTES_MAX as u64);
    assert!(limits.queue_bytes_min <= limits.connection_queue_bytes_max);
    assert!(LOG_BUNDLE_BYTES_MAX <= limits.files_bytes_max && ROSTER_BYTES_MAX <= LOG_BUNDLE_BYTES_MAX);
    assert!(2 * limits.confirmed_bytes_max <= limits.lasting_bytes_max);
    assert!(2 * limits.checkpoint_every.as_secs() <= limits.checkpoint_owed_time_max.as_secs());
};
