//! Accepts connections: each handshake in a task of its own, within a deadline and a budget.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::TlsAcceptor;

use super::{Shared, connection, engine::Message, handshakes::HandshakeEnd};
use crate::{alarms::AlarmKind, exchange::ConnId, tls};

/// How long accepting pauses when the process has no file descriptor left.
const PAUSE_WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(200);

/// Accepts until it is aborted.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, to_engine: mpsc::Sender<Message>) {
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes_max));
    let connections = Arc::new(Semaphore::new(shared.limits.connections_max));
    let mut next = 0;
    loop {
        // Waiting connections stay in the kernel's queue, which drops what is too much.
        let Ok(handshake) = handshakes.clone().acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept; pausing");
                tokio::time::sleep(PAUSE_WITHOUT_DESCRIPTORS).await;
                continue;
            }
        };
        let Ok(place) = connections.clone().try_acquire_owned() else {
            shared.handshakes.failed(HandshakeEnd::TooManyConnections, address, "all places are taken");
            continue;
        };
        next += 1;
        let (conn, shared, to_engine) = (ConnId(next), shared.clone(), to_engine.clone());
        tokio::spawn(async move {
            let shaken = shake_hands(stream, &shared).await;
            drop(handshake);
            match shaken {
                Ok(stream) => connection::run(conn, stream, &shared, &to_engine).await,
                Err((end, reason)) => shared.handshakes.failed(end, address, &reason),
            }
            drop(place);
        });
    }
}

/// An established TLS connection on the relay's side.
pub(super) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

async fn shake_hands(stream: TcpStream, shared: &Shared) -> Result<TlsStream, (HandshakeEnd, String)> {
    tls::set_socket_options(&stream).map_err(|error| (HandshakeEnd::Broken, error.to_string()))?;
    let acceptor = TlsAcceptor::from(shared.tls.load_full());
    match tokio::time::timeout(shared.limits.handshake_time_max, acceptor.accept(stream)).await {
        Ok(Ok(mut stream)) => {
            tls::raise_buffer_limit(stream.get_mut().1);
            note_key_exchange(&stream, shared);
            Ok(stream)
        }
        Ok(Err(error)) => match tls::explain(&error) {
            Some(words) => Err((HandshakeEnd::from(&words), words.to_string())),
            None => Err((HandshakeEnd::Broken, error.to_string())),
        },
        Err(_) => Err((HandshakeEnd::TooSlow, "the handshake took too long".to_owned())),
    }
}

/// Counts a handshake that succeeded; an alarm tells of one without the post-quantum part.
fn note_key_exchange(stream: &TlsStream, shared: &Shared) {
    let connection = stream.get_ref().1;
    if !tls::is_classical(connection) {
        return shared.handshakes.done(HandshakeEnd::Done);
    }
    shared.handshakes.done(HandshakeEnd::DoneClassical);
    let who =
        tls::peer(connection).map_or_else(|_| "a desk".to_owned(), |(party, _)| party.spiffe().to_string());
    let sentence = format!(
        "{who} connected by plain X25519, so what is recorded today may be read when quantum computers come: \
         have it use post-quantum key exchange, then set `allow_x25519 = false` and reload"
    );
    shared.alarms.raise(AlarmKind::X25519Used, sentence);
}
