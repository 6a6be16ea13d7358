//! What people and programs are told: views, loaded from the store and given as serde structs.
//!
//! Everything inside speaks in data: reasons are enums, times are milliseconds. This is the one place where that becomes
//! JSON with stable names, RFC 3339 times in UTC and sentences. Nothing here decides and nothing here writes.
//!
//! ```text
//! page      pages, limits and opaque cursors
//! time      milliseconds as RFC 3339
//! sentence  reasons, verdicts and states in words (rule 18)
//! package   packages, versions, dependents, parents, release lines
//! line      one release line in the warehouse's shape (contract.md 6)
//! change    changes and their decisions
//! rebuild   rebuilds and their attempts
//! plan      what a change would come to
//! impact    whom a version would reach
//! wave      waves and their packages
//! hold      what is not to be rebuilt now
//! stale     what a package was not built with yet
//! why       why a package was or was not rebuilt
//! ```
//!
//! Only managed packages appear: one that is merely named in somebody's `dependencies` is answered like one that does not
//! exist (rule 3).

pub mod change;
pub mod hold;
pub mod impact;
pub mod line;
pub mod package;
pub mod page;
pub mod plan;
pub mod rebuild;
pub mod sentence;
pub mod stale;
pub mod time;
pub mod wave;
pub mod why;

use crate::model::name::PackageName;
use crate::model::package::PackageState;
use crate::store::{Result, Store, Want};

/// The statics of a package; `None` if it is not managed.
async fn managed(store: &dyn Store, name: &PackageName) -> Result<Option<PackageState>> {
    state(store, Want::statics(name)).await
}

/// What is asked for of one package; `None` if it is not managed.
async fn state(store: &dyn Store, want: Want) -> Result<Option<PackageState>> {
    let found = store.packages(std::slice::from_ref(&want)).await?.pop();
    Ok(found.filter(PackageState::is_managed))
}
