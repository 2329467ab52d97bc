//! One TLS connection to the relay: frames in and out of it, and why it cannot be made.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::dial::{ProxyProblem, dial};
use crate::{
    identity::SpiffeId,
    limits::{FRAME_BEFORE_WELCOME_BYTES_MAX, FRAME_CONTROL_BYTES_MAX, Limits},
    session::pace::{Pace, TooSlow},
    tls,
    wire::{
        codec::{self, CodecError, FrameDecoder},
        pb::frame::Kind,
    },
};

/// Resolving, connecting, asking a proxy and the TLS handshake may take this long each (FORMATS 4).
pub(super) const STEP_TIME_MAX: Duration = Limits::DEFAULT.handshake_time_max;
/// Room made before each read.
const READ_BYTES: usize = 32 * 1024;

/// A connection on which the relay has proved who it is.
pub(super) struct Opened {
    pub(super) line: Line,
    /// Binds Hello and Welcome to this connection.
    pub(super) exporter: [u8; 32],
    /// From the relay's verified certificate.
    pub(super) relay: SpiffeId,
    /// The certificate's serial, in lower hex.
    pub(super) serial: String,
    /// Whether the keys were agreed without the post-quantum part.
    pub(super) is_classical: bool,
}

/// What happened on a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineEvent {
    /// Bytes came.
    Read,
    /// Bytes left for the kernel.
    Wrote,
}

/// The connection. Dropping it closes it.
pub(super) struct Line<S = TlsStream<TcpStream>> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    opened: Instant,
    pace: Pace,
    /// Bytes that came since frames were last taken, and whether one of those was whole.
    came: u64,
    ended: bool,
    decoder: FrameDecoder,
    out: BytesMut,
    /// Bytes that TLS has taken and not handed on.
    in_tls: usize,
    closing: bool,
}

