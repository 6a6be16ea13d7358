//! Importing from a keyspace of the Node software: versions, release lines, and the dependents that go with them.
//!
//! The keyspace may be the one that feedsme's own tables are in: then the lines stay where they are, and become ours. The
//! Node software must not be at work meanwhile: what it writes to a line while it is read would be missed.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;

use super::apply::insist;
use super::rows::{Inventory, KnownVersion, Package, of_package, of_value};
use super::{Failed, Limits, Stopped, Summary, apply};
use crate::ingest::{self, Core, Pair};
use crate::model::document::Document;
use crate::model::name::PackageName;
use crate::semver::Version;
use crate::store::cassandra::{NamedRow, WarehouseKeyspace};

/// Imports all managed packages. What fails is in the summary.
///
/// # Errors
/// The store, or the keyspace, is away.
pub async fn import(
    core: &Core,
    keyspace: &WarehouseKeyspace,
    limits: &Limits,
    bar: &ProgressBar,
) -> Result<Summary, Stopped> {
    bar.set_message("reading what is there");
    let inventory = inventory(keyspace).await?;
    let mut all = Summary {
        unmanaged: inventory.unmanaged,
        failed: inventory.failed,
        ..Summary::default()
    };
    bar.set_length(inventory.packages.len() as u64);
    let packages = stream::iter(&inventory.packages).map(async |(name, found)| {
        bar.set_message(name.to_string());
        let summary = package(core, keyspace, limits, name, found).await;
        bar.inc(1);
        summary
    });
    let mut packages = packages.buffer_unordered(limits.concurrency.max(1));
    while let Some(one) = packages.try_next().await? {
        all.add(one);
    }
    drop(packages);

    // Only now: a dependent's versions must be known before it is said with which lines they go.
    let lines: Vec<(&PackageName, &Version, &String)> = inventory
        .packages
        .iter()
        .flat_map(|(name, found)| {
            let lines = found.written_as.iter();
            lines.map(move |(version, text)| (name, version, text))
        })
        .collect();
    bar.set_position(0);
    bar.set_length(lines.len() as u64);
    let pairs = stream::iter(lines).map(async |(name, version, text)| {
        bar.set_message(format!("{name}@{version}"));
        let summary = pairs(core, keyspace, limits, name, version, text).await;
        bar.inc(1);
        summary
    });
    let mut pairs = pairs.buffer_unordered(limits.concurrency.max(1));
    while let Some(one) = pairs.try_next().await? {
        all.add(one);
    }
    Ok(all.sorted())
}

async fn inventory(keyspace: &WarehouseKeyspace) -> Result<Inventory, Stopped> {
    let mut inventory = Inventory::default();
    keyspace
        .names(|name, latest| inventory.package(&name, latest.as_deref()))
        .await?;
    keyspace.versions(|row| inventory.version(row)).await?;
    keyspace.lines(|row| inventory.line(&row)).await?;
    keyspace.heads(|row| inventory.head(&row)).await?;
    keyspace.parents(|row| inventory.parent(&row)).await?;
    inventory.finish();
    Ok(inventory)
}

async fn package(
    core: &Core,
    keyspace: &WarehouseKeyspace,
    limits: &Limits,
    name: &PackageName,
    found: &Package,
) -> Result<Summary, Stopped> {
    let load = async |entry: &KnownVersion| document(keyspace, name, found, entry).await;
    let mut summary = apply::versions(
        core,
        limits,
        name,
        &found.versions,
        |entry| &entry.version,
        load,
    )
    .await?;
    summary.packages = 1;
    insist(limits, async || {
        ingest::import_lines(core, name, &found.elsewhere).await
    })
    .await?;
    summary.lines = found.elsewhere.lines.len() as u64;
    Ok(summary)
}

/// The document of a version: its own, or, of the version that the row of `package` describes, made of that row.
async fn document(
    keyspace: &WarehouseKeyspace,
    name: &PackageName,
    found: &Package,
    entry: &KnownVersion,
) -> Result<Result<Document, String>, Stopped> {
    let mut why = "it has no document".to_owned();
    if let Some(id) = &entry.id
        && let Some(value) = keyspace.value(id).await?
    {
        match of_value(&value) {
            Ok(document) => return Ok(Ok(document)),
            Err(error) => why = error,
        }
    }
    if found.latest.as_ref() == Some(&entry.version)
        && let Some(row) = keyspace.package(name.as_str()).await?
    {
        return Ok(of_package(&row).map_err(|error| format!("{why}; its package's row: {error}")));
    }
    Ok(Err(why))
}

/// The dependents of one line.
async fn pairs(
    core: &Core,
    keyspace: &WarehouseKeyspace,
    limits: &Limits,
    parent: &PackageName,
    line: &Version,
    written_as: &str,
) -> Result<Summary, Stopped> {
    let mut summary = Summary::default();
    for row in keyspace.dependents(parent.as_str(), written_as).await? {
        match pair(parent, line, &row) {
            Ok(pair) => {
                insist(limits, async || ingest::import_pair(core, &pair).await).await?;
                summary.pairs += 1;
            }
            Err(why) => {
                let what = format!("line {parent}@{line}, dependent {}", row.name);
                summary.failed.push(Failed::new(what, why));
            }
        }
    }
    Ok(summary)
}

fn pair(parent: &PackageName, line: &Version, row: &NamedRow) -> Result<Pair, String> {
    let text = row.value.as_deref().unwrap_or_default();
    Ok(Pair {
        parent: parent.clone(),
        line: line.clone(),
        dependent: PackageName::parse(&row.name).map_err(|why| format!("the name {why}"))?,
        version: Version::parse(text).map_err(|why| format!("{text:?}: {why}"))?,
        written: row.written.unwrap_or(1),
    })
}
