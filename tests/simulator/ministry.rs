//! The ministry: what it wants the roster to say, its orders, and how both reach the relay.

use std::time::Duration;

use bytes::Bytes;
use pouch::{
    desk::link::{
        machine::Input as LinkInput,
        requests::{Request, RequestEnd},
    },
    exchange::Input,
    wire::order::{Order, OrderKind},
};

use super::{
    bloc::{BLOC, KEYS_OF_A_DESK, Wanted},
    trace::Trace,
    world::{Event, START_US, World},
};

/// The hub's desk.
pub const HUB: usize = 0;

/// What the hub has asked of the relay and was not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Roster,
    /// MINIMIZE under this number, or its end.
    Minimize {
        number: u32,
        ends: bool,
    },
}

/// What the hub has under way, and which orders it has given.
#[derive(Debug, Default)]
pub struct HubRequests {
    asks: Option<Asks>,
    /// The last order's number, as far as the hub knows.
    last: u32,
    /// Whether MINIMIZE was given, and its end is not known to be in force.
    pub minimizes: bool,
}

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
        let is_away = self.desks[HUB].store().is_none() || self.hub_requests.asks.is_some();
        let by_file = self.chance.one_in(3) || is_away;
        self.trace.note(self.now, || format!("roster {} is published, by file: {by_file}", roster.version()));
        self.published = (self.relay_generation, held.version());
        if by_file {
            self.relay_input(Input::RosterOffered { note });
        } else {
            self.hub_requests.asks = Some(Asks::Roster);
            self.desk_input(HUB, LinkInput::Request(Request::Publish(note)));
        }
    }

    /// The ministry gives MINIMIZE for a second or two by the hub's clock, whatever the other clocks say.
    pub fn minimize(&mut self) {
        let now_s = self.desks[HUB].time(self.now).as_second();
        let until_s = u64::try_from(now_s).expect("after 1970") + 1 + self.chance.below(2);
        self.order_minimize(until_s);
    }

    /// Ends MINIMIZE where it was given: a clock that is hours behind would hold for hours.
    pub fn end_minimize(&mut self) {
        if self.hub_requests.minimizes {
            self.order_minimize(0);
        }
    }

    fn order_minimize(&mut self, until_s: u64) {
        if self.hub_requests.asks.is_some() || self.desks[HUB].store().is_none() {
            return;
        }
        let number = self.hub_requests.last + 1;
        self.trace.note(self.now, || format!("order {number}: MINIMIZE until {until_s}"));
        self.hub_requests.asks = Some(Asks::Minimize { number, ends: until_s == 0 });
        self.hub_requests.minimizes = true;
        let order = Order { number, kind: OrderKind::Minimize { until_s }, salt: self.chance.bytes() };
        self.desk_input(HUB, LinkInput::Request(Request::Order(order)));
    }

    /// What the hub asked for has come to an end, whichever it is.
    pub fn request_ended(&mut self, end: &RequestEnd) {
        self.trace.note(self.now, || format!("the hub hears: {end:?}"));
        match (self.hub_requests.asks.take(), end) {
            (Some(Asks::Roster), end) => {
                // Where it is not in force, it is signed anew.
                self.published = (0, 0);
                if matches!(end, RequestEnd::Done(_)) {
                    self.checker.came("roster through the hub's session");
                }
            }
            (Some(Asks::Minimize { number, ends }), RequestEnd::Done(_)) => {
                self.hub_requests.last = number;
                self.hub_requests.minimizes = !ends;
            }
            (_, RequestEnd::NumberTaken(last)) => self.hub_requests.last = *last,
            // Whether it is in force shows when the next one is given.
            (Some(Asks::Minimize { .. }) | None, _) => {}
        }
    }

    /// Whether what the ministry wants is in force.
    pub fn is_as_wanted(&self) -> bool {
        let held = self.relay.as_ref().and_then(|relay| relay.exchange.roster());
        held.is_some_and(|held| BLOC.is_as_wanted(held, &self.wanted))
    }
}

/// The desk's own clock lets go of what it holds at once, and log time ten seconds later.
#[test]
fn a_desk_that_is_ahead_of_log_time_gives_up_nothing_that_minimize_holds() {
    let mut world = World::at_rest(1, 2, None, Trace::new(false));
    world.troubled = false;
    world.run_until(Duration::from_secs(1)).expect("all are in contact");
    world.desks[1].skew_us = 3_600_000_000;
    world.order_minimize(u64::try_from(START_US / 1_000_000).expect("after 1970") + 11);
    world.run_until(Duration::from_secs(2)).expect("it is in force");
    for _ in 0..3 {
        world.post(1, vec![HUB], "routine", 100);
    }
    world.run_until(Duration::from_secs(9)).expect("they wait");
    assert!(world.checker.came.contains("refused for MINIMIZE"));
    world.heal();
    world.settle().expect("they arrive, and nobody has to send them again");
}
