//! Waves over random graphs, their notices in any order, twice, late or never, against a simple oracle (rules 8, 14-16).
//!
//! The oracle knows nothing of how the service works: it has the graph, walks it along the ranges, and says whom a
//! publish reaches, who is behind whom, and which version of a parent is the highest that a range admits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use feedsme::ingest::Posted;
use feedsme::model::edge::EdgeRange;
use feedsme::model::package::RowKey;
use feedsme::model::wave::{NodeKey, PlanNode, Standing, Start, Wave};
use feedsme::semver::Version;
use futures_util::stream::{self, StreamExt as _};

use crate::failures::crashing::Fault;
use crate::failures::outside::{manifest, posted};
use crate::failures::picture::{check, partition};
use crate::failures::random::Dice;
use crate::failures::world::{Parse as _, World};
use crate::places::{on_cassandra, rounds};

use super::told::{all_closed, facts, nodes, waves};

const RANGES: [&str; 8] = [
    "^1.0.0",
    "^1.0.0",
    "*",
    "latest",
    ">=1.0.0 <2.0.0",
    "~1.0.0",
    "1.0.0",
    "^2.0.0",
];

/// What every package declares, in all of its versions.
type Graph = BTreeMap<String, Vec<(String, String)>>;

fn graph(dice: &mut Dice) -> Graph {
    let size = 3 + dice.below(9);
    let cyclic = dice.below(3) == 0;
    let mut graph = Graph::new();
    for at in 0..size {
        let mut edges = Vec::new();
        for other in 0..size {
            let likely = match (other < at, cyclic) {
                (true, _) => 35,
                (false, true) => 10,
                (false, false) => 0,
            };
            if dice.below(100) < likely {
                edges.push((
                    format!("p{other:02}"),
                    RANGES[dice.below(RANGES.len())].to_owned(),
                ));
            }
        }
        graph.insert(format!("p{at:02}"), edges);
    }
    graph
}

fn admits(range: &str, version: &str, by_hand: bool) -> bool {
    let origin = (!by_hand).then(|| "1.0.0".parse_version());
    EdgeRange::of(range).admits(&version.parse_version(), origin.as_ref())
}

/// Whom a publish of this version reaches, if nobody was rebuilt before.
fn reached(graph: &Graph, root: &str, version: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = VecDeque::from([(root.to_owned(), version, true)]);
    while let Some((parent, version, by_hand)) = next.pop_front() {
        for (name, edges) in graph {
            let lets_in = edges
                .iter()
                .any(|(of, range)| *of == parent && admits(range, version, by_hand));
            if name != root && lets_in && reached.insert(name.clone()) {
                next.push_back((name.clone(), "1.0.1-0", false));
            }
        }
    }
    reached
}

/// Whether `from` is reached from `to`, along edges that let rebuilds pass and not through the root.
fn leads_back(graph: &Graph, members: &BTreeSet<String>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::from([to.to_owned()]);
    let mut next = vec![to.to_owned()];
    while let Some(parent) = next.pop() {
        if parent == from {
            return true;
        }
        for name in members {
            let lets_in = graph[name]
                .iter()
                .any(|(of, range)| *of == parent && admits(range, "1.0.1-0", false));
            if lets_in && seen.insert(name.clone()) {
                next.push(name.clone());
            }
        }
    }
    false
}

struct Story {
    world: World,
    dice: Dice,
    graph: Graph,
    /// How many requests were looked at.
    seen: usize,
    /// Versions whose notices came.
    noticed: BTreeSet<(String, String)>,
    told: Vec<Posted>,
    /// Notices that never come.
    lost: BTreeSet<(String, String)>,
    /// Whether time passed the deadline: then a parent need not have come.
    late: bool,
    /// Per wave and package, the rebuilds that were sent.
    sent: BTreeMap<(String, String), BTreeSet<String>>,
    /// From when on everybody is there.
    complete: i64,
    seed: u64,
}

fn key_of(posted: &Posted) -> (String, String) {
    let text = |field: &str| posted.document.manifest[field].as_str().unwrap().to_owned();
    (text("name"), text("version"))
}

impl Story {
    async fn publish(&mut self, name: &str, version: &str) {
        let edges = self.graph[name].clone();
        let edges: Vec<(&str, &str)> = edges
            .iter()
            .map(|(parent, range)| (parent.as_str(), range.as_str()))
            .collect();
        let manifest = manifest(name, version, &edges);
        self.world.outside.publish(&manifest);
        self.noticed.insert((name.to_owned(), version.to_owned()));
        self.world.post(&posted(&manifest, None)).await;
    }

    async fn notice(&mut self, notice: Posted) {
        self.noticed.insert(key_of(&notice));
        self.world.post(&notice).await;
        self.told.push(notice);
    }

