//! What is promised (design.md 4), row by row of its table: nothing is lost, blocked or reordered, whatever neighbours do.

use std::time::Duration;

use super::stage::{Stage, doc, id_of, on, outcomes};
use feedsme::neighbours::Endpoint;
use feedsme::sandbox::{Fault, FaultKind, Received, Role, Sandbox, SandboxOptions};
use serde_json::{Value, json};

/// A hang is found out after this.
const IDLE: Duration = Duration::from_millis(700);

async fn impatient(warehouse: bool) -> Stage {
    Stage::with(|settings| {
        for endpoint in [
            &mut settings.build_service,
            &mut settings.warehouse,
            &mut settings.registry,
        ] {
            let endpoint = endpoint.as_mut().unwrap();
            endpoint.idle_timeout = IDLE;
            endpoint.connect_timeout = IDLE;
        }
        if !warehouse {
            settings.warehouse = None;
        }
    })
    .await
}

/// root@1.0.0 and a dependent of each of these names.
async fn dependents(stage: &Stage, names: &[&str]) {
    stage.publish("root", "1.0.0", json!({})).await;
    for name in names {
        stage.publish(name, "5.0.0", on("root", "^1.0.0")).await;
    }
    stage.news();
}

async fn root(stage: &Stage, version: &str) -> String {
    stage.hand(doc("root", version, &json!({}))).await
}

fn of<'a>(received: &'a [Received], name: &str) -> Vec<&'a Received> {
    received
        .iter()
        .filter(|r| r.package.as_deref() == Some(name))
        .collect()
}

/// Each of these faults strikes one dependent once; all of them are sent in the end, with the version and id that they had.
async fn each_is_retried(stage: Stage, role: Role, faults: &[(&str, FaultKind)]) {
    let names: Vec<&str> = faults.iter().map(|(name, _)| *name).collect();
    dependents(&stage, &names).await;
    stage
        .publish("healthy", "5.0.0", on("root", "^1.0.0"))
        .await;
    for (name, kind) in faults {
        stage.sandbox.fail(Fault::once(role, kind.clone()).of(name));
    }
    let id = root(&stage, "1.0.1").await;
    stage.quiet().await;
    let received = stage.received(&[role]);
    for name in &names {
        let rebuild = stage.rebuild_is(&id, name, "published").await;
        assert_eq!(outcomes(&rebuild), ["retry", "sent"], "{name}: {rebuild:#}");
        let own = of(&received, name);
        assert_eq!(own.len(), 2, "{name}");
        for one in &own {
            assert_eq!(one.idempotency_key.as_deref(), rebuild["id"].as_str());
        }
        let waited = own[1].at.duration_since(own[0].at).unsigned_abs();
        assert!(waited >= Duration::from_millis(790), "{name}: {waited:?}");
        let attempts = rebuild["attempts"].as_array().unwrap();
        for (at, attempt) in attempts.iter().enumerate() {
            assert_eq!(attempt["number"], at + 1);
            assert!(!attempt["message"].as_str().unwrap().is_empty() || at == 1);
        }
        let neighbour = match role {
            Role::Build => "build_service",
            _ => "warehouse",
        };
        assert_eq!(attempts[0]["neighbour"], neighbour, "{name}");
        assert_eq!(
            attempts[0]["may_have_reached"], true,
            "{name}: the whole document was read"
        );
    }
    let healthy = of(&received, "healthy");
    assert_eq!(healthy.len(), 1);
    let first_retry = received.iter().find(|r| r.attempt == 2).unwrap();
    assert!(healthy[0].at < first_retry.at, "nobody waits for others");
    let mut taken = stage.taken();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), names.len() + 1);
    stage.end().await;
}

#[tokio::test]
async fn outcome_retry_of_the_build_service() {
    let message = || "no luck".to_owned();
    each_is_retried(
        impatient(false).await,
        Role::Build,
        &[
            ("c500", FaultKind::status(500)),
            ("c502", FaultKind::status(502)),
            ("c408", FaultKind::status(408)),
            ("c425", FaultKind::status(425)),
            ("c429", FaultKind::status(429)),
            ("reset", FaultKind::Reset),
            ("cut", FaultKind::Cut),
            ("error", FaultKind::ErrorEvent { message: message() }),
            ("final", FaultKind::FinalError { message: message() }),
            ("no-line", FaultKind::NoParsableLine),
            ("empty", FaultKind::EmptyStream),
            ("hang", FaultKind::Hang),
        ],
    )
    .await;
}

