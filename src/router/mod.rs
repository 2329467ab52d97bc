//! Who gets what, in which order: submission numbers, mailboxes, and what the roster allows.
//!
//! The router is lasting state only: everything in it changes in `exchange::apply` and nowhere else,
//! but for what one session has already been sent, which the [`mailbox`] forgets with the session.

pub mod base;
pub mod mailbox;
pub mod orders;
pub mod policy;
pub mod submissions;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    limits::{self, Limits},
    record::{
        content::{AcceptedEnvelope, AcceptedReceipts, Traffic},
        expiry::ExpiredEnvelope,
    },
    roster::PartyNumber,
    wire::{EnvelopeHash, Position, Precedence, SubmissionNumber, envelope::Addressee, receipt::ReceiptItem},
};

use mailbox::Mailbox;
use submissions::{Outcome, StoredNumbers, Submissions};

/// Everything that lasts about one party.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartyState {
    /// Incarnation and store in the log; 0 before first contact.
    pub incarnation: u32,
    /// See `incarnation`.
    pub store_id: [u8; 16],
    /// Its submission numbers.
    pub submissions: Submissions,
    /// Numbers of its Stored frames.
    pub stored: StoredNumbers,
    /// What waits for it.
    pub mailbox: Mailbox,
}

/// An accepted envelope that some addressee has not settled yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub hash: EnvelopeHash,
    /// Who sent it.
    pub sender: PartyNumber,
    /// Every addressee, in the core's order.
    pub addressees: Vec<Waiting>,
    /// How many of them have not settled.
    pub unsettled: usize,
    /// When it expires, seconds since 1970.
    pub expires_s: u64,
    /// What proves its leaf.
    pub traffic: Traffic,
}

impl Held {
    /// Place of a party among the addressees: at most 128 are looked at.
    pub fn index_of(&self, party: PartyNumber) -> Option<usize> {
        self.addressees.iter().position(|waiting| waiting.party == party)
    }
}

/// How an envelope waits for one addressee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For whom.
    pub party: PartyNumber,
    /// Precedence towards this addressee.
    pub precedence: Precedence,
    /// Whether it is out of the addressee's mailbox.
    pub settled: bool,
}

/// A desk settles what is not its own, or not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a receipt for position {0}, which is not an envelope of that name in this mailbox")]
pub struct NotYours(pub Position);

/// The lasting state of all parties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Router {
    parties: BTreeMap<PartyNumber, PartyState>,
    /// Boxed: a map moves its values about when it takes one out.
    held: BTreeMap<Position, Box<Held>>,
    /// The held ones by the second in which they expire.
    expiries: BTreeSet<(u64, Position)>,
    /// Addressees of held envelopes, all together, and how many of them have not settled.
    addressees_held: usize,
    addressees_unsettled: usize,
    /// Items in all mailboxes that are no marks, and those that are.
    settling: usize,
    marks: usize,
    /// Items that desks have confirmed since the last base was made: until the next one, a start finds them again.
    confirmed_since_base: usize,
    /// Their records: a start would send them again, so the journal must still have them.
    confirmed_records: BTreeSet<Position>,
    /// Submission numbers remembered of all parties, and numbers of their Stored frames.
    submissions_remembered: usize,
    stored_remembered: usize,
}

impl Router {
    /// A party's state; empty before its first contact.
    pub fn party(&mut self, number: PartyNumber) -> &mut PartyState {
        self.parties.entry(number).or_default()
    }

    /// A party's state, where there is any.
    pub fn known(&self, number: PartyNumber) -> Option<&PartyState> {
        self.parties.get(&number)
    }

    /// All parties that have state, in the order of their numbers.
    pub fn parties(&self) -> impl Iterator<Item = (PartyNumber, &PartyState)> {
        self.parties.iter().map(|(number, state)| (*number, state))
    }

