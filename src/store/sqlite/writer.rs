//! The one thread that writes, and how it makes durability cheap: many callers' jobs share one commit.
//!
//! With `synchronous = FULL` each commit waits for the disk, some hundred times a second at best. While one group is being
//! committed the next jobs queue up, so the group grows with the load and nobody waits for company.
//!
//! What a caller may rely on: the answer comes after the COMMIT that contains the job, never before; a job that fails
//! takes back its own changes and nobody else's (its savepoint); if the COMMIT fails, everybody in the group is told so.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::{again, away, of_commit};
use super::statement::run;
use super::threads::{Threads, contained};
use crate::store::{Result, StoreError};

/// The most jobs in one commit.
const GROUP: usize = 64;
/// After this long a group takes no further job: some hold a thousand rows, and all wait for the slowest.
const GROUP_TIME: Duration = Duration::from_millis(25);

/// A way to the writing thread.
pub(super) struct Writer(Threads<Box<dyn Job>>);

impl Writer {
    /// Starts the thread on a connection that may write.
    pub(super) fn start(db: Connection) -> Result<Self> {
        let (threads, queue) = Threads::new();
        threads.start("sqlite-writer", move || serve(&db, queue))?;
        Ok(Self(threads))
    }

    /// Runs `work` in a group; answers when the group is durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.0
            .ask(
                Box::new(Task {
                    work: Some(work),
                    outcome: None,
                    reply,
                }),
                answer,
            )
            .await
    }

    /// Finishes what is queued, moves the log into the file and ends the thread. Blocks.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

/// One caller's changes.
trait Job: Send {
    /// Makes the changes; whether they are to be kept.
    fn run(&mut self, db: &Connection) -> bool;
    /// Tells the caller; `lost` is why the group as a whole came to nothing.
    fn answer(self: Box<Self>, lost: Option<&StoreError>);
}

struct Task<F, T> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Job for Task<F, T>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T> + Send,
{
    fn run(&mut self, db: &Connection) -> bool {
        self.outcome = self.work.take().map(|work| contained(|| work(db)));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, lost: Option<&StoreError>) {
        let answer = match (self.outcome, lost) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(lost)) => Err(again(lost)),
            (Some(done), None) => done,
            (None, None) => Err(away("the job was not run")),
        };
        // A caller that no longer waits gets no answer; what it asked for is done all the same.
        let _ = self.reply.send(answer);
    }
}

fn serve(db: &Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = queue.blocking_recv() {
        let mut jobs = vec![first];
        let lost = group(db, &mut jobs, &mut queue).err();
        if !db.is_autocommit() {
            let _ = run(db, "ROLLBACK", []);
        }
        for job in jobs {
            job.answer(lost.as_ref());
        }
    }
    // Nothing depends on this: the next one to open the file would find everything in the log.
    let _ = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
}

/// Runs the first job and those that are queued behind it, and commits them.
fn group(
    db: &Connection,
    jobs: &mut Vec<Box<dyn Job>>,
    queue: &mut mpsc::Receiver<Box<dyn Job>>,
) -> Result<()> {
    run(db, "BEGIN IMMEDIATE", [])?;
    let started = Instant::now();
    let mut at = 0;
    while let Some(job) = jobs.get_mut(at) {
        if at == 0 {
            alone(db, |db| job.run(db))?;
        } else {
            apart(db, |db| Ok(job.run(db)))?;
        }
        at += 1;
        if at < GROUP && started.elapsed() < GROUP_TIME {
            jobs.extend(queue.try_recv());
        }
    }
    db.prepare_cached("COMMIT")?
        .execute([])
        .map_err(of_commit)?;
    Ok(())
}

/// Runs `work` in a transaction that has nothing else in it yet: no savepoint is needed to take back what it did.
fn alone(db: &Connection, work: impl FnOnce(&Connection) -> bool) -> Result<()> {
    let keep = work(db);
    if db.is_autocommit() {
        return Err(taken_back());
    }
    if !keep {
        run(db, "ROLLBACK", [])?;
        run(db, "BEGIN IMMEDIATE", [])?;
    }
    Ok(())
}

fn taken_back() -> StoreError {
    away("sqlite: the disk failed and the transaction was taken back")
}

/// Runs `work` in a savepoint of its own, which is kept if it answers true. An error means that the whole transaction
/// is lost: SQLite takes it back by itself when the disk is full or fails.
fn apart(db: &Connection, work: impl FnOnce(&Connection) -> Result<bool>) -> Result<()> {
    run(db, "SAVEPOINT job", [])?;
    let keep = work(db)?;
    if db.is_autocommit() {
        return Err(taken_back());
    }
    if !keep {
        run(db, "ROLLBACK TO job", [])?;
    }
    run(db, "RELEASE job", [])?;
    Ok(())
}

/// Does independent things one by one inside a job: one that fails takes back its own changes only, and its failure is
/// in its place of the answer. The failure of a single one is the job's own.
pub(super) fn each<I, T>(
    db: &Connection,
    mut items: Vec<I>,
    mut work: impl FnMut(&Connection, I) -> Result<T>,
) -> Result<Vec<Result<T>>> {
    if items.len() == 1
        && let Some(only) = items.pop()
    {
        return Ok(vec![Ok(work(db, only)?)]);
    }
    let mut answers = Vec::new();
    for item in items {
        apart(db, |db| {
            let answer = contained(|| work(db, item));
            let keep = answer.is_ok();
            answers.push(answer);
            Ok(keep)
        })?;
    }
    Ok(answers)
}
