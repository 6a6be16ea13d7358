//! H24: what was given up comes back by an operator's wish, but not once something else took its place.

use feedsme::dispatch::revive;
use feedsme::model::env::Env;
use feedsme::model::package::{Rebuild, RebuildState, RowKey};

use super::outside::Answer;
use super::picture::partition;
use super::survive::survives;
use super::world::{Parse as _, World};

/// child@5.0.0 goes with root@1.0.0, child@5.0.1-0 with root@1.1.0.
async fn two_lines(world: &mut World) {
    world.publish("root", "1.0.0", &[]).await;
    world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
}

fn refuse(world: &mut World, version: &str) {
    let key = ("child".to_owned(), version.to_owned());
    let answers = world.outside.answers.entry(key).or_default();
    answers.push_back(Answer::REFUSED);
}

async fn rebuild(world: &World, key: &RowKey) -> Rebuild {
    let child = partition(&*world.inner, &"child".parse_name(), &["test"]).await;
    child.row(key).unwrap().rebuild.clone().unwrap()
}

/// Whether an operator's retry of the rebuild in that row sends it.
async fn comes_back(world: &World, key: &RowKey) -> bool {
    let id = rebuild(world, key).await.id;
    let revived = revive(&world.calm(), &"child".parse_name(), key, &id).await;
    revived.unwrap().is_some()
}

fn sent(world: &World) -> Vec<(&str, &str)> {
    let arrived = world.outside.arrived.iter();
    arrived
        .map(|one| (one.version.as_str(), one.env.as_str()))
        .collect()
}

#[tokio::test]
async fn h24_a_dead_rebuild_can_be_retried_while_nothing_took_its_place() {
    let mut world = World::new([]);
    two_lines(&mut world).await;
    refuse(&mut world, "5.0.1-1");
    world.publish("root", "1.2.0", &[]).await;
    // Neither another major nor an older version takes its place.
    world.publish("child", "6.0.0", &[("root", "^2.0.0")]).await;
    world.publish("child", "4.0.0", &[("root", "^1.0.0")]).await;
    let key = RowKey::publish(&"5.0.1-1".parse_version());
    assert_eq!(rebuild(&world, &key).await.state, RebuildState::Dead);
    assert!(comes_back(&world, &key).await);
    assert!(!comes_back(&world, &key).await, "only once");
}

#[tokio::test]
async fn h24_a_publish_by_hand_supersedes_a_dead_rebuild() {
    survives(async |world: &mut World| {
        two_lines(world).await;
        refuse(world, "5.0.1-1");
        world.publish("root", "1.2.0", &[]).await;
        world.publish("child", "5.1.0", &[("root", "^1.0.0")]).await;
        let key = RowKey::publish(&"5.0.1-1".parse_version());
        assert_eq!(rebuild(world, &key).await.state, RebuildState::Superseded);
        assert!(!comes_back(world, &key).await);
        world.settle_down().await;
    })
    .await;
}

#[tokio::test]
async fn h24_a_later_promotion_supersedes_a_dead_rebuild() {
    survives(async |world: &mut World| {
        two_lines(world).await;
        refuse(world, "5.0.1-0");
        world.promote("root", "1.1.0", "test").await;
        let key = RowKey::promotion(&"5.0.1-0".parse_version(), &Env::trusted("test"));
        assert_eq!(rebuild(world, &key).await.state, RebuildState::Dead);
        world.promote("root", "1.0.0", "test").await;
        assert_eq!(rebuild(world, &key).await.state, RebuildState::Superseded);
        assert!(!comes_back(world, &key).await);
        world.settle_down().await;
        assert_eq!(sent(world).last(), Some(&("5.0.0", "test")));
    })
    .await;
}
