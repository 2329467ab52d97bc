//! What authors say of the audit log: every core and every receipt names size and root of its author's newest
//! verified checkpoint (FORMATS 5 and 7), and whoever reads it holds that against the log that it has itself followed.
//! So two desks that are shown two histories learn of it from the first thing that one has of the other.
//!
//! A claim is of the log that its roster names. It is signed by its author alone: a false one accuses the relay or the
//! author, and two people on the telephone find out which.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, Tx, alarms, columns::integer, doubts, evidence::ReceivedReceipt, proofs::CutError,
    tiles,
};
use crate::{
    audit::{Follower, TileTree},
    desk::store::Delivery,
    limits::{CLAIMS_HELD_MAX, ROOTS_KEPT},
    merkle::{self, Hash},
    roster::PartyNumber,
    wire::convert::proof_frame,
};

/// What an author says of the log, and where.
pub(super) struct Claim {
    author: PartyNumber,
    roster_version: u32,
    size: u64,
    root: Hash,
    /// What it stands in: a header or the item of a receipt, as signed.
    signed: Bytes,
    /// The author's share of a batch signature over that.
    proof: Vec<u8>,
}

impl Claim {
    /// That of an envelope.
    pub(super) fn of_envelope(delivery: &Delivery) -> Claim {
        let (core, frame) = (&delivery.core, &delivery.frame);
        Claim {
            author: core.sender,
            roster_version: core.roster_version,
            size: core.checkpoint_size,
            root: core.checkpoint_root,
            signed: frame.header.clone(),
            proof: frame.proof.clone().unwrap_or_default().encode_to_vec(),
        }
    }

    /// That of a receipt.
    pub(super) fn of_receipt(receipt: &ReceivedReceipt) -> Claim {
        let item = &receipt.part.item;
        Claim {
            author: item.receiptor,
            roster_version: item.roster_version,
            size: item.checkpoint_size,
            root: item.checkpoint_root,
            signed: receipt.part.bytes.clone(),
            proof: proof_frame(&receipt.proof).encode_to_vec(),
        }
    }
}

/// What this desk says of the log: size and root of its newest verified checkpoint.
pub(super) fn own(tx: &Tx<'_>) -> Result<(u64, Hash), StoreError> {
    Ok(verified(tx)?.map_or((0, merkle::empty_root()), |follower| (follower.size(), follower.root())))
}

/// Holds a claim, whose signature was verified, against the log. One that is larger than what is verified here waits
/// for [`look_at_held`]; one that neither a kept root nor kept tiles can decide says nothing.
pub(super) fn look_at(tx: &Tx<'_>, claim: &Claim, now: Timestamp) -> Result<(), StoreError> {
    let is_ours = tx.roster.is_some_and(|roster| {
        (tx.log_since..=roster.version()).contains(&claim.roster_version)
            && tx.own().is_none_or(|own| own.number != claim.author)
    });
    if claim.size == 0 || !is_ours {
        return Ok(());
    }
    match verified(tx)? {
        Some(follower) if claim.size <= follower.size() => decide(tx, &follower, claim, now),
        Some(_) | None => hold(tx, claim),
    }
}

/// A checkpoint was verified: its root is kept, and claims that it has caught up with are looked at.
pub(super) fn look_at_held(tx: &Tx<'_>, now: Timestamp) -> Result<(), StoreError> {
    let Some(follower) = verified(tx)? else { return Ok(()) };
    let sql = "INSERT OR REPLACE INTO roots (size, root) VALUES (?1, ?2)";
    tx.db.prepare_cached(sql)?.execute(params![integer(follower.size()), follower.root()])?;
    let sql = "DELETE FROM roots WHERE size <= (SELECT size FROM roots ORDER BY size DESC LIMIT 1 OFFSET ?1)";
    tx.db.prepare_cached(sql)?.execute([ROOTS_KEPT])?;
    let sql = "DELETE FROM claims WHERE size <= ?1 RETURNING author, size, root, signed, proof";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map([integer(follower.size())], |row| {
        Ok(Claim {
            author: row.get(0)?,
            roster_version: tx.log_since,
            size: row.get(1)?,
            root: row.get(2)?,
            signed: row.get::<_, Vec<u8>>(3)?.into(),
            proof: row.get(4)?,
        })
    })?;
    let reached: Vec<Claim> = rows.collect::<Result<_, _>>()?;
    reached.iter().try_for_each(|claim| decide(tx, &follower, claim, now))
}

