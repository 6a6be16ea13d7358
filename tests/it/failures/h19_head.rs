//! H19: line and head are two partitions, and a re-post may say something else.

use std::sync::atomic::Ordering;
use std::time::Duration;

use feedsme::ingest::{Posted, accept, plan};
use feedsme::model::document::Document;
use feedsme::model::id::{ChangeId, Digest};
use feedsme::model::work::Job;
use feedsme::plan::Rules;
use serde_json::json;

use super::crashing::{CrashingStore, Fault};
use super::outside::{manifest, posted};
use super::picture::{check, partition};
use super::survive::survives;
use super::world::{Parse as _, World};

/// A re-post, or a promotion, with another content: the first document stays.
#[tokio::test]
async fn h19_a_repost_with_other_content_keeps_the_first_document() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        let first = manifest("child", "1.0.0", &[("root", "^1.0.0")]);
        let mut second = manifest("child", "1.0.0", &[("root", "^9.0.0")]);
        second.insert("description".into(), json!("changed"));
        world.outside.publish(&first);
        world.post(&posted(&first, None)).await;
        // Before the first one was planned, and after.
        world.post(&posted(&second, None)).await;
        world.drain().await;
        world.post(&posted(&second, None)).await;
        world.post(&posted(&second, Some("test"))).await;
        world.settle_down().await;

        let child = partition(&*world.inner, &"child".parse_name(), &[]).await;
        let facts = child.facts(&"1.0.0".parse_version()).unwrap();
        let own = Digest::of(&posted(&first, None).document.bytes());
        assert_eq!(facts.digest, Some(own));
        let edges = world
            .inner
            .dependents(&"root".parse_name(), None, 10)
            .await
            .unwrap();
        assert_eq!(edges[0].range.as_deref(), Some("^1.0.0"));
    })
    .await;
}

/// 5.0.1-0 was reserved before 5.1.0 was published by hand; its notice comes after. The head stays.
#[tokio::test]
async fn h19_the_notice_of_an_older_reservation_does_not_drag_the_head_back() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
        world.outside.hold("child");
        world.publish("root", "1.1.0", &[]).await;
        world.publish("child", "5.1.0", &[("root", "^1.0.0")]).await;
        world.outside.release("child");
        world.settle_down().await;
        let child = "child".parse_name();
        let head = world.inner.head(&child).await.unwrap().unwrap();
        assert_eq!(head.version, "5.1.0".parse_version());
        let line = world
            .inner
            .line(&child, &"5.0.1-0".parse_version())
            .await
            .unwrap();
        assert_eq!(line.unwrap().previous, Some("5.1.0".parse_version()));
    })
    .await;
}

/// Planning root@1.1.0 dies at every step, root@1.2.0 is published meanwhile, then 1.1.0 is planned again.
#[tokio::test]
async fn h19_a_redo_does_not_drag_the_head_back_and_makes_no_loop() {
    for step in 0..12 {
        let mut world = World::new([]);
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "1.0.0", &[("root", "^1.0.0")]).await;
        let old = posted(&manifest("root", "1.1.0", &[]), None);
        world.outside.publish(&old.document.manifest);
        let accepted = accept(&world.calm(), &old).await.unwrap();
        let Job::Plan { change, digest } = &accepted.work.job else {
            panic!("accepting puts a plan")
        };
        let dying = CrashingStore::new(world.inner.clone(), Fault::Before(step));
        let mut core = world.calm();
        core.store = dying.clone();
        let died = plan(&core, change, digest).await.is_err();
        assert_eq!(died, dying.has_struck());
        let root = "root".parse_name();
        let decided = partition(&*world.inner, &root, &[])
            .await
            .facts(&"1.1.0".parse_version())
            .is_some();

        let new = posted(&manifest("root", "1.2.0", &[]), None);
        world.outside.publish(&new.document.manifest);
        let newer = accept(&world.calm(), &new).await.unwrap();
        let Job::Plan {
            change: id,
            digest: of,
        } = &newer.work.job
        else {
            panic!("accepting puts a plan")
        };
        plan(&world.calm(), id, of).await.unwrap();
        plan(&world.calm(), change, digest).await.unwrap();
        world.restart().await;
        world.settle_down().await;
        let head = world.inner.head(&root).await.unwrap().unwrap();
        // What was decided last is the head, whoever was planned again last.
        let expected = if decided { "1.2.0" } else { "1.1.0" };
        assert_eq!(head.version, expected.parse_version(), "step {step}");
        check(&world).await;
    }
}

