//! Sending a document together with its tarball, neither of which is held in memory.
//!
//! Why it is more than a request with a body: two other machines take part, and when nothing moves it matters which
//! of them is to blame. A registry that breaks off must never look like a build that was accepted, and must not use
//! up the build service's patience; a receiver that stops reading must not look like a slow registry. So the body
//! notes in a `Watch` what it waits for, how it failed and whether its last byte was handed over, and the wait for
//! the reply is measured by that.
//!
//! The shape of the body, in this order (contract.md 2.2, *key order matters*):
//! `{"promote":…,"data":{<before>,"_attachments":{"<attachment>":{"content_type":…,"data":"<base64>","length":<bytes>}},<after>}}`,
//! without the outer object for the warehouse. `length` comes last because it may not be known before.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, RequestBuilder, Response};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha512};
use tokio::time::Instant;

use super::client::Remote;
use super::encode::{Carry, encoded_len};
use super::outcome::{Class, Failure, Neighbour, Outcome};
use super::registry::Tarball;

/// A document to be sent: its entries before and after `_attachments`, and the name of the one attachment.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// `_id`, `name`, `dist-tags`, `versions` …: what the warehouse stores.
    pub before: &'a Map<String, Value>,
    /// `<name>-<version>.tgz`, scope included.
    pub attachment: &'a str,
    /// `env`, `__published` …: what only the build service reads.
    pub after: &'a Map<String, Value>,
}

/// What came of an upload, and what the tarball was if all of it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What came of it.
    pub outcome: Outcome,
    /// Present if the whole document was handed to the connection, whatever was answered (H17).
    pub streamed: Option<Streamed>,
}

/// The tarball as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streamed {
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-512 in the form of `dist.integrity`: `sha512-<base64>`.
    pub integrity: String,
}

/// An upload whose reply has begun.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) status: u16,
    response: Response,
    watch: Arc<Watch>,
    idle: Duration,
}

/// Sends the document and waits for the head of the reply, as long as something moves.
/// `promote` is `Some` for the build service, which wants the document wrapped.
pub(super) async fn send(
    remote: &Remote,
    request: RequestBuilder,
    document: &Document<'_>,
    promote: Option<bool>,
    tarball: Tarball,
) -> Result<Exchange, Report> {
    let watch = Arc::new(Watch::new(remote.connect));
    let (head, tail) = match halves(document, promote) {
        Ok(halves) => halves,
        Err(error) => {
            let message = format!("the document cannot be written: {error}");
            return Err(watch.report(Outcome::new(Class::Dead, remote.neighbour, message)));
        }
    };
    let mut request = request.header(CONTENT_TYPE, "application/json");
    if let Some(length) = tarball.length {
        let whole = (head.len() + tail.len()) as u64
            + encoded_len(length)
            + length_entry(length).len() as u64;
        request = request.header(CONTENT_LENGTH, whole);
    }
    let body = Body::wrap_stream(body(head, tarball, tail, Arc::clone(&watch)));
    let answer = watch.guard(remote.idle, request.body(body).send()).await;
    match answer {
        Some(Ok(response)) => {
            watch.moved();
            Ok(Exchange {
                status: response.status().as_u16(),
                response,
                watch,
                idle: remote.idle,
            })
        }
        Some(Err(error)) => Err(watch.report(remote.broken(&error))),
        None => Err(watch.report(remote.silent())),
    }
}

impl Exchange {
    /// The next piece of the reply, no later than one idle time after the last thing that moved: a byte up, or what
    /// [`Exchange::moved`] was called for.
    pub(super) async fn piece(&mut self, remote: &Remote) -> Result<Option<Bytes>, Outcome> {
        match self.watch.guard(self.idle, self.response.chunk()).await {
            Some(Ok(piece)) => Ok(piece),
            Some(Err(error)) => Err(remote.broken(&error).with_status(self.status)),
            None => Err(remote.silent().with_status(self.status)),
        }
    }

    /// Something came down that counts.
    pub(super) fn moved(&self) {
        self.watch.moved();
    }

