//! A wave: all that follows from one start, until nothing is outstanding (rules 14-17).
//!
//! What decides about a wave as a whole is in one row ([`Wave`]), moved only by conditional writes. What was predicted
//! when it was opened are the rows of its plan ([`PlanNode`]), which never change. What happened are the nodes' columns
//! ([`Node`]), each written once: whether a node may be released is always read from them, never counted (H7).

use serde::{Deserialize, Serialize};

use super::decision::Reason;
use super::env::Env;
use super::id::{ChangeId, RebuildId, WaveId};
use super::name::PackageName;
use super::package::{Cause, Kind, Millis};
use crate::semver::Version;

/// Names a node: of a publish wave a package, of a promotion wave a package at a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeKey {
    /// The package.
    pub package: PackageName,
    /// The version, in a promotion wave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<Version>,
}

impl NodeKey {
    /// A node of a publish wave.
    pub fn package(name: &PackageName) -> Self {
        Self {
            package: name.clone(),
            version: None,
        }
    }

    /// A node of a promotion wave.
    pub fn pair(name: &PackageName, version: &Version) -> Self {
        Self {
            package: name.clone(),
            version: Some(version.clone()),
        }
    }
}

/// What a wave did with one package: columns that are each written once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Of a node that the plan does not have: what its plan row would be (H14, H16).
    pub added: Option<PlanNode>,
    /// The rebuild that was released for it; a later one that took its place is found in the package (H11).
    pub released: Option<RebuildId>,
    /// The version that was published.
    pub published: Option<Version>,
    /// Failed for good: why.
    pub failed: Option<String>,
    /// It passed its deadline then.
    pub late: Option<Millis>,
    /// It is held: the hold's id.
    pub held: Option<String>,
    /// It will not be rebuilt in this wave: why.
    pub skipped: Option<Reason>,
}

/// Where a node stands (protocol.md, NODE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Waits for its parents.
    Waiting,
    /// Its rebuild was decided; its notice has yet to come.
    Released,
    /// Published.
    Published,
    /// Failed for good.
    Failed,
    /// Not published by its deadline.
    Late,
    /// Not to be rebuilt, by an operator's wish.
    Held,
    /// Not rebuilt in this wave.
    Skipped,
}

impl Standing {
    /// Whether those that wait for it need wait no longer (H24).
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Waiting | Self::Released)
    }
}

impl Node {
    /// How [`Node::failed`] begins if it was the build that failed.
    pub const BUILD_FAILED: &str = "its build failed: ";

    /// Where it stands. A late success counts: what was published is published, unless its build is known to have failed
    /// (rule 15).
    pub fn standing(&self) -> Standing {
        let broken = self
            .failed
            .as_ref()
            .is_some_and(|failed| failed.starts_with(Self::BUILD_FAILED));
        if self.published.is_some() && !broken {
            Standing::Published
        } else if self.failed.is_some() {
            Standing::Failed
        } else if self.late.is_some() {
            Standing::Late
        } else if self.held.is_some() {
            Standing::Held
        } else if self.skipped.is_some() {
            Standing::Skipped
        } else if self.released.is_some() {
            Standing::Released
        } else {
            Standing::Waiting
        }
    }
}

/// What was predicted of a node when the wave was opened. It is a prediction: what happens is truth (H16).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNode {
    /// Which.
    pub key: NodeKey,
    /// The nodes, and origins, that it waits for.
    pub waits_for: Vec<NodeKey>,
    /// Parents in the wave that it does not wait for, because they lead back (rule 16).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cycle: Vec<NodeKey>,
    /// How many nodes come before it on the longest way, from 1.
    pub level: u32,
    /// The version to be rebuilt, or promoted.
    pub base: Version,
    /// The version that it is expected to get; `None` if there is none left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<Version>,
    /// Of a node that is rebuilt whatever its parents do, the start of a wave that follows another: what for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seed: Option<Vec<Cause>>,
}

/// The states of a wave (protocol.md, WAVE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveState {
    /// Takes in publishes (setting `settle`).
    Collecting,
    /// Takes in no more; what it reaches is being worked out.
    Planning,
    /// Waits for an operator's approval (setting `approve_above`).
    Awaiting,
    /// Under way.
    Open,
    /// Every node is terminal.
    Closed,
    /// Ended by an operator: what was not sent is not sent.
    Cancelled,
}

