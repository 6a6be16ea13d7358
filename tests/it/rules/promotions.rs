//! Rules 12 and 13: what a promotion builds, and what happens when it is repeated, taken back or overtaken.

use std::time::Duration;

use super::stage::{Stage, doc, on, outcomes, rebuild_of};
use feedsme::plan::WithoutLine;
use feedsme::sandbox::{Fault, FaultKind, Role};
use serde_json::{Value, json};

/// root@1.0.0 with child@5.0.0; root@1.0.1 with child@5.0.1-0.
async fn two_lines(stage: &Stage) {
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    stage.publish("root", "1.0.1", json!({})).await;
    stage.news();
}

#[tokio::test]
async fn rule_12_exactly_the_pairs_of_the_line_are_built() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    let mut document = doc("a", "5.0.0", &on("root", "^1.0.0"));
    document["x-unknown"] = json!(1);
    stage.publish_document(document).await;
    stage.publish("b", "1.0.0", on("root", "~1.0.0")).await;
    stage.publish("out", "1.0.0", on("root", "^2.0.0")).await;
    stage.publish("gone", "1.0.0", on("root", "^1.0.0")).await;
    stage.publish("gone", "1.1.0", json!({})).await;
    stage.publish("root", "1.0.1", json!({})).await;
    stage.publish("new", "1.0.0", on("root", "1.0.0")).await;
    // What came after does not count.
    stage.publish("a", "6.0.0", on("root", "^2.0.0")).await;
    stage.publish("root", "1.0.2", json!({})).await;
    stage.news();

    let id = stage.promote("root", "1.0.1", "test").await;
    stage
        .decided(
            &id,
            &[
                ("a", "rebuild 5.0.1-0 in_release_line"),
                ("b", "rebuild 1.0.1-0 in_release_line"),
                ("new", "skip not_in_release_line"),
                ("out", "skip not_in_release_line"),
            ],
        )
        .await;
    let mut sent = stage.taken();
    sent.sort();
    assert_eq!(sent, ["build a@5.0.1-0 test", "build b@1.0.1-0 test"]);
    for built in stage.received(&[Role::Build]) {
        let document = built.document.clone().unwrap();
        assert_eq!(document.get("__published"), None);
        assert_eq!(built.keys.last().map(String::as_str), Some("env"));
        if built.package.as_deref() == Some("a") {
            assert_eq!(document["x-unknown"], 1, "the document as it was published");
        }
    }
    // A line whose dependents are gone from the graph is promoted all the same.
    let id = stage.promote("root", "1.0.0", "test").await;
    assert_eq!(
        stage.why(&id).await["gone"],
        "rebuild 1.0.0 in_release_line"
    );
    stage.end().await;
}

#[tokio::test]
async fn rule_12_promote_is_passed_on() {
    let stage = Stage::new().await;
    two_lines(&stage).await;
    let mut data = doc("root", "1.0.1", &json!({}));
    data["env"] = json!("test");
    for (env, path, body, passed) in [
        (
            "test",
            "/v2/change/test",
            json!({"data": data, "promote": false}),
            false,
        ),
        ("test", "/v2/change/test", json!({"data": data}), true),
        ("prod", "/change/prod", data.clone(), true),
        (
            "prod",
            "/change/prod",
            json!({"data": data, "promote": "false"}),
            false,
        ),
    ] {
        stage.change(path, &body).await;
        stage.quiet().await;
        let built = stage.received(&[Role::Build]).pop().unwrap();
        assert_eq!(built.env.as_deref(), Some(env));
        assert_eq!(built.promote, Some(json!(passed)), "{path} {body}");
        assert_eq!(stage.news().len(), 1, "{path} {body}");
    }
    stage.end().await;
}

#[tokio::test]
async fn rule_12_without_a_line_nothing_is_sent() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    for version in ["1.0.7", "0.0.1"] {
        let id = stage.promote("root", version, "test").await;
        assert_eq!(stage.verdict(&id).await, "no_release_line");
        let change = stage.planned(&id).await;
        assert!(
            change["sentence"]
                .as_str()
                .unwrap()
                .contains("no release line")
        );
        stage.decided(&id, &[]).await;
    }
    let id = stage.promote("nobody", "1.0.0", "prod").await;
    assert_eq!(stage.verdict(&id).await, "no_release_line");
    assert_eq!(stage.taken(), [""; 0]);
    assert_eq!(stage.head("root").await, "1.0.0");
    stage.end().await;
}

