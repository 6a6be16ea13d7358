//! Importing from an npm registry: the packuments of named packages, all their versions.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;

use super::packument::{self, Contents, Entry};
use super::{Failed, Limits, Stopped, Summary, apply};
use crate::ingest::Core;
use crate::model::document::Document;
use crate::model::name::PackageName;
use crate::neighbours::{Class, Failure, Registry};

/// The longest that a registry may ask us to wait.
const LONGEST: std::time::Duration = std::time::Duration::from_mins(1);

/// Imports packages. What fails is in the summary.
///
/// # Errors
/// The store is away.
pub async fn import(
    core: &Core,
    registry: &Registry,
    names: &[PackageName],
    limits: &Limits,
    bar: &ProgressBar,
) -> Result<Summary, Stopped> {
    bar.set_length(names.len() as u64);
    let done = stream::iter(names).map(async |name| {
        bar.set_message(name.to_string());
        let summary = package(core, registry, name, limits).await;
        bar.inc(1);
        summary
    });
    let all = done
        .buffer_unordered(limits.concurrency.max(1))
        .try_fold(Summary::default(), async |mut all, one| {
            all.add(one);
            Ok(all)
        })
        .await?;
    Ok(all.sorted())
}

async fn package(
    core: &Core,
    registry: &Registry,
    name: &PackageName,
    limits: &Limits,
) -> Result<Summary, Stopped> {
    let failed = |why: String| Summary {
        packages: 1,
        failed: vec![Failed::new(name.as_str(), why)],
        ..Summary::default()
    };
    let (contents, file) = match fetched(registry, name, limits).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(failed("the registry does not have it".into())),
        Err(failure) => return Ok(failed(failure.message)),
    };
    if let Some(other) = contents
        .name
        .as_ref()
        .filter(|other| **other != *name.as_str())
    {
        return Ok(failed(format!("the registry answered with {other:?}")));
    }
    let (entries, unreadable) = contents.entries(&core.rules.environments);
    let file = Arc::new(file);
    let load = async |entry: &Entry| Ok(read(name, entry, &file).await);
    let mut summary =
        apply::versions(core, limits, name, &entries, |entry| &entry.version, load).await?;
    summary.packages = 1;
    let no_version = |key: String| {
        let key: String = key.chars().take(80).collect();
        Failed::new(format!("{name}@{key}"), "is no version")
    };
    summary
        .failed
        .extend(unreadable.into_iter().map(no_version));
    Ok(summary)
}

/// Reads a packument into a file, as often as it takes.
async fn fetched(
    registry: &Registry,
    name: &PackageName,
    limits: &Limits,
) -> Result<Option<(Contents, File)>, Failure> {
    let (mut left, mut pause) = limits.retries;
    loop {
        let found = registry
            .whole_packument(name.as_str(), |pieces| {
                let file = tempfile::tempfile().map_err(serde_json::Error::io)?;
                let mut writer = std::io::BufWriter::new(file);
                let contents = packument::cut(std::io::BufReader::new(pieces), &mut writer)?;
                let file = writer
                    .into_inner()
                    .map_err(|error| serde_json::Error::io(error.into_error()))?;
                Ok((contents, file))
            })
            .await;
        let asked = match &found {
            Err(failure) if left > 0 => match failure.class {
                Class::Retry { retry_after } | Class::Pause { retry_after } => retry_after,
                _ => return found,
            },
            _ => return found,
        };
        tokio::time::sleep(asked.unwrap_or(pause).min(LONGEST)).await;
        left -= 1;
        pause *= 2;
    }
}

async fn read(name: &PackageName, entry: &Entry, file: &Arc<File>) -> Result<Document, String> {
    let (file, place) = (file.clone(), entry.place);
    let manifest = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(place.length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, place.at)
            .map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|_| "its manifest is no object".to_owned())
    });
    let manifest = manifest.await.map_err(|error| error.to_string())??;
    packument::document(name.as_str(), entry, manifest).map_err(|error| error.to_string())
}
