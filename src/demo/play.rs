//! The play: what was there is imported, what follows is published as people would, and one release is promoted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Result;
use super::history::Publish;
use super::progress::Step;
use super::stage::Stage;
use crate::dispatch::worker::{Event, Inbox};
use crate::ingest::import;
use crate::model::id::ChangeId;
use crate::model::name::PackageName;
use crate::query::line::{LineView, line};
use crate::sandbox::{Role, Tarball};
use crate::semver::Version;

/// The size of every tarball, in bytes.
const TARBALL: u64 = 2_048;

/// How many packages are imported at once; the store writes what comes together in one commit.
const AT_ONCE: usize = 32;

/// How long to wait for an event before the store is asked: events can be missed, the store cannot.
const AGAIN: Duration = Duration::from_millis(250);

/// What the import did.
pub struct Imported {
    /// How many versions.
    pub versions: usize,
    /// Of how many packages.
    pub packages: usize,
    /// How long it took.
    pub took: Duration,
}

/// The promotion that was played.
pub struct Promoted {
    /// The package.
    pub name: PackageName,
    /// Its version.
    pub version: Version,
    /// What was posted, in the order of the environments.
    pub posts: Vec<Post>,
}

/// One promotion as it was posted.
pub struct Post {
    /// The environment.
    pub env: String,
    /// The change.
    pub id: ChangeId,
    /// How long it took until everything that followed had been sent and answered.
    pub took: Duration,
}

/// The players.
pub struct Play<'a> {
    stage: &'a mut Stage,
    bars: bool,
    client: reqwest::Client,
    by_hand: usize,
}

impl<'a> Play<'a> {
    /// Takes the stage; `bars` are shown on a terminal.
    pub fn new(stage: &'a mut Stage, bars: bool) -> Result<Self> {
        Ok(Self {
            stage,
            bars,
            // Everything is on loopback.
            client: reqwest::Client::builder().no_proxy().build()?,
            by_hand: 0,
        })
    }

    /// Makes versions known that were there before us: the registry has them, nothing is sent for them.
    pub async fn import(&self, before: &[Publish]) -> Result<Imported> {
        let step = Step::begin("importing", before.len(), self.bars);
        // Of one package in their order, packages beside each other.
        let mut packages: BTreeMap<&PackageName, Vec<&Publish>> = BTreeMap::new();
        for publish in before {
            packages.entry(&publish.name).or_default().push(publish);
        }
        let count = packages.len();
        stream::iter(packages.into_values().map(Ok))
            .try_for_each_concurrent(AT_ONCE, |versions| self.import_package(versions, &step))
            .await?;
        let versions = before.len();
        step.line(|| format!("{versions} versions of {count} packages"));
        Ok(Imported {
            versions,
            packages: count,
            took: step.end(),
        })
    }

    async fn import_package(&self, versions: Vec<&Publish>, step: &Step) -> Result<()> {
        for publish in versions {
            self.stage
                .sandbox
                .publish(publish.document(), &Tarball::Synthetic(TARBALL))?;
            import(&self.stage.running.core, &publish.parsed()?).await?;
            step.inc(1);
        }
        Ok(())
    }

    /// Publishes by hand: into the registry, from where the build service takes it and tells us. Within a release one
    /// after the other, each planned before the next, as a release tool does; between two releases until nothing moves
    /// any more, since days lay between them. Returns how long it took.
    pub async fn publish(&mut self, publishes: &[Publish]) -> Result<Duration> {
        self.stage.fail(Role::Warehouse);
        let step = Step::begin("publishing", publishes.len(), self.bars);
        let mut seen = Seen::new(&self.stage.running.inbox);
        for release in publishes.chunk_by(|one, next| one.release == next.release) {
            let (started, before) = (Instant::now(), seen.sends());
            for publish in release {
                step.now(|| at_work(publish, &seen));
                self.by_hand += 1;
                self.publish_by_hand(publish).await?;
                let id = ChangeId::of_publish(&publish.name, &publish.version, None);
                seen.planned(self.stage, &id).await?;
                step.inc(1);
            }
            let rest = self.stage.rest(self.by_hand);
            tokio::pin!(rest);
            while timeout(AGAIN, &mut rest).await.is_err() {
                step.now(|| {
                    release
                        .last()
                        .map_or_else(String::new, |last| at_work(last, &seen))
                });
            }
            step.line(|| {
                format!(
                    "{:<8} {:>3} by hand, {:>5} sends, {:>5.1} s",
                    release.first().map_or("", |one| &one.release),
                    release.len(),
                    seen.sends() - before,
                    started.elapsed().as_secs_f64()
                )
            });
        }
        Ok(step.end())
    }

