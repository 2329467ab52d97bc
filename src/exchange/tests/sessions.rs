//! Hello and Welcome, incarnations, take-overs, deadlines, the last word.

use std::time::Duration;

use super::{
    desk::{IDN, MOD, MYS, STRANGER, first_note},
    world::World,
};
use crate::{
    exchange::{ConnId, Input, Notice},
    limits::Limits,
    record::administrative::{Act, AdministrativeLeaf},
    roster::Status,
    session::outbound::Outbound,
    wire::pb::{self, GoodbyeCode, frame::Kind},
};

const SECOND: Duration = Duration::from_secs(1);

fn hello_of(incarnation: u32, store: u8) -> pb::Hello {
    pb::Hello { incarnation, store_id: vec![store; 16].into(), ..IDN.hello() }
}

/// What IDN's Hello comes to on a new connection.
fn greeted(world: &mut World, hello: pb::Hello) -> Vec<String> {
    let conn = world.connect(IDN);
    world.hello(conn, hello)
}

#[test]
fn a_first_contact_is_a_record_before_welcome_and_a_second_needs_none() {
    let mut world = World::new();
    world.holds_sync = true;
    let idn = world.connect(IDN);
    assert_eq!(world.hello(idn, IDN.hello()), ["append incarnation 1 of IDN"]);
    let welcome = "IDN < Welcome incarnation 1 roster 1 submitted 0 stored 0";
    assert_eq!(world.sync(), [welcome]);
    assert_eq!(world.notices.last(), Some(&Notice::SessionOpened { conn: idn, party: IDN.number }));
    world.close(idn);
    assert_eq!(greeted(&mut world, IDN.hello()), [welcome]);
}

#[test]
fn welcome_says_time_window_and_the_last_numbers_of_the_party() {
    let mut world = World::new();
    let idn = world.open(IDN);
    world.submit(idn, &IDN.core(7, &[MYS]));
    world.close(idn);
    world.wait(SECOND);
    greeted(&mut world, IDN.hello());
    let Outbound::Welcome(welcome) = world.last_sent() else { panic!("Welcome") };
    assert_eq!((welcome.last_accepted.0, welcome.last_stored), (7, 0));
    assert_eq!(welcome.time_us, world.now.wall_us);
    assert_eq!((welcome.credit.envelopes, welcome.credit.bytes), (8, 65_536));
    assert_eq!(welcome.roster_hash, crate::merkle::sha256(&first_note()));
}

#[test]
fn a_higher_incarnation_is_a_record_and_a_lower_one_is_told_the_current() {
    let mut world = World::new();
    world.open(IDN);
    let raised = greeted(&mut world, hello_of(3, 44));
    let welcome = "IDN < Welcome incarnation 3 roster 1 submitted 0 stored 0";
    assert_eq!(raised[2..], ["append incarnation 3 of IDN", welcome]);
    let old = ["IDN < Goodbye IncarnationOld 3", "IDN closed"];
    assert_eq!(greeted(&mut world, hello_of(2, 44)), old, "lower");
    assert_eq!(greeted(&mut world, hello_of(3, 45)), old, "the same with another store");
    let mut world = world.restart();
    assert_eq!(greeted(&mut world, hello_of(3, 45)), old, "after a restart too");
    assert_eq!(greeted(&mut world, hello_of(3, 44)), [welcome]);
}

#[test]
fn an_incarnation_that_is_being_written_counts_already() {
    let mut world = World::new();
    world.holds_sync = true;
    assert_eq!(greeted(&mut world, hello_of(3, 44)), ["append incarnation 3 of IDN"]);
    let old = ["IDN < Goodbye IncarnationOld 3", "IDN closed"];
    assert_eq!(greeted(&mut world, hello_of(2, 44)), old);
    assert_eq!(greeted(&mut world, hello_of(3, 45)), old);
    let taken_over = ["IDN < Goodbye TakenOver", "IDN closed"];
    assert_eq!(greeted(&mut world, hello_of(3, 44)), taken_over, "no second record for the same");
    world.now.mono += 10 * SECOND;
    assert_eq!(greeted(&mut world, hello_of(4, 44)), taken_over);
    assert_eq!(world.sync(), ["append incarnation 4 of IDN"], "and no Welcome for the one before");
    assert_eq!(world.sync(), ["IDN < Welcome incarnation 4 roster 1 submitted 0 stored 0"]);
}

