//! The service put together: store, worker and server, started and stopped in the right order.

use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::dispatch::share::share;
use crate::dispatch::worker::{Inbox, Worker, WorkerOptions};
use crate::dispatch::{Neighbours, Owner};
use crate::http::{ApiState, ServerOptions, serve};
use crate::ingest::{Clock, Core};
use crate::model::package::millis;
use crate::neighbours::{BuildService, Neighbour, Registry, Unusable, Warehouse};
use crate::settings::{Settings, SettingsError, StoreAddress};
use crate::store::cassandra::CassandraStore;
use crate::store::sqlite::{Durability, Options, SqliteStore};
use crate::store::{Store, StoreError};

/// Why the service does not start; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A neighbour's settings cannot be used.
    #[error(transparent)]
    Neighbour(#[from] Unusable),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process has the store.
    #[error(
        "the store {0} is in use by another feedsme: one process at a time works on an SQLite file"
    )]
    InUse(String),
    /// The port cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The service ended by itself.
    #[error("the service ended: {0}")]
    Ended(String),
    /// Something of the operating system failed.
    #[error("{0}: {1}")]
    System(String, std::io::Error),
}

/// A running service.
pub struct Running {
    /// Where it listens; the port is real even if 0 was asked for.
    pub address: SocketAddr,
    /// What it works with.
    pub core: Core,
    /// The way to its worker.
    pub inbox: Inbox,
    stop: CancellationToken,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    working: JoinHandle<()>,
    sharing: Option<JoinHandle<()>>,
    /// Cancelled when what was being sent is settled: only then do the others hear that we are gone.
    gone: CancellationToken,
    owner: Owner,
    store: Arc<dyn Store>,
    // Held until the end: it says that the file is in use.
    _lock: Option<File>,
}

/// The neighbours that the settings name.
pub fn neighbours(settings: &Settings) -> Result<Neighbours, AppError> {
    let build_service = Settings::needed("build_service", settings.build_service.as_ref())?;
    let registry = Settings::needed("registry", settings.registry.as_ref())?;
    Ok(Neighbours {
        build_service: BuildService::new(build_service)?,
        warehouse: settings
            .warehouse
            .as_ref()
            .map(Warehouse::new)
            .transpose()?,
        registry: Registry::new(registry)?,
    })
}

/// Starts the service: the port, the store, what was left to do, then the doors.
pub async fn start(settings: &Settings) -> Result<Running, AppError> {
    let rules = settings.rules()?;
    let neighbours = neighbours(settings)?;
    let listener = TcpListener::bind(settings.listen)
        .map_err(|error| AppError::Listen(settings.listen, error))?;
    let system = |what: &str| {
        let what = what.to_owned();
        move |error| AppError::System(what, error)
    };
    let address = listener.local_addr().map_err(system("listening"))?;

    let (store, lock) = open(settings).await?;
    let core = Core::new(store.clone(), Arc::new(rules), Clock::system());
    let id = format!("{}/{}", std::process::id(), uuid::Uuid::new_v4().simple());
    let owner = if store.is_shared() {
        Owner::among(id, settings.replica_ttl)
    } else {
        Owner::alone(id)
    };
    let options = worker_options(settings, owner.clone());
    let (mut worker, inbox) = Worker::new(core.clone(), neighbours, options);
    let left = worker.resume().await?;
    if left > 0 {
        tracing::info!(items = left, "work left by the last run is taken up");
    }
    let stop = CancellationToken::new();
    let state = ApiState {
        core: core.clone(),
        inbox: inbox.clone(),
        stopping: stop.clone(),
    };
    let options = ServerOptions {
        body_limit: settings.body_limit,
        document_limit: settings.document_limit,
        ..ServerOptions::default()
    };
    let server = serve(listener, state, &options).map_err(system("serving"))?;
    let handle = server.handle();
    let working = tokio::spawn(worker.run(stop.clone()));
    let serving = tokio::spawn(server);
    let gone = CancellationToken::new();
    let sharing = store.is_shared().then(|| {
        let (store, inbox, stop) = (store.clone(), inbox.clone(), stop.clone());
        tokio::spawn(share(
            store,
            owner.clone(),
            address.to_string(),
            inbox,
            stop,
            gone.clone(),
        ))
    });
    tokio::spawn(prune(core.clone(), stop.clone()));
    tracing::info!(%address, store = %settings.store, "listening");
    Ok(Running {
        address,
        core,
        inbox,
        stop,
        server: handle,
        serving,
        working,
        sharing,
        gone,
        owner,
        store,
        _lock: lock,
    })
}

