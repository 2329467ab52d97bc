//! The link as a state machine: connect, greet, exchange, come back. No I/O, no clock, no randomness.
//!
//! After every [`Machine::handle`] and [`Machine::handle_timeout`], take [`Machine::poll_output`] until
//! there is none, then wait until [`Machine::poll_timeout`] or the next input.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    batch,
    desk::{
        link::{
            backoff::Backoff,
            end::{LinkEnd, RelayGoodbye},
            greeting::Connection,
            jobs::{StoreAnswer, StoreJob},
            known::Known,
            requests::{Request, RequestEnd},
            session::Session,
            watch::Doubt,
        },
        status::LinkState,
    },
    identity::SpiffeId,
    keys::SigningKey,
    limits::{self, Limits},
    roster::{Roster, SignKeys, TrustBundle},
    wire::{convert, pb, pb::frame::Kind},
};

/// The time of an input, passed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since the link started; never goes back.
    pub mono: Duration,
    /// Microseconds since 1970 by this machine's clock.
    pub wall_us: u64,
}

/// What a link is made from.
#[derive(Debug)]
pub struct Setup {
    /// This desk's id, from its own certificate.
    pub id: SpiffeId,
    /// What the first roster is verified by.
    pub trust: TrustBundle,
    /// Signs Hello.
    pub sign: Arc<SigningKey>,
    /// Cosigns checkpoints of the audit log.
    pub witness: Arc<SigningKey>,
    /// Random at each start of the daemon.
    pub instance: [u8; 16],
    /// Bounds and times.
    pub limits: Limits,
    /// Where the relay may be, as "host:port", at least one; those of the newest roster come after them.
    pub relays: Vec<String>,
    /// The newest roster that the store holds at start.
    pub roster: Option<Arc<Roster>>,
}

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// The TLS handshake is done.
    Opened {
        /// Exporter of the connection, label `EXPORTER-Channel-Binding`.
        exporter: [u8; 32],
        /// Who the relay's certificate says that it is.
        relay: SpiffeId,
        /// Serial of that certificate, in lower hex.
        serial: String,
    },
    /// Bytes came, whole frame or not.
    Heard,
    /// A frame came.
    Frame(Kind),
    /// Bytes left the line, and so many of what was sent wait still. Until it comes, all that was sent waits.
    Unsent(usize),
    /// There is no connection: it could not be made, it broke, or [`Output::Close`] was carried out.
    Lost {
        /// In plain words, with what to do.
        reason: String,
        /// 64 random bits, for the wait until the next attempt.
        jitter: u64,
    },
    /// The store's answer to the one [`Output::Ask`] under way.
    Answer(StoreAnswer),
    /// Something waits in the store.
    Wake {
        /// Dispatches to be sealed.
        dispatches: bool,
        /// Receipts to be signed.
        receipts: bool,
    },
    /// The hub asks the relay for something; answered by one [`Output::Answered`], before the next.
    Request(Request),
    /// The daemon stops.
    Stop,
}

/// What to carry out, in order.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most outputs are frames, and each is moved once")]
pub enum Output {
    /// Connect to this relay address; answered by [`Input::Opened`] or [`Input::Lost`].
    Connect(String),
    /// Send a frame.
    Send(Kind),
    /// Send what was said so far, then end the connection; answered by [`Input::Lost`].
    Close,
    /// Ask the store; never a second time before [`Input::Answer`].
    Ask(StoreJob),
    /// How the link stands from now on, and why it is not in contact.
    Status(LinkState, Option<String>),
    /// What became of the one [`Input::Request`] under way.
    Answered(RequestEnd),
}

/// A session that stayed open this long lets the next attempt come soon.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// Batches remembered: senders that have several of one batch on their way at once.
const BATCHES_REMEMBERED: usize = 32;

/// The link of one desk to its relay.
pub struct Machine {
    known: Known,
    backoff: Backoff,
    phase: Phase,
    /// Which address to try next, of those that there are then.
    address: usize,
    /// The session whose job is at the store, or [`NO_SESSION`].
    busy: Option<u64>,
    /// Counts sessions, from 1.
    session: u64,
    stopping: bool,
}

enum Phase {
    /// Until the next attempt.
    Waiting(Duration),
    /// Connect is under way.
    Connecting,
    /// TLS is up.
    Up(Box<Session>),
    /// Close is under way; its reason was said.
    Closing,
    /// Nothing more will happen.
    Stopped,
}

