use super::*;
use crate::{
    desk::view::{Commit, Cursor, InboxFilter, Incoming, TakeCursor},
    seal::{self, Slip},
    wire::{DispatchId, Role, SubmissionNumber, envelope::Sealing, receipt::SetAsideReason},
};

fn rows(desk: &Desk) -> Vec<Incoming> {
    desk.store.inbox(&InboxFilter::default()).unwrap()
}

fn registers(desk: &Desk) -> Vec<u64> {
    rows(desk).iter().map(|row| row.register).collect()
}

/// The next envelope of one stream, sealed by hand, so that a test can lie.
fn crafted(bloc: &Bloc, id: u8, slip: Slip, change: impl FnOnce(&mut Core)) -> Delivery {
    let draft = pb::Draft {
        r#type: pb::DispatchType::Report.into(),
        from: Some(pb::Originator { party: bloc.number("IDN").0, ..pb::Originator::default() }),
        to: vec![bloc.number("MOD").0],
        subject: format!("Number {}", slip.number),
        salt: Bytes::from_static(&[1; 32]),
        ..pb::Draft::default()
    };
    let content = seal::compose(&draft, "IDN/2026/0001", "241015ZNOV26");
    let mut core = Core {
        trust_domain: DOMAIN.to_owned(),
        id: DispatchId([id; 16]),
        sender: bloc.number("IDN"),
        submission: SubmissionNumber(u64::from(id)),
        roster_version: 1,
        roster_hash: bloc.roster.hash(),
        addressees: vec![crate::wire::envelope::Addressee { party: bloc.number("MOD"), role: Role::To }],
        precedence_action: crate::wire::Precedence::Routine,
        precedence_info: crate::wire::Precedence::Routine,
        topic: "maritime".to_owned(),
        label: "BLOC UNCLASSIFIED".to_owned(),
        exercise: false,
        expires_s: 1_800_000_000,
        size_bucket: 0,
        commitment: None,
        attachments: Vec::new(),
        supersedes: None,
        checkpoint_size: 0,
        checkpoint_root: crate::merkle::empty_root(),
        sealing: Sealing::Clear,
    };
    change(&mut core);
    let sealed = seal::seal(&core, content, &[slip]);
    let leaf = sealed.hash().0;
    let proof = &bloc.sign("IDN").sign_batch(DOMAIN, crate::batch::Tag::Envelope, &[leaf])[0];
    let submit = SealedSubmit { number: 1, precedence: core.precedence_action, submit: sealed.submit(proof) };
    bloc.delivery(&submit, "MOD", u64::from(id))
}

fn slip(number: u64, previous: Hash) -> Slip {
    Slip { epoch: 1, number, previous, voided: vec![] }
}

/// Delivers crafted envelopes one after the other, each naming the one before as it should.
fn chain(bloc: &Bloc, desk: &mut Desk, numbers: &[u64]) -> Hash {
    let mut previous = Hash::ZERO;
    for number in numbers {
        let delivery = crafted(bloc, u8::try_from(*number).unwrap(), slip(*number, previous), |_| {});
        previous = delivery.envelope_hash.0;
        desk.store.deliver(vec![delivery], now()).unwrap();
    }
    previous
}

