//! How much memory the service takes, measured at the real program from outside: `cargo bench --bench memory`.
//!
//! | what | target |
//! |---|---|
//! | a document of 100 MB is accepted | at most 32 MB more than an empty one |
//! | a publish with 1,000 dependents, tarballs of 1 MB, notices that carry them | at most 150 MB in all |
//! | an idle service on an empty store | at most 30 MB |
//! | 10,000 rebuilds wait, because the build service answers 503 | at most 60 MB in all |
//!
//! Peaks are the kernel's (`VmHWM` in `/proc/PID/status`: everything resident, shared code included), so nothing that
//! came and went is missed. The neighbours are in this process and do not count. Exits with 1 if a target is missed.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on may panic")]

#[path = "../tests/it/process.rs"]
mod process;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use feedsme::sandbox::{Fault, FaultKind, Role, Sandbox, SandboxOptions, Tarball};
use futures_util::{StreamExt as _, stream};
use process::{Place, Program, client};
use serde_json::{Value, json};

/// Bytes of a megabyte, as in the targets.
const MB: u64 = 1_000_000;
/// The large document, as sent.
const LARGE: u64 = 100 * MB;
/// How much more than an empty one it may take.
const LARGE_TARGET: u64 = 32 * MB;
const DEPENDENTS: usize = 1_000;
/// Of each dependent.
const TARBALL: u64 = MB;
const DEPENDENTS_TARGET: u64 = 150 * MB;
const IDLE_TARGET: u64 = 30 * MB;
/// How long a service stands before it counts as idle.
const AT_REST: Duration = Duration::from_secs(2);
const WAITING: usize = 10_000;
const WAITING_TARGET: u64 = 60 * MB;
/// The most that the wave may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// What the kernel says of a process, in bytes.
struct Memory {
    /// The most that was ever resident.
    peak: u64,
    /// Resident now and not a part of a file.
    anonymous: u64,
}

fn memory(program: &Program) -> Memory {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.unwrap().split_whitespace().next().unwrap();
        number.parse::<u64>().unwrap() * 1024
    };
    Memory {
        peak: field("VmHWM:"),
        anonymous: field("RssAnon:"),
    }
}

fn document(name: &str, version: &str, dependencies: &Value) -> Value {
    json!({
        "_id": name, "name": name, "dist-tags": {"latest": version},
        "versions": {version: {"name": name, "version": version, "dependencies": dependencies}},
    })
}

async fn post(url: &str, body: impl Into<reqwest::Body>) {
    let request = client()
        .post(format!("{url}/change"))
        .timeout(PATIENCE)
        .header("content-type", "application/json")
        .body(body);
    let response = request.send().await.unwrap();
    let status = response.status();
    assert_eq!(status, 200, "{}", response.text().await.unwrap());
}

/// A publish document whose attachment makes it this long, in pieces.
fn of_length(length: u64) -> reqwest::Body {
    let mut head = document("large", "1.0.0", &json!({})).to_string();
    head.pop();
    head.push_str(
        r#","_attachments":{"large-1.0.0.tgz":{"content_type":"application/octet-stream","data":""#,
    );
    let tail = r#""}}}"#;
    let piece = Bytes::from(vec![b'A'; 64 * 1024]);
    let mut left = length.saturating_sub((head.len() + tail.len()) as u64);
    let pieces = std::iter::from_fn(move || {
        let now = left.min(piece.len() as u64);
        left -= now;
        (now > 0).then(|| piece.slice(..usize::try_from(now).unwrap_or_default()))
    });
    let body = std::iter::once(Bytes::from(head))
        .chain(pieces)
        .chain(std::iter::once(Bytes::from(tail)))
        .map(Ok::<_, std::io::Error>);
    reqwest::Body::wrap_stream(stream::iter(body))
}

/// A service of its own on an empty store accepts one document of this length (0: as short as it can be).
async fn accept(length: u64) -> Memory {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let program = place.run(&sandbox, &[]).await;
    post(&place.url, of_length(length)).await;
    memory(&program)
}

