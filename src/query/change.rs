//! Changes, what they turned out to be, and what was decided for them (rule 18).

use serde::Serialize;
use serde_json::{Map, Value};

use super::page::{self, Page};
use super::rebuild::{self, Progress};
use super::sentence;
use super::time::Time;
use crate::model::change::{Change, Verdict};
use crate::model::decision::{Decision, Reason};
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, Millis};
use crate::semver::Version;
use crate::store::{Result, Store};

/// One accepted POST.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeView {
    /// Its id.
    pub id: ChangeId,
    /// `publish` or `promotion`.
    pub kind: Kind,
    /// The package.
    pub package: PackageName,
    /// The version.
    pub version: Version,
    /// Where.
    pub env: String,
    /// The dist-tag, if it is not `latest`.
    pub tag: Option<String>,
    /// Passed on to the build service.
    pub promote: bool,
    /// The `Idempotency-Key` that it came with.
    pub idempotency_key: Option<String>,
    /// When it was first accepted.
    pub accepted: Time,
    /// When it was planned; `null` until then.
    pub planned: Option<Time>,
    /// What it turned out to be; `null` until it is planned.
    pub verdict: Option<Verdict>,
    /// The same in words.
    pub sentence: String,
    /// How many of its decisions are rebuilds.
    pub rebuilds: u32,
    /// How many are skips.
    pub skips: u32,
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        let sentence = sentence::change(&change);
        let (planned, verdict, rebuilds, skips) = match change.planned {
            Some(planned) => (
                Some(Time(planned.at)),
                Some(planned.verdict),
                planned.rebuilds,
                planned.skips,
            ),
            None => (None, None, 0, 0),
        };
        Self {
            id: change.id,
            kind: change.kind,
            package: change.name,
            version: change.version,
            env: change.env.as_str().to_owned(),
            tag: change.tag,
            promote: change.promote,
            idempotency_key: change.key,
            accepted: Time(change.accepted),
            planned,
            verdict,
            sentence,
            rebuilds,
            skips,
        }
    }
}

/// A change with a page of its decisions.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeDetail {
    /// The change.
    #[serde(flatten)]
    pub change: ChangeView,
    /// Its decisions.
    pub decisions: Page<DecisionView>,
}

/// One decision with its inputs, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionView {
    /// The package decided about.
    pub dependent: PackageName,
    /// `rebuild` or `skip`.
    pub decision: &'static str,
    /// The reason's stable name.
    pub reason: &'static str,
    /// The reason in words.
    pub sentence: String,
    /// What the decision was made from.
    pub inputs: Inputs,
    /// The version that is sent.
    pub version: Option<Version>,
    /// What an operator should look at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<FlagView>,
    /// The rebuild and where it stands; `null` for a skip.
    pub rebuild: Option<DecidedRebuild>,
}

/// What a decision was made from.
#[derive(Clone, Debug, Serialize)]
pub struct Inputs {
    /// The changed package.
    pub parent: PackageName,
    /// Its version.
    pub parent_version: Version,
    /// The range that decided.
    pub range: Option<String>,
    /// The dependent's highest published version at the time.
    pub top: Option<Version>,
    /// The version that the rebuild is made from.
    pub base: Option<Version>,
    /// The other parents of the wave that it is rebuilt for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Cause>,
    /// The environment.
    pub env: String,
    /// The wave.
    pub wave: WaveId,
    /// What else the reason names, such as `there` or `by`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Something to look at.
#[derive(Clone, Debug, Serialize)]
pub struct FlagView {
    /// Its stable name and what it names.
    #[serde(flatten)]
    pub flag: crate::model::decision::Flag,
    /// In words.
    pub sentence: String,
}

/// The rebuild of a decision.
#[derive(Clone, Debug, Serialize)]
pub struct DecidedRebuild {
    /// Its id.
    pub id: RebuildId,
    /// Where it stands; left out in the moment before it can be found by its id.
    #[serde(flatten)]
    pub progress: Option<Progress>,
}

/// The cursor's kind of the list of changes.
const CHANGES: &str = "changes";
/// The cursor's kind of a change's decisions.
const DECISIONS: &str = "decisions";

/// Where a page of changes begins: after this time and id.
pub type After = Option<(Millis, ChangeId)>;

/// Reads the cursor of the list of changes; `None` if it is not one.
pub fn changes_after(cursor: &str) -> Option<(Millis, ChangeId)> {
    let key = page::key(CHANGES, cursor)?;
    let (time, id) = key.split_once('/')?;
    Some((time.parse().ok()?, ChangeId::new(id)))
}

/// Reads the cursor of a change's decisions; `None` if it is not one.
pub fn decisions_after(cursor: &str) -> Option<usize> {
    page::key(DECISIONS, cursor)?.parse().ok()
}

/// The changes, newest first.
pub async fn changes(store: &dyn Store, after: After, limit: usize) -> Result<Page<ChangeView>> {
    let found = store.changes(after, limit + 1).await?;
    let cursor =
        |change: &Change| page::cursor(CHANGES, &format!("{}/{}", change.accepted, change.id));
    Ok(Page::cut(found, limit, cursor).map(ChangeView::from))
}

/// A change and the decisions after the first `skip`.
pub async fn change(
    store: &dyn Store,
    id: &ChangeId,
    skip: usize,
    limit: usize,
) -> Result<Option<ChangeDetail>> {
    let Some(change) = store.change(id).await? else {
        return Ok(None);
    };
    let found = store.decisions(id, skip, limit + 1).await?;
    let page = Page::cut(found, limit, |_| {
        page::cursor(DECISIONS, &skip.saturating_add(limit).to_string())
    });
    let ids: Vec<RebuildId> = page
        .items
        .iter()
        .filter_map(|one| one.rebuild.clone())
        .collect();
    let mut progresses = rebuild::progresses(store, &ids).await?;
    let decisions = page.map(|decision| {
        let rebuild = decision.rebuild.clone().map(|id| DecidedRebuild {
            progress: progresses.remove(&id),
            id,
        });
        let is_sent = decision.is_rebuild();
        view(decision, is_sent, rebuild)
    });
    Ok(Some(ChangeDetail {
        change: change.into(),
        decisions,
    }))
}

/// A decision as it is shown. `is_sent`: whether something is sent, also where it has no id yet.
pub(super) fn view(
    decision: Decision,
    is_sent: bool,
    rebuild: Option<DecidedRebuild>,
) -> DecisionView {
    let sentence = sentence::decision(&decision);
    let flag = |flag| FlagView {
        sentence: sentence::flag(&flag),
        flag,
    };
    DecisionView {
        decision: if is_sent { "rebuild" } else { "skip" },
        reason: decision.reason.code(),
        sentence,
        inputs: Inputs {
            parent: decision.parent,
            parent_version: decision.parent_version,
            range: decision.range,
            top: decision.top,
            base: decision.base,
            also: decision.also,
            env: decision.env.as_str().to_owned(),
            wave: decision.wave,
            more: more(&decision.reason),
        },
        dependent: decision.dependent,
        version: decision.version,
        flags: decision.flags.into_iter().map(flag).collect(),
        rebuild,
    }
}

/// What the reason names beside its code.
fn more(reason: &Reason) -> Map<String, Value> {
    match serde_json::to_value(reason) {
        Ok(Value::Object(mut fields)) => {
            fields.shift_remove("code");
            fields
        }
        _ => Map::new(),
    }
}
