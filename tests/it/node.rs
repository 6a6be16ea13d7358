//! The Node programs that talk to feedsme, as they are installed at users': they must be content (contract.md 1.4, 6).
//!
//! `bin/test` installs them into `target/node` and is the way to run these tests. Without them they fail; where there is
//! no Node, `bin/test` leaves them out and says so.

mod cassandra;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use feedsme::app::{Running, start};
use feedsme::neighbours::endpoint::Endpoint;
use feedsme::sandbox::{Role, Sandbox, SandboxOptions, Tarball};
use feedsme::settings::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::helpers::document;
use crate::places::Place;

const SOON: Duration = Duration::from_secs(20);

fn modules() -> PathBuf {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/node/node_modules");
    assert!(
        modules.join("feedsme-api-client").is_dir(),
        "the Node clients are not installed: run these tests with bin/test, or leave them out with `--skip node::`"
    );
    modules
}

/// Runs a script of `tests/node` to its end and returns what it printed.
async fn node(script: &'static str, arguments: &[&str], input: &Value) -> Value {
    let arguments: Vec<String> = arguments.iter().map(|&one| one.to_owned()).collect();
    let input = input.to_string();
    let run = tokio::task::spawn_blocking(move || {
        let mut child = std::process::Command::new("node")
            .arg(
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("tests/node")
                    .join(script),
            )
            .args(arguments)
            .env("NODE_PATH", modules())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node can be run");
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    });
    let output = run.await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{script}: {error}: {output:?}"))
}

/// The service as its settings start it, and its neighbours.
struct World {
    sandbox: Sandbox,
    running: Running,
    url: String,
    _place: Place,
}

