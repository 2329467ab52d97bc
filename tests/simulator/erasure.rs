//! Openings that are erased within a run: not before their time, not without a leaf that says so, and then for good.
//! What a desk holds opens its leaf all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use pouch::{
    journal::Disk,
    limits::Limits,
    record::{
        Record,
        administrative::{Act, AdministrativeLeaf, Erasure},
        leaf::{Opening, is_administrative},
    },
    wire::Position,
};

use super::{
    bloc::DESKS,
    checker::{Checker, Promise, time_and_name},
    desk::Desk,
    lies::Lie,
    world::World,
};

/// How long openings are kept where a run sees their end, and by which steps they are erased.
const KEPT: Duration = Duration::from_secs(1);
const ERASED_EVERY: Duration = Duration::from_millis(250);
/// How long a relay keeps them that erases too early.
const KEPT_TOO_SHORT: Duration = Duration::from_millis(100);
/// Salts are looked for by so many bytes: by chance none of a run is found.
const TRACE_BYTES: usize = 8;

/// What a record told before it was erased.
#[derive(Clone, Debug, Default)]
struct Told {
    log_time_us: u64,
    /// Empty where the leaf is in clear.
    salt: Vec<u8>,
}

/// What is erased, as the log and the disk show it.
#[derive(Default)]
pub struct Erasures {
    keep_us: u64,
    told: Vec<Told>,
    /// Below this position leaves say that openings are erased.
    said_below: u64,
    /// Below this position the journal has erased them.
    done_below: u64,
    /// What must be erased before all is quiet.
    due_below: u64,
    /// What was waited for when its segment was given up.
    carried: BTreeSet<u64>,
    /// For a lie: archives as they were at first.
    archives: BTreeMap<String, Vec<u8>>,
}

impl Erasures {
    /// Openings are kept for so long.
    pub fn keep(&mut self, kept: Duration) {
        self.keep_us = u64::try_from(kept.as_micros()).expect("years");
    }

    /// The disk took a record; says what is wrong with what it erases.
    pub fn durable(&mut self, record: &Record, log_time_us: u64) -> Option<String> {
        self.told.push(Told { log_time_us, salt: record.salt.to_vec() });
        self.says(&record.leaf, log_time_us)
    }

    /// A start shows these records.
    pub fn shown(&mut self, records: &[Record]) -> Option<String> {
        let before = mem::take(&mut self.told);
        self.said_below = 0;
        let mut wrong = None;
        let mut erased_below = 0;
        for (position, record) in (0_u64..).zip(records) {
            if !is_administrative(&record.leaf) && record.opening.is_empty() {
                let told = usize::try_from(position).ok().and_then(|at| before.get(at));
                self.told.push(told.cloned().unwrap_or_default());
                erased_below = position + 1;
            } else {
                let log_time_us = time_and_name(record).0;
                wrong = wrong.or(self.durable(record, log_time_us));
            }
        }
        let said_below = self.said_below;
        let unsaid = erased_below > said_below;
        wrong.or(unsaid.then(|| format!("erased up to {erased_below}; leaves say so up to {said_below}")))
    }

    fn says(&mut self, leaf: &[u8], log_time_us: u64) -> Option<String> {
        let Act::Erasures { through } = AdministrativeLeaf::decode(leaf).ok()?.act else { return None };
        self.said_below = self.said_below.max(through.0 + 1);
        let newest = usize::try_from(through.0).ok().and_then(|at| self.told.get(at));
        let is_old = newest.is_some_and(|newest| newest.log_time_us + self.keep_us <= log_time_us);
        (!is_old).then(|| format!("{through} is to be erased before its time"))
    }

    /// These positions are still waited for, and so are written anew.
    pub fn carried(&mut self, needed: &[Position]) {
        self.carried.extend(needed.iter().map(|position| position.0));
    }

    /// From now on all that leaves say is erased must come to be.
    pub fn must_be_done(&mut self) {
        self.due_below = self.said_below;
    }

    pub fn is_done(&self) -> bool {
        self.done_below >= self.due_below
    }

    /// What the disk must hold no more, by the first bytes of its salt.
    fn gone(&self) -> BTreeMap<[u8; TRACE_BYTES], u64> {
        let erased = (0..self.done_below).zip(&self.told);
        let traces = erased.filter_map(|(at, told)| Some((*told.salt.first_chunk()?, at)));
        traces.filter(|(_, at)| !self.carried.contains(at)).collect()
    }
}

