//! Waves, holds and outcomes: what operators ask and say (rules 15, 17; design.md 6).

use std::str::FromStr as _;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use super::change::{body, environment};
use super::errors::{ApiError, Result, ok};
use super::params::{self, Query, clip};
use super::server::{ApiState, ServerOptions};
use super::unread::answered;
use crate::ingest::{self, wave};
use crate::model::env::Env;
use crate::model::id::{ChangeId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::Millis;
use crate::model::wave::{BuildOutcome, Hold, WaveState};
use crate::model::work::Work;
use crate::neighbours::endpoint::duration;
use crate::query;
use crate::query::hold::HoldView;
use crate::query::why::Question;
use crate::semver::Version;
use crate::store::Want;

type State = web::Data<ApiState>;
type Options = web::Data<ServerOptions>;

fn not_found() -> ApiError {
    ApiError::not_found("wave_not_found", "there is no such wave")
}

/// GET `/waves`: newest first; of one state, if `?state=` says so.
pub async fn waves(state: State, request: HttpRequest) -> Result<HttpResponse> {
    let query = Query::of(&request, &["limit", "cursor", "state"])?;
    let of = query.one_of("state", WaveState::from_column, STATES)?;
    let after = query.cursor(query::wave::waves_after)?;
    let store = &*state.core.store;
    Ok(ok(
        &query::wave::waves(store, of, after, query.limit()?).await?
    ))
}

const STATES: &str = "collecting, planning, awaiting, open, closed, cancelled";

/// GET `/waves/{id}`: the wave with a page of its packages.
pub async fn wave_by_id(
    state: State,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    let query = Query::of(&request, &["limit", "cursor"])?;
    let skip = query.cursor(query::wave::nodes_after)?.unwrap_or(0);
    let (core, id) = (&state.core, WaveId::new(id.into_inner()));
    let deadline = core.rules.deadline;
    let found = query::wave::wave(&*core.store, deadline, &id, skip, query.limit()?).await?;
    Ok(ok(&found.ok_or_else(not_found)?))
}

/// POST `/waves/{id}/approve`: lets a wave go that waits for approval. 409 if it does not.
pub async fn approve(
    state: State,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Query::of(&request, &[])?;
    let id = WaveId::new(id.into_inner());
    let told = wave::approve(&state.core, &id).await?;
    moved(
        &state,
        &id,
        told,
        "only a wave that waits for approval can be approved",
    )
    .await
}

/// POST `/waves/{id}/cancel`: what was not sent is not sent. 409 if it has ended, or takes in publishes yet.
pub async fn cancel(
    state: State,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Query::of(&request, &[])?;
    let id = WaveId::new(id.into_inner());
    let told = wave::cancel(&state.core, &id).await?;
    moved(
        &state,
        &id,
        told,
        "only a wave that is open or waits for approval can be cancelled",
    )
    .await
}

async fn moved(
    state: &ApiState,
    id: &WaveId,
    told: wave::Told,
    otherwise: &str,
) -> Result<HttpResponse> {
    match told {
        Ok(work) => {
            state.inbox.put(work);
            let now = state.core.store.wave(id).await?.ok_or_else(not_found)?;
            tracing::info!(wave = %id, state = now.state.as_str(), "told by an operator");
            Ok(ok(&json!({"ok": true, "id": id, "state": now.state})))
        }
        Err(wave::Refused::Unknown) => Err(not_found()),
        Err(wave::Refused::State(is)) => {
            let text = format!("the wave is {}: {otherwise}", is.as_str());
            Err(ApiError::new(StatusCode::CONFLICT, "wave_state", text))
        }
    }
}

/// POST `/changes/{id}/replay`: plans a change again, sends what is missing, looks at its waves.
pub async fn replay(
    state: State,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Query::of(&request, &[])?;
    let id = ChangeId::new(id.into_inner());
    let change = state.core.store.change(&id).await?;
    let change =
        change.ok_or_else(|| ApiError::not_found("change_not_found", "there is no such change"))?;
    let work = ingest::replay(&state.core, &change).await?;
    let sends = |item: &&Work| matches!(item.job, crate::model::work::Job::Send { .. });
    let count = work.iter().filter(sends).count();
    state.inbox.put(work);
    tracing::info!(change.id = %id, sends = count, "replayed by hand");
    Ok(ok(&json!({"ok": true, "id": id, "sends": count})))
}

/// POST `/rebuilds`: rebuilds a package now with what its parents have. With an `Idempotency-Key` the same wave however
/// often it is posted.
pub async fn by_hand(
    state: State,
    options: Options,
    request: HttpRequest,
    mut payload: web::Payload,
) -> HttpResponse {
    let answer = rebuilt(&state, &options, &request, &mut payload).await;
    answered(answer, payload).await
}

async fn rebuilt(
    state: &ApiState,
    options: &ServerOptions,
    request: &HttpRequest,
    payload: &mut web::Payload,
) -> Result<HttpResponse> {
    Query::of(request, &[])?;
    let key = params::idempotency_key(request.headers())?;
    let body = object(options, request, payload, &["name"]).await?;
    let name = params::package_in("name", needed(&body, "name")?)?;
    managed(state, &name).await?;
    let id = WaveId::by_hand(&name, key.as_deref());
    let work = wave::rebuild_by_hand(&state.core, id.clone(), &name).await?;
    state.inbox.put(work);
    tracing::info!(wave = %id, package = %name, "rebuilt by hand");
    Ok(ok(&json!({"ok": true, "wave": id})))
}

/// POST `/outcomes`: what a build came to, `{name, version, env, ok, message?}`.
pub async fn outcome(
    state: State,
    options: Options,
    request: HttpRequest,
    mut payload: web::Payload,
) -> HttpResponse {
    let answer = built(&state, &options, &request, &mut payload).await;
    answered(answer, payload).await
}

async fn built(
    state: &ApiState,
    options: &ServerOptions,
    request: &HttpRequest,
    payload: &mut web::Payload,
) -> Result<HttpResponse> {
    Query::of(request, &[])?;
    let known = ["name", "version", "env", "ok", "message"];
    let body = object(options, request, payload, &known).await?;
    let name = params::package_in("name", needed(&body, "name")?)?;
    let version = params::version(needed(&body, "version")?)?;
    let env = environment(state, needed(&body, "env")?)?;
    let Some(Value::Bool(is_ok)) = body.get("ok") else {
        let text = "ok: must be true or false: whether the build succeeded";
        return Err(ApiError::invalid("invalid_ok", "ok", text));
    };
    let outcome = BuildOutcome {
        name,
        version,
        env,
        ok: *is_ok,
        message: text(&body, "message")?.map(str::to_owned),
        at: state.core.clock.now(),
    };
    let work = wave::outcome(&state.core, &outcome).await?;
    state.inbox.put(work);
    tracing::info!(package = %outcome.name, version = %outcome.version, env = %outcome.env, ok = outcome.ok, "built");
    Ok(ok(&json!({"ok": true})))
}

/// GET `/holds`: what is held now, in the order of packages.
pub async fn holds(state: State, request: HttpRequest) -> Result<HttpResponse> {
    let query = Query::of(&request, &["limit", "cursor"])?;
    let after = query.cursor(query::hold::after)?;
    let (core, limit) = (&state.core, query.limit()?);
    let found = query::hold::holds(&*core.store, core.clock.now(), after, limit).await?;
    Ok(ok(&found))
}

/// PUT `/holds/{package}?parent=`: keeps a package, or only that dependency of it, from being rebuilt:
/// `{owner, reason, expires?}`, where `expires` is a time or a duration. Takes the place of the one that is there.
pub async fn hold(
    state: State,
    options: Options,
    request: HttpRequest,
    name: web::Path<String>,
    mut payload: web::Payload,
) -> HttpResponse {
    let answer = held(&state, &options, &request, &name, &mut payload).await;
    answered(answer, payload).await
}

async fn held(
    state: &ApiState,
    options: &ServerOptions,
    request: &HttpRequest,
    name: &str,
    payload: &mut web::Payload,
) -> Result<HttpResponse> {
    let (package, parent) = whose(request, name)?;
    let known = ["owner", "reason", "expires"];
    let body = object(options, request, payload, &known).await?;
    let (owner, reason) = (needed(&body, "owner")?, needed(&body, "reason")?);
    let now = state.core.clock.now();
    let expires = match text(&body, "expires")? {
        Some(text) => Some(expiry(text, now)?),
        None => None,
    };
    managed(state, &package).await?;
    let there = present(state, &package, parent.as_ref()).await?;
    let same =
        |hold: &&Hold| hold.owner == owner && hold.reason == reason && hold.expires == expires;
    if let Some(same) = there.iter().find(same) {
        return Ok(ok(&HoldView::from(same.clone())));
    }
    let hold = Hold {
        id: uuid::Uuid::now_v7().simple().to_string(),
        package,
        parent,
        owner: owner.to_owned(),
        reason: reason.to_owned(),
        placed: now,
        expires,
        ended: None,
    };
    // First the new one, so that nothing slips through between the two.
    let mut work = wave::hold(&state.core, &hold).await?;
    for old in &there {
        work.extend(wave::unhold(&state.core, old).await?);
    }
    state.inbox.put(work);
    tracing::info!(package = %hold.package, owner = hold.owner, "held");
    Ok(ok(&HoldView::from(hold)))
}

/// DELETE `/holds/{package}?parent=`: ends a hold; what was held is rebuilt as one wave. 404 if there is none.
pub async fn unhold(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let (package, parent) = whose(&request, &name)?;
    let there = present(&state, &package, parent.as_ref()).await?;
    if there.is_empty() {
        let text = match parent {
            Some(parent) => format!("{package} is not held for {parent}"),
            None => format!("{package} is not held"),
        };
        return Err(ApiError::not_found("hold_not_found", text));
    }
    for hold in &there {
        let work = wave::unhold(&state.core, hold).await?;
        state.inbox.put(work);
        tracing::info!(package = %package, owner = hold.owner, "no longer held");
    }
    let ended: Vec<&str> = there.iter().map(|hold| hold.id.as_str()).collect();
    Ok(ok(&json!({"ok": true, "ended": ended})))
}

/// The package of a hold's path and the `parent` of its query.
fn whose(request: &HttpRequest, name: &str) -> Result<(PackageName, Option<PackageName>)> {
    let query = Query::of(request, &["parent"])?;
    let parent = match query.get("parent")? {
        Some(parent) => Some(params::package_in("parent", parent)?),
        None => None,
    };
    Ok((params::package(name)?, parent))
}

/// The holds on a package, or on that edge, that hold now.
async fn present(
    state: &ApiState,
    package: &PackageName,
    parent: Option<&PackageName>,
) -> Result<Vec<Hold>> {
    let core = &state.core;
    let mut holds = query::hold::of(&*core.store, core.clock.now(), package).await?;
    holds.retain(|hold| hold.parent.as_ref() == parent);
    Ok(holds)
}

/// When a hold ends: a time such as `2026-11-02T10:00:00Z`, or so long from now, such as `2h` or `7d`.
fn expiry(text: &str, now: Millis) -> Result<Millis> {
    let time = jiff::Timestamp::from_str(text).ok();
    let span = duration::parse(text).and_then(|span| Millis::try_from(span.as_millis()).ok());
    let at = match (time, span) {
        (Some(time), _) => Some(time.as_millisecond()),
        (None, Some(span)) => Some(now.saturating_add(span)),
        (None, None) => None,
    };
    at.filter(|at| *at > now).ok_or_else(|| {
        let text = format!(
            "expires: {:?} is not a time to come, such as 2026-11-02T10:00:00Z, or a duration, such as 2h or 7d",
            clip(text)
        );
        ApiError::invalid("invalid_expires", "expires", text)
    })
}

/// GET `/why/{package}?root=NAME@VERSION&env=`: why it was or was not rebuilt.
pub async fn why(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let (package, query) = (
        params::package(&name)?,
        Query::of(&request, &["root", "env"])?,
    );
    let root = match query.get("root")? {
        Some(text) => Some(name_and_version(text)?),
        None => None,
    };
    let env: Option<Env> = match query.get("env")? {
        Some(env) => Some(environment(&state, env)?),
        None => None,
    };
    let question = Question { package, root, env };
    let found = query::why::why(&state.core, &question).await?;
    Ok(ok(&found.ok_or_else(|| unknown(&question.package))?))
}

fn name_and_version(text: &str) -> Result<(PackageName, Version)> {
    let parsed = text.rsplit_once('@').and_then(|(name, version)| {
        let name = PackageName::parse(name).ok()?;
        Some((name, Version::parse(version).ok()?))
    });
    parsed.ok_or_else(|| {
        let text = format!(
            "root: {:?} is not a package at a version, such as root@1.0.0",
            clip(text)
        );
        ApiError::invalid("invalid_root", "root", text)
    })
}

fn unknown(name: &PackageName) -> ApiError {
    let text = format!("the package {name} is not known here");
    ApiError::not_found("package_not_found", text)
}

async fn managed(state: &ApiState, name: &PackageName) -> Result<()> {
    let found = state.core.store.packages(&[Want::statics(name)]).await?;
    if found
        .iter()
        .any(crate::model::package::PackageState::is_managed)
    {
        return Ok(());
    }
    Err(unknown(name))
}

/// A small JSON object with these fields and no other.
async fn object(
    options: &ServerOptions,
    request: &HttpRequest,
    payload: &mut web::Payload,
    known: &[&str],
) -> Result<Map<String, Value>> {
    params::must_be_json(request.headers())?;
    let bytes = body(options, request, payload).await?;
    let parsed: Option<Value> = serde_json::from_slice(&bytes).ok();
    let Some(Value::Object(fields)) = parsed else {
        let text = "the body must be a JSON object";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", text));
    };
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(fields),
        Some(key) => {
            let key = clip(key);
            let text = format!("{key}: is not a field here: use {}", known.join(", "));
            Err(ApiError::invalid("unknown_field", key, text))
        }
    }
}

/// A field that must be a text that says something.
fn needed<'a>(body: &'a Map<String, Value>, field: &str) -> Result<&'a str> {
    let found = text(body, field)?.filter(|text| !text.trim().is_empty());
    found.ok_or_else(|| ApiError::invalid("missing_field", field, format!("{field}: is missing")))
}

fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => {
            let text = format!("{field}: must be a text");
            Err(ApiError::invalid("invalid_field", field, text))
        }
    }
}
