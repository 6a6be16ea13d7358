//! Values that are bound to statements, and rows that come back.
//!
//! Statements have up to forty columns of which a write names some; a list of dynamic values says "leave this one as it
//! is" ([`unset`]) where a struct for each statement could not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use scylla::response::query_result::QueryResult;
use scylla::value::{CqlValue, MaybeUnset, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::error::bug;
use crate::model::name::PackageName;
use crate::semver::Version;
use crate::store::Result;

/// A value of a statement: something, NULL, or left as it is.
pub(super) type Value = MaybeUnset<Option<CqlValue>>;

pub(super) fn set(value: CqlValue) -> Value {
    MaybeUnset::Set(Some(value))
}

/// NULL.
pub(super) fn null() -> Value {
    MaybeUnset::Set(None)
}

/// The column stays as it is.
pub(super) fn unset() -> Value {
    MaybeUnset::Unset
}

pub(super) fn text(value: impl Into<String>) -> Value {
    set(CqlValue::Text(value.into()))
}

pub(super) fn version(value: &Version) -> Value {
    text(value.to_string())
}

pub(super) fn big(value: i64) -> Value {
    set(CqlValue::BigInt(value))
}

pub(super) fn int(value: i32) -> Value {
    set(CqlValue::Int(value))
}

pub(super) fn small(value: i16) -> Value {
    set(CqlValue::SmallInt(value))
}

pub(super) fn tiny(value: i8) -> Value {
    set(CqlValue::TinyInt(value))
}

pub(super) fn boolean(value: bool) -> Value {
    set(CqlValue::Boolean(value))
}

pub(super) fn blob(value: &[u8]) -> Value {
    set(CqlValue::Blob(value.to_vec()))
}

pub(super) fn uuid(value: Uuid) -> Value {
    set(CqlValue::Uuid(value))
}

/// NULL where there is none.
pub(super) fn maybe<T>(value: Option<T>, make: impl FnOnce(T) -> Value) -> Value {
    value.map_or_else(null, make)
}

/// Left as it is where there is none.
pub(super) fn given<T>(value: Option<T>, make: impl FnOnce(T) -> Value) -> Value {
    value.map_or_else(unset, make)
}

/// A number that counts up from 0.
pub(super) fn count(value: u64) -> Result<Value> {
    Ok(big(number(value)?))
}

pub(super) fn number(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| bug(format!("{value} does not fit into a column")))
}

/// JSON text.
pub(super) fn json(value: &impl Serialize) -> Result<Value> {
    Ok(text(json_text(value)?))
}

pub(super) fn json_text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| bug(format!("cannot be written as JSON: {error}")))
}

pub(super) fn texts<'a>(values: impl Iterator<Item = &'a str>) -> Value {
    set(CqlValue::Set(
        values
            .map(|value| CqlValue::Text(value.to_owned()))
            .collect(),
    ))
}

/// A row that came back, read by the names of its columns.
pub(super) struct Cells {
    names: Arc<[String]>,
    values: Vec<Option<CqlValue>>,
}

/// The rows of a result; none if it has no rows.
pub(super) fn rows(result: QueryResult) -> Result<Vec<Cells>> {
    if !result.is_rows() {
        return Ok(Vec::new());
    }
    let unreadable = |error: String| bug(format!("cassandra: a result is unreadable: {error}"));
    let result = result
        .into_rows_result()
        .map_err(|error| unreadable(error.to_string()))?;
    let names: Arc<[String]> = result
        .column_specs()
        .iter()
        .map(|spec| spec.name().to_owned())
        .collect();
    result
        .rows::<Row>()
        .map_err(|error| unreadable(error.to_string()))?
        .map(|row| {
            let row = row.map_err(|error| unreadable(error.to_string()))?;
            Ok(Cells {
                names: names.clone(),
                values: row.columns,
            })
        })
        .collect()
}

impl Cells {
    fn get(&self, column: &str) -> Result<Option<&CqlValue>> {
        let at = self
            .names
            .iter()
            .position(|name| name == column)
            .ok_or_else(|| bug(format!("no column {column} in a result")))?;
        Ok(self.values.get(at).and_then(Option::as_ref))
    }

    fn wrong(column: &str, value: &CqlValue) -> crate::store::StoreError {
        bug(format!("{column} holds {value:?}"))
    }

    fn missing(column: &str) -> crate::store::StoreError {
        bug(format!("{column} is empty"))
    }

    pub(super) fn has(&self, column: &str) -> Result<bool> {
        Ok(self.get(column)?.is_some())
    }

