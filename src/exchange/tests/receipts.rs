//! Stored frames and their numbers, what they settle, and how receipts reach the sender.

use super::{
    desk::{IDN, MOD, MYS, PHL, checkpoint_note_of, hash_of},
    world::World,
};
use crate::{
    exchange::{ConnId, Input, Room},
    limits::Limits,
    merkle::{Hash, sha256},
    wire::{
        EnvelopeHash, Position,
        pb::{self, frame::Kind},
        receipt::{ReceiptItem, ReceiptKind},
    },
};

/// IDN and MYS in session, and IDN's envelopes 1 to 3 delivered to MYS at 3 to 5.
fn delivered() -> (World, ConnId, ConnId) {
    let mut world = World::new();
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    for number in 1..=3 {
        world.submit(idn, &IDN.core(number, &[MYS]));
    }
    (world, idn, mys)
}

/// Name and place of one of these three.
fn envelope(number: u64) -> (EnvelopeHash, Position) {
    (hash_of(&IDN.submit(&IDN.core(number, &[MYS]))), Position(number + 2))
}

fn receipt(kind: ReceiptKind, numbers: &[u64]) -> ReceiptItem {
    let envelopes: Vec<_> = numbers.iter().map(|number| envelope(*number)).collect();
    MYS.receipt(kind, IDN, &envelopes)
}

fn stored(number: u64, items: &[ReceiptItem]) -> Kind {
    Kind::Stored(MYS.stored(number, items))
}

const PROTOCOL: [&str; 2] = ["MYS < Goodbye Protocol", "MYS closed"];

#[test]
fn a_receipt_settles_is_answered_and_goes_to_the_sender_once_durable() {
    let (mut world, _, mys) = delivered();
    world.holds_sync = true;
    let items = [receipt(ReceiptKind::Delivered, &[1, 3]), receipt(ReceiptKind::SetAside, &[2])];
    assert_eq!(world.say(mys, stored(1, &items)), ["append receipts 1 of MYS"]);
    let told = [
        "MYS < StoredAt 1 at 6",
        "IDN < Receipt 6 delivered [3, 5] by MYS",
        "IDN < Receipt 6 set aside [4] by MYS",
    ];
    assert_eq!(world.sync(), told);
    world.close(mys);
    let mys = world.connect(MYS);
    assert_eq!(world.hello(mys, MYS.hello()), ["MYS < Welcome incarnation 1 roster 1 submitted 0 stored 1"]);
    assert_eq!(world.credit(mys, 9, 1 << 20), [""; 0], "nothing is left in its mailbox");
}

#[test]
fn read_and_acknowledged_go_to_the_sender_and_settle_nothing() {
    let (mut world, _, mys) = delivered();
    for (number, kind) in [(1, ReceiptKind::Read), (2, ReceiptKind::Acknowledged)] {
        let seen = world.say(mys, stored(number, &[receipt(kind, &[1])]));
        let told = format!("IDN < Receipt {} {} [3] by MYS", number + 5, kind.name());
        assert_eq!(seen[1..], [format!("MYS < StoredAt {number} at {}", number + 5), told]);
    }
    world.close(mys);
    let mys = world.open(MYS);
    assert_eq!(world.told(mys).len(), 4, "Welcome and three envelopes");
}

#[test]
fn a_repeated_stored_frame_is_answered_from_its_record_and_written_once() {
    let (mut world, _, mys) = delivered();
    let frame = stored(1, &[receipt(ReceiptKind::Delivered, &[1])]);
    world.holds_sync = true;
    assert_eq!(world.say(mys, frame.clone()), ["append receipts 1 of MYS"]);
    world.close(mys);
    let mys = world.open(MYS);
    assert_eq!(world.say(mys, frame.clone()), [""; 0], "it is being written");
    world.holds_sync = false;
    assert_eq!(world.sync(), ["MYS < StoredAt 1 at 6", "IDN < Receipt 6 delivered [3] by MYS"]);
    assert_eq!(world.say(mys, frame.clone()), ["MYS < StoredAt 1 at 6"]);
    let mut world = world.restart();
    let mys = world.open(MYS);
    assert_eq!(world.say(mys, frame), ["MYS < StoredAt 1 at 6"]);
}

