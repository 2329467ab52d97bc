//! What one roster version alone is checked for: forms, bounds, references, and nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::{Group, Office, Party, PartyNumber, RosterDraft, RosterError, Rule, Status, Window};
use crate::batch::PublicKey;
use crate::identity::{Kind, is_trust_domain};
use crate::limits::{
    CODE_BYTES_MAX, COSIGNATURES_MAX, NAME_BYTES_MAX, ROSTER_ADDRESSES_MAX, ROSTER_GROUPS_MAX,
    ROSTER_KEYS_MAX, ROSTER_LABELS_MAX, ROSTER_LIST_MAX, ROSTER_LOG_KEYS_MAX, ROSTER_PARTIES_MAX,
    ROSTER_THRESHOLD_MAX, ROSTER_TOPICS_MAX, ROSTER_WITNESSES_MAX, TOPIC_BYTES_MAX,
};
use crate::line::is_line;
use crate::note::{KeyKind, Vkey};

const WHOLE: &str = "roster";

/// Checks a draft whose parties stand in the order of their numbers.
pub(super) fn check(draft: &RosterDraft) -> Result<(), RosterError> {
    check_head(draft)?;
    check_roster_keys(draft)?;
    check_log(draft)?;
    check_labels_and_topics(draft)?;
    at_most(draft.parties.len(), ROSTER_PARTIES_MAX, &WHOLE, "party")?;
    for party in &draft.parties {
        check_party(draft, party)?;
    }
    check_numbers_and_ids(draft)?;
    check_groups_and_offices(draft)?;
    check_codes(draft)?;
    check_keys(draft)?;
    check_witnesses(draft)
}

/// How many of the active parties are witnesses (FORMATS 9).
pub(super) fn witnesses(draft: &RosterDraft) -> usize {
    draft.parties.iter().filter(|party| party.is_witness && party.status == Status::Active).count()
}

/// The number of lying witnesses to stand: as set, or `floor((n - 1) / 4)` (FORMATS 3).
pub(super) fn faults(draft: &RosterDraft) -> usize {
    let set = draft.faults.map(|faults| usize::try_from(faults).unwrap_or(usize::MAX));
    set.unwrap_or_else(|| witnesses(draft).saturating_sub(1) / 4)
}

/// How many cosignatures make a quorum: `floor((n + f) / 2) + 1`, or 0 without witnesses (FORMATS 9).
pub(super) fn quorum(draft: &RosterDraft) -> usize {
    match witnesses(draft) {
        0 => 0,
        n => n.saturating_add(faults(draft)) / 2 + 1,
    }
}

fn check_head(draft: &RosterDraft) -> Result<(), RosterError> {
    ensure(
        is_trust_domain(&draft.trust_domain),
        &WHOLE,
        "trust_domain",
        &draft.trust_domain,
        Rule::TrustDomain,
    )?;
    ensure(draft.version >= 1, &WHOLE, "version", &draft.version, Rule::FromOne)?;
    let linked = draft.previous.is_some() == (draft.version > 1);
    ensure(linked, &WHOLE, "version", &draft.version, Rule::Previous)?;
    at_most(draft.relay_addresses.len(), ROSTER_ADDRESSES_MAX, &WHOLE, "relay_addresses")?;
    for address in &draft.relay_addresses {
        ensure(is_address(address), &WHOLE, "relay_addresses", address, Rule::Address)?;
    }
    unique(draft.relay_addresses.iter(), "relay_addresses")
}

fn check_roster_keys(draft: &RosterDraft) -> Result<(), RosterError> {
    let (place, keys) = (&"roster keys", &draft.roster.keys);
    at_most(keys.len(), ROSTER_KEYS_MAX, place, "keys")?;
    keys.iter().try_for_each(|key| check_vkey(place, key))?;
    let threshold = draft.roster.threshold;
    let reachable = usize::try_from(threshold).is_ok_and(|threshold| threshold <= keys.len());
    let sound = (1..=ROSTER_THRESHOLD_MAX).contains(&threshold) && reachable;
    ensure(sound, place, "threshold", &threshold, Rule::Threshold)
}

fn check_log(draft: &RosterDraft) -> Result<(), RosterError> {
    let (place, log) = (&"log", &draft.log);
    let sound =
        log.origin.len() <= NAME_BYTES_MAX && Vkey::new(&log.origin, KeyKind::Ed25519, [0; 32]).is_ok();
    ensure(sound, place, "origin", &log.origin, Rule::Origin)?;
    at_most(log.keys.len(), ROSTER_LOG_KEYS_MAX, place, "keys")?;
    for key in &log.keys {
        check_vkey(place, key)?;
        ensure(key.name() == log.origin, place, "keys", key, Rule::LogName)?;
    }
    Ok(())
}

