//! The npm registry's routes (contract.md 2.4): packuments, tarballs, dist-tags.

use super::fault::FaultKind;
use super::record::{Entry, Role};
use super::reply::{self, Answer};
use super::tarball::Stored;
use super::{Neighbours, lock};
use actix_web::body::SizedStream;
use actix_web::http::header;
use actix_web::rt::time::sleep;
use actix_web::{HttpRequest, HttpResponse, web};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// `GET /npm/{name}`: full, or abbreviated if `Accept` asks for it; gzip if it is accepted; 404 `{"error":"Not found"}`.
pub(super) async fn packument(
    req: HttpRequest,
    name: web::Path<String>,
    here: web::Data<Neighbours>,
) -> HttpResponse {
    let entry = Entry::arrived(&here.state, &req, Role::Packument);
    entry.set(|e| e.package = Some(name.to_string()));
    let fault = here.state.fault(Role::Packument, Some(&name));
    let has = |header: header::HeaderName, text: &str| {
        let mut values = req.headers().get_all(header);
        values.any(|v| v.to_str().is_ok_and(|v| v.contains(text)))
    };
    let abbreviated = has(header::ACCEPT, "application/vnd.npm.install-v1+json");
    let gzip = has(header::ACCEPT_ENCODING, "gzip");
    reply::answer(&req, entry, fault, || {
        let base = here.state.url("npm");
        let found = lock(&here.state.registry).packument(&name, &base, abbreviated);
        let Some(packument) = found else {
            return Answer::json(404, "unknown", &json!({"error": "Not found"}));
        };
        let mut answer = Answer::json(200, "packument", &packument.finish());
        if abbreviated {
            answer.content_type = "application/vnd.npm.install-v1+json";
        }
        if let (true, Ok(packed)) = (gzip, gzipped(&answer.body)) {
            answer.gzip = true;
            answer.body = packed.into();
        }
        answer
    })
    .await
}

