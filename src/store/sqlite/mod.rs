//! The store in one file: SQLite with a write-ahead log (design.md 5). The default, because it needs no set-up.
//!
//! ```text
//! schema_*.sql, schema  the tables; opening a file, old and new schemas
//! threads             how async callers reach threads that block
//! writer              one thread, many callers' changes in one commit
//! readers             on the spot, or several threads, each job one snapshot
//! statement, error    running statements, reading columns, judging failures
//! verbs               which thread does what
//! change, package, commit, projection, promotion, wave, hold, work, prune
//!                     the verbs, as plain functions on a connection
//! ```
//!
//! There is one writer because SQLite has one lock: threads that fight for it wait in steps of milliseconds, a queue
//! does not, and only a queue can be grouped. Readers never wait for the writer, nor it for them.
//! The file can be read with the `sqlite3` shell beside the running server.

mod change;
mod commit;
mod error;
mod hold;

mod package;
mod projection;
mod promotion;
mod prune;
mod readers;
mod schema;
mod statement;
mod threads;
mod verbs;
mod wave;
mod work;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use self::error::away;
use self::readers::{Readers, Spot};
use self::writer::Writer;
use super::Result;

/// How many elements of a slice are one job: others come in between, and a snapshot does not last long.
const SLICE: usize = 1000;

/// So many elements of a slice are read on the spot.
const FEW: usize = 16;

/// What survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What was answered survives a power cut.
    #[default]
    Full,
    /// What was answered survives the death of the process, not of the machine; after a power cut the file may be
    /// unreadable. For data that can be thrown away.
    Off,
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What survives.
    pub durability: Durability,
    /// How many threads read, at least one, and how many callers read on the spot at once.
    pub readers: usize,
}

impl Default for Options {
    /// Full durability; as many readers as there are processors, between 4 and 8.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(4, usize::from);
        Self {
            durability: Durability::Full,
            readers: processors.clamp(4, 8),
        }
    }
}

/// A store in a file. Dropping it is closing it.
pub struct SqliteStore(Arc<Threads>, Arc<super::lists::Lists>);

struct Threads {
    spot: Spot,
    readers: Readers,
    writer: Writer,
}

impl SqliteStore {
    /// Opens the file, creates it or brings its schema up to date. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`Away`](super::StoreErrorKind::Away) if the file cannot be opened or written,
    /// [`Bug`](super::StoreErrorKind::Bug) if it is another program's or of a newer schema; the message names the file.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        // First the writer: it makes the file that the readers open.
        let writer = schema::writer(path, options)?;
        let readers = || -> Result<Vec<_>> {
            (0..options.readers.max(1))
                .map(|_| schema::reader(path))
                .collect()
        };
        let threads = Threads {
            spot: Spot::new(readers()?),
            readers: Readers::start(readers()?)?,
            writer: Writer::start(writer)?,
        };
        Ok(Self(Arc::new(threads), Arc::default()))
    }

    /// Finishes what is queued, moves the log into the file and closes it. Every later verb answers `Away`.
    async fn finish_and_close(&self) -> Result<()> {
        let threads = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || threads.close())
            .await
            .map_err(|error| away(format!("closing was cut short: {error}")))
    }

    async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<T> + Send + 'static,
    {
        self.0.readers.read(work).await
    }

    /// Reads with a single statement.
    async fn read_one<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<T> + Send + 'static,
    {
        self.0.readers.read_one(work).await
    }

    /// Reads a few rows, found by their keys, with a single statement.
    fn look<T>(&self, work: impl FnOnce(&rusqlite::Connection) -> Result<T>) -> Result<T> {
        self.0.spot.read_one(work)
    }

    async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<T> + Send + 'static,
    {
        self.0.writer.write(work).await
    }

    /// Reads something for each element, found by its key, slice by slice, in order.
    async fn read_each<I, T>(
        &self,
        items: &[I],
        get: impl Fn(&rusqlite::Connection, &I) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>>
    where
        I: Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        if items.len() <= FEW {
            return self
                .0
                .spot
                .read(|db| items.iter().map(|item| get(db, item)).collect());
        }
        let mut answers = Vec::with_capacity(items.len());
        for slice in items.chunks(SLICE) {
            let (slice, get) = (slice.to_vec(), get.clone());
            answers.extend(
                self.read(move |db| {
                    slice
                        .iter()
                        .map(|item| get(db, item))
                        .collect::<Result<Vec<T>>>()
                })
                .await?,
            );
        }
        Ok(answers)
    }

    /// Writes each element, slice by slice, in order; a slice is written as a whole or not at all.
    async fn write_each<I>(
        &self,
        items: &[I],
        put: impl Fn(&rusqlite::Connection, &I) -> Result<()> + Clone + Send + 'static,
    ) -> Result<()>
    where
        I: Clone + Send + Sync + 'static,
    {
        for slice in items.chunks(SLICE) {
            let (slice, put) = (slice.to_vec(), put.clone());
            self.run(move |db| slice.iter().try_for_each(|item| put(db, item)))
                .await?;
        }
        Ok(())
    }
}

impl Threads {
    /// The writer last: the checkpoint cannot pass a snapshot that is still read.
    fn close(&self) {
        self.spot.close();
        self.readers.close();
        self.writer.close();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.close();
    }
}
