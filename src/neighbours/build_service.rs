//! Sending a document to the build service (contract.md 2.1).
//!
//! Why its reply is read to the end: the service says 200 before it has looked at anything, and reports a failure as
//! one of many lines. Only a reply that ends, holds progress and no error is an acceptance.

use std::time::Duration;

use reqwest::Method;

use super::client::{Remote, Unusable};
use super::endpoint::Endpoint;
use super::ndjson::Reply;
use super::outcome::{Class, Neighbour, Outcome};
use super::registry::Tarball;
use super::upload::{self, Document, Exchange, Report};

/// A reply that goes on for longer, line after line, holds a place that others wait for.
const REPLY_TIME: Duration = Duration::from_hours(1);

/// The build service.
#[derive(Debug, Clone)]
pub struct BuildService(Remote);

impl BuildService {
    /// From its settings; reads the files they name.
    pub fn new(endpoint: &Endpoint) -> Result<Self, Unusable> {
        Remote::new(Neighbour::BuildService, endpoint).map(Self)
    }

    /// `POST /v2/build` with `{"promote":…,"data":{…}}`. `rebuild` is the rebuild's id, the same for all attempts.
    pub async fn build(
        &self,
        rebuild: &str,
        promote: bool,
        document: &Document<'_>,
        tarball: Tarball,
    ) -> Report {
        let remote = &self.0;
        let url = match remote.url("v2/build") {
            Ok(url) => url,
            Err(outcome) => {
                return Report {
                    outcome,
                    streamed: None,
                };
            }
        };
        let request = remote
            .request(Method::POST, url, false)
            .header("Idempotency-Key", rebuild);
        match upload::send(remote, request, document, Some(promote), tarball).await {
            Ok(exchange) if exchange.status == 200 => self.read(exchange).await,
            Ok(exchange) => exchange.refused(remote).await,
            Err(report) => report,
        }
    }

    async fn read(&self, mut exchange: Exchange) -> Report {
        let read = tokio::time::timeout(REPLY_TIME, self.lines(&mut exchange)).await;
        match read {
            Ok(Ok(())) => exchange.accepted(&self.0),
            Ok(Err(outcome)) => exchange.failed(outcome),
            Err(_) => {
                let outcome = self.refuse("the reply did not end within an hour");
                exchange.failed(outcome)
            }
        }
    }

    async fn lines(&self, exchange: &mut Exchange) -> Result<(), Outcome> {
        let mut reply = Reply::default();
        while let Some(piece) = exchange.piece(&self.0).await? {
            let before = reply.lines();
            reply
                .push(&piece)
                .map_err(|refused| self.refuse(&refused.message()))?;
            // Bytes alone are no sign of life: a line is.
            if reply.lines() > before {
                exchange.moved();
            }
        }
        reply
            .end()
            .map_err(|refused| self.refuse(&refused.message()))
    }

    fn refuse(&self, message: &str) -> Outcome {
        Outcome::new(
            Class::Retry { retry_after: None },
            self.0.neighbour,
            message,
        )
        .with_status(200)
    }
}
