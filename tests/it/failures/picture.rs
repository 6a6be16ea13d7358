//! Everything that a store holds in the end, as lines of text without times and without ids that are different in every
//! run: two runs came to the same end if their pictures are equal.

use std::collections::{BTreeMap, BTreeSet};

use feedsme::model::change::{Change, Planned, Verdict};
use feedsme::model::id::{ChangeId, WaveId};
use feedsme::model::name::PackageName;
use feedsme::model::package::{Kind, PackageState, RebuildState, Row, RowKey, Slot};
use feedsme::semver::Version;
use feedsme::store::{Store, Want, WantOpen};

use super::world::World;

/// Promotions have ids of their own making; here they are called by what they promote and how often.
struct Names(BTreeMap<String, String>);

impl Names {
    fn new(changes: &[&Change]) -> Self {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut names = BTreeMap::new();
        for change in changes {
            let what = format!("{}@{}→{}", change.name, change.version, change.env);
            let name = match change.kind {
                Kind::Publish => what,
                Kind::Promotion => {
                    let count = counts.entry(what.clone()).or_default();
                    *count += 1;
                    format!("{what}#{count}")
                }
            };
            names.insert(change.id.as_str().to_owned(), name);
        }
        Self(names)
    }

    fn change(&self, id: &ChangeId) -> String {
        self.0.get(id.as_str()).cloned().unwrap_or("?".into())
    }

    fn wave(&self, id: &WaveId) -> String {
        self.0.get(id.as_str()).cloned().unwrap_or("?".into())
    }
}

fn digits() -> Vec<String> {
    (0..10).map(|digit| digit.to_string()).collect()
}

/// All of a package's partition.
pub async fn partition(store: &dyn Store, name: &PackageName, envs: &[&str]) -> PackageState {
    let want = Want {
        top_edges: true,
        open: WantOpen::All,
        prefixes: digits(),
        taken: digits(),
        ..Want::statics(name)
    };
    let mut state = store.packages(&[want]).await.unwrap().pop().unwrap();
    let keys = |version: &Version| {
        let version = version.clone();
        envs.iter().map(move |env| RowKey {
            version: version.clone(),
            slot: Slot::from_column(env),
        })
    };
    let rows: Vec<RowKey> = state.taken.iter().flat_map(keys).collect();
    let more = store.packages(&[Want::rows(name, rows)]).await.unwrap();
    state
        .rows
        .extend(more.into_iter().flat_map(|state| state.rows));
    state
}

fn text<T: std::fmt::Display>(value: Option<&T>) -> String {
    value.map_or("-".into(), ToString::to_string)
}

fn pairs(map: Option<&BTreeMap<PackageName, Version>>) -> String {
    let list = |map: &BTreeMap<PackageName, Version>| {
        let pairs: Vec<String> = map
            .iter()
            .map(|(name, version)| format!("{name}@{version}"))
            .collect();
        format!("[{}]", pairs.join(" "))
    };
    map.map_or("-".into(), list)
}

fn row(names: &Names, name: &PackageName, row: &Row) -> Vec<String> {
    let mut lines = Vec::new();
    let key = format!("{name}@{} {:?}", row.key.version, row.key.slot.as_str());
    if let Some(facts) = &row.facts {
        lines.push(format!(
            "{key} facts: noticed={} digest={} tag={:?} origin={} previous={} tarball_of={} with={} attach={} took_place={}",
            facts.noticed.is_some(),
            text(facts.digest.as_ref()),
            facts.tag,
            text(facts.origin.as_ref()),
            text(facts.previous.as_ref()),
            text(facts.tarball_of.as_ref()),
            pairs(facts.with.as_ref()),
            pairs(facts.attach.as_ref()),
            facts.took_place.len(),
        ));
    }
    if let Some(one) = &row.rebuild {
        let waves: BTreeSet<String> = one.waves.iter().map(|wave| names.wave(wave)).collect();
        let causes: Vec<String> = one
            .cause
            .iter()
            .map(|cause| format!("{}@{}", cause.parent, cause.version))
            .collect();
        lines.push(format!(
            "{key} rebuild: {} generation={} base={} origin={} tarball_of={} causes={causes:?} with={} waves={waves:?} because={:?}",
            one.state,
            one.generation,
            one.base,
            one.origin,
            one.tarball_of,
            pairs(Some(&one.with)),
            one.ended_because,
        ));
    }
    lines
}

