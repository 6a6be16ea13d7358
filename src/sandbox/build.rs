//! The build service, carpenterd (contract.md 2.1): takes a document, streams its progress, then notifies feedsme.

use super::body::{DocumentReader, Shape};
use super::fault::{Fault, FaultKind};
use super::record::{Entry, Role, identity};
use super::{Neighbours, notice, reply};
use actix_web::http::header;
use actix_web::rt::time::sleep;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// What the stream ends with.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    Cut,
    /// carpenterd never ends the stream when its spec or unpack step fails.
    Never,
}

/// The lines of one build and what follows them.
struct Progress {
    lines: Vec<String>,
    end: End,
    notify: bool,
    outcome: String,
}

/// `POST /build/v2/build`.
pub(super) async fn build(
    req: HttpRequest,
    mut payload: web::Payload,
    here: web::Data<Neighbours>,
) -> HttpResponse {
    let entry = Entry::arrived(&here.state, &req, Role::Build);
    let mut reader = DocumentReader::new(Shape::Wrapped, 0);
    let mut length: u64 = 0;
    while let Some(piece) = payload.next().await {
        let Ok(piece) = piece else {
            return HttpResponse::BadRequest().finish();
        };
        length += piece.len() as u64;
        if length > here.state.options.body_limit {
            // The rest is read, so that the client sees the answer and not a broken pipe.
            continue;
        }
        reader.feed(&piece);
    }
    if length > here.state.options.body_limit {
        return plain(
            entry,
            413,
            "<html><body><pre>PayloadTooLargeError: request entity too large</pre></body></html>",
        );
    }
    let json = req
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let (body, attachments) = if json {
        match reader.finish() {
            Ok(read) => (read.body, read.attachments),
            Err(error) => return plain(entry, 500, &error),
        }
    } else {
        // Express reads a body of another type as `{}`.
        (json!({}), Vec::new())
    };
    let attachments: Vec<_> = attachments.into_iter().map(|(a, _)| a).collect();
    let broken = attachments.iter().any(|a| !a.valid);
    entry.set(|e| e.promote = body.get("promote").cloned());
    entry.document(&body["data"], attachments);
    let fault = here.state.fault(Role::Build, body["data"]["name"].as_str());
    let harmless = fault
        .as_ref()
        .is_none_or(|f| matches!(f.kind, FaultKind::Slow { .. } | FaultKind::Twice));
    let (document, promote) = match validate(body) {
        Ok(valid) => valid,
        Err(message) if harmless => return plain(entry, 500, &message),
        Err(_) => (Value::Null, None),
    };
    let mut progress = progress(&document, broken);
    let mut pace = here.state.options.line_pause;
    if let Some(fault) = fault {
        let works = fault.work_done;
        if let Some(response) = spoil(&req, &entry, &fault, &mut progress, &mut pace) {
            if works {
                let here = here.clone();
                actix_web::rt::spawn(async move { notice::notify(&here, document, promote).await });
            }
            if fault.kind == FaultKind::Hang {
                return std::future::pending().await;
            }
            entry.done();
            return response;
        }
        progress.notify = works || harmless && progress.notify;
        progress.outcome = format!("{} ({})", fault.kind.name(), progress.outcome);
    }
    entry.outcome(Some(200), &progress.outcome);
    let (lines, receiver) = mpsc::unbounded_channel();
    // A task of its own: like carpenterd it goes on when the client is gone.
    actix_web::rt::spawn(async move {
        write(progress.lines, progress.end, pace, &lines).await;
        drop(lines);
        entry.done();
        if progress.notify {
            notice::notify(&here, document, promote).await;
        }
    });
    let stream = stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((line, receiver))
    });
    HttpResponse::Ok().streaming(stream)
}

fn plain(entry: Entry, status: u16, text: &str) -> HttpResponse {
    entry.outcome(Some(status), &format!("refused: {text}"));
    entry.done();
    let content_type = if text.starts_with('<') {
        "text/html; charset=utf-8"
    } else {
        "text/plain; charset=utf-8"
    };
    HttpResponse::build(reply::status(status))
        .content_type(content_type)
        .body(text.to_owned())
}

type Sender = mpsc::UnboundedSender<io::Result<Bytes>>;

