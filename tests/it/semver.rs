//! Our semver against node-semver 7.8.6: every answer of the corpus in fixtures/semver. Below it: `forms`, the classes of
//! usual and odd texts, found by comparing with node on other random texts; `hostile` texts; `laws` of the order.

#![allow(clippy::unwrap_used)]

use std::cmp::Ordering;
use std::fs::File;
use std::io::Read;

use feedsme::semver::{Range, Release, Version, VersionError, satisfies};
use serde_json::Value;

mod forms;
mod hostile;
mod laws;

fn fixture(name: &str) -> Value {
    let path = format!("{}/fixtures/semver/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

struct Corpus {
    ranges: Vec<String>,
    versions: Vec<String>,
    expected: Value,
}

impl Corpus {
    fn load() -> Self {
        let corpus = fixture("corpus.json.gz");
        let texts = |key: &str| -> Vec<String> {
            let entries = corpus[key].as_array().unwrap();
            entries
                .iter()
                .map(|entry| entry[1].as_str().unwrap().to_owned())
                .collect()
        };
        let loaded = Self {
            ranges: texts("ranges"),
            versions: texts("versions"),
            expected: fixture("expected-7.8.6.json.gz"),
        };
        assert_eq!((loaded.ranges.len(), loaded.versions.len()), (5525, 780));
        assert_eq!(loaded.expected["semver"], "7.8.6");
        loaded
    }

    fn parsed(&self) -> Vec<Option<Version>> {
        self.versions
            .iter()
            .map(|text| Version::parse(text).ok())
            .collect()
    }
}

/// The bitmap of node's answers for one range; all zeros where it threw.
fn bitmap(answer: &Value) -> Vec<u8> {
    let hex = answer.as_str().unwrap_or("");
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn bit(bitmap: &[u8], at: usize) -> bool {
    bitmap
        .get(at >> 3)
        .is_some_and(|byte| byte & (1 << (at & 7)) != 0)
}

fn report(differences: &[String]) {
    let first = differences
        .iter()
        .take(20)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        differences.is_empty(),
        "{} differences, first:\n{first}",
        differences.len()
    );
}

#[test]
fn corpus_ranges_in_both_modes() {
    let corpus = Corpus::load();
    let versions = corpus.parsed();
    let (mut differences, mut satisfied) = (Vec::new(), 0_u32);
    for (at, text) in corpus.ranges.iter().enumerate() {
        let answer = &corpus.expected["ranges"][at];
        let range = Range::parse(text).ok();
        let normalised = range.as_ref().map(ToString::to_string);
        if normalised.as_deref() != answer[0].as_str() {
            differences.push(format!("{text:?} is {normalised:?}, node {}", answer[0]));
        }
        let (plain, pre) = (bitmap(&answer[1]), bitmap(&corpus.expected["pre"][at]));
        for (index, version) in versions.iter().enumerate() {
            let holds = |question: fn(&Range, &Version) -> bool| match (&range, version) {
                (Some(range), Some(version)) => question(range, version),
                _ => false,
            };
            let ours = [
                holds(Range::satisfies),
                holds(Range::satisfies_including_prerelease),
            ];
            let node = [bit(&plain, index), bit(&pre, index)];
            satisfied += u32::from(node[0]) + u32::from(node[1]);
            if ours != node {
                differences.push(format!(
                    "{text:?} {:?}: {ours:?}, node {node:?}",
                    corpus.versions[index]
                ));
            }
        }
    }
    report(&differences);
    assert!(
        satisfied > 100_000,
        "the fixture says {satisfied} times yes"
    );
}

#[test]
fn corpus_satisfies_on_texts() {
    let corpus = Corpus::load();
    let mut differences = Vec::new();
    for (at, range) in corpus.ranges.iter().enumerate() {
        let (plain, pre) = (
            bitmap(&corpus.expected["ranges"][at][1]),
            bitmap(&corpus.expected["pre"][at]),
        );
        // Some versions, others for each range.
        for index in (at % 61..corpus.versions.len()).step_by(61) {
            let version = &corpus.versions[index];
            let ours = [
                satisfies(version, range, false),
                satisfies(version, range, true),
            ];
            if ours != [bit(&plain, index), bit(&pre, index)] {
                differences.push(format!("{range:?} {version:?}: {ours:?}"));
            }
        }
    }
    report(&differences);
}

#[test]
fn corpus_versions_and_increments() {
    let corpus = Corpus::load();
    let mut differences = Vec::new();
    let mut check = |what: &str, text: &str, ours: Option<String>, node: &Value| {
        if ours.as_deref() != node.as_str() {
            differences.push(format!("{what} {text:?}: {ours:?}, node {node}"));
        }
    };
    for (at, text) in corpus.versions.iter().enumerate() {
        let answer = &corpus.expected["versions"][at];
        let version = Version::parse(text).ok();
        check(
            "valid",
            text,
            version.as_ref().map(ToString::to_string),
            &answer["valid"],
        );
        assert_eq!(
            version.as_ref().map(Version::major),
            answer["major"].as_u64(),
            "major {text:?}"
        );
        for (name, release) in [
            ("major", Release::Major),
            ("minor", Release::Minor),
            ("patch", Release::Patch),
            ("prerelease", Release::Prerelease),
        ] {
            let next = version.as_ref().map(|version| match version.inc(release) {
                Ok(next) => next.to_string(),
                // node gives this text, and refuses it as a version.
                Err(VersionError::NoNext(next)) if Version::parse(&next).is_err() => next.into(),
                Err(error) => panic!("{text:?} {name}: {error}"),
            });
            check(name, text, next, &answer["inc"][name]);
        }
    }
    report(&differences);
}

#[test]
fn corpus_comparisons() {
    let corpus = Corpus::load();
    let versions = corpus.parsed();
    let entries = corpus.expected["cmp"].as_array().unwrap();
    assert_eq!(entries.len(), 40_000);
    let mut differences = Vec::new();
    for entry in entries {
        let side = |at: usize| &versions[usize::try_from(entry[at].as_u64().unwrap()).unwrap()];
        let order = match (side(0), side(1)) {
            (Some(left), Some(right)) => Some(left.npm_cmp(right)),
            _ => None,
        };
        let rcompare = order.map(|order| order.reverse() as i64);
        if rcompare != entry[2].as_i64() || order.map(Ordering::is_le) != entry[3].as_bool() {
            differences.push(format!(
                "{:?} {:?}: {order:?}, node {entry}",
                side(0),
                side(1)
            ));
        }
        if let (Some(left), Some(right)) = (side(0), side(1))
            && order != Some(Ordering::Equal)
        {
            assert_eq!(Some(left.cmp(right)), order, "{left} {right}");
        }
    }
    report(&differences);
}
