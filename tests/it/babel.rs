//! The whole publish history of Babel, replayed against a plain re-statement of the rules (rules 8, 9, 11).
//!
//! The oracle keeps every published version in memory and decides by looking at all of them. It knows nothing of edges,
//! partitions or projections. It must agree with every decision that was stored.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::time::Duration;

use feedsme::dispatch::{Claim, Owner, claim};
use feedsme::ingest::{Clock, Core, Posted, accept, handle, plan};
use feedsme::model::decision::Reason;
use feedsme::model::document::Document;
use feedsme::model::edge::EdgeRange;
use feedsme::model::id::{ChangeId, RebuildId, WaveId};
use feedsme::model::name::PackageName;
use feedsme::model::package::RowKey;
use feedsme::model::wave::WaveState;
use feedsme::model::work::{Job, Work};
use feedsme::plan::Rules;
use feedsme::semver::Version;
use feedsme::store::Want;
use feedsme::store::sqlite::{Durability, Options, SqliteStore};
use serde_json::{Map, Value, json};

/// A publish of the history.
pub struct Publish {
    /// The release that it was part of.
    pub release: String,
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
            let release = manifest["release"].as_str().unwrap().to_owned();
            manifest
                .retain(|key, _| key == "name" || key == "version" || key.ends_with("ependencies"));
            Publish {
                release,
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
}

#[derive(Debug, PartialEq, Eq, Clone)]
enum Expected {
    Rebuild(Version),
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

    /// Rule 8, over all versions: what every dependent would be rebuilt from for this version of a parent.
    fn decide(&self, root: &str, version: &Version) -> BTreeMap<String, Expected> {
        let origin = self.packages[root].versions[version].as_ref();
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
                (Some((base, _)), _) => Expected::Rebuild(base.clone()),
            };
            expected.insert(dependent.clone(), answer);
        }
        expected
    }

    /// Whether a package depends on another, however indirectly, by what their highest versions declare.
    fn reaches(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::from([from]);
        let mut next = vec![from];
        while let Some(parent) = next.pop() {
            for dependent in self.concerned.get(parent).into_iter().flatten() {
                if dependent == to {
                    return true;
                }
                if seen.insert(dependent) {
                    next.push(dependent);
                }
            }
        }
        false
    }
}

/// What a wave did so far.
struct Followed {
    /// Package → the version published in it, and when.
    published: BTreeMap<String, (Version, usize)>,
    /// Dependent → the base that was decided, its causes, and when.
    rebuilt: BTreeMap<String, (Version, Vec<String>, usize)>,
    /// What each published version would have made of each dependent, when its notice came.
    answers: BTreeMap<String, BTreeMap<String, Expected>>,
    turn: usize,
}

impl Followed {
    /// Rules 8, 15 and 16 over a whole wave: whoever a published version reaches was rebuilt once, from the highest base
    /// that one of them chooses, and not before them, but for what leads back to where it came from.
    fn check(&self, oracle: &Oracle, origins: &BTreeSet<String>) {
        for (parent, answers) in &self.answers {
            let (version, at) = &self.published[parent];
            for (dependent, answer) in answers {
                let Expected::Rebuild(base) = answer else {
                    continue;
                };
                if origins.contains(dependent) || dependent == parent {
                    continue;
                }
                let what = format!("{parent}@{version} → {dependent} in a wave of {origins:?}");
                let Some((of, causes, decided)) = self.rebuilt.get(dependent) else {
                    panic!("{what}: not rebuilt")
                };
                let in_circle = || oracle.reaches(dependent, parent);
                if causes.contains(parent) {
                    assert_eq!(of, base, "{what}");
                } else if *of <= *base {
                    assert!(in_circle(), "{what}: not among {causes:?}, {of} for {base}");
                }
                if decided < at {
                    assert!(in_circle() || of > base, "{what}: decided before");
                }
            }
        }
    }
}

