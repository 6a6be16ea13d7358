//! The 25 hazards of the Node software (contract.md 5), each shown not to be ours.
//!
//! | hazard | what could not be shown as it happened there |
//! |---|---|
//! | 10 | there are no Version rows here: a notice carries the document, so one that is known can be sent; shown is the race that it stood for |
//! | 12, 13 | attributes that DynamoDB lacks do not exist here; shown is the same history, with the same missing fields |
//! | 18 | a lookup that fails is provoked by locking the database; which of the lookups it strikes is not chosen |
//! | 24 | an error event on a stream that stays open needs a build service that lies; shown is the silent one (the other: `neighbours/`) |

use std::time::Duration;

use super::stage::{Stage, doc, id_of, on, outcomes, text};
use feedsme::sandbox::{Fault, FaultKind, Role};
use serde_json::{Value, json};

/// root and child at 5 and 6, as in the sequence of contract.md 4.1.
async fn two_majors(stage: &Stage) {
    for (version, range) in [("5.0.0", "^5.0.0"), ("6.0.0", "^6.0.0")] {
        stage.publish("root", version, json!({})).await;
        stage.publish("child", version, on("root", range)).await;
    }
    stage.news();
}

/// Everything in the record of what was sent reads like a version.
fn nothing_undefined(stage: &Stage) {
    for sent in stage.sandbox.requests() {
        let text = sent.document.unwrap_or_default().to_string();
        for word in [
            "undefined",
            "child-null",
            "\"latest\":null",
            "\"latest\": null",
        ] {
            assert!(!text.contains(word), "{text}");
        }
    }
}

#[tokio::test]
async fn hazard_1_dependents_that_are_not_in_the_line_are_not_built() {
    let stage = Stage::new().await;
    two_majors(&stage).await;
    stage.publish("late", "1.0.0", on("root", "^6.0.0")).await;
    let id = stage.promote("root", "5.0.0", "test").await;
    stage
        .decided(
            &id,
            &[
                ("child", "rebuild 5.0.0 in_release_line"),
                ("late", "skip not_in_release_line"),
            ],
        )
        .await;
    assert_eq!(stage.taken(), ["build child@5.0.0 test"]);
    nothing_undefined(&stage);
    stage.end().await;
}

#[tokio::test]
async fn hazard_2_a_second_publish_of_an_older_major_finds_its_base() {
    let stage = Stage::new().await;
    two_majors(&stage).await;
    stage.publish("root", "5.3.0", json!({})).await;
    stage.publish("root", "5.3.1", json!({})).await;
    assert_eq!(
        stage.news(),
        ["publish child@5.0.1-0", "publish child@5.0.1-1"]
    );
    assert_eq!(
        stage.goes_with("root", "5.3.1").await,
        json!({"child": "5.0.1-1"})
    );
    stage.end().await;
}

#[tokio::test]
async fn hazard_3_without_a_base_nothing_is_published() {
    let stage = Stage::new().await;
    stage.publish("root", "5.0.0", json!({})).await;
    stage.publish("root", "6.0.0", json!({})).await;
    stage.publish("child", "6.0.0", on("root", "^6.0.0")).await;
    let id = stage.publish("root", "5.1.0", json!({})).await;
    stage.decided(&id, &[("child", "skip out_of_range")]).await;
    let mut data = doc("root", "5.1.0", &json!({}));
    data["env"] = json!("dev");
    let id = stage.change("/v2/change/dev", &json!({"data": data})).await;
    stage
        .decided(&id, &[("child", "skip not_in_release_line")])
        .await;
    assert_eq!(stage.taken(), [""; 0]);
    nothing_undefined(&stage);
    stage.end().await;
}

