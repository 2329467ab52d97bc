//! A party's mailbox: envelopes that it has not settled and receipts that it has not confirmed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, TryGetError};

use crate::{
    limits::MAILBOX_MARKS_MAX,
    wire::{Malformed, Position, Precedence},
};

/// One item of a record that waits as a receipt: its index, below 128, and whether it is a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item(u8);

impl Item {
    const MARK: u8 = 128;

    fn new(index: usize, is_mark: bool) -> Item {
        let index = u8::try_from(index).ok().filter(|index| *index < Item::MARK);
        let index = index.expect("a record has at most 64 receipts, or expires for at most 128 addressees");
        Item(if is_mark { index | Item::MARK } else { index })
    }

    /// Among the items of its record.
    pub fn index(self) -> usize {
        usize::from(self.0 & !Item::MARK)
    }

    fn is_mark(self) -> bool {
        self.0 & Item::MARK != 0
    }
}

/// What waits for one party. Positions only: bodies are loaded when they are due.
#[derive(Clone, Debug, Default)]
pub struct Mailbox {
    /// Not yet sent in this session, by precedence.
    waiting: [BTreeSet<Position>; 4],
    /// Sent in this session, not settled.
    sent: BTreeMap<Position, Precedence>,
    /// Receipts: items of a record, all sent together.
    receipts: BTreeMap<Position, Vec<Item>>,
    /// Those records that hold marks: items that settled nothing.
    marked: BTreeSet<Position>,
    /// How many items that are, of all records.
    marks: usize,
    /// Items that are no marks.
    settling: usize,
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

    /// Receipts that it has not confirmed, by item; without marks.
    pub fn settling(&self) -> usize {
        self.settling
    }

    /// Marks that it has not confirmed, by item.
    pub fn marks(&self) -> usize {
        self.marks
    }

    /// Puts one item of a record in: it settled an envelope, or tells that one expired.
    pub fn put_receipt(&mut self, position: Position, index: usize) {
        let is_new = self.put_item(position, Item::new(index, false));
        self.settling += usize::from(is_new);
    }

    /// Puts in an item that settled nothing: what was read or acknowledged, or settled already. Nothing that
    /// their party sent bounds such items: beyond [`MAILBOX_MARKS_MAX`] the oldest go, and stay in the log alone.
    pub fn put_mark(&mut self, position: Position, index: usize) {
        if self.put_item(position, Item::new(index, true)) {
            self.marked.insert(position);
            self.marks += 1;
        }
        while self.marks > MAILBOX_MARKS_MAX {
            self.forget_oldest_marks();
        }
    }

    fn put_item(&mut self, position: Position, item: Item) -> bool {
        if self.confirmed >= Some(position) {
            return false;
        }
        let items = self.receipts.entry(position).or_default();
        // Who writes to itself is told once that the envelope expired.
        let is_new = !items.contains(&item);
        if is_new {
            items.push(item);
        }
        is_new
    }

    /// Drops the older half of its marks, those of one record at least.
    pub(super) fn forget_marks(&mut self) {
        let keep = self.marks / 2;
        while self.marks > keep {
            self.forget_oldest_marks();
        }
    }

