//! The contract on SQLite, and what is promised of SQLite alone.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[allow(unused_imports)]
use super::puts::Puts as _;
use async_trait::async_trait;
use feedsme::model::id::{RebuildId, WaveId};
use feedsme::model::work::Work;
use feedsme::store::sqlite::{Durability, Options, SqliteStore};
use feedsme::store::{Node, NodeKey, PackageCommit, Projection, Store, StoreErrorKind};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::Place;
use super::fixtures::{applied, change, commit, name, package, publish, state, unique, version};

/// A file of its own for each test.
struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store.sqlite3")
    }

    fn store(&self) -> SqliteStore {
        open(&self.path())
    }
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Options::default()).unwrap()
}

#[async_trait]
impl Place for File {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store())
    }
}

mod contract {
    super::super::contract!(super::File::new());
}

/// As `sqlite3 -readonly` opens it.
fn shell(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn count(db: &Connection, table: &str) -> i64 {
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
        row.get(0)
    })
    .unwrap()
}

#[tokio::test]
async fn the_file_can_be_read_beside_the_running_server() {
    let file = File::new();
    let store: Arc<dyn Store> = Arc::new(file.store());
    let package = package("beside");
    applied(&store, &package, 0, vec![publish("1.0.0", 1)]).await;
    let db = shell(&file.path());
    let read = || -> (String, i64) {
        db.query_row("SELECT name, seq FROM pkg", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap()
    };
    assert_eq!(read(), (package.to_string(), 1));
    // A reader that stays in its transaction does not hold up the writer, and sees its own moment.
    db.execute_batch("BEGIN").unwrap();
    assert_eq!(read().1, 1);
    applied(&store, &package, 1, Vec::new()).await;
    assert_eq!(read().1, 1);
    db.execute_batch("COMMIT").unwrap();
    assert_eq!(read().1, 2);
    assert!(db.execute_batch("DELETE FROM pkg").is_err());
}

#[tokio::test]
async fn a_file_of_the_first_schema_is_brought_up_to_date_with_what_is_in_it() {
    let file = File::new();
    let db = Connection::open(file.path()).unwrap();
    db.execute_batch(include_str!(
        "../../../src/store/sqlite/schema_0001_initial.sql"
    ))
    .unwrap();
    db.execute_batch(
        "INSERT INTO wave_node VALUES ('w', 'child', '', 'r-1', '1.0.1-0'); PRAGMA user_version = 1",
    )
    .unwrap();
    drop(db);
    let store = file.store();
    let (wave, key) = (WaveId::new("w"), NodeKey::package(&name("child")));
    let mut expected = Node {
        released: Some(RebuildId::new("r-1")),
        published: Some(version("1.0.1-0")),
        ..Node::default()
    };
    let keys = [key.clone()];
    assert_eq!(store.nodes(&wave, &keys).await.unwrap(), [expected.clone()]);
    expected.late = Some(5);
    let late = Node {
        late: Some(5),
        ..Node::default()
    };
    store.put_nodes(&wave, &[(key, late)]).await.unwrap();
    assert_eq!(store.nodes(&wave, &keys).await.unwrap(), [expected]);
    assert_eq!(store.waves(None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_file_of_a_newer_schema_or_of_another_program_is_refused_and_left_as_it_is() {
    let file = File::new();
    drop(file.store());
    let db = Connection::open(file.path()).unwrap();
    let schema: i64 = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(schema, 2);
    db.execute_batch("PRAGMA user_version = 999").unwrap();
    drop(db);
    let error = SqliteStore::open(&file.path(), Options::default())
        .err()
        .unwrap();
    assert_eq!(error.kind, StoreErrorKind::Bug);
    assert!(
        error.message.contains("newer feedsme: it has schema 999"),
        "{error}"
    );
    assert!(error.message.contains("store.sqlite3"), "{error}");

    let other = File::new();
    Connection::open(other.path())
        .unwrap()
        .execute_batch("CREATE TABLE theirs (a)")
        .unwrap();
    let before = std::fs::read(other.path()).unwrap();
    let error = SqliteStore::open(&other.path(), Options::default())
        .err()
        .unwrap();
    assert!(error.message.contains("another program"), "{error}");
    assert_eq!(std::fs::read(other.path()).unwrap(), before);

    std::fs::write(
        file.0.path().join("text"),
        "no database at all, but long enough to have a header",
    )
    .unwrap();
    let error = SqliteStore::open(&file.0.path().join("text"), Options::default())
        .err()
        .unwrap();
    assert_eq!(error.kind, StoreErrorKind::Bug, "{error}");

    let error = SqliteStore::open(&file.0.path().join("missing/file"), Options::default())
        .err()
        .unwrap();
    assert_eq!(error.kind, StoreErrorKind::Away);
    assert!(error.message.contains("missing/file"), "{error}");
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_leaves_one_file() {
    let file = File::new();
    let store = Arc::new(file.store());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            store
                .commit(vec![PackageCommit::at(&package("queued"), 0)])
                .await
                .is_ok()
        });
    }
    // Some of them are in the queue by now, some are not.
    tokio::task::yield_now().await;
    let early = tasks.join_next().await.unwrap().unwrap();
    store.close().await.unwrap();
    let answered = tasks
        .join_all()
        .await
        .into_iter()
        .chain([early])
        .filter(|ok| *ok)
        .count();
    assert!(answered > 0);
    let error = store
        .commit(vec![PackageCommit::at(&package("late"), 0)])
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Away);
    assert_eq!(
        store.names(None, 1).await.unwrap_err().kind,
        StoreErrorKind::Away
    );
    assert_eq!(store.check().await.unwrap_err().kind, StoreErrorKind::Away);
    store.close().await.unwrap();

    let files: Vec<_> = std::fs::read_dir(file.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(files, ["store.sqlite3"]);
    assert_eq!(
        usize::try_from(count(&shell(&file.path()), "pkg")).unwrap(),
        answered
    );
}

#[tokio::test]
async fn two_stores_on_one_file_decide_together() {
    let file = File::new();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(file.store()), Arc::new(file.store())];
    let package = package("shared");
    for seq in 0..20 {
        let (a, b) = tokio::join!(
            commit(&stores[0], PackageCommit::at(&package, seq)),
            commit(&stores[1], PackageCommit::at(&package, seq)),
        );
        assert_ne!(a, b, "under seq {seq}");
    }
}

#[tokio::test]
async fn finished_work_is_gone() {
    let file = File::new();
    let store = file.store();
    let plan = Work::plan(&change().id, &change().digest, &name("a"), 0);
    let items: Vec<_> = (0..5)
        .map(|at| Work {
            id: format!("w{at}"),
            ..plan.clone()
        })
        .collect();
    store.put_work(&items).await.unwrap();
    store
        .finish_work(&[items[0].clone(), items[3].clone()])
        .await
        .unwrap();
    let left: Vec<_> = feedsme::store::all_pending(&store)
        .await
        .unwrap()
        .into_iter()
        .map(|work| work.id)
        .collect();
    assert_eq!(left, ["w1", "w2", "w4"]);
}

#[tokio::test]
async fn a_removed_dependent_of_is_not_brought_back() {
    let file = File::new();
    let store = file.store();
    let child = package("child");
    let of = |parent: Option<&str>| Projection::DependentOf {
        package: child.clone(),
        parent: parent.map(name),
    };
    let read = || -> Option<String> {
        shell(&file.path())
            .query_row("SELECT dependent_of FROM dependent_of", [], |row| {
                row.get(0)
            })
            .unwrap()
    };
    store.project(5, &[of(Some("root"))]).await.unwrap();
    assert_eq!(read().as_deref(), Some("root"));
    store.project(7, &[of(None)]).await.unwrap();
    store.project(6, &[of(Some("older"))]).await.unwrap();
    assert_eq!(read(), None);
    store.project(8, &[of(Some("newer"))]).await.unwrap();
    assert_eq!(read().as_deref(), Some("newer"));
}

#[tokio::test]
async fn a_rebuild_is_not_replaced_unseen() {
    let file = File::new();
    let store: Arc<dyn Store> = Arc::new(file.store());
    let package = package("unseen");
    let rebuild = super::fixtures::rebuild();
    applied(
        &store,
        &package,
        0,
        vec![super::fixtures::reserve("1.0.1-0", 1, &rebuild)],
    )
    .await;
    let mut write = super::fixtures::reserve("1.0.1-0", 1, &super::fixtures::rebuild());
    write.expect = feedsme::store::Expect::Nothing;
    let batch = PackageCommit {
        rows: vec![write],
        ..PackageCommit::at(&package, 1)
    };
    assert_eq!(
        store.commit(vec![batch]).await.unwrap_err().kind,
        StoreErrorKind::Bug
    );
    let there = super::fixtures::publish_row(&store, &package, "1.0.1-0")
        .await
        .unwrap();
    assert_eq!(there.rebuild, Some(rebuild));
    assert_eq!(
        state(&store, feedsme::store::Want::statics(&package))
            .await
            .seq,
        1
    );
}

#[tokio::test]
async fn durability_can_be_turned_off() {
    let file = File::new();
    let options = Options {
        durability: Durability::Off,
        readers: 1,
    };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&file.path(), options).unwrap());
    let package = package("off");
    applied(&store, &package, 0, Vec::new()).await;
    drop(store);
    assert_eq!(open(&file.path()).names(None, 9).await.unwrap(), [package]);
}

