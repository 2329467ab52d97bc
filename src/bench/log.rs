//! What the audit log costs: W1 with it and without, a leaf in tree and tiles by itself, and how fast it is verified.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use super::{
    BenchError, Options, PUBLISHERS,
    desk::{RelayEnd, Site},
    process::used_by_this_thread,
    report::{Figures, LogCost},
    throwaway::{Purpose, Relay, Scratch},
    workloads::Run,
};
use crate::{
    audit::{Checkpoint, witness_name},
    keys::SigningKey,
    limits::Limits,
    merkle::{self, Frontier},
    note::Note,
    pki::{self, Example},
    tiles::{self, CHECKPOINT_FILE, DiskFolder, LogError, SIGNED_FILE, VerifiedLog, View},
};

/// How long each of the four runs of W1 may take.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Leaves of 34 bytes whose append is measured; 2,048 files and 14 more.
const LEAVES: u32 = 256 * 1024;
const LEAF_BYTES: usize = 34;
/// How often the relay is looked at for its next checkpoint.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs W1 four times at two relays: with the log, without, without, with. What the machine does more slowly from one
/// minute to the next is then the same for both.
pub(super) async fn measure(options: &Options, scratch: &Scratch) -> Result<LogCost, BenchError> {
    let example = pki::example_bloc(PUBLISHERS);
    let example = pki::make_example(&scratch.path().join("pki-log"), &example, &[], SystemTime::now())?;
    let mut with = Side::start(scratch, &example, Purpose::Traffic).await?;
    let mut without = Side::start(scratch, &example, Purpose::TrafficWithoutLog).await?;
    let time = options.time.min(TIME_MAX);
    with = with.w1(time).await?;
    without = without.w1(time).await?.w1(time).await?;
    with = with.w1(time).await?;
    let append = append(&scratch.fresh("append"))?;
    let log = with.relay.folder().join("log");
    let note = await_signed(with.relay.folder(), with.envelopes).await?;
    fs::write(log.join(CHECKPOINT_FILE), cosigned(&note, &example)?).map_err(BenchError::file(&log))?;
    let (verified, verify_time) = verify(&log, &example)?;
    let (rate, rate_without) = (with.per_second(), without.per_second());
    Ok(LogCost {
        workload: "log",
        w1_envelopes_per_s: rate.round() as u64,
        w1_without_tree_envelopes_per_s: rate_without.round() as u64,
        log_cost_percent: hundredths(100.0 * (1.0 - rate / rate_without)),
        w1_relay_cpu_s_per_million: with.cpu_s_per_million(),
        w1_without_tree_relay_cpu_s_per_million: without.cpu_s_per_million(),
        tree_us_per_leaf: append.tree_us.map(hundredths),
        append_us_per_leaf: append.tree_us.zip(append.tiles_us).map(|(tree, tiles)| hundredths(tree + tiles)),
        tiles_durable_us_per_leaf: hundredths(append.durable_us),
        leaves: verified.checkpoint.size,
        verify_leaves_per_s: (verified.checkpoint.size as f64 / verify_time.as_secs_f64()).round() as u64,
    })
}

/// One of the two relays, and what it has done so far.
struct Side {
    relay: Relay,
    site: Site,
    end: Arc<RelayEnd>,
    envelopes: u64,
    seconds: f64,
    cpu_seconds: Option<f64>,
}

impl Side {
    async fn start(scratch: &Scratch, example: &Example, purpose: Purpose) -> Result<Side, BenchError> {
        let relay = Relay::start(scratch, example, purpose).await?;
        let (site, end) = Site::load(relay.target(), PUBLISHERS)?;
        Ok(Side { relay, site, end, envelopes: 0, seconds: 0.0, cpu_seconds: Some(0.0) })
    }

