//! Sending rebuilds: claim, send, settle (protocol.md, REBUILD; design.md 4).
//!
//! Each step is a function here; [`worker`] calls them. A rebuild is claimed by a conditional write before anything is
//! sent, and its result is recorded after: whoever finds a claim without a result knows that the request may have
//! reached the neighbour (H12).

mod recover;
mod request;
pub mod share;
pub mod worker;

pub use request::{Answer, Neighbours};
pub use share::{Holder, Owner};

use crate::ingest::{Core, Result, another, wave};
use crate::model::id::RebuildId;
use crate::model::name::PackageName;
use crate::model::package::{Millis, Rebuild, RebuildState, RowKey, Slot};
use crate::model::wave::{NodeKey, WaveState};
use crate::model::work::Work;
use crate::neighbours::{Neighbour, Outcome};
use crate::plan::rebuild;
use crate::queue::retry::delay_ms;
use crate::queue::{DeadReason, Next};
use crate::store::{
    Attempt, Committed, Expect, PackageCommit, RebuildPatch, RowWrite, Want, Write,
};

/// A rebuild that this process has claimed: the attempt is its own until it is settled.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The package.
    pub name: PackageName,
    /// The row.
    pub key: RowKey,
    /// The rebuild, as it is in the store while this attempt is under way.
    pub rebuild: Rebuild,
    /// An earlier attempt may have reached the neighbour, or was claimed and has no result (H12).
    pub may_have_reached_before: bool,
    /// When the attempt began.
    pub started: Millis,
}

/// Whether it is the turn of the rebuild decided at `order`: one that was decided before it, and is still queued, goes
/// first, even if its work is not known yet because its planning is under way (rule 10).
pub async fn is_its_turn(
    core: &Core,
    name: &PackageName,
    key: &RowKey,
    order: u64,
) -> Result<bool> {
    let first = core.store.first_queued(name, &key.slot).await?;
    Ok(first.is_none_or(|first| first >= order))
}

/// What became of a [`claim`].
#[derive(Clone, Debug)]
pub enum Claim {
    /// It is ours to send.
    Claimed(Box<Claimed>),
    /// It waits for a retry until then (milliseconds): the item was put before that was decided, and outlived a death.
    NotBefore(Millis),
    /// There is nothing to send: it was accepted, ended, or is another one by now. Then what is [`unfinished`] about it is
    /// done and the item is finished.
    Nothing,
}

/// When a rebuild that another replica is sending is looked at again.
const HELD: Millis = 500;

