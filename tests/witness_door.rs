//! The desk as a witness over plain HTTP: answers as tlog-witness has them, and never for leaves that it has not read.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use pouch::{
    audit::{AddCheckpoint, Checkpoint, Follower, LogTrust, witness_name},
    desk::{
        handle::DeskHandle,
        status::LinkStatus,
        store::{Progress, Store, StoreThread, Verified},
        view::Mark,
        witness::WitnessDoor,
    },
    keys::SigningKey,
    limits::ADD_CHECKPOINT_BYTES_MAX,
    merkle::{Hash, Tree, leaf_hash, sha256},
    note::{KeyKind, Note, Vkey},
    pki::{Example, example_parties, make_example},
    probes::{self, Doors},
    record::leaf::{Opening, OpeningKind},
    roster::PartyKind,
    tiles::signed_note,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
};

/// Indonesia's desk, which has followed a log of five leaves.
struct World {
    address: SocketAddr,
    example: Example,
    log_key: SigningKey,
    desk: Option<DeskHandle>,
    asked: AtomicU8,
    _folder: tempfile::TempDir,
}

/// Status, content type and body.
type Answer = (u16, String, String);

impl World {
    async fn following(leaves: u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let parties = example_parties();
        let example = make_example(&folder.path().join("pki"), &parties, &[], SystemTime::now()).unwrap();
        let own = example.roster.party_by_code("IDN").unwrap().id.clone();
        let pki = example.party_folder(&own);
        let mut store = Store::open(&folder.path().join("store"), own.clone(), &example.trust).unwrap();
        let note = std::fs::read(pki.join("roster.note")).unwrap();
        store.learn_roster(None, example.roster.clone().into(), &note).unwrap();
        let relay = example.roster.parties().find(|party| party.kind == PartyKind::Relay).unwrap().id.clone();
        let log_key = SigningKey::load(&example.party_folder(&relay).join("log.key")).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut world =
            World { address, example, log_key, desk: None, asked: AtomicU8::new(0), _folder: folder };
        if leaves > 0 {
            let mut follower = Follower::new();
            (0..leaves).for_each(|index| drop(follower.take(&leaf(index)).unwrap()));
            let note = Bytes::from(world.note(leaves));
            let (now, ahead) = (jiff::Timestamp::now(), follower.clone());
            let verified = Verified { follower, note: note.clone(), witnessed: note, ahead: None };
            let progress = Progress {
                follower: ahead,
                leaves: (0..leaves).map(|index| leaf_hash(&leaf(index))).collect(),
                verified: Some(verified),
                is_published: false,
            };
            store.follow(&progress, now).unwrap();
        }
        let (store, _thread) = StoreThread::start(store).unwrap();
        let link = tokio::sync::watch::channel(LinkStatus::starting(jiff::Timestamp::now())).1;
        world.desk = Some(DeskHandle::new(store.clone(), link));
        let witness = Arc::new(SigningKey::load(&pki.join("witness.key")).unwrap());
        let listener = TcpListener::bind(address).await.unwrap();
        world.address = listener.local_addr().unwrap();
        let routes = WitnessDoor::new(own, witness, store).routes();
        tokio::spawn(probes::serve(Doors { local: None, open: Some((listener, routes)) }));
        world
    }

    fn checkpoint(&self, size: u64) -> Checkpoint {
        let origin = self.example.roster.content().log.origin.clone();
        Checkpoint { origin, size, root: tree(size).root() }
    }

    fn note(&self, size: u64) -> Vec<u8> {
        signed_note(&self.log_key, &self.checkpoint(size)).to_vec()
    }

    /// A request as a log makes it.
    fn request(&self, old_size: u64, size: u64) -> AddCheckpoint {
        let path = if old_size == 0 { Vec::new() } else { tree(size).consistency_path(old_size as usize) };
        let checkpoint = String::from_utf8(self.note(size)).unwrap();
        AddCheckpoint { old_size, path, checkpoint }
    }

    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        // Each from another address, for one of them alone is soon told to come later.
        let from = self.asked.fetch_add(1, Ordering::Relaxed);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2 + from % 250], 0))).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        (status, kind.to_owned(), body.to_owned())
    }

    async fn add(&self, request: &AddCheckpoint) -> Answer {
        self.ask("POST", "/add-checkpoint", request.to_string().as_bytes()).await
    }
}

fn leaf(index: u64) -> Vec<u8> {
    let hash = sha256(&index.to_be_bytes());
    let opening = Opening { kind: OpeningKind::Envelope, log_time_us: index, roster_version: 1, hash };
    opening.leaf(hash.as_bytes()).to_vec()
}

