//! POST of a change (contract.md 1; design.md 6): read, judged, durable, answered.
//!
//! Nothing is written until the whole body was read and found good. The answer means that the change is on disk; what
//! follows from it is the worker's, which hears of it here and would find it at the next start otherwise.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::body::{BodyError, BodyReader, SLICE};
use super::errors::{ApiError, Result, ok};
use super::params::{self, Query, clip};
use super::server::{ApiState, ServerOptions};
use super::unread::answered;
use super::wait::{self, Outcome};
use crate::ingest::{Posted, accept};
use crate::model::IncomingChange;
use crate::model::env::Env;
use crate::model::id::ChangeId;

/// What a change is answered with.
#[derive(Serialize)]
struct Answer {
    ok: bool,
    id: ChangeId,
    #[serde(flatten)]
    outcome: Option<Outcome>,
}

/// POST `/v2/change/{env}`, `/change/{env}`: the path decides about the environment.
pub async fn to_environment(
    state: web::Data<ApiState>,
    options: web::Data<ServerOptions>,
    request: HttpRequest,
    env: web::Path<String>,
    payload: web::Payload,
) -> HttpResponse {
    let checked = environment(&state, &env);
    answer(&state, &options, &request, checked.map(Some), payload).await
}

/// POST `/change`: the body decides, else it is npm's own publish.
pub async fn anywhere(
    state: web::Data<ApiState>,
    options: web::Data<ServerOptions>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    answer(&state, &options, &request, Ok(None), payload).await
}

async fn answer(
    state: &ApiState,
    options: &ServerOptions,
    request: &HttpRequest,
    env: Result<Option<Env>>,
    mut payload: web::Payload,
) -> HttpResponse {
    let read = match env {
        Ok(env) => posted_and_deadline(state, options, request, env, &mut payload).await,
        Err(error) => Err(error),
    };
    let accepted = match read {
        Ok((posted, deadline)) => accepted(state, &posted, deadline).await,
        Err(error) => Err(error),
    };
    answered(accepted, payload).await
}

/// Reads and judges everything that the client sent.
async fn posted_and_deadline(
    state: &ApiState,
    options: &ServerOptions,
    request: &HttpRequest,
    env: Option<Env>,
    payload: &mut web::Payload,
) -> Result<(Posted, Option<Instant>)> {
    let deadline = Query::lenient(request)?
        .wait()?
        .map(|wait| Instant::now() + wait);
    let posted = read(state, options, request, env, payload).await?;
    Ok((posted, deadline))
}

/// Reads and judges the body and its headers; `env` is what the path names.
pub(super) async fn read(
    state: &ApiState,
    options: &ServerOptions,
    request: &HttpRequest,
    env: Option<Env>,
    payload: &mut web::Payload,
) -> Result<Posted> {
    let headers = request.headers();
    let key = params::idempotency_key(headers)?;
    params::must_be_json(headers)?;
    let bytes = body(options, request, payload).await?;
    let incoming = IncomingChange::parse(&bytes)?;
    let env = match (env, &incoming.env) {
        (Some(env), _) => Some(env),
        (None, Some(name)) => Some(environment(state, name)?),
        (None, None) => None,
    };
    let promote = incoming.promotes();
    Ok(Posted {
        document: incoming.document,
        env,
        promote,
        key,
    })
}

/// The environment of that name.
pub(super) fn environment(state: &ApiState, name: &str) -> Result<Env> {
    let environments = &state.core.rules.environments;
    environments.find(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = environments.iter().map(Env::as_str).collect();
        let text = format!(
            "env: {:?} is not an environment: use {}",
            clip(name),
            known.join(", ")
        );
        ApiError::invalid("unknown_environment", "env", text)
    })
}

/// The body without its attachments.
pub(super) async fn body(
    options: &ServerOptions,
    request: &HttpRequest,
    payload: &mut web::Payload,
) -> Result<Vec<u8>> {
    let headers = request.headers();
    let limit = options.body_limit;
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge { limit }.into());
    }
    let mut encodings = headers.get_all(CONTENT_ENCODING);
    let encoding = match (encodings.next(), encodings.next()) {
        (None, _) => None,
        (Some(one), None) => Some(one.to_str().unwrap_or("?")),
        (Some(_), Some(_)) => Some("several"),
    };
    let mut reader = BodyReader::new(encoding, limit, options.document_limit)?;
    loop {
        let piece = match timeout(options.body_timeout, payload.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(_))) => {
                let text = "the body ended before it was complete";
                return Err(ApiError::new(
                    StatusCode::BAD_REQUEST,
                    "incomplete_body",
                    text,
                ));
            }
            Ok(None) => return Ok(reader.finish()?),
            Err(_) => {
                let text = format!(
                    "nothing of the body came for {} seconds",
                    options.body_timeout.as_secs()
                );
                return Err(ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body_timeout",
                    text,
                ));
            }
        };
        if reader.is_encoded() {
            // Few bytes may decode to many: other connections of this thread come in between.
            for slice in piece.chunks(SLICE) {
                reader.push(slice)?;
                tokio::task::yield_now().await;
            }
        } else {
            reader.push(&piece)?;
        }
    }
}

async fn accepted(
    state: &ApiState,
    posted: &Posted,
    deadline: Option<Instant>,
) -> Result<HttpResponse> {
    // Before the work is handed over, so that nothing that comes of it is missed.
    let events = deadline.map(|deadline| (deadline, state.inbox.events()));
    let accepted = accept(&state.core, posted).await?;
    let id = accepted.id;
    tracing::info!(
        change.id = %id, package = %posted.document.name, version = %posted.document.version,
        env = posted.env.as_ref().map(Env::as_str), "accepted"
    );
    state.inbox.put(vec![accepted.work]);
    let outcome = match events {
        None => None,
        Some((deadline, events)) => Some(wait::first_level(state, &id, events, deadline).await),
    };
    Ok(ok(&Answer {
        ok: true,
        id,
        outcome,
    }))
}
