//! What a relay does before it listens: it reads its journal back, and holds the audit log's files against it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;

use super::{JOURNAL_FOLDER, RelayError, keeper::EVIDENCE_FOLDER};
use crate::{
    audit::{Checkpoint, LogTrust},
    exchange::{Exchange, Past},
    journal::{self, Disk, FileDisk, JournalError, Options, Reader, Recovered, Replayed, Writer},
    keys::SigningKey,
    limits::Limits,
    note::Vkey,
    roster::TrustBundle,
    tiles::{CHECKPOINT_FILE, Continued, DiskFolder, Folder, LogError, LogFiles, Opening},
    wire::Position,
};

/// A journal that was read back, the exchange that its records make, and the audit log that agrees with it.
pub(super) struct Opened {
    pub(super) exchange: Exchange,
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) log: OpenedLog,
}

/// What the log goes on from, and who signs it.
pub(super) struct OpenedLog {
    pub(super) continued: Continued,
    pub(super) key: SigningKey,
    /// Its public half, as rosters list it.
    pub(super) vkey: Vkey,
    pub(super) origin: String,
}

/// Reads the whole journal back.
///
/// # Errors
/// [`RelayError`]: the journal is damaged, or is not the one whose checkpoints this relay has signed.
pub(super) fn open(
    folder: &Path,
    journal_bytes_max: u64,
    openings_keep: Duration,
    log_key: &Path,
    bundle: TrustBundle,
) -> Result<Opened, RelayError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| RelayError::Folder { path: folder.to_owned(), source })?;
    let journal_folder = folder.join(JOURNAL_FOLDER);
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(&journal_folder)?);
    let (key, origin) = (SigningKey::load(log_key)?, bundle.log_origin.clone());
    let foreign = |_| LogError::ForeignKey { origin: origin.clone(), path: log_key.to_owned() };
    let vkey = key.vkey(&origin).map_err(foreign)?;
    let trust = LogTrust::new(&origin, vec![vkey.clone()], Vec::new(), 0);
    let log = Opening::new(LogFiles::of_relay(folder)?, &trust)?;
    let exchange = Exchange::new(Limits { openings_keep, ..Limits::DEFAULT }, bundle);
    let replay = Replay { exchange, log, journal_folder, disk: disk.clone(), is_first: true };
    let options = Options::with_bytes_max(journal_bytes_max);
    let (recovered, mut replay) = recover(disk, options, replay)?;
    let evidence_folder = folder.join(EVIDENCE_FOLDER);
    let evidence = evidence(&evidence_folder, &trust)?;
    let check = |log: &mut Opening, exchange: &Exchange, more: usize| {
        let found = log.check(exchange.tree(), more as u64, &evidence)?;
        let forked = || RelayError::Forked { evidence: evidence_folder.clone() };
        found.map_or(Ok(()), |_| Err(forked()))
    };
    // Now, and not once the journal goes on: what it shows is to stay as it is.
    check(&mut replay.log, &replay.exchange, recovered.unconfirmed())?;
    let base = replay.exchange.base();
    let (mut writer, reader) = recovered.open(&base, &mut |replayed| replay.take(replayed))?;
    let Replay { mut exchange, mut log, .. } = replay;
    // What was begun is finished: erasure is a fact of the log.
    exchange.erasure().into_iter().for_each(|erasure| writer.erase(erasure));
    check(&mut log, &exchange, 0)?;
    let continued = log.finish(exchange.tree())?;
    keep_log(&mut exchange, &continued)?;
    tracing::info!(records = exchange.tree().size(), "journal read back");
    Ok(Opened { exchange, writer, reader, log: OpenedLog { continued, key, vkey, origin } })
}

/// What the journal's records make.
struct Replay {
    exchange: Exchange,
    log: Opening,
    journal_folder: PathBuf,
    disk: Arc<dyn Disk>,
    /// Whether the journal's first base is still to come.
    is_first: bool,
}

impl Replay {
    fn take(&mut self, replayed: Replayed) -> Result<(), RelayError> {
        match replayed {
            Replayed::Base(base) if std::mem::take(&mut self.is_first) => {
                let note = |position| Ok::<_, RelayError>(journal::note(&*self.disk, position)?);
                self.exchange.restore(&base, note)?;
                let begin = Position(self.exchange.tree().size());
                catch_up(&mut self.log, &self.journal_folder, begin)
            }
            Replayed::Base(base) => Ok(self.exchange.replay_base(&base)?),
            Replayed::Record(position, record) => {
                self.take_record(position, Past::read(position, &record)?, &record.leaf)
            }
            Replayed::Archived(position, _) => Err(JournalError::NoRecord(position.0).into()),
        }
    }

