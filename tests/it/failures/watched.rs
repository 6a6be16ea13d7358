//! A store whose every call is seen, and can be held back until a test lets it pass.
//!
//! With a gate, two planners that share a store become a sequence of turns that the test chooses: an interleaving is a
//! value, and can be tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

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
    Replica, Result, Store, Tops, Want, Write,
};
use tokio::sync::{mpsc, oneshot};

/// A call, with what it asks where a test looks at that.
#[derive(Clone, Debug)]
pub enum Call {
    Write(Vec<Write>),
    Commit(Vec<PackageCommit>),
    Packages(Vec<Want>),
    Named(&'static str),
}

/// See the module.
pub struct WatchedStore {
    inner: Arc<dyn Store>,
    calls: Mutex<Vec<Call>>,
    gate: Option<(usize, mpsc::UnboundedSender<Turn>)>,
}

/// What a task tells the one who gives the turns.
pub enum Turn {
    /// The task of that number waits to make a call.
    Waits(usize, oneshot::Sender<()>),
    /// A task is done.
    Done,
}

impl WatchedStore {
    /// Counts only.
    pub fn counting(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            calls: Mutex::default(),
            gate: None,
        })
    }

    /// Every call of this task waits for its turn.
    pub fn gated(
        inner: Arc<dyn Store>,
        task: usize,
        turns: mpsc::UnboundedSender<Turn>,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner,
            calls: Mutex::default(),
            gate: Some((task, turns)),
        })
    }

    /// The calls since the last time.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    async fn pass(&self, call: Call) {
        match &self.gate {
            None => self.calls.lock().unwrap().push(call),
            Some((task, turns)) => {
                let (sender, receiver) = oneshot::channel();
                if turns.send(Turn::Waits(*task, sender)).is_ok() {
                    let _ = receiver.await;
                }
            }
        }
    }
}

/// Runs tasks that share a store, one call at a time. `choose` gets the numbers of the tasks that wait and picks one.
/// Needs a runtime of one thread, so that a task that was let pass comes to its next call by itself.
pub async fn interleave(
    tasks: usize,
    mut turns: mpsc::UnboundedReceiver<Turn>,
    mut choose: impl FnMut(&[usize]) -> usize,
) {
    let mut waiting: BTreeMap<usize, oneshot::Sender<()>> = BTreeMap::new();
    let mut living = tasks;
    loop {
        while waiting.len() < living {
            match turns.recv().await {
                Some(Turn::Waits(task, pass)) => {
                    waiting.insert(task, pass);
                }
                Some(Turn::Done) => living -= 1,
                None => return,
            }
        }
        if living == 0 {
            return;
        }
        let ready: Vec<usize> = waiting.keys().copied().collect();
        let chosen = choose(&ready);
        if let Some(pass) = waiting.remove(&chosen) {
            let _ = pass.send(());
        }
    }
}

