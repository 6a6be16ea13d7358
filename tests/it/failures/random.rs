//! Small worlds at random.

use feedsme::ingest::Posted;
use feedsme::model::edge::EdgeRange;
use feedsme::model::id::ChangeId;
use feedsme::model::package::{RebuildState, RowKey};
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;

use crate::places::{on_cassandra, rounds};

use super::crashing::Fault;
use super::outside::{manifest, posted};
use super::picture::{check, partition, picture};
use super::world::World;

/// Random numbers that are the same for the same seed (`SplitMix64`).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `end - 1`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

const PACKAGES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const RANGES: [&str; 6] = [
    "^1.0.0",
    "*",
    "~1.1.0",
    "^2.0.0",
    ">=1.0.0 <3.0.0",
    "latest",
];

/// What a client has yet to post: the notice of a publish comes some time after the publish.
struct Story<'a> {
    world: &'a mut World,
    dice: Dice,
    to_post: Vec<Posted>,
    posted: Vec<Posted>,
    published: Vec<(String, String)>,
}

impl Story<'_> {
    fn fault(&mut self) -> Fault {
        let at = self.dice.below(40);
        match self.dice.below(6) {
            0 => Fault::Before(at),
            1 => Fault::After(at),
            2 => Fault::OnceAfter(at),
            3 => Fault::OnceBefore(at),
            _ => Fault::Never,
        }
    }

    /// A version that nobody has, of a random package; mostly of a low major, so that backports happen.
    fn publish(&mut self) {
        let at = self.dice.below(PACKAGES.len());
        let version = format!("{}.{}.0", 1 + self.dice.below(3), self.dice.below(4));
        let name = PACKAGES[at];
        if self.published.contains(&(name.to_owned(), version.clone())) {
            return;
        }
        let mut edges: Vec<(&str, &str)> = Vec::new();
        for (other, parent) in PACKAGES.iter().enumerate() {
            // Now and then a cycle.
            let likely = if other < at { 50 } else { 4 };
            if other != at && self.dice.below(100) < likely {
                edges.push((parent, RANGES[self.dice.below(RANGES.len())]));
            }
        }
        let mut document = manifest(name, &version, &edges);
        self.world.outside.publish(&document);
        if self.dice.below(12) == 0 {
            let manifest = document.clone();
            document = [
                ("name".to_owned(), json!(name)),
                ("dist-tags".to_owned(), json!({ "next": version })),
                ("versions".to_owned(), json!({ version.as_str(): manifest })),
            ]
            .into_iter()
            .collect();
        }
        self.published.push((name.to_owned(), version));
        self.to_post.push(posted(&document, None));
    }

    async fn turn(&mut self) {
        match self.dice.below(12) {
            0..=2 => self.publish(),
            3 | 4 if !self.to_post.is_empty() => {
                let at = self.dice.below(self.to_post.len());
                let post = self.to_post.swap_remove(at);
                self.world.post(&post).await;
                self.posted.push(post);
            }
            5 if !self.posted.is_empty() => {
                let at = self.dice.below(self.posted.len());
                self.world.post(&self.posted[at].clone()).await;
            }
            6 if !self.published.is_empty() => {
                let at = self.dice.below(self.published.len());
                let (name, version) = self.published[at].clone();
                let document = self.world.outside.document(&name, &version);
                let env = ["test", "prod"][self.dice.below(2)];
                self.world.post(&posted(&document, Some(env))).await;
            }
            7 if !self.world.outside.notices.is_empty() => {
                let at = self.dice.below(self.world.outside.notices.len());
                if let Some(notice) = self.world.outside.notices.remove(at) {
                    self.world.post(&notice).await;
                    self.posted.push(notice);
                }
            }
            8 | 9 => {
                let faults = [self.fault(), self.fault()];
                self.world.plan_two(faults, &mut self.dice).await;
            }
            _ => {
                for _ in 0..=self.dice.below(4) {
                    self.world.step().await;
                }
            }
        }
    }
}

