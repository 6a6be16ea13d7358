//! H24: how nodes end: dead, cancelled, superseded; and what comes late all the same (rule 17).

use feedsme::dispatch::revive;
use feedsme::ingest::wave::{approve, cancel};
use feedsme::model::package::{RebuildState, RowKey};
use feedsme::model::wave::{NodeKey, Standing, WaveState};
use feedsme::plan::Rules;

use crate::failures::outside::{Answer, posted};
use crate::failures::picture::partition;
use crate::failures::survive::survives;
use crate::failures::world::{Parse as _, World};

use super::told::{all_closed, count, nodes, sent_since, wave_of, with};

async fn diamond(world: &mut World) {
    world.publish("root", "1.0.0", &[]).await;
    world.publish("a", "1.0.0", &[("root", "^1.0.0")]).await;
    world.publish("b", "1.0.0", &[("root", "^1.0.0")]).await;
    world
        .publish("tip", "1.0.0", &[("a", "^1.0.0"), ("b", "^1.0.0")])
        .await;
    world.publish("after", "1.0.0", &[("tip", "^1.0.0")]).await;
}

fn refuse(world: &mut World, name: &str, version: &str) {
    let key = (name.to_owned(), version.to_owned());
    // However often it is sent, after deaths.
    world
        .outside
        .answers
        .insert(key, [Answer::REFUSED; 3].into());
}

fn refuse_once(world: &mut World, name: &str) {
    refuse(world, name, "1.0.1-0");
    for answers in world.outside.answers.values_mut() {
        answers.truncate(1);
    }
}

async fn standing(world: &World, name: &str) -> Standing {
    let wave = wave_of(world, "root", "1.1.0").await.unwrap();
    nodes(world, &wave).await[&NodeKey::package(&name.parse_name())]
        .1
        .standing()
}

/// One parent fails for good: the tip goes with the other.
#[tokio::test]
async fn h24_a_dead_parent_is_not_waited_for() {
    survives(async |world: &mut World| {
        diamond(world).await;
        refuse(world, "a", "1.0.1-0");
        let before = count(world);
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.end_waves().await;
        let sent = sent_since(world, before);
        assert_eq!(sent[2..], ["tip@1.0.1-0", "after@1.0.1-0"], "{sent:?}");
        assert_eq!(
            with(world, "tip", "1.0.1-0").await,
            ["a@1.0.0", "b@1.0.1-0"]
        );
        assert_eq!(standing(world, "a").await, Standing::Failed);
        all_closed(world).await;
    })
    .await;
}

/// All parents fail: skipped, all the way up.
#[tokio::test]
async fn h24_upstream_failed_goes_all_the_way_up() {
    let mut world = World::new([]);
    let world = &mut world;
    {
        diamond(world).await;
        refuse(world, "a", "1.0.1-0");
        refuse(world, "b", "1.0.1-0");
        let before = count(world);
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.end_waves().await;
        assert_eq!(sent_since(world, before).len(), 2);
        assert_eq!(standing(world, "tip").await, Standing::Skipped);
        assert_eq!(standing(world, "after").await, Standing::Skipped);
        all_closed(world).await;
    }
}

/// An operator retries what was dead: those that were skipped because of it are sent, once.
#[tokio::test]
async fn h24_a_dead_rebuild_that_is_retried_brings_the_others() {
    let mut world = World::new([]);
    diamond(&mut world).await;
    refuse_once(&mut world, "a");
    refuse_once(&mut world, "b");
    let before = count(&world);
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    world.end_waves().await;
    let key = RowKey::publish(&"1.0.1-0".parse_version());
    let a = partition(&*world.inner, &"a".parse_name(), &["test"]).await;
    let id = a.row(&key).unwrap().rebuild.as_ref().unwrap().id.clone();
    let again = revive(&world.calm(), &"a".parse_name(), &key, &id)
        .await
        .unwrap();
    assert!(again.is_some());
    world.restart().await;
    world.settle_down().await;
    world.end_waves().await;
    let sent = sent_since(&world, before);
    assert_eq!(
        sent[sent.len() - 2..],
        ["tip@1.0.1-0", "after@1.0.1-0"],
        "{sent:?}"
    );
    assert_eq!(
        with(&world, "tip", "1.0.1-0").await,
        ["a@1.0.1-0", "b@1.0.0"]
    );
    all_closed(&world).await;
}

