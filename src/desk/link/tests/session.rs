use super::*;
use crate::{
    desk::link::{
        inbound,
        tests::world::{MOD, hash_of, item, opening},
    },
    desk::store::{Room, SealedSubmit, WelcomeFacts},
    merkle::{Hash, sha256},
    record::{
        content::Traffic,
        leaf::{Opening, OpeningKind},
    },
    roster::{PartyNumber, verify_next},
    session::{hello::VerifiedHello, outbound::Outbound},
    wire::{Precedence, envelope::Envelope, receipt::ReceiptKind},
};
use bytes::Bytes;

const WAKE: Input = Input::Wake { dispatches: true, receipts: true };
const SECOND: Duration = Duration::from_secs(1);

fn stored(number: u64) -> pb::Stored {
    pb::Stored {
        number,
        count: 1,
        items: Bytes::from_static(b"items"),
        signature: Bytes::from_static(&[0; 64]),
    }
}

/// Sealed envelopes to the ministry with these numbers, under one signature.
fn sealed(world: &World, numbers: std::ops::RangeInclusive<u64>) -> Vec<SealedSubmit> {
    let cores: Vec<_> = numbers.clone().map(|number| world.core(IDN, MOD, number)).collect();
    let submits = world.submits(IDN, &cores);
    let with_number = |(number, submit)| SealedSubmit { number, precedence: Precedence::Routine, submit };
    numbers.zip(submits).map(with_number).collect()
}

fn accepted(submit: &SealedSubmit, position: u64) -> pb::Accepted {
    let hash = hash_of(&submit.submit);
    pb::Accepted {
        submission: submit.number,
        envelope_hash: Bytes::copy_from_slice(hash.0.as_bytes()),
        position,
        salt: Bytes::from_static(&[7; 32]),
        opening: opening(OpeningKind::Envelope, hash.0),
    }
}

fn sent(submits: &[SealedSubmit]) -> Vec<Output> {
    submits.iter().map(|submit| Output::Send(Kind::Submit(submit.submit.clone()))).collect()
}

/// An open session with these envelopes sent and unanswered.
fn open_with(sealed_numbers: std::ops::RangeInclusive<u64>) -> (Bench, Vec<SealedSubmit>) {
    let mut bench = Bench::open();
    let submits = sealed(&bench.world, sealed_numbers);
    assert_eq!(bench.give(WAKE), [Output::Ask(StoreJob::MakeStored)]);
    let ask = bench.answer(StoreAnswer::Stored(None));
    assert!(matches!(*ask, [Output::Ask(StoreJob::Seal(_))]));
    let outputs = bench.answer(StoreAnswer::Sealed { submits: submits.clone(), more: false });
    assert_eq!(outputs, sent(&submits));
    (bench, submits)
}

#[test]
fn hello_is_signed_over_the_connection_and_says_what_the_store_holds() {
    let mut bench = Bench::new();
    let roster = bench.world.roster.clone();
    let hello = bench.connect_with(Some(roster));
    assert_eq!((hello.last_submission, hello.last_stored, hello.position, hello.confirmed), (12, 3, 5, 4));
    assert_eq!((hello.incarnation, hello.roster_version, &*hello.store_id), (1, 1, &[8; 16][..]));
    let key = bench.world.key(IDN).public();
    assert!(VerifiedHello::verify(hello.clone(), EXPORTER, DOMAIN, &key).is_ok());
    assert!(VerifiedHello::verify(hello, [5; 32], DOMAIN, &key).is_err());
}

#[test]
fn after_welcome_receipts_go_out_again_before_envelopes_both_in_number_order() {
    let mut bench = Bench::new();
    bench.connect();
    bench.welcome(8, 1 << 16);
    let submits = sealed(&bench.world, 10..=12);
    let resend = Resend { submits: submits.clone(), stored: vec![stored(2), stored(3)] };
    let outputs = bench.answer(StoreAnswer::Resumed(resend));
    let mut expected = vec![Output::Send(Kind::Stored(stored(2))), Output::Send(Kind::Stored(stored(3)))];
    expected.extend(sent(&submits));
    expected.push(Output::Ask(StoreJob::MakeStored));
    assert_eq!(outputs, expected);
}

#[test]
fn the_store_hears_what_welcome_says_before_anything_else() {
    let mut bench = Bench::new();
    bench.connect();
    let welcome = bench.signed_welcome(EXPORTER, RELAY, 1, 1);
    let outputs = bench.frame(Kind::Welcome(welcome));
    let facts = WelcomeFacts {
        last_accepted: 0,
        last_stored: 0,
        incarnation_known: 1,
        is_new_incarnation: false,
        other_roster: None,
        clock_off_s: None,
    };
    assert_eq!(outputs.last(), Some(&Output::Ask(StoreJob::Resume(facts))));
    assert_eq!(bench.give(WAKE), []);
}

