//! Conditional writes about waves while nodes stand still (H9): what was said to be applied was, and what was said to be
//! refused was not, also when later writes went over it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use feedsme::model::env::Env;
use feedsme::model::id::{ChangeId, WaveId};
use feedsme::model::name::PackageName;
use feedsme::model::package::Kind;
use feedsme::model::wave::{Start, Wave, WaveMove, WaveState};
use feedsme::store::cassandra::CassandraStore;
use feedsme::store::{Committed, Result, Store, StoreErrorKind};
use tokio::task::JoinSet;

/// How many environments; two tasks race for the waves of each.
const LANES: usize = 3;

/// A wave that several want to open and to move on, and what they were told.
struct Told {
    id: WaveId,
    by: String,
    opened: Option<Committed>,
    moved: Option<Committed>,
}

/// Who was to follow whom.
struct Followed {
    before: Option<WaveId>,
    next: WaveId,
    answer: Option<Committed>,
}

/// A race that goes on until it is ended.
pub struct Race {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<Told>>>,
    followed: Arc<Mutex<Vec<Followed>>>,
}

fn env(lane: usize) -> Env {
    Env::trusted(&format!("h9-{lane}"))
}

fn certain(answer: Result<Committed>) -> Option<Committed> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) => {
            assert_ne!(error.kind, StoreErrorKind::Bug, "{error}");
            None
        }
    }
}

fn step(from: WaveState, to: WaveState, plan: Option<&str>) -> WaveMove {
    WaveMove {
        from,
        to,
        at: 1,
        plan: plan.map(|plan| (plan.to_owned(), 1)),
    }
}

impl Race {
    /// Begins it.
    pub fn start(store: &CassandraStore) -> Self {
        let mut race = Self {
            tasks: JoinSet::new(),
            stop: Arc::default(),
            told: Arc::default(),
            followed: Arc::default(),
        };
        for lane in 0..LANES {
            let turn = Arc::new(AtomicU64::new(0));
            for task in 0..2 {
                let (store, turn, stop) = (store.clone(), turn.clone(), race.stop.clone());
                let (told, followed) = (race.told.clone(), race.followed.clone());
                race.tasks.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let at = turn.load(Ordering::Relaxed);
                        let by = format!("{lane}-{task}-{at}");
                        let id = WaveId::new(format!("h9-{lane}-{at}"));
                        let one = waves(&store, lane, id, by).await;
                        told.lock().unwrap().push(one);
                        if let Some(one) = collects(&store, lane).await {
                            followed.lock().unwrap().push(one);
                        }
                        turn.fetch_max(at + 1, Ordering::Relaxed);
                    }
                });
            }
        }
        race
    }

    /// Ends it and compares what was told with what is there.
    pub async fn end(self, store: &CassandraStore) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        let mut applied = 0;
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        for one in told {
            let there = store.wave(&one.id).await.unwrap();
            let made_it = there
                .as_ref()
                .is_some_and(|there| there.change.as_str() == one.by);
            let planned_it = there
                .as_ref()
                .is_some_and(|there| there.plan.as_ref() == Some(&one.by));
            for (answer, it_was) in [(one.opened, made_it), (one.moved, planned_it)] {
                match answer {
                    Some(Committed::Applied) => {
                        assert!(it_was, "{} of {}: {there:?}", one.id, one.by);
                        applied += 1;
                    }
                    Some(Committed::Refused) => {
                        assert!(!it_was, "{} of {}: {there:?}", one.id, one.by);
                    }
                    None => {}
                }
            }
        }
        assert!(applied > 0);
        let followed = std::mem::take(&mut *self.followed.lock().unwrap());
        let mut ever: BTreeSet<WaveId> = followed
            .iter()
            .filter_map(|one| one.before.clone())
            .collect();
        for lane in 0..LANES {
            ever.extend(store.collecting(&env(lane)).await.unwrap());
        }
        let mut after = BTreeSet::new();
        for one in followed {
            match one.answer {
                Some(Committed::Applied) => {
                    let of = one.next.as_str().split('/').next().unwrap().to_owned();
                    assert!(after.insert((of, one.before)), "two follow one");
                }
                Some(Committed::Refused) => {
                    assert!(!ever.contains(&one.next), "{} was there", one.next);
                }
                None => {}
            }
        }
        assert!(!after.is_empty());
    }
}

async fn waves(store: &CassandraStore, lane: usize, id: WaveId, by: String) -> Told {
    let wave = Wave {
        id: id.clone(),
        env: env(lane),
        kind: Kind::Publish,
        start: Start::ByHand {
            package: PackageName::parse("root").unwrap(),
        },
        change: ChangeId::new(by.as_str()),
        promote: false,
        opened: 1_700_000_000_000,
        state: WaveState::Planning,
        since: 0,
        plan: None,
        nodes: 0,
        pending_on: Vec::new(),
    };
    let opened = certain(store.open_wave(&wave).await);
    let open = step(WaveState::Planning, WaveState::Open, Some(&by));
    let moved = certain(store.move_wave(&id, &open).await);
    // Whoever did it: somebody goes over it at once.
    let close = step(WaveState::Open, WaveState::Closed, None);
    certain(store.move_wave(&id, &close).await);
    Told {
        id,
        by,
        opened,
        moved,
    }
}

async fn collects(store: &CassandraStore, lane: usize) -> Option<Followed> {
    let before = store.collecting(&env(lane)).await.ok()?;
    let next = WaveId::new(format!("{lane}/{}", uuid::Uuid::new_v4()));
    let answer = store.collect(&env(lane), before.as_ref(), &next).await;
    Some(Followed {
        before,
        next,
        answer: certain(answer),
    })
}
