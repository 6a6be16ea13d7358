//! What would happen if a change were posted now (design.md 6, `POST /plan/{env}`): the steps of planning with the writes
//! left out.
//!
//! What a publish does to its own package is decided by the functions that decide it for a real one, and laid over what
//! is read of others. Then the graph is explored as for a real wave and, level by level, run as if every rebuild were sent
//! and noticed at once: holds, versions that need no rebuild and failed parents have the consequences that they would
//! have. What is foreseen is what a real run comes to if nothing interferes (H16).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::accept::judge;
use super::explore::explore_after;
use super::wave::{self, Behalf, Judged, Sending, published};
use super::{Core, Parents, Posted, Result, contention, describe, promotion, publish, read};
use crate::graph::{Affected, AffectedNode, Origin};
use crate::model::change::{Change, Verdict};
use crate::model::decision::{Decision, Reason};
use crate::model::document::Document;
use crate::model::id::WaveId;
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, Millis, PackageState, RowKey};
use crate::model::wave::{NodeKey, PlanNode, Standing, WaveState};
use crate::plan::applied::applied;
use crate::plan::base::{self, Base};
use crate::plan::promotion as pairs;
use crate::plan::publish::{Described, Source, Step, edge_projections, step, want};
use crate::plan::wave::{Covers, covers, held};
use crate::plan::{WithoutLine, version};
use crate::semver::Version;
use crate::store::{Dependent, Projection, Want};

/// What a change would come to.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// The change as it would be accepted. Of a promotion without an `Idempotency-Key` the id is made up.
    pub change: Change,
    /// What it would turn out to be.
    pub verdict: Verdict,
    /// What would be decided about the packages of its wave, in build order: by level, then by name.
    pub nodes: Vec<ForeseenNode>,
    /// Pairs of a parent and a dependent that would lead to no rebuild.
    pub skips: Vec<Decision>,
    /// Packages that depend on each other in a circle.
    pub components: Vec<Vec<PackageName>>,
    /// One longest chain in which each waits for the one before it, origin first; of a promotion too.
    pub critical_path: Vec<PackageName>,
    /// Whether the wave would wait for an operator's approval.
    pub awaits_approval: bool,
    /// Of a promotion: the waves that still run and whose rebuilds would be sent when they are attached.
    pub pending_on: Vec<WaveId>,
    /// Whether the prediction is sure of its versions: through a circle they may keep changing each other.
    pub settled: bool,
}

/// One package of the wave.
#[derive(Clone, Debug)]
pub struct ForeseenNode {
    /// Whom it waits for, its level, its base and its foreseen version.
    pub plan: PlanNode,
    /// What would be decided. `rebuild` is never set: ids are given out when it really happens.
    pub decision: Decision,
    /// Whether something would be sent.
    pub rebuild: bool,
}

impl Foreseen {
    fn of(change: Change, verdict: Verdict) -> Self {
        Self {
            change,
            verdict,
            nodes: Vec::new(),
            skips: Vec::new(),
            components: Vec::new(),
            critical_path: Vec::new(),
            awaits_approval: false,
            pending_on: Vec::new(),
            settled: true,
        }
    }
}

/// Foresees what posting this would come to. Writes nothing. A document that says no more than name and version stands for
/// the stored one, if that version is known.
pub async fn dry_run(core: &Core, posted: &Posted) -> Result<Foreseen> {
    let posted = &known(core, posted).await?;
    let (change, _) = judge(core, posted);
    if core
        .store
        .change(&change.id)
        .await?
        .is_some_and(|there| there.is_planned())
    {
        let of = change.id.clone();
        return Ok(Foreseen::of(change, Verdict::Duplicate { of }));
    }
    let described = describe(core, &posted.document, &change.digest);
    match change.kind {
        Kind::Publish => of_publish(core, change, &described).await,
        Kind::Promotion => of_promotion(core, change, &described).await,
    }
}

