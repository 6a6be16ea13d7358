//! The whole graph in memory, small and flat, for the question "whom would a version of this package reach?" (`impact`).
//!
//! The explorer answers it exactly, by asking the store package by package: that takes seconds where tens of thousands
//! are reached. Here is a shorter way, at the price of two simplifications:
//!
//! * **Only highest versions count.** A dependent follows if the range of its *highest* version admits what its parent
//!   publishes; one that would be rebuilt from an older version (rule 8) is counted as out of range.
//! * **Only the version itself is looked at.** A rebuild of a highest version publishes the next increment of it (rule 9),
//!   whether or not that one is taken, or something published by hand is in the way of a patch increment.
//!
//! So what a package would publish does not depend on who reached it, and neither does whether a range lets it in: every
//! edge either passes (is *open*) or does not, whatever the question is, but for the edges of the package that the question is
//! about. They are told apart when the graph is made and kept so: the open dependents of a package come first in its list.
//! Finding all that is reached is a plain walk along them, without a version or a range being looked at. [`super::reach`]
//! does that; here the graph is built and kept current.
//!
//! Names, versions and ranges are numbered; parents and dependents are [`Lists`] of numbers. 926,354 edges between 257,045
//! packages take some 75 MB, most of it names (`cargo bench --bench impact`).

use std::cmp::Ordering;
use std::collections::HashMap;

use super::lists::Lists;
use crate::model::edge::EdgeRange;
use crate::model::name::PackageName;
use crate::model::package::Top;
use crate::plan::{Increment, version};
use crate::semver::Version;
use crate::store::{TopRow, Tops};

/// No number.
pub(super) const NONE: u32 = u32::MAX;

/// A version that is the highest of some package.
#[derive(Debug)]
pub(super) struct Highest {
    pub version: Version,
    pub origin: Option<Version>,
    /// What a rebuild of it publishes, if nobody has that version yet; `None` if the numbers end there. Its origin is that
    /// of `version`, else `version`.
    pub next: Option<Version>,
}

impl Highest {
    /// The version published by hand that `next` descends from.
    pub fn next_origin(&self) -> &Version {
        self.origin.as_ref().unwrap_or(&self.version)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    increment: Increment,
    pub(super) names: Vec<PackageName>,
    /// Of each package how its name begins, in the order of names: most comparisons need not look further.
    beginnings: Vec<u64>,
    ids: HashMap<PackageName, u32>,
    /// Of each package its highest version, by number; `NONE`: not managed, or no version under `latest`.
    pub(super) tops: Vec<u32>,
    pub(super) versions: Vec<Highest>,
    version_ids: HashMap<String, u32>,
    pub(super) ranges: Vec<EdgeRange>,
    pub(super) range_texts: Vec<Box<str>>,
    range_ids: HashMap<Box<str>, u32>,
    /// Of each package (parent, range) as its highest version declares them.
    pub(super) parents: Lists,
    /// Of each package (dependent, range), the open ones first.
    pub(super) dependents: Lists,
    /// Of each package, how many of its dependents are open.
    pub(super) open: Vec<u32>,
}

/// Reads a graph page by page.
#[derive(Debug)]
pub struct Builder {
    index: Index,
    /// (dependent, parent, range).
    edges: Vec<(u32, u32, u32)>,
    /// Packages that came twice: the later ones, put on top in the end.
    again: Vec<(PackageName, Top)>,
}

/// What a stored text should have been; for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not readable: {why}")]
pub struct Unreadable {
    what: &'static str,
    text: String,
    why: String,
}

fn name(text: &str) -> Result<PackageName, Unreadable> {
    PackageName::parse(text).map_err(|why| unreadable("the name", text, &why))
}

fn parse(text: &str) -> Result<Version, Unreadable> {
    Version::parse(text).map_err(|why| unreadable("the version", text, &why))
}

fn unreadable(what: &'static str, text: &str, why: &impl ToString) -> Unreadable {
    Unreadable {
        what,
        text: text.to_owned(),
        why: why.to_string(),
    }
}

impl Builder {
    /// Nothing yet.
    pub fn new(increment: Increment) -> Self {
        Self {
            index: Index::new(increment),
            edges: Vec::new(),
            again: Vec::new(),
        }
    }

    /// Adds a page, in whichever order pages come.
    ///
    /// # Errors
    /// A stored name or version is none.
    pub fn add(&mut self, page: &Tops) -> Result<(), Unreadable> {
        page.iter().try_for_each(|row| self.row(&row))
    }

