//! What people do, and what goes wrong around them.

use std::time::Duration;

use bytes::Bytes;
use pouch::{
    desk::view::{Mark, NewDispatch},
    exchange::Input,
};

use super::{
    bloc::{BLOC, DESKS},
    chance::Chance,
    checker::{Promise, Violation},
    desk::Desk,
    disk::{FAILURES, Failure},
    network::End,
    relay::{Relay, refuses_damage},
    world::{Event, World},
};

/// Simulated time within which everything drains once nothing goes wrong: silence is noticed after 25 s,
/// and the longest wait between two attempts to connect is 30 s.
const SETTLED_TIME_MAX: Duration = Duration::from_secs(180);
const PRECEDENCES: [&str; 4] = ["routine", "routine", "immediate", "flash"];

impl World {
    /// A person at a desk writes, reads or acknowledges, and comes back later.
    pub fn person(&mut self, desk: usize) {
        if !self.troubled {
            return;
        }
        for _ in 0..1 + self.chance.below(4) {
            match self.chance.below(4) {
                0..3 => self.write_dispatch(desk),
                _ => self.read_dispatch(desk),
            }
        }
        let later = self.chance.between(100, 1_500);
        self.after(later, Event::Person(desk));
    }

    pub fn write_dispatch(&mut self, desk: usize) {
        let others: Vec<usize> = (0..DESKS.len()).filter(|other| *other != desk).collect();
        let first = self.chance.index(others.len());
        let count = 1 + self.chance.index(others.len());
        let to: Vec<usize> = (0..count).map(|step| others[(first + step) % others.len()]).collect();
        let precedence = *self.chance.pick(&PRECEDENCES);
        let length = self.chance.index(1_200);
        self.post(desk, to, precedence, length);
    }

    /// Hands a dispatch with a body of so many bytes to a desk.
    pub fn post(&mut self, desk: usize, to: Vec<usize>, precedence: &str, length: usize) {
        let serial = self.checker.written.range((desk, 0)..(desk + 1, 0)).count() as u64 + 1;
        let new = NewDispatch {
            to: to.iter().map(|to| DESKS[*to].to_owned()).collect(),
            topic: "maritime".to_owned(),
            precedence: precedence.to_owned(),
            subject: format!("{}/{serial}", DESKS[desk]),
            body: "x".repeat(length),
            exercise: true,
            ..NewDispatch::default()
        };
        let time = self.desks[desk].time(self.now);
        let Some(store) = self.desks[desk].store() else { return };
        // A person is refused what the roster does not allow now, and lets it be.
        if store.enqueue(new, time).is_ok() {
            self.trace.note(self.now, || format!("{}/{serial} {precedence} to {to:?}", DESKS[desk]));
            self.checker.written.insert((desk, serial), to);
            self.look(desk);
        }
    }

    fn read_dispatch(&mut self, desk: usize) {
        let sql =
            "SELECT short FROM inbox WHERE acknowledged_at IS NULL AND set_aside IS NULL ORDER BY register";
        let shorts: Vec<String> = match self.desks[desk].disk.prepare(sql) {
            Ok(mut statement) => {
                let rows = statement.query_map([], |row| row.get(0));
                rows.and_then(Iterator::collect).expect("a store")
            }
            // Before the first start there is no store.
            Err(_) => return,
        };
        if shorts.is_empty() {
            return;
        }
        let short = self.chance.pick(&shorts).clone();
        let acknowledges = self.chance.one_in(2);
        let time = self.desks[desk].time(self.now);
        let Some(store) = self.desks[desk].store() else { return };
        let mark = Mark::default();
        let done = if acknowledges {
            store.acknowledge(&short, &mark, time)
        } else {
            store.mark_read(&short, &mark, time)
        };
        if let Err(error) = done {
            let words = format!("{} cannot read what it has: {error}", DESKS[desk]);
            return self.checker.broken(Violation::new(Promise::ExactlyOnce, words));
        }
        self.look(desk);
    }

