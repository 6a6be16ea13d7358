//! What may be started next: queues by key, each in order, one item of a key at a time.
//!
//! Why: rebuilds of a package go to an environment one at a time and in the order in which they were decided, and one
//! that waits for a retry keeps its place (rule 10); changes of a package are planned one at a time, because two at once
//! would only refuse each other's batches. Different keys never wait for each other.
//!
//! In memory only: what is here is in the store as well, and is put here again at a start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use crate::model::package::Millis;

/// Queues of `T` by key. An item is named by its place in the order and its id. `C` says what is needed to start it: who
/// looks for what one neighbour can take does not come across what waits for another.
#[derive(Debug)]
pub struct Schedule<K, C, T> {
    queues: HashMap<K, Queue<C, T>>,
    /// Keys whose first item is due, by what that needs, in the order in which they became so.
    ready: BTreeMap<(C, u64), K>,
    /// Keys whose first item is not due yet.
    timers: BTreeSet<(Millis, K)>,
    turn: u64,
    len: usize,
}

#[derive(Debug)]
struct Queue<C, T> {
    items: BTreeMap<(u64, String), Item<C, T>>,
    state: State<C>,
}

#[derive(Debug)]
struct Item<C, T> {
    due: Millis,
    needs: C,
    what: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State<C> {
    Idle,
    Ready(C, u64),
    Waiting(Millis),
    Busy,
}

impl<K, C, T> Default for Schedule<K, C, T> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            ready: BTreeMap::new(),
            timers: BTreeSet::new(),
            turn: 0,
            len: 0,
        }
    }
}

impl<K: Ord + Hash + Clone, C: Ord + Copy, T> Schedule<K, C, T> {
    /// Adds an item; one with the same place and id is left as it is.
    pub fn push(&mut self, key: &K, order: u64, id: &str, due: Millis, needs: C, item: T) {
        let queue = self.queues.entry(key.clone()).or_insert_with(|| Queue {
            items: BTreeMap::new(),
            state: State::Idle,
        });
        if let std::collections::btree_map::Entry::Vacant(place) =
            queue.items.entry((order, id.to_owned()))
        {
            place.insert(Item {
                due,
                needs,
                what: item,
            });
            self.len += 1;
        }
        self.arrange(key);
    }

