//! The promises of design.md 4 under `kill -9`: what was acknowledged is processed, whatever is killed, at any instant.
//!
//! A client publishes versions of `root` one after the other and resends each until it is acknowledged. A hundred packages
//! depend on `root`, every tenth has a dependent of its own. Meanwhile the service is killed at random instants and
//! started again, while its neighbours live on, as they would. What they received is the truth that is compared.
//!
//! `FEEDSME_KILLS=100 cargo test --test it kill::random -- --nocapture` does the full count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use feedsme::ingest::{Clock, Core, Posted, accept};
use feedsme::model::document::Document;
use feedsme::plan::Rules;
use feedsme::sandbox::{Fault, FaultKind, Received, Role, Sandbox, SandboxOptions, Tarball};
use feedsme::store::sqlite::{Durability, Options, SqliteStore};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::document;
use crate::process::{Place, Program, client};

/// How many packages depend on root.
const DEPENDENTS: usize = 100;
/// Every so manieth of them has a dependent of its own.
const EVERY: usize = 10;
/// How many rebuilds one publish of root leads to.
const WAVE: usize = DEPENDENTS + DEPENDENTS / EVERY;
/// How many kills there are unless `FEEDSME_KILLS` says otherwise.
const KILLS: usize = 8;
/// How many rebuilds are sent at once: the default of `warehouse.concurrency`.
const AT_ONCE: usize = 20;

fn dependent(number: usize) -> String {
    format!("dependent-{number:03}")
}

fn second(number: usize) -> String {
    format!("@second/level-{number:03}")
}

/// A number below `below`.
fn random(below: u64) -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0 % below
}

/// The neighbours, the place where the service runs, and what was acknowledged.
struct World {
    sandbox: Sandbox,
    place: Place,
    client: reqwest::Client,
    _dir: TempDir,
}

/// A publish of root that was answered with 200.
struct Acknowledged {
    version: String,
    change: String,
    attempts: u32,
}

