//! Whom a version of a package would reach, from the graph in memory (design.md 6, `…/impact`).

use serde::Serialize;

use super::page::{self, Page};
use super::sentence;
use super::time::Time;
use crate::graph::{OutOfRange, Reach, Reached, Start};
use crate::ingest::{Core, Result};
use crate::model::name::PackageName;
use crate::model::package::{PackageState, RowKey};
use crate::semver::Version;
use crate::store::Want;

/// What a version would lead to, as far as ranges of highest versions say.
#[derive(Clone, Debug, Serialize)]
pub struct ImpactView {
    /// The package.
    pub package: PackageName,
    /// The version asked about; `null`: whichever comes next, taken for granted to be let in by everybody whose range
    /// admits `highest`.
    pub version: Option<Version>,
    /// Its highest version under `latest`; `null`: none.
    pub highest: Option<Version>,
    /// All of it in words.
    pub sentence: String,
    /// Of when the graph is: now, or with several replicas up to some minutes ago.
    pub as_of: Time,
    /// How many are reached.
    pub counts: Counts,
    /// Whether a dry run (`POST /plan`) would reach the same packages in the same order. `false`: ranges of highest
    /// versions were in the way of something, and it would look at older versions; or no version was named. Holds, and
    /// predicted versions that are taken already, are not looked at in either case.
    pub exact: bool,
    /// One longest chain in which each waits for the one before it, the package itself first; empty if nobody is reached.
    pub longest_chain: Vec<PackageName>,
    /// The first of those out of range, by name.
    pub out_of_range: Vec<OutOfRangeView>,
    /// Those reached, in build order: by level, then by name.
    pub affected: Page<ReachedView>,
}

/// How many are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Dependents that let the version itself in.
    pub direct: usize,
    /// All that would be rebuilt, these included.
    pub transitive: usize,
    /// How many there are of level 1, 2, and so on; a package's level is 1 + the highest of those that it waits for.
    pub by_level: Vec<usize>,
    /// Circles of packages that depend on each other.
    pub circles: usize,
    /// How many packages the longest chain has, the package itself included; 0 if nobody is reached.
    pub longest_chain: usize,
    /// Packages that declare one of these by a range that is in the way, and are not reached by another.
    pub out_of_range: usize,
}

/// One that is out of range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutOfRangeView {
    /// The package.
    pub package: PackageName,
    /// Its highest version.
    pub version: Version,
    /// What that declares.
    pub parent: PackageName,
    /// The version of that which is not let in; `null`: the one that comes next.
    pub parent_version: Option<Version>,
    /// The range that is in the way.
    pub range: String,
}

/// One that is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReachedView {
    /// The package.
    pub package: PackageName,
    /// How many come before it on the longest way, from 1.
    pub level: u32,
    /// Its highest version, from which it would be rebuilt.
    pub base: Version,
    /// The version that it would get, unless that is taken.
    pub version: Option<Version>,
}

/// What comes of the question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The package is not managed.
    Unknown,
    /// The graph is being read: ask again soon.
    NotYet,
    /// This.
    Impact(Box<ImpactView>),
}

const LIST: &str = "impact";

/// Reads the cursor of the list of those reached: after which level and name.
pub fn affected_after(cursor: &str) -> Option<(u32, PackageName)> {
    let key = page::key(LIST, cursor)?;
    let (level, name) = key.split_once(' ')?;
    Some((level.parse().ok()?, PackageName::parse(name).ok()?))
}

/// Whom a version of a package would reach, with a page of them. Without a version: whichever comes next.
pub async fn impact(
    core: &Core,
    name: &PackageName,
    version: Option<&Version>,
    after: Option<(u32, PackageName)>,
    limit: usize,
) -> Result<Answer> {
    let mut rows: Vec<RowKey> = version.map(RowKey::publish).into_iter().collect();
    let before = version.and_then(Version::increment_of);
    rows.extend(before.as_ref().map(RowKey::publish));
    let want = Want::rows(name, rows);
    let mut states = core.store.packages(std::slice::from_ref(&want)).await?;
    let Some(state) = states.pop().filter(PackageState::is_managed) else {
        return Ok(Answer::Unknown);
    };
    // As it was made, or as a publish of it would be taken for (design.md 3, *Does a range admit a version?*).
    let origin = match version.and_then(|version| state.facts(version)) {
        Some(facts) => facts.origin.clone(),
        None => before.filter(|before| state.facts(before).is_some()),
    };
    let Some(graph) = core.impact.graph(core).await? else {
        return Ok(Answer::NotYet);
    };
    let (name, version) = (name.clone(), version.cloned());
    let highest = state.top.map(|top| top.version);
    let as_of = Time(graph.as_of);
    let answer = core.impact.ask(&graph, move |index| {
        let reach = index.reach(&Start {
            package: &name,
            version: version.as_ref().map(|version| (version, origin.as_ref())),
        });
        let from = after.as_ref().map(|(level, name)| (*level, name.as_str()));
        let found = index.page(&reach, from, limit + 1);
        view(name, version, highest, as_of, reach, found, limit)
    });
    let answer = answer.await?;
    Ok(Answer::Impact(Box::new(answer)))
}

fn view(
    package: PackageName,
    version: Option<Version>,
    highest: Option<Version>,
    as_of: Time,
    reach: Reach,
    found: Vec<Reached>,
    limit: usize,
) -> ImpactView {
    let affected = Page::cut(found, limit, |one| {
        page::cursor(LIST, &format!("{} {}", one.level, one.package))
    });
    let counts = Counts {
        direct: reach.direct,
        transitive: reach.transitive(),
        circles: reach.circles,
        longest_chain: reach.longest_chain.len(),
        out_of_range: reach.out_of_range,
        by_level: reach.by_level,
    };
    ImpactView {
        sentence: sentence::impact(&package, version.as_ref(), highest.as_ref(), &counts),
        exact: reach.exact && version.is_some(),
        package,
        version,
        highest,
        as_of,
        counts,
        longest_chain: reach.longest_chain,
        out_of_range: reach.first_out_of_range.into_iter().map(out).collect(),
        affected: affected.map(reached),
    }
}

fn out(one: OutOfRange) -> OutOfRangeView {
    OutOfRangeView {
        package: one.package,
        version: one.version,
        parent: one.parent,
        parent_version: one.parent_version,
        range: one.range,
    }
}

fn reached(one: Reached) -> ReachedView {
    ReachedView {
        package: one.package,
        level: one.level,
        base: one.base,
        version: one.version,
    }
}
