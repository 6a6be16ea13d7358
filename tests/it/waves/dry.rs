//! The plan of a dry run against what then happens, over random states (design.md 6, `POST /plan/{env}`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use feedsme::dispatch::{Claim, Owner, claim};
use feedsme::ingest::{self, Clock, Core, Foreseen, Posted, accept, dry_run, handle};
use feedsme::model::change::Verdict;
use feedsme::model::decision::Decision;
use feedsme::model::document::Document;
use feedsme::model::env::Env;
use feedsme::model::id::{ChangeId, WaveId};
use feedsme::model::name::PackageName;
use feedsme::model::package::{Kind, Rebuild, RebuildState, RowKey, Slot};
use feedsme::model::wave::Hold;
use feedsme::model::work::{Job, Work};
use feedsme::plan::{Increment, Rules, WithoutLine};
use feedsme::semver::Version;
use feedsme::store::sqlite::{Durability, Options, SqliteStore};
use feedsme::store::{Want, all_pending};
use serde_json::{Map, Value, json};

/// Random numbers that are the same every time (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

const RANGES: &[&str] = &[
    "*",
    "^1.0.0",
    "^1.0.0",
    "^1.0.0",
    "~1.0.0",
    "^2.0.0",
    "1.0.0",
    ">=1.0.0 <3.0.0",
    "latest",
    "git+ssh://git@example.com/x.git",
    "^1.0.0 || ^2.0.0",
];
const VERSIONS: &[&str] = &[
    "1.0.0",
    "1.0.1",
    "1.1.0",
    "1.2.0",
    "2.0.0",
    "2.1.0",
    "3.0.0",
    "1.5.0-beta.0",
];

