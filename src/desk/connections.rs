//! Connections to the desk's API, bounded in number and in idleness: no program on the box can use up what
//! the daemon needs.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream, unix::SocketAddr},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use crate::limits;

/// A listener that accepts while fewer than [`limits::API_CONNECTIONS_MAX`] connections are open.
pub struct BoundedListener {
    listener: UnixListener,
    free: Arc<Semaphore>,
}

impl BoundedListener {
    /// Accepts from `listener`.
    pub fn new(listener: UnixListener) -> BoundedListener {
        BoundedListener { listener, free: Arc::new(Semaphore::new(limits::API_CONNECTIONS_MAX)) }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = self.free.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore of a listener is never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let idle = Box::pin(sleep(limits::API_IDLE_TIME_MAX));
        (Connection { stream, idle, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection: it ends when its client has said nothing, or taken nothing of an answer, for
/// [`limits::API_IDLE_TIME_MAX`].
pub struct Connection {
    stream: UnixStream,
    idle: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// The user at the other end, by the kernel's word.
    pub fn uid(&self) -> Option<u32> {
        self.stream.peer_cred().ok().map(|peer| peer.uid())
    }

    /// Progress begins the time anew; without any until it is over, the connection has failed.
    fn bounded<T>(
        &mut self,
        progress: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.idle.as_mut().reset(Instant::now() + limits::API_IDLE_TIME_MAX);
            return progress;
        }
        ready!(self.idle.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.bounded(read, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.bounded(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket;

    #[tokio::test]
    async fn a_connection_too_many_waits_until_another_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.sock");
        let mut listener = BoundedListener::new(socket::bind(&path).unwrap());
        let (mut clients, mut open) = (Vec::new(), Vec::new());
        for _ in 0..limits::API_CONNECTIONS_MAX {
            clients.push(UnixStream::connect(&path).await.unwrap());
            open.push(listener.accept().await);
        }
        clients.push(UnixStream::connect(&path).await.unwrap());
        let mut waiting = Box::pin(listener.accept());
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("one connection more than the bound was accepted"),
            () = tokio::task::yield_now() => {}
        }
        open.pop();
        waiting.await;
    }
}
