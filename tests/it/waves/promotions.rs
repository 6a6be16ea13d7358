//! Promotions as waves: through every level, each pair once, forward and back (rules 12, 13).

use crate::failures::survive::survives;
use crate::failures::world::World;

use super::told::{all_closed, count, line, sent_since};

fn test(sent: &[String], env: &str) -> Vec<String> {
    let of_env = sent.iter().filter_map(|one| one.strip_suffix(env));
    of_env.map(|one| one.trim_end().to_owned()).collect()
}

/// root ← a ← b ← c ← d ← e.
async fn chain(world: &mut World) {
    world.publish("root", "1.0.0", &[]).await;
    for (name, parent) in [
        ("a", "root"),
        ("b", "a"),
        ("c", "b"),
        ("d", "c"),
        ("e", "d"),
    ] {
        world.publish(name, "1.0.0", &[(parent, "^1.0.0")]).await;
    }
    world.settle_down().await;
}

/// A chain of five levels promotes to prod with the right version at every level.
#[tokio::test]
async fn rule_12_five_levels_to_prod() {
    survives(async |world: &mut World| {
        chain(world).await;
        for version in ["1.1.0", "1.2.0"] {
            world.publish("root", version, &[]).await;
            world.settle_down().await;
        }
        world.end_waves().await;
        for env in ["test", "prod"] {
            for (root, dependents) in [("1.1.0", "1.0.1-0"), ("1.2.0", "1.0.1-1")] {
                let before = count(world);
                world.promote("root", root, env).await;
                world.settle_down().await;
                world.end_waves().await;
                let expected =
                    ["a", "b", "c", "d", "e"].map(|name| format!("{name}@{dependents} {env}"));
                assert_eq!(sent_since(world, before), expected);
            }
        }
        all_closed(world).await;
    })
    .await;
}

/// However many paths lead there, one build of each (dependent, version, environment), after all of its parents.
#[tokio::test]
async fn rule_12_one_build_however_many_paths() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        for (name, parents) in [
            ("a", &["root"][..]),
            ("b", &["root"]),
            ("c", &["root", "a"]),
            ("tip", &["a", "b", "c", "root"]),
            ("after", &["tip", "a"]),
        ] {
            let edges: Vec<(&str, &str)> = parents.iter().map(|one| (*one, "^1.0.0")).collect();
            world.publish(name, "1.0.0", &edges).await;
        }
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.end_waves().await;
        let before = count(world);
        world.promote("root", "1.1.0", "test").await;
        world.settle_down().await;
        world.end_waves().await;
        let sent = test(&sent_since(world, before), "test");
        assert_eq!(sent.len(), 5, "{sent:?}");
        let place = |name: &str| sent.iter().position(|one| one.starts_with(name)).unwrap();
        assert!(
            place("a@") < place("c@") && place("c@") < place("tip@"),
            "{sent:?}"
        );
        assert!(
            place("b@") < place("tip@") && place("tip@") < place("after@"),
            "{sent:?}"
        );
        all_closed(world).await;
    })
    .await;
}

/// Two roots that lead to one pair are promoted at the same time: it is built once.
#[tokio::test]
async fn rule_12_two_promotions_share_a_pair() {
    survives(async |world: &mut World| {
        world.publish("r1", "1.0.0", &[]).await;
        world.publish("r2", "1.0.0", &[]).await;
        world
            .publish("t", "1.0.0", &[("r1", "^1.0.0"), ("r2", "^1.0.0")])
            .await;
        world.publish("u", "1.0.0", &[("t", "^1.0.0")]).await;
        world.settle_down().await;
        let before = count(world);
        world.promote_only("r1", "1.0.0", "test").await;
        world.promote_only("r2", "1.0.0", "test").await;
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(sent_since(world, before), ["t@1.0.0 test", "u@1.0.0 test"]);
        all_closed(world).await;
    })
    .await;
}

/// Rollback is a promotion of an older version, through every level; and forward again.
#[tokio::test]
async fn rule_13_rollback_through_every_level() {
    survives(async |world: &mut World| {
        chain(world).await;
        for version in ["1.1.0", "1.2.0"] {
            world.publish("root", version, &[]).await;
            world.settle_down().await;
        }
        world.end_waves().await;
        let roots = [("1.1.0", "1.0.1-0"), ("1.2.0", "1.0.1-1")];
        for (root, dependents) in [roots[0], roots[1], roots[0], roots[1]] {
            let before = count(world);
            world.promote("root", root, "prod").await;
            world.settle_down().await;
            world.end_waves().await;
            let expected =
                ["a", "b", "c", "d", "e"].map(|name| format!("{name}@{dependents} prod"));
            assert_eq!(sent_since(world, before), expected, "{root}");
        }
        all_closed(world).await;
    })
    .await;
}

/// A later promotion comes while the earlier one is half-way: what was not sent of the earlier one is not sent.
#[tokio::test]
async fn rule_13_a_later_promotion_overtakes() {
    let mut world = World::new([]);
    chain(&mut world).await;
    for version in ["1.1.0", "1.2.0"] {
        world.publish("root", version, &[]).await;
        world.settle_down().await;
    }
    world.end_waves().await;
    let before = count(&world);
    world.outside.hold("a");
    world.promote("root", "1.1.0", "test").await;
    world.settle_down().await;
    world.promote("root", "1.2.0", "test").await;
    world.settle_down().await;
    world.outside.release("a");
    world.settle_down().await;
    world.end_waves().await;
    let sent = test(&sent_since(&world, before), "test");
    for name in ["a", "b", "c", "d", "e"] {
        let of_package: Vec<&String> = sent.iter().filter(|one| one.starts_with(name)).collect();
        assert_eq!(
            of_package.last().map(|one| one.as_str()),
            Some(&*format!("{name}@1.0.1-1")),
            "{sent:?}"
        );
        assert!(of_package.len() <= 2, "{sent:?}");
    }
    all_closed(&world).await;
}

/// A parent of the promotion is late: the rest goes on; what was not sent because of it is sent when it comes.
#[tokio::test]
async fn h06_a_late_pair_is_brought_on() {
    survives(async |world: &mut World| {
        chain(world).await;
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(line(world, "a", "1.0.1-0").await, ["b@1.0.1-0"]);
        let before = count(world);
        world.outside.hold("b");
        world.promote("root", "1.1.0", "test").await;
        world.settle_down().await;
        world.look_after(31 * 60_000).await;
        world.settle_down().await;
        assert_eq!(
            sent_since(world, before),
            ["a@1.0.1-0 test", "b@1.0.1-0 test"]
        );
        world.outside.release("b");
        world.settle_down().await;
        world.end_waves().await;
        let expected = ["c@1.0.1-0 test", "d@1.0.1-0 test", "e@1.0.1-0 test"];
        assert_eq!(sent_since(world, before)[2..], expected);
        all_closed(world).await;
    })
    .await;
}
