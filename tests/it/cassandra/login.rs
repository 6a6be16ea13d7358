//! A node that asks for a user and a password and speaks TLS only.

use feedsme::store::cassandra::{CassandraStore, Options, migrate};
use feedsme::store::{Store, StoreErrorKind};

use super::cluster::Cluster;
use crate::places::{RUNTIME, options};

async fn opened(options: Options) -> Result<CassandraStore, feedsme::store::StoreError> {
    RUNTIME
        .spawn(async move { CassandraStore::open(&options).await })
        .await
        .unwrap()
}

#[tokio::test]
async fn user_password_and_tls_are_needed_and_used() {
    let cluster = tokio::task::spawn_blocking(|| {
        Cluster::start(&["--auth", "--tls", "--commitlog", "group", "--fast-schema"])
    })
    .await
    .unwrap();
    let mut right = options("feedsme");
    right.hosts.clone_from(&cluster.nodes);
    right.user = Some("cassandra".into());
    right.password = Some("cassandra".into());
    right.ca_file = Some(cluster.ca_file());
    let made = right.clone();
    let migrated = RUNTIME
        .spawn(async move { migrate(&made, &"1".parse().unwrap()).await })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(migrated.schema, 2);
    opened(right.clone()).await.unwrap().check().await.unwrap();

    let wrong = |change: fn(&mut Options)| {
        let mut options = right.clone();
        change(&mut options);
        options
    };
    for (what, options) in [
        ("password", wrong(|one| one.password = Some("guess".into()))),
        ("user", wrong(|one| one.user = None)),
        ("tls", wrong(|one| one.ca_file = None)),
    ] {
        let error = opened(options).await.err().unwrap();
        assert_eq!(error.kind, StoreErrorKind::Away, "{what}: {error}");
        assert!(!error.message.contains("guess"), "{error}");
    }
    let mut nothing = right.clone();
    nothing.ca_file = Some(cluster.ca_file().with_file_name("none.pem"));
    let error = opened(nothing).await.err().unwrap();
    assert!(error.message.contains("none.pem"), "{error}");
}