/// Why there is no line, in words for a clerk: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error(
        "{address} cannot be resolved ({source}): check the relay address and this machine's name resolution"
    )]
    Resolve { address: String, source: io::Error },
    #[error(
        "no connection to {address} ({source}): check that the relay runs and that no firewall stands between"
    )]
    Connect { address: String, source: io::Error },
    #[error("{address} did not answer within {} s while {step}: check the line and the relay address", STEP_TIME_MAX.as_secs())]
    Slow { address: String, step: &'static str },
    #[error(
        "the proxy {proxy} does not connect to {address} ({problem}): check `proxy` with whoever runs it"
    )]
    Proxy { proxy: String, address: String, problem: ProxyProblem },
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("the connection to the relay broke ({0}): the desk tries again by itself")]
    Broken(io::Error),
    #[error("the relay closed the connection: the desk tries again by itself")]
    Ended,
    #[error("the relay sent no frames of this protocol ({0}): check the relay address")]
    Frames(#[from] CodecError),
    #[error("the relay sent {0}: the line may be bad; the desk tries again by itself")]
    Pace(#[from] TooSlow),
}

impl Line {
    /// Connects, through a proxy where there is one, and makes sure that a relay of our trust domain is at the other end.
    ///
    /// # Errors
    /// [`LineError`] of any kind but the last two.
    pub(super) async fn open(
        address: String,
        proxy: Option<String>,
        config: Arc<ClientConfig>,
        relay_name: ServerName<'static>,
    ) -> Result<Opened, LineError> {
        let mut stream = connect(&address, proxy.as_deref(), config, relay_name).await?;
        let (_, connection) = stream.get_mut();
        tls::raise_buffer_limit(connection);
        let exporter = tls::channel_binding(connection)?;
        let (relay, serial) = tls::peer(connection)?;
        let is_classical = tls::is_classical(connection);
        Ok(Opened { line: Line::new(stream), exporter, relay: relay.spiffe().clone(), serial, is_classical })
    }
}

impl<S: AsyncRead + AsyncWrite> Line<S> {
    fn new(stream: S) -> Line<S> {
        let (reader, writer) = tokio::io::split(stream);
        Line {
            reader,
            writer,
            opened: Instant::now(),
            pace: Pace::default(),
            came: 0,
            ended: false,
            decoder: FrameDecoder::new(FRAME_BEFORE_WELCOME_BYTES_MAX),
            out: BytesMut::new(),
            in_tls: 0,
            closing: false,
        }
    }

    /// Queues a frame; [`Line::event`] writes it together with others.
    pub(super) fn send(&mut self, frame: Kind) {
        codec::encode(frame, &mut self.out);
    }

    /// Reads or writes some bytes. Dropping the future loses none of them. What was read before must have been
    /// taken by [`Line::next_frame`].
    ///
    /// # Errors
    /// [`LineError`]: the line is down, or a frame on it does not go on. A relay that refuses this desk's certificate says so here, at the
    /// first read.
    pub(super) async fn event(&mut self) -> Result<LineEvent, LineError> {
        loop {
            let (unsent, due) = (self.unsent(), self.pace.due().map(|due| self.opened + due));
            let buffer = self.decoder.buffer();
            buffer.reserve(READ_BYTES);
            tokio::select! {
                            read = self.reader.read_buf(buffer), if !self.closing => match read.map_err(broken)? {
                                0 => return Err(LineError::Ended),
                                bytes => {
                                    self.came = bytes as u64;
                                    return Ok(LineEvent::Read);
                                }
                            },
                            written = write(&mut self.writer, &mut self.out, &mut self.in_tls), if unsent > 0 => {
                                written.map_err(broken)?;
                                return Ok(LineEvent::Wrote);
                            }
            () = until(due), if !self.closing => self.pace.count(0, false, true, self.opened.elapsed())?,
                            else => std::future::pending().await,
                        }
        }
    }

    /// The next whole frame of what was read; to be called until there is none.
    ///
    /// # Errors
    /// [`LineError::Frames`] or [`LineError::Pace`]: the line is to be dropped.
    pub(super) fn next_frame(&mut self, frame_bytes_max: usize) -> Result<Option<Kind>, LineError> {
        self.decoder.allow(frame_bytes_max);
        let Some((frame, bytes)) = self.decoder.next_sized()? else {
            let (ended, is_mid_frame) = (std::mem::take(&mut self.ended), self.decoder.is_mid_frame());
            self.pace.count(self.came, ended, is_mid_frame, self.opened.elapsed())?;
            return Ok(None);
        };
        self.ended = true;
        let is_large = matches!(frame, Kind::Deliver(_) | Kind::Administrative(_));
        if !is_large && bytes > FRAME_CONTROL_BYTES_MAX as u64 {
            return Err(CodecError::TooLong { bytes, bytes_max: FRAME_CONTROL_BYTES_MAX }.into());
        }
        Ok(Some(frame))
    }

    /// Reads no more: the line is to be dropped once it is flushed.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Bytes of what was said that have not left for the kernel.
    pub(super) fn unsent(&self) -> usize {
        self.in_tls + self.out.len()
    }
}

async fn connect(
    address: &str,
    proxy: Option<&str>,
    config: Arc<ClientConfig>,
    relay_name: ServerName<'static>,
) -> Result<TlsStream<TcpStream>, LineError> {
    let tcp = dial(address, proxy).await?;
    let connect = |source| LineError::Connect { address: address.to_owned(), source };
    tls::set_socket_options(&tcp).map_err(connect)?;
    let handshake = timeout(STEP_TIME_MAX, TlsConnector::from(config).connect(relay_name, tcp)).await;
    let slow = |_| LineError::Slow { address: address.to_owned(), step: "agreeing on TLS" };
    handshake.map_err(slow)?.map_err(broken)
}

/// Hands on what TLS holds, then as much of `out` as TLS takes in one piece, and that too.
async fn write<S: AsyncWrite>(
    writer: &mut WriteHalf<S>,
    out: &mut BytesMut,
    in_tls: &mut usize,
) -> io::Result<()> {
    if *in_tls == 0 {
        *in_tls = writer.write_buf(out).await?;
        if *in_tls == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    writer.flush().await?;
    *in_tls = 0;
    Ok(())
}

fn broken(error: io::Error) -> LineError {
    tls::explain(&error).map_or_else(|| LineError::Broken(error), LineError::Tls)
}

/// Waits for a moment, or for ever.
pub(super) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::duplex, time::sleep};

    use super::*;
    use crate::wire::pb;

    /// Takes what comes, as the link does, until the line is down.
    async fn listen(mut line: Line<tokio::io::DuplexStream>) -> (Vec<Kind>, LineError) {
        let mut frames = Vec::new();
        loop {
            if let Err(error) = line.event().await {
                return (frames, error);
            }
            loop {
                match line.next_frame(FRAME_BEFORE_WELCOME_BYTES_MAX) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, error),
                }
            }
        }
    }

    /// FAULTS 77, towards the desk.
    #[tokio::test(start_paused = true)]
    async fn a_relay_whose_frame_comes_byte_by_byte_or_not_at_all_is_given_up_after_30_s() {
        for bytes in [&[200, 1, 0][..], &[0xff]] {
            let (mut relay, stream) = duplex(64);
            let began = Instant::now();
            let listening = tokio::spawn(listen(Line::new(stream)));
            for byte in bytes {
                relay.write_all(&[*byte]).await.unwrap();
                sleep(Duration::from_secs(10)).await;
            }
            let (frames, error) =
                timeout(Duration::from_secs(3_600), listening).await.expect("it is given up").unwrap();
            assert!(matches!(error, LineError::Pace(TooSlow)) && frames.is_empty(), "{error:?}");
            assert!(error.to_string().contains("less than 512 bytes a second"), "{error}");
            assert_eq!(began.elapsed().as_secs(), 30);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_on_which_whole_frames_come_seldom_or_a_long_one_fast_enough_goes_on() {
        let (mut relay, stream) = duplex(4_096);
        let listening = tokio::spawn(listen(Line::new(stream)));
        let mut wire = BytesMut::new();
        codec::encode(Kind::Ping(pb::Ping { token: 7 }), &mut wire);
        for _ in 0..10 {
            relay.write_all(&wire).await.unwrap();
            sleep(Duration::from_secs(20)).await;
        }
        codec::encode(
            Kind::Goodbye(pb::Goodbye { sentence: "x".repeat(3_000), ..pb::Goodbye::default() }),
            &mut wire,
        );
        for bytes in wire.chunks(600) {
            relay.write_all(bytes).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        drop(relay);
        let (frames, error) = listening.await.unwrap();
        assert!(matches!(error, LineError::Ended), "{error:?}");
        assert_eq!(frames.len(), 12);
    }
}
