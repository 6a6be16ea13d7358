//! How the file is read: on the spot, or by threads. Each way has connections of its own, which cannot write.
//!
//! A few rows that are found by their keys take some microseconds, most often out of the system's cache: waking another
//! thread for that, and being woken by it, would cost several times as much. So the caller reads them itself. What may
//! have many rows is a job for a thread.
//!
//! A job is one read transaction, so everything that it reads is of one moment, and that moment is after every commit
//! that was answered before the job was queued: the transaction takes its snapshot with its first statement.
//!
//! A job wakes one thread, the one that ran last: what it has read of the file since the last commit is still good, and
//! so are the processor's caches.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::error::away;
use super::statement::run;
use super::threads::{QUEUE, contained, join, spawn, unanswered};
use crate::store::{Result, StoreError};

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// Connections for those who read on the spot.
pub(super) struct Spot {
    /// Those that nobody is using; `None` once the store is closed.
    free: Mutex<Option<Vec<Connection>>>,
    given_back: Condvar,
}

impl Spot {
    /// With these connections.
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        Self {
            free: Mutex::new(Some(connections)),
            given_back: Condvar::new(),
        }
    }

    /// Runs `work`, which is one statement that finds a few rows by their keys.
    pub(super) fn read_one<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let db = self.take()?;
        let answer = contained(|| work(&db));
        self.give_back(db);
        answer
    }

    /// Runs `work`, which finds a few rows by their keys, in a read transaction.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let db = self.take()?;
        let answer = snapshot(&db, work);
        self.give_back(db);
        answer
    }

    /// Takes no more readers and closes the connections.
    pub(super) fn close(&self) {
        drop(self.lock().take());
        self.given_back.notify_all();
    }

    /// Whoever finds none waits for as long as another one reads a few rows.
    fn take(&self) -> Result<Connection> {
        let mut free = self.lock();
        loop {
            let connections = free.as_mut().ok_or_else(gone)?;
            if let Some(db) = connections.pop() {
                return Ok(db);
            }
            free = self
                .given_back
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, db: Connection) {
        // Where the store was closed meanwhile, the connection is, too.
        if let Some(connections) = self.lock().as_mut() {
            connections.push(db);
            self.given_back.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Connection>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
