//! Short names for single kinds of [`Write`].

use feedsme::model::change::{Change, Planned};
use feedsme::model::decision::{Decision, RebuildIndex};
use feedsme::model::env::Env;
use feedsme::model::id::{ChangeId, Digest, RebuildId, WaveId};
use feedsme::model::name::PackageName;
use feedsme::model::package::Stamp;
use feedsme::model::work::Work;
use feedsme::semver::Version;
use feedsme::store::{Attempt, Node, NodeKey, Projection, Result, Store, Write};

/// One kind of write at a time.
pub trait Puts {
    async fn put_document(&self, change: &ChangeId, digest: &Digest, json: &[u8]) -> Result<()>;
    async fn put_change(&self, change: &Change) -> Result<()>;
    async fn set_planned(&self, id: &ChangeId, planned: &Planned) -> Result<()>;
    async fn put_decisions(&self, change: &ChangeId, decisions: &[Decision]) -> Result<()>;
    async fn put_manifest(
        &self,
        name: &PackageName,
        version: &Version,
        digest: &Digest,
        json: &[u8],
    ) -> Result<()>;
    async fn project(&self, stamp: Stamp, projections: &[Projection]) -> Result<()>;
    async fn put_nodes(&self, wave: &WaveId, nodes: &[(NodeKey, Node)]) -> Result<()>;
    async fn put_promotion_entries(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
        generation: u32,
        entries: &[(PackageName, Version)],
    ) -> Result<()>;
    async fn put_rebuilds(&self, rebuilds: &[RebuildIndex]) -> Result<()>;
    async fn put_attempt(&self, rebuild: &RebuildId, attempt: &Attempt) -> Result<()>;
    async fn put_work(&self, items: &[Work]) -> Result<()>;
}

impl<S: Store + ?Sized> Puts for S {
    async fn put_document(&self, change: &ChangeId, digest: &Digest, json: &[u8]) -> Result<()> {
        self.write(vec![Write::Document {
            change: change.clone(),
            digest: digest.clone(),
            json: json.to_vec(),
        }])
        .await
    }

    async fn put_change(&self, change: &Change) -> Result<()> {
        self.write(vec![Write::Change(Box::new(change.clone()))])
            .await
    }

    async fn set_planned(&self, id: &ChangeId, planned: &Planned) -> Result<()> {
        self.write(vec![Write::Planned(id.clone(), planned.clone())])
            .await
    }

    async fn put_decisions(&self, change: &ChangeId, decisions: &[Decision]) -> Result<()> {
        let kept = decisions
            .iter()
            .map(|one| Write::Decision(change.clone(), Box::new(one.clone())));
        self.write(kept.collect()).await
    }

    async fn put_manifest(
        &self,
        name: &PackageName,
        version: &Version,
        digest: &Digest,
        json: &[u8],
    ) -> Result<()> {
        self.write(vec![Write::Manifest {
            name: name.clone(),
            version: version.clone(),
            digest: digest.clone(),
            json: json.to_vec(),
        }])
        .await
    }

    async fn project(&self, stamp: Stamp, projections: &[Projection]) -> Result<()> {
        let all = projections
            .iter()
            .map(|one| Write::Projection(stamp, one.clone()));
        self.write(all.collect()).await
    }

    async fn put_nodes(&self, wave: &WaveId, nodes: &[(NodeKey, Node)]) -> Result<()> {
        let all = nodes
            .iter()
            .map(|(key, node)| Write::Node(wave.clone(), key.clone(), node.clone()));
        self.write(all.collect()).await
    }

    async fn put_promotion_entries(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
        generation: u32,
        entries: &[(PackageName, Version)],
    ) -> Result<()> {
        let all = entries
            .iter()
            .map(|(dependent, dependent_version)| Write::Entry {
                name: name.clone(),
                version: version.clone(),
                env: env.clone(),
                generation,
                dependent: dependent.clone(),
                dependent_version: dependent_version.clone(),
            });
        self.write(all.collect()).await
    }

    async fn put_rebuilds(&self, rebuilds: &[RebuildIndex]) -> Result<()> {
        self.write(rebuilds.iter().cloned().map(Write::Rebuild).collect())
            .await
    }

    async fn put_attempt(&self, rebuild: &RebuildId, attempt: &Attempt) -> Result<()> {
        self.write(vec![Write::Attempt(rebuild.clone(), attempt.clone())])
            .await
    }

    async fn put_work(&self, items: &[Work]) -> Result<()> {
        self.write(items.iter().cloned().map(Write::Work).collect())
            .await
    }
}
