//! H17: the notice of our own rebuild is lost. At the deadline it is made up for: what the build service took is there
//! because it said so, what went through the warehouse is there if the registry has it.

use std::time::Duration;

use feedsme::model::wave::WaveState;
use feedsme::sandbox::{Fault, FaultKind, Role};
use feedsme::settings::Settings;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::stage::{Stage, on};

/// root ← a ← b, and a deadline of a second.
async fn chain(change: impl FnOnce(&mut Settings)) -> Stage {
    let stage = Stage::with(|settings| {
        settings.deadline = Duration::from_secs(1);
        change(settings);
    })
    .await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("a", "1.0.0", on("root", "^1.0.0")).await;
    stage.publish("b", "1.0.0", on("a", "^1.0.0")).await;
    stage.news();
    stage
}

/// How often a version was sent to one of the neighbours by us.
fn times(stage: &Stage, roles: &[Role], name: &str, version: &str, env: &str) -> usize {
    let all = stage.received(roles);
    all.iter()
        .filter(|one| {
            !one.from_warehouse
                && one.package.as_deref() == Some(name)
                && one.version.as_deref() == Some(version)
                && one.env.as_deref() == Some(env)
        })
        .count()
}

async fn until_sent(stage: &Stage, name: &str) {
    stage
        .seen(|all| {
            all.iter().any(|one| {
                one.package.as_deref() == Some(name) && one.version.as_deref() == Some("1.0.1-0")
            })
        })
        .await;
    stage.quiet().await;
}

#[tokio::test]
async fn h17_what_the_build_service_took_is_there() {
    let stage = chain(|settings| settings.warehouse = None).await;
    stage.hold_notices("a", 1);
    stage.publish("root", "1.0.1", json!({})).await;
    until_sent(&stage, "b").await;
    assert_eq!(times(&stage, &[Role::Build], "a", "1.0.1-0", "dev"), 1);
    assert_eq!(times(&stage, &[Role::Build], "b", "1.0.1-0", "dev"), 1);
    assert_eq!(
        stage.goes_with("root", "1.0.1").await,
        json!({"a": "1.0.1-0"})
    );
    // It comes after all: nothing more follows.
    stage.news();
    stage.redeliver("a", "1.0.1-0").await;
    stage.quiet().await;
    assert_eq!(stage.news(), Vec::<String>::new());
    stage.end().await;
}

#[tokio::test]
async fn h17_what_the_registry_has_is_built_once_more() {
    let stage = chain(|_| {}).await;
    stage.hold_notices("a", 1);
    stage.publish("root", "1.0.1", json!({})).await;
    until_sent(&stage, "b").await;
    assert_eq!(
        times(&stage, &[Role::Warehouse], "a", "1.0.1-0", "dev"),
        1,
        "published once"
    );
    assert_eq!(
        times(&stage, &[Role::Build], "a", "1.0.1-0", "dev"),
        1,
        "asked for once more"
    );
    assert_eq!(times(&stage, &[Role::Warehouse], "b", "1.0.1-0", "dev"), 1);
    stage.end().await;
}

/// The warehouse's own call to the build service was lost.
#[tokio::test]
async fn h17_the_warehouse_never_asked_for_the_build() {
    let stage = chain(|_| {}).await;
    let status = FaultKind::Status {
        status: 500,
        retry_after: None,
        body: None,
    };
    stage.sandbox.fail(Fault::once(Role::Build, status).of("a"));
    // No notice will come by itself, so nobody waits for it here.
    stage
        .hand(super::stage::doc("root", "1.0.1", &json!({})))
        .await;
    until_sent(&stage, "b").await;
    assert_eq!(times(&stage, &[Role::Warehouse], "a", "1.0.1-0", "dev"), 1);
    assert_eq!(times(&stage, &[Role::Build], "a", "1.0.1-0", "dev"), 1);
    stage.end().await;
}

#[tokio::test]
async fn h17_a_promotion_whose_notice_is_lost_goes_on() {
    let stage = chain(|_| {}).await;
    stage.publish("root", "1.0.1", json!({})).await;
    stage.news();
    stage.hold_notices("a", 1);
    stage.promote("root", "1.0.1", "test").await;
    stage
        .seen(|all| {
            all.iter().any(|one| {
                one.package.as_deref() == Some("b") && one.env.as_deref() == Some("test")
            })
        })
        .await;
    stage.quiet().await;
    for name in ["a", "b"] {
        assert_eq!(
            times(&stage, &[Role::Build], name, "1.0.1-0", "test"),
            1,
            "{name}"
        );
    }
    stage.end().await;
}

/// Without recovery it is late, and those behind it are brought it when it comes.
#[tokio::test]
async fn h17_without_recovery_it_is_late() {
    let stage = chain(|settings| settings.recover = false).await;
    stage.hold_notices("a", 1);
    stage.publish("root", "1.0.1", json!({})).await;
    let store = stage.running().core.store.clone();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let waves = store.waves(None, 1).await.unwrap();
        if waves[0].state == WaveState::Closed {
            break;
        }
        assert!(Instant::now() < deadline, "{waves:?}");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(times(&stage, &[Role::Warehouse], "b", "1.0.1-0", "dev"), 0);
    stage.redeliver("a", "1.0.1-0").await;
    until_sent(&stage, "b").await;
    assert_eq!(times(&stage, &[Role::Warehouse], "b", "1.0.1-0", "dev"), 1);
    stage.end().await;
}
