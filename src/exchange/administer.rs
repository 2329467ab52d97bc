//! Administrative acts: rosters, starts and stops, incarnations, and counted refusals.
//!
//! Their leaves are chained, so one is in flight at a time: the next is formed, and checked, after its Durable.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{Exchange, Notice, requests::Asker};
use crate::{
    limits, merkle,
    record::{
        administrative::{Act, AdministrativeLeaf},
        content::{AdministrativeRecord, Content},
    },
    roster::{self, PartyNumber, Roster, RosterError},
    router::policy,
    wire::{Position, order::SignedOrder, pb::AdministeredCode},
};

/// Pairs of party and code that are counted apart within a minute; beyond, one more pair is shared by all.
const COUNTS_MAX: usize = 1_024;

/// Acts that wait for their turn, and refusals that are counted.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    in_flight: bool,
    /// Who waits for the act in flight.
    asker: Option<Asker>,
    counts: BTreeMap<(PartyNumber, u16), u32>,
    counted_minute: u64,
    recorded: BTreeMap<PartyNumber, (u64, u32)>,
}

#[derive(Debug)]
enum Waiting {
    Act(Act),
    /// A roster note, checked only when its turn comes: then the version before it is in force.
    Roster(Bytes, Option<Asker>),
    /// An order, whose number is held against the last one only then.
    Order(Box<SignedOrder>, Asker),
}

/// Why a request is not done.
struct Declined(AdministeredCode, String);

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.in_flight
    }

    /// Whether something that the hub asked for is in line or in flight.
    pub(super) fn has_request(&self) -> bool {
        let asks = |waiting: &Waiting| match waiting {
            Waiting::Act(_) => false,
            Waiting::Roster(_, asker) => asker.is_some(),
            Waiting::Order(..) => true,
        };
        self.asker.is_some() || self.waiting.iter().any(asks)
    }

    /// Whether one more refusal of this party may be a record in this second.
    pub(super) fn may_record_refusal(&mut self, party: PartyNumber, second: u64, max: u32) -> bool {
        let entry = self.recorded.entry(party).or_insert((second, 0));
        if entry.0 != second {
            *entry = (second, 0);
        }
        entry.1 += 1;
        entry.1 <= max
    }

    pub(super) fn count_refusal(&mut self, party: PartyNumber, code: u16, time_us: u64) {
        if self.counts.is_empty() {
            self.counted_minute = minute(time_us);
        }
        let known = self.counts.contains_key(&(party, code)) || self.counts.len() < COUNTS_MAX;
        let key = if known { (party, code) } else { (PartyNumber(0), 0) };
        let count = self.counts.entry(key).or_default();
        *count = count.saturating_add(1);
    }
}

impl Exchange {
    /// Puts an act in line.
    pub(super) fn administer(&mut self, act: Act) {
        self.administrative.waiting.push_back(Waiting::Act(act));
        self.administer_next();
    }

    /// Puts an offered roster note in line; it is in force once its record is durable.
    pub(super) fn administer_roster(&mut self, note: Bytes, asker: Option<Asker>) {
        self.administrative.waiting.push_back(Waiting::Roster(note, asker));
        self.administer_next();
    }

    /// Puts an order in line; it is in force once its record is durable.
    pub(super) fn administer_order(&mut self, order: Box<SignedOrder>, asker: Asker) {
        self.administrative.waiting.push_back(Waiting::Order(order, asker));
        self.administer_next();
    }

    /// The act in flight is durable.
    pub(super) fn administered(&mut self, position: Position) {
        self.administrative.in_flight = false;
        if let Some(asker) = self.administrative.asker.take() {
            self.answer(asker, AdministeredCode::Done, position, "");
        }
        self.administer_next();
    }

    /// Checks a roster note against the roster in force, or the trust bundle where there is none.
    pub(super) fn verify_roster(&self, note: &[u8]) -> Result<Arc<Roster>, RosterError> {
        let roster = match &self.roster {
            None => roster::verify_first(note, &self.bundle)?,
            Some(current) => roster::verify_next(note, current)?,
        };
        Ok(Arc::new(roster))
    }

    /// Turns the refusals counted in a past minute into acts.
    pub(super) fn administer_past_counts(&mut self) {
        if self.administrative.counted_minute != minute(self.clock.time_us()) {
            self.administer_counts();
        }
    }

