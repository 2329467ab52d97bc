//! How handshakes end: counted by kind, and said in the log once a minute and kind, so that strangers
//! cannot fill the disk.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use crate::tls::TlsError;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandshakeEnd {
    /// With a desk of ours.
    Done,
    /// As `Done`, by plain X25519.
    DoneClassical,
    NoCertificate,
    OtherCa,
    Expired,
    NotYetValid,
    /// A certificate of our CA that is no desk's.
    UnfitCertificate,
    /// No TLS 1.3, no `pouch/1`, no key exchange in common, or no TLS at all.
    NotPouch,
    /// The desk does not take our certificate.
    RefusedByPeer,
    TooSlow,
    Broken,
    /// Dropped at accept, before any handshake.
    TooManyConnections,
}

impl HandshakeEnd {
    const ALL: [HandshakeEnd; 12] = [
        HandshakeEnd::Done,
        HandshakeEnd::DoneClassical,
        HandshakeEnd::NoCertificate,
        HandshakeEnd::OtherCa,
        HandshakeEnd::Expired,
        HandshakeEnd::NotYetValid,
        HandshakeEnd::UnfitCertificate,
        HandshakeEnd::NotPouch,
        HandshakeEnd::RefusedByPeer,
        HandshakeEnd::TooSlow,
        HandshakeEnd::Broken,
        HandshakeEnd::TooManyConnections,
    ];

    /// Its name in logs and metrics.
    fn name(self) -> &'static str {
        match self {
            HandshakeEnd::Done => "ok",
            HandshakeEnd::DoneClassical => "ok-x25519",
            HandshakeEnd::NoCertificate => "no-certificate",
            HandshakeEnd::OtherCa => "other-ca",
            HandshakeEnd::Expired => "expired",
            HandshakeEnd::NotYetValid => "not-yet-valid",
            HandshakeEnd::UnfitCertificate => "unfit-certificate",
            HandshakeEnd::NotPouch => "not-pouch",
            HandshakeEnd::RefusedByPeer => "refused-by-peer",
            HandshakeEnd::TooSlow => "too-slow",
            HandshakeEnd::Broken => "broken",
            HandshakeEnd::TooManyConnections => "too-many-connections",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl From<&TlsError> for HandshakeEnd {
    fn from(error: &TlsError) -> HandshakeEnd {
        match error {
            TlsError::NoCertificate => HandshakeEnd::NoCertificate,
            TlsError::WrongCa => HandshakeEnd::OtherCa,
            TlsError::Expired => HandshakeEnd::Expired,
            TlsError::NotYetValid => HandshakeEnd::NotYetValid,
            TlsError::Leaf(_) | TlsError::WrongName => HandshakeEnd::UnfitCertificate,
            TlsError::Incompatible => HandshakeEnd::NotPouch,
            TlsError::OwnExpired | TlsError::OwnWrongCa | TlsError::OwnRefused => HandshakeEnd::RefusedByPeer,
            TlsError::Handshake(_)
            | TlsError::Unfinished
            | TlsError::Key(_)
            | TlsError::File { .. }
            | TlsError::Certificate { .. }
            | TlsError::Root { .. }
            | TlsError::Setup(_)
            | TlsError::TrustDomain(_) => HandshakeEnd::Broken,
        }
    }
}

/// Counts of ends, shared by the connections' tasks.
#[derive(Debug)]
pub(super) struct Handshakes {
    started: Instant,
    kinds: [Tally; HandshakeEnd::ALL.len()],
}

#[derive(Debug, Default)]
struct Tally {
    count: AtomicU64,
    /// The minute after the start that comes next for a line of the log.
    next_minute: AtomicU64,
    /// How many were counted at the last line.
    said: AtomicU64,
}

impl Default for Handshakes {
    fn default() -> Handshakes {
        Handshakes { started: Instant::now(), kinds: Default::default() }
    }
}

impl Handshakes {
    pub(super) fn done(&self, end: HandshakeEnd) {
        self.kinds[end.index()].count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a handshake that failed, and says so unless its kind was said in this minute.
    pub(super) fn failed(&self, end: HandshakeEnd, address: SocketAddr, reason: &str) {
        let minute = self.started.elapsed().as_secs() / 60;
        if let Some(others) = self.kinds[end.index()].failed_in(minute) {
            tracing::info!(kind = end.name(), %address, reason, others, "handshake refused");
        }
    }

    /// How many ended how, by name.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        HandshakeEnd::ALL
            .iter()
            .map(|end| (end.name(), self.kinds[end.index()].count.load(Ordering::Relaxed)))
    }
}

impl Tally {
    /// Counts one; where the minute still has its line, how many others there were since the last.
    fn failed_in(&self, minute: u64) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let due = self.next_minute.load(Ordering::Relaxed);
        let is_ours = minute >= due
            && self
                .next_minute
                .compare_exchange(due, minute + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        is_ours.then(|| count.saturating_sub(self.said.swap(count, Ordering::Relaxed) + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_a_minute_with_how_many_others_there_were() {
        let tally = Tally::default();
        assert_eq!(tally.failed_in(0), Some(0));
        for _ in 0..1_000 {
            assert_eq!(tally.failed_in(0), None);
        }
        assert_eq!(tally.failed_in(3), Some(1_000));
        assert_eq!(tally.failed_in(3), None);
    }

    #[test]
    fn every_kind_has_a_count_of_its_own() {
        let handshakes = Handshakes::default();
        for end in HandshakeEnd::ALL {
            handshakes.done(end);
        }
        assert!(handshakes.counts().all(|(_, count)| count == 1));
        let names: std::collections::BTreeSet<_> = handshakes.counts().map(|(name, _)| name).collect();
        assert_eq!(names.len(), HandshakeEnd::ALL.len());
    }
}
