//! Looks at an endpoint's own certificate with the other side's eyes, before the other side does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::parse_x509_certificate;

use super::{
    Credentials, KeyExchange, Purpose, RevocationLists, TlsError, provider, roots, serial_hex, server_name,
    verify,
};
use crate::limits::CERTIFICATE_WARNED_BEFORE;

/// From when until when every certificate of a chain is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: SystemTime,
    /// The last one.
    pub until: SystemTime,
}

/// When an own certificate must be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dates {
    /// Now: a reload never makes things worse.
    MustHold,
    /// At some time: a clock that is wrong at boot must not keep a daemon down. [`Validity::warning`] tells.
    Warned,
}

impl Credentials {
    /// Checks that the other side will take this certificate: chain, dates, name, use and identity, by the
    /// verifier that the other side runs.
    ///
    /// # Errors
    /// [`TlsError::Certificate`], naming the file.
    pub fn check(
        &self,
        purpose: Purpose,
        root: &CertificateDer<'static>,
        trust_domain: &str,
        dates: Dates,
    ) -> Result<(), TlsError> {
        let now = SystemTime::now();
        let when = match dates {
            Dates::MustHold => now,
            Dates::Warned => self.validity()?.nearest(now),
        };
        let when = UnixTime::since_unix_epoch(when.duration_since(UNIX_EPOCH).unwrap_or_default());
        let (leaf, issuers) = self.chain.split_first().expect("a chain has a leaf");
        let (roots, provider) = (roots(root)?, provider(KeyExchange::Hybrid));
        let verified = match purpose {
            Purpose::Relay => {
                let name = server_name(trust_domain)?;
                let desk = verify::relay(roots, provider, trust_domain)?;
                desk.verify_server_cert(leaf, issuers, &name, &[], when).map(|_| ())
            }
            Purpose::Desk => {
                let relay = verify::desks(roots, provider, trust_domain, &RevocationLists::default())?;
                relay.verify_client_cert(leaf, issuers, when).map(|_| ())
            }
        };
        verified.map_err(|error| self.wrong(problem(&TlsError::from(error))))
    }

    /// The dates of the chain.
    ///
    /// # Errors
    /// [`TlsError::Certificate`] when one of its certificates is none.
    pub fn validity(&self) -> Result<Validity, TlsError> {
        let mut validity = Validity { from: UNIX_EPOCH, until: SystemTime::UNIX_EPOCH + FOREVER };
        for certificate in &self.chain {
            let (_, certificate) =
                parse_x509_certificate(certificate).map_err(|_| self.wrong("no X.509 certificate"))?;
            let dates = certificate.validity();
            validity.from = validity.from.max(system_time(dates.not_before.timestamp()));
            validity.until = validity.until.min(system_time(dates.not_after.timestamp()));
        }
        Ok(validity)
    }

    /// The serial number of the leaf, as the roster lists revoked ones.
    ///
    /// # Errors
    /// [`TlsError::Certificate`] when it is no certificate.
    pub fn serial(&self) -> Result<String, TlsError> {
        serial_hex(&self.chain[0]).ok_or_else(|| self.wrong("no X.509 certificate"))
    }

    fn wrong(&self, problem: &'static str) -> TlsError {
        TlsError::Certificate { path: self.path.clone(), problem }
    }
}

impl Validity {
    /// The moment of this validity that is nearest to `now`, to check all but the dates.
    fn nearest(&self, now: SystemTime) -> SystemTime {
        now.min(self.until).max(self.from)
    }

    /// What an operator should be told about these dates, with what to do; nothing while all is well.
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let cure = "get a new tls.pem from the ministry with `pouch pki request`, and reload this daemon";
        if now < self.from {
            let from = date(self.from);
            return Some(format!(
                "this machine's certificate is valid from {from} on, and its clock says otherwise: check the clock with `timedatectl`"
            ));
        }
        let until = date(self.until);
        let Ok(left) = self.until.duration_since(now) else {
            return Some(format!(
                "this machine's certificate expired on {until}: nothing can connect; {cure}"
            ));
        };
        let days = left.as_secs() / 86_400;
        (left <= CERTIFICATE_WARNED_BEFORE)
            .then(|| format!("this machine's certificate expires on {until}, in {days} days: {cure}"))
    }
}

/// Later than any date that a certificate holds: the year 9999.
const FOREVER: Duration = Duration::from_secs(253_402_300_799);

pub(super) fn system_time(unix_s: i64) -> SystemTime {
    let seconds = u64::try_from(unix_s).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(seconds).min(FOREVER)
}

pub(super) fn date(time: SystemTime) -> String {
    Timestamp::try_from(time)
        .map_or_else(|_| "a date far away".to_owned(), |at| at.strftime("%F").to_string())
}

/// What another verifier would find, in words about our own file.
fn problem(error: &TlsError) -> &'static str {
    match error {
        TlsError::Expired => "the certificate has expired, or this machine's clock runs ahead",
        TlsError::NotYetValid => "the certificate is not valid yet, or this machine's clock runs behind",
        TlsError::WrongCa => "no chain leads from it to the CA in root.pem",
        TlsError::WrongName => "it does not hold this relay's name",
        _ => "it is no certificate that the other side takes: see `pouch pki show`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn validity() -> Validity {
        let from = UNIX_EPOCH + 20_000 * DAY;
        Validity { from, until: from + 90 * DAY }
    }

    #[test]
    fn a_certificate_is_warned_of_a_month_ahead_and_not_before() {
        let Validity { from, until } = validity();
        assert_eq!(validity().warning(from), None);
        assert_eq!(validity().warning(until - 31 * DAY), None);
        let text = validity().warning(until - 30 * DAY).unwrap();
        assert!(text.starts_with("this machine's certificate expires on 2025-01-02, in 30 days"), "{text}");
        let text = validity().warning(until + DAY).unwrap();
        assert!(text.contains("expired on 2025-01-02"), "{text}");
        let text = validity().warning(from - DAY).unwrap();
        assert!(text.ends_with("check the clock with `timedatectl`"), "{text}");
    }

    #[test]
    fn the_nearest_valid_moment_is_now_unless_the_clock_is_beyond_the_dates() {
        let Validity { from, until } = validity();
        assert_eq!(validity().nearest(from + DAY), from + DAY);
        assert_eq!(validity().nearest(UNIX_EPOCH), from);
        assert_eq!(validity().nearest(until + DAY), until);
    }
}
