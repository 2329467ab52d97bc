//! A relay that is short of descriptors or flooded, and many desks at once (FAULTS 34, 35, 46, 48, 77, 79).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with tests that do more with it")]
#[path = "bad_input/attacker.rs"]
mod attacker;
#[allow(dead_code, reason = "shared with tests that do more with it")]
#[path = "support/peer.rs"]
mod peer;
mod support;

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use pouch::{
    pki,
    roster::PartyNumber,
    wire::pb::{self, GoodbyeCode, frame::Kind},
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use attacker::{Attacker, keys_of, party};
use peer::Peer;
use support::Site;

const TIME_MAX: Duration = Duration::from_secs(60);
const MISSIONS: [&str; 4] = ["idn", "mys", "phl", "vnm"];
/// FAULTS 35.
const MEMORY_KIB_MAX: u64 = 256 * 1024;
/// FAULTS 79: sessions at once, and what each may take in a build that is not optimised.
const IDLE_SESSIONS: usize = 96;
const IDLE_SESSION_KIB_MAX: u64 = 64;

/// A session, once the relay is ready and the one before is forgotten.
async fn open(site: &Site, name: &str) -> (Attacker, pb::Welcome) {
    let (number, key) = keys_of(site, name);
    let opening = async {
        loop {
            let mut desk = Attacker::connect(site, name).await;
            desk.send(Kind::Hello(
                Peer { roster: &site.example().roster, number, key: &key }.hello(desk.exporter),
            ))
            .await;
            if let Some(Kind::Welcome(welcome)) = desk.next().await {
                return (desk, welcome);
            }
        }
    };
    timeout(TIME_MAX, opening).await.expect("a session")
}

async fn is_alive(desk: &mut Attacker) {
    desk.send(Kind::Ping(pb::Ping { token: 7 })).await;
    desk.wait_for(|frame| matches!(frame, Kind::Pong(_)).then_some(())).await;
}

/// FAULTS 34: what cannot be accepted waits, and each attempt to is followed by a pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_descriptors_pauses_keeps_its_sessions_and_recovers() {
    let site = Site::with_relay(&pki::example_parties()).await;
    let (mut live, _) = open(&site, "idn").await;
    let pid = site.pid("relay");
    let open_files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let process = Pid::from_raw(i32::try_from(pid).unwrap());
    let few = Rlimit { current: Some(open_files + 4), ..getrlimit(Resource::Nofile) };
    let began = Instant::now();
    let before = prlimit(process, Resource::Nofile, few).unwrap();
    let mut strangers = Vec::new();
    for _ in 0..16 {
        strangers.push(TcpStream::connect(site.address()).await.unwrap());
    }
    let paused = async {
        while !site.words("relay").contains("cannot accept; pausing") {
            is_alive(&mut live).await;
        }
    };
    timeout(TIME_MAX, paused).await.expect("it runs out, and the session lives");
    // Some pauses more, in which a relay that spins would try thousands of times.
    let paused_at = Instant::now();
    while paused_at.elapsed() < Duration::from_secs(1) {
        is_alive(&mut live).await;
    }
    prlimit(process, Resource::Nofile, before).unwrap();
    drop(strangers);
    open(&site, "hub").await;
    is_alive(&mut live).await;
    let attempts = u128::from(site.relay_status().handshakes["cannot-accept"]);
    let pauses = began.elapsed().as_millis() / 200;
    assert!((1..=pauses + 1).contains(&attempts), "{attempts} attempts in the time of {pauses} pauses");
}

