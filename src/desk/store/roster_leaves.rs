//! The administrative leaves of the rosters that this desk holds, wherever it has the rosters from.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, alarms,
    doubts::{self, Shown},
    learned, owing,
};
use crate::{
    merkle::{self, Hash},
    record::administrative::{Act, AdministrativeLeaf},
    wire::Position,
};

impl Store {
    /// Keeps the administrative leaf of a roster version that is held. A proof is owed for it: it is part of every
    /// proof file. A leaf that names another roster of the version raises the alarm that the log does not fit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn learn_roster_leaf(
        &mut self,
        version: u32,
        position: Position,
        leaf: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            let sql = "SELECT note FROM rosters WHERE version = ?1";
            let held: Option<Vec<u8>> =
                tx.db.prepare_cached(sql)?.query_row([version], |row| row.get(0)).optional()?;
            let another = held.zip(named(leaf)).filter(|(note, named)| *named != merkle::sha256(note));
            if another.is_some() {
                let shown = Shown { what: leaf, proof: &[] };
                return doubts::raise(tx, now, alarms::AUDIT_LOG, &another_roster(position, version), &shown);
            }
            let sql = "UPDATE rosters SET position = ?2, leaf = ?3 WHERE version = ?1 AND leaf IS NULL";
            if tx.db.prepare_cached(sql)?.execute(params![version, position, leaf])? == 1 {
                owing::owe(tx, position, merkle::leaf_hash(leaf), now)?;
            }
            learned(tx, position)
        })
    }
}

/// The hash of the roster that a leaf names.
fn named(leaf: &[u8]) -> Option<Hash> {
    let leaf = AdministrativeLeaf::decode(leaf).ok()?;
    if let Act::Roster { hash, .. } = leaf.act { Some(hash) } else { None }
}

fn another_roster(position: Position, version: u32) -> String {
    format!(
        "the audit log names another roster of version {version} at position {position} than this desk holds; {}",
        alarms::LOG_WHAT_NOW
    )
}
