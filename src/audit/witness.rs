//! What a log asks of a witness, and what it answers (tlog-witness, add-checkpoint).

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use data_encoding::BASE64;

use super::{
    AuditError, Checkpoint, LogTrust,
    checkpoint::{base64_hash, decimal},
};
use crate::{
    limits::ADD_CHECKPOINT_BYTES_MAX,
    merkle::{self, Hash, MerkleError},
    note::Note,
};

/// Hashes of a consistency path that one request may hold.
pub const OLD_LINE_PATH_MAX: usize = 63;

/// A log's request: here is a checkpoint, and the proof that it follows the one you signed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness signed last, as the log remembers; 0 where there is none.
    pub old_size: u64,
    /// From that size to the checkpoint's.
    pub path: Vec<Hash>,
    /// The checkpoint, a signed note.
    pub checkpoint: String,
}

/// What a witness answers. The numbers are HTTP's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200: a cosignature follows.
    Cosigned(String),
    /// 400: the request cannot be read.
    Malformed,
    /// 403: no valid signature of the log's.
    BadSignature,
    /// 404: a log that this witness does not watch.
    UnknownLog,
    /// 409: the old size is another one: this.
    Conflict(u64),
    /// 422: the proof is wrong, or another root was signed at this size.
    BadProof,
}

impl AddCheckpoint {
    /// What a witness has to say before it looks at any leaf. `last` is the checkpoint that it signed last.
    ///
    /// # Errors
    /// The answer that refuses.
    pub fn check(&self, last: Option<&Checkpoint>, trust: &LogTrust) -> Result<Checkpoint, Answer> {
        let signed = trust.open(self.checkpoint.as_bytes()).map_err(|error| match error {
            AuditError::Origin => Answer::UnknownLog,
            AuditError::Unsigned | AuditError::Note(crate::note::NoteError::Signature) => {
                Answer::BadSignature
            }
            _ => Answer::Malformed,
        })?;
        let checkpoint = signed.checkpoint;
        let (last_size, last_root) = last.map_or((0, merkle::empty_root()), |last| (last.size, last.root));
        if self.old_size > checkpoint.size {
            return Err(Answer::Malformed);
        }
        if self.old_size != last_size {
            return Err(Answer::Conflict(last_size));
        }
        merkle::verify_consistency(last_size, last_root, checkpoint.size, checkpoint.root, &self.path)
            .map_err(|_: MerkleError| Answer::BadProof)?;
        Ok(checkpoint)
    }
}

impl FromStr for AddCheckpoint {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<AddCheckpoint, AuditError> {
        if text.len() > ADD_CHECKPOINT_BYTES_MAX {
            return Err(AuditError::TooLong { what: "a request", bytes_max: ADD_CHECKPOINT_BYTES_MAX });
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(AuditError::Request)?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let path: Option<Vec<Hash>> = lines.map(base64_hash).collect();
        match (old_size, path) {
            (Some(old_size), Some(path)) if path.len() <= OLD_LINE_PATH_MAX => {
                Note::parse(checkpoint.as_bytes())?;
                Ok(AddCheckpoint { old_size, path, checkpoint: checkpoint.to_owned() })
            }
            _ => Err(AuditError::Request),
        }
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        for hash in &self.path {
            writeln!(f, "{}", BASE64.encode(hash.as_bytes()))?;
        }
        f.write_char('\n')?;
        f.write_str(&self.checkpoint)
    }
}

impl Answer {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Answer::Cosigned(_) => 200,
            Answer::Malformed => 400,
            Answer::BadSignature => 403,
            Answer::UnknownLog => 404,
            Answer::Conflict(_) => 409,
            Answer::BadProof => 422,
        }
    }

    /// The body: signature lines, or the witness's size.
    pub fn body(&self) -> String {
        match self {
            Answer::Cosigned(lines) => lines.clone(),
            Answer::Conflict(size) => format!("{size}\n"),
            Answer::Malformed | Answer::BadSignature | Answer::UnknownLog | Answer::BadProof => String::new(),
        }
    }
}
