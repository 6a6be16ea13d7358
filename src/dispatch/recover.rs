//! Making up for a lost notice of our own rebuild (H17).
//!
//! What was sent straight to the build service is there: its accepted reply says so, and the document is the one that we
//! sent. What went through the warehouse is there if the registry has it with the bytes that we sent; then the call that
//! was lost may be the warehouse's own to the build service, so the build is asked for once more. Either way the change
//! that nobody told us of is accepted like any other.

use serde_json::{Map, Value};

use super::request::{base_document, compose};
use super::{Claimed, Neighbours, target};
use crate::ingest::wave::{Overdue, late};
use crate::ingest::{Core, Posted, Result, accept};
use crate::model::document::Document;
use crate::model::env::Env;
use crate::model::package::{RebuildState, Slot};
use crate::model::work::Work;
use crate::neighbours::{Class, Document as Upload, Neighbour, Packument};

/// What a look after a rebuild came to.
enum Found {
    /// It is there: this is its change.
    There(Box<Posted>),
    /// It is not there.
    Missing,
    /// Nobody can tell for the moment.
    Unknown,
}

impl Neighbours {
    /// Looks after a rebuild that passed its deadline: it is recovered, or given up as late, or looked after once more with
    /// the wave's next look. Returns the work that follows.
    pub async fn recover(&self, core: &Core, overdue: &Overdue) -> Result<Vec<Work>> {
        let is_sent = overdue.rebuild.state == RebuildState::Sending;
        let found = if is_sent && core.rules.recover {
            self.look(core, overdue).await
        } else {
            Found::Missing
        };
        match found {
            Found::There(posted) => {
                tracing::warn!(
                    package = %overdue.key.package, version = %overdue.row.version, env = overdue.row.slot.as_str(),
                    "its notice was lost; it is there, so it is taken as published"
                );
                Ok(vec![accept(core, &posted).await?.work])
            }
            Found::Missing => Ok(vec![late(core, &overdue.wave, &overdue.key).await?]),
            Found::Unknown => Ok(Vec::new()),
        }
    }

    async fn look(&self, core: &Core, overdue: &Overdue) -> Found {
        let claimed = Claimed {
            name: overdue.key.package.clone(),
            key: overdue.row.clone(),
            rebuild: overdue.rebuild.clone(),
            may_have_reached_before: true,
            started: core.clock.now(),
        };
        let to = target(&claimed.key, self.warehouse.is_some());
        let Ok(json) = base_document(core, &claimed, to).await else {
            return Found::Unknown;
        };
        let packument = match &claimed.key.slot {
            Slot::Env(_) => None,
            Slot::Publish => {
                let versions =
                    [&claimed.rebuild.base, &claimed.key.version].map(ToString::to_string);
                let wanted: Vec<&str> = versions.iter().map(String::as_str).collect();
                match self
                    .registry
                    .packument(claimed.name.as_str(), &wanted)
                    .await
                {
                    Ok(packument) => packument,
                    Err(_) => return Found::Unknown,
                }
            }
        };
        if to == Neighbour::Warehouse {
            let Some(packument) = packument.as_ref().filter(|one| same_bytes(one, &claimed)) else {
                return Found::Missing;
            };
            if !self.build_again(core, &claimed, &json, packument).await {
                return Found::Unknown;
            }
        }
        let Ok(outgoing) = compose(core, &claimed, &json, packument.as_ref()) else {
            return Found::Missing;
        };
        let mut document = outgoing.before;
        document.extend(outgoing.after);
        let bytes = Value::Object(document).to_string().into_bytes();
        let Ok(document) = Document::parse(&bytes) else {
            return Found::Missing;
        };
        let env: Env = match &claimed.key.slot {
            Slot::Env(env) => env.clone(),
            Slot::Publish => core.rules.environments.first().clone(),
        };
        Found::There(Box::new(Posted {
            document,
            env: Some(env),
            promote: claimed.rebuild.promote,
            key: None,
        }))
    }

    /// Asks the build service for what the warehouse may not have asked it for; says whether it took it.
    async fn build_again(
        &self,
        core: &Core,
        claimed: &Claimed,
        json: &Map<String, Value>,
        packument: &Packument,
    ) -> bool {
        let Ok(outgoing) = compose(core, claimed, json, Some(packument)) else {
            return false;
        };
        let name = claimed.name.as_str();
        let base = claimed.rebuild.base.to_string();
        let tarball_of = claimed.rebuild.tarball_of.to_string();
        let tarball = self
            .tarball(name, &base, &tarball_of, Some(packument))
            .await;
        let Ok(tarball) = tarball else {
            return false;
        };
        let upload = Upload {
            before: &outgoing.before,
            attachment: &outgoing.attachment,
            after: &outgoing.after,
        };
        let (id, promote) = (claimed.rebuild.id.as_str(), claimed.rebuild.promote);
        let report = self
            .build_service
            .build(id, promote, &upload, tarball)
            .await;
        matches!(report.outcome.class, Class::Sent | Class::Exists)
    }
}

/// Whether the registry has the rebuilt version with the bytes that we sent: those of its base.
fn same_bytes(packument: &Packument, claimed: &Claimed) -> bool {
    let hashes = |version: String| {
        let dist = packument.dist(&version)?;
        let hash = |name: &str| dist.get(name).and_then(Value::as_str).map(str::to_owned);
        Some((hash("shasum"), hash("integrity")))
    };
    let Some(there) = hashes(claimed.key.version.to_string()) else {
        return false;
    };
    match hashes(claimed.rebuild.base.to_string()) {
        Some(sent) => {
            let same = |one: &Option<String>, other: &Option<String>| {
                one.is_none() || other.is_none() || one == other
            };
            same(&there.0, &sent.0) && same(&there.1, &sent.1)
        }
        // Its base has none there; the name and version that only we could give out have to do.
        None => true,
    }
}
