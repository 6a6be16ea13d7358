//! The worker: plans what was accepted and sends what was decided, until it is told to stop.
//!
//! One task owns everything that is decided between two items: the [`Schedule`]s (one item of a package at a time, in
//! order), the neighbours' [`Lane`]s and the send slots. The steps themselves run beside it and report back, so that no
//! slow neighbour and no slow write ever holds up the choice of what is next. A send slot is given back when the
//! neighbour has answered, before the outcome is written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::share::Owner;
use super::{Answer, Claim, Claimed, Neighbours, claim, is_its_turn, settle, target, unfinished};
use crate::ingest::{Core, IngestError, handle};
use crate::model::id::{ChangeId, RebuildId};
use crate::model::name::PackageName;
use crate::model::package::{Millis, Slot};
use crate::model::work::{Job, Shard, Work};
use crate::neighbours::{Class, Neighbour, Outcome};
use crate::queue::retry::Attempt;
use crate::queue::schedule::Schedule;
use crate::queue::{Admission, Lane, Next, Refusal, after};
use crate::store::{StoreError, StoreErrorKind, all_pending, pending_in};

/// How many changes are planned at once.
const PLANNING: usize = 32;

/// How long after a failed step it is repeated: the store was away, most likely. Doubles up to [`AGAIN_AT_MOST`].
const AGAIN: Millis = 500;
const AGAIN_AT_MOST: Millis = 60_000;

/// How long a rebuild waits for the work of one that was decided before it.
const NOT_ITS_TURN: Millis = 50;

/// What the worker is made from.
#[derive(Clone)]
pub struct WorkerOptions {
    /// This process, as recorded in claims, and what it knows of the others.
    pub owner: Owner,
    /// How many rebuilds are being sent to a neighbour at once.
    pub concurrency: HashMap<Neighbour, usize>,
    /// How long a shutdown waits for what is being sent.
    pub grace: Duration,
}

/// Something that happened; for whoever waits for it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A change was planned.
    Planned(ChangeId),
    /// An attempt at a rebuild was settled.
    Settled(RebuildId),
}

/// Hands work to the worker.
#[derive(Clone)]
pub struct Inbox {
    sender: mpsc::UnboundedSender<Message>,
    events: broadcast::Sender<Event>,
}

impl Inbox {
    /// Tells the worker about work that is durable already. It is not lost if the worker is gone: it is found at the
    /// next start.
    pub fn put(&self, work: Vec<Work>) {
        let _ = self.sender.send(Message::Work(work));
    }

    /// Tells the worker which shards are its own from now on; it takes up what is left in those that are new, and lets
    /// go of what waits in the others. Until the first time, all are.
    pub fn own(&self, shards: BTreeSet<Shard>) {
        let _ = self.sender.send(Message::Own(shards));
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// How much waits and how the lanes are.
    pub async fn status(&self) -> Option<Status> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.sender.send(Message::Status(sender)).ok()?;
        receiver.await.ok()
    }
}

/// What the worker is doing.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Status {
    /// Changes that wait to be planned, or are being planned.
    pub planning: usize,
    /// Rebuilds that wait to be sent, for whatever reason.
    pub waiting: usize,
    /// Rebuilds that are being sent.
    pub sending: usize,
    /// The lanes that are paused, and since when (milliseconds).
    pub paused: Vec<(Neighbour, Millis)>,
}

impl Status {
    /// Whether there is nothing to do now or later.
    pub fn is_idle(&self) -> bool {
        self.planning == 0 && self.waiting == 0 && self.sending == 0
    }
}

enum Message {
    Work(Vec<Work>),
    Own(BTreeSet<Shard>),
    Status(tokio::sync::oneshot::Sender<Status>),
}

/// The key of the send queues: a package in an environment (rule 10).
type SendKey = (PackageName, String);

/// The key of the queues of everything else: changes of a package are planned one at a time, in their order; what a wave
/// has to do waits for nobody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum StepKey {
    Package(PackageName),
    Item(String),
}

