//! What a package was not built with yet: parents' versions that its highest version lets in (design.md, issue of waves).

use serde::Serialize;

use super::state;
use super::time::Time;
use crate::model::edge::EdgeRange;
use crate::model::name::PackageName;
use crate::model::package::RowKey;
use crate::plan::attach::{Highest, highest_admitted};
use crate::semver::Version;
use crate::store::{Result, Store, Want};

/// Why a package is out of date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stale {
    /// Since when: when the first of these versions was published.
    pub since: Option<Time>,
    /// The parents that are ahead of it, in package.json order.
    pub because: Vec<Behind>,
}

/// A parent that is ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Behind {
    /// The parent.
    pub parent: PackageName,
    /// Its highest published version that the package lets in.
    pub version: Version,
    /// The version that the package was built with; `null`: none.
    pub built_with: Option<Version>,
    /// The declared range.
    pub range: String,
    /// When the parent's version was published; `null` if it is known by an import alone.
    pub since: Option<Time>,
}

/// Whether the highest version of a package was built with less than it lets in; `None` if it was not, or if nobody knows
/// what it was built with.
pub async fn stale(store: &dyn Store, name: &PackageName) -> Result<Option<Stale>> {
    let want = Want {
        top_edges: true,
        ..Want::statics(name)
    };
    let Some(top) = state(store, want).await?.and_then(|state| state.top) else {
        return Ok(None);
    };
    let row = Want::rows(name, vec![RowKey::publish(&top.version)]);
    let own = state(store, row).await?;
    let facts = own.as_ref().and_then(|state| state.facts(&top.version));
    let Some(with) = facts.and_then(|facts| facts.with.as_ref()) else {
        return Ok(None);
    };
    let edges: Vec<_> = top
        .edges
        .iter()
        .filter(|edge| edge.parent != *name)
        .collect();
    let wants: Vec<Want> = edges
        .iter()
        .map(|edge| Want::statics(&edge.parent))
        .collect();
    let parents = store.packages(&wants).await?;
    let mut because = Vec::new();
    for (edge, parent) in edges.into_iter().zip(parents) {
        if !parent.is_managed() {
            continue;
        }
        let range = EdgeRange::of(&edge.range);
        let top = parent.top.as_ref();
        let highest = match highest_admitted(&range, top, None) {
            Highest::NeedsPublished => {
                let all = store.published(&edge.parent).await?;
                highest_admitted(&range, top, Some(&all))
            }
            answer => answer,
        };
        let Highest::Version(version) = highest else {
            continue;
        };
        let built_with = with.get(&edge.parent).cloned();
        if built_with.as_ref().is_some_and(|with| *with >= version) {
            continue;
        }
        let row = Want::rows(&edge.parent, vec![RowKey::publish(&version)]);
        let parent = state(store, row).await?;
        let facts = parent.as_ref().and_then(|state| state.facts(&version));
        because.push(Behind {
            parent: edge.parent.clone(),
            since: facts.and_then(|facts| facts.noticed).map(Time),
            range: edge.range.clone(),
            built_with,
            version,
        });
    }
    let since = because.iter().filter_map(|one| one.since).min();
    Ok((!because.is_empty()).then_some(Stale { since, because }))
}
