//! The channel on which a connection gets its frames from the engine, and learns that its session is over.

use std::convert::Infallible;

use tokio::sync::{mpsc, oneshot};

use crate::session::outbound::Outbound;

/// Batches of frames that wait for one connection. The exchange bounds their bytes; a desk that takes
/// nothing for so long is dropped.
const FRAMES_MAX: usize = 1_024;

/// Makes the channel on which a connection gets its frames.
pub(super) fn frames_channel() -> (FramesSender, FramesReceiver) {
    let (frames, outbound) = mpsc::channel(FRAMES_MAX);
    let (open, closed) = oneshot::channel();
    (FramesSender { frames, _open: open }, FramesReceiver { frames: outbound, closed: Closed::new(closed) })
}

/// The engine's end. Dropping it closes the session: what was sent before may still leave.
pub(super) struct FramesSender {
    pub(super) frames: mpsc::Sender<Vec<Outbound>>,
    _open: oneshot::Sender<Infallible>,
}

/// The connection's end.
pub(super) struct FramesReceiver {
    pub(super) frames: mpsc::Receiver<Vec<Outbound>>,
    pub(super) closed: Closed,
}

/// Tells a connection that its session is closed, also while frames still wait to be written.
pub(super) struct Closed {
    open: oneshot::Receiver<Infallible>,
    since: Option<tokio::time::Instant>,
}

impl Closed {
    fn new(open: oneshot::Receiver<Infallible>) -> Closed {
        Closed { open, since: None }
    }

    /// Waits for the end of the session, and says when it was first noticed.
    pub(super) async fn at(&mut self) -> tokio::time::Instant {
        if let Some(since) = self.since {
            return since;
        }
        // Nothing is ever sent: that the sender is gone is the message.
        let Err(_) = (&mut self.open).await;
        *self.since.insert(tokio::time::Instant::now())
    }
}
