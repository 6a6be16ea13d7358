//! H14: a promotion while the wave that makes its pairs still runs (rule 12).

use feedsme::model::wave::WaveState;

use crate::failures::crashing::Fault;
use crate::failures::random::Dice;
use crate::failures::survive::survives;
use crate::failures::world::World;
use crate::places::{rounds, some_of};

use super::told::{all_closed, count, line, sent_since, waves};

async fn packages(world: &mut World, packages: &[(&str, &[&str])]) {
    for (name, parents) in packages {
        let edges: Vec<(&str, &str)> = parents.iter().map(|one| (*one, "^1.0.0")).collect();
        world.publish(name, "1.0.0", &edges).await;
    }
    world.settle_down().await;
}

fn promotions(world: &World, before: usize) -> Vec<String> {
    let mut sent = sent_since(world, before);
    sent.retain(|one| one.ends_with(" test"));
    sent.sort();
    sent
}

/// Three of twenty dependents are in the line when it is promoted; the others are sent when they are attached.
#[tokio::test]
async fn h14_three_of_twenty_are_in_the_line_yet() {
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    let names: Vec<String> = (0..20).map(|at| format!("child{at:02}")).collect();
    for name in &names {
        world.publish(name, "1.0.0", &[("root", "^1.0.0")]).await;
    }
    for name in &names[3..] {
        world.outside.hold(name);
    }
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    assert_eq!(line(&world, "root", "1.1.0").await.len(), 3);
    let before = count(&world);
    world.promote("root", "1.1.0", "test").await;
    world.settle_down().await;
    assert_eq!(promotions(&world, before).len(), 3);
    let wave = waves(&world).await.pop().unwrap();
    world.look_after(120_000).await;
    let still = world.inner.wave(&wave.id).await.unwrap().unwrap();
    assert_eq!(still.state, WaveState::Open, "it ends after the dev wave");
    for name in &names[3..] {
        world.outside.release(name);
        world.settle_down().await;
    }
    let expected: Vec<String> = names
        .iter()
        .map(|name| format!("{name}@1.0.1-0 test"))
        .collect();
    assert_eq!(promotions(&world, before), expected);
    world.end_waves().await;
    assert_eq!(promotions(&world, before), expected);
    all_closed(&world).await;
}

/// The rest is sent through every level.
#[tokio::test]
async fn h14_every_level_is_sent_late() {
    survives(async |world: &mut World| {
        packages(
            world,
            &[
                ("root", &[]),
                ("a", &["root"]),
                ("b", &["a"]),
                ("c", &["b", "root"]),
            ],
        )
        .await;
        world.outside.hold("a");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(world);
        world.promote("root", "1.1.0", "test").await;
        world.settle_down().await;
        world.outside.release("a");
        world.settle_down().await;
        let expected = ["a@1.0.1-0 test", "b@1.0.1-0 test", "c@1.0.1-0 test"];
        assert_eq!(promotions(world, before), expected);
        world.end_waves().await;
        assert_eq!(promotions(world, before), expected);
        all_closed(world).await;
    })
    .await;
}

/// A pair that waits in the promotion's wave is attached to lines of its own meanwhile.
#[tokio::test]
async fn h14_what_goes_with_a_pair_that_waits_still() {
    survives(async |world: &mut World| {
        packages(
            world,
            &[
                ("root", &[]),
                ("u", &["root"]),
                ("t", &["root", "u"]),
                ("v", &["t"]),
            ],
        )
        .await;
        world.outside.hold("t");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(world);
        // u is in the line; its build in test takes long.
        world.outside.hold("u");
        world.promote("root", "1.1.0", "test").await;
        world.settle_down().await;
        assert_eq!(promotions(world, before), ["u@1.0.1-0 test"]);
        // The wave in dev goes on to its end: t, then v.
        world.outside.release("t");
        world.settle_down().await;
        world.outside.release("u");
        world.settle_down().await;
        world.end_waves().await;
        let expected = ["t@1.0.1-0 test", "u@1.0.1-0 test", "v@1.0.1-0 test"];
        assert_eq!(promotions(world, before), expected);
        all_closed(world).await;
    })
    .await;
}

