//! Accepting a change: durable before it is answered (design.md 4, H3).

use super::{Core, Result};
use crate::model::change::Change;
use crate::model::document::Document;
use crate::model::env::Env;
use crate::model::id::{ChangeId, Digest};
use crate::model::package::Kind;
use crate::model::work::Work;

/// A posted change, read and checked.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The document, without attachments.
    pub document: Document,
    /// The environment that the path or the document names; `None` if nothing does.
    pub env: Option<Env>,
    /// Passed on to the build service.
    pub promote: bool,
    /// The `Idempotency-Key` header.
    pub key: Option<String>,
}

/// What was made durable.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The change.
    pub id: ChangeId,
    /// The work that plans it.
    pub work: Work,
}

/// Makes a change durable.
pub async fn accept(core: &Core, posted: &Posted) -> Result<Accepted> {
    let (change, json) = judge(core, posted);
    let work = Work::plan(&change.id, &change.digest, &change.name, change.accepted);
    core.store.accept(&change, &json, &work).await?;
    Ok(Accepted {
        id: change.id,
        work,
    })
}

/// What a posted change is, and the bytes of its document. It is a *publish* if it is in the first environment and
/// `__published` is true, or if nothing names an environment (that is npm's own publish); else a promotion (design.md 2).
pub(super) fn judge(core: &Core, posted: &Posted) -> (Change, Vec<u8>) {
    let document = &posted.document;
    let first = core.rules.environments.first();
    let env = posted.env.as_ref().unwrap_or(first);
    let publish = posted.env.is_none() || (env == first && document.published_flag);
    let kind = if publish {
        Kind::Publish
    } else {
        Kind::Promotion
    };
    let json = document.bytes();
    let digest = Digest::of(&json);
    let id = match (kind, &posted.key) {
        (Kind::Publish, _) => {
            ChangeId::of_publish(&document.name, &document.version, document.tag.as_deref())
        }
        (Kind::Promotion, Some(key)) => {
            // Another `promote` is another promotion (rule 13), whatever the key.
            let key = format!("{key} {}", posted.promote);
            ChangeId::of_promotion_with_key(&document.name, &document.version, env.as_str(), &key)
        }
        (Kind::Promotion, None) => ChangeId::of_promotion(),
    };
    let change = Change {
        id,
        kind,
        env: env.clone(),
        name: document.name.clone(),
        version: document.version.clone(),
        tag: document.tag.clone(),
        promote: posted.promote,
        digest,
        key: posted.key.clone(),
        accepted: core.clock.now(),
        planned: None,
    };
    (change, json)
}
