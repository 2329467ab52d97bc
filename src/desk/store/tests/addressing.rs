//! Whom a dispatch goes to. The bloc has eight missions: ACI gathers seven of them and the sender, and its
//! chair goes from IDN to MYS on 25 November.

use super::*;
use crate::{
    desk::{error::DeskError, view::Outgoing},
    roster::{Group, Holder, Office, Status},
    wire::{Precedence, Role, order},
};

const MISSIONS: [&str; 6] = ["BRN", "KHM", "LAO", "PHL", "THA", "VNM"];

/// A desk of IDN that holds a roster with ACI.
fn desk(bloc: &Bloc, change: impl FnOnce(&mut RosterDraft)) -> Desk {
    let mut desk = bloc.desk("IDN");
    let (roster, note) = bloc.next(|draft| {
        for code in MISSIONS {
            let path = format!("mission/{}", code.to_lowercase());
            let sign = SigningKey::generate().unwrap().public();
            draft.add(party(draft.next_number(), &path, code, sign));
        }
        let number = |code: &str| draft.parties.iter().find(|party| party.code == code).unwrap().number;
        let members = ["IDN", "MYS"].into_iter().chain(MISSIONS).map(number).collect();
        let day = |text: &str| text.parse().unwrap();
        let holders = vec![
            Holder { party: number("PHL"), from: day("2026-01-01"), until: day("2026-11-24") },
            Holder { party: number("MYS"), from: day("2026-11-25"), until: day("2026-11-30") },
        ];
        let name = |name: &str| name.to_owned();
        draft.groups.push(Group { code: name("ACI"), name: name("ASEAN Committee"), members });
        draft.offices.push(Office { code: name("ACI-CHAIR"), name: name("Its chair"), holders });
        change(draft);
    });
    desk.store.learn_roster(Some(Position(4)), roster, &note).unwrap();
    desk
}

fn to(codes: &[&str]) -> NewDispatch {
    let to = codes.iter().map(|code| (*code).to_owned()).collect();
    NewDispatch { to, ..dispatch("", "immediate", "Unlit vessel") }
}

fn owned(codes: &[&str]) -> Vec<String> {
    codes.iter().map(|code| (*code).to_owned()).collect()
}

/// Codes of a role, in order.
fn codes(outgoing: &Outgoing, role: &str) -> Vec<String> {
    let of_role = outgoing.addressees.iter().filter(|addressee| addressee.role == role);
    of_role.map(|addressee| addressee.code.clone()).collect()
}

fn refused_for(desk: &mut Desk, new: NewDispatch) -> DeskError {
    desk.store.enqueue(new, now()).unwrap_err()
}

#[test]
fn a_group_becomes_its_members_without_the_sender_and_both_are_kept() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |_| {});
    let sent = desk.store.enqueue(to(&["aci"]), now()).unwrap();
    assert_eq!((sent.named[0].code.as_str(), sent.named[0].parties), ("ACI", Some(7)));
    assert_eq!(codes(&sent, "to"), ["MYS", "BRN", "KHM", "LAO", "PHL", "THA", "VNM"]);
    let sealed = core(&bloc.seal(&mut desk)[0]);
    assert_eq!(sealed.addressees.len(), 7);
    assert_eq!(desk.killed(&bloc).store.outgoing(&sent.id).unwrap().named, sent.named);
}

#[test]
fn all_is_every_active_desk_but_ones_own() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |draft| draft.parties[4].status = Status::Suspended);
    let sent = desk.store.enqueue(to(&["ALL"]), now()).unwrap();
    assert_eq!(codes(&sent, "to"), ["MOD", "MYS", "KHM", "LAO", "PHL", "THA", "VNM"]);
    assert_eq!(sent.named[0].left_out, ["BRN"], "the suspended member is told, not hidden");
}

#[test]
fn the_exempted_are_taken_out_and_the_addressees_are_told() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |_| {});
    let new = NewDispatch { exempt: owned(&["VNM", "ACI-CHAIR"]), ..to(&["ACI"]) };
    let sent = desk.store.enqueue(new, now()).unwrap();
    assert_eq!(codes(&sent, "to"), ["MYS", "BRN", "KHM", "LAO", "THA"]);
    let submits = bloc.seal(&mut desk);
    let opened = crate::seal::OpenedDispatch::decode(&submits[0].submit.ciphertext).unwrap();
    assert_eq!(opened.draft().exempt.len(), 2);
    let nobody = NewDispatch { exempt: owned(&["ACI"]), ..to(&["ACI"]) };
    assert_eq!(refused_for(&mut desk, nobody).code(), "usage");
}

#[test]
fn who_is_named_for_action_and_information_is_addressed_once_for_action() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |_| {});
    let new = NewDispatch { info: owned(&["ACI", "MOD"]), ..to(&["VNM", "vnm", "MYS"]) };
    let sent = desk.store.enqueue(new, now()).unwrap();
    assert_eq!(codes(&sent, "to"), ["VNM", "MYS"]);
    assert_eq!(codes(&sent, "info"), ["BRN", "KHM", "LAO", "PHL", "THA", "MOD"]);
    assert_eq!(bloc.seal(&mut desk).len(), 1);
}