fn verdict(planned: &Planned) -> String {
    format!(
        "{} rebuilds={} skips={}",
        planned.verdict.code(),
        planned.rebuilds,
        planned.skips
    )
}

/// The picture; checks that every answered change was planned.
pub async fn picture(world: &World) -> Vec<String> {
    let store = &*world.inner;
    let mut lines = Vec::new();

    let mut changes = store.changes(None, 100_000).await.unwrap();
    changes.sort_by(|one, other| (one.accepted, &one.id).cmp(&(other.accepted, &other.id)));
    for id in &world.answered {
        let planned = changes
            .iter()
            .any(|change| change.id == *id && change.planned.is_some());
        assert!(planned, "{id} was answered and never planned");
    }
    let counts: Vec<&Change> = changes
        .iter()
        .filter(|change| {
            change
                .planned
                .as_ref()
                .is_some_and(|planned| !matches!(planned.verdict, Verdict::Duplicate { .. }))
        })
        .collect();
    let names = Names::new(&counts);
    for change in &counts {
        let name = names.change(&change.id);
        lines.push(format!(
            "{name}: {}",
            change.planned.as_ref().map(verdict).unwrap()
        ));
        for decision in store.decisions(&change.id, 0, 100_000).await.unwrap() {
            lines.push(format!(
                "{name}: {} in {}: {} range={:?} top={} base={} version={} flags={:?}",
                decision.dependent,
                names.wave(&decision.wave),
                decision.reason.code(),
                decision.range,
                text(decision.top.as_ref()),
                text(decision.base.as_ref()),
                text(decision.version.as_ref()),
                decision.flags,
            ));
        }
    }

    for name in store.names(None, 1_000).await.unwrap() {
        let state = partition(store, &name, &["dev", "test", "prod"]).await;
        lines.push(format!(
            "{name}: head={} top={} dependent_of={}",
            text(state.head.as_ref().map(|head| &head.version)),
            text(state.top.as_ref().map(|top| &top.version)),
            text(state.dependent_of.as_ref()),
        ));
        for (wave, version) in &state.open {
            lines.push(format!("{name}: open {version} for {}", names.wave(wave)));
        }
        for one in &state.rows {
            lines.extend(row(&names, &name, one));
            if let Some(rebuild) = &one.rebuild {
                let id = &rebuild.id;
                let found = store.rebuilds(std::slice::from_ref(id)).await.unwrap();
                // Who reserved it may have died before telling, and a publish by hand ended it before that was done again.
                let nobody_knew = rebuild.state == RebuildState::Superseded && rebuild.attempt == 0;
                assert!(
                    found[0].is_some() || nobody_knew,
                    "a rebuild of {name} cannot be found by its id: {one:?}"
                );
            }
        }
        for edge in store.dependents(&name, None, 1_000).await.unwrap() {
            lines.push(format!(
                "{name} ← {}@{} {:?}",
                edge.dependent, edge.top, edge.range
            ));
            for (range, version) in store.ranges(&name, &edge.dependent).await.unwrap() {
                lines.push(format!("{name} ← {} {range} {version}", edge.dependent));
            }
        }
        let head = store.head(&name).await.unwrap();
        lines.push(format!("{name}: head line {head:?}"));
        for line in store.lines(&name).await.unwrap() {
            lines.push(format!(
                "{name}@{} after {}",
                line.version,
                text(line.previous.as_ref())
            ));
            let dependents = store
                .line_dependents(&name, &line.version, None, 1_000)
                .await
                .unwrap();
            for (dependent, version) in dependents {
                lines.push(format!("{name}@{} has {dependent}@{version}", line.version));
            }
        }
        for env in world.rules.environments.iter() {
            for one in store.promotions(&name, env, 1_000).await.unwrap() {
                lines.push(format!(
                    "{name} in {env}: {} {}",
                    one.generation, one.version
                ));
                let entries = store
                    .promotion_entries(&name, &one.version, env)
                    .await
                    .unwrap();
                lines.push(format!(
                    "{name}@{} in {env}: {}",
                    one.version,
                    pairs(Some(&entries))
                ));
            }
        }
    }
    lines.sort();
    lines
}

