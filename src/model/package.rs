//! What is known of one package: the contents of its partition (protocol.md, table `pkg`).
//!
//! Two kinds of facts live here side by side. *Version facts* (was the version published, what does it declare) are
//! only ever written by a batch that is conditional on the partition's `seq`. *Rebuild columns* (a version we made or
//! send) are written by such a batch too, or, between two decisions, conditionally on the rebuild's own state and
//! attempt. That split is what lets the dispatcher claim and finish without fighting the planner for `seq`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decision::Decision;
use super::edge::Edge;
use super::env::Env;
use super::id::{ChangeId, Digest, RebuildId, WaveId};
use super::name::PackageName;
use crate::semver::Version;

/// Milliseconds since 1970, as every stored time.
pub type Millis = i64;

/// A setting's duration, to be reckoned with.
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Microseconds that order the projections of one package: each batch's stamp is above the one before (H19).
pub type Stamp = i64;

/// Which of a version's rows: its publish, or its promotion to an environment.
///
/// The first environment has both: a version is born there by its publish, and a change without `__published` sends it
/// there once more (rule 12).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The publish itself: version facts, and the rebuild that made the version if we made it.
    Publish,
    /// The version in one environment.
    Env(Env),
}

impl Slot {
    /// The column text: empty for the publish.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Publish => "",
            Self::Env(env) => env.as_str(),
        }
    }

    /// Reads the column text back.
    pub fn from_column(text: &str) -> Self {
        if text.is_empty() {
            Self::Publish
        } else {
            Self::Env(Env::trusted(text))
        }
    }

    /// The kind of change that answers a rebuild in this row (H12).
    pub fn kind(&self) -> Kind {
        match self {
            Self::Publish => Kind::Publish,
            Self::Env(_) => Kind::Promotion,
        }
    }
}

impl Serialize for Slot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_column(&String::deserialize(deserializer)?))
    }
}

/// The two kinds of change (design.md 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A new version, in the first environment.
    Publish,
    /// A known version, moved.
    Promotion,
}

impl Kind {
    /// The column text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Promotion => "promotion",
        }
    }
}

/// Names one row of a package's partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowKey {
    /// The version.
    pub version: Version,
    /// Its publish or one environment.
    pub slot: Slot,
}

impl RowKey {
    /// The row of the version's publish.
    pub fn publish(version: &Version) -> Self {
        Self {
            version: version.clone(),
            slot: Slot::Publish,
        }
    }

    /// The row of the version in `env`.
    pub fn promotion(version: &Version, env: &Env) -> Self {
        Self {
            version: version.clone(),
            slot: Slot::Env(env.clone()),
        }
    }
}

/// What is known of a version: the facts of its [`Slot::Publish`] row. Present as soon as the version is *published*;
/// a version that is only reserved has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When its publish was handled; a version merely known by import or promotion has none yet (H4).
    pub noticed: Option<Millis>,
    /// The change that handled it.
    pub notice: Option<ChangeId>,
    /// Which stored manifest is its own; the publish notice's wins over an import's or promotion's (H19).
    pub digest: Option<Digest>,
    /// The dist-tag it came under, if not `latest`: then it is never a base, top or head (rule 1).
    pub tag: Option<String>,
    /// Of a version that we made: the version published by hand that it descends from. `None`: published by hand.
    pub origin: Option<Version>,
    /// The line before this version's line, decided once (rule 7). Meaningful once `noticed`.
    pub previous: Option<Version>,
    /// The version whose tarball holds its bytes, if its own may not be in the registry (H18).
    pub tarball_of: Option<Version>,
    /// The stamp of the batch that made these facts: the order of its edges, line and head.
    pub stamp: Stamp,
    /// If the version became the highest of its package: the parents that the highest before it declared and it does
    /// not. `None` if it did not. Kept so that a repeated step writes the same projections.
    pub dropped: Option<Vec<PackageName>>,
    /// The rebuilds that this publish by hand superseded and whose place it took (H11).
    pub took_place: Vec<RebuildId>,
    /// Per managed parent, the highest published version that it admitted when it was built (rule 11, H15).
    /// `None` until decided.
    pub with: Option<BTreeMap<PackageName, Version>>,
    /// The lines that it was attached to, parent → parent version. `None` until decided (rule 11).
    pub attach: Option<BTreeMap<PackageName, Version>>,
    /// The stamp of the batch that decided `attach`; 0 until then.
    pub attach_stamp: Stamp,
}

/// The states of a rebuild (protocol.md, REBUILD).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildState {
    /// Decided; waits for its turn, or for a retry.
    Queued,
    /// Claimed by an attempt; stays so after the neighbour accepted it, until its notice comes.
    Sending,
    /// Its notice came.
    Published,
    /// Given up; operators can retry.
    Dead,
    /// A publish by hand, or a later promotion, took its place before it was sent.
    Superseded,
    /// Its version turned out to be somebody else's.
    Foreign,
    /// Every wave that waited for it was cancelled before it was sent (rule 17).
    Cancelled,
}

