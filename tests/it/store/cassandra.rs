//! The contract on a real Cassandra: the node that `FEEDSME_TEST_CASSANDRA` names (`bin/test` starts one).
//!
//! All tests share one keyspace, made once: they keep apart by the names that they use.

use std::sync::Arc;

use async_trait::async_trait;
use feedsme::store::Store;
use feedsme::store::cassandra::{Options, migrate};
use tokio::sync::OnceCell;

use super::Place;
use crate::places::{RUNTIME, fresh_keyspace, open, options};

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
