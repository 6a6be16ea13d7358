use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::{Affected, AffectedNode, Explorer, Origin, Questions, Seed, Step};
use crate::model::decision::Reason;
use crate::model::edge::{Edge, EdgeRange};
use crate::model::name::PackageName;
use crate::model::package::{Cause, PackageState, Row, Top};
use crate::plan::Increment;
use crate::semver::Version;
use crate::store::{Dependent, Published};

pub(super) fn v(text: &str) -> Version {
    Version::parse(text).unwrap()
}

pub(super) fn name(text: &str) -> PackageName {
    PackageName::parse(text).unwrap()
}

fn cause(text: &str) -> Cause {
    let (parent, version) = text.split_once('@').unwrap();
    Cause {
        parent: name(parent),
        version: v(version),
        origin: None,
    }
}

pub(super) fn origin(text: &str) -> Origin {
    Origin {
        cause: cause(text),
        reach: true,
    }
}

/// Packages with their versions, each with what it declares.
#[derive(Clone, Debug, Default)]
pub(super) struct World(pub BTreeMap<String, BTreeMap<Version, BTreeMap<String, String>>>);

impl World {
    /// `["root@1.0.0", "a@1.0.0 root ^1.0.0 b *"]`.
    pub(super) fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut world = Self::default();
        for line in lines {
            let mut words = line.split(' ');
            let (name, version) = words.next().unwrap().split_once('@').unwrap();
            let declared = words.collect::<Vec<_>>();
            let pairs = declared.chunks(2).map(|it| (it[0].into(), it[1].into()));
            let versions = world.0.entry(name.into()).or_default();
            versions.insert(v(version), pairs.collect());
        }
        world
    }

    fn dependents(&self, parent: &PackageName) -> Vec<Dependent> {
        let concerned = |versions: &BTreeMap<Version, BTreeMap<String, String>>| {
            let mut all = versions.values();
            all.any(|declared| declared.contains_key(parent.as_str()))
        };
        let rows = self.0.iter().filter(|(_, versions)| concerned(versions));
        rows.map(|(dependent, versions)| {
            let (top, declared) = versions.last_key_value().unwrap();
            Dependent {
                dependent: name(dependent),
                top: top.clone(),
                range: declared.get(parent.as_str()).cloned(),
            }
        })
        .collect()
    }

    fn ranges(&self, parent: &PackageName, dependent: &PackageName) -> Vec<(String, Version)> {
        let mut ranges = BTreeMap::new();
        for (version, declared) in self.0.get(dependent.as_str()).into_iter().flatten() {
            if let Some(range) = declared.get(parent.as_str()) {
                ranges.insert(range.clone(), version.clone());
            }
        }
        ranges.into_iter().collect()
    }

    fn state(&self, package: &PackageName) -> PackageState {
        let versions = self.0.get(package.as_str());
        let top = versions.and_then(BTreeMap::last_key_value);
        let edge = |(parent, range): (&String, &String)| Edge {
            parent: name(parent),
            range: range.clone(),
        };
        PackageState {
            name: package.clone(),
            seq: top.is_some().into(),
            stamp: 1,
            head: None,
            top: top.map(|(version, declared)| Top {
                version: version.clone(),
                origin: None,
                edges: declared.iter().map(edge).collect(),
            }),
            dependent_of: None,
            open: BTreeMap::new(),
            rows: Vec::<Row>::new(),
            taken: versions
                .into_iter()
                .flatten()
                .map(|it| it.0.clone())
                .collect(),
            edges: BTreeMap::new(),
            attached: BTreeMap::new(),
        }
    }

    /// Explores; fails if anything is asked twice.
    fn explore(&self, origins: Vec<Origin>, seeds: Vec<Seed>) -> Affected {
        let mut explorer = Explorer::new(Increment::Prerelease, origins, seeds);
        let mut asked = HashSet::new();
        let mut once = |what: String| assert!(asked.insert(what.clone()), "again: {what}");
        loop {
            let Questions {
                dependents,
                ranges,
                tops,
                states,
            } = match explorer.step() {
                Step::Ask(questions) => questions,
                Step::Done(affected) => return affected,
            };
            for parent in dependents {
                once(format!("dependents {parent}"));
                explorer.tell_dependents(&parent, self.dependents(&parent));
            }
            for (parent, child) in ranges {
                once(format!("ranges {parent} {child}"));
                explorer.tell_ranges(&parent, &child, self.ranges(&parent, &child));
            }
            for want in tops {
                once(format!("top {}", want.name));
                explorer.tell_top(self.state(&want.name));
            }
            for (base, want) in states {
                once(format!("state {} {base}", want.name));
                let hand = Published {
                    version: base.clone(),
                    origin: None,
                    tag: None,
                };
                explorer.tell_state(&base, &self.state(&want.name), &[hand]);
            }
        }
    }

    pub(super) fn from(&self, start: &str) -> Affected {
        self.explore(vec![origin(start)], vec![])
    }
}

