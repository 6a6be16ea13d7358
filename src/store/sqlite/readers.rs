//! The threads that read. Each has a connection of its own, which cannot write.
//!
//! A job is one read transaction, so everything that it reads is of one moment, and that moment is after every commit
//! that was answered before the job was queued: the transaction takes its snapshot with its first statement.
//!
//! A job wakes one thread, the one that ran last: what it has read of the file since the last commit is still good, and
//! so are the processor's caches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::error::away;
use super::statement::run;
use super::threads::{QUEUE, contained, join, spawn, unanswered};
use crate::store::{Result, StoreError};

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// A way to the reading threads.
pub(super) struct Readers {
    queue: Arc<Queue>,
    /// One for each job that is queued or run; callers beyond these wait before they queue.
    places: Arc<Semaphore>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// The threads without a job, the one that ran last at the end.
    idle: Vec<Thread>,
    closed: bool,
}

impl Readers {
    /// Starts a thread for each connection.
    pub(super) fn start(connections: Vec<Connection>) -> Result<Self> {
        let readers = Self {
            queue: Arc::default(),
            places: Arc::new(Semaphore::new(QUEUE)),
            handles: Mutex::default(),
        };
        for db in connections {
            let queue = Arc::clone(&readers.queue);
            let handle = spawn("sqlite-reader", move || {
                while let Some(job) = queue.next() {
                    job(&db);
                }
            });
            match handle {
                Ok(handle) => readers.lock_handles().push(handle),
                Err(error) => {
                    readers.close();
                    return Err(error);
                }
            }
        }
        Ok(readers)
    }

    /// Runs `work` in a read transaction.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.run(|db| snapshot(db, work)).await
    }

    /// Runs `work`, which is one statement: that is a read transaction by itself.
    pub(super) async fn read_one<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.run(|db| contained(|| work(db))).await
    }

    async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let (reply, answer) = oneshot::channel();
        self.queue.push(Box::new(move |db| {
            let _place = place;
            // A caller that no longer waits needs no answer.
            if !reply.is_closed() {
                let _ = reply.send(work(db));
            }
        }))?;
        answer.await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// Finishes what is queued and ends the threads. Blocks.
    pub(super) fn close(&self) {
        for thread in self.queue.close() {
            thread.unpark();
        }
        join(std::mem::take(&mut *self.lock_handles()));
    }

    fn lock_handles(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone() -> StoreError {
    away("the store is closed")
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<()> {
        let woken = {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(gone());
            }
            waiting.jobs.push_back(job);
            waiting.idle.pop()
        };
        // No thread is idle: one that is busy finds the job when it is done.
        if let Some(thread) = woken {
            thread.unpark();
        }
        Ok(())
    }

    /// The next job, when there is one; nothing when the queue is closed and empty.
    fn next(&self) -> Option<Job> {
        let me = thread::current();
        loop {
            {
                let mut waiting = self.lock();
                // Woken for another reason than a job, it may be there still.
                waiting.idle.retain(|thread| thread.id() != me.id());
                if let Some(job) = waiting.jobs.pop_front() {
                    return Some(job);
                }
                if waiting.closed {
                    return None;
                }
                waiting.idle.push(me.clone());
            }
            thread::park();
        }
    }

    /// Takes no more jobs; the threads to wake.
    fn close(&self) -> Vec<Thread> {
        let mut waiting = self.lock();
        waiting.closed = true;
        std::mem::take(&mut waiting.idle)
    }
}

fn snapshot<T>(db: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    run(db, "BEGIN", [])?;
    let answer = contained(|| work(db));
    // Ends the snapshot either way; there is nothing to keep or to lose.
    if !db.is_autocommit() {
        run(db, "ROLLBACK", [])?;
    }
    answer
}
