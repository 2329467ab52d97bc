//! A relay that begins a new log under a new roster: what goes out again, and what is forgotten.

use super::{
    orders::{at_s, learn},
    *,
};
use crate::{
    batch::Tag,
    desk::view::Mark,
    wire::{order::OrderKind, receipt::ReceiptKind},
};

/// IDN with dispatches 1 to 4 to MOD: 2 is delivered, 3 was refused, 4 has no answer. The roster then names a
/// new log.
struct Loss {
    bloc: Bloc,
    idn: Desk,
    hub: Desk,
    submits: Vec<SealedSubmit>,
    next: (Arc<Roster>, Vec<u8>),
}

impl Loss {
    fn new() -> Loss {
        let bloc = Bloc::new();
        let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
        for desk in [&mut idn, &mut hub] {
            resent(desk.store.welcome(welcome_facts(0, 0), bloc.sign(desk.code), now()));
        }
        for n in 1..=4 {
            idn.send(dispatch("MOD", "routine", &format!("d{n}")));
        }
        let submits = bloc.seal(&mut idn);
        idn.store.accepted(vec![accepted(&submits[0], 11), accepted(&submits[1], 12)], now()).unwrap();
        idn.store.refused(refused(&submits[2], pb::RefusalCode::Topic), now()).unwrap();
        hub.store.deliver(vec![bloc.delivery(&submits[1], "MOD", 12)], now()).unwrap();
        let stored = bloc.settle(&mut hub, 13);
        idn.store.receipts(bloc.receipts(stored, "MOD", 13), now()).unwrap();
        let next = bloc.next(|draft| {
            draft.log.origin = "bloc.example/log-2".to_owned();
            draft.log.keys = Vec::new();
            draft.retire_keys_of(&bloc.roster);
        });
        let mut loss = Loss { bloc, idn, hub, submits, next };
        for desk in [&mut loss.idn, &mut loss.hub] {
            let (roster, note) = loss.next.clone();
            desk.store.learn_roster(Some(Position(0)), roster, &note).unwrap();
        }
        loss
    }

    /// The first Welcome of the new log ends the session, the second goes on.
    fn begin(&mut self) -> Resend {
        let facts = welcome_facts(0, 0);
        let resumption = self.idn.store.welcome(facts, self.bloc.sign("IDN"), now()).unwrap();
        assert_eq!(resumption, Resumption::NewLog);
        resent(self.idn.store.welcome(facts, self.bloc.sign("IDN"), now()))
    }
}

fn bytes(submits: &[SealedSubmit]) -> Vec<&pb::Submit> {
    submits.iter().map(|submit| &submit.submit).collect()
}

#[test]
fn what_was_confirmed_of_the_old_log_is_not_said_to_the_new_one() {
    let mut loss = Loss::new();
    assert_eq!(loss.idn.store.facts().unwrap().confirmed, 0, "before Welcome has told of it");
    loss.begin();
    assert_eq!(loss.idn.store.facts().unwrap().confirmed, 0);
}

#[test]
fn what_no_addressee_is_known_to_have_goes_out_again_as_the_same_bytes() {
    let mut loss = Loss::new();
    assert_eq!(loss.begin(), Resend::default(), "as far as the window goes, and no further");
    assert!(loss.idn.store.waiting(now()).unwrap());
    let room = Room { envelopes: 2, bytes: 1 << 20 };
    let first = loss.idn.store.seal_next(loss.bloc.sign("IDN"), room, now()).unwrap();
    assert_eq!(bytes(&first), bytes(&loss.submits[..2]), "from the first that is not known to be delivered");
    let mut idn = loss.idn.killed(&loss.bloc);
    let then = idn.store.seal_next(loss.bloc.sign("IDN"), room, now()).unwrap();
    assert_eq!(bytes(&then), bytes(&loss.submits[3..]), "what was refused was not accepted, and stays so");
    idn.send(dispatch("MOD", "flash", "d5"));
    assert_eq!(loss.bloc.seal(&mut idn)[0].number, 5);
    assert!(idn.status().alarms[0].contains("names a new log"));
}

#[test]
fn a_relay_that_is_behind_in_its_new_log_is_none_that_lost_anything() {
    let mut loss = Loss::new();
    loss.begin();
    assert_eq!(
        loss.idn.store.facts().unwrap().position,
        0,
        "orders of the new log are asked for from its start"
    );
    assert_eq!(loss.idn.store.facts().unwrap().confirmed, 0);
    let submits = loss.bloc.seal(&mut loss.idn);
    loss.idn.store.accepted(vec![accepted(&submits[0], 3)], now()).unwrap();
    resent(loss.idn.store.welcome(welcome_facts(1, 0), loss.bloc.sign("IDN"), now()));
    let resumption = loss.idn.store.welcome(welcome_facts(0, 0), loss.bloc.sign("IDN"), now()).unwrap();
    assert_eq!(resumption, Resumption::RelayBehind, "what the new log had accepted counts");
}