#[test]
fn a_dispatch_arrives_whole_byte_for_byte() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    let new = NewDispatch {
        info: vec!["MYS".to_owned()],
        kind: "note-verbale".to_owned(),
        body: "Kapal tanpa lampu.\n\u{1f6a2} สวัสดี\r\n\0".to_owned(),
        language: "id".to_owned(),
        office: "Defence Attaché".to_owned(),
        person: "Col. A".to_owned(),
        acknowledgement_required: true,
        answer_due: Some("2026-11-25T12:00:00Z".to_owned()),
        ..dispatch("MOD", "flash", "Unlit vessel")
    };
    let sent = idn.store.enqueue(new.clone(), now()).unwrap();
    let submit = bloc.seal(&mut idn).remove(0);
    hub.store.deliver(vec![bloc.delivery(&submit, "MOD", 7)], after(2)).unwrap();
    let hub = hub.killed(&bloc);
    let whole = hub.store.incoming(&sent.id).unwrap();
    let row = &whole.summary;
    assert_eq!((row.register, row.from.as_str(), row.role.as_str()), (1, "IDN", "to"));
    assert_eq!(
        (&row.id, &row.short, &row.reference, &row.dtg),
        (&sent.id, &sent.short, &sent.reference, &sent.dtg)
    );
    assert_eq!(
        (row.subject.as_str(), row.precedence.as_str(), row.kind.as_str()),
        ("Unlit vessel", "flash", "note-verbale")
    );
    assert_eq!((row.label.as_str(), row.topic.as_str()), ("BLOC UNCLASSIFIED", "maritime"));
    assert!(row.exercise && row.acknowledgement_required && row.notices.is_empty());
    assert_eq!((row.position, row.received_at.as_str()), (7, "2026-11-24T10:15:02Z"));
    assert_eq!(row.envelope_hash, hash(&submit).to_string());
    assert_eq!(whole.body, new.body);
    assert_eq!(
        (whole.office.as_str(), whole.person.as_str(), whole.language.as_str()),
        ("Defence Attaché", "Col. A", "id")
    );
    assert_eq!(whole.answer_due.as_deref(), Some("2026-11-25T12:00:00Z"));
    let pair = |code: &str, role: &str| (code.to_owned(), role.to_owned());
    assert_eq!(whole.addressees, [pair("MOD", "to"), pair("MYS", "info")]);
    assert_eq!(rows(&hub), std::slice::from_ref(row));
}

/// FAULTS 84: replayed.
#[test]
fn the_same_envelope_twice_is_one_dispatch() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    idn.send(dispatch("MOD", "routine", "Once"));
    let submit = bloc.seal(&mut idn).remove(0);
    for _ in 0..2 {
        hub.store.deliver(vec![bloc.delivery(&submit, "MOD", 7); 2], now()).unwrap();
    }
    assert_eq!(registers(&hub), [1]);
    assert!(hub.status().alarms.is_empty());
}

#[test]
fn a_dispatch_sealed_again_is_one_dispatch() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    idn.send(dispatch("MOD", "routine", "Once"));
    let first = bloc.seal(&mut idn).remove(0);
    idn.store.accepted(vec![accepted(&first, 7)], now()).unwrap();
    idn.store.refused(refused(&first, pb::RefusalCode::NumberReused), now()).unwrap();
    let again = bloc.seal(&mut idn).remove(0);
    hub.store.deliver(vec![bloc.delivery(&first, "MOD", 7)], now()).unwrap();
    hub.store.deliver(vec![bloc.delivery(&again, "MOD", 8)], now()).unwrap();
    hub.store.deliver(vec![bloc.delivery(&again, "MOD", 8)], now()).unwrap();
    assert_eq!(registers(&hub), [1]);
    let stored = hub.store.make_stored(bloc.sign("MOD"), now()).unwrap().unwrap();
    let receipts = bloc.receipts(stored, "MOD", 9);
    assert_eq!(receipts[0].part.item.envelopes.len(), 2, "the copy is receipted too");
}

#[test]
fn a_copy_that_opens_is_shown_after_one_that_did_not() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    let sent = idn.send(dispatch("MOD", "routine", "x"));
    let first = bloc.seal(&mut idn).remove(0);
    idn.store.accepted(vec![accepted(&first, 7)], now()).unwrap();
    idn.store.refused(refused(&first, pb::RefusalCode::OldNumber), now()).unwrap();
    let again = bloc.seal(&mut idn).remove(0);
    let broken = Delivery { checked: Err(SetAsideReason::BadSignature), ..bloc.delivery(&first, "MOD", 7) };
    hub.store.deliver(vec![broken, bloc.delivery(&again, "MOD", 8)], now()).unwrap();
    assert_eq!(registers(&hub), [1, 2]);
    assert_eq!(rows(&hub)[0].set_aside.as_deref(), Some("bad signature"));
    assert_eq!(rows(&hub)[1].set_aside, None);
    let texts: Vec<String> = rows(&hub).into_iter().map(|row| row.subject).collect();
    assert_eq!(texts, ["", "x"], "nothing of what was set aside is believed");
    assert_ne!(sent, rows(&hub)[1].id);
}

