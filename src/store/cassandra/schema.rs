//! The tables: made by `feedsme migrate` from the files of `cql/`, checked by `feedsme serve`.
//!
//! Files are numbered and only ever added. Which ones were applied is in `schema_migration`, written under a condition, so
//! that of two replicas that start at once one applies a file and the other waits for it. Every statement of a file may
//! be run again: whoever takes over from one that died half-way does all of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::unprepared::Statement;
use scylla::statement::{Consistency, SerialConsistency};

use super::error::{away, bug, of_read, of_write};
use super::session::{self, Options};
use super::statements::qualified;
use super::values::{Cells, Value, big, int, rows, text};
use crate::store::Result;

/// Number and text of each file.
const FILES: [(i32, &str); 2] = [
    (1, include_str!("../../../cql/0001_initial.cql")),
    (2, include_str!("../../../cql/0002_waves.cql")),
];

/// For how long a file may be being applied before another replica takes over.
const TAKE_OVER: Duration = Duration::from_mins(2);

/// How a keyspace is replicated: the setting of `feedsme migrate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// So many nodes, wherever they are: for one data center.
    Simple(u8),
    /// So many nodes of each data center.
    Network(Vec<(String, u8)>),
}

impl FromStr for Replication {
    type Err = String;

    /// `3`, or `datacenter1:3,datacenter2:3`.
    fn from_str(written: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!(
                "replication {written:?} is neither a number of nodes, such as 3, nor data centers with theirs, \
                 such as datacenter1:3,datacenter2:3"
            )
        };
        let nodes = |text: &str| {
            text.parse()
                .ok()
                .filter(|nodes: &u8| (1..=20).contains(nodes))
                .ok_or_else(wrong)
        };
        if !written.contains(':') {
            return Ok(Self::Simple(nodes(written)?));
        }
        written
            .split(',')
            .map(|part| {
                let (name, count) = part.split_once(':').ok_or_else(wrong)?;
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if name.is_empty() || !name.chars().all(plain) {
                    return Err(wrong());
                }
                Ok((name.to_owned(), nodes(count)?))
            })
            .collect::<std::result::Result<_, _>>()
            .map(Self::Network)
    }
}

impl fmt::Display for Replication {
    /// As CQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(nodes) => write!(
                f,
                "{{'class': 'SimpleStrategy', 'replication_factor': {nodes}}}"
            ),
            Self::Network(centers) => {
                write!(f, "{{'class': 'NetworkTopologyStrategy'")?;
                for (name, nodes) in centers {
                    write!(f, ", '{name}': {nodes}")?;
                }
                write!(f, "}}")
            }
        }
    }
}

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The files that it applied.
    pub applied: Vec<i32>,
    /// The schema's number now.
    pub schema: i32,
}

/// What is known of a keyspace.
pub(super) struct Keyspace {
    pub replicated: bool,
}

/// Creates the keyspace if it is not there, and applies the files that are missing.
///
/// # Errors
/// [`Away`](crate::store::StoreErrorKind::Away) if the cluster does not answer, [`Bug`](crate::store::StoreErrorKind::Bug)
/// if it refuses, or if the keyspace has a newer schema than this program.
pub async fn migrate(options: &Options, replication: &Replication) -> Result<Migrated> {
    check_name(&options.keyspace)?;
    let (session, _) = session::connect(options).await?;
    if replication_of(&session, &options.keyspace).await?.is_none() {
        let of = Of {
            session: &session,
            keyspace: &options.keyspace,
        };
        of.run(&format!(
            "CREATE KEYSPACE IF NOT EXISTS \"{}\" WITH replication = {replication}",
            options.keyspace
        ))
        .await?;
    }
    let of = Of {
        session: &session,
        keyspace: &options.keyspace,
    };
    of.run(
        "CREATE TABLE IF NOT EXISTS schema_migration (one tinyint, number int, state text, holder text, at bigint, \
         data_center text, PRIMARY KEY (one, number))",
    )
    .await?;
    let center = data_center(&session, options).await?;
    let newest = FILES.last().map_or(0, |(number, _)| *number);
    let known = applied(&of).await?;
    refuse_newer(known, newest, &options.keyspace)?;
    let mut done = Vec::new();
    for (number, file) in FILES {
        if apply(&of, number, file, &center).await? {
            done.push(number);
        }
    }
    Ok(Migrated {
        applied: done,
        schema: newest,
    })
}

