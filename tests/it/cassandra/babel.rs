//! A part of Babel's history on Cassandra, with the same oracle as on SQLite (rules 8, 9, 11).

use std::sync::Arc;

use feedsme::ingest::{Clock, Core};

use crate::babel::{FROM_V7, history, replay};
use crate::places::Place;

const PUBLISHES: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_500_publishes_of_babel_from_v7() {
    let place = tokio::task::spawn_blocking(Place::keyspace).await.unwrap();
    let core = Core::new(place.open(), Arc::default(), Clock::system());
    let history = history();
    let rebuilds = replay(&core, &history[FROM_V7..FROM_V7 + PUBLISHES]).await;
    println!("{rebuilds} rebuilds");
    assert!(rebuilds > 500, "{rebuilds}");
}
