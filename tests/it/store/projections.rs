//! Contract: projections and their stamps.

use std::sync::Arc;

#[allow(unused_imports)]
use super::puts::Puts as _;
use feedsme::model::name::PackageName;
use feedsme::store::{Dependent, Line, Projection, Store};

use super::Place;
use super::fixtures::{name, package, version};

fn dependent(name: &PackageName, top: &str, range: Option<&str>) -> Dependent {
    Dependent {
        dependent: name.clone(),
        top: version(top),
        range: range.map(str::to_owned),
    }
}

fn line(package: &PackageName, text: &str, previous: Option<&str>) -> Line {
    Line {
        package: package.clone(),
        version: version(text),
        previous: previous.map(version),
    }
}

/// Every kind of projection, of one parent and one dependent; `n` makes the values differ.
fn all(parent: &PackageName, child: &PackageName, n: u32) -> Vec<Projection> {
    let (this, one) = (version(&format!("{n}.0.0")), version("1.0.0"));
    let previous = Some(version(&format!("{n}.0.0-previous")));
    vec![
        Projection::Dependent {
            parent: parent.clone(),
            row: Dependent {
                dependent: child.clone(),
                top: this.clone(),
                range: (n != 3).then(|| format!("^{n}")),
            },
        },
        Projection::Range {
            parent: parent.clone(),
            dependent: child.clone(),
            range: "^1 || \"odd\"".into(),
            version: this.clone(),
        },
        Projection::Line(Line {
            package: parent.clone(),
            version: one.clone(),
            previous: previous.clone(),
        }),
        Projection::Head(Line {
            package: parent.clone(),
            version: this.clone(),
            previous,
        }),
        Projection::LineDependent {
            package: parent.clone(),
            version: one,
            dependent: child.clone(),
            dependent_version: this,
        },
        Projection::DependentOf {
            package: child.clone(),
            parent: (n != 3).then(|| parent.clone()),
        },
    ]
}

async fn check(store: &Arc<dyn Store>, parent: &PackageName, child: &PackageName, n: u32) {
    let this = format!("{n}.0.0");
    let previous = format!("{n}.0.0-previous");
    let range = (n != 3).then(|| format!("^{n}"));
    let expected = [dependent(child, &this, range.as_deref())];
    assert_eq!(store.dependents(parent, None, 10).await.unwrap(), expected);
    assert_eq!(
        store.ranges(parent, child).await.unwrap(),
        [("^1 || \"odd\"".to_owned(), version(&this))]
    );
    let kept = line(parent, "1.0.0", Some(&previous));
    assert_eq!(
        store
            .line(parent, &version("1.0.0"))
            .await
            .unwrap()
            .as_ref(),
        Some(&kept)
    );
    assert_eq!(store.lines(parent).await.unwrap(), [kept]);
    assert_eq!(
        store.head(parent).await.unwrap(),
        Some(line(parent, &this, Some(&previous)))
    );
    let dependents = store
        .line_dependents(parent, &version("1.0.0"), None, 10)
        .await
        .unwrap();
    assert_eq!(dependents, [(child.clone(), version(&this))]);
}

pub async fn a_lower_stamp_changes_nothing(place: &impl Place) {
    let store = place.open().await;
    let (parent, child) = (package("@s/parent"), package("child"));
    store
        .project(1_000, &all(&parent, &child, 2))
        .await
        .unwrap();
    check(&store, &parent, &child, 2).await;
    for lower in [999, 1, 0, -5] {
        store
            .project(lower, &all(&parent, &child, 4))
            .await
            .unwrap();
        check(&store, &parent, &child, 2).await;
    }
    // Nor does it bring back what was dropped.
    store
        .project(1_001, &all(&parent, &child, 3))
        .await
        .unwrap();
    check(&store, &parent, &child, 3).await;
    store
        .project(1_000, &all(&parent, &child, 4))
        .await
        .unwrap();
    check(&store, &parent, &child, 3).await;
}

