//! The link input by input: what goes in, and exactly what comes out.

mod coverage;
mod proving;
mod requests;
mod session;
mod verify;
mod watch;
mod world;

use std::{sync::Arc, time::Duration};

use crate::{
    desk::link::{
        jobs::{StoreAnswer, StoreJob},
        machine::{Input, Machine, Now, Output, Setup},
    },
    desk::{
        status::LinkState,
        store::{Facts, Owed, Resend, Verified},
    },
    limits::Limits,
    roster::{Roster, SignKeys},
    session::hello::{Binding, End},
    wire::{Position, convert, pb, pb::frame::Kind},
};
use world::{DOMAIN, IDN, RELAY, World};

const RELAYS: [&str; 2] = ["relay.example:7443", "192.0.2.10:443"];
const DESK: &str = "spiffe://bloc.example/mission/idn";
const EXPORTER: [u8; 32] = [4; 32];

/// A machine, its clock, and the world that it lives in.
struct Bench {
    world: World,
    machine: Machine,
    now: Now,
}

impl Bench {
    fn new() -> Bench {
        Bench::for_desk(DESK)
    }

    fn for_desk(id: &str) -> Bench {
        let world = World::new();
        let machine = Machine::new(setup(&world, id));
        Bench { world, machine, now: Now { mono: Duration::ZERO, wall_us: 1_000_000 } }
    }

    /// A link with an open session in which nothing is under way, and all credit of the world.
    fn open() -> Bench {
        let mut bench = Bench::new();
        bench.connect();
        bench.welcome(512, 1 << 20);
        let nothing = Resend { submits: Vec::new(), stored: Vec::new() };
        assert_eq!(bench.answer(StoreAnswer::Resumed(nothing)), [Output::Ask(StoreJob::MakeStored)]);
        let ask = bench.answer(StoreAnswer::Stored(None));
        assert!(matches!(*ask, [Output::Ask(StoreJob::Seal(_))]), "{ask:?}");
        assert_eq!(bench.answer(StoreAnswer::Sealed { submits: Vec::new(), more: false }), []);
        bench
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(input, self.now);
        self.outputs()
    }

    fn frame(&mut self, frame: Kind) -> Vec<Output> {
        self.give(Input::Frame(frame))
    }

    fn answer(&mut self, answer: StoreAnswer) -> Vec<Output> {
        self.give(Input::Answer(answer))
    }

    fn lost(&mut self) -> Vec<Output> {
        self.give(Input::Lost { reason: "cut".into(), jitter: 0 })
    }

    /// Lets time pass, up to the next thing due or as far as `by`.
    fn pass(&mut self, by: Duration) -> Vec<Output> {
        self.now.mono += by;
        self.machine.handle_timeout(self.now);
        self.outputs()
    }

    /// Lets time pass until the next attempt, and says where that goes.
    fn attempt(&mut self) -> String {
        let due = self.machine.poll_timeout().expect("an attempt is due");
        match &*self.pass(due.saturating_sub(self.now.mono)) {
            [Output::Connect(address)] => address.clone(),
            other => panic!("no attempt alone: {other:?}"),
        }
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.machine.poll_output()).collect()
    }

    /// From nothing to Hello, with the roster in the store.
    fn connect(&mut self) {
        let roster = self.world.roster.clone();
        self.connect_with(Some(roster));
    }

    fn connect_with(&mut self, roster: Option<Arc<Roster>>) -> pb::Hello {
        let connect = self.pass(Duration::ZERO);
        assert!(matches!(*connect, [Output::Connect(_)]), "{connect:?}");
        assert_eq!(self.give(opened()), [Output::Ask(StoreJob::Facts)]);
        let outputs = self.answer(StoreAnswer::Facts(facts(roster)));
        let [Output::Send(Kind::Hello(hello))] = &*outputs else { panic!("not a Hello: {outputs:?}") };
        hello.clone()
    }

    fn welcome(&mut self, envelopes: u64, bytes: u64) {
        let welcome = self.signed_welcome(EXPORTER, RELAY, envelopes, bytes);
        let outputs = self.frame(Kind::Welcome(welcome));
        let credit = pb::Credit { envelopes: 512, bytes: 1 << 20 };
        assert!(
            matches!(
                &*outputs,
                [
                    Output::Send(Kind::Credit(given)),
                    Output::Status(LinkState::InContact, None),
                    Output::Ask(StoreJob::Resume(_)),
                ] if *given == credit
            ),
            "{outputs:?}"
        );
    }

    fn signed_welcome(
        &self,
        exporter: [u8; 32],
        signer: crate::roster::PartyNumber,
        envelopes: u64,
        bytes: u64,
    ) -> pb::Welcome {
        let binding = Binding {
            exporter,
            end: End::Relay,
            incarnation: 1,
            instance: [3; 16],
            checkpoint: bytes::Bytes::new(),
        };
        let proof =
            self.world.key(signer).sign_batch(DOMAIN, crate::batch::Tag::Hello, &[binding.leaf()]).remove(0);
        pb::Welcome {
            protocol: 1,
            software: "relay".into(),
            role: 2,
            incarnation: 1,
            instance: bytes::Bytes::from_static(&[3; 16]),
            checkpoint: bytes::Bytes::new(),
            proof: Some(convert::proof_frame(&proof)),
            time_us: self.now.wall_us,
            roster_version: self.world.roster.version(),
            roster_hash: bytes::Bytes::copy_from_slice(self.world.roster.hash().as_bytes()),
            incarnation_known: 1,
            last_accepted: 0,
            credit_envelopes: envelopes,
            credit_bytes: bytes,
            last_stored: 0,
        }
    }
}

fn setup(world: &World, id: &str) -> Setup {
    Setup {
        id: id.parse().expect("an id"),
        trust: world.trust.clone(),
        sign: world.key(IDN).clone(),
        witness: world.witness(IDN).clone(),
        instance: [9; 16],
        limits: Limits::DEFAULT,
        relays: RELAYS.map(str::to_owned).to_vec(),
        roster: None,
    }
}

fn opened() -> Input {
    Input::Opened {
        exporter: EXPORTER,
        relay: "spiffe://bloc.example/relay/a".parse().expect("an id"),
        serial: "01".into(),
    }
}

fn facts(roster: Option<Arc<Roster>>) -> Facts {
    let mut keys = SignKeys::default();
    roster.iter().for_each(|roster| keys.push(roster));
    Facts {
        incarnation: 1,
        store_id: [8; 16],
        last_submission: 12,
        last_stored: 3,
        position: 5,
        confirmed: 4,
        verified: Verified::default(),
        owed: Owed::default(),
        roster,
        keys: Arc::new(keys),
    }
}

/// The sentence of the one alarm that goes to the store, and of nothing else.
fn alarmed(outputs: &[Output]) -> &str {
    match outputs {
        [Output::Ask(StoreJob::Alarm { sentence, .. })] => sentence,
        other => panic!("no alarm alone: {other:?}"),
    }
}

/// What ends a session by our own doing: the Goodbye's code, and the reason that a person reads.
fn ended(outputs: &[Output]) -> (u32, String) {
    match outputs {
        [
            ..,
            Output::Send(Kind::Goodbye(goodbye)),
            Output::Close,
            Output::Status(LinkState::Offline, Some(reason)),
        ] => (goodbye.code, reason.clone()),
        other => panic!("the session goes on: {other:?}"),
    }
}
