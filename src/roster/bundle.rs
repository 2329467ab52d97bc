//! The trust bundle: what a party is given once, and trusts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Roster, RosterError, RosterKeys, text};
use crate::limits::ROSTER_BYTES_MAX;
use crate::merkle::Hash;
use crate::note::Vkey;

/// What everything else is verified from (FORMATS 11): TOML, read by `FromStr`, written by `Display`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundle {
    /// The format.
    pub format: BundleFormat,
    /// The trust domain.
    pub trust_domain: String,
    /// SHA-256 of the root CA's public key (SubjectPublicKeyInfo, DER).
    #[serde(with = "text")]
    pub root_key_sha256: Hash,
    /// A roster version.
    pub roster_version: u32,
    /// SHA-256 of that version's note.
    #[serde(with = "text")]
    pub roster_hash: Hash,
    /// The audit log's origin in that version.
    pub log_origin: String,
    /// The threshold of the keys below.
    pub threshold: u32,
    /// The roster keys of that version.
    #[serde(with = "text::list")]
    pub roster_keys: Vec<Vkey>,
}

/// The one format there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BundleFormat {
    /// The first.
    #[serde(rename = "pouch-trust/v1")]
    V1,
}

impl TrustBundle {
    /// The bundle that names this roster, under the root CA key with this hash.
    pub fn naming(roster: &Roster, root_key_sha256: Hash) -> TrustBundle {
        let content = roster.content();
        TrustBundle {
            format: BundleFormat::V1,
            trust_domain: content.trust_domain.clone(),
            root_key_sha256,
            roster_version: content.version,
            roster_hash: roster.hash(),
            log_origin: content.log.origin.clone(),
            threshold: content.roster.threshold,
            roster_keys: content.roster.keys.clone(),
        }
    }

    /// The roster keys with their threshold.
    pub(super) fn keys(&self) -> RosterKeys {
        RosterKeys { threshold: self.threshold, keys: self.roster_keys.clone() }
    }
}

impl FromStr for TrustBundle {
    type Err = RosterError;

    fn from_str(text: &str) -> Result<TrustBundle, RosterError> {
        if text.len() > ROSTER_BYTES_MAX {
            return Err(RosterError::TooLong { bytes: text.len() });
        }
        toml::from_str(text).map_err(|error| RosterError::Toml(Box::new(error)))
    }
}

impl fmt::Display for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml::to_string(self).map_err(|_| fmt::Error)?)
    }
}