pub async fn an_equal_or_higher_stamp_replaces(place: &impl Place) {
    let store = place.open().await;
    let (parent, child) = (package("parent"), package("@s/child"));
    for (stamp, n) in [
        (5, 2),
        (5, 2),
        (6, 4),
        (1_700_000_000_000_000, 3),
        (1_700_000_000_000_001, 9),
    ] {
        store
            .project(stamp, &all(&parent, &child, n))
            .await
            .unwrap();
        check(&store, &parent, &child, n).await;
    }
    store.project(1_700_000_000_000_002, &[]).await.unwrap();
    check(&store, &parent, &child, 9).await;
}

pub async fn dependents_come_in_pages_in_the_order_of_names(place: &impl Place) {
    let store = place.open().await;
    let parent = package("parent");
    let mut names: Vec<_> = (0..9).map(|at| name(&format!("d{at}"))).collect();
    names.extend([
        name("@a/z"),
        name("@z/a"),
        name("d"),
        name("d-0"),
        name("d0-x"),
    ]);
    names.sort();
    let expected: Vec<_> = (0..)
        .zip(&names)
        .map(|(at, name): (u32, _)| dependent(name, "1.0.0", (at % 3 != 0).then_some("^1")))
        .collect();
    let mut projections: Vec<_> = expected
        .iter()
        .map(|row| Projection::Dependent {
            parent: parent.clone(),
            row: row.clone(),
        })
        .collect();
    projections.rotate_left(5);
    // Of another parent, whose name begins alike.
    let other = PackageName::parse(&format!("{parent}-x")).unwrap();
    projections.push(Projection::Dependent {
        parent: other,
        row: dependent(&name("e"), "1.0.0", None),
    });
    store.project(7, &projections).await.unwrap();
    for limit in [1, 4, 7, 14, 15] {
        let mut seen: Vec<Dependent> = Vec::new();
        let mut pages = 0;
        loop {
            let after = seen.last().map(|row| row.dependent.clone());
            let page = store
                .dependents(&parent, after.as_ref(), limit)
                .await
                .unwrap();
            pages += 1;
            let last = page.len() < limit;
            seen.extend(page);
            if last {
                break;
            }
        }
        assert_eq!(seen, expected, "in pages of {limit}");
        assert_eq!(pages, 14 / limit + 1);
    }
    let between = store
        .dependents(&parent, Some(&name("d0-w")), 1)
        .await
        .unwrap();
    assert_eq!(between[0].dependent, name("d0-x"));
    assert_eq!(store.dependents(&parent, None, 0).await.unwrap(), []);
    assert_eq!(
        store
            .dependents(&package("lonely"), None, 10)
            .await
            .unwrap(),
        []
    );
}

/// H21: 5,644 ranges.
pub async fn all_ranges_of_a_dependent_are_there(place: &impl Place) {
    let store = place.open().await;
    let (parent, child) = (package("parent"), package("child"));
    let mut expected: Vec<_> = (0..5_644_u64)
        .map(|at| {
            (
                format!(">={at} <{}", at + 2),
                feedsme::semver::Version::new(at, 0, 1),
            )
        })
        .collect();
    let projections: Vec<_> = expected
        .iter()
        .map(|(range, version)| Projection::Range {
            parent: parent.clone(),
            dependent: child.clone(),
            range: range.clone(),
            version: version.clone(),
        })
        .collect();
    store.project(7, &projections).await.unwrap();
    let mut found = store.ranges(&parent, &child).await.unwrap();
    found.sort();
    expected.sort();
    assert!(found == expected, "{} ranges came back", found.len());
    assert_eq!(store.ranges(&child, &parent).await.unwrap(), []);
    // A range is one of its dependent alone, and no dependent by itself.
    assert_eq!(store.ranges(&parent, &package("other")).await.unwrap(), []);
    assert_eq!(store.dependents(&parent, None, 10).await.unwrap(), []);
}

