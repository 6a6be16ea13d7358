//! The threads that read. Each has a connection of its own, which cannot write.
//!
//! A job is one read transaction, so everything that it reads is of one moment, and that moment is after every commit
//! that was answered before the job was queued: the transaction takes its snapshot with its first statement.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::statement::run;
use super::threads::{Threads, contained};
use crate::store::Result;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// A way to the reading threads.
pub(super) struct Readers(Threads<Job>);

impl Readers {
    /// Starts a thread for each connection.
    pub(super) fn start(connections: Vec<Connection>) -> Result<Self> {
        let (threads, queue) = Threads::new();
        let queue = Arc::new(Mutex::new(queue));
        for db in connections {
            let queue = Arc::clone(&queue);
            threads.start("sqlite-reader", move || {
                while let Some(job) = next(&queue) {
                    job(&db);
                }
            })?;
        }
        Ok(Self(threads))
    }

    /// Runs `work` in a read transaction.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            // A caller that no longer waits needs no answer.
            if !reply.is_closed() {
                let _ = reply.send(snapshot(db, work));
            }
        });
        self.0.ask(job, answer).await
    }

    /// Finishes what is queued and ends the threads. Blocks.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

/// The thread that waits holds the lock, the others wait for the lock; a job wakes exactly one.
fn next(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .blocking_recv()
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
