//! Loads what the affected graph of a wave needs ([`crate::graph`]): many packages at a time, each thing once.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::wave::published;
use super::{AT_ONCE, Core, Result, packages};
use crate::graph::{Affected, Explorer, Origin, Questions, Seed, Step};
use crate::model::name::PackageName;
use crate::semver::Version;
use crate::store::{Dependent, Projection, Want};

/// How many dependents are read at a time.
const PAGE: usize = 500;

/// Everything that these origins and seeds reach, as the store has it now. Writes nothing.
pub(super) async fn explore(
    core: &Core,
    origins: Vec<Origin>,
    seeds: Vec<Seed>,
) -> Result<Affected> {
    explore_after(core, origins, seeds, &[]).await
}

/// The same as it will be once these projections are written.
pub(super) async fn explore_after(
    core: &Core,
    origins: Vec<Origin>,
    seeds: Vec<Seed>,
    written: &[Projection],
) -> Result<Affected> {
    let mut explorer = Explorer::new(core.rules.increment, origins, seeds);
    loop {
        match explorer.step() {
            Step::Done(affected) => return Ok(affected),
            Step::Ask(questions) => answer(core, &mut explorer, questions, written).await?,
        }
    }
}

async fn answer(
    core: &Core,
    explorer: &mut Explorer,
    questions: Questions,
    written: &[Projection],
) -> Result<()> {
    let lists = stream::iter(questions.dependents).map(async |parent| {
        let all = dependents(core, &parent).await?;
        Result::Ok((parent, all))
    });
    let mut lists = lists.buffer_unordered(AT_ONCE);
    while let Some((parent, mut all)) = lists.try_next().await? {
        with_dependents(&parent, &mut all, written);
        explorer.tell_dependents(&parent, all);
    }

    let ranges = stream::iter(questions.ranges).map(async |(parent, dependent)| {
        let all = core.store.ranges(&parent, &dependent).await?;
        Result::Ok((parent, dependent, all))
    });
    let mut ranges = ranges.buffer_unordered(AT_ONCE);
    while let Some((parent, dependent, mut all)) = ranges.try_next().await? {
        with_ranges((&parent, &dependent), &mut all, written);
        explorer.tell_ranges(&parent, &dependent, all);
    }

    for state in packages(core, &questions.tops).await? {
        explorer.tell_top(state);
    }

    let (bases, wants): (Vec<_>, Vec<Want>) = questions.states.into_iter().unzip();
    let states = packages(core, &wants).await?;
    let states = stream::iter(bases.into_iter().zip(states)).map(async |(base, state)| {
        let published = published(core, &state.name).await?;
        Result::Ok((base, state, published))
    });
    let mut states = states.buffer_unordered(AT_ONCE);
    while let Some((base, state, published)) = states.try_next().await? {
        explorer.tell_state(&base, &state, &published);
    }
    Ok(())
}

/// Puts what will be written into a list of dependents.
fn with_dependents(of: &PackageName, all: &mut Vec<Dependent>, written: &[Projection]) {
    for one in written {
        let Projection::Dependent { parent, row } = one else {
            continue;
        };
        if parent == of {
            match all.binary_search_by(|there| there.dependent.cmp(&row.dependent)) {
                Ok(at) => all[at] = row.clone(),
                Err(at) => all.insert(at, row.clone()),
            }
        }
    }
}

/// Puts what will be written into a list of ranges.
fn with_ranges(
    of: (&PackageName, &PackageName),
    all: &mut Vec<(String, Version)>,
    written: &[Projection],
) {
    for one in written {
        let Projection::Range {
            parent,
            dependent,
            range,
            version,
        } = one
        else {
            continue;
        };
        if (parent, dependent) == of {
            all.retain(|(there, _)| there != range);
            all.push((range.clone(), version.clone()));
        }
    }
}

/// All dependents of a package, a page at a time.
async fn dependents(core: &Core, parent: &PackageName) -> Result<Vec<Dependent>> {
    let mut all: Vec<Dependent> = Vec::new();
    loop {
        let after = all.last().map(|last| &last.dependent);
        let page = core.store.dependents(parent, after, PAGE).await?;
        let full = page.len() == PAGE;
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

#[cfg(test)]
#[path = "explore_tests.rs"]
mod tests;