    /// An envelope that somebody has not settled.
    pub fn held(&self, position: Position) -> Option<&Held> {
        self.held.get(&position).map(Box::as_ref)
    }

    /// Whether one more envelope fits this party's mailbox, counting `pending` that are being written.
    pub fn has_room(&self, party: PartyNumber, pending: usize, envelopes_max: usize) -> bool {
        self.parties.get(&party).map_or(0, |state| state.mailbox.envelopes()) + pending < envelopes_max
    }

    /// Whether so many more envelopes and addressees fit a segment's base, with all that is held already and
    /// the receipts that have come of it or may yet come. Only this lets lasting state grow, so a base always fits.
    pub fn has_room_in_all(&self, envelopes: usize, addressees: usize, limits: &Limits) -> bool {
        self.lasting_bytes() + base::held_bytes(envelopes, addressees, addressees) <= limits.lasting_bytes_max
    }

    /// Whether so many items wait for this party, unconfirmed, that none should be added.
    pub fn owes_confirmation(&self, party: PartyNumber, limits: &Limits) -> bool {
        let items = self.parties.get(&party).map_or(0, |state| state.mailbox.settling());
        items >= limits.mailbox_receipts_max
    }

    /// Takes a desk's word that it has stored its receipts up to a position.
    pub fn confirm(&mut self, party: PartyNumber, through: Position) {
        let before = self.settling;
        if let Some(state) = self.parties.get(&party) {
            let after = Position(through.0.saturating_add(1));
            self.confirmed_records.extend(state.mailbox.receipts_below(after));
        }
        self.change_mailbox(party, |mailbox| mailbox.confirm(through));
        self.confirmed_since_base += before - self.settling;
    }

    /// Whether so much was confirmed since the last base that a new one should be made.
    pub fn wants_base(&self, limits: &Limits) -> bool {
        base::items_bytes(self.confirmed_since_base) > limits.confirmed_bytes_max
    }

    /// A base was made, which says what was confirmed.
    pub fn base_made(&mut self) {
        self.confirmed_since_base = 0;
        self.confirmed_records.clear();
    }

    /// Bytes of a base that envelopes and their receipts take or may yet take.
    fn lasting_bytes(&self) -> usize {
        base::held_bytes(self.held.len(), self.addressees_held, self.addressees_unsettled)
            + base::items_bytes(self.settling + self.confirmed_since_base)
    }

    /// Changes what waits for a party, and counts it. Of all parties together so many marks are kept; beyond
    /// that, the party that has most of them loses half of its own.
    fn change_mailbox(&mut self, party: PartyNumber, change: impl FnOnce(&mut Mailbox)) {
        let mailbox = &mut self.party(party).mailbox;
        let (settling, marks) = (mailbox.settling(), mailbox.marks());
        change(mailbox);
        let (settling_now, marks_now) = (mailbox.settling(), mailbox.marks());
        self.settling = self.settling - settling + settling_now;
        self.marks = self.marks - marks + marks_now;
        while self.marks > limits::MARKS_IN_ALL_MAX {
            let all = self.parties.values_mut().map(|state| &mut state.mailbox);
            let most = all.max_by_key(|mailbox| mailbox.marks()).expect("a party has marks");
            self.marks -= most.marks();
            most.forget_marks();
            self.marks += most.marks();
        }
    }

    /// Spends a submission number. Of all parties together so many are remembered; beyond that, the party
    /// whose oldest one is the oldest of all forgets half of its own.
    pub fn spend(
        &mut self,
        party: PartyNumber,
        number: SubmissionNumber,
        hash: EnvelopeHash,
        outcome: Outcome,
    ) {
        let submissions = &mut self.party(party).submissions;
        let before = submissions.remembered().len();
        submissions.spend(number, hash, outcome);
        let grown = submissions.remembered().len() - before;
        self.submissions_remembered += grown;
        if self.submissions_remembered > limits::SUBMISSIONS_REMEMBERED_IN_ALL {
            let all = self.parties.values_mut().map(|state| &mut state.submissions);
            let oldest = all.filter(|one| one.oldest().is_some()).min_by_key(|one| one.oldest());
            self.submissions_remembered -= oldest.map_or(0, Submissions::forget_half);
        }
    }

