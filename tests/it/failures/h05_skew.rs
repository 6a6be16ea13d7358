//! H5: two changes planned at the same time must not each miss the other.

use std::sync::Arc;

use feedsme::ingest::{Core, accept, plan};
use feedsme::model::id::{ChangeId, Digest};
use feedsme::model::work::Job;
use feedsme::store::Store;
use tokio::sync::mpsc;

use crate::places::rounds;

use super::outside::{manifest, posted};
use super::picture::check;
use super::random::Dice;
use super::watched::{Turn, WatchedStore, interleave};
use super::world::{Parse as _, World};

/// Accepts a publish, to be planned later.
async fn accepted(
    world: &mut World,
    name: &str,
    version: &str,
    edges: &[(&str, &str)],
) -> (ChangeId, Digest) {
    let manifest = manifest(name, version, edges);
    world.outside.publish(&manifest);
    let accepted = accept(&world.calm(), &posted(&manifest, None))
        .await
        .unwrap();
    let Job::Plan { change, digest } = accepted.work.job.clone() else {
        panic!("accepting puts a plan")
    };
    world.inner.finish_work(&[accepted.work]).await.unwrap();
    (change, digest)
}

/// Plans changes at once, one store call at a time, in the order that `choose` gives.
pub async fn together(
    world: &World,
    changes: Vec<(ChangeId, Digest)>,
    choose: impl FnMut(&[usize]) -> usize,
) {
    let (sender, turns) = mpsc::unbounded_channel();
    let tasks = changes.len();
    for (task, (change, digest)) in changes.into_iter().enumerate() {
        let store: Arc<dyn Store> = WatchedStore::gated(world.inner.clone(), task, sender.clone());
        let core = Core {
            store,
            ..world.calm()
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            let planned = plan(&core, &change, &digest).await;
            let _ = sender.send(Turn::Done);
            planned.unwrap();
        });
    }
    drop(sender);
    interleave(tasks, turns, choose).await;
}

/// Whether root@`version` reached the child, one way or the other.
async fn met(world: &World, root: &str, version: &str, child: &str, change: &ChangeId) -> bool {
    let decisions = world.inner.decisions(change, 0, 10).await.unwrap();
    let rebuilt = decisions.iter().any(|one| {
        one.dependent.as_str() == child
            && one.is_rebuild()
            && one.base == Some("6.0.0".parse_version())
    });
    let line = world
        .inner
        .line_dependents(&root.parse_name(), &version.parse_version(), None, 10)
        .await
        .unwrap();
    let attached = line
        .iter()
        .any(|(name, at)| name.as_str() == child && *at >= "6.0.0".parse_version());
    rebuilt || attached
}

/// root@6.0.1 and child@6.0.0 (root ^6.0.0) are planned at once, in 1,000 different orders of their calls.
#[tokio::test]
async fn h5_a_root_and_a_child_published_at_once_do_not_miss_each_other() {
    let mut world = World::new([]);
    let mut dice = Dice::new(5);
    let (mut rebuilt, mut attached) = (0, 0);
    let all = rounds(1_000).max(30);
    for round in 0..all {
        let (root, child) = (format!("root{round}"), format!("child{round}"));
        // Sometimes neither was known before.
        if round % 4 > 0 {
            world.publish_only(&root, "6.0.0", &[]).await;
        }
        if round % 3 > 0 {
            world
                .publish_only(&child, "5.0.0", &[(&root, "^5.0.0")])
                .await;
        }
        let publish = accepted(&mut world, &root, "6.0.1", &[]).await;
        let change = publish.0.clone();
        let other = accepted(&mut world, &child, "6.0.0", &[(&root, "^6.0.0")]).await;
        // From nearly one after the other to call by call.
        let bias = dice.below(99) + 1;
        together(&world, vec![publish, other], |ready| {
            if ready.len() == 1 || dice.below(100) < bias {
                ready[0]
            } else {
                ready[1]
            }
        })
        .await;
        assert!(
            met(&world, &root, "6.0.1", &child, &change).await,
            "round {round}"
        );
        let decisions = world.inner.decisions(&change, 0, 10).await.unwrap();
        if decisions
            .iter()
            .any(feedsme::model::decision::Decision::is_rebuild)
        {
            rebuilt += 1;
        } else {
            attached += 1;
        }
    }
    assert!(
        rebuilt > all / 20 && attached > all / 20,
        "{rebuilt} {attached}: the orders were not different"
    );
}

/// Both ways of a chain at once: root, child and grandchild. What the store says of each other agrees afterwards.
#[tokio::test]
async fn h5_three_at_once_leave_projections_that_agree_with_the_partitions() {
    let mut dice = Dice::new(6);
    for _ in 0..rounds(40) {
        let mut world = World::new([]);
        world.publish_only("root", "6.0.0", &[]).await;
        let one = accepted(&mut world, "root", "6.0.1", &[]).await;
        let change = one.0.clone();
        let two = accepted(&mut world, "child", "6.0.0", &[("root", "^6.0.0")]).await;
        let three = accepted(
            &mut world,
            "top",
            "1.0.0",
            &[("child", "^6.0.0"), ("root", "*")],
        )
        .await;
        together(&world, vec![one, two, three], |ready| {
            ready[dice.below(ready.len())]
        })
        .await;
        assert!(met(&world, "root", "6.0.1", "child", &change).await);
        check(&world).await;
    }
}
