//! The watch over the audit log, frame by frame: an honest relay gets its cosignature and no alarm, a lying one
//! gets neither mail stopped nor its lie signed.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{world::MYS, *};
use crate::{
    audit::{AddCheckpoint, BundlePath, Checkpoint, LogTrust, TilePath, bundles_between},
    desk::{
        link::watch::{Step, Watch},
        store::{FORKED, Verified},
    },
    merkle::{Hash, Tree, leaf_hash, sha256},
    note::Note,
    record::{
        administrative::{Act, AdministrativeLeaf, ChainHead},
        leaf::{Opening, OpeningKind},
    },
    roster::PartyNumber,
};

fn traffic(index: u64) -> Bytes {
    let hash = sha256(&index.to_be_bytes());
    let opening = Opening { kind: OpeningKind::Envelope, log_time_us: index, roster_version: 1, hash };
    Bytes::copy_from_slice(&opening.leaf(hash.as_bytes()))
}

/// A relay that shows whatever log it is given.
struct Relay<'w> {
    world: &'w World,
    leaves: Vec<Bytes>,
    chain: ChainHead,
}

impl Relay<'_> {
    fn new(world: &World) -> Relay<'_> {
        let mut relay = Relay { world, leaves: Vec::new(), chain: ChainHead::START };
        relay.administer();
        relay
    }

    fn administer(&mut self) {
        self.acts(Act::Stopped);
    }

    fn acts(&mut self, act: Act) {
        let leaf = AdministrativeLeaf { log_time_us: 5, previous: self.chain, act }.encode();
        let position = Position(self.leaves.len() as u64);
        self.chain = ChainHead { position, hash: leaf_hash(&leaf) };
        self.leaves.push(leaf);
    }

    fn grow(&mut self, to: u64) {
        (self.leaves.len() as u64..to).for_each(|index| self.leaves.push(traffic(index)));
    }

    fn tree(&self) -> Tree {
        Tree::new(&self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect::<Vec<Hash>>())
    }

    fn checkpoint(&self) -> Note {
        self.world.checkpoint(self.leaves.len() as u64, self.tree().root())
    }

    fn ask(&self, old_size: u64) -> pb::AddCheckpoint {
        self.ask_for(old_size, &self.checkpoint())
    }

    fn ask_for(&self, old_size: u64, checkpoint: &Note) -> pb::AddCheckpoint {
        let path = self.tree().consistency_path(usize::try_from(old_size).unwrap());
        let request = AddCheckpoint { old_size, path, checkpoint: checkpoint.to_string() };
        pb::AddCheckpoint { request: request.to_string().into() }
    }

    fn fetched(&self, fetch: &pb::Fetch) -> pb::Fetched {
        let path: BundlePath = fetch.name.parse().unwrap();
        let first = usize::try_from(path.index).unwrap() * 256;
        let mut bundle = crate::audit::Bundle::default();
        self.leaves[first..first + usize::from(path.width)].iter().for_each(|leaf| bundle.push(leaf.clone()));
        let chunk = Bytes::from(bundle.to_bytes(path.width));
        let total_bytes = u32::try_from(chunk.len()).unwrap();
        pb::Fetched { request: fetch.request, found: true, total_bytes, offset: 0, chunk }
    }

    /// Answers every fetch and has everything kept, until the watch says no more; gives what else it says.
    fn serve(&self, watch: &mut Watch, mut steps: Vec<Step>) -> Vec<Step> {
        let mut said = Vec::new();
        while !steps.is_empty() {
            let mut next = Vec::new();
            for step in steps {
                match step {
                    Step::Send(Kind::Fetch(fetch)) => {
                        next.extend(
                            watch.fetched(&self.fetched(&fetch), &self.world.roster).expect("in order"),
                        );
                    }
                    Step::Keep(_) => next.extend(watch.kept(true)),
                    other => said.push(other),
                }
            }
            steps = next;
        }
        said
    }

    fn asks(&self, watch: &mut Watch, old_size: u64) -> Vec<Step> {
        let steps = watch.add_checkpoint(&self.ask(old_size), &self.world.roster);
        self.serve(watch, steps)
    }
}