/// FAULTS 84: garbage.
#[test]
fn what_does_not_open_is_set_aside_and_holds_nothing_up() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    let bad = crafted(&bloc, 1, slip(1, Hash::ZERO), |core| core.exercise = true);
    let good = crafted(&bloc, 2, slip(2, bad.envelope_hash.0), |_| {});
    hub.store.deliver(vec![bad.clone(), good], now()).unwrap();
    hub.store.deliver(vec![bad], now()).unwrap();
    assert_eq!(registers(&hub), [1, 2]);
    let rows = rows(&hub);
    assert_eq!(rows[0].set_aside.as_deref(), Some("does not open"));
    assert!(rows[1].set_aside.is_none() && rows[1].notices.is_empty(), "its slip counted all the same");
    assert!(hub.status().alarms[0].contains("register 1 from IDN was set aside: does not open"));
    assert_eq!(hub.store.incoming(&rows[0].short).unwrap().body, "");
    let marked = hub.store.acknowledge(&rows[0].short, &Default::default(), now()).unwrap_err();
    assert_eq!(marked.code(), "usage");
}

#[test]
fn the_register_is_gap_free_over_kills_and_duplicates() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    for n in 0..20 {
        idn.send(dispatch("MOD", if n % 3 == 0 { "flash" } else { "routine" }, "x"));
    }
    let submits = bloc.seal(&mut idn);
    for (position, pair) in submits.windows(2).enumerate() {
        let position = u64::try_from(position).unwrap();
        let deliveries =
            [0, 1].map(|n: u64| bloc.delivery(&pair[usize::try_from(n).unwrap()], "MOD", position + n));
        hub.store.deliver(deliveries.to_vec(), now()).unwrap();
        hub = hub.killed(&bloc);
    }
    assert_eq!(registers(&hub), (1..=20).collect::<Vec<_>>());
}

#[test]
fn a_gap_is_told_beside_the_dispatch_after_it_and_as_an_alarm() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    chain(&bloc, &mut hub, &[1, 2, 5]);
    let notice = "2 dispatches are missing (stream numbers 3 to 4)";
    assert_eq!(rows(&hub)[2].notices, [notice]);
    let alarms = hub.status().alarms;
    assert_eq!(alarms.len(), 1);
    assert!(alarms[0].contains("routine from IDN before register 3: 2 dispatches are missing"));
}

#[test]
fn a_gap_closes_when_its_dispatch_comes_or_its_number_was_given_up() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    let last = chain(&bloc, &mut hub, &[1, 5]);
    let late = crafted(&bloc, 3, slip(3, Hash([9; 32])), |_| {});
    hub.store.deliver(vec![late], now()).unwrap();
    let open = ["1 dispatch is missing (stream number 2)", "1 dispatch is missing (stream number 4)"];
    assert_eq!(rows(&hub)[1].notices, open);
    let told = Slip { voided: vec![2, 4], ..slip(6, last) };
    hub.store.deliver(vec![crafted(&bloc, 6, told, |_| {})], now()).unwrap();
    assert!(rows(&hub).iter().all(|row| row.notices.is_empty()));
    assert!(hub.status().alarms.is_empty());
}

