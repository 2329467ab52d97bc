//! From one roster to the next: the TUF rule, and what must never change.

use super::{Roster, RosterDraft, RosterError, RosterKeys, Signers, TrustBundle};
use crate::limits::ROSTER_BYTES_MAX;
use crate::merkle::{Hash, sha256};
use crate::note::Note;

/// Verifies the roster that a trust bundle names: the first link of a desk's or relay's chain.
///
/// # Errors
/// [`RosterError::Bundle`] if it is another roster, [`RosterError::Unsigned`], or any other of
/// [`RosterError`] that concerns one version.
pub fn verify_first(note: &[u8], bundle: &TrustBundle) -> Result<Roster, RosterError> {
    let note_hash = bounded(note)?;
    if note_hash != bundle.roster_hash {
        return Err(RosterError::Bundle { field: "hash" });
    }
    let parsed = Note::parse(note)?;
    signed(&parsed, &bundle.keys(), Signers::InForce)?;
    let roster = Roster::checked(RosterDraft::parse(parsed.text())?, note_hash)?;
    let content = roster.content();
    for (field, same) in [
        ("version", content.version == bundle.roster_version),
        ("trust domain", content.trust_domain == bundle.trust_domain),
        ("roster keys", content.roster == bundle.keys()),
        ("log origin", content.log.origin == bundle.log_origin),
    ] {
        if !same {
            return Err(RosterError::Bundle { field });
        }
    }
    Ok(roster)
}

/// Verifies the version that follows `current` (FORMATS 3).
///
/// It carries a threshold of the keys in force and, should it change them, of its own (the TUF
/// rule); it names the hash in force; no party leaves or passes its number on; no key that was
/// revoked or retired returns, and none changes hands. Nothing is parsed before the signatures of
/// the keys in force are counted.
///
/// # Errors
/// [`RosterError::InForce`], [`RosterError::Older`], [`RosterError::Fork`] and
/// [`RosterError::Gap`] tell apart which version came; the last three keep what is in force, and the
/// middle two call for an alarm.
pub fn verify_next(note: &[u8], current: &Roster) -> Result<Roster, RosterError> {
    let note_hash = bounded(note)?;
    if note_hash == current.hash() {
        return Err(RosterError::InForce { version: current.version() });
    }
    let parsed = Note::parse(note)?;
    signed(&parsed, &current.content().roster, Signers::InForce)?;
    let draft = RosterDraft::parse(parsed.text())?;
    follows(&draft, note_hash, current)?;
    let next = Roster::checked(draft, note_hash)?;
    signed(&parsed, &next.content().roster, Signers::Own)?;
    parties_stay(&next, current)?;
    keys_stay(&next, current)?;
    Ok(next)
}

/// Verifies the version before one that is verified: it is the one whose hash that names. Who signed it does not
/// matter any more, because those who signed its successor have vouched for all of it.
///
/// # Errors
/// [`RosterError::Previous`] if it is another, or any of [`RosterError`] that concerns one version's content.
pub fn verify_previous(note: &[u8], next: &Roster) -> Result<Roster, RosterError> {
    let note_hash = bounded(note)?;
    let named = next.content().previous.unwrap_or(Hash::ZERO);
    if note_hash != named {
        return Err(RosterError::Previous { found: named, current: note_hash });
    }
    let parsed = Note::parse(note)?;
    let previous = Roster::checked(RosterDraft::parse(parsed.text())?, note_hash)?;
    if previous.version().checked_add(1) != Some(next.version()) {
        return Err(RosterError::Gap { found: next.version(), current: previous.version() });
    }
    Ok(previous)
}

/// The hash of a note that is short enough to be read.
fn bounded(note: &[u8]) -> Result<Hash, RosterError> {
    if note.len() > ROSTER_BYTES_MAX {
        return Err(RosterError::TooLong { bytes: note.len() });
    }
    Ok(sha256(note))
}

/// Counts signatures; keys are distinct by [`super::check`], so each holder counts once.
fn signed(note: &Note, keys: &RosterKeys, whose: Signers) -> Result<(), RosterError> {
    let (found, threshold) = (note.verify(&keys.keys)?.len(), keys.threshold);
    let enough = usize::try_from(threshold).is_ok_and(|threshold| threshold >= 1 && found >= threshold);
    if enough { Ok(()) } else { Err(RosterError::Unsigned { whose, found, threshold }) }
}

fn follows(draft: &RosterDraft, note_hash: Hash, current: &Roster) -> Result<(), RosterError> {
    if draft.trust_domain != current.trust_domain() {
        let (found, expected) = (draft.trust_domain.clone(), current.trust_domain().to_owned());
        return Err(RosterError::TrustDomain { found, expected });
    }
    let (found, current_version) = (draft.version, current.version());
    if found < current_version {
        return Err(RosterError::Older { found, current: current_version });
    }
    if found == current_version {
        return Err(RosterError::Fork { version: found, found: note_hash, current: current.hash() });
    }
    if found - current_version > 1 {
        return Err(RosterError::Gap { found, current: current_version });
    }
    let previous = draft.previous.unwrap_or(Hash::ZERO);
    if previous != current.hash() {
        return Err(RosterError::Previous { found: previous, current: current.hash() });
    }
    Ok(())
}

fn parties_stay(next: &Roster, current: &Roster) -> Result<(), RosterError> {
    for was in current.parties() {
        if next.party(was.number).is_none_or(|is| is.id != was.id) {
            return Err(RosterError::PartyChanged { number: was.number, was: was.id.clone() });
        }
    }
    Ok(())
}

fn keys_stay(next: &Roster, current: &Roster) -> Result<(), RosterError> {
    let (used, dead) = (next.content().keys_in_use(), next.content().dead_keys());
    let forgotten = |key| RosterError::KeyForgotten { key };
    if let Some(key) = current.content().dead_keys().into_iter().find(|key| !dead.contains(key)) {
        return Err(forgotten(key));
    }
    for (key, was) in current.content().keys_in_use() {
        match used.get(&key) {
            Some(is) if *is == was => {}
            Some(is) => return Err(RosterError::KeyMoved { key, was, is: *is }),
            None if dead.contains(&key) => {}
            None => return Err(forgotten(key)),
        }
    }
    Ok(())
}
