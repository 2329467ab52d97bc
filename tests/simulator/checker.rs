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
    record::{
        Record,
        administrative::{Act, AdministrativeLeaf},
        leaf::Opening,
    },
    roster::{PartyNumber, Roster, Status},
    wire::{
        Position,
        envelope::parse_header,
        pb::frame::Kind,
        receipt::{ReceiptKind, split_parts},
    },
};
use rusqlite::params;

use super::{
    bloc::{DESKS, desk_of},
    desk::Desk,
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
    /// 9: after a failed operation nothing more.
    FailedDisk,
    /// 10: a suspended party is out within 2 s.
    Suspension,
    /// 11: damage is refused, history never gets shorter.
    Corruption,
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
    /// Leaves that the disk took, by position.
    log: Vec<Bytes>,
    /// Positions below this one were named to somebody.
    promised: usize,
    windows: BTreeMap<u64, Window>,
    /// Desks that the roster in force suspends, and since when.
    suspended: BTreeMap<usize, Duration>,
    /// What people wrote: addressees by author and serial.
    pub written: BTreeMap<(usize, u64), Vec<usize>>,
    /// Rows of each inbox that were looked at.
    seen: BTreeMap<usize, u64>,
    /// Desk, author and serial.
    arrived: BTreeSet<(usize, usize, u64)>,
}

impl Checker {
    pub fn broken(&mut self, violation: Violation) {
        self.broken.get_or_insert(violation);
    }

    fn must(&mut self, holds: bool, promise: Promise, words: impl FnOnce() -> String) {
        if !holds {
            self.broken(Violation::new(promise, words()));
        }
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
        self.log.extend(records.iter().map(|record| record.leaf.clone()));
    }

