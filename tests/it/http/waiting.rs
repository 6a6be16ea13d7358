use std::time::{Duration, Instant};

use feedsme::sandbox::{Sandbox, SandboxOptions, Tarball};
use serde_json::{Value, json};

use crate::helpers::{Service, alone, document, with_sandbox};

async fn dependents(service: &Service, sandbox: Option<&Sandbox>, count: usize) {
    let all = std::iter::once(("root".to_owned(), json!({})))
        .chain((0..count).map(|at| (format!("c{at}"), json!({"root": "^1.0.0"}))));
    for (name, dependencies) in all {
        if let Some(sandbox) = sandbox {
            sandbox
                .publish(
                    document(&name, "1.0.0", dependencies.clone()),
                    &Tarball::Synthetic(300),
                )
                .unwrap();
        }
        service.publish(&name, "1.0.0", dependencies).await;
    }
}

#[tokio::test]
async fn design_6_wait_answers_when_the_first_level_is_sent() {
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let service = with_sandbox(&sandbox).await;
    dependents(&service, Some(&sandbox), 5).await;
    let began = Instant::now();
    let (status, answer) = service
        .post("/change?wait=30", &document("root", "1.0.1", json!({})))
        .await;
    assert_eq!(status, 200);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        (&answer["ok"], &answer["done"], &answer["planned"]),
        (&json!(true), &json!(true), &json!(true)),
        "{answer}"
    );
    let rebuilds = answer["rebuilds"].as_array().unwrap();
    assert_eq!(rebuilds.len(), 5);
    for (at, rebuild) in rebuilds.iter().enumerate() {
        assert_eq!(
            (&rebuild["package"], &rebuild["version"]),
            (&json!(format!("c{at}")), &json!("1.0.1-0"))
        );
        assert!(
            ["sent", "published"].contains(&rebuild["state"].as_str().unwrap()),
            "{rebuild}"
        );
    }
    // posted again: the same rebuilds, and nothing to wait for
    let began = Instant::now();
    let (_, again) = service
        .post("/change?wait=30", &document("root", "1.0.1", json!({})))
        .await;
    assert_eq!(
        (&again["done"], again["rebuilds"].as_array().unwrap().len()),
        (&json!(true), 5)
    );
    assert!(began.elapsed() < Duration::from_secs(1));
    // a promotion, and one that repeats it
    let promotion = document("root", "1.0.1", json!({}));
    service
        .until("/release-line/root/1.0.1", |line| {
            line["dependents"]
                .as_object()
                .is_some_and(|all| all.len() == 5)
        })
        .await;
    for _ in 0..2 {
        let (_, answer) = service.post("/v2/change/test?wait=30.5", &promotion).await;
        let environments: Vec<&str> = answer["rebuilds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["env"].as_str().unwrap())
            .collect();
        assert_eq!(
            (&answer["done"], environments),
            (&json!(true), vec!["test"; 5]),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_change_that_nothing_depends_on_is_done_as_soon_as_it_is_planned() {
    let service = alone().await;
    let (_, answer) = service
        .post("/change?wait=20", &document("root", "1.0.0", json!({})))
        .await;
    assert_eq!(
        (&answer["done"], &answer["rebuilds"]),
        (&json!(true), &json!([]))
    );
}

#[tokio::test]
async fn at_the_deadline_the_answer_says_that_it_is_not_done() {
    let service = alone().await;
    dependents(&service, None, 1).await;
    let began = Instant::now();
    let (status, answer) = service
        .post("/change?wait=0.4", &document("root", "1.0.1", json!({})))
        .await;
    assert!(
        (Duration::from_millis(400)..Duration::from_secs(3)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!((status, &answer["done"]), (200, &json!(false)), "{answer}");
    let rebuild = &answer["rebuilds"][0];
    assert_eq!(
        (&rebuild["package"], &rebuild["version"], &rebuild["env"]),
        (&json!("c0"), &json!("1.0.1-0"), &Value::Null)
    );
    assert!(["queued", "sending"].contains(&rebuild["state"].as_str().unwrap()));
    let package = service.read("/packages/c0").await;
    assert_eq!(
        package["reserved"],
        json!([{"version": "1.0.1-0", "wave": answer["id"]}])
    );
    let (_, answer) = service
        .post("/change?wait=0", &document("root", "1.0.2", json!({})))
        .await;
    assert_eq!(answer["done"], false);
    service.planned(answer["id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn who_waits_does_not_hold_up_a_shutdown() {
    let service = alone().await;
    dependents(&service, None, 1).await;
    let body = document("root", "1.0.1", json!({}));
    let waiting = service.post("/change?wait=60", &body);
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        service.stop.cancel();
        let began = Instant::now();
        service.server.stop(true).await;
        began.elapsed()
    };
    let ((status, answer), took) = tokio::join!(waiting, stopping);
    assert_eq!((status, &answer["done"]), (200, &json!(false)));
    assert!(took < Duration::from_secs(2), "{took:?}");
}
