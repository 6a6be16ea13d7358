//! What an [`Explorer`](super::Explorer) was told, and what follows from it pair by pair. Everything is asked for once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::name::PackageName;
use crate::model::package::{Cause, PackageState, RowKey, Top};
use crate::plan::base::{self, Base};
use crate::plan::{Increment, version};
use crate::semver::Version;
use crate::store::{Dependent, Published, Want};

/// A package, by the order in which the explorer met it.
pub(super) type Id = usize;

/// What the explorer needs to be told, in the order of names. Each question is asked once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// All dependents of these: answer with [`super::Explorer::tell_dependents`].
    pub dependents: Vec<PackageName>,
    /// All ranges of these pairs, (parent, dependent): answer with [`super::Explorer::tell_ranges`].
    pub ranges: Vec<(PackageName, PackageName)>,
    /// What these declare: answer with [`super::Explorer::tell_top`].
    pub tops: Vec<Want>,
    /// What the version of a rebuild from this base depends on: answer with [`super::Explorer::tell_state`].
    pub states: Vec<(Version, Want)>,
}

/// Something has to be asked first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing;

/// The questions of one step, each once.
#[derive(Default)]
pub(super) struct Asked {
    dependents: BTreeSet<PackageName>,
    ranges: BTreeSet<(PackageName, PackageName)>,
    tops: BTreeSet<PackageName>,
    states: BTreeSet<(PackageName, Version)>,
}

impl Asked {
    pub fn is_empty(&self) -> bool {
        self.dependents.is_empty()
            && self.ranges.is_empty()
            && self.tops.is_empty()
            && self.states.is_empty()
    }

    pub fn into_questions(self, increment: Increment) -> Questions {
        let top = |name: &PackageName| Want {
            top_edges: true,
            ..Want::statics(name)
        };
        let state = |(name, base): (PackageName, Version)| {
            let want = Want {
                taken: version::prefixes(&base, increment),
                ..Want::rows(&name, vec![RowKey::publish(&base)])
            };
            (base, want)
        };
        Questions {
            dependents: self.dependents.into_iter().collect(),
            ranges: self.ranges.into_iter().collect(),
            tops: self.tops.iter().map(top).collect(),
            states: self.states.into_iter().map(state).collect(),
        }
    }
}

/// One package.
pub(super) struct Package {
    pub name: PackageName,
    /// What it declares, if it was asked for; `None`: it is not managed.
    top: Result<Option<Top>, Missing>,
    dependents: Option<Vec<(Id, Dependent)>>,
    /// For a version of it: what it means to each of `dependents`.
    answers: BTreeMap<Version, Vec<Base>>,
    /// For a base: what a rebuild of it would publish; `None` if no version is left.
    made: BTreeMap<Version, Option<Cause>>,
}

#[derive(Default)]
pub(super) struct Known {
    pub packages: Vec<Package>,
    ids: HashMap<PackageName, Id>,
    ranges: HashMap<(Id, Id), Vec<(String, Version)>>,
}

impl Known {
    pub fn id(&mut self, name: &PackageName) -> Id {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = self.packages.len();
        self.ids.insert(name.clone(), id);
        self.packages.push(Package {
            name: name.clone(),
            top: Err(Missing),
            dependents: None,
            answers: BTreeMap::new(),
            made: BTreeMap::new(),
        });
        id
    }

    pub fn name(&self, id: Id) -> &PackageName {
        &self.packages[id].name
    }

    pub fn told_dependents(&mut self, parent: &PackageName, rows: Vec<Dependent>) {
        let rows = rows
            .into_iter()
            .map(|row| (self.id(&row.dependent), row))
            .collect();
        let id = self.id(parent);
        self.packages[id].dependents = Some(rows);
    }

    pub fn told_ranges(&mut self, pair: (&PackageName, &PackageName), of: Vec<(String, Version)>) {
        let pair = (self.id(pair.0), self.id(pair.1));
        self.ranges.insert(pair, of);
    }

    pub fn told_top(&mut self, state: PackageState) {
        let id = self.id(&state.name);
        self.packages[id].top = Ok(state.top);
    }

