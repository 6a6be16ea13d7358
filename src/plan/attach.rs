//! Which lines a published version goes with, and what it was built with (rule 11, H15).
//!
//! Decided after the version's own facts and edges are durable (H5), in a second batch of its own package: a parent
//! that is published at the same time either sees the edge and rebuilds, or is seen here and is attached to.

use std::collections::BTreeMap;

use crate::model::edge::{Edge, EdgeRange};
use crate::model::name::PackageName;
use crate::model::package::{Facts, Millis, PackageState, RowKey, Top};
use crate::semver::Version;
use crate::store::{Expect, PackageCommit, Projection, Published, RowWrite};

/// The highest version of a parent that a range admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Highest {
    /// This one.
    Version(Version),
    /// None is admitted.
    None,
    /// The parent's highest version is not admitted: all its published versions are needed.
    NeedsPublished,
}

/// The highest published version, under `latest`, that `range` admits. Looks at the parent's highest version first;
/// `published` is only needed if that one is not admitted.
pub fn highest_admitted(
    range: &EdgeRange,
    top: Option<&Top>,
    published: Option<&[Published]>,
) -> Highest {
    let Some(top) = top else { return Highest::None };
    if range.admits(&top.version, top.origin.as_ref()) {
        return Highest::Version(top.version.clone());
    }
    if matches!(range, EdgeRange::Nothing(_)) {
        return Highest::None;
    }
    let Some(published) = published else {
        return Highest::NeedsPublished;
    };
    published
        .iter()
        .filter(|one| one.tag.is_none() && range.admits(&one.version, one.origin.as_ref()))
        .map(|one| &one.version)
        .max()
        .map_or(Highest::None, |version| Highest::Version(version.clone()))
}

/// Rule 6: the parent kept for the Node software stays while it is declared; else the first managed dependency.
pub fn dependent_of(
    current: Option<&PackageName>,
    edges: &[Edge],
    managed: impl Fn(&PackageName) -> bool,
) -> Option<PackageName> {
    let declared = |name: &&PackageName| edges.iter().any(|edge| edge.parent == **name);
    current
        .filter(declared)
        .or_else(|| {
            edges
                .iter()
                .map(|edge| &edge.parent)
                .find(|parent| managed(parent))
        })
        .cloned()
}

/// What [`settle`] decides about.
#[derive(Clone, Debug)]
pub struct Settling {
    /// What the version was built with: per managed parent the highest version that it admits.
    pub with: BTreeMap<PackageName, Version>,
    /// The lines that exist and that it should go with.
    pub lines: BTreeMap<PackageName, Version>,
    /// The Node software's single parent.
    pub dependent_of: Option<PackageName>,
}

/// The batch that decides what a noticed version is attached to; `None` if that is decided already. `state` must hold
/// the version's row and the attachments of `settling.lines`: an entry only rises, so a line that has a higher version
/// of this package is left out.
pub fn settle(
    state: &PackageState,
    version: &Version,
    settling: &Settling,
    now: Millis,
) -> Option<PackageCommit> {
    let key = RowKey::publish(version);
    let row = state.row(&key)?;
    let facts = row.facts.as_ref().filter(|facts| facts.attach.is_none())?;
    let lines: BTreeMap<_, _> = settling
        .lines
        .iter()
        .filter(|(parent, line)| {
            let there = state.attached.get(&((*parent).clone(), (*line).clone()));
            there.is_none_or(|there| there <= version)
        })
        .map(|(parent, line)| (parent.clone(), line.clone()))
        .collect();
    let stamp = (state.stamp + 1).max(now.saturating_mul(1000));
    let mut commit = PackageCommit::at(&state.name, state.seq);
    commit.statics.stamp = Some(stamp);
    if facts.tag.is_none() {
        commit.statics.dependent_of = Some(settling.dependent_of.clone());
    }
    commit.attached = lines
        .iter()
        .map(|(parent, line)| (parent.clone(), line.clone(), version.clone()))
        .collect();
    commit.rows.push(RowWrite {
        facts: Some(Facts {
            with: Some(facts.with.clone().unwrap_or_else(|| settling.with.clone())),
            attach: Some(lines),
            attach_stamp: stamp,
            ..facts.clone()
        }),
        ..RowWrite::new(key, Expect::Nothing, row.born)
    });
    Some(commit)
}

/// The projections of a version's attachments, from its facts and the partition as it is. With `facts.attach_stamp`.
pub fn projections(state: &PackageState, version: &Version, facts: &Facts) -> Vec<Projection> {
    let lines = facts
        .attach
        .iter()
        .flatten()
        .map(|(parent, line)| Projection::LineDependent {
            package: parent.clone(),
            version: line.clone(),
            dependent: state.name.clone(),
            dependent_version: version.clone(),
        });
    let parent = Projection::DependentOf {
        package: state.name.clone(),
        parent: state.dependent_of.clone(),
    };
    lines.chain(facts.tag.is_none().then_some(parent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn published(text: &str, tag: Option<&str>) -> Published {
        Published {
            version: v(text),
            origin: None,
            tag: tag.map(String::from),
        }
    }

    #[test]
    fn rule_11_the_highest_admitted_version_of_a_parent() {
        let top = Top {
            version: v("6.0.0"),
            origin: None,
            edges: Vec::new(),
        };
        let range = EdgeRange::of("^5.0.0");
        assert_eq!(
            highest_admitted(&range, Some(&top), None),
            Highest::NeedsPublished
        );
        let all = [
            published("5.2.2", None),
            published("5.2.3", None),
            published("6.0.0", None),
        ];
        assert_eq!(
            highest_admitted(&range, Some(&top), Some(&all)),
            Highest::Version(v("5.2.3"))
        );
        assert_eq!(
            highest_admitted(&EdgeRange::of("*"), Some(&top), None),
            Highest::Version(v("6.0.0"))
        );
        assert_eq!(highest_admitted(&range, None, None), Highest::None);
    }

    #[test]
    fn rule_1_a_version_under_another_tag_is_nobodys_highest() {
        let top = Top {
            version: v("4.0.0"),
            origin: None,
            edges: Vec::new(),
        };
        let all = [published("5.0.0", Some("next")), published("4.0.0", None)];
        assert_eq!(
            highest_admitted(&EdgeRange::of("^5.0.0"), Some(&top), Some(&all)),
            Highest::None
        );
    }

    #[test]
    fn rule_6_the_single_parent_stays_while_it_is_declared() {
        let name = |text| PackageName::parse(text).unwrap();
        let edge = |text| Edge {
            parent: name(text),
            range: "*".into(),
        };
        let edges = [edge("a"), edge("b"), edge("c")];
        let managed = |one: &PackageName| one.as_str() != "a";
        assert_eq!(dependent_of(None, &edges, managed), Some(name("b")));
        assert_eq!(
            dependent_of(Some(&name("c")), &edges, managed),
            Some(name("c"))
        );
        assert_eq!(
            dependent_of(Some(&name("gone")), &edges, managed),
            Some(name("b"))
        );
        assert_eq!(dependent_of(None, &edges[..1], managed), None);
    }
}
