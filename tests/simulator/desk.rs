//! Desks as the world runs them: the real link machine and the real store on SQLite in memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use jiff::Timestamp;
use pouch::{
    desk::{
        link::{
            jobs::{self, StoreAnswer, StoreJob},
            machine::{Input, Machine, Now, Output, Setup},
            requests::RequestEnd,
        },
        store::Store,
    },
    keys::SigningKey,
    limits,
    wire::{
        codec::{self, FrameDecoder},
        pb::frame::Kind,
    },
};
use rusqlite::Connection;

use super::{
    bloc::{BLOC, DESKS, RELAY_SERIAL},
    checker::{Promise, Violation},
    lies::Lie,
    ministry::HUB,
    network::{End, Line},
    sides::add_credit,
    world::{DeskEvent, Event, START_US, World},
};

/// A desk hears at least so often how much of what it sent has left a slow line.
const KERNEL_TELLS_AFTER: Duration = Duration::from_millis(200);

/// As the link's shell does.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Alarms of a desk that say that the relay lies.
const ACCUSATIONS: [&str; 10] = [
    "audit-log",
    "checkpoint-overdue",
    "forked",
    "log-order",
    "log-roster",
    "proof-overdue",
    "relay-delivery",
    "relay-receipt",
    "relay-refusal",
    "unproven",
];

/// A desk's box: what a crash leaves, and the process that runs on it.
pub struct Desk {
    /// Where its database lies in memory.
    uri: String,
    /// Keeps the database, and shows the checker what is committed in it.
    pub disk: Connection,
    generation: u64,
    process: Option<Process>,
    /// How far its wall clock is off.
    pub skew_us: i64,
    /// Until when no packet comes through.
    pub cut_off: Duration,
    /// Which of its sign keys the box has.
    pub key: usize,
    /// What a restore would go back to.
    backup: Option<(String, Connection)>,
    /// Dispatches up to this one were in a store that was restored: what came of them may be known no more.
    restored_through: i64,
}

struct Process {
    machine: Machine,
    store: Store,
    started: Duration,
    line: Option<u64>,
    decoder: FrameDecoder,
    job: Option<StoreJob>,
    answer: Option<StoreAnswer>,
}

impl Desk {
    pub fn new() -> Desk {
        let uri = fresh_uri();
        let disk = Connection::open(&uri).expect("memory");
        Desk {
            uri,
            disk,
            generation: 0,
            process: None,
            skew_us: 0,
            cut_off: Duration::ZERO,
            key: 0,
            backup: None,
            restored_through: 0,
        }
    }

    pub fn due(&self) -> Option<Duration> {
        let process = self.process.as_ref()?;
        Some(process.started + process.machine.poll_timeout()?)
    }

    pub fn is_running(&self, generation: u64) -> bool {
        self.process.is_some() && self.generation == generation
    }

    pub fn store(&mut self) -> Option<&mut Store> {
        self.process.as_mut().map(|process| &mut process.store)
    }

    /// Whether nothing waits in its store: every dispatch answered and receipted, every receipt logged.
    pub fn is_drained(&self) -> bool {
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM outbox WHERE state < 2)
            AND NOT EXISTS (SELECT 1 FROM outbox JOIN addressees ON dispatch = seq
                WHERE state = 2 AND seq > ?1
                AND delivered_at IS NULL AND set_aside_at IS NULL AND expired_at IS NULL)
            AND NOT EXISTS (SELECT 1 FROM receipts_due) AND NOT EXISTS (SELECT 1 FROM stored WHERE position IS NULL)";
        self.disk
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([self.restored_through], |row| row.get(0)))
            .expect("a store")
    }

    /// A copy of what is committed.
    fn snapshot(&self) -> (String, Connection) {
        let uri = fresh_uri();
        let copy = Connection::open(&uri).expect("memory");
        self.disk.execute("VACUUM INTO ?1", [&uri]).expect("a copy in memory");
        (uri, copy)
    }

    fn sign_key(&self, desk: usize) -> Arc<SigningKey> {
        Arc::clone(&BLOC.keys[desk][self.key])
    }

    fn wall_us(&self, now: Duration) -> i64 {
        START_US + i64::try_from(now.as_micros()).expect("a short run") + self.skew_us
    }

    fn now(&self, now: Duration) -> Now {
        let started = self.process.as_ref().map_or(now, |process| process.started);
        let wall_us = u64::try_from(self.wall_us(now)).expect("after 1970");
        Now { mono: now - started, wall_us }
    }

    pub fn time(&self, now: Duration) -> Timestamp {
        Timestamp::from_microsecond(self.wall_us(now)).expect("a time of this century")
    }
}

