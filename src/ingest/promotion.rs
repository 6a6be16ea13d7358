//! Planning a promotion (rules 12, 13; H13, H15).

use std::collections::BTreeMap;

use super::{Core, Outcome, REFUSALS, Result, contention, publish, read};
use crate::model::change::{Change, Verdict};
use crate::model::decision::{Decision, Reason};
use crate::model::edge::EdgeRange;
use crate::model::env::Env;
use crate::model::id::{RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Millis, Rebuild, RebuildState, RowKey};
use crate::model::work::Work;
use crate::plan::promotion::{self as decide, Pair, Step};
use crate::plan::publish::{Described, Source, edge_projections};
use crate::plan::{WithoutLine, rebuild};
use crate::semver::Version;
use crate::store::{Committed, Node, NodeKey, Promotion, Want, Write};

/// How many pairs are decided at a time.
const PAGE: usize = 500;

/// How many earlier promotions of the package to the environment are looked through for rebuilds that were not sent.
const EARLIER: usize = 20;

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
        let window =
            Millis::try_from(core.rules.duplicate_window.as_millis()).unwrap_or(Millis::MAX);
        let ended = ended(core, latest).await?;
        if decide::is_duplicate(change, latest, ended, window) {
            return Ok(Outcome::new(Verdict::Duplicate {
                of: latest.change.clone(),
            }));
        }
    }
    let generation = enter(core, change).await?;

    let waves: Vec<WaveId> = match &answered {
        Some(rebuild) => rebuild.waves.iter().cloned().collect(),
        None => vec![WaveId::from(&change.id)],
    };
    let line = core.store.line(&change.name, &change.version).await?;
    let without_line = line.is_none() && core.rules.promote_without_line == WithoutLine::Nothing;
    let verdict = match &answered {
        Some(rebuild) => Verdict::Answers {
            rebuild: rebuild.id.clone(),
            waves: waves.clone(),
        },
        None if without_line => Verdict::NoReleaseLine,
        None => Verdict::Opened,
    };
    let mut outcome = Outcome::new(verdict);
    if without_line {
        return Ok(outcome);
    }
    let origin = facts.origin.clone();
    let reason = if line.is_some() {
        Reason::InReleaseLine
    } else {
        Reason::HighestThatAdmits
    };
    for wave in &waves {
        let promoting = Promoting {
            change,
            wave,
            generation,
            reason: &reason,
        };
        let mut after: Option<PackageName> = None;
        loop {
            let (page, last) = if line.is_some() {
                let page = core
                    .store
                    .line_dependents(&change.name, &change.version, after.as_ref(), PAGE)
                    .await?;
                let last = (page.len() == PAGE)
                    .then(|| page.last().map(|(name, _)| name.clone()))
                    .flatten();
                (page, last)
            } else {
                highest_that_admit(
                    core,
                    &promoting,
                    origin.as_ref(),
                    after.as_ref(),
                    &mut outcome,
                )
                .await?
            };
            send(core, &promoting, &page, &mut outcome).await?;
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        if line.is_some() {
            skip_the_others(core, &promoting, &mut outcome).await?;
        }
    }
    Ok(outcome)
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
            .promotions(&change.name, &change.env, EARLIER)
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
async fn ended(core: &Core, promotion: &Promotion) -> Result<Option<Millis>> {
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
            match accepted(core, rebuild).await? {
                Some(at) => ended = ended.max(at),
                None => return Ok(None),
            }
        }
        if decisions.len() < PAGE {
            return Ok(Some(ended));
        }
    }
}

/// When the neighbour accepted the rebuild's last attempt, if it did.
async fn accepted(core: &Core, rebuild: &Rebuild) -> Result<Option<Millis>> {
    if rebuild.state != RebuildState::Sending {
        return Ok(None);
    }
    let attempts = core.store.attempts(&rebuild.id).await?;
    Ok(attempts
        .iter()
        .find(|one| one.number == rebuild.attempt && one.outcome == "sent")
        .map(|one| one.ended))
}