impl Running {
    /// The service's base address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops accepting, lets what is under way finish (as long as the grace allows), and closes the store. What is not
    /// done is in the store and is taken up at the next start.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.server.stop(true).await;
        if !self.working.is_finished() {
            let _ = (&mut self.working).await;
        }
        self.gone.cancel();
        if let Some(sharing) = self.sharing.take() {
            let _ = sharing.await;
            // Only now: what this replica was sending is settled.
            if let Err(error) = self.store.leave(self.owner.id()).await {
                tracing::warn!(%error, "the other replicas will notice by themselves");
            }
        }
        if !self.serving.is_finished() {
            let _ = (&mut self.serving).await;
        }
        drop(self.core);
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "closing the store");
        }
    }

    /// Waits until the server or the worker ends by itself, which they only do if they fail.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            served = &mut self.serving => match served {
                Ok(Ok(())) => "the server stopped".into(),
                Ok(Err(error)) => format!("the server: {error}"),
                Err(error) => format!("the server: {error}"),
            },
            worked = &mut self.working => match worked {
                Ok(()) => "the worker stopped".into(),
                Err(error) => format!("the worker: {error}"),
            },
        }
    }
}

fn worker_options(settings: &Settings, owner: Owner) -> WorkerOptions {
    let endpoints = [
        (Neighbour::BuildService, settings.build_service.as_ref()),
        (Neighbour::Warehouse, settings.warehouse.as_ref()),
    ];
    // Every send reads from the registry first.
    let registry = settings
        .registry
        .as_ref()
        .map_or(usize::MAX, |endpoint| endpoint.concurrency.max(1));
    WorkerOptions {
        owner,
        concurrency: endpoints
            .into_iter()
            .filter_map(|(neighbour, endpoint)| {
                Some((neighbour, endpoint?.concurrency.max(1).min(registry)))
            })
            .collect(),
        grace: settings.shutdown_grace,
    }
}

/// Opens the store that the settings name; of a file also its lock, to be held as long as the store is used.
///
/// # Errors
/// [`AppError::InUse`], or what the store says.
pub async fn open(settings: &Settings) -> Result<(Arc<dyn Store>, Option<File>), AppError> {
    let cassandra = settings
        .cassandra
        .options(&settings.store, settings.retain)?;
    if let Some(options) = cassandra {
        let store = CassandraStore::open(&options).await?;
        store.check().await?;
        return Ok((Arc::new(store), None));
    }
    let StoreAddress::Sqlite { path, synchronous } = settings.store.clone() else {
        return Err(AppError::System(
            "the store".into(),
            std::io::ErrorKind::Unsupported.into(),
        ));
    };
    let durability = if synchronous {
        Durability::Full
    } else {
        Durability::Off
    };
    let lock = lock(&path)?;
    let options = Options {
        durability,
        ..Options::default()
    };
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(&path, options))
        .await
        .map_err(|error| AppError::System("opening the store".into(), error.into()))??;
    let store = Arc::new(store);
    store.check().await?;
    Ok((store, Some(lock)))
}

/// Makes sure that this is the only process on the file: claims are taken over without asking who holds them.
fn lock(store: &Path) -> Result<File, AppError> {
    // By the file itself, however its path is written.
    let real = store.canonicalize().or_else(|_| {
        let folder = store
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let name = store.file_name().unwrap_or_default();
        folder
            .unwrap_or(Path::new("."))
            .canonicalize()
            .map(|folder| folder.join(name))
    });
    let mut path = real.unwrap_or_else(|_| store.to_owned()).into_os_string();
    path.push(".lock");
    let shown = Path::new(&path).display().to_string();
    let system = |error| AppError::System(format!("the lock file {shown}"), error);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(system)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AppError::InUse(store.display().to_string())),
        Err(TryLockError::Error(error)) => Err(AppError::System(shown, error)),
    }
}

