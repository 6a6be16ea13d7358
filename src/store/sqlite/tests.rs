//! What can only be seen from inside: the plans of queries, and groups whose jobs fail.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::error::bug;
use super::statement::run;
use super::writer::each;
use super::{
    Options, SqliteStore, change, commit, hold, package, projection, promotion, prune, schema,
    wave, work,
};
use crate::store::{Result, StoreErrorKind};

fn statements() -> impl Iterator<Item = &'static str> {
    [
        change::STATEMENTS,
        commit::STATEMENTS,
        hold::STATEMENTS,
        package::STATEMENTS,
        projection::STATEMENTS,
        promotion::STATEMENTS,
        prune::STATEMENTS,
        wave::STATEMENTS,
        work::STATEMENTS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

fn plan(db: &Connection, sql: &str) -> Vec<String> {
    let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let unknown = vec![rusqlite::types::Null; explain.parameter_count()];
    let lines = explain
        .query_map(rusqlite::params_from_iter(unknown), |row| row.get("detail"))
        .unwrap();
    lines.map(|line| line.unwrap()).collect()
}

#[test]
fn no_verb_scans_a_table_or_sorts() {
    let folder = tempfile::tempdir().unwrap();
    let db = schema::writer(&folder.path().join("db"), Options::default()).unwrap();
    let mut seen = 0;
    for sql in statements() {
        let plan = plan(&db, sql);
        seen += usize::from(plan.iter().any(|line| line.starts_with("SEARCH")));
        for line in plan {
            assert!(
                !line.contains("SCAN") && !line.contains("TEMP B-TREE"),
                "{sql}\n{line}"
            );
        }
    }
    assert!(seen > 20, "only {seen} statements search a table");
    // And it would be noticed.
    assert!(plan(&db, "SELECT * FROM pkg_row WHERE digest = ?1")[0].contains("SCAN"));
    // What a wave asks of hundreds of dependents does not read the wide rows.
    for index in ["pkg_published", "pkg_taken"] {
        let covering = format!("COVERING INDEX {index}");
        let used = |sql| plan(&db, sql).iter().any(|line| line.contains(&covering));
        assert!(statements().any(used), "{index} is not used");
    }
    // Whoever wants the rows reads them where they are, in one piece.
    let wide =
        |sql: &&str| sql.contains("rebuild_with") && sql.ends_with("version < ?3 AND slot = ''");
    let rows = statements().find(wide).unwrap();
    assert!(
        plan(&db, rows)[0].contains("USING PRIMARY KEY"),
        "{:?}",
        plan(&db, rows)
    );
}

/// Binding another value to a column that a partial index looks at must not plan the statement anew.
#[test]
fn a_statement_is_planned_once() {
    let folder = tempfile::tempdir().unwrap();
    let db = schema::writer(&folder.path().join("db"), Options::default()).unwrap();
    for sql in statements().filter(|sql| sql.starts_with("SELECT") && sql.contains("slot = ?")) {
        let mut statement = db.prepare(sql).unwrap();
        for value in ["", "test", "prod"] {
            let values = vec![value; statement.parameter_count()];
            let mut rows = statement.query(rusqlite::params_from_iter(values)).unwrap();
            assert!(rows.next().unwrap().is_none());
        }
        let again = statement.get_status(rusqlite::StatementStatus::RePrepare);
        assert_eq!(again, 0, "{sql}");
    }
}

const INSERT: &str = "INSERT INTO work (shard, id, package, due, job) VALUES (0, ?1, 'a', 0, '{}')";

fn insert(db: &Connection, id: &str) -> Result<()> {
    run(db, INSERT, [id]).map(drop)
}

fn ids(db: &Connection) -> Result<Vec<String>> {
    let mut statement = db.prepare("SELECT id FROM work ORDER BY id")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<std::result::Result<_, _>>()?)
}