    fn forget_oldest_marks(&mut self) {
        let oldest = self.marked.pop_first().expect("marks are in records");
        let items = self.receipts.get_mut(&oldest).expect("a record that holds marks waits");
        let before = items.len();
        items.retain(|item| !item.is_mark());
        self.marks -= before - items.len();
        if items.is_empty() {
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
    pub fn receipts_due(&self) -> impl Iterator<Item = (Position, &[Item])> {
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
                self.receipts_in_flight -= usize::from(was_sent);
                self.marked.remove(oldest.key());
                let (marks, settling): (Vec<_>, Vec<_>) =
                    oldest.remove().into_iter().partition(|item| item.is_mark());
                self.marks -= marks.len();
                self.settling -= settling.len();
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
        (self.receipts, self.marked, self.confirmed) = (other.receipts, other.marked, other.confirmed);
        (self.marks, self.settling) = (other.marks, other.settling);
    }

    /// Records below a position whose receipts wait.
    pub(super) fn receipts_below(&self, end: Position) -> impl Iterator<Item = Position> {
        self.receipts.range(..end).map(|(position, _)| *position)
    }

    /// `u64 the first position that is not confirmed || u32 n || n x (u64 position || u8 m || m x u8 item, with
    /// 128 where it is a mark)`: what no record says.
    pub(super) fn encode_receipts(&self, out: &mut Vec<u8>) {
        out.put_u64(self.confirmed.map_or(0, |confirmed| confirmed.0.saturating_add(1)));
        out.put_u32(u32::try_from(self.receipts.len()).expect("bounded in limits"));
        for (position, items) in &self.receipts {
            out.put_u64(position.0);
            out.put_u8(u8::try_from(items.len()).expect("a record has at most 128 items"));
            out.extend(items.iter().map(|item| item.0));
        }
    }

    /// Reads [`Mailbox::encode_receipts`].
    pub(super) fn decode_receipts(fields: &mut &[u8]) -> Result<Mailbox, Malformed> {
        let short = |_: TryGetError| Malformed::new("receipts in the base", "are cut short");
        let unconfirmed = fields.try_get_u64().map_err(short)?;
        let mut mailbox =
            Mailbox { confirmed: unconfirmed.checked_sub(1).map(Position), ..Mailbox::default() };
        for _ in 0..fields.try_get_u32().map_err(short)? {
            let position = Position(fields.try_get_u64().map_err(short)?);
            let count = usize::from(fields.try_get_u8().map_err(short)?);
            let items =
                fields.split_off(..count).ok_or(Malformed::new("receipts in the base", "are cut short"))?;
            let items: Vec<Item> = items.iter().copied().map(Item).collect();
            let is_after = mailbox.receipts.last_key_value().is_none_or(|(last, _)| position > *last);
            if items.is_empty() || !is_after || mailbox.confirmed >= Some(position) {
                return Err(Malformed::new("receipts in the base", "do not stand in order"));
            }
            let marks = items.iter().filter(|item| item.is_mark()).count();
            if marks > 0 {
                mailbox.marked.insert(position);
            }
            mailbox.marks += marks;
            mailbox.settling += items.len() - marks;
            mailbox.receipts.insert(position, items);
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
    use crate::limits::ADDRESSEES_MAX;

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
        assert_eq!(mailbox.receipts_due().next(), Some((Position(5), &[Item(0), Item(2)][..])));
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
        assert_eq!((mailbox.settling(), mailbox.marks()), (0, MAILBOX_MARKS_MAX - 1));
        mailbox.put_mark(Position(u64::MAX - 1), 1);
        assert_eq!(mailbox.receipts_due().next().map(|due| due.0), Some(Position(5)));
    }

    #[test]
    fn receipts_of_an_envelope_with_the_most_addressees_are_in_the_base() {
        let mut mailbox = Mailbox::default();
        mailbox.confirm(Position(3));
        for index in 0..ADDRESSEES_MAX {
            mailbox.put_receipt(Position(7), index);
            mailbox.put_receipt(Position(7), index);
        }
        mailbox.put_receipt(Position(9), 1);
        mailbox.put_mark(Position(9), 0);
        mailbox.put_mark(Position(11), 5);
        let mut bytes = Vec::new();
        mailbox.encode_receipts(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(Mailbox::decode_receipts(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
        let read = Mailbox::decode_receipts(&mut &bytes[..]).expect("it was written here");
        assert_eq!(read, mailbox);
        assert_eq!((read.settling(), read.marks()), (ADDRESSEES_MAX + 1, 2));
        assert_eq!(read.receipts_due().next().expect("the first").1.len(), ADDRESSEES_MAX, "each once");
    }
}