/// A service without its neighbours: what they would be sent is claimed here, and answered by its notice.
struct World {
    core: Core,
    dice: Dice,
    names: Vec<String>,
    connection: rusqlite::Connection,
    posted: BTreeSet<(String, String)>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dry.sqlite3");
        let options = Options {
            durability: Durability::Off,
            ..Options::default()
        };
        let store = SqliteStore::open(&file, options).unwrap();
        let rules = Rules {
            increment: *dice.of(&[
                Increment::Prerelease,
                Increment::Prerelease,
                Increment::Patch,
            ]),
            promote_without_line: *dice.of(&[WithoutLine::Nothing, WithoutLine::Highest]),
            duplicate_window: std::time::Duration::ZERO,
            ..Rules::default()
        };
        let names = (0..4 + dice.below(6)).map(|at| format!("p{at}")).collect();
        Self {
            core: Core::new(Arc::new(store), Arc::new(rules), Clock::system()),
            dice,
            names,
            connection: rusqlite::Connection::open(&file).unwrap(),
            posted: BTreeSet::new(),
            _dir: dir,
        }
    }

    /// Whether anything was written since it was asked last.
    fn writes(&self) -> i64 {
        let query = "PRAGMA data_version";
        self.connection
            .query_row(query, [], |row| row.get(0))
            .unwrap()
    }

    /// Every row of every table.
    fn picture(&self) -> BTreeMap<String, Vec<String>> {
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table'";
        let mut tables = self.connection.prepare(tables).unwrap();
        let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let names: Vec<String> = names.map(Result::unwrap).collect();
        let rows = |table: &String| {
            let mut rows = self
                .connection
                .prepare(&format!("SELECT * FROM {table}"))
                .unwrap();
            let columns = rows.column_count();
            let text = |row: &rusqlite::Row<'_>| {
                let values = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
                Ok(format!("{:?}", values.collect::<Result<Vec<_>, _>>()?))
            };
            rows.query_map([], text)
                .unwrap()
                .map(Result::unwrap)
                .collect()
        };
        names
            .iter()
            .map(|table| (table.clone(), rows(table)))
            .collect()
    }

    /// A version with random dependencies, backwards, forwards and on itself.
    fn manifest(&mut self) -> Option<Map<String, Value>> {
        let names = self.names.clone();
        let name = self.dice.of(&names).clone();
        let version = (*self.dice.of(VERSIONS)).to_owned();
        if !self.posted.insert((name.clone(), version.clone())) {
            return None;
        }
        let mut dependencies = Map::new();
        for (at, parent) in names.iter().enumerate() {
            let own = names.iter().position(|one| *one == name).unwrap();
            let chance = if at < own { 2 } else { 6 };
            if self.dice.one_in(chance) {
                dependencies.insert(parent.clone(), json!(*self.dice.of(RANGES)));
            }
        }
        let manifest = json!({"name": name, "version": version, "dependencies": dependencies});
        manifest.as_object().cloned()
    }

    fn posted(manifest: &Map<String, Value>, env: Option<&Env>) -> Posted {
        Posted {
            document: Document::parse(&serde_json::to_vec(manifest).unwrap()).unwrap(),
            env: env.cloned(),
            promote: true,
            key: None,
        }
    }

    async fn post(&self, posted: &Posted) -> (ChangeId, Vec<Work>) {
        let accepted = accept(&self.core, posted).await.unwrap();
        let Job::Plan { change, digest } = &accepted.work.job else {
            panic!("accepting puts a plan")
        };
        let work = ingest::plan(&self.core, change, digest).await.unwrap();
        self.core.store.finish_work(&[accepted.work]).await.unwrap();
        (accepted.id, work)
    }

    /// Does everything that follows from this work but what is due later; rebuilds are claimed and their notices come back.
    async fn run(&mut self, changes: Vec<ChangeId>, work: Vec<Work>) -> Ran {
        let mut ran = Ran {
            changes,
            events: Vec::new(),
        };
        let mut open = work;
        while !open.is_empty() {
            let item = open.swap_remove(self.dice.below(open.len()));
            let Job::Send { rebuild, key, .. } = &item.job else {
                if item.due <= self.core.clock.now() {
                    open.extend(handle(&self.core, &item).await.unwrap().work);
                }
                continue;
            };
            let claimed = claim(
                &self.core,
                &Owner::alone("test"),
                rebuild,
                &item.package,
                key,
            )
            .await;
            let Claim::Claimed(claimed) = claimed.unwrap() else {
                continue;
            };
            let pair = (item.package.to_string(), key.version.to_string());
            let waves = claimed.rebuild.waves.clone();
            ran.events.push(Event {
                package: pair.0.clone(),
                version: pair.1.clone(),
                waves,
            });
            let base = &claimed.rebuild.base;
            let want = Want::rows(&item.package, vec![RowKey::publish(base)]);
            let states = self.core.store.packages(&[want]).await.unwrap();
            let digest = states[0].facts(base).unwrap().digest.clone().unwrap();
            let stored = self
                .core
                .store
                .manifest(&item.package, base, &digest)
                .await
                .unwrap();
            let mut manifest = Document::parse(&stored.unwrap()).unwrap().manifest;
            manifest.insert("version".into(), json!(pair.1));
            let env = match &key.slot {
                Slot::Publish => None,
                Slot::Env(env) => Some(env.clone()),
            };
            self.posted.insert(pair);
            let (id, work) = self.post(&Self::posted(&manifest, env.as_ref())).await;
            ran.changes.push(id);
            open.extend(work);
        }
        ran
    }

    /// What an earlier wave has still to send and this one waits for.
    async fn joined(&self, wave: &WaveId) -> Vec<Work> {
        let mut joined = Vec::new();
        for item in all_pending(&*self.core.store).await.unwrap() {
            let Job::Send { key, .. } = &item.job else {
                continue;
            };
            let want = Want::rows(&item.package, vec![key.clone()]);
            let states = self.core.store.packages(&[want]).await.unwrap();
            let rebuild = states[0].row(key).and_then(|row| row.rebuild.as_ref());
            let waits = |rebuild: &Rebuild| {
                rebuild.state == RebuildState::Queued && rebuild.waves.contains(wave)
            };
            if rebuild.is_some_and(waits) {
                joined.push(item);
            }
        }
        joined
    }

    /// One random thing that happened before.
    async fn happen(&mut self) {
        match self.dice.below(20) {
            0 => {
                if let Some(manifest) = self.manifest() {
                    let posted = Self::posted(&manifest, None);
                    ingest::import(&self.core, &posted.document).await.unwrap();
                }
            }
            1 => {
                let names = self.names.clone();
                let package = PackageName::parse(self.dice.of(&names).as_str()).unwrap();
                let parent = self.dice.one_in(2).then(|| self.dice.of(&names).clone());
                let hold = Hold {
                    id: format!("hold-{}", self.dice.below(1 << 30)),
                    package,
                    parent: parent.map(|parent| PackageName::parse(&parent).unwrap()),
                    owner: "somebody".into(),
                    reason: "because".into(),
                    placed: self.core.clock.now(),
                    expires: None,
                    ended: None,
                };
                ingest::wave::hold(&self.core, &hold).await.unwrap();
            }
            2..=4 => {
                if let Some((posted, _)) = self.promotion() {
                    let (id, work) = self.post(&posted).await;
                    if !self.dice.one_in(4) {
                        self.run(vec![id], work).await;
                    }
                }
            }
            _ => {
                if let Some(manifest) = self.manifest() {
                    let (id, work) = self.post(&Self::posted(&manifest, None)).await;
                    // Now and then the notices stay away, and the wave stays open.
                    if !self.dice.one_in(8) {
                        self.run(vec![id], work).await;
                    }
                }
            }
        }
    }

    /// A promotion of something that was posted.
    fn promotion(&mut self) -> Option<(Posted, Env)> {
        let all: Vec<_> = self.posted.iter().cloned().collect();
        if all.is_empty() {
            return None;
        }
        let (name, version) = self.dice.of(&all).clone();
        let environments: Vec<Env> = self
            .core
            .rules
            .environments
            .iter()
            .skip(1)
            .cloned()
            .collect();
        let env = self.dice.of(&environments).clone();
        let manifest = json!({"name": name, "version": version});
        Some((Self::posted(manifest.as_object().unwrap(), Some(&env)), env))
    }

    async fn decisions(&self, ran: &Ran, wave: &WaveId) -> Vec<Decision> {
        let mut all = Vec::new();
        let changes: BTreeSet<&ChangeId> = ran.changes.iter().collect();
        for change in changes {
            let of_change = self.core.store.decisions(change, 0, 100_000).await.unwrap();
            all.extend(of_change.into_iter().filter(|one| one.wave == *wave));
        }
        all
    }
}

