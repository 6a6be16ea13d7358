//! The store in one file: SQLite with a write-ahead log (design.md 5). The default, because it needs no set-up.
//!
//! ```text
//! schema.sql, schema  the tables; opening a file, old and new schemas
//! threads             how async callers reach threads that block
//! writer              one thread, many callers' changes in one commit
//! readers             several threads, each job one snapshot
//! statement, error    running statements, reading columns, judging failures
//! change, package, commit, projection, wave, work
//!                     the verbs, as plain functions on a connection
//! ```
//!
//! There is one writer because SQLite has one lock: threads that fight for it wait in steps of milliseconds, a queue
//! does not, and only a queue can be grouped. Readers never wait for the writer, nor it for them.
//! The file can be read with the `sqlite3` shell beside the running server.

mod change;
mod commit;
mod error;
mod package;
mod projection;
mod readers;
mod schema;
mod statement;
mod threads;
mod wave;
mod work;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use self::error::away;
use self::readers::Readers;
use self::writer::{Writer, each};
use super::{
    Attempt, Committed, Dependent, Line, Node, NodeKey, PackageCommit, Projection, Promotion, Published, Result, Store,
    Want,
};
use crate::model::change::{Change, Planned};
use crate::model::decision::{Decision, RebuildIndex};
use crate::model::env::Env;
use crate::model::id::{ChangeId, Digest, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Millis, PackageState, Stamp};
use crate::model::work::Work;
use crate::semver::Version;

/// How many elements of a slice are one job: others come in between, and a snapshot does not last long.
const SLICE: usize = 1000;

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
    /// How many threads read, at least one.
    pub readers: usize,
}

impl Default for Options {
    /// Full durability; as many readers as there are processors, between 4 and 8.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(4, usize::from);
        Self { durability: Durability::Full, readers: processors.clamp(4, 8) }
    }
}

/// A store in a file. Dropping it is closing it.
pub struct SqliteStore(Arc<Threads>);

struct Threads {
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
        let readers: Vec<_> = (0..options.readers.max(1)).map(|_| schema::reader(path)).collect::<Result<_>>()?;
        Ok(Self(Arc::new(Threads { readers: Readers::start(readers)?, writer: Writer::start(writer)? })))
    }

    /// Finishes what is queued, moves the log into the file and closes it. Every later verb answers `Away`.
    pub async fn close(&self) -> Result<()> {
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

    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<T> + Send + 'static,
    {
        self.0.writer.write(work).await
    }

    /// Reads something for each element, slice by slice, in order.
    async fn read_each<I, T>(
        &self,
        items: &[I],
        get: impl Fn(&rusqlite::Connection, &I) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>>
    where
        I: Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        let mut answers = Vec::with_capacity(items.len());
        for slice in items.chunks(SLICE) {
            let (slice, get) = (slice.to_vec(), get.clone());
            answers.extend(self.read(move |db| slice.iter().map(|item| get(db, item)).collect::<Result<Vec<T>>>()).await?);
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
            self.write(move |db| slice.iter().try_for_each(|item| put(db, item))).await?;
        }
        Ok(())
    }
}

