//! Contract: the parts of a package's partition.

use std::collections::BTreeMap;

use feedsme::model::package::{Head, PackageState, RebuildState, Row, RowKey};
use feedsme::store::{Committed, Expect, PackageCommit, RowWrite, Statics, Want, WantOpen};

use super::Place;
use super::fixtures::{
    applied, bare_facts, bare_rebuild, commit, env, facts, name, package, publish, rebuild,
    reserve, row, state, top, version, wave,
};

pub async fn every_field_of_a_row_comes_back(place: &impl Place) {
    let store = place.open().await;
    let name = package("@s/rows");
    let mut expected = vec![
        Row {
            key: RowKey::publish(&version("1.0.0")),
            born: 1,
            facts: Some(facts()),
            rebuild: None,
        },
        Row {
            key: RowKey::publish(&version("1.0.1-0")),
            born: 2,
            facts: None,
            rebuild: Some(rebuild()),
        },
        Row {
            key: RowKey::publish(&version("1.0.1-1")),
            born: 3,
            facts: Some(bare_facts()),
            rebuild: Some(rebuild()),
        },
        Row {
            key: RowKey::promotion(&version("1.0.0"), &env("dev")),
            born: 4,
            facts: None,
            rebuild: Some(rebuild()),
        },
        Row {
            key: RowKey::promotion(&version("1.0.0"), &env("prod")),
            born: 5,
            facts: None,
            rebuild: None,
        },
        Row {
            key: RowKey::publish(&version("2.0.0")),
            born: 1 << 40,
            facts: None,
            rebuild: Some(bare_rebuild()),
        },
    ];
    let mut some = facts();
    // Nothing decided, and decided to be nothing, are two things.
    (some.with, some.attach, some.dropped) = (
        Some(BTreeMap::new()),
        Some(BTreeMap::new()),
        Some(Vec::new()),
    );
    (some.took_place, some.stamp, some.noticed) = (Vec::new(), i64::MAX, Some(i64::MIN));
    expected.push(Row {
        key: RowKey::publish(&version("2.0.1")),
        born: 6,
        facts: Some(some),
        rebuild: None,
    });
    let states = [
        RebuildState::Queued,
        RebuildState::Sending,
        RebuildState::Published,
        RebuildState::Dead,
        RebuildState::Superseded,
        RebuildState::Foreign,
    ];
    for (at, state) in states.into_iter().enumerate() {
        let mut rebuild = rebuild();
        (rebuild.state, rebuild.attempt, rebuild.order) = (state, u32::MAX, 1 << 50);
        let key = RowKey::promotion(&version(&format!("3.0.{at}")), &env("test"));
        expected.push(Row {
            key,
            born: 7,
            facts: None,
            rebuild: Some(rebuild),
        });
    }
    let writes = expected.iter().map(|row| RowWrite {
        facts: row.facts.clone(),
        rebuild: row.rebuild.clone(),
        ..RowWrite::new(row.key.clone(), Expect::Absent, row.born)
    });
    applied(&store, &name, 0, writes.collect()).await;
    for expected in expected {
        assert_eq!(row(&store, &name, &expected.key).await, Some(expected));
    }
    assert_eq!(
        row(
            &store,
            &name,
            &RowKey::promotion(&version("1.0.0"), &env("test"))
        )
        .await,
        None
    );
}

