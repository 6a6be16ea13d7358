//! Rule 10: the document that is sent, and in which order.

use std::time::Duration;

use super::stage::{Stage, doc, on, outcomes};
use feedsme::sandbox::{Fault, FaultKind, Received, Role, Tarball};
use serde_json::{Value, json};

/// The registry's own word on a version's tarball.
async fn dist(stage: &Stage, name: &str, version: &str) -> Value {
    let url = format!(
        "{}/{}",
        stage.sandbox.registry_url(),
        name.replace('/', "%2F")
    );
    let body: Value = stage
        .client
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    body["versions"][version]["dist"].clone()
}

async fn tag(stage: &Stage, name: &str, tag: &str, version: &str) {
    let url = format!(
        "{}/-/package/{}/dist-tags/{tag}",
        stage.sandbox.registry_url(),
        name.replace('/', "%2F")
    );
    let answer = stage
        .client
        .put(url)
        .json(&json!(version))
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

fn last(stage: &Stage, role: Role) -> Received {
    stage.received(&[role]).pop().unwrap()
}

/// A scoped child with everything that a document can have, and its first rebuild.
async fn rich(stage: &Stage) -> Value {
    stage.publish("root", "1.0.0", json!({})).await;
    let mut document = json!({
        "_id": "@s/c",
        "name": "@s/c",
        "description": "words",
        "dist-tags": {"latest": "5.0.0", "old": "1.0.0"},
        "versions": {"5.0.0": {
            "name": "@s/c", "version": "5.0.0", "_id": "@s/c@5.0.0", "main": "i.js",
            "dependencies": {"root": "^1.0.0"},
            "dist": {"tarball": "http://else.example/@s/c/-/c-5.0.0.tgz", "x-mine": 1},
        }},
        "readme": "# c",
        "maintainers": [{"name": "m"}],
        "access": null,
    });
    stage
        .sandbox
        .publish(document.clone(), &Tarball::Synthetic(70_001))
        .unwrap();
    let known = dist(stage, "@s/c", "5.0.0").await;
    document["versions"]["5.0.0"]["dist"]["shasum"] = known["shasum"].clone();
    document["versions"]["5.0.0"]["dist"]["integrity"] = known["integrity"].clone();
    document["_attachments"] = json!({"@s/c-5.0.0.tgz": {"data": "", "length": 0}});
    stage.notice(document.clone()).await;
    document
}

#[tokio::test]
async fn rule_10_the_document_for_the_warehouse() {
    let stage = Stage::new().await;
    let base = rich(&stage).await;
    stage.publish("root", "1.0.1", json!({})).await;
    let sent = last(&stage, Role::Warehouse);
    assert_eq!((sent.method.as_str(), sent.attempt), ("PUT", 1));
    assert!(sent.path.ends_with("/@s%2Fc") || sent.path.ends_with("/%40s%2Fc"));
    assert_eq!(
        sent.keys,
        [
            "_id",
            "name",
            "description",
            "dist-tags",
            "versions",
            "readme",
            "maintainers",
            "access",
            "_attachments",
            "version",
            "env",
            "__published"
        ],
        "what is stored precedes the attachments; no columns of a Package row"
    );
    let document = sent.document.as_ref().unwrap();
    assert_eq!(
        (&document["env"], &document["__published"]),
        (&json!("dev"), &json!(true))
    );
    assert_eq!(
        (&document["version"], &document["_id"]),
        (&json!("5.0.1-0"), &json!("@s/c"))
    );
    let known = dist(&stage, "@s/c", "5.0.0").await;
    assert_eq!(
        document["versions"],
        json!({"5.0.1-0": {
            "name": "@s/c", "version": "5.0.1-0", "_id": "@s/c@5.0.1-0", "main": "i.js",
            "dependencies": {"root": "^1.0.0"},
            "dist": {"tarball": "http://else.example/@s/c/-/c-5.0.1-0.tgz", "x-mine": 1,
                "shasum": known["shasum"], "integrity": known["integrity"]},
        }}),
        "only the new version; the hashes stay, because the bytes do"
    );
    for key in ["description", "readme", "maintainers", "access"] {
        assert_eq!(document[key], base[key]);
    }
    let tarball = sent.tarball().unwrap();
    assert_eq!(tarball.name, "@s/c-5.0.1-0.tgz");
    assert_eq!(
        tarball.content_type.as_deref(),
        Some("application/octet-stream")
    );
    assert_eq!(
        (tarball.bytes, tarball.declared_length),
        (70_001, Some(70_001)),
        "npm's length counts bytes, not base64"
    );
    assert_eq!(known["shasum"], tarball.sha1);
    assert_eq!(known["integrity"], tarball.integrity);
    stage.end().await;
}

#[tokio::test]
async fn rule_10_other_dist_tags_are_the_packuments_at_the_time_of_sending() {
    let stage = Stage::new().await;
    rich(&stage).await;
    tag(&stage, "@s/c", "beta", "5.0.0").await;
    stage
        .sandbox
        .fail(Fault::once(Role::Warehouse, FaultKind::status(500)).of("@s/c"));
    stage.hand(doc("root", "1.0.1", &json!({}))).await;
    stage
        .seen(|r| r.iter().any(|r| r.status == Some(500)))
        .await;
    // Between the two attempts.
    tag(&stage, "@s/c", "stable", "5.0.0").await;
    stage.quiet().await;
    let sent = stage.received(&[Role::Warehouse]);
    let tags = |at: usize| sent[at].document.as_ref().unwrap()["dist-tags"].clone();
    assert_eq!(
        tags(0),
        json!({"latest": "5.0.1-0", "old": "1.0.0", "beta": "5.0.0"})
    );
    assert_eq!(
        tags(1),
        json!({"latest": "5.0.1-0", "old": "1.0.0", "beta": "5.0.0", "stable": "5.0.0"})
    );

    // Only if there is none to read, the base document's: it knows nothing of beta and stable.
    stage
        .sandbox
        .fail(Fault::once(Role::Packument, FaultKind::status(404)).of("@s/c"));
    stage.publish("root", "1.0.2", json!({})).await;
    let sent = last(&stage, Role::Warehouse);
    let tags = sent.document.unwrap()["dist-tags"].clone();
    assert_eq!(tags["latest"], "5.0.1-1");
    assert_eq!(
        tags.as_object().unwrap().len(),
        sent_of_base(&stage, "5.0.1-0"),
        "{tags}"
    );
    stage.end().await;
}

/// How many tags the document of a sent version had, which became the base of the next.
fn sent_of_base(stage: &Stage, version: &str) -> usize {
    let sent = stage.received(&[Role::Warehouse]);
    let mut of = sent.iter().rev();
    let found = of.find(|r| r.version.as_deref() == Some(version));
    let document = found.unwrap().document.as_ref().unwrap();
    document["dist-tags"].as_object().unwrap().len()
}

#[tokio::test]
async fn rule_10_a_missing_dist_is_filled_from_the_packument_or_left_out() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    stage.publish("root", "1.0.1", json!({})).await;
    let known = dist(&stage, "child", "5.0.0").await;
    let sent = last(&stage, Role::Warehouse).document.unwrap();
    let sent = &sent["versions"]["5.0.1-0"]["dist"];
    assert_eq!(sent["shasum"], known["shasum"]);
    let tarball = known["tarball"].as_str().unwrap();
    assert_eq!(
        sent["tarball"],
        tarball.replace("child-5.0.0.tgz", "child-5.0.1-0.tgz")
    );

    stage.publish("bare", "1.0.0", on("root", "^1.0.0")).await;
    stage
        .sandbox
        .fail(Fault::once(Role::Packument, FaultKind::status(404)).of("bare"));
    stage.publish("root", "1.0.2", json!({})).await;
    let sent = stage.received(&[Role::Warehouse]);
    let bare = sent.iter().find(|r| r.package.as_deref() == Some("bare"));
    let document = bare.unwrap().document.as_ref().unwrap();
    assert_eq!(document["versions"]["1.0.1-0"].get("dist"), None);
    stage.end().await;
}

