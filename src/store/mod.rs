//! The store: everything feedsme remembers, as domain verbs over two real databases.
//!
//! # The contract
//!
//! Both implementations keep these words; the suite in `tests/it/store.rs` runs through any of them.
//!
//! * **Durable.** A verb that answered `Ok` survives the death of the process; SQLite also a power cut (with Apache
//!   Cassandra that depends on its commit log, H25).
//! * **A verb is the unit.** Verbs that take several things may do them one by one: a death in between leaves a
//!   prefix. Nothing else is atomic across verbs, and callers never rely on it: every step is idempotent and is
//!   repeated from the work item (design.md 4).
//! * **One partition decides.** [`Store::commit`] is the only conditional write about a package, and it touches one
//!   package. On Cassandra it is one lightweight transaction, on SQLite one transaction. `Applied` and `Refused` are
//!   certain; an unknown outcome is resolved inside the store (H9) or comes out as an error, never as a guess.
//! * **Projections** (edges, lines, heads) are written with the stamp of the batch that decided them; a write with a
//!   lower stamp than what is there changes nothing (H19, H20).
//! * **Write-once** columns keep their first value.
//! * **Reads** see every write that was answered before the read began, from whichever replica.
//! * **Pages** are in the order of their key and resume after the last key seen; a page of fewer than `limit` entries
//!   is the last.

pub mod cassandra;
pub mod lawful;
mod lists;
pub mod sqlite;
mod tops;

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::model::change::{Change, Planned};
use crate::model::decision::{Decision, RebuildIndex};
use crate::model::env::Env;
use crate::model::id::{ChangeId, Digest, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{
    Cause, Facts, Head, Millis, PackageState, Rebuild, RebuildState, RowKey, Slot, Stamp, Top,
};
use crate::model::wave::{BuildOutcome, Hold, PlanNode, Wave, WaveMove};
use crate::model::work::{Shard, Work};
use crate::semver::Version;

/// What failed, by what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The database cannot be reached or does not answer: try later (503 with `Retry-After`).
    Away,
    /// Too many writers on one thing: try again soon.
    Contention,
    /// The outcome of a write is unknown: the same step must be repeated.
    Unknown,
    /// The stored data or the code is wrong: trying again will not help.
    Bug,
}

/// A failure of the store; the source is for the log, never for a client.
#[derive(Debug, thiserror::Error)]
#[error("store: {message}")]
pub struct StoreError {
    /// What a caller can do.
    pub kind: StoreErrorKind,
    /// For the log.
    pub message: String,
}

impl StoreError {
    /// A failure of that kind.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

pub use self::tops::{TopRow, Tops};
pub use crate::model::wave::{Node, NodeKey};

/// What every verb answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Which part of a package's partition to read; the statics are always read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The package.
    pub name: PackageName,
    /// Also what the highest version declares; else `top.edges` is left empty.
    pub top_edges: bool,
    /// Rows by key; the ones that do not exist are left out.
    pub rows: Vec<RowKey>,
    /// Reservations, each with the publish row of its version.
    pub open: WantOpen,
    /// Also every publish row whose version text begins with one of these, such as `5.0.1-`.
    pub prefixes: Vec<String>,
    /// The versions, in whatever state, whose text begins with one of these: what cannot be given out any more.
    pub taken: Vec<String>,
    /// Edge summaries by (parent, range).
    pub edges: Vec<(PackageName, String)>,
    /// Attachments by (parent, parent version).
    pub attached: Vec<(PackageName, Version)>,
}

/// Which reservations to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantOpen {
    /// None.
    No,
    /// That of one wave.
    Of(WaveId),
    /// All.
    All,
}

impl Want {
    /// The statics alone.
    pub fn statics(name: &PackageName) -> Self {
        Self {
            name: name.clone(),
            top_edges: false,
            rows: Vec::new(),
            open: WantOpen::No,
            prefixes: Vec::new(),
            taken: Vec::new(),
            edges: Vec::new(),
            attached: Vec::new(),
        }
    }

    /// The statics and these rows.
    pub fn rows(name: &PackageName, rows: Vec<RowKey>) -> Self {
        Self {
            rows,
            ..Self::statics(name)
        }
    }
}

