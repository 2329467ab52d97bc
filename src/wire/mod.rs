//! Bytes, frames and domain types of the wire protocol.
//!
//! [`codec`] cuts a stream into frames, [`pb`] is generated from `proto/`, [`envelope`] and
//! [`receipt`] turn signed bytes into types that cannot be wrong, [`convert`] does so for whole
//! frames, [`direct`] writes those that are many.

pub mod codec;
pub mod convert;
pub mod core;
pub mod direct;
pub mod envelope;
mod fields;
pub mod order;
#[expect(missing_docs, reason = "generated from proto/, where every field is documented")]
#[rustfmt::skip]
pub mod pb;
pub mod receipt;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::merkle::Hash;

/// Index of a journal record and of its leaf in the audit tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Stands where there is no position (FORMATS 7).
    pub const NONE: Position = Position(u64::MAX);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Strictly increasing per sender; what the relay deduplicates by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubmissionNumber(pub u64);

/// The batch leaf of an envelope's header: its name everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvelopeHash(pub Hash);

impl fmt::Display for EnvelopeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A dispatch's UUID v7, given when it enters an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DispatchId(pub [u8; 16]);

/// Speed of service, not importance. Ordered: FLASH is the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precedence {
    /// R
    Routine,
    /// P
    Priority,
    /// O
    Immediate,
    /// Z
    Flash,
}

impl Precedence {
    /// All of them, highest first: the order of service.
    pub const HIGHEST_FIRST: [Precedence; 4] =
        [Precedence::Flash, Precedence::Immediate, Precedence::Priority, Precedence::Routine];

    /// 0 for ROUTINE to 3 for FLASH.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Lower-case name as commands and the API use it.
    pub fn name(self) -> &'static str {
        match self {
            Precedence::Routine => "routine",
            Precedence::Priority => "priority",
            Precedence::Immediate => "immediate",
            Precedence::Flash => "flash",
        }
    }

    /// Reads [`Precedence::name`].
    pub fn from_name(name: &str) -> Option<Precedence> {
        Precedence::HIGHEST_FIRST.into_iter().find(|precedence| precedence.name() == name)
    }
}

/// How an envelope is addressed to a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// For action.
    To,
    /// For information.
    Info,
}

/// Signed bytes do not say what FORMATS requires of them. Names the first thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct Malformed {
    /// Field or part.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Malformed {
    pub(crate) fn new(what: &'static str, problem: &'static str) -> Malformed {
        Malformed { what, problem }
    }
}
