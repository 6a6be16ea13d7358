//! Taking changes in and working out what follows: accept → plan (design.md 4, 5).
//!
//! `accept` makes a change durable and answers; `plan` does the rest, later, as often as it takes. Planning is a
//! sequence of steps that are each idempotent: a crash between any two of them is repaired by doing all of them again
//! (H3, H7), because every step first looks whether its outcome is there.
//!
//! The order of the steps is the point (H5): a change first makes its own facts and edges durable, and only then reads
//! what other packages say.

mod accept;
mod another;
mod dry;
mod explore;
pub mod impact;
mod import;
mod promotion;
mod publish;
mod replay;
mod waiting;
pub mod wave;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

pub use accept::{Accepted, Posted, accept};
pub use another::{another, successors};
pub use dry::{Foreseen, ForeseenNode, dry_run};
pub use import::{Elsewhere, Imported, Pair, import, lines as import_lines, pair as import_pair};
pub use replay::{replay, waves as waves_of_change};

use crate::model::change::{Change, Planned, Verdict};
use crate::model::document::Document;
use crate::model::edge::{Edge, EdgeRange, edges};
use crate::model::id::{ChangeId, Digest};
use crate::model::name::PackageName;
use crate::model::package::{Kind, Millis, PackageState, RowKey, Top};
use crate::model::work::{Job, Work};
use crate::plan::Rules;
use crate::plan::attach::{Highest, highest_admitted};
use crate::plan::publish::Described;
use crate::semver::Version;
use crate::store::{Published, Store, StoreError, StoreErrorKind, Want, Write};

/// What every step needs.
#[derive(Clone)]
pub struct Core {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The settings that decide.
    pub rules: Arc<Rules>,
    /// The time.
    pub clock: Clock,
    /// Which waves may have ended.
    pub hints: Arc<wave::Hints>,
    /// The graph in memory, once somebody asks whom a version would reach.
    pub impact: Arc<impact::Impact>,
}

impl Core {
    /// What every step needs.
    pub fn new(store: Arc<dyn Store>, rules: Arc<Rules>, clock: Clock) -> Self {
        Self {
            store,
            rules,
            clock,
            hints: Arc::default(),
            impact: Arc::default(),
        }
    }
}

/// Tells the time; a value, so that a test can move it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Millis + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::new(|| jiff::Timestamp::now().as_millisecond())
    }

    /// A clock that asks `now`.
    pub fn new(now: impl Fn() -> Millis + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Milliseconds since 1970.
    pub fn now(&self) -> Millis {
        (self.0)()
    }
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The store failed; the step is repeated.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored document cannot be read any more: a bug, or somebody else wrote to our tables.
    #[error("the stored document of {0} is not readable: {1}")]
    Document(String, String),
}

/// What every step answers.
pub type Result<T> = std::result::Result<T, IngestError>;

/// How often a refused batch is decided anew before the whole step is put off: each refusal means that another decision
/// about the same package was applied, so somebody made progress.
const REFUSALS: usize = 200;

fn contention(name: &PackageName) -> IngestError {
    StoreError::new(
        StoreErrorKind::Contention,
        format!("{name} is being decided about elsewhere"),
    )
    .into()
}

/// Plans an accepted change: everything that follows from it is durable when this answers. Returns the work that it put,
/// so that the dispatcher need not look for it. Planning a change again does nothing new, and returns what is not sent yet.
pub async fn plan(core: &Core, id: &ChangeId, digest: &Digest) -> Result<Vec<Work>> {
    // A large future, which its callers would all carry along.
    Box::pin(plan_one(core, id, digest)).await
}

async fn plan_one(core: &Core, id: &ChangeId, digest: &Digest) -> Result<Vec<Work>> {
    let Some(change) = core.store.change(id).await? else {
        return Ok(Vec::new());
    };
    if change.planned.is_some() {
        return waiting::waiting(core, &change).await;
    }
    // The first document posted under the id is the change's, whichever post is planned first (H19).
    let (first, digest) = match core.store.document(id, &change.digest).await? {
        Some(first) => (Some(first), &change.digest),
        None => (core.store.document(id, digest).await?, digest),
    };
    let Some(json) = first else {
        return Ok(Vec::new());
    };
    let document = Document::parse(&json)
        .map_err(|error| IngestError::Document(id.to_string(), error.to_string()))?;
    let described = describe(core, &document, digest);
    let outcome = match change.kind {
        Kind::Publish => publish::plan(core, &change, &described, &json).await?,
        Kind::Promotion => promotion::plan(core, &change, &described, &json).await?,
    };
    // As they are kept: an earlier try may have decided some of them.
    let (rebuilds, skips) = if outcome.decided {
        count(core, id).await?
    } else {
        (0, 0)
    };
    let planned = Planned {
        at: core.clock.now(),
        verdict: outcome.verdict.unwrap_or(Verdict::Opened),
        rebuilds,
        skips,
    };
    core.store
        .write(vec![Write::Planned(id.clone(), planned.clone())])
        .await?;
    tracing::info!(
        change.id = %id, package = %change.name, version = %change.version, env = %change.env,
        verdict = planned.verdict.code(), rebuilds = planned.rebuilds, skips = planned.skips, "planned"
    );
    Ok(outcome.work)
}

