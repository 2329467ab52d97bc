//! Certificates that no longer count: their serials go into the roster, which is what relay and desks obey, and
//! from there into a CRL for whoever else trusts this CA.

use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};

use super::{Ca, PkiError};
use crate::{identity::SpiffeId, roster::RosterDraft};

/// A CRL says that the next one comes within this.
const CRL_TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Puts a certificate's serial, in lower hex, into a roster's draft. Returns whose certificate it is; `None`
/// where the draft has the serial already.
///
/// # Errors
/// [`PkiError::UnknownSerial`] for one that this CA did not issue, [`PkiError::NotInDraft`] where its party is
/// not in the draft.
pub fn revoke(draft: &mut RosterDraft, ca: &Ca, serial: &str) -> Result<Option<SpiffeId>, PkiError> {
    let serial = serial.to_ascii_lowercase();
    let id = ca.holder(&serial).ok_or_else(|| PkiError::UnknownSerial(serial.clone()))?;
    let party = draft.parties.iter_mut().find(|party| party.id == id);
    let party = party.ok_or_else(|| PkiError::NotInDraft(id.to_string()))?;
    if party.revoked_serials.contains(&serial) {
        return Ok(None);
    }
    party.revoked_serials.push(serial);
    Ok(Some(id))
}

/// The CRL of every serial that a roster revokes, in PEM, signed by the issuing CA. Its number is the roster's
/// version, so that it rises with each.
///
/// # Errors
/// [`PkiError::Certificate`] where it cannot be signed.
pub fn crl(ca: &Ca, draft: &RosterDraft, now: SystemTime) -> Result<String, PkiError> {
    let serials = draft.parties.iter().flat_map(|party| &party.revoked_serials);
    let revoked = |serial: &String| {
        // Odd digits or others are no serial, and the roster's own check refuses them.
        let bytes = HEXLOWER.decode(serial.as_bytes()).ok()?;
        Some(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&bytes),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        })
    };
    let params = CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + CRL_TIME_MAX).into(),
        crl_number: SerialNumber::from(u64::from(draft.version)),
        issuing_distribution_point: None,
        revoked_certs: serials.filter_map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    ca.sign_crl(&params)
}
