//! The thread that writes tiles and signs checkpoints: no envelope ever waits for it.

use std::{
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use super::{LogError, LogFiles, SIGNED_FILE, View, view::file};
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
    /// The log cannot go on. Nothing more comes.
    Failed(LogError),
}

/// The thread. Dropping it ends the thread once what it was told is done.
pub struct Log {
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts the thread. `report` is called on it; it may block.
    ///
    /// # Errors
    /// [`LogError::Stopped`] where the system gives no thread.
    pub fn start(
        view: View,
        files: LogFiles,
        key: SigningKey,
        origin: String,
        mut report: impl FnMut(Outcome) + Send + 'static,
    ) -> Result<Log, LogError> {
        let (commands, told) = sync_channel(LOG_COMMANDS_MAX);
        let mut signer = Signer { view, files, key, origin };
        let work = move || {
            if let Err(error) = signer.run(&told, &mut report) {
                report(Outcome::Failed(error));
            }
        };
        let thread =
            thread::Builder::new().name("log".to_owned()).spawn(work).map_err(|_| LogError::Stopped)?;
        Ok(Log { commands: Some(commands), thread: Some(thread) })
    }

    /// Tells the thread something, unless its queue is full: then the command comes back.
    ///
    /// # Errors
    /// [`LogError::Stopped`] where the thread is gone; it has reported why.
    pub fn tell(&self, command: Command) -> Result<Option<Command>, LogError> {
        let commands = self.commands.as_ref().expect("taken only by drop");
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

struct Signer {
    view: View,
    files: LogFiles,
    key: SigningKey,
    origin: String,
}

impl Signer {
    fn run(&mut self, told: &Receiver<Command>, report: &mut impl FnMut(Outcome)) -> Result<(), LogError> {
        while let Ok(command) = told.recv() {
            match command {
                Command::Leaves(leaves) => {
                    for leaf in leaves {
                        self.view.take(leaf)?;
                    }
                }
                Command::Sign { size, root } => report(Outcome::Signed(self.sign(size, root)?)),
                Command::Roster(version, note) => self.view.put_roster(version, &note)?,
                Command::Publish(note) => self.view.publish(&note)?,
            }
        }
        Ok(())
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
