//! The real program on an empty store, with the sandbox as its neighbours.

use std::time::{Duration, Instant};

use feedsme::sandbox::{Received, Role, Sandbox, SandboxOptions, Tarball};
use serde_json::{Value, json};

use crate::client::{Client, post_all};
use crate::places;
use crate::process::{Place, Program};

/// What a work may take at most: it has stopped, then.
pub const PATIENCE: Duration = Duration::from_mins(10);

/// Which store the service works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// An SQLite file of its own.
    File,
    /// A keyspace that nobody else uses, on the cluster that `FEEDSME_TEST_CASSANDRA` names.
    Cassandra,
}

impl On {
    /// What the names of its works begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::File => "",
            Self::Cassandra => "Cassandra: ",
        }
    }

    /// An empty keyspace, if it is one.
    pub fn keyspace(self) -> Option<places::Place> {
        (self == Self::Cassandra).then(places::Place::keyspace)
    }
}

/// A running service.
pub struct Service {
    pub place: Place,
    pub sandbox: Sandbox,
    _program: Program,
    /// The store goes with it.
    _dir: tempfile::TempDir,
    _keyspace: Option<places::Place>,
}

/// A publish document, as npm sends it, without attachments.
pub fn document(name: &str, version: &str, dependencies: &Value) -> Value {
    let tarball = format!("http://registry.example/{name}/-/{name}-{version}.tgz");
    json!({
        "_id": name, "name": name, "description": "measured",
        "dist-tags": {"latest": version},
        "versions": {version: {
            "name": name, "version": version, "description": "measured", "main": "index.js", "license": "MIT",
            "dependencies": dependencies,
            "dist": {
                "shasum": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
                "tarball": tarball,
            },
        }},
    })
}

impl Service {
    /// On an empty store, without a warehouse: rebuilds go straight to the build service.
    pub async fn start(on: On) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut place = Place::new(dir.path());
        place.warehouse = false;
        let keyspace = on.keyspace();
        if let Some(keyspace) = &keyspace {
            let nodes = places::nodes().join(",");
            place.store_setting = format!("cassandra://{nodes}/{}", keyspace.name());
        }
        let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
        let program = place.run(&sandbox, &[]).await;
        Self {
            place,
            sandbox,
            _program: program,
            _dir: dir,
            _keyspace: keyspace,
        }
    }

    /// Publishes by hand: the registry has it, and the service is told.
    pub async fn publish(&self, documents: Vec<Value>) {
        for document in &documents {
            let tarball = Tarball::Synthetic(1_000);
            self.sandbox.publish(document.clone(), &tarball).unwrap();
        }
        let bodies = documents.iter().map(Value::to_string).collect();
        post_all(&self.place.url, 32, bodies).await;
    }

    /// Waits until nothing is left to do.
    pub async fn idle(&self) {
        let idle = async { Client::connect(&self.place.url).await.idle().await };
        tokio::time::timeout(PATIENCE, idle).await.unwrap();
    }

    /// How long the service works on this post, until all that follows from it was accepted by the neighbours; the
    /// requests that they had.
    pub async fn follow(&self, body: &Value) -> (Duration, Vec<Received>) {
        self.sandbox.forget_requests();
        let body = body.to_string();
        let mut client = Client::connect(&self.place.url).await;
        let started = Instant::now();
        client.post("/change", &body).await;
        self.idle().await;
        (started.elapsed(), self.sandbox.requests())
    }
}

/// Those that went to the build service, as they were sent.
pub fn builds(received: &[Received]) -> Vec<Value> {
    let builds = received.iter().filter(|one| one.role == Role::Build);
    builds
        .map(|one| json!({"data": one.document, "promote": one.promote}))
        .collect()
}
