//! Contract: nodes of waves, promotions.

use std::collections::BTreeMap;
use std::sync::Arc;

#[allow(unused_imports)]
use super::puts::Puts as _;
use feedsme::model::decision::Reason;
use feedsme::model::id::{ChangeId, RebuildId};
use feedsme::model::wave::PlanNode;
use feedsme::store::{Committed, Node, NodeKey, Promotion};

use super::Place;
use super::fixtures::{env, name, package, version, wave};

fn node(released: Option<&str>, published: Option<&str>) -> Node {
    Node {
        released: released.map(RebuildId::new),
        published: published.map(version),
        ..Node::default()
    }
}

pub async fn columns_of_a_node_are_written_once_each(place: &impl Place) {
    let store = place.open().await;
    let (this, other) = (wave(), wave());
    let key = NodeKey {
        package: name("@s/child"),
        version: None,
    };
    let pinned = NodeKey {
        version: Some(version("1.0.0")),
        ..key.clone()
    };
    let steps = [
        (node(None, None), node(None, None)),
        (node(Some("r-1"), None), node(Some("r-1"), None)),
        (node(Some("r-2"), None), node(Some("r-1"), None)),
        (
            node(Some("r-3"), Some("1.0.1-0")),
            node(Some("r-1"), Some("1.0.1-0")),
        ),
        (
            node(None, Some("1.0.1-1")),
            node(Some("r-1"), Some("1.0.1-0")),
        ),
        (node(None, None), node(Some("r-1"), Some("1.0.1-0"))),
    ];
    for (write, expected) in steps {
        store
            .put_nodes(&this, &[(key.clone(), write)])
            .await
            .unwrap();
        assert_eq!(
            store
                .nodes(&this, std::slice::from_ref(&key))
                .await
                .unwrap(),
            [expected]
        );
    }
    // Another version of it, or another wave, is another node.
    let both = [key, pinned.clone()];
    assert_eq!(store.nodes(&this, &both).await.unwrap()[1], Node::default());
    assert_eq!(
        store.nodes(&other, &both).await.unwrap(),
        [Node::default(), Node::default()]
    );
    store
        .put_nodes(&this, &[(pinned, node(Some("r-9"), None))])
        .await
        .unwrap();
    let expected = [node(Some("r-1"), Some("1.0.1-0")), node(Some("r-9"), None)];
    assert_eq!(store.nodes(&this, &both).await.unwrap(), expected);
}

fn added(package: &str) -> PlanNode {
    PlanNode {
        key: NodeKey::package(&name(package)),
        waits_for: vec![NodeKey::pair(&name("@s/root"), &version("1.0.0"))],
        cycle: Vec::new(),
        level: 3,
        base: version("1.0.0"),
        version: None,
        seed: None,
    }
}

pub async fn every_column_of_a_node_is_written_once(place: &impl Place) {
    let store = place.open().await;
    let (this, key) = (wave(), NodeKey::package(&name("child")));
    let skipped = Reason::Held {
        hold: "h-1".into(),
        owner: "ops".into(),
        until: Some(7),
    };
    let columns = [
        Node {
            added: Some(added("child")),
            ..Node::default()
        },
        node(Some("r-1"), None),
        Node {
            failed: Some("dead: \"é\"".into()),
            ..Node::default()
        },
        Node {
            late: Some(1_700_000_000_000),
            ..Node::default()
        },
        Node {
            held: Some("h-1".into()),
            ..Node::default()
        },
        Node {
            skipped: Some(skipped.clone()),
            ..Node::default()
        },
        node(None, Some("1.0.1-0")),
    ];
    let others = Node {
        added: Some(added("other")),
        released: Some(RebuildId::new("r-2")),
        published: Some(version("9.9.9")),
        failed: Some("other".into()),
        late: Some(9),
        held: Some("h-9".into()),
        skipped: Some(Reason::Cancelled),
    };
    // One after the other on one node, and each on a node of its own that then gets the others.
    for (at, column) in columns.iter().enumerate() {
        let alone = NodeKey::package(&name(&format!("alone-{at}")));
        let put = [
            (key.clone(), column.clone()),
            (alone.clone(), column.clone()),
        ];
        store.put_nodes(&this, &put).await.unwrap();
        let there = store.nodes(&this, std::slice::from_ref(&alone)).await;
        assert_eq!(there.unwrap(), std::slice::from_ref(column));
        store
            .put_nodes(&this, &[(alone.clone(), others.clone())])
            .await
            .unwrap();
        let expected = Node {
            added: column.added.clone().or(others.added.clone()),
            released: column.released.clone().or(others.released.clone()),
            published: column.published.clone().or(others.published.clone()),
            failed: column.failed.clone().or(others.failed.clone()),
            late: column.late.or(others.late),
            held: column.held.clone().or(others.held.clone()),
            skipped: column.skipped.clone().or(others.skipped.clone()),
        };
        assert_eq!(store.nodes(&this, &[alone]).await.unwrap(), [expected]);
    }
    let whole = Node {
        added: Some(added("child")),
        released: Some(RebuildId::new("r-1")),
        published: Some(version("1.0.1-0")),
        failed: Some("dead: \"é\"".into()),
        late: Some(1_700_000_000_000),
        held: Some("h-1".into()),
        skipped: Some(skipped),
    };
    assert_eq!(store.nodes(&this, &[key]).await.unwrap(), [whole]);
}

