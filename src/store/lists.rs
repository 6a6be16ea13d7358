//! The lists of published versions that were read last, kept while they are true.
//!
//! Why: a decision that is not settled by a parent's highest version looks at all of them, and a wave asks the same
//! question of the same parents for every dependent. A list is as old as its package's `seq`, which is read in the same
//! snapshot; facts only ever change together with it, so a list of the present `seq` is the present list.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::name::PackageName;
use crate::store::Published;

/// How many versions are kept, over all packages; beyond that it begins anew. Some 150 bytes each.
const KEPT: usize = 100_000;

#[derive(Default)]
pub(crate) struct Lists(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    lists: HashMap<PackageName, (u64, Arc<[Published]>)>,
    versions: usize,
}

impl Lists {
    /// The list of that `seq`, if it is kept.
    pub(crate) fn get(&self, name: &PackageName, seq: u64) -> Option<Arc<[Published]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, list) = kept.lists.get(name)?;
        (*of == seq).then(|| list.clone())
    }

    /// Keeps a list.
    pub(crate) fn put(&self, name: &PackageName, seq: u64, list: Arc<[Published]>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.versions + list.len() > KEPT {
            *kept = Kept::default();
        }
        kept.versions += list.len();
        if let Some((_, before)) = kept.lists.insert(name.clone(), (seq, list)) {
            kept.versions -= before.len();
        }
    }
}
