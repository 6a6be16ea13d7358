//! Why a package was rebuilt, or was not, or not yet: one sentence, and the facts that it is made from (rule 18).

use std::collections::BTreeSet;

use serde::Serialize;

use super::change::{ChangeView, DecidedRebuild, DecisionView, view};
use super::hold::{self, HoldView};
use super::stale::{self, Stale};
use super::time::Time;
use super::wave::{NodeView, WaveView, Whole};
use super::{managed, rebuild, sentence};
use crate::ingest::{Core, waves_of_change};
use crate::model::change::{Change, Verdict};
use crate::model::decision::{Decision, Reason};
use crate::model::env::Env;
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, RowKey};
use crate::model::wave::{BuildOutcome, Node, NodeKey, PlanNode, Standing, WaveState};
use crate::semver::Version;
use crate::store::{Result, Store, Want};

/// How many decisions are read at a time.
const PAGE: usize = 500;

/// How many of the latest waves are looked through for one that concerned a package.
const WAVES: usize = 200;

/// Why.
#[derive(Clone, Debug, Serialize)]
pub struct WhyView {
    /// The package.
    pub package: PackageName,
    /// What was asked about, or what concerned the package last.
    pub root: Option<Root>,
    /// What it came to: a standing in a wave (`waiting`, `released`, `published`, `failed`, `late`, `held`, `skipped`),
    /// `origin`, `not_reached`, or what kept a wave from beginning (`not_planned`, `unknown_root`, `no_wave`).
    pub state: &'static str,
    /// The answer in words.
    pub sentence: String,
    /// The change that it began with.
    pub change: Option<ChangeView>,
    /// The wave.
    pub wave: Option<WaveView>,
    /// The package in that wave.
    pub node: Option<NodeView>,
    /// What was decided about the package in it, with every input.
    pub decisions: Vec<DecisionView>,
    /// What builds of the version came to.
    pub outcomes: Vec<OutcomeView>,
    /// What holds the package now.
    pub holds: Vec<HoldView>,
    /// What its highest version was not built with yet.
    pub stale: Option<Stale>,
}

/// A version and where it went.
#[derive(Clone, Debug, Serialize)]
pub struct Root {
    /// The package.
    pub package: PackageName,
    /// The version.
    pub version: Version,
    /// The environment.
    pub env: String,
}

/// What a build came to.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeView {
    /// The version.
    pub version: Version,
    /// Where.
    pub env: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// What was said.
    pub message: Option<String>,
    /// When it was told.
    pub at: Time,
}

