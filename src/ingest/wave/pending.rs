//! A promotion while the wave that makes its pairs still runs (rule 12, H14).
//!
//! The promotion writes its row, then reads the line and remembers which waves of that line are open; attaching writes the
//! line's entry, then reads the promotions of that line. One of the two sees the other.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::super::{AT_ONCE, Core, Outcome, Parents, Result, read};
use super::pairs::EARLIER;
use super::{PAGE, Step, advance};
use crate::model::change::Verdict;
use crate::model::edge::EdgeRange;
use crate::model::id::{ChangeId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Facts, Kind, RowKey};
use crate::model::wave::{NodeKey, PlanNode, Standing, Wave, WaveState};
use crate::model::work::{Job, Work};
use crate::plan::publish::Described;
use crate::semver::Version;
use crate::store::{Want, Write};

/// When a promotion that is being planned is asked again.
const NOT_PLANNED: i64 = 200;

/// The waves in which this version was published: those of the rebuild that made it, or those that its publish by hand
/// began or joined; and those that brought it to dependents later.
pub(in super::super) async fn waves_of(
    core: &Core,
    name: &PackageName,
    version: &Version,
) -> Result<BTreeSet<WaveId>> {
    let key = RowKey::publish(version);
    let state = read(core, Want::rows(name, vec![key.clone()])).await?;
    let Some(row) = state.row(&key) else {
        return Ok(BTreeSet::new());
    };
    let notice = row.facts.as_ref().and_then(|facts| facts.notice.clone());
    let mut waves: BTreeSet<WaveId> = match (&row.rebuild, notice) {
        (Some(rebuild), Some(notice)) if rebuild.confirmed_by.as_ref() == Some(&notice) => {
            rebuild.waves.clone()
        }
        (_, Some(notice)) => {
            let change = core.store.change(&notice).await?;
            match change
                .and_then(|change| change.planned)
                .map(|planned| planned.verdict)
            {
                Some(Verdict::Joined { wave }) => [wave].into(),
                Some(Verdict::TookPlace { waves, .. }) => waves.into_iter().collect(),
                _ => [WaveId::from(&notice)].into(),
            }
        }
        _ => BTreeSet::new(),
    };
    let later: Vec<WaveId> = waves
        .iter()
        .map(|wave| WaveId::late_parent(wave, name, version))
        .collect();
    waves.extend(later);
    Ok(waves)
}

/// Of the waves in which these pairs were published, those that are open: what they attach yet is sent late.
pub(in super::super) async fn open_waves(core: &Core, pairs: &[NodeKey]) -> Result<Vec<WaveId>> {
    let made_in: Vec<_> = pairs
        .iter()
        .filter_map(|pair| Some(waves_of(core, &pair.package, pair.version.as_ref()?)))
        .collect();
    let mut made_in = stream::iter(made_in).buffer_unordered(AT_ONCE);
    let mut waves = BTreeSet::new();
    while let Some(some) = made_in.try_next().await? {
        waves.extend(some);
    }
    let mut open = Vec::new();
    for id in waves {
        let wave = core.store.wave(&id).await?;
        if wave.is_some_and(|wave| !wave.state.is_ended()) {
            open.push(id);
        }
    }
    Ok(open)
}

/// After a rebuilt version was attached to these lines: the work that brings it to promotions of them.
pub(in super::super) async fn attached(
    core: &Core,
    name: &PackageName,
    version: &Version,
    lines: &BTreeMap<PackageName, Version>,
) -> Result<Vec<Work>> {
    let key = NodeKey::pair(name, version);
    let mut works = Vec::new();
    for (parent, at) in lines {
        let line = NodeKey::pair(parent, at);
        for env in core.rules.environments.iter() {
            let promotions = core.store.promotions(parent, env, EARLIER).await?;
            let mut waves = BTreeSet::new();
            for one in promotions.iter().filter(|one| one.version == *at) {
                waves.insert(WaveId::from(&one.change));
            }
            if waves.is_empty() {
                continue;
            }
            let row = RowKey::promotion(at, env);
            let state = read(core, Want::rows(parent, vec![row.clone()])).await?;
            let rebuild = state.row(&row).and_then(|row| row.rebuild.as_ref());
            waves.extend(
                rebuild
                    .into_iter()
                    .flat_map(|one| one.waves.iter().cloned()),
            );
            works.extend(waves.into_iter().map(|wave| Work {
                id: format!("attached/{wave}/{parent}@{at}/{name}@{version}"),
                package: name.clone(),
                due: core.clock.now(),
                job: Job::Attached {
                    wave,
                    line: line.clone(),
                    key: key.clone(),
                },
            }));
        }
    }
    if !works.is_empty() {
        let puts = works.iter().cloned().map(Write::Work).collect();
        core.store.write(puts).await?;
    }
    Ok(works)
}

