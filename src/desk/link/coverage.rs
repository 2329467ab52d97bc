//! Whether the checkpoints that the relay shows keep up with what it tells of. Silence alone is no sign: a line may be
//! thin. But frames come in the order in which they were sent: a Pong that overtakes no checkpoint shows that the
//! relay had none to show.

use std::{mem, time::Duration};

use crate::wire::Position;

/// What one session was told of, and what it was shown.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// Leaves in the largest checkpoint shown.
    shown: u64,
    /// A leaf that none shown covers, and since when: at least as long as any that is looked for.
    owed: Option<(Position, Duration)>,
    /// The last leaf that was told of, and when.
    newest: Option<(Position, Duration)>,
    /// Whether the relay is asked for a sign of life.
    is_asked: bool,
    /// Whether a person was told that one is overdue, and not that it came.
    is_said: bool,
}

impl Coverage {
    /// A session begins; a proof of this leaf is owed from before, and a person was told that it is overdue, or not.
    pub(super) fn new(owed: Option<Position>, is_said: bool, now: Duration) -> Coverage {
        let owed = owed.map(|position| (position, now));
        Coverage { owed, newest: owed, is_said, ..Coverage::default() }
    }

    /// The relay tells of a leaf.
    pub(super) fn told(&mut self, position: Position, now: Duration) {
        if position.0 < self.shown || self.newest.is_some_and(|(newest, _)| position <= newest) {
            return;
        }
        self.newest = Some((position, now));
        self.owed = self.owed.or(self.newest);
    }

    /// The relay shows a checkpoint of so many leaves that the log's key has signed; gives whether a person has to know
    /// that nothing is overdue any more.
    pub(super) fn shown(&mut self, size: u64) -> bool {
        self.shown = self.shown.max(size);
        let is_left = |(position, _): &(Position, Duration)| position.0 >= size;
        if self.owed.as_ref().is_some_and(is_left) {
            return false;
        }
        (self.owed, self.is_asked) = (self.newest.filter(is_left), false);
        mem::take(&mut self.is_said)
    }

    /// When the relay is to be asked for a sign of life, unless a checkpoint comes before.
    pub(super) fn asks_at(&self, time_max: Duration) -> Option<Duration> {
        let (_, since) = self.owed.filter(|_| !self.is_asked)?;
        Some(since.saturating_add(time_max))
    }

    /// The token of a ping that is due: the Pong tells whether a checkpoint came before it.
    pub(super) fn asks(&mut self, time_max: Duration, now: Duration) -> Option<u64> {
        if self.asks_at(time_max).is_none_or(|at| now < at) {
            return None;
        }
        self.is_asked = true;
        self.owed.map(|(position, _)| position.0)
    }

    /// A Pong came; gives the leaf that a person has to know of.
    pub(super) fn answered(&mut self, token: u64) -> Option<Position> {
        let (position, _) = self.owed.filter(|(position, _)| self.is_asked && position.0 == token)?;
        (!mem::replace(&mut self.is_said, true)).then_some(position)
    }
}
