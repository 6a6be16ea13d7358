//! Reserving a rebuild: the one place where a version is given out (rule 9, H11).
//!
//! A reservation is a batch on the dependent's own package, conditional on its `seq`: two replicas that plan the same
//! node at once cannot both succeed, and the one that is refused finds the other's reservation in `open`.

use std::collections::BTreeMap;

use super::Rules;
use crate::model::decision::{Decision, RebuildIndex};
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Millis, PackageState, Rebuild, RebuildState, RowKey};
use crate::model::work::Work;
use crate::semver::Version;
use crate::store::{Expect, PackageCommit, Published, RebuildPatch, RowWrite, Want, WantOpen};

/// What a reservation is made from.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// A new id.
    pub id: RebuildId,
    /// The change that is being planned.
    pub change: ChangeId,
    /// The decision, complete but for version and rebuild.
    pub decision: Decision,
    /// The published version to rebuild.
    pub base: Version,
    /// What it is rebuilt for.
    pub cause: Vec<Cause>,
    /// What it is built with.
    pub with: BTreeMap<PackageName, Version>,
    /// Passed on to the build service.
    pub promote: bool,
    /// The time, in milliseconds.
    pub now: Millis,
}

/// What to read of the dependent before [`reserve`].
pub fn want(name: &PackageName, base: &Version, wave: &WaveId, rules: &Rules) -> Want {
    Want {
        top_edges: true,
        rows: vec![RowKey::publish(base)],
        open: WantOpen::Of(wave.clone()),
        taken: super::version::prefixes(base, rules.increment),
        ..Want::statics(name)
    }
}

/// A reservation: apply `commit`; if it is applied, the rebuild stands in row `key`.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// The batch.
    pub commit: PackageCommit,
    /// The rebuild it makes.
    pub rebuild: Rebuild,
    /// The row of the version that it gives out.
    pub key: RowKey,
}

/// Reserves the next free version of the dependent for a wave; `None` if there is no version above the base.
/// `published` is needed for the patch increment only.
pub fn reserve(
    state: &PackageState,
    wanted: &Wanted,
    rules: &Rules,
    published: &[Published],
) -> Option<Reservation> {
    let facts = state.facts(&wanted.base);
    let origin = facts.and_then(|facts| facts.origin.clone());
    let taken = |version: &Version| state.taken.contains(version);
    let version = super::version::next(
        &wanted.base,
        origin.as_ref(),
        rules.increment,
        taken,
        published,
    )?;
    let key = RowKey::publish(&version);
    let rebuild = Rebuild {
        id: wanted.id.clone(),
        state: RebuildState::Queued,
        generation: 1,
        waves: [wanted.decision.wave.clone()].into(),
        change: wanted.change.clone(),
        decision: Decision {
            version: Some(version.clone()),
            rebuild: Some(wanted.id.clone()),
            ..wanted.decision.clone()
        },
        order: state.seq,
        base: wanted.base.clone(),
        origin: origin.unwrap_or_else(|| wanted.base.clone()),
        tarball_of: facts
            .and_then(|facts| facts.tarball_of.clone())
            .unwrap_or_else(|| wanted.base.clone()),
        cause: wanted.cause.clone(),
        with: wanted.with.clone(),
        promote: wanted.promote,
        attempt: 0,
        tries: 0,
        owner: None,
        due: wanted.now,
        ended_because: None,
        confirmed_by: None,
    };
    let mut commit = PackageCommit::at(&state.name, state.seq);
    commit
        .statics
        .open
        .insert(wanted.decision.wave.clone(), version);
    commit.rows.push(RowWrite {
        rebuild: Some(rebuild.clone()),
        ..RowWrite::new(key.clone(), Expect::Absent, state.seq)
    });
    Some(Reservation {
        commit,
        rebuild,
        key,
    })
}

/// What to read of a package before [`replace`].
pub fn want_again(name: &PackageName, old: &Rebuild, key: &RowKey, rules: &Rules) -> Want {
    let mut want = want(name, &old.base, &old.decision.wave, rules);
    want.open = WantOpen::All;
    want.rows.push(key.clone());
    want
}

/// Why and how a rebuild's node gets another version.
#[derive(Clone, Debug)]
pub struct Replacing<'a> {
    /// The row of the rebuild that ended, or ends in the same batch.
    pub key: &'a RowKey,
    /// That rebuild, as it must still be.
    pub old: &'a Rebuild,
    /// The id of the new one.
    pub id: RebuildId,
    /// Why the old one ends.
    pub because: &'a str,
    /// The time, in milliseconds.
    pub now: Millis,
}

/// Gives the waves of a rebuild whose version is somebody else's the next free version, and ends it as foreign if it
/// has not ended, in one batch (H11, H12).
pub fn replace(
    state: &PackageState,
    replacing: &Replacing<'_>,
    rules: &Rules,
    published: &[Published],
) -> Option<Reservation> {
    let old = replacing.old;
    let wanted = Wanted {
        id: replacing.id.clone(),
        change: old.change.clone(),
        decision: old.decision.clone(),
        base: old.base.clone(),
        cause: old.cause.clone(),
        with: old.with.clone(),
        promote: old.promote,
        now: replacing.now,
    };
    let mut reservation = reserve(state, &wanted, rules, published)?;
    reservation.rebuild.waves.clone_from(&old.waves);
    let Reservation {
        commit,
        rebuild,
        key,
    } = &mut reservation;
    for write in &mut commit.rows {
        write.rebuild = Some(rebuild.clone());
    }
    commit.statics.open.extend(
        old.waves
            .iter()
            .map(|wave| (wave.clone(), key.version.clone())),
    );
    if !old.state.is_ended() {
        commit.rows.push(RowWrite {
            patch: Some(RebuildPatch {
                state: Some(RebuildState::Foreign),
                ended_because: Some(replacing.because.to_owned()),
                ..RebuildPatch::default()
            }),
            ..RowWrite::new(
                replacing.key.clone(),
                Expect::Rebuild {
                    id: old.id.clone(),
                    state: old.state,
                    attempt: old.attempt,
                },
                state.seq,
            )
        });
    }
    Some(reservation)
}

/// How a rebuild is found by its id.
pub fn index(name: &PackageName, key: &RowKey, rebuild: &Rebuild, now: Millis) -> RebuildIndex {
    RebuildIndex {
        id: rebuild.id.clone(),
        name: name.clone(),
        key: key.clone(),
        generation: rebuild.generation,
        change: rebuild.change.clone(),
        decided: now,
    }
}

/// The work that sends it, or sends it again after what was attempted so far.
pub fn work(name: &PackageName, key: &RowKey, rebuild: &Rebuild) -> Work {
    Work::send(
        &rebuild.id,
        rebuild.attempt,
        name,
        key,
        rebuild.order,
        rebuild.due,
    )
}
