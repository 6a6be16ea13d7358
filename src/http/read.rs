//! The questions: each handler reads its parameters, asks `query` and answers.

use actix_web::{HttpRequest, HttpResponse, web};

use super::errors::{ApiError, Result, ok};
use super::params::{self, Query};
use super::server::ApiState;
use crate::model::id::ChangeId;
use crate::model::name::PackageName;
use crate::query;
use crate::query::impact::Answer;

type State = web::Data<ApiState>;

/// The parameters of a list.
const PAGED: &[&str] = &["limit", "cursor"];

/// GET `/changes`: newest first.
pub async fn changes(state: State, request: HttpRequest) -> Result<HttpResponse> {
    let query = Query::of(&request, PAGED)?;
    let after = query.cursor(query::change::changes_after)?;
    Ok(ok(&query::change::changes(
        &*state.core.store,
        after,
        query.limit()?,
    )
    .await?))
}

/// GET `/changes/{id}`: the change with its decisions.
pub async fn change(
    state: State,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    let query = Query::of(&request, PAGED)?;
    let (limit, skip) = (
        query.limit()?,
        query.cursor(query::change::decisions_after)?.unwrap_or(0),
    );
    let id = ChangeId::new(id.into_inner());
    let found = query::change::change(&*state.core.store, &id, skip, limit).await?;
    let found =
        found.ok_or_else(|| ApiError::not_found("change_not_found", "there is no such change"))?;
    Ok(ok(&found))
}

/// GET `/packages`: the names of managed packages, in order.
pub async fn packages(state: State, request: HttpRequest) -> Result<HttpResponse> {
    let query = Query::of(&request, PAGED)?;
    let after = query.cursor(query::package::packages_after)?;
    Ok(ok(&query::package::packages(
        &*state.core.store,
        after.as_ref(),
        query.limit()?,
    )
    .await?))
}

/// GET `/packages/{package}`.
pub async fn package(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let (name, query) = (params::package(&name)?, Query::of(&request, &["limit"])?);
    let environments = &state.core.rules.environments;
    let found =
        query::package::package(&*state.core.store, environments, &name, query.limit()?).await?;
    Ok(ok(&known(found, &name)?))
}

/// GET `/packages/{package}/versions`: highest first.
pub async fn versions(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let (name, query) = (params::package(&name)?, Query::of(&request, PAGED)?);
    let below = query.cursor(query::package::versions_after)?;
    let found =
        query::package::versions(&*state.core.store, &name, below.as_ref(), query.limit()?).await?;
    Ok(ok(&known(found, &name)?))
}

/// GET `/packages/{package}/dependents`: in the order of names.
pub async fn dependents(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let (name, query) = (params::package(&name)?, Query::of(&request, PAGED)?);
    let after = query.cursor(query::package::dependents_after)?;
    let found =
        query::package::dependents(&*state.core.store, &name, after.as_ref(), query.limit()?)
            .await?;
    Ok(ok(&known(found, &name)?))
}

/// GET `/packages/{package}/dependent-of`: the Node software's single parent, and every managed parent.
pub async fn parents(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let (name, query) = (params::package(&name)?, Query::of(&request, PAGED)?);
    let skip = query.cursor(query::package::parents_after)?.unwrap_or(0);
    let found = query::package::parents(&*state.core.store, &name, skip, query.limit()?).await?;
    Ok(ok(&known(found, &name)?))
}

/// GET `/packages/{package}/release-lines`: highest first.
pub async fn lines(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let (name, query) = (params::package(&name)?, Query::of(&request, PAGED)?);
    let below = query.cursor(query::package::lines_after)?;
    let found =
        query::package::lines(&*state.core.store, &name, below.as_ref(), query.limit()?).await?;
    Ok(ok(&known(found, &name)?))
}

/// GET `/packages/{package}/impact?version=`: whom that version would reach, from memory. 503 while the graph is being read
/// for the first time and takes long.
pub async fn impact(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let name = params::package(&name)?;
    let query = Query::of(&request, &["version", "limit", "cursor"])?;
    let version = query.get("version")?.map(params::version).transpose()?;
    let after = query.cursor(query::impact::affected_after)?;
    let limit = query.limit()?;
    match query::impact::impact(&state.core, &name, version.as_ref(), after, limit).await? {
        Answer::Unknown => known(None::<()>, &name).map(|found| ok(&found)),
        Answer::NotYet => Err(ApiError::unavailable(
            "graph_not_ready",
            "the graph is being read: try again soon",
        )),
        Answer::Impact(view) => Ok(ok(&view)),
    }
}

fn known<T>(found: Option<T>, name: &PackageName) -> Result<T> {
    found.ok_or_else(|| {
        ApiError::not_found(
            "package_not_found",
            format!("the package {name} is not known here"),
        )
    })
}

/// GET `/release-line/{package}`: the head line, as the warehouse gives it (contract.md 6).
pub async fn head_line(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    Query::of(&request, &[])?;
    let name = params::package(&name)?;
    let found = query::line::line(&*state.core.store, &name, None).await?;
    let found = found.ok_or_else(|| line_not_found(format!("ReleaseLine not found for {name}")))?;
    Ok(ok(&found))
}

/// GET `/release-line/{package}/{version}`.
pub async fn line(
    state: State,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse> {
    Query::of(&request, &[])?;
    let (name, version) = (params::package(&path.0)?, params::version(&path.1)?);
    let found = query::line::line(&*state.core.store, &name, Some(&version)).await?;
    let found = found
        .ok_or_else(|| line_not_found(format!("ReleaseLine not found for {name} {version}")))?;
    Ok(ok(&found))
}

/// The warehouse's own words, which do not begin with the status.
fn line_not_found(text: String) -> ApiError {
    ApiError::not_found("release_line_not_found", text).bare()
}
