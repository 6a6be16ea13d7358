//! One attempt: the base's document, its tarball, and the request (rule 10; contract.md 2, 4 J).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Claimed, target};
use crate::ingest::Core;
use crate::model::document::Document;
use crate::model::outgoing::{self, Outgoing, OutgoingError, PackumentView};
use crate::model::package::{Kind, RowKey};
use crate::neighbours::{
    BuildService, Class, Document as Upload, Failure, Neighbour, Outcome, Packument, Registry,
    Tarball, Warehouse,
};
use crate::semver::Version;
use crate::store::Want;

/// The neighbours that are configured.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// Builds; promotions go here, and publishes too where there is no warehouse.
    pub build_service: BuildService,
    /// Publishes.
    pub warehouse: Option<Warehouse>,
    /// Has the tarballs.
    pub registry: Registry,
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The outcome.
    pub outcome: Outcome,
    /// Whether a neighbour was asked at all: only then does the outcome say anything about its lane.
    pub contacted: bool,
}

impl Neighbours {
    /// Sends a claimed rebuild and says what came of it.
    pub async fn send(&self, core: &Core, claimed: &Claimed) -> Answer {
        let to = target(&claimed.key, self.warehouse.is_some());
        let json = match base_document(core, claimed, to).await {
            Ok(json) => json,
            Err(outcome) => {
                return Answer {
                    outcome,
                    contacted: false,
                };
            }
        };
        let outcome = match self.attempt(core, claimed, to, &json).await {
            Ok(outcome) | Err(outcome) => outcome,
        };
        Answer {
            outcome,
            contacted: true,
        }
    }

    async fn attempt(
        &self,
        core: &Core,
        claimed: &Claimed,
        to: Neighbour,
        json: &Map<String, Value>,
    ) -> Result<Outcome, Failure> {
        let rebuild = &claimed.rebuild;
        let name = claimed.name.as_str();
        let base = rebuild.base.to_string();
        let tarball_of = rebuild.tarball_of.to_string();
        let packument = self.registry.packument(name, &[&base, &tarball_of]).await?;
        let outgoing =
            compose(core, claimed, json, packument.as_ref()).map_err(|error| Outcome {
                class: Class::Dead,
                neighbour: to,
                may_have_reached: false,
                status: None,
                message: error.to_string(),
            })?;
        let tarball = self
            .tarball(name, &base, &tarball_of, packument.as_ref())
            .await?;
        let upload = Upload {
            before: &outgoing.before,
            attachment: &outgoing.attachment,
            after: &outgoing.after,
        };
        let id = rebuild.id.as_str();
        let report = match (&self.warehouse, to) {
            (Some(warehouse), Neighbour::Warehouse) => {
                warehouse.publish(id, name, &upload, tarball).await
            }
            _ => {
                self.build_service
                    .build(id, rebuild.promote, &upload, tarball)
                    .await
            }
        };
        Ok(report.outcome)
    }

    /// The base's own tarball; if the registry has none, that of the version whose bytes it has (H18).
    pub(super) async fn tarball(
        &self,
        name: &str,
        base: &str,
        tarball_of: &str,
        packument: Option<&Packument>,
    ) -> Result<Tarball, Failure> {
        let from = |version: &str| {
            packument
                .and_then(|packument| packument.tarball(version))
                .map(str::to_owned)
        };
        let integrity =
            |version: &str| packument.and_then(|packument| packument.integrity(version));
        match self
            .registry
            .tarball(name, base, from(base).as_deref())
            .await
        {
            Ok(tarball) => Ok(tarball.with_integrity(integrity(base))),
            Err(failure) if failure.class == Class::MissingTarball && tarball_of != base => self
                .registry
                .tarball(name, tarball_of, from(tarball_of).as_deref())
                .await
                .map(|tarball| tarball.with_integrity(integrity(tarball_of))),
            Err(failure) => Err(failure),
        }
    }
}

/// The document that is sent.
pub(super) fn compose(
    core: &Core,
    claimed: &Claimed,
    json: &Map<String, Value>,
    packument: Option<&Packument>,
) -> Result<Outgoing, OutgoingError> {
    let version: &Version = &claimed.key.version;
    match claimed.key.slot.kind() {
        Kind::Promotion => outgoing::promotion(json, version, claimed.key.slot.as_str()),
        Kind::Publish => {
            let base = &claimed.rebuild.base;
            let view = packument.map(|packument| PackumentView {
                dist_tags: packument
                    .dist_tags
                    .clone()
                    .into_iter()
                    .collect::<BTreeMap<_, _>>(),
                dist_of_base: packument
                    .dist(&base.to_string())
                    .cloned()
                    .map(Value::Object),
            });
            let env = core.rules.environments.first().as_str();
            outgoing::publish(json, base, version, env, view.as_ref())
        }
    }
}

/// The stored document of the base. One that is not there any more is nobody's fault that a retry could mend.
pub(super) async fn base_document(
    core: &Core,
    claimed: &Claimed,
    to: Neighbour,
) -> Result<Map<String, Value>, Failure> {
    let unusable = |class: Class, message: String| Outcome {
        class,
        neighbour: to,
        may_have_reached: false,
        status: None,
        message,
    };
    // The store's absence is no failure of the rebuild: the attempt does not count.
    let away = |error: String| unusable(Class::Pause { retry_after: None }, error);
    let base = &claimed.rebuild.base;
    let gone = || {
        unusable(
            Class::Dead,
            format!(
                "no document of {}@{base} is known: publish it by hand once",
                claimed.name
            ),
        )
    };
    let want = Want::rows(&claimed.name, vec![RowKey::publish(base)]);
    let state = core
        .store
        .packages(&[want])
        .await
        .map_err(|error| away(error.to_string()))?
        .pop();
    let digest = state
        .and_then(|state| state.facts(base).and_then(|facts| facts.digest.clone()))
        .ok_or_else(gone)?;
    let json = core
        .store
        .manifest(&claimed.name, base, &digest)
        .await
        .map_err(|error| away(error.to_string()))?
        .ok_or_else(gone)?;
    Document::parse(&json)
        .map(|document| document.json)
        .map_err(|_| gone())
}
