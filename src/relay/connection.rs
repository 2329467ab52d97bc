//! One desk's connection: bytes to checked frames on the way in, frames to coalesced writes on the way
//! out. Costly proofs are made here, off the engine's task.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, copy, sink},
    runtime::Handle,
    sync::mpsc,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Shared,
    channel::{Closed, FramesReceiver, frames_channel},
    engine::Message,
};
use crate::{
    batch::{Proof, Tag},
    exchange::ConnId,
    identity::PartyId,
    limits,
    merkle::Hash,
    session::{
        hello::SOFTWARE,
        inbound::{Inbound, Intake},
        outbound::{Outbound, Signer},
        pace::Pace,
    },
    tls,
    wire::{
        codec::{self, FrameDecoder},
        convert,
        pb::{self, GoodbyeCode, frame::Kind},
    },
};

/// Room made for a read: what one TLS record holds at most, and so what one read brings. Frames share the
/// buffer, so a larger one would be made anew for each read and stay nearly empty.
const READ_BYTES: usize = 16 * 1024;
/// Frames handed to the engine at once. A checked frame takes up to 50 times the room of the shortest one
/// on the wire; a desk that has sent more waits until these are through the engine's queue.
const FRAMES_AT_ONCE_MAX: usize = 64;
/// Fewer bytes at once do not make a session busy: it keeps no buffer after them.
const LITTLE_BYTES: usize = 1024;
/// Frames gathered before a write.
const WRITE_BYTES: usize = 64 * 1024;
/// A write that takes so long waits for the line.
const LONG_WRITE: Duration = Duration::from_secs(1);
/// How long the last frames of a closed session may take to leave.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Who is at the other end, by TLS.
pub(super) struct Identity {
    pub(super) party: PartyId,
    /// Of the certificate, in lower hex.
    pub(super) serial: String,
    /// Binds Hello and Welcome to this connection.
    pub(super) exporter: [u8; 32],
}

/// Serves one connection to its end. Should this panic, or be dropped, the engine is told all the same.
pub(super) async fn serve<S: AsyncRead + AsyncWrite>(
    conn: ConnId,
    stream: S,
    identity: Identity,
    shared: &Shared,
    to_engine: &mpsc::Sender<Message>,
) {
    let Identity { party, serial, exporter } = identity;
    let (frames, outbound) = frames_channel();
    let connected = Message::Connected { conn, party: party.clone(), serial, frames };
    if to_engine.send(connected).await.is_err() {
        return;
    }
    let end = End { conn, to_engine };
    let (reader, writer) = tokio::io::split(stream);
    let welcomed = AtomicBool::new(false);
    let intake = Intake::new(&shared.trust_domain, exporter);
    let reading = Reading { conn, reader, shared, party, intake, welcomed: &welcomed, to_engine };
    let writing = Writing { conn, writer, shared, exporter, welcomed: &welcomed, to_engine };
    // Whichever ends first ends the connection: the peer closed it, or the engine did.
    tokio::select! {
        () = reading.run() => {}
        () = writing.run(outbound) => {}
    }
    drop(end);
}

/// Tells a desk why it is not let in, and closes.
pub(super) async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, sentence: &str) {
    let code = i32::from(GoodbyeCode::Rate).unsigned_abs();
    let goodbye = pb::Goodbye { code, sentence: convert::sentence(sentence), incarnation: 0 };
    let mut buffer = BytesMut::new();
    codec::encode(Kind::Goodbye(goodbye), &mut buffer);
    let told = async {
        stream.write_all(&buffer).await?;
        stream.shutdown().await?;
        // Its Hello is on its way: a socket that is closed with bytes unread may take the Goodbye with it.
        copy(&mut stream.take(limits::FRAME_BEFORE_WELCOME_BYTES_MAX as u64), &mut sink()).await
    };
    match timeout(CLOSE_TIME_MAX, told).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a desk that was turned away did not wait for why"),
        Err(_) => tracing::debug!("a desk that was turned away did not close"),
    }
}

