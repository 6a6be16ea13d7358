//! The contract on a real Cassandra: the node that `FEEDSME_TEST_CASSANDRA` names (`bin/test` starts one).
//!
//! All tests share one keyspace, made once: they keep apart by the names that they use.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use feedsme::store::Store;
use feedsme::store::cassandra::{CassandraStore, Options, migrate};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use super::Place;

/// Where connections live: a test's own runtime ends with the test, and would take them along.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

/// The nodes' addresses.
pub fn nodes() -> Vec<String> {
    let nodes = std::env::var("FEEDSME_TEST_CASSANDRA")
        .expect("FEEDSME_TEST_CASSANDRA names no node: run the tests by bin/test");
    nodes.split(',').map(str::to_owned).collect()
}

/// Options for a keyspace on the test's cluster.
pub fn options(keyspace: &str) -> Options {
    Options {
        hosts: nodes(),
        keyspace: keyspace.to_owned(),
        user: None,
        password: None,
        ca_file: None,
        data_center: None,
        retain: Duration::from_hours(24),
    }
}

/// A name for a keyspace that nobody else has.
pub fn fresh_keyspace() -> String {
    format!("t_{}", uuid::Uuid::new_v4().simple())
}

static KEYSPACE: OnceCell<String> = OnceCell::const_new();

/// The keyspace of this run.
pub async fn shared() -> Options {
    let keyspace = KEYSPACE
        .get_or_init(|| async {
            let keyspace = fresh_keyspace();
            let options = options(&keyspace);
            RUNTIME
                .spawn(async move { migrate(&options, &"1".parse().unwrap()).await })
                .await
                .unwrap()
                .unwrap();
            keyspace
        })
        .await;
    options(keyspace)
}

/// A store whose connections outlive the test's runtime.
pub async fn open(options: Options) -> CassandraStore {
    RUNTIME
        .spawn(async move { CassandraStore::open(&options).await })
        .await
        .unwrap()
        .unwrap()
}

struct Shared;

#[async_trait]
impl Place for Shared {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(open(shared().await).await)
    }
}

mod contract {
    super::super::contract!(super::Shared);
}