    /// A start found these records.
    pub fn recovered(&mut self, leaves: &[Bytes]) {
        let (promised, found) = (self.promised, leaves.len());
        let kept = found >= promised && leaves[..promised] == self.log[..promised];
        self.must(kept, Promise::Accepted, || {
            format!("{promised} records were promised; a start finds {found}, or others in their place")
        });
        self.log = leaves.to_vec();
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

    pub fn anybody_suspended(&self) -> bool {
        !self.suspended.is_empty()
    }

    pub fn drained(&mut self, drained: bool) {
        self.must(drained, Promise::Accepted, || "queues do not drain".to_owned());
    }

    /// A frame of the relay, on its way to a desk.
    pub fn relay_says(&mut self, now: Duration, line: u64, desk: usize, kind: &Kind) {
        let traffic = match kind {
            Kind::Accepted(frame) => Some((frame.position, &frame.salt, &frame.opening)),
            Kind::Deliver(frame) => Some((frame.position, &frame.salt, &frame.opening)),
            Kind::StoredAt(frame) => Some((frame.position, &frame.salt, &frame.opening)),
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

    /// New rows of an inbox, as its people see them.
    pub fn inbox(&mut self, desk: usize, desks: &[Desk]) {
        let seen = self.seen.get(&desk).copied().unwrap_or(0);
        let sql = "SELECT register, sender_code, subject, precedence, set_aside FROM inbox
            WHERE register > ?1 ORDER BY register";
        let mut statement = desks[desk].disk.prepare(sql).expect("a store");
        let rows = statement
            .query_map([seen], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
        let rows: Vec<(u64, String, String, i64, Option<u16>)> =
            rows.and_then(Iterator::collect).expect("a store");
        let mut last = seen;
        for (register, sender, subject, precedence, set_aside) in rows {
            self.must(register == last + 1, Promise::ExactlyOnce, || {
                format!("{} has register {register} after {last}", DESKS[desk])
            });
            last = register;
            self.must(set_aside.is_none(), Promise::Receipts, || {
                format!("{} set an honest dispatch aside: {set_aside:?}", DESKS[desk])
            });
            let Some((author, serial)) = name_of(&subject) else {
                self.broken(Violation::new(Promise::Sender, format!("nobody wrote {subject:?}")));
                continue;
            };
            let known = self.written.get(&(author, serial));
            let meant = known.is_some_and(|to| to.contains(&desk));
            self.must(meant && sender == DESKS[author], Promise::Sender, || {
                format!("{} has {subject} as from {sender}", DESKS[desk])
            });
            let is_new = self.arrived.insert((desk, author, serial));
            self.must(is_new, Promise::ExactlyOnce, || format!("{} has {subject} twice", DESKS[desk]));
            self.check_order(desk, author, serial, precedence, register, desks);
        }
        self.seen.insert(desk, last);
    }

    /// Promise 3: nothing that its author wrote later came earlier, unless one of the two was sealed again.
    fn check_order(
        &mut self,
        desk: usize,
        author: usize,
        serial: u64,
        precedence: i64,
        register: u64,
        desks: &[Desk],
    ) {
        let sql = "SELECT subject FROM inbox WHERE sender_code = ?1 AND precedence = ?2 AND register < ?3
            ORDER BY register DESC LIMIT 1";
        let before = desks[desk]
            .disk
            .query_row(sql, params![DESKS[author], precedence, register], |row| row.get::<_, String>(0));
        let Some((_, earlier)) = before.ok().and_then(|subject| name_of(&subject)) else { return };
        let again = [serial, earlier].iter().any(|serial| sealed_again(&desks[author], author, *serial));
        self.must(again || earlier < serial, Promise::Order, || {
            format!("{} got {}/{serial} after {}/{earlier}", DESKS[desk], DESKS[author], DESKS[author])
        });
    }

    /// When all is quiet: what its author sees as accepted lies in every addressee's inbox, and the other way.
    pub fn settled(&mut self, desks: &[Desk]) {
        for (author, desk) in desks.iter().enumerate() {
            let sql =
                "SELECT subject, state, code, delivered_at FROM outbox JOIN addressees ON dispatch = seq";
            let mut statement = desk.disk.prepare(sql).expect("a store");
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
            let rows: Vec<(String, i64, String, Option<i64>)> =
                rows.and_then(Iterator::collect).expect("a store");
            for (subject, state, addressee, delivered) in rows {
                let (Some((_, serial)), Some(to)) = (name_of(&subject), desk_of(&addressee)) else {
                    continue;
                };
                self.must(state >= 2, Promise::Accepted, || format!("{subject} still waits in the outbox"));
                let arrived = self.arrived.contains(&(to, author, serial));
                self.must(arrived || state != 2, Promise::Accepted, || {
                    format!("{subject} was accepted and is lost to {addressee}")
                });
                self.must(delivered.is_none() || arrived, Promise::Receipts, || {
                    format!("{subject} counts as delivered to {addressee}, where it is not")
                });
                self.must(delivered.is_some() || state != 2, Promise::Accepted, || {
                    format!("no receipt of {addressee} came for {subject}")
                });
            }
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

fn number_of(desk: usize) -> PartyNumber {
    PartyNumber(u32::try_from(desk).expect("few desks") + 2)
}

/// Author and serial of a subject such as `IDN/7`.
fn name_of(subject: &str) -> Option<(usize, u64)> {
    let (code, serial) = subject.split_once('/')?;
    Some((desk_of(code)?, serial.parse().ok()?))
}

fn holds(desk: &Desk, hash: &[u8]) -> bool {
    let sql = "SELECT 1 FROM inbox WHERE hash = ?1 AND set_aside IS NULL
        UNION ALL SELECT 1 FROM copies WHERE hash = ?1";
    desk.disk.prepare_cached(sql).and_then(|mut statement| statement.exists([hash])).expect("a store")
}

fn sealed_again(author: &Desk, number: usize, serial: u64) -> bool {
    let sql = "SELECT attempts > 1 FROM outbox WHERE subject = ?1";
    let subject = format!("{}/{serial}", DESKS[number]);
    author.disk.query_row(sql, [subject], |row| row.get(0)).unwrap_or(true)
}