/// The watch has followed a log of 300 leaves and cosigned it.
fn watching(relay: &mut Relay<'_>) -> Watch {
    let mut watch = Watch::new(Verified::default());
    relay.grow(300);
    let said = relay.asks(&mut watch, 0);
    assert_eq!(said, [Step::Cosign(relay.checkpoint().text().to_owned())]);
    watch
}

fn status(step: &Step) -> u32 {
    match step {
        Step::Send(Kind::Witnessed(witnessed)) => witnessed.status,
        other => panic!("no answer: {other:?}"),
    }
}

/// Refused with this status and an alarm that says what to do; nothing was signed.
#[track_caller]
fn refused(said: &[Step], expected: u32) {
    let statuses: Vec<u32> = said.iter().filter(|step| matches!(step, Step::Send(_))).map(status).collect();
    assert_eq!(statuses, [expected]);
    let alarms: Vec<&String> = said
        .iter()
        .filter_map(|step| if let Step::Doubt(doubt) = step { Some(&doubt.sentence) } else { None })
        .collect();
    let [alarm] = &alarms[..] else { panic!("one alarm, not {alarms:?}") };
    for word in ["mail goes on", "save this desk's folder", "telephone"] {
        assert!(alarm.contains(word), "{alarm}");
    }
    assert!(!said.iter().any(|step| matches!(step, Step::Cosign(_))));
}

#[test]
fn a_log_that_grows_is_followed_leaf_by_leaf_and_cosigned_once_it_is_kept() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    relay.administer();
    relay.grow(600);
    let steps = watch.add_checkpoint(&relay.ask(300), &world.roster);
    // Only what is new, and first of all the bundle that grew.
    let fetch = pb::Fetch { request: 3, name: "tile/entries/001".into() };
    assert_eq!(steps, [Step::Send(Kind::Fetch(fetch.clone()))]);
    let steps = watch.fetched(&relay.fetched(&fetch), &world.roster).unwrap();
    let fetch = pb::Fetch { request: 4, name: "tile/entries/002.p/88".into() };
    assert_eq!(steps, [Step::Send(Kind::Fetch(fetch.clone()))]);
    let steps = watch.fetched(&relay.fetched(&fetch), &world.roster).unwrap();
    let [Step::Keep(progress)] = &steps[..] else { panic!("kept before it is cosigned: {steps:?}") };
    let hashes: Vec<Hash> = relay.leaves[300..].iter().map(|leaf| leaf_hash(leaf)).collect();
    assert_eq!(progress.leaves, hashes, "what proofs are cut from");
    let verified = progress.verified.as_ref().unwrap();
    assert_eq!((verified.follower.size(), verified.follower.root()), (600, relay.tree().root()));
    assert_eq!(verified.note, relay.checkpoint().to_bytes());
    assert_eq!(watch.kept(true), [Step::Cosign(relay.checkpoint().text().to_owned())]);
    // After a restart it goes on from what was kept.
    let mut watch = Watch::new(Verified::clone(verified));
    relay.grow(601);
    assert_eq!(relay.asks(&mut watch, 600), [Step::Cosign(relay.checkpoint().text().to_owned())]);
    // The same once more is cosigned once more, with the time of now.
    assert_eq!(relay.asks(&mut watch, 601), [Step::Cosign(relay.checkpoint().text().to_owned())]);
}

#[test]
fn what_the_store_forbids_is_followed_and_not_cosigned() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    relay.grow(310);
    let mut next = VecDeque::from(watch.add_checkpoint(&relay.ask(300), &world.roster));
    while let Some(Step::Send(Kind::Fetch(fetch))) = next.front() {
        next = watch.fetched(&relay.fetched(fetch), &world.roster).unwrap().into();
    }
    assert!(matches!(next.make_contiguous(), [Step::Keep(_)]), "{next:?}");
    let said = watch.kept(false);
    assert_eq!(said.iter().map(status).collect::<Vec<_>>(), [422]);
}

#[test]
fn a_wrong_old_size_is_answered_with_the_right_one() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    relay.grow(310);
    let said = relay.asks(&mut watch, 0);
    let expected = pb::Witnessed { status: 409, body: Bytes::from_static(b"300\n") };
    assert_eq!(said, [Step::Send(Kind::Witnessed(expected))]);
}

