//! Looking after a wave: deadlines, what was forgotten, whether it has ended (rule 15; H6, H17).

use std::collections::BTreeSet;

use super::super::{Core, Outcome, Parents, Result};
use super::close::{close_if, survey};
use super::{Step, release};
use crate::model::id::WaveId;
use crate::model::package::{Kind, Millis, Rebuild, RebuildState, RowKey, millis};
use crate::model::wave::{Node, NodeKey, PlanNode, Standing, Wave, WaveState};
use crate::model::work::Work;
use crate::plan::Confirm;
use crate::store::Write;

/// A wave is looked at after so long at least, and at most. In between: as long as it has been open.
const SOONEST: Millis = 1_000;
const LATEST: Millis = 60_000;

/// How many nodes that wait are looked at in one go.
const CHUNK: usize = 500;

/// What a look at a wave came to.
#[derive(Default)]
pub struct Ticked {
    /// What is to be done, and the next look.
    pub work: Vec<Work>,
    /// Rebuilds that passed their deadline: to be recovered, or else [`late`].
    pub overdue: Vec<Overdue>,
}

/// A rebuild that was accepted so long ago that its notice must be lost, or its build hangs.
#[derive(Clone, Debug)]
pub struct Overdue {
    /// The wave that waits for it.
    pub wave: WaveId,
    /// Its node.
    pub key: NodeKey,
    /// Its row.
    pub row: RowKey,
    /// The rebuild.
    pub rebuild: Rebuild,
}

/// When a wave is looked at next after this time: one, two, four seconds after it was opened, and so on; later once a
/// minute. The same for whoever asks, so that two looks at once do not become twice as many.
pub(super) fn next_look(wave: &Wave, now: Millis) -> Millis {
    let age = (now - wave.opened).max(0);
    let mut step = SOONEST;
    while step <= age && step < LATEST {
        step *= 2;
    }
    if step > age && step < LATEST {
        return wave.opened + step;
    }
    wave.opened + (age / LATEST + 1) * LATEST
}

/// Looks at a wave. Repeatable.
pub async fn tick(core: &Core, id: &WaveId) -> Result<Ticked> {
    let mut ticked = Ticked::default();
    let Some(wave) = super::load(core, id).await? else {
        return Ok(ticked);
    };
    let now = core.clock.now();
    let mut next = next_look(&wave, now);
    match wave.state {
        WaveState::Closed | WaveState::Cancelled => return Ok(ticked),
        WaveState::Collecting | WaveState::Planning | WaveState::Awaiting => {}
        WaveState::Open => {
            let survey = survey(core, &wave).await?;
            let mut waiting = Vec::new();
            for (plan, node) in &survey.unfinished {
                match node.standing() {
                    Standing::Released => {
                        let due = released(core, &wave, plan, node, now, &mut ticked).await?;
                        next = due.map_or(next, |due| next.min(due.max(now + SOONEST)));
                    }
                    _ => waiting.push(plan.clone()),
                }
            }
            forgotten(core, &wave, waiting, &mut ticked).await?;
            origins(core, &wave, now, &mut ticked).await?;
            if close_if(core, &wave, &survey, &mut ticked.work).await? {
                return Ok(ticked);
            }
        }
    }
    let again = Work::tick(&wave.id, wave.start.package(), next);
    core.store.write(vec![Write::Work(again.clone())]).await?;
    ticked.work.push(again);
    Ok(ticked)
}

