//! What happened, as one number to compare runs by, and in words for whoever looks for a fault.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

pub struct Trace {
    hasher: DefaultHasher,
    loud: bool,
}

impl Trace {
    pub fn new(loud: bool) -> Trace {
        Trace { hasher: DefaultHasher::new(), loud }
    }

    pub fn note(&mut self, now: Duration, words: impl FnOnce() -> String) {
        let words = words();
        (now, &words).hash(&mut self.hasher);
        if self.loud {
            println!("{now:>14.6?} {words}");
        }
    }

    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}
