//! How a store's file is opened, made and brought up. Its tables stand in `tables`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, config::DbConfig, params};

use super::{StoreError, tables::TABLES, upgrades};

/// Version of the tables, in SQLite's `user_version`.
pub(super) const VERSION: i64 = 7;
const FILE: &str = "desk.sqlite";
const LOCK: &str = "desk.lock";
/// Statements kept prepared: more than the store has.
const STATEMENTS_MAX: usize = 180;

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
    // Otherwise many statements are planned anew whenever other values are bound to them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
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
        upgrades::VERSION_OLDEST..VERSION => {
            (found..VERSION).try_for_each(|from| upgrades::step(&transaction, from))?;
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
