//! Waves: where each stands as a whole, and every package of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::change::DecidedRebuild;
use super::page::{self, Page};
use super::rebuild::{self, Standing as Sent};
use super::sentence;
use super::time::Time;
use crate::model::decision::Reason;
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, Millis, RowKey, millis};
use crate::model::wave::{Node, NodeKey, PlanNode, Standing, Start, Wave, WaveState};
use crate::semver::Version;
use crate::store::{Result, Store, Want, WantOpen};

/// How many rows are read at a time.
const PAGE: usize = 1_000;

/// A wave as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct WaveView {
    /// Its id; that of the change that began it, if one did.
    pub id: WaveId,
    /// `publish` if it makes versions, `promotion` if it moves them.
    pub kind: Kind,
    /// Where its rebuilds go.
    pub env: String,
    /// Where it stands.
    pub state: WaveState,
    /// What it follows from and where it stands, in words.
    pub sentence: String,
    /// What it follows from.
    pub start: Start,
    /// When it was opened.
    pub opened: Time,
    /// Since when it is in its state.
    pub since: Time,
    /// How many packages its plan has.
    pub nodes: u32,
}

impl From<Wave> for WaveView {
    fn from(wave: Wave) -> Self {
        Self {
            sentence: sentence::wave(&wave),
            id: wave.id,
            kind: wave.kind,
            env: wave.env.as_str().to_owned(),
            state: wave.state,
            start: wave.start,
            opened: Time(wave.opened),
            since: Time(wave.since),
            nodes: wave.nodes,
        }
    }
}

/// A wave with a page of its packages.
#[derive(Clone, Debug, Serialize)]
pub struct WaveDetail {
    /// The wave.
    #[serde(flatten)]
    pub wave: WaveView,
    /// What it began with.
    pub origins: Vec<Cause>,
    /// How many of its packages stand where.
    pub counts: BTreeMap<&'static str, usize>,
    /// Of a promotion: the waves that it ends after, because what they make of its line is sent too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending_on: Vec<WaveId>,
    /// Its packages in build order: by level, then by name.
    pub packages: Page<NodeView>,
}

/// One package of a wave.
#[derive(Clone, Debug, Serialize)]
pub struct NodeView {
    /// The package.
    pub package: PackageName,
    /// Where it stands.
    pub standing: Standing,
    /// The same in words.
    pub sentence: String,
    /// How many come before it on the longest way, from 1.
    pub level: u32,
    /// Whom it waits for, and where those stand.
    pub waits_for: Vec<Waited>,
    /// Parents in the wave that it does not wait for, because they lead back to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cycle: Vec<PackageName>,
    /// The version that is rebuilt, or promoted.
    pub base: Version,
    /// The version that it was expected to get when the wave was opened.
    pub predicted: Option<Version>,
    /// The version that was published.
    pub published: Option<Version>,
    /// Whether it came to be part of the wave after it was opened.
    pub added: bool,
    /// The rebuild and where it stands.
    pub rebuild: Option<DecidedRebuild>,
    /// Of one that was sent: until when its notice is waited for.
    pub deadline: Option<Time>,
    /// Of one that is skipped: the reason's stable name.
    pub reason: Option<&'static str>,
    /// Of one that failed: why.
    pub failed: Option<String>,
    /// Of one that is held: the hold.
    pub held: Option<String>,
}

/// A parent that is waited for.
#[derive(Clone, Debug, Serialize)]
pub struct Waited {
    /// The parent.
    pub package: PackageName,
    /// In a promotion: its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Where it stands.
    pub standing: Standing,
    /// Since when it is being rebuilt, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Until when it is waited for, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
}

/// The cursors' kinds.
const WAVES: &str = "waves";
const NODES: &str = "wave-packages";

/// Where a page of waves begins: after this time and id.
pub type After = Option<(Millis, WaveId)>;

/// Reads the cursor of the list of waves; `None` if it is not one.
pub fn waves_after(cursor: &str) -> Option<(Millis, WaveId)> {
    let key = page::key(WAVES, cursor)?;
    let (time, id) = key.split_once('/')?;
    Some((time.parse().ok()?, WaveId::new(id)))
}

