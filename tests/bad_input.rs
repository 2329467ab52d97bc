//! What an enrolled desk that misbehaves is told by a running relay: a typed
//! refusal, or a Goodbye with a reason. At the same time the dispatch of another desk goes through.

#[path = "bad_input/attacker.rs"]
mod attacker;
#[path = "support/peer.rs"]
mod peer;
mod support;

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use pouch::{
    desk::view::{InboxFilter, NewDispatch, Step},
    limits::{FRAME_BEFORE_WELCOME_BYTES_MAX, FRAME_BYTES_MAX, FRAME_CONTROL_BYTES_MAX},
    merkle::Hash,
    record::leaf::{Opening, OpeningKind},
    wire::{
        EnvelopeHash, Position,
        envelope::Core,
        pb::{self, GoodbyeCode, RefusalCode, frame::Kind},
        receipt::ReceiptKind,
    },
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use attacker::{Attacker, keys_of, party};
use peer::Peer;
use support::Site;

const TIME_MAX: Duration = Duration::from_secs(20);

/// Relay, ministry and one honest embassy as processes; the embassy's contact stands.
async fn site() -> Site {
    let mut site = Site::new();
    for party in ["relay", "hub", "idn"] {
        site.start(party);
    }
    honest_dispatch(&site).await;
    site
}

/// Runs an attack while the honest embassy writes to the ministry, and once more after it.
async fn attack<T>(site: &Site, attack: impl Future<Output = T>) -> T {
    let (told, ()) = tokio::join!(attack, honest_dispatch(site));
    honest_dispatch(site).await;
    told
}

async fn honest_dispatch(site: &Site) {
    let embassy = site.desk("idn");
    let new = NewDispatch {
        to: vec!["MOD".to_owned()],
        topic: "maritime".to_owned(),
        precedence: "immediate".to_owned(),
        subject: "EXERCISE all is well".to_owned(),
        body: "EXERCISE".to_owned(),
        exercise: true,
        ..NewDispatch::default()
    };
    let send = async {
        loop {
            // Until the desk has its socket and a roster.
            if let Ok(sent) = embassy.send(&new).await {
                return sent;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let sent = timeout(TIME_MAX, send).await.expect("the embassy's desk is up");
    let delivered = embassy.wait(&sent.id, Step::Delivered, TIME_MAX).await;
    assert!(delivered.is_ok(), "{delivered:?}\n{}", site.last_words("relay"));
}

fn repeated(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(length - length % bytes.len()).collect()
}

/// Sends bytes in a session that is open, and returns the relay's last words.
async fn after_welcome(site: &Site, wire: &[u8]) -> (GoodbyeCode, String) {
    let (mut mys, _) = Attacker::open(site, "mys").await;
    mys.send_bytes(wire).await;
    mys.goodbye().await
}

/// Sends bytes in place of Hello, and returns the relay's last words.
async fn before_hello(site: &Site, wire: &[u8]) -> (GoodbyeCode, String) {
    let mut mys = Attacker::connect(site, "mys").await;
    mys.send_bytes(wire).await;
    mys.goodbye().await
}

/// Submits what a test made of an envelope to PHL, and returns the refusal.
async fn refusal(
    site: &Site,
    change: impl FnOnce(&Peer<'_>, &mut Core) -> Option<pb::Submit>,
) -> pb::Refused {
    let (number, key) = keys_of(site, "mys");
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    let (mut mys, welcome) = Attacker::open(site, "mys").await;
    let mut core = peer.core(welcome.last_accepted + 1, &[party(site, "phl").number], SystemTime::now());
    let submit = change(&peer, &mut core).unwrap_or_else(|| peer.submit(&core, b"any"));
    mys.send(Kind::Submit(submit)).await;
    mys.wait_for(|frame| match frame {
        Kind::Refused(refused) => Some(refused),
        _ => None,
    })
    .await
}

fn code_of(refused: &pb::Refused) -> RefusalCode {
    i32::try_from(refused.code).ok().and_then(|code| code.try_into().ok()).expect("a known code")
}

/// FAULTS 54.
#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_no_frame_may_have_end_the_connection_before_and_after_welcome() {
    let site = site().await;
    attack(&site, async {
        let over_long = "is not a shortest-form varint";
        let lengths: [(&[u8], &str); 4] = [
            (&[0], "zero length"),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], over_long),
            (&[0x82, 0x80, 0x00], over_long),
            (&[0xff, 0xff, 0xff, 0x7f], "bytes, at most"),
        ];
        for (wire, reason) in lengths {
            for told in [before_hello(&site, wire).await, after_welcome(&site, wire).await] {
                assert_eq!(told.0, GoodbyeCode::Protocol, "{wire:?}");
                assert!(told.1.contains(reason), "{wire:?}: {}", told.1);
            }
        }
    })
    .await;
}

/// FAULTS 54.
#[tokio::test(flavor = "multi_thread")]
async fn each_bound_of_a_frame_plus_one_byte_ends_the_connection() {
    let site = site().await;
    let announced = |bytes: usize| {
        let mut wire = BytesMut::new();
        prost::encoding::encode_varint(bytes as u64, &mut wire);
        wire
    };
    attack(&site, async {
        let (code, words) = before_hello(&site, &announced(FRAME_BEFORE_WELCOME_BYTES_MAX + 1)).await;
        assert_eq!(code, GoodbyeCode::Protocol);
        assert!(words.contains("frame of 4097 bytes, at most 4096"), "{words}");
        let (code, words) = after_welcome(&site, &announced(FRAME_BYTES_MAX + 1)).await;
        assert_eq!(code, GoodbyeCode::Protocol);
        assert!(words.contains("frame of 262145 bytes, at most 262144"), "{words}");
        let stored = pb::Stored { items: vec![0; FRAME_CONTROL_BYTES_MAX].into(), ..pb::Stored::default() };
        let (mut mys, _) = Attacker::open(&site, "mys").await;
        mys.send(Kind::Stored(stored)).await;
        let (code, words) = mys.goodbye().await;
        assert_eq!(code, GoodbyeCode::Protocol);
        assert!(words.contains("a control frame of"), "{words}");
    })
    .await;
}

/// FAULTS 56.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_cut_off_by_the_end_of_the_stream_is_discarded() {
    let site = site().await;
    let (number, key) = keys_of(&site, "mys");
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    attack(&site, async {
        let (mut mys, welcome) = Attacker::open(&site, "mys").await;
        let core = peer.core(welcome.last_accepted + 1, &[party(&site, "phl").number], SystemTime::now());
        let mut wire = BytesMut::new();
        pouch::wire::codec::encode(Kind::Submit(peer.submit(&core, b"any")), &mut wire);
        mys.send_bytes(&wire[..wire.len() - 1]).await;
        mys.cut();
        let (_, again) = Attacker::open(&site, "mys").await;
        assert_eq!(again.last_accepted, welcome.last_accepted, "its number is not spent");
    })
    .await;
}

/// FAULTS 57.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_ignored_and_never_echoed_or_passed_on() {
    let site = site().await;
    let (number, key) = keys_of(&site, "mys");
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    let phl = party(&site, "phl").number;
    // Field 1000, a varint, and field 1001, eight bytes.
    let unknown = [0xc0, 0x3e, 0x07, 0xca, 0x3e, 8, b'U', b'N', b'K', b'N', b'O', b'W', b'N', b'!'];
    let with_unknown = |kind: Kind| {
        let frame = pb::Frame { kind: Some(kind) }.encode_to_vec();
        [&frame[..], &unknown].concat()
    };
    attack(&site, async {
        let mut mys = Attacker::connect(&site, "mys").await;
        mys.send_delimited(&with_unknown(Kind::Hello(peer.hello(mys.exporter)))).await;
        mys.wait_for(|frame| matches!(frame, Kind::Welcome(_)).then_some(())).await;
        mys.send_delimited(&with_unknown(Kind::Ping(pb::Ping { token: 77 }))).await;
        let core = peer.core(1, &[phl], SystemTime::now());
        mys.send_delimited(&with_unknown(Kind::Submit(peer.submit(&core, b"any")))).await;
        for _ in 0..2 {
            let bytes = mys.next_bytes().await.expect("Pong and Accepted");
            let frame = pb::Frame::decode(bytes.clone()).expect("a frame");
            assert!(matches!(frame.kind, Some(Kind::Pong(_) | Kind::Accepted(_))), "{frame:?}");
            assert_eq!(frame.encode_to_vec(), bytes, "nothing unknown comes back");
        }
        let (mut addressee, _) = Attacker::open(&site, "phl").await;
        addressee.send(Kind::Credit(pb::Credit { envelopes: 10, bytes: 1 << 20 })).await;
        let bytes = addressee.next_bytes().await.expect("Deliver");
        let frame = pb::Frame::decode(bytes.clone()).expect("a frame");
        assert!(matches!(frame.kind, Some(Kind::Deliver(_))), "{frame:?}");
        assert_eq!(frame.encode_to_vec(), bytes, "nothing unknown is passed on");
    })
    .await;
}

