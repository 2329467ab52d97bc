//! What authors say of the log, held against what the reader has followed itself.

use data_encoding::BASE64;

use super::*;
use crate::{
    audit::{Checkpoint, Follower},
    desk::store::{
        FORKED, LOG_WHAT_NOW, Progress, Verified,
        doubts::{self, Shown},
    },
    limits::{CLAIMS_HELD_MAX, ROOTS_KEPT},
    merkle::{Tree, empty_root, leaf_hash},
    record::leaf::traffic_leaf,
    wire::receipt::ReceiptItem,
};

/// Leaves of the one history; those from `parts` on are of another one.
fn leaf(index: u64, parts: u64) -> [u8; 34] {
    let history = if index < parts { "one" } else { "another" };
    traffic_leaf(&[1; 32], format!("{history} {index}").as_bytes())
}

/// Where both histories that a relay shows part.
const PARTS: u64 = 250;
const NEVER: u64 = u64::MAX;

fn root(size: u64, parts: u64) -> Hash {
    let leaves: Vec<Hash> = (0..size).map(|index| leaf_hash(&leaf(index, parts))).collect();
    Tree::new(&leaves).root()
}

/// The desk follows a history of `origin` to a checkpoint of so many leaves; gives whether it may cosign that.
fn follow_of(desk: &mut Desk, origin: &str, size: u64, parts: u64) -> bool {
    let mut follower = Follower::new();
    let mut leaves = Vec::new();
    let verified = desk.store.verified().unwrap();
    let given = if verified.note.starts_with(origin.as_bytes()) { verified.follower.size() } else { 0 };
    for index in 0..size {
        follower.take(&leaf(index, parts)).unwrap();
        leaves.extend((index >= given).then(|| leaf_hash(&leaf(index, parts))));
    }
    let checkpoint = Checkpoint { origin: origin.to_owned(), size, root: follower.root() };
    let note = Bytes::from(Note::new(&checkpoint.to_string()).unwrap().to_bytes());
    let verified = Verified { follower: follower.clone(), note, ..Verified::default() };
    let progress = Progress { follower, leaves, verified: Some(verified), is_published: false };
    desk.store.follow(&progress, now()).unwrap()
}

fn follow(desk: &mut Desk, size: u64, parts: u64) -> bool {
    follow_of(desk, "bloc.example/log", size, parts)
}

/// A dispatch of one desk comes to the other.
fn crosses(bloc: &Bloc, from: &mut Desk, to: &mut Desk, position: u64) -> SealedSubmit {
    from.send(dispatch(to.code, "routine", "x"));
    let submit = bloc.seal(from).remove(0);
    to.store.deliver(vec![bloc.delivery(&submit, to.code, position)], now()).unwrap();
    submit
}

/// What the receipt of all that waits at a desk says.
fn receipt_of(bloc: &Bloc, desk: &mut Desk, position: u64) -> (ReceiptItem, Vec<ReceivedReceipt>) {
    let stored = bloc.settle(desk, position);
    let receipts = bloc.receipts(stored, desk.code, position);
    (receipts[0].part.item.clone(), receipts)
}

fn forked(desk: &Desk) -> Option<crate::desk::view::Alarm> {
    let alarms = desk.store.alarms().unwrap();
    assert!(alarms.iter().all(|alarm| alarm.key == FORKED), "{alarms:?}");
    alarms.into_iter().next()
}

