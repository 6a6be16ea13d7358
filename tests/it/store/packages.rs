//! Contract: reading packages' partitions.

use std::collections::{BTreeMap, BTreeSet};

#[allow(unused_imports)]
use super::puts::Puts as _;
use feedsme::model::edge::Edge;
use feedsme::model::id::Digest;
use feedsme::model::package::{PackageState, RowKey, Top};
use feedsme::store::{
    Committed, Expect, PackageCommit, Published, RowWrite, Statics, StoreErrorKind, Want, WantOpen,
};

use super::Place;
use super::fixtures::{
    applied, bare_facts, commit, env, name, package, publish, publish_row, rebuild, reserve, state,
    top, unique, version,
};

pub async fn an_unknown_package_has_seq_0_and_nothing_else(place: &impl Place) {
    let store = place.open().await;
    let name = package("unknown");
    let want = Want {
        rows: vec![RowKey::publish(&version("1.0.0"))],
        open: WantOpen::All,
        top_edges: true,
        taken: vec!["1.".into(), String::new()],
        prefixes: vec!["1.".into(), String::new()],
        edges: vec![(name.clone(), "*".into())],
        attached: vec![(name.clone(), version("1.0.0"))],
        ..Want::statics(&name)
    };
    let expected = PackageState {
        name: name.clone(),
        seq: 0,
        stamp: 0,
        head: None,
        top: None,
        dependent_of: None,
        open: BTreeMap::new(),
        rows: Vec::new(),
        taken: BTreeSet::new(),
        edges: BTreeMap::new(),
        attached: BTreeMap::new(),
    };
    assert_eq!(state(&store, want).await, expected);
    assert_eq!(store.published(&name).await.unwrap(), []);
}

pub async fn answers_are_in_the_order_of_the_wants_however_many(place: &impl Place) {
    let store = place.open().await;
    let (first, second) = (package("b"), package("a"));
    applied(&store, &first, 0, vec![publish("1.0.0", 1)]).await;
    let wants = [
        Want::statics(&first),
        Want::statics(&second),
        Want::statics(&first),
    ];
    let states = store.packages(&wants).await.unwrap();
    let seen: Vec<_> = states
        .iter()
        .map(|state| (&state.name, state.seq))
        .collect();
    assert_eq!(seen, [(&first, 1), (&second, 0), (&first, 1)]);
    assert!(store.packages(&[]).await.unwrap().is_empty());
    let many: Vec<_> = (0..2_500)
        .map(|at| Want::statics(&name(&format!("many-{at}"))))
        .collect();
    let states = store.packages(&many).await.unwrap();
    assert!(
        many.iter()
            .map(|want| &want.name)
            .eq(states.iter().map(|state| &state.name))
    );
}

pub async fn manifests_are_kept_by_digest(place: &impl Place) {
    let store = place.open().await;
    let name = package("manifest");
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let one = version("1.0.0");
    assert_eq!(store.manifest(&name, &one, &a).await.unwrap(), None);
    store.put_manifest(&name, &one, &a, b"a").await.unwrap();
    store.put_manifest(&name, &one, &b, b"b").await.unwrap();
    store.put_manifest(&name, &one, &a, b"a").await.unwrap();
    assert_eq!(
        store.manifest(&name, &one, &a).await.unwrap().as_deref(),
        Some(&b"a"[..])
    );
    assert_eq!(
        store.manifest(&name, &one, &b).await.unwrap().as_deref(),
        Some(&b"b"[..])
    );
    assert_eq!(
        store.manifest(&name, &version("1.0.1"), &a).await.unwrap(),
        None
    );
}

pub async fn published_versions_are_those_with_facts(place: &impl Place) {
    let store = place.open().await;
    let name = package("published");
    let mut plain = publish("1.0.0", 1);
    plain.facts = Some(bare_facts());
    let rows = vec![
        plain,
        publish("1.0.1-0", 1),
        reserve("1.0.1-1", 1, &rebuild()),
        RowWrite::new(
            RowKey::promotion(&version("1.0.2"), &env("dev")),
            Expect::Nothing,
            1,
        ),
    ];
    applied(&store, &name, 0, rows).await;
    let mut published = store.published(&name).await.unwrap();
    published.sort_by(|a, b| a.version.cmp(&b.version));
    let expected = [
        Published {
            version: version("1.0.0"),
            origin: None,
            tag: None,
        },
        Published {
            version: version("1.0.1-0"),
            origin: Some(version("5.0.0")),
            tag: Some("next".into()),
        },
    ];
    assert_eq!(published, expected);
    // Its notice makes a reservation a published version.
    let reserved = publish_row(&store, &name, "1.0.1-1").await.unwrap();
    applied(&store, &name, 1, vec![publish("1.0.1-1", 9)]).await;
    assert_eq!(store.published(&name).await.unwrap().len(), 3);
    assert_eq!(
        publish_row(&store, &name, "1.0.1-1").await.unwrap().rebuild,
        reserved.rebuild
    );
}

