//! What a publish does to its own package (rules 1, 3-7; H4, H11, H19, H21).
//!
//! One conditional batch holds every decision: the facts of the version, whether it becomes the head and the highest,
//! the edge summary, and which waiting rebuilds it supersedes. Everything that others read (edges, lines) is projected
//! from the facts afterwards, and can be projected again from them after a crash.

use std::collections::{BTreeSet, HashSet};

use crate::model::decision::Reason;
use crate::model::edge::{Edge, EdgeRange};
use crate::model::id::{ChangeId, Digest, RebuildId};
use crate::model::name::PackageName;
use crate::model::package::{
    Cause, Facts, Head, Millis, PackageState, Rebuild, RebuildState, Row, RowKey, Stamp, Top,
};
use crate::semver::{Release, Version};
use crate::store::{
    Dependent, Expect, Line, PackageCommit, Projection, RebuildPatch, RowWrite, Want, WantOpen,
};

/// A version as a document describes it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The package.
    pub name: PackageName,
    /// The version.
    pub version: Version,
    /// The dist-tag, if not `latest`.
    pub tag: Option<String>,
    /// What it declares (rules 3, 4), in package.json order.
    pub edges: Vec<Edge>,
    /// Its stored manifest document; `None` if no document was posted.
    pub digest: Option<Digest>,
}

/// Whether a version becomes known by its publish notice, or merely known by an import or a promotion (H4).
#[derive(Clone, Debug)]
pub enum Source {
    /// The notice of its publish: makes the line and moves the head.
    Notice(ChangeId),
    /// An import or a promotion: the tarball exists, the publish was not handled.
    Known,
}

/// What to read before [`step`].
pub fn want(described: &Described) -> Want {
    let version = &described.version;
    let mut rows = vec![RowKey::publish(version)];
    rows.extend(version.increment_of().as_ref().map(RowKey::publish));
    Want {
        name: described.name.clone(),
        top_edges: true,
        rows,
        open: WantOpen::All,
        taken: Vec::new(),
        prefixes: adopted_prefix(version).into_iter().collect(),
        edges: described
            .edges
            .iter()
            .map(|edge| (edge.parent.clone(), edge.range.clone()))
            .collect(),
        attached: Vec::new(),
    }
}

/// X.Y.Z published by hand is the origin of the X.Y.(Z+1)-N that came before it.
fn adopted_prefix(version: &Version) -> Option<String> {
    if version.is_prerelease() {
        return None;
    }
    version
        .inc(Release::Patch)
        .ok()
        .map(|next| format!("{next}-"))
}

/// What a publish comes to.
#[derive(Clone, Debug)]
pub enum Step {
    /// These facts are there already: go on with what follows from them.
    Done,
    /// Apply this batch, then read again.
    Commit(Box<PackageCommit>),
}

