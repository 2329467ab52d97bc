use super::*;
use crate::{
    desk::view::{AddresseeState, InboxFilter, Mark},
    record::leaf::{Opening, OpeningKind},
    wire::receipt::{ReceiptKind, SetAsideReason},
};

/// Three desks with one dispatch from IDN to MOD and MYS, sealed and accepted.
struct Exchange {
    bloc: Bloc,
    idn: Desk,
    hub: Desk,
    short: String,
    submit: SealedSubmit,
}

impl Exchange {
    fn new() -> Exchange {
        let bloc = Bloc::new();
        let (mut idn, hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
        let new = NewDispatch { info: vec!["MYS".to_owned()], ..dispatch("MOD", "routine", "x") };
        let short = idn.send(new);
        let submit = bloc.seal(&mut idn).remove(0);
        idn.store.accepted(vec![accepted(&submit, 7)], now()).unwrap();
        Exchange { bloc, idn, hub, short, submit }
    }

    fn deliver(&mut self) {
        self.hub.store.deliver(vec![self.bloc.delivery(&self.submit, "MOD", 7)], after(1)).unwrap();
    }

    /// Carries the hub's next Stored frame to IDN.
    fn carry(&mut self, position: u64) {
        let stored = self.hub.store.make_stored(self.bloc.sign("MOD"), after(2)).unwrap().unwrap();
        let receipts = self.bloc.receipts(stored, "MOD", position);
        self.idn.store.receipts(receipts, after(3)).unwrap();
    }

    fn addressees(&self) -> Vec<AddresseeState> {
        self.idn.store.outgoing(&self.short).unwrap().addressees
    }
}

#[test]
fn receipts_move_the_state_of_their_own_addressee_alone() {
    let mut exchange = Exchange::new();
    exchange.deliver();
    exchange.carry(8);
    let [to, info] = exchange.addressees().try_into().unwrap();
    assert_eq!((to.code.as_str(), to.role.as_str()), ("MOD", "to"));
    assert_eq!(to.delivered_at.as_deref(), Some("2026-11-24T10:15:02Z"));
    assert_eq!((info.role.as_str(), info.delivered_at), ("info", None));
    assert_eq!(exchange.idn.status().undelivered, 1, "MYS has not fetched it");
}

#[test]
fn reading_and_acknowledging_make_one_receipt_each_with_who_and_remark() {
    let mut exchange = Exchange::new();
    exchange.deliver();
    exchange.carry(8);
    let mark = Mark { who: "Lt. Sari".to_owned(), remark: "cutter sent".to_owned() };
    for _ in 0..2 {
        let row = exchange.hub.store.acknowledge(&exchange.short, &mark, after(60)).unwrap();
        assert!(row.read_at.is_some() && row.acknowledged_at.is_some());
        exchange.hub.store.mark_read(&exchange.short, &mark, after(70)).unwrap();
    }
    exchange.carry(9);
    assert_eq!(exchange.hub.store.make_stored(exchange.bloc.sign("MOD"), now()).unwrap(), None);
    let to = exchange.addressees().remove(0);
    let at = Some("2026-11-24T10:16:00Z");
    assert_eq!((to.read_at.as_deref(), to.acknowledged_at.as_deref()), (at, at), "when the person did it");
    assert_eq!(to.remark.as_deref(), Some("Lt. Sari: cutter sent"));
    let status = exchange.hub.status();
    assert_eq!((status.unread, status.unacknowledged, status.receipts_waiting), (0, 0, 3));
}

#[test]
fn a_remark_beyond_its_bound_is_refused_and_marks_nothing() {
    let mut exchange = Exchange::new();
    exchange.deliver();
    let mark = Mark { who: String::new(), remark: "x".repeat(3 * 1024 + 1) };
    assert_eq!(
        exchange.hub.store.acknowledge(&exchange.short, &mark, now()).unwrap_err().code(),
        "too-large"
    );
    assert_eq!(exchange.hub.store.incoming(&exchange.short).unwrap().summary.read_at, None);
}

#[test]
fn receipts_are_grouped_and_signed_in_one_batch_and_repeated_byte_for_byte() {
    let bloc = Bloc::new();
    let (mut idn, mut mys, mut hub) = (bloc.desk("IDN"), bloc.desk("MYS"), bloc.desk("MOD"));
    for n in 0..5 {
        idn.send(dispatch("MOD", "routine", &format!("i{n}")));
        mys.send(dispatch("MOD", "routine", &format!("m{n}")));
    }
    let submits = [bloc.seal(&mut idn), bloc.seal(&mut mys)].concat();
    for (position, submit) in (0_u64..).zip(&submits) {
        let checked = if position == 9 { Err(SetAsideReason::NotPermitted) } else { Ok(()) };
        let delivery = Delivery { checked, ..bloc.delivery(submit, "MOD", position) };
        hub.store.deliver(vec![delivery], now()).unwrap();
    }
    let stored = hub.store.make_stored(bloc.sign("MOD"), now()).unwrap().unwrap();
    assert_eq!((stored.number, stored.count), (1, 3));
    let mut hub = hub.killed(&bloc);
    assert_eq!(hub.store.unanswered_stored().unwrap(), std::slice::from_ref(&stored));
    let items: Vec<_> =
        bloc.receipts(stored.clone(), "MOD", 11).into_iter().map(|receipt| receipt.part.item).collect();
    let summary = |at: usize| (items[at].kind, items[at].reason, items[at].sender, items[at].envelopes.len());
    assert_eq!(summary(0), (ReceiptKind::Delivered, 0, bloc.number("IDN"), 5));
    assert_eq!(summary(1), (ReceiptKind::Delivered, 0, bloc.number("MYS"), 4));
    assert_eq!(summary(2), (ReceiptKind::SetAside, 4, bloc.number("MYS"), 1));
    assert_eq!((items[0].receiptor, items[0].roster_version), (bloc.number("MOD"), 1));
    let at = bloc.stored_at(&stored, "MOD", 11);
    hub.store.stored_at(&at, now()).unwrap();
    hub.store.stored_at(&at, now()).unwrap();
    assert!(hub.store.unanswered_stored().unwrap().is_empty());
    assert_eq!(hub.status().receipts_waiting, 0);
}

#[test]
fn an_answer_that_names_other_receipts_than_were_signed_is_an_alarm_and_no_answer() {
    let mut exchange = Exchange::new();
    exchange.deliver();
    let stored = exchange.hub.store.make_stored(exchange.bloc.sign("MOD"), now()).unwrap().unwrap();
    let sound = exchange.bloc.stored_at(&stored, "MOD", 8);
    let of_another_kind = Opening { kind: OpeningKind::Envelope, ..Opening::decode(&sound.opening).unwrap() };
    let other_root = Opening { hash: Hash([9; 32]), ..Opening::decode(&sound.opening).unwrap() };
    for opening in
        [Bytes::new(), of_another_kind.encode().to_vec().into(), other_root.encode().to_vec().into()]
    {
        let lie = pb::StoredAt { opening, ..sound.clone() };
        exchange.hub.store.stored_at(&lie, now()).unwrap();
        assert_eq!(exchange.hub.store.unanswered_stored().unwrap(), std::slice::from_ref(&stored));
        assert!(exchange.hub.status().alarms[0].contains("logged other receipts"));
    }
    exchange.hub.store.stored_at(&sound, now()).unwrap();
    assert!(exchange.hub.store.unanswered_stored().unwrap().is_empty());
}

#[test]
fn a_frame_that_the_relay_took_and_has_erased_is_answered_and_a_person_hears_of_it() {
    let mut exchange = Exchange::new();
    exchange.deliver();
    let stored = exchange.hub.store.make_stored(exchange.bloc.sign("MOD"), now()).unwrap().unwrap();
    let erased = pb::StoredAt { number: stored.number, position: u64::MAX, ..pb::StoredAt::default() };
    exchange.hub.store.stored_at(&erased, now()).unwrap();
    assert!(exchange.hub.store.unanswered_stored().unwrap().is_empty());
    let status = exchange.hub.status();
    assert_eq!(status.receipts_waiting, 0);
    assert!(status.alarms[0].contains("has erased what proves it"), "{:?}", status.alarms);
    let short = exchange.hub.store.inbox(&InboxFilter::default()).unwrap().remove(0).short;
    let receipt = exchange.hub.store.exhibits(&short).unwrap().receipts.remove(0);
    assert_eq!((receipt.leaf.position, receipt.leaf.proof), (None, None), "no leaf is named for it");
}

#[test]
fn numbers_of_stored_frames_are_dense_and_a_frame_stays_below_60_kib() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    for n in 0..300 {
        idn.send(dispatch("MOD", "routine", &format!("{n}")));
    }
    while idn.store.waiting(now()).unwrap() {
        for submit in bloc.seal(&mut idn) {
            hub.store.deliver(vec![bloc.delivery(&submit, "MOD", submit.number)], now()).unwrap();
        }
    }
    let mark = Mark { who: "x".repeat(200), remark: "x".repeat(3 * 1024) };
    for row in hub.store.inbox(&Default::default()).unwrap() {
        hub.store.mark_read(&row.short, &mark, now()).unwrap();
    }
    let mut frames = Vec::new();
    while let Some(stored) = hub.store.make_stored(bloc.sign("MOD"), now()).unwrap() {
        assert!(stored.items.len() <= 60 * 1024);
        frames.push(stored);
    }
    assert_eq!(
        frames.iter().map(|frame| frame.number).collect::<Vec<_>>(),
        (1..=frames.len() as u64).collect::<Vec<_>>()
    );
    let items: Vec<_> =
        frames.into_iter().flat_map(|frame| bloc.receipts(frame, "MOD", 1)).map(|r| r.part.item).collect();
    let named = |kind| {
        items.iter().filter(|item| item.kind == kind).map(|item| item.envelopes.len()).collect::<Vec<_>>()
    };
    assert_eq!(named(ReceiptKind::Delivered), [256, 44]);
    assert_eq!(named(ReceiptKind::Read), [1; 100]);
}

