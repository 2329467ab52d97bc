//! Whether a desk notices a log that is held back, and blames no relay whose line is thin.

use bytes::Bytes;

use super::*;
use crate::{desk::link::coverage::Coverage, merkle::sha256};

const TIME_MAX: Duration = Limits::DEFAULT.checkpoint_owed_time_max;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The relay tells of the leaf at this position, and of nothing that is news otherwise.
fn told(bench: &mut Bench, position: u64) {
    let accepted = pb::Accepted { submission: 1, position, ..pb::Accepted::default() };
    assert_eq!(bench.frame(Kind::Accepted(accepted)), []);
}

/// It shows a checkpoint of so many leaves, which nobody has cosigned yet.
fn shown(bench: &mut Bench, size: u64) -> Vec<Output> {
    let note = bench.world.checkpoint(size, sha256(b"a log")).to_bytes().into();
    bench.frame(Kind::Checkpoint(pb::Checkpoint { note }))
}

fn ping(token: u64) -> Output {
    Output::Send(Kind::Ping(pb::Ping { token }))
}

fn pong(bench: &mut Bench, token: u64) -> Vec<Output> {
    bench.frame(Kind::Pong(pb::Pong { token, time_us: 0 }))
}

/// Lets a time pass in which the relay is heard each second and says nothing; gives what else is said.
fn quiet(bench: &mut Bench, time: u64) -> Vec<Output> {
    let mut outputs = Vec::new();
    for _ in 0..time {
        outputs.extend(bench.pass(seconds(1)));
        outputs.extend(bench.give(Input::Heard));
    }
    outputs
}

#[test]
fn a_relay_that_answers_and_shows_no_checkpoint_over_what_it_told_is_an_alarm_until_it_does() {
    let mut bench = Bench::open();
    told(&mut bench, 9);
    assert_eq!(quiet(&mut bench, 19), []);
    assert_eq!(shown(&mut bench, 9), [], "it does not cover position 9");
    assert_eq!(quiet(&mut bench, 1), [ping(9)]);
    assert_eq!(quiet(&mut bench, 60), [], "no clock of ours accuses it");
    assert_eq!(pong(&mut bench, 8), [], "an answer to something else");
    assert_eq!(pong(&mut bench, 9), [Output::Ask(StoreJob::Uncovered(Some(Position(9))))]);
    bench.answer(StoreAnswer::Done);
    assert_eq!((pong(&mut bench, 9), quiet(&mut bench, 60)), (vec![], vec![]), "said once");
    assert_eq!(shown(&mut bench, 9), []);
    assert_eq!(shown(&mut bench, 10), [Output::Ask(StoreJob::Uncovered(None))]);
    bench.answer(StoreAnswer::Done);
    assert_eq!(shown(&mut bench, 11), []);
}

#[test]
fn a_checkpoint_that_comes_before_the_pong_is_in_time() {
    let mut bench = Bench::open();
    told(&mut bench, 9);
    assert_eq!(quiet(&mut bench, 20), [ping(9)]);
    assert_eq!(shown(&mut bench, 10), []);
    assert_eq!(pong(&mut bench, 9), []);
    assert_eq!(quiet(&mut bench, 60), [], "nothing is owed");
}

#[test]
fn a_checkpoint_that_no_key_of_the_log_has_signed_covers_nothing() {
    let mut bench = Bench::open();
    told(&mut bench, 9);
    let other = World::new().checkpoint(10, sha256(b"a log"));
    let doubt = bench.frame(Kind::Checkpoint(pb::Checkpoint { note: other.to_bytes().into() }));
    assert!(matches!(doubt[..], [Output::Ask(StoreJob::Doubt { .. })]), "{doubt:?}");
    bench.answer(StoreAnswer::Done);
    assert_eq!(quiet(&mut bench, 20), [ping(9)]);
}

#[test]
fn what_was_owed_when_a_session_began_is_looked_for_in_it_and_the_alarm_of_an_earlier_one_ends() {
    let mut bench = Bench::new();
    let roster = bench.world.roster.clone();
    bench.pass(Duration::ZERO);
    bench.give(opened());
    let owed = Owed { last: Some(Position(9)), is_overdue: true };
    bench.answer(StoreAnswer::Facts(Facts { owed, ..facts(Some(roster)) }));
    bench.welcome(512, 1 << 20);
    assert_eq!(quiet(&mut bench, 20), [ping(9)]);
    assert_eq!(pong(&mut bench, 9), [], "it stands already");
    assert_eq!(shown(&mut bench, 10), []);
    let nothing = Resend { submits: Vec::new(), stored: Vec::new() };
    let mut outputs = bench.answer(StoreAnswer::Resumed(nothing));
    while let Some(Output::Ask(job)) = outputs.pop()
        && job != StoreJob::Uncovered(None)
    {
        assert!(!matches!(job, StoreJob::Published(_)), "nothing that came is left");
        let answer = match job {
            StoreJob::MakeStored => StoreAnswer::Stored(None),
            StoreJob::Seal(_) => StoreAnswer::Sealed { submits: Vec::new(), more: false },
            _ => StoreAnswer::Done,
        };
        outputs = bench.answer(answer);
    }
    assert_eq!(bench.answer(StoreAnswer::Done), []);
}

#[test]
fn each_leaf_has_its_own_time_however_many_follow_it() {
    let mut coverage = Coverage::default();
    for second in 0..15 {
        coverage.told(Position(second), seconds(second));
    }
    assert_eq!(coverage.asks_at(TIME_MAX), Some(seconds(20)));
    assert!(!coverage.shown(10));
    // Those that are left were told of by second 14.
    assert_eq!(coverage.asks_at(TIME_MAX), Some(seconds(34)));
    coverage.told(Position(9), seconds(20));
    assert!(!coverage.shown(15));
    assert_eq!(coverage.asks_at(TIME_MAX), None);
    let mut coverage = Coverage::default();
    coverage.shown(15);
    coverage.told(Position(14), seconds(30));
    assert_eq!((coverage.asks_at(TIME_MAX), coverage.asks(TIME_MAX, seconds(90))), (None, None));
}

#[test]
fn a_leaf_that_the_relay_has_forgotten_is_owed_no_checkpoint() {
    let mut bench = Bench::open();
    let forgotten = pb::StoredAt { number: 1, position: Position::NONE.0, ..pb::StoredAt::default() };
    assert_eq!(bench.frame(Kind::StoredAt(forgotten)), []);
    let refused =
        pb::Refused { position: 9, recorded: false, envelope_hash: Bytes::new(), ..Default::default() };
    bench.frame(Kind::Refused(refused));
    bench.answer(StoreAnswer::Done);
    assert_eq!(quiet(&mut bench, 60), []);
}
