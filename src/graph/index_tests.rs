//! The index against the explorer where they must agree, against a plain walk everywhere, and against itself made anew.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::explorer_tests::{World, name, v, worlds_of};
use super::index::{Builder, Index};
use super::reach::{Reach, Start};
use crate::model::edge::{Edge, EdgeRange};
use crate::model::name::PackageName;
use crate::model::package::Top;
use crate::plan::Increment;
use crate::semver::{Release, Version};
use crate::store::Tops;

type Declared = BTreeMap<String, String>;

fn index<'a>(tops: impl IntoIterator<Item = (&'a String, &'a Version, &'a Declared)>) -> Index {
    let mut builder = Builder::new(Increment::Prerelease);
    for (name, version, declared) in tops {
        // A page each: it must not matter where pages end.
        let pairs: Vec<_> = declared.iter().collect();
        let json = serde_json::to_string(&pairs).unwrap();
        let mut page = Tops::default();
        page.push(name, &version.to_string(), None, &json).unwrap();
        builder.add(&page).unwrap();
    }
    builder.finish()
}

fn highest(world: &World) -> impl Iterator<Item = (&String, &Version, &Declared)> {
    world.0.iter().map(|(name, versions)| {
        let (version, declared) = versions.last_key_value().unwrap();
        (name, version, declared)
    })
}

fn of_world(world: &World) -> Index {
    index(highest(world))
}

fn of_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Index {
    of_world(&World::of(lines))
}

fn ask(index: &Index, start: &str) -> Reach {
    let (package, version) = match start.split_once('@') {
        Some((package, version)) => (name(package), Some(v(version))),
        None => (name(start), None),
    };
    index.reach(&Start {
        package: &package,
        version: version.as_ref().map(|version| (version, None)),
    })
}

/// All pages, of that many.
fn lines(index: &Index, reach: &Reach, limit: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut after: Option<(u32, String)> = None;
    loop {
        let from = after.as_ref().map(|(level, name)| (*level, name.as_str()));
        let page = index.page(reach, from, limit);
        all.extend(page.iter().map(|one| {
            let version = one.version.as_ref().unwrap();
            format!("{} {}@{version} from {}", one.level, one.package, one.base)
        }));
        if page.len() < limit {
            return all;
        }
        after = page.last().map(|one| (one.level, one.package.to_string()));
    }
}

fn texts(reach: &Reach) -> Vec<&str> {
    reach
        .longest_chain
        .iter()
        .map(PackageName::as_str)
        .collect()
}

#[test]
fn rules_8_and_9_a_version_goes_as_far_as_ranges_let_what_is_made_of_it() {
    let index = of_lines([
        "root@1.0.0",
        "a@1.0.0 root ^1.0.0",
        "b@2.0.0 root * left-pad *",
        "tip@1.0.0 a ^1.0.0 b ^2.0.0",
        "pinned@1.0.0 a 1.0.0",
        "behind@1.0.0 pinned *",
        "old@1.0.0 root ^0.9.0",
        "git@1.0.0 tip git+https://x/y.git",
        "self@1.0.0 self * root *",
    ]);
    let reach = ask(&index, "root@1.1.0");
    assert_eq!(
        lines(&index, &reach, 2),
        [
            "1 a@1.0.1-0 from 1.0.0",
            "1 b@2.0.1-0 from 2.0.0",
            "1 self@1.0.1-0 from 1.0.0",
            "2 tip@1.0.1-0 from 1.0.0"
        ]
    );
    assert_eq!((reach.direct, reach.transitive()), (3, 4));
    assert_eq!((&reach.by_level[..], reach.circles), (&[3, 1][..], 0));
    assert_eq!(texts(&reach), ["root", "a", "tip"]);
    assert!(!reach.exact);
    let out: Vec<String> = reach
        .first_out_of_range
        .iter()
        .map(|one| {
            let version = one.parent_version.as_ref().unwrap();
            format!(
                "{}@{} declares {} {} not {version}",
                one.package, one.version, one.parent, one.range
            )
        })
        .collect();
    assert_eq!(
        out,
        [
            "git@1.0.0 declares tip git+https://x/y.git not 1.0.1-0",
            "old@1.0.0 declares root ^0.9.0 not 1.1.0",
            "pinned@1.0.0 declares a 1.0.0 not 1.0.1-0"
        ]
    );
    assert_eq!(reach.out_of_range, 3);

    let two = ask(&index, "root@2.0.0");
    assert_eq!((two.direct, two.transitive(), two.out_of_range), (2, 3, 3));
    assert_eq!(ask(&index, "tip@7.0.0").transitive(), 0);
    let nobody = ask(&index, "nobody@1.0.0");
    assert_eq!((nobody.transitive(), nobody.exact), (0, true));
    // Nobody published it, but who declares it is known.
    assert_eq!(ask(&index, "left-pad@1.0.0").transitive(), 2);
}

