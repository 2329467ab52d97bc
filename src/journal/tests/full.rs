//! A disk that is full: submissions wait, receipts go on, segments are used again, and all resumes by itself.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::handle::{LONG, journal};
use super::recycle::{expected_log, log};
use super::sim::SimDisk;
use super::*;
use crate::journal::{Append, Event, Journal, Urgency};
use crate::record::Ticket;

/// Segments that the disk has room for, spares and archives included.
const ROOM: usize = 9;
const SEGMENT_BYTES: usize = 64 * 1024;

fn options(segment_bytes: u64) -> Options {
    let retry_every = Duration::from_millis(1);
    Options { segment_bytes, spare_segments: 4, reserve_segments: 3, retry_every, ..OPTIONS }
}

/// A relay around a journal on a full disk: what it hands in, and what it was told.
struct Relay {
    disk: Arc<dyn Disk>,
    journal: Journal,
    events: Receiver<Event>,
    handed_in: u64,
    durable: u64,
    has_room: bool,
    /// Questions what is needed since the last record became durable.
    asked: usize,
    needs: Needs,
    /// Segments begun.
    bases: usize,
}

/// Which records somebody waits for.
#[derive(Clone, Copy)]
enum Needs {
    All,
    /// The last few of the oldest segment: as many as can be carried, and more than a segment has room for in which the
    /// next record has none.
    Few,
    Nothing,
}

impl Needs {
    fn below(self, end: Position) -> Vec<Position> {
        match self {
            Needs::All => (0..end.0).map(Position).collect(),
            Needs::Few => {
                let mut bytes = 0;
                let few = (0..end.0).rev().take_while(|position| {
                    bytes += record(*position).encoded_len();
                    bytes <= SEGMENT_BYTES / 4 - 1024
                });
                few.map(Position).collect()
            }
            Needs::Nothing => Vec::new(),
        }
    }
}

impl Relay {
    fn start(disk: Arc<dyn Disk>, segment_bytes: u64) -> Relay {
        let (journal, _, events, durable) = journal(disk.clone(), options(segment_bytes));
        let handed_in = durable;
        Relay {
            disk,
            journal,
            events,
            handed_in,
            durable,
            has_room: true,
            asked: 0,
            needs: Needs::All,
            bases: 0,
        }
    }

    /// On a disk on which nothing can be carried or given up, until there is no room but the reserve.
    fn on_a_full_disk(disk: Arc<dyn Disk>, segment_bytes: u64) -> Relay {
        let mut relay = Relay::start(disk, segment_bytes);
        while relay.has_room {
            relay.hand_in();
            relay.wait_until(|relay| relay.durable == relay.handed_in || !relay.has_room);
        }
        relay
    }

    fn hand_in(&mut self) {
        let append =
            Append { ticket: Ticket(self.handed_in), record: record(self.handed_in), urgency: Urgency::Now };
        self.journal.append(vec![append]).expect("the queue has room");
        self.handed_in += 1;
    }

