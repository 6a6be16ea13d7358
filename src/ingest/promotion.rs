//! Planning a promotion (rules 12, 13; H13, H15).

use std::collections::BTreeMap;

use super::{Core, Outcome, Parents, REFUSALS, Result, contention, publish, read, wave};
use crate::model::change::{Change, Verdict};
use crate::model::decision::{Decision, Reason};
use crate::model::id::{ChangeId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, Millis, Rebuild, RowKey, millis};
use crate::plan::WithoutLine;
use crate::plan::promotion::{self as decide, Promoted};
use crate::plan::publish::{Described, Source, edge_projections};
use crate::semver::Version;
use crate::store::{Committed, NodeKey, Promotion, Want, Write};

/// How many pairs are decided at a time.
const PAGE: usize = 500;

/// Handles a promotion. First it is asked whether it is the notice of a rebuild of ours (rule 14); only what answers
/// none is compared with the latest promotion and may be a duplicate of it (H13).
pub(super) async fn plan(
    core: &Core,
    change: &Change,
    described: &Described,
    json: &[u8],
) -> Result<Outcome> {
    let (state, facts) = publish::establish(core, described, &Source::Known, json).await?;
    if facts.noticed.is_none() {
        let edges = edge_projections(&state, described, &facts);
        publish::project(core, facts.stamp, edges).await?;
    }

    let answered = confirm(core, change).await?;
    let latest = core
        .store
        .latest_promotion(&change.name, &change.env)
        .await?;
    let planned_before = latest
        .as_ref()
        .is_some_and(|latest| latest.change == change.id);
    if answered.is_none()
        && !planned_before
        && let Some(latest) = &latest
    {
        let window = millis(core.rules.duplicate_window);
        let ended = ended(core, latest).await?;
        if decide::is_duplicate(change, latest, ended, window) {
            return Ok(Outcome::of(Verdict::Duplicate {
                of: latest.change.clone(),
            }));
        }
    }
    enter(core, change).await?;

    let origin = Cause {
        parent: change.name.clone(),
        version: change.version.clone(),
        origin: facts.origin.clone(),
    };
    let key = NodeKey::pair(&change.name, &change.version);
    let line = core.store.line(&change.name, &change.version).await?;
    let without_line = line.is_none() && core.rules.promote_without_line == WithoutLine::Nothing;
    let mut outcome = Outcome::default();
    let waves: Vec<WaveId> = match &answered {
        Some(rebuild) => {
            let waves: Vec<WaveId> = rebuild.waves.iter().cloned().collect();
            outcome.verdict = Some(Verdict::Answers {
                rebuild: rebuild.id.clone(),
                waves: waves.clone(),
            });
            is_there(core, change, &key, &waves).await?;
            waves
        }
        None if without_line => {
            outcome.verdict = Some(Verdict::NoReleaseLine);
            return Ok(outcome);
        }
        None => {
            outcome.verdict = Some(Verdict::Opened);
            let id = WaveId::from(&change.id);
            own_wave(core, change, &origin, &id, &mut outcome).await?;
            vec![id]
        }
    };
    if !without_line {
        for wave in &waves {
            let promoted = promoted(change, wave);
            if line.is_some() {
                skip_the_others(core, &promoted, &mut outcome).await?;
            } else {
                skip_who_admits_nothing(core, &promoted, &origin, &mut outcome).await?;
            }
        }
    }
    let mut parents = Parents::default();
    for wave in &waves {
        wave::advance(
            core,
            &mut parents,
            wave,
            std::slice::from_ref(&key),
            Some(&change.id),
            &mut outcome,
        )
        .await?;
    }
    Ok(outcome)
}

pub(super) fn promoted<'a>(change: &'a Change, wave: &'a WaveId) -> Promoted<'a> {
    Promoted {
        change: &change.id,
        wave,
        env: &change.env,
        name: &change.name,
        version: &change.version,
        promote: change.promote,
    }
}

/// The notice of a pair came: it is published in its waves, or, where outcomes are waited for, will be.
async fn is_there(core: &Core, change: &Change, key: &NodeKey, waves: &[WaveId]) -> Result<()> {
    let node = wave::after_notice(core, &change.name, &change.version, &change.env).await?;
    let Some(node) = node else {
        return Ok(());
    };
    let nodes = waves
        .iter()
        .map(|wave| Write::Node(wave.clone(), key.clone(), node.clone()));
    Ok(core.store.write(nodes.collect()).await?)
}

