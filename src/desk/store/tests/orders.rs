//! Orders of the hub at a desk: what waits, who is not written to, and what the hub gives next.

use super::*;
use crate::{
    desk::{error::DeskError, view::NewOrder},
    wire::order::{Order, OrderKind, SignedOrder},
};

pub(super) fn learn(bloc: &Bloc, desk: &mut Desk, number: u32, kind: OrderKind) {
    let order = Order { number, kind, salt: [1; 32] };
    let proof = bloc.sign("MOD").sign_batch(DOMAIN, crate::batch::Tag::Order, &[order.leaf()]).remove(0);
    desk.store.learn_order(Position(u64::from(number) + 10), &SignedOrder { order, proof }).unwrap();
}

pub(super) fn at_s(seconds: i64) -> u64 {
    u64::try_from(after(seconds).as_second()).unwrap()
}

fn numbers(submits: &[SealedSubmit]) -> Vec<u64> {
    submits.iter().map(|submit| submit.number).collect()
}

#[test]
fn minimize_holds_routine_and_priority_before_sealing_until_its_time() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    learn(&bloc, &mut desk, 1, OrderKind::Minimize { until_s: at_s(60) });
    for precedence in ["routine", "priority"] {
        desk.send(dispatch("MOD", precedence, precedence));
    }
    assert!(!desk.store.waiting(now()).unwrap(), "or the link would ask again and again");
    desk.send(dispatch("MOD", "immediate", "immediate"));
    assert!(desk.store.waiting(now()).unwrap());
    assert_eq!(bloc.seal(&mut desk).len(), 1);
    assert_eq!(desk.status().queued, 3, "held, and nobody's refusal");
    assert!(desk.status().orders[0].starts_with("MINIMIZE until 2026-11-24T10:16:00Z"));
    let mut desk = desk.killed(&bloc);
    assert!(!desk.store.waiting(after(59)).unwrap());
    assert!(desk.store.waiting(after(60)).unwrap());
    let room = Room { envelopes: 512, bytes: 1 << 20 };
    let sealed = desk.store.seal_next(bloc.sign("IDN"), room, after(60)).unwrap();
    assert_eq!(numbers(&sealed), [2, 3]);
}

#[test]
fn minimize_that_ends_early_lets_go_what_it_held() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    learn(&bloc, &mut desk, 1, OrderKind::Minimize { until_s: at_s(3600) });
    desk.send(dispatch("MOD", "routine", "x"));
    assert!(bloc.seal(&mut desk).is_empty());
    learn(&bloc, &mut desk, 2, OrderKind::Minimize { until_s: at_s(0) });
    assert_eq!(bloc.seal(&mut desk).len(), 1);
    assert!(desk.status().orders.is_empty());
}

#[test]
fn what_the_relay_refuses_for_minimize_waits_again() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let short = desk.send(dispatch("MOD", "routine", "x"));
    let sealed = bloc.seal(&mut desk);
    learn(&bloc, &mut desk, 1, OrderKind::Minimize { until_s: at_s(60) });
    desk.store.refused(refused(&sealed[0], pb::RefusalCode::Minimize), now()).unwrap();
    assert_eq!(desk.store.outgoing(&short).unwrap().state, "queued");
    assert!(!desk.store.waiting(now()).unwrap());
    assert!(desk.store.waiting(after(60)).unwrap());
}

#[test]
fn a_desk_that_is_ahead_of_log_time_tries_again_after_a_while_and_never_gives_up_on_minimize() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let shorts = ["routine", "priority"].map(|precedence| desk.send(dispatch("MOD", precedence, "x")));
    let room = Room { envelopes: 512, bytes: 1 << 20 };
    for seconds in (0..200).step_by(10) {
        let sealed = desk.store.seal_next(bloc.sign("IDN"), room, after(seconds)).unwrap();
        assert_eq!(sealed.len(), 2, "at {seconds} s");
        for submit in &sealed {
            desk.store.refused(refused(submit, pb::RefusalCode::Minimize), after(seconds)).unwrap();
        }
        for held in [seconds, seconds + 9] {
            assert!(!desk.store.waiting(after(held)).unwrap(), "nothing is sealed at once");
            assert!(desk.store.seal_next(bloc.sign("IDN"), room, after(held)).unwrap().is_empty());
        }
        for short in &shorts {
            assert_eq!(desk.store.outgoing(short).unwrap().state, "queued", "at {seconds} s");
        }
        assert!(desk.store.waiting(after(seconds + 10)).unwrap());
    }
    assert!(desk.store.waiting(after(100)).unwrap(), "a clock that was set back holds nothing for longer");
    desk.send(dispatch("MOD", "immediate", "x"));
    let sealed = desk.store.seal_next(bloc.sign("IDN"), room, after(191)).unwrap();
    assert_eq!(sealed.len(), 1, "what MINIMIZE lets pass passes");
}

#[test]
fn nobody_writes_to_a_suspended_party_until_it_is_lifted() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let waiting = desk.send(dispatch("MYS", "routine", "before"));
    learn(&bloc, &mut desk, 1, OrderKind::Suspend { party: bloc.number("MYS"), until_s: u64::MAX });
    let refused = desk.store.enqueue(dispatch("MYS", "routine", "after"), now());
    assert!(matches!(refused, Err(DeskError::Inactive { code }) if code == "MYS"));
    assert!(bloc.seal(&mut desk).is_empty());
    assert_eq!(desk.store.outgoing(&waiting).unwrap().state, "refused", "its person is told");
    assert!(desk.status().orders[0].starts_with("MYS is suspended until it is lifted"));
    learn(&bloc, &mut desk, 2, OrderKind::Lift { party: bloc.number("MYS") });
    desk.send(dispatch("MYS", "routine", "after"));
    assert_eq!(bloc.seal(&mut desk).len(), 1);
}

#[test]
fn the_hubs_next_order_has_the_next_number_and_only_the_hub_has_one() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    learn(&bloc, &mut hub, 6, OrderKind::Minimize { until_s: 0 });
    let new = NewOrder { kind: "suspend".into(), party: "idn".into(), ..NewOrder::default() };
    let expected = OrderKind::Suspend { party: bloc.number("IDN"), until_s: u64::MAX };
    assert_eq!(hub.store.next_order(&new).unwrap(), (7, expected));
    let unknown = NewOrder { party: "XYZ".into(), ..new.clone() };
    let error = hub.store.next_order(&unknown).unwrap_err();
    assert_eq!(error.code(), "unknown-addressee");
    for wrong in [
        NewOrder { party: String::new(), ..new.clone() },
        NewOrder { kind: "minimize".into(), ..NewOrder::default() },
        NewOrder { kind: "erase".into(), ..NewOrder::default() },
        NewOrder { kind: "promote".into(), ..NewOrder::default() },
        NewOrder { until: "tomorrow".into(), ..new.clone() },
    ] {
        assert_eq!(hub.store.next_order(&wrong).unwrap_err().code(), "usage", "{wrong:?}");
    }
    let end = NewOrder { kind: "minimize".into(), until: "now".into(), ..NewOrder::default() };
    let ended = OrderKind::Minimize { until_s: 0 };
    assert_eq!(
        hub.store.next_order(&end).unwrap(),
        (7, ended),
        "past by every clock, not by the hub's alone"
    );
    let mission = bloc.desk("IDN");
    assert!(matches!(mission.store.next_order(&new), Err(DeskError::NotTheHub)));
}
