//! H15: promoting another parent must not bring an older dependent back.

use feedsme::model::decision::{Flag, Reason};

use super::outside::{manifest, posted};
use super::survive::survives;
use super::world::{Parse as _, World};

async fn decided(world: &World) -> (Reason, Vec<Flag>) {
    let id = world.answered.last().unwrap();
    let mut decisions = world.inner.decisions(id, 0, 10).await.unwrap();
    let one = decisions.remove(0);
    assert_eq!(one.dependent.as_str(), "child");
    (one.reason, one.flags)
}

/// The line (z, 1.0.0) has child@5.0.0. The environment has child@5.0.1-0 from root's promotion, built with z@1.0.0 too.
#[tokio::test]
async fn h15_what_is_there_newer_and_was_built_with_this_parent_stays() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("z", "1.0.0", &[]).await;
        world
            .publish("child", "5.0.0", &[("root", "^1.0.0"), ("z", "^1.0.0")])
            .await;
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.promote("root", "1.1.0", "test").await;
        world.settle_down().await;
        let before = world.outside.counts().len();
        world.promote("z", "1.0.0", "test").await;
        let there = "5.0.1-0".parse_version();
        assert_eq!(
            decided(world).await,
            (Reason::AlreadyThereNewer { there }, Vec::new())
        );
        world.settle_down().await;
        assert_eq!(world.outside.counts().len(), before);
    })
    .await;
}

/// The environment has a newer child that was built with another z: then it is an older version, knowingly.
#[tokio::test]
async fn h15_an_older_one_of_another_parent_version_is_flagged() {
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    world.publish("z", "1.0.0", &[]).await;
    world
        .publish("child", "5.0.0", &[("root", "^1.0.0"), ("z", "^1.0.0")])
        .await;
    world.publish("z", "1.1.0", &[]).await;
    world.settle_down().await;
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    world.promote("root", "1.1.0", "test").await;
    world.settle_down().await;
    world.promote("z", "1.0.0", "test").await;
    let there = "5.0.1-1".parse_version();
    assert_eq!(
        decided(&world).await,
        (Reason::InReleaseLine, vec![Flag::Downgrade { there }])
    );
    world.settle_down().await;
    let last = world.outside.arrived.last().unwrap();
    assert_eq!(
        (last.version.as_str(), last.env.as_str()),
        ("5.0.0", "test")
    );
}

/// An entry of a line only rises, also if the notice of the lower version comes last.
#[tokio::test]
async fn h15_an_entry_only_rises() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        let lower = manifest("child", "5.0.0", &[("root", "^1.0.0")]);
        world.outside.publish(&lower);
        world.publish("child", "5.1.0", &[("root", "^1.0.0")]).await;
        world.post(&posted(&lower, None)).await;
        world.settle_down().await;
        let (root, version) = ("root".parse_name(), "1.0.0".parse_version());
        let line = world
            .inner
            .line_dependents(&root, &version, None, 10)
            .await
            .unwrap();
        assert_eq!(line, [("child".parse_name(), "5.1.0".parse_version())]);
    })
    .await;
}
