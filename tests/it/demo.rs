//! `feedsme demo` as people run it: a process, its output, its end. The numbers it prints must agree with each other, and
//! every command that it offers must work.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest that the demo may take here. Alone it takes ten seconds; beside all other tests, on a busy machine, more.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running demo, with its temporary folder in one of its own. Dropping it kills it.
struct Demo {
    child: Child,
    out: Receiver<String>,
    err: Option<JoinHandle<String>>,
    dir: tempfile::TempDir,
    started: Instant,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_feedsme"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, out) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout
                .lines()
                .try_for_each(|line| lines.send(line.unwrap()).ok())
        });
        let mut stderr = child.stderr.take().unwrap();
        let err = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Self {
            child,
            out,
            err: Some(err),
            dir,
            started: Instant::now(),
        }
    }

    /// What it prints up to the line that contains `last`, or up to its end.
    fn lines(&self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let left = PATIENCE.saturating_sub(self.started.elapsed());
            match self.out.recv_timeout(left) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("it takes too long; so far: {lines:#?}"),
            }
            if lines.last().unwrap().contains(last) {
                return lines;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let mut kill = Command::new("kill");
        assert!(kill.args([signal, &pid]).status().unwrap().success());
    }

    fn is_folder_there(&self) -> bool {
        std::fs::read_dir(self.dir.path()).unwrap().count() > 0
    }

    /// Waits for its end, which must leave nothing behind; how it ended and what it said on standard error.
    fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + Duration::from_secs(15);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(!self.is_folder_there(), "a temporary folder is left");
        let err = self.err.take().unwrap().join().unwrap();
        (status, err)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One part of the summary: its headline's number and the parts below, label and number in their order.
#[derive(Debug, Default)]
struct Part {
    total: usize,
    parts: Vec<(String, usize)>,
}

impl Part {
    fn sum(&self) -> usize {
        self.parts.iter().map(|(_, count)| count).sum()
    }

    fn of(&self, label: &str) -> Vec<usize> {
        let of = |(name, count): &(String, usize)| (name == label).then_some(*count);
        self.parts.iter().filter_map(of).collect()
    }
}

/// Reads the parts that have a total: `label   1,234  words`, two spaces before the label of a part.
fn parts(summary: &str) -> BTreeMap<String, Part> {
    let mut found: BTreeMap<String, Part> = BTreeMap::new();
    let mut current = None;
    for line in summary.lines() {
        let cells: Vec<&str> = line
            .trim()
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect();
        let indent = line.len() - line.trim_start().len();
        let number = |cell: &&str| {
            cell.split(' ')
                .next()?
                .replace(',', "")
                .parse::<usize>()
                .ok()
        };
        match (indent, cells.as_slice()) {
            (0, [label, cell, ..]) => {
                current = number(cell).map(|total| {
                    found.entry((*label).to_owned()).or_default().total = total;
                    (*label).to_owned()
                });
            }
            (2, [label, cell, ..]) => {
                let (Some(current), Some(count)) = (&current, number(cell)) else {
                    continue;
                };
                let part = found.entry(current.clone()).or_default();
                part.parts.push(((*label).to_owned(), count));
            }
            (0, _) if !line.is_empty() => current = None,
            _ => {}
        }
    }
    found
}

/// `in 1,234 attempts`.
fn attempts(summary: &str) -> usize {
    let at = summary.find(" attempts").unwrap();
    let word = summary[..at].rsplit(' ').next().unwrap();
    word.replace(',', "").parse().unwrap()
}

#[test]
fn the_summary_agrees_with_itself_and_nothing_is_left_behind() {
    let demo = Demo::start(&["--exit", "--publishes", "20"]);
    let out = demo.lines("never printed").join("\n");
    let (status, err) = demo.end();
    assert_eq!(status.code(), Some(0), "{out}\n{err}");
    assert!(
        !out.contains('\u{1b}') && !err.contains('\u{1b}'),
        "colours without a terminal: {out}{err}"
    );
    assert!(
        !out.contains("curl"),
        "nothing can be tried when it has ended: {out}"
    );
    for step in ["importing", "publishing", "promoting"] {
        assert!(err.contains(step), "{err}");
    }

    let parts = parts(&out);
    let part = |label: &str| {
        parts
            .get(label)
            .unwrap_or_else(|| panic!("no {label} in {out}"))
    };
    let (changes, rebuilds, skips) = (
        part("changes accepted"),
        part("rebuilds decided"),
        part("dependents skipped"),
    );
    assert_eq!(part("known before").total, 6_600, "{out}");
    for part in [changes, rebuilds, skips] {
        assert_eq!(part.total, part.sum(), "{part:?} in {out}");
        assert!(part.total > 0, "{out}");
    }
    assert_eq!(changes.of("published by hand"), [20], "{out}");
    assert_eq!(changes.of("promotions"), [2], "{out}");
    // Every rebuild that was built came back as a change, and nothing else did.
    assert_eq!(rebuilds.of("built"), changes.of("notices"), "{out}");
    assert_eq!(rebuilds.of("built").len(), 2, "{out}");
    let unsent: usize = rebuilds.of("superseded").iter().sum();
    assert_eq!(
        rebuilds.sum(),
        rebuilds.of("built").iter().sum::<usize>() + unsent,
        "{out}"
    );
    assert_eq!(attempts(&out), rebuilds.total - unsent, "{out}");
    // Both environments got the same release line.
    for env in ["to test", "to prod"] {
        let line = out
            .lines()
            .find(|line| line.trim_start().starts_with(env))
            .unwrap();
        let sent: usize = line.split_whitespace().nth(2).unwrap().parse().unwrap();
        assert!(
            sent > 0 && sent <= rebuilds.of("built")[1] + unsent,
            "{out}"
        );
    }
}

