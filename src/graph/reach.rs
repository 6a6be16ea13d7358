//! Whom a version reaches, by the [`Index`]: the set, its order, and who is left out.
//!
//! The set is a breadth-first walk along open edges. Its order is that of [`super::order`] (rules 15, 16), worked out on
//! the walk's own numbers in linear time: components by Tarjan's algorithm (without recursion: chains are long), then one
//! pass along them. Numbers are given in the order of the walk, so inside a component they rise with the distance from
//! the origin, which is what decides who waits for whom there.

use super::index::{Index, NONE, narrow};
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

/// Who leads to whom, by the walk's numbers.
#[derive(Default)]
struct Edges {
    /// Where each node's edges end.
    ends: Vec<u32>,
    targets: Vec<u32>,
}

impl Edges {
    fn of(&self, node: usize) -> &[u32] {
        let start = if node == 0 { 0 } else { self.ends[node - 1] };
        &self.targets[start as usize..self.ends[node] as usize]
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
        self.walk::<false>(&mut asked, &mut Edges::default()).0
    }

    /// Members by distance, and each package's place among them.
    fn walk<const EDGES: bool>(
        &self,
        asked: &mut Asked<'_>,
        edges: &mut Edges,
    ) -> (Vec<u32>, Vec<u32>) {
        let origin = asked.origin;
        let mut places = vec![NONE; self.names.len()];
        let mut members = vec![origin];
        places[origin as usize] = 0;
        for (dependent, range) in self.dependents.pairs(origin) {
            let place = &mut places[dependent as usize];
            if *place == NONE && self.publishes(dependent) && asked.admits(range) {
                *place = narrow(members.len());
                members.push(dependent);
            }
        }
        if EDGES {
            edges.targets.extend(1..narrow(members.len()));
            edges.ends.push(narrow(edges.targets.len()));
        }
        let mut at = 1;
        while at < members.len() {
            let parent = members[at];
            at += 1;
            let open = self.open[parent as usize] as usize;
            for &dependent in &self.dependents.firsts(parent)[..open] {
                let place = &mut places[dependent as usize];
                if *place == NONE {
                    *place = narrow(members.len());
                    members.push(dependent);
                }
                // An origin is never sent in its wave: what leads to it does not count (rule 16).
                if EDGES && *place != 0 {
                    edges.targets.push(*place);
                }
            }
            if EDGES {
                edges.ends.push(narrow(edges.targets.len()));
            }
        }
        (members, places)
    }