/// The stored document in place of one that says nothing but which version it is.
async fn known(core: &Core, posted: &Posted) -> Result<Posted> {
    let document = &posted.document;
    let says_more = |key: &String| !["name", "version", "env", "__published"].contains(&&**key);
    if document.json.keys().any(says_more) {
        return Ok(posted.clone());
    }
    let (name, version) = (&document.name, &document.version);
    let state = read(core, Want::rows(name, vec![RowKey::publish(version)])).await?;
    let digest = state.facts(version).and_then(|facts| facts.digest.clone());
    let stored = match &digest {
        Some(digest) => core.store.manifest(name, version, digest).await?,
        None => None,
    };
    let Some(json) = stored else {
        return Ok(posted.clone());
    };
    let stored = Document::parse(&json).map_err(|error| {
        super::IngestError::Document(format!("{name}@{version}"), error.to_string())
    })?;
    Ok(Posted {
        document: Document {
            published_flag: document.published_flag,
            env: document.env.clone(),
            ..stored
        },
        ..posted.clone()
    })
}

// ---- publishes ------------------------------------------------------------------------------------------------------

async fn of_publish(core: &Core, change: Change, described: &Described) -> Result<Foreseen> {
    let before = read(core, want(described)).await?;
    let noticed = before.facts(&described.version);
    if let Some(facts) = noticed.filter(|facts| facts.noticed.is_some()) {
        let of = facts.notice.clone().unwrap_or_else(|| change.id.clone());
        return Ok(Foreseen::of(change, Verdict::Duplicate { of }));
    }
    let source = Source::Notice(change.id.clone());
    let state = after(core, before, described, &source);
    let Some(mut facts) = state.facts(&described.version).cloned() else {
        return Err(contention(&described.name));
    };
    if facts.notice.as_ref() != Some(&change.id) {
        let verdict = publish::verdict_of_repeat(&change, &facts);
        return Ok(Foreseen::of(change, verdict));
    }
    if let Some(rebuild) = publish::answered(&state, &change) {
        let verdict = Verdict::Answers {
            rebuild: rebuild.id,
            waves: rebuild.waves.into_iter().collect(),
        };
        return Ok(Foreseen::of(change, verdict));
    }
    if let Some(tag) = described.tag.clone() {
        return Ok(Foreseen::of(change, Verdict::Tagged { tag }));
    }
    if facts.with.is_none() {
        let mut parents = Parents::default();
        facts.with = Some(publish::built_with(core, &mut parents, described).await?);
    }
    let waves = publish::places(core, described, &facts).await?;
    if !waves.is_empty() {
        let rebuilds = facts.took_place;
        return Ok(Foreseen::of(change, Verdict::TookPlace { rebuilds, waves }));
    }
    let cause = Cause {
        parent: described.name.clone(),
        version: described.version.clone(),
        origin: facts.origin.clone(),
    };
    let mut causes = vec![cause];
    let verdict = if core.rules.settle.is_zero() {
        Verdict::Opened
    } else {
        let (wave, others) = collecting(core, &change).await?;
        causes.extend(others);
        Verdict::Joined { wave }
    };
    let written = edge_projections(&state, described, &facts);
    let origins = causes.iter().map(|cause| Origin {
        cause: cause.clone(),
        reach: true,
    });
    let affected = explore_after(core, origins.collect(), Vec::new(), &written).await?;
    let wave = match &verdict {
        Verdict::Joined { wave } => wave.clone(),
        _ => WaveId::from(&change.id),
    };
    let limit = core.rules.approve_above;
    let nodes = u32::try_from(affected.nodes.len()).unwrap_or(u32::MAX);
    let mut run = Run {
        core,
        change: &change,
        wave,
        written: &written,
        published: causes
            .into_iter()
            .map(|cause| (cause.parent.clone(), cause))
            .collect(),
        ended: HashMap::new(),
        planned: affected
            .nodes
            .iter()
            .map(|node| {
                let version = node.plan.version.as_ref().unwrap_or(&node.plan.base);
                (node.plan.key.package.clone(), version.clone())
            })
            .collect(),
        nodes: Vec::new(),
        skips: Vec::new(),
    };
    run.all(&affected).await?;
    let Run {
        nodes: run, skips, ..
    } = run;
    Ok(Foreseen {
        nodes: run,
        skips,
        components: affected.components,
        critical_path: affected.critical_path,
        awaits_approval: limit.is_some_and(|limit| nodes > limit),
        settled: affected.settled,
        ..Foreseen::of(change, verdict)
    })
}

