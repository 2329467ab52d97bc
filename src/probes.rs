//! What operators and monitoring systems ask of any daemon: is it alive, is it ready, how does it do.
//!
//! Answers on the routes made here name nobody, so that an address without passwords may give them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    exposition,
    limits::{ADMIN_CONNECTIONS_MAX, ADMIN_CONNECTIONS_PER_ADDRESS_MAX, ADMIN_TIME_MAX},
    service,
};

/// So often within its time is the watchdog fed: one answer may come late.
const WATCHDOG_SHARE: u32 = 3;
/// How long accepting pauses when the system refuses.
const PAUSE: Duration = Duration::from_millis(200);

/// A daemon that answers probes.
pub trait Probed: Send + Sync + 'static {
    /// All that can be counted now, in Prometheus' text format. No content, subject or name.
    fn metrics(&self) -> impl Future<Output = String> + Send;

    /// What keeps the daemon from its work, a line each with what to do; empty when it is ready.
    fn not_ready(&self) -> impl Future<Output = Vec<String>> + Send;

    /// Whether the threads that the daemon's work hangs on answer. One that only waits for others makes progress.
    fn gets_on(&self) -> impl Future<Output = bool> + Send;
}

/// Feeds the service manager's watchdog while the daemon gets on, and for ever; where there is no watchdog, it
/// does nothing.
pub async fn feed_watchdog<D: Probed>(daemon: Arc<D>) -> Infallible {
    match service::watchdog_time() {
        Some(time) => feed(&*daemon, time / WATCHDOG_SHARE, service::alive).await,
        None => std::future::pending().await,
    }
}

async fn feed<D: Probed>(daemon: &D, every: Duration, alive: impl Fn()) -> Infallible {
    loop {
        if daemon.gets_on().await {
            alive();
        }
        tokio::time::sleep(every).await;
    }
}

/// `/metrics`, `/livez` and `/readyz` of a daemon. Alive is whoever answers.
pub fn routes<D: Probed>(daemon: Arc<D>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::<D>))
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readiness::<D>))
        .with_state(daemon)
}

async fn metrics<D: Probed>(State(daemon): State<Arc<D>>) -> Response {
    ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], daemon.metrics().await).into_response()
}