#[tokio::test]
async fn rule_12_the_setting_highest_sends_each_dependents_highest_version_that_admits() {
    let stage = Stage::with(|settings| settings.promote_without_line = WithoutLine::Highest).await;
    stage.publish("root", "1.0.0", json!({})).await;
    for (name, version, range) in [
        ("child", "5.0.0", "^1.0.0"),
        ("child", "5.1.0", "^1.0.0"),
        ("child", "6.0.0", "^2.0.0"),
        ("gone", "1.0.0", "^1.0.0"),
        ("out", "1.0.0", "^2.0.0"),
    ] {
        stage.publish(name, version, on("root", range)).await;
    }
    stage.publish("gone", "1.1.0", json!({})).await;
    let id = stage.promote("root", "1.0.7", "test").await;
    stage
        .decided(
            &id,
            &[
                ("child", "rebuild 5.1.0 highest_that_admits"),
                ("gone", "skip no_longer_depends"),
                ("out", "skip out_of_range"),
            ],
        )
        .await;
    assert_eq!(stage.taken(), ["build child@5.1.0 test"]);
    stage.end().await;
}

#[tokio::test]
async fn rule_12_a_change_in_the_first_environment_without_published_is_a_promotion() {
    let stage = Stage::new().await;
    two_lines(&stage).await;
    let mut data = doc("root", "1.0.1", &json!({}));
    data["env"] = json!("dev");
    let id = stage
        .change("/v2/change/dev", &json!({"data": data, "promote": false}))
        .await;
    stage.quiet().await;
    stage
        .decided(&id, &[("child", "rebuild 5.0.1-0 in_release_line")])
        .await;
    let built = stage.received(&[Role::Build]).pop().unwrap();
    assert_eq!(
        (built.published, built.promote.clone()),
        (false, Some(json!(false)))
    );
    assert_eq!(
        stage.news(),
        ["build child@5.0.1-0 dev"],
        "no new version, no publish"
    );
    assert_eq!(stage.chain("root").await, ["1.0.1", "1.0.0"]);

    let mut data = doc("root", "1.0.5", &json!({}));
    data["__published"] = json!(false);
    let id = stage.change("/change/dev", &data).await;
    assert_eq!(stage.verdict(&id).await, "no_release_line");
    stage.no_line("root", "1.0.5").await;
    stage.end().await;
}

/// A promotion that arrives before the dev wave has ended sends what is attached later, too.
#[tokio::test]
async fn rule_12_pairs_of_an_open_wave_are_sent_when_they_are_attached() {
    let stage = Stage::new().await;
    two_lines(&stage).await;
    stage.hold_notices("child", 1);
    stage.publish("root", "1.0.2", json!({})).await;
    stage.promote("root", "1.0.2", "test").await;
    assert_eq!(stage.news(), ["publish child@5.0.1-1"]);
    let sent = doc("child", "5.0.1-1", &on("root", "^1.0.0"));
    stage.notice(sent).await;
    stage
        .seen(|all| {
            all.iter()
                .any(|r| r.env.as_deref() == Some("test") && r.finished.is_some())
        })
        .await;
    assert_eq!(stage.taken(), ["build child@5.0.1-1 test"]);
    stage.end().await;
}