/// The package as the first batch of a change leaves it.
fn after(
    core: &Core,
    before: PackageState,
    described: &Described,
    source: &Source,
) -> PackageState {
    match step(&before, described, source, core.clock.now()) {
        Step::Done => before,
        Step::Commit(commit) => applied(before, &commit),
    }
}

/// The wave that this publish would share, with the others that it has so far.
async fn collecting(core: &Core, change: &Change) -> Result<(WaveId, Vec<Cause>)> {
    if let Some(id) = core.store.collecting(&change.env).await?
        && let Some(wave) = core.store.wave(&id).await?
        && wave.state == WaveState::Collecting
    {
        let members = core.store.members(&id).await?;
        let members: Vec<Cause> = members.into_iter().map(|(_, cause)| cause).collect();
        if members.iter().all(|one| one.parent != change.name) {
            return Ok((id, members));
        }
    }
    Ok((WaveId::from(&change.id), Vec::new()))
}

/// A wave that is run in memory.
struct Run<'a> {
    core: &'a Core,
    change: &'a Change,
    wave: WaveId,
    written: &'a [Projection],
    /// What is published in the wave.
    published: HashMap<PackageName, Cause>,
    /// What ended otherwise.
    ended: HashMap<PackageName, Standing>,
    /// The version that each was expected to get.
    planned: HashMap<PackageName, Version>,
    nodes: Vec<ForeseenNode>,
    skips: Vec<Decision>,
}

/// What a node is rebuilt from, as far as the explorer or [`Run::chosen`] know.
struct Choice {
    base: Version,
    range: Option<String>,
    reason: Reason,
    edge: Dependent,
    causes: Vec<Cause>,
    /// `None`: no version is left.
    version: Option<Version>,
}