#[test]
fn a_welcome_by_another_key_or_for_another_connection_ends_the_session() {
    for (exporter, signer) in [(EXPORTER, MOD), ([5; 32], RELAY)] {
        let mut bench = Bench::new();
        bench.connect();
        let welcome = bench.signed_welcome(exporter, signer, 8, 1 << 16);
        let (code, reason) = ended(&bench.frame(Kind::Welcome(welcome)));
        assert_eq!(code, pb::GoodbyeCode::BadSignature as u32);
        assert!(reason.starts_with("the relay's Welcome is not believed"), "{reason}");
    }
}

#[test]
fn a_relay_whose_certificate_is_revoked_or_names_another_party_is_not_welcome() {
    for (path, serial) in [("relay/b", "01"), ("relay/a", "0a1b")] {
        let mut bench = Bench::new();
        bench.pass(Duration::ZERO);
        let relay = format!("spiffe://{DOMAIN}/{path}").parse().expect("an id");
        bench.give(Input::Opened { exporter: EXPORTER, relay, serial: serial.into() });
        let note = bench.world.next_note(|draft| draft.parties[0].revoked_serials = vec!["0a1b".into()]);
        let roster = verify_next(&note, &bench.world.roster).expect("the next roster");
        bench.answer(StoreAnswer::Facts(facts(Some(Arc::new(roster)))));
        let welcome = bench.signed_welcome(EXPORTER, RELAY, 8, 1 << 16);
        let (_, reason) = ended(&bench.frame(Kind::Welcome(welcome)));
        assert!(reason.contains("its certificate is not the one of the roster's relay"), "{reason}");
    }
}

#[test]
fn without_a_roster_nothing_opens() {
    let mut bench = Bench::new();
    bench.connect_with(None);
    let welcome = bench.signed_welcome(EXPORTER, RELAY, 8, 1 << 16);
    let (_, reason) = ended(&bench.frame(Kind::Welcome(welcome)));
    assert!(reason.starts_with("the relay has not the roster that trust.toml names"), "{reason}");
}

#[test]
fn the_first_roster_comes_in_chunks_before_welcome_and_is_held_against_the_trust_bundle() {
    let mut bench = Bench::new();
    bench.connect_with(None);
    let note = bench.world.note.clone();
    let mut outputs = Vec::new();
    let chunks = bench.world.administrative(0, &note);
    let leaf = chunks[0].leaf.clone();
    for chunk in chunks {
        outputs.extend(bench.frame(Kind::Administrative(chunk)));
    }
    let roster = bench.world.roster.clone();
    assert_eq!(outputs, [Output::Ask(StoreJob::LearnRoster { position: Position(0), roster, note, leaf })]);
    let welcome = bench.signed_welcome(EXPORTER, RELAY, 8, 1 << 16);
    let outputs = bench.frame(Kind::Welcome(welcome));
    assert!(matches!(*outputs, [Output::Send(Kind::Credit(_)), Output::Status(LinkState::InContact, None)]));
    let ask = bench.answer(StoreAnswer::Done);
    assert!(
        matches!(*ask, [Output::Ask(StoreJob::Resume(_))]),
        "the roster is durable before Welcome counts"
    );
}

#[test]
fn a_roster_that_does_not_follow_ours_raises_an_alarm_and_ours_stays() {
    let mut bench = Bench::open();
    let other = World::new();
    let mut forged = Vec::new();
    for chunk in bench.world.administrative(20, &other.next_note(|_| ())) {
        forged.extend(bench.frame(Kind::Administrative(chunk)));
    }
    assert!(alarmed(&forged).contains("ours stays in force"));
    bench.answer(StoreAnswer::Done);

    let next = bench.world.next_note(|draft| draft.relay_addresses = vec!["relay.example:443".into()]);
    let mut outputs = Vec::new();
    for chunk in bench.world.administrative(21, &next) {
        outputs.extend(bench.frame(Kind::Administrative(chunk)));
    }
    let [Output::Ask(StoreJob::LearnRoster { position, roster, .. })] = &*outputs else {
        panic!("{outputs:?}")
    };
    assert_eq!((*position, roster.version()), (Position(21), 2));
}

#[test]
fn a_roster_that_its_leaf_does_not_name_is_not_taken() {
    let mut bench = Bench::open();
    let next = bench.world.next_note(|_| ());
    let mut chunks = bench.world.administrative(20, &next);
    chunks[0].leaf = bench.world.administrative(20, &bench.world.note)[0].leaf.clone();
    let mut outputs = Vec::new();
    for chunk in chunks {
        outputs.extend(bench.frame(Kind::Administrative(chunk)));
    }
    assert!(alarmed(&outputs).contains("does not name the roster"));
}

#[test]
fn rosters_from_before_the_trust_bundle_are_passed_over() {
    let mut bench = Bench::new();
    bench.connect_with(None);
    let older = World::new().note;
    let mut outputs = Vec::new();
    for chunk in bench.world.administrative(0, &older) {
        outputs.extend(bench.frame(Kind::Administrative(chunk)));
    }
    assert_eq!(outputs, [Output::Ask(StoreJob::LearnAdministrative(Position(0)))]);
}

