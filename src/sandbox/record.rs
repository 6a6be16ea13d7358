//! Everything the sandbox was asked, in order, and what it answered: the truth that tests compare with.
//!
//! An entry is made when a request arrives and is filled in while it is read and answered, so that requests that hang or
//! whose client went away are seen too.

use super::State;
use super::digest::Attachment;
use actix_web::HttpRequest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// What was asked of the sandbox, or (`notice`) what it asked of feedsme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// `POST /build/v2/build`.
    Build,
    /// `PUT /warehouse/{name}`.
    Warehouse,
    /// `GET /npm/{name}`.
    Packument,
    /// `GET /npm/{name}/-/{file}.tgz`.
    Tarball,
    /// `PUT /npm/-/package/{name}/dist-tags/{tag}`.
    DistTag,
    /// The build service's `POST {feedsme}/v2/change/{env}`, one entry for each attempt.
    Notice,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Received {
    /// Counts from 1; never reused, not even after the record was cleared.
    pub seq: u64,
    /// When it arrived.
    pub at: Timestamp,
    /// When it was answered to the end, or ended in another way. None while it is under way or hangs.
    pub finished: Option<Timestamp>,
    /// What was asked.
    pub role: Role,
    /// Whether the sandbox's own warehouse asked (a build after a publish).
    pub from_warehouse: bool,
    /// The HTTP method.
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// `name` of the document, or the name in the path.
    pub package: Option<String>,
    /// `dist-tags.latest` of the document, or the version in the path.
    pub version: Option<String>,
    /// `env` of the document; of a notice, the one in its path.
    pub env: Option<String>,
    /// Whether `__published` of the document is true.
    pub published: bool,
    /// `promote` as sent; None if absent.
    pub promote: Option<Value>,
    /// The header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// How many requests to this role bore this `Idempotency-Key`, this one included; 1 if there is none. Of a notice: 1-6.
    pub attempt: u32,
    /// Status sent (of a notice: received), if there was one.
    pub status: Option<u16>,
    /// What was done, in words: `queued`, `published`, `refused: …`, `fault: …`; empty until that is known.
    pub outcome: String,
    /// The attachments, measured.
    pub attachments: Vec<Attachment>,
    /// Top-level keys of the document in the order sent.
    pub keys: Vec<String>,
    /// The document, with every attachment's `data` emptied, unless the sandbox was told not to keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Value>,
}

impl Received {
    /// The tarball: the attachment named after package and version, or else the first one.
    pub fn tarball(&self) -> Option<&Attachment> {
        let name = format!(
            "{}-{}.tgz",
            self.package.as_deref().unwrap_or_default(),
            self.version.as_deref().unwrap_or_default()
        );
        self.attachments
            .iter()
            .find(|a| a.name == name)
            .or_else(|| self.attachments.first())
    }

    /// One line for error messages.
    pub fn summary(&self) -> String {
        format!(
            "{} {:?} {}@{} env={} promote={} attempt={} status={} {}",
            self.seq,
            self.role,
            self.package.as_deref().unwrap_or("-"),
            self.version.as_deref().unwrap_or("-"),
            self.env.as_deref().unwrap_or("-"),
            self.promote
                .as_ref()
                .map_or_else(|| "-".into(), Value::to_string),
            self.attempt,
            self.status.map_or_else(|| "-".into(), |s| s.to_string()),
            self.outcome
        )
    }
}

/// What `wait_for` says when the time is over: everything that had been received.
#[derive(Debug, Clone)]
pub struct NotSeen {
    /// All requests so far.
    pub received: Vec<Received>,
}

impl std::fmt::Display for NotSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "not seen; received {} requests:", self.received.len())?;
        self.received
            .iter()
            .try_for_each(|r| writeln!(f, "  {}", r.summary()))
    }
}

impl std::error::Error for NotSeen {}

/// The entries and the counters they need.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) entries: Vec<Received>,
    last: u64,
    attempts: HashMap<(Role, String), u32>,
}