    fn row(&mut self, row: &TopRow<'_>) -> Result<(), Unreadable> {
        let index = &mut self.index;
        let id = index.id_of(row.name)?;
        if index.tops[id as usize] != NONE {
            return self.later(row);
        }
        index.tops[id as usize] = index.version_of(row.version, row.origin)?;
        for (parent, range) in &row.edges {
            let (parent, range) = (index.id_of(parent)?, index.range_of(range));
            self.edges.push((id, parent, range));
        }
        Ok(())
    }

    fn later(&mut self, row: &TopRow<'_>) -> Result<(), Unreadable> {
        let edges = row.edges.iter().map(|(parent, range)| {
            Ok(crate::model::edge::Edge {
                parent: name(parent)?,
                range: (*range).to_owned(),
            })
        });
        let top = Top {
            version: parse(row.version)?,
            origin: row.origin.map(parse).transpose()?,
            edges: edges.collect::<Result<_, _>>()?,
        };
        self.again.push((name(row.name)?, top));
        Ok(())
    }

    /// The graph of all pages.
    pub fn finish(self) -> Index {
        let Self {
            mut index,
            edges,
            again,
        } = self;
        let all = index.names.len();
        let mut memo = Memo::default();
        // Twice over the edges: the open ones first.
        let open: Vec<bool> = edges
            .iter()
            .map(|&(dependent, parent, range)| index.is_open(&mut memo, parent, dependent, range))
            .collect();
        let of = |wanted: bool| {
            let both = edges.iter().zip(&open);
            let these = both.filter(move |(_, open)| **open == wanted);
            these.map(|(&(dependent, parent, range), _)| (parent, dependent, range))
        };
        index.dependents = Lists::of(all, of(true).chain(of(false)));
        for (&(_, parent, _), open) in edges.iter().zip(&open) {
            index.open[parent as usize] += u32::from(*open);
        }
        index.parents = Lists::of(all, edges.iter().copied());
        index.names.shrink_to_fit();
        index.beginnings.shrink_to_fit();
        index.tops.shrink_to_fit();
        index.open.shrink_to_fit();
        for (name, top) in again {
            index.apply(&name, &top);
        }
        index
    }
}

/// What was asked about a range and a version before: of a million edges few are new.
#[derive(Default)]
struct Memo(HashMap<(u32, u32), bool>, Option<((u32, u32), bool)>);

impl Index {
    fn new(increment: Increment) -> Self {
        Self {
            increment,
            names: Vec::new(),
            beginnings: Vec::new(),
            ids: HashMap::new(),
            tops: Vec::new(),
            versions: Vec::new(),
            version_ids: HashMap::new(),
            ranges: Vec::new(),
            range_texts: Vec::new(),
            range_ids: HashMap::new(),
            parents: Lists::default(),
            dependents: Lists::default(),
            open: Vec::new(),
        }
    }

    /// How many names it knows, managed or not.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// How many edges of highest versions there are.
    pub fn edges(&self) -> usize {
        (0..self.names.len())
            .map(|id| self.parents.len(narrow(id)))
            .sum()
    }

    /// The number of a package, if anybody ever named it.
    pub(super) fn find(&self, name: &PackageName) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// The highest version of a package, if it has one.
    pub(super) fn top(&self, id: u32) -> Option<&Highest> {
        self.versions.get(self.tops[id as usize] as usize)
    }

    /// Compares two packages by name.
    pub(super) fn by_name(&self, one: u32, other: u32) -> Ordering {
        let (one, other) = (one as usize, other as usize);
        self.beginnings[one]
            .cmp(&self.beginnings[other])
            .then_with(|| self.names[one].cmp(&self.names[other]))
    }

    fn id_of(&mut self, text: &str) -> Result<u32, Unreadable> {
        if let Some(&id) = self.ids.get(text) {
            return Ok(id);
        }
        Ok(self.add(name(text)?))
    }

    fn add(&mut self, name: PackageName) -> u32 {
        let id = narrow(self.names.len());
        self.beginnings.push(beginning(name.as_str()));
        self.names.push(name.clone());
        self.ids.insert(name, id);
        self.tops.push(NONE);
        self.open.push(0);
        id
    }

    fn version_of(&mut self, version: &str, origin: Option<&str>) -> Result<u32, Unreadable> {
        let key = match origin {
            None => version.to_owned(),
            Some(origin) => format!("{version} {origin}"),
        };
        if let Some(&id) = self.version_ids.get(&key) {
            return Ok(id);
        }
        let origin = origin.map(parse).transpose()?;
        let version = parse(version)?;
        let next = version::next(&version, origin.as_ref(), self.increment, |_| false, &[]);
        let id = narrow(self.versions.len());
        self.versions.push(Highest {
            version,
            origin,
            next,
        });
        self.version_ids.insert(key, id);
        Ok(id)
    }