/// Decides the batch of a publish, an import or a promotion's first sight of a version. `now` in milliseconds.
pub fn step(state: &PackageState, described: &Described, source: &Source, now: Millis) -> Step {
    let key = RowKey::publish(&described.version);
    let row = state.row(&key);
    let known = row.and_then(|row| row.facts.as_ref());
    let notice = match source {
        Source::Notice(change) => Some(change),
        Source::Known => None,
    };
    // `npm dist-tag add`: what came under a tag of its own is published under `latest` now. Never the other way round.
    let raised = notice
        .and(known)
        .filter(|facts| facts.noticed.is_some() && facts.tag.is_some() && described.tag.is_none());
    // Its line came with an import: nobody told us of its publish yet (H4), but line and head stay as they are.
    let imported = notice.and(known).filter(|facts| {
        facts.noticed.is_some()
            && facts.notice.is_none()
            && facts.tag.is_none()
            && described.tag.is_none()
    });
    let done = |facts: &Facts| {
        notice.is_none()
            || (facts.noticed.is_some() && imported.is_none())
            || (facts.tag.is_none() && described.tag.is_some())
    };
    if raised.is_none() && known.is_some_and(done) {
        return Step::Done;
    }

    let answered = notice.and(row).and_then(answered_by_notice);
    let mut commit = PackageCommit::at(&state.name, state.seq);
    let stamp = next_stamp(state, now);
    commit.statics.stamp = Some(stamp);

    let origin = match answered {
        Some(rebuild) => Some(rebuild.origin.clone()),
        None => known.and_then(|facts| facts.origin.clone()).or_else(|| {
            described
                .version
                .increment_of()
                .filter(|origin| state.facts(origin).is_some())
        }),
    };
    let (dropped, top) = new_top(state, described, origin.as_ref());
    commit.statics.top = top;
    if described.tag.is_none() {
        for edge in &described.edges {
            let highest = state.edges.get(&(edge.parent.clone(), edge.range.clone()));
            if highest.is_none_or(|highest| *highest < described.version) {
                commit.edges.push((
                    edge.parent.clone(),
                    edge.range.clone(),
                    described.version.clone(),
                ));
            }
        }
    }

    // Without edges there is no parent to wait for (H5): what it goes with is decided here.
    let alone = notice.is_some() && described.edges.is_empty();
    // What an import attached it to stays.
    let kept = known.filter(|facts| raised.is_none() && facts.attach.is_some());
    let mut facts = Facts {
        noticed: notice.map(|_| now),
        notice: notice.cloned(),
        digest: described
            .digest
            .clone()
            .or_else(|| known.and_then(|facts| facts.digest.clone())),
        tag: described.tag.clone(),
        origin,
        previous: None,
        tarball_of: answered
            .map(|rebuild| rebuild.tarball_of.clone())
            .or_else(|| known.and_then(|facts| facts.tarball_of.clone())),
        stamp,
        dropped,
        took_place: Vec::new(),
        with: answered
            .map(|rebuild| rebuild.with.clone())
            .or_else(|| kept.and_then(|facts| facts.with.clone()))
            .or_else(|| alone.then(Default::default)),
        attach: kept
            .and_then(|facts| facts.attach.clone())
            .or_else(|| alone.then(Default::default)),
        attach_stamp: match kept {
            Some(facts) => facts.attach_stamp,
            None if alone => stamp,
            None => 0,
        },
    };
    if alone && described.tag.is_none() && state.dependent_of.is_some() {
        commit.statics.dependent_of = Some(None);
    }
    if let Some(imported) = imported {
        facts.previous.clone_from(&imported.previous);
    } else if notice.is_some() {
        let born = row
            .filter(|_| raised.is_none())
            .map_or(state.seq, |row| row.born);
        decide_head(state, described, born, &mut facts, &mut commit);
    }

    let mut write = RowWrite::new(key, Expect::Nothing, state.seq);
    if let Some(rebuild) = answered {
        write.expect = as_it_is(rebuild);
        write.patch = Some(RebuildPatch {
            state: Some(RebuildState::Published),
            confirmed_by: notice.cloned(),
            ..RebuildPatch::default()
        });
        let waves = state
            .open
            .iter()
            .filter(|(_, version)| **version == described.version);
        commit
            .statics
            .close
            .extend(waves.map(|(wave, _)| wave.clone()));
    } else if notice.is_some() && described.tag.is_none() {
        supersede(state, described, &mut facts, &mut commit, &mut write);
    } else if let Some(rebuild) = row
        .and_then(|row| row.rebuild.as_ref())
        .filter(|rebuild| !rebuild.state.is_ended())
    {
        // An import or a tagged publish of a version we hold: it stays what it is, but not behind our back.
        write.expect = as_it_is(rebuild);
    }
    write.facts = Some(facts);
    commit.rows.push(write);
    adopt(state, described, &mut commit);
    Step::Commit(Box::new(commit))
}

/// The rebuild that a notice of this row's version answers: one of ours whose first attempt has begun (H12, H24).
fn answered_by_notice(row: &Row) -> Option<&Rebuild> {
    row.rebuild.as_ref().filter(|rebuild| {
        rebuild.attempt >= 1
            && !matches!(
                rebuild.state,
                RebuildState::Foreign | RebuildState::Published
            )
    })
}

fn as_it_is(rebuild: &Rebuild) -> Expect {
    Expect::Rebuild {
        id: rebuild.id.clone(),
        state: rebuild.state,
        attempt: rebuild.attempt,
    }
}

fn next_stamp(state: &PackageState, now: Millis) -> Stamp {
    (state.stamp + 1).max(now.saturating_mul(1000))
}

