//! What the roster allows: the one place that decides whether a party may take part and whether an
//! envelope may pass.

use crate::{
    identity::{Kind, SpiffeId},
    limits::{self, Limits},
    merkle::Hash,
    roster::{Party, PartyNumber, Roster, Status},
    router::orders::Orders,
    wire::{
        Position,
        envelope::Core,
        order::{Order, OrderKind},
        pb::{GoodbyeCode, RefusalCode},
    },
};

/// Finds the desk that a certificate names, if the roster lets it take part.
///
/// # Errors
/// The code to close the connection with.
pub fn admit<'a>(
    roster: &'a Roster,
    orders: &Orders,
    now_s: u64,
    id: &SpiffeId,
    serial: &str,
) -> Result<&'a Party, GoodbyeCode> {
    admit_if(is_desk, roster, orders, now_s, id, serial)
}

/// Finds whoever a certificate names, if the roster lets it read the audit log: every party but a relay, and
/// auditors.
///
/// # Errors
/// As [`admit`].
pub fn admit_reader<'a>(
    roster: &'a Roster,
    orders: &Orders,
    now_s: u64,
    id: &SpiffeId,
    serial: &str,
) -> Result<&'a Party, GoodbyeCode> {
    admit_if(|party| party.kind != Kind::Relay, roster, orders, now_s, id, serial)
}

fn admit_if<'a>(
    fits: impl Fn(&Party) -> bool,
    roster: &'a Roster,
    orders: &Orders,
    now_s: u64,
    id: &SpiffeId,
    serial: &str,
) -> Result<&'a Party, GoodbyeCode> {
    let party = roster.party_by_id(id).filter(|party| fits(party)).ok_or(GoodbyeCode::NotInRoster)?;
    let is_revoked = party.revoked_serials.iter().any(|revoked| revoked == serial);
    if !is_active(party, orders, now_s) || is_revoked {
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
    orders: &Orders,
    history: &RosterHistory,
    log_time_us: u64,
) -> Result<(), RefusalCode> {
    if core.trust_domain != roster.trust_domain() {
        return Err(RefusalCode::TrustDomain);
    }
    if core.sender != sender.number {
        return Err(RefusalCode::SenderMismatch);
    }
    let now_s = log_time_us / 1_000_000;
    if !is_active(sender, orders, now_s) {
        return Err(RefusalCode::Suspended);
    }
    if orders.holds(core.precedence_action, now_s) {
        return Err(RefusalCode::Minimize);
    }
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
            is_desk(party) && is_active(party, orders, now_s) && party.number != sender.number
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

/// Whether the hub may give an order, whose signature and number are the caller's to check. `end` is the
/// position of the next record.
///
/// # Errors
/// Why not, in plain words for the officer who gave it.
pub fn check_order(order: &Order, roster: &Roster, end: Position, now_s: u64) -> Result<(), &'static str> {
    let is_mission = |party| roster.party(party).is_some_and(|party| party.kind == Kind::Mission);
    match order.kind {
        OrderKind::Suspend { party, .. } | OrderKind::Lift { party } if !is_mission(party) => {
            Err("the roster in force lists no mission of that number; orders suspend missions alone")
        }
        OrderKind::Suspend { until_s, .. } if until_s <= now_s => {
            Err("the time until which to suspend is past; name a later one, or lift what stands")
        }
        OrderKind::Erase { position } if position >= end => {
            Err("the log has no record at that position; `pouch relay log` lists them")
        }
        OrderKind::Suspend { .. } | OrderKind::Lift { .. } => Ok(()),
        OrderKind::Minimize { .. } | OrderKind::Erase { .. } => Ok(()),
    }
}

/// Envelopes that may wait in a party's mailbox: as the relay bounds it for all, or fewer where the roster says
/// so.
pub fn mailbox_max(roster: &Roster, party: PartyNumber, limits: &Limits) -> usize {
    let quota = roster.party(party).and_then(|party| party.quotas.mailbox_envelopes);
    let quota = quota.map(|quota| usize::try_from(quota).unwrap_or(usize::MAX));
    limits.mailbox_envelopes_max.min(quota.unwrap_or(usize::MAX))
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
            "the relay does not have the roster that this desk addressed by; the desk seals again when it has"
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
        RefusalCode::Quota => {
            "the sender's quota in the roster is used up; send it again later, or ask the ministry for a larger one"
        }
        RefusalCode::Minimize => {
            "MINIMIZE is in force; only IMMEDIATE and FLASH pass, and the desk sends the rest when it ends"
        }
    }
}

/// Whether a party may take part: by the roster, and by the orders that stand.
fn is_active(party: &Party, orders: &Orders, now_s: u64) -> bool {
    party.status == Status::Active && !orders.is_suspended(party.number, now_s)
}

/// Whether a party has a mailbox.
fn is_desk(party: &Party) -> bool {
    matches!(party.kind, Kind::Mission | Kind::Hub)
}
