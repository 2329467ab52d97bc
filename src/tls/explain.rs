//! What went wrong in a handshake, in words for the clerk at the box.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

use super::{LeafError, TlsError};

/// Says in plain words why a TLS connection failed, from the I/O error that its stream returned.
/// `None` when TLS was not the reason (the network was).
///
/// A desk whose certificate the relay refuses learns of it at its first read, not at connect:
/// this is for errors of both.
pub fn explain(error: &io::Error) -> Option<TlsError> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(TlsError::from(error.clone()))
}

impl From<Error> for TlsError {
    fn from(error: Error) -> TlsError {
        match error {
            Error::InvalidCertificate(problem) => certificate(problem),
            Error::AlertReceived(alert) => received(alert),
            Error::NoCertificatesPresented => TlsError::NoCertificate,
            Error::NoApplicationProtocol
            | Error::PeerIncompatible(_)
            | Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. } => TlsError::Incompatible,
            other => TlsError::Handshake(other),
        }
    }
}

/// We refused the peer's certificate.
fn certificate(problem: CertificateError) -> TlsError {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsError::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsError::NotYetValid,
        CertificateError::Revoked => TlsError::Revoked,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsError::WrongCa,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsError::WrongName
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            TlsError::Leaf(LeafError::Purpose)
        }
        CertificateError::Other(other) => beyond_rustls(other),
        other => TlsError::Handshake(Error::InvalidCertificate(other)),
    }
}

/// Our own verifier refused it, or webpki for a reason that rustls has no name for.
fn beyond_rustls(other: OtherError) -> TlsError {
    if let Some(leaf) = other.0.downcast_ref::<LeafError>() {
        return TlsError::Leaf(leaf.clone());
    }
    if let Some(webpki::Error::CaUsedAsEndEntity) = other.0.downcast_ref() {
        return TlsError::Leaf(LeafError::Ca);
    }
    TlsError::Handshake(Error::InvalidCertificate(CertificateError::Other(other)))
}

/// The peer refused us.
fn received(alert: AlertDescription) -> TlsError {
    match alert {
        AlertDescription::CertificateExpired => TlsError::OwnExpired,
        AlertDescription::UnknownCA | AlertDescription::DecryptError => TlsError::OwnWrongCa,
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRequired
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => TlsError::OwnRefused,
        AlertDescription::NoApplicationProtocol
        | AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::InsufficientSecurity => TlsError::Incompatible,
        other => TlsError::Handshake(Error::AlertReceived(other)),
    }
}