/// Tells the engine that a connection is gone, when it is dropped.
struct End<'a> {
    conn: ConnId,
    to_engine: &'a mpsc::Sender<Message>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let (conn, to_engine) = (self.conn, self.to_engine.clone());
        // Without a runtime the process is ending, and the engine with it.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if to_engine.send(Message::Closed { conn }).await.is_err() {
                tracing::debug!(conn = conn.0, "connection ended after the engine");
            }
        });
    }
}

struct Reading<'a, S> {
    conn: ConnId,
    reader: ReadHalf<S>,
    shared: &'a Shared,
    party: PartyId,
    intake: Intake,
    welcomed: &'a AtomicBool,
    to_engine: &'a mpsc::Sender<Message>,
}

impl<S: AsyncRead + AsyncWrite> Reading<'_, S> {
    async fn run(mut self) {
        let mut decoder = FrameDecoder::new(limits::FRAME_BEFORE_WELCOME_BYTES_MAX);
        let (started, mut pace) = (Instant::now(), Pace::default());
        let mut bytes = 0;
        loop {
            let read = read(&mut self.reader, decoder.buffer(), bytes);
            let read = before(pace.due().map(|due| started + due), read);
            bytes = match read.await {
                None => 0,
                Some(Ok(0)) => return,
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => {
                    let reason =
                        tls::explain(&error).map_or_else(|| error.to_string(), |words| words.to_string());
                    tracing::debug!(conn = self.conn.0, reason, "connection lost");
                    return;
                }
            };
            let mut ended = false;
            loop {
                // Without a whole frame it still tells that the desk lives, on a line that is slow.
                let mut frames = self.take(&mut decoder);
                ended |= !frames.is_empty();
                if frames.len() < FRAMES_AT_ONCE_MAX
                    && let Err(slow) =
                        pace.count(bytes as u64, ended, decoder.is_mid_frame(), started.elapsed())
                {
                    frames.push(Inbound::Violation(slow.to_string()));
                }
                let (taken, ends) = (frames.len(), matches!(frames.last(), Some(Inbound::Violation(_))));
                if self.to_engine.send(Message::Received { conn: self.conn, frames }).await.is_err() {
                    return;
                }
                if ends {
                    // The engine says Goodbye; the writing side ends the connection once that is out.
                    return std::future::pending().await;
                }
                if taken < FRAMES_AT_ONCE_MAX {
                    break;
                }
            }
        }
    }

    /// Takes the next whole frames, checked; a violation is the last.
    fn take(&mut self, decoder: &mut FrameDecoder) -> Vec<Inbound> {
        if self.welcomed.load(Ordering::Acquire) {
            decoder.allow(limits::FRAME_BYTES_MAX);
        }
        let roster = self.shared.roster.load();
        let party = roster.as_ref().and_then(|roster| roster.party_by_id(self.party.spiffe()));
        let key = party.map(|party| &party.sign);
        let mut frames = Vec::new();
        while frames.len() < FRAMES_AT_ONCE_MAX
            && !matches!(frames.last(), Some(Inbound::Violation(_)))
            && let Some(frame) = self.intake.take(decoder, key)
        {
            frames.push(frame);
        }
        frames
    }
}

/// Reads; where the last read brought little, into a buffer that is there only once there is something to read: an
/// idle session holds none, for the pings of the next seconds are little.
async fn read<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    buffer: &mut BytesMut,
    last: usize,
) -> io::Result<usize> {
    poll_fn(|context| {
        buffer.reserve(READ_BYTES);
        let read = pin!(reader.read_buf(buffer)).poll(context);
        if read.is_pending() && buffer.is_empty() && last < LITTLE_BYTES {
            *buffer = BytesMut::new();
        }
        read
    })
    .await
}

