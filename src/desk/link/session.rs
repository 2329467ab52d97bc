//! One session with the relay, from the TLS handshake to its end: what may be said now, what waits
//! for the store, and what waits for credit.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    time::Duration,
};

use crate::{
    batch::{self, Tag},
    desk::{
        link::{
            end::LinkEnd,
            greeting::{self, Connection},
            inbound::{self, Inbound},
            jobs::{StoreAnswer, StoreJob},
            known::Known,
            machine::{Now, Output},
            pulse::Pulse,
            requests::{self, Request},
            rosters::Assembly,
            submissions::{Deferral, Submissions},
            verify,
            watching::Watching,
        },
        store::Resend,
    },
    roster::PartyNumber,
    session::window::Credit,
    wire::{EnvelopeHash, Position, pb, pb::frame::Kind},
};

/// How far the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The store is asked for what Hello says.
    Asking,
    /// Hello is sent.
    Greeting,
    /// Welcome came; this desk's number in the roster.
    Open(PartyNumber),
}

/// Stored frames without an answer. Reached: receipts wait in the store.
const STORED_IN_FLIGHT_MAX: usize = 64;

/// One TLS connection to the relay.
pub(super) struct Session {
    connection: Connection,
    phase: Phase,
    opened: Option<Duration>,
    pulse: Pulse,
    assembly: Assembly,
    /// Jobs that come before all others: facts, rosters, what Welcome said.
    first: VecDeque<StoreJob>,
    resumed: bool,
    /// What was submitted, for the machine to let out.
    pub(super) submissions: Submissions,
    deferral: Deferral,
    inbound: Inbound,
    accepted: Vec<pb::Accepted>,
    refused: Vec<pb::Refused>,
    stored_at: Vec<pb::StoredAt>,
    stored_in_flight: BTreeSet<u64>,
    make_stored: bool,
    seal: bool,
    watching: Watching,
    turn: usize,
    /// Requests made, and whether the last one is unanswered.
    requests: u64,
    asks: bool,
}

/// What the store is asked for in turn, so that none of it starves the others.
const TURNS: [fn(&mut Session, Duration) -> Option<StoreJob>; 8] = [
    Session::accepted_job,
    Session::refused_job,
    |session, now| session.inbound.deliver_job(now),
    |session, _| session.inbound.receipts_job(),
    Session::stored_at_job,
    Session::make_stored_job,
    Session::seal_job,
    |session, _| session.watching.job(),
];

impl Session {
    /// A connection whose TLS handshake is done.
    pub(super) fn new(connection: Connection, known: &Known, now: Now) -> Session {
        Session {
            connection,
            phase: Phase::Asking,
            opened: None,
            pulse: Pulse::new(now.mono),
            assembly: Assembly::default(),
            first: VecDeque::from([StoreJob::Facts]),
            resumed: false,
            submissions: Submissions::new(&known.setup.limits),
            deferral: Deferral::default(),
            inbound: Inbound::new(&known.setup.limits),
            accepted: Vec::new(),
            refused: Vec::new(),
            stored_at: Vec::new(),
            stored_in_flight: BTreeSet::new(),
            make_stored: false,
            seal: false,
            watching: Watching::default(),
            turn: 0,
            requests: 0,
            asks: false,
        }
    }

    /// When Welcome came.
    pub(super) fn opened(&self) -> Option<Duration> {
        self.opened
    }

    /// Bytes came: the relay lives.
    pub(super) fn heard(&mut self, now: Now) {
        self.pulse.heard(now.mono);
    }

