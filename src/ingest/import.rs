//! Importing what was published before we were there: versions become known, with the lines they had; nothing is sent (H4).
//!
//! Each step first looks whether its outcome is there, so an import that was killed is simply done again. What others
//! read is written with a stamp that does not depend on when the import runs: that of the batch that decided it, or the
//! time at which the source says it was written. So a repeated import never overwrites what was decided since.

use std::collections::{BTreeMap, BTreeSet};

use super::{Core, REFUSALS, Result, contention, describe, publish, read};
use crate::model::document::Document;
use crate::model::id::Digest;
use crate::model::name::PackageName;
use crate::model::package::{RowKey, Stamp};
use crate::plan::import::{self as decide, Chain, Lines};
use crate::plan::publish::{Source, edge_projections};
use crate::semver::Version;
use crate::store::{Line, Projection, Want};

/// How many rows of a package are read at a time.
const ROWS: usize = 500;

/// What an import did with one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is known now.
    New,
    /// It was known before.
    Known,
}

/// Makes one version known: its facts, its edges, its manifest; not its line, which only a notice makes. Repeatable.
pub async fn import(core: &Core, document: &Document) -> Result<Imported> {
    let json = document.bytes();
    let digest = Digest::of(&json);
    let described = describe(core, document, &digest);
    let (state, facts) = publish::establish(core, &described, &Source::Known, &json).await?;
    if facts.noticed.is_some() && facts.notice.is_some() {
        return Ok(Imported::Known);
    }
    let projections = edge_projections(&state, &described, &facts);
    publish::project(core, facts.stamp, projections).await?;
    Ok(if facts.digest.as_ref() == Some(&digest) {
        Imported::New
    } else {
        Imported::Known
    })
}

/// The release lines that a package had elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// The newest, if it is said which one that is.
    pub head: Option<Version>,
    /// Each with the one before it, as the rows say it.
    pub lines: Lines,
    /// When the rows were written, in microseconds, where that is known.
    pub written: BTreeMap<Version, Stamp>,
    /// The single parent that the Node software keeps (rule 6), and when that was written.
    pub dependent_of: Option<(PackageName, Stamp)>,
}

/// Takes over the release lines of a package, once its versions are known: from then on dependents go with them, and the
/// next publish follows the newest. A line of a version that is not known is only written down. Repeatable.
pub async fn lines(core: &Core, name: &PackageName, elsewhere: &Elsewhere) -> Result<Chain> {
    let versions: Vec<&Version> = elsewhere.lines.keys().collect();
    let mut known = BTreeSet::new();
    let mut decided = Lines::new();
    for some in versions.chunks(ROWS) {
        let rows = some
            .iter()
            .map(|version| RowKey::publish(version))
            .collect();
        let state = read(core, Want::rows(name, rows)).await?;
        for row in &state.rows {
            let Some(facts) = row.facts.as_ref().filter(|facts| facts.tag.is_none()) else {
                continue;
            };
            known.insert(row.key.version.clone());
            if facts.noticed.is_some() {
                decided.insert(row.key.version.clone(), facts.previous.clone());
            }
        }
    }
    let chain = decide::chain(&elsewhere.lines, elsewhere.head.as_ref(), &known, &decided);

    // The head first: a publish that comes before the lines are done follows it.
    let parent = elsewhere.dependent_of.as_ref();
    let mut projections = Vec::new();
    let mut head_is_ours = false;
    for _ in 0..REFUSALS {
        let mut want = Want::rows(name, chain.head.iter().map(RowKey::publish).collect());
        want.top_edges = true;
        let state = read(core, want).await?;
        if let Some(commit) = decide::statics(&state, chain.head.as_ref(), parent.map(|one| &one.0))
        {
            core.store.commit(vec![commit]).await?;
            continue;
        }
        head_is_ours = state.head.as_ref().map(|head| &head.version) == chain.head.as_ref();
        if let Some((parent, written)) = parent
            && state.dependent_of.as_ref() == Some(parent)
        {
            let parent = Projection::DependentOf {
                package: name.clone(),
                parent: Some(parent.clone()),
            };
            publish::project(core, *written, vec![parent]).await?;
        }
        break;
    }
    for (version, previous) in &chain.lines {
        let stamp = line(core, name, version, previous.as_ref()).await?;
        let Some(stamp) = stamp else { continue };
        let line = Line {
            package: name.clone(),
            version: version.clone(),
            previous: previous.clone(),
        };
        if head_is_ours && chain.head.as_ref() == Some(version) {
            projections.push((stamp, Projection::Head(line.clone())));
        }
        projections.push((stamp, Projection::Line(line)));
    }
    for (version, previous) in &chain.unknown {
        let line = Line {
            package: name.clone(),
            version: version.clone(),
            previous: previous.clone(),
        };
        // Just above what was read, and below every stamp of ours.
        let written = elsewhere.written.get(version).copied().unwrap_or_default();
        projections.push((written + 1, Projection::Line(line)));
    }
    for (stamp, projection) in projections {
        publish::project(core, stamp, vec![projection]).await?;
    }
    Ok(chain)
}

/// Makes the line of a known version ours; the stamp of its projection, `None` if a notice of ours made it.
async fn line(
    core: &Core,
    name: &PackageName,
    version: &Version,
    previous: Option<&Version>,
) -> Result<Option<Stamp>> {
    for _ in 0..REFUSALS {
        let state = read(core, Want::rows(name, vec![RowKey::publish(version)])).await?;
        if let Some(commit) = decide::line(&state, version, previous, core.clock.now()) {
            core.store.commit(vec![commit]).await?;
            continue;
        }
        let facts = state.facts(version);
        return Ok(facts
            .filter(|facts| facts.notice.is_none())
            .map(|facts| facts.stamp));
    }
    Err(contention(name))
}

/// A dependent in a release line elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The line's package.
    pub parent: PackageName,
    /// The line's version.
    pub line: Version,
    /// The dependent.
    pub dependent: PackageName,
    /// Its version.
    pub version: Version,
    /// When that was written, in microseconds.
    pub written: Stamp,
}

/// Takes over that a dependent goes with a line, once the versions of the dependent are known. Repeatable.
pub async fn pair(core: &Core, pair: &Pair) -> Result<()> {
    for _ in 0..REFUSALS {
        let mut want = Want::rows(&pair.dependent, vec![RowKey::publish(&pair.version)]);
        want.attached = vec![(pair.parent.clone(), pair.line.clone())];
        let state = read(core, want).await?;
        let now = core.clock.now();
        if let Some(commit) = decide::pair(&state, &pair.version, &pair.parent, &pair.line, now) {
            core.store.commit(vec![commit]).await?;
            continue;
        }
        let higher = state
            .attached
            .get(&(pair.parent.clone(), pair.line.clone()))
            .is_some_and(|there| *there > pair.version);
        if !higher {
            let projection = Projection::LineDependent {
                package: pair.parent.clone(),
                version: pair.line.clone(),
                dependent: pair.dependent.clone(),
                dependent_version: pair.version.clone(),
            };
            publish::project(core, pair.written, vec![projection]).await?;
        }
        return Ok(());
    }
    Err(contention(&pair.dependent))
}
