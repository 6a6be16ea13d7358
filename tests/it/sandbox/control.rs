//! Life and control: stop, restart, drop, record, other processes.

use super::{Feedsme, SOON, build, document, put, sandbox};
use feedsme::sandbox::{Fault, FaultKind, Received, Role, Sandbox, SandboxOptions, Tarball};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn it_stops_and_starts_on_the_same_port_with_what_it_knew() {
    let (mut sandbox, client) = sandbox().await;
    let package = json!({"name": "a", "version": "1.0.0"});
    sandbox.publish(package, &Tarball::Synthetic(10)).unwrap();
    sandbox.fail(Fault::always(Role::Build, FaultKind::Hang));
    let url = format!("{}/a", sandbox.registry_url());
    let hanging = build(&sandbox, &client, &document("a", "1.0.0", b"x"));
    let hanging = tokio::spawn(hanging.send());
    let hangs = |all: &[Received]| all.iter().any(|r| r.outcome == "fault: hang");
    sandbox.wait_for(hangs, SOON).await.unwrap();
    let began = Instant::now();
    sandbox.stop().await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(hanging.await.unwrap().is_err());
    let refused = client.get(&url).send().await.unwrap_err();
    assert!(refused.is_connect(), "{refused:?}");
    sandbox.restart().await.unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    assert_eq!(sandbox.requests().len(), 2);
}

#[tokio::test]
async fn a_dropped_sandbox_is_gone() {
    let (sandbox, client) = sandbox().await;
    let url = format!("{}/a", sandbox.registry_url());
    assert_eq!(client.get(&url).send().await.unwrap().status(), 404);
    drop(sandbox);
    let began = Instant::now();
    while client
        .get(&url)
        .send()
        .await
        .is_ok_and(|r| r.status() == 404)
    {
        assert!(began.elapsed() < SOON, "still answers");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn another_process_can_steer_it() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    let control = async |method: Method, path: &str, body: Value| {
        let url = format!("{}/{path}", sandbox.control_url());
        let response = client
            .request(method, url)
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    };
    let to = json!({"url": feedsme.url});
    assert_eq!(control(Method::POST, "report-to", to).await.0, 204);
    let fault = json!({"role": "packument", "times": 1, "kind": {"status": {"status": 502}}});
    assert_eq!(control(Method::POST, "faults", fault).await.0, 200);
    let wrong = json!({"role": "packument", "kind": "nonsense"});
    assert_eq!(control(Method::POST, "faults", wrong).await.0, 400);
    let publish = json!({"document": {"name": "a", "version": "1.0.0"}, "size": 5, "notify": true});
    assert_eq!(
        control(Method::POST, "publish", publish.clone()).await.0,
        201
    );
    assert_eq!(control(Method::POST, "publish", publish).await.0, 409);
    let url = format!("{}/a", sandbox.registry_url());
    assert_eq!(client.get(&url).send().await.unwrap().status(), 502);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    let accepted = |all: &[Received]| all.iter().any(|r| r.outcome == "accepted");
    sandbox.wait_for(accepted, SOON).await.unwrap();
    let (_, requests) = control(Method::GET, "requests", Value::Null).await;
    let mut roles: Vec<_> = requests
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["role"].as_str().unwrap())
        .collect();
    roles.sort_unstable();
    assert_eq!(roles, ["build", "notice", "packument", "packument"]);
    assert_eq!(
        control(Method::DELETE, "requests", Value::Null).await.0,
        204
    );
    assert!(sandbox.requests().is_empty());
    sandbox
        .publish_by_hand(json!({"name": "a", "version": "1.1.0"}), 5)
        .await
        .unwrap();
    sandbox.wait_for(accepted, SOON).await.unwrap();
    assert!(
        sandbox
            .publish_by_hand(json!({"name": "a", "version": "1.1.0"}), 5)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn many_sandboxes_share_nothing() {
    let mut all = Vec::new();
    for n in 0..16 {
        let (sandbox, client) = sandbox().await;
        let package = json!({"name": "a", "version": format!("1.0.{n}")});
        sandbox.publish(package, &Tarball::Synthetic(10)).unwrap();
        all.push((sandbox, client));
    }
    for (n, (sandbox, client)) in all.iter().enumerate() {
        let url = format!("{}/a", sandbox.registry_url());
        let packument: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        let latest = json!(format!("1.0.{n}"));
        assert_eq!(packument["dist-tags"]["latest"], latest);
        assert_eq!(sandbox.requests().len(), 1);
    }
}

#[tokio::test]
async fn what_does_not_come_is_reported_with_what_came() {
    let (sandbox, client) = sandbox().await;
    let url = format!("{}/nope", sandbox.registry_url());
    client.get(url).send().await.unwrap();
    let error = sandbox
        .wait_for(|all| all.len() > 1, Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Packument nope@-"), "{error}");
}

#[tokio::test]
async fn bodies_above_the_limit_get_413() {
    let options = SandboxOptions {
        body_limit: 1000,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    let large = document("c", "1.0.0", &vec![7; 100_000]);
    let refused = build(&sandbox, &client, &large).send().await.unwrap();
    assert_eq!(refused.status(), 413);
    assert!(refused.text().await.unwrap().starts_with("<html>"));
    let refused = put(&sandbox, &client, "c", &large).send().await.unwrap();
    assert_eq!(refused.status(), 413);
}
