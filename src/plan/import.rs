//! What an import does to a package that had release lines elsewhere (contract.md 3.1, 3.3; H4, H19).
//!
//! A version that has a release line was published and handled there: it counts as noticed from now on, so that
//! dependents go with its line and the next publish follows it. It has no notice of *ours*, though: should its publish
//! be posted to us, it is handled like any first notice, only that its line and the head stay as they are.
//!
//! Lines elsewhere may be broken: chains with holes, and, where an older publish was replayed, loops (contract.md 5.7).
//! Whatever is there, what we keep has no loop (rule 7).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::PackageName;
use crate::model::package::{Facts, Head, Millis, PackageState, RowKey};
use crate::semver::Version;
use crate::store::{Expect, PackageCommit, RowWrite};

/// The release lines of a package: the version of each, and of the line before it.
pub type Lines = BTreeMap<Version, Option<Version>>;

/// The lines to keep, and the head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The newest line, if there is one.
    pub head: Option<Version>,
    /// Each line with the one before it.
    pub lines: Lines,
    /// The lines of versions that are not known, each with the one of `lines` that it comes after; none comes after them.
    pub unknown: Lines,
}

/// Puts the lines of a package in order. `head` is what is said to be the newest, `known` are the versions of which more
/// than the line is known, and `decided` are lines that we have already, which stay as they are.
///
/// Lines of known versions follow lines of known versions only: a version of which nothing is known may still be
/// published by hand and then follows the head, which must not lead back to it. A line that would
/// close a loop begins a new chain.
pub fn chain(
    lines: &Lines,
    head: Option<&Version>,
    known: &BTreeSet<Version>,
    decided: &Lines,
) -> Chain {
    let stands = |version: &Version| known.contains(version) && lines.contains_key(version);
    let before = |version: &Version| lines.get(version).cloned().flatten();
    // The nearest line before this one that stands.
    let nearest = |version: &Version| {
        let mut seen = BTreeSet::from([version.clone()]);
        let mut at = before(version);
        while let Some(one) = at {
            if stands(&one) {
                return Some(one);
            }
            if !seen.insert(one.clone()) {
                return None;
            }
            at = before(&one);
        }
        None
    };
    let nobodys_previous = || {
        let previous: BTreeSet<_> = lines.values().flatten().collect();
        lines
            .keys()
            .rev()
            .find(|version| stands(version) && !previous.contains(version))
            .or_else(|| lines.keys().rev().find(|version| stands(version)))
            .cloned()
    };
    let newest = match head {
        Some(head) if stands(head) => Some(head.clone()),
        Some(head) => nearest(head).or_else(nobodys_previous),
        None => nobodys_previous(),
    };
    let mut kept = decided.clone();
    let mut add = |version: &Version| -> Option<Version> {
        if let Some(there) = kept.get(version) {
            return there.clone();
        }
        let previous = nearest(version).filter(|previous| !leads_to(&kept, previous, version));
        kept.insert(version.clone(), previous.clone());
        previous
    };
    // From the newest down, then the others: where something must be cut, it is far from the head.
    let mut walked = BTreeSet::new();
    let mut at = newest.clone();
    while let Some(version) = at.filter(|version| walked.insert(version.clone())) {
        at = add(&version);
    }
    for version in lines.keys().rev().filter(|version| stands(version)) {
        add(version);
    }
    let unknown = lines.keys().filter(|version| !stands(version));
    Chain {
        head: newest,
        unknown: unknown
            .map(|version| (version.clone(), nearest(version)))
            .collect(),
        lines: kept
            .into_iter()
            .filter(|(version, _)| stands(version))
            .collect(),
    }
}

/// Whether the list that begins with `from` comes by `to`.
fn leads_to(lines: &Lines, from: &Version, to: &Version) -> bool {
    let mut at = Some(from);
    let mut left = lines.len() + 1;
    while let Some(version) = at.filter(|_| left > 0) {
        if version == to {
            return true;
        }
        at = lines.get(version).and_then(Option::as_ref);
        left -= 1;
    }
    false
}

