//! Each verb of [`Store`]; what a verb does is in the module that it names.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::{CassandraStore, each};
use crate::model::change::Change;
use crate::model::decision::{Decision, RebuildIndex};
use crate::model::env::Env;
use crate::model::id::{ChangeId, Digest, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Millis, PackageState, Slot};
use crate::model::wave::{BuildOutcome, Hold, PlanNode, Wave, WaveMove};
use crate::model::work::{Shard, Work};
use crate::semver::Version;
use crate::store::{
    Attempt, Committed, Dependent, Line, Node, NodeKey, PackageCommit, Promotion, Published,
    Replica, Result, Store, Tops, Want, Write,
};

#[async_trait]
impl Store for CassandraStore {
    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        self.0.write_all(writes).await
    }

    async fn document(&self, change: &ChangeId, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.0.document_of(change, digest).await
    }

    async fn change(&self, id: &ChangeId) -> Result<Option<Change>> {
        self.0.change_of(id).await
    }

    async fn changes(
        &self,
        before: Option<(Millis, ChangeId)>,
        limit: usize,
    ) -> Result<Vec<Change>> {
        self.0.change_page(before, limit).await
    }

    async fn decisions(
        &self,
        change: &ChangeId,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Decision>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.0.decision_page(change, skip, limit).await
    }

    async fn manifest(
        &self,
        name: &PackageName,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>> {
        self.manifest_of(name, version, digest).await
    }

    async fn packages(&self, wants: &[Want]) -> Result<Vec<PackageState>> {
        each(wants, |want| self.0.state(want)).await
    }

    /// Batches on one package one after the other, in their order; on different packages at once.
    async fn commit(&self, commits: Vec<PackageCommit>) -> Result<Vec<Committed>> {
        let mut of_packages: BTreeMap<PackageName, Vec<(usize, PackageCommit)>> = BTreeMap::new();
        let count = commits.len();
        for (at, commit) in commits.into_iter().enumerate() {
            of_packages
                .entry(commit.name.clone())
                .or_default()
                .push((at, commit));
        }
        let inner = &self.0;
        let done = each(of_packages.into_values(), |commits| async move {
            let mut answers = Vec::with_capacity(commits.len());
            for (at, commit) in commits {
                answers.push((at, inner.commit(&commit).await));
            }
            Ok(answers)
        })
        .await?;
        let mut answers: Vec<Option<Result<Committed>>> = (0..count).map(|_| None).collect();
        for (at, answer) in done.into_iter().flatten() {
            if let Some(place) = answers.get_mut(at) {
                *place = Some(answer);
            }
        }
        // Only now: one that failed does not keep the others from being done.
        answers.into_iter().flatten().collect()
    }

    async fn published(&self, name: &PackageName) -> Result<Vec<Published>> {
        self.0.published_versions(name).await
    }

    async fn names(&self, after: Option<&PackageName>, limit: usize) -> Result<Vec<PackageName>> {
        self.0.name_page(after, limit).await
    }

    async fn tops(&self, cursor: Option<&str>, limit: usize) -> Result<(Tops, Option<String>)> {
        self.0.top_page(cursor, limit).await
    }

    async fn dependents(
        &self,
        parent: &PackageName,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<Dependent>> {
        self.0.dependent_page(parent, after, limit).await
    }

    async fn ranges(
        &self,
        parent: &PackageName,
        dependent: &PackageName,
    ) -> Result<Vec<(String, Version)>> {
        self.0.ranges_of(parent, dependent).await
    }

    async fn head(&self, package: &PackageName) -> Result<Option<Line>> {
        self.0.head_of(package).await
    }

    async fn line(&self, package: &PackageName, version: &Version) -> Result<Option<Line>> {
        self.0.line_of(package, version).await
    }

    async fn lines(&self, package: &PackageName) -> Result<Vec<Line>> {
        self.0.lines_of(package).await
    }

    async fn line_dependents(
        &self,
        package: &PackageName,
        version: &Version,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<(PackageName, Version)>> {
        self.0
            .line_dependent_page(package, version, after, limit)
            .await
    }

    async fn nodes(&self, wave: &WaveId, keys: &[NodeKey]) -> Result<Vec<Node>> {
        each(keys, |key| self.0.node_of(wave, key)).await
    }

    async fn node_page(
        &self,
        wave: &WaveId,
        after: Option<&NodeKey>,
        limit: usize,
    ) -> Result<Vec<(NodeKey, Node)>> {
        self.0.node_page_of(wave, after, limit).await
    }

    async fn open_wave(&self, wave: &Wave) -> Result<Committed> {
        self.0.open_wave_of(wave).await
    }

    async fn wave(&self, id: &WaveId) -> Result<Option<Wave>> {
        self.0.wave_of(id).await
    }

    async fn move_wave(&self, id: &WaveId, to: &WaveMove) -> Result<Committed> {
        self.0.move_wave_of(id, to).await
    }

    async fn waves(&self, before: Option<(Millis, WaveId)>, limit: usize) -> Result<Vec<Wave>> {
        self.0.wave_page(before, limit).await
    }

    async fn plan_nodes(
        &self,
        wave: &WaveId,
        plan: &str,
        packages: &[PackageName],
    ) -> Result<Vec<Option<PlanNode>>> {
        each(packages, |package| self.0.plan_node_of(wave, plan, package)).await
    }

    async fn plan_page(
        &self,
        wave: &WaveId,
        plan: &str,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<PlanNode>> {
        self.0.plan_page_of(wave, plan, after, limit).await
    }

    async fn collecting(&self, env: &Env) -> Result<Option<WaveId>> {
        self.0.collecting_of(env).await
    }

    async fn collect(
        &self,
        env: &Env,
        expect: Option<&WaveId>,
        next: &WaveId,
    ) -> Result<Committed> {
        self.0.collect_of(env, expect, next).await
    }

    async fn members(&self, wave: &WaveId) -> Result<Vec<(ChangeId, Cause)>> {
        self.0.members_of(wave).await
    }

    async fn edges(&self, pairs: &[(PackageName, PackageName)]) -> Result<Vec<Option<Dependent>>> {
        each(pairs, |pair| self.0.edge_of(pair)).await
    }

    async fn holds(&self, packages: &[PackageName]) -> Result<Vec<Vec<Hold>>> {
        each(packages, |package| self.0.holds_of(package)).await
    }

    async fn all_holds(
        &self,
        after: Option<(&PackageName, &str)>,
        limit: usize,
    ) -> Result<Vec<Hold>> {
        self.0.hold_page(after, limit).await
    }

    async fn outcomes(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<Vec<BuildOutcome>> {
        self.0.outcomes_of(name, version, env).await
    }

    async fn latest_promotion(&self, name: &PackageName, env: &Env) -> Result<Option<Promotion>> {
        Ok(self.0.promotion_page(name, env, 1).await?.pop())
    }

    async fn promotions(
        &self,
        name: &PackageName,
        env: &Env,
        limit: usize,
    ) -> Result<Vec<Promotion>> {
        self.0.promotion_page(name, env, limit).await
    }

    async fn promote(
        &self,
        name: &PackageName,
        env: &Env,
        expect: u32,
        next: &Promotion,
    ) -> Result<Committed> {
        self.0.promote_to(name, env, expect, next).await
    }

    async fn promotion_entries(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<BTreeMap<PackageName, Version>> {
        self.0.entries_of(name, version, env).await
    }

    async fn first_queued(&self, name: &PackageName, slot: &Slot) -> Result<Option<u64>> {
        self.0.first_queued(name, slot).await
    }

    async fn rebuilds(&self, ids: &[RebuildId]) -> Result<Vec<Option<RebuildIndex>>> {
        each(ids, |id| self.0.rebuild_of(id)).await
    }

    async fn attempts(&self, rebuild: &RebuildId) -> Result<Vec<Attempt>> {
        self.0.attempts_of(rebuild).await
    }

    async fn pending_work(
        &self,
        shard: Shard,
        cursor: Option<&str>,
    ) -> Result<(Vec<Work>, Option<String>)> {
        self.0.pending_of(shard, cursor).await
    }

    async fn recent_work(&self, shards: &[Shard]) -> Result<Vec<Work>> {
        self.0.recent_of(shards).await
    }

    async fn finish_work(&self, items: &[Work]) -> Result<()> {
        self.0.finish(items).await
    }

    async fn retire_work(&self, shard: Shard) -> Result<Vec<Work>> {
        self.0.retire(shard).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn beat(&self, replica: &Replica) -> Result<()> {
        self.0.beat_of(replica).await
    }

    async fn leave(&self, id: &str) -> Result<()> {
        self.0.leave_of(id).await
    }

    async fn replicas(&self) -> Result<Vec<Replica>> {
        self.0.replicas_of().await
    }

    /// Everything of the past is written with a time to live.
    async fn prune(&self, _before: Millis) -> Result<usize> {
        Ok(0)
    }

    async fn check(&self) -> Result<()> {
        self.0.probe().await
    }

    /// The connections end with the last clone; there is nothing that was answered and not written.
    async fn close(&self) -> Result<()> {
        self.0.closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