/// A conditional batch on one package's partition. Everything happens or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageCommit {
    /// The package.
    pub name: PackageName,
    /// `Some(s)`: refused unless `seq` is `s` (0: the package is unknown); `seq` becomes `s + 1`. `None`: `seq` is
    /// neither looked at nor moved, and only rows may be written, each under a condition of its own.
    pub expect_seq: Option<u64>,
    /// New values of the statics; `None` leaves one as it is.
    pub statics: Statics,
    /// Writes of rows.
    pub rows: Vec<RowWrite>,
    /// Edge summaries to set: (parent, range) → the highest version that declares it.
    pub edges: Vec<(PackageName, String, Version)>,
    /// Attachments to set: (parent, parent version) → the version attached.
    pub attached: Vec<(PackageName, Version, Version)>,
}

impl PackageCommit {
    /// An empty batch under that `seq`.
    pub fn at(name: &PackageName, seq: u64) -> Self {
        Self {
            name: name.clone(),
            expect_seq: Some(seq),
            statics: Statics::default(),
            rows: Vec::new(),
            edges: Vec::new(),
            attached: Vec::new(),
        }
    }

    /// A write of one row under its own condition.
    pub fn row(name: &PackageName, write: RowWrite) -> Self {
        Self {
            expect_seq: None,
            rows: vec![write],
            ..Self::at(name, 0)
        }
    }
}

/// New values of a partition's statics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statics {
    /// The highest stamp given out.
    pub stamp: Option<Stamp>,
    /// The head of the release lines.
    pub head: Option<Head>,
    /// The highest published version.
    pub top: Option<Top>,
    /// The Node software's single parent; `Some(None)` clears it.
    pub dependent_of: Option<Option<PackageName>>,
    /// Reservations to add.
    pub open: BTreeMap<WaveId, Version>,
    /// Reservations to remove.
    pub close: Vec<WaveId>,
}

/// One row of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWrite {
    /// Which row.
    pub key: RowKey,
    /// What must be so, else the whole batch is refused.
    pub expect: Expect,
    /// For a row that does not exist yet: its `born`; kept if it exists.
    pub born: u64,
    /// Replaces all facts.
    pub facts: Option<Facts>,
    /// Replaces all rebuild columns.
    pub rebuild: Option<Rebuild>,
    /// Changes some rebuild columns of the rebuild that is there.
    pub patch: Option<RebuildPatch>,
}

impl RowWrite {
    /// A write that changes nothing yet.
    pub fn new(key: RowKey, expect: Expect, born: u64) -> Self {
        Self {
            key,
            expect,
            born,
            facts: None,
            rebuild: None,
            patch: None,
        }
    }
}

/// The condition of a row write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// None of its own; the batch must be under a `seq`, and must not touch rebuild columns that exist.
    Nothing,
    /// The row does not exist.
    Absent,
    /// The row has no rebuild (or does not exist).
    NoRebuild,
    /// The row has this rebuild, in this state, after this attempt.
    Rebuild {
        /// The rebuild.
        id: RebuildId,
        /// Its state.
        state: RebuildState,
        /// The number of its last claim.
        attempt: u32,
    },
}

/// New values of some rebuild columns; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebuildPatch {
    /// The state.
    pub state: Option<RebuildState>,
    /// The number of the claim.
    pub attempt: Option<u32>,
    /// The attempts that count.
    pub tries: Option<u32>,
    /// Who claimed it.
    pub owner: Option<String>,
    /// Not before.
    pub due: Option<Millis>,
    /// Waves that wait for it from now on as well.
    pub join: Vec<WaveId>,
    /// Why it ended.
    pub ended_because: Option<String>,
    /// The change that was its notice.
    pub confirmed_by: Option<ChangeId>,
}

/// What became of a conditional batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All of it is there.
    Applied,
    /// A condition did not hold; nothing was written. Read again and decide again.
    Refused,
}

/// A published version as other packages' decisions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The version.
    pub version: Version,
    /// Of a version that we made, its origin.
    pub origin: Option<Version>,
    /// The tag it came under, if not `latest`.
    pub tag: Option<String>,
}