#[test]
fn a_desk_that_the_roster_does_not_list_is_told_so() {
    let mut bench = Bench::for_desk("spiffe://bloc.example/mission/vnm");
    bench.connect();
    let welcome = bench.signed_welcome(EXPORTER, RELAY, 8, 1 << 16);
    let (code, reason) = ended(&bench.frame(Kind::Welcome(welcome)));
    assert_eq!(code, pb::GoodbyeCode::NotInRoster as u32);
    assert!(reason.contains("`pouch roster add`"), "{reason}");
}

#[test]
fn envelopes_stop_at_the_window_and_go_on_with_credit() {
    let mut bench = Bench::new();
    bench.connect();
    bench.welcome(2, 1 << 16);
    let submits = sealed(&bench.world, 1..=4);
    let outputs = bench.answer(StoreAnswer::Resumed(Resend { submits: submits.clone(), stored: Vec::new() }));
    assert_eq!(outputs[..2], sent(&submits[..2]));
    assert_eq!(outputs[2..], [Output::Ask(StoreJob::MakeStored)]);
    let credit = |envelopes| Kind::Credit(pb::Credit { envelopes, bytes: 1 << 16 });
    assert_eq!(bench.frame(credit(3)), sent(&submits[2..3]));
    assert_eq!(bench.frame(credit(3)), [], "a repeated total grants nothing");
    assert_eq!(bench.frame(credit(1)), [], "a lower total takes nothing back");
    assert_eq!(bench.frame(credit(4)), sent(&submits[3..]));
}

#[test]
fn what_is_sealed_fits_the_room_that_credit_leaves() {
    let mut bench = Bench::new();
    bench.connect();
    bench.welcome(3, 5_000);
    let submits = sealed(&bench.world, 1..=1);
    let frame_bytes = Kind::Submit(submits[0].submit.clone()).encoded_len() as u64;
    bench.answer(StoreAnswer::Resumed(Resend { submits, stored: Vec::new() }));
    let room = Room { envelopes: 2, bytes: 5_000 - frame_bytes };
    assert_eq!(bench.answer(StoreAnswer::Stored(None)), [Output::Ask(StoreJob::Seal(room))]);
}

#[test]
fn a_deferred_envelope_holds_all_above_it_until_its_time_and_then_they_go_out_again() {
    let (mut bench, submits) = open_with(1..=4);
    let deferred = pb::Deferred { submission: 2, retry_after_ms: 3_000 };
    assert_eq!(bench.frame(Kind::Deferred(deferred)), []);
    assert_eq!(bench.pass(SECOND), []);
    assert_eq!(bench.frame(Kind::Deferred(pb::Deferred { submission: 3, retry_after_ms: 1_000 })), []);
    assert_eq!(bench.machine.poll_timeout(), Some(bench.now.mono + 2 * SECOND));
    assert_eq!(bench.pass(2 * SECOND), sent(&submits[1..]));
}

#[test]
fn a_relay_that_asks_for_no_pause_gets_one_all_the_same() {
    let (mut bench, submits) = open_with(1..=1);
    assert_eq!(bench.frame(Kind::Deferred(pb::Deferred { submission: 1, retry_after_ms: 0 })), []);
    assert_eq!(bench.pass(Duration::from_millis(99)), []);
    assert_eq!(bench.pass(Duration::from_millis(1)), sent(&submits));
}

#[test]
fn a_relay_that_defers_for_a_minute_is_an_alarm_until_it_accepts() {
    let (mut bench, submits) = open_with(1..=1);
    let deferred = || Kind::Deferred(pb::Deferred { submission: 1, retry_after_ms: 1_000 });
    for _ in 0..60 {
        assert_eq!(bench.frame(deferred()), []);
        bench.give(Input::Heard);
        bench.give(Input::Unsent(0));
        assert_eq!(bench.pass(SECOND), sent(&submits));
    }
    assert_eq!(bench.frame(deferred()), [Output::Ask(StoreJob::Defers(true))]);
    assert_eq!(bench.answer(StoreAnswer::Done), []);
    bench.give(Input::Heard);
    bench.pass(SECOND);
    assert_eq!(bench.frame(deferred()), [], "once is enough");
    let outputs = bench.frame(Kind::Accepted(accepted(&submits[0], 7)));
    assert_eq!(outputs, [Output::Ask(StoreJob::Defers(false))]);
}

#[test]
fn accepted_goes_to_the_store_and_a_repetition_does_not() {
    let (mut bench, submits) = open_with(1..=2);
    let answer = accepted(&submits[1], 40);
    assert_eq!(
        bench.frame(Kind::Accepted(answer.clone())),
        [Output::Ask(StoreJob::Accepted(vec![answer.clone()]))]
    );
    assert_eq!(bench.answer(StoreAnswer::Done), []);
    assert_eq!(bench.frame(Kind::Accepted(answer)), []);
}

