//! One rebuild, and its retry.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::errors::{ApiError, Result, ok};
use super::params::Query;
use super::server::ApiState;
use crate::dispatch;
use crate::model::id::RebuildId;
use crate::model::wave::WaveState;
use crate::query;
use crate::query::rebuild::{RebuildView, Standing};
use crate::store::Store;

type State = web::Data<ApiState>;

fn not_found() -> ApiError {
    ApiError::not_found("rebuild_not_found", "there is no such rebuild")
}

/// GET `/rebuilds/{id}`: what it was made from, where it stands, every attempt, why it ended.
pub async fn rebuild(
    state: State,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Query::of(&request, &[])?;
    let id = RebuildId::new(id.into_inner());
    let found = query::rebuild::rebuild(&*state.core.store, &id).await?;
    Ok(ok(&found.ok_or_else(not_found)?))
}

/// POST `/rebuilds/{id}/retry`: sends a rebuild that was given up once more, with the same version and id. 409 if it is not
/// given up (H24).
pub async fn retry(
    state: State,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Query::of(&request, &[])?;
    let id = RebuildId::new(id.into_inner());
    let store = &*state.core.store;
    let index = query::rebuild::index(store, &id)
        .await?
        .ok_or_else(not_found)?;
    let Some(work) = dispatch::revive(&state.core, &index.name, &index.key, &id).await? else {
        let found = query::rebuild::rebuild(store, &id)
            .await?
            .ok_or_else(not_found)?;
        return Err(refused(&found, is_cancelled(store, &found).await?));
    };
    state.inbox.put(vec![work]);
    tracing::info!(rebuild.id = %id, package = %index.name, version = %index.key.version, "retried by hand");
    Ok(ok(&json!({"ok": true, "id": id})))
}

/// Whether every wave that waits for it was cancelled.
async fn is_cancelled(store: &dyn Store, found: &RebuildView) -> Result<bool> {
    for wave in found.made.iter().flat_map(|made| &made.waves) {
        let wave = store.wave(wave).await?;
        if wave.is_none_or(|wave| wave.state != WaveState::Cancelled) {
            return Ok(false);
        }
    }
    Ok(found.made.is_some())
}

fn refused(found: &RebuildView, cancelled: bool) -> ApiError {
    let why = match found.progress.state {
        Standing::Dead if cancelled => {
            let text = format!(
                "{}@{} is not sent again: its wave was cancelled",
                found.package, found.version
            );
            return ApiError::new(StatusCode::CONFLICT, "wave_cancelled", text);
        }
        // Another request retried it between the two reads, or in this very moment.
        Standing::Dead => "it is being retried already".to_owned(),
        Standing::Queued | Standing::Sending => {
            "it is not given up and goes on by itself".to_owned()
        }
        _ => "only a rebuild that was given up can be retried".to_owned(),
    };
    ApiError::new(
        StatusCode::CONFLICT,
        "not_dead",
        format!("{} {why}", found.progress.sentence),
    )
}