/// The version of root at this place in their order.
fn root_version(number: usize) -> String {
    format!("1.0.{number}")
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path());
        let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
        Self {
            sandbox,
            place,
            client: client(),
            _dir: dir,
        }
    }

    async fn run(&self) -> Program {
        self.place.run(&self.sandbox, &[]).await
    }

    /// Publishes root@1.0.0 and the dependents' first versions by hand.
    async fn populate(&self) {
        // Level by level: a package that comes before its parent is rebuilt when the parent comes.
        let soon = Duration::from_secs(30);
        self.publish("root", &root_version(0), json!({})).await;
        self.idle(soon).await;
        for number in 0..DEPENDENTS {
            self.publish(&dependent(number), "1.0.0", json!({"root": "^1.0.0"}))
                .await;
        }
        self.idle(soon).await;
        for number in (0..DEPENDENTS).step_by(EVERY) {
            let parents = json!({dependent(number): "^1.0.0"});
            self.publish(&second(number), "1.0.0", parents).await;
        }
        self.idle(soon).await;
        assert!(
            self.sandbox.requests().is_empty(),
            "nothing is to be rebuilt yet"
        );
        self.sandbox.report_to(&self.place.url);
    }

    async fn publish(&self, name: &str, version: &str, dependencies: Value) {
        let document = document(name, version, dependencies);
        self.sandbox
            .publish(document.clone(), &Tarball::Synthetic(2_000))
            .unwrap();
        let response = self.post("/change", &document).await.unwrap();
        assert!(response["ok"] == true, "{response}");
    }

    async fn post(&self, path: &str, body: &Value) -> Option<Value> {
        let response = self
            .client
            .post(format!("{}{path}", self.place.url))
            .json(body);
        let response = response.send().await.ok()?;
        let status = response.status();
        let body: Value = response.json().await.ok()?;
        // A service that is being killed may refuse; it never calls a good document bad.
        assert!(status != 400 && status != 404, "{path}: {body}");
        (status == 200).then_some(body)
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.place.url);
        let response = self.client.get(url).send().await.unwrap();
        let status = response.status();
        let body: Value = response.json().await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Publishes one version of root, as often as it takes.
    async fn publish_root(&self, number: usize) -> Acknowledged {
        let version = root_version(number);
        let body = json!({"data": document("root", &version, json!({})), "promote": true});
        let mut body = body;
        body["data"]["__published"] = json!(true);
        for attempts in 1.. {
            if let Some(answer) = self.post("/v2/change/dev", &body).await {
                let change = answer["id"].as_str().unwrap().to_owned();
                return Acknowledged {
                    version,
                    change,
                    attempts,
                };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("attempts do not end")
    }

    /// How much there is to do; None while nobody answers.
    async fn backlog(&self) -> Option<u64> {
        let response = self.client.get(format!("{}/status", self.place.url));
        let status: Value = response.send().await.ok()?.json().await.ok()?;
        ["planning", "waiting", "sending"]
            .iter()
            .map(|key| status[*key].as_u64())
            .sum()
    }

    async fn idle(&self, within: Duration) {
        let give_up = Instant::now() + within;
        while self.backlog().await != Some(0) {
            assert!(
                Instant::now() < give_up,
                "never idle:\n{}",
                self.place.last_words()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all is done: nothing to do here, and every publish that the warehouse took was noticed. A notice that
    /// the build service gave up after six attempts, because the service was down at each of them, was never
    /// acknowledged; it is sent again here, as the build service's operator would. Returns how many there were.
    async fn settled(&self, within: Duration) -> usize {
        let give_up = Instant::now() + within;
        let mut by_hand: BTreeSet<Release> = BTreeSet::new();
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let late = Instant::now() > give_up;
            let backlog = self.backlog().await;
            assert!(
                !late || backlog == Some(0),
                "not done ({backlog:?}):\n{}",
                self.place.last_words()
            );
            if backlog != Some(0) {
                continue;
            }
            let requests = self.sandbox.requests();
            let missing: Vec<Missing> = unnoticed(&requests)
                .into_iter()
                .filter(|one| !by_hand.contains(&one.release))
                .collect();
            if missing.is_empty() && self.backlog().await == Some(0) {
                return by_hand.len();
            }
            assert!(!late, "no notice of {missing:#?}");
            for one in missing {
                let Some(document) = one.given_up else {
                    continue;
                };
                let body = json!({"data": document, "promote": true});
                assert!(self.post("/v2/change/dev", &body).await.is_some());
                by_hand.insert(one.release);
            }
        }
    }
}

/// A package and a version.
type Release = (String, String);

fn release(of: &Received) -> Release {
    (of.package.clone().unwrap(), of.version.clone().unwrap())
}

/// A publish whose notice was not accepted yet.
#[derive(Debug)]
struct Missing {
    release: Release,
    /// The notice's document, if the build service has given up.
    given_up: Option<Value>,
}

fn is_published(of: &Received) -> bool {
    of.role == Role::Warehouse && of.status == Some(201)
}

fn unnoticed(requests: &[Received]) -> Vec<Missing> {
    let notices = || requests.iter().filter(|one| one.role == Role::Notice);
    let accepted: BTreeSet<Release> = notices()
        .filter(|one| one.outcome == "accepted")
        .map(release)
        .collect();
    let given_up: BTreeMap<Release, &Received> = notices()
        .filter(|one| one.attempt == 6 && one.finished.is_some())
        .map(|one| (release(one), one))
        .collect();
    let missing = |release: Release| {
        let given_up = given_up.get(&release).and_then(|one| one.document.clone());
        Missing { release, given_up }
    };
    requests
        .iter()
        .filter(|one| is_published(one))
        .map(release)
        .filter(|release| !accepted.contains(release))
        .map(missing)
        .collect()
}

/// What a kill found.
struct Kill {
    /// The rebuilds that were being sent: claimed, and no result written.
    in_flight: BTreeSet<String>,
}

/// What was being sent when the process died, as its store says.
fn in_flight(store: &Path) -> BTreeSet<String> {
    let db = rusqlite::Connection::open(store).unwrap();
    let sql = "SELECT rebuild FROM pkg_row WHERE rebuild IS NOT NULL AND state = 'sending' AND NOT EXISTS \
               (SELECT 1 FROM attempt WHERE attempt.rebuild = pkg_row.rebuild AND attempt.number = pkg_row.attempt)";
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The neighbours' side: who was asked for what, how often. Returns (rebuilds, requests that repeated one).
fn check_record(requests: &[Received], kills: &[Kill]) -> (usize, usize) {
    let mut by_rebuild: BTreeMap<&str, Vec<&Received>> = BTreeMap::new();
    let mut by_release: BTreeMap<Release, BTreeSet<&str>> = BTreeMap::new();
    for one in requests.iter().filter(|one| one.role == Role::Warehouse) {
        let id = one
            .idempotency_key
            .as_deref()
            .expect("every rebuild has an id");
        by_rebuild.entry(id).or_default().push(one);
        // A request that was cut short before its document was read names no version.
        if one.version.is_some() {
            by_release.entry(release(one)).or_default().insert(id);
        }
    }
    for (release, ids) in &by_release {
        assert_eq!(ids.len(), 1, "{release:?} was given out twice: {ids:?}");
    }
    let mut repeats = 0;
    for (id, sends) in &by_rebuild {
        let releases: BTreeSet<Release> = sends
            .iter()
            .filter(|one| one.version.is_some())
            .map(|one| release(one))
            .collect();
        assert_eq!(releases.len(), 1, "{id} changed its version: {releases:?}");
        let published = sends.iter().filter(|one| is_published(one)).count();
        assert_eq!(published, 1, "{id} is published once: {releases:?}");
        let explained = kills
            .iter()
            .filter(|kill| kill.in_flight.contains(*id))
            .count();
        assert!(
            sends.len() <= 1 + explained,
            "{releases:?} was sent {} times, and {explained} kills found it being sent",
            sends.len()
        );
        repeats += sends.len() - 1;
    }
    for one in requests.iter().filter(|one| one.role == Role::Notice) {
        // A connection that is refused or breaks is what a kill looks like; an answer is always a good one.
        assert!(
            matches!(one.status, None | Some(200)),
            "a notice was refused: {}",
            one.summary()
        );
    }
    for (number, kill) in kills.iter().enumerate() {
        // A slot is given back when the neighbour has answered; the write of that may still be under way.
        assert!(
            kill.in_flight.len() <= 2 * AT_ONCE,
            "kill {number}: {} were being sent",
            kill.in_flight.len()
        );
    }
    (by_rebuild.len(), repeats)
}

/// The service's side: every acknowledged change with its rebuilds and its release line.
async fn check_answers(world: &World, acknowledged: &[Acknowledged]) {
    let published: BTreeSet<Release> = world
        .sandbox
        .requests()
        .iter()
        .filter(|one| is_published(one))
        .map(release)
        .collect();
    assert_eq!(
        published.len(),
        acknowledged.len() * WAVE,
        "each acknowledged publish of root leads to {WAVE} rebuilds"
    );
    let mut given: BTreeSet<Release> = BTreeSet::new();
    for (number, one) in acknowledged.iter().enumerate() {
        let change = world
            .get(&format!("/changes/{}?limit=500", one.change))
            .await;
        assert_eq!(change["version"], json!(one.version));
        assert!(!change["planned"].is_null(), "{}: {change}", one.version);
        let decisions = change["decisions"]["items"].as_array().unwrap();
        let rebuilt: BTreeMap<String, &Value> = decisions
            .iter()
            .map(|one| (one["dependent"].as_str().unwrap().to_owned(), one))
            .collect();
        let line = world
            .get(&format!("/release-line/root/{}", one.version))
            .await;
        assert_eq!(
            line["previousVersion"],
            json!(root_version(number)),
            "{line}"
        );
        let all: Vec<String> = (0..DEPENDENTS).map(dependent).collect();
        assert_eq!(rebuilt.keys().cloned().collect::<Vec<_>>(), all);
        assert_eq!(line["dependents"].as_object().unwrap().len(), DEPENDENTS);
        for (number, name) in all.into_iter().enumerate() {
            let decision = rebuilt[&name];
            let version = decision["version"].as_str().unwrap().to_owned();
            assert_eq!(decision["rebuild"]["state"], "published", "{decision:#}");
            assert_eq!(line["dependents"][&name], json!(version), "{decision:#}");
            if number % EVERY == 0 {
                let above = world.get(&format!("/release-line/{name}/{version}")).await;
                let version = above["dependents"][second(number)]
                    .as_str()
                    .unwrap_or_else(|| panic!("{} is not in {above}", second(number)));
                given.insert((second(number), version.to_owned()));
            }
            given.insert((name, version));
        }
    }
    assert_eq!(
        given, published,
        "the lines name what was published, each once"
    );
}

/// Publishes versions of root until it is told to stop, never with more than three waves to do.
async fn publish_roots(world: Arc<World>, stop: Arc<AtomicBool>) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        acknowledged.push(world.publish_root(acknowledged.len() + 1).await);
        tokio::time::sleep(Duration::from_millis(random(600))).await;
        while !stop.load(Ordering::Relaxed)
            && world
                .backlog()
                .await
                .is_none_or(|left| left > 2 * WAVE as u64)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    acknowledged
}

fn kills_wanted() -> usize {
    std::env::var("FEEDSME_KILLS").map_or(KILLS, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_lose_nothing_and_repeat_only_what_was_being_sent() {
    let wanted = kills_wanted();
    let world = Arc::new(World::new().await);
    let mut program = world.run().await;
    world.populate().await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(publish_roots(world.clone(), stop.clone()));
    let mut kills = Vec::new();
    while kills.len() < wanted && !publishing.is_finished() {
        // Also while it starts up: it has left something half done before.
        let pause = Duration::from_millis(random(1_500));
        tokio::time::sleep(pause).await;
        program.kill();
        kills.push(Kill {
            in_flight: in_flight(&world.place.store),
        });
        program = world.place.start(&world.sandbox, &[]);
        if random(4) > 0 {
            program.ready(&world.place.url).await;
        }
    }
    program.ready(&world.place.url).await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = publishing.await.unwrap();
    let within = Duration::from_mins(1) + Duration::from_secs(1) * u32::try_from(wanted).unwrap();
    let by_hand = world.settled(within).await;
    let (rebuilds, repeats) = check_record(&world.sandbox.requests(), &kills);
    check_answers(&world, &acknowledged).await;
    let found: usize = kills.iter().map(|kill| kill.in_flight.len()).sum();
    let again: u32 = acknowledged.iter().map(|one| one.attempts - 1).sum();
    println!(
        "{} kills found {found} rebuilds being sent; {repeats} of them reached the neighbour twice\n\
         {} publishes of root, resent {again} times until acknowledged; {rebuilds} rebuilds, each published once\n\
         {by_hand} notices were given up by the build service and sent again by hand",
        kills.len(),
        acknowledged.len(),
    );
    drop(program);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_ends_well_and_repeats_nothing() {
    let world = World::new().await;
    let program = world.run().await;
    world.populate().await;
    // Every publish takes a while, so that the stop finds some under way.
    world
        .sandbox
        .fail(Fault::always(Role::Warehouse, FaultKind::Slow { ms: 300 }));
    let first = world.publish_root(1).await;
    let sent = |some: usize| {
        move |requests: &[Received]| {
            let to_warehouse = requests.iter().filter(|one| one.role == Role::Warehouse);
            to_warehouse.count() >= some
        }
    };
    let soon = Duration::from_secs(20);
    world.sandbox.wait_for(sent(30), soon).await.unwrap();
    let second = world.publish_root(2).await;
    let status = program.terminate(soon).await;
    assert_eq!(status.code(), Some(0), "{}", world.place.last_words());
    let stopped = world.sandbox.requests();
    let count = |requests: &[Received]| {
        let to_warehouse = requests.iter().filter(|one| one.role == Role::Warehouse);
        to_warehouse.count()
    };
    assert!(count(&stopped) < 2 * WAVE, "the stop came in the middle");
    assert!(
        in_flight(&world.place.store).is_empty(),
        "what was under way was waited for"
    );

    world.sandbox.clear_faults();
    let program = world.run().await;
    world.settled(Duration::from_mins(1)).await;
    let (rebuilds, repeats) = check_record(&world.sandbox.requests(), &[]);
    assert_eq!((rebuilds, repeats), (2 * WAVE, 0));
    check_answers(&world, &[first, second]).await;
    drop(program);
}

/// A crash between acceptance and planning must not turn releases around: the last one is the head, as if nothing had been.
#[tokio::test]
async fn what_was_accepted_before_a_crash_is_planned_in_the_order_of_acceptance() {
    let world = World::new().await;
    let count = 24;
    accepted_only(&world.place.store, count).await;
    let program = world.run().await;
    world.idle(Duration::from_secs(20)).await;
    for number in 1..count {
        let line = world
            .get(&format!("/release-line/root/{}", root_version(number)))
            .await;
        assert_eq!(line["previousVersion"], json!(root_version(number - 1)));
    }
    let head = world.get("/release-line/root").await;
    assert_eq!(head["version"], json!(root_version(count - 1)));
    drop(program);
}

/// A store in which versions of root were accepted, a millisecond after one another, and nothing else was done.
async fn accepted_only(store: &Path, count: usize) {
    let options = Options {
        durability: Durability::Off,
        readers: 1,
    };
    let store = Arc::new(SqliteStore::open(store, options).unwrap());
    let tick = Arc::new(AtomicI64::new(1_700_000_000_000));
    let clock = Clock::new(move || tick.fetch_add(1, Ordering::Relaxed));
    let core = Core::new(store.clone(), Arc::new(Rules::default()), clock);
    for number in 0..count {
        let json = document("root", &root_version(number), json!({})).to_string();
        let posted = Posted {
            document: Document::parse(json.as_bytes()).unwrap(),
            env: None,
            promote: true,
            key: None,
        };
        accept(&core, &posted).await.unwrap();
    }
    feedsme::store::Store::close(&*store).await.unwrap();
}

#[tokio::test]
async fn a_second_process_on_the_same_file_is_refused_also_through_a_link() {
    let world = World::new().await;
    let first = world.run().await;
    let dir = tempfile::tempdir().unwrap();
    let other = Place::new(dir.path());
    std::os::unix::fs::symlink(&world.place.store, &other.store).unwrap();
    let second = other.start(&world.sandbox, &[]);
    let ended = second.ended(Duration::from_secs(30)).await;
    assert_eq!(ended.code(), Some(2), "{}", other.last_words());
    assert!(
        other.last_words().contains("in use by another feedsme"),
        "{}",
        other.last_words()
    );
    first.kill();
    other.run(&world.sandbox, &[]).await.kill();
}
