//! What happened, counted from the store alone: what the demo itself believes to have done is not asked.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Result;
use crate::ingest::Core;
use crate::model::change::{Change, Verdict};
use crate::model::decision::Decision;
use crate::model::id::{ChangeId, RebuildId};
use crate::model::package::Kind;
use crate::query::line::{LineView, line};
use crate::query::rebuild::{Progress, Standing, progresses};
use crate::query::sentence;

/// How much is read at a time.
const PAGE: usize = 500;

/// How many reads at once.
const AT_ONCE: usize = 8;

/// Everything that the summary tells.
pub struct Facts {
    /// The changes, oldest first.
    pub changes: Vec<Told>,
    /// The rebuilds, in the order of their ids, which is the order in time.
    pub rebuilds: Vec<Rebuilt>,
    /// The skips by reason, with one of each, most frequent first.
    pub skips: Vec<Skips>,
    /// The longest release line of each package, longest first.
    pub lines: Vec<LineView>,
}

/// A change and what was decided for it.
pub struct Told {
    /// The change.
    pub change: Change,
    /// Its decisions.
    pub decisions: Vec<Decision>,
}

/// A rebuild and where it stands.
pub struct Rebuilt {
    /// The decision that it came from.
    pub decision: Decision,
    /// Publish or promotion.
    pub kind: Kind,
    /// Where it stands.
    pub progress: Progress,
}

/// The skips for one reason.
pub struct Skips {
    /// The reason's stable name.
    pub reason: &'static str,
    /// How many.
    pub count: usize,
    /// One of them in words.
    pub example: String,
}

/// How a change came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Somebody published.
    ByHand,
    /// The notice of a rebuild of ours.
    Notice,
    /// Somebody promoted.
    Promotion,
    /// The notice of a build that a promotion asked for.
    PromotionNotice,
}

impl Told {
    /// How it came.
    pub fn source(&self) -> Source {
        let answers = self
            .change
            .planned
            .as_ref()
            .is_some_and(|planned| matches!(planned.verdict, Verdict::Answers { .. }));
        match (self.change.kind, answers) {
            (Kind::Publish, false) => Source::ByHand,
            (Kind::Publish, true) => Source::Notice,
            (Kind::Promotion, false) => Source::Promotion,
            (Kind::Promotion, true) => Source::PromotionNotice,
        }
    }

    /// How many of its decisions are rebuilds.
    pub fn rebuilds(&self) -> usize {
        self.decisions.iter().filter(|one| one.is_rebuild()).count()
    }
}

impl Facts {
    /// Reads everything.
    pub async fn gather(core: &Core) -> Result<Self> {
        let store = &*core.store;
        let mut changes = Vec::new();
        let mut before = None;
        loop {
            let page = store.changes(before, PAGE).await?;
            let full = page.len() == PAGE;
            before = page.last().map(|last| (last.accepted, last.id.clone()));
            changes.extend(page);
            if !full {
                break;
            }
        }
        changes.reverse();
        let changes: Vec<Told> = stream::iter(changes)
            .map(|change| async {
                let decisions = decisions(core, &change.id).await?;
                Ok::<_, Box<dyn std::error::Error>>(Told { change, decisions })
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let rebuilds = rebuilds(core, &changes).await?;
        Ok(Self {
            skips: skips(&changes),
            lines: lines(core, &changes).await?,
            changes,
            rebuilds,
        })
    }

    /// How many changes came in such a way.
    pub fn from(&self, source: Source) -> usize {
        let changes = self.changes.iter();
        changes.filter(|one| one.source() == source).count()
    }

    /// The rebuilds that were decided for a change and for what followed from it.
    pub fn wave(&self, id: &ChangeId) -> Vec<&Rebuilt> {
        let of = |one: &&Rebuilt| one.decision.wave.as_str() == id.as_str();
        self.rebuilds.iter().filter(of).collect()
    }

    /// How many rebuilds stand so.
    pub fn standing(&self, kind: Kind) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for one in self.rebuilds.iter().filter(|one| one.kind == kind) {
            *counts.entry(words(one.progress.state)).or_default() += 1;
        }
        counts
    }

    /// How many attempts at sending there were.
    pub fn attempts(&self) -> usize {
        let rebuilds = self.rebuilds.iter();
        rebuilds.map(|one| one.progress.attempts.len()).sum()
    }
}

fn words(standing: Standing) -> &'static str {
    match standing {
        Standing::Queued => "waiting",
        Standing::Sending => "being sent",
        Standing::Sent => "sent, without a notice yet",
        Standing::Published => "built",
        Standing::Dead => "given up",
        Standing::Superseded => "superseded",
        Standing::Cancelled => "cancelled",
        Standing::Foreign => "foreign",
        Standing::Replaced => "replaced",
    }
}

async fn decisions(core: &Core, id: &ChangeId) -> Result<Vec<Decision>> {
    let mut all = Vec::new();
    loop {
        let page = core.store.decisions(id, all.len(), PAGE).await?;
        let full = page.len() == PAGE;
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

async fn rebuilds(core: &Core, changes: &[Told]) -> Result<Vec<Rebuilt>> {
    let mut decided = BTreeMap::new();
    for told in changes {
        for decision in &told.decisions {
            if let Some(id) = &decision.rebuild {
                decided
                    .entry(id.clone())
                    .or_insert((decision, told.change.kind));
            }
        }
    }
    let ids: Vec<RebuildId> = decided.keys().cloned().collect();
    let mut stand = BTreeMap::new();
    for ids in ids.chunks(PAGE) {
        stand.extend(progresses(&*core.store, ids).await?);
    }
    let rebuilt = decided.into_iter().filter_map(|(id, (decision, kind))| {
        Some(Rebuilt {
            progress: stand.remove(&id)?,
            decision: decision.clone(),
            kind,
        })
    });
    Ok(rebuilt.collect())
}

fn skips(changes: &[Told]) -> Vec<Skips> {
    let mut found: BTreeMap<&'static str, (usize, &Decision)> = BTreeMap::new();
    let all = changes.iter().flat_map(|told| &told.decisions);
    for decision in all.filter(|one| !one.is_rebuild()) {
        let entry = found.entry(decision.reason.code()).or_insert((0, decision));
        entry.0 += 1;
        // The latest one is the one that people can still look up best.
        entry.1 = decision;
    }
    let mut skips: Vec<Skips> = found
        .into_iter()
        .map(|(reason, (count, decision))| Skips {
            reason,
            count,
            example: sentence::decision(decision),
        })
        .collect();
    skips.sort_by_key(|one| std::cmp::Reverse(one.count));
    skips
}

async fn lines(core: &Core, changes: &[Told]) -> Result<Vec<LineView>> {
    let published: BTreeSet<_> = changes
        .iter()
        .filter(|told| told.change.kind == Kind::Publish)
        .map(|told| (&told.change.name, &told.change.version))
        .collect();
    let found: Vec<Option<LineView>> = stream::iter(published)
        .map(|(name, version)| line(&*core.store, name, Some(version)))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut longest: BTreeMap<_, LineView> = BTreeMap::new();
    for line in found.into_iter().flatten() {
        let best = longest.entry(line.pkg.clone());
        let entry = best.or_insert_with(|| line.clone());
        if line.dependents.len() >= entry.dependents.len() {
            *entry = line;
        }
    }
    let mut lines: Vec<LineView> = longest.into_values().collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.dependents.len()));
    Ok(lines)
}
