//! What a wave does with a node next (rules 15-17; H6, H7, H24).
//!
//! All of it is read from columns that are written once, after the event's own write, and nothing is counted: whoever
//! looks last sees everything, however often somebody looks.

use std::collections::BTreeMap;

use crate::model::decision::Reason;
use crate::model::name::PackageName;
use crate::model::package::{Cause, Facts, Millis};
use crate::model::wave::{Hold, Node, NodeKey, PlanNode, Standing};
use crate::semver::Version;

/// What a node that waits comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It waits on, for these.
    Waits(Vec<NodeKey>),
    /// All that it waited for is terminal and something of it was published: these parents, at these versions.
    Release(Vec<(NodeKey, Version)>),
    /// All of it is terminal and nothing was published.
    Skip(Reason),
}

/// Looks at a node that is [`Standing::Waiting`]. `nodes` answers for what it waits for; what is not there waits.
pub fn ready(plan: &PlanNode, nodes: &BTreeMap<NodeKey, Node>) -> Ready {
    let mut waits = Vec::new();
    let mut published = Vec::new();
    let mut others = Vec::new();
    for key in &plan.waits_for {
        let node = nodes.get(key);
        match node.map_or(Standing::Waiting, Node::standing) {
            Standing::Waiting | Standing::Released => waits.push(key.clone()),
            Standing::Published => {
                if let Some(version) = node.and_then(|node| node.published.clone()) {
                    published.push((key.clone(), version));
                }
            }
            other => others.push((key.package.clone(), other)),
        }
    }
    if !waits.is_empty() {
        Ready::Waits(waits)
    } else if published.is_empty() && plan.seed.is_none() {
        Ready::Skip(Reason::UpstreamFailed { parents: others })
    } else {
        Ready::Release(published)
    }
}

/// Whether those that wait for this node may have been decided without it: then a version of it that is published
/// after all has to be brought to them (H6).
pub fn came_late(parent: &Node) -> bool {
    parent.failed.is_some()
        || parent.late.is_some()
        || parent.held.is_some()
        || parent.skipped.is_some()
}

/// Whether a node that was decided went without this version of a parent. `with` is what its rebuild, or the version
/// published by hand in its place, was built with. What is not waited for never starts anything (rule 16).
pub fn went_without(
    plan: &PlanNode,
    node: &Node,
    with: Option<&BTreeMap<PackageName, Version>>,
    parent: &NodeKey,
    version: &Version,
) -> bool {
    if plan.cycle.contains(parent) {
        return false;
    }
    match node.standing() {
        Standing::Waiting | Standing::Held => false,
        Standing::Skipped => matches!(
            node.skipped,
            Some(Reason::UpstreamFailed { .. } | Reason::NoLongerReached)
        ),
        Standing::Released | Standing::Published | Standing::Failed | Standing::Late => with
            .is_some_and(|with| {
                with.get(&parent.package)
                    .is_none_or(|built_with| built_with < version)
            }),
    }
}

/// The hold that keeps a node from being rebuilt; those on one edge only take that parent from its causes, unless no
/// other is left (rule 17).
pub fn held(holds: Vec<Hold>, causes: &mut Vec<Cause>, now: Millis) -> Option<Hold> {
    let mut holds = holds.into_iter().filter(|hold| hold.holds(now));
    holds.find(|hold| match &hold.parent {
        None => true,
        Some(parent) => {
            let before = causes.len();
            causes.retain(|cause| cause.parent != *parent);
            causes.is_empty() && before > 0
        }
    })
}

/// What a published version says about whether it includes these parent versions already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covers {
    /// It was built with them: a rebuild would bring nothing new (H10).
    All,
    /// It was not.
    NotAll,
    /// Its publish is being handled: nobody knows yet.
    Undecided,
}

