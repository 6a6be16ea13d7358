//! What operators and build systems tell a wave: approval, cancelling, outcomes, holds, a rebuild by hand (rules 15, 17).

use super::super::{Core, Result, read};
use super::follow;
use super::tick::fail;
use crate::model::env::Env;
use crate::model::id::WaveId;
use crate::model::name::PackageName;
use crate::model::package::RowKey;
use crate::model::wave::{BuildOutcome, Hold, Node, NodeKey, Start, WaveMove, WaveState};
use crate::model::work::Work;
use crate::plan::Confirm;
use crate::semver::Version;
use crate::store::{Committed, Want, Write};

/// Why a wave was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none of that id.
    Unknown,
    /// It is in this state.
    State(WaveState),
}

/// What an operator's word came to: the work that follows, or why nothing does.
pub type Told = std::result::Result<Vec<Work>, Refused>;

/// Lets a wave go that waits for approval.
pub async fn approve(core: &Core, id: &WaveId) -> Result<Told> {
    moved(core, id, &[WaveState::Awaiting], WaveState::Open).await
}

/// Ends a wave: what was not sent is not sent.
pub async fn cancel(core: &Core, id: &WaveId) -> Result<Told> {
    let from = [WaveState::Open, WaveState::Awaiting];
    moved(core, id, &from, WaveState::Cancelled).await
}

async fn moved(core: &Core, id: &WaveId, from: &[WaveState], to: WaveState) -> Result<Told> {
    loop {
        let Some(wave) = core.store.wave(id).await? else {
            return Ok(Err(Refused::Unknown));
        };
        if wave.state != to {
            if !from.contains(&wave.state) {
                return Ok(Err(Refused::State(wave.state)));
            }
            let step = WaveMove {
                from: wave.state,
                to,
                at: core.clock.now(),
                plan: None,
            };
            if core.store.move_wave(id, &step).await? == Committed::Refused {
                continue;
            }
        }
        core.hints.forget(id);
        // A look at the whole wave releases what waits for nothing.
        let look = Work {
            id: format!("tick/{id}/{}", to.as_str()),
            ..Work::tick(id, wave.start.package(), core.clock.now())
        };
        core.store.write(vec![Write::Work(look.clone())]).await?;
        return Ok(Ok(vec![look]));
    }
}

/// Whether a version counts as published: `None` if its build has yet to succeed, an error if it failed (rule 15).
async fn confirmed(
    core: &Core,
    name: &PackageName,
    version: &Version,
    env: &Env,
) -> Result<Option<std::result::Result<(), String>>> {
    let outcomes = core.store.outcomes(name, version, env).await?;
    let first = outcomes.into_iter().next();
    Ok(match first {
        Some(outcome) if !outcome.ok => Some(Err(build_failed(&outcome))),
        Some(_) => Some(Ok(())),
        None => (core.rules.confirm == Confirm::Notice).then_some(Ok(())),
    })
}

/// The column of a node whose version's build came to an end: published, or failed. `None` while that is waited for.
pub(in super::super) async fn after_build(
    core: &Core,
    name: &PackageName,
    version: &Version,
    env: &Env,
) -> Result<Option<Node>> {
    let confirmed = confirmed(core, name, version, env).await?;
    Ok(confirmed.map(|confirmed| match confirmed {
        Ok(()) => published(version),
        Err(message) => Node {
            failed: Some(message),
            ..Node::default()
        },
    }))
}

/// As [`after_build`], when the version's notice came: that is enough, unless its outcome is waited for (rule 15).
pub(in super::super) async fn after_notice(
    core: &Core,
    name: &PackageName,
    version: &Version,
    env: &Env,
) -> Result<Option<Node>> {
    match core.rules.confirm {
        Confirm::Notice => Ok(Some(published(version))),
        Confirm::Outcome => after_build(core, name, version, env).await,
    }
}

fn published(version: &Version) -> Node {
    Node {
        published: Some(version.clone()),
        ..Node::default()
    }
}

