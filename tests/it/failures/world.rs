//! A service without HTTP and without waiting: the steps of the worker, one at a time, over a store that may die.
//!
//! Like the worker it hears of new work in memory and reads the store's work only at a start. So work that is durable
//! but not handed over shows as left over, and work that is handed over but not durable is lost by the next death.

use crate::places::Place;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use feedsme::dispatch::{Claim, Claimed, Owner, claim, is_its_turn, settle, unfinished};
use feedsme::ingest::wave::late;
use feedsme::ingest::{Clock, Core, IngestError, Posted, accept, handle, plan};
use feedsme::model::id::{ChangeId, RebuildId};
use feedsme::model::name::PackageName;
use feedsme::model::package::{Millis, Slot};
use feedsme::model::work::{Job, Work};
use feedsme::neighbours::{Class, Outcome};
use feedsme::plan::Rules;
use feedsme::queue::retry::Attempt;
use feedsme::queue::{Next, after};
use feedsme::semver::Version;
use feedsme::store::Store;
use tokio::sync::mpsc;

use super::crashing::{CrashingStore, Fault};
use super::outside::{Outside, manifest, posted};
use super::random::Dice;
use super::watched::{Turn, WatchedStore, interleave};

/// See the module.
pub struct World {
    /// What survives.
    pub inner: Arc<dyn Store>,
    pub outside: Outside,
    pub time: Arc<AtomicI64>,
    pub rules: Arc<Rules>,
    /// The faults of the processes to come; after that there are none.
    faults: VecDeque<Fault>,
    process: Process,
    /// Rebuilds that were being sent when a process died, or whose outcome could not be written.
    pub may_be_sent_twice: BTreeSet<RebuildId>,
    /// The changes that were answered.
    pub answered: Vec<ChangeId>,
    pub deaths: usize,
    /// A promotion that was never answered was durable all the same, and was found at a later start: nobody can tell
    /// it from one that is wanted.
    pub resurfaced: bool,
    /// How often a rebuild was not sent because it was not its turn.
    waits: usize,
    _place: Place,
}

struct Process {
    core: Core,
    store: Arc<CrashingStore>,
    plans: VecDeque<Work>,
    sends: Vec<Work>,
    /// What is done when its time has come: see [`World::look_after`].
    rests: Vec<Work>,
}

/// A step failed; the process may be dead.
struct Failed;

impl From<IngestError> for Failed {
    fn from(_: IngestError) -> Self {
        Self
    }
}

