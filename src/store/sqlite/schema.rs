//! Opening the file: settings of a connection, and which schema is in it.
//!
//! `PRAGMA user_version` names the schema. A file of an older one is brought up to date step by step, a file of a newer
//! one is refused: a server that does not know a column would quietly lose what it means.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::{away, bug};
use super::{Durability, Options};
use crate::store::{Result, StoreError};

/// The steps, each from the version of its index to the next. Append only.
const STEPS: &[&str] = &[
    include_str!("schema_0001_initial.sql"),
    include_str!("schema_0002_waves.sql"),
];

/// How long to wait for another process's lock, such as that of a `sqlite3` shell that writes.
const BUSY: Duration = Duration::from_secs(5);

/// Of the writer, in KiB below zero. What it has read stays true, because nobody else writes; a reader begins anew after
/// each commit, so the usual 2 MiB are enough for it.
const WRITER_CACHE: i64 = -32_768;

/// More than the distinct statements of this module, so that each is parsed once a connection.
const STATEMENTS: usize = 128;

/// A connection that may write, to a file that has the present schema.
pub(super) fn writer(path: &Path, options: Options) -> Result<Connection> {
    let mut db = connect(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    )?;
    version(&db, path)?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(bug(format!(
            "{}: this file system cannot hold a write-ahead log",
            path.display()
        )));
    }
    db.execute_batch(match options.durability {
        Durability::Full => "PRAGMA synchronous = FULL",
        Durability::Off => "PRAGMA synchronous = OFF",
    })?;
    db.pragma_update(None, "cache_size", WRITER_CACHE)?;
    migrate(&mut db, path)?;
    Ok(db)
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.execute_batch("PRAGMA query_only = ON")?;
    Ok(db)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| away(format!("cannot open {}: {error}", path.display())))?;
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Else SQLite looks at the value of `slot = ?` to see whether a partial index holds the row, and parses and plans the
    // statement anew each time another value is bound: most of the time of reading a row.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(db)
}

/// The schema that the file has: how many of the steps were done.
fn version(db: &Connection, path: &Path) -> Result<usize> {
    let of_file = |error: rusqlite::Error| {
        let StoreError { kind, message } = error.into();
        StoreError::new(kind, format!("{}: {message}", path.display()))
    };
    let there: i64 = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(of_file)?;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(of_file)?;
    match usize::try_from(there) {
        Ok(0) if tables > 0 => Err(bug(format!(
            "{} is a database of another program",
            path.display()
        ))),
        Ok(there) if there <= STEPS.len() => Ok(there),
        _ => Err(bug(format!(
            "{} was written by a newer feedsme: it has schema {there}, this one knows schemas up to {}",
            path.display(),
            STEPS.len()
        ))),
    }
}

/// Does the steps that are missing, all or none; a second server that starts at the same moment waits for the first.
fn migrate(db: &mut Connection, path: &Path) -> Result<()> {
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &STEPS[version(&change, path)?..] {
        change.execute_batch(step)?;
    }
    change.execute_batch(&format!("PRAGMA user_version = {}", STEPS.len()))?;
    Ok(change.commit()?)
}
