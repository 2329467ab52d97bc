//! One world on one thread: a queue of what happens when, and everybody's clocks.

use std::{collections::BTreeMap, time::Duration};

use pouch::{journal::Options, limits::Limits};

use super::{
    bloc::{DESKS, Wanted},
    chance::Chance,
    checker::{Checker, Promise, Violation},
    desk::Desk,
    disk::SimDisk,
    journal::SMALL_JOURNAL,
    liar::Liar,
    lies::Lie,
    log::LogShelves,
    ministry::HubRequests,
    network::{End, Line, Thin},
    relay::{Relay, RelayEvent},
    trace::Trace,
};

/// When every run begins: microseconds since 1970.
pub const START_US: i64 = 1_790_000_000_000_000;
/// Steps of one run: more mean that somebody never rests.
const STEPS_MAX: u64 = 400_000;

/// What happens, and to whom. What was meant for a process that has died since is dropped.
#[derive(Debug)]
pub enum Event {
    Bytes {
        line: u64,
        end: End,
        bytes: Vec<u8>,
    },
    Ended {
        line: u64,
        end: End,
    },
    Relay(u64, RelayEvent),
    RelayStarts,
    Desk(usize, u64, DeskEvent),
    DeskStarts(usize),
    Person(usize),
    /// The box of a desk gets its next sign key.
    KeyChanges(usize),
    DiskHasRoom,
    Fault,
}

#[derive(Debug)]
pub enum DeskEvent {
    Connect,
    Job,
    Answer,
    Look,
    LookAgain,
    Wrote(u64),
}

/// Small, so that a run reaches them.
const SMALL: Limits = Limits {
    checkpoint_every: Duration::from_millis(300),
    checkpoint_idle_every: Duration::from_secs(3),
    // The relay looks at its clock twice a second.
    checkpoint_owed_time_max: Duration::from_millis(1_200),
    window_envelopes_min: 3,
    window_envelopes_max: 6,
    body_cache_bytes_max: 4096,
    ..Limits::DEFAULT
};
/// So small that queues fill up.
const TIGHT: Limits = Limits {
    mailbox_envelopes_max: 6,
    mailbox_receipts_max: 8,
    lasting_bytes_max: 6 * 1024,
    confirmed_bytes_max: 2 * 1024,
    receipts_in_flight_max: 4,
    connection_queue_bytes_max: 2048,
    refusal_records_per_second_max: 1,
    ..SMALL
};

pub struct World {
    pub chance: Chance,
    pub now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    steps: u64,
    pub disk: SimDisk,
    pub log: LogShelves,
    pub relay: Option<Relay>,
    pub relay_generation: u64,
    pub relay_skew_us: i64,
    pub desks: Vec<Desk>,
    pub lines: BTreeMap<u64, Line>,
    pub checker: Checker,
    pub trace: Trace,
    pub lie: Option<Lie>,
    /// The relay's lies to desks about its audit log.
    pub liar: Option<Liar>,
    /// Whether faults come; people write only meanwhile.
    pub troubled: bool,
    /// What the newest roster should say, and under which relay process, on which version, it was handed in.
    pub wanted: Wanted,
    pub published: (u64, u32),
    pub hub_requests: HubRequests,
    next_line: u64,
    /// How the first mission's lines are, where they are no better.
    pub thin: Option<Thin>,
    /// How many packets of a hundred are lost on every line.
    pub lost_percent: u64,
    /// How long the first mission's next line lasts.
    pub lasts: Option<(End, u64)>,
    pub limits: Limits,
    pub journal: Options,
    pub body_bytes_max: usize,
}

impl World {
    /// A world in which people write, and everything may go wrong.
    pub fn new(seed: u64, lie: Option<Lie>, trace: Trace) -> World {
        let mut world = World::at_rest(seed, DESKS.len(), lie, trace);
        for desk in 0..DESKS.len() {
            let later = world.chance.between(10, 400);
            world.at(later, Event::Person(desk));
        }
        if world.chance.one_in(4) || lie.is_some_and(Lie::is_about_erasure) {
            world.keep_openings_for_short();
        }
        world
    }

    /// A relay and the first few desks, with nothing to do.
    pub fn at_rest(seed: u64, desks: usize, lie: Option<Lie>, trace: Trace) -> World {
        let mut chance = Chance::new(seed);
        let on_disk = match lie {
            Some(Lie::OnDisk(lie)) => Some(lie),
            _ => None,
        };
        let disk = SimDisk::lying(chance.next(), on_disk);
        let desks = (0..desks).map(|_| Desk::new()).collect();
        let limits = if chance.one_in(2) { TIGHT } else { SMALL };
        let mut world = World {
            chance,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            steps: 0,
            disk,
            log: LogShelves::default(),
            relay: None,
            relay_generation: 0,
            relay_skew_us: 0,
            desks,
            lines: BTreeMap::new(),
            checker: Checker::default(),
            trace,
            lie,
            liar: None,
            troubled: true,
            wanted: Wanted::default(),
            published: (0, 0),
            hub_requests: HubRequests::default(),
            next_line: 0,
            thin: None,
            lost_percent: 0,
            lasts: None,
            limits,
            journal: SMALL_JOURNAL,
            body_bytes_max: 1_200,
        };
        world.checker.erasure.keep(world.limits.openings_keep);
        world.at(Duration::ZERO, Event::RelayStarts);
        for desk in 0..world.desks.len() {
            let later = world.chance.between(0, 50);
            world.at(later, Event::DeskStarts(desk));
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
            Event::KeyChanges(desk) => {
                self.desks[desk].key += 1;
                self.kill_desk(desk);
            }
            Event::DiskHasRoom => self.disk.give_room(usize::MAX),
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