/// FAULTS 51: the newest wins.
#[test]
fn a_newer_session_takes_over_and_the_older_is_told() {
    let mut world = World::new();
    let hub = world.open(MOD);
    let older = world.open(IDN);
    let newer = world.connect(IDN);
    let seen = world.hello(newer, IDN.hello());
    let welcome = "IDN < Welcome incarnation 1 roster 1 submitted 0 stored 0";
    assert_eq!(seen, ["IDN < Goodbye TakenOver", "IDN closed", welcome]);
    assert_eq!(world.told(older).last().map(String::as_str), Some("Goodbye TakenOver"));
    let closed = world.notices.iter().find(|notice| matches!(notice, Notice::SessionClosed { .. }));
    assert!(
        matches!(closed, Some(Notice::SessionClosed { conn, code: GoodbyeCode::TakenOver, .. }) if *conn == older)
    );
    world.submit(hub, &MOD.core(1, &[IDN]));
    assert_eq!(world.close(older), [""; 0], "a late close of the older one");
    assert_eq!(world.credit(newer, 9, 1 << 20), ["IDN < Deliver 3 \"text 1\" 0"]);
}

#[test]
fn a_third_session_within_ten_seconds_comes_too_soon_and_the_second_stays() {
    let mut world = World::new();
    world.open(IDN);
    world.open(IDN);
    assert_eq!(greeted(&mut world, IDN.hello()), ["IDN < Goodbye TakeOverSoon", "IDN closed"]);
    world.now.mono += 10 * SECOND;
    assert_eq!(greeted(&mut world, IDN.hello())[0], "IDN < Goodbye TakenOver");
}

/// FAULTS 51.
#[test]
fn two_boxes_that_take_turns_are_told_apart_recorded_and_shown_to_party_and_hub() {
    let mut world = World::new();
    world.open(MOD);
    let of_box = |byte: u8| pb::Hello { instance: vec![byte; 16].into(), ..IDN.hello() };
    for (byte, others) in [(1, false), (2, true), (1, true)] {
        let seen = greeted(&mut world, of_box(byte));
        assert!(seen.last().is_some_and(|line| line.contains("Welcome")), "{seen:?}");
        assert_eq!(seen[0] == "IDN < Goodbye TakenOver", others, "the older is told: {seen:?}");
        world.now.mono += 10 * SECOND;
    }
    let expected = [
        "IDN < Goodbye Cloned",
        "IDN closed",
        "append clones of IDN",
        "IDN < clones of IDN at 3",
        "MOD < clones of IDN at 3",
    ];
    assert_eq!(greeted(&mut world, of_box(2)), expected);
    let leaf = AdministrativeLeaf::decode(&world.durable.last().unwrap().leaf).unwrap();
    let both = Act::Cloned { party: IDN.number, stays: [1; 16], refused: [2; 16] };
    assert_eq!(leaf.act, both, "the log names both boxes");
    assert!(world.notices.contains(&Notice::Cloned { party: IDN.number }));
    world.now.mono += 590 * SECOND;
    assert_eq!(greeted(&mut world, of_box(2)), expected[..2], "said once, refused for ten minutes");
    assert!(
        greeted(&mut world, of_box(1)).last().is_some_and(|line| line.contains("Welcome")),
        "its own line broke"
    );
    world.restart();
}

/// FAULTS 69: revoked before the session, and again after it.
#[test]
fn a_stranger_and_a_revoked_certificate_are_closed_with_a_reason() {
    let mut world = World::new();
    let stranger = world.connect(STRANGER);
    let seen = world.hello(stranger, STRANGER.hello());
    assert_eq!(seen, ["STRANGER < Goodbye NotInRoster", "STRANGER closed"]);
    let note =
        super::desk::next_note(&first_note(), |draft| draft.parties[2].revoked_serials = vec!["7f".into()]);
    let (old, _) = world.connect_telling(IDN, "7f");
    let seen = world.input(Input::RosterOffered { note });
    let closed = ["append roster 2", "roster 2 in force", "IDN < Goodbye Suspended", "IDN closed"];
    assert_eq!(seen, closed, "at once, before its Hello");
    let (again, _) = world.connect_telling(IDN, "7f");
    assert_eq!(world.hello(again, IDN.hello()), ["IDN < Goodbye Suspended", "IDN closed"]);
    assert_ne!(old, again);
    world.open(IDN);
}

