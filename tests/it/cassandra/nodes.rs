//! Three nodes, replication 3, and what happens when they go away: killed under load, and stopped in the middle of
//! conditional writes (H9).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use feedsme::model::id::WaveId;
use feedsme::model::name::PackageName;
use feedsme::sandbox::{Role, Sandbox, SandboxOptions, Tarball};
use feedsme::semver::Version;
use feedsme::store::cassandra::{CassandraStore, migrate};
use feedsme::store::{Committed, PackageCommit, Store, StoreErrorKind, Want};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::waves::Race;
use crate::helpers::document;
use crate::places::{RUNTIME, fresh_keyspace, options};
use crate::process::{Place, client};

/// One test, because a cluster takes half a minute to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_of_which_some_go_away() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(&["--nodes", "3"]))
        .await
        .unwrap();
    let mut options = options(&fresh_keyspace());
    options.hosts.clone_from(&cluster.nodes);
    let store = RUNTIME
        .spawn({
            let options = options.clone();
            async move {
                migrate(&options, &"3".parse().unwrap()).await.unwrap();
                CassandraStore::open(&options).await.unwrap()
            }
        })
        .await
        .unwrap();

    let race = Race::start(&store);
    h9_every_answer_is_true_while_nodes_stand_still(&cluster, &store).await;
    race.end(&store).await;
    one_killed_under_load_then_two(&cluster, &options.keyspace).await;
}

