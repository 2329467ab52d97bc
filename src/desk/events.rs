//! `GET /v1/events`: server-sent events that wake a reader up. What happened, the reader then asks: its
//! cursor says how far it has come, so a lost event loses nothing.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use tokio::{sync::watch, time::timeout};

use crate::desk::handle::DeskHandle;

/// A comment goes out after so long without an event, so that both sides notice a dead connection.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// Events that wait for a slow reader; changes meanwhile become one.
const EVENTS_MAX: usize = 1;

/// One event at once, unless the reader names the newest as its last, and one after each change.
pub(super) fn response(desk: DeskHandle, over: watch::Receiver<bool>, headers: &HeaderMap) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let last = last.and_then(|id| id.parse().ok());
    let (sender, body) = Channel::new(EVENTS_MAX);
    tokio::spawn(tell(desk, over, last, sender));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(body)).into_response()
}

/// What ends a wait for a change.
enum Next {
    Changed,
    Over,
    Quiet,
}

/// Ends with the reader, the desk or the store.
async fn tell(
    desk: DeskHandle,
    mut over: watch::Receiver<bool>,
    last: Option<u64>,
    mut sender: Sender<Bytes, Infallible>,
) {
    let mut changes = desk.changes();
    let mut known = last;
    loop {
        changes.borrow_and_update();
        let Ok(register) = desk.last_register().await else { return };
        if known.take() != Some(register) {
            let event = format!("id: {register}\nevent: change\ndata: {{\"register\":{register}}}\n\n");
            if !said(&mut sender, &mut over, event.into()).await {
                return;
            }
        }
        loop {
            let next = tokio::select! {
                changed = timeout(COMMENT_EVERY, changes.changed()) => match changed {
                    Ok(Ok(())) => Next::Changed,
                    Ok(Err(_)) => Next::Over,
                    Err(_) => Next::Quiet,
                },
                _ = over.wait_for(|over| *over) => Next::Over,
            };
            match next {
                Next::Changed => break,
                Next::Over => return,
                Next::Quiet => {
                    if !said(&mut sender, &mut over, Bytes::from_static(b":\n\n")).await {
                        return;
                    }
                }
            }
        }
    }
}

/// Waits for a slow reader, but not beyond the desk's end; false where either is gone.
async fn said(sender: &mut Sender<Bytes, Infallible>, over: &mut watch::Receiver<bool>, text: Bytes) -> bool {
    tokio::select! {
        sent = sender.send_data(text) => sent.is_ok(),
        _ = over.wait_for(|over| *over) => false,
    }
}