fn fresh_uri() -> String {
    // Names of memory, which nothing in a run depends on.
    static DATABASES: AtomicU64 = AtomicU64::new(0);
    format!("file:simulated-{}?mode=memory&cache=shared", DATABASES.fetch_add(1, Ordering::Relaxed))
}

impl World {
    pub fn start_desk(&mut self, desk: usize) {
        if self.desks[desk].process.is_some() {
            return;
        }
        let id = BLOC.ids[desk].spiffe().clone();
        let connection = Connection::open(&self.desks[desk].uri).expect("memory");
        let store = Store::in_memory(connection, id.clone(), &BLOC.trust).expect("a sound store");
        let machine = Machine::new(Setup {
            id,
            trust: BLOC.trust.clone(),
            sign: self.desks[desk].sign_key(desk),
            witness: Arc::clone(&BLOC.witnesses[desk]),
            instance: self.chance.bytes(),
            limits: self.limits.clone(),
            relays: vec!["relay.example:7443".to_owned()],
            roster: None,
        });
        let decoder = FrameDecoder::new(limits::FRAME_BEFORE_WELCOME_BYTES_MAX);
        self.trace.note(self.now, || format!("desk {desk} starts"));
        self.desks[desk].process =
            Some(Process { machine, store, started: self.now, line: None, decoder, job: None, answer: None });
        self.desk_timeout(desk);
        self.look_later(desk);
    }

    /// Ends the process: what was committed stays.
    pub fn kill_desk(&mut self, desk: usize) {
        let Some(process) = self.desks[desk].process.take() else { return };
        self.trace.note(self.now, || format!("desk {desk} dies"));
        self.desks[desk].generation += 1;
        if desk == HUB {
            self.request_ended(&RequestEnd::Unanswered);
        }
        if let Some(line) = process.line {
            if self.chance.one_in(3) {
                self.lines.get_mut(&line).expect("its own line").go_silent();
            }
            self.send_end(line, End::Relay);
            self.lines.get_mut(&line).expect("its own line").ended.insert(End::Desk);
        }
        drop(process);
        let later = self.chance.between(1, 400);
        self.after(later, Event::DeskStarts(desk));
    }

    /// The store goes back to what it was, and the process with it.
    fn roll_back(&mut self, desk: usize, (uri, disk): (String, Connection)) {
        self.kill_desk(desk);
        self.desks[desk].uri = uri;
        self.desks[desk].disk = disk;
    }

    /// Somebody keeps a copy of a store; or the box breaks, and goes on from the copy.
    pub fn back_up_or_restore(&mut self, desk: usize) {
        let has_tables = self.desks[desk].disk.table_exists(None, "outbox").expect("memory");
        match self.desks[desk].backup.take() {
            None if has_tables => self.desks[desk].backup = Some(self.desks[desk].snapshot()),
            None => {}
            Some(backup) => {
                self.trace.note(self.now, || format!("desk {desk} is restored"));
                self.roll_back(desk, backup);
                let last =
                    self.desks[desk].disk.query_row("SELECT max(seq) FROM outbox", [], |row| row.get(0));
                let last: Option<i64> = last.expect("a store");
                self.desks[desk].restored_through = last.unwrap_or(0);
                self.checker.restored(desk, &self.desks);
            }
        }
    }

