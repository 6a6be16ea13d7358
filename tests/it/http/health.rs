use std::time::Duration;

use feedsme::http::ServerOptions;
use reqwest::Method;

use crate::helpers::{Setup, alone, start};

#[tokio::test]
async fn contract_1_2_the_health_checks_answer_ok_in_any_spelling() {
    let service = alone().await;
    for path in [
        "/healthcheck",
        "/healthcheck.html",
        "/HealthCheck",
        "/healthcheck/",
        "/livez",
        "/healthcheck?x=1",
    ] {
        let url = format!("{}{path}", service.url);
        let response = service.client.get(&url).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.text().await.unwrap(), "ok");
        let head = service.client.head(&url).send().await.unwrap();
        assert_eq!(
            (
                head.status().as_u16(),
                head.headers()["content-length"].to_str().unwrap()
            ),
            (200, "2")
        );
        assert_eq!(head.text().await.unwrap(), "");
    }
}

#[tokio::test]
async fn ready_is_a_store_that_writes_and_a_worker_that_answers() {
    let service = alone().await;
    let body = service.read("/readyz").await;
    assert_eq!(body, serde_json::json!({"ok": true}));
    feedsme::store::Store::close(&*service.store).await.unwrap();
    let response = service
        .client
        .get(format!("{}/readyz", service.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["code"], "not_ready");
    assert_eq!(
        service
            .client
            .get(format!("{}/livez", service.url))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn without_a_worker_it_is_not_ready_but_takes_changes() {
    let options = ServerOptions {
        ready_timeout: Duration::from_millis(100),
        workers: 1,
        ..ServerOptions::default()
    };
    let service = start(
        Setup {
            worker: false,
            options,
            ..Setup::default()
        },
        None,
    )
    .await;
    assert_eq!(service.get("/readyz").await.0, 503);
    let (status, body) = service.get("/status").await;
    assert_eq!((status, body["code"].as_str()), (503, Some("worker_away")));
    let document = crate::helpers::document("root", "1.0.0", serde_json::json!({}));
    assert_eq!(service.post("/change", &document).await.0, 200);
}

#[tokio::test]
async fn the_status_shows_what_waits_and_which_lane_is_paused() {
    let service = alone().await;
    assert_eq!(
        service.read("/status").await,
        serde_json::json!({"planning": 0, "waiting": 0, "sending": 0, "paused": {}, "idle": true})
    );
    service
        .publish("root", "1.0.0", serde_json::json!({}))
        .await;
    service
        .publish("child", "1.0.0", serde_json::json!({"root": "^1.0.0"}))
        .await;
    service
        .publish("root", "1.0.1", serde_json::json!({}))
        .await;
    let status = service
        .until("/status", |status| status["paused"]["registry"].is_string())
        .await;
    assert_eq!(
        (&status["waiting"], &status["idle"]),
        (&1.into(), &false.into())
    );
    assert!(
        status["paused"]["registry"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
}

#[tokio::test]
async fn wrong_methods_and_paths_have_their_own_answers() {
    let service = alone().await;
    let ask = |method: Method, path: &'static str| {
        let request = service
            .client
            .request(method, format!("{}{path}", service.url));
        async move { request.send().await.unwrap() }
    };
    for (method, path, allow) in [
        (Method::GET, "/v2/change/dev", "POST"),
        (Method::PUT, "/change/dev", "POST"),
        (Method::DELETE, "/change", "POST"),
        (Method::POST, "/healthcheck", "GET, HEAD"),
        (Method::POST, "/packages/@s/c/versions", "GET, HEAD"),
        (Method::OPTIONS, "/changes", "GET, HEAD"),
        (Method::PATCH, "/release-line/root", "GET, HEAD"),
        (Method::GET, "/rebuilds/x/retry", "POST"),
    ] {
        let response = ask(method.clone(), path).await;
        assert_eq!(response.status(), 405, "{method} {path}");
        assert_eq!(response.headers()["allow"], allow);
        assert_eq!(
            response.headers()["content-type"],
            "application/json; charset=utf-8"
        );
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(body["code"], "method_not_allowed");
        assert!(body["message"].as_str().unwrap().starts_with("405 "));
    }
    for path in [
        "/nothing",
        "/v2/change",
        "/v3/change/dev",
        "/v2",
        "/packages/a/b/c",
        "/packages/@s",
        "/change/dev/x",
        "/Packages",
    ] {
        for method in [Method::GET, Method::POST] {
            let response = ask(method, path).await;
            assert_eq!(response.status(), 404, "{path}");
            let body: serde_json::Value = response.json().await.unwrap();
            assert_eq!(
                (&body["ok"], &body["code"]),
                (&false.into(), &"not_found".into())
            );
            assert!(body["message"].as_str().unwrap().starts_with("404 "));
        }
    }
    let head = ask(Method::HEAD, "/packages").await;
    assert_eq!(head.status(), 200);
    assert_eq!(
        head.headers()["content-length"],
        r#"{"items":[],"next":null}"#.len().to_string().as_str()
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_503_and_says_when_to_come_back() {
    let service = alone().await;
    service
        .publish("root", "1.0.0", serde_json::json!({}))
        .await;
    feedsme::store::Store::close(&*service.store).await.unwrap();
    for path in [
        "/packages",
        "/packages/root",
        "/changes",
        "/changes/x",
        "/release-line/root",
        "/rebuilds/x",
    ] {
        let response = service
            .client
            .get(format!("{}{path}", service.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 503, "{path}");
        assert_eq!(response.headers()["retry-after"], "1");
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(
            body["message"],
            "503 the store does not answer: try again soon"
        );
        assert_eq!(body["code"], "store_away");
    }
    let document = crate::helpers::document("root", "1.0.1", serde_json::json!({}));
    assert_eq!(service.post("/v2/change/dev", &document).await.0, 503);
}
