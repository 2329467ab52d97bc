//! Who a party is: the SPIFFE ID in its verified certificate, and nothing else (DESIGN 7).

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::limits::{PARTY_NAME_BYTES_MAX, TRUST_DOMAIN_BYTES_MAX};

/// A party's name in certificates and rosters: `spiffe://<trust domain>/<kind>[/<name>]`.
///
/// Narrower than the SPIFFE standard allows, so that one party has one spelling: the trust domain
/// is a DNS name in lower case (the relay's certificate is for `relay.<trust domain>`), a name has
/// lower-case letters, digits and `-._` only, and `hub` has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: String,
    kind: Kind,
    name: Option<String>,
}

/// What a party is, as its SPIFFE ID says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An embassy's desk: `/mission/idn`.
    Mission,
    /// The ministry's desk: `/hub`.
    Hub,
    /// A relay node: `/relay/a`.
    Relay,
    /// An operator: `/operator/…`.
    Operator,
    /// An auditor: `/auditor/…`.
    Auditor,
}

impl SpiffeId {
    /// Parses an ID as it stands in a certificate or a roster.
    ///
    /// # Errors
    /// The first of [`IdentityError`] that applies, from left to right.
    pub fn parse(text: &str) -> Result<SpiffeId, IdentityError> {
        let rest = text.strip_prefix("spiffe://").ok_or(IdentityError::Scheme)?;
        let (trust_domain, path) = rest.split_once('/').ok_or(IdentityError::Kind)?;
        if !is_trust_domain(trust_domain) {
            return Err(IdentityError::TrustDomain);
        }
        let (kind, name): (Kind, _) = match path.split_once('/') {
            Some((kind, name)) => (kind.parse()?, Some(name)),
            None => (path.parse::<Kind>()?, None),
        };
        let name_fits = match name {
            Some(name) => kind != Kind::Hub && is_name(name),
            None => kind == Kind::Hub,
        };
        if !name_fits {
            return Err(IdentityError::Name);
        }
        Ok(SpiffeId { trust_domain: trust_domain.to_owned(), kind, name: name.map(str::to_owned) })
    }

    /// The trust domain, at most [`TRUST_DOMAIN_BYTES_MAX`] bytes.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// What the party is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Which one of its kind; the hub has no name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<SpiffeId, IdentityError> {
        SpiffeId::parse(text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}", self.trust_domain, self.kind.as_str())?;
        self.name.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl Kind {
    /// The kind as it stands in the ID's path.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Mission => "mission",
            Kind::Hub => "hub",
            Kind::Relay => "relay",
            Kind::Operator => "operator",
            Kind::Auditor => "auditor",
        }
    }
}

impl FromStr for Kind {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Kind, IdentityError> {
        let kinds = [Kind::Mission, Kind::Hub, Kind::Relay, Kind::Operator, Kind::Auditor];
        kinds.into_iter().find(|kind| kind.as_str() == text).ok_or(IdentityError::Kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Proof that a peer is who its certificate says: only a certificate makes one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartyId(SpiffeId);

impl PartyId {
    /// Reads the identity from an end-entity certificate (DER) that TLS has verified just now.
    ///
    /// The subject's text is never looked at (PITFALLS 4). DNS names are allowed beside the one URI.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`], [`IdentityError::UriNames`] unless there is exactly one URI
    /// among the subject alternative names, or what [`SpiffeId::parse`] says of it.
    pub fn from_verified(end_entity_der: &[u8]) -> Result<PartyId, IdentityError> {
        let der = CertificateDer::from(end_entity_der);
        let certificate = EndEntityCert::try_from(&der).map_err(|_| IdentityError::Certificate)?;
        let mut uris = certificate.valid_uri_names();
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Ok(PartyId(SpiffeId::parse(uri)?)),
            (None, _) | (Some(_), Some(_)) => Err(IdentityError::UriNames),
        }
    }

    /// The name in the certificate.
    pub fn spiffe(&self) -> &SpiffeId {
        &self.0
    }
}

impl fmt::Display for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why something is no party's identity. The text found is left to the caller to show, escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a SPIFFE ID at all.
    #[error("a party's id starts with spiffe://")]
    Scheme,
    /// The trust domain is no DNS name in lower case.
    #[error("a trust domain is a DNS name in lower case, at most {TRUST_DOMAIN_BYTES_MAX} bytes long")]
    TrustDomain,
    /// The path starts with no kind that Pouch knows.
    #[error("after the trust domain comes /mission/, /hub, /relay/, /operator/ or /auditor/")]
    Kind,
    /// The name is missing, superfluous, or has other letters.
    #[error(
        "a name has 1 to {PARTY_NAME_BYTES_MAX} lower-case letters, digits, hyphens, dots or underscores; \
         the hub has none"
    )]
    Name,
    /// The bytes are no X.509 certificate.
    #[error("the certificate cannot be read")]
    Certificate,
    /// No URI, or several.
    #[error("a certificate names its party by exactly one URI")]
    UriNames,
}

