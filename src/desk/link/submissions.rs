//! What is submitted and not yet answered, and how much more the relay takes.

use std::{collections::VecDeque, mem, time::Duration};

use crate::{
    batch::{Tag, item_leaf},
    desk::store::{Room, SealedSubmit},
    limits::Limits,
    session::{
        queue::Queue,
        window::{Allowance, Credit},
    },
    wire::pb::{self, frame::Kind},
};

/// The relay cannot ask for a longer pause, nor for so short a one that both sides do nothing else.
const HOLD_MAX: Duration = Duration::from_secs(60);
/// See [`HOLD_MAX`].
const HOLD_MIN: Duration = Duration::from_millis(100);
/// A relay that takes nothing new for so long is worth an alarm.
const DEFERRED_LONG: Duration = Duration::from_secs(60);

/// Sealed envelopes in number order, from the first unanswered one on. Bounded by the relay's window, and by what
/// the line takes in a second: nothing is sealed ahead of them, because what is sealed has its number, and no
/// FLASH can overtake it any more.
#[derive(Debug)]
pub(super) struct Submissions {
    limits: Limits,
    unanswered: VecDeque<SealedSubmit>,
    /// How many of them, from the front, need not be sent again in this session.
    sent: usize,
    allowance: Allowance,
    held_until: Option<Duration>,
    queue: Queue,
}

impl Submissions {
    pub(super) fn new(limits: &Limits) -> Submissions {
        Submissions {
            limits: limits.clone(),
            unanswered: VecDeque::new(),
            sent: 0,
            allowance: Allowance::default(),
            held_until: None,
            queue: Queue::new(limits),
        }
    }

    /// So many bytes of all that was said have not left yet.
    pub(super) fn unsent(&mut self, bytes: usize, now: Duration) {
        match self.queue.bytes().checked_sub(bytes) {
            Some(left) => self.queue.left(left, now, &self.limits),
            None => self.queue.add(bytes - self.queue.bytes(), now),
        }
    }

    /// Takes the relay's newest total; one below an earlier total changes nothing.
    pub(super) fn grant(&mut self, total: Credit) {
        self.allowance.raise(total);
    }

    /// Queues sealed envelopes behind the others. Their numbers must be above all queued before.
    pub(super) fn add(&mut self, sealed: Vec<SealedSubmit>) {
        for submit in sealed {
            let last = self.unanswered.back().map(|last| last.number);
            assert!(last < Some(submit.number), "the store gives numbers that rise");
            self.unanswered.push_back(submit);
        }
    }

    /// The next frame that credit, deferrals and the line let out now; counts it as sent.
    pub(super) fn next(&mut self, now: Duration) -> Option<Kind> {
        self.held_until = self.held_until.filter(|until| now < *until);
        if self.held_until.is_some() || !self.allowance.is_open() || self.queue.room() == 0 {
            return None;
        }
        let frame = Kind::Submit(self.unanswered.get(self.sent)?.submit.clone());
        self.sent += 1;
        let bytes = frame_bytes(&frame);
        self.allowance.spend(bytes);
        self.queue.add(usize::try_from(bytes).expect("it is in memory"), now);
        Some(frame)
    }

    /// The relay put off `number`: it and everything above it waits, then goes out again from there.
    pub(super) fn defer(&mut self, number: u64, retry_after: Duration, now: Duration) {
        let from = self.unanswered.partition_point(|submit| submit.number < number);
        if from < self.sent {
            self.sent = from;
            self.held_until = Some(now + retry_after.clamp(HOLD_MIN, HOLD_MAX));
        }
    }

    /// When what is held goes out again.
    pub(super) fn held_until(&self) -> Option<Duration> {
        self.held_until
    }

    /// The envelope of this number, while it waits for its answer.
    pub(super) fn find(&self, number: u64) -> Option<&pb::Submit> {
        Some(&self.unanswered.get(self.index_of(number)?)?.submit)
    }

    /// The number of the unanswered envelope of this name.
    pub(super) fn number_of(&self, envelope_hash: &[u8]) -> Option<u64> {
        let names = |submit: &&SealedSubmit| {
            *item_leaf(Tag::Envelope, &submit.submit.header).as_bytes() == *envelope_hash
        };
        self.unanswered.iter().take(self.sent).find(names).map(|submit| submit.number)
    }