/// One promotion in one wave.
struct Promoting<'a> {
    change: &'a Change,
    wave: &'a WaveId,
    generation: u32,
    reason: &'a Reason,
}

impl Promoting<'_> {
    fn skip(&self, dependent: &PackageName, reason: Reason) -> Decision {
        decide::decision(self.change, self.wave, dependent, reason, Vec::new())
    }
}

/// Rule 12's setting `highest`: a page of dependents, each with its highest published version that admits.
async fn highest_that_admit(
    core: &Core,
    promoting: &Promoting<'_>,
    origin: Option<&Version>,
    after: Option<&PackageName>,
    outcome: &mut Outcome,
) -> Result<(Vec<(PackageName, Version)>, Option<PackageName>)> {
    let change = promoting.change;
    let page = core.store.dependents(&change.name, after, PAGE).await?;
    let last = (page.len() == PAGE)
        .then(|| page.last().map(|edge| edge.dependent.clone()))
        .flatten();
    let mut pairs = Vec::new();
    let mut skips = Vec::new();
    for edge in page {
        if edge.range.is_none() {
            skips.push(promoting.skip(&edge.dependent, Reason::NoLongerDepends));
            continue;
        }
        let ranges = core.store.ranges(&change.name, &edge.dependent).await?;
        let admits = |range: &str| EdgeRange::of(range).admits(&change.version, origin);
        let highest = ranges
            .iter()
            .filter(|(range, _)| admits(range))
            .map(|(_, version)| version)
            .max()
            .cloned();
        match highest {
            Some(version) => pairs.push((edge.dependent, version)),
            None => skips.push(promoting.skip(&edge.dependent, Reason::OutOfRange)),
        }
    }
    write_decisions(core, change, &skips).await?;
    outcome.skips += u32::try_from(skips.len()).unwrap_or(u32::MAX);
    Ok((pairs, last))
}

/// Decides pairs and puts the work of those that are sent.
async fn send(
    core: &Core,
    promoting: &Promoting<'_>,
    pairs: &[(PackageName, Version)],
    outcome: &mut Outcome,
) -> Result<()> {
    let change = promoting.change;
    let before = before(core, change).await?;
    let later = later(core, promoting).await?;
    let mut decisions = Vec::new();
    let mut sent: Vec<(PackageName, Version)> = Vec::new();
    let mut writes = Vec::new();
    let mut work: Vec<Work> = Vec::new();
    for (dependent, version) in pairs {
        if let Some(by) = later.get(dependent).filter(|by| *by != version) {
            let reason = Reason::SupersededInPromotion { by: by.clone() };
            decisions.push(promoting.skip(dependent, reason));
            continue;
        }
        let before = before
            .as_ref()
            .and_then(|(env, entries)| Some((env, entries.get(dependent)?)));
        let (decision, started) = pair(core, promoting, dependent, version, before).await?;
        if let Some((key, rebuild, state)) = started {
            let index = rebuild::index(dependent, &key, &rebuild, core.clock.now());
            let node = NodeKey {
                package: dependent.clone(),
                version: Some(version.clone()),
            };
            let released = Node {
                released: Some(rebuild.id.clone()),
                ..Node::default()
            };
            writes.push(Write::Rebuild(index));
            writes.push(Write::Node(promoting.wave.clone(), node, released));
            if state == Started::New && !rebuild.state.is_ended() {
                work.push(rebuild::work(dependent, &key, &rebuild));
            }
        }
        if decision.is_rebuild() {
            sent.push((dependent.clone(), version.clone()));
        }
        decisions.push(decision);
    }
    supersede_earlier(core, promoting, &sent).await?;
    writes.extend(sent.iter().map(|(dependent, version)| Write::Entry {
        name: change.name.clone(),
        version: change.version.clone(),
        env: change.env.clone(),
        generation: promoting.generation,
        dependent: dependent.clone(),
        dependent_version: version.clone(),
    }));
    let kept = decisions
        .iter()
        .map(|one| Write::Decision(change.id.clone(), Box::new(one.clone())));
    writes.extend(kept);
    writes.extend(work.iter().cloned().map(Write::Work));
    core.store.write(writes).await?;
    let rebuilds = decisions
        .iter()
        .filter(|decision| decision.is_rebuild())
        .count();
    outcome.rebuilds += u32::try_from(rebuilds).unwrap_or(u32::MAX);
    outcome.skips += u32::try_from(decisions.len() - rebuilds).unwrap_or(u32::MAX);
    outcome.work.extend(work);
    Ok(())
}