/// Whether the version becomes the package's highest: then what it declares, and which parents fall away.
fn new_top(
    state: &PackageState,
    described: &Described,
    origin: Option<&Version>,
) -> (Option<Vec<PackageName>>, Option<Top>) {
    let is_top = described.tag.is_none()
        && state
            .top
            .as_ref()
            .is_none_or(|top| top.version <= described.version);
    if !is_top {
        return (None, None);
    }
    let declared = parents_of(&described.edges);
    let before = state
        .top
        .iter()
        .flat_map(|top| &top.edges)
        .map(|edge| &edge.parent);
    // If the version was known before, what it dropped then may not have been projected yet.
    let known = state.facts(&described.version);
    let dropped_before = known.and_then(|facts| facts.dropped.as_ref());
    let dropped: BTreeSet<PackageName> = before
        .chain(dropped_before.into_iter().flatten())
        .filter(|parent| !declared.contains(parent))
        .cloned()
        .collect();
    let dropped = dropped.into_iter().collect();
    let top = Top {
        version: described.version.clone(),
        origin: origin.cloned(),
        edges: described.edges.clone(),
    };
    (Some(dropped), Some(top))
}

fn parents_of(edges: &[Edge]) -> HashSet<&PackageName> {
    edges.iter().map(|edge| &edge.parent).collect()
}

/// Rule 7 and H19: the head becomes X unless it was born after X; a version under another tag never becomes head.
fn decide_head(
    state: &PackageState,
    described: &Described,
    born: u64,
    facts: &mut Facts,
    commit: &mut PackageCommit,
) {
    facts.previous = state.head.as_ref().map(|head| head.version.clone());
    let head_is_younger = state.head.as_ref().is_some_and(|head| head.born > born);
    if described.tag.is_none() && !head_is_younger {
        commit.statics.head = Some(Head {
            version: described.version.clone(),
            born,
        });
    }
}

/// H11: a publish by hand ends the queued rebuilds whose node would now take it as base, and one that holds its very
/// version without having been sent. A reservation that it does not take the place of stays in `open` with its ended
/// rebuild: the mark that the node needs another version.
fn supersede(
    state: &PackageState,
    described: &Described,
    facts: &mut Facts,
    commit: &mut PackageCommit,
    own: &mut RowWrite,
) {
    let queued = state.open.values().collect::<BTreeSet<_>>();
    for version in queued {
        let key = RowKey::publish(version);
        let Some(rebuild) = state.row(&key).and_then(|row| row.rebuild.as_ref()) else {
            continue;
        };
        // A dead one too: a retry must not bring it back after the publish (H24).
        let unsent = matches!(rebuild.state, RebuildState::Queued | RebuildState::Dead);
        if !unsent || *version > described.version {
            continue;
        }
        let takes_place = would_be_base(state, described, rebuild);
        let same = *version == described.version;
        if !takes_place && !same {
            continue;
        }
        let patch = RebuildPatch {
            state: Some(RebuildState::Superseded),
            ended_because: Some(format!(
                "{}@{} was published by hand",
                described.name, described.version
            )),
            ..RebuildPatch::default()
        };
        if takes_place {
            facts.took_place.push(rebuild.id.clone());
            let waves = state
                .open
                .iter()
                .filter(|(_, reserved)| *reserved == version);
            commit
                .statics
                .close
                .extend(waves.map(|(wave, _)| wave.clone()));
        }
        if same {
            own.expect = as_it_is(rebuild);
            own.patch = Some(patch);
        } else {
            commit.rows.push(RowWrite {
                patch: Some(patch),
                ..RowWrite::new(key, as_it_is(rebuild), state.seq)
            });
        }
    }
}

/// Whether the node of this rebuild would now choose the published version as base (rule 8), or nothing at all because
/// it is the highest and dropped the dependency (rule 5).
fn would_be_base(state: &PackageState, described: &Described, rebuild: &Rebuild) -> bool {
    let is_top = state
        .top
        .as_ref()
        .is_none_or(|top| top.version <= described.version);
    let base_is_top = state
        .top
        .as_ref()
        .is_some_and(|top| top.version == rebuild.base);
    if described.version <= rebuild.base || (!is_top && base_is_top) {
        return false;
    }
    let settles = |cause: &Cause| {
        let edge = described
            .edges
            .iter()
            .find(|edge| edge.parent == cause.parent);
        edge.map_or(is_top, |edge| {
            EdgeRange::of(&edge.range).admits(&cause.version, cause.origin.as_ref())
        })
    };
    !rebuild.cause.is_empty() && rebuild.cause.iter().all(settles)
}

