//! Rules 7 to 9: the line and the head, whom a publish reaches, and which version they get.

use std::collections::BTreeSet;

use super::stage::{Stage, doc, on};
use feedsme::plan::Increment;
use feedsme::sandbox::{Fault, FaultKind, Role};
use serde_json::json;

#[tokio::test]
async fn rule_7_a_publish_makes_a_line_and_moves_the_head_whatever_the_order_of_versions() {
    let stage = Stage::new().await;
    let mut previous = None;
    for version in ["5.2.2", "5.2.3", "6.0.0", "5.2.1", "1.0.0"] {
        stage.publish("root", version, json!({})).await;
        stage.line_is("root", version, previous, json!({})).await;
        assert_eq!(stage.head("root").await, version);
        previous = Some(version);
    }
    assert_eq!(
        stage.chain("root").await,
        ["1.0.0", "5.2.1", "6.0.0", "5.2.3", "5.2.2"]
    );
    stage.end().await;
}

#[tokio::test]
async fn rule_7_a_second_notice_changes_nothing_and_answers_with_the_first_ones_id() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    let first = stage.publish("root", "1.0.1", json!({})).await;
    stage.publish("root", "1.0.2", json!({})).await;
    stage.news();
    let before = stage.read(&format!("/changes/{first}")).await;

    // The same, and the same version with other content, by every route.
    let mut other = doc("root", "1.0.1", &on("child", "^1.0.0"));
    other["__published"] = json!(true);
    for (path, body) in [
        ("/change", doc("root", "1.0.1", &json!({}))),
        ("/change/dev", other.clone()),
        ("/v2/change/dev", json!({"data": other})),
    ] {
        assert_eq!(stage.change(path, &body).await, first);
    }
    stage.quiet().await;
    assert_eq!(stage.read(&format!("/changes/{first}")).await, before);
    assert_eq!(stage.news(), [""; 0]);
    assert_eq!(stage.chain("root").await, ["1.0.2", "1.0.1", "1.0.0"]);
    let dependents = stage.read("/packages/child/dependents").await;
    assert_eq!(dependents["items"], json!([]), "no edge of other content");

    // The manifest is the first one's too: what a rebuild of it would send.
    let mut again = doc("child", "1.0.0", &on("root", "^1.0.0"));
    again["description"] = json!("other content");
    stage.notice(again).await;
    stage.promote("root", "1.0.0", "test").await;
    let built = stage.received(&[Role::Build]).pop().unwrap();
    assert_eq!(built.document.unwrap().get("description"), None);
    stage.end().await;
}

#[tokio::test]
async fn rule_7_a_version_merely_known_is_not_yet_noticed() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    // By import.
    stage.import(&doc("root", "1.0.1", &json!({}))).await;
    stage.no_line("root", "1.0.1").await;
    assert!(stage.version("root", "1.0.1").await["noticed"].is_null());
    let id = stage.notice(doc("root", "1.0.1", &json!({}))).await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-0 admitted")])
        .await;
    stage.quiet().await;
    stage
        .line_is("root", "1.0.1", Some("1.0.0"), json!({"child": "1.0.1-0"}))
        .await;
    // By a promotion that overtakes the notice.
    let id = stage.promote("root", "1.0.2", "test").await;
    assert_eq!(stage.verdict(&id).await, "no_release_line");
    stage.no_line("root", "1.0.2").await;
    let id = stage.publish("root", "1.0.2", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-1 admitted")])
        .await;
    stage
        .line_is("root", "1.0.2", Some("1.0.1"), json!({"child": "1.0.1-1"}))
        .await;
    stage.end().await;
}

#[tokio::test]
async fn rule_7_the_head_stays_if_it_was_born_after_the_version() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    stage.hold_notices("child", 1);
    stage.publish("root", "1.0.1", json!({})).await;
    assert_eq!(stage.taken(), ["publish child@5.0.1-0"]);
    stage.publish("child", "5.1.0", on("root", "^1.0.0")).await;
    stage
        .line_is("child", "5.1.0", Some("5.0.0"), json!({}))
        .await;

    let id = stage.redeliver("child", "5.0.1-0").await;
    assert_eq!(stage.verdict(&id).await, "answers");
    assert_eq!(stage.head("child").await, "5.1.0", "reserved before it");
    stage
        .line_is("child", "5.0.1-0", Some("5.1.0"), json!({}))
        .await;
    stage
        .line_is("child", "5.1.0", Some("5.0.0"), json!({}))
        .await;
    stage.end().await;
}

