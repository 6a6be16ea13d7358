//! H22: publishes that come close to each other share a wave (rule 14, setting `settle`).

use std::time::Duration;

use feedsme::model::wave::{Start, WaveState};
use feedsme::plan::{Confirm, Rules};

use crate::failures::crashing::Fault;
use crate::failures::outside::{manifest, posted};
use crate::failures::random::Dice;
use crate::failures::world::World;
use crate::places::{on_cassandra, rounds, some_of};

use super::told::{all_closed, attached, count, sent_since, waves, with};

const WINDOW: i64 = 10_000;

fn settling(faults: impl IntoIterator<Item = Fault>) -> World {
    let rules = Rules {
        settle: Duration::from_millis(u64::try_from(WINDOW).unwrap()),
        ..Rules::default()
    };
    World::with(rules, faults)
}

/// How many waves there are, of how many origins each; empty ones left out.
async fn trains(world: &World) -> Vec<usize> {
    let mut trains = Vec::new();
    for wave in waves(world).await {
        if matches!(wave.start, Start::Publish { .. }) {
            trains.push(world.inner.members(&wave.id).await.unwrap().len());
        }
    }
    trains
}

async fn two_roots(world: &mut World) {
    world.publish("r1", "1.0.0", &[]).await;
    world.publish("r2", "1.0.0", &[("r1", "^1.0.0")]).await;
    world
        .publish("t", "1.0.0", &[("r1", "^1.0.0"), ("r2", "^1.0.0")])
        .await;
    world.settle_down().await;
    world.end_waves().await;
}

/// A release train of two packages, of which one depends on the other: the second is not rebuilt, the tip once.
#[tokio::test]
async fn h22_a_train_is_one_wave() {
    let mut calm = settling([]);
    two_roots(&mut calm).await;
    let steps = calm.steps();
    for at in some_of(steps..steps + 150).step_by(if on_cassandra() { 1 } else { 4 }) {
        for fault in [Fault::Before(at), Fault::OnceAfter(at)] {
            let mut world = settling([fault]);
            two_roots(&mut world).await;
            let first = waves(&world).await.len();
            let before = count(&world);
            world.publish("r1", "1.1.0", &[]).await;
            world.publish("r2", "1.1.0", &[("r1", "^1.0.0")]).await;
            assert_eq!(count(&world), before, "nothing before the window ends");
            world.look_after(WINDOW + 1_000).await;
            world.settle_down().await;
            world.end_waves().await;
            assert_eq!(sent_since(&world, before), ["t@1.0.1-0"], "{fault:?}");
            assert_eq!(with(&world, "t", "1.0.1-0").await, ["r1@1.1.0", "r2@1.1.0"]);
            assert_eq!(
                attached(&world, "t", "1.0.1-0").await,
                ["r1@1.1.0", "r2@1.1.0"]
            );
            assert_eq!(
                attached(&world, "r2", "1.1.0").await,
                ["r1@1.1.0"],
                "{fault:?}"
            );
            assert_eq!(trains(&world).await[first..], [2], "{fault:?}");
            all_closed(&world).await;
        }
    }
}

/// The window is fixed: what comes after it begins another wave.
#[tokio::test]
async fn h22_the_window_does_not_slide() {
    let mut world = settling([]);
    two_roots(&mut world).await;
    let first = waves(&world).await.len();
    world.publish("r1", "1.1.0", &[]).await;
    world.look_after(WINDOW * 3 / 4).await;
    world.publish("r2", "1.1.0", &[("r1", "^1.0.0")]).await;
    world.look_after(WINDOW / 2).await;
    world.settle_down().await;
    let r3 = "r3";
    world.publish(r3, "1.0.0", &[]).await;
    world.look_after(2 * WINDOW).await;
    world.settle_down().await;
    world.end_waves().await;
    assert_eq!(trains(&world).await[first..], [2, 1]);
    all_closed(&world).await;
}

/// A second version of a package that is in it goes to the next wave.
#[tokio::test]
async fn h22_a_second_version_goes_to_the_next_wave() {
    let mut world = settling([]);
    two_roots(&mut world).await;
    let first = waves(&world).await.len();
    let before = count(&world);
    world.publish("r1", "1.1.0", &[]).await;
    world.publish("r1", "1.2.0", &[]).await;
    world.publish("r2", "1.1.0", &[("r1", "^1.0.0")]).await;
    world.look_after(2 * WINDOW).await;
    world.settle_down().await;
    world.end_waves().await;
    assert_eq!(trains(&world).await[first..], [1, 2]);
    let sent = sent_since(&world, before);
    let last = sent.iter().rev().find(|one| one.starts_with("t@")).unwrap();
    let version = last.trim_start_matches("t@");
    let found = with(&world, "t", version).await;
    assert_eq!(found[0], "r1@1.2.0", "{sent:?}");
    // Published with r1@1.2.0, so there is nothing that r1@1.1.0 would bring to it.
    assert_eq!(found[1], "r2@1.1.0", "{sent:?}");
    all_closed(&world).await;
}