/// Sends a pair that was attached after the promotion began, if it is a node of a wave that was open then.
pub(in super::super) async fn join_promotion(
    core: &Core,
    wave: &WaveId,
    line: &NodeKey,
    key: &NodeKey,
    item: &Work,
) -> Result<Vec<Work>> {
    let Some(found) = core.store.wave(wave).await? else {
        let change = core.store.change(&ChangeId::new(wave.as_str())).await?;
        if change.is_some_and(|change| change.planned.is_none()) {
            // Its row is there, its wave is not: it is being planned, and may have read the line before.
            let due = core.clock.now() + NOT_PLANNED;
            let again = Work {
                id: format!("attached/{wave}/{}/{}/{due}", line.package, key.package),
                due,
                ..item.clone()
            };
            core.store.write(vec![Write::Work(again.clone())]).await?;
            return Ok(vec![again]);
        }
        return Ok(Vec::new());
    };
    if found.state != WaveState::Open || found.pending_on.is_empty() {
        return Ok(Vec::new());
    }
    let mut outcome = Outcome::default();
    join(core, &found, key, &mut outcome).await?;
    Ok(outcome.work)
}

/// What may have been missed by the time that the waves that a promotion waits for have ended, is sent now: who was
/// attached before its line was sent, or in the moment before the end (H14). Everything that those waves made is in its
/// lines by now. Says whether there was anything.
pub(super) async fn missed(core: &Core, wave: &Wave, outcome: &mut Outcome) -> Result<bool> {
    let mut lines = wave.start.origins();
    let mut seen: BTreeSet<NodeKey> = lines.iter().cloned().collect();
    let mut any = false;
    while let Some(line) = lines.pop() {
        let Some(version) = &line.version else {
            continue;
        };
        let mut after: Option<PackageName> = None;
        loop {
            let page = core
                .store
                .line_dependents(&line.package, version, after.as_ref(), PAGE)
                .await?;
            after = page.last().map(|(name, _)| name.clone());
            for (name, at) in &page {
                let key = NodeKey::pair(name, at);
                if !seen.insert(key.clone()) {
                    continue;
                }
                if is_node(core, wave, &key).await? {
                    lines.push(key);
                } else {
                    any |= join(core, wave, &key, outcome).await?;
                }
            }
            if page.len() < PAGE {
                break;
            }
        }
    }
    Ok(any)
}

/// Whether a promotion's wave has this pair.
async fn is_node(core: &Core, wave: &Wave, key: &NodeKey) -> Result<bool> {
    if let Some(plan) = &wave.plan {
        let names = std::slice::from_ref(&key.package);
        let rows = core.store.plan_nodes(&wave.id, plan, names).await?;
        if rows.into_iter().flatten().any(|row| row.key == *key) {
            return Ok(true);
        }
    }
    let nodes = core
        .store
        .nodes(&wave.id, std::slice::from_ref(key))
        .await?;
    Ok(nodes.iter().any(|node| node.added.is_some()))
}

