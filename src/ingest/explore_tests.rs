use std::sync::Arc;

use serde_json::{Value, json};

use super::{PAGE, explore};
use crate::graph::{Affected, Origin, Seed};
use crate::ingest::{Clock, Core, Posted, accept, plan};
use crate::model::document::Document;
use crate::model::name::PackageName;
use crate::model::package::Cause;
use crate::model::work::Job;
use crate::plan::{Increment, Rules};
use crate::semver::Version;
use crate::store::sqlite::{Durability, Options, SqliteStore};

fn core(dir: &tempfile::TempDir, increment: Increment) -> Core {
    let options = Options {
        durability: Durability::Off,
        ..Options::default()
    };
    let store = SqliteStore::open(&dir.path().join("graph.sqlite3"), options).unwrap();
    let rules = Rules {
        increment,
        ..Rules::default()
    };
    Core::new(Arc::new(store), Arc::new(rules), Clock::system())
}

/// Publishes by hand: accepted and planned, as a posted change is.
async fn publish(core: &Core, name: &str, version: &str, dependencies: Value) {
    let manifest = json!({"name": name, "version": version, "dependencies": dependencies});
    let posted = Posted {
        document: Document::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap(),
        env: None,
        promote: false,
        key: None,
    };
    let accepted = accept(core, &posted).await.unwrap();
    let Job::Plan { change, digest } = &accepted.work.job else {
        panic!("accepting puts a plan")
    };
    plan(core, change, digest).await.unwrap();
}

fn cause(name: &str, version: &str) -> Cause {
    Cause {
        parent: PackageName::parse(name).unwrap(),
        version: Version::parse(version).unwrap(),
        origin: None,
    }
}

fn reaching(name: &str, version: &str) -> Vec<Origin> {
    vec![Origin {
        cause: cause(name, version),
        reach: true,
    }]
}

fn rebuilt(affected: &Affected) -> Vec<String> {
    let one = |node: &crate::graph::AffectedNode| {
        let plan = &node.plan;
        let version = plan.version.as_ref().unwrap();
        let (name, base) = (&plan.key.package, &plan.base);
        format!("{} {name}@{version} from {base}", plan.level)
    };
    affected.nodes.iter().map(one).collect()
}

#[tokio::test]
async fn rule_15_the_graph_is_loaded_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(&dir, Increment::Prerelease);
    publish(&core, "c", "1.0.0", json!({"a": "^1.0.0", "b": "^1.0.0"})).await;
    publish(&core, "b", "1.0.0", json!({"root": "^1.0.0"})).await;
    publish(&core, "b", "2.0.0", json!({"root": "^2.0.0"})).await;
    publish(&core, "a", "1.0.0", json!({"root": "^1.0.0"})).await;
    publish(&core, "gone", "1.0.0", json!({"root": "*"})).await;
    publish(&core, "gone", "1.1.0", json!({})).await;

    let found = explore(&core, reaching("root", "1.0.0"), vec![])
        .await
        .unwrap();
    assert_eq!(
        rebuilt(&found),
        [
            "1 a@1.0.1-0 from 1.0.0",
            "1 b@1.0.1-0 from 1.0.0",
            "2 c@1.0.1-2 from 1.0.0"
        ],
        "the publishes of a and b have reserved two versions of c"
    );
    let skipped = &found.skips[0];
    assert_eq!(skipped.edge.dependent.as_str(), "gone");
    assert_eq!(skipped.reason.code(), "no_longer_depends");
    assert_eq!(found.skips.len(), 1);

    publish(&core, "a", "1.0.1-0", json!({"root": "^1.0.0"})).await;
    let found = explore(&core, reaching("root", "1.0.0"), vec![])
        .await
        .unwrap();
    assert_eq!(rebuilt(&found)[0], "1 a@1.0.1-1 from 1.0.1-0");

    let seeds = vec![Seed {
        package: PackageName::parse("b").unwrap(),
        causes: vec![cause("root", "2.0.0")],
    }];
    let found = explore(&core, vec![], seeds).await.unwrap();
    assert_eq!(rebuilt(&found), ["1 b@2.0.1-0 from 2.0.0"]);
    assert_eq!(found.skips.len(), 1, "c does not admit it");
}

#[tokio::test]
async fn rule_9_the_patch_increment_sees_what_was_published_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(&dir, Increment::Patch);
    publish(&core, "a", "1.0.0", json!({"root": "^1.0.0"})).await;
    publish(&core, "b", "1.0.0", json!({"root": "^1.0.0"})).await;
    publish(&core, "b", "1.0.1", json!({"root": "^2.0.0"})).await;
    let found = explore(&core, reaching("root", "1.0.0"), vec![])
        .await
        .unwrap();
    assert_eq!(
        rebuilt(&found),
        ["1 a@1.0.1 from 1.0.0", "1 b@1.0.1-0 from 1.0.0"]
    );
}

#[tokio::test]
async fn more_dependents_than_a_page_are_all_found() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(&dir, Increment::Prerelease);
    for number in 0..=PAGE {
        publish(&core, &format!("d{number}"), "1.0.0", json!({"root": "*"})).await;
    }
    let found = explore(&core, reaching("root", "1.0.0"), vec![])
        .await
        .unwrap();
    assert_eq!(found.nodes.len(), PAGE + 1);
    assert!(found.skips.is_empty());
}