/// Makes sure that the keyspace is there, is of this version, and is used from its own data center.
pub(super) async fn check(session: &Session, options: &Options) -> Result<Keyspace> {
    check_name(&options.keyspace)?;
    let keyspace = &options.keyspace;
    let run_this = "run: feedsme migrate";
    let Some(replication) = replication_of(session, keyspace).await? else {
        return Err(bug(format!(
            "the keyspace {keyspace:?} does not exist; {run_this}"
        )));
    };
    let of = Of { session, keyspace };
    let newest = FILES.last().map_or(0, |(number, _)| *number);
    let table = select(
        session,
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'schema_migration'",
        vec![text(keyspace.as_str())],
    )
    .await?;
    let known = if table.is_empty() {
        0
    } else {
        applied(&of).await?
    };
    refuse_newer(known, newest, keyspace)?;
    if known < newest {
        return Err(bug(format!(
            "the keyspace {keyspace:?} has schema {known}, this feedsme needs {newest}; {run_this}"
        )));
    }
    let ours = data_center(session, options).await?;
    let theirs = of
        .select(
            "SELECT data_center FROM schema_migration WHERE one = 1 AND number = 1",
            Vec::new(),
        )
        .await?;
    let theirs = theirs
        .first()
        .map_or(Ok(None), |cells| cells.owned("data_center"))?;
    if let Some(theirs) = theirs.filter(|theirs| !theirs.is_empty() && *theirs != ours) {
        return Err(bug(format!(
            "the keyspace {keyspace:?} is decided upon in data center {theirs:?} (conditional writes are of one data \
             center), and this replica is in {ours:?}; set store to one of {theirs:?}"
        )));
    }
    Ok(Keyspace {
        replicated: replication != "1",
    })
}

fn refuse_newer(known: i32, newest: i32, keyspace: &str) -> Result<()> {
    if known > newest {
        return Err(bug(format!(
            "the keyspace {keyspace:?} was made by a newer feedsme: it has schema {known}, this one knows {newest}; \
             start that version"
        )));
    }
    Ok(())
}

/// Applies a file, or waits until the one that is applying it has; whether it was us.
async fn apply(of: &Of<'_>, number: i32, file: &str, center: &str) -> Result<bool> {
    let by = uuid::Uuid::new_v4().to_string();
    let begun = now();
    loop {
        let first = of.decide(
            "INSERT INTO schema_migration (one, number, state, holder, at, data_center) VALUES (1, ?, 'applying', ?, ?, ?) \
             IF NOT EXISTS",
            vec![int(number), text(by.as_str()), big(now()), text(center)],
        )
        .await?;
        if !first {
            let there = of
                .select(
                    "SELECT state, holder, at FROM schema_migration WHERE one = 1 AND number = ?",
                    vec![int(number)],
                )
                .await?;
            let Some(there) = there.first() else { continue };
            if there.text("state")? == "applied" {
                return Ok(false);
            }
            let since: i64 = there.number("at")?;
            let holder = there.text("holder")?.to_owned();
            if holder != by {
                let patience = i64::try_from(TAKE_OVER.as_millis()).unwrap_or(i64::MAX);
                if now() - since < patience {
                    if now() - begun > 2 * patience {
                        return Err(away(format!(
                            "schema {number} is being applied by another feedsme for long"
                        )));
                    }
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    continue;
                }
                let taken = of.decide(
                    "UPDATE schema_migration SET holder = ?, at = ? WHERE one = 1 AND number = ? IF holder = ? AND at = ?",
                    vec![
                        text(by.as_str()),
                        big(now()),
                        int(number),
                        text(holder),
                        big(since),
                    ],
                )
                .await?;
                if !taken {
                    continue;
                }
            }
        }
        for statement in statements(file) {
            of.run(&statement).await?;
        }
        of.decide(
            "UPDATE schema_migration SET state = 'applied' WHERE one = 1 AND number = ? IF holder = ?",
            vec![int(number), text(by.as_str())],
        )
        .await?;
        return Ok(true);
    }
}

/// The statements of a file: comments are lines that begin with `--`, a statement ends with a line that ends in `;`.
fn statements(file: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut one = String::new();
    for line in file.lines() {
        if line.trim_start().starts_with("--") || line.trim().is_empty() {
            continue;
        }
        one.push_str(line);
        one.push('\n');
        if line.trim_end().ends_with(';') {
            all.push(std::mem::take(&mut one));
        }
    }
    all
}

/// The highest number up to which all files are applied.
async fn applied(of: &Of<'_>) -> Result<i32> {
    let rows = of
        .select(
            "SELECT number, state FROM schema_migration WHERE one = 1",
            Vec::new(),
        )
        .await?;
    let mut highest = 0;
    for cells in &rows {
        if cells.text("state")? == "applied" {
            highest = highest.max(cells.number("number")?);
        }
    }
    Ok(highest)
}

/// The keyspace's replication factor as text, the highest of all data centers; `None` if it does not exist.
async fn replication_of(session: &Session, keyspace: &str) -> Result<Option<String>> {
    let rows = select(
        session,
        "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?",
        vec![text(keyspace)],
    )
    .await?;
    let Some(cells) = rows.first() else {
        return Ok(None);
    };
    let mut most = 1;
    for (key, value) in cells.map("replication")? {
        if let scylla::value::CqlValue::Text(value) = value
            && key != "class"
        {
            // With transient replicas it reads 3/1.
            let nodes = value.split('/').next().unwrap_or_default();
            most = most.max(nodes.parse().unwrap_or(1));
        }
    }
    Ok(Some(most.to_string()))
}