fn shown(node: &AffectedNode) -> String {
    let names = |keys: &[crate::model::wave::NodeKey]| {
        let names: Vec<&str> = keys.iter().map(|key| key.package.as_str()).collect();
        names.join(",")
    };
    let plan = &node.plan;
    let version = plan.version.as_ref().map(Version::to_string);
    let mut text = format!(
        "{} {}@{} from {} waits {}",
        plan.level,
        plan.key.package,
        version.unwrap_or_default(),
        plan.base,
        names(&plan.waits_for)
    );
    if !plan.cycle.is_empty() {
        text = format!("{text} cycle {}", names(&plan.cycle));
    }
    text
}

fn nodes(affected: &Affected) -> Vec<String> {
    affected.nodes.iter().map(shown).collect()
}

fn skips(affected: &Affected) -> Vec<String> {
    let show = |skip: &super::Skip| {
        let Cause {
            parent, version, ..
        } = &skip.cause;
        let code = skip.reason.code();
        format!("{parent}@{version} > {} {code}", skip.edge.dependent)
    };
    affected.skips.iter().map(show).collect()
}

#[test]
fn rule_15_a_diamond_is_rebuilt_once_after_both_sides() {
    let world = World::of([
        "root@1.0.1",
        "a@1.0.0 root ^1.0.0",
        "b@2.0.0 root ^1.0.0",
        "c@3.0.0 a ^1.0.0 b ^2.0.0",
        "d@1.0.0 root ^9.0.0 a git+https://example.com/a.git",
    ]);
    let found = world.from("root@1.0.1");
    assert_eq!(
        nodes(&found),
        [
            "1 a@1.0.1-0 from 1.0.0 waits root",
            "1 b@2.0.1-0 from 2.0.0 waits root",
            "2 c@3.0.1-0 from 3.0.0 waits a,b"
        ]
    );
    assert_eq!(
        skips(&found),
        [
            "root@1.0.1 > d out_of_range",
            "a@1.0.1-0 > d admits_nothing"
        ]
    );
    let c = &found.nodes[2];
    let versions: Vec<String> = c.causes.iter().map(|it| it.version.to_string()).collect();
    assert_eq!(versions, ["1.0.1-0", "2.0.1-0"]);
    assert_eq!(c.causes[0].origin, Some(v("1.0.0")));
    assert_eq!(
        (c.range.as_deref(), &c.reason),
        (Some("^1.0.0"), &Reason::Admitted)
    );
    let path: Vec<&str> = found
        .critical_path
        .iter()
        .map(PackageName::as_str)
        .collect();
    assert_eq!(path, ["root", "a", "c"]);
    assert!(found.settled && found.components.is_empty());
}

