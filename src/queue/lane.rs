//! Whether a neighbour is sent to at all.
//!
//! Why: when a neighbour is away, every waiting rebuild would find that out for itself, again and again. So the first
//! refusal closes the lane, and from then on one rebuild at a time is sent as a probe, after 1 s, 2 s … up to 60 s,
//! until something gets through.
//!
//! Why a lane remembers who was refused (H25): a single rebuild that always draws a 503 would close the lane for
//! ever. Probes go round, the one refused longest ago first; and when another rebuild got through since a rebuild was
//! last refused, its next refusal is its own: it counts as a try and closes nothing. In a true outage nothing gets
//! through, so each rebuild pays at most one try for every time the neighbour came back.
//!
//! Per neighbour and replica, in memory: after a restart every lane is open and learns again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::retry::{backoff_ms, wish_ms};

const LONGEST_PAUSE_MS: i64 = 60_000;

/// How many refused rebuilds are remembered; beyond that the oldest are forgotten and count as never refused.
const MEMORY: usize = 10_000;

/// The state of a neighbour's lane. `K` names a rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane<K> {
    pause: Option<Pause<K>>,
    held: bool,
    last_success_ms: Option<i64>,
    /// When each unfinished rebuild was last refused.
    refused: BTreeMap<K, i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pause<K> {
    since_ms: i64,
    until_ms: i64,
    /// Refusals in a row: the one that closed the lane and those of the probes.
    streak: u32,
    probing: Option<K>,
}

/// Whether something may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// As much as the concurrency allows.
    Open,
    /// One rebuild: pick it with [`Lane::pick`], announce it with [`Lane::probe`].
    Probe,
    /// Nothing before this time.
    Until(i64),
    /// Nothing until a probe under way has its outcome, or an operator lets the lane go.
    Closed,
}

/// What a refusal (503 or no connection) means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The neighbour is away; the attempt does not count. Nothing is sent before this time.
    Paused {
        /// Milliseconds since the epoch.
        until_ms: i64,
    },
    /// Others get through: the attempt counts, as [`super::Attempt::pause_counts`].
    Counts,
}

