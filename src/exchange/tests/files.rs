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