impl Run<'_> {
    async fn all(&mut self, affected: &Affected) -> Result<()> {
        let names: Vec<PackageName> = affected
            .nodes
            .iter()
            .map(|node| node.plan.key.package.clone())
            .collect();
        let mut holds = self.core.store.holds(&names).await?.into_iter();
        for node in &affected.nodes {
            let holds = holds.next().unwrap_or_default();
            self.node(node, holds).await?;
        }
        for skip in &affected.skips {
            // Of a parent that is not published in the end nobody hears.
            if self.published.get(&skip.cause.parent) == Some(&skip.cause) {
                let decision = self.decision(&skip.cause, &skip.edge, skip.reason.clone());
                self.skips.push(decision);
            }
        }
        Ok(())
    }

    async fn node(
        &mut self,
        node: &AffectedNode,
        holds: Vec<crate::model::wave::Hold>,
    ) -> Result<()> {
        let key = &node.plan.key;
        let waits = node.plan.waits_for.iter();
        let mut causes: Vec<Cause> = waits
            .clone()
            .filter_map(|parent| self.published.get(&parent.package).cloned())
            .collect();
        causes.sort();
        if causes.is_empty() {
            let parents = waits.map(|parent| {
                let standing = self.ended.get(&parent.package).copied();
                (
                    parent.package.clone(),
                    standing.unwrap_or(Standing::Waiting),
                )
            });
            let reason = Reason::UpstreamFailed {
                parents: parents.collect(),
            };
            self.end(node, None, reason, Standing::Skipped);
            return Ok(());
        }
        let waited = causes.clone();
        causes.extend(self.others(node).await?);
        causes.sort();
        let before = causes.len();
        if let Some(hold) = held(holds, &mut causes, self.core.clock.now()) {
            let reason = Reason::Held {
                hold: hold.id,
                owner: hold.owner,
                until: hold.expires,
            };
            self.end(node, causes.first(), reason, Standing::Held);
            return Ok(());
        }
        let explored = if causes.len() == before {
            self.as_explored(node, &waited).await?
        } else {
            None
        };
        let choice = match explored {
            Some(choice) => choice,
            None => match self.chosen(node, &causes).await? {
                Ok(choice) => choice,
                Err(reason) => {
                    self.end(node, causes.first(), reason, Standing::Skipped);
                    return Ok(());
                }
            },
        };
        let row = RowKey::publish(&choice.base);
        let state = read(self.core, Want::rows(&key.package, vec![row])).await?;
        let facts = state.facts(&choice.base);
        if facts.is_some_and(|facts| {
            covers(facts, &choice.causes, self.core.clock.now()) == Covers::All
        }) {
            let reason = crate::plan::publish::replaced_by(&choice.base);
            self.end(node, choice.causes.first(), reason, Standing::Published);
            let cause = Cause {
                parent: key.package.clone(),
                origin: facts.and_then(|facts| facts.origin.clone()),
                version: choice.base,
            };
            self.ended.remove(&key.package);
            self.published.insert(key.package.clone(), cause);
            return Ok(());
        }
        let Some(version) = choice.version.clone() else {
            let reason = Reason::NoVersionLeft;
            self.end(node, choice.causes.first(), reason, Standing::Skipped);
            return Ok(());
        };
        let origin = facts.and_then(|facts| facts.origin.clone());
        self.published.insert(
            key.package.clone(),
            Cause {
                parent: key.package.clone(),
                version: version.clone(),
                origin: Some(origin.unwrap_or_else(|| choice.base.clone())),
            },
        );
        let first = choice.causes.first().unwrap_or(&causes[0]);
        let decision = Decision {
            also: choice.causes.iter().skip(1).cloned().collect(),
            range: choice.range.clone(),
            base: Some(choice.base.clone()),
            version: Some(version.clone()),
            ..self.decision(first, &choice.edge, choice.reason.clone())
        };
        self.nodes.push(ForeseenNode {
            plan: PlanNode {
                base: choice.base,
                version: Some(version),
                ..node.plan.clone()
            },
            decision,
            rebuild: true,
        });
        Ok(())
    }

    /// Parents that were published in the wave and that it declares, although they do not reach it (H16): as a release looks
    /// at them.
    async fn others(&self, node: &AffectedNode) -> Result<Vec<Cause>> {
        let plan = &node.plan;
        let want = Want {
            top_edges: true,
            ..Want::statics(&plan.key.package)
        };
        let state = read(self.core, want).await?;
        let edges = state.top.iter().flat_map(|top| &top.edges);
        let others = edges.filter(|edge| {
            let key = NodeKey::package(&edge.parent);
            key != plan.key && !plan.waits_for.contains(&key) && !plan.cycle.contains(&key)
        });
        Ok(others
            .filter_map(|edge| self.published.get(&edge.parent).cloned())
            .collect())
    }

    /// What the explorer found, if all came as it thought.
    async fn as_explored(
        &mut self,
        node: &AffectedNode,
        causes: &[Cause],
    ) -> Result<Option<Choice>> {
        let out = node.also_out.iter().map(|(cause, _)| cause);
        let expected: BTreeSet<&Cause> = node.causes.iter().chain(out.clone()).collect();
        if expected != causes.iter().collect() {
            return Ok(None);
        }
        let name = &node.plan.key.package;
        let asked: Vec<_> = out.map(|one| (one.parent.clone(), name.clone())).collect();
        let edges = self.core.store.edges(&asked).await?;
        for ((cause, reason), edge) in node.also_out.iter().zip(edges) {
            if let Some(edge) = self.seen(&cause.parent, edge, name) {
                let decision = self.decision(cause, &edge, reason.clone());
                self.skips.push(decision);
            }
        }
        Ok(Some(Choice {
            base: node.plan.base.clone(),
            range: node.range.clone(),
            reason: node.reason.clone(),
            edge: node.edge.clone(),
            causes: node.causes.clone(),
            version: node.plan.version.clone(),
        }))
    }

    /// Works it out anew, because a parent is held, or is published at another version.
    async fn chosen(
        &mut self,
        node: &AffectedNode,
        causes: &[Cause],
    ) -> Result<std::result::Result<Choice, Reason>> {
        let (core, name) = (self.core, &node.plan.key.package);
        let asked: Vec<(PackageName, PackageName)> = causes
            .iter()
            .map(|cause| (cause.parent.clone(), name.clone()))
            .collect();
        let mut edges: BTreeMap<PackageName, Dependent> = BTreeMap::new();
        let mut answers = Vec::new();
        for (cause, edge) in causes.iter().zip(core.store.edges(&asked).await?) {
            let Some(edge) = self.seen(&cause.parent, edge, name) else {
                continue;
            };
            let origin = cause.origin.as_ref();
            let answer = match base::of_top(&edge, &cause.version, origin) {
                Base::NeedsRanges => {
                    let ranges = core.store.ranges(&cause.parent, name).await?;
                    base::among(&edge, &ranges, &cause.version, origin)
                }
                answer => answer,
            };
            edges.insert(cause.parent.clone(), edge);
            answers.push((cause.clone(), answer));
        }
        let chosen = match base::across(answers) {
            Ok(chosen) => chosen,
            Err(reasons) => {
                let single = node.plan.waits_for.len() == 1;
                let first = reasons.into_iter().next().filter(|_| single);
                return Ok(Err(
                    first.map_or(Reason::NoLongerReached, |(_, reason)| reason)
                ));
            }
        };
        for (cause, reason) in &chosen.out {
            if let Some(edge) = edges.get(&cause.parent) {
                let decision = self.decision(cause, edge, reason.clone());
                self.skips.push(decision);
            }
        }
        let first = chosen.causes.first();
        let edge = first.and_then(|cause| edges.remove(&cause.parent));
        Ok(Ok(Choice {
            version: next_version(core, name, &chosen.base).await?,
            edge: edge.unwrap_or_else(|| node.edge.clone()),
            base: chosen.base,
            range: Some(chosen.range),
            reason: chosen.reason,
            causes: chosen.causes,
        }))
    }

    /// A pair as it will be once the change has written its own.
    fn seen(
        &self,
        of: &PackageName,
        edge: Option<Dependent>,
        name: &PackageName,
    ) -> Option<Dependent> {
        let written = self.written.iter().find_map(|one| match one {
            Projection::Dependent { parent, row } if parent == of && row.dependent == *name => {
                Some(row.clone())
            }
            _ => None,
        });
        written.or(edge)
    }

    fn end(
        &mut self,
        node: &AffectedNode,
        cause: Option<&Cause>,
        reason: Reason,
        standing: Standing,
    ) {
        let key = &node.plan.key;
        self.ended.insert(key.package.clone(), standing);
        let cause = cause.cloned().unwrap_or_else(|| {
            // On behalf of the first that it waited for.
            let first = node.plan.waits_for.first().unwrap_or(key);
            let published = self.published.get(&first.package);
            let planned = || Cause {
                parent: first.package.clone(),
                version: self
                    .planned
                    .get(&first.package)
                    .unwrap_or(&node.plan.base)
                    .clone(),
                origin: None,
            };
            published.cloned().unwrap_or_else(planned)
        });
        let decision = Decision {
            base: Some(node.plan.base.clone()),
            ..self.decision(&cause, &node.edge, reason)
        };
        self.nodes.push(ForeseenNode {
            plan: PlanNode {
                version: None,
                ..node.plan.clone()
            },
            decision,
            rebuild: false,
        });
    }

    fn decision(&self, cause: &Cause, edge: &Dependent, reason: Reason) -> Decision {
        Decision {
            dependent: edge.dependent.clone(),
            wave: self.wave.clone(),
            env: self.change.env.clone(),
            parent: cause.parent.clone(),
            parent_version: cause.version.clone(),
            also: Vec::new(),
            range: edge.range.clone(),
            top: Some(edge.top.clone()),
            base: None,
            version: None,
            rebuild: None,
            reason,
            flags: Vec::new(),
        }
    }
}

