//! A store that dies in the middle of its user's work.
//!
//! Every write is cut into its smallest parts, because a store promises no more than that a death leaves a prefix; each
//! part is a step, and the death comes before or after one of them. A store that died answers nothing any more, as a
//! process that died asks nothing any more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use feedsme::model::change::Change;
use feedsme::model::decision::{Decision, RebuildIndex};
use feedsme::model::env::Env;
use feedsme::model::id::{ChangeId, Digest, RebuildId, WaveId};
use feedsme::model::name::PackageName;
use feedsme::model::package::{Cause, Millis, PackageState, Slot};
use feedsme::model::wave::{BuildOutcome, Hold, PlanNode, Wave, WaveMove};
use feedsme::model::work::{Shard, Work};
use feedsme::semver::Version;
use feedsme::store::{
    Attempt, Committed, Dependent, Line, Node, NodeKey, PackageCommit, Promotion, Published,
    Replica, Result, Store, StoreError, StoreErrorKind, Tops, Want, Write,
};

/// What goes wrong, counted in steps from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Never,
    /// Dead from this step on, which does not happen.
    Before(usize),
    /// Dead from this step on, which happens; nobody is told.
    After(usize),
    /// This step fails and does not happen; everything else goes on.
    OnceBefore(usize),
    /// This step happens and answers an error (H9); everything else goes on.
    OnceAfter(usize),
}

/// See the module.
pub struct CrashingStore {
    inner: Arc<dyn Store>,
    fault: Mutex<Fault>,
    steps: AtomicUsize,
    dead: AtomicBool,
    struck: AtomicBool,
}

impl CrashingStore {
    pub fn new(inner: Arc<dyn Store>, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            inner,
            fault: Mutex::new(fault),
            steps: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            struck: AtomicBool::new(false),
        })
    }

    /// From here on it has this fault, its steps counted from now.
    pub fn strike(&self, fault: Fault) {
        self.steps.store(0, Ordering::SeqCst);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// How many steps were begun.
    pub fn steps(&self) -> usize {
        self.steps.load(Ordering::SeqCst)
    }

    /// Whether it answers nothing any more.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Whether the fault came.
    pub fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    fn alive(&self) -> Result<()> {
        if self.is_dead() {
            return Err(StoreError::new(StoreErrorKind::Away, "dead"));
        }
        Ok(())
    }

    async fn step<T>(&self, act: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.alive()?;
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, dies, happens) = match fault {
            Fault::Never => return act.await,
            Fault::Before(at) => (at, true, false),
            Fault::After(at) => (at, true, true),
            Fault::OnceBefore(at) => (at, false, false),
            Fault::OnceAfter(at) => (at, false, true),
        };
        if step != at {
            return act.await;
        }
        if happens {
            act.await?;
        }
        self.struck.store(true, Ordering::SeqCst);
        self.dead.store(dies, Ordering::SeqCst);
        Err(StoreError::new(
            StoreErrorKind::Unknown,
            format!("fault at step {step}"),
        ))
    }
}