    /// Something goes wrong, and the next thing later.
    pub fn fault(&mut self) {
        if !self.troubled {
            return;
        }
        let desk = self.chance.index(DESKS.len());
        match self.chance.below(10) {
            0 | 1 => {
                let power_cut = self.chance.one_in(2);
                self.kill_relay(power_cut);
                self.damage();
            }
            2 => {
                let skip = self.chance.below(8);
                let failure = *self.chance.pick(&FAILURES);
                self.fail_disk(skip, failure);
            }
            3 => self.kill_desk(desk),
            4 | 5 => self.cut_line(),
            6 => {
                let time = self.chance.between(100, 3_000);
                self.cut_off(desk, time);
            }
            7 => {
                let hours = i64::try_from(self.chance.below(5)).expect("few") - 2;
                self.desks[desk].skew_us = hours * 3_600_000_000;
            }
            8 => {
                self.relay_skew_us =
                    i64::try_from(self.chance.below(600_000_000)).expect("minutes") - 300_000_000
            }
            _ => {
                let suspended: Vec<usize> =
                    if self.suspended.is_empty() && desk > 0 { vec![desk] } else { Vec::new() };
                self.publish(&suspended);
            }
        }
        let later = self.chance.between(50, 1_200);
        self.after(later, Event::Fault);
    }

    pub fn fail_disk(&mut self, skip: u64, failure: Failure) {
        self.trace.note(self.now, || format!("the disk fails {failure:?} in {skip} operations"));
        self.disk.fail_after(skip, failure);
    }

    /// The ministry signs a roster, and gives it to the relay while it runs.
    pub fn publish(&mut self, suspended: &[usize]) {
        // One at a time; what a relay took with it when it died is signed anew from what the next one holds.
        let Some(held) = self.relay.as_ref().and_then(|relay| relay.exchange.roster().cloned()) else {
            return;
        };
        if self.published == (self.relay_generation, held.version() + 1) {
            return;
        }
        let (note, roster) = BLOC.next_note(&held, suspended);
        self.published = (self.relay_generation, roster.version());
        self.suspended = suspended.to_vec();
        let version = roster.version();
        self.trace.note(self.now, || format!("roster {version} suspends {suspended:?}"));
        self.relay_input(Input::RosterOffered { note: Bytes::from(note) });
    }

    fn cut_line(&mut self) {
        let lines: Vec<u64> =
            self.lines.iter().filter(|(_, on)| !on.is_cut()).map(|(line, _)| *line).collect();
        if lines.is_empty() {
            return;
        }
        let line = *self.chance.pick(&lines);
        self.break_line(line);
    }

    /// While the relay is down, a bit of the disk flips; it must notice, and is then mended.
    fn damage(&mut self) {
        let mut chance = Chance::new(self.chance.next());
        if self.relay.is_none()
            && let Some(refused) = refuses_damage(self, &mut chance)
        {
            self.checker.damage(refused);
        }
    }

    pub fn break_line(&mut self, line: u64) {
        self.trace.note(self.now, || format!("line {line} is cut"));
        for end in [End::Relay, End::Desk] {
            self.send_end(line, end);
        }
        self.lines.get_mut(&line).expect("it was listed").cut(&mut self.chance);
    }

    /// Nothing goes wrong any more, and nobody writes.
    pub fn heal(&mut self) {
        self.trace.note(self.now, || "all is well from now on".to_owned());
        self.troubled = false;
        self.disk.heal();
        for desk in &mut self.desks {
            desk.cut_off = Duration::ZERO;
        }
    }

    /// Lets everything that was begun come to its end within a bound, everybody welcome again.
    pub fn settle(&mut self) -> Result<(), Violation> {
        let until = self.now + SETTLED_TIME_MAX;
        while !self.is_settled() && self.now < until {
            if !self.suspended.is_empty() || self.checker.anybody_suspended() {
                self.publish(&[]);
            }
            self.run_until(self.now + Duration::from_secs(1))?;
        }
        self.checker.settled(&self.desks);
        let settled = self.is_settled();
        self.checker.drained(settled);
        self.checker.check(self.now, self.relay.as_ref())
    }

    fn is_settled(&self) -> bool {
        !self.checker.anybody_suspended()
            && self.relay.as_ref().is_some_and(Relay::is_idle)
            && self.desks.iter().all(Desk::is_drained)
    }
}
