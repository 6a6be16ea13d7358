//! H6: a parent that comes after its deadline is brought to those that went without it, by one wave more (rule 15).

use feedsme::model::wave::{NodeKey, Standing};

use crate::failures::outside::posted;
use crate::failures::survive::survives;
use crate::failures::world::{Parse as _, World};

use super::told::{all_closed, count, follow_on, nodes, sent_since, wave_of, with};

/// Longer than the deadline.
const LATE: i64 = 31 * 60_000;

/// root ← p1, p2; t needs both, and what comes after t.
async fn two_parents(world: &mut World) {
    world.publish("root", "1.0.0", &[]).await;
    world.publish("p1", "1.0.0", &[("root", "^1.0.0")]).await;
    world.publish("p2", "1.0.0", &[("root", "^1.0.0")]).await;
    world
        .publish("t", "1.0.0", &[("p1", "^1.0.0"), ("p2", "^1.0.0")])
        .await;
    world.publish("u", "1.0.0", &[("t", "^1.0.0")]).await;
}

/// t goes without p2, then p2 comes: one wave more, once, whoever says it how often.
#[tokio::test]
async fn h06_a_late_parent_is_brought_by_one_wave_more() {
    survives(async |world: &mut World| {
        two_parents(world).await;
        world.outside.hold("p2");
        let before = count(world);
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        assert_eq!(sent_since(world, before), ["p1@1.0.1-0", "p2@1.0.1-0"]);
        world.look_after(LATE).await;
        world.settle_down().await;
        assert_eq!(sent_since(world, before)[2..], ["t@1.0.1-0", "u@1.0.1-0"]);
        assert_eq!(
            with(world, "t", "1.0.1-0").await,
            ["p1@1.0.1-0", "p2@1.0.0"]
        );
        assert!(follow_on(world).await.is_empty());

        let notice = world.outside.document("p2", "1.0.1-0");
        world.outside.release("p2");
        world.settle_down().await;
        for _ in 0..2 {
            world.post(&posted(&notice, None)).await;
            world.settle_down().await;
        }
        let expected = ["t@1.0.1-1", "u@1.0.1-1"];
        assert_eq!(sent_since(world, before)[4..], expected);
        assert_eq!(
            with(world, "t", "1.0.1-1").await,
            ["p1@1.0.1-0", "p2@1.0.1-0"]
        );
        assert_eq!(with(world, "u", "1.0.1-1").await, ["t@1.0.1-1"]);
        assert_eq!(follow_on(world).await.len(), 1);
        world.end_waves().await;
        assert_eq!(sent_since(world, before)[4..], expected);
        all_closed(world).await;
    })
    .await;
}

/// The parent comes while those that went without it are still away.
#[tokio::test]
async fn h06_it_comes_while_those_without_it_are_being_built() {
    survives(async |world: &mut World| {
        two_parents(world).await;
        world.outside.hold("p2");
        world.outside.hold("t");
        let before = count(world);
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.look_after(LATE).await;
        world.settle_down().await;
        assert_eq!(sent_since(world, before)[2..], ["t@1.0.1-0"]);
        world.outside.release("p2");
        world.settle_down().await;
        world.outside.release("t");
        world.settle_down().await;
        world.end_waves().await;
        let mut sent = sent_since(world, before)[3..].to_vec();
        sent.sort();
        assert_eq!(sent, ["t@1.0.1-1", "u@1.0.1-0", "u@1.0.1-1"]);
        assert_eq!(
            with(world, "t", "1.0.1-1").await,
            ["p1@1.0.1-0", "p2@1.0.1-0"]
        );
        assert_eq!(with(world, "u", "1.0.1-1").await, ["t@1.0.1-1"]);
        all_closed(world).await;
    })
    .await;
}

