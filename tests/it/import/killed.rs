//! SIGKILL at any instant: run again, the import comes to the same end.

use std::sync::Arc;
use std::time::Duration;

use feedsme::sandbox::{Sandbox, SandboxOptions, Tarball};
use feedsme::settings::StoreAddress;
use feedsme::store::sqlite::{Durability, Options, SqliteStore};
use feedsme::store::{Store, Want};
use serde_json::json;

use super::{command, import, nothing_was_sent};
use crate::rules::stage::doc;

const PACKAGES: usize = 30;
const VERSIONS: usize = 12;

fn name(number: usize) -> String {
    if number.is_multiple_of(3) {
        format!("@s/p{number}")
    } else {
        format!("p{number}")
    }
}

/// Everything that is kept, without times.
async fn picture(store: &dyn Store) -> Vec<String> {
    let mut lines = Vec::new();
    for name in store.names(None, 1_000).await.unwrap() {
        let mut published = store.published(&name).await.unwrap();
        published.sort_by(|a, b| a.version.cmp(&b.version));
        lines.push(format!("{name} {published:?}"));
        let want = Want {
            top_edges: true,
            prefixes: vec!["1.".into()],
            ..Want::statics(&name)
        };
        let state = store.packages(&[want]).await.unwrap().remove(0);
        lines.push(format!("{} {:?} {:?}", state.seq, state.head, state.top));
        for row in state.rows {
            let facts = row.facts.unwrap();
            assert!(facts.noticed.is_none());
            lines.push(format!(
                "{:?} born {} {:?} {:?} {:?}",
                row.key, row.born, facts.digest, facts.tag, facts.dropped
            ));
        }
        for one in store.dependents(&name, None, 1_000).await.unwrap() {
            let mut ranges = store.ranges(&name, &one.dependent).await.unwrap();
            ranges.sort();
            lines.push(format!("{one:?} {ranges:?}"));
        }
    }
    lines
}

async fn pictured(address: &StoreAddress) -> Vec<String> {
    let StoreAddress::Sqlite { path, .. } = address else {
        unreachable!("a file")
    };
    let options = Options {
        durability: Durability::Off,
        readers: 1,
    };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(path, options).unwrap());
    let picture = picture(&*store).await;
    store.close().await.unwrap();
    picture
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_was_killed_again_and_again_comes_to_the_same_end() {
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    for number in 0..PACKAGES {
        for version in 0..VERSIONS {
            let dependencies: serde_json::Map<_, _> = (0..number)
                .filter(|parent| !(parent + number + version).is_multiple_of(3))
                .map(|parent| (name(parent), json!(format!("^1.{}.0", version / 4))))
                .collect();
            let document = doc(
                &name(number),
                &format!("1.{version}.0"),
                &json!(dependencies),
            );
            sandbox.publish(document, &Tarball::Synthetic(64)).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let [calm, killed] = ["calm", "killed"].map(|file| StoreAddress::file(dir.path().join(file)));
    let registry = format!("--from-registry={}", sandbox.registry_url());
    let names: Vec<String> = (0..PACKAGES).map(name).collect();
    let mut arguments = vec![registry.as_str(), "--concurrency=4"];
    arguments.extend(names.iter().map(String::as_str));

    let begun = std::time::Instant::now();
    let versions = u64::try_from(PACKAGES * VERSIONS).unwrap();
    import(&calm, &arguments).await.is(versions, 0);
    let whole = begun.elapsed();

    // At instants spread over the whole, and in each run a little later, so that it ends.
    let (mut kills, mut pause) = (0, Duration::from_millis(15));
    let done = loop {
        let mut child = command(&killed, &arguments).spawn().unwrap();
        tokio::time::sleep(pause).await;
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break import(&killed, &arguments).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        pause += whole / 40;
    };
    assert!(kills >= 3, "killed {kills} times only");
    done.is(0, versions);
    nothing_was_sent(&sandbox);
    let (calm, killed) = (pictured(&calm).await, pictured(&killed).await);
    for (calm, killed) in calm.iter().zip(&killed) {
        assert_eq!(calm, killed);
    }
    assert_eq!(calm.len(), killed.len());
}
