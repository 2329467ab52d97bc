//! The audit log as plain files that anybody's tools can read (tlog-tiles), and the signing of its checkpoints.
//!
//! Files are a view of the journal's leaves, never ahead of what is durable there: delete them and
//! [`View::open`] asks for all leaves again and writes the same bytes. `folder` is the seam to the file
//! system, `view` turns leaves into tiles and bundles, `signer` is the thread that signs checkpoints, and
//! `serve` reads files back for whoever asks.
//!
//! Order of a checkpoint (FORMATS 10): its leaves are durable in the journal, the log's key signs, tiles and
//! bundles are durable, the signed checkpoint is durable, witnesses are asked, it is published, desks hear of that.

mod folder;
mod opening;
mod remote;
mod serve;
mod signer;
#[cfg(test)]
mod tests;
mod verify;
mod view;

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
};

pub use folder::{DiskFolder, Folder};
pub use opening::{Continued, LogFiles, Opening};
pub use remote::{LogUrl, NoLogUrl, ReaderTls, RemoteFolder};
pub use serve::{Served, consistency_path, inclusion_path, serve};
pub use signer::{Command, Log, Outcome, signed_note};
pub use verify::{Fault, VerifiedLog, facts, leaves, verify};
pub use view::View;

use crate::{audit::AuditError, keys::KeyError};

/// Published: a checkpoint that a quorum of witnesses signed, or that needs none.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// Where the note of a roster version lies: its administrative leaf names its hash.
pub fn roster_file(version: u32) -> String {
    format!("roster/{version}")
}

/// The newest checkpoint that the log's key signed, whether witnessed or not; never in the folder that is served.
pub const SIGNED_FILE: &str = "signed";

/// Why the log's files cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system.
    #[error("audit log {path}: {source}; check the disk and who owns the folder", path = path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file is not what was written.
    #[error("audit log {path}: {source}", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: AuditError,
    },
    /// No path can be found.
    #[error("the audit log's tiles give no such proof: {0}")]
    Proof(#[from] AuditError),
    /// A tile is damaged, whose bytes the journal can give again.
    #[error(
        "a tile of the audit log is damaged (it makes another root than the checkpoint of {size} leaves): stop the relay, move its folder log/tile away and keep it, and start it again, which writes all tiles anew; nothing else is lost"
    )]
    Tiles {
        /// The checkpoint's size.
        size: u64,
    },
    /// Leaves were lost between journal and tiles: a bug, and not one to go on with.
    #[error(
        "the tiles of {size} leaves make another root than the journal: restart the relay, and tell its makers"
    )]
    Disagrees {
        /// Leaves.
        size: u64,
    },
    /// The thread is gone.
    #[error("the audit log's thread has ended")]
    Stopped,
    /// The key is not the log's.
    #[error(
        "the log key in {path} is not among those of {origin} in the roster: give the relay the PKI folder that the roster was made from, or publish a roster with this key",
        path = path.display()
    )]
    ForeignKey {
        /// The log.
        origin: String,
        /// The key's file.
        path: PathBuf,
    },
    /// The journal is not the one whose checkpoints were signed.
    #[error(
        "the journal disagrees with a checkpoint of {size} leaves that this relay has signed ({path}): it was restored from an older copy, or changed. Delete nothing: save the relay's folder as evidence, tell the ministry, and put the newest journal back; where there is none, start a new log under a new origin in a new roster",
        path = path.display()
    )]
    Forked {
        /// The checkpoint's size.
        size: u64,
        /// Where the checkpoint lies.
        path: PathBuf,
    },
}

impl LogError {
    /// Whether all that is missing is room on the disk.
    fn is_full(&self) -> bool {
        let LogError::File { source, .. } = self else { return false };
        matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }

    /// The process's exit code (DESIGN 8).
    pub fn exit_code(&self) -> u8 {
        match self {
            LogError::File { .. } | LogError::Stopped => 70,
            LogError::Damaged { .. }
            | LogError::Proof(_)
            | LogError::Tiles { .. }
            | LogError::Disagrees { .. } => 71,
            LogError::Forked { .. } => 72,
            LogError::Key(_) | LogError::ForeignKey { .. } => 78,
        }
    }
}