/// Claims the rebuild of a work item. A claim that nobody is working on any more is taken over: within one process the
/// [`worker`] never has an item twice, and the [`Owner`] knows which other processes live.
pub async fn claim(
    core: &Core,
    owner: &Owner,
    id: &RebuildId,
    name: &PackageName,
    key: &RowKey,
) -> Result<Claim> {
    loop {
        let state = core
            .store
            .packages(&[Want::rows(name, vec![key.clone()])])
            .await?
            .pop();
        let rebuild = state.and_then(|state| state.row(key).and_then(|row| row.rebuild.clone()));
        let Some(rebuild) =
            rebuild.filter(|rebuild| rebuild.id == *id && !rebuild.state.is_ended())
        else {
            return Ok(Claim::Nothing);
        };
        if rebuild.state == RebuildState::Queued && rebuild.due > core.clock.now() {
            return Ok(Claim::NotBefore(rebuild.due));
        }
        let later = core.clock.now() + HELD;
        if !owner.may_claim() {
            return Ok(Claim::NotBefore(later));
        }
        let attempts = match rebuild.attempt {
            0 => Vec::new(),
            _ => core.store.attempts(id).await?,
        };
        let result = |number: u32| attempts.iter().find(|one| one.number == number);
        let last = result(rebuild.attempt).filter(|_| rebuild.state == RebuildState::Sending);
        match last {
            // Somebody else's: see `unfinished`.
            Some(last) if last.outcome == SENT || last.outcome == FOREIGN => {
                return Ok(Claim::Nothing);
            }
            Some(last) if last.outcome == DEAD => {
                let patch = RebuildPatch {
                    state: Some(RebuildState::Dead),
                    tries: Some(rebuild.tries + 1),
                    ended_because: Some(last.message.clone()),
                    ..RebuildPatch::default()
                };
                patch_row(core, name, key, &rebuild, patch).await?;
                return Ok(Claim::Nothing);
            }
            // Whoever recorded it died before the row said until when it waits.
            Some(last) if last.outcome == RETRY => {
                let tries = rebuild.tries + 1;
                let patch = RebuildPatch {
                    state: Some(RebuildState::Queued),
                    tries: Some(tries),
                    due: Some(last.ended.saturating_add(delay_ms(tries))),
                    ..RebuildPatch::default()
                };
                patch_row(core, name, key, &rebuild, patch).await?;
                continue;
            }
            _ => {}
        }
        let held = rebuild.state == RebuildState::Sending && last.is_none();
        if held && owner.holder(rebuild.owner.as_deref()) == Holder::Somebody {
            return Ok(Claim::NotBefore(later));
        }
        let may_have_reached_before = (1..=rebuild.attempt)
            .any(|number| result(number).is_none_or(|one| one.may_have_reached));
        let attempt = rebuild.attempt + 1;
        let patch = RebuildPatch {
            state: Some(RebuildState::Sending),
            attempt: Some(attempt),
            owner: Some(owner.id().to_owned()),
            ..RebuildPatch::default()
        };
        if patch_row(core, name, key, &rebuild, patch).await? == Committed::Applied {
            let rebuild = Rebuild {
                state: RebuildState::Sending,
                attempt,
                owner: Some(owner.id().to_owned()),
                ..rebuild
            };
            if is_cancelled(core, &rebuild).await? {
                let patch = RebuildPatch {
                    state: Some(RebuildState::Cancelled),
                    ended_because: Some("its wave was cancelled".into()),
                    ..RebuildPatch::default()
                };
                if !may_have_reached_before
                    && patch_row(core, name, key, &rebuild, patch).await? == Committed::Applied
                {
                    return Ok(Claim::Nothing);
                }
            }
            return Ok(Claim::Claimed(Box::new(Claimed {
                name: name.clone(),
                key: key.clone(),
                rebuild,
                may_have_reached_before,
                started: core.clock.now(),
            })));
        }
    }
}

/// Whether every wave that waits for the rebuild was cancelled. Read after the claim: whoever cancels later is too late
/// (H24).
async fn is_cancelled(core: &Core, rebuild: &Rebuild) -> Result<bool> {
    for wave in &rebuild.waves {
        let wave = core.store.wave(wave).await?;
        if wave.is_none_or(|wave| wave.state != WaveState::Cancelled) {
            return Ok(false);
        }
    }
    Ok(!rebuild.waves.is_empty())
}

/// What is left to do about a rebuild that [`claim`] has nothing to send of, because whoever settled it died half-way: the
/// node of one that turned out to be somebody else's needs another version (H7, H12).
pub async fn unfinished(
    core: &Core,
    id: &RebuildId,
    name: &PackageName,
    key: &RowKey,
) -> Result<Vec<Work>> {
    let want = Want::rows(name, vec![key.clone()]);
    let state = core.store.packages(&[want]).await?.pop();
    let rebuild = state.and_then(|state| state.row(key).and_then(|row| row.rebuild.clone()));
    let Some(rebuild) = rebuild.filter(|rebuild| rebuild.id == *id) else {
        return Ok(Vec::new());
    };
    let foreign = match rebuild.state {
        RebuildState::Foreign => true,
        RebuildState::Dead | RebuildState::Cancelled => {
            let because = rebuild.ended_because.as_deref().unwrap_or("given up");
            return failed(core, name, key, &rebuild, because).await;
        }
        RebuildState::Sending => {
            let attempts = core.store.attempts(id).await?;
            attempts
                .iter()
                .any(|one| one.number == rebuild.attempt && one.outcome == FOREIGN)
        }
        _ => false,
    };
    if foreign {
        let work = another(core, id, &somebody_elses(name, key)).await?;
        return Ok(work.into_iter().collect());
    }
    Ok(Vec::new())
}