/// What happened.
struct Ran {
    changes: Vec<ChangeId>,
    /// What was sent, in order; its notice came right after.
    events: Vec<Event>,
}

struct Event {
    package: String,
    version: String,
    waves: BTreeSet<WaveId>,
}

type Rebuilt = BTreeSet<(String, String, String)>;

fn foreseen_rebuilds(foreseen: &Foreseen) -> Rebuilt {
    let rebuilds = foreseen.nodes.iter().filter(|node| node.rebuild);
    let one = |node: &ingest::ForeseenNode| {
        let version = node.decision.version.as_ref().unwrap();
        let base = node.decision.base.as_ref().unwrap();
        assert_eq!(Some(base), Some(&node.plan.base));
        (
            node.plan.key.package.to_string(),
            base.to_string(),
            version.to_string(),
        )
    };
    rebuilds.map(one).collect()
}

fn done_rebuilds(decisions: &[Decision]) -> Rebuilt {
    let rebuilds = decisions.iter().filter(|one| one.is_rebuild());
    let text = |version: &Option<Version>| version.as_ref().unwrap().to_string();
    let one = |one: &Decision| {
        (
            one.dependent.to_string(),
            text(&one.base),
            text(&one.version),
        )
    };
    rebuilds.map(one).collect()
}

/// (parent, version, dependent, reason) of what is not rebuilt.
fn skipped<'a>(decisions: impl Iterator<Item = &'a Decision>) -> BTreeSet<[String; 4]> {
    let one = |one: &Decision| {
        [
            one.parent.to_string(),
            one.parent_version.to_string(),
            one.dependent.to_string(),
            one.reason.code().to_owned(),
        ]
    };
    decisions.map(one).collect()
}