#[test]
fn what_cannot_be_read_is_answered_and_changes_nothing() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    for request in [&b""[..], b"old 300\n", &[0xff; 40]] {
        let frame = pb::AddCheckpoint { request: Bytes::copy_from_slice(request) };
        let said = watch.add_checkpoint(&frame, &world.roster);
        assert_eq!(said.iter().map(status).collect::<Vec<_>>(), [400]);
    }
}

#[test]
fn a_lying_relay_is_refused_with_an_alarm() {
    let world = World::new();
    type Lie = fn(&mut Relay<'_>);
    let lies: [(&str, u32, Lie); 6] = [
        ("an old leaf is edited", 422, |relay| relay.leaves[7] = traffic(1_000)),
        ("two old leaves are swapped", 422, |relay| relay.leaves.swap(7, 8)),
        ("an old leaf is left out", 422, |relay| drop(relay.leaves.remove(7))),
        ("an old leaf is doubled", 422, |relay| relay.leaves.insert(7, traffic(7))),
        ("the tail is cut and grows anew", 422, |relay| {
            relay.leaves.truncate(290);
            (0..20).for_each(|index| relay.leaves.push(traffic(2_000 + index)));
        }),
        ("another log from the start", 422, |relay| {
            relay.leaves.clear();
            (0..310).for_each(|index| relay.leaves.push(traffic(3_000 + index)));
        }),
    ];
    for (name, expected, lie) in lies {
        let mut relay = Relay::new(&world);
        let mut watch = watching(&mut relay);
        relay.grow(310);
        lie(&mut relay);
        println!("{name}");
        refused(&relay.asks(&mut watch, 300), expected);
        // And it stays with what it has verified.
        let mut honest = Relay::new(&world);
        honest.grow(305);
        assert_eq!(honest.asks(&mut watch, 300), [Step::Cosign(honest.checkpoint().text().to_owned())]);
    }
}

#[test]
fn leaves_that_do_not_make_the_root_are_an_alarm_and_never_cosigned() {
    let world = World::new();
    let shown: [fn(&mut Relay<'_>); 4] = [
        |relay| relay.leaves[305] = traffic(9_000),
        |relay| relay.leaves.swap(305, 306),
        |relay| relay.leaves[305] = Bytes::from_static(b"no leaf of ours"),
        |relay| relay.leaves[305] = Bytes::new(),
    ];
    for lie in shown {
        let mut relay = Relay::new(&world);
        let mut watch = watching(&mut relay);
        relay.grow(310);
        let ask = relay.ask(300);
        lie(&mut relay);
        let steps = watch.add_checkpoint(&ask, &world.roster);
        refused(&relay.serve(&mut watch, steps), 422);
    }
}

#[test]
fn an_administrative_leaf_that_is_withheld_is_an_alarm() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    relay.administer();
    relay.leaves.pop();
    relay.administer();
    refused(&relay.asks(&mut watch, 300), 422);
}

#[test]
fn a_leaf_that_stands_twice_is_an_alarm() {
    let world = World::new();
    let twice: [fn(&mut Relay<'_>); 2] = [
        |relay| relay.leaves[305] = traffic(304),
        // Of those that were followed before.
        |relay| relay.leaves[305] = traffic(290),
    ];
    for lie in twice {
        let mut relay = Relay::new(&world);
        let mut watch = watching(&mut relay);
        relay.grow(310);
        lie(&mut relay);
        refused(&relay.asks(&mut watch, 300), 422);
    }
}

#[test]
fn a_roster_in_the_log_that_the_relay_did_not_send_is_an_alarm() {
    let world = World::new();
    let (version, hash, length) = (world.roster.version(), world.roster.hash(), 9);
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    relay.acts(Act::Roster { version, hash, length });
    // The one that the desk goes by: its leaf is a part of every proof file.
    let (position, leaf) = (Position(relay.leaves.len() as u64 - 1), relay.leaves.last().unwrap().clone());
    let cosigned = Step::Cosign(relay.checkpoint().text().to_owned());
    assert_eq!(relay.asks(&mut watch, 300), [Step::Roster(position, version, leaf), cosigned]);
    for untold in [
        Act::Roster { version: version + 1, hash, length },
        Act::Roster { version, hash: sha256(b"another"), length },
    ] {
        let mut relay = Relay::new(&world);
        let mut watch = watching(&mut relay);
        relay.acts(untold);
        refused(&relay.asks(&mut watch, 300), 422);
    }
}

#[test]
fn a_log_that_is_set_back_is_an_alarm_whatever_the_relay_says_that_this_desk_holds() {
    let world = World::new();
    for (old_size, status) in [(300, 400), (290, 409), (0, 409)] {
        let mut relay = Relay::new(&world);
        let mut watch = watching(&mut relay);
        relay.leaves.truncate(290);
        let path = relay.tree().consistency_path(usize::try_from(old_size.min(290)).unwrap());
        let request = AddCheckpoint { old_size, path, checkpoint: relay.checkpoint().to_string() };
        let frame = pb::AddCheckpoint { request: request.to_string().into() };
        refused(&watch.add_checkpoint(&frame, &world.roster), status);
    }
}

#[test]
fn a_checkpoint_that_the_log_did_not_sign_is_refused() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    relay.grow(310);
    let forged = World::new().checkpoint(310, relay.tree().root());
    let said = watch.add_checkpoint(&relay.ask_for(300, &forged), &world.roster);
    refused(&said, 403);
}

#[test]
fn a_smaller_or_another_checkpoint_of_the_same_size_is_refused() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    let other = world.checkpoint(300, sha256(b"another root"));
    refused(&watch.add_checkpoint(&relay.ask_for(300, &other), &world.roster), 422);
    let published = pb::Checkpoint { note: cosigned(&world, other, &[IDN, MYS]) };
    let said = watch.published(&published, &world.roster);
    assert!(
        matches!(&said[..], [Step::Doubt(doubt)] if doubt.key == FORKED && doubt.shown == published.note),
        "{said:?}"
    );
}

