//! The ministry: what it wants the roster to say, and how that reaches the relay.

use bytes::Bytes;
use pouch::{
    desk::link::{machine::Input as LinkInput, requests::Request},
    exchange::Input,
};

use super::{
    bloc::{BLOC, KEYS_OF_A_DESK, Wanted},
    world::{Event, World},
};

/// The hub's desk.
pub const HUB: usize = 0;

impl World {
    /// The ministry suspends somebody, or takes the suspension back.
    pub fn suspend_or_lift(&mut self, desk: usize) {
        let suspends = self.wanted.suspended.is_empty() && desk != HUB;
        let suspended = if suspends { vec![desk] } else { Vec::new() };
        self.want(Wanted { suspended, ..self.wanted.clone() });
    }

    /// A desk gets another sign key: its box and the roster, one a little after the other.
    pub fn rotate_key(&mut self, desk: usize) {
        let next = self.wanted.keys[desk] + 1;
        if next == KEYS_OF_A_DESK {
            return;
        }
        self.checker.came("key rotated");
        let mut wanted = self.wanted.clone();
        wanted.keys[desk] = next;
        let later = self.chance.between(0, 500);
        self.after(later, Event::KeyChanges(desk));
        self.want(wanted);
    }

    fn want(&mut self, wanted: Wanted) {
        self.trace.note(self.now, || format!("the ministry wants {wanted:?}"));
        self.wanted = wanted;
        self.publish();
    }

    /// Signs the next roster, and hands it to the relay: through the hub's session, or as a file. Again and
    /// again until it is in force: a relay that died took with it what was not durable.
    pub fn publish(&mut self) {
        let Some(held) = self.relay.as_ref().and_then(|relay| relay.exchange.roster().cloned()) else {
            return;
        };
        if BLOC.is_as_wanted(&held, &self.wanted) || self.published == (self.relay_generation, held.version())
        {
            return;
        }
        let (note, roster) = BLOC.next_note(&held, &self.wanted);
        let note = Bytes::from(note);
        let by_file = self.chance.one_in(3) || self.desks[HUB].store().is_none();
        self.trace.note(self.now, || format!("roster {} is published, by file: {by_file}", roster.version()));
        self.published = (self.relay_generation, held.version());
        if by_file {
            self.relay_input(Input::RosterOffered { note });
        } else {
            self.desk_input(HUB, LinkInput::Request(Request::Publish(note)));
        }
    }

    /// What the hub asked for has come to an end, whichever it is.
    pub fn request_ended(&mut self, words: &str) {
        self.trace.note(self.now, || format!("the hub hears: {words}"));
        // Where it is not in force, it is signed anew.
        self.published = (0, 0);
        if words.starts_with("Done") {
            self.checker.came("roster through the hub's session");
        }
    }

    /// Whether what the ministry wants is in force.
    pub fn is_as_wanted(&self) -> bool {
        let held = self.relay.as_ref().and_then(|relay| relay.exchange.roster());
        held.is_some_and(|held| BLOC.is_as_wanted(held, &self.wanted))
    }
}
