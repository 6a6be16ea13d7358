//! Waves: what happens to a node, and to those that wait for it (rules 14-17; protocol.md, WAVE and NODE).
//!
//! One step does it all: something became known of a node, by a column that is durable by now, and everybody who may
//! depend on it is looked at again (`advance`). Who is released, skipped or held has a column then, and those that
//! depend on *them* are looked at in turn. Nothing is counted and nothing is remembered between two steps, so a step can
//! be repeated, and two replicas can take two steps of one wave at once: each reads after its own write, so the later one
//! sees both (H7).

mod close;
mod follow;
mod hint;
mod open;
mod operate;
mod pairs;
mod pending;
mod release;
mod settle;
mod tick;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

pub(super) use follow::end_hold;
pub use hint::Hints;
pub(super) use open::{Opening, begin, first_tick, load, open, planned};
pub(super) use operate::after_notice;
pub use operate::{Refused, Told, approve, cancel, hold, outcome, rebuild_by_hand, unhold};
pub(super) use pairs::{Behalf, EARLIER, Judged, Sending, accepted, closure, highest, start};
pub(super) use pending::{attached, join_promotion, open_waves, takes_place, waves_of};
pub(super) use release::published;
pub(super) use settle::{collected, join, window_ends};
pub(super) use tick::tick;
pub use tick::{Overdue, Ticked, failed, late};

use super::{AT_ONCE, Core, Outcome, Parents, Result, packages};
use crate::model::decision::{Decision, Reason};
use crate::model::id::{ChangeId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, RowKey};
use crate::model::wave::{Node, NodeKey, PlanNode, Standing, Start, Wave, WaveState};
use crate::plan::base::{self, Base};
use crate::plan::wave::{Ready, came_late, ready, went_without};
use crate::semver::Version;
use crate::store::{Dependent, StoreError, Want, Write};

/// How many dependents are looked at in one go.
const PAGE: usize = 500;

/// A step of a wave: what it is about, and what it has read so far.
struct Step<'a> {
    core: &'a Core,
    wave: Wave,
    /// The change that decisions are kept under.
    change: ChangeId,
    parents: &'a mut Parents,
    outcome: &'a mut Outcome,
    /// Whether a change led to this step, and not a look at the wave.
    by_change: bool,
    /// Of versions: the version published by hand that they descend from, and the change that was their notice.
    versions: HashMap<(PackageName, Version), (Option<Version>, Option<ChangeId>)>,
    /// The ranges of pairs whose highest version does not let the parent in.
    ranges: HashMap<(PackageName, PackageName), Vec<(String, Version)>>,
    /// Nodes that became terminal in this step, or may have, and are still to be looked at.
    events: VecDeque<NodeKey>,
    /// Nodes that were decided, in this step or found so, with what follows from it.
    again: BTreeSet<NodeKey>,
    /// Who went without a parent that came late, of the node that is being looked at.
    without: BTreeSet<PackageName>,
}

/// Goes on after nodes: their standing changed, or they may be released. Repeatable.
pub(super) async fn advance(
    core: &Core,
    parents: &mut Parents,
    wave: &WaveId,
    keys: &[NodeKey],
    change: Option<&ChangeId>,
    outcome: &mut Outcome,
) -> Result<()> {
    let Some(wave) = load(core, wave).await? else {
        return Ok(());
    };
    if !matches!(wave.state, WaveState::Open | WaveState::Closed) {
        return Ok(());
    }
    let mut step = Step::new(core, wave, change, parents, outcome);
    step.events.extend(keys.iter().cloned());
    let mut ended = Vec::new();
    while let Some(key) = step.events.pop_front() {
        if step.look(&key).await? {
            ended.push(key);
        }
    }
    let wave = step.wave;
    if wave.state == WaveState::Open && core.hints.ended(&wave, ended) {
        close::close(core, &wave, &mut outcome.work).await?;
    }
    Ok(())
}

impl<'a> Step<'a> {
    fn new(
        core: &'a Core,
        wave: Wave,
        change: Option<&ChangeId>,
        parents: &'a mut Parents,
        outcome: &'a mut Outcome,
    ) -> Self {
        Self {
            core,
            change: change.unwrap_or(&wave.change).clone(),
            wave,
            parents,
            outcome,
            by_change: change.is_some(),
            versions: HashMap::new(),
            ranges: HashMap::new(),
            events: VecDeque::new(),
            again: BTreeSet::new(),
            without: BTreeSet::new(),
        }
    }