impl World {
    /// A new world whose processes have these faults, one after the other.
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::with(Rules::default(), faults)
    }

    pub fn with(rules: Rules, faults: impl IntoIterator<Item = Fault>) -> Self {
        let place = Place::new().at_rest();
        let inner = place.open();
        let time = Arc::new(AtomicI64::new(1_700_000_000_000));
        let rules = Arc::new(rules);
        let mut faults: VecDeque<Fault> = faults.into_iter().collect();
        let first = faults.pop_front().unwrap_or(Fault::Never);
        Self {
            process: Process::new(&inner, &rules, &time, first),
            inner,
            outside: Outside::default(),
            time,
            rules,
            faults,
            may_be_sent_twice: BTreeSet::new(),
            answered: Vec::new(),
            deaths: 0,
            resurfaced: false,
            waits: 0,
            _place: place,
        }
    }

    /// The core of the process that runs now.
    pub fn core(&self) -> &Core {
        &self.process.core
    }

    /// A core that never fails.
    pub fn calm(&self) -> Core {
        core(self.inner.clone(), &self.rules, &self.time)
    }

    /// How many steps the process has begun.
    pub fn steps(&self) -> usize {
        self.process.store.steps()
    }

    /// Whether the process that runs now had its fault.
    pub fn has_struck(&self) -> bool {
        self.deaths > 0 || self.process.store.has_struck()
    }

    /// Time passes.
    pub fn pass(&self, by: Millis) {
        self.time.fetch_add(by, Ordering::SeqCst);
    }

    /// The process is killed and another one starts.
    pub async fn restart(&mut self) {
        loop {
            let fault = self.faults.pop_front().unwrap_or(Fault::Never);
            self.process = Process::new(&self.inner, &self.rules, &self.time, fault);
            self.deaths += 1;
            if self.process.resume().await.is_ok() {
                return;
            }
        }
    }

    pub async fn after_failure(&mut self) {
        if self.process.store.is_dead() {
            self.restart().await;
        }
    }

    /// Somebody publishes by hand, and everything that is to be done at once is done.
    pub async fn publish(&mut self, name: &str, version: &str, dependencies: &[(&str, &str)]) {
        let manifest = manifest(name, version, dependencies);
        self.outside.publish(&manifest);
        self.post(&posted(&manifest, None)).await;
        self.drain().await;
    }

    /// Somebody promotes, and everything that is to be done at once is done.
    pub async fn promote(&mut self, name: &str, version: &str, env: &str) {
        let manifest = self.outside.document(name, version);
        self.post(&posted(&manifest, Some(env))).await;
        self.drain().await;
    }

    /// A client posts until it is answered.
    pub async fn post(&mut self, posted: &Posted) -> ChangeId {
        loop {
            match accept(&self.process.core, posted).await {
                Ok(accepted) => {
                    self.process.put(vec![accepted.work]);
                    self.answered.push(accepted.id.clone());
                    return accepted.id;
                }
                Err(_) => self.after_failure().await,
            }
        }
    }

    /// Does all the work there is, but no notice arrives.
    pub async fn drain(&mut self) {
        while self.step().await {}
        self.nothing_left().await;
    }

    /// Plans what was accepted; nothing is sent.
    pub async fn plan(&mut self) {
        while !self.process.plans.is_empty() {
            self.step().await;
        }
    }

    /// Somebody publishes by hand; nothing is sent.
    pub async fn publish_only(&mut self, name: &str, version: &str, dependencies: &[(&str, &str)]) {
        let manifest = manifest(name, version, dependencies);
        self.outside.publish(&manifest);
        self.post(&posted(&manifest, None)).await;
        self.plan().await;
    }

    /// Somebody promotes; nothing is sent.
    pub async fn promote_only(&mut self, name: &str, version: &str, env: &str) {
        let manifest = self.outside.document(name, version);
        self.post(&posted(&manifest, Some(env))).await;
        self.plan().await;
    }

    /// Plans two changes at once, each in a process of its own that may have a fault, their calls in the order of the
    /// dice.
    pub async fn plan_two(&mut self, faults: [Fault; 2], dice: &mut Dice) {
        let mut items = Vec::new();
        while items.len() < 2 {
            let Some(item) = self.process.plans.pop_front() else {
                break;
            };
            items.push(item);
        }
        let (sender, turns) = mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for (task, (item, fault)) in items.into_iter().zip(faults).enumerate() {
            let dying: Arc<dyn Store> = CrashingStore::new(self.inner.clone(), fault);
            let store: Arc<dyn Store> = WatchedStore::gated(dying, task, sender.clone());
            let core = core(store, &self.rules, &self.time);
            let sender = sender.clone();
            tasks.push(tokio::spawn(async move {
                let Job::Plan { change, digest } = &item.job else {
                    panic!("only plans are here")
                };
                let planned = plan(&core, change, digest).await;
                let _ = sender.send(Turn::Done);
                (item, planned)
            }));
        }
        drop(sender);
        interleave(tasks.len(), turns, |ready| ready[dice.below(ready.len())]).await;
        for task in tasks {
            match task.await.unwrap() {
                (item, Ok(work)) => {
                    self.process.put(work);
                    self.inner.finish_work(&[item]).await.unwrap();
                }
                (item, Err(_)) => self.process.put(vec![item]),
            }
        }
    }

    /// Does one item of work; false if there is none.
    pub async fn step(&mut self) -> bool {
        let Some(item) = self.process.next(&self.time) else {
            return false;
        };
        if self.one(&item).await.is_err() {
            if self.process.store.is_dead() {
                self.restart().await;
            } else {
                self.process.put(vec![item]);
            }
        }
        true
    }

    async fn one(&mut self, item: &Work) -> Result<(), Failed> {
        let core = self.process.core.clone();
        match &item.job {
            Job::Plan { change, digest } => {
                let work = plan(&core, change, digest).await?;
                self.process.put(work);
            }
            Job::Advance { .. }
            | Job::Tick { .. }
            | Job::Collected { .. }
            | Job::Attached { .. }
            | Job::HoldEnds { .. } => {
                let handled = handle(&core, item).await?;
                self.process.put(handled.work);
                for overdue in handled.overdue {
                    let work = late(&core, &overdue.wave, &overdue.key).await?;
                    self.process.put(vec![work]);
                }
            }
            Job::Send {
                rebuild,
                key,
                order,
            } => {
                if !is_its_turn(&core, &item.package, key, *order).await? {
                    self.waits += 1;
                    assert!(self.waits < 1_000, "its turn never comes: {item:?}");
                    let due = core.clock.now() + 50;
                    self.process.put(vec![Work {
                        due,
                        ..item.clone()
                    }]);
                    return Ok(());
                }
                match claim(&core, &Owner::alone("test"), rebuild, &item.package, key).await? {
                    Claim::Claimed(claimed) => {
                        let outcome = self.outside.receive(&claimed);
                        self.settle(&core, &claimed, &outcome).await?;
                    }
                    Claim::NotBefore(due) => {
                        self.process.put(vec![Work {
                            due,
                            ..item.clone()
                        }]);
                        return Ok(());
                    }
                    Claim::Nothing => {
                        let more = unfinished(&core, rebuild, &item.package, key).await?;
                        self.process.put(more.into_iter().collect());
                    }
                }
            }
        }
        while self
            .process
            .store
            .finish_work(std::slice::from_ref(item))
            .await
            .is_err()
        {
            if self.process.store.is_dead() {
                return Err(Failed);
            }
        }
        Ok(())
    }

    async fn settle(
        &mut self,
        core: &Core,
        claimed: &Claimed,
        outcome: &Outcome,
    ) -> Result<(), Failed> {
        let next = judge(claimed, outcome, core.clock.now());
        let mut settled = settle(core, claimed, outcome, next).await;
        for _ in 0..5 {
            if settled.is_ok() {
                break;
            }
            settled = settle(core, claimed, outcome, next).await;
        }
        if settled.is_err() {
            let id = &claimed.rebuild.id;
            let results = self.inner.attempts(id).await.unwrap();
            if results
                .iter()
                .all(|one| one.number != claimed.rebuild.attempt)
            {
                self.may_be_sent_twice.insert(id.clone());
            }
        }
        let work = settled?;
        self.process.put(work.into_iter().collect());
        Ok(())
    }

    /// What a process does not know of, nobody does until the next start. Only a change that was never answered may be
    /// so: its client posts it again.
    async fn nothing_left(&mut self) {
        // The end of a hold failed half-way and is done again: then what it put is told.
        let now = self.time.load(Ordering::SeqCst);
        let ends = |item: &Work| matches!(item.job, Job::HoldEnds { .. }) && item.due <= now;
        if self.process.rests.iter().any(ends) {
            return;
        }
        let mut left = feedsme::store::all_pending(&*self.inner).await.unwrap();
        left.retain(|item| self.process.rests.iter().all(|rest| rest.id != item.id));
        // The next look was put, its answer was lost, and another one was put for later: each wave needs only one.
        let ticks = self.process.rests.iter().map(|rest| &rest.job);
        let ticks: Vec<&Job> = ticks
            .filter(|job| matches!(job, Job::Tick { .. }))
            .collect();
        left.retain(|item| !ticks.contains(&&item.job));
        let mut needless = Vec::new();
        for item in &left {
            let Job::Tick { wave: id } = &item.job else {
                continue;
            };
            let ended = self.inner.wave(id).await.unwrap();
            let ended = ended.is_some_and(|wave| wave.state.is_ended());
            // What opens it failed half-way and is done again.
            let again = self.process.rests.iter();
            let mut again =
                again.filter(|one| matches!(&one.job, Job::Collected { wave } if wave == id));
            if ended || again.next().is_some() {
                needless.push(item.id.clone());
            }
        }
        left.retain(|item| !needless.contains(&item.id));
        for item in &left {
            let unanswered =
                matches!(&item.job, Job::Plan { change, .. } if !self.answered.contains(change));
            assert!(
                unanswered,
                "durable, but the process does not know of it: {item:?}"
            );
        }
        if !left.is_empty() {
            self.resurfaced = true;
            self.restart().await;
            while self.step().await {}
        }
    }

    /// Work that somebody put, told to the process.
    pub fn hand_over(&mut self, work: Vec<Work>) {
        self.process.put(work);
    }

    /// Time passes, and what was to be done by then is done.
    pub async fn look_after(&mut self, by: Millis) {
        self.pass(by);
        loop {
            let now = self.time.load(Ordering::SeqCst);
            let due = self.process.rests.iter().position(|item| item.due <= now);
            let Some(at) = due else { break };
            let item = self.process.rests.remove(at);
            self.process.plans.push_back(item);
            self.drain().await;
        }
    }

    /// From here on the process has this fault.
    pub fn next_dies(&mut self, fault: Fault) {
        self.process.store.strike(fault);
    }

    /// Works until the process dies, or there is nothing left; after a death the looks at waves that are due within a
    /// minute come before everything else.
    pub async fn looks_come_first(&mut self) {
        let deaths = self.deaths;
        while self.deaths == deaths {
            if !self.step().await {
                return;
            }
        }
        self.pass(60_000);
        let now = self.time.load(Ordering::SeqCst);
        let rests = std::mem::take(&mut self.process.rests);
        let (due, later): (Vec<Work>, Vec<Work>) =
            rests.into_iter().partition(|item| item.due <= now);
        self.process.rests = later;
        for item in due.into_iter().rev() {
            self.process.plans.push_front(item);
        }
    }

    /// So much time passes that every wave has ended: what did not come back is late.
    pub async fn end_waves(&mut self) {
        for _ in 0..20 {
            if self.process.rests.is_empty() {
                return;
            }
            self.look_after(31 * 60_000).await;
            self.settle_down().await;
        }
        panic!("these waves never end: {:?}", self.process.rests);
    }

    /// All notices arrive, one after the other, and everything that follows happens.
    pub async fn settle_down(&mut self) {
        self.drain().await;
        while let Some(notice) = self.outside.notices.pop_front() {
            self.post(&notice).await;
            self.drain().await;
        }
    }
}

