//! The tables of a desk's store.
//!
//! Times are microseconds since 1970 in UTC; ids and hashes are blobs; numbers from outside are kept
//! within SQLite's 63 bits (`columns`). Blobs stand last in a row, so that a list never reads them.

/// All of them, as a new store has them; an older one gets there by `upgrades`.
pub(super) const TABLES: &str = "
-- one row: what the store is, and the numbers that it used
CREATE TABLE desk (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    store_id        BLOB NOT NULL,
    incarnation     INTEGER NOT NULL,
    last_submission INTEGER NOT NULL DEFAULT 0,
    last_stored     INTEGER NOT NULL DEFAULT 0,
    position        INTEGER NOT NULL DEFAULT 0,
    confirmed       INTEGER NOT NULL DEFAULT 0, -- highest position of a receipt of others
    log             INTEGER NOT NULL DEFAULT 1, -- counts the relay's logs that this desk has met
    log_origin      TEXT NOT NULL DEFAULT '', -- of the one that positions are of; empty before the first Welcome
    log_floor       INTEGER NOT NULL DEFAULT 0 -- submission numbers up to here were answered by earlier logs
) STRICT;
CREATE TABLE rosters (
    version  INTEGER PRIMARY KEY,
    position INTEGER,
    note     BLOB NOT NULL,
    leaf     BLOB -- the administrative leaf at that position
) STRICT;
-- one row: the audit log as far as it is verified
CREATE TABLE log (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    followed  BLOB NOT NULL, -- right edge of the tree and head of the administrative chain
    note      BLOB NOT NULL, -- the checkpoint over it
    witnessed BLOB NOT NULL, -- the newest that a quorum cosigned, or empty
    ahead     BLOB,          -- as followed, on the way to a checkpoint that is not verified yet
    published INTEGER NOT NULL DEFAULT 0,   -- counts checkpoints that a quorum cosigned
    published_at INTEGER NOT NULL DEFAULT 0 -- when one was counted last
) STRICT;
-- hashes of the tree's nodes as tlog-tiles has them: of level 0 the newest tiles alone
CREATE TABLE tiles (
    level  INTEGER NOT NULL,
    tile   INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, tile)
) STRICT;
-- roots of checkpoints that were verified, the newest
CREATE TABLE roots (size INTEGER PRIMARY KEY, root BLOB NOT NULL) STRICT;
-- larger checkpoints that others name, until the log is followed so far
CREATE TABLE claims (
    author INTEGER NOT NULL,
    size   INTEGER NOT NULL,
    root   BLOB NOT NULL,
    signed BLOB NOT NULL, -- the header or the item of a receipt that names it
    proof  BLOB NOT NULL, -- the author's share of a batch signature over that
    PRIMARY KEY (author, size, root)
) STRICT;
CREATE INDEX claims_size ON claims (size);
-- what alarms about the log rest on, the first of each
CREATE TABLE evidence (
    key      TEXT NOT NULL, -- of the alarm
    at       INTEGER NOT NULL,
    sentence TEXT NOT NULL,
    shown    BLOB NOT NULL, -- as it came
    proof    BLOB NOT NULL,
    held     BLOB NOT NULL, -- the newest checkpoint that was verified then
    UNIQUE (key, shown)
) STRICT;
-- checkpoints that proofs lead to, as published
CREATE TABLE checkpoints (
    id        INTEGER PRIMARY KEY,
    size      INTEGER NOT NULL,
    witnesses INTEGER NOT NULL, -- that have cosigned it
    of        INTEGER NOT NULL, -- of so many in the roster then
    note      BLOB NOT NULL
) STRICT;
CREATE INDEX checkpoints_size ON checkpoints (size);
-- one for each leaf that the relay told of: that the log holds it, or that this has yet to be proven
CREATE TABLE proofs (
    position   INTEGER NOT NULL,
    leaf       BLOB NOT NULL, -- hash of the leaf that the relay told of
    owed_at    INTEGER NOT NULL,
    owed_count INTEGER NOT NULL, -- log.published at that time
    checkpoint INTEGER REFERENCES checkpoints, -- NULL: owed
    found      BLOB, -- hash of the leaf that the log has there, where it is another one
    path       BLOB, -- from the leaf that is there to the checkpoint
    PRIMARY KEY (position, leaf)
) STRICT;
CREATE INDEX proofs_owed ON proofs (position) WHERE checkpoint IS NULL;
-- orders of the hub, as signed
CREATE TABLE orders (
    number   INTEGER PRIMARY KEY,
    kind     INTEGER NOT NULL, -- 1 suspend, 2 lift, 3 minimize, 4 erase
    subject  INTEGER NOT NULL, -- party number or position
    until_s  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    signed   BLOB NOT NULL
) STRICT;
-- a second raising of one alarm replaces the first
CREATE TABLE alarms (
    key       TEXT PRIMARY KEY,
    at        INTEGER NOT NULL,
    sentence  TEXT NOT NULL,
    taken_at  INTEGER, -- since when somebody looks after it
    taken_by  TEXT NOT NULL DEFAULT '',
    closed_at INTEGER, -- since when it is over
    closed_by TEXT NOT NULL DEFAULT '' -- empty: its cause ended by itself
) STRICT;
-- every short id of outbox and inbox
CREATE TABLE shorts (short TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE registry (year INTEGER PRIMARY KEY, last INTEGER NOT NULL) STRICT;

CREATE TABLE outbox (
    seq             INTEGER PRIMARY KEY,
    id              BLOB NOT NULL UNIQUE, -- given at entry, never changed
    wire_id         BLOB NOT NULL UNIQUE, -- in the core: another one once an accepted dispatch is sealed again
    short           TEXT NOT NULL UNIQUE,
    idempotency_key TEXT UNIQUE,
    reference       TEXT NOT NULL UNIQUE,
    dtg             TEXT NOT NULL UNIQUE,
    precedence      INTEGER NOT NULL,
    info_precedence INTEGER NOT NULL, -- towards INFO
    state           INTEGER NOT NULL, -- 0 queued, 1 sealed, 2 accepted, 3 refused
    roster_min      INTEGER NOT NULL DEFAULT 0, -- waits until a roster of this version is held
    attempts        INTEGER NOT NULL DEFAULT 0, -- times that it was sealed, without those that MINIMIZE undid
    topic           TEXT NOT NULL,
    label           TEXT NOT NULL, -- empty: the roster's lowest
    kind            INTEGER NOT NULL,
    exercise        INTEGER NOT NULL,
    acknowledgement INTEGER NOT NULL,
    answer_due_s    INTEGER NOT NULL,
    acknowledgement_due_s INTEGER NOT NULL DEFAULT 0, -- 0: by precedence
    expires_s       INTEGER NOT NULL,
    queued_at       INTEGER NOT NULL,
    accepted_at     INTEGER,
    position        INTEGER,
    hash            BLOB, -- of the newest envelope
    refusal_code    TEXT,
    refusal         TEXT,
    language        TEXT NOT NULL,
    office          TEXT NOT NULL,
    person          TEXT NOT NULL,
    in_reply_to     BLOB,
    salt            BLOB NOT NULL,
    subject         TEXT NOT NULL,
    body            TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_waiting ON outbox (precedence DESC, seq) WHERE state = 0;
CREATE INDEX outbox_open ON outbox (state) WHERE state <> 2;
-- whom the writer named, as written, and what that became when it was addressed last
CREATE TABLE names (
    dispatch INTEGER NOT NULL REFERENCES outbox,
    ordinal  INTEGER NOT NULL,
    code     TEXT NOT NULL,
    naming   INTEGER NOT NULL, -- 1 TO, 2 INFO, 3 XMT
    parties  INTEGER, -- that it adds or takes out
    left_out TEXT NOT NULL DEFAULT '', -- suspended members, by code, divided by spaces
    PRIMARY KEY (dispatch, ordinal)
) STRICT, WITHOUT ROWID;
-- whom it goes to: none before a roster is held, then as it was addressed last
CREATE TABLE addressees (
    dispatch         INTEGER NOT NULL REFERENCES outbox,
    code             TEXT NOT NULL,
    ordinal          INTEGER NOT NULL,
    role             INTEGER NOT NULL, -- 1 TO, 2 INFO
    party            INTEGER NOT NULL,
    delivered_at     INTEGER,
    set_aside_at     INTEGER,
    set_aside_reason TEXT,
    expired_at       INTEGER, -- by the relay's word: it was not fetched in time
    read_at          INTEGER,
    acknowledged_at  INTEGER,
    remark           TEXT,
    answered_at      INTEGER, -- when its answer came here
    PRIMARY KEY (dispatch, code)
) STRICT, WITHOUT ROWID;
CREATE INDEX addressees_open ON addressees (dispatch)
    WHERE delivered_at IS NULL AND set_aside_at IS NULL AND expired_at IS NULL;
-- times by which something must have come, or been done here
CREATE TABLE clocks (
    kind       INTEGER NOT NULL, -- 1 an addressee must have it, 2 an answer from it, 3 to acknowledge here, 4 to answer here,
                                 -- 5 an acknowledgement from it by a time that the dispatch names
    item       INTEGER NOT NULL, -- of 1, 2 and 5 the outbox's seq, of 3 and 4 the register
    party      INTEGER NOT NULL, -- of 1, 2 and 5 the addressee, of 3 and 4 the sender
    started_at INTEGER NOT NULL,
    precedence INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    overdue_at INTEGER, -- when it was noticed to have run out
    ended_at   INTEGER, -- when what it was about had come or been done, or could not any more
    PRIMARY KEY (kind, item, party)
) STRICT, WITHOUT ROWID;
CREATE INDEX clocks_ticking ON clocks (kind, due_at) WHERE overdue_at IS NULL AND ended_at IS NULL;
CREATE INDEX clocks_overdue ON clocks (kind, due_at) WHERE overdue_at IS NOT NULL AND ended_at IS NULL;
-- every envelope that was ever sealed here, with the very bytes
CREATE TABLE submissions (
    number   INTEGER PRIMARY KEY,
    dispatch INTEGER NOT NULL REFERENCES outbox,
    state    INTEGER NOT NULL, -- 0 unanswered, 1 accepted, 2 refused, 3 to be sent again to a new log
    roster_version INTEGER NOT NULL, -- that it was sealed by
    hash     BLOB NOT NULL UNIQUE,
    position INTEGER,
    salt     BLOB,
    opening  BLOB,
    frame    BLOB NOT NULL
) STRICT;
CREATE INDEX submissions_unanswered ON submissions (number) WHERE state = 0;
CREATE INDEX submissions_again ON submissions (number) WHERE state = 3;
CREATE TABLE slips_out (
    party        INTEGER NOT NULL,
    precedence   INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    submission   INTEGER NOT NULL,
    voided       INTEGER NOT NULL DEFAULT 0,
    announced_by INTEGER, -- submission whose slip told of the void
    hash         BLOB NOT NULL,
    PRIMARY KEY (party, precedence, epoch, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX slips_out_submission ON slips_out (submission);
CREATE INDEX slips_out_announced ON slips_out (announced_by) WHERE announced_by IS NOT NULL;

CREATE TABLE inbox (
    register        INTEGER PRIMARY KEY, -- gap-free from 1; no row is ever deleted
    hash            BLOB NOT NULL UNIQUE,
    id              BLOB NOT NULL,
    root_id         BLOB NOT NULL, -- what it supersedes, or its id
    sender          INTEGER NOT NULL,
    sender_code     TEXT NOT NULL,
    role            INTEGER NOT NULL,
    short           TEXT NOT NULL UNIQUE,
    reference       TEXT NOT NULL,
    dtg             TEXT NOT NULL,
    topic           TEXT NOT NULL,
    precedence      INTEGER NOT NULL,
    label           TEXT NOT NULL,
    kind            INTEGER NOT NULL,
    exercise        INTEGER NOT NULL,
    acknowledgement INTEGER NOT NULL,
    acknowledgement_due_s INTEGER NOT NULL DEFAULT 0, -- 0: by precedence
    position        INTEGER NOT NULL,
    received_at     INTEGER NOT NULL,
    read_at         INTEGER,
    acknowledged_at INTEGER,
    set_aside       INTEGER, -- reason code
    subject         TEXT NOT NULL,
    header          BLOB NOT NULL,
    proof           BLOB NOT NULL,
    salt            BLOB NOT NULL,
    opening         BLOB NOT NULL,
    content         BLOB NOT NULL -- the dispatch, or the ciphertext of what was set aside
) STRICT;
CREATE UNIQUE INDEX inbox_once ON inbox (sender, root_id) WHERE set_aside IS NULL;
CREATE INDEX inbox_id ON inbox (id);
CREATE INDEX inbox_unread ON inbox (register) WHERE read_at IS NULL AND set_aside IS NULL;
CREATE INDEX inbox_unacked ON inbox (register)
    WHERE acknowledgement = 1 AND acknowledged_at IS NULL AND set_aside IS NULL;
CREATE INDEX inbox_set_aside ON inbox (register) WHERE set_aside IS NOT NULL;
-- further envelopes of a dispatch that the inbox holds: receipted, not shown
CREATE TABLE copies (hash BLOB PRIMARY KEY, register INTEGER NOT NULL, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE notices (register INTEGER NOT NULL, sentence TEXT NOT NULL) STRICT;
CREATE INDEX notices_register ON notices (register);
CREATE TABLE slips_in (
    sender     INTEGER NOT NULL,
    precedence INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    hash       BLOB NOT NULL,
    PRIMARY KEY (sender, precedence, epoch, number)
) STRICT, WITHOUT ROWID;
-- stream numbers first to last that have neither come nor been voided, noticed at a register number
CREATE TABLE gaps (
    sender     INTEGER NOT NULL,
    precedence INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    register   INTEGER NOT NULL,
    PRIMARY KEY (sender, precedence, epoch, first)
) STRICT, WITHOUT ROWID;
-- envelopes for this desk that expired at the relay, and the gap's first number that each explains
CREATE TABLE expired (
    hash       BLOB PRIMARY KEY,
    sender     INTEGER NOT NULL,
    precedence INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    explains   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX expired_unexplained ON expired (sender, precedence, position) WHERE explains IS NULL;
CREATE INDEX gaps_register ON gaps (register);
CREATE TABLE cursors (name TEXT PRIMARY KEY, register INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- receipts to be signed, and those signed: the very frames
CREATE TABLE receipts_due (
    seq      INTEGER PRIMARY KEY,
    kind     INTEGER NOT NULL,
    reason   INTEGER NOT NULL,
    sender   INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    position INTEGER NOT NULL,
    hash     BLOB NOT NULL,
    details  BLOB NOT NULL,
    UNIQUE (kind, hash)
) STRICT;
CREATE TABLE stored (
    number   INTEGER PRIMARY KEY,
    receipts INTEGER NOT NULL, -- envelopes that its items name
    position INTEGER,
    salt     BLOB,
    opening  BLOB,
    frame    BLOB NOT NULL
) STRICT;
CREATE INDEX stored_unanswered ON stored (number) WHERE position IS NULL;
-- answered frames of logs before the one that the relay keeps now, which counts them anew
CREATE TABLE stored_earlier (
    log      INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    receipts INTEGER NOT NULL,
    position INTEGER NOT NULL,
    salt     BLOB,
    opening  BLOB,
    frame    BLOB NOT NULL,
    PRIMARY KEY (log, number)
) STRICT;
-- receipts of others for what was sent here, as evidence
CREATE TABLE receipts_in (
    position INTEGER NOT NULL,
    hash     BLOB NOT NULL, -- SHA-256 of the item
    item     BLOB NOT NULL,
    proof    BLOB NOT NULL,
    details  BLOB NOT NULL,
    salt     BLOB NOT NULL,
    opening  BLOB NOT NULL,
    PRIMARY KEY (position, hash)
) STRICT;
-- which of them name an envelope, and which frames of this desk do
CREATE TABLE receipts_of (
    envelope BLOB NOT NULL,
    position INTEGER NOT NULL,
    hash     BLOB NOT NULL,
    PRIMARY KEY (envelope, position, hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE stored_of (
    envelope BLOB NOT NULL,
    log      INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    PRIMARY KEY (envelope, log, number)
) STRICT, WITHOUT ROWID;
";
