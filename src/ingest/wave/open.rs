//! Opening a wave: its plan, then the one conditional write that makes it the plan (H16).

use super::super::{Core, Result};
use super::operate::after_build;
use crate::model::env::Env;
use crate::model::id::{ChangeId, WaveId};
use crate::model::package::{Cause, Kind};
use crate::model::wave::{NodeKey, PlanNode, Start, Wave, WaveMove, WaveState};
use crate::model::work::Work;
use crate::store::{Committed, Write};

/// How many plan rows are written in one go.
const CHUNK: usize = 1_000;

/// A wave that is to be opened.
pub(in super::super) struct Opening {
    pub id: WaveId,
    pub env: Env,
    pub kind: Kind,
    pub start: Start,
    /// The change under which decisions are kept that no other change leads to.
    pub change: ChangeId,
    pub promote: bool,
    /// What it follows from: published already.
    pub origins: Vec<Cause>,
    pub pending_on: Vec<WaveId>,
}

/// A wave, with what it began with: of one that collected publishes, that is what its members published.
pub(in super::super) async fn load(core: &Core, id: &WaveId) -> Result<Option<Wave>> {
    let Some(mut wave) = core.store.wave(id).await? else {
        return Ok(None);
    };
    if let Start::Publish { origins, .. } = &mut wave.start
        && origins.is_empty()
    {
        let members = core.store.members(id).await?;
        *origins = members.into_iter().map(|(_, cause)| cause).collect();
    }
    Ok(Some(wave))
}

/// The wave of that id, if it has been planned.
pub(in super::super) async fn planned(core: &Core, id: &WaveId) -> Result<Option<Wave>> {
    let wave = load(core, id).await?;
    Ok(wave.filter(|wave| wave.plan.is_some()))
}

/// Opens a wave with this plan; if somebody else has opened it, theirs is the plan. Returns the wave and the work that
/// looks after it. Repeatable.
pub(in super::super) async fn open(
    core: &Core,
    opening: Opening,
    nodes: Vec<PlanNode>,
) -> Result<(Wave, Work)> {
    let now = core.clock.now();
    let plan = uuid::Uuid::now_v7().simple().to_string();
    let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    for some in nodes.chunks(CHUNK) {
        let rows = some
            .iter()
            .map(|row| Write::PlanNode(opening.id.clone(), plan.clone(), Box::new(row.clone())));
        core.store.write(rows.collect()).await?;
    }
    let too_many = core
        .rules
        .approve_above
        .is_some_and(|limit| opening.kind == Kind::Publish && count > limit);
    let state = if too_many {
        WaveState::Awaiting
    } else {
        WaveState::Open
    };
    let wave = Wave {
        id: opening.id.clone(),
        env: opening.env,
        kind: opening.kind,
        start: opening.start,
        change: opening.change,
        promote: opening.promote,
        opened: now,
        state,
        since: now,
        plan: Some(plan.clone()),
        nodes: count,
        pending_on: opening.pending_on,
    };
    if core.store.open_wave(&wave).await? == Committed::Refused {
        // It collected before; or it was opened by somebody else, or by us before a crash.
        let to = WaveMove {
            from: WaveState::Planning,
            to: state,
            at: now,
            plan: Some((plan, count)),
        };
        core.store.move_wave(&opening.id, &to).await?;
    }
    let wave = load(core, &opening.id).await?.unwrap_or(wave);
    tracing::info!(wave = %wave.id, nodes = wave.nodes, state = wave.state.as_str(), "wave opened");
    let tick = begin(core, &wave, &opening.origins).await?;
    Ok((wave, tick))
}

/// Writes down that what a wave began with is published, and puts the work that looks after it; also for a wave that is
/// there already, because whoever opened it may have died before.
pub(in super::super) async fn begin(core: &Core, wave: &Wave, origins: &[Cause]) -> Result<Work> {
    // Under `confirm = "outcome"` an origin too waits for its build.
    let mut writes = Vec::new();
    for cause in origins {
        let key = NodeKey {
            package: cause.parent.clone(),
            version: (wave.kind == Kind::Promotion).then(|| cause.version.clone()),
        };
        let node = after_build(core, &cause.parent, &cause.version, &wave.env).await?;
        writes.extend(node.map(|node| Write::Node(wave.id.clone(), key, node)));
    }
    let tick = first_tick(wave);
    writes.push(Write::Work(tick.clone()));
    core.store.write(writes).await?;
    Ok(tick)
}

/// The item that looks at a new wave first; each look puts the next.
pub(in super::super) fn first_tick(wave: &Wave) -> Work {
    Work::tick(
        &wave.id,
        wave.start.package(),
        super::tick::next_look(wave, wave.opened),
    )
}
