//! Whether a wave has ended: every node is terminal, and so are the waves that it waits for (protocol.md, WAVE).

use super::super::{Core, Outcome, Result};
use super::PAGE;
use super::pending::missed;
use crate::model::name::PackageName;
use crate::model::wave::{Node, NodeKey, PlanNode, Standing, Wave, WaveMove, WaveState};
use crate::model::work::Work;
use crate::store::Committed;

/// What a look at a whole wave found.
#[derive(Default)]
pub(super) struct Survey {
    /// The nodes that are not terminal, with what they wait for.
    pub unfinished: Vec<(PlanNode, Node)>,
}

/// Reads plan and nodes of a wave.
pub(super) async fn survey(core: &Core, wave: &Wave) -> Result<Survey> {
    let mut survey = Survey::default();
    let mut nodes: std::collections::BTreeMap<NodeKey, Node> = std::collections::BTreeMap::new();
    let mut after: Option<NodeKey> = None;
    loop {
        let page = core.store.node_page(&wave.id, after.as_ref(), PAGE).await?;
        let full = page.len() == PAGE;
        after = page.last().map(|(key, _)| key.clone());
        nodes.extend(page);
        if !full {
            break;
        }
    }
    let mut after: Option<PackageName> = None;
    while let Some(plan) = &wave.plan {
        let page = core
            .store
            .plan_page(&wave.id, plan, after.as_ref(), PAGE)
            .await?;
        let full = page.len() == PAGE;
        after = page.last().map(|row| row.key.package.clone());
        for row in page {
            let node = nodes.remove(&row.key).unwrap_or_default();
            if !node.standing().is_terminal() {
                survey.unfinished.push((row, node));
            }
        }
        if !full {
            break;
        }
    }
    for (_, node) in nodes {
        if let Some(added) = node.added.clone()
            && !node.standing().is_terminal()
        {
            survey.unfinished.push((added, node));
        }
    }
    Ok(survey)
}

/// Ends the wave if nothing is outstanding.
pub(super) async fn close(core: &Core, wave: &Wave, work: &mut Vec<Work>) -> Result<bool> {
    let survey = survey(core, wave).await?;
    close_if(core, wave, &survey, work).await
}

/// As [`close`], after a look that was taken already. What turns out to be missing is sent: its work.
pub(super) async fn close_if(
    core: &Core,
    wave: &Wave,
    found: &Survey,
    work: &mut Vec<Work>,
) -> Result<bool> {
    if !found.unfinished.is_empty() {
        return Ok(false);
    }
    for origin in core.store.nodes(&wave.id, &wave.start.origins()).await? {
        if origin.standing() == Standing::Waiting {
            return Ok(false);
        }
    }
    for other in &wave.pending_on {
        let other = core.store.wave(other).await?;
        if other.is_some_and(|other| !other.state.is_ended()) {
            return Ok(false);
        }
    }
    if !wave.pending_on.is_empty() {
        // The order matters: who is not missing any more is a node, and what it comes to is looked at afterwards.
        let mut outcome = Outcome::default();
        let any = missed(core, wave, &mut outcome).await?;
        work.extend(outcome.work);
        if any || !survey(core, wave).await?.unfinished.is_empty() {
            return Ok(false);
        }
    }
    let to = WaveMove {
        from: WaveState::Open,
        to: WaveState::Closed,
        at: core.clock.now(),
        plan: None,
    };
    let closed = core.store.move_wave(&wave.id, &to).await? == Committed::Applied;
    if closed {
        tracing::info!(wave = %wave.id, nodes = wave.nodes, "wave ended");
    }
    core.hints.forget(&wave.id);
    Ok(closed)
}
