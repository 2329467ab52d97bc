//! How a store of an earlier version is brought to this one's tables: each step in the one transaction, so that a kill
//! leaves the one or the other, and nothing is lost.

use rusqlite::Connection;

use super::{StoreError, clocks, owing};

/// The oldest version that can be brought up.
pub(super) const VERSION_OLDEST: i64 = 2;

/// From one version to the next.
///
/// # Errors
/// [`StoreError`].
pub(super) fn step(connection: &Connection, from: i64) -> Result<(), StoreError> {
    match from {
        2 => connection.execute_batch(FROM_2)?,
        3 => clocks::upgrade(connection)?,
        4 => {
            connection.execute_batch(FROM_4)?;
            owing::owe_all(connection)?;
        }
        5 => connection.execute_batch(FROM_5)?,
        _ => clocks::upgrade_named(connection)?,
    }
    Ok(())
}

const FROM_2: &str = "
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

const FROM_4: &str = "
ALTER TABLE rosters ADD COLUMN leaf BLOB;
ALTER TABLE log ADD COLUMN ahead BLOB;
ALTER TABLE log ADD COLUMN published INTEGER NOT NULL DEFAULT 0;
ALTER TABLE log ADD COLUMN published_at INTEGER NOT NULL DEFAULT 0;
CREATE TABLE tiles (
    level  INTEGER NOT NULL,
    tile   INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, tile)
) STRICT;
CREATE TABLE checkpoints (
    id        INTEGER PRIMARY KEY,
    size      INTEGER NOT NULL,
    witnesses INTEGER NOT NULL,
    of        INTEGER NOT NULL,
    note      BLOB NOT NULL
) STRICT;
CREATE INDEX checkpoints_size ON checkpoints (size);
CREATE TABLE proofs (
    position   INTEGER NOT NULL,
    leaf       BLOB NOT NULL,
    owed_at    INTEGER NOT NULL,
    owed_count INTEGER NOT NULL,
    checkpoint INTEGER REFERENCES checkpoints,
    found      BLOB,
    path       BLOB,
    PRIMARY KEY (position, leaf)
) STRICT;
CREATE INDEX proofs_owed ON proofs (position) WHERE checkpoint IS NULL;
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

const FROM_5: &str = "
CREATE TABLE roots (size INTEGER PRIMARY KEY, root BLOB NOT NULL) STRICT;
CREATE TABLE claims (
    author INTEGER NOT NULL,
    size   INTEGER NOT NULL,
    root   BLOB NOT NULL,
    signed BLOB NOT NULL,
    proof  BLOB NOT NULL,
    PRIMARY KEY (author, size, root)
) STRICT;
CREATE INDEX claims_size ON claims (size);
CREATE TABLE evidence (
    key      TEXT NOT NULL,
    at       INTEGER NOT NULL,
    sentence TEXT NOT NULL,
    shown    BLOB NOT NULL,
    proof    BLOB NOT NULL,
    held     BLOB NOT NULL,
    UNIQUE (key, shown)
) STRICT;
";
