//! `?wait=SECONDS`: the answer to a change waits until its first level is sent (design.md 6).
//!
//! The worker's events say when to look; what is looked at is the store, so that an event that was missed costs a second
//! and nothing else. The change is durable before anybody waits: whatever goes wrong here, the answer stays 200.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::server::ApiState;
use crate::dispatch::worker::Event;
use crate::model::change::Verdict;
use crate::model::decision::{Decision, RebuildIndex};
use crate::model::id::{ChangeId, RebuildId};
use crate::model::name::PackageName;
use crate::query::rebuild::{Standing, env, standings};
use crate::semver::Version;
use crate::store::Result;

/// The store is not asked more often.
const PAUSE: Duration = Duration::from_millis(50);

/// How long to go without looking when no event says to.
const AT_LEAST: Duration = Duration::from_secs(1);

/// How many decisions are read at a time.
const PAGE: usize = 500;

/// What came of waiting.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Every rebuild of the first level was sent, or ended.
    pub done: bool,
    /// Whether the change was planned; before that, no rebuild is known.
    pub planned: bool,
    /// The rebuilds of the first level, in the order of names.
    pub rebuilds: Vec<FirstLevel>,
}

/// One rebuild of the first level.
#[derive(Debug, Serialize)]
pub struct FirstLevel {
    /// The rebuild.
    pub id: RebuildId,
    /// The package.
    pub package: PackageName,
    /// The version that is sent.
    pub version: Version,
    /// The environment; `null` for a publish.
    pub env: Option<String>,
    /// Where it stands.
    pub state: Standing,
}

/// Waits until the rebuilds that the change decided are sent or have ended, or until the deadline, or until the process is
/// told to stop.
pub async fn first_level(
    state: &ApiState,
    id: &ChangeId,
    mut events: Receiver<Event>,
    deadline: Instant,
) -> Outcome {
    let mut level = Level::default();
    // Even `wait=0` looks once.
    level.look_or_log(state, id, &Look::Everything).await;
    let watched = async {
        while !level.is_done() {
            sleep(PAUSE).await;
            let what = heard(&mut events, id, &level).await;
            level.look_or_log(state, id, &what).await;
        }
    };
    tokio::select! {
        () = state.stopping.cancelled() => {}
        () = watched => {}
        () = sleep_until(deadline) => {}
    }
    level.outcome()
}

/// What to look at again.
enum Look {
    Everything,
    These(Vec<RebuildId>),
}

/// Waits for an event that concerns the change, or a second; takes in whatever else has come.
async fn heard(events: &mut Receiver<Event>, id: &ChangeId, level: &Level) -> Look {
    let until = Instant::now() + AT_LEAST;
    let mut settled = Vec::new();
    loop {
        let event = if settled.is_empty() {
            match timeout_at(until, events.recv()).await {
                Ok(Ok(event)) => event,
                // Lagged behind, or nothing was heard.
                Ok(Err(RecvError::Lagged(_))) | Err(_) => return Look::Everything,
                // The worker is gone: what is there now is all there will be for a while.
                Ok(Err(RecvError::Closed)) => {
                    sleep_until(until).await;
                    return Look::Everything;
                }
            }
        } else {
            match events.try_recv() {
                Ok(event) => event,
                Err(_) => return Look::These(settled),
            }
        };
        match event {
            Event::Planned(change)
                if !level.planned && (change == *id || level.follows(&change)) =>
            {
                return Look::Everything;
            }
            Event::Settled(rebuild) if level.waits_for(&rebuild) => settled.push(rebuild),
            _ => {}
        }
    }
}

/// What is known of the first level.
#[derive(Default)]
struct Level {
    planned: bool,
    /// The change that the waited one repeats.
    of: Option<ChangeId>,
    rebuilds: BTreeMap<RebuildId, (RebuildIndex, Standing)>,
}

impl Level {
    fn is_done(&self) -> bool {
        self.planned
            && self
                .rebuilds
                .values()
                .all(|(_, standing)| standing.is_settled())
    }

    fn follows(&self, change: &ChangeId) -> bool {
        self.of.as_ref() == Some(change)
    }

    fn waits_for(&self, id: &RebuildId) -> bool {
        self.rebuilds
            .get(id)
            .is_some_and(|(_, standing)| !standing.is_settled())
    }

    async fn look_or_log(&mut self, state: &ApiState, id: &ChangeId, what: &Look) {
        if let Err(error) = self.look(state, id, what).await {
            tracing::warn!(change.id = %id, %error, "waiting goes on although the store does not answer");
        }
    }

    async fn look(&mut self, state: &ApiState, id: &ChangeId, what: &Look) -> Result<()> {
        if !self.planned {
            self.plan(state, id).await?;
        }
        let waited: Vec<RebuildIndex> = self
            .rebuilds
            .iter()
            .filter(|(id, (_, standing))| {
                !standing.is_settled()
                    && match what {
                        Look::Everything => true,
                        Look::These(these) => these.contains(id),
                    }
            })
            .map(|(_, (index, _))| index.clone())
            .collect();
        let found = standings(&*state.core.store, &waited).await?;
        for (index, standing) in waited.into_iter().zip(found) {
            self.rebuilds.insert(index.id.clone(), (index, standing));
        }
        Ok(())
    }

    /// Learns the rebuilds, once the change is planned. A repeated promotion waits for those of the one that it repeats.
    async fn plan(&mut self, state: &ApiState, id: &ChangeId) -> Result<()> {
        let store = &*state.core.store;
        let mut id = self.of.clone().unwrap_or_else(|| id.clone());
        let planned = loop {
            let Some(planned) = store.change(&id).await?.and_then(|change| change.planned) else {
                return Ok(());
            };
            match planned.verdict {
                Verdict::Duplicate { of } if self.of.is_none() => {
                    self.of = Some(of.clone());
                    id = of;
                }
                verdict => break verdict,
            }
        };
        tracing::debug!(change.id = %id, verdict = planned.code(), "planned; waiting for what it decided");
        let mut skip = 0;
        loop {
            let page: Vec<Decision> = store.decisions(&id, skip, PAGE).await?;
            skip += page.len();
            let ids: Vec<RebuildId> = page
                .iter()
                .filter_map(|decision| decision.rebuild.clone())
                .collect();
            for index in store.rebuilds(&ids).await?.into_iter().flatten() {
                self.rebuilds
                    .insert(index.id.clone(), (index, Standing::Queued));
            }
            if page.len() < PAGE {
                self.planned = true;
                return Ok(());
            }
        }
    }

    fn outcome(self) -> Outcome {
        let done = self.is_done();
        let view = |(index, state): (RebuildIndex, Standing)| FirstLevel {
            env: env(&index.key),
            id: index.id,
            package: index.name,
            version: index.key.version,
            state,
        };
        let mut rebuilds: Vec<FirstLevel> = self.rebuilds.into_values().map(view).collect();
        rebuilds.sort_by(|one, other| one.package.cmp(&other.package));
        Outcome {
            done,
            planned: self.planned,
            rebuilds,
        }
    }
}