/// What promotions of the package that came after this one sent there: this one was interrupted, and must not send an
/// older choice after theirs (rule 13).
async fn later(core: &Core, promoting: &Promoting<'_>) -> Result<BTreeMap<PackageName, Version>> {
    let change = promoting.change;
    let mut sent = BTreeMap::new();
    let promotions = core
        .store
        .promotions(&change.name, &change.env, EARLIER)
        .await?;
    // Latest first: the latest choice stays.
    for one in promotions {
        if one.generation <= promoting.generation {
            break;
        }
        let entries = core
            .store
            .promotion_entries(&change.name, &one.version, &change.env)
            .await?;
        for (dependent, version) in entries {
            sent.entry(dependent).or_insert(version);
        }
    }
    Ok(sent)
}

/// What the environment before got with this version, for drift (rule 13).
async fn before(
    core: &Core,
    change: &Change,
) -> Result<Option<(Env, BTreeMap<PackageName, Version>)>> {
    let Some(env) = core.rules.environments.before(&change.env) else {
        return Ok(None);
    };
    let entries = core
        .store
        .promotion_entries(&change.name, &change.version, env)
        .await?;
    Ok(Some((env.clone(), entries)))
}

/// Whether the rebuild that a pair waits for is its own or was under way.
#[derive(PartialEq, Eq)]
enum Started {
    New,
    Joined,
}

type Sent = (RowKey, Rebuild, Started);

async fn pair(
    core: &Core,
    promoting: &Promoting<'_>,
    dependent: &PackageName,
    version: &Version,
    before: Option<(&Env, &Version)>,
) -> Result<(Decision, Option<Sent>)> {
    let change = promoting.change;
    let key = RowKey::promotion(version, &change.env);
    let node = NodeKey {
        package: dependent.clone(),
        version: Some(version.clone()),
    };
    for _ in 0..REFUSALS {
        let there = core
            .store
            .latest_promotion(dependent, &change.env)
            .await?
            .map(|latest| latest.version);
        let mut rows = vec![key.clone(), RowKey::publish(version)];
        rows.extend(there.as_ref().map(RowKey::publish));
        let state = read(core, Want::rows(dependent, rows)).await?;
        let own = state.row(&key).and_then(|row| row.rebuild.clone());
        if let Some(own) = own
            .as_ref()
            .filter(|own| own.waves.contains(promoting.wave))
        {
            return Ok(if own.decision.wave == *promoting.wave {
                if own.change == change.id {
                    (own.decision.clone(), Some((key, own.clone(), Started::New)))
                } else {
                    (promoting.skip(dependent, Reason::AlreadyInWave), None)
                }
            } else {
                // Joined before a crash: what follows may not be there.
                let decision = joined(promoting, dependent, own);
                (decision, Some((key, own.clone(), Started::Joined)))
            });
        }
        let node = core
            .store
            .nodes(promoting.wave, std::slice::from_ref(&node))
            .await?
            .pop();
        if node.is_some_and(|node| node.released.is_some()) {
            return Ok((promoting.skip(dependent, Reason::AlreadyInWave), None));
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
            reason: promoting.reason.clone(),
            accepted_long_ago,
        };
        let (commit, rebuild, started) = match decide::pair(
            &asked,
            change,
            promoting.wave,
            RebuildId::fresh(),
            core.clock.now(),
        ) {
            Step::Skip(reason, flags) => {
                return Ok((
                    decide::decision(change, promoting.wave, dependent, reason, flags),
                    None,
                ));
            }
            Step::Send(sent) => (sent.0, sent.1, Started::New),
            Step::Join(joined) => (joined.0, joined.1, Started::Joined),
        };
        if core.store.commit(vec![commit]).await?.first() == Some(&Committed::Applied) {
            let decision = match started {
                Started::New => rebuild.decision.clone(),
                Started::Joined => joined(promoting, dependent, &rebuild),
            };
            return Ok((decision, Some((key, rebuild, started))));
        }
    }
    Err(contention(dependent))
}

