//! What is refused, in which words to the log, and how often that is a record.

use std::time::Duration;

use super::{
    desk::{DESKS, IDN, MOD, MYS, PHL, first_note, next_note},
    world::World,
};
use crate::{
    batch,
    exchange::{ConnId, Input, Notice},
    limits::{EXPIRY_MAX, Limits},
    merkle::{Hash, sha256},
    roster::{PartyNumber, Status},
    session::outbound::{Outbound, refusal_code},
    wire::{
        Precedence, Role,
        envelope::{Addressee, Core},
        pb::{RefusalCode, frame::Kind},
        receipt::ReceiptKind,
    },
};

fn idn_alone() -> (World, ConnId) {
    let mut world = World::new();
    let idn = world.open(IDN);
    (world, idn)
}

/// What becomes of IDN's first envelope to MYS, changed.
fn submitted(change: impl FnOnce(&mut Core)) -> Vec<String> {
    let (mut world, idn) = idn_alone();
    let mut core = IDN.core(1, &[MYS]);
    change(&mut core);
    world.submit(idn, &core)
}

fn refused(change: impl FnOnce(&mut Core)) -> String {
    let seen = submitted(change);
    assert_eq!((seen.len(), seen[0].as_str()), (2, "append refusal 1 of IDN"));
    let code = seen[1].strip_prefix("IDN < Refused 1 ").and_then(|rest| rest.strip_suffix(" at 2"));
    code.expect("refused in a record at 2").to_owned()
}

#[test]
fn an_envelope_that_the_roster_does_not_allow_is_refused_in_a_record() {
    let now_s = super::desk::START_US / 1_000_000;
    let to = |party| move |core: &mut Core| core.addressees[0].party = party;
    assert_eq!(refused(|core| core.sender = MYS.number), "SenderMismatch");
    assert_eq!(refused(|core| core.trust_domain = "other.example".to_owned()), "TrustDomain");
    assert_eq!(refused(|core| core.expires_s = 0), "Expiry", "none");
    assert_eq!(refused(|core| core.expires_s = now_s), "Expiry", "past");
    assert_eq!(refused(|core| core.expires_s = now_s + EXPIRY_MAX.as_secs() + 1), "Expiry", "too far");
    assert_eq!(refused(|core| core.roster_version = 2), "RosterUnknown");
    assert_eq!(refused(|core| core.roster_hash = Hash::ZERO), "RosterUnknown");
    assert_eq!(refused(|core| core.topic = "peacekeeping".to_owned()), "Topic", "not the sender's");
    assert_eq!(refused(|core| core.topic = "weather".to_owned()), "Topic", "nobody's");
    assert_eq!(refused(|core| core.label = "BLOC CONFIDENTIAL".to_owned()), "Label", "above the sender");
    assert_eq!(refused(|core| core.label = "SECRET".to_owned()), "Label", "not in the policy");
    assert_eq!(refused(to(PartyNumber(77))), "UnknownAddressee");
    assert_eq!(refused(to(PartyNumber(1))), "UnknownAddressee", "the relay has no mailbox");
    assert_eq!(refused(to(IDN.number)), "UnknownAddressee", "oneself");
}

#[test]
fn an_expiry_at_the_bounds_passes() {
    let now_s = super::desk::START_US / 1_000_000;
    for expires_s in [now_s + 1, now_s + EXPIRY_MAX.as_secs()] {
        let seen = submitted(|core| core.expires_s = expires_s);
        assert_eq!(seen, ["append envelope 1 of IDN", "IDN < Accepted 1 at 2"]);
    }
}

#[test]
fn every_addressee_must_be_cleared_for_topic_and_label() {
    let mut world = World::new();
    let hub = world.open(MOD);
    let mut secret = MOD.core(1, &[IDN, MYS]);
    secret.label = "BLOC CONFIDENTIAL".to_owned();
    assert_eq!(world.submit(hub, &secret)[1], "MOD < Refused 1 Label at 2");
    let mut topic = MOD.core(2, &[IDN]);
    topic.topic = "peacekeeping".to_owned();
    assert_eq!(world.submit(hub, &topic)[1], "MOD < Refused 2 Topic at 3");
}