/// Promise 10 and FAULTS 69: the step that makes a roster durable closes what it no longer admits, and no time goes by.
#[test]
fn a_serial_revoked_in_mid_session_ends_it_in_the_step_that_makes_the_roster_durable() {
    let mut world = World::new();
    let (idn, serial) = (world.connect_telling(IDN, "7f").0, vec!["7f".into()]);
    world.hello(idn, IDN.hello());
    let note = super::desk::next_note(&first_note(), |draft| draft.parties[2].revoked_serials = serial);
    world.holds_sync = true;
    assert_eq!(world.input(Input::RosterOffered { note }), ["append roster 2"]);
    assert_eq!(world.say(idn, Kind::Ping(pb::Ping { token: 1 })).len(), 1, "until then it goes on");
    assert_eq!(world.sync(), ["roster 2 in force", "IDN < Goodbye Suspended", "IDN closed"]);
    assert_eq!(world.say(idn, Kind::Ping(pb::Ping { token: 2 })), [""; 0], "and nothing after it");
}

#[test]
fn without_a_roster_the_relay_is_not_ready() {
    let mut world = World::empty(Limits::DEFAULT);
    assert_eq!(greeted(&mut world, IDN.hello()), ["IDN < Goodbye NotReady", "IDN closed"]);
}

#[test]
fn a_hello_that_is_not_believed_is_told_why() {
    let mut world = World::new();
    let conn = world.connect(IDN);
    let forged = MYS.signed_hello(IDN.hello(), super::world::exporter(conn));
    assert_eq!(world.say(conn, Kind::Hello(forged)), ["IDN < Goodbye BadSignature", "IDN closed"]);
    let conn = world.connect(IDN);
    let elsewhere = IDN.signed_hello(IDN.hello(), super::world::exporter(ConnId(99)));
    assert_eq!(
        world.say(conn, Kind::Hello(elsewhere)),
        ["IDN < Goodbye BadSignature", "IDN closed"],
        "of another TLS session"
    );
    let later = pb::Hello { protocol: 2, ..IDN.hello() };
    assert_eq!(greeted(&mut world, later), ["IDN < Goodbye Version", "IDN closed"]);
    let unbound = pb::Hello { incarnation: 0, ..IDN.hello() };
    assert_eq!(greeted(&mut world, unbound), ["IDN < Goodbye Protocol", "IDN closed"]);
}

#[test]
fn a_frame_before_hello_a_second_hello_and_a_relays_frame_end_the_session() {
    let goodbye = ["IDN < Goodbye Protocol", "IDN closed"];
    let mut world = World::new();
    let conn = world.connect(IDN);
    assert_eq!(world.say(conn, Kind::Ping(pb::Ping { token: 1 })), goodbye);
    let conn = world.open(IDN);
    assert_eq!(world.hello(conn, IDN.hello()), goodbye);
    let conn = world.open(IDN);
    assert_eq!(world.say(conn, Kind::Deferred(pb::Deferred::default())), goodbye);
    world.holds_sync = true;
    let conn = world.connect(MYS);
    world.hello(conn, MYS.hello());
    let early = world.submit(conn, &MYS.core(1, &[IDN]));
    assert_eq!(early, ["MYS < Goodbye Protocol", "MYS closed"], "before Welcome");
    assert_eq!(world.sync(), [""; 0], "nobody is left to welcome");
}

#[test]
fn what_a_closed_connection_still_says_is_ignored() {
    let mut world = World::new();
    let conn = world.open(IDN);
    assert_eq!(world.say(conn, Kind::Goodbye(pb::Goodbye::default())), ["IDN closed"]);
    assert_eq!(world.submit(conn, &IDN.core(1, &[MYS])), [""; 0]);
    assert_eq!(world.input(Input::Written { conn, bytes: 9 }), [""; 0]);
}

#[test]
fn a_connection_without_hello_is_closed_after_its_deadline() {
    let mut world = World::new();
    world.connect(IDN);
    assert_eq!(world.wait(4 * SECOND), [""; 0]);
    assert_eq!(world.wait(SECOND), ["IDN < Goodbye Silent", "IDN closed"]);
}

#[test]
fn a_silent_session_is_pinged_every_ten_seconds_and_closed_after_twenty_five() {
    let mut world = World::new();
    world.open(IDN);
    let mut seen = Vec::new();
    for second in 1..=25 {
        let told = world.wait(SECOND);
        seen.extend(told.into_iter().map(|line| format!("{second} {line}")));
    }
    let expected = ["10 IDN < Ping", "20 IDN < Ping", "25 IDN < Goodbye Silent", "25 IDN closed"];
    assert_eq!(seen, expected);
}

#[test]
fn any_received_byte_is_life_and_pings_are_answered() {
    let mut world = World::new();
    let conn = world.open(IDN);
    for _ in 0..10 {
        world.wait(9 * SECOND);
        assert_eq!(world.say(conn, Kind::Ping(pb::Ping { token: 7 })), ["IDN < Pong 7"]);
    }
}

