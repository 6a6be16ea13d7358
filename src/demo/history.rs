//! What Babel published: the facts in `fixtures/babel-publishes.jsonl.gz`, inside the binary so that the demo runs anywhere.

use std::io::{BufRead as _, BufReader};

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Result;
use crate::model::document::Document;
use crate::model::name::PackageName;
use crate::semver::Version;

static PUBLISHES: &[u8] = include_bytes!("../../fixtures/babel-publishes.jsonl.gz");

/// The first publish that is replayed: v7.0.0, the release that moved Babel to scoped packages for good.
const FIRST_REPLAYED: u32 = 6601;

/// The part of the history that the demo plays.
pub struct History {
    /// What was published before: imported.
    pub before: Vec<Publish>,
    /// What is published by hand, oldest first.
    pub replayed: Vec<Publish>,
}

/// One publish.
pub struct Publish {
    /// The git tag that it was part of.
    pub release: String,
    /// The package.
    pub name: PackageName,
    /// The version.
    pub version: Version,
    /// Its package.json, as far as it matters here.
    pub manifest: Map<String, Value>,
}

#[derive(Deserialize)]
struct Line {
    seq: u32,
    release: String,
    name: String,
    version: String,
    #[serde(default)]
    private: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The fields of a package.json that make edges; `devDependencies` make none, and would be most of every document.
const FIELDS: [&str; 3] = ["dependencies", "peerDependencies", "optionalDependencies"];

impl History {
    /// Reads it up to `publishes` publishes from v7.0.0 on, or to its end. Private packages were never published.
    pub fn read(publishes: usize) -> std::result::Result<Self, String> {
        Self::parse(publishes).map_err(|error| format!("the history in the binary: {error}"))
    }

    fn parse(publishes: usize) -> Result<Self> {
        let mut history = Self {
            before: Vec::new(),
            replayed: Vec::new(),
        };
        for line in BufReader::new(GzDecoder::new(PUBLISHES)).lines() {
            let line: Line = serde_json::from_str(&line?)?;
            if line.private {
                continue;
            }
            let part = if line.seq < FIRST_REPLAYED {
                &mut history.before
            } else if history.replayed.len() < publishes {
                &mut history.replayed
            } else {
                break;
            };
            part.push(Publish::of(line)?);
        }
        Ok(history)
    }

    /// The first and the last release that is replayed.
    pub fn releases(&self) -> (&str, &str) {
        let (first, last) = (self.replayed.first(), self.replayed.last());
        (
            first.map_or("", |one| &one.release),
            last.map_or("", |one| &one.release),
        )
    }
}

impl Publish {
    fn of(line: Line) -> Result<Self> {
        let mut manifest = Map::new();
        manifest.insert("name".into(), json!(line.name));
        manifest.insert("version".into(), json!(line.version));
        let mut rest = line.rest;
        for field in FIELDS {
            if let Some(value) = rest.remove(field) {
                manifest.insert(field.into(), value);
            }
        }
        Ok(Self {
            release: line.release,
            name: PackageName::parse(&line.name)?,
            version: Version::parse(&line.version)?,
            manifest,
        })
    }

    /// The document that `npm publish` makes of it.
    pub fn document(&self) -> Value {
        let version = self.version.to_string();
        json!({
            "_id": self.name.as_str(),
            "name": self.name.as_str(),
            "dist-tags": {"latest": version},
            "versions": {version: self.manifest},
        })
    }

    /// The same as the service keeps it.
    pub fn parsed(&self) -> Result<Document> {
        Ok(Document::parse(&serde_json::to_vec(&self.document())?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_begins_with_babel_7() {
        let history = History::read(200).unwrap();
        assert_eq!(history.replayed.len(), 200);
        assert_eq!(history.releases(), ("v7.0.0", "v7.1.2"));
        assert!(history.before.len() > 6_500, "{}", history.before.len());
        let first = &history.replayed[0];
        assert_eq!(
            format!("{}@{}", first.name, first.version),
            "@babel/highlight@7.0.0"
        );
        assert!(first.manifest.contains_key("dependencies"));
        let document = first.parsed().unwrap();
        assert_eq!(document.manifest, first.manifest);
    }

    #[test]
    fn asking_for_more_than_there_is_takes_all() {
        let history = History::read(usize::MAX).unwrap();
        assert!(history.replayed.len() > 8_000);
        assert_eq!(history.replayed.len() + history.before.len(), 15_669 - 143);
    }
}