#[test]
fn a_header_from_before_a_change_that_matters_is_stale_and_from_before_another_is_not() {
    let (mut world, idn) = idn_alone();
    let note = next_note(&first_note(), |draft| {
        draft.parties[3].topics = vec!["maritime".to_owned()]; // MYS
        draft.parties[4].name = "Philippines".to_owned(); // PHL
    });
    world.input(Input::RosterOffered { note: note.clone() });
    assert_eq!(world.submit(idn, &IDN.core(1, &[PHL]))[0], "append envelope 1 of IDN");
    assert_eq!(world.submit(idn, &IDN.core(2, &[MYS, PHL]))[1], "IDN < Refused 2 RosterStale at 4");
    let mut sealed_again = IDN.core(3, &[MYS]);
    (sealed_again.roster_version, sealed_again.roster_hash) = (2, sha256(&note));
    assert_eq!(world.submit(idn, &sealed_again)[0], "append envelope 3 of IDN");
}

#[test]
fn a_suspended_addressee_is_unknown_like_any_other() {
    let (mut world, idn) = idn_alone();
    let note = next_note(&first_note(), |draft| draft.parties[3].status = Status::Suspended);
    world.input(Input::RosterOffered { note: note.clone() });
    let mut core = IDN.core(1, &[MYS]);
    (core.roster_version, core.roster_hash) = (2, sha256(&note));
    assert_eq!(world.submit(idn, &core)[1], "IDN < Refused 1 UnknownAddressee at 3");
}

#[test]
fn a_full_mailbox_counts_what_is_being_written_and_refuses_the_rest() {
    let mut world = World::with_limits(Limits { mailbox_envelopes_max: 2, ..Limits::DEFAULT });
    let (idn, phl) = (world.open(IDN), world.open(PHL));
    world.holds_sync = true;
    world.submit(idn, &IDN.core(1, &[MYS]));
    world.submit(phl, &PHL.core(1, &[MYS]));
    assert_eq!(world.submit(phl, &PHL.core(2, &[MYS])), ["append refusal 2 of PHL"]);
    let told = world.sync_all();
    assert_eq!(told[2], "PHL < Refused 2 MailboxFull at 5");
    assert_eq!(world.submit(idn, &IDN.core(2, &[MYS])), ["append refusal 2 of IDN"], "still, once written");
}

#[test]
fn a_refusal_is_signed_by_the_relay_over_hash_and_code_and_repeated_from_the_record() {
    let (mut world, idn) = idn_alone();
    let mut core = IDN.core(1, &[MYS]);
    core.topic = "weather".to_owned();
    world.submit(idn, &core);
    let Outbound::Refused(refusal) = world.last_sent().clone() else { panic!("refused") };
    let item = refusal.item();
    assert_eq!((item.kind, item.reason), (ReceiptKind::Refused, refusal_code(RefusalCode::Topic)));
    assert_eq!((item.receiptor, item.sender), (PartyNumber(1), IDN.number));
    let hash = batch::item_leaf(batch::Tag::Envelope, &IDN.submit(&core).header);
    assert_eq!(item.envelopes[0].0.0, hash);
    world.wait(Duration::from_secs(5));
    world.submit(idn, &core);
    let again = world.sent.iter().rev().find_map(|(_, frame)| match frame {
        Outbound::Refused(again) => Some(again.clone()),
        _ => None,
    });
    assert_eq!(again, Some(refusal), "word for word, though time went on");
    let mut world = world.restart();
    let idn = world.open(IDN);
    assert_eq!(world.submit(idn, &core), ["IDN < Refused 1 Topic at 2"], "and after a restart");
}

#[test]
fn a_refused_number_is_spent_and_the_next_one_is_due() {
    let (mut world, idn) = idn_alone();
    let mut bad = IDN.core(1, &[MYS]);
    bad.topic = "weather".to_owned();
    world.submit(idn, &bad);
    assert_eq!(world.submit(idn, &IDN.core(2, &[MYS]))[0], "append envelope 2 of IDN");
    assert_eq!(world.submit(idn, &IDN.core(1, &[MYS]))[0], "IDN < Refused 1 NumberReused");
}

