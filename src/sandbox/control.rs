//! `/control/…`: what the Rust functions of the sandbox do, for other processes.

use super::fault::Fault;
use super::registry::Refusal;
use super::tarball::Tarball;
use super::{Neighbours, lock, warehouse};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

/// `GET /control/requests`: the record, oldest first.
pub(super) async fn requests(here: web::Data<Neighbours>) -> HttpResponse {
    let body = here
        .state
        .with_record_read(|record| serde_json::to_vec(&record.entries));
    match body {
        Ok(body) => HttpResponse::Ok()
            .content_type("application/json")
            .body(body),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

/// `DELETE /control/requests`.
pub(super) async fn forget(here: web::Data<Neighbours>) -> HttpResponse {
    here.state.with_record(super::record::Record::clear);
    HttpResponse::NoContent().finish()
}

/// `POST /control/faults` with one fault or an array of them, added to those there are.
pub(super) async fn faults(body: web::Bytes, here: web::Data<Neighbours>) -> HttpResponse {
    let parsed = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice::<Vec<Fault>>(&body)
    } else {
        serde_json::from_slice::<Fault>(&body).map(|fault| vec![fault])
    };
    match parsed {
        Ok(more) => {
            let mut faults = lock(&here.state.faults);
            faults.extend(more);
            HttpResponse::Ok().json(&*faults)
        }
        Err(error) => bad(&error.to_string()),
    }
}

/// `DELETE /control/faults`.
pub(super) async fn clear_faults(here: web::Data<Neighbours>) -> HttpResponse {
    lock(&here.state.faults).clear();
    HttpResponse::NoContent().finish()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportTo {
    url: Option<String>,
}

/// `POST /control/report-to` with `{"url": "http://…"}`, or null for no notices.
pub(super) async fn report_to(body: web::Bytes, here: web::Data<Neighbours>) -> HttpResponse {
    match serde_json::from_slice::<ReportTo>(&body) {
        Ok(to) => {
            *lock(&here.state.report_to) = to.url;
            HttpResponse::NoContent().finish()
        }
        Err(error) => bad(&error.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    document: Value,
    #[serde(default = "default_size")]
    size: u64,
    #[serde(default)]
    notify: bool,
}

fn default_size() -> u64 {
    2048
}

/// `POST /control/publish` with `{"document": <publish document or package.json>, "size": 2048, "notify": false}`: a synthetic
/// tarball of `size` bytes; with `notify` it is built and feedsme hears of it, as after a publish through the warehouse.
/// 201, or 409 if the version exists.
pub(super) async fn publish(body: web::Bytes, here: web::Data<Neighbours>) -> HttpResponse {
    let publish = match serde_json::from_slice::<Publish>(&body) {
        Ok(publish) => publish,
        Err(error) => return bad(&error.to_string()),
    };
    let tarball = Tarball::Synthetic(publish.size);
    match warehouse::publish_directly(&here, publish.document, &tarball, publish.notify) {
        Ok(()) => HttpResponse::Created().json(json!({"ok": true})),
        Err(Refusal::Exists(versions)) => {
            HttpResponse::Conflict().json(json!({"error": "exists", "versions": versions}))
        }
        Err(Refusal::Invalid(why)) => bad(why),
    }
}

fn bad(why: &str) -> HttpResponse {
    HttpResponse::BadRequest().json(json!({"error": why}))
}
