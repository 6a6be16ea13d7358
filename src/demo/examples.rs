//! What to try next: requests that work against the service as it stands, with what they show.

use std::fmt::Write as _;

use serde_json::json;

use super::Result;
use super::facts::{Facts, Source, Told};
use super::history::{History, Publish};
use super::play::Promoted;
use super::report::Paint;
use crate::ingest::Core;
use crate::model::decision::Decision;
use crate::model::edge::EdgeRange;
use crate::model::name::PackageName;
use crate::model::package::Kind;
use crate::query::sentence;
use crate::semver::{Release, Version};
use crate::store::Store;

/// A request and what it shows.
pub struct Example {
    /// What it shows.
    what: String,
    /// The body of a POST; a GET has none.
    body: Option<String>,
    /// Path and query.
    path: String,
}

impl Example {
    fn get(what: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            body: None,
            path: path.into(),
        }
    }

    /// The command; nothing in it needs more quoting than single quotes.
    fn command(&self, url: &str) -> String {
        let Self { body, path, .. } = self;
        match body {
            None => format!("curl -s '{url}{path}'"),
            Some(body) => {
                format!("curl -s -H 'content-type: application/json' -d '{body}' '{url}{path}'")
            }
        }
    }
}

/// Finds examples in what was played.
pub async fn find(
    core: &Core,
    history: &History,
    promoted: Option<&Promoted>,
    facts: &Facts,
) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    if let Some(Promoted {
        name,
        version,
        posts,
    }) = promoted
    {
        let path = format!("/release-line/{name}/{version}");
        examples.push(Example::get(
            format!("what was built with {name}@{version}"),
            path,
        ));
        if let Some(post) = posts.first() {
            let what = format!(
                "what its promotion to {} sent, and how each of it went",
                post.env
            );
            examples.push(Example::get(what, format!("/changes/{}", post.id)));
        }
        let path = format!("/packages/{name}/dependents");
        examples.push(Example::get(
            format!("who depends on {name}, with which range"),
            path,
        ));
    }
    if let Some(told) = busiest(facts) {
        let change = &told.change;
        let what = format!(
            "what the publish of {}@{} led to",
            change.name, change.version
        );
        examples.push(Example::get(what, format!("/changes/{}", change.id)));
    }
    if let Some((told, skip)) = skipped(facts) {
        let what = format!(
            "why {} was not rebuilt for {}@{}: {}",
            skip.dependent,
            skip.parent,
            skip.parent_version,
            sentence::decision(skip)
        );
        examples.push(Example::get(
            what,
            format!("/changes/{}?limit=500", told.change.id),
        ));
    }
    if let Some((publish, version)) = next(&*core.store, history).await? {
        examples.push(Example {
            what: format!(
                "publish {}@{version} yourself, and see what is rebuilt at once",
                publish.name
            ),
            body: Some(package_json(publish, &version)),
            path: "/change?wait=10".into(),
        });
        let path = format!("/release-line/{}", publish.name);
        examples.push(Example::get(
            "and a moment later what was built with it",
            path,
        ));
    }
    Ok(examples)
}

/// The examples in print.
pub fn text(url: &str, examples: &[Example], paint: Paint) -> String {
    let mut out = format!("\n{}\n", paint.bold("try it"));
    for example in examples {
        let _ = writeln!(out, "  {}", paint.dim(format!("# {}", example.what)));
        let _ = writeln!(out, "  {}", paint.green(example.command(url)));
    }
    let _ = writeln!(
        out,
        "\nThe service stays up at {url} until you press ctrl-c; then everything is removed."
    );
    out
}

/// The publish by hand that led to the most rebuilds at once, the latest of them.
fn busiest(facts: &Facts) -> Option<&Told> {
    let changes = facts.changes.iter();
    changes
        .filter(|told| told.source() == Source::ByHand)
        .max_by_key(|told| told.rebuilds())
}

/// A skip that is easy to find: in the shortest list of decisions, the latest of them.
fn skipped(facts: &Facts) -> Option<(&Told, &Decision)> {
    let changes = facts.changes.iter().rev();
    changes
        .filter(|told| told.change.kind == Kind::Publish)
        .filter_map(|told| {
            let skip = told.decisions.iter().find(|one| !one.is_rebuild())?;
            Some((told, skip))
        })
        .min_by_key(|(told, _)| told.decisions.len())
}

/// A package that somebody could publish next, and the version: the next minor that most dependents let in.
async fn next<'a>(
    store: &dyn Store,
    history: &'a History,
) -> Result<Option<(&'a Publish, Version)>> {
    let mut best = None;
    let mut names: Vec<&PackageName> = Vec::new();
    for publish in history.replayed.iter().rev() {
        if names.contains(&&publish.name) {
            continue;
        }
        names.push(&publish.name);
        let Ok(version) = publish.version.inc(Release::Minor) else {
            continue;
        };
        let admits = |range: &Option<String>| {
            let range = range.as_deref().map(EdgeRange::of);
            range.is_some_and(|range| range.admits(&version, None))
        };
        let dependents = store.dependents(&publish.name, None, 1_000).await?;
        let count = dependents.iter().filter(|one| admits(&one.range)).count();
        if count > best.as_ref().map_or(0, |(most, _, _)| *most) {
            best = Some((count, publish, version));
        }
    }
    Ok(best.map(|(_, publish, version)| (publish, version)))
}

/// A package.json with that version, which declares what the last one declared.
fn package_json(publish: &Publish, version: &Version) -> String {
    let mut json = json!({"name": publish.name.as_str(), "version": version.to_string()});
    if let Some(dependencies) = publish.manifest.get("dependencies") {
        json["dependencies"] = dependencies.clone();
    }
    json.to_string()
}