/// How often what is of the past is looked for.
const PRUNE: Duration = Duration::from_mins(10);

/// Ends what is older than `retain`, a little at a time.
async fn prune(core: Core, stop: CancellationToken) {
    let retain = millis(core.rules.retain);
    loop {
        let mut wait = PRUNE;
        match core
            .store
            .prune(core.clock.now().saturating_sub(retain))
            .await
        {
            Ok(0) => {}
            Ok(ended) => {
                tracing::debug!(ended, "changes of the past");
                wait = Duration::from_millis(100);
            }
            Err(error) => tracing::warn!(%error, "ending what is of the past"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Waits for SIGTERM or SIGINT.
pub async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Runs the service until it is told to stop. A second signal ends it at once: nothing that was answered is lost.
pub async fn run(settings: &Settings) -> Result<(), AppError> {
    let mut running = start(settings).await?;
    println!("feedsme listens on {}", running.url());
    if settings.listen.ip().is_loopback() {
        println!("only programs on this machine can reach it: there are no tokens yet");
    }
    let ended = ended(&mut running, told_to_stop()).await;
    if let Err(error) = &ended {
        tracing::error!(%error, "stopping");
    }
    tracing::info!("stopping");
    let stopping = running.stop();
    tokio::pin!(stopping);
    tokio::select! {
        () = &mut stopping => {}
        _ = told_to_stop() => tracing::warn!("told twice: stopping at once"),
        () = tokio::time::sleep(settings.shutdown_grace + Duration::from_secs(15)) => {
            tracing::error!("stopping took too long");
        }
    }
    ended
}

/// Waits until it is told to stop, or the service ends by itself, which is an error.
async fn ended(
    running: &mut Running,
    told: impl Future<Output = std::io::Result<()>>,
) -> Result<(), AppError> {
    tokio::select! {
        told = told => told.map_err(|error| AppError::Ended(error.to_string())),
        failed = running.failed() => Err(AppError::Ended(failed)),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::neighbours::Endpoint;
    use crate::settings::StoreAddress;

    /// A service whose neighbours are away.
    fn settings(store: &Path) -> Settings {
        let nobody = Endpoint::new("http://127.0.0.1:9");
        Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            store: StoreAddress::Sqlite {
                path: store.to_owned(),
                synchronous: false,
            },
            build_service: Some(nobody.clone()),
            registry: Some(nobody),
            shutdown_grace: Duration::from_millis(100),
            ..Settings::default()
        }
    }

    #[tokio::test]
    async fn to_be_told_to_stop_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut running = start(&settings(&dir.path().join("a"))).await.unwrap();
        ended(&mut running, async { Ok(()) }).await.unwrap();
        running.stop().await;
    }

    #[tokio::test]
    async fn a_worker_that_ends_by_itself_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut running = start(&settings(&dir.path().join("a"))).await.unwrap();
        running.working.abort();
        let error = ended(&mut running, pending()).await.unwrap_err();
        assert!(
            matches!(&error, AppError::Ended(why) if why.starts_with("the worker")),
            "{error}"
        );
        running.stop().await;
    }

    #[tokio::test]
    async fn a_server_that_ends_by_itself_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut running = start(&settings(&dir.path().join("a"))).await.unwrap();
        running.server.stop(false).await;
        let error = ended(&mut running, pending()).await.unwrap_err();
        assert!(
            matches!(&error, AppError::Ended(why) if why.starts_with("the server")),
            "{error}"
        );
        running.stop().await;
    }

    /// However its path is written; and free again when the first one has stopped.
    #[tokio::test]
    async fn a_store_that_is_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, link) = (dir.path().join("store"), dir.path().join("link"));
        let running = start(&settings(&store)).await.unwrap();
        std::os::unix::fs::symlink(&store, &link).unwrap();
        for path in [&store, &link, &dir.path().join("./store")] {
            let again = start(&settings(path)).await.err();
            assert!(matches!(again, Some(AppError::InUse(_))), "{again:?}");
        }
        running.stop().await;
        start(&settings(&link)).await.unwrap().stop().await;
    }
}
