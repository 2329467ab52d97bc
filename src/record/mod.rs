//! What the journal holds: leaf, opening and body; layout and checksum.

pub mod leaf;