pub async fn statics_are_replaced_one_by_one(place: &impl Place) {
    let store = place.open().await;
    let package = package("statics");
    let mut expected = state(&store, Want::statics(&package)).await;
    let bare = feedsme::model::package::Top {
        version: version("1.0.0"),
        origin: None,
        edges: Vec::new(),
    };
    let steps = [
        Statics::default(),
        Statics {
            stamp: Some(17),
            ..Statics::default()
        },
        Statics {
            head: Some(Head {
                version: version("1.0.0"),
                born: 1,
            }),
            ..Statics::default()
        },
        Statics {
            top: Some(top("1.0.1-0")),
            ..Statics::default()
        },
        Statics {
            dependent_of: Some(Some(name("@s/root"))),
            ..Statics::default()
        },
        Statics::default(),
        Statics {
            dependent_of: Some(None),
            ..Statics::default()
        },
        Statics {
            stamp: Some(1_700_000_000_000_000),
            head: Some(Head {
                version: version("2.0.0-rc.1"),
                born: 1 << 33,
            }),
            top: Some(bare),
            dependent_of: Some(Some(name("other"))),
            ..Statics::default()
        },
    ];
    for (seq, statics) in (0..).zip(steps) {
        expected.seq = seq + 1;
        expected.stamp = statics.stamp.unwrap_or(expected.stamp);
        expected.head = statics.head.clone().or(expected.head);
        expected.top = statics.top.clone().or(expected.top);
        expected.dependent_of = statics
            .dependent_of
            .clone()
            .unwrap_or(expected.dependent_of);
        let batch = PackageCommit {
            statics,
            ..PackageCommit::at(&package, seq)
        };
        assert_eq!(commit(&store, batch).await, Committed::Applied);
        let with_edges = Want {
            top_edges: true,
            ..Want::statics(&package)
        };
        assert_eq!(state(&store, with_edges).await, expected);
        let bare = state(&store, Want::statics(&package)).await;
        let version =
            |top: &feedsme::model::package::Top| (top.version.clone(), top.origin.clone());
        assert_eq!(
            bare.top.as_ref().map(version),
            expected.top.as_ref().map(version)
        );
        assert!(bare.top.is_none_or(|top| top.edges.is_empty()));
    }
}

pub async fn reservations_are_added_replaced_and_removed(place: &impl Place) {
    let store = place.open().await;
    let name = package("open");
    let (a, b, c) = (wave(), wave(), wave());
    let waves = [a.clone(), b.clone(), c.clone(), wave()];
    let open = |pairs: &[(&feedsme::model::id::WaveId, &str)]| -> BTreeMap<_, _> {
        pairs
            .iter()
            .map(|(wave, text)| ((*wave).clone(), version(text)))
            .collect()
    };
    let steps = [
        (
            open(&[(&a, "1.0.1-0"), (&b, "1.0.1-1")]),
            vec![],
            open(&[(&a, "1.0.1-0"), (&b, "1.0.1-1")]),
        ),
        (
            open(&[(&c, "1.0.1-2")]),
            vec![a.clone()],
            open(&[(&b, "1.0.1-1"), (&c, "1.0.1-2")]),
        ),
        // Removed and added in one batch is replaced.
        (
            open(&[(&b, "1.0.1-3")]),
            vec![b.clone(), a.clone()],
            open(&[(&b, "1.0.1-3"), (&c, "1.0.1-2")]),
        ),
        (
            open(&[(&c, "1.0.1-4")]),
            vec![],
            open(&[(&b, "1.0.1-3"), (&c, "1.0.1-4")]),
        ),
        (open(&[]), vec![b, c, a], open(&[])),
    ];
    for (seq, (open, close, expected)) in (0..).zip(steps) {
        let statics = Statics {
            open,
            close,
            ..Statics::default()
        };
        let batch = PackageCommit {
            statics,
            ..PackageCommit::at(&name, seq)
        };
        assert_eq!(commit(&store, batch).await, Committed::Applied);
        let read = async |open: WantOpen| {
            let want = Want {
                open,
                ..Want::statics(&name)
            };
            state(&store, want).await.open
        };
        assert_eq!(read(WantOpen::All).await, expected, "after step {seq}");
        assert!(read(WantOpen::No).await.is_empty());
        for wave in &waves {
            let mut own = expected.clone();
            own.retain(|one, _| one == wave);
            assert_eq!(
                read(WantOpen::Of(wave.clone())).await,
                own,
                "after step {seq}"
            );
        }
    }
}