pub async fn nodes_come_in_pages_in_the_order_of_their_keys(place: &impl Place) {
    let store = place.open().await;
    let (this, other) = (wave(), wave());
    let mut expected: Vec<_> = (0..130)
        .map(|at| {
            let key = NodeKey::package(&name(&format!("p{at}")));
            (key, node(Some(&format!("r-{at}")), None))
        })
        .collect();
    // A pair, after the package alone.
    for text in ["1.0.0", "2.0.0"] {
        let key = NodeKey::pair(&name("p77"), &version(text));
        expected.push((key, node(Some(text), None)));
    }
    store.put_nodes(&this, &expected).await.unwrap();
    // Nothing was written of these.
    let nothing = (NodeKey::package(&name("p")), Node::default());
    store.put_nodes(&this, &[nothing]).await.unwrap();
    store.put_nodes(&other, &expected[..1]).await.unwrap();
    let text = |key: &NodeKey| {
        let of = key.version.as_ref().map(ToString::to_string);
        (key.package.as_str().to_owned(), of)
    };
    expected.sort_by_key(|(key, _)| text(key));
    for limit in [1_000, 50, 1] {
        let mut seen: Vec<(NodeKey, Node)> = Vec::new();
        loop {
            let after = seen.last().map(|(key, _)| key.clone());
            let page = store.node_page(&this, after.as_ref(), limit).await.unwrap();
            let full = page.len() == limit;
            seen.extend(page);
            if !full {
                break;
            }
        }
        assert!(seen == expected, "by {limit}");
    }
    assert_eq!(store.node_page(&this, None, 0).await.unwrap(), []);
    assert_eq!(store.node_page(&wave(), None, 9).await.unwrap(), []);
}

pub async fn nodes_are_answered_in_order_however_many(place: &impl Place) {
    let store = place.open().await;
    let wave = wave();
    let key = |at: usize| NodeKey {
        package: name(&format!("p{at}")),
        version: None,
    };
    let nodes: Vec<_> = (0..2_200)
        .map(|at| (key(at), node(Some(&format!("r-{at}")), None)))
        .collect();
    store.put_nodes(&wave, &nodes).await.unwrap();
    let keys: Vec<_> = (0..2_200).rev().chain([9_999, 5, 5]).map(key).collect();
    let mut expected: Vec<_> = nodes.iter().rev().map(|(_, node)| node.clone()).collect();
    expected.extend([
        Node::default(),
        node(Some("r-5"), None),
        node(Some("r-5"), None),
    ]);
    assert!(store.nodes(&wave, &keys).await.unwrap() == expected);
    assert!(store.nodes(&wave, &[]).await.unwrap().is_empty());
}

fn promotion(text: &str, generation: u32) -> Promotion {
    Promotion {
        version: version(text),
        generation,
        promote: generation % 2 == 1,
        change: ChangeId::new(format!("m-{generation}")),
        at: 1_700_000_000_000 - i64::from(generation),
    }
}

