//! Rules 1 and 2: how a change is read.

use super::stage::{Stage, doc, on};
use feedsme::sandbox::{Role, Tarball};
use serde_json::{Value, json};

#[tokio::test]
async fn rule_1_dist_tags_of_either_spelling_name_the_version() {
    let stage = Stage::new().await;
    let versions = json!({"1.0.0": {}, "1.1.0": {}, "2.0.0": {}});
    for (name, tags) in [
        ("a", json!({"dist-tags": {"latest": "1.1.0"}})),
        ("b", json!({"distTags": {"latest": "1.1.0"}})),
        (
            "c",
            json!({"distTags": {"latest": "1.1.0"}, "dist-tags": {"latest": "2.0.0"}}),
        ),
        (
            "d",
            json!({"distTags": null, "dist-tags": {"latest": "1.1.0"}}),
        ),
    ] {
        let mut body = tags;
        body["name"] = json!(name);
        body["versions"] = versions.clone();
        stage.change("/change", &body).await;
        let package = stage.read(&format!("/packages/{name}")).await;
        assert_eq!(
            (&package["highest"], &package["versions"]),
            (&json!("1.1.0"), &json!(1))
        );
        stage.line_is(name, "1.1.0", None, json!({})).await;
    }
    stage.end().await;
}

#[tokio::test]
async fn rule_1_what_is_wrong_is_a_400_that_names_the_field_and_changes_nothing() {
    let stage = Stage::new().await;
    let with = |key: &str, value: Value| {
        let mut document = doc("a", "1.0.0", &json!({}));
        document[key] = value;
        document
    };
    for (body, field) in [
        (with("name", Value::Null), "name"),
        (with("name", json!("_a")), "name"),
        (with("name", json!("a b")), "name"),
        (with("dist-tags", json!({})), "dist-tags.latest"),
        (
            with("dist-tags", json!({"latest": "one"})),
            "dist-tags.latest",
        ),
        (with("dist-tags", json!({"latest": 1})), "dist-tags.latest"),
        (
            with("dist-tags", json!({"latest": "2.0.0"})),
            "versions[\"2.0.0\"]",
        ),
        (with("versions", json!([])), "versions"),
        (json!({"name": "a"}), "version"),
        (json!({"name": "a", "version": "1.0"}), "version"),
    ] {
        for (path, body, at) in [
            ("/change", body.clone(), ""),
            ("/v2/change/dev", json!({"data": body}), "data."),
        ] {
            let (status, answer) = stage.post(path, &body).await;
            assert_eq!((status, &answer["ok"]), (400, &json!(false)), "{body}");
            let named = answer["field"].as_str().unwrap();
            // A body without any name is not known to be a document at all.
            assert!(
                named == format!("{at}{field}") || (field == "name" && named == "name"),
                "{body}: {answer}"
            );
            let message = answer["message"].as_str().unwrap();
            assert!(
                message.starts_with("400 ") && message.contains(named),
                "{answer}"
            );
        }
    }
    assert_eq!(stage.read("/packages").await["items"], json!([]));
    assert_eq!(stage.read("/changes").await["items"], json!([]));
    stage.end().await;
}

