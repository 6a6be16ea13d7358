//! How many rebuilds Babel's publish history costs: `cargo bench --bench trains`.
//!
//! A plain simulation, without a store: the history in order, every publish followed by what it leads to. It counts three
//! ways of following: each notice triggers the next level at once, as the Node software does; one wave a publish; one
//! wave a release train (setting `settle`), in which what was published with the train is not rebuilt. Rebuilds do not
//! become bases here, so that the three see the same versions.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{BufRead as _, BufReader};

use feedsme::model::edge::EdgeRange;
use feedsme::semver::{Release, Version};
use serde_json::Value;

/// A publish of the history.
struct Publish {
    release: String,
    name: String,
    version: Version,
    edges: Vec<(String, String)>,
}

fn history() -> Vec<Publish> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/babel-publishes.jsonl.gz"
    );
    let file = std::fs::File::open(file).expect("the fixture is there");
    BufReader::new(flate2::read::GzDecoder::new(file))
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
            let text = |key: &str| line[key].as_str().expect("a text").to_owned();
            let edges = line["dependencies"].as_object();
            Publish {
                release: text("release"),
                name: text("name"),
                version: Version::parse(&text("version")).expect("semver"),
                edges: edges
                    .into_iter()
                    .flatten()
                    .map(|(name, range)| {
                        (name.clone(), range.as_str().unwrap_or_default().to_owned())
                    })
                    .collect(),
            }
        })
        .collect()
}

/// What is published so far.
#[derive(Default)]
struct World {
    /// Package → version → parent → range.
    packages: HashMap<String, BTreeMap<Version, HashMap<String, String>>>,
    /// Who ever declared the parent.
    dependents: HashMap<String, BTreeSet<String>>,
    ranges: HashMap<String, EdgeRange>,
}

impl World {
    fn publish(&mut self, one: &Publish) {
        for (parent, range) in &one.edges {
            self.dependents
                .entry(parent.clone())
                .or_default()
                .insert(one.name.clone());
            self.ranges
                .entry(range.clone())
                .or_insert_with(|| EdgeRange::of(range));
        }
        self.packages
            .entry(one.name.clone())
            .or_default()
            .insert(one.version.clone(), one.edges.iter().cloned().collect());
    }

    /// Rule 8: whom a version reaches, with the version that each would get and its origin.
    fn reaches(&self, parent: &str, version: &Version, origin: Option<&Version>) -> Vec<Made> {
        let mut reached = Vec::new();
        for dependent in self.dependents.get(parent).into_iter().flatten() {
            let versions = &self.packages[dependent];
            let Some((_, top)) = versions.last_key_value() else {
                continue;
            };
            if !top.contains_key(parent) {
                continue;
            }
            let base = versions.iter().rev().find(|(_, edges)| {
                edges
                    .get(parent)
                    .is_some_and(|range| self.ranges[range].admits(version, origin))
            });
            if let Some((base, _)) = base
                && let Ok(made) = base.inc(Release::Prerelease)
            {
                reached.push(Made {
                    name: dependent.clone(),
                    version: made,
                    origin: base.clone(),
                });
            }
        }
        reached
    }

    /// All that follows if every notice triggers the next level at once: a package is rebuilt once for each way that leads
    /// to it. Only what leads back to a package on the same way is left out, or it would never end.
    fn cascade(&self, published: &Publish) -> usize {
        let mut way = vec![published.name.clone()];
        self.notices(&published.version, None, &mut way)
    }

    fn notices(&self, version: &Version, origin: Option<&Version>, way: &mut Vec<String>) -> usize {
        let Some(parent) = way.last().cloned() else {
            return 0;
        };
        let mut rebuilds = 0;
        for made in self.reaches(&parent, version, origin) {
            if way.contains(&made.name) {
                continue;
            }
            way.push(made.name.clone());
            rebuilds += 1 + self.notices(&made.version, Some(&made.origin), way);
            way.pop();
        }
        rebuilds
    }

    /// All that follows from these publishes together, each package once; those published themselves are not rebuilt.
    fn wave(&self, published: &[&Publish]) -> usize {
        let members: BTreeSet<&str> = published.iter().map(|one| one.name.as_str()).collect();
        let mut rebuilt = BTreeSet::new();
        let mut next: VecDeque<(String, Version, Option<Version>)> = published
            .iter()
            .map(|one| (one.name.clone(), one.version.clone(), None))
            .collect();
        while let Some((parent, version, origin)) = next.pop_front() {
            for made in self.reaches(&parent, &version, origin.as_ref()) {
                if members.contains(made.name.as_str()) || !rebuilt.insert(made.name.clone()) {
                    continue;
                }
                next.push_back((made.name, made.version, Some(made.origin)));
            }
        }
        rebuilt.len()
    }
}

/// A rebuild.
struct Made {
    name: String,
    version: Version,
    origin: Version,
}

fn main() {
    let history = history();
    let mut world = World::default();
    let (mut cascade, mut single, mut trains, mut waves) = (0, 0, 0, 0);
    let mut at = 0;
    while at < history.len() {
        let release = &history[at].release;
        let end = history[at..]
            .iter()
            .position(|one| one.release != *release)
            .map_or(history.len(), |count| at + count);
        let train: Vec<&Publish> = history[at..end].iter().collect();
        for one in &train {
            world.publish(one);
            single += world.wave(&[*one]);
            cascade += world.cascade(one);
        }
        trains += world.wave(&train);
        waves += 1;
        at = end;
    }
    println!("{} publishes in {waves} release trains", history.len());
    println!("| how | rebuilds | times one wave a train |");
    println!("|---|---|---|");
    for (how, rebuilds) in [
        ("each notice triggers the next level at once", cascade),
        ("one wave a publish", single),
        ("one wave a release train", trains),
    ] {
        let tenths = rebuilds * 10 / trains.max(1);
        println!("| {how} | {rebuilds} | {}.{} |", tenths / 10, tenths % 10);
    }
    assert!(cascade >= 6 * trains, "at least six times fewer");
}
