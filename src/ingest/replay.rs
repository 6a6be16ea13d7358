//! Replaying a planned change: everything that it led to and that is not sent is put once more (design.md 6).

use std::collections::BTreeSet;

use super::{Core, Result, plan};
use crate::model::change::{Change, Verdict};
use crate::model::id::WaveId;
use crate::model::wave::WaveState;
use crate::model::work::Work;
use crate::store::Write;

/// Plans a change again and looks at its waves. Returns the work, all of it durable. Repeatable; decides nothing that was
/// decided before.
pub async fn replay(core: &Core, change: &Change) -> Result<Vec<Work>> {
    let now = core.clock.now();
    if !change.is_planned() {
        let again = Work::plan(&change.id, &change.digest, &change.name, now);
        core.store.write(vec![Write::Work(again.clone())]).await?;
        return Ok(vec![again]);
    }
    let mut work = plan(core, &change.id, &change.digest).await?;
    for id in waves(change) {
        let Some(wave) = core.store.wave(&id).await? else {
            continue;
        };
        if matches!(wave.state, WaveState::Open | WaveState::Awaiting) {
            work.push(Work {
                id: format!("tick/{id}/replay-{now}"),
                ..Work::tick(&id, wave.start.package(), now)
            });
        }
    }
    // An item that was finished may be put again: whoever finished it may have been wrong.
    let puts = work.iter().cloned().map(Write::Work);
    core.store.write(puts.collect()).await?;
    Ok(work)
}

/// The waves that a change began or goes on with.
pub fn waves(change: &Change) -> BTreeSet<WaveId> {
    let mut waves: BTreeSet<WaveId> = [WaveId::from(&change.id)].into();
    match change.planned.as_ref().map(|planned| &planned.verdict) {
        Some(Verdict::Joined { wave }) => waves.extend([wave.clone()]),
        Some(Verdict::Answers { waves: of, .. } | Verdict::TookPlace { waves: of, .. }) => {
            let late = |wave| WaveId::late_parent(wave, &change.name, &change.version);
            waves.extend(of.iter().map(late));
            waves.extend(of.iter().cloned());
        }
        _ => {}
    }
    waves
}
