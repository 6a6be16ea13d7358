//! Each verb of [`Store`] as a job for the thread that it belongs to. What a verb does is in the module it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;

use super::writer::each;
use super::{
    SLICE, SqliteStore, change, commit, hold, package, projection, promotion, prune, wave, work,
};
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
impl Store for SqliteStore {
    /// A slice in one transaction.
    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        let mut rest = writes.into_iter().peekable();
        while rest.peek().is_some() {
            let slice: Vec<_> = rest.by_ref().take(SLICE).collect();
            self.run(move |db| slice.iter().try_for_each(|one| put(db, one)))
                .await?;
        }
        Ok(())
    }

    async fn document(&self, change: &ChangeId, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.look(|db| change::document(db, change, digest))
    }

    async fn change(&self, id: &ChangeId) -> Result<Option<Change>> {
        self.look(|db| change::get(db, id))
    }

    async fn changes(
        &self,
        before: Option<(Millis, ChangeId)>,
        limit: usize,
    ) -> Result<Vec<Change>> {
        self.read_one(move |db| change::page(db, before.as_ref(), limit))
            .await
    }

    async fn decisions(
        &self,
        change: &ChangeId,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Decision>> {
        let change = change.clone();
        self.read_one(move |db| change::decisions(db, &change, skip, limit))
            .await
    }

    async fn manifest(
        &self,
        name: &PackageName,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>> {
        self.look(|db| package::manifest(db, name, version, digest))
    }

    async fn packages(&self, wants: &[Want]) -> Result<Vec<PackageState>> {
        self.read_each(wants, package::state).await
    }

    async fn commit(&self, commits: Vec<PackageCommit>) -> Result<Vec<Committed>> {
        let mut answers = Vec::with_capacity(commits.len());
        let mut rest = commits.into_iter().peekable();
        while rest.peek().is_some() {
            let slice: Vec<_> = rest.by_ref().take(SLICE).collect();
            answers.extend(
                self.run(move |db| each(db, slice, |db, batch| commit::commit(db, &batch)))
                    .await?,
            );
        }
        // Only now: one that failed does not keep the others from being done.
        answers.into_iter().collect()
    }

    async fn published(&self, name: &PackageName) -> Result<Vec<Published>> {
        let kept = |db: &Connection| Ok(self.1.get(name, package::seq(db, name)?));
        if let Some(list) = self.look(kept)? {
            return Ok(list.to_vec());
        }
        let (name, lists) = (name.clone(), self.1.clone());
        let list: Arc<[Published]> = self
            .read(move |db| {
                let seq = package::seq(db, &name)?;
                if let Some(list) = lists.get(&name, seq) {
                    return Ok(list);
                }
                let list: Arc<[Published]> = package::published(db, &name)?.into();
                lists.put(&name, seq, list.clone());
                Ok(list)
            })
            .await?;
        Ok(list.to_vec())
    }

    async fn names(&self, after: Option<&PackageName>, limit: usize) -> Result<Vec<PackageName>> {
        let after = after.cloned();
        self.read_one(move |db| package::names(db, after.as_ref(), limit))
            .await
    }

    async fn tops(&self, cursor: Option<&str>, limit: usize) -> Result<(Tops, Option<String>)> {
        let cursor = cursor.map(str::to_owned);
        self.read_one(move |db| package::tops(db, cursor.as_deref(), limit))
            .await
    }

    async fn dependents(
        &self,
        parent: &PackageName,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<Dependent>> {
        let (parent, after) = (parent.clone(), after.cloned());
        self.read_one(move |db| projection::dependents(db, &parent, after.as_ref(), limit))
            .await
    }

    async fn ranges(
        &self,
        parent: &PackageName,
        dependent: &PackageName,
    ) -> Result<Vec<(String, Version)>> {
        let (parent, dependent) = (parent.clone(), dependent.clone());
        self.read_one(move |db| projection::ranges(db, &parent, &dependent))
            .await
    }

    async fn head(&self, package: &PackageName) -> Result<Option<Line>> {
        self.look(|db| projection::head(db, package))
    }

    async fn line(&self, package: &PackageName, version: &Version) -> Result<Option<Line>> {
        self.look(|db| projection::line(db, package, version))
    }

    async fn lines(&self, package: &PackageName) -> Result<Vec<Line>> {
        let package = package.clone();
        self.read_one(move |db| projection::lines(db, &package))
            .await
    }

    async fn line_dependents(
        &self,
        package: &PackageName,
        version: &Version,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<(PackageName, Version)>> {
        let (package, version, after) = (package.clone(), version.clone(), after.cloned());
        self.read_one(move |db| {
            projection::line_dependents(db, &package, &version, after.as_ref(), limit)
        })
        .await
    }

    async fn nodes(&self, wave: &WaveId, keys: &[NodeKey]) -> Result<Vec<Node>> {
        let wave = wave.clone();
        self.read_each(keys, move |db, key| wave::node(db, &wave, key))
            .await
    }

    async fn node_page(
        &self,
        wave: &WaveId,
        after: Option<&NodeKey>,
        limit: usize,
    ) -> Result<Vec<(NodeKey, Node)>> {
        let (wave, after) = (wave.clone(), after.cloned());
        self.read_one(move |db| wave::nodes(db, &wave, after.as_ref(), limit))
            .await
    }

    async fn open_wave(&self, wave: &Wave) -> Result<Committed> {
        let wave = wave.clone();
        self.run(move |db| wave::open(db, &wave)).await
    }

    async fn wave(&self, id: &WaveId) -> Result<Option<Wave>> {
        self.look(|db| wave::get(db, id))
    }

    async fn move_wave(&self, id: &WaveId, to: &WaveMove) -> Result<Committed> {
        let (id, to) = (id.clone(), to.clone());
        self.run(move |db| wave::go_on(db, &id, &to)).await
    }

    async fn waves(&self, before: Option<(Millis, WaveId)>, limit: usize) -> Result<Vec<Wave>> {
        self.read_one(move |db| wave::page(db, before.as_ref(), limit))
            .await
    }

    async fn plan_nodes(
        &self,
        wave: &WaveId,
        plan: &str,
        packages: &[PackageName],
    ) -> Result<Vec<Option<PlanNode>>> {
        let (wave, plan) = (wave.clone(), plan.to_owned());
        self.read_each(packages, move |db, package| {
            wave::plan_node(db, &wave, &plan, package)
        })
        .await
    }

    async fn plan_page(
        &self,
        wave: &WaveId,
        plan: &str,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<PlanNode>> {
        let (wave, plan, after) = (wave.clone(), plan.to_owned(), after.cloned());
        self.read_one(move |db| wave::plan(db, &wave, &plan, after.as_ref(), limit))
            .await
    }

    async fn collecting(&self, env: &Env) -> Result<Option<WaveId>> {
        self.look(|db| wave::collecting(db, env))
    }

    async fn collect(
        &self,
        env: &Env,
        expect: Option<&WaveId>,
        next: &WaveId,
    ) -> Result<Committed> {
        let (env, expect, next) = (env.clone(), expect.cloned(), next.clone());
        self.run(move |db| wave::collect(db, &env, expect.as_ref(), &next))
            .await
    }

    async fn members(&self, wave: &WaveId) -> Result<Vec<(ChangeId, Cause)>> {
        let wave = wave.clone();
        self.read_one(move |db| wave::members(db, &wave)).await
    }

    async fn edges(&self, pairs: &[(PackageName, PackageName)]) -> Result<Vec<Option<Dependent>>> {
        self.read_each(pairs, |db, (parent, dependent)| {
            projection::dependent(db, parent, dependent)
        })
        .await
    }

    async fn holds(&self, packages: &[PackageName]) -> Result<Vec<Vec<Hold>>> {
        self.read_each(packages, hold::of_package).await
    }

    async fn all_holds(
        &self,
        after: Option<(&PackageName, &str)>,
        limit: usize,
    ) -> Result<Vec<Hold>> {
        let after = after.map(|(package, id)| (package.clone(), id.to_owned()));
        self.read_one(move |db| hold::page(db, after.as_ref(), limit))
            .await
    }

    async fn outcomes(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<Vec<BuildOutcome>> {
        let (name, version, env) = (name.clone(), version.clone(), env.clone());
        self.read_one(move |db| hold::outcomes(db, &name, &version, &env))
            .await
    }

    async fn latest_promotion(&self, name: &PackageName, env: &Env) -> Result<Option<Promotion>> {
        let latest = self.look(|db| promotion::promotions(db, name, env, 1))?;
        Ok(latest.into_iter().next())
    }

    async fn promotions(
        &self,
        name: &PackageName,
        env: &Env,
        limit: usize,
    ) -> Result<Vec<Promotion>> {
        let (name, env) = (name.clone(), env.clone());
        self.read_one(move |db| promotion::promotions(db, &name, &env, limit))
            .await
    }

    async fn promote(
        &self,
        name: &PackageName,
        env: &Env,
        expect: u32,
        next: &Promotion,
    ) -> Result<Committed> {
        let (name, env, next) = (name.clone(), env.clone(), next.clone());
        self.run(move |db| promotion::promote(db, &name, &env, expect, &next))
            .await
    }

    async fn promotion_entries(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<BTreeMap<PackageName, Version>> {
        let (name, version, env) = (name.clone(), version.clone(), env.clone());
        self.read_one(move |db| promotion::entries(db, &name, &version, &env))
            .await
    }

    async fn first_queued(&self, name: &PackageName, slot: &Slot) -> Result<Option<u64>> {
        self.look(|db| package::first_queued(db, name, slot))
    }

    async fn rebuilds(&self, ids: &[RebuildId]) -> Result<Vec<Option<RebuildIndex>>> {
        self.read_each(ids, work::rebuild).await
    }

    async fn attempts(&self, rebuild: &RebuildId) -> Result<Vec<Attempt>> {
        self.look(|db| work::attempts(db, rebuild))
    }

    async fn pending_work(
        &self,
        shard: Shard,
        cursor: Option<&str>,
    ) -> Result<(Vec<Work>, Option<String>)> {
        let after = cursor.map(str::to_owned);
        let page = self
            .read_one(move |db| work::pending(db, shard, after.as_deref(), SLICE))
            .await?;
        let next = page.last().filter(|_| page.len() == SLICE);
        let next = next.map(|last| last.id.clone());
        Ok((page, next))
    }

    /// One process has the file: nobody else puts work.
    async fn recent_work(&self, _shards: &[Shard]) -> Result<Vec<Work>> {
        Ok(Vec::new())
    }

    async fn finish_work(&self, items: &[Work]) -> Result<()> {
        self.write_each(items, work::finish).await
    }

    /// What is finished is gone.
    async fn retire_work(&self, _shard: Shard) -> Result<Vec<Work>> {
        Ok(Vec::new())
    }

    fn is_shared(&self) -> bool {
        false
    }

    /// One process has the file, and its lock says so.
    async fn beat(&self, _replica: &Replica) -> Result<()> {
        Ok(())
    }

    async fn leave(&self, _id: &str) -> Result<()> {
        Ok(())
    }

    async fn replicas(&self) -> Result<Vec<Replica>> {
        Ok(Vec::new())
    }

    async fn prune(&self, before: Millis) -> Result<usize> {
        self.run(move |db| prune::prune(db, before)).await
    }

    async fn check(&self) -> Result<()> {
        self.run(work::probe).await?;
        self.read(work::probed).await.map(drop)
    }

    async fn close(&self) -> Result<()> {
        self.finish_and_close().await
    }
}

fn put(db: &Connection, write: &Write) -> Result<()> {
    match write {
        Write::Document {
            change,
            digest,
            json,
        } => change::put_document(db, change, digest, json),
        Write::Change(change) => change::put(db, change),
        Write::Manifest {
            name,
            version,
            digest,
            json,
        } => package::put_manifest(db, name, version, digest, json),
        Write::Planned(id, planned) => change::set_planned(db, id, planned),
        Write::Decision(change, decision) => change::put_decision(db, change, decision),
        Write::Projection(stamp, projection) => projection::put(db, *stamp, projection),
        Write::Node(wave, key, node) => wave::put_node(db, wave, key, node),
        Write::PlanNode(wave, plan, node) => wave::put_plan_node(db, wave, plan, node),
        Write::Member(wave, change, cause) => wave::put_member(db, wave, change, cause),
        Write::Hold(hold) => hold::put(db, hold),
        Write::HoldEnded(package, id, at) => hold::end(db, package, id, *at),
        Write::Outcome(outcome) => hold::put_outcome(db, outcome),
        Write::Entry {
            name,
            version,
            env,
            generation,
            dependent,
            dependent_version,
        } => {
            let entry = (dependent.clone(), dependent_version.clone());
            promotion::put_entry(db, (name, version, env, *generation), &entry)
        }
        Write::Rebuild(index) => work::put_rebuild(db, index),
        Write::Attempt(rebuild, attempt) => work::put_attempt(db, rebuild, attempt),
        Write::Work(item) => work::put(db, item),
    }
}
