//! How far this desk has followed and verified the audit log: what it will hold against the relay for ever.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::params;

use super::{Store, StoreError, Tx, claims, columns::micros, doubts, proofs, standing, tiles};
use crate::{audit::Follower, limits::PUBLISHED_APART, merkle::Hash};

/// How far this desk has verified the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Every leaf was looked at up to here.
    pub follower: Follower,
    /// The checkpoint over them with the log's signature alone; empty before the first.
    pub note: Bytes,
    /// The newest checkpoint that a quorum cosigned, as it was published; empty before the first.
    pub witnessed: Bytes,
    /// As followed beyond that, on the way to a checkpoint that is not verified yet.
    pub ahead: Option<Follower>,
}

/// A step further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Every leaf was looked at up to here.
    pub follower: Follower,
    /// Hashes of the newest of them, in order.
    pub leaves: Vec<Hash>,
    /// What they have turned out to make: no more than a claim before.
    pub verified: Option<Verified>,
    /// Whether it is verified by a checkpoint that was published just now.
    pub is_published: bool,
}

impl Store {
    /// Keeps how far the log is followed, and verified: durable before anything is cosigned. Gives whether it may be:
    /// not while an alarm says that the log does not fit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn follow(&mut self, progress: &Progress, now: Timestamp) -> Result<bool, StoreError> {
        self.write(|tx| {
            tiles::append(tx, progress.follower.size() - progress.leaves.len() as u64, &progress.leaves)?;
            begin(tx)?;
            let Some(verified) = &progress.verified else {
                let sql = "UPDATE log SET ahead = ?1";
                tx.db.prepare_cached(sql)?.execute([progress.follower.encode()])?;
                return doubts::trusts(tx);
            };
            let sql = "UPDATE log SET followed = ?1, note = ?2, witnessed = ?3, ahead = ?4";
            let ahead = verified.ahead.as_ref().map(Follower::encode);
            let row = params![verified.follower.encode(), &*verified.note, &*verified.witnessed, ahead];
            tx.db.prepare_cached(sql)?.execute(row)?;
            claims::look_at_held(tx, now)?;
            if progress.is_published {
                improve(tx)?;
            }
            doubts::trusts(tx)
        })
    }

    /// Notes that a checkpoint of so many leaves was published, which log and quorum have signed: one more by which proofs
    /// that are owed should be paid. Published again soon after, with more cosignatures, it is the same.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn published(&mut self, size: u64, now: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| {
            begin(tx)?;
            let apart = i64::try_from(PUBLISHED_APART.as_micros()).expect("seconds");
            let sql =
                "UPDATE log SET published = published + 1, published_at = ?1 WHERE abs(?1 - published_at) >= ?2";
            tx.db.prepare_cached(sql)?.execute([micros(now), apart])?;
            standing::hold_overdue(tx, size, now)
        })
    }

    /// How far the log is verified.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn verified(&self) -> Result<Verified, StoreError> {
        let corrupt = |_| StoreError::Corrupt { what: "the state of the audit log" };
        let mut statement =
            self.connection.prepare_cached("SELECT followed, note, witnessed, ahead FROM log")?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(Verified::default()) };
        let follower = Follower::decode(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
        let ahead: Option<Vec<u8>> = row.get(3)?;
        let ahead = ahead.map(|ahead| Follower::decode(&ahead)).transpose();
        let (note, witnessed): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
        Ok(Verified {
            follower: follower.map_err(corrupt)?,
            note: note.into(),
            witnessed: witnessed.into(),
            ahead: ahead.map_err(corrupt)?,
        })
    }
}

/// Makes the one row of the log, where there is none.
fn begin(tx: &Tx<'_>) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO log (one, followed, note, witnessed) VALUES (1, ?1, x'', x'')";
    tx.db.prepare_cached(sql)?.execute([Follower::new().encode()])?;
    Ok(())
}

/// A published checkpoint was verified: more may have cosigned it than before.
fn improve(tx: &Tx<'_>) -> Result<(), StoreError> {
    match proofs::witnessed(tx)? {
        Some(signed) => proofs::improve(tx, &signed),
        None => Ok(()),
    }
}
