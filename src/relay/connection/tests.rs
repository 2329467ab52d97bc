//! Connections over a stream in memory, by tokio's paused clock, with a test in the engine's place.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio::{
    io::{DuplexStream, ReadBuf, duplex},
    task::JoinHandle,
    time::sleep,
};

use super::*;
use crate::{
    alarms::Alarms,
    keys::SigningKey,
    limits::Limits,
    pki,
    relay::channel::FramesSender,
    tls::{Credentials, KeyExchange, RevocationLists},
};

/// What two sockets hold that nobody reads from.
const PIPE_BYTES: usize = 1_024;
/// Longer than anything waits; paused time does not make a test that fails wait for it.
const TIME_MAX: Duration = Duration::from_secs(3_600);

/// Connections that a test serves, and what they tell the engine.
struct Bench {
    shared: Arc<Shared>,
    party: PartyId,
    to_engine: mpsc::Sender<Message>,
    inputs: mpsc::Receiver<Message>,
    next: u64,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let parties = pki::example_parties();
        let example =
            pki::make_example(folder.path(), &parties, &["localhost:1".to_owned()], SystemTime::now());
        let (domain, folder) = (example.unwrap().trust.trust_domain, folder.path());
        let certificates = |party: &str| tls::read_certificates(&folder.join(party)).unwrap();
        let (credentials, root) =
            (Credentials::load(&folder.join("relay")).unwrap(), certificates("root.pem").remove(0));
        let config = tls::server_config(
            &credentials,
            &root,
            &domain,
            KeyExchange::Hybrid,
            &RevocationLists::default(),
        )
        .unwrap();
        let sign = SigningKey::load(&folder.join("relay/sign.key")).unwrap();
        let tls = Arc::new(ArcSwap::new(config));
        let (to_engine, inputs) = mpsc::channel(64);
        Bench {
            shared: Arc::new(crate::relay::shared(tls, domain, sign, Alarms::default()).unwrap()),
            party: PartyId::from_verified(&certificates("idn/tls.pem")[0]).unwrap(),
            to_engine,
            inputs,
            next: 0,
        }
    }

    /// Serves a stream, and gives the engine's way to it.
    async fn serve(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
    ) -> (ConnId, FramesSender, JoinHandle<()>) {
        self.next += 1;
        let (conn, shared, to_engine) = (ConnId(self.next), self.shared.clone(), self.to_engine.clone());
        let identity = Identity { party: self.party.clone(), serial: "0b".to_owned(), exporter: [7; 32] };
        let task = tokio::spawn(async move { serve(conn, stream, identity, &shared, &to_engine).await });
        match self.inputs.recv().await {
            Some(Message::Connected { conn: came, frames, .. }) if came == conn => (conn, frames, task),
            _ => panic!("it connects first"),
        }
    }

    /// What comes next of a connection: its frames, or none at its end.
    async fn next(&mut self, conn: ConnId) -> Option<Vec<Inbound>> {
        loop {
            let input = timeout(TIME_MAX, self.inputs.recv()).await.expect("the engine is told");
            match input.expect("the bench has a sender itself") {
                Message::Received { conn: from, frames } if from == conn => return Some(frames),
                Message::Closed { conn: gone } if gone == conn => return None,
                Message::Closed { conn } => panic!("{conn:?} ended"),
                _ => {}
            }
        }
    }
}

/// A stream in which a bug lies: the task that reads its first byte panics.
struct Buggy(DuplexStream);

impl AsyncRead for Buggy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        assert!(buffer.filled().is_empty(), "a bug, for the test");
        read
    }
}

impl AsyncWrite for Buggy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn ping() -> BytesMut {
    let mut wire = BytesMut::new();
    codec::encode(Kind::Ping(pb::Ping { token: 300 }), &mut wire);
    wire
}

/// FAULTS 38.
#[tokio::test(start_paused = true)]
async fn a_panic_in_one_sessions_task_ends_that_session_and_no_other() {
    let mut bench = Bench::new();
    let (mut peer, stream) = duplex(PIPE_BYTES);
    let (healthy, _frames, _task) = bench.serve(stream).await;
    let (mut trigger, stream) = duplex(PIPE_BYTES);
    let (buggy, _to_buggy, task) = bench.serve(Buggy(stream)).await;

    trigger.write_all(&[0]).await.unwrap();
    assert!(task.await.unwrap_err().is_panic());
    assert!(bench.next(buggy).await.is_none(), "the engine is told");
    peer.write_all(&ping()).await.unwrap();
    let frames = bench.next(healthy).await.expect("the other one goes on");
    assert!(matches!(*frames, [Inbound::Ping(300)]), "{frames:?}");
}

