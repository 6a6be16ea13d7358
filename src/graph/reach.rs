//! Whom a version reaches, by the [`Index`]: the set, its order, and who is left out.
//!
//! The set is a breadth-first walk along open edges; [`super::levels`] puts it in order.

use super::index::{Index, NONE, narrow};
use super::levels::{Edges, Order};
use crate::model::name::PackageName;
use crate::semver::Version;

/// What the question is about.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The package.
    pub package: &'a PackageName,
    /// The version, and of one that we made its origin. `None`: whichever comes next; taken for granted to be let in by
    /// everybody whose range admits the present highest version (if there is none: by everybody who has a range).
    pub version: Option<(&'a Version, Option<&'a Version>)>,
}

/// What would be reached. Packages are numbers of the [`Index`] that was asked, good until it is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The origin, then everybody reached, by distance.
    members: Vec<u32>,
    /// Of each member its level: 0 for the origin, else 1 + the highest of those that it waits for.
    levels: Vec<u32>,
    /// How many are reached by the origin itself.
    pub direct: usize,
    /// How many there are of level 1, 2, and so on.
    pub by_level: Vec<usize>,
    /// Strongly connected components of more than one package.
    pub circles: usize,
    /// One longest chain in which each waits for the one before it, origin first, as [`super::Affected`] has it; empty if
    /// nobody is reached.
    pub longest_chain: Vec<PackageName>,
    /// How many packages declare one of these and are not reached, because the range of their highest version does not
    /// admit what comes.
    pub out_of_range: usize,
    /// The first of them by name.
    pub first_out_of_range: Vec<OutOfRange>,
    /// Whether no range was in the way anywhere: then no older version of a dependent can have a say (rule 8).
    pub exact: bool,
}

/// One that is out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The dependent.
    pub package: PackageName,
    /// Its highest version.
    pub version: Version,
    /// What it depends on: of several the first in build order.
    pub parent: PackageName,
    /// The version of that which it does not admit; `None`: the one that comes next.
    pub parent_version: Option<Version>,
    /// By which range.
    pub range: String,
}

/// One that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The package.
    pub package: PackageName,
    /// Its level, from 1.
    pub level: u32,
    /// Its highest version: the base of its rebuild.
    pub base: Version,
    /// What that would publish, unless somebody has that version.
    pub version: Option<Version>,
}

impl Reach {
    /// How many are reached, the origin left out.
    pub fn transitive(&self) -> usize {
        self.members.len().saturating_sub(1)
    }
}

/// How many of those out of range are named.
const NAMED: usize = 10;

/// Not met; met, but only out of range.
const OUTSIDE: u32 = NONE - 1;

/// What a walk finds.
#[derive(Default)]
struct Walk {
    /// By distance, the origin first.
    members: Vec<u32>,
    /// Of each package its place among them.
    places: Vec<u32>,
    /// Who leads to whom, by place.
    edges: Edges,
    /// Of each member, how many edges it is away from the origin.
    distances: Vec<u32>,
    /// Members other than the origin that have dependents which do not follow.
    in_the_way: Vec<u32>,
}

impl Walk {
    fn meet<const ORDER: bool>(&mut self, package: u32, distance: u32) {
        let place = narrow(self.members.len());
        self.places[package as usize] = place;
        self.members.push(package);
        if ORDER {
            self.distances.push(distance);
            self.edges.targets.push(place);
        }
    }
}

/// A package that is asked about, and which ranges admit what it publishes.
struct Asked<'a> {
    index: &'a Index,
    origin: u32,
    version: Option<(&'a Version, Option<&'a Version>)>,
    /// By range: not known yet, no, yes.
    known: Vec<Option<bool>>,
}

impl Asked<'_> {
    fn admits(&mut self, range: u32) -> bool {
        if let Some(answer) = self.known[range as usize] {
            return answer;
        }
        let range_of = &self.index.ranges[range as usize];
        let answer = match (self.version, self.index.top(self.origin)) {
            (Some((version, origin)), _) => range_of.admits(version, origin),
            (None, Some(top)) => range_of.admits(&top.version, top.origin.as_ref()),
            (None, None) => range_of.nothing().is_none(),
        };
        self.known[range as usize] = Some(answer);
        answer
    }
}

impl Index {
    fn asked<'a>(&'a self, start: &Start<'a>) -> Option<Asked<'a>> {
        Some(Asked {
            index: self,
            origin: self.find(start.package)?,
            version: start.version,
            known: vec![None; self.ranges.len()],
        })
    }

    /// The name behind a number of [`Index::set`].
    pub fn name(&self, number: u32) -> Option<&PackageName> {
        self.names.get(number as usize)
    }

