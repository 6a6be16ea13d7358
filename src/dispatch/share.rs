//! Sharing the work with other replicas: saying that we live, watching who else does, and owning our part (H2, H25).
//!
//! Only where a store can be shared. What is decided here is who does what, never whether it is right: that is the
//! conditional writes' part. One thing does depend on a fresh view: a rebuild that is being sent by another replica is
//! only taken over if that one is dead. So a replica that has not seen the others for a while, because it was stopped or
//! the store was away, claims nothing until it has.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::worker::Inbox;
use crate::model::work::Shard;
use crate::queue::owner::{Living, owned};
use crate::store::{Replica, Result, Store};

/// How often a replica says that it lives, looks who else does, and looks for work that others put.
const BEAT: Duration = Duration::from_secs(1);

/// How many beats lie between two looks at what can be retired.
const RETIRE_EVERY: i64 = 15;

/// Who claims rebuilds: this process, and what it knows of the others.
#[derive(Clone, Debug)]
pub struct Owner {
    id: String,
    view: Option<Arc<RwLock<View>>>,
    ttl: Duration,
}

#[derive(Debug)]
struct View {
    living: BTreeSet<String>,
    at: Option<Instant>,
}

/// What an owner may do about a rebuild that somebody is sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It is ours, or its owner is dead: it may be taken over.
    Nobody,
    /// Its owner lives, or we cannot tell: wait.
    Somebody,
}

impl Owner {
    /// The only process on its store.
    pub fn alone(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            view: None,
            ttl: Duration::ZERO,
        }
    }

    /// One of several; it knows nobody yet.
    pub fn among(id: impl Into<String>, ttl: Duration) -> Self {
        let view = View {
            living: BTreeSet::new(),
            at: None,
        };
        Self {
            id: id.into(),
            view: Some(Arc::new(RwLock::new(view))),
            ttl,
        }
    }

    /// Its id, as recorded in claims.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it may claim anything: its view of the others is fresh.
    pub fn may_claim(&self) -> bool {
        let Some(view) = &self.view else {
            return true;
        };
        let view = view.read().unwrap_or_else(PoisonError::into_inner);
        view.at.is_some_and(|at| at.elapsed() < self.ttl / 2)
    }

    /// Whether a claim of `holder` can be taken over.
    pub fn holder(&self, holder: Option<&str>) -> Holder {
        let (Some(holder), Some(view)) = (holder.filter(|one| *one != self.id), &self.view) else {
            return Holder::Nobody;
        };
        let view = view.read().unwrap_or_else(PoisonError::into_inner);
        if view.living.contains(holder) {
            Holder::Somebody
        } else {
            Holder::Nobody
        }
    }

    fn saw(&self, living: BTreeSet<String>, at: Instant) {
        if let Some(view) = &self.view {
            let mut view = view.write().unwrap_or_else(PoisonError::into_inner);
            view.living = living;
            view.at = Some(at);
        }
    }
}

/// Takes part until `stop`; then only says that we live, until `end`: what is being sent is still ours.
pub async fn share(
    store: Arc<dyn Store>,
    owner: Owner,
    address: String,
    inbox: Inbox,
    stop: CancellationToken,
    end: CancellationToken,
) {
    let mut living = Living::new(owner.ttl);
    let mut mine = BTreeSet::new();
    let mut beat = 0;
    // Reads that may take long do not hold up the beat.
    let (mut looking, mut retiring) = (JoinSet::new(), JoinSet::new());
    loop {
        beat += 1;
        let us = Replica {
            id: owner.id.clone(),
            beat,
            address: address.clone(),
        };
        let began = Instant::now();
        match look(&*store, &us, &mut living).await {
            Ok(all) if stop.is_cancelled() => owner.saw(all, began),
            Ok(all) => {
                let now_mine = owned(&owner.id, &all);
                if now_mine != mine {
                    tracing::info!(replicas = all.len(), shards = now_mine.len(), "shards");
                    mine = now_mine;
                }
                owner.saw(all, began);
                inbox.own(mine.clone());
                let shards: Vec<Shard> = mine.iter().copied().collect();
                if looking.is_empty() {
                    looking.spawn(look_for_work(store.clone(), inbox.clone(), shards.clone()));
                }
                if beat % RETIRE_EVERY == 0 && retiring.is_empty() {
                    retiring.spawn(retire(store.clone(), inbox.clone(), shards));
                }
            }
            Err(error) => tracing::warn!(%error, "the other replicas cannot be seen"),
        }
        while looking.try_join_next().is_some() {}
        while retiring.try_join_next().is_some() {}
        tokio::select! {
            () = end.cancelled() => break,
            () = tokio::time::sleep(BEAT) => {}
        }
    }
    looking.shutdown().await;
    retiring.shutdown().await;
}

async fn look_for_work(store: Arc<dyn Store>, inbox: Inbox, shards: Vec<Shard>) {
    match store.recent_work(&shards).await {
        Ok(work) => inbox.put(work),
        Err(error) => tracing::warn!(%error, "looking for new work"),
    }
}

/// Lets go of what is finished. What is left is handed in once more: it may have been put too late to be seen.
async fn retire(store: Arc<dyn Store>, inbox: Inbox, shards: Vec<Shard>) {
    for shard in shards {
        match store.retire_work(shard).await {
            Ok(left) => inbox.put(left),
            Err(error) => tracing::warn!(%error, shard = shard.number(), "retiring work"),
        }
    }
}

/// One beat of ours, and who lives after it.
async fn look(store: &dyn Store, us: &Replica, living: &mut Living) -> Result<BTreeSet<String>> {
    store.beat(us).await?;
    let replicas = store.replicas().await?;
    let mut all = living.observe(Instant::now(), &replicas);
    all.insert(us.id.clone());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h25_a_stale_view_claims_nothing_and_the_living_keep_what_they_claimed() {
        let owner = Owner::among("a", Duration::from_secs(10));
        assert!(!owner.may_claim());
        owner.saw(["a".to_owned(), "b".to_owned()].into(), Instant::now());
        assert!(owner.may_claim());
        assert_eq!(owner.holder(Some("a")), Holder::Nobody);
        assert_eq!(owner.holder(Some("b")), Holder::Somebody);
        assert_eq!(owner.holder(Some("c")), Holder::Nobody);
        assert_eq!(owner.holder(None), Holder::Nobody);
        let before = Instant::now().checked_sub(Duration::from_secs(6)).unwrap();
        owner.saw(BTreeSet::new(), before);
        assert!(!owner.may_claim());
        let alone = Owner::alone("a");
        assert!(alone.may_claim());
        assert_eq!(alone.holder(Some("b")), Holder::Nobody);
    }
}
