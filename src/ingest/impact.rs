//! The graph in memory ([`Index`]), kept for questions of impact: read at the first question, then kept current.
//!
//! * **Reading** is one walk through the highest versions of all packages ([`Store::tops`]), on threads of its own, begun by
//!   the first question. Questions that come meanwhile wait for it, as long as a client does.
//! * **Keeping current**: whoever makes a version's facts durable (`publish::establish`, which publishes, imports
//!   and first sights by a promotion all go through) notes what the package's highest version is then. Noting is cheap and never
//!   waits for a question; the next question puts what was noted into the graph. What is noted while the graph is being
//!   read is put on top of what was read: of two versions the higher one is the newer.
//! * **Several replicas** write to one Cassandra, and each notes its own only. There the graph is read again in the
//!   background when it is older than a minute and somebody asks; answers say of when they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::{Core, IngestError, Result};
use crate::graph::{Builder, Index, Unreadable};
use crate::model::name::PackageName;
use crate::model::package::{Millis, Top};
use crate::plan::Increment;
use crate::store::{Store, StoreError, StoreErrorKind, Tops};

/// How many packages are read at a time.
const PAGE: usize = 10_000;

/// How many pages are read ahead of the thread that takes them in.
const AHEAD: usize = 2;

/// How long a question waits for the graph.
const PATIENCE: Duration = Duration::from_secs(20);

/// With several replicas: a graph that is older than this is read again.
const FRESH: Millis = 60_000;

/// And one that is older than this answers nothing until it is.
const STALE: Millis = 600_000;

/// How many questions are worked out at once.
const AT_ONCE: usize = 4;

/// So many changed packages are noted; if nobody asks for so long, the graph is dropped and read again when somebody does.
const NOTED: usize = 10_000;

/// The graph of this process, if anybody asked yet.
#[derive(Debug, Default)]
pub struct Impact {
    kept: Mutex<Kept>,
    /// Held by whoever puts what was noted into the graph.
    putting: Arc<tokio::sync::Mutex<()>>,
    asking: Asking,
}

/// Places for questions that are being worked out: each takes some megabytes and a processor.
#[derive(Debug)]
struct Asking(Arc<Semaphore>);

impl Default for Asking {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

#[derive(Debug, Default)]
struct Kept {
    graph: Option<Arc<RwLock<Index>>>,
    /// When reading it began.
    read: Millis,
    /// What has changed since questions last put it into the graph.
    noted: HashMap<PackageName, Arc<Top>>,
    loading: Option<Loading>,
}

#[derive(Debug)]
struct Loading {
    /// Says how it ended.
    done: watch::Receiver<Option<Ended>>,
    /// What has changed since reading began.
    since: HashMap<PackageName, Arc<Top>>,
}

type Ended = std::result::Result<(), (StoreErrorKind, String)>;

/// A graph that can be asked.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The graph; whoever holds it for reading keeps no change of packages waiting, only other questions.
    pub index: Arc<RwLock<Index>>,
    /// Everything that was answered before then is in it.
    pub as_of: Millis,
}

impl Impact {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a package's highest version is, after it was made durable.
    pub(super) fn note(&self, name: &PackageName, top: &Top) {
        let mut kept = self.lock();
        let kept = &mut *kept;
        if kept.graph.is_none() && kept.loading.is_none() {
            return;
        }
        let top = Arc::new(top.clone());
        let put = |all: &mut HashMap<PackageName, Arc<Top>>| {
            let there = all.get(name);
            if there.is_none_or(|there| there.version <= top.version) {
                all.insert(name.clone(), top.clone());
            }
        };
        if let Some(loading) = &mut kept.loading {
            put(&mut loading.since);
        }
        if kept.graph.is_some() {
            put(&mut kept.noted);
        }
        if kept.noted.len() > NOTED {
            kept.graph = None;
            kept.noted = HashMap::new();
        }
    }

