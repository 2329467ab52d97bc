//! What an operator and a monitoring system ask a running relay: alive, ready, metrics, status.
//!
//! Two ways in, with separate trust. The unix socket in the relay's folder answers everything, to whoever
//! the file system lets in. The TCP address of the configuration, off by default, has no passwords, and so
//! answers only what names nobody: `/metrics`, `/livez`, `/readyz`.

mod metrics;
mod status;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    Shared,
    engine::{EngineReport, Message},
};
use crate::{
    alarms::Alarms,
    exposition,
    identity::SpiffeId,
    journal::Vitals,
    limits::{ADMIN_CONNECTIONS_MAX, ADMIN_REPORT_KEPT, ADMIN_TIME_MAX, ENGINE_ANSWER_TIME_MAX},
};

/// What answers are made from.
pub(super) struct Admin {
    pub(super) id: SpiffeId,
    pub(super) shared: Arc<Shared>,
    pub(super) alarms: Alarms,
    pub(super) vitals: Arc<Vitals>,
    pub(super) journal: PathBuf,
    pub(super) to_engine: mpsc::Sender<Message>,
    pub(super) started: jiff::Timestamp,
    /// The engine's last report. The lock makes callers share one question to the engine; no envelope
    /// waits for it.
    pub(super) last: Mutex<Option<(Instant, Arc<EngineReport>)>>,
}

impl Admin {
    /// Serves the unix socket and, where there is one, the TCP listener, until it is dropped.
    pub(super) async fn serve(self: Arc<Self>, unix: UnixListener, tcp: Option<TcpListener>) {
        let open = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readiness));
        let local = open.clone().route("/v1/status", get(status)).with_state(self.clone());
        let open = open.with_state(self);
        let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = unix.accept() => accepted.map(|(stream, _)| answer(stream, &local, place)),
                accepted = accept_tcp(tcp.as_ref()) => accepted.map(|stream| answer(stream, &open, place)),
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "cannot accept an operator's connection; pausing");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// The engine's word, at most [`ADMIN_REPORT_KEPT`] old; `None` when it gives none in time.
    async fn report(&self) -> Option<Arc<EngineReport>> {
        let mut last = self.last.lock().await;
        if let Some((_, report)) = last.as_ref().filter(|(at, _)| at.elapsed() < ADMIN_REPORT_KEPT) {
            return Some(report.clone());
        }
        let asking = async {
            let (answer, answered) = oneshot::channel();
            self.to_engine.send(Message::Report(answer)).await.ok()?;
            answered.await.ok()
        };
        let report = Arc::new(timeout(ENGINE_ANSWER_TIME_MAX, asking).await.ok()??);
        *last = Some((Instant::now(), report.clone()));
        Some(report)
    }
}

async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Serves one request on a connection, within a time; its place is free again then.
fn answer<S>(stream: S, router: &Router, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.clone());
    tokio::spawn(async move {
        let mut http = http1::Builder::new();
        let serving = http.keep_alive(false).serve_connection(TokioIo::new(stream), service);
        match timeout(ADMIN_TIME_MAX, serving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an operator's request broke off"),
            Err(_) => tracing::debug!("an operator's request took too long"),
        }
        drop(place);
    });
}

/// How long accepting pauses when the system refuses.
const PAUSE: Duration = Duration::from_millis(200);

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let text = metrics::text(&admin).await;
    ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response()
}

async fn readiness(State(admin): State<Arc<Admin>>) -> Response {
    match status::not_ready(&admin, admin.report().await.as_deref()) {
        missing if missing.is_empty() => "ready\n".into_response(),
        missing => (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response(),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    match admin.report().await {
        Some(report) => Json(status::status(&admin, &report).await).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, status::SILENT).into_response(),
    }
}
