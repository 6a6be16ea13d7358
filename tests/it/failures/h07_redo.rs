//! H7: "not applied" is not "done by somebody else". Whole stories with a death between any two steps.

use super::outside::Answer;
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