/// Reads the cursor of a wave's packages: how many were shown.
pub fn nodes_after(cursor: &str) -> Option<usize> {
    page::key(NODES, cursor)?.parse().ok()
}

/// The waves, newest first; of one state, if asked.
pub async fn waves(
    store: &dyn Store,
    state: Option<WaveState>,
    after: After,
    limit: usize,
) -> Result<Page<WaveView>> {
    let mut after = after;
    let mut found: Vec<Wave> = Vec::new();
    loop {
        let page = store.waves(after.clone(), limit + 1).await?;
        let full = page.len() > limit;
        after = page.last().map(|wave| (wave.opened, wave.id.clone()));
        found.extend(
            page.into_iter()
                .filter(|wave| state.is_none_or(|state| wave.state == state)),
        );
        if !full || found.len() > limit {
            break;
        }
    }
    let cursor = |wave: &Wave| page::cursor(WAVES, &format!("{}/{}", wave.opened, wave.id));
    Ok(Page::cut(found, limit, cursor).map(WaveView::from))
}

/// A wave and its packages after the first `skip`. `deadline`: the setting.
pub async fn wave(
    store: &dyn Store,
    deadline: Duration,
    id: &WaveId,
    skip: usize,
    limit: usize,
) -> Result<Option<WaveDetail>> {
    let Some(wave) = store.wave(id).await? else {
        return Ok(None);
    };
    let whole = Whole::read(store, wave).await?;
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for plan in &whole.plans {
        *counts.entry(code(whole.standing(&plan.key))).or_default() += 1;
    }
    let some: Vec<&PlanNode> = whole.plans.iter().skip(skip).take(limit + 1).collect();
    let page = Page::cut(some, limit, |_| {
        page::cursor(NODES, &skip.saturating_add(limit).to_string())
    });
    let (plans, next) = (page.items, page.next);
    let items = whole.views(store, deadline, &plans).await?;
    Ok(Some(WaveDetail {
        origins: whole.origins.clone(),
        counts,
        pending_on: whole.wave.pending_on.clone(),
        packages: Page { items, next },
        wave: whole.wave.into(),
    }))
}

/// The stable name of a standing, as in JSON.
pub fn code(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "waiting",
        Standing::Released => "released",
        Standing::Published => "published",
        Standing::Failed => "failed",
        Standing::Late => "late",
        Standing::Held => "held",
        Standing::Skipped => "skipped",
    }
}

/// All that is known of a wave.
pub(super) struct Whole {
    pub wave: Wave,
    pub origins: Vec<Cause>,
    /// In build order.
    pub plans: Vec<PlanNode>,
    nodes: BTreeMap<NodeKey, Node>,
}

