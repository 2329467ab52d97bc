//! [`verify`](super::verify) over a play that went well, with one thing made wrong at a time.

use std::collections::{BTreeMap, BTreeSet};

use crate::demo::DESKS;
use crate::demo::scenario::{Scenario, Scripted};
use crate::demo::verify::{Observed, finished, waiting};
use crate::desk::view::{AddresseeState, Incoming, IncomingWhole, Outgoing, Overdue, Status, Waiting};

fn at(second: usize) -> Option<String> {
    Some(format!("2026-11-24T10:15:{second:02}Z"))
}

/// Everything as it should be at the end.
fn good() -> Observed {
    let mut observed = Observed::default();
    let mut ids = BTreeMap::new();
    for (place, scripted) in Scenario::load().dispatches.into_iter().enumerate() {
        let id = format!("id-{place}");
        ids.insert(scripted.key.clone(), id.clone());
        let addressees = scripted.addressees().map(|(code, role)| AddresseeState {
            code: code.to_owned(),
            role: role.to_owned(),
            delivered_at: at(1),
            set_aside_at: None,
            set_aside_reason: None,
            expired_at: None,
            state: "read".to_owned(),
            accepted_at: at(0),
            read_at: at(2),
            acknowledged_at: at(3).filter(|_| scripted.acknowledge && role == "to"),
            remark: None,
            answered_at: None,
            witnessed: None,
            awaited: None,
        });
        let outgoing = Outgoing {
            id: id.clone(),
            short: id.clone(),
            reference: format!("{}/{place}", scripted.from),
            dtg: String::new(),
            subject: scripted.subject.clone(),
            topic: scripted.topic.clone(),
            precedence: scripted.precedence.clone(),
            exercise: true,
            state: "accepted".to_owned(),
            queued_at: String::new(),
            accepted_at: at(0),
            position: u64::try_from(place).ok(),
            envelope_hash: Some(id.clone()),
            witnessed: None,
            refusal: None,
            info_precedence: scripted.precedence.clone(),
            label: String::new(),
            named: Vec::new(),
            addressees: addressees.collect(),
            duplicate: false,
        };
        for (code, role) in scripted.addressees() {
            let inbox = observed.inboxes.entry(code.to_owned()).or_default();
            let register = u64::try_from(inbox.len() + 1).unwrap();
            inbox.push(incoming(&scripted, &outgoing, register, role, &ids));
        }
        observed.sent.push((scripted, outgoing));
    }
    observed.statuses = DESKS.iter().map(|(code, _)| status(code)).collect();
    observed
}

fn incoming(
    scripted: &Scripted,
    sent: &Outgoing,
    register: u64,
    role: &str,
    ids: &BTreeMap<String, String>,
) -> IncomingWhole {
    let summary = Incoming {
        register,
        id: sent.id.clone(),
        short: sent.short.clone(),
        from: scripted.from.clone(),
        role: role.to_owned(),
        reference: sent.reference.clone(),
        dtg: String::new(),
        subject: scripted.subject.clone(),
        topic: scripted.topic.clone(),
        precedence: scripted.precedence.clone(),
        label: scripted.label.clone(),
        kind: scripted.kind.clone(),
        exercise: true,
        acknowledgement_required: scripted.acknowledge,
        received_at: String::new(),
        read_at: at(2),
        acknowledged_at: None,
        set_aside: None,
        awaited: None,
        witnessed: None,
        notices: Vec::new(),
        position: sent.position.unwrap(),
        envelope_hash: sent.id.clone(),
    };
    IncomingWhole {
        summary,
        addressees: Vec::new(),
        exempt: Vec::new(),
        office: scripted.office.clone(),
        person: String::new(),
        language: scripted.language.clone(),
        in_reply_to: scripted.answers.as_ref().map(|key| ids[key].clone()),
        acknowledgement_due: None,
        answer_due: None,
        body: scripted.body(),
    }
}

