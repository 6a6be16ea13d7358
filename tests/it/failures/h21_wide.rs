//! H21: an edge with 5,644 ranges. A publish touches those of its own.

use std::sync::Arc;

use feedsme::ingest::{Core, accept, plan};
use feedsme::model::work::Job;
use feedsme::store::{PackageCommit, Projection, Store, Want, WantOpen, Write};

use super::outside::{manifest, posted};
use super::picture::partition;
use super::watched::{Call, WatchedStore};
use super::world::{Parse as _, World};

const RANGES: usize = 5_644;

async fn publish(core: &Core, name: &str, version: &str, edges: &[(&str, &str)]) {
    let accepted = accept(core, &posted(&manifest(name, version, edges), None))
        .await
        .unwrap();
    let Job::Plan { change, digest } = &accepted.work.job else {
        panic!("accepting puts a plan")
    };
    plan(core, change, digest).await.unwrap();
}

fn own(range: &str) -> bool {
    ["^2.0.0", "^1.0.0"].contains(&range)
}

#[tokio::test]
async fn h21_a_publish_reads_and_writes_only_its_own_ranges() {
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    world.publish("other", "1.0.0", &[]).await;
    world.publish("child", "1.0.0", &[("root", "^1.0.0")]).await;
    let (root, child) = ("root".parse_name(), "child".parse_name());
    let range = |at: usize| format!(">=0.{at}.0 <1.0.0");
    let seq = world
        .inner
        .packages(&[Want::statics(&child)])
        .await
        .unwrap()[0]
        .seq;
    let mut wide = PackageCommit::at(&child, seq);
    wide.edges = (0..RANGES)
        .map(|at| (root.clone(), range(at), "0.9.0".parse_version()))
        .collect();
    world.inner.commit(vec![wide]).await.unwrap();
    let rows = (0..RANGES).map(|at| Projection::Range {
        parent: root.clone(),
        dependent: child.clone(),
        range: range(at),
        version: "0.9.0".parse_version(),
    });
    let rows = rows.map(|row| Write::Projection(1, row)).collect();
    world.inner.write(rows).await.unwrap();
    assert_eq!(
        world.inner.ranges(&root, &child).await.unwrap().len(),
        RANGES + 1
    );

    let watched = WatchedStore::counting(world.inner.clone());
    let core = Core {
        store: watched.clone() as Arc<dyn Store>,
        ..world.calm()
    };
    publish(
        &core,
        "child",
        "2.0.0",
        &[("root", "^2.0.0"), ("other", "^1.0.0")],
    )
    .await;
    let (mut asked, mut set, mut projected) = (0, 0, 0);
    for call in watched.take() {
        match call {
            Call::Packages(wants) => {
                for want in wants {
                    assert!(
                        want.edges.len() <= 2
                            && want.prefixes.iter().all(|prefix| !prefix.is_empty())
                    );
                    assert!(want.edges.iter().all(|(_, range)| own(range)), "{want:?}");
                    assert!(want.open != WantOpen::All || want.name == child);
                    asked += want.edges.len();
                }
            }
            Call::Commit(commits) => {
                for commit in commits {
                    assert!(commit.edges.iter().all(|(_, range, _)| own(range)));
                    set += commit.edges.len();
                }
            }
            Call::Write(writes) => {
                for one in writes {
                    if let Write::Projection(_, Projection::Range { range, .. }) = one {
                        assert!(own(&range), "{range}");
                        projected += 1;
                    }
                }
            }
            Call::Named(verb) => assert_ne!(
                verb, "ranges",
                "a publish reads the ranges of its own edges"
            ),
        }
    }
    assert_eq!((set, projected), (2, 2));
    assert!((2..=8).contains(&asked), "{asked}");
    let ranges = world.inner.ranges(&root, &child).await.unwrap();
    assert_eq!(ranges.len(), RANGES + 2);

    // The parent's publish reads the ranges only if the highest version's does not admit it.
    let reads = |calls: Vec<Call>| {
        calls
            .iter()
            .filter(|call| matches!(call, Call::Named("ranges")))
            .count()
    };
    publish(&core, "root", "2.1.0", &[]).await;
    assert_eq!(reads(watched.take()), 0);
    publish(&core, "root", "1.1.0", &[]).await;
    // Once to foresee what the wave reaches, once to decide.
    assert_eq!(reads(watched.take()), 2);
    let id = feedsme::model::id::ChangeId::of_publish(&root, &"1.1.0".parse_version(), None);
    let decisions = world.inner.decisions(&id, 0, 10).await.unwrap();
    assert_eq!(decisions[0].base, Some("1.0.0".parse_version()));
}

/// How many calls planning a package with that many managed parents takes, and who goes with whose line.
async fn calls_with(parents: usize, range: &str) -> (usize, usize) {
    let world = World::new([]);
    let calm = world.calm();
    let names: Vec<String> = (0..parents).map(|at| format!("parent-{at}")).collect();
    for name in &names {
        publish(&calm, name, "1.0.0", &[]).await;
        publish(&calm, name, "2.0.0", &[]).await;
    }
    let watched = WatchedStore::counting(world.inner.clone());
    let core = Core {
        store: watched.clone() as Arc<dyn Store>,
        ..calm
    };
    let edges: Vec<_> = names.iter().map(|name| (name.as_str(), range)).collect();
    publish(&core, "child", "1.0.0", &edges).await;
    let calls = watched.take().len();
    let child = partition(&*world.inner, &"child".parse_name(), &[]).await;
    let facts = child.facts(&"1.0.0".parse_version()).unwrap();
    (calls, facts.attach.as_ref().unwrap().len())
}

/// Parents are read many at a time: those whose highest version is admitted, and those that are named exactly.
#[tokio::test]
async fn h21_many_parents_take_no_more_calls_than_few() {
    for range in [">=1.0.0", "1.0.0"] {
        let (few, many) = (calls_with(2, range).await, calls_with(60, range).await);
        assert_eq!((few.1, many.1), (2, 60));
        // Where they are published, which waves that was in is asked of each.
        assert!(many.0 - few.0 <= 58 * 4, "{range}: {few:?} {many:?}");
    }
}
