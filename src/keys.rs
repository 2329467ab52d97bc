//! Private keys: how they are made, kept on disk, and used (FORMATS 1).
//!
//! A key file is PKCS#8 in PEM. It is created with mode 0600 and never over another file, and one
//! that group or others can read is refused: a key that was readable may have been read. The
//! buffers that files pass through are wiped; the key itself lives in ring as long as its holder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::batch::{self, Proof, PublicKey, Tag};
use crate::limits::BATCH_ITEMS_MAX;
use crate::merkle::{Hash, Tree};
use crate::note::{self, KeyKind, NoteError, NoteSignature, Vkey};

/// Bytes of a key file; a PKCS#8 key of ours has about 250. A longer file is refused unread.
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;

/// Why a private key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operator named a file that cannot be read or written.
    #[error("{path}: {source}: check the name and who may read it", path = path.display())]
    File {
        /// The file that was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another file stands where the key should go; it may be the only copy of a key in use.
    #[error("{path} exists already and is not overwritten; move it away first if you are sure that nothing uses it", path = path.display())]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// Group or others can read the key.
    #[error("{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`, and make a new key if anyone else uses this machine", path = path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no key of the kind that is wanted.
    #[error("{path} holds no {wanted}; name the file that `pouch pki request` or `pouch roster init` wrote", path = path.display())]
    Format {
        /// The file that was named.
        path: PathBuf,
        /// What should have been in it.
        wanted: &'static str,
    },
    /// The system gives no random bytes.
    #[error("the system's random number generator failed; restart the machine before making keys")]
    Random,
}

/// An Ed25519 private key: a party's `sign`, `witness` or `log` key, or a roster key.
///
/// It signs only what this program built: a batch root under a tag, or a note's text.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey(public {:?})", self.public())
    }
}

impl SigningKey {
    /// Makes a key that is kept in memory only.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system gives no random bytes.
    pub fn generate() -> Result<SigningKey, KeyError> {
        SigningKey::from_pkcs8(&new_pkcs8()?).ok_or(KeyError::Random)
    }

    /// Makes a key and writes it to the new file `path` with mode 0600, durable on return.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when there is a file at `path`, [`KeyError::File`] when it cannot be
    /// written, [`KeyError::Random`] when the system gives no random bytes.
    pub fn create(path: &Path) -> Result<SigningKey, KeyError> {
        let pkcs8 = new_pkcs8()?;
        write_private(path, pem(&pkcs8).as_bytes())?;
        SigningKey::from_pkcs8(&pkcs8).ok_or(KeyError::Random)
    }

    /// Reads a key from its file.
    ///
    /// # Errors
    /// [`KeyError::Exposed`] when group or others can read it, [`KeyError::File`] when it cannot
    /// be read, [`KeyError::Format`] when it is no Ed25519 key.
    pub fn load(path: &Path) -> Result<SigningKey, KeyError> {
        let wrong = || KeyError::Format { path: path.to_owned(), wanted: "Ed25519 private key" };
        let text = read_private(path)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| wrong())?;
        SigningKey::from_pkcs8(der.secret_pkcs8_der()).ok_or_else(wrong)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref();
        PublicKey(bytes.try_into().expect("ring's Ed25519 public keys have 32 bytes"))
    }

    /// Signs 1 to 64 items of one tag at once and gives each its proof, in their order
    /// (FORMATS 2).
    ///
    /// # Panics
    /// When there are no leaves or more than [`BATCH_ITEMS_MAX`]: the caller chose the batch.
    pub fn sign_batch(&self, trust_domain: &str, tag: Tag, leaves: &[Hash]) -> Vec<Proof> {
        assert!(
            (1..=BATCH_ITEMS_MAX).contains(&leaves.len()),
            "a batch holds 1 to {BATCH_ITEMS_MAX} items, not {}",
            leaves.len()
        );
        let count = u8::try_from(leaves.len()).expect("64 fits a byte");
        let tree = Tree::new(leaves);
        let signature = self.sign(&batch::signed_bytes(trust_domain, tag, count, &tree.root()));
        (0..count)
            .map(|index| Proof { count, index, path: tree.inclusion_path(usize::from(index)), signature })
            .collect()
    }

    /// Signs a note's text under the signer's `name` (C2SP signed-note, type 01).
    ///
    /// # Errors
    /// [`NoteError::Vkey`] for a name that no signer may have.
    pub fn sign_note(&self, name: &str, text: &str) -> Result<NoteSignature, NoteError> {
        let vkey = self.vkey(name)?;
        let blob = self.sign(note::signed_bytes(text)).to_vec();
        Ok(NoteSignature { name: name.to_owned(), key_id: vkey.key_id(), blob })
    }

    /// Cosigns a checkpoint's text as the witness `name`, at a time in seconds since 1970 (tlog-cosignature, type 04).
    ///
    /// # Errors
    /// [`NoteError::Vkey`] for a name that no signer may have.
    pub fn cosign(&self, name: &str, time: u64, text: &str) -> Result<NoteSignature, NoteError> {
        let vkey = Vkey::new(name, KeyKind::Cosignature, self.public().0)?;
        let signature = self.sign(&note::cosigned_bytes(time, text));
        let blob = [time.to_be_bytes().as_slice(), &signature].concat();
        Ok(NoteSignature { name: name.to_owned(), key_id: vkey.key_id(), blob })
    }

    /// The key that verifies [`SigningKey::sign_note`] under `name`, as it stands in a roster or a
    /// trust bundle.
    ///
    /// # Errors
    /// [`NoteError::Vkey`] for a name that no signer may have.
    pub fn vkey(&self, name: &str) -> Result<Vkey, NoteError> {
        Vkey::new(name, KeyKind::Ed25519, self.public().0)
    }

    fn from_pkcs8(der: &[u8]) -> Option<SigningKey> {
        // Accepts also the form without the public key, which OpenSSL writes.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
        Some(SigningKey { pair })
    }

    fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let signature = self.pair.sign(bytes);
        signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