#[test]
fn refusals_at_the_relay_leave_no_gap_once_the_sender_has_told() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    for n in 1..=4 {
        idn.send(dispatch("MOD", "routine", &format!("{n}")));
    }
    let submits = bloc.seal(&mut idn);
    idn.store.refused(refused(&submits[1], pb::RefusalCode::Topic), now()).unwrap();
    for (at, position) in [(0, 1), (2, 2), (3, 3)] {
        hub.store.deliver(vec![bloc.delivery(&submits[at], "MOD", position)], now()).unwrap();
    }
    assert_eq!(rows(&hub)[1].notices, ["1 dispatch is missing (stream number 2)"]);
    idn.send(dispatch("MOD", "routine", "5"));
    let told = bloc.seal(&mut idn).remove(0);
    hub.store.deliver(vec![bloc.delivery(&told, "MOD", 4)], now()).unwrap();
    assert!(rows(&hub).iter().all(|row| row.notices.is_empty()), "{:?}", rows(&hub));
    assert!(hub.status().alarms.is_empty());
}

/// FAULTS 84: a number that was used.
#[test]
fn another_envelope_under_a_known_number_is_kept_with_an_alarm() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    chain(&bloc, &mut hub, &[1]);
    hub.store.deliver(vec![crafted(&bloc, 2, slip(1, Hash::ZERO), |_| {})], now()).unwrap();
    assert_eq!(registers(&hub), [1, 2]);
    assert_eq!(rows(&hub)[1].notices, ["stream number 1 came before with another envelope"]);
    assert!(hub.status().alarms[0].contains("register 2 from IDN"));
}

#[test]
fn a_higher_epoch_is_a_notice_and_a_lower_one_an_alarm() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    chain(&bloc, &mut hub, &[1]);
    let restored = Slip { epoch: 2, ..slip(1, Hash::ZERO) };
    hub.store.deliver(vec![crafted(&bloc, 2, restored, |_| {})], now()).unwrap();
    assert_eq!(rows(&hub)[1].notices, ["first of a new series: the sender's store was restored or replaced"]);
    assert!(hub.status().alarms.is_empty());
    let old = slip(2, rows(&hub)[0].envelope_hash.parse().unwrap());
    hub.store.deliver(vec![crafted(&bloc, 3, old, |_| {})], now()).unwrap();
    assert_eq!(rows(&hub)[2].notices, ["it counts in epoch 1, older than 2"]);
    assert_eq!(hub.status().alarms.len(), 1);
}

#[test]
fn an_envelope_that_follows_on_another_one_is_an_alarm() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    chain(&bloc, &mut hub, &[1]);
    hub.store.deliver(vec![crafted(&bloc, 2, slip(2, Hash([5; 32])), |_| {})], now()).unwrap();
    assert_eq!(rows(&hub)[1].notices, ["it follows on another envelope than the last one that came"]);
    assert_eq!(hub.status().alarms.len(), 1);
}

#[test]
fn the_largest_stream_number_costs_one_row() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    let far = i64::MAX.unsigned_abs();
    hub.store.deliver(vec![crafted(&bloc, 1, slip(far, Hash::ZERO), |_| {})], now()).unwrap();
    assert_eq!(rows(&hub)[0].notices.len(), 1);
}

#[test]
fn the_list_is_narrowed_by_its_filter() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    idn.send(dispatch("MOD", "routine", "a"));
    idn.send(NewDispatch { topic: "cyber".to_owned(), ..dispatch("MOD", "routine", "b") });
    idn.send(NewDispatch { acknowledgement_required: true, ..dispatch("MOD", "routine", "c") });
    for submit in bloc.seal(&mut idn) {
        hub.store.deliver(vec![bloc.delivery(&submit, "MOD", submit.number)], now()).unwrap();
    }
    let subjects = |filter: InboxFilter| -> Vec<String> {
        hub.store.inbox(&filter).unwrap().into_iter().map(|row| row.subject).collect()
    };
    assert_eq!(subjects(InboxFilter { after: Some(1), ..Default::default() }), ["b", "c"]);
    assert_eq!(subjects(InboxFilter { topic: Some("cyber".to_owned()), ..Default::default() }), ["b"]);
    assert_eq!(subjects(InboxFilter { unacked: Some(true), ..Default::default() }), ["c"]);
    assert_eq!(subjects(InboxFilter { limit: Some(2), ..Default::default() }), ["a", "b"]);
    let status = hub.status();
    assert_eq!((status.inbox, status.unread, status.unacknowledged), (3, 3, 1));
}

