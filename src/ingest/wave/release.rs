//! Releasing nodes of a publish wave: the base, the version, the rebuild (rules 8, 9, 15; H10, H16, H23).
//!
//! A node is decided when it is released, with the versions that were really published; the plan only said whom to wait
//! for.

use std::collections::BTreeMap;

use super::super::{Core, REFUSALS, Result, contention, declared, read};
use super::Step;
use crate::model::decision::{Decision, Reason};
use crate::model::edge::Edge;
use crate::model::id::{RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, PackageState, Rebuild, RebuildState, RowKey};
use crate::model::wave::{Hold, Node, NodeKey, PlanNode, Standing, Start};
use crate::model::work::Work;
use crate::plan::Increment;
use crate::plan::base::{Chosen, across};
use crate::plan::rebuild::{self, Wanted};
use crate::plan::wave::{Covers, covers, held};
use crate::semver::Version;
use crate::store::{Committed, Dependent, Published, Want, Write};

/// How long a node waits for what a publish by hand of its package decides.
const UNDECIDED: i64 = 100;

/// A node that is released: what it is rebuilt for, and from what.
struct Release {
    plan: PlanNode,
    chosen: Chosen,
    /// The dependent's row for the first cause.
    edge: Option<Dependent>,
}

/// A rebuild that is durable in its package and has yet to be made findable.
struct Reserved {
    name: PackageName,
    key: RowKey,
    rebuild: Rebuild,
}

/// What one try to reserve rebuilds left.
#[derive(Default)]
struct Left {
    refused: Vec<Release>,
    /// Decided by somebody else.
    decided: Vec<PlanNode>,
}

