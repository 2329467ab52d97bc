//! The engine's end of the audit log: leaves and commands to the log's thread, files to whoever asks.

use std::{collections::VecDeque, path::Path};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::engine::Message;
use crate::{
    exchange::{ConnId, Input},
    limits::{LOG_LEAVES_AT_ONCE, LOG_LEAVES_BEHIND_MAX},
    merkle::Hash,
    tiles::{self, Command, DiskFolder, Folder, Log, LogError, LogFiles, Served},
};

/// Owned by the engine.
pub(super) struct Keeper {
    log: Log,
    files: LogFiles,
    /// Whether there is a log at all.
    is_kept: bool,
    /// Leaves of records on their way to the disk, in the order of their tickets.
    appended: VecDeque<Bytes>,
    /// What the thread has no room for yet, in order.
    waiting: VecDeque<Command>,
    leaves_waiting: usize,
    to_engine: mpsc::Sender<Message>,
}

impl Keeper {
    /// Without a log to be kept, leaves are let go.
    pub(super) fn new(log: Log, files: LogFiles, is_kept: bool, to_engine: mpsc::Sender<Message>) -> Keeper {
        let (appended, waiting) = (VecDeque::new(), VecDeque::new());
        Keeper { log, files, is_kept, appended, waiting, leaves_waiting: 0, to_engine }
    }

    /// A record goes to the journal.
    pub(super) fn append(&mut self, leaf: &Bytes) {
        if self.is_kept {
            self.appended.push_back(leaf.clone());
        }
    }

    /// The oldest so many records are durable.
    pub(super) fn durable(&mut self, records: usize) {
        if !self.is_kept {
            return;
        }
        let leaves = self.appended.drain(..records);
        self.leaves_waiting += records;
        match self.waiting.back_mut() {
            Some(Command::Leaves(waiting)) => waiting.extend(leaves),
            Some(Command::Sign { .. } | Command::Roster(..) | Command::Publish(_)) | None => {
                self.waiting.push_back(Command::Leaves(leaves.collect()));
            }
        }
    }

    pub(super) fn sign(&mut self, size: u64, root: Hash) {
        self.waiting.push_back(Command::Sign { size, root });
    }

    pub(super) fn roster(&mut self, version: u32, note: Bytes) {
        self.waiting.push_back(Command::Roster(version, note));
    }

    pub(super) fn publish(&mut self, note: Bytes) {
        self.waiting.push_back(Command::Publish(note));
    }

    /// Tells the thread as much as it has room for; of leaves that nothing follows, only many at once, so that it is
    /// not woken for each.
    ///
    /// # Errors
    /// [`LogError::Stopped`]: why, it has said by itself.
    pub(super) fn carry_out(&mut self) -> Result<(), LogError> {
        let is_little = |leaves: &Vec<Bytes>| leaves.len() < LOG_LEAVES_AT_ONCE;
        if let [Command::Leaves(leaves)] = self.waiting.make_contiguous()
            && is_little(leaves)
        {
            return Ok(());
        }
        while let Some(command) = self.waiting.pop_front() {
            let leaves = if let Command::Leaves(leaves) = &command { leaves.len() } else { 0 };
            if let Some(command) = self.log.tell(command)? {
                self.waiting.push_front(command);
                break;
            }
            self.leaves_waiting -= leaves;
        }
        Ok(())
    }

    /// Whether desks have to wait until the thread has caught up.
    pub(super) fn is_behind(&self) -> bool {
        self.leaves_waiting >= LOG_LEAVES_BEHIND_MAX
    }

    /// Has the path between two trees found, off the engine's task.
    pub(super) fn prove(&self, conn: ConnId, old_size: u64, size: u64, root: Hash) {
        self.answer(move |served| match tiles::consistency_path(served, old_size, size, root) {
            Ok(path) => (Input::Proved { conn, old_size, size, path }, None),
            // No reason to stop the mail either: it concerns this desk's part in the log alone.
            Err(error) => (Input::Unproved { conn, old_size }, Some(error)),
        });
    }

    /// Has a file of the log read, off the engine's task.
    pub(super) fn fetch(&self, conn: ConnId, request: u64, name: String) {
        self.answer(move |served| {
            let bytes = match tiles::serve(served, &name) {
                Ok(Served::Checkpoint(bytes) | Served::Tile(bytes)) => Some(Bytes::from(bytes)),
                Ok(Served::Absent) => None,
                // One file that is damaged is no reason to stop the mail: whoever asked for another gets it.
                Err(error) => return (Input::Unreadable { conn, request }, Some(error)),
            };
            (Input::Fetched { conn, request, bytes }, None)
        });
    }

    fn answer(&self, find: impl FnOnce(&dyn Folder) -> (Input, Option<LogError>) + Send + 'static) {
        let (served, to_engine) = (self.files.served.clone(), self.to_engine.clone());
        tokio::task::spawn_blocking(move || {
            let (found, error) = find(&*served);
            if to_engine.blocking_send(Message::Looked { found, error }).is_err() {
                tracing::debug!("an answer from the audit log came after the engine's end");
            }
        });
    }
}

/// Where checkpoints lie that parties brought, and that prove a fork.
pub(super) const EVIDENCE_FOLDER: &str = "evidence";

/// Keeps a checkpoint that proves a fork where an operator finds it.
pub(super) fn keep_evidence(dir: &Path, note: &[u8]) -> Result<(), LogError> {
    let folder = dir.join(EVIDENCE_FOLDER);
    let failed = |source| LogError::File { path: folder.clone(), source };
    let name = format!("checkpoint-{}", crate::merkle::sha256(note));
    DiskFolder::open(&folder).and_then(|folder| folder.put(&[(name, note.to_vec())])).map_err(failed)
}