impl Machine {
    /// A link that connects at the first [`Machine::handle_timeout`].
    ///
    /// # Panics
    /// Without a relay address in `setup`.
    pub fn new(mut setup: Setup) -> Machine {
        assert!(!setup.relays.is_empty(), "the configuration names at least one relay");
        let verifier = batch::Verifier::new(BATCHES_REMEMBERED);
        Machine {
            known: Known {
                roster: setup.roster.take(),
                setup,
                keys: Arc::new(SignKeys::default()),
                verifier,
                is_new_incarnation: false,
                published: None,
                jobs: VecDeque::new(),
                alarms: BTreeMap::new(),
                doubts: VecDeque::new(),
                outputs: VecDeque::new(),
            },
            backoff: Backoff::default(),
            phase: Phase::Waiting(Duration::ZERO),
            address: 0,
            busy: None,
            session: 0,
            stopping: false,
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Opened { exporter, relay, serial } => {
                if !self.stopping {
                    self.session += 1;
                    let connection = Connection { exporter, relay, serial };
                    self.phase = Phase::Up(Box::new(Session::new(connection, &self.known, now)));
                }
            }
            Input::Heard => self.with_session(now, |session, _| {
                session.heard(now);
                Ok(())
            }),
            Input::Unsent(bytes) => self.with_session(now, |session, _| {
                session.submissions.unsent(bytes, now.mono);
                Ok(())
            }),
            Input::Frame(frame) => self.with_session(now, |session, known| session.frame(frame, known, now)),
            Input::Lost { reason, jitter } => self.lost(reason, jitter, now),
            Input::Answer(answer) => self.answer(answer, now),
            Input::Wake { dispatches, receipts } => self.with_session(now, |session, _| {
                session.wake(dispatches, receipts);
                Ok(())
            }),
            Input::Request(request) => self.request(request),
            Input::Stop => self.stop(now),
        }
        self.proceed(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        if let Phase::Waiting(until) = self.phase
            && now.mono >= until
        {
            self.phase = Phase::Connecting;
            let address = self.next_address();
            self.known.outputs.push_back(Output::Connect(address));
        }
        self.with_session(now, |session, known| session.tick(known, now));
        self.proceed(now);
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.known.outputs.pop_front()
    }

    /// When to call [`Machine::handle_timeout`] if no input comes before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Waiting(until) => Some(*until),
            Phase::Up(session) => Some(session.timeout(&self.known, self.busy.is_none())),
            Phase::Connecting | Phase::Closing | Phase::Stopped => None,
        }
    }

    /// The longest frame that the relay may send now, in bytes.
    pub fn frame_bytes_max(&self) -> usize {
        match &self.phase {
            Phase::Up(session) if session.opened().is_some() => limits::FRAME_BYTES_MAX,
            _ => limits::FRAME_BEFORE_WELCOME_BYTES_MAX,
        }
    }

    /// Whether [`Input::Stop`] came.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether the daemon may go: no connection, and the store is idle.
    pub fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped) && self.busy.is_none()
    }
}

impl Machine {
    fn with_session(&mut self, now: Now, act: impl FnOnce(&mut Session, &mut Known) -> Result<(), LinkEnd>) {
        let Phase::Up(session) = &mut self.phase else { return };
        let was_open = session.opened().is_some();
        let outcome = act(session, &mut self.known);
        let is_open = session.opened().is_some();
        if is_open && !was_open {
            self.known.outputs.push_back(Output::Status(LinkState::InContact, None));
        }
        if let Err(end) = outcome {
            self.close(end, now);
        }
    }

    fn request(&mut self, request: Request) {
        let asked = match &mut self.phase {
            Phase::Up(session) => session.request(request, &mut self.known),
            Phase::Waiting(_) | Phase::Connecting | Phase::Closing | Phase::Stopped => false,
        };
        if !asked {
            self.known.outputs.push_back(Output::Answered(RequestEnd::NoContact));
        }
    }

