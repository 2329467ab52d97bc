//! Lines between desks and the relay: bytes in order, late, cut anywhere, or gone without a word.

use std::{collections::BTreeSet, time::Duration};

use super::chance::Chance;

/// Which end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Relay,
    Desk,
}

/// What the sender's kernel takes of bytes that have not left (`tls::set_socket_options`).
const KERNEL_BYTES: u64 = 16 * 1024;

/// A line that is slow for bytes, not only late.
#[derive(Clone, Copy, Debug)]
pub struct Thin {
    /// Each way.
    pub bytes_per_s: u64,
    /// One way.
    pub latency: Duration,
}

/// Bytes of one packet.
const PACKET_BYTES: usize = 1_400;
/// How long TCP waits before it sends a packet again, at first and at most.
const SENT_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(3_200)];

/// One connection. Bytes on their way stand in the world's queue, in the order of their arrival.
#[derive(Debug)]
pub struct Line {
    pub desk: usize,
    pub exporter: [u8; 32],
    latency_ms: u64,
    thin: Option<Thin>,
    /// Packets of a hundred that never arrive, so that TCP sends them again.
    lost_percent: u64,
    /// When the last byte towards each end leaves a thin line's sender.
    leaves: [Duration; 2],
    /// Bytes that have come through to each end.
    passed: [u64; 2],
    /// When the last bytes towards each end arrive: none overtakes another.
    last: [Duration; 2],
    /// Bytes that still come through to each end once the line is cut.
    left: Option<[usize; 2]>,
    /// How many bytes come through to one end before the line breaks.
    lasts: Option<(End, u64)>,
    /// Whether what is sent vanishes, and nobody is told.
    silent: bool,
    /// Ends that know that it is over.
    pub ended: BTreeSet<End>,
}

impl Line {
    pub fn new(
        desk: usize,
        thin: Option<Thin>,
        lost_percent: u64,
        lasts: Option<(End, u64)>,
        chance: &mut Chance,
    ) -> Line {
        let latency_ms = *chance.pick(&[1, 5, 20, 150]);
        Line {
            desk,
            exporter: chance.bytes(),
            latency_ms,
            thin,
            lost_percent,
            leaves: [Duration::ZERO; 2],
            passed: [0; 2],
            last: [Duration::ZERO; 2],
            left: None,
            lasts,
            silent: false,
            ended: BTreeSet::new(),
        }
    }

    /// When so many bytes that are sent now arrive at `end`; `None` if they never do.
    pub fn arrival(
        &mut self,
        end: End,
        length: usize,
        now: Duration,
        chance: &mut Chance,
    ) -> Option<Duration> {
        if self.silent || self.left.is_some() {
            return None;
        }
        if let Some(thin) = self.thin {
            let leaves = &mut self.leaves[index(end)];
            let takes = Duration::from_secs(length as u64) / u32::try_from(thin.bytes_per_s).expect("thin");
            *leaves = now.max(*leaves) + takes;
            return Some(*leaves + thin.latency);
        }
        let late = self.sent_again(length, chance);
        let last = &mut self.last[index(end)];
        let at = (now + late + chance.between(self.latency_ms, 2 * self.latency_ms)).max(*last);
        *last = at;
        Some(at)
    }

    /// How much later the last of its packets comes for being lost: what came before it waits for the rest.
    fn sent_again(&self, length: usize, chance: &mut Chance) -> Duration {
        if self.lost_percent == 0 {
            return Duration::ZERO;
        }
        let packets = (0..length.div_ceil(PACKET_BYTES).max(1)).map(|_| {
            let [mut wait, most] = SENT_AGAIN_AFTER;
            let mut late = Duration::ZERO;
            while chance.below(100) < self.lost_percent {
                late += wait;
                wait = (2 * wait).min(most);
            }
            late
        });
        packets.max().unwrap_or_default()
    }

    /// How long until the sender's kernel has taken all that was sent towards `end`.
    pub fn taken_in(&self, end: End, now: Duration) -> Duration {
        let Some(thin) = self.thin else { return Duration::ZERO };
        let kept = Duration::from_secs(KERNEL_BYTES) / u32::try_from(thin.bytes_per_s).expect("thin");
        self.leaves[index(end)].saturating_sub(now + kept)
    }

    /// Bytes sent towards `end` that the sender's kernel has not taken.
    pub fn unsent(&self, end: End, now: Duration) -> usize {
        let bytes_per_s = self.thin.map_or(0, |thin| thin.bytes_per_s);
        let bytes = self.taken_in(end, now).as_micros() * u128::from(bytes_per_s) / 1_000_000;
        usize::try_from(bytes).expect("what a desk sends")
    }

    /// Cuts it: a few of the bytes on their way still come through.
    pub fn cut(&mut self, chance: &mut Chance) {
        if self.left.is_none() {
            self.left = Some([chance.index(600), chance.index(600)]);
        }
    }

    /// Whether it has carried as much as it lasts.
    pub fn is_worn_out(&self) -> bool {
        self.lasts.is_some_and(|(end, bytes)| self.passed(end) >= bytes)
    }

    pub fn is_cut(&self) -> bool {
        self.left.is_some()
    }

    /// Lets everything vanish from now on, without a word to anybody.
    pub fn go_silent(&mut self) {
        self.silent = true;
    }

    /// Bytes that have come through to `end`.
    pub fn passed(&self, end: End) -> u64 {
        self.passed[index(end)]
    }

    /// How many of `length` bytes that arrive at `end` come through.
    pub fn passes(&mut self, end: End, length: usize) -> usize {
        if self.silent || self.ended.contains(&end) {
            return 0;
        }
        if let Some((_, bytes)) = self.lasts.filter(|(towards, _)| *towards == end) {
            let most = usize::try_from(bytes - self.passed[index(end)]).unwrap_or(usize::MAX);
            self.passed[index(end)] += length.min(most) as u64;
            return length.min(most);
        }
        self.passed[index(end)] += length as u64;
        let Some(left) = &mut self.left else { return length };
        let passed = length.min(left[index(end)]);
        // What is missing once is missing for good: nothing behind it may come through.
        left[index(end)] = if passed < length { 0 } else { left[index(end)] - passed };
        passed
    }
}

fn index(end: End) -> usize {
    match end {
        End::Relay => 0,
        End::Desk => 1,
    }
}