/// Names and versions in tests.
pub trait Parse {
    fn parse_name(&self) -> PackageName;
    fn parse_version(&self) -> Version;
}

impl Parse for str {
    fn parse_name(&self) -> PackageName {
        PackageName::parse(self).unwrap()
    }

    fn parse_version(&self) -> Version {
        Version::parse(self).unwrap()
    }
}

fn core(store: Arc<dyn Store>, rules: &Arc<Rules>, time: &Arc<AtomicI64>) -> Core {
    let time = time.clone();
    let clock = Clock::new(move || time.fetch_add(1, Ordering::SeqCst));
    Core::new(store, rules.clone(), clock)
}

/// What the worker makes of an outcome.
fn judge(claimed: &Claimed, outcome: &Outcome, now: Millis) -> Next {
    if outcome.class == Class::Exists && claimed.key.slot != Slot::Publish {
        return Next::SentEarlier;
    }
    let attempt = Attempt {
        tries: claimed.rebuild.tries + 1,
        may_have_reached_before: claimed.may_have_reached_before,
        pause_counts: false,
        now_ms: now,
        jitter: 0.5,
    };
    after(outcome, &attempt)
}

impl Process {
    fn new(
        inner: &Arc<dyn Store>,
        rules: &Arc<Rules>,
        time: &Arc<AtomicI64>,
        fault: Fault,
    ) -> Self {
        let store = CrashingStore::new(inner.clone(), fault);
        Self {
            core: core(store.clone(), rules, time),
            store,
            plans: VecDeque::new(),
            sends: Vec::new(),
            rests: Vec::new(),
        }
    }

