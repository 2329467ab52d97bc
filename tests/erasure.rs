//! What a relay forgets, and what its audit log, logs, metrics and errors never say: real processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

#[allow(dead_code, reason = "shared with tests that do more with it")]
#[path = "bad_input/attacker.rs"]
mod attacker;
#[allow(dead_code, reason = "shared with tests that do more with it")]
#[path = "support/peer.rs"]
mod peer;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use attacker::{Attacker, keys_of, party};
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use peer::Peer;
use pouch::{
    audit::Bundle,
    desk::view::{Mark, NewDispatch, Step},
    exchange::{Exchange, Input, Now, Output},
    journal::{self, FileDisk, JournalError, Options, Replayed},
    limits::Limits,
    merkle::{Hash, sha256},
    record::{
        Record,
        content::{Content, RecordedRefusal, Traffic},
        leaf::{Opening, OpeningKind, TRAFFIC_LEAF_BYTES, is_administrative},
    },
    roster::PartyNumber,
    wire::{EnvelopeHash, Position, SubmissionNumber, pb::frame::Kind},
};
use support::Site;

const TIME_MAX: Duration = Duration::from_secs(60);
const DAY_US: u64 = 86_400_000_000;
/// Records of traffic in a journal that began so many days ago.
const OLD_DAYS: u64 = 500;
const OLD_RECORDS: u64 = 600;

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                // A relay that runs gives its spares other names meanwhile.
                found.extend(fs::read(&path).ok().map(|bytes| (name, bytes)));
            }
        }
    }
    found
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Issue 5: privacy.
#[tokio::test(flavor = "multi_thread")]
async fn who_downloads_all_of_the_log_learns_no_sender_addressee_topic_or_size_and_no_persons_name() {
    let mut site = Site::new();
    // Enough missions for a quorum, so that each FLASH has its checkpoint.
    for party in ["relay", "idn", "mys", "phl", "hub"] {
        site.start(party);
    }
    let subject = "Concerning the straits";
    let mut ids = Vec::new();
    for number in 1..=12 {
        let note = NewDispatch {
            to: vec!["MOD".into()],
            topic: "maritime".into(),
            precedence: "flash".into(),
            subject: subject.into(),
            body: "x".repeat(number * 700),
            reference: format!("IDN/{number:04}/X"),
            ..NewDispatch::default()
        };
        let sent = loop {
            match site.desk("idn").send(&note).await {
                Ok(sent) => break sent,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        ids.push(sent.id);
    }
    for id in &ids {
        site.desk("idn").wait(id, Step::Delivered, TIME_MAX).await.unwrap();
        let mark = Mark { who: "Nur Aini Zulkifli".into(), remark: "seen".into() };
        site.desk("hub").read(id, &mark).await.unwrap();
        site.desk("idn").wait(id, Step::Read, TIME_MAX).await.unwrap();
    }
    assert!(site.stop("relay").0.success());

    let log = files(&site.dir("relay").join("log"));
    let rosters = |name: &str| name.starts_with("roster/");
    for (name, bytes) in log.iter().filter(|(name, _)| !rosters(name)) {
        for text in [subject, "maritime", "Nur Aini", "Zulkifli", "IDN/0", "IDN", "MOD"] {
            assert!(!holds(bytes, text.as_bytes()), "{text} is in {name}");
        }
        for id in &ids {
            let raw = id.replace('-', "");
            let raw: Vec<u8> =
                (0..16).map(|at| u8::from_str_radix(&raw[2 * at..2 * at + 2], 16).unwrap()).collect();
            assert!(!holds(bytes, id.as_bytes()) && !holds(bytes, &raw), "{id} is in {name}");
        }
    }
    let (mut traffic, mut distinct) = (0, BTreeSet::new());
    for (name, bytes) in log.iter().filter(|(name, _)| name.starts_with("tile/entries/")) {
        let width = name.rsplit_once(".p/").map_or(256, |(_, width)| width.parse().unwrap());
        let bundle = Bundle::parse(&Bytes::from(bytes.clone()), width).unwrap();
        for entry in bundle.entries().iter().filter(|entry| !is_administrative(entry)) {
            assert_eq!((entry.len(), &entry[..2]), (TRAFFIC_LEAF_BYTES, &[1, 1][..]), "{name}");
            (traffic, _) = (traffic + 1, distinct.insert(entry[2..].to_vec()));
        }
    }
    // Narrower and wider bundles show the same entries again: each has a commitment of its own.
    assert!(traffic >= distinct.len() && distinct.len() >= ids.len(), "{traffic}, {}", distinct.len());
}

const SUBJECT: &str = "Concerning the unlit straits";
const BODY: &str = "Three vessels without lights were seen at the second buoy.";
const PERSON: &str = "Nur Aini Zulkifli";
const REMARK: &str = "given to the admiral";

/// What a line could hold of a secret, however it came there: as text, hex, base64, or as a list of bytes.
fn forms(secret: &[u8]) -> Vec<String> {
    let listed: Vec<String> = secret.iter().map(u8::to_string).collect();
    let mut forms = vec![HEXLOWER.encode(secret), BASE64.encode(secret), listed.join(", ")];
    forms.extend(str::from_utf8(secret).ok().map(str::to_owned));
    forms
}

/// The private numbers of every key below a folder; each stands in its file behind the same two bytes.
fn private_keys(folder: &Path) -> Vec<Vec<u8>> {
    let pem = files(folder).into_iter().filter(|(name, _)| name.ends_with(".key"));
    pem.map(|(name, pem)| {
        let lines: Vec<&str> = str::from_utf8(&pem).unwrap().lines().collect();
        let der = BASE64.decode(lines[1..lines.len() - 1].concat().as_bytes()).unwrap();
        let at = der.windows(2).position(|window| window == [4, 32]);
        let at = at.unwrap_or_else(|| panic!("{name} holds no number of 32 bytes")) + 2;
        der[at..at + 32].to_vec()
    })
    .collect()
}

/// What a daemon's socket gives for `/metrics`.
fn metrics(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: pouch\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// PHL submits two envelopes to the ministry with a text in them that is no dispatch: the relay refuses the one of a
/// topic that there is not, and the ministry's desk sets the other aside.
async fn submit_noise(site: &Site) {
    let (number, key) = keys_of(site, "phl");
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    let (mut phl, _) = Attacker::open(site, "phl").await;
    let to = [party(site, "hub").number];
    let core = peer.core(1, &to, SystemTime::now());
    phl.send(Kind::Submit(peer.submit(&core, BODY.as_bytes()))).await;
    let accepted = phl.wait_for(|frame| matches!(frame, Kind::Accepted(_)).then_some(()));
    accepted.await;
    let mut core = peer.core(2, &to, SystemTime::now());
    core.topic = "gossip".to_owned();
    phl.send(Kind::Submit(peer.submit(&core, BODY.as_bytes()))).await;
    phl.wait_for(|frame| matches!(frame, Kind::Refused(_)).then_some(())).await;
}

/// Promise 12 of DESIGN 4.
#[tokio::test(flavor = "multi_thread")]
async fn promise_12_logs_metrics_and_errors_hold_no_content_subject_key_or_key_material() {
    let mut site = Site::new();
    let daemons = ["relay", "hub", "idn", "mys"];
    for party in daemons {
        site.start_with(party, "log.level = \"trace\"\n");
    }
    let (idn, hub) = (site.desk("idn"), site.desk("hub"));
    let note = NewDispatch {
        to: vec!["MOD".into()],
        info: vec!["MYS".into()],
        topic: "maritime".into(),
        precedence: "flash".into(),
        subject: SUBJECT.into(),
        body: BODY.into(),
        acknowledgement_required: true,
        ..NewDispatch::default()
    };
    let until = std::time::Instant::now() + TIME_MAX;
    let sent = loop {
        match idn.send(&note).await {
            Ok(sent) => break sent,
            Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    idn.wait(&sent.id, Step::Delivered, TIME_MAX).await.unwrap();
    let mark = Mark { who: PERSON.into(), remark: REMARK.into() };
    hub.read(&sent.id, &mark).await.unwrap();
    hub.acknowledge(&sent.id, &mark).await.unwrap();
    idn.wait(&sent.id, Step::Ack, TIME_MAX).await.unwrap();

    let mut told = Vec::new();
    for wrong in [
        NewDispatch { topic: "gossip".into(), ..note.clone() },
        NewDispatch { to: vec!["NOBODY".into()], ..note.clone() },
        NewDispatch { label: "BLOC COSMIC".into(), ..note.clone() },
        NewDispatch { subject: SUBJECT.repeat(10), ..note.clone() },
        NewDispatch { body: BODY.repeat(4_000), ..note.clone() },
    ] {
        told.push(("an error".to_owned(), format!("{0} {0:?}", idn.send(&wrong).await.unwrap_err())));
    }
    submit_noise(&site).await;
    while hub.status().await.unwrap().set_aside == 0 {
        assert!(std::time::Instant::now() < until, "{}", site.last_words("hub"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    for party in daemons {
        let is_relay = party == "relay";
        let socket = if is_relay { site.dir(party).join("admin.sock") } else { site.socket(party) };
        told.push((format!("the metrics of {party}"), metrics(&socket)));
        let words = site.words(party);
        assert!(words.contains("desk started") || words.contains("relay listens"), "{words}");
        told.push((format!("the log of {party}"), words));
    }
    let mut secrets: Vec<Vec<u8>> = [SUBJECT, &BODY[..16], PERSON, REMARK].map(|text| text.into()).to_vec();
    secrets.extend(private_keys(&site.example().folder));
    assert!(secrets.len() > 4 + 2 * daemons.len(), "each has a key of its own and one for TLS");
    for (who, words) in &told {
        for form in secrets.iter().flat_map(|secret| forms(secret)) {
            assert!(!words.contains(&form), "{who} holds {form}");
        }
    }
}

/// A salt that names its position.
fn salt(position: u64) -> [u8; 32] {
    *sha256(&position.to_be_bytes()).as_bytes()
}

/// A journal whose records were made long ago: a roster, and refusals day by day.
fn make_old_journal(site: &Site) {
    let now_us = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let began_us = now_us - OLD_DAYS * DAY_US;
    let mut exchange = Exchange::new(Limits::DEFAULT, site.example().trust.clone());
    let note = fs::read(site.example().folder.join("relay/roster.note")).unwrap();
    exchange
        .handle(Input::RosterOffered { note: note.into() }, Now { mono: Duration::ZERO, wall_us: began_us });
    let first = std::iter::from_fn(|| exchange.poll_output()).find_map(|output| match output {
        Output::Append { record, .. } => Some(record),
        _ => None,
    });
    let refusal = |position: u64| -> Record {
        let hash = Hash(salt(position + 1_000_000));
        let log_time_us = began_us + position * OLD_DAYS * DAY_US / OLD_RECORDS;
        let opening = Opening { kind: OpeningKind::Refusal, log_time_us, roster_version: 1, hash };
        let traffic = Traffic { salt: salt(position), opening };
        let (sender, submission) = (PartyNumber(5), SubmissionNumber(position));
        Content::Refusal(RecordedRefusal { traffic, sender, submission, hash: EnvelopeHash(hash), code: 7 })
            .to_record()
    };
    let folder = site.dir("relay");
    fs::create_dir_all(&folder).unwrap();
    let disk = Arc::new(FileDisk::open(&folder.join("journal")).unwrap());
    let mut ignore = |_: Replayed| Ok::<(), JournalError>(());
    let recovered = journal::recover(disk, Options::DEFAULT, &mut ignore).unwrap();
    let mut exchange = Exchange::new(Limits::DEFAULT, site.example().trust.clone());
    let (mut writer, _) = recovered.open(&exchange.base(), &mut ignore).unwrap();
    let records: Vec<Record> = [first.unwrap()].into_iter().chain((1..OLD_RECORDS).map(refusal)).collect();
    for (number, records) in records.chunks(100).enumerate() {
        // The last segment has both: what is to be erased, and what is to be kept.
        if number == 2 {
            writer.roll(&exchange.base()).unwrap();
        }
        let first = writer.append(records).unwrap();
        for (position, record) in (first.0..).zip(records) {
            exchange.replay(Position(position), record).unwrap();
        }
    }
}

/// Positions whose salts a file of the journal holds, in archives, segments and spares.
fn salts(site: &Site) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let known: BTreeMap<[u8; 4], u64> =
        (1..OLD_RECORDS).map(|position| (salt(position)[..4].try_into().unwrap(), position)).collect();
    for bytes in files(&site.dir("relay").join("journal")).values() {
        for window in bytes.windows(4).filter(|window| *window != [0; 4]) {
            found.extend(known.get(window));
        }
    }
    found
}

fn pouch(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pouch")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// As [`Site::relay_until`], for what a relay logs.
async fn until_said(site: &Site, words: &str, times: usize) {
    let until = std::time::Instant::now() + TIME_MAX;
    while site.words("relay").matches(words).count() < times {
        assert!(std::time::Instant::now() < until, "{}", site.last_words("relay"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_erases_what_is_too_old_and_its_log_stays_the_same() {
    let mut site = Site::new();
    make_old_journal(&site);
    assert_eq!(salts(&site).len() as u64, OLD_RECORDS - 1);
    // Three missions are a quorum.
    for party in ["relay", "idn", "mys", "phl"] {
        site.start(party);
    }
    let dir = site.dir("relay").display().to_string();
    until_said(&site, "openings and headers erased", 1).await;

    let kept = salts(&site);
    let oldest = *kept.first().expect("what is younger stays");
    assert!((110..130).contains(&oldest), "100 of 500 days are erased: the first left is {oldest}");
    assert!(kept.iter().copied().eq(oldest..OLD_RECORDS), "all of the others");
    let told = pouch(&["relay", "log", "--dir", &dir]);
    assert!(told.contains("erased: only the leaf is left"), "{told}");
    assert!(
        told.contains(&format!("openings and headers through position {} are erased", oldest - 1)),
        "{told}"
    );

    // The tiles are rebuilt from what is left, byte for byte.
    assert!(site.stop("relay").0.success());
    let log = site.dir("relay").join("log");
    let before = files(&log.join("tile"));
    fs::remove_dir_all(log.join("tile")).unwrap();
    site.start("relay");
    until_said(&site, "openings and headers erased", 2).await;
    let after = files(&log.join("tile"));
    for (name, bytes) in before.iter().filter(|(name, _)| !name.contains(".p/")) {
        assert_eq!(after.get(name), Some(bytes), "{name}");
    }
    assert!(before.keys().filter(|name| !name.contains(".p/")).count() >= 4);
    assert_eq!(salts(&site), kept);

    // The desks followed it all: they are witnesses of what was published since, and the leaf is shown in words.
    let trust = site.example().folder.join("idn/trust.toml").display().to_string();
    let log = log.display().to_string();
    let until = std::time::Instant::now() + TIME_MAX;
    loop {
        let shown = Command::new(env!("CARGO_BIN_EXE_pouch")).args(["audit", "show", &log]).output().unwrap();
        if String::from_utf8_lossy(&shown.stdout).contains("are erased") {
            break;
        }
        assert!(std::time::Instant::now() < until, "{shown:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pouch(&["audit", "verify", &log, "--trust", &trust]);
}
