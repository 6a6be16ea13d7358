//! Giving a node another version: its own turned out to be somebody else's (H11, H12).

use super::wave::published;
use super::{Core, REFUSALS, Result, contention, read};
use crate::model::id::RebuildId;
use crate::model::package::{PackageState, RebuildState, RowKey};
use crate::model::work::Work;
use crate::plan::rebuild::{self, Replacing};
use crate::store::{Committed, Want, WantOpen, Write};

/// Ends this rebuild as foreign, if it has not ended, and reserves the next free version for its waves. Returns the work
/// that sends it; empty if the rebuild is not the one that its waves wait for any more. Repeatable.
pub async fn another(core: &Core, id: &RebuildId, because: &str) -> Result<Option<Work>> {
    let Some(index) = core
        .store
        .rebuilds(std::slice::from_ref(id))
        .await?
        .pop()
        .flatten()
    else {
        return Ok(None);
    };
    let (name, key) = (&index.name, &index.key);
    for _ in 0..REFUSALS {
        let first = read(core, Want::rows(name, vec![key.clone()])).await?;
        let Some(old) = first
            .row(key)
            .and_then(|row| row.rebuild.clone())
            .filter(|old| old.id == *id)
        else {
            return Ok(None);
        };
        let state = read(core, rebuild::want_again(name, &old, key, &core.rules)).await?;
        let waits = old
            .waves
            .iter()
            .any(|wave| state.open.get(wave) == Some(&key.version));
        if !waits || matches!(old.state, RebuildState::Published | RebuildState::Dead) {
            return successors(core, &state, &old.waves.iter().cloned().collect::<Vec<_>>()).await;
        }
        let replacing = Replacing {
            key,
            old: &old,
            id: RebuildId::fresh(),
            because,
            now: core.clock.now(),
        };
        let published = published(core, name).await?;
        let Some(reservation) = rebuild::replace(&state, &replacing, &core.rules, &published)
        else {
            return Ok(None);
        };
        if core.store.commit(vec![reservation.commit]).await?.first() == Some(&Committed::Applied) {
            let state = read(
                core,
                Want {
                    open: WantOpen::All,
                    ..Want::statics(name)
                },
            )
            .await?;
            return successors(core, &state, &old.waves.iter().cloned().collect::<Vec<_>>()).await;
        }
    }
    Err(contention(name))
}

/// Makes the rebuild that these waves now wait for findable and puts its work, if it was not sent yet: what is left to
/// do after a crash in [`another`]. `state` must hold the open rows.
pub async fn successors(
    core: &Core,
    state: &PackageState,
    waves: &[crate::model::id::WaveId],
) -> Result<Option<Work>> {
    let Some(version) = waves.iter().find_map(|wave| state.open.get(wave)) else {
        return Ok(None);
    };
    let key = RowKey::publish(version);
    let Some(rebuild) = state.row(&key).and_then(|row| row.rebuild.as_ref()) else {
        return Ok(None);
    };
    if rebuild.state != RebuildState::Queued || rebuild.attempt > 0 {
        return Ok(None);
    }
    let index = rebuild::index(&state.name, &key, rebuild, core.clock.now());
    let work = rebuild::work(&state.name, &key, rebuild);
    let decision = Box::new(rebuild.decision.clone());
    let writes = vec![
        Write::Rebuild(index),
        Write::Decision(rebuild.change.clone(), decision),
        Write::Work(work.clone()),
    ];
    core.store.write(writes).await?;
    Ok(Some(work))
}