    fn close(&mut self, end: LinkEnd, now: Now) {
        self.end_session(now);
        if let LinkEnd::Goodbye(RelayGoodbye::IncarnationOld(current)) = end {
            self.known.jobs.push_back(StoreJob::TakeIncarnation(current.saturating_add(1)));
            self.known.is_new_incarnation = true;
        }
        if end == LinkEnd::Restored {
            self.known.is_new_incarnation = true;
        }
        if let Some(code) = end.goodbye_code() {
            let sentence = convert::sentence(&end.to_string());
            let goodbye = pb::Goodbye { code, sentence, incarnation: 0 };
            self.known.outputs.push_back(Output::Send(Kind::Goodbye(goodbye)));
        }
        self.known.outputs.push_back(Output::Close);
        self.known.outputs.push_back(Output::Status(LinkState::Offline, Some(end.to_string())));
        self.phase = Phase::Closing;
    }

    /// Ends a session: what it asked for stays unanswered, and how it went decides where and how soon to try
    /// next.
    fn end_session(&mut self, now: Now) {
        let Phase::Up(session) = &mut self.phase else { return };
        if session.request_ends() {
            self.known.outputs.push_back(Output::Answered(RequestEnd::Unanswered));
        }
        match session.opened() {
            Some(opened) if now.mono >= opened + GOOD_SESSION => self.backoff.reset(),
            Some(_) => {}
            None => self.try_next_address(),
        }
    }

    fn try_next_address(&mut self) {
        self.address += 1;
    }

    /// The configured addresses first, then those that the newest roster adds (a relay that moved), then all anew.
    fn next_address(&mut self) -> String {
        let configured = &self.known.setup.relays;
        let listed = self.known.roster.iter().flat_map(|roster| &roster.content().relay_addresses);
        let added = listed.filter(|address| !configured.contains(address));
        let all: Vec<&String> = configured.iter().chain(added).collect();
        self.address %= all.len();
        all[self.address].clone()
    }

    fn lost(&mut self, reason: String, jitter: u64, now: Now) {
        match &self.phase {
            Phase::Connecting => self.try_next_address(),
            Phase::Up(_) => self.end_session(now),
            Phase::Closing => {}
            Phase::Waiting(_) | Phase::Stopped => return,
        }
        if !matches!(self.phase, Phase::Closing) {
            self.known.outputs.push_back(Output::Status(LinkState::Offline, Some(reason)));
        }
        let wait = self.backoff.wait(jitter);
        self.phase = if self.stopping { Phase::Stopped } else { Phase::Waiting(now.mono + wait) };
    }

    fn answer(&mut self, answer: StoreAnswer, now: Now) {
        let asked_by = self.busy.take().expect("the shell answers only what was asked");
        // A session that is gone needs no answer: the store gives the next one all of it again.
        if asked_by == self.session {
            self.with_session(now, |session, known| session.answer(answer, known, now));
        }
    }

    fn stop(&mut self, now: Now) {
        self.stopping = true;
        match &self.phase {
            Phase::Up(_) => self.close(LinkEnd::Stopping, now),
            Phase::Connecting => {
                self.known.outputs.push_back(Output::Close);
                self.phase = Phase::Closing;
            }
            Phase::Waiting(_) => self.phase = Phase::Stopped,
            Phase::Closing | Phase::Stopped => {}
        }
    }

    /// Sends what credit lets out, and gives the idle store its next job.
    fn proceed(&mut self, now: Now) {
        if let Phase::Up(session) = &mut self.phase {
            let submits = std::iter::from_fn(|| session.submissions.next(now.mono));
            self.known.outputs.extend(submits.map(Output::Send));
        }
        if self.busy.is_some() {
            return;
        }
        let alarm = || {
            let (key, (sentence, once)) = self.known.alarms.pop_first()?;
            Some(StoreJob::Alarm { key, sentence, once })
        };
        let doubt = self.known.doubts.pop_front().map(|Doubt { key, sentence, shown }| StoreJob::Doubt {
            key: key.to_owned(),
            sentence,
            shown,
        });
        // Before all that may be cosigned.
        let lasting = doubt.or_else(|| self.known.jobs.pop_front()).or_else(alarm);
        let job = match (lasting, &mut self.phase) {
            (Some(job), _) => Some((job, NO_SESSION)),
            (None, Phase::Up(session)) => session.next_job(now).map(|job| (job, self.session)),
            (None, _) => None,
        };
        if let Some((job, asked_by)) = job {
            self.busy = Some(asked_by);
            self.known.outputs.push_back(Output::Ask(job));
        }
    }
}

/// Stands for a lasting job's session; sessions count from 1.
const NO_SESSION: u64 = 0;