impl StepKey {
    fn of(work: &Work) -> Self {
        match &work.job {
            Job::Plan { .. } => Self::Package(work.package.clone()),
            _ => Self::Item(work.id.clone()),
        }
    }
}

enum Done {
    Planned {
        work: Work,
        result: Result<Vec<Work>, IngestError>,
    },
    Claimed {
        work: Work,
        result: Result<Option<Box<Claimed>>, IngestError>,
        /// What goes on where nothing was claimed.
        more: Vec<Work>,
    },
    /// Nothing was claimed: it is another one's turn, or it waits for a retry.
    NotYet { work: Work, due: Millis },
    Answered {
        work: Work,
        claimed: Box<Claimed>,
        answer: Answer,
    },
    Settled {
        work: Work,
        result: Result<Vec<Work>, IngestError>,
    },
    /// What was left in a shard that we own now.
    TakenOver {
        shard: Shard,
        result: Result<Vec<Work>, StoreError>,
    },
    Finished {
        items: Vec<Work>,
        result: Result<(), StoreError>,
    },
}

/// The worker's state; run it with [`Worker::run`].
pub struct Worker {
    core: Core,
    neighbours: Arc<Neighbours>,
    options: WorkerOptions,
    inbox: mpsc::UnboundedReceiver<Message>,
    events: broadcast::Sender<Event>,
    plans: Schedule<StepKey, (), Work>,
    sends: Schedule<SendKey, Neighbour, Work>,
    arrivals: u64,
    planning: usize,
    sending: HashMap<Neighbour, usize>,
    settling: usize,
    lanes: HashMap<Neighbour, Lane<String>>,
    tasks: JoinSet<Done>,
    finished: Vec<Work>,
    finishing: bool,
    /// The shards that are ours; `None` if all are, because nobody else works on the store.
    shards: Option<BTreeSet<Shard>>,
    /// The ids of the items that wait or are being worked on: other replicas put work as well, and it is found by
    /// looking again and again.
    known: HashSet<String>,
    /// How often the step of an item failed in a row.
    failures: HashMap<String, u32>,
}

