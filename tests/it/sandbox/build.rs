//! The build service: its lines, its refusals, its notices.

use super::{Feedsme, SOON, build, document, hex, lines, of, sandbox};
use feedsme::sandbox::{Received, Role, synthetic};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_build_streams_its_progress_and_then_notifies_feedsme() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    let tarball = synthetic("child", "5.0.1-0", 1000);
    let mut document = document("child", "5.0.1-0", &tarball);
    document["env"] = json!("test");
    let request = build(&sandbox, &client, &document)
        .header("Idempotency-Key", "k1")
        .bearer_auth("secret");
    let lines = lines(request).await;
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["event"], "task");
    assert_eq!(lines[0]["message"], "start");
    assert_eq!(lines[1].get("event"), None);
    assert_eq!(lines[2]["message"], "Successfully queued build");
    assert_eq!(lines[2]["progress"], 100);
    assert_eq!(lines[2]["locale"], "en-US");
    assert!(lines[2]["timestamp"].is_i64() && lines[2]["id"].is_string());
    let requests = sandbox
        .wait_for(
            |all| {
                all.iter()
                    .any(|r| r.role == Role::Notice && r.finished.is_some())
            },
            SOON,
        )
        .await
        .unwrap();
    let build = &requests[0];
    assert_eq!(build.role, Role::Build);
    assert_eq!(build.package.as_deref(), Some("child"));
    assert_eq!(build.version.as_deref(), Some("5.0.1-0"));
    assert_eq!(build.env.as_deref(), Some("test"));
    assert_eq!(build.promote, Some(json!(true)));
    assert_eq!(build.idempotency_key.as_deref(), Some("k1"));
    assert_eq!(build.authorization.as_deref(), Some("Bearer secret"));
    assert_eq!(
        (build.status, build.outcome.as_str()),
        (Some(200), "queued")
    );
    assert!(!build.published && !build.from_warehouse && build.finished.is_some());
    assert_eq!(
        build.keys,
        [
            "_id",
            "name",
            "dist-tags",
            "versions",
            "_attachments",
            "env"
        ]
    );
    let sent = build.tarball().unwrap();
    assert_eq!((sent.bytes, sent.declared_length), (1000, Some(1000)));
    assert_eq!(sent.sha256, hex(&Sha256::digest(&tarball)));
    assert_eq!(requests[1].status, Some(200));
    let got = feedsme.got.lock().unwrap().clone();
    assert_eq!(got.len(), 1);
    let (env, body, chunked) = &got[0];
    assert_eq!((env.as_str(), *chunked), ("test", true));
    assert_eq!(body["promote"], true);
    assert_eq!(body["data"].get("__published"), None);
    assert_eq!(
        body["data"]["_attachments"]["child-5.0.1-0.tgz"]["data"],
        ""
    );
    assert_eq!(
        body["data"]["versions"]["5.0.1-0"]["dependencies"],
        json!({"root": "^5.0.0"})
    );
}

#[tokio::test]
async fn a_document_as_json_string_and_without_env_is_a_publish() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    let document = document("@s/c", "1.0.0", b"tarball");
    let text = json!({"data": document.to_string()});
    let url = format!("{}/v2/build", sandbox.build_service_url());
    assert_eq!(lines(client.post(url).json(&text)).await.len(), 3);
    let requests = sandbox
        .wait_for(|all| of(all, Role::Notice).len() == 1, SOON)
        .await
        .unwrap();
    assert_eq!(requests[0].tarball().unwrap().bytes, 7);
    assert_eq!(requests[0].promote, None);
    let notice = of(&requests, Role::Notice)[0];
    assert_eq!(notice.env.as_deref(), Some("dev"));
    assert!(notice.published);
    assert_eq!(notice.path, "/v2/change/dev");
}

#[tokio::test]
async fn bad_builds_are_refused_as_joi_does_or_never_answered() {
    let (sandbox, client) = sandbox().await;
    let url = format!("{}/v2/build", sandbox.build_service_url());
    let refused = client
        .post(&url)
        .json(&json!({"data": {}}))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 500);
    assert_eq!(
        refused.text().await.unwrap(),
        "child \"data\" fails because [child \"name\" fails because [\"name\" is required]]"
    );
    let untyped = client.post(&url).body(json!({"data": {}}).to_string());
    let text = untyped.send().await.unwrap().text().await.unwrap();
    assert_eq!(text, "child \"data\" fails because [\"data\" is required]");
    let unknown = client.post(format!("{url}s")).send().await.unwrap();
    assert_eq!(
        (
            unknown.status().as_u16(),
            unknown.bytes().await.unwrap().len()
        ),
        (404, 0)
    );
    // Its spec step fails: one error event, and the stream never ends.
    let mut document = document("child", "1.0.0", b"x");
    document["versions"] = json!({});
    let mut stream = build(&sandbox, &client, &document).send().await.unwrap();
    let line = stream.chunk().await.unwrap().unwrap();
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(line["event"], "error");
    let more = tokio::time::timeout(Duration::from_millis(150), stream.chunk()).await;
    assert!(more.is_err(), "{more:?}");
    assert!(of(&sandbox.requests(), Role::Notice).is_empty());
}

#[tokio::test]
async fn an_ignored_build_is_noticed_too() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    let mut document = document("child", "1.0.0", b"x");
    document["versions"]["1.0.0"]["build"] = json!(false);
    let lines = lines(build(&sandbox, &client, &document)).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["message"], &lines[0]["progress"], &lines[0]["id"]),
        (&json!("ignored"), &json!(-1), &json!("generic"))
    );
    sandbox
        .wait_for(|all| of(all, Role::Notice).len() == 1, SOON)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_failed_notice_is_sent_again_until_200_with_truthy_json() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![
        (500, "{\"ok\":false,\"message\":\"late\"}"),
        (202, "{\"ok\":true}"),
        (200, "{\"ok\":true}"),
    ]);
    sandbox.report_to(&feedsme.url);
    let began = Instant::now();
    lines(build(&sandbox, &client, &document("c", "1.0.0", b"x"))).await;
    let requests = sandbox
        .wait_for(|all| all.iter().any(|r| r.outcome == "accepted"), SOON)
        .await
        .unwrap();
    let notices = of(&requests, Role::Notice);
    let seen: Vec<_> = notices.iter().map(|n| (n.attempt, n.status)).collect();
    assert_eq!(seen, [(1, Some(500)), (2, Some(202)), (3, Some(200))]);
    assert!(began.elapsed() >= Duration::from_millis(300));
    let got = feedsme.got.lock().unwrap();
    assert!(got.iter().all(|sent| sent == &got[0]), "the same body");
}

#[tokio::test]
async fn a_notice_ends_at_a_message_with_400_or_404() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(400, "{\"message\":\"400 bad name\"}")]);
    sandbox.report_to(&feedsme.url);
    lines(build(&sandbox, &client, &document("c", "1.0.0", b"x"))).await;
    let refused = |all: &[Received]| all.iter().any(|r| r.outcome == "refused: 400 bad name");
    sandbox.wait_for(refused, SOON).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(of(&sandbox.requests(), Role::Notice).len(), 1);
}