impl World {
    async fn new() -> Self {
        let place = Place::new();
        let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
        let settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            store: place.address(),
            build_service: Some(Endpoint::new(sandbox.build_service_url())),
            warehouse: Some(Endpoint::new(sandbox.warehouse_url())),
            registry: Some(Endpoint::new(sandbox.registry_url())),
            ..Settings::default()
        };
        let running = start(&settings).await.unwrap();
        let url = running.url();
        sandbox.report_to(&url);
        Self {
            sandbox,
            running,
            url,
            _place: place,
        }
    }

    /// What the build service sends when it has taken a publish.
    async fn change(&self, env: &str, body: &Value) -> Value {
        // The path of the base is dropped by the client: users have one there.
        let uri = format!("{}/dropped", self.url);
        node("change.js", &[&uri, env], body).await
    }

    async fn line(&self, arguments: &[&str]) -> Value {
        let mut all = vec![self.url.as_str()];
        all.extend(arguments);
        node("line.js", &all, &Value::Null).await
    }

    /// Publishes by hand: into the registry, and the change by the Node client.
    async fn publish(&self, name: &str, version: &str, dependencies: Value) {
        let mut document = document(name, version, dependencies);
        self.sandbox
            .publish(document.clone(), &Tarball::Synthetic(1_000))
            .unwrap();
        document["__published"] = json!(true);
        let answer = self
            .change("dev", &json!({"data": document, "promote": true}))
            .await;
        assert_eq!(answer["error"], Value::Null, "{answer}");
        assert_eq!(answer["body"]["ok"], true, "{answer}");
        assert_eq!(answer["requests"], 1, "{answer}");
        // What is accepted is planned soon, and in its order for each package only.
        let give_up = tokio::time::Instant::now() + SOON;
        while !self
            .running
            .inbox
            .status()
            .await
            .is_some_and(|status| status.is_idle())
        {
            assert!(tokio::time::Instant::now() < give_up);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn noticed(&self, name: &str) {
        let accepted = |name: &str| {
            let name = name.to_owned();
            move |requests: &[feedsme::sandbox::Received]| {
                requests.iter().any(|one| {
                    one.role == Role::Notice
                        && one.package.as_deref() == Some(&name)
                        && one.outcome == "accepted"
                })
            }
        };
        self.sandbox.wait_for(accepted(name), SOON).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_post_a_change_and_read_its_line() {
    let world = World::new().await;
    world.publish("@s/root", "5.2.2", json!({})).await;
    world
        .publish("child", "5.0.0", json!({"@s/root": "^5.0.0"}))
        .await;
    world.publish("@s/root", "5.2.3", json!({})).await;
    world.noticed("child").await;

    let give_up = tokio::time::Instant::now() + SOON;
    let head = loop {
        let head = world.line(&["@s/root"]).await;
        if head["body"]["dependents"] != json!({}) {
            break head;
        }
        assert!(tokio::time::Instant::now() < give_up, "{head}");
    };
    assert_eq!(
        head,
        json!({"error": null, "requests": 1, "body": {
            "pkg": "@s/root", "version": "5.2.3", "previousVersion": "5.2.2", "dependents": {"child": "5.0.1-0"},
        }})
    );
    assert_eq!(
        world.line(&["@s/root", "5.2.3"]).await["body"],
        head["body"]
    );
    assert_eq!(
        world.line(&["@s/root", "5.2.2"]).await["body"],
        json!({"pkg": "@s/root", "version": "5.2.2", "previousVersion": null, "dependents": {"child": "5.0.0"}})
    );

    let promotion = json!({"data": document("@s/root", "5.2.3", json!({})), "promote": false});
    let answer = world.change("test", &promotion).await;
    assert_eq!(
        (&answer["error"], &answer["requests"]),
        (&json!(null), &json!(1))
    );
    let built = |requests: &[feedsme::sandbox::Received]| {
        requests
            .iter()
            .any(|one| one.role == Role::Build && one.env.as_deref() == Some("test"))
    };
    let requests = world.sandbox.wait_for(built, SOON).await.unwrap();
    let built = requests
        .iter()
        .find(|one| one.env.as_deref() == Some("test"));
    let built = built.unwrap();
    assert_eq!(
        (
            built.package.as_deref(),
            built.version.as_deref(),
            &built.promote
        ),
        (Some("child"), Some("5.0.1-0"), &Some(json!(false)))
    );
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_line_is_an_error_that_names_it() {
    let world = World::new().await;
    world.publish("root", "1.0.0", json!({})).await;
    for (arguments, named) in [
        (&["root", "7.0.0"][..], "root 7.0.0"),
        (&["@s/unknown"], "@s/unknown"),
    ] {
        let missing = world.line(arguments).await;
        let error = missing["error"].as_str().unwrap();
        let expected = format!("\"message\":\"ReleaseLine not found for {named}\"");
        assert!(error.starts_with("404 Not Found"), "{error}");
        assert!(error.contains(&expected), "{error}");
        assert_eq!(
            (&missing["body"], &missing["requests"]),
            (&Value::Null, &json!(1))
        );
    }
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_succeed_is_not_sent_again() {
    let world = World::new().await;
    let good = json!({"data": document("root", "1.0.0", json!({}))});
    let mut no_version = good.clone();
    no_version["data"]["versions"] = json!({});
    let bad = [
        ("dev", json!({"promote": true}), "400 "),
        ("dev", json!({"data": null}), "400 "),
        (
            "dev",
            json!({"data": document("root", "one", json!({}))}),
            "400 ",
        ),
        (
            "dev",
            json!({"data": document("No Name", "1.0.0", json!({}))}),
            "400 ",
        ),
        ("dev", no_version, "400 "),
        ("nowhere", good.clone(), "400 "),
        ("dev/too/much", good.clone(), "404 "),
    ];
    for (env, body, begins) in bad {
        let answer = world.change(env, &body).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.starts_with(begins), "{env} {body}: {answer}");
        assert_eq!(answer["requests"], 1, "{env} {body}: {answer}");
    }
    // Nothing was written, and the service goes on.
    let answer = world.change("dev", &good).await;
    assert_eq!(answer["error"], Value::Null, "{answer}");
    world.running.stop().await;
}

/// What makes the test above mean something: the client does resend, six times in all, what it takes for a failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_1_4_what_may_succeed_later_is_sent_six_times() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 8192]).await;
                let body = r#"{"ok":false,"message":"503 the store is away"}"#;
                let answer = format!(
                    "HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                // Until the client has gone: what is left unread would reset the answer.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let body = json!({"data": document("root", "1.0.0", json!({}))});
    let answer = node("change.js", &[&url, "dev"], &body).await;
    assert_eq!(answer["error"], "503 the store is away");
    assert_eq!(answer["requests"], 6);
}