#[tokio::test]
async fn hazard_4_versions_of_the_registry_without_a_line_do_no_harm() {
    let stage = Stage::new().await;
    stage.publish("root", "0.1.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^0.1.0")).await;
    for version in ["0.9.0", "0.1.9-beta.1"] {
        stage.in_registry("root", version);
    }
    stage.import(&doc("root", "0.8.0", &json!({}))).await;
    for (root, child) in [("0.1.1", "1.0.1-0"), ("0.1.2", "1.0.1-1")] {
        stage.publish("root", root, json!({})).await;
        assert_eq!(stage.goes_with("root", root).await, json!({"child": child}));
    }
    // The notice of a first publish, again.
    let id = stage.notice(doc("root", "0.1.0", &json!({}))).await;
    assert_eq!(id, id_of(&doc("root", "0.1.0", &json!({}))));
    stage.end().await;
}

#[tokio::test]
async fn hazard_5_a_range_that_excludes_is_not_ignored_and_promoted_lines_stay() {
    let stage = Stage::new().await;
    stage.publish("root", "5.0.0", json!({})).await;
    for (name, range) in [("exact", "5.0.0"), ("tilde", "~5.0.0"), ("drops", "^5.0.0")] {
        stage.publish(name, "1.0.0", on("root", range)).await;
    }
    stage.publish("drops", "1.1.0", json!({})).await;
    stage.promote("root", "5.0.0", "prod").await;
    stage.news();
    let before = stage.line("root", "5.0.0").await;
    let id = stage.publish("root", "5.1.0", json!({})).await;
    stage
        .decided(
            &id,
            &[
                ("drops", "skip no_longer_depends"),
                ("exact", "skip out_of_range"),
                ("tilde", "skip out_of_range"),
            ],
        )
        .await;
    assert_eq!(stage.news(), [""; 0]);
    assert_eq!(stage.line("root", "5.0.0").await, before);
    stage.end().await;
}

#[tokio::test]
async fn hazard_6_the_base_is_not_one_major_too_old() {
    let stage = Stage::new().await;
    stage.publish("root", "4.0.0", json!({})).await;
    stage.publish("child", "4.0.0", on("root", "^4.0.0")).await;
    two_majors(&stage).await;
    stage.publish("root", "5.1.0", json!({})).await;
    assert_eq!(stage.news(), ["publish child@5.0.1-0"]);
    assert_eq!(stage.version("child", "5.0.1-0").await["origin"], "5.0.0");
    stage.end().await;
}

#[tokio::test]
async fn hazard_7_neither_replays_nor_concurrent_publishes_bend_the_chain() {
    let stage = Stage::new().await;
    stage.publish("child", "1.0.0", on("root", "^9.0.0")).await;
    let versions: Vec<String> = (0..12).map(|patch| format!("5.2.{patch}")).collect();
    let posts = versions.iter().map(|version| {
        let mut document = doc("root", version, &json!({}));
        document["__published"] = json!(true);
        let stage = &stage;
        async move {
            stage
                .change("/v2/change/dev", &json!({"data": document}))
                .await
        }
    });
    futures_util::future::join_all(posts).await;
    let chain = stage.chain("root").await;
    assert_eq!(chain.len(), 12, "nobody leaves the chain: {chain:?}");
    for version in &versions {
        stage.notice(doc("root", version, &json!({}))).await;
    }
    assert_eq!(stage.chain("root").await, chain);
    // The walk that never ended there: a range that no line satisfies.
    stage.publish("child", "1.0.1", on("root", "^9.0.0")).await;
    stage.end().await;
}

#[tokio::test]
async fn hazard_8_one_failing_dependent_fails_nothing_else_and_repeats_nothing() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    for name in ["bad", "good", "well"] {
        stage.publish(name, "5.0.0", on("root", "^1.0.0")).await;
    }
    stage.news();
    stage
        .sandbox
        .fail(Fault::always(Role::Warehouse, FaultKind::status(400)).of("bad"));
    let id = stage.publish("root", "1.0.1", json!({})).await;
    for _ in 0..5 {
        // The client's retries.
        assert_eq!(stage.notice(doc("root", "1.0.1", &json!({}))).await, id);
    }
    stage.quiet().await;
    let mut taken = stage.taken();
    taken.sort();
    assert_eq!(taken, ["publish good@5.0.1-0", "publish well@5.0.1-0"]);
    stage.rebuild_is(&id, "bad", "dead").await;
    stage.end().await;
}