#[async_trait]
impl Store for CrashingStore {
    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        for one in writes {
            self.step(self.inner.write(vec![one])).await?;
        }
        Ok(())
    }

    async fn commit(&self, commits: Vec<PackageCommit>) -> Result<Vec<Committed>> {
        let mut answers = Vec::new();
        for one in commits {
            answers.extend(self.step(self.inner.commit(vec![one])).await?);
        }
        Ok(answers)
    }

    async fn promote(
        &self,
        name: &PackageName,
        env: &Env,
        expect: u32,
        next: &Promotion,
    ) -> Result<Committed> {
        self.step(self.inner.promote(name, env, expect, next)).await
    }

    async fn finish_work(&self, items: &[Work]) -> Result<()> {
        self.step(self.inner.finish_work(items)).await
    }

    async fn document(&self, change: &ChangeId, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.alive()?;
        self.inner.document(change, digest).await
    }

    async fn change(&self, id: &ChangeId) -> Result<Option<Change>> {
        self.alive()?;
        self.inner.change(id).await
    }

    async fn changes(
        &self,
        before: Option<(Millis, ChangeId)>,
        limit: usize,
    ) -> Result<Vec<Change>> {
        self.alive()?;
        self.inner.changes(before, limit).await
    }

    async fn decisions(
        &self,
        change: &ChangeId,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Decision>> {
        self.alive()?;
        self.inner.decisions(change, skip, limit).await
    }

    async fn manifest(
        &self,
        name: &PackageName,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>> {
        self.alive()?;
        self.inner.manifest(name, version, digest).await
    }

    async fn packages(&self, wants: &[Want]) -> Result<Vec<PackageState>> {
        self.alive()?;
        self.inner.packages(wants).await
    }

    async fn published(&self, name: &PackageName) -> Result<Vec<Published>> {
        self.alive()?;
        self.inner.published(name).await
    }

    async fn names(&self, after: Option<&PackageName>, limit: usize) -> Result<Vec<PackageName>> {
        self.alive()?;
        self.inner.names(after, limit).await
    }

    async fn tops(&self, cursor: Option<&str>, limit: usize) -> Result<(Tops, Option<String>)> {
        self.alive()?;
        self.inner.tops(cursor, limit).await
    }

    async fn dependents(
        &self,
        parent: &PackageName,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<Dependent>> {
        self.alive()?;
        self.inner.dependents(parent, after, limit).await
    }

    async fn ranges(
        &self,
        parent: &PackageName,
        dependent: &PackageName,
    ) -> Result<Vec<(String, Version)>> {
        self.alive()?;
        self.inner.ranges(parent, dependent).await
    }

    async fn head(&self, package: &PackageName) -> Result<Option<Line>> {
        self.alive()?;
        self.inner.head(package).await
    }

    async fn line(&self, package: &PackageName, version: &Version) -> Result<Option<Line>> {
        self.alive()?;
        self.inner.line(package, version).await
    }

    async fn lines(&self, package: &PackageName) -> Result<Vec<Line>> {
        self.alive()?;
        self.inner.lines(package).await
    }

    async fn line_dependents(
        &self,
        package: &PackageName,
        version: &Version,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<(PackageName, Version)>> {
        self.alive()?;
        self.inner
            .line_dependents(package, version, after, limit)
            .await
    }

    async fn nodes(&self, wave: &WaveId, keys: &[NodeKey]) -> Result<Vec<Node>> {
        self.alive()?;
        self.inner.nodes(wave, keys).await
    }

    async fn node_page(
        &self,
        wave: &WaveId,
        after: Option<&NodeKey>,
        limit: usize,
    ) -> Result<Vec<(NodeKey, Node)>> {
        self.alive()?;
        self.inner.node_page(wave, after, limit).await
    }

    async fn open_wave(&self, wave: &Wave) -> Result<Committed> {
        self.step(self.inner.open_wave(wave)).await
    }

    async fn wave(&self, id: &WaveId) -> Result<Option<Wave>> {
        self.alive()?;
        self.inner.wave(id).await
    }

    async fn move_wave(&self, id: &WaveId, to: &WaveMove) -> Result<Committed> {
        self.step(self.inner.move_wave(id, to)).await
    }

    async fn waves(&self, before: Option<(Millis, WaveId)>, limit: usize) -> Result<Vec<Wave>> {
        self.alive()?;
        self.inner.waves(before, limit).await
    }

    async fn plan_nodes(
        &self,
        wave: &WaveId,
        plan: &str,
        packages: &[PackageName],
    ) -> Result<Vec<Option<PlanNode>>> {
        self.alive()?;
        self.inner.plan_nodes(wave, plan, packages).await
    }

    async fn plan_page(
        &self,
        wave: &WaveId,
        plan: &str,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<PlanNode>> {
        self.alive()?;
        self.inner.plan_page(wave, plan, after, limit).await
    }

    async fn collecting(&self, env: &Env) -> Result<Option<WaveId>> {
        self.alive()?;
        self.inner.collecting(env).await
    }

    async fn collect(
        &self,
        env: &Env,
        expect: Option<&WaveId>,
        next: &WaveId,
    ) -> Result<Committed> {
        self.step(self.inner.collect(env, expect, next)).await
    }

    async fn members(&self, wave: &WaveId) -> Result<Vec<(ChangeId, Cause)>> {
        self.alive()?;
        self.inner.members(wave).await
    }

    async fn edges(&self, pairs: &[(PackageName, PackageName)]) -> Result<Vec<Option<Dependent>>> {
        self.alive()?;
        self.inner.edges(pairs).await
    }

    async fn holds(&self, packages: &[PackageName]) -> Result<Vec<Vec<Hold>>> {
        self.alive()?;
        self.inner.holds(packages).await
    }

    async fn all_holds(
        &self,
        after: Option<(&PackageName, &str)>,
        limit: usize,
    ) -> Result<Vec<Hold>> {
        self.alive()?;
        self.inner.all_holds(after, limit).await
    }

    async fn outcomes(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<Vec<BuildOutcome>> {
        self.alive()?;
        self.inner.outcomes(name, version, env).await
    }

    async fn latest_promotion(&self, name: &PackageName, env: &Env) -> Result<Option<Promotion>> {
        self.alive()?;
        self.inner.latest_promotion(name, env).await
    }

    async fn promotions(
        &self,
        name: &PackageName,
        env: &Env,
        limit: usize,
    ) -> Result<Vec<Promotion>> {
        self.alive()?;
        self.inner.promotions(name, env, limit).await
    }

    async fn promotion_entries(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<BTreeMap<PackageName, Version>> {
        self.alive()?;
        self.inner.promotion_entries(name, version, env).await
    }

    async fn first_queued(&self, name: &PackageName, slot: &Slot) -> Result<Option<u64>> {
        self.alive()?;
        self.inner.first_queued(name, slot).await
    }

    async fn rebuilds(&self, ids: &[RebuildId]) -> Result<Vec<Option<RebuildIndex>>> {
        self.alive()?;
        self.inner.rebuilds(ids).await
    }

    async fn attempts(&self, rebuild: &RebuildId) -> Result<Vec<Attempt>> {
        self.alive()?;
        self.inner.attempts(rebuild).await
    }

    async fn pending_work(
        &self,
        shard: Shard,
        cursor: Option<&str>,
    ) -> Result<(Vec<Work>, Option<String>)> {
        self.alive()?;
        self.inner.pending_work(shard, cursor).await
    }

    async fn recent_work(&self, shards: &[Shard]) -> Result<Vec<Work>> {
        self.inner.recent_work(shards).await
    }

    async fn retire_work(&self, shard: Shard) -> Result<Vec<Work>> {
        self.inner.retire_work(shard).await
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn beat(&self, replica: &Replica) -> Result<()> {
        self.inner.beat(replica).await
    }

    async fn leave(&self, id: &str) -> Result<()> {
        self.inner.leave(id).await
    }

    async fn replicas(&self) -> Result<Vec<Replica>> {
        self.inner.replicas().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    async fn prune(&self, before: Millis) -> Result<usize> {
        self.inner.prune(before).await
    }

    async fn check(&self) -> Result<()> {
        self.alive()?;
        self.inner.check().await
    }
}
