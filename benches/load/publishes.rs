//! Publishes that nothing depends on: how many a second, against the bare store; how long the answer takes at half of
//! that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use feedsme::ingest::{Clock, Core, Posted, accept, plan};
use feedsme::model::document::Document;
use feedsme::model::id::Digest;
use feedsme::model::work::Work;
use feedsme::plan::Rules;
use feedsme::store::Store;
use feedsme::store::sqlite::{Options, SqliteStore};
use serde_json::json;

use crate::client::{Client, dealt, post_all};
use crate::places;
use crate::service::{On, Service, document};
use crate::table::{Row, Runs, Target, per_second};
use crate::watched::{Call, WatchedStore};

/// How many connections, and how many tasks of the floor.
const AT_ONCE: usize = 32;

fn bodies(run: usize, count: usize) -> Vec<String> {
    (0..count)
        .map(|at| document(&format!("run-{run}-package-{at}"), "1.0.0", &json!({})).to_string())
        .collect()
}

/// Durable publishes, planning included: the clock stops when nothing is left to do.
pub async fn durable(on: On, count: usize, runs: usize, rows: &mut Vec<Row>) {
    let (mut ours, mut floor) = (Runs::default(), Runs::default());
    for run in 0..=runs {
        let service = Service::start(on).await;
        // Another store for the floor, on the same disk.
        let bare = Bare::new(on);
        let bodies = bodies(run, count);
        let writes = what_is_written(&bodies).await;
        let started = Instant::now();
        post_all(&service.place.url, AT_ONCE, bodies).await;
        service.idle().await;
        let took = started.elapsed();
        drop(service);
        let bare = written(bare.open().await, writes).await;
        // The first warms up.
        if run > 0 {
            ours.0.push(per_second(count, took));
            floor.0.push(per_second(count, bare));
        }
    }
    let target = if on == On::File && floor.median() >= 6_000.0 {
        // At least 3,000 a second.
        (3_000.0 / floor.median()).max(0.5)
    } else {
        0.5
    };
    rows.push(Row {
        work: format!(
            "{}publish without dependents, 32 connections; floor: the same rows, by the bare store",
            on.prefix()
        ),
        unit: "publishes/s",
        ours,
        floor: Some(floor),
        target: Target::Share(target),
    });
}

/// The store of the floor.
struct Bare {
    dir: tempfile::TempDir,
    keyspace: Option<places::Place>,
}

impl Bare {
    fn new(on: On) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            keyspace: on.keyspace(),
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        if let Some(keyspace) = &self.keyspace {
            return Arc::new(places::open(places::options(keyspace.name())).await);
        }
        let file = self.dir.path().join("bare.sqlite3");
        Arc::new(SqliteStore::open(&file, Options::default()).unwrap())
    }
}

/// What the service asks its store to write for each of these, and the work that it ends.
async fn what_is_written(bodies: &[String]) -> Vec<(Vec<Call>, Work)> {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        durability: feedsme::store::sqlite::Durability::Off,
        ..Options::default()
    };
    let store = SqliteStore::open(&dir.path().join("recorded.sqlite3"), options).unwrap();
    let watched = WatchedStore::counting(Arc::new(store));
    let core = Core::new(watched.clone(), Arc::new(Rules::default()), Clock::system());
    let mut all = Vec::new();
    for body in bodies {
        let document = Document::parse(body.as_bytes()).unwrap();
        let digest = Digest::of(&document.bytes());
        let posted = Posted {
            document,
            env: None,
            promote: false,
            key: None,
        };
        let accepted = accept(&core, &posted).await.unwrap();
        plan(&core, &accepted.id, &digest).await.unwrap();
        all.push((watched.take(), accepted.work));
    }
    all
}

/// The same writes from as many tasks, each package's in their order; how long they took.
async fn written(store: Arc<dyn Store>, all: Vec<(Vec<Call>, Work)>) -> Duration {
    let started = Instant::now();
    let work = |share: Vec<(Vec<Call>, Work)>| {
        let store = store.clone();
        async move {
            let mut finished = Vec::new();
            for (calls, work) in share {
                for call in calls {
                    match call {
                        Call::Write(writes) => store.write(writes).await.unwrap(),
                        Call::Commit(commits) => {
                            store.commit(commits).await.unwrap();
                        }
                        Call::Packages(_) | Call::Named(_) => {}
                    }
                }
                finished.push(work);
            }
            // In one go, as the service ends what is finished.
            store.finish_work(&finished).await.unwrap();
            finished
        }
    };
    dealt(all, AT_ONCE, work).await;
    started.elapsed()
}

/// How long an answer takes at half of the rate that was measured, evenly spread.
pub async fn latency(highest: f64, seconds: f64, runs: usize, rows: &mut Vec<Row>) {
    let (mut half, mut tail, mut ratios) = (Runs::default(), Runs::default(), Runs::default());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are small and above zero"
    )]
    let count = (highest / 2.0 * seconds) as usize;
    for run in 0..=runs {
        let service = Service::start(On::File).await;
        let mut took = evenly(&service.place.url, bodies(run, count), highest / 2.0).await;
        service.idle().await;
        took.sort_unstable();
        let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
        let millis = |took: Duration| took.as_secs_f64() * 1_000.0;
        if run > 0 {
            half.0.push(millis(at(50)));
            tail.0.push(millis(at(99)));
            ratios.0.push(millis(at(99)) / millis(at(50)));
        }
    }
    let row = |work: &str, unit: &'static str, ours: Runs, target: Target| Row {
        work: format!("answer to a publish at half of that rate, {work}"),
        unit,
        ours,
        floor: None,
        target,
    };
    rows.push(row("median", "ms", half, Target::None));
    rows.push(row("99 of 100", "ms", tail, Target::None));
    rows.push(row(
        "99 of 100 against the median",
        "times",
        ratios,
        Target::AtMost(5.0),
    ));
}

/// Posts at this rate, whether or not the answers keep up: the time counts from when each was due.
async fn evenly(url: &str, bodies: Vec<String>, rate: f64) -> Vec<Duration> {
    let started = Instant::now() + Duration::from_millis(50);
    let due = |(at, body): (usize, String)| {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let due = started + Duration::from_secs_f64(at as f64 / rate);
        (due, body)
    };
    let bodies = bodies.into_iter().enumerate().map(due).collect();
    dealt(bodies, AT_ONCE, |share| {
        let url = url.to_owned();
        async move {
            let mut client = Client::connect(&url).await;
            let mut took = Vec::with_capacity(share.len());
            for (due, body) in share {
                // The timer counts in milliseconds: a request goes out up to one late, and that is not the service's.
                tokio::time::sleep_until(Instant::into(due)).await;
                let lag = due.elapsed();
                let answered = client.post("/change", &body).await;
                let late = lag.saturating_sub(Duration::from_millis(2));
                took.push(answered + late);
            }
            took
        }
    })
    .await
}