fn check_vkey(place: &dyn Display, key: &Vkey) -> Result<(), RosterError> {
    ensure(key.kind() == KeyKind::Ed25519, place, "keys", key, Rule::KeyKind)?;
    match PublicKey::checked(key.public()) {
        Ok(_) => Ok(()),
        Err(error) => ensure(false, place, "keys", key, Rule::Key(error)),
    }
}

fn check_labels_and_topics(draft: &RosterDraft) -> Result<(), RosterError> {
    let (place, labels) = (&"labels", &draft.labels);
    ensure(is_name(&labels.policy), place, "policy", &labels.policy, Rule::Name)?;
    at_most(labels.classifications.len(), ROSTER_LABELS_MAX, place, "classifications")?;
    for label in &labels.classifications {
        let sound = is_name(label) && label.len() <= TOPIC_BYTES_MAX;
        ensure(sound, place, "classifications", label, Rule::Label)?;
    }
    unique(labels.classifications.iter(), "classifications")?;
    at_most(draft.topics.len(), ROSTER_TOPICS_MAX, &WHOLE, "topic")?;
    for topic in &draft.topics {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let sound = (1..=TOPIC_BYTES_MAX).contains(&topic.id.len()) && topic.id.chars().all(allowed);
        ensure(sound, &"topic", "id", &topic.id, Rule::Topic)?;
        ensure(is_name(&topic.name), &format_args!("topic {}", topic.id), "name", &topic.name, Rule::Name)?;
    }
    unique(draft.topics.iter().map(|topic| &topic.id), "topic")
}

fn check_party(draft: &RosterDraft, party: &Party) -> Result<(), RosterError> {
    let place = &format_args!("party {}", party.number);
    ensure(party.number.0 >= 1, place, "number", &party.number, Rule::FromOne)?;
    ensure(party.id.trust_domain() == draft.trust_domain, place, "id", &party.id, Rule::ForeignId)?;
    ensure(party.id.kind() == party.kind, place, "kind", &party.kind, Rule::Kind)?;
    ensure(is_code(&party.code), place, "code", &party.code, Rule::Code)?;
    ensure(is_name(&party.name), place, "name", &party.name, Rule::Name)?;
    let desk = matches!(party.kind, Kind::Hub | Kind::Mission);
    ensure(party.witness.is_some() || !desk, place, "witness", &"", Rule::WitnessMissing)?;
    let may_witness = !matches!(party.kind, Kind::Hub | Kind::Relay);
    ensure(may_witness || !party.is_witness, place, "is_witness", &true, Rule::WitnessKind)?;
    ensure(party.witness.is_some() || !party.is_witness, place, "witness", &"", Rule::WitnessMissing)?;
    at_most(party.topics.len(), ROSTER_TOPICS_MAX, place, "topics")?;
    for topic in &party.topics {
        ensure(draft.topics.iter().any(|known| known.id == *topic), place, "topics", topic, Rule::Unknown)?;
    }
    let cleared = party.clearance.is_empty() || draft.labels.classifications.contains(&party.clearance);
    ensure(cleared, place, "clearance", &party.clearance, Rule::Unknown)?;
    at_most(party.revoked_serials.len(), ROSTER_LIST_MAX, place, "revoked_serials")?;
    for serial in &party.revoked_serials {
        ensure(is_serial(serial), place, "revoked_serials", serial, Rule::Serial)?;
    }
    ensure(is_time_zone(&party.time_zone), place, "time_zone", &party.time_zone, Rule::TimeZone)?;
    at_most(party.holidays.len(), ROSTER_LIST_MAX, place, "holidays")?;
    check_windows(place, "working_hours", &party.working_hours)?;
    check_windows(place, "schedule", &party.schedule)?;
    at_most(party.duty.len(), ROSTER_LIST_MAX, place, "duty")?;
    for duty in &party.duty {
        ensure(is_name(&duty.name), place, "duty.name", &duty.name, Rule::Name)?;
        ensure(is_name(&duty.reach), place, "duty.reach", &duty.reach, Rule::Name)?;
    }
    Ok(())
}

fn check_windows(place: &dyn Display, field: &'static str, windows: &[Window]) -> Result<(), RosterError> {
    at_most(windows.len(), ROSTER_LIST_MAX, place, field)?;
    for window in windows {
        let days = window.days.iter().collect::<BTreeSet<_>>().len();
        let sound = days > 0 && days == window.days.len() && window.from != window.until;
        let value = format_args!("{} to {}", window.from, window.until);
        ensure(sound, place, field, &value, Rule::Window)?;
    }
    Ok(())
}

fn check_numbers_and_ids(draft: &RosterDraft) -> Result<(), RosterError> {
    unique(draft.parties.iter().map(|party| party.number), "party number")?;
    unique(draft.parties.iter().map(|party| &party.id), "party id")
}

