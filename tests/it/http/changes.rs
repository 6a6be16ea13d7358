use feedsme::model::id::ChangeId;
use feedsme::model::package::Kind;
use serde_json::{Value, json};

use crate::helpers::{Service, alone, document};

async fn stored(service: &Service, id: &str) -> feedsme::model::change::Change {
    service
        .core
        .store
        .change(&ChangeId::new(id))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn contract_1_2_both_shapes_are_taken_on_every_route() {
    let service = alone().await;
    let mut at = 0;
    for path in [
        "/v2/change/dev",
        "/change/dev",
        "/change",
        "/V2/Change/dev/",
        "/CHANGE/dev",
        "/Change/",
    ] {
        for wrapped in [false, true] {
            at += 1;
            let mut body = document("root", &format!("1.0.{at}"), json!({}));
            body["__published"] = json!(true);
            let body = if wrapped {
                json!({"data": body, "promote": false})
            } else {
                body
            };
            let (status, answer) = service.post(path, &body).await;
            assert_eq!(
                (status, &answer["ok"]),
                (200, &json!(true)),
                "{path} {wrapped} {answer}"
            );
            let change = stored(&service, answer["id"].as_str().unwrap()).await;
            assert_eq!(
                (change.kind, change.env.as_str(), change.promote),
                (Kind::Publish, "dev", !wrapped)
            );
            assert_eq!(change.version.to_string(), format!("1.0.{at}"));
            assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
        }
    }
}

#[tokio::test]
async fn design_6_the_path_names_the_environment_else_the_body_else_nothing() {
    let service = alone().await;
    let with = |env: Value, published: bool| {
        let mut body = document("root", "1.0.0", json!({}));
        if !env.is_null() {
            body["env"] = env;
        }
        if published {
            body["__published"] = json!(true);
        }
        body
    };
    for (path, body, kind, env) in [
        (
            "/v2/change/test",
            with(json!("prod"), true),
            Kind::Promotion,
            "test",
        ),
        (
            "/change/production",
            with(Value::Null, false),
            Kind::Promotion,
            "prod",
        ),
        (
            "/v2/change/latest",
            with(Value::Null, false),
            Kind::Promotion,
            "prod",
        ),
        (
            "/v2/change/staging",
            with(Value::Null, false),
            Kind::Promotion,
            "test",
        ),
        (
            "/v2/change/development",
            with(Value::Null, true),
            Kind::Publish,
            "dev",
        ),
        (
            "/v2/change/dev",
            with(json!("nonsense"), true),
            Kind::Publish,
            "dev",
        ),
        (
            "/v2/change/dev",
            with(Value::Null, false),
            Kind::Promotion,
            "dev",
        ),
        (
            "/change",
            with(json!("prod"), false),
            Kind::Promotion,
            "prod",
        ),
        ("/change", with(json!("dev"), true), Kind::Publish, "dev"),
        ("/change", with(json!("dev"), false), Kind::Promotion, "dev"),
        ("/change", with(Value::Null, false), Kind::Publish, "dev"),
        (
            "/change",
            json!({"env": "test", "data": with(Value::Null, false)}),
            Kind::Promotion,
            "test",
        ),
        (
            "/change",
            json!({"name": "root", "version": "1.0.0"}),
            Kind::Publish,
            "dev",
        ),
        (
            "/v2/change/test",
            json!({"data": {"name": "root", "version": "1.0.0"}}),
            Kind::Promotion,
            "test",
        ),
    ] {
        let (status, answer) = service.post(path, &body).await;
        assert_eq!(status, 200, "{path} {answer}");
        let change = stored(&service, answer["id"].as_str().unwrap()).await;
        assert_eq!(
            (change.kind, change.env.as_str()),
            (kind, env),
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn rule_2_the_attachments_are_not_stored_and_the_rest_is_kept() {
    let service = alone().await;
    let mut body = document("root", "1.0.0", json!({"a": "^1.0.0"}));
    body["_attachments"]["root-1.0.0.tgz"]["data"] = json!("QUJD".repeat(1000));
    body["unknown"] = json!({"kept": [1, 2.5, null]});
    let (_, answer) = service.post("/change", &body).await;
    let change = stored(&service, answer["id"].as_str().unwrap()).await;
    let bytes = service
        .core
        .store
        .document(&change.id, &change.digest)
        .await
        .unwrap()
        .unwrap();
    let kept: Value = serde_json::from_slice(&bytes).unwrap();
    body.as_object_mut().unwrap().remove("_attachments");
    assert_eq!(kept, body);
}

#[tokio::test]
async fn h3_the_same_publish_posted_again_has_the_same_id() {
    let service = alone().await;
    let body = document("root", "1.0.0", json!({}));
    let mut marked = body.clone();
    marked["__published"] = json!(true);
    let first = service.change("/v2/change/dev", &marked).await;
    for _ in 0..3 {
        assert_eq!(service.change("/change", &body).await, first);
    }
    let changes = service.read("/changes").await;
    assert_eq!(changes["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_hundred_posts_at_once_are_all_there() {
    let service = alone().await;
    let posts = (0..100).map(|at| {
        // every version twice
        let body = document("root", &format!("1.0.{}", at / 2), json!({}));
        let service = &service;
        async move { service.post("/change", &body).await }
    });
    let answers = futures_util::future::join_all(posts).await;
    assert!(
        answers.iter().all(|(status, _)| *status == 200),
        "{answers:?}"
    );
    for pair in answers.chunks(2) {
        assert_eq!(pair[0].1, pair[1].1);
    }
    service
        .until("/packages/root", |package| package["versions"] == 50)
        .await;
    service
        .until("/status", |status| status["idle"] == true)
        .await;
    let package = service.read("/packages/root").await;
    assert_eq!(
        (&package["highest"], &package["name"]),
        (&json!("1.0.49"), &json!("root"))
    );
    assert_eq!(
        service.read("/changes?limit=500").await["items"]
            .as_array()
            .unwrap()
            .len(),
        50
    );
}

#[tokio::test]
async fn h13_an_idempotency_key_makes_a_promotion_the_same_one() {
    let service = alone().await;
    let body = document("root", "1.0.0", json!({})).to_string();
    let header = ("content-type", "application/json");
    let post = async |key: &str| {
        service
            .post_bytes(
                "/change/test",
                &[header, ("idempotency-key", key)],
                body.clone(),
            )
            .await
    };
    let (status, first) = post("a-key").await;
    assert_eq!(status, 200);
    assert_eq!(post("a-key").await.1["id"], first["id"]);
    assert_ne!(post("another").await.1["id"], first["id"]);
    // Another `promote` is another promotion (rule 13), under the same key too.
    let with = async |promote: bool| {
        let body = json!({"data": document("root", "1.0.0", json!({})), "promote": promote});
        service
            .post_bytes(
                "/v2/change/test",
                &[header, ("idempotency-key", "a-key")],
                body.to_string(),
            )
            .await
            .1["id"]
            .clone()
    };
    assert_eq!(with(true).await, first["id"]);
    let unpromoted = with(false).await;
    assert_ne!(unpromoted, first["id"]);
    assert_eq!(with(false).await, unpromoted);
    let (_, one) = service
        .post_bytes("/change/test", &[header], body.clone())
        .await;
    let (_, two) = service
        .post_bytes("/change/test", &[header], body.clone())
        .await;
    assert_ne!(one["id"], two["id"]);
    assert_eq!(
        stored(&service, first["id"].as_str().unwrap())
            .await
            .key
            .as_deref(),
        Some("a-key")
    );
    assert_eq!(post(&"k".repeat(200)).await.0, 200);
    for bad in ["", "a b", "\u{e9}", &"k".repeat(201)] {
        let (status, answer) = post(bad).await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("invalid_idempotency_key")),
            "{bad:?}"
        );
    }
    let two = [header, ("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(
        service
            .post_bytes("/change/test", &two, body.clone())
            .await
            .0,
        400
    );
}
