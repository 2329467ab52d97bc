//! The roster (FORMATS 3): who the parties are, which keys are theirs, and who may do what.
//!
//! A roster is TOML inside a signed note. [`RosterDraft`] is its content as written; [`Roster`] is
//! content that was verified, from the trust bundle on ([`verify_first`]) and version by version
//! ([`verify_next`]). A roster with 16,384 parties takes some 20 MB; a dozen, some 20 KB.

mod bundle;
mod chain;
mod check;
mod draft;
mod error;
mod keys;
mod party;
mod text;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::identity::SpiffeId;
use crate::merkle::Hash;

pub use crate::identity::Kind as PartyKind;
pub use bundle::{BundleFormat, TrustBundle};
pub use chain::{verify_first, verify_next, verify_previous};
pub use check::{is_code, is_name};
pub use draft::{Format, Group, Holder, KeyUse, LabelPolicy, Log, Office, RosterDraft, RosterKeys, Topic};
pub use error::{RosterError, Rule, Signers};
pub use keys::SignKeys;
pub use party::{Day, Duty, Party, PartyNumber, Quotas, Status, Window};

/// One verified version of the roster. Share it behind an `Arc`; it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    content: RosterDraft,
    hash: Hash,
    /// Places in `content.parties`, which stand in the order of their numbers.
    by_id: BTreeMap<SpiffeId, usize>,
    by_code: BTreeMap<String, usize>,
}

impl Roster {
    /// Checks content that was signed and indexes it.
    fn checked(mut content: RosterDraft, hash: Hash) -> Result<Roster, RosterError> {
        content.parties.sort_by_key(|party| party.number);
        check::check(&content)?;
        let parties = || content.parties.iter().enumerate();
        let by_id = parties().map(|(at, party)| (party.id.clone(), at)).collect();
        let by_code = parties().map(|(at, party)| (party.code.clone(), at)).collect();
        Ok(Roster { content, hash, by_id, by_code })
    }

    /// Everything that the roster says.
    pub fn content(&self) -> &RosterDraft {
        &self.content
    }

    /// The version, from 1.
    pub fn version(&self) -> u32 {
        self.content.version
    }

    /// SHA-256 of the signed note.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The trust domain of all parties.
    pub fn trust_domain(&self) -> &str {
        &self.content.trust_domain
    }

    /// The party with this number, whatever its status.
    pub fn party(&self, number: PartyNumber) -> Option<&Party> {
        let at = self.content.parties.binary_search_by_key(&number, |party| party.number).ok()?;
        self.content.parties.get(at)
    }

    /// The party with this ID, whatever its status.
    pub fn party_by_id(&self, id: &SpiffeId) -> Option<&Party> {
        self.content.parties.get(*self.by_id.get(id)?)
    }

    /// The party with this code, in capital or small letters, whatever its status.
    pub fn party_by_code(&self, code: &str) -> Option<&Party> {
        self.content.parties.get(*self.by_code.get(&code.to_ascii_uppercase())?)
    }

    /// All parties in the order of their numbers, the revoked too.
    pub fn parties(&self) -> impl Iterator<Item = &Party> {
        self.content.parties.iter()
    }

    /// The relay: the first active party of that kind.
    pub fn relay(&self) -> Option<&Party> {
        self.parties().find(|party| party.kind == PartyKind::Relay && party.status == Status::Active)
    }

    /// The topic with this id.
    pub fn topic(&self, id: &str) -> Option<&Topic> {
        self.content.topics.iter().find(|topic| topic.id == id)
    }

    /// The group with this code, in capital or small letters.
    pub fn group(&self, code: &str) -> Option<&Group> {
        self.content.groups.iter().find(|group| group.code.eq_ignore_ascii_case(code))
    }

    /// The office with this code, in capital or small letters.
    pub fn office(&self, code: &str) -> Option<&Office> {
        self.content.offices.iter().find(|office| office.code.eq_ignore_ascii_case(code))
    }

    /// How high a label stands in the bloc's policy, from 0; `None` for one that is not in it.
    pub fn label_rank(&self, label: &str) -> Option<u8> {
        let at = self.content.labels.classifications.iter().position(|known| known == label)?;
        u8::try_from(at).ok()
    }

    /// Whether the party may write and read what carries this label.
    pub fn cleared(&self, party: &Party, label: &str) -> bool {
        match (self.label_rank(label), self.label_rank(&party.clearance)) {
            (Some(label), Some(clearance)) => label <= clearance,
            (None, _) | (_, None) => false,
        }
    }

    /// Whether the party may write and read about this topic.
    pub fn may_use_topic(&self, party: &Party, topic: &str) -> bool {
        party.topics.iter().any(|allowed| allowed == topic)
    }

    /// The active parties whose cosignatures count.
    pub fn witnesses(&self) -> impl Iterator<Item = &Party> {
        self.parties().filter(|party| party.is_witness && party.status == Status::Active)
    }

    /// How many witnesses may lie without a false checkpoint passing.
    pub fn faults(&self) -> usize {
        check::faults(&self.content)
    }

    /// How many cosignatures a checkpoint needs: 0 says that there is no witness yet (FORMATS 9).
    pub fn quorum(&self) -> usize {
        check::quorum(&self.content)
    }
}