    /// Everything that was sent since the last look was sent once in its wave, and after those that it waits for.
    async fn look(&mut self) {
        let arrived = self.world.outside.arrived[self.seen..].to_vec();
        self.seen += arrived.len();
        for one in arrived {
            let id = std::slice::from_ref(&one.rebuild);
            let index = self.world.inner.rebuilds(id).await.unwrap().remove(0);
            let index = index.unwrap_or_else(|| panic!("seed {}: {one:?}", self.seed));
            let state = partition(&*self.world.inner, &index.name, &[]).await;
            let rebuild = state.row(&index.key).unwrap().rebuild.clone().unwrap();
            for id in &rebuild.waves {
                let rebuilds = self
                    .sent
                    .entry((id.to_string(), one.name.clone()))
                    .or_default();
                rebuilds.insert(one.rebuild.to_string());
                assert_eq!(
                    rebuilds.len(),
                    1,
                    "seed {}: {} was sent twice in {id}",
                    self.seed,
                    one.name
                );
                let wave = self.world.inner.wave(id).await.unwrap().unwrap();
                let all = nodes(&self.world, &wave).await;
                let (plan, _) = &all[&NodeKey::package(&index.name)];
                let plan = plan.clone().unwrap();
                for parent in &plan.waits_for {
                    let (_, node) = &all[parent];
                    assert!(
                        node.standing().is_terminal(),
                        "seed {}: {} was sent before {parent:?} in {id}: {node:?}",
                        self.seed,
                        one.name
                    );
                    let by_hand = wave.start.origins().contains(parent);
                    if node.standing() == Standing::Published && !by_hand {
                        let at = node.published.as_ref().unwrap().to_string();
                        let came = (parent.package.to_string(), at);
                        assert!(
                            self.noticed.contains(&came),
                            "seed {}: nobody told of {came:?}",
                            self.seed
                        );
                    }
                }
                if wave.opened >= self.complete {
                    self.waits_for_all(&wave, &plan);
                }
            }
        }
    }

    /// A node of a wave that began with a publish waits for every other parent that the wave reaches, unless that one
    /// leads back to it.
    fn waits_for_all(&self, wave: &Wave, plan: &PlanNode) {
        let Start::Publish { origins, .. } = &wave.start else {
            return;
        };
        let root = origins[0].parent.as_str();
        let name = plan.key.package.as_str();
        let members = reached(&self.graph, root, &origins[0].version.to_string());
        for (parent, range) in &self.graph[name] {
            let from_root = parent == root && admits(range, &origins[0].version.to_string(), true);
            let behind = members.contains(parent)
                && admits(range, "1.0.1-0", false)
                && !leads_back(&self.graph, &members, parent, name);
            if (from_root || behind) && parent != name {
                assert!(
                    plan.waits_for
                        .iter()
                        .any(|one| one.package.as_str() == parent),
                    "seed {}: {name} does not wait for {parent} in {wave:?}: {plan:?}",
                    self.seed
                );
            }
        }
    }

    async fn settle(&mut self) {
        loop {
            self.world.drain().await;
            self.look().await;
            self.drop_lost();
            let Some(notice) = self.world.outside.notices.pop_front() else {
                return;
            };
            self.notice(notice).await;
        }
    }

    fn drop_lost(&mut self) {
        let lost = &self.lost;
        self.world
            .outside
            .notices
            .retain(|one| !lost.contains(&key_of(one)));
    }

    async fn turn(&mut self, roots: &mut Vec<(String, String)>, lateness: bool) {
        match self.dice.below(10) {
            0 | 1 if !roots.is_empty() => {
                let (name, version) = roots.remove(0);
                self.publish(&name, &version).await;
            }
            2..=4 if !self.world.outside.notices.is_empty() => {
                let at = self.dice.below(self.world.outside.notices.len());
                let notice = self.world.outside.notices.remove(at).unwrap();
                self.notice(notice).await;
            }
            5 if !self.told.is_empty() => {
                let at = self.dice.below(self.told.len());
                let again = self.told[at].clone();
                self.world.post(&again).await;
            }
            6 if lateness && !self.world.outside.notices.is_empty() && self.dice.below(3) == 0 => {
                self.late = true;
                self.world.drain().await;
                self.look().await;
                self.world.look_after(31 * 60_000).await;
            }
            6 if lateness && !self.world.outside.notices.is_empty() && self.dice.below(3) == 0 => {
                let at = self.dice.below(self.world.outside.notices.len());
                let notice = self.world.outside.notices.remove(at).unwrap();
                self.lost.insert(key_of(&notice));
                self.late = true;
            }
            7 => {
                let dice = &mut self.dice;
                let faults = [0, 1].map(|_| match dice.below(5) {
                    0 => Fault::Before(dice.below(40)),
                    1 => Fault::OnceAfter(dice.below(40)),
                    _ => Fault::Never,
                });
                self.world.plan_two(faults, &mut self.dice).await;
            }
            8 => self.world.pass(1_500),
            _ => {
                for _ in 0..=self.dice.below(6) {
                    self.world.step().await;
                    self.look().await;
                }
            }
        }
        self.look().await;
    }

