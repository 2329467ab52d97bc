//! What each certificate holds (`certs-example/profiles.toml` says the same for people).

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};

use super::PkiError;
use crate::identity::{Kind, SpiffeId};
use crate::keys::KeyError;
use crate::tls::relay_host;

/// Certificates are valid from one hour back, for peers whose clock runs behind.
const BACKDATED: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A root lasts ten years: replacing it means a visit to every box.
const ROOT_DAYS: u32 = 3650;
/// An issuing CA lasts five years.
const ISSUING_DAYS: u32 = 1825;
/// A party's certificate lasts 90 days, so that a stolen TLS key ends by itself.
const LEAF_DAYS: u32 = 90;

/// The root CA: signs the issuing CA and nothing else.
pub fn root(trust_domain: &str, now: SystemTime) -> Result<CertificateParams, PkiError> {
    let name = format!("{trust_domain} root CA");
    authority(&name, BasicConstraints::Constrained(1), now, ROOT_DAYS)
}

/// The issuing CA: signs parties' certificates and no other CA.
pub fn issuing(trust_domain: &str, now: SystemTime) -> Result<CertificateParams, PkiError> {
    let name = format!("{trust_domain} issuing CA");
    authority(&name, BasicConstraints::Constrained(0), now, ISSUING_DAYS)
}

/// A party's TLS certificate. It has no subject: who a party is stands in its one URI SAN, and
/// nowhere else where a program could read it by mistake.
pub fn leaf(id: &SpiffeId, now: SystemTime) -> Result<CertificateParams, PkiError> {
    let mut params = base(now, LEAF_DAYS)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    params.extended_key_usages = match id.kind() {
        Kind::Relay => {
            let host = relay_host(id.trust_domain());
            params.subject_alt_names.push(SanType::DnsName(host.try_into()?));
            vec![ExtendedKeyUsagePurpose::ServerAuth]
        }
        Kind::Mission | Kind::Hub | Kind::Operator | Kind::Auditor => {
            vec![ExtendedKeyUsagePurpose::ClientAuth]
        }
    };
    Ok(params)
}

fn authority(
    name: &str,
    constraint: BasicConstraints,
    now: SystemTime,
    days: u32,
) -> Result<CertificateParams, PkiError> {
    let mut params = base(now, days)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraint);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Dates and serial are always explicit: rcgen's own dates run from 1975 to 4096.
fn base(now: SystemTime, days: u32) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + DAY * days).into();
    params.serial_number = Some(random_serial()?);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 126 random bits in 16 bytes: positive, and never with a leading zero byte.
fn random_serial() -> Result<SerialNumber, KeyError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