fn build_failed(outcome: &BuildOutcome) -> String {
    let said = outcome.message.as_deref().unwrap_or("no message");
    format!("{}{said}", Node::BUILD_FAILED)
}

/// Takes in what a build came to. Returns the work that follows.
pub async fn outcome(core: &Core, outcome: &BuildOutcome) -> Result<Vec<Work>> {
    core.store
        .write(vec![Write::Outcome(outcome.clone())])
        .await?;
    let (name, version, env) = (&outcome.name, &outcome.version, &outcome.env);
    let verdict = confirmed(core, name, version, env).await?;
    let is_first = core.rules.environments.first() == env;
    let mut keys = vec![(
        RowKey::promotion(version, env),
        NodeKey::pair(name, version),
    )];
    if is_first {
        keys.push((RowKey::publish(version), NodeKey::package(name)));
    }
    let rows = keys.iter().map(|(row, _)| row.clone()).collect();
    let state = read(core, Want::rows(name, rows)).await?;
    let mut works = Vec::new();
    for (row, key) in keys {
        let Some(there) = state.row(&row) else {
            continue;
        };
        let mut waves: Vec<WaveId> = there
            .rebuild
            .iter()
            .flat_map(|rebuild| rebuild.waves.iter().cloned())
            .collect();
        // Of a version published by hand, the wave that it began; what joined another says so in that wave's origins.
        let notice = there.facts.as_ref().and_then(|facts| facts.notice.as_ref());
        if let Some(notice) = notice.filter(|_| there.rebuild.is_none()) {
            waves.extend(super::pending::waves_of(core, name, version).await?);
            waves.push(WaveId::from(notice));
        }
        waves.sort();
        waves.dedup();
        for wave in waves {
            if core.store.wave(&wave).await?.is_none() {
                continue;
            }
            match &verdict {
                Some(Err(message)) => works.push(fail(core, &wave, &key, message).await?),
                Some(Ok(())) if noticed(&state, &row) => {
                    let node = published(version);
                    let work = Work::advance(&wave, &key, "built", core.clock.now());
                    let writes = vec![
                        Write::Node(wave, key.clone(), node),
                        Write::Work(work.clone()),
                    ];
                    core.store.write(writes).await?;
                    works.push(work);
                }
                _ => {}
            }
        }
    }
    Ok(works)
}

/// Whether the notice of a row's version came; before, the notice will find the outcome.
fn noticed(state: &crate::model::package::PackageState, row: &RowKey) -> bool {
    let Some(row) = state.row(row) else {
        return false;
    };
    let published = row
        .rebuild
        .as_ref()
        .is_some_and(|one| one.confirmed_by.is_some());
    let facts = row
        .facts
        .as_ref()
        .is_some_and(|facts| facts.noticed.is_some());
    published || facts
}

/// Keeps a package, or one of its dependencies, from being rebuilt. Returns the work that ends it in time.
pub async fn hold(core: &Core, hold: &Hold) -> Result<Vec<Work>> {
    let ends = hold
        .expires
        .map(|due| follow::hold_ends(&hold.package, &hold.id, "expires", due));
    let mut writes = vec![Write::Hold(hold.clone())];
    writes.extend(ends.iter().cloned().map(Write::Work));
    core.store.write(writes).await?;
    Ok(ends.into_iter().collect())
}

/// Ends a hold before its time. Returns the work that releases what was held.
pub async fn unhold(core: &Core, hold: &Hold) -> Result<Vec<Work>> {
    let now = core.clock.now();
    let ends = follow::hold_ends(&hold.package, &hold.id, "removed", now);
    let writes = vec![
        Write::HoldEnded(hold.package.clone(), hold.id.clone(), now),
        Write::Work(ends.clone()),
    ];
    core.store.write(writes).await?;
    Ok(vec![ends])
}

/// Rebuilds a package now, with what its parents have, and what follows from that. Returns the wave and its work.
pub async fn rebuild_by_hand(core: &Core, id: WaveId, package: &PackageName) -> Result<Vec<Work>> {
    let start = Start::ByHand {
        package: package.clone(),
    };
    follow::rebuild_now(core, id, package, start).await
}
