//! Stand-in neighbours of feedsme on loopback: build service, warehouse and npm registry, with faults on demand.
//!
//! Tests, the demo and the benches need neighbours that talk as the real ones do (contract.md 1 and 2), remember what
//! they were told, and fail when asked. One server has all three, told apart by path:
//!
//! | path | neighbour |
//! |---|---|
//! | `/build/v2/build` | build service: streams its progress, then notifies feedsme |
//! | `/warehouse/{name}` | warehouse: publishes to the registry, then has it built |
//! | `/npm/…` | npm registry: packuments, tarballs, dist-tags |
//! | `/control/…` | record, faults, publishes and where to report, for other processes |
//!
//! Each [`Sandbox`] has its own port, thread and state, so that many can run in one process. Documents are read as streams
//! (`body.rs`) and tarballs computed (`tarball.rs`): neither uploads of 100 MB nor thousands of versions cost memory.

mod body;
mod build;
mod control;
mod digest;
mod fault;
mod notice;
mod npm;
mod record;
mod registry;
mod reply;
mod server;
mod tarball;
mod warehouse;

pub use digest::Attachment;
pub use fault::{Fault, FaultKind};
pub use record::{NotSeen, Received, Role};
pub use tarball::{Tarball, synthetic};

use record::Record;
use registry::Registry;
use serde_json::Value;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Marks the build that the sandbox's own warehouse asks for.
const FROM_WAREHOUSE: &str = "x-sandbox-from-warehouse";

/// How a sandbox behaves as long as no fault is ordered.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Where to listen; port 0 takes a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// Base URL of feedsme, told of every build request that ends without error. Default none: no notices.
    pub report_to: Option<String>,
    /// Status for a version that exists already. Default 403, as npm; 409 is the other one seen.
    pub conflict_status: u16,
    /// `data` of the attachments in notices: base64. Default empty; feedsme reads no attachment.
    pub notice_attachment: String,
    /// Whether the record keeps the documents (without attachments). Default true.
    pub keep_documents: bool,
    /// Uploads of up to so many bytes can be downloaded again. A larger one can too if it is the same as another tarball of the
    /// package (a rebuild is); if not, its download is answered 404. Default 1 MiB.
    pub keep_uploads: usize,
    /// Most bytes of a body: 413 above. Default 1 GiB.
    pub body_limit: u64,
    /// Pause before each line of the build service. Default none.
    pub line_pause: Duration,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            report_to: None,
            conflict_status: 403,
            notice_attachment: String::new(),
            keep_documents: true,
            keep_uploads: 1024 * 1024,
            body_limit: 1024 * 1024 * 1024,
            line_pause: Duration::ZERO,
        }
    }
}

/// What outlives a stop of the server.
struct State {
    options: SandboxOptions,
    address: SocketAddr,
    report_to: Mutex<Option<String>>,
    registry: Mutex<Registry>,
    faults: Mutex<Vec<Fault>>,
    record: Mutex<Record>,
    changed: watch::Sender<()>,
}

/// What the handlers of one running server share.
struct Neighbours {
    state: Arc<State>,
    client: reqwest::Client,
}

/// A server that runs, on a thread of its own.
struct Running {
    handle: actix_web::dev::ServerHandle,
    ended: oneshot::Receiver<()>,
}

/// Running stand-in neighbours. Dropping it stops them.
pub struct Sandbox {
    state: Arc<State>,
    running: Option<Running>,
    /// Bound, not listening: keeps the port ours while the server is stopped.
    _port: tokio::net::TcpSocket,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Base URL of a role, without a slash at the end.
    fn url(&self, role: &str) -> String {
        format!("http://{}/{role}", self.address)
    }

    fn fault(&self, role: Role, package: Option<&str>) -> Option<Fault> {
        fault::take(&mut lock(&self.faults), role, package)
    }

    /// Changes the record and wakes those who wait for it.
    fn with_record<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let result = change(&mut lock(&self.record));
        self.changed.send_replace(());
        result
    }

    fn with_record_read<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        read(&lock(&self.record))
    }
}

