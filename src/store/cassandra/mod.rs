//! The store in Apache Cassandra (design.md 5, protocol.md): for production, where several replicas of the service share
//! one state and keep none themselves.
//!
//! ```text
//! session, schema     connecting; creating and checking the tables of cql/
//! statements, values  every statement, prepared; binding values and reading rows
//! error               judging failures: away, contention, unknown outcome, bug
//! once                columns that keep their first value, without a conditional write
//! package, commit     a package's partition: reading it, and the conditional batch that decides (H9, H11)
//! plain               the writes without a condition
//! lists               what is read across partitions: changes, decisions, names, lines
//! decide              a conditional write whose outcome is unknown (H9)
//! wave, promotion     waves, their plans and nodes; promotions
//! hold                holds, outcomes of builds
//! work                the durable queue in shards and buckets of time (H1)
//! verbs               the store's trait
//! warehouse           the tables of the Node software, read for an import
//! ```
//!
//! What decides is one lightweight transaction on one partition. Everything else is a plain write whose repetition
//! changes nothing, so that no step ever needs two partitions to agree.

mod commit;
mod decide;
mod error;
mod hold;
mod lists;
mod once;
mod package;
mod plain;
mod promotion;
mod schema;
mod session;
mod statements;
mod values;
mod verbs;
mod warehouse;
mod wave;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scylla::client::session::Session;
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;

pub use schema::{Migrated, Replication, migrate};
pub use session::Options;
pub use warehouse::{LineRow, NamedRow, PackageRow, VersionRow, WarehouseKeyspace};

use self::error::{away, of_read, of_write};
use self::statements::Statements;
use self::values::{Cells, Value, rows};
use super::Result;
use crate::model::spread::spread;

/// How many statements of one verb are under way at once.
const AT_ONCE: usize = 64;

/// A store in a keyspace. Cheap to clone; dropping the last clone closes the connections.
#[derive(Clone)]
pub struct CassandraStore(Arc<Inner>);

struct Inner {
    session: Session,
    /// Nothing more is asked of the cluster.
    closed: AtomicBool,
    statements: Box<Statements>,
    /// What conditional batches are run with.
    decide: scylla::client::execution_profile::ExecutionProfileHandle,
    /// Whether each partition lives on several nodes, so that two reads may be answered by different ones.
    replicated: bool,
    /// The time to live of things of the past, in seconds.
    retain: i32,
    clock: crate::ingest::Clock,
    published: crate::store::lists::Lists,
    work: work::Places,
    days: lists::Days,
}

impl CassandraStore {
    /// Connects to a keyspace whose schema is this version's.
    ///
    /// # Errors
    /// [`Away`](super::StoreErrorKind::Away) if the cluster does not answer; [`Bug`](super::StoreErrorKind::Bug) if the
    /// keyspace is not there, has another schema, or belongs to another data center: the message says what to run.
    pub async fn open(options: &Options) -> Result<Self> {
        let (session, profiles) = session::connect(options).await?;
        let keyspace = schema::check(&session, options).await?;
        schema::warn_of_commit_log(&session).await;
        let statements =
            Box::pin(Statements::prepare(&session, &profiles, &options.keyspace)).await?;
        Ok(Self(Arc::new(Inner {
            session,
            closed: AtomicBool::new(false),
            statements,
            decide: profiles.decide.clone().into_handle(),
            replicated: keyspace.replicated,
            retain: seconds(options.retain),
            clock: options.clock.clone(),
            published: crate::store::lists::Lists::default(),
            work: work::Places::default(),
            days: lists::Days::default(),
        })))
    }
}

/// A time to live; Cassandra's longest is 20 years.
fn seconds(retain: Duration) -> i32 {
    i32::try_from(retain.as_secs())
        .unwrap_or(i32::MAX)
        .clamp(1, 20 * 365 * 24 * 3600)
}

impl Inner {
    fn open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(away("the store is closed"));
        }
        Ok(())
    }

    /// All rows of a read, page by page.
    async fn all(&self, statement: &PreparedStatement, values: Vec<Value>) -> Result<Vec<Cells>> {
        self.open()?;
        let mut found = Vec::new();
        let mut state = PagingState::start();
        loop {
            let (page, next) = self
                .session
                .execute_single_page(statement, &values, state)
                .await
                .map_err(|error| of_read(statement.get_statement(), &error))?;
            found.extend(rows(page)?);
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Continue(next) => state = next,
                std::ops::ControlFlow::Break(()) => return Ok(found),
            }
        }
    }

    /// The first row of a read.
    async fn one(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value>,
    ) -> Result<Option<Cells>> {
        self.open()?;
        let (page, _) = self
            .session
            .execute_single_page(statement, &values, PagingState::start())
            .await
            .map_err(|error| of_read(statement.get_statement(), &error))?;
        Ok(rows(page)?.into_iter().next())
    }

    /// A plain write.
    async fn put(&self, statement: &PreparedStatement, values: Vec<Value>) -> Result<()> {
        self.open()?;
        self.session
            .execute_unpaged(statement, &values)
            .await
            .map(drop)
            .map_err(|error| of_write(statement.get_statement(), &error))
    }
}

/// Does something for each, many at once, and answers in their order; the first failure is the answer.
async fn each<I, T, F>(items: impl IntoIterator<Item = I>, work: impl Fn(I) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>>,
{
    use futures_util::{StreamExt as _, TryStreamExt as _};
    // Made before anything is awaited: a closure that lives across an await cannot be called with every lifetime.
    let begun: Vec<F> = items.into_iter().map(work).collect();
    futures_util::stream::iter(begun)
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// Which of `buckets` a text belongs to, the same on every replica and in every version.
fn bucket(text: &str, buckets: u8) -> u8 {
    u8::try_from(spread(0, text) % u64::from(buckets.max(1))).unwrap_or(0)
}
