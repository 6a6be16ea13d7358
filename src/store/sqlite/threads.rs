//! Threads of their own for a database that blocks, and the queue that leads to them.
//!
//! SQLite waits for the disk, and a tokio thread must not. The queue is bounded: when the disk is slower than the
//! callers, they wait before they queue, and memory does not grow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::error::{away, bug};
use crate::store::{Result, StoreError, StoreErrorKind};

/// How many jobs wait in a queue before callers wait in front of it.
pub(super) const QUEUE: usize = 1024;

/// A way to some threads.
pub(super) struct Threads<J> {
    queue: RwLock<Option<mpsc::Sender<J>>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl<J: Send + 'static> Threads<J> {
    /// A queue and its end, for the threads.
    pub(super) fn new() -> (Self, mpsc::Receiver<J>) {
        let (queue, end) = mpsc::channel(QUEUE);
        (
            Self {
                queue: RwLock::new(Some(queue)),
                handles: Mutex::default(),
            },
            end,
        )
    }

    /// Starts one of the threads; it must end when the queue does.
    pub(super) fn start(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let handle = spawn(name, body)?;
        self.handles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(handle);
        Ok(())
    }

    /// Queues a job and waits for its answer.
    pub(super) async fn ask<T>(&self, job: J, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        let gone = || away("the store is closed");
        let queue = self
            .queue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(gone)?;
        queue.send(job).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// Takes no more jobs, and returns when those that are queued are done and the threads have ended. Blocks.
    pub(super) fn close(&self) {
        drop(
            self.queue
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        join(std::mem::take(
            &mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner),
        ));
    }
}

/// Starts a thread.
pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|error| away(format!("cannot start a thread: {error}")))
}

/// Waits until the threads have ended.
pub(super) fn join(handles: Vec<JoinHandle<()>>) {
    for handle in handles {
        // A thread that panicked has nothing left to finish.
        let _ = handle.join();
    }
}

/// A thread died with a job in its hands: nobody knows how far it came.
pub(super) fn unanswered() -> StoreError {
    StoreError::new(
        StoreErrorKind::Unknown,
        "the store's thread ended before it answered",
    )
}

/// Runs a job so that a panic in it is a failure of that job alone, not of the thread and everybody behind it.
pub(super) fn contained<T>(job: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| Err(bug("a job panicked")))
}