#[test]
fn refusals_beyond_ten_a_second_are_counted_and_logged_once_a_minute() {
    let (mut world, idn) = idn_alone();
    let weather = |number| {
        let mut core = IDN.core(number, &[MYS]);
        core.topic = "weather".to_owned();
        core
    };
    for number in 1..=10 {
        assert_eq!(world.submit(idn, &weather(number))[0], format!("append refusal {number} of IDN"));
    }
    assert_eq!(world.submit(idn, &weather(11))[0], "IDN < Refused 11 Topic");
    assert_eq!(world.submit(idn, &weather(12))[0], "IDN < Refused 12 Topic");
    assert_eq!(world.durable.len(), 12);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.submit(idn, &weather(13))[0], "append refusal 13 of IDN", "a new second");
    let noted =
        Notice::Refused { party: IDN.number, code: refusal_code(RefusalCode::Topic), recorded: false };
    assert_eq!(world.notices.iter().filter(|notice| **notice == noted).count(), 2);
    world.close(idn);
    let mut logged = Vec::new();
    for _ in 0..70 {
        logged.extend(world.wait(Duration::from_secs(1)));
    }
    assert_eq!(logged, ["append 2 refusals Topic of IDN"]);
}

#[test]
fn counted_refusals_are_logged_before_the_relay_stops() {
    let (mut world, idn) = idn_alone();
    world.submit(idn, &IDN.core(9, &[MYS]));
    world.submit(idn, &IDN.core(1, &[MYS]));
    let stop = world.input(Input::Stopping);
    let expected =
        ["IDN < Goodbye Shutdown", "IDN closed", "append 1 refusals OldNumber of IDN", "append stop"];
    assert_eq!(stop, expected);
}

#[test]
fn unreadable_and_badly_signed_envelopes_are_refused_and_spend_their_number() {
    let (mut world, idn) = idn_alone();
    let mut unreadable = IDN.submit(&IDN.core(1, &[MYS]));
    unreadable.ciphertext = "another".into();
    assert_eq!(world.say(idn, Kind::Submit(unreadable))[0], "IDN < Refused 1 Malformed");
    let forged = IDN.signing_with(14).submit(&IDN.core(2, &[MYS]));
    assert_eq!(world.say(idn, Kind::Submit(forged))[0], "IDN < Refused 2 BadSignature");
    assert_eq!(world.submit(idn, &IDN.core(3, &[MYS]))[0], "append envelope 3 of IDN");
}

#[test]
fn an_envelope_whose_number_cannot_be_read_spends_none() {
    let (mut world, idn) = idn_alone();
    let mut noise = IDN.submit(&IDN.core(1, &[MYS]));
    noise.header = "noise".into();
    assert_eq!(world.say(idn, Kind::Submit(noise)), ["IDN < Refused 0 BadSignature"]);
    assert_eq!(world.submit(idn, &IDN.core(5, &[MYS]))[0], "append envelope 5 of IDN");
}

#[test]
fn bad_signatures_beyond_the_budget_end_the_session() {
    let (mut world, idn) = idn_alone();
    for number in 1..=8 {
        let forged = IDN.signing_with(14).submit(&IDN.core(number, &[MYS]));
        assert!(world.say(idn, Kind::Submit(forged))[0].ends_with("BadSignature"));
    }
    let forged = IDN.signing_with(14).submit(&IDN.core(9, &[MYS]));
    assert_eq!(world.say(idn, Kind::Submit(forged)), ["IDN < Goodbye BadSignature", "IDN closed"]);
}

#[test]
fn an_envelope_passes_from_every_desk_to_all_others() {
    let mut world = World::new();
    let conns: Vec<ConnId> = DESKS.map(|desk| world.open(desk)).to_vec();
    for (conn, desk) in conns.iter().zip(DESKS) {
        let others: Vec<_> = DESKS.into_iter().filter(|other| *other != desk).collect();
        let seen = world.submit(*conn, &desk.core(1, &others));
        assert_eq!(seen.iter().filter(|line| line.contains("Deliver")).count(), 3, "{seen:?}");
    }
}

#[test]
fn to_and_info_addressees_each_get_their_precedence() {
    let mut world = World::new();
    let idn = world.open(IDN);
    let mut both = IDN.core(1, &[MOD]);
    both.addressees.push(Addressee { party: MYS.number, role: Role::Info });
    both.precedence_action = Precedence::Flash;
    let mut flash = IDN.core(2, &[MOD, MYS]);
    flash.precedence_action = Precedence::Immediate;
    world.submit(idn, &both);
    world.submit(idn, &flash);
    world.open(MOD);
    world.open(MYS);
    let delivered: Vec<(u64, u64)> = world
        .sent
        .iter()
        .filter_map(|(conn, frame)| match frame {
            Outbound::Deliver { position, .. } => Some((conn.0, position.0)),
            _ => None,
        })
        .collect();
    assert_eq!(delivered, [(2, 2), (2, 3), (3, 3), (3, 2)], "MOD by FLASH first, MYS for information last");
}
