//! H19: changes of a package are planned in the order of their acceptance, whatever fails meanwhile. With the real
//! worker, because the order is its choice.

use std::sync::Arc;
use std::time::Duration;

use feedsme::dispatch::Neighbours;
use feedsme::dispatch::worker::{Worker, WorkerOptions};
use feedsme::ingest::{Clock, Core, accept};
use feedsme::neighbours::{BuildService, Endpoint, Registry};
use feedsme::store::Store;
use feedsme::store::sqlite::{Durability, Options, SqliteStore};
use tokio_util::sync::CancellationToken;

use super::crashing::{CrashingStore, Fault};
use super::outside::{manifest, posted};
use super::world::Parse as _;

#[tokio::test]
async fn h19_a_plan_that_failed_once_goes_before_the_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        durability: Durability::Off,
        readers: 1,
    };
    let inner = SqliteStore::open(&dir.path().join("store"), options).unwrap();
    let inner: Arc<dyn Store> = Arc::new(inner);
    let core = |store: Arc<dyn Store>| Core::new(store, Arc::default(), Clock::system());
    let mut work = Vec::new();
    let versions = ["1.0.0", "1.1.0", "1.2.0"];
    for version in versions {
        let root = posted(&manifest("root", version, &[]), None);
        let accepted = accept(&core(inner.clone()), &root).await.unwrap();
        work.push(accepted.work);
    }

    let nobody = Endpoint::new("http://127.0.0.1:9");
    let neighbours = Neighbours {
        build_service: BuildService::new(&nobody).unwrap(),
        warehouse: None,
        registry: Registry::new(&nobody).unwrap(),
    };
    let options = WorkerOptions {
        owner: feedsme::dispatch::Owner::alone("test"),
        concurrency: [].into(),
        grace: Duration::ZERO,
    };
    // The first write of the first plan.
    let store = CrashingStore::new(inner.clone(), Fault::OnceBefore(0));
    let (worker, inbox) = Worker::new(core(store.clone()), neighbours, options);
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker.run(stop.clone()));
    inbox.put(work);
    while !inbox.status().await.unwrap().is_idle() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.has_struck());
    let mut chain = Vec::new();
    let mut line = inner.head(&"root".parse_name()).await.unwrap();
    while let Some(one) = line {
        chain.push(one.version.to_string());
        assert!(chain.len() <= versions.len(), "{chain:?}");
        line = match one.previous {
            Some(previous) => inner.line(&one.package, &previous).await.unwrap(),
            None => None,
        };
    }
    assert_eq!(chain, ["1.2.0", "1.1.0", "1.0.0"]);
    stop.cancel();
    working.await.unwrap();
}