impl Sandbox {
    /// Binds the address and serves. Must be called in a tokio runtime; the server has its own.
    pub async fn start(options: SandboxOptions) -> io::Result<Self> {
        // reqwest panics without a provider; somebody else may have installed one already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let port = if options.listen.is_ipv4() {
            tokio::net::TcpSocket::new_v4()?
        } else {
            tokio::net::TcpSocket::new_v6()?
        };
        port.set_reuseaddr(true)?;
        port.bind(options.listen)?;
        let state = State {
            address: port.local_addr()?,
            report_to: Mutex::new(options.report_to.clone()),
            registry: Mutex::default(),
            faults: Mutex::default(),
            record: Mutex::default(),
            changed: watch::Sender::new(()),
            options,
        };
        let mut sandbox = Self {
            state: Arc::new(state),
            running: None,
            _port: port,
        };
        sandbox.restart().await?;
        Ok(sandbox)
    }

    /// Serves again on the same port after [`Sandbox::stop`], with everything it knew. Does nothing while it runs.
    pub async fn restart(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.state.address)?;
        let state = Arc::clone(&self.state);
        let (started, start) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("sandbox".into())
            .spawn(move || {
                server::serve(state, listener, started);
                let _ = end.send(());
            })?;
        let handle = start
            .await
            .map_err(|_| io::Error::other("the sandbox's thread ended"))??;
        self.running = Some(Running { handle, ended });
        Ok(())
    }

    /// Ends the server at once: connections are closed, work under way and unsent notices are lost, new connections refused.
    /// The port stays ours.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.handle.stop(false).await;
            let _ = running.ended.await;
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.state.address
    }

    /// Base URL for `build_service.url`.
    pub fn build_service_url(&self) -> String {
        self.state.url("build")
    }

    /// Base URL for `warehouse.url`.
    pub fn warehouse_url(&self) -> String {
        self.state.url("warehouse")
    }

    /// Base URL for `registry.url`.
    pub fn registry_url(&self) -> String {
        self.state.url("npm")
    }

    /// Base URL of `/control`.
    pub fn control_url(&self) -> String {
        self.state.url("control")
    }

    /// From now on notices go to this base URL of feedsme.
    pub fn report_to(&self, url: &str) {
        *lock(&self.state.report_to) = Some(url.to_owned());
    }

    /// From now on there are no notices.
    pub fn report_to_nobody(&self) {
        *lock(&self.state.report_to) = None;
    }

    /// Puts a publish document, or a bare package.json, into the registry. Nobody is told.
    ///
    /// # Errors
    /// A text, if the version exists or name or versions are missing.
    pub fn publish(&self, document: Value, tarball: &Tarball) -> Result<(), String> {
        let document = registry::as_document(document);
        lock(&self.state.registry)
            .publish(&document, |name, version| {
                Arc::new(tarball::Stored::new(name, version, tarball.clone()))
            })
            .map_err(|refusal| format!("{refusal:?}"))
    }

    /// Publishes by hand: into the registry, then a build, then the notice, as after a publish through the warehouse.
    /// Returns when the version is in the registry.
    ///
    /// # Errors
    /// A text, if the sandbox is stopped, the version exists, or the document lacks name or versions.
    pub async fn publish_by_hand(&self, document: Value, size: u64) -> Result<(), String> {
        let body = serde_json::json!({"document": document, "size": size, "notify": true});
        let response = server::client()
            .map_err(|e| e.to_string())?
            .post(format!("{}/publish", self.control_url()))
            .json(&body)
            .send()
            .await
            .map_err(|e| e.to_string())?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(response.text().await.unwrap_or_default())
    }

    /// Orders a fault, after those ordered before.
    pub fn fail(&self, fault: Fault) {
        lock(&self.state.faults).push(fault);
    }

    /// Forgets all faults. What hangs already goes on hanging.
    pub fn clear_faults(&self) {
        lock(&self.state.faults).clear();
    }

    /// Everything received so far, oldest first.
    pub fn requests(&self) -> Vec<Received> {
        self.state.with_record_read(|record| record.entries.clone())
    }

    /// How many of the requests so far are of this kind; none is copied.
    pub fn count(&self, of: impl Fn(&Received) -> bool) -> usize {
        let count = |record: &Record| record.entries.iter().filter(|one| of(one)).count();
        self.state.with_record_read(count)
    }

    /// Forgets everything received so far, and the attempts counted.
    pub fn forget_requests(&self) {
        self.state.with_record(Record::clear);
    }

    /// Waits until `seen` holds of the record, looked at after every change, and returns the record.
    ///
    /// # Errors
    /// [`NotSeen`] with the record when the time is over.
    pub async fn wait_for(
        &self,
        mut seen: impl FnMut(&[Received]) -> bool,
        timeout: Duration,
    ) -> Result<Vec<Received>, NotSeen> {
        let mut changed = self.state.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                let found = self
                    .state
                    .with_record_read(|r| seen(&r.entries).then(|| r.entries.clone()));
                if let Some(entries) = found {
                    return entries;
                }
                // The sender is in the state, which we hold.
                let _ = changed.changed().await;
            }
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(entries) => Ok(entries),
            Err(_) => Err(NotSeen {
                received: self.requests(),
            }),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // The order is given by the call; nobody waits for its end.
            drop(running.handle.stop(false));
        }
    }
}
