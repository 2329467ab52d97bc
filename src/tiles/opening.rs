//! The log at the start of a relay: its files and the journal must tell one history.

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use super::{CHECKPOINT_FILE, DiskFolder, Folder, LogError, SIGNED_FILE, View, view::file};
use crate::{
    audit::{AuditError, Checkpoint, LogTrust},
    merkle::Frontier,
    note::Note,
    wire::Position,
};

/// Where a log's files are.
#[derive(Clone)]
pub struct LogFiles {
    /// What anybody may be shown: tiles, bundles, the published checkpoint.
    pub served: Arc<dyn Folder>,
    /// The newest signed checkpoint, and a copy of the published one.
    pub kept: Arc<dyn Folder>,
}

impl LogFiles {
    /// The folders `log` and `log.kept` of a relay's folder.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn of_relay(dir: &Path) -> Result<LogFiles, LogError> {
        let open = |name: &str| -> Result<Arc<dyn Folder>, LogError> {
            let path = dir.join(name);
            let opened = DiskFolder::open(&path).map_err(|source| LogError::File { path, source })?;
            Ok(Arc::new(opened))
        };
        Ok(LogFiles { served: open("log")?, kept: open("log.kept")? })
    }

    /// The checkpoint that was published last: the larger of two copies, for a crash comes between them, and the served one
    /// may be deleted.
    ///
    /// # Errors
    /// [`LogError::File`], [`LogError::Damaged`].
    pub fn published(&self) -> Result<Option<Bytes>, LogError> {
        let read = |folder: &Arc<dyn Folder>| {
            let note = folder.read(CHECKPOINT_FILE).map_err(|source| file(CHECKPOINT_FILE, source))?;
            let Some(note) = note else { return Ok(None) };
            let damaged = |source| LogError::Damaged { path: CHECKPOINT_FILE.into(), source };
            Ok::<_, LogError>(Some((unsigned(&note).map_err(damaged)?.size, Bytes::from(note))))
        };
        // The last of equals: what is kept is written first, and may have more cosignatures.
        let newest =
            [read(&self.served)?, read(&self.kept)?].into_iter().flatten().max_by_key(|(size, _)| *size);
        Ok(newest.map(|(_, note)| note))
    }
}

/// A log that may go on.
pub struct Continued {
    /// Where its files are.
    pub files: LogFiles,
    /// The newest checkpoint that was signed, and its note.
    pub signed: Option<(Checkpoint, Bytes)>,
    /// Tiles of all leaves of the journal, those of the newest not yet written.
    pub view: View,
}

/// A log whose newest checkpoint is known, and whose journal is still being read.
pub struct Opening {
    files: LogFiles,
    signed: Option<(Checkpoint, Bytes)>,
    view: View,
    /// Whether leaves below the signed checkpoint are taken again, which must make its root.
    is_checked: bool,
}

impl Opening {
    /// Reads the newest signed checkpoint and the right edge of the tiles. `trust` holds the relay's own log key. One
    /// that another key has signed is taken, too: whether a roster listed that key is known when the journal is read.
    ///
    /// # Errors
    /// [`LogError::File`], [`LogError::Damaged`].
    pub fn new(files: LogFiles, trust: &LogTrust) -> Result<Opening, LogError> {
        let note = files.kept.read(SIGNED_FILE).map_err(|source| file(SIGNED_FILE, source))?;
        let signed = match note {
            None => None,
            Some(note) => {
                let opened = match trust.open(&note) {
                    Err(AuditError::Unsigned) => unsigned(&note),
                    opened => opened.map(|opened| opened.checkpoint),
                };
                let damaged = |source| LogError::Damaged { path: SIGNED_FILE.into(), source };
                Some((opened.map_err(damaged)?, Bytes::from(note)))
            }
        };
        let view = View::open(files.served.clone(), signed.as_ref().map(|(checkpoint, _)| checkpoint))?;
        let is_checked = signed.as_ref().is_none_or(|(checkpoint, _)| view.size() == checkpoint.size);
        Ok(Opening { files, signed, view, is_checked })
    }

    /// The first leaf that it still needs.
    pub fn from(&self) -> Position {
        Position(self.view.size())
    }

    /// Takes a leaf of the journal; those that it has are passed over.
    ///
    /// # Errors
    /// [`LogError::File`], or [`LogError::Forked`] where the leaves make another root than was signed.
    pub fn take(&mut self, position: Position, leaf: &Bytes) -> Result<(), LogError> {
        if position != self.from() {
            return Ok(());
        }
        // A copy: the leaf shares the memory of a whole batch.
        self.view.take(Bytes::copy_from_slice(leaf))?;
        match &self.signed {
            Some((signed, _)) if !self.is_checked && self.view.size() == signed.size => {
                if self.view.root() != signed.root {
                    return Err(forked(signed));
                }
                self.is_checked = true;
                // What was signed can be asked for from the first moment on.
                self.view.write()
            }
            _ => Ok(()),
        }
    }

    /// Holds what was read so far, of a journal that has so many records more, against what was signed and against other
    /// checkpoints that this log's key signed; gives the first that is none of this history. What falls into the records
    /// that are still to come, only [`Opening::finish`] and another call can tell.
    ///
    /// # Errors
    /// [`LogError::Forked`] for the signed one, [`LogError::File`], [`LogError::Damaged`].
    pub fn check<'a>(
        &mut self,
        tree: &Frontier,
        more: u64,
        others: &'a [Checkpoint],
    ) -> Result<Option<&'a Checkpoint>, LogError> {
        let is_whole = self.view.size() == tree.size();
        if let Some((signed, _)) = &self.signed
            && (signed.size > tree.size() + more || (is_whole && self.view.root() != tree.root()))
        {
            return Err(forked(signed));
        }
        for other in others {
            let is_ahead = other.size > tree.size() + more;
            if is_ahead || (is_whole && other.size <= tree.size() && !self.view.leads_from(other)?) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// The journal is read: it must hold all that was signed, and the tiles must make its root.
    ///
    /// # Errors
    /// [`LogError::Forked`], [`LogError::Disagrees`].
    pub fn finish(self, tree: &Frontier) -> Result<Continued, LogError> {
        let agrees = self.view.size() == tree.size() && self.view.root() == tree.root();
        match &self.signed {
            Some((signed, _)) if signed.size > tree.size() || !agrees => Err(forked(signed)),
            None if !agrees => Err(LogError::Disagrees { size: tree.size() }),
            _ => Ok(Continued { files: self.files, signed: self.signed, view: self.view }),
        }
    }
}

/// What a note says, whoever signed it.
fn unsigned(note: &[u8]) -> Result<Checkpoint, AuditError> {
    Note::parse(note).map_err(AuditError::from).and_then(|note| note.text().parse())
}

fn forked(signed: &Checkpoint) -> LogError {
    LogError::Forked { size: signed.size, path: SIGNED_FILE.into() }
}