    /// Forgets what became of numbers that were spent below a position: its openings are erased.
    pub fn forget_below(&mut self, end: Position) {
        for state in self.parties.values_mut() {
            self.submissions_remembered -= state.submissions.forget_below(end);
            self.stored_remembered -= state.stored.forget_below(end);
        }
    }

    /// Records below a position that somebody still waits for, rising: envelopes that are not settled by all,
    /// receipts that are not confirmed, and those that were, but not yet when the last base was made.
    pub fn needed_below(&self, end: Position) -> Vec<Position> {
        let held = self.held.range(..end).map(|(position, _)| *position);
        let receipts = self.parties.values().flat_map(|state| state.mailbox.receipts_below(end));
        let confirmed = self.confirmed_records.range(..end).copied();
        let needed: BTreeSet<Position> = held.chain(receipts).chain(confirmed).collect();
        needed.into_iter().collect()
    }

    /// Whether a record is one of [`Router::needed_below`].
    pub fn is_needed(&self, position: Position) -> bool {
        self.held.contains_key(&position)
            || self.parties.values().any(|state| state.mailbox.has_receipts_of(position))
    }

    /// Takes an accepted envelope in: spends its number, and puts it into every addressee's mailbox.
    pub fn accept(&mut self, accepted: &AcceptedEnvelope, position: Position) {
        let core = &accepted.core;
        let outcome = Outcome::Accepted { position, traffic: accepted.traffic };
        self.spend(core.sender, core.submission, accepted.hash, outcome);
        let waiting = |Addressee { party, role }: &Addressee| Waiting {
            party: *party,
            precedence: core.precedence(*role),
            settled: false,
        };
        let addressees: Vec<Waiting> = core.addressees.iter().map(waiting).collect();
        let unsettled = addressees.len();
        let held = Held {
            hash: accepted.hash,
            sender: core.sender,
            addressees,
            unsettled,
            expires_s: core.expires_s,
            traffic: accepted.traffic,
        };
        self.hold(position, held);
    }

    /// Holds an envelope for those of its addressees that have not settled it.
    fn hold(&mut self, position: Position, held: Held) {
        for waiting in held.addressees.iter().filter(|waiting| !waiting.settled) {
            self.party(waiting.party).mailbox.put(position, waiting.precedence);
        }
        self.addressees_held += held.addressees.len();
        self.addressees_unsettled += held.unsettled;
        self.expiries.insert((held.expires_s, position));
        let before = self.held.insert(position, Box::new(held));
        assert!(before.is_none(), "one record, one position");
    }

    /// Envelopes that are past their time, the first to expire first.
    pub fn expired(&self, now_s: u64) -> impl Iterator<Item = Position> {
        self.expiries.range(..=(now_s, Position::NONE)).map(|(_, position)| *position)
    }

    /// Takes an expired envelope out of the mailboxes of those who have not settled it meanwhile, and puts a
    /// receipt into theirs and into the sender's. Whether nobody waits for it any more.
    pub fn expire(&mut self, expired: &ExpiredEnvelope, position: Position) -> bool {
        let mut is_done = false;
        for (index, (party, _)) in expired.addressees.iter().enumerate() {
            if let Some(done) = self.take_out(*party, expired.position) {
                is_done |= done;
                self.change_mailbox(*party, |mailbox| mailbox.put_receipt(position, index));
                self.change_mailbox(expired.sender, |mailbox| mailbox.put_receipt(position, index));
            }
        }
        is_done
    }