impl Worker {
    /// A worker and the way to hand it work.
    pub fn new(core: Core, neighbours: Neighbours, options: WorkerOptions) -> (Self, Inbox) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(1_024);
        let worker = Self {
            core,
            neighbours: Arc::new(neighbours),
            options,
            inbox,
            events: events.clone(),
            plans: Schedule::default(),
            sends: Schedule::default(),
            arrivals: 0,
            planning: 0,
            sending: HashMap::new(),
            settling: 0,
            lanes: HashMap::new(),
            tasks: JoinSet::new(),
            finished: Vec::new(),
            finishing: false,
            shards: None,
            known: HashSet::new(),
            failures: HashMap::new(),
        };
        (worker, Inbox { sender, events })
    }

    /// Takes up what the store still has to do: what a process that died, or was stopped, left behind. Changes of a
    /// package are planned in the order in which they were accepted, as if nothing had been.
    pub async fn resume(&mut self) -> Result<usize, StoreError> {
        if self.core.store.is_shared() {
            // Who takes care of what is not known yet: see `own`.
            self.shards = Some(BTreeSet::new());
            return Ok(0);
        }
        let mut left = all_pending(&*self.core.store).await?;
        // The store gives them in the order of ids. A plan is due when it was accepted; sends have an order of their own.
        left.sort_by_key(|work| work.due);
        let found = left.len();
        self.take_in(left);
        Ok(found)
    }

    /// Works until `stop`; then starts nothing more, waits for what is under way as long as the grace allows, and
    /// leaves the rest to the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let wake = self.start_what_can_be();
            tokio::select! {
                () = stop.cancelled() => break,
                message = self.inbox.recv() => match message {
                    Some(message) => self.hear(message),
                    None => break,
                },
                Some(done) = self.tasks.join_next() => self.handle(done),
                () = sleep_until(&self.core, wake) => {}
            }
        }
        self.wind_down().await;
    }

    async fn wind_down(&mut self) {
        let grace = tokio::time::sleep(self.options.grace);
        tokio::pin!(grace);
        loop {
            self.finish_in_slices();
            tokio::select! {
                () = &mut grace => break,
                done = self.tasks.join_next() => match done {
                    Some(Ok(Done::Claimed { work, result: Ok(Some(claimed)), .. })) => self.send(work, claimed),
                    Some(done) => self.handle(done),
                    None => return,
                },
            }
        }
        let left = self.tasks.len();
        if left > 0 {
            tracing::warn!(
                left,
                "stopped while rebuilds were being sent; they are sent again at the next start"
            );
        }
        self.tasks.shutdown().await;
    }

    fn hear(&mut self, message: Message) {
        self.hear_one(message);
        // Whatever else arrived meanwhile: one look at the queues for all of it.
        while let Ok(message) = self.inbox.try_recv() {
            self.hear_one(message);
        }
    }

    fn hear_one(&mut self, message: Message) {
        match message {
            Message::Work(work) => self.take_in(work),
            Message::Own(shards) => self.own(&shards),
            Message::Status(answer) => {
                let _ = answer.send(self.status());
            }
        }
    }

    fn status(&self) -> Status {
        let paused = |(neighbour, lane): (&Neighbour, &Lane<String>)| {
            Some((*neighbour, lane.paused_since()?))
        };
        Status {
            planning: self.plans.iter().filter(|item| is_at_once(item)).count() + self.planning,
            waiting: self.sends.len() + self.settling,
            sending: self.sending.values().sum(),
            paused: self.lanes.iter().filter_map(paused).collect(),
        }
    }

    /// From now on these shards are ours. Nothing that is being worked on is touched.
    fn own(&mut self, shards: &BTreeSet<Shard>) {
        let before = self.shards.replace(shards.clone()).unwrap_or_default();
        if before == *shards {
            return;
        }
        // What failed half-way may be claimed by us: as long as we live, nobody else would take it up.
        let failures = &self.failures;
        let lost =
            |item: &Work| !shards.contains(&item.shard()) && !failures.contains_key(&item.id);
        for item in self.plans.remove_if(lost) {
            self.known.remove(&item.id);
        }
        for item in self.sends.remove_if(lost) {
            self.known.remove(&item.id);
        }
        for shard in shards.difference(&before).copied() {
            self.take_over(shard);
        }
    }

    fn take_over(&mut self, shard: Shard) {
        let store = self.core.store.clone();
        self.tasks.spawn(async move {
            let result = pending_in(&*store, shard).await;
            if result.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Done::TakenOver { shard, result }
        });
    }

    fn take_in(&mut self, work: Vec<Work>) {
        for item in work {
            if let Some(shards) = &self.shards
                && !(shards.contains(&item.shard()) && self.known.insert(item.id.clone()))
            {
                continue;
            }
            let (id, due) = (item.id.clone(), item.due);
            match &item.job {
                Job::Send { order, .. } => {
                    let (key, to, order) = (self.send_key(&item), self.goes_to(&item), *order);
                    self.sends.push(&key, order, &id, due, to, item);
                }
                Job::Plan { .. } => {
                    self.arrivals += 1;
                    self.plans
                        .push(&StepKey::of(&item), self.arrivals, &id, due, (), item);
                }
                _ => self.plans.push(&StepKey::of(&item), 0, &id, due, (), item),
            }
        }
    }

    fn send_key(&self, work: &Work) -> SendKey {
        let env = match &work.job {
            Job::Send { key, .. } => match &key.slot {
                Slot::Publish => self.core.rules.environments.first().as_str(),
                Slot::Env(env) => env.as_str(),
            },
            _ => "",
        };
        (work.package.clone(), env.to_owned())
    }

    /// Starts everything that can be; returns when to look again.
    fn start_what_can_be(&mut self) -> Option<Millis> {
        let now = self.core.clock.now();
        let mut wake = self.plans.tick(now);
        while self.planning < PLANNING {
            let Some(key) = self.plans.ready(()).next().map(|(key, _)| key.clone()) else {
                break;
            };
            let Some(work) = self.plans.take(&key) else {
                break;
            };
            self.start_plan(work);
        }
        wake = earlier(wake, self.sends.tick(now));
        wake = earlier(wake, self.start_sends(now));
        self.finish_in_slices();
        wake
    }

    fn start_plan(&mut self, work: Work) {
        self.planning += 1;
        let core = self.core.clone();
        let neighbours = self.neighbours.clone();
        self.tasks.spawn(async move {
            let step = async {
                let mut handled = handle(&core, &work).await?;
                for overdue in &handled.overdue {
                    handled
                        .work
                        .extend(neighbours.recover(&core, overdue).await?);
                }
                Ok(handled.work)
            };
            let result = caught(step).await.unwrap_or_else(|| Err(dead_step()));
            Done::Planned { work, result }
        });
    }

    /// Starts sends as the lanes and the slots allow. Every send needs the registry and its target.
    fn start_sends(&mut self, now: Millis) -> Option<Millis> {
        let mut wake = None;
        for to in [Neighbour::Warehouse, Neighbour::BuildService] {
            let slots = self.options.concurrency.get(&to).copied().unwrap_or(20);
            let used = self.sending.get(&to).copied().unwrap_or(0);
            let free = slots.saturating_sub(used);
            if free == 0 {
                continue;
            }
            let both =
                [Neighbour::Registry, to].map(|one| self.lanes.entry(one).or_default().admits(now));
            if both.contains(&Admission::Closed) {
                continue;
            }
            if let Some(until) = both
                .iter()
                .filter_map(|one| match one {
                    Admission::Until(at) => Some(*at),
                    _ => None,
                })
                .max()
            {
                if self.sends.ready(to).next().is_some() {
                    wake = earlier(wake, Some(until));
                }
                continue;
            }
            let ready: Vec<(SendKey, String)> = self
                .sends
                .ready(to)
                .map(|(key, work)| (key.clone(), rebuild_id(work)))
                .take(if both.contains(&Admission::Probe) {
                    usize::MAX
                } else {
                    free
                })
                .collect();
            if both.contains(&Admission::Probe) {
                let probed = if both[0] == Admission::Probe {
                    Neighbour::Registry
                } else {
                    to
                };
                let pick = self
                    .lanes
                    .entry(probed)
                    .or_default()
                    .pick(ready.iter().map(|(_, id)| id))
                    .cloned();
                let Some((key, id)) =
                    pick.and_then(|id| ready.into_iter().find(|(_, one)| *one == id))
                else {
                    continue;
                };
                for (one, admission) in [Neighbour::Registry, to].into_iter().zip(both) {
                    if admission == Admission::Probe {
                        self.lanes.entry(one).or_default().probe(id.clone());
                    }
                }
                self.start_send(&key, to);
            } else {
                for (key, _) in ready {
                    self.start_send(&key, to);
                }
            }
        }
        wake
    }

    fn start_send(&mut self, key: &SendKey, to: Neighbour) {
        let Some(work) = self.sends.take(key) else {
            return;
        };
        *self.sending.entry(to).or_default() += 1;
        let (core, owner) = (self.core.clone(), self.options.owner.clone());
        self.tasks.spawn(async move {
            let step = async {
                let Job::Send {
                    rebuild,
                    key,
                    order,
                } = &work.job
                else {
                    return Ok(Ok((None, Vec::new())));
                };
                if !is_its_turn(&core, &work.package, key, *order).await? {
                    return Ok(Err(core.clock.now() + NOT_ITS_TURN));
                }
                match claim(&core, &owner, rebuild, &work.package, key).await? {
                    Claim::Claimed(claimed) => Ok(Ok((Some(claimed), Vec::new()))),
                    Claim::NotBefore(due) => Ok(Err(due)),
                    Claim::Nothing => {
                        let more = unfinished(&core, rebuild, &work.package, key).await?;
                        Ok(Ok((None, more)))
                    }
                }
            };
            let (result, more) = match caught(step).await.unwrap_or_else(|| Err(dead_step())) {
                Ok(Err(due)) => return Done::NotYet { work, due },
                Ok(Ok((claimed, more))) => (Ok(claimed), more),
                Err(error) => (Err(error), Vec::new()),
            };
            Done::Claimed { work, result, more }
        });
    }

    fn send(&mut self, work: Work, claimed: Box<Claimed>) {
        let (core, neighbours) = (self.core.clone(), self.neighbours.clone());
        self.tasks.spawn(async move {
            let answer = caught(neighbours.send(&core, &claimed))
                .await
                .unwrap_or_else(|| died(&claimed, neighbours.warehouse.is_some()));
            Done::Answered {
                work,
                claimed,
                answer,
            }
        });
    }

    fn handle(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                // A panic is a bug; its item stays in the store and is taken up at the next start.
                tracing::error!(%error, "a step of the worker died");
                return;
            }
        };
        match done {
            Done::Planned { work, result } => {
                self.planning -= 1;
                match result {
                    Ok(new) => {
                        self.take_in(new);
                        self.finish(&work);
                        if let Job::Plan { change, .. } = &work.job {
                            let _ = self.events.send(Event::Planned(change.clone()));
                        }
                    }
                    Err(error) => self.plan_again(&work, &error),
                }
                self.plans.done(&StepKey::of(&work));
            }
            Done::Claimed { work, result, more } => match result {
                Ok(Some(claimed)) => self.send(work, claimed),
                Ok(None) => {
                    self.take_in(more);
                    self.give_back(&work);
                    self.abandon(&work);
                    self.finish(&work);
                    self.sends.done(&self.send_key(&work));
                }
                Err(error) => {
                    self.give_back(&work);
                    self.abandon(&work);
                    self.send_again(work, &error);
                }
            },
            Done::NotYet { work, due } => {
                self.give_back(&work);
                self.abandon(&work);
                self.put_back(work, due);
            }
            Done::Answered {
                work,
                claimed,
                answer,
            } => {
                self.give_back(&work);
                let next = self.judge(&claimed, &answer);
                let outcome = answer.outcome;
                self.settling += 1;
                let core = self.core.clone();
                self.tasks.spawn(async move {
                    let step = || caught(settle(&core, &claimed, &outcome, next));
                    let mut result = step().await.unwrap_or_else(|| Err(dead_step()));
                    // The outcome is known to nobody else: it is worth patience with a store that is away, or what
                    // was sent would be sent again.
                    let mut tries = 0;
                    while let Err(error) = &result {
                        tries += 1;
                        let hopeless = matches!(error, IngestError::Document(..))
                            || matches!(error, IngestError::Store(one) if one.kind == StoreErrorKind::Bug);
                        if hopeless && tries > 5 {
                            break;
                        }
                        let wait = 200_u64 << tries.min(5);
                        tokio::time::sleep(Duration::from_millis(wait)).await;
                        result = step().await.unwrap_or_else(|| Err(dead_step()));
                    }
                    Done::Settled { work, result }
                });
            }
            Done::Settled { work, result } => {
                self.settling -= 1;
                match result {
                    Ok(new) => {
                        self.take_in(new);
                        self.finish(&work);
                        if let Job::Send { rebuild, .. } = &work.job {
                            let _ = self.events.send(Event::Settled(rebuild.clone()));
                        }
                        self.sends.done(&self.send_key(&work));
                    }
                    Err(error) => self.send_again(work, &error),
                }
            }
            Done::TakenOver { shard, result } => match result {
                Ok(mut left) => {
                    // As at a start.
                    left.sort_by_key(|work| work.due);
                    self.take_in(left);
                }
                Err(error) => {
                    tracing::warn!(%error, shard = shard.number(), "taking over a shard");
                    if self.shards.as_ref().is_none_or(|own| own.contains(&shard)) {
                        self.take_over(shard);
                    }
                }
            },
            Done::Finished { items, result } => {
                self.finishing = false;
                for item in &items {
                    self.known.remove(&item.id);
                }
                if let Err(error) = result {
                    tracing::warn!(%error, items = items.len(), "finished work is still in the store");
                }
            }
        }
    }

    /// The change keeps its place before the later ones of its package; only one whose document cannot be read any more,
    /// which will not get better, lets them pass.
    fn plan_again(&mut self, work: &Work, error: &IngestError) {
        if self.let_go(work) {
            return;
        }
        tracing::error!(work = work.id, %error, "planning failed; it is repeated");
        let due = self.again_at(&work.id);
        let place = match error {
            IngestError::Store(_) => 0,
            IngestError::Document(..) => {
                self.arrivals += 1;
                self.arrivals
            }
        };
        let work = Work {
            due,
            ..work.clone()
        };
        let (key, id) = (StepKey::of(&work), work.id.clone());
        self.plans.push(&key, place, &id, due, (), work);
    }

    fn send_again(&mut self, work: Work, error: &IngestError) {
        tracing::error!(work = work.id, %error, "a step of sending failed; it is repeated");
        let due = self.again_at(&work.id);
        // Also if the shard is another replica's by now: the claim may be ours.
        self.push_again(work, due);
    }

    /// Puts an item that was taken back to its place.
    fn put_back(&mut self, work: Work, due: Millis) {
        let key = self.send_key(&work);
        let tried = self.failures.contains_key(&work.id);
        if !tried && self.let_go(&work) {
            self.sends.done(&key);
            return;
        }
        self.push_again(work, due);
    }

    fn push_again(&mut self, work: Work, due: Millis) {
        let key = self.send_key(&work);
        if let Job::Send { order, .. } = work.job {
            let id = work.id.clone();
            let to = self.goes_to(&work);
            self.sends
                .push(&key, order, &id, due, to, Work { due, ..work });
        }
        self.sends.done(&key);
    }

    fn again_at(&mut self, id: &str) -> Millis {
        let failures = self.failures.entry(id.to_owned()).or_default();
        let wait = (AGAIN << (*failures).min(10)).min(AGAIN_AT_MOST);
        *failures += 1;
        self.core.clock.now() + wait
    }

    /// Whether an item that was being worked on belongs to another replica by now, which finds it in the store.
    fn let_go(&mut self, work: &Work) -> bool {
        let lost = self
            .shards
            .as_ref()
            .is_some_and(|own| !own.contains(&work.shard()));
        if lost {
            self.known.remove(&work.id);
            self.failures.remove(&work.id);
        }
        lost
    }

    fn finish(&mut self, work: &Work) {
        self.failures.remove(&work.id);
        self.finished.push(work.clone());
    }

    fn give_back(&mut self, work: &Work) {
        let to = self.goes_to(work);
        if let Some(used) = self.sending.get_mut(&to) {
            *used = used.saturating_sub(1);
        }
    }

    /// Who takes what this item sends.
    fn goes_to(&self, work: &Work) -> Neighbour {
        match &work.job {
            Job::Send { key, .. } => target(key, self.neighbours.warehouse.is_some()),
            _ => Neighbour::BuildService,
        }
    }

    /// A probe that came to nothing lets another one go.
    fn abandon(&mut self, work: &Work) {
        let id = rebuild_id(work);
        for lane in self.lanes.values_mut() {
            lane.abandoned(&id);
        }
    }

    /// What an outcome means for the lanes and for the rebuild.
    fn judge(&mut self, claimed: &Claimed, answer: &Answer) -> Next {
        let outcome = &answer.outcome;
        let now = self.core.clock.now();
        let jitter = jitter();
        if !answer.contacted {
            let id = claimed.rebuild.id.to_string();
            for lane in self.lanes.values_mut() {
                lane.abandoned(&id);
            }
            return after(outcome, &known(claimed, false, now, jitter));
        }
        let id = claimed.rebuild.id.to_string();
        let to = target(&claimed.key, self.neighbours.warehouse.is_some());
        if outcome.neighbour == Neighbour::Registry {
            self.lanes.entry(to).or_default().abandoned(&id);
        } else {
            self.lanes
                .entry(Neighbour::Registry)
                .or_default()
                .succeeded(&id, now);
        }
        let promotion_is_there =
            outcome.class == Class::Exists && claimed.key.slot != Slot::Publish;
        let lane = self.lanes.entry(outcome.neighbour).or_default();
        let mut pause_counts = false;
        let mut paused_until = None;
        match outcome.class {
            Class::Sent | Class::Exists => lane.succeeded(&id, now),
            Class::Pause { retry_after } => match lane.refused(&id, now, retry_after, jitter) {
                Refusal::Counts => pause_counts = true,
                Refusal::Paused { until_ms } => paused_until = Some(until_ms),
            },
            Class::Retry { .. } | Class::MissingTarball => lane.answered(&id, false),
            Class::Dead => lane.answered(&id, true),
        }
        if promotion_is_there {
            // A build that is there already is what a promotion wants.
            return Next::SentEarlier;
        }
        let attempt = known(claimed, pause_counts, now, jitter);
        match (after(outcome, &attempt), paused_until) {
            // The lane decides when; the item itself is due at once, so that it can be a probe.
            (Next::PauseLane { neighbour, .. }, Some(_)) => Next::PauseLane {
                neighbour,
                at_ms: now,
            },
            (next, _) => next,
        }
    }

    /// Ends finished work, many items in one write.
    fn finish_in_slices(&mut self) {
        if self.finishing || self.finished.is_empty() {
            return;
        }
        self.finishing = true;
        let items = std::mem::take(&mut self.finished);
        let store = self.core.store.clone();
        self.tasks.spawn(async move {
            let result = store.finish_work(&items).await;
            Done::Finished { items, result }
        });
    }
}

