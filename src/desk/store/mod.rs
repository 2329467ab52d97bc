//! A desk's durable state: outbox, inbox, register, streams and receipts, all the SQLite there is.
//!
//! One [`Store`] owns the file; it lives on a thread of its own ([`StoreThread`]), which puts calls that
//! wait together under one sync. Each method that changes something is atomic, and durable before its
//! caller hears of it: `kill -9` at any instant loses nothing that was answered.
//! An SQLite failure is final for the daemon, which then stops with [`StoreError::exit_code`]. Nothing is
//! ever deleted but what was only waiting, as gaps that closed and receipts that were signed, and what means a log
//! that has ended.

mod addressing;
mod alarms;
mod answers;
mod arrivals;
mod claims;
mod clocks;
mod columns;
mod cursors;
mod doubts;
mod draft;
mod evidence;
mod exhibits;
mod expired;
mod inbox;
mod logs;
mod naming;
mod orders;
mod outbox;
mod overdue;
mod owing;
mod proofs;
mod receipts;
mod roster_leaves;
mod schema;
mod sealing;
mod standing;
mod status;
mod streams;
mod tables;
mod thread;
mod tiles;
mod upgrades;
mod verified;
#[cfg(test)]
mod tests;

pub(in crate::desk) use alarms::{AUDIT_LOG, FORKED, LOG_WHAT_NOW};
pub use answers::{Resend, Resumption, WelcomeFacts};
pub use arrivals::Delivery;
pub use evidence::ReceivedReceipt;
pub use proofs::{FetchedTiles, Proved};
pub use sealing::{Room, SealedSubmit};
pub use thread::StoreThread;
pub use verified::{Progress, Verified};

use std::{
    cell::Cell,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rusqlite::{Connection, params};
use tokio::sync::watch;

use crate::{
    config::ClocksConfig,
    identity::{Kind, SpiffeId},
    roster::{Party, Roster, RosterError, SignKeys, TrustBundle, verify_first, verify_next},
    wire::Position,
};

/// The store failed or cannot be opened. Final: the daemon stops.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon holds the lock.
    #[error("another pouch daemon uses {path}; stop it first or give this one a folder of its own", path = path.display())]
    Running {
        /// The store's folder.
        path: PathBuf,
    },
    /// The folder or a file in it cannot be made or read.
    #[error("{path}: {source}; make it writable for the user that runs pouch", path = path.display())]
    Folder {
        /// The store's folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no store of this version.
    #[error("{path} has version {found}, this pouch knows {known}; run the pouch that wrote it, or move the file away", path = path.display())]
    Version {
        /// The store's file.
        path: PathBuf,
        /// SQLite's `user_version`.
        found: i64,
        /// The one that this program writes.
        known: i64,
    },
    /// A roster that the store holds does not follow from the trust bundle.
    #[error(
        "the roster in the store does not follow from the trust bundle ({0}); check that trust.toml is the ministry's"
    )]
    Roster(#[from] RosterError),
    /// SQLite finds its own structure broken.
    #[error("{path} is damaged ({finding}); keep a copy of its folder, restore the store from a backup, and start again", path = path.display())]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// The first thing that `PRAGMA quick_check` found.
        finding: String,
    },
    /// Bytes that were checked before they were stored cannot be read any more.
    #[error("{what} in the store cannot be read; restore the store from a backup")]
    Corrupt {
        /// What could not be read.
        what: &'static str,
    },
    /// The database failed.
    #[error("database: {0}; check the disk and its free space, then start again")]
    Database(#[from] rusqlite::Error),
    /// The system gives no random bytes.
    #[error("the system's random number generator failed; restart the machine")]
    Random,
    /// The store's thread has ended, after a failure that its log names.
    #[error("the store has stopped; look at the daemon's log and start it again")]
    Stopped,
}

