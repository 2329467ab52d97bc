//! A witness over plain HTTP (tlog-witness, `add-checkpoint`): the same bytes as on the session, for logs' tools and
//! other witnesses' collectors.
//!
//! Nobody here proves who asks, so nothing is fetched for anybody, and nothing is learnt: what is cosigned is the one
//! checkpoint whose every leaf the desk has followed on its session and made durable before. Of a larger one that is
//! consistent it says "not yet".

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    routing::post,
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    audit::{AddCheckpoint, Answer, Checkpoint, LogTrust, witness_name},
    desk::{
        link::forked,
        store::{FORKED, StoreThread, Verified},
    },
    identity::SpiffeId,
    keys::SigningKey,
    limits::{ADD_CHECKPOINT_BYTES_MAX, WITNESS_REQUESTS_PER_S_MAX},
    note::Note,
    roster::Roster,
};

/// What the desk's cosignatures are made from.
pub struct WitnessDoor {
    id: SpiffeId,
    witness: Arc<SigningKey>,
    store: StoreThread,
    /// Locked for the counting alone.
    rate: Mutex<Rate>,
}

/// Requests of one second.
#[derive(Debug)]
struct Rate {
    since: Instant,
    requests: u32,
}

impl Rate {
    fn new() -> Rate {
        Rate { since: Instant::now(), requests: 0 }
    }

    /// Whether one more may be answered in this second.
    fn has_room(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Rate::new();
        }
        self.requests = self.requests.saturating_add(1);
        self.requests <= WITNESS_REQUESTS_PER_S_MAX
    }
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// As the specification has it.
    Answer(Answer),
    /// Two checkpoints of one size: a fork, and both are signed by the log.
    Forked(u64),
    /// Cosign this checkpoint.
    Cosign(Checkpoint),
    /// It follows what was verified, and its leaves were not looked at yet.
    NotYet,
}

impl WitnessDoor {
    /// A door of this desk.
    pub fn new(id: SpiffeId, witness: Arc<SigningKey>, store: StoreThread) -> WitnessDoor {
        WitnessDoor { id, witness, store, rate: Mutex::new(Rate::new()) }
    }

    /// `POST /add-checkpoint`, and nothing else.
    pub fn routes(self) -> Router {
        let limit = DefaultBodyLimit::max(ADD_CHECKPOINT_BYTES_MAX);
        Router::new().route("/add-checkpoint", post(add_checkpoint).layer(limit)).with_state(Arc::new(self))
    }

    fn has_room(&self) -> bool {
        // Whoever panicked in between left a count that is right or one too low.
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).has_room()
    }

    fn cosign(&self, checkpoint: &Checkpoint) -> Answer {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let line = self.witness.cosign(&witness_name(&self.id), now, &checkpoint.to_string());
        Answer::Cosigned(line.expect("a SPIFFE ID names a witness").to_string())
    }
}

async fn add_checkpoint(State(door): State<Arc<WitnessDoor>>, body: Bytes) -> Response {
    if !door.has_room() {
        return later(StatusCode::TOO_MANY_REQUESTS, "1", "too many requests: come again in a second\n");
    }
    let held =
        door.store.ask(|store| Ok((store.facts()?.roster, store.verified()?, store.trusts_log()?))).await;
    let Ok((Some(roster), verified, trusts_log)) = held else {
        return later(StatusCode::SERVICE_UNAVAILABLE, "60", "this witness has no roster yet\n");
    };
    let answer = match said(&body, &verified, &roster) {
        Said::Answer(answer) => answer,
        Said::Cosign(_) if !trusts_log => {
            let words = "an alarm about this log is open at this witness: it cosigns nothing\n";
            return later(StatusCode::SERVICE_UNAVAILABLE, "600", words);
        }
        Said::Cosign(checkpoint) => door.cosign(&checkpoint),
        Said::NotYet => {
            let words = "this witness has not yet read every leaf below it: come again\n";
            return later(StatusCode::SERVICE_UNAVAILABLE, "10", words);
        }
        Said::Forked(size) => {
            let now = Timestamp::now();
            let alarm =
                door.store.ask(move |store| Ok(store.doubt_log(FORKED, &forked(size), &body, now)?));
            if let Err(error) = alarm.await {
                tracing::error!(%error, size, "a fork of the audit log, and no alarm can be kept");
            }
            Answer::BadProof
        }
    };
    let status = StatusCode::from_u16(answer.status()).expect("a status of HTTP");
    let kind = if matches!(answer, Answer::Conflict(_)) { SIZE } else { TEXT };
    (status, [(CONTENT_TYPE, kind)], answer.body()).into_response()
}

/// Of all that was verified, one checkpoint can be cosigned: the newest.
fn said(request: &[u8], verified: &Verified, roster: &Roster) -> Said {
    let request = str::from_utf8(request).ok().and_then(|text| text.parse::<AddCheckpoint>().ok());
    let Some(request) = request else { return Said::Answer(Answer::Malformed) };
    let trust = LogTrust::of(roster);
    let last = Note::parse(&verified.note).ok().and_then(|note| note.text().parse::<Checkpoint>().ok());
    let last = last.filter(|last| last.origin == trust.origin());
    match request.check(last.as_ref(), &trust) {
        Ok(checkpoint) if Some(&checkpoint) == last.as_ref() => Said::Cosign(checkpoint),
        Ok(_) => Said::NotYet,
        Err(Answer::BadProof) => {
            // A wrong path is anybody's; two signed roots of one size are the log's alone.
            let signed = trust.open(request.checkpoint.as_bytes()).map(|signed| signed.checkpoint);
            match (signed, last) {
                (Ok(signed), Some(last)) if signed.size == last.size && signed.root != last.root => {
                    Said::Forked(last.size)
                }
                _ => Said::Answer(Answer::BadProof),
            }
        }
        Err(answer) => Said::Answer(answer),
    }
}

fn later(status: StatusCode, seconds: &'static str, words: &'static str) -> Response {
    (status, [(RETRY_AFTER, seconds), (CONTENT_TYPE, TEXT)], words).into_response()
}

const TEXT: &str = "text/plain; charset=utf-8";
const SIZE: &str = "text/x.tlog.size";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_have_a_rate() {
        let mut rate = Rate::new();
        for _ in 0..2 {
            assert!((0..WITNESS_REQUESTS_PER_S_MAX).all(|_| rate.has_room()));
            assert!(!rate.has_room() && !rate.has_room());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
