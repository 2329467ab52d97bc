//! What an operator and a monitoring system ask a running relay: alive, ready, metrics, status.
//!
//! Two ways in, with separate trust. The unix socket in the relay's folder answers everything, to whoever
//! the file system lets in. The TCP address of the configuration, off by default, has no passwords, and so
//! answers only what names nobody: `/metrics`, `/livez`, `/readyz`.

mod metrics;
mod status;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    Shared,
    engine::{EngineReport, Message},
};
use crate::{
    alarms::Alarms,
    identity::SpiffeId,
    journal::Vitals,
    limits::{ADMIN_REPORT_KEPT, ENGINE_ANSWER_TIME_MAX},
    note::Vkey,
    probes::{self, Doors, Probed},
};

/// What answers are made from.
pub(super) struct Admin {
    pub(super) id: SpiffeId,
    /// That of the relay's own audit log, as rosters list it.
    pub(super) log_key: Vkey,
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
    /// What is answered on the unix socket, and what on an address that anybody may reach.
    pub(super) fn doors(self: Arc<Self>, unix: UnixListener, tcp: Option<TcpListener>) -> Doors {
        let open = probes::routes(self.clone());
        let local = open.clone().merge(Router::new().route("/v1/status", get(status)).with_state(self));
        Doors { local: Some((unix, local)), open: tcp.map(|tcp| (tcp, open)) }
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

impl Probed for Admin {
    async fn metrics(&self) -> String {
        metrics::text(self).await
    }

    async fn not_ready(&self) -> Vec<String> {
        status::not_ready(self, self.report().await.as_deref())
    }

    async fn gets_on(&self) -> bool {
        self.report().await.is_some() && status::stuck_for(self).is_none()
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    match admin.report().await {
        Some(report) => Json(status::status(&admin, &report).await).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, status::SILENT).into_response(),
    }
}