#[test]
fn rule_15_a_chain_and_a_ladder() {
    let chain = ["p0@1.0.0"].map(String::from).into_iter();
    let chain = chain.chain((1..=5).map(|at| format!("p{at}@1.0.0 p{} ^1.0.0", at - 1)));
    let lines: Vec<String> = chain.collect();
    let found = World::of(lines.iter().map(String::as_str)).from("p0@1.0.0");
    assert_eq!(found.nodes.len(), 5);
    assert_eq!(nodes(&found)[4], "5 p5@1.0.1-0 from 1.0.0 waits p4");
    assert_eq!(found.critical_path.len(), 6);

    let step = |at: usize| {
        let short = at.saturating_sub(2);
        format!("p{at}@1.0.0 p{} ^1.0.0 p{short} ^1.0.0", at - 1)
    };
    let lines: Vec<String> = ["p0@1.0.0".into()]
        .into_iter()
        .chain((1..9).map(step))
        .collect();
    let found = World::of(lines.iter().map(String::as_str)).from("p0@1.0.0");
    assert_eq!(nodes(&found)[7], "8 p8@1.0.1-0 from 1.0.0 waits p6,p7");
}

#[test]
fn rule_16_cycles_of_every_size_end() {
    for size in 2..=26 {
        let line = |at: usize| {
            let before = if at == 0 { size - 1 } else { at - 1 };
            let root = if at == 0 { " root *" } else { "" };
            format!("p{at:02}@1.0.0 p{before:02} ^1.0.0{root}")
        };
        let lines: Vec<String> = (0..size).map(line).collect();
        let lines = ["root@2.0.0"]
            .into_iter()
            .chain(lines.iter().map(String::as_str));
        let found = World::of(lines).from("root@2.0.0");
        assert_eq!(found.nodes.len(), size);
        let last = size - 1;
        let first = format!("1 p00@1.0.1-0 from 1.0.0 waits root cycle p{last:02}");
        assert_eq!(nodes(&found)[0], first);
        assert_eq!(skips(&found), [format!("p{last:02}@1.0.1-0 > p00 cycle")]);
        assert_eq!(
            found.components.iter().map(Vec::len).collect::<Vec<_>>(),
            [size]
        );
    }
}

#[test]
fn rule_16_a_package_that_depends_on_itself_is_sent_once() {
    let found = World::of(["root@1.0.0 root *", "a@1.0.0 root * a ^1.0.0"]).from("root@1.0.0");
    assert_eq!(nodes(&found), ["1 a@1.0.1-0 from 1.0.0 waits root cycle a"]);
    assert_eq!(
        skips(&found),
        ["root@1.0.0 > root cycle", "a@1.0.1-0 > a cycle"]
    );
}

#[test]
fn rule_16_an_origin_inside_a_cycle_is_not_rebuilt() {
    let world = World::of(["a@1.0.0 c *", "b@1.0.0 a *", "c@1.0.0 b ^1.0.0"]);
    // `*` does not admit a prerelease by itself, but what we made passes with its origin.
    let found = world.from("a@1.0.0");
    assert_eq!(
        nodes(&found),
        [
            "1 b@1.0.1-0 from 1.0.0 waits a",
            "2 c@1.0.1-0 from 1.0.0 waits b"
        ]
    );
    assert_eq!(skips(&found), ["c@1.0.1-0 > a cycle"]);
    assert!(found.components.is_empty());
}

#[test]
fn several_origins_are_one_wave() {
    let world = World::of(["a@1.0.0", "b@1.0.0 a *", "c@1.0.0 a * b *"]);
    let found = world.explore(vec![origin("b@1.0.0"), origin("a@1.0.0")], vec![]);
    assert_eq!(nodes(&found), ["1 c@1.0.1-0 from 1.0.0 waits a,b"]);
    assert_eq!(skips(&found), ["a@1.0.0 > b cycle"]);
}

#[test]
fn h23_the_parent_that_only_an_older_base_admits_is_out() {
    let world = World::of([
        "root@1.0.0",
        "p@1.0.0 root *",
        "q@1.0.0 root *",
        "t@5.0.0 p ^1.0.0",
        "t@6.0.0 p ^2.0.0 q ^1.0.0",
        "u@1.0.0 t ^5.0.0",
    ]);
    let found = world.from("root@1.0.0");
    assert_eq!(nodes(&found)[2..], ["2 t@6.0.1-0 from 6.0.0 waits p,q"]);
    let t = &found.nodes[2];
    assert_eq!(t.causes.len(), 1);
    assert_eq!(t.edge.range.as_deref(), Some("^1.0.0"));
    let reason = Reason::OutOfRangeForBase { base: v("6.0.0") };
    assert_eq!(t.also_out[0].0.parent, name("p"));
    assert_eq!(t.also_out[0].1, reason);
    assert_eq!(skips(&found), ["t@6.0.1-0 > u out_of_range"]);
}

