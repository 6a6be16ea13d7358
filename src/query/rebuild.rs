//! Rebuilds and their attempts.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::sentence;
use super::time::Time;
use crate::dispatch::SENT;
use crate::model::decision::RebuildIndex;
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Rebuild, RebuildState, RowKey, Slot};
use crate::semver::Version;
use crate::store::{Attempt, Result, Store, Want};

/// How many rebuilds' attempts are read at once.
const AT_ONCE: usize = 16;

/// Where a rebuild stands, as clients see it: the stored states, and what can be told apart by the attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Waits for its turn, or for a retry.
    Queued,
    /// An attempt is under way, or was cut short by a crash.
    Sending,
    /// Accepted by the neighbour; its notice has yet to come.
    Sent,
    /// Its notice came.
    Published,
    /// Given up; can be retried.
    Dead,
    /// Something newer took its place before it was sent.
    Superseded,
    /// Every wave that waited for it was cancelled before it was sent.
    Cancelled,
    /// Its version turned out to be somebody else's.
    Foreign,
    /// A later rebuild of the same version to the same environment took over its row.
    Replaced,
}

impl Standing {
    fn of(rebuild: &Rebuild, attempts: &[Attempt]) -> Self {
        match rebuild.state {
            RebuildState::Queued => Self::Queued,
            RebuildState::Sending if is_sent(rebuild, attempts) => Self::Sent,
            RebuildState::Sending => Self::Sending,
            RebuildState::Published => Self::Published,
            RebuildState::Dead => Self::Dead,
            RebuildState::Superseded => Self::Superseded,
            RebuildState::Cancelled => Self::Cancelled,
            RebuildState::Foreign => Self::Foreign,
        }
    }

    /// Whether somebody who waits for it to be sent has nothing more to wait for.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Queued | Self::Sending)
    }
}

fn is_sent(rebuild: &Rebuild, attempts: &[Attempt]) -> bool {
    attempts
        .iter()
        .any(|one| one.number == rebuild.attempt && one.outcome == SENT)
}

/// One attempt at sending.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView {
    /// From 1.
    pub number: u32,
    /// When it was claimed.
    pub started: Time,
    /// When its result was known.
    pub ended: Time,
    /// `sent`, `retry`, `paused`, `dead` or `foreign`.
    pub outcome: String,
    /// Who answered.
    pub neighbour: String,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// What the answer said.
    pub message: String,
    /// Whether the request may have reached the neighbour all the same (H12).
    pub may_have_reached: bool,
    /// The process that made it.
    pub owner: String,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            started: Time(attempt.started),
            ended: Time(attempt.ended),
            outcome: attempt.outcome,
            neighbour: attempt.neighbour,
            status: attempt.status,
            message: attempt.message,
            may_have_reached: attempt.may_have_reached,
            owner: attempt.owner,
        }
    }
}

/// Where a rebuild stands, with every attempt whose result is known.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// Where it stands.
    pub state: Standing,
    /// The same in words.
    pub sentence: String,
    /// The number of the last claim; 0 before the first.
    pub attempt: u32,
    /// Of a queued one: not sent before.
    pub due: Option<Time>,
    /// Why it ended without being published.
    pub ended_because: Option<String>,
    /// The change that was its notice.
    pub confirmed_by: Option<ChangeId>,
    /// The attempts with a result, in their order.
    pub attempts: Vec<AttemptView>,
}

/// Everything about one rebuild.
#[derive(Clone, Debug, Serialize)]
pub struct RebuildView {
    /// Its id, sent to the neighbours as `Idempotency-Key`.
    pub id: RebuildId,
    /// The package that is rebuilt.
    pub package: PackageName,
    /// The version that is sent.
    pub version: Version,
    /// The environment; `null` for a publish.
    pub env: Option<String>,
    /// The change whose planning decided it.
    pub change: ChangeId,
    /// When it was decided.
    pub decided: Time,
    /// Counts the rebuilds of this version to this environment, from 1.
    pub generation: u32,
    /// What it was made from; `null` if a later rebuild took over its row.
    pub made: Option<Made>,
    /// Where it stands.
    #[serde(flatten)]
    pub progress: Progress,
}

/// What a rebuild was made from.
#[derive(Clone, Debug, Serialize)]
pub struct Made {
    /// The published version whose document is sent.
    pub base: Version,
    /// The version published by hand that `base` descends from.
    pub origin: Version,
    /// The parent versions that it is rebuilt for.
    pub cause: Vec<Cause>,
    /// Per managed parent the highest published version that the base admitted.
    pub with: BTreeMap<PackageName, Version>,
    /// Passed on to the build service.
    pub promote: bool,
    /// The waves that wait for it.
    pub waves: Vec<WaveId>,
    /// Its place in the order of the package.
    pub order: u64,
}