/// A node whose parents are all late is not rebuilt with nothing new; it is when one of them comes.
#[tokio::test]
async fn h06_nothing_new_is_not_sent_until_it_comes() {
    survives(async |world: &mut World| {
        two_parents(world).await;
        world.outside.hold("p1");
        world.outside.hold("p2");
        let before = count(world);
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.look_after(LATE).await;
        world.settle_down().await;
        assert_eq!(sent_since(world, before).len(), 2);
        let wave = wave_of(world, "root", "1.1.0").await.unwrap();
        let all = nodes(world, &wave).await;
        for name in ["t", "u"] {
            let (_, node) = &all[&NodeKey::package(&name.parse_name())];
            assert_eq!(node.standing(), Standing::Skipped, "{name}");
        }
        world.outside.release("p2");
        world.settle_down().await;
        assert_eq!(sent_since(world, before)[2..], ["t@1.0.1-0", "u@1.0.1-0"]);
        world.outside.release("p1");
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(sent_since(world, before)[4..], ["t@1.0.1-1", "u@1.0.1-1"]);
        assert_eq!(
            with(world, "t", "1.0.1-1").await,
            ["p1@1.0.1-0", "p2@1.0.1-0"]
        );
        assert_eq!(follow_on(world).await.len(), 2);
        all_closed(world).await;
    })
    .await;
}

/// The deadline of a parent counts from when it was sent: what waits for a paused neighbour is not late.
#[tokio::test]
async fn h06_what_is_not_sent_yet_is_not_late() {
    let mut world = World::new([]);
    two_parents(&mut world).await;
    world.publish_only("root", "1.1.0", &[]).await;
    world.pass(3 * LATE);
    let before = count(&world);
    world.drain().await;
    assert_eq!(sent_since(&world, before), ["p1@1.0.1-0", "p2@1.0.1-0"]);
    world.look_after(120_000).await;
    assert_eq!(
        count(&world),
        before + 2,
        "nobody is late after two minutes"
    );
    world.settle_down().await;
    assert_eq!(sent_since(&world, before)[2..], ["t@1.0.1-0", "u@1.0.1-0"]);
    world.end_waves().await;
    all_closed(&world).await;
}

/// A late parent in front of a chain: everything behind it follows, in order, once.
#[tokio::test]
async fn h06_a_chain_behind_a_late_parent() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        for (name, parent) in [("a", "root"), ("b", "a"), ("c", "b"), ("d", "c")] {
            world.publish(name, "1.0.0", &[(parent, "^1.0.0")]).await;
        }
        world.outside.hold("a");
        let before = count(world);
        world.publish("root", "1.1.0", &[]).await;
        world.look_after(LATE).await;
        world.settle_down().await;
        assert_eq!(sent_since(world, before), ["a@1.0.1-0"]);
        world.outside.release("a");
        world.settle_down().await;
        world.end_waves().await;
        let expected = ["b@1.0.1-0", "c@1.0.1-0", "d@1.0.1-0"];
        assert_eq!(sent_since(world, before)[1..], expected);
        all_closed(world).await;
    })
    .await;
}

/// Late twice: the rebuild that follows is late itself, and comes at last.
#[tokio::test]
async fn h06_late_in_the_wave_that_follows_too() {
    survives(async |world: &mut World| {
        two_parents(world).await;
        world.outside.hold("p2");
        let before = count(world);
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.look_after(LATE).await;
        world.settle_down().await;
        world.outside.hold("t");
        world.outside.release("p2");
        world.settle_down().await;
        world.look_after(LATE).await;
        world.settle_down().await;
        world.outside.release("t");
        world.settle_down().await;
        world.end_waves().await;
        let sent = sent_since(world, before);
        assert_eq!(sent[4..], ["t@1.0.1-1", "u@1.0.1-1"]);
        assert_eq!(with(world, "u", "1.0.1-1").await, ["t@1.0.1-1"]);
        all_closed(world).await;
    })
    .await;
}

/// In a cycle, what is not waited for starts nothing when it comes (rule 16).
#[tokio::test]
async fn h06_what_leads_back_starts_nothing() {
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    world
        .publish("a", "1.0.0", &[("root", "^1.0.0"), ("b", "^1.0.0")])
        .await;
    world.publish("b", "1.0.0", &[("a", "^1.0.0")]).await;
    world.settle_down().await;
    world.end_waves().await;
    world.outside.hold("b");
    let before = count(&world);
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    let sent = sent_since(&world, before);
    assert_eq!(sent.len(), 2, "{sent:?}");
    world.look_after(LATE).await;
    world.outside.release("b");
    world.settle_down().await;
    world.end_waves().await;
    assert_eq!(sent_since(&world, before), sent);
    all_closed(&world).await;
}
