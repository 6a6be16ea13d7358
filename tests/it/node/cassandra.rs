//! The keyspace that the Node software and feedsme share (issue: release lines in the warehouse's own layout; contract.md 3.1,
//! 3.3): the real `@wrhs/release-line`, `warehouse-models` and `datastar` read what we wrote, and we read what they wrote.

mod import;

use std::collections::BTreeMap;

use feedsme::model::name::PackageName;
use feedsme::semver::Version;
use feedsme::store::cassandra::{CassandraStore, migrate};
use feedsme::store::{Line, Projection, Store, Write};
use serde_json::{Value, json};

use crate::places::{RUNTIME, fresh_keyspace, nodes, open, options};

/// Runs steps on a keyspace with the Node software (tests/node/keyspace.js); what each came to.
pub async fn in_node(keyspace: &str, steps: &Value) -> Vec<Value> {
    let results = super::node("keyspace.js", &[&nodes().join(","), keyspace], steps).await;
    results.as_array().unwrap().clone()
}

/// A keyspace with nothing in it.
pub async fn empty_keyspace() -> String {
    let keyspace = fresh_keyspace();
    let cql = format!(
        "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    );
    in_cql(vec![cql]).await;
    keyspace
}

/// Runs statements.
pub async fn in_cql(statements: Vec<String>) {
    let done = RUNTIME.spawn(async move {
        let session = scylla::client::session_builder::SessionBuilder::new()
            .known_nodes(nodes())
            .build()
            .await
            .unwrap();
        for cql in statements {
            session
                .query_unpaged(cql.as_str(), ())
                .await
                .unwrap_or_else(|error| panic!("{cql}: {error}"));
        }
    });
    done.await.unwrap();
}

/// Makes our tables in a keyspace and opens it.
async fn ours(keyspace: &str) -> CassandraStore {
    let to = options(keyspace);
    let migrated = RUNTIME.spawn(async move { migrate(&to, &"1".parse().unwrap()).await });
    migrated.await.unwrap().unwrap();
    open(options(keyspace)).await
}

fn name(text: &str) -> PackageName {
    PackageName::parse(text).unwrap()
}

fn v(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn line(package: &str, version: &str, previous: Option<&str>) -> Line {
    Line {
        package: name(package),
        version: v(version),
        previous: previous.map(v),
    }
}

fn pair(package: &str, version: &str, dependent: &str, at: &str) -> Projection {
    Projection::LineDependent {
        package: name(package),
        version: v(version),
        dependent: name(dependent),
        dependent_version: v(at),
    }
}

/// Writes with stamps that rise from that time, in microseconds.
async fn write(store: &dyn Store, stamp: i64, projections: Vec<Projection>) {
    let writes = projections
        .into_iter()
        .zip(stamp..)
        .map(|(one, stamp)| Write::Projection(stamp, one))
        .collect();
    store.write(writes).await.unwrap();
}

fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

async fn dependents(store: &dyn Store, package: &str, version: &str) -> BTreeMap<String, String> {
    let pairs = store
        .line_dependents(&name(package), &v(version), None, 100)
        .await
        .unwrap();
    pairs
        .into_iter()
        .map(|(dependent, version)| (dependent.to_string(), version.to_string()))
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

/// Both write lines into one keyspace and read those of the other.
async fn both_read_what_the_other_wrote(keyspace: &str, store: &CassandraStore) {
    // ---- we write, they read
    write(
        store,
        now(),
        vec![
            Projection::Line(line("@s/root", "5.2.2", None)),
            Projection::Line(line("@s/root", "5.2.3", Some("5.2.2"))),
            Projection::Head(line("@s/root", "5.2.3", Some("5.2.2"))),
            pair("@s/root", "5.2.2", "child", "5.0.0"),
            pair("@s/root", "5.2.3", "child", "5.0.1-0"),
            pair("@s/root", "5.2.3", "@s/other", "1.0.1-0"),
            Projection::Line(line("alone", "1.0.0-beta.1", None)),
            Projection::Head(line("alone", "1.0.0-beta.1", None)),
            Projection::DependentOf {
                package: name("child"),
                parent: Some(name("@s/root")),
            },
        ],
    )
    .await;
    let head = json!({"pkg": "@s/root", "version": "5.2.3", "previousVersion": "5.2.2",
        "dependents": {"child": "5.0.1-0", "@s/other": "1.0.1-0"}});
    let read = in_node(
        keyspace,
        &json!([
            ["line", "get", {"pkg": "@s/root"}],
            ["line", "get", {"pkg": "@s/root", "version": "5.2.3"}],
            ["line", "get", {"pkg": "@s/root", "version": "5.2.2"}],
            ["line", "get", {"pkg": "alone"}],
            ["line", "get", {"pkg": "nobody"}],
            ["line", "get", {"pkg": "@s/root", "version": "9.9.9"}],
            ["dependent", "list", {"pkg": "@s/root", "version": "5.2.2"}],
            ["dependent", "get", {"pkg": "@s/root", "dependent": "child"}],
            ["DependentOf", "get", {"pkg": "child"}],
        ]),
    )
    .await;
    assert_eq!(read[0], head);
    assert_eq!(read[1], head);
    // A line without a previous one: null or absent, as with their own.
    assert_eq!(read[2]["previousVersion"], Value::Null);
    assert_eq!(read[2]["dependents"], json!({"child": "5.0.0"}));
    assert_eq!(read[3]["version"], "1.0.0-beta.1");
    assert_eq!(
        (&read[3]["previousVersion"], &read[3]["dependents"]),
        (&Value::Null, &json!({}))
    );
    assert_eq!((&read[4], &read[5]), (&Value::Null, &Value::Null));
    assert_eq!(read[6].as_array().unwrap().len(), 1);
    assert_eq!(read[7]["dependentVersion"], "5.0.1-0");
    assert_eq!(read[8]["dependentOf"], "@s/root");

    // ---- they write, we read
    in_node(
        keyspace,
        &json!([
            ["line", "create", {"pkg": "@t/theirs", "version": "1.0.0"}],
            ["line", "create", {"pkg": "@t/theirs", "version": "1.1.0",
                "dependents": [{"dependent": "@t/child", "dependentVersion": "2.0.1-0"}]}],
            ["dependent", "add", {"pkg": "@t/theirs", "dependent": "other", "dependentVersion": "3.0.0"}],
            ["DependentOf", "create", {"pkg": "@t/child", "dependentOf": "@t/theirs"}],
            // datastar writes a null as the character U+0000.
            ["ReleaseLine", "create", {"pkg": "nulled", "version": "1.0.0", "previousVersion": "0.9.0"}],
            ["ReleaseLine", "update", {"pkg": "nulled", "version": "1.0.0", "previousVersion": null}],
            ["ReleaseLineHead", "create", {"pkg": "nulled", "version": "1.0.0", "previousVersion": "0.9.0"}],
            ["ReleaseLineHead", "update", {"pkg": "nulled", "version": "1.0.0", "previousVersion": null}],
        ]),
    )
    .await;
    let theirs = name("@t/theirs");
    assert_eq!(
        store.head(&theirs).await.unwrap(),
        Some(line("@t/theirs", "1.1.0", Some("1.0.0")))
    );
    assert_eq!(
        store.line(&theirs, &v("1.1.0")).await.unwrap(),
        Some(line("@t/theirs", "1.1.0", Some("1.0.0")))
    );
    assert_eq!(
        store.line(&theirs, &v("1.0.0")).await.unwrap(),
        Some(line("@t/theirs", "1.0.0", None))
    );
    assert_eq!(store.line(&theirs, &v("7.0.0")).await.unwrap(), None);
    assert_eq!(
        dependents(store, "@t/theirs", "1.1.0").await,
        pairs(&[("@t/child", "2.0.1-0"), ("other", "3.0.0")])
    );
    assert_eq!(dependents(store, "@t/theirs", "1.0.0").await, pairs(&[]));
    let nulled = name("nulled");
    let none = Some(line("nulled", "1.0.0", None));
    assert_eq!(store.line(&nulled, &v("1.0.0")).await.unwrap(), none);
    assert_eq!(store.head(&nulled).await.unwrap(), none);

    // ---- what they are known to write where a version belongs (contract.md 5) hides nothing and fails nothing
    in_node(
        keyspace,
        &json!([
            ["line", "create", {"pkg": "odd", "version": "1.0.0", "previousVersion": "undefined", "dependents": [
                {"dependent": "a", "dependentVersion": "undefined"}, {"dependent": "b", "dependentVersion": "1.0.0"},
                {"dependent": "c"}, {"dependent": "d", "dependentVersion": "2.0.0"}, {"dependent": "No Name", "dependentVersion": "1.0.0"}]}],
            ["ReleaseLineHead", "create", {"pkg": "headless", "version": "undefined"}],
        ]),
    )
    .await;
    assert_eq!(
        dependents(store, "odd", "1.0.0").await,
        pairs(&[("b", "1.0.0"), ("d", "2.0.0")])
    );
    let (odd, one) = (name("odd"), v("1.0.0"));
    let mut after = None;
    for expected in ["b", "d"] {
        let page = store
            .line_dependents(&odd, &one, after.as_ref(), 1)
            .await
            .unwrap();
        assert_eq!(page.len(), 1, "a page that is not full would be the last");
        assert_eq!(page[0].0.as_str(), expected);
        after = Some(page[0].0.clone());
    }
    assert_eq!(
        store
            .line_dependents(&odd, &one, after.as_ref(), 1)
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        store.head(&odd).await.unwrap(),
        Some(line("odd", "1.0.0", None))
    );
    assert_eq!(store.head(&name("headless")).await.unwrap(), None);

    // ---- whoever writes later is read by both
    in_node(
        keyspace,
        &json!([
            ["dependent", "add", {"pkg": "@s/root", "version": "5.2.3", "dependent": "child", "dependentVersion": "5.0.1-1"}],
            ["line", "create", {"pkg": "@s/root", "version": "5.3.0"}],
        ]),
    )
    .await;
    assert_eq!(
        dependents(store, "@s/root", "5.2.3").await,
        pairs(&[("@s/other", "1.0.1-0"), ("child", "5.0.1-1")])
    );
    assert_eq!(
        store.head(&name("@s/root")).await.unwrap(),
        Some(line("@s/root", "5.3.0", Some("5.2.3"))),
        "they found our head and went on from it"
    );
    write(
        store,
        now(),
        vec![
            pair("@t/theirs", "1.1.0", "@t/child", "2.0.1-1"),
            Projection::Line(line("@t/theirs", "1.2.0", Some("1.1.0"))),
            Projection::Head(line("@t/theirs", "1.2.0", Some("1.1.0"))),
        ],
    )
    .await;
    let read = in_node(
        keyspace,
        &json!([["line", "get", {"pkg": "@t/theirs", "version": "1.1.0"}], ["line", "get", {"pkg": "@t/theirs"}]]),
    )
    .await;
    assert_eq!(
        read[0]["dependents"],
        json!({"@t/child": "2.0.1-1", "other": "3.0.0"})
    );
    assert_eq!(
        (&read[1]["version"], &read[1]["previousVersion"]),
        (&json!("1.2.0"), &json!("1.1.0"))
    );

    // A projection of a batch that was decided earlier changes nothing of theirs (H19).
    write(
        store,
        1_000,
        vec![pair("@t/theirs", "1.1.0", "other", "1.0.0")],
    )
    .await;
    assert_eq!(
        dependents(store, "@t/theirs", "1.1.0").await["other"],
        "3.0.0"
    );
}

#[tokio::test]
async fn a_keyspace_that_we_made_is_used_by_the_node_software() {
    let keyspace = fresh_keyspace();
    let store = ours(&keyspace).await;
    in_node(&keyspace, &json!([["ensure"]])).await;
    both_read_what_the_other_wrote(&keyspace, &store).await;
    in_cql(vec![format!("DROP KEYSPACE {keyspace}")]).await;
}

#[tokio::test]
async fn a_keyspace_that_the_node_software_made_is_used_by_us() {
    let keyspace = empty_keyspace().await;
    // It has been at work before us.
    let before = json!([
        ["ensure"],
        ["Package", "create", {"name": "old", "version": "1.0.0", "dependencies": {"@s/root": "^1.0.0"}}],
        ["line", "create", {"pkg": "old", "version": "1.0.0", "dependents": [{"dependent": "x", "dependentVersion": "1.0.0"}]}],
    ]);
    in_node(&keyspace, &before).await;
    let store = ours(&keyspace).await;
    assert_eq!(
        store.head(&name("old")).await.unwrap(),
        Some(line("old", "1.0.0", None))
    );
    assert_eq!(
        dependents(&store, "old", "1.0.0").await,
        pairs(&[("x", "1.0.0")])
    );
    both_read_what_the_other_wrote(&keyspace, &store).await;
    // Its own tables are as they were.
    let after = in_node(
        &keyspace,
        &json!([["ensure"], ["Package", "get", {"name": "old"}]]),
    )
    .await;
    assert_eq!(after[1]["dependencies"], json!({"@s/root": "^1.0.0"}));
    in_cql(vec![format!("DROP KEYSPACE {keyspace}")]).await;
}
