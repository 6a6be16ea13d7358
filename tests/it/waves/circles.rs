//! Nodes that have ended and lead back to each other.

use std::sync::Arc;
use std::time::Duration;

use feedsme::ingest::{Clock, Core, Posted, accept, plan, wave};
use feedsme::model::document::Document;
use feedsme::model::name::PackageName;
use feedsme::model::wave::Hold;
use feedsme::model::work::Job;
use feedsme::plan::Rules;
use feedsme::store::sqlite::{Options, SqliteStore};
use serde_json::{Value, json};

async fn publish(core: &Core, name: &str, dependencies: Value) {
    let manifest = json!({"name": name, "version": "1.0.0", "dependencies": dependencies});
    let posted = Posted {
        document: Document::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap(),
        env: None,
        promote: true,
        key: None,
    };
    let accepted = accept(core, &posted).await.unwrap();
    let Job::Plan { change, digest } = &accepted.work.job else {
        panic!("accepting puts a plan")
    };
    plan(core, change, digest).await.unwrap();
}

/// An edge that admits nothing is in nobody's plan, and still leads from one that ended to the next.
#[tokio::test]
async fn rule_16_held_packages_that_depend_on_each_other_end_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("store"), Options::default()).unwrap();
    let core = Core::new(Arc::new(store), Arc::new(Rules::default()), Clock::system());
    publish(
        &core,
        "a",
        json!({"root": "*", "a": "^9.0.0", "b": "^9.0.0"}),
    )
    .await;
    publish(&core, "b", json!({"root": "*", "a": "^9.0.0"})).await;
    for name in ["a", "b"] {
        let hold = Hold {
            id: name.into(),
            package: PackageName::parse(name).unwrap(),
            parent: None,
            owner: "somebody".into(),
            reason: "because".into(),
            placed: core.clock.now(),
            expires: None,
            ended: None,
        };
        wave::hold(&core, &hold).await.unwrap();
    }
    let planned = publish(&core, "root", json!({}));
    tokio::time::timeout(Duration::from_secs(10), planned)
        .await
        .unwrap();
}
