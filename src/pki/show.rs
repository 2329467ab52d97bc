//! What a file of the PKI holds, in plain words (`pouch pki show`).

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use super::{PkiError, Request, roster_files};
use crate::identity::PartyId;
use crate::keys::{KeyError, PEM_BEGIN, SigningKey};
use crate::note::Note;
use crate::roster::RosterDraft;
use crate::tls;

/// Says what `path` holds: certificates, a request, a private key's public half, or a roster.
/// Nothing that the file's writer chose can steer a terminal.
///
/// # Errors
/// What reading such a file gives; [`PkiError::Unknown`] when it is none of these.
pub fn show(path: &Path, now: SystemTime) -> Result<String, PkiError> {
    if is_private_key(path)? {
        return show_key(path);
    }
    let text = match super::read_text(path) {
        Err(PkiError::File { source, .. }) if source.kind() == io::ErrorKind::InvalidData => {
            return Err(PkiError::Unknown(path.to_owned()));
        }
        other => other?,
    };
    if Note::parse(text.as_bytes()).is_ok() || RosterDraft::parse(&text).is_ok() {
        return roster_files::show(&text);
    }
    if text.contains("-----BEGIN CERTIFICATE REQUEST-----") {
        return Ok(show_request(&Request::parse(&text)?));
    }
    if text.contains("-----BEGIN CERTIFICATE-----") {
        let certificates = tls::read_certificates(path)?;
        let shown = certificates.iter().map(|der| show_certificate(der, now));
        return shown.collect::<Option<String>>().ok_or_else(|| PkiError::Unknown(path.to_owned()));
    }
    Err(PkiError::Unknown(path.to_owned()))
}

/// Looks at the first line alone, so that no key passes through memory that is not wiped.
fn is_private_key(path: &Path) -> Result<bool, PkiError> {
    let mut start = Vec::new();
    let limit = u64::try_from(PEM_BEGIN.len()).expect("27 fits");
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut start))
        .map_err(|source| PkiError::file(path, source))?;
    Ok(start == PEM_BEGIN.as_bytes())
}

fn show_key(path: &Path) -> Result<String, PkiError> {
    match SigningKey::load(path) {
        Ok(key) => Ok(format!("private key, Ed25519\n  public half  {}\n", key.public())),
        Err(KeyError::Format { .. }) => {
            super::load_pair(path)?;
            Ok("private key, ECDSA P-256, for TLS or a CA\n".to_owned())
        }
        Err(error) => Err(error.into()),
    }
}

fn show_request(request: &Request) -> String {
    let mut text = format!(
        "request for a certificate; every key in it has signed it\n  \
         id           {}\n  code         {}\n  name         {}\n  sign key     {}\n",
        request.id, request.code, request.name, request.sign
    );
    for (what, key) in [("witness key ", request.witness), ("log key     ", request.log)] {
        if let Some(key) = key {
            writeln!(text, "  {what} {key}").expect("a String takes all");
        }
    }
    text
}

fn show_certificate(der: &CertificateDer<'_>, now: SystemTime) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let party = PartyId::from_verified(der);
    let what = match (certificate.is_ca(), certificate.subject() == certificate.issuer(), &party) {
        (true, true, _) => "certificate of a root CA",
        (true, false, _) => "certificate of an issuing CA",
        (false, _, Ok(_)) => "certificate of a party",
        (false, _, Err(_)) => "certificate that names no party of Pouch",
    };
    let mut text = format!("{what}\n");
    let mut line = |name: &str, value: &str| {
        writeln!(text, "  {name:<12} {}", value.escape_debug()).expect("a String takes all");
    };
    match party {
        Ok(party) => line("id", &party.to_string()),
        Err(_) => line("subject", &certificate.subject().to_string()),
    }
    line("issuer", &certificate.issuer().to_string());
    line("serial", &tls::serial_hex(der)?);
    line("valid from", &time(certificate.validity().not_before));
    line("valid until", &until(certificate.validity().not_after, now));
    line("made for", &purposes(&certificate));
    for name in dns_names(&certificate) {
        line("DNS name", name);
    }
    line("key SHA-256", &tls::spki_sha256(der)?.to_string());
    Some(text)
}

fn time(time: ASN1Time) -> String {
    match Timestamp::from_second(time.timestamp()) {
        Ok(time) => time.to_string(),
        Err(_) => "beyond the year 9999".to_owned(),
    }
}

fn until(end: ASN1Time, now: SystemTime) -> String {
    let now = Timestamp::try_from(now).map_or(i64::MAX, Timestamp::as_second);
    let days = end.timestamp().saturating_sub(now).div_euclid(24 * 3600);
    match days {
        ..0 => format!("{} (EXPIRED)", time(end)),
        0 => format!("{} (less than a day left)", time(end)),
        _ => format!("{} ({days} days left)", time(end)),
    }
}

fn purposes(certificate: &X509Certificate<'_>) -> String {
    let Ok(usage) = certificate.extended_key_usage() else {
        return "unreadable".to_owned();
    };
    match usage.map(|usage| (usage.value.server_auth, usage.value.client_auth)) {
        _ if certificate.is_ca() => "signing certificates".to_owned(),
        Some((true, false)) => "serverAuth: a relay".to_owned(),
        Some((false, true)) => "clientAuth: a desk".to_owned(),
        Some((true, true)) => "both serverAuth and clientAuth, which Pouch refuses".to_owned(),
        Some((false, false)) => "something else, which Pouch refuses".to_owned(),
        None => "it does not say, which Pouch refuses".to_owned(),
    }
}

fn dns_names<'c>(certificate: &'c X509Certificate<'_>) -> Vec<&'c str> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect()
}