#[test]
fn a_refusal_of_what_every_addressee_has_changes_nothing() {
    let mut loss = Loss::new();
    loss.begin();
    let submits = loss.bloc.seal(&mut loss.idn);
    loss.idn.store.refused(refused(&submits[1], pb::RefusalCode::Expiry), now()).unwrap();
    let outgoing = loss.idn.store.outbox(10).unwrap();
    assert_eq!(
        (outgoing[2].state.as_str(), outgoing[2].addressees[0].state.as_str()),
        ("accepted", "delivered")
    );
    loss.idn.store.refused(refused(&submits[0], pb::RefusalCode::Expiry), now()).unwrap();
    assert_eq!(loss.idn.store.outbox(10).unwrap()[3].state, "refused", "nobody has this one");
}

#[test]
fn a_roster_that_only_the_old_log_knew_is_no_reason_to_wait() {
    let mut loss = Loss::new();
    loss.begin();
    let submits = loss.bloc.seal(&mut loss.idn);
    loss.idn.store.refused(refused(&submits[0], pb::RefusalCode::RosterUnknown), now()).unwrap();
    let rest = loss.bloc.seal(&mut loss.idn);
    let sealed = rest.last().unwrap();
    assert_eq!((core(sealed).roster_version, core(sealed).id), (2, core(&submits[0]).id));
}

#[test]
fn the_addressee_settles_again_by_the_new_logs_positions_and_counts_its_frames_anew() {
    let mut loss = Loss::new();
    let (bloc, mut hub) = (&loss.bloc, loss.hub);
    let mark = Mark { who: "Lt. Sari".to_owned(), ..Mark::default() };
    let short = hub.store.inbox(&Default::default()).unwrap().remove(0).short;
    hub.store.mark_read(&short, &mark, now()).unwrap();
    hub.store.deliver(vec![bloc.delivery(&loss.submits[0], "MOD", 11)], now()).unwrap();
    let facts = welcome_facts(0, 0);
    assert_eq!(hub.store.welcome(facts, bloc.sign("MOD"), now()).unwrap(), Resumption::NewLog);
    resent(hub.store.welcome(facts, bloc.sign("MOD"), now()));
    hub.store.deliver(vec![bloc.delivery(&loss.submits[0], "MOD", 1)], now()).unwrap();
    let stored = bloc.settle(&mut hub, 2);
    let steps: Vec<_> = bloc
        .receipts(stored.clone(), "MOD", 2)
        .into_iter()
        .map(|receipt| (receipt.part.item.kind, receipt.part.item.envelopes[0].1))
        .collect();
    assert_eq!(steps, [(ReceiptKind::Read, Position(12)), (ReceiptKind::Delivered, Position(1))]);
    assert_eq!((stored.number, hub.store.inbox(&Default::default()).unwrap().len()), (1, 2));
    loss.hub = hub;
    let kept = "SELECT count(*) FROM stored_earlier WHERE log = 1 AND number = 1";
    let kept: i64 = loss.hub.store.connection.query_row(kept, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1, "evidence of the old log stays");
}

#[test]
fn an_envelope_that_was_signed_by_an_earlier_key_is_signed_anew_and_keeps_its_name() {
    let mut loss = Loss::new();
    loss.begin();
    let new = SigningKey::generate().unwrap();
    let room = Room { envelopes: 1, bytes: 1 };
    let again = loss.idn.store.seal_next(&new, room, now()).unwrap().remove(0);
    assert_eq!(hash(&again), hash(&loss.submits[0]));
    assert_eq!(again.submit.header, loss.submits[0].submit.header);
    let proof = crate::wire::convert::proof(again.submit.proof.as_ref()).unwrap();
    let mut verifier = Verifier::new(1);
    let leaf = crate::batch::item_leaf(Tag::Envelope, &again.submit.header);
    verifier.verify(DOMAIN, Tag::Envelope, &new.public(), leaf, &proof).unwrap();
}

#[test]
fn orders_end_with_their_log_and_the_hub_is_told_which_to_give_again() {
    let mut loss = Loss::new();
    let suspend = OrderKind::Suspend { party: loss.bloc.number("MYS"), until_s: u64::MAX };
    for desk in [&mut loss.idn, &mut loss.hub] {
        learn(&loss.bloc, desk, 1, OrderKind::Minimize { until_s: at_s(60) });
        learn(&loss.bloc, desk, 2, suspend);
        assert_eq!(desk.status().orders.len(), 2);
    }
    loss.begin();
    assert_eq!(loss.idn.status().orders, [""; 0], "the new log has none");
    assert!(!loss.idn.status().alarms[0].contains("pouch order"), "that is the hub's to do");
    learn(&loss.bloc, &mut loss.idn, 1, suspend);
    assert!(loss.idn.status().orders[0].starts_with("MYS is suspended"), "{:?}", loss.idn.status().orders);
    loss.hub.store.welcome(welcome_facts(0, 0), loss.bloc.sign("MOD"), now()).unwrap();
    let alarms = loss.hub.status().alarms;
    let again = "give those again that should stand: `pouch order minimize` until 2026-11-24T10:16:00Z, `pouch order suspend MYS`";
    assert!(alarms.iter().any(|alarm| alarm.contains(again)), "{alarms:?}");
}
