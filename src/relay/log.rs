//! What happened, read from the journal of a relay that may be running: `pouch relay log`.
//!
//! The relay's owner sees here what the relay itself sees: who wrote to whom, when and how much; never
//! a subject or a text. The log is chained; who has witnessed it, `pouch audit verify` says.

use std::path::Path;

use serde::Serialize;

use super::JOURNAL_FOLDER;
use crate::{
    exchange::ReplayError,
    journal::{self, FileDisk, JournalError, Replayed},
    merkle::Frontier,
    record::{
        Record,
        administrative::{Act, AdministrativeLeaf},
        content::{self, Content},
        leaf::{Opening, OpeningKind, is_administrative},
    },
    wire::{
        Position,
        order::{Order, OrderKind},
    },
};

/// One record, as a line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Its place.
    pub position: u64,
    /// Log time, microseconds since 1970; 0 where it is erased.
    pub log_time_us: u64,
    /// `envelope`, `receipts`, `refusal`, `roster`, `incarnation`, `started`, `stopped`, `refusals`, `expired`, `order`,
    /// `cloned`, `clock`, `erasures`; `traffic` where it is erased.
    pub kind: &'static str,
    /// Party number of the sender, the receiptor or the party concerned; 0 where there is none.
    pub party: u32,
    /// Addressees of an envelope; senders that receipts are for.
    pub to: Vec<u32>,
    /// In words: precedence and size, steps and counts, codes.
    pub what: String,
    /// Envelope hash, batch root or leaf hash, lower hex.
    pub hash: String,
}

/// The end of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogHead {
    /// Records in all.
    pub size: u64,
    /// Root of the tree over their leaves, lower hex.
    pub root: String,
    /// What this log is worth today.
    pub standing: &'static str,
}

/// Why the log cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record in it.
    #[error(transparent)]
    Record(#[from] ReplayError),
}

/// Why reading ended early: the log, or whoever takes its lines.
enum Ended<E> {
    Log(LogError),
    Line(E),
}

impl<E> From<JournalError> for Ended<E> {
    fn from(error: JournalError) -> Ended<E> {
        Ended::Log(error.into())
    }
}

/// Hands every record from a position on to `line`, and returns the head. Streams: one batch at a time.
///
/// # Errors
/// [`LogError`] as `E`, and whatever `line` answers, at once.
pub fn read<E: From<LogError>>(
    dir: &Path,
    since: Position,
    mut line: impl FnMut(LogLine) -> Result<(), E>,
) -> Result<LogHead, E> {
    let mut tree = Frontier::new();
    let disk = FileDisk::observe(&dir.join(JOURNAL_FOLDER)).map_err(LogError::from)?;
    let read = journal::observe(&disk, &mut |replayed| {
        let (position, record, is_whole) = match replayed {
            Replayed::Base(_) => return Ok(()),
            Replayed::Record(position, record) => (position, record, true),
            Replayed::Archived(position, record) => (position, record, false),
        };
        tree.append(content::leaf_hash(&record));
        if position < since {
            return Ok(());
        }
        let told = if is_whole { describe(position, &record) } else { describe_archived(position, &record) };
        line(told.map_err(Ended::Log)?).map_err(Ended::Line)
    });
    match read {
        Ok(()) => Ok(LogHead {
            size: tree.size(),
            root: tree.root().to_string(),
            standing: "chained; `pouch audit verify` says who has witnessed it",
        }),
        Err(Ended::Log(error)) => Err(error.into()),
        Err(Ended::Line(error)) => Err(error),
    }
}