#[tokio::test]
async fn rule_1_no_dependencies_is_fine() {
    let stage = Stage::new().await;
    for (name, manifest) in [
        ("a", json!({})),
        ("b", json!({"dependencies": null})),
        ("c", json!({"dependencies": {}})),
    ] {
        let document = json!({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": manifest}});
        stage.publish_document(document).await;
        stage.line_is(name, "1.0.0", None, json!({})).await;
        assert_eq!(
            stage.version(name, "1.0.0").await["lines"],
            json!({}),
            "{name}"
        );
    }
    stage.end().await;
}

fn tagged(name: &str, version: &str, dependencies: &Value) -> Value {
    let mut document = doc(name, version, dependencies);
    document["dist-tags"] = json!({"next": version});
    document
}

#[tokio::test]
async fn rule_1_a_version_under_its_own_tag_is_recorded_and_starts_nothing() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    // The build service does not build what has no `latest` (contract.md 2.1); whoever tells us of it, it is recorded.
    let id = stage.notice(tagged("root", "1.1.0", &json!({}))).await;
    assert_eq!(stage.verdict(&id).await, "tagged");
    let change = stage.planned(&id).await;
    assert!(
        change["sentence"]
            .as_str()
            .unwrap()
            .contains("published under the tag next"),
        "{change}"
    );
    stage.decided(&id, &[]).await;
    assert_eq!(stage.version("root", "1.1.0").await["tag"], "next");
    stage
        .line_is("root", "1.1.0", Some("1.0.0"), json!({}))
        .await;
    assert_eq!(stage.head("root").await, "1.0.0");
    assert_eq!(stage.taken(), [""; 0]);
    stage.end().await;
}

#[tokio::test]
async fn rule_1_a_version_under_its_own_tag_is_never_a_base_or_a_highest() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    stage
        .notice(tagged("child", "1.5.0", &on("root", "^1.0.0")))
        .await;
    stage.notice(tagged("root", "1.9.0", &json!({}))).await;
    assert_eq!(
        stage.goes_with("root", "1.0.0").await,
        json!({"child": "1.0.0"}),
        "not attached"
    );

    let id = stage.publish("root", "1.0.1", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-0 admitted")])
        .await;
    let change = stage.planned(&id).await;
    let inputs = &change["decisions"]["items"][0]["inputs"];
    assert_eq!(
        (&inputs["top"], &inputs["base"]),
        (&json!("1.0.0"), &json!("1.0.0"))
    );

    stage.publish("late", "1.0.0", on("root", "^1.0.0")).await;
    let late = stage.version("late", "1.0.0").await;
    assert_eq!(late["with"], json!({"root": "1.0.1"}), "not 1.9.0");
    assert_eq!(late["lines"], json!({"root": "1.0.1"}));
    assert_eq!(stage.goes_with("root", "1.9.0").await, json!({}));
    stage.end().await;
}

#[tokio::test]
async fn rule_1_what_came_under_its_own_tag_can_be_published_under_latest_later() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    let first = stage.notice(tagged("root", "1.2.0", &json!({}))).await;
    stage.publish("root", "1.1.0", json!({})).await;
    stage.news();

    let id = stage.publish("root", "1.2.0", json!({})).await;
    assert_ne!(id, first);
    assert_eq!(stage.verdict(&id).await, "opened");
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-1 admitted")])
        .await;
    assert_eq!(stage.news(), ["publish child@1.0.1-1"]);
    assert_eq!(stage.version("root", "1.2.0").await["tag"], Value::Null);
    assert_eq!(stage.chain("root").await, ["1.2.0", "1.1.0", "1.0.0"]);
    let expected = json!({"child": "1.0.1-1"});
    assert_eq!(stage.goes_with("root", "1.2.0").await, expected);
    let package = stage.read("/packages/root").await;
    assert_eq!(package["highest"], "1.2.0");

    // Once: neither a second notice nor the tag's changes anything.
    for (again, id) in [
        (doc("root", "1.2.0", &json!({})), &id),
        (tagged("root", "1.2.0", &json!({})), &first),
    ] {
        assert_eq!(stage.notice(again).await, *id);
    }
    stage.quiet().await;
    assert_eq!(stage.news(), [""; 0]);
    assert_eq!(stage.head("root").await, "1.2.0");
    stage.end().await;
}

#[tokio::test]
async fn rule_1_a_dependent_that_came_under_its_own_tag_is_a_base_once_it_is_under_latest() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    let deps = json!({"root": "^1.0.0", "other": "*"});
    stage.notice(tagged("child", "2.0.0", &deps)).await;
    stage.publish("root", "1.1.0", json!({})).await;
    assert_eq!(stage.news(), ["publish child@1.0.1-0"]);

    stage.publish("child", "2.0.0", deps).await;
    assert_eq!(
        stage.goes_with("root", "1.1.0").await,
        json!({"child": "2.0.0"})
    );
    assert_eq!(stage.head("child").await, "2.0.0");
    let id = stage.publish("root", "1.2.0", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 2.0.1-0 admitted")])
        .await;
    // Its document is the one that says `latest`.
    let sent = stage.received(&[Role::Warehouse]).pop().unwrap();
    let tags = sent.document.unwrap()["dist-tags"].clone();
    assert_eq!(tags["latest"], "2.0.1-0");
    let id = stage.publish("other", "1.0.0", json!({})).await;
    assert_eq!(stage.why(&id).await["child"], "rebuild 2.0.1-1 admitted");
    stage.news();
    stage.promote("root", "1.1.0", "test").await;
    assert_eq!(stage.news(), ["build child@2.0.0 test"]);
    stage.end().await;
}

#[tokio::test]
async fn rule_1_a_version_under_latest_stays_so_when_it_gets_another_tag() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    let id = stage.publish("root", "1.1.0", json!({})).await;
    stage.news();
    let again = stage.notice(tagged("root", "1.1.0", &json!({}))).await;
    let change = stage.planned(&again).await;
    assert_eq!(
        (&change["verdict"]["code"], &change["verdict"]["of"]),
        (&json!("duplicate"), &json!(id))
    );
    let sentence = change["sentence"].as_str().unwrap();
    assert!(sentence.contains("under another tag before"), "{sentence}");
    // Nor does what it declares: the first document counts.
    let other = tagged("child", "1.0.0", &json!({"else": "*"}));
    stage.notice(other).await;
    assert_eq!(stage.version("root", "1.1.0").await["tag"], Value::Null);
    assert_eq!(stage.head("root").await, "1.1.0");
    let id = stage.publish("root", "1.1.1", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-1 admitted")])
        .await;
    assert_eq!(stage.news(), ["publish child@1.0.1-1"]);
    stage.end().await;
}

