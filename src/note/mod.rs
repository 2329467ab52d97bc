//! C2SP signed notes (signed-note v1.0.0, FORMATS 8): read, write, verify.
//!
//! A note is text, an empty line, and signature lines. Rosters and checkpoints are notes. Signing
//! needs a private key and lives in `keys`, which signs [`signed_bytes`] and adds a
//! [`NoteSignature`].

mod vkey;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::limits::NOTE_SIGNATURES_MAX;

pub use vkey::{KEY_ID_BYTES, KeyId, KeyKind, Vkey};

/// A note: text, and signatures that nobody has verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line: who claims to have signed, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The signer's name: not empty, no spaces, no `+`.
    pub name: String,
    /// The first four bytes of the key's hash, as in its [`Vkey`].
    pub key_id: KeyId,
    /// The signature as its kind of key makes it; 64 bytes for Ed25519, 72 for a cosignature.
    pub blob: Vec<u8>,
}

/// A key that signed a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'k> {
    /// The key.
    pub key: &'k Vkey,
    /// When a cosignature says that it was made, in seconds of Unix time.
    pub time: Option<u64>,
}

impl Note {
    /// A note that nobody has signed yet.
    ///
    /// # Errors
    /// [`NoteError::Text`].
    pub fn new(text: &str) -> Result<Note, NoteError> {
        let clean = text.chars().all(|c| c == '\n' || c >= ' ');
        if !clean || !text.ends_with('\n') {
            return Err(NoteError::Text);
        }
        Ok(Note { text: text.to_owned(), signatures: Vec::new() })
    }

    /// Reads a note with at least one signature line; verifies nothing. The caller bounds its length.
    ///
    /// # Errors
    /// [`NoteError::Text`], [`NoteError::Line`], [`NoteError::SignaturesCount`].
    pub fn parse(bytes: &[u8]) -> Result<Note, NoteError> {
        let whole = str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        // The last empty line separates text from signatures, and the text keeps its final newline.
        let split = whole.rfind("\n\n").ok_or(NoteError::SignaturesCount)? + 1;
        let (text, lines) = (&whole[..split], &whole[split + 1..]);
        let mut note = Note::new(text)?;
        if lines.is_empty() || lines.lines().count() > NOTE_SIGNATURES_MAX {
            return Err(NoteError::SignaturesCount);
        }
        note.signatures = lines.split_inclusive('\n').map(str::parse).collect::<Result<_, _>>()?;
        Ok(note)
    }

    /// The text, including its final newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures in the order of their lines, not verified.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature, in place of one by the same name and key id.
    ///
    /// # Errors
    /// [`NoteError::SignaturesCount`] if there are 16 already.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        self.signatures.retain(|known| (&known.name, known.key_id) != (&signature.name, signature.key_id));
        if self.signatures.len() == NOTE_SIGNATURES_MAX {
            return Err(NoteError::SignaturesCount);
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// The note as it is stored, sent and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// Which of the keys signed; each at most once, in the order of the keys. Signatures by others
    /// are ignored, as the standard demands.
    ///
    /// # Errors
    /// [`NoteError::Signature`] if a line claims one of the keys and does not verify under it: then
    /// the whole note is to be refused.
    pub fn verify<'k>(&self, keys: &'k [Vkey]) -> Result<Vec<Verified<'k>>, NoteError> {
        let mut verified = Vec::new();
        for key in keys {
            let lines = self.signatures.iter();
            let claims = lines.filter(|line| line.name == key.name() && line.key_id == key.key_id());
            let mut times =
                claims.map(|line| verify_line(&self.text, line, key)).collect::<Result<Vec<_>, _>>()?;
            if let Some(time) = times.pop() {
                verified.push(Verified { key, time });
            }
        }
        Ok(verified)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| line.fmt(f))
    }
}

impl FromStr for NoteSignature {
    type Err = NoteError;

    /// Reads one line, its newline included.
    fn from_str(line: &str) -> Result<NoteSignature, NoteError> {
        let fields = line.strip_prefix("\u{2014} ").and_then(|rest| rest.strip_suffix('\n'));
        let (name, encoded) = fields.and_then(|fields| fields.split_once(' ')).ok_or(NoteError::Line)?;
        let blob = base64_bytes(encoded).ok_or(NoteError::Line)?;
        match blob.split_first_chunk::<KEY_ID_BYTES>() {
            Some((key_id, blob)) if vkey::is_name(name) && !blob.is_empty() => {
                Ok(NoteSignature { name: name.to_owned(), key_id: KeyId(*key_id), blob: blob.to_vec() })
            }
            Some(_) | None => Err(NoteError::Line),
        }
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&signature_line(&self.name, self.key_id, &self.blob))
    }
}

/// Why bytes are no note, no key, or not signed. Texts name no value: it may come from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text is not UTF-8, has control characters, or does not end in a newline.
    #[error("a note's text is UTF-8 without tabs or other control characters, and ends in a newline")]
    Text,
    /// A signature line is malformed.
    #[error("a signature line reads `\u{2014} NAME BASE64`, one space each, canonical base64")]
    Line,
    /// No signature line after the last empty line, or too many.
    #[error("a note ends in an empty line and 1 to {NOTE_SIGNATURES_MAX} signature lines")]
    SignaturesCount,
    /// A line claims a known key, and its signature is wrong.
    #[error("a signature by a known key does not verify: the note was changed, or another text was signed")]
    Signature,
    /// A verifier key is malformed, or its key id is not its own.
    #[error("a verifier key reads `NAME+HEX8+BASE64`, where HEX8 is the hash of the rest (signed-note)")]
    Vkey,
    /// A verifier key is of a kind that Pouch has no use for.
    #[error("a verifier key is of type 01, Ed25519, or 04, cosignature")]
    Kind,
}

/// What a note's Ed25519 signature (type 01) is over: the text as it stands.
pub fn signed_bytes(text: &str) -> &[u8] {
    text.as_bytes()
}

/// What a cosignature (type 04) made at `time` is over (tlog-cosignature); `text` is a checkpoint's.
pub fn cosigned_bytes(time: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

/// The bytes that a text in base64 stands for, in its one form: the library also reads several padded texts written
/// one after another.
pub fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.as_bytes()).ok().filter(|bytes| BASE64.encode(bytes) == text)
}

/// One signature line, its newline included.
pub fn signature_line(name: &str, key_id: KeyId, blob: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", BASE64.encode(&[&key_id.0, blob].concat()))
}

/// Verifies one line; returns a cosignature's time.
fn verify_line(text: &str, line: &NoteSignature, key: &Vkey) -> Result<Option<u64>, NoteError> {
    let (time, signed, signature) = match key.kind() {
        KeyKind::Ed25519 => (None, signed_bytes(text).to_vec(), line.blob.as_slice()),
        KeyKind::Cosignature => {
            let (time, signature) = line.blob.split_first_chunk().ok_or(NoteError::Signature)?;
            let time = u64::from_be_bytes(*time);
            (Some(time), cosigned_bytes(time, text), signature)
        }
    };
    let public = UnparsedPublicKey::new(&ED25519, key.public());
    public.verify(&signed, signature).map_err(|_| NoteError::Signature)?;
    Ok(time)
}