fn cosigned(world: &World, mut note: Note, parties: &[PartyNumber]) -> Bytes {
    for party in parties {
        let id = &world.roster.party(*party).unwrap().id;
        let line = world.witness(*party).cosign(&crate::audit::witness_name(id), 9, note.text()).unwrap();
        note.add(line).unwrap();
    }
    note.to_bytes().into()
}

#[test]
fn a_published_checkpoint_counts_once_a_quorum_signed_it_and_is_followed_by_who_is_no_witness() {
    let world = World::new();
    assert_eq!(LogTrust::of(&world.roster).quorum(), 2);
    let mut relay = Relay::new(&world);
    relay.grow(300);
    let mut watch = Watch::new(Verified::default());
    let alone = pb::Checkpoint { note: cosigned(&world, relay.checkpoint(), &[IDN]) };
    assert_eq!(watch.published(&alone, &world.roster), []);
    let both = pb::Checkpoint { note: cosigned(&world, relay.checkpoint(), &[IDN, MYS]) };
    let mut steps = watch.published(&both, &world.roster);
    let kept = loop {
        let [Step::Send(Kind::Fetch(fetch))] = &steps[..] else { break steps };
        steps = watch.fetched(&relay.fetched(fetch), &world.roster).unwrap();
    };
    let [Step::Keep(progress)] = &kept[..] else { panic!("{kept:?}") };
    let verified = progress.verified.as_ref().unwrap();
    assert_eq!((verified.follower.size(), &verified.witnessed), (300, &both.note));
    assert_eq!(verified.note, relay.checkpoint().to_bytes());
    assert_eq!(watch.kept(true), []);
    // An older one says nothing new.
    relay.leaves.truncate(200);
    let older = pb::Checkpoint { note: cosigned(&world, relay.checkpoint(), &[IDN, MYS]) };
    assert_eq!(watch.published(&older, &world.roster), []);
}