impl StoreError {
    /// The daemon's exit code: 70 disk failed, 71 corrupt, 73 already running, 78 configuration (DESIGN 11).
    pub fn exit_code(&self) -> u8 {
        let corrupt = [rusqlite::ErrorCode::DatabaseCorrupt, rusqlite::ErrorCode::NotADatabase].map(Some);
        match self {
            StoreError::Running { .. } => 73,
            StoreError::Version { .. } | StoreError::Roster(_) => 78,
            StoreError::Damaged { .. } | StoreError::Corrupt { .. } => 71,
            StoreError::Database(error) if corrupt.contains(&error.sqlite_error_code()) => 71,
            StoreError::Folder { .. }
            | StoreError::Database(_)
            | StoreError::Random
            | StoreError::Stopped => 70,
        }
    }
}

/// What Hello says of a store, and the roster that it holds.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Rises with each restore or replacement of the store, from 1.
    pub incarnation: u32,
    /// Random, made with the store.
    pub store_id: [u8; 16],
    /// Highest submission number ever used.
    pub last_submission: u64,
    /// Highest number of a Stored frame ever used.
    pub last_stored: u64,
    /// Administrative leaves are known below this position.
    pub position: u64,
    /// Highest position of a receipt that is kept here, or 0: what Confirm says.
    pub confirmed: u64,
    /// How far the audit log was verified.
    pub verified: Verified,
    /// Proofs that the relay owes.
    pub owed: Owed,
    /// The newest roster held.
    pub roster: Option<Arc<Roster>>,
    /// The sign keys of all parties under each roster held.
    pub keys: Arc<SignKeys>,
}

/// Proofs that the relay owes, for what it told of in sessions before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// The last leaf of which one is.
    pub last: Option<Position>,
    /// Whether the alarm stands that no checkpoint covers it ([`Store::uncovered`]).
    pub is_overdue: bool,
}

/// One desk's store. See the module's text.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    me: SpiffeId,
    roster: Option<Arc<Roster>>,
    /// Since which version rosters name the log that the newest one names.
    log_since: u32,
    keys: Arc<SignKeys>,
    changes: watch::Sender<u64>,
    leases: cursors::Leases,
    clocks: ClocksConfig,
    /// The checkpoint that was opened last: its signatures are verified once.
    opened: proofs::Opened,
    /// The first proof that is owed, and how long this desk had run when it was seen to be.
    oldest_owed: Option<(i64, Duration)>,
    /// When the relay last refused something for MINIMIZE; a restart forgets it, and is told again.
    minimize_refused: Cell<Option<Timestamp>>,
    /// Whether anything changed since the last count.
    changed: bool,
    /// Of its folder, where it has one.
    _lock: Option<File>,
}

/// One transaction and what it may need to know.
struct Tx<'a> {
    db: &'a Connection,
    me: &'a SpiffeId,
    roster: Option<&'a Roster>,
    /// Since which version rosters name the log that this one names.
    log_since: u32,
    clocks: &'a ClocksConfig,
    opened: &'a proofs::Opened,
    minimize_refused: &'a Cell<Option<Timestamp>>,
}

impl Store {
    /// Opens the store of the desk `me` in `folder`, or makes it, and verifies the rosters that it holds
    /// against the trust bundle.
    ///
    /// # Errors
    /// [`StoreError::Running`] where another process holds it, [`StoreError::Version`],
    /// [`StoreError::Roster`], or what the disk said.
    pub fn open(folder: &Path, me: SpiffeId, bundle: &TrustBundle) -> Result<Store, StoreError> {
        let schema::Opened { connection, lock } = schema::open(folder)?;
        Store::new(connection, Some(lock), me, bundle)
    }

