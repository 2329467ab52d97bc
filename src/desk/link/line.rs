//! One TLS connection to the relay: frames in and out of it, and why it cannot be made.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::dial::{ProxyProblem, dial};
use crate::{
    identity::SpiffeId,
    limits::{FRAME_BEFORE_WELCOME_BYTES_MAX, FRAME_CONTROL_BYTES_MAX, Limits},
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
pub(super) struct Line {
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
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
        let (reader, writer) = tokio::io::split(stream);
        let decoder = FrameDecoder::new(FRAME_BEFORE_WELCOME_BYTES_MAX);
        let line = Line { reader, writer, decoder, out: BytesMut::new(), in_tls: 0, closing: false };
        Ok(Opened { line, exporter, relay: relay.spiffe().clone(), serial, is_classical })
    }

    /// Queues a frame; [`Line::event`] writes it together with others.
    pub(super) fn send(&mut self, frame: Kind) {
        codec::encode(frame, &mut self.out);
    }

    /// Reads or writes some bytes. Dropping the future loses none of them.
    ///
    /// # Errors
    /// [`LineError`]: the line is down. A relay that refuses this desk's certificate says so here, at the
    /// first read.
    pub(super) async fn event(&mut self) -> Result<LineEvent, LineError> {
        let unsent = self.unsent();
        let Line { reader, writer, decoder, out, in_tls, closing } = self;
        let buffer = decoder.buffer();
        buffer.reserve(READ_BYTES);
        let result = tokio::select! {
            read = reader.read_buf(buffer), if !*closing => match read {
                Ok(0) => return Err(LineError::Ended),
                Ok(_) => Ok(LineEvent::Read),
                Err(error) => Err(error),
            },
            written = write(writer, out, in_tls), if unsent > 0 => written.map(|()| LineEvent::Wrote),
            else => std::future::pending().await,
        };
        result.map_err(broken)
    }

    /// The next whole frame of what was read.
    ///
    /// # Errors
    /// [`LineError::Frames`]: the line is to be dropped.
    pub(super) fn next_frame(&mut self, frame_bytes_max: usize) -> Result<Option<Kind>, LineError> {
        self.decoder.allow(frame_bytes_max);
        let Some((frame, bytes)) = self.decoder.next_sized()? else { return Ok(None) };
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
async fn write(
    writer: &mut WriteHalf<TlsStream<TcpStream>>,
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
