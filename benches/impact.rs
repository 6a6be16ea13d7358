//! Whom would a version reach, on npm's graph of January 2017: `cargo bench --bench impact`.
//!
//! It puts the 926,354 edges of `fixtures/npm-2017-edges.tsv.gz` into an SQLite store (each `*`, of a 1.0.0), and starts itself
//! again on that file, as a service is started again: reads the graph, and asks. Beside it stands the least that such a
//! question can cost: a breadth-first walk by one thread over a compressed sparse row array of plain numbers, in the same
//! process and run.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use feedsme::graph::{Index, Start};
use feedsme::ingest::{Clock, Core, impact};
use feedsme::model::edge::Edge;
use feedsme::model::id::Digest;
use feedsme::model::name::PackageName;
use feedsme::model::package::{Facts, RowKey, Top};
use feedsme::plan::{Increment, Rules};
use feedsme::query::impact::{Answer, impact};
use feedsme::semver::Version;
use feedsme::store::sqlite::{Durability, Options, SqliteStore};
use feedsme::store::{Dependent, Expect, PackageCommit, Projection, RowWrite, Store, Write};

/// Measurements of each kind; the first ones warm up.
const RUNS: usize = 15;
const WARM: usize = 2;

/// The packages that are asked about: the one with the most dependents, and others.
const ASKED: [&str; 4] = ["lodash", "async", "inherits", "ms"];

type Error = Box<dyn std::error::Error>;

/// All (dependency, dependent). A name that is none by npm's rules of today gets another one, so that the graph is whole.
fn edges() -> Result<Vec<(String, String)>, Error> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/npm-2017-edges.tsv.gz"
    );
    let lines = BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(file)?)).lines();
    let mut renamed: HashMap<String, String> = HashMap::new();
    let mut name = |text: &str| {
        if PackageName::parse(text).is_ok() {
            return text.to_owned();
        }
        let next = format!("renamed~{}", renamed.len());
        renamed.entry(text.to_owned()).or_insert(next).clone()
    };
    let mut all = Vec::new();
    for line in lines {
        let line = line?;
        let (parent, dependent) = line.split_once('\t').ok_or("a line is two names")?;
        all.push((name(parent), name(dependent)));
    }
    eprintln!(
        "{} names are none by npm's rules and got others",
        renamed.len()
    );
    Ok(all)
}

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let child = std::env::args().skip_while(|one| one != "--read").nth(1);
    if let Some(file) = child {
        return runtime.block_on(measure(Path::new(&file)));
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("npm.sqlite3");
    runtime.block_on(fill(&file))?;
    eprintln!("{} MB on disk", std::fs::metadata(&file)?.len() / 1_000_000);
    drop(runtime);
    let status = std::process::Command::new(std::env::current_exe()?)
        .arg("--read")
        .arg(&file)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("the measurement failed".into())
    }
}

// ---- the store ------------------------------------------------------------------------------------------------------

/// Every package as an import leaves it: a version, what it declares, and the projections of that.
async fn fill(file: &Path) -> Result<(), Error> {
    let began = Instant::now();
    let options = Options {
        durability: Durability::Off,
        ..Options::default()
    };
    let store = SqliteStore::open(file, options)?;
    let mut declared: HashMap<String, Vec<String>> = HashMap::new();
    for (parent, dependent) in edges()? {
        declared.entry(parent.clone()).or_default();
        declared.entry(dependent).or_default().push(parent);
    }
    let one = Version::new(1, 0, 0);
    let digest = Digest::of(b"manifest");
    // In the order of a hash: as packages come, not as they are called.
    let packages: Vec<(String, Vec<String>)> = declared.into_iter().collect();
    for some in packages.chunks(2_000) {
        let (mut commits, mut projections) = (Vec::new(), Vec::new());
        for (name, parents) in some {
            let name = PackageName::parse(name)?;
            let edges = parents.iter().map(|parent| {
                Ok(Edge {
                    parent: PackageName::parse(parent)?,
                    range: "*".into(),
                })
            });
            let edges: Vec<Edge> = edges.collect::<Result<_, Error>>()?;
            for edge in &edges {
                let row = Dependent {
                    dependent: name.clone(),
                    top: one.clone(),
                    range: Some("*".into()),
                };
                let parent = edge.parent.clone();
                projections.push(Write::Projection(1, Projection::Dependent { parent, row }));
            }
            let mut commit = PackageCommit::at(&name, 0);
            commit.statics.stamp = Some(1);
            commit.statics.top = Some(Top {
                version: one.clone(),
                origin: None,
                edges,
            });
            commit.rows.push(RowWrite {
                facts: Some(facts(&digest)),
                ..RowWrite::new(RowKey::publish(&one), Expect::Nothing, 1)
            });
            commits.push(commit);
        }
        store.commit(commits).await?;
        store.write(projections).await?;
    }
    store.close().await?;
    eprintln!(
        "{} packages written in {:.1?}",
        packages.len(),
        began.elapsed()
    );
    Ok(())
}

fn facts(digest: &Digest) -> Facts {
    Facts {
        noticed: None,
        notice: None,
        digest: Some(digest.clone()),
        tag: None,
        origin: None,
        previous: None,
        tarball_of: None,
        stamp: 1,
        dropped: Some(Vec::new()),
        took_place: Vec::new(),
        with: None,
        attach: None,
        attach_stamp: 0,
    }
}

// ---- the floor ------------------------------------------------------------------------------------------------------

/// Who depends on whom, as plain numbers in one array.
struct Plain {
    ids: HashMap<String, u32>,
    starts: Vec<u32>,
    targets: Vec<u32>,
}