    /// Takes out an envelope that was answered.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(index) = self.index_of(number) {
            self.unanswered.remove(index);
            if index < self.sent {
                self.sent -= 1;
            }
        }
    }

    /// How much may be sealed now: nothing while sealed envelopes still wait to be sent, or while more than half of
    /// what the line may hold waits to leave it.
    pub(super) fn room(&self) -> Option<Room> {
        let all_sent = self.held_until.is_none() && self.sent == self.unanswered.len();
        let queue_room = self.queue.room();
        if !all_sent || !self.allowance.is_open() || queue_room <= self.queue.bytes() {
            return None;
        }
        let Credit { envelopes, bytes } = self.allowance.room();
        Some(Room { envelopes, bytes: bytes.min(queue_room as u64) })
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        self.unanswered.binary_search_by_key(&number, |submit| submit.number).ok()
    }
}

/// Since when the relay has put everything off, without accepting anything between.
#[derive(Debug, Default)]
pub(super) struct Deferral {
    since: Option<Duration>,
    is_told: bool,
}

impl Deferral {
    /// Notes a Deferred; true once, when it has lasted long.
    pub(super) fn deferred(&mut self, now: Duration) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_long = now.saturating_sub(since) >= DEFERRED_LONG;
        is_long && !mem::replace(&mut self.is_told, true)
    }

    /// Notes an Accepted; true where a long deferral ends with it.
    pub(super) fn over(&mut self) -> bool {
        self.since = None;
        mem::take(&mut self.is_told)
    }
}

/// What the relay counts for a frame: its bytes, without the length before it.
fn frame_bytes(frame: &Kind) -> u64 {
    frame.encoded_len() as u64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{session::window::Grant, wire::Precedence};

    #[derive(Clone, Debug)]
    enum Step {
        Seal { bytes: usize },
        Answer { which: usize },
        Defer { which: usize },
        Wait { ms: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0usize..60_000).prop_map(|bytes| Step::Seal { bytes }),
            (0usize..8).prop_map(|which| Step::Answer { which }),
            (0usize..8).prop_map(|which| Step::Defer { which }),
            (0u64..2_000).prop_map(|ms| Step::Wait { ms }),
        ]
    }

    fn sealed(number: u64, bytes: usize) -> SealedSubmit {
        let submit = pb::Submit { ciphertext: Bytes::from(vec![0; bytes]), ..pb::Submit::default() };
        SealedSubmit { number, precedence: Precedence::Routine, submit }
    }

    /// A relay that counts every frame, defers and answers, and grants as it answers.
    struct Relay {
        grant: Grant,
        pool_bytes: u64,
        arrived: Vec<(usize, u64)>,
    }

    impl Relay {
        fn take(&mut self, frame: &Kind) {
            self.grant.receive(frame_bytes(frame)).expect("the window is never exceeded");
            let Kind::Submit(submit) = frame else { panic!("not a submission") };
            self.arrived.push((submit.ciphertext.len(), frame_bytes(frame)));
        }

        fn finish(&mut self, bytes: u64) -> Option<Credit> {
            self.grant.finish(bytes, Duration::ZERO, &Limits::DEFAULT, &mut self.pool_bytes)
        }
    }

    proptest! {
        #[test]
        fn whatever_is_deferred_and_answered_the_window_holds_and_numbers_go_out_in_order(
            steps in prop::collection::vec(step(), 1..200)
        ) {
            let mut relay =
                Relay { grant: Grant::new(&Limits::DEFAULT), pool_bytes: 1 << 20, arrived: Vec::new() };
            let mut desk = Submissions::new(&Limits::DEFAULT);
            desk.grant(relay.grant.granted());
            let (mut now, mut last) = (Duration::ZERO, 0u64);
            for step in steps {
                match step {
                    Step::Seal { bytes } => {
                        if desk.room().is_some() {
                            last += 1;
                            desk.add(vec![sealed(last, bytes)]);
                        }
                    }
                    Step::Answer { which } | Step::Defer { which } if which >= desk.sent => {}
                    Step::Answer { which } => {
                        let number = desk.unanswered[which].number;
                        desk.remove(number);
                        prop_assert!(desk.find(number).is_none());
                    }
                    Step::Defer { which } => {
                        let number = desk.unanswered[which].number;
                        desk.defer(number, Duration::from_millis(500), now);
                        prop_assert!(desk.next(now).is_none(), "deferred frames wait");
                    }
                    Step::Wait { ms } => now += Duration::from_millis(ms),
                }
                desk.unsent(0, now);
                while let Some(frame) = desk.next(now) {
                    desk.unsent(0, now);
                    let expected = &desk.unanswered[desk.sent - 1].submit;
                    prop_assert_eq!(&frame, &Kind::Submit(expected.clone()));
                    relay.take(&frame);
                }
                // The relay answers each frame once: with Accepted or with Deferred, it counts alike.
                if let Some((_, bytes)) = relay.arrived.pop()
                    && let Some(credit) = relay.finish(bytes)
                {
                    desk.grant(credit);
                }
            }
        }
    }
}