#[tokio::test]
async fn hazard_9_errors_of_the_build_service_are_seen_and_the_change_is_answered() {
    let stage = Stage::without_warehouse().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    stage.news();
    for kind in [
        FaultKind::FinalError {
            message: "queueing failed".into(),
        },
        FaultKind::EmptyStream,
    ] {
        stage
            .sandbox
            .fail(Fault::once(Role::Build, kind).of("child"));
    }
    let mut body = doc("root", "1.0.1", &json!({}));
    body["__published"] = json!(true);
    let began = tokio::time::Instant::now();
    let (status, answer) = stage.post("/v2/change/dev", &json!({"data": body})).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)));
    assert!(began.elapsed() < Duration::from_secs(1));
    let id = answer["id"].as_str().unwrap();
    let rebuild = stage.rebuild_is(id, "child", "published").await;
    assert_eq!(outcomes(&rebuild), ["retry", "retry", "sent"]);
    let message = rebuild["attempts"][0]["message"].as_str().unwrap();
    assert!(message.contains("queueing failed"), "{message}");
    stage.end().await;
}

#[tokio::test]
async fn hazard_10_a_child_published_a_moment_ago_is_seen() {
    let stage = Stage::new().await;
    for round in 0..10 {
        let (root, child) = (format!("root{round}"), format!("child{round}"));
        stage
            .change("/change", &doc(&root, "1.0.0", &json!({})))
            .await;
        stage.in_registry(&child, "5.0.0");
        let (one, other) = (
            doc(&root, "1.0.1", &json!({})),
            doc(&child, "5.0.0", &on(&root, "^1.0.0")),
        );
        tokio::join!(
            stage.change("/change", &one),
            stage.change("/change", &other)
        );
        stage.quiet().await;
        let line = stage.goes_with(&root, "1.0.1").await;
        assert!(
            line == json!({child.as_str(): "5.0.0"}) || line == json!({child.as_str(): "5.0.1-0"}),
            "attached or rebuilt: {line}"
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn hazard_11_no_dependencies_and_other_tags_are_accepted_at_once() {
    let stage = Stage::new().await;
    let mut bare = doc("a", "1.0.0", &json!({}));
    bare["versions"]["1.0.0"] = json!({"name": "a", "version": "1.0.0"});
    stage.publish_document(bare).await;
    let notices = stage.received(&[Role::Notice]);
    assert_eq!(notices.len(), 1, "not sent six times");
    assert_eq!(notices[0].status, Some(200));
    let mut tagged = doc("a", "2.0.0", &json!({}));
    tagged["dist-tags"] = json!({"beta": "2.0.0"});
    let id = stage.notice(tagged).await;
    assert_eq!(stage.verdict(&id).await, "tagged");
    stage.end().await;
}

#[tokio::test]
async fn hazard_12_missing_fields_of_a_dependent_do_no_harm() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    for (version, dependencies) in [("1.1.0", Some(Value::Null)), ("1.2.0", None)] {
        let mut document = doc("child", version, &json!({}));
        document["distTags"] = Value::Null;
        let manifest = document["versions"][version].as_object_mut().unwrap();
        manifest.shift_remove("dependencies");
        if let Some(dependencies) = dependencies {
            manifest.insert("dependencies".into(), dependencies);
        }
        stage.in_registry("child", version);
        stage.notice(document).await;
    }
    let id = stage.publish("root", "1.0.1", json!({})).await;
    stage
        .decided(&id, &[("child", "skip no_longer_depends")])
        .await;
    stage.end().await;
}

#[tokio::test]
async fn hazard_13_a_second_dependent_is_added() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    for name in ["a", "b", "c"] {
        stage.publish(name, "1.0.0", on("root", "^1.0.0")).await;
    }
    stage.publish("root", "1.0.1", json!({})).await;
    assert_eq!(stage.taken().len(), 3);
    stage.end().await;
}

#[tokio::test]
async fn hazard_14_first_dependents_at_once_are_all_recorded() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    let names: Vec<String> = (0..20).map(|at| format!("c{at:02}")).collect();
    let posts = names.iter().map(|name| {
        let stage = &stage;
        async move {
            let document = doc(name, "1.0.0", &on("root", "^1.0.0"));
            stage.change("/change", &document).await
        }
    });
    futures_util::future::join_all(posts).await;
    let page = stage.read("/packages/root/dependents").await;
    let found: Vec<&str> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(found, names);
    let line = stage.goes_with("root", "1.0.0").await;
    assert_eq!(line.as_object().unwrap().len(), 20);
    // And one that does not depend any more is removed.
    stage.publish("c00", "1.1.0", json!({})).await;
    let page = stage.read("/packages/root/dependents").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 19);
    stage.end().await;
}