fn tree(size: u64) -> Tree {
    Tree::new(&(0..size).map(|index| leaf_hash(&leaf(index))).collect::<Vec<Hash>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_followed_is_cosigned_and_the_line_verifies() {
    let world = World::following(5).await;
    let request = world.request(5, 5);
    let (status, kind, body) = world.add(&request).await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; charset=utf-8"));
    assert!(body.starts_with("— ") && body.ends_with('\n') && body.lines().count() == 1, "{body}");
    // As the specification says: put behind the checkpoint, it is a note.
    let note = Note::parse(format!("{}{body}", request.checkpoint).as_bytes()).unwrap();
    let party = world.example.roster.party_by_code("IDN").unwrap();
    let key = Vkey::new(&witness_name(&party.id), KeyKind::Cosignature, party.witness.unwrap().0).unwrap();
    assert_eq!(note.verify(&[key]).unwrap().len(), 1);
    let signed = LogTrust::of(&world.example.roster).open(&note.to_bytes()).unwrap();
    assert_eq!(signed.witnesses, [party.number]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_request_gets_the_status_of_the_specification() {
    let world = World::following(5).await;
    let mut wrong_path = world.request(5, 8);
    wrong_path.path[0] = sha256(b"wrong");
    let stranger = SigningKey::generate().unwrap();
    let badly_signed = String::from_utf8(signed_note(&stranger, &world.checkpoint(5)).to_vec()).unwrap();
    let elsewhere = Checkpoint { origin: "other.example/log".into(), ..world.checkpoint(5) };
    let elsewhere = String::from_utf8(signed_note(&world.log_key, &elsewhere).to_vec()).unwrap();
    let other_root = Checkpoint { root: sha256(b"fork"), ..world.checkpoint(5) };
    let other_root = String::from_utf8(signed_note(&world.log_key, &other_root).to_vec()).unwrap();
    let same =
        |checkpoint: &str| AddCheckpoint { old_size: 5, path: vec![], checkpoint: checkpoint.to_owned() };
    for (what, request, expected) in [
        ("a larger one, whose leaves were not read", world.request(5, 8), 503),
        ("another old size", world.request(3, 5), 409),
        ("an older one", world.request(3, 4), 409),
        ("an old size above the size", AddCheckpoint { old_size: 9, ..world.request(5, 5) }, 400),
        ("a wrong path", wrong_path, 422),
        ("another key", same(&badly_signed), 403),
        ("another log", same(&elsewhere), 404),
        ("a fork", same(&other_root), 422),
    ] {
        let (status, kind, body) = world.add(&request).await;
        assert_eq!(status, expected, "{what}: {body}");
        if status == 409 {
            assert_eq!((kind.as_str(), body.as_str()), ("text/x.tlog.size", "5\n"), "{what}");
        }
    }
    let alarms = world.desk.as_ref().unwrap().alarms().await.unwrap();
    assert_eq!(alarms.len(), 1, "the fork alone: {alarms:?}");
    assert!(alarms[0].sentence.contains("two checkpoints of 5 leaves of the audit log differ"), "{alarms:?}");
    let shown = same(&other_root).to_string();
    assert_eq!(alarms[0].evidence[0].shown, data_encoding::BASE64.encode(shown.as_bytes()));
    assert_eq!(world.add(&world.request(5, 5)).await.0, 503, "its own side neither, while the alarm is open");
    world.desk.as_ref().unwrap().close_alarm("forked".to_owned(), Mark::default()).await.unwrap();
    assert_eq!(world.add(&world.request(5, 5)).await.0, 200);
    assert_eq!(world.ask("POST", "/add-checkpoint", b"old 5\n").await.0, 400);
    assert_eq!(world.ask("POST", "/add-checkpoint", &[0xff; 40]).await.0, 400);
    assert_eq!(world.ask("POST", "/add-checkpoint", &vec![b'x'; ADD_CHECKPOINT_BYTES_MAX + 1]).await.0, 413);
    assert_eq!(world.ask("GET", "/add-checkpoint", b"").await.0, 405);
    assert_eq!(world.ask("POST", "/v1/status", b"").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_checkpoint_of_another_history_is_a_fork_too() {
    let world = World::following(5).await;
    let older = |root| Checkpoint { root, ..world.checkpoint(3) };
    let request = |checkpoint: &Checkpoint, old_size| {
        let checkpoint = String::from_utf8(signed_note(&world.log_key, checkpoint).to_vec()).unwrap();
        AddCheckpoint { old_size, path: vec![], checkpoint }
    };
    // A replay of what this desk has verified accuses nobody.
    assert_eq!(world.add(&request(&older(tree(3).root()), 3)).await.0, 409);
    let stranger = SigningKey::generate().unwrap();
    let checkpoint = String::from_utf8(signed_note(&stranger, &older(sha256(b"fork"))).to_vec()).unwrap();
    assert_eq!(world.add(&AddCheckpoint { old_size: 3, path: vec![], checkpoint }).await.0, 403);
    assert!(world.desk.as_ref().unwrap().alarms().await.unwrap().is_empty());
    let fork = request(&older(sha256(b"fork")), 3);
    assert_eq!(world.add(&fork).await.0, 422);
    let alarms = world.desk.as_ref().unwrap().alarms().await.unwrap();
    assert!(alarms[0].sentence.contains("two checkpoints of 3 leaves of the audit log differ"), "{alarms:?}");
    let shown = data_encoding::BASE64.encode(fork.to_string().as_bytes());
    assert_eq!(alarms[0].evidence[0].shown, shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_that_has_followed_nothing_cosigns_nothing() {
    let world = World::following(0).await;
    assert_eq!(world.add(&world.request(0, 5)).await.0, 503);
    let (status, _, body) = world.add(&world.request(5, 5)).await;
    assert_eq!((status, body.as_str()), (409, "0\n"));
}
