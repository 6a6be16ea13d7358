//! The state machine that finds whom a start reaches.
//!
//! Who waits for whom depends on who reaches whom, that depends on versions, and the version of a package depends on
//! those that it waits for. So it goes in rounds. A round *reaches*: from the start outwards, each package at its believed
//! version, or at the one that the first to reach it would give it. Then it *evaluates*: in the order that follows,
//! each package from those that it waits for. If every version is as believed, that is the answer; else what was
//! evaluated is believed, and the next round begins. Most starts need one round, or two where a parent that is met later
//! chooses another base. Through cycles two beliefs can contradict each other for ever, so rounds are counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::known::{Asked, Id, Known, Missing, Questions};
use super::{Affected, Order, Origin, Role, Seed, order};
use crate::model::decision::Reason;
use crate::model::name::PackageName;
use crate::model::package::{Cause, PackageState};
use crate::plan::Increment;
use crate::plan::base::{self, Base};
use crate::semver::Version;
use crate::store::{Dependent, Published};

/// After so many rounds the last answer stands.
const ROUNDS: usize = 20;

/// What [`Explorer::step`] comes to.
#[derive(Debug)]
pub enum Step {
    /// It has to be told this first.
    Ask(Questions),
    /// Done; there are no further steps.
    Done(Affected),
}

/// Finds whom publishes reach (rules 8, 9, 15-17). Call [`Explorer::step`], answer every question, and again, until it
/// is done. Its work is linear in the pairs that it looks at, times the rounds, of which most starts need one or two.
pub struct Explorer {
    pub(super) known: Known,
    increment: Increment,
    pub(super) origins: BTreeMap<Id, Origin>,
    pub(super) seeds: BTreeMap<Id, Vec<Cause>>,
    rounds: usize,
    /// What the present round takes for granted.
    believed: HashMap<Id, Decided>,
    pub(super) reached: Reached,
    phase: Phase,
    /// What the present round evaluated.
    pub(super) found: HashMap<Id, Decided>,
    pub(super) settled: bool,
}

enum Phase {
    /// From this frontier outwards; `true` at the start, when the seeds come in.
    Reach(Vec<Id>, bool),
    /// Evaluates the levels from this one on.
    Evaluate(Structure, u32),
    /// Everything is found.
    Finish,
}

/// Who reaches whom in a round.
#[derive(Default)]
pub(super) struct Reached {
    /// Whom, other than origins.
    pub members: HashSet<Id>,
    /// Parent, child and, if the parent's list has it, its place there.
    pub edges: Vec<(Id, Id, Option<usize>)>,
}

/// The order of what was reached, numbered by name.
pub(super) struct Structure {
    pub ids: Vec<Id>,
    pub order: Order,
    levels: BTreeMap<u32, Vec<usize>>,
    places: HashMap<(Id, Id), Option<usize>>,
}

/// What becomes of one package.
#[derive(Clone)]
pub(super) struct Decided {
    pub base: Version,
    pub edge: Dependent,
    pub range: Option<String>,
    pub reason: Reason,
    pub causes: Vec<Cause>,
    pub out: Vec<(Cause, Reason)>,
    /// What is published; `None` if no version is left.
    pub made: Option<Cause>,
}

impl Explorer {
    /// Starts from published versions and from packages that are rebuilt in any case. A package that is both is an
    /// origin only: an origin is never rebuilt in its wave. Of two origins of one package the higher version counts.
    pub fn new(increment: Increment, origins: Vec<Origin>, seeds: Vec<Seed>) -> Self {
        let mut known = Known::default();
        let mut starts: BTreeMap<Id, Origin> = BTreeMap::new();
        for origin in origins {
            let id = known.id(&origin.cause.parent);
            let there = starts.get(&id);
            if there.is_none_or(|there| there.cause.version < origin.cause.version) {
                starts.insert(id, origin);
            }
        }
        let mut causes: BTreeMap<Id, Vec<Cause>> = BTreeMap::new();
        for seed in seeds {
            let id = known.id(&seed.package);
            if !starts.contains_key(&id) {
                causes.entry(id).or_default().extend(seed.causes);
            }
        }
        let mut explorer = Self {
            known,
            increment,
            origins: starts,
            seeds: causes,
            rounds: 0,
            believed: HashMap::new(),
            reached: Reached::default(),
            phase: Phase::Finish,
            found: HashMap::new(),
            settled: false,
        };
        explorer.begin();
        explorer
    }

    /// All dependents of `parent`.
    pub fn tell_dependents(&mut self, parent: &PackageName, dependents: Vec<Dependent>) {
        self.known.told_dependents(parent, dependents);
    }

    /// All ranges by which versions of `dependent` declare `parent`, each with the highest such version.
    pub fn tell_ranges(
        &mut self,
        parent: &PackageName,
        dependent: &PackageName,
        ranges: Vec<(String, Version)>,
    ) {
        self.known.told_ranges((parent, dependent), ranges);
    }

    /// What was read of a package for [`Questions::tops`].
    pub fn tell_top(&mut self, state: PackageState) {
        self.known.told_top(state);
    }