/// The batch that makes a version's line known; `None` if the version is not known, came under another tag, or has its
/// line. `state` must hold the version's row.
pub fn line(
    state: &PackageState,
    version: &Version,
    previous: Option<&Version>,
    now: Millis,
) -> Option<PackageCommit> {
    let row = state.row(&RowKey::publish(version))?;
    let facts = row
        .facts
        .as_ref()
        .filter(|facts| facts.noticed.is_none() && facts.tag.is_none())?;
    let mut commit = PackageCommit::at(&state.name, state.seq);
    // The stamp stays: it orders the version's edges, which are what they were.
    commit.rows.push(RowWrite {
        facts: Some(Facts {
            noticed: Some(now),
            previous: previous.cloned(),
            ..facts.clone()
        }),
        ..RowWrite::new(row.key.clone(), Expect::Nothing, row.born)
    });
    Some(commit)
}

/// The batch that sets the head of the lines and the Node software's single parent (rule 6), where there is none of ours
/// yet; `None` if there is nothing to set. `state` must hold the head's row and what the highest version declares.
pub fn statics(
    state: &PackageState,
    head: Option<&Version>,
    dependent_of: Option<&PackageName>,
) -> Option<PackageCommit> {
    let mut commit = PackageCommit::at(&state.name, state.seq);
    if let Some(row) = head
        .filter(|_| state.head.is_none())
        .and_then(|head| state.row(&RowKey::publish(head)))
    {
        commit.statics.head = Some(Head {
            version: row.key.version.clone(),
            born: row.born,
        });
    }
    let declared = |parent: &&PackageName| {
        let edges = state.top.iter().flat_map(|top| &top.edges);
        edges.into_iter().any(|edge| edge.parent == **parent)
    };
    if let Some(parent) = dependent_of
        .filter(|_| state.dependent_of.is_none())
        .filter(declared)
    {
        commit.statics.dependent_of = Some(Some(parent.clone()));
    }
    let nothing = commit.statics.head.is_none() && commit.statics.dependent_of.is_none();
    (!nothing).then_some(commit)
}

