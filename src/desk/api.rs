//! The desk's API: HTTP and JSON on a unix socket, as `view` describes it. Every face is its client.
//!
//! Whoever may open the socket may use the desk; the caller's user id goes to the log with each
//! call that changes something.

use std::path::PathBuf;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::desk::connections::BoundedListener;
use crate::desk::events;
use crate::desk::handle::{DeskError, DeskHandle};
use crate::desk::view::{
    Alarm, ApiError, Commit, Cursor, Evidence, InForce, InboxFilter, Incoming, IncomingWhole, LIST_DEFAULT,
    LIST_MAX, NewDispatch, OutboxFilter, OutboxWait, Outgoing, Progress, ProvenRoster, REQUEST_BYTES_MAX,
    Status, Trust, WAIT_S_DEFAULT, WAIT_S_MAX,
};
use crate::limits::{API_CALL_TIME_MAX, ROSTER_BYTES_MAX};

/// Serves the API and `probes` until `shutdown` turns true; then the socket's file goes, long polls answer at
/// once, and calls under way are finished.
pub async fn serve(
    listener: UnixListener,
    socket: PathBuf,
    desk: DeskHandle,
    probes: Router,
    shutdown: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut ending = shutdown.clone();
    let app = router(Api { desk, shutdown }).merge(probes).into_make_service_with_connect_info::<Caller>();
    let until = async move {
        // A sender that is gone means the same as one that says so.
        match ending.wait_for(|over| *over).await {
            Ok(_) | Err(_) => (),
        }
        if let Err(error) = std::fs::remove_file(&socket) {
            tracing::warn!(socket = %socket.display(), %error, "socket not removed");
        }
    };
    axum::serve(BoundedListener::new(listener), app).with_graceful_shutdown(until).await
}

#[derive(Clone)]
struct Api {
    desk: DeskHandle,
    shutdown: watch::Receiver<bool>,
}

impl Api {
    /// Waits for the store's next change; true where the wait ends without one.
    async fn is_over(&mut self, changes: &mut watch::Receiver<u64>, deadline: Instant) -> bool {
        tokio::select! {
            changed = changes.changed() => changed.is_err(),
            () = sleep_until(deadline) => true,
            _ = self.shutdown.wait_for(|over| *over) => true,
        }
    }
}

/// When a wait of so many seconds ends.
fn deadline(field: &str, seconds: u64) -> Result<Instant, Refusal> {
    if !(1..=WAIT_S_MAX).contains(&seconds) {
        return Err(usage(format!("{field} is {seconds}: give 1 to {WAIT_S_MAX}, and ask again after it")));
    }
    Ok(Instant::now() + Duration::from_secs(seconds))
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/dispatches", post(send).get(inbox))
        .route("/v1/dispatches/{id}", get(incoming))
        .route("/v1/dispatches/{id}/evidence", get(evidence))
        .route("/v1/dispatches/{id}/read", post(read))
        .route("/v1/dispatches/{id}/acknowledge", post(acknowledge))
        .route("/v1/outbox", get(outbox))
        .route("/v1/outbox/{id}", get(outgoing))
        .route("/v1/rosters/{version}", get(proven_roster))
        .route("/v1/cursors/{name}", get(cursor))
        .route("/v1/cursors/{name}/take", post(take_cursor))
        .route("/v1/cursors/{name}/commit", post(commit))
        .route("/v1/events", get(changes))
        .route("/v1/status", get(status))
        .route("/v1/alarms", get(alarms))
        .route("/v1/alarms/{key}/take", post(take_alarm))
        .route("/v1/alarms/{key}/close", post(close_alarm))
        .route("/v1/trust", get(trust))
        .route("/v1/orders", post(order))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .route("/v1/roster", post(publish_roster).layer(DefaultBodyLimit::max(ROSTER_BYTES_MAX)))
        .layer(middleware::from_fn(within_time))
        .with_state(api)
}

/// Ends a call that takes longer than any should, such as one whose body never comes to its end.
async fn within_time(request: Request, next: Next) -> Response {
    match timeout(API_CALL_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = API_CALL_TIME_MAX.as_secs();
            let sentence = format!("the call took more than {seconds} s: send its body at once, ask again");
            let error = ApiError { code: "unanswered".to_owned(), sentence };
            Refusal(StatusCode::GATEWAY_TIMEOUT, error).into_response()
        }
    }
}

