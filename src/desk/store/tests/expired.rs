//! Envelopes that expired at the relay: what their addressee and their sender make of it.

use super::*;
use crate::{
    batch::Proof,
    desk::view::{Progress, Step},
    record::expiry::precedence_from_code,
    wire::{
        EnvelopeHash, Precedence,
        receipt::{ReceiptItem, ReceiptKind, ReceiptPart},
    },
};

/// The relay's word that a ROUTINE envelope from IDN to MOD expired.
fn expired(bloc: &Bloc, submit: &SealedSubmit, envelope: u64, position: u64) -> ReceivedReceipt {
    let hash = EnvelopeHash(crate::batch::item_leaf(crate::batch::Tag::Envelope, &submit.submit.header));
    let item = ReceiptItem {
        kind: ReceiptKind::Expired,
        reason: 1,
        receiptor: bloc.number("RELAY-A"),
        sender: bloc.number("IDN"),
        addressee: bloc.number("MOD"),
        time_us: 1_790_000_000_000_000,
        roster_version: 1,
        checkpoint_size: 0,
        checkpoint_root: crate::merkle::empty_root(),
        details_hash: Hash::ZERO,
        envelopes: vec![(hash, Position(envelope))],
    };
    ReceivedReceipt {
        position: Position(position),
        part: ReceiptPart { bytes: item.encode(), details: Bytes::new(), item },
        proof: Proof { count: 1, index: 0, path: Vec::new(), signature: [0; 64] },
        salt: Bytes::from_static(&[7; 32]),
        opening: Bytes::from_static(&[8; 45]),
    }
}

/// IDN's desk with five sealed ROUTINE dispatches to MOD, whose envelopes stand at positions 1 to 5.
fn sent(bloc: &Bloc) -> (Desk, Vec<SealedSubmit>) {
    let mut idn = bloc.desk("IDN");
    for n in 1..=5 {
        idn.send(dispatch("MOD", "routine", &format!("{n}")));
    }
    let submits = bloc.seal(&mut idn);
    (idn, submits)
}

fn notices(desk: &Desk) -> Vec<Vec<String>> {
    let rows = desk.store.inbox(&Default::default()).unwrap();
    rows.into_iter().map(|row| row.notices).collect()
}

#[test]
fn reasons_of_expired_receipts_are_precedences() {
    assert_eq!(precedence_from_code(1), Some(Precedence::Routine));
    assert_eq!(precedence_from_code(4), Some(Precedence::Flash));
    assert_eq!([0, 5].map(precedence_from_code), [None, None]);
}

#[test]
fn expired_receipts_close_the_addressees_gap_whichever_comes_first() {
    let bloc = Bloc::new();
    for receipts_first in [true, false] {
        let (_, submits) = sent(&bloc);
        let mut hub = bloc.desk("MOD");
        let receipts = || vec![expired(&bloc, &submits[1], 2, 6), expired(&bloc, &submits[2], 3, 7)];
        if receipts_first {
            hub.store.receipts(receipts(), now()).unwrap();
        }
        for position in [1, 4, 5] {
            let delivery = bloc.delivery(&submits[position - 1], "MOD", position as u64);
            hub.store.deliver(vec![delivery], now()).unwrap();
        }
        if !receipts_first {
            assert_eq!(hub.status().alarms.len(), 1, "a gap until it is explained");
            hub.store.receipts(receipts(), now()).unwrap();
        }
        let words = "2 dispatches before it expired at the relay before they were fetched".to_owned();
        assert_eq!(notices(&hub), [vec![], vec![words], vec![]], "receipts first: {receipts_first}");
        assert_eq!(hub.status().alarms, [""; 0]);
    }
}

#[test]
fn an_expired_envelope_explains_no_gap_that_it_does_not_lie_in() {
    let bloc = Bloc::new();
    let (_, submits) = sent(&bloc);
    let mut hub = bloc.desk("MOD");
    for position in [1, 3, 5] {
        let delivery = bloc.delivery(&submits[position - 1], "MOD", position as u64);
        hub.store.deliver(vec![delivery], now()).unwrap();
    }
    hub.store.receipts(vec![expired(&bloc, &submits[3], 4, 6)], now()).unwrap();
    assert_eq!(notices(&hub)[1], ["1 dispatch is missing (stream number 2)"]);
    assert_eq!(notices(&hub)[2], ["1 dispatch before it expired at the relay before it was fetched"]);
}

#[test]
fn the_sender_sees_who_did_not_fetch_it_in_time() {
    let bloc = Bloc::new();
    let (mut idn, submits) = sent(&bloc);
    idn.store.accepted(vec![accepted(&submits[0], 1)], now()).unwrap();
    idn.store.receipts(vec![expired(&bloc, &submits[0], 1, 6)], now()).unwrap();
    let outgoing = idn.store.outbox(10).unwrap().pop().unwrap();
    let mod_ = &outgoing.addressees[0];
    assert_eq!((&mod_.set_aside_at, &mod_.set_aside_reason, &mod_.delivered_at), (&None, &None, &None));
    assert_eq!(mod_.expired_at.as_deref(), Some("2026-09-21T14:13:20Z"));
    assert_eq!(outgoing.progress(Step::Delivered), Progress::Never);
    assert_eq!(idn.status().undelivered, 0, "it waits for nobody any more");
    assert!(idn.status().alarms[0].contains("expired before MOD"));
}
