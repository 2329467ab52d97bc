//! The content of one roster version, as it stands in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Party, PartyNumber, Roster, RosterError, Status, check, text};
use crate::batch::PublicKey;
use crate::limits::ROSTER_BYTES_MAX;
use crate::merkle::Hash;
use crate::note::Vkey;

/// Everything that a roster says (FORMATS 3), not checked: what `pouch roster` edits and writes.
///
/// Only [`super::verify_first`] and [`super::verify_next`] make a [`Roster`] of it that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterDraft {
    /// The format, so that a roster is not taken for anything else that one might sign.
    pub format: Format,
    /// The trust domain of all its parties.
    pub trust_domain: String,
    /// The version, from 1, one more than the version before.
    pub version: u32,
    /// SHA-256 of the note of the version before; absent in version 1.
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Hash>,
    /// How many witnesses may lie; absent: a quarter of all but one, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<u32>,
    /// Where desks find the relay, `host:port`, first choice first.
    #[serde(default)]
    pub relay_addresses: Vec<String>,
    /// Keys that were in use once and must never be again, whoever held them.
    #[serde(with = "text::list", default, skip_serializing_if = "Vec::is_empty")]
    pub revoked_keys: Vec<PublicKey>,
    /// Who signs the next version.
    pub roster: RosterKeys,
    /// The audit log.
    pub log: Log,
    /// The bloc's label policy.
    pub labels: LabelPolicy,
    /// What the parties write about.
    #[serde(rename = "topic", default)]
    pub topics: Vec<Topic>,
    /// Addresses that stand for several parties.
    #[serde(rename = "group", default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Addresses that stand for one party after another.
    #[serde(rename = "office", default, skip_serializing_if = "Vec::is_empty")]
    pub offices: Vec<Office>,
    /// The parties. A party never leaves the roster; it is suspended or revoked.
    #[serde(rename = "party", default)]
    pub parties: Vec<Party>,
}

/// The one format there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// The first.
    #[serde(rename = "pouch-roster/v1")]
    V1,
}

/// The keys that sign rosters, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterKeys {
    /// How many signatures by different keys a version needs: 1 to 8.
    pub threshold: u32,
    /// The keys, Ed25519, at most 16.
    #[serde(with = "text::list")]
    pub keys: Vec<Vkey>,
}

/// The audit log's name and the keys of its checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The checkpoints' first line, and the name of the keys.
    pub origin: String,
    /// The keys, Ed25519, at most 4; none until the relay is in the roster.
    #[serde(with = "text::list", default)]
    pub keys: Vec<Vkey>,
}

/// The classifications of the bloc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelPolicy {
    /// The policy's name.
    pub policy: String,
    /// The labels, lowest first.
    pub classifications: Vec<String>,
}

/// Something to write about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// What an envelope says: lower-case letters, digits and hyphens.
    pub id: String,
    /// What people read.
    pub name: String,
}

/// An address that stands for several parties; the sending desk expands it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What people write: `ACI`.
    pub code: String,
    /// What people read.
    pub name: String,
    /// Its parties.
    pub members: Vec<PartyNumber>,
}

/// An address that one party after another holds, such as a chair that rotates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Office {
    /// What people write: `ACI-CHAIR`.
    pub code: String,
    /// What people read.
    pub name: String,
    /// Who holds it when; no two at once.
    #[serde(rename = "holder", default)]
    pub holders: Vec<Holder>,
}

/// A party's term in an office.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The holder.
    pub party: PartyNumber,
    /// Its first day, UTC.
    #[serde(with = "text")]
    pub from: Date,
    /// Its last day, UTC.
    #[serde(with = "text")]
    pub until: Date,
}

impl Office {
    /// Who holds the office on a day (UTC).
    pub fn holder_on(&self, day: Date) -> Option<PartyNumber> {
        self.holders.iter().find(|term| (term.from..=term.until).contains(&day)).map(|term| term.party)
    }
}

/// What a key is for, and whose it is; no key has two uses (FORMATS 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// It signs rosters.
    Roster,
    /// It signs checkpoints.
    Log,
    /// It makes this party's batch signatures.
    Sign(PartyNumber),
    /// It makes this party's cosignatures.
    Witness(PartyNumber),
}

impl fmt::Display for KeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyUse::Roster => f.write_str("a roster key"),
            KeyUse::Log => f.write_str("a log key"),
            KeyUse::Sign(party) => write!(f, "the sign key of party {party}"),
            KeyUse::Witness(party) => write!(f, "the witness key of party {party}"),
        }
    }
}

