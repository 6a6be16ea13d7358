//! The graph that is kept is the graph that would be read, whenever somebody asks.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Graph, read};
use crate::graph::{Index, Start};
use crate::ingest::{Clock, Core, Posted, accept, plan};
use crate::model::document::Document;
use crate::model::name::PackageName;
use crate::model::work::Job;
use crate::plan::Rules;
use crate::store::sqlite::{Durability, Options, SqliteStore};

fn core(dir: &tempfile::TempDir) -> Core {
    let options = Options {
        durability: Durability::Off,
        ..Options::default()
    };
    let store = SqliteStore::open(&dir.path().join("impact.sqlite3"), options).unwrap();
    Core::new(Arc::new(store), Arc::new(Rules::default()), Clock::system())
}

async fn publish(core: &Core, manifest: &Value, env: Option<&str>) {
    let posted = Posted {
        document: Document::parse(&serde_json::to_vec(manifest).unwrap()).unwrap(),
        env: env.map(crate::model::env::Env::trusted),
        promote: false,
        key: None,
    };
    let accepted = accept(core, &posted).await.unwrap();
    let Job::Plan { change, digest } = &accepted.work.job else {
        panic!("accepting puts a plan")
    };
    plan(core, change, digest).await.unwrap();
}

/// Everything that is said about these packages.
fn said(index: &Index, packages: usize) -> Vec<String> {
    let mut all = vec![format!("{} edges", index.edges())];
    for number in 0..packages {
        let package = PackageName::parse(&format!("p{number}")).unwrap();
        let reach = index.reach(&Start {
            package: &package,
            version: None,
        });
        let page = index.page(&reach, None, 500);
        all.push(format!(
            "{package}: {} {:?} {:?} {:?}",
            reach.direct, reach.first_out_of_range, reach.longest_chain, page
        ));
    }
    all
}

fn of(graph: &Graph, packages: usize) -> Vec<String> {
    let index = graph.index.read().unwrap_or_else(PoisonError::into_inner);
    said(&index, packages)
}

#[derive(Clone, Debug)]
enum Do {
    /// Package, version, declares, by an environment.
    Publish(usize, &'static str, Vec<(usize, &'static str)>, bool),
    Ask,
}

fn doings() -> impl Strategy<Value = Vec<Do>> {
    let version = prop::sample::select(vec!["1.0.0", "1.0.1-0", "1.0.1-1", "1.1.0", "2.0.0"]);
    let range = prop::sample::select(vec!["*", "^1.0.0", "1.0.0", "^2.0.0"]);
    let declares = prop::collection::vec((0..6_usize, range), 0..4);
    let publish = (0..6_usize, version, declares, prop::bool::weighted(0.2))
        .prop_map(|(package, version, declares, env)| Do::Publish(package, version, declares, env));
    prop::collection::vec(prop_oneof![3 => publish, 1 => Just(Do::Ask)], 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Publishes, versions first seen by a promotion, increments that turn out to be ours: in any order, with questions in
    /// between.
    #[test]
    fn the_graph_that_is_kept_is_the_one_that_would_be_read(doings in doings()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let core = core(&dir);
            for doing in doings.into_iter().chain([Do::Ask]) {
                match doing {
                    Do::Publish(package, version, declares, env) => {
                        let declared: Map<String, Value> = declares
                            .into_iter()
                            .map(|(on, range)| (format!("p{on}"), json!(range)))
                            .collect();
                        let manifest = json!({"name": format!("p{package}"), "version": version, "dependencies": declared});
                        publish(&core, &manifest, env.then_some("test")).await;
                    }
                    Do::Ask => {
                        let kept = core.impact.graph(&core).await.unwrap().unwrap();
                        let anew = read(&*core.store, core.rules.increment).await.unwrap();
                        assert_eq!(of(&kept, 6), said(&anew, 6));
                    }
                }
            }
            core.store.close().await.unwrap();
        });
    }
}

/// Questions and publishes at once: each question sees what was planned before it was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whoever_asks_sees_what_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(&dir);
    publish(&core, &json!({"name": "p0", "version": "1.0.0"}), None).await;
    let tasks = (1..5).map(|task| {
        let core = core.clone();
        tokio::spawn(async move {
            for number in 0..15 {
                let name = format!("d{task}-{number}");
                let manifest =
                    json!({"name": name, "version": "1.0.0", "dependencies": {"p0": "*"}});
                publish(&core, &manifest, None).await;
                let graph = core.impact.graph(&core).await.unwrap().unwrap();
                let index = graph.index.read().unwrap();
                let package = PackageName::parse("p0").unwrap();
                let set = index.set(&Start {
                    package: &package,
                    version: None,
                });
                let names: BTreeSet<&str> = set
                    .iter()
                    .map(|&one| index.name(one).unwrap().as_str())
                    .collect();
                assert!(names.contains(name.as_str()), "{name} is not there yet");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let graph = core.impact.graph(&core).await.unwrap().unwrap();
    assert_eq!(graph.index.read().unwrap().edges(), 60);
}

#[tokio::test]
async fn a_store_that_fails_is_said_and_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(&dir);
    core.store.close().await.unwrap();
    for _ in 0..2 {
        assert!(core.impact.graph(&core).await.is_err());
    }
}