/// Opens the wave of a promotion: all pairs that its line leads to, however far.
async fn own_wave(
    core: &Core,
    change: &Change,
    origin: &Cause,
    id: &WaveId,
    outcome: &mut Outcome,
) -> Result<()> {
    if let Some(there) = wave::planned(core, id).await? {
        outcome
            .work
            .push(wave::begin(core, &there, std::slice::from_ref(origin)).await?);
        return Ok(());
    }
    let closure = wave::closure(core, origin, None).await?;
    let mut pairs = vec![NodeKey::pair(&change.name, &change.version)];
    pairs.extend(closure.nodes.iter().map(|node| node.key.clone()));
    let pending_on = wave::open_waves(core, &pairs).await?;
    let lower = lower(&promoted(change, id), &closure.lower);
    write_decisions(core, change, &lower).await?;
    outcome.decided |= !lower.is_empty();
    if closure.nodes.is_empty() && pending_on.is_empty() {
        return Ok(());
    }
    let opening = wave::Opening {
        id: id.clone(),
        env: change.env.clone(),
        kind: Kind::Promotion,
        start: wave::start(origin),
        change: change.id.clone(),
        promote: change.promote,
        origins: vec![origin.clone()],
        pending_on,
    };
    let (_, tick) = wave::open(core, opening, closure.nodes).await?;
    outcome.work.push(tick);
    Ok(())
}

/// A skip for every pair that a higher version of the same package replaces (H23).
pub(super) fn lower(change: &Promoted<'_>, pairs: &[(Cause, NodeKey, Version)]) -> Vec<Decision> {
    let skip = |(line, pair, by): &(Cause, NodeKey, Version)| Decision {
        parent: line.parent.clone(),
        parent_version: line.version.clone(),
        base: pair.version.clone(),
        ..decide::decision(
            change,
            &pair.package,
            Reason::SupersededInPromotion { by: by.clone() },
            Vec::new(),
        )
    };
    pairs.iter().map(skip).collect()
}

/// Confirms the rebuild that the change is the notice of, once; finds it again after a crash.
async fn confirm(core: &Core, change: &Change) -> Result<Option<Rebuild>> {
    let key = RowKey::promotion(&change.version, &change.env);
    for _ in 0..REFUSALS {
        let state = read(core, Want::rows(&change.name, vec![key.clone()])).await?;
        let rebuild = state.row(&key).and_then(|row| row.rebuild.clone());
        if rebuild
            .as_ref()
            .is_some_and(|one| one.confirmed_by.as_ref() == Some(&change.id))
        {
            return Ok(rebuild);
        }
        let Some(commit) = decide::confirm(&state, change) else {
            return Ok(None);
        };
        core.store.commit(vec![commit]).await?;
    }
    Err(contention(&change.name))
}

/// Makes this change the latest promotion of its package to the environment, once (H13).
async fn enter(core: &Core, change: &Change) -> Result<u32> {
    for _ in 0..REFUSALS {
        let generation = match core
            .store
            .promotions(&change.name, &change.env, wave::EARLIER)
            .await?
        {
            promotions if promotions.iter().any(|one| one.change == change.id) => {
                let own = promotions.iter().find(|one| one.change == change.id);
                return Ok(own.map_or(0, |one| one.generation));
            }
            promotions => promotions.first().map_or(0, |latest| latest.generation),
        };
        let next = Promotion {
            version: change.version.clone(),
            generation: generation + 1,
            promote: change.promote,
            change: change.id.clone(),
            at: core.clock.now(),
        };
        if core
            .store
            .promote(&change.name, &change.env, generation, &next)
            .await?
            == Committed::Applied
        {
            return Ok(next.generation);
        }
    }
    Err(contention(&change.name))
}

/// When the last of what a promotion decided was accepted by the build service or ended; `None` while something is
/// still to be sent, or while the promotion itself is not planned.
pub(super) async fn ended(core: &Core, promotion: &Promotion) -> Result<Option<Millis>> {
    let Some(change) = core.store.change(&promotion.change).await? else {
        return Ok(Some(promotion.at));
    };
    let Some(planned) = change.planned else {
        return Ok(None);
    };
    let mut ended = planned.at;
    let mut skip = 0;
    loop {
        let decisions = core.store.decisions(&promotion.change, skip, PAGE).await?;
        skip += decisions.len();
        for decision in decisions.iter().filter(|decision| decision.is_rebuild()) {
            let (Some(version), Some(id)) = (&decision.version, &decision.rebuild) else {
                continue;
            };
            let key = RowKey::promotion(version, &decision.env);
            let state = read(core, Want::rows(&decision.dependent, vec![key.clone()])).await?;
            let rebuild = state.row(&key).and_then(|row| row.rebuild.as_ref());
            let Some(rebuild) = rebuild.filter(|one| one.id == *id && !one.state.is_ended()) else {
                continue;
            };
            match wave::accepted(core, rebuild).await? {
                Some(at) => ended = ended.max(at),
                None => return Ok(None),
            }
        }
        if decisions.len() < PAGE {
            return Ok(Some(ended));
        }
    }
}