#[test]
fn accepted_for_another_envelope_is_not_believed() {
    let (mut bench, submits) = open_with(1..=2);
    let crossed = pb::Accepted { submission: 1, ..accepted(&submits[1], 40) };
    let (code, reason) = ended(&bench.frame(Kind::Accepted(crossed)));
    assert_eq!(code, pb::GoodbyeCode::Protocol as u32);
    assert!(reason.contains("another envelope was accepted under this number"), "{reason}");
}

fn refusal(world: &World, signer: PartyNumber, submit: &SealedSubmit) -> pb::Refused {
    refusal_with(world, signer, submit, Hash::ZERO)
}

fn refusal_with(
    world: &World,
    signer: PartyNumber,
    submit: &SealedSubmit,
    details_hash: Hash,
) -> pb::Refused {
    let mut item = item(ReceiptKind::Refused, RELAY, IDN);
    item.reason = 9;
    item.details_hash = details_hash;
    item.envelopes = vec![(hash_of(&submit.submit), Position::NONE)];
    let receipt = world.receipt(signer, &item, 0);
    pb::Refused {
        submission: submit.number,
        envelope_hash: Bytes::copy_from_slice(hash_of(&submit.submit).0.as_bytes()),
        code: 9,
        sentence: "topic".into(),
        item: receipt.item,
        proof: receipt.proof,
        recorded: false,
        ..pb::Refused::default()
    }
}

#[test]
fn a_refusal_without_a_number_is_about_the_envelope_that_its_hash_names() {
    let (mut bench, submits) = open_with(1..=2);
    let named = refusal(&bench.world, RELAY, &submits[1]);
    let numberless = pb::Refused { submission: 0, ..named.clone() };
    let outputs = bench.frame(Kind::Refused(numberless.clone()));
    assert_eq!(outputs, [Output::Ask(StoreJob::Refused(vec![named]))]);
    bench.answer(StoreAnswer::Done);
    let outputs = bench.answer(StoreAnswer::Sealed { submits: Vec::new(), more: false });
    assert_eq!(outputs, []);
    let outputs = bench.frame(Kind::Refused(numberless));
    assert!(alarmed(&outputs).contains("that this desk did not send"), "nothing of that name waits any more");
}

#[test]
fn a_refusal_counts_only_with_the_relays_signature_and_sealing_goes_on_after_it() {
    let (mut bench, submits) = open_with(1..=1);
    let refused = refusal(&bench.world, RELAY, &submits[0]);
    assert_eq!(bench.frame(Kind::Refused(refused.clone())), [Output::Ask(StoreJob::Refused(vec![refused]))]);
    let ask = bench.answer(StoreAnswer::Done);
    assert!(matches!(*ask, [Output::Ask(StoreJob::Seal(_))]), "the dispatch may wait again: {ask:?}");

    let (mut bench, submits) = open_with(1..=1);
    let forged = refusal(&bench.world, MOD, &submits[0]);
    let (_, reason) = ended(&bench.frame(Kind::Refused(forged)));
    assert!(reason.contains("not proven"), "{reason}");

    // A record must be the one of this envelope.
    let recorded = |change: u8, salt_bytes: usize| {
        let (mut bench, submits) = open_with(1..=1);
        let mut hash = hash_of(&submits[0].submit).0;
        hash.0[0] ^= change;
        let opening = Opening { kind: OpeningKind::Refusal, log_time_us: 1, roster_version: 1, hash };
        let opening = Bytes::copy_from_slice(&opening.encode());
        let refusal = refusal(&bench.world, RELAY, &submits[0]);
        let salt = vec![7; salt_bytes].into();
        bench.frame(Kind::Refused(pb::Refused { recorded: true, opening, salt, ..refusal }))
    };
    assert!(matches!(*recorded(0, 32), [Output::Ask(StoreJob::Refused(_))]));
    for (change, salt_bytes) in [(1, 32), (0, 31), (0, 33), (0, 0)] {
        let (_, reason) = ended(&recorded(change, salt_bytes));
        assert!(reason.contains("not proven"), "{reason}");
    }
}

/// What the store could not read again must not come to it: it would stop for good.
#[test]
fn a_refusal_that_speaks_of_details_counts_for_nothing() {
    let (mut bench, submits) = open_with(1..=1);
    let details_hash = sha256(b"details");
    let refused = refusal_with(&bench.world, RELAY, &submits[0], details_hash);
    let (_, reason) = ended(&bench.frame(Kind::Refused(pb::Refused { recorded: true, ..refused })));
    assert!(reason.contains("receipt details"), "{reason}");
}

