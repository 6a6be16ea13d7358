//! The tables of the Node software in its own keyspace, read for an import (contract.md 3.1). Nothing is written here.
//!
//! Rows come as they are, as text: what they are worth is judged by [`crate::import`]. Tables are read whole, page by page,
//! because none of them can be asked for the versions of a package; what may be large (documents, the dependents of a
//! line) is read by key.

use std::collections::{BTreeMap, BTreeSet};

use scylla::client::session::Session;
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use scylla::value::CqlValue;

use super::error::{away, bug, of_read};
use super::session::{self, Options};
use super::values::{Cells, Value, rows, text};
use crate::model::package::Stamp;
use crate::store::Result;

/// The rows of one page.
const PAGE: i32 = 2_000;

/// A keyspace of the Node software.
pub struct WarehouseKeyspace {
    session: Session,
    names: PreparedStatement,
    versions: PreparedStatement,
    lines: PreparedStatement,
    heads: PreparedStatement,
    parents: PreparedStatement,
    value: PreparedStatement,
    package: PreparedStatement,
    dependents: PreparedStatement,
}

/// A row of `version` without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// The key, `name@version`.
    pub id: String,
    /// `name`.
    pub name: Option<String>,
    /// `version`.
    pub version: Option<String>,
    /// When `value` was written, in microseconds.
    pub written: Option<Stamp>,
}

/// A row of `release_line` or `release_line_head`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRow {
    /// `pkg`.
    pub package: String,
    /// `version`.
    pub version: Option<String>,
    /// `previous_version`.
    pub previous: Option<String>,
    /// When that was written, in microseconds.
    pub written: Option<Stamp>,
}

/// A row of `release_line_dep`, or of `dependent_of`: a name with another text, and when that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRow {
    /// `dependent`, or `pkg`.
    pub name: String,
    /// `dependent_version`, or `dependent_of`.
    pub value: Option<String>,
    /// When, in microseconds.
    pub written: Option<Stamp>,
}

/// A row of `package`: the columns by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageRow {
    /// Columns of type text.
    pub texts: BTreeMap<&'static str, String>,
    /// Columns of type set.
    pub sets: BTreeMap<&'static str, BTreeSet<String>>,
    /// Columns of type map.
    pub maps: BTreeMap<&'static str, BTreeMap<String, String>>,
}

const TEXTS: [&str; 6] = [
    "name",
    "version",
    "description",
    "main",
    "git_head",
    "extended",
];
const SETS: [&str; 2] = ["keywords", "bundled_dependencies"];
const MAPS: [&str; 6] = [
    "config",
    "repository",
    "dependencies",
    "dev_dependencies",
    "peer_dependencies",
    "optional_dependencies",
];

impl WarehouseKeyspace {
    /// Connects to a keyspace that has the Node software's tables.
    ///
    /// # Errors
    /// [`Away`](crate::store::StoreErrorKind::Away) if the cluster does not answer;
    /// [`Bug`](crate::store::StoreErrorKind::Bug) if there is no such keyspace, or a table is missing.
    pub async fn open(options: &Options) -> Result<Self> {
        let (session, _) = session::connect(options).await?;
        let keyspace = &options.keyspace;
        session
            .use_keyspace(keyspace, true)
            .await
            .map_err(|error| bug(format!("the keyspace {keyspace:?} cannot be used: {error}")))?;
        let prepare = async |cql: String| {
            let mut statement = Statement::new(&cql);
            statement.set_page_size(PAGE);
            let mut statement = session.prepare(statement).await.map_err(|error| {
                bug(format!(
                    "the keyspace {keyspace:?} is none of the Node software's: {cql}: {error}"
                ))
            })?;
            statement.set_is_idempotent(true);
            Ok::<_, crate::store::StoreError>(statement)
        };
        let line_rows = |table: &str| {
            format!(
                "SELECT pkg, version, previous_version, WRITETIME(previous_version) AS written FROM {table}"
            )
        };
        let columns = [&TEXTS[..], &SETS[..], &MAPS[..]].concat().join(", ");
        Ok(Self {
            names: prepare("SELECT name, version FROM package".into()).await?,
            versions: prepare(
                "SELECT version_id, name, version, WRITETIME(value) AS written FROM version".into(),
            )
            .await?,
            lines: prepare(line_rows("release_line")).await?,
            heads: prepare(line_rows("release_line_head")).await?,
            parents: prepare(
                "SELECT pkg, dependent_of, WRITETIME(dependent_of) AS written FROM dependent_of"
                    .into(),
            )
            .await?,
            value: prepare("SELECT value FROM version WHERE version_id = ?".into()).await?,
            package: prepare(format!("SELECT {columns} FROM package WHERE name = ?")).await?,
            dependents: prepare(
                "SELECT dependent, dependent_version, WRITETIME(dependent_version) AS written \
                 FROM release_line_dep WHERE pkg = ? AND version = ?"
                    .into(),
            )
            .await?,
            session,
        })
    }

