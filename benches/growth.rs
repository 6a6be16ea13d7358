//! How much the store is asked for as dependents and dependencies grow: `cargo bench --bench growth`.
//!
//! Counts, not times, so they are the same on every machine and on both stores: how many conditional writes (on Cassandra a
//! lightweight transaction each), plain writes and partitions read each step of a change takes. ARCHITECTURE.md reckons with
//! these numbers for stores that no bench can fill. Exits with 1 if a step takes more for each of 1,000 than for each of 10.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on may panic")]

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/it/failures/watched.rs"]
mod watched;

use std::process::ExitCode;
use std::sync::Arc;

use feedsme::dispatch::{Claim, Owner, claim, is_its_turn, settle};
use feedsme::ingest::{Clock, Core, Posted, accept, handle};
use feedsme::model::document::Document;
use feedsme::model::work::{Job, Work};
use feedsme::neighbours::{Class, Neighbour, Outcome};
use feedsme::plan::Rules;
use feedsme::queue::Next;
use feedsme::store::sqlite::{Durability, Options, SqliteStore};
use serde_json::{Value, json};
use watched::{Call, WatchedStore};

/// What some steps asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    conditional: f64,
    plain: f64,
    read: f64,
}

impl Count {
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn of(calls: &[Call]) -> Self {
        let mut count = Self::default();
        for call in calls {
            match call {
                Call::Commit(batches) => count.conditional += batches.len() as f64,
                Call::Write(writes) => count.plain += writes.len() as f64,
                Call::Packages(wants) => count.read += wants.len() as f64,
                Call::Named("open_wave" | "move_wave" | "promote" | "collect") => {
                    count.conditional += 1.0;
                }
                Call::Named("finish_work") => count.plain += 1.0,
                Call::Named(_) => count.read += 1.0,
            }
        }
        count
    }

    /// What each of `more` came to, where `self` is for `more` of them beyond those of `base`.
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn each(self, base: Self, more: usize) -> Self {
        let each = |with: f64, without: f64| (with - without) / more as f64;
        Self {
            conditional: each(self.conditional, base.conditional),
            plain: each(self.plain, base.plain),
            read: each(self.read, base.read),
        }
    }
}

struct World {
    core: Core,
    store: Arc<WatchedStore>,
    owner: Owner,
    _dir: tempfile::TempDir,
}

fn document(name: &str, version: &str, dependencies: &Value) -> Value {
    json!({
        "name": name, "dist-tags": {"latest": version},
        "versions": {version: {"name": name, "version": version, "dependencies": dependencies}},
    })
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            durability: Durability::Off,
            ..Options::default()
        };
        let store = SqliteStore::open(&dir.path().join("growth.sqlite3"), options).unwrap();
        let store = WatchedStore::counting(Arc::new(store));
        let rules = Arc::new(Rules::default());
        Self {
            core: Core::new(store.clone(), rules, Clock::system()),
            store,
            owner: Owner::alone("growth"),
            _dir: dir,
        }
    }

    /// Takes in a document and plans it; what that took, and what is to be done next.
    async fn post(&self, document: &Value) -> (Count, Vec<Work>) {
        self.store.take();
        let posted = Posted {
            document: Document::parse(document.to_string().as_bytes()).unwrap(),
            env: None,
            promote: false,
            key: None,
        };
        let accepted = accept(&self.core, &posted).await.unwrap();
        let handled = handle(&self.core, &accepted.work).await.unwrap();
        self.core.store.finish_work(&[accepted.work]).await.unwrap();
        (Count::of(&self.store.take()), handled.work)
    }

    /// Sends these as the worker does, to a build service that takes them.
    async fn send(&self, works: &[Work]) -> Count {
        self.store.take();
        let mut sent = Vec::new();
        for work in works {
            let Job::Send {
                rebuild,
                key,
                order,
            } = &work.job
            else {
                continue;
            };
            let turn = is_its_turn(&self.core, &work.package, key, *order).await;
            assert!(turn.unwrap(), "one rebuild a package");
            let claimed = claim(&self.core, &self.owner, rebuild, &work.package, key).await;
            let Claim::Claimed(claimed) = claimed.unwrap() else {
                panic!("nobody else sends it");
            };
            let outcome = Outcome {
                class: Class::Sent,
                neighbour: Neighbour::BuildService,
                may_have_reached: true,
                status: Some(200),
                message: String::new(),
            };
            settle(&self.core, &claimed, &outcome, Next::Sent)
                .await
                .unwrap();
            sent.push(work.clone());
        }
        // Finished in one go, so it is not counted for each.
        let count = Count::of(&self.store.take());
        self.core.store.finish_work(&sent).await.unwrap();
        count
    }
}

/// A root with so many dependents: its publish; sending; the notices.
async fn root(dependents: usize) -> [Count; 3] {
    let world = World::new();
    world.post(&document("root", "1.0.0", &json!({}))).await;
    let on_root = json!({"root": "^1.0.0"});
    for at in 0..dependents {
        let child = document(&format!("dependent-{at}"), "1.0.0", &on_root);
        world.post(&child).await;
    }
    let (publish, works) = world.post(&document("root", "1.0.1", &json!({}))).await;
    let sending = world.send(&works).await;
    let mut notices = Count::default();
    for at in 0..dependents {
        let mut notice = document(&format!("dependent-{at}"), "1.0.1-0", &on_root);
        notice["env"] = "dev".into();
        notice["__published"] = true.into();
        let (count, _) = world.post(&notice).await;
        notices.conditional += count.conditional;
        notices.plain += count.plain;
        notices.read += count.read;
    }
    [publish, sending, notices]
}

/// A publish of a package with so many dependencies, all managed.
async fn leaf(dependencies: usize) -> Count {
    let world = World::new();
    let mut declared = serde_json::Map::new();
    for at in 0..dependencies {
        let parent = format!("parent-{at}");
        world.post(&document(&parent, "1.0.0", &json!({}))).await;
        declared.insert(parent, "^1.0.0".into());
    }
    world
        .post(&document("leaf", "1.0.0", &declared.into()))
        .await
        .0
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let none = root(0).await;
    let (ten, hundred, thousand) = (root(10).await, root(100).await, root(1_000).await);
    let plain = leaf(0).await;
    let mut rows = vec![("publish, nothing depends on it".to_owned(), plain)];
    for more in [10, 100] {
        let each = leaf(more).await.each(plain, more);
        rows.push((
            format!("... each of its {more} dependencies, managed"),
            each,
        ));
    }
    let steps = [
        "publish: each dependent, planned",
        "each rebuild, claimed and sent",
        "each notice of a rebuild",
    ];
    let mut grows = false;
    for (step, name) in steps.into_iter().enumerate() {
        let of = |some: [Count; 3], more: usize| some[step].each(none[step], more);
        let (few, many) = (of(ten, 10), of(thousand, 1_000));
        grows |= many.conditional > few.conditional * 1.1
            || many.plain > few.plain * 1.1
            || many.read > few.read * 1.1;
        for (count, more) in [(few, 10), (of(hundred, 100), 100), (many, 1_000)] {
            rows.push((format!("{name}, of {more}"), count));
        }
    }
    println!("| step | conditional writes | plain writes | reads |\n|---|---|---|---|");
    for (name, count) in rows {
        let Count {
            conditional,
            plain,
            read,
        } = count;
        println!("| {name} | {conditional:.2} | {plain:.2} | {read:.2} |");
    }
    ExitCode::from(u8::from(grows))
}
