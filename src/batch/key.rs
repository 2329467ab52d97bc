//! Ed25519 public keys, and which of them nobody may have.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

/// Bytes of an Ed25519 public key.
const KEY_BYTES: usize = 32;

/// An Ed25519 public key. Shown as 64 lower-case hex digits.
///
/// The tuple constructor refuses nothing; keys from a file or a peer go through
/// [`checked`](PublicKey::checked) once, when they enter a roster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; KEY_BYTES]);

impl PublicKey {
    /// Takes a key from outside.
    ///
    /// # Errors
    /// [`KeyError::Length`], [`KeyError::SmallOrder`] for a point under which signatures can be made
    /// that verify over anything, [`KeyError::NotCanonical`] for a second encoding of a point.
    pub fn checked(bytes: &[u8]) -> Result<PublicKey, KeyError> {
        let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| KeyError::Length { bytes: bytes.len() })?;
        // The top bit is the sign of x; the rest is y.
        let mut y = key;
        y[KEY_BYTES - 1] &= 0x7f;
        if SMALL_ORDER_Y.contains(&y) {
            return Err(KeyError::SmallOrder);
        }
        if y.iter().rev().ge(FIELD_PRIME.iter().rev()) {
            return Err(KeyError::NotCanonical);
        }
        Ok(PublicKey(key))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads exactly what `Display` writes, and checks it.
    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        PublicKey::checked(&HEXLOWER.decode(text.as_bytes()).map_err(|_| KeyError::Text)?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why bytes are no public key that a party may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the length of a key.
    #[error("a public key has 32 bytes, not {bytes}")]
    Length {
        /// The length found.
        bytes: usize,
    },
    /// Not lower-case hex.
    #[error("a public key is written as 64 lower-case hex digits")]
    Text,
    /// A point of small order: it proves nothing about who signed.
    #[error("the public key is a point of small order, under which anybody can sign")]
    SmallOrder,
    /// Another encoding of a point that has a shorter one: would hide a duplicate.
    #[error("the public key is not in canonical form")]
    NotCanonical,
}

/// p = 2^255 - 19, little endian as in a key.
const FIELD_PRIME: [u8; KEY_BYTES] = little_end(0xed, 0x7f);

/// The y of every point whose order divides 8, p and p + 1 (which stand for 0 and 1) among them.
const SMALL_ORDER_Y: [[u8; KEY_BYTES]; 7] = [
    [0; KEY_BYTES],
    {
        let mut one = [0; KEY_BYTES];
        one[0] = 1;
        one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    little_end(0xec, 0x7f),
    FIELD_PRIME,
    little_end(0xee, 0x7f),
];

/// A number just below or above 2^255: its first and last byte, all ones between.
const fn little_end(first: u8, last: u8) -> [u8; KEY_BYTES] {
    let mut bytes = [0xff; KEY_BYTES];
    bytes[0] = first;
    bytes[KEY_BYTES - 1] = last;
    bytes
}
