//! Loads what the affected graph of a wave needs ([`crate::graph`]): many packages at a time, each thing once.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::wave::published;
use super::{AT_ONCE, Core, Result, packages};
use crate::graph::{Affected, Explorer, Origin, Questions, Seed, Step};
use crate::model::name::PackageName;
use crate::store::{Dependent, Want};

/// How many dependents are read at a time.
const PAGE: usize = 500;

/// Everything that these origins and seeds reach, as the store has it now. Writes nothing.
pub(super) async fn explore(
    core: &Core,
    origins: Vec<Origin>,
    seeds: Vec<Seed>,
) -> Result<Affected> {
    let mut explorer = Explorer::new(core.rules.increment, origins, seeds);
    loop {
        match explorer.step() {
            Step::Done(affected) => return Ok(affected),
            Step::Ask(questions) => answer(core, &mut explorer, questions).await?,
        }
    }
}

async fn answer(core: &Core, explorer: &mut Explorer, questions: Questions) -> Result<()> {
    let lists = stream::iter(questions.dependents).map(async |parent| {
        let all = dependents(core, &parent).await?;
        Result::Ok((parent, all))
    });
    let mut lists = lists.buffer_unordered(AT_ONCE);
    while let Some((parent, all)) = lists.try_next().await? {
        explorer.tell_dependents(&parent, all);
    }

    let ranges = stream::iter(questions.ranges).map(async |(parent, dependent)| {
        let all = core.store.ranges(&parent, &dependent).await?;
        Result::Ok((parent, dependent, all))
    });
    let mut ranges = ranges.buffer_unordered(AT_ONCE);
    while let Some((parent, dependent, all)) = ranges.try_next().await? {
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
