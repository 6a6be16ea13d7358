//! Rule 11: which lines a published version goes with, and what it was built with.

use super::stage::{Stage, doc, on};
use feedsme::sandbox::{Fault, FaultKind, Role};
use serde_json::json;

#[tokio::test]
async fn rule_11_a_publish_by_hand_goes_with_every_managed_parents_highest_admitted_version() {
    let stage = Stage::new().await;
    for (name, versions) in [
        ("a", vec!["1.0.0", "1.1.0", "2.0.0"]),
        ("b", vec!["3.0.0", "3.1.0"]),
        ("c", vec!["1.0.0"]),
    ] {
        for version in versions {
            stage.publish(name, version, json!({})).await;
        }
    }
    let deps = json!({"a": "^1.0.0", "b": "latest", "c": "^2.0.0", "ghost": "*", "child": "*"});
    stage.publish("child", "1.0.0", deps).await;
    let child = stage.version("child", "1.0.0").await;
    let expected = json!({"a": "1.1.0", "b": "3.1.0"});
    assert_eq!(child["lines"], expected, "all parents, not one");
    assert_eq!(child["with"], expected);
    assert_eq!(
        stage.goes_with("a", "1.1.0").await,
        json!({"child": "1.0.0"})
    );
    assert_eq!(
        stage.goes_with("b", "3.1.0").await,
        json!({"child": "1.0.0"})
    );
    for (name, version) in [
        ("a", "1.0.0"),
        ("a", "2.0.0"),
        ("b", "3.0.0"),
        ("c", "1.0.0"),
    ] {
        assert_eq!(stage.goes_with(name, version).await, json!({}));
    }
    stage.end().await;
}

#[tokio::test]
async fn rule_11_a_rebuild_goes_with_every_parent_published_in_its_wave() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("mid", "1.0.0", on("root", "^1.0.0")).await;
    stage.publish("else", "1.0.0", json!({})).await;
    let deps = json!({"root": "^1.0.0", "mid": "^1.0.0", "else": "^1.0.0"});
    stage.publish("top", "1.0.0", deps).await;
    // Its notice comes after mid's, whatever is sent first.
    stage.hold_notices("top", 1);
    stage.publish("root", "1.0.1", json!({})).await;
    assert_eq!(
        stage.version("mid", "1.0.1-0").await["lines"],
        json!({"root": "1.0.1"})
    );
    stage.redeliver("top", "1.0.1-0").await;
    stage.quiet().await;
    let top = stage.version("top", "1.0.1-0").await;
    assert_eq!(
        top["lines"],
        json!({"root": "1.0.1", "mid": "1.0.1-0"}),
        "not else: it was not published in the wave"
    );
    assert_eq!(
        stage.goes_with("mid", "1.0.1-0").await,
        json!({"top": "1.0.1-0"})
    );
    assert_eq!(
        stage.goes_with("else", "1.0.0").await,
        json!({"top": "1.0.0"}),
        "the earlier entry stays"
    );
    stage.end().await;
}

#[tokio::test]
async fn rule_11_it_goes_with_the_waves_version_not_with_a_later_head() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    stage.hold_notices("child", 2);
    stage.publish("root", "1.0.1", json!({})).await;
    stage.publish("root", "1.0.2", json!({})).await;
    assert_eq!(stage.head("root").await, "1.0.2");
    // In the wrong order as well.
    for (version, root) in [("5.0.1-1", "1.0.2"), ("5.0.1-0", "1.0.1")] {
        stage.redeliver("child", version).await;
        let made = stage.version("child", version).await;
        assert_eq!(made["lines"], json!({"root": root}));
    }
    assert_eq!(
        stage.goes_with("root", "1.0.1").await,
        json!({"child": "5.0.1-0"})
    );
    assert_eq!(
        stage.goes_with("root", "1.0.2").await,
        json!({"child": "5.0.1-1"})
    );
    stage.end().await;
}

#[tokio::test]
async fn rule_11_an_entry_only_rises() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.1.0", on("root", "^1.0.0")).await;
    stage.publish("child", "5.0.9", on("root", "^1.0.0")).await;
    assert_eq!(
        stage.goes_with("root", "1.0.0").await,
        json!({"child": "5.1.0"})
    );
    assert_eq!(stage.version("child", "5.0.9").await["lines"], json!({}));
    stage.publish("child", "5.2.0", on("root", "^1.0.0")).await;
    assert_eq!(
        stage.goes_with("root", "1.0.0").await,
        json!({"child": "5.2.0"})
    );

    // A rebuild whose notice comes after a higher version by hand went with the line.
    stage.hold_notices("child", 1);
    stage.publish("root", "1.0.1", json!({})).await;
    stage.publish("child", "5.3.0", on("root", "^1.0.0")).await;
    stage.redeliver("child", "5.2.1-0").await;
    stage.quiet().await;
    assert_eq!(
        stage.goes_with("root", "1.0.1").await,
        json!({"child": "5.3.0"})
    );
    let late = stage.version("child", "5.2.1-0").await;
    assert_eq!(late["lines"], json!({}));
    assert_eq!(late["with"], json!({"root": "1.0.1"}));
    stage.end().await;
}

#[tokio::test]
async fn rule_11_only_lines_that_exist_are_attached_to() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.import(&doc("root", "1.1.0", &json!({}))).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    let child = stage.version("child", "1.0.0").await;
    assert_eq!(
        child["with"],
        json!({"root": "1.1.0"}),
        "what it was built with"
    );
    assert_eq!(
        child["lines"],
        json!({}),
        "no line of 1.1.0, and 1.0.0 is not it"
    );
    stage.no_line("root", "1.1.0").await;
    assert_eq!(stage.goes_with("root", "1.0.0").await, json!({}));
    stage.end().await;
}

#[tokio::test]
async fn rule_11_what_a_rebuild_was_built_with_is_kept_from_its_release() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("other", "1.0.0", json!({})).await;
    let deps = json!({"root": "^1.0.0", "other": "^1.0.0"});
    stage.publish("child", "1.0.0", deps).await;
    stage
        .sandbox
        .fail(Fault::once(Role::Warehouse, FaultKind::status(500)).of("child"));
    let id = stage.hand(doc("root", "1.0.1", &json!({}))).await;
    stage.hand(doc("other", "1.0.1", &json!({}))).await;
    stage.quiet().await;
    let made = stage.version("child", "1.0.1-0").await;
    assert_eq!(
        made["with"],
        json!({"root": "1.0.1", "other": "1.0.0"}),
        "other@1.0.1 came after it was decided"
    );
    let rebuild = stage.rebuild_is(&id, "child", "published").await;
    assert_eq!(rebuild["made"]["with"], made["with"]);
    let made = stage.version("child", "1.0.1-1").await;
    assert_eq!(made["with"], json!({"root": "1.0.1", "other": "1.0.1"}));
    stage.end().await;
}