pub async fn only_what_was_asked_for_is_read_and_each_row_once(place: &impl Place) {
    let store = place.open().await;
    let package = package("asked");
    let (one, other) = (name("one"), name("@s/other"));
    let reserved = [("1.0.1-0", wave()), ("1.0.1-1", wave())];
    let batch = PackageCommit {
        statics: Statics {
            open: reserved
                .iter()
                .map(|(text, wave)| (wave.clone(), version(text)))
                .collect(),
            ..Statics::default()
        },
        rows: vec![
            publish("1.0.0", 1),
            reserve("1.0.1-0", 1, &rebuild()),
            reserve("1.0.1-1", 1, &rebuild()),
            RowWrite::new(
                RowKey::promotion(&version("1.0.1-0"), &env("dev")),
                Expect::Nothing,
                1,
            ),
        ],
        edges: vec![
            (one.clone(), "^1".into(), version("1.0.0")),
            (one.clone(), "^2".into(), version("2.0.0")),
            (other.clone(), "^1".into(), version("3.0.0")),
        ],
        attached: vec![
            (one.clone(), version("1.0.0"), version("1.0.0")),
            (one.clone(), version("2.0.0"), version("1.0.1-0")),
        ],
        ..PackageCommit::at(&package, 0)
    };
    assert_eq!(commit(&store, batch).await, Committed::Applied);

    let bare = state(&store, Want::statics(&package)).await;
    assert!(bare.open.is_empty() && bare.rows.is_empty() && bare.taken.is_empty());
    assert!(bare.edges.is_empty() && bare.attached.is_empty());

    let keys = |state: &PackageState| -> Vec<String> {
        let mut keys: Vec<_> = state
            .rows
            .iter()
            .map(|row| format!("{} {}", row.key.version, row.key.slot.as_str()))
            .collect();
        keys.sort();
        keys
    };
    let open = state(
        &store,
        Want {
            open: WantOpen::All,
            ..Want::statics(&package)
        },
    )
    .await;
    assert_eq!(keys(&open), ["1.0.1-0 ", "1.0.1-1 "]);
    let of_one = Want {
        open: WantOpen::Of(reserved[1].1.clone()),
        ..Want::statics(&package)
    };
    assert_eq!(keys(&state(&store, of_one).await), ["1.0.1-1 "]);
    let thrice = Want {
        rows: vec![
            RowKey::publish(&version("1.0.1-0")),
            RowKey::publish(&version("1.0.1-0")),
            RowKey::publish(&version("9.9.9")),
            RowKey::promotion(&version("1.0.1-0"), &env("dev")),
        ],
        open: WantOpen::All,
        prefixes: vec!["1.0.1-".into(), "1.0.1-0".into()],
        edges: vec![(one.clone(), "^2".into()), (other.clone(), "^2".into())],
        attached: vec![(one.clone(), version("2.0.0")), (other, version("2.0.0"))],
        ..Want::statics(&package)
    };
    let thrice = state(&store, thrice).await;
    assert_eq!(keys(&thrice), ["1.0.1-0 ", "1.0.1-0 dev", "1.0.1-1 "]);
    assert_eq!(
        thrice.edges,
        BTreeMap::from([((one.clone(), "^2".into()), version("2.0.0"))])
    );
    assert_eq!(
        thrice.attached,
        BTreeMap::from([((one.clone(), version("2.0.0")), version("1.0.1-0"))])
    );

    // Setting a summary again replaces it.
    let batch = PackageCommit {
        edges: vec![(one.clone(), "^2".into(), version("2.1.0"))],
        attached: vec![(one.clone(), version("2.0.0"), version("1.0.1-1"))],
        ..PackageCommit::at(&package, 1)
    };
    assert_eq!(commit(&store, batch).await, Committed::Applied);
    let want = Want {
        edges: vec![(one.clone(), "^2".into()), (one.clone(), "^1".into())],
        attached: vec![(one.clone(), version("2.0.0"))],
        ..Want::statics(&package)
    };
    let again = state(&store, want).await;
    assert_eq!(again.edges[&(one.clone(), "^2".into())], version("2.1.0"));
    assert_eq!(again.edges[&(one.clone(), "^1".into())], version("1.0.0"));
    assert_eq!(again.attached[&(one, version("2.0.0"))], version("1.0.1-1"));
}

