//! The verifiers of both ends: webpki's, and then what webpki leaves open.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::parse_x509_certificate;

use super::{RevocationLists, TlsError};
use crate::identity::{IdentityError, Kind, PartyId};

/// What a leaf certificate is for; it names exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `serverAuth`: the relay.
    Relay,
    /// `clientAuth`: everybody who connects to the relay.
    Desk,
}

/// Why a certificate that chains to the right root is still none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The bytes are no X.509 certificate.
    #[error("it is no X.509 certificate")]
    Malformed,
    /// It may sign other certificates.
    #[error("it is a CA's certificate, not a party's")]
    Ca,
    /// It has no extended key usage, and so would do for anything.
    #[error("it does not say what it may be used for")]
    NoPurpose,
    /// Its extended key usage is another one, or names several.
    #[error("it is made for another use; the relay's is serverAuth alone, a desk's clientAuth alone")]
    Purpose,
    /// It names no party, or several.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It names a party of another trust domain.
    #[error("it belongs to the trust domain {0}")]
    TrustDomain(String),
    /// It names a relay where a desk should be, or a desk where the relay should be.
    #[error("it names a party of another kind ({0})")]
    Kind(String),
}

/// Checks what webpki leaves open in a leaf that it has verified: that it is no CA, names exactly
/// one purpose, and holds exactly one SPIFFE ID, in `trust_domain` and of a kind that fits.
///
/// # Errors
/// The first [`LeafError`] met.
pub fn check_leaf(
    leaf: &CertificateDer<'_>,
    purpose: Purpose,
    trust_domain: &str,
) -> Result<PartyId, LeafError> {
    let (_, certificate) = parse_x509_certificate(leaf).map_err(|_| LeafError::Malformed)?;
    if certificate.is_ca() {
        return Err(LeafError::Ca);
    }
    let usage =
        certificate.extended_key_usage().map_err(|_| LeafError::Malformed)?.ok_or(LeafError::NoPurpose)?;
    if sole_purpose(usage.value) != Some(purpose) {
        return Err(LeafError::Purpose);
    }
    let party = PartyId::from_verified(leaf)?;
    let spiffe = party.spiffe();
    if spiffe.trust_domain() != trust_domain {
        return Err(LeafError::TrustDomain(spiffe.trust_domain().to_owned()));
    }
    if purpose_of(spiffe.kind()) != purpose {
        return Err(LeafError::Kind(spiffe.to_string()));
    }
    Ok(party)
}

/// What the certificate of a party of this kind is for.
pub fn purpose_of(kind: Kind) -> Purpose {
    match kind {
        Kind::Relay => Purpose::Relay,
        Kind::Mission | Kind::Hub | Kind::Operator | Kind::Auditor => Purpose::Desk,
    }
}

/// The relay's verifier of desks.
pub(super) fn desks(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    trust_domain: &str,
    revoked: &RevocationLists,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let webpki = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .with_crls(revoked.der())
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))?;
    Ok(Arc::new(DeskVerifier { webpki, trust_domain: trust_domain.to_owned() }))
}

/// A desk's verifier of the relay.
pub(super) fn relay(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    trust_domain: &str,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))?;
    Ok(Arc::new(RelayVerifier { webpki, trust_domain: trust_domain.to_owned() }))
}

#[derive(Debug)]
struct DeskVerifier {
    webpki: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
}

impl ClientCertVerifier for DeskVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.webpki.verify_client_cert(end_entity, intermediates, now)?;
        check_leaf(end_entity, Purpose::Desk, &self.trust_domain).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct RelayVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    trust_domain: String,
}

impl ServerCertVerifier for RelayVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        check_leaf(end_entity, Purpose::Relay, &self.trust_domain).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

fn refused(error: LeafError) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// The purpose, when the extension names one of ours and nothing else.
fn sole_purpose(usage: &ExtendedKeyUsage<'_>) -> Option<Purpose> {
    let others = usage.any
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    match (usage.server_auth, usage.client_auth) {
        (true, false) if !others => Some(Purpose::Relay),
        (false, true) if !others => Some(Purpose::Desk),
        _ => None,
    }
}