impl Checker {
    pub fn erasure_must(&mut self, wrong: Option<String>) {
        let holds = wrong.is_none();
        self.must(holds, Promise::Erasure, || wrong.unwrap_or_default());
    }

    /// The journal says that openings through a position are gone.
    fn erased(&mut self, through: Position) {
        let said_below = self.erasure.said_below;
        self.must(through.0 < said_below, Promise::Erasure, || {
            format!("the journal erases through {through}; leaves say so up to {said_below}")
        });
        self.erasure.done_below = self.erasure.done_below.max(through.0 + 1);
        self.came("openings erased");
        if self.erasure.carried.range(..=through.0).next().is_some() {
            self.came("erased beside what waits");
        }
    }

    /// What desks keep of what the relay told them opens the leaves of the log, whatever the relay has erased.
    pub fn openings_at(&mut self, desks: &[Desk]) {
        let sql = "SELECT position, salt, opening FROM inbox
            UNION ALL SELECT position, salt, opening FROM submissions WHERE state = 1
            UNION ALL SELECT position, salt, opening FROM stored WHERE salt IS NOT NULL
            UNION ALL SELECT position, salt, opening FROM receipts_in";
        for (desk, code) in desks.iter().zip(DESKS) {
            let mut statement = desk.disk.prepare(sql).expect("a store");
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            let rows: Vec<(usize, [u8; 32], Vec<u8>)> =
                rows.and_then(Iterator::collect).expect("a salt has 32 bytes");
            for (position, salt, opening) in rows {
                let leaf = Opening::decode(&opening).map(|opening| opening.leaf(&salt));
                let is_leaf =
                    leaf.is_ok_and(|leaf| self.leaves().get(position).is_some_and(|is| *is == leaf[..]));
                self.must(is_leaf, Promise::Log, || {
                    format!("what {code} keeps of position {position} does not open its leaf")
                });
            }
        }
    }
}

impl World {
    /// Lets openings be erased within the run.
    pub fn keep_openings_for_short(&mut self) {
        let kept = Limits { openings_keep: KEPT, erasure_every: ERASED_EVERY, ..self.limits.clone() };
        self.limits = kept;
        self.checker.erasure.keep(KEPT);
    }

    /// The limits that the relay runs with, as it was told.
    pub fn limits_of_relay(&self) -> Limits {
        match self.lie {
            Some(Lie::ErasedTooEarly) => Limits { openings_keep: KEPT_TOO_SHORT, ..self.limits.clone() },
            _ => self.limits.clone(),
        }
    }

    /// Notes what the journal says it has erased.
    pub fn look_at_erasure(&mut self) {
        let said_below = self.checker.erasure.said_below;
        let Some(relay) = &mut self.relay else { return };
        let erased = relay.writer.erased().map(|erased| erased.expect("no archive is damaged"));
        let next = relay.writer.next_position();
        let erased = match self.lie {
            Some(Lie::ArchiveNotErased) => {
                self.bring_archives_back(erased.is_some());
                erased
            }
            Some(Lie::ErasedWithoutLeaf) if erased.is_none() && next.0 > said_below + 8 => {
                relay.writer.erase(Erasure { through: Position(next.0 / 2), at: Position(next.0 - 1) });
                None
            }
            _ => erased,
        };
        erased.into_iter().for_each(|through| self.checker.erased(through));
    }

    /// Keeps archives as they are when they are seen first, and puts them back once they are erased.
    fn bring_archives_back(&mut self, erased: bool) {
        let archives = &mut self.checker.erasure.archives;
        for name in self.disk.list().expect("the disk is well") {
            if name.starts_with("archive-") {
                let first = archives.entry(name.clone()).or_insert_with(|| self.disk.bytes(&name));
                if erased {
                    self.disk.tamper(&name, |bytes| bytes.clone_from(first));
                }
            }
        }
    }

    /// Looks at every byte of the disk for what is erased.
    pub fn look_for_what_is_erased(&mut self) {
        let gone = self.checker.erasure.gone();
        let mut may_begin = [false; 256];
        gone.keys().for_each(|trace| may_begin[usize::from(trace[0])] = true);
        for name in self.disk.list().expect("the disk is well") {
            let bytes = self.disk.bytes(&name);
            let found = bytes.windows(TRACE_BYTES).find_map(|window| {
                let trace = window.first_chunk().filter(|_| may_begin[usize::from(window[0])]);
                trace.and_then(|trace| gone.get(trace))
            });
            self.checker.must(found.is_none(), Promise::Erasure, || {
                format!("{name} still holds the salt of {found:?}, which is erased")
            });
        }
    }
}
