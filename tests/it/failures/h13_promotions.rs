//! H13: promotions have no identity of their own.

use feedsme::model::change::Verdict;
use feedsme::model::id::ChangeId;

use super::outside::posted;
use super::survive::survives;
use super::world::World;

/// root@1.1.0 and child@1.0.1-0 in its line, and grandchild@1.0.1-0 in that one's.
async fn lines(world: &mut World) {
    world.publish("root", "1.0.0", &[]).await;
    world.publish("child", "1.0.0", &[("root", "^1.0.0")]).await;
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
}

fn promoted(world: &World, version: &str) -> usize {
    let arrived = world.outside.arrived.iter();
    arrived
        .filter(|one| one.env == "test" && one.version == version)
        .count()
}

async fn verdict(world: &World, id: &ChangeId) -> Verdict {
    world
        .inner
        .change(id)
        .await
        .unwrap()
        .unwrap()
        .planned
        .unwrap()
        .verdict
}

/// The client posts up to six times.
#[tokio::test]
async fn h13_a_promotion_posted_six_times_is_one() {
    survives(async |world: &mut World| {
        lines(world).await;
        let document = world.outside.document("root", "1.1.0");
        for _ in 0..6 {
            world.post(&posted(&document, Some("test"))).await;
        }
        world.settle_down().await;
        world.promote("root", "1.1.0", "test").await;
        world.settle_down().await;
        assert!(world.has_struck() || promoted(world, "1.0.1-0") == 1);
    })
    .await;
}

/// Promoted, rolled back, promoted again: each is done, and the notices of the second generation are not taken for
/// repetitions of the first.
#[tokio::test]
async fn h13_a_rollback_and_its_repetition_are_done_again() {
    survives(async |world: &mut World| {
        lines(world).await;
        for version in ["1.1.0", "1.0.0", "1.1.0"] {
            world.promote("root", version, "test").await;
            world.settle_down().await;
            world.pass(61_000);
        }
        assert!(world.has_struck() || promoted(world, "1.0.1-0") == 2);
        assert!(world.has_struck() || promoted(world, "1.0.0") == 1);
    })
    .await;
}

/// The window is over: the same promotion is done again. With the same key it is not, however late.
#[tokio::test]
async fn h13_the_window_and_the_key() {
    let mut world = World::new([]);
    lines(&mut world).await;
    let mut post = posted(&world.outside.document("root", "1.1.0"), Some("test"));
    post.key = Some("one".into());
    let first = world.post(&post).await;
    world.settle_down().await;
    assert_eq!(verdict(&world, &first).await, Verdict::Opened);
    assert_eq!(promoted(&world, "1.0.1-0"), 1);

    world.pass(30_000);
    world.promote("root", "1.1.0", "test").await;
    let id = world.answered.last().unwrap().clone();
    assert_eq!(
        verdict(&world, &id).await,
        Verdict::Duplicate { of: first.clone() }
    );

    world.pass(61_000);
    assert_eq!(world.post(&post).await, first);
    world.settle_down().await;
    assert_eq!(promoted(&world, "1.0.1-0"), 1, "the same key");

    post.key = Some("two".into());
    let second = world.post(&post).await;
    world.settle_down().await;
    assert_eq!(verdict(&world, &second).await, Verdict::Opened);
    assert_eq!(promoted(&world, "1.0.1-0"), 2);
}

/// While something of it is still to be sent, a promotion is open, however long that takes.
#[tokio::test]
async fn h13_an_open_promotion_is_repeated_by_no_post() {
    let mut world = World::new([]);
    lines(&mut world).await;
    world.promote_only("root", "1.1.0", "test").await;
    world.pass(3_600_000);
    world.promote_only("root", "1.1.0", "test").await;
    let id = world.answered.last().unwrap().clone();
    assert_eq!(verdict(&world, &id).await.code(), "duplicate");
    world.settle_down().await;
    assert_eq!(promoted(&world, "1.0.1-0"), 1);
}

/// Two promotions need the same version of a dependent in the same environment: one rebuild, and its notice goes on in
/// both waves.
#[tokio::test]
async fn h13_two_promotions_share_a_rebuild() {
    survives(async |world: &mut World| {
        world.publish("one", "1.0.0", &[]).await;
        world.publish("two", "1.0.0", &[]).await;
        world
            .publish("child", "1.0.0", &[("one", "^1.0.0"), ("two", "^1.0.0")])
            .await;
        world
            .publish("grandchild", "1.0.0", &[("child", "^1.0.0")])
            .await;
        world.promote_only("one", "1.0.0", "test").await;
        world.promote_only("two", "1.0.0", "test").await;
        world.settle_down().await;
        assert!(
            world.has_struck() || promoted(world, "1.0.0") == 2,
            "child and grandchild"
        );
    })
    .await;
}

/// A later promotion that decides another version of a dependent ends what the earlier one has still to send.
#[tokio::test]
async fn h13_a_later_promotion_supersedes_what_was_not_sent() {
    survives(async |world: &mut World| {
        lines(world).await;
        world.promote_only("root", "1.1.0", "test").await;
        world.promote_only("root", "1.0.0", "test").await;
        world.settle_down().await;
        assert!(world.has_struck() || promoted(world, "1.0.1-0") == 0);
        assert!(world.resurfaced || world.outside.arrived.last().unwrap().version == "1.0.0");
    })
    .await;
}
