//! One world on one thread: a queue of what happens when, and everybody's clocks.

use std::{collections::BTreeMap, time::Duration};

use pouch::{limits::Limits, record::Ticket, wire::Position};

use super::{
    bloc::DESKS,
    chance::Chance,
    checker::{Checker, Promise, Violation},
    desk::Desk,
    disk::SimDisk,
    lies::Lie,
    network::{End, Line, Thin},
    relay::Relay,
    trace::Trace,
};

/// When every run begins: microseconds since 1970.
pub const START_US: i64 = 1_790_000_000_000_000;
/// Steps of one run: more mean that somebody never rests.
const STEPS_MAX: u64 = 400_000;

/// What happens, and to whom. What was meant for a process that has died since is dropped.
#[derive(Debug)]
pub enum Event {
    Bytes { line: u64, end: End, bytes: Vec<u8> },
    Ended { line: u64, end: End },
    Relay(u64, RelayEvent),
    RelayStarts,
    Desk(usize, u64, DeskEvent),
    DeskStarts(usize),
    Person(usize),
    Fault,
}

#[derive(Debug)]
pub enum RelayEvent {
    Commit,
    Durable(Vec<(Ticket, Position)>),
    Write,
    Seal,
    Load(Position),
    Written(u64, usize),
}

#[derive(Debug)]
pub enum DeskEvent {
    Connect,
    Job,
    Answer,
    Look,
    Wrote(u64),
}

pub struct World {
    pub chance: Chance,
    pub now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    steps: u64,
    pub disk: SimDisk,
    pub relay: Option<Relay>,
    pub relay_generation: u64,
    pub relay_skew_us: i64,
    pub desks: Vec<Desk>,
    pub lines: BTreeMap<u64, Line>,
    pub checker: Checker,
    pub trace: Trace,
    pub lie: Option<Lie>,
    /// Whether faults come; people write only meanwhile.
    pub troubled: bool,
    /// Who the newest roster suspends, and under which relay process which version was handed in.
    pub suspended: Vec<usize>,
    pub published: (u64, u32),
    next_line: u64,
    /// How the first mission's lines are, where they are no better.
    pub thin: Option<Thin>,
    /// How long the first mission's next line lasts.
    pub lasts: Option<(End, u64)>,
    pub limits: Limits,
}

impl World {
    pub fn new(seed: u64, lie: Option<Lie>, trace: Trace) -> World {
        let mut chance = Chance::new(seed);
        let disk = SimDisk::new(Chance::new(chance.next()), lie);
        let desks = DESKS.map(|_| Desk::new()).into();
        let mut world = World {
            chance,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            steps: 0,
            disk,
            relay: None,
            relay_generation: 0,
            relay_skew_us: 0,
            desks,
            lines: BTreeMap::new(),
            checker: Checker::default(),
            trace,
            lie,
            troubled: true,
            suspended: Vec::new(),
            published: (0, 0),
            next_line: 0,
            thin: None,
            lasts: None,
            // Small, so that a run reaches them.
            limits: Limits {
                window_envelopes_min: 3,
                window_envelopes_max: 6,
                body_cache_bytes_max: 4096,
                ..Limits::DEFAULT
            },
        };
        world.at(Duration::ZERO, Event::RelayStarts);
        for desk in 0..DESKS.len() {
            let later = world.chance.between(0, 50);
            world.at(later, Event::DeskStarts(desk));
            let later = world.chance.between(10, 400);
            world.at(later, Event::Person(desk));
        }
        world
    }

    pub fn at(&mut self, time: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((time, self.queued), event);
    }

    pub fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Lets everything happen that happens until then.
    pub fn run_until(&mut self, until: Duration) -> Result<(), Violation> {
        while let Some(time) = self.next_time().filter(|time| *time <= until) {
            self.now = self.now.max(time);
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(Violation::new(Promise::Bounds, "somebody never rests"));
            }
            if self.queue.first_key_value().is_some_and(|((due, _), _)| *due <= self.now) {
                let (_, event) = self.queue.pop_first().expect("there is a first");
                self.happens(event);
            }
            self.timers();
            self.checker.check(self.now, self.relay.as_ref())?;
        }
        self.now = until;
        Ok(())
    }

    fn next_time(&self) -> Option<Duration> {
        let queued = self.queue.first_key_value().map(|((time, _), _)| *time);
        let relay = self.relay.as_ref().map(Relay::due);
        let desks = self.desks.iter().filter_map(Desk::due);
        queued.into_iter().chain(relay).chain(desks).min()
    }

    fn timers(&mut self) {
        if self.relay.as_ref().is_some_and(|relay| relay.due() <= self.now) {
            self.relay_timeout();
        }
        for desk in 0..self.desks.len() {
            if self.desks[desk].due().is_some_and(|due| due <= self.now) {
                self.desk_timeout(desk);
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Bytes { line, end, bytes } => self.arrives(line, end, &bytes),
            Event::Ended { line, end } => self.ends(line, end),
            Event::Relay(generation, event) => {
                if self.relay.is_some() && generation == self.relay_generation {
                    self.relay_event(event);
                }
            }
            Event::RelayStarts => self.start_relay(),
            Event::Desk(desk, generation, event) => {
                if self.desks[desk].is_running(generation) {
                    self.desk_event(desk, event);
                }
            }
            Event::DeskStarts(desk) => self.start_desk(desk),
            Event::Person(desk) => self.person(desk),
            Event::Fault => self.fault(),
        }
    }

    pub fn next_line(&mut self) -> u64 {
        self.next_line += 1;
        self.next_line
    }

    /// Sends bytes towards one end of a line, sometimes in two pieces.
    pub fn send(&mut self, line: u64, end: End, bytes: &[u8]) {
        let cut = if self.chance.one_in(4) { self.chance.index(bytes.len().max(1)) } else { 0 };
        for piece in [&bytes[..cut], &bytes[cut..]] {
            let Some(on) = self.lines.get_mut(&line) else { return };
            if let Some(time) = on.arrival(end, piece.len(), self.now, &mut self.chance)
                && !piece.is_empty()
            {
                self.at(time, Event::Bytes { line, end, bytes: piece.to_vec() });
            }
        }
    }

    /// Tells one end that the other has closed, behind all that was sent.
    pub fn send_end(&mut self, line: u64, end: End) {
        let Some(on) = self.lines.get_mut(&line) else { return };
        if let Some(time) = on.arrival(end, 0, self.now, &mut self.chance) {
            self.at(time, Event::Ended { line, end });
        }
    }

    fn arrives(&mut self, line: u64, end: End, bytes: &[u8]) {
        let Some(on) = self.lines.get_mut(&line) else { return };
        let passed = on.passes(end, bytes.len());
        self.trace.note(self.now, || format!("{passed} bytes of line {line} at {end:?}"));
        match end {
            _ if passed == 0 => {}
            End::Relay => self.relay_reads(line, &bytes[..passed]),
            End::Desk => self.desk_reads(line, &bytes[..passed]),
        }
        if self.lines.get(&line).is_some_and(|on| on.is_worn_out() && !on.is_cut()) {
            self.break_line(line);
        }
    }

    fn ends(&mut self, line: u64, end: End) {
        let Some(on) = self.lines.get_mut(&line) else { return };
        if !on.ended.insert(end) {
            return;
        }
        let desk = on.desk;
        self.trace.note(self.now, || format!("line {line} ends at {end:?}"));
        match end {
            End::Relay => self.relay_lost(line),
            End::Desk => self.desk_lost(desk, line),
        }
        if self.lines[&line].ended.len() == 2 {
            self.lines.remove(&line);
        }
    }
}