    /// `name` and `version` of all rows of `package`: what is managed, each with its latest version.
    pub async fn names(&self, mut each: impl FnMut(String, Option<String>)) -> Result<()> {
        self.scan(&self.names, Vec::new(), |cells| {
            each(cells.text("name")?.to_owned(), real(cells, "version")?);
            Ok(())
        })
        .await
    }

    /// All rows of `version`.
    pub async fn versions(&self, mut each: impl FnMut(VersionRow)) -> Result<()> {
        self.scan(&self.versions, Vec::new(), |cells| {
            each(VersionRow {
                id: cells.text("version_id")?.to_owned(),
                name: real(cells, "name")?,
                version: real(cells, "version")?,
                written: cells.maybe_number("written")?,
            });
            Ok(())
        })
        .await
    }

    /// All rows of `release_line`.
    pub async fn lines(&self, each: impl FnMut(LineRow)) -> Result<()> {
        self.line_rows(&self.lines, each).await
    }

    /// All rows of `release_line_head`.
    pub async fn heads(&self, each: impl FnMut(LineRow)) -> Result<()> {
        self.line_rows(&self.heads, each).await
    }

    async fn line_rows(
        &self,
        statement: &PreparedStatement,
        mut each: impl FnMut(LineRow),
    ) -> Result<()> {
        self.scan(statement, Vec::new(), |cells| {
            each(LineRow {
                package: cells.text("pkg")?.to_owned(),
                version: real(cells, "version")?,
                previous: real(cells, "previous_version")?,
                written: cells.maybe_number("written")?,
            });
            Ok(())
        })
        .await
    }

    /// All rows of `dependent_of`: a package and the single parent that is kept of it.
    pub async fn parents(&self, mut each: impl FnMut(NamedRow)) -> Result<()> {
        self.scan(&self.parents, Vec::new(), |cells| {
            each(NamedRow {
                name: cells.text("pkg")?.to_owned(),
                value: real(cells, "dependent_of")?,
                written: cells.maybe_number("written")?,
            });
            Ok(())
        })
        .await
    }

    /// The rows of `release_line_dep` of one line.
    pub async fn dependents(&self, package: &str, version: &str) -> Result<Vec<NamedRow>> {
        let mut found = Vec::new();
        self.scan(
            &self.dependents,
            vec![text(package), text(version)],
            |cells| {
                found.push(NamedRow {
                    name: cells.text("dependent")?.to_owned(),
                    value: real(cells, "dependent_version")?,
                    written: cells.maybe_number("written")?,
                });
                Ok(())
            },
        )
        .await?;
        Ok(found)
    }

    /// `value` of a row of `version`: the publish document as JSON.
    pub async fn value(&self, id: &str) -> Result<Option<String>> {
        let mut found = None;
        self.scan(&self.value, vec![text(id)], |cells| {
            found = real(cells, "value")?;
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// A row of `package`.
    pub async fn package(&self, name: &str) -> Result<Option<PackageRow>> {
        let mut found = None;
        self.scan(&self.package, vec![text(name)], |cells| {
            let mut row = PackageRow::default();
            for column in TEXTS {
                if let Some(value) = real(cells, column)? {
                    row.texts.insert(column, value);
                }
            }
            for column in SETS {
                let values = cells.set(column)?.into_iter();
                let values: BTreeSet<_> = values.filter(|value| is_real(value)).collect();
                if !values.is_empty() {
                    row.sets.insert(column, values);
                }
            }
            for column in MAPS {
                let mut values = BTreeMap::new();
                for (key, value) in cells.map(column)? {
                    if let CqlValue::Text(value) = value
                        && is_real(&value)
                    {
                        values.insert(key, value);
                    }
                }
                if !values.is_empty() {
                    row.maps.insert(column, values);
                }
            }
            found = Some(row);
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Reads page by page; a page that fails is asked for again a few times.
    async fn scan(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value>,
        mut each: impl FnMut(&Cells) -> Result<()>,
    ) -> Result<()> {
        let mut state = PagingState::start();
        loop {
            let mut tries = 0;
            let (page, next) = loop {
                let page = self
                    .session
                    .execute_single_page(statement, &values, state.clone())
                    .await;
                match page {
                    Ok(page) => break page,
                    Err(_) if tries < 4 => {
                        tries += 1;
                        tokio::time::sleep(std::time::Duration::from_millis(250 << tries)).await;
                    }
                    Err(error) => {
                        let error = of_read(statement.get_statement(), &error);
                        return Err(away(error.message));
                    }
                }
            };
            for cells in rows(page)? {
                each(&cells)?;
            }
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Continue(next) => state = next,
                std::ops::ControlFlow::Break(()) => return Ok(()),
            }
        }
    }
}

/// A text; datastar writes a null as the character U+0000.
fn real(cells: &Cells, column: &str) -> Result<Option<String>> {
    Ok(cells.owned(column)?.filter(|text| is_real(text)))
}

fn is_real(text: &str) -> bool {
    !text.is_empty() && text != "\u{0}"
}