    /// The set alone: the origin, then everybody reached, by distance. Empty if nobody ever named the package.
    pub fn set(&self, start: &Start<'_>) -> Vec<u32> {
        let Some(mut asked) = self.asked(start) else {
            return Vec::new();
        };
        self.walk::<false>(&mut asked).members
    }

    /// Finds all members; with `ORDER` also what is needed to order them.
    fn walk<const ORDER: bool>(&self, asked: &mut Asked<'_>) -> Walk {
        let origin = asked.origin;
        let mut walk = Walk {
            places: vec![NONE; self.names.len()],
            members: vec![origin],
            ..Walk::default()
        };
        if ORDER {
            walk.distances.push(0);
            walk.edges.targets.reserve(self.parents.places());
        }
        walk.places[origin as usize] = 0;
        for (dependent, range) in self.dependents.pairs(origin) {
            if walk.places[dependent as usize] == NONE
                && self.publishes(dependent)
                && asked.admits(range)
            {
                walk.meet::<ORDER>(dependent, 1);
            }
        }
        if ORDER {
            walk.edges.ends.push(narrow(walk.edges.targets.len()));
        }
        let mut at = 1;
        while let Some(&parent) = walk.members.get(at) {
            let distance = if ORDER { walk.distances[at] + 1 } else { 0 };
            at += 1;
            let (open, closed) = self.dependents_of(parent);
            for &dependent in open {
                match walk.places[dependent as usize] {
                    NONE => walk.meet::<ORDER>(dependent, distance),
                    // An origin is never sent in its wave: what leads to it does not count (rule 16).
                    0 => {}
                    place if ORDER => walk.edges.targets.push(place),
                    _ => {}
                }
            }
            if ORDER {
                walk.edges.ends.push(narrow(walk.edges.targets.len()));
                if !closed.is_empty() {
                    walk.in_the_way.push(parent);
                }
            }
        }
        walk
    }

    /// The open dependents of a package, and the others.
    fn dependents_of(&self, parent: u32) -> (&[u32], &[u32]) {
        let open = self.open[parent as usize] as usize;
        self.dependents.firsts(parent).split_at(open)
    }

    /// Whom it would reach, in which order, and whom not. Nobody, if the package was never named.
    pub fn reach(&self, start: &Start<'_>) -> Reach {
        let Some(mut asked) = self.asked(start) else {
            return Reach {
                exact: true,
                ..Reach::default()
            };
        };
        let Walk {
            members,
            mut places,
            edges,
            distances,
            in_the_way,
        } = self.walk::<true>(&mut asked);
        let direct = edges.of(0).len();
        let order = Order::of(&edges, &distances);
        let levels: Vec<u32> = order.nodes.iter().map(|node| node.level).collect();
        let deepest = levels.iter().copied().max().unwrap_or(0);
        let mut by_level = vec![0; deepest as usize];
        for &level in levels.iter().filter(|&&level| level > 0) {
            by_level[level as usize - 1] += 1;
        }
        let chain = self.longest_chain(&mut asked, &members, &places, &order, deepest);
        let (outside, exact) = self.outside(&mut asked, &in_the_way, &mut places);
        let mut first = outside.clone();
        self.keep_first(&mut first, NAMED, |&id| id);
        let first_out_of_range = first
            .into_iter()
            .filter_map(|id| self.out_of_range(&mut asked, id, &places, &order))
            .collect();
        Reach {
            levels,
            direct,
            by_level,
            circles: order.circles,
            longest_chain: chain,
            out_of_range: outside.len(),
            first_out_of_range,
            exact,
            members,
        }
    }

    /// Who declares a member by a range that is in the way and is none itself; and whether no range was in the way. Of
    /// members other than the origin only those need be looked at that have such dependents.
    fn outside(
        &self,
        asked: &mut Asked<'_>,
        in_the_way: &[u32],
        places: &mut [u32],
    ) -> (Vec<u32>, bool) {
        let origin = asked.origin;
        let (mut outside, mut exact) = (Vec::new(), true);
        let mut closed = |dependent: u32| {
            // What leads back to the origin, and who has no version left, is no matter of ranges.
            if dependent == origin || !self.publishes(dependent) {
                return;
            }
            exact = false;
            let place = &mut places[dependent as usize];
            if *place == NONE {
                *place = OUTSIDE;
                outside.push(dependent);
            }
        };
        for (dependent, range) in self.dependents.pairs(origin) {
            if !asked.admits(range) {
                closed(dependent);
            }
        }
        for &parent in in_the_way {
            for &dependent in self.dependents_of(parent).1 {
                closed(dependent);
            }
        }
        (outside, exact)
    }

