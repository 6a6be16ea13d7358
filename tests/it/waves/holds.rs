//! Holds: what is held is not sent, and goes as one wave when the hold ends (rule 17).

use feedsme::ingest::wave;
use feedsme::model::wave::Hold;

use super::told::*;
use crate::failures::survive::survives;
use crate::failures::world::{Parse as _, World};

fn hold_on(world: &World, package: &str, parent: Option<&str>, expires: Option<i64>) -> Hold {
    let now = world.core().clock.now();
    Hold {
        id: format!("hold-of-{package}"),
        package: package.parse_name(),
        parent: parent.map(str::parse_name),
        owner: "release-team".into(),
        reason: "a freeze".into(),
        placed: now,
        expires: expires.map(|after| now + after),
        ended: None,
    }
}

/// Places a hold, again until it is there.
async fn hold(world: &mut World, hold: &Hold) {
    loop {
        match wave::hold(world.core(), hold).await {
            Ok(work) => return world.hand_over(work),
            Err(_) => world.after_failure().await,
        }
    }
}

async fn unhold(world: &mut World, hold: &Hold) {
    loop {
        match wave::unhold(world.core(), hold).await {
            Ok(work) => return world.hand_over(work),
            Err(_) => world.after_failure().await,
        }
    }
}

async fn chain(world: &mut World) {
    world.publish("root", "1.0.0", &[]).await;
    world.publish("other", "1.0.0", &[]).await;
    let both = [("root", "^1.0.0"), ("other", "^1.0.0")];
    world.publish("held", "1.0.0", &both).await;
    world.publish("tip", "1.0.0", &[("held", "^1.0.0")]).await;
}

#[tokio::test]
async fn rule_17_what_was_held_goes_as_one_wave() {
    survives(async |world: &mut World| {
        chain(world).await;
        let freeze = hold_on(world, "held", None, None);
        hold(world, &freeze).await;
        let before = count(world);
        for version in ["1.1.0", "1.2.0"] {
            world.publish("root", version, &[]).await;
            world.settle_down().await;
        }
        assert!(sent_since(world, before).is_empty(), "it is held");
        unhold(world, &freeze).await;
        world.look_after(1).await;
        world.settle_down().await;
        assert_eq!(sent_since(world, before), ["held@1.0.1-0", "tip@1.0.1-0"]);
        assert_eq!(
            with(world, "held", "1.0.1-0").await,
            ["other@1.0.0", "root@1.2.0"]
        );
        world.end_waves().await;
        all_closed(world).await;
    })
    .await;
}

#[tokio::test]
async fn rule_17_a_hold_expires() {
    let mut world = World::new([]);
    chain(&mut world).await;
    let freeze = hold_on(&world, "held", None, Some(60_000));
    hold(&mut world, &freeze).await;
    let before = count(&world);
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    assert!(sent_since(&world, before).is_empty());
    world.look_after(61_000).await;
    world.settle_down().await;
    assert_eq!(sent_since(&world, before), ["held@1.0.1-0", "tip@1.0.1-0"]);
    world.end_waves().await;
    all_closed(&world).await;
}

#[tokio::test]
async fn rule_17_a_hold_that_held_nothing_releases_nothing() {
    let mut world = World::new([]);
    chain(&mut world).await;
    let freeze = hold_on(&world, "held", None, None);
    hold(&mut world, &freeze).await;
    let before = waves(&world).await.len();
    unhold(&mut world, &freeze).await;
    world.look_after(1).await;
    world.settle_down().await;
    assert_eq!(waves(&world).await.len(), before);
}

#[tokio::test]
async fn rule_17_a_hold_on_one_edge_leaves_the_others() {
    let mut world = World::new([]);
    chain(&mut world).await;
    let freeze = hold_on(&world, "held", Some("root"), None);
    hold(&mut world, &freeze).await;
    let before = count(&world);
    world.publish("root", "1.1.0", &[]).await;
    world.settle_down().await;
    assert!(sent_since(&world, before).is_empty());
    world.publish("other", "1.1.0", &[]).await;
    world.settle_down().await;
    assert_eq!(sent_since(&world, before), ["held@1.0.1-0", "tip@1.0.1-0"]);
}
