use super::*;
use crate::{
    seal::{self, Slip},
    wire::{Precedence, convert, envelope::Envelope},
};

/// The slip of a submission for an addressee.
fn slip(submit: &SealedSubmit, index: usize) -> Slip {
    let proof = convert::proof(submit.submit.proof.as_ref()).unwrap();
    let (envelope, _) = Envelope::from_submit(&submit.submit, &proof).unwrap();
    Slip::decode(&envelope.wrap(index).bytes).unwrap()
}

fn subject(submit: &SealedSubmit) -> String {
    let opened = seal::OpenedDispatch::decode(&submit.submit.ciphertext).unwrap();
    opened.draft().subject.clone()
}

#[test]
fn flash_is_sealed_first_and_the_oldest_of_each_precedence_before_the_others() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    for (precedence, subject) in
        [("routine", "r1"), ("flash", "z1"), ("immediate", "o1"), ("routine", "r2"), ("flash", "z2")]
    {
        desk.send(dispatch("MOD", precedence, subject));
    }
    let submits = bloc.seal(&mut desk);
    let order: Vec<String> = submits.iter().map(subject).collect();
    assert_eq!(order, ["z1", "z2", "o1", "r1", "r2"]);
    assert_eq!(submits.iter().map(|submit| submit.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(submits[0].precedence, Precedence::Flash);
    assert_eq!(core(&submits[4]).submission.0, 5);
}

#[test]
fn one_signature_covers_a_batch_of_at_most_64() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    for n in 0..70 {
        desk.send(dispatch("MOD", "routine", &format!("d{n}")));
    }
    let first = bloc.seal(&mut desk);
    assert_eq!(first.len(), 64);
    let key = bloc.sign("IDN").public();
    let mut verifier = Verifier::new(4);
    for submit in &first {
        VerifiedEnvelope::verify(&submit.submit, DOMAIN, &key, &mut verifier).unwrap();
    }
    assert_eq!(bloc.seal(&mut desk).len(), 6);
    assert!(!desk.store.waiting(now()).unwrap());
}

#[test]
fn sealing_stops_where_the_window_ends_but_for_one_frame() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    for _ in 0..4 {
        desk.send(NewDispatch { body: "x".repeat(10_000), ..dispatch("MOD", "routine", "Long") });
    }
    let mut seal = |envelopes, bytes| {
        desk.store.seal_next(bloc.sign("IDN"), Room { envelopes, bytes }, now()).unwrap().len()
    };
    assert_eq!(seal(0, 1 << 20), 0);
    assert_eq!(seal(1, 1 << 20), 1);
    assert_eq!(seal(8, 0), 0);
    assert_eq!(seal(8, 12_000), 2, "the second goes over the bytes that are left");
    assert_eq!(seal(8, 1), 1);
}

#[test]
fn the_same_bytes_go_out_again_after_a_kill() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    desk.send(dispatch("MOD", "routine", "First"));
    desk.send(dispatch("MYS", "flash", "Second"));
    let sealed = bloc.seal(&mut desk);
    let mut desk = desk.killed(&bloc);
    assert_eq!(desk.store.unanswered().unwrap(), sealed);
    let facts = welcome_facts(0, 0);
    assert_eq!(resent(desk.store.welcome(facts, bloc.sign("IDN"), now())).submits, sealed);
    assert!(bloc.seal(&mut desk).is_empty(), "nothing is sealed a second time");
    assert!(desk.status().alarms.is_empty());
}

#[test]
fn accepted_settles_a_submission_once() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let short = desk.send(dispatch("MOD", "routine", "x"));
    let sealed = bloc.seal(&mut desk);
    desk.store.accepted(vec![accepted(&sealed[0], 41)], now()).unwrap();
    desk.store.accepted(vec![accepted(&sealed[0], 41)], after(9)).unwrap();
    let outgoing = desk.store.outgoing(&short).unwrap();
    assert_eq!((outgoing.state.as_str(), outgoing.position), ("accepted", Some(41)));
    assert_eq!(outgoing.accepted_at, Some(now().to_string()));
    assert_eq!(outgoing.envelope_hash, Some(hash(&sealed[0]).to_string()));
    assert!(desk.store.unanswered().unwrap().is_empty());
    assert_eq!((desk.status().queued, desk.status().undelivered), (0, 1));
}

