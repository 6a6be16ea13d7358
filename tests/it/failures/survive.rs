//! Runs a story with every fault at every step and compares how it ends.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};

use super::crashing::Fault;
use super::picture::{check, picture};
use super::world::World;

/// How many requests about each (name, version, environment) arrived.
fn arrivals(world: &World) -> BTreeMap<(String, String, String), usize> {
    let mut counts = BTreeMap::new();
    for one in &world.outside.arrived {
        let key = (one.name.clone(), one.version.clone(), one.env.clone());
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// The story with a death at every step, and with every single step failing before or after it happened, must end as
/// it does when nothing fails. Everything that is sent when nothing fails is sent then too; it is sent once more only if it
/// was being sent when the process died.
pub async fn survives(story: impl AsyncFn(&mut World)) {
    let mut calm = World::new([]);
    story(&mut calm).await;
    let expected = picture(&calm).await;
    check(&calm).await;
    let sent = arrivals(&calm);
    let steps = calm.steps();
    assert!(steps > 0);

    let faults = (0..steps).flat_map(|at| {
        let seldom = (at % 4 == 0).then_some([Fault::After(at), Fault::OnceBefore(at)]);
        [Fault::Before(at), Fault::OnceAfter(at)]
            .into_iter()
            .chain(seldom.into_iter().flatten())
    });
    stream::iter(faults)
        .for_each_concurrent(3, |fault| {
            let (story, expected, sent) = (&story, &expected, &sent);
            async move {
                let mut world = World::new([fault]);
                story(&mut world).await;
                assert!(world.has_struck(), "{fault:?} of {steps} did not happen");
                same(&world, fault, expected).await;
                check(&world).await;
                let arrived = arrivals(&world);
                assert_eq!(
                    arrived.keys().collect::<Vec<_>>(),
                    sent.keys().collect::<Vec<_>>(),
                    "{fault:?}"
                );
                for (key, count) in &arrived {
                    let twice = world.outside.arrived.iter().any(|one| {
                        (&one.name, &one.version, &one.env) == (&key.0, &key.1, &key.2)
                            && world.may_be_sent_twice.contains(&one.rebuild)
                    });
                    assert!(
                        *count <= sent[key] + usize::from(twice),
                        "{fault:?}: {key:?} was sent {count} times, without the fault {}",
                        sent[key]
                    );
                }
                // Another death, at rest, changes nothing.
                let before = world.outside.arrived.len();
                world.restart().await;
                world.drain().await;
                assert_eq!(world.outside.arrived.len(), before, "{fault:?}");
                same(&world, fault, expected).await;
            }
        })
        .await;
}

async fn same(world: &World, fault: Fault, expected: &[String]) {
    let found = picture(world).await;
    if found != *expected {
        let missing: Vec<_> = expected.iter().filter(|line| !found.contains(line)).collect();
        let extra: Vec<_> = found.iter().filter(|line| !expected.contains(line)).collect();
        panic!("{fault:?}\nmissing: {missing:#?}\nextra: {extra:#?}");
    }
}