/// What `dependents` holds: parent → dependent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependent {
    /// The dependent.
    pub dependent: PackageName,
    /// Its highest published version.
    pub top: Version,
    /// The range that version declares; `None` if it dropped the dependency.
    pub range: Option<String>,
}

/// A release line without its dependents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The package.
    pub package: PackageName,
    /// The version.
    pub version: Version,
    /// The version of the line before.
    pub previous: Option<Version>,
}

/// A projection: what a batch decided, written where others read it. Always with the stamp of that batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projection {
    /// `dependents`: the dependent's highest version and its range.
    Dependent {
        /// The parent.
        parent: PackageName,
        /// The row.
        row: Dependent,
    },
    /// `dependents_old`: the highest version of the dependent that declares the range.
    Range {
        /// The parent.
        parent: PackageName,
        /// The dependent.
        dependent: PackageName,
        /// The range.
        range: String,
        /// The version.
        version: Version,
    },
    /// `release_line`.
    Line(Line),
    /// `release_line_head`.
    Head(Line),
    /// `release_line_dep`: the dependent goes with the line at this version.
    LineDependent {
        /// The line's package.
        package: PackageName,
        /// The line's version.
        version: Version,
        /// The dependent.
        dependent: PackageName,
        /// Its version.
        dependent_version: Version,
    },
    /// `dependent_of` (rule 6); `None` removes it.
    DependentOf {
        /// The dependent.
        package: PackageName,
        /// Its parent.
        parent: Option<PackageName>,
    },
}

/// One promotion of a version to an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// The version.
    pub version: Version,
    /// Counts the promotions of the package to the environment, from 1.
    pub generation: u32,
    /// Passed on to the build service.
    pub promote: bool,
    /// The change.
    pub change: ChangeId,
    /// When it was planned.
    pub at: Millis,
}

/// What an attempt at sending came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// When it was claimed.
    pub started: Millis,
    /// When its result was known.
    pub ended: Millis,
    /// Who made it.
    pub owner: String,
    /// `sent`, `retry`, `paused`, `exists`, `dead`, `cancelled`: what the neighbour's answer meant.
    pub outcome: String,
    /// Which neighbour answered.
    pub neighbour: String,
    /// Whether the request may have reached the build service or the warehouse (H12).
    pub may_have_reached: bool,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// For operators.
    pub message: String,
}

/// A write without a condition of its own.
#[expect(
    clippy::large_enum_variant,
    reason = "lists of writes are short and live for one call"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Keeps a posted document, by change and digest; one that is there stays.
    Document {
        /// The change it was posted as.
        change: ChangeId,
        /// Its digest.
        digest: Digest,
        /// Its bytes.
        json: Vec<u8>,
    },
    /// Keeps a change; one that is there stays as it is.
    Change(Box<Change>),
    /// Keeps the manifest document of a version, by digest; written before the batch that names it (H19).
    Manifest {
        /// The package.
        name: PackageName,
        /// The version.
        version: Version,
        /// The document's digest.
        digest: Digest,
        /// The document.
        json: Vec<u8>,
    },
    /// What planning made of a change. Write-once.
    Planned(ChangeId, Planned),
    /// A decision of a change, keyed by (wave, dependent, rebuilt version if any); a key keeps its first value.
    Decision(ChangeId, Box<Decision>),
    /// A projection with its batch's stamp; nothing happens if a higher stamp is there.
    Projection(Stamp, Projection),
    /// Write-once columns of a node; what is set already stays.
    Node(WaveId, NodeKey, Node),
    /// A row of a plan. Write-once.
    PlanNode(WaveId, String, Box<PlanNode>),
    /// A change is a member of a wave that collects (H22). Write-once.
    Member(WaveId, ChangeId, Cause),
    /// A hold. Write-once but for its end.
    Hold(Hold),
    /// A hold of that package and id ended then. Write-once.
    HoldEnded(PackageName, String, Millis),
    /// What a build came to; all of them are kept.
    Outcome(BuildOutcome),
    /// What a promotion sent: dependent → version. Write-once.
    Entry {
        /// The package that was promoted.
        name: PackageName,
        /// Its version.
        version: Version,
        /// The environment.
        env: Env,
        /// The promotion's generation.
        generation: u32,
        /// The dependent.
        dependent: PackageName,
        /// The dependent's version.
        dependent_version: Version,
    },
    /// Makes a rebuild findable by its id. Write-once.
    Rebuild(RebuildIndex),
    /// The result of an attempt; the first result of a number stays.
    Attempt(RebuildId, Attempt),
    /// Work. An item whose id is there is left as it is; one that was finished may be put again.
    Work(Work),
}