#[test]
fn a_checkpoint_that_is_shown_again_counts_once() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = Watch::new(Verified::default());
    let mut arrives = |relay: &Relay<'_>, by: &[PartyNumber]| {
        let published = pb::Checkpoint { note: cosigned(&world, relay.checkpoint(), by) };
        watch.published(&published, &world.roster);
        watch.arrived().map(|arrived| arrived.size)
    };
    relay.grow(300);
    assert_eq!(arrives(&relay, &[IDN]), None, "no quorum");
    assert_eq!(arrives(&relay, &[IDN, MYS]), Some(300));
    assert_eq!(arrives(&relay, &[IDN, MYS]), None);
    relay.grow(310);
    assert_eq!(arrives(&relay, &[IDN, MYS]), Some(310));
    relay.leaves.truncate(300);
    assert_eq!(arrives(&relay, &[IDN, MYS]), None, "after a Welcome, say");
    // A session that begins knows of the one that it has verified.
    relay.grow(310);
    let witnessed = cosigned(&world, relay.checkpoint(), &[IDN, MYS]);
    let mut watch = Watch::new(Verified { witnessed: witnessed.clone(), ..Verified::default() });
    watch.published(&pb::Checkpoint { note: witnessed }, &world.roster);
    assert_eq!(watch.arrived(), None);
    // Of the log before this one, it says nothing.
    let old = Checkpoint { origin: "old.example/log".into(), size: 600, root: sha256(b"old") };
    let witnessed = Bytes::from(format!("{old}\n\u{2014} old.example/log AAAAAAAA\n"));
    let mut watch = Watch::new(Verified { witnessed, ..Verified::default() });
    let mut arrives = |relay: &Relay<'_>| {
        let note = cosigned(&world, relay.checkpoint(), &[IDN, MYS]);
        watch.published(&pb::Checkpoint { note }, &world.roster);
        watch.arrived().map(|arrived| arrived.size)
    };
    assert_eq!((arrives(&relay), arrives(&relay)), (Some(310), None));
}

#[test]
fn a_checkpoint_that_is_shown_again_in_the_next_session_counts_once_and_the_first_after_a_start_not() {
    let mut bench = Bench::open();
    let shows = |bench: &mut Bench, size: u64| {
        let note = cosigned(&bench.world, bench.world.checkpoint(size, sha256(b"a log")), &[IDN, MYS]);
        let outputs = bench.frame(Kind::Checkpoint(pb::Checkpoint { note }));
        let counted = outputs.contains(&Output::Ask(StoreJob::Published(size)));
        if counted {
            bench.answer(StoreAnswer::Done);
        }
        counted
    };
    assert!(!shows(&mut bench, 300), "it may have been counted before the daemon started");
    assert!(shows(&mut bench, 310));
    assert!(!shows(&mut bench, 310));
    bench.lost();
    bench.now.mono += Duration::from_secs(60);
    bench.connect();
    bench.welcome(512, 1 << 20);
    bench.answer(StoreAnswer::Resumed(Resend { submits: Vec::new(), stored: Vec::new() }));
    bench.answer(StoreAnswer::Stored(None));
    bench.answer(StoreAnswer::Sealed { submits: Vec::new(), more: false });
    assert!(!shows(&mut bench, 310), "nothing of it was followed, and it is the same");
    assert!(shows(&mut bench, 320));
}

#[test]
fn what_comes_while_the_log_is_followed_waits_and_the_newest_counts() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    relay.grow(300);
    let mut watch = Watch::new(Verified::default());
    let steps = watch.add_checkpoint(&relay.ask(0), &world.roster);
    let first = relay.checkpoint().text().to_owned();
    let mut later = Relay::new(&world);
    later.grow(400);
    let both = pb::Checkpoint { note: cosigned(&world, later.checkpoint(), &[IDN, MYS]) };
    assert_eq!(watch.published(&both, &world.roster), []);
    let said = later.serve(&mut watch, steps);
    assert_eq!(said, [Step::Cosign(first)]);
    assert_eq!(later.asks(&mut watch, 400), [Step::Cosign(later.checkpoint().text().to_owned())]);
}

#[test]
fn a_request_that_waits_is_answered_whatever_is_published_meanwhile() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    relay.grow(300);
    let published =
        |relay: &Relay<'_>| pb::Checkpoint { note: cosigned(&world, relay.checkpoint(), &[IDN, MYS]) };
    let mut watch = Watch::new(Verified::default());
    let steps = watch.published(&published(&relay), &world.roster);
    relay.grow(400);
    let asked = relay.checkpoint().text().to_owned();
    assert_eq!(watch.add_checkpoint(&relay.ask(0), &world.roster), []);
    // The others were faster, twice.
    assert_eq!(watch.published(&published(&relay), &world.roster), []);
    relay.grow(500);
    assert_eq!(watch.published(&published(&relay), &world.roster), []);
    assert_eq!(relay.serve(&mut watch, steps), [Step::Cosign(asked)]);
    assert_eq!(relay.asks(&mut watch, 500), [Step::Cosign(relay.checkpoint().text().to_owned())]);
}

