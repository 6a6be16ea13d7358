//! What a request says beside its body, judged: names, versions, limits, cursors, headers. Each has one function here, so
//! that the same mistake gets the same answer on every route.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};

use super::errors::{ApiError, Result};
use crate::model::name::PackageName;
use crate::query::page::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::semver::Version;

/// The longest that `?wait=` waits, in seconds.
const MAX_WAIT: f64 = 60.0;

/// The most characters of an `Idempotency-Key`.
const MAX_KEY: usize = 200;

/// The parameters of a query string.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query string of a request that may have these parameters and no other.
    pub fn of(request: &HttpRequest, known: &[&str]) -> Result<Self> {
        let query = Self::lenient(request)?;
        let unknown = query.0.iter().find(|(key, _)| !known.contains(&&**key));
        let Some((key, _)) = unknown else {
            return Ok(query);
        };
        let key = clip(key);
        let text = match known {
            [] => format!("query: {key:?} is not a parameter here: there are none"),
            known => format!(
                "query: {key:?} is not a parameter here: use {}",
                known.join(", ")
            ),
        };
        Err(ApiError::invalid("unknown_parameter", key, text))
    }

    /// Reads the query string of a request whose other parameters do not matter: clients that post changes may add
    /// what they like.
    pub fn lenient(request: &HttpRequest) -> Result<Self> {
        let pairs =
            actix_web::web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let text = "is not a query string";
        pairs
            .map(|pairs| Self(pairs.into_inner()))
            .map_err(|_| ApiError::invalid("invalid_query", "query", format!("query: {text}")))
    }

    /// The value of a parameter, if it is given; once.
    pub fn get(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self
            .0
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(ApiError::invalid(
                "invalid_query",
                name,
                format!("{name}: is given twice"),
            )),
            (value, None) => Ok(value),
        }
    }

    /// `limit`: 1 to 500, 50 if not given.
    pub fn limit(&self) -> Result<usize> {
        let Some(text) = self.get("limit")? else {
            return Ok(DEFAULT_LIMIT);
        };
        let limit = text
            .parse::<usize>()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| {
            ApiError::invalid(
                "invalid_limit",
                "limit",
                format!("limit: must be a number from 1 to {MAX_LIMIT}"),
            )
        })
    }

    /// `cursor`, read by the list that it is of.
    pub fn cursor<T>(&self, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.get("cursor")? else {
            return Ok(None);
        };
        read(text).map(Some).ok_or_else(|| {
            let text = "cursor: must be the `next` of an answer from this very list";
            ApiError::invalid("invalid_cursor", "cursor", text)
        })
    }

    /// A parameter that is one of a few words, which `words` lists; `None` if not given.
    pub fn one_of<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str) -> Option<T>,
        words: &str,
    ) -> Result<Option<T>> {
        let Some(text) = self.get(name)? else {
            return Ok(None);
        };
        read(text).map(Some).ok_or_else(|| {
            let text = format!("{name}: {:?} is not one of {words}", clip(text));
            ApiError::invalid("invalid_parameter", name, text)
        })
    }

    /// `wait`: seconds from 0 to 60, fractions too; `None` if not given.
    pub fn wait(&self) -> Result<Option<Duration>> {
        let Some(text) = self.get("wait")? else {
            return Ok(None);
        };
        let plain = !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let seconds = text
            .parse::<f64>()
            .ok()
            .filter(|seconds| plain && (0.0..=MAX_WAIT).contains(seconds));
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        duration.map(Some).ok_or_else(|| {
            ApiError::invalid(
                "invalid_wait",
                "wait",
                format!("wait: must be a number of seconds from 0 to {MAX_WAIT}"),
            )
        })
    }
}

/// A package's name in a path, decoded already.
pub fn package(text: &str) -> Result<PackageName> {
    package_in("package", text)
}

/// A package's name in a field or parameter.
pub fn package_in(field: &str, text: &str) -> Result<PackageName> {
    PackageName::parse(text).map_err(|why| {
        ApiError::invalid(
            "invalid_name",
            field,
            format!("{field}: {:?} is not a package name: it {why}", clip(text)),
        )
    })
}

/// A version in a path.
pub fn version(text: &str) -> Result<Version> {
    Version::parse(text).map_err(|_| {
        ApiError::invalid(
            "invalid_version",
            "version",
            format!("version: {:?} is not a version such as 1.0.0", clip(text)),
        )
    })
}

/// The `Idempotency-Key`: at most one, 1 to 200 visible ASCII characters.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let mut keys = headers.get_all("idempotency-key");
    let (Some(key), more) = (keys.next(), keys.next()) else {
        return Ok(None);
    };
    let bytes = key.as_bytes();
    let visible = bytes.iter().all(u8::is_ascii_graphic);
    let text = key
        .to_str()
        .ok()
        .filter(|_| visible && (1..=MAX_KEY).contains(&bytes.len()) && more.is_none());
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        let text = format!(
            "Idempotency-Key: must be one header of 1 to {MAX_KEY} visible ASCII characters"
        );
        ApiError::invalid("invalid_idempotency_key", "Idempotency-Key", text)
    })
}

/// 415 unless the body is said to be JSON; parameters such as a charset do not matter.
pub fn must_be_json(headers: &HeaderMap) -> Result<()> {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let text = "the body must come with Content-Type: application/json";
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_content_type",
        text,
    ))
}

/// At most 80 characters of what a client wrote.
pub fn clip(text: &str) -> String {
    match text.char_indices().nth(80) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