#[tokio::test]
async fn rule_8_out_of_range_of_every_version_says_what_to_do() {
    let stage = Stage::new().await;
    // The first publish ever of a root with dependents: the Node software's "legacy" looked at no range.
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    let id = stage.publish("root", "2.0.0", json!({})).await;
    stage.decided(&id, &[("child", "skip out_of_range")]).await;
    let change = stage.planned(&id).await;
    let sentence = change["decisions"]["items"][0]["sentence"]
        .as_str()
        .unwrap();
    assert!(sentence.contains("publish child by hand"), "{sentence}");
    assert!(sentence.contains("^1.0.0"), "{sentence}");
    assert_eq!(stage.taken(), [""; 0]);
    stage.end().await;
}

#[tokio::test]
async fn rule_8_neither_the_major_nor_the_registry_decides() {
    let stage = Stage::new().await;
    // What the registry has and nobody told us of is no input.
    for version in ["5.9.0", "6.9.0", "4.0.0"] {
        stage.in_registry("root", version);
    }
    stage.publish("root", "5.2.2", json!({})).await;
    for (name, range) in [
        ("tilde", "~5.2.0"),
        ("exact", "5.2.2"),
        ("caret", "^5.0.0"),
        ("below", "<5.3.0"),
        ("zero", "^0.1.0"),
    ] {
        stage.publish(name, "1.0.0", on("root", range)).await;
    }
    let id = stage.publish("root", "5.3.0", json!({})).await;
    stage
        .decided(
            &id,
            &[
                ("below", "skip out_of_range"),
                ("caret", "rebuild 1.0.1-0 admitted"),
                ("exact", "skip out_of_range"),
                ("tilde", "skip out_of_range"),
                ("zero", "skip out_of_range"),
            ],
        )
        .await;
    let id = stage.publish("root", "0.2.0", json!({})).await;
    assert_eq!(stage.why(&id).await["zero"], "skip out_of_range");
    let id = stage.publish("root", "0.1.9", json!({})).await;
    assert_eq!(stage.why(&id).await["zero"], "rebuild 1.0.1-0 admitted");
    stage.end().await;
}

#[tokio::test]
async fn rule_8_the_highest_older_version_that_admits_is_the_base() {
    let stage = Stage::new().await;
    for version in ["4.0.0", "5.0.0", "6.0.0"] {
        stage.publish("root", version, json!({})).await;
        let major = &version[..1];
        stage
            .publish("child", version, on("root", &format!("^{major}.0.0")))
            .await;
    }
    for (root, child) in [
        ("5.3.0", "5.0.1-0"),
        ("5.3.1", "5.0.1-1"),
        ("4.1.0", "4.0.1-0"),
        ("5.3.2", "5.0.1-2"),
        ("4.1.1", "4.0.1-1"),
    ] {
        let id = stage.publish("root", root, json!({})).await;
        stage
            .decided(
                &id,
                &[("child", &format!("rebuild {child} older_admitted"))],
            )
            .await;
        assert_eq!(stage.goes_with("root", root).await, json!({"child": child}));
    }
    stage.end().await;
}

