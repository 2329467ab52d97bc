//! Quotas of the roster, the rate of marks, and the refusals that say so.

use std::time::Duration;

use super::{
    desk::{IDN, MOD, MYS, PHL, START_US, first_note, hash_of, next_note},
    world::World,
};
use crate::{
    exchange::{ConnId, Input},
    limits::Limits,
    merkle::sha256,
    roster::Quotas,
    wire::{
        Position, Precedence,
        envelope::Core,
        pb::{self, frame::Kind},
        receipt::ReceiptKind,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// A relay whose roster, version 2, gives IDN these quotas, and IDN's session.
fn limited(quotas: Quotas) -> (World, ConnId, impl Fn(u64, Precedence) -> Core) {
    let mut world = World::new();
    let note = next_note(&first_note(), |draft| draft.parties[2].quotas = quotas);
    let hash = sha256(&note);
    world.input(Input::RosterOffered { note });
    let idn = world.open(IDN);
    let core = move |number, precedence| Core {
        precedence_action: precedence,
        roster_version: 2,
        roster_hash: hash,
        ..IDN.core(number, &[MYS])
    };
    (world, idn, core)
}

/// Whether an envelope was accepted, or the name of its refusal.
fn outcome(seen: &[String]) -> &str {
    let answer = seen.iter().find_map(|line| line.strip_prefix("IDN < ")).expect("an answer");
    let words: Vec<&str> = answer.split(' ').collect();
    match words[..] {
        ["Accepted", ..] => "Accepted",
        ["Refused", _, code, ..] => code,
        _ => panic!("{answer}"),
    }
}

#[test]
fn a_senders_quota_of_envelopes_is_for_any_minute() {
    let (mut world, idn, core) = limited(Quotas { envelopes_per_minute: Some(3), ..Quotas::default() });
    let mut outcomes = Vec::new();
    for number in 1..=5 {
        outcomes.push(outcome(&world.submit(idn, &core(number, Precedence::Routine))).to_owned());
    }
    assert_eq!(outcomes, ["Accepted", "Accepted", "Accepted", "Quota", "Quota"]);
    for _ in 0..12 {
        world.wait(5 * SECOND);
        world.say(idn, Kind::Pong(Default::default()));
    }
    world.wait(2 * SECOND);
    assert_eq!(outcome(&world.submit(idn, &core(6, Precedence::Routine))), "Accepted");
    let hub = world.open(MOD);
    assert!(
        world.submit(hub, &MOD.core(1, &[MYS]))[0].starts_with("append envelope"),
        "nobody else is bound"
    );
}

#[test]
fn flash_and_bytes_have_quotas_of_their_own() {
    let (mut world, idn, core) = limited(Quotas { flash_per_hour: Some(1), ..Quotas::default() });
    assert_eq!(outcome(&world.submit(idn, &core(1, Precedence::Flash))), "Accepted");
    assert_eq!(outcome(&world.submit(idn, &core(2, Precedence::Flash))), "Quota");
    assert_eq!(outcome(&world.submit(idn, &core(3, Precedence::Immediate))), "Accepted");
    let (mut world, idn, core) = limited(Quotas { bytes_per_hour: Some(1_200), ..Quotas::default() });
    for (number, expected) in [(1, "Accepted"), (2, "Accepted"), (3, "Quota")] {
        assert_eq!(
            outcome(&world.submit(idn, &core(number, Precedence::Routine))),
            expected,
            "500 bytes each"
        );
    }
    let (mut world, idn, core) = limited(Quotas { envelopes_per_minute: Some(0), ..Quotas::default() });
    assert_eq!(outcome(&world.submit(idn, &core(1, Precedence::Routine))), "Quota");
}

#[test]
fn an_addressees_quota_bounds_what_waits_in_its_mailbox() {
    let mut world = World::new();
    let note = next_note(&first_note(), |draft| {
        draft.parties[3].quotas = Quotas { mailbox_envelopes: Some(2), ..Quotas::default() };
    });
    let hash = sha256(&note);
    world.input(Input::RosterOffered { note });
    let idn = world.open(IDN);
    let core = |number| Core { roster_version: 2, roster_hash: hash, ..IDN.core(number, &[MYS]) };
    for (number, expected) in [(1, "Accepted"), (2, "Accepted"), (3, "MailboxFull")] {
        assert_eq!(outcome(&world.submit(idn, &core(number))), expected);
    }
}

/// FAULTS 65.
#[test]
fn an_addressee_away_for_weeks_fills_its_own_mailbox_alone_and_each_sender_is_told_and_gets_through_to_others()
 {
    const DAY: Duration = Duration::from_secs(86_400);
    let mut world = World::with_limits(Limits { mailbox_envelopes_max: 5, ..Limits::DEFAULT });
    let expires_s = START_US / 1_000_000 + 50 * 86_400;
    let outcomes: Vec<String> = (1..=21)
        .map(|number| {
            let idn = world.open(IDN);
            let seen = world.submit(idn, &Core { expires_s, ..IDN.core(number, &[MYS]) });
            world.close(idn);
            world.wait(DAY);
            outcome(&seen).to_owned()
        })
        .collect();
    assert!(outcomes[..5].iter().all(|outcome| outcome == "Accepted"), "{outcomes:?}");
    assert!(outcomes[5..].iter().all(|outcome| outcome == "MailboxFull"), "{outcomes:?}");
    let [idn, phl] = [IDN, PHL].map(|desk| world.open(desk));
    let seen = world.submit(idn, &Core { expires_s, ..IDN.core(22, &[PHL]) });
    assert!(seen.iter().any(|line| line.starts_with("PHL < Deliver")), "{seen:?}");
    let seen = world.submit(phl, &Core { expires_s, ..PHL.core(1, &[MYS]) });
    assert!(seen.iter().any(|line| line.contains("Refused 1 MailboxFull")), "{seen:?}");
    let mys = world.open(MYS);
    let told = world.told(mys);
    let came: Vec<&String> = told.iter().filter(|line| line.starts_with("Deliver")).collect();
    assert!(came.len() == 5 && came[0].contains("text 1") && came[4].contains("text 5"), "{told:?}");
}

#[test]
fn receipts_for_what_is_settled_already_are_taken_as_marks_and_have_their_rate() {
    let limits = Limits { marks_per_minute_max: 2, ..Limits::DEFAULT };
    let mut world = World::with_limits(limits);
    let [idn, mys] = [IDN, MYS].map(|desk| world.open(desk));
    let core = IDN.core(1, &[MYS]);
    world.submit(idn, &core);
    let item = MYS.receipt(ReceiptKind::Delivered, IDN, &[(hash_of(&IDN.submit(&core)), Position(3))]);
    let again = |number| Kind::Stored(MYS.stored(number, std::slice::from_ref(&item)));
    for number in 1..=3 {
        let seen = world.say(mys, again(number));
        let receipt = format!("IDN < Receipt {} delivered [3] by MYS", number + 3);
        assert!(seen.contains(&receipt), "an honest repetition is no error: {seen:?}");
    }
    assert_eq!(world.say(mys, again(4)), ["MYS < Goodbye Rate", "MYS closed"]);
}

#[test]
fn a_desk_that_never_confirms_is_deferred_until_it_does_and_others_are_not() {
    let mut world = World::with_limits(Limits { mailbox_receipts_max: 2, ..Limits::DEFAULT });
    let [hub, idn, mys] = [MOD, IDN, MYS].map(|desk| world.open(desk));
    for number in 1..=2 {
        let core = IDN.core(number, &[MYS]);
        world.submit(idn, &core);
        let position = Position(world.durable.len() as u64 - 1);
        let item = MYS.receipt(ReceiptKind::Delivered, IDN, &[(hash_of(&IDN.submit(&core)), position)]);
        world.say(mys, Kind::Stored(MYS.stored(number, &[item])));
    }
    let third = IDN.core(3, &[MYS]);
    assert_eq!(world.submit(idn, &third)[0], "IDN < Deferred 3");
    let refused = world.submit(hub, &MOD.core(1, &[IDN]));
    assert!(refused.contains(&"MOD < Refused 1 MailboxFull at 8".to_owned()), "{refused:?}");
    assert!(world.submit(hub, &MOD.core(2, &[MYS]))[0].starts_with("append envelope"));
    let confirm = pb::Confirm { position: world.durable.len() as u64 - 1 };
    world.say(idn, Kind::Confirm(confirm));
    assert!(world.submit(idn, &third)[0].starts_with("append envelope"));
}

#[test]
fn a_desk_that_marks_too_fast_is_closed_and_comes_back_and_settling_has_no_rate() {
    let limits = Limits { marks_per_minute_max: 2, ..Limits::DEFAULT };
    let mut world = World::with_limits(limits);
    let [idn, mys] = [IDN, MYS].map(|desk| world.open(desk));
    let core = IDN.core(1, &[MYS]);
    world.submit(idn, &core);
    let item = |kind| MYS.receipt(kind, IDN, &[(hash_of(&IDN.submit(&core)), Position(3))]);
    for (number, kind) in
        [(1, ReceiptKind::Read), (2, ReceiptKind::Acknowledged), (3, ReceiptKind::Delivered)]
    {
        let seen = world.say(mys, Kind::Stored(MYS.stored(number, &[item(kind)])));
        assert_eq!(seen[0], format!("append receipts {number} of MYS"));
    }
    let again = Kind::Stored(MYS.stored(4, &[item(ReceiptKind::Read)]));
    assert_eq!(world.say(mys, again.clone()), ["MYS < Goodbye Rate", "MYS closed"]);
    world.now.wall_us += 62_000_000;
    world.now.mono += 62 * SECOND;
    let mys = world.open(MYS);
    assert_eq!(world.say(mys, again)[0], "append receipts 4 of MYS");
}
