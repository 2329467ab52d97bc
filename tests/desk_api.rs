//! The desk's API over its socket, on a real store without a relay.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use pouch::alarms::Alarms;
use pouch::batch::PublicKey;
use pouch::desk::api;
use pouch::desk::client::{ClientError, DeskClient};
use pouch::desk::handle::DeskHandle;
use pouch::desk::probed::ProbedDesk;
use pouch::desk::status::LinkStatus;
use pouch::desk::store::{Room, Store, StoreError, StoreThread};
use pouch::desk::view::{
    ApiError, Commit, Cursor, InboxFilter, LIST_MAX, Mark, NewDispatch, Outgoing, REQUEST_BYTES_MAX, Step,
};
use pouch::keys::SigningKey;
use pouch::pki::{example_parties, make_example};
use pouch::probes;
use pouch::socket;
use pouch::wire::pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Long enough for a slow machine, short enough to tell a wake-up from a time-out.
const SOON: Duration = Duration::from_secs(10);

/// The desk of Indonesia's mission, offline.
struct Served {
    client: DeskClient,
    store: StoreThread,
    sign: Arc<SigningKey>,
    stop: watch::Sender<bool>,
    server: JoinHandle<std::io::Result<()>>,
    _link: watch::Sender<LinkStatus>,
    _folder: tempfile::TempDir,
}

impl Served {
    async fn start() -> Served {
        Served::signing_with(None).await
    }

    /// The same, whose sign key has this public half.
    async fn signing_with(signs: Option<PublicKey>) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let parties = example_parties();
        let example = make_example(&folder.path().join("pki"), &parties, &[], SystemTime::now()).unwrap();
        let own = parties.iter().find(|party| party.code == "IDN").unwrap();
        let own_folder = example.party_folder(&own.id);

        let mut store = Store::open(&folder.path().join("store"), own.id.clone(), &example.trust).unwrap();
        let note = std::fs::read(own_folder.join("roster.note")).unwrap();
        store.learn_roster(None, example.roster.clone().into(), &note).unwrap();
        let (store, _thread) = StoreThread::start(store).unwrap();
        let link = watch::Sender::new(LinkStatus::starting(Timestamp::now()));
        let handle = DeskHandle::new(store.clone(), link.subscribe()).with_trust(example.trust.clone());
        let sign = Arc::new(SigningKey::load(&own_folder.join("sign.key")).unwrap());
        let (id, started) = (own.id.clone(), Timestamp::now());
        let probed = ProbedDesk {
            handle: handle.clone(),
            id,
            sign: signs.unwrap_or(sign.public()),
            alarms: Alarms::default(),
            started,
        };
        let routes = probes::routes(Arc::new(probed));

        let path = folder.path().join("desk.sock");
        let (stop, stopped) = watch::channel(false);
        let server =
            tokio::spawn(api::serve(socket::bind(&path).unwrap(), path.clone(), handle, routes, stopped));
        Served { client: DeskClient::new(path), store, sign, stop, server, _link: link, _folder: folder }
    }

    /// Seals what waits, as the link would, and plays a relay that refuses it for its topic.
    async fn refuse(&self) {
        let (now, sign) = (Timestamp::now(), self.sign.clone());
        let refuse = move |store: &mut Store| {
            for sealed in store.seal_next(&sign, Room { envelopes: 8, bytes: 1 << 20 }, now)? {
                let code = pb::RefusalCode::Topic as u32;
                let sentence = "IDN may not use this topic".to_owned();
                let refused =
                    pb::Refused { submission: sealed.number, code, sentence, ..pb::Refused::default() };
                store.refused(refused, now)?;
            }
            Ok(())
        };
        self.store.call(refuse).await.unwrap();
    }

    /// One request as `curl` would write it; the status line and the error that answers it.
    async fn raw(&self, line: &str, body: &str) -> (String, ApiError) {
        let (head, body) = self.curl(line, body).await;
        (head, serde_json::from_str(&body).unwrap())
    }

    /// The status line and the body that answer a request.
    async fn curl(&self, line: &str, body: &str) -> (String, String) {
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nHost: desk\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = UnixStream::connect(self.client.socket()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // An oversized body may be refused before it has been read.
        let written = stream.write_all(body.as_bytes()).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(written.is_ok() || body.len() > REQUEST_BYTES_MAX);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }
}

fn commit(register: u64) -> Commit {
    Commit { register, reader: String::new() }
}