/// Tells the waves that wait for a rebuild that it failed for good (rule 15).
async fn failed(
    core: &Core,
    name: &PackageName,
    key: &RowKey,
    rebuild: &Rebuild,
    because: &str,
) -> Result<Vec<Work>> {
    let node = match &key.slot {
        Slot::Publish => NodeKey::package(name),
        Slot::Env(_) => NodeKey::pair(name, &key.version),
    };
    wave::failed(core, &rebuild.waves, &node, because).await
}

fn somebody_elses(name: &PackageName, key: &RowKey) -> String {
    format!("{name}@{} is somebody else's", key.version)
}

/// The outcome text of an attempt that the neighbour accepted.
pub const SENT: &str = "sent";

const RETRY: &str = "retry";
const DEAD: &str = "dead";
const FOREIGN: &str = "foreign";

/// Records what an attempt came to and does what follows from it. Returns the work that goes on: the same rebuild later,
/// the one that takes its place, or what follows in its waves.
pub async fn settle(
    core: &Core,
    claimed: &Claimed,
    outcome: &Outcome,
    next: Next,
) -> Result<Vec<Work>> {
    let Claimed {
        name, key, rebuild, ..
    } = claimed;
    let attempt = Attempt {
        number: rebuild.attempt,
        started: claimed.started,
        ended: core.clock.now(),
        owner: rebuild.owner.clone().unwrap_or_default(),
        outcome: text(next).to_owned(),
        neighbour: outcome.neighbour.as_str().to_owned(),
        may_have_reached: outcome.may_have_reached,
        status: outcome.status,
        message: outcome.message.clone(),
    };
    core.store
        .write(vec![Write::Attempt(rebuild.id.clone(), attempt)])
        .await?;
    log(claimed, outcome, next);
    match next {
        Next::Sent | Next::SentEarlier => Ok(Vec::new()),
        Next::RetryAt { at_ms, counted } => {
            let work = again(core, claimed, at_ms, u32::from(counted)).await?;
            Ok(work.into_iter().collect())
        }
        Next::PauseLane { at_ms, .. } => {
            let work = again(core, claimed, at_ms, 0).await?;
            Ok(work.into_iter().collect())
        }
        Next::Dead { reason } => {
            let because = because(reason, outcome);
            let patch = RebuildPatch {
                state: Some(RebuildState::Dead),
                tries: Some(rebuild.tries + 1),
                ended_because: Some(because),
                ..RebuildPatch::default()
            };
            // Refused: its notice came, or this was done before; what follows is told by the row.
            patch_row(core, name, key, rebuild, patch).await?;
            unfinished(core, &rebuild.id, name, key).await
        }
        Next::Foreign => {
            let work = another(core, &rebuild.id, &somebody_elses(name, key)).await?;
            Ok(work.into_iter().collect())
        }
    }
}

async fn again(core: &Core, claimed: &Claimed, due: Millis, counted: u32) -> Result<Option<Work>> {
    let Claimed {
        name, key, rebuild, ..
    } = claimed;
    let tries = rebuild.tries + counted;
    let patch = RebuildPatch {
        state: Some(RebuildState::Queued),
        tries: Some(tries),
        due: Some(due),
        ..RebuildPatch::default()
    };
    // The row first, which says until when it waits: a death in between leaves the item of this attempt, which finds that.
    if patch_row(core, name, key, rebuild, patch).await? == Committed::Refused {
        // Its notice came meanwhile, so there is nothing to send again; or this was done before and its answer got lost,
        // so there is (H7).
        let want = Want::rows(name, vec![key.clone()]);
        let state = core.store.packages(&[want]).await?.pop();
        let there = state.and_then(|state| state.row(key).and_then(|row| row.rebuild.clone()));
        let queued = there.is_some_and(|there| {
            there.id == rebuild.id
                && there.state == RebuildState::Queued
                && there.attempt == rebuild.attempt
        });
        if !queued {
            return Ok(None);
        }
    }
    let later = Rebuild {
        due,
        ..rebuild.clone()
    };
    let work = rebuild::work(name, key, &later);
    core.store.write(vec![Write::Work(work.clone())]).await?;
    Ok(Some(work))
}