    /// What was read of a package for [`Questions::states`]; `published` is needed for [`Increment::Patch`] only.
    pub fn tell_state(&mut self, base: &Version, state: &PackageState, published: &[Published]) {
        let increment = self.increment;
        self.known.told_state(base, state, increment, published);
    }

    /// Goes on as far as what is known allows.
    pub fn step(&mut self) -> Step {
        loop {
            let mut asked = Asked::default();
            match std::mem::replace(&mut self.phase, Phase::Finish) {
                Phase::Reach(frontier, first) => self.reach(frontier, first, &mut asked),
                Phase::Evaluate(structure, level) => self.evaluate(structure, level, &mut asked),
                Phase::Finish => {
                    if let Some(affected) = self.finish(&mut asked) {
                        return Step::Done(affected);
                    }
                }
            }
            if !asked.is_empty() {
                return Step::Ask(asked.into_questions(self.increment));
            }
        }
    }

    fn begin(&mut self) {
        self.rounds += 1;
        self.reached = Reached::default();
        let origins = self.origins.iter();
        let reaching = origins.filter(|(_, origin)| origin.reach);
        self.phase = Phase::Reach(reaching.map(|(id, _)| *id).collect(), true);
    }

    /// One step outwards.
    fn reach(&mut self, frontier: Vec<Id>, first: bool, asked: &mut Asked) {
        let mut causes = HashMap::new();
        for &parent in &frontier {
            let origin = self.origins.get(&parent).map(|origin| &origin.cause);
            let made = self.believed.get(&parent).and_then(|it| it.made.as_ref());
            if let Some(cause) = origin.or(made).cloned() {
                self.known.prepare(parent, &cause, asked);
                causes.insert(parent, cause);
            }
        }
        let mut edges = Vec::new();
        let mut new: BTreeMap<Id, Vec<(Cause, Id, Option<usize>)>> = BTreeMap::new();
        if first {
            new.extend(self.seeds.keys().map(|&seed| (seed, Vec::new())));
            for (&seed, causes) in &self.seeds {
                for cause in causes {
                    let parent = self.known.id(&cause.parent);
                    if self.origins.contains_key(&parent) {
                        edges.push((parent, seed, None));
                    }
                }
            }
        }
        if asked.is_empty() {
            for (&parent, cause) in &causes {
                let answers = self.known.answers(parent, &cause.version);
                let rows = self.known.dependents(parent).iter().zip(answers);
                for (place, ((child, _), answer)) in rows.enumerate() {
                    if !matches!(answer, Base::Rebuild { .. }) || self.origins.contains_key(child) {
                        continue;
                    }
                    edges.push((parent, *child, Some(place)));
                    if !self.reached.members.contains(child) {
                        let by = new.entry(*child).or_default();
                        by.push((cause.clone(), parent, Some(place)));
                    }
                }
            }
        }
        let mut decided = HashMap::new();
        for (&child, by) in &new {
            if !self.believed.contains_key(&child)
                && let Ok(Some(one)) = self.decide(child, by, asked)
            {
                decided.insert(child, one);
            }
        }
        if !asked.is_empty() {
            self.phase = Phase::Reach(frontier, first);
            return;
        }
        self.believed.extend(decided);
        self.reached.edges.extend(edges);
        self.reached.members.extend(new.keys());
        self.phase = if new.is_empty() {
            self.found.clear();
            Phase::Evaluate(self.structure(&self.reached.members), 1)
        } else {
            Phase::Reach(new.into_keys().collect(), false)
        };
    }

    /// Orders the origins and these members.
    pub(super) fn structure(&self, members: &HashSet<Id>) -> Structure {
        let mut ids: Vec<Id> = self.origins.keys().chain(members).copied().collect();
        ids.sort_unstable_by_key(|&id| self.known.name(id));
        let number: HashMap<Id, usize> = ids.iter().copied().zip(0..).collect();
        let role = |id: &Id| {
            if self.origins.contains_key(id) {
                Role::Origin
            } else if self.seeds.contains_key(id) {
                Role::Seed
            } else {
                Role::Follower
            }
        };
        let roles: Vec<Role> = ids.iter().map(role).collect();
        let mut edges = Vec::with_capacity(self.reached.edges.len());
        let mut places = HashMap::with_capacity(self.reached.edges.len());
        for &(parent, child, place) in &self.reached.edges {
            if let (Some(&one), Some(&two)) = (number.get(&parent), number.get(&child)) {
                edges.push((one, two));
                let there = places.entry((parent, child)).or_insert(place);
                *there = there.or(place);
            }
        }
        let order = order(&roles, &edges);
        let mut levels: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (number, place) in order.places.iter().enumerate() {
            levels.entry(place.level).or_default().push(number);
        }
        Structure {
            ids,
            order,
            levels,
            places,
        }
    }