    /// The reply is one of refusal: its status says what it means.
    pub(super) async fn refused(self, remote: &Remote) -> Report {
        let outcome = remote.refused(self.response).await;
        self.watch.report(outcome)
    }

    /// The reply is not the expected one.
    pub(super) fn failed(self, outcome: Outcome) -> Report {
        self.watch.report(outcome)
    }

    /// The reply says yes. It is believed only if the whole document had been handed over.
    pub(super) fn accepted(self, remote: &Remote) -> Report {
        let status = self.status;
        let neighbour = remote.neighbour;
        if self.watch.state().streamed.is_none() {
            let message = "answered before it had the whole document";
            let outcome = Outcome::retry(neighbour, message).with_status(status);
            let mut report = self.watch.report(outcome);
            report.outcome.may_have_reached = true;
            return report;
        }
        self.watch.report(
            Outcome::new(Class::Sent, neighbour, format!("answered {status}")).with_status(status),
        )
    }
}

/// What the body, the wait for the reply and the final word know of each other.
#[derive(Debug)]
struct Watch(Mutex<Moving>);

#[derive(Debug)]
struct Moving {
    /// When something last moved between the receiver and us.
    last: Instant,
    /// The body waits for the registry, which has an idle time of its own.
    awaits_registry: bool,
    /// How the registry's part failed. Whatever the receiver makes of half a body, this is the reason.
    failure: Option<Failure>,
    /// The last byte was handed to the connection.
    streamed: Option<Streamed>,
}

impl Watch {
    fn new(connect: Duration) -> Self {
        Self(Mutex::new(Moving {
            last: Instant::now() + connect,
            awaits_registry: false,
            failure: None,
            streamed: None,
        }))
    }

    fn state(&self) -> MutexGuard<'_, Moving> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self) {
        self.state().last = Instant::now();
    }

    fn deadline(&self, idle: Duration) -> Instant {
        let state = self.state();
        if state.awaits_registry {
            Instant::now() + idle
        } else {
            state.last + idle
        }
    }

    /// Waits for `work`; `None` if nothing moved for the idle time.
    async fn guard<F: Future>(&self, idle: Duration, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        loop {
            let deadline = self.deadline(idle);
            tokio::select! {
                biased;
                output = &mut work => return Some(output),
                () = tokio::time::sleep_until(deadline) => {
                    if self.deadline(idle) <= Instant::now() {
                        return None;
                    }
                }
            }
        }
    }

    /// The last word: a failure of the registry goes before everything that came of it.
    fn report(&self, outcome: Outcome) -> Report {
        let mut state = self.state();
        let streamed = state.streamed.take();
        let outcome = state.failure.take().unwrap_or(outcome);
        Report {
            outcome: outcome.reached(streamed.is_some()),
            streamed,
        }
    }
}

/// Clears `awaits_registry` also when the connection drops the body in the middle of the wait.
struct Waiting<'a>(&'a Watch);

impl<'a> Waiting<'a> {
    fn begin(watch: &'a Watch) -> Self {
        watch.state().awaits_registry = true;
        Self(watch)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.awaits_registry = false;
        state.last = Instant::now();
    }
}

/// Where the body is.
enum Part {
    Head(Bytes),
    Tarball,
    Ended,
}

struct Sending {
    part: Part,
    tarball: Tarball,
    tail: Bytes,
    carry: Carry,
    length: u64,
    hash: Sha512,
    watch: Arc<Watch>,
}

/// The body's only error. The reason is in the [`Watch`].
#[derive(Debug, thiserror::Error)]
#[error("the tarball could not be read")]
struct Broken;

fn body(
    head: Bytes,
    tarball: Tarball,
    tail: Bytes,
    watch: Arc<Watch>,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    let sending = Sending {
        part: Part::Head(head),
        tarball,
        tail,
        carry: Carry::default(),
        length: 0,
        hash: Sha512::new(),
        watch,
    };
    stream::unfold(sending, |mut sending| async {
        sending.watch.moved();
        let piece = sending.next().await?;
        let piece = piece.map_err(|failure| {
            sending.watch.state().failure = Some(failure);
            sending.part = Part::Ended;
            Broken
        });
        Some((piece, sending))
    })
}

