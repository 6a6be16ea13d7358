//! The README sequence, contract.md 4.1: the one history that the Node software, its README and we agree on.

use serde_json::json;

use super::stage::{Stage, doc, on};
use feedsme::sandbox::Role;

async fn promoted(stage: &Stage, version: &str, child: &str) {
    for env in ["test", "prod"] {
        let id = stage.promote("root", version, env).await;
        stage
            .decided(
                &id,
                &[("child", &format!("rebuild {child} in_release_line"))],
            )
            .await;
        let built = stage.received(&[Role::Build]).pop().unwrap();
        let document = built.document.clone().unwrap();
        assert_eq!(document["env"], env);
        assert_eq!(document.get("__published"), None);
        assert_eq!(document["dist-tags"]["latest"], child);
        assert_eq!(
            document["versions"].as_object().unwrap().len(),
            1,
            "the base's document as it is"
        );
        assert_eq!(built.promote, Some(json!(true)));
        assert_eq!(stage.news(), [format!("build child@{child} {env}")]);
    }
}

async fn sequence(stage: Stage, dev: impl Fn(&str) -> String) {
    // 0
    stage.publish("root", "5.2.2", json!({})).await;
    let id = stage.publish("child", "5.0.0", on("root", "^5.0.0")).await;
    assert_eq!(stage.verdict(&id).await, "opened");
    stage
        .line_is("root", "5.2.2", None, json!({"child": "5.0.0"}))
        .await;
    stage.line_is("child", "5.0.0", None, json!({})).await;
    assert_eq!(stage.news(), [""; 0]);

    // 1
    let id = stage.publish("root", "5.2.3", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 5.0.1-0 admitted")])
        .await;
    assert_eq!(stage.news(), [dev("child@5.0.1-0")]);
    stage
        .line_is("root", "5.2.3", Some("5.2.2"), json!({"child": "5.0.1-0"}))
        .await;
    stage
        .line_is("root", "5.2.2", None, json!({"child": "5.0.0"}))
        .await;
    stage
        .line_is("child", "5.0.1-0", Some("5.0.0"), json!({}))
        .await;
    assert_eq!(stage.head("root").await, "5.2.3");
    assert_eq!(stage.head("child").await, "5.0.1-0");

    // 2
    promoted(&stage, "5.2.3", "5.0.1-0").await;

    // 3
    let id = stage.publish("root", "6.0.0", json!({})).await;
    stage.decided(&id, &[("child", "skip out_of_range")]).await;
    assert_eq!(stage.news(), [""; 0]);
    stage
        .line_is("root", "6.0.0", Some("5.2.3"), json!({}))
        .await;
    assert_eq!(stage.head("root").await, "6.0.0");

    // 4
    stage.publish("child", "6.0.0", on("root", "^6.0.0")).await;
    stage
        .line_is("root", "6.0.0", Some("5.2.3"), json!({"child": "6.0.0"}))
        .await;
    stage
        .line_is("root", "5.2.3", Some("5.2.2"), json!({"child": "5.0.1-0"}))
        .await;
    assert_eq!(stage.news(), [""; 0]);

    // 5
    promoted(&stage, "6.0.0", "6.0.0").await;

    // 6
    let id = stage.publish("root", "5.3.0", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 5.0.1-1 older_admitted")])
        .await;
    assert_eq!(stage.news(), [dev("child@5.0.1-1")]);
    stage
        .line_is("root", "5.3.0", Some("6.0.0"), json!({"child": "5.0.1-1"}))
        .await;
    assert_eq!(stage.head("root").await, "5.3.0");
    let made = stage.version("child", "5.0.1-1").await;
    assert_eq!(made["origin"], "5.0.0");
    assert_eq!(made["with"], json!({"root": "5.3.0"}));

    // 7
    promoted(&stage, "5.3.0", "5.0.1-1").await;

    // 8
    let id = stage.publish("root", "6.1.0", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 6.0.1-0 admitted")])
        .await;
    assert_eq!(stage.news(), [dev("child@6.0.1-0")]);
    stage
        .line_is("root", "6.1.0", Some("5.3.0"), json!({"child": "6.0.1-0"}))
        .await;
    assert_eq!(
        stage.chain("root").await,
        ["6.1.0", "5.3.0", "6.0.0", "5.2.3", "5.2.2"]
    );
    for (version, child) in [
        ("5.2.2", "5.0.0"),
        ("5.2.3", "5.0.1-0"),
        ("6.0.0", "6.0.0"),
        ("5.3.0", "5.0.1-1"),
    ] {
        assert_eq!(
            stage.goes_with("root", version).await,
            json!({"child": child}),
            "an earlier line stays as it was"
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn contract_4_1_the_readme_sequence_with_a_warehouse() {
    let stage = Stage::new().await;
    sequence(stage, |what| format!("publish {what}")).await;
}

#[tokio::test]
async fn contract_4_1_the_readme_sequence_without_a_warehouse() {
    let stage = Stage::without_warehouse().await;
    sequence(stage, |what| format!("build {what} dev")).await;
}

#[tokio::test]
async fn contract_4_1_what_is_published_cascades_upwards() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    stage.publish("top", "1.0.0", on("child", "^1.0.0")).await;
    stage
        .publish_document(doc("root", "1.0.1", &json!({})))
        .await;
    assert_eq!(
        stage.news(),
        ["publish child@1.0.1-0", "publish top@1.0.1-0"]
    );
    assert_eq!(
        stage.goes_with("child", "1.0.1-0").await,
        json!({"top": "1.0.1-0"})
    );
    let id = stage.promote("root", "1.0.1", "test").await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-0 in_release_line")])
        .await;
    assert_eq!(
        stage.news(),
        ["build child@1.0.1-0 test", "build top@1.0.1-0 test"]
    );
    stage.end().await;
}
