//! The desk's API as its clients call it: CLI, demo and tests. One connection a call, over the unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::desk::view::{
    ANSWER_BYTES_MAX, Alarm, ApiError, Commit, Cursor, Evidence, InForce, InboxFilter, Incoming,
    IncomingWhole, Mark, NewDispatch, NewOrder, Outgoing, Progress, ProvenRoster, REQUEST_BYTES_MAX, Status,
    Step, TakeCursor, Trust,
};
use crate::limits::Limits;

/// How long a desk may take to answer a call that does not ask it to wait.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the hub's desk waits for the relay to put a roster in force.
const PUBLISH_TIME_MAX: Duration = Limits::DEFAULT.publication_time_max;
/// And an order.
const ORDERS_TIME_MAX: Duration = Duration::from_secs(75);
/// How long one long poll lasts; [`DeskClient::wait`] strings them together.
const WAIT_SLICE: Duration = Duration::from_secs(20);

/// A client of one desk. Cheap to make and to clone; holds no connection.
#[derive(Clone, Debug)]
pub struct DeskClient {
    socket: PathBuf,
}

/// Why a call brought no answer, or the answer that is an error.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket, or this user may not use it.
    #[error("the desk on {} is not reachable: {source}: {}", socket.display(), cure(source))]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The connection broke off; whether the desk did what was asked is unknown.
    #[error("the desk broke off before it answered: {0}: look at its log, then ask again")]
    Broken(#[from] hyper::Error),
    /// No answer in time; whether the desk did what was asked is unknown.
    #[error("the desk gave no answer within {} s: look at its log, then ask again", .0.as_secs())]
    Silent(Duration),
    /// The answer is longer than [`ANSWER_BYTES_MAX`] or broke off.
    #[error("the desk's answer did not arrive whole: {0}: ask for less with --limit")]
    Incomplete(Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not what this version of pouch understands.
    #[error("the desk's answer is not understood: {0}: run the same version of pouch on both sides")]
    NotUnderstood(#[from] serde_json::Error),
    /// The desk said no.
    #[error("{}", .0.sentence)]
    Refused(ApiError),
}

impl DeskClient {
    /// A client of the desk that listens on `socket`; connects at each call.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket that this client calls.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Hands in a dispatch; durable in the outbox when it returns.
    pub async fn send(&self, dispatch: &NewDispatch) -> Result<Outgoing, ClientError> {
        self.post("/v1/dispatches", dispatch).await
    }

    /// Lists the outbox's newest `limit` dispatches.
    pub async fn outbox(&self, limit: Option<u32>) -> Result<Vec<Outgoing>, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        self.get(&format!("/v1/outbox{}", query(&[("limit", limit)])), ANSWER_TIME_MAX).await
    }

    /// One dispatch of the outbox, by UUID or short id.
    pub async fn outgoing(&self, id: &str) -> Result<Outgoing, ClientError> {
        self.get(&format!("/v1/outbox/{}", escaped(id)), ANSWER_TIME_MAX).await
    }

    /// Waits until a dispatch of the outbox reaches `step`, never can, or `time_max` is over; what
    /// came of it, [`Outgoing::progress`] tells. Dropping the future ends the wait and nothing else.
    pub async fn wait(&self, id: &str, step: Step, time_max: Duration) -> Result<Outgoing, ClientError> {
        let deadline = Instant::now() + time_max;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = left.min(WAIT_SLICE);
            let wait = serde_json::to_value(step)?.as_str().map(str::to_owned);
            let seconds = slice.as_secs().max(1);
            let query = query(&[("wait", wait), ("timeout_s", Some(seconds.to_string()))]);
            let target = format!("/v1/outbox/{}{query}", escaped(id));
            let outgoing: Outgoing = self.get(&target, ANSWER_TIME_MAX + slice).await?;
            if outgoing.progress(step) != Progress::Waiting || left <= slice {
                return Ok(outgoing);
            }
        }
    }

    /// Lists the inbox, oldest first.
    pub async fn inbox(&self, filter: &InboxFilter) -> Result<Vec<Incoming>, ClientError> {
        let query = query(&[
            ("after", filter.after.map(|after| after.to_string())),
            ("topic", filter.topic.clone()),
            ("unacked", filter.unacked.map(|unacked| unacked.to_string())),
            ("limit", filter.limit.map(|limit| limit.to_string())),
            ("wait_s", filter.wait_s.map(|seconds| seconds.to_string())),
        ]);
        let wait = Duration::from_secs(filter.wait_s.unwrap_or(0));
        self.get(&format!("/v1/dispatches{query}"), ANSWER_TIME_MAX + wait).await
    }

    /// One dispatch of the inbox with its body, by UUID or short id. Marks nothing.
    pub async fn incoming(&self, id: &str) -> Result<IncomingWhole, ClientError> {
        self.get(&format!("/v1/dispatches/{}", escaped(id)), ANSWER_TIME_MAX).await
    }

    /// All that the desk can prove of a dispatch, sent or received.
    pub async fn evidence(&self, id: &str) -> Result<Evidence, ClientError> {
        self.get(&format!("/v1/dispatches/{}/evidence", escaped(id)), ANSWER_TIME_MAX).await
    }

    /// A roster version that the desk holds, and that the log has it.
    pub async fn proven_roster(&self, version: u32) -> Result<ProvenRoster, ClientError> {
        self.get(&format!("/v1/rosters/{version}"), ANSWER_TIME_MAX).await
    }

    /// Marks a dispatch read; its sender gets a signed receipt.
    pub async fn read(&self, id: &str, mark: &Mark) -> Result<Incoming, ClientError> {
        self.post(&format!("/v1/dispatches/{}/read", escaped(id)), mark).await
    }

    /// Acknowledges a dispatch; its sender gets a signed receipt.
    pub async fn acknowledge(&self, id: &str, mark: &Mark) -> Result<Incoming, ClientError> {
        self.post(&format!("/v1/dispatches/{}/acknowledge", escaped(id)), mark).await
    }

    /// How far the reader `name` has committed; 0 for one that never did.
    pub async fn cursor(&self, name: &str) -> Result<Cursor, ClientError> {
        self.get(&format!("/v1/cursors/{}", escaped(name)), ANSWER_TIME_MAX).await
    }

    /// Takes the cursor `name` for a reader, or keeps it.
    pub async fn take_cursor(&self, name: &str, take: &TakeCursor) -> Result<Cursor, ClientError> {
        self.post(&format!("/v1/cursors/{}/take", escaped(name)), take).await
    }

    /// Commits the cursor `name` up to a register number.
    pub async fn commit(&self, name: &str, commit: &Commit) -> Result<Cursor, ClientError> {
        self.post(&format!("/v1/cursors/{}/commit", escaped(name)), commit).await
    }

    /// Puts a signed roster note in force; returns when it is.
    pub async fn publish_roster(&self, note: Bytes) -> Result<InForce, ClientError> {
        self.call(Method::POST, "/v1/roster", note, PUBLISH_TIME_MAX + ANSWER_TIME_MAX).await
    }

    /// Gives an order of the ministry; returns when it is in force.
    pub async fn order(&self, order: &NewOrder) -> Result<InForce, ClientError> {
        let body = serde_json::to_vec(order)?;
        self.call(Method::POST, "/v1/orders", body.into(), ORDERS_TIME_MAX + ANSWER_TIME_MAX).await
    }

    /// All alarms that the desk keeps, oldest first.
    pub async fn alarms(&self) -> Result<Vec<Alarm>, ClientError> {
        self.get("/v1/alarms", ANSWER_TIME_MAX).await
    }

    /// Takes an alarm: somebody looks after it.
    pub async fn take_alarm(&self, key: &str, mark: &Mark) -> Result<Alarm, ClientError> {
        self.post(&format!("/v1/alarms/{}/take", escaped(key)), mark).await
    }

    /// Closes an alarm: it is over.
    pub async fn close_alarm(&self, key: &str, mark: &Mark) -> Result<Alarm, ClientError> {
        self.post(&format!("/v1/alarms/{}/close", escaped(key)), mark).await
    }

    /// The desk's state.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status", ANSWER_TIME_MAX).await
    }

    /// The trust bundle that names the roster in force.
    pub async fn trust(&self) -> Result<Trust, ClientError> {
        self.get("/v1/trust", ANSWER_TIME_MAX).await
    }

    async fn get<A: DeserializeOwned>(&self, target: &str, time_max: Duration) -> Result<A, ClientError> {
        self.call(Method::GET, target, Bytes::new(), time_max).await
    }

    async fn post<A: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<A, ClientError> {
        let body = serde_json::to_vec(body)?;
        if body.len() > REQUEST_BYTES_MAX {
            let sentence = format!("{} bytes are more than a dispatch holds: send it in parts", body.len());
            return Err(ClientError::Refused(ApiError { code: "too-large".to_owned(), sentence }));
        }
        self.call(Method::POST, target, body.into(), ANSWER_TIME_MAX).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        time_max: Duration,
    ) -> Result<A, ClientError> {
        let exchange = self.exchange(method, target, body);
        let (status, answer) =
            timeout(time_max, exchange).await.map_err(|_| ClientError::Silent(time_max))??;
        if status.is_success() {
            Ok(serde_json::from_slice(&answer)?)
        } else {
            Err(ClientError::Refused(serde_json::from_slice(&answer)?))
        }
    }

    async fn exchange(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, "desk")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("targets are built here from escaped parts");
        let whole = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(ClientError::Incomplete)?.to_bytes()))
        };
        let mut whole = std::pin::pin!(whole);
        tokio::select! {
            answer = &mut whole => answer,
            // The connection may end before the answer has been read out of it.
            ended = connection => {
                ended?;
                whole.await
            }
        }
    }
}

fn cure(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => "ask to be put into the group that owns the socket",
        _ => "start `pouch mission` or `pouch hub`, or name its socket with --socket",
    }
}

/// The pairs that have a value, as `?a=1&b=2`; empty for none.
fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if let Some(value) = value {
            text.push(if text.is_empty() { '?' } else { '&' });
            text.push_str(&format!("{name}={}", escaped(value)));
        }
    }
    text
}

/// `text` as one segment of a path or one value of a query (RFC 3986 section 2).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_as_id_stays_one_segment() {
        assert_eq!(escaped("../status?x=1"), "%2E%2E%2Fstatus%3Fx%3D1");
    }

    #[test]
    fn only_filters_with_a_value_are_asked_for() {
        assert_eq!(
            query(&[("after", None), ("topic", Some("a b".into())), ("limit", Some("1".into()))]),
            "?topic=a%20b&limit=1"
        );
        assert_eq!(query(&[("after", None)]), "");
    }

    #[tokio::test]
    async fn an_absent_desk_is_named_with_its_cure() {
        let folder = tempfile::tempdir().unwrap();
        let error = DeskClient::new(folder.path().join("desk.sock")).status().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }));
        assert!(error.to_string().ends_with("name its socket with --socket"), "{error}");
    }
}