impl WaveState {
    /// The column text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collecting => "collecting",
            Self::Planning => "planning",
            Self::Awaiting => "awaiting",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the column text back.
    pub fn from_column(text: &str) -> Option<Self> {
        [
            Self::Collecting,
            Self::Planning,
            Self::Awaiting,
            Self::Open,
            Self::Closed,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }

    /// Whether nothing more is released in it.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Closed | Self::Cancelled)
    }
}

/// What a wave follows from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Start {
    /// Publishes by hand: one, or all that came within `settle` of the first.
    Publish {
        /// The first, by name where they share a wave.
        first: PackageName,
        /// What was published; of a wave that collects, nothing yet.
        origins: Vec<Cause>,
    },
    /// A promotion.
    Promotion {
        /// What was promoted.
        origin: Cause,
    },
    /// A parent was published after others went without it (H6, rule 17).
    LateParent {
        /// The wave in which they did.
        wave: WaveId,
        /// The parent.
        parent: Cause,
        /// Whether its nodes are versions in an environment: it follows a promotion.
        pair: bool,
    },
    /// A hold ended (rule 17).
    HoldEnded {
        /// The package that was held.
        package: PackageName,
        /// The hold.
        hold: String,
    },
    /// An operator asked for a rebuild.
    ByHand {
        /// Of what.
        package: PackageName,
    },
}

impl Start {
    /// The nodes that it began with: published already, never rebuilt in the wave.
    pub fn origins(&self) -> Vec<NodeKey> {
        match self {
            Self::Publish { origins, .. } => origins
                .iter()
                .map(|cause| NodeKey::package(&cause.parent))
                .collect(),
            Self::Promotion { origin } => vec![NodeKey::pair(&origin.parent, &origin.version)],
            Self::LateParent { parent, pair, .. } => vec![NodeKey {
                package: parent.parent.clone(),
                version: pair.then(|| parent.version.clone()),
            }],
            Self::HoldEnded { .. } | Self::ByHand { .. } => Vec::new(),
        }
    }

    /// The package that it is looked after with: where its ticks belong.
    pub fn package(&self) -> &PackageName {
        match self {
            Self::Publish { first, .. } => first,
            Self::Promotion { origin } => &origin.parent,
            Self::LateParent { parent, .. } => &parent.parent,
            Self::HoldEnded { package, .. } | Self::ByHand { package } => package,
        }
    }
}

/// A wave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// Its id.
    pub id: WaveId,
    /// Where its rebuilds go.
    pub env: Env,
    /// Whether it makes versions or moves them.
    pub kind: Kind,
    /// What it follows from.
    pub start: Start,
    /// The change under which decisions are kept that no other change led to.
    pub change: ChangeId,
    /// Passed on to the build service.
    pub promote: bool,
    /// When it was opened.
    pub opened: Millis,
    /// Where it stands.
    pub state: WaveState,
    /// Since when.
    pub since: Millis,
    /// Which plan is its plan; `None` until it is planned.
    pub plan: Option<String>,
    /// How many nodes that plan has.
    pub nodes: u32,
    /// Of a promotion: the waves whose rebuilds it sends when they are attached (H14). It ends after them.
    pub pending_on: Vec<WaveId>,
}

/// A conditional move of a wave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaveMove {
    /// The state that it must be in.
    pub from: WaveState,
    /// The state that it gets.
    pub to: WaveState,
    /// The time.
    pub at: Millis,
    /// Also its plan and how many nodes that has.
    pub plan: Option<(String, u32)>,
}

/// "Do not rebuild this": an operator's wish (rule 17).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub id: String,
    /// The package that is not rebuilt.
    pub package: PackageName,
    /// Only on behalf of this parent; `None`: at all.
    pub parent: Option<PackageName>,
    /// Who wants it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub placed: Millis,
    /// Until when; `None`: until it is removed.
    pub expires: Option<Millis>,
    /// When it was removed, or found to have expired. Written once.
    pub ended: Option<Millis>,
}

impl Hold {
    /// Whether it holds at that time.
    pub fn holds(&self, now: Millis) -> bool {
        self.ended.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

/// What a build came to, told by whoever knows it (rule 15).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildOutcome {
    /// The package.
    pub name: PackageName,
    /// The version.
    pub version: Version,
    /// Where.
    pub env: Env,
    /// Whether the build succeeded.
    pub ok: bool,
    /// What was said.
    pub message: Option<String>,
    /// When it was told.
    pub at: Millis,
}