#[tokio::test]
async fn hazard_15_every_managed_parents_line_gets_the_dependent() {
    let stage = Stage::new().await;
    for name in ["a", "b"] {
        stage.publish(name, "1.0.0", json!({})).await;
    }
    let deps = json!({"b": "^1.0.0", "a": "^1.0.0"});
    stage.publish("child", "1.0.0", deps).await;
    for name in ["a", "b"] {
        assert_eq!(
            stage.goes_with(name, "1.0.0").await,
            json!({"child": "1.0.0"})
        );
    }
    for (name, version) in [("a", "1.0.1-0"), ("b", "1.0.1-1")] {
        stage.publish(name, "1.0.1", json!({})).await;
        assert_eq!(
            stage.goes_with(name, "1.0.1").await,
            json!({"child": version})
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn hazard_16_the_line_that_caused_it_and_ranges_called_latest_and_prereleases() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0-rc.1", json!({})).await;
    for (name, range) in [("latest", "latest"), ("rc", "^1.0.0-rc.0")] {
        stage.publish(name, "1.0.0", on("root", range)).await;
    }
    assert_eq!(
        stage.goes_with("root", "1.0.0-rc.1").await,
        json!({"rc": "1.0.0"})
    );
    stage.hold_notices("latest", 1);
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("root", "1.1.0", json!({})).await;
    stage.redeliver("latest", "1.0.1-0").await;
    stage.quiet().await;
    for (version, made) in [("1.0.0", "1.0.1-0"), ("1.1.0", "1.0.1-1")] {
        assert_eq!(
            stage.goes_with("root", version).await,
            json!({"latest": made, "rc": made})
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn hazard_17_a_dev_change_without_published_makes_no_version() {
    let stage = Stage::new().await;
    two_majors(&stage).await;
    let mut data = doc("root", "6.0.0", &json!({}));
    data["env"] = json!("dev");
    stage.change("/v2/change/dev", &json!({"data": data})).await;
    stage.quiet().await;
    assert_eq!(stage.news(), ["build child@6.0.0 dev"], "a published one");
    for env in ["test", "prod"] {
        stage.promote("root", "7.0.0", env).await;
    }
    assert_eq!(stage.news(), [""; 0]);
    let package = stage.read("/packages/child").await;
    assert_eq!(
        (&package["versions"], &package["highest"]),
        (&json!(2), &json!("6.0.0"))
    );
    stage.end().await;
}

#[tokio::test]
async fn hazard_18_a_store_that_does_not_answer_loses_no_dependent() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    // Nodes of a cluster that go away are the subject of tests of their own (`cassandra::nodes`).
    let Some(database) = stage.database() else {
        return stage.end().await;
    };
    let lock = rusqlite::Connection::open(database).unwrap();
    lock.busy_timeout(Duration::from_secs(5)).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let document = doc("child", "1.0.0", &on("root", "^1.0.0"));
    let posting = stage.post("/change", &document);
    let unlocking = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        lock.execute_batch("COMMIT").unwrap();
    };
    let ((mut status, mut answer), ()) = tokio::join!(posting, unlocking);
    while status != 200 {
        assert_eq!(status, 503, "{answer}");
        (status, answer) = stage.post("/change", &document).await;
    }
    stage.planned(answer["id"].as_str().unwrap()).await;
    assert_eq!(
        stage.goes_with("root", "1.0.0").await,
        json!({"child": "1.0.0"})
    );
    let page = stage.read("/packages/root/dependents").await;
    assert_eq!(page["items"][0]["name"], "child");
    stage.end().await;
}

#[tokio::test]
async fn hazard_19_a_registry_outage_stalls_no_change() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    stage.publish("root", "1.0.1", json!({})).await;
    stage.news();
    for role in [Role::Packument, Role::Tarball] {
        stage
            .sandbox
            .fail(Fault::always(role, FaultKind::status(503)));
    }
    let began = tokio::time::Instant::now();
    stage.hand(doc("root", "1.0.2", &json!({}))).await;
    let id = stage.promote_only("root", "1.0.1", "test").await;
    assert_eq!(
        stage.why(&id).await["child"],
        "rebuild 5.0.1-0 in_release_line"
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    stage
        .until("/status", |status| status["paused"]["registry"].is_string())
        .await;
    assert_eq!(stage.taken(), [""; 0]);
    stage.sandbox.clear_faults();
    stage.quiet().await;
    let mut taken = stage.taken();
    taken.sort();
    assert_eq!(taken, ["build child@5.0.1-0 test", "publish child@5.0.1-1"]);
    // The root's own packument is never asked for.
    let asked = stage.received(&[Role::Packument]);
    assert!(asked.iter().all(|r| r.package.as_deref() == Some("child")));
    stage.end().await;
}

#[tokio::test]
async fn hazard_20_a_version_published_with_a_tag_is_sent_whole_or_not_at_all() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    let mut tagged = doc("child", "2.0.0", &on("root", "^1.0.0"));
    tagged["dist-tags"] = json!({"next": "2.0.0"});
    stage.notice(tagged).await;
    stage.publish("root", "1.0.1", json!({})).await;
    let sent = stage.received(&[Role::Warehouse]).pop().unwrap();
    let document = sent.document.unwrap();
    assert_eq!(document["dist-tags"]["latest"], "1.0.1-0");
    assert_eq!(
        document["versions"]["1.0.1-0"]["dependencies"],
        on("root", "^1.0.0")
    );
    assert_eq!(stage.taken(), ["publish child@1.0.1-0"]);
    stage.end().await;
}

#[tokio::test]
async fn hazard_21_the_attachment_of_an_unchanged_version_is_there() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    stage.promote("root", "1.0.0", "test").await;
    let built = stage.received(&[Role::Build]).pop().unwrap();
    let tarball = built.tarball().unwrap();
    assert_eq!(
        (tarball.name.as_str(), tarball.bytes),
        ("child-5.0.0.tgz", 2048)
    );
    stage.publish("root", "1.0.1", json!({})).await;
    let sent = stage.received(&[Role::Warehouse]).pop().unwrap();
    let document = sent.document.unwrap();
    let dist = &document["versions"]["5.0.1-0"]["dist"];
    assert!(
        dist["tarball"]
            .as_str()
            .unwrap()
            .ends_with("child-5.0.1-0.tgz")
    );
    stage.end().await;
}

#[tokio::test]
async fn hazard_22_cycles_end() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    let deps = json!({"root": "^1.0.0", "b": "^1.0.0", "a": "^1.0.0"});
    stage.publish("a", "1.0.0", deps).await;
    stage.publish("b", "1.0.0", on("a", "^1.0.0")).await;
    stage.quiet().await;
    stage.news();
    let id = stage.publish("root", "1.0.1", json!({})).await;
    let taken = stage.news();
    assert_eq!(taken.len(), 2, "each once: {taken:?}");
    assert_eq!(stage.why(&id).await.len(), 1);
    // From inside the cycle.
    stage.publish("b", "1.2.0", on("a", "^1.0.0")).await;
    let taken = stage.news();
    assert_eq!(taken.len(), 1, "a, and not b again: {taken:?}");
    stage.end().await;
}