    fn take_record(&mut self, position: Position, past: Past, leaf: &Bytes) -> Result<(), RelayError> {
        self.exchange.replay_past(past)?;
        Ok(self.log.take(position, leaf)?)
    }
}

/// What one thread hands to the other.
enum HandedOver {
    Record(Position, Box<Past>, Bytes),
    Other(Replayed),
}

/// Bytes of records handed over at once, and how many times as many may wait.
const HANDED_OVER_BYTES: usize = 256 * 1024;
const HANDED_OVER_MAX: usize = 8;

/// Reads the journal on this thread and takes its records in on another. Whoever is ahead reads what the records say: this
/// thread while more than one lump waits for the other, which else does it. Some 3 MiB wait between them.
fn recover(
    disk: Arc<dyn Disk>,
    options: Options,
    mut replay: Replay,
) -> Result<(Recovered, Replay), RelayError> {
    // Lumps handed over and not yet begun.
    let waiting = &AtomicUsize::new(0);
    thread::scope(|scope| {
        let (hand_over, handed_over) = sync_channel::<Vec<HandedOver>>(HANDED_OVER_MAX);
        let take = move || -> Result<Replay, RelayError> {
            for lump in handed_over {
                waiting.fetch_sub(1, Ordering::Relaxed);
                for handed_over in lump {
                    match handed_over {
                        HandedOver::Record(position, past, leaf) => {
                            replay.take_record(position, *past, &leaf)?
                        }
                        HandedOver::Other(replayed) => replay.take(replayed)?,
                    }
                }
            }
            Ok(replay)
        };
        let taking = thread::Builder::new().name("replay".to_owned()).spawn_scoped(scope, take);
        let taking = taking.map_err(|_| JournalError::Stopped)?;
        let gone = |_| RelayError::from(JournalError::Stopped);
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        let recovered = journal::recover(disk, options, &mut |replayed| {
            bytes += replayed.bytes();
            gathered.push(match replayed {
                Replayed::Record(position, record) if waiting.load(Ordering::Relaxed) > 1 => {
                    let past = Past::read(position, &record)?;
                    HandedOver::Record(position, Box::new(past), record.leaf)
                }
                other => HandedOver::Other(other),
            });
            if bytes < HANDED_OVER_BYTES {
                return Ok(());
            }
            bytes = 0;
            waiting.fetch_add(1, Ordering::Relaxed);
            hand_over.send(std::mem::take(&mut gathered)).map_err(gone)
        });
        // The other thread has ended only for an error of its own, which is the one to tell.
        waiting.fetch_add(1, Ordering::Relaxed);
        let handed_over = hand_over.send(gathered).map_err(gone);
        drop(hand_over);
        let replay = taking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        handed_over?;
        Ok((recovered?, replay))
    })
}

/// Takes leaves out of the archives where the log's files end before the oldest segment begins.
fn catch_up(log: &mut Opening, journal: &Path, end: Position) -> Result<(), RelayError> {
    if log.from() >= end {
        return Ok(());
    }
    tracing::info!(from = log.from().0, to = end.0, "the audit log's files are written from the archives");
    let disk = FileDisk::observe(journal)?;
    journal::observe(&disk, &mut |replayed| match replayed {
        Replayed::Archived(position, record) | Replayed::Record(position, record) if position < end => {
            Ok::<_, RelayError>(log.take(position, &record.leaf)?)
        }
        Replayed::Archived(..) | Replayed::Record(..) | Replayed::Base(_) => Ok(()),
    })
}

/// The checkpoints that made an earlier run of this relay stop: they count until the journal that leads to them is back,
/// or another key signs.
fn evidence(folder: &Path, trust: &LogTrust) -> Result<Vec<Checkpoint>, LogError> {
    let kept = DiskFolder::observe(folder);
    let failed = |source| LogError::File { path: folder.to_owned(), source };
    let mut evidence = Vec::new();
    for name in kept.list("").map_err(failed)? {
        let note = match kept.read(&name) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => continue,
            note => note.map_err(failed)?,
        };
        match note.map(|note| trust.open(&note)) {
            Some(Ok(signed)) => evidence.push(signed.checkpoint),
            _ => tracing::info!(name, "evidence of another log, key or form is passed over"),
        }
    }
    Ok(evidence)
}

/// Hands the exchange what was signed and published. Where the roster in force does not list this relay's key, it signs
/// no more and says so: the roster that lists it can only come to a relay that runs.
fn keep_log(exchange: &mut Exchange, continued: &Continued) -> Result<(), LogError> {
    let published = continued.files.published()?;
    let signed = continued.signed.as_ref().map(|(_, note)| note.clone());
    let damaged = |source| LogError::Damaged { path: CHECKPOINT_FILE.into(), source };
    exchange.keep_log(signed, published).map_err(damaged)
}