impl RebuildState {
    /// The column text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Published => "published",
            Self::Dead => "dead",
            Self::Superseded => "superseded",
            Self::Foreign => "foreign",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the column text back.
    pub fn from_column(text: &str) -> Option<Self> {
        [
            Self::Queued,
            Self::Sending,
            Self::Published,
            Self::Dead,
            Self::Superseded,
            Self::Foreign,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }

    /// Whether nothing more happens to it by itself.
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Sending)
    }
}

impl fmt::Display for RebuildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A parent's version that made a dependent be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// The parent.
    pub parent: PackageName,
    /// Its version in the wave.
    pub version: Version,
    /// That version's origin, if we made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub origin: Option<Version>,
}

/// One outgoing request: the rebuild columns of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// The same over all attempts.
    pub id: RebuildId,
    /// Where it stands.
    pub state: RebuildState,
    /// Counts the rebuilds that this row has had, from 1 (H13).
    pub generation: u32,
    /// The waves that wait for it.
    pub waves: BTreeSet<WaveId>,
    /// The change whose planning decided it.
    pub change: ChangeId,
    /// The decision, with its inputs.
    pub decision: Decision,
    /// Its place in the order of the package: the `seq` at which it was decided (rule 10).
    pub order: u64,
    /// The published version that it is made from.
    pub base: Version,
    /// The origin of `base`: the version published by hand.
    pub origin: Version,
    /// The version whose tarball is sent if `base` has none in the registry (H18).
    pub tarball_of: Version,
    /// The parent versions of the wave that it is rebuilt for.
    pub cause: Vec<Cause>,
    /// What it is built with (rule 11): per managed parent the highest published version that the base admitted.
    pub with: BTreeMap<PackageName, Version>,
    /// Passed on to the build service.
    pub promote: bool,
    /// The number of the last claim, 0 before the first.
    pub attempt: u32,
    /// How many attempts count towards giving up (pauses do not).
    pub tries: u32,
    /// Who claimed it last.
    pub owner: Option<String>,
    /// Not to be claimed before.
    pub due: Millis,
    /// Why it ended without being published, in a few words.
    pub ended_because: Option<String>,
    /// The change that was its notice.
    pub confirmed_by: Option<ChangeId>,
}

/// One row of the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub key: RowKey,
    /// The `seq` at which it came to be: reserved, else published (H19).
    pub born: u64,
    /// The version's facts; only in a [`Slot::Publish`] row, only once it is published.
    pub facts: Option<Facts>,
    /// The rebuild that made it or sent it.
    pub rebuild: Option<Rebuild>,
}

/// The head of a package's list of release lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version whose line it is.
    pub version: Version,
    /// Where that version was born (H19).
    pub born: u64,
}

/// The highest published version of a package under `latest`, with what it declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    /// The version.
    pub version: Version,
    /// Of a version that we made, its origin.
    pub origin: Option<Version>,
    /// What it declares, in package.json order.
    pub edges: Vec<Edge>,
}

/// What was read of a package's partition. `seq` 0 means that the package is not managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageState {
    /// The package.
    pub name: PackageName,
    /// Counts the batches; every decision about the package is conditional on it.
    pub seq: u64,
    /// The highest stamp given out.
    pub stamp: Stamp,
    /// The head of its release lines.
    pub head: Option<Head>,
    /// Its highest published version.
    pub top: Option<Top>,
    /// The parent kept for the Node software (rule 6).
    pub dependent_of: Option<PackageName>,
    /// Of the reservations asked for: the version reserved for a wave and not yet published (H11).
    pub open: BTreeMap<WaveId, Version>,
    /// The rows that were asked for and exist.
    pub rows: Vec<Row>,
    /// The versions that exist, in whatever state, under the prefixes asked for.
    pub taken: BTreeSet<Version>,
    /// For the (parent, range) pairs asked for: the highest version that declares it (rule 5, H21).
    pub edges: BTreeMap<(PackageName, String), Version>,
    /// For the lines asked for: the version attached to it (H15).
    pub attached: BTreeMap<(PackageName, Version), Version>,
}

impl PackageState {
    /// Whether at least one version came in by a change or an import.
    pub fn is_managed(&self) -> bool {
        self.seq > 0
    }

    /// The row of that key, if it was asked for and exists.
    pub fn row(&self, key: &RowKey) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == *key)
    }

    /// The facts of a published version, if its row was asked for and exists.
    pub fn facts(&self, version: &Version) -> Option<&Facts> {
        self.row(&RowKey::publish(version))
            .and_then(|row| row.facts.as_ref())
    }
}
