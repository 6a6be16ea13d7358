//! What the same work costs without the service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use feedsme::sandbox::Sandbox;
use futures_util::stream::{self, StreamExt as _};
use serde_json::Value;

/// As many requests at once as the service has by default.
pub const AT_ONCE: usize = 20;

/// How much the loop does for each body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// Sends it.
    Sends,
    /// Asks the registry for the packument and the tarball, which are in it, and sends it.
    FetchesAndSends,
}

/// A bare reqwest loop that sends these bodies to the build service of this sandbox; how long it took.
pub async fn bare_loop(sandbox: &Sandbox, bodies: &[Value], what: Loop) -> Duration {
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(AT_ONCE)
        .build()
        .unwrap();
    let (build, registry) = (
        format!("{}/v2/build", sandbox.build_service_url()),
        sandbox.registry_url(),
    );
    // Ready made, as the service's is not: what it costs to make them is not part of the floor.
    let bodies: Vec<Ready> = bodies.iter().map(Ready::new).collect();
    let bodies = Arc::new(bodies);
    let started = Instant::now();
    stream::iter(0..bodies.len())
        .for_each_concurrent(AT_ONCE, |at| {
            let (client, build, registry) = (client.clone(), build.clone(), registry.clone());
            let bodies = bodies.clone();
            async move {
                // On the runtime's threads, as the service's requests are.
                let one = tokio::spawn(async move {
                    let ready = &bodies[at];
                    if what == Loop::FetchesAndSends {
                        let name = &ready.name;
                        let of = |path: String| client.get(format!("{registry}/{path}"));
                        let packument = of(name.clone())
                            .header("accept", "application/vnd.npm.install-v1+json")
                            .send();
                        packument.await.unwrap().bytes().await.unwrap();
                        let tarball = of(format!("{name}/-/{name}-{}.tgz", ready.base)).send();
                        tarball.await.unwrap().bytes().await.unwrap();
                    }
                    let response = client
                        .post(&build)
                        .header("content-type", "application/json")
                        .body(ready.body.clone())
                        .send()
                        .await
                        .unwrap();
                    assert_eq!(response.status(), 200);
                    response.bytes().await.unwrap();
                });
                one.await.unwrap();
            }
        })
        .await;
    started.elapsed()
}

struct Ready {
    name: String,
    base: String,
    body: String,
}

impl Ready {
    /// The record has no tarballs; they are put back in.
    fn new(body: &Value) -> Self {
        let mut body = body.clone();
        let data = &mut body["data"];
        let name = data["name"].as_str().unwrap().to_owned();
        for attachment in data["_attachments"].as_object_mut().unwrap().values_mut() {
            attachment["data"] = STANDARD.encode([7; 1_000]).into();
        }
        let version = data["dist-tags"]["latest"].as_str().unwrap();
        let base = version.split('-').next().unwrap();
        Self {
            name,
            // Every dependent is published by hand once, as 1.0.0.
            base: base.replace("1.0.1", "1.0.0"),
            body: body.to_string(),
        }
    }
}