#[test]
fn a_number_used_for_other_receipts_ends_the_session_before_and_after_its_record() {
    for holds_sync in [true, false] {
        let (mut world, _, mys) = delivered();
        world.holds_sync = holds_sync;
        world.say(mys, stored(1, &[receipt(ReceiptKind::Delivered, &[1])]));
        assert_eq!(world.say(mys, stored(1, &[receipt(ReceiptKind::Delivered, &[2])])), PROTOCOL);
    }
}

#[test]
fn numbers_of_stored_frames_are_dense() {
    for number in [0, 2, u64::MAX] {
        let (mut world, _, mys) = delivered();
        assert_eq!(world.say(mys, stored(number, &[receipt(ReceiptKind::Delivered, &[1])])), PROTOCOL);
    }
    let (mut world, _, mys) = delivered();
    world.holds_sync = true;
    world.say(mys, stored(1, &[receipt(ReceiptKind::Delivered, &[1])]));
    let next = world.say(mys, stored(2, &[receipt(ReceiptKind::Delivered, &[2])]));
    assert_eq!(next, ["append receipts 2 of MYS"], "also while the one before is being written");
    assert_eq!(world.say(mys, stored(4, &[receipt(ReceiptKind::Delivered, &[3])])), PROTOCOL);
}

#[test]
fn settling_what_is_already_settled_is_no_error() {
    let (mut world, _, mys) = delivered();
    world.say(mys, stored(1, &[receipt(ReceiptKind::Delivered, &[1])]));
    let again = world.say(mys, stored(2, &[receipt(ReceiptKind::Delivered, &[1])]));
    assert_eq!(again[1], "MYS < StoredAt 2 at 7");
}

#[test]
fn settling_what_is_not_ones_own_or_does_not_exist_ends_the_session() {
    let mut other_hash = receipt(ReceiptKind::Delivered, &[1]);
    other_hash.envelopes[0].0 = EnvelopeHash(Hash::ZERO);
    let mut other_sender = receipt(ReceiptKind::Delivered, &[1]);
    other_sender.sender = PHL.number;
    let mut future = receipt(ReceiptKind::Delivered, &[1]);
    future.envelopes[0].1 = Position(6);
    let mut nowhere = receipt(ReceiptKind::SetAside, &[1]);
    nowhere.envelopes[0].1 = Position::NONE;
    for item in [other_hash, other_sender, future, nowhere] {
        let (mut world, _, mys) = delivered();
        let good = receipt(ReceiptKind::Delivered, &[2]);
        assert_eq!(
            world.say(mys, stored(1, &[good, item])),
            PROTOCOL,
            "the frame stands or falls as a whole"
        );
        assert_eq!(world.durable.len(), 6);
    }
    let (mut world, _, _) = delivered();
    let phl = world.open(PHL);
    let item = PHL.receipt(ReceiptKind::Delivered, IDN, &[envelope(1)]);
    let seen = world.say(phl, Kind::Stored(PHL.stored(1, &[item])));
    assert_eq!(seen, ["PHL < Goodbye Protocol", "PHL closed"]);
}

#[test]
fn a_desk_may_only_speak_of_its_own_steps() {
    let from = |change: fn(&mut ReceiptItem)| {
        let mut item = receipt(ReceiptKind::Read, &[1]);
        change(&mut item);
        item
    };
    let items = [
        from(|item| item.receiptor = MOD.number),
        from(|item| item.addressee = MOD.number),
        from(|item| item.kind = ReceiptKind::Withdrawn),
        from(|item| item.kind = ReceiptKind::Refused),
        from(|item| item.kind = ReceiptKind::Expired),
        from(|item| item.sender = crate::roster::PartyNumber(77)),
    ];
    for item in items {
        let (mut world, _, mys) = delivered();
        assert_eq!(world.say(mys, stored(1, std::slice::from_ref(&item))), PROTOCOL, "{item:?}");
    }
}

#[test]
fn receipts_with_another_signature_end_the_session() {
    let (mut world, _, mys) = delivered();
    let forged = IDN.stored(1, &[receipt(ReceiptKind::Delivered, &[1])]);
    assert_eq!(world.say(mys, Kind::Stored(forged)), PROTOCOL);
}