pub async fn names_of_managed_packages_come_in_pages(place: &impl Place) {
    let store = place.open().await;
    let run = unique();
    let mut expected: Vec<_> = (0..7).map(|at| name(&format!("n-{run}-{at}"))).collect();
    expected.push(name(&format!("@n-{run}/c")));
    expected.sort();
    for package in &expected {
        applied(&store, package, 0, Vec::new()).await;
    }
    // Rows alone do not make a package managed.
    let unmanaged = name(&format!("n-{run}-3-x"));
    let mut write = publish("1.0.0", 1);
    write.expect = Expect::Absent;
    assert_eq!(
        commit(&store, PackageCommit::row(&unmanaged, write)).await,
        Committed::Applied
    );
    assert_eq!(state(&store, Want::statics(&unmanaged)).await.seq, 0);

    for limit in [1, 3, 8, 1000] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = store.names(after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit && page.is_sorted());
            let last = page.len() < limit;
            after = page.last().cloned().or(after);
            seen.extend(page);
            if last {
                break;
            }
        }
        assert!(seen.is_sorted_by(|a, b| a < b), "a name came twice");
        seen.retain(|name| name.as_str().contains(&run));
        assert_eq!(seen, expected, "in pages of {limit}");
    }
    let after = store
        .names(Some(&name(&format!("n-{run}-4"))), 2)
        .await
        .unwrap();
    assert_eq!(
        after,
        [name(&format!("n-{run}-5")), name(&format!("n-{run}-6"))]
    );
    assert_eq!(store.names(None, 0).await.unwrap(), []);
}

pub async fn the_highest_versions_of_all_packages_come_in_pages(place: &impl Place) {
    let store = place.open().await;
    let run = unique();
    let with = |version: &str| PackageCommit {
        statics: Statics {
            top: Some(top(version)),
            ..Statics::default()
        },
        ..PackageCommit::at(&name("a"), 0)
    };
    let mut expected = BTreeMap::new();
    for at in 0..9 {
        let package = name(&format!("@t-{run}/{at}"));
        let batch = PackageCommit {
            name: package.clone(),
            ..with("1.0.0")
        };
        assert_eq!(commit(&store, batch).await, Committed::Applied);
        let mut highest = top("1.0.0");
        if at % 2 == 1 {
            // It has another one now, of no origin, that declares nothing.
            highest = Top {
                version: version("2.0.0-rc.1"),
                origin: None,
                edges: Vec::new(),
            };
            let batch = PackageCommit {
                name: package.clone(),
                expect_seq: Some(1),
                statics: Statics {
                    top: Some(highest.clone()),
                    ..Statics::default()
                },
                ..with("1.0.0")
            };
            assert_eq!(commit(&store, batch).await, Committed::Applied);
        }
        expected.insert(package, highest);
    }
    // Managed, but without a version under `latest`; and rows alone.
    applied(&store, &name(&format!("@t-{run}/none")), 0, Vec::new()).await;
    let mut write = publish("1.0.0", 1);
    write.expect = Expect::Absent;
    let unmanaged = name(&format!("@t-{run}/rows"));
    let batch = PackageCommit::row(&unmanaged, write);
    assert_eq!(commit(&store, batch).await, Committed::Applied);

    for limit in [4, 500, 100_000] {
        let mut seen = BTreeMap::new();
        let mut cursor: Option<String> = None;
        loop {
            let (page, next) = store.tops(cursor.as_deref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            for row in page.iter().filter(|row| row.name.contains(&run)) {
                let edges = row.edges.iter().map(|(parent, range)| Edge {
                    parent: name(parent),
                    range: (*range).to_owned(),
                });
                let highest = Top {
                    version: version(row.version),
                    origin: row.origin.map(version),
                    edges: edges.collect(),
                };
                let before = seen.insert(name(row.name), highest);
                assert_eq!(before, None, "{} came twice", row.name);
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "in pages of {limit}");
    }
    let error = store.tops(Some("no cursor"), 1).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Bug);
}