    pub fn desk_timeout(&mut self, desk: usize) {
        let now = self.desks[desk].now(self.now);
        let Some(process) = &mut self.desks[desk].process else { return };
        process.machine.handle_timeout(now);
        self.desk_carries_out(desk);
    }

    pub fn desk_input(&mut self, desk: usize, input: Input) {
        let now = self.desks[desk].now(self.now);
        let Some(process) = &mut self.desks[desk].process else { return };
        process.machine.handle(input, now);
        self.desk_carries_out(desk);
    }

    fn desk_later(&mut self, desk: usize, least_ms: u64, most_ms: u64, event: DeskEvent) {
        let later = self.chance.between(least_ms, most_ms);
        self.after(later, Event::Desk(desk, self.desks[desk].generation, event));
    }

    fn desk_carries_out(&mut self, desk: usize) {
        while let Some(process) = &mut self.desks[desk].process
            && let Some(output) = process.machine.poll_output()
        {
            match output {
                Output::Connect(_) => self.desk_later(desk, 1, 30, DeskEvent::Connect),
                Output::Send(kind) => {
                    if let Some(line) = process.line {
                        self.desk_says(desk, line, kind);
                    }
                }
                Output::Close => match process.line.take() {
                    Some(line) => {
                        self.send_end(line, End::Relay);
                        if let Some(on) = self.lines.get_mut(&line) {
                            on.ended.insert(End::Desk);
                        }
                        self.desk_without_line(desk, "closed");
                    }
                    None => self.desk_without_line(desk, "closed"),
                },
                Output::Ask(job) => {
                    process.job = Some(job);
                    self.desk_later(desk, 0, 3, DeskEvent::Job);
                }
                Output::Status(state, reason) => {
                    self.trace.note(self.now, || format!("desk {desk} is {}: {reason:?}", state.name()));
                }
                Output::Answered(end) => self.request_ended(&end),
            }
        }
    }

    fn desk_without_line(&mut self, desk: usize, reason: &str) {
        let jitter = self.chance.next();
        self.desk_input(desk, Input::Lost { reason: reason.to_owned(), jitter });
    }

    pub fn desk_event(&mut self, desk: usize, event: DeskEvent) {
        match event {
            DeskEvent::Connect => self.connect(desk),
            DeskEvent::Job => self.run_job(desk),
            DeskEvent::Answer => {
                let process = self.desks[desk].process.as_mut().expect("its own event");
                let answer = process.answer.take().expect("one job at a time");
                self.desk_input(desk, Input::Answer(answer));
            }
            DeskEvent::Look => {
                let time = self.desks[desk].time(self.now);
                let store = self.desks[desk].store().expect("its own event");
                let dispatches = store.waiting(time).expect("memory");
                let receipts = store.receipts_waiting().expect("memory");
                self.desk_input(desk, Input::Wake { dispatches, receipts });
            }
            DeskEvent::LookAgain => {
                self.look(desk);
                self.look_later(desk);
            }
            DeskEvent::Wrote(line) => self.wrote(desk, line),
        }
    }

    /// Looks at a store again and again: what an order held back may go out by the clock alone.
    fn look_later(&mut self, desk: usize) {
        self.after(LOOK_EVERY, Event::Desk(desk, self.desks[desk].generation, DeskEvent::LookAgain));
    }

    /// Something changed in a store: its link looks what there is to do.
    pub fn look(&mut self, desk: usize) {
        self.desk_later(desk, 0, 2, DeskEvent::Look);
    }

    fn connect(&mut self, desk: usize) {
        if self.relay.is_none() || self.desks[desk].cut_off > self.now {
            return self.desk_without_line(desk, "refused");
        }
        let is_first = desk == 1;
        let lasts = self.lasts.take_if(|_| is_first);
        let on = Line::new(desk, self.thin.filter(|_| is_first), self.lost_percent, lasts, &mut self.chance);
        let (exporter, line) = (on.exporter, self.next_line());
        self.lines.insert(line, on);
        let process = self.desks[desk].process.as_mut().expect("its own event");
        process.line = Some(line);
        process.decoder = FrameDecoder::new(limits::FRAME_BEFORE_WELCOME_BYTES_MAX);
        self.trace.note(self.now, || format!("desk {desk} has line {line}"));
        self.relay_connected(line, desk, exporter);
        let (relay, serial) = (BLOC.relay.spiffe().clone(), RELAY_SERIAL.to_owned());
        self.desk_input(desk, Input::Opened { exporter, relay, serial });
    }