#[test]
fn accepted_for_another_envelope_settles_nothing_and_raises_an_alarm() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    desk.send(dispatch("MOD", "routine", "x"));
    let sealed = bloc.seal(&mut desk);
    let wrong = pb::Accepted { envelope_hash: Bytes::from_static(&[1; 32]), ..accepted(&sealed[0], 41) };
    desk.store.accepted(vec![wrong], now()).unwrap();
    assert_eq!(desk.store.unanswered().unwrap(), sealed);
    assert!(desk.status().alarms[0].contains("another envelope"));
}

#[test]
fn a_roster_that_the_relay_lacks_is_waited_for_and_no_persons_business() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let short = desk.send(dispatch("MOD", "routine", "x"));
    let first = bloc.seal(&mut desk);
    desk.store.refused(refused(&first[0], pb::RefusalCode::RosterUnknown), now()).unwrap();
    assert!(!desk.store.waiting(now()).unwrap(), "asked again at once it would be refused again");
    assert_eq!(desk.store.outgoing(&short).unwrap().state, "queued");
    desk.store.learn_roster(Some(Position(9)), bloc.roster.clone(), &bloc.note).unwrap();
    let second = bloc.seal(&mut desk);
    assert_eq!(second.len(), 1, "the relay has the very roster now");
    desk.store.refused(refused(&second[0], pb::RefusalCode::RosterUnknown), now()).unwrap();
    desk.store.welcome(welcome_facts(0, 0), bloc.sign("IDN"), now()).unwrap();
    assert!(desk.store.waiting(now()).unwrap(), "a new session tries once more");
}

#[test]
fn a_stale_roster_waits_for_the_newer_one_and_keeps_the_id() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let short = desk.send(dispatch("MOD", "routine", "x"));
    let first = bloc.seal(&mut desk);
    desk.store.refused(refused(&first[0], pb::RefusalCode::RosterStale), now()).unwrap();
    assert!(!desk.store.waiting(now()).unwrap(), "the same roster would be refused again");
    assert_eq!(desk.store.outgoing(&short).unwrap().state, "queued");
    let (roster, note) = bloc.next(|draft| draft.parties[2].name = "Jakarta".to_owned());
    desk.store.learn_roster(Some(Position(9)), roster, &note).unwrap();
    let second = bloc.seal(&mut desk);
    let (before, after) = (core(&first[0]), core(&second[0]));
    assert_eq!((after.id, after.supersedes, after.roster_version), (before.id, None, 2));
    assert_eq!(after.submission.0, 2);
}

#[test]
fn what_was_accepted_once_gets_a_new_id_that_names_the_first() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let short = desk.send(dispatch("MOD", "routine", "x"));
    let first = bloc.seal(&mut desk);
    desk.store.accepted(vec![accepted(&first[0], 41)], now()).unwrap();
    // A relay that lost its journal's end is sent the same bytes again, and may not want the number any more.
    desk.store.refused(refused(&first[0], pb::RefusalCode::NumberReused), now()).unwrap();
    let second = bloc.seal(&mut desk);
    desk.store.accepted(vec![accepted(&second[0], 42)], now()).unwrap();
    desk.store.refused(refused(&second[0], pb::RefusalCode::OldNumber), now()).unwrap();
    let third = bloc.seal(&mut desk);
    let ids = [&first[0], &second[0], &third[0]].map(|submit| core(submit).id);
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    assert_eq!(core(&second[0]).supersedes, Some(ids[0]));
    assert_eq!(core(&third[0]).supersedes, Some(ids[0]));
    assert!(!desk.status().alarms.is_empty(), "a relay that takes its word back is an alarm");
    assert_eq!(desk.store.outgoing(&short).unwrap().state, "sealed");
}

