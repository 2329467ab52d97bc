//! What a bad network and slow peers do to a running relay (FAULTS 31, 40, 47, 56, 75, 76).

#[allow(dead_code, reason = "shared with tests that do more with it")]
#[path = "bad_input/attacker.rs"]
mod attacker;
#[allow(dead_code, reason = "shared with tests that do more with it")]
#[path = "support/peer.rs"]
mod peer;
mod support;

use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use pouch::{
    desk::view::{InboxFilter, NewDispatch, Step},
    pki,
    wire::{
        EnvelopeHash, Position, codec,
        pb::{self, GoodbyeCode, frame::Kind},
        receipt::ReceiptKind,
    },
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use attacker::{Attacker, keys_of};
use peer::Peer;
use support::Site;

const TIME_MAX: Duration = Duration::from_secs(60);
/// Between two cuts of a frame, in bytes: no divisor of anything in it, so that each field is cut somewhere.
const STRIDE: usize = 13;

fn wire(frame: Kind) -> BytesMut {
    let mut wire = BytesMut::new();
    codec::encode(frame, &mut wire);
    wire
}

/// Where a frame of this length is cut: before its first byte, here and there, and after its last.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(STRIDE).chain([length - 1, length])
}

/// A session of a desk that comes again at once, until the relay has noticed the end of the one before.
async fn come_again(site: &Site, name: &str) -> (Attacker, pb::Welcome) {
    let (number, key) = keys_of(site, name);
    loop {
        let mut desk = Attacker::connect(site, name).await;
        let hello = Peer { roster: &site.example().roster, number, key: &key }.hello(desk.exporter);
        desk.send(Kind::Hello(hello)).await;
        match desk.next().await {
            Some(Kind::Welcome(welcome)) => return (desk, welcome),
            // Or until the relay, which has only just begun to listen, has its roster.
            Some(Kind::Goodbye(goodbye))
                if [GoodbyeCode::TakeOverSoon as u32, GoodbyeCode::NotReady as u32]
                    .contains(&goodbye.code) => {}
            other => panic!("no Welcome: {other:?}"),
        }
    }
}

/// FAULTS 40, 47 and 56, for Hello, Submit and Stored.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_cut_anywhere_leave_one_record_one_delivery_and_one_receipt() {
    let site = Site::with_relay(&pki::example_parties()).await;
    let roster = &site.example().roster;
    let (number, key) = keys_of(&site, "idn");
    let idn = Peer { roster, number, key: &key };
    let (number, key) = keys_of(&site, "hub");
    let hub = Peer { roster, number, key: &key };

    let hello_bytes = wire(Kind::Hello(idn.hello([0; 32]))).len();
    for cut in cuts(hello_bytes) {
        let mut desk = Attacker::connect(&site, "idn").await;
        let hello = wire(Kind::Hello(idn.hello(desk.exporter)));
        desk.send_bytes(&hello[..cut.min(hello.len())]).await;
    }

    let core = idn.core(1, &[hub.number], SystemTime::now());
    let submit = wire(Kind::Submit(idn.submit(&core, b"dispatch")));
    for cut in cuts(submit.len()) {
        let (mut desk, _) = come_again(&site, "idn").await;
        desk.send_bytes(&submit[..cut]).await;
    }
    let mut positions = Vec::new();
    for _ in 0..2 {
        let (mut desk, welcome) = come_again(&site, "idn").await;
        assert!(welcome.last_accepted <= 1);
        desk.send_bytes(&submit).await;
        let accepted = |frame| match frame {
            Kind::Accepted(accepted) => Some((accepted.position, accepted.envelope_hash)),
            _ => None,
        };
        positions.push(desk.wait_for(accepted).await);
    }
    assert_eq!(positions[0], positions[1], "the answer that was lost is given again");

    let (position, hash) = positions.remove(0);
    let hash = EnvelopeHash(hash[..].try_into().unwrap());
    let receipt = hub.receipt(ReceiptKind::Delivered, idn.number, &[(hash, Position(position))]);
    let stored = wire(Kind::Stored(hub.stored(1, &[receipt])));
    for cut in cuts(stored.len()) {
        let (mut desk, _) = come_again(&site, "hub").await;
        desk.send_bytes(&stored[..cut]).await;
    }
    let (mut desk, welcome) = come_again(&site, "hub").await;
    assert!(welcome.last_stored <= 1);
    let mut first = wire(Kind::Stored(
        hub.stored(1, &[hub.receipt(ReceiptKind::Delivered, idn.number, &[(hash, Position(position))])]),
    ));
    codec::encode(Kind::Ping(pb::Ping { token: 7 }), &mut first);
    desk.send_bytes(&first).await;
    let stored_at = |frame| match frame {
        Kind::StoredAt(stored_at) => Some(stored_at),
        _ => None,
    };
    assert_eq!(desk.wait_for(stored_at).await.number, 1);
    let (mut desk, welcome) = come_again(&site, "hub").await;
    assert_eq!(welcome.last_stored, 1);
    desk.send_all([
        Kind::Credit(pb::Credit { envelopes: 8, bytes: 1 << 16 }),
        Kind::Ping(pb::Ping { token: 9 }),
    ])
    .await;
    assert!(matches!(desk.next().await, Some(Kind::Pong(_))), "its mailbox is empty");

    let (mut desk, _) = come_again(&site, "idn").await;
    let receipts = |frame| match frame {
        Kind::Receipt(receipt) => Some(receipt),
        _ => None,
    };
    desk.wait_for(receipts).await;
    desk.send(Kind::Ping(pb::Ping { token: 11 })).await;
    assert!(matches!(desk.next().await, Some(Kind::Pong(_))), "there is one receipt");
}