/// A replica of the service, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its id: another one each time it starts, and what it claims rebuilds as.
    pub id: String,
    /// Goes up as long as it lives.
    pub beat: i64,
    /// Where others reach it; empty if nowhere.
    pub address: String,
}

/// All work that is not finished, in the order of ids.
///
/// # Errors
/// Those of [`Store::pending_work`].
pub async fn all_pending(store: &dyn Store) -> Result<Vec<Work>> {
    let mut all = Vec::new();
    for shard in Shard::all() {
        all.extend(pending_in(store, shard).await?);
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}

/// All work of a shard that is not finished, each item once, in the order of ids.
///
/// # Errors
/// Those of [`Store::pending_work`].
pub async fn pending_in(store: &dyn Store, shard: Shard) -> Result<Vec<Work>> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let (page, next) = store.pending_work(shard, cursor.as_deref()).await?;
        all.extend(page);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    all.sort_by(|a: &Work, b| a.id.cmp(&b.id));
    all.dedup_by(|a, b| a.id == b.id);
    Ok(all)
}

/// A cursor that no page of [`Store::pending_work`] gave out.
fn error_of_cursor(cursor: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Bug,
        format!("{cursor:?} is no cursor of pending work"),
    )
}

/// The verbs. See the module's text for what all of them promise.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // ---- plain writes ---------------------------------------------------------------------------------------------

    /// Writes. A work item is put only when everything before it in the list is durable; otherwise the order is open, and
    /// a death or an error in between leaves any part of it. Each kind of write says what it does where something is
    /// there already: doing all of them again changes nothing.
    async fn write(&self, writes: Vec<Write>) -> Result<()>;

    /// Accepts a change (H3): the document, then the change, then its work item, so that a death in between leaves
    /// nothing that looks accepted and is not. Always all three, also for a change that exists.
    async fn accept(&self, change: &Change, json: &[u8], work: &Work) -> Result<()> {
        self.write(vec![
            Write::Document {
                change: change.id.clone(),
                digest: change.digest.clone(),
                json: json.to_vec(),
            },
            Write::Change(Box::new(change.clone())),
            Write::Work(work.clone()),
        ])
        .await
    }

    // ---- changes -------------------------------------------------------------------------------------------------

    /// A posted document.
    async fn document(&self, change: &ChangeId, digest: &Digest) -> Result<Option<Vec<u8>>>;

    /// A change.
    async fn change(&self, id: &ChangeId) -> Result<Option<Change>>;

    /// The changes accepted before `before` (a time and an id: the last entry of the page before), newest first.
    async fn changes(
        &self,
        before: Option<(Millis, ChangeId)>,
        limit: usize,
    ) -> Result<Vec<Change>>;

    /// The decisions of a change in the order of their keys, `skip` left out at the start.
    async fn decisions(
        &self,
        change: &ChangeId,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Decision>>;

    // ---- packages ------------------------------------------------------------------------------------------------

    /// A manifest document.
    async fn manifest(
        &self,
        name: &PackageName,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>>;

    /// Reads parts of packages' partitions, one answer a want, in their order. Reads of one partition are consistent
    /// with its `seq`: a commit under that `seq` that is applied decided on what was read.
    async fn packages(&self, wants: &[Want]) -> Result<Vec<PackageState>>;

    /// Applies conditional batches, one answer a batch, in their order. Batches are independent of each other, and a
    /// batch that fails does not touch the others.
    async fn commit(&self, commits: Vec<PackageCommit>) -> Result<Vec<Committed>>;

    /// All published versions of a package, in no order.
    async fn published(&self, name: &PackageName) -> Result<Vec<Published>>;

    /// The names of managed packages, in order, after `after`.
    async fn names(&self, after: Option<&PackageName>, limit: usize) -> Result<Vec<PackageName>>;

    /// The highest versions of all packages that have one, with what they declare: at most `limit` (at least 1), in no
    /// order, and where the next page begins (`None`: that was all). A scan of everything, for those who keep all of it in
    /// memory; a page may be short and not be the last. A package that changes meanwhile comes as it was or as it is.
    async fn tops(&self, cursor: Option<&str>, limit: usize) -> Result<(Tops, Option<String>)>;

    // ---- projections ---------------------------------------------------------------------------------------------

    /// Who depends on `parent`, in the order of names, after `after`; also those whose highest version dropped it.
    async fn dependents(
        &self,
        parent: &PackageName,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<Dependent>>;

    /// Every range by which versions of `dependent` ever declared `parent`, with the highest such version.
    async fn ranges(
        &self,
        parent: &PackageName,
        dependent: &PackageName,
    ) -> Result<Vec<(String, Version)>>;

    /// The head line of a package.
    async fn head(&self, package: &PackageName) -> Result<Option<Line>>;

    /// A release line.
    async fn line(&self, package: &PackageName, version: &Version) -> Result<Option<Line>>;

    /// The release lines of a package, in no order.
    async fn lines(&self, package: &PackageName) -> Result<Vec<Line>>;

    /// The dependents of a line in the order of names, after `after`.
    async fn line_dependents(
        &self,
        package: &PackageName,
        version: &Version,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<(PackageName, Version)>>;

    // ---- waves and promotions ------------------------------------------------------------------------------------

    /// Nodes of a wave, one answer a key, empty where there is none.
    async fn nodes(&self, wave: &WaveId, keys: &[NodeKey]) -> Result<Vec<Node>>;

    /// The nodes of a wave that anything was written of, in the order of the texts of their keys, after `after`.
    async fn node_page(
        &self,
        wave: &WaveId,
        after: Option<&NodeKey>,
        limit: usize,
    ) -> Result<Vec<(NodeKey, Node)>>;

    /// Makes a wave if there is none of its id. Conditional; whoever is refused has made sure that it is listed.
    async fn open_wave(&self, wave: &Wave) -> Result<Committed>;

    /// A wave; sees every decision about it.
    async fn wave(&self, id: &WaveId) -> Result<Option<Wave>>;

    /// Moves a wave on. Conditional on its state.
    async fn move_wave(&self, id: &WaveId, to: &WaveMove) -> Result<Committed>;

    /// The waves opened before `before` (a time and an id: the last entry of the page before), newest first.
    async fn waves(&self, before: Option<(Millis, WaveId)>, limit: usize) -> Result<Vec<Wave>>;

    /// Rows of a plan, one answer a package.
    async fn plan_nodes(
        &self,
        wave: &WaveId,
        plan: &str,
        packages: &[PackageName],
    ) -> Result<Vec<Option<PlanNode>>>;

    /// The rows of a plan in the order of packages, after `after`.
    async fn plan_page(
        &self,
        wave: &WaveId,
        plan: &str,
        after: Option<&PackageName>,
        limit: usize,
    ) -> Result<Vec<PlanNode>>;

    /// The wave that collects publishes of an environment, or did last (H22).
    async fn collecting(&self, env: &Env) -> Result<Option<WaveId>>;

    /// Makes `next` the wave that collects, if `expect` still is what was. Conditional.
    async fn collect(&self, env: &Env, expect: Option<&WaveId>, next: &WaveId)
    -> Result<Committed>;

    /// The members of a wave that collects or did, in the order of changes.
    async fn members(&self, wave: &WaveId) -> Result<Vec<(ChangeId, Cause)>>;

    /// Rows of `dependents`, one answer a (parent, dependent).
    async fn edges(&self, pairs: &[(PackageName, PackageName)]) -> Result<Vec<Option<Dependent>>>;

    /// The holds of each of these packages that have not ended; they may have expired.
    async fn holds(&self, packages: &[PackageName]) -> Result<Vec<Vec<Hold>>>;

    /// All holds that have not ended, in the order of packages and ids, after `after`.
    async fn all_holds(
        &self,
        after: Option<(&PackageName, &str)>,
        limit: usize,
    ) -> Result<Vec<Hold>>;

    /// What builds of a version came to in an environment, oldest first.
    async fn outcomes(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<Vec<BuildOutcome>>;

    /// What an environment has of a package: its latest promotion there.
    async fn latest_promotion(&self, name: &PackageName, env: &Env) -> Result<Option<Promotion>>;

    /// The promotions of a package to an environment, latest first.
    async fn promotions(
        &self,
        name: &PackageName,
        env: &Env,
        limit: usize,
    ) -> Result<Vec<Promotion>>;

    /// Makes `next` the latest promotion if the latest generation is still `expect` (0: none). Conditional (H13).
    async fn promote(
        &self,
        name: &PackageName,
        env: &Env,
        expect: u32,
        next: &Promotion,
    ) -> Result<Committed>;

    /// What the promotions of that version to that environment sent, by the latest generation that sent it.
    async fn promotion_entries(
        &self,
        name: &PackageName,
        version: &Version,
        env: &Env,
    ) -> Result<BTreeMap<PackageName, Version>>;

    // ---- rebuilds and work ---------------------------------------------------------------------------------------

    /// The lowest order among the package's rebuilds in these rows' slot that are queued: whose turn it is (rule 10).
    async fn first_queued(&self, name: &PackageName, slot: &Slot) -> Result<Option<u64>>;

    /// Finds rebuilds by id, one answer an id.
    async fn rebuilds(&self, ids: &[RebuildId]) -> Result<Vec<Option<RebuildIndex>>>;

    /// The results of a rebuild's attempts, in their order. An attempt that was claimed and has none may have reached
    /// the neighbour (H12).
    async fn attempts(&self, rebuild: &RebuildId) -> Result<Vec<Attempt>>;

    /// A page of the work of a shard that is not finished, in no order, and where the next page begins (`None`: that
    /// was all): for start-up and take-over. May also return items that were finished.
    async fn pending_work(
        &self,
        shard: Shard,
        cursor: Option<&str>,
    ) -> Result<(Vec<Work>, Option<String>)>;

    /// Work of these shards that another replica may have put since the last look; also some that is known (H2).
    /// Nothing where there is one replica only.
    async fn recent_work(&self, shards: &[Shard]) -> Result<Vec<Work>>;

    /// Ends work whose follow-ups are all durable.
    async fn finish_work(&self, items: &[Work]) -> Result<()>;

    /// Lets go of what is finished in a shard, so that no scan reads it again (H1). Only the owner of a shard does that.
    /// Returns work that is not finished and that it came across; the owner may not know of it.
    async fn retire_work(&self, shard: Shard) -> Result<Vec<Work>>;

    // ---- replicas ------------------------------------------------------------------------------------------------

    /// Whether several processes may work on it at once.
    fn is_shared(&self) -> bool;

    /// Says that a replica lives: others watch whether `beat` moves, on their own clocks (H25).
    async fn beat(&self, replica: &Replica) -> Result<()>;

    /// Says that a replica has stopped.
    async fn leave(&self, id: &str) -> Result<()>;

    /// All replicas that said something of late, in no order.
    async fn replicas(&self) -> Result<Vec<Replica>>;

    // ---- the store itself ----------------------------------------------------------------------------------------

    /// Ends changes that were accepted before that time and have nothing left to be sent, with their documents,
    /// decisions, waves, rebuilds by id and attempts; waves of no change of their own that ended before that time; outcomes of
    /// builds: so many of them that it does not take long. Returns how many changes, waves and outcomes. Never
    /// ended: versions, lines, reservations, promotions. A store whose entries end by themselves has nothing to do.
    async fn prune(&self, before: Millis) -> Result<usize>;

    /// Answers if the store can be read and written.
    async fn check(&self) -> Result<()>;

    /// Finishes what was asked for; every later verb answers `Away`, or may.
    async fn close(&self) -> Result<()>;
}