/// FAULTS 10: receipts.
#[test]
fn receipts_are_taken_when_the_journal_has_room_for_nothing_else() {
    let (mut world, _, mys) = delivered();
    world.input(Input::Room(Room::ReceiptsOnly));
    let seen = world.say(mys, stored(1, &[receipt(ReceiptKind::Delivered, &[1])]));
    assert_eq!(seen[0], "append receipts 1 of MYS");
}

/// What IDN is sent in a short session, after Welcome.
fn sent_to_idn(world: &mut World, confirmed: u64) -> Vec<String> {
    let conn = world.connect(IDN);
    let seen = world.hello(conn, pb::Hello { confirmed, ..IDN.hello() });
    world.close(conn);
    seen[1..].to_vec()
}

#[test]
fn receipts_come_again_until_they_are_confirmed() {
    let (mut world, idn, mys) = delivered();
    world.say(mys, stored(1, &[receipt(ReceiptKind::Delivered, &[1])]));
    world.say(mys, stored(2, &[receipt(ReceiptKind::Delivered, &[2])]));
    let (first, second) = ("IDN < Receipt 6 delivered [3] by MYS", "IDN < Receipt 7 delivered [4] by MYS");
    world.close(idn);
    let idn = world.connect(IDN);
    assert_eq!(world.hello(idn, IDN.hello())[1..], [first, second]);
    assert_eq!(world.say(idn, Kind::Confirm(pb::Confirm { position: 6 })), [""; 0]);
    world.close(idn);
    assert_eq!(sent_to_idn(&mut world, 0), [second]);
    assert_eq!(sent_to_idn(&mut world, 8), [""; 0], "Hello says it, too");
    let mut world = world.restart();
    let again = ["load 6", "load 7", first, second];
    assert_eq!(sent_to_idn(&mut world, 0), again, "a Confirm is no record");
    assert_eq!(sent_to_idn(&mut world, 7), [second]);
    assert_eq!(sent_to_idn(&mut world, 99), [second], "of a log that this one is not");
}

#[test]
fn what_a_hello_confirms_of_another_log_counts_for_nothing() {
    let (mut world, idn, mys) = delivered();
    world.say(mys, stored(1, &[receipt(ReceiptKind::Delivered, &[1])]));
    world.close(idn);
    let first = "IDN < Receipt 6 delivered [3] by MYS";
    let ended = checkpoint_note_of("bloc.example/log-0", 9, sha256(b"the log before"));
    let of_another = [
        ("checkpoint", pb::Hello { confirmed: 7, checkpoint: ended, ..IDN.hello() }),
        ("roster", pb::Hello { confirmed: 7, roster_version: 0, ..IDN.hello() }),
    ];
    for (what, hello) in of_another {
        let conn = world.connect(IDN);
        let seen = world.hello(conn, hello);
        assert!(seen.iter().any(|line| line == first), "{what}: {seen:?}");
        world.close(conn);
    }
    assert_eq!(sent_to_idn(&mut world, 7), [""; 0], "of this log it counts");
}

#[test]
fn confirming_a_position_that_does_not_exist_ends_the_session() {
    let (mut world, idn, _) = delivered();
    let seen = world.say(idn, Kind::Confirm(pb::Confirm { position: 6 }));
    assert_eq!(seen, ["IDN < Goodbye Protocol", "IDN closed"]);
}

#[test]
fn receipts_in_flight_are_bounded_until_they_are_confirmed() {
    let mut world = World::with_limits(Limits { receipts_in_flight_max: 2, ..Limits::DEFAULT });
    let (idn, mys) = (world.open(IDN), world.open(MYS));
    for number in 1..=3 {
        world.submit(idn, &IDN.core(number, &[MYS]));
        world.say(mys, stored(number, &[MYS.receipt(ReceiptKind::Read, IDN, &[envelope(number)])]));
    }
    let receipts = |world: &World| world.told(idn).iter().filter(|line| line.contains("Receipt")).count();
    assert_eq!(receipts(&world), 2);
    let more = world.say(idn, Kind::Confirm(pb::Confirm { position: 4 }));
    assert_eq!(more, ["IDN < Receipt 8 read [5] by MYS"]);
}
