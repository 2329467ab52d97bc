//! Accepts connections: each handshake in a task of its own, within a deadline and a budget.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use super::{Shared, connection, engine::Message};
use crate::{exchange::ConnId, tls};

/// How long accepting pauses when the process has no file descriptor left.
const PAUSE_WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(200);
/// Refused handshakes are logged one by one only so often; the others are counted.
const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(1);

/// Accepts until it is aborted.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, to_engine: mpsc::Sender<Message>) {
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes_max));
    let connections = Arc::new(Semaphore::new(shared.limits.connections_max));
    let (refused, refusals) = mpsc::channel(64);
    tokio::spawn(log_refusals(refusals));
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
        let Ok(place) = connections.clone().try_acquire_owned() else { continue };
        next += 1;
        let (conn, shared, to_engine, refused) =
            (ConnId(next), shared.clone(), to_engine.clone(), refused.clone());
        tokio::spawn(async move {
            let shaken = shake_hands(stream, &shared).await;
            drop(handshake);
            match shaken {
                Ok(stream) => connection::run(conn, stream, &shared, &to_engine).await,
                // A full channel means that the log is busy with others: this one is only counted.
                Err(reason) => refused.try_send((address, reason)).unwrap_or_default(),
            }
            drop(place);
        });
    }
}

/// An established TLS connection on the relay's side.
pub(super) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

async fn shake_hands(stream: TcpStream, shared: &Shared) -> Result<TlsStream, String> {
    tls::set_socket_options(&stream).map_err(|error| error.to_string())?;
    let acceptor = TlsAcceptor::from(shared.tls.load_full());
    match tokio::time::timeout(shared.limits.handshake_time_max, acceptor.accept(stream)).await {
        Ok(Ok(mut stream)) => {
            tls::raise_buffer_limit(stream.get_mut().1);
            Ok(stream)
        }
        Ok(Err(error)) => {
            Err(tls::explain(&error).map_or_else(|| error.to_string(), |words| words.to_string()))
        }
        Err(_) => Err("the handshake took too long".to_owned()),
    }
}

/// Says why handshakes are refused, without letting strangers fill the disk.
async fn log_refusals(mut refusals: mpsc::Receiver<(SocketAddr, String)>) {
    let (mut last, mut unsaid) = (None::<Instant>, 0u64);
    while let Some((address, reason)) = refusals.recv().await {
        if last.is_some_and(|last| last.elapsed() < REFUSALS_LOGGED_EVERY) {
            unsaid += 1;
            continue;
        }
        tracing::info!(%address, reason, others = unsaid, "handshake refused");
        (last, unsaid) = (Some(Instant::now()), 0);
    }
}
