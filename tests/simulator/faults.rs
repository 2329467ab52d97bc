//! What goes wrong, and how everything comes to rest once nothing does.

use std::time::Duration;

use pouch::exchange::Input;

use super::{
    bloc::DESKS,
    chance::Chance,
    checker::Violation,
    desk::Desk,
    disk::{FAILURES, Failure},
    network::End,
    relay::Relay,
    world::{Event, World},
};

/// Simulated time within which everything drains once nothing goes wrong: silence is noticed after 25 s,
/// and the longest wait between two attempts to connect is 30 s.
const SETTLED_TIME_MAX: Duration = Duration::from_secs(180);
/// How often somebody looks whether all has come to rest; out of step with what the relay does each second.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(1_037);
const DAY_US: i64 = 24 * 3_600_000_000;
/// Bytes that are left when the disk fills up: a spare segment fits, or not even an archive.
const FREE_BYTES_MAX: usize = 160 * 1024;

impl World {
    /// Something goes wrong, and the next thing later.
    pub fn fault(&mut self) {
        if !self.troubled {
            return;
        }
        let desk = self.chance.index(DESKS.len());
        match self.chance.below(16) {
            0 | 1 => {
                let power_cut = self.chance.one_in(2);
                self.kill_relay(power_cut);
                self.damage();
                if self.chance.one_in(3) {
                    self.lose_log_files();
                }
            }
            2 | 14 => {
                let skip = self.chance.below(12);
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
                let minutes = self.chance.index(600_000_000) as i64 - 300_000_000;
                let jumps = [minutes, minutes, DAY_US, -DAY_US, 3_650 * DAY_US, -3_650 * DAY_US];
                self.relay_skew_us = *self.chance.pick(&jumps);
            }
            9 | 10 => self.suspend_or_lift(desk),
            11 => self.rotate_key(desk),
            12 => self.fill_disk(),
            15 => self.minimize(),
            _ => self.back_up_or_restore(desk),
        }
        let later = self.chance.between(50, 1_200);
        self.after(later, Event::Fault);
    }

    pub fn fail_disk(&mut self, skip: u64, failure: Failure) {
        self.trace.note(self.now, || format!("the disk fails {failure:?} in {skip} operations"));
        self.disk.fail_after(skip, failure);
    }

    fn fill_disk(&mut self) {
        let free_bytes = self.chance.index(FREE_BYTES_MAX);
        self.trace.note(self.now, || format!("the disk has {free_bytes} bytes left"));
        self.disk.fill(free_bytes);
        let later = self.chance.between(100, 2_000);
        self.after(later, Event::DiskHasRoom);
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
            && let Some(refused) = self.refuses_damage(&mut chance)
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
        self.log.served.fail_after(None);
        // What was promised up to here must last, whatever the disk still held back.
        if self.chance.one_in(2) {
            self.kill_relay(true);
        }
        self.relay_skew_us = 0;
        self.relay_input(Input::ClockAccepted);
        for desk in &mut self.desks {
            desk.cut_off = Duration::ZERO;
        }
    }

    /// Lets everything that was begun come to its end within a bound, everybody welcome again.
    pub fn settle(&mut self) -> Result<(), Violation> {
        self.wanted.suspended.clear();
        let until = self.now + SETTLED_TIME_MAX;
        self.checker.erasure.must_be_done();
        while !self.unsettled().is_empty() && self.now < until {
            self.publish();
            self.end_minimize();
            self.run_until(self.now + LOOKED_AT_EVERY)?;
        }
        self.checker.settled(&self.desks);
        self.checker.openings_at(&self.desks);
        self.checker.blames_nobody(&self.desks);
        self.look_for_what_is_erased();
        self.checker.drained(&self.unsettled());
        self.checker.check(self.now, self.relay.as_ref())
    }

    /// Who has not come to rest.
    fn unsettled(&self) -> Vec<&'static str> {
        let relay_is_idle = self.relay.as_ref().is_some_and(Relay::is_idle);
        let parts = [
            ("roster", self.is_as_wanted()),
            ("minimize", !self.hub_requests.minimizes),
            ("relay", relay_is_idle),
            ("erasure", self.checker.erasure.is_done()),
        ];
        let desks = DESKS.into_iter().zip(self.desks.iter().map(Desk::is_drained));
        parts.into_iter().chain(desks).filter(|(_, rests)| !rests).map(|(part, _)| part).collect()
    }
}
