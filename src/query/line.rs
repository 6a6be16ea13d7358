//! One release line in the shape that the warehouse gives it and `wrhs` reads it (contract.md 6).

use std::collections::BTreeMap;

use serde::Serialize;

use super::managed;
use crate::model::name::PackageName;
use crate::semver::Version;
use crate::store::{Result, Store};

/// How many dependents are read at a time.
const PAGE: usize = 1_000;

/// A release line. Camel case, because the warehouse's is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LineView {
    /// The package.
    pub pkg: PackageName,
    /// The version.
    pub version: Version,
    /// The version of the line before; `null` for the first, as in the warehouse 5.x.
    pub previous_version: Option<Version>,
    /// The dependents that go with it, name → version.
    pub dependents: BTreeMap<PackageName, Version>,
}

/// The release line of a package at a version, or its head. `None` if there is none.
pub async fn line(
    store: &dyn Store,
    name: &PackageName,
    version: Option<&Version>,
) -> Result<Option<LineView>> {
    if managed(store, name).await?.is_none() {
        return Ok(None);
    }
    let line = match version {
        Some(version) => store.line(name, version).await?,
        None => store.head(name).await?,
    };
    let Some(line) = line else { return Ok(None) };
    let mut dependents = BTreeMap::new();
    let mut after: Option<PackageName> = None;
    loop {
        let page = store
            .line_dependents(name, &line.version, after.as_ref(), PAGE)
            .await?;
        let full = page.len() == PAGE;
        after = page.last().map(|(name, _)| name.clone());
        dependents.extend(page);
        if !full {
            break;
        }
    }
    Ok(Some(LineView {
        pkg: line.package,
        version: line.version,
        previous_version: line.previous,
        dependents,
    }))
}
