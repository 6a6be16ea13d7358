//! What a promotion does with one (dependent, version) pair of its release line (rules 12, 13; H13, H15).

use crate::model::change::Change;
use crate::model::decision::{Decision, Flag, Reason};
use crate::model::env::Env;
use crate::model::id::{RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Millis, PackageState, Rebuild, RebuildState, RowKey};
use crate::semver::Version;
use crate::store::{Expect, PackageCommit, Promotion, RebuildPatch, RowWrite};

/// One pair, with everything that decides about it.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    /// The dependent's partition: the pair's row in the environment, its publish row, and that of `there`.
    pub state: &'a PackageState,
    /// The pair's version.
    pub version: &'a Version,
    /// What the environment has of the dependent.
    pub there: Option<&'a Version>,
    /// What the environment before got with this promotion (rule 13).
    pub before: Option<(&'a Env, &'a Version)>,
    /// Why the pair is in the promotion: [`Reason::InReleaseLine`] or [`Reason::HighestThatAdmits`].
    pub reason: Reason,
    /// Whether the row's rebuild, if it is being sent, was accepted so long ago that its notice must be lost: then it
    /// counts as finished.
    pub accepted_long_ago: bool,
}

/// What a pair comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is sent.
    Skip(Reason, Vec<Flag>),
    /// Start a new generation of the row's rebuild with this batch.
    Send(Box<(PackageCommit, Rebuild)>),
    /// Wait for the rebuild that is under way already (H13); the batch joins it.
    Join(Box<(PackageCommit, Rebuild)>),
}

/// Decides a pair. The change is the promotion of (`change.name`, `change.version`) to `change.env`.
pub fn pair(pair: &Pair<'_>, change: &Change, wave: &WaveId, id: RebuildId, now: Millis) -> Step {
    let key = RowKey::promotion(pair.version, &change.env);
    let mut flags = Vec::new();
    if let Some((env, version)) = pair.before.filter(|(_, version)| *version != pair.version) {
        flags.push(Flag::Drift {
            env: env.clone(),
            version: version.clone(),
        });
    }
    if let Some(there) = pair.there.filter(|there| *there > pair.version) {
        let with = pair
            .state
            .facts(there)
            .and_then(|facts| facts.with.as_ref());
        if with.is_some_and(|with| with.get(&change.name) == Some(&change.version)) {
            return Step::Skip(
                Reason::AlreadyThereNewer {
                    there: there.clone(),
                },
                flags,
            );
        }
        flags.push(Flag::Downgrade {
            there: there.clone(),
        });
    }

    let facts = pair.state.facts(pair.version);
    let before = pair.state.row(&key).and_then(|row| row.rebuild.as_ref());
    let expect = |rebuild: &Rebuild| Expect::Rebuild {
        id: rebuild.id.clone(),
        state: rebuild.state,
        attempt: rebuild.attempt,
    };
    if let Some(open) = before.filter(|one| !one.state.is_ended() && !pair.accepted_long_ago) {
        let mut joined = open.clone();
        joined.waves.insert(wave.clone());
        let write = RowWrite {
            patch: Some(RebuildPatch {
                join: vec![wave.clone()],
                ..RebuildPatch::default()
            }),
            ..RowWrite::new(key, expect(open), 0)
        };
        return Step::Join(Box::new((
            PackageCommit::row(&pair.state.name, write),
            joined,
        )));
    }
    let origin = facts.and_then(|facts| facts.origin.clone());
    let rebuild = Rebuild {
        state: RebuildState::Queued,
        generation: before.map_or(1, |one| one.generation + 1),
        waves: [wave.clone()].into(),
        change: change.id.clone(),
        decision: Decision {
            base: Some(pair.version.clone()),
            version: Some(pair.version.clone()),
            rebuild: Some(id.clone()),
            ..decision(change, wave, &pair.state.name, pair.reason.clone(), flags)
        },
        id,
        order: pair.state.seq,
        base: pair.version.clone(),
        origin: origin.unwrap_or_else(|| pair.version.clone()),
        tarball_of: facts
            .and_then(|facts| facts.tarball_of.clone())
            .unwrap_or_else(|| pair.version.clone()),
        cause: vec![Cause {
            parent: change.name.clone(),
            version: change.version.clone(),
            origin: None,
        }],
        with: facts
            .and_then(|facts| facts.with.clone())
            .unwrap_or_default(),
        promote: change.promote,
        attempt: 0,
        tries: 0,
        owner: None,
        due: now,
        ended_because: None,
        confirmed_by: None,
    };
    let mut commit = PackageCommit::at(&pair.state.name, pair.state.seq);
    commit.rows.push(RowWrite {
        rebuild: Some(rebuild.clone()),
        ..RowWrite::new(
            key,
            before.map_or(Expect::NoRebuild, expect),
            pair.state.seq,
        )
    });
    Step::Send(Box::new((commit, rebuild)))
}