/// A `curl` command as the demo prints it, taken apart.
struct Curl {
    headers: Vec<(String, String)>,
    body: Option<String>,
    url: String,
}

impl Curl {
    /// Splits at spaces outside single quotes, as a shell does.
    fn parse(line: &str) -> Self {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for letter in line.trim().chars() {
            match letter {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                letter => words.last_mut().unwrap().push(letter),
            }
        }
        assert!(!quoted, "{line}");
        let mut curl = Self {
            headers: Vec::new(),
            body: None,
            url: String::new(),
        };
        let mut words = words.into_iter();
        assert_eq!(words.next().as_deref(), Some("curl"));
        while let Some(word) = words.next() {
            match word.as_str() {
                "-s" => {}
                "-H" => {
                    let header = words.next().unwrap();
                    let (name, value) = header.split_once(": ").unwrap();
                    curl.headers.push((name.to_owned(), value.to_owned()));
                }
                "-d" => curl.body = words.next(),
                _ if word.starts_with("http://127.0.0.1:") && curl.url.is_empty() => {
                    curl.url = word;
                }
                other => panic!("{other} in {line}"),
            }
        }
        curl
    }

    async fn run(&self, client: &reqwest::Client) -> (u16, Value) {
        let request = match &self.body {
            None => client.get(&self.url),
            Some(body) => client.post(&self.url).body(body.clone()),
        };
        let request = self.headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

#[tokio::test]
async fn every_example_works_and_sigterm_ends_it_cleanly() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // With faults: they must change nothing but the number of attempts.
    let demo = Demo::start(&["--publishes", "20", "--fault"]);
    let seen = demo.lines("stays up");
    let text = seen.join("\n");
    assert!(text.contains("in more than one"), "no retry: {text}");

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let examples: Vec<(&str, Curl)> = seen
        .windows(2)
        .filter(|pair| pair[1].trim_start().starts_with("curl "))
        .map(|pair| {
            (
                pair[0].trim().trim_start_matches("# "),
                Curl::parse(&pair[1]),
            )
        })
        .collect();
    let mut posted = None;
    let mut kinds = Vec::new();
    for (what, curl) in &examples {
        let (status, answer) = curl.run(&client).await;
        assert_eq!(status, 200, "{what}: {answer}");
        let kind = curl.url.split('/').nth(3).unwrap();
        kinds.push(kind.split('?').next().unwrap());
        match what {
            _ if what.starts_with("why") => {
                let sentence = what.split_once(": ").unwrap().1;
                let found = answer["decisions"]["items"].as_array().unwrap().iter();
                let skip = found.clone().find(|one| one["sentence"] == sentence);
                assert_eq!(skip.unwrap()["decision"], "skip", "{what}: {answer}");
            }
            _ if curl.body.is_some() => {
                let sent = answer["rebuilds"].as_array().unwrap();
                assert!(
                    answer["done"] == true && !sent.is_empty(),
                    "{what}: {answer}"
                );
                let body: Value = serde_json::from_str(curl.body.as_ref().unwrap()).unwrap();
                posted = Some(body["version"].clone());
            }
            _ if kind == "release-line" => {
                // The one after the publish is asked until the first rebuild has come back.
                let mut line = answer;
                let mut tries = 0;
                while line["dependents"].as_object().unwrap().is_empty() {
                    assert!(tries < 100, "{what}: {line}");
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    line = curl.run(&client).await.1;
                }
                if let Some(version) = &posted {
                    assert_eq!(line["version"], *version, "{what}");
                }
            }
            _ => {
                let list = if kind == "changes" {
                    &answer["decisions"]["items"]
                } else {
                    &answer["items"]
                };
                assert!(!list.as_array().unwrap().is_empty(), "{what}: {answer}");
            }
        }
    }
    assert_eq!(
        kinds,
        [
            "release-line",
            "changes",
            "packages",
            "changes",
            "changes",
            "change",
            "release-line"
        ],
        "{text}"
    );

    demo.signal("-TERM");
    let (status, err) = demo.end();
    assert_eq!(status.code(), Some(0), "{text}\n{err}");
}

#[test]
fn ctrl_c_while_it_works_leaves_nothing_behind() {
    let demo = Demo::start(&[]);
    // The folder is there as soon as signals are heard.
    while !demo.is_folder_there() {
        assert!(demo.started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    demo.signal("-INT");
    let (status, err) = demo.end();
    assert_eq!(status.code(), Some(130), "{err}");
}