impl Whole {
    pub async fn read(store: &dyn Store, wave: Wave) -> Result<Self> {
        let mut nodes = BTreeMap::new();
        let mut after: Option<NodeKey> = None;
        loop {
            let page = store.node_page(&wave.id, after.as_ref(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            nodes.extend(page);
            if !full {
                break;
            }
        }
        let mut plans: Vec<PlanNode> = Vec::new();
        while let Some(plan) = &wave.plan {
            let last = plans.last().map(|row| row.key.package.clone());
            let page = store.plan_page(&wave.id, plan, last.as_ref(), PAGE).await?;
            let full = page.len() == PAGE;
            plans.extend(page);
            if !full {
                break;
            }
        }
        let planned: std::collections::BTreeSet<NodeKey> =
            plans.iter().map(|plan| plan.key.clone()).collect();
        let added = nodes.values().filter_map(|node: &Node| node.added.clone());
        plans.extend(added.filter(|plan| !planned.contains(&plan.key)));
        plans.sort_by(|one, other| (one.level, &one.key).cmp(&(other.level, &other.key)));
        let origins = match &wave.start {
            Start::Publish { origins, .. } if origins.is_empty() => {
                let members = store.members(&wave.id).await?;
                members.into_iter().map(|(_, cause)| cause).collect()
            }
            Start::Publish { origins, .. } => origins.clone(),
            Start::Promotion { origin } => vec![origin.clone()],
            Start::LateParent { parent, .. } => vec![parent.clone()],
            Start::HoldEnded { .. } | Start::ByHand { .. } => Vec::new(),
        };
        Ok(Self {
            wave,
            origins,
            plans,
            nodes,
        })
    }

    pub fn node(&self, key: &NodeKey) -> Node {
        self.nodes.get(key).cloned().unwrap_or_default()
    }

    pub fn standing(&self, key: &NodeKey) -> Standing {
        self.nodes
            .get(key)
            .map_or(Standing::Waiting, Node::standing)
    }

    /// These packages as they are shown.
    pub async fn views(
        &self,
        store: &dyn Store,
        deadline: Duration,
        plans: &[&PlanNode],
    ) -> Result<Vec<NodeView>> {
        // Also those that are waited for: since when, and until when.
        let mut keys: Vec<&NodeKey> = plans.iter().map(|plan| &plan.key).collect();
        keys.extend(plans.iter().flat_map(|plan| &plan.waits_for));
        keys.sort();
        keys.dedup();
        let ids = self.rebuilds(store, &keys).await?;
        let all: Vec<RebuildId> = ids.values().cloned().collect();
        let progresses = rebuild::progresses(store, &all).await?;
        let patience = millis(deadline);
        let sent = |key: &NodeKey| {
            let progress = progresses.get(ids.get(key)?)?;
            let last = progress.attempts.last()?;
            let waits = progress.state == Sent::Sent && self.standing(key) == Standing::Released;
            waits.then_some(last.ended.0)
        };
        let views = plans.iter().map(|plan| {
            let node = self.node(&plan.key);
            let until = |at: Millis| Time(at.saturating_add(patience));
            let waits_for: Vec<Waited> = plan
                .waits_for
                .iter()
                .map(|key| Waited {
                    package: key.package.clone(),
                    version: key.version.clone(),
                    standing: self.standing(key),
                    since: sent(key).map(Time),
                    deadline: sent(key).map(until),
                })
                .collect();
            let rebuild = ids.get(&plan.key).map(|id| DecidedRebuild {
                id: id.clone(),
                progress: progresses.get(id).cloned(),
            });
            let deadline = sent(&plan.key).map(until);
            NodeView {
                sentence: sentence::node(&self.wave, plan, &node, &waits_for, rebuild.as_ref()),
                package: plan.key.package.clone(),
                standing: node.standing(),
                level: plan.level,
                waits_for,
                cycle: plan.cycle.iter().map(|key| key.package.clone()).collect(),
                base: plan.base.clone(),
                predicted: plan.version.clone(),
                published: node.published.clone(),
                added: node.added.is_some(),
                rebuild,
                deadline,
                reason: node.skipped.as_ref().map(Reason::code),
                failed: node.failed.clone(),
                held: node.held.clone(),
            }
        });
        Ok(views.collect())
    }

    /// The rebuild of each of these: the one that the package holds for the wave now, else the one that was released.
    async fn rebuilds(
        &self,
        store: &dyn Store,
        keys: &[&NodeKey],
    ) -> Result<BTreeMap<NodeKey, RebuildId>> {
        let mut ids: BTreeMap<NodeKey, RebuildId> = BTreeMap::new();
        let mut open = Vec::new();
        for key in keys {
            if let Some(node) = self.nodes.get(key) {
                ids.extend(node.released.clone().map(|id| ((*key).clone(), id)));
                if node.standing() == Standing::Released && key.version.is_none() {
                    open.push((*key).clone());
                }
            }
        }
        let wants: Vec<Want> = open
            .iter()
            .map(|key| Want {
                open: WantOpen::Of(self.wave.id.clone()),
                ..Want::statics(&key.package)
            })
            .collect();
        for (key, state) in open.into_iter().zip(store.packages(&wants).await?) {
            let own = state.open.get(&self.wave.id).and_then(|version| {
                let row = state.row(&RowKey::publish(version))?;
                Some(row.rebuild.as_ref()?.id.clone())
            });
            ids.extend(own.map(|id| (key, id)));
        }
        Ok(ids)
    }
}

/// The change that began a wave, or under which what is decided in it is kept; `None` if no change did.
pub fn change_of(wave: &Wave) -> Option<&ChangeId> {
    let begun = matches!(wave.start, Start::Publish { .. } | Start::Promotion { .. });
    begun.then_some(&wave.change)
}
