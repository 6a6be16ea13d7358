//! Setting `settle`: publishes that come close to each other share a wave (rule 14, H22).
//!
//! A fixed window from the first change. Whoever joins writes its member row, then looks whether the wave still collects;
//! whoever closes the window says so first, then reads the members. One of the two sees the other.

use super::super::explore::explore;
use super::super::{Core, Outcome, Parents, REFUSALS, Result, contention};
use super::advance;
use super::open::{Opening, begin, open};
use crate::graph::Origin;
use crate::model::change::Change;
use crate::model::id::WaveId;
use crate::model::package::{Cause, Kind, millis};
use crate::model::wave::{NodeKey, Start, Wave, WaveMove, WaveState};
use crate::model::work::{Job, Work};
use crate::store::{Committed, Write};

/// What became of a publish that may share a wave.
pub(in super::super) struct Joining {
    pub wave: WaveId,
    /// The item that closes the window, if this publish opened it.
    pub work: Vec<Work>,
}

/// Makes a publish by hand a member of the wave that collects, or begins one with it. Repeatable.
pub(in super::super) async fn join(core: &Core, change: &Change, cause: &Cause) -> Result<Joining> {
    // Begun before a crash, perhaps before anybody was told: nobody else would end it.
    let own = WaveId::from(&change.id);
    if let Some(wave) = core.store.wave(&own).await? {
        let member = Write::Member(own.clone(), change.id.clone(), cause.clone());
        let ends = window_ends(core, &wave);
        if wave.state == WaveState::Collecting {
            core.store
                .write(vec![member, Write::Work(ends.clone())])
                .await?;
            let pointer = core.store.collecting(&change.env).await?;
            let other = match &pointer {
                Some(id) => core.store.wave(id).await?,
                None => None,
            };
            if other.is_none_or(|other| other.state != WaveState::Collecting) {
                core.store
                    .collect(&change.env, pointer.as_ref(), &own)
                    .await?;
            }
            let still = core.store.wave(&own).await?;
            if still.is_some_and(|wave| wave.state == WaveState::Collecting) {
                return Ok(Joining {
                    wave: own,
                    work: vec![ends],
                });
            }
        }
    }
    for _ in 0..REFUSALS {
        let pointer = core.store.collecting(&change.env).await?;
        if let Some(id) = &pointer
            && let Some(wave) = core.store.wave(id).await?
            && wave.state == WaveState::Collecting
        {
            let members = core.store.members(id).await?;
            let other = members
                .iter()
                .any(|(_, one)| one.parent == cause.parent && one.version != cause.version);
            if !other {
                let member = Write::Member(id.clone(), change.id.clone(), cause.clone());
                core.store.write(vec![member]).await?;
                let still = core.store.wave(id).await?;
                if still.is_some_and(|wave| wave.state == WaveState::Collecting) {
                    let work = vec![window_ends(core, &wave)];
                    core.store
                        .write(work.iter().cloned().map(Write::Work).collect())
                        .await?;
                    return Ok(Joining {
                        wave: id.clone(),
                        work,
                    });
                }
            }
        }
        let now = core.clock.now();
        let id = WaveId::from(&change.id);
        let wave = Wave {
            id: id.clone(),
            env: change.env.clone(),
            kind: Kind::Publish,
            start: Start::Publish {
                first: change.name.clone(),
                origins: Vec::new(),
            },
            change: change.id.clone(),
            promote: change.promote,
            opened: now,
            state: WaveState::Collecting,
            since: now,
            plan: None,
            nodes: 0,
            pending_on: Vec::new(),
        };
        if core.store.open_wave(&wave).await? == Committed::Refused
            && core
                .store
                .wave(&id)
                .await?
                .is_some_and(|wave| wave.state != WaveState::Collecting)
        {
            // Its own window is over: it was a member of it.
            return Ok(Joining {
                wave: id,
                work: Vec::new(),
            });
        }
        if pointer.as_ref() != Some(&id) {
            let member = Write::Member(id.clone(), change.id.clone(), cause.clone());
            core.store.write(vec![member]).await?;
            core.store
                .collect(&change.env, pointer.as_ref(), &id)
                .await?;
            // If another one was quicker, ours collects alone until its window ends; this publish is in it.
            let work = vec![window_ends(core, &wave)];
            core.store
                .write(work.iter().cloned().map(Write::Work).collect())
                .await?;
            return Ok(Joining { wave: id, work });
        }
    }
    Err(contention(&change.name))
}

/// The item that closes the window of a wave.
pub(in super::super) fn window_ends(core: &Core, wave: &Wave) -> Work {
    Work {
        id: format!("collected/{}", wave.id),
        package: wave.start.package().clone(),
        due: wave.opened.saturating_add(millis(core.rules.settle)),
        job: Job::Collected {
            wave: wave.id.clone(),
        },
    }
}

/// Ends the window of a wave and opens it with all its members. Repeatable.
pub(in super::super) async fn collected(core: &Core, id: &WaveId) -> Result<Vec<Work>> {
    let to = WaveMove {
        from: WaveState::Collecting,
        to: WaveState::Planning,
        at: core.clock.now(),
        plan: None,
    };
    core.store.move_wave(id, &to).await?;
    let Some(wave) = core.store.wave(id).await? else {
        return Ok(Vec::new());
    };
    let members = core.store.members(id).await?;
    let causes: Vec<Cause> = members.into_iter().map(|(_, cause)| cause).collect();
    let mut outcome = Outcome::default();
    if wave.state == WaveState::Planning {
        let origins = causes.iter().map(|cause| Origin {
            cause: cause.clone(),
            reach: true,
        });
        let affected = explore(core, origins.collect(), Vec::new()).await?;
        let opening = Opening {
            id: id.clone(),
            env: wave.env.clone(),
            kind: Kind::Publish,
            start: wave.start.clone(),
            change: wave.change.clone(),
            promote: wave.promote,
            origins: causes.clone(),
            pending_on: Vec::new(),
        };
        let (_, tick) = open(core, opening, affected.into_plan()).await?;
        outcome.work.push(tick);
    } else if wave.state == WaveState::Open {
        outcome.work.push(begin(core, &wave, &causes).await?);
    }
    let mut parents = Parents::default();
    let keys: Vec<NodeKey> = causes
        .iter()
        .map(|cause| NodeKey::package(&cause.parent))
        .collect();
    advance(core, &mut parents, id, &keys, None, &mut outcome).await?;
    Ok(outcome.work)
}
