//! A party's request for a certificate: made on its own box, so that its keys never leave it.
//!
//! `request.toml` is two TOML texts in one file. The first says who asks and holds the public
//! keys and the CSR; the second begins with the line `[signatures]` and holds a batch signature
//! of one item, tag `enrol-request` (FORMATS 2), by each key in it. The item is the first text,
//! byte for byte as it stands in the file; its nonce makes it impossible to guess.

use std::fs;
use std::path::Path;

use data_encoding::HEXLOWER;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::PkiError;
use crate::batch::{self, PublicKey, Tag};
use crate::identity::{IdentityError, Kind, SpiffeId};
use crate::keys::{KeyError, SigningKey};
use crate::roster::{self, Rule};

/// The line between the two texts.
const SIGNATURES: &str = "\n[signatures]\n";

/// Bytes of a request file; ours have about 1,500. A longer one is refused unread.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;

/// Why a request cannot be accepted. Whoever wrote it is at fault, or the way it came.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The file is far longer than a request.
    #[error(
        "a request has at most {REQUEST_BYTES_MAX} bytes: ask for the request.toml that `pouch pki request` wrote"
    )]
    TooLong,
    /// The file has no second text.
    #[error("there is no [signatures] in it: ask for the request.toml that `pouch pki request` wrote")]
    Unsigned,
    /// One of the two texts is none of a request.
    #[error("this is no request: {0}")]
    Toml(#[from] toml::de::Error),
    /// The id is none of a party.
    #[error("id: {0}: ask the party to run `pouch pki request` again")]
    Id(#[from] IdentityError),
    /// A field would not be accepted in a roster.
    #[error("{field}: {rule}")]
    Field {
        /// Which field.
        field: &'static str,
        /// The rule, and what to do.
        rule: Rule,
    },
    /// A public key is none.
    #[error("{0}: ask the party to run `pouch pki request` again")]
    Key(#[from] batch::KeyError),
    /// The keys are not those that a party of this kind has.
    #[error("{0}: ask the party to run `pouch pki request` again")]
    Keys(&'static str),
    /// A signature does not fit what stands in the file.
    #[error(
        "the request was changed after it was signed (its {0} signature does not fit): ask the party for it again, by another way"
    )]
    Signature(&'static str),
    /// The CSR is broken, or its own signature is.
    #[error("the CSR cannot be read ({0}): ask the party to run `pouch pki request` again")]
    Csr(#[source] rcgen::Error),
    /// The CSR is for another kind of key.
    #[error("the CSR's key is not ECDSA P-256: ask the party to run `pouch pki request` again")]
    CsrKey,
}

/// Who asks, and the public halves of its keys. Made only by [`request`] and [`Request::parse`],
/// so its signatures have been verified.
#[derive(Debug)]
pub struct Request {
    /// Who asks to be named so.
    pub id: SpiffeId,
    /// The short name that correspondents use, `IDN`.
    pub code: String,
    /// The full name, `Embassy of the Republic of Indonesia`.
    pub name: String,
    /// Public half of the `sign` key.
    pub sign: PublicKey,
    /// Public half of a desk's `witness` key.
    pub witness: Option<PublicKey>,
    /// Public half of the relay's `log` key.
    pub log: Option<PublicKey>,
    pub(super) csr: CertificateSigningRequestParams,
}

/// Who a party is to be, as its officer types it.
#[derive(Clone, Debug)]
pub struct Applicant {
    /// The SPIFFE ID it asks for.
    pub id: SpiffeId,
    /// The short name that correspondents use.
    pub code: String,
    /// The full name.
    pub name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    id: String,
    code: String,
    name: String,
    sign: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    witness: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    nonce: String,
    csr: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signatures {
    sign: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    witness: Option<String>,
}

/// Makes a party's keys in `folder` where they are missing, and writes `request.toml` beside
/// them. Keys that are there are used again, so a lost request can be made once more.
///
/// A relay has `tls`, `sign` and `log`; every other party `tls`, `sign` and `witness`.
///
/// # Errors
/// [`PkiError::Request`] for a code or name that no roster takes; [`PkiError::Key`] or
/// [`PkiError::File`] when the folder cannot be used.
pub fn request(folder: &Path, applicant: &Applicant) -> Result<Request, PkiError> {
    check_names(&applicant.code, &applicant.name)?;
    super::create_private_folder(folder)?;
    let tls = load_or_create_tls_key(&folder.join("tls.key"))?;
    let sign = load_or_create(&folder.join("sign.key"))?;
    let (witness, log) = match applicant.id.kind() {
        Kind::Relay => (None, Some(load_or_create(&folder.join("log.key"))?)),
        Kind::Mission | Kind::Hub | Kind::Operator | Kind::Auditor => {
            (Some(load_or_create(&folder.join("witness.key"))?), None)
        }
    };
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).map_err(|_| KeyError::Random)?;
    let public = |key: &SigningKey| key.public().to_string();
    let body = toml::to_string(&Body {
        id: applicant.id.to_string(),
        code: applicant.code.clone(),
        name: applicant.name.clone(),
        sign: public(&sign),
        witness: witness.as_ref().map(public),
        log: log.as_ref().map(public),
        nonce: HEXLOWER.encode(&nonce),
        csr: bare_csr(&tls)?,
    })
    .expect("strings under plain keys are TOML");
    let leaf = batch::item_leaf(Tag::EnrolRequest, body.as_bytes());
    let signature = |key: &SigningKey| {
        let proofs = key.sign_batch(applicant.id.trust_domain(), Tag::EnrolRequest, &[leaf]);
        HEXLOWER.encode(&proofs[0].signature)
    };
    let signatures =
        toml::to_string(&Signatures { sign: signature(&sign), witness: witness.as_ref().map(signature) })
            .expect("strings under plain keys are TOML");
    let text = format!("{body}{SIGNATURES}{signatures}");
    super::write_public(&folder.join("request.toml"), text.as_bytes())?;
    Ok(Request::parse(&text)?)
}

impl Request {
    /// Reads a request file and verifies it.
    ///
    /// # Errors
    /// [`PkiError::File`] when it cannot be read, [`PkiError::Request`] when it does not hold.
    pub fn load(path: &Path) -> Result<Request, PkiError> {
        let failed = |source| PkiError::file(path, source);
        if fs::metadata(path).map_err(failed)?.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong.into());
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        Ok(Request::parse(&text)?)
    }

    /// Parses a request and verifies that each key in it signed it, the TLS key by its CSR.
    ///
    /// # Errors
    /// The first [`RequestError`] met.
    pub fn parse(text: &str) -> Result<Request, RequestError> {
        let (head, tail) = text.rsplit_once(SIGNATURES).ok_or(RequestError::Unsigned)?;
        let body: Body = toml::from_str(head)?;
        let signatures: Signatures = toml::from_str(tail)?;
        let id = SpiffeId::parse(&body.id)?;
        check_names(&body.code, &body.name)?;
        let sign = body.sign.parse()?;
        let witness = body.witness.as_deref().map(str::parse).transpose()?;
        let log = body.log.as_deref().map(str::parse).transpose()?;
        check_keys(id.kind(), &sign, witness.as_ref(), log.as_ref())?;

        let item = head.as_bytes();
        verify(&id, item, &sign, Some(&signatures.sign), "sign")?;
        if let Some(witness) = &witness {
            verify(&id, item, witness, signatures.witness.as_deref(), "witness")?;
        }
        let csr = CertificateSigningRequestParams::from_pem(&body.csr).map_err(RequestError::Csr)?;
        if csr.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(RequestError::CsrKey);
        }
        let Body { code, name, .. } = body;
        Ok(Request { id, code, name, sign, witness, log, csr })
    }
}

/// The roster's own rules, so that an officer learns of them at the first step.
fn check_names(code: &str, name: &str) -> Result<(), RequestError> {
    if !roster::is_code(code) {
        return Err(RequestError::Field { field: "code", rule: Rule::Code });
    }
    if !roster::is_name(name) {
        return Err(RequestError::Field { field: "name", rule: Rule::Name });
    }
    Ok(())
}

fn check_keys(
    kind: Kind,
    sign: &PublicKey,
    witness: Option<&PublicKey>,
    log: Option<&PublicKey>,
) -> Result<(), RequestError> {
    let (wanted, rule) = match kind {
        Kind::Relay => ((false, true), "a relay has a log key and no witness key"),
        Kind::Mission | Kind::Hub | Kind::Operator | Kind::Auditor => {
            ((true, false), "a desk has a witness key and no log key")
        }
    };
    if (witness.is_some(), log.is_some()) != wanted {
        return Err(RequestError::Keys(rule));
    }
    if witness == Some(sign) || log == Some(sign) {
        return Err(RequestError::Keys("one key stands for two uses"));
    }
    Ok(())
}

fn verify(
    id: &SpiffeId,
    item: &[u8],
    key: &PublicKey,
    signature: Option<&str>,
    whose: &'static str,
) -> Result<(), RequestError> {
    let failed = || RequestError::Signature(whose);
    let bytes = signature.and_then(|text| HEXLOWER.decode(text.as_bytes()).ok()).ok_or_else(failed)?;
    let signature: [u8; 64] = bytes.try_into().map_err(|_| failed())?;
    let leaf = batch::item_leaf(Tag::EnrolRequest, item);
    batch::verify_whole(id.trust_domain(), Tag::EnrolRequest, key, &[leaf], &signature)
        .map_err(|_| failed())?;
    Ok(())
}

/// A CSR that proves possession of the key and says nothing else: the CA decides what the
/// certificate holds.
fn bare_csr(key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key)?.pem()
}

fn load_or_create(path: &Path) -> Result<SigningKey, KeyError> {
    if path.exists() {
        return SigningKey::load(path);
    }
    SigningKey::create(path)
}

fn load_or_create_tls_key(path: &Path) -> Result<KeyPair, PkiError> {
    if path.exists() {
        return super::load_pair(path);
    }
    super::create_pair(path)
}