/// A decision of a promotion, without what is sent.
pub fn decision(
    change: &Change,
    wave: &WaveId,
    dependent: &PackageName,
    reason: Reason,
    flags: Vec<Flag>,
) -> Decision {
    Decision {
        dependent: dependent.clone(),
        wave: wave.clone(),
        env: change.env.clone(),
        parent: change.name.clone(),
        parent_version: change.version.clone(),
        range: None,
        top: None,
        base: None,
        version: None,
        rebuild: None,
        reason,
        flags,
        also: Vec::new(),
    }
}

/// The batch that ends a rebuild of an earlier promotion which was not sent yet, because this one sends another version
/// of the dependent (rule 13). `None` if there is nothing to end.
pub fn supersede(
    state: &PackageState,
    version: &Version,
    change: &Change,
) -> Option<PackageCommit> {
    let key = RowKey::promotion(version, &change.env);
    let rebuild = state.row(&key)?.rebuild.as_ref()?;
    // A dead one too: a retry must not bring back what a later promotion replaced (H24).
    if !matches!(rebuild.state, RebuildState::Queued | RebuildState::Dead)
        || rebuild
            .cause
            .iter()
            .all(|cause| cause.parent != change.name)
    {
        return None;
    }
    let write = RowWrite {
        patch: Some(RebuildPatch {
            state: Some(RebuildState::Superseded),
            ended_because: Some(format!("{}@{} was promoted", change.name, change.version)),
            ..RebuildPatch::default()
        }),
        ..RowWrite::new(
            key,
            Expect::Rebuild {
                id: rebuild.id.clone(),
                state: rebuild.state,
                attempt: rebuild.attempt,
            },
            0,
        )
    };
    Some(PackageCommit::row(&state.name, write))
}

/// The batch that confirms the rebuild which this promotion is the notice of; `None` if it answers none (H12, H13).
pub fn confirm(state: &PackageState, change: &Change) -> Option<PackageCommit> {
    let key = RowKey::promotion(&change.version, &change.env);
    let rebuild = state.row(&key)?.rebuild.as_ref()?;
    if rebuild.attempt == 0 || rebuild.state == RebuildState::Published {
        return None;
    }
    let write = RowWrite {
        patch: Some(RebuildPatch {
            state: Some(RebuildState::Published),
            confirmed_by: Some(change.id.clone()),
            ..RebuildPatch::default()
        }),
        ..RowWrite::new(
            key,
            Expect::Rebuild {
                id: rebuild.id.clone(),
                state: rebuild.state,
                attempt: rebuild.attempt,
            },
            0,
        )
    };
    Some(PackageCommit::row(&state.name, write))
}

/// Whether this promotion repeats the latest one (rule 13). `ended` is when the last of what that one decided was
/// accepted or ended; `None` while something is still to be sent.
pub fn is_duplicate(
    change: &Change,
    latest: &Promotion,
    ended: Option<Millis>,
    window: Millis,
) -> bool {
    latest.version == change.version
        && latest.promote == change.promote
        && ended.is_none_or(|ended| change.accepted < ended.saturating_add(window))
}
