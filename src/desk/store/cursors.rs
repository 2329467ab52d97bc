//! Named cursors: how far each reader has come, and which of two readers of one cursor it belongs to.
//!
//! A cursor is durable. A lease on it is not: it lives in memory for a minute or so, and is taken again and
//! again by the reader that works.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{Store, arrivals::last_register, columns::integer};
use crate::{
    desk::{
        error::DeskError,
        view::{Commit, Cursor, TakeCursor},
    },
    limits::{self, LEASE_TIME_MAX},
    line::is_line,
};

/// The leases that readers hold, by cursor; bounded by [`limits::CURSORS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<String, Lease>);

#[derive(Debug)]
struct Lease {
    reader: String,
    since: Timestamp,
    until: Timestamp,
}

impl Lease {
    /// A clock that went back ends it, too.
    fn holds(&self, now: Timestamp) -> bool {
        self.since <= now && now < self.until
    }
}

impl Leases {
    /// The lease that keeps `reader` from using a cursor.
    fn of_another(&self, name: &str, reader: &str, now: Timestamp) -> Option<&Lease> {
        self.0.get(name).filter(|lease| lease.holds(now) && lease.reader != reader)
    }
}

impl Store {
    /// Where a named reader stands; at 0 where it has not committed yet.
    ///
    /// # Errors
    /// [`DeskError::Invalid`] for a name that is empty or too long, [`DeskError::Store`].
    pub(in crate::desk) fn cursor(&self, name: &str) -> Result<Cursor, DeskError> {
        check_name("name", name)?;
        let sql = "SELECT register FROM cursors WHERE name = ?1";
        let register = self.connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?;
        Ok(Cursor { register: register.unwrap_or(0) })
    }

    /// Gives a reader the cursor for a while, or for longer where it has it: until then no other reader takes
    /// or commits it. A lease of no time gives it back. Answers where the cursor stands.
    ///
    /// # Errors
    /// [`DeskError::CursorTaken`], [`DeskError::Invalid`], [`DeskError::Store`].
    pub(in crate::desk) fn take_cursor(
        &mut self,
        name: &str,
        take: &TakeCursor,
        now: Timestamp,
    ) -> Result<Cursor, DeskError> {
        check_name("reader", &take.reader)?;
        let cursor = self.cursor(name)?;
        let lease = Duration::from_secs(take.lease_s);
        if lease > LEASE_TIME_MAX {
            return Err(DeskError::Invalid { field: "lease_s", problem: "is out of bounds; give 0 to 600" });
        }
        self.free_for(name, &take.reader, now)?;
        self.leases.0.retain(|_, lease| lease.holds(now));
        if lease.is_zero() {
            self.leases.0.remove(name);
            return Ok(cursor);
        }
        if self.leases.0.len() as u64 >= limits::CURSORS_MAX && !self.leases.0.contains_key(name) {
            return Err(one_too_many());
        }
        let until = SignedDuration::try_from(lease).ok().and_then(|lease| now.checked_add(lease).ok());
        let lease = Lease { reader: take.reader.clone(), since: now, until: until.unwrap_or(Timestamp::MAX) };
        self.leases.0.insert(name.to_owned(), lease);
        Ok(cursor)
    }

    /// Moves a named reader; it may go back, to see dispatches again.
    ///
    /// # Errors
    /// [`DeskError::CursorTaken`] while another reader has it, [`DeskError::Invalid`] beyond the register's end or
    /// for a bad name, [`DeskError::Store`].
    pub(in crate::desk) fn commit(
        &mut self,
        name: &str,
        commit: &Commit,
        now: Timestamp,
    ) -> Result<Cursor, DeskError> {
        check_name("name", name)?;
        self.free_for(name, &commit.reader, now)?;
        self.write(|tx| {
            if commit.register > last_register(tx)? {
                let problem = "is beyond the register's end; commit what `pouch inbox` has shown";
                return Err(DeskError::Invalid { field: "register", problem });
            }
            let sql = "SELECT count(*) FROM cursors WHERE name <> ?1";
            let others: u64 = tx.db.prepare_cached(sql)?.query_row([name], |row| row.get(0))?;
            if others >= limits::CURSORS_MAX {
                return Err(one_too_many());
            }
            let sql = "INSERT OR REPLACE INTO cursors (name, register) VALUES (?1, ?2)";
            tx.db.prepare_cached(sql)?.execute(params![name, integer(commit.register)])?;
            Ok(Cursor { register: commit.register })
        })
    }

    fn free_for(&self, name: &str, reader: &str, now: Timestamp) -> Result<(), DeskError> {
        match self.leases.of_another(name, reader, now) {
            Some(lease) => {
                Err(DeskError::CursorTaken { name: name.to_owned(), until: whole_seconds(lease.until) })
            }
            None => Ok(()),
        }
    }
}

fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

fn one_too_many() -> DeskError {
    let problem = "would be one cursor too many; use one of those there are";
    DeskError::Invalid { field: "name", problem }
}

fn check_name(field: &'static str, name: &str) -> Result<(), DeskError> {
    if !name.is_empty() && is_line(name, limits::NAME_BYTES_MAX) {
        return Ok(());
    }
    Err(DeskError::Invalid { field, problem: "is no name; use one line of 1 to 128 bytes" })
}
