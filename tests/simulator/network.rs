//! Lines between desks and the relay: bytes in order, late, cut anywhere, or gone without a word.

use std::{collections::BTreeSet, time::Duration};

use super::chance::Chance;

/// Which end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Relay,
    Desk,
}

/// One connection. Bytes on their way stand in the world's queue, in the order of their arrival.
#[derive(Debug)]
pub struct Line {
    pub desk: usize,
    pub exporter: [u8; 32],
    latency_ms: u64,
    /// When the last bytes towards each end arrive: none overtakes another.
    last: [Duration; 2],
    /// Bytes that still come through to each end once the line is cut.
    left: Option<[usize; 2]>,
    /// Whether what is sent vanishes, and nobody is told.
    silent: bool,
    /// Ends that know that it is over.
    pub ended: BTreeSet<End>,
}

impl Line {
    pub fn new(desk: usize, chance: &mut Chance) -> Line {
        let latency_ms = *chance.pick(&[1, 5, 20, 150]);
        Line {
            desk,
            exporter: chance.bytes(),
            latency_ms,
            last: [Duration::ZERO; 2],
            left: None,
            silent: false,
            ended: BTreeSet::new(),
        }
    }

    /// When what is sent now arrives at `end`; `None` if it never does.
    pub fn arrival(&mut self, end: End, now: Duration, chance: &mut Chance) -> Option<Duration> {
        if self.silent || self.left.is_some() {
            return None;
        }
        let last = &mut self.last[index(end)];
        let at = (now + chance.between(self.latency_ms, 2 * self.latency_ms)).max(*last);
        *last = at;
        Some(at)
    }

    /// Cuts it: a few of the bytes on their way still come through.
    pub fn cut(&mut self, chance: &mut Chance) {
        if self.left.is_none() {
            self.left = Some([chance.index(600), chance.index(600)]);
        }
    }

    pub fn is_cut(&self) -> bool {
        self.left.is_some()
    }

    /// Lets everything vanish from now on, without a word to anybody.
    pub fn go_silent(&mut self) {
        self.silent = true;
    }

    /// How many of `length` bytes that arrive at `end` come through.
    pub fn passes(&mut self, end: End, length: usize) -> usize {
        if self.silent || self.ended.contains(&end) {
            return 0;
        }
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