fn gzipped(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// `GET /npm/{name}/-/{file}`: the tarball with its Content-Length, streamed; 404 if there is none. Both forms of the file name
/// of a scoped package are known: `/@s/c/-/c-1.0.0.tgz` (npm) and `/@s/c/-/@s/c-1.0.0.tgz` (Node feedsme).
pub(super) async fn tarball(
    req: HttpRequest,
    path: web::Path<(String, String)>,
    here: web::Data<Neighbours>,
) -> HttpResponse {
    let (name, file) = path.into_inner();
    let entry = Entry::arrived(&here.state, &req, Role::Tarball);
    let short = name.rsplit('/').next().unwrap_or(&name);
    let version = file
        .rsplit('/')
        .next()
        .and_then(|file| file.strip_suffix(".tgz")?.strip_prefix(short))
        .and_then(|rest| rest.strip_prefix('-'))
        .unwrap_or_default();
    entry.set(|e| {
        e.package = Some(name.clone());
        e.version = Some(version.to_owned());
    });
    let moved = req.path().starts_with("/npm/-/moved/");
    let stored = lock(&here.state.registry)
        .tarball(&name, version)
        .filter(|stored| stored.size().is_some());
    let fault = if moved {
        None
    } else {
        here.state.fault(Role::Tarball, Some(&name))
    };
    let said = |text: &str| {
        fault.as_ref().map_or_else(
            || text.to_owned(),
            |fault| format!("{} ({text})", fault.kind.name()),
        )
    };
    let mut pace = Duration::ZERO;
    let mut cut = false;
    match (&stored, fault.as_ref().map(|f| &f.kind)) {
        (_, Some(FaultKind::Redirect)) => {
            entry.outcome(Some(302), &said("moved"));
            entry.done();
            let location = format!(
                "{}/-/moved/{}",
                here.state.url("npm"),
                req.uri().path().trim_start_matches("/npm/")
            );
            return HttpResponse::Found()
                .insert_header((header::LOCATION, location))
                .finish();
        }
        (Some(_), None) => {}
        (Some(_), Some(FaultKind::Cut)) => cut = true,
        (Some(_), Some(FaultKind::Slow { ms })) => pace = Duration::from_millis(*ms),
        _ => {
            return reply::answer(&req, entry, fault, || {
                Answer::json(404, "no tarball", &json!({"error": "Not found"}))
            })
            .await;
        }
    }
    let (Some(stored), mut head) = (stored, HttpResponse::Ok()) else {
        return HttpResponse::NotFound().finish();
    };
    entry.outcome(Some(200), &said("tarball"));
    head.content_type("application/octet-stream");
    let size = stored.size().unwrap_or_default();
    if cut {
        entry.done();
        let pieces = reply::then_broken(blocks(stored, size / 2, pace, None));
        return head.body(SizedStream::new(size, pieces));
    }
    head.body(SizedStream::new(
        size,
        blocks(stored, size, pace, Some(entry)),
    ))
}

/// The first `end` bytes; `entry` is done when they were all taken.
fn blocks(
    stored: Arc<Stored>,
    end: u64,
    pace: Duration,
    entry: Option<Entry>,
) -> impl Stream<Item = io::Result<bytes::Bytes>> {
    stream::unfold((0, entry), move |(at, entry)| {
        let stored = Arc::clone(&stored);
        async move {
            let mut block = stored.block(at).filter(|_| at < end)?;
            if pace > Duration::ZERO {
                sleep(pace).await;
            }
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            block.truncate(left);
            let next = at + block.len() as u64;
            let entry = match entry {
                Some(entry) if next >= end => {
                    entry.done();
                    None
                }
                entry => entry,
            };
            Some((Ok(block), (next, entry)))
        }
    })
}

/// What a search asks.
#[derive(serde::Deserialize)]
pub(super) struct Search {
    text: String,
    #[serde(default = "twenty")]
    size: usize,
    #[serde(default)]
    from: usize,
}

fn twenty() -> usize {
    20
}

/// `GET /npm/-/v1/search?text=&size=&from=`: `{"objects": [{"package": {"name": …}}], "total": …}`, at most 250 at once.
pub(super) async fn search(asked: web::Query<Search>, here: web::Data<Neighbours>) -> HttpResponse {
    let registry = lock(&here.state.registry);
    let names = registry.search(&asked.text);
    let objects: Vec<Value> = names
        .iter()
        .skip(asked.from)
        .take(asked.size.min(250))
        .map(|name| json!({"package": {"name": name}}))
        .collect();
    HttpResponse::Ok().json(json!({"objects": objects, "total": names.len()}))
}

/// `GET /npm/-/package/{name}/dist-tags`.
pub(super) async fn tags(name: web::Path<String>, here: web::Data<Neighbours>) -> HttpResponse {
    match lock(&here.state.registry).tags(&name) {
        Some(tags) => HttpResponse::Ok().json(tags),
        None => HttpResponse::NotFound().json(json!({"error": "Not found"})),
    }
}

/// `PUT /npm/-/package/{name}/dist-tags/{tag}` with a bare JSON string: 201 `{"<tag>":"<version>"}`.
pub(super) async fn put_tag(
    req: HttpRequest,
    path: web::Path<(String, String)>,
    body: web::Bytes,
    here: web::Data<Neighbours>,
) -> HttpResponse {
    let (name, tag) = path.into_inner();
    let entry = Entry::arrived(&here.state, &req, Role::DistTag);
    let version: Option<Value> = serde_json::from_slice(&body).ok();
    let version = version.and_then(|v| v.as_str().map(str::to_owned));
    entry.set(|e| {
        e.package = Some(name.clone());
        e.version.clone_from(&version);
    });
    let fault = here.state.fault(Role::DistTag, Some(&name));
    reply::answer(&req, entry, fault, || match version {
        None => Answer::json(
            400,
            "refused: not a JSON string",
            &json!({"error": "invalid version"}),
        ),
        Some(version) => {
            if lock(&here.state.registry).tag(&name, &tag, &version) {
                Answer::json(201, format!("tagged {tag}"), &json!({tag: version}))
            } else {
                Answer::json(
                    404,
                    "refused: no such version",
                    &json!({"error": "version not found"}),
                )
            }
        }
    })
    .await
}
