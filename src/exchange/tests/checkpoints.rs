//! Checkpoints: when they are signed, who is asked, what is published, and what a party brings that does not fit.

use std::time::Duration;

use bytes::Bytes;

use super::{
    desk::{Desk, IDN, LOG_SEED, MOD, MYS, PHL, checkpoint_note, first_note, next_note, public},
    world::{World, exporter},
};
use crate::{
    audit::{Answer, Checkpoint},
    exchange::{ConnId, Input, Notice},
    limits::Limits,
    merkle::{self, Hash, sha256},
    note::{KeyId, KeyKind, Note, Vkey, signature_line},
    roster::Status,
    session::outbound::Outbound,
    wire::{
        Precedence,
        envelope::Core,
        pb::{self, frame::Kind},
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// A relay that keeps a log under version 1, which has no witnesses.
fn unwitnessed() -> World {
    World::keeping_log(Limits::DEFAULT)
}

/// The same once version 2 made the three missions witnesses, and a checkpoint covers it: two are a quorum.
fn witnessed() -> World {
    let mut world = unwitnessed();
    let note = next_note(&first_note(), |draft| {
        draft.parties[2..].iter_mut().for_each(|party| party.is_witness = true);
    });
    world.input(Input::RosterOffered { note });
    // Version 1's quorum is enough for the first one that covers version 2.
    assert_eq!(world.wait(SECOND), ["sign 2", "publish 2 signed by 1"]);
    world
}

/// A session of a desk that holds version 2.
fn open(world: &mut World, desk: Desk) -> ConnId {
    let conn = world.connect(desk);
    world.hello(conn, pb::Hello { roster_version: 2, ..desk.hello() });
    conn
}

/// Lets ten seconds pass in which something was written, and tells what the log has to do with it.
fn next_checkpoint(world: &mut World, writer: ConnId, number: u64) -> Vec<String> {
    world.submit(writer, &MOD.core(number, &[IDN]));
    let seen = world.wait(10 * SECOND);
    seen.into_iter().filter(|line| !line.contains("Ping") && !line.contains("Deliver")).collect()
}

/// What a desk was asked to cosign last.
fn asked(world: &World, conn: ConnId) -> Checkpoint {
    let asked = world.sent.iter().rev().find_map(|(to, frame)| match frame {
        Outbound::AddCheckpoint(request) if *to == conn => Some(request.checkpoint.clone()),
        _ => None,
    });
    Note::parse(asked.expect("it was asked").as_bytes()).unwrap().text().parse().unwrap()
}

fn answer(world: &mut World, conn: ConnId, answer: &Answer) -> Vec<String> {
    let frame = pb::Witnessed { status: answer.status().into(), body: answer.body().into() };
    world.say(conn, Kind::Witnessed(frame))
}

fn cosign(world: &mut World, conn: ConnId, desk: Desk) -> Vec<String> {
    let line = desk.cosign(&asked(world, conn)).to_string();
    answer(world, conn, &Answer::Cosigned(line))
}

fn hello_with(world: &mut World, desk: Desk, checkpoint: Bytes) -> (ConnId, Vec<String>) {
    let conn = world.connect(desk);
    let hello = desk.signed_hello(pb::Hello { checkpoint, ..desk.hello() }, exporter(conn));
    (conn, world.say(conn, Kind::Hello(hello)))
}

#[test]
fn a_checkpoint_is_signed_after_ten_seconds_of_traffic_and_once_a_minute_without() {
    let mut world = unwitnessed();
    assert_eq!(world.wait(SECOND), ["sign 1", "publish 1 signed by 1"], "the first at once");
    let idn = world.open(IDN);
    world.submit(idn, &IDN.core(1, &[MYS]));
    assert_eq!(world.wait(8 * SECOND), [""; 0]);
    let seen = world.wait(2 * SECOND);
    assert_eq!(
        seen[1..],
        ["sign 3", "publish 3 signed by 1", "IDN < Checkpoint 3 signed by 1"],
        "after a ping"
    );
    world.close(idn);
    assert_eq!(world.wait(59 * SECOND), [""; 0]);
    assert_eq!(world.wait(SECOND), ["sign 3"], "the same again, which says nothing new");
    assert_eq!(world.wait(10 * SECOND), [""; 0]);
}

#[test]
fn a_flash_is_in_a_checkpoint_at_once() {
    let mut world = unwitnessed();
    world.wait(SECOND);
    let idn = world.open(IDN);
    let mut core = IDN.core(1, &[MYS]);
    core.precedence_action = Precedence::Flash;
    let seen = world.submit(idn, &core);
    assert!(seen.contains(&"sign 3".to_owned()), "{seen:?}");
    core.submission.0 = 2;
    core.precedence_action = Precedence::Immediate;
    assert!(!world.submit(idn, &core).iter().any(|line| line.starts_with("sign")));
}

#[test]
fn flashes_that_come_faster_than_witnesses_answer_do_not_keep_the_log_from_being_witnessed() {
    let mut world = witnessed();
    let [hub, idn, mys] = [MOD, IDN, MYS].map(|desk| open(&mut world, desk));
    cosign(&mut world, idn, IDN);
    cosign(&mut world, mys, MYS);
    let flash = |world: &mut World, number| {
        let core = Core { precedence_action: Precedence::Flash, ..MOD.core(number, &[PHL]) };
        world.submit(hub, &core)
    };
    assert!(flash(&mut world, 1).iter().any(|line| line.starts_with("sign")), "at once");
    for number in 2..=5 {
        let seen = flash(&mut world, number);
        assert!(!seen.iter().any(|line| line.starts_with("sign")), "one at a time: {seen:?}");
    }
    cosign(&mut world, idn, IDN);
    let seen = cosign(&mut world, mys, MYS);
    assert!(seen[0].starts_with("publish"), "{seen:?}");
    assert!(seen.iter().any(|line| line.starts_with("sign")), "and then those that came meanwhile: {seen:?}");
}

#[test]
fn nothing_is_signed_where_no_log_is_kept() {
    let mut world = World::new();
    assert_eq!(world.wait(100 * SECOND), [""; 0]);
}

#[test]
fn a_checkpoint_is_published_once_a_quorum_has_cosigned_it_and_again_when_all_have() {
    let mut world = witnessed();
    let conns = [MOD, IDN, MYS, PHL].map(|desk| open(&mut world, desk));
    let [hub, idn, mys, phl] = conns;
    // Each was asked for the newest one as soon as its session was open; the hub is no witness.
    assert!(!world.told(hub).iter().any(|line| line.contains("AddCheckpoint")));
    for (conn, desk) in [(idn, IDN), (mys, MYS), (phl, PHL)] {
        assert!(world.told(conn).contains(&"AddCheckpoint 2 signed by 1 from 0".to_owned()));
        cosign(&mut world, conn, desk);
    }
    let seen = next_checkpoint(&mut world, hub, 1);
    let size = asked(&world, idn).size;
    let asks = |code: &str| format!("{code} < AddCheckpoint {size} signed by 1 from 2");
    let shown = format!("MOD < Checkpoint {size} signed by 1");
    assert_eq!(seen, [format!("sign {size}"), shown, asks("IDN"), asks("MYS"), asks("PHL")]);
    assert_eq!(cosign(&mut world, mys, MYS), [""; 0], "one of three is no quorum");
    let seen = cosign(&mut world, idn, IDN);
    assert_eq!(seen[0], format!("publish {size} signed by 3"));
    assert_eq!(
        seen.iter().filter(|line| line.ends_with(&format!("Checkpoint {size} signed by 3"))).count(),
        4
    );
    assert_eq!(
        cosign(&mut world, phl, PHL)[0],
        format!("publish {size} signed by 4"),
        "with the last one too"
    );
}

/// FAULTS 83: behind.
#[test]
fn desks_hear_of_a_published_checkpoint_once_a_restart_would_find_it() {
    let mut world = witnessed();
    let [idn, mys] = [IDN, MYS].map(|desk| open(&mut world, desk));
    cosign(&mut world, idn, IDN);
    world.holds_publishing = true;
    assert_eq!(cosign(&mut world, mys, MYS), ["publish 2 signed by 3"], "and nobody is told");
    let phl = open(&mut world, PHL);
    assert!(world.told(phl).contains(&"Checkpoint 2 signed by 1".to_owned()), "{:?}", world.told(phl));
    let note = Note::parse(&checkpoint_note(2, merkle::root(&world.leaves(2)))).unwrap();
    let mut cosigned = note.clone();
    [IDN, MYS].iter().for_each(|desk| cosigned.add(desk.cosign(&note.text().parse().unwrap())).unwrap());
    let seen = world.input(Input::Published { note: cosigned.to_bytes().into() });
    let told = ["IDN", "MYS", "PHL"].map(|code| format!("{code} < Checkpoint 2 signed by 3"));
    assert_eq!(seen[..3], told);
    assert_eq!(seen[3..], ["PHL < AddCheckpoint 2 signed by 1 from 0"], "and the next witness is asked");
}

#[test]
fn a_roster_that_replaces_the_witnesses_counts_once_what_the_old_ones_cosigned_is_durable() {
    let mut world = unwitnessed();
    world.holds_publishing = true;
    assert_eq!(world.wait(SECOND), ["sign 1", "publish 1 signed by 1"]);
    let published = |world: &mut World, size| {
        let note = checkpoint_note(size, merkle::root(&world.leaves(size)));
        world.input(Input::Published { note })
    };
    assert_eq!(published(&mut world, 1), [""; 0]);
    let note = next_note(&first_note(), |draft| {
        draft.parties[2..].iter_mut().for_each(|party| party.is_witness = true);
    });
    world.input(Input::RosterOffered { note });
    let idn = open(&mut world, IDN);
    let seen = world.wait(10 * SECOND);
    assert!(seen.contains(&"sign 3".to_owned()) && seen.contains(&"publish 3 signed by 1".to_owned()));
    assert!(!world.told(idn).iter().any(|line| line.contains("Checkpoint 3")), "{:?}", world.told(idn));
    let seen = published(&mut world, 3);
    assert_eq!(seen, ["IDN < Checkpoint 3 signed by 1", "IDN < AddCheckpoint 3 signed by 1 from 0"]);
}

#[test]
fn what_is_signed_is_shown_at_once_to_each_desk_that_is_not_asked_to_cosign_it() {
    let mut world = witnessed();
    let [hub, idn, mys] = [MOD, IDN, MYS].map(|desk| open(&mut world, desk));
    cosign(&mut world, mys, MYS);
    let seen = next_checkpoint(&mut world, hub, 1);
    let size = asked(&world, mys).size;
    let shown = |code: &str| format!("{code} < Checkpoint {size} signed by 1");
    // IDN has not answered yet.
    let asks = format!("MYS < AddCheckpoint {size} signed by 1 from 2");
    assert_eq!(seen, [format!("sign {size}"), shown("MOD"), shown("IDN"), asks]);
    let mut seen = Vec::new();
    for _ in 0..6 {
        for conn in [hub, idn, mys] {
            world.say(conn, Kind::Pong(pb::Pong::default()));
        }
        seen.extend(world.wait(10 * SECOND));
    }
    assert!(seen.contains(&format!("sign {size}")), "{seen:?}");
    assert!(!seen.iter().any(|line| line.contains(" < Checkpoint")), "the same again is no news: {seen:?}");
    world.close(hub);
    world.close(idn);
    let hub = open(&mut world, MOD);
    let told = world.told(hub);
    assert!(told.contains(&format!("Checkpoint {size} signed by 1")), "and to who comes later: {told:?}");
    let idn = open(&mut world, IDN);
    assert!(!world.told(idn).contains(&format!("Checkpoint {size} signed by 1")), "it is asked");
    cosign(&mut world, idn, IDN);
    cosign(&mut world, mys, MYS);
    world.close(hub);
    let hub = open(&mut world, MOD);
    assert!(!world.told(hub).contains(&format!("Checkpoint {size} signed by 1")), "it was published");
}

#[test]
fn a_witness_that_has_signed_another_one_last_is_asked_from_there_and_one_that_is_ahead_is_an_alarm() {
    let mut world = witnessed();
    let idn = open(&mut world, IDN);
    assert_eq!(answer(&mut world, idn, &Answer::Conflict(1)), ["IDN < AddCheckpoint 2 signed by 1 from 1"]);
    assert_eq!(answer(&mut world, idn, &Answer::Conflict(0)), [""; 0], "a desk does not go back");
    assert_eq!(world.notices.last(), Some(&Notice::WitnessRefused { party: IDN.number, status: 409 }));
    let mys = open(&mut world, MYS);
    assert_eq!(answer(&mut world, mys, &Answer::Conflict(9_000)), [""; 0]);
    assert_eq!(world.notices.last(), Some(&Notice::WitnessAhead { party: MYS.number, size: 9_000 }));
    // Both cosign the next one: they hold this very log.
    open(&mut world, PHL);
    world.wait(11 * SECOND);
    for (conn, desk) in [(idn, IDN), (mys, MYS), (idn, IDN)] {
        cosign(&mut world, conn, desk);
        let agrees = Notice::WitnessAgrees { party: desk.number };
        assert_eq!(world.notices.iter().filter(|notice| **notice == agrees).count(), 1, "said once");
        if desk.number == MYS.number {
            world.submit(idn, &IDN.core(1, &[MYS]));
            world.wait(11 * SECOND);
        }
    }
}

#[test]
fn a_witness_that_names_ever_larger_sizes_is_not_asked_about_one_checkpoint_without_end() {
    let mut world = witnessed();
    let (mod_, idn) = (open(&mut world, MOD), open(&mut world, IDN));
    for number in 1..=20 {
        world.submit(mod_, &MOD.core(number, &[PHL]));
    }
    cosign(&mut world, idn, IDN);
    world.wait(10 * SECOND);
    assert_eq!(asked(&world, idn).size, 24);
    let seen: Vec<usize> = (3..=20).map(|at| answer(&mut world, idn, &Answer::Conflict(at)).len()).collect();
    assert_eq!(seen[..9], [1, 1, 1, 1, 1, 1, 1, 1, 0]);
    assert!(world.told(idn).last().unwrap().starts_with("Goodbye"), "it answers what it was not asked");
    assert!(world.notices.contains(&Notice::WitnessRefused { party: IDN.number, status: 409 }));
}

#[test]
fn what_a_witness_may_not_say_closes_its_session_and_a_refusal_is_a_notice() {
    let mut world = witnessed();
    let idn = open(&mut world, IDN);
    assert_eq!(answer(&mut world, idn, &Answer::BadProof), [""; 0]);
    assert_eq!(world.notices.last(), Some(&Notice::WitnessRefused { party: IDN.number, status: 422 }));
    let seen = answer(&mut world, idn, &Answer::BadProof);
    assert_eq!(seen, ["IDN < Goodbye Protocol", "IDN closed"], "an answer to nothing");
    for (status, body) in [(200, "no line"), (409, "5"), (409, "-1\n"), (500, ""), (0, "")] {
        let conn = open(&mut world, IDN);
        world.wait(11 * SECOND);
        let frame = pb::Witnessed { status, body: Bytes::from_static(body.as_bytes()) };
        let seen = world.say(conn, Kind::Witnessed(frame));
        assert_eq!(seen, ["IDN < Goodbye Protocol", "IDN closed"], "{status} {body}");
    }
}

/// FAULTS 83: lying.
#[test]
fn a_cosignature_that_does_not_verify_counts_for_nothing_and_mail_goes_on() {
    let mut world = witnessed();
    let mys = open(&mut world, MYS);
    let line = PHL.cosign(&asked(&world, mys)).to_string();
    assert_eq!(answer(&mut world, mys, &Answer::Cosigned(line)), [""; 0], "another's");
    let phl = open(&mut world, PHL);
    let other = Checkpoint { root: sha256(b"another"), ..asked(&world, phl) };
    let line = PHL.cosign(&other).to_string();
    assert_eq!(answer(&mut world, phl, &Answer::Cosigned(line)), [""; 0], "of another root");
    // Its machine has a new witness key already, and the roster that counts the old one.
    let idn = open(&mut world, IDN);
    let line = IDN.signing_with(77).cosign(&asked(&world, idn)).to_string();
    assert_eq!(answer(&mut world, idn, &Answer::Cosigned(line)), [""; 0], "under another key");
    for party in [MYS, PHL, IDN].map(|desk| desk.number) {
        assert!(world.notices.contains(&Notice::WitnessRefused { party, status: 200 }));
    }
    let seen = world.submit(mys, &MYS.core(1, &[PHL]));
    assert_eq!(seen, ["append envelope 1 of MYS", "MYS < Accepted 1 at 5"]);
}

/// FAULTS 83: offline.
#[test]
fn no_quorum_for_ten_minutes_is_an_alarm_that_ends_with_the_quorum() {
    let mut world = witnessed();
    let idn = open(&mut world, IDN);
    cosign(&mut world, idn, IDN);
    world.close(idn);
    for _ in 0..60 {
        world.wait(10 * SECOND);
        assert!(!world.notices.contains(&Notice::Unwitnessed));
    }
    for _ in 0..10 {
        world.wait(10 * SECOND);
    }
    assert_eq!(world.notices.iter().filter(|notice| **notice == Notice::Unwitnessed).count(), 1);
    for desk in [IDN, MYS] {
        let conn = open(&mut world, desk);
        cosign(&mut world, conn, desk);
    }
    assert_eq!(world.notices.iter().filter(|notice| **notice == Notice::Witnessed).count(), 1);
}

#[test]
fn a_checkpoint_of_this_logs_history_opens_the_session_and_any_other_signed_one_stops_the_relay() {
    let mut world = unwitnessed();
    world.wait(SECOND);
    let idn = world.open(IDN);
    world.submit(idn, &IDN.core(1, &[MYS]));
    world.wait(10 * SECOND);
    let root = |world: &World, size| merkle::root(&world.leaves(size));
    for size in [1, 2, 3] {
        let note = checkpoint_note(size, root(&world, size));
        let (conn, _) = hello_with(&mut world, MYS, note);
        assert!(world.told(conn).iter().any(|line| line.starts_with("Welcome")), "size {size}");
        world.close(conn);
        world.wait(11 * SECOND);
    }
    for (size, root) in [(2, sha256(b"another root")), (9_000, Hash::ZERO)] {
        let (conn, seen) = hello_with(&mut world, MYS, checkpoint_note(size, root));
        assert!(seen.contains(&format!("forked by {size} signed by 1")), "{seen:?}");
        assert!(!world.told(conn).iter().any(|line| line.starts_with("Welcome")));
        world.close(conn);
        world.wait(11 * SECOND);
    }
}

#[test]
fn whoever_shows_that_the_log_was_rolled_back_adds_no_record_to_it_and_takes_nobody_over() {
    let mut world = unwitnessed();
    world.wait(SECOND);
    let mys = world.open(MYS);
    assert!(world.wait(10 * SECOND).contains(&"sign 2".to_owned()));
    for (size, root) in [(1, sha256(b"another root")), (2, sha256(b"another root")), (9_000, Hash::ZERO)] {
        let conn = world.connect(MYS);
        let (checkpoint, store_id) = (checkpoint_note(size, root), vec![77; 16].into());
        let hello = pb::Hello { checkpoint, store_id, incarnation: 2, ..MYS.hello() };
        assert_eq!(world.hello(conn, hello), [format!("forked by {size} signed by 1")]);
    }
    assert!(!world.told(mys).iter().any(|line| line.starts_with("Goodbye")));
}

#[test]
fn while_the_logs_files_cannot_be_read_an_older_checkpoint_is_not_let_in_and_nobody_is_asked_to_cosign() {
    let mut world = witnessed();
    let note = checkpoint_note(1, merkle::root(&world.leaves(1)));
    world.proves_nothing = true;
    let (_, seen) = hello_with(&mut world, MYS, note.clone());
    assert_eq!(seen, ["MYS < Goodbye NotReady", "MYS closed"]);
    let idn = open(&mut world, IDN);
    assert!(!world.told(idn).iter().any(|line| line.contains("AddCheckpoint")), "{:?}", world.told(idn));
    let seen = world.submit(idn, &IDN.core(1, &[PHL]));
    assert!(seen.contains(&"IDN < Accepted 1 at 3".to_owned()), "mail goes on: {seen:?}");
    world.proves_nothing = false;
    let (conn, _) = hello_with(&mut world, MYS, note);
    assert!(world.told(conn).iter().any(|line| line.starts_with("Welcome")));
}

#[test]
fn a_claim_that_the_log_did_not_sign_closes_the_session_and_one_of_an_earlier_log_says_nothing() {
    let mut world = unwitnessed();
    world.wait(SECOND);
    let good = checkpoint_note(1, merkle::root(&world.leaves(1)));
    let mut forged = good.to_vec();
    let at = forged.len() - 10;
    forged[at] ^= 1;
    let (_, seen) = hello_with(&mut world, MYS, forged.into());
    assert!(seen.contains(&"MYS < Goodbye Protocol".to_owned()), "{seen:?}");
    let earlier = String::from_utf8(good.to_vec()).unwrap().replace("bloc.example/log", "old.example/log");
    let (conn, _) = hello_with(&mut world, PHL, earlier.into());
    assert!(world.told(conn).iter().any(|line| line.starts_with("Welcome")));
}

/// Version 2 lists another log key alone.
fn with_another_log_key(before: &Bytes) -> Bytes {
    next_note(before, |draft| {
        let origin = draft.log.origin.clone();
        draft.log.keys = vec![Vkey::new(&origin, KeyKind::Ed25519, public(78).0).unwrap()];
        draft.revoked_keys.push(public(LOG_SEED));
    })
}

#[test]
fn a_log_key_that_the_roster_dropped_signs_nothing_and_stops_nobody() {
    let mut world = unwitnessed();
    world.wait(SECOND);
    let seen = world.input(Input::RosterOffered { note: with_another_log_key(&first_note()) });
    assert_eq!(seen, ["append roster 2", "roster 2 in force"]);
    let seen = world.wait(12 * SECOND);
    assert_eq!(seen, ["sign 2"], "and not published");
    assert_eq!(world.notices.last(), Some(&Notice::LogKeyDropped));
    for _ in 0..20 {
        assert_eq!(world.wait(10 * SECOND), [""; 0], "nothing before another roster is in force");
    }
    for (size, root) in [(1, sha256(b"another root")), (9_000, Hash::ZERO)] {
        let conn = world.connect(MYS);
        let hello = pb::Hello { checkpoint: checkpoint_note(size, root), roster_version: 2, ..MYS.hello() };
        let seen = world.say(conn, Kind::Hello(MYS.signed_hello(hello, exporter(conn))));
        assert!(seen.iter().any(|line| line.starts_with("MYS < Welcome")), "{seen:?}");
        world.close(conn);
        world.wait(11 * SECOND);
    }
}

#[test]
fn a_log_key_that_the_first_roster_lacks_is_tried_once_for_each_roster_and_said_once() {
    let mut world = unwitnessed();
    let second = with_another_log_key(&first_note());
    world.input(Input::RosterOffered { note: second.clone() });
    assert_eq!(world.wait(SECOND), ["sign 2"]);
    for _ in 0..20 {
        assert_eq!(world.wait(SECOND), [""; 0], "not each time that somebody looks");
    }
    let seen = world.input(Input::RosterOffered { note: next_note(&second, |_| {}) });
    assert_eq!(seen, ["append roster 3", "roster 3 in force", "sign 3"]);
    assert_eq!(world.wait(100 * SECOND), [""; 0]);
    assert_eq!(world.notices, [Notice::LogKeyDropped, Notice::LogKeyDropped]);
}

#[test]
fn a_log_thread_that_hangs_is_an_alarm_after_ten_minutes() {
    let mut world = unwitnessed();
    world.holds_signing = true;
    assert_eq!(world.wait(SECOND), ["sign 1"]);
    for _ in 0..59 {
        world.wait(10 * SECOND);
    }
    assert_eq!(world.notices, []);
    world.wait(11 * SECOND);
    assert_eq!(world.notices, [Notice::Unsigned]);
    let note = checkpoint_note(1, merkle::root(&world.leaves(1)));
    assert_eq!(world.input(Input::Signed { note })[0], "publish 1 signed by 1");
    assert_eq!(world.notices, [Notice::Unsigned, Notice::Witnessed]);
}

#[test]
fn a_roster_that_keeps_the_old_quorum_out_is_told_at_once_and_the_next_one_that_lets_it_in_ends_it() {
    let mut world = witnessed();
    let second = world.exchange.roster_notes().last().unwrap().1;
    let third = next_note(&second, |draft| {
        draft.parties[2..4].iter_mut().for_each(|party| party.status = Status::Suspended);
    });
    world.input(Input::RosterOffered { note: third.clone() });
    let lost = Notice::WitnessesLost { left: 1, quorum: 2 };
    assert!(!world.notices.contains(&lost));
    let mut away = witnessed();
    away.wait(Duration::from_secs(700));
    let conn = open(&mut away, MOD);
    away.submit(conn, &MOD.core(1, &[IDN]));
    away.wait(10 * SECOND);
    (0..70).for_each(|_| drop(away.wait(10 * SECOND)));
    assert_eq!(away.notices.last(), Some(&Notice::Unwitnessed));
    away.input(Input::RosterOffered { note: third.clone() });
    away.wait(10 * SECOND);
    assert_eq!(away.notices.last(), Some(&lost), "also where they were away before");
    let back = next_note(&third, |draft| {
        draft.parties[2..4].iter_mut().for_each(|party| party.status = Status::Active);
    });
    away.input(Input::RosterOffered { note: back });
    away.wait(10 * SECOND);
    assert_eq!(away.notices.last(), Some(&Notice::Unwitnessed), "and it is only their absence again");
    assert_eq!(world.wait(10 * SECOND), ["sign 3"]);
    world.wait(60 * SECOND);
    assert_eq!(world.notices.iter().filter(|notice| **notice == lost).count(), 1);
    let fourth = next_note(&third, |draft| {
        draft.parties[2..4].iter_mut().for_each(|party| party.status = Status::Active);
    });
    world.input(Input::RosterOffered { note: fourth });
    let conns = [MOD, IDN, MYS].map(|desk| open(&mut world, desk));
    cosign(&mut world, conns[1], IDN);
    assert_eq!(cosign(&mut world, conns[2], MYS)[0], "publish 3 signed by 3");
    assert_eq!(world.notices.last(), Some(&Notice::Witnessed));
}

#[test]
fn a_relay_with_a_new_log_key_goes_on_from_what_the_earlier_one_signed() {
    let mut world = unwitnessed();
    world.wait(SECOND);
    let signed = checkpoint_note(1, merkle::root(&world.leaves(1)));
    world.input(Input::RosterOffered { note: with_another_log_key(&first_note()) });
    assert_eq!(world.exchange.roster().unwrap().version(), 2);
    let mut world = world.restart();
    world.exchange.keep_log(Some(signed.clone()), Some(signed)).unwrap();
}

/// Desks hold the newer roster by then: to them it would be a checkpoint that nobody of the log has signed.
#[test]
fn what_a_replaced_log_key_signed_is_neither_shown_nor_asked_for() {
    let mut world = witnessed();
    let signed = checkpoint_note(2, merkle::root(&world.leaves(2)));
    let second = world.exchange.roster_notes().last().unwrap().1;
    world.input(Input::RosterOffered { note: with_another_log_key(&second) });
    let hears_nothing = |world: &mut World| {
        for desk in [IDN, MYS] {
            let conn = world.connect(desk);
            world.hello(conn, pb::Hello { roster_version: 3, ..desk.hello() });
            let frames = world.sent.iter().filter(|(to, _)| *to == conn).map(|(_, frame)| frame);
            let heard: Vec<_> = frames.collect();
            assert!(
                heard.iter().any(
                    |frame| matches!(frame, Outbound::Welcome(welcome) if welcome.checkpoint.is_empty())
                )
            );
            let of_log =
                |frame: &&&Outbound| matches!(frame, Outbound::Checkpoint(_) | Outbound::AddCheckpoint(_));
            assert_eq!(heard.iter().filter(of_log).count(), 0, "{desk:?}");
        }
    };
    hears_nothing(&mut world);
    let mut world = world.restart();
    world.exchange.keep_log(Some(signed.clone()), Some(signed)).unwrap();
    hears_nothing(&mut world);
}

/// The new key lay in its place before the roster came that lists it.
#[test]
fn what_a_key_signed_that_no_roster_lists_yet_is_passed_over_at_a_start() {
    let mut world = witnessed();
    let published = checkpoint_note(2, merkle::root(&world.leaves(2)));
    let unlisted = String::from_utf8(published.to_vec()).unwrap();
    let (text, _) = unlisted.split_once("\n\n").unwrap();
    let line = signature_line("bloc.example/log", KeyId([1; 4]), &[0; 64]);
    let unlisted = Bytes::from(format!("{text}\n\n{line}"));
    world = world.restart();
    world.exchange.keep_log(Some(unlisted), Some(published.clone())).unwrap();
    let conn = world.connect(IDN);
    let hello = pb::Hello { checkpoint: published, roster_version: 2, ..IDN.hello() };
    world.say(conn, Kind::Hello(IDN.signed_hello(hello, exporter(conn))));
    assert!(world.told(conn).iter().any(|line| line.starts_with("Welcome")), "its claim can be looked at");
}

#[test]
fn one_file_of_the_log_is_fetched_at_a_time() {
    let mut world = unwitnessed();
    let idn = world.open(IDN);
    let fetch = |request| Kind::Fetch(pb::Fetch { request, name: "tile/0/000.p/3".to_owned() });
    assert_eq!(
        world.say(idn, fetch(7)),
        ["IDN fetches tile/0/000.p/3", "IDN < Fetched 7, 0 to 14 of 14 bytes"]
    );
    assert_eq!(world.say(idn, fetch(7)).len(), 2, "the next, whatever its number");
    let long = Kind::Fetch(pb::Fetch { request: 8, name: "x".repeat(65) });
    assert_eq!(world.say(idn, long), ["IDN < Goodbye Protocol", "IDN closed"]);
}

#[test]
fn a_restarted_relay_goes_on_from_what_it_had_signed_and_published() {
    let mut world = witnessed();
    let signed = checkpoint_note(2, merkle::root(&world.leaves(2)));
    world = world.restart();
    world.exchange.keep_log(Some(signed.clone()), Some(signed)).unwrap();
    let idn = open(&mut world, IDN);
    let told = world.told(idn);
    assert!(told.contains(&"Checkpoint 2 signed by 1".to_owned()), "what was published: {told:?}");
    assert!(told.contains(&"AddCheckpoint 2 signed by 1 from 0".to_owned()), "what was signed: {told:?}");
    let foreign = Bytes::from_static(b"no note");
    assert!(world.restart().exchange.keep_log(Some(foreign), None).is_err());
}

#[test]
fn an_exchange_without_a_log_carries_traffic_and_signs_nothing() {
    let mut world = unwitnessed();
    world.exchange.leave_out_log();
    assert!(!world.exchange.keeps_log());
    let conn = world.open(MOD);
    let (before, root) = (world.exchange.tree().size(), world.exchange.tree().root());
    let accepted = world.submit(conn, &MOD.core(1, &[IDN]));
    assert!(accepted.iter().any(|line| line.contains("Accepted")), "{accepted:?}");
    let later = world.wait(60 * SECOND);
    assert!(!later.iter().any(|line| line.contains("sign")), "{later:?}");
    assert_eq!(world.exchange.tree().size(), before + 1);
    assert_ne!(world.exchange.tree().root(), root);
}