    /// As [`Store::open`], in a database that is open already: one in memory, which no lock guards and no
    /// sync makes durable. The simulator's desks live in such.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn in_memory(
        mut connection: Connection,
        me: SpiffeId,
        bundle: &TrustBundle,
    ) -> Result<Store, StoreError> {
        schema::prepare(&mut connection, Path::new(":memory:"))?;
        Store::new(connection, None, me, bundle)
    }

    fn new(
        connection: Connection,
        lock: Option<File>,
        me: SpiffeId,
        bundle: &TrustBundle,
    ) -> Result<Store, StoreError> {
        let mut keys = SignKeys::default();
        let newest = newest_roster(&connection, bundle, &mut keys)?;
        let (roster, log_since) = newest.map_or((None, 0), |(roster, since)| (Some(Arc::new(roster)), since));
        let (keys, changes) = (Arc::new(keys), watch::Sender::new(0));
        let (leases, clocks) = (cursors::Leases::default(), ClocksConfig::default());
        let opened = proofs::Opened::default();
        Ok(Store {
            connection,
            me,
            roster,
            log_since,
            keys,
            changes,
            leases,
            clocks,
            opened,
            oldest_owed: None,
            minimize_refused: Cell::default(),
            changed: false,
            _lock: lock,
        })
    }

    /// What Hello says of this store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn facts(&self) -> Result<Facts, StoreError> {
        let verified = self.verified()?;
        // What was confirmed of a log that ended says nothing of the one that the roster names.
        let origin = self.roster.as_ref().map(|roster| roster.content().log.origin.as_str());
        let sql = "SELECT incarnation, store_id, last_submission, last_stored, position,
            iif(log_origin IN ('', coalesce(?1, '')), confirmed, 0),
            (SELECT max(proofs.position) FROM proofs WHERE checkpoint IS NULL),
            EXISTS (SELECT 1 FROM alarms WHERE key = ?2 AND closed_at IS NULL) FROM desk";
        let facts =
            self.connection.prepare_cached(sql)?.query_row(params![origin, standing::UNCOVERED], |row| {
                Ok(Facts {
                    incarnation: row.get(0)?,
                    store_id: row.get(1)?,
                    last_submission: row.get(2)?,
                    last_stored: row.get(3)?,
                    position: row.get(4)?,
                    confirmed: row.get(5)?,
                    verified,
                    owed: Owed { last: row.get(6)?, is_overdue: row.get(7)? },
                    roster: self.roster.clone(),
                    keys: self.keys.clone(),
                })
            })?;
        Ok(facts)
    }

    /// Keeps a roster that the link has verified against the one before, with the note that it came in.
    /// `position` is the one of its administrative leaf, or `None` for one read from a file.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn learn_roster(
        &mut self,
        position: Option<Position>,
        roster: Arc<Roster>,
        note: &[u8],
    ) -> Result<(), StoreError> {
        if self.roster.as_ref().is_some_and(|held| held.version() >= roster.version()) {
            return position.map_or(Ok(()), |position| self.learn_administrative(position));
        }
        self.write(|tx| {
            let sql = "INSERT INTO rosters (version, position, note) VALUES (?1, ?2, ?3)";
            tx.db.prepare_cached(sql)?.execute(params![roster.version(), position, note])?;
            position.map_or(Ok(()), |position| learned(tx, position))
        })?;
        Arc::make_mut(&mut self.keys).push(&roster);
        let origin = |roster: &Roster| roster.content().log.origin.clone();
        if self.roster.as_deref().map(origin) != Some(origin(&roster)) {
            self.log_since = roster.version();
        }
        self.roster = Some(roster);
        self.write(clocks::recount)
    }

    /// Notes that the administrative leaf at `position` was seen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn learn_administrative(&mut self, position: Position) -> Result<(), StoreError> {
        self.write(|tx| learned(tx, position))
    }

    /// Takes a higher incarnation: the answer to `INCARNATION_OLD`. Streams begin anew from here, and receipts
    /// that nobody answered wait again: another copy of this store may have used their frames' numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_incarnation(&mut self, incarnation: u32) -> Result<(), StoreError> {
        self.write(|tx| raise_incarnation(tx, incarnation))
    }

    /// A counter that rises with every change; it wakes readers up and says nothing else.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes one change: all of it is durable when this returns `Ok`, and none of it otherwise. Inside
    /// [`Store::together`] it is durable when that returns.
    fn write<R, E: From<StoreError>>(
        &mut self,
        change: impl FnOnce(&Tx<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let Store { connection, me, roster, log_since, clocks, opened, minimize_refused, .. } = self;
        let savepoint = connection.savepoint().map_err(StoreError::from)?;
        let before = savepoint.total_changes();
        let (roster, log_since) = (roster.as_deref(), *log_since);
        let tx = Tx { db: &savepoint, me, roster, log_since, clocks, opened, minimize_refused };
        let result = change(&tx)?;
        self.changed |= savepoint.total_changes() != before;
        savepoint.commit().map_err(StoreError::from)?;
        if self.connection.is_autocommit() {
            self.tell_of_changes();
        }
        Ok(result)
    }

    /// Puts all changes that `work` makes under one sync. Each succeeds or fails alone; none is durable
    /// before this returns `Ok`.
    fn together<R>(&mut self, work: impl FnOnce(&mut Store) -> R) -> Result<R, StoreError> {
        self.connection.execute_batch("BEGIN")?;
        let result = work(self);
        self.connection.execute_batch("COMMIT")?;
        self.tell_of_changes();
        Ok(result)
    }

    fn tell_of_changes(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Reads without a transaction of its own: one statement, or rows that only grow.
    fn read(&self) -> Tx<'_> {
        let Store { connection: db, me, roster, log_since, clocks, opened, minimize_refused, .. } = self;
        let (roster, log_since) = (roster.as_deref(), *log_since);
        Tx { db, me, roster, log_since, clocks, opened, minimize_refused }
    }
}

