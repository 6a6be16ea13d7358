//! A change: one accepted POST, and what became of it.

use serde::{Deserialize, Serialize};

use super::env::Env;
use super::id::{ChangeId, Digest, RebuildId, WaveId};
use super::name::PackageName;
use super::package::{Kind, Millis};
use crate::semver::Version;

/// An accepted change as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its id; also that of the wave it opens, if it opens one.
    pub id: ChangeId,
    /// Publish or promotion.
    pub kind: Kind,
    /// Where.
    pub env: Env,
    /// The package.
    pub name: PackageName,
    /// The version that the document's tag names.
    pub version: Version,
    /// The document's dist-tag, if it is not `latest` (rule 1).
    pub tag: Option<String>,
    /// Passed on to the build service.
    pub promote: bool,
    /// The stored document.
    pub digest: Digest,
    /// The `Idempotency-Key` it was posted with.
    pub key: Option<String>,
    /// When it was first accepted.
    pub accepted: Millis,
    /// What planning made of it; `None` until then.
    pub planned: Option<Planned>,
}

/// What planning made of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// When planning ended.
    pub at: Millis,
    /// What the change turned out to be.
    pub verdict: Verdict,
    /// How many of its decisions were rebuilds.
    pub rebuilds: u32,
    /// How many were skips.
    pub skips: u32,
}

/// What a change turned out to be. `code` in JSON; the text for people is made in `query`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Verdict {
    /// It opened a wave of its own.
    Opened,
    /// It is the notice of a rebuild of ours and goes on with that rebuild's waves (rule 14).
    Answers {
        /// The rebuild.
        rebuild: RebuildId,
        /// Its waves.
        waves: Vec<WaveId>,
    },
    /// A publish by hand that took the place of nodes of open waves, and belongs to those (rule 14, H10).
    TookPlace {
        /// The rebuilds that ended as superseded.
        rebuilds: Vec<RebuildId>,
        /// The waves.
        waves: Vec<WaveId>,
    },
    /// It shares a wave with others that came within `settle` (H22).
    Joined {
        /// The wave.
        wave: WaveId,
    },
    /// The same promotion was posted shortly before (rule 13), or the version was published under another tag before
    /// (rule 1); nothing changed.
    Duplicate {
        /// The change that it repeats.
        of: ChangeId,
    },
    /// Published under another tag than `latest`: recorded, starts nothing (rule 1).
    Tagged {
        /// The tag.
        tag: String,
    },
    /// A promotion of a version that has no release line: nothing is sent (rule 12).
    NoReleaseLine,
}

impl Verdict {
    /// The stable name, as in JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Answers { .. } => "answers",
            Self::TookPlace { .. } => "took_place",
            Self::Joined { .. } => "joined",
            Self::Duplicate { .. } => "duplicate",
            Self::Tagged { .. } => "tagged",
            Self::NoReleaseLine => "no_release_line",
        }
    }
}