/// A version that was imported is not published; another tag does not take it from `latest` before it is.
#[tokio::test]
async fn rule_1_a_version_merely_known_under_latest_keeps_its_publish_when_it_gets_another_tag() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    stage.import(&doc("root", "1.1.0", &json!({}))).await;
    let id = stage.notice(tagged("root", "1.1.0", &json!({}))).await;
    assert_eq!(stage.verdict(&id).await, "tagged");
    assert_eq!(stage.version("root", "1.1.0").await["tag"], Value::Null);
    let id = stage.notice(doc("root", "1.1.0", &json!({}))).await;
    stage.quiet().await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-0 admitted")])
        .await;
    assert_eq!(stage.head("root").await, "1.1.0");
    stage.end().await;
}

#[tokio::test]
async fn rule_1_a_bare_package_json_stands_for_a_document() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    let package = json!({"name": "child", "version": "1.0.0", "description": "d", "main": "x.js",
        "dependencies": {"root": "^1.0.0"}});
    stage
        .sandbox
        .publish(package.clone(), &Tarball::Synthetic(100))
        .unwrap();
    stage.change("/change", &package).await;
    stage.line_is("child", "1.0.0", None, json!({})).await;
    assert_eq!(
        stage.goes_with("root", "1.0.0").await,
        json!({"child": "1.0.0"})
    );

    stage
        .sandbox
        .publish(
            json!({"name": "root", "version": "1.0.1"}),
            &Tarball::Synthetic(10),
        )
        .unwrap();
    let body = json!({"data": {"name": "root", "version": "1.0.1", "__published": true}});
    let id = stage.change("/v2/change/dev", &body).await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-0 admitted")])
        .await;
    stage.quiet().await;
    let sent = stage.received(&[Role::Warehouse]).pop().unwrap();
    assert_eq!(
        sent.keys,
        [
            "_id",
            "name",
            "description",
            "dist-tags",
            "versions",
            "_attachments",
            "version",
            "env",
            "__published"
        ]
    );
    let document = sent.document.unwrap();
    let manifest = &document["versions"]["1.0.1-0"];
    assert_eq!(
        (&manifest["main"], &manifest["dependencies"]),
        (&json!("x.js"), &json!({"root": "^1.0.0"}))
    );

    let body = json!({"name": "root", "version": "1.0.1", "env": "test"});
    let id = stage.change("/change", &body).await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-0 in_release_line")])
        .await;
    stage.end().await;
}

#[tokio::test]
async fn rule_2_unknown_fields_are_kept_and_attachments_are_not() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    let mut document = doc("child", "1.0.0", &on("root", "^1.0.0"));
    document["x-unknown"] = json!({"deep": [1, {"er": null}], "π": 2.5});
    document["maintainers"] = json!([{"name": "m", "email": "m@example.com"}]);
    document["versions"]["1.0.0"]["wrhs"] = json!({"autoPromoteOnPublish": true});
    document["versions"]["1.0.0"]["x-number"] = json!(1e21);
    stage
        .sandbox
        .publish(document.clone(), &Tarball::Synthetic(300))
        .unwrap();
    let data = "QVRUQUNITUVOVFRIQVRNVVNUTk9UU1RBWQ";
    document["_attachments"] = json!({"child-1.0.0.tgz": {"content_type": "application/octet-stream",
        "data": data.repeat(1000), "length": 25}});
    stage.notice(document.clone()).await;
    stage.publish("root", "1.0.1", json!({})).await;
    let sent = stage.received(&[Role::Warehouse]).pop().unwrap();
    assert_eq!(
        sent.tarball().unwrap().bytes,
        300,
        "the registry's, not the posted one"
    );
    let sent = sent.document.unwrap();
    for key in ["x-unknown", "maintainers"] {
        assert_eq!(sent[key], document[key]);
    }
    let (manifest, base) = (&sent["versions"]["1.0.1-0"], &document["versions"]["1.0.0"]);
    for key in ["wrhs", "x-number", "dependencies"] {
        assert_eq!(manifest[key], base[key]);
    }

    stage.promote("root", "1.0.1", "test").await;
    let built = stage.received(&[Role::Build]).pop().unwrap();
    assert_eq!(built.document.unwrap()["x-unknown"], document["x-unknown"]);

    let Some(database) = stage.database() else {
        // There is no file to look into: what the store gives back is what it has.
        let store = &stage.running().core.store;
        for change in store.changes(None, 100).await.unwrap() {
            let stored = store.document(&change.id, &change.digest).await.unwrap();
            let stored = String::from_utf8(stored.unwrap()).unwrap();
            assert!(!stored.contains(data), "{stored}");
        }
        return stage.end().await;
    };
    let found = |file: &str| {
        let path = database.with_file_name(file);
        let bytes = std::fs::read(path).unwrap_or_default();
        let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        (has("x-unknown"), has(data))
    };
    let files = ["feedsme.sqlite3", "feedsme.sqlite3-wal"].map(found);
    assert!(
        files.iter().any(|(document, _)| *document),
        "the store is looked at"
    );
    assert!(files.iter().all(|(_, attachment)| !attachment));
    stage.end().await;
}