    pub fn told_state(
        &mut self,
        base: &Version,
        state: &PackageState,
        increment: Increment,
        published: &[Published],
    ) {
        let origin = state.facts(base).and_then(|facts| facts.origin.as_ref());
        let taken = |one: &Version| state.taken.contains(one);
        let next = version::next(base, origin, increment, taken, published);
        let made = next.map(|version| Cause {
            parent: state.name.clone(),
            version,
            origin: Some(origin.unwrap_or(base).clone()),
        });
        let id = self.id(&state.name);
        self.packages[id].made.insert(base.clone(), made);
    }

    /// The rows of all dependents of a package that was [`Known::prepare`]d.
    pub fn dependents(&self, parent: Id) -> &[(Id, Dependent)] {
        self.packages[parent].dependents.as_deref().unwrap_or(&[])
    }

    /// What a prepared version means to each of [`Known::dependents`].
    pub fn answers(&self, parent: Id, version: &Version) -> &[Base] {
        let answers = self.packages[parent].answers.get(version);
        answers.map_or(&[], Vec::as_slice)
    }

    /// Works out what a version means to all dependents of its package, or asks for what that takes.
    pub fn prepare(&mut self, parent: Id, cause: &Cause, asked: &mut Asked) {
        if self.packages[parent].answers.contains_key(&cause.version) {
            return;
        }
        let Some(rows) = &self.packages[parent].dependents else {
            asked.dependents.insert(self.name(parent).clone());
            return;
        };
        let mut answers = Vec::with_capacity(rows.len());
        for (dependent, row) in rows {
            // Not only up to the first that is missing: all of them are asked for at once.
            answers.extend(self.pair(parent, *dependent, row, cause, asked));
        }
        if answers.len() == rows.len() {
            let package = &mut self.packages[parent];
            package.answers.insert(cause.version.clone(), answers);
        }
    }

    /// What a version means to one dependent.
    fn pair(
        &self,
        parent: Id,
        dependent: Id,
        row: &Dependent,
        cause: &Cause,
        asked: &mut Asked,
    ) -> Option<Base> {
        let (version, origin) = (&cause.version, cause.origin.as_ref());
        match base::of_top(row, version, origin) {
            Base::NeedsRanges => {
                let Some(ranges) = self.ranges.get(&(parent, dependent)) else {
                    let pair = (cause.parent.clone(), row.dependent.clone());
                    asked.ranges.insert(pair);
                    return None;
                };
                Some(base::among(row, ranges, version, origin))
            }
            answer => Some(answer),
        }
    }

    /// The highest version of a seed with what it declares; `None` if the package is not managed.
    pub fn top(&self, seed: Id, asked: &mut Asked) -> Result<Option<&Top>, Missing> {
        let top = self.packages[seed].top.as_ref();
        top.map(Option::as_ref).map_err(|missing| {
            asked.tops.insert(self.name(seed).clone());
            *missing
        })
    }

    /// The row of a pair by what the dependent itself declares, and what the version means to it: for the parents of a
    /// seed that is no origin's to list.
    pub fn declared(
        &mut self,
        seed: Id,
        top: &Top,
        cause: &Cause,
        asked: &mut Asked,
    ) -> Option<(Dependent, Base)> {
        let declared = top.edges.iter().find(|edge| edge.parent == cause.parent);
        let row = Dependent {
            dependent: self.name(seed).clone(),
            top: top.version.clone(),
            range: declared.map(|edge| edge.range.clone()),
        };
        let parent = self.id(&cause.parent);
        let answer = self.pair(parent, seed, &row, cause, asked)?;
        Some((row, answer))
    }

    /// What a rebuild of `base` publishes; `None` if no version is left.
    pub fn made(
        &self,
        dependent: Id,
        base: &Version,
        asked: &mut Asked,
    ) -> Result<Option<Cause>, Missing> {
        let made = self.packages[dependent].made.get(base);
        made.cloned().ok_or_else(|| {
            let of = (self.name(dependent).clone(), base.clone());
            asked.states.insert(of);
            Missing
        })
    }
}