/// What was published and what depends on it met: the highest version of a package was decided about every dependent whose
/// range admits it, or the dependent is in its line.
async fn everybody_met(world: &World, seed: u64) {
    let store = &*world.inner;
    let mut all = Vec::new();
    for change in store.changes(None, 10_000).await.unwrap() {
        all.extend(store.decisions(&change.id, 0, 1_000).await.unwrap());
    }
    for parent in store.names(None, 100).await.unwrap() {
        let state = partition(store, &parent, &[]).await;
        let Some(top) = state.top.filter(|top| {
            let row = state
                .rows
                .iter()
                .find(|row| row.key == RowKey::publish(&top.version));
            row.and_then(|row| row.facts.as_ref())
                .is_some_and(|facts| facts.noticed.is_some())
        }) else {
            continue;
        };
        let change = ChangeId::of_publish(&parent, &top.version, None);
        let decisions = store.decisions(&change, 0, 1_000).await.unwrap();
        let line = store
            .line_dependents(&parent, &top.version, None, 1_000)
            .await
            .unwrap();
        for edge in store.dependents(&parent, None, 1_000).await.unwrap() {
            let Some(range) = &edge.range else { continue };
            let admits = EdgeRange::of(range).admits(&top.version, top.origin.as_ref());
            let met = decisions.iter().any(|one| one.dependent == edge.dependent)
                || line.iter().any(|(name, _)| *name == edge.dependent)
                || all.iter().any(|one| {
                    let on_behalf = one
                        .also
                        .iter()
                        .any(|cause| cause.parent == parent && cause.version == top.version);
                    let own = one.parent == parent && one.parent_version == top.version;
                    one.dependent == edge.dependent && (own || on_behalf)
                });
            assert!(
                !admits || met,
                "seed {seed}: {parent}@{} never met {} {range}",
                top.version,
                edge.dependent
            );
        }
    }
}

/// Everything that was decided was sent, or given up for a reason.
async fn everything_was_sent(world: &World, seed: u64) {
    let store = &*world.inner;
    let arrived = world.outside.counts();
    for name in store.names(None, 100).await.unwrap() {
        let state = partition(store, &name, &["dev", "test", "prod"]).await;
        for row in &state.rows {
            let Some(rebuild) = &row.rebuild else {
                continue;
            };
            match rebuild.state {
                RebuildState::Published => assert!(
                    arrived.contains_key(&rebuild.id),
                    "seed {seed}: {name} {:?} was published and never sent",
                    row.key
                ),
                RebuildState::Superseded => {}
                state => panic!("seed {seed}: {name} {:?} is {state} in the end", row.key),
            }
        }
        assert_eq!(state.open, [].into(), "seed {seed}: {name}");
    }
    for (rebuild, count) in arrived {
        let most = if world.may_be_sent_twice.contains(&rebuild) {
            4
        } else {
            1
        };
        assert!(
            count <= most,
            "seed {seed}: {rebuild} was sent {count} times"
        );
    }
}

/// Says which world it was when a check fails.
struct Says(u64);

impl Drop for Says {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the world of seed {}", self.0);
        }
    }
}

async fn one_world(seed: u64) -> usize {
    let _says = Says(seed);
    let mut dice = Dice::new(seed);
    let faults: Vec<Fault> = (0..3).map(|_| Fault::Before(dice.below(150))).collect();
    let mut world = World::new(faults);
    let mut story = Story {
        world: &mut world,
        dice,
        to_post: Vec::new(),
        posted: Vec::new(),
        published: Vec::new(),
    };
    for _ in 0..36 {
        story.turn().await;
    }
    for post in std::mem::take(&mut story.to_post) {
        story.world.post(&post).await;
    }
    world.settle_down().await;
    world.restart().await;
    world.settle_down().await;
    world.end_waves().await;
    assert_eq!(
        feedsme::store::all_pending(&*world.inner).await.unwrap(),
        [],
        "seed {seed}"
    );
    // Makes sure that whatever was answered was planned.
    picture(&world).await;
    check(&world).await;
    everybody_met(&world, seed).await;
    everything_was_sent(&world, seed).await;
    world.outside.arrived.len()
}

/// 300 worlds of up to six packages: publishes, backports, tags, promotions and notices in any order and more than once,
/// two planners at a time, deaths and unknown outcomes at random steps.
#[tokio::test]
async fn random_worlds_keep_their_promises() {
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..u64::try_from(rounds(300)).unwrap()).collect(),
    };
    let sent: usize = stream::iter(&seeds)
        .map(|seed| one_world(*seed))
        .buffer_unordered(if on_cassandra() { 1 } else { 3 })
        .fold(0, async |sum, sent| sum + sent)
        .await;
    assert!(
        sent > seeds.len(),
        "{sent} requests: nothing happens in these worlds"
    );
}
