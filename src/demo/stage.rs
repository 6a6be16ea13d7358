//! The stage: the real service with stand-in neighbours, and how to tell that all of them have come to rest.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::Result;
use crate::app::{self, Running};
use crate::dispatch::worker::Event;
use crate::neighbours::Endpoint;
use crate::sandbox::{Fault, FaultKind, Received, Role, Sandbox, SandboxOptions};
use crate::settings::{Settings, StoreAddress};

/// How often to look whether everything has come to rest.
const LOOK: Duration = Duration::from_millis(50);

/// With `--fault`, one of so many requests fails.
const EVERY: u64 = 10;

/// A running service and its neighbours.
pub struct Stage {
    /// The service.
    pub running: Running,
    /// Its neighbours.
    pub sandbox: Arc<Sandbox>,
    faulty: bool,
    faults: Option<JoinHandle<()>>,
}

impl Stage {
    /// Starts both; the store is in `folder`.
    pub async fn set(folder: &Path, port: u16, faulty: bool) -> Result<Self> {
        let options = SandboxOptions {
            keep_documents: false,
            ..SandboxOptions::default()
        };
        let sandbox = Arc::new(Sandbox::start(options).await?);
        let settings = Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            store: StoreAddress::Sqlite {
                path: folder.join("demo.sqlite3"),
                synchronous: false,
            },
            build_service: Some(Endpoint::new(sandbox.build_service_url())),
            warehouse: Some(Endpoint::new(sandbox.warehouse_url())),
            registry: Some(Endpoint::new(sandbox.registry_url())),
            shutdown_grace: Duration::from_secs(2),
            ..Settings::default()
        };
        let running = app::start(&settings).await?;
        sandbox.report_to(&running.url());
        Ok(Self {
            running,
            sandbox,
            faulty,
            faults: None,
        })
    }

    /// With `--fault`: from now on every tenth request to this role fails, the next one included. The warehouse's own
    /// builds are the build service's requests too, and nobody repeats them: so the build service fails only while
    /// nothing is published.
    pub fn fail(&mut self, role: Role) {
        if !self.faulty {
            return;
        }
        if let Some(task) = self.faults.take() {
            task.abort();
        }
        self.sandbox.clear_faults();
        let fault = Fault::once(role, FaultKind::status(500));
        self.sandbox.fail(fault.clone());
        let (sandbox, mut events) = (self.sandbox.clone(), self.running.inbox.events());
        self.faults = Some(tokio::spawn(async move {
            let mut settled: u64 = 0;
            loop {
                settled += match events.recv().await {
                    Ok(Event::Settled(_)) => 1,
                    Ok(Event::Planned(_)) => 0,
                    Err(RecvError::Lagged(missed)) => missed / 2,
                    Err(RecvError::Closed) => return,
                };
                if settled >= EVERY {
                    settled %= EVERY;
                    sandbox.fail(fault.clone());
                }
            }
        }));
    }

    /// Waits until nothing moves any more: the service has nothing to do, and every notice that the neighbours owe it
    /// has come. `by_hand` publishes were made at the registry without a request of ours.
    pub async fn rest(&self, by_hand: usize) {
        loop {
            if self.is_idle().await && self.owes_nothing(by_hand).await && self.is_idle().await {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn is_idle(&self) -> bool {
        let status = self.running.inbox.status().await;
        status.is_some_and(|status| status.is_idle())
    }

    /// What was published is built, and what is built is reported.
    async fn owes_nothing(&self, by_hand: usize) -> bool {
        let settled = |requests: &[Received]| Owed::of(requests).is_nothing(by_hand);
        // One look: the first is taken before the time is asked.
        self.sandbox.wait_for(settled, Duration::ZERO).await.is_ok()
    }

    /// Stops both.
    pub async fn strike(mut self) {
        if let Some(task) = self.faults.take() {
            task.abort();
        }
        self.sandbox.report_to_nobody();
        self.running.stop().await;
    }
}

/// What the neighbours did, counted.
#[derive(Default)]
struct Owed {
    under_way: usize,
    published: usize,
    built_for_warehouse: usize,
    built: usize,
    reported: usize,
}

impl Owed {
    fn of(requests: &[Received]) -> Self {
        let mut owed = Self::default();
        for one in requests {
            owed.under_way += usize::from(one.finished.is_none());
            let works = !one.outcome.starts_with("fault") && !one.outcome.starts_with("refused");
            match one.role {
                Role::Warehouse => owed.published += usize::from(works),
                Role::Build => {
                    owed.built += usize::from(works);
                    owed.built_for_warehouse += usize::from(one.from_warehouse);
                }
                Role::Notice => owed.reported += usize::from(one.attempt == 1),
                _ => {}
            }
        }
        owed
    }

    fn is_nothing(&self, by_hand: usize) -> bool {
        self.under_way == 0
            && self.built_for_warehouse == self.published + by_hand
            && self.reported == self.built
    }
}