    fn range_of(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.range_ids.get(text) {
            return id;
        }
        let id = narrow(self.ranges.len());
        self.ranges.push(EdgeRange::of(text));
        self.range_texts.push(text.into());
        self.range_ids.insert(text.into(), id);
        id
    }

    /// Whether a dependent with that range follows a rebuild of the parent's highest version.
    fn is_open(&self, memo: &mut Memo, parent: u32, dependent: u32, range: u32) -> bool {
        let top = self.tops[parent as usize];
        let Some(highest) = self.versions.get(top as usize) else {
            return false;
        };
        let (Some(next), true) = (&highest.next, self.publishes(dependent)) else {
            return false;
        };
        let asked = (top, range);
        if let Some((last, answer)) = memo.1
            && last == asked
        {
            return answer;
        }
        let answer = *memo.0.entry(asked).or_insert_with(|| {
            self.ranges[range as usize].admits(next, Some(highest.next_origin()))
        });
        memo.1 = Some((asked, answer));
        answer
    }

    /// Whether a rebuild of the package publishes anything: whether it has a highest version, and that a next one.
    pub(super) fn publishes(&self, id: u32) -> bool {
        self.top(id).is_some_and(|top| top.next.is_some())
    }

    /// A package's highest version is this one now. An older one than is known changes nothing: of two versions of a
    /// package the highest never goes back. Answers whether it was taken.
    pub fn apply(&mut self, name: &PackageName, top: &Top) -> bool {
        let id = self.find_or_add(name);
        if self
            .top(id)
            .is_some_and(|there| there.version > top.version)
        {
            return false;
        }
        let (version, origin) = (top.version.to_string(), top.origin.as_ref());
        let origin = origin.map(ToString::to_string);
        // It is a version already: what it is parsed from is its own text.
        let Ok(number) = self.version_of(&version, origin.as_deref()) else {
            return false;
        };
        let before = self.publishes(id);
        let moved = self.tops[id as usize] != number;
        self.tops[id as usize] = number;
        let old: Vec<(u32, u32)> = self.parents.pairs(id).collect();
        let mut new: Vec<(u32, u32)> = Vec::with_capacity(top.edges.len());
        for edge in &top.edges {
            new.push((self.find_or_add(&edge.parent), self.range_of(&edge.range)));
        }
        if old != new || before != self.publishes(id) {
            self.declare(id, &old, &new);
        }
        if moved {
            self.sort_dependents(id);
        }
        true
    }

    fn find_or_add(&mut self, name: &PackageName) -> u32 {
        if let Some(id) = self.find(name) {
            return id;
        }
        self.parents.add_list();
        self.dependents.add_list();
        self.add(name.clone())
    }

    /// Puts the edges of a package in the place of those that it had.
    fn declare(&mut self, id: u32, old: &[(u32, u32)], new: &[(u32, u32)]) {
        for &(parent, _) in old {
            let mut there = self.dependents.firsts(parent).iter();
            let Some(mut at) = there.position(|&dependent| dependent == id) else {
                continue;
            };
            // The last open one takes its place, and the last one takes that one's.
            let open = &mut self.open[parent as usize];
            if at < *open as usize {
                *open -= 1;
                self.dependents.swap(parent, at, *open as usize);
                at = *open as usize;
            }
            let last = self.dependents.len(parent) - 1;
            self.dependents.swap(parent, at, last);
            self.dependents.pop(parent);
        }
        self.parents.clear(id);
        let mut memo = Memo::default();
        for &(parent, range) in new {
            self.parents.push(id, parent, range);
            self.dependents.push(parent, id, range);
            if self.is_open(&mut memo, parent, id, range) {
                let last = self.dependents.len(parent) - 1;
                let open = &mut self.open[parent as usize];
                self.dependents.swap(parent, *open as usize, last);
                *open += 1;
            }
        }
    }

    /// Tells the open dependents from the others anew, because what the package would publish has changed.
    fn sort_dependents(&mut self, id: u32) {
        let mut memo = Memo::default();
        let mut open = 0;
        for at in 0..self.dependents.len(id) {
            let (dependent, range) = (
                self.dependents.firsts(id)[at],
                self.dependents.seconds(id)[at],
            );
            if self.is_open(&mut memo, id, dependent, range) {
                self.dependents.swap(id, at, open);
                open += 1;
            }
        }
        self.open[id as usize] = narrow(open);
    }
}

/// The first eight bytes of a name: their order is that of names, where they differ.
fn beginning(name: &str) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    u64::from_be_bytes(bytes)
}

/// A number of something of which there are less than 2^32.
pub(super) fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}
