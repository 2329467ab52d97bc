//! A relay whose journal is damaged, or is not the one whose checkpoints were signed: it does not run, keeps what proves
//! it, and says what to do (issue 5, start-up). Where a file of the log alone is damaged, it runs.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[allow(dead_code, reason = "shared with tests that do more with it")]
#[path = "bad_input/attacker.rs"]
mod attacker;
#[allow(dead_code, reason = "shared with tests that do more with it")]
#[path = "support/peer.rs"]
mod peer;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use pouch::{
    alarms::AlarmKind,
    audit::Checkpoint,
    keys::SigningKey,
    merkle::{Hash, sha256},
    note::Note,
    pki,
    tiles::signed_note,
    wire::{
        Precedence,
        envelope::Core,
        pb::{self, GoodbyeCode, frame::Kind},
    },
};
use tokio::{net::TcpStream, time::sleep};

use attacker::{Attacker, keys_of, party};
use peer::Peer;
use support::Site;

const TIME_MAX: Duration = Duration::from_secs(60);

/// A FLASH of IDN's, after which a checkpoint is signed at once.
async fn flash(site: &Site, number: u64) {
    let (mut idn, _) = Attacker::open(site, "idn").await;
    let (own, key) = keys_of(site, "idn");
    let peer = Peer { roster: &site.example().roster, number: own, key: &key };
    let core = Core {
        precedence_action: Precedence::Flash,
        ..peer.core(number, &[party(site, "mys").number], SystemTime::now())
    };
    let before = signed(site).map_or(0, |checkpoint| checkpoint.size);
    idn.send(Kind::Submit(peer.submit(&core, b"a text"))).await;
    idn.wait_for(|frame| matches!(frame, Kind::Accepted(_)).then_some(())).await;
    let until = Instant::now() + TIME_MAX;
    while signed(site).is_none_or(|checkpoint| checkpoint.size <= before) {
        assert!(Instant::now() < until, "nothing is signed: {}", site.last_words("relay"));
        sleep(Duration::from_millis(10)).await;
    }
}

/// The newest checkpoint that the relay has signed.
fn signed(site: &Site) -> Option<Checkpoint> {
    let note = fs::read(site.dir("relay").join("log.kept/signed")).ok()?;
    Note::parse(&note).unwrap().text().parse().ok()
}

/// What the log's key would sign.
fn signed_by_log(site: &Site, size: u64, root: Hash) -> Bytes {
    let key = SigningKey::load(&site.example().folder.join("relay/log.key")).unwrap();
    signed_note(&key, &Checkpoint { origin: site.example().trust.log_origin.clone(), size, root })
}