#[tokio::test]
async fn rule_10_without_a_warehouse_the_tarball_is_that_of_the_version_by_hand() {
    let stage = Stage::without_warehouse().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    let known = dist(&stage, "child", "5.0.0").await;
    for (root, version) in [
        ("1.0.1", "5.0.1-0"),
        ("1.0.2", "5.0.1-1"),
        ("1.0.3", "5.0.1-2"),
    ] {
        stage.publish("root", root, json!({})).await;
        let sent = last(&stage, Role::Build);
        assert_eq!(sent.version.as_deref(), Some(version));
        assert_eq!(sent.path, "/build/v2/build");
        assert_eq!(sent.promote, Some(json!(true)));
        let tarball = sent.tarball().unwrap();
        assert_eq!(tarball.name, format!("child-{version}.tgz"));
        assert_eq!(known["integrity"], tarball.integrity);
        let document = sent.document.as_ref().unwrap();
        assert_eq!(
            (&document["env"], &document["__published"]),
            (&json!("dev"), &json!(true))
        );
    }
    // Promotions of what was never in the registry as well.
    stage.promote("root", "1.0.3", "test").await;
    assert_eq!(
        known["integrity"],
        last(&stage, Role::Build).tarball().unwrap().integrity
    );
    stage.end().await;
}

#[tokio::test]
async fn rule_10_the_first_environment_is_the_settings() {
    let stage = Stage::with(|settings| {
        settings.environments = vec!["alpha".into(), "omega".into()];
    })
    .await;
    stage.in_registry("child", "1.0.0");
    for (name, version, deps) in [
        ("root", "1.0.0", json!({})),
        ("child", "1.0.0", on("root", "^1.0.0")),
        ("root", "1.0.1", json!({})),
    ] {
        stage.change("/change", &doc(name, version, &deps)).await;
    }
    stage.quiet().await;
    assert_eq!(last(&stage, Role::Warehouse).env.as_deref(), Some("alpha"));
    stage.promote("root", "1.0.1", "omega").await;
    assert_eq!(last(&stage, Role::Build).env.as_deref(), Some("omega"));
    stage.end().await;
}