/// The decision to wait for a rebuild that another wave started.
fn joined(promoting: &Promoting<'_>, dependent: &PackageName, rebuild: &Rebuild) -> Decision {
    Decision {
        base: Some(rebuild.base.clone()),
        version: Some(rebuild.base.clone()),
        rebuild: Some(rebuild.id.clone()),
        ..promoting.skip(dependent, promoting.reason.clone())
    }
}

fn is_long_ago(core: &Core, accepted: Option<Millis>) -> bool {
    let window = Millis::try_from(core.rules.duplicate_window.as_millis()).unwrap_or(Millis::MAX);
    accepted.is_some_and(|at| at.saturating_add(window) <= core.clock.now())
}

/// Ends what earlier promotions of the package still have to send there at another version (rule 13).
async fn supersede_earlier(
    core: &Core,
    promoting: &Promoting<'_>,
    sent: &[(PackageName, Version)],
) -> Result<()> {
    let change = promoting.change;
    let mut seen: Vec<Version> = vec![change.version.clone()];
    for earlier in core
        .store
        .promotions(&change.name, &change.env, EARLIER)
        .await?
    {
        if earlier.generation >= promoting.generation || seen.contains(&earlier.version) {
            continue;
        }
        let entries = core
            .store
            .promotion_entries(&change.name, &earlier.version, &change.env)
            .await?;
        for (dependent, version) in sent {
            let Some(other) = entries.get(dependent).filter(|other| *other != version) else {
                continue;
            };
            let key = RowKey::promotion(other, &change.env);
            let state = read(core, Want::rows(dependent, vec![key])).await?;
            if let Some(commit) = decide::supersede(&state, other, change) {
                // Refused means that it was claimed meanwhile: then it is sent, in its order, before ours.
                core.store.commit(vec![commit]).await?;
            }
        }
        seen.push(earlier.version);
    }
    Ok(())
}

/// A skip for every dependent that is not in the line (rule 12).
async fn skip_the_others(
    core: &Core,
    promoting: &Promoting<'_>,
    outcome: &mut Outcome,
) -> Result<()> {
    let change = promoting.change;
    let mut after: Option<PackageName> = None;
    loop {
        let page = core
            .store
            .dependents(&change.name, after.as_ref(), PAGE)
            .await?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            return Ok(());
        };
        let in_line = line_between(core, change, &first.dependent, &last.dependent).await?;
        let skips: Vec<Decision> = page
            .iter()
            .filter(|edge| edge.range.is_some() && !in_line.contains_key(&edge.dependent))
            .map(|edge| promoting.skip(&edge.dependent, Reason::NotInReleaseLine))
            .collect();
        write_decisions(core, change, &skips).await?;
        outcome.skips += u32::try_from(skips.len()).unwrap_or(u32::MAX);
        if page.len() < PAGE {
            return Ok(());
        }
        after = Some(last.dependent.clone());
    }
}

/// The entries of the change's line from `first` to `last`.
async fn line_between(
    core: &Core,
    change: &Change,
    first: &PackageName,
    last: &PackageName,
) -> Result<BTreeMap<PackageName, Version>> {
    let mut entries = BTreeMap::new();
    let mut after: Option<PackageName> = None;
    loop {
        let page = core
            .store
            .line_dependents(&change.name, &change.version, after.as_ref(), PAGE)
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

async fn write_decisions(core: &Core, change: &Change, decisions: &[Decision]) -> Result<()> {
    let kept = decisions
        .iter()
        .map(|one| Write::Decision(change.id.clone(), Box::new(one.clone())));
    Ok(core.store.write(kept.collect()).await?)
}