/// Every file in a folder, by its path there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // Spares are zeroes, and made anew at each start.
        if entry.file_type().unwrap().is_file() && !name.starts_with("spare-") && name != "lock" {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// Starts the relay, which must end with 72, change neither its journal nor what it has signed, and say what to do.
fn stays_down(site: &mut Site) -> String {
    let (journal, kept) = (site.dir("relay").join("journal"), site.dir("relay").join("log.kept"));
    let before = (files(&journal), files(&kept));
    let said = site.words("relay").len();
    site.start("relay");
    assert_eq!(site.ended("relay").code(), Some(72), "{}", site.last_words("relay"));
    assert!((files(&journal), files(&kept)) == before, "journal and checkpoint are evidence");
    let words = site.words("relay").split_off(said);
    for must in [
        "save the relay's folder",
        "tell the ministry",
        "put the newest journal back",
        "new log under a new origin in a new roster",
    ] {
        assert!(words.contains(must), "{must}: {words}");
    }
    words
}

async fn starts(site: &mut Site) {
    site.start("relay");
    let until = Instant::now() + TIME_MAX;
    while TcpStream::connect(site.address()).await.is_err() {
        assert!(Instant::now() < until, "it does not listen: {}", site.last_words("relay"));
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_an_older_copy_of_its_journal_stays_down_until_the_newest_is_back() {
    let mut site = Site::with_relay(&pki::example_parties()).await;
    flash(&site, 1).await;
    assert!(site.stop("relay").0.success());
    let (journal, old, newest) = (site.dir("relay").join("journal"), site.dir("old"), site.dir("newest"));
    copy(&journal, &old);
    starts(&mut site).await;
    flash(&site, 2).await;
    assert!(site.stop("relay").0.success());
    fs::rename(&journal, &newest).unwrap();
    copy(&old, &journal);
    let words = stays_down(&mut site);
    assert!(words.contains("restored from an older copy"), "{words}");
    // Not even without the files that anybody is shown.
    fs::remove_dir_all(site.dir("relay").join("log")).unwrap();
    stays_down(&mut site);
    fs::remove_dir_all(&journal).unwrap();
    fs::rename(&newest, &journal).unwrap();
    starts(&mut site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_journal_of_the_same_length_stays_down() {
    let mut site = Site::with_relay(&pki::example_parties()).await;
    flash(&site, 1).await;
    assert!(site.stop("relay").0.success());
    let (dir, first) = (site.dir("relay"), site.dir("first"));
    let size = signed(&site).unwrap().size;
    fs::rename(&dir, &first).unwrap();
    starts(&mut site).await;
    flash(&site, 1).await;
    assert!(site.stop("relay").0.success());
    assert_eq!(signed(&site).unwrap().size, size, "the same happened twice");
    for folder in ["log", "log.kept"] {
        fs::remove_dir_all(dir.join(folder)).unwrap();
        fs::rename(first.join(folder), dir.join(folder)).unwrap();
    }
    stays_down(&mut site);
    fs::remove_dir_all(dir.join("log")).unwrap();
    stays_down(&mut site);
}

/// The segment that holds these bytes, and where.
fn place_in_journal(site: &Site, bytes: &[u8]) -> (std::path::PathBuf, usize) {
    let journal = site.dir("relay").join("journal");
    let found = files(&journal).into_iter().filter(|(name, _)| name.starts_with("segment-")).find_map(
        |(name, content)| {
            let at = content.windows(bytes.len()).rposition(|window| window == bytes)?;
            Some((journal.join(name), at))
        },
    );
    found.expect("it was journalled")
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// FAULTS 6, as an operator meets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_a_flipped_bit_in_its_journal_does_not_start_names_the_place_and_changes_nothing() {
    let mut site = Site::with_relay(&pki::example_parties()).await;
    flash(&site, 1).await;
    assert!(site.stop("relay").0.success());
    let (segment, at) = place_in_journal(&site, b"a text");
    flip(&segment, at);
    let journal = site.dir("relay").join("journal");
    let before = files(&journal);
    site.start("relay");
    assert_eq!(site.ended("relay").code(), Some(71), "{}", site.last_words("relay"));
    assert!(files(&journal) == before, "the journal is as it was");
    let name = segment.file_name().unwrap().to_str().unwrap();
    let words = site.last_words("relay");
    for must in [name, "offset", "position 4", "keep a copy of the whole directory"] {
        assert!(words.contains(must), "{must}: {words}");
    }
    flip(&segment, at);
    starts(&mut site).await;
}

/// FAULTS 7: the record may have been confirmed or not when the relay died; the checkpoint covers it.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_last_record_is_damaged_and_covered_by_a_checkpoint_does_not_start() {
    let mut site = Site::with_relay(&pki::example_parties()).await;
    flash(&site, 1).await;
    site.kill("relay");
    let (segment, at) = place_in_journal(&site, b"a text");
    flip(&segment, at);
    for _ in 0..2 {
        site.start("relay");
        let code = site.ended("relay").code();
        assert!(matches!(code, Some(71 | 72)), "{code:?}: {}", site.last_words("relay"));
    }
}

async fn fetch(site: &Site, name: &str) -> Attacker {
    let (mut mys, _) = Attacker::open(site, "mys").await;
    mys.send(Kind::Fetch(pb::Fetch { request: 1, name: name.to_owned() })).await;
    mys
}

/// Asks for a file of the log that is there.
async fn fetched(site: &Site, name: &str) {
    let mut mys = fetch(site, name).await;
    let found = mys.wait_for(|frame| match frame {
        Kind::Fetched(fetched) => Some(fetched.found),
        _ => None,
    });
    assert!(found.await, "{name}");
}

async fn alarmed(site: &Site, name: &str) {
    let status = site.relay_until(|status| !status.alarms.is_empty()).await;
    let [alarm] = &status.alarms[..] else { panic!("{:?}", status.alarms) };
    assert_eq!(alarm.kind, AlarmKind::LogFile);
    for must in [name, "goes on", "stop the relay when it suits", "log/tile away and keep it"] {
        assert!(alarm.sentence.contains(must), "{must}: {alarm:?}");
    }
}

/// FAULTS 24, for a file that a start has no need of.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_the_log_is_an_alarm_with_its_remedy_and_mail_goes_on() {
    let mut site = Site::with_relay(&pki::example_parties()).await;
    flash(&site, 1).await;
    let size = signed(&site).unwrap().size;
    let name = format!("tile/entries/000.p/{size}");
    let path = site.dir("relay").join("log").join(&name);
    fetched(&site, &name).await;
    fs::write(&path, &fs::read(&path).unwrap()[..70]).unwrap();
    let mut mys = fetch(&site, &name).await;
    alarmed(&site, &name).await;
    // To be told that the leaves are not there would have every desk accuse the relay.
    mys.send(Kind::Ping(pb::Ping { token: 77 })).await;
    let is_answered = mys.wait_for(|frame| match frame {
        Kind::Fetched(_) => Some(true),
        Kind::Pong(pong) if pong.token == 77 => Some(false),
        _ => None,
    });
    assert!(!is_answered.await);
    flash(&site, 2).await;

    assert!(site.stop("relay").0.success());
    fs::rename(site.dir("relay").join("log/tile"), site.dir("kept")).unwrap();
    starts(&mut site).await;
    fetched(&site, &name).await;
    assert_eq!(site.relay_status().alarms, Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tile_that_a_hello_needs_keeps_that_desk_waiting_and_stops_nobody() {
    let site = Site::with_relay(&pki::example_parties()).await;
    flash(&site, 1).await;
    let older = Bytes::from(fs::read(site.dir("relay").join("log.kept/signed")).unwrap());
    flash(&site, 2).await;
    let name = format!("tile/0/000.p/{}", signed(&site).unwrap().size);
    fs::write(site.dir("relay").join("log").join(&name), b"damaged").unwrap();
    let (number, key) = keys_of(&site, "mys");
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    let mut mys = Attacker::connect(&site, "mys").await;
    mys.send(Kind::Hello(peer.hello_with(mys.exporter, older.clone()))).await;
    assert_eq!(mys.goodbye().await.0, GoodbyeCode::NotReady);
    alarmed(&site, &name).await;
    // With the next checkpoint come tiles that are whole.
    flash(&site, 3).await;
    let mut mys = Attacker::connect(&site, "mys").await;
    mys.send(Kind::Hello(peer.hello_with(mys.exporter, older))).await;
    mys.wait_for(|frame| matches!(frame, Kind::Welcome(_)).then_some(())).await;
}

/// A desk says Hello with a checkpoint that only a forked log can have; the relay ends with 72.
async fn brings(site: &mut Site, note: &Bytes) {
    let mut mys = Attacker::connect(site, "mys").await;
    let (number, key) = keys_of(site, "mys");
    let peer = Peer { roster: &site.example().roster, number, key: &key };
    mys.send(Kind::Hello(peer.hello_with(mys.exporter, note.clone()))).await;
    assert_eq!(site.ended("relay").code(), Some(72), "{}", site.last_words("relay"));
    let kept = files(&site.dir("relay").join("evidence"));
    assert_eq!(kept.into_values().collect::<Vec<_>>(), [note.to_vec()]);
    let words = site.last_words("relay");
    assert!(words.contains("put the newest journal back"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_checkpoint_that_a_party_brings_and_the_journal_does_not_lead_to_stops_the_relay_for_good() {
    let mut site = Site::with_relay(&pki::example_parties()).await;
    flash(&site, 1).await;
    let size = signed(&site).unwrap().size;
    let evidence = site.dir("relay").join("evidence");
    for (size, root) in [(size, sha256(b"another")), (1, sha256(b"another")), (1_000_000, Hash::ZERO)] {
        let note = signed_by_log(&site, size, root);
        brings(&mut site, &note).await;
        // The relay stopped at once: its next start may have to settle the last batch.
        site.start("relay");
        assert_eq!(site.ended("relay").code(), Some(72), "{}", site.last_words("relay"));
        let words = stays_down(&mut site);
        assert!(words.contains("evidence"), "{words}");
        stays_down(&mut site);
        fs::rename(&evidence, site.dir(&format!("taken-{size}"))).unwrap();
        starts(&mut site).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_the_journal_leads_to_or_that_is_of_another_log_keeps_nobody_down() {
    let mut site = Site::with_relay(&pki::example_parties()).await;
    flash(&site, 1).await;
    assert!(site.stop("relay").0.success());
    let evidence = site.dir("relay").join("evidence");
    fs::create_dir(&evidence).unwrap();
    fs::copy(site.dir("relay").join("log.kept/signed"), evidence.join("checkpoint-1")).unwrap();
    let other = SigningKey::generate().unwrap();
    let origin = site.example().trust.log_origin.clone();
    let foreign = Checkpoint { origin, size: 1_000_000, root: Hash::ZERO };
    fs::write(evidence.join("checkpoint-2"), signed_note(&other, &foreign)).unwrap();
    let own = SigningKey::load(&site.example().folder.join("relay/log.key")).unwrap();
    let former = Checkpoint { origin: "former.example/log".to_owned(), ..foreign };
    fs::write(evidence.join("checkpoint-3"), signed_note(&own, &former)).unwrap();
    starts(&mut site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_log_is_held_against_an_older_checkpoint_that_somebody_kept() {
    let mut site = Site::with_relay(&pki::example_parties()).await;
    ["idn", "mys", "phl", "vnm"].into_iter().for_each(|desk| site.start(desk));
    let published = site.dir("relay").join("log/checkpoint");
    let until = Instant::now() + TIME_MAX;
    while !published.exists() {
        assert!(Instant::now() < until, "nothing is published: {}", site.last_words("relay"));
        sleep(Duration::from_millis(20)).await;
    }
    let note = fs::read(&published).unwrap();
    let checkpoint: Checkpoint = Note::parse(&note).unwrap().text().parse().unwrap();
    let verify = |old: &[u8]| {
        let path = site.dir("old.note");
        fs::write(&path, old).unwrap();
        let mut pouch = Command::new(env!("CARGO_BIN_EXE_pouch"));
        pouch.args(["audit", "verify"]).arg(site.dir("relay").join("log"));
        pouch.arg("--trust").arg(site.example().folder.join("idn/trust.toml")).arg("--old").arg(&path);
        let output = pouch.output().unwrap();
        let words = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(words).unwrap())
    };
    let (code, words) = verify(&note);
    assert_eq!(code, Some(0), "{words}");
    for (size, root) in
        [(checkpoint.size, sha256(b"another")), (1, sha256(b"another")), (1_000_000, checkpoint.root)]
    {
        let (code, words) = verify(&signed_by_log(&site, size, root));
        assert_eq!(code, Some(8), "{size}: {words}");
        assert!(words.contains("checkpoint"), "{words}");
    }
}

/// Before it takes anybody's mail, not when the first checkpoint is due.
#[test]
fn a_relay_whose_log_key_the_first_roster_does_not_list_does_not_start() {
    let mut site = Site::new();
    let path = site.example().folder.join("relay/log.key");
    fs::remove_file(&path).unwrap();
    SigningKey::create(&path).unwrap();
    site.start("relay");
    assert_eq!(site.ended("relay").code(), Some(78));
    let words = site.words("relay");
    assert!(words.contains("log.key") && words.contains("publish a roster with this key"), "{words}");
}