/// Increments of this version that were known before it was are ours from now on (design.md 3).
fn adopt(state: &PackageState, described: &Described, commit: &mut PackageCommit) {
    if adopted_prefix(&described.version).is_none() {
        return;
    }
    for row in &state.rows {
        let Some(facts) = row.facts.as_ref().filter(|facts| facts.origin.is_none()) else {
            continue;
        };
        if row.key.version.increment_of().as_ref() != Some(&described.version) {
            continue;
        }
        let origin = Some(described.version.clone());
        let adopted = Facts {
            origin: origin.clone(),
            ..facts.clone()
        };
        match commit.rows.iter_mut().find(|write| write.key == row.key) {
            Some(write) => write.facts = Some(adopted),
            None => commit.rows.push(RowWrite {
                facts: Some(adopted),
                ..RowWrite::new(row.key.clone(), Expect::Nothing, row.born)
            }),
        }
        if commit.statics.top.is_none()
            && let Some(top) = state
                .top
                .as_ref()
                .filter(|top| top.version == row.key.version)
        {
            commit.statics.top = Some(Top {
                origin,
                ..top.clone()
            });
        }
    }
}

/// The projections of a version's edges, from its facts and the partition as it is after its batch; the same however
/// often they are made. With `facts.stamp`. A range that a higher version declares too is that version's to project.
pub fn edge_projections(
    state: &PackageState,
    described: &Described,
    facts: &Facts,
) -> Vec<Projection> {
    let mut projections = Vec::new();
    if facts.tag.is_some() {
        return projections;
    }
    for edge in &described.edges {
        let highest = state.edges.get(&(edge.parent.clone(), edge.range.clone()));
        if highest != Some(&described.version) {
            continue;
        }
        projections.push(Projection::Range {
            parent: edge.parent.clone(),
            dependent: described.name.clone(),
            range: edge.range.clone(),
            version: described.version.clone(),
        });
    }
    let mut edge = |parent: &PackageName, top: &Version, range: Option<String>| {
        projections.push(Projection::Dependent {
            parent: parent.clone(),
            row: Dependent {
                dependent: described.name.clone(),
                top: top.clone(),
                range,
            },
        });
    };
    if let Some(dropped) = &facts.dropped {
        let declared = described
            .edges
            .iter()
            .map(|edge| (&edge.parent, Some(edge.range.clone())));
        for (parent, range) in declared.chain(dropped.iter().map(|parent| (parent, None))) {
            edge(parent, &described.version, range);
        }
    } else if let Some(top) = &state.top {
        // An older version may be the first that declares a parent: the edge is there, and says that it was dropped.
        let declared = parents_of(&top.edges);
        let dropped = described
            .edges
            .iter()
            .filter(|one| !declared.contains(&one.parent));
        for one in dropped {
            edge(&one.parent, &top.version, None);
        }
    }
    projections
}

/// The projections of a noticed version's line and, while it still is the head, of the head. With `facts.stamp`.
pub fn line_projections(state: &PackageState, version: &Version, facts: &Facts) -> Vec<Projection> {
    let line = Line {
        package: state.name.clone(),
        version: version.clone(),
        previous: facts.previous.clone(),
    };
    let mut projections = vec![Projection::Line(line.clone())];
    if state
        .head
        .as_ref()
        .is_some_and(|head| head.version == *version)
    {
        projections.push(Projection::Head(line));
    }
    projections
}

/// The rebuild that a publish by hand of its very version ended without taking its place (H11), if waves still wait for
/// a rebuild of the package in its stead: their node needs another version. Also once it has one, because whoever
/// reserved that may have died before its work was put. `state` must hold the version's row and the open ones.
pub fn needs_another(state: &PackageState, version: &Version) -> Option<RebuildId> {
    let rebuild = state.row(&RowKey::publish(version))?.rebuild.as_ref()?;
    let waited_for = rebuild
        .waves
        .iter()
        .any(|wave| state.open.contains_key(wave));
    (rebuild.state == RebuildState::Superseded && waited_for).then(|| rebuild.id.clone())
}

/// Why a node that was waiting is not rebuilt after all: the version published by hand includes what it waited for.
pub fn replaced_by(version: &Version) -> Reason {
    Reason::PublishedByHand {
        version: version.clone(),
    }
}
