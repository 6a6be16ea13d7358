//! The load program: `cargo bench --bench load [-- --brief] [--only WORK] [--json FILE]`.
//!
//! It starts the real program and the sandbox, does the works below, and holds each figure against a floor that is
//! measured in the same run: what the same requests cost a bare loop, what the same rows cost the bare store. Each work is
//! run once to warm up and then as often as counts (five times; `--brief`: once, small). Prints a table in Markdown.
//! Exits with 1 if a target is missed, but for `--brief`, which only shows that everything still runs.
//!
//! With `FEEDSME_TEST_CASSANDRA` (contact points, as for the tests; `bin/cassandra start --jit full`) some works are done on
//! Cassandra as well.
//!
//! The machine's processors are shared by the service, the sandbox and the client, in the floor as well.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on may panic")]
#![allow(missing_docs, reason = "a program, not an interface")]

mod client;
mod floor;
#[allow(dead_code, reason = "tests use more of it")]
#[path = "../../tests/it/places.rs"]
mod places;
#[path = "../../tests/it/process.rs"]
mod process;
mod publishes;
mod rebuilds;
mod service;
mod table;
#[allow(dead_code, reason = "tests use more of it")]
#[path = "../../tests/it/failures/watched.rs"]
mod watched;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use service::On;
use table::{Row, json, markdown};

/// Measures the service against floors.
#[derive(Parser)]
struct Arguments {
    /// Everything once and small: whether it still runs
    #[arg(long)]
    brief: bool,
    /// Only this work: publish, latency, dependents, promotion, wave, cassandra
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Numbers of dependents, instead of 10, 100, 1,000 and 10,000
    #[arg(long, value_name = "N", value_delimiter = ',')]
    sizes: Vec<usize>,
    /// How often each work counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Also writes the figures here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn wants(&self, word: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == word)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let brief = arguments.brief;
    let runs = if brief { 1 } else { arguments.runs };
    let of = |full: usize, small: usize| if brief { small } else { full };
    let mut rows: Vec<Row> = Vec::new();
    if arguments.wants("publish") || arguments.wants("latency") {
        publishes::durable(On::File, of(8_000, 200), runs, &mut rows).await;
        let highest = rows[0].ours.median();
        if arguments.wants("latency") {
            let seconds = if brief { 0.5 } else { 3.0 };
            publishes::latency(highest, seconds, runs, &mut rows).await;
        }
    }
    if arguments.wants("dependents") {
        let sizes = match (arguments.sizes.as_slice(), brief) {
            ([], true) => &[10, 100],
            ([], false) => &[10, 100, 1_000, 10_000][..],
            (sizes, _) => sizes,
        };
        rebuilds::publishes(On::File, sizes, runs, &mut rows).await;
    }
    if arguments.wants("promotion") {
        rebuilds::promotions(On::File, of(1_000, 20), runs, &mut rows).await;
    }
    if arguments.wants("wave") {
        rebuilds::wave(On::File, of(1_000, 50), runs, &mut rows).await;
    }
    if arguments.wants("cassandra") && std::env::var_os("FEEDSME_TEST_CASSANDRA").is_some() {
        publishes::durable(On::Cassandra, of(1_000, 50), runs, &mut rows).await;
        let sizes: &[usize] = if brief { &[10] } else { &[10, 100, 1_000] };
        rebuilds::publishes(On::Cassandra, sizes, runs, &mut rows).await;
        rebuilds::promotions(On::Cassandra, of(1_000, 10), runs, &mut rows).await;
    }
    print!("{}", markdown(&rows, !brief));
    if let Some(file) = &arguments.json {
        std::fs::write(file, json(&rows).to_string()).unwrap();
    }
    let missed = rows.iter().any(|row| row.is_met() == Some(false));
    ExitCode::from(u8::from(missed && !brief))
}