#[derive(Default, Debug)]
struct Tally {
    probes: usize,
    opened: usize,
    nodes: usize,
    cycles: usize,
    unsettled: usize,
    unsettled_and_wrong: usize,
    other_verdicts: BTreeMap<&'static str, usize>,
}

/// Foresees one change, then does it, and compares.
async fn probe(world: &mut World, posted: &Posted, seed: u64, tally: &mut Tally) {
    let deep = world.dice.one_in(10);
    let before = deep.then(|| world.picture());
    let version = world.writes();
    let pending = all_pending(&*world.core.store).await.unwrap();
    let foreseen = dry_run(&world.core, posted).await.unwrap();
    assert_eq!(world.writes(), version, "a dry run writes nothing");
    assert_eq!(all_pending(&*world.core.store).await.unwrap(), pending);
    assert_eq!(deep.then(|| world.picture()), before);

    let (id, work) = world.post(posted).await;
    let mut ran = world.run(vec![id.clone()], work).await;
    // What it shares with waves whose notices had stayed away comes back now, too.
    loop {
        let joined = world.joined(&WaveId::from(&id)).await;
        if joined.is_empty() {
            break;
        }
        let more = world.run(Vec::new(), joined).await;
        ran.changes.extend(more.changes);
        ran.events.extend(more.events);
    }
    let change = world.core.store.change(&id).await.unwrap().unwrap();
    let verdict = change.planned.unwrap().verdict;
    let what = format!(
        "seed {seed}: {}@{} {}",
        change.name, change.version, change.env
    );
    assert_eq!(foreseen.verdict.code(), verdict.code(), "{what}");
    tally.probes += 1;
    if verdict != Verdict::Opened {
        *tally.other_verdicts.entry(verdict.code()).or_default() += 1;
        assert_eq!(foreseen.nodes.len(), 0, "{what}");
        if !matches!(verdict, Verdict::Duplicate { .. }) {
            assert_eq!(foreseen.verdict, verdict, "{what}");
        }
        return;
    }
    tally.opened += 1;
    tally.nodes += foreseen.nodes.len();
    tally.cycles += usize::from(!foreseen.components.is_empty());
    let wave = WaveId::from(&id);
    let decisions = world.decisions(&ran, &wave).await;
    let (expected, found) = (foreseen_rebuilds(&foreseen), done_rebuilds(&decisions));
    if !foreseen.settled {
        tally.unsettled += 1;
        let names = |all: &Rebuilt| all.iter().map(|one| one.0.clone()).collect::<BTreeSet<_>>();
        // It says itself that it is not sure; nearly always it is right about the packages.
        tally.unsettled_and_wrong += usize::from(names(&expected) != names(&found));
        return;
    }
    assert_eq!(expected, found, "{what}\n{foreseen:#?}\n{decisions:#?}");

    // Nobody was sent before whom it was said to wait for.
    let mut sent = BTreeSet::new();
    let rebuilt: BTreeSet<(String, String)> = expected
        .iter()
        .map(|(name, _, version)| (name.clone(), version.clone()))
        .collect();
    let version_of: BTreeMap<&String, &String> = rebuilt
        .iter()
        .map(|(name, version)| (name, version))
        .collect();
    for event in ran
        .events
        .iter()
        .filter(|event| event.waves.contains(&wave))
    {
        let node = foreseen
            .nodes
            .iter()
            .find(|node| node.plan.key.package.as_str() == event.package);
        for parent in &node.unwrap().plan.waits_for {
            let parent = parent.package.to_string();
            if let Some(version) = version_of.get(&parent) {
                assert!(
                    sent.contains(&(parent.clone(), (*version).clone())),
                    "{what}: {} before {parent}",
                    event.package
                );
            }
        }
        sent.insert((event.package.clone(), event.version.clone()));
    }
    // What joined a rebuild that another wave is sending is not sent again.
    if rebuilt.len() != sent.len() {
        assert!(change.kind == Kind::Promotion, "{what}");
    }

    let of_nodes = foreseen
        .nodes
        .iter()
        .filter(|node| !node.rebuild)
        .map(|node| &node.decision);
    let expected = skipped(foreseen.skips.iter().chain(of_nodes));
    let found = skipped(decisions.iter().filter(|one| !one.is_rebuild()));
    let origin = change.name.to_string();
    let of_origin = |all: &BTreeSet<[String; 4]>| -> BTreeSet<[String; 4]> {
        all.iter().filter(|one| one[0] == origin).cloned().collect()
    };
    // What ends a whole node: on whose behalf it is written down depends on who was published first.
    let of_nodes = |all: &BTreeSet<[String; 4]>| -> BTreeSet<(String, String)> {
        let ends = [
            "held",
            "upstream_failed",
            "no_longer_reached",
            "published_by_hand",
        ];
        all.iter()
            .filter(|one| ends.contains(&one[3].as_str()))
            .map(|one| (one[2].clone(), one[3].clone()))
            .collect()
    };
    // Of two skips of one dependent under one change the store keeps the first.
    let kept = |dependent: &str| found.iter().any(|other| other[2] == dependent);
    if change.kind == Kind::Publish {
        let (mut of_expected, of_found) = (of_nodes(&expected), of_nodes(&found));
        of_expected.retain(|one| of_found.contains(one) || !kept(&one.0));
        assert_eq!(
            of_expected, of_found,
            "{what}\n{foreseen:#?}\n{decisions:#?}"
        );
    }
    let pairs = |all: &BTreeSet<[String; 4]>| -> BTreeSet<[String; 4]> {
        let ends = of_nodes(all);
        let pair = |one: &&[String; 4]| !ends.contains(&(one[2].clone(), one[3].clone()));
        all.iter().filter(pair).cloned().collect()
    };
    let (mut of_expected, of_found) = (pairs(&of_origin(&expected)), pairs(&of_origin(&found)));
    of_expected.retain(|one| of_found.contains(one) || !kept(&one[2]));
    assert_eq!(
        of_expected, of_found,
        "{what}\n{foreseen:#?}\n{decisions:#?}"
    );
}

/// 250 worlds, four changes each: 1,000 states. `FEEDSME_DRY=5` looks at one world.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_5_the_plan_of_a_dry_run_is_what_then_happens() {
    let only = std::env::var("FEEDSME_DRY")
        .ok()
        .map(|seed| seed.parse::<u64>().unwrap());
    let seeds = only.map_or(0..250, |seed| seed..seed + 1);
    let mut tally = Tally::default();
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..8 + world.dice.below(16) {
            world.happen().await;
        }
        for _ in 0..4 {
            let posted = loop {
                if world.dice.below(5) < 2 {
                    if let Some((posted, _)) = world.promotion() {
                        break posted;
                    }
                } else if let Some(manifest) = world.manifest() {
                    break World::posted(&manifest, None);
                }
            };
            probe(&mut world, &posted, seed, &mut tally).await;
        }
    }
    println!("{tally:?}");
    if only.is_none() {
        assert_eq!(tally.probes, 1_000);
        assert!(tally.unsettled_and_wrong <= 5, "{tally:?}");
        assert!(
            tally.opened > 500 && tally.nodes > 500 && tally.cycles > 20,
            "{tally:?}"
        );
    }
}
