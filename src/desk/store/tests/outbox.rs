use super::*;
use crate::desk::{error::DeskError, view::Outgoing};

fn refusal(desk: &mut Desk, new: NewDispatch) -> DeskError {
    let error = desk.store.enqueue(new, now()).unwrap_err();
    assert!(desk.store.outbox(10).unwrap().is_empty(), "a refused dispatch is not queued");
    error
}

#[test]
fn a_dispatch_is_durable_when_the_call_returns() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let sent = desk.store.enqueue(dispatch("MOD", "flash", "Unlit vessel"), now()).unwrap();
    assert_eq!((sent.state.as_str(), sent.reference.as_str()), ("queued", "IDN/2026/0001"));
    assert_eq!((sent.dtg.as_str(), sent.duplicate), ("241015ZNOV26", false));
    let desk = desk.killed(&bloc);
    assert_eq!(desk.store.outgoing(&sent.id).unwrap(), sent);
    assert_eq!(desk.store.outgoing(&sent.short.to_lowercase()).unwrap(), sent);
    assert_eq!(desk.status().queued, 1);
}

#[test]
fn the_same_key_gives_the_same_dispatch_and_queues_nothing() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let new = NewDispatch { idempotency_key: Some("k".to_owned()), ..dispatch("MOD", "routine", "Once") };
    let first = desk.store.enqueue(new.clone(), now()).unwrap();
    let again = desk.store.enqueue(new, after(5)).unwrap();
    assert!(again.duplicate);
    assert_eq!(again, Outgoing { duplicate: true, ..first });
    assert_eq!(desk.store.outbox(10).unwrap().len(), 1);
}

#[test]
fn references_count_up_and_pass_over_one_that_a_person_chose() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let chosen =
        |reference: &str| NewDispatch { reference: reference.to_owned(), ..dispatch("MOD", "routine", "x") };
    desk.send(chosen("IDN/2026/0002"));
    let references: Vec<String> =
        (0..3).map(|_| desk.store.enqueue(chosen(""), now()).unwrap().reference).collect();
    assert_eq!(references, ["IDN/2026/0001", "IDN/2026/0003", "IDN/2026/0004"]);
    let taken = desk.store.enqueue(chosen("IDN/2026/0002"), now()).unwrap_err();
    assert!(matches!(taken, DeskError::ReferenceTaken { .. }));
    assert_eq!(taken.code(), "usage");
}

#[test]
fn date_time_groups_of_one_minute_differ_and_none_lies() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let mut dtg = |at| desk.store.enqueue(dispatch("MOD", "routine", "x"), at).unwrap().dtg;
    let groups = [dtg(now()), dtg(after(1)), dtg(after(59)), dtg(after(60)), dtg(now())];
    assert_eq!(
        groups,
        ["241015ZNOV26", "241015ZNOV26-2", "241015ZNOV26-3", "241016ZNOV26", "241015ZNOV26-4"]
    );
}

#[test]
fn an_unknown_addressee_is_named_with_the_known_ones() {
    let bloc = Bloc::new();
    let error = refusal(&mut bloc.desk("IDN"), dispatch("ita", "routine", "x"));
    assert_eq!(error.code(), "unknown-addressee");
    assert_eq!(error.to_string(), "ITA is nobody in the roster; write one that is, the nearest are MOD, MYS");
}

#[test]
fn a_relay_and_the_desk_itself_are_no_addressees() {
    let bloc = Bloc::new();
    assert_eq!(
        refusal(&mut bloc.desk("IDN"), dispatch("RELAY-A", "routine", "x")).code(),
        "unknown-addressee"
    );
    assert_eq!(refusal(&mut bloc.desk("IDN"), dispatch("IDN", "routine", "x")).code(), "usage");
}

#[test]
fn what_the_roster_does_not_permit_is_not_queued() {
    let bloc = Bloc::new();
    let (roster, note) = bloc.next(|draft| {
        draft.parties[3].topics = vec!["cyber".to_owned()];
        draft.parties[3].clearance = "BLOC UNCLASSIFIED".to_owned();
    });
    let mut desk = bloc.desk("IDN");
    desk.store.learn_roster(Some(Position(4)), roster, &note).unwrap();
    let base = dispatch("MYS", "routine", "x");
    let cases = [
        (NewDispatch { topic: "fishing".to_owned(), ..base.clone() }, "the roster has no topic fishing"),
        (base.clone(), "MYS is not admitted to the topic maritime"),
        (NewDispatch { label: "COSMIC".to_owned(), topic: "cyber".to_owned(), ..base.clone() }, "no label"),
        (
            NewDispatch { label: "BLOC RESTRICTED".to_owned(), topic: "cyber".to_owned(), ..base.clone() },
            "MYS is not cleared for BLOC RESTRICTED",
        ),
    ];
    for (new, sentence) in cases {
        let error = refusal(&mut desk, new);
        assert_eq!(error.code(), "not-permitted");
        assert!(error.to_string().contains(sentence), "{error}");
    }
}

