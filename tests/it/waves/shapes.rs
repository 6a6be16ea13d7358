//! Graphs of known shapes: everybody once, nobody early, all done at the end (rules 15, 16).

use std::collections::{BTreeMap, BTreeSet};

use crate::failures::survive::survives;
use crate::failures::world::World;
use crate::places::on_cassandra;

use super::told::{all_closed, count, facts, follow_on, nodes, sent_since, wave_of, waves, with};

/// Publishes packages by hand, each with what it depends on by `^1.0.0`.
async fn graph(world: &mut World, packages: &[(&str, &[&str])]) {
    for (name, parents) in packages {
        let edges: Vec<(&str, &str)> = parents.iter().map(|one| (*one, "^1.0.0")).collect();
        world.publish(name, "1.0.0", &edges).await;
        world.settle_down().await;
    }
    world.end_waves().await;
}

/// A new version of the root, with the edges of the first one; all notices come. What was sent.
async fn bump(world: &mut World, root: &str, edges: &[(&str, &str)]) -> Vec<String> {
    let before = count(world);
    world.publish(root, "1.1.0", edges).await;
    world.settle_down().await;
    let sent = sent_since(world, before);
    world.end_waves().await;
    assert_eq!(sent_since(world, before), sent, "more was sent at the end");
    all_closed(world).await;
    assert!(follow_on(world).await.is_empty());
    sent
}

#[tokio::test]
async fn rule_15_a_diamond_sends_its_tip_once_after_both() {
    survives(async |world: &mut World| {
        graph(
            world,
            &[
                ("root", &[]),
                ("a", &["root"]),
                ("b", &["root"]),
                ("tip", &["a", "b"]),
            ],
        )
        .await;
        let sent = bump(world, "root", &[]).await;
        assert_eq!(sent.len(), 3, "{sent:?}");
        assert_eq!(sent[2], "tip@1.0.1-0");
        assert_eq!(
            with(world, "tip", "1.0.1-0").await,
            ["a@1.0.1-0", "b@1.0.1-0"]
        );
    })
    .await;
}

/// The tip of a diamond does not go when one of its parents is back.
#[tokio::test]
async fn rule_15_a_tip_waits_for_the_slower_parent() {
    for slow in ["a", "b"] {
        let mut world = World::new([]);
        graph(
            &mut world,
            &[
                ("root", &[]),
                ("a", &["root"]),
                ("b", &["root"]),
                ("tip", &["a", "b"]),
            ],
        )
        .await;
        world.outside.hold(slow);
        let before = count(&world);
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.look_after(20 * 60_000).await;
        world.settle_down().await;
        assert_eq!(
            count(&world),
            before + 2,
            "{:?}",
            sent_since(&world, before)
        );
        world.outside.release(slow);
        world.settle_down().await;
        assert_eq!(sent_since(&world, before)[2], "tip@1.0.1-0");
        world.end_waves().await;
        all_closed(&world).await;
    }
}

#[tokio::test]
async fn rule_15_a_ladder_climbs_rung_by_rung() {
    let mut world = World::new([]);
    let mut names = vec![("root".to_owned(), Vec::new())];
    for rung in 0..6 {
        for (side, other) in [("l", "r"), ("r", "l")] {
            let parents = if rung == 0 {
                vec!["root".to_owned()]
            } else {
                vec![
                    format!("{side}{}", rung - 1),
                    format!("{other}{}", rung - 1),
                ]
            };
            names.push((format!("{side}{rung}"), parents));
        }
    }
    let parents: Vec<(&str, Vec<&str>)> = names
        .iter()
        .map(|(name, parents)| (name.as_str(), parents.iter().map(String::as_str).collect()))
        .collect();
    let packages: Vec<(&str, &[&str])> = parents
        .iter()
        .map(|(name, parents)| (*name, &parents[..]))
        .collect();
    graph(&mut world, &packages).await;
    let sent = bump(&mut world, "root", &[]).await;
    assert_eq!(sent.len(), 12, "{sent:?}");
    for (rung, pair) in sent.chunks(2).enumerate() {
        let pair: BTreeSet<&str> = pair.iter().map(String::as_str).collect();
        let (left, right) = (format!("l{rung}@1.0.1-0"), format!("r{rung}@1.0.1-0"));
        assert_eq!(pair, BTreeSet::from([left.as_str(), right.as_str()]));
    }
}