impl From<BuildOutcome> for OutcomeView {
    fn from(outcome: BuildOutcome) -> Self {
        Self {
            version: outcome.version,
            env: outcome.env.as_str().to_owned(),
            ok: outcome.ok,
            message: outcome.message,
            at: Time(outcome.at),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// About which package.
    pub package: PackageName,
    /// On behalf of which version; `None`: what concerned the package last.
    pub root: Option<(PackageName, Version)>,
    /// In which environment; `None`: the first, where versions are born.
    pub env: Option<Env>,
}

/// Answers; `None` if the package is not known.
pub async fn why(core: &Core, question: &Question) -> Result<Option<WhyView>> {
    let (store, name) = (&*core.store, &question.package);
    if managed(store, name).await?.is_none() {
        return Ok(None);
    }
    let first = core.rules.environments.first();
    let env = question.env.as_ref().unwrap_or(first);
    let found = match &question.root {
        Some((root, version)) => of_root(core, name, root, version, env).await?,
        None => latest(core, name, env).await?,
    };
    let holds = hold::of(store, core.clock.now(), name).await?;
    Ok(Some(WhyView {
        package: name.clone(),
        root: found.root,
        state: found.state,
        sentence: found.sentence,
        change: found.change.map(ChangeView::from),
        wave: found.wave.map(WaveView::from),
        node: found.node,
        decisions: found.decisions,
        outcomes: found.outcomes.into_iter().map(OutcomeView::from).collect(),
        holds: holds.into_iter().map(HoldView::from).collect(),
        stale: stale::stale(store, name).await?,
    }))
}

/// What was found.
#[derive(Default)]
struct Found {
    root: Option<Root>,
    state: &'static str,
    sentence: String,
    change: Option<Change>,
    wave: Option<crate::model::wave::Wave>,
    node: Option<NodeView>,
    decisions: Vec<DecisionView>,
    outcomes: Vec<BuildOutcome>,
}

impl Found {
    fn nothing(state: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            state,
            sentence: sentence.into(),
            ..Self::default()
        }
    }
}

/// What a version's publish, or its latest promotion to an environment, meant to the package.
async fn of_root(
    core: &Core,
    name: &PackageName,
    root: &PackageName,
    version: &Version,
    env: &Env,
) -> Result<Found> {
    let shown = Root {
        package: root.clone(),
        version: version.clone(),
        env: env.as_str().to_owned(),
    };
    let found = match change_of(core, root, version, env).await? {
        None => Found::nothing(
            "unknown_root",
            format!("{root}@{version} was not posted for {env}, so nothing followed from it."),
        ),
        Some(change) => of_change(core, name, change).await?,
    };
    Ok(Found {
        root: Some(shown),
        ..found
    })
}

/// The change that published a version, or promoted it last.
async fn change_of(
    core: &Core,
    root: &PackageName,
    version: &Version,
    env: &Env,
) -> Result<Option<Change>> {
    let store = &core.store;
    if env == core.rules.environments.first() {
        let id = ChangeId::of_publish(root, version, None);
        if let Some(change) = store.change(&id).await? {
            return Ok(Some(change));
        }
        let state = store
            .packages(&[Want::rows(root, vec![RowKey::publish(version)])])
            .await?
            .pop();
        let notice = state.and_then(|state| state.facts(version)?.notice.clone());
        return match notice {
            Some(notice) => store.change(&notice).await,
            None => Ok(None),
        };
    }
    let promotions = store.promotions(root, env, PAGE).await?;
    match promotions.iter().find(|one| one.version == *version) {
        Some(one) => store.change(&one.change).await,
        None => Ok(None),
    }
}

async fn of_change(core: &Core, name: &PackageName, change: Change) -> Result<Found> {
    let store = &*core.store;
    let (root, version) = (change.name.clone(), change.version.clone());
    let Some(planned) = &change.planned else {
        let sentence = sentence::change(&change);
        let found = Found::nothing("not_planned", sentence);
        return Ok(Found {
            change: Some(change),
            ..found
        });
    };
    if let Verdict::Duplicate { of } = &planned.verdict
        && *of != change.id
        && let Some(first) = store.change(of).await?
    {
        return Box::pin(of_change(core, name, first)).await;
    }
    let mut best: Option<Found> = None;
    for id in waves_of_change(&change) {
        if let Some(found) = in_wave(core, name, &id).await? {
            let better = best.as_ref().is_none_or(|best| {
                let at = |found: &Found| found.wave.as_ref().map(|wave| wave.opened);
                at(best) < at(&found)
            });
            if better {
                best = Some(found);
            }
        }
    }
    // What was decided about it for this very version.
    let mut decisions = decided(store, std::slice::from_ref(&change.id), name, None).await?;
    if let Some(mut found) = best {
        found.change = Some(change);
        return Ok(found);
    }
    let (state, sentence) = if *name == root {
        let sentence = sentence::change(&change);
        ("origin", sentence)
    } else if let Some(last) = decisions.last() {
        ("skipped", sentence::decision(last))
    } else if planned.verdict == Verdict::Opened {
        (
            "not_reached",
            format!(
                "{name} was not touched by {root}@{version}: it depends neither on {root} nor on anything that was rebuilt for it."
            ),
        )
    } else {
        ("no_wave", sentence::change(&change))
    };
    Ok(Found {
        decisions: views(store, std::mem::take(&mut decisions)).await?,
        change: Some(change),
        ..Found::nothing(state, sentence)
    })
}

/// What a wave did with the package; `None` if it is no part of it.
async fn in_wave(core: &Core, name: &PackageName, id: &WaveId) -> Result<Option<Found>> {
    let store = &*core.store;
    let Some(wave) = store.wave(id).await? else {
        return Ok(None);
    };
    let whole = Whole::read(store, wave).await?;
    let plan = whole.plans.iter().rfind(|plan| plan.key.package == *name);
    let Some(plan) = plan else {
        // Only in what it decided, as a skip; its origins are told by their change.
        let changes = changes_of(&whole, None);
        let decisions = decided(store, &changes, name, Some(id)).await?;
        let Some(last) = decisions.last() else {
            return Ok(None);
        };
        return Ok(Some(Found {
            sentence: sentence::decision(last),
            state: "skipped",
            decisions: views(store, decisions).await?,
            wave: Some(whole.wave),
            ..Found::default()
        }));
    };
    let mut seen = whole.views(store, core.rules.deadline, &[plan]).await?;
    let node = whole.node(&plan.key);
    let mut changes = changes_of(&whole, Some(plan));
    if let Some(released) = &node.released {
        let index = rebuild::index(store, released).await?;
        changes.extend(index.map(|index| index.change));
    }
    let decisions = decided(store, &changes, name, Some(id)).await?;
    let mut outcomes = Vec::new();
    let version = node.published.clone().or(decisions
        .iter()
        .rev()
        .find_map(|decision| decision.version.clone()));
    if let Some(version) = &version {
        outcomes = store.outcomes(name, version, &whole.wave.env).await?;
    }
    let seen = seen.pop();
    let sentence = told(&whole, plan, seen.as_ref(), &decisions, &outcomes);
    Ok(Some(Found {
        state: super::wave::code(node.standing()),
        sentence,
        node: seen,
        decisions: views(store, decisions).await?,
        outcomes,
        wave: Some(whole.wave),
        ..Found::default()
    }))
}

/// The one sentence: where it stands, and for an end the decision that led to it.
fn told(
    whole: &Whole,
    plan: &PlanNode,
    seen: Option<&NodeView>,
    decisions: &[Decision],
    outcomes: &[BuildOutcome],
) -> String {
    let name = &plan.key.package;
    let stands = seen.map_or_else(String::new, |seen| seen.sentence.clone());
    let node = whole.node(&plan.key);
    let rebuilt = decisions.iter().rfind(|one| one.is_rebuild());
    match node.standing() {
        Standing::Skipped | Standing::Held => {
            let why = node.skipped.as_ref().map_or("held", Reason::code);
            let skip = decisions.iter().rfind(|one| one.reason.code() == why);
            skip.map_or(stands, sentence::decision)
        }
        Standing::Published => {
            let broken = outcomes.last().filter(|one| !one.ok);
            let build = match broken {
                Some(outcome) => format!(
                    " Its build failed: {}.",
                    outcome.message.as_deref().unwrap_or("no message")
                ),
                None => String::new(),
            };
            match rebuilt {
                Some(decision) if whole.wave.kind == Kind::Publish => format!(
                    "{} from {name}@{}, for {}.{build}",
                    stands.trim_end_matches('.'),
                    plan.base_of(decision),
                    causes(decision)
                ),
                _ => format!("{stands}{build}"),
            }
        }
        Standing::Failed | Standing::Late => {
            let failed = node.failed.as_deref().unwrap_or_default();
            let broken = failed.starts_with(Node::BUILD_FAILED);
            let attempts = seen
                .and_then(|seen| seen.rebuild.as_ref()?.progress.as_ref())
                .map_or(0, |progress| progress.attempts.len());
            match attempts {
                0 => stands,
                attempts if !broken => {
                    let attempts = sentence::count(attempts, "attempt");
                    format!("{stands} That was after {attempts} to send it.")
                }
                _ => stands,
            }
        }
        Standing::Released => match rebuilt {
            Some(decision) => format!("{stands} It is rebuilt for {}.", causes(decision)),
            None => stands,
        },
        Standing::Waiting if whole.wave.state == WaveState::Cancelled => stands,
        Standing::Waiting => match whole.origins.first() {
            Some(first) => format!("{stands} It follows {}@{}.", first.parent, first.version),
            None => stands,
        },
    }
}

impl PlanNode {
    fn base_of<'a>(&'a self, decision: &'a Decision) -> &'a Version {
        decision.base.as_ref().unwrap_or(&self.base)
    }
}

fn causes(decision: &Decision) -> String {
    let first = format!("{}@{}", decision.parent, decision.parent_version);
    let also = decision.also.iter();
    let also = also.map(|cause: &Cause| format!("{}@{}", cause.parent, cause.version));
    sentence::list(std::iter::once(first).chain(also))
}

/// The changes under which decisions about a package of a wave may be kept: that of the wave, and the notices of the
/// parents that were published in it.
fn changes_of(whole: &Whole, plan: Option<&PlanNode>) -> Vec<ChangeId> {
    let mut changes: BTreeSet<ChangeId> = [whole.wave.change.clone()].into();
    let published = |key: &NodeKey| {
        let version = whole.node(key).published?;
        Some(ChangeId::of_publish(&key.package, &version, None))
    };
    if whole.wave.kind == Kind::Publish {
        match plan {
            Some(plan) => changes.extend(
                plan.waits_for
                    .iter()
                    .chain(&plan.cycle)
                    .filter_map(published),
            ),
            None => changes.extend(whole.plans.iter().filter_map(|plan| published(&plan.key))),
        }
        let origins = whole.origins.iter();
        changes
            .extend(origins.map(|cause| ChangeId::of_publish(&cause.parent, &cause.version, None)));
    }
    changes.into_iter().collect()
}

/// What these changes decided about a package, of one wave if asked.
async fn decided(
    store: &dyn Store,
    changes: &[ChangeId],
    name: &PackageName,
    wave: Option<&WaveId>,
) -> Result<Vec<Decision>> {
    let mut found = Vec::new();
    for change in changes {
        let mut skip = 0;
        loop {
            let page = store.decisions(change, skip, PAGE).await?;
            skip += page.len();
            let full = page.len() == PAGE;
            found.extend(
                page.into_iter().filter(|one| {
                    one.dependent == *name && wave.is_none_or(|wave| one.wave == *wave)
                }),
            );
            if !full {
                break;
            }
        }
    }
    found.dedup();
    Ok(found)
}

async fn views(store: &dyn Store, decisions: Vec<Decision>) -> Result<Vec<DecisionView>> {
    let ids: Vec<RebuildId> = decisions
        .iter()
        .filter_map(|one| one.rebuild.clone())
        .collect();
    let progresses = rebuild::progresses(store, &ids).await?;
    let shown = decisions.into_iter().map(|decision| {
        let rebuild = decision.rebuild.clone().map(|id| DecidedRebuild {
            progress: progresses.get(&id).cloned(),
            id,
        });
        let is_sent = decision.is_rebuild();
        view(decision, is_sent, rebuild)
    });
    Ok(shown.collect())
}

/// What concerned a package last in an environment: of the latest waves the first that has it, or the latest version of a
/// parent, whichever is later.
async fn latest(core: &Core, name: &PackageName, env: &Env) -> Result<Found> {
    let store = &*core.store;
    let publishes = env == core.rules.environments.first();
    let mut wave = None;
    for one in store.waves(None, WAVES).await? {
        if one.env != *env {
            continue;
        }
        let planned = match &one.plan {
            Some(plan) => store
                .plan_nodes(&one.id, plan, std::slice::from_ref(name))
                .await?
                .pop()
                .flatten(),
            None => None,
        };
        let key = NodeKey::package(name);
        let node = store.nodes(&one.id, std::slice::from_ref(&key)).await?;
        let added = node.iter().any(|node| node.added.is_some());
        if planned.is_some() || added {
            wave = Some(one);
            break;
        }
    }
    // The latest version of a parent that began no wave, or one without this package.
    let mut change: Option<Change> = None;
    if publishes {
        let want = Want {
            top_edges: true,
            ..Want::statics(name)
        };
        let state = store.packages(&[want]).await?.pop();
        let top = state.and_then(|state| state.top);
        for edge in top.iter().flat_map(|top| &top.edges) {
            let parent = store.packages(&[Want::statics(&edge.parent)]).await?.pop();
            let Some(top) = parent.and_then(|parent| parent.top) else {
                continue;
            };
            let found = change_of(core, &edge.parent, &top.version, env).await?;
            let later = |one: &Change| {
                change
                    .as_ref()
                    .is_none_or(|there| there.accepted < one.accepted)
            };
            change = found.filter(later).or(change);
        }
    }
    let opened = wave.as_ref().map(|wave| wave.opened);
    if let Some(change) = change.filter(|change| opened.is_none_or(|at| at < change.accepted)) {
        let root = Root {
            package: change.name.clone(),
            version: change.version.clone(),
            env: env.as_str().to_owned(),
        };
        let found = of_change(core, name, change).await?;
        if wave.is_none() || found.state != "not_reached" {
            return Ok(Found {
                root: Some(root),
                ..found
            });
        }
    }
    let Some(wave) = wave else {
        let sentence = format!("Nothing that was posted so far concerned {name} in {env}.");
        return Ok(Found::nothing("not_reached", sentence));
    };
    let mut found = in_wave(core, name, &wave.id).await?.unwrap_or_default();
    let origin = match super::wave::change_of(&wave) {
        Some(id) => store.change(id).await?,
        None => None,
    };
    found.root = origin.as_ref().map(|change| Root {
        package: change.name.clone(),
        version: change.version.clone(),
        env: env.as_str().to_owned(),
    });
    found.change = origin;
    Ok(found)
}
