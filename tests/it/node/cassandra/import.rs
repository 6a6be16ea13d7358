//! `feedsme import --from` a keyspace that the Node software made and filled, into an SQLite file, into another keyspace, and
//! into the very keyspace itself.

use std::collections::BTreeMap;

use feedsme::app::{self, Running};
use feedsme::neighbours::Endpoint;
use feedsme::sandbox::{Role, Sandbox, SandboxOptions, Tarball};
use feedsme::settings::{Settings, StoreAddress};
use feedsme::store::Store;
use feedsme::store::cassandra::migrate;
use serde_json::{Value, json};

use super::{dependents, empty_keyspace, in_cql, in_node, line, name, pairs, v};
use crate::import::import;
use crate::places::{RUNTIME, fresh_keyspace, nodes, options};
use crate::rules::stage::{doc, on};

/// The model of the Node software for a publish: `version`, and `package` if it is the newest.
fn published(name: &str, version: &str, dependencies: &Value, newest: bool) -> Vec<Value> {
    let mut document = doc(name, version, dependencies);
    document["versions"][version]["webpack"] = json!("4");
    // What the warehouse keeps in place of the tarball.
    document["_attachments"] = json!({});
    let id = format!("{name}@{version}");
    let mut steps = vec![json!(["Version", "create",
        {"versionId": id, "name": name, "version": version, "value": document.to_string()}])];
    if newest {
        steps.push(json!(["Package", "create",
            {"name": name, "version": version, "dependencies": dependencies, "distTags": {"latest": version, "gone": null}}]));
    }
    steps
}

/// A keyspace as the Node software leaves it behind, hazards included (contract.md 4.1, 5).
async fn old_keyspace() -> String {
    let keyspace = empty_keyspace().await;
    let to_root = on("root", "^5.0.0");
    let mut steps = vec![json!(["ensure"])];
    steps.extend(published("root", "5.2.2", &json!({}), false));
    steps.extend(published("root", "5.2.3", &json!({}), true));
    steps.extend(published("@s/child", "5.0.0", &to_root, false));
    steps.extend(published("@s/child", "5.0.1-0", &to_root, true));
    steps.extend(published("dropped", "1.0.0", &to_root, false));
    steps.extend(published("dropped", "2.0.0", &json!({}), true));
    // Its document was cut before its name: only the package's row tells what it depends on.
    steps.push(json!(["Version", "create", {"versionId": "cut@1.0.0", "name": "cut", "version": "1.0.0", "value": "{}"}]));
    steps.push(json!(["Package", "create", {"name": "cut", "version": "1.0.0", "dependencies": to_root, "keywords": ["x"]}]));
    // Published with another tag, and never with latest.
    let mut beta = doc("beta", "1.0.0-beta.0", &to_root);
    beta["dist-tags"] = json!({"next": "1.0.0-beta.0"});
    steps.push(json!(["Version", "create",
        {"versionId": "beta@1.0.0-beta.0", "name": "beta", "version": "1.0.0-beta.0", "value": beta.to_string()}]));
    steps.push(json!(["Package", "create", {"name": "beta", "version": "1.0.0-beta.0"}]));
    // Not managed: no row in package.
    steps.extend(published("stray", "1.0.0", &to_root, false));
    steps.extend([
        json!(["line", "create", {"pkg": "root", "version": "5.2.2",
            "dependents": [{"dependent": "@s/child", "dependentVersion": "5.0.0"}]}]),
        json!(["line", "create", {"pkg": "root", "version": "5.2.3",
            "dependents": [{"dependent": "@s/child", "dependentVersion": "5.0.1-0"}, {"dependent": "cut", "dependentVersion": "1.0.0"}]}]),
        json!(["line", "create", {"pkg": "@s/child", "version": "5.0.0"}]),
        json!(["line", "create", {"pkg": "@s/child", "version": "5.0.1-0"}]),
        json!(["line", "create", {"pkg": "stray", "version": "1.0.0"}]),
        json!(["DependentOf", "create", {"pkg": "@s/child", "dependentOf": "root"}]),
        json!(["Dependent", "create", {"name": "root", "dependents": ["@s/child", "cut", "dropped"]}]),
        // 5.2.2 was replayed later: a loop (contract.md 5.7). And a null is written as U+0000.
        json!(["ReleaseLine", "update", {"pkg": "root", "version": "5.2.2", "previousVersion": "5.2.3"}]),
        json!(["ReleaseLine", "update", {"pkg": "@s/child", "version": "5.0.0", "previousVersion": null}]),
        // A dependent that was "built" with version undefined (contract.md 5.1).
        json!(["dependent", "add", {"pkg": "root", "version": "5.2.3", "dependent": "dropped", "dependentVersion": "undefined"}]),
    ]);
    in_node(&keyspace, &json!(steps)).await;
    keyspace
}

