//! The one shape of every error: `{"ok": false, "message": "400 …", "code": "…", "field": "…"}` (design.md 6).
//!
//! The message begins with the status, because the Node client stops resending only when it reads 400 or 404 in it
//! (contract.md 1.4). What went wrong inside is logged here, once, and never told.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use super::body::BodyError;
use crate::ingest::IngestError;
use crate::model::ChangeError;
use crate::store::{StoreError, StoreErrorKind};

/// After how many seconds a client may come back when the store is away.
const COME_BACK: u32 = 1;

/// What a client hears of a failure.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    text: String,
    field: Option<String>,
    retry_after: Option<u32>,
    allow: Option<&'static str>,
    /// The message is the text alone, as the warehouse writes it.
    bare: bool,
}

/// What every handler answers.
pub type Result<T> = std::result::Result<T, ApiError>;

#[derive(Serialize)]
struct Body<'a> {
    ok: bool,
    message: String,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl ApiError {
    /// An error of this status; `code` is stable, `text` is for people.
    pub fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            code,
            text: text.into(),
            field: None,
            retry_after: None,
            allow: None,
            bare: false,
        }
    }

    /// 400: `field` says where the mistake is.
    pub fn invalid(code: &'static str, field: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(StatusCode::BAD_REQUEST, code, text)
        }
    }

    /// 404.
    pub fn not_found(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, text)
    }

    /// 405 with the methods that are allowed.
    pub fn method(allow: &'static str) -> Self {
        let text = format!("this method is not allowed here: use {allow}");
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
        }
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            retry_after: Some(COME_BACK),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, text)
        }
    }

    /// The same with a message that does not begin with the status, where others parse the text.
    #[must_use]
    pub fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    fn internal() -> Self {
        let text = "something went wrong inside; the log has it";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bare {
            f.write_str(&self.text)
        } else {
            write!(f, "{} {}", self.status.as_u16(), self.text)
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, allow));
        }
        json(
            &mut response,
            &Body {
                ok: false,
                message: self.to_string(),
                code: self.code,
                field: self.field.as_deref(),
            },
        )
    }
}

/// Finishes an answer with a JSON body.
pub fn json(response: &mut actix_web::HttpResponseBuilder, body: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(body) {
        Ok(bytes) => response
            .content_type("application/json; charset=utf-8")
            .body(bytes),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// 200 with a JSON body.
pub fn ok(body: &impl Serialize) -> HttpResponse {
    json(&mut HttpResponse::Ok(), body)
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Bug => {
                tracing::error!(%error, "a request failed");
                Self::internal()
            }
            kind => {
                tracing::warn!(%error, ?kind, "a request failed; the client may try again");
                Self::unavailable("store_away", "the store does not answer: try again soon")
            }
        }
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Store(error) => error.into(),
            IngestError::Document(..) => {
                tracing::error!(%error, "a request failed");
                Self::internal()
            }
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let field = Some(error.field.clone()).filter(|field| !field.is_empty());
        Self {
            field,
            ..Self::new(StatusCode::BAD_REQUEST, error.code, error.to_string())
        }
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(status, error.code(), error.to_string())
    }
}
