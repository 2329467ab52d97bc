//! What the roster allows: the one place that decides whether a party may take part and whether an
//! envelope may pass.

use crate::{
    identity::{Kind, SpiffeId},
    limits,
    merkle::Hash,
    roster::{Party, PartyNumber, Roster, Status},
    wire::{
        envelope::Core,
        pb::{GoodbyeCode, RefusalCode},
    },
};

/// Finds the desk that a certificate names, if the roster lets it take part.
///
/// # Errors
/// The code to close the connection with.
pub fn admit<'a>(roster: &'a Roster, id: &SpiffeId, serial: &str) -> Result<&'a Party, GoodbyeCode> {
    let party = roster.party_by_id(id).ok_or(GoodbyeCode::NotInRoster)?;
    if !is_desk(party) {
        return Err(GoodbyeCode::NotInRoster);
    }
    if party.status != Status::Active || party.revoked_serials.iter().any(|revoked| revoked == serial) {
        return Err(GoodbyeCode::Suspended);
    }
    Ok(party)
}

/// Rosters of the past, as far as a header may still name them: version, hash, and for each party the
/// version that last changed what matters for sealing to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RosterHistory {
    hashes: std::collections::BTreeMap<u32, Hash>,
    changed: std::collections::BTreeMap<PartyNumber, u32>,
}

impl RosterHistory {
    /// Takes a new version in.
    pub fn push(&mut self, before: Option<&Roster>, roster: &Roster) {
        self.hashes.insert(roster.version(), roster.hash());
        for party in roster.parties() {
            let same = before.and_then(|before| before.party(party.number)).is_some_and(|was| {
                was.status == party.status
                    && was.clearance == party.clearance
                    && was.topics == party.topics
                    && was.sign == party.sign
            });
            if !same {
                self.changed.insert(party.number, roster.version());
            }
        }
    }

    fn is_current_for(&self, core: &Core) -> Result<(), RefusalCode> {
        if self.hashes.get(&core.roster_version) != Some(&core.roster_hash) {
            return Err(RefusalCode::RosterUnknown);
        }
        let changed =
            |party: &PartyNumber| self.changed.get(party).is_some_and(|at| *at > core.roster_version);
        let stale =
            changed(&core.sender) || core.addressees.iter().any(|addressee| changed(&addressee.party));
        if stale { Err(RefusalCode::RosterStale) } else { Ok(()) }
    }
}

/// Whether an envelope of this sender may pass now. Mailboxes and numbers are the caller's to check.
///
/// # Errors
/// The code to refuse it with.
pub fn check(
    core: &Core,
    sender: &Party,
    roster: &Roster,
    history: &RosterHistory,
    log_time_us: u64,
) -> Result<(), RefusalCode> {
    if core.trust_domain != roster.trust_domain() {
        return Err(RefusalCode::TrustDomain);
    }
    if core.sender != sender.number {
        return Err(RefusalCode::SenderMismatch);
    }
    if sender.status != Status::Active {
        return Err(RefusalCode::Suspended);
    }
    let now_s = log_time_us / 1_000_000;
    if core.expires_s <= now_s || core.expires_s > now_s + limits::EXPIRY_MAX.as_secs() {
        return Err(RefusalCode::Expiry);
    }
    history.is_current_for(core)?;
    if roster.label_rank(&core.label).is_none() || !roster.cleared(sender, &core.label) {
        return Err(RefusalCode::Label);
    }
    if !roster.may_use_topic(sender, &core.topic) {
        return Err(RefusalCode::Topic);
    }
    for addressee in &core.addressees {
        let party = roster.party(addressee.party).filter(|party| {
            is_desk(party) && party.status == Status::Active && party.number != sender.number
        });
        let party = party.ok_or(RefusalCode::UnknownAddressee)?;
        if !roster.may_use_topic(party, &core.topic) {
            return Err(RefusalCode::Topic);
        }
        if !roster.cleared(party, &core.label) {
            return Err(RefusalCode::Label);
        }
    }
    Ok(())
}

/// Plain words for a certificate that is not admitted, for the clerk at its desk.
pub fn admission_words(code: GoodbyeCode) -> &'static str {
    match code {
        GoodbyeCode::NotInRoster => {
            "the roster in force lists no desk with this certificate's name; ask the ministry to add it"
        }
        GoodbyeCode::Suspended => {
            "this party or its certificate is suspended or revoked; telephone the ministry"
        }
        _ => "not admitted; ask the ministry's operators",
    }
}

/// Plain words for a refusal, ending with what to do. They say nothing about who exists.
pub fn words(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Unspecified => "refused; ask the ministry's operators",
        RefusalCode::Malformed => "the envelope cannot be read; update pouch at the sender",
        RefusalCode::SenderMismatch => {
            "the envelope names another sender than the certificate; check the desk's PKI folder"
        }
        RefusalCode::BadSignature => {
            "not signed by the key that the roster lists; check the desk's sign key against the roster"
        }
        RefusalCode::OldNumber => {
            "the submission number is older than the relay remembers; the desk resynchronises by itself"
        }
        RefusalCode::NumberReused => {
            "the submission number was used for another envelope; the desk resynchronises by itself"
        }
        RefusalCode::RosterStale => {
            "the roster changed for sender or addressee; the desk seals again by itself"
        }
        RefusalCode::RosterUnknown => {
            "the relay does not have the roster that this desk addressed by; tell the ministry, then send it again"
        }
        RefusalCode::UnknownAddressee => {
            "an addressee may not receive; check the addressees against the roster"
        }
        RefusalCode::Topic => {
            "sender or addressee is not cleared for the topic; choose another topic or ask the ministry"
        }
        RefusalCode::Label => {
            "the label is unknown or above a clearance; lower the label or take the addressee out"
        }
        RefusalCode::Expiry => {
            "the envelope has no expiry, is past it, or expires more than 60 days ahead; send it again"
        }
        RefusalCode::Suspended => "this party is suspended; telephone the ministry",
        RefusalCode::MailboxFull => "an addressee's mailbox is full; send again when it is in contact",
        RefusalCode::TrustDomain => "the envelope is for another trust domain; check the desk's trust bundle",
        RefusalCode::Quota => "the sender's quota is used up; send again later",
    }
}

/// Whether a party has a mailbox.
fn is_desk(party: &Party) -> bool {
    matches!(party.kind, Kind::Mission | Kind::Hub)
}