    fn wait_until(&mut self, done: impl Fn(&Relay) -> bool) {
        while !done(self) {
            match self.events.recv_timeout(LONG).expect("the journal goes on") {
                Event::Durable(records) => {
                    self.durable += records.len() as u64;
                    self.asked = 0;
                }
                Event::BaseWanted => {
                    self.bases += 1;
                    self.journal.base(self.durable.to_be_bytes().to_vec()).expect("it listens");
                }
                Event::NeededWanted(end) => {
                    self.asked += 1;
                    assert!(self.asked < 10_000, "nothing becomes of what is answered");
                    self.journal.needed(end, self.needs.below(end)).expect("it listens");
                }
                Event::Room(has_room) => self.has_room = has_room,
                Event::Erased(erased) => panic!("erased: {erased:?}"),
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }

    /// Hands in what may use the reserve, until that waits too.
    fn use_the_reserve_up(&mut self) {
        loop {
            self.hand_in();
            self.asked = 0;
            // The thread takes up what waits before it asks again.
            self.wait_until(|relay| relay.durable == relay.handed_in || relay.asked > 4);
            if self.durable < self.handed_in {
                return;
            }
        }
    }

    fn spares(&self) -> usize {
        let names = self.disk.list().expect("the disk is well");
        names.iter().filter(|name| name.starts_with("spare-")).count()
    }
}

fn small_disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.give_room(ROOM * SEGMENT_BYTES);
    disk
}

/// FAULTS 10 and 28, on a simulated disk; `mounted` has them on a real one.
#[test]
fn a_full_disk_defers_what_can_wait_keeps_the_reserve_for_receipts_and_resumes_by_itself() {
    lives_through_a_full_disk(&small_disk().shared(), SEGMENT_BYTES as u64);
}

/// Fills a disk of some segments, uses the reserve up, and goes on once nothing old is needed any more.
pub(super) fn lives_through_a_full_disk(disk: &Arc<dyn Disk>, segment_bytes: u64) {
    let mut relay = Relay::on_a_full_disk(disk.clone(), segment_bytes);
    // What was handed in before the disk was found full may have begun the segment for receipts.
    assert!((2..=3).contains(&relay.spares()), "{}", relay.spares());
    let before = relay.durable;
    relay.use_the_reserve_up();
    assert!(relay.durable > before + 5, "receipts had a segment of the reserve");
    assert_eq!(relay.spares(), 2, "one for archives, one for the next start");
    assert!(!relay.has_room);

    relay.needs = Needs::Nothing;
    relay.wait_until(|relay| relay.has_room && relay.durable == relay.handed_in);
    for _ in 0..200 {
        relay.hand_in();
        relay.wait_until(|relay| relay.durable == relay.handed_in);
    }
    let Relay { disk, journal, durable, .. } = relay;
    journal.stop();
    let (journal, reader, _, records) = super::handle::journal(disk.clone(), options(segment_bytes));
    assert_eq!(records, durable);
    assert_eq!(log(&*disk, &reader, durable), expected_log(durable));
    journal.stop();
}

#[test]
fn a_relay_stopped_on_a_full_disk_whose_reserve_is_used_up_starts_again_and_recovers() {
    let disk = small_disk();
    let mut relay = Relay::on_a_full_disk(disk.shared(), SEGMENT_BYTES as u64);
    relay.use_the_reserve_up();
    let Relay { journal, durable, .. } = relay;
    journal.stop();
    disk.cut_power();
    let mut relay = Relay::start(disk.shared(), SEGMENT_BYTES as u64);
    assert_eq!(relay.durable, durable, "what waited for room was never acknowledged, and is not there");
    relay.needs = Needs::Nothing;
    relay.hand_in();
    relay.wait_until(|relay| relay.has_room && relay.durable == relay.handed_in);
}

/// The newest segment is full, and so no record comes that would begin another one: submissions wait for room.
#[test]
fn a_full_disk_recovers_by_itself_where_a_few_records_of_each_segment_are_needed() {
    let mut relay = Relay::on_a_full_disk(small_disk().shared(), SEGMENT_BYTES as u64);
    relay.use_the_reserve_up();
    let before = relay.bases;
    relay.needs = Needs::Few;
    relay.wait_until(|relay| relay.has_room && relay.durable == relay.handed_in);
    assert!(relay.bases > before, "into a segment that it began for what is carried");
}

#[test]
fn a_start_without_any_room_says_so_and_changes_nothing() {
    let disk = SimDisk::new(1);
    drop(start(disk.shared()).expect("the disk is well"));
    for name in disk.list().expect("well").into_iter().filter(|name| name.starts_with("spare-")) {
        disk.remove(&name).expect("well");
    }
    disk.give_room(0);
    let (segments, refused) = (disk.segments(), start(disk.shared()).err().expect("no room"));
    assert_eq!(refused.exit_code(), 70);
    assert_eq!(disk.segments(), segments);
    disk.give_room(usize::MAX);
    assert!(start(disk.shared()).is_ok());
}
