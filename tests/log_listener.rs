//! The audit log over HTTPS, from a relay that runs: who may read it, what is there, and that it verifies.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pouch::{
    audit::{BundlePath, Checkpoint, bundles_between, tiles_between},
    desk::view::NewOrder,
    limits::LOG_CONNECTIONS_PER_PARTY_MAX,
    note::Note,
    pki::{self, Example},
    tiles::{self, DiskFolder},
    tls::{self, Credentials, KeyExchange},
};
use rustls::{ClientConnection, StreamOwned};
use support::Site;

const TIME_MAX: Duration = Duration::from_secs(60);
const DOMAIN: &str = pki::EXAMPLE_TRUST_DOMAIN;

/// One connection to the listener.
struct Reader(BufReader<StreamOwned<ClientConnection, TcpStream>>);

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reader {
    /// Connects with what lies in a box's folder; the handshake comes with the first request.
    fn connect(address: SocketAddr, pki: &Path, example: &Example, protocol: &[u8]) -> Reader {
        let root = tls::load_root(&example.folder.join("root.pem"), &example.trust.root_key_sha256).unwrap();
        let credentials = Credentials::load(pki).unwrap();
        let config = tls::client_config(&credentials, &root, DOMAIN, KeyExchange::Hybrid).unwrap();
        let mut config = (*config).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = tls::server_name(DOMAIN).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIME_MAX)).unwrap();
        Reader(BufReader::new(StreamOwned::new(connection, stream)))
    }

    fn ask(&mut self, method: &str, path: &str) -> std::io::Result<Answer> {
        write!(self.0.get_mut(), "{method} {path} HTTP/1.1\r\nHost: relay\r\n\r\n")?;
        let line = |reader: &mut BufReader<_>| -> std::io::Result<String> {
            let mut line = String::new();
            match reader.read_line(&mut line)? {
                0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(line.trim_end().to_owned()),
            }
        };
        let status = line(&mut self.0)?.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = BTreeMap::new();
        while let Some((name, value)) = line(&mut self.0)?.split_once(": ") {
            headers.insert(name.to_owned(), value.to_owned());
        }
        let length = if method == "HEAD" { 0 } else { headers["content-length"].parse().unwrap() };
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Answer { status, headers, body })
    }

    fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path).unwrap()
    }
}

/// A relay that shows its log on an address, and a way to connect there.
struct World {
    site: Site,
    address: SocketAddr,
}

impl World {
    fn new() -> World {
        let mut parties = pki::example_parties();
        parties.push(pki::example_party("auditor/court", "COURT", "Court of Auditors"));
        let (mut site, address) = (Site::of(&parties), support::free_address());
        site.start_with("relay", &format!("log_listen = \"{address}\"\n"));
        let world = World { site, address };
        // The first roster is beside the log as soon as it is in force.
        world.until("court", "/roster/1", |answer| answer.status == 200);
        world
    }

    fn reader(&self, party: &str) -> Reader {
        let example = self.site.example();
        Reader::connect(self.address, &example.folder.join(party), example, tls::HTTP_ALPN)
    }