/// FAULTS 57: where a number means something, an unknown one is no number to guess at.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_values_of_an_enum_and_unknown_kinds_of_frame_are_refused() {
    let site = site().await;
    attack(&site, async {
        let refused = refusal(&site, |peer, core| {
            let submit = peer.submit(core, b"any");
            let mut header = pb::Header::decode(submit.header.clone()).expect("we made it");
            let mut parsed = pb::Core::decode(header.core.clone()).expect("we made it");
            parsed.precedence_action = 99;
            header.core = parsed.encode_to_vec().into();
            Some(peer.sign_header(header.encode_to_vec().into(), submit))
        })
        .await;
        assert_eq!(code_of(&refused), RefusalCode::Malformed);
        let reserved_kind = [3, 0xc2, 0x02, 0];
        let (code, words) = after_welcome(&site, &reserved_kind).await;
        assert_eq!((code, words.as_str()), (GoodbyeCode::Protocol, "frame cannot be read"));
        let (code, words) = after_welcome(&site, &[2, 0x3a, 0]).await;
        assert_eq!((code, words.as_str()), (GoodbyeCode::Protocol, "a frame that only a relay sends"));
    })
    .await;
}

/// FAULTS 58.
#[tokio::test(flavor = "multi_thread")]
async fn nesting_101_deep_and_unclosed_groups_end_the_session() {
    let site = site().await;
    // Groups of field 1000, open and close; protobuf's own bound is 100.
    let (open, close) = ([0xc3, 0x3e], [0xc4, 0x3e]);
    let nested = [open.repeat(101), close.repeat(101)].concat();
    attack(&site, async {
        for frame in [nested, open.repeat(2000), [&[0x72, 2][..], &open].concat()] {
            let mut wire = BytesMut::new();
            prost::encoding::encode_varint(frame.len() as u64, &mut wire);
            wire.extend_from_slice(&frame);
            for told in [before_hello(&site, &wire).await, after_welcome(&site, &wire).await] {
                let told = (told.0, told.1.as_str());
                assert!(told.0 == GoodbyeCode::Protocol && told.1.contains("cannot be read"), "{told:?}");
            }
        }
    })
    .await;
}