#[test]
fn a_cursor_stays_where_its_reader_committed_it() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    chain(&bloc, &mut hub, &[1, 2]);
    assert_eq!(hub.store.cursor("watch").unwrap(), Cursor { register: 0 });
    hub.store.commit("watch", &commit(2, ""), now()).unwrap();
    let beyond = hub.store.commit("watch", &commit(3, ""), now()).unwrap_err();
    assert_eq!(beyond.code(), "usage");
    assert_eq!(hub.store.commit("two\nlines", &commit(1, ""), now()).unwrap_err().code(), "usage");
    let hub = hub.killed(&bloc);
    assert_eq!(hub.store.cursor("watch").unwrap(), Cursor { register: 2 });
    assert_eq!(hub.store.cursor("other").unwrap(), Cursor { register: 0 });
}

fn commit(register: u64, reader: &str) -> Commit {
    Commit { register, reader: reader.to_owned() }
}

#[test]
fn of_two_readers_of_one_cursor_one_has_it_until_its_lease_ends() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    let take = |reader: &str| TakeCursor { reader: reader.to_owned(), lease_s: 60 };
    assert_eq!(hub.store.take_cursor("watch", &take("a"), now()).unwrap(), Cursor { register: 0 });
    let told = hub.store.take_cursor("watch", &take("b"), after(59)).unwrap_err();
    assert_eq!(told.code(), "taken");
    assert!(told.to_string().contains("until 2026-11-24T10:16:00Z; stop it, or name another"), "{told}");
    for reader in ["b", ""] {
        assert_eq!(hub.store.commit("watch", &commit(0, reader), after(59)).unwrap_err().code(), "taken");
    }
    hub.store.commit("watch", &commit(0, "a"), after(59)).unwrap();
    hub.store.take_cursor("watch", &take("a"), after(59)).unwrap();
    assert_eq!(
        hub.store.take_cursor("watch", &take("b"), after(100)).unwrap_err().code(),
        "taken",
        "kept on"
    );
    hub.store.take_cursor("other", &take("b"), after(100)).unwrap();
    hub.store.take_cursor("watch", &take("b"), after(119)).unwrap();
    let lost = hub.store.commit("watch", &commit(0, "a"), after(120)).unwrap_err();
    assert_eq!(lost.code(), "taken", "who lost its lease hears of it before anything comes twice");
}

#[test]
fn a_lease_has_bounds_and_ends_where_the_clock_goes_back() {
    let bloc = Bloc::new();
    let mut hub = bloc.desk("MOD");
    let take = |reader: &str, lease_s| TakeCursor { reader: reader.to_owned(), lease_s };
    for (reader, lease_s) in [("a", 601), ("", 60), ("two\nlines", 60)] {
        assert_eq!(
            hub.store.take_cursor("watch", &take(reader, lease_s), now()).unwrap_err().code(),
            "usage"
        );
    }
    hub.store.take_cursor("watch", &take("a", 600), now()).unwrap();
    hub.store.take_cursor("watch", &take("b", 600), after(-3_600)).unwrap();
    hub.store.take_cursor("watch", &take("b", 0), after(-3_599)).unwrap();
    hub.store.take_cursor("watch", &take("a", 600), after(-3_598)).unwrap();
    for n in 1..crate::limits::CURSORS_MAX {
        hub.store.take_cursor(&format!("c{n}"), &take("b", 600), after(-3_597)).unwrap();
    }
    assert_eq!(hub.store.take_cursor("more", &take("b", 600), after(-3_597)).unwrap_err().code(), "usage");
}
