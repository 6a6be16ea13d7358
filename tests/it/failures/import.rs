//! An import from elsewhere that dies at any step, is done again, and comes to the same end; and what follows from it (H4, H19).

use feedsme::ingest::{Core, Elsewhere, IngestError, Pair, import, import_lines, import_pair};
use feedsme::store::Line;
use serde_json::json;

use super::outside::{manifest, posted};
use super::survive::survives;
use super::world::{Parse as _, World};

/// A name, a version, its dependencies.
type Known<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// What the Node software had: root with a line more than it has documents, two children, and a replayed publish, which
/// made a loop (contract.md 5.7).
async fn take_over(core: &Core) -> Result<(), IngestError> {
    let known: [Known<'_>; 6] = [
        ("root", "5.2.2", &[]),
        ("root", "5.2.3", &[]),
        ("child", "5.0.0", &[("root", "^5.0.0")]),
        ("child", "5.0.1-0", &[("root", "^5.0.0")]),
        ("other", "1.0.0", &[("root", "^5.0.0")]),
        ("other", "2.0.0", &[("root", "^6.0.0")]),
    ];
    for (name, version, dependencies) in known {
        let document = posted(&manifest(name, version, dependencies), None).document;
        import(core, &document).await?;
    }
    let lines = |head: &str, lines: &[(&str, &str)]| Elsewhere {
        head: Some(head.parse_version()),
        lines: lines
            .iter()
            .map(|(version, previous)| {
                let previous = Some(previous).filter(|text| !text.is_empty());
                (
                    version.parse_version(),
                    previous.map(|text| text.parse_version()),
                )
            })
            .collect(),
        ..Elsewhere::default()
    };
    let root = lines(
        "5.2.3",
        &[("5.2.2", "5.2.3"), ("5.2.3", "5.2.1"), ("5.2.1", "5.2.2")],
    );
    import_lines(core, &"root".parse_name(), &root).await?;
    let child = Elsewhere {
        dependent_of: Some(("root".parse_name(), 7)),
        ..lines("5.0.1-0", &[("5.0.0", ""), ("5.0.1-0", "5.0.0")])
    };
    import_lines(core, &"child".parse_name(), &child).await?;
    for (line, dependent, version) in [
        ("5.2.2", "child", "5.0.0"),
        ("5.2.3", "child", "5.0.1-0"),
        ("5.2.3", "other", "1.0.0"),
        ("5.2.3", "gone", "3.0.0"),
    ] {
        let pair = Pair {
            parent: "root".parse_name(),
            line: line.parse_version(),
            dependent: dependent.parse_name(),
            version: version.parse_version(),
            written: 9,
        };
        import_pair(core, &pair).await?;
    }
    Ok(())
}

/// As often as it takes.
async fn taken_over(world: &mut World) {
    while take_over(world.core()).await.is_err() {
        world.after_failure().await;
    }
    for (name, version, dependencies) in [
        ("child", "5.0.0", &[("root", "^5.0.0")]),
        ("child", "5.0.1-0", &[("root", "^5.0.0")]),
        ("other", "1.0.0", &[("root", "^5.0.0")]),
        ("gone", "3.0.0", &[("root", "^5.0.0")]),
    ] {
        world
            .outside
            .publish(&manifest(name, version, dependencies));
    }
}

fn sent(world: &World) -> Vec<String> {
    let arrived = world.outside.arrived.iter();
    arrived
        .map(|one| format!("{}@{} {}", one.name, one.version, one.env))
        .collect()
}

async fn line(world: &World, version: &str) -> Option<Line> {
    let (name, version) = ("root".parse_name(), version.parse_version());
    world.inner.line(&name, &version).await.unwrap()
}

async fn goes_with(world: &World, version: &str) -> serde_json::Value {
    let pairs = world
        .inner
        .line_dependents(&"root".parse_name(), &version.parse_version(), None, 10)
        .await
        .unwrap();
    pairs
        .into_iter()
        .map(|(name, version)| (name.to_string(), json!(version.to_string())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn lines_are_taken_over_and_the_next_publish_follows_them() {
    survives(async |world: &mut World| {
        taken_over(world).await;
        assert!(sent(world).is_empty());
        let previous = |line: Option<Line>| line.unwrap().previous.map(|one| one.to_string());
        assert_eq!(
            previous(line(world, "5.2.3").await).as_deref(),
            Some("5.2.2")
        );
        assert_eq!(
            previous(line(world, "5.2.2").await),
            None,
            "the loop is cut"
        );
        let head = world.inner.head(&"root".parse_name()).await.unwrap();
        assert_eq!(head, line(world, "5.2.3").await);

        // The next publish follows the head, and the children go on from what they have.
        world.publish("root", "5.2.4", &[]).await;
        world.settle_down().await;
        assert_eq!(
            previous(line(world, "5.2.4").await).as_deref(),
            Some("5.2.3")
        );
        assert_eq!(
            goes_with(world, "5.2.4").await,
            json!({"child": "5.0.1-1", "other": "1.0.1-0"})
        );
        // The import, started once more by somebody, overwrites nothing of it.
        while take_over(world.core()).await.is_err() {
            world.after_failure().await;
        }
        let head = world.inner.head(&"root".parse_name()).await.unwrap();
        assert_eq!(head, line(world, "5.2.4").await);
        assert_eq!(
            goes_with(world, "5.2.3").await,
            json!({"child": "5.0.1-0", "gone": "3.0.0", "other": "1.0.0"})
        );
    })
    .await;
}

#[tokio::test]
async fn a_promotion_sends_the_pairs_of_a_line_that_was_taken_over() {
    survives(async |world: &mut World| {
        taken_over(world).await;
        world.outside.publish(&manifest("root", "5.2.3", &[]));
        world.promote("root", "5.2.3", "test").await;
        world.settle_down().await;
        let mut sent = sent(world);
        sent.sort();
        sent.dedup();
        assert_eq!(
            sent,
            ["child@5.0.1-0 test", "gone@3.0.0 test", "other@1.0.0 test"]
        );
    })
    .await;
}

/// H4: the publish of a version whose line was taken over is posted to us, as after a client's retry across the change of
/// services. It is handled; line and head stay.
#[tokio::test]
async fn h4_a_publish_whose_line_was_taken_over_is_handled_and_moves_nothing() {
    survives(async |world: &mut World| {
        taken_over(world).await;
        world.publish("root", "5.2.2", &[]).await;
        world.settle_down().await;
        let head = world
            .inner
            .head(&"root".parse_name())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(head.version, "5.2.3".parse_version());
        assert_eq!(
            line(world, "5.2.2").await.unwrap().previous,
            None,
            "no loop"
        );
        assert_eq!(
            sent(world),
            ["child@5.0.1-1 ", "other@1.0.1-0 "],
            "those that let it in are rebuilt"
        );
        // Once.
        world.publish("root", "5.2.2", &[]).await;
        world.settle_down().await;
        assert_eq!(world.outside.arrived.len(), 2);
    })
    .await;
}