#[tokio::test]
async fn rule_13_drift_is_flagged() {
    let stage = Stage::new().await;
    two_lines(&stage).await;
    let flags = async |id: &str| -> Value {
        let change = stage.planned(id).await;
        change["decisions"]["items"][0]["flags"].clone()
    };
    let id = stage.promote("root", "1.0.1", "test").await;
    assert_eq!(flags(&id).await, Value::Null);
    // The line rises after test got it.
    stage.publish("child", "5.1.0", on("root", "^1.0.0")).await;
    let id = stage.promote("root", "1.0.1", "prod").await;
    stage
        .decided(&id, &[("child", "rebuild 5.1.0 in_release_line")])
        .await;
    let flags = flags(&id).await;
    assert_eq!(
        (&flags[0]["code"], &flags[0]["env"], &flags[0]["version"]),
        (&json!("drift"), &json!("test"), &json!("5.0.1-0"))
    );
    assert_eq!(flags.as_array().unwrap().len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn rule_13_rollback_is_a_promotion_of_an_older_version() {
    let stage = Stage::new().await;
    two_lines(&stage).await;
    stage.publish("root", "1.0.2", json!({})).await;
    stage.news();
    for (root, child) in [("1.0.1", "5.0.1-0"), ("1.0.2", "5.0.1-1")] {
        stage.promote("root", root, "prod").await;
        assert_eq!(stage.news(), [format!("build child@{child} prod")]);
    }
    let id = stage.promote("root", "1.0.1", "prod").await;
    stage
        .decided(&id, &[("child", "rebuild 5.0.1-0 in_release_line")])
        .await;
    assert_eq!(stage.news(), ["build child@5.0.1-0 prod"]);
    let change = stage.planned(&id).await;
    let flag = &change["decisions"]["items"][0]["flags"][0];
    assert_eq!(
        (&flag["code"], &flag["there"]),
        (&json!("downgrade"), &json!("5.0.1-1"))
    );
    for name in ["root", "child"] {
        let package = stage.read(&format!("/packages/{name}")).await;
        let expected = if name == "root" { "1.0.1" } else { "5.0.1-0" };
        assert_eq!(package["environments"], json!({"prod": expected}));
    }
    // And forward again.
    stage.promote("root", "1.0.2", "prod").await;
    assert_eq!(stage.news(), ["build child@5.0.1-1 prod"]);
    stage.end().await;
}

#[tokio::test]
async fn rule_13_a_repeated_promotion_is_a_duplicate() {
    let stage = Stage::new().await;
    two_lines(&stage).await;
    let first = stage.promote("root", "1.0.1", "test").await;
    assert_eq!(stage.news(), ["build child@5.0.1-0 test"]);
    let again = stage.promote("root", "1.0.1", "test").await;
    assert_eq!(stage.verdict(&again).await, "duplicate");
    assert_eq!(
        stage.planned(&again).await["verdict"]["of"],
        json!(first),
        "ended less than the window ago"
    );
    assert_eq!(stage.news(), [""; 0]);

    // Another environment, version or promote is not.
    stage.promote("root", "1.0.1", "prod").await;
    assert_eq!(stage.news(), ["build child@5.0.1-0 prod"]);
    let body = json!({"data": doc("root", "1.0.1", &json!({})), "promote": false});
    stage.change("/v2/change/test", &body).await;
    stage.quiet().await;
    assert_eq!(stage.news(), ["build child@5.0.1-0 test"]);
    // Nor is one that is not the latest there.
    stage.promote("root", "1.0.0", "test").await;
    assert_eq!(stage.news(), ["build child@5.0.0 test"]);
    stage.promote("root", "1.0.1", "test").await;
    assert_eq!(stage.news(), ["build child@5.0.1-0 test"]);
    stage.end().await;
}

#[tokio::test]
async fn rule_13_an_open_promotion_is_a_duplicate_however_old_it_is() {
    let stage = Stage::with(|settings| settings.duplicate_window = Duration::ZERO).await;
    two_lines(&stage).await;
    stage
        .sandbox
        .fail(Fault::once(Role::Build, FaultKind::status(500)).of("child"));
    let first = stage.promote_only("root", "1.0.1", "test").await;
    stage
        .seen(|r| r.iter().any(|r| r.status == Some(500)))
        .await;
    let again = stage.promote_only("root", "1.0.1", "test").await;
    assert_eq!(stage.verdict(&again).await, "duplicate");
    stage.quiet().await;
    assert_eq!(stage.news(), ["build child@5.0.1-0 test"]);

    // It has ended: with a window of nothing it is done again, as another rebuild of the same version.
    let third = stage.promote("root", "1.0.1", "test").await;
    assert_eq!(stage.verdict(&third).await, "opened");
    assert_eq!(stage.news(), ["build child@5.0.1-0 test"]);
    let one = stage.rebuild_is(&first, "child", "replaced").await;
    let other = stage.rebuild_is(&third, "child", "published").await;
    assert_ne!(one["id"], other["id"]);
    assert_eq!(
        (&one["generation"], &other["generation"]),
        (&json!(1), &json!(2))
    );
    stage.end().await;
}

#[tokio::test]
async fn rule_13_the_same_idempotency_key_is_the_same_promotion() {
    let stage = Stage::with(|settings| settings.duplicate_window = Duration::ZERO).await;
    two_lines(&stage).await;
    let body = json!({"data": doc("root", "1.0.1", &json!({}))});
    let key = |key| [("Idempotency-Key", key)];
    let first = stage
        .change_with("/v2/change/test", &key("one"), &body)
        .await;
    stage.quiet().await;
    assert_eq!(stage.news(), ["build child@5.0.1-0 test"]);
    let again = stage
        .change_with("/v2/change/test", &key("one"), &body)
        .await;
    stage.quiet().await;
    assert_eq!(again, first);
    assert_eq!(stage.news(), [""; 0]);
    let other = stage
        .change_with("/v2/change/test", &key("two"), &body)
        .await;
    stage.quiet().await;
    assert_ne!(other, first);
    assert_eq!(stage.news(), ["build child@5.0.1-0 test"]);
    stage.end().await;
}

#[tokio::test]
async fn rule_13_a_later_promotion_supersedes_what_was_not_sent() {
    let stage = Stage::new().await;
    two_lines(&stage).await;
    stage.publish("same", "1.0.0", on("root", "1.0.1")).await;
    stage.publish("root", "1.0.2", json!({})).await;
    stage.news();
    stage
        .sandbox
        .fail(Fault::always(Role::Build, FaultKind::status(500)).of("child"));
    let first = stage.promote_only("root", "1.0.1", "test").await;
    stage.rebuild_is(&first, "child", "queued").await;
    stage
        .seen(|r| r.iter().any(|r| r.status == Some(500)))
        .await;
    let retrying = stage
        .until(&format!("/changes/{first}"), |change| {
            rebuild_of(change, "child").is_some_and(|one| {
                one["state"] == "queued" && one["attempts"].as_array().unwrap().len() == 1
            })
        })
        .await;
    assert_eq!(outcomes(rebuild_of(&retrying, "child").unwrap()), ["retry"]);
    let second = stage.promote_only("root", "1.0.2", "test").await;
    stage.sandbox.clear_faults();
    stage.quiet().await;
    let mut sent = stage.taken();
    sent.sort();
    assert_eq!(
        sent,
        ["build child@5.0.1-1 test", "build same@1.0.0 test"],
        "never 5.0.1-0; what the later one does not decide goes on"
    );
    let ended = stage.rebuild_is(&first, "child", "superseded").await;
    assert!(
        ended["ended_because"]
            .as_str()
            .unwrap()
            .contains("root@1.0.2 was promoted"),
        "{ended}"
    );
    stage.rebuild_is(&second, "child", "published").await;
    stage.end().await;
}

#[tokio::test]
async fn rule_13_another_parents_promotion_takes_nothing_back_that_was_built_with_it() {
    let stage = Stage::new().await;
    for name in ["root", "zoo"] {
        stage.publish(name, "1.0.0", json!({})).await;
    }
    let deps = json!({"root": "^1.0.0", "zoo": "^1.0.0"});
    stage.publish("child", "5.0.0", deps).await;
    stage.publish("root", "1.0.1", json!({})).await;
    stage.promote("root", "1.0.1", "test").await;
    assert_eq!(
        stage.news(),
        ["publish child@5.0.1-0", "build child@5.0.1-0 test"]
    );
    // The line of zoo@1.0.0 has child@5.0.0, but 5.0.1-0 was built with zoo@1.0.0 as well.
    let id = stage.promote("zoo", "1.0.0", "test").await;
    stage
        .decided(&id, &[("child", "skip already_there_newer")])
        .await;
    let change = stage.planned(&id).await;
    assert_eq!(
        change["decisions"]["items"][0]["inputs"]["there"],
        "5.0.1-0"
    );
    assert_eq!(stage.news(), [""; 0]);
    stage.end().await;
}

#[tokio::test]
async fn rule_13_two_promotions_that_need_the_same_build_share_it() {
    let stage = Stage::new().await;
    for name in ["root", "zoo"] {
        stage.publish(name, "1.0.0", json!({})).await;
    }
    let deps = json!({"root": "^1.0.0", "zoo": "^1.0.0"});
    stage.publish("child", "5.0.0", deps).await;
    stage
        .sandbox
        .fail(Fault::once(Role::Build, FaultKind::status(500)).of("child"));
    let one = stage.promote_only("root", "1.0.0", "test").await;
    stage
        .seen(|r| r.iter().any(|r| r.status == Some(500)))
        .await;
    let other = stage.promote_only("zoo", "1.0.0", "test").await;
    stage.quiet().await;
    assert_eq!(stage.taken(), ["build child@5.0.0 test"]);
    let one = stage.rebuild_is(&one, "child", "published").await;
    let other = stage.rebuild_is(&other, "child", "published").await;
    assert_eq!(one["id"], other["id"]);
    assert_eq!(one["made"]["waves"].as_array().unwrap().len(), 2);
    stage.end().await;
}