#[tokio::test]
async fn rule_9_the_prerelease_increment_is_repeated_until_it_is_free() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    // Two of the versions that would come next exist, with a range that keeps them from being the base.
    for version in ["5.0.1-0", "5.0.1-1"] {
        stage
            .import(&doc("child", version, &on("root", "^2.0.0")))
            .await;
    }
    let id = stage.publish("root", "1.0.1", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 5.0.1-2 older_admitted")])
        .await;
    let id = stage.publish("root", "1.0.2", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 5.0.1-3 admitted")])
        .await;
    // A prerelease by hand is counted on at its end.
    stage
        .publish("beta", "1.2.3-beta", on("root", "^1.0.0"))
        .await;
    stage
        .publish("rc", "1.2.3-rc.4", on("root", "^1.0.0"))
        .await;
    let id = stage.publish("root", "1.1.0", json!({})).await;
    let why = stage.why(&id).await;
    assert_eq!(why["beta"], "rebuild 1.2.3-beta.0 admitted");
    assert_eq!(why["rc"], "rebuild 1.2.3-rc.5 admitted");
    stage.end().await;
}

#[tokio::test]
async fn rule_9_a_version_is_reserved_before_it_is_sent_and_nobody_else_gets_it() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("other", "1.0.0", json!({})).await;
    let deps = json!({"root": "^1.0.0", "other": "^1.0.0"});
    stage.publish("child", "5.0.0", deps).await;
    stage
        .sandbox
        .fail(Fault::always(Role::Warehouse, FaultKind::status(500)).of("child"));
    let mut ids = Vec::new();
    for (name, version) in [
        ("root", "1.0.1"),
        ("other", "1.0.1"),
        ("root", "1.0.2"),
        ("other", "1.0.2"),
    ] {
        ids.push(stage.hand(doc(name, version, &json!({}))).await);
    }
    let package = stage.read("/packages/child").await;
    let reserved = package["reserved"].as_array().unwrap();
    let reserved: BTreeSet<(&str, &str)> = reserved
        .iter()
        .map(|one| {
            (
                one["wave"].as_str().unwrap(),
                one["version"].as_str().unwrap(),
            )
        })
        .collect();
    let expected: BTreeSet<(&str, &str)> = ids
        .iter()
        .map(String::as_str)
        .zip(["5.0.1-0", "5.0.1-1", "5.0.1-2", "5.0.1-3"])
        .collect();
    assert_eq!(reserved, expected);
    for id in &ids {
        let change = stage.planned(id).await;
        let inputs = &change["decisions"]["items"][0]["inputs"];
        assert_eq!(inputs["base"], "5.0.0", "rule 10: a published version");
    }
    stage.sandbox.clear_faults();
    stage.quiet().await;
    assert_eq!(
        stage.news(),
        ["5.0.1-0", "5.0.1-1", "5.0.1-2", "5.0.1-3"].map(|v| format!("publish child@{v}"))
    );
    let package = stage.read("/packages/child").await;
    assert_eq!(package["reserved"], json!([]));
    stage.end().await;
}

#[tokio::test]
async fn rule_9_the_patch_increment() {
    let stage = Stage::with(|settings| settings.increment = Increment::Patch).await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    stage.publish("top", "1.0.0", on("child", "^5.0.0")).await;
    stage
        .publish("beta", "1.1.0-beta.0", on("root", "^1.0.0"))
        .await;
    // 2.0.1 by hand lies between the base and what it would get.
    stage.publish("held", "2.0.0", on("root", "^1.0.0")).await;
    stage.publish("held", "2.0.1", on("root", "^9.0.0")).await;
    for (root, child, beta, held) in [
        ("1.0.1", "5.0.1", "1.1.0-beta.1", "2.0.1-0"),
        ("1.0.2", "5.0.2", "1.1.0-beta.2", "2.0.1-1"),
    ] {
        let id = stage.publish("root", root, json!({})).await;
        stage
            .decided(
                &id,
                &[
                    ("beta", &format!("rebuild {beta} admitted")),
                    ("child", &format!("rebuild {child} admitted")),
                    ("held", &format!("rebuild {held} older_admitted")),
                ],
            )
            .await;
        let made = stage.version("child", child).await;
        assert_eq!(made["origin"], "5.0.0");
        assert_eq!(
            stage.goes_with("child", child).await,
            json!({"top": child.replace("5.", "1.")})
        );
    }
    // A version by hand above the rebuilt ones is the base of the next.
    stage.publish("child", "5.1.0", on("root", "^1.0.0")).await;
    let id = stage.publish("root", "1.0.3", json!({})).await;
    assert_eq!(stage.why(&id).await["child"], "rebuild 5.1.1 admitted");
    stage.end().await;
}