#[tokio::test]
async fn outcome_retry_of_the_warehouse() {
    each_is_retried(
        impatient(true).await,
        Role::Warehouse,
        &[
            ("c500", FaultKind::status(500)),
            ("c504", FaultKind::status(504)),
            ("c408", FaultKind::status(408)),
            ("c425", FaultKind::status(425)),
            ("c429", FaultKind::status(429)),
            ("reset", FaultKind::Reset),
            ("hang", FaultKind::Hang),
        ],
    )
    .await;
}

#[tokio::test]
async fn outcome_retry_of_the_registry_and_nothing_half_arrives() {
    let stage = impatient(true).await;
    let faults = [
        ("p500", Role::Packument, FaultKind::status(500)),
        ("p-hang", Role::Packument, FaultKind::Hang),
        ("p-reset", Role::Packument, FaultKind::Reset),
        ("p-cut", Role::Packument, FaultKind::Cut),
        ("t500", Role::Tarball, FaultKind::status(500)),
        ("t-hang", Role::Tarball, FaultKind::Hang),
        ("t-cut", Role::Tarball, FaultKind::Cut),
        ("t404", Role::Tarball, FaultKind::status(404)),
    ];
    dependents(&stage, &faults.each_ref().map(|(name, ..)| *name)).await;
    for (name, role, kind) in &faults {
        stage
            .sandbox
            .fail(Fault::once(*role, kind.clone()).of(name));
    }
    let id = root(&stage, "1.0.1").await;
    stage.quiet().await;
    for (name, ..) in &faults {
        let rebuild = stage.rebuild_is(&id, name, "published").await;
        assert_eq!(outcomes(&rebuild), ["retry", "sent"], "{name}: {rebuild:#}");
        let first = &rebuild["attempts"][0];
        assert_eq!(first["neighbour"], "registry", "{name}");
        assert_eq!(first["may_have_reached"], false, "{name}: {first}");
    }
    assert_eq!(stage.taken().len(), faults.len());
    stage.end().await;
}

#[tokio::test]
async fn outcome_retry_after_is_kept() {
    let stage = Stage::without_warehouse().await;
    dependents(&stage, &["child"]).await;
    let busy = FaultKind::Status {
        status: 429,
        retry_after: Some("2".into()),
        body: None,
    };
    stage
        .sandbox
        .fail(Fault::once(Role::Build, busy).of("child"));
    root(&stage, "1.0.1").await;
    stage.quiet().await;
    let received = stage.received(&[Role::Build]);
    let waited = received[1].at.duration_since(received[0].at);
    assert!(waited.unsigned_abs() >= Duration::from_secs(2), "{waited}");
    assert_eq!(received.len(), 2);
    stage.end().await;
}

