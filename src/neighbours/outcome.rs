//! What can come of a request to a neighbour, by name.
//!
//! Why: the table of design.md 4 is the promise that nothing is lost and nothing is sent for ever. It is decided
//! once, here and where a reply is read; everything after that matches on [`Class`].

use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::{Deserialize, Serialize};

use super::text;

/// One of the three services feedsme sends to or reads from. Each has a lane of its own (design.md 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Neighbour {
    /// Builds what it is sent (contract.md 2.1).
    BuildService,
    /// Publishes what it is sent (contract.md 2.2).
    Warehouse,
    /// Has the packuments and the tarballs (contract.md 2.4).
    Registry,
}

impl Neighbour {
    /// The name in settings, routes and metrics: `build_service`, `warehouse`, `registry`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BuildService => "build_service",
            Self::Warehouse => "warehouse",
            Self::Registry => "registry",
        }
    }

    /// The name in a sentence.
    const fn spoken(self) -> &'static str {
        match self {
            Self::BuildService => "build service",
            Self::Warehouse => "warehouse",
            Self::Registry => "registry",
        }
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rows of the outcome table of design.md 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The neighbour has it.
    Sent,
    /// It may work later: 5xx, 408, 425, 429, an error line, a broken or silent connection.
    Retry {
        /// What the neighbour asked for, if it did.
        retry_after: Option<Duration>,
    },
    /// The neighbour is away: no connection, or 503. The lane pauses.
    Pause {
        /// What the neighbour asked for, if it did.
        retry_after: Option<Duration>,
    },
    /// 409, or a 403 that says so: the neighbour has that version already.
    Exists,
    /// It will never work: any other 4xx.
    Dead,
    /// The registry has no tarball of the base (404 or 410). It may be on its way.
    MissingTarball,
}

/// What came of one request, and whose doing it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it means.
    pub class: Class,
    /// Whose answer (or silence) it is. A tarball that fails half-way is the registry's, whoever was to receive it.
    pub neighbour: Neighbour,
    /// False only when it is certain that the build service or warehouse never got the document: it failed before
    /// anything was sent, there was no connection, or the end of the document was never handed to the connection
    /// (what did arrive is not JSON). True in every other case, H12.
    pub may_have_reached: bool,
    /// The status of the reply, if there was one.
    pub status: Option<u16>,
    /// One line for operators. Never holds credentials.
    pub message: String,
}

/// An [`Outcome`] that is not [`Class::Sent`].
pub type Failure = Outcome;

impl Outcome {
    /// An outcome without a reply that never got near the receiver; the other fields are set where they are known.
    pub(super) fn new(class: Class, neighbour: Neighbour, message: impl AsRef<str>) -> Self {
        Self {
            class,
            neighbour,
            may_have_reached: false,
            status: None,
            message: text::one_line(&format!("{}: {}", neighbour.spoken(), message.as_ref())),
        }
    }

    /// `Retry` without a wish of the neighbour's.
    pub(super) fn retry(neighbour: Neighbour, message: impl AsRef<str>) -> Self {
        Self::new(Class::Retry { retry_after: None }, neighbour, message)
    }

    pub(super) fn reached(mut self, may_have_reached: bool) -> Self {
        self.may_have_reached = may_have_reached;
        self
    }

    pub(super) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// What a status outside 2xx means. `body` is the beginning of the reply's body.
    pub(super) fn of_status(
        neighbour: Neighbour,
        status: u16,
        headers: &HeaderMap,
        body: &str,
    ) -> Self {
        let retry_after = retry_after(headers, SystemTime::now());
        let class = match status {
            503 => Class::Pause { retry_after },
            409 => Class::Exists,
            403 if says_it_exists(body) => Class::Exists,
            408 | 425 | 429 => Class::Retry { retry_after },
            400..=499 => Class::Dead,
            _ => Class::Retry { retry_after },
        };
        let body = body.trim();
        let message = if body.is_empty() {
            format!("answered {status}")
        } else {
            format!("answered {status}: {body}")
        };
        Self::new(class, neighbour, message).with_status(status)
    }
}

/// What npm, the warehouse, Verdaccio and Artifactory say when a version is taken.
fn says_it_exists(body: &str) -> bool {
    let body = body.to_lowercase();
    [
        "publish over",
        "previously published",
        "already exist",
        "already present",
        "already published",
        "version exists",
        "epublishconflict",
    ]
    .iter()
    .any(|words| body.contains(words))
}

/// `Retry-After`, in seconds or as an HTTP date. A date in the past is no wait at all; nonsense is no wish.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = SystemTime::from(jiff::fmt::rfc2822::parse(value).ok()?.timestamp());
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Class {
        Outcome::of_status(Neighbour::Warehouse, status, &HeaderMap::new(), body).class
    }

    #[test]
    fn every_status_has_its_row() {
        let retry = Class::Retry { retry_after: None };
        for status in [500, 502, 504, 507, 599, 408, 425, 429, 301, 308] {
            assert_eq!(of(status, ""), retry, "{status}");
        }
        assert_eq!(of(503, ""), Class::Pause { retry_after: None });
        assert_eq!(of(409, ""), Class::Exists);
        for status in [400, 401, 403, 404, 405, 410, 413, 415, 422, 451] {
            assert_eq!(of(status, "no"), Class::Dead, "{status}");
        }
        for body in [
            "You cannot publish over the previously published versions: 1.0.0.",
            r#"{"error":"Version already exists"}"#,
            "EPUBLISHCONFLICT",
        ] {
            assert_eq!(of(403, body), Class::Exists, "{body}");
            assert_eq!(of(400, body), Class::Dead, "only 403 may say so");
        }
    }

    #[test]
    fn retry_after_as_seconds_and_as_date() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_mins(24_090_207);
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, at)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            read("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::from_mins(1))
        );
        assert_eq!(
            read("Wed, 21 Oct 2015 07:00:00 GMT"),
            Some(Duration::ZERO),
            "past"
        );
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn a_wish_is_kept_for_pause_and_retry() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "5".parse().unwrap());
        let wish = Some(Duration::from_secs(5));
        let class = |status| Outcome::of_status(Neighbour::Registry, status, &headers, "").class;
        assert_eq!(class(503), Class::Pause { retry_after: wish });
        assert_eq!(class(429), Class::Retry { retry_after: wish });
        assert_eq!(class(500), Class::Retry { retry_after: wish });
    }
}
