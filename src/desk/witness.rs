//! A witness over plain HTTP (tlog-witness, `add-checkpoint`): the same bytes as on the session, for logs' tools and
//! other witnesses' collectors.
//!
//! Nobody here proves who asks, so nothing is fetched for anybody, and nothing is learnt: what is cosigned is the one
//! checkpoint whose every leaf the desk has followed on its session and made durable before. Of a larger one that is
//! consistent it says "not yet".

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Router,
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
    limits::{ADD_CHECKPOINT_BYTES_MAX, WITNESS_REQUESTS_PER_ADDRESS_PER_S_MAX, WITNESS_REQUESTS_PER_S_MAX},
    note::Note,
    probes::Caller,
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

/// Requests that were let in within one second: no more than [`WITNESS_REQUESTS_PER_S_MAX`], so no more callers either.
#[derive(Debug)]
struct Rate {
    since: Instant,
    requests: u32,
    by_caller: BTreeMap<Caller, u32>,
}

impl Rate {
    fn new() -> Rate {
        Rate { since: Instant::now(), requests: 0, by_caller: BTreeMap::new() }
    }

    /// Whether one more of this caller may be answered in this second. What is turned away is not counted, so that
    /// whoever asks too often leaves the others their share.
    fn has_room(&mut self, caller: Caller) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Rate::new();
        }
        let own = self.by_caller.get(&caller).copied().unwrap_or(0);
        let has_room =
            self.requests < WITNESS_REQUESTS_PER_S_MAX && own < WITNESS_REQUESTS_PER_ADDRESS_PER_S_MAX;
        if has_room {
            self.requests += 1;
            self.by_caller.insert(caller, own + 1);
        }
        has_room
    }
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// As the specification has it.
    Answer(Answer),
    /// The log signed it, and it is no larger than what was verified: a fork, where its root is another one; else this.
    Old(Checkpoint, Answer),
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

    fn has_room(&self, caller: Caller) -> bool {
        // Whoever panicked in between left a count that is right or one too low.
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).has_room(caller)
    }

    /// Raises the alarm where the log has signed another root than this desk has verified at that size. A store that
    /// cannot tell any more accuses nobody.
    async fn is_fork(&self, signed: Checkpoint, request: Bytes) -> bool {
        let size = signed.size;
        let now = Timestamp::now();
        let looked = self.store.ask(move |store| {
            let is_fork = store.root_at(size)?.is_some_and(|root| root != signed.root);
            if is_fork {
                store.doubt_log(FORKED, &forked(size), &request, now)?;
            }
            Ok(is_fork)
        });
        looked.await.unwrap_or_else(|error| {
            tracing::error!(%error, size, "an old checkpoint cannot be held against the audit log");
            false
        })
    }

    fn cosign(&self, checkpoint: &Checkpoint) -> Answer {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let line = self.witness.cosign(&witness_name(&self.id), now, &checkpoint.to_string());
        Answer::Cosigned(line.expect("a SPIFFE ID names a witness").to_string())
    }
}

async fn add_checkpoint(
    State(door): State<Arc<WitnessDoor>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    if !door.has_room(caller) {
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
        Said::Old(signed, answer) => match door.is_fork(signed, body).await {
            true => Answer::BadProof,
            false => answer,
        },
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
        Err(answer) => {
            // A wrong size or path is anybody's; another root than was verified, signed by the log, is the log's alone.
            let signed = trust.open(request.checkpoint.as_bytes()).map(|signed| signed.checkpoint);
            match (signed, last) {
                (Ok(signed), Some(last)) if signed.size <= last.size => Said::Old(signed, answer),
                _ => Said::Answer(answer),
            }
        }
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
        let caller = |last: u8| Caller::of([192, 0, 2, last].into());
        for _ in 0..2 {
            // A stranger who asks as often as it can leaves the others theirs.
            let answered = (0..1_000).filter(|_| rate.has_room(caller(0))).count();
            assert_eq!(answered, WITNESS_REQUESTS_PER_ADDRESS_PER_S_MAX as usize);
            assert!(rate.has_room(caller(1)));
            let answered = (1..=255).filter(|last| rate.has_room(caller(*last))).count();
            assert_eq!(
                answered as u32,
                WITNESS_REQUESTS_PER_S_MAX - WITNESS_REQUESTS_PER_ADDRESS_PER_S_MAX - 1
            );
            assert_eq!(
                rate.by_caller.len() as u32,
                WITNESS_REQUESTS_PER_S_MAX - WITNESS_REQUESTS_PER_ADDRESS_PER_S_MAX
            );
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