/// Writes everything, in pieces, each of which may take `silence_max`; `None` where one took longer. A line that is so thin
/// that this takes long carries nothing the other way meanwhile: then each piece tells the engine that the desk lives, for
/// it was taken.
async fn write<S: AsyncWrite>(
    writer: &mut WriteHalf<S>,
    bytes: &[u8],
    silence_max: Duration,
    conn: ConnId,
    to_engine: &mpsc::Sender<Message>,
) -> Option<io::Result<()>> {
    let began = Instant::now();
    for piece in bytes.chunks(WRITE_BYTES) {
        let written = async {
            writer.write_all(piece).await?;
            writer.flush().await
        };
        if let Err(error) = timeout(silence_max, written).await.ok()? {
            return Some(Err(error));
        }
        // What the kernel takes for the line to carry later, it takes at once.
        if began.elapsed() >= LONG_WRITE && to_engine.send(Message::Lives { conn }).await.is_err() {
            return Some(Ok(()));
        }
    }
    Some(Ok(()))
}

/// Waits for `work` until a deadline, if there is one.
async fn before<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}

/// Waits until the engine has closed the session, and then as long as its last frames may take to leave: in
/// all, whatever was being written (promise 10).
async fn is_over(closed: &mut Closed) {
    let by = closed.at().await + CLOSE_TIME_MAX;
    sleep_until(by).await;
}

struct Writing<'a, S> {
    conn: ConnId,
    writer: WriteHalf<S>,
    shared: &'a Shared,
    exporter: [u8; 32],
    welcomed: &'a AtomicBool,
    to_engine: &'a mpsc::Sender<Message>,
}

impl<S: AsyncRead + AsyncWrite> Writing<'_, S> {
    async fn run(mut self, FramesReceiver { frames: mut outbound, mut closed }: FramesReceiver) {
        let silence_max = self.shared.limits.silence_max;
        let mut buffer = BytesMut::new();
        while let Some(frames) = outbound.recv().await {
            let mut bytes = self.encode(frames, &mut buffer);
            while buffer.len() < WRITE_BYTES
                && let Ok(frames) = outbound.try_recv()
            {
                bytes += self.encode(frames, &mut buffer);
            }
            let (writer, conn, to_engine) = (&mut self.writer, self.conn, self.to_engine);
            let written = tokio::select! {
                written = write(writer, &buffer, silence_max, conn, to_engine) => written,
                () = is_over(&mut closed) => None,
            };
            match written {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::debug!(conn = self.conn.0, %error, "connection lost while writing");
                    return;
                }
                None => {
                    tracing::info!(conn = self.conn.0, "a desk takes nothing from its connection; dropped");
                    return;
                }
            }
            // As in `read`: an idle session holds no buffer.
            if buffer.len() < LITTLE_BYTES {
                buffer = BytesMut::new();
            }
            buffer.clear();
            if self.to_engine.send(Message::Written { conn: self.conn, bytes }).await.is_err() {
                return;
            }
        }
        let shut = tokio::select! {
            shut = self.writer.shutdown() => Some(shut),
            () = is_over(&mut closed) => None,
        };
        match shut {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::debug!(conn = self.conn.0, %error, "connection did not end in order")
            }
            None => tracing::debug!(conn = self.conn.0, "connection did not end in time"),
        }
    }

    /// Encodes frames, and returns their bytes as the exchange counts them.
    fn encode(&self, frames: Vec<Outbound>, buffer: &mut BytesMut) -> usize {
        let sign = |tag: Tag, leaf: Hash| -> Proof {
            let mut proofs = self.shared.sign.sign_batch(&self.shared.trust_domain, tag, &[leaf]);
            proofs.pop().expect("one leaf, one proof")
        };
        let signer = Signer {
            sign: &sign,
            exporter: self.exporter,
            instance: self.shared.instance,
            software: SOFTWARE,
        };
        let mut bytes = 0;
        for frame in frames {
            bytes += frame.bytes();
            if matches!(frame, Outbound::Welcome(_)) {
                // Before the desk can have it, so that what it then sends is met by the larger bound.
                self.welcomed.store(true, Ordering::Release);
            }
            frame.encode(&signer, buffer);
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