#[test]
fn what_all_addressees_have_is_accepted_where_the_relay_knows_its_number_no_more() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    let short = idn.send(dispatch("MOD", "routine", "x"));
    let sealed = bloc.seal(&mut idn);
    hub.store.deliver(vec![bloc.delivery(&sealed[0], "MOD", 7)], now()).unwrap();
    let stored = bloc.settle(&mut hub, 8);
    // Accepted was lost, and its record is erased when the desk comes back.
    idn.store.receipts(bloc.receipts(stored, "MOD", 8), now()).unwrap();
    idn.store.refused(refused(&sealed[0], pb::RefusalCode::OldNumber), now()).unwrap();
    assert_eq!(idn.store.outgoing(&short).unwrap().state, "accepted");
    assert!(bloc.seal(&mut idn).is_empty() && idn.store.unanswered().unwrap().is_empty());
    assert!(idn.store.exhibits(&short).is_err(), "nothing proves that it was accepted");
    assert_eq!(idn.status().alarms, [""; 0]);
}

#[test]
fn any_other_refusal_is_for_a_person() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let short = desk.send(dispatch("MOD", "routine", "x"));
    let sealed = bloc.seal(&mut desk);
    desk.store.refused(refused(&sealed[0], pb::RefusalCode::MailboxFull), now()).unwrap();
    desk.store.refused(refused(&sealed[0], pb::RefusalCode::RosterStale), now()).unwrap();
    let outgoing = desk.store.outgoing(&short).unwrap();
    assert_eq!(
        (outgoing.state.as_str(), outgoing.refusal.unwrap().code.as_str()),
        ("refused", "MAILBOX_FULL")
    );
    assert!(bloc.seal(&mut desk).is_empty());
    assert_eq!(desk.status().refused, 1);
}

#[test]
fn a_dispatch_is_sealed_sixteen_times_at_most() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let short = desk.send(dispatch("MOD", "routine", "x"));
    for _ in 0..16 {
        let sealed = bloc.seal(&mut desk);
        desk.store.refused(refused(&sealed[0], pb::RefusalCode::NumberReused), now()).unwrap();
    }
    assert!(bloc.seal(&mut desk).is_empty());
    assert_eq!(desk.store.outgoing(&short).unwrap().refusal.unwrap().code, "ATTEMPTS");
}

#[test]
fn what_expired_in_the_outbox_is_not_sealed() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let short = desk.send(NewDispatch { expires_s: Some(60), ..dispatch("MOD", "flash", "x") });
    let room = Room { envelopes: 8, bytes: 1 << 20 };
    assert!(desk.store.seal_next(bloc.sign("IDN"), room, after(60)).unwrap().is_empty());
    assert_eq!(desk.store.outgoing(&short).unwrap().refusal.unwrap().code, "EXPIRY");
}

#[test]
fn slips_count_for_each_addressee_and_precedence_and_name_the_one_before() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    desk.send(dispatch("MOD", "routine", "1"));
    desk.send(NewDispatch { info: vec!["MYS".to_owned()], ..dispatch("MOD", "routine", "2") });
    desk.send(dispatch("MOD", "flash", "3"));
    let [flash, first, second] = bloc.seal(&mut desk).try_into().unwrap();
    let epoch = 1;
    let begun = Slip { epoch, number: 1, previous: Hash::ZERO, voided: vec![] };
    assert_eq!(slip(&flash, 0), begun);
    assert_eq!(slip(&first, 0), begun);
    assert_eq!(slip(&second, 0), Slip { epoch, number: 2, previous: hash(&first), voided: vec![] });
    assert_eq!(slip(&second, 1), begun, "to MYS it is the first");
}

