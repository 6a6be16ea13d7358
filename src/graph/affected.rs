//! The answer of an [`Explorer`]: its last round, in build order, with a reason for every pair.

use std::collections::HashSet;

use super::explorer::{Explorer, Structure};
use super::known::{Asked, Id};
use super::{Affected, AffectedNode, Skip};
use crate::model::decision::Reason;
use crate::model::package::Cause;
use crate::model::wave::{NodeKey, PlanNode};
use crate::plan::base::Base;

impl Explorer {
    /// The answer; `None` if something had to be asked.
    pub(super) fn finish(&mut self, asked: &mut Asked) -> Option<Affected> {
        // Who has no version left is no node, unless it is a seed: it reaches nobody, so nobody's place changes.
        let found = self.found.iter();
        let alive: HashSet<Id> = found
            .filter(|(id, one)| one.made.is_some() || self.seeds.contains_key(id))
            .map(|(id, _)| *id)
            .collect();
        let structure = self.structure(&alive);
        let mut parents: Vec<(u32, Id, Cause)> = Vec::new();
        for (&id, place) in structure.ids.iter().zip(&structure.order.places) {
            let silent = self.origins.get(&id).is_some_and(|origin| !origin.reach);
            if let Some(cause) = self.cause(id).filter(|_| !silent) {
                self.known.prepare(id, &cause, asked);
                parents.push((place.level, id, cause));
            }
        }
        if !asked.is_empty() {
            return None;
        }
        // By level; the sort keeps the order of names.
        parents.sort_by_key(|(level, ..)| *level);
        let nodes = self.nodes(&structure);
        let mut settled: HashSet<(&Cause, &str)> = HashSet::new();
        for node in &nodes {
            let name = node.edge.dependent.as_str();
            let out = node.also_out.iter().map(|(cause, _)| cause);
            settled.extend(node.causes.iter().chain(out).map(|cause| (cause, name)));
        }
        let mut cycle: HashSet<(Id, Id)> = HashSet::new();
        for (&id, place) in structure.ids.iter().zip(&structure.order.places) {
            cycle.extend(place.cycle.iter().map(|&one| (structure.ids[one], id)));
        }
        let mut skips = Vec::new();
        for (_, parent, cause) in parents {
            let answers = self.known.answers(parent, &cause.version);
            for ((child, row), answer) in self.known.dependents(parent).iter().zip(answers) {
                if settled.contains(&(&cause, row.dependent.as_str())) {
                    continue;
                }
                let back = self.origins.contains_key(child) || cycle.contains(&(parent, *child));
                let reason = match answer {
                    Base::Skip(reason) => reason.clone(),
                    Base::NeedsRanges => Reason::OutOfRange,
                    Base::Rebuild { .. } if back => Reason::Cycle,
                    // Only if rounds ended before they agreed: it goes without having waited for this parent.
                    Base::Rebuild { .. } if alive.contains(child) => Reason::AlreadyInWave,
                    Base::Rebuild { .. } if self.found.contains_key(child) => Reason::NoVersionLeft,
                    Base::Rebuild { .. } => Reason::NoLongerReached,
                };
                skips.push(Skip {
                    cause: cause.clone(),
                    edge: row.clone(),
                    reason,
                });
            }
        }
        let names = |numbers: &[usize]| {
            let name = |&number: &usize| self.known.name(structure.ids[number]).clone();
            numbers.iter().map(name).collect()
        };
        let components = structure.order.components.iter();
        Some(Affected {
            skips,
            components: components.map(|members| names(members)).collect(),
            critical_path: names(&structure.order.critical_path),
            unmanaged: self.unmanaged(),
            settled: self.settled,
            nodes,
        })
    }

    fn nodes(&self, structure: &Structure) -> Vec<AffectedNode> {
        let keys = |numbers: &[usize]| {
            let key = |&number: &usize| NodeKey::package(self.known.name(structure.ids[number]));
            numbers.iter().map(key).collect()
        };
        let mut nodes: Vec<AffectedNode> = Vec::with_capacity(self.found.len());
        for (id, place) in structure.ids.iter().zip(&structure.order.places) {
            let Some(one) = self.found.get(id) else {
                continue;
            };
            nodes.push(AffectedNode {
                plan: PlanNode {
                    key: NodeKey::package(self.known.name(*id)),
                    waits_for: keys(&place.waits_for),
                    cycle: keys(&place.cycle),
                    level: place.level,
                    base: one.base.clone(),
                    version: one.made.as_ref().map(|made| made.version.clone()),
                    seed: self.seeds.get(id).cloned(),
                },
                edge: one.edge.clone(),
                causes: one.causes.clone(),
                also_out: one.out.clone(),
                range: one.range.clone(),
                reason: one.reason.clone(),
            });
        }
        nodes.sort_by_key(|node| node.plan.level);
        nodes
    }
}
