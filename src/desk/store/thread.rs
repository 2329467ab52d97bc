//! The thread that owns the store: jobs go in over a bounded channel and run one after the other. Those
//! that wait together share one sync, and hear of it only then.

use std::{
    io, iter,
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Store, StoreError};
use crate::desk::error::DeskError;

/// Jobs that wait for the store's thread. Reached: callers wait.
const JOBS_MAX: usize = 64;

/// One caller's job.
type Job = Box<dyn FnOnce(&mut Store) -> Done + Send>;

/// A job that has run, and its answer that must wait for the sync.
struct Done {
    /// Whether the store failed: then nothing that waits for the sync is answered.
    failed: bool,
    answer: Box<dyn FnOnce() + Send>,
}

/// A handle to the store's thread; clones share the thread, and it ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct StoreThread {
    jobs: mpsc::Sender<Job>,
    changes: watch::Receiver<u64>,
}

impl StoreThread {
    /// Moves the store to a thread of its own. Join the second value after the last handle is gone to
    /// know that the file is closed; a process that just exits loses nothing.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn start(store: Store) -> io::Result<(StoreThread, JoinHandle<()>)> {
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let changes = store.changes();
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || run(store, waiting))?;
        Ok((StoreThread { jobs, changes }, thread))
    }

    /// Runs `job` on the store and gives its result. Once the call is in the queue, the job runs even if
    /// this future is dropped.
    ///
    /// # Errors
    /// What the job says, or [`StoreError::Stopped`] after an earlier failure.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        self.run(job, |error| Some(error)).await
    }

    /// As [`StoreThread::call`], for jobs that a person's request may fail.
    ///
    /// # Errors
    /// What the job says.
    pub(in crate::desk) async fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> Result<R, DeskError> + Send + 'static,
    ) -> Result<R, DeskError> {
        self.run(job, DeskError::failure).await
    }

    /// Returns when the store has failed: the daemon then exits, see [`StoreError::exit_code`].
    pub async fn stopped(&self) {
        self.jobs.closed().await;
    }

    /// A counter that rises with every change of the store.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    async fn run<R: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> Result<R, E> + Send + 'static,
        failure: fn(&E) -> Option<&StoreError>,
    ) -> Result<R, E> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            let result = job(store);
            let failed = result.as_ref().err().and_then(failure);
            let failed =
                failed.inspect(|error| tracing::error!(error = %error, "the store failed")).is_some();
            // Nobody waits any more where the caller was dropped; the job counts all the same.
            Done { failed, answer: Box::new(move || drop(answer.send(result))) }
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }
}

fn run(mut store: Store, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let waiting = iter::once(first).chain(iter::from_fn(|| jobs.try_recv().ok())).take(JOBS_MAX);
        match store.together(|store| run_all(store, waiting)) {
            Ok(Ok(answers)) => answers.into_iter().for_each(|answer| answer()),
            Ok(Err(Failed)) => return,
            Err(error) => return tracing::error!(error = %error, "the store failed"),
        }
    }
}

/// A job met a failure of the store and was told so.
struct Failed;

fn run_all(
    store: &mut Store,
    jobs: impl Iterator<Item = Job>,
) -> Result<Vec<Box<dyn FnOnce() + Send>>, Failed> {
    let mut answers = Vec::new();
    for job in jobs {
        let done = job(store);
        if done.failed {
            (done.answer)();
            return Err(Failed);
        }
        answers.push(done.answer);
    }
    Ok(answers)
}
