//! Is it alive, is it ready, what is it doing.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use super::errors::{ApiError, Result, ok};
use super::params::Query;
use super::server::{ApiState, ServerOptions};
use crate::query::time::Time;

/// GET `/healthcheck`, `/healthcheck.html`, `/livez`: the process answers (contract.md 1.2). Whatever the query says: load
/// balancers add things of their own, and an answer other than 200 would take the service out of traffic.
pub async fn alive() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ok")
}

/// GET `/readyz`: the store can be read and written, and the worker answers; else 503. Whatever the query says, as above.
pub async fn ready(
    state: web::Data<ApiState>,
    options: web::Data<ServerOptions>,
) -> Result<HttpResponse> {
    let not_ready = |text: &str| ApiError::unavailable("not_ready", text);
    if state.stopping.is_cancelled() {
        return Err(not_ready("the service is stopping"));
    }
    match timeout(options.ready_timeout, state.core.store.check()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready: the store");
            return Err(not_ready("the store does not work"));
        }
        Err(_) => return Err(not_ready("the store does not answer in time")),
    }
    match timeout(options.ready_timeout, state.inbox.status()).await {
        Ok(Some(_)) => Ok(ok(&json!({"ok": true}))),
        _ => Err(not_ready("the worker does not answer")),
    }
}

/// What the worker is doing.
#[derive(Serialize)]
struct StatusView {
    /// Changes that wait to be planned or are being planned.
    planning: usize,
    /// Rebuilds that wait to be sent, for whatever reason.
    waiting: usize,
    /// Rebuilds that are being sent.
    sending: usize,
    /// The paused lanes: neighbour → since when.
    paused: BTreeMap<&'static str, Time>,
    /// Nothing to do now or later.
    idle: bool,
}

/// GET `/status`: queue depths and paused lanes.
pub async fn status(
    state: web::Data<ApiState>,
    options: web::Data<ServerOptions>,
    request: HttpRequest,
) -> Result<HttpResponse> {
    Query::of(&request, &[])?;
    let Ok(Some(status)) = timeout(options.ready_timeout, state.inbox.status()).await else {
        return Err(ApiError::unavailable(
            "worker_away",
            "the worker does not answer",
        ));
    };
    Ok(ok(&StatusView {
        planning: status.planning,
        waiting: status.waiting,
        sending: status.sending,
        idle: status.is_idle(),
        paused: status
            .paused
            .iter()
            .map(|(neighbour, since)| (neighbour.as_str(), Time(*since)))
            .collect(),
    }))
}