async fn write(lines: Vec<String>, end: End, pace: Duration, to: &Sender) {
    for line in lines {
        if pace > Duration::ZERO {
            sleep(pace).await;
        }
        // Fails when the client is gone, which does not end the build.
        let _ = to.send(Ok(format!("{line}\n").into()));
    }
    match end {
        End::Whole => {}
        End::Cut => drop(to.send(Err(reply::breaking().await))),
        End::Never => to.closed().await,
    }
}

/// What joi checks. Returns the document (JSON strings in it parsed) and `promote`.
fn validate(body: Value) -> Result<(Value, Option<Value>), String> {
    let Value::Object(mut body) = body else {
        return Err("\"value\" must be an object".into());
    };
    let promote = body.remove("promote");
    match &promote {
        None | Some(Value::Bool(_)) => {}
        Some(Value::String(text))
            if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => {}
        Some(_) => {
            return Err(
                "child \"promote\" fails because [\"promote\" must be a boolean]".to_owned(),
            );
        }
    }
    let in_data = |why: &str| format!("child \"data\" fails because [{why}]");
    let Some(data) = body.remove("data") else {
        return Err(in_data("\"data\" is required"));
    };
    let Some(mut data) = object(data) else {
        return Err(in_data("\"data\" must be an object"));
    };
    let child =
        |key: &str, why: &str| in_data(&format!("child \"{key}\" fails because [\"{key}\" {why}]"));
    match data.get("name") {
        None => return Err(child("name", "is required")),
        Some(Value::String(name)) if name.is_empty() => {
            return Err(child("name", "is not allowed to be empty"));
        }
        Some(Value::String(_)) => {}
        Some(_) => return Err(child("name", "must be a string")),
    }
    for key in ["dist-tags", "_attachments"] {
        let Some(value) = data.get_mut(key) else {
            return Err(child(key, "is required"));
        };
        let Some(parsed) = object(value.take()) else {
            return Err(child(key, "must be an object"));
        };
        *value = Value::Object(parsed);
    }
    if let Some(key) = body.keys().next() {
        return Err(format!("\"{key}\" is not allowed"));
    }
    Ok((Value::Object(data), promote))
}

/// joi's object: an object, or a JSON string that holds one.
fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(object)) => Some(object),
            _ => None,
        },
        _ => None,
    }
}

fn event(id: &str, locale: Option<&str>, fields: Value) -> String {
    let mut line = fields;
    line["id"] = json!(id);
    line["timestamp"] = json!(Timestamp::now().as_millisecond());
    if let Some(locale) = locale {
        line["locale"] = json!(locale);
    }
    line.to_string()
}

fn start(id: &str, locale: Option<&str>) -> String {
    event(
        id,
        locale,
        json!({"event": "task", "message": "start", "progress": 0}),
    )
}

/// The lines of a build that goes as the document says.
fn progress(document: &Value, broken: bool) -> Progress {
    let done = |lines, outcome: &str| Progress {
        lines,
        end: End::Whole,
        notify: true,
        outcome: outcome.to_owned(),
    };
    let (name, version) = identity(document);
    let (name, version) = (name.unwrap_or_default(), version.unwrap_or_default());
    let manifest = &document["versions"][&version];
    if !manifest.is_object() {
        let message = "Unable to find the version to build";
        return Progress {
            lines: vec![event(
                "generic",
                None,
                json!({"event": "error", "message": message}),
            )],
            end: End::Never,
            notify: false,
            outcome: format!("refused: {message}"),
        };
    }
    if manifest["build"] == false {
        let fields = json!({"event": "task", "message": "ignored", "progress": -1});
        return done(vec![event("generic", None, fields)], "ignored");
    }
    if broken {
        return Progress {
            lines: Vec::new(),
            end: End::Never,
            notify: false,
            outcome: "refused: the tarball cannot be unpacked".into(),
        };
    }
    let locales = manifest["locales"].as_array();
    let mut locales: Vec<&str> = locales
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if locales.is_empty() {
        locales.push("en-US");
    }
    let mut lines = Vec::new();
    for locale in locales {
        let id = Uuid::new_v4().to_string();
        lines.push(start(&id, Some(locale)));
        let queuing = format!("Queuing {locale} build for {name}@{version}");
        let fields = json!({"message": queuing, "progress": 50});
        lines.push(event(&id, Some(locale), fields));
        let fields =
            json!({"event": "task", "message": "Successfully queued build", "progress": 100});
        lines.push(event(&id, Some(locale), fields));
    }
    done(lines, "queued")
}

