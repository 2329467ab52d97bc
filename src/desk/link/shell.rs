//! Carries out what the link's machine says: sockets, TLS, clock, randomness, the store's thread.
//!
//! One task, no locks. Bytes half read live in the line's decoder and bytes half written in its buffer,
//! both outside the futures that `select!` drops.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{
    alarms::{AlarmKind, Alarms},
    desk::{
        link::{
            jobs::{self, StoreAnswer, StoreJob},
            line::{Line, LineError, LineEvent, Opened, until},
            machine::{Input, Machine, Now, Output, Setup},
            requests::{Asked, RequestEnd},
        },
        status::{LinkState, LinkStatus},
        store::{Store, StoreError, StoreThread},
    },
    keys::SigningKey,
};

/// What the link runs with, beside the machine's own setup.
pub struct Edges {
    /// HTTP proxy that connects to the relay, as "host:port".
    pub proxy: Option<String>,
    /// This desk's TLS, from [`crate::tls::client_config`]; a reload swaps it for the next connection.
    pub tls: Arc<ArcSwap<ClientConfig>>,
    /// The name that the relay's certificate must have.
    pub relay_name: ServerName<'static>,
    /// The store.
    pub store: StoreThread,
    /// Where the API reads how the link stands.
    pub status: watch::Sender<LinkStatus>,
    /// What the hub asks of the relay, one after the other.
    pub requests: mpsc::Receiver<Asked>,
    /// Where what a person must mend stands.
    pub alarms: Alarms,
}

/// A Goodbye may take this long to leave.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

/// The store is looked at this often without any change: what an order held back may go by then.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Reason for an end that the machine asked for, and whose own reason it has said.
const CLOSED: &str = "the connection was closed";

type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// The link of one desk, running.
struct Shell {
    machine: Machine,
    edges: Edges,
    sign: Arc<SigningKey>,
    random: SystemRandom,
    started: Instant,
    connecting: Pending<Result<Opened, LineError>>,
    asking: Pending<Result<StoreAnswer, StoreError>>,
    /// Rises with every change of the store: the API may have queued something.
    changes: watch::Receiver<u64>,
    looking: Pending<Result<Input, StoreError>>,
    line: Option<Line>,
    /// Who waits for the request under way.
    asked: Option<oneshot::Sender<RequestEnd>>,
    /// When the store is looked at again: orders end by the clock.
    look_at: Instant,
    /// When a line that is being closed is dropped at the latest.
    close_by: Option<Instant>,
}

/// Runs the link until `stop` says true and the relay was told, or until the store fails.
///
/// # Errors
/// [`StoreError`]: the daemon must stop. Whatever the network does is no error.
pub async fn run(setup: Setup, edges: Edges, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
    let sign = setup.sign.clone();
    let mut changes = edges.store.changes();
    changes.mark_changed();
    let mut shell = Shell {
        machine: Machine::new(setup),
        edges,
        sign,
        random: SystemRandom::new(),
        started: Instant::now(),
        connecting: None,
        asking: None,
        changes,
        looking: None,
        line: None,
        asked: None,
        look_at: Instant::now() + LOOK_EVERY,
        close_by: None,
    };
    loop {
        shell.carry_out();
        if shell.machine.is_stopped() {
            return Ok(());
        }
        let event = shell.event(&mut stop).await;
        shell.take(event)?;
    }
}

enum Event {
    Connected(Result<Opened, LineError>),
    Line(Result<LineEvent, LineError>),
    Answer(Result<StoreAnswer, StoreError>),
    Changed(bool),
    Waits(Result<Input, StoreError>),
    Asked(Asked),
    Stop,
    Due,
}

impl Shell {
    async fn event(&mut self, stop: &mut watch::Receiver<bool>) -> Event {
        let due = self.machine.poll_timeout().map(|mono| self.started + mono);
        let due = [due, self.close_by].into_iter().flatten().min();
        tokio::select! {
            answer = settled(&mut self.asking) => Event::Answer(answer),
            opened = settled(&mut self.connecting) => Event::Connected(opened),
            event = line_event(&mut self.line) => Event::Line(event),
            waits = settled(&mut self.looking) => Event::Waits(waits),
            changed = self.changes.changed(), if self.looking.is_none() => Event::Changed(changed.is_ok()),
            Some(asked) = self.edges.requests.recv(), if self.asked.is_none() => Event::Asked(asked),
            () = sleep_until(self.look_at), if self.looking.is_none() => Event::Changed(true),
            () = stopped(stop), if !self.machine.is_stopping() => Event::Stop,
            () = until(due) => Event::Due,
        }
    }

    fn take(&mut self, event: Event) -> Result<(), StoreError> {
        match event {
            Event::Answer(answer) => {
                self.asking = None;
                self.input(Input::Answer(answer?));
            }
            Event::Connected(Ok(Opened { line, exporter, relay, serial, is_classical })) => {
                self.connecting = None;
                self.note_key_exchange(is_classical);
                self.line = Some(line);
                self.input(Input::Opened { exporter, relay, serial });
            }
            Event::Connected(Err(error)) | Event::Line(Err(error)) => self.lost(error.to_string()),
            Event::Line(Ok(LineEvent::Read)) => self.read(),
            Event::Line(Ok(LineEvent::Wrote)) => self.wrote(),
            Event::Changed(true) => self.look(),
            Event::Changed(false) => return Err(StoreError::Stopped),
            Event::Waits(wake) => {
                self.looking = None;
                self.input(wake?);
            }
            Event::Asked((request, answer)) => {
                self.asked = Some(answer);
                self.input(Input::Request(request));
            }
            Event::Stop => self.input(Input::Stop),
            Event::Due => self.due(),
        }
        Ok(())
    }

