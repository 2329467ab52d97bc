use std::os::unix::fs::PermissionsExt;

use tokio::sync::watch;

use super::*;
use crate::desk::{
    error::DeskError,
    handle::DeskHandle,
    status::LinkStatus,
    view::{InboxFilter, Waiting},
};

#[test]
fn a_second_daemon_is_kept_out_with_its_own_exit_code() {
    let bloc = Bloc::new();
    let desk = bloc.desk("IDN");
    let second = Store::open(desk.folder.path(), id("IDN"), &bloc.bundle).unwrap_err();
    assert_eq!(second.exit_code(), 73);
    assert!(second.to_string().contains("stop it first"));
    drop(desk.store);
    Store::open(desk.folder.path(), id("IDN"), &bloc.bundle).unwrap();
}

#[test]
fn nobody_else_can_read_the_store() {
    let bloc = Bloc::new();
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("a/desk");
    let _store = Store::open(&folder, id("IDN"), &bloc.bundle).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn every_commit_is_synced() {
    let bloc = Bloc::new();
    let desk = bloc.desk("IDN");
    let pragma = |name: &str| -> String {
        let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        desk.store.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((pragma("journal_mode").as_str(), pragma("synchronous").as_str()), ("wal", "2"));
}

#[test]
fn a_store_of_another_version_is_refused() {
    let bloc = Bloc::new();
    let desk = bloc.desk("IDN");
    desk.store.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(desk.store);
    let error = Store::open(desk.folder.path(), id("IDN"), &bloc.bundle).unwrap_err();
    assert!(matches!(error, StoreError::Version { found: 99, .. }));
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn a_file_that_is_no_database_is_corrupt() {
    let bloc = Bloc::new();
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("desk.sqlite"), [b'x'; 4096]).unwrap();
    assert_eq!(Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap_err().exit_code(), 71);
}

#[test]
fn a_damaged_page_is_found_at_the_start() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    for n in 0..64 {
        desk.send(dispatch("MOD", "routine", &format!("d{n}")));
    }
    let folder = desk.folder;
    drop(desk.store);
    let path = folder.path().join("desk.sqlite");
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(2).filter(|page| page[0] == 13) {
        // The number of cells of a table's leaf: a lie that no query of ours would meet at once.
        page[3..5].copy_from_slice(&[0xff, 0xff]);
    }
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap_err();
    assert_eq!(error.exit_code(), 71);
    assert!(error.to_string().contains("restore the store from a backup"), "{error}");
}

#[test]
fn an_alarm_stays_until_it_is_taken_and_comes_back_when_raised_again() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let raise = |desk: &mut Desk, at| {
        desk.store
            .raise_alarm("clock", "set the clock; mail goes on, save nothing, tell the ministry", at)
            .unwrap();
    };
    raise(&mut desk, now());
    raise(&mut desk, after(1));
    let mut desk = desk.killed(&bloc);
    assert_eq!((desk.status().alarms.len(), desk.store.alarms().unwrap().len()), (1, 1));
    let taken = desk.store.take_alarm("clock", "Sari", after(2)).unwrap();
    assert_eq!(desk.store.take_alarm("clock", "Budi", after(5)).unwrap(), taken, "the first has it");
    assert_eq!((taken.taken_by.as_str(), desk.status().alarms.len()), ("Sari", 0));
    raise(&mut desk, after(9));
    assert_eq!((desk.store.alarms().unwrap()[0].taken_at.clone(), desk.status().alarms.len()), (None, 1));
    assert!(matches!(desk.store.take_alarm("none", "Sari", now()), Err(DeskError::UnknownAlarm { .. })));
}

#[test]
fn an_alarm_that_is_told_of_twice_in_the_same_words_stays_closed_and_comes_back_in_others() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let raise = |desk: &mut Desk, position, at| {
        let sentence = format!("clones at {position}; mail goes on; save nothing; tell the ministry");
        desk.store.raise_alarm_once("cloned-3", &sentence, at).unwrap();
        desk.status().alarms.len()
    };
    assert_eq!(raise(&mut desk, 7, now()), 1);
    desk.store.close_alarm("cloned-3", "Sari", after(1)).unwrap();
    let mut desk = desk.killed(&bloc);
    assert_eq!(raise(&mut desk, 7, after(2)), 0);
    assert_eq!(raise(&mut desk, 9, after(3)), 1);
}

