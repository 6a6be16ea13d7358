//! The whole publish history of Babel, replayed against a plain re-statement of the rules (rules 8, 9, 11).
//!
//! The oracle keeps every published version in memory and decides by looking at all of them. It knows nothing of edges,
//! partitions or projections. It must agree with every decision that was stored.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{BufRead as _, BufReader};
use std::sync::Arc;

use feedsme::dispatch::{Claim, claim};
use feedsme::ingest::{Clock, Core, Posted, accept, plan};
use feedsme::model::decision::Reason;
use feedsme::model::document::Document;
use feedsme::model::edge::EdgeRange;
use feedsme::model::id::{ChangeId, WaveId};
use feedsme::model::work::{Job, Work};
use feedsme::plan::Rules;
use feedsme::semver::Version;
use feedsme::store::sqlite::{Durability, Options, SqliteStore};
use serde_json::{Map, Value, json};

/// A publish of the history.
pub struct Publish {
    pub name: String,
    pub version: String,
    pub manifest: Map<String, Value>,
}

/// The history, oldest first.
pub fn history() -> Vec<Publish> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/babel-publishes.jsonl.gz"
    );
    let lines = BufReader::new(flate2::read::GzDecoder::new(
        std::fs::File::open(file).unwrap(),
    ))
    .lines();
    lines
        .map(|line| {
            let mut manifest: Map<String, Value> = serde_json::from_str(&line.unwrap()).unwrap();
            manifest
                .retain(|key, _| key == "name" || key == "version" || key.ends_with("ependencies"));
            Publish {
                name: manifest["name"].as_str().unwrap().into(),
                version: manifest["version"].as_str().unwrap().into(),
                manifest,
            }
        })
        .collect()
}

/// Which of the ranges that were ever declared; the same few texts come up again and again.
type RangeId = usize;

/// What the oracle knows of a package.
#[derive(Default)]
struct Known {
    /// Version → its origin, if it was rebuilt.
    versions: BTreeMap<Version, Option<Version>>,
    /// Parent → the range that each version declares, if it does.
    declares: HashMap<String, BTreeMap<Version, RangeId>>,
}

#[derive(Default)]
struct Oracle {
    packages: HashMap<String, Known>,
    ranges: Vec<EdgeRange>,
    range_ids: HashMap<String, RangeId>,
    /// Who ever declared the parent: only to be quick about who can be concerned at all.
    concerned: HashMap<String, BTreeSet<String>>,
    in_wave: HashMap<String, BTreeSet<String>>,
}

#[derive(Debug, PartialEq, Eq, Clone)]
enum Expected {
    Rebuild { base: String, version: String },
    Skip(&'static str),
}

impl Oracle {
    fn publish(
        &mut self,
        name: &str,
        version: &Version,
        origin: Option<Version>,
        manifest: &Map<String, Value>,
    ) {
        let mut ranges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let dependencies = manifest.get("dependencies").and_then(Value::as_object);
        for (parent, range) in dependencies.into_iter().flatten() {
            let range = range.as_str().unwrap();
            let alias = range.strip_prefix("npm:").and_then(|alias| {
                let at = alias[1..].find('@')? + 1;
                Some((&alias[..at], &alias[at + 1..]))
            });
            let (parent, range) = alias.unwrap_or((parent, range));
            let range = if range == "latest" { "*" } else { range };
            ranges.entry(parent.into()).or_default().push(range.into());
        }
        let known = self.packages.entry(name.to_owned()).or_default();
        let again = known.versions.insert(version.clone(), origin);
        assert!(again.is_none(), "{name}@{version} is published twice");
        for (parent, all) in ranges {
            // Two ranges to one package are one with an or between (rule 5).
            let range = all.join(" || ");
            let next = self.ranges.len();
            let id = *self.range_ids.entry(range).or_insert_with_key(|range| {
                self.ranges.push(EdgeRange::of(range));
                next
            });
            let concerned = self.concerned.entry(parent.clone()).or_default();
            concerned.insert(name.to_owned());
            let of_parent = known.declares.entry(parent).or_default();
            of_parent.insert(version.clone(), id);
        }
    }

