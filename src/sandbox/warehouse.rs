//! The warehouse (contract.md 2.2): takes a publish, gives it to the registry, then has it built.
//!
//! Key order matters here as it does there: what the warehouse stores is cut from the raw text before `_attachments"`. If
//! that holds no name and version, the registry has the publish, but nothing is stored and no build starts.

use super::body::{DocumentReader, RawPrefix, Read, Shape};
use super::digest::Attachment;
use super::record::{Entry, Role, identity};
use super::registry::{Refusal, uploaded};
use super::reply::{self, Answer};
use super::tarball::{Stored, Tarball};
use super::{FROM_WAREHOUSE, Neighbours, lock};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// `PUT /warehouse/{name}`.
pub(super) async fn publish(
    req: HttpRequest,
    name: web::Path<String>,
    mut payload: web::Payload,
    here: web::Data<Neighbours>,
) -> HttpResponse {
    let entry = Entry::arrived(&here.state, &req, Role::Warehouse);
    entry.set(|e| e.package = Some(name.to_string()));
    let mut reader = DocumentReader::new(Shape::Bare, here.state.options.keep_uploads);
    let mut prefix = RawPrefix::default();
    let mut length: u64 = 0;
    while let Some(piece) = payload.next().await {
        let Ok(piece) = piece else {
            return HttpResponse::BadRequest().finish();
        };
        length += piece.len() as u64;
        if length <= here.state.options.body_limit {
            reader.feed(&piece);
            prefix.feed(&piece);
        }
    }
    let read = if length > here.state.options.body_limit {
        Err((413, "request entity too large".to_owned()))
    } else {
        reader.finish().map_err(|error| (400, error))
    };
    if let Ok(read) = &read {
        let attachments = read.attachments.iter().map(|(a, _)| a.clone()).collect();
        entry.document(&read.body, attachments);
    }
    let fault = here.state.fault(Role::Warehouse, Some(&name));
    let doing = here.clone();
    reply::answer(&req, entry, fault, || match read {
        Ok(read) => take(&doing, &name, read, prefix.metadata()),
        Err((status, error)) => refuse(status, "npm-parse", &error),
    })
    .await
}

fn refuse(status: u16, code: &str, message: &str) -> Answer {
    Answer::json(
        status,
        format!("refused: {code}: {message}"),
        &json!({"code": code, "message": message, "error": message}),
    )
}

fn take(here: &web::Data<Neighbours>, name: &str, read: Read, metadata: Option<Value>) -> Answer {
    let mut attachments = read.attachments;
    let Some((upload, bytes)) = attachments.first_mut() else {
        return refuse(400, "npm-verify", "no attachment");
    };
    if !upload.valid {
        return refuse(400, "npm-verify", "the attachment is not base64");
    }
    if upload.bytes == 0 {
        return refuse(400, "npm-verify", "the attachment is empty");
    }
    let Some(metadata) = metadata else {
        return refuse(
            400,
            "npm-parse",
            "what precedes _attachments is not a document",
        );
    };
    if read.body["name"] != name {
        return refuse(400, "npm-name", "name and path differ");
    }
    if let Err(answer) = store(here, &read.body, upload, bytes.take()) {
        return answer;
    }
    let (stored_name, stored_version) = identity(&metadata);
    let stored = stored_name.is_some()
        && stored_version.is_some_and(|version| metadata["versions"][version].is_object());
    if !stored {
        return Answer::json(
            201,
            "published, but nothing stored: name, dist-tags and versions do not precede _attachments",
            &json!({"ok": true, "success": true}),
        );
    }
    actix_web::rt::spawn(build(here.clone(), read.body));
    Answer::json(201, "published", &json!({"ok": true, "success": true}))
}

/// The registry's part.
fn store(
    here: &Neighbours,
    document: &Value,
    upload: &Attachment,
    bytes: Option<Vec<u8>>,
) -> Result<(), Answer> {
    let (name, version) = identity(document);
    let (name, version) = (name.unwrap_or_default(), version.unwrap_or_default());
    // Hashing what may be the same tarball must not hold the lock.
    let alike = lock(&here.state.registry).alike(&name, upload);
    let tarball = uploaded(&name, &version, &alike, upload, bytes);
    let refusal = lock(&here.state.registry).publish(document, |_, _| Arc::clone(&tarball));
    refusal.map_err(|refusal| match refusal {
        Refusal::Exists(versions) => {
            let message = format!(
                "You cannot publish over the previously published versions: {}.",
                versions.join(", ")
            );
            Answer::json(
                here.state.options.conflict_status,
                "refused: the version exists",
                &json!({"success": false, "error": message}),
            )
        }
        Refusal::Invalid(why) => Answer::json(
            400,
            format!("refused: {why}"),
            &json!({"success": false, "error": why}),
        ),
    })
}

/// A publish from `POST /control/publish`: into the registry as the warehouse puts it there, and built if asked.
pub(super) fn publish_directly(
    here: &web::Data<Neighbours>,
    document: Value,
    tarball: &Tarball,
    notify: bool,
) -> Result<(), Refusal> {
    let document = super::registry::as_document(document);
    lock(&here.state.registry).publish(&document, |name, version| {
        Arc::new(Stored::new(name, version, tarball.clone()))
    })?;
    if notify {
        let mut document = document;
        if document["_attachments"].is_null() {
            document["_attachments"] = json!({});
        }
        actix_web::rt::spawn(build(here.clone(), document));
    }
    Ok(())
}

/// Calls the build service with the document as a JSON string, up to six times if there is no connection. Nobody waits.
async fn build(here: web::Data<Neighbours>, document: Value) {
    let (_, version) = identity(&document);
    let manifest = &document["versions"][version.unwrap_or_default()];
    let promote = manifest["wrhs"]["autoPromoteOnPublish"] != false;
    let body = json!({"data": document.to_string(), "promote": promote});
    for _ in 0..6 {
        let request = here
            .client
            .post(format!("{}/v2/build", here.state.url("build")))
            .header(FROM_WAREHOUSE, "1")
            .json(&body);
        match request.send().await {
            Err(error) if error.is_connect() => {
                actix_web::rt::time::sleep(Duration::from_millis(100)).await;
            }
            Err(_) => return,
            Ok(mut response) => {
                // Read to the end, as its client does: the stream's events are only logged.
                while let Ok(Some(_)) = response.chunk().await {}
                return;
            }
        }
    }
}
