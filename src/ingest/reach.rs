//! What one published version reaches: a decision for every dependent (rules 8, 9, 18).
//!
//! Dependents are read and decided a page at a time, so that a package with a hundred thousand of them costs no more
//! memory than one with a thousand. Within a page every read and every write is one verb on a slice.

use std::collections::BTreeMap;

use super::{Core, Outcome, Parents, REFUSALS, Result, contention, declared};
use crate::model::change::Change;
use crate::model::decision::{Decision, Reason};
use crate::model::edge::Edge;
use crate::model::id::{RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, PackageState, Rebuild, RowKey};
use crate::model::work::Work;
use crate::plan::Increment;
use crate::plan::base::{self, Base};
use crate::plan::rebuild::{self, Wanted};
use crate::semver::Version;
use crate::store::{Committed, Dependent, Node, NodeKey, Published, Want, Write};

/// How many dependents are decided at a time.
const PAGE: usize = 500;

/// What is being worked out: whom a published version reaches, in one wave.
pub(super) struct Reach<'a> {
    pub change: &'a Change,
    pub wave: WaveId,
    pub cause: Cause,
}

impl Reach<'_> {
    fn decision(&self, edge: &Dependent, reason: Reason) -> Decision {
        Decision {
            dependent: edge.dependent.clone(),
            wave: self.wave.clone(),
            env: self.change.env.clone(),
            parent: self.cause.parent.clone(),
            parent_version: self.cause.version.clone(),
            range: edge.range.clone(),
            top: Some(edge.top.clone()),
            base: None,
            version: None,
            rebuild: None,
            reason,
            flags: Vec::new(),
            also: Vec::new(),
        }
    }
}

/// Decides every dependent of the cause in the wave, reserves the rebuilds and puts their work.
pub(super) async fn reach(
    core: &Core,
    parents: &mut Parents,
    from: &Reach<'_>,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut after: Option<PackageName> = None;
    loop {
        let page = core
            .store
            .dependents(&from.cause.parent, after.as_ref(), PAGE)
            .await?;
        decide(core, parents, from, &page, outcome).await?;
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.dependent.clone()),
            _ => return Ok(()),
        }
    }
}

/// A rebuild that is durable in its package and has yet to be made findable.
struct Reserved {
    name: PackageName,
    key: RowKey,
    rebuild: Rebuild,
}

async fn decide(
    core: &Core,
    parents: &mut Parents,
    from: &Reach<'_>,
    page: &[Dependent],
    outcome: &mut Outcome,
) -> Result<()> {
    let mut skips = Vec::new();
    let mut chosen = Vec::new();
    for edge in page {
        match choose(core, from, edge).await? {
            Ok(base) => chosen.push(base),
            Err(reason) => skips.push(from.decision(edge, reason)),
        }
    }

    let mut reserved = Vec::new();
    let mut open = chosen;
    for _ in 0..REFUSALS {
        if open.is_empty() {
            break;
        }
        open = reserve(core, parents, from, open, &mut reserved, &mut skips).await?;
    }
    if let Some((edge, ..)) = open.first() {
        return Err(contention(&edge.dependent));
    }

    let now = core.clock.now();
    let mut writes = Vec::new();
    for one in &reserved {
        let node = Node {
            released: Some(one.rebuild.id.clone()),
            ..Node::default()
        };
        let key = NodeKey {
            package: one.name.clone(),
            version: None,
        };
        writes.push(Write::Rebuild(rebuild::index(
            &one.name,
            &one.key,
            &one.rebuild,
            now,
        )));
        writes.push(Write::Node(from.wave.clone(), key, node));
    }
    let decisions = reserved
        .iter()
        .map(|one| &one.rebuild.decision)
        .chain(&skips);
    writes.extend(
        decisions.map(|one| Write::Decision(from.change.id.clone(), Box::new(one.clone()))),
    );
    let work: Vec<Work> = reserved
        .iter()
        .filter(|one| !one.rebuild.state.is_ended())
        .map(|one| rebuild::work(&one.name, &one.key, &one.rebuild))
        .collect();
    writes.extend(work.iter().cloned().map(Write::Work));
    if !writes.is_empty() {
        core.store.write(writes).await?;
    }
    outcome.rebuilds += count(reserved.len());
    outcome.skips += count(skips.len());
    outcome.work.extend(work);
    Ok(())
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

/// A dependent, its base, the base's range, and why.
type Chosen<'a> = (&'a Dependent, Version, String, Reason);

/// The base of a dependent, or why there is none.
async fn choose<'a>(
    core: &Core,
    from: &Reach<'_>,
    edge: &'a Dependent,
) -> Result<std::result::Result<Chosen<'a>, Reason>> {
    let (version, origin) = (&from.cause.version, from.cause.origin.as_ref());
    let base = match base::of_top(edge, version, origin) {
        Base::NeedsRanges => {
            let ranges = core
                .store
                .ranges(&from.cause.parent, &edge.dependent)
                .await?;
            base::among(edge, &ranges, version, origin)
        }
        base => base,
    };
    Ok(match base {
        Base::Rebuild {
            base,
            range,
            reason,
        } => Ok((edge, base, range, reason)),
        Base::Skip(reason) => Err(reason),
        Base::NeedsRanges => Err(Reason::OutOfRange),
    })
}

