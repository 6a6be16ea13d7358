//! Promotion waves: the pairs that lines lead to, and sending them (rules 12, 13; H13, H15, H23).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::super::{AT_ONCE, Core, REFUSALS, Result, contention, read};
use super::Step;
use crate::graph::{self, Role};
use crate::model::decision::{Decision, Reason};
use crate::model::edge::EdgeRange;
use crate::model::env::Env;
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Millis, Rebuild, RebuildState, RowKey, millis};
use crate::model::wave::{Node, NodeKey, PlanNode, Standing, Start};
use crate::plan::promotion::{self as decide, Pair, Promoted};
use crate::plan::wave::came_late;
use crate::plan::{WithoutLine, rebuild};
use crate::semver::Version;
use crate::store::{Committed, PackageCommit, Promotion, Want, Write};

/// How many pairs are read at a time.
const PAGE: usize = 500;

/// How many earlier promotions of the package to the environment are looked through for rebuilds that were not sent.
pub(in super::super) const EARLIER: usize = 20;

/// How many pairs are decided at once: those who write together share a commit.
const DECIDING: usize = 64;

/// How often the pairs are worked out again because a version rose.
const ROUNDS: usize = 20;

/// What a promotion reaches.
pub(in super::super) struct Closure {
    /// The pairs, in build order.
    pub nodes: Vec<PlanNode>,
    /// Pairs that lines lead to and that a higher version of the same package replaces, with the line and that version
    /// (H23).
    pub lower: Vec<(Cause, NodeKey, Version)>,
}

/// The pairs that follow from a promoted version: those of its line, those of their lines, and so on. Of a package at two
/// versions the higher one counts (H23). `only`: which of the origin's own line.
pub(in super::super) async fn closure(
    core: &Core,
    origin: &Cause,
    only: Option<&BTreeSet<PackageName>>,
) -> Result<Closure> {
    let root = NodeKey::pair(&origin.parent, &origin.version);
    let mut lines: HashMap<NodeKey, Vec<NodeKey>> = HashMap::new();
    let mut best: BTreeMap<PackageName, Version> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut found: BTreeMap<PackageName, BTreeSet<Version>> = BTreeMap::new();
        let mut followed = BTreeSet::from([root.clone()]);
        let mut level = vec![root.clone()];
        while !level.is_empty() {
            let unknown = level.iter().filter(|from| !lines.contains_key(from));
            let loads: Vec<_> = unknown
                .map(|from| async {
                    let pairs = entries(core, from, origin_of(origin, from)).await?;
                    Result::Ok((from.clone(), pairs))
                })
                .collect();
            let mut loads = stream::iter(loads).buffer_unordered(AT_ONCE);
            while let Some((from, mut pairs)) = loads.try_next().await? {
                if from == root
                    && let Some(only) = only
                {
                    pairs.retain(|pair| only.contains(&pair.package));
                }
                pairs.retain(|pair| pair.package != root.package);
                lines.insert(from, pairs);
            }
            drop(loads);
            for pair in std::mem::take(&mut level)
                .iter()
                .flat_map(|from| &lines[from])
            {
                let Some(version) = &pair.version else {
                    continue;
                };
                let versions = found.entry(pair.package.clone()).or_default();
                versions.insert(version.clone());
                let is_best = best.get(&pair.package).is_none_or(|best| best == version);
                if is_best && followed.insert(pair.clone()) {
                    level.push(pair.clone());
                }
            }
        }
        let highest: BTreeMap<PackageName, Version> = found
            .iter()
            .filter_map(|(name, versions)| Some((name.clone(), versions.last()?.clone())))
            .collect();
        if highest == best {
            break;
        }
        best = highest;
    }
    let mut keys = vec![root.clone()];
    keys.extend(
        best.iter()
            .map(|(name, version)| NodeKey::pair(name, version)),
    );
    let place: HashMap<&NodeKey, usize> =
        keys.iter().enumerate().map(|(at, key)| (key, at)).collect();
    let mut edges = Vec::new();
    let mut lower = Vec::new();
    for (from, pairs) in &lines {
        let Some(at) = place.get(from) else { continue };
        for pair in pairs {
            match place.get(pair) {
                Some(to) => edges.push((*at, *to)),
                None => {
                    if let (Some(line), Some(by)) = (&from.version, best.get(&pair.package)) {
                        let cause = Cause {
                            parent: from.package.clone(),
                            version: line.clone(),
                            origin: None,
                        };
                        lower.push((cause, pair.clone(), by.clone()));
                    }
                }
            }
        }
    }
    lower.sort();
    let roles: Vec<Role> = (0..keys.len())
        .map(|at| {
            if at == 0 {
                Role::Origin
            } else {
                Role::Follower
            }
        })
        .collect();
    let order = graph::order(&roles, &edges);
    let name = |at: &usize| keys[*at].clone();
    let mut nodes: Vec<PlanNode> = keys
        .iter()
        .enumerate()
        .skip(1)
        .filter_map(|(at, key)| {
            Some(PlanNode {
                key: key.clone(),
                waits_for: order.places[at].waits_for.iter().map(name).collect(),
                cycle: order.places[at].cycle.iter().map(name).collect(),
                level: order.places[at].level,
                base: key.version.clone()?,
                version: key.version.clone(),
                seed: None,
            })
        })
        .filter(|node| !node.waits_for.is_empty())
        .collect();
    nodes.sort_by(|one, other| (one.level, &one.key).cmp(&(other.level, &other.key)));
    Ok(Closure { nodes, lower })
}