impl<K> Default for Lane<K> {
    fn default() -> Self {
        Self {
            pause: None,
            held: false,
            last_success_ms: None,
            refused: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Lane<K> {
    /// Whether something may be sent now.
    pub fn admits(&self, now_ms: i64) -> Admission {
        match &self.pause {
            _ if self.held => Admission::Closed,
            None => Admission::Open,
            Some(pause) if pause.probing.is_some() => Admission::Closed,
            Some(pause) if pause.until_ms > now_ms => Admission::Until(pause.until_ms),
            Some(_) => Admission::Probe,
        }
    }

    /// Since when the lane is paused by refusals, if it is.
    pub fn paused_since(&self) -> Option<i64> {
        self.pause.as_ref().map(|pause| pause.since_ms)
    }

    /// Whether an operator holds the lane.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// An operator closes the lane, whatever the neighbour does. What is under way goes on.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// An operator opens the lane: no hold, no pause.
    pub fn resume(&mut self) {
        self.held = false;
        self.pause = None;
    }

    /// Which of the waiting rebuilds is the next probe: one that was never refused, else the one refused longest ago;
    /// among equals the first.
    pub fn pick<'a>(&self, waiting: impl IntoIterator<Item = &'a K>) -> Option<&'a K>
    where
        K: 'a,
    {
        waiting
            .into_iter()
            .min_by_key(|key| self.refused.get(*key).copied())
    }

    /// A probe is on its way. It must end in [`Lane::succeeded`], [`Lane::answered`], [`Lane::refused`] or
    /// [`Lane::abandoned`].
    pub fn probe(&mut self, key: K) {
        if let Some(pause) = &mut self.pause {
            pause.probing = Some(key);
        }
    }

    /// A rebuild was accepted (or is there already): the neighbour is back.
    pub fn succeeded(&mut self, key: &K, now_ms: i64) {
        self.last_success_ms = Some(self.last_success_ms.unwrap_or(now_ms).max(now_ms));
        self.refused.remove(key);
        match &mut self.pause {
            // Sent before the pause began: worth a probe at once, but no proof.
            Some(pause) if pause.probing.as_ref() != Some(key) => {
                pause.until_ms = pause.until_ms.min(now_ms);
            }
            _ => self.pause = None,
        }
    }

    /// A rebuild got an answer that is neither acceptance nor refusal (a 500, a 4xx): the neighbour is there.
    /// `finished` if the rebuild will not come again.
    pub fn answered(&mut self, key: &K, finished: bool) {
        if finished {
            self.refused.remove(key);
        }
        if self.is_probe(key) {
            self.pause = None;
        }
    }

    /// A probe ended without an outcome (cancelled, held, superseded): another may go.
    pub fn abandoned(&mut self, key: &K) {
        if let Some(pause) = &mut self.pause
            && pause.probing.as_ref() == Some(key)
        {
            pause.probing = None;
        }
    }

    /// A rebuild drew a 503 or found no connection.
    pub fn refused(
        &mut self,
        key: &K,
        now_ms: i64,
        retry_after: Option<Duration>,
        jitter: f64,
    ) -> Refusal {
        let earlier = self.refused.insert(key.clone(), now_ms);
        self.forget_oldest();
        let is_probe = self.is_probe(key);
        let others_get_through = earlier
            .zip(self.last_success_ms)
            .is_some_and(|(earlier, success)| success >= earlier);
        if others_get_through {
            // As a probe it says nothing about the neighbour: let another one try at once.
            if let Some(pause) = &mut self.pause
                && is_probe
            {
                pause.probing = None;
            }
            return Refusal::Counts;
        }
        let wish = wish_ms(retry_after);
        let pause = self.pause.get_or_insert(Pause {
            since_ms: now_ms,
            until_ms: now_ms,
            streak: 0,
            probing: None,
        });
        // Those that were under way when the lane closed tell nothing new.
        if pause.streak == 0 || is_probe {
            pause.streak = pause.streak.saturating_add(1);
            pause.probing = None;
            let backoff = backoff_ms(pause.streak, LONGEST_PAUSE_MS, jitter);
            pause.until_ms = now_ms.saturating_add(backoff);
        }
        pause.until_ms = pause.until_ms.max(now_ms.saturating_add(wish));
        Refusal::Paused {
            until_ms: pause.until_ms,
        }
    }

    fn is_probe(&self, key: &K) -> bool {
        self.pause
            .as_ref()
            .is_some_and(|pause| pause.probing.as_ref() == Some(key))
    }

    fn forget_oldest(&mut self) {
        if self.refused.len() <= MEMORY {
            return;
        }
        let oldest = self
            .refused
            .iter()
            .min_by_key(|(_, at)| **at)
            .map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.refused.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paused(until_ms: i64) -> Refusal {
        Refusal::Paused { until_ms }
    }

    #[test]
    fn an_outage_is_probed_one_at_a_time_ever_more_rarely() {
        let mut lane = Lane::default();
        assert_eq!(lane.admits(0), Admission::Open);
        assert_eq!(lane.refused(&'a', 0, None, 0.5), paused(1_000));
        assert_eq!(
            lane.refused(&'b', 10, None, 0.5),
            paused(1_000),
            "was under way"
        );
        assert_eq!(lane.admits(999), Admission::Until(1_000));
        let mut now = 1_000;
        for expected in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            assert_eq!(lane.admits(now), Admission::Probe);
            lane.probe('c');
            assert_eq!(lane.admits(now), Admission::Closed, "one at a time");
            assert_eq!(lane.refused(&'c', now, None, 0.5), paused(now + expected));
            now += expected;
        }
        lane.probe('c');
        lane.succeeded(&'c', now);
        assert_eq!(lane.admits(now), Admission::Open);
        assert_eq!(
            lane.refused(&'d', now, None, 0.5),
            paused(now + 1_000),
            "starts anew"
        );
        assert_eq!(lane.paused_since(), Some(now));
    }

    #[test]
    fn wishes_are_kept_up_to_an_hour() {
        let mut lane = Lane::default();
        let wish = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(lane.refused(&1, 0, wish(30), 0.5), paused(30_000));
        assert_eq!(lane.refused(&2, 5, wish(100_000), 0.5), paused(3_600_005));
    }

    #[test]
    fn probes_go_round() {
        let mut lane = Lane::default();
        let waiting = ['a', 'b', 'c'];
        lane.refused(&'a', 0, None, 0.5);
        let mut order = String::new();
        let mut now = 0;
        for _ in 0..6 {
            now += 100_000;
            let key = *lane.pick(&waiting).unwrap();
            order.push(key);
            lane.probe(key);
            lane.refused(&key, now, None, 0.5);
        }
        assert_eq!(order, "bcabca");
        assert_eq!(lane.pick(&[]), None);
    }

    #[test]
    fn h25_poison_counts_once_others_get_through() {
        let mut lane = Lane::default();
        assert_eq!(lane.refused(&"poison", 0, None, 0.5), paused(1_000));
        lane.probe("good");
        lane.succeeded(&"good", 1_000);
        assert_eq!(lane.refused(&"poison", 1_100, None, 0.5), Refusal::Counts);
        assert_eq!(
            lane.admits(1_100),
            Admission::Open,
            "nobody else waits for it"
        );
        assert_eq!(
            lane.refused(&"poison", 2_100, None, 0.5),
            paused(3_100),
            "nothing got through since: it may be an outage"
        );
        lane.probe("poison");
        lane.succeeded(&"better", 3_000);
        assert_eq!(lane.refused(&"poison", 3_200, None, 0.5), Refusal::Counts);
        assert_eq!(
            lane.admits(3_200),
            Admission::Probe,
            "another one may try at once"
        );
    }

    #[test]
    fn any_answer_to_a_probe_opens() {
        let mut lane = Lane::default();
        lane.refused(&1, 0, None, 0.5);
        lane.answered(&2, false);
        assert_eq!(lane.admits(0), Admission::Until(1_000), "not the probe");
        lane.probe(3);
        lane.abandoned(&3);
        assert_eq!(lane.admits(1_000), Admission::Probe);
        lane.probe(3);
        lane.answered(&3, true);
        assert_eq!(lane.admits(1_000), Admission::Open);
    }

    #[test]
    fn operators_have_the_last_word() {
        let mut lane = Lane::default();
        lane.hold();
        assert!(lane.is_held());
        assert_eq!(lane.admits(0), Admission::Closed);
        lane.succeeded(&1, 0);
        assert_eq!(lane.admits(0), Admission::Closed);
        lane.refused(&2, 0, None, 0.5);
        lane.resume();
        assert_eq!(lane.admits(0), Admission::Open);
    }

    #[test]
    fn memory_is_bounded() {
        let mut lane = Lane::default();
        for (key, now) in (0..MEMORY + 5).zip(0..) {
            lane.refused(&key, now, None, 0.5);
        }
        assert_eq!(lane.refused.len(), MEMORY);
        assert!(!lane.refused.contains_key(&4) && lane.refused.contains_key(&5));
    }

    /// Drives a lane as a dispatcher does: `answers(item, now)` says how the neighbour behaves.
    /// Returns (tries counted per item, when each got through).
    fn run(
        items: usize,
        until_ms: i64,
        jitter: f64,
        answers: impl Fn(usize, i64) -> bool,
    ) -> (Vec<u32>, Vec<Option<i64>>) {
        let mut lane = Lane::default();
        let mut tries = vec![0; items];
        let mut done = vec![None; items];
        let mut due = vec![0; items];
        let mut now = 0;
        while now < until_ms {
            let waiting: Vec<usize> = (0..items)
                .filter(|&item| done[item].is_none() && due[item] <= now)
                .collect();
            let batch = match lane.admits(now) {
                Admission::Open => waiting,
                Admission::Probe => lane.pick(&waiting).copied().into_iter().collect(),
                Admission::Until(_) | Admission::Closed => Vec::new(),
            };
            if lane.admits(now) == Admission::Probe
                && let Some(&key) = batch.first()
            {
                lane.probe(key);
            }
            for item in batch {
                if answers(item, now) {
                    done[item] = Some(now);
                    lane.succeeded(&item, now);
                } else if lane.refused(&item, now, None, jitter) == Refusal::Counts {
                    tries[item] += 1;
                    due[item] = now + 1_000;
                }
            }
            now += 100;
        }
        (tries, done)
    }

    proptest! {
        /// Whoever is poison, the others get through, soon, and without a counted try.
        #[test]
        fn h25_a_poisonous_item_blocks_nobody(poison in 0usize..6, jitter in 0.0f64..1.0) {
            let (tries, done) = run(6, 60_000, jitter, |item, _| item != poison);
            for item in 0..6 {
                if item == poison {
                    prop_assert!(done[item].is_none());
                } else {
                    prop_assert!(done[item].is_some_and(|at| at <= 2_000), "{:?}", done);
                    prop_assert_eq!(tries[item], 0);
                }
            }
        }

        /// An outage of any length costs nobody an attempt, and everybody gets through soon after it.
        #[test]
        fn outages_do_not_eat_attempts(end in 1_000i64..3_600_000, items in 1usize..8, jitter in 0.0f64..1.0) {
            let (tries, done) = run(items, end + 100_000, jitter, |_, now| now >= end);
            prop_assert!(tries.iter().all(|&tries| tries == 0));
            for at in done {
                prop_assert!(at.is_some_and(|at| at - end <= 72_100), "{:?}", at);
            }
        }
    }

    #[test]
    fn h25_poison_dies_while_others_come_and_go() {
        // One new item a second gets through; item 0 never does. Its tries reach the twelve that end it.
        let (tries, _) = run(200, 190_000, 0.5, |item, now| {
            item != 0 && now >= i64::try_from(item).unwrap() * 1_000
        });
        assert!(tries[0] >= super::super::retry::ATTEMPTS, "{}", tries[0]);
    }
}
