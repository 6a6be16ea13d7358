//! What a change would come to: the answer of a dry run.

use std::collections::BTreeSet;

use serde::Serialize;

use super::change::{DecisionView, view};
use super::sentence;
use crate::ingest::{Foreseen, ForeseenNode};
use crate::model::change::Verdict;
use crate::model::id::WaveId;
use crate::model::name::PackageName;
use crate::model::package::Kind;
use crate::model::wave::NodeKey;
use crate::semver::Version;

/// What a change would come to. Nothing of it is stored.
#[derive(Clone, Debug, Serialize)]
pub struct PlanView {
    /// `publish` or `promotion`.
    pub kind: Kind,
    /// The package.
    pub package: PackageName,
    /// The version.
    pub version: Version,
    /// Where.
    pub env: String,
    /// What it would turn out to be.
    pub verdict: Verdict,
    /// The same in words, with what would follow.
    pub sentence: String,
    /// How much would follow.
    pub counts: Counts,
    /// Whether the wave would wait for an operator's approval (setting `approve_above`).
    pub awaits_approval: bool,
    /// Of a promotion: the open waves whose rebuilds would be sent when they are attached.
    pub pending_on: Vec<WaveId>,
    /// Whether the prediction is sure of its versions; `false` where packages that depend on each other in a circle keep
    /// changing each other's base: then the packages are right, and a version may not be.
    pub settled: bool,
    /// What would be decided about each package of the wave, in build order: by level, then by name.
    pub nodes: Vec<PlannedNode>,
    /// Dependents that would not be rebuilt for a parent of the wave.
    pub skips: Vec<DecisionView>,
    /// Packages that depend on each other in a circle.
    pub components: Vec<Vec<PackageName>>,
    /// One longest chain in which each waits for the one before it.
    pub critical_path: Vec<PackageName>,
}

/// How much would follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// What would be sent.
    pub rebuilds: usize,
    /// Decisions that would send nothing.
    pub skips: usize,
    /// How many levels, one after the other, the rebuilds would take.
    pub levels: usize,
}

/// One package of the wave.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedNode {
    /// The package.
    pub package: PackageName,
    /// How many come before it on the longest way, from 1.
    pub level: u32,
    /// Whom it would wait for.
    pub waits_for: Vec<PackageName>,
    /// Parents in the wave that it would not wait for, because they lead back to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cycle: Vec<PackageName>,
    /// What would be decided; `version` is the one that it would get.
    #[serde(flatten)]
    pub decision: DecisionView,
}

impl From<Foreseen> for PlanView {
    fn from(foreseen: Foreseen) -> Self {
        let rebuilt = foreseen.nodes.iter().filter(|node| node.rebuild);
        let levels: BTreeSet<u32> = rebuilt.clone().map(|node| node.plan.level).collect();
        let rebuilds = rebuilt.count();
        let counts = Counts {
            rebuilds,
            skips: foreseen.nodes.len() - rebuilds + foreseen.skips.len(),
            levels: levels.len(),
        };
        let sentence = sentence::plan(&foreseen, &counts);
        let skips = foreseen.skips.into_iter();
        Self {
            kind: foreseen.change.kind,
            package: foreseen.change.name,
            version: foreseen.change.version,
            env: foreseen.change.env.as_str().to_owned(),
            verdict: foreseen.verdict,
            sentence,
            counts,
            awaits_approval: foreseen.awaits_approval,
            pending_on: foreseen.pending_on,
            settled: foreseen.settled,
            nodes: foreseen.nodes.into_iter().map(node).collect(),
            skips: skips.map(|one| view(one, false, None)).collect(),
            components: foreseen.components,
            critical_path: foreseen.critical_path,
        }
    }
}

fn node(node: ForeseenNode) -> PlannedNode {
    let names = |keys: Vec<NodeKey>| keys.into_iter().map(|key| key.package).collect();
    PlannedNode {
        package: node.plan.key.package,
        level: node.plan.level,
        waits_for: names(node.plan.waits_for),
        cycle: names(node.plan.cycle),
        decision: view(node.decision, node.rebuild, None),
    }
}