fn core(dir: &tempfile::TempDir) -> Core {
    let options = Options {
        durability: Durability::Off,
        ..Options::default()
    };
    let store = SqliteStore::open(&dir.path().join("history.sqlite3"), options).unwrap();
    Core::new(Arc::new(store), Arc::default(), Clock::system())
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

/// Replays a part of the history, each publish in a wave of its own, and checks every decision; every rebuild is claimed
/// and its notice comes back at once. Returns how many rebuilds there were.
pub async fn replay(core: &Core, history: &[Publish]) -> usize {
    let mut oracle = Oracle::default();
    let mut taken: BTreeSet<(String, String)> = BTreeSet::new();
    let mut rebuilds = 0;
    for publish in history {
        // What was given out to a rebuild before, nobody can publish by hand any more.
        let key = (publish.name.clone(), publish.version.clone());
        if taken.contains(&key) {
            continue;
        }
        let mut open: VecDeque<Notice> = [(publish.manifest.clone(), None)].into();
        let mut followed = Followed {
            published: BTreeMap::new(),
            rebuilt: BTreeMap::new(),
            answers: BTreeMap::new(),
            turn: 0,
        };
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
            let mut expected = oracle.decide(&name, &version);
            followed.turn += 1;
            let at = followed.turn;
            followed
                .published
                .insert(name.clone(), (version.clone(), at));
            followed.answers.insert(name.clone(), expected.clone());

            let decisions = core.store.decisions(&id, 0, 100_000).await.unwrap();
            for decision in &decisions {
                let dependent = decision.dependent.as_str();
                if let Some(version) = &decision.version {
                    assert!(
                        taken.insert((dependent.to_owned(), version.to_string())),
                        "{dependent}@{version} was given out twice"
                    );
                    let also = decision.also.iter().map(|cause| &cause.parent);
                    let causes = std::iter::once(&decision.parent).chain(also);
                    let causes = causes.map(|cause| cause.as_str().to_owned()).collect();
                    let base = decision.base.clone().unwrap();
                    let before = followed
                        .rebuilt
                        .insert(dependent.to_owned(), (base, causes, at));
                    assert!(before.is_none(), "{dependent} twice in {wave}");
                    continue;
                }
                if !matches!(
                    decision.reason,
                    Reason::NoLongerDepends | Reason::AdmitsNothing | Reason::OutOfRange
                ) {
                    continue;
                }
                assert_eq!(
                    expected.remove(dependent),
                    Some(Expected::Skip(decision.reason.code())),
                    "{dependent} after {name}@{version} in {wave}"
                );
            }
            expected.retain(|_, expected| matches!(expected, Expected::Skip(_)));
            assert!(
                expected.is_empty(),
                "no decision after {name}@{version} about {expected:?}"
            );
            let work: Vec<Work> = work
                .into_iter()
                .filter(|item| matches!(item.job, Job::Send { .. }))
                .collect();
            rebuilds += work.len();

            for item in &work {
                let Job::Send { rebuild, key, .. } = &item.job else {
                    panic!("planning puts sends")
                };
                let (manifest, origin) =
                    self::rebuilt(core, &oracle, rebuild, &item.package, key).await;
                open.push_back((manifest, Some((wave.clone(), origin))));
                core.store
                    .finish_work(std::slice::from_ref(item))
                    .await
                    .unwrap();
            }
        }
        followed.check(&oracle, &[publish.name.clone()].into());
        let wave = WaveId::from(&ChangeId::of_publish(
            &PackageName::parse(&publish.name).unwrap(),
            &Version::parse(&publish.version).unwrap(),
            None,
        ));
        if let Some(wave) = core.store.wave(&wave).await.unwrap() {
            assert_eq!(wave.state, WaveState::Closed, "{wave:?}");
        }
    }
    rebuilds
}

/// Replays the history with the publishes of a release sharing a wave (rule 14), and checks every wave. Returns how many
/// rebuilds there were.
pub async fn replay_trains(core: &Core, history: &[Publish]) -> usize {
    let mut oracle = Oracle::default();
    let mut taken: BTreeSet<(String, String)> = BTreeSet::new();
    let mut rebuilds = 0;
    for train in history.chunk_by(|one, other| one.release == other.release) {
        let mut followed = Followed {
            published: BTreeMap::new(),
            rebuilt: BTreeMap::new(),
            answers: BTreeMap::new(),
            turn: 0,
        };
        let mut origins = BTreeSet::new();
        let mut changes = Vec::new();
        let mut todo: VecDeque<Work> = VecDeque::new();
        for publish in train {
            let key = (publish.name.clone(), publish.version.clone());
            // What was given out to a rebuild before, nobody can publish by hand any more; and a package is in a train
            // once.
            if taken.contains(&key) || !origins.insert(publish.name.clone()) {
                continue;
            }
            let version = Version::parse(&publish.version).unwrap();
            let (id, work) = post(core, &publish.manifest).await;
            taken.insert(key);
            oracle.publish(&publish.name, &version, None, &publish.manifest);
            followed.turn += 1;
            followed
                .published
                .insert(publish.name.clone(), (version, followed.turn));
            changes.push(id);
            for item in work {
                if todo.iter().all(|one| one.id != item.id) {
                    todo.push_back(item);
                }
            }
        }
        for name in &origins {
            let (version, _) = &followed.published[name];
            let answers = oracle.decide(name, version);
            followed.answers.insert(name.clone(), answers);
        }
        assert!(todo.len() <= 1, "one window: {todo:?}");
        let mut done = BTreeSet::new();
        while let Some(item) = todo.pop_front() {
            // As the worker does: an item that is known is not taken in again.
            if !done.insert(item.id.clone()) {
                continue;
            }
            if let Job::Send { rebuild, key, .. } = &item.job {
                rebuilds += 1;
                let name = item.package.to_string();
                assert!(
                    taken.insert((name.clone(), key.version.to_string())),
                    "{name}@{} was given out twice",
                    key.version
                );
                let (manifest, origin) = rebuilt(core, &oracle, rebuild, &item.package, key).await;
                let (id, work) = post(core, &manifest).await;
                let version = key.version.clone();
                oracle.publish(&name, &version, Some(origin), &manifest);
                followed.turn += 1;
                let answers = oracle.decide(&name, &version);
                followed.answers.insert(name.clone(), answers);
                let at = followed.turn;
                followed.published.insert(name, (version, at));
                decided(core, &id, &mut followed).await;
                todo.extend(work);
            } else if !matches!(item.job, Job::Tick { .. }) {
                let handled = handle(core, &item).await.unwrap();
                todo.extend(handled.work);
                for id in &changes {
                    decided(core, id, &mut followed).await;
                }
            }
            core.store.finish_work(&[item]).await.unwrap();
        }
        followed.check(&oracle, &origins);
    }
    rebuilds
}

