//! The schema: made once, by whoever comes first, and checked by everybody.

use feedsme::store::StoreErrorKind;
use feedsme::store::cassandra::{CassandraStore, Migrated, Options, Replication, migrate};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use crate::places::{RUNTIME, fresh_keyspace, nodes, options};

fn one() -> Replication {
    "1".parse().unwrap()
}

/// On the runtime that connections live on.
async fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    RUNTIME.spawn(work).await.unwrap()
}

async fn migrated(options: &Options) -> Migrated {
    let options = options.clone();
    run(async move { migrate(&options, &one()).await.unwrap() }).await
}

async fn refused(options: &Options) -> String {
    let options = options.clone();
    let error = run(async move { CassandraStore::open(&options).await.err().unwrap() }).await;
    assert_eq!(error.kind, StoreErrorKind::Bug, "{error}");
    error.message
}

async fn session() -> Session {
    run(async { SessionBuilder::new().known_nodes(nodes()).build().await })
        .await
        .unwrap()
}

async fn cql(session: &Session, text: String) {
    session.query_unpaged(text, ()).await.unwrap();
}

#[tokio::test]
async fn of_five_that_migrate_at_once_each_file_is_applied_by_one() {
    let options = options(&fresh_keyspace());
    let all = (0..5).map(|_| migrated(&options));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|one| one.schema == 2));
    let applied: Vec<i32> = all.into_iter().flat_map(|one| one.applied).collect();
    assert_eq!(applied, [1, 2]);
    let again = migrated(&options).await;
    assert!(again.applied.is_empty());
    let store = options.clone();
    run(async move { CassandraStore::open(&store).await.map(drop).unwrap() }).await;
    cql(
        &session().await,
        format!("DROP KEYSPACE {}", options.keyspace),
    )
    .await;
}

#[tokio::test]
async fn serving_without_a_keyspace_or_with_another_schema_says_what_to_do() {
    let options = options(&fresh_keyspace());
    let message = refused(&options).await;
    assert!(
        message.contains("does not exist") && message.contains("feedsme migrate"),
        "{message}"
    );

    let session = session().await;
    let keyspace = &options.keyspace;
    cql(
        &session,
        format!("CREATE KEYSPACE {keyspace} WITH replication = {}", one()),
    )
    .await;
    let message = refused(&options).await;
    assert!(
        message.contains("has schema 0") && message.contains("feedsme migrate"),
        "{message}"
    );

    migrated(&options).await;
    cql(
        &session,
        format!(
            "INSERT INTO {keyspace}.schema_migration (one, number, state) VALUES (1, 999, 'applied')"
        ),
    )
    .await;
    let message = refused(&options).await;
    assert!(
        message.contains("newer feedsme") && message.contains("999"),
        "{message}"
    );
    let again = options.clone();
    let error = run(async move { migrate(&again, &one()).await })
        .await
        .unwrap_err();
    assert!(error.message.contains("newer feedsme"), "{error}");
    cql(
        &session,
        format!("DELETE FROM {keyspace}.schema_migration WHERE one = 1 AND number = 999"),
    )
    .await;

    // H9: conditional writes are of one data center.
    cql(
        &session,
        format!(
            "UPDATE {keyspace}.schema_migration SET data_center = 'elsewhere' WHERE one = 1 AND number = 1"
        ),
    )
    .await;
    let message = refused(&options).await;
    assert!(
        message.contains("elsewhere") && message.contains("datacenter1"),
        "{message}"
    );
    cql(&session, format!("DROP KEYSPACE {keyspace}")).await;
}

#[tokio::test]
async fn a_migration_that_somebody_died_in_is_taken_over() {
    let options = options(&fresh_keyspace());
    migrated(&options).await;
    let session = session().await;
    let keyspace = &options.keyspace;
    cql(&session, format!("DROP TABLE {keyspace}.outcome")).await;
    cql(
        &session,
        format!(
            "UPDATE {keyspace}.schema_migration SET state = 'applying', holder = 'dead', at = 1 \
             WHERE one = 1 AND number = 2"
        ),
    )
    .await;
    assert!(refused(&options).await.contains("has schema 1"));
    // Also what cannot be created twice, such as columns, is done again.
    assert_eq!(migrated(&options).await.applied, [2]);
    let store = options.clone();
    run(async move { CassandraStore::open(&store).await.map(drop).unwrap() }).await;
    cql(&session, format!("DROP KEYSPACE {keyspace}")).await;
}

#[tokio::test]
async fn names_of_data_centers_and_hosts_that_are_not_there_are_clear_errors() {
    let mut elsewhere = options("feedsme");
    elsewhere.data_center = Some("mars".into());
    let wrong = elsewhere.clone();
    let error = run(async move { migrate(&wrong, &one()).await })
        .await
        .unwrap_err();
    assert!(error.message.contains("mars"), "{error}");

    let mut nobody = options("feedsme");
    nobody.hosts = vec!["127.0.0.1:9".into()];
    let error = run(async move { CassandraStore::open(&nobody).await.err().unwrap() }).await;
    assert_eq!(error.kind, StoreErrorKind::Away, "{error}");
}