/// The origin version of what the promotion began with; of other versions it is not asked for.
fn origin_of<'a>(origin: &'a Cause, key: &NodeKey) -> Option<&'a Version> {
    let same = key.package == origin.parent && key.version.as_ref() == Some(&origin.version);
    origin.origin.as_ref().filter(|_| same)
}

/// The pairs that go with a version: its line, or, where there is none, what the setting says (rule 12).
async fn entries(core: &Core, of: &NodeKey, origin: Option<&Version>) -> Result<Vec<NodeKey>> {
    let Some(version) = &of.version else {
        return Ok(Vec::new());
    };
    let mut pairs = Vec::new();
    let line = core.store.line(&of.package, version).await?;
    if line.is_none() && core.rules.promote_without_line == WithoutLine::Nothing {
        return Ok(pairs);
    }
    let mut after: Option<PackageName> = None;
    loop {
        let full = if line.is_some() {
            let page = core
                .store
                .line_dependents(&of.package, version, after.as_ref(), PAGE)
                .await?;
            after = page.last().map(|(name, _)| name.clone());
            pairs.extend(page.iter().map(|(name, at)| NodeKey::pair(name, at)));
            page.len() == PAGE
        } else {
            let page = core
                .store
                .dependents(&of.package, after.as_ref(), PAGE)
                .await?;
            after = page.last().map(|edge| edge.dependent.clone());
            for edge in page.iter().filter(|edge| edge.range.is_some()) {
                let highest = highest(core, of, version, origin, &edge.dependent).await?;
                pairs.extend(highest.map(|at| NodeKey::pair(&edge.dependent, &at)));
            }
            page.len() == PAGE
        };
        if !full {
            return Ok(pairs);
        }
    }
}

/// A dependent's highest published version that admits the promoted one (rule 12, `promote_without_line`).
pub(in super::super) async fn highest(
    core: &Core,
    of: &NodeKey,
    version: &Version,
    origin: Option<&Version>,
    dependent: &PackageName,
) -> Result<Option<Version>> {
    let ranges = core.store.ranges(&of.package, dependent).await?;
    let admits = |range: &str| EdgeRange::of(range).admits(version, origin);
    let admitting = ranges.into_iter().filter(|(range, _)| admits(range));
    Ok(admitting.map(|(_, version)| version).max())
}

/// What is known of a promoted version that pairs are sent on behalf of.
pub(in super::super) struct Behalf {
    /// Which promotion of it this is.
    generation: u32,
    /// What the environment before got with it, for drift (rule 13).
    before: Option<(Env, BTreeMap<PackageName, Version>)>,
    /// What later promotions of the package sent there: this one must not send an older choice after theirs.
    later: BTreeMap<PackageName, Version>,
    /// Promotions of the package there.
    promotions: Vec<Promotion>,
}

