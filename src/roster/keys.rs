//! Which sign key a party had under which version.

use std::collections::BTreeMap;

use super::{PartyNumber, Roster};
use crate::batch::PublicKey;

/// The sign keys of all parties over a chain of rosters: what was signed under an earlier version stays
/// provable after a key was replaced. Some 40 bytes for each key that a party ever had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignKeys {
    /// For each party its keys, each with the version from which on it counts, rising.
    by_party: BTreeMap<PartyNumber, Vec<(u32, PublicKey)>>,
}

impl SignKeys {
    /// Takes in the next version of the chain.
    pub fn push(&mut self, roster: &Roster) {
        for party in roster.parties() {
            let keys = self.by_party.entry(party.number).or_default();
            if keys.last().is_none_or(|(_, newest)| *newest != party.sign) {
                keys.push((roster.version(), party.sign));
            }
        }
    }

    /// The key that the party had under `version`. For a version before the first that it is known in, its
    /// first key: a chain begins at the trust bundle's version, what waits at the relay may be older.
    pub fn at(&self, party: PartyNumber, version: u32) -> Option<&PublicKey> {
        let keys = self.by_party.get(&party)?;
        let later = keys.partition_point(|(from, _)| *from <= version);
        keys.get(later.saturating_sub(1)).map(|(_, key)| key)
    }
}