#[tokio::test]
async fn hazard_23_mistakes_are_answered_400_and_latest_is_an_environment() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    for (path, body) in [
        ("/v2/change/dev", json!({})),
        ("/v2/change/dev", json!({"data": null})),
        ("/v2/change/dev", json!({"data": "text"})),
        ("/change/dev", json!([])),
        (
            "/v2/change/nowhere",
            json!({"data": doc("a", "1.0.0", &json!({}))}),
        ),
    ] {
        let (status, answer) = stage.post(path, &body).await;
        assert_eq!(status, 400, "{path} {body}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with("400"), "what ends the client's retries");
    }
    for (name, env) in [("latest", "prod"), ("staging", "test")] {
        let data = doc("root", "1.0.0", &json!({}));
        let body = json!({"data": data});
        stage.change(&format!("/v2/change/{name}"), &body).await;
        stage.quiet().await;
        assert_eq!(stage.news(), [format!("build child@5.0.0 {env}")]);
    }
    stage.end().await;
}

#[tokio::test]
async fn hazard_24_a_stream_that_is_left_open_is_given_up() {
    let stage = Stage::with(|settings| {
        settings.warehouse = None;
        settings.build_service.as_mut().unwrap().idle_timeout = Duration::from_millis(500);
    })
    .await;
    stage.publish("root", "1.0.0", json!({})).await;
    for name in ["child", "other"] {
        stage.publish(name, "5.0.0", on("root", "^1.0.0")).await;
    }
    stage.news();
    stage
        .sandbox
        .fail(Fault::once(Role::Build, FaultKind::Hang).of("child"));
    let id = stage.publish("root", "1.0.1", json!({})).await;
    let rebuild = stage.rebuild_is(&id, "child", "published").await;
    assert_eq!(outcomes(&rebuild), ["retry", "sent"]);
    let first = &rebuild["attempts"][0];
    assert_eq!(first["status"], Value::Null);
    let time = |key: &str| text(&first[key]).parse::<jiff::Timestamp>().unwrap();
    let waited = time("ended").duration_since(time("started"));
    assert!(
        waited.unsigned_abs() < Duration::from_secs(5),
        "the idle time, not that of connecting as well: {waited}"
    );
    stage.end().await;
}