    fn run_job(&mut self, desk: usize) {
        let time = self.desks[desk].time(self.now);
        let process = self.desks[desk].process.as_mut().expect("its own event");
        let job = process.job.take().expect("one job at a time");
        if let StoreJob::Alarm { key, sentence, .. } | StoreJob::Doubt { key, sentence, .. } = &job {
            self.desk_is_alarmed(desk, key, sentence);
        }
        let delivers = matches!(job, StoreJob::Deliver(_));
        let judges = delivers
            || matches!(
                job,
                StoreJob::Prove { .. }
                    | StoreJob::Receipts(_)
                    | StoreJob::Follow(_)
                    | StoreJob::Published(_)
                    | StoreJob::Uncovered(_)
            );
        let before =
            (delivers && self.lie == Some(Lie::StoredBeforeCommit)).then(|| self.desks[desk].snapshot());
        let key = self.desks[desk].sign_key(desk);
        let process = self.desks[desk].process.as_mut().expect("its own event");
        let answer = jobs::run(job, &mut process.store, &key, time);
        match answer {
            Ok(answer) => process.answer = Some(answer),
            Err(error) => {
                let words = format!("the store of desk {desk} failed: {error}");
                return self.checker.broken(Violation::new(Promise::ExactlyOnce, words));
            }
        }
        if judges {
            self.look_for_alarms(desk);
        }
        if delivers {
            self.tamper(desk);
            self.checker.inbox(desk, &self.desks);
        }
        if let Some(before) = before
            && self.chance.one_in(4)
        {
            // The answer goes out as if it had been committed; the crash shows that it was not.
            self.desk_answers_then_dies(desk, before);
            return;
        }
        self.desk_later(desk, 0, 2, DeskEvent::Answer);
        self.look(desk);
    }

    /// Alarms that a store raised by itself.
    fn look_for_alarms(&mut self, desk: usize) {
        let sql = "SELECT key, sentence FROM alarms WHERE closed_at IS NULL";
        let both = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let found: Vec<(String, String)> = {
            let mut statement = self.desks[desk].disk.prepare_cached(sql).expect("memory");
            let rows = statement.query_map([], both).expect("memory");
            rows.map(|row| row.expect("memory")).collect()
        };
        for (key, sentence) in found {
            if ACCUSATIONS.contains(&key.as_str()) {
                self.desk_is_alarmed(desk, &key, &sentence);
            }
        }
    }

    /// A desk raises an alarm that says that the relay lies: of a whole relay none ever does.
    fn desk_is_alarmed(&mut self, desk: usize, key: &str, sentence: &str) {
        match &mut self.liar {
            Some(liar) => liar.noticed(self.now, desk, key, sentence),
            None => {
                let words = format!("{} is alarmed: {key}: {sentence}", DESKS[desk]);
                self.checker.must(!ACCUSATIONS.contains(&key), Promise::Log, || words);
            }
        }
    }

    /// The desk says Stored for what its store then turns out not to hold.
    fn desk_answers_then_dies(&mut self, desk: usize, before: (String, Connection)) {
        let time = self.desks[desk].time(self.now);
        let key = self.desks[desk].sign_key(desk);
        let process = self.desks[desk].process.as_mut().expect("it just answered");
        let made = process.store.make_stored(&key, time).expect("memory");
        let line = process.line;
        self.desks[desk].disk = Connection::open(&before.0).expect("memory");
        if let (Some(stored), Some(line)) = (made, line) {
            self.desk_says(desk, line, Kind::Stored(stored));
        }
        self.roll_back(desk, before);
    }