#[async_trait]
impl Store for WatchedStore {
    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        if self.gate.is_none() {
            self.pass(Call::Write(writes.clone())).await;
            return self.inner.write(writes).await;
        }
        for one in writes {
            self.pass(Call::Named("write")).await;
            self.inner.write(vec![one]).await?;
        }
        Ok(())
    }

    async fn commit(&self, commits: Vec<PackageCommit>) -> Result<Vec<Committed>> {
        if self.gate.is_none() {
            self.pass(Call::Commit(commits.clone())).await;
            return self.inner.commit(commits).await;
        }
        let mut answers = Vec::new();
        for one in commits {
            self.pass(Call::Named("commit")).await;
            answers.extend(self.inner.commit(vec![one]).await?);
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
        self.pass(Call::Named("promote")).await;
        self.inner.promote(name, env, expect, next).await
    }

    async fn finish_work(&self, items: &[Work]) -> Result<()> {
        self.pass(Call::Named("finish_work")).await;
        self.inner.finish_work(items).await
    }

    async fn document(&self, change: &ChangeId, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.pass(Call::Named("document")).await;
        self.inner.document(change, digest).await
    }

    async fn change(&self, id: &ChangeId) -> Result<Option<Change>> {
        self.pass(Call::Named("change")).await;
        self.inner.change(id).await
    }

    async fn changes(
        &self,
        before: Option<(Millis, ChangeId)>,
        limit: usize,
    ) -> Result<Vec<Change>> {
        self.pass(Call::Named("changes")).await;
        self.inner.changes(before, limit).await
    }

    async fn decisions(
        &self,
        change: &ChangeId,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Decision>> {
        self.pass(Call::Named("decisions")).await;
        self.inner.decisions(change, skip, limit).await
    }

    async fn manifest(
        &self,
        name: &PackageName,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>> {
        self.pass(Call::Named("manifest")).await;
        self.inner.manifest(name, version, digest).await
    }

    async fn packages(&self, wants: &[Want]) -> Result<Vec<PackageState>> {
        self.pass(Call::Packages(wants.to_vec())).await;
        self.inner.packages(wants).await
    }

    async fn published(&self, name: &PackageName) -> Result<Vec<Published>> {
        self.pass(Call::Named("published")).await;
        self.inner.published(name).await
    }

    async fn names(&self, after: Option<&PackageName>, limit: usize) -> Result<Vec<PackageName>> {
        self.pass(Call::Named("names")).await;
        self.inner.names(after, limit).await
    }

    async fn tops(&self, cursor: Option<&str>, limit: usize) -> Result<(Tops, Option<String>)> {
        self.pass(Call::Named("tops")).await;
        self.inner.tops(cursor, limit).await
    }

    async fn dependents(
        &self,
        parent: &PackageName,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<Dependent>> {
        self.pass(Call::Named("dependents")).await;
        self.inner.dependents(parent, after, limit).await
    }

    async fn ranges(
        &self,
        parent: &PackageName,
        dependent: &PackageName,
    ) -> Result<Vec<(String, Version)>> {
        self.pass(Call::Named("ranges")).await;
        self.inner.ranges(parent, dependent).await
    }

    async fn head(&self, package: &PackageName) -> Result<Option<Line>> {
        self.pass(Call::Named("head")).await;
        self.inner.head(package).await
    }

    async fn line(&self, package: &PackageName, version: &Version) -> Result<Option<Line>> {
        self.pass(Call::Named("line")).await;
        self.inner.line(package, version).await
    }

    async fn lines(&self, package: &PackageName) -> Result<Vec<Line>> {
        self.pass(Call::Named("lines")).await;
        self.inner.lines(package).await
    }

    async fn line_dependents(
        &self,
        package: &PackageName,
        version: &Version,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<(PackageName, Version)>> {
        self.pass(Call::Named("line_dependents")).await;
        self.inner
            .line_dependents(package, version, after, limit)
            .await
    }

    async fn nodes(&self, wave: &WaveId, keys: &[NodeKey]) -> Result<Vec<Node>> {
        self.pass(Call::Named("nodes")).await;
        self.inner.nodes(wave, keys).await
    }

    async fn node_page(
        &self,
        wave: &WaveId,
        after: Option<&NodeKey>,
        limit: usize,
    ) -> Result<Vec<(NodeKey, Node)>> {
        self.pass(Call::Named("node_page")).await;
        self.inner.node_page(wave, after, limit).await
    }

    async fn open_wave(&self, wave: &Wave) -> Result<Committed> {
        self.pass(Call::Named("open_wave")).await;
        self.inner.open_wave(wave).await
    }

    async fn wave(&self, id: &WaveId) -> Result<Option<Wave>> {
        self.pass(Call::Named("wave")).await;
        self.inner.wave(id).await
    }

    async fn move_wave(&self, id: &WaveId, to: &WaveMove) -> Result<Committed> {
        self.pass(Call::Named("move_wave")).await;
        self.inner.move_wave(id, to).await
    }

    async fn waves(&self, before: Option<(Millis, WaveId)>, limit: usize) -> Result<Vec<Wave>> {
        self.pass(Call::Named("waves")).await;
        self.inner.waves(before, limit).await
    }

    async fn plan_nodes(
        &self,
        wave: &WaveId,
        plan: &str,
        packages: &[PackageName],
    ) -> Result<Vec<Option<PlanNode>>> {
        self.pass(Call::Named("plan_nodes")).await;
        self.inner.plan_nodes(wave, plan, packages).await
    }

    async fn plan_page(
        &self,
        wave: &WaveId,
        plan: &str,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<PlanNode>> {
        self.pass(Call::Named("plan_page")).await;
        self.inner.plan_page(wave, plan, after, limit).await
    }

    async fn collecting(&self, env: &Env) -> Result<Option<WaveId>> {
        self.pass(Call::Named("collecting")).await;
        self.inner.collecting(env).await
    }

    async fn collect(
        &self,
        env: &Env,
        expect: Option<&WaveId>,
        next: &WaveId,
    ) -> Result<Committed> {
        self.pass(Call::Named("collect")).await;
        self.inner.collect(env, expect, next).await
    }

    async fn members(&self, wave: &WaveId) -> Result<Vec<(ChangeId, Cause)>> {
        self.pass(Call::Named("members")).await;
        self.inner.members(wave).await
    }

    async fn edges(&self, pairs: &[(PackageName, PackageName)]) -> Result<Vec<Option<Dependent>>> {
        self.pass(Call::Named("edges")).await;
        self.inner.edges(pairs).await
    }

    async fn holds(&self, packages: &[PackageName]) -> Result<Vec<Vec<Hold>>> {
        self.pass(Call::Named("holds")).await;
        self.inner.holds(packages).await
    }

    async fn all_holds(
        &self,
        after: Option<(&PackageName, &str)>,
        limit: usize,
    ) -> Result<Vec<Hold>> {
        self.pass(Call::Named("all_holds")).await;
        self.inner.all_holds(after, limit).await
    }

    async fn outcomes(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<Vec<BuildOutcome>> {
        self.pass(Call::Named("outcomes")).await;
        self.inner.outcomes(name, version, env).await
    }

    async fn latest_promotion(&self, name: &PackageName, env: &Env) -> Result<Option<Promotion>> {
        self.pass(Call::Named("latest_promotion")).await;
        self.inner.latest_promotion(name, env).await
    }

    async fn promotions(
        &self,
        name: &PackageName,
        env: &Env,
        limit: usize,
    ) -> Result<Vec<Promotion>> {
        self.pass(Call::Named("promotions")).await;
        self.inner.promotions(name, env, limit).await
    }

    async fn promotion_entries(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<BTreeMap<PackageName, Version>> {
        self.pass(Call::Named("promotion_entries")).await;
        self.inner.promotion_entries(name, version, env).await
    }

    async fn first_queued(&self, name: &PackageName, slot: &Slot) -> Result<Option<u64>> {
        self.pass(Call::Named("first_queued")).await;
        self.inner.first_queued(name, slot).await
    }

    async fn rebuilds(&self, ids: &[RebuildId]) -> Result<Vec<Option<RebuildIndex>>> {
        self.pass(Call::Named("rebuilds")).await;
        self.inner.rebuilds(ids).await
    }

    async fn attempts(&self, rebuild: &RebuildId) -> Result<Vec<Attempt>> {
        self.pass(Call::Named("attempts")).await;
        self.inner.attempts(rebuild).await
    }

    async fn pending_work(
        &self,
        shard: Shard,
        cursor: Option<&str>,
    ) -> Result<(Vec<Work>, Option<String>)> {
        self.pass(Call::Named("pending_work")).await;
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
        self.pass(Call::Named("check")).await;
        self.inner.check().await
    }
}