/// Who calls, by the kernel's word.
#[derive(Clone, Copy)]
struct Caller {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, BoundedListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Caller { uid: stream.io().uid() }
    }
}

type Answer<T> = Result<Json<T>, Refusal>;
type Body = Result<Bytes, BytesRejection>;
type Segment = Result<Path<String>, PathRejection>;
type Asked<T> = Result<Query<T>, QueryRejection>;

async fn send(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Body,
) -> Answer<Outgoing> {
    let new: NewDispatch = parsed(body)?;
    let outgoing = api.desk.send(new).await?;
    tracing::info!(uid = caller.uid, id = outgoing.id, duplicate = outgoing.duplicate, "dispatch handed in");
    Ok(Json(outgoing))
}

async fn inbox(State(mut api): State<Api>, query: Asked<InboxFilter>) -> Answer<Vec<Incoming>> {
    let Query(mut filter) = query?;
    filter.limit = Some(limit(filter.limit)?);
    let Some(seconds) = filter.wait_s else {
        return Ok(Json(api.desk.inbox(filter).await?));
    };
    let deadline = deadline("wait_s", seconds)?;
    let mut changes = api.desk.changes();
    loop {
        changes.borrow_and_update();
        let found = api.desk.inbox(filter.clone()).await?;
        if !found.is_empty() || api.is_over(&mut changes, deadline).await {
            return Ok(Json(found));
        }
    }
}

async fn incoming(State(api): State<Api>, id: Segment) -> Answer<IncomingWhole> {
    Ok(Json(api.desk.incoming(id?.0).await?))
}

async fn evidence(State(api): State<Api>, id: Segment) -> Answer<Evidence> {
    Ok(Json(api.desk.evidence(id?.0).await?))
}

async fn proven_roster(State(api): State<Api>, version: Segment) -> Answer<ProvenRoster> {
    let Path(text) = version?;
    let version = text.parse().map_err(|_| usage(format!("{text} is no roster version: give its number")))?;
    Ok(Json(api.desk.proven_roster(version).await?))
}

async fn read(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    id: Segment,
    body: Body,
) -> Answer<Incoming> {
    let incoming = api.desk.read(id?.0, parsed(body)?).await?;
    tracing::info!(uid = caller.uid, id = incoming.id, "dispatch read");
    Ok(Json(incoming))
}

async fn acknowledge(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    id: Segment,
    body: Body,
) -> Answer<Incoming> {
    let incoming = api.desk.acknowledge(id?.0, parsed(body)?).await?;
    tracing::info!(uid = caller.uid, id = incoming.id, "dispatch acknowledged");
    Ok(Json(incoming))
}

async fn outbox(State(api): State<Api>, query: Asked<OutboxFilter>) -> Answer<Vec<Outgoing>> {
    let limit = limit(query?.limit)?;
    Ok(Json(api.desk.outbox(limit).await?))
}

async fn outgoing(State(mut api): State<Api>, id: Segment, query: Asked<OutboxWait>) -> Answer<Outgoing> {
    let Path(id) = id?;
    let Query(OutboxWait { wait, timeout_s }) = query?;
    let Some(step) = wait else {
        return Ok(Json(api.desk.outgoing(id).await?));
    };
    let seconds = timeout_s.unwrap_or(WAIT_S_DEFAULT);
    let deadline = deadline("timeout_s", seconds)?;
    let mut changes = api.desk.changes();
    loop {
        // Marked seen before the look, so that a change during the look ends the wait below.
        changes.borrow_and_update();
        let outgoing = api.desk.outgoing(id.clone()).await?;
        if outgoing.progress(step) != Progress::Waiting || api.is_over(&mut changes, deadline).await {
            return Ok(Json(outgoing));
        }
    }
}

async fn cursor(State(api): State<Api>, name: Segment) -> Answer<Cursor> {
    Ok(Json(api.desk.cursor(name?.0).await?))
}

