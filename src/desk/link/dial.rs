//! From an address to a TCP connection: name resolution, several places at once, an HTTP proxy.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::line::{LineError, STEP_TIME_MAX};

/// An attempt has this long before the next place of the same host is tried beside it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);
/// Places of one host that are tried; a name with more has those of its first.
const PLACES_MAX: usize = 8;
/// Bytes of a proxy's answer. A longer one is given up.
const PROXY_ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Connects to the relay at `address`, through `proxy` where there is one; both are "host:port".
///
/// # Errors
/// [`LineError`]: which step failed, and what to look at.
pub(super) async fn dial(address: &str, proxy: Option<&str>) -> Result<TcpStream, LineError> {
    let Some(proxy) = proxy else { return reach(address).await };
    let mut stream = reach(proxy).await?;
    let asking = timeout(STEP_TIME_MAX, ask(&mut stream, address)).await;
    let slow = |_| LineError::Slow { address: proxy.to_owned(), step: "asking the proxy" };
    let refused =
        |problem| LineError::Proxy { proxy: proxy.to_owned(), address: address.to_owned(), problem };
    asking.map_err(slow)?.map_err(refused)?;
    Ok(stream)
}

async fn reach(address: &str) -> Result<TcpStream, LineError> {
    let slow = |step| move |_| LineError::Slow { address: address.to_owned(), step };
    let resolve = |source| LineError::Resolve { address: address.to_owned(), source };
    let connect = |source| LineError::Connect { address: address.to_owned(), source };

    let resolving = timeout(STEP_TIME_MAX, lookup_host(address)).await;
    let places = resolving.map_err(slow("resolving"))?.map_err(resolve)?.take(PLACES_MAX).collect();
    let connecting = timeout(STEP_TIME_MAX, race(alternating(places))).await;
    connecting.map_err(slow("connecting"))?.map_err(connect)
}

/// The places in an order in which no family waits for the other: one of each in turn, the first one's first.
fn alternating(places: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_ipv6 = places.first().is_some_and(SocketAddr::is_ipv6);
    let (mut now, mut next): (VecDeque<_>, VecDeque<_>) =
        places.into_iter().partition(|place| place.is_ipv6() == first_is_ipv6);
    let mut order = VecDeque::new();
    while let Some(place) = now.pop_front() {
        order.push_back(place);
        if !next.is_empty() {
            std::mem::swap(&mut now, &mut next);
        }
    }
    order
}

/// The first connection that stands; another place is tried whenever one failed or is slow.
async fn race(mut places: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(place) = places.pop_front() {
            attempts.spawn(TcpStream::connect(place));
        }
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = io::Error::other(error),
                None => return Err(failure),
            },
            () = sleep(STAGGER), if !places.is_empty() => {}
        }
    }
}

/// Why a proxy did not connect.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyProblem {
    #[error("the connection to it broke: {0}")]
    Broken(#[from] io::Error),
    #[error("it answered {0:?}")]
    Refused(String),
    #[error("its answer is no HTTP")]
    NoHttp,
}

/// Asks for a tunnel with HTTP CONNECT (RFC 9110, 9.3.6).
async fn ask(stream: &mut TcpStream, address: &str) -> Result<(), ProxyProblem> {
    let request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == PROXY_ANSWER_BYTES_MAX {
            return Err(ProxyProblem::NoHttp);
        }
        // Byte by byte: what follows the answer is the relay's.
        answer.push(stream.read_u8().await?);
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| ProxyProblem::NoHttp)?;
    match line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(1..)) {
        Some(status) if status.starts_with(" 2") => Ok(()),
        Some(_) if line.len() <= 80 => Err(ProxyProblem::Refused(line.to_owned())),
        Some(_) | None => Err(ProxyProblem::NoHttp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A proxy that gives this answer to whoever asks, and what it was asked.
    async fn ask_proxy(answer: &'static [u8]) -> (Result<TcpStream, LineError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let proxy = listener.local_addr().expect("address").to_string();
        let serving = async {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.expect("a request"));
            }
            stream.write_all(answer).await.expect("answered");
            asked
        };
        tokio::join!(dial("relay.example:7443", Some(&proxy)), serving)
    }

    #[tokio::test]
    async fn a_proxy_that_agrees_leaves_the_line_at_the_relays_first_byte() {
        let (dialled, asked) = ask_proxy(b"HTTP/1.1 200 OK\r\nVia: 1.1 x\r\n\r\nrelay").await;
        assert_eq!(asked, b"CONNECT relay.example:7443 HTTP/1.1\r\nHost: relay.example:7443\r\n\r\n");
        let mut first = [0; 5];
        dialled.expect("a tunnel").read_exact(&mut first).await.expect("the relay's bytes");
        assert_eq!(&first, b"relay");
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_named_with_its_answer() {
        let (dialled, _) = ask_proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        let words = dialled.expect_err("refused").to_string();
        assert!(words.contains("407 Proxy Authentication Required") && words.contains("`proxy`"), "{words}");
    }

    #[tokio::test]
    async fn what_is_no_proxy_or_never_ends_its_answer_is_given_up() {
        static ENDLESS: [u8; 8 * 1024] = [b'x'; 8 * 1024];
        for answer in
            [b"SSH-2.0-x\r\n\r\n".as_slice(), b"HTTP/1.1\r\n\r\n", &ENDLESS, b"\xff\r\n\r\n", b"HTTP/1.1 2"]
        {
            let (dialled, _) = ask_proxy(answer).await;
            assert!(matches!(dialled, Err(LineError::Proxy { .. })), "{answer:?}");
        }
    }

    #[test]
    fn families_alternate_and_none_is_left_out() {
        let place = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let [a, b, c, d] = ["[::1]:1", "[::1]:2", "[::1]:3", "127.0.0.1:4"].map(place);
        assert_eq!(alternating(vec![a, b, c, d]), [a, d, b, c]);
        assert_eq!(alternating(vec![d, a]), [d, a]);
        assert!(alternating(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn a_place_that_refuses_gives_way_to_the_next_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("loopback").local_addr().expect("address");
        let open = listener.local_addr().expect("address");
        assert_eq!(race([closed, open].into()).await.expect("connected").peer_addr().expect("address"), open);
        let error = race([closed].into()).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(race(VecDeque::new()).await.expect_err("no place").kind(), io::ErrorKind::NotFound);
    }
}