    /// How many items wait; those that were taken are not among them.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items that wait, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.queues
            .values()
            .flat_map(|queue| queue.items.values().map(|one| &one.what))
    }

    /// Moves what has become due by `now` to the ready keys, and says when the next one will be.
    pub fn tick(&mut self, now: Millis) -> Option<Millis> {
        while let Some((due, key)) = self.timers.first().cloned() {
            if due > now {
                return Some(due);
            }
            self.timers.remove(&(due, key.clone()));
            if let Some(queue) = self.queues.get_mut(&key)
                && let Some((_, first)) = queue.items.first_key_value()
            {
                self.turn += 1;
                queue.state = State::Ready(first.needs, self.turn);
                self.ready.insert((first.needs, self.turn), key);
            }
        }
        None
    }

    /// The first items of the ready keys that need this, longest ready first.
    pub fn ready(&self, needs: C) -> impl Iterator<Item = (&K, &T)> {
        let ready = self.ready.range((needs, 0)..=(needs, u64::MAX));
        ready.filter_map(|(_, key)| {
            let (_, first) = self.queues.get(key)?.items.first_key_value()?;
            Some((key, &first.what))
        })
    }

    /// Takes out the waiting items that `drop` names, of all keys.
    pub fn remove_if(&mut self, drop: impl Fn(&T) -> bool) -> Vec<T> {
        let keys: Vec<K> = self.queues.keys().cloned().collect();
        let mut removed = Vec::new();
        for key in keys {
            let Some(queue) = self.queues.get_mut(&key) else {
                continue;
            };
            let (gone, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut queue.items)
                .into_iter()
                .partition(|(_, one)| drop(&one.what));
            queue.items = kept;
            if gone.is_empty() {
                continue;
            }
            self.len -= gone.len();
            removed.extend(gone.into_values().map(|one| one.what));
            // A turn, or a time, was that of the item that was first.
            match queue.state {
                State::Busy | State::Idle => {}
                State::Ready(needs, turn) => {
                    self.ready.remove(&(needs, turn));
                    queue.state = State::Idle;
                }
                State::Waiting(at) => {
                    self.timers.remove(&(at, key.clone()));
                    queue.state = State::Idle;
                }
            }
            self.arrange(&key);
        }
        removed
    }

    /// Takes the first item of a ready key; the key is busy until [`Schedule::done`].
    pub fn take(&mut self, key: &K) -> Option<T> {
        let queue = self.queues.get_mut(key)?;
        let State::Ready(needs, turn) = queue.state else {
            return None;
        };
        let (_, first) = queue.items.pop_first()?;
        queue.state = State::Busy;
        self.ready.remove(&(needs, turn));
        self.len -= 1;
        Some(first.what)
    }

    /// The item that was taken from the key is done, or was pushed again.
    pub fn done(&mut self, key: &K) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.state = State::Idle;
            self.arrange(key);
        }
    }

    /// Puts a key where its first item says: among the ready (due 0 is always due), among the waiting, or away.
    fn arrange(&mut self, key: &K) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        let first = queue.items.first_key_value();
        match (queue.state, first.map(|(_, one)| (one.due, one.needs))) {
            // Busy keys are arranged when they are done; ready ones keep their turn.
            (State::Busy, _) => {}
            (State::Ready(needs, turn), Some((_, now))) => {
                if needs != now {
                    queue.state = State::Ready(now, turn);
                    self.ready.remove(&(needs, turn));
                    self.ready.insert((now, turn), key.clone());
                }
            }
            (State::Idle, None) => {
                self.queues.remove(key);
            }
            (State::Waiting(at), Some((due, _))) if at == due => {}
            (state, first) => {
                if let State::Waiting(at) = state {
                    self.timers.remove(&(at, key.clone()));
                }
                if let Some((due, _)) = first {
                    queue.state = State::Waiting(due);
                    self.timers.insert((due, key.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(schedule: &mut Schedule<&'static str, (), u32>, now: Millis) -> Vec<u32> {
        schedule.tick(now);
        schedule.ready(()).map(|(_, item)| *item).collect()
    }

    #[test]
    fn rule_10_one_at_a_time_in_the_order_decided() {
        let mut schedule = Schedule::default();
        schedule.push(&"child", 7, "b", 0, (), 7);
        schedule.push(&"child", 3, "a", 0, (), 3);
        schedule.push(&"other", 9, "c", 0, (), 9);
        schedule.tick(0);
        assert_eq!(schedule.take(&"child"), Some(3));
        assert_eq!(schedule.take(&"child"), None, "one at a time");
        assert_eq!(ready(&mut schedule, 0), [9]);
        schedule.done(&"child");
        assert_eq!(ready(&mut schedule, 0), [9, 7]);
        assert_eq!(schedule.len(), 2);
    }

    #[test]
    fn rule_10_what_waits_for_a_retry_keeps_its_place() {
        let mut schedule = Schedule::default();
        schedule.push(&"child", 1, "a/0", 0, (), 1);
        schedule.push(&"child", 2, "b/0", 0, (), 2);
        schedule.tick(0);
        assert_eq!(schedule.take(&"child"), Some(1));
        schedule.push(&"child", 1, "a/1", 500, (), 1);
        schedule.done(&"child");
        assert_eq!(ready(&mut schedule, 499), Vec::<u32>::new());
        assert_eq!(schedule.tick(499), Some(500));
        assert_eq!(ready(&mut schedule, 500), [1]);
    }

    #[test]
    fn an_earlier_item_goes_ahead_of_one_that_is_ready_already() {
        let mut schedule = Schedule::default();
        schedule.push(&"child", 2, "b", 0, (), 2);
        assert_eq!(ready(&mut schedule, 0), [2]);
        schedule.push(&"child", 1, "a", 0, (), 1);
        assert_eq!(schedule.take(&"child"), Some(1));
        schedule.done(&"child");
        assert_eq!(ready(&mut schedule, 0), [2]);
    }

    #[test]
    fn the_same_item_twice_is_one_and_an_empty_key_is_forgotten() {
        let mut schedule = Schedule::default();
        schedule.push(&"child", 1, "a", 0, (), 1);
        schedule.push(&"child", 1, "a", 0, (), 1);
        assert_eq!(schedule.len(), 1);
        schedule.tick(0);
        schedule.take(&"child");
        schedule.done(&"child");
        assert!(schedule.is_empty() && schedule.queues.is_empty());
        assert_eq!(schedule.tick(10), None);
    }

    #[test]
    fn what_waits_for_one_neighbour_is_not_looked_at_for_another() {
        let mut schedule = Schedule::default();
        schedule.push(&"one", 1, "a", 0, 'x', 1);
        schedule.push(&"two", 2, "b", 0, 'y', 2);
        schedule.push(&"one", 3, "c", 0, 'y', 3);
        schedule.tick(0);
        let ready = |schedule: &Schedule<&'static str, char, u32>, needs: char| -> Vec<u32> {
            schedule.ready(needs).map(|(_, item)| *item).collect()
        };
        assert_eq!(
            (ready(&schedule, 'x'), ready(&schedule, 'y')),
            (vec![1], vec![2])
        );
        // An earlier one that needs something else comes first now.
        schedule.push(&"one", 0, "d", 0, 'y', 4);
        assert_eq!(
            (ready(&schedule, 'x'), ready(&schedule, 'y')),
            (vec![], vec![4, 2])
        );
        assert_eq!(schedule.take(&"one"), Some(4));
        schedule.done(&"one");
        schedule.tick(0);
        assert_eq!(
            (ready(&schedule, 'x'), ready(&schedule, 'y')),
            (vec![1], vec![2])
        );
        schedule.remove_if(|item| *item == 1);
        schedule.tick(0);
        assert_eq!(
            (ready(&schedule, 'x'), ready(&schedule, 'y')),
            (vec![], vec![2, 3])
        );
    }
}
