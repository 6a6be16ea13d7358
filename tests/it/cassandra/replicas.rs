//! Several replicas of the real program on one keyspace: killed, stopped and raced (H2, H25, design.md 4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use feedsme::sandbox::{Role, Sandbox, SandboxOptions, Tarball};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::document;
use crate::places;
use crate::process::{Place, Program, client};

/// What has to be done by then, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_mins(3);

/// How many packages depend on root.
const DEPENDENTS: usize = 40;

struct World {
    sandbox: Sandbox,
    client: reqwest::Client,
    /// Where the replicas run.
    places: Vec<Place>,
    running: Vec<Option<Program>>,
    _dirs: Vec<TempDir>,
    _keyspace: places::Place,
}

impl World {
    /// So many replicas, all running, and a root with its dependents.
    async fn new(replicas: usize) -> Self {
        let keyspace = tokio::task::spawn_blocking(places::Place::keyspace)
            .await
            .unwrap();
        let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
        let dirs: Vec<TempDir> = (0..replicas)
            .map(|_| tempfile::tempdir().unwrap())
            .collect();
        let places: Vec<Place> = dirs
            .iter()
            .map(|dir| {
                let mut place = Place::new(dir.path());
                place.store_setting = format!(
                    "cassandra://{}/{}",
                    places::nodes().join(","),
                    keyspace.name()
                );
                place
            })
            .collect();
        let mut world = Self {
            sandbox,
            client: client(),
            places,
            running: (0..replicas).map(|_| None).collect(),
            _dirs: dirs,
            _keyspace: keyspace,
        };
        for at in 0..replicas {
            world.start(at).await;
        }
        world.publish(0, "root", "1.0.0", json!({})).await;
        // A root that is planned after its dependents came rebuilds them.
        world.planned_all(Duration::from_mins(1)).await;
        for number in 0..DEPENDENTS {
            let parents = json!({"root": "^1.0.0"});
            world
                .publish(number % replicas, &dependent(number), "1.0.0", parents)
                .await;
        }
        world.planned_all(Duration::from_secs(30)).await;
        world.sandbox.report_to(&world.places[0].url);
        world
    }

    async fn start(&mut self, at: usize) {
        let flags = [("replica-ttl", "8s"), ("warehouse-concurrency", "4")];
        self.running[at] = Some(self.places[at].run(&self.sandbox, &flags).await);
    }

    fn program(&self, at: usize) -> &Program {
        self.running[at].as_ref().unwrap()
    }

