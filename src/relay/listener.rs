//! Accepts connections: each handshake in a task of its own, within a deadline and a budget.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Shared,
    connection::{self, Identity},
    engine::Message,
    handshakes::HandshakeEnd,
};
use crate::{alarms::AlarmKind, exchange::ConnId, identity::SpiffeId, service, tls};

/// How long accepting pauses when the process has no file descriptor left.
const PAUSE_WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(200);

/// What a desk is told that is turned away for now.
const TOO_OFTEN: &str =
    "this desk connected too often: it is let in again in a while; look for a second machine with its keys";

/// Files and sockets that a relay holds beside its connections: segments of the journal most of all.
const DESCRIPTORS_BESIDE: u64 = 256;

/// Has the system allow as many open files as all connections need, or says that it does not.
pub(super) fn raise_descriptor_limit(connections_max: usize) {
    let allowed = service::raise_descriptor_limit();
    let needed = connections_max as u64 + DESCRIPTORS_BESIDE;
    if allowed < needed {
        tracing::warn!(
            allowed,
            needed,
            connections_max,
            "too few open files for as many desks as may connect: raise LimitNOFILE of the unit, or `ulimit -Hn`"
        );
    }
}

/// Accepts until it is aborted, once a roster is in force.
pub(super) async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut has_roster: watch::Receiver<bool>,
    to_engine: mpsc::Sender<Message>,
) {
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes_max));
    let connections = Arc::new(Semaphore::new(shared.limits.connections_max));
    let mut next = 0;
    // At the very first start, until its record is durable: whoever comes sooner waits, and is not turned away.
    if has_roster.wait_for(|has_roster| *has_roster).await.is_err() {
        return;
    }
    loop {
        // Waiting connections stay in the kernel's queue, which drops what is too much.
        let Ok(handshake) = handshakes.clone().acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.handshakes.not_accepted(&error);
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
                Ok((stream, identity)) => admit(conn, stream, identity, address, &shared, &to_engine).await,
                Err((end, reason)) => shared.handshakes.failed(end, address, &reason),
            }
            drop(place);
        });
    }
}

/// An established TLS connection on the relay's side. In a box, or the task that serves it would have room for it
/// wherever it is handed on.
pub(super) type TlsStream = Box<tokio_rustls::server::TlsStream<TcpStream>>;

async fn shake_hands(
    stream: TcpStream,
    shared: &Shared,
) -> Result<(TlsStream, Identity), (HandshakeEnd, String)> {
    tls::set_socket_options(&stream).map_err(|error| (HandshakeEnd::Broken, error.to_string()))?;
    let acceptor = TlsAcceptor::from(shared.tls.load_full());
    match tokio::time::timeout(shared.limits.handshake_time_max, acceptor.accept(stream)).await {
        Ok(Ok(mut stream)) => {
            let connection = stream.get_mut().1;
            tls::raise_buffer_limit(connection);
            let failed = |error: tls::TlsError| (HandshakeEnd::from(&error), error.to_string());
            let (party, serial) = tls::peer(connection).map_err(failed)?;
            let exporter = tls::channel_binding(connection).map_err(failed)?;
            Ok((Box::new(stream), Identity { party, serial, exporter }))
        }
        Ok(Err(error)) => match tls::explain(&error) {
            Some(words) => Err((HandshakeEnd::from(&words), words.to_string())),
            None => Err((HandshakeEnd::Broken, error.to_string())),
        },
        Err(_) => Err((HandshakeEnd::TooSlow, "the handshake took too long".to_owned())),
    }
}

/// Serves a desk, unless it has connected too often.
async fn admit(
    conn: ConnId,
    stream: TlsStream,
    identity: Identity,
    address: SocketAddr,
    shared: &Shared,
    to_engine: &mpsc::Sender<Message>,
) {
    let who = identity.party.spiffe();
    if shared.handshakes.admits(who, &shared.limits) {
        note_key_exchange(&stream, who, shared);
        return connection::serve(conn, stream, identity, shared, to_engine).await;
    }
    shared.handshakes.failed(HandshakeEnd::TooOften, address, &format!("{who} connects too often"));
    connection::turn_away(stream, TOO_OFTEN).await;
}

/// Counts a handshake that succeeded; an alarm tells of one without the post-quantum part.
fn note_key_exchange(stream: &TlsStream, who: &SpiffeId, shared: &Shared) {
    let connection = stream.get_ref().1;
    if !tls::is_classical(connection) {
        return shared.handshakes.done(HandshakeEnd::Done);
    }
    shared.handshakes.done(HandshakeEnd::DoneClassical);
    let sentence = format!(
        "{who} connected by plain X25519, so what is recorded today may be read when quantum computers come: \
         have it use post-quantum key exchange, then set `allow_x25519 = false` and reload"
    );
    shared.alarms.raise(AlarmKind::X25519Used, sentence);
}