#[test]
fn a_second_delivery_is_receipted_again() {
    let mut exchange = Exchange::new();
    exchange.deliver();
    exchange.carry(8);
    assert!(!exchange.hub.store.receipts_waiting().unwrap());
    exchange.deliver();
    exchange.deliver();
    assert_eq!(exchange.hub.status().receipts_waiting, 2, "one in the first frame, one to be signed");
    exchange.carry(9);
    assert_eq!(exchange.addressees()[0].delivered_at.as_deref(), Some("2026-11-24T10:15:02Z"));
}

#[test]
fn a_receipt_twice_changes_nothing() {
    let mut exchange = Exchange::new();
    exchange.deliver();
    let stored = exchange.hub.store.make_stored(exchange.bloc.sign("MOD"), after(2)).unwrap().unwrap();
    let receipts = exchange.bloc.receipts(stored, "MOD", 8);
    exchange.idn.store.receipts(receipts.clone(), after(3)).unwrap();
    let before = *exchange.idn.store.changes().borrow();
    exchange.idn.store.receipts(receipts, after(4)).unwrap();
    assert_eq!(*exchange.idn.store.changes().borrow(), before);
    assert_eq!(exchange.idn.store.facts().unwrap().confirmed, 8);
}

#[test]
fn a_receipt_by_someone_else_than_the_addressee_moves_nothing_and_is_an_alarm() {
    let mut exchange = Exchange::new();
    exchange.deliver();
    let stored = exchange.hub.store.make_stored(exchange.bloc.sign("MOD"), after(2)).unwrap().unwrap();
    let mut receipts = exchange.bloc.receipts(stored, "MOD", 8);
    receipts[0].part.item.addressee = exchange.bloc.number("MYS");
    exchange.idn.store.receipts(receipts, after(3)).unwrap();
    assert!(exchange.addressees().iter().all(|addressee| addressee.delivered_at.is_none()));
    assert!(exchange.idn.status().alarms[0].contains("fits nothing that this desk sent"));
}

/// FAULTS 84: the signed notice.
#[test]
fn a_set_aside_receipt_tells_the_sender_why() {
    let mut exchange = Exchange::new();
    let delivery = exchange.bloc.delivery(&exchange.submit, "MOD", 7);
    let unverified = Delivery { checked: Err(SetAsideReason::BadSignature), ..delivery };
    exchange.hub.store.deliver(vec![unverified], now()).unwrap();
    exchange.carry(8);
    let to = exchange.addressees().remove(0);
    assert_eq!((to.delivered_at, to.set_aside_reason.as_deref()), (None, Some("bad signature")));
    assert!(to.set_aside_at.is_some());
    assert!(exchange.idn.status().alarms[0].contains("was set aside by MOD"));
}
