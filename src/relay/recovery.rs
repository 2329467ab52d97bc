//! What a relay does before it listens: it reads its journal back, and holds the audit log's files against it.

use std::{path::Path, sync::Arc};

use super::{JOURNAL_FOLDER, RelayError};
use crate::{
    audit::LogTrust,
    exchange::Exchange,
    journal::{self, Disk, FileDisk, JournalError, Options, Reader, Replayed, Writer},
    keys::SigningKey,
    limits::Limits,
    note::Vkey,
    roster::TrustBundle,
    tiles::{CHECKPOINT_FILE, Continued, LogError, LogFiles, Opening},
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
    pub(super) origin: String,
}

/// Reads the whole journal back.
///
/// # Errors
/// [`RelayError`]: the journal is damaged, or is not the one whose checkpoints this relay has signed.
pub(super) fn open(
    folder: &Path,
    journal_bytes_max: u64,
    log_key: &Path,
    bundle: TrustBundle,
) -> Result<Opened, RelayError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| RelayError::Folder { path: folder.to_owned(), source })?;
    let journal_folder = folder.join(JOURNAL_FOLDER);
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(&journal_folder)?);
    let (key, origin) = (SigningKey::load(log_key)?, bundle.log_origin.clone());
    let foreign = || LogError::ForeignKey { origin: origin.clone(), path: log_key.to_owned() };
    let vkey = key.vkey(&origin).map_err(|_| foreign())?;
    let trust = LogTrust::new(&origin, vec![vkey.clone()], Vec::new(), 0);
    let mut log = Opening::new(LogFiles::of_relay(folder)?, &trust)?;
    let mut exchange = Exchange::new(Limits::DEFAULT, bundle);
    let mut is_first = true;
    let (notes, options) = (disk.clone(), Options::with_bytes_max(journal_bytes_max));
    let mut replay = |exchange: &mut Exchange, replayed: Replayed| -> Result<(), RelayError> {
        match replayed {
            Replayed::Base(base) if std::mem::take(&mut is_first) => {
                exchange.restore(&base, |position| Ok::<_, RelayError>(journal::note(&*notes, position)?))?;
                catch_up(&mut log, &journal_folder, Position(exchange.tree().size()))
            }
            Replayed::Base(base) => Ok(exchange.replay_base(&base)?),
            Replayed::Record(position, record) => {
                exchange.replay(position, &record)?;
                Ok(log.take(position, &record.leaf)?)
            }
            Replayed::Archived(position, _) => Err(JournalError::NoRecord(position.0).into()),
        }
    };
    let recovered = journal::recover(disk, options, &mut |replayed| replay(&mut exchange, replayed))?;
    let base = exchange.base();
    let (writer, reader) = recovered.open(&base, &mut |replayed| replay(&mut exchange, replayed))?;
    let continued = log.finish(exchange.tree())?;
    keep_log(&mut exchange, &continued, &vkey).map_err(|error| error.unwrap_or_else(foreign))?;
    tracing::info!(records = exchange.tree().size(), "journal read back");
    Ok(Opened { exchange, writer, reader, log: OpenedLog { continued, key, origin } })
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

/// Hands the exchange what was signed and published, where the roster in force lists this relay's log key.
/// The error is `None` where it does not.
fn keep_log(exchange: &mut Exchange, continued: &Continued, own: &Vkey) -> Result<(), Option<LogError>> {
    if let Some(roster) = exchange.roster()
        && !roster.content().log.keys.contains(own)
    {
        return Err(None);
    }
    let published = continued.files.published()?;
    let signed = continued.signed.as_ref().map(|(_, note)| note.clone());
    let damaged = |source| LogError::Damaged { path: CHECKPOINT_FILE.into(), source };
    Ok(exchange.keep_log(signed, published).map_err(damaged)?)
}