/// What is attached by a publish by hand changes the line only.
#[tokio::test]
async fn h14_attachments_of_other_origin_only_change_the_line() {
    survives(async |world: &mut World| {
        packages(world, &[("root", &[]), ("a", &["root"])]).await;
        world.outside.hold("a");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(world);
        world.promote("root", "1.1.0", "test").await;
        world.settle_down().await;
        world.publish("other", "3.0.0", &[("root", "^1.0.0")]).await;
        world.settle_down().await;
        assert_eq!(line(world, "root", "1.1.0").await, ["other@3.0.0"]);
        assert_eq!(promotions(world, before), Vec::<String>::new());
        world.outside.release("a");
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(promotions(world, before), ["a@1.0.1-0 test"]);
        all_closed(world).await;
    })
    .await;
}

/// A promotion that comes after the wave has ended does not wait for anything.
#[tokio::test]
async fn h14_a_promotion_after_the_wave_has_ended() {
    let mut world = World::new([]);
    packages(&mut world, &[("root", &[]), ("a", &["root"])]).await;
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    world.end_waves().await;
    let before = count(&world);
    world.promote("root", "1.1.0", "test").await;
    world.settle_down().await;
    assert_eq!(promotions(&world, before), ["a@1.0.1-0 test"]);
    let wave = waves(&world).await.pop().unwrap();
    assert_eq!(wave.state, WaveState::Closed);
    assert!(wave.pending_on.is_empty());
}

/// The promotion is planned while the notice is handled, their calls in any order, one of the two dying now and then.
#[tokio::test]
async fn h14_the_promotion_and_the_notice_at_once() {
    for seed in 0..u64::try_from(rounds(60)).unwrap() {
        let mut dice = Dice::new(seed);
        let mut world = World::new([]);
        packages(
            &mut world,
            &[
                ("root", &[]),
                ("a", &["root"]),
                ("b", &["root"]),
                ("c", &["a", "b"]),
            ],
        )
        .await;
        world.publish("root", "1.1.0", &[]).await;
        let before = count(&world);
        // The last notice of the first level is handled at the same time.
        let notice = world.outside.notices.pop_front().unwrap();
        world.post(&notice).await;
        let promotion = world.outside.document("root", "1.1.0");
        let promotion = crate::failures::outside::posted(&promotion, Some("test"));
        world.post(&promotion).await;
        let fault = |dice: &mut Dice| match dice.below(4) {
            0 => Fault::Before(dice.below(40)),
            1 => Fault::OnceAfter(dice.below(40)),
            _ => Fault::Never,
        };
        let faults = [fault(&mut dice), fault(&mut dice)];
        world.plan_two(faults, &mut dice).await;
        // Time passes before, or after, the work that was left.
        world.settle_down().await;
        world.end_waves().await;
        let expected = ["a@1.0.1-0 test", "b@1.0.1-0 test", "c@1.0.1-0 test"];
        assert_eq!(
            promotions(&world, before),
            expected,
            "seed {seed} {faults:?}"
        );
        all_closed(&world).await;
    }
}

/// A wave's look comes between a notice and what follows from it: nothing is lost by the promotion's end.
#[tokio::test]
async fn h14_looks_in_between_lose_nothing() {
    for at in some_of(0..120) {
        let mut world = World::new([]);
        packages(&mut world, &[("root", &[]), ("a", &["root"])]).await;
        world.outside.hold("a");
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        let before = count(&world);
        world.promote("root", "1.1.0", "test").await;
        world.settle_down().await;
        world.outside.release("a");
        world.next_dies(Fault::Before(at));
        let notice = world.outside.notices.pop_front().unwrap();
        world.post(&notice).await;
        world.looks_come_first().await;
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(
            promotions(&world, before),
            ["a@1.0.1-0 test"],
            "dies at {at}"
        );
        all_closed(&world).await;
        if !world.has_struck() {
            return;
        }
    }
    panic!("it dies in every round");
}
