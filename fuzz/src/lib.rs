//! What the fuzz targets check, as functions over bytes: each panics where a promise is broken.
//!
//! `fuzz_targets/` hands them what libFuzzer invents, `tests/corpora.rs` what it found before.

pub mod bloc;
pub mod envelope;
pub mod frame;
pub mod journal;
pub mod log;
pub mod memory;
#[path = "../../tests/support/peer.rs"]
pub mod peer;
pub mod proof_file;
pub mod roster;
pub mod session;

/// Takes fields off the front of an input. What is missing is zero, so that every input means something.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Two bytes, big endian.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Up to so many bytes.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length of two bytes, as far as they go.
    pub fn counted(&mut self) -> &'a [u8] {
        let length = usize::from(self.short());
        self.take(length)
    }
}
