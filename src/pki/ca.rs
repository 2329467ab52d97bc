//! The certificate authority: a root that signs one issuing CA, and the issuing CA that signs
//! parties' certificates. Both are files in one folder, kept off every daemon.
//!
//! | file | what |
//! |---|---|
//! | `root.key`, `root.pem` | the root CA; its key is needed only to make an issuing CA and belongs in a safe |
//! | `issuing.key`, `issuing.pem` | the issuing CA |
//! | `issued.toml` | the index: trust domain, then one `[[certificate]]` for each that was issued |

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use rcgen::{CertificateRevocationListParams, CertificateSigningRequestParams, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{PkiError, Request, profile};
use crate::identity::SpiffeId;
use crate::roster::PartyNumber;
use crate::tls;

/// An opened CA folder.
pub struct Ca {
    folder: PathBuf,
    index: Index,
    issuing: Issuer<'static, KeyPair>,
    issuing_pem: String,
}

/// A certificate that [`Ca::issue`] made.
#[derive(Debug)]
pub struct Issued {
    /// The party's number in the roster: of a renewal, the one it has.
    pub number: PartyNumber,
    /// Leaf and issuing CA in PEM: the party's `tls.pem`.
    pub chain_pem: String,
    /// The certificate's serial in lower hex, as the roster lists revoked ones.
    pub serial: String,
    /// When the certificate ends, UTC.
    pub expires: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    trust_domain: String,
    #[serde(default, rename = "certificate", skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<IndexEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexEntry {
    number: u32,
    id: String,
    serial: String,
    issued: Timestamp,
    expires: Timestamp,
}

/// Makes a CA for `trust_domain` in `folder`, which is created with mode 0700 if missing.
///
/// # Errors
/// [`PkiError::TrustDomain`] when that is no name for one; [`PkiError::Key`] when the folder
/// holds a CA already or cannot be written.
pub fn init(folder: &Path, trust_domain: &str, now: SystemTime) -> Result<Ca, PkiError> {
    // An identity in it must parse, and its relay must have a DNS name.
    if SpiffeId::parse(&format!("spiffe://{trust_domain}/hub")).is_err()
        || tls::server_name(trust_domain).is_err()
    {
        return Err(PkiError::TrustDomain(trust_domain.to_owned()));
    }
    super::create_private_folder(folder)?;
    let root_key = super::create_pair(&folder.join("root.key"))?;
    let root_params = profile::root(trust_domain, now)?;
    let root_pem = root_params.self_signed(&root_key)?.pem();
    let root = Issuer::new(root_params, root_key);
    super::write_public(&folder.join("root.pem"), root_pem.as_bytes())?;

    let issuing_key = super::create_pair(&folder.join("issuing.key"))?;
    let issuing = profile::issuing(trust_domain, now)?.signed_by(&issuing_key, &root)?;
    super::write_public(&folder.join("issuing.pem"), issuing.pem().as_bytes())?;

    // Last, because a folder with an index is a whole CA.
    let index = Index { trust_domain: trust_domain.to_owned(), certificates: Vec::new() };
    super::write_public(&folder.join("issued.toml"), to_toml(&index).as_bytes())?;
    Ca::open(folder)
}

impl Ca {
    /// Opens a CA folder. The root's key need not be there.
    ///
    /// # Errors
    /// [`PkiError::File`], [`PkiError::Key`] or [`PkiError::Index`], naming the file.
    pub fn open(folder: &Path) -> Result<Ca, PkiError> {
        let index_path = folder.join("issued.toml");
        let index = super::read_text(&index_path)?;
        let index = toml::from_str(&index)
            .map_err(|error| PkiError::Index { path: index_path, problem: error.message().to_owned() })?;
        let issuing_pem = super::read_text(&folder.join("issuing.pem"))?;
        let key = super::load_pair(&folder.join("issuing.key"))?;
        Ok(Ca {
            folder: folder.to_owned(),
            index,
            issuing: Issuer::from_ca_cert_pem(&issuing_pem, key)?,
            issuing_pem,
        })
    }

    /// The trust domain whose parties this CA certifies.
    pub fn trust_domain(&self) -> &str {
        &self.index.trust_domain
    }

    /// The root CA's certificate file.
    pub fn root_path(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// Certifies the TLS key of a verified request under its SPIFFE ID, by our own profile:
    /// whatever else the CSR asks for is left out. Writes it into the index.
    ///
    /// A party that was certified before keeps its number; a new one gets `number`, or the next
    /// that was never used.
    ///
    /// # Errors
    /// [`PkiError::OtherTrustDomain`] when the request is for another trust domain,
    /// [`PkiError::Number`] when `number` is not free, [`PkiError::File`] when the index cannot be
    /// written: then the certificate is not given out.
    pub fn issue(
        &mut self,
        request: &Request,
        number: Option<PartyNumber>,
        now: SystemTime,
    ) -> Result<Issued, PkiError> {
        let (issued, entry) = self.certify(request, number, now)?;
        self.enter(vec![entry])?;
        Ok(issued)
    }

    /// As [`Ca::issue`], for many new parties, with one entry of the index after the other and one write.
    pub(super) fn issue_all(
        &mut self,
        requests: &[Request],
        now: SystemTime,
    ) -> Result<Vec<Issued>, PkiError> {
        let (mut certified, mut entries) = (Vec::new(), Vec::new());
        for (number, request) in (self.next_number()..).zip(requests) {
            let (issued, entry) = self.certify(request, Some(PartyNumber(number)), now)?;
            certified.push(issued);
            entries.push(entry);
        }
        self.enter(entries)?;
        Ok(certified)
    }

    fn certify(
        &self,
        request: &Request,
        number: Option<PartyNumber>,
        now: SystemTime,
    ) -> Result<(Issued, IndexEntry), PkiError> {
        if request.id.trust_domain() != self.trust_domain() {
            return Err(PkiError::OtherTrustDomain {
                asked: request.id.to_string(),
                ours: self.trust_domain().to_owned(),
            });
        }
        let number = self.number_for(&request.id, number)?;
        let params = profile::leaf(&request.id, now)?;
        let not_after = params.not_after.unix_timestamp();
        let expires = Timestamp::from_second(not_after).expect("a date of this century");
        let certificate =
            CertificateSigningRequestParams { params, public_key: request.csr.public_key.clone() }
                .signed_by(&self.issuing)?;
        let der: &CertificateDer<'_> = certificate.der();
        let serial = tls::serial_hex(der).expect("rcgen writes a certificate");
        let entry = IndexEntry {
            number: number.0,
            id: request.id.to_string(),
            serial: serial.clone(),
            issued: Timestamp::try_from(now).expect("a date of this century"),
            expires,
        };
        let chain_pem = certificate.pem() + &self.issuing_pem;
        Ok((Issued { number, chain_pem, serial, expires }, entry))
    }

    /// Whose certificate has this serial, in lower hex.
    pub(super) fn holder(&self, serial: &str) -> Option<SpiffeId> {
        let entry = self.index.certificates.iter().find(|entry| entry.serial == serial)?;
        SpiffeId::parse(&entry.id).ok()
    }

    /// Signs a list of revoked certificates, and returns it in PEM.
    pub(super) fn sign_crl(&self, params: &CertificateRevocationListParams) -> Result<String, PkiError> {
        Ok(params.signed_by(&self.issuing)?.pem()?)
    }

    fn next_number(&self) -> u32 {
        self.index.certificates.iter().map(|entry| entry.number).max().unwrap_or(0) + 1
    }

    fn number_for(&self, id: &SpiffeId, wanted: Option<PartyNumber>) -> Result<PartyNumber, PkiError> {
        let id = id.to_string();
        let entries = &self.index.certificates;
        let held = entries.iter().find(|entry| entry.id == id);
        let number = match (held, wanted) {
            (Some(held), None) => held.number,
            (None, None) => self.next_number(),
            (_, Some(wanted)) => wanted.0,
        };
        let clash = match held {
            Some(held) => held.number != number,
            None => number == 0 || entries.iter().any(|entry| entry.number == number),
        };
        if clash {
            return Err(PkiError::Number { id, number });
        }
        Ok(PartyNumber(number))
    }

    /// Appends to the index.
    fn enter(&mut self, entries: Vec<IndexEntry>) -> Result<(), PkiError> {
        let path = self.folder.join("issued.toml");
        let tables: String =
            entries.iter().map(|entry| format!("\n[[certificate]]\n{}", to_toml(entry))).collect();
        let written = OpenOptions::new().append(true).open(&path).and_then(|mut file| {
            file.write_all(tables.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|source| PkiError::file(&path, source))?;
        self.index.certificates.extend(entries);
        Ok(())
    }
}

fn to_toml(value: &impl Serialize) -> String {
    toml::to_string(value).expect("plain keys and values are TOML")
}