/// A rebuild by its id.
pub async fn rebuild(store: &dyn Store, id: &RebuildId) -> Result<Option<RebuildView>> {
    let Some(index) = index(store, id).await? else {
        return Ok(None);
    };
    let mut found = load(store, vec![index]).await?;
    Ok(found.pop().map(|(index, current, attempts)| RebuildView {
        id: index.id.clone(),
        package: index.name.clone(),
        version: index.key.version.clone(),
        env: env(&index.key),
        change: index.change.clone(),
        decided: Time(index.decided),
        generation: index.generation,
        made: current.as_ref().map(made),
        progress: progress(&index, current.as_ref(), attempts),
    }))
}

/// What never changes about a rebuild.
pub async fn index(store: &dyn Store, id: &RebuildId) -> Result<Option<RebuildIndex>> {
    Ok(store
        .rebuilds(std::slice::from_ref(id))
        .await?
        .pop()
        .flatten())
}

/// Where several rebuilds stand, by id; those that do not exist are left out.
pub async fn progresses(
    store: &dyn Store,
    ids: &[RebuildId],
) -> Result<BTreeMap<RebuildId, Progress>> {
    let indexes: Vec<RebuildIndex> = store.rebuilds(ids).await?.into_iter().flatten().collect();
    let found = load(store, indexes).await?;
    Ok(found
        .into_iter()
        .map(|(index, current, attempts)| {
            (
                index.id.clone(),
                progress(&index, current.as_ref(), attempts),
            )
        })
        .collect())
}

/// Whether each of several rebuilds is settled, with as few reads as possible: attempts are only read of those whose
/// state does not say it.
pub async fn standings(store: &dyn Store, indexes: &[RebuildIndex]) -> Result<Vec<Standing>> {
    let currents = currents(store, indexes).await?;
    stream::iter(
        indexes
            .iter()
            .zip(currents)
            .map(|(index, current)| async move {
                let Some(current) = current else {
                    return Ok(Standing::Replaced);
                };
                let attempts = match current.state {
                    RebuildState::Sending => store.attempts(&index.id).await?,
                    _ => Vec::new(),
                };
                Ok(Standing::of(&current, &attempts))
            }),
    )
    .buffered(AT_ONCE)
    .try_collect()
    .await
}

/// The rebuild columns of the rows, where they still are those of the rebuild.
async fn currents(store: &dyn Store, indexes: &[RebuildIndex]) -> Result<Vec<Option<Rebuild>>> {
    let wants: Vec<Want> = indexes
        .iter()
        .map(|index| Want::rows(&index.name, vec![index.key.clone()]))
        .collect();
    let states = store.packages(&wants).await?;
    let current = |(state, index): (crate::model::package::PackageState, &RebuildIndex)| {
        state
            .row(&index.key)
            .and_then(|row| row.rebuild.clone())
            .filter(|rebuild| rebuild.id == index.id)
    };
    Ok(states.into_iter().zip(indexes).map(current).collect())
}

async fn load(
    store: &dyn Store,
    indexes: Vec<RebuildIndex>,
) -> Result<Vec<(RebuildIndex, Option<Rebuild>, Vec<Attempt>)>> {
    let currents = currents(store, &indexes).await?;
    stream::iter(
        indexes
            .into_iter()
            .zip(currents)
            .map(|(index, current)| async move {
                let attempts = store.attempts(&index.id).await?;
                Ok((index, current, attempts))
            }),
    )
    .buffered(AT_ONCE)
    .try_collect()
    .await
}

fn progress(index: &RebuildIndex, current: Option<&Rebuild>, attempts: Vec<Attempt>) -> Progress {
    let last = attempts.last().map_or(0, |one| one.number);
    let state = current.map_or(Standing::Replaced, |rebuild| {
        Standing::of(rebuild, &attempts)
    });
    let sentence = match current {
        Some(rebuild) => {
            sentence::rebuild(&index.name, &index.key, rebuild, state == Standing::Sent)
        }
        None => format!(
            "{}@{} was sent again later, by another rebuild.",
            index.name, index.key.version
        ),
    };
    Progress {
        state,
        sentence,
        attempt: current.map_or(last, |rebuild| rebuild.attempt),
        due: current
            .filter(|_| state == Standing::Queued)
            .map(|rebuild| Time(rebuild.due)),
        ended_because: current.and_then(|rebuild| rebuild.ended_because.clone()),
        confirmed_by: current.and_then(|rebuild| rebuild.confirmed_by.clone()),
        attempts: attempts.into_iter().map(AttemptView::from).collect(),
    }
}

fn made(rebuild: &Rebuild) -> Made {
    Made {
        base: rebuild.base.clone(),
        origin: rebuild.origin.clone(),
        cause: rebuild.cause.clone(),
        with: rebuild.with.clone(),
        promote: rebuild.promote,
        waves: rebuild.waves.iter().cloned().collect(),
        order: rebuild.order,
    }
}

/// The environment of a row; `None` for a publish.
pub fn env(key: &RowKey) -> Option<String> {
    match &key.slot {
        Slot::Publish => None,
        Slot::Env(env) => Some(env.as_str().to_owned()),
    }
}