/// Whether the rebuild that a pair waits for is its own or was under way.
#[derive(PartialEq, Eq)]
pub(in super::super) enum Started {
    New,
    Joined,
}

pub(in super::super) type Sent = (RowKey, Rebuild, Started);

/// On whose behalf, and where to, pairs are sent.
pub(in super::super) struct Sending<'a> {
    pub core: &'a Core,
    pub change: &'a ChangeId,
    pub wave: &'a WaveId,
    pub env: &'a Env,
    pub promote: bool,
}

/// What a pair comes to.
pub(in super::super) enum Judged {
    /// Nothing is sent.
    Skip(Decision),
    /// Decided in this wave before: what follows may not be there.
    There(Decision, Box<Sent>),
    /// This batch sends it, or joins what is under way.
    Commit(Box<(PackageCommit, Decision, Sent)>),
}

impl Behalf {
    /// Of a version whose promotion to that environment is the latest, as it is for a wave that has just sent it.
    pub(in super::super) async fn of_latest(
        core: &Core,
        env: &Env,
        parent: &NodeKey,
    ) -> Result<Self> {
        Ok(Self {
            generation: 0,
            before: before(core, env, parent).await?,
            later: BTreeMap::new(),
            promotions: Vec::new(),
        })
    }
}

/// What the environment before got with a version.
async fn before(
    core: &Core,
    env: &Env,
    parent: &NodeKey,
) -> Result<Option<(Env, BTreeMap<PackageName, Version>)>> {
    Ok(
        match (core.rules.environments.before(env), &parent.version) {
            (Some(before), Some(version)) => {
                let store = &core.store;
                let entries = store.promotion_entries(&parent.package, version, before);
                Some((before.clone(), entries.await?))
            }
            _ => None,
        },
    )
}