impl Sending {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        match std::mem::replace(&mut self.part, Part::Tarball) {
            Part::Head(head) => Some(Ok(head)),
            Part::Tarball => loop {
                let waiting = Waiting::begin(&self.watch);
                let piece = self.tarball.stream.next().await;
                drop(waiting);
                match piece {
                    Some(Ok(piece)) => {
                        self.length += piece.len() as u64;
                        if self
                            .tarball
                            .length
                            .is_some_and(|length| self.length > length)
                        {
                            return Some(Err(self.unlike("is longer than was announced")));
                        }
                        self.hash.update(&piece);
                        let text = self.carry.push(&piece);
                        if !text.is_empty() {
                            return Some(Ok(text.into()));
                        }
                    }
                    Some(Err(failure)) => return Some(Err(failure)),
                    None => return Some(self.end()),
                }
            },
            Part::Ended => {
                self.part = Part::Ended;
                None
            }
        }
    }

    /// The last piece, if the tarball is what was announced.
    fn end(&mut self) -> Result<Bytes, Failure> {
        self.part = Part::Ended;
        if self.length == 0 {
            return Err(self.unlike("is empty"));
        }
        if self
            .tarball
            .length
            .is_some_and(|length| length != self.length)
        {
            return Err(self.unlike("is shorter than was announced"));
        }
        let hash = std::mem::take(&mut self.hash).finalize();
        if self
            .tarball
            .sha512
            .is_some_and(|wanted| wanted[..] != hash[..])
        {
            return Err(self.unlike("does not have the hash in its dist.integrity"));
        }
        let mut last = std::mem::take(&mut self.carry).finish();
        last.push_str(&length_entry(self.length));
        let mut last = last.into_bytes();
        last.extend_from_slice(&self.tail);
        self.watch.state().streamed = Some(Streamed {
            length: self.length,
            integrity: format!("sha512-{}", STANDARD.encode(hash)),
        });
        Ok(last.into())
    }

    fn unlike(&self, message: &str) -> Failure {
        let length = self.length;
        Outcome::retry(
            Neighbour::Registry,
            format!("the tarball {message} ({length} bytes read)"),
        )
    }
}

/// What stands between the base64 text and the tail.
fn length_entry(length: u64) -> String {
    format!("\",\"length\":{length}")
}

/// The body up to the base64 text, and from after the `length` on.
fn halves(document: &Document<'_>, promote: Option<bool>) -> serde_json::Result<(Bytes, Bytes)> {
    let mut head = Vec::with_capacity(4096);
    if let Some(promote) = promote {
        head.extend_from_slice(format!("{{\"promote\":{promote},\"data\":").as_bytes());
    }
    head.push(b'{');
    entries(document.before, &mut head, false)?;
    if !document.before.is_empty() {
        head.push(b',');
    }
    head.extend_from_slice(b"\"_attachments\":{");
    serde_json::to_writer(&mut head, document.attachment)?;
    head.extend_from_slice(b":{\"content_type\":\"application/octet-stream\",\"data\":\"");

    let mut tail = b"}}".to_vec();
    entries(document.after, &mut tail, true)?;
    tail.push(b'}');
    if promote.is_some() {
        tail.push(b'}');
    }
    Ok((head.into(), tail.into()))
}

/// The entries in their order, with commas between them, and one before them if `follows`.
fn entries(
    map: &Map<String, Value>,
    into: &mut Vec<u8>,
    mut follows: bool,
) -> serde_json::Result<()> {
    for (key, value) in map {
        if follows {
            into.push(b',');
        }
        follows = true;
        serde_json::to_writer(&mut *into, key)?;
        into.push(b':');
        serde_json::to_writer(&mut *into, value)?;
    }
    Ok(())
}
