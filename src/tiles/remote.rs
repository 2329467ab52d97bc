//! A log that lies behind an address: over HTTPS at a relay, or over plain HTTP where somebody mirrors its files.
//! What comes is as little believed as what lies in a folder, so a mirror needs no secrecy and no trust.

use std::{
    fmt, io,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, runtime::Runtime, time::timeout};
use tokio_rustls::TlsConnector;

use super::{CHECKPOINT_FILE, Folder};
use crate::{
    limits::{CHECKPOINT_BYTES_MAX, LOG_BUNDLE_BYTES_MAX, REMOTE_FILE_TIME_MAX, ROSTER_BYTES_MAX},
    tls,
};

/// Where a log is read: `https://HOST:PORT/PATH`, or the same with `http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogUrl {
    is_https: bool,
    /// Host and port.
    address: String,
    /// As in the URL, for the Host header.
    authority: String,
    /// Without a slash at its end.
    path: String,
}

/// A text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write the log's address as https://HOST:PORT, or http://HOST:PORT/PATH for a mirror")]
pub struct NoLogUrl;

impl LogUrl {
    /// Whether a text is meant as a URL and not as a folder.
    pub fn is_meant(text: &str) -> bool {
        text.contains("://")
    }

    /// Whether certificates are needed.
    pub fn is_https(&self) -> bool {
        self.is_https
    }
}

impl FromStr for LogUrl {
    type Err = NoLogUrl;

    fn from_str(text: &str) -> Result<LogUrl, NoLogUrl> {
        let uri: Uri = text.parse().map_err(|_| NoLogUrl)?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(NoLogUrl),
        };
        let authority = uri.authority().ok_or(NoLogUrl)?;
        if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(NoLogUrl);
        }
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Ok(LogUrl {
            is_https,
            address: format!("{}:{port}", authority.host()),
            authority: authority.to_string(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for LogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.is_https { "https" } else { "http" }, self.authority, self.path)
    }
}

/// TLS of whoever reads a relay's log, made by [`tls::http_client_config`].
pub type ReaderTls = (Arc<ClientConfig>, ServerName<'static>);

/// A log's files behind an address, one request after the other. A file of more bytes than one of its kind can have, or
/// one that takes more than a minute, is an error.
pub struct RemoteFolder {
    url: LogUrl,
    tls: Option<ReaderTls>,
    runtime: Runtime,
    /// Kept for the next file. The lock is held while one is read: there is one reader.
    connection: Mutex<Option<Sender>>,
}

type Sender = http1::SendRequest<Empty<Bytes>>;

impl RemoteFolder {
    /// Reads nothing yet. `tls` is for an `https` address.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(url: LogUrl, tls: Option<ReaderTls>) -> io::Result<RemoteFolder> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(RemoteFolder { url, tls, runtime, connection: Mutex::new(None) })
    }

    async fn connect(&self) -> io::Result<Sender> {
        let stream = TcpStream::connect(&self.url.address).await?;
        match (&self.tls, self.url.is_https) {
            (Some((config, name)), true) => {
                let connected = TlsConnector::from(config.clone()).connect(name.clone(), stream).await;
                // A refusal of the peer's certificate says more in our words than in TLS's.
                let stream = connected.map_err(|error| match tls::explain(&error) {
                    Some(words) => io::Error::other(words),
                    None => error,
                })?;
                shaken(stream).await
            }
            (None, true) => Err(io::Error::other("https needs the certificate of a party or an auditor")),
            (_, false) => shaken(stream).await,
        }
    }

    async fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let kept = self.kept().take();
        let (mut sender, is_fresh) = match kept.filter(|sender| !sender.is_closed()) {
            Some(sender) => (sender, false),
            None => (self.connect().await?, true),
        };
        let answer = match self.ask(&mut sender, name).await {
            // The other side may close a connection that was idle at the very moment it is used.
            Err(_) if !is_fresh => {
                sender = self.connect().await?;
                self.ask(&mut sender, name).await
            }
            answer => answer,
        };
        *self.kept() = Some(sender);
        answer
    }

    fn kept(&self) -> MutexGuard<'_, Option<Sender>> {
        // Whoever panicked in between left a connection, or none.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, sender: &mut Sender, name: &str) -> io::Result<Option<Vec<u8>>> {
        let request = Request::get(format!("{}/{name}", self.url.path)).header(HOST, &self.url.authority);
        let request = request.body(Empty::new()).map_err(io::Error::other)?;
        sender.ready().await.map_err(broken)?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), bytes_max(name)).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        match status {
            StatusCode::OK => Ok(Some(body.into())),
            StatusCode::NOT_FOUND => Ok(None),
            _ => {
                let words: String = String::from_utf8_lossy(&body).trim().chars().take(WORDS_MAX).collect();
                Err(io::Error::other(format!("the answer is {}: {words}", status.as_u16())))
            }
        }
    }
}

impl Folder for RemoteFolder {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.runtime.block_on(async {
            let asking = timeout(REMOTE_FILE_TIME_MAX, self.get(path)).await;
            asking.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        })
    }

    fn make(&self, _: &[(String, Vec<u8>)]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn show(&self, _: &[String]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nobody lists files over HTTP: a partial tile is there under its own width, or the full one is.
    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

async fn shaken<S>(stream: S) -> io::Result<Sender>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the runtime, or when the other side closes; whoever asks meanwhile hears of an error.
    tokio::spawn(connection);
    Ok(sender)
}

/// What a client's refused certificate shows as comes with its first read.
fn broken(error: hyper::Error) -> io::Error {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(tls::explain) {
        Some(words) => io::Error::other(words),
        None => io::Error::other(error),
    }
}

fn bytes_max(name: &str) -> usize {
    if name == CHECKPOINT_FILE {
        CHECKPOINT_BYTES_MAX
    } else if name.starts_with("roster/") {
        ROSTER_BYTES_MAX
    } else {
        LOG_BUNDLE_BYTES_MAX
    }
}

/// Characters of an answer that are shown to a person.
const WORDS_MAX: usize = 200;