#[test]
fn an_office_is_who_holds_it_on_the_day_of_sealing() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |_| {});
    let sent = desk.store.enqueue(to(&["ACI-CHAIR"]), now()).unwrap();
    assert_eq!(codes(&sent, "to"), ["PHL"]);
    let room = Room { envelopes: 1, bytes: 1 << 20 };
    desk.store.seal_next(bloc.sign("IDN"), room, after(24 * 3600)).unwrap();
    assert_eq!(codes(&desk.store.outgoing(&sent.id).unwrap(), "to"), ["MYS"]);
    let error = desk.store.enqueue(to(&["ACI-CHAIR"]), after(7 * 24 * 3600)).unwrap_err();
    assert_eq!(error.code(), "unknown-addressee");
    assert!(error.to_string().starts_with("nobody holds ACI-CHAIR on 2026-12-01"), "{error}");
}

#[test]
fn information_travels_at_its_own_precedence_and_counts_in_its_own_stream() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |_| {});
    let new = NewDispatch {
        info: owned(&["MOD"]),
        info_precedence: "routine".to_owned(),
        precedence: "flash".to_owned(),
        ..to(&["MYS"])
    };
    desk.send(new);
    let sealed = core(&bloc.seal(&mut desk)[0]);
    assert_eq!(sealed.precedence(Role::To), Precedence::Flash);
    assert_eq!(sealed.precedence(Role::Info), Precedence::Routine);
    let sql = "SELECT precedence FROM slips_out WHERE party = ?1";
    let stream = |code: &str| -> Precedence {
        desk.store.connection.query_row(sql, [bloc.number(code)], |row| row.get(0)).unwrap()
    };
    assert_eq!((stream("MYS"), stream("MOD")), (Precedence::Flash, Precedence::Routine));
}

#[test]
fn a_party_that_may_not_receive_is_named_in_the_refusal() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |draft| {
        draft.parties[5].topics = vec!["cyber".to_owned()];
        draft.parties[6].status = Status::Suspended;
    });
    let error = refused_for(&mut desk, to(&["ACI"]));
    assert!(error.to_string().contains("`--exempt KHM` where a group names it"), "{error}");
    desk.send(NewDispatch { exempt: owned(&["KHM"]), ..to(&["ACI"]) });
    let error = refused_for(&mut desk, to(&["LAO"]));
    assert_eq!((error.code(), error.to_string().contains("LAO is suspended")), ("not-permitted", true));
}

#[test]
fn a_member_that_an_order_suspends_gets_nothing_until_it_is_lifted() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |_| {});
    let kind = order::OrderKind::Suspend { party: bloc.number("MYS"), until_s: u64::MAX };
    orders::learn(&bloc, &mut desk, 1, kind);
    let sent = desk.store.enqueue(to(&["ACI"]), now()).unwrap();
    assert_eq!((sent.named[0].parties, &sent.named[0].left_out[..]), (Some(6), &["MYS".to_owned()][..]));
    assert!(matches!(refused_for(&mut desk, to(&["MYS"])), DeskError::Inactive { .. }));
}

#[test]
fn the_nearest_codes_come_first_and_groups_and_offices_are_among_them() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |_| {});
    let DeskError::UnknownAddressee { nearest, .. } = refused_for(&mut desk, to(&["ACI-CHIAR"])) else {
        panic!("the code is nobody's");
    };
    assert_eq!((nearest[0].as_str(), nearest.len()), ("ACI-CHAIR", 8));
}

#[test]
fn a_dispatch_refused_for_its_roster_is_addressed_anew_by_the_next() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |_| {});
    let sent = desk.store.enqueue(to(&["ACI"]), now()).unwrap();
    let first = bloc.seal(&mut desk).remove(0);
    desk.store.refused(refused(&first, pb::RefusalCode::RosterStale), now()).unwrap();
    assert!(bloc.seal(&mut desk).is_empty(), "it waits for the roster that the relay means");
    let held = desk.store.facts().unwrap().roster.unwrap();
    let mut draft = RosterDraft::next(&held).unwrap();
    draft.groups[0].members.pop();
    let note = signed(&bloc.roster_key, &draft);
    let next = Arc::new(verify_next(&note, &held).unwrap());
    desk.store.learn_roster(Some(Position(9)), next, &note).unwrap();
    assert_eq!(core(&bloc.seal(&mut desk)[0]).addressees.len(), 6);
    let shown = desk.store.outgoing(&sent.id).unwrap();
    assert_eq!((shown.named[0].parties, codes(&shown, "to").len()), (Some(6), 6));
}

#[test]
fn more_than_128_parties_are_one_dispatch_too_many() {
    let bloc = Bloc::new();
    let mut desk = desk(&bloc, |draft| {
        for n in 0..130 {
            let sign = SigningKey::generate().unwrap().public();
            draft.add(party(draft.next_number(), &format!("mission/m{n}"), &format!("M{n}"), sign));
        }
    });
    let error = refused_for(&mut desk, to(&["ALL"]));
    assert!(matches!(error, DeskError::TooManyAddressees { parties: 138 }), "{error}");
}