/// The data center that our statements go to.
async fn data_center(session: &Session, options: &Options) -> Result<String> {
    if let Some(named) = &options.data_center {
        return Ok(named.clone());
    }
    let rows = select(session, "SELECT data_center FROM system.local", Vec::new()).await?;
    rows.first().map_or(Ok(String::new()), |cells| {
        Ok(cells.owned("data_center")?.unwrap_or_default())
    })
}

/// Says so if a node tells that it acknowledges before its commit log is on disk: then what was answered survives the death
/// of processes, not a power cut of all replicas at once (H25).
pub(super) async fn warn_of_commit_log(session: &Session) {
    let cql = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'";
    let mode = match select(session, cql, Vec::new()).await {
        Ok(rows) => rows.first().and_then(|cells| cells.owned("value").ok()?),
        // Older than 4.0, or not allowed to look.
        Err(_) => return,
    };
    if mode.as_deref() == Some("periodic") {
        tracing::warn!(
            "Cassandra's commitlog_sync is periodic: what was answered may be lost in a power cut of all nodes; \
             set it to group or batch"
        );
    }
}

/// A name that needs no thought about quoting.
fn check_name(keyspace: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = keyspace.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && keyspace.len() <= 48 && keyspace.chars().all(plain) {
        Ok(())
    } else {
        Err(bug(format!(
            "keyspace {keyspace:?} is not a name of at most 48 lower-case letters, digits and underscores that begins \
             with a letter"
        )))
    }
}

/// A keyspace that statements are run in.
struct Of<'a> {
    session: &'a Session,
    keyspace: &'a str,
}

impl Of<'_> {
    async fn run(&self, cql: &str) -> Result<()> {
        let cql = qualified(self.keyspace, cql);
        let mut statement = Statement::new(&cql);
        statement.set_request_timeout(Some(Duration::from_mins(1)));
        self.session
            .query_unpaged(statement, ())
            .await
            .map(drop)
            .map_err(|error| of_write(&cql, &error))
    }

    async fn select(&self, cql: &str, values: Vec<Value>) -> Result<Vec<Cells>> {
        select(self.session, &qualified(self.keyspace, cql), values).await
    }

    /// A conditional write; one whose outcome is unknown is simply asked again by the loop around it.
    async fn decide(&self, cql: &str, values: Vec<Value>) -> Result<bool> {
        let cql = qualified(self.keyspace, cql);
        let mut statement = Statement::new(&cql);
        statement.set_consistency(Consistency::LocalQuorum);
        statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        let result = self
            .session
            .query_unpaged(statement, values)
            .await
            .map_err(|error| of_write(&cql, &error))?;
        rows(result)?
            .first()
            .map_or(Ok(true), |first| first.flag("[applied]"))
    }
}

async fn select(session: &Session, cql: &str, values: Vec<Value>) -> Result<Vec<Cells>> {
    let mut statement = Statement::new(cql);
    statement.set_is_idempotent(true);
    let result = session
        .query_unpaged(statement, values)
        .await
        .map_err(|error| of_read(cql, &error))?;
    rows(result)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::{FILES, Replication, check_name, statements};

    #[test]
    fn files_are_numbered_and_split_into_statements_that_can_be_run_again() {
        for (at, (number, file)) in FILES.iter().enumerate() {
            assert_eq!(usize::try_from(*number).unwrap(), at + 1);
            for statement in statements(file) {
                assert!(statement.contains("IF NOT EXISTS"), "{statement}");
                assert_eq!(statement.matches(';').count(), 1, "{statement}");
            }
        }
        // The names that the Node software has for itself (contract.md 3.1).
        let theirs = [
            "build",
            "build_file",
            "build_head",
            "package",
            "package_cache",
            "version",
            "dependent",
        ];
        for name in theirs {
            let made = format!("CREATE TABLE IF NOT EXISTS {name} ");
            assert!(
                FILES.iter().all(|(_, file)| !file.contains(&made)),
                "{name}"
            );
        }
    }

    #[test]
    fn replication_is_a_number_or_data_centers() {
        let cql = |text: &str| text.parse::<Replication>().map(|one| one.to_string());
        assert_eq!(
            cql("3").unwrap(),
            "{'class': 'SimpleStrategy', 'replication_factor': 3}"
        );
        assert_eq!(
            cql("a:3,b-1:2").unwrap(),
            "{'class': 'NetworkTopologyStrategy', 'a': 3, 'b-1': 2}"
        );
        for wrong in ["", "0", "x", "a:", ":3", "a:3,", "a':3", "21"] {
            assert!(cql(wrong).unwrap_err().contains("replication"), "{wrong}");
        }
    }

    #[test]
    fn keyspace_names_are_plain() {
        for right in ["feedsme", "f_1"] {
            check_name(right).unwrap();
        }
        for wrong in ["", "1f", "F", "a-b", "a\"b", &"a".repeat(49)] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