fn waiting(desk: &Desk) -> Vec<u64> {
    let mut statement = desk.store.connection.prepare("SELECT size FROM claims ORDER BY size").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn cores_and_receipts_name_the_newest_checkpoint_that_their_author_has_verified() {
    let bloc = Bloc::new();
    let (mut idn, mut mys) = (bloc.desk("IDN"), bloc.desk("MYS"));
    for (size, expected) in [(0, empty_root()), (10, root(10, NEVER)), (300, root(300, NEVER))] {
        if size > 0 {
            assert!(follow(&mut idn, size, NEVER) && follow(&mut mys, size, NEVER));
        }
        let submit = crosses(&bloc, &mut idn, &mut mys, size + 1);
        assert_eq!((core(&submit).checkpoint_size, core(&submit).checkpoint_root), (size, expected));
        let (item, receipts) = receipt_of(&bloc, &mut mys, size + 2);
        assert_eq!((item.checkpoint_size, item.checkpoint_root), (size, expected));
        idn.store.receipts(receipts, now()).unwrap();
    }
    assert!(forked(&idn).is_none() && forked(&mys).is_none());
}

#[test]
fn the_first_dispatch_or_receipt_that_crosses_shows_that_there_are_two_histories() {
    let bloc = Bloc::new();
    let (mut idn, mut mys) = (bloc.desk("IDN"), bloc.desk("MYS"));
    assert!(follow(&mut idn, 300, NEVER) && follow(&mut mys, 300, PARTS));
    let submit = crosses(&bloc, &mut idn, &mut mys, 301);
    let alarm = forked(&mys).unwrap();
    for words in
        ["IDN has signed", "300 leaves", "cosigns no checkpoint", "mail goes on", "save", "telephone IDN"]
    {
        assert!(alarm.sentence.contains(words), "{}", alarm.sentence);
    }
    let [evidence] = &alarm.evidence[..] else { panic!("{:?}", alarm.evidence) };
    assert_eq!(evidence.shown, BASE64.encode(&submit.submit.header));
    assert_eq!(evidence.held, BASE64.encode(&mys.store.verified().unwrap().note));
    assert!(!evidence.proof.is_empty());
    assert_eq!(mys.store.last_register().unwrap(), 1, "mail goes on");
    let (_, receipts) = receipt_of(&bloc, &mut mys, 302);
    let item = receipts[0].part.bytes.clone();
    idn.store.receipts(receipts, now()).unwrap();
    let alarm = forked(&idn).unwrap();
    assert!(alarm.sentence.contains("MYS has signed"), "{}", alarm.sentence);
    assert_eq!(alarm.evidence[0].shown, BASE64.encode(&item));
    assert_eq!(idn.store.outbox(9).unwrap()[0].addressees[0].state, "delivered", "and so do receipts");
}

#[test]
fn a_desk_that_knows_of_a_fork_cosigns_nothing_until_a_person_has_closed_the_alarm() {
    let bloc = Bloc::new();
    let (mut idn, mut mys) = (bloc.desk("IDN"), bloc.desk("MYS"));
    assert!(follow(&mut idn, 300, NEVER) && follow(&mut mys, 300, PARTS));
    crosses(&bloc, &mut idn, &mut mys, 301);
    assert!(!mys.store.trusts_log().unwrap());
    assert!(!follow(&mut mys, 310, PARTS), "its own side neither");
    let mut mys = mys.killed(&bloc);
    mys.store.take_alarm(FORKED, "Rahman", now()).unwrap();
    assert!(!follow(&mut mys, 320, PARTS), "somebody looks after it, no more");
    // Not even hundreds of other alarms push it out.
    for n in 0..300 {
        mys.store
            .raise_alarm(&format!("other-{n}"), "mail goes on; save nothing; call nobody", after(n))
            .unwrap();
    }
    assert!(!follow(&mut mys, 330, PARTS));
    mys.store.close_alarm(FORKED, "Rahman", now()).unwrap();
    assert!(follow(&mut mys, 340, PARTS));
    let kept = mys.store.alarms().unwrap().into_iter().find(|alarm| alarm.key == FORKED).unwrap();
    assert_eq!(kept.evidence.len(), 1, "what it rests on stays");
}

#[test]
fn what_an_alarm_rests_on_finds_room_however_much_was_kept_of_those_before_and_of_claims() {
    let mut idn = Bloc::new().desk("IDN");
    let keep = |idn: &mut Desk, what: &str, proof: &[u8]| {
        let shown = Shown { what: what.as_bytes(), proof };
        idn.store.write(|tx| doubts::raise(tx, now(), FORKED, LOG_WHAT_NOW, &shown)).unwrap();
    };
    let kept = |idn: &Desk| -> Vec<String> {
        let alarm = idn.store.alarms().unwrap().into_iter().find(|alarm| alarm.key == FORKED).unwrap();
        let text = |shown: &String| String::from_utf8(BASE64.decode(shown.as_bytes()).unwrap()).unwrap();
        alarm.evidence.iter().map(|piece| text(&piece.shown)).collect()
    };
    for n in 0..12 {
        keep(&mut idn, &format!("claim {n}"), b"proof");
    }
    keep(&mut idn, "checkpoint 0", b"");
    assert_eq!(kept(&idn).len(), 9);
    assert!(kept(&idn).contains(&"checkpoint 0".to_owned()));
    for n in 1..12 {
        keep(&mut idn, &format!("checkpoint {n}"), b"");
    }
    assert_eq!(kept(&idn).len(), 16);
    idn.store.close_alarm(FORKED, "Rahman", now()).unwrap();
    assert_eq!(kept(&idn).len(), 16, "it stays until there is more");
    keep(&mut idn, "checkpoint 99", b"");
    let left = ["claim 0", "claim 1", "claim 6", "claim 7"].map(str::to_owned);
    let shown = ["checkpoint 0", "checkpoint 1", "checkpoint 6", "checkpoint 7", "checkpoint 99"];
    assert_eq!(kept(&idn), [&left[..], &shown.map(str::to_owned)].concat());
}

#[test]
fn a_claim_of_more_than_was_verified_waits_until_the_log_is_followed_so_far() {
    let bloc = Bloc::new();
    for (parts, is_fork) in [(NEVER, false), (PARTS, true)] {
        let (mut idn, mut mys) = (bloc.desk("IDN"), bloc.desk("MYS"));
        crosses(&bloc, &mut idn, &mut mys, 1);
        assert_eq!(waiting(&mys), [0; 0], "of nothing verified");
        assert!(follow(&mut idn, 600, NEVER));
        crosses(&bloc, &mut idn, &mut mys, 2);
        assert_eq!(waiting(&mys), [600], "before it has verified anything");
        assert!(follow(&mut mys, 200, parts));
        let mut mys = mys.killed(&bloc);
        assert!(follow(&mut mys, 599, parts) && forked(&mys).is_none());
        assert_eq!(follow(&mut mys, 700, parts), !is_fork, "not even the checkpoint that showed it");
        assert_eq!(forked(&mys).is_some(), is_fork);
        assert_eq!(waiting(&mys), [0; 0]);
    }
}

#[test]
fn of_each_author_the_smallest_claims_wait_and_no_more_than_so_many() {
    let bloc = Bloc::new();
    let (mut idn, mut mod_, mut mys) = (bloc.desk("IDN"), bloc.desk("MOD"), bloc.desk("MYS"));
    let sizes: Vec<u64> = (0..u64::from(CLAIMS_HELD_MAX) + 3).map(|n| 100 + n).collect();
    for size in &sizes {
        assert!(follow(&mut idn, *size, NEVER));
        crosses(&bloc, &mut idn, &mut mys, *size);
    }
    let most = usize::try_from(CLAIMS_HELD_MAX).unwrap();
    assert_eq!(waiting(&mys), sizes[..most]);
    assert!(follow(&mut mod_, 150, NEVER));
    crosses(&bloc, &mut mod_, &mut mys, 151);
    assert_eq!(waiting(&mys).len(), most + 1, "each author for itself");
}

#[test]
fn a_claim_of_a_size_that_was_never_verified_here_is_decided_by_kept_tiles_that_make_the_verified_root() {
    let bloc = Bloc::new();
    for (parts, is_fork) in [(NEVER, false), (PARTS, true)] {
        // As from a desk that was restored from a backup, or was away.
        let (mut idn, mut mys) = (bloc.desk("IDN"), bloc.desk("MYS"));
        assert!(follow(&mut idn, 280, NEVER) && follow(&mut mys, 600, parts));
        let mut damaged = mys.copied(&bloc);
        let submit = crosses(&bloc, &mut idn, &mut mys, 601);
        assert_eq!(forked(&mys).is_some(), is_fork);
        for sql in ["UPDATE tiles SET hashes = zeroblob(length(hashes))", "DELETE FROM tiles"] {
            damaged.store.connection.execute(sql, []).unwrap();
            damaged.store.deliver(vec![bloc.delivery(&submit, "MYS", 601)], now()).unwrap();
            damaged.store.connection.execute_batch("DELETE FROM inbox; DELETE FROM receipts_due").unwrap();
            assert!(forked(&damaged).is_none(), "what is damaged here accuses nobody");
        }
    }
}

#[test]
fn as_many_roots_are_kept_as_are_needed() {
    let bloc = Bloc::new();
    let mut idn = bloc.desk("IDN");
    let sql = "WITH RECURSIVE n(size) AS (SELECT 1 UNION ALL SELECT size + 1 FROM n WHERE size < ?1)
        INSERT INTO roots SELECT size, zeroblob(32) FROM n";
    idn.store.connection.execute(sql, [ROOTS_KEPT]).unwrap();
    assert!(follow(&mut idn, u64::from(ROOTS_KEPT) + 2, NEVER));
    let sql = "SELECT count(*), min(size) FROM roots";
    let kept: (u32, u32) =
        idn.store.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(kept, (ROOTS_KEPT, 2));
}

#[test]
fn a_claim_is_of_the_log_that_its_roster_names() {
    let bloc = Bloc::new();
    let (mut idn, mut mys) = (bloc.desk("IDN"), bloc.desk("MYS"));
    assert!(follow(&mut idn, 300, NEVER) && follow(&mut mys, 100, NEVER));
    crosses(&bloc, &mut idn, &mut mys, 301);
    assert_eq!(waiting(&mys), [300]);
    resent(mys.store.welcome(welcome_facts(0, 0), bloc.sign("MYS"), now()));
    let (roster, note) = bloc.next(|draft| {
        draft.log.origin = "bloc.example/log-2".to_owned();
        draft.log.keys = Vec::new();
        draft.retire_keys_of(&bloc.roster);
    });
    idn.send(dispatch("MYS", "routine", "under the old roster"));
    let before = bloc.seal(&mut idn).remove(0);
    for desk in [&mut idn, &mut mys] {
        desk.store.learn_roster(Some(Position(0)), roster.clone(), &note).unwrap();
    }
    let mut mys = mys.killed(&bloc);
    let begun = mys.store.welcome(welcome_facts(0, 0), bloc.sign("MYS"), now()).unwrap();
    assert_eq!(begun, Resumption::NewLog);
    assert_eq!(waiting(&mys), [0; 0], "the log of which it was has ended");
    assert!(follow_of(&mut mys, "bloc.example/log-2", 400, PARTS));
    mys.store.deliver(vec![bloc.delivery(&before, "MYS", 9)], now()).unwrap();
    let after = crosses(&bloc, &mut idn, &mut mys, 10);
    assert_eq!(core(&after).roster_version, 2);
    assert_eq!(
        (core(&after).checkpoint_size, core(&after).checkpoint_root),
        (0, empty_root()),
        "of the new log"
    );
    assert!(mys.store.alarms().unwrap().iter().all(|alarm| alarm.key != FORKED));
    assert!(follow_of(&mut idn, "bloc.example/log-2", 390, NEVER));
    crosses(&bloc, &mut idn, &mut mys, 11);
    assert!(mys.store.alarms().unwrap().iter().any(|alarm| alarm.key == FORKED));
}