async fn readiness<D: Probed>(State(daemon): State<Arc<D>>) -> Response {
    match daemon.not_ready().await {
        missing if missing.is_empty() => "ready\n".into_response(),
        missing => (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response(),
    }
}

/// Where operators connect, and what is answered there.
pub struct Doors {
    /// A socket that the file system guards, with what it answers.
    pub local: Option<(UnixListener, Router)>,
    /// An address that anybody may reach, with what names nobody.
    pub open: Option<(TcpListener, Router)>,
}

/// Listens on the address of the configuration, where there is one.
///
/// # Errors
/// The address, and what the system says.
pub async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, (SocketAddr, io::Error)> {
    match address {
        Some(address) => TcpListener::bind(address).await.map(Some).map_err(|source| (address, source)),
        None => Ok(None),
    }
}

/// Where a request over an open door comes from: an address, or all of an IPv6 network of 64 bits, which one machine may
/// have to itself. An extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller(IpAddr);

impl Caller {
    /// By the address that the system gives.
    pub fn of(address: IpAddr) -> Caller {
        match address.to_canonical() {
            IpAddr::V6(address) => Caller(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
            address @ IpAddr::V4(_) => Caller(address),
        }
    }
}

/// Places of each caller that has one.
#[derive(Debug, Default)]
struct Callers(BTreeMap<Caller, Arc<Semaphore>>);

impl Callers {
    /// A place for one more connection; `None` where the caller has taken all of its own.
    fn place(&mut self, caller: Caller) -> Option<OwnedSemaphorePermit> {
        self.0.retain(|_, places| places.available_permits() < ADMIN_CONNECTIONS_PER_ADDRESS_MAX);
        let places = self.0.entry(caller);
        let places = places.or_insert_with(|| Arc::new(Semaphore::new(ADMIN_CONNECTIONS_PER_ADDRESS_MAX)));
        places.clone().try_acquire_owned().ok()
    }
}

/// Answers one request a connection, [`ADMIN_CONNECTIONS_MAX`] at once, until it is dropped.
pub async fn serve(doors: Doors) -> Infallible {
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let mut callers = Callers::default();
    loop {
        let place = places.clone().acquire_owned().await.expect("nobody closes the places");
        let accepted = tokio::select! {
            accepted = accept_unix(&doors.local) => {
                accepted.map(|(stream, routes)| answer(stream, routes.clone(), vec![place]))
            }
            accepted = accept_tcp(&doors.open) => accepted.map(|(stream, address, routes)| {
                let caller = Caller::of(address.ip());
                if let Some(own) = callers.place(caller) {
                    answer(stream, routes.clone().layer(Extension(caller)), vec![place, own]);
                }
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "cannot accept an operator's connection; pausing");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn accept_unix(door: &Option<(UnixListener, Router)>) -> io::Result<(UnixStream, &Router)> {
    match door {
        Some((listener, routes)) => listener.accept().await.map(|(stream, _)| (stream, routes)),
        None => std::future::pending().await,
    }
}

async fn accept_tcp(door: &Option<(TcpListener, Router)>) -> io::Result<(TcpStream, SocketAddr, &Router)> {
    match door {
        Some((listener, routes)) => {
            listener.accept().await.map(|(stream, address)| (stream, address, routes))
        }
        None => std::future::pending().await,
    }
}

/// Serves one request on a connection, within a time; its places are free again then.
fn answer<S>(stream: S, routes: Router, places: Vec<OwnedSemaphorePermit>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(routes);
    tokio::spawn(async move {
        let mut http = http1::Builder::new();
        let serving = http.keep_alive(false).serve_connection(TokioIo::new(stream), service);
        match timeout(ADMIN_TIME_MAX, serving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an operator's request broke off"),
            Err(_) => tracing::debug!("an operator's request took too long"),
        }
        drop(places);
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_caller_has_so_many_connections_at_once_and_takes_no_other_callers() {
        let caller = |address: &str| Caller::of(address.parse().expect("an address"));
        let mut callers = Callers::default();
        let (one, other) = (caller("192.0.2.1"), caller("2001:db8:0:1::1"));
        let mut held: Vec<_> = (0..ADMIN_CONNECTIONS_PER_ADDRESS_MAX).map(|_| callers.place(one)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(callers.place(one).is_none() && callers.place(caller("::ffff:192.0.2.1")).is_none());
        assert!(callers.place(other).is_some());
        assert_eq!(other, caller("2001:db8:0:1:ffff::2"), "one machine has the whole network");
        held.pop();
        assert!(callers.place(one).is_some());
        drop(held);
        assert!(callers.place(other).is_some());
        assert_eq!(callers.0.len(), 1, "who has left is forgotten");
    }

    /// Gets on for so many questions, and then no more.
    struct Stalls {
        after: u32,
        asked: AtomicU32,
    }

    impl Probed for Stalls {
        async fn metrics(&self) -> String {
            String::new()
        }

        async fn not_ready(&self) -> Vec<String> {
            Vec::new()
        }

        async fn gets_on(&self) -> bool {
            self.asked.fetch_add(1, Ordering::Relaxed) < self.after
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_only_while_the_daemon_gets_on() {
        let (daemon, fed) = (Stalls { after: 3, asked: AtomicU32::new(0) }, AtomicU32::new(0));
        let count = || {
            fed.fetch_add(1, Ordering::Relaxed);
        };
        let feeding = feed(&daemon, Duration::from_secs(20), count);
        assert!(timeout(Duration::from_secs(590), feeding).await.is_err());
        assert_eq!((daemon.asked.into_inner(), fed.into_inner()), (30, 3));
    }
}