/// Tries to reserve a rebuild for each; returns those whose batch was refused.
async fn reserve<'a>(
    core: &Core,
    parents: &mut Parents,
    from: &Reach<'_>,
    chosen: Vec<Chosen<'a>>,
    reserved: &mut Vec<Reserved>,
    skips: &mut Vec<Decision>,
) -> Result<Vec<Chosen<'a>>> {
    let wants: Vec<Want> = chosen
        .iter()
        .map(|(edge, base, ..)| rebuild::want(&edge.dependent, base, &from.wave, &core.rules))
        .collect();
    let states = core.store.packages(&wants).await?;
    // After the partitions: a rebuild that left `open` because its notice came has its node by then.
    let keys: Vec<NodeKey> = chosen
        .iter()
        .map(|(edge, ..)| NodeKey {
            package: edge.dependent.clone(),
            version: None,
        })
        .collect();
    let nodes = core.store.nodes(&from.wave, &keys).await?;

    let mut new = Vec::new();
    for ((one, state), node) in chosen.into_iter().zip(states).zip(nodes) {
        match in_wave(core, from, &state, &node).await? {
            InWave::Ours(own) => reserved.push(*own),
            InWave::Already => skips.push(from.decision(one.0, Reason::AlreadyInWave)),
            InWave::Not => {
                let edges = declared(core, &state, &one.1).await?;
                new.push((one, state, edges));
            }
        }
    }
    let all: Vec<&Edge> = new.iter().flat_map(|(_, _, edges)| edges).collect();
    parents.foresee(core, &all).await?;

    let mut trying = Vec::new();
    let mut commits = Vec::new();
    for (one, state, edges) in new {
        let mut with = BTreeMap::new();
        for edge in edges.iter().filter(|edge| edge.parent != state.name) {
            if let Some(version) = parents.highest(core, &edge.parent, &edge.range).await? {
                with.insert(edge.parent.clone(), version);
            }
        }
        let wanted = Wanted {
            id: RebuildId::fresh(),
            change: from.change.id.clone(),
            decision: Decision {
                base: Some(one.1.clone()),
                range: Some(one.2.clone()),
                ..from.decision(one.0, one.3.clone())
            },
            base: one.1.clone(),
            cause: vec![from.cause.clone()],
            with,
            promote: from.change.promote,
            now: core.clock.now(),
        };
        let published = published(core, &state.name).await?;
        match rebuild::reserve(&state, &wanted, &core.rules, &published) {
            Some(reservation) => {
                commits.push(reservation.commit.clone());
                trying.push((one, reservation));
            }
            None => skips.push(from.decision(one.0, Reason::NoVersionLeft)),
        }
    }
    if commits.is_empty() {
        return Ok(Vec::new());
    }
    let answers = core.store.commit(commits).await?;
    let mut refused = Vec::new();
    for ((one, reservation), answer) in trying.into_iter().zip(answers) {
        match answer {
            Committed::Applied => reserved.push(Reserved {
                name: one.0.dependent.clone(),
                key: reservation.key,
                rebuild: reservation.rebuild,
            }),
            Committed::Refused => refused.push(one),
        }
    }
    Ok(refused)
}

/// All published versions, where the increment looks at them.
pub(super) async fn published(core: &Core, name: &PackageName) -> Result<Vec<Published>> {
    match core.rules.increment {
        Increment::Prerelease => Ok(Vec::new()),
        Increment::Patch => Ok(core.store.published(name).await?),
    }
}

enum InWave {
    /// The wave has not met it.
    Not,
    /// A rebuild that this very change decided, before a crash or in an earlier try.
    Ours(Box<Reserved>),
    /// Another change of the wave decided it, or it is the wave's origin.
    Already,
}

/// Whether the wave has this dependent already. A reservation that is open says so in the package; one whose notice came
/// has left `open`, and then has its node, because a node is written before anything is sent.
async fn in_wave(
    core: &Core,
    from: &Reach<'_>,
    state: &PackageState,
    node: &Node,
) -> Result<InWave> {
    if let Some(version) = state.open.get(&from.wave) {
        let key = RowKey::publish(version);
        let own = state
            .row(&key)
            .and_then(|row| row.rebuild.clone())
            .filter(|rebuild| rebuild.change == from.change.id);
        return Ok(own.map_or(InWave::Already, |rebuild| {
            InWave::Ours(Box::new(Reserved {
                name: state.name.clone(),
                key,
                rebuild,
            }))
        }));
    }
    if let Some(released) = &node.released {
        let index = core
            .store
            .rebuilds(std::slice::from_ref(released))
            .await?
            .pop()
            .flatten();
        if let Some(index) = index.filter(|index| index.change == from.change.id) {
            let state = super::read(core, Want::rows(&state.name, vec![index.key.clone()])).await?;
            let own = state.row(&index.key).and_then(|row| row.rebuild.clone());
            if let Some(rebuild) = own.filter(|own| own.id == index.id) {
                let name = state.name.clone();
                return Ok(InWave::Ours(Box::new(Reserved {
                    name,
                    key: index.key,
                    rebuild,
                })));
            }
        }
        return Ok(InWave::Already);
    }
    Ok(if node.published.is_some() {
        InWave::Already
    } else {
        InWave::Not
    })
}