#[test]
fn files_that_were_not_asked_for_or_come_out_of_order_end_the_session() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    relay.grow(300);
    let good = |watch: &mut Watch| {
        let steps = watch.add_checkpoint(&relay.ask(0), &world.roster);
        let [Step::Send(Kind::Fetch(fetch))] = &steps[..] else { panic!("{steps:?}") };
        relay.fetched(fetch)
    };
    let wrong: [fn(&mut pb::Fetched); 6] = [
        |fetched| fetched.request += 1,
        |fetched| fetched.offset = 1,
        |fetched| fetched.total_bytes = u32::MAX,
        |fetched| fetched.total_bytes -= 1,
        |fetched| fetched.chunk = Bytes::new(),
        |fetched| fetched.total_bytes = 16 << 20,
    ];
    for (place, wrong) in wrong.iter().enumerate() {
        let mut watch = Watch::new(Verified::default());
        let mut fetched = good(&mut watch);
        wrong(&mut fetched);
        assert!(watch.fetched(&fetched, &world.roster).is_err(), "{place}");
    }
    let mut watch = Watch::new(Verified::default());
    let fetched = good(&mut watch);
    assert!(Watch::new(Verified::default()).fetched(&fetched, &world.roster).is_err());
    // In chunks it is as good, and a file that is missing or cut is an alarm.
    let mut half = fetched.clone();
    half.chunk = fetched.chunk.slice(..5_000);
    assert_eq!(watch.fetched(&half, &world.roster).unwrap(), []);
    let rest = pb::Fetched { offset: 5_000, chunk: fetched.chunk.slice(5_000..), ..fetched.clone() };
    assert!(matches!(watch.fetched(&rest, &world.roster).unwrap()[..], [Step::Send(Kind::Fetch(_))]));
    let mut watch = Watch::new(Verified::default());
    let absent = pb::Fetched { found: false, total_bytes: 0, chunk: Bytes::new(), ..good(&mut watch) };
    refused(&watch.fetched(&absent, &world.roster).unwrap(), 422);
}

#[test]
fn a_long_log_is_kept_step_by_step_and_a_new_session_goes_on_from_there() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    relay.grow(20_000);
    let mut watch = Watch::new(Verified::default());
    let mut steps = watch.add_checkpoint(&relay.ask(0), &world.roster);
    let step = loop {
        match &steps[..] {
            [Step::Send(Kind::Fetch(fetch))] => {
                steps = watch.fetched(&relay.fetched(fetch), &world.roster).unwrap()
            }
            [Step::Keep(progress)] => break progress.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((step.follower.size(), step.leaves.len(), step.verified.as_ref()), (16_384, 16_384, None));
    // Nothing is asked for before that is durable.
    let [Step::Send(Kind::Fetch(fetch))] = &watch.kept(true)[..] else { panic!("it goes on") };
    assert_eq!(fetch.name, "tile/entries/064");
    // Another session goes on from there, and holds the whole against the checkpoint.
    let ahead = Verified { ahead: Some(step.follower.clone()), ..Verified::default() };
    let mut watch = Watch::new(ahead.clone());
    let [Step::Send(Kind::Fetch(fetch))] = &watch.add_checkpoint(&relay.ask(0), &world.roster)[..] else {
        panic!("it goes on")
    };
    assert_eq!(fetch.name, "tile/entries/064");
    let steps = watch.fetched(&relay.fetched(fetch), &world.roster).unwrap();
    assert_eq!(relay.serve(&mut watch, steps), [Step::Cosign(relay.checkpoint().text().to_owned())]);
    // What was published before it came so far tells it nothing, and what it is asked to sign counts.
    let mut earlier = Relay::new(&world);
    earlier.grow(300);
    let mut watch = Watch::new(ahead);
    let published = pb::Checkpoint { note: cosigned(&world, earlier.checkpoint(), &[IDN, MYS]) };
    assert_eq!(watch.published(&published, &world.roster), []);
    assert_eq!(earlier.asks(&mut watch, 0), [Step::Cosign(earlier.checkpoint().text().to_owned())]);
}

#[test]
fn more_cosignatures_of_what_is_verified_leave_what_was_followed_beyond_it() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    let more = pb::Checkpoint { note: cosigned(&world, relay.checkpoint(), &[IDN, MYS]) };
    relay.grow(20_000);
    let mut steps = watch.add_checkpoint(&relay.ask(300), &world.roster);
    let ahead = loop {
        match &steps[..] {
            [Step::Send(Kind::Fetch(fetch))] => {
                steps = watch.fetched(&relay.fetched(fetch), &world.roster).unwrap()
            }
            [Step::Keep(progress)] => break progress.follower.clone(),
            other => panic!("{other:?}"),
        }
    };
    let going_on = watch.kept(true);
    let kept = |steps: &[Step]| match steps {
        [Step::Keep(progress)] => progress.verified.clone().expect("a checkpoint"),
        other => panic!("nothing is kept: {other:?}"),
    };
    let verified = kept(&watch.published(&more, &world.roster));
    assert_eq!((verified.follower.size(), &verified.witnessed), (300, &more.note));
    assert_eq!(verified.ahead, Some(ahead));
    let mut steps = going_on;
    steps.extend(watch.kept(true));
    while let [Step::Send(Kind::Fetch(fetch))] = &steps[..] {
        steps = watch.fetched(&relay.fetched(fetch), &world.roster).unwrap();
    }
    assert_eq!(kept(&steps).ahead, None, "nothing is beyond it");
}