/// What must hold in every store at rest, however it came to be so: the projections say what the partitions say, and
/// the list of lines ends.
pub async fn check(world: &World) {
    let store = &*world.inner;
    let names = store.names(None, 1_000).await.unwrap();
    let mut given: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for one in world
        .outside
        .arrived
        .iter()
        .filter(|one| one.env.is_empty())
    {
        given
            .entry((one.name.clone(), one.version.clone()))
            .or_default()
            .insert(one.rebuild.to_string());
    }
    for (version, rebuilds) in given {
        assert_eq!(rebuilds.len(), 1, "{version:?} was given out twice");
    }
    for name in &names {
        let state = partition(store, name, &["dev", "test", "prod"]).await;
        let head = store.head(name).await.unwrap();
        assert_eq!(
            head.as_ref().map(|line| &line.version),
            state.head.as_ref().map(|head| &head.version),
            "head of {name}"
        );
        let lines: BTreeMap<Version, Option<Version>> = store
            .lines(name)
            .await
            .unwrap()
            .into_iter()
            .map(|line| (line.version, line.previous))
            .collect();
        for start in lines.keys() {
            let mut at = Some(start.clone());
            for _ in 0..=lines.len() {
                at = at.and_then(|at| lines.get(&at).cloned().flatten());
            }
            assert!(at.is_none(), "the lines of {name} never end from {start}");
        }
        for one in &state.rows {
            if let Some(facts) = one.facts.as_ref().filter(|facts| facts.noticed.is_some()) {
                assert_eq!(
                    lines.get(&one.key.version),
                    Some(&facts.previous),
                    "line of {name}"
                );
                // A line that came with an import has no notice of ours, which would decide it.
                assert!(
                    facts.attach.is_some() || facts.notice.is_none(),
                    "{name}@{} goes with nothing",
                    one.key.version
                );
                for (parent, line) in facts.attach.iter().flatten() {
                    let entries = store
                        .line_dependents(parent, line, None, 1_000)
                        .await
                        .unwrap();
                    let entry = entries.iter().find(|(dependent, _)| dependent == name);
                    assert!(
                        entry.is_some_and(|(_, version)| *version >= one.key.version),
                        "{name}@{} is not in {parent}@{line}: {entry:?}",
                        one.key.version
                    );
                }
            }
        }
        let Some(top) = &state.top else { continue };
        for parent in &names {
            let edges = store.dependents(parent, None, 1_000).await.unwrap();
            let declared = top.edges.iter().find(|edge| edge.parent == *parent);
            let edge = edges.iter().find(|edge| edge.dependent == *name);
            match (declared, edge) {
                (Some(one), Some(edge)) => {
                    assert_eq!(edge.top, top.version, "top of {parent} ← {name}");
                    assert_eq!(edge.range.as_ref(), Some(&one.range), "{parent} ← {name}");
                }
                // Which version dropped it stays written.
                (None, Some(edge)) => assert_eq!(edge.range, None, "{parent} ← {name}"),
                (declared, None) => assert_eq!(declared, None, "{parent} ← {name} is not there"),
            }
        }
    }
}
