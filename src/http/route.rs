//! Paths: what they look like, which spellings are tolerated, which methods they take, and the log of who asked.
//!
//! A package's name is one path segment if its scope is encoded (`%40s%2Fc`) and two if it is not (`@s/c`); both work, also
//! for packages called like one of our routes.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, Handler, HttpResponse, Resource, Responder, guard, web};
use tracing::Instrument as _;

use super::errors::ApiError;
use super::unread::refused;

/// The pattern of a package's name. The router has decoded `%40` when it matches, but not `%2F`: `@s/c`, `@s%2Fc`, `c`.
/// A scope alone is no name, or `/packages/@s/dependents` would be read in two ways.
macro_rules! package {
    () => {
        "{package:@[^/%]+/[^/]+|@[^/%]+%2[fF][^/]+|[^/@][^/]*}"
    };
}
pub(super) use package;

/// A route that answers GET, and HEAD like it without the body.
pub fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let reads = guard::Any(guard::Get()).or(guard::Head());
    web::resource(path)
        .route(web::route().guard(reads).to(handler))
        .default_service(refuse("GET, HEAD"))
}

/// A route that answers POST.
pub fn post<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::post().to(handler))
        .default_service(refuse("POST"))
}

/// A route that answers PUT and DELETE.
pub fn put_delete<F, A, G, B>(path: &str, put: F, delete: G) -> Resource
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
    G: Handler<B>,
    B: FromRequest + 'static,
    G::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::put().to(put))
        .route(web::delete().to(delete))
        .default_service(refuse("PUT, DELETE"))
}

fn refuse(allow: &'static str) -> actix_web::Route {
    web::route()
        .to(move |rest: web::Payload| async move { refused(&ApiError::method(allow), rest).await })
}

/// Every other path.
pub async fn nothing(rest: web::Payload) -> HttpResponse {
    refused(
        &ApiError::not_found("not_found", "there is nothing here"),
        rest,
    )
    .await
}

/// Tolerates what the original tolerated (contract.md 1.2): a slash at the end, and any letter case in the fixed parts of the
/// change and health routes. The rest of the path is left alone.
pub async fn tolerate(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if let Some(path) = plain(request.path()) {
        let uri = match request.query_string() {
            "" => path,
            query => format!("{path}?{query}"),
        };
        if let Ok(uri) = uri.parse::<Uri>() {
            request.match_info_mut().get_mut().update(&uri);
            request.head_mut().uri = uri;
        }
    }
    next.call(request).await
}

/// The path as the routes spell it, if that differs.
fn plain(path: &str) -> Option<String> {
    let trimmed = match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    let parts: Vec<&str> = trimmed.split('/').collect();
    let fixed = |at: usize, name: &str| {
        parts
            .get(at)
            .is_some_and(|part| part.eq_ignore_ascii_case(name))
    };
    let lower = if fixed(1, "v2") && fixed(2, "change") {
        2
    } else {
        let names = ["change", "healthcheck", "healthcheck.html"];
        usize::from(names.iter().any(|name| fixed(1, name)))
    };
    let spelled: Vec<String> = parts
        .iter()
        .enumerate()
        .map(|(at, part)| {
            if at <= lower {
                part.to_ascii_lowercase()
            } else {
                (*part).to_owned()
            }
        })
        .collect();
    Some(spelled.join("/")).filter(|spelled| spelled != path)
}

/// A span for each request, and one line in the log when it is answered.
pub async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let method: Method = request.method().clone();
    let span = tracing::info_span!("request", %method, route = tracing::field::Empty, status = tracing::field::Empty);
    let response = next.call(request).instrument(span.clone()).await?;
    let route = response
        .request()
        .match_pattern()
        .unwrap_or_else(|| "none".to_owned());
    let status = response.status().as_u16();
    span.record("route", route.as_str());
    span.record("status", status);
    let _entered = span.enter();
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(duration_ms = milliseconds, "answered");
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn contract_1_2_tolerated_spellings() {
        for (given, spelled) in [
            ("/V2/Change/dev/", "/v2/change/dev"),
            ("/v2/change/DEV", "/v2/change/DEV"),
            ("/CHANGE/Dev", "/change/Dev"),
            ("/Change", "/change"),
            ("/HealthCheck.HTML/", "/healthcheck.html"),
            ("/packages/Root/", "/packages/Root"),
            ("/Packages", "/Packages"),
            ("/packages/%40S%2Fc//", "/packages/%40S%2Fc"),
            ("/v2/", "/v2"),
            ("/", "/"),
            ("///", "/"),
        ] {
            assert_eq!(plain(given).as_deref().unwrap_or(given), spelled);
        }
    }
}