#[tokio::test]
async fn rule_15_a_chain_of_five() {
    survives(async |world: &mut World| {
        graph(
            world,
            &[
                ("root", &[]),
                ("a", &["root"]),
                ("b", &["a"]),
                ("c", &["b"]),
                ("d", &["c"]),
                ("e", &["d"]),
            ],
        )
        .await;
        let sent = bump(world, "root", &[]).await;
        let expected = ["a", "b", "c", "d", "e"].map(|name| format!("{name}@1.0.1-0"));
        assert_eq!(sent, expected);
        assert_eq!(with(world, "e", "1.0.1-0").await, ["d@1.0.1-0"]);
    })
    .await;
}

/// A shortcut from the root to the end of a chain waits for the chain.
#[tokio::test]
async fn rule_15_a_shortcut_waits_for_the_long_way() {
    let mut world = World::new([]);
    graph(
        &mut world,
        &[
            ("root", &[]),
            ("a", &["root"]),
            ("b", &["a"]),
            ("c", &["b", "root"]),
        ],
    )
    .await;
    let sent = bump(&mut world, "root", &[]).await;
    assert_eq!(sent, ["a@1.0.1-0", "b@1.0.1-0", "c@1.0.1-0"]);
    assert_eq!(
        with(&world, "c", "1.0.1-0").await,
        ["b@1.0.1-0", "root@1.1.0"]
    );
}

#[tokio::test]
async fn rule_16_who_depends_on_itself_is_sent_once() {
    survives(async |world: &mut World| {
        graph(
            world,
            &[("root", &[]), ("a", &["root", "a"]), ("b", &["a"])],
        )
        .await;
        let sent = bump(world, "root", &[]).await;
        assert_eq!(sent, ["a@1.0.1-0", "b@1.0.1-0"]);
    })
    .await;
}

#[tokio::test]
async fn rule_16_a_root_that_depends_on_itself() {
    let mut world = World::new([]);
    graph(&mut world, &[("root", &["root"])]).await;
    let sent = bump(&mut world, "root", &[("root", "^1.0.0")]).await;
    assert_eq!(sent, Vec::<String>::new());
}

/// Cycles of 2 to 26 behind a root: each member once, in the order of its distance.
#[tokio::test]
async fn rule_16_cycles_behind_a_root() {
    for size in [2, 3, 4, 7, 13, 26] {
        let mut world = World::new([]);
        let names: Vec<String> = (0..size).map(|at| format!("p{at:02}")).collect();
        world.publish("root", "1.0.0", &[]).await;
        for at in 0..size {
            let before = names[(at + size - 1) % size].as_str();
            let mut edges = vec![(before, "^1.0.0")];
            if at == 0 {
                edges.push(("root", "^1.0.0"));
            }
            world.publish(&names[at], "1.0.0", &edges).await;
            world.settle_down().await;
        }
        world.end_waves().await;
        let sent = bump(&mut world, "root", &[]).await;
        let order: Vec<String> = sent.iter().map(|one| one[..3].to_owned()).collect();
        assert_eq!(order, names, "a cycle of {size}");
    }
}

/// The root itself is part of the cycle: it is never rebuilt in its own wave.
#[tokio::test]
async fn rule_16_cycles_through_the_root() {
    for size in [2, 3, 5, 26] {
        let mut world = World::new([]);
        let names: Vec<String> = (0..size).map(|at| format!("p{at:02}")).collect();
        for at in 0..size {
            let before = names[(at + size - 1) % size].as_str();
            world
                .publish(&names[at], "1.0.0", &[(before, "^1.0.0")])
                .await;
            world.settle_down().await;
        }
        world.end_waves().await;
        let last = names[size - 1].as_str();
        let sent = bump(&mut world, "p00", &[(last, "^1.0.0")]).await;
        let order: Vec<String> = sent.iter().map(|one| one[..3].to_owned()).collect();
        assert_eq!(order, names[1..], "a cycle of {size}");
    }
}

/// Everybody depends on everybody else.
#[tokio::test]
async fn rule_16_a_clique() {
    let mut world = World::new([]);
    let names = ["a", "b", "c", "d", "e"];
    world.publish("root", "1.0.0", &[]).await;
    for name in names {
        let mut edges: Vec<(&str, &str)> = names
            .iter()
            .filter(|one| **one != name)
            .map(|one| (*one, "^1.0.0"))
            .collect();
        edges.push(("root", "^1.0.0"));
        world.publish(name, "1.0.0", &edges).await;
        world.settle_down().await;
    }
    world.end_waves().await;
    let sent = bump(&mut world, "root", &[]).await;
    let order: BTreeSet<&str> = sent.iter().map(|one| &one[..1]).collect();
    assert_eq!((sent.len(), order.len()), (5, 5), "{sent:?}");
}