/// FAULTS 59; what they cost is in tests/heap.rs.
#[tokio::test(flavor = "multi_thread")]
async fn breadth_bombs_are_refused_like_any_frame_that_says_nothing() {
    let site = site().await;
    attack(&site, async {
        let (mut mys, _) = Attacker::open(&site, "mys").await;
        mys.send_delimited(&repeated(&[0x1a, 0], FRAME_BYTES_MAX)).await;
        let refused = mys
            .wait_for(|frame| match frame {
                Kind::Refused(refused) => Some(refused),
                _ => None,
            })
            .await;
        assert_eq!((code_of(&refused), refused.submission), (RefusalCode::Malformed, 0));
        mys.send_delimited(&repeated(&[0xfa, 0x7f, 0], FRAME_BYTES_MAX)).await;
        let (code, words) = mys.goodbye().await;
        assert_eq!((code, words.as_str()), (GoodbyeCode::Protocol, "frame cannot be read"));
    })
    .await;
}

/// FAULTS 61.
#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_not_utf8_too_long_or_misleading_are_refused_at_the_relay() {
    let site = site().await;
    attack(&site, async {
        // Hello.software, two bytes that are no UTF-8.
        let (code, _) = before_hello(&site, &[6, 0x0a, 4, 0x12, 2, 0xc3, 0x28]).await;
        assert_eq!(code, GoodbyeCode::Protocol);
        // Of a name of 1 MiB no more is sent than the relay reads at once: what lies unread in a socket when
        // it is closed may cost its peer the last words.
        let hello = pb::Hello { software: "x".repeat(1 << 20), ..pb::Hello::default() };
        let frame = pb::Frame { kind: Some(Kind::Hello(hello)) }.encode_length_delimited_to_vec();
        let (code, words) = before_hello(&site, &frame[..FRAME_BEFORE_WELCOME_BYTES_MAX]).await;
        assert_eq!(code, GoodbyeCode::Protocol);
        assert!(words.contains("bytes, at most 4096"), "{words}");
        let (number, key) = keys_of(&site, "mys");
        let peer = Peer { roster: &site.example().roster, number, key: &key };
        for software in ["x".repeat(65), "esc\x1b[2J".to_owned(), "\u{202e}hcuop".to_owned()] {
            let mut mys = Attacker::connect(&site, "mys").await;
            mys.send(Kind::Hello(pb::Hello { software, ..peer.hello(mys.exporter) })).await;
            let (code, words) = mys.goodbye().await;
            assert_eq!(code, GoodbyeCode::Protocol);
            assert!(words.contains("software is no line"), "{words}");
        }
        for label in
            ["NUL\0", "esc\x1b[2J", "two\nlines", "\u{202e}DETCIRTSER", "\u{2067}isolate", "mark\u{200f}"]
        {
            let refused = refusal(&site, |_, core| {
                core.label = label.to_owned();
                None
            })
            .await;
            assert_eq!(code_of(&refused), RefusalCode::Malformed, "{label:?}");
        }
    })
    .await;
}

