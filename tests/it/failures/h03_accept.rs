//! H3: no 200 for work that does not exist.

use feedsme::ingest::{accept, plan};
use feedsme::model::work::Job;

use super::crashing::{CrashingStore, Fault};
use super::outside::{manifest, posted};
use super::picture::picture;
use super::world::World;

/// Accepting dies before or after each of its steps; the client posts again, to the process that comes after, and is
/// answered: then the work is there, and leads to what it must.
#[tokio::test]
async fn h3_what_is_answered_is_planned_whatever_step_the_first_post_died_at() {
    for step in 0..3 {
        for fault in [
            Fault::Before(step),
            Fault::After(step),
            Fault::OnceBefore(step),
            Fault::OnceAfter(step),
        ] {
            let mut world = World::new([]);
            world.publish("root", "1.0.0", &[]).await;
            world.publish("child", "1.0.0", &[("root", "^1.0.0")]).await;
            let root = manifest("root", "1.1.0", &[]);
            world.outside.publish(&root);
            let dying = CrashingStore::new(world.inner.clone(), fault);
            let mut core = world.calm();
            core.store = dying.clone();
            assert!(
                accept(&core, &posted(&root, None)).await.is_err(),
                "{fault:?}"
            );
            assert!(dying.has_struck());

            let core = world.calm();
            let accepted = accept(&core, &posted(&root, None)).await.unwrap();
            let pending = feedsme::store::all_pending(&*core.store).await.unwrap();
            assert!(
                pending.iter().any(|item| item.id == accepted.work.id),
                "{fault:?}: {pending:?}"
            );
            // The process that answered dies as well, before it looked at its work.
            world.restart().await;
            world.drain().await;
            let sent: Vec<_> = world
                .outside
                .arrived
                .iter()
                .map(|one| one.version.as_str())
                .collect();
            assert_eq!(sent, ["1.0.1-0"], "{fault:?}");
        }
    }
}

/// A duplicate is accepted like a first post, and ends in planning.
#[tokio::test]
async fn h3_a_duplicate_is_durable_work_too_and_ends_in_planning() {
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    world.publish("child", "1.0.0", &[("root", "^1.0.0")]).await;
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    let before = picture(&world).await;

    let core = world.calm();
    let again = posted(&manifest("root", "1.1.0", &[]), None);
    let accepted = accept(&core, &again).await.unwrap();
    let mut pending = feedsme::store::all_pending(&*core.store).await.unwrap();
    pending.retain(|item| !matches!(item.job, Job::Tick { .. }));
    assert_eq!(pending, std::slice::from_ref(&accepted.work));
    let Job::Plan { change, digest } = &accepted.work.job else {
        panic!("accepting puts a plan")
    };
    assert_eq!(plan(&core, change, digest).await.unwrap(), []);
    core.store.finish_work(&[accepted.work]).await.unwrap();
    assert_eq!(picture(&world).await, before);
    assert_eq!(world.outside.arrived.len(), 1);
}
