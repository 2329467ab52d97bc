//! A store that is older than what the relay knows of it, and one that another copy went on from.

use super::*;
use crate::desk::view::Mark;

/// What Welcome says once the store has taken a new incarnation.
fn welcome_again(last_accepted: u64, last_stored: u64, incarnation_known: u32) -> WelcomeFacts {
    let facts = welcome_facts(last_accepted, last_stored);
    WelcomeFacts { incarnation_known, is_new_incarnation: true, ..facts }
}

#[test]
fn a_relay_that_is_ahead_makes_the_store_begin_again_with_the_next_incarnation() {
    let bloc = Bloc::new();
    for (last_accepted, last_stored) in [(7, 0), (0, 3), (7, 3)] {
        let mut desk = bloc.desk("IDN");
        let facts = welcome_facts(last_accepted, last_stored);
        let resumption = desk.store.welcome(facts, bloc.sign("IDN"), now()).unwrap();
        assert_eq!(resumption, Resumption::Restored);
        assert!(desk.status().alarms[0].contains("restored from a backup"));
        assert_eq!(desk.store.facts().unwrap().incarnation, 2);
        let facts = welcome_again(last_accepted, last_stored, 2);
        resent(desk.store.welcome(facts, bloc.sign("IDN"), now()));
        assert_eq!(desk.store.facts().unwrap().incarnation, 2, "once is enough");
        desk.send(dispatch("MOD", "routine", "x"));
        assert_eq!(bloc.seal(&mut desk)[0].number, last_accepted + 1, "a number is never used again");
    }
}

#[test]
fn a_store_that_was_replaced_takes_one_incarnation_and_the_relays_numbers() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    desk.store.set_incarnation(4).unwrap();
    let resend = desk.store.welcome(welcome_again(7, 3, 4), bloc.sign("IDN"), now());
    assert_eq!(resent(resend), Resend::default());
    let facts = desk.store.facts().unwrap();
    assert_eq!((facts.incarnation, facts.last_submission, facts.last_stored), (4, 7, 3));
    assert!(desk.status().alarms[0].contains("or replaced"));
}

#[test]
fn receipts_that_nobody_answered_go_out_under_numbers_that_no_other_copy_used() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    idn.send(dispatch("MOD", "routine", "x"));
    let submit = bloc.seal(&mut idn).remove(0);
    hub.store.deliver(vec![bloc.delivery(&submit, "MOD", 7)], now()).unwrap();
    let mark = Mark { who: "Lt. Sari".to_owned(), remark: "seen".to_owned() };
    let short = hub.store.inbox(&Default::default()).unwrap().remove(0).short;
    hub.store.acknowledge(&short, &mark, now()).unwrap();
    let before = hub.store.make_stored(bloc.sign("MOD"), now()).unwrap().unwrap();
    // (relay's last, own next): another copy used 1 to 5; no other copy sent any.
    for (last_stored, number) in [(5, 6), (0, 1)] {
        let mut hub = hub.copied(&bloc);
        hub.store.set_incarnation(2).unwrap();
        let resend = hub.store.welcome(welcome_again(0, last_stored, 2), bloc.sign("MOD"), now());
        assert!(resent(resend).stored.is_empty());
        let after = hub.store.make_stored(bloc.sign("MOD"), now()).unwrap().unwrap();
        assert_eq!((after.number, after.count), (number, before.count));
        let items = |stored: &pb::Stored| {
            let receipts = bloc.receipts(stored.clone(), "MOD", 9);
            receipts
                .into_iter()
                .map(|r| (r.part.item.kind, r.part.item.envelopes, r.part.details))
                .collect::<Vec<_>>()
        };
        assert_eq!(items(&after), items(&before));
    }
}

#[test]
fn a_dispatch_that_the_lost_store_had_sent_is_shown_once_and_its_peer_is_told_of_the_new_series() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    idn.send(dispatch("MOD", "routine", "Queued at the time of the backup"));
    let mut restored = idn.copied(&bloc);
    let lost = bloc.seal(&mut idn).remove(0);
    hub.store.deliver(vec![bloc.delivery(&lost, "MOD", 7)], now()).unwrap();
    let resumption = restored.store.welcome(welcome_facts(1, 0), bloc.sign("IDN"), now()).unwrap();
    assert_eq!(resumption, Resumption::Restored);
    resent(restored.store.welcome(welcome_again(1, 0, 2), bloc.sign("IDN"), now()));
    let again = bloc.seal(&mut restored).remove(0);
    restored.send(dispatch("MOD", "routine", "Written since"));
    let next = bloc.seal(&mut restored).remove(0);
    for (submit, position) in [(&again, 8), (&next, 9)] {
        hub.store.deliver(vec![bloc.delivery(submit, "MOD", position)], now()).unwrap();
    }
    let inbox = hub.store.inbox(&Default::default()).unwrap();
    let subjects: Vec<&str> = inbox.iter().map(|incoming| incoming.subject.as_str()).collect();
    assert_eq!(subjects, ["Queued at the time of the backup", "Written since"]);
    assert!(inbox[0].notices[0].contains("first of a new series"), "{:?}", inbox[0].notices);
    assert!(hub.status().alarms.is_empty(), "{:?}", hub.status().alarms);
}