/// The desk hears nothing else meanwhile.
#[test]
fn a_desk_whose_frame_is_long_under_way_is_pinged_every_ten_seconds() {
    let mut world = World::new();
    let conn = world.open(IDN);
    for second in 1..=60 {
        let pinged: &[&str] = if second % 10 == 0 { &["IDN < Ping"] } else { &[] };
        assert_eq!(world.wait(SECOND), pinged, "{second}");
        assert_eq!(world.input(Input::Heard { conn }), [""; 0]);
    }
}

/// While the disk hangs, the edge takes nothing from the desks.
#[test]
fn desks_from_which_nothing_is_taken_are_not_silent() {
    let mut world = World::new();
    world.open(IDN);
    for _ in 0..60 {
        world.exchange.hear_all(world.now);
        let told = world.wait(SECOND);
        assert!(told.iter().all(|line| line == "IDN < Ping"), "{told:?}");
    }
}

#[test]
fn a_stop_says_goodbye_to_all_refuses_the_next_and_is_logged() {
    let mut world = World::new();
    assert_eq!(world.input(Input::Started { software: "pouch 1".into() }), ["append start of pouch 1"]);
    world.open(IDN);
    world.open(MOD);
    let told =
        ["IDN < Goodbye Shutdown", "IDN closed", "MOD < Goodbye Shutdown", "MOD closed", "append stop"];
    assert_eq!(world.input(Input::Stopping), told);
    assert!(world.exchange.is_idle());
    let (_, late) = world.connect_telling(MYS, "0a");
    assert_eq!(late, ["MYS < Goodbye Shutdown", "MYS closed"]);
}

/// FAULTS 17: desks see no Accepted and get no credit back, and their sessions live.
#[test]
fn while_a_sync_takes_long_pings_go_both_ways_and_the_window_holds_the_sender_back() {
    let limits = Limits { window_envelopes_min: 2, ..Limits::DEFAULT };
    let (ping_every, silence_max) = (limits.ping_every, limits.silence_max);
    let mut world = World::with_limits(limits);
    let idn = world.open(IDN);
    world.holds_sync = true;
    for number in 1..=2 {
        let seen = world.submit(idn, &IDN.core(number, &[MYS]));
        assert_eq!(seen, [format!("append envelope {number} of IDN")]);
    }
    let mut waited = Duration::ZERO;
    while waited < silence_max * 2 {
        waited += ping_every;
        assert_eq!(world.wait(ping_every), ["IDN < Ping"]);
        assert_eq!(world.say(idn, Kind::Pong(pb::Pong::default())), [""; 0]);
        assert_eq!(world.say(idn, Kind::Ping(pb::Ping { token: 7 })), ["IDN < Pong 7"]);
    }
    let seen = world.sync_all();
    let accepted = |line: &&String| line.contains("Accepted");
    assert_eq!(seen.iter().filter(accepted).count(), 2, "{seen:?}");
}

#[test]
fn a_suspended_party_is_refused_until_the_roster_lifts_it() {
    let mut world = World::new();
    let suspended =
        super::desk::next_note(&first_note(), |draft| draft.parties[2].status = Status::Suspended);
    world.open(IDN);
    let seen = world.input(Input::RosterOffered { note: suspended.clone() });
    let expected = ["append roster 2", "roster 2 in force", "IDN < Goodbye Suspended", "IDN closed"];
    assert_eq!(seen, expected);
    let goodbye = ["IDN < Goodbye Suspended", "IDN closed"];
    assert_eq!(greeted(&mut world, IDN.hello()), goodbye);
    let mut world = world.restart();
    assert_eq!(greeted(&mut world, IDN.hello()), goodbye);
    let lifted = super::desk::next_note(&suspended, |draft| draft.parties[2].status = Status::Active);
    world.input(Input::RosterOffered { note: lifted });
    world.open(IDN);
}

#[test]
fn a_desk_that_says_the_log_is_behind_is_told_to_the_operator_once_its_session_is_open() {
    let code = GoodbyeCode::LogBehind as u32;
    let goodbye = || Kind::Goodbye(pb::Goodbye { code, ..pb::Goodbye::default() });
    let mut world = World::new();
    let conn = world.connect(IDN);
    assert_eq!(world.say(conn, goodbye()), ["IDN closed"]);
    assert!(!world.notices.iter().any(|notice| matches!(notice, Notice::LogBehind { .. })));
    let conn = world.open(IDN);
    assert_eq!(world.say(conn, goodbye()), ["IDN closed"]);
    assert!(world.notices.contains(&Notice::LogBehind { party: IDN.number }));
}
