//! How an answer leaves, whole or spoiled: everything that touches the connection itself.

use super::fault::{Fault, FaultKind};
use super::record::Entry;
use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::rt::time::sleep;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use std::any::Any;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

/// Lets what was written reach the peer before the connection is broken.
const FLUSH: Duration = Duration::from_millis(25);

/// An answer of a role that answers in one piece.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) outcome: String,
    pub(super) content_type: &'static str,
    pub(super) gzip: bool,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(status: u16, outcome: impl Into<String>, body: &serde_json::Value) -> Self {
        Self {
            status,
            outcome: outcome.into(),
            content_type: "application/json",
            gzip: false,
            body: body.to_string().into(),
        }
    }

    fn head(&self) -> HttpResponseBuilder {
        let mut head = HttpResponse::build(status(self.status));
        head.content_type(self.content_type);
        if self.gzip {
            head.insert_header((header::CONTENT_ENCODING, "gzip"));
        }
        head
    }
}

/// A second handle on the connection, kept beside it so that a handler can have it reset.
pub(super) struct Connection(TcpStream);

impl Connection {
    /// For `HttpServer::on_connect`.
    pub(super) fn of(stream: &dyn Any) -> Option<Self> {
        let stream = stream.downcast_ref::<tokio::net::TcpStream>()?;
        let copy = stream.as_fd().try_clone_to_owned().ok()?;
        Some(Self(TcpStream::from(copy)))
    }

    /// From now on closing the connection resets it.
    fn will_reset(&self) -> io::Result<()> {
        tokio::net::TcpStream::from_std(self.0.try_clone()?)?.set_zero_linger()
    }
}

pub(super) fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn broken() -> io::Error {
    io::Error::other("closed by the sandbox")
}

/// Closes the connection by RST, with nothing sent.
pub(super) fn reset(req: &HttpRequest) -> HttpResponse {
    if let Some(connection) = req.conn_data::<Connection>() {
        let _ = connection.will_reset();
    }
    HttpResponse::Ok().streaming(stream::once(async { Err::<Bytes, _>(broken()) }))
}

/// A stream that gives these pieces and then breaks the connection.
pub(super) fn then_broken<S>(pieces: S) -> impl Stream<Item = io::Result<Bytes>>
where
    S: Stream<Item = io::Result<Bytes>>,
{
    use futures_util::StreamExt;
    pieces.chain(stream::once(async {
        sleep(FLUSH).await;
        Err(broken())
    }))
}

/// For a task that writes a stream by hand: the error that breaks it, after what was written has left.
pub(super) async fn breaking() -> io::Error {
    sleep(FLUSH).await;
    broken()
}

/// Half of the body, under the head that promised the whole.
fn cut(answer: &Answer) -> HttpResponse {
    let half = answer.body.slice(..answer.body.len() / 2);
    let pieces = then_broken(stream::once(async move { Ok(half) }));
    answer
        .head()
        .body(SizedStream::new(answer.body.len() as u64, pieces))
}

/// The answer of a `Status` fault.
pub(super) fn status_fault(
    code: u16,
    retry_after: Option<&str>,
    body: Option<&str>,
) -> HttpResponse {
    let mut head = HttpResponse::build(status(code));
    if let Some(value) = retry_after {
        head.insert_header((header::RETRY_AFTER, value));
    }
    head.content_type("text/plain; charset=utf-8")
        .body(body.unwrap_or_default().to_owned())
}

/// Does the work and answers, or fails as ordered.
pub(super) async fn answer(
    req: &HttpRequest,
    entry: Entry,
    fault: Option<Fault>,
    work: impl FnOnce() -> Answer,
) -> HttpResponse {
    let Some(fault) = fault else {
        let answer = work();
        entry.outcome(Some(answer.status), &answer.outcome);
        entry.done();
        return answer.head().body(answer.body);
    };
    let name = fault.kind.name();
    if let FaultKind::Slow { ms } = fault.kind {
        sleep(Duration::from_millis(ms)).await;
    }
    // A cut answer needs an answer to cut.
    let works = fault.work_done || matches!(fault.kind, FaultKind::Slow { .. } | FaultKind::Cut);
    let answer = works.then(work);
    let said = answer.as_ref().map_or_else(
        || name.clone(),
        |answer| format!("{name} ({})", answer.outcome),
    );
    let (code, response) = match (fault.kind, answer) {
        (FaultKind::Slow { .. }, Some(answer)) => {
            (Some(answer.status), answer.head().body(answer.body))
        }
        (FaultKind::Cut, Some(answer)) => (Some(answer.status), cut(&answer)),
        (FaultKind::Hang, _) => {
            entry.outcome(None, &said);
            return std::future::pending().await;
        }
        (FaultKind::Reset, _) => (None, reset(req)),
        (
            FaultKind::Status {
                status,
                retry_after,
                body,
            },
            _,
        ) => (
            Some(status),
            status_fault(status, retry_after.as_deref(), body.as_deref()),
        ),
        (FaultKind::ErrorEvent { message } | FaultKind::FinalError { message }, _) => {
            (Some(500), status_fault(500, None, Some(&message)))
        }
        (FaultKind::NoParsableLine, _) => (Some(200), HttpResponse::Ok().body("<html>\nno JSON\n")),
        (FaultKind::Redirect, _) => {
            let response = HttpResponse::Found()
                .insert_header((header::LOCATION, format!("/moved{}", req.uri().path())))
                .finish();
            (Some(302), response)
        }
        (
            FaultKind::EmptyStream | FaultKind::Twice | FaultKind::Slow { .. } | FaultKind::Cut,
            _,
        ) => (Some(200), HttpResponse::Ok().finish()),
    };
    entry.outcome(code, &said);
    entry.done();
    response
}
