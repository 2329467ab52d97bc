//! The tables of a desk's store, and how its file is opened.
//!
//! Times are microseconds since 1970 in UTC; ids and hashes are blobs; numbers from outside are kept
//! within SQLite's 63 bits (`columns`). Blobs stand last in a row, so that a list never reads them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, config::DbConfig, params};

use super::StoreError;

/// Version of the tables below, in SQLite's `user_version`.
const VERSION: i64 = 4;
/// The oldest one that is brought up.
const VERSION_OLDEST: i64 = 2;
const FILE: &str = "desk.sqlite";
const LOCK: &str = "desk.lock";
/// Statements kept prepared: more than the store has.
const STATEMENTS_MAX: usize = 160;

const TABLES: &str = "
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
CREATE TABLE rosters (version INTEGER PRIMARY KEY, position INTEGER, note BLOB NOT NULL) STRICT;
-- one row: the audit log as far as it is verified
CREATE TABLE log (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    followed  BLOB NOT NULL, -- right edge of the tree and head of the administrative chain
    note      BLOB NOT NULL, -- the checkpoint over it
    witnessed BLOB NOT NULL  -- the newest that a quorum cosigned, or empty
) STRICT;
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
    attempts        INTEGER NOT NULL DEFAULT 0, -- times that it was sealed
    topic           TEXT NOT NULL,
    label           TEXT NOT NULL, -- empty: the roster's lowest
    kind            INTEGER NOT NULL,
    exercise        INTEGER NOT NULL,
    acknowledgement INTEGER NOT NULL,
    answer_due_s    INTEGER NOT NULL,
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
    kind       INTEGER NOT NULL, -- 1 an addressee must have it, 2 an answer from it, 3 to acknowledge here, 4 to answer here
    item       INTEGER NOT NULL, -- of 1 and 2 the outbox's seq, of 3 and 4 the register
    party      INTEGER NOT NULL, -- of 1 and 2 the addressee, of 3 and 4 the sender
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
";

/// From version 2 to 3, in one transaction: nothing is lost, and a kill leaves the one or the other.
const UPGRADE: &str = "
ALTER TABLE desk ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE desk ADD COLUMN log INTEGER NOT NULL DEFAULT 1;
ALTER TABLE desk ADD COLUMN log_origin TEXT NOT NULL DEFAULT '';
ALTER TABLE desk ADD COLUMN log_floor INTEGER NOT NULL DEFAULT 0;
UPDATE desk SET confirmed = (SELECT coalesce(max(position), 0) FROM receipts_in);
ALTER TABLE alarms ADD COLUMN closed_at INTEGER;
ALTER TABLE alarms ADD COLUMN closed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE addressees ADD COLUMN expired_at INTEGER;
UPDATE addressees SET expired_at = set_aside_at, set_aside_at = NULL, set_aside_reason = NULL
    WHERE set_aside_reason = 'expired at the relay before it was fetched';
DROP INDEX addressees_waiting;
CREATE INDEX addressees_open ON addressees (dispatch)
    WHERE delivered_at IS NULL AND set_aside_at IS NULL AND expired_at IS NULL;
CREATE INDEX submissions_again ON submissions (number) WHERE state = 3;
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
CREATE TABLE log (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    followed  BLOB NOT NULL,
    note      BLOB NOT NULL,
    witnessed BLOB NOT NULL
) STRICT;
";

/// A store's file and the lock that keeps a second daemon away from it.
pub(super) struct Opened {
    pub connection: Connection,
    pub lock: File,
}

/// Opens the store in `folder`, or makes it: folder 0700, file 0600, WAL, every commit synced.
pub(super) fn open(folder: &Path) -> Result<Opened, StoreError> {
    let failed = |source| StoreError::Folder { path: folder.to_owned(), source };
    let lock = lock(folder)?;
    let path = folder.join(FILE);
    OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(failed)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
    let mut connection = Connection::open(&path)?;
    let prepared = journal_mode(&connection).and_then(|()| prepare(&mut connection, &path));
    prepared.map_err(|error| match error {
        StoreError::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path: path.clone(), finding: error.to_string() }
        }
        other => other,
    })?;
    sync_folder(folder).map_err(failed)?;
    Ok(Opened { connection, lock })
}

fn journal_mode(connection: &Connection) -> Result<(), StoreError> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    assert_eq!(mode, "wal", "a file of our own in a folder of our own takes WAL");
    Ok(())
}

/// Sets an open database up as a store: checks it, and makes its tables if it is empty.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;")?;
    check(connection, path)?;
    create(connection, path)
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::Folder { path: folder.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
    let mut options = OpenOptions::new();
    let lock = options.append(true).create(true).mode(0o600).open(folder.join(LOCK)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Running { path: folder.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Reads the whole file once: damage is found at the start and not when a dispatch is asked for.
fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let finding: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match finding.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged { path: path.to_owned(), finding }),
    }
}

fn create(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let transaction = connection.transaction()?;
    match found {
        VERSION => return Ok(()),
        0 if objects == 0 => {
            transaction.execute_batch(TABLES)?;
            let sql = "INSERT INTO desk (one, store_id, incarnation) VALUES (1, ?1, 1)";
            transaction.execute(sql, params![super::naming::random::<16>()?])?;
        }
        VERSION_OLDEST..VERSION => {
            if found == VERSION_OLDEST {
                transaction.execute_batch(UPGRADE)?;
            }
            super::clocks::upgrade(&transaction)?;
            tracing::info!(from = found, to = VERSION, "the store was brought to this version's tables");
        }
        _ => return Err(StoreError::Version { path: path.to_owned(), found, known: VERSION }),
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether a query finds a row.
pub(super) fn exists(
    connection: &Connection,
    sql: &str,
    key: impl rusqlite::Params,
) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached(sql)?.query_row(key, |_| Ok(())).optional()?.is_some())
}
