//! What waves came to, read from the store and from what the neighbours got.

use std::collections::{BTreeMap, BTreeSet};

use feedsme::model::name::PackageName;
use feedsme::model::package::{Facts, RowKey};
use feedsme::model::wave::{Node, NodeKey, PlanNode, Start, Wave, WaveState};
use feedsme::semver::Version;
use feedsme::store::Want;

use crate::failures::world::{Parse as _, World};

/// All waves, the first opened first.
pub async fn waves(world: &World) -> Vec<Wave> {
    let mut all = world.inner.waves(None, 10_000).await.unwrap();
    all.sort_by_key(|wave| wave.opened);
    all
}

/// The wave that the publish by hand of this version opened.
pub async fn wave_of(world: &World, name: &str, version: &str) -> Option<Wave> {
    let all = waves(world).await;
    all.into_iter().find(|wave| match &wave.start {
        Start::Publish { origins, .. } => origins
            .iter()
            .any(|cause| cause.parent.as_str() == name && cause.version.to_string() == version),
        _ => false,
    })
}

/// The waves that brought a late parent.
pub async fn follow_on(world: &World) -> Vec<Wave> {
    let mut all = waves(world).await;
    all.retain(|wave| matches!(wave.start, Start::LateParent { .. }));
    all
}

/// Every wave has ended.
pub async fn all_closed(world: &World) {
    for wave in waves(world).await {
        let nodes = world.inner.node_page(&wave.id, None, 1_000).await.unwrap();
        assert_eq!(wave.state, WaveState::Closed, "{wave:#?}\n{nodes:#?}");
    }
}

/// The plan and the nodes of a wave; of what it began with there is no plan.
pub async fn nodes(world: &World, wave: &Wave) -> BTreeMap<NodeKey, (Option<PlanNode>, Node)> {
    let mut all = BTreeMap::new();
    let mut after: Option<PackageName> = None;
    while let Some(plan) = &wave.plan {
        let page = world.inner.plan_page(&wave.id, plan, after.as_ref(), 500);
        let page = page.await.unwrap();
        let last = page.last().map(|row| row.key.package.clone());
        for row in page {
            all.insert(row.key.clone(), (Some(row), Node::default()));
        }
        if last.is_none() {
            break;
        }
        after = last;
    }
    let mut after: Option<NodeKey> = None;
    loop {
        let page = world.inner.node_page(&wave.id, after.as_ref(), 500);
        let page = page.await.unwrap();
        let last = page.last().map(|(key, _)| key.clone());
        for (key, node) in page {
            let added = node.added.clone();
            let entry = all.entry(key).or_insert((added, Node::default()));
            entry.1 = node;
        }
        if last.is_none() {
            return all;
        }
        after = last;
    }
}

/// What was sent after the first ones, in order: `name@version` of publishes, `name@version env` of promotions. After a
/// death a rebuild may be sent once more: it counts once.
pub fn sent_since(world: &World, first: usize) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut sent = Vec::new();
    for one in &world.outside.arrived[first..] {
        let new = seen.insert(&one.rebuild);
        assert!(new || world.has_struck(), "{one:?} was sent twice");
        let text = format!("{}@{} {}", one.name, one.version, one.env);
        if new {
            sent.push(text.trim_end().to_owned());
        }
    }
    sent
}

/// How many requests arrived.
pub fn count(world: &World) -> usize {
    world.outside.arrived.len()
}

/// What is known of a version.
pub async fn facts(world: &World, name: &str, version: &str) -> Facts {
    let key = RowKey::publish(&version.parse_version());
    let want = Want::rows(&name.parse_name(), vec![key]);
    let state = world.inner.packages(&[want]).await.unwrap().remove(0);
    let facts = state.facts(&version.parse_version()).cloned();
    facts.unwrap_or_else(|| panic!("{name}@{version} is not known"))
}

/// What a version was built with, as `name@version`.
pub async fn with(world: &World, name: &str, version: &str) -> Vec<String> {
    pairs(facts(world, name, version).await.with.as_ref())
}

/// The lines that a version was attached to, as `name@version`.
pub async fn attached(world: &World, name: &str, version: &str) -> Vec<String> {
    pairs(facts(world, name, version).await.attach.as_ref())
}

fn pairs(map: Option<&BTreeMap<PackageName, Version>>) -> Vec<String> {
    let pairs = map.into_iter().flatten();
    pairs.map(|(name, at)| format!("{name}@{at}")).collect()
}

/// The line of a version, as `name@version`.
pub async fn line(world: &World, name: &str, version: &str) -> Vec<String> {
    let (name, version) = (name.parse_name(), version.parse_version());
    let line = world.inner.line_dependents(&name, &version, None, 1_000);
    let line = line.await.unwrap();
    line.iter()
        .map(|(name, at)| format!("{name}@{at}"))
        .collect()
}
