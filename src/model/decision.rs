//! A decision: for one dependent in one wave, rebuild or skip, always with a reason and its inputs (rule 18).
//!
//! Reasons are data; the sentences that people read are rendered in `query`.

use serde::{Deserialize, Serialize};

use super::env::Env;
use super::id::{ChangeId, RebuildId, WaveId};
use super::name::PackageName;
use super::package::{Cause, Millis};
use super::wave::Standing;
use crate::semver::Version;

/// One decision, with everything it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The package decided about.
    pub dependent: PackageName,
    /// The wave it belongs to.
    pub wave: WaveId,
    /// The environment a rebuild goes to.
    pub env: Env,
    /// The changed package.
    pub parent: PackageName,
    /// Its version.
    pub parent_version: Version,
    /// The other parents of the wave that it is rebuilt for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub also: Vec<Cause>,
    /// The range that decided: that of the base, or, for a skip, that of the dependent's highest version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub range: Option<String>,
    /// The dependent's highest published version at the time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub top: Option<Version>,
    /// The published version that the rebuild is made from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base: Option<Version>,
    /// The version that is sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<Version>,
    /// The rebuild, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rebuild: Option<RebuildId>,
    /// Why.
    pub reason: Reason,
    /// What an operator should look at (rule 13, H15).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub flags: Vec<Flag>,
}

impl Decision {
    /// Whether something is sent.
    pub fn is_rebuild(&self) -> bool {
        self.rebuild.is_some()
    }
}

/// Why a decision came out as it did; the rule is part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// Rebuild: the range of the dependent's highest version admits the new one (rule 8).
    Admitted,
    /// Rebuild: an older version of the dependent is the highest whose range admits the new one (rule 8).
    OlderAdmitted,
    /// Rebuild: the release line has the dependent at this version (rule 12).
    InReleaseLine,
    /// Rebuild: there is no release line, and the setting asks for the highest version that admits (rule 12).
    HighestThatAdmits,
    /// Skip: no published version of the dependent admits the new one; publish the dependent by hand (rule 8).
    OutOfRange,
    /// Skip: the dependent declares a git address, URL, file, link or dist-tag, which admits nothing (rule 4).
    AdmitsNothing,
    /// Skip: the dependent's highest version dropped the dependency (rule 5).
    NoLongerDepends,
    /// Skip: the dependent has a rebuild in this wave already, or is the wave's origin: a cycle or a second path.
    AlreadyInWave,
    /// Skip: the dependent is not in the release line that is promoted (rule 12).
    NotInReleaseLine,
    /// Skip: the environment has a newer one that was built with exactly this parent version (H15).
    AlreadyThereNewer {
        /// What the environment has.
        there: Version,
    },
    /// Skip: another version of the dependent is sent by the same promotion (H23).
    SupersededInPromotion {
        /// The version that is sent.
        by: Version,
    },
    /// Skip: a version published by hand meanwhile includes the new one (H10, H11).
    PublishedByHand {
        /// The version published by hand.
        version: Version,
    },
    /// Skip: there is no version above the base that npm could hold (rule 9).
    NoVersionLeft,
    /// Rebuild: an operator asked for it.
    ByHand,
    /// Rebuild: it was held, and the hold has ended (rule 17).
    HoldEnded,
    /// Skip: the dependency leads back to where the wave came from; it is not waited for (rule 16).
    Cycle,
    /// Skip: another parent of the wave reaches a higher version of the dependent, whose range does not admit this one
    /// (H23).
    OutOfRangeForBase {
        /// The version that is rebuilt.
        base: Version,
    },
    /// Skip: none of the parents that it waited for was published (rule 17, H24).
    UpstreamFailed {
        /// What became of them.
        parents: Vec<(PackageName, Standing)>,
    },
    /// Skip: the parents that it waited for were published, but none of them reaches it any more (H16).
    NoLongerReached,
    /// Skip: an operator holds it (rule 17).
    Held {
        /// The hold.
        hold: String,
        /// Whose.
        owner: String,
        /// Until when, in milliseconds.
        until: Option<Millis>,
    },
    /// Skip: the wave was cancelled (rule 17).
    Cancelled,
}

impl Reason {
    /// The stable name, as in JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::OlderAdmitted => "older_admitted",
            Self::InReleaseLine => "in_release_line",
            Self::HighestThatAdmits => "highest_that_admits",
            Self::OutOfRange => "out_of_range",
            Self::AdmitsNothing => "admits_nothing",
            Self::NoLongerDepends => "no_longer_depends",
            Self::AlreadyInWave => "already_in_wave",
            Self::NotInReleaseLine => "not_in_release_line",
            Self::AlreadyThereNewer { .. } => "already_there_newer",
            Self::SupersededInPromotion { .. } => "superseded_in_promotion",
            Self::PublishedByHand { .. } => "published_by_hand",
            Self::NoVersionLeft => "no_version_left",
            Self::ByHand => "by_hand",
            Self::HoldEnded => "hold_ended",
            Self::Cycle => "cycle",
            Self::OutOfRangeForBase { .. } => "out_of_range_for_base",
            Self::UpstreamFailed { .. } => "upstream_failed",
            Self::NoLongerReached => "no_longer_reached",
            Self::Held { .. } => "held",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Flag {
    /// The environment before got another version of the dependent with this promotion (rule 13).
    Drift {
        /// That environment.
        env: Env,
        /// What it got.
        version: Version,
    },
    /// The environment has a newer version, not built with this parent version (H15).
    Downgrade {
        /// What the environment has.
        there: Version,
    },
}

/// A rebuild as the store finds it by its id: what never changes about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildIndex {
    /// The rebuild.
    pub id: RebuildId,
    /// The package that is rebuilt.
    pub name: PackageName,
    /// Its row.
    pub key: super::package::RowKey,
    /// The generation of the row that this rebuild is.
    pub generation: u32,
    /// The change whose planning decided it.
    pub change: ChangeId,
    /// When, in milliseconds.
    pub decided: super::package::Millis,
}