/// FAULTS 61.
#[tokio::test(flavor = "multi_thread")]
async fn a_desk_refuses_misleading_subjects_and_keeps_the_marks_of_a_body() {
    let site = site().await;
    let embassy = site.desk("idn");
    let new = |subject: &str, body: &str| NewDispatch {
        to: vec!["MOD".to_owned()],
        topic: "maritime".to_owned(),
        precedence: "immediate".to_owned(),
        subject: subject.to_owned(),
        body: body.to_owned(),
        exercise: true,
        ..NewDispatch::default()
    };
    for subject in ["NUL\0", "esc\x1b[2J", "two\nlines", "\u{202e}lessev", "\u{2067}isolate", "mark\u{200f}"]
    {
        let error = embassy.send(&new(subject, "")).await.expect_err("refused");
        assert!(error.to_string().contains("write one plain line"), "{subject:?}: {error}");
    }
    let body = "\u{2067}سلام\u{2069}\u{200f} and \u{202e}reversed";
    let sent = embassy.send(&new("Prose from right to left", body)).await.expect("taken");
    embassy.wait(&sent.id, Step::Delivered, TIME_MAX).await.expect("delivered");
    let ministry = site.desk("hub");
    let inbox = ministry.inbox(&InboxFilter::default()).await.expect("inbox");
    let newest = inbox.iter().find(|incoming| incoming.subject.starts_with("Prose")).expect("arrived");
    let whole = ministry.incoming(&newest.id).await.expect("whole");
    assert_eq!(whole.body, body, "kept as written; a screen shows the override as a symbol");
}

/// FAULTS 63.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_before_hello_a_second_hello_and_another_version_are_told_apart() {
    let site = site().await;
    let (number, key) = keys_of(&site, "mys");
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    attack(&site, async {
        let mut early = Attacker::connect(&site, "mys").await;
        early.send(Kind::Ping(pb::Ping { token: 1 })).await;
        let told = early.goodbye().await;
        assert_eq!(told, (GoodbyeCode::Protocol, "a frame before the session is open".to_owned()));

        let (mut twice, _) = Attacker::open(&site, "mys").await;
        twice.send(Kind::Hello(peer.hello(twice.exporter))).await;
        let told = twice.goodbye().await;
        assert_eq!(told, (GoodbyeCode::Protocol, "a second Hello".to_owned()));

        let mut newer = Attacker::connect(&site, "mys").await;
        newer.send(Kind::Hello(pb::Hello { protocol: 2, ..peer.hello(newer.exporter) })).await;
        let (code, words) = newer.goodbye().await;
        assert_eq!(code, GoodbyeCode::Version, "{words}");
        assert!(words.contains("version 2"), "{words}");

        let mut stolen = Attacker::connect(&site, "mys").await;
        stolen.send(Kind::Hello(peer.hello([0; 32]))).await;
        assert_eq!(stolen.goodbye().await.0, GoodbyeCode::BadSignature, "signed for another connection");
    })
    .await;
}