/// How many of a change's decisions are rebuilds, and how many skips.
async fn count(core: &Core, id: &ChangeId) -> Result<(u32, u32)> {
    let (mut rebuilds, mut skips) = (0, 0);
    let mut skip = 0;
    loop {
        let page = core.store.decisions(id, skip, SLICE).await?;
        skip += page.len();
        for decision in &page {
            *(if decision.is_rebuild() {
                &mut rebuilds
            } else {
                &mut skips
            }) += 1;
        }
        if page.len() < SLICE {
            return Ok((rebuilds, skips));
        }
    }
}

/// What planning a change came to.
#[derive(Default)]
struct Outcome {
    /// What the change is; `None` where there is no change.
    verdict: Option<Verdict>,
    work: Vec<Work>,
    /// Whether anything was decided, now or in an earlier try.
    decided: bool,
}

impl Outcome {
    fn of(verdict: Verdict) -> Self {
        Self {
            verdict: Some(verdict),
            ..Self::default()
        }
    }
}

/// What an item of work that sends nothing came to.
#[derive(Default)]
pub struct Handled {
    /// The work that follows.
    pub work: Vec<Work>,
    /// Rebuilds that passed their deadline: to be recovered (H17), or else given up by [`wave::late`].
    pub overdue: Vec<wave::Overdue>,
}

/// Does an item of work that sends nothing: everything that follows from it is durable when this answers. Repeatable.
pub async fn handle(core: &Core, item: &Work) -> Result<Handled> {
    Box::pin(handle_one(core, item)).await
}

async fn handle_one(core: &Core, item: &Work) -> Result<Handled> {
    let mut handled = Handled::default();
    match &item.job {
        Job::Plan { change, digest } => handled.work = plan(core, change, digest).await?,
        Job::Advance { wave, key } => {
            let mut outcome = Outcome::default();
            let mut parents = Parents::default();
            wave::advance(
                core,
                &mut parents,
                wave,
                std::slice::from_ref(key),
                None,
                &mut outcome,
            )
            .await?;
            handled.work = outcome.work;
        }
        Job::Tick { wave } => {
            let ticked = wave::tick(core, wave).await?;
            handled.work = ticked.work;
            handled.overdue = ticked.overdue;
        }
        Job::Collected { wave } => handled.work = wave::collected(core, wave).await?,
        Job::Attached { wave, line, key } => {
            handled.work = wave::join_promotion(core, wave, line, key, item).await?;
        }
        Job::HoldEnds { hold } => {
            handled.work = wave::end_hold(core, &item.package, hold).await?;
        }
        Job::Send { .. } => {}
    }
    Ok(handled)
}

/// A version as the rules see it.
fn describe(core: &Core, document: &Document, digest: &Digest) -> Described {
    Described {
        name: document.name.clone(),
        version: document.version.clone(),
        tag: document.tag.clone(),
        edges: edges(&document.manifest, core.rules.edges).list,
        digest: Some(digest.clone()),
    }
}

/// What planning one change has read of the parents of its dependents: the same few names come up again and again.
#[derive(Default)]
struct Parents {
    tops: HashMap<PackageName, Option<Top>>,
    published: HashMap<PackageName, Arc<Vec<Published>>>,
    highest: HashMap<(PackageName, String), Option<Version>>,
}

impl Parents {
    /// Nothing that was read so far counts any more.
    fn forget(&mut self) {
        *self = Self::default();
    }

    /// Reads the statics of those parents that were not read yet.
    async fn load(&mut self, core: &Core, names: impl Iterator<Item = PackageName>) -> Result<()> {
        let mut missing: Vec<PackageName> =
            names.filter(|name| !self.tops.contains_key(name)).collect();
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let wants: Vec<Want> = missing.iter().map(Want::statics).collect();
        for state in packages(core, &wants).await? {
            self.tops.insert(
                state.name.clone(),
                state.is_managed().then_some(state.top).flatten(),
            );
        }
        Ok(())
    }