/// Two publishes begin to collect at once, one of the two dying now and then: each is in one wave, which ends.
#[tokio::test]
async fn h22_two_begin_at_once() {
    for seed in 0..u64::try_from(rounds(60)).unwrap() {
        let mut dice = Dice::new(seed);
        let mut world = settling([]);
        two_roots(&mut world).await;
        world.publish("s", "1.0.0", &[("r1", "^1.0.0")]).await;
        world.look_after(2 * WINDOW).await;
        world.settle_down().await;
        world.end_waves().await;
        let before = count(&world);
        let first = waves(&world).await.len();
        let same = dice.below(2) == 0;
        let one = manifest("r1", "1.1.0", &[]);
        let other = if same {
            manifest("r1", "1.2.0", &[])
        } else {
            manifest("r2", "1.1.0", &[("r1", "^1.0.0")])
        };
        for one in [&one, &other] {
            world.outside.publish(one);
            world.post(&posted(one, None)).await;
        }
        let fault = |dice: &mut Dice| match dice.below(3) {
            0 => Fault::Before(dice.below(30)),
            1 => Fault::OnceAfter(dice.below(30)),
            _ => Fault::Never,
        };
        let faults = [fault(&mut dice), fault(&mut dice)];
        world.plan_two(faults, &mut dice).await;
        world.drain().await;
        world.look_after(2 * WINDOW).await;
        world.settle_down().await;
        world.end_waves().await;
        let trains: usize = trains(&world).await[first..].iter().sum();
        assert_eq!(trains, 2, "seed {seed}: each in one wave");
        for wave in waves(&world).await {
            let members = world.inner.members(&wave.id).await.unwrap();
            let twice = members.len() == 2 && members[0].1.parent == members[1].1.parent;
            assert!(!twice, "seed {seed}: two versions in one wave: {members:?}");
        }
        let sent = sent_since(&world, before);
        let expected: &[&str] = if same {
            &["r1@1.2.0", "r2@"]
        } else {
            &["r1@1.1.0", "r2@1.1."]
        };
        let last = sent.iter().rev().find(|one| one.starts_with("t@")).unwrap();
        let found = with(&world, "t", last.trim_start_matches("t@")).await;
        assert_eq!(found[0], expected[0], "seed {seed} {faults:?} {sent:?}");
        assert!(
            found[1].starts_with(expected[1]),
            "seed {seed} {faults:?} {found:?}"
        );
        all_closed(&world).await;
    }
}

/// It joins while the window is being closed: it is in that wave, or in the next.
#[tokio::test]
async fn h22_it_joins_while_the_window_ends() {
    for at in some_of(0..40) {
        let mut world = settling([]);
        two_roots(&mut world).await;
        let before = count(&world);
        world.publish("r1", "1.1.0", &[]).await;
        let r2 = manifest("r2", "1.1.0", &[("r1", "^1.0.0")]);
        world.outside.publish(&r2);
        world.post(&posted(&r2, None)).await;
        // Half-way through joining it dies, and the window ends before it is tried again.
        world.next_dies(Fault::Before(at));
        world.pass(WINDOW);
        world.looks_come_first().await;
        world.settle_down().await;
        world.look_after(2 * WINDOW).await;
        world.settle_down().await;
        world.end_waves().await;
        let sent = sent_since(&world, before);
        let last = sent.iter().rev().find(|one| one.starts_with("t@")).unwrap();
        let found = with(&world, "t", last.trim_start_matches("t@")).await;
        assert_eq!(found, ["r1@1.1.0", "r2@1.1.0"], "dies at {at}: {sent:?}");
        all_closed(&world).await;
    }
}

/// Notices of rebuilds never join: they belong to the wave that made them.
#[tokio::test]
async fn h22_notices_of_rebuilds_never_join() {
    let mut world = settling([]);
    two_roots(&mut world).await;
    world.publish("u", "1.0.0", &[("t", "^1.0.0")]).await;
    world.look_after(2 * WINDOW).await;
    world.settle_down().await;
    let first = waves(&world).await.len();
    let before = count(&world);
    world.publish("r1", "1.1.0", &[]).await;
    world.look_after(WINDOW + 1_000).await;
    // The first notice comes while another publish collects.
    world.publish("s", "1.0.0", &[]).await;
    world.settle_down().await;
    assert_eq!(
        sent_since(&world, before),
        ["r2@1.0.1-0", "t@1.0.1-0", "u@1.0.1-0"]
    );
    world.look_after(2 * WINDOW).await;
    world.end_waves().await;
    assert_eq!(trains(&world).await[first..], [1, 1]);
    all_closed(&world).await;
    let collecting = waves(&world).await;
    assert!(
        collecting
            .iter()
            .all(|wave| wave.state == WaveState::Closed)
    );
}

/// What a train began with is known as that: its members are not rebuilt because they are in the wave already, and under
/// `confirm = "outcome"` they are not waited for longer than the deadline.
#[tokio::test]
async fn h22_a_train_knows_what_it_began_with() {
    let mut world = settling([]);
    two_roots(&mut world).await;
    world.publish("r1", "1.1.0", &[]).await;
    world.publish("r2", "1.1.0", &[("r1", "^1.0.0")]).await;
    world.look_after(WINDOW + 1_000).await;
    world.settle_down().await;
    world.end_waves().await;
    let mut reasons = Vec::new();
    for change in world.inner.changes(None, 100).await.unwrap() {
        let decisions = world.inner.decisions(&change.id, 0, 100).await.unwrap();
        let of_pair = decisions.iter().filter(|one| {
            one.dependent.as_str() == "r2" && one.parent_version.to_string() == "1.1.0"
        });
        reasons.extend(of_pair.map(|one| one.reason.code().to_owned()));
    }
    assert_eq!(reasons, ["already_in_wave"]);

    let rules = Rules {
        settle: Duration::from_millis(u64::try_from(WINDOW).unwrap()),
        confirm: Confirm::Outcome,
        ..Rules::default()
    };
    let mut world = World::with(rules, []);
    two_roots(&mut world).await;
    world.publish("r1", "1.1.0", &[]).await;
    world.look_after(WINDOW + 1_000).await;
    // No outcome ever comes.
    world.end_waves().await;
    all_closed(&world).await;
}
