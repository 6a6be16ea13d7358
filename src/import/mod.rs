//! Importing what was published before feedsme was there: from an npm registry, or from a keyspace of the Node software.
//!
//! Nothing is ever sent by an import: versions become known with what they declare, and, from a keyspace, release lines
//! are taken over. The publishes that come afterwards find their dependents.
//!
//! ```text
//! packument   a packument cut into its versions      (pure)
//! names       which packages: lists, scopes          registry    reading them, a few at a time
//! rows        rows of the keyspace, judged (pure)    keyspace    reading them
//! apply       what both do with a package's versions
//! ```
//!
//! An import can be killed at any instant and started again: each step is idempotent, and the versions that are known are
//! passed over, all but the last one of each package, which may lack what follows from it. What fails is one version or
//! one package; it is reported at the end, and the others go on. Only a store that is away ends an import.

mod apply;
pub mod keyspace;
pub mod names;
pub mod packument;
pub mod registry;
pub mod rows;

use serde::Serialize;

use crate::ingest::IngestError;

/// What an import came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Packages that were looked at.
    pub packages: u64,
    /// Versions that are known now and were not before.
    pub new: u64,
    /// Versions that were known.
    pub known: u64,
    /// Release lines that were taken over.
    pub lines: u64,
    /// Dependents in these lines.
    pub pairs: u64,
    /// Versions and lines in the keyspace whose package has no row there: not managed.
    pub unmanaged: u64,
    /// What could not be imported.
    pub failed: Vec<Failed>,
}

/// Something that could not be imported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Failed {
    /// A package, `name@version`, or a row.
    pub what: String,
    /// Why; for people.
    pub why: String,
}

impl Failed {
    fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
        }
    }
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.packages += other.packages;
        self.new += other.new;
        self.known += other.known;
        self.lines += other.lines;
        self.pairs += other.pairs;
        self.unmanaged += other.unmanaged;
        self.failed.extend(other.failed);
    }

    /// In the same order each time.
    fn sorted(mut self) -> Self {
        self.failed.sort();
        self
    }
}

/// How an import works.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many packages are worked at at once.
    pub concurrency: usize,
    /// The largest document of a version, in bytes.
    pub document_limit: usize,
    /// How often what fails in passing is tried again, and how long is waited the first time; then twice as long.
    pub retries: (u32, std::time::Duration),
}

/// Why an import ended before its end: the store of either side.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// A step could not be done.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The store, or the keyspace that is read.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}