/// Seconds until the engine is told that a frame came too slowly, when its bytes come every ten seconds.
async fn dripped(bytes: &[u8]) -> u64 {
    let mut bench = Bench::new();
    let (mut peer, stream) = duplex(PIPE_BYTES);
    let (conn, _frames, _task) = bench.serve(stream).await;
    let (began, bytes) = (Instant::now(), bytes.to_vec());
    let dripping = tokio::spawn(async move {
        for byte in bytes {
            peer.write_all(&[byte]).await.unwrap();
            sleep(Duration::from_secs(10)).await;
        }
        sleep(Duration::from_secs(600)).await;
    });
    loop {
        match bench.next(conn).await.as_deref() {
            Some([]) => {}
            Some([Inbound::Violation(words)]) => {
                assert!(words.contains("less than 512 bytes a second"), "{words}");
                dripping.abort();
                return began.elapsed().as_secs();
            }
            other => panic!("{other:?}"),
        }
    }
}

/// FAULTS 77: in the length before a frame, and in the frame. The handshake has its deadline in tests/network.rs,
/// Hello in the exchange.
#[tokio::test(start_paused = true)]
async fn a_byte_every_ten_seconds_ends_the_session_after_30_s_in_the_length_as_in_the_frame() {
    assert_eq!(dripped(&[0xff, 0x80]).await, 30, "the length does not go on");
    assert_eq!(dripped(&[100, 1, 2, 3, 4, 5, 6, 7]).await, 30, "the frame goes on, and too slowly");
}

/// Frames that fill what lies between the relay and its peer.
fn leaf() -> Vec<Outbound> {
    let note = bytes::Bytes::from(vec![0; 4 * PIPE_BYTES]);
    vec![Outbound::Administrative {
        position: crate::wire::Position(1),
        leaf: note.clone(),
        beside: note,
        before_welcome: false,
    }]
}

/// FAULTS 41 and 48: what the peer was sent is held no longer than 25 s.
#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_given_up_after_25_s() {
    let mut bench = Bench::new();
    let (_peer, stream) = duplex(PIPE_BYTES);
    let (conn, frames, _task) = bench.serve(stream).await;
    let began = Instant::now();
    frames.frames.try_send(leaf()).unwrap();
    assert!(bench.next(conn).await.is_none());
    assert_eq!(began.elapsed().as_secs(), Limits::DEFAULT.silence_max.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_a_thin_line_carries_for_28_s_arrives_and_the_desk_lives_meanwhile() {
    const BYTES_PER_SECOND: usize = 8 * 1024;
    let mut bench = Bench::new();
    let (mut peer, stream) = duplex(PIPE_BYTES);
    let (conn, frames, _task) = bench.serve(stream).await;
    let leaf = bytes::Bytes::from(vec![0; 28 * BYTES_PER_SECOND]);
    let long = Outbound::Administrative {
        position: crate::wire::Position(1),
        leaf: leaf.clone(),
        beside: bytes::Bytes::new(),
        before_welcome: false,
    };
    frames.frames.try_send(vec![long]).unwrap();
    let mut taken = vec![0; BYTES_PER_SECOND];
    for _ in 0..28 {
        sleep(Duration::from_secs(1)).await;
        peer.read_exact(&mut taken).await.expect("it goes on");
    }
    for _ in 0..3 {
        let told = bench.inputs.recv().await;
        assert!(matches!(told, Some(Message::Lives { conn: lives }) if lives == conn), "it is told of life");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_engine_closes_is_gone_within_2_s_though_its_peer_takes_nothing() {
    let mut bench = Bench::new();
    let (_peer, stream) = duplex(PIPE_BYTES);
    let (conn, frames, _task) = bench.serve(stream).await;
    frames.frames.try_send(leaf()).unwrap();
    sleep(Duration::from_secs(5)).await;
    let began = Instant::now();
    drop(frames);
    assert!(bench.next(conn).await.is_none());
    assert_eq!(began.elapsed(), CLOSE_TIME_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_desk_that_is_turned_away_is_told_why_and_holds_nothing_up() {
    let (mut peer, stream) = duplex(PIPE_BYTES);
    let turning = tokio::spawn(turn_away(stream, "too often"));
    let mut wire = Vec::new();
    peer.read_to_end(&mut wire).await.unwrap();
    let mut decoder = FrameDecoder::new(limits::FRAME_BEFORE_WELCOME_BYTES_MAX);
    decoder.buffer().extend_from_slice(&wire);
    let Ok(Some(Kind::Goodbye(goodbye))) = decoder.next_frame() else { panic!("no Goodbye: {wire:?}") };
    assert_eq!((goodbye.code, &*goodbye.sentence), (GoodbyeCode::Rate as u32, "too often"));
    let began = Instant::now();
    turning.await.unwrap();
    assert_eq!(began.elapsed(), CLOSE_TIME_MAX, "it does not close, and is left");
}
