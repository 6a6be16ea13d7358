//! The dry run of a change (design.md 6): the same body and the same judgement as for a change, and nothing is written.

use actix_web::{HttpRequest, HttpResponse, web};

use super::change::{environment, read};
use super::errors::{Result, ok};
use super::params::Query;
use super::server::{ApiState, ServerOptions};
use super::unread::answered;
use crate::ingest::dry_run;
use crate::model::env::Env;
use crate::query;

/// POST `/plan/{env}`: what `POST /change/{env}` of this body would come to.
pub async fn for_environment(
    state: web::Data<ApiState>,
    options: web::Data<ServerOptions>,
    request: HttpRequest,
    env: web::Path<String>,
    payload: web::Payload,
) -> HttpResponse {
    let env = environment(&state, &env);
    answer(&state, &options, &request, env.map(Some), payload).await
}

/// POST `/plan`: what `POST /change` of this body would come to: a publish, unless the body names an environment.
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
    let answer = planned(state, options, request, env, &mut payload).await;
    answered(answer, payload).await
}

async fn planned(
    state: &ApiState,
    options: &ServerOptions,
    request: &HttpRequest,
    env: Result<Option<Env>>,
    payload: &mut web::Payload,
) -> Result<HttpResponse> {
    Query::of(request, &[])?;
    let posted = read(state, options, request, env?, payload).await?;
    let foreseen = dry_run(&state.core, &posted).await?;
    Ok(ok(&query::plan::PlanView::from(foreseen)))
}
