//! What a relay forgets, and what its audit log never says: real processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
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
    wire::{EnvelopeHash, Position, SubmissionNumber},
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