    fn is_open(&self) -> bool {
        self.wave.state == WaveState::Open
    }

    /// Looks at one node and those that may wait for it; says whether it is terminal.
    async fn look(&mut self, key: &NodeKey) -> Result<bool> {
        let node = self.nodes(std::slice::from_ref(key)).await?.remove(key);
        let node = node.unwrap_or_default();
        let plan = self.plan_of(key, &node).await?;
        if !node.standing().is_terminal() {
            if let Some(plan) = plan {
                self.decide(vec![plan]).await?;
            }
            return Ok(false);
        }
        let cause = match &node.published {
            Some(version) => Some(self.cause(&key.package, version).await?),
            None => None,
        };
        // Only the publishes that a wave began with reach everybody who depends on them.
        let reaches = plan.is_some() || matches!(self.wave.start, Start::Publish { .. });
        self.without.clear();
        let mut after: Option<PackageName> = None;
        loop {
            let last = match self.wave.kind {
                Kind::Publish => {
                    let page = self
                        .core
                        .store
                        .dependents(&key.package, after.as_ref(), PAGE)
                        .await?;
                    let children = Children {
                        key,
                        node: &node,
                        cause: cause.as_ref(),
                        reaches,
                    };
                    self.dependents(&children, &page).await?;
                    page.last()
                        .filter(|_| page.len() == PAGE)
                        .map(|edge| edge.dependent.clone())
                }
                Kind::Promotion => self.line(key, &node, after.as_ref()).await?,
            };
            if last.is_none() {
                break;
            }
            after = last;
        }
        if let Some(cause) = &cause
            && !self.without.is_empty()
        {
            follow::late_parent(self, key, cause).await?;
        }
        Ok(true)
    }

    /// Looks at a page of dependents of a node of a publish wave.
    async fn dependents(&mut self, of: &Children<'_>, page: &[Dependent]) -> Result<()> {
        let names: Vec<PackageName> = page.iter().map(|edge| edge.dependent.clone()).collect();
        let keys: Vec<NodeKey> = names.iter().map(NodeKey::package).collect();
        let plans = self.plans(&names).await?;
        let nodes = self.nodes(&keys).await?;
        let answers = match of.cause {
            Some(cause) => self.answers(cause, page).await?,
            None => vec![None; page.len()],
        };
        let own: BTreeMap<PackageName, Base> = names
            .iter()
            .zip(&answers)
            .filter_map(|(name, answer)| Some((name.clone(), answer.clone()?)))
            .collect();
        let mut skips = Vec::new();
        let mut waiting = Vec::new();
        let mut new = Vec::new();
        let mut appeared = Vec::new();
        for (((edge, key), plan), answer) in page.iter().zip(&keys).zip(plans).zip(answers) {
            let node = nodes.get(key).cloned().unwrap_or_default();
            let plan = plan.or_else(|| node.added.clone());
            let admitted = matches!(answer, Some(Base::Rebuild { .. }));
            if plan.is_none() && !of.reaches {
                continue;
            }
            if let (Some(Base::Skip(reason)), Some(cause)) = (&answer, of.cause) {
                skips.push(self.decision(cause, edge, reason.clone()));
            }
            match plan {
                None if !admitted => {}
                None if node.published.is_some() || edge.dependent == of.key.package => {
                    let reason = self.back_into_origin(of.key, edge);
                    skips.extend(of.cause.map(|cause| self.decision(cause, edge, reason)));
                }
                None if self.is_open() => new.push(edge.clone()),
                None => appeared.extend(self.not_built_with(of, edge, answer).await?),
                Some(plan) if plan.cycle.contains(of.key) => {
                    if let Some(cause) = of.cause.filter(|_| admitted) {
                        skips.push(self.decision(cause, edge, Reason::Cycle));
                    }
                }
                Some(plan) if node.standing() == Standing::Waiting => waiting.push(plan),
                Some(plan) => {
                    let waited_for = plan.waits_for.contains(of.key);
                    if (waited_for && came_late(of.node)) || (!waited_for && admitted) {
                        self.late(of, &plan, &node, own.get(&edge.dependent))
                            .await?;
                    }
                    if waited_for {
                        self.go_on(&plan.key, &node).await?;
                    }
                }
            }
        }
        self.keep(&skips).await?;
        self.without.extend(appeared);
        waiting.extend(self.add_all(new).await?);
        for plan in self.decide(waiting).await? {
            // Somebody else decided it meanwhile, perhaps before this parent was there.
            let node = self.nodes(std::slice::from_ref(&plan.key)).await?;
            let node = node.get(&plan.key).cloned().unwrap_or_default();
            let answer = own.get(&plan.key.package);
            self.late(of, &plan, &node, answer).await?;
            self.go_on(&plan.key, &node).await?;
        }
        Ok(())
    }

