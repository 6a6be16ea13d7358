//! Which store the service's own tests run on: an SQLite file each, or, with `FEEDSME_TEST_STORE=cassandra`, a keyspace on
//! the real Cassandra that `FEEDSME_TEST_CASSANDRA` names. `bin/test` runs them on both.
//!
//! A keyspace takes seconds to make and a fraction of one to empty, so a few of them are used again and again.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use feedsme::ingest::Clock;
use feedsme::settings::StoreAddress;
use feedsme::store::Store;
use feedsme::store::cassandra::{CassandraStore, Options, migrate};
use feedsme::store::sqlite::{Durability, Options as SqliteOptions, SqliteStore};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Where connections live: a test's own runtime ends with the test, and would take them along.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

/// The nodes' addresses.
pub fn nodes() -> Vec<String> {
    let nodes = std::env::var("FEEDSME_TEST_CASSANDRA")
        .expect("FEEDSME_TEST_CASSANDRA names no node: run the tests by bin/test");
    nodes.split(',').map(str::to_owned).collect()
}

/// Options for a keyspace on the test's cluster.
pub fn options(keyspace: &str) -> Options {
    Options {
        hosts: nodes(),
        keyspace: keyspace.to_owned(),
        user: None,
        password: None,
        ca_file: None,
        data_center: None,
        clock: Clock::system(),
        retain: Duration::from_hours(24),
    }
}

/// A name for a keyspace that nobody else has.
pub fn fresh_keyspace() -> String {
    format!("t_{}", uuid::Uuid::new_v4().simple())
}

/// A store whose connections outlive the test's runtime.
pub async fn open(options: Options) -> CassandraStore {
    RUNTIME
        .spawn(async move { CassandraStore::open(&options).await })
        .await
        .unwrap()
        .unwrap()
}

/// Whether this run is on Cassandra.
pub fn on_cassandra() -> bool {
    match std::env::var("FEEDSME_TEST_STORE").as_deref() {
        Err(_) | Ok("sqlite") => false,
        Ok("cassandra") => true,
        Ok(other) => panic!("FEEDSME_TEST_STORE={other} is neither sqlite nor cassandra"),
    }
}

/// How often something is tried that is quick on SQLite: a world on Cassandra takes a second, not a hundredth of one.
pub fn rounds(on_sqlite: usize) -> usize {
    if on_cassandra() {
        (on_sqlite / 20).clamp(3, 10)
    } else {
        on_sqlite
    }
}

/// Which steps of a story a fault is tried at: all of these, or, on Cassandra, a few of them spread over all.
pub fn some_of(steps: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
    let count = steps.len();
    let every = if on_cassandra() { (count / 3).max(1) } else { 1 };
    // Not the first: of a story that is always begun in the same way it tells least.
    steps.skip(every / 2).step_by(every)
}

/// An empty store for one test; it is given back when this is dropped.
pub enum Place {
    File(TempDir),
    Keyspace {
        name: String,
        /// How long it is left alone afterwards.
        rest: Duration,
    },
}

/// From when on each can be used, the one that has been free for longest first.
static FREE: Mutex<VecDeque<(Instant, String)>> = Mutex::new(VecDeque::new());

/// What a test left behind may go on for so long: a service that was dropped finishes what it is doing.
const REST: Duration = Duration::from_millis(1_500);

/// How many keyspaces are in use at once: each has 34 tables, and a node has a megabyte for each table or is slow. No test
/// has more than two, one of them for as long as it runs, and no more than a few run at once.
const KEYSPACES: usize = 8;
static IN_USE: Semaphore = Semaphore::const_new(KEYSPACES);

/// One is made at a time: nodes agree on one change of the schema after the other.
static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Keyspace { name, rest } = self {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            free.push_back((Instant::now() + *rest, std::mem::take(name)));
            IN_USE.add_permits(1);
        }
    }
}

impl Place {
    /// Of the kind that this run is about.
    pub fn new() -> Self {
        if on_cassandra() {
            return Self::keyspace();
        }
        // A directory that costs no disk, where there is such a thing.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::File(dir.unwrap())
    }

    /// A keyspace, whatever this run is about.
    pub fn keyspace() -> Self {
        // From a thread of its own: whoever asks may be in any runtime, or in none.
        let made = std::thread::spawn(|| RUNTIME.block_on(keyspace()));
        Self::Keyspace {
            name: made.join().unwrap(),
            rest: REST,
        }
    }

    /// Nothing goes on in it once the test has ended.
    pub fn at_rest(mut self) -> Self {
        if let Self::Keyspace { rest, .. } = &mut self {
            *rest = Duration::ZERO;
        }
        self
    }

    /// The keyspace's name.
    pub fn name(&self) -> &str {
        match self {
            Self::File(_) => panic!("a file is no keyspace"),
            Self::Keyspace { name, .. } => name,
        }
    }

    fn file(dir: &TempDir) -> std::path::PathBuf {
        dir.path().join("feedsme.sqlite3")
    }

    /// The SQLite file, if it is one.
    pub fn path(&self) -> Option<std::path::PathBuf> {
        match self {
            Self::File(dir) => Some(Self::file(dir)),
            Self::Keyspace { .. } => None,
        }
    }

    /// The setting `store`.
    pub fn address(&self) -> StoreAddress {
        match self {
            Self::File(dir) => StoreAddress::Sqlite {
                path: Self::file(dir),
                synchronous: false,
            },
            Self::Keyspace { name, .. } => {
                let address = format!("cassandra://{}/{name}", nodes().join(","));
                StoreAddress::try_from(address).unwrap()
            }
        }
    }

    /// The store itself.
    pub fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::File(dir) => {
                let options = SqliteOptions {
                    durability: Durability::Off,
                    readers: 2,
                };
                Arc::new(SqliteStore::open(&Self::file(dir), options).unwrap())
            }
            Self::Keyspace { name, .. } => {
                let options = options(name);
                let opened = std::thread::spawn(move || {
                    RUNTIME.block_on(async move { CassandraStore::open(&options).await })
                });
                Arc::new(opened.join().unwrap().unwrap())
            }
        }
    }
}

/// An empty keyspace: a used one, emptied, or a new one.
async fn keyspace() -> String {
    IN_USE.acquire().await.unwrap().forget();
    let used = FREE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop_front();
    if let Some((from, name)) = used {
        tokio::time::sleep(from.saturating_duration_since(Instant::now())).await;
        empty(&name).await;
        return name;
    }
    let name = fresh_keyspace();
    let options = options(&name);
    let _one = MAKING.lock().await;
    migrate(&options, &"1".parse().unwrap()).await.unwrap();
    name
}

/// One session for all emptying.
static CLEANER: tokio::sync::OnceCell<Session> = tokio::sync::OnceCell::const_new();

async fn empty(keyspace: &str) {
    let session = CLEANER
        .get_or_init(|| async {
            SessionBuilder::new()
                .known_nodes(nodes())
                .build()
                .await
                .unwrap()
        })
        .await;
    let tables = session
        .query_unpaged(
            "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?",
            (keyspace,),
        )
        .await
        .unwrap()
        .into_rows_result()
        .unwrap();
    for row in tables.rows::<(String,)>().unwrap() {
        let (table,) = row.unwrap();
        if table == "schema_migration" {
            continue;
        }
        let some = session
            .query_unpaged(format!("SELECT * FROM {keyspace}.{table} LIMIT 1"), ())
            .await
            .unwrap()
            .into_rows_result()
            .unwrap();
        if some.rows_num() > 0 {
            session
                .query_unpaged(format!("TRUNCATE {keyspace}.{table}"), ())
                .await
                .unwrap();
        }
    }
}
