//! Refusing a request whose body is still on its way.
//!
//! actix decides when the answer is written what becomes of the rest of the body. If nobody holds it any more, a chunked
//! body is read on for as long as the client sends; if somebody does, the connection says `close`, is read on for
//! [`linger`](super::ServerOptions::linger), so that the client hears the answer, and is closed. So the answer's own body holds
//! it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody, to_bytes};
use actix_web::{HttpResponse, ResponseError as _, web};
use bytes::Bytes;

use super::errors::{self, ApiError};

/// The answer to a request that is refused before its body was read to the end.
pub async fn refused(error: &ApiError, rest: web::Payload) -> HttpResponse {
    let (response, body) = error.error_response().into_parts();
    let bytes = to_bytes(body).await.unwrap_or_default();
    response.set_body(BoxBody::new(Answer {
        bytes: Some(bytes),
        _rest: rest,
    }))
}

/// The answer to a request whose body may not have been read to the end.
pub async fn answered(answer: errors::Result<HttpResponse>, rest: web::Payload) -> HttpResponse {
    match answer {
        Ok(response) => response,
        Err(error) => refused(&error, rest).await,
    }
}

struct Answer {
    bytes: Option<Bytes>,
    _rest: web::Payload,
}

impl MessageBody for Answer {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.bytes.take().map(Ok))
    }
}
