//! The promises of DESIGN.md section 4, as people at the desks, the wire and the disk can see them.
//!
//! Nothing here asks the exchange or a store what it believes: it reads the frames on the lines, the
//! records that the disk took, and the rows that a desk's people see.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use pouch::{
    audit::{AddCheckpoint, Checkpoint},
    merkle::{self, Hash},
    note::Note,
    record::{
        Record,
        administrative::{Act, AdministrativeLeaf},
        leaf::{Opening, OpeningKind, is_administrative},
    },
    roster::{PartyNumber, Roster, Status},
    wire::{
        Position,
        envelope::parse_header,
        pb::{GoodbyeCode, RefusalCode, frame::Kind},
        receipt::{ReceiptKind, split_parts},
    },
};

use super::{
    bloc::{BLOC, DESKS, QUORUM},
    desk::Desk,
    erasure::Erasures,
    relay::Relay,
};

/// A promise of DESIGN.md section 4, by what breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// 1: nothing accepted is lost, and nothing is accepted before it is durable.
    Accepted,
    /// 2: once in an inbox.
    ExactlyOnce,
    /// 3: in order, gaps visible.
    Order,
    /// 4: the sender is who wrote.
    Sender,
    /// 5: bounds.
    Bounds,
    /// 7: receipts tell the truth.
    Receipts,
    /// 8: the audit log only grows, and covers what is durable; whoever watches an honest one is not alarmed.
    Log,
    /// 9: after a failed operation nothing more.
    FailedDisk,
    /// 10: a suspended party is out within 2 s.
    Suspension,
    /// 11: damage is refused, history never gets shorter.
    Corruption,
    /// FORMATS 8: log time never goes back.
    LogTime,
    /// FORMATS 8: what is past its time is erased for good, a leaf says so first, and nothing else is.
    Erasure,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    pub promise: Promise,
    pub words: String,
}

impl Violation {
    pub fn new(promise: Promise, words: impl Into<String>) -> Violation {
        Violation { promise, words: words.into() }
    }
}

/// How long a suspended party may still be connected.
const SUSPENSION_TIME_MAX: Duration = Duration::from_secs(2);

/// What one line was granted and has used, each way.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    submits_granted: u64,
    submits: u64,
    delivers_granted: u64,
    delivers: u64,
}

#[derive(Default)]
pub struct Checker {
    broken: Option<Violation>,
    /// What happened in this run, by kind: a simulator that never comes to something shows nothing of it.
    pub came: BTreeSet<&'static str>,
    /// Leaves that the disk took, by position.
    log: Vec<Bytes>,
    /// Whether a relay started with a clock that was ahead, and no further than it has to believe (FORMATS 8).
    pub clock_was_ahead: bool,
    /// Log time of the newest record.
    log_time_us: u64,
    pub erasure: Erasures,
    /// Leaves that the checkpoint covers which was published last, and which a restart finds.
    published: u64,
    /// Checkpoints that were looked at.
    checkpoints: BTreeSet<Bytes>,
    /// Where the relay said that an envelope is.
    accepted: BTreeMap<Bytes, u64>,
    /// Envelopes in another's name.
    forged: BTreeSet<Bytes>,
    /// Positions below this one were named to somebody.
    promised: usize,
    windows: BTreeMap<u64, Window>,
    /// Desks that the roster in force suspends, and since when.
    suspended: BTreeMap<usize, Duration>,
    /// What people wrote: addressees by author and serial.
    pub written: BTreeMap<(usize, u64), Vec<usize>>,
    /// Rows of each inbox that were looked at.
    pub seen: BTreeMap<usize, u64>,
    /// Desk, author and serial of what its inbox shows, and of what it ever showed: a store that is restored
    /// forgets.
    pub arrived: BTreeSet<(usize, usize, u64)>,
    pub ever_arrived: BTreeSet<(usize, usize, u64)>,
    /// Desks whose store was restored, and the serial of the last dispatch that it then held.
    pub restored: BTreeMap<usize, u64>,
}

impl Checker {
    pub fn broken(&mut self, violation: Violation) {
        self.broken.get_or_insert(violation);
    }

