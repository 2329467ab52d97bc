//! Verifier keys: who may have signed a note.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};

use super::{NoteError, base64_bytes};
use crate::merkle::sha256_parts;

/// Bytes of a key id.
pub const KEY_ID_BYTES: usize = 4;
/// Bytes of an Ed25519 public key.
const PUBLIC_BYTES: usize = 32;

/// The first four bytes of a key's hash. It finds a key; it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; KEY_ID_BYTES]);

/// What a key signs, and so what its signatures look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Type 01: Ed25519 over the text.
    Ed25519,
    /// Type 04: a witness's Ed25519 over time and text.
    Cosignature,
}

/// A verifier key: name, kind and public key, written `NAME+HEX8+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vkey {
    name: String,
    kind: KeyKind,
    public: [u8; PUBLIC_BYTES],
    key_id: KeyId,
}

impl Vkey {
    /// Gives a public key a name. Whether the key is a sound one is not looked at here.
    ///
    /// # Errors
    /// [`NoteError::Vkey`] for a name that is empty or holds a space or `+`.
    pub fn new(name: &str, kind: KeyKind, public: [u8; PUBLIC_BYTES]) -> Result<Vkey, NoteError> {
        if !is_name(name) {
            return Err(NoteError::Vkey);
        }
        let hash = sha256_parts(&[name.as_bytes(), b"\n", &[kind.as_byte()], &public]);
        let [a, b, c, d, ..] = hash.0;
        Ok(Vkey { name: name.to_owned(), kind, public, key_id: KeyId([a, b, c, d]) })
    }

    /// The signer's name, as in its signature lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the key signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The Ed25519 public key.
    pub fn public(&self) -> &[u8; PUBLIC_BYTES] {
        &self.public
    }

    /// The key id, as in the signer's lines.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }
}

impl FromStr for Vkey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Vkey, NoteError> {
        // Neither name nor hex holds a plus; base64 may.
        let mut fields = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(NoteError::Vkey);
        };
        let key = base64_bytes(key).ok_or(NoteError::Vkey)?;
        let (kind, public) = key.split_first().ok_or(NoteError::Vkey)?;
        let kind = KeyKind::from_byte(*kind)?;
        let vkey = Vkey::new(name, kind, public.try_into().map_err(|_| NoteError::Vkey)?)?;
        if id == vkey.key_id.to_string() { Ok(vkey) } else { Err(NoteError::Vkey) }
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.kind.as_byte()], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, self.key_id, BASE64.encode(&key))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl KeyKind {
    fn as_byte(self) -> u8 {
        match self {
            KeyKind::Ed25519 => 0x01,
            KeyKind::Cosignature => 0x04,
        }
    }

    fn from_byte(byte: u8) -> Result<KeyKind, NoteError> {
        match byte {
            0x01 => Ok(KeyKind::Ed25519),
            0x04 => Ok(KeyKind::Cosignature),
            _ => Err(NoteError::Kind),
        }
    }
}

/// Whether the text may name a signer (signed-note: not empty, no space of any script, no `+`).
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}