fn known(claimed: &Claimed, pause_counts: bool, now_ms: Millis, jitter: f64) -> Attempt {
    Attempt {
        tries: claimed.rebuild.tries + 1,
        may_have_reached_before: claimed.may_have_reached_before,
        pause_counts,
        now_ms,
        jitter,
    }
}

/// A step that dies must not take its package's place in the queues, or a send slot, with it.
async fn caught<T>(step: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(step).catch_unwind().await.ok()
}

/// The error of a step that died; what it did is in the log already.
fn dead_step() -> IngestError {
    StoreError::new(StoreErrorKind::Bug, "a step died").into()
}

/// What is known of an attempt that died: it may have reached the neighbour.
fn died(claimed: &Claimed, has_warehouse: bool) -> Answer {
    Answer {
        outcome: Outcome {
            class: Class::Retry { retry_after: None },
            neighbour: target(&claimed.key, has_warehouse),
            may_have_reached: true,
            status: None,
            message: "the attempt died inside feedsme".into(),
        },
        contacted: false,
    }
}

fn rebuild_id(work: &Work) -> String {
    match &work.job {
        Job::Send { rebuild, .. } => rebuild.to_string(),
        _ => String::new(),
    }
}

/// Whether an item is to be done as soon as can be; the others look after something from time to time.
fn is_at_once(work: &Work) -> bool {
    !matches!(
        work.job,
        Job::Tick { .. } | Job::Collected { .. } | Job::HoldEnds { .. }
    )
}

fn earlier(one: Option<Millis>, other: Option<Millis>) -> Option<Millis> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn jitter() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

async fn sleep_until(core: &Core, wake: Option<Millis>) {
    match wake {
        None => std::future::pending().await,
        Some(at) => {
            let wait = u64::try_from(at.saturating_sub(core.clock.now())).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(wait.max(1))).await;
        }
    }
}
