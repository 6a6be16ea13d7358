//! How many questions the semver answers: `cargo bench --bench semver`.
//!
//! | what | target |
//! |---|---|
//! | `satisfies` on texts: range and version are read for each question | at least 3 million a second |
//!
//! The ranges are the realistic ones of the corpus in fixtures/semver (its category `plain`: what people write, single and
//! in lists and alternatives, without the noise), the versions those of the categories `core`, `pre` and `rand`, prereleases in
//! the majority. Each range meets each version. The floor is the same with everything read beforehand. Both are asked
//! with default options. One thread, one run to warm up, then the median of five; every run must say yes as often as
//! node-semver does. Exits with 1 if the target is missed.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on may panic")]

#[allow(dead_code, reason = "the load program uses more of it")]
#[path = "load/table.rs"]
mod table;

use std::fs::File;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use feedsme::semver::{Range, Version, satisfies};
use serde_json::Value;
use table::{Row, Runs, Target, markdown};

const RUNS: usize = 5;
/// Questions a second, in millions.
const TARGET: f64 = 3.0;
/// How often all pairs are asked in one run.
const ROUNDS: usize = 8;

/// What is asked, and how often the answer is yes.
struct Questions {
    ranges: Vec<String>,
    versions: Vec<String>,
    yes: usize,
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/fixtures/semver/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_reader(flate2::read::GzDecoder::new(File::open(path).unwrap())).unwrap()
}

/// The texts of these categories, each with its place in the corpus.
fn texts(entries: &Value, categories: &[&str]) -> Vec<(usize, String)> {
    let entries = entries.as_array().unwrap().iter().enumerate();
    entries
        .filter(|(_, entry)| categories.contains(&entry[0].as_str().unwrap()))
        .map(|(at, entry)| (at, entry[1].as_str().unwrap().to_owned()))
        .collect()
}

impl Questions {
    fn load() -> Self {
        let corpus = fixture("corpus.json.gz");
        let expected = fixture("expected-7.8.6.json.gz");
        let ranges = texts(&corpus["ranges"], &["plain"]);
        let versions = texts(&corpus["versions"], &["core", "pre", "rand"]);
        let mut yes = 0;
        for (at, range) in &ranges {
            let bitmap = expected["ranges"][*at][1].as_str();
            let bitmap = bitmap.unwrap_or_else(|| panic!("{range:?} is no range to node"));
            // Two hexadecimal digits a byte, the lowest bit first.
            let is_set = |at: usize| {
                let byte = &bitmap[at / 8 * 2..at / 8 * 2 + 2];
                u8::from_str_radix(byte, 16).unwrap() >> (at % 8) & 1 == 1
            };
            yes += versions.iter().filter(|(at, _)| is_set(*at)).count();
        }
        let alone = |texts: Vec<(usize, String)>| texts.into_iter().map(|(_, text)| text).collect();
        Self {
            ranges: alone(ranges),
            versions: alone(versions),
            yes,
        }
    }

    fn pairs(&self) -> usize {
        self.ranges.len() * self.versions.len()
    }
}

/// How many of all pairs `ask` affirms.
fn count<R, V>(ranges: &[R], versions: &[V], ask: impl Fn(&R, &V) -> bool) -> usize {
    let mut yes = 0;
    for range in ranges {
        for version in versions {
            yes += usize::from(ask(black_box(range), black_box(version)));
        }
    }
    yes
}

/// Millions a second, of five runs after one that does not count.
fn measure(questions: &Questions, round: impl Fn() -> usize) -> Runs {
    let mut runs = Runs::default();
    for run in 0..=RUNS {
        let started = Instant::now();
        let yes: usize = (0..ROUNDS).map(|_| round()).sum();
        let took = started.elapsed().as_secs_f64();
        assert_eq!(yes, questions.yes * ROUNDS, "node-semver says so");
        if run > 0 {
            let asked = u32::try_from(questions.pairs() * ROUNDS).unwrap();
            runs.0.push(f64::from(asked) / took / 1e6);
        }
    }
    runs
}

fn main() -> ExitCode {
    let questions = Questions::load();
    let (ranges, versions) = (&questions.ranges, &questions.versions);
    let read_ranges: Vec<Range> = ranges.iter().map(|one| one.parse().unwrap()).collect();
    let read_versions: Vec<Version> = versions.iter().map(|one| one.parse().unwrap()).collect();
    println!(
        "{} ranges, {} versions, {} pairs, {} of them yes\n",
        ranges.len(),
        versions.len(),
        questions.pairs(),
        questions.yes
    );
    let floor = measure(&questions, || {
        count(&read_ranges, &read_versions, Range::satisfies)
    });
    let row = |work: &str, ours: Runs, target: Target| Row {
        work: work.to_owned(),
        unit: "million/s",
        ours,
        floor: Some(floor.clone()),
        target,
    };
    let on_texts = measure(&questions, || {
        count(ranges, versions, |range, version| {
            satisfies(version, range, false)
        })
    });
    // What reading an edge costs: a `Range` keeps both readings of its text.
    let on_values = measure(&questions, || {
        count(ranges, versions, |range, version| {
            let range = Range::parse(range);
            let version = Version::parse(version);
            range.is_ok_and(|range| version.is_ok_and(|version| range.satisfies(&version)))
        })
    });
    let rows = [
        row("`satisfies` on texts", on_texts, Target::AtLeast(TARGET)),
        row(
            "`Range::parse`, `Version::parse`, then the question",
            on_values,
            Target::None,
        ),
    ];
    print!("{}", markdown(&rows, true));
    let missed = rows.iter().any(|row| row.is_met() == Some(false));
    ExitCode::from(u8::from(missed))
}