    /// Asks until the answer is as wanted, on a new connection each time.
    fn until(&self, party: &str, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let end = std::time::Instant::now() + TIME_MAX;
        loop {
            let answer = TcpStream::connect(self.address).map(|_| self.reader(party).ask("GET", path));
            if let Ok(Ok(answer)) = answer
                && wanted(&answer)
            {
                return answer;
            }
            assert!(std::time::Instant::now() < end, "{}", self.site.last_words("relay"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn an_auditor_reads_the_whole_log_over_https_and_verifies_it_alone() {
    let mut world = World::new();
    ["idn", "mys", "phl"].into_iter().for_each(|desk| world.site.start(desk));
    let checkpoint = world.until("court", "/checkpoint", |answer| answer.status == 200);
    assert_eq!(checkpoint.headers["cache-control"], "no-cache");
    assert_eq!(checkpoint.headers["content-type"], "text/plain; charset=utf-8");
    let note = Note::parse(&checkpoint.body).unwrap();
    let size = note.text().parse::<Checkpoint>().unwrap().size;

    let copy = tempfile::tempdir().unwrap();
    let keep = |name: &str, bytes: &[u8]| {
        let path = copy.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    keep("checkpoint", &checkpoint.body);
    let tiles = tiles_between(0, size).into_iter().map(|path| path.to_string());
    let bundles = bundles_between(0, size).into_iter().map(|path| path.to_string());
    let mut reader = world.reader("court");
    for name in tiles.chain(bundles) {
        let tile = reader.get(&format!("/{name}"));
        assert_eq!(tile.status, 200, "{name}");
        assert_eq!(tile.headers["cache-control"], "private, max-age=31536000, immutable");
        assert_eq!(tile.headers["content-type"], "application/octet-stream");
        keep(&name, &tile.body);
    }
    let roster = reader.get("/roster/1");
    assert_eq!(roster.headers["content-type"], "text/plain; charset=utf-8");
    keep("roster/1", &roster.body);

    let folder = DiskFolder::observe(copy.path());
    let found = tiles::verify(&folder, &world.site.example().trust, None).unwrap();
    assert_eq!((found.checkpoint.size, found.is_witnessed), (size, true));
}

#[test]
fn the_log_verifies_straight_from_the_relays_address() {
    let mut world = World::new();
    ["idn", "mys", "phl"].into_iter().for_each(|desk| world.site.start(desk));
    world.until("court", "/checkpoint", |answer| answer.status == 200);
    let folder = world.site.example().folder.clone();
    let verify = |url: &str, pki: &str, more: &[&str]| {
        let mut pouch = std::process::Command::new(env!("CARGO_BIN_EXE_pouch"));
        pouch.args(["audit", "verify", url, "--trust", "court/trust.toml", "--pki", pki]).args(more);
        let output = pouch.current_dir(&folder).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let url = format!("https://{}", world.address);
    let (code, words) = verify(&url, "court", &[]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("all tiles fit"), "{words}");
    let (code, words) = verify(&url, "court", &["--root", "relay/root.pem"]);
    assert_eq!(code, Some(0), "{words}");

    let (code, words) = verify(&url, "relay", &[]);
    assert_eq!(code, Some(3), "the relay's own certificate is for no reader: {words}");
    let nobody = support::free_address();
    let (code, words) = verify(&format!("https://{nobody}"), "court", &[]);
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("`log_listen`"), "{words}");
}

#[test]
fn whatever_is_no_file_of_the_log_is_not_found() {
    let world = World::new();
    let mut reader = world.reader("court");
    let beyond = format!("/{}", BundlePath::in_log(9_999, 10_000_000).unwrap());
    let paths = [
        "/",
        "/signed",
        "/log.kept/signed",
        "/../journal",
        "/tile/../../journal",
        "/tile/8/0/000",
        "/tile/0/0",
        "/roster/2",
        "/roster/01",
        "/roster/1?x=1",
        "/%72oster/1",
        "//roster/1",
        "/metrics",
        "/v1/status",
        &beyond,
    ];
    for path in paths {
        let answer = reader.get(path);
        assert_eq!((answer.status, answer.headers["cache-control"].as_str()), (404, "no-cache"), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(reader.ask(method, "/roster/1").unwrap().status, 404, "{method}");
    }
    let (whole, head) = (reader.get("/roster/1"), reader.ask("HEAD", "/roster/1").unwrap());
    assert_eq!((head.status, &head.headers["content-length"]), (200, &whole.headers["content-length"]));
    let long = format!("/{}", "x".repeat(9_000));
    assert!(matches!(reader.get(&long).status, 414 | 431), "a request has a bound");
    assert!(reader.ask("GET", "/roster/1").is_err(), "and is the connection's last");
}

#[test]
fn strangers_the_relay_itself_and_desks_in_their_own_protocol_read_nothing() {
    let world = World::new();
    let example = world.site.example();
    let other = tempfile::tempdir().unwrap();
    let parties = [pki::example_party("relay/a", "R", "R"), pki::example_party("auditor/court", "C", "C")];
    pki::make_example(&other.path().join("pki"), &parties, &[], SystemTime::now()).unwrap();
    let attempts = [
        ("another CA", other.path().join("pki/court"), tls::HTTP_ALPN),
        ("the relay", example.folder.join("relay"), tls::HTTP_ALPN),
        ("pouch/1", example.folder.join("idn"), tls::ALPN),
    ];
    for (what, pki, protocol) in attempts {
        let mut reader = Reader::connect(world.address, &pki, example, protocol);
        assert!(reader.ask("GET", "/roster/1").is_err(), "{what}");
    }
    // And no HTTP where desks connect.
    let pki = example.folder.join("idn");
    let mut reader = Reader::connect(world.site.address(), &pki, example, tls::HTTP_ALPN);
    assert!(reader.ask("GET", "/roster/1").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_party_is_refused_until_the_order_is_lifted() {
    let mut world = World::new();
    world.site.start("hub");
    let hub = world.site.desk("hub");
    let order = |kind: &str| NewOrder { kind: kind.into(), party: "IDN".into(), ..NewOrder::default() };
    for (kind, status) in [("suspend", 403), ("lift", 200)] {
        while hub.order(&order(kind)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::task::block_in_place(|| {
            let answer = world.reader("idn").get("/roster/1");
            assert_eq!(answer.status, status, "{kind}");
            let words = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(words.contains("telephone the ministry"), status == 403, "{words}");
            assert_eq!(world.reader("mys").get("/roster/1").status, 200);
        });
    }
}

#[test]
fn one_party_cannot_take_the_places_of_all() {
    let world = World::new();
    let mut open: Vec<Reader> = (0..LOG_CONNECTIONS_PER_PARTY_MAX).map(|_| world.reader("idn")).collect();
    // Each has its place when it is answered.
    open.iter_mut().for_each(|reader| assert_eq!(reader.get("/roster/1").status, 200));
    assert_eq!(world.reader("idn").get("/roster/1").status, 429);
    assert_eq!(world.reader("mys").get("/roster/1").status, 200);
    open.pop();
    world.until("idn", "/roster/1", |answer| answer.status == 200);
}