    fn read(&mut self) {
        self.heard();
        self.input(Input::Heard);
        loop {
            let bytes_max = self.machine.frame_bytes_max();
            let Some(line) = self.line.as_mut().filter(|line| !line.is_closing()) else { return };
            match line.next_frame(bytes_max) {
                Ok(Some(frame)) => self.input(Input::Frame(frame)),
                Ok(None) => return,
                Err(error) => return self.lost(error.to_string()),
            }
        }
    }

    fn wrote(&mut self) {
        let Some(line) = &self.line else { return };
        self.input(Input::Unsent(line.unsent()));
        self.close_if_flushed();
    }

    fn due(&mut self) {
        if self.close_by.is_some_and(|by| Instant::now() >= by) {
            self.lost(CLOSED.to_owned());
        }
        let now = self.now();
        self.machine.handle_timeout(now);
    }

    /// Hands an input in, and carries out all that follows from it before the next.
    fn input(&mut self, input: Input) {
        let now = self.now();
        self.machine.handle(input, now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect(address) => self.connect(address),
                Output::Send(frame) => {
                    if let Some(line) = &mut self.line {
                        line.send(frame);
                    }
                }
                Output::Close => self.close(),
                Output::Ask(job) => self.ask(job),
                Output::Status(state, reason) => self.status(state, reason),
                Output::Answered(end) => self.answered(end),
            }
        }
    }

    fn answered(&mut self, end: RequestEnd) {
        let told = self.asked.take().map(|answer| answer.send(end));
        if told.is_some_and(|told| told.is_err()) {
            tracing::debug!("who asked the relay for something waits no more");
        }
    }

    fn connect(&mut self, address: String) {
        self.edges.status.send_modify(|status| status.relay.clone_from(&address));
        let Edges { proxy, tls, relay_name, .. } = &self.edges;
        let opening = Line::open(address, proxy.clone(), tls.load_full(), relay_name.clone());
        self.connecting = Some(Box::pin(opening));
    }

    fn close(&mut self) {
        match &mut self.line {
            Some(line) => {
                line.close();
                self.close_by = Some(Instant::now() + GOODBYE_TIME_MAX);
                self.close_if_flushed();
            }
            None => self.lost(CLOSED.to_owned()),
        }
    }

    fn close_if_flushed(&mut self) {
        if self.line.as_ref().is_some_and(|line| line.is_closing() && line.unsent() == 0) {
            self.lost(CLOSED.to_owned());
        }
    }

    fn lost(&mut self, reason: String) {
        self.line = None;
        self.connecting = None;
        self.close_by = None;
        let mut jitter = [0; 8];
        // Without randomness all desks wait the whole time: worse for the relay, but no reason to stop.
        let jitter = match self.random.fill(&mut jitter) {
            Ok(()) => u64::from_ne_bytes(jitter),
            Err(ring::error::Unspecified) => u64::MAX,
        };
        self.input(Input::Lost { reason, jitter });
    }

    fn ask(&mut self, job: StoreJob) {
        let (store, sign) = (self.edges.store.clone(), self.sign.clone());
        self.asking = Some(Box::pin(async move {
            store.call(move |store| jobs::run(job, store, &sign, Timestamp::now())).await
        }));
    }

    /// Asks what the last change of the store left to do: its own changes tell the link nothing new, but
    /// the API's do.
    fn look(&mut self) {
        self.look_at = Instant::now() + LOOK_EVERY;
        let store = self.edges.store.clone();
        self.looking = Some(Box::pin(async move {
            let waits = |store: &mut Store| {
                Ok(Input::Wake {
                    dispatches: store.waiting(Timestamp::now())?,
                    receipts: store.receipts_waiting()?,
                })
            };
            store.call(waits).await
        }));
    }

    fn status(&mut self, state: LinkState, reason: Option<String>) {
        match &reason {
            None => tracing::info!(state = state.name(), "link"),
            Some(reason) => tracing::warn!(state = state.name(), reason, "link"),
        }
        self.edges.status.send_modify(|status| {
            if status.state != state {
                status.since = Timestamp::now();
            }
            status.state = state;
            status.reason = reason;
        });
    }

    fn note_key_exchange(&self, is_classical: bool) {
        let sentence = is_classical.then(|| {
            "the connection to the relay came about by plain X25519, so what is recorded today may be read when \
             quantum computers come: ask the relay's operator to bring back post-quantum key exchange"
                .to_owned()
        });
        self.edges.alarms.set(AlarmKind::X25519Used, sentence);
    }

    fn heard(&mut self) {
        // Readers poll it: it is no news worth waking anybody up.
        self.edges.status.send_if_modified(|status| {
            status.last_contact = Some(Timestamp::now());
            false
        });
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.started.elapsed(), wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX) }
    }
}

async fn settled<T>(pending: &mut Pending<T>) -> T {
    match pending {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn line_event(line: &mut Option<Line>) -> Result<LineEvent, LineError> {
    match line {
        Some(line) => line.event().await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone will never say more: the daemon is going down.
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("nobody is left to say stop");
    }
}
