//! Lists of revoked certificates (CRLs), for a ministry whose CA makes them: they keep new connections out.
//!
//! The serials in the roster do the same with one signed and logged artefact, and cut live sessions too. A list is
//! held here to what the handshake will ask of it, so that a bad one is refused with words when it is read, and
//! not by refusing every desk.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{EndEntityCert, OwnedCertRevocationList};
use x509_parser::{parse_x509_certificate, parse_x509_crl, revocation_list::CertificateRevocationList};

use super::own::{date, system_time};
use super::{Credentials, KeyExchange, TlsError, provider};
use crate::limits::{CRL_FILE_BYTES_MAX, CRLS_MAX};

/// Why a list of revoked certificates is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationListError {
    /// The file is longer than any list here.
    #[error("it is longer than {CRL_FILE_BYTES_MAX} bytes: list only certificates that have not expired")]
    TooLong,
    /// No list, or one of a kind that TLS cannot use here, as a delta list.
    #[error("it holds no whole X.509 list of revoked certificates in PEM form: get it from the CA once more")]
    Malformed,
    /// Neither the root nor an issuing CA of `tls.pem` signed it.
    #[error("neither root.pem nor a CA in tls.pem signed it: get the list of this ministry's own CA")]
    Foreign,
    /// Another list has the same issuer, and only one of them would count.
    #[error("there is another list of the same CA: name only the newer one in `crl`")]
    Twice,
    /// There are more lists than are ever needed.
    #[error("there are more than {CRLS_MAX} lists: name one for each CA in `crl`")]
    TooMany,
    /// The list in force was made after it.
    #[error("it is older than the list of this CA that is in force: get the newest one from the CA")]
    Older,
}

/// The lists that a relay goes by, each checked; none by default.
#[derive(Clone, Debug, Default)]
pub struct RevocationLists(Vec<List>);

#[derive(Clone, Debug)]
struct List {
    path: PathBuf,
    der: CertificateRevocationListDer<'static>,
    /// Name of the CA, as encoded.
    issuer: Vec<u8>,
    made: SystemTime,
    /// When the CA promised the next one.
    next: Option<SystemTime>,
}

impl RevocationLists {
    /// Reads the lists of `files`, each of at most [`CRL_FILE_BYTES_MAX`], and holds them against the root and the
    /// CAs that `own` shows.
    ///
    /// # Errors
    /// [`TlsError::File`] or [`TlsError::RevocationList`], naming the file.
    pub fn load(
        files: &[PathBuf],
        own: &Credentials,
        root: &CertificateDer<'static>,
    ) -> Result<RevocationLists, TlsError> {
        let mut lists: Vec<List> = Vec::new();
        for path in files {
            let refused = |problem| TlsError::RevocationList { path: path.clone(), problem };
            let text = read(path).map_err(|source| TlsError::File { path: path.clone(), source })?;
            let text = text.ok_or(refused(RevocationListError::TooLong))?;
            let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&text)
                .collect::<Result<_, _>>()
                .map_err(|_| refused(RevocationListError::Malformed))?;
            if found.is_empty() {
                return Err(refused(RevocationListError::Malformed));
            }
            for der in found {
                let list = List::check(path, der, own.issuers().chain([root])).map_err(refused)?;
                if lists.iter().any(|other| other.issuer == list.issuer) {
                    return Err(refused(RevocationListError::Twice));
                }
                if lists.len() == CRLS_MAX {
                    return Err(refused(RevocationListError::TooMany));
                }
                lists.push(list);
            }
        }
        Ok(RevocationLists(lists))
    }

    /// Checks that none of these lists takes back what one in force says.
    ///
    /// # Errors
    /// [`TlsError::RevocationList`] where one was made before that of the same CA in `in_force`.
    pub fn follow(&self, in_force: &RevocationLists) -> Result<(), TlsError> {
        let is_older =
            |new: &&List| in_force.0.iter().any(|old| old.issuer == new.issuer && new.made < old.made);
        match self.0.iter().find(is_older) {
            Some(List { path, .. }) => {
                let problem = RevocationListError::Older;
                Err(TlsError::RevocationList { path: path.clone(), problem })
            }
            None => Ok(()),
        }
    }

    /// What an operator should be told of a list that its CA should have replaced; it counts all the same.
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let late = |list: &&List| list.next.is_some_and(|next| next < now);
        let list = self.0.iter().filter(late).min_by_key(|list| list.next)?;
        let due = date(list.next?);
        Some(format!(
            "{}: the CA should have replaced this list of revoked certificates on {due}; it still counts, but says \
             nothing of later revocations: get the newest one and reload the relay",
            list.path.display()
        ))
    }

    /// The lists as rustls takes them.
    pub(super) fn der(&self) -> impl Iterator<Item = CertificateRevocationListDer<'static>> {
        self.0.iter().map(|list| list.der.clone())
    }
}

impl List {
    fn check<'a>(
        path: &Path,
        der: CertificateRevocationListDer<'static>,
        mut issuers: impl Iterator<Item = &'a CertificateDer<'static>>,
    ) -> Result<List, RevocationListError> {
        if OwnedCertRevocationList::from_der(&der).is_err() {
            return Err(RevocationListError::Malformed);
        }
        let (_, list) = parse_x509_crl(&der).map_err(|_| RevocationListError::Malformed)?;
        if !issuers.any(|issuer| has_signed(issuer, &list)) {
            return Err(RevocationListError::Foreign);
        }
        let (issuer, made) = (list.issuer().as_raw().to_vec(), system_time(list.last_update().timestamp()));
        let next = list.next_update().map(|next| system_time(next.timestamp()));
        Ok(List { path: path.to_owned(), issuer, made, next, der })
    }
}

/// Whether a CA has signed a list, and may: the handshake would refuse every desk otherwise.
fn has_signed(issuer: &CertificateDer<'static>, list: &CertificateRevocationList<'_>) -> bool {
    let Ok((_, certificate)) = parse_x509_certificate(issuer) else { return false };
    let Ok(usage) = certificate.key_usage() else { return false };
    let may_sign = certificate.is_ca() && usage.is_none_or(|usage| usage.value.crl_sign());
    if !may_sign || certificate.subject().as_raw() != list.issuer().as_raw() {
        return false;
    }
    let Ok(key) = EndEntityCert::try_from(issuer) else { return false };
    let algorithms = provider(KeyExchange::Hybrid).signature_verification_algorithms.all;
    let (signed, signature) = (list.tbs_cert_list.as_ref(), list.signature_value.as_ref());
    algorithms.iter().any(|algorithm| key.verify_signature(*algorithm, signed, signature).is_ok())
}

/// The bytes of a file; `None` where there are too many.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    File::open(path)?.take(CRL_FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok((text.len() as u64 <= CRL_FILE_BYTES_MAX).then_some(text))
}