/// Applies a fault: to the lines, or (Some) as an answer that has none. A hang's answer is not used.
fn spoil(
    req: &HttpRequest,
    entry: &Entry,
    fault: &Fault,
    progress: &mut Progress,
    pace: &mut Duration,
) -> Option<HttpResponse> {
    let failed = |message: &str| {
        event(
            "generic",
            None,
            json!({"type": "error", "message": message, "progress": -1}),
        )
    };
    match &fault.kind {
        FaultKind::Slow { ms } => *pace = Duration::from_millis(*ms),
        FaultKind::Twice => {}
        FaultKind::Cut => {
            progress.lines.truncate(progress.lines.len() / 2);
            progress.end = End::Cut;
        }
        FaultKind::ErrorEvent { message } => {
            let error = json!({"event": "error", "message": message});
            progress.lines = vec![
                start("generic", None),
                event("generic", None, error),
                failed(message),
            ];
            progress.end = End::Whole;
        }
        FaultKind::FinalError { message } => {
            progress.lines = vec![start("generic", None), failed(message)];
            progress.end = End::Whole;
        }
        FaultKind::NoParsableLine => {
            progress.lines = vec!["<html>".into(), "{\"event\":\"task\",".into()];
            progress.end = End::Whole;
        }
        FaultKind::EmptyStream => {
            progress.lines.clear();
            progress.end = End::Whole;
        }
        kind => {
            let (status, response) = match kind {
                FaultKind::Status {
                    status,
                    retry_after,
                    body,
                } => (
                    Some(*status),
                    reply::status_fault(*status, retry_after.as_deref(), body.as_deref()),
                ),
                FaultKind::Redirect => {
                    let response = HttpResponse::Found()
                        .insert_header((header::LOCATION, format!("/moved{}", req.uri().path())))
                        .finish();
                    (Some(302), response)
                }
                FaultKind::Reset => (None, reply::reset(req)),
                _ => (None, HttpResponse::Ok().finish()),
            };
            entry.outcome(status, &kind.name());
            return Some(response);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_checked_as_joi_does() {
        let error = |body| validate(body).unwrap_err();
        let data = json!({"name": "c", "dist-tags": {}, "_attachments": {}, "other": 1});
        assert_eq!(
            error(json!({})),
            "child \"data\" fails because [\"data\" is required]"
        );
        assert_eq!(
            error(json!({"data": {}})),
            "child \"data\" fails because [child \"name\" fails because [\"name\" is required]]"
        );
        assert_eq!(error(json!({"data": data, "x": 1})), "\"x\" is not allowed");
        assert!(error(json!({"data": data, "promote": null})).contains("must be a boolean"));
        assert!(error(json!({"data": {"name": "c", "dist-tags": {}}})).contains("_attachments"));
        for (promote, body) in [
            (json!(true), data.clone()),
            (json!("False"), json!(data.to_string())),
        ] {
            let valid = validate(json!({"promote": promote, "data": body})).unwrap();
            assert_eq!(valid, (data.clone(), Some(promote)));
        }
    }

    #[test]
    fn lines_are_those_of_the_contract() {
        let mut document = json!({"name": "c", "dist-tags": {"latest": "1.0.0"},
            "versions": {"1.0.0": {"locales": ["en-US", "de-DE"]}}});
        let queued = progress(&document, false);
        let lines: Vec<Value> = queued
            .lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(
            (
                &lines[0]["event"],
                &lines[0]["message"],
                &lines[0]["progress"]
            ),
            (&json!("task"), &json!("start"), &json!(0))
        );
        assert_eq!(lines[1].get("event"), None);
        assert_eq!(lines[5]["message"], "Successfully queued build");
        assert_eq!(lines[5]["locale"], "de-DE");
        assert!(queued.notify);
        document["versions"]["1.0.0"]["build"] = json!(false);
        let ignored = progress(&document, false);
        assert!(ignored.notify && ignored.lines.len() == 1);
        assert!(ignored.lines[0].contains("\"progress\":-1"));
    }
}