    async fn resume(&mut self) -> Result<(), Failed> {
        let work = feedsme::store::all_pending(&*self.store).await;
        self.put(work.map_err(|_| Failed)?);
        Ok(())
    }

    fn put(&mut self, work: Vec<Work>) {
        for item in work {
            match item.job {
                Job::Plan { .. } | Job::Advance { .. } | Job::Attached { .. } => {
                    self.plans.push_back(item);
                }
                Job::Send { .. } => self.sends.push(item),
                Job::Tick { .. } | Job::Collected { .. } | Job::HoldEnds { .. } => {
                    self.rests.push(item);
                }
            }
        }
    }

    /// Plans first; then sends in the order of packages and, within one, of decisions (rule 10). If all that is left
    /// waits for its time, the time comes.
    fn next(&mut self, time: &AtomicI64) -> Option<Work> {
        if let Some(item) = self.plans.pop_front() {
            return Some(item);
        }
        let order = |item: &Work| match &item.job {
            Job::Send { key, order, .. } => (
                item.package.clone(),
                key.slot.as_str().to_owned(),
                *order,
                item.due,
            ),
            _ => (item.package.clone(), String::new(), 0, item.due),
        };
        let first_due = self.sends.iter().map(|item| item.due).min()?;
        let now = time.fetch_max(first_due, Ordering::SeqCst).max(first_due);
        let (at, _) = self
            .sends
            .iter()
            .enumerate()
            .filter(|(_, item)| item.due <= now)
            .min_by_key(|(_, item)| order(item))?;
        Some(self.sends.remove(at))
    }
}
