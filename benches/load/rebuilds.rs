//! From a change to the last of its rebuilds: publishes, promotions, waves.

use std::time::{Duration, Instant};

use feedsme::sandbox::{Received, Role};
use serde_json::{Value, json};

use crate::client::Client;
use crate::floor::{Loop, bare_loop};
use crate::service::{On, PATIENCE, Service, builds, document};
use crate::table::{Row, Runs, Target, per_second};

fn on_root() -> Value {
    json!({"root": "^1.0.0"})
}

async fn family(service: &Service, dependents: usize) {
    service
        .publish(vec![document("root", "1.0.0", &json!({}))])
        .await;
    let children = (0..dependents)
        .map(|at| document(&format!("dependent-{at}"), "1.0.0", &on_root()))
        .collect();
    service.publish(children).await;
    service.idle().await;
}

/// What a run measured: rebuilds per second of the service and of both loops.
#[derive(Default)]
struct Measured {
    took: Vec<Duration>,
    ours: Runs,
    sends: Runs,
    fetches: Runs,
}

impl Measured {
    async fn run(&mut self, service: &Service, change: &Value, count: usize) {
        let (took, received) = service.follow(change).await;
        self.compare(service, &received, count, took).await;
    }

    /// Notes how long the service took until these requests were accepted, and has both loops do the same.
    async fn compare(
        &mut self,
        service: &Service,
        received: &[Received],
        count: usize,
        took: Duration,
    ) {
        let bodies = builds(received);
        assert_eq!(bodies.len(), count, "each of them once");
        self.took.push(took);
        self.ours.0.push(per_second(count, took));
        let sandbox = &service.sandbox;
        sandbox.report_to_nobody();
        for (rates, what) in [
            (&mut self.sends, Loop::Sends),
            (&mut self.fetches, Loop::FetchesAndSends),
        ] {
            sandbox.forget_requests();
            let took = bare_loop(sandbox, &bodies, what).await;
            rates.0.push(per_second(count, took));
        }
    }

    fn rows(self, work: &str, share: f64) -> Vec<Row> {
        let row = |floor: Runs, what: &str, target: Target| Row {
            work: format!("{work}, {what}"),
            unit: "rebuilds/s",
            ours: self.ours.clone(),
            floor: Some(floor),
            target,
        };
        vec![
            row(
                self.fetches,
                "floor: fetches and sends the same",
                Target::Share(share),
            ),
            row(self.sends, "floor: sends the same", Target::None),
        ]
    }
}

/// A publish of a root with these numbers of dependents, until the last rebuild is accepted.
pub async fn publishes(on: On, sizes: &[usize], runs: usize, rows: &mut Vec<Row>) {
    let mut took: Vec<(usize, f64)> = Vec::new();
    for &size in sizes {
        let service = Service::start(on).await;
        family(&service, size).await;
        let mut measured = Measured::default();
        // One more at the start, which is not counted: connections, caches.
        for run in 0..=runs {
            if run == 1 {
                measured = Measured::default();
            }
            let change = document("root", &format!("1.0.{}", run + 1), &json!({}));
            measured.run(&service, &change, size).await;
        }
        let seconds = Runs(measured.took.iter().map(Duration::as_secs_f64).collect());
        took.push((size, seconds.median()));
        rows.extend(measured.rows(
            &format!("{}publish with {size} dependents", on.prefix()),
            0.5,
        ));
    }
    if let [.., (less, short), (more, long)] = took[..]
        && let [(least, shortest), (second, next), ..] = took[..]
        && took.len() > 2
    {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let each = |from: (usize, f64), to: (usize, f64)| (to.1 - from.1) / (to.0 - from.0) as f64;
        let first = each((least, shortest), (second, next));
        let last = each((less, short), (more, long));
        rows.push(Row {
            work: format!(
                "{}one dependent more, {less} to {more} against {least} to {second}",
                on.prefix()
            ),
            unit: "times",
            ours: Runs(vec![last / first]),
            floor: None,
            target: Target::AtMost(1.5),
        });
    }
}

/// A promotion of a line with so many dependents.
pub async fn promotions(on: On, size: usize, runs: usize, rows: &mut Vec<Row>) {
    let service = Service::start(on).await;
    family(&service, size).await;
    service.sandbox.report_to(&service.place.url);
    for run in 0..=runs {
        let change = document("root", &format!("1.0.{}", run + 1), &json!({}));
        service.follow(&change).await;
        settled(&service).await;
    }
    let mut measured = Measured::default();
    for run in 0..=runs {
        if run == 1 {
            measured = Measured::default();
        }
        let mut change = document("root", &format!("1.0.{}", run + 1), &json!({}));
        change["env"] = "test".into();
        service.sandbox.report_to_nobody();
        measured.run(&service, &change, size).await;
    }
    rows.extend(measured.rows(
        &format!("{}promotion of a line with {size} dependents", on.prefix()),
        0.5,
    ));
}

/// Waits until the notices, too, are through: each starts something new.
async fn settled(service: &Service) {
    let mut before = 0;
    loop {
        service.idle().await;
        let now = service.sandbox.count(|_| true);
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A whole wave of packages in five levels, notices coming back at once.
pub async fn wave(on: On, packages: usize, runs: usize, rows: &mut Vec<Row>) {
    const LEVELS: usize = 5;
    let width = packages / LEVELS;
    let service = Service::start(on).await;
    service
        .publish(vec![document("root", "1.0.0", &json!({}))])
        .await;
    for level in 0..LEVELS {
        let of_level = |at: usize| {
            let parent = |turn: usize| match level {
                0 => "root".to_owned(),
                _ => format!("level-{}-{}", level - 1, (at * 7 + turn * 13) % width),
            };
            let parents: serde_json::Map<String, Value> = (0..3)
                .map(|turn| (parent(turn), Value::from("^1.0.0")))
                .collect();
            document(&format!("level-{level}-{at}"), "1.0.0", &parents.into())
        };
        service.publish((0..width).map(of_level).collect()).await;
        service.idle().await;
    }
    let mut measured = Measured::default();
    for run in 0..=runs {
        if run == 1 {
            measured = Measured::default();
        }
        let change = document("root", &format!("1.0.{}", run + 1), &json!({}));
        service.sandbox.report_to(&service.place.url);
        service.sandbox.forget_requests();
        let mut client = Client::connect(&service.place.url).await;
        let body = change.to_string();
        let started = Instant::now();
        client.post("/change", &body).await;
        let all = LEVELS * width;
        let sent = |one: &Received| one.role == Role::Build && one.status.is_some();
        while service.sandbox.count(sent) < all {
            assert!(started.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = started.elapsed();
        settled(&service).await;
        let received = service.sandbox.requests();
        measured.compare(&service, &received, all, took).await;
    }
    rows.extend(measured.rows(
        &format!(
            "{}a wave of {packages} packages in {LEVELS} levels, with their notices",
            on.prefix()
        ),
        0.4,
    ));
}