/// Whether a base that was published by hand was built with all these parents already; a rebuild goes with the lines of
/// its own wave only, so it never stands for another. With a higher version of one of them only if it was published
/// after the wave was opened: else somebody publishes an older version of the parent on purpose (rule 8).
pub fn covers(base: &Facts, causes: &[Cause], opened: Millis) -> Covers {
    if base.origin.is_some() {
        return Covers::NotAll;
    }
    let is_later = base.noticed.is_some_and(|noticed| noticed >= opened);
    match &base.with {
        Some(with) => {
            let built_with = |cause: &Cause| match with.get(&cause.parent) {
                Some(with) => *with == cause.version || (is_later && *with > cause.version),
                None => false,
            };
            if !causes.is_empty() && causes.iter().all(built_with) {
                Covers::All
            } else {
                Covers::NotAll
            }
        }
        None if base.noticed.is_some() && base.notice.is_some() => Covers::Undecided,
        None => Covers::NotAll,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PackageName {
        PackageName::parse(text).unwrap()
    }

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn key(text: &str) -> NodeKey {
        NodeKey::package(&name(text))
    }

    fn waiting_for(parents: &[&str]) -> PlanNode {
        PlanNode {
            key: key("tip"),
            waits_for: parents.iter().map(|one| key(one)).collect(),
            cycle: Vec::new(),
            level: 1,
            base: v("1.0.0"),
            version: None,
            seed: None,
        }
    }

    fn published(version: &str) -> Node {
        Node {
            published: Some(v(version)),
            ..Node::default()
        }
    }

    fn late() -> Node {
        Node {
            late: Some(1),
            ..Node::default()
        }
    }

    #[test]
    fn rule_15_a_node_waits_for_every_parent() {
        let plan = waiting_for(&["a", "b"]);
        let mut nodes = BTreeMap::from([(key("a"), published("1.0.1-0"))]);
        assert_eq!(ready(&plan, &nodes), Ready::Waits(vec![key("b")]));
        let released = Node {
            released: Some("r".into_id()),
            ..Node::default()
        };
        nodes.insert(key("b"), released);
        assert_eq!(ready(&plan, &nodes), Ready::Waits(vec![key("b")]));
        nodes.insert(key("b"), late());
        let first = vec![(key("a"), v("1.0.1-0"))];
        assert_eq!(ready(&plan, &nodes), Ready::Release(first));
    }

    #[test]
    fn rule_17_nothing_published_nothing_rebuilt() {
        let plan = waiting_for(&["a", "b"]);
        let failed = Node {
            failed: Some("dead".into()),
            ..Node::default()
        };
        let nodes = BTreeMap::from([(key("a"), late()), (key("b"), failed)]);
        let parents = vec![(name("a"), Standing::Late), (name("b"), Standing::Failed)];
        let skip = Ready::Skip(Reason::UpstreamFailed { parents });
        assert_eq!(ready(&plan, &nodes), skip);
    }

    #[test]
    fn h6_who_went_without_a_late_parent() {
        let plan = waiting_for(&["a", "b"]);
        let went = |node: &Node, with: &[(&str, &str)]| {
            let with = with.iter().map(|(p, at)| (name(p), v(at))).collect();
            went_without(&plan, node, Some(&with), &key("b"), &v("1.0.1-0"))
        };
        let released = Node {
            released: Some("r".into_id()),
            ..Node::default()
        };
        assert!(went(&released, &[("a", "1.0.1-0"), ("b", "1.0.0")]));
        assert!(!went(&released, &[("b", "1.0.1-0")]));
        assert!(!went(&Node::default(), &[]), "it waits still");
        let upstream = Node {
            skipped: Some(Reason::UpstreamFailed {
                parents: Vec::new(),
            }),
            ..Node::default()
        };
        assert!(went(&upstream, &[]));
        let cycle = PlanNode {
            waits_for: vec![key("a")],
            cycle: vec![key("b")],
            ..plan.clone()
        };
        let with = BTreeMap::new();
        assert!(
            !went_without(&cycle, &released, Some(&with), &key("b"), &v("2.0.0")),
            "what is not waited for starts nothing"
        );
    }

    trait IntoId {
        fn into_id(self) -> crate::model::id::RebuildId;
    }

    impl IntoId for &str {
        fn into_id(self) -> crate::model::id::RebuildId {
            crate::model::id::RebuildId::new(self)
        }
    }
}