fn describe(position: Position, record: &Record) -> Result<LogLine, LogError> {
    let content =
        Content::from_record(record).map_err(|source| ReplayError::Malformed { position, source })?;
    let log_time_us = content.log_time_us();
    let line = |kind, party, to, what, hash: String| LogLine {
        position: position.0,
        log_time_us,
        kind,
        party,
        to,
        what,
        hash,
    };
    Ok(match content {
        Content::Envelope(accepted) => {
            let core = &accepted.core;
            let to = core.addressees.iter().map(|addressee| addressee.party.0).collect();
            let (precedence, bytes) = (core.precedence_action.name(), accepted.envelope.bytes());
            let what = format!("{precedence}, topic {}, {bytes} bytes", core.topic);
            line("envelope", core.sender.0, to, what, accepted.hash.to_string())
        }
        Content::Receipts(receipts) => {
            let parts = &receipts.batch.parts;
            let to = parts.iter().map(|part| part.item.sender.0).collect();
            let steps =
                parts.iter().map(|part| format!("{} {}", part.item.kind.name(), part.item.envelopes.len()));
            let what = steps.collect::<Vec<_>>().join(", ");
            line("receipts", receipts.receiptor.0, to, what, receipts.traffic.opening.hash.to_string())
        }
        Content::Refusal(refusal) => line(
            "refusal",
            refusal.sender.0,
            Vec::new(),
            format!("code {}", refusal.code),
            refusal.hash.to_string(),
        ),
        Content::Expired(expired) => {
            let to = expired.addressees.iter().map(|(party, _)| party.0).collect();
            let what = format!("envelope at {}", expired.position);
            line("expired", expired.sender.0, to, what, expired.traffic.opening.hash.to_string())
        }
        Content::Administrative(administrative) => {
            let (kind, party, what) = describe_act(&administrative.leaf.act);
            line(kind, party, Vec::new(), what, content::leaf_hash(record).to_string())
        }
    })
}

fn describe_order(order: &Order) -> (&'static str, u32, String) {
    let (party, detail) = match order.kind {
        OrderKind::Suspend { party, until_s: u64::MAX } => (party.0, "until lifted".to_owned()),
        OrderKind::Suspend { party, until_s } => (party.0, format!("until {until_s} s")),
        OrderKind::Lift { party } => (party.0, String::new()),
        OrderKind::Minimize { until_s } => (0, format!("until {until_s} s")),
        OrderKind::Erase { position } => (0, format!("position {position}")),
    };
    ("order", party, format!("{} {} {detail}", order.number, order.kind.name()).trim_end().to_owned())
}

/// A record of which leaf and opening are left.
fn describe_archived(position: Position, record: &Record) -> Result<LogLine, LogError> {
    let malformed = |source| ReplayError::Malformed { position, source };
    let (log_time_us, kind, party, what, hash) = if is_administrative(&record.leaf) {
        let leaf = AdministrativeLeaf::decode(&record.leaf).map_err(malformed)?;
        let (kind, party, what) = describe_act(&leaf.act);
        (leaf.log_time_us, kind, party, what, content::leaf_hash(record))
    } else if record.opening.is_empty() {
        (0, "traffic", 0, "erased: only the leaf is left".to_owned(), content::leaf_hash(record))
    } else {
        let opening = Opening::decode(&record.opening).map_err(malformed)?;
        let kind = match opening.kind {
            OpeningKind::Envelope => "envelope",
            OpeningKind::Receipts => "receipts",
            OpeningKind::Refusal => "refusal",
            OpeningKind::Expiry => "expired",
        };
        (opening.log_time_us, kind, 0, "archived: header and body are gone".to_owned(), opening.hash)
    };
    let (position, to, hash) = (position.0, Vec::new(), hash.to_string());
    Ok(LogLine { position, log_time_us, kind, party, to, what, hash })
}

/// An administrative act as kind, party concerned or 0, and words.
pub fn describe_act(act: &Act) -> (&'static str, u32, String) {
    match act {
        Act::Roster { version, length, .. } => ("roster", 0, format!("version {version}, {length} bytes")),
        Act::Incarnation { party, incarnation, .. } => {
            ("incarnation", party.0, format!("incarnation {incarnation}"))
        }
        Act::Started { software } => ("started", 0, software.clone()),
        Act::Stopped => ("stopped", 0, "in order".to_owned()),
        Act::Refusals { party, code, count, .. } => {
            ("refusals", party.0, format!("code {code}, {count} times in a minute"))
        }
        Act::Order(signed) => describe_order(&signed.order),
        Act::Cloned { party, .. } => ("cloned", party.0, "two machines take turns as this party".to_owned()),
        Act::ClockAccepted { wall_us } => ("clock", 0, format!("accepted at {} s", wall_us / 1_000_000)),
        Act::Erasures { through } => {
            ("erasures", 0, format!("openings and headers through position {} are erased", through.0))
        }
        Act::Configuration { hash } => ("configured", 0, format!("SHA-256 {hash}")),
    }
}