pub async fn a_promotion_follows_only_the_latest_one(place: &impl Place) {
    let store = place.open().await;
    let (package, test) = (package("promoted"), env("test"));
    assert_eq!(store.latest_promotion(&package, &test).await.unwrap(), None);
    assert_eq!(store.promotions(&package, &test, 10).await.unwrap(), []);
    // 12 of them: generations are numbers, not text. A version is promoted again after a rollback (H13).
    let all: Vec<_> = (1..=12)
        .map(|at| promotion(["2.0.0", "1.0.0"][at as usize % 2], at))
        .collect();
    for (before, next) in (0..).zip(&all) {
        for wrong in [before + 1, 0, 7] {
            if wrong != before && wrong < next.generation {
                let answer = store.promote(&package, &test, wrong, next).await.unwrap();
                assert_eq!(answer, Committed::Refused, "{next:?} after {wrong}");
            }
        }
        assert_eq!(
            store.promote(&package, &test, before, next).await.unwrap(),
            Committed::Applied
        );
        let mut again = next.clone();
        again.change = ChangeId::new("m-again");
        assert_eq!(
            store
                .promote(&package, &test, before, &again)
                .await
                .unwrap(),
            Committed::Refused
        );
        assert_eq!(
            store
                .latest_promotion(&package, &test)
                .await
                .unwrap()
                .as_ref(),
            Some(next)
        );
    }
    let latest_first: Vec<_> = all.into_iter().rev().collect();
    assert_eq!(
        store.promotions(&package, &test, 100).await.unwrap(),
        latest_first
    );
    assert_eq!(
        store.promotions(&package, &test, 5).await.unwrap(),
        latest_first[..5]
    );
    assert_eq!(store.promotions(&package, &test, 0).await.unwrap(), []);
    // Environments and packages are apart.
    assert_eq!(
        store
            .latest_promotion(&package, &env("prod"))
            .await
            .unwrap(),
        None
    );
    let answer = store
        .promote(&package, &env("prod"), 0, &promotion("3.0.0", 1))
        .await
        .unwrap();
    assert_eq!(answer, Committed::Applied);
    assert_eq!(
        store
            .latest_promotion(&package, &test)
            .await
            .unwrap()
            .as_ref(),
        latest_first.first()
    );
}

pub async fn of_16_promotions_on_one_generation_exactly_one_is_applied(place: &impl Place) {
    let store = place.open().await;
    let package = package("contested");
    for expect in 0..4 {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..16 {
            let (store, package) = (Arc::clone(&store), package.clone());
            tasks.spawn(async move {
                let mut next = promotion("1.0.0", expect + 1);
                next.change = ChangeId::new(format!("m-{task}"));
                let answer = store
                    .promote(&package, &env("prod"), expect, &next)
                    .await
                    .unwrap();
                (next, answer)
            });
        }
        let answers = tasks.join_all().await;
        let won: Vec<_> = answers
            .iter()
            .filter(|(_, answer)| *answer == Committed::Applied)
            .collect();
        assert_eq!(won.len(), 1, "on generation {expect}");
        assert_eq!(
            store
                .latest_promotion(&package, &env("prod"))
                .await
                .unwrap()
                .as_ref(),
            Some(&won[0].0)
        );
    }
}

pub async fn entries_of_the_latest_generation_count(place: &impl Place) {
    let store = place.open().await;
    let (package, this, test) = (package("entries"), version("1.0.0"), env("test"));
    assert_eq!(
        store
            .promotion_entries(&package, &this, &test)
            .await
            .unwrap(),
        BTreeMap::new()
    );
    let put = async |generation: u32, entries: &[(&str, &str)]| {
        let entries: Vec<_> = entries
            .iter()
            .map(|(child, text)| (name(child), version(text)))
            .collect();
        store
            .put_promotion_entries(&package, &this, &test, generation, &entries)
            .await
            .unwrap();
    };
    // The generations come in any order; the tenth is after the second.
    put(10, &[("a", "10.0.0"), ("@s/b", "10.0.0")]).await;
    put(2, &[("a", "2.0.0"), ("c", "2.0.0")]).await;
    put(1, &[("c", "1.0.0"), ("d", "1.0.0")]).await;
    put(10, &[("a", "11.0.0")]).await;
    put(1, &[("d", "11.0.0")]).await;
    put(3, &[]).await;
    let expected: BTreeMap<_, _> = [
        ("a", "10.0.0"),
        ("@s/b", "10.0.0"),
        ("c", "2.0.0"),
        ("d", "1.0.0"),
    ]
    .map(|(child, text)| (name(child), version(text)))
    .into();
    assert_eq!(
        store
            .promotion_entries(&package, &this, &test)
            .await
            .unwrap(),
        expected
    );
    assert!(
        store
            .promotion_entries(&package, &this, &env("prod"))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        store
            .promotion_entries(&package, &version("1.0.1"), &test)
            .await
            .unwrap()
            .is_empty()
    );
}