/// Reads a TLS private key (PKCS#8, ECDSA P-256) from its file.
///
/// # Errors
/// As [`SigningKey::load`].
pub fn load_tls_key(path: &Path) -> Result<PrivateKeyDer<'static>, KeyError> {
    let text = read_private(path)?;
    match PrivatePkcs8KeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(PrivateKeyDer::Pkcs8(key)),
        Err(_) => Err(KeyError::Format { path: path.to_owned(), wanted: "private key in PKCS#8 form" }),
    }
}

/// Reads a whole private file into memory that is wiped when dropped.
///
/// # Errors
/// [`KeyError::Exposed`] when group or others can read it, [`KeyError::File`] when it cannot be
/// read or has more than 16 KiB.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // The mode of the open file, not of the name: nobody can swap the file between the two.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(KeyError::Exposed { path, mode });
    }
    if !metadata.is_file() || metadata.len() > KEY_FILE_BYTES_MAX {
        return Err(failed(io::Error::other("not a key file")));
    }
    // Room for the whole file at once, so that no copy is left behind by a growing buffer.
    let capacity = usize::try_from(KEY_FILE_BYTES_MAX).expect("16 KiB fits any usize");
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Writes the new file `path` with mode 0600; it and its name are durable on return.
///
/// # Errors
/// [`KeyError::Exists`] when there is a file already, [`KeyError::File`] when the system fails.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
        _ => KeyError::File { path: path.to_owned(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// How a private key file begins. Put together, so that no file of the source tree has the line itself.
pub const PEM_BEGIN: &str = concat!("-----BEGIN ", "PRIVATE KEY-----");

/// Writes a PKCS#8 private key as PEM, in memory that is wiped when dropped.
fn pem(pkcs8: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(BASE64.encode(pkcs8));
    let mut text = Zeroizing::new(String::with_capacity(2 * base64.len() + 64));
    text.push_str(PEM_BEGIN);
    text.push('\n');
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

fn new_pkcs8() -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
    Ok(Zeroizing::new(document.as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_key_file_is_readable_by_its_owner_alone_and_gives_the_same_key_back() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sign.key");
        let made = SigningKey::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(SigningKey::load(&path).unwrap().public(), made.public());
    }

    #[test]
    fn a_key_that_group_or_others_can_read_is_refused_with_the_command_that_helps() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sign.key");
        SigningKey::create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = SigningKey::load(&path).unwrap_err();
            assert!(matches!(error, KeyError::Exposed { .. }), "{mode:o}: {error}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
            assert!(matches!(load_tls_key(&path), Err(KeyError::Exposed { .. })));
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(SigningKey::load(&path).is_ok());
    }

    #[test]
    fn a_key_is_never_written_over_another_file() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sign.key");
        fs::write(&path, "the only copy").unwrap();
        assert!(matches!(SigningKey::create(&path), Err(KeyError::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "the only copy");
    }

    #[test]
    fn a_file_that_is_no_key_is_refused() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sign.key");
        let ecdsa = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let long = "x".repeat(20_000);
        for text in ["", "hello", ecdsa.as_str(), long.as_str()] {
            write_private(&path, text.as_bytes()).unwrap();
            assert!(SigningKey::load(&path).is_err());
            fs::remove_file(&path).unwrap();
        }
        assert!(matches!(SigningKey::load(&path), Err(KeyError::File { .. })));
        assert!(SigningKey::load(folder.path()).is_err());
    }

    #[test]
    fn every_item_of_a_batch_verifies_with_its_own_proof_and_no_other() {
        let key = SigningKey::generate().unwrap();
        for items in [1_u8, 2, 3, 63, 64] {
            let leaves: Vec<Hash> = (0..items).map(|item| batch::item_leaf(Tag::Receipt, &[item])).collect();
            let proofs = key.sign_batch("mod.example", Tag::Receipt, &leaves);
            assert_eq!(proofs.len(), leaves.len());
            let mut verifier = batch::Verifier::new(1);
            for (index, proof) in proofs.iter().enumerate() {
                let mut verify =
                    |leaf| verifier.verify("mod.example", Tag::Receipt, &key.public(), leaf, proof);
                assert!(verify(leaves[index]).is_ok());
                assert!(items == 1 || verify(leaves[(index + 1) % leaves.len()]).is_err());
            }
        }
    }

    #[test]
    fn a_key_does_not_show_itself_when_printed() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey(public {})", key.public()));
    }
}