/// Forgets all of it: another log begins.
pub(super) fn clear(tx: &Tx<'_>) -> Result<(), StoreError> {
    tx.db.execute_batch("DELETE FROM claims; DELETE FROM roots;")?;
    Ok(())
}

/// As far as this desk has verified the log that the roster names; `None` where it has nothing of that one.
fn verified(tx: &Tx<'_>) -> Result<Option<Follower>, StoreError> {
    let Some(roster) = tx.roster else { return Ok(None) };
    let sql = "SELECT followed FROM log WHERE substr(note, 1, length(?1)) = ?1";
    let head = format!("{}\n", roster.content().log.origin);
    let followed: Option<Vec<u8>> =
        tx.db.prepare_cached(sql)?.query_row([head.as_bytes()], |row| row.get(0)).optional()?;
    let follower = followed.map(|followed| Follower::decode(&followed)).transpose();
    follower.map_err(|_| StoreError::Corrupt { what: "the state of the audit log" })
}

/// Keeps a claim until the log has been followed so far: of each author the smallest, which are reached first. Two
/// histories that part stay apart, so that any later one tells as much.
fn hold(tx: &Tx<'_>, claim: &Claim) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO claims (author, size, root, signed, proof) VALUES (?1, ?2, ?3, ?4, ?5)";
    let row = params![claim.author, integer(claim.size), claim.root, &claim.signed[..], claim.proof];
    tx.db.prepare_cached(sql)?.execute(row)?;
    let sql = "DELETE FROM claims WHERE (author, size, root) IN
        (SELECT author, size, root FROM claims WHERE author = ?1 ORDER BY size, root LIMIT -1 OFFSET ?2)";
    tx.db.prepare_cached(sql)?.execute(params![claim.author, CLAIMS_HELD_MAX])?;
    Ok(())
}

impl Store {
    /// The root that the log had at an earlier size, as far as this desk has verified it; `None` where neither a kept
    /// root nor kept tiles can tell.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn root_at(&self, size: u64) -> Result<Option<Hash>, StoreError> {
        let tx = self.read();
        match verified(&tx)? {
            Some(follower) if size <= follower.size() => root_at(&tx, &follower, size),
            Some(_) | None => Ok(None),
        }
    }
}

fn root_at(tx: &Tx<'_>, follower: &Follower, size: u64) -> Result<Option<Hash>, StoreError> {
    let sql = "SELECT root FROM roots WHERE size = ?1";
    let kept: Option<Hash> =
        tx.db.prepare_cached(sql)?.query_row([integer(size)], |row| row.get(0)).optional()?;
    match kept {
        Some(root) => Ok(Some(root)),
        None if size == follower.size() => Ok(Some(follower.root())),
        None => old_root(tx, follower, size),
    }
}

/// Holds a claim against what is verified here and is at least as large.
fn decide(tx: &Tx<'_>, follower: &Follower, claim: &Claim, now: Timestamp) -> Result<(), StoreError> {
    if root_at(tx, follower, claim.size)?.is_none_or(|root| root == claim.root) {
        return Ok(());
    }
    let (code, size) = (tx.code(claim.author), claim.size);
    let sentence = format!(
        "{code} has signed that the audit log had another root at {size} leaves than this desk has verified: the relay shows \
         two histories, or {code} is wrong; this desk cosigns no checkpoint until somebody closes this alarm; mail goes on: \
         save this desk's folder and what `pouch alarms --json --all` prints, do not restart anything, and telephone {code} and the \
         ministry's watch officer to compare your checkpoints"
    );
    let shown = doubts::Shown { what: &claim.signed, proof: &claim.proof };
    doubts::raise(tx, now, alarms::FORKED, &sentence, &shown)
}

/// The root of the first so many leaves, from tiles that make the verified root; `None` where some are not kept.
fn old_root(tx: &Tx<'_>, follower: &Follower, old_size: u64) -> Result<Option<Hash>, StoreError> {
    let read = |path| tiles::read(tx, path)?.ok_or(CutError::Missing(path));
    let mut tree = TileTree::new(follower.size(), read);
    let both = tree.old_root(old_size).and_then(|root| Ok((root, tree.consistency_path(old_size)?)));
    match both {
        // Nobody is accused by tiles that do not make the tree that was verified.
        Ok((root, path)) => {
            let (size, newest) = (follower.size(), follower.root());
            Ok(merkle::verify_consistency(old_size, root, size, newest, &path).is_ok().then_some(root))
        }
        Err(CutError::Store(error)) => Err(error),
        Err(CutError::Missing(_) | CutError::Audit) => Ok(None),
    }
}