#[test]
fn deliveries_gather_for_five_milliseconds_and_receipts_follow_once_they_are_stored() {
    let mut bench = Bench::open();
    let first = bench.world.deliver(MOD, &bench.world.core(MOD, IDN, 1), 70);
    let second = bench.world.deliver(MOD, &bench.world.core(MOD, IDN, 2), 71);
    assert_eq!(bench.frame(Kind::Deliver(first)), []);
    assert_eq!(bench.frame(Kind::Deliver(second)), []);
    assert_eq!(bench.machine.poll_timeout(), Some(bench.now.mono + Duration::from_millis(5)));
    let outputs = bench.pass(Duration::from_millis(5));
    let [Output::Ask(StoreJob::Deliver(deliveries))] = &*outputs else { panic!("{outputs:?}") };
    assert_eq!(
        deliveries.iter().map(|delivery| delivery.position).collect::<Vec<_>>(),
        [Position(70), Position(71)]
    );
    assert_eq!(
        bench.answer(StoreAnswer::Delivered),
        [Output::Ask(StoreJob::MakeStored)],
        "too little for a frame"
    );
    assert_eq!(
        bench.answer(StoreAnswer::Stored(Some(stored(4)))),
        [Output::Send(Kind::Stored(stored(4))), Output::Ask(StoreJob::MakeStored)]
    );
    assert_eq!(bench.answer(StoreAnswer::Stored(None)), []);
}

#[test]
fn flash_does_not_wait_for_others() {
    let mut bench = Bench::open();
    let mut core = bench.world.core(MOD, IDN, 1);
    core.precedence_action = Precedence::Flash;
    let flash = bench.world.deliver(MOD, &core, 70);
    let outputs = bench.frame(Kind::Deliver(flash));
    assert!(matches!(&*outputs, [Output::Ask(StoreJob::Deliver(deliveries))] if deliveries.len() == 1));
}

#[test]
fn a_relay_that_sends_more_than_its_credit_is_cut_off() {
    let mut bench = Bench::open();
    let deliver = bench.world.deliver(MOD, &bench.world.core(MOD, IDN, 1), 70);
    for _ in 0..512 {
        bench.frame(Kind::Deliver(deliver.clone()));
    }
    let (code, reason) = ended(&bench.frame(Kind::Deliver(deliver)));
    assert_eq!(code, pb::GoodbyeCode::Protocol as u32);
    assert!(reason.contains("more was sent than the window allows"), "{reason}");
}

#[test]
fn credit_comes_back_as_deliveries_are_stored_a_quarter_of_the_window_at_a_time() {
    let mut bench = Bench::open();
    let deliver = bench.world.deliver(MOD, &bench.world.core(MOD, IDN, 1), 70);
    let frame_bytes = inbound::deliver_bytes(&deliver);
    for _ in 0..127 {
        bench.frame(Kind::Deliver(deliver.clone()));
    }
    bench.pass(Duration::from_millis(5));
    assert_eq!(bench.frame(Kind::Deliver(deliver)), []);
    assert_eq!(bench.answer(StoreAnswer::Delivered), [Output::Ask(StoreJob::MakeStored)]);
    bench.answer(StoreAnswer::Stored(None));
    assert!(matches!(*bench.pass(Duration::from_millis(5)), [Output::Ask(StoreJob::Deliver(_))]));
    let credit = pb::Credit { envelopes: 512 + 128, bytes: (1 << 20) + 128 * frame_bytes };
    assert_eq!(bench.answer(StoreAnswer::Delivered)[0], Output::Send(Kind::Credit(credit)));
}

#[test]
fn both_ends_count_the_same_bytes_for_a_delivery() {
    let world = World::new();
    let core = world.core(MOD, IDN, 1);
    let submit = world.submits(MOD, std::slice::from_ref(&core)).remove(0);
    let proof = convert::proof(submit.proof.as_ref()).expect("our own proof");
    let (envelope, _) = Envelope::from_submit(&submit, &proof).expect("our own envelope");
    let opening =
        Opening { kind: OpeningKind::Envelope, log_time_us: 1, roster_version: 1, hash: hash_of(&submit).0 };
    let traffic = Traffic { salt: [7; 32], opening };
    let relays =
        Outbound::Deliver { position: Position(70), envelope: Arc::new(envelope), index: 0, traffic };
    assert_eq!(inbound::deliver_bytes(&world.deliver(MOD, &core, 70)), relays.bytes() as u64);
}

#[test]
fn receipts_are_confirmed_once_they_are_durable_and_the_frame_after_them_came() {
    let mut bench = Bench::open();
    let receipt = |kind, position| bench.world.receipt(MOD, &item(kind, MOD, MOD), position);
    let [first, second] = [ReceiptKind::Delivered, ReceiptKind::Read].map(|kind| receipt(kind, 80));
    let outputs = bench.frame(Kind::Receipt(first));
    assert!(matches!(&*outputs, [Output::Ask(StoreJob::Receipts(receipts))] if receipts.len() == 1));
    assert_eq!(bench.answer(StoreAnswer::ReceiptsStored), [], "its record may hold more for us");
    let outputs = bench.frame(Kind::Receipt(second));
    assert!(matches!(*outputs, [Output::Ask(StoreJob::Receipts(_))]));
    assert_eq!(bench.frame(Kind::Pong(pb::Pong::default())), [], "complete, but not durable");
    let confirm = pb::Confirm { position: 80 };
    assert_eq!(bench.answer(StoreAnswer::ReceiptsStored), [Output::Send(Kind::Confirm(confirm))]);
    assert_eq!(bench.frame(Kind::Pong(pb::Pong::default())), [], "once is enough");
}