    /// What keeps a package out.
    fn out_of_range(
        &self,
        asked: &mut Asked<'_>,
        id: u32,
        places: &[u32],
        order: &Order,
    ) -> Option<OutOfRange> {
        let declared = self.parents.pairs(id).filter(|&(parent, range)| {
            let place = places[parent as usize];
            place < OUTSIDE && !(place == 0 && asked.admits(range))
        });
        let (parent, range) = declared.min_by(|&(one, _), &(other, _)| {
            let level = |parent: u32| order.nodes[places[parent as usize] as usize].level;
            let by_level = level(one).cmp(&level(other));
            by_level.then_with(|| self.by_name(one, other))
        })?;
        let parent_version = if places[parent as usize] == 0 {
            asked.version.map(|(version, _)| version.clone())
        } else {
            self.top(parent).and_then(|top| top.next.clone())
        };
        Some(OutOfRange {
            package: self.names[id as usize].clone(),
            version: self.top(id)?.version.clone(),
            parent: self.names[parent as usize].clone(),
            parent_version,
            range: self.range_texts[range as usize].to_string(),
        })
    }

    /// From the end backwards, each time the first by name; ties as in [`super::order`].
    fn longest_chain(
        &self,
        asked: &mut Asked<'_>,
        members: &[u32],
        places: &[u32],
        order: &Order,
        deepest: u32,
    ) -> Vec<PackageName> {
        let by_name = |one: &usize, other: &usize| self.by_name(members[*one], members[*other]);
        let last = (1..members.len())
            .filter(|&place| order.nodes[place].level == deepest)
            .min_by(by_name);
        let mut chain = Vec::new();
        let mut next = last;
        while let Some(place) = next {
            let id = members[place];
            chain.push(self.names[id as usize].clone());
            let before = self.parents.pairs(id).filter(|&(parent, range)| {
                let of_parent = places[parent as usize];
                if of_parent >= OUTSIDE {
                    return false;
                }
                let of_parent = of_parent as usize;
                let lets_in = if of_parent == 0 {
                    asked.admits(range)
                } else {
                    self.top(parent).is_some_and(|top| {
                        let next = top.next.as_ref();
                        next.is_some_and(|next| {
                            self.ranges[range as usize].admits(next, Some(top.next_origin()))
                        })
                    })
                };
                place != 0
                    && lets_in
                    && order.nodes[of_parent].level + 1 == order.nodes[place].level
                    && order.is_waited(of_parent, place)
            });
            next = before
                .map(|(parent, _)| places[parent as usize] as usize)
                .min_by(by_name);
        }
        chain.reverse();
        chain
    }

    /// A page of those reached, in build order: by level, then by name; after that level and name.
    pub fn page(&self, reach: &Reach, after: Option<(u32, &str)>, limit: usize) -> Vec<Reached> {
        let (level, name) = after.unwrap_or((1, ""));
        // Enough levels to fill the page, whatever is left of the first one.
        let (mut last, mut filled) = (level, 0);
        while filled < limit && (last as usize) < reach.by_level.len() {
            filled += reach.by_level[last as usize];
            last += 1;
        }
        let mut found: Vec<(u32, u32)> = Vec::new();
        for (&id, &of) in reach.members.iter().zip(&reach.levels) {
            if of < level.max(1) || of > last {
                continue;
            }
            if of > level || name.is_empty() || self.names[id as usize].as_str() > name {
                found.push((of, id));
            }
        }
        self.keep_first(&mut found, limit, |&(_, id)| id);
        let one = |(level, id): (u32, u32)| {
            let top = self.top(id)?;
            Some(Reached {
                package: self.names[id as usize].clone(),
                level,
                base: top.version.clone(),
                version: top.next.clone(),
            })
        };
        found.into_iter().filter_map(one).collect()
    }

    /// Sorts by what `Ord` says of the entry but its number, for which the name counts, and keeps the first.
    fn keep_first<T: Copy + Leading>(
        &self,
        all: &mut Vec<T>,
        count: usize,
        id: impl Fn(&T) -> u32,
    ) {
        let by = |one: &T, other: &T| {
            let leading = one.leading().cmp(&other.leading());
            leading.then_with(|| self.by_name(id(one), id(other)))
        };
        if all.len() > count && count > 0 {
            all.select_nth_unstable_by(count - 1, by);
        }
        all.truncate(count);
        all.sort_unstable_by(by);
    }
}

/// What counts before the name.
trait Leading {
    fn leading(&self) -> u32;
}

impl Leading for u32 {
    fn leading(&self) -> u32 {
        0
    }
}

impl Leading for (u32, u32) {
    fn leading(&self) -> u32 {
        self.0
    }
}