/// Notes the rebuilds that a change led to.
async fn decided(core: &Core, id: &ChangeId, followed: &mut Followed) {
    for decision in core.store.decisions(id, 0, 100_000).await.unwrap() {
        let Some(base) = decision.base.clone().filter(|_| decision.is_rebuild()) else {
            continue;
        };
        let also = decision.also.iter().map(|cause| &cause.parent);
        let causes = std::iter::once(&decision.parent).chain(also);
        let causes = causes.map(|cause| cause.as_str().to_owned()).collect();
        let turn = followed.turn;
        let before = followed
            .rebuilt
            .insert(decision.dependent.to_string(), (base, causes, turn));
        assert!(before.is_none(), "{} twice", decision.dependent);
    }
}

/// Claims a rebuild and returns what its notice would bring: the manifest of its base under its version, and its origin.
async fn rebuilt(
    core: &Core,
    oracle: &Oracle,
    rebuild: &RebuildId,
    name: &PackageName,
    key: &RowKey,
) -> (Map<String, Value>, Version) {
    let claim = claim(core, &Owner::alone("test"), rebuild, name, key).await;
    let Claim::Claimed(claimed) = claim.unwrap() else {
        panic!("it is to be sent")
    };
    let base = &claimed.rebuild.base;
    let origin = oracle.packages[name.as_str()].versions[base].clone();
    let origin = origin.unwrap_or_else(|| base.clone());
    let want = Want::rows(name, vec![RowKey::publish(base)]);
    let states = core.store.packages(&[want]).await.unwrap();
    let digest = states[0].facts(base).unwrap().digest.clone().unwrap();
    let stored = core.store.manifest(name, base, &digest).await.unwrap();
    let mut manifest = Document::parse(&stored.unwrap()).unwrap().manifest;
    manifest.insert("version".into(), json!(key.version.to_string()));
    (manifest, origin)
}

/// v7.0.0 in the history.
pub const FROM_V7: usize = 6_600;

/// The publishes of a release share a wave: what is published with the train is not rebuilt, and everything else once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_the_whole_history_of_babel_a_wave_a_train() {
    let dir = tempfile::tempdir().unwrap();
    let mut core = core(&dir);
    core.rules = Arc::new(Rules {
        settle: Duration::from_mins(5),
        ..Rules::default()
    });
    let rebuilds = replay_trains(&core, &history()).await;
    assert_eq!(rebuilds, 13_145);
}

/// A wave a publish: 59,000 rebuilds for the whole history. Every run replays 1,000 publishes from v7.0.0 on,
/// `FEEDSME_BABEL=all` all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_the_history_of_babel_a_wave_a_publish() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(&dir);
    let history = history();
    let all = std::env::var("FEEDSME_BABEL").is_ok_and(|publishes| publishes == "all");
    let part = if all {
        &history[..]
    } else {
        &history[FROM_V7..FROM_V7 + 1_000]
    };
    let rebuilds = replay(&core, part).await;
    println!("{rebuilds} rebuilds");
    assert!(
        (part.len()..100 * part.len()).contains(&rebuilds),
        "{rebuilds}"
    );
}