/// The version that a rebuild from this base would get now.
async fn next_version(core: &Core, name: &PackageName, base: &Version) -> Result<Option<Version>> {
    let increment = core.rules.increment;
    let want = Want {
        taken: version::prefixes(base, increment),
        ..Want::rows(name, vec![RowKey::publish(base)])
    };
    let state = read(core, want).await?;
    let origin = state.facts(base).and_then(|facts| facts.origin.as_ref());
    let taken = |one: &Version| state.taken.contains(one);
    let published = published(core, name).await?;
    Ok(version::next(base, origin, increment, taken, &published))
}

// ---- promotions -----------------------------------------------------------------------------------------------------

async fn of_promotion(core: &Core, change: Change, described: &Described) -> Result<Foreseen> {
    let before = read(core, want(described)).await?;
    let state = after(core, before, described, &Source::Known);
    let origin = Cause {
        parent: change.name.clone(),
        version: change.version.clone(),
        origin: state
            .facts(&change.version)
            .and_then(|facts| facts.origin.clone()),
    };
    let row = RowKey::promotion(&change.version, &change.env);
    let rows = read(core, Want::rows(&change.name, vec![row.clone()])).await?;
    if pairs::confirm(&rows, &change).is_some() {
        let rebuild = rows.row(&row).and_then(|row| row.rebuild.clone());
        if let Some(rebuild) = rebuild {
            let verdict = Verdict::Answers {
                rebuild: rebuild.id,
                waves: rebuild.waves.into_iter().collect(),
            };
            return Ok(Foreseen::of(change, verdict));
        }
    }
    let latest = core
        .store
        .latest_promotion(&change.name, &change.env)
        .await?;
    if let Some(latest) = latest {
        let window = core.rules.duplicate_window.as_millis();
        let window = Millis::try_from(window).unwrap_or(Millis::MAX);
        let ended = promotion::ended(core, &latest).await?;
        if pairs::is_duplicate(&change, &latest, ended, window) {
            let of = latest.change;
            return Ok(Foreseen::of(change, Verdict::Duplicate { of }));
        }
    }
    let line = core.store.line(&change.name, &change.version).await?;
    if line.is_none() && core.rules.promote_without_line == WithoutLine::Nothing {
        return Ok(Foreseen::of(change, Verdict::NoReleaseLine));
    }
    let closure = wave::closure(core, &origin, None).await?;
    let root = NodeKey::pair(&change.name, &change.version);
    let mut keys = vec![root.clone()];
    keys.extend(closure.nodes.iter().map(|node| node.key.clone()));
    let pending_on = wave::open_waves(core, &keys).await?;

    let id = WaveId::from(&change.id);
    let promoted = promotion::promoted(&change, &id);
    let mut skips = promotion::lower(&promoted, &closure.lower);
    let mut page: Option<PackageName> = None;
    loop {
        let found = if line.is_some() {
            promotion::the_others(core, &promoted, page.as_ref()).await?
        } else {
            promotion::who_admits_nothing(core, &promoted, &origin, page.as_ref()).await?
        };
        skips.extend(found.0);
        page = found.1;
        if page.is_none() {
            break;
        }
    }
    let critical_path = longest(&root, &closure.nodes);
    let components = circles(&closure.nodes);
    let nodes = send(core, &change, &id, root, closure.nodes).await?;
    Ok(Foreseen {
        nodes,
        skips,
        components,
        critical_path,
        pending_on,
        ..Foreseen::of(change, Verdict::Opened)
    })
}

