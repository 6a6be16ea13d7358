//! H10: a publish by hand of a package that a wave will rebuild takes the node's place only if it was built with
//! everything that the node waits for (rule 14).

use crate::failures::survive::survives;
use crate::failures::world::World;
use crate::places::some_of;

use super::told::{all_closed, attached, count, sent_since, wave_of, with};

const RANGES: [(&str, &str); 2] = [("p1", "^1.0.0"), ("p2", "^1.0.0")];

async fn two_parents(world: &mut World) {
    world.publish("root", "1.0.0", &[]).await;
    world.publish("p1", "1.0.0", &[("root", "^1.0.0")]).await;
    world.publish("p2", "1.0.0", &[("root", "^1.0.0")]).await;
    world.publish("t", "1.0.0", &RANGES).await;
    world.publish("u", "1.0.0", &[("t", "^1.0.0")]).await;
}

/// It comes when one of two parents is there: it was built with the old one of the other, so the wave rebuilds it.
#[tokio::test]
async fn h10_built_with_half_of_it_takes_no_place() {
    survives(async |world: &mut World| {
        two_parents(world).await;
        world.outside.hold("p2");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(world);
        world.publish("t", "1.1.0", &RANGES).await;
        world.settle_down().await;
        assert_eq!(with(world, "t", "1.1.0").await, ["p1@1.0.1-0", "p2@1.0.0"]);
        assert!(
            wave_of(world, "t", "1.1.0").await.is_some(),
            "it opens its own"
        );
        assert_eq!(sent_since(world, before), ["u@1.0.1-0"]);
        world.outside.release("p2");
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(
            sent_since(world, before),
            ["u@1.0.1-0", "t@1.1.1-0", "u@1.0.1-1"]
        );
        assert_eq!(
            with(world, "t", "1.1.1-0").await,
            ["p1@1.0.1-0", "p2@1.0.1-0"]
        );
        assert_eq!(with(world, "u", "1.0.1-1").await, ["t@1.1.1-0"]);
        all_closed(world).await;
    })
    .await;
}

/// Its rebuild is reserved but not sent when it comes: it supersedes it and goes on in the wave.
#[tokio::test]
async fn h10_before_its_rebuild_was_sent_it_takes_the_place() {
    survives(async |world: &mut World| {
        two_parents(world).await;
        world.outside.hold("p1");
        world.outside.hold("p2");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(world);
        world.outside.release("p1");
        world.outside.release("p2");
        while let Some(notice) = world.outside.notices.pop_front() {
            world.post(&notice).await;
            world.plan().await;
        }
        world.publish_only("t", "1.1.0", &RANGES).await;
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(sent_since(world, before), ["u@1.0.1-0"]);
        assert!(
            wave_of(world, "t", "1.1.0").await.is_none(),
            "it is part of the other"
        );
        assert_eq!(with(world, "u", "1.0.1-0").await, ["t@1.1.0"]);
        assert_eq!(
            attached(world, "t", "1.1.0").await,
            ["p1@1.0.1-0", "p2@1.0.1-0"]
        );
        all_closed(world).await;
    })
    .await;
}

/// It was built with everything, before the wave came to it: nothing is rebuilt with nothing new.
#[tokio::test]
async fn h10_built_with_everything_nothing_is_rebuilt() {
    // p2's notice, t's publish by hand: handled in this order, the release of t comes after both.
    for dies in some_of(0..60) {
        let mut world = World::new([]);
        two_parents(&mut world).await;
        world.outside.hold("p2");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(&world);
        world.outside.release("p2");
        let notice = world.outside.notices.pop_front().unwrap();
        world.next_dies(crate::failures::crashing::Fault::OnceBefore(dies));
        world.post(&notice).await;
        // One try at the notice, which may fail half-way.
        world.step().await;
        let manifest = crate::failures::outside::manifest("t", "1.1.0", &RANGES);
        world.outside.publish(&manifest);
        world
            .post(&crate::failures::outside::posted(&manifest, None))
            .await;
        world.settle_down().await;
        world.end_waves().await;
        let sent = sent_since(&world, before);
        let tips: Vec<&String> = sent.iter().filter(|one| one.starts_with("t@")).collect();
        let newest = match tips.len() {
            0 => "1.1.0",
            // t@1.0.1-0 was not there to be superseded, or t@1.1.0 was handled before p2's notice.
            1 => "1.1.1-0",
            _ => panic!("{dies}: {sent:?}"),
        };
        let expected = ["p1@1.0.1-0", "p2@1.0.1-0"];
        assert_eq!(
            with(&world, "t", newest).await,
            expected,
            "{dies}: {sent:?}"
        );
        let last = sent.iter().rev().find(|one| one.starts_with("u@")).unwrap();
        let last = last.trim_start_matches("u@");
        assert_eq!(
            with(&world, "u", last).await,
            [format!("t@{newest}")],
            "{dies}: {sent:?}"
        );
        all_closed(&world).await;
    }
}

/// Another major is not what the wave's node would be made from: both go their way.
#[tokio::test]
async fn h10_another_major_opens_its_own_wave() {
    survives(async |world: &mut World| {
        two_parents(world).await;
        world.outside.hold("p2");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(world);
        world
            .publish("t", "2.0.0", &[("p1", "^2.0.0"), ("p2", "^2.0.0")])
            .await;
        world.settle_down().await;
        world.outside.release("p2");
        world.settle_down().await;
        world.end_waves().await;
        // The wave's t is made from the version that admits p1 and p2.
        assert_eq!(sent_since(world, before), ["t@1.0.1-0", "u@1.0.1-0"]);
        assert_eq!(with(world, "u", "1.0.1-0").await, ["t@1.0.1-0"]);
        all_closed(world).await;
    })
    .await;
}

/// It was published before the parent's notice came, with the old parent: the wave rebuilds the new one.
#[tokio::test]
async fn h10_first_by_hand_then_the_parent() {
    survives(async |world: &mut World| {
        two_parents(world).await;
        world.outside.hold("p1");
        world.outside.hold("p2");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(world);
        world.publish("t", "1.1.0", &RANGES).await;
        world.settle_down().await;
        assert_eq!(sent_since(world, before), ["u@1.0.1-0"]);
        world.outside.release("p2");
        world.outside.release("p1");
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(
            sent_since(world, before),
            ["u@1.0.1-0", "t@1.1.1-0", "u@1.0.1-1"]
        );
        all_closed(world).await;
    })
    .await;
}