/// Keeps a skip for every dependent that is not in the line (rule 12).
async fn skip_the_others(core: &Core, change: &Promoted<'_>, outcome: &mut Outcome) -> Result<()> {
    let mut after: Option<PackageName> = None;
    loop {
        let (skips, next) = the_others(core, change, after.as_ref()).await?;
        keep(core, change.change, &skips).await?;
        outcome.decided |= !skips.is_empty();
        if next.is_none() {
            return Ok(());
        }
        after = next;
    }
}

/// Skips of a page of dependents, and after whom the next page begins.
pub(super) type Skips = (Vec<Decision>, Option<PackageName>);

/// Those of a page of dependents that are not in the line.
pub(super) async fn the_others(
    core: &Core,
    change: &Promoted<'_>,
    after: Option<&PackageName>,
) -> Result<Skips> {
    let page = core.store.dependents(change.name, after, PAGE).await?;
    let (Some(first), Some(last)) = (page.first(), page.last()) else {
        return Ok((Vec::new(), None));
    };
    let in_line = line_between(core, change, &first.dependent, &last.dependent).await?;
    let skips = page
        .iter()
        .filter(|edge| edge.range.is_some() && !in_line.contains_key(&edge.dependent))
        .map(|edge| {
            let reason = Reason::NotInReleaseLine;
            decide::decision(change, &edge.dependent, reason, Vec::new())
        });
    let full = page.len() == PAGE;
    Ok((skips.collect(), full.then(|| last.dependent.clone())))
}

/// The entries of the change's line from `first` to `last`.
async fn line_between(
    core: &Core,
    change: &Promoted<'_>,
    first: &PackageName,
    last: &PackageName,
) -> Result<BTreeMap<PackageName, Version>> {
    let mut entries = BTreeMap::new();
    let mut after: Option<PackageName> = None;
    loop {
        let page = core
            .store
            .line_dependents(change.name, change.version, after.as_ref(), PAGE)
            .await?;
        let end = page.len() < PAGE || page.last().is_some_and(|(name, _)| name > last);
        after = page.last().map(|(name, _)| name.clone());
        entries.extend(
            page.into_iter()
                .filter(|(name, _)| name >= first && name <= last),
        );
        if end {
            return Ok(entries);
        }
    }
}

/// Keeps a skip for every dependent that has no version to go with one that has no line (rule 12,
/// `promote_without_line`).
async fn skip_who_admits_nothing(
    core: &Core,
    change: &Promoted<'_>,
    origin: &Cause,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut after: Option<PackageName> = None;
    loop {
        let (skips, next) = who_admits_nothing(core, change, origin, after.as_ref()).await?;
        keep(core, change.change, &skips).await?;
        outcome.decided |= !skips.is_empty();
        if next.is_none() {
            return Ok(());
        }
        after = next;
    }
}

/// Those of a page of dependents that have no version to go with one that has no line.
pub(super) async fn who_admits_nothing(
    core: &Core,
    change: &Promoted<'_>,
    origin: &Cause,
    after: Option<&PackageName>,
) -> Result<Skips> {
    let of = NodeKey::pair(change.name, change.version);
    let page = core.store.dependents(change.name, after, PAGE).await?;
    let mut skips = Vec::new();
    for edge in &page {
        let reason = if edge.range.is_none() {
            Reason::NoLongerDepends
        } else {
            let from = origin.origin.as_ref();
            match wave::highest(core, &of, change.version, from, &edge.dependent).await? {
                Some(_) => continue,
                None => Reason::OutOfRange,
            }
        };
        skips.push(decide::decision(
            change,
            &edge.dependent,
            reason,
            Vec::new(),
        ));
    }
    let last = page.last().filter(|_| page.len() == PAGE);
    Ok((skips, last.map(|last| last.dependent.clone())))
}

async fn write_decisions(core: &Core, change: &Change, decisions: &[Decision]) -> Result<()> {
    keep(core, &change.id, decisions).await
}

async fn keep(core: &Core, change: &ChangeId, decisions: &[Decision]) -> Result<()> {
    let kept = decisions
        .iter()
        .map(|one| Write::Decision(change.clone(), Box::new(one.clone())));
    Ok(core.store.write(kept.collect()).await?)
}