#[test]
fn the_last_receipt_is_confirmed_with_the_next_frame_of_any_kind() {
    let mut bench = Bench::open();
    let receipt = bench.world.receipt(MOD, &item(ReceiptKind::Delivered, MOD, MOD), 80);
    bench.frame(Kind::Receipt(receipt));
    assert_eq!(bench.answer(StoreAnswer::ReceiptsStored), []);
    let confirm = pb::Confirm { position: 80 };
    assert_eq!(bench.frame(Kind::Pong(pb::Pong::default())), [Output::Send(Kind::Confirm(confirm))]);
}

#[test]
fn a_log_whose_time_is_ahead_of_this_machine_s_clock_is_an_alarm_once_in_a_session() {
    let mut bench = Bench::open();
    let at = |bench: &Bench, time_us, position| {
        let item = item(ReceiptKind::Read, MOD, MOD);
        let mut receipt = bench.world.receipt(MOD, &item, position);
        let opening = Opening::decode(&receipt.opening).unwrap();
        receipt.opening = Bytes::copy_from_slice(&Opening { log_time_us: time_us, ..opening }.encode());
        Kind::Receipt(receipt)
    };
    let now_us = bench.now.wall_us;
    let frame = at(&bench, now_us + 60_000_000, 80);
    let outputs = bench.frame(frame);
    assert!(matches!(*outputs, [Output::Ask(StoreJob::Receipts(_))]), "{outputs:?}");
    let frame = at(&bench, now_us + 61_000_000, 81);
    assert!(bench.frame(frame).is_empty());
    let outputs = bench.answer(StoreAnswer::ReceiptsStored);
    assert!(alarmed(&outputs).contains("61 s ahead"), "{outputs:?}");
    let frame = at(&bench, now_us + 99_000_000, 82);
    bench.frame(frame);
    let outputs = bench.answer(StoreAnswer::Done);
    assert!(matches!(*outputs, [.., Output::Ask(StoreJob::Receipts(_))]), "said once: {outputs:?}");
}

#[test]
fn what_proves_nothing_raises_an_alarm_and_does_not_stop_what_follows() {
    let mut bench = Bench::open();
    let forged = bench.world.receipt(IDN, &item(ReceiptKind::Delivered, MOD, MOD), 80);
    let outputs = bench.frame(Kind::Receipt(forged));
    assert!(alarmed(&outputs).contains("position 80"));
    bench.answer(StoreAnswer::Done);
    let misrouted = bench.world.deliver(MOD, &bench.world.core(MOD, RELAY, 1), 81);
    let outputs = bench.frame(Kind::Deliver(misrouted));
    let confirm = pb::Confirm { position: 80 };
    assert_eq!(
        outputs[0],
        Output::Send(Kind::Confirm(confirm)),
        "it is not to come again with every session"
    );
    assert!(alarmed(&outputs[1..]).contains("position 81"));
    bench.answer(StoreAnswer::Done);
    let receipt = bench.world.receipt(MOD, &item(ReceiptKind::Read, MOD, MOD), 82);
    let outputs = bench.frame(Kind::Receipt(receipt));
    assert!(matches!(*outputs, [Output::Ask(StoreJob::Receipts(_))]));
}

#[test]
fn while_the_store_is_busy_the_next_job_gathers_and_all_kinds_get_their_turn() {
    let (mut bench, submits) = open_with(1..=3);
    let ask = bench.frame(Kind::Accepted(accepted(&submits[0], 40)));
    assert!(matches!(*ask, [Output::Ask(StoreJob::Accepted(_))]));
    let receipt = bench.world.receipt(MOD, &item(ReceiptKind::Delivered, MOD, MOD), 80);
    assert_eq!(bench.frame(Kind::Receipt(receipt)), []);
    assert_eq!(bench.frame(Kind::Accepted(accepted(&submits[1], 41))), []);
    assert_eq!(bench.frame(Kind::Accepted(accepted(&submits[2], 42))), []);
    assert_eq!(bench.give(WAKE), []);
    let mut order = Vec::new();
    let mut answer = StoreAnswer::Done;
    loop {
        let outputs = bench.answer(answer);
        answer = match outputs.last() {
            Some(Output::Ask(StoreJob::Receipts(_))) => StoreAnswer::ReceiptsStored,
            Some(Output::Ask(StoreJob::MakeStored)) => StoreAnswer::Stored(None),
            Some(Output::Ask(StoreJob::Seal(_))) => StoreAnswer::Sealed { submits: Vec::new(), more: false },
            Some(Output::Ask(StoreJob::Accepted(both))) => {
                assert_eq!(both.len(), 2);
                StoreAnswer::Done
            }
            _ => break,
        };
        order.push(std::mem::discriminant(&answer));
    }
    assert_eq!(order.len(), 4);
    assert_eq!(
        order.last(),
        Some(&std::mem::discriminant(&StoreAnswer::Done)),
        "Accepted had its turn before"
    );
}