/// Conditional batches race on a few packages while two of three nodes are stopped for longer than a coordinator waits.
/// A batch that was said to be applied was, once; one that was said to be refused was not.
async fn h9_every_answer_is_true_while_nodes_stand_still(
    cluster: &Cluster,
    store: &CassandraStore,
) {
    const PACKAGES: usize = 4;
    let applied: Arc<Vec<AtomicU64>> = Arc::new((0..PACKAGES).map(|_| AtomicU64::new(0)).collect());
    let unknown: Arc<Vec<AtomicU64>> = Arc::new((0..PACKAGES).map(|_| AtomicU64::new(0)).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..2 * PACKAGES {
        let (store, stop) = (store.clone(), stop.clone());
        let (applied, unknown) = (applied.clone(), unknown.clone());
        tasks.spawn(async move {
            let at = task % PACKAGES;
            let name = PackageName::parse(&format!("h9-{at}")).unwrap();
            let mut own = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let Ok(states) = store.packages(&[Want::statics(&name)]).await else {
                    continue;
                };
                let mut commit = PackageCommit::at(&name, states[0].seq);
                // A trace of every batch: a wave that nobody else opens.
                let wave = WaveId::new(format!("w-{task}-{own}"));
                let version = Version::parse("1.0.0").unwrap();
                commit.statics.open.insert(wave, version);
                match store.commit(vec![commit]).await {
                    Ok(answers) if answers[0] == Committed::Applied => {
                        applied[at].fetch_add(1, Ordering::Relaxed);
                        own += 1;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        assert_ne!(error.kind, StoreErrorKind::Bug, "{error}");
                        unknown[at].fetch_add(1, Ordering::Relaxed);
                        own += 1;
                    }
                }
            }
        });
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.tell("pause", 2);
        cluster.tell("pause", 3);
        tokio::time::sleep(Duration::from_secs(7)).await;
        cluster.tell("resume", 2);
        cluster.tell("resume", 3);
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    for at in 0..PACKAGES {
        let name = PackageName::parse(&format!("h9-{at}")).unwrap();
        let mut want = Want::statics(&name);
        want.open = feedsme::store::WantOpen::All;
        let state = store.packages(&[want]).await.unwrap().pop().unwrap();
        let said = applied[at].load(Ordering::Relaxed);
        let unsaid = unknown[at].load(Ordering::Relaxed);
        assert!(said > 0, "{name}: nothing was applied");
        assert!(
            (said..=said + unsaid).contains(&state.seq),
            "{name}: {said} were applied, of {unsaid} it is not known, and seq is {}",
            state.seq
        );
        assert_eq!(state.open.len(), usize::try_from(state.seq).unwrap());
    }
}

/// One of three nodes dies under load: no request fails. Two die: 503 with `Retry-After`, and after they are back
/// everything that was answered is done.
async fn one_killed_under_load_then_two(cluster: &Cluster, keyspace: &str) {
    const DEPENDENTS: usize = 10;
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(dir.path());
    place.store_setting = format!("cassandra://{}/{keyspace}", cluster.nodes.join(","));
    let _program = place.run(&sandbox, &[("replica-ttl", "5s")]).await;
    let client = client();
    let post = async |name: &str, version: &str, parents: Value| {
        let document = document(name, version, parents);
        let url = format!("{}/change", place.url);
        let answer = client.post(url).json(&document).send().await.unwrap();
        let status = answer.status().as_u16();
        let retry = answer.headers().contains_key("retry-after");
        let answer: Value = answer.json().await.unwrap();
        (status, retry, answer)
    };
    let by_hand = async |name: &str, version: &str, parents: Value| {
        let document = document(name, version, parents.clone());
        sandbox
            .publish(document, &Tarball::Synthetic(1_000))
            .unwrap();
        let (status, _, answer) = post(name, version, parents).await;
        assert_eq!(status, 200, "{answer}");
    };
    by_hand("root", "1.0.0", json!({})).await;
    // A root that is planned after its dependents came rebuilds them.
    let url = format!("{}/release-line/root", place.url);
    while client.get(&url).send().await.unwrap().status() != 200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 0..DEPENDENTS {
        by_hand(
            &format!("dependent-{number}"),
            "1.0.0",
            json!({"root": "^1.0.0"}),
        )
        .await;
    }

    // One that is planned after the root's next version was built with that, and need not be rebuilt for it.
    let url = format!("{}/status", place.url);
    loop {
        let status: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
        if status["idle"] == true {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let begun = Instant::now();
    let mut killed = false;
    for number in 0..20 {
        if number == 5 {
            cluster.tell("kill", 3);
            killed = true;
        }
        let (status, _, answer) = post("root", &format!("1.0.{}", number + 1), json!({})).await;
        assert_eq!(status, 200, "after {:?}: {answer}", begun.elapsed());
    }
    assert!(killed);
    let sent = || {
        let mut sent: Vec<(String, String)> = sandbox
            .requests()
            .into_iter()
            .filter(|one| one.role == Role::Warehouse)
            .filter_map(|one| Some((one.package?, one.version?)))
            .collect();
        sent.sort();
        let all = sent.len();
        sent.dedup();
        (sent.len(), all)
    };
    let complete = async |publishes: usize| {
        let give_up = Instant::now() + Duration::from_mins(4);
        while sent().0 < DEPENDENTS * publishes {
            if Instant::now() > give_up {
                let read = async |path: &str| {
                    let answer = client.get(format!("{}{path}", place.url)).send().await;
                    answer.unwrap().text().await.unwrap()
                };
                let mut told = read("/status").await;
                for number in 1..=publishes {
                    let root = format!("root@1.0.{number}");
                    for dependent in 0..DEPENDENTS {
                        let why = read(&format!("/why/dependent-{dependent}?root={root}")).await;
                        let sent = why.contains("is done:") || why.contains("was sent");
                        if !sent {
                            told = format!("{told}\n{root}: {why}");
                        }
                    }
                }
                panic!(
                    "{:?} of {} went out:\n{told}\n{}",
                    sent(),
                    DEPENDENTS * publishes,
                    place.last_words()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    complete(20).await;

    cluster.tell("kill", 2);
    let mut refused = false;
    let give_up = Instant::now() + Duration::from_mins(1);
    let mut answered = 20;
    while !refused {
        assert!(
            Instant::now() < give_up,
            "two of three are dead, and it answers"
        );
        let (status, retry, answer) =
            post("root", &format!("1.0.{}", answered + 1), json!({})).await;
        match status {
            200 => answered += 1,
            503 => {
                assert!(retry, "{answer}");
                refused = true;
            }
            other => panic!("{other}: {answer}"),
        }
    }
    cluster.tell("restart", 2);
    cluster.tell("restart", 3);
    let give_up = Instant::now() + Duration::from_mins(1);
    loop {
        let (status, _, answer) = post("root", &format!("1.0.{}", answered + 1), json!({})).await;
        if status == 200 {
            answered += 1;
            break;
        }
        assert!(
            status == 503 && Instant::now() < give_up,
            "{status}: {answer}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    complete(answered).await;
    let (different, all) = sent();
    assert_eq!(different, DEPENDENTS * answered);
    assert!(
        all - different <= 20,
        "{all} requests for {different} versions"
    );
}
