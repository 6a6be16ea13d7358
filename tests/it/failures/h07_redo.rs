//! H7: "not applied" is not "done by somebody else". Whole stories with a death between any two steps.

use super::crashing::Fault;
use super::outside::Answer;
use super::picture::partition;
use super::survive::survives;
use super::world::World;

/// contract.md 4.1, rows 0 to 8.
#[tokio::test]
async fn h7_the_readme_sequence_survives_a_death_at_every_step() {
    survives(async |world: &mut World| {
        world.publish("root", "5.2.2", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^5.0.0")]).await;
        world.publish("root", "5.2.3", &[]).await;
        world.settle_down().await;
        for env in ["test", "prod"] {
            world.promote("root", "5.2.3", env).await;
            world.settle_down().await;
        }
        world.publish("root", "6.0.0", &[]).await;
        world.settle_down().await;
        world.publish("child", "6.0.0", &[("root", "^6.0.0")]).await;
        for env in ["test", "prod"] {
            world.promote("root", "6.0.0", env).await;
            world.settle_down().await;
        }
        world.publish("root", "5.3.0", &[]).await;
        world.settle_down().await;
        for env in ["test", "prod"] {
            world.promote("root", "5.3.0", env).await;
            world.settle_down().await;
        }
        world.publish("root", "6.1.0", &[]).await;
        world.settle_down().await;
        let line = |version: &str| {
            let (store, version) = (world.inner.clone(), version.parse_version());
            async move {
                let line = store
                    .line_dependents(&"root".parse_name(), &version, None, 10)
                    .await
                    .unwrap();
                line.into_iter()
                    .map(|(name, version)| format!("{name}@{version}"))
                    .collect::<Vec<_>>()
            }
        };
        assert_eq!(line("5.2.2").await, ["child@5.0.0"]);
        assert_eq!(line("5.2.3").await, ["child@5.0.1-0"]);
        assert_eq!(line("6.0.0").await, ["child@6.0.0"]);
        assert_eq!(line("5.3.0").await, ["child@5.0.1-1"]);
        assert_eq!(line("6.1.0").await, ["child@6.0.1-0"]);
    })
    .await;
}

use super::world::Parse as _;

/// Two paths to the same package, and a chain above it.
#[tokio::test]
async fn h7_a_diamond_with_a_cascade_survives_a_death_at_every_step() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("left", "1.0.0", &[("root", "^1.0.0")]).await;
        world.publish("right", "1.0.0", &[("root", "^1.0.0")]).await;
        world
            .publish(
                "bottom",
                "1.0.0",
                &[("left", "^1.0.0"), ("right", "^1.0.0")],
            )
            .await;
        world
            .publish("far", "1.0.0", &[("bottom", "^1.0.0"), ("root", "^1.0.0")])
            .await;
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.promote("root", "1.1.0", "test").await;
        world.settle_down().await;
        assert_eq!(world.outside.counts().len(), 8);
    })
    .await;
}

/// Neighbours that fail, cut off and are away between the deaths.
#[tokio::test]
async fn h7_retries_survive_a_death_at_every_step() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "1.0.0", &[("root", "^1.0.0")]).await;
        world
            .publish("grandchild", "1.0.0", &[("child", "^1.0.0")])
            .await;
        let answers = |version: &str, list: &[Answer]| {
            (
                ("child".to_owned(), version.to_owned()),
                list.iter().copied().collect(),
            )
        };
        world.outside.answers = [
            answers("1.0.1-0", &[Answer::BROKEN, Answer::AWAY, Answer::BROKEN]),
            answers("1.0.1-1", &[Answer::CUT]),
        ]
        .into();
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.publish("root", "1.2.0", &[]).await;
        world.settle_down().await;
    })
    .await;
}

/// root@1.1.0 leads to a rebuild of child whose first three attempts fail; the times between its attempts, in
/// milliseconds, after those of which it was recorded that they failed.
async fn pauses(world: &mut World) -> Vec<i64> {
    world.publish("root", "1.0.0", &[]).await;
    world.publish("child", "1.0.0", &[("root", "^1.0.0")]).await;
    let key = ("child".to_owned(), "1.0.1-0".to_owned());
    let answers = [Answer::BROKEN; 3];
    world.outside.answers.insert(key, answers.into());
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    let child = partition(&*world.inner, &"child".parse_name(), &[]).await;
    let rebuild = child.rows.iter().find_map(|row| row.rebuild.as_ref());
    let attempts = world.inner.attempts(&rebuild.unwrap().id).await.unwrap();
    let after = |pair: &[feedsme::store::Attempt]| {
        (pair[0].outcome == "retry" && pair[1].number == pair[0].number + 1)
            .then(|| pair[1].started - pair[0].ended)
    };
    attempts.windows(2).filter_map(after).collect()
}

/// Whoever dies, and wherever, between the record of a failed attempt and the work of the next one.
#[tokio::test]
async fn h7_a_retry_keeps_its_delay_over_a_death_at_every_step() {
    let mut calm = World::new([]);
    assert_eq!(pauses(&mut calm).await.len(), 3);
    for at in 0..calm.steps() {
        for fault in [Fault::Before(at), Fault::After(at)] {
            let pauses = pauses(&mut World::new([fault])).await;
            assert!(!pauses.is_empty(), "{fault:?}");
            assert!(
                pauses.iter().all(|pause| (990..5_000).contains(pause)),
                "{fault:?}: {pauses:?}"
            );
        }
    }
}
