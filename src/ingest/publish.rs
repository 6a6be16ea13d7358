//! Planning a publish (rules 7, 8, 11).

use std::collections::{BTreeMap, BTreeSet};

use super::explore::explore;
use super::{Core, Outcome, Parents, REFUSALS, Result, another, contention, packages, read, wave};
use crate::graph::Origin;
use crate::model::change::{Change, Verdict};
use crate::model::decision::Decision;
use crate::model::edge::{Edge, EdgeRange};
use crate::model::id::{ChangeId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{
    Cause, Facts, Kind, PackageState, Rebuild, RebuildState, RowKey, Stamp, millis,
};
use crate::model::wave::Start;
use crate::plan::applied::applied;
use crate::plan::attach::{self, Settling};
use crate::plan::publish::{self, Described, Source, Step};
use crate::semver::Version;
use crate::store::{Committed, NodeKey, Projection, Want, Write};

/// Handles the notice of a publish. The steps, each repeatable:
/// 1. the facts of the version, in one batch of its package;
/// 2. its edges;
/// 3. what it goes with (read only now, H5), and its line;
/// 4. what the rebuilds that it superseded need;
/// 5. its dependents.
pub(super) async fn plan(
    core: &Core,
    change: &Change,
    described: &Described,
    json: &[u8],
) -> Result<Outcome> {
    let source = Source::Notice(change.id.clone());
    let (state, facts) = establish(core, described, &source, json).await?;
    if let Some(of) = long_ago(core, change, &facts) {
        return Ok(Outcome::of(Verdict::Duplicate { of }));
    }
    if facts.notice.as_ref() != Some(&change.id) {
        // It was published under another tag before, and stays what it is (rule 1).
        return Ok(Outcome::of(verdict_of_repeat(change, &facts)));
    }
    let edges = publish::edge_projections(&state, described, &facts);
    project(core, facts.stamp, edges).await?;

    let answered = answered(&state, change);
    let waves: Vec<WaveId> = match &answered {
        Some(rebuild) => rebuild.waves.iter().cloned().collect(),
        None => Vec::new(),
    };

    let mut parents = Parents::default();
    let (state, facts) = settle(
        core,
        &mut parents,
        described,
        facts,
        answered.as_ref().map(|_| &waves[..]),
        state,
    )
    .await?;
    let stamped = |stamp: Stamp| move |one: Projection| Write::Projection(stamp, one);
    let lines = publish::line_projections(&state, &described.version, &facts);
    let attachments = attach::projections(&state, &described.version, &facts);
    let writes: Vec<Write> = lines
        .into_iter()
        .map(stamped(facts.stamp))
        .chain(attachments.into_iter().map(stamped(facts.attach_stamp)))
        .collect();
    core.store.write(writes).await?;

    let mut outcome = Outcome::default();
    if let Some(rebuild) = publish::needs_another(&state, &described.version) {
        let another = another(core, &rebuild, "published by hand").await?;
        outcome.work.extend(another);
    }
    if let Some(tag) = &described.tag
        && answered.is_none()
    {
        outcome.verdict = Some(Verdict::Tagged { tag: tag.clone() });
        return Ok(outcome);
    }
    let cause = Cause {
        parent: described.name.clone(),
        version: described.version.clone(),
        origin: facts.origin.clone(),
    };
    let waves = match &answered {
        Some(_) => waves,
        None => places(core, described, &facts).await?,
    };
    if !waves.is_empty() {
        go_on(
            core,
            &mut parents,
            change,
            &facts,
            &cause,
            &waves,
            &mut outcome,
        )
        .await?;
        outcome.verdict = Some(match &answered {
            Some(rebuild) => Verdict::Answers {
                rebuild: rebuild.id.clone(),
                waves,
            },
            None => Verdict::TookPlace {
                rebuilds: facts.took_place.clone(),
                waves,
            },
        });
        return Ok(outcome);
    }
    if core.rules.settle.is_zero() {
        own_wave(core, &mut parents, change, &cause, &mut outcome).await?;
        outcome.verdict = Some(Verdict::Opened);
    } else {
        let joined = wave::join(core, change, &cause).await?;
        outcome.work.extend(joined.work);
        outcome.verdict = Some(Verdict::Joined { wave: joined.wave });
    }
    Ok(outcome)
}

/// The rebuild that the publish is the notice of.
pub(super) fn answered(state: &PackageState, change: &Change) -> Option<Rebuild> {
    let rebuild = state
        .row(&RowKey::publish(&change.version))?
        .rebuild
        .as_ref();
    let is_notice = |rebuild: &&Rebuild| {
        rebuild.state == RebuildState::Published
            && rebuild.confirmed_by.as_ref() == Some(&change.id)
    };
    rebuild.filter(is_notice).cloned()
}

/// What follows in the waves that the version is a node of.
async fn go_on(
    core: &Core,
    parents: &mut Parents,
    change: &Change,
    facts: &Facts,
    cause: &Cause,
    waves: &[WaveId],
    outcome: &mut Outcome,
) -> Result<()> {
    let key = NodeKey::package(&cause.parent);
    let node = wave::after_notice(core, &cause.parent, &cause.version, &change.env).await?;
    if let Some(node) = &node {
        let nodes = waves
            .iter()
            .map(|wave| Write::Node(wave.clone(), key.clone(), node.clone()));
        core.store.write(nodes.collect()).await?;
    }
    let lines = facts.attach.clone().unwrap_or_default();
    let sends = wave::attached(core, &cause.parent, &cause.version, &lines).await?;
    outcome.work.extend(sends);
    if node.is_some() {
        for wave in waves {
            wave::advance(
                core,
                parents,
                wave,
                std::slice::from_ref(&key),
                Some(&change.id),
                outcome,
            )
            .await?;
        }
    }
    Ok(())
}

/// Opens the wave of a publish by hand and takes its first steps; without anything to rebuild there is none.
async fn own_wave(
    core: &Core,
    parents: &mut Parents,
    change: &Change,
    cause: &Cause,
    outcome: &mut Outcome,
) -> Result<()> {
    let id = WaveId::from(&change.id);
    if let Some(there) = wave::planned(core, &id).await? {
        outcome
            .work
            .push(wave::begin(core, &there, std::slice::from_ref(cause)).await?);
    } else {
        let origin = Origin {
            cause: cause.clone(),
            reach: true,
        };
        let affected = explore(core, vec![origin], Vec::new()).await?;
        if affected.nodes.is_empty() {
            let skips = affected.skips.iter().map(|skip| Decision {
                dependent: skip.edge.dependent.clone(),
                wave: id.clone(),
                env: change.env.clone(),
                parent: cause.parent.clone(),
                parent_version: cause.version.clone(),
                also: Vec::new(),
                range: skip.edge.range.clone(),
                top: Some(skip.edge.top.clone()),
                base: None,
                version: None,
                rebuild: None,
                reason: skip.reason.clone(),
                flags: Vec::new(),
            });
            let writes: Vec<Write> = skips
                .map(|skip| Write::Decision(change.id.clone(), Box::new(skip)))
                .collect();
            outcome.decided |= !writes.is_empty();
            if !writes.is_empty() {
                core.store.write(writes).await?;
            }
            return Ok(());
        }
        let opening = wave::Opening {
            id: id.clone(),
            env: change.env.clone(),
            kind: Kind::Publish,
            start: Start::Publish {
                first: cause.parent.clone(),
                origins: vec![cause.clone()],
            },
            change: change.id.clone(),
            promote: change.promote,
            origins: vec![cause.clone()],
            pending_on: Vec::new(),
        };
        let nodes = affected.into_plan();
        let (_, tick) = wave::open(core, opening, nodes).await?;
        outcome.work.push(tick);
    }
    let key = NodeKey::package(&cause.parent);
    wave::advance(core, parents, &id, &[key], Some(&change.id), outcome).await
}

/// The open waves in which a publish by hand takes the place of a node (rule 14, H10): its rebuild was not sent yet and is
/// superseded by this one; or it was to be released, and this version was built with all that it waited for.
pub(super) async fn places(
    core: &Core,
    described: &Described,
    facts: &Facts,
) -> Result<Vec<WaveId>> {
    let mut asked: BTreeSet<WaveId> = BTreeSet::new();
    for index in core
        .store
        .rebuilds(&facts.took_place)
        .await?
        .into_iter()
        .flatten()
    {
        let state = read(core, Want::rows(&described.name, vec![index.key.clone()])).await?;
        let rebuild = state.row(&index.key).and_then(|row| row.rebuild.as_ref());
        asked.extend(
            rebuild
                .into_iter()
                .flat_map(|one| one.waves.iter().cloned()),
        );
    }
    let superseded = asked.clone();
    for (parent, version) in facts.with.iter().flatten() {
        asked.extend(wave::waves_of(core, parent, version).await?);
    }
    let mut places = Vec::new();
    for id in asked {
        let Some(wave) = wave::load(core, &id).await? else {
            continue;
        };
        let takes = wave::takes_place(core, &wave, described, facts, superseded.contains(&id));
        if takes.await? {
            places.push(id);
        }
    }
    Ok(places)
}

/// The change that handled this publish so long ago that what came of it may be forgotten by now: nothing would tell
/// which dependents were rebuilt then (H19).
pub(super) fn long_ago(core: &Core, change: &Change, facts: &Facts) -> Option<ChangeId> {
    let half = millis(core.rules.retain / 2);
    let first = facts.noticed?;
    (change.accepted.saturating_sub(first) > half)
        .then(|| facts.notice.clone().unwrap_or_else(|| change.id.clone()))
}

/// Writes projections with the stamp of the batch that decided them.
pub(super) async fn project(core: &Core, stamp: Stamp, projections: Vec<Projection>) -> Result<()> {
    if projections.is_empty() {
        return Ok(());
    }
    let writes = projections
        .into_iter()
        .map(|one| Write::Projection(stamp, one))
        .collect();
    Ok(core.store.write(writes).await?)
}

/// What a publish is whose version another publish noticed, or that is known under `latest` without a notice.
pub(super) fn verdict_of_repeat(change: &Change, facts: &Facts) -> Verdict {
    match (&facts.notice, &change.tag) {
        (None, Some(tag)) => Verdict::Tagged { tag: tag.clone() },
        (noticed_by, _) => Verdict::Duplicate {
            of: noticed_by.clone().unwrap_or_else(|| change.id.clone()),
        },
    }
}

/// Makes the facts of a version durable, once, and returns them with the partition as it is afterwards. The graph in memory
/// hears what the package's highest version is.
pub(super) async fn establish(
    core: &Core,
    described: &Described,
    source: &Source,
    json: &[u8],
) -> Result<(PackageState, Facts)> {
    let (state, facts) = establish_facts(core, described, source, json).await?;
    if let Some(top) = &state.top {
        core.impact.note(&state.name, top);
    }
    Ok((state, facts))
}

async fn establish_facts(
    core: &Core,
    described: &Described,
    source: &Source,
    json: &[u8],
) -> Result<(PackageState, Facts)> {
    let mut kept = false;
    for _ in 0..REFUSALS {
        let state = read(core, publish::want(described)).await?;
        match publish::step(&state, described, source, core.clock.now()) {
            Step::Done => {
                if let Some(facts) = state.facts(&described.version).cloned() {
                    return Ok((state, facts));
                }
            }
            Step::Commit(commit) => {
                if let Some(digest) = described.digest.as_ref().filter(|_| !kept) {
                    let manifest = Write::Manifest {
                        name: described.name.clone(),
                        version: described.version.clone(),
                        digest: digest.clone(),
                        json: json.to_vec(),
                    };
                    core.store.write(vec![manifest]).await?;
                    kept = true;
                }
                let answers = core.store.commit(vec![commit.as_ref().clone()]).await?;
                if answers.first() != Some(&Committed::Applied) {
                    continue;
                }
                let state = applied(state, &commit);
                if let Some(facts) = state.facts(&described.version).cloned() {
                    return Ok((state, facts));
                }
            }
        }
    }
    Err(contention(&described.name))
}

/// Decides what the version goes with (rule 11), unless that is decided: a rebuild with the parents published in its
/// waves, a publish by hand with every managed parent's highest version that it admits; only lines that exist.
async fn settle(
    core: &Core,
    parents: &mut Parents,
    described: &Described,
    facts: Facts,
    waves: Option<&[WaveId]>,
    state: PackageState,
) -> Result<(PackageState, Facts)> {
    if facts.attach.is_some() {
        return Ok((state, facts));
    }
    let with = built_with(core, parents, described).await?;
    let (lines, own) = match (&described.tag, waves) {
        (Some(_), _) => (BTreeMap::new(), None),
        (None, None) => with_lines(core, described, &with).await?,
        (None, Some(waves)) => published_in(core, described, waves).await?,
    };
    // What is known of the package is what the first batch made of it, if no other has been applied since.
    let mut next = Some(state);
    if let Some(own) = own {
        next = next.filter(|state| state.seq == own.seq);
        if let Some(state) = &mut next {
            state.attached = own.attached;
        }
    }
    for _ in 0..REFUSALS {
        let state = match next.take() {
            Some(state) => state,
            None => read(core, publish::want(described).attached_to(&lines)).await?,
        };
        let managed = |name: &PackageName| parents.tops.get(name).is_some_and(Option::is_some);
        let settling = Settling {
            with: with.clone(),
            lines: lines.clone(),
            dependent_of: attach::dependent_of(
                state.dependent_of.as_ref(),
                &described.edges,
                managed,
            ),
        };
        let commit = attach::settle(&state, &described.version, &settling, core.clock.now());
        let state = match commit {
            None => state,
            Some(commit) => match core.store.commit(vec![commit.clone()]).await?.first() {
                Some(Committed::Applied) => applied(state, &commit),
                _ => continue,
            },
        };
        let facts = state.facts(&described.version).cloned();
        if let Some(facts) = facts.filter(|facts| facts.attach.is_some()) {
            return Ok((state, facts));
        }
    }
    Err(contention(&described.name))
}

/// Per managed parent, the highest version that it has and this one admits.
pub(super) async fn built_with(
    core: &Core,
    parents: &mut Parents,
    described: &Described,
) -> Result<BTreeMap<PackageName, Version>> {
    let others: Vec<_> = described
        .edges
        .iter()
        .filter(|edge| edge.parent != described.name)
        .collect();
    parents.foresee(core, &others).await?;
    let mut with = BTreeMap::new();
    for edge in &others {
        if let Some(version) = parents.highest(core, &edge.parent, &edge.range).await? {
            with.insert(edge.parent.clone(), version);
        }
    }
    Ok(with)
}

/// The lines that a version could go with, and what its own package says of them; nothing if there are none.
type Lines = (BTreeMap<PackageName, Version>, Option<PackageState>);

/// Reads the rows of these versions and, in the same go, what the package's own partition says of their lines: the
/// states of the parents in order, and the package's own.
async fn parents_and_own(
    core: &Core,
    described: &Described,
    parents: &[(&PackageName, &Version)],
) -> Result<(Vec<PackageState>, Option<PackageState>)> {
    let mut wants: Vec<Want> = parents
        .iter()
        .map(|(parent, version)| Want::rows(parent, vec![RowKey::publish(version)]))
        .collect();
    if wants.is_empty() {
        return Ok((Vec::new(), None));
    }
    wants.push(Want::statics(&described.name).attached_to(parents.iter().copied()));
    let mut states = packages(core, &wants).await?;
    let own = states.pop();
    Ok((states, own))
}

/// A version has a release line if its publish was noticed; the line may be about to be written.
fn has_line(state: &PackageState, version: &Version) -> bool {
    state
        .facts(version)
        .is_some_and(|facts| facts.noticed.is_some())
}

/// Those of these versions that have a release line.
async fn with_lines(
    core: &Core,
    described: &Described,
    wanted: &BTreeMap<PackageName, Version>,
) -> Result<Lines> {
    let wanted: Vec<_> = wanted.iter().collect();
    let (states, own) = parents_and_own(core, described, &wanted).await?;
    let lines = wanted
        .into_iter()
        .zip(&states)
        .filter(|((_, version), state)| has_line(state, version))
        .map(|((parent, version), _)| (parent.clone(), version.clone()))
        .collect();
    Ok((lines, own))
}

/// The parents that were published in these waves at a version that this one admits, each at the highest, if that one
/// has a release line.
async fn published_in(core: &Core, described: &Described, waves: &[WaveId]) -> Result<Lines> {
    let keys: Vec<NodeKey> = described
        .edges
        .iter()
        .map(|edge| NodeKey {
            package: edge.parent.clone(),
            version: None,
        })
        .collect();
    let mut published: Vec<(&Edge, Version)> = Vec::new();
    for wave in waves {
        let nodes = core.store.nodes(wave, &keys).await?;
        let of_wave = described
            .edges
            .iter()
            .zip(nodes)
            .filter(|(edge, _)| edge.parent != described.name)
            .filter_map(|(edge, node)| Some((edge, node.published?)));
        published.extend(of_wave);
    }
    let wanted: Vec<_> = published
        .iter()
        .map(|(edge, version)| (&edge.parent, version))
        .collect();
    let (states, own) = parents_and_own(core, described, &wanted).await?;
    let mut found: BTreeMap<PackageName, (&Version, bool)> = BTreeMap::new();
    for ((edge, version), state) in published.iter().zip(&states) {
        let origin = state.facts(version).and_then(|facts| facts.origin.as_ref());
        if !EdgeRange::of(&edge.range).admits(version, origin) {
            continue;
        }
        let one = (version, has_line(state, version));
        let highest = found.entry(edge.parent.clone()).or_insert(one);
        if highest.0 < version {
            *highest = one;
        }
    }
    let lines = found
        .into_iter()
        .filter(|(_, (_, has_line))| *has_line)
        .map(|(parent, (version, _))| (parent, version.clone()))
        .collect();
    Ok((lines, own))
}

impl Want {
    /// Also what the package is attached to of these lines.
    fn attached_to<'a>(
        mut self,
        lines: impl IntoIterator<Item = (&'a PackageName, &'a Version)>,
    ) -> Self {
        let keys = lines.into_iter();
        self.attached = keys
            .map(|(parent, version)| (parent.clone(), version.clone()))
            .collect();
        self
    }
}