/// Judges the pairs in build order, each after those that it waits for.
async fn send(
    core: &Core,
    change: &Change,
    wave: &WaveId,
    root: NodeKey,
    plans: Vec<PlanNode>,
) -> Result<Vec<ForeseenNode>> {
    let sending = Sending {
        core,
        change: &change.id,
        wave,
        env: &change.env,
        promote: change.promote,
    };
    let mut there: BTreeSet<NodeKey> = [root].into();
    let mut behalves: BTreeMap<NodeKey, Behalf> = BTreeMap::new();
    let mut nodes = Vec::new();
    for plan in plans {
        let mut parents: Vec<NodeKey> = plan.waits_for.clone();
        parents.retain(|parent| there.contains(parent));
        parents.sort();
        let Some(first) = parents.first() else {
            let parents = plan.waits_for.iter();
            let reason = Reason::UpstreamFailed {
                parents: parents
                    .map(|parent| (parent.package.clone(), Standing::Skipped))
                    .collect(),
            };
            let promoted = promotion::promoted(change, wave);
            let decision = pairs::decision(&promoted, &plan.key.package, reason, Vec::new());
            nodes.push(ForeseenNode {
                decision: Decision {
                    base: Some(plan.base.clone()),
                    ..decision
                },
                plan,
                rebuild: false,
            });
            continue;
        };
        if !behalves.contains_key(first) {
            let behalf = Behalf::of_latest(core, &change.env, first).await?;
            behalves.insert(first.clone(), behalf);
        }
        let judged = sending
            .judge(&plan, &parents, first, &behalves[first])
            .await?;
        let decision = match judged {
            Judged::Skip(decision) | Judged::There(decision, _) => decision,
            Judged::Commit(step) => step.1,
        };
        let rebuild = decision.is_rebuild();
        if rebuild {
            there.insert(plan.key.clone());
        }
        nodes.push(ForeseenNode {
            plan,
            decision: Decision {
                rebuild: None,
                ..decision
            },
            rebuild,
        });
    }
    Ok(nodes)
}