impl Step<'_> {
    /// Decides these nodes, each with the parents that it waited for and that were published. Returns those that somebody
    /// else decided meanwhile.
    pub(super) async fn release(
        &mut self,
        nodes: Vec<(PlanNode, Vec<(NodeKey, Version)>)>,
    ) -> Result<Vec<PlanNode>> {
        let mut open = self.choose(nodes).await?;
        let mut reserved = Vec::new();
        let mut decided = Vec::new();
        for _ in 0..REFUSALS {
            if open.is_empty() {
                break;
            }
            let left = self.reserve(open, &mut reserved).await?;
            decided.extend(left.decided);
            open = left.refused;
        }
        if let Some(one) = open.first() {
            return Err(contention(&one.plan.key.package));
        }
        self.put(&reserved).await?;
        Ok(decided)
    }

    /// Works out causes and base of each; those that are held, or that no parent reaches any more, end here.
    async fn choose(
        &mut self,
        nodes: Vec<(PlanNode, Vec<(NodeKey, Version)>)>,
    ) -> Result<Vec<Release>> {
        let names: Vec<PackageName> = nodes
            .iter()
            .map(|(plan, _)| plan.key.package.clone())
            .collect();
        let holds = self.core.store.holds(&names).await?;
        let nodes = self.with_all_parents(nodes).await?;
        let now = self.core.clock.now();
        let mut asked: Vec<(PlanNode, Vec<Cause>, Option<Hold>)> = Vec::new();
        for ((plan, published), holds) in nodes.into_iter().zip(holds) {
            let versions = published
                .into_iter()
                .map(|(key, version)| (key.package, version));
            let mut causes = self.causes(versions.collect()).await?;
            for cause in plan.seed.iter().flatten() {
                if causes.iter().all(|one| one.parent != cause.parent) {
                    causes.push(cause.clone());
                }
            }
            causes.sort();
            let held = held(holds, &mut causes, now);
            asked.push((plan, causes, held));
        }
        let pairs: Vec<(PackageName, PackageName)> = asked
            .iter()
            .flat_map(|(plan, causes, _)| {
                causes
                    .iter()
                    .map(|cause| (cause.parent.clone(), plan.key.package.clone()))
            })
            .collect();
        let mut rows = self.core.store.edges(&pairs).await?.into_iter();
        let mut edges: Vec<Vec<(Cause, Dependent)>> = Vec::new();
        for (_, causes, _) in &asked {
            let of_node = causes.iter().filter_map(|cause| {
                let row = rows.next().flatten()?;
                Some((cause.clone(), row))
            });
            edges.push(of_node.collect());
        }
        let flat: Vec<(Cause, Dependent)> = edges.iter().flatten().cloned().collect();
        let mut answers = self.bases(&flat).await?.into_iter();
        let mut released = Vec::new();
        for ((plan, causes, held), edges) in asked.into_iter().zip(edges) {
            let answers: Vec<_> = edges
                .iter()
                .filter_map(|(cause, _)| Some((cause.clone(), answers.next()?)))
                .collect();
            if let Some(hold) = held {
                self.hold(&plan, &causes, edges.first().map(|one| &one.1), hold)
                    .await?;
                continue;
            }
            let edge_of = |cause: &Cause| {
                let found = edges.iter().find(|(one, _)| one == cause);
                found.map(|(_, edge)| edge.clone())
            };
            match across(answers) {
                Ok(chosen) => {
                    let edge = chosen.causes.first().and_then(edge_of);
                    for (cause, reason) in &chosen.out {
                        if matches!(reason, Reason::OutOfRangeForBase { .. })
                            && let Some(edge) = edge_of(cause)
                        {
                            let skip = self.decision(cause, &edge, reason.clone());
                            self.keep(&[skip]).await?;
                        }
                    }
                    released.push(Release { plan, chosen, edge });
                }
                Err(_) if plan.seed.is_some() => {
                    released.extend(self.anyway(plan, causes).await?);
                }
                Err(reasons) => {
                    let reason = match reasons.into_iter().next() {
                        // Those who asked for it heard it already; here it is why the node ends.
                        Some((_, reason)) if plan.waits_for.len() == 1 => reason,
                        _ => Reason::NoLongerReached,
                    };
                    self.skip(&plan, reason).await?;
                }
            }
        }
        Ok(released)
    }

    /// Also the parents that were published in the wave and that the plan did not foresee (H16): those that the highest
    /// version declares by now.
    async fn with_all_parents(
        &self,
        mut nodes: Vec<(PlanNode, Vec<(NodeKey, Version)>)>,
    ) -> Result<Vec<(PlanNode, Vec<(NodeKey, Version)>)>> {
        let wants: Vec<Want> = nodes
            .iter()
            .map(|(plan, _)| Want {
                top_edges: true,
                ..Want::statics(&plan.key.package)
            })
            .collect();
        let states = super::packages(self.core, &wants).await?;
        let mut asked: Vec<Vec<NodeKey>> = Vec::new();
        for ((plan, _), state) in nodes.iter().zip(&states) {
            let declared = state.top.iter().flat_map(|top| &top.edges);
            let others = declared
                .map(|edge| NodeKey::package(&edge.parent))
                .filter(|key| {
                    *key != plan.key && !plan.waits_for.contains(key) && !plan.cycle.contains(key)
                });
            asked.push(others.collect());
        }
        let mut keys: Vec<NodeKey> = asked.iter().flatten().cloned().collect();
        keys.sort();
        keys.dedup();
        let found = self.nodes(&keys).await?;
        for ((_, published), asked) in nodes.iter_mut().zip(asked) {
            let there = asked.into_iter().filter_map(|key| {
                let node = found.get(&key)?;
                let is_published = node.standing() == Standing::Published;
                let version = node.published.clone().filter(|_| is_published)?;
                Some((key, version))
            });
            published.extend(there);
        }
        Ok(nodes)
    }

    /// A rebuild that is wanted whatever the parents say: from the highest version.
    async fn anyway(&self, plan: PlanNode, causes: Vec<Cause>) -> Result<Option<Release>> {
        let state = read(self.core, Want::statics(&plan.key.package)).await?;
        let Some(top) = state.top else {
            return Ok(None);
        };
        let reason = match self.wave.start {
            Start::HoldEnded { .. } => Reason::HoldEnded,
            _ => Reason::ByHand,
        };
        Ok(Some(Release {
            plan,
            chosen: Chosen {
                base: top.version,
                range: String::new(),
                reason,
                causes,
                out: Vec::new(),
            },
            edge: None,
        }))
    }

    async fn hold(
        &mut self,
        plan: &PlanNode,
        causes: &[Cause],
        edge: Option<&Dependent>,
        hold: Hold,
    ) -> Result<()> {
        let (core, key) = (self.core, plan.key.clone());
        let reason = Reason::Held {
            hold: hold.id.clone(),
            owner: hold.owner.clone(),
            until: hold.expires,
        };
        let decision = match (causes.first(), edge) {
            (Some(cause), Some(edge)) => self.decision(cause, edge, reason),
            _ => self.decision_of(plan, reason).await?,
        };
        let node = Node {
            held: Some(hold.id.clone()),
            ..Node::default()
        };
        // That the hold holds something back; then whether it still does: whoever ends it says so first, then looks here.
        let mark = Write::Node(WaveId::held_by(&hold.id), key.clone(), node.clone());
        core.store.write(vec![mark]).await?;
        self.end(&key, node, decision).await?;
        self.still_held(&key.package, &hold.id).await
    }

    /// Looks after a node that is held: if the hold has ended meanwhile, what it held back goes.
    pub(super) async fn still_held(&mut self, package: &PackageName, hold: &str) -> Result<()> {
        let store = &self.core.store;
        let holds = store.holds(std::slice::from_ref(package)).await?;
        if holds.iter().flatten().all(|one| one.id != hold) {
            let ends = super::follow::hold_ends(package, hold, "held late", self.core.clock.now());
            store.write(vec![Write::Work(ends.clone())]).await?;
            self.outcome.work.push(ends);
        }
        Ok(())
    }

    /// Tries to reserve a rebuild for each.
    async fn reserve(&mut self, open: Vec<Release>, reserved: &mut Vec<Reserved>) -> Result<Left> {
        let core = self.core;
        let wants: Vec<Want> = open
            .iter()
            .map(|one| {
                let name = &one.plan.key.package;
                rebuild::want(name, &one.chosen.base, &self.wave.id, &core.rules)
            })
            .collect();
        let states = super::packages(core, &wants).await?;
        // After the partitions: a rebuild that left `open` because its notice came has its node by then.
        let keys: Vec<NodeKey> = open.iter().map(|one| one.plan.key.clone()).collect();
        let nodes = self.nodes(&keys).await?;

        let mut left = Left::default();
        let mut new = Vec::new();
        for (one, state) in open.into_iter().zip(states) {
            if let Some(own) = in_open(&state, &self.wave.id) {
                // Perhaps somebody else's who did not know of every parent yet (H6).
                left.decided.push(one.plan);
                reserved.push(own);
                continue;
            }
            let node = nodes.get(&one.plan.key).cloned().unwrap_or_default();
            if node.released.is_some() || node.standing().is_terminal() {
                left.decided.push(one.plan);
                continue;
            }
            let base = state.facts(&one.chosen.base);
            // What an operator asks for is done in any case.
            let by_hand = matches!(self.wave.start, Start::ByHand { .. });
            let covered = base
                .filter(|_| !(by_hand && one.plan.seed.is_some()))
                .map_or(Covers::NotAll, |base| {
                    covers(base, &one.chosen.causes, self.wave.opened)
                });
            match covered {
                Covers::All => {
                    self.replaced(&one).await?;
                    continue;
                }
                Covers::Undecided => {
                    let due = core.clock.now() + UNDECIDED;
                    let why = format!("undecided-{due}");
                    let work = Work::advance(&self.wave.id, &one.plan.key, &why, due);
                    core.store.write(vec![Write::Work(work.clone())]).await?;
                    self.outcome.work.push(work);
                    continue;
                }
                Covers::NotAll => {}
            }
            let edges = declared(core, &state, &one.chosen.base).await?;
            new.push((one, state, edges));
        }
        let all: Vec<&Edge> = new.iter().flat_map(|(_, _, edges)| edges).collect();
        // After the partitions: what another wave built into a rebuild before this one is known to this one too.
        self.parents.forget();
        self.parents.foresee(core, &all).await?;

        let mut trying = Vec::new();
        let mut commits = Vec::new();
        for (one, state, edges) in new {
            let wanted = self.wanted(&one, &state, &edges).await?;
            let published = published(core, &state.name).await?;
            match rebuild::reserve(&state, &wanted, &core.rules, &published) {
                Some(reservation) => {
                    commits.push(reservation.commit.clone());
                    trying.push((one, reservation));
                }
                None => self.skip(&one.plan, Reason::NoVersionLeft).await?,
            }
        }
        if commits.is_empty() {
            return Ok(left);
        }
        let answers = core.store.commit(commits).await?;
        for ((one, reservation), answer) in trying.into_iter().zip(answers) {
            match answer {
                Committed::Applied => reserved.push(Reserved {
                    name: one.plan.key.package.clone(),
                    key: reservation.key,
                    rebuild: reservation.rebuild,
                }),
                Committed::Refused => left.refused.push(one),
            }
        }
        Ok(left)
    }

    async fn wanted(
        &mut self,
        one: &Release,
        state: &PackageState,
        edges: &[Edge],
    ) -> Result<Wanted> {
        let mut with = BTreeMap::new();
        for edge in edges.iter().filter(|edge| edge.parent != state.name) {
            let highest = self.parents.highest(self.core, &edge.parent, &edge.range);
            if let Some(version) = highest.await? {
                with.insert(edge.parent.clone(), version);
            }
        }
        let Chosen {
            base,
            range,
            reason,
            causes,
            out: _,
        } = &one.chosen;
        // What it is rebuilt for it is built with, also if the parent was looked at earlier in this step, before that
        // version was there.
        for cause in causes {
            let at = with.entry(cause.parent.clone());
            let at = at.or_insert_with(|| cause.version.clone());
            if *at < cause.version {
                at.clone_from(&cause.version);
            }
        }
        let mut decision = match (causes.first(), &one.edge) {
            (Some(cause), Some(edge)) => self.decision(cause, edge, reason.clone()),
            (Some(cause), None) => Decision {
                parent: cause.parent.clone(),
                parent_version: cause.version.clone(),
                ..self.decision_of(&one.plan, reason.clone()).await?
            },
            (None, _) => self.decision_of(&one.plan, reason.clone()).await?,
        };
        decision.also = causes.iter().skip(1).cloned().collect();
        decision.base = Some(base.clone());
        decision.range = Some(range.clone()).filter(|range| !range.is_empty());
        Ok(Wanted {
            id: RebuildId::fresh(),
            change: self.change_of(causes),
            decision,
            base: base.clone(),
            cause: causes.clone(),
            with,
            promote: self.wave.promote,
            now: self.core.clock.now(),
        })
    }

    /// A version published by hand meanwhile was built with everything that the node waited for: it takes its place
    /// (H10).
    async fn replaced(&mut self, one: &Release) -> Result<()> {
        let version = one.chosen.base.clone();
        let reason = crate::plan::publish::replaced_by(&version);
        let decision = match (one.chosen.causes.first(), &one.edge) {
            (Some(cause), Some(edge)) => self.decision(cause, edge, reason),
            _ => self.decision_of(&one.plan, reason).await?,
        };
        let node = Node {
            published: Some(version),
            ..Node::default()
        };
        self.end(&one.plan.key, node, decision).await
    }

    /// Does once more what follows from a reservation, unless it was claimed: then all of it was there.
    pub(super) async fn put_again(
        &mut self,
        name: &PackageName,
        key: RowKey,
        rebuild: Rebuild,
    ) -> Result<()> {
        if rebuild.state == RebuildState::Queued && rebuild.attempt == 0 {
            let name = name.clone();
            return self.put(&[Reserved { name, key, rebuild }]).await;
        }
        if rebuild.state == RebuildState::Queued {
            let work = rebuild::work(name, &key, &rebuild);
            self.outcome.work.push(work);
        }
        Ok(())
    }

    /// Makes reserved rebuilds findable and puts their work.
    async fn put(&mut self, reserved: &[Reserved]) -> Result<()> {
        if reserved.is_empty() {
            return Ok(());
        }
        let now = self.core.clock.now();
        let mut writes = Vec::new();
        let mut work = Vec::new();
        for Reserved { name, key, rebuild } in reserved {
            let node = Node {
                released: Some(rebuild.id.clone()),
                ..Node::default()
            };
            writes.push(Write::Rebuild(rebuild::index(name, key, rebuild, now)));
            writes.push(Write::Node(
                self.wave.id.clone(),
                NodeKey::package(name),
                node,
            ));
            self.again.insert(NodeKey::package(name));
            let decision = Box::new(rebuild.decision.clone());
            writes.push(Write::Decision(rebuild.change.clone(), decision));
            if !rebuild.state.is_ended() {
                work.push(rebuild::work(name, key, rebuild));
            }
        }
        writes.extend(work.iter().cloned().map(Write::Work));
        self.core.store.write(writes).await?;
        self.outcome.decided = true;
        self.outcome.work.extend(work);
        Ok(())
    }
}

