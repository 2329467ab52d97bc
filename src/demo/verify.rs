//! What must be true of a played scenario, over what the desks' APIs answered. Each failure is one line.

use std::collections::{BTreeMap, BTreeSet};

use crate::demo::scenario::Scripted;
use crate::desk::view::{AddresseeState, IncomingWhole, Outgoing, Status};

/// What all desks hold at one moment.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// What was handed in, with what its sender's desk knows of it; in the order of the scenario.
    pub sent: Vec<(Scripted, Outgoing)>,
    /// Each desk's whole inbox by code, in register order.
    pub inboxes: BTreeMap<String, Vec<IncomingWhole>>,
    /// Each desk's status.
    pub statuses: Vec<Status>,
}

/// While a mission is silent: what was sent to it is accepted, and not said to be delivered.
pub fn waiting(observed: &Observed, silent: &str, after: &BTreeSet<String>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut waiting = 0;
    for (scripted, outgoing) in observed.sent.iter().filter(|(scripted, _)| after.contains(&scripted.key)) {
        for addressee in outgoing.addressees.iter().filter(|addressee| addressee.code == silent) {
            waiting += 1;
            if outgoing.state != "accepted" {
                failures.push(format!(
                    "{}: {} while {silent} is silent, not accepted",
                    scripted.key, outgoing.state
                ));
            }
            if addressee.delivered_at.is_some() || addressee.set_aside_at.is_some() {
                failures.push(format!("{}: has a receipt of {silent}, which is silent", scripted.key));
            }
        }
    }
    if waiting == 0 {
        failures.push(format!("nothing waits for {silent}"));
    }
    failures
}

/// At the end: every dispatch accepted, delivered, read, and acknowledged where asked; every inbox holds what
/// it should, once, in order, byte for byte; registers without gaps; nothing left over anywhere.
pub fn finished(observed: &Observed) -> Vec<String> {
    let mut failures = Vec::new();
    let mut positions = BTreeSet::new();
    for (scripted, outgoing) in &observed.sent {
        let mut fail = |what: String| failures.push(format!("{}: {what}", scripted.key));
        match outgoing.position {
            Some(position) if positions.insert(position) => (),
            Some(position) => fail(format!("shares position {position} with another")),
            None => fail(format!("{} and without a position, not accepted", outgoing.state)),
        }
        let codes = |state: &AddresseeState| (state.code.clone(), state.role.clone());
        let named: BTreeSet<_> = outgoing.addressees.iter().map(codes).collect();
        let meant = scripted.addressees().map(|(code, role)| (code.to_owned(), role.to_owned())).collect();
        if named != meant {
            fail(format!("went to {named:?}"));
        }
        for state in &outgoing.addressees {
            receipts(scripted, state).into_iter().for_each(&mut fail);
            arrival(observed, scripted, outgoing, state).into_iter().for_each(&mut fail);
        }
    }
    for (code, inbox) in &observed.inboxes {
        failures.extend(register(observed, code, inbox));
    }
    failures.extend(observed.statuses.iter().flat_map(left_over));
    failures
}

/// The receipts that a sender must hold of one addressee.
fn receipts(scripted: &Scripted, state: &AddresseeState) -> Vec<String> {
    let mut missing = Vec::new();
    if let Some(reason) = &state.set_aside_reason {
        missing.push(format!("set aside by {}: {reason}", state.code));
    }
    let acknowledges = scripted.acknowledge && state.role == "to";
    for (step, at, wanted) in [
        ("delivered", &state.delivered_at, true),
        ("read", &state.read_at, true),
        ("acknowledged", &state.acknowledged_at, acknowledges),
    ] {
        if at.is_some() != wanted {
            missing.push(format!(
                "{} receipt `{step}` of {}",
                if wanted { "no" } else { "an unasked" },
                state.code
            ));
        }
    }
    missing
}

/// What an addressee's inbox must hold of a dispatch.
fn arrival(observed: &Observed, scripted: &Scripted, sent: &Outgoing, state: &AddresseeState) -> Vec<String> {
    let code = &state.code;
    let inbox = observed.inboxes.get(code).map(Vec::as_slice).unwrap_or_default();
    let copies: Vec<&IncomingWhole> = inbox.iter().filter(|one| one.summary.id == sent.id).collect();
    let [came] = copies[..] else {
        return vec![format!("{} times in the inbox of {code}", copies.len())];
    };
    let answered = scripted.answers.as_ref().and_then(|key| {
        let (_, outgoing) = observed.sent.iter().find(|(other, _)| other.key == *key)?;
        Some(outgoing.id.clone())
    });
    let summary = &came.summary;
    [
        ("text", came.body == scripted.body()),
        ("subject", summary.subject == scripted.subject),
        ("sender", summary.from == scripted.from),
        ("role", summary.role == state.role),
        ("topic", summary.topic == scripted.topic),
        ("precedence", summary.precedence == scripted.precedence),
        ("label", summary.label == scripted.label),
        ("kind", summary.kind == scripted.kind),
        ("language", came.language == scripted.language),
        ("office", came.office == scripted.office),
        ("exercise flag", summary.exercise),
        ("acknowledgement asked for", summary.acknowledgement_required == scripted.acknowledge),
        ("answered dispatch", came.in_reply_to == answered),
        ("reference", summary.reference == sent.reference),
        ("position", Some(summary.position) == sent.position),
        ("envelope hash", Some(&summary.envelope_hash) == sent.envelope_hash.as_ref()),
        ("state, for it was set aside", summary.set_aside.is_none()),
        ("notices, for there are some", summary.notices.is_empty()),
    ]
    .into_iter()
    .filter(|(_, right)| !right)
    .map(|(what, _)| format!("arrived at {code} with another {what}"))
    .collect()
}

/// A register counts from 1 without gaps, holds nothing that nobody sent, and keeps each sender's order within
/// a precedence.
fn register(observed: &Observed, code: &str, inbox: &[IncomingWhole]) -> Vec<String> {
    let mut failures = Vec::new();
    for (expected, came) in (1..).zip(inbox) {
        if came.summary.register != expected {
            failures.push(format!("{code}: register has {} where {expected} belongs", came.summary.register));
            break;
        }
    }
    let place = |came: &IncomingWhole| observed.sent.iter().position(|(_, sent)| sent.id == came.summary.id);
    let mut last = BTreeMap::new();
    for came in inbox {
        let summary = &came.summary;
        let Some(place) = place(came) else {
            failures.push(format!("{code}: register {} holds what nobody sent", summary.register));
            continue;
        };
        let before = last.insert((&summary.from, &summary.precedence), place);
        if before.is_some_and(|before| before > place) {
            let (from, precedence) = (&summary.from, &summary.precedence);
            failures.push(format!(
                "{code}: register {} breaks the order of {from}'s {precedence}",
                summary.register
            ));
        }
    }
    failures
}

/// What should be nothing once everything came to its end.
fn left_over(status: &Status) -> Vec<String> {
    let counts = [
        ("queued", status.queued),
        ("undelivered", status.undelivered),
        ("refused", status.refused),
        ("unread", status.unread),
        ("set aside", status.set_aside),
        ("receipts not logged", status.receipts_waiting),
    ];
    let left = counts.into_iter().filter(|(_, count)| *count > 0);
    let mut failures: Vec<String> =
        left.map(|(what, count)| format!("{}: {count} {what} at the end", status.code)).collect();
    failures.extend(status.alarms.iter().map(|alarm| format!("{}: alarm: {alarm}", status.code)));
    failures
}