impl Threads {
    /// The writer last: the checkpoint cannot pass a snapshot that is still read.
    fn close(&self) {
        self.readers.close();
        self.writer.close();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn put_document(&self, change: &ChangeId, digest: &Digest, json: &[u8]) -> Result<()> {
        let (change, digest, json) = (change.clone(), digest.clone(), json.to_vec());
        self.write(move |db| change::put_document(db, &change, &digest, &json)).await
    }

    async fn document(&self, change: &ChangeId, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let (change, digest) = (change.clone(), digest.clone());
        self.read(move |db| change::document(db, &change, &digest)).await
    }

    async fn put_change(&self, change: &Change) -> Result<()> {
        let change = change.clone();
        self.write(move |db| change::put(db, &change)).await
    }

    /// All three in one transaction.
    async fn accept(&self, change: &Change, json: &[u8], work: &Work) -> Result<()> {
        let (change, json, work) = (change.clone(), json.to_vec(), work.clone());
        self.write(move |db| {
            change::put_document(db, &change.id, &change.digest, &json)?;
            change::put(db, &change)?;
            work::put(db, &work)
        })
        .await
    }

    async fn change(&self, id: &ChangeId) -> Result<Option<Change>> {
        let id = id.clone();
        self.read(move |db| change::get(db, &id)).await
    }

    async fn changes(&self, before: Option<(Millis, ChangeId)>, limit: usize) -> Result<Vec<Change>> {
        self.read(move |db| change::page(db, before.as_ref(), limit)).await
    }

    async fn set_planned(&self, id: &ChangeId, planned: &Planned) -> Result<()> {
        let (id, planned) = (id.clone(), planned.clone());
        self.write(move |db| change::set_planned(db, &id, &planned)).await
    }

    async fn put_decisions(&self, change: &ChangeId, decisions: &[Decision]) -> Result<()> {
        let change = change.clone();
        self.write_each(decisions, move |db, decision| change::put_decision(db, &change, decision)).await
    }

    async fn decisions(&self, change: &ChangeId, skip: usize, limit: usize) -> Result<Vec<Decision>> {
        let change = change.clone();
        self.read(move |db| change::decisions(db, &change, skip, limit)).await
    }

    async fn put_manifest(&self, name: &PackageName, version: &Version, digest: &Digest, json: &[u8]) -> Result<()> {
        let (name, version, digest, json) = (name.clone(), version.clone(), digest.clone(), json.to_vec());
        self.write(move |db| package::put_manifest(db, &name, &version, &digest, &json)).await
    }

    async fn manifest(&self, name: &PackageName, version: &Version, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let (name, version, digest) = (name.clone(), version.clone(), digest.clone());
        self.read(move |db| package::manifest(db, &name, &version, &digest)).await
    }

    async fn packages(&self, wants: &[Want]) -> Result<Vec<PackageState>> {
        self.read_each(wants, package::state).await
    }

    async fn commit(&self, commits: Vec<PackageCommit>) -> Result<Vec<Committed>> {
        let mut answers = Vec::with_capacity(commits.len());
        let mut rest = commits.into_iter().peekable();
        while rest.peek().is_some() {
            let slice: Vec<_> = rest.by_ref().take(SLICE).collect();
            answers.extend(self.write(move |db| each(db, slice, |db, batch| commit::commit(db, &batch))).await?);
        }
        // Only now: one that failed does not keep the others from being done.
        answers.into_iter().collect()
    }

    async fn published(&self, name: &PackageName) -> Result<Vec<Published>> {
        let name = name.clone();
        self.read(move |db| package::published(db, &name)).await
    }

    async fn names(&self, after: Option<&PackageName>, limit: usize) -> Result<Vec<PackageName>> {
        let after = after.cloned();
        self.read(move |db| package::names(db, after.as_ref(), limit)).await
    }

    async fn project(&self, stamp: Stamp, projections: &[Projection]) -> Result<()> {
        self.write_each(projections, move |db, projection| projection::put(db, stamp, projection)).await
    }

    async fn dependents(
        &self,
        parent: &PackageName,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<Dependent>> {
        let (parent, after) = (parent.clone(), after.cloned());
        self.read(move |db| projection::dependents(db, &parent, after.as_ref(), limit)).await
    }

    async fn ranges(&self, parent: &PackageName, dependent: &PackageName) -> Result<Vec<(String, Version)>> {
        let (parent, dependent) = (parent.clone(), dependent.clone());
        self.read(move |db| projection::ranges(db, &parent, &dependent)).await
    }

    async fn head(&self, package: &PackageName) -> Result<Option<Line>> {
        let package = package.clone();
        self.read(move |db| projection::head(db, &package)).await
    }

    async fn line(&self, package: &PackageName, version: &Version) -> Result<Option<Line>> {
        let (package, version) = (package.clone(), version.clone());
        self.read(move |db| projection::line(db, &package, &version)).await
    }

    async fn lines(&self, package: &PackageName) -> Result<Vec<Line>> {
        let package = package.clone();
        self.read(move |db| projection::lines(db, &package)).await
    }

    async fn line_dependents(
        &self,
        package: &PackageName,
        version: &Version,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<(PackageName, Version)>> {
        let (package, version, after) = (package.clone(), version.clone(), after.cloned());
        self.read(move |db| projection::line_dependents(db, &package, &version, after.as_ref(), limit)).await
    }

    async fn put_nodes(&self, wave: &WaveId, nodes: &[(NodeKey, Node)]) -> Result<()> {
        let wave = wave.clone();
        self.write_each(nodes, move |db, (key, node)| wave::put_node(db, &wave, key, node)).await
    }

    async fn nodes(&self, wave: &WaveId, keys: &[NodeKey]) -> Result<Vec<Node>> {
        let wave = wave.clone();
        self.read_each(keys, move |db, key| wave::node(db, &wave, key)).await
    }

    async fn latest_promotion(&self, name: &PackageName, env: &Env) -> Result<Option<Promotion>> {
        Ok(self.promotions(name, env, 1).await?.pop())
    }

    async fn promotions(&self, name: &PackageName, env: &Env, limit: usize) -> Result<Vec<Promotion>> {
        let (name, env) = (name.clone(), env.clone());
        self.read(move |db| wave::promotions(db, &name, &env, limit)).await
    }

    async fn promote(&self, name: &PackageName, env: &Env, expect: u32, next: &Promotion) -> Result<Committed> {
        let (name, env, next) = (name.clone(), env.clone(), next.clone());
        self.write(move |db| wave::promote(db, &name, &env, expect, &next)).await
    }

    async fn put_promotion_entries(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
        generation: u32,
        entries: &[(PackageName, Version)],
    ) -> Result<()> {
        let (name, version, env) = (name.clone(), version.clone(), env.clone());
        self.write_each(entries, move |db, entry| wave::put_entry(db, (&name, &version, &env, generation), entry)).await
    }

    async fn promotion_entries(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<BTreeMap<PackageName, Version>> {
        let (name, version, env) = (name.clone(), version.clone(), env.clone());
        self.read(move |db| wave::entries(db, &name, &version, &env)).await
    }

    async fn put_rebuilds(&self, rebuilds: &[RebuildIndex]) -> Result<()> {
        self.write_each(rebuilds, work::put_rebuild).await
    }

    async fn rebuilds(&self, ids: &[RebuildId]) -> Result<Vec<Option<RebuildIndex>>> {
        self.read_each(ids, work::rebuild).await
    }

    async fn put_attempt(&self, rebuild: &RebuildId, attempt: &Attempt) -> Result<()> {
        let (rebuild, attempt) = (rebuild.clone(), attempt.clone());
        self.write(move |db| work::put_attempt(db, &rebuild, &attempt)).await
    }

    async fn attempts(&self, rebuild: &RebuildId) -> Result<Vec<Attempt>> {
        let rebuild = rebuild.clone();
        self.read(move |db| work::attempts(db, &rebuild)).await
    }

    async fn put_work(&self, items: &[Work]) -> Result<()> {
        self.write_each(items, work::put).await
    }

    async fn pending_work(&self, after: Option<&str>, limit: usize) -> Result<Vec<Work>> {
        let after = after.map(str::to_owned);
        self.read(move |db| work::pending(db, after.as_deref(), limit)).await
    }

    async fn finish_work(&self, ids: &[String]) -> Result<()> {
        self.write_each(ids, |db, id| work::finish(db, id)).await
    }

    async fn check(&self) -> Result<()> {
        self.write(work::probe).await?;
        self.read(work::probed).await.map(drop)
    }
}
