//! A party's mailbox: envelopes that it has not settled and receipts that it has not confirmed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, TryGetError};

use crate::{
    limits::MAILBOX_MARKS_MAX,
    wire::{Position, Precedence},
};

/// A bit of the count of a record's items in a segment's base: there are at most 64.
const MARKS_ALONE: u8 = 128;

/// What waits for one party. Positions only: bodies are loaded when they are due.
#[derive(Clone, Debug, Default)]
pub struct Mailbox {
    /// Not yet sent in this session, by precedence.
    waiting: [BTreeSet<Position>; 4],
    /// Sent in this session, not settled.
    sent: BTreeMap<Position, Precedence>,
    /// Receipts: items of a record, all sent together.
    receipts: BTreeMap<Position, Vec<usize>>,
    /// Those of them that say only what was read or acknowledged.
    marks: BTreeSet<Position>,
    /// Receipts up to here were sent in this session.
    receipts_sent: Option<Position>,
    /// How many records that is, of those not confirmed.
    receipts_in_flight: usize,
    /// Receipts up to here are confirmed.
    confirmed: Option<Position>,
}

/// Two mailboxes are equal when the same things wait in them, whatever one session was sent.
impl PartialEq for Mailbox {
    fn eq(&self, other: &Mailbox) -> bool {
        let lasting = |mailbox: &Mailbox| {
            let mut mailbox = mailbox.clone();
            mailbox.session_ended();
            (mailbox.waiting, mailbox.receipts, mailbox.confirmed)
        };
        lasting(self) == lasting(other)
    }
}

impl Eq for Mailbox {}

impl Mailbox {
    /// Envelopes in it, sent or not.
    pub fn envelopes(&self) -> usize {
        self.waiting.iter().map(BTreeSet::len).sum::<usize>() + self.sent.len()
    }

    /// Envelopes of one precedence in it, sent or not.
    pub fn unsettled(&self, precedence: Precedence) -> usize {
        let sent = self.sent.values().filter(|sent| **sent == precedence).count();
        self.waiting[precedence.index()].len() + sent
    }

    /// The oldest envelope in it.
    pub fn oldest(&self) -> Option<Position> {
        let waiting = self.waiting.iter().filter_map(BTreeSet::first);
        waiting.chain(self.sent.keys().next()).min().copied()
    }

    /// Receipt records that the desk has not confirmed.
    pub fn receipts_unconfirmed(&self) -> usize {
        self.receipts.len()
    }

    /// Puts an accepted envelope in.
    pub fn put(&mut self, position: Position, precedence: Precedence) {
        self.waiting[precedence.index()].insert(position);
    }

    /// Puts one item of a receipts record in.
    pub fn put_receipt(&mut self, position: Position, item: usize) {
        if self.confirmed < Some(position) {
            self.marks.remove(&position);
            self.receipts.entry(position).or_default().push(item);
        }
    }

    /// Puts in an item that says only what was read or acknowledged. Such receipts are bounded by nothing that
    /// their party sent: beyond [`MAILBOX_MARKS_MAX`] the oldest go, and stay in the log alone.
    pub fn put_mark(&mut self, position: Position, item: usize) {
        if self.confirmed >= Some(position) {
            return;
        }
        if !self.receipts.contains_key(&position) {
            self.marks.insert(position);
        }
        self.receipts.entry(position).or_default().push(item);
        if self.marks.len() > MAILBOX_MARKS_MAX
            && let Some(oldest) = self.marks.pop_first()
        {
            self.receipts.remove(&oldest);
            self.receipts_in_flight -= usize::from(self.receipts_sent >= Some(oldest));
        }
    }

    /// The next positions to send at a precedence, in order.
    pub fn due(&self, precedence: Precedence) -> impl Iterator<Item = Position> {
        self.waiting[precedence.index()].iter().copied()
    }

