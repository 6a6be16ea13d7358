//! "Does a range admit a version?" (design.md 3), for versions published by hand, made by us, and made by the Node software.

use super::stage::{Stage, doc, on};
use serde_json::json;

#[tokio::test]
async fn admits_a_prerelease_by_hand_only_where_node_semver_does() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    for (name, range) in [
        ("caret", "^1.0.0"),
        ("star", "*"),
        ("names", "^1.1.0-alpha"),
        ("exact", "1.1.0-beta.0"),
        ("other", "^1.0.1-alpha"),
    ] {
        stage.publish(name, "1.0.0", on("root", range)).await;
    }
    let id = stage.publish("root", "1.1.0-beta.0", json!({})).await;
    stage
        .decided(
            &id,
            &[
                ("caret", "skip out_of_range"),
                ("star", "skip out_of_range"),
                ("names", "rebuild 1.0.1-0 admitted"),
                ("exact", "rebuild 1.0.1-0 admitted"),
                ("other", "skip out_of_range"),
            ],
        )
        .await;
    stage.end().await;
}

#[tokio::test]
async fn admits_a_version_that_we_made_where_its_origin_is() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("mid", "5.0.0", on("root", "^1.0.0")).await;
    let yes = "rebuild 1.0.1-0 admitted";
    let out = "skip out_of_range";
    let ranges = [
        ("a", "^5.0.0", yes),
        ("b", "~5.0.0", yes),
        ("c", "5.x", yes),
        ("d", "<5.0.1", yes),
        ("e", ">=5.0.0 <5.1.0", yes),
        ("f", "*", yes),
        ("g", "latest", yes),
        ("h", "5.0.0", out),
        ("i", "<=5.0.0", out),
        ("j", "^6.0.0 || ^4.0.0", out),
        ("k", ">5.0.0", out),
    ];
    for (name, range, _) in ranges {
        stage.publish(name, "1.0.0", on("mid", range)).await;
    }
    stage.publish("root", "1.0.1", json!({})).await;
    let made = stage.version("mid", "5.0.1-0").await;
    assert_eq!(made["origin"], "5.0.0");
    let expected: Vec<(&str, &str)> = ranges.map(|(name, _, said)| (name, said)).into();
    let answered = made["change"].as_str().unwrap();
    assert_eq!(stage.verdict(answered).await, "answers");
    stage.decided(answered, &expected).await;

    // And again from there: 5.0.1-1 has the same origin.
    stage.publish("root", "1.0.2", json!({})).await;
    let made = stage.version("mid", "5.0.1-1").await;
    assert_eq!(made["origin"], "5.0.0");
    let line = stage.goes_with("mid", "5.0.1-1").await;
    assert_eq!(line["a"], "1.0.1-1");
    assert_eq!(line.get("h"), None);
    stage.end().await;
}

#[tokio::test]
async fn admits_the_node_softwares_increments_by_notice_when_the_origin_is_known() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    stage.publish("exact", "1.0.0", on("root", "1.0.0")).await;
    let id = stage.publish("root", "1.0.1-0", json!({})).await;
    assert_eq!(stage.version("root", "1.0.1-0").await["origin"], "1.0.0");
    stage
        .decided(
            &id,
            &[
                ("child", "rebuild 1.0.1-0 admitted"),
                ("exact", "skip out_of_range"),
            ],
        )
        .await;
    // Not one number, not a patch, not of a known version: published by hand.
    for version in ["1.0.1-beta", "1.0.1-0.1", "1.1.0-0", "2.0.0-0", "3.0.1-0"] {
        let id = stage.publish("root", version, json!({})).await;
        assert!(
            stage.version("root", version).await["origin"].is_null(),
            "{version}"
        );
        assert_eq!(stage.why(&id).await["child"], "skip out_of_range");
    }
    stage.end().await;
}

#[tokio::test]
async fn admits_the_node_softwares_increments_by_import() {
    let stage = Stage::new().await;
    let root = |version| doc("root", version, &json!({}));
    stage.import(&root("1.0.0")).await;
    stage.import(&root("1.0.1-0")).await;
    assert_eq!(stage.version("root", "1.0.1-0").await["origin"], "1.0.0");
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    let child = stage.version("child", "1.0.0").await;
    assert_eq!(child["with"], json!({"root": "1.0.1-0"}));
    assert_eq!(
        child["lines"],
        json!({}),
        "an import makes no line, and only lines that exist are attached to"
    );
    // The base of what we make next is the imported increment, and the origin goes on.
    stage
        .import(&doc("mid", "2.0.0", &on("root", "^1.0.0")))
        .await;
    stage
        .import(&doc("mid", "2.0.1-0", &on("root", "^1.0.0")))
        .await;
    let id = stage.publish("root", "1.0.2", json!({})).await;
    assert_eq!(stage.why(&id).await["mid"], "rebuild 2.0.1-1 admitted");
    assert_eq!(stage.version("mid", "2.0.1-1").await["origin"], "2.0.0");
    stage.end().await;
}

#[tokio::test]
async fn admits_an_increment_whose_origin_becomes_known_later() {
    let stage = Stage::new().await;
    stage.publish("early", "1.0.0", on("root", "^1.0.0")).await;
    let id = stage.publish("root", "1.0.1-0", json!({})).await;
    stage.publish("root", "1.0.1-1", json!({})).await;
    stage.decided(&id, &[("early", "skip out_of_range")]).await;
    assert!(stage.version("root", "1.0.1-0").await["origin"].is_null());

    stage.import(&doc("root", "1.0.0", &json!({}))).await;
    for version in ["1.0.1-0", "1.0.1-1"] {
        assert_eq!(stage.version("root", version).await["origin"], "1.0.0");
    }
    let package = stage.read("/packages/root").await;
    assert_eq!(
        (&package["highest"], &package["highest_origin"]),
        (&json!("1.0.1-1"), &json!("1.0.0"))
    );
    stage.publish("late", "1.0.0", on("root", "^1.0.0")).await;
    assert_eq!(
        stage.version("late", "1.0.0").await["lines"],
        json!({"root": "1.0.1-1"})
    );
    let id = stage.publish("root", "1.0.1-2", json!({})).await;
    stage
        .decided(
            &id,
            &[
                ("early", "rebuild 1.0.1-0 admitted"),
                ("late", "rebuild 1.0.1-0 admitted"),
            ],
        )
        .await;
    stage.end().await;
}
