//! The durable queue on Cassandra: what is put is found, whatever the clocks say (H1, H20).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use feedsme::ingest::Clock;
use feedsme::model::id::{ChangeId, Digest};
use feedsme::model::name::PackageName;
use feedsme::model::work::{Shard, Work};
use feedsme::store::cassandra::CassandraStore;
use feedsme::store::{Store, Write, pending_in};

use crate::places::{Place, open, options};

/// A store whose clock is moved by hand, from now on by `ahead` milliseconds.
async fn with_clock(keyspace: &str, ahead: &Arc<AtomicI64>) -> CassandraStore {
    let mut options = options(keyspace);
    let ahead = Arc::clone(ahead);
    let system = Clock::system();
    options.clock = Clock::new(move || system.now() + ahead.load(Ordering::Relaxed));
    open(options).await
}

/// A keyspace of its own, whatever the rest of the run is on.
async fn place() -> Place {
    tokio::task::spawn_blocking(Place::keyspace).await.unwrap()
}

fn item(number: usize) -> Work {
    let change = ChangeId::new(format!("c-{number}"));
    let package = PackageName::parse("root").unwrap();
    Work::plan(&change, &Digest::of(b"x"), &package, 0)
}

async fn put(store: &CassandraStore, item: &Work) {
    store.write(vec![Write::Work(item.clone())]).await.unwrap();
}

async fn left(store: &CassandraStore, shard: Shard) -> BTreeSet<String> {
    let all = pending_in(store, shard).await.unwrap();
    all.into_iter().map(|work| work.id).collect()
}

/// One replica's clock is a minute behind. It puts while the owner retires as fast as it can: everything is found.
#[tokio::test]
async fn h1_what_is_put_while_buckets_are_retired_is_never_lost() {
    let place = place().await;
    let keyspace = place.name();
    let (behind, ahead) = (
        Arc::new(AtomicI64::new(-60_000)),
        Arc::new(AtomicI64::new(0)),
    );
    let slow = with_clock(keyspace, &behind).await;
    let owner = with_clock(keyspace, &ahead).await;
    let shard = item(0).shard();

    let putting = async {
        for number in 0..150 {
            put(&slow, &item(number)).await;
        }
    };
    let retiring = async {
        // Each look is ten seconds later than the one before, so that there is always a bucket to retire.
        for _ in 0..60 {
            ahead.fetch_add(10_000, Ordering::Relaxed);
            owner.retire_work(shard).await.unwrap();
        }
    };
    tokio::join!(putting, retiring);
    let expected: BTreeSet<String> = (0..150).map(|number| item(number).id).collect();
    assert_eq!(left(&owner, shard).await, expected);

    // Another process finds the same, and what it finishes is finished for all.
    let other = with_clock(keyspace, &ahead).await;
    assert_eq!(left(&other, shard).await, expected);
    let done: Vec<Work> = (0..150).step_by(2).map(item).collect();
    other.finish_work(&done).await.unwrap();
    let rest: BTreeSet<String> = (1..150).step_by(2).map(|number| item(number).id).collect();
    assert_eq!(left(&owner, shard).await, rest);
}

#[tokio::test]
async fn h1_retired_buckets_are_not_read_again_and_what_is_left_moves_on() {
    let place = place().await;
    let ahead = Arc::new(AtomicI64::new(0));
    let store = with_clock(place.name(), &ahead).await;
    let shard = item(0).shard();
    for number in 0..20 {
        put(&store, &item(number)).await;
    }
    let done: Vec<Work> = (0..19).map(item).collect();
    store.finish_work(&done).await.unwrap();
    ahead.fetch_add(1_300_000, Ordering::Relaxed);
    store.retire_work(shard).await.unwrap();
    assert_eq!(pending_in(&store, shard).await.unwrap(), [item(19)]);
    // Whoever looks for new work sees it there, too.
    assert_eq!(store.recent_work(&[shard]).await.unwrap(), [item(19)]);
    store.finish_work(&[item(19)]).await.unwrap();
    assert!(left(&store, shard).await.is_empty());
}

/// Two owners at once, after one was thought dead: both retire, nothing is lost.
#[tokio::test]
async fn h1_two_that_retire_at_once_lose_nothing() {
    let place = place().await;
    let ahead = Arc::new(AtomicI64::new(0));
    let one = with_clock(place.name(), &ahead).await;
    let two = with_clock(place.name(), &ahead).await;
    let shard = item(0).shard();
    for number in 0..60 {
        put(&one, &item(number)).await;
        if number % 10 == 9 {
            ahead.fetch_add(40_000, Ordering::Relaxed);
            let (a, b) = tokio::join!(one.retire_work(shard), two.retire_work(shard));
            a.unwrap();
            b.unwrap();
        }
    }
    let expected: BTreeSet<String> = (0..60).map(|number| item(number).id).collect();
    assert_eq!(left(&two, shard).await, expected);
}

/// H20: nothing is deleted, so a clock that is behind cannot hide what is put again.
#[tokio::test]
async fn h20_work_that_is_put_again_by_a_slower_clock_is_there() {
    let place = place().await;
    let (now, behind) = (
        Arc::new(AtomicI64::new(0)),
        Arc::new(AtomicI64::new(-5_000)),
    );
    let quick = with_clock(place.name(), &now).await;
    let slow = with_clock(place.name(), &behind).await;
    put(&quick, &item(1)).await;
    quick.finish_work(&[item(1)]).await.unwrap();
    put(&slow, &item(1)).await;
    assert_eq!(left(&quick, item(1).shard()).await.len(), 1);
}