impl<'a> Tx<'a> {
    /// This desk in the roster, where one is held and knows it.
    fn own(&self) -> Option<&'a Party> {
        self.roster?.party_by_id(self.me)
    }

    /// This desk's code; before there is a roster, what its certificate suggests.
    fn own_code(&self) -> String {
        match (self.own(), self.me.name(), self.me.kind()) {
            (Some(party), _, _) => party.code.clone(),
            (None, Some(name), _) => name.to_uppercase(),
            (None, None, kind) => daemon_name(kind).to_uppercase(),
        }
    }

    /// A party's code, or its number where the roster does not know it.
    fn code(&self, party: crate::roster::PartyNumber) -> String {
        let known = self.roster.and_then(|roster| roster.party(party));
        known.map_or_else(|| format!("party-{party}"), |party| party.code.clone())
    }
}

/// The daemon that a desk of this kind runs as.
fn daemon_name(kind: Kind) -> &'static str {
    kind.as_str()
}

fn raise_incarnation(tx: &Tx<'_>, incarnation: u32) -> Result<(), StoreError> {
    let sql = "UPDATE desk SET incarnation = ?1 WHERE incarnation < ?1";
    if tx.db.execute(sql, [incarnation])? == 1 { receipts::take_back(tx) } else { Ok(()) }
}

fn learned(tx: &Tx<'_>, position: Position) -> Result<(), StoreError> {
    let sql = "UPDATE desk SET position = max(position, ?1)";
    tx.db.prepare_cached(sql)?.execute([Position(position.0.saturating_add(1))])?;
    answers::release(tx)
}

/// Walks the held rosters from the trust bundle's to the newest, and gathers their keys; says since which version
/// they name the log that the newest one names.
fn newest_roster(
    connection: &Connection,
    bundle: &TrustBundle,
    keys: &mut SignKeys,
) -> Result<Option<(Roster, u32)>, StoreError> {
    let mut statement =
        connection.prepare("SELECT note FROM rosters WHERE version >= ?1 ORDER BY version")?;
    let mut rows = statement.query([bundle.roster_version])?;
    let mut newest: Option<(Roster, u32)> = None;
    while let Some(row) = rows.next()? {
        let note = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let roster = match &newest {
            None => verify_first(note, bundle)?,
            Some((roster, _)) => verify_next(note, roster)?,
        };
        keys.push(&roster);
        let is_same_log = |before: &Roster| before.content().log.origin == roster.content().log.origin;
        let since = newest.filter(|(before, _)| is_same_log(before)).map(|(_, since)| since);
        let since = since.unwrap_or(roster.version());
        newest = Some((roster, since));
    }
    Ok(newest)
}