    async fn w1(self, time: Duration) -> Result<Side, BenchError> {
        let process = Some(self.relay.process());
        let run = Run { time, verify: false, process, relay: self.end.clone() };
        let (figures, site) = run.w1(self.site).await?;
        let Figures { envelopes, envelopes_per_s, relay_cpu_s_per_million, .. } = figures;
        let seconds = envelopes as f64 / envelopes_per_s.unwrap_or_default().max(1) as f64;
        let cpu_seconds = relay_cpu_s_per_million.map(|seconds| seconds * envelopes as f64 / 1e6);
        Ok(Side {
            site,
            envelopes: self.envelopes + envelopes,
            seconds: self.seconds + seconds,
            cpu_seconds: self.cpu_seconds.zip(cpu_seconds).map(|(before, more)| before + more),
            ..self
        })
    }

    fn per_second(&self) -> f64 {
        self.envelopes as f64 / self.seconds
    }

    fn cpu_s_per_million(&self) -> Option<f64> {
        self.cpu_seconds.map(|seconds| hundredths(seconds * 1e6 / self.envelopes as f64))
    }
}

/// Waits until the relay has signed a checkpoint of so many leaves or more.
async fn await_signed(folder: &Path, leaves: u64) -> Result<Vec<u8>, BenchError> {
    let file = folder.join("log.kept").join(SIGNED_FILE);
    // The one that covers the last leaf may be signed after the next.
    let time_max = 3 * Limits::DEFAULT.checkpoint_every;
    let began = Instant::now();
    while began.elapsed() < time_max {
        let note = fs::read(&file).map_err(BenchError::file(&file))?;
        let checkpoint = Note::parse(&note)?.text().parse::<Checkpoint>();
        if checkpoint.is_ok_and(|checkpoint| checkpoint.size >= leaves) {
            return Ok(note);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(BenchError::Silent(time_max))
}

/// The checkpoint as a quorum of witnesses would have had it published: the desks of a bench watch nothing.
fn cosigned(note: &[u8], example: &Example) -> Result<Vec<u8>, BenchError> {
    let mut note = Note::parse(note)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for party in example.roster.witnesses().take(example.roster.quorum()) {
        let key = SigningKey::load(&example.party_folder(&party.id).join("witness.key"))?;
        let line = key.cosign(&witness_name(&party.id), now.as_secs(), note.text())?;
        note.add(line)?;
    }
    Ok(note.to_bytes())
}

fn verify(log: &Path, example: &Example) -> Result<(VerifiedLog, Duration), BenchError> {
    let began = Instant::now();
    let verified = tiles::verify(&DiskFolder::observe(log), &example.trust, None)?;
    let time = began.elapsed();
    if verified.is_witnessed { Ok((verified, time)) } else { Err(BenchError::Wrong("no quorum")) }
}

/// Microseconds for each leaf.
struct Append {
    /// Processor time of a tree in memory.
    tree_us: Option<f64>,
    /// Processor time of tiles and bundles.
    tiles_us: Option<f64>,
    /// The same by the clock, with the disk.
    durable_us: f64,
}

fn append(folder: &Path) -> Result<Append, BenchError> {
    let leaf = |number: u32| {
        let mut leaf = [0x5a; LEAF_BYTES];
        leaf[..4].copy_from_slice(&number.to_be_bytes());
        Bytes::copy_from_slice(&leaf)
    };
    let leaves: Vec<Bytes> = (0..LEAVES).map(leaf).collect();
    let per_leaf = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(LEAVES);
    let since = |before: Option<Duration>| Some(per_leaf(used_by_this_thread()?.saturating_sub(before?)));
    let used = used_by_this_thread();
    let mut tree = Frontier::new();
    leaves.iter().for_each(|leaf| tree.append(merkle::leaf_hash(leaf)));
    let tree_us = since(used);
    let opened =
        DiskFolder::open(folder).map_err(|source| LogError::File { path: folder.to_owned(), source });
    let mut view = View::open(Arc::new(opened?), None)?;
    let (used, began) = (used_by_this_thread(), Instant::now());
    for leaf in leaves {
        view.take(leaf)?;
    }
    view.write()?;
    let (tiles_us, durable_us) = (since(used), per_leaf(began.elapsed()));
    let fits = view.root() == tree.root();
    fits.then_some(Append { tree_us, tiles_us, durable_us }).ok_or(BenchError::Wrong("another root"))
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
