//! Packages: what is known of one, its versions, who depends on it, whom it depends on, its release lines.

use std::collections::BTreeMap;

use serde::Serialize;

use super::page::{self, Page};
use super::stale::{self, Stale};
use super::time::Time;
use super::{managed, state};
use crate::model::env::Environments;
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::RowKey;
use crate::semver::Version;
use crate::store::{Dependent, Line, Published, Result, Store, Want, WantOpen};

/// What is known of a package at one glance.
#[derive(Clone, Debug, Serialize)]
pub struct PackageView {
    /// Its name.
    pub name: PackageName,
    /// How many versions were published.
    pub versions: usize,
    /// The highest version published under `latest`.
    pub highest: Option<Version>,
    /// Of a `highest` that we made: the version published by hand that it descends from.
    pub highest_origin: Option<Version>,
    /// The version of its newest release line.
    pub head: Option<Version>,
    /// The single parent that the Node software kept (rule 6).
    pub dependent_of: Option<PackageName>,
    /// The version that was last promoted to each environment.
    pub environments: BTreeMap<String, Version>,
    /// The versions that are reserved for a wave and not yet published.
    pub reserved: Vec<Reserved>,
    /// Whether a parent has a version that the highest version lets in and was not built with.
    pub stale: bool,
    /// Since when, and because of which parents' versions; `null` if it is not stale.
    pub stale_because: Option<Stale>,
    /// The first page of its dependents.
    pub dependents: Page<DependentView>,
}

/// A reserved version.
#[derive(Clone, Debug, Serialize)]
pub struct Reserved {
    /// The version.
    pub version: Version,
    /// The wave that it is for.
    pub wave: WaveId,
}

/// A dependent, by its highest version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DependentView {
    /// The dependent.
    pub name: PackageName,
    /// Its highest published version.
    pub version: Version,
    /// The range that this version declares.
    pub range: String,
}

/// A published version.
#[derive(Clone, Debug, Serialize)]
pub struct VersionView {
    /// The version.
    pub version: Version,
    /// The tag it came under, if not `latest`.
    pub tag: Option<String>,
    /// Of a version that we made: the version published by hand that it descends from; `null` if published by hand.
    pub origin: Option<Version>,
    /// When its publish was handled; `null` if it is known by an import or a promotion alone.
    pub noticed: Option<Time>,
    /// The change that was its publish.
    pub change: Option<ChangeId>,
    /// The rebuild that made it.
    pub rebuild: Option<RebuildId>,
    /// Per managed parent, the version that it was built with.
    pub with: Option<BTreeMap<PackageName, Version>>,
    /// The release lines that it goes with, parent → version.
    pub lines: Option<BTreeMap<PackageName, Version>>,
}

/// Whom a package depends on.
#[derive(Clone, Debug, Serialize)]
pub struct ParentsView {
    /// The single parent that the Node software kept (rule 6).
    pub dependent_of: Option<PackageName>,
    /// The highest version, whose declarations these are.
    pub version: Option<Version>,
    /// Every managed parent that it declares, in package.json order.
    pub parents: Page<ParentView>,
}

/// A declared parent.
#[derive(Clone, Debug, Serialize)]
pub struct ParentView {
    /// The parent.
    pub name: PackageName,
    /// The declared range.
    pub range: String,
    /// The parent's highest published version.
    pub highest: Option<Version>,
}

/// A release line without its dependents.
#[derive(Clone, Debug, Serialize)]
pub struct LineEntry {
    /// The version.
    pub version: Version,
    /// The version of the line before.
    pub previous_version: Option<Version>,
    /// Whether it is the newest of the list.
    pub head: bool,
}

/// The cursors' kinds.
const PACKAGES: &str = "packages";
const VERSIONS: &str = "versions";
const DEPENDENTS: &str = "dependents";
const PARENTS: &str = "dependent-of";
const LINES: &str = "release-lines";

/// Reads the cursor of the list of packages; `None` if it is not one.
pub fn packages_after(cursor: &str) -> Option<PackageName> {
    PackageName::parse(&page::key(PACKAGES, cursor)?).ok()
}

/// Reads the cursor of a package's versions.
pub fn versions_after(cursor: &str) -> Option<Version> {
    Version::parse(&page::key(VERSIONS, cursor)?).ok()
}

/// Reads the cursor of a package's dependents.
pub fn dependents_after(cursor: &str) -> Option<PackageName> {
    PackageName::parse(&page::key(DEPENDENTS, cursor)?).ok()
}

/// Reads the cursor of a package's parents: how many were shown.
pub fn parents_after(cursor: &str) -> Option<usize> {
    page::key(PARENTS, cursor)?.parse().ok()
}

/// Reads the cursor of a package's release lines.
pub fn lines_after(cursor: &str) -> Option<Version> {
    Version::parse(&page::key(LINES, cursor)?).ok()
}

/// The managed packages in the order of their names.
pub async fn packages(
    store: &dyn Store,
    after: Option<&PackageName>,
    limit: usize,
) -> Result<Page<PackageName>> {
    let names = store.names(after, limit + 1).await?;
    Ok(Page::cut(names, limit, |name| {
        page::cursor(PACKAGES, name.as_str())
    }))
}