    /// Makes dependents that appeared since the wave began part of it. If it ended meanwhile, they are what a wave that
    /// follows is for: the last node's notice came, and nothing was left to wait for, before they were looked at.
    async fn add_all(&mut self, new: Vec<Dependent>) -> Result<Vec<PlanNode>> {
        let mut added = Vec::new();
        for edge in &new {
            added.push(self.add(edge).await?);
        }
        if added.is_empty() {
            return Ok(added);
        }
        // After they were written: whoever ends the wave looks at its nodes before, so one of the two sees the other.
        let now = self.core.store.wave(&self.wave.id).await?;
        if now.is_some_and(|wave| wave.state == WaveState::Closed) {
            for plan in std::mem::take(&mut added) {
                self.without.insert(plan.key.package.clone());
                self.skip(&plan, Reason::NoLongerReached).await?;
            }
        }
        Ok(added)
    }

    /// In a wave that has ended: a dependent that is not part of it and that this version was not brought to.
    async fn not_built_with(
        &self,
        of: &Children<'_>,
        edge: &Dependent,
        answer: Option<Base>,
    ) -> Result<Option<PackageName>> {
        let (Some(Base::Rebuild { base, .. }), Some(cause)) = (answer, of.cause) else {
            return Ok(None);
        };
        let without = came_late(of.node) || {
            let want = Want::rows(&edge.dependent, vec![RowKey::publish(&base)]);
            let state = super::read(self.core, want).await?;
            let with = state.facts(&base).and_then(|facts| facts.with.as_ref());
            with.is_some_and(|with| {
                with.get(&cause.parent)
                    .is_none_or(|version| *version < cause.version)
            })
        };
        Ok(without.then(|| edge.dependent.clone()))
    }

    /// Notes a node that was decided if it went without this parent, which would have reached it.
    async fn late(
        &mut self,
        of: &Children<'_>,
        plan: &PlanNode,
        node: &Node,
        answer: Option<&Base>,
    ) -> Result<()> {
        let (Some(cause), Some(Base::Rebuild { base, .. })) = (of.cause, answer) else {
            return Ok(());
        };
        let (with, from) = self.built_with(&plan.key, node).await?;
        if from.is_some_and(|from| *base < from) {
            // What was rebuilt does not let it in (H23).
            return Ok(());
        }
        if went_without(plan, node, with.as_ref(), of.key, &cause.version) {
            self.without.insert(plan.key.package.clone());
        }
        Ok(())
    }

    /// What a node's version, or its rebuild, was built with, and from which version.
    async fn built_with(&self, key: &NodeKey, node: &Node) -> Result<Built> {
        let rebuild = release::of_node(self.core, &self.wave.id, key, node).await?;
        let from = rebuild.as_ref().map(|(_, rebuild)| rebuild.base.clone());
        if let Some(version) = &node.published {
            let row = RowKey::publish(version);
            let state = super::read(self.core, Want::rows(&key.package, vec![row])).await?;
            let with = state.facts(version).and_then(|facts| facts.with.clone());
            return Ok((with, from.or_else(|| Some(version.clone()))));
        }
        Ok((rebuild.map(|(_, rebuild)| rebuild.with), from))
    }

