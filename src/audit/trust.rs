//! Whose signatures a checkpoint needs: always from a roster, never from the log or a server (FORMATS 9).

use super::{AuditError, Checkpoint};
use crate::{
    identity::SpiffeId,
    limits::CHECKPOINT_BYTES_MAX,
    note::{KeyKind, Note, Vkey},
    roster::{PartyNumber, Roster, Status},
};

/// The log's keys and its witnesses, as one roster version has them (tlog-policy, derived).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTrust {
    origin: String,
    log_keys: Vec<Vkey>,
    witnesses: Vec<(PartyNumber, Vkey)>,
    quorum: usize,
}

/// A checkpoint that the log has signed, and who witnessed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// Size and root.
    pub checkpoint: Checkpoint,
    /// With every signature line that came, unknown ones too.
    pub note: Note,
    /// Witnesses whose cosignatures verify, by party number, rising; those alone that count.
    pub witnesses: Vec<PartyNumber>,
    /// How many of them a quorum takes; 0 where there is no witness yet.
    pub quorum: usize,
}

impl LogTrust {
    /// Whose signatures count where there is no roster at hand. Witnesses come by party number, rising.
    pub fn new(
        origin: &str,
        log_keys: Vec<Vkey>,
        witnesses: Vec<(PartyNumber, Vkey)>,
        quorum: usize,
    ) -> LogTrust {
        LogTrust { origin: origin.to_owned(), log_keys, witnesses, quorum }
    }

    /// What this roster version says.
    pub fn of(roster: &Roster) -> LogTrust {
        let log = &roster.content().log;
        let witness = |party: &crate::roster::Party| {
            let key = party.witness?;
            let vkey = Vkey::new(&witness_name(&party.id), KeyKind::Cosignature, key.0);
            Some((party.number, vkey.expect("a SPIFFE ID has neither spaces nor plus signs")))
        };
        let witnesses = roster.witnesses().filter_map(witness).collect();
        LogTrust::new(&log.origin, log.keys.clone(), witnesses, roster.quorum())
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The keys that may sign its checkpoints.
    pub fn log_keys(&self) -> &[Vkey] {
        &self.log_keys
    }

    /// How many cosignatures a checkpoint needs; 0 where there is no witness yet.
    pub fn quorum(&self) -> usize {
        self.quorum
    }

    /// The witnesses whose cosignatures count, with their keys.
    pub fn witnesses(&self) -> &[(PartyNumber, Vkey)] {
        &self.witnesses
    }

    /// A witness's key; `None` for a party whose cosignature does not count.
    pub fn witness(&self, party: PartyNumber) -> Option<&Vkey> {
        self.witnesses.iter().find(|(number, _)| *number == party).map(|(_, key)| key)
    }

    /// How many of the witnesses can still cosign once a later roster is in force: those that it has active, and with no
    /// other witness key.
    pub fn left_under(&self, roster: &Roster) -> usize {
        let can_sign = |number: PartyNumber, key: &Vkey| {
            let party = roster.party(number).filter(|party| party.status == Status::Active)?;
            let Some(own) = party.witness else { return Some(()) };
            let own = Vkey::new(&witness_name(&party.id), KeyKind::Cosignature, own.0).ok()?;
            (own == *key).then_some(())
        };
        self.witnesses.iter().filter(|(number, key)| can_sign(*number, key).is_some()).count()
    }

    /// The same log without its witnesses: for whoever asks only whether the log has signed.
    pub fn log_alone(&self) -> LogTrust {
        LogTrust::new(&self.origin, self.log_keys.clone(), Vec::new(), 0)
    }

    /// Reads a checkpoint and verifies every signature by a key that this trust knows.
    ///
    /// # Errors
    /// [`AuditError::TooLong`], [`AuditError::Note`], [`AuditError::Checkpoint`], [`AuditError::Origin`],
    /// [`AuditError::Unsigned`]. A wrong signature under a known name refuses the whole note.
    pub fn open(&self, note: &[u8]) -> Result<SignedCheckpoint, AuditError> {
        if note.len() > CHECKPOINT_BYTES_MAX {
            return Err(AuditError::TooLong { what: "a checkpoint", bytes_max: CHECKPOINT_BYTES_MAX });
        }
        let note = Note::parse(note)?;
        let checkpoint: Checkpoint = note.text().parse()?;
        if checkpoint.origin != self.origin {
            return Err(AuditError::Origin);
        }
        if note.verify(&self.log_keys)?.is_empty() {
            return Err(AuditError::Unsigned);
        }
        let mut witnesses = Vec::new();
        for (number, key) in &self.witnesses {
            if !note.verify(std::slice::from_ref(key))?.is_empty() {
                witnesses.push(*number);
            }
        }
        Ok(SignedCheckpoint { checkpoint, note, witnesses, quorum: self.quorum })
    }
}

impl SignedCheckpoint {
    /// Whether a quorum of witnesses has signed. Without witnesses nothing is witnessed.
    pub fn is_witnessed(&self) -> bool {
        self.quorum > 0 && self.witnesses.len() >= self.quorum
    }

    /// The note with the log's own signature alone: what a Hello carries, and a witness signs.
    pub fn bare(&self) -> Vec<u8> {
        let mut bare = Note::new(self.note.text()).expect("the text of a note that was read");
        let own = |line: &&crate::note::NoteSignature| line.name == self.checkpoint.origin;
        for line in self.note.signatures().iter().filter(own) {
            bare.add(line.clone()).expect("no more lines than were read");
        }
        bare.to_bytes()
    }
}

/// The name of a party's witness key on a checkpoint: its SPIFFE ID without the scheme.
pub fn witness_name(id: &SpiffeId) -> String {
    let id = id.to_string();
    id.strip_prefix("spiffe://").unwrap_or(&id).to_owned()
}