    pub fn must(&mut self, holds: bool, promise: Promise, words: impl FnOnce() -> String) {
        if !holds {
            self.broken(Violation::new(promise, words()));
        }
    }

    /// Something of this kind happened.
    pub fn came(&mut self, kind: &'static str) {
        self.came.insert(kind);
    }

    /// An envelope of this name is in another's name than its signer's.
    pub fn forged(&mut self, hash: Bytes) {
        self.forged.insert(hash);
        self.came("forged sender");
    }

    /// After each step.
    pub fn check(&mut self, now: Duration, relay: Option<&Relay>) -> Result<(), Violation> {
        if let Some(relay) = relay {
            let late = self.suspended.iter().find(|(desk, since)| {
                let mut sessions = relay.sides.values().filter(|side| side.welcomed);
                now > **since + SUSPENSION_TIME_MAX && sessions.any(|side| side.desk == **desk)
            });
            if let Some((desk, _)) = late {
                let words = format!("{} is suspended and still connected", DESKS[*desk]);
                self.broken(Violation::new(Promise::Suspension, words));
            }
        }
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// Promise 9, as the disk saw it.
    pub fn relay_died(&mut self, operations_after_failure: u64) {
        self.must(operations_after_failure == 0, Promise::FailedDisk, || {
            format!("{operations_after_failure} disk operations after one that failed")
        });
    }

    /// The disk took these records.
    pub fn durable(&mut self, first: Position, records: &[Record]) {
        let length = self.log.len() as u64;
        self.must(first.0 == length, Promise::Accepted, || {
            format!("a batch at position {first}, where the log has {length} records")
        });
        for record in records {
            let (time_us, hash) = time_and_name(record);
            let found = self.erasure.durable(record, time_us);
            self.erasure_must(found);
            let before_us = std::mem::replace(&mut self.log_time_us, time_us);
            self.must(before_us <= time_us, Promise::LogTime, || {
                format!("log time goes from {before_us} back to {time_us}")
            });
            let is_forged = hash.is_some_and(|hash| self.forged.contains(&hash));
            self.must(!is_forged, Promise::Sender, || "the log has an envelope in another's name".to_owned());
            self.log.push(record.leaf.clone());
        }
    }

    /// A start replayed these records from `first` on, and an operator is shown this log.
    pub fn recovered(&mut self, first: u64, replayed: &[Bytes], shown: &[Record]) {
        let found = self.erasure.shown(shown);
        self.erasure_must(found);
        let shown: Vec<Bytes> = shown.iter().map(|record| record.leaf.clone()).collect();
        let (promised, found) = (self.promised, shown.len());
        let kept = found >= promised && shown[..promised] == self.log[..promised];
        self.must(kept, Promise::Accepted, || {
            format!("{promised} records were promised; a start finds {found}, or others in their place")
        });
        let tail = usize::try_from(first).ok().and_then(|first| shown.get(first..));
        self.must(tail == Some(replayed), Promise::Accepted, || {
            format!("a start replays {} records from {first} on; the log has {found}", replayed.len())
        });
        self.log = shown;
    }

    /// Promise 8: whatever checkpoint the relay shows covers durable records, and they make its root. From then on
    /// they are promised.
    pub fn checkpoint(&mut self, note: &[u8]) {
        let note = Note::parse(note).expect("a note of the relay's");
        if !self.checkpoints.insert(Bytes::copy_from_slice(note.text().as_bytes())) {
            return;
        }
        let Checkpoint { size, root, .. } = note.text().parse().expect("a checkpoint");
        let size = usize::try_from(size).expect("a short log");
        let covered = self.log.get(..size).map(|leaves| {
            let hashes: Vec<Hash> = leaves.iter().map(|leaf| merkle::leaf_hash(leaf)).collect();
            merkle::root(&hashes)
        });
        self.must(covered == Some(root), Promise::Log, || {
            format!("a checkpoint of {size} leaves is not the root of what the disk has")
        });
        self.promised = self.promised.max(size);
        self.came("checkpoint");
    }

    /// A checkpoint is where a restart finds it as the published one.
    pub fn published(&mut self, note: &[u8]) {
        self.published = size_of(note);
    }

    /// The leaves that the disk took, in order.
    pub fn leaves(&self) -> &[Bytes] {
        &self.log
    }

    pub fn damage(&mut self, refused: bool) {
        self.must(refused, Promise::Corruption, || "a damaged journal was taken".to_owned());
    }

    pub fn roster_in_force(&mut self, now: Duration, roster: &Roster) {
        for (desk, code) in DESKS.iter().enumerate() {
            let party = roster.parties().find(|party| party.code == *code);
            if party.is_some_and(|party| party.status == Status::Active) {
                self.suspended.remove(&desk);
            } else {
                self.suspended.entry(desk).or_insert(now);
            }
        }
    }

    pub fn is_suspended(&self, desk: usize) -> bool {
        self.suspended.contains_key(&desk)
    }

    pub fn drained(&mut self, unsettled: &[&str]) {
        self.must(unsettled.is_empty(), Promise::Accepted, || format!("queues do not drain: {unsettled:?}"));
    }

    /// A frame of the relay, on its way to a desk.
    pub fn relay_says(&mut self, now: Duration, line: u64, desk: usize, kind: &Kind, disk_failed: bool) {
        let traffic = match kind {
            Kind::Accepted(frame) => Some((frame.position, &frame.salt, &frame.opening)),
            Kind::Deliver(frame) => Some((frame.position, &frame.salt, &frame.opening)),
            Kind::StoredAt(frame) if !frame.opening.is_empty() => {
                Some((frame.position, &frame.salt, &frame.opening))
            }
            Kind::Receipt(frame) if frame.position != u64::MAX => {
                Some((frame.position, &frame.salt, &frame.opening))
            }
            _ => None,
        };
        if let Some((position, salt, opening)) = traffic {
            let leaf = salt[..]
                .try_into()
                .ok()
                .and_then(|salt: [u8; 32]| Opening::decode(opening).ok().map(|opening| opening.leaf(&salt)));
            let index = usize::try_from(position).expect("a short log");
            let durable = self.log.get(index).cloned();
            let proven =
                leaf.is_some_and(|leaf| durable.as_ref().is_some_and(|durable| *durable == leaf[..]));
            self.must(proven, Promise::Accepted, || {
                format!("the relay names position {position} to {}; the disk has {durable:?}", DESKS[desk])
            });
            self.promised = self.promised.max(index + 1);
            self.must(!disk_failed, Promise::FailedDisk, || {
                format!("position {position} is named to {} by a relay whose disk has failed", DESKS[desk])
            });
        }
        if let Kind::Accepted(frame) = kind {
            let before = *self.accepted.entry(frame.envelope_hash.clone()).or_insert(frame.position);
            self.must(before == frame.position, Promise::Accepted, || {
                format!("one envelope is accepted at {before} and at {}", frame.position)
            });
        }
        match kind {
            Kind::Checkpoint(checkpoint) => {
                self.checkpoint(&checkpoint.note);
                // One that was only signed counts for nothing yet.
                if BLOC.cosigned_by(&checkpoint.note) >= QUORUM {
                    let (size, found) = (size_of(&checkpoint.note), self.published);
                    self.must(size <= found, Promise::Log, || {
                        format!(
                            "{} hears of {size} leaves as published, and a restart finds {found}",
                            DESKS[desk]
                        )
                    });
                    self.came("witnessed checkpoint");
                }
            }
            Kind::AddCheckpoint(request) => {
                let text = str::from_utf8(&request.request).expect("text");
                let request: AddCheckpoint = text.parse().expect("a request of the relay's");
                self.checkpoint(request.checkpoint.as_bytes());
            }
            Kind::Deferred(_) => self.came("deferred"),
            Kind::Refused(refused) if refused.code == RefusalCode::Minimize as u32 => {
                self.came("refused for MINIMIZE");
            }
            Kind::Refused(refused) if refused.code == RefusalCode::OldNumber as u32 => {
                self.came("sent again when it was erased");
            }
            Kind::Goodbye(goodbye) if goodbye.code == GoodbyeCode::TakenOver as u32 => {
                self.came("taken over")
            }
            _ => {}
        }
        let suspended = self.suspended.get(&desk).copied();
        if !matches!(kind, Kind::Goodbye(_) | Kind::Administrative(_)) {
            let late = suspended.is_some_and(|since| now > since + SUSPENSION_TIME_MAX);
            self.must(!late, Promise::Suspension, || format!("{} is suspended and is served", DESKS[desk]));
        }
        let window = self.windows.entry(line).or_default();
        match kind {
            Kind::Welcome(welcome) => window.submits_granted = welcome.credit_envelopes,
            Kind::Credit(credit) => window.submits_granted = window.submits_granted.max(credit.envelopes),
            Kind::Deliver(_) => {
                window.delivers += 1;
                let window = *window;
                self.must(window.delivers <= window.delivers_granted, Promise::Bounds, || {
                    format!("the relay sends more to {} than it granted: {window:?}", DESKS[desk])
                });
            }
            _ => {}
        }
    }

    /// A frame of a desk, on its way to the relay.
    pub fn desk_says(&mut self, line: u64, desk: usize, kind: &Kind, desks: &[Desk]) {
        let window = self.windows.entry(line).or_default();
        match kind {
            Kind::Credit(credit) => window.delivers_granted = window.delivers_granted.max(credit.envelopes),
            Kind::Submit(submit) => {
                window.submits += 1;
                let window = *window;
                self.must(window.submits <= window.submits_granted, Promise::Bounds, || {
                    format!("{} submits more than the relay granted: {window:?}", DESKS[desk])
                });
                let sender = parse_header(&submit.header).map(|(core, _)| core.sender);
                self.must(sender.is_ok_and(|sender| sender == number_of(desk)), Promise::Sender, || {
                    format!("{} submits in another's name", DESKS[desk])
                });
            }
            Kind::Stored(stored) => {
                let count = usize::try_from(stored.count).expect("few");
                let parts = split_parts(stored.items.clone(), count).unwrap_or_default();
                self.must(!parts.is_empty(), Promise::Receipts, || "receipts that cannot be read".to_owned());
                for part in parts.iter().filter(|part| part.item.kind == ReceiptKind::Delivered) {
                    for (hash, _) in &part.item.envelopes {
                        let there = holds(&desks[desk], hash.0.as_bytes());
                        self.must(there, Promise::Receipts, || {
                            format!("{} says delivered of what its store does not hold", DESKS[desk])
                        });
                    }
                }
            }
            _ => {}
        }
    }
}

/// What an administrative leaf says of rosters.
pub fn roster_version(leaf: &[u8]) -> Option<u32> {
    match AdministrativeLeaf::decode(leaf).ok()?.act {
        Act::Roster { version, .. } => Some(version),
        _ => None,
    }
}

/// Log time of a record, and the name of the envelope that it holds.
pub fn time_and_name(record: &Record) -> (u64, Option<Bytes>) {
    if is_administrative(&record.leaf) {
        return (AdministrativeLeaf::decode(&record.leaf).expect("the relay made it").log_time_us, None);
    }
    let opening = Opening::decode(&record.opening).expect("the relay made it");
    let is_envelope = opening.kind == OpeningKind::Envelope;
    (opening.log_time_us, is_envelope.then(|| Bytes::copy_from_slice(opening.hash.as_bytes())))
}

pub fn number_of(desk: usize) -> PartyNumber {
    PartyNumber(u32::try_from(desk).expect("few desks") + 2)
}

fn holds(desk: &Desk, hash: &[u8]) -> bool {
    let sql = "SELECT 1 FROM inbox WHERE hash = ?1 AND set_aside IS NULL
        UNION ALL SELECT 1 FROM copies WHERE hash = ?1";
    desk.disk.prepare_cached(sql).and_then(|mut statement| statement.exists([hash])).expect("a store")
}

/// Leaves that a checkpoint covers.
fn size_of(note: &[u8]) -> u64 {
    let note = Note::parse(note).expect("a note of the relay's");
    note.text().parse::<Checkpoint>().expect("a checkpoint").size
}
