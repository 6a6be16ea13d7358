//! Publishing a document through the warehouse (contract.md 2.2).

use reqwest::Method;
use reqwest::header::ACCEPT;

use super::client::{Remote, Unusable, encode_component};
use super::endpoint::Endpoint;
use super::outcome::Neighbour;
use super::registry::Tarball;
use super::upload::{self, Document, Report};

/// The warehouse.
#[derive(Debug, Clone)]
pub struct Warehouse(Remote);

impl Warehouse {
    /// From its settings; reads the files they name.
    pub fn new(endpoint: &Endpoint) -> Result<Self, Unusable> {
        Remote::new(Neighbour::Warehouse, endpoint).map(Self)
    }

    /// `PUT /<encodeURIComponent(name)>` with the bare document. Any 2xx is an acceptance; `promote` is not sent.
    /// `rebuild` is the rebuild's id, the same for all attempts.
    pub async fn publish(
        &self,
        rebuild: &str,
        name: &str,
        document: &Document<'_>,
        tarball: Tarball,
    ) -> Report {
        let remote = &self.0;
        let url = match remote.url(&encode_component(name)) {
            Ok(url) => url,
            Err(outcome) => {
                return Report {
                    outcome,
                    streamed: None,
                };
            }
        };
        let request = remote
            .request(Method::PUT, url, false)
            .header(ACCEPT, "application/json")
            .header("Idempotency-Key", rebuild);
        match upload::send(remote, request, document, None, tarball).await {
            Ok(exchange) if (200..300).contains(&exchange.status) => exchange.accepted(remote),
            Ok(exchange) => exchange.refused(remote).await,
            Err(report) => report,
        }
    }
}
