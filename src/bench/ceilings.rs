//! What disk, network and cipher do on this machine at this hour, without a relay.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::{BenchError, report::Ceilings};
use crate::{
    batch::{self, Tag},
    keys::SigningKey,
    merkle,
    pki::Example,
    tls::{self, Credentials, KeyExchange, RevocationLists},
};

/// Rounds of each measurement.
const ROUNDS: u32 = 1_000;
/// The disk is given up after this, with as many rounds as there were.
const DISK_TIME_MAX: Duration = Duration::from_secs(3);
/// Bytes of one append: the journal's boundary.
const APPEND_BYTES: usize = 4 * 1024;
const LINE_BYTES: usize = 64;

/// Measures in `folder`, with the keys of `example`. Takes about a second.
pub(super) fn measure(folder: &Path, example: &Example) -> Result<Ceilings, BenchError> {
    let file = folder.join("append");
    let append_fdatasync_p50_us = append_fdatasync(&file).map_err(BenchError::file(&file))?;
    let key = SigningKey::generate()?;
    let leaf = merkle::leaf_hash(b"an envelope's header");
    let trust_domain = &example.trust.trust_domain;
    let sign_us = mean_us(|| key.sign_batch(trust_domain, Tag::Envelope, &[leaf]));
    let proofs = key.sign_batch(trust_domain, Tag::Envelope, &[leaf]);
    let public = key.public();
    let verify_us =
        mean_us(|| batch::verify_whole(trust_domain, Tag::Envelope, &public, &[leaf], &proofs[0].signature));
    let body = vec![0x5a; 1024];
    Ok(Ceilings {
        workload: "limits",
        append_fdatasync_p50_us,
        tls_round_trip_p50_us: tls_round_trip(example)?,
        sign_us,
        verify_us,
        sha256_us_per_kib: mean_us(|| merkle::sha256(&body)),
    })
}

/// In a file that was filled and synced before, as journal segments are.
fn append_fdatasync(path: &Path) -> io::Result<f64> {
    let file = File::create(path)?;
    file.write_all_at(&vec![0; APPEND_BYTES * ROUNDS as usize], 0)?;
    file.sync_all()?;
    let bytes = vec![0x5a; APPEND_BYTES];
    let began = Instant::now();
    let mut times = Vec::new();
    for round in 0..u64::from(ROUNDS) {
        let since = Instant::now();
        file.write_all_at(&bytes, round * APPEND_BYTES as u64)?;
        file.sync_data()?;
        times.push(since.elapsed());
        if began.elapsed() > DISK_TIME_MAX {
            break;
        }
    }
    Ok(median_us(times))
}

fn tls_round_trip(example: &Example) -> Result<f64, BenchError> {
    let folder = |name: &str| example.folder.join(name);
    let trust_domain = &example.trust.trust_domain;
    let root = tls::load_root(&folder("root.pem"), &example.trust.root_key_sha256)?;
    let relay = Credentials::load(&folder("relay"))?;
    let server =
        tls::server_config(&relay, &root, trust_domain, KeyExchange::Hybrid, &RevocationLists::default())?;
    let hub = Credentials::load(&folder("hub"))?;
    let client = tls::client_config(&hub, &root, trust_domain, KeyExchange::Hybrid)?;
    let client =
        ClientConnection::new(client, tls::server_name(trust_domain)?).map_err(tls::TlsError::Setup)?;
    let on_loopback = |source| BenchError::File { path: "loopback".into(), source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(on_loopback)?;
    let address = listener.local_addr().map_err(on_loopback)?;
    let echo = thread::spawn(move || echo(&listener, server));
    let times = round_trips(client, address).map_err(on_loopback)?;
    echo.join().map_err(|_| BenchError::Wrong("the echo on loopback panicked"))?.map_err(on_loopback)?;
    Ok(median_us(times))
}

fn round_trips(client: ClientConnection, address: std::net::SocketAddr) -> io::Result<Vec<Duration>> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut stream = StreamOwned::new(client, socket);
    let mut bytes = [0x5a; LINE_BYTES];
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let since = Instant::now();
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
        times.push(since.elapsed());
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(times)
}

/// Sends back what comes, until the other end closes.
fn echo(listener: &TcpListener, config: Arc<ServerConfig>) -> io::Result<()> {
    let (socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    let mut bytes = [0; LINE_BYTES];
    for _ in 0..ROUNDS {
        stream.read_exact(&mut bytes)?;
        stream.write_all(&bytes)?;
    }
    Ok(())
}

fn mean_us<T>(mut work: impl FnMut() -> T) -> f64 {
    let since = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(work());
    }
    tenths(since.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS))
}

fn median_us(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    tenths(median.as_secs_f64() * 1e6)
}

/// Hundredths of a microsecond are noise.
fn tenths(us: f64) -> f64 {
    (us * 100.0).round() / 100.0
}