fn status(code: &str) -> Status {
    Status {
        daemon: "mission".to_owned(),
        code: code.to_owned(),
        trust_domain: String::new(),
        link: "in contact".to_owned(),
        link_reason: None,
        relay: String::new(),
        since: String::new(),
        last_contact: None,
        roster_version: 1,
        queued: 0,
        undelivered: 0,
        waiting: Waiting::default(),
        oldest_queued_at: None,
        oldest_undelivered_at: None,
        refused: 0,
        inbox: 0,
        unread: 0,
        unacknowledged: 0,
        set_aside: 0,
        overdue: Overdue::default(),
        receipts_waiting: 0,
        proofs_owed: 0,
        log_verified: 0,
        orders: Vec::new(),
        alarms: Vec::new(),
        version: String::new(),
    }
}

/// The failures after one thing was made wrong.
fn after(break_it: impl FnOnce(&mut Observed)) -> Vec<String> {
    let mut observed = good();
    break_it(&mut observed);
    finished(&observed)
}

#[test]
fn a_play_that_went_well_fails_no_check() {
    assert_eq!(finished(&good()), Vec::<String>::new());
}

#[test]
fn a_missing_receipt_is_named_by_step_and_desk() {
    let failures = after(|observed| observed.sent[0].1.addressees[1].acknowledged_at = None);
    assert_eq!(failures, ["mod-opening: no receipt `acknowledged` of MYS"]);
    let failures = after(|observed| observed.sent[0].1.addressees[0].delivered_at = None);
    assert_eq!(failures, ["mod-opening: no receipt `delivered` of IDN"]);
}

#[test]
fn one_changed_byte_is_found() {
    let failures = after(|observed| observed.inboxes.get_mut("MOD").unwrap()[0].body.push(' '));
    assert_eq!(failures, ["idn-checkin: arrived at MOD with another text"]);
}

#[test]
fn a_dispatch_that_came_twice_or_not_at_all_is_found() {
    let failures = after(|observed| {
        let inbox = observed.inboxes.get_mut("VNM").unwrap();
        let mut copy = inbox[0].clone();
        copy.summary.register = u64::try_from(inbox.len() + 1).unwrap();
        inbox.push(copy);
    });
    assert_eq!(failures[0], "mod-opening: 2 times in the inbox of VNM");
    let failures = after(|observed| drop(observed.inboxes.get_mut("VNM").unwrap().pop()));
    assert_eq!(failures, ["mod-mayday-closed: 0 times in the inbox of VNM"]);
}

#[test]
fn a_gap_in_a_register_and_a_broken_order_are_found() {
    let failures = after(|observed| observed.inboxes.get_mut("IDN").unwrap()[2].summary.register += 1);
    assert_eq!(failures, ["IDN: register has 4 where 3 belongs"]);
    let failures = after(|observed| {
        let inbox = observed.inboxes.get_mut("VNM").unwrap();
        inbox.swap(0, 1);
        (inbox[0].summary.register, inbox[1].summary.register) = (1, 2);
    });
    assert_eq!(failures, ["VNM: register 2 breaks the order of MOD's routine"]);
}

#[test]
fn what_is_left_at_a_desk_is_found() {
    let failures = after(|observed| {
        observed.statuses[0].queued = 2;
        observed.statuses[1].alarms.push("the clock is wrong".to_owned());
    });
    assert_eq!(failures, ["MOD: 2 queued at the end", "IDN: alarm: the clock is wrong"]);
}

#[test]
fn a_position_belongs_to_one_dispatch() {
    let failures = after(|observed| observed.sent[1].1.position = Some(0));
    assert_eq!(failures[0], "idn-checkin: shares position 0 with another");
}

#[test]
fn mail_for_a_silent_mission_is_accepted_and_not_delivered() {
    let scenario = Scenario::load();
    let (_, after) = scenario.split_after(&scenario.silent_after);
    let after: BTreeSet<String> = after.iter().map(|scripted| scripted.key.clone()).collect();
    let mut observed = good();
    let found = waiting(&observed, "VNM", &after);
    assert!(
        !found.is_empty() && found.iter().all(|line| line.ends_with("has a receipt of VNM, which is silent"))
    );
    for (_, outgoing) in &mut observed.sent {
        outgoing.addressees.iter_mut().for_each(|one| one.delivered_at = None);
    }
    assert_eq!(waiting(&observed, "VNM", &after), Vec::<String>::new());
    observed.sent.retain(|(scripted, _)| scripted.addressees().all(|(code, _)| code != "VNM"));
    assert_eq!(waiting(&observed, "VNM", &after), ["nothing waits for VNM"]);
}
