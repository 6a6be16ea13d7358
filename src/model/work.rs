//! Work that has been promised and is not done: what the durable queue holds.

use serde::{Deserialize, Serialize};

use super::id::{ChangeId, Digest, RebuildId, WaveId};
use super::name::PackageName;
use super::package::{Millis, RowKey};
use super::spread::spread;
use super::wave::NodeKey;

/// How many shards there are. Every replica of every version has to agree on it: it is part of the schema.
const SHARDS: u8 = 64;

/// A part of the work, which one of the living replicas takes care of (design.md 4). Ownership saves work; it is not what
/// makes it correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// All shards.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }

    /// The shard of a package: of a change its package, of a rebuild the dependent (H2).
    pub fn of(package: &PackageName) -> Self {
        let place = spread(0, package.as_str()) % u64::from(SHARDS);
        Self(u8::try_from(place).unwrap_or(0))
    }

    /// Its number, from 0.
    pub fn number(self) -> i16 {
        i16::from(self.0)
    }
}

/// One item. Handling it is idempotent: an item may be found again after it was finished (H7, H20).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Unique for what is to be done and when it was put: putting the same id again changes nothing.
    pub id: String,
    /// The package whose shard it belongs to: of a change its package, of a rebuild the dependent (H2).
    pub package: PackageName,
    /// Not before.
    pub due: Millis,
    /// What.
    pub job: Job,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// Plan an accepted change.
    Plan {
        /// The change.
        change: ChangeId,
        /// Which of the documents posted under that id (H19).
        digest: Digest,
    },
    /// Send a rebuild.
    Send {
        /// The rebuild; an item whose row has another one by now is finished.
        rebuild: RebuildId,
        /// Its row.
        key: RowKey,
        /// Its place in the order of the package: the `seq` at which it was decided (rule 10).
        order: u64,
    },
    /// A node of a wave became terminal, or may be released, without a change that says so.
    Advance {
        /// The wave.
        wave: WaveId,
        /// The node.
        key: NodeKey,
    },
    /// Look at a whole wave: deadlines, what was forgotten, whether it has ended.
    Tick {
        /// The wave.
        wave: WaveId,
    },
    /// The window of a wave that collects publishes is over (H22).
    Collected {
        /// The wave.
        wave: WaveId,
    },
    /// A pair was attached to a line that a promotion sends (H14).
    Attached {
        /// The promotion's wave.
        wave: WaveId,
        /// The line.
        line: NodeKey,
        /// The pair.
        key: NodeKey,
    },
    /// A hold ends at this time, or has ended.
    HoldEnds {
        /// The hold.
        hold: String,
    },
}

impl Work {
    /// The shard it belongs to.
    pub fn shard(&self) -> Shard {
        Shard::of(&self.package)
    }

    /// The item that plans a change.
    pub fn plan(change: &ChangeId, digest: &Digest, package: &PackageName, due: Millis) -> Self {
        Self {
            id: format!("plan/{change}/{digest}"),
            package: package.clone(),
            due,
            job: Job::Plan {
                change: change.clone(),
                digest: digest.clone(),
            },
        }
    }

    /// The item that goes on after a node. `why` tells apart what may happen to it more than once.
    pub fn advance(wave: &WaveId, key: &NodeKey, why: &str, due: Millis) -> Self {
        let of = key.version.as_ref().map(ToString::to_string);
        Self {
            id: format!(
                "advance/{wave}/{}@{}/{why}",
                key.package,
                of.unwrap_or_default()
            ),
            package: key.package.clone(),
            due,
            job: Job::Advance {
                wave: wave.clone(),
                key: key.clone(),
            },
        }
    }

    /// The item that looks at a wave. `package` is where it began: its shard.
    pub fn tick(wave: &WaveId, package: &PackageName, due: Millis) -> Self {
        Self {
            id: format!("tick/{wave}/{due}"),
            package: package.clone(),
            due,
            job: Job::Tick { wave: wave.clone() },
        }
    }

    /// The item that sends a rebuild for the first time, or again after `attempt` attempts.
    pub fn send(
        rebuild: &RebuildId,
        attempt: u32,
        package: &PackageName,
        key: &RowKey,
        order: u64,
        due: Millis,
    ) -> Self {
        Self {
            id: format!("send/{rebuild}/{attempt}"),
            package: package.clone(),
            due,
            job: Job::Send {
                rebuild: rebuild.clone(),
                key: key.clone(),
                order,
            },
        }
    }
}
