//! Faults on demand.

use super::{Feedsme, SOON, build, document, lines, of, put, sandbox};
use feedsme::sandbox::{Fault, FaultKind, Received, Role, Tarball, synthetic};
use reqwest::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn statuses_are_given_for_the_next_requests_of_a_package() {
    let (sandbox, client) = sandbox().await;
    let kind = FaultKind::Status {
        status: 503,
        retry_after: Some("7".into()),
        body: Some("later".into()),
    };
    sandbox.fail(Fault::once(Role::Build, kind).of("a").times(2));
    let (a, b) = (document("a", "1.0.0", b"x"), document("b", "1.0.0", b"x"));
    let send = async |document| {
        let request = build(&sandbox, &client, document).header("Idempotency-Key", "same");
        request.send().await.unwrap()
    };
    assert_eq!(send(&b).await.status(), 200);
    let refused = send(&a).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "7");
    assert_eq!(refused.text().await.unwrap(), "later");
    assert_eq!(send(&a).await.status(), 503);
    assert_eq!(send(&a).await.status(), 200);
    let requests = sandbox.requests();
    let attempts: Vec<_> = requests.iter().map(|r| (r.attempt, r.status)).collect();
    assert_eq!(
        attempts,
        [
            (1, Some(200)),
            (2, Some(503)),
            (3, Some(503)),
            (4, Some(200))
        ]
    );
    sandbox.fail(Fault::always(Role::Packument, FaultKind::status(500)));
    let url = format!("{}/a", sandbox.registry_url());
    for _ in 0..3 {
        assert_eq!(client.get(&url).send().await.unwrap().status(), 500);
    }
    sandbox.clear_faults();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn error_events_and_useless_streams_lead_to_no_notice() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    let message = || "queue is away".to_owned();
    for kind in [
        FaultKind::ErrorEvent { message: message() },
        FaultKind::FinalError { message: message() },
        FaultKind::NoParsableLine,
        FaultKind::EmptyStream,
    ] {
        sandbox.fail(Fault::once(Role::Build, kind));
    }
    let document = document("c", "1.0.0", b"x");
    let error = lines(build(&sandbox, &client, &document)).await;
    assert_eq!(
        (&error[1]["event"], &error[1]["message"]),
        (&json!("error"), &json!(message()))
    );
    assert_eq!(
        (error[2].get("event"), &error[2]["type"]),
        (None, &json!("error"))
    );
    let last = lines(build(&sandbox, &client, &document)).await;
    assert_eq!(last.len(), 2);
    assert_eq!(
        (last[1].get("event"), &last[1]["type"]),
        (None, &json!("error"))
    );
    let text = build(&sandbox, &client, &document)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(!text.is_empty());
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_err())
    );
    let empty = build(&sandbox, &client, &document).send().await.unwrap();
    assert_eq!(empty.status(), 200);
    assert!(empty.bytes().await.unwrap().is_empty());
    // The next one is good: its notice is the first.
    lines(build(&sandbox, &client, &document)).await;
    let requests = sandbox
        .wait_for(|all| !of(all, Role::Notice).is_empty(), SOON)
        .await
        .unwrap();
    assert_eq!(of(&requests, Role::Build).len(), 5);
    assert_eq!(of(&requests, Role::Notice).len(), 1);
}

#[tokio::test]
async fn connections_are_reset_cut_and_left_hanging() {
    let (sandbox, client) = sandbox().await;
    let document = document("c", "1.0.0", b"x");
    sandbox.fail(Fault::once(Role::Build, FaultKind::Reset));
    let error = build(&sandbox, &client, &document)
        .send()
        .await
        .unwrap_err();
    assert!(
        format!("{error:?}").contains("ConnectionReset"),
        "{error:?}"
    );
    sandbox.fail(Fault::once(Role::Build, FaultKind::Cut));
    let mut cut = build(&sandbox, &client, &document).send().await.unwrap();
    let line = cut.chunk().await.unwrap().unwrap();
    assert!(line.starts_with(b"{\"event\":\"task\""));
    assert!(cut.chunk().await.is_err());
    sandbox.fail(Fault::once(Role::Build, FaultKind::Hang));
    let hanging = build(&sandbox, &client, &document).timeout(Duration::from_millis(150));
    assert!(hanging.send().await.unwrap_err().is_timeout());
    let outcomes: Vec<_> = sandbox
        .requests()
        .iter()
        .map(|r| r.outcome.clone())
        .collect();
    assert_eq!(
        outcomes,
        ["fault: reset", "fault: cut (queued)", "fault: hang"]
    );
    // Everybody else is served all the while.
    assert_eq!(lines(build(&sandbox, &client, &document)).await.len(), 3);
}