    /// Marks an envelope as sent in this session.
    pub fn mark_sent(&mut self, position: Position, precedence: Precedence) {
        let was_waiting = self.waiting[precedence.index()].remove(&position);
        debug_assert!(was_waiting, "only what is due is sent");
        self.sent.insert(position, precedence);
    }

    /// Takes a settled envelope out.
    pub fn settle(&mut self, position: Position, precedence: Precedence) {
        if self.sent.remove(&position).is_none() {
            self.waiting[precedence.index()].remove(&position);
        }
    }

    /// Receipt records not sent in this session, in order.
    pub fn receipts_due(&self) -> impl Iterator<Item = (Position, &[usize])> {
        let after = self.receipts_sent.map_or(Position(0), |sent| Position(sent.0 + 1));
        self.receipts.range(after..).map(|(position, items)| (*position, items.as_slice()))
    }

    /// How many receipt records were sent and are not confirmed.
    pub fn receipts_in_flight(&self) -> usize {
        self.receipts_in_flight
    }

    /// Marks the receipts that were due first as sent in this session.
    pub fn mark_receipts_sent(&mut self, position: Position) {
        debug_assert_eq!(self.receipts_due().next().map(|due| due.0), Some(position), "sent in order");
        self.receipts_sent = Some(position);
        self.receipts_in_flight += 1;
    }

    /// Drops receipts that the desk has stored.
    pub fn confirm(&mut self, through: Position) {
        if self.confirmed < Some(through) {
            self.confirmed = Some(through);
            while let Some(oldest) = self.receipts.first_entry().filter(|oldest| *oldest.key() <= through) {
                let was_sent = self.receipts_sent >= Some(*oldest.key());
                self.marks.remove(oldest.key());
                self.receipts_in_flight -= usize::from(was_sent);
                oldest.remove();
            }
        }
    }

    /// Receipts up to here are confirmed.
    pub fn confirmed(&self) -> Option<Position> {
        self.confirmed
    }

    /// Whether it has receipts, or had some confirmed.
    pub(super) fn knows_receipts(&self) -> bool {
        self.confirmed.is_some() || !self.receipts.is_empty()
    }

    /// Whether receipts of this record wait.
    pub(super) fn has_receipts_of(&self, position: Position) -> bool {
        self.receipts.contains_key(&position)
    }

    /// Takes over receipts and what was confirmed of them.
    pub fn take_receipts(&mut self, other: Mailbox) {
        (self.receipts, self.marks, self.confirmed) = (other.receipts, other.marks, other.confirmed);
    }

    /// Records below a position whose receipts wait.
    pub(super) fn receipts_below(&self, end: Position) -> impl Iterator<Item = Position> {
        self.receipts.range(..end).map(|(position, _)| *position)
    }

    /// `u64 the first position that is not confirmed || u32 n || n x (u64 position || u8 m, with 128 where they
    /// are marks alone || m x u8 item)`: what no record says.
    pub(super) fn encode_receipts(&self, out: &mut Vec<u8>) {
        out.put_u64(self.confirmed.map_or(0, |confirmed| confirmed.0.saturating_add(1)));
        out.put_u32(u32::try_from(self.receipts.len()).expect("bounded in limits"));
        for (position, items) in &self.receipts {
            out.put_u64(position.0);
            let small = |n: usize| u8::try_from(n).expect("a record has at most 64 items");
            out.put_u8(small(items.len()) | if self.marks.contains(position) { MARKS_ALONE } else { 0 });
            out.extend(items.iter().copied().map(small));
        }
    }