/// A version that came under a tag of its own is published under `latest`, and its dependents are rebuilt.
#[tokio::test]
async fn h19_a_tagged_version_that_is_published_under_latest_becomes_the_head() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "1.0.0", &[("root", "^1.0.0")]).await;
        let child = manifest("child", "1.1.0", &[("root", "^1.0.0")]);
        world.outside.publish(&child);
        let document = json!({
            "name": "child",
            "dist-tags": {"next": "1.1.0"},
            "versions": {"1.1.0": child},
        });
        let tagged = Posted {
            document: Document::from_json(document.as_object().unwrap().clone(), "").unwrap(),
            ..posted(&child, None)
        };
        let grandchild = &[("child", "^1.0.0")];
        world.publish("grandchild", "1.0.0", grandchild).await;
        world.post(&tagged).await;
        world.drain().await;
        world.publish_only("root", "1.0.1", &[]).await;
        // It takes the place of the rebuild that is not sent yet.
        world
            .publish_only("child", "1.1.0", &[("root", "^1.0.0")])
            .await;
        world.settle_down().await;
        let name = "child".parse_name();
        let head = world.inner.head(&name).await.unwrap().unwrap();
        assert_eq!(head.version, "1.1.0".parse_version());
        assert_eq!(head.previous, Some("1.0.0".parse_version()));
        let sent: Vec<_> = world.outside.arrived.iter().map(|one| &one.name).collect();
        assert!(sent.iter().all(|name| *name == "grandchild"), "{sent:?}");
        assert!(!sent.is_empty());
        let lines = world
            .inner
            .line_dependents(&"root".parse_name(), &"1.0.1".parse_version(), None, 10)
            .await
            .unwrap();
        assert_eq!(lines, [(name, "1.1.0".parse_version())]);
    })
    .await;
}

/// A notice that comes again after half of `retain` ends there: what came of the first one may be forgotten by now.
#[tokio::test]
async fn h19_a_notice_that_comes_again_after_long_ends_there() {
    let rules = Rules {
        retain: Duration::from_hours(10 * 24),
        ..Rules::default()
    };
    let mut world = World::with(rules, []);
    world.publish_only("root", "1.0.0", &[]).await;
    world
        .publish_only("child", "1.0.0", &[("root", "^1.0.0")])
        .await;
    world.publish_only("root", "1.0.1", &[]).await;
    world.settle_down().await;
    let sent = world.outside.arrived.len();
    assert_eq!(sent, 1);
    // Everything of the past was ended, and the very same notice comes once more.
    let days = |days: i64| days * 24 * 3_600_000;
    world.time.fetch_add(days(6), Ordering::Relaxed);
    let id = ChangeId::of_publish(&"root".parse_name(), &"1.0.1".parse_version(), None);
    if !world.inner.is_shared() {
        let now = world.time.load(Ordering::Relaxed);
        while world.inner.prune(now - days(5)).await.unwrap() > 0 {}
        assert!(world.inner.change(&id).await.unwrap().is_none());
    }
    world.publish_only("root", "1.0.1", &[]).await;
    world.drain().await;
    assert_eq!(world.outside.arrived.len(), sent);
    let verdict = world
        .inner
        .change(&id)
        .await
        .unwrap()
        .unwrap()
        .planned
        .unwrap()
        .verdict;
    if !world.inner.is_shared() {
        assert_eq!(verdict.code(), "duplicate");
    }
}
