//! What the hub asks of the relay, and the orders and clones that every desk hears of.

use bytes::Bytes;

use super::{Bench, alarmed, world::*};
use crate::{
    batch::Tag,
    desk::link::{
        jobs::{StoreAnswer, StoreJob},
        machine::{Input, Output},
        requests::{Request, RequestEnd},
    },
    limits,
    record::administrative::{Act, AdministrativeLeaf, ChainHead},
    wire::{
        Position,
        order::{Order, OrderKind, SignedOrder},
        pb::{self, AdministeredCode, frame::Kind},
    },
};

fn order() -> Order {
    Order { number: 4, kind: OrderKind::Suspend { party: MYS, until_s: 9 }, salt: [6; 32] }
}

fn ask(bench: &mut Bench, request: Request) -> Vec<Output> {
    bench.give(Input::Request(request))
}

fn administered(request: u64, code: AdministeredCode) -> Kind {
    let sentence = "words".to_owned();
    Kind::Administered(pb::Administered {
        request,
        code: code as u32,
        sentence,
        position: 7,
        order_number: 3,
    })
}

/// A leaf with nothing beside it.
fn leaf(position: u64, act: Act) -> Kind {
    let leaf = AdministrativeLeaf { log_time_us: 1, previous: ChainHead::START, act }.encode();
    Kind::Administrative(pb::Administrative { position, leaf, ..pb::Administrative::default() })
}

pub(super) fn signed(bench: &Bench, by: crate::roster::PartyNumber) -> Box<SignedOrder> {
    let proof = bench.world.key(by).sign_batch(DOMAIN, Tag::Order, &[order().leaf()]).remove(0);
    Box::new(SignedOrder { order: order(), proof })
}

#[test]
fn a_roster_goes_out_in_chunks_within_the_bound_and_its_answer_is_told_once() {
    let mut bench = Bench::open();
    let note = Bytes::from(vec![5; 150_000]);
    let outputs = ask(&mut bench, Request::Publish(note.clone()));
    let mut whole = Vec::new();
    for output in &outputs {
        let Output::Send(frame @ Kind::Publish(chunk)) = output else { panic!("{output:?}") };
        let mut bytes = bytes::BytesMut::new();
        assert!(crate::wire::codec::encode(frame.clone(), &mut bytes) < limits::FRAME_CONTROL_BYTES_MAX);
        assert_eq!((chunk.request, chunk.total_bytes, chunk.offset as usize), (1, 150_000, whole.len()));
        whole.extend_from_slice(&chunk.chunk);
    }
    assert_eq!(whole, note);
    assert_eq!(bench.frame(administered(9, AdministeredCode::Done)), [], "of no request of ours");
    let done = [Output::Answered(RequestEnd::Done(Position(7)))];
    assert_eq!(bench.frame(administered(1, AdministeredCode::Done)), done);
    assert_eq!(bench.frame(administered(1, AdministeredCode::Done)), []);
}

#[test]
fn an_order_is_signed_by_this_desk_and_each_answer_has_its_meaning() {
    for (code, end) in [
        (AdministeredCode::Known, RequestEnd::Known),
        (AdministeredCode::Number, RequestEnd::NumberTaken(3)),
        (AdministeredCode::NotValid, RequestEnd::Declined("words".into())),
        (AdministeredCode::Busy, RequestEnd::Declined("words".into())),
    ] {
        let mut bench = Bench::open();
        let outputs = ask(&mut bench, Request::Order(order()));
        let [Output::Send(Kind::Order(frame))] = &*outputs else { panic!("{outputs:?}") };
        let signed = SignedOrder::parse(frame).expect("readable");
        signed.verify(DOMAIN, &bench.world.key(IDN).public()).expect("by this desk's key");
        assert_eq!(bench.frame(administered(1, code)), [Output::Answered(end)]);
    }
}

#[test]
fn without_a_session_nothing_is_asked_and_one_that_ends_leaves_the_request_unanswered() {
    let mut bench = Bench::new();
    assert_eq!(ask(&mut bench, Request::Order(order())), [Output::Answered(RequestEnd::NoContact)]);
    bench.connect();
    let early = ask(&mut bench, Request::Order(order()));
    assert_eq!(early, [Output::Answered(RequestEnd::NoContact)], "before Welcome");
    let mut bench = Bench::open();
    ask(&mut bench, Request::Order(order()));
    assert_eq!(bench.lost()[0], Output::Answered(RequestEnd::Unanswered));
    let mut bench = Bench::open();
    ask(&mut bench, Request::Order(order()));
    let goodbye = pb::Goodbye { code: pb::GoodbyeCode::Shutdown as u32, ..pb::Goodbye::default() };
    assert_eq!(bench.frame(Kind::Goodbye(goodbye))[0], Output::Answered(RequestEnd::Unanswered));
}

#[test]
fn an_order_of_the_hub_goes_to_the_store_and_a_forged_one_is_an_alarm() {
    let mut bench = Bench::open();
    let order = signed(&bench, MOD);
    let outputs = bench.frame(leaf(20, Act::Order(order.clone())));
    assert_eq!(outputs, [Output::Ask(StoreJob::LearnOrder { position: Position(20), order })]);
    let mut bench = Bench::open();
    let forged = signed(&bench, IDN);
    let outputs = bench.frame(leaf(20, Act::Order(forged)));
    assert!(alarmed(&outputs).contains("not signed by the hub"));
}

/// FAULTS 51: what party and hub see.
#[test]
fn orders_from_before_the_trust_bundle_are_judged_by_its_roster_and_raise_no_alarm() {
    let mut bench = Bench::new();
    bench.connect_with(None);
    let (older, bundles) = (World::new().note, bench.world.note.clone());
    let roster = |bench: &mut Bench, position, note: &[u8]| -> Vec<Output> {
        let chunks = bench.world.administrative(position, note);
        chunks.into_iter().flat_map(|chunk| bench.frame(Kind::Administrative(chunk))).collect()
    };
    let first = roster(&mut bench, 0, &older);
    assert_eq!(first, [Output::Ask(StoreJob::LearnAdministrative(Position(0)))]);
    assert_eq!(bench.answer(StoreAnswer::Done), []);
    let (order, by_another_key) = (signed(&bench, MOD), signed(&bench, IDN));
    assert_eq!(bench.frame(leaf(5, Act::Order(order.clone()))), []);
    assert_eq!(bench.frame(leaf(6, Act::Order(by_another_key))), []);
    assert_eq!(roster(&mut bench, 7, &older), [], "or a kill here would leave out the orders");
    let outputs = roster(&mut bench, 8, &bundles);
    assert_eq!(outputs, [Output::Ask(StoreJob::LearnOrder { position: Position(5), order })]);
    let outputs = bench.answer(StoreAnswer::Done);
    assert!(matches!(*outputs, [Output::Ask(StoreJob::LearnRoster { position: Position(8), .. })]));
    assert_eq!(bench.answer(StoreAnswer::Done), [], "nobody is alarmed");
}

#[test]
fn clones_are_an_alarm_that_names_the_party() {
    let mut bench = Bench::open();
    let outputs = bench.frame(leaf(20, Act::Cloned { party: IDN, stays: [1; 16], refused: [2; 16] }));
    assert!(alarmed(&outputs).contains("turns as IDN"));
    let outputs = bench.answer(StoreAnswer::Done);
    assert_eq!(outputs, [Output::Ask(StoreJob::LearnAdministrative(Position(20)))]);
}