#[test]
fn a_roster_that_the_log_names_with_an_older_version_goes_to_the_store_to_be_compared() {
    let world = World::new();
    let next = crate::roster::verify_next(&world.next_note(|_| {}), &world.roster).unwrap();
    let mut relay = Relay::new(&world);
    relay.acts(Act::Roster { version: 1, hash: sha256(b"another"), length: 9 });
    let leaf = relay.leaves[1].clone();
    let mut watch = Watch::new(Verified::default());
    let steps = watch.add_checkpoint(&relay.ask(0), &next);
    let [Step::Send(Kind::Fetch(fetch))] = &steps[..] else { panic!("{steps:?}") };
    let steps = watch.fetched(&relay.fetched(fetch), &next).unwrap();
    // Before anything is kept that could be cosigned.
    let [Step::Roster(Position(1), 1, compared), Step::Keep(_)] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(*compared, leaf);
}

#[test]
fn tiles_for_proofs_are_asked_for_one_by_one_between_bundles() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    let tile = |index| TilePath::in_tree(0, index, 300).unwrap();
    let steps = watch.want([tile(0), tile(1)].into());
    let [Step::Send(Kind::Fetch(first))] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(first.name, "tile/0/000");
    // A request to cosign waits for the file under way, and no longer.
    relay.grow(310);
    assert_eq!(watch.add_checkpoint(&relay.ask(300), &world.roster), []);
    let chunk = Bytes::from(vec![7; 8192]);
    let whole = pb::Fetched { request: first.request, found: true, total_bytes: 8192, offset: 0, chunk };
    let long = pb::Fetched { total_bytes: 8193, ..whole.clone() };
    assert!(watch.fetched(&long, &world.roster).is_err());
    let steps = watch.fetched(&whole, &world.roster).unwrap();
    let [Step::Tile(path, Some(bytes)), Step::Send(Kind::Fetch(second))] = &steps[..] else {
        panic!("{steps:?}")
    };
    assert_eq!((*path, bytes.len(), second.name.as_str()), (tile(0), 8192, "tile/0/001.p/44"));
    let absent = pb::Fetched { request: second.request, ..pb::Fetched::default() };
    let steps = watch.fetched(&absent, &world.roster).unwrap();
    let [Step::Tile(path, None), bundle] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(*path, tile(1));
    let said = relay.serve(&mut watch, vec![Step::Send(as_fetch(bundle))]);
    assert_eq!(said, [Step::Cosign(relay.checkpoint().text().to_owned())]);
}

fn as_fetch(step: &Step) -> Kind {
    match step {
        Step::Send(Kind::Fetch(fetch)) => Kind::Fetch(fetch.clone()),
        other => panic!("no fetch: {other:?}"),
    }
}

