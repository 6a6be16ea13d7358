//! Making the versions of one package known, in their order.

use std::collections::HashSet;

use super::{Failed, Limits, Stopped, Summary};
use crate::ingest::{self, Core, Imported, IngestError};
use crate::model::document::Document;
use crate::model::name::PackageName;
use crate::semver::Version;
use crate::store::StoreErrorKind;

/// Repeats a step of ours that fails in passing: the store is away for a moment, or others decide about the same package.
pub(super) async fn insist<T>(
    limits: &Limits,
    mut step: impl AsyncFnMut() -> Result<T, IngestError>,
) -> Result<T, IngestError> {
    let (tries, mut pause) = limits.retries;
    for _ in 0..tries {
        match step().await {
            Err(IngestError::Store(error)) if error.kind != StoreErrorKind::Bug => {
                tracing::warn!(%error, "tried again");
            }
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    step().await
}

/// Imports versions of a package, oldest first. `load` reads the document of one; a text is why that cannot be done.
///
/// Those that are known are passed over. The last known one is not: an import that died may have made it known and not
/// yet told those it depends on.
pub(super) async fn versions<E>(
    core: &Core,
    limits: &Limits,
    name: &PackageName,
    entries: &[E],
    version_of: impl Fn(&E) -> &Version,
    mut load: impl AsyncFnMut(&E) -> Result<Result<Document, String>, Stopped>,
) -> Result<Summary, Stopped> {
    let mut summary = Summary::default();
    let published = insist(limits, async || Ok(core.store.published(name).await?)).await?;
    let published: HashSet<Version> = published.into_iter().map(|one| one.version).collect();
    let last_known = entries
        .iter()
        .rposition(|entry| published.contains(version_of(entry)));
    for (at, entry) in entries.iter().enumerate() {
        let version = version_of(entry);
        let is_known = published.contains(version);
        if is_known && last_known != Some(at) {
            summary.known += 1;
            continue;
        }
        let document = load(entry).await?.and_then(|document| {
            let length = document.bytes().len();
            if document.name != *name || document.version != *version {
                return Err(format!(
                    "its document is that of {}@{}",
                    document.name, document.version
                ));
            }
            if length > limits.document_limit {
                return Err(format!(
                    "its document has {length} bytes, document_limit is {}",
                    limits.document_limit
                ));
            }
            Ok(document)
        });
        let document = match document {
            Ok(document) => document,
            // It is known, so it was read before.
            Err(_) if is_known => {
                summary.known += 1;
                continue;
            }
            Err(why) => {
                summary
                    .failed
                    .push(Failed::new(format!("{name}@{version}"), why));
                continue;
            }
        };
        let imported = insist(limits, async || ingest::import(core, &document).await).await?;
        if imported == Imported::New && !is_known {
            summary.new += 1;
        } else {
            summary.known += 1;
        }
    }
    Ok(summary)
}