    /// Lies about what an inbox holds.
    fn tamper(&mut self, desk: usize) {
        let sql = match self.lie {
            Some(Lie::DuplicateInboxEntry) => {
                "INSERT INTO inbox SELECT register + 1, randomblob(32), randomblob(16), randomblob(16), sender, sender_code, role,
                 short || 'X', reference, dtg, topic, precedence, label, kind, exercise, acknowledgement, acknowledgement_due_s,
                 position, received_at, read_at, acknowledged_at, set_aside, subject, header, proof, salt, opening, content
                 FROM inbox ORDER BY register DESC LIMIT 1"
            }
            Some(Lie::SenderForged) => {
                "UPDATE inbox SET sender_code = 'MOD' WHERE sender_code <> 'MOD'"
            }
            Some(Lie::ReceiptForAnothers) => {
                "DELETE FROM inbox WHERE register = (SELECT max(register) FROM inbox)"
            }
            _ => return,
        };
        self.desks[desk].disk.execute(sql, []).expect("memory");
    }

    fn desk_says(&mut self, desk: usize, line: u64, mut kind: Kind) {
        self.checker.desk_says(line, desk, &kind, &self.desks);
        self.lie_witnessed(desk, &kind);
        // All others carry the time.
        if matches!(&kind, Kind::Ping(ping) if ping.token < START_US.unsigned_abs() / 2) {
            self.checker.came("asked whether a checkpoint is held back");
        }
        if let Kind::Submit(submit) = &mut kind
            && self.troubled
            && self.chance.one_in(60)
        {
            self.forge(desk, submit);
        }
        if self.lie == Some(Lie::CreditIgnored) {
            add_credit(&mut kind, 100);
        }
        let mut buffer = BytesMut::new();
        codec::encode(kind, &mut buffer);
        self.send(line, End::Relay, &buffer);
        self.wrote_later(desk, line);
    }

    /// Tells a desk when its kernel has taken some of what it sent.
    fn wrote_later(&mut self, desk: usize, line: u64) {
        let Some(on) = self.lines.get(&line) else { return };
        let later = on.taken_in(End::Relay, self.now).min(KERNEL_TELLS_AFTER);
        self.after(later, Event::Desk(desk, self.desks[desk].generation, DeskEvent::Wrote(line)));
    }

    fn wrote(&mut self, desk: usize, line: u64) {
        let process = self.desks[desk].process.as_ref().expect("its own event");
        let Some(on) = self.lines.get(&line).filter(|_| process.line == Some(line)) else { return };
        let unsent = on.unsent(End::Relay, self.now);
        self.desk_input(desk, Input::Unsent(unsent));
        if unsent > 0 {
            self.wrote_later(desk, line);
        }
    }

    pub fn desk_reads(&mut self, line: u64, bytes: &[u8]) {
        let desk = self.lines[&line].desk;
        let Some(process) = &mut self.desks[desk].process else { return };
        if process.line != Some(line) {
            return;
        }
        process.decoder.buffer().extend_from_slice(bytes);
        self.desk_input(desk, Input::Heard);
        while let Some(process) = &mut self.desks[desk].process
            && process.line == Some(line)
        {
            process.decoder.allow(process.machine.frame_bytes_max());
            match process.decoder.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => self.desk_input(desk, Input::Frame(frame)),
                Err(error) => {
                    let words = format!("desk {desk} cannot read the relay's frames: {error}");
                    return self.checker.broken(Violation::new(Promise::Bounds, words));
                }
            }
        }
    }

    pub fn desk_lost(&mut self, desk: usize, line: u64) {
        let Some(process) = &mut self.desks[desk].process else { return };
        if process.line == Some(line) {
            process.line = None;
            self.desk_without_line(desk, "the line broke");
        }
    }

    /// Lets the line of a desk go silent, and nothing through for a while.
    pub fn cut_off(&mut self, desk: usize, time: Duration) {
        self.desks[desk].cut_off = self.now + time;
        for line in self.lines.values_mut().filter(|line| line.desk == desk) {
            line.go_silent();
        }
    }
}
