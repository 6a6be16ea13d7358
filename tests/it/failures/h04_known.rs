//! H4: a version that is merely known does not swallow its publish.

use feedsme::ingest::import;

use super::outside::{manifest, posted};
use super::survive::survives;
use super::world::{Parse as _, World};

/// The promotion of root@5.2.3 is faster than the notice of its publish.
#[tokio::test]
async fn h4_a_promotion_that_overtakes_the_publish_does_not_swallow_it() {
    survives(async |world: &mut World| {
        world.publish("root", "5.2.2", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^5.0.0")]).await;
        let root = manifest("root", "5.2.3", &[]);
        world.outside.publish(&root);
        world.promote("root", "5.2.3", "test").await;
        world.settle_down().await;
        assert!(world.outside.arrived.is_empty(), "there is no line yet");

        world.post(&posted(&root, None)).await;
        world.settle_down().await;
        let sent = |world: &World| {
            let one = world.outside.arrived.last().unwrap();
            format!("{}@{} {}", one.name, one.version, one.env)
        };
        assert_eq!(sent(world), "child@5.0.1-0 ");
        world.pass(61_000);
        world.promote("root", "5.2.3", "test").await;
        world.settle_down().await;
        assert_eq!(sent(world), "child@5.0.1-0 test");
    })
    .await;
}

/// An import has root@5.2.3 already, and may have died half-way; nobody repeats it.
#[tokio::test]
async fn h4_an_import_that_overtakes_the_publish_does_not_swallow_it() {
    survives(async |world: &mut World| {
        world.publish("root", "5.2.2", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^5.0.0")]).await;
        let root = manifest("root", "5.2.3", &[("other", "*")]);
        let document = posted(&root, None).document;
        let _ = import(world.core(), &document).await;
        world.publish("root", "5.2.3", &[("other", "*")]).await;
        world.settle_down().await;
        assert_eq!(world.outside.arrived.last().unwrap().version, "5.0.1-0");
    })
    .await;
}

/// child@6.0.0 dropped root. It is known before its notice comes, but whoever made it known died before telling so.
#[tokio::test]
async fn h4_a_dropped_dependency_is_not_forgotten_between_import_and_publish() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
        let document = posted(&manifest("child", "6.0.0", &[]), None).document;
        let _ = import(world.core(), &document).await;
        world.publish("child", "6.0.0", &[]).await;
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let edges = world.inner.dependents(&"root".parse_name(), None, 10).await;
        assert_eq!(edges.unwrap()[0].range, None);
        assert!(world.outside.arrived.is_empty());
    })
    .await;
}
