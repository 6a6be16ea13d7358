//! What a planned change still has to send (H7, H9).

use super::{Core, Result, another, read, wave};
use crate::model::change::{Change, Verdict};
use crate::model::decision::Decision;
use crate::model::id::WaveId;
use crate::model::package::{Kind, RebuildState, RowKey};
use crate::model::wave::WaveState;
use crate::model::work::Work;
use crate::plan::publish::needs_another;
use crate::plan::rebuild;
use crate::store::{Want, WantOpen};

/// How many decisions are looked through at a time.
const PAGE: usize = 500;

/// The work of a planned change that is not sent yet. If the answer to the last write of planning got lost (H9), whoever
/// plans again has never heard of that work.
pub(super) async fn waiting(core: &Core, change: &Change) -> Result<Vec<Work>> {
    let mut work = Vec::new();
    let mut skip = 0;
    loop {
        let decisions = core.store.decisions(&change.id, skip, PAGE).await?;
        skip += decisions.len();
        let rebuilds: Vec<(&Decision, RowKey)> = decisions
            .iter()
            .filter(|decision| decision.is_rebuild())
            .filter_map(|decision| {
                let version = decision.version.as_ref()?;
                let key = match change.kind {
                    Kind::Publish => RowKey::publish(version),
                    Kind::Promotion => RowKey::promotion(version, &decision.env),
                };
                Some((decision, key))
            })
            .collect();
        let wants: Vec<Want> = rebuilds
            .iter()
            .map(|(decision, key)| Want::rows(&decision.dependent, vec![key.clone()]))
            .collect();
        let states = core.store.packages(&wants).await?;
        for ((decision, key), state) in rebuilds.iter().zip(&states) {
            let rebuild = state.row(key).and_then(|row| row.rebuild.as_ref());
            let queued = rebuild.filter(|one| {
                one.state == RebuildState::Queued && Some(&one.id) == decision.rebuild.as_ref()
            });
            work.extend(queued.map(|one| rebuild::work(&state.name, key, one)));
        }
        if decisions.len() < PAGE {
            break;
        }
    }
    work.extend(looks(core, change).await?);
    if change.kind == Kind::Publish {
        let want = Want {
            open: WantOpen::All,
            ..Want::rows(&change.name, vec![RowKey::publish(&change.version)])
        };
        let state = read(core, want).await?;
        if let Some(rebuild) = needs_another(&state, &change.version) {
            work.extend(another(core, &rebuild, "published by hand").await?);
        }
    }
    Ok(work)
}

/// The items that look after the waves that a change began, while they are open.
async fn looks(core: &Core, change: &Change) -> Result<Vec<Work>> {
    let own = WaveId::from(&change.id);
    let mut waves = vec![own];
    match change.planned.as_ref().map(|planned| &planned.verdict) {
        Some(Verdict::Joined { wave }) => waves = vec![wave.clone()],
        Some(Verdict::Answers { waves: of, .. } | Verdict::TookPlace { waves: of, .. }) => {
            let late = of
                .iter()
                .map(|wave| WaveId::late_parent(wave, &change.name, &change.version));
            waves = late.collect();
        }
        _ => {}
    }
    let mut looks = Vec::new();
    for id in waves {
        let Some(wave) = core.store.wave(&id).await? else {
            continue;
        };
        match wave.state {
            WaveState::Collecting | WaveState::Planning => {
                looks.push(wave::window_ends(core, &wave));
            }
            WaveState::Awaiting | WaveState::Open => looks.push(wave::first_tick(&wave)),
            WaveState::Closed | WaveState::Cancelled => {}
        }
    }
    Ok(looks)
}
