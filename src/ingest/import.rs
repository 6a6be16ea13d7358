//! Importing what was published before we were there: versions become known, nothing is sent (H4).

use super::{Core, Result, describe, publish};
use crate::model::document::Document;
use crate::model::id::Digest;
use crate::plan::publish::{Source, edge_projections};

/// What an import did with one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is known now.
    New,
    /// It was known before.
    Known,
}

/// Makes one version known: its facts, its edges, its manifest; not its line, which only a notice makes. Repeatable.
pub async fn import(core: &Core, document: &Document) -> Result<Imported> {
    let json = document.bytes();
    let digest = Digest::of(&json);
    let described = describe(core, document, &digest);
    let (state, facts) = publish::establish(core, &described, &Source::Known, &json).await?;
    if facts.noticed.is_some() {
        return Ok(Imported::Known);
    }
    let projections = edge_projections(&state, &described, &facts);
    publish::project(core, facts.stamp, projections).await?;
    Ok(if facts.digest.as_ref() == Some(&digest) {
        Imported::New
    } else {
        Imported::Known
    })
}
