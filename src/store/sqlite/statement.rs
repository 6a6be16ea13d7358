//! How statements are run and columns are read.
//!
//! Every statement is declared in a [`statements!`] list, so that a test can ask SQLite how it would run each of them and
//! none can start to scan a table unnoticed.

use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row};
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

/// Reads columns by name as the model's types.
pub(super) trait Columns {
    /// A column that SQLite knows by itself.
    fn plain<T: FromSql>(&self, column: &str) -> Result<T>;
    /// A number that is never negative.
    fn count<N: TryFrom<i64>>(&self, column: &str) -> Result<N>;
    /// A package name.
    fn name(&self, column: &str) -> Result<PackageName>;
    /// A package name or NULL.
    fn maybe_name(&self, column: &str) -> Result<Option<PackageName>>;
    /// A version.
    fn version(&self, column: &str) -> Result<Version>;
    /// A version or NULL.
    fn maybe_version(&self, column: &str) -> Result<Option<Version>>;
    /// JSON text.
    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T>;
    /// JSON text or NULL.
    fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>>;
}

impl Columns for Row<'_> {
    fn plain<T: FromSql>(&self, column: &str) -> Result<T> {
        Ok(self.get(column)?)
    }

    fn count<N: TryFrom<i64>>(&self, column: &str) -> Result<N> {
        let number: i64 = self.get(column)?;
        N::try_from(number)
            .map_err(|_| bug(format!("{column} holds {number}, which is out of range")))
    }

    fn name(&self, column: &str) -> Result<PackageName> {
        parse_name(
            self.get_ref(column)?
                .as_str()
                .map_err(rusqlite::Error::from)?,
        )
    }

    fn maybe_name(&self, column: &str) -> Result<Option<PackageName>> {
        let text = self
            .get_ref(column)?
            .as_str_or_null()
            .map_err(rusqlite::Error::from)?;
        text.map(parse_name).transpose()
    }

    fn version(&self, column: &str) -> Result<Version> {
        parse_version(
            self.get_ref(column)?
                .as_str()
                .map_err(rusqlite::Error::from)?,
        )
    }

    fn maybe_version(&self, column: &str) -> Result<Option<Version>> {
        let text = self
            .get_ref(column)?
            .as_str_or_null()
            .map_err(rusqlite::Error::from)?;
        text.map(parse_version).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        parse_json(
            column,
            self.get_ref(column)?
                .as_str()
                .map_err(rusqlite::Error::from)?,
        )
    }

    fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        let text = self
            .get_ref(column)?
            .as_str_or_null()
            .map_err(rusqlite::Error::from)?;
        text.map(|text| parse_json(column, text)).transpose()
    }
}

fn parse_name(text: &str) -> Result<PackageName> {
    PackageName::parse(text).map_err(|error| bug(format!("a stored package name {text:?} {error}")))
}

fn parse_version(text: &str) -> Result<Version> {
    Version::parse(text).map_err(|error| bug(format!("a stored version: {error}")))
}

fn parse_json<T: DeserializeOwned>(column: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| bug(format!("{column} holds unreadable JSON: {error}")))
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