pub async fn a_prefix_finds_the_versions_that_begin_with_it_and_no_other(place: &impl Place) {
    let store = place.open().await;
    let name = package("prefix");
    let all = [
        "5.0.0",
        "5.0.0-0",
        "5.0.1",
        "5.0.1-0",
        "5.0.1-1",
        "5.0.1-10",
        "5.0.1-beta.0",
        "5.0.10",
        "5.0.10-0",
        "5.0.2-0",
        "50.0.1-0",
    ];
    // Published, reserved, or merely there: taken is taken.
    let mut rows: Vec<_> = all.iter().map(|text| publish(text, 1)).collect();
    rows[3] = reserve(all[3], 1, &rebuild());
    rows[4].facts = None;
    rows.push(RowWrite::new(
        RowKey::promotion(&version("5.0.1-0"), &env("dev")),
        Expect::Nothing,
        1,
    ));
    rows.push(RowWrite::new(
        RowKey::promotion(&version("5.0.1-7"), &env("dev")),
        Expect::Nothing,
        1,
    ));
    applied(&store, &name, 0, rows).await;
    // A neighbour in the order of names, which must not be read.
    let next = feedsme::model::name::PackageName::parse(&format!("{name}-x")).unwrap();
    applied(&store, &next, 0, vec![publish("5.0.1-99", 1)]).await;
    for prefix in [
        "5.0.1-",
        "5.0.1",
        "5.0.1-1",
        "5.",
        "5",
        "6",
        "5.0.1-beta.0",
        "5.0.1-beta.0.",
        "",
    ] {
        let expected: Vec<_> = all
            .iter()
            .filter(|text| text.starts_with(prefix))
            .copied()
            .collect();
        let rows = Want {
            prefixes: vec![prefix.into()],
            ..Want::statics(&name)
        };
        let rows = state(&store, rows).await;
        let mut found: Vec<_> = rows
            .rows
            .iter()
            .map(|row| row.key.version.to_string())
            .collect();
        found.sort();
        assert_eq!(found, expected, "begin with {prefix:?}");
        assert!(rows.taken.is_empty());

        let taken = Want {
            taken: vec![prefix.into(), prefix.into()],
            ..Want::statics(&name)
        };
        let taken = state(&store, taken).await;
        let mut found: Vec<_> = taken.taken.iter().map(ToString::to_string).collect();
        found.sort();
        assert_eq!(found, expected, "taken under {prefix:?}");
        assert!(taken.rows.is_empty());
    }
}

/// H21: Babel has 5,644 ranges in one package's dependents.
pub async fn an_edge_with_thousands_of_ranges_is_read_range_by_range(place: &impl Place) {
    let store = place.open().await;
    let (package, parent) = (package("wide"), name("@s/parent"));
    let range = |at: usize| format!("^{at}.0.0 || {at}");
    let edges: Vec<_> = (0..5_644)
        .map(|at| (parent.clone(), range(at), version(&format!("{at}.0.0"))))
        .collect();
    for (seq, part) in (0..).zip(edges.chunks(200)) {
        let batch = PackageCommit {
            edges: part.to_vec(),
            ..PackageCommit::at(&package, seq)
        };
        assert_eq!(commit(&store, batch).await, Committed::Applied);
    }
    let asked = [0, 1, 2_822, 5_643, 5_644].map(|at| (parent.clone(), range(at)));
    let found = state(
        &store,
        Want {
            edges: asked.to_vec(),
            ..Want::statics(&package)
        },
    )
    .await;
    assert_eq!(found.edges.len(), 4);
    assert_eq!(
        found.edges[&(parent.clone(), range(2_822))],
        version("2822.0.0")
    );
}