/// A line of what the kernel says of a process's memory, in KiB: `VmHWM:` is its peak, `VmRSS:` is now.
fn memory_kib(pid: u32, which: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Submits large envelopes as fast as credit comes, takes all deliveries that come and settles none.
async fn flood(site: &Site, from: &str, to: PartyNumber, envelopes: u64) {
    let (number, key) = keys_of(site, from);
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    let (mut desk, welcome) = open(site, from).await;
    desk.send(Kind::Credit(pb::Credit { envelopes: 1 << 20, bytes: 1 << 40 })).await;
    let (mut credit, mut used, mut bytes, mut answered) = (welcome.credit_envelopes, 0, 0u64, 0);
    let mut byte_credit = welcome.credit_bytes;
    while answered < envelopes {
        while used < envelopes && used < credit && bytes < byte_credit {
            used += 1;
            let core = peer.core(welcome.last_accepted + used, &[to], SystemTime::now());
            let submit = Kind::Submit(peer.submit(&core, &[7; 200_000]));
            bytes += submit.encoded_len() as u64;
            desk.send(submit).await;
        }
        match desk.next().await.expect("the session is open") {
            Kind::Accepted(_) | Kind::Refused(_) => answered += 1,
            Kind::Credit(more) => (credit, byte_credit) = (more.envelopes, more.bytes),
            Kind::Goodbye(goodbye) => panic!("{goodbye:?}"),
            _ => {}
        }
    }
}

/// FAULTS 35: the kernel refuses the relay what it would take beyond the cap.
#[tokio::test(flavor = "multi_thread")]
async fn a_flooded_relay_stays_below_256_mib_and_serves_on() {
    let mut site = Site::new();
    site.start_bounded("relay", MEMORY_KIB_MAX);
    site.relay_listens().await;
    let (mut live, _) = open(&site, "hub").await;
    let mut idle = Vec::new();
    for _ in 0..48 {
        let mut stranger = TcpStream::connect(site.address()).await.unwrap();
        stranger.write_all(&[0x16, 3, 1, 0x40, 0]).await.unwrap();
        idle.push(stranger);
    }
    let [idn, mys, phl, vnm] = MISSIONS.map(|name| party(&site, name).number);
    // 200 MB in all, of which each addressee's mailbox keeps 50.
    tokio::join!(
        flood(&site, "idn", mys, 250),
        flood(&site, "mys", phl, 250),
        flood(&site, "phl", vnm, 250),
        flood(&site, "vnm", idn, 250),
    );
    is_alive(&mut live).await;
    let peak = memory_kib(site.pid("relay"), "VmHWM:");
    println!("peak: {peak} KiB, of its own {} KiB", memory_kib(site.pid("relay"), "VmData:"));
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
}

/// FAULTS 79. `pouch bench` has more of them in an optimised build (docs/BENCHMARKS.md).
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_say_nothing_take_little_memory_and_those_after_them_no_more() {
    let parties = pki::example_bloc(IDLE_SESSIONS);
    let site = Site::with_relay(&parties).await;
    open(&site, "hub").await;
    let pid = site.pid("relay");
    let before = memory_kib(pid, "VmRSS:");
    let mut grown = Vec::new();
    for _ in 0..3 {
        let mut idle = Vec::new();
        for number in 1..=IDLE_SESSIONS {
            idle.push(open(&site, &format!("m{number}")).await);
        }
        for (desk, _) in &mut idle {
            is_alive(desk).await;
        }
        grown.push(memory_kib(pid, "VmRSS:").saturating_sub(before) / IDLE_SESSIONS as u64);
    }
    println!("KiB for each session, one crowd after the other: {grown:?}");
    assert!(grown.iter().all(|kib| *kib <= IDLE_SESSION_KIB_MAX), "{grown:?} KiB");
}

/// FAULTS 46: more than the handshakes that may be under way, and every one is answered.
#[tokio::test(flavor = "multi_thread")]
async fn desks_that_all_connect_at_once_are_all_answered() {
    let site = std::sync::Arc::new(Site::with_relay(&pki::example_parties()).await);
    open(&site, "hub").await;
    let mut desks = JoinSet::new();
    for number in 0..160 {
        let (site, name) = (site.clone(), MISSIONS[number % MISSIONS.len()]);
        desks.spawn(async move {
            let (number, key) = keys_of(&site, name);
            let mut desk = Attacker::connect(&site, name).await;
            let hello = Peer { roster: &site.example().roster, number, key: &key }.hello(desk.exporter);
            desk.send(Kind::Hello(hello)).await;
            match desk.next().await {
                Some(Kind::Welcome(_)) => None,
                Some(Kind::Goodbye(goodbye)) => Some(goodbye.code),
                other => panic!("neither Welcome nor why not: {other:?}"),
            }
        });
    }
    let answers = timeout(TIME_MAX, desks.join_all()).await.expect("all are answered");
    let another = [GoodbyeCode::TakeOverSoon as u32, GoodbyeCode::TakenOver as u32];
    assert!(answers.iter().flatten().all(|code| another.contains(code)), "{answers:?}");
    assert!(answers.iter().filter(|code| code.is_none()).count() >= MISSIONS.len());
    let handshakes = site.relay_status().handshakes;
    assert_eq!((handshakes["too-slow"], handshakes["too-often"]), (0, 0));
}

/// FAULTS 48: one addressee's socket is full, the other gets everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_does_not_hold_up_another() {
    let site = Site::with_relay(&pki::example_parties()).await;
    let (number, key) = keys_of(&site, "idn");
    let idn = Peer { roster: &site.example().roster, number, key: &key };
    let (mut slow, _) = open(&site, "mys").await;
    let (mut quick, _) = open(&site, "phl").await;
    let (mut sender, _) = open(&site, "idn").await;
    let all = pb::Credit { envelopes: 1 << 20, bytes: 1 << 40 };
    slow.send(Kind::Credit(all)).await;
    quick.send(Kind::Credit(all)).await;
    let to = [party(&site, "mys").number, party(&site, "phl").number];
    for number in 1..=60 {
        let core = idn.core(number, &to, SystemTime::now());
        sender.send(Kind::Submit(idn.submit(&core, &[7; 150_000]))).await;
        sender.wait_for(|frame| matches!(frame, Kind::Accepted(_)).then_some(())).await;
        quick.wait_for(|frame| matches!(frame, Kind::Deliver(_)).then_some(())).await;
    }
}

/// FAULTS 77: in the handshake.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_stops_after_a_byte_is_closed_and_counted() {
    let site = Site::with_relay(&pki::example_parties()).await;
    let mut stranger = TcpStream::connect(site.address()).await.unwrap();
    stranger.write_all(&[0x16]).await.unwrap();
    let read = timeout(TIME_MAX, stranger.read(&mut [0; 16])).await.expect("it is closed");
    assert!(matches!(read, Ok(0) | Err(_)));
    let counted = async {
        while site.relay_status().handshakes["too-slow"] != 1 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIME_MAX, counted).await.expect("as too slow");
}
