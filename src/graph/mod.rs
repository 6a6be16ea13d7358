//! The affected graph of a wave: everything that a start will reach, through ranges, and in which order (rules 8, 9,
//! 14-17).
//!
//! It exists because a wave must know, before it sends anything, who waits for whom: a dependent that went with the
//! first of its parents could not be sent again for the second. What is found here is a prediction (H16): what a run
//! of the wave gives if nothing interferes and everything that is waited for is published.
//!
//! * [`order`]: cycles are cut, levels counted (rule 16). Of publishes and promotions alike.
//! * [`Explorer`]: whom publishes reach, at which versions; it says what it needs to know and is told.
//! * [`Index`]: all edges in memory, for a quick answer to whom a version would reach; nearly what the explorer says.

mod affected;
mod explorer;
mod index;
mod known;
mod levels;
mod lists;
mod order;
mod reach;

#[cfg(test)]
mod explorer_tests;
#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod order_tests;

pub use explorer::{Explorer, Step};
pub use index::{Builder, Index, Unreadable};
pub use known::Questions;
pub use order::{Order, Place, Role, order};
pub use reach::{OutOfRange, Reach, Reached, Start};

use crate::model::decision::Reason;
use crate::model::name::PackageName;
use crate::model::package::Cause;
use crate::model::wave::PlanNode;
use crate::store::Dependent;

/// What a wave starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The published version.
    pub cause: Cause,
    /// Whether its dependents are reached; in a wave of seeds they are not, but for the seeds themselves.
    pub reach: bool,
}

/// A package that is rebuilt whatever its parents do: the start of a wave that follows another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The package.
    pub package: PackageName,
    /// What for; may be empty.
    pub causes: Vec<Cause>,
}

/// Everything that a start reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// What is rebuilt, in build order: by level, then by name.
    pub nodes: Vec<AffectedNode>,
    /// The pairs that lead to no rebuild, but for those in [`AffectedNode::also_out`], in the build order of the
    /// parents, then by dependent. Each pair of a parent in the wave and a dependent of it is in exactly one of
    /// `causes`, `also_out` and `skips`.
    pub skips: Vec<Skip>,
    /// The strongly connected components with more than one member, or one that depends on itself, by name.
    pub components: Vec<Vec<PackageName>>,
    /// One longest chain in which each waits for the one before it, origin first; empty if nothing is rebuilt.
    pub critical_path: Vec<PackageName>,
    /// Seeds that are not managed, so that there is nothing to rebuild.
    pub unmanaged: Vec<PackageName>,
    /// Whether the last round changed nothing. If not, predictions kept changing each other through a cycle, and this
    /// is what a run that waits as the nodes say comes to.
    pub settled: bool,
}

impl Affected {
    /// The rows of the plan, in build order.
    pub fn into_plan(self) -> Vec<PlanNode> {
        self.nodes.into_iter().map(|node| node.plan).collect()
    }
}

/// One rebuild that is foreseen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffectedNode {
    /// The row of the plan. `version` is `None` only of a seed for which there is none left.
    pub plan: PlanNode,
    /// The pair of the first cause; of a seed that no cause reaches: its highest version, without a range.
    pub edge: Dependent,
    /// The parents that it is rebuilt for, at their foreseen versions, by name.
    pub causes: Vec<Cause>,
    /// The parents that it waits for and that do not reach this base, and why.
    pub also_out: Vec<(Cause, Reason)>,
    /// The range by which the base lets the first cause in; `None` for a seed that no cause reaches.
    pub range: Option<String>,
    /// [`Reason::Admitted`] or [`Reason::OlderAdmitted`]; [`Reason::ByHand`] for a seed that no cause reaches.
    pub reason: Reason,
}

/// A pair that leads to no rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The parent, at its foreseen version.
    pub cause: Cause,
    /// The pair.
    pub edge: Dependent,
    /// Why.
    pub reason: Reason,
}