impl Record {
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.attempts.clear();
    }

    fn add(&mut self, mut entry: Received) -> u64 {
        self.last += 1;
        entry.seq = self.last;
        if let Some(key) = &entry.idempotency_key {
            let attempts = self.attempts.entry((entry.role, key.clone())).or_default();
            *attempts += 1;
            entry.attempt = *attempts;
        }
        self.entries.push(entry);
        self.last
    }

    fn get(&mut self, seq: u64) -> Option<&mut Received> {
        let at = self.entries.binary_search_by_key(&seq, |e| e.seq).ok()?;
        self.entries.get_mut(at)
    }
}

/// Name and version a document stands for: `name`, and `dist-tags.latest` or `distTags.latest`.
pub(super) fn identity(document: &Value) -> (Option<String>, Option<String>) {
    let tags = match &document["distTags"] {
        Value::Null => &document["dist-tags"],
        tags => tags,
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    (text(&document["name"]), text(&tags["latest"]))
}

/// The handle on one entry. If it is dropped without [`Entry::done`], the entry says that the client went away (or that the
/// sandbox was stopped).
pub(super) struct Entry {
    state: Arc<State>,
    seq: u64,
    finished: bool,
}

impl Entry {
    /// A request that arrived.
    pub(super) fn arrived(state: &Arc<State>, req: &HttpRequest, role: Role) -> Self {
        let header = |name: &str| {
            let value = req.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let path = req.uri().path_and_query().map_or("/", |p| p.as_str());
        let mut received = blank(role, req.method().as_str(), path);
        received.idempotency_key = header("idempotency-key");
        received.authorization = header("authorization");
        received.from_warehouse = header(super::FROM_WAREHOUSE).is_some();
        Self::add(state, received)
    }

    /// An attempt to notify feedsme.
    pub(super) fn notice(state: &Arc<State>, path: &str, attempt: u32) -> Self {
        let mut received = blank(Role::Notice, "POST", path);
        received.attempt = attempt;
        Self::add(state, received)
    }

    fn add(state: &Arc<State>, received: Received) -> Self {
        let seq = state.with_record(|record| record.add(received));
        Self {
            state: Arc::clone(state),
            seq,
            finished: false,
        }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Received)) {
        self.state.with_record(|record| {
            if let Some(entry) = record.get(self.seq) {
                change(entry);
            }
        });
    }

    /// Fills in what the document says.
    pub(super) fn document(&self, document: &Value, attachments: Vec<Attachment>) {
        let keep = self.state.options.keep_documents;
        self.set(|entry| {
            let (name, version) = identity(document);
            entry.package = name.or(entry.package.take());
            entry.version = version;
            entry.env = entry
                .env
                .take()
                .or_else(|| document["env"].as_str().map(str::to_owned));
            entry.published = document["__published"] == true;
            entry.attachments = attachments;
            entry.keys = document
                .as_object()
                .map(|keys| keys.keys().cloned().collect())
                .unwrap_or_default();
            entry.document = keep.then(|| document.clone());
        });
    }

    /// What will be answered; the answer may still be on its way.
    pub(super) fn outcome(&self, status: Option<u16>, outcome: &str) {
        self.set(|entry| {
            entry.status = status;
            outcome.clone_into(&mut entry.outcome);
        });
    }

    /// The answer is complete.
    pub(super) fn done(mut self) {
        self.finish(None);
    }

    fn finish(&mut self, otherwise: Option<&str>) {
        self.finished = true;
        self.set(|entry| {
            entry.finished = Some(Timestamp::now());
            if let (true, Some(text)) = (entry.outcome.is_empty(), otherwise) {
                text.clone_into(&mut entry.outcome);
            }
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.finished {
            self.finish(Some("the client went away"));
        }
    }
}

fn blank(role: Role, method: &str, path: &str) -> Received {
    Received {
        seq: 0,
        at: Timestamp::now(),
        finished: None,
        role,
        from_warehouse: false,
        method: method.to_owned(),
        path: path.to_owned(),
        package: None,
        version: None,
        env: None,
        published: false,
        promote: None,
        idempotency_key: None,
        authorization: None,
        attempt: 1,
        status: None,
        outcome: String::new(),
        attachments: Vec::new(),
        keys: Vec::new(),
        document: None,
    }
}