/// The batch that attaches a version to a line it went with elsewhere (rule 11); `None` if the version is not known or
/// the line has it, or a higher one, already. `state` must hold the version's row and the attachment to that line. What
/// we decided ourselves about the version stays as it is.
pub fn pair(
    state: &PackageState,
    version: &Version,
    parent: &PackageName,
    line: &Version,
    now: Millis,
) -> Option<PackageCommit> {
    let there = state.attached.get(&(parent.clone(), line.clone()));
    if there.is_some_and(|there| there >= version) {
        return None;
    }
    let row = state.row(&RowKey::publish(version))?;
    let facts = row.facts.as_ref()?;
    let mut commit = PackageCommit::at(&state.name, state.seq);
    commit
        .attached
        .push((parent.clone(), line.clone(), version.clone()));
    if facts.notice.is_some() {
        return Some(commit);
    }
    let raised = |all: &Option<BTreeMap<PackageName, Version>>| {
        let mut all = all.clone().unwrap_or_default();
        let highest = all.entry(parent.clone()).or_insert_with(|| line.clone());
        if *highest < *line {
            *highest = line.clone();
        }
        Some(all)
    };
    let mut facts = Facts {
        with: raised(&facts.with),
        attach: raised(&facts.attach),
        ..facts.clone()
    };
    // Decided once: a line that a later version was attached to since must not get this one again (H15).
    if facts.attach_stamp == 0 {
        facts.attach_stamp = (state.stamp + 1).max(now.saturating_mul(1000));
        commit.statics.stamp = Some(facts.attach_stamp);
    }
    commit.rows.push(RowWrite {
        facts: Some(facts),
        ..RowWrite::new(row.key.clone(), Expect::Nothing, row.born)
    });
    Some(commit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn lines(list: &[(&str, &str)]) -> Lines {
        list.iter()
            .map(|(version, previous)| (v(version), Version::parse(previous).ok()))
            .collect()
    }

    fn chained(list: &[(&str, &str)], head: &str, unknown: &[&str]) -> (String, Lines) {
        let list = lines(list);
        let unknown: Vec<Version> = unknown.iter().map(|one| v(one)).collect();
        let known = list
            .keys()
            .filter(|one| !unknown.contains(one))
            .cloned()
            .collect();
        let head = Version::parse(head).ok();
        let chain = chain(&list, head.as_ref(), &known, &Lines::new());
        (
            chain.head.map(|head| head.to_string()).unwrap_or_default(),
            chain.lines,
        )
    }

    #[test]
    fn a_sound_chain_stays_as_it_is() {
        let list = [
            ("5.2.2", ""),
            ("5.2.3", "5.2.2"),
            ("6.0.0", "5.2.3"),
            ("5.3.0", "6.0.0"),
        ];
        assert_eq!(chained(&list, "5.3.0", &[]), ("5.3.0".into(), lines(&list)));
        assert_eq!(
            chained(&list, "", &[]).0,
            "5.3.0",
            "without a head it is the line that no other one follows"
        );
    }

    #[test]
    fn contract_5_7_a_loop_is_cut_where_it_comes_back_to() {
        let list = [("5.2.2", "5.2.3"), ("5.2.3", "5.2.2"), ("5.2.4", "5.2.3")];
        let expected = [("5.2.2", ""), ("5.2.3", "5.2.2"), ("5.2.4", "5.2.3")];
        assert_eq!(
            chained(&list, "5.2.4", &[]),
            ("5.2.4".into(), lines(&expected))
        );
        let (head, own) = chained(&[("1.0.0", "1.0.0")], "1.0.0", &[]);
        assert_eq!((head.as_str(), own), ("1.0.0", lines(&[("1.0.0", "")])));
    }

    #[test]
    fn what_is_not_known_is_stepped_over() {
        let list = [
            ("1.0.0", ""),
            ("1.1.0", "1.0.0"),
            ("1.2.0", "1.1.0"),
            ("1.3.0", "1.2.0"),
        ];
        let expected = [("1.0.0", ""), ("1.2.0", "1.0.0")];
        assert_eq!(
            chained(&list, "1.3.0", &["1.1.0", "1.3.0"]),
            ("1.2.0".into(), lines(&expected))
        );
        assert_eq!(
            chained(&[("1.1.0", "1.0.0")], "1.1.0", &[]),
            ("1.1.0".into(), lines(&[("1.1.0", "")])),
            "the line before is gone"
        );
        assert_eq!(
            chained(&[("1.1.0", "")], "1.1.0", &["1.1.0"]),
            (String::new(), Lines::new())
        );
    }

    #[test]
    fn what_we_decided_stays_and_closes_no_loop() {
        let list = lines(&[("1.0.0", "2.0.0"), ("2.0.0", "1.0.0")]);
        let known = list.keys().cloned().collect();
        let ours = lines(&[("2.0.0", "1.0.0")]);
        let chain = chain(&list, Some(&v("1.0.0")), &known, &ours);
        assert_eq!(chain.lines, lines(&[("1.0.0", ""), ("2.0.0", "1.0.0")]));
    }

    proptest! {
        /// Rule 7: whatever the rows say, there is no loop, every known line is there, and doing it again changes nothing.
        #[test]
        fn rule_7_no_rows_make_a_loop(
            rows in proptest::collection::btree_map(0_u64..12, proptest::option::of(0_u64..14), 0..12),
            head in proptest::option::of(0_u64..14),
            unknown in proptest::collection::btree_set(0_u64..12, 0..4),
            decided in proptest::collection::btree_set(0_u64..12, 0..12),
        ) {
            let at = |number: u64| Version::new(1, number, 0);
            let list: Lines = rows.iter().map(|(version, previous)| (at(*version), previous.map(at))).collect();
            let known: BTreeSet<Version> =
                rows.keys().filter(|one| !unknown.contains(one)).map(|one| at(*one)).collect();
            let head = head.map(at);
            let first = chain(&list, head.as_ref(), &known, &Lines::new());
            for version in first.lines.keys() {
                let previous = first.lines[version].as_ref();
                prop_assert!(previous.is_none_or(|previous| !leads_to(&first.lines, previous, version)));
                prop_assert!(previous.is_none_or(|previous| first.lines.contains_key(previous)));
            }
            prop_assert_eq!(first.lines.keys().cloned().collect::<BTreeSet<_>>(), known.clone());
            prop_assert_eq!(first.lines.len() + first.unknown.len(), list.len());
            for previous in first.unknown.values().flatten() {
                prop_assert!(first.lines.contains_key(previous));
            }
            prop_assert_eq!(first.head.is_some(), !known.is_empty());
            // An import that died half-way has decided a part.
            let part: Lines = first.lines.iter()
                .filter(|(version, _)| decided.contains(&version.minor()))
                .map(|(version, previous)| (version.clone(), previous.clone()))
                .collect();
            prop_assert_eq!(chain(&list, head.as_ref(), &known, &part), first);
        }
    }
}