impl RosterDraft {
    /// Version 1 without parties, for [`add`](RosterDraft::add) to fill.
    pub fn init(
        trust_domain: &str,
        roster: RosterKeys,
        log_origin: &str,
        labels: LabelPolicy,
    ) -> RosterDraft {
        RosterDraft {
            format: Format::V1,
            trust_domain: trust_domain.to_owned(),
            version: 1,
            previous: None,
            faults: None,
            relay_addresses: Vec::new(),
            revoked_keys: Vec::new(),
            roster,
            log: Log { origin: log_origin.to_owned(), keys: Vec::new() },
            labels,
            topics: Vec::new(),
            groups: Vec::new(),
            offices: Vec::new(),
            parties: Vec::new(),
        }
    }

    /// The content of `current` with the next version's number and link, to be changed and signed.
    ///
    /// # Errors
    /// [`RosterError::VersionsUsedUp`].
    pub fn next(current: &Roster) -> Result<RosterDraft, RosterError> {
        let version = current.version().checked_add(1).ok_or(RosterError::VersionsUsedUp)?;
        Ok(RosterDraft { version, previous: Some(current.hash()), ..current.content().clone() })
    }

    /// Reads the text of a roster; checks nothing but its form.
    ///
    /// # Errors
    /// [`RosterError::TooLong`], [`RosterError::Toml`] with line, column and key.
    pub fn parse(text: &str) -> Result<RosterDraft, RosterError> {
        if text.len() > ROSTER_BYTES_MAX {
            return Err(RosterError::TooLong { bytes: text.len() });
        }
        toml::from_str(text).map_err(|error| RosterError::Toml(Box::new(error)))
    }

    /// The number that a further party gets: one more than the highest.
    pub fn next_number(&self) -> PartyNumber {
        let highest = self.parties.iter().map(|party| party.number.0).max();
        PartyNumber(highest.map_or(1, |number| number.saturating_add(1)))
    }

    /// Adds a party; [`text`](RosterDraft::text) finds what is wrong with it.
    pub fn add(&mut self, party: Party) {
        self.parties.push(party);
    }

    /// Lists every key that `current` uses and this version no longer does among the revoked ones,
    /// as [`super::verify_next`] demands.
    pub fn retire_keys_of(&mut self, current: &Roster) {
        let (used, dead) = (self.keys_in_use(), self.dead_keys());
        let gone = current.content().keys_in_use().into_keys().chain(current.content().dead_keys());
        let gone: BTreeSet<_> = gone.filter(|key| !used.contains_key(key) && !dead.contains(key)).collect();
        self.revoked_keys.extend(gone);
    }

    /// Checks everything that one version alone can be checked for, and writes the text to be signed:
    /// parties in the order of their numbers, keys in the order of this type, no tabs.
    ///
    /// # Errors
    /// [`RosterError::Field`] for the first thing wrong, [`RosterError::TooLong`].
    pub fn text(&self) -> Result<String, RosterError> {
        let mut ordered = self.clone();
        ordered.parties.sort_by_key(|party| party.number);
        check::check(&ordered)?;
        let text = toml::to_string(&ordered).map_err(RosterError::Unwritable)?;
        if text.len() > ROSTER_BYTES_MAX { Err(RosterError::TooLong { bytes: text.len() }) } else { Ok(text) }
    }

    /// Every key in use and what for; of keys used twice, which [`check`] refuses, the last use.
    pub(super) fn keys_in_use(&self) -> BTreeMap<PublicKey, KeyUse> {
        self.key_uses().collect()
    }

    /// Every use of a key, in the order of the file.
    pub(super) fn key_uses(&self) -> impl Iterator<Item = (PublicKey, KeyUse)> {
        let roster = self.roster.keys.iter().map(|key| (PublicKey(*key.public()), KeyUse::Roster));
        let log = self.log.keys.iter().map(|key| (PublicKey(*key.public()), KeyUse::Log));
        let parties = self.parties.iter().filter(|party| party.status != Status::Revoked);
        roster.chain(log).chain(parties.flat_map(party_keys))
    }

    /// Every key that must not be in use again: those listed, and those of revoked parties.
    pub(super) fn dead_keys(&self) -> BTreeSet<PublicKey> {
        let revoked = self.parties.iter().filter(|party| party.status == Status::Revoked);
        let keys = revoked.flat_map(party_keys).map(|(key, _)| key);
        keys.chain(self.revoked_keys.iter().copied()).collect()
    }
}

fn party_keys(party: &Party) -> impl Iterator<Item = (PublicKey, KeyUse)> {
    let sign = (party.sign, KeyUse::Sign(party.number));
    let witness = party.witness.map(|key| (key, KeyUse::Witness(party.number)));
    [sign].into_iter().chain(witness)
}
