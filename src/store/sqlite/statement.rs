//! How statements are run and columns are read.
//!
//! Every statement is declared in a [`statements!`] list, so that a test can ask SQLite how it would run each of them and
//! none can start to scan a table unnoticed.

use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row, RowIndex};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::bug;
use crate::model::name::PackageName;
use crate::semver::Version;
use crate::store::Result;

/// Declares a module's statements, and lists them for the test of their query plans.
macro_rules! statements {
    ($($name:ident = $sql:expr;)*) => {
        $(const $name: &str = $sql;)*
        #[cfg(test)]
        pub(super) const STATEMENTS: &[&str] = &[$($name),*];
    };
}
pub(super) use statements;

/// Runs a statement; the number of rows that it changed.
pub(super) fn run(db: &Connection, sql: &str, params: impl Params) -> Result<usize> {
    Ok(db.prepare_cached(sql)?.execute(params)?)
}

/// All rows of a query.
pub(super) fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    db.prepare_cached(sql)?
        .query_and_then(params, read)?
        .collect()
}

/// The first row of a query.
pub(super) fn one<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    db.prepare_cached(sql)?
        .query_and_then(params, read)?
        .next()
        .transpose()
}

/// Reads columns as the model's types: by name, which looks through all names of the statement each time, or by place.
pub(super) trait Columns {
    /// A column that SQLite knows by itself.
    fn plain<T: FromSql>(&self, column: impl RowIndex) -> Result<T>;
    /// A number that is never negative.
    fn count<N: TryFrom<i64>>(&self, column: impl RowIndex) -> Result<N>;
    /// A package name.
    fn name(&self, column: impl RowIndex) -> Result<PackageName>;
    /// A package name or NULL.
    fn maybe_name(&self, column: impl RowIndex) -> Result<Option<PackageName>>;
    /// A version.
    fn version(&self, column: impl RowIndex) -> Result<Version>;
    /// A version or NULL.
    fn maybe_version(&self, column: impl RowIndex) -> Result<Option<Version>>;
    /// JSON text.
    fn json<T: DeserializeOwned>(&self, column: impl RowIndex) -> Result<T>;
    /// JSON text or NULL.
    fn maybe_json<T: DeserializeOwned>(&self, column: impl RowIndex) -> Result<Option<T>>;
}

/// The text of a column.
fn text_of<'r>(row: &'r Row<'_>, column: impl RowIndex) -> Result<&'r str> {
    Ok(row
        .get_ref(column)?
        .as_str()
        .map_err(rusqlite::Error::from)?)
}

/// The text of a column that may be NULL.
fn maybe_text_of<'r>(row: &'r Row<'_>, column: impl RowIndex) -> Result<Option<&'r str>> {
    Ok(row
        .get_ref(column)?
        .as_str_or_null()
        .map_err(rusqlite::Error::from)?)
}

impl Columns for Row<'_> {
    fn plain<T: FromSql>(&self, column: impl RowIndex) -> Result<T> {
        Ok(self.get(column)?)
    }

    fn count<N: TryFrom<i64>>(&self, column: impl RowIndex) -> Result<N> {
        let number: i64 = self.get(column)?;
        N::try_from(number).map_err(|_| {
            bug(format!(
                "a stored number is {number}, which is out of range"
            ))
        })
    }

    fn name(&self, column: impl RowIndex) -> Result<PackageName> {
        parse_name(text_of(self, column)?)
    }

    fn maybe_name(&self, column: impl RowIndex) -> Result<Option<PackageName>> {
        maybe_text_of(self, column)?.map(parse_name).transpose()
    }

    fn version(&self, column: impl RowIndex) -> Result<Version> {
        parse_version(text_of(self, column)?)
    }

    fn maybe_version(&self, column: impl RowIndex) -> Result<Option<Version>> {
        maybe_text_of(self, column)?.map(parse_version).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: impl RowIndex) -> Result<T> {
        parse_json(text_of(self, column)?)
    }

    fn maybe_json<T: DeserializeOwned>(&self, column: impl RowIndex) -> Result<Option<T>> {
        maybe_text_of(self, column)?.map(parse_json).transpose()
    }
}

/// Reads the columns of a row in their order, for rows that are read often or have many columns.
pub(super) struct InOrder<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl<'r, 's> InOrder<'r, 's> {
    /// From the first column on.
    pub(super) fn of(row: &'r Row<'s>) -> Self {
        Self { row, next: 0 }
    }

    fn at(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// Passes columns by.
    pub(super) fn skip(&mut self, columns: usize) {
        self.next += columns;
    }

    /// A column that SQLite knows by itself.
    pub(super) fn plain<T: FromSql>(&mut self) -> Result<T> {
        self.row.plain(self.at())
    }

    /// A text.
    pub(super) fn text(&mut self) -> Result<&'r str> {
        text_of(self.row, self.at())
    }

    /// A text or NULL.
    pub(super) fn maybe_text(&mut self) -> Result<Option<&'r str>> {
        maybe_text_of(self.row, self.at())
    }

    /// A number that is never negative.
    pub(super) fn count<N: TryFrom<i64>>(&mut self) -> Result<N> {
        self.row.count(self.at())
    }

    /// A package name.
    pub(super) fn name(&mut self) -> Result<PackageName> {
        self.row.name(self.at())
    }

    /// A package name or NULL.
    pub(super) fn maybe_name(&mut self) -> Result<Option<PackageName>> {
        self.row.maybe_name(self.at())
    }

    /// A version.
    pub(super) fn version(&mut self) -> Result<Version> {
        self.row.version(self.at())
    }

    /// A version or NULL.
    pub(super) fn maybe_version(&mut self) -> Result<Option<Version>> {
        self.row.maybe_version(self.at())
    }

    /// JSON text.
    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.row.json(self.at())
    }

    /// JSON text or NULL.
    pub(super) fn maybe_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        self.row.maybe_json(self.at())
    }
}

fn parse_name(text: &str) -> Result<PackageName> {
    PackageName::parse(text).map_err(|error| bug(format!("a stored package name {text:?} {error}")))
}

fn parse_version(text: &str) -> Result<Version> {
    Version::parse(text).map_err(|error| bug(format!("a stored version: {error}")))
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| bug(format!("stored JSON is unreadable: {error}")))
}

/// JSON text for a column.
pub(super) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| bug(format!("cannot be written as JSON: {error}")))
}

/// JSON text for a column that may be NULL.
pub(super) fn maybe_json(value: Option<&impl Serialize>) -> Result<Option<String>> {
    value.map(json).transpose()
}

/// A version's column text, or NULL.
pub(super) fn text(version: Option<&Version>) -> Option<String> {
    version.map(Version::to_string)
}

/// A column for a number that counts up from 0.
pub(super) fn number(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(|_| bug(format!("{count} does not fit into a column")))
}

/// A LIMIT or OFFSET.
pub(super) fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
