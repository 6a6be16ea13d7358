//! A guess whether a wave may have ended, so that it is not read whole after each notice.
//!
//! In memory and of this process only: a guess that is too low costs nothing, because a tick looks at the whole wave.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::model::id::WaveId;
use crate::model::wave::{NodeKey, Wave};

/// How many nodes are remembered over all waves; beyond that it begins anew.
const KEPT: usize = 200_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Hints(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    waves: HashMap<WaveId, Hint>,
    nodes: usize,
}

#[derive(Debug, Default)]
struct Hint {
    ended: HashSet<NodeKey>,
    added: usize,
}

impl Hints {
    /// These nodes of the wave are terminal; says whether all of its nodes may be.
    pub(super) fn ended(&self, wave: &Wave, keys: Vec<NodeKey>) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.nodes + keys.len() > KEPT {
            *kept = Kept::default();
        }
        let origins = wave.start.origins();
        let hint = kept.waves.entry(wave.id.clone()).or_default();
        let before = hint.ended.len();
        let nodes = keys.into_iter().filter(|key| !origins.contains(key));
        hint.ended.extend(nodes);
        let ended = hint.ended.len();
        let all = wave.nodes as usize + hint.added;
        kept.nodes += ended - before;
        ended >= all
    }

    /// The wave has one node more than its plan.
    pub(super) fn added(&self, wave: &WaveId) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.waves.entry(wave.clone()).or_default().added += 1;
    }

    /// The wave has ended.
    pub(super) fn forget(&self, wave: &WaveId) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hint) = kept.waves.remove(wave) {
            kept.nodes = kept.nodes.saturating_sub(hint.ended.len());
        }
    }
}