/// A thousand packages in five levels, each with three parents of the level before; on Cassandra two hundred.
#[tokio::test]
async fn rule_15_a_thousand_packages_in_five_levels() {
    let across = if on_cassandra() { 40 } else { 200 };
    let all = 5 * across;
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    let mut parents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for level in 0..5 {
        for at in 0..across {
            let name = format!("p{level}-{at:03}");
            let above: BTreeSet<String> = if level == 0 {
                ["root".to_owned()].into()
            } else {
                [at, at * 7 + level, at * 31 + 5]
                    .map(|one| format!("p{}-{:03}", level - 1, one % across))
                    .into()
            };
            let edges: Vec<(&str, &str)> =
                above.iter().map(|one| (one.as_str(), "^1.0.0")).collect();
            world.publish(&name, "1.0.0", &edges).await;
            parents.insert(name, above);
        }
    }
    let before = count(&world);
    assert_eq!(
        before, 0,
        "who is published after its parents brings nothing about"
    );
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    let sent = sent_since(&world, before);
    assert_eq!(sent.len(), all);
    let mut seen = BTreeSet::new();
    for one in &sent {
        let (name, version) = one.split_once('@').unwrap();
        assert_eq!(version, "1.0.1-0");
        let above = parents[name].iter().filter(|one| *one != "root");
        for parent in above {
            assert!(seen.contains(parent), "{name} went before {parent}");
        }
        assert!(seen.insert(name.to_owned()), "{name} was sent twice");
    }
    let wave = wave_of(&world, "root", "1.1.0").await.unwrap();
    assert_eq!(wave.nodes, u32::try_from(all).unwrap());
    all_closed(&world).await;
    assert_eq!(waves(&world).await.len(), 1);
    for (name, above) in parents.iter().filter(|(name, _)| name.starts_with("p4")) {
        let facts = facts(&world, name, "1.0.1-0").await;
        let with = facts.with.unwrap();
        for parent in above {
            let at = with
                .iter()
                .find(|(name, _)| name.as_str() == parent)
                .unwrap()
                .1;
            assert_eq!(at.to_string(), "1.0.1-0", "{name} with {parent}");
        }
    }
    world.end_waves().await;
    assert_eq!(count(&world), all);
}

/// Two parents of which one is admitted only by an older major: the higher base counts, the other parent is out of
/// range for it (H23).
#[tokio::test]
async fn h23_a_node_is_rebuilt_from_the_highest_base_that_a_parent_reaches() {
    survives(async |world: &mut World| {
        graph(
            world,
            &[("root", &[]), ("p1", &["root"]), ("p2", &["root"])],
        )
        .await;
        world
            .publish("tip", "5.0.0", &[("p1", "^1.0.0"), ("p2", "^1.0.0")])
            .await;
        world
            .publish("tip", "6.0.0", &[("p1", "^1.0.0"), ("p2", "^2.0.0")])
            .await;
        let sent = bump(world, "root", &[]).await;
        let tips: Vec<&String> = sent.iter().filter(|one| one.starts_with("tip")).collect();
        assert_eq!(tips, ["tip@6.0.1-0"]);
        assert_eq!(with(world, "tip", "6.0.1-0").await, ["p1@1.0.1-0"]);
        let wave = wave_of(world, "root", "1.1.0").await.unwrap();
        let decisions = world.inner.decisions(&wave.change, 0, 100).await.unwrap();
        let mut all = decisions;
        for change in world.inner.changes(None, 1_000).await.unwrap() {
            all.extend(world.inner.decisions(&change.id, 0, 100).await.unwrap());
        }
        let out = all.iter().any(|one| {
            one.dependent.as_str() == "tip"
                && one.parent.as_str() == "p2"
                && one.reason.code() == "out_of_range_for_base"
        });
        assert!(out, "{all:#?}");
    })
    .await;
}

/// If only the parent that the older major admits is published, that major is rebuilt.
#[tokio::test]
async fn h23_the_other_way_round_the_older_major() {
    let mut world = World::new([]);
    graph(&mut world, &[("root", &[]), ("p1", &[]), ("p2", &["root"])]).await;
    world
        .publish("tip", "5.0.0", &[("p1", "^1.0.0"), ("p2", "^1.0.0")])
        .await;
    world
        .publish("tip", "6.0.0", &[("p1", "^1.0.0"), ("p2", "^2.0.0")])
        .await;
    let sent = bump(&mut world, "root", &[]).await;
    assert_eq!(sent, ["p2@1.0.1-0", "tip@5.0.1-0"]);
    let wave = wave_of(&world, "root", "1.1.0").await.unwrap();
    assert_eq!(nodes(&world, &wave).await.len(), 3);
}