/// FAULTS 64.
#[tokio::test(flavor = "multi_thread")]
async fn more_submissions_than_the_window_end_the_session() {
    let site = site().await;
    let (number, key) = keys_of(&site, "mys");
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    let phl = party(&site, "phl").number;
    attack(&site, async {
        let (mut mys, welcome) = Attacker::open(&site, "mys").await;
        let past = welcome.credit_envelopes + 1;
        let submit =
            |number| Kind::Submit(peer.submit(&peer.core(number, &[phl], SystemTime::now()), b"any"));
        mys.send_all((1..=past).map(submit)).await;
        let told = mys.goodbye().await;
        assert_eq!(told, (GoodbyeCode::Protocol, "more envelopes than the window allows".to_owned()));
    })
    .await;
}

/// FAULTS 71.
#[tokio::test(flavor = "multi_thread")]
async fn anothers_name_in_an_envelope_is_refused_and_recorded() {
    let site = site().await;
    attack(&site, async {
        let refused = refusal(&site, |_, core| {
            core.sender = party(&site, "idn").number;
            None
        })
        .await;
        assert_eq!(code_of(&refused), RefusalCode::SenderMismatch);
        assert!(refused.recorded, "it is a record of the log");
        let opening = Opening::decode(&refused.opening).expect("it opens");
        assert_eq!(
            (opening.kind, opening.hash.as_bytes().as_slice()),
            (OpeningKind::Refusal, &*refused.envelope_hash)
        );
    })
    .await;
    let log = site.last_words("relay");
    assert!(log.contains("submission refused"), "and stands in the operator's log: {log}");
}

/// FAULTS 50.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_for_an_unknown_a_future_or_anothers_envelope_end_the_session() {
    let site = site().await;
    let (number, key) = keys_of(&site, "mys");
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    attack(&site, async {
        let (mut mys, _) = Attacker::open(&site, "mys").await;
        let core = peer.core(1, &[party(&site, "phl").number], SystemTime::now());
        mys.send(Kind::Submit(peer.submit(&core, b"any"))).await;
        let (position, hash) = mys
            .wait_for(|frame| match frame {
                Kind::Accepted(accepted) => Some((
                    Position(accepted.position),
                    EnvelopeHash(Hash::try_from(&*accepted.envelope_hash).expect("32 bytes")),
                )),
                _ => None,
            })
            .await;
        let nobody = EnvelopeHash(Hash([9; 32]));
        let future = Position(position.0 + 1_000_000);
        let cases = [
            ("another's", number, hash, position),
            ("by another name", number, nobody, position),
            ("future", number, hash, future),
            ("none", number, hash, Position::NONE),
        ];
        for (what, sender, hash, position) in cases {
            let (mut mys, welcome) = Attacker::open(&site, "mys").await;
            let item = peer.receipt(ReceiptKind::Delivered, sender, &[(hash, position)]);
            mys.send(Kind::Stored(peer.stored(welcome.last_stored + 1, &[item]))).await;
            let (code, words) = mys.goodbye().await;
            assert_eq!(code, GoodbyeCode::Protocol, "{what}");
            assert!(words.contains("not an envelope of that name in this mailbox"), "{what}: {words}");
            let log = site.last_words("relay");
            assert!(log.contains("in this mailbox"), "{what} stands in the operator's log: {log}");
        }
        // The envelope is still there for the desk that it was sent to.
        let (mut phl, _) = Attacker::open(&site, "phl").await;
        phl.send(Kind::Credit(pb::Credit { envelopes: 1, bytes: 1 << 20 })).await;
        let delivered = phl.wait_for(|frame| match frame {
            Kind::Deliver(deliver) => Some(deliver.position),
            _ => None,
        });
        assert_eq!(delivered.await, position.0);
    })
    .await;
}

/// FAULTS 73.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_tls_1_3_is_closed_without_an_answer_that_could_be_read() {
    let site = site().await;
    let strangers: [(&str, &[u8]); 5] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.7\r\n"),
        ("SSLv2", &[0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15, 0x00, 0x00, 0x00, 0x10]),
        ("noise", &[0xff; 64]),
        ("a frame without TLS", &[3, 0x72, 1, 0]),
    ];
    attack(&site, async {
        for (what, bytes) in strangers {
            let mut socket = TcpStream::connect(site.address()).await.expect("the relay listens");
            socket.write_all(bytes).await.expect("sent");
            let mut answer = Bytes::new().to_vec();
            let read = timeout(TIME_MAX, socket.read_to_end(&mut answer)).await.expect("closed");
            let alert = answer.first().is_none_or(|kind| *kind == 21);
            assert!(read.is_err() || (alert && answer.len() < 16), "{what}: {answer:?}");
        }
    })
    .await;
}
