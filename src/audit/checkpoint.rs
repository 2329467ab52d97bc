//! A checkpoint's text (tlog-checkpoint v1.0.0).

use std::{fmt, str::FromStr};

use data_encoding::BASE64;

use super::AuditError;
use crate::{merkle::Hash, note::base64_bytes};

/// A log's size and root, under the log's name. Written and read in one form: three lines, no extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, as in the roster.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

impl FromStr for Checkpoint {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<Checkpoint, AuditError> {
        let mut lines = text.strip_suffix('\n').ok_or(AuditError::Checkpoint)?.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(AuditError::Checkpoint);
        };
        if origin.is_empty() {
            return Err(AuditError::Checkpoint);
        }
        let size = decimal(size).ok_or(AuditError::Checkpoint)?;
        let root = base64_hash(root).ok_or(AuditError::Checkpoint)?;
        Ok(Checkpoint { origin: origin.to_owned(), size, root })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, BASE64.encode(self.root.as_bytes()))
    }
}

/// A number in its one form: ASCII digits, no sign, no leading zero.
pub(super) fn decimal<N: FromStr>(text: &str) -> Option<N> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// A hash in canonical base64.
pub(super) fn base64_hash(text: &str) -> Option<Hash> {
    Hash::try_from(base64_bytes(text)?.as_slice()).ok()
}