    /// Reads [`Mailbox::encode_receipts`].
    pub(super) fn decode_receipts(fields: &mut &[u8]) -> Result<Mailbox, TryGetError> {
        let unconfirmed = fields.try_get_u64()?;
        let mut mailbox =
            Mailbox { confirmed: unconfirmed.checked_sub(1).map(Position), ..Mailbox::default() };
        for _ in 0..fields.try_get_u32()? {
            let position = Position(fields.try_get_u64()?);
            let count = fields.try_get_u8()?;
            let mut items = vec![0; usize::from(count & !MARKS_ALONE)];
            fields.try_copy_to_slice(&mut items)?;
            mailbox.receipts.insert(position, items.into_iter().map(usize::from).collect());
            if count & MARKS_ALONE != 0 {
                mailbox.marks.insert(position);
            }
        }
        Ok(mailbox)
    }

    /// Forgets what a session was sent: all of it is due again.
    pub fn session_ended(&mut self) {
        for (position, precedence) in std::mem::take(&mut self.sent) {
            self.waiting[precedence.index()].insert(position);
        }
        self.receipts_sent = None;
        self.receipts_in_flight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_and_not_settled_is_due_again_in_order_after_the_session() {
        let mut mailbox = Mailbox::default();
        for n in 0..4 {
            mailbox.put(Position(n), Precedence::Routine);
        }
        mailbox.mark_sent(Position(0), Precedence::Routine);
        mailbox.mark_sent(Position(1), Precedence::Routine);
        mailbox.settle(Position(0), Precedence::Routine);
        assert_eq!(mailbox.due(Precedence::Routine).collect::<Vec<_>>(), [Position(2), Position(3)]);
        mailbox.session_ended();
        assert_eq!(
            mailbox.due(Precedence::Routine).collect::<Vec<_>>(),
            [Position(1), Position(2), Position(3)]
        );
        assert_eq!(mailbox.envelopes(), 3);
    }

    #[test]
    fn receipts_come_again_until_they_are_confirmed_and_never_after() {
        let mut mailbox = Mailbox::default();
        mailbox.put_receipt(Position(5), 0);
        mailbox.put_receipt(Position(5), 2);
        mailbox.put_receipt(Position(9), 0);
        mailbox.mark_receipts_sent(Position(5));
        assert_eq!(mailbox.receipts_due().map(|due| due.0).collect::<Vec<_>>(), [Position(9)]);
        assert_eq!(mailbox.receipts_in_flight(), 1);
        mailbox.session_ended();
        assert_eq!(mailbox.receipts_due().next(), Some((Position(5), &[0, 2][..])));
        mailbox.confirm(Position(5));
        mailbox.confirm(Position(4));
        assert_eq!(mailbox.confirmed(), Some(Position(5)), "a smaller confirmation changes nothing");
        mailbox.put_receipt(Position(5), 1);
        assert_eq!(mailbox.receipts_due().map(|due| due.0).collect::<Vec<_>>(), [Position(9)]);
    }

    #[test]
    fn beyond_the_bound_the_oldest_marks_go_and_never_what_settles() {
        let mut mailbox = Mailbox::default();
        mailbox.put_receipt(Position(0), 0);
        mailbox.put_mark(Position(1), 0);
        mailbox.put_receipt(Position(1), 1);
        for position in 2..MAILBOX_MARKS_MAX as u64 + 3 {
            mailbox.put_mark(Position(position), 0);
        }
        mailbox.mark_receipts_sent(Position(0));
        mailbox.mark_receipts_sent(Position(1));
        mailbox.mark_receipts_sent(Position(3));
        mailbox.put_mark(Position(u64::MAX - 1), 0);
        assert_eq!(mailbox.receipts_in_flight(), 2, "one that was sent is gone");
        mailbox.session_ended();
        let first: Vec<u64> = mailbox.receipts_due().map(|(position, _)| position.0).take(3).collect();
        assert_eq!(first, [0, 1, 4]);
        assert_eq!(mailbox.receipts_due().count(), MAILBOX_MARKS_MAX + 2);
        mailbox.confirm(Position(4));
        mailbox.put_mark(Position(u64::MAX - 1), 1);
        assert_eq!(mailbox.receipts_due().next().map(|due| due.0), Some(Position(5)));
    }
}