/// A package, with at most `limit` dependents.
pub async fn package(
    store: &dyn Store,
    environments: &Environments,
    name: &PackageName,
    limit: usize,
) -> Result<Option<PackageView>> {
    let want = Want {
        open: WantOpen::All,
        ..Want::statics(name)
    };
    let Some(state) = state(store, want).await? else {
        return Ok(None);
    };
    let mut promoted = BTreeMap::new();
    for env in environments.iter() {
        if let Some(latest) = store.latest_promotion(name, env).await? {
            promoted.insert(env.as_str().to_owned(), latest.version);
        }
    }
    let stale_because = stale::stale(store, name).await?;
    let (highest, highest_origin) = state
        .top
        .map_or((None, None), |top| (Some(top.version), top.origin));
    Ok(Some(PackageView {
        name: name.clone(),
        versions: store.published(name).await?.len(),
        highest,
        highest_origin,
        head: state.head.map(|head| head.version),
        dependent_of: state.dependent_of,
        environments: promoted,
        reserved: state
            .open
            .into_iter()
            .map(|(wave, version)| Reserved { version, wave })
            .collect(),
        stale: stale_because.is_some(),
        stale_because,
        dependents: list_dependents(store, name, None, limit).await?,
    }))
}

/// The published versions of a package, highest first, below `below`.
pub async fn versions(
    store: &dyn Store,
    name: &PackageName,
    below: Option<&Version>,
    limit: usize,
) -> Result<Option<Page<VersionView>>> {
    if managed(store, name).await?.is_none() {
        return Ok(None);
    }
    let mut published = store.published(name).await?;
    published.retain(|one| below.is_none_or(|below| one.version < *below));
    published.sort_by(|one, other| other.version.cmp(&one.version));
    let page = Page::cut(published, limit, |one| {
        page::cursor(VERSIONS, &one.version.to_string())
    });
    let keys = page
        .items
        .iter()
        .map(|one| RowKey::publish(&one.version))
        .collect();
    let Some(state) = state(store, Want::rows(name, keys)).await? else {
        return Ok(None);
    };
    Ok(Some(page.map(
        |Published {
             version,
             origin,
             tag,
         }| {
            let row = state.row(&RowKey::publish(&version));
            let facts = row.and_then(|row| row.facts.as_ref());
            VersionView {
                tag,
                origin,
                noticed: facts.and_then(|facts| facts.noticed).map(Time),
                change: facts.and_then(|facts| facts.notice.clone()),
                rebuild: row
                    .and_then(|row| row.rebuild.as_ref())
                    .map(|rebuild| rebuild.id.clone()),
                with: facts.and_then(|facts| facts.with.clone()),
                lines: facts.and_then(|facts| facts.attach.clone()),
                version,
            }
        },
    )))
}

/// Who depends on a package now, in the order of names; those whose highest version dropped it are left out.
pub async fn dependents(
    store: &dyn Store,
    name: &PackageName,
    after: Option<&PackageName>,
    limit: usize,
) -> Result<Option<Page<DependentView>>> {
    if managed(store, name).await?.is_none() {
        return Ok(None);
    }
    list_dependents(store, name, after, limit).await.map(Some)
}

async fn list_dependents(
    store: &dyn Store,
    name: &PackageName,
    after: Option<&PackageName>,
    limit: usize,
) -> Result<Page<DependentView>> {
    let mut after = after.cloned();
    let mut found: Vec<DependentView> = Vec::new();
    loop {
        let page = store.dependents(name, after.as_ref(), limit + 1).await?;
        let full = page.len() > limit;
        after = page.last().map(|last| last.dependent.clone());
        found.extend(page.into_iter().filter_map(
            |Dependent {
                 dependent,
                 top,
                 range,
             }| {
                range.map(|range| DependentView {
                    name: dependent,
                    version: top,
                    range,
                })
            },
        ));
        if !full || found.len() > limit {
            return Ok(Page::cut(found, limit, |one| {
                page::cursor(DEPENDENTS, one.name.as_str())
            }));
        }
    }
}

/// Whom the highest version of a package depends on: managed parents, after the first `skip`.
pub async fn parents(
    store: &dyn Store,
    name: &PackageName,
    skip: usize,
    limit: usize,
) -> Result<Option<ParentsView>> {
    let want = Want {
        top_edges: true,
        ..Want::statics(name)
    };
    let Some(state) = state(store, want).await? else {
        return Ok(None);
    };
    let (version, edges) = state
        .top
        .map_or((None, Vec::new()), |top| (Some(top.version), top.edges));
    let wants: Vec<Want> = edges
        .iter()
        .map(|edge| Want::statics(&edge.parent))
        .collect();
    let known = store.packages(&wants).await?;
    let parents: Vec<ParentView> = edges
        .into_iter()
        .zip(known)
        .filter(|(_, parent)| parent.is_managed())
        .map(|(edge, parent)| ParentView {
            name: edge.parent,
            range: edge.range,
            highest: parent.top.map(|top| top.version),
        })
        .skip(skip)
        .take(limit + 1)
        .collect();
    let cursor = |_: &ParentView| page::cursor(PARENTS, &skip.saturating_add(limit).to_string());
    Ok(Some(ParentsView {
        dependent_of: state.dependent_of,
        version,
        parents: Page::cut(parents, limit, cursor),
    }))
}

/// The release lines of a package, highest version first, below `below`.
pub async fn lines(
    store: &dyn Store,
    name: &PackageName,
    below: Option<&Version>,
    limit: usize,
) -> Result<Option<Page<LineEntry>>> {
    let Some(state) = managed(store, name).await? else {
        return Ok(None);
    };
    let head = state.head.map(|head| head.version);
    let mut lines = store.lines(name).await?;
    lines.retain(|line| below.is_none_or(|below| line.version < *below));
    lines.sort_by(|one, other| other.version.cmp(&one.version));
    let page = Page::cut(lines, limit, |line| {
        page::cursor(LINES, &line.version.to_string())
    });
    Ok(Some(page.map(
        |Line {
             version, previous, ..
         }| LineEntry {
            head: head.as_ref() == Some(&version),
            version,
            previous_version: previous,
        },
    )))
}