#[test]
fn an_answer_for_a_session_that_is_gone_changes_nothing_in_the_next() {
    let (mut bench, _) = open_with(1..=1);
    assert_eq!(bench.give(WAKE), [Output::Ask(StoreJob::MakeStored)]);
    bench.lost();
    assert_eq!(bench.attempt(), RELAYS[0]);
    assert_eq!(bench.give(opened()), [], "the store is still busy");
    assert_eq!(bench.answer(StoreAnswer::Stored(Some(stored(4)))), [Output::Ask(StoreJob::Facts)]);
}

#[test]
fn a_relay_that_falls_silent_is_asked_after_10_s_and_given_up_after_25() {
    let mut bench = Bench::open();
    assert_eq!(bench.machine.poll_timeout(), Some(10 * SECOND));
    let ping = bench.pass(10 * SECOND);
    assert!(matches!(*ping, [Output::Send(Kind::Ping(_))]), "{ping:?}");
    assert_eq!(bench.give(Input::Heard), []);
    assert_eq!(bench.pass(9 * SECOND), [], "any byte is life");
    bench.pass(SECOND);
    bench.pass(10 * SECOND);
    let (code, reason) = ended(&bench.pass(5 * SECOND));
    assert_eq!(code, pb::GoodbyeCode::Silent as u32);
    assert!(reason.starts_with("the relay fell silent"), "{reason}");
}

#[test]
fn a_relay_that_does_not_answer_hello_is_given_up_after_5_s() {
    let mut bench = Bench::new();
    bench.connect();
    assert_eq!(bench.machine.poll_timeout(), Some(5 * SECOND));
    let (code, _) = ended(&bench.pass(5 * SECOND));
    assert_eq!(code, pb::GoodbyeCode::Silent as u32);
}

#[test]
fn a_ping_is_answered_with_its_token_and_our_time() {
    let mut bench = Bench::open();
    let pong = pb::Pong { token: 77, time_us: bench.now.wall_us };
    assert_eq!(bench.frame(Kind::Ping(pb::Ping { token: 77 })), [Output::Send(Kind::Pong(pong))]);
}

#[test]
fn frames_out_of_their_time_end_the_session() {
    let mut bench = Bench::new();
    bench.connect();
    let early = bench.frame(Kind::Deferred(pb::Deferred { submission: 1, retry_after_ms: 1 }));
    assert_eq!(ended(&early).0, pb::GoodbyeCode::Protocol as u32);
    let mut bench = Bench::open();
    let not_the_relays = bench.frame(Kind::Confirm(pb::Confirm { position: 1 }));
    assert_eq!(ended(&not_the_relays).0, pb::GoodbyeCode::Protocol as u32);
}

#[test]
fn an_old_incarnation_is_raised_in_the_store_before_the_next_hello() {
    let mut bench = Bench::new();
    bench.connect();
    let code = pb::GoodbyeCode::IncarnationOld as u32;
    let goodbye = pb::Goodbye { code, sentence: String::new(), incarnation: 6 };
    let outputs = bench.frame(Kind::Goodbye(goodbye));
    assert!(
        matches!(
            &*outputs,
            [
                Output::Close,
                Output::Status(LinkState::Offline, Some(_)),
                Output::Ask(StoreJob::TakeIncarnation(7))
            ]
        ),
        "{outputs:?}"
    );
    assert_eq!(bench.lost(), []);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.give(opened()), []);
    assert_eq!(bench.answer(StoreAnswer::Done), [Output::Ask(StoreJob::Facts)]);
}

#[test]
fn a_goodbye_says_why_in_words_for_a_person() {
    let mut bench = Bench::new();
    bench.connect();
    let code = pb::GoodbyeCode::Suspended as u32;
    let goodbye = pb::Goodbye { code, sentence: "\u{1b}[2J".into(), incarnation: 0 };
    let outputs = bench.frame(Kind::Goodbye(goodbye));
    let reason = "this desk is suspended or revoked in the roster: call the ministry".to_owned();
    assert_eq!(outputs, [Output::Close, Output::Status(LinkState::Offline, Some(reason))]);
}

#[test]
fn addresses_are_tried_in_turn_until_one_opens_and_waits_grow_until_a_session_was_good() {
    let mut bench = Bench::new();
    assert_eq!(bench.attempt(), RELAYS[0]);
    for (attempt, ceiling_ms) in [(1, 200), (0, 400), (1, 800)] {
        let outputs = bench.give(Input::Lost { reason: "no answer".into(), jitter: u64::MAX });
        assert_eq!(outputs, [Output::Status(LinkState::Offline, Some("no answer".into()))]);
        let wait = Duration::from_millis(ceiling_ms);
        assert_eq!(bench.machine.poll_timeout(), Some(bench.now.mono + wait));
        assert_eq!(bench.pass(wait - Duration::from_millis(1)), []);
        assert_eq!(bench.pass(Duration::from_millis(1)), [Output::Connect(RELAYS[attempt].to_owned())]);
    }
    bench.give(opened());
    bench.answer(StoreAnswer::Facts(facts(Some(bench.world.roster.clone()))));
    bench.welcome(8, 1 << 16);
    bench.now.mono += 10 * SECOND;
    bench.give(Input::Lost { reason: "cut".into(), jitter: u64::MAX });
    assert_eq!(bench.machine.poll_timeout(), Some(bench.now.mono + Duration::from_millis(200)));
    assert_eq!(bench.attempt(), RELAYS[1], "the address that worked comes first");
}