    /// What is left to do after a node that was decided before: whoever decided it may have died half-way (H7, H9).
    async fn go_on(&mut self, key: &NodeKey, node: &Node) -> Result<()> {
        if !self.again.insert(key.clone()) {
            return Ok(());
        }
        self.outcome.decided = true;
        match node.standing() {
            Standing::Skipped => self.events.push_back(key.clone()),
            Standing::Held => {
                self.events.push_back(key.clone());
                if let Some(hold) = &node.held {
                    self.still_held(&key.package, hold).await?;
                }
            }
            Standing::Released => {
                let found = release::of_node(self.core, &self.wave.id, key, node).await?;
                if let Some((row, rebuild)) = found {
                    self.put_again(&key.package, row, rebuild).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Releases or skips those of these nodes that have nothing to wait for any more. Returns those that somebody else
    /// decided.
    async fn decide(&mut self, waiting: Vec<PlanNode>) -> Result<Vec<PlanNode>> {
        if waiting.is_empty() || !self.is_open() {
            return Ok(Vec::new());
        }
        let mut wanted: Vec<NodeKey> = waiting
            .iter()
            .flat_map(|plan| &plan.waits_for)
            .cloned()
            .collect();
        wanted.sort();
        wanted.dedup();
        let nodes = self.nodes(&wanted).await?;
        let mut released = Vec::new();
        for plan in waiting {
            match ready(&plan, &nodes) {
                Ready::Waits(_) => {}
                Ready::Release(published) => released.push((plan, published)),
                Ready::Skip(reason) => self.skip(&plan, reason).await?,
            }
        }
        if released.is_empty() {
            return Ok(Vec::new());
        }
        match self.wave.kind {
            Kind::Publish => self.release(released).await,
            Kind::Promotion => {
                self.send_pairs(released).await?;
                Ok(Vec::new())
            }
        }
    }

    /// Ends a node that is not rebuilt in this wave.
    async fn skip(&mut self, plan: &PlanNode, reason: Reason) -> Result<()> {
        let decision = self.decision_of(plan, reason.clone()).await?;
        let node = Node {
            skipped: Some(reason),
            ..Node::default()
        };
        self.end(&plan.key, node, decision).await
    }

    /// Keeps why a node ended, then that it did; those that wait for it are looked at next.
    async fn end(&mut self, key: &NodeKey, node: Node, decision: Decision) -> Result<()> {
        let why = Write::Decision(self.change.clone(), Box::new(decision));
        self.core.store.write(vec![why]).await?;
        // Only now: a node that has ended is not looked at again.
        let ended = Write::Node(self.wave.id.clone(), key.clone(), node);
        self.core.store.write(vec![ended]).await?;
        self.outcome.decided = true;
        self.events.push_back(key.clone());
        Ok(())
    }

    /// A decision about a node that no parent version led to: on behalf of the first that it waited for.
    async fn decision_of(&self, plan: &PlanNode, reason: Reason) -> Result<Decision> {
        let first = plan.waits_for.first().unwrap_or(&plan.key);
        let node = self.nodes(std::slice::from_ref(first)).await?.remove(first);
        let published = node.and_then(|node| node.published);
        let version = match (&first.version, published) {
            (Some(version), _) => version.clone(),
            (None, Some(version)) => version,
            (None, None) => self
                .plans(std::slice::from_ref(&first.package))
                .await?
                .pop()
                .flatten()
                .map_or_else(
                    || plan.base.clone(),
                    |plan| plan.version.unwrap_or(plan.base),
                ),
        };
        Ok(Decision {
            dependent: plan.key.package.clone(),
            wave: self.wave.id.clone(),
            env: self.wave.env.clone(),
            parent: first.package.clone(),
            parent_version: version,
            also: Vec::new(),
            range: None,
            top: None,
            base: Some(plan.base.clone()),
            version: None,
            rebuild: None,
            reason,
            flags: Vec::new(),
        })
    }

    /// A dependent that appeared, or came to be reached, since the wave began (H16). It waits only for nodes of the plan,
    /// so nothing ever waits in a circle.
    async fn add(&mut self, edge: &Dependent) -> Result<PlanNode> {
        let want = Want {
            top_edges: true,
            ..Want::statics(&edge.dependent)
        };
        let state = super::read(self.core, want).await?;
        let declared: Vec<PackageName> = state
            .top
            .iter()
            .flat_map(|top| &top.edges)
            .map(|edge| edge.parent.clone())
            .filter(|parent| *parent != edge.dependent)
            .collect();
        let plans = self.plans(&declared).await?;
        let keys: Vec<NodeKey> = declared.iter().map(NodeKey::package).collect();
        let nodes = self.nodes(&keys).await?;
        let mut waits_for = Vec::new();
        let mut level = 1;
        for (key, plan) in keys.iter().zip(plans) {
            let origin = nodes.get(key).is_some_and(|node| node.published.is_some());
            if plan.is_some() || origin {
                waits_for.push(key.clone());
            }
            level = level.max(plan.map_or(1, |plan| plan.level + 1));
        }
        let key = NodeKey::package(&edge.dependent);
        let added = PlanNode {
            key: key.clone(),
            waits_for,
            cycle: Vec::new(),
            level,
            base: edge.top.clone(),
            version: None,
            seed: None,
        };
        self.add_node(added).await
    }

    /// Makes a node part of the wave; whoever was first says what it waits for.
    async fn add_node(&mut self, added: PlanNode) -> Result<PlanNode> {
        let key = added.key.clone();
        let node = Node {
            added: Some(added.clone()),
            ..Node::default()
        };
        let write = Write::Node(self.wave.id.clone(), key.clone(), node);
        self.core.store.write(vec![write]).await?;
        self.core.hints.added(&self.wave.id);
        let nodes = self.nodes(std::slice::from_ref(&key)).await?;
        let there = nodes.get(&key).and_then(|node| node.added.clone());
        Ok(there.unwrap_or(added))
    }

    /// Why a dependent that the wave began with is not rebuilt in it.
    fn back_into_origin(&self, key: &NodeKey, edge: &Dependent) -> Reason {
        let Start::Publish { origins, .. } = &self.wave.start else {
            return Reason::Cycle;
        };
        let other = |cause: &Cause| cause.parent != edge.dependent && cause.parent != key.package;
        let is_origin = origins.iter().any(|cause| cause.parent == key.package);
        if edge.dependent != key.package && (is_origin || origins.iter().any(other)) {
            Reason::AlreadyInWave
        } else {
            Reason::Cycle
        }
    }

    /// What each of these dependents would be rebuilt from for that parent.
    async fn answers(&mut self, cause: &Cause, page: &[Dependent]) -> Result<Vec<Option<Base>>> {
        let pairs: Vec<(Cause, Dependent)> = page
            .iter()
            .map(|edge| (cause.clone(), edge.clone()))
            .collect();
        let answers = self.bases(&pairs).await?;
        Ok(answers.into_iter().map(Some).collect())
    }

    /// The base that each dependent would be rebuilt from for that parent, in the order given.
    async fn bases(&mut self, pairs: &[(Cause, Dependent)]) -> Result<Vec<Base>> {
        let mut answers: Vec<Base> = pairs
            .iter()
            .map(|(cause, edge)| base::of_top(edge, &cause.version, cause.origin.as_ref()))
            .collect();
        let key =
            |(cause, edge): &(Cause, Dependent)| (cause.parent.clone(), edge.dependent.clone());
        let unclear = (0..pairs.len()).filter(|at| answers[*at] == Base::NeedsRanges);
        let unclear: Vec<usize> = unclear.collect();
        let missing: BTreeSet<_> = unclear
            .iter()
            .map(|at| key(&pairs[*at]))
            .filter(|key| !self.ranges.contains_key(key))
            .collect();
        let store = &self.core.store;
        let read = stream::iter(missing).map(async |key| {
            let ranges = store.ranges(&key.0, &key.1).await?;
            Ok::<_, StoreError>((key, ranges))
        });
        let read: Vec<_> = read.buffer_unordered(AT_ONCE).try_collect().await?;
        self.ranges.extend(read);
        for at in unclear {
            let (cause, edge) = &pairs[at];
            if let Some(ranges) = self.ranges.get(&key(&pairs[at])) {
                answers[at] = base::among(edge, ranges, &cause.version, cause.origin.as_ref());
            }
        }
        Ok(answers)
    }

    fn decision(&self, cause: &Cause, edge: &Dependent, reason: Reason) -> Decision {
        Decision {
            dependent: edge.dependent.clone(),
            wave: self.wave.id.clone(),
            env: self.wave.env.clone(),
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

    /// The change that a rebuild for these parents is kept under: the one that led to this step, else the notice of the
    /// first of them.
    fn change_of(&self, causes: &[Cause]) -> ChangeId {
        let first = causes.first().filter(|_| !self.by_change);
        let notice = first.and_then(|cause| {
            let key = (cause.parent.clone(), cause.version.clone());
            self.versions.get(&key)?.1.clone()
        });
        notice.unwrap_or_else(|| self.change.clone())
    }

    /// Keeps decisions that nothing follows from.
    async fn keep(&mut self, decisions: &[Decision]) -> Result<()> {
        if decisions.is_empty() {
            return Ok(());
        }
        self.outcome.decided = true;
        let writes = decisions
            .iter()
            .map(|one| Write::Decision(self.change.clone(), Box::new(one.clone())));
        Ok(self.core.store.write(writes.collect()).await?)
    }

    async fn nodes(&self, keys: &[NodeKey]) -> Result<BTreeMap<NodeKey, Node>> {
        let mut all = BTreeMap::new();
        for some in keys.chunks(super::SLICE) {
            let nodes = self.core.store.nodes(&self.wave.id, some).await?;
            all.extend(some.iter().cloned().zip(nodes));
        }
        Ok(all)
    }

    async fn plans(&self, names: &[PackageName]) -> Result<Vec<Option<PlanNode>>> {
        let Some(plan) = &self.wave.plan else {
            return Ok(vec![None; names.len()]);
        };
        let mut all = Vec::with_capacity(names.len());
        for some in names.chunks(super::SLICE) {
            let rows = self.core.store.plan_nodes(&self.wave.id, plan, some);
            all.extend(rows.await?);
        }
        Ok(all)
    }

    /// The plan row of a node, also of one that was added; `None` of what the wave began with.
    async fn plan_of(&self, key: &NodeKey, node: &Node) -> Result<Option<PlanNode>> {
        let row = self
            .plans(std::slice::from_ref(&key.package))
            .await?
            .pop()
            .flatten();
        Ok(row
            .filter(|row| row.key == *key)
            .or_else(|| node.added.clone()))
    }

    /// A version of a parent in the wave, with the version that it descends from.
    async fn cause(&mut self, parent: &PackageName, version: &Version) -> Result<Cause> {
        let mut causes = self.causes(vec![(parent.clone(), version.clone())]).await?;
        Ok(causes.pop().unwrap_or_else(|| Cause {
            parent: parent.clone(),
            version: version.clone(),
            origin: None,
        }))
    }

    async fn causes(&mut self, versions: Vec<(PackageName, Version)>) -> Result<Vec<Cause>> {
        let missing: BTreeSet<_> = versions
            .iter()
            .filter(|one| !self.versions.contains_key(*one))
            .cloned()
            .collect();
        let missing: Vec<_> = missing.into_iter().collect();
        let wants: Vec<Want> = missing
            .iter()
            .map(|(name, version)| Want::rows(name, vec![RowKey::publish(version)]))
            .collect();
        let states = packages(self.core, &wants).await?;
        for (one, state) in missing.into_iter().zip(states) {
            let facts = state.facts(&one.1);
            let origin = facts.and_then(|facts| facts.origin.clone());
            let notice = facts.and_then(|facts| facts.notice.clone());
            self.versions.insert(one, (origin, notice));
        }
        let cause = |one: (PackageName, Version)| Cause {
            origin: self.versions.get(&one).and_then(|known| known.0.clone()),
            parent: one.0,
            version: one.1,
        };
        Ok(versions.into_iter().map(cause).collect())
    }
}

/// What a version was built with, if that is known, and the version that it was made from.
type Built = (Option<BTreeMap<PackageName, Version>>, Option<Version>);

/// Of whom the dependents are looked at.
struct Children<'a> {
    key: &'a NodeKey,
    node: &'a Node,
    /// The version that was published, if one was.
    cause: Option<&'a Cause>,
    /// Whether it reaches those that the plan does not have.
    reaches: bool,
}