#[test]
fn an_alarm_is_over_by_a_persons_word_or_with_its_cause_and_the_store_remembers_which() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let words = "a receipt that proves nothing; mail goes on; save nothing; tell the ministry";
    desk.store.raise_alarm("relay-receipt", words, now()).unwrap();
    desk.store.relay_defers(true, now()).unwrap();
    desk.store.take_alarm("relay-defers", "Sari", after(1)).unwrap();
    desk.store.relay_defers(true, after(2)).unwrap();
    let mut desk = desk.killed(&bloc);
    let defers = desk.store.alarms().unwrap().remove(0);
    assert_eq!((defers.key.as_str(), defers.taken_by.as_str()), ("relay-defers", "Sari"), "still hers");
    assert_eq!(desk.status().alarms, [words]);
    let closed = desk.store.close_alarm("relay-receipt", "Budi", after(3)).unwrap();
    assert_eq!(closed.closed_by, "Budi");
    assert_eq!(desk.store.close_alarm("relay-receipt", "Sari", after(9)).unwrap(), closed);
    desk.store.relay_defers(false, after(4)).unwrap();
    let desk = &mut desk.killed(&bloc);
    let closed =
        desk.store.alarms().unwrap().into_iter().map(|alarm| (alarm.closed_at.is_some(), alarm.closed_by));
    assert_eq!(closed.collect::<Vec<_>>(), [(true, String::new()), (true, "Budi".to_owned())]);
    assert!(desk.status().alarms.is_empty());
    desk.store.relay_defers(true, after(5)).unwrap();
    assert_eq!(desk.status().alarms.len(), 1, "what begins again is nobody's");
    assert!(matches!(desk.store.close_alarm("none", "", now()), Err(DeskError::UnknownAlarm { .. })));
}

#[test]
fn what_a_welcome_says_of_clock_and_roster_is_an_alarm_as_long_as_it_is_so() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let facts = WelcomeFacts { clock_off_s: Some(7_200), other_roster: Some(9), ..welcome_facts(0, 0) };
    resent(desk.store.welcome(facts, bloc.sign("IDN"), now()));
    let mut desk = desk.killed(&bloc);
    let shown = desk.status().alarms.join("; ");
    assert!(shown.contains("differ by 7200 s") && shown.contains("holds roster 9"), "{shown}");
    resent(desk.store.welcome(welcome_facts(0, 0), bloc.sign("IDN"), now()));
    assert!(desk.status().alarms.is_empty());
}

#[test]
fn a_status_counts_what_waits_by_precedence_and_names_the_oldest() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    assert_eq!((desk.status().oldest_queued_at, desk.status().waiting), (None, Waiting::default()));
    for (precedence, at) in [("flash", now()), ("routine", after(60)), ("routine", after(120))] {
        desk.store.enqueue(dispatch("MOD", precedence, "x"), at).unwrap();
    }
    let first = bloc.seal(&mut desk).remove(0);
    let expected = Waiting { flash: 1, routine: 2, ..Waiting::default() };
    assert_eq!(desk.status().waiting, expected, "what is sealed waits for the relay's answer");
    assert_eq!(desk.status().oldest_queued_at.as_deref(), Some("2026-11-24T10:15:00Z"));
    desk.store.accepted(vec![accepted(&first, 7)], after(180)).unwrap();
    let status = desk.status();
    assert_eq!(status.oldest_queued_at.as_deref(), Some("2026-11-24T10:16:00Z"));
    assert_eq!(status.oldest_undelivered_at.as_deref(), Some("2026-11-24T10:18:00Z"));
}

