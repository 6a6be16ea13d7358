//! H18: without a warehouse no tarball of what we make is in the registry.

use super::picture::partition;
use super::survive::survives;
use super::world::{Parse as _, World};

/// However long the chain, the bytes are those of the version published by hand.
#[tokio::test]
async fn h18_a_chain_of_rebuilds_remembers_whose_bytes_it_has() {
    survives(async |world: &mut World| {
        world.publish("root", "1.0.0", &[]).await;
        world.publish("child", "5.0.0", &[("root", "^1.0.0")]).await;
        for version in ["1.1.0", "1.2.0", "1.3.0"] {
            world.publish("root", version, &[]).await;
            world.settle_down().await;
        }
        world.publish("child", "5.1.0", &[("root", "^1.0.0")]).await;
        world.publish("root", "1.4.0", &[]).await;
        world.settle_down().await;
        world.promote("root", "1.2.0", "test").await;
        world.settle_down().await;
        let child = partition(&*world.inner, &"child".parse_name(), &["test"]).await;
        let mut chain: Vec<String> = child
            .rows
            .iter()
            .filter_map(|row| Some((row, row.rebuild.as_ref()?)))
            .map(|(row, one)| {
                format!(
                    "{}{}: {} of {}",
                    row.key.version,
                    row.key.slot.as_str(),
                    one.base,
                    one.tarball_of
                )
            })
            .collect();
        chain.sort();
        assert_eq!(
            chain,
            [
                "5.0.1-0: 5.0.0 of 5.0.0",
                "5.0.1-1: 5.0.1-0 of 5.0.0",
                "5.0.1-1test: 5.0.1-1 of 5.0.0",
                "5.0.1-2: 5.0.1-1 of 5.0.0",
                "5.1.1-0: 5.1.0 of 5.1.0",
            ]
        );
    })
    .await;
}
