//! Waves that follow from others: a parent that came late, a hold that ended (H6, rule 17).

use super::super::explore::explore;
use super::super::{Core, Outcome, Parents, Result, read};
use super::open::{Opening, begin, open, planned};
use super::{Step, advance, pairs};
use crate::graph::{Origin, Seed};
use crate::model::id::{ChangeId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, RowKey};
use crate::model::wave::{NodeKey, Start};
use crate::model::work::{Job, Work};
use crate::store::{Want, Write};

/// Opens the one wave that brings a late parent's version to those that went without it.
pub(super) async fn late_parent(step: &mut Step<'_>, key: &NodeKey, parent: &Cause) -> Result<()> {
    let core = step.core;
    let id = WaveId::late_parent(&step.wave.id, &parent.parent, &parent.version);
    if let Some(there) = planned(core, &id).await? {
        let tick = begin(core, &there, std::slice::from_ref(parent)).await?;
        step.outcome.work.push(tick);
    } else {
        let nodes = match step.wave.kind {
            Kind::Publish => {
                let seeds = step.without.iter().map(|name| Seed {
                    package: name.clone(),
                    causes: vec![parent.clone()],
                });
                let origin = Origin {
                    cause: parent.clone(),
                    reach: false,
                };
                let affected = explore(core, vec![origin], seeds.collect()).await?;
                let mut nodes = affected.into_plan();
                // They are rebuilt for this parent, which is part of the wave; nothing else makes them.
                for node in &mut nodes {
                    if step.without.contains(&node.key.package) {
                        node.seed = None;
                        if !node.waits_for.contains(key) {
                            node.waits_for.push(key.clone());
                        }
                    }
                }
                nodes
            }
            Kind::Promotion => {
                pairs::closure(core, parent, Some(&step.without))
                    .await?
                    .nodes
            }
        };
        if nodes.is_empty() {
            return Ok(());
        }
        let opening = Opening {
            id: id.clone(),
            env: step.wave.env.clone(),
            kind: step.wave.kind,
            start: Start::LateParent {
                wave: step.wave.id.clone(),
                parent: parent.clone(),
                pair: step.wave.kind == Kind::Promotion,
            },
            change: step.change.clone(),
            promote: step.wave.promote,
            origins: vec![parent.clone()],
            pending_on: Vec::new(),
        };
        let (_, tick) = open(core, opening, nodes).await?;
        step.outcome.work.push(tick);
    }
    Box::pin(advance(
        core,
        step.parents,
        &id,
        std::slice::from_ref(key),
        Some(&step.change.clone()),
        step.outcome,
    ))
    .await
}

/// Ends a hold, if its time has come or it was removed, and releases what was held as one wave. Returns the work.
pub(in super::super) async fn end_hold(
    core: &Core,
    package: &PackageName,
    id: &str,
) -> Result<Vec<Work>> {
    let now = core.clock.now();
    let holds = core.store.holds(std::slice::from_ref(package)).await?;
    let there = holds.into_iter().flatten().find(|hold| hold.id == id);
    if let Some(hold) = there {
        if hold.holds(now) {
            let again = hold
                .expires
                .map(|due| hold_ends(package, id, "expires", due));
            return Ok(again.into_iter().collect());
        }
        let ended = Write::HoldEnded(package.clone(), id.to_owned(), hold.expires.unwrap_or(now));
        core.store.write(vec![ended]).await?;
    }
    let key = NodeKey::package(package);
    let marks = core
        .store
        .nodes(&WaveId::held_by(id), std::slice::from_ref(&key))
        .await?;
    if marks.iter().all(|mark| mark.held.is_none()) {
        return Ok(Vec::new());
    }
    rebuild_now(
        core,
        WaveId::new(format!("h-{id}")),
        package,
        Start::HoldEnded {
            package: package.clone(),
            hold: id.to_owned(),
        },
    )
    .await
}

/// The item that ends a hold.
pub(super) fn hold_ends(package: &PackageName, hold: &str, why: &str, due: i64) -> Work {
    Work {
        id: format!("hold/{hold}/{why}"),
        package: package.clone(),
        due,
        job: Job::HoldEnds {
            hold: hold.to_owned(),
        },
    }
}

/// Opens a wave that rebuilds a package for whatever its parents have that it was not built with; of a rebuild by hand, in
/// any case.
pub(super) async fn rebuild_now(
    core: &Core,
    id: WaveId,
    package: &PackageName,
    start: Start,
) -> Result<Vec<Work>> {
    let mut outcome = Outcome::default();
    let mut parents = Parents::default();
    let key = NodeKey::package(package);
    if let Some(there) = planned(core, &id).await? {
        // What it was opened for is in its plan.
        let survey = super::close::survey(core, &there).await?;
        let of_plan = survey.unfinished.iter().find(|(plan, _)| plan.key == key);
        let causes = of_plan.and_then(|(plan, _)| plan.seed.clone());
        let tick = begin(core, &there, &causes.unwrap_or_default()).await?;
        outcome.work.push(tick);
    } else {
        let by_hand = matches!(start, Start::ByHand { .. });
        let causes = missing(core, &mut parents, package, by_hand).await?;
        if causes.is_empty() && !by_hand {
            return Ok(Vec::new());
        }
        let seed = Seed {
            package: package.clone(),
            causes: causes.clone(),
        };
        let affected = explore(core, Vec::new(), vec![seed]).await?;
        let opening = Opening {
            id: id.clone(),
            env: core.rules.environments.first().clone(),
            kind: Kind::Publish,
            start,
            change: ChangeId::new(id.as_str()),
            promote: false,
            // The versions that it is rebuilt for count as published in the wave: it goes with their lines.
            origins: causes,
            pending_on: Vec::new(),
        };
        let (_, tick) = open(core, opening, affected.into_plan()).await?;
        outcome.work.push(tick);
    }
    advance(core, &mut parents, &id, &[key], None, &mut outcome).await?;
    Ok(outcome.work)
}

/// The parents' versions that a package's highest version admits and was not built with; all of them if asked.
async fn missing(
    core: &Core,
    parents: &mut Parents,
    package: &PackageName,
    all: bool,
) -> Result<Vec<Cause>> {
    let want = Want {
        top_edges: true,
        ..Want::statics(package)
    };
    let state = read(core, want).await?;
    let Some(top) = state.top else {
        return Ok(Vec::new());
    };
    let row = RowKey::publish(&top.version);
    let state = read(core, Want::rows(package, vec![row])).await?;
    let with = state
        .facts(&top.version)
        .and_then(|facts| facts.with.clone())
        .unwrap_or_default();
    let mut causes = Vec::new();
    for edge in top.edges.iter().filter(|edge| edge.parent != *package) {
        let Some(version) = parents.highest(core, &edge.parent, &edge.range).await? else {
            continue;
        };
        let has = with.get(&edge.parent).is_some_and(|with| *with >= version);
        if all || !has {
            let row = RowKey::publish(&version);
            let want = Want::rows(&edge.parent, vec![row]);
            let state = read(core, want).await?;
            causes.push(Cause {
                parent: edge.parent.clone(),
                origin: state.facts(&version).and_then(|facts| facts.origin.clone()),
                version,
            });
        }
    }
    causes.sort();
    Ok(causes)
}