#[test]
fn without_a_version_those_follow_who_admit_the_highest_one() {
    let index = of_lines([
        "root@1.0.0",
        "a@1.0.0 root ^1.0.0",
        "exact@1.0.0 root 1.0.0",
        "other@1.0.0 root ^2.0.0",
        "pad@1.0.0 left-pad ^7.0.0",
    ]);
    let reach = ask(&index, "root");
    assert_eq!((reach.direct, reach.out_of_range), (2, 1));
    assert_eq!(reach.first_out_of_range[0].parent_version, None);
    assert_eq!(ask(&index, "left-pad").direct, 1, "no version is known");
}

#[test]
fn rule_16_circles_are_counted_and_cut() {
    let index = of_lines([
        "root@1.0.0 z *",
        "x@1.0.0 root * z *",
        "y@1.0.0 x *",
        "z@1.0.0 y * root *",
        "end@1.0.0 z * y *",
        "end2@1.0.0 end * end *",
    ]);
    let reach = ask(&index, "root@1.0.1");
    assert_eq!((reach.circles, reach.exact), (1, true));
    assert_eq!(
        lines(&index, &reach, 500),
        [
            "1 x@1.0.1-0 from 1.0.0",
            "1 z@1.0.1-0 from 1.0.0",
            "2 y@1.0.1-0 from 1.0.0",
            "3 end@1.0.1-0 from 1.0.0",
            "4 end2@1.0.1-0 from 1.0.0"
        ]
    );
    assert_eq!(texts(&reach), ["root", "x", "y", "end", "end2"]);
}