#[test]
fn every_bound_of_a_draft_is_checked() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let base = dispatch("MOD", "routine", "x");
    let too_large = NewDispatch { body: "x".repeat(200 * 1024 + 1), ..base.clone() };
    assert_eq!(refusal(&mut desk, too_large).code(), "too-large");
    let wrong = [
        NewDispatch { to: vec![], ..base.clone() },
        NewDispatch { info_precedence: "flash".to_owned(), ..base.clone() },
        NewDispatch { subject: String::new(), ..base.clone() },
        NewDispatch { subject: "two\nlines".to_owned(), ..base.clone() },
        NewDispatch { precedence: "urgent".to_owned(), ..base.clone() },
        NewDispatch { kind: "chat".to_owned(), ..base.clone() },
        NewDispatch { expires_s: Some(1), ..base.clone() },
        NewDispatch { expires_s: Some(61 * 24 * 3600), ..base.clone() },
        NewDispatch { answer_due: Some("soon".to_owned()), ..base.clone() },
        NewDispatch { acknowledgement_due: Some("soon".to_owned()), ..base.clone() },
    ];
    for new in wrong {
        assert_eq!(refusal(&mut desk, new.clone()).code(), "usage", "{new:?}");
    }
    let longest =
        NewDispatch { body: "x".repeat(200 * 1024), answer_due: Some("251200ZNOV26".to_owned()), ..base };
    desk.send(longest);
}

#[test]
fn an_answer_names_what_it_answers_and_exercises_stay_apart() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let first = desk.send(dispatch("MOD", "routine", "First"));
    let reply =
        |to: &str| NewDispatch { in_reply_to: Some(to.to_owned()), ..dispatch("MOD", "routine", "Then") };
    desk.send(reply(&first));
    let unknown = desk.store.enqueue(reply("0000"), now()).unwrap_err();
    assert_eq!(unknown.code(), "not-found");
    let real = NewDispatch { exercise: false, ..reply(&first) };
    assert!(matches!(desk.store.enqueue(real, now()), Err(DeskError::ExerciseMix)));
}

#[test]
fn without_a_roster_a_dispatch_is_taken_and_its_codes_wait() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk_without_roster("IDN");
    let good = desk.send(dispatch("mod", "routine", "x"));
    let bad = desk.send(dispatch("ITA", "routine", "x"));
    assert!(bloc.seal(&mut desk).is_empty());
    assert!(desk.status().alarms.iter().any(|alarm| alarm.contains("no roster")));
    desk.store.learn_roster(None, bloc.roster.clone(), &bloc.note).unwrap();
    assert_eq!(bloc.seal(&mut desk).len(), 1);
    assert_eq!(desk.store.outgoing(&good).unwrap().state, "sealed");
    let bad = desk.store.outgoing(&bad).unwrap();
    assert_eq!((bad.state.as_str(), bad.refusal.unwrap().code.as_str()), ("refused", "UNKNOWN_ADDRESSEE"));
}

#[test]
fn short_ids_are_unique_and_grow_when_taken() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let (taken, longer, other) = desk
        .store
        .write::<_, StoreError>(|tx| {
            let id = crate::wire::DispatchId([1; 16]);
            let take = || super::super::naming::take_short(tx, &id);
            Ok((take()?, take()?, take()?))
        })
        .unwrap();
    assert_eq!((taken.len(), longer.len(), other.len()), (4, 5, 6));
    assert!(longer.starts_with(&taken) && other.starts_with(&longer));
}

#[test]
fn a_full_outbox_takes_no_more() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let first = desk.send(dispatch("MOD", "routine", "x"));
    // Fills the table with copies of the first row, which is faster than ten thousand calls.
    let sql = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
        INSERT INTO outbox SELECT i, randomblob(16), randomblob(16), 's' || i, NULL, 'r' || i, 'd' || i, precedence,
        info_precedence, state, roster_min, attempts, topic, label, kind, exercise, acknowledgement, answer_due_s,
        acknowledgement_due_s, expires_s, queued_at, accepted_at, position, hash, refusal_code, refusal, language, office, person, in_reply_to, salt,
        subject, body FROM n, outbox WHERE short = ?1";
    desk.store.connection.execute(sql, [first]).unwrap();
    let error = desk.store.enqueue(dispatch("MOD", "flash", "One more"), now()).unwrap_err();
    assert!(matches!(error, DeskError::OutboxFull { waiting: 10_000 }), "{error:?}");
}