/// Queues jobs behind one that keeps the thread busy, so that they become one group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_takes_back_its_own_changes_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("db"), Options::default()).unwrap());
    let busy = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            store
                .run(|_| {
                    std::thread::sleep(Duration::from_millis(100));
                    Ok(())
                })
                .await
        }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut tasks = Vec::new();
    for at in 0..60 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            store
                .run(move |db| {
                    insert(db, &format!("{at:02}"))?;
                    match at % 4 {
                        0 => Ok(()),
                        1 => Err(bug("on purpose")),
                        2 => insert(db, &format!("{at:02}")),
                        _ => panic!("on purpose"),
                    }
                })
                .await
        }));
    }
    busy.await.unwrap().unwrap();
    let mut expected = Vec::new();
    for (at, task) in tasks.into_iter().enumerate() {
        let answer = task.await.unwrap();
        if at % 4 == 0 {
            answer.unwrap();
            expected.push(format!("{at:02}"));
        } else {
            assert_eq!(answer.unwrap_err().kind, StoreErrorKind::Bug, "job {at}");
        }
    }
    assert_eq!(store.read(ids).await.unwrap(), expected);
}

#[tokio::test]
async fn independent_things_in_one_job_fail_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("db"), Options::default()).unwrap();
    let answers = store
        .run(|db| {
            each(db, vec!["a", "b", "a", "c", "!", "d"], |db, id| {
                insert(db, id)?;
                if id == "!" {
                    Err(bug("on purpose"))
                } else {
                    Ok(id)
                }
            })
        })
        .await
        .unwrap();
    let kept: Vec<_> = answers.into_iter().map(Result::ok).collect();
    assert_eq!(
        kept,
        [Some("a"), Some("b"), None, Some("c"), None, Some("d")]
    );
    assert_eq!(store.read(ids).await.unwrap(), ["a", "b", "c", "d"]);
    let alone = store
        .run(|db| {
            each(db, vec!["e"], |db, id| {
                insert(db, id)?;
                Err::<(), _>(bug("on purpose"))
            })
        })
        .await;
    assert!(alone.is_err());
    assert_eq!(store.read(ids).await.unwrap(), ["a", "b", "c", "d"]);
}

/// SQLite takes the whole transaction back by itself when the disk is full: everybody in the group must hear of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_group_is_answered_with_errors_and_the_next_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("db"), Options::default()).unwrap());
    let first = store
        .run(|db| {
            insert(db, "before")?;
            // Stands for a disk that fails in the middle of a job.
            db.execute_batch("ROLLBACK")?;
            Ok(())
        })
        .await;
    assert_eq!(first.unwrap_err().kind, StoreErrorKind::Away);
    store.run(|db| insert(db, "after")).await.unwrap();
    assert_eq!(store.read(ids).await.unwrap(), ["after"]);

    // A file that may not grow any more: full, from SQLite itself.
    store
        .run(|db| Ok(db.execute_batch("PRAGMA max_page_count = 1")?))
        .await
        .unwrap();
    let big = "x".repeat(4_000_000);
    let full = store.run(move |db| insert(db, &big)).await.unwrap_err();
    assert_eq!(full.kind, StoreErrorKind::Away, "{full}");
    assert!(full.message.contains("full"), "{full}");
    assert_eq!(store.read(ids).await.unwrap(), ["after"]);
}

/// Another process that holds the lock for longer than we wait.
#[tokio::test]
async fn a_lock_that_is_held_for_too_long_is_contention() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = SqliteStore::open(&path, Options::default()).unwrap();
    store
        .run(|db| Ok(db.busy_timeout(Duration::from_millis(50))?))
        .await
        .unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.run(|db| insert(db, "a")).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Contention, "{error}");
    other.execute_batch("COMMIT").unwrap();
    store.run(|db| insert(db, "a")).await.unwrap();
}

#[tokio::test]
async fn readers_cannot_write_and_a_panic_in_one_is_contained() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        readers: 1,
        ..Options::default()
    };
    let store = SqliteStore::open(&folder.path().join("db"), options).unwrap();
    assert!(store.read(|db| insert(db, "a")).await.is_err());
    let panicked: Result<()> = store.read(|_| panic!("on purpose")).await;
    assert_eq!(panicked.unwrap_err().kind, StoreErrorKind::Bug);
    assert!(store.read(ids).await.unwrap().is_empty());
}
