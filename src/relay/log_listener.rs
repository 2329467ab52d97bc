//! The audit log over HTTPS, for whoever may read it: parties and auditors, by certificate (tlog-tiles).
//!
//! Answers come from files. The engine is asked one question a connection, and the places are this listener's own:
//! no reader keeps a desk from its mail.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Shared, engine::Message, handshakes::HandshakeEnd};
use crate::{
    identity::SpiffeId,
    limits::{
        ADMIN_TIME_MAX, ENGINE_ANSWER_TIME_MAX, LOG_CONNECTION_TIME_MAX, LOG_CONNECTIONS_MAX,
        LOG_CONNECTIONS_PER_PARTY_MAX, LOG_REQUEST_BYTES_MAX,
    },
    roster::PartyNumber,
    router::policy,
    tiles::{self, Folder, Served},
    tls,
    wire::pb::GoodbyeCode,
};

/// How long accepting pauses when the system refuses.
const PAUSE: Duration = Duration::from_millis(200);

/// What all readers' connections share.
pub(super) struct LogDoor {
    shared: Arc<Shared>,
    served: Arc<dyn Folder>,
    to_engine: mpsc::Sender<Message>,
    /// At most as many as a roster has parties. The lock is held for a look-up once in each connection's life.
    places: Mutex<BTreeMap<PartyNumber, Arc<Semaphore>>>,
}

/// Whoever is at the other end.
enum Reader {
    /// It may read; its place is free again when this is dropped.
    Admitted { _place: OwnedSemaphorePermit },
    /// It may not: this it is told instead.
    Refused(StatusCode, &'static str),
}

type Answer = Response<Full<Bytes>>;

/// Accepts for ever; without a listener it waits for ever.
pub(super) async fn serve(listener: Option<TcpListener>, door: Arc<LogDoor>) -> Infallible {
    let Some(listener) = listener else { return std::future::pending().await };
    let places = Arc::new(Semaphore::new(LOG_CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await.expect("nobody closes the places");
        match listener.accept().await {
            Ok((stream, address)) => {
                let door = door.clone();
                tokio::spawn(async move {
                    door.connection(stream, address).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a reader of the audit log; pausing");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl LogDoor {
    pub(super) fn new(
        shared: Arc<Shared>,
        served: Arc<dyn Folder>,
        to_engine: mpsc::Sender<Message>,
    ) -> LogDoor {
        LogDoor { shared, served, to_engine, places: Mutex::default() }
    }

    async fn connection(&self, stream: TcpStream, address: SocketAddr) {
        let (stream, id, serial) = match self.shake_hands(stream).await {
            Ok(shaken) => shaken,
            Err((end, reason)) => return self.shared.handshakes.failed(end, address, &reason),
        };
        let reader = self.admit(id, serial).await;
        let service = service_fn(|request: Request<Incoming>| {
            let reader = &reader;
            async move { Ok::<_, Infallible>(self.answer(reader, &request).await) }
        });
        let mut http = http1::Builder::new();
        let mut serving =
            pin!(http.max_buf_size(LOG_REQUEST_BYTES_MAX).serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = tokio::time::sleep(LOG_CONNECTION_TIME_MAX) => {
                serving.as_mut().graceful_shutdown();
                timeout(ADMIN_TIME_MAX, serving).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a request for the audit log broke off");
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, SpiffeId, String), (HandshakeEnd, String)> {
        tls::set_socket_options(&stream).map_err(|error| (HandshakeEnd::Broken, error.to_string()))?;
        let acceptor = TlsAcceptor::from(tls::http_config(&self.shared.tls.load()));
        match timeout(self.shared.limits.handshake_time_max, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let peer = tls::http_peer(stream.get_ref().1);
                let (id, serial) = peer.map_err(|error| (HandshakeEnd::from(&error), error.to_string()))?;
                Ok((stream, id.spiffe().clone(), serial))
            }
            Ok(Err(error)) => match tls::explain(&error) {
                Some(words) => Err((HandshakeEnd::from(&words), words.to_string())),
                None => Err((HandshakeEnd::Broken, error.to_string())),
            },
            Err(_) => Err((HandshakeEnd::TooSlow, "the handshake took too long".to_owned())),
        }
    }

    async fn admit(&self, id: SpiffeId, serial: String) -> Reader {
        let asking = async {
            let (answer, answered) = oneshot::channel();
            self.to_engine.send(Message::AdmitReader { id, serial, answer }).await.ok()?;
            answered.await.ok()
        };
        match timeout(ENGINE_ANSWER_TIME_MAX, asking).await.ok().flatten() {
            Some(Ok(party)) => match self.place_of(party) {
                Some(place) => Reader::Admitted { _place: place },
                None => Reader::Refused(StatusCode::TOO_MANY_REQUESTS, TOO_MANY),
            },
            Some(Err(GoodbyeCode::NotReady)) | None => {
                Reader::Refused(StatusCode::SERVICE_UNAVAILABLE, NOT_READY)
            }
            Some(Err(code)) => Reader::Refused(StatusCode::FORBIDDEN, policy::admission_words(code)),
        }
    }

    fn place_of(&self, party: PartyNumber) -> Option<OwnedSemaphorePermit> {
        // Whoever panicked in between left a map that is whole.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place =
            places.entry(party).or_insert_with(|| Arc::new(Semaphore::new(LOG_CONNECTIONS_PER_PARTY_MAX)));
        place.clone().try_acquire_owned().ok()
    }

    async fn answer(&self, reader: &Reader, request: &Request<Incoming>) -> Answer {
        if let Reader::Refused(status, words) = reader {
            return told(*status, words);
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let name = request.uri().path().strip_prefix('/').filter(|_| request.uri().query().is_none());
        let Some(name) = name.filter(|_| is_read).map(str::to_owned) else { return absent() };
        let (served, is_text) = (self.served.clone(), !name.starts_with("tile/"));
        let reading = tokio::task::spawn_blocking(move || tiles::serve(&*served, &name));
        match reading.await {
            Ok(Ok(Served::Checkpoint(bytes))) => file(bytes, TEXT, CHANGES),
            Ok(Ok(Served::Tile(bytes))) => file(bytes, if is_text { TEXT } else { BINARY }, STAYS),
            Ok(Ok(Served::Absent)) => absent(),
            Ok(Err(error)) => {
                tracing::error!(%error, "a reader of the audit log met a file that cannot be served");
                told(StatusCode::INTERNAL_SERVER_ERROR, UNREADABLE)
            }
            Err(_) => told(StatusCode::INTERNAL_SERVER_ERROR, UNREADABLE),
        }
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const CHANGES: HeaderValue = HeaderValue::from_static("no-cache");
/// The answer depends on a certificate, so only its reader may keep it.
const STAYS: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

const NOT_READY: &str = "the relay is not ready; come again";
const TOO_MANY: &str = "too many connections of this party at once; close some, or use one for many requests";
const UNREADABLE: &str = "the relay cannot read this file; tell its operators";

fn absent() -> Answer {
    told(StatusCode::NOT_FOUND, "no such file of the log, or not yet")
}

fn told(status: StatusCode, words: &'static str) -> Answer {
    let mut answer = file(format!("{words}\n").into_bytes(), TEXT, CHANGES);
    *answer.status_mut() = status;
    answer
}

fn file(bytes: Vec<u8>, kind: HeaderValue, caching: HeaderValue) -> Answer {
    let mut answer = Response::new(Full::new(bytes.into()));
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer.headers_mut().insert(CACHE_CONTROL, caching);
    answer
}
