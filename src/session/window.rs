//! Credit: how many envelopes and bytes one end may still send (FORMATS 4).
//!
//! Both ends count totals since Welcome, so that a Credit frame said twice changes nothing. Byte
//! credit may be overdrawn by one frame, so that a large envelope passes through a small window.

use std::time::Duration;

use crate::limits::Limits;

/// A window that is used up within this is too small for the line, unless the answers take so long: more than
/// the slowest round trip that a line has.
const WINDOW_TIME: Duration = Duration::from_secs(1);

/// Totals of envelopes and their frame bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Envelopes.
    pub envelopes: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

impl Credit {
    fn add(&mut self, bytes: u64) {
        self.envelopes += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn allows(&self, used: &Credit) -> bool {
        used.envelopes < self.envelopes && used.bytes < self.bytes
    }
}

/// The sender's end: what it may still send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    total: Credit,
    used: Credit,
}

impl Allowance {
    /// Takes over what the receiver grants; a smaller total than before changes nothing.
    pub fn raise(&mut self, total: Credit) {
        self.total.envelopes = self.total.envelopes.max(total.envelopes);
        self.total.bytes = self.total.bytes.max(total.bytes);
    }

    /// Whether one more envelope may be sent.
    pub fn is_open(&self) -> bool {
        self.total.allows(&self.used)
    }

    /// Counts an envelope that is sent now.
    pub fn spend(&mut self, bytes: u64) {
        debug_assert!(self.is_open(), "the caller asked first");
        self.used.add(bytes);
    }

    /// Envelopes and bytes that may still be sent; bytes may be overdrawn by one frame.
    pub fn room(&self) -> Credit {
        Credit {
            envelopes: self.total.envelopes.saturating_sub(self.used.envelopes),
            bytes: self.total.bytes.saturating_sub(self.used.bytes),
        }
    }
}

/// The peer sent more than it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more was sent than the window allows")]
pub struct Overdrawn;

/// The receiver's end: what it granted, and when to grant more.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    window: Credit,
    granted: Credit,
    used: Credit,
    done: Credit,
    /// What was done, and when, as the window that is being watched began.
    began: (Credit, Duration),
}

impl Grant {
    /// Starts with the smallest window, which comes out of no pool.
    pub fn new(limits: &Limits) -> Grant {
        let window = Credit { envelopes: limits.window_envelopes_min, bytes: limits.window_bytes_min };
        let none = Credit::default();
        Grant { window, granted: window, used: none, done: none, began: (none, Duration::ZERO) }
    }

    /// What the peer may send in all so far.
    pub fn granted(&self) -> Credit {
        self.granted
    }

    /// Counts an envelope that came in.
    ///
    /// # Errors
    /// [`Overdrawn`] where the window was closed: the peer broke the protocol.
    pub fn receive(&mut self, bytes: u64) -> Result<(), Overdrawn> {
        if !self.granted.allows(&self.used) {
            return Err(Overdrawn);
        }
        self.used.add(bytes);
        Ok(())
    }

    /// Counts an envelope that was answered. Returns the new total where it is worth a frame: a quarter of
    /// the window came free. A window that is half in use, or was used up within a second, doubles while the pool
    /// has bytes for it.
    pub fn finish(
        &mut self,
        bytes: u64,
        now: Duration,
        limits: &Limits,
        pool_bytes: &mut u64,
    ) -> Option<Credit> {
        let in_use = self.used.envelopes - self.done.envelopes;
        self.done.add(bytes);
        if in_use * 2 >= self.window.envelopes || self.is_used_up_fast(now) {
            self.grow(limits, pool_bytes);
        }
        let total = Credit {
            envelopes: self.done.envelopes + self.window.envelopes,
            bytes: self.done.bytes.saturating_add(self.window.bytes),
        };
        let news = total.envelopes - self.granted.envelopes;
        let bytes_news = total.bytes.saturating_sub(self.granted.bytes);
        if news * 4 < self.window.envelopes && bytes_news * 4 < self.window.bytes {
            return None;
        }
        self.granted = total;
        Some(total)
    }

    /// Bytes of growth to give back to the pool when the session ends.
    pub fn pool_share(&self, limits: &Limits) -> u64 {
        self.window.bytes - limits.window_bytes_min
    }

