//! The thread that writes tiles and signs checkpoints: no envelope ever waits for it. On a full disk it waits until
//! there is room again, and mail goes on.

use std::{
    convert::Infallible,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;

use super::{CHECKPOINT_FILE, LogError, LogFiles, SIGNED_FILE, View, view::file};
use crate::{audit::Checkpoint, keys::SigningKey, limits::LOG_COMMANDS_MAX, merkle::Hash, note::Note};

/// What the thread is told, in order.
#[derive(Clone, Debug)]
pub enum Command {
    /// Leaves that are durable, in the order of their positions.
    Leaves(Vec<Bytes>),
    /// Sign a checkpoint over all leaves told so far. They make this root, or the relay stops.
    Sign {
        /// Leaves.
        size: u64,
        /// As the exchange has it.
        root: Hash,
    },
    /// Put the note of a roster version beside the tiles, for whoever has to know whose signatures count.
    Roster(u32, Bytes),
    /// Publish a checkpoint with the cosignatures that it got.
    Publish(Bytes),
}

/// What became of it.
#[derive(Debug)]
pub enum Outcome {
    /// A checkpoint is signed, and it and its tiles are durable: a note with the log's signature alone.
    Signed(Bytes),
    /// A checkpoint that was to be published is, and it is durable.
    Published(Bytes),
    /// The disk has no room for the log's files, or has it again. Until then nothing is signed.
    Full(bool),
    /// The log cannot go on. Nothing more comes.
    Failed(LogError),
}

/// The thread. Dropping it ends the thread once what it was told is done.
pub struct Log {
    /// And the channel whose end tells the thread not to wait any longer.
    commands: Option<(SyncSender<Command>, Sender<Infallible>)>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts the thread. `report` is called on it; it may block. A full disk is tried again after `retry_every`.
    ///
    /// # Errors
    /// [`LogError::Stopped`] where the system gives no thread.
    pub fn start(
        view: View,
        files: LogFiles,
        key: SigningKey,
        origin: String,
        retry_every: Duration,
        report: impl FnMut(Outcome) + Send + 'static,
    ) -> Result<Log, LogError> {
        let (commands, told) = sync_channel(LOG_COMMANDS_MAX);
        let (open, ended) = channel();
        let mut signer = Signer { view, files, key, origin, report, ended, retry_every };
        let work = move || {
            if let Err(error) = signer.run(&told) {
                (signer.report)(Outcome::Failed(error));
            }
        };
        let thread =
            thread::Builder::new().name("log".to_owned()).spawn(work).map_err(|_| LogError::Stopped)?;
        Ok(Log { commands: Some((commands, open)), thread: Some(thread) })
    }

    /// Tells the thread something, unless its queue is full: then the command comes back.
    ///
    /// # Errors
    /// [`LogError::Stopped`] where the thread is gone; it has reported why.
    pub fn tell(&self, command: Command) -> Result<Option<Command>, LogError> {
        let (commands, _) = self.commands.as_ref().expect("taken only by drop");
        match commands.try_send(command) {
            Ok(()) => Ok(None),
            Err(TrySendError::Full(command)) => Ok(Some(command)),
            Err(TrySendError::Disconnected(_)) => Err(LogError::Stopped),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the audit log's thread panicked");
        }
    }
}

struct Signer<R> {
    view: View,
    files: LogFiles,
    key: SigningKey,
    origin: String,
    report: R,
    /// Nothing comes on it but its end.
    ended: Receiver<Infallible>,
    retry_every: Duration,
}

impl<R: FnMut(Outcome)> Signer<R> {
    fn run(&mut self, told: &Receiver<Command>) -> Result<(), LogError> {
        while let Ok(command) = told.recv() {
            match command {
                Command::Leaves(leaves) => {
                    for leaf in leaves {
                        let mut leaf = Some(leaf);
                        self.with_room(|signer| match leaf.take() {
                            Some(leaf) => signer.view.take(leaf),
                            None => signer.view.write_full(),
                        })?;
                    }
                }
                Command::Sign { size, root } => {
                    let note = self.with_room(|signer| signer.sign(size, root))?;
                    (self.report)(Outcome::Signed(note));
                }
                Command::Roster(version, note) => {
                    self.with_room(|signer| signer.view.put_roster(version, &note))?;
                }
                Command::Publish(note) => {
                    self.with_room(|signer| signer.publish(&note))?;
                    (self.report)(Outcome::Published(note));
                }
            }
        }
        Ok(())
    }

    /// Does something, again and again while the disk has no room for it: files are a view, and a full disk is no
    /// reason for a relay to stop whose journal can still take receipts.
    fn with_room<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut was_full = false;
        loop {
            match attempt(self) {
                Err(error) if error.is_full() => {
                    if !std::mem::replace(&mut was_full, true) {
                        (self.report)(Outcome::Full(true));
                    }
                    if self.ended.recv_timeout(self.retry_every) != Err(RecvTimeoutError::Timeout) {
                        return Err(error);
                    }
                }
                done => {
                    if was_full {
                        (self.report)(Outcome::Full(false));
                    }
                    return done;
                }
            }
        }
    }

    fn sign(&mut self, size: u64, root: Hash) -> Result<Bytes, LogError> {
        if (self.view.size(), self.view.root()) != (size, root) {
            return Err(LogError::Disagrees { size });
        }
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
        let note = signed_note(&self.key, &checkpoint);
        self.view.write()?;
        let signed = [(SIGNED_FILE.to_owned(), note.to_vec())];
        self.files.kept.put(&signed).map_err(|source| file(SIGNED_FILE, source))?;
        Ok(note)
    }

    /// Keeps a copy, too: no replay gives it again, and whose witnesses count next follows from it.
    fn publish(&self, note: &Bytes) -> Result<(), LogError> {
        let published = [(CHECKPOINT_FILE.to_owned(), note.to_vec())];
        self.files.kept.put(&published).map_err(|source| file(CHECKPOINT_FILE, source))?;
        self.view.publish(note)
    }
}

/// A checkpoint as the log's key signs it.
///
/// # Panics
/// For an origin that no key may have as its name; no roster holds such.
pub fn signed_note(key: &SigningKey, checkpoint: &Checkpoint) -> Bytes {
    let text = checkpoint.to_string();
    let mut note =
        Note::new(&text).expect("a checkpoint's text ends in a newline and has no control characters");
    let signature = key.sign_note(&checkpoint.origin, &text).expect("an origin names a key");
    note.add(signature).expect("the first signature");
    note.to_bytes().into()
}
