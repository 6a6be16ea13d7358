//! H20: what is written plainly is ordered by stamps; a step that is done again later changes nothing.

use feedsme::ingest::{accept, plan};
use feedsme::model::work::Job;
use feedsme::store::{Dependent, Projection, Write};

use super::crashing::{CrashingStore, Fault};
use super::outside::{manifest, posted};
use super::picture::{check, partition, picture};
use super::world::{Parse as _, World};

/// child@5.0.0 (which declares root) dies at every step of its planning; child@6.0.0 (which dropped it) is planned; then
/// 5.0.0 is planned again, twice.
#[tokio::test]
async fn h20_a_redo_of_an_old_step_after_a_newer_one_changes_nothing() {
    for step in 0..14 {
        let mut world = World::new([]);
        world.publish("root", "1.0.0", &[]).await;
        let old = posted(&manifest("child", "5.0.0", &[("root", "^1.0.0")]), None);
        world.outside.publish(&old.document.manifest);
        let accepted = accept(&world.calm(), &old).await.unwrap();
        let Job::Plan { change, digest } = &accepted.work.job else {
            panic!("accepting puts a plan")
        };
        let mut core = world.calm();
        core.store = CrashingStore::new(world.inner.clone(), Fault::Before(step));
        let _ = plan(&core, change, digest).await;

        let new = posted(&manifest("child", "6.0.0", &[]), None);
        world.outside.publish(&new.document.manifest);
        let newer = accept(&world.calm(), &new).await.unwrap();
        let Job::Plan {
            change: id,
            digest: of,
        } = &newer.work.job
        else {
            panic!("accepting puts a plan")
        };
        plan(&world.calm(), id, of).await.unwrap();
        plan(&world.calm(), change, digest).await.unwrap();
        let edges = world
            .inner
            .dependents(&"root".parse_name(), None, 10)
            .await
            .unwrap();
        assert_eq!(edges.len(), 1);
        assert_eq!(
            (&edges[0].top, &edges[0].range),
            (&"6.0.0".parse_version(), &None),
            "step {step}"
        );
        let ranges = world
            .inner
            .ranges(&"root".parse_name(), &"child".parse_name())
            .await;
        assert_eq!(
            ranges.unwrap(),
            [("^1.0.0".to_owned(), "5.0.0".parse_version())]
        );
        world.restart().await;
        world.settle_down().await;
        check(&world).await;
    }
}

/// Stamps of a package rise with every batch, also if the clock stands still or goes back.
#[tokio::test]
async fn h20_stamps_rise_when_the_clock_goes_back() {
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    let mut last = 0;
    for minor in 0..5 {
        world
            .publish(
                "child",
                &format!("1.{minor}.0"),
                &[("root", &format!("~1.{minor}"))],
            )
            .await;
        world.pass(-3_600_000);
        let child = partition(&*world.inner, &"child".parse_name(), &[]).await;
        assert!(child.stamp > last, "{} after {last}", child.stamp);
        last = child.stamp;
    }
    let edges = world
        .inner
        .dependents(&"root".parse_name(), None, 10)
        .await
        .unwrap();
    assert_eq!(edges[0].range.as_deref(), Some("~1.4"));
    check(&world).await;

    // What an older batch decided arrives late.
    let before = picture(&world).await;
    let late = Projection::Dependent {
        parent: "root".parse_name(),
        row: Dependent {
            dependent: "child".parse_name(),
            top: "1.0.0".parse_version(),
            range: Some("~1.0".into()),
        },
    };
    world
        .inner
        .write(vec![Write::Projection(last - 2, late)])
        .await
        .unwrap();
    assert_eq!(picture(&world).await, before);
}