    /// As [`crate::sandbox::Sandbox::publish_by_hand`], with one client for all of them: making one takes long.
    async fn publish_by_hand(&self, publish: &Publish) -> Result<()> {
        let body = json!({"document": publish.document(), "size": TARBALL, "notify": true});
        let url = format!("{}/publish", self.stage.sandbox.control_url());
        let response = self.client.post(url).json(&body).send().await?;
        if response.status().is_success() {
            return Ok(());
        }
        let Publish { name, version, .. } = publish;
        Err(format!("{name}@{version} was refused: {}", response.text().await?).into())
    }

    /// Promotes the release with the most dependents in its line, to each environment after the first. `None` if no
    /// release has any.
    pub async fn promote(&mut self, publishes: &[Publish]) -> Result<Option<Promoted>> {
        let core = self.stage.running.core.clone();
        let Some((publish, _)) = richest(&*core.store, publishes).await? else {
            return Ok(None);
        };
        self.stage.fail(Role::Build);
        let environments = core.rules.environments.iter().skip(1);
        let environments: Vec<String> = environments.map(ToString::to_string).collect();
        let step = Step::begin("promoting", environments.len(), self.bars);
        let mut posts = Vec::new();
        for env in environments {
            step.now(|| format!("{}@{} to {env}", publish.name, publish.version));
            let started = Instant::now();
            let id = self.post(&env, publish).await?;
            self.stage.rest(self.by_hand).await;
            let took = started.elapsed();
            step.line(|| {
                let Publish { name, version, .. } = publish;
                format!("{name}@{version} to {env}, {:.1} s", took.as_secs_f64())
            });
            step.inc(1);
            posts.push(Post { env, id, took });
        }
        // Whoever tries something out now publishes.
        self.stage.fail(Role::Warehouse);
        Ok(Some(Promoted {
            name: publish.name.clone(),
            version: publish.version.clone(),
            posts,
        }))
    }

    /// What the build service posts when somebody promotes a version: the document without `__published`.
    async fn post(&self, env: &str, publish: &Publish) -> Result<ChangeId> {
        let mut document = publish.document();
        document["env"] = json!(env);
        let response = self
            .client
            .post(format!("{}/v2/change/{env}", self.stage.running.url()))
            .json(&json!({"data": document, "promote": true}))
            .send()
            .await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        match answer["id"].as_str() {
            Some(id) if status.is_success() => Ok(ChangeId::new(id)),
            _ => Err(format!("the promotion to {env} was refused: {answer}").into()),
        }
    }
}

/// The publish whose release line has the most dependents, the later one if there are several; with its line.
pub async fn richest<'a>(
    store: &dyn crate::store::Store,
    publishes: &'a [Publish],
) -> Result<Option<(&'a Publish, LineView)>> {
    let mut best: Option<(&Publish, LineView)> = None;
    for publish in publishes {
        let Some(found) = line(store, &publish.name, Some(&publish.version)).await? else {
            continue;
        };
        let most = best.as_ref().map_or(1, |(_, line)| line.dependents.len());
        if found.dependents.len() >= most {
            best = Some((publish, found));
        }
    }
    Ok(best)
}

fn at_work(publish: &Publish, seen: &Seen) -> String {
    let Publish { name, version, .. } = publish;
    format!("{name}@{version}, {} rebuilds sent", seen.sends())
}

/// What the worker says while it works.
struct Seen {
    events: Receiver<Event>,
    sends: Arc<AtomicU64>,
    counting: JoinHandle<()>,
}

impl Seen {
    fn new(inbox: &Inbox) -> Self {
        let sends = Arc::new(AtomicU64::new(0));
        let (mut events, count) = (inbox.events(), sends.clone());
        // A task of its own, so that nothing is missed while somebody waits for something else.
        let counting = tokio::spawn(async move {
            loop {
                match events.recv().await {
                    Ok(Event::Settled(_)) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Ok(Event::Planned(_)) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Self {
            events: inbox.events(),
            sends,
            counting,
        }
    }

    /// How many attempts at sending there were.
    fn sends(&self) -> u64 {
        self.sends.load(Ordering::Relaxed)
    }

    /// Waits until a change is planned.
    async fn planned(&mut self, stage: &Stage, id: &ChangeId) -> Result<()> {
        loop {
            match timeout(AGAIN, self.events.recv()).await {
                Ok(Ok(Event::Planned(change))) if change == *id => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => {
                    let change = stage.running.core.store.change(id).await?;
                    if change.is_some_and(|change| change.is_planned()) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.counting.abort();
    }
}