    /// Publishes through one replica; the change's id.
    async fn publish(&self, at: usize, name: &str, version: &str, parents: Value) -> String {
        let document = document(name, version, parents);
        self.sandbox
            .publish(document.clone(), &Tarball::Synthetic(2_000))
            .unwrap();
        let url = format!("{}/change", self.places[at].url);
        let answer = self.client.post(url).json(&document).send().await.unwrap();
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    async fn read(&self, at: usize, path: &str) -> Value {
        let url = format!("{}{path}", self.places[at].url);
        let answer = self.client.get(url).send().await.unwrap();
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Who lives, as far as the tests know.
    fn somebody(&self) -> usize {
        self.running.iter().position(Option::is_some).unwrap()
    }

    /// Waits until every change is planned.
    async fn planned_all(&self, within: Duration) {
        let give_up = Instant::now() + within;
        loop {
            let page = self.read(self.somebody(), "/changes?limit=500").await;
            let items = page["items"].as_array().unwrap();
            if items.iter().all(|change| change["planned"] != Value::Null) {
                return;
            }
            assert!(Instant::now() < give_up, "not planned: {page}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The versions of dependents that the warehouse took, with how often each arrived.
    fn sent(&self) -> BTreeMap<(String, String), usize> {
        let mut sent = BTreeMap::new();
        for one in self.sandbox.requests() {
            if let (Role::Warehouse, Some(name), Some(version)) =
                (one.role, one.package, one.version)
            {
                *sent.entry((name, version)).or_default() += 1;
            }
        }
        sent
    }

    /// Waits until every dependent has gone out for each of the versions of root published so far.
    async fn complete(&self, publishes: usize, within: Duration) {
        let give_up = Instant::now() + within;
        loop {
            let sent = self.sent();
            if sent.len() >= DEPENDENTS * publishes {
                break;
            }
            assert!(
                Instant::now() < give_up,
                "{} of {} went out:\n{}",
                sent.len(),
                DEPENDENTS * publishes,
                self.places
                    .iter()
                    .map(Place::last_words)
                    .collect::<Vec<_>>()
                    .join("\n---\n")
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.planned_all(within).await;
        let sent = self.sent();
        assert_eq!(sent.len(), DEPENDENTS * publishes, "{:?}", sent.keys());
        for number in 0..DEPENDENTS {
            let of: BTreeSet<&str> = sent
                .keys()
                .filter(|(name, _)| *name == dependent(number))
                .map(|(_, version)| version.as_str())
                .collect();
            let expected: BTreeSet<String> =
                (0..publishes).map(|at| format!("1.0.1-{at}")).collect();
            assert!(of.iter().eq(expected.iter()), "{of:?}");
        }
    }

    fn twice(&self) -> usize {
        self.sent().values().filter(|count| **count > 1).count()
    }
}

fn dependent(number: usize) -> String {
    format!("dependent-{number:02}")
}

/// H2: whoever accepts a change, its package's owner plans it, and the dependents' owners send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_two_replicas_share_the_work_and_send_everything_once() {
    let world = World::new(2).await;
    for at in 0..4 {
        world
            .publish(at % 2, "root", &format!("1.0.{}", at + 1), json!({}))
            .await;
    }
    world.complete(4, SOON).await;
    assert_eq!(world.twice(), 0);
    // Both did some of it.
    let mut owners = BTreeSet::new();
    let page = world.read(0, "/changes?limit=500").await;
    for change in page["items"].as_array().unwrap() {
        let id = change["id"].as_str().unwrap();
        let change = world.read(1, &format!("/changes/{id}")).await;
        for decision in change["decisions"]["items"]
            .as_array()
            .into_iter()
            .flatten()
        {
            for attempt in decision["rebuild"]["attempts"]
                .as_array()
                .into_iter()
                .flatten()
            {
                owners.insert(attempt["owner"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    assert_eq!(owners.len(), 2, "{owners:?}");
}

/// One of two is killed while it plans and sends; the other takes over. Only what was being sent is sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h25_a_killed_replica_is_taken_over_and_one_that_joins_takes_its_share() {
    let mut world = World::new(2).await;
    for at in 0..3 {
        world
            .publish(1, "root", &format!("1.0.{}", at + 1), json!({}))
            .await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.running[1].take().unwrap().kill();
    world.complete(3, SOON).await;
    // Four at once: what the dead one had claimed.
    assert!(world.twice() <= 4, "{}", world.twice());

    world.start(1).await;
    world.publish(1, "root", "1.0.4", json!({})).await;
    world.complete(4, SOON).await;
    assert!(world.twice() <= 4, "{}", world.twice());
}

/// One of two is stopped for longer than the others wait, and goes on: it does no harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h25_a_replica_that_was_stopped_for_long_and_wakes_up_does_no_harm() {
    let world = World::new(2).await;
    for at in 0..3 {
        world
            .publish(1, "root", &format!("1.0.{}", at + 1), json!({}))
            .await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.program(1).pause();
    // Longer than the TTL of 8 s: the other has taken over and is at work, or done.
    tokio::time::sleep(Duration::from_secs(11)).await;
    world.program(1).resume();
    world.publish(0, "root", "1.0.4", json!({})).await;
    world.complete(4, SOON).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(world.twice() <= 4, "{}", world.twice());
    world.publish(1, "root", "1.0.5", json!({})).await;
    world.complete(5, SOON).await;
    assert!(world.twice() <= 4, "{}", world.twice());
}

/// A replica that is told to stop hands its shards over at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stops_in_order_is_replaced_at_once_and_sends_nothing_twice() {
    let mut world = World::new(2).await;
    for at in 0..3 {
        world
            .publish(0, "root", &format!("1.0.{}", at + 1), json!({}))
            .await;
    }
    let one = world.running[1].take().unwrap();
    let status = one.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    world.complete(3, SOON).await;
    assert_eq!(world.twice(), 0);
}