    /// Whether a whole window was answered within its time: over a long line only few are in use at this end.
    fn is_used_up_fast(&mut self, now: Duration) -> bool {
        let (before, since) = self.began;
        let is_used_up = self.done.envelopes - before.envelopes >= self.window.envelopes
            || self.done.bytes.saturating_sub(before.bytes) >= self.window.bytes;
        let is_fast = now.saturating_sub(since) <= WINDOW_TIME;
        if is_used_up || !is_fast {
            self.began = (self.done, now);
        }
        is_used_up && is_fast
    }

    fn grow(&mut self, limits: &Limits, pool_bytes: &mut u64) {
        let bytes = (self.window.bytes * 2).min(limits.window_bytes_max);
        let growth = bytes - self.window.bytes;
        if growth <= *pool_bytes {
            *pool_bytes -= growth;
            self.window.bytes = bytes;
            self.window.envelopes = (self.window.envelopes * 2).min(limits.window_envelopes_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_keeps_to_its_allowance_never_overdraws_the_grant() {
        let limits = Limits::DEFAULT;
        let mut pool = limits.window_pool_bytes;
        let (mut grant, mut allowance) = (Grant::new(&limits), Allowance::default());
        allowance.raise(grant.granted());
        let mut in_flight = std::collections::VecDeque::new();
        let mut sent = 0u64;
        for step in 0..20_000u64 {
            if step % 3 != 0 && allowance.is_open() {
                let bytes = 200 + (step * 7919) % 60_000;
                allowance.spend(bytes);
                grant.receive(bytes).expect("within the grant");
                in_flight.push_back(bytes);
                sent += 1;
            } else if let Some(bytes) = in_flight.pop_front()
                && let Some(total) = grant.finish(bytes, Duration::ZERO, &limits, &mut pool)
            {
                allowance.raise(total);
            }
            assert!(in_flight.len() as u64 <= limits.window_envelopes_max);
        }
        assert!(sent > 1_000, "the window never closes for good");
        assert_eq!(pool + grant.pool_share(&limits), limits.window_pool_bytes);
    }

    #[test]
    fn a_sender_that_ignores_its_window_is_caught_at_the_first_envelope_too_many() {
        let limits = Limits::DEFAULT;
        let mut grant = Grant::new(&limits);
        for _ in 0..limits.window_envelopes_min {
            grant.receive(10).expect("within the grant");
        }
        assert_eq!(grant.receive(10), Err(Overdrawn));
    }

    #[test]
    fn one_frame_may_overdraw_the_bytes_and_then_the_window_is_closed() {
        let limits = Limits::DEFAULT;
        let mut grant = Grant::new(&limits);
        grant.receive(limits.window_bytes_max).expect("the first may be larger than the window");
        assert_eq!(grant.receive(1), Err(Overdrawn));
    }

    #[test]
    fn windows_stop_growing_when_the_pool_is_used_up() {
        let limits = Limits::DEFAULT;
        let mut pool = 0;
        let mut grant = Grant::new(&limits);
        for _ in 0..1_000 {
            grant.receive(10).expect("answered at once, so the window is open");
            grant.finish(10, Duration::ZERO, &limits, &mut pool);
        }
        assert_eq!(grant.pool_share(&limits), 0);
    }

    /// The window after so many envelopes of one kilobyte, one after the other, so many a second.
    fn window_at(envelopes_per_s: u32, envelopes: u32) -> Credit {
        let limits = Limits::DEFAULT;
        let (mut grant, mut pool) = (Grant::new(&limits), limits.window_pool_bytes);
        for sent in 0..envelopes {
            grant.receive(1_000).expect("each is answered before the next");
            grant.finish(1_000, Duration::from_secs(sent.into()) / envelopes_per_s, &limits, &mut pool);
        }
        grant.window
    }

    #[test]
    fn a_window_grows_to_512_envelopes_and_1_mib_where_it_is_used_up_within_a_second_and_not_otherwise() {
        assert_eq!(window_at(1_000, 10_000), Credit { envelopes: 512, bytes: 1024 * 1024 });
        assert_eq!(window_at(6, 500), Credit { envelopes: 8, bytes: 64 * 1024 });
        let between = window_at(30, 1_000);
        assert!((16..64).contains(&between.envelopes), "{between:?}");
    }
}