    pub(super) fn maybe_text(&self, column: &str) -> Result<Option<&str>> {
        match self.get(column)? {
            None => Ok(None),
            Some(CqlValue::Text(text) | CqlValue::Ascii(text)) => Ok(Some(text)),
            Some(other) => Err(Self::wrong(column, other)),
        }
    }

    pub(super) fn text(&self, column: &str) -> Result<&str> {
        self.maybe_text(column)?
            .ok_or_else(|| Self::missing(column))
    }

    pub(super) fn owned(&self, column: &str) -> Result<Option<String>> {
        Ok(self.maybe_text(column)?.map(str::to_owned))
    }

    pub(super) fn maybe_number(&self, column: &str) -> Result<Option<i64>> {
        match self.get(column)? {
            None => Ok(None),
            Some(CqlValue::BigInt(value)) => Ok(Some(*value)),
            Some(CqlValue::Int(value)) => Ok(Some(i64::from(*value))),
            Some(CqlValue::SmallInt(value)) => Ok(Some(i64::from(*value))),
            Some(CqlValue::TinyInt(value)) => Ok(Some(i64::from(*value))),
            Some(other) => Err(Self::wrong(column, other)),
        }
    }

    /// A number in the range of `N`.
    pub(super) fn number<N: TryFrom<i64>>(&self, column: &str) -> Result<N> {
        let value = self
            .maybe_number(column)?
            .ok_or_else(|| Self::missing(column))?;
        N::try_from(value)
            .map_err(|_| bug(format!("{column} holds {value}, which is out of range")))
    }

    /// False where it is empty.
    pub(super) fn flag(&self, column: &str) -> Result<bool> {
        match self.get(column)? {
            None => Ok(false),
            Some(CqlValue::Boolean(value)) => Ok(*value),
            Some(other) => Err(Self::wrong(column, other)),
        }
    }

    pub(super) fn bytes(&self, column: &str) -> Result<Vec<u8>> {
        match self.get(column)? {
            Some(CqlValue::Blob(bytes)) => Ok(bytes.clone()),
            Some(other) => Err(Self::wrong(column, other)),
            None => Err(Self::missing(column)),
        }
    }

    pub(super) fn maybe_uuid(&self, column: &str) -> Result<Option<Uuid>> {
        match self.get(column)? {
            None => Ok(None),
            Some(CqlValue::Uuid(value)) => Ok(Some(*value)),
            Some(other) => Err(Self::wrong(column, other)),
        }
    }

    pub(super) fn name(&self, column: &str) -> Result<PackageName> {
        parse_name(self.text(column)?)
    }

    pub(super) fn maybe_name(&self, column: &str) -> Result<Option<PackageName>> {
        self.maybe_text(column)?.map(parse_name).transpose()
    }

    pub(super) fn version(&self, column: &str) -> Result<Version> {
        parse_version(self.text(column)?)
    }

    pub(super) fn maybe_version(&self, column: &str) -> Result<Option<Version>> {
        self.maybe_text(column)?.map(parse_version).transpose()
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        self.maybe_json(column)?
            .ok_or_else(|| Self::missing(column))
    }

    pub(super) fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        self.maybe_text(column)?
            .map(|text| {
                serde_json::from_str(text)
                    .map_err(|error| bug(format!("{column} holds unreadable JSON: {error}")))
            })
            .transpose()
    }

    pub(super) fn set(&self, column: &str) -> Result<BTreeSet<String>> {
        match self.get(column)? {
            None => Ok(BTreeSet::new()),
            Some(CqlValue::Set(values)) => values
                .iter()
                .map(|value| match value {
                    CqlValue::Text(text) => Ok(text.clone()),
                    other => Err(Self::wrong(column, other)),
                })
                .collect(),
            Some(other) => Err(Self::wrong(column, other)),
        }
    }

    /// A map from text; empty where there is none.
    pub(super) fn map(&self, column: &str) -> Result<BTreeMap<String, CqlValue>> {
        match self.get(column)? {
            None => Ok(BTreeMap::new()),
            Some(CqlValue::Map(pairs)) => pairs
                .iter()
                .map(|(key, value)| match key {
                    CqlValue::Text(text) => Ok((text.clone(), value.clone())),
                    other => Err(Self::wrong(column, other)),
                })
                .collect(),
            Some(other) => Err(Self::wrong(column, other)),
        }
    }
}

pub(super) fn parse_name(text: &str) -> Result<PackageName> {
    PackageName::parse(text).map_err(|error| bug(format!("a stored package name {text:?} {error}")))
}

pub(super) fn parse_version(text: &str) -> Result<Version> {
    Version::parse(text).map_err(|error| bug(format!("a stored version: {error}")))
}
