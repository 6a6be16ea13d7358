//! How much memory the service takes, measured at the real program from outside: `cargo bench --bench memory`.
//!
//! | what | target |
//! |---|---|
//! | a document of 100 MB is accepted | less than 32 MB more than an empty one |
//! | a publish with 1,000 dependents, tarballs of 1 MB, notices that carry them | less than 150 MB in all |
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
use feedsme::sandbox::{Role, Sandbox, SandboxOptions, Tarball};
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

fn in_mb(bytes: u64) -> String {
    format!("{}.{} MB", bytes / MB, bytes % MB / (MB / 10))
}

#[tokio::main]
async fn main() -> ExitCode {
    let empty = accept(0).await;
    let large = accept(LARGE).await;
    let more = large.peak.saturating_sub(empty.peak);
    let (wave, took) = wave().await;
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
    ];
    println!(
        "{:<28} {:>10} {:>16} {:>10}",
        "", "peak", "anonymous, after", "target"
    );
    let mut missed = false;
    for (what, memory, target) in rows {
        let verdict = match target {
            None => "",
            Some(target) if memory.peak < target => "ok",
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