    /// The last rebuild of everybody was built with the highest admitted version of each parent: of those that it waits
    /// for (rule 16), if it was noticed.
    async fn is_up_to_date(&self) {
        for (name, edges) in &self.graph {
            let mine = self.noticed.iter().filter(|(one, _)| one == name);
            let last: Version = mine.map(|(_, at)| at.parse_version()).max().unwrap();
            let with = facts(&self.world, name, &last.to_string())
                .await
                .with
                .unwrap();
            for (parent, range) in edges.iter().filter(|(parent, _)| parent != name) {
                let others = self
                    .noticed
                    .iter()
                    .filter(|(one, at)| one == parent && admits(range, at, !at.contains('-')));
                let highest: Option<Version> = others.map(|(_, at)| at.parse_version()).max();
                let has = with.get(&parent.parse_name());
                if has == highest.as_ref() || self.leads_back(parent, name) {
                    continue;
                }
                // Its own rebuild for it was sent and never came back.
                let never_came_back = self
                    .lost
                    .iter()
                    .any(|(one, at)| one == name && at.parse_version() > last);
                assert!(
                    never_came_back,
                    "seed {}: {name}@{last} was built with {parent}@{has:?}, there is {highest:?}",
                    self.seed
                );
            }
        }
    }

    fn leads_back(&self, parent: &str, name: &str) -> bool {
        let all: BTreeSet<String> = self.graph.keys().cloned().collect();
        leads_back(&self.graph, &all, parent, name)
    }
}

/// Says which world it was when a check fails.
struct Says(u64);

impl Drop for Says {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the graph of seed {}", self.0);
        }
    }
}

async fn one_graph(seed: u64, lateness: bool) -> usize {
    let _says = Says(seed);
    let mut dice = Dice::new(seed);
    let graph = graph(&mut dice);
    let mut story = Story {
        world: World::new([]),
        dice,
        graph: graph.clone(),
        seen: 0,
        noticed: BTreeSet::new(),
        told: Vec::new(),
        lost: BTreeSet::new(),
        late: false,
        sent: BTreeMap::new(),
        complete: i64::MAX,
        seed,
    };
    for name in graph.keys() {
        story.publish(name, "1.0.0").await;
        story.settle().await;
    }
    story.world.end_waves().await;
    let before = waves(&story.world).await.len();

    let alone = story.dice.below(2) == 0;
    if alone {
        // Nobody else is published by hand: rebuilds are what the oracle takes them for.
        story.complete = story.world.time.load(std::sync::atomic::Ordering::SeqCst);
    }
    let names: Vec<&String> = graph.keys().collect();
    let mut roots = Vec::new();
    for minor in 1..=(if alone { 1 } else { 2 + story.dice.below(2) }) {
        let name = names[story.dice.below(names.len().div_ceil(2))];
        roots.push((name.clone(), format!("1.{minor}.0")));
    }
    let first = roots[0].clone();
    for _ in 0..60 {
        story.turn(&mut roots, lateness).await;
    }
    for (name, version) in roots {
        story.publish(&name, &version).await;
    }
    story.settle().await;
    story.world.restart().await;
    story.settle().await;
    for _ in 0..4 {
        story.world.look_after(31 * 60_000).await;
        story.settle().await;
    }
    story.world.end_waves().await;
    story.look().await;
    all_closed(&story.world).await;
    check(&story.world).await;
    story.is_up_to_date().await;
    let all = waves(&story.world).await;
    if !story.late {
        let follow = all
            .iter()
            .filter(|wave| matches!(wave.start, Start::LateParent { .. }));
        assert_eq!(follow.count(), 0, "seed {seed}: nobody was late");
    }
    if alone && !story.late && graph_is_fresh(&story).await {
        let expected = reached(&graph, &first.0, &first.1);
        let id = all.get(before).map(|wave| wave.id.to_string());
        let sent: BTreeSet<String> = story
            .sent
            .keys()
            .filter(|(wave, _)| Some(wave) == id.as_ref())
            .map(|(_, name)| name.clone())
            .collect();
        assert_eq!(sent, expected, "seed {seed}: whom {first:?} reaches");
    }
    story.sent.len()
}

/// Whether the oracle's picture of versions holds: everything that was rebuilt descends from 1.0.0.
async fn graph_is_fresh(story: &Story) -> bool {
    for name in story.graph.keys() {
        let state = partition(&*story.world.inner, &name.parse_name(), &[]).await;
        let first = RowKey::publish(&"1.0.0".parse_version());
        if state.row(&first).is_none() {
            return false;
        }
    }
    true
}

async fn all_graphs(lateness: bool, count: usize) {
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..u64::try_from(rounds(count)).unwrap()).collect(),
    };
    let sent: usize = stream::iter(&seeds)
        .map(|seed| one_graph(*seed, lateness))
        .buffer_unordered(if on_cassandra() { 1 } else { 3 })
        .fold(0, async |sum, sent| sum + sent)
        .await;
    assert!(
        sent > seeds.len(),
        "{sent} rebuilds: nothing happens in these graphs"
    );
}

#[tokio::test]
async fn rule_15_random_graphs_everybody_once_and_in_order() {
    all_graphs(false, 150).await;
}

#[tokio::test]
async fn rule_15_random_graphs_with_late_and_lost_notices() {
    all_graphs(true, 150).await;
}
