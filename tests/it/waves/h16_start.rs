//! H16: a wave's plan is a prediction; what happens is truth.

use crate::failures::crashing::Fault;
use crate::failures::outside::{manifest, posted};
use crate::failures::random::Dice;
use crate::failures::survive::survives;
use crate::failures::world::World;
use crate::places::{rounds, some_of};

use super::told::{all_closed, count, sent_since, wave_of, with};

/// It began to depend on a node of the wave after the wave's start: it goes with it.
#[tokio::test]
async fn h16_a_dependent_appears_after_the_start() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("a", "1.0.0", &[("root", "^1.0.0")]).await;
        world.outside.hold("a");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.publish("new", "1.0.0", &[("a", "^1.0.0")]).await;
        world.publish("newer", "1.0.0", &[("new", "^1.0.0")]).await;
        world.settle_down().await;
        let before = count(world);
        world.outside.release("a");
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(sent_since(world, before), ["new@1.0.1-0", "newer@1.0.1-0"]);
        assert_eq!(with(world, "newer", "1.0.1-0").await, ["new@1.0.1-0"]);
        all_closed(world).await;
    })
    .await;
}

/// A new dependent of two nodes of the plan waits for both.
#[tokio::test]
async fn h16_a_new_dependent_waits_for_the_plan() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("a", "1.0.0", &[("root", "^1.0.0")]).await;
        world.publish("b", "1.0.0", &[("root", "^1.0.0")]).await;
        world.outside.hold("a");
        world.outside.hold("b");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world
            .publish("new", "1.0.0", &[("a", "^1.0.0"), ("b", "^1.0.0")])
            .await;
        world.settle_down().await;
        let before = count(world);
        world.outside.release("a");
        world.settle_down().await;
        assert_eq!(count(world), before);
        world.outside.release("b");
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(sent_since(world, before), ["new@1.0.1-0"]);
        assert_eq!(
            with(world, "new", "1.0.1-0").await,
            ["a@1.0.1-0", "b@1.0.1-0"]
        );
        all_closed(world).await;
    })
    .await;
}

/// It no longer depends on what the plan waits for: it is not rebuilt, and nobody waits for it.
#[tokio::test]
async fn h16_a_dependent_that_dropped_it_is_skipped() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("a", "1.0.0", &[("root", "^1.0.0")]).await;
        world.publish("t", "1.0.0", &[("a", "^1.0.0")]).await;
        world
            .publish("u", "1.0.0", &[("t", "^1.0.0"), ("a", "^1.0.0")])
            .await;
        world.outside.hold("a");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.publish("t", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(world);
        world.outside.release("a");
        world.settle_down().await;
        world.end_waves().await;
        let sent = sent_since(world, before);
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].starts_with("u@1.0.1-"), "{sent:?}");
        let version = sent[0].trim_start_matches("u@");
        assert_eq!(with(world, "u", version).await, ["a@1.0.1-0", "t@1.1.0"]);
        all_closed(world).await;
    })
    .await;
}

/// The same publish is planned by two at once: one plan, everybody once.
#[tokio::test]
async fn h16_one_of_two_plans_is_the_plan() {
    for seed in 0..u64::try_from(rounds(40)).unwrap() {
        let mut dice = Dice::new(seed);
        let mut world = World::new([]);
        world.publish("root", "1.0.0", &[]).await;
        for (name, parents) in [("a", &["root"][..]), ("b", &["root"]), ("c", &["a", "b"])] {
            let edges: Vec<(&str, &str)> = parents.iter().map(|one| (*one, "^1.0.0")).collect();
            world.publish(name, "1.0.0", &edges).await;
        }
        let root = manifest("root", "1.1.0", &[]);
        world.outside.publish(&root);
        world.post(&posted(&root, None)).await;
        world.post(&posted(&root, None)).await;
        let fault = |dice: &mut Dice| match dice.below(3) {
            0 => Fault::Before(dice.below(50)),
            1 => Fault::OnceAfter(dice.below(50)),
            _ => Fault::Never,
        };
        let faults = [fault(&mut dice), fault(&mut dice)];
        world.plan_two(faults, &mut dice).await;
        world.settle_down().await;
        world.end_waves().await;
        let mut sent = sent_since(&world, 0);
        sent.sort();
        let expected = ["a@1.0.1-0", "b@1.0.1-0", "c@1.0.1-0"];
        assert_eq!(sent, expected, "seed {seed} {faults:?}");
        all_closed(&world).await;
    }
}

/// A look at the wave comes between a notice and what follows from it: who appeared after the start is not forgotten.
#[tokio::test]
async fn h16_looks_in_between_lose_nobody() {
    for at in some_of(0..120) {
        let mut world = World::new([]);
        world.publish("root", "1.0.0", &[]).await;
        world.publish("a", "1.0.0", &[("root", "^1.0.0")]).await;
        world.outside.hold("a");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.publish("new", "1.0.0", &[("a", "^1.0.0")]).await;
        world.publish("newer", "1.0.0", &[("new", "^1.0.0")]).await;
        world.settle_down().await;
        let before = count(&world);
        world.outside.release("a");
        world.next_dies(Fault::Before(at));
        let notice = world.outside.notices.pop_front().unwrap();
        world.post(&notice).await;
        world.looks_come_first().await;
        world.settle_down().await;
        world.end_waves().await;
        let expected = ["new@1.0.1-0", "newer@1.0.1-0"];
        assert_eq!(sent_since(&world, before), expected, "dies at {at}");
        all_closed(&world).await;
        if !world.has_struck() {
            return;
        }
    }
    panic!("it dies in every round");
}

/// A publish that reaches nobody opens no wave.
#[tokio::test]
async fn h16_nothing_to_rebuild_no_wave() {
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    world.publish("a", "1.0.0", &[("root", "1.0.0")]).await;
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    assert!(wave_of(&world, "root", "1.1.0").await.is_none());
    assert_eq!(count(&world), 0);
}