fn to(code: &str) -> NewDispatch {
    NewDispatch {
        to: vec![code.to_owned()],
        topic: "maritime".to_owned(),
        precedence: "routine".to_owned(),
        subject: "Unlit vessel".to_owned(),
        ..NewDispatch::default()
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    match answer {
        Err(ClientError::Refused(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dispatch_handed_in_offline_is_in_the_outbox() {
    let served = Served::start().await;
    let sent = served.client.send(&to("MOD")).await.unwrap();
    assert_eq!(sent.state, "queued");
    assert_eq!(served.client.outbox(None).await.unwrap(), vec![sent.clone()]);
    assert_eq!(served.client.outgoing(&sent.short).await.unwrap(), sent);
    assert_eq!(served.client.status().await.unwrap().queued, 1);
}

#[tokio::test]
async fn the_same_key_twice_queues_once() {
    let served = Served::start().await;
    let new = NewDispatch { idempotency_key: Some("4711".to_owned()), ..to("MOD") };
    let first = served.client.send(&new).await.unwrap();
    let second = served.client.send(&new).await.unwrap();
    assert_eq!((first.duplicate, second.duplicate), (false, true));
    assert_eq!(served.client.outbox(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn refusals_name_their_code() {
    let served = Served::start().await;
    let client = &served.client;
    assert_eq!(code(client.send(&to("XXX")).await), "unknown-addressee");
    assert_eq!(
        code(client.send(&NewDispatch { topic: "gossip".to_owned(), ..to("MOD") }).await),
        "not-permitted"
    );
    assert_eq!(
        code(client.send(&NewDispatch { body: "x".repeat(REQUEST_BYTES_MAX), ..to("MOD") }).await),
        "too-large"
    );
    assert_eq!(code(client.outgoing("ZZZZ").await), "not-found");
    assert_eq!(code(client.outgoing("../status").await), "not-found");
    assert_eq!(code(client.incoming("ZZZZ").await), "not-found");
    assert_eq!(code(client.read("ZZZZ", &Mark::default()).await), "not-found");
    assert_eq!(code(client.acknowledge("ZZZZ", &Mark::default()).await), "not-found");
    assert_eq!(code(client.outbox(Some(0)).await), "usage");
    assert_eq!(
        code(client.inbox(&InboxFilter { limit: Some(LIST_MAX + 1), ..InboxFilter::default() }).await),
        "usage"
    );
    assert_eq!(code(client.commit("web", &commit(9)).await), "usage");
}

#[tokio::test]
async fn a_malformed_call_is_answered_with_a_sentence_in_json() {
    let served = Served::start().await;
    let too_large = " ".repeat(REQUEST_BYTES_MAX + 1);
    let cases = [
        ("POST /v1/dispatches", "{", "400", "usage"),
        ("POST /v1/dispatches", "{\"tp\":[]}", "400", "usage"),
        ("POST /v1/dispatches", &too_large, "413", "too-large"),
        ("POST /v1/cursors/web/commit", "", "400", "usage"),
        ("GET /v1/dispatches?unakced=true", "", "400", "usage"),
        ("GET /v1/outbox/K7QF?wait=soon", "", "400", "usage"),
        ("GET /v1/outbox/K7QF?wait=ack&timeout_s=301", "", "400", "usage"),
        ("GET /v1/dispatches?wait_s=301", "", "400", "usage"),
        ("GET /v1/outbox/%ff", "", "400", "usage"),
        ("GET /v2/status", "", "404", "not-found"),
        ("DELETE /v1/dispatches/K7QF", "", "404", "not-found"),
    ];
    for (line, body, status, code) in cases {
        let (first, error) = served.raw(line, body).await;
        assert_eq!((first.split(' ').nth(1), error.code.as_str()), (Some(status), code), "{line}");
        assert!(!error.sentence.is_empty());
    }
}

#[tokio::test]
async fn an_inbox_cursor_is_kept_by_name() {
    let served = Served::start().await;
    assert_eq!(served.client.inbox(&InboxFilter::default()).await.unwrap(), []);
    assert_eq!(served.client.cursor("web").await.unwrap(), Cursor { register: 0 });
    assert_eq!(served.client.commit("web", &commit(0)).await.unwrap(), Cursor { register: 0 });
}

/// Waits in the background for a step of the only dispatch in the outbox.
async fn waiting(served: &Served, step: Step) -> JoinHandle<Result<Outgoing, ClientError>> {
    let sent = served.client.send(&to("MOD")).await.unwrap();
    let client = served.client.clone();
    let waiting = tokio::spawn(async move { client.wait(&sent.id, step, Duration::from_secs(300)).await });
    // A call behind the wait's own: once it is answered, the server has looked and waits.
    served.client.status().await.unwrap();
    waiting
}

#[tokio::test]
async fn a_wait_ends_as_soon_as_the_step_can_never_come() {
    let served = Served::start().await;
    let waiting = waiting(&served, Step::Delivered).await;
    served.refuse().await;
    let outgoing = timeout(SOON, waiting).await.expect("the change wakes the wait up").unwrap().unwrap();
    assert_eq!((outgoing.state.as_str(), outgoing.refusal.unwrap().code.as_str()), ("refused", "TOPIC"));
}

#[tokio::test]
async fn a_wait_that_runs_out_answers_with_how_far_the_dispatch_came() {
    let served = Served::start().await;
    let sent = served.client.send(&to("MOD")).await.unwrap();
    let outgoing = served.client.wait(&sent.id, Step::Accepted, Duration::ZERO).await.unwrap();
    assert_eq!(outgoing.state, "queued");
}

#[tokio::test]
async fn events_wake_a_reader_up_and_resume_where_it_stopped() {
    let served = Served::start().await;
    let listen = async |last: &str| {
        let mut stream = UnixStream::connect(served.client.socket()).await.unwrap();
        let request = format!("GET /v1/events HTTP/1.1\r\nHost: desk\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    // Reads until so many events have come.
    let heard = async |stream: &mut UnixStream, count: usize| {
        let mut text = String::new();
        while text.matches("data: {\"register\":0}").count() < count {
            let mut bytes = [0; 1024];
            let read = timeout(SOON, stream.read(&mut bytes)).await.expect("an event comes").unwrap();
            assert!(read > 0, "the stream goes on: {text}");
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        text
    };
    let mut fresh = listen("").await;
    let head = heard(&mut fresh, 1).await;
    assert!(head.contains("content-type: text/event-stream") && head.contains("id: 0"), "{head}");
    let mut resumed = listen("Last-Event-ID: 0\r\n").await;
    // The head alone: nothing has changed since event 0.
    let mut bytes = [0; 1024];
    let read = timeout(SOON, resumed.read(&mut bytes)).await.unwrap().unwrap();
    assert!(!std::str::from_utf8(&bytes[..read]).unwrap().contains("data:"));
    served.client.send(&to("MOD")).await.unwrap();
    heard(&mut fresh, 1).await;
    heard(&mut resumed, 1).await;
    served.stop.send_replace(true);
    timeout(SOON, served.server).await.expect("no listener holds the server up").unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_waits_for_a_dispatch_hears_of_a_shutdown_at_once() {
    let served = Served::start().await;
    let client = served.client.clone();
    let filter = InboxFilter { wait_s: Some(300), ..InboxFilter::default() };
    let waiting = tokio::spawn(async move { client.inbox(&filter).await });
    served.client.status().await.unwrap();
    served.stop.send_replace(true);
    let answer = timeout(SOON, waiting).await.expect("the wait ends with the server").unwrap();
    assert!(matches!(&answer, Ok(found) if found.is_empty()) || answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn a_shutdown_removes_the_socket_and_ends_with_a_wait_under_way() {
    let served = Served::start().await;
    let waiting = waiting(&served, Step::Ack).await;
    served.stop.send_replace(true);
    timeout(SOON, served.server).await.expect("no wait holds the server up").unwrap().unwrap();
    assert!(!served.client.socket().exists());
    // The wait was answered, or came too late for this server.
    assert!(matches!(
        timeout(SOON, waiting).await.expect("the wait ends with the server").unwrap(),
        Ok(Outgoing { .. }) | Err(ClientError::Unreachable { .. } | ClientError::Broken(_))
    ));
}

#[tokio::test]
async fn a_desk_without_contact_is_alive_and_ready_and_its_metrics_name_nobody() {
    let served = Served::start().await;
    served.client.send(&to("MOD")).await.unwrap();
    let get = async |target: &str| served.curl(&format!("GET {target}"), "").await;
    assert_eq!(get("/livez").await, ("HTTP/1.1 200 OK".to_owned(), "alive\n".to_owned()));
    assert_eq!(get("/readyz").await, ("HTTP/1.1 200 OK".to_owned(), "ready\n".to_owned()));
    let (_, text) = get("/metrics").await;
    for line in [
        "pouch_desk_ready 1",
        "pouch_desk_in_contact 0",
        "pouch_desk_outbox_dispatches{precedence=\"routine\"} 1",
        "pouch_desk_roster_version 1",
        "pouch_desk_alarm{kind=\"certificate\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for secret in ["Unlit", "MOD", "IDN", "Indonesia", "maritime", "example"] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
}

#[tokio::test]
async fn a_desk_whose_key_is_not_the_rosters_is_not_ready_and_says_why() {
    let served = Served::signing_with(Some(SigningKey::generate().unwrap().public())).await;
    let (head, body) = served.curl("GET /readyz", "").await;
    assert_eq!(head, "HTTP/1.1 503 Service Unavailable");
    assert!(
        body.contains("does not name spiffe://") && body.ends_with("have the roster corrected\n"),
        "{body}"
    );
    assert!(served.curl("GET /metrics", "").await.1.contains("\npouch_desk_ready 0\n"));
}

#[tokio::test]
async fn a_desk_whose_store_is_gone_is_alive_and_not_ready() {
    let served = Served::start().await;
    served.store.call(|_| Err::<(), _>(StoreError::Stopped)).await.unwrap_err();
    served.store.stopped().await;
    assert_eq!(served.curl("GET /livez", "").await.1, "alive\n");
    let (head, body) = served.curl("GET /readyz", "").await;
    assert_eq!(head, "HTTP/1.1 503 Service Unavailable");
    assert!(body.starts_with("the store does not answer"), "{body}");
}

#[tokio::test]
async fn the_trust_bundle_names_the_roster_in_force_under_the_root_key_that_the_desk_was_given() {
    let desk = Served::start().await;
    let trust = desk.client.trust().await.unwrap();
    let given = std::fs::read_to_string(desk._folder.path().join("pki/idn/trust.toml")).unwrap();
    assert_eq!(trust.bundle, given);
    assert_eq!(trust.roster_version, 1);
}