#[tokio::test]
async fn hazard_25_a_slow_publish_that_succeeds_is_not_published_twice() {
    let stage = Stage::with(|settings| {
        settings.warehouse.as_mut().unwrap().idle_timeout = Duration::from_millis(500);
    })
    .await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "5.0.0", on("root", "^1.0.0")).await;
    // Slower than our patience, and its notice is lost as well.
    stage
        .sandbox
        .fail(Fault::once(Role::Warehouse, FaultKind::Slow { ms: 900 }).of("child"));
    stage.hold_notices("child", 1);
    let id = stage.hand(doc("root", "1.0.1", &json!({}))).await;
    let rebuild = stage.rebuild_is(&id, "child", "sent").await;
    assert_eq!(outcomes(&rebuild), ["retry", "sent"], "{rebuild:#}");
    let versions: Vec<_> = stage
        .received(&[Role::Warehouse])
        .iter()
        .map(|r| r.version.clone().unwrap())
        .collect();
    assert_eq!(versions, ["5.0.1-0", "5.0.1-0"], "no 5.0.1-1");
    stage.redeliver("child", "5.0.1-0").await;
    assert_eq!(
        stage.goes_with("root", "1.0.1").await,
        json!({"child": "5.0.1-0"})
    );
    stage.stop().await;
}