#[tokio::test]
async fn tarballs_are_cut_slowed_moved_and_missing() {
    let (sandbox, client) = sandbox().await;
    for (name, tarball) in [
        ("a", Tarball::Synthetic(300_000)),
        ("gone", Tarball::Missing),
    ] {
        let package = json!({"name": name, "version": "1.0.0"});
        sandbox.publish(package, &tarball).unwrap();
    }
    let url = |name| format!("{}/{name}/-/{name}-1.0.0.tgz", sandbox.registry_url());
    assert_eq!(client.get(url("gone")).send().await.unwrap().status(), 404);
    sandbox.fail(Fault::once(Role::Tarball, FaultKind::Cut));
    let mut cut = client.get(url("a")).send().await.unwrap();
    assert_eq!(cut.content_length(), Some(300_000));
    let mut got = 0;
    let end = loop {
        match cut.chunk().await {
            Ok(Some(piece)) => got += piece.len(),
            other => break other,
        }
    };
    assert!(end.is_err(), "a cut must not look like an end");
    assert_eq!(got, 150_000);
    sandbox.fail(Fault::once(Role::Tarball, FaultKind::Redirect));
    let quiet = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let moved = quiet.get(url("a")).send().await.unwrap();
    assert_eq!(moved.status(), 302);
    assert!(
        moved.headers()["location"]
            .to_str()
            .unwrap()
            .contains("/-/moved/")
    );
    sandbox.fail(Fault::always(Role::Tarball, FaultKind::Redirect));
    let followed = client.get(url("a")).send().await.unwrap();
    assert!(followed.bytes().await.unwrap() == synthetic("a", "1.0.0", 300_000));
    sandbox.clear_faults();
    sandbox.fail(Fault::once(Role::Tarball, FaultKind::Slow { ms: 30 }));
    let began = Instant::now();
    let slow = client
        .get(url("a"))
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(slow.len(), 300_000);
    assert!(began.elapsed() >= Duration::from_millis(150), "five blocks");
    sandbox.fail(Fault::once(Role::Tarball, FaultKind::Hang));
    let hanging = client.get(url("a")).timeout(Duration::from_millis(100));
    assert!(hanging.send().await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_fault_may_spoil_only_the_answer() {
    let (sandbox, client) = sandbox().await;
    sandbox.fail(Fault::once(Role::Warehouse, FaultKind::Reset));
    sandbox.fail(Fault::once(Role::Warehouse, FaultKind::Reset).work_done());
    let document = document("c", "1.0.0", b"x");
    let packument = format!("{}/c", sandbox.registry_url());
    let mut seen = Vec::new();
    for _ in 0..2 {
        assert!(put(&sandbox, &client, "c", &document).send().await.is_err());
        seen.push(
            client
                .get(&packument)
                .send()
                .await
                .unwrap()
                .status()
                .as_u16(),
        );
    }
    assert_eq!(seen, [404, 200]);
    let conflict = put(&sandbox, &client, "c", &document).send().await.unwrap();
    assert_eq!(conflict.status(), 403);
    // The warehouse's own build must be over before a fault is ordered, or it takes the fault.
    let built = |all: &[Received]| {
        of(all, Role::Build)
            .iter()
            .any(|r| r.from_warehouse && r.finished.is_some())
    };
    sandbox.wait_for(built, SOON).await.unwrap();
    // The build service: queued and noticed, the answer lost.
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    sandbox.fail(
        Fault::once(Role::Build, FaultKind::status(500))
            .of("c")
            .work_done(),
    );
    let answer = build(&sandbox, &client, &document).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    let noticed = |all: &[Received]| all.iter().any(|r| r.outcome == "accepted");
    sandbox.wait_for(noticed, SOON).await.unwrap();
}

#[tokio::test]
async fn notices_can_be_late_doubled_and_lost() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    sandbox.fail(Fault::once(Role::Notice, FaultKind::Slow { ms: 200 }).of("late"));
    sandbox.fail(Fault::once(Role::Notice, FaultKind::Twice).of("twice"));
    sandbox.fail(Fault::once(Role::Notice, FaultKind::Hang).of("lost"));
    for name in ["late", "lost", "twice"] {
        lines(build(&sandbox, &client, &document(name, "1.0.0", b"x"))).await;
    }
    let accepted = |all: &[Received]| all.iter().filter(|r| r.outcome == "accepted").count() == 3;
    sandbox.wait_for(accepted, SOON).await.unwrap();
    let got = feedsme.got.lock().unwrap();
    let names: Vec<_> = got
        .iter()
        .map(|(_, body, _)| &body["data"]["name"])
        .collect();
    assert_eq!(names, ["twice", "twice", "late"]);
}
