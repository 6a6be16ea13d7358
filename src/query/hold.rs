//! Holds: what is not to be rebuilt now, and by whose wish (rule 17).

use serde::Serialize;

use super::page::{self, Page};
use super::sentence;
use super::time::Time;
use crate::model::name::PackageName;
use crate::model::package::Millis;
use crate::model::wave::Hold;
use crate::store::{Result, Store};

/// A hold.
#[derive(Clone, Debug, Serialize)]
pub struct HoldView {
    /// Its id.
    pub id: String,
    /// The package that is not rebuilt.
    pub package: PackageName,
    /// Only on behalf of this parent; `null`: at all.
    pub parent: Option<PackageName>,
    /// Who wants it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub placed: Time,
    /// Until when; `null`: until it is removed.
    pub expires: Option<Time>,
    /// The same in words.
    pub sentence: String,
}

impl From<Hold> for HoldView {
    fn from(hold: Hold) -> Self {
        Self {
            sentence: sentence::hold(&hold),
            id: hold.id,
            package: hold.package,
            parent: hold.parent,
            owner: hold.owner,
            reason: hold.reason,
            placed: Time(hold.placed),
            expires: hold.expires.map(Time),
        }
    }
}

/// The cursor's kind.
const HOLDS: &str = "holds";

/// Reads the cursor of the list of holds; `None` if it is not one.
pub fn after(cursor: &str) -> Option<(PackageName, String)> {
    let key = page::key(HOLDS, cursor)?;
    let (id, package) = key.split_once(' ')?;
    Some((PackageName::parse(package).ok()?, id.to_owned()))
}

/// What is held at this time, in the order of packages.
pub async fn holds(
    store: &dyn Store,
    now: Millis,
    after: Option<(PackageName, String)>,
    limit: usize,
) -> Result<Page<HoldView>> {
    let mut after = after;
    let mut found: Vec<Hold> = Vec::new();
    loop {
        let from = after.as_ref().map(|(package, id)| (package, id.as_str()));
        let page = store.all_holds(from, limit + 1).await?;
        let full = page.len() > limit;
        after = page
            .last()
            .map(|hold| (hold.package.clone(), hold.id.clone()));
        found.extend(page.into_iter().filter(|hold| hold.holds(now)));
        if !full || found.len() > limit {
            break;
        }
    }
    let cursor = |hold: &Hold| page::cursor(HOLDS, &format!("{} {}", hold.id, hold.package));
    Ok(Page::cut(found, limit, cursor).map(HoldView::from))
}

/// What holds a package at this time.
pub async fn of(store: &dyn Store, now: Millis, package: &PackageName) -> Result<Vec<Hold>> {
    let holds = store.holds(std::slice::from_ref(package)).await?;
    let mut holds: Vec<Hold> = holds.into_iter().flatten().collect();
    holds.retain(|hold| hold.holds(now));
    Ok(holds)
}
