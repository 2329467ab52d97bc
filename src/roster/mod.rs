//! Who the parties are and what each may do (FORMATS 3).

use std::fmt;

/// A party's number in the roster; never used again for another party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartyNumber(pub u32);

impl fmt::Display for PartyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