/// The rebuild that the package holds for the wave, whoever reserved it: what follows may not be there.
fn in_open(state: &PackageState, wave: &WaveId) -> Option<Reserved> {
    let key = RowKey::publish(state.open.get(wave)?);
    let rebuild = state.row(&key)?.rebuild.clone()?;
    Some(Reserved {
        name: state.name.clone(),
        key,
        rebuild,
    })
}

/// The rebuild of a node that was released, with its row: the one that the wave waits for, or the one that it waited for
/// when it was released.
pub(super) async fn of_node(
    core: &Core,
    wave: &WaveId,
    key: &NodeKey,
    node: &Node,
) -> Result<Option<(RowKey, Rebuild)>> {
    if key.version.is_none() {
        let want = Want {
            open: crate::store::WantOpen::Of(wave.clone()),
            ..Want::statics(&key.package)
        };
        let state = read(core, want).await?;
        if let Some(own) = in_open(&state, wave) {
            return Ok(Some((own.key, own.rebuild)));
        }
    }
    let Some(id) = &node.released else {
        return Ok(None);
    };
    let index = core.store.rebuilds(std::slice::from_ref(id)).await?;
    let Some(index) = index.into_iter().next().flatten() else {
        return Ok(None);
    };
    let state = read(core, Want::rows(&key.package, vec![index.key.clone()])).await?;
    let rebuild = state.row(&index.key).and_then(|row| row.rebuild.clone());
    Ok(rebuild
        .filter(|rebuild| rebuild.id == *id)
        .map(|rebuild| (index.key, rebuild)))
}

/// All published versions, where the increment looks at them.
pub(in super::super) async fn published(core: &Core, name: &PackageName) -> Result<Vec<Published>> {
    match core.rules.increment {
        Increment::Prerelease => Ok(Vec::new()),
        Increment::Patch => Ok(core.store.published(name).await?),
    }
}