impl Step<'_> {
    /// Looks at a page of the line of a node; returns where the next page begins.
    pub(super) async fn line(
        &mut self,
        key: &NodeKey,
        node: &Node,
        after: Option<&PackageName>,
    ) -> Result<Option<PackageName>> {
        // Whoever waits for it is in the plan or was added; both are in the line, or declare it where there is none.
        let Some(version) = key.version.clone() else {
            return Ok(None);
        };
        let has_line = self.core.store.line(&key.package, &version).await?;
        let (pairs, last) = if has_line.is_some() {
            let store = &self.core.store;
            let page = store
                .line_dependents(&key.package, &version, after, PAGE)
                .await?;
            let last = page.last().map(|(name, _)| name.clone());
            let full = page.len() == PAGE;
            (page, last.filter(|_| full))
        } else {
            let page = self
                .core
                .store
                .dependents(&key.package, after, PAGE)
                .await?;
            let last = page.last().map(|edge| edge.dependent.clone());
            let full = page.len() == PAGE;
            let pairs = page.into_iter().map(|edge| (edge.dependent, edge.top));
            (pairs.collect(), last.filter(|_| full))
        };
        let names: Vec<PackageName> = pairs.iter().map(|(name, _)| name.clone()).collect();
        let planned = self.plans(&names).await?;
        let mut plans: Vec<PlanNode> = planned.into_iter().flatten().collect();
        let keys: Vec<NodeKey> = pairs
            .iter()
            .map(|(name, version)| NodeKey::pair(name, version))
            .collect();
        let added = self.nodes(&keys).await?;
        plans.extend(added.into_values().filter_map(|node| node.added));
        plans.retain(|plan| plan.waits_for.contains(key));
        let keys: Vec<NodeKey> = plans.iter().map(|plan| plan.key.clone()).collect();
        let nodes = self.nodes(&keys).await?;
        let came_late = came_late(node) && node.published.is_some();
        let mut waiting = Vec::new();
        for plan in plans {
            let node = nodes.get(&plan.key).cloned().unwrap_or_default();
            // One that was released is sent on: whoever released it may have died half-way, and all of it can be repeated.
            if matches!(node.standing(), Standing::Waiting | Standing::Released) {
                waiting.push(plan);
                continue;
            }
            // The same version in the same environment: only who was not sent at all is sent for a late parent.
            let upstream = matches!(node.skipped, Some(Reason::UpstreamFailed { .. }));
            if came_late && upstream && node.published.is_none() {
                self.without.insert(plan.key.package.clone());
            }
            self.go_on(&plan.key, &node).await?;
        }
        self.decide(waiting).await?;
        Ok(last)
    }

    /// Sends these pairs, each on behalf of the lines that it waited for and whose version was published.
    pub(super) async fn send_pairs(
        &mut self,
        nodes: Vec<(PlanNode, Vec<(NodeKey, Version)>)>,
    ) -> Result<()> {
        let mut behalves: BTreeMap<NodeKey, Behalf> = BTreeMap::new();
        let mut writes = Vec::new();
        let mut works = Vec::new();
        let mut ended = Vec::new();
        let mut sent: BTreeMap<NodeKey, Vec<(PackageName, Version)>> = BTreeMap::new();
        let mut pairs = Vec::new();
        for (plan, published) in nodes {
            let mut parents: Vec<NodeKey> = published.into_iter().map(|(key, _)| key).collect();
            parents.sort();
            for parent in &parents {
                if !behalves.contains_key(parent) {
                    behalves.insert(parent.clone(), self.behalf(parent).await?);
                }
            }
            pairs.push((plan, parents));
        }
        // Each has a partition of its own, and its conditional write takes its time.
        let (this, of) = (&*self, &behalves);
        let judged = pairs.into_iter().map(|(plan, parents)| async move {
            let Some((first, behalf)) = parents
                .first()
                .and_then(|first| Some((first, of.get(first)?)))
            else {
                return Result::Ok(None);
            };
            let (decision, started) = this.pair(&plan, &parents, first, behalf).await?;
            Ok(Some((plan, parents, decision, started)))
        });
        let judged: Vec<_> = judged.collect();
        let judged: Vec<_> = stream::iter(judged)
            .buffered(DECIDING)
            .try_collect()
            .await?;
        for (plan, parents, decision, started) in judged.into_iter().flatten() {
            let rebuilt = decision.is_rebuild();
            let change = decision_change(&decision, started.as_ref(), &self.change);
            writes.push(Write::Decision(change, Box::new(decision.clone())));
            if let Some((key, rebuild, state)) = started {
                let index =
                    rebuild::index(&plan.key.package, &key, &rebuild, self.core.clock.now());
                let released = Node {
                    released: Some(rebuild.id.clone()),
                    ..Node::default()
                };
                writes.push(Write::Rebuild(index));
                writes.push(Write::Node(
                    self.wave.id.clone(),
                    plan.key.clone(),
                    released,
                ));
                if state == Started::New && !rebuild.state.is_ended() {
                    works.push(rebuild::work(&plan.key.package, &key, &rebuild));
                }
            }
            self.outcome.decided = true;
            if rebuilt {
                for parent in &parents {
                    let pair = (plan.key.package.clone(), plan.base.clone());
                    sent.entry(parent.clone()).or_default().push(pair);
                }
            } else {
                ended.push((plan.key, decision.reason));
            }
        }
        for (parent, pairs) in &sent {
            let Some(behalf) = behalves.get(parent) else {
                continue;
            };
            self.supersede_earlier(parent, behalf, pairs).await?;
            let Some(version) = &parent.version else {
                continue;
            };
            writes.extend(pairs.iter().map(|(dependent, at)| Write::Entry {
                name: parent.package.clone(),
                version: version.clone(),
                env: self.wave.env.clone(),
                generation: behalf.generation,
                dependent: dependent.clone(),
                dependent_version: at.clone(),
            }));
        }
        writes.extend(works.iter().cloned().map(Write::Work));
        self.core.store.write(writes).await?;
        // Only now: a node that has ended is not looked at again.
        let skips = ended.iter().map(|(key, reason)| {
            let node = Node {
                skipped: Some(reason.clone()),
                ..Node::default()
            };
            Write::Node(self.wave.id.clone(), key.clone(), node)
        });
        self.core.store.write(skips.collect()).await?;
        self.outcome.work.extend(works);
        self.events.extend(ended.into_iter().map(|(key, _)| key));
        Ok(())
    }

    async fn behalf(&self, parent: &NodeKey) -> Result<Behalf> {
        let (core, env) = (self.core, &self.wave.env);
        let name = &parent.package;
        let promotions = core.store.promotions(name, env, EARLIER).await?;
        let own = promotions
            .iter()
            .find(|one| Some(&one.version) == parent.version.as_ref());
        let generation = own.map_or(0, |one| one.generation);
        let mut later = BTreeMap::new();
        for one in promotions
            .iter()
            .take_while(|one| one.generation > generation)
        {
            let entries = core
                .store
                .promotion_entries(name, &one.version, env)
                .await?;
            // Latest first: the latest choice stays.
            for (dependent, version) in entries {
                later.entry(dependent).or_insert(version);
            }
        }
        let before = before(core, env, parent).await?;
        Ok(Behalf {
            generation,
            before,
            later,
            promotions,
        })
    }

    fn sending(&self) -> Sending<'_> {
        Sending {
            core: self.core,
            change: &self.change,
            wave: &self.wave.id,
            env: &self.wave.env,
            promote: self.wave.promote,
        }
    }

    async fn pair(
        &self,
        plan: &PlanNode,
        parents: &[NodeKey],
        line: &NodeKey,
        behalf: &Behalf,
    ) -> Result<(Decision, Option<Sent>)> {
        for _ in 0..REFUSALS {
            let judged = self.sending().judge(plan, parents, line, behalf).await?;
            match judged {
                Judged::Skip(decision) => return Ok((decision, None)),
                Judged::There(decision, sent) => return Ok((decision, Some(*sent))),
                Judged::Commit(step) => {
                    let (commit, decision, sent) = *step;
                    let answers = self.core.store.commit(vec![commit]).await?;
                    if answers.first() == Some(&Committed::Applied) {
                        return Ok((decision, Some(sent)));
                    }
                }
            }
        }
        Err(contention(&plan.key.package))
    }

    /// Ends what earlier promotions of the package still have to send there at another version (rule 13).
    async fn supersede_earlier(
        &self,
        line: &NodeKey,
        behalf: &Behalf,
        sent: &[(PackageName, Version)],
    ) -> Result<()> {
        let Some(of_line) = &line.version else {
            return Ok(());
        };
        let (core, env) = (self.core, &self.wave.env);
        let sending = self.sending();
        let promoted = sending.promoted(line, of_line);
        let mut seen: Vec<&Version> = vec![of_line];
        for earlier in &behalf.promotions {
            if earlier.generation >= behalf.generation || seen.contains(&&earlier.version) {
                continue;
            }
            let entries = core
                .store
                .promotion_entries(&line.package, &earlier.version, env)
                .await?;
            for (dependent, version) in sent {
                let Some(other) = entries.get(dependent).filter(|other| *other != version) else {
                    continue;
                };
                let key = RowKey::promotion(other, env);
                let state = read(core, Want::rows(dependent, vec![key])).await?;
                if let Some(commit) = decide::supersede(&state, other, &promoted) {
                    // Refused means that it was claimed meanwhile: then it is sent, in its order, before ours.
                    core.store.commit(vec![commit]).await?;
                }
            }
            seen.push(&earlier.version);
        }
        Ok(())
    }
}