#[tokio::test]
async fn outcome_503_pauses_one_lane_and_resumes_it() {
    let stage = Stage::new().await;
    dependents(&stage, &[]).await;
    stage.publish("pro", "5.0.0", on("root", "1.0.0")).await;
    stage.publish("root", "1.0.1", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    let away = FaultKind::Status {
        status: 503,
        retry_after: Some("2".into()),
        body: None,
    };
    stage.sandbox.fail(Fault::once(Role::Build, away).of("pro"));
    stage.news();
    let refused = stage.promote_only("root", "1.0.0", "test").await;
    stage
        .until("/status", |status| {
            status["paused"]["build_service"].is_string()
        })
        .await;
    // What else goes there waits with it.
    let waits = stage.promote_only("root", "1.0.1", "test").await;
    // The warehouse's lane is another one.
    root(&stage, "1.0.2").await;
    stage
        .seen(|r| {
            let mut published = r.iter().filter(|r| r.role == Role::Warehouse);
            published.any(|r| r.outcome == "published")
        })
        .await;
    stage.rebuild_is(&refused, "pro", "queued").await;
    stage.rebuild_is(&waits, "child", "queued").await;
    let status = stage.read("/status").await;
    assert_eq!(status["idle"], false);
    assert_eq!(status["paused"].as_object().unwrap().len(), 1, "{status}");
    assert_eq!(stage.taken(), ["publish child@5.0.1-0"]);

    stage.quiet().await;
    assert_eq!(stage.read("/status").await["paused"], json!({}));
    let pro = stage.rebuild_is(&refused, "pro", "published").await;
    assert_eq!(outcomes(&pro), ["paused", "sent"]);
    assert_eq!(pro["attempts"][0]["status"], 503);
    let child = stage.rebuild_is(&waits, "child", "published").await;
    assert_eq!(outcomes(&child), ["sent"]);
    let received = stage.received(&[Role::Build]);
    for one in &received[1..] {
        let waited = one.at.duration_since(received[0].at);
        assert!(waited.unsigned_abs() >= Duration::from_secs(2), "{waited}");
    }
    assert_eq!(received.len(), 3);
    stage.end().await;
}

#[tokio::test]
async fn outcome_no_connection_pauses_and_nothing_is_lost_or_reordered() {
    let mut builds = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let stage = Stage::with(|settings| {
        settings.warehouse = None;
        settings.build_service = Some(Endpoint::new(builds.build_service_url()));
    })
    .await;
    builds.report_to(&stage.running().url());
    dependents(&stage, &["child", "other"]).await;
    builds.stop().await;
    let mut ids = Vec::new();
    for version in ["1.0.1", "1.0.2", "1.0.3"] {
        ids.push(root(&stage, version).await);
    }
    stage
        .until("/status", |status| {
            status["paused"]["build_service"].is_string()
        })
        .await;
    let waiting = stage.rebuild_is(&ids[0], "child", "queued").await;
    assert!(outcomes(&waiting).iter().all(|one| *one == "paused"));
    for attempt in waiting["attempts"].as_array().unwrap() {
        assert_eq!(
            (&attempt["neighbour"], &attempt["may_have_reached"]),
            (&json!("build_service"), &json!(false))
        );
    }
    builds.restart().await.unwrap();
    for id in &ids {
        for name in ["child", "other"] {
            stage.rebuild_is(id, name, "published").await;
        }
    }
    let received = builds.requests();
    for name in ["child", "other"] {
        let sent: Vec<_> = received
            .iter()
            .filter(|r| r.role == Role::Build && r.package.as_deref() == Some(name))
            .map(|r| (r.version.as_deref().unwrap(), r.outcome.as_str()))
            .collect();
        assert_eq!(
            sent,
            [
                ("5.0.1-0", "queued"),
                ("5.0.1-1", "queued"),
                ("5.0.1-2", "queued")
            ],
            "each once, in order"
        );
    }
    assert_eq!(stage.read("/status").await["paused"], json!({}));
    stage.end().await;
}

#[tokio::test]
async fn outcome_one_that_always_draws_a_503_does_not_close_the_lane_for_others() {
    let stage = Stage::without_warehouse().await;
    dependents(&stage, &["poison", "a", "b", "c"]).await;
    stage
        .sandbox
        .fail(Fault::always(Role::Build, FaultKind::status(503)).of("poison"));
    for version in ["1.0.1", "1.0.2", "1.0.3"] {
        let id = root(&stage, version).await;
        for name in ["a", "b", "c"] {
            stage.rebuild_is(&id, name, "published").await;
        }
    }
    assert_eq!(stage.taken().len(), 9);
    stage.sandbox.clear_faults();
    stage.quiet().await;
    let taken = stage.taken();
    let poison: Vec<_> = taken.iter().filter(|one| one.contains("poison")).collect();
    assert_eq!(
        poison,
        [
            "build poison@5.0.1-0 dev",
            "build poison@5.0.1-1 dev",
            "build poison@5.0.1-2 dev"
        ]
    );
    stage.end().await;
}

/// A version that the registry has although nobody told us.
async fn foreign(conflict_status: u16) {
    let options = SandboxOptions {
        conflict_status,
        ..SandboxOptions::default()
    };
    let stage = Stage::made(options, |_| {}).await;
    dependents(&stage, &["child"]).await;
    stage.in_registry("child", "5.0.1-0");
    let id = root(&stage, "1.0.1").await;
    stage.quiet().await;
    assert_eq!(stage.taken(), ["publish child@5.0.1-1"]);
    assert_eq!(
        stage.goes_with("root", "1.0.1").await,
        json!({"child": "5.0.1-1"})
    );
    let received = stage.received(&[Role::Warehouse]);
    let ids: Vec<_> = received
        .iter()
        .map(|r| r.idempotency_key.clone().unwrap())
        .collect();
    assert_ne!(ids[0], ids[1], "another rebuild");
    let ended = stage.read(&format!("/rebuilds/{}", ids[0])).await;
    assert_eq!(
        (&ended["state"], &ended["version"]),
        (&json!("foreign"), &json!("5.0.1-0"))
    );
    assert_eq!(outcomes(&ended), ["foreign"]);
    assert_eq!(ended["attempts"][0]["status"], conflict_status);
    let next = stage.read(&format!("/rebuilds/{}", ids[1])).await;
    assert_eq!(
        (&next["state"], &next["change"]),
        (&json!("published"), &json!(id))
    );
    assert_eq!(next["made"]["waves"], ended["made"]["waves"]);
    // Promotions send ours.
    stage.promote("root", "1.0.1", "test").await;
    assert_eq!(
        stage.taken().last().map(String::as_str),
        Some("build child@5.0.1-1 test")
    );
    stage.end().await;
}

#[tokio::test]
async fn outcome_403_at_the_first_attempt_is_somebody_elses_version() {
    foreign(403).await;
}

#[tokio::test]
async fn outcome_409_at_the_first_attempt_is_somebody_elses_version() {
    foreign(409).await;
}

/// A publish whose answer was lost.
async fn ours(conflict_status: u16, lost: FaultKind) {
    let options = SandboxOptions {
        conflict_status,
        ..SandboxOptions::default()
    };
    let stage = Stage::made(options, |settings| {
        settings.warehouse.as_mut().unwrap().idle_timeout = IDLE;
    })
    .await;
    dependents(&stage, &["child"]).await;
    stage
        .sandbox
        .fail(Fault::once(Role::Warehouse, lost).of("child").work_done());
    stage.hold_notices("child", 1);
    let id = root(&stage, "1.0.1").await;
    let rebuild = stage.rebuild_is(&id, "child", "sent").await;
    assert_eq!(outcomes(&rebuild), ["retry", "sent"], "{rebuild:#}");
    let attempts = &rebuild["attempts"];
    assert_eq!(attempts[0]["may_have_reached"], true);
    assert_eq!(attempts[1]["status"], conflict_status);
    assert_eq!(rebuild["version"], "5.0.1-0");
    stage.redeliver("child", "5.0.1-0").await;
    stage.rebuild_is(&id, "child", "published").await;
    assert_eq!(
        stage.goes_with("root", "1.0.1").await,
        json!({"child": "5.0.1-0"})
    );
    stage.stop().await;
}

#[tokio::test]
async fn outcome_403_after_an_attempt_that_may_have_arrived_is_ours() {
    ours(403, FaultKind::Reset).await;
}

#[tokio::test]
async fn outcome_409_after_an_attempt_that_may_have_arrived_is_ours() {
    ours(409, FaultKind::Hang).await;
}

#[tokio::test]
async fn outcome_the_notice_of_an_attempt_whose_answer_was_lost_ends_it() {
    let stage = Stage::without_warehouse().await;
    dependents(&stage, &["child"]).await;
    stage.sandbox.fail(
        Fault::once(Role::Build, FaultKind::Reset)
            .of("child")
            .work_done(),
    );
    let id = root(&stage, "1.0.1").await;
    stage.rebuild_is(&id, "child", "published").await;
    stage.quiet().await;
    assert_eq!(stage.received(&[Role::Build]).len(), 1, "not sent again");
    stage.end().await;
}

#[tokio::test]
async fn outcome_other_4xx_is_dead_at_once_and_can_be_retried() {
    let stage = Stage::without_warehouse().await;
    let statuses = [400, 401, 403, 404, 413, 422];
    let names = statuses.map(|status| format!("c{status}"));
    dependents(&stage, &names.each_ref().map(String::as_str)).await;
    for (status, name) in statuses.iter().zip(&names) {
        let kind = FaultKind::Status {
            status: *status,
            retry_after: None,
            body: Some("not for you".into()),
        };
        stage.sandbox.fail(Fault::once(Role::Build, kind).of(name));
    }
    let id = root(&stage, "1.0.1").await;
    let mut dead = Vec::new();
    for (status, name) in statuses.iter().zip(&names) {
        let rebuild = stage.rebuild_is(&id, name, "dead").await;
        assert_eq!(outcomes(&rebuild), ["dead"]);
        assert_eq!(rebuild["attempts"][0]["status"], *status);
        assert!(
            rebuild["ended_because"]
                .as_str()
                .unwrap()
                .contains("not for you")
        );
        dead.push(rebuild["id"].as_str().unwrap().to_owned());
    }
    // What follows of the same package is not held up.
    let later = root(&stage, "1.0.2").await;
    for name in &names {
        stage.rebuild_is(&later, name, "published").await;
    }
    for rebuild in &dead {
        let (status, answer) = stage
            .post(&format!("/rebuilds/{rebuild}/retry"), &Value::Null)
            .await;
        assert_eq!(status, 200, "{answer}");
    }
    for (name, rebuild) in names.iter().zip(&dead) {
        let done = stage.rebuild_is(&id, name, "published").await;
        assert_eq!(
            (&done["id"], &done["version"]),
            (&json!(rebuild), &json!("5.0.1-0"))
        );
        assert_eq!(outcomes(&done), ["dead", "sent"]);
        let (status, _) = stage
            .post(&format!("/rebuilds/{rebuild}/retry"), &Value::Null)
            .await;
        assert_eq!(status, 409, "only what was given up");
    }
    stage.end().await;
}

#[tokio::test]
async fn outcome_a_missing_tarball_is_dead_after_three_tries() {
    let stage = Stage::new().await;
    dependents(&stage, &["child", "other"]).await;
    stage.sandbox.fail(
        Fault::once(Role::Tarball, FaultKind::status(404))
            .of("child")
            .times(3),
    );
    let id = root(&stage, "1.0.1").await;
    let rebuild = stage.rebuild_is(&id, "child", "dead").await;
    assert_eq!(outcomes(&rebuild), ["retry", "retry", "dead"]);
    for attempt in rebuild["attempts"].as_array().unwrap() {
        assert_eq!(
            (
                &attempt["neighbour"],
                &attempt["status"],
                &attempt["may_have_reached"]
            ),
            (&json!("registry"), &json!(404), &json!(false))
        );
    }
    stage.rebuild_is(&id, "other", "published").await;
    assert_eq!(stage.taken(), ["publish other@5.0.1-0"]);
    let path = format!("/rebuilds/{}/retry", rebuild["id"].as_str().unwrap());
    assert_eq!(stage.post(&path, &Value::Null).await.0, 200);
    stage.rebuild_is(&id, "child", "published").await;
    stage.end().await;
}

#[tokio::test]
async fn outcome_what_waits_or_is_being_sent_survives_a_restart_with_its_id_and_version() {
    let mut stage = Stage::without_warehouse().await;
    dependents(&stage, &["waits", "hangs", "done"]).await;
    stage
        .sandbox
        .fail(Fault::once(Role::Build, FaultKind::status(500)).of("waits"));
    stage
        .sandbox
        .fail(Fault::once(Role::Build, FaultKind::Hang).of("hangs"));
    let id = root(&stage, "1.0.1").await;
    let next = root(&stage, "1.0.2").await;
    for name in ["waits", "hangs"] {
        stage
            .seen(|r| of(r, name).iter().any(|r| r.outcome.starts_with("fault")))
            .await;
    }
    stage.rebuild_is(&next, "done", "published").await;
    stage.restart().await;
    for id in [&id, &next] {
        for name in ["waits", "hangs", "done"] {
            stage.rebuild_is(id, name, "published").await;
        }
    }
    let received = stage.received(&[Role::Build]);
    for name in ["waits", "hangs"] {
        let own = of(&received, name);
        let versions: Vec<_> = own.iter().map(|r| r.version.as_deref().unwrap()).collect();
        assert_eq!(versions, ["5.0.1-0", "5.0.1-0", "5.0.1-1"], "{name}");
        assert_eq!(own[0].idempotency_key, own[1].idempotency_key);
    }
    assert_eq!(of(&received, "done").len(), 2, "only what was being sent");
    stage.end().await;
}

#[tokio::test]
async fn outcome_a_change_answered_with_200_is_planned_after_a_restart() {
    let mut stage = Stage::without_warehouse().await;
    dependents(&stage, &["child"]).await;
    let documents: Vec<Value> = (1..=20)
        .map(|patch| doc("root", &format!("1.0.{patch}"), &json!({})))
        .collect();
    for document in &documents {
        let (status, _) = stage.post("/change", document).await;
        assert_eq!(status, 200);
    }
    stage.restart().await;
    for document in &documents {
        stage
            .rebuild_is(&id_of(document), "child", "published")
            .await;
    }
    stage.quiet().await;
    let mut versions: Vec<String> = stage.taken();
    let sent = versions.len();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), 20);
    assert!(sent <= 21, "only what was being sent is sent again: {sent}");
    stage.end().await;
}