/// The neighbour refused it and did it all the same: the notice publishes it, and the others follow.
#[tokio::test]
async fn h24_a_late_notice_of_a_dead_rebuild_publishes_it() {
    survives(async |world: &mut World| {
        diamond(world).await;
        refuse(world, "a", "1.0.1-0");
        let before = count(world);
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.end_waves().await;
        let mut late = world.outside.document("a", "1.0.0");
        late.insert("version".into(), serde_json::json!("1.0.1-0"));
        world.outside.publish(&late);
        world.post(&posted(&late, None)).await;
        world.settle_down().await;
        world.end_waves().await;
        let sent = sent_since(world, before);
        assert_eq!(sent[4..], ["tip@1.0.1-1", "after@1.0.1-1"], "{sent:?}");
        assert_eq!(
            with(world, "tip", "1.0.1-1").await,
            ["a@1.0.1-0", "b@1.0.1-0"]
        );
        all_closed(world).await;
    })
    .await;
}

/// What was not sent is not sent; what was sent may come back.
#[tokio::test]
async fn h24_a_cancelled_wave_sends_nothing_more() {
    let mut world = World::new([]);
    diamond(&mut world).await;
    let before = count(&world);
    world.publish_only("root", "1.1.0", &[]).await;
    // Reserved, not sent.
    let wave = wave_of(&world, "root", "1.1.0").await.unwrap();
    cancel(&world.calm(), &wave.id).await.unwrap().unwrap();
    world.restart().await;
    world.settle_down().await;
    world.end_waves().await;
    assert_eq!(count(&world), before, "{:?}", sent_since(&world, before));
    let now = world.inner.wave(&wave.id).await.unwrap().unwrap();
    assert_eq!(now.state, WaveState::Cancelled);
    for name in ["a", "b"] {
        let state = partition(&*world.inner, &name.parse_name(), &[]).await;
        let key = RowKey::publish(&"1.0.1-0".parse_version());
        let rebuild = state.row(&key).unwrap().rebuild.clone().unwrap();
        assert_eq!(rebuild.state, RebuildState::Cancelled, "{name}");
    }
    // The next one is not kept from anything.
    world.publish("root", "1.2.0", &[]).await;
    world.settle_down().await;
    world.end_waves().await;
    let sent = sent_since(&world, before);
    assert_eq!(sent[2..], ["tip@1.0.1-0", "after@1.0.1-0"], "{sent:?}");
}

/// Half of it was sent: what comes back is published, and nothing follows.
#[tokio::test]
async fn h24_cancelled_half_way() {
    let mut world = World::new([]);
    diamond(&mut world).await;
    let before = count(&world);
    world.publish("root", "1.1.0", &[]).await;
    let wave = wave_of(&world, "root", "1.1.0").await.unwrap();
    cancel(&world.calm(), &wave.id).await.unwrap().unwrap();
    world.restart().await;
    world.settle_down().await;
    world.end_waves().await;
    assert_eq!(sent_since(&world, before).len(), 2);
    assert_eq!(with(&world, "a", "1.0.1-0").await, ["root@1.1.0"]);
    let refused = cancel(&world.calm(), &wave.id).await.unwrap();
    assert!(refused.is_ok(), "cancelling it again changes nothing");
    assert!(approve(&world.calm(), &wave.id).await.unwrap().is_err());
}

/// A wave above the limit waits for approval (rule 17).
#[tokio::test]
async fn rule_17_a_large_wave_waits_for_approval() {
    let rules = Rules {
        approve_above: Some(3),
        ..Rules::default()
    };
    let mut world = World::with(rules, []);
    diamond(&mut world).await;
    let before = count(&world);
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    world.look_after(3_600_000).await;
    assert_eq!(count(&world), before);
    let wave = wave_of(&world, "root", "1.1.0").await.unwrap();
    assert_eq!(wave.state, WaveState::Awaiting);
    approve(&world.calm(), &wave.id).await.unwrap().unwrap();
    world.restart().await;
    world.settle_down().await;
    world.look_after(60_000).await;
    world.settle_down().await;
    world.end_waves().await;
    let sent = sent_since(&world, before);
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert_eq!(sent[2..], ["tip@1.0.1-0", "after@1.0.1-0"]);
    all_closed(&world).await;
}

/// A node that was superseded by a publish by hand is published with that version.
#[tokio::test]
async fn h24_superseded_is_published_with_what_superseded_it() {
    survives(async |world: &mut World| {
        diamond(world).await;
        world.publish_only("root", "1.1.0", &[]).await;
        let before = count(world);
        world
            .publish_only("a", "1.1.0", &[("root", "^1.0.0")])
            .await;
        world.settle_down().await;
        world.end_waves().await;
        let sent = sent_since(world, before);
        assert_eq!(sent, ["b@1.0.1-0", "tip@1.0.1-0", "after@1.0.1-0"]);
        assert_eq!(
            with(world, "tip", "1.0.1-0").await,
            ["a@1.1.0", "b@1.0.1-0"]
        );
        assert_eq!(standing(world, "a").await, Standing::Published);
        all_closed(world).await;
    })
    .await;
}
