//! A whole service on a temporary store: the real server, the real worker, the real SQLite. Each test has its own, on its own
//! port.

#![allow(dead_code, reason = "not every test file needs everything")]

use crate::places::Place;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use feedsme::dispatch::Neighbours;
use feedsme::dispatch::worker::{Inbox, Worker, WorkerOptions};
use feedsme::http::{ApiState, ServerOptions, serve};
use feedsme::ingest::{Clock, Core};
use feedsme::neighbours::{BuildService, Endpoint, Neighbour, Registry, Warehouse};
use feedsme::plan::Rules;
use feedsme::sandbox::Sandbox;
use feedsme::store::Store;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Nobody listens here: the reserved port "discard".
const NOBODY: &str = "http://127.0.0.1:9";

/// How to start a service.
pub struct Setup {
    /// The rules.
    pub rules: Rules,
    /// The server's limits; one thread unless a test wants more.
    pub options: ServerOptions,
    /// Whether there is a worker at all.
    pub worker: bool,
    /// Whether publishes go through the warehouse.
    pub warehouse: bool,
    /// Tells the time.
    pub clock: Clock,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            options: ServerOptions {
                workers: 1,
                shutdown_timeout: Duration::from_secs(3),
                ..ServerOptions::default()
            },
            worker: true,
            warehouse: true,
            clock: Clock::system(),
        }
    }
}

/// A running service. Dropping it stops it.
pub struct Service {
    pub url: String,
    pub port: u16,
    pub core: Core,
    pub store: Arc<dyn Store>,
    pub inbox: Inbox,
    pub stop: CancellationToken,
    pub client: reqwest::Client,
    pub server: actix_web::dev::ServerHandle,
    _place: Place,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(self.server.stop(false));
    }
}

/// A service with the neighbours of a sandbox, which reports back to it.
pub async fn with_sandbox(sandbox: &Sandbox) -> Service {
    let service = start(Setup::default(), Some(sandbox)).await;
    sandbox.report_to(&service.url);
    service
}

/// A service whose neighbours are all away: it plans, and sends nothing.
pub async fn alone() -> Service {
    start(Setup::default(), None).await
}

/// A service.
pub async fn start(setup: Setup, sandbox: Option<&Sandbox>) -> Service {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let place = Place::new();
    let store = place.open();
    let core = Core::new(store.clone(), Arc::new(setup.rules), setup.clock);
    let url = |of: fn(&Sandbox) -> String| sandbox.map_or_else(|| NOBODY.to_owned(), of);
    let neighbours = Neighbours {
        build_service: BuildService::new(&Endpoint::new(url(Sandbox::build_service_url))).unwrap(),
        warehouse: setup
            .warehouse
            .then(|| Warehouse::new(&Endpoint::new(url(Sandbox::warehouse_url))).unwrap()),
        registry: Registry::new(&Endpoint::new(url(Sandbox::registry_url))).unwrap(),
    };
    let options = WorkerOptions {
        owner: feedsme::dispatch::Owner::alone("test"),
        concurrency: [
            Neighbour::BuildService,
            Neighbour::Warehouse,
            Neighbour::Registry,
        ]
        .map(|one| (one, 8))
        .into(),
        grace: Duration::from_millis(500),
    };
    let stop = CancellationToken::new();
    let (worker, inbox) = Worker::new(core.clone(), neighbours, options);
    if setup.worker {
        tokio::spawn(worker.run(stop.clone()));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = ApiState {
        core: core.clone(),
        inbox: inbox.clone(),
        stopping: stop.clone(),
    };
    let server = serve(listener, state, &setup.options).unwrap();
    let handle = server.handle();
    tokio::spawn(server);
    Service {
        url: format!("http://127.0.0.1:{port}"),
        port,
        core,
        store,
        inbox,
        stop,
        client: reqwest::Client::new(),
        server: handle,
        _place: place,
    }
}

impl Service {
    /// GET; the status and the JSON.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self
            .client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// GET of something that is there.
    pub async fn read(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// POST of a JSON body; the status and the JSON.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_bytes(
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    /// POST of any body with any headers.
    pub async fn post_bytes(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let mut request = self.client.post(format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// Posts a change that must be accepted and waits until it is planned; its id.
    pub async fn change(&self, path: &str, body: &Value) -> String {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let id = answer["id"].as_str().unwrap().to_owned();
        self.planned(&id).await;
        id
    }

    /// Publishes a version by hand and waits until it is planned; the change's id.
    pub async fn publish(&self, name: &str, version: &str, dependencies: Value) -> String {
        self.change("/change", &document(name, version, dependencies))
            .await
    }

    /// Waits until a change is planned; the change.
    pub async fn planned(&self, id: &str) -> Value {
        self.until(&format!("/changes/{id}"), |change| {
            !change["planned"].is_null()
        })
        .await
    }

    /// Reads until `seen` holds, for at most ten seconds.
    pub async fn until(&self, path: &str, mut seen: impl FnMut(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let (_, body) = self.get(path).await;
            if seen(&body) {
                return body;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{path} never came to it: {body:#}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A publish document, as npm posts it.
#[allow(clippy::needless_pass_by_value, reason = "called with json!(…)")]
pub fn document(name: &str, version: &str, dependencies: Value) -> Value {
    json!({
        "_id": name,
        "name": name,
        "dist-tags": {"latest": version},
        "versions": {version: {"name": name, "version": version, "dependencies": dependencies}},
        "_attachments": {format!("{name}-{version}.tgz"): {"content_type": "application/octet-stream", "data": "", "length": 0}},
    })
}
