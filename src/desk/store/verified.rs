//! How far this desk has verified the audit log: what it will hold against the relay for ever.

use bytes::Bytes;
use rusqlite::params;

use super::{Store, StoreError};
use crate::audit::Follower;

/// How far this desk has verified the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Every leaf was looked at up to here.
    pub follower: Follower,
    /// The checkpoint over them with the log's signature alone; empty before the first.
    pub note: Bytes,
    /// The newest checkpoint that a quorum cosigned, as it was published; empty before the first.
    pub witnessed: Bytes,
}

impl Store {
    /// Keeps how far the log is verified: durable before anything is cosigned.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_verified(&mut self, verified: &Verified) -> Result<(), StoreError> {
        self.write(|tx| {
            let sql = "INSERT OR REPLACE INTO log (one, followed, note, witnessed) VALUES (1, ?1, ?2, ?3)";
            let followed = verified.follower.encode();
            let row = params![followed, &*verified.note, &*verified.witnessed];
            tx.db.prepare_cached(sql)?.execute(row)?;
            Ok(())
        })
    }

    /// How far the log is verified.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn verified(&self) -> Result<Verified, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT followed, note, witnessed FROM log")?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(Verified::default()) };
        let followed: Vec<u8> = row.get(0)?;
        let follower = Follower::decode(&followed);
        let follower = follower.map_err(|_| StoreError::Corrupt { what: "the state of the audit log" })?;
        let (note, witnessed): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
        Ok(Verified { follower, note: note.into(), witnessed: witnessed.into() })
    }
}
