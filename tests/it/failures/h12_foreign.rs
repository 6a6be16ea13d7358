//! H12: somebody else's version is not credited to us, and ours is not taken for somebody else's.

use feedsme::dispatch::{Claim, Owner, claim};
use feedsme::model::id::ChangeId;
use feedsme::model::package::{RebuildState, RowKey};
use feedsme::model::work::Job;

use super::outside::{Answer, manifest, posted};
use super::picture::partition;
use super::survive::{survives, survives_if_claims_have_results};
use super::world::{Parse as _, World};

fn sent(world: &World) -> Vec<String> {
    world
        .outside
        .arrived
        .iter()
        .map(|one| format!("{}@{}", one.name, one.version))
        .collect()
}

async fn states(world: &World) -> Vec<(String, RebuildState)> {
    let child = partition(&*world.inner, &"child".parse_name(), &[]).await;
    let rebuilds = child
        .rows
        .into_iter()
        .filter_map(|row| Some((row.key.version.to_string(), row.rebuild?.state)));
    rebuilds.collect()
}

/// 409 at the first attempt: the version is somebody's; the node gets the next one. Then that somebody's notice comes.
#[tokio::test]
async fn h12_a_409_at_the_first_attempt_is_foreign() {
    survives_if_claims_have_results(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
        world
            .publish("grandchild", "1.0.0", &[("child", "^5.0.0")])
            .await;
        let theirs = manifest("child", "5.0.1-0", &[("root", "^0.1.0")]);
        world.outside.publish(&theirs);
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        world.post(&posted(&theirs, None)).await;
        world.settle_down().await;
        if world.has_struck() {
            return;
        }
        assert_eq!(
            states(world).await,
            [
                ("5.0.1-0".to_owned(), RebuildState::Foreign),
                ("5.0.1-1".to_owned(), RebuildState::Published)
            ]
        );
        let child = partition(&*world.inner, &"child".parse_name(), &[]).await;
        let row = child
            .row(&RowKey::publish(&"5.0.1-0".parse_version()))
            .unwrap();
        assert_eq!(row.rebuild.as_ref().unwrap().state, RebuildState::Foreign);
        assert_eq!(row.rebuild.as_ref().unwrap().confirmed_by, None);
    })
    .await;
}

/// 409 after an attempt that may have got through: ours.
#[tokio::test]
async fn h12_a_409_after_a_cut_is_ours() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
        let key = ("child".to_owned(), "5.0.1-0".to_owned());
        world.outside.answers.insert(key, [Answer::CUT].into());
        world.publish("root", "1.1.0", &[]).await;
        world.settle_down().await;
        assert_eq!(
            states(world).await,
            [("5.0.1-0".to_owned(), RebuildState::Published)]
        );
    })
    .await;
}

/// 409 after an attempt that never left: still somebody else's.
#[tokio::test]
async fn h12_a_409_after_an_outage_is_foreign() {
    survives_if_claims_have_results(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
        let key = ("child".to_owned(), "5.0.1-0".to_owned());
        world.outside.answers.insert(key, [Answer::AWAY].into());
        world.publish_only("root", "1.1.0", &[]).await;
        world.step().await;
        let theirs = manifest("child", "5.0.1-0", &[]);
        world.outside.publish(&theirs);
        world.settle_down().await;
        assert!(world.has_struck() || sent(world).last().unwrap() == "child@5.0.1-1");
    })
    .await;
}

/// Killed while it was sending: the claim has no result, so a 409 is ours.
#[tokio::test]
async fn h12_a_409_after_a_claim_without_a_result_is_ours() {
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
    world.publish_only("root", "1.1.0", &[]).await;
    let work = feedsme::store::all_pending(&*world.inner).await.unwrap();
    let Job::Send { rebuild, key, .. } = &work[0].job else {
        panic!("planning puts a send")
    };
    let claim = claim(
        world.core(),
        &Owner::alone("dies"),
        rebuild,
        &work[0].package,
        key,
    )
    .await;
    let Claim::Claimed(claimed) = claim.unwrap() else {
        panic!("it is to be sent")
    };
    world.outside.receive(&claimed);
    world.restart().await;
    world.settle_down().await;
    assert_eq!(sent(&world), ["child@5.0.1-0", "child@5.0.1-0"]);
    assert_eq!(
        states(&world).await,
        [("5.0.1-0".to_owned(), RebuildState::Published)]
    );
}

/// The notice of a rebuild that was never sent is a publish by hand.
#[tokio::test]
async fn h12_the_notice_of_a_rebuild_never_sent_answers_nothing() {
    let mut world = World::new([]);
    world.publish("root", "1.0.0", &[]).await;
    world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
    world.publish_only("root", "1.1.0", &[]).await;
    world
        .publish_only("child", "5.0.1-0", &[("root", "^1.0.0")])
        .await;
    let id = ChangeId::of_publish(&"child".parse_name(), &"5.0.1-0".parse_version(), None);
    let change = world.inner.change(&id).await.unwrap().unwrap();
    assert_eq!(change.planned.unwrap().verdict.code(), "took_place");
    world.settle_down().await;
    assert!(sent(&world).is_empty());
}
