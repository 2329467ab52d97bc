//! The rosters that a proof stands on: found from the trust bundle both ways, and where the log holds each.

use std::collections::BTreeMap;

use super::{AuditError, Checkpoint, LogTrust, Part, ProofFault, SignedCheckpoint};
use crate::{
    merkle::sha256,
    note::Note,
    roster::{
        BundleFormat, Roster, RosterDraft, RosterError, TrustBundle, verify_first, verify_next,
        verify_previous,
    },
};

/// Roster versions without a gap, each verified from the trust bundle: later ones by signatures, earlier ones by
/// hashes.
#[derive(Clone, Debug)]
pub(super) struct Rosters {
    /// Rising.
    versions: Vec<Roster>,
    /// Of the leaf that put a version in force.
    positions: BTreeMap<u32, u64>,
    /// Checkpoints that were opened before, by their text: most leaves of a file stand under one.
    opened: BTreeMap<String, Opened>,
}

/// A checkpoint with a quorum, and the version whose witnesses make it.
pub(super) type Opened = (SignedCheckpoint, u32);

impl Rosters {
    /// Verifies all notes that are connected to the bundle's version.
    pub fn verify(notes: &BTreeMap<u32, &[u8]>, bundle: &TrustBundle) -> Result<Rosters, ProofFault> {
        let wrong = |version| move |source| ProofFault::Roster { version, source };
        let version = bundle.roster_version;
        let Some(first) = notes.get(&version) else {
            let ends = |version: Option<&u32>| version.copied().unwrap_or_default();
            let (first, last) = (ends(notes.keys().next()), ends(notes.keys().next_back()));
            return Err(ProofFault::OtherBundle { version, first, last });
        };
        let named = verify_first(first, bundle).map_err(wrong(version))?;
        let (mut earlier, mut later) = (Vec::new(), Vec::new());
        let mut next = &named;
        while let Some((version, note)) =
            next.version().checked_sub(1).and_then(|before| notes.get_key_value(&before))
        {
            earlier.push(verify_previous(note, next).map_err(wrong(*version))?);
            next = earlier.last().expect("just put there");
        }
        let mut current = &named;
        while let Some((version, note)) =
            current.version().checked_add(1).and_then(|after| notes.get_key_value(&after))
        {
            later.push(verify_next(note, current).map_err(wrong(*version))?);
            current = later.last().expect("just put there");
        }
        earlier.reverse();
        earlier.push(named);
        earlier.append(&mut later);
        Ok(Rosters { versions: earlier, positions: BTreeMap::new(), opened: BTreeMap::new() })
    }

    /// Says where the log holds a version; of two claims the first counts.
    pub fn locate(&mut self, version: u32, position: u64) {
        self.positions.entry(version).or_insert(position);
    }

    pub fn position(&self, version: u32) -> Option<u64> {
        self.positions.get(&version).copied()
    }

    /// The newest version of those that name this log which stands below a position.
    pub fn in_force_at(&self, origin: &str, position: u64) -> Option<u32> {
        let names_it =
            |version| self.version(version).is_some_and(|roster| roster.content().log.origin == origin);
        let before = |(version, at): (&u32, &u64)| (*at < position && names_it(*version)).then_some(*version);
        self.positions.iter().filter_map(before).next_back()
    }

    /// A version; `None` where it is not among those that were verified.
    pub fn version(&self, version: u32) -> Option<&Roster> {
        let at = version.checked_sub(self.versions.first()?.version())?;
        self.versions.get(usize::try_from(at).ok()?)
    }

    /// The newest.
    pub fn newest(&self) -> &Roster {
        self.versions.last().expect("the bundle's version is among them")
    }

    /// From a version on, rising.
    pub fn since(&self, version: u32) -> impl Iterator<Item = &Roster> {
        self.versions.iter().skip_while(move |roster| roster.version() < version)
    }

    /// Opens a checkpoint by the newest version that it covers, or by the one before that: the first checkpoint that
    /// covers a version needs the quorum of the one before (FORMATS 9).
    pub fn open(&mut self, part: Part, note: &str) -> Result<Opened, ProofFault> {
        if let Some(opened) = self.opened.get(note) {
            return Ok(opened.clone());
        }
        let wrong = |source| ProofFault::Leaf { part, source };
        let checkpoint = Note::parse(note.as_bytes())
            .map_err(AuditError::from)
            .and_then(|note| note.text().parse::<Checkpoint>())
            .map_err(wrong)?;
        let covered = self.in_force_at(&checkpoint.origin, checkpoint.size);
        let covered = covered.ok_or(ProofFault::Unlisted { part })?;
        let before = covered.checked_sub(1).and_then(|before| self.version(before));
        let candidates = self.version(covered).into_iter().chain(before);
        let opened: Vec<_> =
            candidates.map(|roster| (roster.version(), LogTrust::of(roster).open(note.as_bytes()))).collect();
        let mut best = Err(AuditError::Unsigned);
        for (version, signed) in opened {
            match (&best, &signed) {
                (_, Ok(signed)) if signed.is_witnessed() => {
                    self.opened.insert(note.to_owned(), (signed.clone(), version));
                    return Ok((signed.clone(), version));
                }
                (Ok(_), _) => {}
                (Err(_), _) => best = signed,
            }
        }
        let signed = best.map_err(wrong)?;
        Err(ProofFault::Unwitnessed { part, found: signed.witnesses.len(), quorum: signed.quorum })
    }
}

/// The bundle that a roster would be named by if its own word were enough. It proves nothing.
pub(super) fn own_bundle(note: &[u8]) -> Result<TrustBundle, RosterError> {
    let draft = RosterDraft::parse(Note::parse(note)?.text())?;
    Ok(TrustBundle {
        format: BundleFormat::V1,
        trust_domain: draft.trust_domain,
        root_key_sha256: crate::merkle::Hash::ZERO,
        roster_version: draft.version,
        roster_hash: sha256(note),
        log_origin: draft.log.origin,
        threshold: draft.roster.threshold,
        roster_keys: draft.roster.keys,
    })
}