impl Plain {
    fn read() -> Result<Self, Error> {
        let edges = edges()?;
        let mut ids: HashMap<String, u32> = HashMap::new();
        let mut numbers = Vec::with_capacity(edges.len());
        for (parent, dependent) in edges {
            let mut id = |name: String| {
                let next = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                *ids.entry(name).or_insert(next)
            };
            numbers.push((id(parent), id(dependent)));
        }
        // The lines are sorted by dependency already, but numbers are not names.
        numbers.sort_unstable();
        let mut starts = vec![0; ids.len() + 1];
        for &(parent, _) in &numbers {
            starts[parent as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let targets = numbers
            .into_iter()
            .map(|(_, dependent)| dependent)
            .collect();
        Ok(Self {
            ids,
            starts,
            targets,
        })
    }

    /// The package, then all that follow from it.
    fn walk(&self, from: u32) -> Vec<u32> {
        let mut seen = vec![false; self.starts.len() - 1];
        let mut found = vec![from];
        seen[from as usize] = true;
        let mut at = 0;
        while at < found.len() {
            let one = found[at] as usize;
            at += 1;
            for &next in &self.targets[self.starts[one] as usize..self.starts[one + 1] as usize] {
                if !seen[next as usize] {
                    seen[next as usize] = true;
                    found.push(next);
                }
            }
        }
        found
    }
}

// ---- measuring ------------------------------------------------------------------------------------------------------

/// Milliseconds: the middle one, the least, the most.
struct Times(Vec<f64>);

impl Times {
    fn of(mut all: Vec<f64>) -> Self {
        all.drain(..WARM.min(all.len() - 1));
        all.sort_unstable_by(f64::total_cmp);
        Self(all)
    }

    fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (least, most) = (self.0[0], self.0[self.0.len() - 1]);
        write!(f, "{:.2} ms ({least:.2} to {most:.2})", self.median())
    }
}

fn since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// MB of this process that are in memory.
fn resident() -> Result<f64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.ok_or("no VmRSS")?.parse::<f64>()? * 1024.0 / 1e6)
}

async fn measure(file: &Path) -> Result<(), Error> {
    // As a service after a restart: the file, then the first question.
    let began = Instant::now();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(file, Options::default())?);
    let core = Core::new(
        Arc::clone(&store),
        Arc::new(Rules::default()),
        Clock::system(),
    );
    let lodash = PackageName::parse("lodash")?;
    let before = resident()?;
    let first = answer(&core, &lodash).await?;
    let ready = since(began);
    let with_graph = resident()?;
    assert_eq!(
        first.0, 87_984,
        "lodash has that many transitive dependents"
    );

    // Reading alone; the file is in the system's cache, as it is after a restart of the service.
    let mut reading = Vec::new();
    for _ in 0..7 {
        let began = Instant::now();
        let index = impact::read(&*store, Increment::Prerelease).await?;
        reading.push(since(began));
        black_box(&index);
    }
    let mut asking = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        black_box(answer(&core, &lodash).await?);
        asking.push(since(began));
    }

    let index = impact::read(&*store, Increment::Prerelease).await?;
    let plain = Plain::read()?;
    let (names, edges) = (index.names(), index.edges());
    println!(
        "{names} packages, {edges} edges, each `*`; medians of {}, (least to most)\n",
        RUNS - WARM
    );
    println!("| | graph in memory | plain walk | ratio |\n|---|---|---|---|");
    for name in ASKED {
        compare(&index, &plain, name)?;
    }
    println!("\n| | measured | target |\n|---|---|---|");
    println!(
        "| summary and first page for lodash, as the route asks | {} | 20 ms |",
        Times::of(asking)
    );
    println!(
        "| reading the graph from an SQLite file | {} | |",
        Times::of(reading)
    );
    println!("| opening the file, reading, first answer | {ready:.0} ms | 1,000 ms |");
    let bytes = (with_graph - before) * 1e6 / f64::from(u32::try_from(edges)?);
    println!(
        "| memory of the whole process, VmRSS after the first answer | {with_graph:.0} MB | 150 MB |"
    );
    println!(
        "| of that since before the question | {:.0} MB, {bytes:.0} bytes an edge | |",
        with_graph - before
    );
    store.close().await?;
    Ok(())
}

/// How many are reached; as the route asks, but for HTTP.
async fn answer(core: &Core, name: &PackageName) -> Result<(usize, usize), Error> {
    match impact(core, name, None, None, 50).await? {
        Answer::Impact(view) => Ok((view.counts.transitive, view.affected.items.len())),
        other => Err(format!("{other:?}").into()),
    }
}

fn compare(index: &Index, plain: &Plain, name: &str) -> Result<(), Error> {
    let package = PackageName::parse(name)?;
    let start = Start {
        package: &package,
        version: None,
    };
    let number = plain.ids[name];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut one, mut other) = (Vec::new(), Vec::new());
    // In turns, so that whatever else the machine does hits both.
    for _ in 0..RUNS {
        let began = Instant::now();
        one = black_box(index.set(black_box(&start)));
        ours.push(since(began));
        let began = Instant::now();
        other = black_box(plain.walk(black_box(number)));
        theirs.push(since(began));
    }
    let mut names: Vec<&str> = one
        .iter()
        .filter_map(|&one| index.name(one).map(PackageName::as_str))
        .collect();
    let by_number: HashMap<u32, &str> = plain.ids.iter().map(|(name, id)| (*id, &**name)).collect();
    let mut expected: Vec<&str> = other.iter().map(|one| by_number[one]).collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected, "{name}: not the same packages");
    let (ours, theirs) = (Times::of(ours), Times::of(theirs));
    println!(
        "| set of {name}: {} | {ours} | {theirs} | {:.2} (target: 5) |",
        one.len() - 1,
        ours.median() / theirs.median()
    );
    Ok(())
}
