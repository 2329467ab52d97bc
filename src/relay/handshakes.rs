//! How handshakes end: counted by kind, and said in the log once a minute and kind, so that strangers
//! cannot fill the disk. And how often each party may connect.
//!
//! There is no such bound for an address: embassies share those of a NAT, a proxy or a building. What strangers
//! can take is bounded by the handshakes under way at once, and by the time that each may take.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    identity::SpiffeId,
    limits::{Limits, ROSTER_PARTIES_MAX},
    tls::TlsError,
};

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
    /// A certificate on a list of revoked ones.
    Revoked,
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
    /// The desk is ours, but has connected too often.
    TooOften,
    /// The system gave no descriptor: not even accepted.
    CannotAccept,
}

impl HandshakeEnd {
    const ALL: [HandshakeEnd; 15] = [
        HandshakeEnd::Done,
        HandshakeEnd::DoneClassical,
        HandshakeEnd::NoCertificate,
        HandshakeEnd::OtherCa,
        HandshakeEnd::Expired,
        HandshakeEnd::NotYetValid,
        HandshakeEnd::Revoked,
        HandshakeEnd::UnfitCertificate,
        HandshakeEnd::NotPouch,
        HandshakeEnd::RefusedByPeer,
        HandshakeEnd::TooSlow,
        HandshakeEnd::Broken,
        HandshakeEnd::TooManyConnections,
        HandshakeEnd::TooOften,
        HandshakeEnd::CannotAccept,
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
            HandshakeEnd::Revoked => "revoked",
            HandshakeEnd::UnfitCertificate => "unfit-certificate",
            HandshakeEnd::NotPouch => "not-pouch",
            HandshakeEnd::RefusedByPeer => "refused-by-peer",
            HandshakeEnd::TooSlow => "too-slow",
            HandshakeEnd::Broken => "broken",
            HandshakeEnd::TooManyConnections => "too-many-connections",
            HandshakeEnd::TooOften => "too-often",
            HandshakeEnd::CannotAccept => "cannot-accept",
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
            TlsError::Revoked => HandshakeEnd::Revoked,
            TlsError::Leaf(_) | TlsError::WrongName => HandshakeEnd::UnfitCertificate,
            TlsError::Incompatible => HandshakeEnd::NotPouch,
            TlsError::OwnExpired | TlsError::OwnWrongCa | TlsError::OwnRefused => HandshakeEnd::RefusedByPeer,
            TlsError::Handshake(_)
            | TlsError::Unfinished
            | TlsError::Key(_)
            | TlsError::File { .. }
            | TlsError::Certificate { .. }
            | TlsError::Root { .. }
            | TlsError::RevocationList { .. }
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
    /// Behind a lock, which is held for a look-up once in each connection's life.
    turns: Mutex<Turns>,
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
        Handshakes { started: Instant::now(), kinds: Default::default(), turns: Mutex::default() }
    }
}

impl Handshakes {
    pub(super) fn done(&self, end: HandshakeEnd) {
        self.kinds[end.index()].count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a handshake that failed, and says so unless its kind was said in this minute.
    pub(super) fn failed(&self, end: HandshakeEnd, address: SocketAddr, reason: &str) {
        if let Some(others) = self.tally(end) {
            tracing::info!(kind = end.name(), %address, reason, others, "handshake refused");
        }
    }

    /// The same of a connection that could not be accepted.
    pub(super) fn not_accepted(&self, error: &std::io::Error) {
        if let Some(others) = self.tally(HandshakeEnd::CannotAccept) {
            tracing::warn!(%error, others, "cannot accept; pausing: raise LimitNOFILE of the relay's unit");
        }
    }

    fn tally(&self, end: HandshakeEnd) -> Option<u64> {
        self.kinds[end.index()].failed_in(self.started.elapsed().as_secs() / 60)
    }

    /// Whether a party may connect once more now; counts it.
    pub(super) fn admits(&self, party: &SpiffeId, limits: &Limits) -> bool {
        // Whoever panicked in between left a map that is whole.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.take(party, self.started.elapsed(), limits)
    }

    /// How many ended how, by name.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        HandshakeEnd::ALL
            .iter()
            .map(|end| (end.name(), self.kinds[end.index()].count.load(Ordering::Relaxed)))
    }
}

/// When each party's turns are all free again, as far as they are not: so many may be taken at once, and one
/// comes back in each stretch of time.
#[derive(Debug, Default)]
struct Turns {
    free_at: BTreeMap<SpiffeId, Duration>,
}

impl Turns {
    fn take(&mut self, party: &SpiffeId, now: Duration, limits: &Limits) -> bool {
        let every = limits.connection_per_party_every;
        if self.free_at.len() >= ROSTER_PARTIES_MAX {
            self.free_at.retain(|_, free_at| *free_at > now);
        }
        let free_at = self.free_at.get(party).copied().unwrap_or_default().max(now) + every;
        let is_free = free_at <= now + every * limits.connections_per_party_burst;
        if is_free && (self.free_at.len() < ROSTER_PARTIES_MAX || self.free_at.contains_key(party)) {
            self.free_at.insert(party.clone(), free_at);
        }
        is_free
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

    fn party(number: usize) -> SpiffeId {
        format!("spiffe://mod.example/mission/m{number}").parse().expect("an id")
    }

    #[test]
    fn a_party_has_so_many_turns_at_once_and_then_one_in_each_stretch_and_others_have_their_own() {
        let limits = Limits::DEFAULT;
        let (mut turns, every) = (Turns::default(), limits.connection_per_party_every);
        let taken = |turns: &mut Turns, number, now| {
            (0..1_000).filter(|_| turns.take(&party(number), now, &limits)).count()
        };
        let burst = limits.connections_per_party_burst as usize;
        assert_eq!(taken(&mut turns, 1, Duration::ZERO), burst);
        assert_eq!(taken(&mut turns, 2, Duration::ZERO), burst);
        assert_eq!(taken(&mut turns, 1, every - Duration::from_nanos(1)), 0);
        assert_eq!(taken(&mut turns, 1, every), 1);
        assert_eq!(taken(&mut turns, 1, every * 5), 4);
        assert_eq!(taken(&mut turns, 1, Duration::from_secs(3_600)), burst, "all of them after an hour");
    }

    #[test]
    fn no_more_parties_are_remembered_than_a_roster_has_and_those_with_all_turns_are_forgotten() {
        let limits = Limits::DEFAULT;
        let mut turns = Turns::default();
        for number in 0..ROSTER_PARTIES_MAX + 100 {
            assert!(turns.take(&party(number), Duration::ZERO, &limits));
        }
        assert_eq!(turns.free_at.len(), ROSTER_PARTIES_MAX);
        assert!(turns.take(&party(0), Duration::from_secs(3_600), &limits));
        assert_eq!(turns.free_at.len(), 1);
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