#[test]
fn a_made_version_goes_on_from_its_origin() {
    let mut builder = Builder::new(Increment::Prerelease);
    let mut page = Tops::default();
    page.push("a", "1.0.1-3", Some("1.0.0"), r#"[["root","*"]]"#)
        .unwrap();
    page.push("b", "1.0.0", None, r#"[["a","^1.0.0"]]"#)
        .unwrap();
    page.push("hand", "1.0.1-3", None, r#"[["root","*"]]"#)
        .unwrap();
    page.push("c", "1.0.0", None, r#"[["hand","^1.0.0"]]"#)
        .unwrap();
    page.push("last", "1.0.9007199254740991", None, r#"[["root","*"]]"#)
        .unwrap();
    builder.add(&page).unwrap();
    let index = builder.finish();
    let reach = ask(&index, "root@1.0.0");
    assert_eq!(
        lines(&index, &reach, 1),
        [
            "1 a@1.0.1-4 from 1.0.1-3",
            "1 hand@1.0.1-4 from 1.0.1-3",
            "2 b@1.0.1-0 from 1.0.0"
        ],
        "a prerelease published by hand does not pass, and where the numbers end nothing is made"
    );
}

#[test]
fn a_chain_of_100_000_ends_no_stack() {
    let packages: Vec<(String, Declared)> = (0..100_000)
        .map(|at| {
            let parent = (format!("p{}", at - 1), "*".to_owned());
            let declared = if at == 0 {
                BTreeMap::new()
            } else {
                [parent].into()
            };
            (format!("p{at}"), declared)
        })
        .collect();
    let one = v("1.0.0");
    let index = index(
        packages
            .iter()
            .map(|(name, declared)| (name, &one, declared)),
    );
    let reach = ask(&index, "p0@1.0.0");
    assert_eq!((reach.transitive(), reach.by_level.len()), (99_999, 99_999));
    assert_eq!(reach.longest_chain.len(), 100_000);
}

/// Whom a version reaches through highest versions, by looking at everybody again and again.
fn naive(world: &World, start: &str, version: &Version) -> BTreeSet<String> {
    let made = |name: &str| -> (Version, Option<Version>) {
        if name == start {
            return (version.clone(), None);
        }
        let top = world.0[name].last_key_value().unwrap().0;
        (top.inc(Release::Prerelease).unwrap(), Some(top.clone()))
    };
    let mut reached = BTreeSet::from([start.to_owned()]);
    loop {
        let before = reached.len();
        for (name, _, declared) in highest(world) {
            let follows = declared.iter().any(|(parent, range)| {
                reached.contains(parent) && {
                    let (version, origin) = made(parent);
                    EdgeRange::of(range).admits(&version, origin.as_ref())
                }
            });
            if follows {
                reached.insert(name.clone());
            }
        }
        if reached.len() == before {
            reached.remove(start);
            return reached;
        }
    }
}

fn compare_with_explorer(world: &World, start: &str) -> Result<bool, TestCaseError> {
    let index = of_world(world);
    let reach = ask(&index, start);
    let (package, version) = start.split_once('@').unwrap();
    let found: BTreeSet<String> = index
        .page(&reach, None, 500)
        .iter()
        .map(|one| one.package.to_string())
        .collect();
    prop_assert_eq!(&found, &naive(world, package, &v(version)));
    prop_assert_eq!(found.len(), reach.transitive());
    prop_assert_eq!(reach.by_level.iter().sum::<usize>(), reach.transitive());
    let set = index.set(&Start {
        package: &name(package),
        version: Some((&v(version), None)),
    });
    prop_assert_eq!(set.len(), reach.transitive() + 1);
    if !reach.exact {
        return Ok(false);
    }
    let exact = world.from(start);
    let nodes: Vec<String> = exact
        .nodes
        .iter()
        .map(|node| {
            let plan = &node.plan;
            let version = plan.version.as_ref().unwrap();
            format!(
                "{} {}@{version} from {}",
                plan.level, plan.key.package, plan.base
            )
        })
        .collect();
    prop_assert_eq!(lines(&index, &reach, 3), nodes);
    let circles = exact.components.iter().filter(|one| one.len() > 1).count();
    prop_assert_eq!(reach.circles, circles);
    prop_assert_eq!(&reach.longest_chain, &exact.critical_path);
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the ranges: where it says that it is exact, it is.
    #[test]
    fn it_is_the_explorer_s_answer_where_it_says_so(
        world in worlds_of(&["^1.0.0", "^2.0.0", "*", "1.0.0", "git+ssh://x/y.git"]),
        version in prop::sample::select(vec!["1.0.0", "1.2.0", "2.0.1", "3.0.0-rc.1"]),
    ) {
        compare_with_explorer(&world, &format!("p0@{version}"))?;
    }

    /// And it does say so where no range is in the way, through circles and levels.
    #[test]
    fn it_is_exact_where_no_range_is_in_the_way(world in worlds_of(&["*", ">=1.0.0", ">0.1"])) {
        prop_assert!(compare_with_explorer(&world, "p0@1.0.0")?);
    }

    /// Versions that come one by one make the graph that all of them make at once; older ones change nothing.
    #[test]
    fn what_comes_later_is_as_if_it_had_been_there(
        world in worlds_of(&["^1.0.0", "*", "1.0.0", "^2.0.0"]),
        publishes in prop::collection::vec(
            (0..12_usize, 0..4_u64, prop::collection::btree_map(0..12_usize, prop::sample::select(vec!["*", "^1.0.0", "^3.0.0", "~1.0.1-0"]), 0..5)),
            0..40,
        ),
    ) {
        let mut world = world;
        let mut index = of_world(&world);
        for (package, major, declared) in publishes {
            let (package, version) = (format!("p{package}"), Version::new(major, 0, 0));
            let declared: Declared = declared.into_iter().map(|(on, range)| (format!("p{on}"), range.to_owned())).collect();
            let edges = declared.iter().map(|(parent, range)| Edge { parent: name(parent), range: range.clone() });
            let top = Top { version: version.clone(), origin: None, edges: edges.collect() };
            let before = world.0.get(&package).and_then(|all| all.last_key_value()).map(|(version, _)| version.clone());
            let taken = index.apply(&name(&package), &top);
            prop_assert_eq!(taken, before.is_none_or(|before| before <= version));
            world.0.entry(package).or_default().insert(version, declared);
        }
        let anew = of_world(&world);
        prop_assert_eq!(index.edges(), anew.edges());
        for start in ["p0@1.0.0", "p3@3.1.0", "p9@1.0.0", "p1", "p11"] {
            let (one, other) = (ask(&index, start), ask(&anew, start));
            prop_assert_eq!(lines(&index, &one, 4), lines(&anew, &other, 500));
            prop_assert_eq!(one.direct, other.direct);
            prop_assert_eq!(&one.by_level, &other.by_level);
            prop_assert_eq!(one.circles, other.circles);
            prop_assert_eq!(&one.longest_chain, &other.longest_chain);
            prop_assert_eq!(one.out_of_range, other.out_of_range);
            prop_assert_eq!(&one.first_out_of_range, &other.first_out_of_range);
            prop_assert_eq!(one.exact, other.exact);
        }
    }
}