    /// Reads, many at a time, what [`Parents::highest`] will need of these edges: the statics of the parents, and, where
    /// their highest version is not admitted, the one version that the range names, or all.
    async fn foresee(&mut self, core: &Core, edges: &[&Edge]) -> Result<()> {
        self.load(core, edges.iter().map(|edge| edge.parent.clone()))
            .await?;
        let (mut exact, mut whole) = (Vec::new(), BTreeSet::new());
        for edge in edges {
            let top = self.tops.get(&edge.parent).and_then(Option::as_ref);
            let needed = highest_admitted(&EdgeRange::of(&edge.range), top, None);
            let asked = (edge.parent.clone(), edge.range.clone());
            if needed != Highest::NeedsPublished || self.highest.contains_key(&asked) {
                continue;
            }
            if let Ok(version) = Version::parse(&edge.range) {
                exact.push((asked, version));
            } else if !self.published.contains_key(&edge.parent) {
                whole.insert(edge.parent.clone());
            }
        }
        let wants: Vec<Want> = exact
            .iter()
            .map(|((parent, _), version)| Want::rows(parent, vec![RowKey::publish(version)]))
            .collect();
        let states = packages(core, &wants).await?;
        for ((asked, version), state) in exact.into_iter().zip(states) {
            let known = state
                .facts(&version)
                .is_some_and(|facts| facts.tag.is_none());
            self.highest.insert(asked, known.then_some(version));
        }
        let lists = stream::iter(whole).map(async |parent| {
            let all = core.store.published(&parent).await?;
            Ok::<_, StoreError>((parent, Arc::new(all)))
        });
        let lists: Vec<_> = lists.buffer_unordered(AT_ONCE).try_collect().await?;
        self.published.extend(lists);
        Ok(())
    }

    /// The highest version of `parent` that `range` admits; loads what is missing.
    async fn highest(
        &mut self,
        core: &Core,
        parent: &PackageName,
        range: &str,
    ) -> Result<Option<Version>> {
        let asked = (parent.clone(), range.to_owned());
        if let Some(answer) = self.highest.get(&asked) {
            return Ok(answer.clone());
        }
        let answer = self.find_highest(core, parent, range).await?;
        self.highest.insert(asked, answer.clone());
        Ok(answer)
    }

    async fn find_highest(
        &mut self,
        core: &Core,
        parent: &PackageName,
        range: &str,
    ) -> Result<Option<Version>> {
        self.load(core, std::iter::once(parent.clone())).await?;
        let top = self.tops.get(parent).and_then(Option::as_ref);
        let parsed = EdgeRange::of(range);
        match highest_admitted(&parsed, top, None) {
            Highest::Version(version) => return Ok(Some(version)),
            Highest::None => return Ok(None),
            Highest::NeedsPublished => {}
        }
        // A range that is one version needs no more than a look at that version.
        if let Ok(exact) = Version::parse(range) {
            let state = read(core, Want::rows(parent, vec![RowKey::publish(&exact)])).await?;
            let known = state.facts(&exact).is_some_and(|facts| facts.tag.is_none());
            return Ok(known.then_some(exact));
        }
        let all = match self.published.get(parent) {
            Some(all) => all.clone(),
            None => Arc::new(core.store.published(parent).await?),
        };
        self.published.insert(parent.clone(), all.clone());
        Ok(match highest_admitted(&parsed, top, Some(&all)) {
            Highest::Version(version) => Some(version),
            Highest::None | Highest::NeedsPublished => None,
        })
    }
}

/// How many reads that have no slices are under way at once.
const AT_ONCE: usize = 16;

/// How many packages are read in one go: so many that others come in between.
const SLICE: usize = 1_000;

/// Reads parts of many packages, one answer a want, in their order.
async fn packages(core: &Core, wants: &[Want]) -> Result<Vec<PackageState>> {
    let mut states = Vec::with_capacity(wants.len());
    for slice in wants.chunks(SLICE) {
        states.extend(core.store.packages(slice).await?);
    }
    Ok(states)
}

/// Reads the parts of one package.
async fn read(core: &Core, want: Want) -> Result<PackageState> {
    let name = want.name.clone();
    let mut states = core.store.packages(std::slice::from_ref(&want)).await?;
    states.pop().ok_or_else(|| {
        StoreError::new(
            StoreErrorKind::Bug,
            format!("the store did not answer about {name}"),
        )
        .into()
    })
}

/// The edges that a published version declares: of the highest from the partition, of an older one from its manifest.
async fn declared(
    core: &Core,
    state: &PackageState,
    version: &crate::semver::Version,
) -> Result<Vec<Edge>> {
    if let Some(top) = state.top.as_ref().filter(|top| top.version == *version) {
        return Ok(top.edges.clone());
    }
    let Some(digest) = state.facts(version).and_then(|facts| facts.digest.as_ref()) else {
        return Ok(Vec::new());
    };
    let Some(json) = core.store.manifest(&state.name, version, digest).await? else {
        return Ok(Vec::new());
    };
    let document = Document::parse(&json).map_err(|error| {
        IngestError::Document(format!("{}@{version}", state.name), error.to_string())
    })?;
    Ok(edges(&document.manifest, core.rules.edges).list)
}

impl Change {
    /// Whether the change is in the store and was planned.
    pub fn is_planned(&self) -> bool {
        self.planned.is_some()
    }
}
