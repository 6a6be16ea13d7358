//! What a conditional batch may say at all, on either store.
//!
//! A batch outside of these rules would mean different things to different databases, or be open to a race that no
//! condition guards. It is a mistake of the caller, found here before anything is written.

use std::collections::BTreeSet;

use super::{Expect, PackageCommit, Result, Statics, StoreError, StoreErrorKind};
use crate::model::package::Slot;

/// Whether the batch keeps the rules that [`PackageCommit`], [`super::RowWrite`] and [`Expect`] state; a
/// [`StoreErrorKind::Bug`] that names the rule if not.
pub fn lawful(batch: &PackageCommit) -> Result<()> {
    let breach = |rule: &str| {
        Err(StoreError::new(
            StoreErrorKind::Bug,
            format!("batch on {}: {rule}", batch.name),
        ))
    };
    if batch.expect_seq.is_none() {
        if batch.statics != Statics::default()
            || !batch.edges.is_empty()
            || !batch.attached.is_empty()
        {
            return breach("without a seq only rows may be written");
        }
        if batch.rows.iter().any(|row| row.expect == Expect::Nothing) {
            return breach("without a seq each row needs a condition of its own");
        }
    }
    let mut keys = BTreeSet::new();
    for row in &batch.rows {
        if !keys.insert(&row.key) {
            return breach("a row is written twice");
        }
        if row.facts.is_some() && row.key.slot != Slot::Publish {
            return breach("facts belong to the row of the publish");
        }
        if row.patch.is_some()
            && (row.rebuild.is_some() || !matches!(row.expect, Expect::Rebuild { .. }))
        {
            return breach("a patch changes the rebuild that its condition names");
        }
    }
    Ok(())
}
