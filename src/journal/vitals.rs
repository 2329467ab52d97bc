//! How the journal's thread does: how long batches take, and whether one is stuck. Plain atomics, touched
//! once a batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of the classes that batches are counted in, by how long write and sync took together.
pub const SYNC_CLASSES: [Duration; 10] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// Shared by the journal's thread, which writes, and whoever reports.
#[derive(Debug)]
pub struct Vitals {
    started: Instant,
    /// Microseconds after `started` at which the batch under way began, or [`IDLE`].
    busy_since_us: AtomicU64,
    /// By the classes above; the last one has no upper bound.
    classes: [AtomicU64; SYNC_CLASSES.len() + 1],
    sum_us: AtomicU64,
}

/// No batch is under way.
const IDLE: u64 = u64::MAX;

/// What was counted so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syncs {
    /// Batches by class; the last one took longer than all of [`SYNC_CLASSES`].
    pub classes: [u64; SYNC_CLASSES.len() + 1],
    /// All of them together.
    pub sum: Duration,
    /// How long the batch under way has taken so far.
    pub busy_for: Option<Duration>,
}

impl Default for Vitals {
    fn default() -> Vitals {
        Vitals {
            started: Instant::now(),
            busy_since_us: AtomicU64::new(IDLE),
            classes: Default::default(),
            sum_us: AtomicU64::new(0),
        }
    }
}

impl Vitals {
    /// A batch is about to be written.
    pub(super) fn begin(&self) {
        self.busy_since_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// The batch is durable.
    pub(super) fn end(&self) {
        let began_us = self.busy_since_us.swap(IDLE, Ordering::Relaxed);
        let took_us = self.now_us().saturating_sub(began_us);
        self.classes[class(Duration::from_micros(took_us))].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// How the syncs went so far.
    pub fn syncs(&self) -> Syncs {
        let busy_since_us = self.busy_since_us.load(Ordering::Relaxed);
        let busy_us = (busy_since_us != IDLE).then(|| self.now_us().saturating_sub(busy_since_us));
        Syncs {
            classes: std::array::from_fn(|class| self.classes[class].load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
            busy_for: busy_us.map(Duration::from_micros),
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(IDLE - 1)
    }
}

fn class(took: Duration) -> usize {
    SYNC_CLASSES.partition_point(|bound| *bound < took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_counted_once_in_the_first_class_that_holds_it() {
        assert_eq!(class(Duration::ZERO), 0);
        assert_eq!(class(Duration::from_micros(100)), 0);
        assert_eq!(class(Duration::from_micros(101)), 1);
        assert_eq!(class(Duration::from_secs(2)), SYNC_CLASSES.len());
    }

    #[test]
    fn a_batch_under_way_is_seen_until_it_ends() {
        let vitals = Vitals::default();
        assert_eq!(vitals.syncs().busy_for, None);
        vitals.begin();
        assert!(vitals.syncs().busy_for.is_some());
        vitals.end();
        let syncs = vitals.syncs();
        assert_eq!((syncs.busy_for, syncs.classes.iter().sum::<u64>()), (None, 1));
    }
}