/// Whether the text may be a trust domain: a DNS name in lower case, short enough for `relay.` before it.
pub fn is_trust_domain(text: &str) -> bool {
    let label = |label: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= TRUST_DOMAIN_BYTES_MAX && text.split('.').all(label)
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    (1..=PARTY_NAME_BYTES_MAX).contains(&text.len())
        && text.chars().all(allowed)
        && text.chars().any(|c| c != '.')
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["relay.bloc.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "spiffe://bloc.example/hub");
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn an_id_of_each_kind_is_read_and_written_alike() {
        for (text, kind, name) in [
            ("spiffe://bloc.example/mission/idn", Kind::Mission, Some("idn")),
            ("spiffe://bloc.example/hub", Kind::Hub, None),
            ("spiffe://a/relay/a", Kind::Relay, Some("a")),
            ("spiffe://mod.gov.pk/operator/j.khan-2", Kind::Operator, Some("j.khan-2")),
            ("spiffe://mod.gov.pk/auditor/a_b", Kind::Auditor, Some("a_b")),
        ] {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!((id.kind(), id.name(), id.to_string().as_str()), (kind, name, text));
        }
    }

    /// FAULTS 61: ids.
    #[test]
    fn every_other_spelling_of_an_id_is_refused() {
        let long_name = format!("spiffe://bloc.example/mission/{}", "a".repeat(64));
        let long_domain = format!("spiffe://{}/hub", ["a".repeat(62).as_str(); 4].join("."));
        for (text, error) in [
            ("", IdentityError::Scheme),
            ("https://bloc.example/hub", IdentityError::Scheme),
            ("SPIFFE://bloc.example/hub", IdentityError::Scheme),
            (" spiffe://bloc.example/hub", IdentityError::Scheme),
            ("spiffe://bloc.example", IdentityError::Kind),
            ("spiffe://bloc.example/", IdentityError::Kind),
            ("spiffe://bloc.example/HUB", IdentityError::Kind),
            ("spiffe://bloc.example//hub", IdentityError::Kind),
            ("spiffe://bloc.example/hub?x", IdentityError::Kind),
            ("spiffe:///hub", IdentityError::TrustDomain),
            ("spiffe://Bloc.example/hub", IdentityError::TrustDomain),
            ("spiffe://bloc.example:443/hub", IdentityError::TrustDomain),
            ("spiffe://user@bloc.example/hub", IdentityError::TrustDomain),
            ("spiffe://bloc..example/hub", IdentityError::TrustDomain),
            ("spiffe://-bloc.example/hub", IdentityError::TrustDomain),
            ("spiffe://bloc.example./hub", IdentityError::TrustDomain),
            (&long_domain, IdentityError::TrustDomain),
            ("spiffe://bloc.example/hub/", IdentityError::Name),
            ("spiffe://bloc.example/hub/a", IdentityError::Name),
            ("spiffe://bloc.example/mission", IdentityError::Name),
            ("spiffe://bloc.example/mission/", IdentityError::Name),
            ("spiffe://bloc.example/mission/..", IdentityError::Name),
            ("spiffe://bloc.example/mission/IDN", IdentityError::Name),
            ("spiffe://bloc.example/mission/idn/x", IdentityError::Name),
            ("spiffe://bloc.example/mission/idn%20", IdentityError::Name),
            ("spiffe://bloc.example/mission/idn\n", IdentityError::Name),
            (&long_name, IdentityError::Name),
        ] {
            assert_eq!(SpiffeId::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_identity_is_the_one_uri_of_the_certificate_and_not_its_subject() {
        let id = PartyId::from_verified(&certificate(&["spiffe://bloc.example/mission/idn"])).unwrap();
        assert_eq!(id.to_string(), "spiffe://bloc.example/mission/idn");
        assert_eq!(id.spiffe().name(), Some("idn"));
    }

    #[test]
    fn a_certificate_with_no_uri_or_with_two_is_refused() {
        let (one, two) = ("spiffe://bloc.example/mission/idn", "spiffe://bloc.example/mission/mys");
        for uris in [vec![], vec![one, two], vec![one, one], vec![one, "https://example.org/"]] {
            let refused = PartyId::from_verified(&certificate(&uris));
            assert_eq!(refused, Err(IdentityError::UriNames), "{uris:?}");
        }
        let other = PartyId::from_verified(&certificate(&["https://example.org/"]));
        assert_eq!(other, Err(IdentityError::Scheme));
    }

    #[test]
    fn a_cut_certificate_is_refused_at_every_length() {
        let der = certificate(&["spiffe://bloc.example/mission/idn"]);
        for end in 0..der.len() {
            assert_eq!(PartyId::from_verified(&der[..end]), Err(IdentityError::Certificate), "{end}");
        }
    }
}
