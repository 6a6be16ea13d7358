//! Runs a story with every fault at every step and compares how it ends.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};

use crate::places::on_cassandra;

use super::crashing::Fault;
use super::picture::{check, partition, picture};
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

/// The story with a death at any step (see below which), and with any single step failing before or after it happened, must end as
/// it does when nothing fails. Everything that is sent when nothing fails is sent then too; it is sent once more only if it
/// was being sent when the process died.
pub async fn survives(story: impl AsyncFn(&mut World)) {
    with_every_fault(story, true).await;
}

/// The same, but for the faults that leave a claim without a result: then nobody can know whether the neighbour was
/// reached, and a 409 is ours (H12).
pub async fn survives_if_claims_have_results(story: impl AsyncFn(&mut World)) {
    with_every_fault(story, false).await;
}

async fn with_every_fault(story: impl AsyncFn(&mut World), ambiguous_too: bool) {
    let mut calm = World::new([]);
    story(&mut calm).await;
    let expected = picture(&calm).await;
    check(&calm).await;
    let sent = arrivals(&calm);
    let steps = calm.steps();
    assert!(steps > 0);

    // In a long story the same kinds of steps come again and again: there it is a death at one step and an unknown
    // outcome at another, unless the environment asks for everything (`FAULTS=all`).
    let all = std::env::var("FAULTS").is_ok_and(|faults| faults == "all");
    // On Cassandra a world takes a second, not a hundredth of one.
    let (parts, seldom) = if on_cassandra() {
        (2, usize::MAX)
    } else {
        (40, 16)
    };
    let every = if all { 1 } else { (steps / parts).max(1) };
    let faults = (0..steps).flat_map(|at| {
        let turn = at / every % 2 == 0;
        let here = at.is_multiple_of(every);
        let dies = (all || here && (every == 1 || turn)).then_some(Fault::Before(at));
        let unknown = (all || here && (every == 1 || !turn)).then_some(Fault::OnceAfter(at));
        let seldom =
            (at % seldom == seldom / 2).then_some([Fault::After(at), Fault::OnceBefore(at)]);
        dies.into_iter()
            .chain(unknown)
            .chain(seldom.into_iter().flatten())
    });
    stream::iter(faults)
        .for_each_concurrent(if on_cassandra() { 1 } else { 3 }, |fault| {
            let (story, expected, sent) = (&story, &expected, &sent);
            async move {
                let mut world = World::new([fault]);
                story(&mut world).await;
                assert!(world.has_struck(), "{fault:?} of {steps} did not happen");
                if world.resurfaced || (!ambiguous_too && is_ambiguous(&world).await) {
                    check(&world).await;
                    return;
                }
                same(&world, fault, expected).await;
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
                if !at_random(fault).is_multiple_of(8) {
                    return;
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

fn at_random(fault: Fault) -> usize {
    match fault {
        Fault::Never => 0,
        Fault::Before(at) | Fault::After(at) | Fault::OnceBefore(at) | Fault::OnceAfter(at) => at,
    }
}

/// Whether a claim has no result.
async fn is_ambiguous(world: &World) -> bool {
    for name in world.inner.names(None, 1_000).await.unwrap() {
        let state = partition(&*world.inner, &name, &["dev", "test", "prod"]).await;
        for rebuild in state.rows.iter().filter_map(|row| row.rebuild.as_ref()) {
            let results = world.inner.attempts(&rebuild.id).await.unwrap().len();
            if results < usize::try_from(rebuild.attempt).unwrap() {
                return true;
            }
        }
    }
    false
}

async fn same(world: &World, fault: Fault, expected: &[String]) {
    let found = picture(world).await;
    if found != *expected {
        let missing: Vec<_> = expected
            .iter()
            .filter(|line| !found.contains(line))
            .collect();
        let extra: Vec<_> = found
            .iter()
            .filter(|line| !expected.contains(line))
            .collect();
        panic!("{fault:?}\nmissing: {missing:#?}\nextra: {extra:#?}");
    }
}