    /// The graph as it is now, or on a shared store was not long ago. `None` if it is not read in time; it will be soon.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn graph(self: &Arc<Self>, core: &Core) -> Result<Option<Graph>> {
        let graph = match self.there(core) {
            Ok(graph) => Some(graph),
            Err(mut done) => {
                let waited = tokio::time::timeout(PATIENCE, done.wait_for(Option::is_some)).await;
                let Ok(ended) = waited else {
                    return Ok(None);
                };
                if let Ok(ended) = ended
                    && let Some(Err((kind, message))) = &*ended
                {
                    return Err(StoreError::new(*kind, message.clone()).into());
                }
                self.lock().graph(core)
            }
        };
        if let Some(graph) = &graph {
            self.put_noted(graph).await?;
        }
        Ok(graph)
    }

    /// Works out an answer, on a thread that may take its time.
    ///
    /// # Errors
    /// The process is ending.
    pub async fn ask<T: Send + 'static>(
        &self,
        graph: &Graph,
        question: impl FnOnce(&Index) -> T + Send + 'static,
    ) -> Result<T> {
        // Never closed, so it is always had.
        let place = Arc::clone(&self.asking.0).acquire_owned().await;
        let index = Arc::clone(&graph.index);
        let answer = tokio::task::spawn_blocking(move || {
            let _place = place;
            question(&index.read().unwrap_or_else(PoisonError::into_inner))
        });
        answer.await.map_err(|error| cut_short(&error))
    }

    /// The graph, if it may answer, else what to wait for; begins to read it if need be.
    fn there(
        self: &Arc<Self>,
        core: &Core,
    ) -> std::result::Result<Graph, watch::Receiver<Option<Ended>>> {
        let mut kept = self.lock();
        let graph = kept.graph(core);
        let age = match &graph {
            Some(graph) => core.clock.now().saturating_sub(graph.as_of),
            None => Millis::MAX,
        };
        if let Some(graph) = graph.clone().filter(|_| age <= FRESH) {
            return Ok(graph);
        }
        let done = match &kept.loading {
            Some(loading) => loading.done.clone(),
            None => self.load(&mut kept, core),
        };
        graph.filter(|_| age <= STALE).ok_or(done)
    }

    /// Begins to read the graph.
    fn load(self: &Arc<Self>, kept: &mut Kept, core: &Core) -> watch::Receiver<Option<Ended>> {
        let (tell, done) = watch::channel(None);
        kept.loading = Some(Loading {
            done: done.clone(),
            since: HashMap::new(),
        });
        let began = core.clock.now();
        let (this, store, increment) = (
            Arc::clone(self),
            Arc::clone(&core.store),
            core.rules.increment,
        );
        tokio::spawn(async move {
            let read = read(&*store, increment).await;
            let ended = this.loaded(read, began);
            if let Err((_, message)) = &ended {
                tracing::warn!(error = %message, "reading the graph");
            }
            tell.send_replace(Some(ended));
        });
        done
    }

    fn loaded(&self, read: Result<Index>, began: Millis) -> Ended {
        let mut kept = self.lock();
        let loading = kept.loading.take();
        match read {
            Ok(index) => {
                kept.graph = Some(Arc::new(RwLock::new(index)));
                kept.read = began;
                kept.noted = loading.map(|loading| loading.since).unwrap_or_default();
                Ok(())
            }
            Err(IngestError::Store(error)) => Err((error.kind, error.message)),
            Err(other) => Err((StoreErrorKind::Bug, other.to_string())),
        }
    }

    /// Puts what was noted into the graph. Whoever comes while another does that waits for it.
    async fn put_noted(&self, graph: &Graph) -> Result<()> {
        let putting = Arc::clone(&self.putting).lock_owned().await;
        let noted = {
            let mut kept = self.lock();
            let there = kept.graph.as_ref();
            if !there.is_some_and(|there| Arc::ptr_eq(there, &graph.index)) {
                return Ok(());
            }
            std::mem::take(&mut kept.noted)
        };
        if noted.is_empty() {
            return Ok(());
        }
        let index = Arc::clone(&graph.index);
        let put = tokio::task::spawn_blocking(move || {
            let mut index = index.write().unwrap_or_else(PoisonError::into_inner);
            for (name, top) in noted {
                index.apply(&name, &top);
            }
            drop(putting);
        });
        put.await.map_err(|error| cut_short(&error))
    }
}

impl Kept {
    fn graph(&self, core: &Core) -> Option<Graph> {
        let index = self.graph.clone()?;
        let as_of = if core.store.is_shared() {
            self.read
        } else {
            core.clock.now()
        };
        Some(Graph { index, as_of })
    }
}

fn cut_short(error: &tokio::task::JoinError) -> IngestError {
    StoreError::new(StoreErrorKind::Unknown, format!("cut short: {error}")).into()
}

/// Reads the whole graph: one page is read while the one before is taken in.
///
/// # Errors
/// The store could not be read, or holds what is no name or version.
pub async fn read(store: &dyn Store, increment: Increment) -> Result<Index> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Tops>(AHEAD);
    let building = tokio::task::spawn_blocking(move || {
        let mut builder = Builder::new(increment);
        while let Some(page) = receiver.blocking_recv() {
            builder.add(&page)?;
        }
        Ok::<Index, Unreadable>(builder.finish())
    });
    let mut cursor: Option<String> = None;
    loop {
        let (page, next) = store.tops(cursor.as_deref(), PAGE).await?;
        // Whoever took them in has stopped: it says why.
        let stopped = sender.send(page).await.is_err();
        cursor = next;
        if stopped || cursor.is_none() {
            break;
        }
    }
    drop(sender);
    let built = building.await.map_err(|error| cut_short(&error))?;
    built.map_err(|error| StoreError::new(StoreErrorKind::Bug, error.to_string()).into())
}

#[cfg(test)]
#[path = "impact_tests.rs"]
mod tests;
