//! Certificates and rosters: how a ministry says who its parties are (FORMATS 1, 3).
//!
//! The way of a party in: [`request`] on its own box makes its keys and a signed request;
//! [`Ca::issue`] at the ministry certifies its TLS key; its public keys go into a roster draft,
//! which the holders of the roster keys sign. All of it works on files, off every daemon.

mod ca;
mod profile;
mod request;
mod revocation;
mod show;

mod example;
pub mod roster_files;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use zeroize::Zeroizing;

use crate::batch::{self, PublicKey};
use crate::keys::{self, KeyError};
use crate::note::NoteError;
use crate::roster::RosterError;
use crate::tls::TlsError;

pub use ca::{Ca, Issued, init};
pub use example::{
    EXAMPLE_TRUST_DOMAIN, Example, example_bloc, example_parties, example_party, make_example,
};
pub use request::{Applicant, Request, RequestError, request};
pub use revocation::{crl, revoke};
pub use show::show;

/// Why something about certificates or rosters cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A private key file is missing, exposed, in the way or no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file that the operator named cannot be read or written.
    #[error("{path}: {source}: check the name and who may read it", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The CA's index was changed by hand.
    #[error("{path} is damaged ({problem}): restore it from a backup, because it says which party numbers are used", path = path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The name is none for a trust domain.
    #[error("{0:?} is no name for a trust domain: use a lower-case DNS name such as mod.example")]
    TrustDomain(String),
    /// A request does not hold.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A request is for another ministry's CA.
    #[error(
        "{asked} is not in the trust domain {ours} of this CA: the party has to ask again with an id in it"
    )]
    OtherTrustDomain {
        /// The id in the request.
        asked: String,
        /// The CA's trust domain.
        ours: String,
    },
    /// A party number is taken, is zero, or the party has another one.
    #[error(
        "{id} cannot have the number {number}: leave --number out, or see issued.toml for the numbers that are used"
    )]
    Number {
        /// The party's id.
        id: String,
        /// The number asked for.
        number: u32,
    },
    /// The file is none of those that Pouch works with.
    #[error("{} holds no certificate, request, key or roster that Pouch knows", .0.display())]
    Unknown(PathBuf),
    /// A roster, or a draft of one, does not hold.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// A signed note does not hold.
    #[error("{0}: get the file once more")]
    Note(#[from] NoteError),
    /// A party's entry cannot be read.
    #[error("{path}: {problem}", path = path.display())]
    Entry {
        /// The entry's file.
        path: PathBuf,
        /// What is wrong, with line and column.
        problem: Box<toml::de::Error>,
    },
    /// An entry's log key is none.
    #[error("the entry's log key is not usable ({0}): take the entry that `pouch pki issue` printed")]
    EntryKey(#[from] batch::KeyError),
    /// A note's text is not in the form in which drafts are written, so we do not sign it.
    #[error("the note's text was not written by `pouch roster`: sign the draft itself")]
    Altered,
    /// A key that signs no roster of this trust domain.
    #[error(
        "the key {0} is none of the roster's: give the roster-N.key files of this roster, and where a version replaces keys the version before with --former"
    )]
    NotRosterKey(PublicKey),
    /// The CA's index does not have the serial.
    #[error("this CA issued no certificate with the serial {0}: `pouch pki show` prints a certificate's")]
    UnknownSerial(String),
    /// The certificate's party is not in the draft.
    #[error("{0} is not in the draft: is it the draft of this CA's roster?")]
    NotInDraft(String),
    /// There is no roster to verify.
    #[error("name at least one roster: that of the trust bundle, then each version after it")]
    NoRoster,
    /// Standard output cannot be written.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// The certificate could not be made.
    #[error("the certificate could not be made ({0}): check that the CA's files belong together")]
    Certificate(#[from] rcgen::Error),
}

impl PkiError {
    fn file(path: &Path, source: io::Error) -> PkiError {
        PkiError::File { path: path.to_owned(), source }
    }
}

fn create_private_folder(folder: &Path) -> Result<(), PkiError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| PkiError::file(folder, source))
}

fn read_text(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::file(path, source))
}

/// Writes a file that everybody may read, whole or not at all: whoever reads it meanwhile finds
/// the old one.
///
/// # Errors
/// [`PkiError::File`].
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    File::create(&new)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, path))
        .map_err(|source| PkiError::file(path, source))
}

/// Makes an ECDSA P-256 key pair in the new file `path`.
fn create_pair(path: &Path) -> Result<KeyPair, PkiError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let pem = Zeroizing::new(pair.serialize_pem());
    keys::write_private(path, pem.as_bytes())?;
    Ok(pair)
}

fn load_pair(path: &Path) -> Result<KeyPair, PkiError> {
    let wrong = || KeyError::Format { path: path.to_owned(), wanted: "ECDSA P-256 private key" };
    let text = keys::read_private(path)?;
    let text = std::str::from_utf8(&text).map_err(|_| wrong())?;
    let pair = KeyPair::from_pem(text).map_err(|_| wrong())?;
    if !pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
        return Err(wrong().into());
    }
    Ok(pair)
}