async fn commit(State(api): State<Api>, name: Segment, body: Body) -> Answer<Cursor> {
    let commit: Option<Commit> = parsed(body)?;
    let commit = commit.ok_or_else(|| usage("a commit needs a body as {\"register\": 17}".to_owned()))?;
    Ok(Json(api.desk.commit(name?.0, commit).await?))
}

async fn take_cursor(State(api): State<Api>, name: Segment, body: Body) -> Answer<Cursor> {
    Ok(Json(api.desk.take_cursor(name?.0, parsed(body)?).await?))
}

async fn status(State(api): State<Api>) -> Answer<Status> {
    Ok(Json(api.desk.status().await?))
}

async fn trust(State(api): State<Api>) -> Answer<Trust> {
    Ok(Json(api.desk.trust().await?))
}

async fn changes(State(api): State<Api>, headers: HeaderMap) -> Response {
    events::response(api.desk, api.shutdown, &headers)
}

async fn alarms(State(api): State<Api>) -> Answer<Vec<Alarm>> {
    Ok(Json(api.desk.alarms().await?))
}

async fn take_alarm(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    key: Segment,
    body: Body,
) -> Answer<Alarm> {
    let alarm = api.desk.take_alarm(key?.0, parsed(body)?).await?;
    tracing::info!(uid = caller.uid, alarm = alarm.key, "alarm taken");
    Ok(Json(alarm))
}

async fn close_alarm(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    key: Segment,
    body: Body,
) -> Answer<Alarm> {
    let alarm = api.desk.close_alarm(key?.0, parsed(body)?).await?;
    tracing::info!(uid = caller.uid, alarm = alarm.key, "alarm closed");
    Ok(Json(alarm))
}

async fn publish_roster(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Body,
) -> Answer<InForce> {
    let in_force = api.desk.publish_roster(body?).await?;
    tracing::info!(uid = caller.uid, position = in_force.position, "roster published");
    Ok(Json(in_force))
}

async fn order(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Body,
) -> Answer<InForce> {
    let in_force = api.desk.order(parsed(body)?).await?;
    tracing::info!(uid = caller.uid, number = in_force.number, position = in_force.position, "order given");
    Ok(Json(in_force))
}

async fn nothing_here() -> Refusal {
    let sentence = "no such call: check method and path, or use the `pouch` command".to_owned();
    Refusal(StatusCode::NOT_FOUND, ApiError { code: "not-found".to_owned(), sentence })
}

/// An answer that is an error.
struct Refusal(StatusCode, ApiError);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<DeskError> for Refusal {
    fn from(error: DeskError) -> Self {
        let status = match error.code() {
            "usage" | "unknown-addressee" => StatusCode::BAD_REQUEST,
            "not-permitted" => StatusCode::FORBIDDEN,
            "not-found" | "not-proven" => StatusCode::NOT_FOUND,
            "too-large" => StatusCode::PAYLOAD_TOO_LARGE,
            "full" | "no-contact" => StatusCode::SERVICE_UNAVAILABLE,
            "declined" | "taken" => StatusCode::CONFLICT,
            "unanswered" => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal(status, ApiError { code: error.code().to_owned(), sentence: error.to_string() })
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        usage(format!("{}: write the id in UTF-8", rejection.body_text()))
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        usage(format!("{}: correct the part after `?`", rejection.body_text()))
    }
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let sentence = format!("more than {REQUEST_BYTES_MAX} bytes: send it in parts");
            return Refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                ApiError { code: "too-large".to_owned(), sentence },
            );
        }
        usage(format!("{}: send the body whole", rejection.body_text()))
    }
}

fn usage(sentence: String) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, ApiError { code: "usage".to_owned(), sentence })
}

/// The body as JSON, whatever its content type; an empty one where the defaults will do.
fn parsed<T: DeserializeOwned + Default>(body: Body) -> Result<T, Refusal> {
    let body = body?;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| usage(format!("body: {error}: correct the JSON")))
}

fn limit(asked: Option<u32>) -> Result<u32, Refusal> {
    let limit = asked.unwrap_or(LIST_DEFAULT);
    if (1..=LIST_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(usage(format!("limit is {limit}: give 1 to {LIST_MAX}, and ask for more with `after`")))
    }
}