/// FAULTS 75, with as many as two budgets of handshakes.
#[tokio::test(flavor = "multi_thread")]
async fn half_done_handshakes_time_out_while_a_session_lives_and_then_others_come_in() {
    let site = Site::with_relay(&pki::example_parties()).await;
    let (mut live, _) = come_again(&site, "idn").await;
    let mut half_done = Vec::new();
    for _ in 0..128 {
        half_done.push(TcpStream::connect(site.address()).await.unwrap());
    }
    for token in 0..20 {
        live.send(Kind::Ping(pb::Ping { token })).await;
        let pong = |frame| matches!(frame, Kind::Pong(_)).then_some(());
        live.wait_for(pong).await;
    }
    let closed = async {
        for stream in &mut half_done {
            assert!(matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_)), "closed without a word");
        }
    };
    timeout(TIME_MAX, closed).await.expect("each is given up");
    timeout(TIME_MAX, come_again(&site, "hub")).await.expect("there is room again");
}

/// FAULTS 76: the flood's party is told why, the others are not touched, and the operator sees the count.
#[tokio::test(flavor = "multi_thread")]
async fn a_party_that_connects_again_and_again_is_turned_away_and_the_others_are_not() {
    let site = Site::with_relay(&pki::example_parties()).await;
    let (mut live, _) = come_again(&site, "idn").await;
    let mut turned_away = 0;
    // One connection a second is let in: whatever the machine, more than that are made.
    while turned_away < 16 {
        let mut flood = Attacker::connect(&site, "mys").await;
        let (number, key) = keys_of(&site, "mys");
        let hello = Peer { roster: &site.example().roster, number, key: &key }.hello(flood.exporter);
        flood.send(Kind::Hello(hello)).await;
        if let Some(Kind::Goodbye(goodbye)) = flood.next().await
            && goodbye.code == GoodbyeCode::Rate as u32
        {
            assert!(goodbye.sentence.contains("connected too often"), "{}", goodbye.sentence);
            turned_away += 1;
        }
    }
    live.send(Kind::Ping(pb::Ping { token: 1 })).await;
    live.wait_for(|frame| matches!(frame, Kind::Pong(_)).then_some(())).await;
    come_again(&site, "hub").await;
    assert_eq!(site.relay_status().handshakes["too-often"], turned_away);
}

/// FAULTS 31.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_told_to_stop_under_load_is_gone_in_five_seconds_and_loses_nothing() {
    let mut site = Site::new();
    for party in ["relay", "hub", "idn"] {
        site.start(party);
    }
    let (ministry, embassy) = (site.desk("hub"), site.desk("idn"));
    let ready = async {
        while !embassy.status().await.is_ok_and(|status| status.link == "in contact") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIME_MAX, ready).await.unwrap();
    let mut sent = Vec::new();
    for number in 0..60 {
        let new = NewDispatch {
            to: vec!["MOD".to_owned()],
            topic: "maritime".to_owned(),
            precedence: "routine".to_owned(),
            subject: format!("EXERCISE {number}"),
            body: "EXERCISE".to_owned(),
            exercise: true,
            ..NewDispatch::default()
        };
        sent.push(embassy.send(&new).await.unwrap());
        if number == 30 {
            let (status, took) = site.stop("relay");
            assert!(status.success(), "{status}");
            assert!(took < Duration::from_secs(5), "{took:?}");
            site.start("relay");
        }
    }
    for outgoing in &sent {
        embassy.wait(&outgoing.id, Step::Delivered, TIME_MAX).await.unwrap();
    }
    let inbox = ministry.inbox(&InboxFilter { limit: Some(100), ..InboxFilter::default() }).await.unwrap();
    let subjects: Vec<String> = inbox.into_iter().map(|incoming| incoming.subject).collect();
    assert_eq!(subjects, (0..60).map(|number| format!("EXERCISE {number}")).collect::<Vec<_>>());
}