impl Sending<'_> {
    fn promoted<'b>(&'b self, line: &'b NodeKey, version: &'b Version) -> Promoted<'b> {
        Promoted {
            change: self.change,
            wave: self.wave,
            env: self.env,
            name: &line.package,
            version,
            promote: self.promote,
        }
    }

    /// Decides a pair on behalf of these lines, of which `line` is the first; as things are now, and without doing it.
    pub(in super::super) async fn judge(
        &self,
        plan: &PlanNode,
        parents: &[NodeKey],
        line: &NodeKey,
        behalf: &Behalf,
    ) -> Result<Judged> {
        let core = self.core;
        let (dependent, version) = (&plan.key.package, &plan.base);
        let of_line = line.version.clone().unwrap_or_else(|| version.clone());
        let promoted = self.promoted(line, &of_line);
        let also: Vec<Cause> = parents
            .iter()
            .skip(1)
            .filter_map(|parent| {
                Some(Cause {
                    parent: parent.package.clone(),
                    version: parent.version.clone()?,
                    origin: None,
                })
            })
            .collect();
        let skip = |reason| Decision {
            also: also.clone(),
            ..decide::decision(&promoted, dependent, reason, Vec::new())
        };
        if let Some(by) = behalf.later.get(dependent).filter(|by| *by != version) {
            let reason = Reason::SupersededInPromotion { by: by.clone() };
            return Ok(Judged::Skip(skip(reason)));
        }
        let has_line = core.store.line(&line.package, &of_line).await?.is_some();
        let reason = if has_line {
            Reason::InReleaseLine
        } else {
            Reason::HighestThatAdmits
        };
        let joined = |rebuild: &Rebuild| Decision {
            base: Some(rebuild.base.clone()),
            version: Some(rebuild.base.clone()),
            rebuild: Some(rebuild.id.clone()),
            ..skip(reason.clone())
        };
        let before = behalf
            .before
            .as_ref()
            .and_then(|(env, entries)| Some((env, entries.get(dependent)?)));
        let key = RowKey::promotion(version, self.env);
        let there = core
            .store
            .latest_promotion(dependent, self.env)
            .await?
            .map(|latest| latest.version);
        let mut rows = vec![key.clone(), RowKey::publish(version)];
        rows.extend(there.as_ref().map(RowKey::publish));
        let state = read(core, Want::rows(dependent, rows)).await?;
        let own = state.row(&key).and_then(|row| row.rebuild.clone());
        if let Some(own) = own.as_ref().filter(|own| own.waves.contains(self.wave)) {
            return Ok(if own.decision.wave == *self.wave {
                let sent = (key, own.clone(), Started::New);
                Judged::There(own.decision.clone(), Box::new(sent))
            } else {
                // Joined before a crash: what follows may not be there.
                let sent = (key, own.clone(), Started::Joined);
                Judged::There(joined(own), Box::new(sent))
            });
        }
        let accepted_long_ago = match &own {
            Some(own) => is_long_ago(core, accepted(core, own).await?),
            None => false,
        };
        let asked = Pair {
            state: &state,
            version,
            there: there.as_ref(),
            before,
            reason: reason.clone(),
            accepted_long_ago,
        };
        let step = decide::pair(&asked, &promoted, RebuildId::fresh(), core.clock.now());
        Ok(match step {
            decide::Step::Skip(reason, flags) => Judged::Skip(Decision {
                flags,
                ..skip(reason)
            }),
            decide::Step::Send(mut sent) => {
                sent.1.decision.also.clone_from(&also);
                sent.1.cause.extend(also.iter().cloned());
                for row in &mut sent.0.rows {
                    row.rebuild = Some(sent.1.clone());
                }
                let (commit, rebuild) = *sent;
                let decision = rebuild.decision.clone();
                Judged::Commit(Box::new((commit, decision, (key, rebuild, Started::New))))
            }
            decide::Step::Join(step) => {
                let (commit, rebuild) = *step;
                let decision = joined(&rebuild);
                let sent = (key, rebuild, Started::Joined);
                Judged::Commit(Box::new((commit, decision, sent)))
            }
        })
    }
}

/// The change that a decision is kept under: that of the rebuild, if this very wave started it.
fn decision_change(decision: &Decision, sent: Option<&Sent>, change: &ChangeId) -> ChangeId {
    match sent {
        Some((_, rebuild, Started::New)) if rebuild.decision == *decision => rebuild.change.clone(),
        _ => change.clone(),
    }
}

/// When the neighbour accepted the rebuild's last attempt, if it did.
pub(in super::super) async fn accepted(core: &Core, rebuild: &Rebuild) -> Result<Option<Millis>> {
    if rebuild.state != RebuildState::Sending {
        return Ok(None);
    }
    let attempts = core.store.attempts(&rebuild.id).await?;
    Ok(attempts
        .iter()
        .find(|one| one.number == rebuild.attempt && one.outcome == crate::dispatch::SENT)
        .map(|one| one.ended))
}

fn is_long_ago(core: &Core, accepted: Option<Millis>) -> bool {
    let window = millis(core.rules.duplicate_window);
    accepted.is_some_and(|at| at.saturating_add(window) <= core.clock.now())
}

/// The start of a promotion's wave.
pub(in super::super) fn start(origin: &Cause) -> Start {
    Start::Promotion {
        origin: origin.clone(),
    }
}