/// One longest chain of pairs in which each waits for the one before it.
fn longest(root: &NodeKey, plans: &[PlanNode]) -> Vec<PackageName> {
    let by_key: HashMap<&NodeKey, &PlanNode> = plans.iter().map(|plan| (&plan.key, plan)).collect();
    let Some(mut at) = plans.iter().max_by_key(|plan| plan.level) else {
        return Vec::new();
    };
    let mut path = vec![at.key.package.clone()];
    while let Some(before) = at
        .waits_for
        .iter()
        .filter_map(|key| by_key.get(key))
        .find(|before| before.level + 1 == at.level)
    {
        path.push(before.key.package.clone());
        at = before;
    }
    path.push(root.package.clone());
    path.reverse();
    path
}

/// The packages of a promotion that lead back to each other.
fn circles(plans: &[PlanNode]) -> Vec<Vec<PackageName>> {
    let numbers: HashMap<&NodeKey, usize> = plans
        .iter()
        .enumerate()
        .map(|(at, plan)| (&plan.key, at))
        .collect();
    let mut edges = Vec::new();
    for (child, plan) in plans.iter().enumerate() {
        let parents = plan.waits_for.iter().chain(&plan.cycle);
        edges.extend(parents.filter_map(|parent| Some((*numbers.get(parent)?, child))));
    }
    let roles = vec![crate::graph::Role::Follower; plans.len()];
    let found = crate::graph::order(&roles, &edges).components;
    let name = |&at: &usize| plans[at].key.package.clone();
    found
        .iter()
        .map(|members| members.iter().map(name).collect())
        .collect()
}