fn check_groups_and_offices(draft: &RosterDraft) -> Result<(), RosterError> {
    at_most(draft.groups.len(), ROSTER_GROUPS_MAX, &WHOLE, "group")?;
    at_most(draft.offices.len(), ROSTER_GROUPS_MAX, &WHOLE, "office")?;
    for Group { code, name, members } in &draft.groups {
        let place = &format_args!("group {code}");
        ensure(is_code(code), place, "code", code, Rule::Code)?;
        ensure(is_name(name), place, "name", name, Rule::Name)?;
        at_most(members.len(), ROSTER_LIST_MAX, place, "members")?;
        for (at, member) in members.iter().enumerate() {
            ensure(is_party(draft, *member), place, "members", member, Rule::Unknown)?;
            ensure(!members[..at].contains(member), place, "members", member, Rule::Duplicate)?;
        }
    }
    draft.offices.iter().try_for_each(|office| check_office(draft, office))
}

fn check_office(draft: &RosterDraft, office: &Office) -> Result<(), RosterError> {
    let place = &format_args!("office {}", office.code);
    ensure(is_code(&office.code), place, "code", &office.code, Rule::Code)?;
    ensure(is_name(&office.name), place, "name", &office.name, Rule::Name)?;
    at_most(office.holders.len(), ROSTER_LIST_MAX, place, "holder")?;
    for term in &office.holders {
        ensure(is_party(draft, term.party), place, "holder", &term.party, Rule::Unknown)?;
        ensure(term.from <= term.until, place, "holder", &term.from, Rule::Term)?;
    }
    for pair in office.holders.windows(2) {
        ensure(pair[0].until < pair[1].from, place, "holder", &pair[1].from, Rule::Term)?;
    }
    Ok(())
}

/// Parties, groups and offices share one space of addresses.
fn check_codes(draft: &RosterDraft) -> Result<(), RosterError> {
    let parties = draft.parties.iter().map(|party| &party.code);
    let groups = draft.groups.iter().map(|group| &group.code);
    unique(parties.chain(groups).chain(draft.offices.iter().map(|office| &office.code)), "code")
}

/// No key has two uses, and none in use was revoked.
fn check_keys(draft: &RosterDraft) -> Result<(), RosterError> {
    let dead = draft.dead_keys();
    let mut seen = BTreeMap::new();
    for (key, this) in draft.key_uses() {
        ensure(!dead.contains(&key), &this, "key", &key, Rule::KeyRevoked)?;
        if let Some(other) = seen.insert(key, this) {
            let place = format_args!("{other} and {this}");
            return ensure(false, &place, "key", &key, Rule::Duplicate);
        }
    }
    Ok(())
}

fn check_witnesses(draft: &RosterDraft) -> Result<(), RosterError> {
    at_most(
        draft.parties.iter().filter(|party| party.is_witness).count(),
        ROSTER_WITNESSES_MAX,
        &WHOLE,
        "is_witness",
    )?;
    // A larger quorum could never be published, and no later roster could mend that (FORMATS 9).
    let stands = quorum(draft) <= witnesses(draft).min(COSIGNATURES_MAX);
    ensure(stands, &WHOLE, "faults", &faults(draft), Rule::Faults)
}

fn is_party(draft: &RosterDraft, number: PartyNumber) -> bool {
    draft.parties.binary_search_by_key(&number, |party| party.number).is_ok()
}

/// Whether the text may be a party's, group's or office's code: [`Rule::Code`].
pub fn is_code(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
    (1..=CODE_BYTES_MAX).contains(&text.len()) && text.chars().all(allowed)
}

/// Whether the text may be a name for people to read: [`Rule::Name`].
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && is_line(text, NAME_BYTES_MAX) && text.trim() == text
}

fn is_serial(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    digits && (2..=40).contains(&text.len()) && text.len().is_multiple_of(2) && !text.starts_with("00")
}

fn is_time_zone(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    (1..=CODE_BYTES_MAX * 4).contains(&text.len()) && text.chars().all(allowed)
}

fn is_address(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_fits =
        (1..=253).contains(&host.len()) && host.chars().all(allowed) && (bracketed || !host.contains(':'));
    host_fits && port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
}

fn unique<T: Ord + Display>(values: impl Iterator<Item = T>, field: &'static str) -> Result<(), RosterError> {
    let mut seen = BTreeSet::new();
    for value in values {
        if let Some(value) = seen.replace(value) {
            return ensure(false, &WHOLE, field, &value, Rule::Duplicate);
        }
    }
    Ok(())
}

fn at_most(count: usize, max: usize, place: &dyn Display, field: &'static str) -> Result<(), RosterError> {
    ensure(count <= max, place, field, &count, Rule::TooMany(max))
}

fn ensure(
    holds: bool,
    place: &dyn Display,
    field: &'static str,
    value: &dyn Display,
    rule: Rule,
) -> Result<(), RosterError> {
    if holds {
        return Ok(());
    }
    Err(RosterError::Field { place: place.to_string(), field, value: value.to_string(), rule })
}
