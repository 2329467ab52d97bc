//! What people at the desks do.

use std::time::Duration;

use pouch::desk::view::{Mark, NewDispatch};

use super::{
    bloc::DESKS,
    checker::{Promise, Violation},
    world::{Event, World},
};

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
        let others: Vec<usize> = (0..self.desks.len()).filter(|other| *other != desk).collect();
        let first = self.chance.index(others.len());
        let count = 1 + self.chance.index(others.len());
        let to: Vec<usize> = (0..count).map(|step| others[(first + step) % others.len()]).collect();
        let precedence = *self.chance.pick(&PRECEDENCES);
        let length = self.chance.index(self.body_bytes_max);
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
        // Some must be acknowledged sooner than their precedence asks, and sooner than a cut line may allow.
        let due = serial.is_multiple_of(5).then(|| (time + Duration::from_secs(60)).to_string());
        let new = NewDispatch { acknowledgement_due: due, ..new };
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
}