/// Makes a pair part of a promotion's wave that is open, if it was made in a wave that this one waits for. Says whether
/// it is.
async fn join(core: &Core, found: &Wave, key: &NodeKey, outcome: &mut Outcome) -> Result<bool> {
    let Some(version) = &key.version else {
        return Ok(false);
    };
    let row = RowKey::publish(version);
    let state = read(core, Want::rows(&key.package, vec![row.clone()])).await?;
    let made_in: BTreeSet<WaveId> = waves_of(core, &key.package, version).await?;
    if !found.pending_on.iter().any(|one| made_in.contains(one)) {
        return Ok(false);
    }
    let attach = state
        .facts(version)
        .and_then(|facts| facts.attach.clone())
        .unwrap_or_default();
    let mut parents = Parents::default();
    let mut step = Step::new(core, found.clone(), None, &mut parents, outcome);
    let planned = step.plans(std::slice::from_ref(&key.package)).await?;
    if planned.into_iter().flatten().any(|row| row.key == *key) {
        return Ok(false);
    }
    // Whom it waits for: those of its lines that the promotion sends, or began with.
    let lines: Vec<NodeKey> = attach
        .iter()
        .map(|(parent, at)| NodeKey::pair(parent, at))
        .collect();
    let names: Vec<PackageName> = lines.iter().map(|line| line.package.clone()).collect();
    let plans = step.plans(&names).await?;
    let nodes = step.nodes(&lines).await?;
    let origins = step.wave.start.origins();
    let mut waits_for = Vec::new();
    let mut level = 1;
    for (one, plan) in lines.iter().zip(plans) {
        let plan = plan.filter(|plan| plan.key == *one);
        let added = nodes.get(one).and_then(|node| node.added.as_ref());
        if plan.is_some() || added.is_some() || origins.contains(one) {
            waits_for.push(one.clone());
        }
        let above = plan.as_ref().or(added).map_or(0, |plan| plan.level);
        level = level.max(above + 1);
    }
    if waits_for.is_empty() {
        return Ok(false);
    }
    let added = PlanNode {
        key: key.clone(),
        waits_for,
        cycle: Vec::new(),
        level,
        base: version.clone(),
        version: Some(version.clone()),
        seed: None,
    };
    step.add_node(added).await?;
    let id = step.wave.id.clone();
    let keys = std::slice::from_ref(key);
    Box::pin(advance(core, &mut parents, &id, keys, None, outcome)).await?;
    Ok(true)
}

/// Whether a publish by hand takes the place of its package's node in a wave (H10). `superseded`: it ended that node's
/// rebuild before it was sent.
pub(in super::super) async fn takes_place(
    core: &Core,
    wave: &Wave,
    described: &Described,
    facts: &Facts,
    superseded: bool,
) -> Result<bool> {
    let key = NodeKey::package(&described.name);
    let own = core
        .store
        .nodes(&wave.id, std::slice::from_ref(&key))
        .await?;
    let own = own.into_iter().next().unwrap_or_default();
    if own.published.as_ref() == Some(&described.version) && wave.kind == Kind::Publish {
        // Unless it is what the wave began with.
        return Ok(!wave.start.origins().contains(&key));
    }
    if wave.state != WaveState::Open || wave.kind != Kind::Publish {
        return Ok(false);
    }
    if superseded {
        return Ok(true);
    }
    let Some(plan) = &wave.plan else {
        return Ok(false);
    };
    let row = core
        .store
        .plan_nodes(&wave.id, plan, std::slice::from_ref(&described.name))
        .await?;
    let Some(row) = row.into_iter().next().flatten().or(own.added.clone()) else {
        return Ok(false);
    };
    let is_top = facts.dropped.is_some();
    if own.standing() != Standing::Waiting || !is_top || row.waits_for.is_empty() {
        return Ok(false);
    }
    let parents = core.store.nodes(&wave.id, &row.waits_for).await?;
    let with = facts.with.clone().unwrap_or_default();
    let mut admitted = false;
    for (key, node) in row.waits_for.iter().zip(parents) {
        let Some(version) = node.published.as_ref() else {
            return Ok(false);
        };
        match with.get(&key.package) {
            Some(built_with) if built_with >= version => admitted = true,
            // It admits only older ones of it, or does not declare it at all: nothing to wait for.
            Some(_) => {
                let origin = read(
                    core,
                    Want::rows(&key.package, vec![RowKey::publish(version)]),
                )
                .await?
                .facts(version)
                .and_then(|facts| facts.origin.clone());
                let edge = described
                    .edges
                    .iter()
                    .find(|edge| edge.parent == key.package);
                if edge
                    .is_some_and(|edge| EdgeRange::of(&edge.range).admits(version, origin.as_ref()))
                {
                    return Ok(false);
                }
            }
            None => {}
        }
    }
    Ok(admitted)
}