#[test]
fn a_later_parent_that_raises_the_base_takes_back_what_the_first_would_have_reached() {
    // t is met first through root, at 5.x; q, which it also waits for, makes it 6.x.
    let world = World::of([
        "root@1.0.0",
        "q@1.0.0 root *",
        "t@5.0.0 root *",
        "t@6.0.0 root ^9.0.0 q *",
        "u@1.0.0 t ^5.0.0",
        "w@1.0.0 t ^6.0.0",
        "x@1.0.0 u *",
    ]);
    let found = world.from("root@1.0.0");
    assert_eq!(
        nodes(&found),
        [
            "1 q@1.0.1-0 from 1.0.0 waits root",
            "2 t@6.0.1-0 from 6.0.0 waits q,root",
            "3 w@1.0.1-0 from 1.0.0 waits t"
        ]
    );
    assert_eq!(skips(&found), ["t@6.0.1-0 > u out_of_range"]);
    assert!(found.settled);
}

#[test]
fn beliefs_that_contradict_each_other_for_ever_are_cut_off() {
    // If t is 1.x, a is no child of it, and t waits for a, which makes it 2.x; if it is 2.x, they are a cycle.
    let world = World::of([
        "root@1.0.0",
        "x@1.0.0 root *",
        "a@1.0.0 x * t ^2.0.0",
        "t@1.0.0 root *",
        "t@2.0.0 root ^9.0.0 a *",
    ]);
    let found = world.from("root@1.0.0");
    assert!(!found.settled);
    assert_eq!(found.nodes.len(), 3);
}

#[test]
fn no_version_left_is_a_skip_and_ends_there() {
    let world = World::of(["root@1.0.0", "a@1.0.9007199254740991 root *", "b@1.0.0 a *"]);
    let found = world.from("root@1.0.0");
    assert!(found.nodes.is_empty() && found.critical_path.is_empty());
    assert_eq!(skips(&found), ["root@1.0.0 > a no_version_left"]);
}

#[test]
fn h6_seeds_are_rebuilt_and_the_other_dependents_of_the_origin_are_not() {
    let world = World::of([
        "p@1.0.0",
        "s@1.0.0 p ^1.0.0",
        "t@4.0.0 p ^1.0.0 s *",
        "t@5.0.0 p ^2.0.0 s *",
        "other@1.0.0 p *",
        "next@1.0.0 s *",
        "alone@3.0.0",
    ]);
    let late = Origin {
        reach: false,
        ..origin("p@1.0.0")
    };
    let seed = |package: &str, causes: &[&str]| Seed {
        package: name(package),
        causes: causes.iter().map(|it| cause(it)).collect(),
    };
    let seeds = vec![
        seed("t", &["p@1.0.0"]),
        seed("s", &["p@1.0.0"]),
        seed("alone", &["gone@1.0.0"]),
        seed("nobody", &[]),
    ];
    let found = world.explore(vec![late.clone()], seeds);
    assert_eq!(
        nodes(&found),
        [
            "1 alone@3.0.1-0 from 3.0.0 waits ",
            "1 s@1.0.1-0 from 1.0.0 waits p",
            "2 next@1.0.1-0 from 1.0.0 waits s",
            "2 t@5.0.1-0 from 5.0.0 waits p,s"
        ]
    );
    assert!(skips(&found).is_empty());
    assert_eq!(found.unmanaged, [name("nobody")]);
    assert_eq!(found.nodes[0].reason, Reason::ByHand);
    assert_eq!(found.nodes[0].also_out[0].1, Reason::NoLongerDepends);
    assert_eq!(found.nodes[1].plan.seed, Some(vec![cause("p@1.0.0")]));
    // Without its sister, the cause alone chooses the older base.
    let found = world.explore(vec![late], vec![seed("t", &["p@1.0.0"])]);
    assert_eq!(nodes(&found), ["1 t@4.0.1-0 from 4.0.0 waits p"]);
}