    /// Whom it would reach, in which order, and whom not. Nobody, if the package was never named.
    pub fn reach(&self, start: &Start<'_>) -> Reach {
        let Some(mut asked) = self.asked(start) else {
            return Reach {
                exact: true,
                ..Reach::default()
            };
        };
        let mut edges = Edges::default();
        let (members, mut places) = self.walk::<true>(&mut asked, &mut edges);
        let direct = edges.of(0).len();
        let order = Order::of(&edges);
        let deepest = order.levels.iter().copied().max().unwrap_or(0);
        let mut by_level = vec![0; deepest as usize];
        for &level in order.levels.iter().filter(|&&level| level > 0) {
            by_level[level as usize - 1] += 1;
        }
        let chain = self.longest_chain(&mut asked, &members, &places, &order, deepest);
        let (outside, exact) = self.outside(&mut asked, &members, &mut places);
        let mut first = outside.clone();
        self.keep_first(&mut first, NAMED, |&id| id);
        let first_out_of_range = first
            .into_iter()
            .filter_map(|id| self.out_of_range(&mut asked, id, &places, &order))
            .collect();
        Reach {
            levels: order.levels,
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

    /// Who declares a member by a range that is in the way and is none itself; and whether no range was in the way.
    fn outside(
        &self,
        asked: &mut Asked<'_>,
        members: &[u32],
        places: &mut [u32],
    ) -> (Vec<u32>, bool) {
        let (mut outside, mut exact) = (Vec::new(), true);
        let mut closed = |dependent: u32| {
            // What leads back to the origin, and who has no version left, is no matter of ranges.
            if dependent == members[0] || !self.publishes(dependent) {
                return;
            }
            exact = false;
            let place = &mut places[dependent as usize];
            if *place == NONE {
                *place = OUTSIDE;
                outside.push(dependent);
            }
        };
        for (dependent, range) in self.dependents.pairs(members[0]) {
            if !asked.admits(range) {
                closed(dependent);
            }
        }
        for &parent in &members[1..] {
            let open = self.open[parent as usize] as usize;
            for &dependent in &self.dependents.firsts(parent)[open..] {
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
        let (parent, range) = declared.min_by(|one, other| {
            let key = |parent: u32| {
                let place = places[parent as usize];
                (
                    order.levels[place as usize],
                    self.names[parent as usize].as_str(),
                )
            };
            key(one.0).cmp(&key(other.0))
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
        let name = |place: usize| self.names[members[place] as usize].as_str();
        let last = (1..members.len())
            .filter(|&place| order.levels[place] == deepest)
            .min_by_key(|&place| name(place));
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
                    && order.levels[of_parent] + 1 == order.levels[place]
                    && order.is_waited(of_parent, place)
            });
            next = before
                .map(|(parent, _)| places[parent as usize] as usize)
                .min_by_key(|&place| name(place));
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
            let later = of > level || self.names[id as usize].as_str() > name;
            if of >= level.max(1) && of <= last && later {
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
            let name = |it: &T| self.names[id(it) as usize].as_str();
            one.leading()
                .cmp(&other.leading())
                .then_with(|| name(one).cmp(name(other)))
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

/// Levels and components of a walk (rule 16).
struct Order {
    /// Of each place.
    levels: Vec<u32>,
    components: Vec<u32>,
    distances: Vec<u32>,
    /// Components of more than one.
    circles: usize,
}

impl Order {
    fn of(edges: &Edges) -> Self {
        let nodes = edges.ends.len();
        // Numbers rise with the distance, so whoever comes first to a node is as near as anybody.
        let mut distances = vec![NONE; nodes];
        distances[0] = 0;
        for node in 0..nodes {
            let next = distances[node] + 1;
            for &target in edges.of(node) {
                let distance = &mut distances[target as usize];
                *distance = next.min(*distance);
            }
        }
        let Components {
            of,
            sequence,
            circles,
        } = components(edges);
        let mut order = Self {
            levels: vec![0; nodes],
            components: of,
            distances,
            circles,
        };
        for node in sequence {
            let node = node as usize;
            let next = order.levels[node] + 1;
            for &target in edges.of(node) {
                let target = target as usize;
                if order.is_waited(node, target) {
                    order.levels[target] = next.max(order.levels[target]);
                }
            }
        }
        order
    }

    /// Whether the child waits for the parent, if there is an edge.
    fn is_waited(&self, parent: usize, child: usize) -> bool {
        self.components[parent] != self.components[child]
            || self.distances[parent] < self.distances[child]
    }
}

struct Components {
    /// Of each node the number of its component.
    of: Vec<u32>,
    /// All nodes: components in an order in which edges between them lead forwards, inside one by number.
    sequence: Vec<u32>,
    circles: usize,
}

/// Tarjan's algorithm from node 0, which reaches all.
fn components(edges: &Edges) -> Components {
    let nodes = edges.ends.len();
    let mut of = vec![NONE; nodes];
    // When a node was met, from 1; 0: not yet.
    let mut met = vec![0_u32; nodes];
    let mut low = vec![0_u32; nodes];
    let mut sequence: Vec<u32> = Vec::with_capacity(nodes);
    let mut stack: Vec<u32> = Vec::new();
    // Nodes under way, each with how many of its edges were looked at.
    let mut path: Vec<(u32, u32)> = Vec::new();
    let (mut clock, mut number, mut circles) = (1, 0, 0);
    if nodes > 0 {
        (met[0], low[0]) = (1, 1);
        stack.push(0);
        path.push((0, 0));
    }
    while let Some((node, looked)) = path.last_mut() {
        let at = *node as usize;
        if let Some(&target) = edges.of(at).get(*looked as usize) {
            *looked += 1;
            let to = target as usize;
            if met[to] == 0 {
                clock += 1;
                (met[to], low[to]) = (clock, clock);
                stack.push(target);
                path.push((target, 0));
            } else if of[to] == NONE {
                low[at] = low[at].min(met[to]);
            }
            continue;
        }
        path.pop();
        if let Some(&(above, _)) = path.last() {
            low[above as usize] = low[above as usize].min(low[at]);
        }
        if low[at] == met[at] {
            let first = sequence.len();
            while let Some(member) = stack.pop() {
                of[member as usize] = number;
                sequence.push(member);
                if member as usize == at {
                    break;
                }
            }
            if sequence.len() - first > 1 {
                circles += 1;
                sequence[first..].sort_unstable_by(|one, other| other.cmp(one));
            }
            number += 1;
        }
    }
    // Components were finished children first.
    sequence.reverse();
    Components {
        of,
        sequence,
        circles,
    }
}