/// A publish with dependents, until the last notice is in.
async fn wave() -> (Memory, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let options = SandboxOptions {
        notice_attachment: STANDARD.encode(vec![7; usize::try_from(TARBALL).unwrap()]),
        keep_documents: false,
        keep_uploads: 0,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let program = place.run(&sandbox, &[]).await;
    let publish = |name: String, dependencies: Value| {
        let document = document(&name, "1.0.0", &dependencies);
        sandbox
            .publish(document.clone(), &Tarball::Synthetic(TARBALL))
            .unwrap();
        let url = place.url.clone();
        async move { post(&url, document.to_string()).await }
    };
    let dependents = (0..DEPENDENTS)
        .map(|number| publish(format!("dependent-{number}"), json!({"root": "^1.0.0"})));
    stream::iter(dependents)
        .buffer_unordered(16)
        .collect::<Vec<()>>()
        .await;
    sandbox.report_to(&place.url);
    let started = Instant::now();
    publish("root".into(), json!({})).await;
    let give_up = started + PATIENCE;
    loop {
        let requests = sandbox.requests();
        let noticed = requests
            .iter()
            .filter(|one| one.role == Role::Notice && one.outcome == "accepted");
        let noticed = noticed.count();
        if noticed == DEPENDENTS {
            break;
        }
        assert!(
            Instant::now() < give_up,
            "{noticed} notices of {DEPENDENTS}\n{}",
            place.last_words()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let took = started.elapsed();
    let sent: u64 = sandbox
        .requests()
        .iter()
        .filter(|one| one.role == Role::Warehouse)
        .filter_map(|one| Some(one.tarball()?.bytes))
        .sum();
    assert_eq!(sent, TARBALL * DEPENDENTS as u64, "all bytes arrived, once");
    (memory(&program), took)
}

/// A service that has nothing to do and never had.
async fn idle() -> Memory {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let program = place.run(&sandbox, &[]).await;
    tokio::time::sleep(AT_REST).await;
    memory(&program)
}

/// A publish with dependents of which none can be sent: the build service answers 503 all the time. Once with the
/// history that leads there (the dependents' own publishes), once as a service finds it that was started again.
async fn waiting() -> [Memory; 2] {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(dir.path());
    place.warehouse = false;
    let options = SandboxOptions {
        keep_documents: false,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let program = place.run(&sandbox, &[]).await;
    let publish = |name: String, version: &str, dependencies: Value| {
        let document = document(&name, version, &dependencies);
        let tarball = Tarball::Synthetic(1_000);
        sandbox.publish(document.clone(), &tarball).unwrap();
        post(&place.url, document.to_string())
    };
    publish("root".into(), "1.0.0", json!({})).await;
    let dependents = (0..WAITING).map(|number| {
        let name = format!("dependent-{number}");
        publish(name, "1.0.0", json!({"root": "^1.0.0"}))
    });
    stream::iter(dependents)
        .buffer_unordered(16)
        .collect::<Vec<()>>()
        .await;
    let unavailable = FaultKind::status(503);
    sandbox.fail(Fault::always(Role::Build, unavailable));
    publish("root".into(), "1.0.1", json!({})).await;
    all_wait(&place).await;
    let before = memory(&program);
    program.kill();
    let program = place.run(&sandbox, &[]).await;
    all_wait(&place).await;
    [before, memory(&program)]
}

/// Until nothing is being sent and as many wait as a moment before, nearly all of them: some are with the paused lane's
/// probe, and the wave's own step waits as well.
async fn all_wait(place: &Place) {
    let give_up = Instant::now() + PATIENCE;
    let mut before = 0;
    loop {
        let answer = client().get(format!("{}/status", place.url)).send().await;
        let text = answer.unwrap().text().await.unwrap();
        let status: Value = serde_json::from_str(&text).unwrap();
        let waiting = status["waiting"].as_u64().unwrap();
        if waiting == before && waiting + 100 >= WAITING as u64 && status["sending"] == 0 {
            return;
        }
        before = waiting;
        assert!(Instant::now() < give_up, "{status}\n{}", place.last_words());
        tokio::time::sleep(AT_REST).await;
    }
}

fn in_mb(bytes: u64) -> String {
    format!("{}.{} MB", bytes / MB, bytes % MB / (MB / 10))
}

#[tokio::main]
async fn main() -> ExitCode {
    let empty = accept(0).await;
    let large = accept(LARGE).await;
    let more = large.peak.saturating_sub(empty.peak);
    let (wave, took) = wave().await;
    let idle = idle().await;
    let [waiting, started_again] = waiting().await;
    let rows = [
        ("an empty document", &empty, None),
        ("a document of 100 MB", &large, None),
        (
            "... more than an empty one",
            &Memory {
                peak: more,
                anonymous: large.anonymous.saturating_sub(empty.anonymous),
            },
            Some(LARGE_TARGET),
        ),
        (
            "1,000 dependents, 1 MB each",
            &wave,
            Some(DEPENDENTS_TARGET),
        ),
        ("idle on an empty store", &idle, Some(IDLE_TARGET)),
        ("10,000 rebuilds wait", &waiting, Some(WAITING_TARGET)),
        (
            "... after a new start",
            &started_again,
            Some(WAITING_TARGET),
        ),
    ];
    println!(
        "{:<28} {:>10} {:>16} {:>10}",
        "", "peak", "anonymous, after", "target"
    );
    let mut missed = false;
    for (what, memory, target) in rows {
        let verdict = match target {
            None => "",
            Some(target) if memory.peak <= target => "ok",
            Some(_) => {
                missed = true;
                "MISSED"
            }
        };
        println!(
            "{what:<28} {:>10} {:>16} {:>10} {verdict}",
            in_mb(memory.peak),
            in_mb(memory.anonymous),
            target.map(in_mb).unwrap_or_default(),
        );
    }
    println!(
        "the 1,000 rebuilds were sent and noticed in {} s",
        took.as_secs()
    );
    ExitCode::from(u8::from(missed))
}