/// Sends a dead rebuild once more, at an operator's wish. `None` if it is not dead (H24: a superseded one is refused), or if
/// every wave that waits for it was cancelled.
pub async fn revive(
    core: &Core,
    name: &PackageName,
    key: &RowKey,
    id: &RebuildId,
) -> Result<Option<Work>> {
    let state = core
        .store
        .packages(&[Want::rows(name, vec![key.clone()])])
        .await?
        .pop();
    let rebuild = state.and_then(|state| state.row(key).and_then(|row| row.rebuild.clone()));
    let dead = |rebuild: &Rebuild| rebuild.id == *id && rebuild.state == RebuildState::Dead;
    let Some(rebuild) = rebuild.filter(dead) else {
        return Ok(None);
    };
    if is_cancelled(core, &rebuild).await? {
        return Ok(None);
    }
    let due = core.clock.now();
    let patch = RebuildPatch {
        state: Some(RebuildState::Queued),
        tries: Some(0),
        due: Some(due),
        ..RebuildPatch::default()
    };
    let work = rebuild::work(
        name,
        key,
        &Rebuild {
            due,
            ..rebuild.clone()
        },
    );
    core.store.write(vec![Write::Work(work.clone())]).await?;
    if patch_row(core, name, key, &rebuild, patch).await? == Committed::Refused {
        return Ok(None);
    }
    // Another replica may have looked at the item before the row said so, and have finished it: once more, under an id that
    // nobody has seen.
    let again = Work {
        id: format!("{}/revived-{due}", work.id),
        ..work
    };
    core.store.write(vec![Write::Work(again.clone())]).await?;
    Ok(Some(again))
}

async fn patch_row(
    core: &Core,
    name: &PackageName,
    key: &RowKey,
    as_it_is: &Rebuild,
    patch: RebuildPatch,
) -> Result<Committed> {
    let expect = Expect::Rebuild {
        id: as_it_is.id.clone(),
        state: as_it_is.state,
        attempt: as_it_is.attempt,
    };
    let write = RowWrite {
        patch: Some(patch),
        ..RowWrite::new(key.clone(), expect, 0)
    };
    let answers = core
        .store
        .commit(vec![PackageCommit::row(name, write)])
        .await?;
    Ok(answers.first().copied().unwrap_or(Committed::Refused))
}

fn text(next: Next) -> &'static str {
    match next {
        Next::Sent | Next::SentEarlier => SENT,
        Next::RetryAt { .. } => RETRY,
        Next::PauseLane { .. } => "paused",
        Next::Dead { .. } => DEAD,
        Next::Foreign => FOREIGN,
    }
}

fn because(reason: DeadReason, outcome: &Outcome) -> String {
    format!("{reason}: {}", outcome.message)
}

fn log(claimed: &Claimed, outcome: &Outcome, next: Next) {
    let Claimed {
        name, key, rebuild, ..
    } = claimed;
    let env = key.slot.as_str();
    match next {
        Next::Sent | Next::SentEarlier => tracing::info!(
            rebuild.id = %rebuild.id, package = %name, version = %key.version, env, attempt = rebuild.attempt, "sent"
        ),
        Next::Dead { reason } => tracing::error!(
            rebuild.id = %rebuild.id, package = %name, version = %key.version, env, attempt = rebuild.attempt,
            %reason, message = outcome.message, "gave up"
        ),
        _ => tracing::warn!(
            rebuild.id = %rebuild.id, package = %name, version = %key.version, env, attempt = rebuild.attempt,
            next = text(next), message = outcome.message, "not sent"
        ),
    }
}

/// The neighbour that a rebuild of this row is sent to.
pub fn target(key: &RowKey, has_warehouse: bool) -> Neighbour {
    match key.slot.kind() {
        crate::model::package::Kind::Publish if has_warehouse => Neighbour::Warehouse,
        _ => Neighbour::BuildService,
    }
}