pub async fn lines_and_head_are_kept_apart(place: &impl Place) {
    let store = place.open().await;
    let package = package("lines");
    assert_eq!(store.head(&package).await.unwrap(), None);
    assert_eq!(store.line(&package, &version("1.0.0")).await.unwrap(), None);
    assert_eq!(store.lines(&package).await.unwrap(), []);
    let lines = [
        line(&package, "1.0.0", None),
        line(&package, "1.0.1-0", Some("1.0.0")),
        line(&package, "10.0.0", None),
    ];
    for (stamp, line) in (1..).zip(&lines) {
        store
            .project(stamp, &[Projection::Line(line.clone())])
            .await
            .unwrap();
    }
    assert_eq!(store.head(&package).await.unwrap(), None);
    store
        .project(2, &[Projection::Head(lines[1].clone())])
        .await
        .unwrap();
    assert_eq!(
        store.head(&package).await.unwrap().as_ref(),
        Some(&lines[1])
    );
    assert_eq!(
        store
            .line(&package, &version("10.0.0"))
            .await
            .unwrap()
            .as_ref(),
        Some(&lines[2])
    );
    assert_eq!(store.line(&package, &version("1.0.1")).await.unwrap(), None);
    let mut all = store.lines(&package).await.unwrap();
    all.sort_by(|a, b| a.version.cmp(&b.version));
    assert_eq!(all, lines);
}

pub async fn dependents_of_a_line_come_in_pages(place: &impl Place) {
    let store = place.open().await;
    let package = package("line");
    let mut expected: Vec<_> = (0..6)
        .map(|at| (name(&format!("d{at}")), version(&format!("1.0.{at}"))))
        .collect();
    expected.push((name("@s/d"), version("2.0.0-0")));
    expected.sort();
    let entry =
        |text: &str, (dependent, dependent_version): &(PackageName, _)| Projection::LineDependent {
            package: package.clone(),
            version: version(text),
            dependent: dependent.clone(),
            dependent_version: feedsme::semver::Version::clone(dependent_version),
        };
    let mut projections: Vec<_> = expected.iter().map(|pair| entry("1.0.0", pair)).collect();
    projections.reverse();
    projections.push(entry("1.0.0-0", &(name("x"), version("1.0.0"))));
    store.project(7, &projections).await.unwrap();
    for limit in [1, 3, 7, 8] {
        let mut seen: Vec<(PackageName, _)> = Vec::new();
        loop {
            let after = seen.last().map(|(name, _)| name.clone());
            let page = store
                .line_dependents(&package, &version("1.0.0"), after.as_ref(), limit)
                .await
                .unwrap();
            let last = page.len() < limit;
            seen.extend(page);
            if last {
                break;
            }
        }
        assert_eq!(seen, expected, "in pages of {limit}");
    }
    assert_eq!(
        store
            .line_dependents(&package, &version("1.0.1"), None, 10)
            .await
            .unwrap(),
        []
    );
}

pub async fn rows_of_dependents_are_found_by_both_names(place: &impl Place) {
    let store = place.open().await;
    let parents = ["parent", "other"].map(package);
    let row = |child: &str, top: &str, range: Option<&str>| Dependent {
        dependent: name(child),
        top: version(top),
        range: range.map(str::to_owned),
    };
    let rows = [row("@s/a", "1.0.0", Some("^1")), row("b", "2.0.0", None)];
    for one in &rows {
        let edge = Projection::Dependent {
            parent: parents[0].clone(),
            row: one.clone(),
        };
        store.project(5, &[edge]).await.unwrap();
    }
    let pairs: Vec<_> = [(0, "b"), (0, "c"), (1, "b"), (0, "@s/a"), (0, "b")]
        .map(|(at, child): (usize, &str)| (parents[at].clone(), name(child)))
        .into();
    let expected = [
        Some(rows[1].clone()),
        None,
        None,
        Some(rows[0].clone()),
        Some(rows[1].clone()),
    ];
    assert_eq!(store.edges(&pairs).await.unwrap(), expected);
    assert!(store.edges(&[]).await.unwrap().is_empty());
}
