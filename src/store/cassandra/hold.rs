//! What people and builds say: holds (rule 17), and what builds came to (rule 15).
//!
//! A hold has no time to live, also when it has ended: one whose end was forgotten first would hold again.

use super::commit::NAME_BUCKETS;
use super::lists::limit;
use super::plain::in_bucket;
use super::values::{Cells, Value, big, boolean, given, int, json_text, text, tiny, version};
use super::{Inner, each};
use crate::model::env::Env;
use crate::model::id::Digest;
use crate::model::name::PackageName;
use crate::model::package::Millis;
use crate::model::wave::{BuildOutcome, Hold};
use crate::semver::Version;
use crate::store::Result;

/// The fewest packages whose holds are read at a time: of most of them the holds have ended.
const LOOKED_AT: usize = 50;

impl Inner {
    /// First the package is listed: a hold of one that is not would not be found.
    pub(super) async fn write_hold(&self, hold: &Hold, first: Value) -> Result<()> {
        // In full, so that a new field cannot be forgotten here.
        let Hold {
            id,
            package,
            parent,
            owner,
            reason,
            placed,
            expires,
            ended,
        } = hold;
        let package = package.as_str();
        let listed = vec![in_bucket(package, NAME_BUCKETS), text(package)];
        self.put(&self.statements.put_hold_pkg, listed).await?;
        let values = vec![
            text(package),
            text(id.as_str()),
            given(parent.as_ref(), |parent| text(parent.as_str())),
            text(owner.as_str()),
            text(reason.as_str()),
            big(*placed),
            given(*expires, big),
            given(*ended, big),
            first,
        ];
        self.put(&self.statements.put_hold, values).await
    }

    pub(super) async fn end_hold(
        &self,
        package: &PackageName,
        id: &str,
        at: Millis,
        first: Value,
    ) -> Result<()> {
        let values = vec![first, big(at), text(package.as_str()), text(id)];
        self.put(&self.statements.end_hold, values).await
    }

    /// The holds of a package that have not ended, in the order of ids.
    pub(super) async fn holds_of(&self, package: &PackageName) -> Result<Vec<Hold>> {
        let mut holds = Vec::new();
        for cells in self
            .all(&self.statements.holds, vec![text(package.as_str())])
            .await?
        {
            // What has an end and nothing else was ended before it was there.
            if !cells.has("ended")? && cells.has("owner")? {
                holds.push(hold(&cells)?);
            }
        }
        Ok(holds)
    }

    pub(super) async fn hold_page(
        &self,
        after: Option<(&PackageName, &str)>,
        count: usize,
    ) -> Result<Vec<Hold>> {
        let mut found: Vec<Hold> = Vec::new();
        let (mut from, id) = after.map_or((String::new(), ""), |(package, id)| {
            (package.as_str().to_owned(), id)
        });
        let first = from.clone();
        // Packages without a hold of today are passed by, and the page filled up.
        while found.len() < count {
            let packages = (count - found.len()).max(LOOKED_AT);
            let start = from.as_str();
            let pages = each(0..NAME_BUCKETS, |bucket| async move {
                let values = vec![
                    tiny(i8::try_from(bucket).unwrap_or(0)),
                    text(start),
                    limit(packages),
                ];
                self.all(&self.statements.hold_pkgs, values).await
            })
            .await?;
            let mut names = Vec::new();
            for cells in pages.iter().flatten() {
                names.push(cells.name("package")?);
            }
            names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            names.truncate(packages);
            let Some(last) = names.last().map(|last| last.as_str().to_owned()) else {
                break;
            };
            let of_names = each(&names, |name| self.holds_of(name)).await?;
            found.extend(
                of_names
                    .into_iter()
                    .flatten()
                    .filter(|hold| hold.package.as_str() != first || hold.id.as_str() > id),
            );
            if names.len() < packages {
                break;
            }
            // The least text above the last name.
            from = last + "\0";
        }
        found.truncate(count);
        Ok(found)
    }

    pub(super) async fn write_outcome(&self, outcome: &BuildOutcome) -> Result<()> {
        let digest = Digest::of(json_text(outcome)?.as_bytes());
        let BuildOutcome {
            name,
            version: of,
            env,
            ok,
            message,
            at,
        } = outcome;
        let values = vec![
            text(name.as_str()),
            version(of),
            text(env.as_str()),
            big(*at),
            text(digest.as_str()),
            boolean(*ok),
            given(message.as_deref(), text),
            int(self.retain),
        ];
        self.put(&self.statements.put_outcome, values).await
    }

    pub(super) async fn outcomes_of(
        &self,
        name: &PackageName,
        of: &Version,
        env: &Env,
    ) -> Result<Vec<BuildOutcome>> {
        let values = vec![text(name.as_str()), version(of), text(env.as_str())];
        self.all(&self.statements.outcomes, values)
            .await?
            .iter()
            .map(|cells| {
                Ok(BuildOutcome {
                    name: name.clone(),
                    version: of.clone(),
                    env: env.clone(),
                    ok: cells.flag("ok")?,
                    message: cells.owned("message")?,
                    at: cells.number("at")?,
                })
            })
            .collect()
    }
}

fn hold(cells: &Cells) -> Result<Hold> {
    Ok(Hold {
        id: cells.text("id")?.to_owned(),
        package: cells.name("package")?,
        parent: cells.maybe_name("parent")?,
        owner: cells.text("owner")?.to_owned(),
        reason: cells.text("reason")?.to_owned(),
        placed: cells.number("placed")?,
        expires: cells.maybe_number("expires")?,
        ended: cells.maybe_number("ended")?,
    })
}