/// Whether no two of these were under way at the same time.
fn one_at_a_time(received: &[Received]) {
    for pair in received.windows(2) {
        let (one, next) = (&pair[0], &pair[1]);
        assert!(
            one.finished.is_some_and(|end| end <= next.at),
            "{} / {}",
            one.summary(),
            next.summary()
        );
    }
}

#[tokio::test]
async fn rule_10_one_at_a_time_of_a_package_in_the_order_decided() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    for name in ["child", "other"] {
        stage.publish(name, "5.0.0", on("root", "^1.0.0")).await;
    }
    stage
        .sandbox
        .fail(Fault::always(Role::Warehouse, FaultKind::Slow { ms: 150 }).of("child"));
    for patch in 1..=4 {
        let version = format!("1.0.{patch}");
        stage.hand(doc("root", &version, &json!({}))).await;
    }
    stage.quiet().await;
    let sent = stage.received(&[Role::Warehouse]);
    let of = |name: &str| -> Vec<Received> {
        let mut of = sent.clone();
        of.retain(|r| r.package.as_deref() == Some(name));
        of
    };
    let child = of("child");
    one_at_a_time(&child);
    let versions: Vec<_> = child
        .iter()
        .map(|r| r.version.as_deref().unwrap())
        .collect();
    assert_eq!(versions, ["5.0.1-0", "5.0.1-1", "5.0.1-2", "5.0.1-3"]);
    let (last_other, last_child) = (of("other").pop().unwrap(), child.last().unwrap().clone());
    assert!(
        last_other.finished < last_child.finished,
        "other packages do not wait"
    );
    stage.end().await;
}

#[tokio::test]
async fn rule_10_what_waits_for_a_retry_keeps_its_place() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    stage.publish("root", "1.0.1", json!({})).await;
    stage.news();
    stage
        .sandbox
        .fail(Fault::always(Role::Warehouse, FaultKind::status(500)).of("child"));
    let id = stage.hand(doc("root", "1.0.2", &json!({}))).await;
    stage.hand(doc("root", "1.0.3", &json!({}))).await;
    stage.hand(doc("root", "1.0.4", &json!({}))).await;
    stage
        .seen(|r| r.iter().any(|r| r.status == Some(500)))
        .await;
    // Another environment has an order of its own.
    stage.promote_only("root", "1.0.1", "test").await;
    stage
        .seen(|r| {
            r.iter()
                .any(|r| r.outcome == "queued" && r.env.as_deref() == Some("test"))
        })
        .await;
    assert_eq!(stage.taken(), ["build child@5.0.1-0 test"]);
    stage.sandbox.clear_faults();
    stage.quiet().await;
    let sent = stage.received(&[Role::Warehouse]);
    let failed = sent.iter().filter(|r| r.status == Some(500)).count();
    assert!(failed > 0);
    let mut expected: Vec<_> = (1..=failed + 1).map(|n| ("5.0.1-1", n)).collect();
    expected.extend([("5.0.1-2", 1), ("5.0.1-3", 1)]);
    let versions: Vec<_> = sent
        .iter()
        .map(|r| (r.version.as_deref().unwrap(), r.attempt as usize))
        .collect();
    assert_eq!(versions, expected);
    one_at_a_time(&sent);
    let waited = sent[1].at.duration_since(sent[0].at);
    assert!(
        waited.unsigned_abs() >= Duration::from_millis(790),
        "{waited}"
    );
    let rebuild = stage.rebuild_is(&id, "child", "published").await;
    let mut told = vec!["retry"; failed];
    told.push("sent");
    assert_eq!(outcomes(&rebuild), told);
    stage.end().await;
}

/// How many of these were under way at once, at most.
fn at_once(received: &[Received]) -> usize {
    let under_way = |at| {
        let begun = received.iter().filter(|one| one.at <= at);
        begun
            .filter(|one| one.finished.is_none_or(|end| end > at))
            .count()
    };
    received
        .iter()
        .map(|one| under_way(one.at))
        .max()
        .unwrap_or(0)
}

#[tokio::test]
async fn design_7_the_registrys_concurrency_is_kept_too() {
    let stage = Stage::with(|settings| {
        let registry = settings.registry.as_mut().unwrap();
        registry.concurrency = 2;
    })
    .await;
    stage.publish("root", "1.0.0", json!({})).await;
    for number in 0..6 {
        let name = format!("child-{number}");
        stage.publish(&name, "1.0.0", on("root", "^1.0.0")).await;
    }
    stage.news();
    for role in [Role::Packument, Role::Tarball] {
        let slow = Fault::always(role, FaultKind::Slow { ms: 150 });
        stage.sandbox.fail(slow);
    }
    stage.publish("root", "1.0.1", json!({})).await;
    let mut most = 0;
    for role in [Role::Packument, Role::Tarball, Role::Warehouse] {
        let received = stage.received(&[role]);
        assert_eq!(received.len(), 6, "{role:?}");
        assert!(at_once(&received) <= 2, "{role:?}");
        most = most.max(at_once(&received));
    }
    assert_eq!(most, 2, "two are under way at once");
    stage.end().await;
}