#[test]
fn a_relay_that_moves_is_found_where_the_roster_learnt_in_the_session_says() {
    let mut bench = Bench::open();
    let moved = "moved.example:443";
    let next = bench.world.next_note(|draft| draft.relay_addresses = vec![RELAYS[1].into(), moved.into()]);
    for chunk in bench.world.administrative(21, &next) {
        bench.frame(Kind::Administrative(chunk));
    }
    bench.answer(StoreAnswer::Done);
    bench.lost();
    for address in [RELAYS[0], RELAYS[1], moved, RELAYS[0]] {
        assert_eq!(bench.attempt(), address, "configured ones first, and none twice in a turn");
        bench.lost();
    }
}

#[test]
fn a_link_that_starts_knows_the_addresses_of_the_roster_in_the_store() {
    let mut bench = Bench::new();
    let note = bench.world.next_note(|draft| draft.relay_addresses = vec!["moved.example:443".into()]);
    let roster = Arc::new(verify_next(&note, &bench.world.roster).expect("the next version"));
    let setup = setup(&bench.world, DESK);
    bench.machine = Machine::new(Setup { relays: vec![RELAYS[0].into()], roster: Some(roster), ..setup });
    assert_eq!(bench.attempt(), RELAYS[0]);
    bench.lost();
    assert_eq!(bench.attempt(), "moved.example:443");
}

#[test]
fn stop_says_goodbye_and_waits_for_the_store() {
    let (mut bench, _) = open_with(1..=1);
    assert_eq!(bench.give(WAKE), [Output::Ask(StoreJob::MakeStored)]);
    let (code, _) = ended(&bench.give(Input::Stop));
    assert_eq!(code, pb::GoodbyeCode::Shutdown as u32);
    assert_eq!(bench.lost(), []);
    assert!(!bench.machine.is_stopped());
    assert_eq!(bench.answer(StoreAnswer::Stored(Some(stored(9)))), []);
    assert!(bench.machine.is_stopped());
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn stop_while_connecting_or_waiting_ends_at_once() {
    let mut bench = Bench::new();
    bench.pass(Duration::ZERO);
    assert_eq!(bench.give(Input::Stop), [Output::Close]);
    assert_eq!(bench.lost(), []);
    assert!(bench.machine.is_stopped());
    let mut bench = Bench::new();
    bench.give(Input::Stop);
    assert!(bench.machine.is_stopped());
}

#[test]
fn a_clock_and_a_roster_that_differ_are_told_to_the_store() {
    let mut bench = Bench::new();
    bench.connect();
    let mut welcome = bench.signed_welcome(EXPORTER, RELAY, 8, 1 << 16);
    welcome.time_us += 7_200_000_000;
    welcome.roster_version = 9;
    let outputs = bench.frame(Kind::Welcome(welcome));
    let Some(Output::Ask(StoreJob::Resume(facts))) = outputs.last() else { panic!("{outputs:?}") };
    assert_eq!((facts.clock_off_s, facts.other_roster), (Some(7_200), Some(9)));
}

#[test]
fn a_relay_that_lost_its_log_is_told_and_asked_ever_less_often() {
    let mut bench = Bench::new();
    let mut waits = Vec::new();
    for _ in 0..10 {
        bench.connect();
        bench.welcome(8, 1 << 16);
        let (code, reason) = ended(&bench.answer(StoreAnswer::RelayBehind));
        assert_eq!(code, pb::GoodbyeCode::LogBehind as u32);
        assert!(reason.contains("no mail goes out or comes in: telephone the ministry"), "{reason}");
        bench.give(Input::Lost { reason: "cut".into(), jitter: u64::MAX });
        let until = bench.machine.poll_timeout().expect("an attempt is due");
        waits.push((until - bench.now.mono).as_secs());
        bench.now.mono = until;
    }
    assert_eq!(waits, [0, 0, 0, 1, 3, 6, 12, 25, 30, 30]);
}

#[test]
fn after_a_new_log_the_next_hello_says_what_is_known_of_it() {
    let mut bench = Bench::new();
    bench.connect();
    bench.welcome(8, 1 << 16);
    let (code, _) = ended(&bench.answer(StoreAnswer::NewLog));
    assert_eq!(code, pb::GoodbyeCode::Shutdown as u32);
    bench.lost();
    bench.connect();
}
