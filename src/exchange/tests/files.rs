//! Files of the audit log that desks fetch: what overtakes them, how often one may ask, and what they hold.

use std::time::Duration;

use bytes::Bytes;

use super::{
    desk::{Desk, IDN, MYS, PHL},
    world::World,
};
use crate::{
    exchange::{ConnId, Input},
    limits::{LOG_BUNDLE_BYTES_MAX, Limits},
    session::outbound::Outbound,
    wire::{
        Precedence,
        envelope::Core,
        pb::{self, frame::Kind},
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// A relay that keeps a log, and reads its files when a test says so.
fn keeping(limits: Limits) -> World {
    let mut world = World::keeping_log(limits);
    world.holds_files = true;
    world
}

fn fetch(world: &mut World, conn: ConnId, request: u64) -> Vec<String> {
    world.say(conn, Kind::Fetch(pb::Fetch { request, name: "tile/0/000".to_owned() }))
}

/// A file of so many bytes was read.
fn read(world: &mut World, conn: ConnId, request: u64, bytes: usize) -> Vec<String> {
    world.input(Input::Fetched { conn, request, bytes: Some(Bytes::from(vec![7; bytes])) })
}

fn submit(world: &mut World, from: (ConnId, Desk), number: u64, precedence: Precedence) {
    let core = Core { precedence_action: precedence, ..from.1.core(number, &[MYS]) };
    world.submit(from.0, &core);
}

/// The same once its first checkpoint is published, so that nothing else happens in a few seconds.
fn quiet(limits: Limits) -> (World, ConnId, ConnId) {
    let mut world = keeping(limits);
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    world.wait(SECOND);
    (world, idn, mys)
}

/// Lets what was queued to a connection since `from` leave at once, on a line of 8 KiB a second.
fn leave(world: &mut World, conn: ConnId, from: usize) -> Vec<String> {
    let sent = world.sent[from..].iter().filter(|(to, _)| *to == conn);
    let bytes: usize = sent.map(|(_, frame)| frame.bytes()).sum();
    world.now.mono += Duration::from_millis(bytes as u64 / 8);
    world.input(Input::Written { conn, bytes })
}

fn is_piece(frame: &Outbound) -> bool {
    matches!(frame, Outbound::Fetched { .. })
}

#[test]
fn a_flash_waits_for_one_piece_of_a_file_and_not_for_the_file() {
    let mut world = keeping(Limits::DEFAULT);
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    world.holds_writes = true;
    assert_eq!(fetch(&mut world, mys, 1), ["MYS fetches tile/0/000"]);
    let from = world.sent.len();
    assert_eq!(read(&mut world, mys, 1, 100_000), ["MYS < Fetched 1, 0 to 8192 of 100000 bytes"]);
    submit(&mut world, (idn, IDN), 1, Precedence::Routine);
    submit(&mut world, (idn, IDN), 2, Precedence::Flash);
    assert_eq!(
        leave(&mut world, mys, from),
        [
            "MYS < Deliver 4 \"text 2\" 0",
            "MYS < Deliver 3 \"text 1\" 0",
            "MYS < Fetched 1, 8192 to 16384 of 100000 bytes"
        ]
    );
}

#[test]
fn a_file_and_mail_that_is_no_flash_take_turns_until_both_are_through() {
    let mut world = keeping(Limits::DEFAULT);
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    world.holds_writes = true;
    fetch(&mut world, mys, 1);
    let mut from = world.sent.len();
    read(&mut world, mys, 1, 60_000);
    for number in 1..=80 {
        submit(&mut world, (idn, IDN), number, Precedence::Routine);
    }
    let mut turns = Vec::new();
    loop {
        let now = world.sent.len();
        leave(&mut world, mys, from);
        let sent: Vec<bool> =
            world.sent[now..].iter().filter(|(to, _)| *to == mys).map(|(_, frame)| is_piece(frame)).collect();
        if sent.is_empty() {
            break;
        }
        turns.push((
            sent.iter().filter(|piece| **piece).count(),
            sent.iter().filter(|piece| !**piece).count(),
        ));
        from = now;
    }
    let (pieces, mail): (Vec<usize>, Vec<usize>) = turns.iter().copied().unzip();
    assert_eq!(mail.iter().sum::<usize>(), 80);
    assert_eq!(pieces.iter().sum::<usize>(), 7, "beside the first");
    let both = turns.iter().position(|(_, mail)| *mail == 80).unwrap_or(turns.len());
    assert!(turns[..both].iter().all(|(pieces, _)| *pieces <= 2), "{turns:?}");
    // While both wait, neither waits for the end of the other.
    let first_half = &turns[..turns.len() / 2];
    assert!(first_half.iter().any(|(pieces, _)| *pieces > 0), "{turns:?}");
    assert!(first_half.iter().any(|(_, mail)| *mail > 0), "{turns:?}");
}

#[test]
fn a_party_that_asks_too_often_waits_for_its_turn_in_whatever_session() {
    let limits = Limits { files_per_party_burst: 3, file_per_party_every: SECOND, ..Limits::DEFAULT };
    let mut world = keeping(limits);
    world.holds_files = false;
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    for request in 1..=3 {
        assert_eq!(fetch(&mut world, idn, request).len(), 2, "asked and answered");
    }
    assert_eq!(fetch(&mut world, idn, 4), [""; 0]);
    assert_eq!(fetch(&mut world, mys, 1).len(), 2, "another party");
    world.close(idn);
    let idn = world.open(IDN);
    assert_eq!(fetch(&mut world, idn, 5), [""; 0]);
    let seen = world.wait(SECOND);
    assert!(seen.contains(&"IDN < Fetched 5, 0 to 10 of 10 bytes".to_owned()), "{seen:?}");
}

#[test]
fn files_that_have_not_left_are_bounded_over_all_sessions() {
    let limits = Limits { files_bytes_max: 2 * LOG_BUNDLE_BYTES_MAX, ..Limits::DEFAULT };
    let mut world = keeping(limits);
    let (idn, mys, phl) = (world.open(IDN), world.open(MYS), world.open(PHL));
    world.holds_writes = true;
    assert_eq!(fetch(&mut world, idn, 1), ["IDN fetches tile/0/000"]);
    assert_eq!(fetch(&mut world, mys, 1), ["MYS fetches tile/0/000"]);
    assert_eq!(fetch(&mut world, phl, 1), [""; 0], "two are being read");
    assert_eq!(world.close(mys), [""; 0], "what is being read counts until it has come");
    let seen = read(&mut world, mys, 1, 100);
    assert_eq!(seen, ["PHL fetches tile/0/000"], "nobody waits for it any more");
    let mys = world.open(MYS);
    assert_eq!(read(&mut world, idn, 1, 20_000), ["IDN < Fetched 1, 0 to 8192 of 20000 bytes"]);
    assert_eq!(fetch(&mut world, mys, 1), [""; 0], "some of it has not left");
    assert_eq!(world.close(idn), ["MYS fetches tile/0/000"]);
}

#[test]
fn a_file_that_leaves_too_slowly_gives_its_place_to_one_that_waits_and_goes_on_where_it_was() {
    let limits = Limits { files_bytes_max: LOG_BUNDLE_BYTES_MAX, ..Limits::DEFAULT };
    for (shrinks, goes_on) in
        [(0, "IDN < Fetched 1, 8192 to 16384 of 20000 bytes"), (1, "IDN < Goodbye NotReady")]
    {
        let (mut world, idn, mys) = quiet(limits.clone());
        world.holds_writes = true;
        fetch(&mut world, idn, 1);
        let from = world.sent.len();
        read(&mut world, idn, 1, 20_000);
        assert_eq!(world.wait(3 * SECOND), [""; 0], "nobody waits for its place");
        assert_eq!(fetch(&mut world, mys, 1), [""; 0]);
        assert_eq!(world.wait(SECOND), ["MYS fetches tile/0/000"]);
        leave(&mut world, idn, from);
        let seen = read(&mut world, mys, 1, 100);
        assert_eq!(seen, ["IDN fetches tile/0/000", "MYS < Fetched 1, 0 to 100 of 100 bytes"]);
        let seen = read(&mut world, idn, 1, 20_000 - shrinks);
        assert_eq!(seen[0], goes_on);
    }
}

#[test]
fn a_file_at_64_kbit_s_keeps_its_place() {
    let limits = Limits { files_bytes_max: LOG_BUNDLE_BYTES_MAX, ..Limits::DEFAULT };
    let (mut world, idn, mys) = quiet(limits);
    world.holds_writes = true;
    fetch(&mut world, idn, 1);
    let mut from = world.sent.len();
    read(&mut world, idn, 1, 20_000);
    fetch(&mut world, mys, 1);
    for end in [16_384, 20_000] {
        let now = world.sent.len();
        let seen = leave(&mut world, idn, from);
        assert_eq!(world.wait(Duration::ZERO), [""; 0]);
        assert!(seen.iter().any(|line| line.ends_with(&format!("to {end} of 20000 bytes"))), "{seen:?}");
        from = now;
    }
}

#[test]
fn leaves_that_cannot_be_read_are_not_told_to_be_absent_and_hold_up_nobody_else() {
    let limits = Limits { files_bytes_max: LOG_BUNDLE_BYTES_MAX, ..Limits::DEFAULT };
    let mut world = keeping(limits);
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    let bundle = Kind::Fetch(pb::Fetch { request: 1, name: "tile/entries/000.p/3".to_owned() });
    world.say(idn, bundle.clone());
    assert_eq!(fetch(&mut world, mys, 1), [""; 0]);
    let seen = world.input(Input::Unreadable { conn: idn, request: 1 });
    assert_eq!(seen, ["MYS fetches tile/0/000"], "and no answer to IDN");
    let seen = world.input(Input::Unreadable { conn: mys, request: 1 });
    assert_eq!(seen, ["MYS < Fetched 1, 0 to 0 of 0 bytes, absent"], "a tile that proofs want");
    let seen = world.submit(idn, &IDN.core(1, &[MYS]));
    assert!(seen.iter().any(|line| line.contains("Accepted")), "mail goes on: {seen:?}");
    assert_eq!(world.say(idn, bundle), ["IDN < Goodbye Protocol", "IDN closed"]);
}