/// Tells the child below where to write.
const VICTIM: &str = "FEEDSME_TEST_VICTIM";

/// Not a test of its own: writes until it is killed, and says what was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_killed_process_loses_nothing_that_was_answered"]
async fn writes_until_it_is_killed() {
    let Ok(path) = std::env::var(VICTIM) else {
        return;
    };
    let store = Arc::new(open(Path::new(&path)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            loop {
                let mut change = change();
                change.id = feedsme::model::id::ChangeId::new(unique());
                let work = Work::plan(&change.id, &change.digest, &change.name, 0);
                store.accept(&change, &[b'x'; 3000], &work).await.unwrap();
                println!("answered {}", change.id);
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_answered() {
    let file = File::new();
    let mut answered: Vec<String> = Vec::new();
    // Three lives: the second and third begin with what the one before left behind.
    for life in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "store::sqlite::writes_until_it_is_killed",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(VICTIM, file.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut ids = || {
            lines
                .by_ref()
                .find_map(|line| line.strip_prefix("answered ").map(str::to_owned))
        };
        let enough = answered.len() + 400;
        while answered.len() < enough && Instant::now() < deadline {
            answered.push(ids().expect("the child ended by itself"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it could still say before it died; the last line may be cut short.
        answered.extend(std::iter::from_fn(ids).filter(|id| id.len() == 32));
        assert!(
            answered.len() >= enough,
            "life {life} was too slow: {} answers",
            answered.len()
        );
    }
    let store = open(&file.path());
    let db = shell(&file.path());
    let integrity: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(integrity, "ok");
    for id in &answered {
        let id = feedsme::model::id::ChangeId::new(id.clone());
        let change = store
            .change(&id)
            .await
            .unwrap()
            .expect("an answered change is lost");
        assert_eq!(
            store
                .document(&id, &change.digest)
                .await
                .unwrap()
                .map(|json| json.len()),
            Some(3000)
        );
    }
    // Each with its work, also those that were not answered any more.
    assert_eq!(count(&db, "change"), count(&db, "work"));
    assert_eq!(count(&db, "change"), count(&db, "document"));
}