#[test]
fn rosters_are_verified_from_the_trust_bundle_on_at_each_start() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let (roster, note) = bloc.next(|draft| draft.parties[1].name = "Ministry".to_owned());
    desk.store.learn_roster(Some(Position(5)), roster.clone(), &note).unwrap();
    desk.store.learn_roster(Some(Position(6)), bloc.roster.clone(), &bloc.note).unwrap();
    let desk = desk.killed(&bloc);
    let facts = desk.store.facts().unwrap();
    assert_eq!((facts.position, facts.roster), (7, Some(roster)), "the older one is seen and not taken");
    let folder = desk.folder;
    drop(desk.store);
    let error = Store::open(folder.path(), id("IDN"), &Bloc::new().bundle).unwrap_err();
    assert_eq!(error.exit_code(), 78, "{error}");
}

#[test]
fn a_store_keeps_its_id() {
    let bloc = Bloc::new();
    let desk = bloc.desk("IDN");
    let before = desk.store.facts().unwrap().store_id;
    assert_ne!(before, bloc.desk("IDN").store.facts().unwrap().store_id);
    assert_eq!(desk.killed(&bloc).store.facts().unwrap().store_id, before);
}

#[tokio::test]
async fn the_handle_answers_and_wakes_readers_up() {
    let bloc = Bloc::new();
    let desk = bloc.desk("IDN");
    let (store, thread) = StoreThread::start(desk.store).unwrap();
    let (_link, status) = watch::channel(LinkStatus::starting(now()));
    let handle = DeskHandle::new(store, status);
    let mut changes = handle.changes();
    let sent = handle.send(dispatch("MOD", "flash", "x")).await.unwrap();
    changes.changed().await.unwrap();
    assert_eq!(handle.outgoing(sent.short).await.unwrap().id, sent.id);
    assert_eq!(handle.status().await.unwrap().queued, 1);
    assert!(handle.inbox(InboxFilter::default()).await.unwrap().is_empty());
    let unknown = handle.incoming("QQQQ".to_owned()).await.unwrap_err();
    assert_eq!(unknown.code(), "not-found");
    drop(handle);
    thread.join().unwrap();
}

#[tokio::test]
async fn after_a_failure_of_the_store_nothing_is_answered_any_more() {
    let bloc = Bloc::new();
    let (store, _) = StoreThread::start(bloc.desk("IDN").store).unwrap();
    let refused: Result<(), DeskError> = store.ask(|_| Err(DeskError::ExerciseMix)).await;
    assert!(matches!(refused, Err(DeskError::ExerciseMix)), "a refusal is no failure");
    store.call(|store| store.facts()).await.unwrap();
    let failed: Result<(), StoreError> = store.call(|_| Err(StoreError::Random)).await;
    assert!(matches!(failed, Err(StoreError::Random)));
    store.stopped().await;
    assert!(matches!(store.call(|store| store.facts()).await, Err(StoreError::Stopped)));
}

#[tokio::test]
async fn jobs_that_wait_together_are_committed_together_and_refused_alone() {
    let bloc = Bloc::new();
    let (store, _) = StoreThread::start(bloc.desk("IDN").store).unwrap();
    let (_link, status) = watch::channel(LinkStatus::starting(now()));
    let handle = DeskHandle::new(store.clone(), status);
    let before = *handle.changes().borrow();
    let (let_go, held) = std::sync::mpsc::channel();
    let (started, running) = tokio::sync::oneshot::channel();
    let holding = tokio::spawn(async move {
        let hold = move |_: &mut Store| {
            started.send(()).unwrap();
            held.recv().unwrap();
            Ok(())
        };
        store.call(hold).await
    });
    running.await.unwrap();
    let sends = ["MOD", "ITA", "MYS", "MOD"].map(|to| {
        let handle = handle.clone();
        let mut send = Box::pin(async move { handle.send(dispatch(to, "routine", to)).await });
        // The first poll puts the job into the queue.
        assert!(futures_poll(&mut send));
        send
    });
    let_go.send(()).unwrap();
    holding.await.unwrap().unwrap();
    let mut results = Vec::new();
    for send in sends {
        results.push(send.await.map(|outgoing| outgoing.reference).map_err(|error| error.code()));
    }
    let reference = |n: u32| Ok(format!("IDN/2026/000{n}"));
    assert_eq!(results, [reference(1), Err("unknown-addressee"), reference(2), reference(3)]);
    assert_eq!(*handle.changes().borrow(), before + 1);
}

/// Polls once; true while the future waits.
fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}
