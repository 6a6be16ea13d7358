//! H11: one rebuild, one version; nothing stale is sent after a publish by hand.

use feedsme::model::package::RebuildState;

use crate::places::rounds;

use super::h05_skew::together;
use super::outside::{Answer, manifest, posted};
use super::picture::{check, partition};
use super::random::Dice;
use super::survive::survives;
use super::world::{Parse as _, World};

fn versions_sent(world: &World) -> Vec<String> {
    let mut sent: Vec<String> = Vec::new();
    for one in &world.outside.arrived {
        if sent.last() != Some(&one.version) {
            sent.push(one.version.clone());
        }
    }
    sent
}

/// child@5.0.0 with a rebuild as 5.0.1-0 that is decided and not sent.
async fn queued(world: &mut World) {
    world.publish("root", "1.0.0", &[]).await;
    world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
    world.publish_only("root", "1.1.0", &[]).await;
}

async fn waits_for_a_retry(world: &World) -> bool {
    let child = partition(&*world.inner, &"child".parse_name(), &[]).await;
    let mut rebuilds = child.rows.iter().filter_map(|row| row.rebuild.as_ref());
    rebuilds.any(|one| one.state == RebuildState::Queued && one.attempt > 0)
}

/// (a) Two replicas plan the same change at once.
#[tokio::test]
async fn h11_two_planners_reserve_one_version_for_a_node() {
    let mut dice = Dice::new(11);
    for _ in 0..rounds(60) {
        let mut world = World::new([]);
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
        let root = manifest("root", "1.1.0", &[]);
        let accepted = feedsme::ingest::accept(&world.calm(), &posted(&root, None))
            .await
            .unwrap();
        let feedsme::model::work::Job::Plan { change, digest } = accepted.work.job else {
            panic!("accepting puts a plan")
        };
        let same = vec![(change.clone(), digest.clone()), (change.clone(), digest)];
        together(&world, same, |ready| ready[dice.below(ready.len())]).await;
        let decisions = world.inner.decisions(&change, 0, 10).await.unwrap();
        assert_eq!(decisions.len(), 1, "{decisions:?}");
        let child = partition(&*world.inner, &"child".parse_name(), &[]).await;
        let made: Vec<_> = child
            .rows
            .iter()
            .filter(|row| row.rebuild.is_some())
            .collect();
        assert_eq!(made.len(), 1, "{made:?}");
        world.restart().await;
        world.settle_down().await;
        assert_eq!(versions_sent(&world), ["5.0.1-0"]);
        check(&world).await;
    }
}

/// Two waves that reserve at once get two versions.
#[tokio::test]
async fn h11_two_waves_never_get_the_same_version() {
    let mut dice = Dice::new(12);
    for _ in 0..rounds(40) {
        let mut world = World::new([]);
        for root in ["one", "two"] {
            world.publish(root, "1.0.0", &[]).await;
        }
        world
            .publish("child", "5.0.0", &[("one", "^1.0.0"), ("two", "^1.0.0")])
            .await;
        let mut changes = Vec::new();
        for root in ["one", "two"] {
            let root = manifest(root, "1.1.0", &[]);
            let accepted = feedsme::ingest::accept(&world.calm(), &posted(&root, None))
                .await
                .unwrap();
            let feedsme::model::work::Job::Plan { change, digest } = accepted.work.job else {
                panic!("accepting puts a plan")
            };
            changes.push((change, digest));
        }
        together(&world, changes, |ready| ready[dice.below(ready.len())]).await;
        world.restart().await;
        world.settle_down().await;
        assert_eq!(versions_sent(&world), ["5.0.1-0", "5.0.1-1"]);
        check(&world).await;
    }
}

/// (b) A higher version is published by hand while the rebuild waits.
#[tokio::test]
async fn h11_a_higher_version_by_hand_supersedes_the_queued_rebuild() {
    survives(async |world: &mut World| {
        queued(world).await;
        world
            .publish_only("child", "5.1.0", &[("root", "^1.0.0")])
            .await;
        world.settle_down().await;
        assert!(versions_sent(world).is_empty());
        world.publish("root", "1.2.0", &[]).await;
        world.settle_down().await;
        assert_eq!(versions_sent(world), ["5.1.1-0"]);
    })
    .await;
}

/// The same while it waits for a retry after an outage.
#[tokio::test]
async fn h11_a_rebuild_that_waits_for_a_retry_is_superseded_too() {
    survives(async |world: &mut World| {
        let key = ("child".to_owned(), "5.0.1-0".to_owned());
        world
            .outside
            .answers
            .insert(key, vec![Answer::AWAY; 3].into());
        queued(world).await;
        while !waits_for_a_retry(world).await {
            world.step().await;
        }
        world
            .publish_only("child", "5.1.0", &[("root", "^1.0.0")])
            .await;
        world.settle_down().await;
        assert!(versions_sent(world).is_empty());
        let child = partition(&*world.inner, &"child".parse_name(), &[]).await;
        let states: Vec<_> = child
            .rows
            .iter()
            .filter_map(|row| row.rebuild.as_ref())
            .map(|one| one.state)
            .collect();
        assert_eq!(states, [RebuildState::Superseded]);
    })
    .await;
}

/// The very version is published by hand, and includes what the rebuild was for.
#[tokio::test]
async fn h11_the_same_version_by_hand_takes_the_place_of_the_rebuild() {
    survives(async |world: &mut World| {
        queued(world).await;
        world
            .publish_only("child", "5.0.1-0", &[("root", "^1.0.0")])
            .await;
        world.settle_down().await;
        assert!(versions_sent(world).is_empty());
    })
    .await;
}

/// The very version is published by hand, without what the rebuild was for: the node gets the next one.
#[tokio::test]
async fn h11_the_same_version_by_hand_of_something_else_gives_the_node_another_one() {
    survives(async |world: &mut World| {
        queued(world).await;
        world
            .publish_only("child", "5.0.1-0", &[("root", "~1.0.0")])
            .await;
        world.settle_down().await;
        assert_eq!(versions_sent(world), ["5.0.1-1"]);
    })
    .await;
}

/// A backport of an older major is no reason to drop the rebuild.
#[tokio::test]
async fn h11_an_unrelated_backport_supersedes_nothing() {
    survives(async |world: &mut World| {
        queued(world).await;
        world
            .publish_only("child", "4.9.0", &[("root", "^0.9.0")])
            .await;
        world.settle_down().await;
        assert_eq!(versions_sent(world), ["5.0.1-0"]);
    })
    .await;
}
