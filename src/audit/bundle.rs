//! A bundle of entries (tlog-tiles): two bytes of length and that many bytes for each.

use bytes::Bytes;

use super::{AuditError, tile::TILE_HASHES};
use crate::limits::ADMINISTRATIVE_LEAF_BYTES_MAX;

/// Up to 256 entries of a log, in order. Entries share the memory they were read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    entries: Vec<Bytes>,
}

impl Bundle {
    /// Reads a bundle that takes up all of `bytes` and holds `width` entries.
    ///
    /// # Errors
    /// [`AuditError::Bundle`].
    pub fn parse(bytes: &Bytes, width: u16) -> Result<Bundle, AuditError> {
        let mut rest = bytes.clone();
        let mut entries = Vec::with_capacity(usize::from(width));
        while !rest.is_empty() {
            if entries.len() == usize::from(width) || rest.len() < LENGTH_BYTES {
                return Err(AuditError::Bundle);
            }
            let length = rest.split_to(LENGTH_BYTES);
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            if length > rest.len() || length > ADMINISTRATIVE_LEAF_BYTES_MAX {
                return Err(AuditError::Bundle);
            }
            entries.push(rest.split_to(length));
        }
        if entries.len() == usize::from(width) { Ok(Bundle { entries }) } else { Err(AuditError::Bundle) }
    }

    /// Where the first `width` entries of a bundle's bytes end.
    ///
    /// # Errors
    /// [`AuditError::Bundle`].
    pub fn end_of(bytes: &[u8], width: u16) -> Result<usize, AuditError> {
        let mut end = 0;
        for _ in 0..width {
            let length = bytes.get(end..end + LENGTH_BYTES).ok_or(AuditError::Bundle)?;
            end += LENGTH_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]]));
        }
        if end <= bytes.len() { Ok(end) } else { Err(AuditError::Bundle) }
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Bytes] {
        &self.entries
    }

    /// Appends one entry.
    ///
    /// # Panics
    /// With 256 entries already, or an entry of more than 60 KiB: no record has such a leaf.
    pub fn push(&mut self, entry: Bytes) {
        assert!(
            self.entries.len() < usize::try_from(TILE_HASHES).expect("256 fits"),
            "a bundle holds 256 entries"
        );
        assert!(entry.len() <= ADMINISTRATIVE_LEAF_BYTES_MAX, "an entry is a leaf of a record");
        self.entries.push(entry);
    }

    /// The bytes of its first `width` entries, as they are served.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn to_bytes(&self, width: u16) -> Vec<u8> {
        let entries = &self.entries[..usize::from(width)];
        let mut out = Vec::with_capacity(entries.iter().map(|entry| LENGTH_BYTES + entry.len()).sum());
        for entry in entries {
            let length = u16::try_from(entry.len()).expect("at most 60 KiB by `push` and `parse`");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(entry);
        }
        out
    }
}

const LENGTH_BYTES: usize = 2;