#[test]
fn a_refused_number_is_given_up_in_the_next_slip_and_told_again_if_that_is_refused_too() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let mut send_and_seal = |subject: &str| {
        desk.send(dispatch("MOD", "routine", subject));
        let sealed = bloc.seal(&mut desk).remove(0);
        (sealed.clone(), slip(&sealed, 0))
    };
    let (first, _) = send_and_seal("1");
    let (second, _) = send_and_seal("2");
    desk.store.refused(refused(&second, pb::RefusalCode::Topic), now()).unwrap();
    let mut send_and_seal = |subject: &str| {
        desk.send(dispatch("MOD", "routine", subject));
        let sealed = bloc.seal(&mut desk).remove(0);
        (sealed.clone(), slip(&sealed, 0))
    };
    let (third, told) = send_and_seal("3");
    assert_eq!((told.number, told.previous, told.voided), (3, hash(&first), vec![2]));
    desk.store.refused(refused(&third, pb::RefusalCode::Topic), now()).unwrap();
    desk.send(dispatch("MOD", "routine", "4"));
    let told = slip(&bloc.seal(&mut desk)[0], 0);
    assert_eq!((told.number, told.previous, told.voided), (4, hash(&first), vec![2, 3]));
}

#[test]
fn a_new_incarnation_begins_every_stream_anew() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    desk.send(dispatch("MOD", "routine", "1"));
    bloc.seal(&mut desk);
    desk.store.set_incarnation(2).unwrap();
    desk.store.set_incarnation(1).unwrap();
    desk.send(dispatch("MOD", "routine", "2"));
    let told = slip(&bloc.seal(&mut desk)[0], 0);
    assert_eq!((told.epoch, told.number, told.previous), (2, 1, Hash::ZERO));
    assert_eq!(desk.store.facts().unwrap().incarnation, 2);
}

#[test]
fn a_relay_that_lost_what_it_accepted_is_an_alarm() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    desk.send(dispatch("MOD", "routine", "x"));
    let sealed = bloc.seal(&mut desk);
    desk.store.accepted(vec![accepted(&sealed[0], 5)], now()).unwrap();
    for _ in 0..2 {
        let resumption = desk.store.welcome(welcome_facts(0, 0), bloc.sign("IDN"), now()).unwrap();
        assert_eq!(resumption, Resumption::RelayBehind);
        let alarms = desk.status().alarms;
        assert_eq!(alarms.len(), 1);
        assert!(alarms[0].contains("no mail goes out or comes in here until it is mended; save this desk"));
    }
    resent(desk.store.welcome(welcome_facts(1, 0), bloc.sign("IDN"), now()));
    assert!(desk.status().alarms.is_empty(), "the journal is back");
}

#[test]
fn a_relay_that_lost_receipts_is_an_alarm_too() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    idn.send(dispatch("MOD", "routine", "x"));
    let submit = bloc.seal(&mut idn).remove(0);
    hub.store.deliver(vec![bloc.delivery(&submit, "MOD", 7)], now()).unwrap();
    bloc.settle(&mut hub, 8);
    let resumption = hub.store.welcome(welcome_facts(0, 0), bloc.sign("MOD"), now()).unwrap();
    assert_eq!(resumption, Resumption::RelayBehind);
}

#[test]
fn a_relay_cannot_use_up_the_numbers() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let facts = welcome_facts(u64::MAX, u64::MAX);
    desk.store.welcome(facts, bloc.sign("IDN"), now()).unwrap();
    assert!(desk.status().alarms[0].contains("no desk can have used"));
    desk.send(dispatch("MOD", "routine", "x"));
    assert_eq!(bloc.seal(&mut desk)[0].number, 1);
}

#[test]
fn a_desk_that_its_roster_does_not_know_has_nothing_to_seal() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    desk.send(dispatch("MOD", "routine", "x"));
    assert!(desk.store.waiting(now()).unwrap());
    desk.store.me = "spiffe://bloc.example/mission/vnm".parse().unwrap();
    assert!(!desk.store.waiting(now()).unwrap(), "or the link would ask again and again");
    assert!(bloc.seal(&mut desk).is_empty());
    assert_eq!(desk.status().code, "VNM");
}