    /// Checks receipts that settle against the mailbox: each names an envelope that is this party's, by its
    /// true name, or one that is settled already.
    ///
    /// # Errors
    /// [`NotYours`] for an unknown, future or another's position (FAULTS 50).
    pub fn check_settlement(
        &self,
        party: PartyNumber,
        item: &ReceiptItem,
        next: Position,
    ) -> Result<(), NotYours> {
        for (hash, position) in &item.envelopes {
            let fits = match self.held.get(position) {
                Some(held) => {
                    held.hash == *hash && held.sender == item.sender && held.index_of(party).is_some()
                }
                None => *position < next,
            };
            if !fits {
                return Err(NotYours(*position));
            }
        }
        Ok(())
    }

    /// Whether an item settles an envelope that still waits for this party.
    pub fn settles(&self, party: PartyNumber, item: &ReceiptItem) -> bool {
        let waits = |position| {
            let held = self.held.get(position)?;
            Some(!held.addressees[held.index_of(party)?].settled)
        };
        item.kind.settles() && item.envelopes.iter().any(|(_, position)| waits(position) == Some(true))
    }

    /// Takes a desk's receipts in: settles, and puts each item into the mailbox of the sender it is for.
    /// Returns the envelopes that nobody waits for any more, and the senders that have receipts waiting.
    pub fn settle(&mut self, receipts: &AcceptedReceipts, position: Position) -> Settled {
        let mut settled = Settled::default();
        self.take_stored(receipts, position);
        for (index, part) in receipts.batch.parts.iter().enumerate() {
            let mut settles = false;
            if part.item.kind.settles() {
                for (_, envelope) in &part.item.envelopes {
                    let is_last = self.take_out(receipts.receiptor, *envelope);
                    settles |= is_last.is_some();
                    if is_last == Some(true) {
                        settled.done.push(*envelope);
                    }
                }
            }
            // What settles takes the room that its envelope was given; the rest has a bound of its own.
            self.change_mailbox(part.item.sender, |mailbox| {
                if settles { mailbox.put_receipt(position, index) } else { mailbox.put_mark(position, index) }
            });
            settled.senders.push(part.item.sender);
        }
        settled
    }

    /// As [`Router::spend`], for the number of a Stored frame.
    fn take_stored(&mut self, receipts: &AcceptedReceipts, position: Position) {
        let stored = &mut self.party(receipts.receiptor).stored;
        let before = stored.remembered();
        stored.take(receipts.batch.number, position, receipts.traffic);
        let grown = stored.remembered() - before;
        self.stored_remembered += grown;
        if self.stored_remembered > limits::STORED_REMEMBERED_IN_ALL {
            let all = self.parties.values_mut().map(|state| &mut state.stored);
            let oldest = all.filter(|one| one.oldest().is_some()).min_by_key(|one| one.oldest());
            self.stored_remembered -= oldest.map_or(0, StoredNumbers::forget_half);
        }
    }

    /// Takes an envelope out of one mailbox, where it is in it: then says whether it was the last.
    fn take_out(&mut self, party: PartyNumber, position: Position) -> Option<bool> {
        let held = self.held.get_mut(&position)?;
        let index = held.index_of(party)?;
        let waiting = &mut held.addressees[index];
        if waiting.settled {
            return None;
        }
        waiting.settled = true;
        let precedence = waiting.precedence;
        held.unsettled -= 1;
        self.addressees_unsettled -= 1;
        let (is_last, expires_s) = (held.unsettled == 0, held.expires_s);
        self.party(party).mailbox.settle(position, precedence);
        if is_last && let Some(held) = self.held.remove(&position) {
            self.addressees_held -= held.addressees.len();
            self.expiries.remove(&(expires_s, position));
        }
        Some(is_last)
    }
}

/// What [`Router::settle`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Envelopes that every addressee has settled.
    pub done: Vec<Position>,
    /// Senders with a receipt waiting; one may stand here more than once.
    pub senders: Vec<PartyNumber>,
}