#[test]
fn nothing_is_cosigned_before_it_is_durable_itself() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let mut watch = watching(&mut relay);
    let published = pb::Checkpoint { note: cosigned(&world, relay.checkpoint(), &[IDN, MYS]) };
    assert!(matches!(watch.published(&published, &world.roster)[..], [Step::Keep(_)]));
    // While that is on its way to the disk, the next is followed no further than to its last leaf.
    relay.grow(301);
    assert_eq!(watch.add_checkpoint(&relay.ask(300), &world.roster), []);
    let steps = watch.kept(true);
    let [Step::Send(Kind::Fetch(fetch))] = &steps[..] else { panic!("{steps:?}") };
    assert!(matches!(watch.fetched(&relay.fetched(fetch), &world.roster).unwrap()[..], [Step::Keep(_)]));
    assert_eq!(watch.kept(true), [Step::Cosign(relay.checkpoint().text().to_owned())]);
}

#[test]
fn a_log_of_a_new_origin_is_followed_from_its_start() {
    let world = World::new();
    let mut relay = Relay::new(&world);
    let watch = watching(&mut relay);
    let kept = {
        let mut other = Watch::new(Verified::default());
        let steps = other.add_checkpoint(&relay.ask(0), &world.roster);
        let said = relay.serve(&mut other, steps);
        assert_eq!(said.len(), 1);
        drop(watch);
        let text = format!("old.example/log\n300\n{}\n", data_encoding::BASE64.encode(&[1; 32]));
        Verified {
            note: Bytes::from(format!("{text}\n\u{2014} old.example/log AAAAAAAA\n")),
            ..Verified::default()
        }
    };
    let mut watch = Watch::new(kept);
    assert_eq!(relay.asks(&mut watch, 0), [Step::Cosign(relay.checkpoint().text().to_owned())]);
    let checkpoint: Checkpoint = relay.checkpoint().text().parse().unwrap();
    assert_eq!(bundles_between(0, checkpoint.size).len(), 2);
}

/// FAULTS 51: whoever was away is told all the same.
#[test]
fn clones_of_this_desk_that_the_relay_could_not_tell_of_are_an_alarm_once_they_are_found_in_the_log() {
    let mut bench = Bench::open();
    let world = World::new();
    let mut relay = Relay::new(&world);
    let cloned = |party| Act::Cloned { party, stays: [1; 16], refused: [2; 16] };
    relay.acts(cloned(IDN));
    relay.acts(cloned(MYS));
    relay.world = &bench.world;
    let (ask, leaves, chain) = (relay.ask(0), relay.leaves, relay.chain);
    let outputs = bench.frame(Kind::AddCheckpoint(ask));
    let [Output::Send(Kind::Fetch(fetch))] = &outputs[..] else { panic!("{outputs:?}") };
    let fetched = Relay { world: &world, leaves, chain }.fetched(fetch);
    let outputs = bench.frame(Kind::Fetched(fetched));
    let sentence = alarmed(&outputs).to_owned();
    assert!(sentence.contains("turns as IDN (position 1 of the log)"), "{sentence}");
    let told = Output::Ask(StoreJob::Alarm { key: "cloned-3".into(), sentence, once: true });
    assert_eq!(outputs, [told], "MYS and the hub are told of those of MYS");
    let outputs = bench.answer(StoreAnswer::Done);
    assert!(matches!(outputs[..], [Output::Ask(StoreJob::Follow(_))]), "{outputs:?}");
}

#[test]
fn an_order_that_the_relay_did_not_tell_of_is_obeyed_once_it_is_found_in_the_log() {
    let mut bench = Bench::open();
    let (order, forged) = (requests::signed(&bench, world::MOD), requests::signed(&bench, world::IDN));
    let world = World::new();
    let mut relay = Relay::new(&world);
    relay.acts(Act::Order(forged));
    relay.acts(Act::Order(order.clone()));
    relay.acts(Act::Order(order.clone()));
    relay.world = &bench.world;
    let (ask, leaves, chain) = (relay.ask(0), relay.leaves, relay.chain);
    let outputs = bench.frame(Kind::AddCheckpoint(ask));
    let [Output::Send(Kind::Fetch(fetch))] = &outputs[..] else { panic!("{outputs:?}") };
    let fetched = Relay { world: &world, leaves, chain }.fetched(fetch);
    let outputs = bench.frame(Kind::Fetched(fetched));
    assert_eq!(outputs, [Output::Ask(StoreJob::LearnOrder { position: Position(2), order })]);
    let outputs = bench.answer(StoreAnswer::Done);
    assert!(
        matches!(outputs[..], [Output::Ask(StoreJob::Follow(_))]),
        "once, and not the forged one: {outputs:?}"
    );
}