async fn migrated(keyspace: &str) {
    let to = options(keyspace);
    let done = RUNTIME.spawn(async move { migrate(&to, &"1".parse().unwrap()).await });
    done.await.unwrap().unwrap();
}

fn address(keyspace: &str) -> String {
    format!("cassandra://{}/{keyspace}", nodes().join(","))
}

/// The service on the store, between neighbours who have what the keyspace had.
struct World {
    sandbox: Sandbox,
    running: Running,
    client: reqwest::Client,
}

impl World {
    async fn on(store: &StoreAddress) -> Self {
        let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
        let to_root = on("root", "^5.0.0");
        for (name, version, dependencies) in [
            ("root", "5.2.2", &json!({})),
            ("root", "5.2.3", &json!({})),
            ("@s/child", "5.0.0", &to_root),
            ("@s/child", "5.0.1-0", &to_root),
            ("cut", "1.0.0", &to_root),
        ] {
            let document = doc(name, version, dependencies);
            sandbox
                .publish(document, &Tarball::Synthetic(2048))
                .unwrap();
        }
        let settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            store: store.clone(),
            build_service: Some(Endpoint::new(sandbox.build_service_url())),
            warehouse: Some(Endpoint::new(sandbox.warehouse_url())),
            registry: Some(Endpoint::new(sandbox.registry_url())),
            ..Settings::default()
        };
        let running = app::start(&settings).await.unwrap();
        sandbox.report_to(&running.url());
        Self {
            sandbox,
            running,
            client: reqwest::Client::new(),
        }
    }

    async fn read(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.running.url());
        self.client
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    async fn post(&self, path: &str, body: &Value) {
        let url = format!("{}{path}", self.running.url());
        let answer = self.client.post(url).json(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
    }

    /// Waits until so many were taken by a neighbour; what they were.
    async fn sent(&self, role: Role, count: usize) -> Vec<String> {
        let of = |requests: &[feedsme::sandbox::Received]| -> Vec<String> {
            let is_taken = |text: &str| ["queued", "published"].contains(&text);
            let taken = requests
                .iter()
                .filter(|one| one.role == role && is_taken(&one.outcome));
            let shown = taken.map(|one| {
                let text = |value: &Option<String>| value.clone().unwrap_or_default();
                format!(
                    "{}@{} {}",
                    text(&one.package),
                    text(&one.version),
                    text(&one.env)
                )
            });
            let mut shown: Vec<String> = shown.collect();
            shown.sort();
            shown
        };
        let patience = std::time::Duration::from_secs(30);
        let requests = self
            .sandbox
            .wait_for(|all| of(all).len() >= count, patience)
            .await;
        of(&requests.unwrap())
    }

    /// The line of root when the dependents have come back.
    async fn line(&self, path: &str, dependents: &Value) -> Value {
        for _ in 0..1_000 {
            let line = self.read(path).await;
            if line["dependents"] == *dependents {
                return line;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("{}", self.read(path).await);
    }
}

async fn imported(store: &str, keyspace: &str) {
    let store = StoreAddress::try_from(store.to_owned()).unwrap();
    let from = format!("--from={}", address(keyspace));
    for (new, known) in [(8, 0), (0, 8)] {
        let done = import(&store, &[&from]).await;
        // What cannot be read is named each time.
        assert_eq!(done.code, Some(1), "{}\n{}", done.summary, done.said);
        let named: Vec<_> = done.failed();
        assert_eq!(named.len(), 1, "{named:?}");
        assert_eq!(named[0].0, "line root@5.2.3, dependent dropped");
        assert!(named[0].1.starts_with("\"undefined\""), "{named:?}");
        let counts = ["packages", "new", "known", "lines", "pairs", "unmanaged"]
            .map(|key| done.summary[key].as_u64().unwrap());
        assert_eq!(counts, [5, new, known, 4, 3, 3], "{}", done.summary);
    }
    nothing_is_to_be_done(&store).await;
    what_follows(&store).await;
}

/// An import leaves no work.
async fn nothing_is_to_be_done(store: &StoreAddress) {
    let settings = Settings {
        store: store.clone(),
        ..Settings::default()
    };
    let (store, _lock) = app::open(&settings).await.unwrap();
    assert!(
        feedsme::store::all_pending(&*store)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.changes(None, 10).await.unwrap().is_empty());
    lines(&*store).await;
    store.close().await.unwrap();
}

/// The lines as they were, but for the loop; all of them are listed.
async fn lines(store: &dyn Store) {
    let root = name("root");
    assert_eq!(
        store.head(&root).await.unwrap(),
        Some(line("root", "5.2.3", Some("5.2.2")))
    );
    let mut all = store.lines(&root).await.unwrap();
    all.sort_by(|a, b| a.version.cmp(&b.version));
    assert_eq!(
        all,
        [
            line("root", "5.2.2", None),
            line("root", "5.2.3", Some("5.2.2"))
        ]
    );
    assert_eq!(
        dependents(store, "root", "5.2.2").await,
        pairs(&[("@s/child", "5.0.0")])
    );
    let mut newest = dependents(store, "root", "5.2.3").await;
    newest.remove("dropped");
    assert_eq!(newest, pairs(&[("@s/child", "5.0.1-0"), ("cut", "1.0.0")]));
    let ranges: BTreeMap<String, Option<String>> = store
        .dependents(&root, None, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|one| (one.dependent.to_string(), one.range))
        .collect();
    let five = Some("^5.0.0".to_owned());
    let expected = [("@s/child", five.clone()), ("cut", five), ("dropped", None)];
    assert_eq!(
        ranges,
        expected
            .map(|(name, range)| (name.to_owned(), range))
            .into()
    );
    let child = feedsme::store::Want::statics(&name("@s/child"));
    let child = store.packages(&[child]).await.unwrap().remove(0);
    assert_eq!(child.dependent_of, Some(root));
    assert_eq!(
        child.top.unwrap().origin,
        Some(v("5.0.0")),
        "made by the Node software"
    );
}

/// The service goes on where the Node software stopped.
async fn what_follows(store: &StoreAddress) {
    let world = World::on(store).await;
    // The line that was taken over is promoted.
    let mut promotion = doc("root", "5.2.3", &json!({}));
    promotion["env"] = json!("test");
    world
        .post(
            "/v2/change/test",
            &json!({"data": promotion, "promote": true}),
        )
        .await;
    assert_eq!(
        world.sent(Role::Build, 2).await,
        ["@s/child@5.0.1-0 test", "cut@1.0.0 test"]
    );
    // The next publish follows it.
    world
        .sandbox
        .publish_by_hand(doc("root", "5.2.4", &json!({})), 2048)
        .await
        .unwrap();
    let sent = world.sent(Role::Warehouse, 2).await;
    assert_eq!(sent, ["@s/child@5.0.1-1 dev", "cut@1.0.1-0 dev"]);
    let all = json!({"@s/child": "5.0.1-1", "cut": "1.0.1-0"});
    let line = world.line("/release-line/root", &all).await;
    assert_eq!(
        (&line["version"], &line["previousVersion"]),
        (&json!("5.2.4"), &json!("5.2.3"))
    );
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_a_file() {
    let keyspace = old_keyspace().await;
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("feedsme.sqlite3").display());
    imported(&file, &keyspace).await;
    in_cql(vec![format!("DROP KEYSPACE {keyspace}")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_another_keyspace() {
    let (keyspace, ours) = (old_keyspace().await, fresh_keyspace());
    migrated(&ours).await;
    imported(&address(&ours), &keyspace).await;
    in_cql(vec![
        format!("DROP KEYSPACE {keyspace}"),
        format!("DROP KEYSPACE {ours}"),
    ])
    .await;
}

/// And the Node software still reads what is there, and what we did since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_the_keyspace_itself() {
    let keyspace = old_keyspace().await;
    migrated(&keyspace).await;
    imported(&address(&keyspace), &keyspace).await;
    let read = in_node(
        &keyspace,
        &json!([
            ["line", "get", {"pkg": "root"}],
            ["line", "get", {"pkg": "root", "version": "5.2.2"}],
            ["DependentOf", "get", {"pkg": "@s/child"}],
        ]),
    )
    .await;
    assert_eq!(
        read[0],
        json!({"pkg": "root", "version": "5.2.4", "previousVersion": "5.2.3",
            "dependents": {"@s/child": "5.0.1-1", "cut": "1.0.1-0"}})
    );
    assert_eq!(read[1]["previousVersion"], Value::Null, "the loop is gone");
    assert_eq!(read[2]["dependentOf"], "root");
    in_cql(vec![format!("DROP KEYSPACE {keyspace}")]).await;
}

#[tokio::test]
async fn a_keyspace_that_is_none_of_theirs_is_refused() {
    let keyspace = empty_keyspace().await;
    let dir = tempfile::tempdir().unwrap();
    let file = StoreAddress::file(dir.path().join("a"));
    let done = import(&file, &[&format!("--from={}", address(&keyspace))]).await;
    assert_eq!(done.code, Some(1));
    assert!(
        done.said.contains("is none of the Node software's"),
        "{}",
        done.said
    );
    assert!(
        !dir.path().join("a").exists(),
        "nothing of ours was touched"
    );
    let done = import(&file, &["--from=sqlite:x"]).await;
    assert_eq!(done.code, Some(2));
    assert!(
        done.said.contains("cassandra://host/keyspace"),
        "{}",
        done.said
    );
    in_cql(vec![format!("DROP KEYSPACE {keyspace}")]).await;
}