    /// The API queued dispatches, receipts or both.
    pub(super) fn wake(&mut self, dispatches: bool, receipts: bool) {
        self.seal |= dispatches;
        self.make_stored |= receipts;
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// [`LinkEnd`]: the session is over.
    pub(super) fn frame(&mut self, frame: Kind, known: &mut Known, now: Now) -> Result<(), LinkEnd> {
        self.inbound.saw(match &frame {
            Kind::Receipt(receipt) => Some(Position(receipt.position)),
            _ => None,
        });
        self.confirm(known);
        self.watching.saw(&frame, known, now);
        match (self.phase, frame) {
            (_, Kind::Goodbye(goodbye)) => Err(LinkEnd::Goodbye(goodbye.into())),
            (_, Kind::Ping(ping)) => {
                known.send(Kind::Pong(pb::Pong { token: ping.token, time_us: now.wall_us }));
                Ok(())
            }
            (_, Kind::Pong(pong)) => {
                self.watching.pong(pong.token);
                Ok(())
            }
            (Phase::Greeting | Phase::Open(_), Kind::Administrative(chunk)) => {
                self.administrative(chunk, known)
            }
            (Phase::Greeting, Kind::Welcome(welcome)) => self.welcome(&welcome, known, now),
            (Phase::Open(own), frame) => self.open_frame(own, frame, known, now),
            (Phase::Asking | Phase::Greeting, _) => Err(LinkEnd::Protocol("a frame before its time".into())),
        }
    }

    fn open_frame(
        &mut self,
        own: PartyNumber,
        frame: Kind,
        known: &mut Known,
        now: Now,
    ) -> Result<(), LinkEnd> {
        match frame {
            Kind::Accepted(accepted) => {
                if self.deferral.over() {
                    known.jobs.push_back(StoreJob::Defers(false));
                }
                self.accepted(accepted)
            }
            Kind::Refused(refused) => self.refused(refused, own, known),
            Kind::Deferred(deferred) => {
                let retry_after = Duration::from_millis(deferred.retry_after_ms.into());
                self.submissions.defer(deferred.submission, retry_after, now.mono);
                if self.deferral.deferred(now.mono) {
                    known.jobs.push_back(StoreJob::Defers(true));
                }
                Ok(())
            }
            Kind::Deliver(deliver) => self.deliver(deliver, own, known, now),
            Kind::Receipt(receipt) => self.receipt(receipt, own, known),
            Kind::StoredAt(stored_at) => {
                // An answer to a repetition may come twice; the second says nothing new.
                if self.stored_in_flight.remove(&stored_at.number) {
                    self.stored_at.push(stored_at);
                }
                Ok(())
            }
            Kind::Credit(credit) => {
                self.submissions.grant(Credit { envelopes: credit.envelopes, bytes: credit.bytes });
                Ok(())
            }
            Kind::AddCheckpoint(_) | Kind::Checkpoint(_) | Kind::Fetched(_) => {
                Ok(self.watching.frame(&frame, known, now)?)
            }
            Kind::Administered(administered) => {
                if administered.request == self.requests && self.request_ends() {
                    known.outputs.push_back(Output::Answered(administered.into()));
                }
                Ok(())
            }
            Kind::Hello(_)
            | Kind::Welcome(_)
            | Kind::Submit(_)
            | Kind::Stored(_)
            | Kind::Confirm(_)
            | Kind::Administrative(_)
            | Kind::Publish(_)
            | Kind::Order(_)
            | Kind::Witnessed(_)
            | Kind::Fetch(_)
            | Kind::Ping(_)
            | Kind::Pong(_)
            | Kind::Goodbye(_) => Err(LinkEnd::Protocol("a frame that a relay does not send now".into())),
        }
    }

    /// Asks the relay for something; false where the session is not open yet.
    pub(super) fn request(&mut self, request: Request, known: &mut Known) -> bool {
        let is_open = self.opened.is_some();
        if is_open {
            self.requests += 1;
            self.asks = true;
            let frames = requests::frames(request, self.requests, &known.setup);
            known.outputs.extend(frames.into_iter().map(Output::Send));
        }
        is_open
    }

    /// Whether a request was unanswered until now.
    pub(super) fn request_ends(&mut self) -> bool {
        mem::take(&mut self.asks)
    }

    /// What the store said to this session's job.
    ///
    /// # Errors
    /// [`LinkEnd::Restored`], [`LinkEnd::NewLog`], [`LinkEnd::RelayBehind`].
    pub(super) fn answer(&mut self, answer: StoreAnswer, known: &mut Known, now: Now) -> Result<(), LinkEnd> {
        self.watching.answered(&answer, known, now);
        match answer {
            StoreAnswer::Facts(facts) => {
                known.send(Kind::Hello(greeting::hello(&self.connection, &facts, &known.setup)));
                known.roster = facts.roster;
                known.keys = facts.keys;
                self.watching = Watching::new(facts.verified, facts.owed, known);
                self.phase = Phase::Greeting;
            }
            StoreAnswer::Resumed(unanswered) => self.resume(unanswered, known),
            StoreAnswer::Restored => return Err(LinkEnd::Restored),
            StoreAnswer::NewLog => return Err(LinkEnd::NewLog),
            StoreAnswer::RelayBehind => return Err(LinkEnd::RelayBehind),
            StoreAnswer::Delivered => {
                if let Some(credit) = self.inbound.delivered() {
                    known.grant(credit);
                }
                self.make_stored = true;
            }
            StoreAnswer::ReceiptsStored => {
                self.inbound.receipts_stored();
                self.confirm(known);
            }
            StoreAnswer::Stored(None) => {}
            StoreAnswer::Stored(Some(frame)) => {
                self.make_stored = true;
                self.send_stored(frame, known);
            }
            StoreAnswer::Sealed { submits, more } => {
                self.seal |= more;
                self.submissions.add(submits);
            }
            StoreAnswer::Followed { .. } | StoreAnswer::Proved(_) | StoreAnswer::Done => {}
        }
        Ok(())
    }

    /// The next visit to the store; `None` while nothing is due.
    pub(super) fn next_job(&mut self, now: Now) -> Option<StoreJob> {
        if let Some(job) = self.first.pop_front() {
            return Some(job);
        }
        if !self.resumed {
            return None;
        }
        for step in 0..TURNS.len() {
            let turn = (self.turn + step) % TURNS.len();
            if let Some(job) = TURNS[turn](self, now.mono) {
                self.turn = (turn + 1) % TURNS.len();
                return Some(job);
            }
        }
        None
    }

    /// Does what is due by the clock.
    ///
    /// # Errors
    /// [`LinkEnd::Silent`].
    pub(super) fn tick(&mut self, known: &mut Known, now: Now) -> Result<(), LinkEnd> {
        if now.mono >= self.pulse.dead_at(&known.setup.limits, self.opened.is_some()) {
            return Err(LinkEnd::Silent);
        }
        if self.pulse.pings(&known.setup.limits, now.mono) {
            known.send(Kind::Ping(pb::Ping { token: now.wall_us }));
        }
        self.watching.tick(known, now);
        Ok(())
    }

    /// When [`Session::tick`] or [`Session::next_job`] has something to do without a further input.
    pub(super) fn timeout(&self, known: &Known, store_is_idle: bool) -> Duration {
        let deliveries = if store_is_idle { self.inbound.due() } else { None };
        let due = [deliveries, self.submissions.held_until(), self.watching.due(known)];
        let limits = &known.setup.limits;
        let pulse = self.pulse.dead_at(limits, self.opened.is_some()).min(self.pulse.ping_at(limits));
        due.into_iter().flatten().fold(pulse, Duration::min)
    }

    fn administrative(&mut self, chunk: pb::Administrative, known: &mut Known) -> Result<(), LinkEnd> {
        let Some(whole) = self.assembly.take(chunk)? else { return Ok(()) };
        match greeting::learn(whole, &mut self.assembly.early, known) {
            Ok(jobs) => self.first.extend(jobs),
            Err(doubt) => known.alarm(doubt.key, doubt.sentence),
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: &pb::Welcome, known: &mut Known, now: Now) -> Result<(), LinkEnd> {
        let (own, facts) = greeting::check_welcome(&self.connection, welcome, known, now)?;
        self.phase = Phase::Open(own);
        self.opened = Some(now.mono);
        self.watching.opened(now);
        self.submissions.grant(Credit { envelopes: welcome.credit_envelopes, bytes: welcome.credit_bytes });
        known.grant(self.inbound.granted());
        self.first.push_back(StoreJob::Resume(facts));
        Ok(())
    }

    fn resume(&mut self, unanswered: Resend, known: &mut Known) {
        for frame in unanswered.stored {
            self.send_stored(frame, known);
        }
        self.submissions.add(unanswered.submits);
        self.resumed = true;
        self.wake(true, true);
    }

    fn confirm(&mut self, known: &mut Known) {
        if let Some(through) = self.inbound.confirm() {
            known.send(Kind::Confirm(pb::Confirm { position: through.0 }));
        }
    }

    fn send_stored(&mut self, frame: pb::Stored, known: &mut Known) {
        self.stored_in_flight.insert(frame.number);
        known.send(Kind::Stored(frame));
    }

    fn accepted(&mut self, frame: pb::Accepted) -> Result<(), LinkEnd> {
        // Unknown here: answered before, the repetition says nothing new.
        let Some(hash) = self.submitted_hash(frame.submission) else { return Ok(()) };
        verify::accepted(&frame, hash)?;
        self.submissions.remove(frame.submission);
        self.accepted.push(frame);
        Ok(())
    }

    fn refused(
        &mut self,
        mut frame: pb::Refused,
        own: PartyNumber,
        known: &mut Known,
    ) -> Result<(), LinkEnd> {
        if frame.submission == 0 {
            // The relay could not read a number: the header's hash says which envelope it means.
            match self.submissions.number_of(&frame.envelope_hash) {
                Some(number) => frame.submission = number,
                None => {
                    let sentence = "the relay refused something that this desk did not send; mail goes on; save this desk's \
                         folder, and tell the ministry";
                    known.alarm("relay-refusal", sentence.to_owned());
                    return Ok(());
                }
            }
        }
        let Some(hash) = self.submitted_hash(frame.submission) else { return Ok(()) };
        known.judge(own).refused(&frame, hash)?;
        self.submissions.remove(frame.submission);
        self.refused.push(frame);
        Ok(())
    }

    fn deliver(
        &mut self,
        frame: pb::Deliver,
        own: PartyNumber,
        known: &mut Known,
        now: Now,
    ) -> Result<(), LinkEnd> {
        self.inbound.receive(&frame).map_err(|overdrawn| LinkEnd::Protocol(overdrawn.to_string()))?;
        let (position, bytes) = (frame.position, inbound::deliver_bytes(&frame));
        match known.judge(own).delivery(frame) {
            Ok(delivery) => self.inbound.deliver(delivery, now.mono),
            Err(problem) => {
                known.alarm("relay-delivery", verify::no_envelope(position, &problem));
                self.inbound.finish(bytes).into_iter().for_each(|credit| known.grant(credit));
            }
        }
        Ok(())
    }

    fn receipt(&mut self, frame: pb::Receipt, own: PartyNumber, known: &mut Known) -> Result<(), LinkEnd> {
        let position = frame.position;
        match known.judge(own).receipt(frame) {
            Ok(receipt) => {
                if !self.inbound.receipt(receipt) {
                    return Err(LinkEnd::Protocol("more receipts than may be unconfirmed".into()));
                }
            }
            Err(problem) => known.alarm("relay-receipt", verify::no_receipt(position, &problem)),
        }
        Ok(())
    }

    /// The name of a submission that waits for its answer.
    fn submitted_hash(&self, number: u64) -> Option<EnvelopeHash> {
        let submit = self.submissions.find(number)?;
        Some(EnvelopeHash(batch::item_leaf(Tag::Envelope, &submit.header)))
    }

    fn accepted_job(&mut self, _now: Duration) -> Option<StoreJob> {
        let accepted = mem::take(&mut self.accepted);
        (!accepted.is_empty()).then_some(StoreJob::Accepted(accepted))
    }

    fn refused_job(&mut self, _now: Duration) -> Option<StoreJob> {
        let refused = mem::take(&mut self.refused);
        // Their dispatches may wait to be sealed again.
        self.seal |= !refused.is_empty();
        (!refused.is_empty()).then_some(StoreJob::Refused(refused))
    }

    fn stored_at_job(&mut self, _now: Duration) -> Option<StoreJob> {
        let stored_at = mem::take(&mut self.stored_at);
        (!stored_at.is_empty()).then_some(StoreJob::StoredAt(stored_at))
    }

    fn make_stored_job(&mut self, _now: Duration) -> Option<StoreJob> {
        let due = self.make_stored && self.stored_in_flight.len() < STORED_IN_FLIGHT_MAX;
        due.then(|| {
            self.make_stored = false;
            StoreJob::MakeStored
        })
    }

    fn seal_job(&mut self, _now: Duration) -> Option<StoreJob> {
        if !self.seal {
            return None;
        }
        let room = self.submissions.room()?;
        self.seal = false;
        Some(StoreJob::Seal(room))
    }
}