/// The first rebuild of child waits for a retry, the second waits behind it; the changes that decided them.
async fn two_waiting(stage: &Stage) -> [String; 2] {
    dependents(stage, &["child"]).await;
    stage
        .sandbox
        .fail(Fault::always(Role::Warehouse, FaultKind::status(500)).of("child"));
    let ids = [root(stage, "1.0.1").await, root(stage, "1.0.2").await];
    stage
        .seen(|r| r.iter().any(|r| r.status == Some(500)))
        .await;
    stage.rebuild_is(&ids[0], "child", "queued").await;
    ids
}

#[tokio::test]
async fn outcome_a_publish_by_hand_ends_what_it_makes_needless_before_it_is_sent() {
    let stage = Stage::new().await;
    let ids = two_waiting(&stage).await;
    let by_hand = stage
        .hand(doc("child", "5.1.0", &on("root", "^1.0.0")))
        .await;
    assert_eq!(stage.verdict(&by_hand).await, "took_place");
    stage.sandbox.clear_faults();
    stage.quiet().await;
    assert_eq!(stage.taken(), [""; 0]);
    for id in &ids {
        let ended = stage.rebuild_is(id, "child", "superseded").await;
        let because = ended["ended_because"].as_str().unwrap();
        assert!(because.contains("child@5.1.0"), "{because}");
        let path = format!("/rebuilds/{}/retry", ended["id"].as_str().unwrap());
        assert_eq!(stage.post(&path, &Value::Null).await.0, 409);
    }
    assert_eq!(
        stage.goes_with("root", "1.0.2").await,
        json!({"child": "5.1.0"})
    );
    // What was superseded is no base and is never given out again.
    stage.publish("root", "1.0.3", json!({})).await;
    assert_eq!(stage.taken(), ["publish child@5.1.1-0"]);
    stage.end().await;
}

#[tokio::test]
async fn outcome_a_publish_by_hand_of_a_reserved_version_gives_its_node_another() {
    let stage = Stage::new().await;
    let ids = two_waiting(&stage).await;
    // Not a base for the node: its range is another one.
    stage
        .hand(doc("child", "5.0.1-1", &on("root", "^9.0.0")))
        .await;
    stage.sandbox.clear_faults();
    stage.quiet().await;
    assert_eq!(
        stage.taken(),
        ["publish child@5.0.1-0", "publish child@5.0.1-2"]
    );
    for (id, root, child) in [(&ids[0], "1.0.1", "5.0.1-0"), (&ids[1], "1.0.2", "5.0.1-2")] {
        stage.rebuild_is(id, "child", "published").await;
        assert_eq!(stage.goes_with("root", root).await, json!({"child": child}));
    }
    stage.end().await;
}