    /// One level of the order.
    fn evaluate(&mut self, structure: Structure, level: u32, asked: &mut Asked) {
        let Some(nodes) = structure.levels.get(&level) else {
            self.end_of_round();
            return;
        };
        let mut parents = Vec::new();
        for &node in nodes.iter().filter(|_| level > 0) {
            let child = structure.ids[node];
            let mut by = Vec::new();
            for &number in &structure.order.places[node].waits_for {
                let parent = structure.ids[number];
                if let Some(cause) = self.cause(parent) {
                    let place = structure.places[&(parent, child)];
                    if place.is_some() {
                        self.known.prepare(parent, &cause, asked);
                    }
                    by.push((cause, parent, place));
                }
            }
            parents.push((child, by));
        }
        let mut decided = Vec::new();
        if asked.is_empty() {
            for (child, by) in parents {
                if let Ok(Some(one)) = self.decide(child, &by, asked) {
                    decided.push((child, one));
                }
            }
        }
        if asked.is_empty() {
            self.found.extend(decided);
            self.phase = Phase::Evaluate(structure, level + 1);
        } else {
            self.phase = Phase::Evaluate(structure, level);
        }
    }

    fn end_of_round(&mut self) {
        let made = |all: &HashMap<Id, Decided>, id: &Id| -> Option<Cause> {
            all.get(id).and_then(|one| one.made.clone())
        };
        let mut members = self.reached.members.iter();
        self.settled = members.all(|id| made(&self.believed, id) == made(&self.found, id));
        if self.settled || self.rounds >= ROUNDS {
            self.phase = Phase::Finish;
        } else {
            self.believed.clone_from(&self.found);
            self.begin();
        }
    }

    /// What an origin published, or a member was found to publish.
    pub(super) fn cause(&self, id: Id) -> Option<Cause> {
        let origin = self.origins.get(&id).map(|origin| &origin.cause);
        let found = self.found.get(&id).and_then(|one| one.made.as_ref());
        origin.or(found).cloned()
    }

    /// What becomes of a package if these parents are published: its base, and the next version of that (rules 8, 9,
    /// H23). `None`: no parent reaches it.
    fn decide(
        &mut self,
        child: Id,
        by: &[(Cause, Id, Option<usize>)],
        asked: &mut Asked,
    ) -> Result<Option<Decided>, Missing> {
        let mut pairs: BTreeMap<PackageName, (Cause, Dependent, Base)> = BTreeMap::new();
        let mut top = None;
        if let Some(causes) = self.seeds.get(&child) {
            // An unmanaged seed has nothing to rebuild.
            let Some(of) = self.known.top(child, asked)?.cloned() else {
                return Ok(None);
            };
            let mut complete = true;
            for cause in causes {
                match self.known.declared(child, &of, cause, asked) {
                    Some((row, answer)) => {
                        let pair = (cause.clone(), row, answer);
                        pairs.insert(cause.parent.clone(), pair);
                    }
                    None => complete = false,
                }
            }
            if !complete {
                return Err(Missing);
            }
            top = Some(of.version);
        }
        for (cause, parent, place) in by {
            // Without a place it is the seed's own cause, which is there already.
            let Some(place) = *place else { continue };
            let row = self.known.dependents(*parent).get(place);
            let answer = self.known.answers(*parent, &cause.version).get(place);
            if let (Some((_, row)), Some(answer)) = (row, answer) {
                let pair = (cause.clone(), row.clone(), answer.clone());
                pairs.insert(cause.parent.clone(), pair);
            }
        }
        let mut rows: BTreeMap<PackageName, Dependent> = BTreeMap::new();
        let answers = pairs.into_iter().map(|(parent, (cause, row, answer))| {
            rows.insert(parent, row);
            (cause, answer)
        });
        let chosen = base::across(answers.collect::<Vec<_>>());
        let decided = match (chosen, top) {
            (Ok(chosen), _) => {
                let first = chosen.causes.first();
                let edge = first.and_then(|cause| rows.remove(&cause.parent));
                edge.map(|edge| Decided {
                    base: chosen.base,
                    edge,
                    range: Some(chosen.range),
                    reason: chosen.reason,
                    causes: chosen.causes,
                    out: chosen.out,
                    made: None,
                })
            }
            (Err(out), Some(top)) => Some(Decided {
                edge: Dependent {
                    dependent: self.known.name(child).clone(),
                    top: top.clone(),
                    range: None,
                },
                base: top,
                range: None,
                reason: Reason::ByHand,
                causes: Vec::new(),
                out,
                made: None,
            }),
            (Err(_), None) => None,
        };
        let Some(mut decided) = decided else {
            return Ok(None);
        };
        decided.made = self.known.made(child, &decided.base, asked)?;
        Ok(Some(decided))
    }

    /// Seeds for which there is nothing to rebuild.
    pub(super) fn unmanaged(&self) -> Vec<PackageName> {
        let seeds = self.seeds.keys();
        let missing = seeds.filter(|seed| !self.found.contains_key(seed));
        let names: BTreeSet<PackageName> =
            missing.map(|&seed| self.known.name(seed).clone()).collect();
        names.into_iter().collect()
    }
}