    /// Rule 8, over all versions.
    fn decide(&mut self, wave: &str, root: &str, version: &Version) -> BTreeMap<String, Expected> {
        let origin = self.packages[root].versions[version].as_ref();
        let in_wave = self.in_wave.entry(wave.to_owned()).or_default();
        in_wave.insert(root.to_owned());
        let mut expected = BTreeMap::new();
        let mut asked: Vec<Option<bool>> = vec![None; self.ranges.len()];
        for dependent in self.concerned.get(root).into_iter().flatten() {
            let known = &self.packages[dependent];
            let (highest, _) = known.versions.last_key_value().unwrap();
            let declares = &known.declares[root];
            let of_highest = declares.get(highest).map(|range| &self.ranges[*range]);
            let mut admits = |range: RangeId| {
                *asked[range].get_or_insert_with(|| self.ranges[range].admits(version, origin))
            };
            let base = of_highest.and_then(|_| {
                let mut all = declares.iter().rev();
                all.find(|(_, range)| admits(**range))
            });
            let answer = match (base, of_highest) {
                (_, None) => Expected::Skip("no_longer_depends"),
                (None, Some(range)) if range.nothing().is_some() => {
                    Expected::Skip("admits_nothing")
                }
                (None, Some(_)) => Expected::Skip("out_of_range"),
                (Some(_), _) if in_wave.contains(dependent) => Expected::Skip("already_in_wave"),
                (Some((base, _)), _) => {
                    in_wave.insert(dependent.clone());
                    Expected::Rebuild {
                        base: base.to_string(),
                        version: String::new(),
                    }
                }
            };
            expected.insert(dependent.clone(), answer);
        }
        expected
    }
}

fn core(dir: &tempfile::TempDir) -> Core {
    let options = Options {
        durability: Durability::Off,
        ..Options::default()
    };
    let store = SqliteStore::open(&dir.path().join("history.sqlite3"), options).unwrap();
    Core {
        store: Arc::new(store),
        rules: Arc::new(Rules::default()),
        clock: Clock::system(),
        hints: Arc::default(),
    }
}

async fn post(core: &Core, manifest: &Map<String, Value>) -> (ChangeId, Vec<Work>) {
    let document = Document::parse(&serde_json::to_vec(manifest).unwrap()).unwrap();
    let posted = Posted {
        document,
        env: None,
        promote: true,
        key: None,
    };
    let accepted = accept(core, &posted).await.unwrap();
    let Job::Plan { change, digest } = &accepted.work.job else {
        panic!("accepting puts a plan")
    };
    let work = plan(core, change, digest).await.unwrap();
    core.store.finish_work(&[accepted.work]).await.unwrap();
    (accepted.id, work)
}

/// A manifest to publish; of a rebuild with its wave and origin.
type Notice = (Map<String, Value>, Option<(WaveId, Version)>);

/// Replays the first `publishes` of the history from `from` on and checks every decision; with `notices`, every rebuild
/// is claimed and its notice comes back at once. Returns how many rebuilds there were.
pub async fn replay(core: &Core, history: &[Publish], notices: bool) -> usize {
    let mut oracle = Oracle::default();
    let mut taken: BTreeSet<(String, String)> = BTreeSet::new();
    let mut rebuilds = 0;
    for publish in history {
        // What was given out to a rebuild before, nobody can publish by hand any more.
        let key = (publish.name.clone(), publish.version.clone());
        if notices && taken.contains(&key) {
            continue;
        }
        let mut open: VecDeque<Notice> = [(publish.manifest.clone(), None)].into();
        while let Some((manifest, rebuilt)) = open.pop_front() {
            let name = manifest["name"].as_str().unwrap().to_owned();
            let version = Version::parse(manifest["version"].as_str().unwrap()).unwrap();
            let (id, work) = post(core, &manifest).await;
            let (wave, origin) = match rebuilt {
                Some((wave, origin)) => (wave, Some(origin)),
                None => (WaveId::from(&id), None),
            };
            taken.insert((name.clone(), version.to_string()));
            oracle.publish(&name, &version, origin, &manifest);
            let mut expected = oracle.decide(wave.as_str(), &name, &version);

            let decisions = core.store.decisions(&id, 0, 100_000).await.unwrap();
            for decision in &decisions {
                let dependent = decision.dependent.as_str();
                let found = match (&decision.reason, &decision.version) {
                    (Reason::Admitted | Reason::OlderAdmitted, Some(version)) => {
                        assert!(
                            taken.insert((dependent.to_owned(), version.to_string())),
                            "{dependent}@{version} was given out twice"
                        );
                        Expected::Rebuild {
                            base: decision.base.as_ref().unwrap().to_string(),
                            version: String::new(),
                        }
                    }
                    (reason, _) => Expected::Skip(reason.code()),
                };
                assert_eq!(
                    expected.remove(dependent),
                    Some(found),
                    "{dependent} after {name}@{version} ({} in {wave})",
                    decision.reason.code()
                );
            }
            assert!(
                expected.is_empty(),
                "no decision after {name}@{version} about {expected:?}"
            );
            rebuilds += work.len();

            for item in &work {
                let Job::Send { rebuild, key, .. } = &item.job else {
                    panic!("planning puts sends")
                };
                if notices {
                    let claim = claim(
                        core,
                        &feedsme::dispatch::Owner::alone("test"),
                        rebuild,
                        &item.package,
                        key,
                    )
                    .await;
                    let Claim::Claimed(claimed) = claim.unwrap() else {
                        panic!("it is to be sent")
                    };
                    let base = &claimed.rebuild.base;
                    let origin = oracle.packages[item.package.as_str()].versions[base].clone();
                    let origin = origin.unwrap_or_else(|| base.clone());
                    let want = feedsme::store::Want::rows(
                        &item.package,
                        vec![feedsme::model::package::RowKey::publish(
                            &claimed.rebuild.base,
                        )],
                    );
                    let states = core.store.packages(&[want]).await.unwrap();
                    let digest = states[0]
                        .facts(&claimed.rebuild.base)
                        .unwrap()
                        .digest
                        .clone()
                        .unwrap();
                    let stored = core
                        .store
                        .manifest(&item.package, &claimed.rebuild.base, &digest)
                        .await
                        .unwrap();
                    let mut manifest = Document::parse(&stored.unwrap()).unwrap().manifest;
                    manifest.insert("version".into(), json!(key.version.to_string()));
                    open.push_back((manifest, Some((wave.clone(), origin))));
                }
                core.store
                    .finish_work(std::slice::from_ref(item))
                    .await
                    .unwrap();
            }
        }
    }
    rebuilds
}

/// v7.0.0 in the history.
pub const FROM_V7: usize = 6_600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_the_whole_history_of_babel_without_notices() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(&dir);
    let rebuilds = replay(&core, &history(), false).await;
    println!("{rebuilds} rebuilds");
    assert!((20_000..22_000).contains(&rebuilds), "{rebuilds}");
}

/// With notices every rebuild triggers the next level: 56,860 rebuilds for the whole history. `FEEDSME_BABEL=1000` replays
/// that many publishes from v7.0.0 on, for a quick look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_the_whole_history_of_babel_with_notices() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(&dir);
    let history = history();
    let publishes = std::env::var("FEEDSME_BABEL").ok();
    let publishes = publishes.map(|count| count.parse::<usize>().unwrap());
    let part = match publishes {
        Some(count) => &history[FROM_V7..FROM_V7 + count],
        None => &history[..],
    };
    let rebuilds = replay(&core, part, true).await;
    println!("{rebuilds} rebuilds");
    let expected = match publishes {
        Some(count) => count..100 * count,
        None => 56_000..58_000,
    };
    assert!(expected.contains(&rebuilds), "{rebuilds}");
}