fn worlds() -> impl Strategy<Value = World> {
    worlds_of(&["^1.0.0", "^2.0.0", "*", "1.0.0", "git+ssh://x/y.git"])
}

/// Nine packages of up to two versions, which declare each other by these ranges.
pub(super) fn worlds_of(ranges: &[&'static str]) -> impl Strategy<Value = World> + use<> {
    let range = prop::sample::select(ranges.to_vec());
    let declares = prop::collection::btree_map(0..9_usize, range, 0..4);
    let package = prop::collection::vec(declares, 1..3);
    prop::collection::vec(package, 9).prop_map(|packages| {
        let mut world = World::default();
        for (number, versions) in packages.into_iter().enumerate() {
            let of = world.0.entry(format!("p{number}")).or_default();
            for (major, declares) in (1..).zip(versions) {
                let pairs = declares.into_iter();
                let pairs = pairs.map(|(on, range)| (format!("p{on}"), range.into()));
                of.insert(v(&format!("{major}.0.0")), pairs.collect());
            }
        }
        world
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A run of the wave, waiting as the plan says, by looking at all versions of everything.
    #[test]
    fn what_is_foreseen_is_what_a_run_gives(world in worlds(), two in any::<bool>()) {
        let mut origins = vec![origin("p0@1.0.0")];
        if two {
            origins.push(origin("p1@1.0.0"));
        }
        let found = world.explore(origins.clone(), vec![]);
        let mut published: BTreeMap<PackageName, Cause> =
            origins.iter().map(|it| (it.cause.parent.clone(), it.cause.clone())).collect();
        let mut pairs = BTreeSet::new();
        for node in &found.nodes {
            let package = &node.plan.key.package;
            // Rule 8 by brute force: the highest version that admits one of the parents, if the top still declares it.
            let versions = &world.0[package.as_str()];
            let (_, top) = versions.last_key_value().unwrap();
            let admitted = |version: &Version, parent: &PackageName| {
                let range = versions[version].get(parent.as_str());
                range.is_some_and(|range| {
                    let cause = &published[parent];
                    EdgeRange::of(range).admits(&cause.version, cause.origin.as_ref())
                }) && top.contains_key(parent.as_str())
            };
            let parents: Vec<&PackageName> =
                node.plan.waits_for.iter().map(|key| &key.package).collect();
            let base = versions.keys().rev().find(|version| {
                parents.iter().any(|parent| admitted(version, parent))
            });
            prop_assert_eq!(base, Some(&node.plan.base));
            let causes: Vec<&PackageName> = node.causes.iter().map(|it| &it.parent).collect();
            for parent in &parents {
                prop_assert_eq!(causes.contains(parent), admitted(&node.plan.base, parent));
            }
            let made = Cause {
                parent: package.clone(),
                version: node.plan.version.clone().unwrap(),
                origin: Some(node.plan.base.clone()),
            };
            prop_assert_eq!(made.version.to_string(), format!("{}.0.1-0", made.version.major()));
            published.insert(package.clone(), made);
            for cause in node.causes.iter().chain(node.also_out.iter().map(|it| &it.0)) {
                prop_assert_eq!(cause, &published[&cause.parent]);
                prop_assert!(pairs.insert((cause.parent.clone(), package.clone())));
            }
        }
        for skip in &found.skips {
            prop_assert_eq!(&skip.cause, &published[&skip.cause.parent]);
            let pair = (skip.cause.parent.clone(), skip.edge.dependent.clone());
            prop_assert!(pairs.insert(pair));
        }
        // Every pair has one answer, and whoever is admitted is in the wave.
        let mut expected = BTreeSet::new();
        for (parent, cause) in &published {
            for row in world.dependents(parent) {
                let admits = row.range.as_ref().is_some_and(|range| {
                    EdgeRange::of(range).admits(&cause.version, cause.origin.as_ref())
                });
                prop_assert!(!admits || published.contains_key(&row.dependent));
                expected.insert((parent.clone(), row.dependent));
            }
        }
        if found.settled {
            prop_assert_eq!(pairs, expected);
        }
    }
}