    /// Turns all counted refusals into acts.
    pub(super) fn administer_counts(&mut self) {
        let minute = self.administrative.counted_minute;
        for ((party, code), count) in std::mem::take(&mut self.administrative.counts) {
            self.administer(Act::Refusals { party, code, minute, count });
        }
    }

    fn administer_next(&mut self) {
        while !self.administrative.in_flight {
            let Some(waiting) = self.administrative.waiting.pop_front() else { return };
            let (act, beside, asker) = match waiting {
                Waiting::Act(act) => (Ok(act), Bytes::new(), None),
                // The operator's file stays as it was while the ministry publishes what follows it.
                Waiting::Roster(note, None) if self.was_in_force(&note) => continue,
                Waiting::Roster(note, asker) => (self.roster_act(&note), note, asker),
                Waiting::Order(order, asker) => (self.order_act(order), Bytes::new(), Some(asker)),
            };
            let act = match act {
                Ok(act) => act,
                Err(declined) => {
                    self.decline(declined, asker);
                    continue;
                }
            };
            self.administrative.in_flight = true;
            self.administrative.asker = asker;
            let leaf = AdministrativeLeaf { log_time_us: self.clock.time_us(), previous: self.chain, act };
            let record = AdministrativeRecord { leaf, beside };
            self.append(Content::Administrative(record), true, Vec::new());
        }
    }

    /// Whether a note is in force, or was in this log.
    fn was_in_force(&self, note: &Bytes) -> bool {
        self.roster_leaves.iter().any(|(.., beside)| beside == note)
    }

    /// The act of an offered roster, unless it is in force already or must not be.
    fn roster_act(&self, note: &Bytes) -> Result<Act, Declined> {
        let hash = merkle::sha256(note);
        if self.roster.as_ref().is_some_and(|roster| roster.hash() == hash) {
            let words = "this very roster is in force already";
            return Err(Declined(AdministeredCode::Known, words.to_owned()));
        }
        let invalid = |error: RosterError| Declined(AdministeredCode::NotValid, error.to_string());
        let roster = self.verify_roster(note).map_err(invalid)?;
        let notes_bytes =
            self.roster_leaves.iter().map(|(.., beside)| beside.len()).sum::<usize>() + note.len();
        if self.roster_leaves.len() >= limits::ROSTER_VERSIONS_MAX
            || notes_bytes > self.limits.roster_notes_bytes_max
        {
            let words = "this log holds as many rosters as it can; begin a new log with this one";
            return Err(Declined(AdministeredCode::NotValid, words.to_owned()));
        }
        let origin = |roster: &Roster| roster.content().log.origin.clone();
        if self.roster.as_deref().is_some_and(|current| origin(current) != origin(&roster)) {
            let words = "it names another log, and a log never changes its origin: start a relay on an empty folder with it";
            return Err(Declined(AdministeredCode::NotValid, words.to_owned()));
        }
        let length = u32::try_from(note.len()).expect("a verified note is at most 4 MiB");
        Ok(Act::Roster { version: roster.version(), hash, length })
    }

    fn order_act(&self, signed: Box<SignedOrder>) -> Result<Act, Declined> {
        let (number, last) = (signed.order.number, self.orders.last());
        if number <= last {
            let words = format!("order {number} came where a number above {last} is due");
            return Err(Declined(AdministeredCode::Number, words));
        }
        let roster = self.roster.as_ref().expect("the hub's session is open under a roster");
        let end = Position(self.tree.size());
        policy::check_order(&signed.order, roster, end, self.now_s())
            .map_err(|words| Declined(AdministeredCode::NotValid, words.to_owned()))?;
        if !self.orders.has_room_for(&signed.order) {
            let words = "orders about as many parties stand as can; suspend this one in the roster instead";
            return Err(Declined(AdministeredCode::NotValid, words.to_owned()));
        }
        Ok(Act::Order(signed))
    }

    /// Tells who asked, and for what nobody waits for the operator's log.
    fn decline(&mut self, Declined(code, words): Declined, asker: Option<Asker>) {
        match asker {
            Some(asker) => self.answer(asker, code, Position::NONE, &words),
            None => self.notice(Notice::RosterRefused(words)),
        }
    }
}

fn minute(time_us: u64) -> u64 {
    time_us / 60_000_000
}