/// Looks at a node whose rebuild was decided; returns when its deadline is, if it has one yet.
async fn released(
    core: &Core,
    wave: &Wave,
    plan: &PlanNode,
    node: &Node,
    now: Millis,
    ticked: &mut Ticked,
) -> Result<Option<Millis>> {
    let Some((row, rebuild)) = release::of_node(core, &wave.id, &plan.key, node).await? else {
        return Ok(None);
    };
    let since = match rebuild.state {
        RebuildState::Dead | RebuildState::Cancelled => {
            let because = rebuild.ended_because.as_deref().unwrap_or("given up");
            ticked
                .work
                .push(fail(core, &wave.id, &plan.key, because).await?);
            return Ok(None);
        }
        RebuildState::Sending => {
            let attempts = core.store.attempts(&rebuild.id).await?;
            attempts
                .iter()
                .find(|one| one.number == rebuild.attempt && one.outcome == crate::dispatch::SENT)
                .map(|one| one.ended)
        }
        // Its notice came; what is missing is its outcome.
        RebuildState::Published if core.rules.confirm == Confirm::Outcome => {
            let want =
                crate::store::Want::rows(&plan.key.package, vec![RowKey::publish(&row.version)]);
            let state = super::super::read(core, want).await?;
            state.facts(&row.version).and_then(|facts| facts.noticed)
        }
        _ => None,
    };
    let deadline = millis(core.rules.deadline);
    let due = since.map(|since| since.saturating_add(deadline));
    if due.is_some_and(|due| due <= now) {
        ticked.overdue.push(Overdue {
            wave: wave.id.clone(),
            key: plan.key.clone(),
            row,
            rebuild,
        });
        return Ok(None);
    }
    Ok(due)
}

/// Nodes that wait for nothing any more: whoever should have decided them died, and its work is done again elsewhere or
/// later; this is the net under it.
async fn forgotten(
    core: &Core,
    wave: &Wave,
    waiting: Vec<PlanNode>,
    ticked: &mut Ticked,
) -> Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    let mut outcome = Outcome::default();
    let mut parents = Parents::default();
    let mut step = Step::new(core, wave.clone(), None, &mut parents, &mut outcome);
    for some in waiting.chunks(CHUNK) {
        step.decide(some.to_vec()).await?;
    }
    let events = std::mem::take(&mut step.events);
    for key in events {
        let work = Work::advance(&wave.id, &key, "forgotten", core.clock.now());
        core.store.write(vec![Write::Work(work.clone())]).await?;
        ticked.work.push(work);
    }
    ticked.work.extend(outcome.work);
    Ok(())
}

/// Under `confirm = "outcome"`: what the wave began with has a deadline too.
async fn origins(core: &Core, wave: &Wave, now: Millis, ticked: &mut Ticked) -> Result<()> {
    if core.rules.confirm == Confirm::Notice || wave.kind == Kind::Promotion {
        return Ok(());
    }
    let deadline = millis(core.rules.deadline);
    if wave.opened.saturating_add(deadline) > now {
        return Ok(());
    }
    let origins = wave.start.origins();
    for (key, node) in origins
        .iter()
        .zip(core.store.nodes(&wave.id, &origins).await?)
    {
        if node.standing() == Standing::Waiting {
            ticked.work.push(late(core, &wave.id, key).await?);
        }
    }
    Ok(())
}

/// A node is not waited for any longer.
pub async fn late(core: &Core, wave: &WaveId, key: &NodeKey) -> Result<Work> {
    let now = core.clock.now();
    let node = Node {
        late: Some(now),
        ..Node::default()
    };
    tracing::warn!(wave = %wave, package = %key.package, "passed its deadline; those that wait for it go without it");
    let work = Work::advance(wave, key, "late", now);
    let writes = vec![
        Write::Node(wave.clone(), key.clone(), node),
        Write::Work(work.clone()),
    ];
    core.store.write(writes).await?;
    Ok(work)
}

/// A node failed for good in these waves. Returns the work that goes on there.
pub async fn failed(
    core: &Core,
    waves: &BTreeSet<WaveId>,
    key: &NodeKey,
    because: &str,
) -> Result<Vec<Work>> {
    let mut works = Vec::new();
    for wave in waves {
        if core.store.wave(wave).await?.is_some() {
            works.push(fail(core, wave, key, because).await?);
        }
    }
    Ok(works)
}

/// A node failed for good.
pub(in super::super) async fn fail(
    core: &Core,
    wave: &WaveId,
    key: &NodeKey,
    because: &str,
) -> Result<Work> {
    let node = Node {
        failed: Some(because.to_owned()),
        ..Node::default()
    };
    let work = Work::advance(wave, key, "failed", core.clock.now());
    let writes = vec![
        Write::Node(wave.clone(), key.clone(), node),
        Write::Work(work.clone()),
    ];
    core.store.write(writes).await?;
    Ok(work)
}
