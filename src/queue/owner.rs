//! Who lives, and who takes care of what (design.md 4, H25).
//!
//! A replica lives as long as its beat moves. Whether it moves is judged on the observer's own clock: two machines whose
//! clocks differ agree all the same. Shards go to the living by rendezvous hashing, so that one replica that comes or goes
//! moves only the shards that it gains or leaves.
//!
//! Ownership saves work, nothing more: two replicas that both believe to own a shard only refuse each other's batches.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::model::spread::spread;
use crate::model::work::Shard;
use crate::store::Replica;

/// What an observer remembers of the others.
#[derive(Debug)]
pub struct Living {
    ttl: Duration,
    /// Beat and when it was last seen to move.
    seen: HashMap<String, (i64, Instant)>,
    /// The last time that anybody looked.
    looked: Option<Instant>,
}

/// A time without a look that is longer than this says nothing about the others: the store was away, or we stood still.
const UNWATCHED: Duration = Duration::from_secs(3);

impl Living {
    /// Nobody was seen yet. A replica counts as dead when its beat has not moved for `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            seen: HashMap::new(),
            looked: None,
        }
    }

    /// Takes in what the store says at `now`, and answers who lives. One that is seen for the first time lives: whether
    /// its beat moves is not known yet, and taking over from the living does harm where waiting only takes time.
    pub fn observe(&mut self, now: Instant, replicas: &[Replica]) -> BTreeSet<String> {
        self.seen
            .retain(|id, _| replicas.iter().any(|one| one.id == *id));
        if let Some(gap) = self.looked.map(|last| now.duration_since(last))
            && gap > UNWATCHED
        {
            for (_, since) in self.seen.values_mut() {
                *since += gap;
            }
        }
        self.looked = Some(now);
        let mut living = BTreeSet::new();
        for Replica { id, beat, .. } in replicas {
            let (last, since) = self.seen.entry(id.clone()).or_insert((*beat, now));
            if last != beat {
                (*last, *since) = (*beat, now);
            }
            if now.duration_since(*since) < self.ttl {
                living.insert(id.clone());
            }
        }
        living
    }
}

/// The shards that `me` owns among the living.
pub fn owned(me: &str, living: &BTreeSet<String>) -> BTreeSet<Shard> {
    Shard::all()
        .filter(|shard| {
            let highest = living
                .iter()
                .map(String::as_str)
                .chain(std::iter::once(me))
                .max_by_key(|id| (weight(*shard, id), *id));
            highest == Some(me)
        })
        .collect()
}

/// How much a shard is drawn to a replica: the same on every replica.
fn weight(shard: Shard, id: &str) -> u64 {
    spread(u64::from(shard.number().unsigned_abs()) + 1, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    fn replica(id: &str, beat: i64) -> Replica {
        Replica {
            id: id.into(),
            beat,
            address: String::new(),
        }
    }

    #[test]
    fn h25_who_stands_still_for_the_ttl_is_dead_and_who_moves_again_lives() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut living = Living::new(Duration::from_secs(10));
        let both = [replica("a", 1), replica("b", 7)];
        assert_eq!(living.observe(at(0), &both), set(&["a", "b"]));
        let moved = [replica("a", 2), replica("b", 7)];
        for second in 1..10 {
            assert_eq!(living.observe(at(second), &moved), set(&["a", "b"]));
        }
        let moved = [replica("a", 20), replica("b", 7)];
        assert_eq!(living.observe(at(10), &moved), set(&["a"]));
        // A beat that goes back is a beat that moves: somebody restored a backup, and it lives.
        let back = [replica("a", 3), replica("b", 6)];
        assert_eq!(living.observe(at(11), &back), set(&["a", "b"]));
        // Gone from the list, and new in it.
        assert_eq!(living.observe(at(12), &back[..1]), set(&["a"]));
        assert_eq!(living.observe(at(13), &back), set(&["a", "b"]));
        // Nobody looked for a minute: that the beats stand where they stood says nothing.
        assert_eq!(living.observe(at(73), &back), set(&["a", "b"]));
        for second in 74..=80 {
            assert_eq!(living.observe(at(second), &back), set(&["a", "b"]));
        }
        for second in 81..=83 {
            living.observe(at(second), &back);
        }
        assert_eq!(living.observe(at(84), &back), set(&[]));
    }

    #[test]
    fn every_shard_has_one_owner_and_few_move() {
        let three = set(&["a", "b", "c"]);
        let mut all = Vec::new();
        for id in &three {
            let own = owned(id, &three);
            // 64 over three: about 21 each.
            assert!((8..=36).contains(&own.len()), "{id} owns {}", own.len());
            all.extend(own);
        }
        all.sort();
        assert_eq!(all, Shard::all().collect::<Vec<_>>());
        let two = set(&["a", "b"]);
        for id in &two {
            // Nothing moves between those who stay.
            assert!(owned(id, &two).is_superset(&owned(id, &three)));
        }
        assert_eq!(owned("a", &BTreeSet::new()).len(), 64);
    }
}
