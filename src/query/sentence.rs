//! Reasons, verdicts and states in words (rule 18). Text for people is made here and nowhere else; programs read the codes.

use crate::model::change::{Change, Verdict};
use crate::model::decision::{Decision, Flag, Reason};
use crate::model::edge::EdgeRange;
use crate::model::name::PackageName;
use crate::model::package::{Kind, Rebuild, RebuildState, RowKey, Slot};

/// What became of a change.
pub fn change(change: &Change) -> String {
    let Change {
        name, version, env, ..
    } = change;
    let what = match change.kind {
        Kind::Publish => format!("The publish of {name}@{version}"),
        Kind::Promotion => format!("The promotion of {name}@{version} to {env}"),
    };
    let Some(planned) = &change.planned else {
        return format!("{what} is stored and waits to be planned.");
    };
    let decided = match (planned.rebuilds, planned.skips) {
        (0, 0) => "nothing depends on it".to_owned(),
        (rebuilds, 0) => format!("{} decided", count(rebuilds, "rebuild")),
        (rebuilds, skips) => format!(
            "{} decided, {} skipped",
            count(rebuilds, "rebuild"),
            count(skips, "dependent")
        ),
    };
    match &planned.verdict {
        Verdict::Opened => format!("{what} opened a wave of its own: {decided}."),
        Verdict::Answers { waves, .. } => format!(
            "{what} is the notice of a rebuild that was asked for; it goes on with {}: {decided}.",
            if waves.len() == 1 {
                "its wave".to_owned()
            } else {
                count(waves.len(), "wave")
            }
        ),
        Verdict::TookPlace { rebuilds, .. } => format!(
            "{what} took the place of {} not sent yet, and opened a wave of its own: {decided}.",
            count(rebuilds.len(), "rebuild")
        ),
        Verdict::Joined { wave } => {
            format!("{what} shares wave {wave} with others that came shortly before: {decided}.")
        }
        Verdict::Duplicate { .. } => match change.kind {
            Kind::Publish => format!(
                "{name}@{version} was published under another tag before: nothing was done again."
            ),
            Kind::Promotion => format!(
                "{what} repeats a promotion that was posted shortly before: nothing was done again."
            ),
        },
        Verdict::Tagged { tag } => {
            format!(
                "{name}@{version} was published under the tag {tag}: it is recorded and starts nothing."
            )
        }
        Verdict::NoReleaseLine => {
            format!("{name}@{version} has no release line, so nothing was sent.")
        }
    }
}

/// Why a dependent is rebuilt, or why not.
pub fn decision(decision: &Decision) -> String {
    let Decision {
        dependent,
        parent,
        parent_version,
        env,
        ..
    } = decision;
    let range = decision
        .range
        .as_deref()
        .map_or_else(|| "its range".to_owned(), |range| format!("{range:?}"));
    let top = decision
        .top
        .as_ref()
        .map_or_else(|| dependent.to_string(), |top| format!("{dependent}@{top}"));
    let base = decision.base.as_ref().map_or_else(
        || dependent.to_string(),
        |base| format!("{dependent}@{base}"),
    );
    match &decision.reason {
        Reason::Admitted => format!(
            "{base} is the highest version of {dependent}, and {range} admits {parent}@{parent_version}."
        ),
        Reason::OlderAdmitted => format!(
            "{top} does not admit {parent}@{parent_version}; {base} is the highest older version that does, with {range}."
        ),
        Reason::InReleaseLine => format!(
            "{base} goes with the release line of {parent}@{parent_version}, so {env} gets it too."
        ),
        Reason::HighestThatAdmits => format!(
            "{parent}@{parent_version} has no release line; {base} is the highest version that admits it, as the setting promote_without_line asks for."
        ),
        Reason::OutOfRange => format!(
            "No published version of {dependent} admits {parent}@{parent_version} ({top} declares {range}): publish {dependent} by hand with a range that does."
        ),
        Reason::AdmitsNothing => format!(
            "{top} declares {range} for {parent}: {}.",
            nothing(decision)
        ),
        Reason::NoLongerDepends => format!("{top} no longer depends on {parent}."),
        Reason::AlreadyInWave => {
            format!("{dependent} is in this wave already: a cycle, or a second path to it.")
        }
        Reason::NotInReleaseLine => format!(
            "{dependent} depends on {parent}, but no version of it was built with {parent}@{parent_version}: it is not in the release line."
        ),
        Reason::AlreadyThereNewer { there } => format!(
            "{env} already has {dependent}@{there}, which is newer and was built with {parent}@{parent_version}."
        ),
        Reason::SupersededInPromotion { by } => {
            format!("The same promotion sends {dependent}@{by}.")
        }
        Reason::PublishedByHand { version } => format!(
            "{dependent}@{version} was published by hand meanwhile and includes {parent}@{parent_version}."
        ),
        Reason::ByHand => format!("An operator asked for a rebuild of {base}."),
        Reason::HoldEnded => format!(
            "{dependent} was held while {parent}@{parent_version} went out, and the hold has ended."
        ),
        Reason::Cycle => format!(
            "{dependent} leads back to where the wave came from: its dependency on {parent} is not waited for, and it is not sent twice."
        ),
        Reason::OutOfRangeForBase { base } => format!(
            "{dependent}@{base} is rebuilt for another parent of the wave, and it does not admit {parent}@{parent_version}."
        ),
        Reason::UpstreamFailed { parents } => format!(
            "None of the parents that {dependent} waited for was published ({}).",
            parents
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ),
        Reason::NoLongerReached => {
            format!("No parent that was published in this wave reaches {dependent} any more.")
        }
        Reason::Held { owner, .. } => {
            format!("{owner} holds {dependent}: it is not to be rebuilt now.")
        }
        Reason::Cancelled => "The wave was cancelled before it was sent.".to_owned(),
        Reason::NoVersionLeft => format!("There is no version above {base} that npm would accept."),
    }
}

fn nothing(decision: &Decision) -> String {
    match decision.range.as_deref().map(EdgeRange::of) {
        Some(EdgeRange::Nothing(why)) => why.to_string(),
        _ => "that admits no version".to_owned(),
    }
}

/// What an operator should look at.
pub fn flag(flag: &Flag) -> String {
    match flag {
        Flag::Drift { env, version } => {
            format!("{env}, the environment before, got version {version}.")
        }
        Flag::Downgrade { there } => {
            format!(
                "The environment has {there}, which is newer and was built with another version of the parent."
            )
        }
    }
}

/// Where a rebuild stands. `sent`: its last attempt was accepted.
pub fn rebuild(name: &PackageName, key: &RowKey, rebuild: &Rebuild, sent: bool) -> String {
    let version = &key.version;
    let because = rebuild
        .ended_because
        .as_deref()
        .map_or_else(String::new, |why| format!(": {why}"));
    let whom = match &key.slot {
        Slot::Publish => "its publish".to_owned(),
        Slot::Env(env) => format!("its build for {env}"),
    };
    match rebuild.state {
        RebuildState::Queued if rebuild.attempt == 0 => {
            format!("{name}@{version} waits to be sent.")
        }
        RebuildState::Queued => {
            format!(
                "{name}@{version} waits to be sent again, after {}.",
                count(rebuild.attempt, "attempt")
            )
        }
        RebuildState::Sending if sent => {
            format!("{name}@{version} was sent and accepted; the notice of {whom} has yet to come.")
        }
        RebuildState::Sending => format!(
            "{name}@{version} is being sent, attempt {}.",
            rebuild.attempt
        ),
        RebuildState::Published => format!("{name}@{version} is done: the notice of {whom} came."),
        RebuildState::Dead => format!("{name}@{version} was given up{because}. It can be retried."),
        RebuildState::Superseded => format!(
            "{name}@{version} was not sent, because something newer took its place{because}."
        ),
        RebuildState::Cancelled => {
            format!("{name}@{version} was not sent, because its wave was cancelled{because}.")
        }
        RebuildState::Foreign => format!(
            "{name}@{version} turned out to be somebody else's{because}. Its place was given to the next version."
        ),
    }
}

/// `1 rebuild`, `2 rebuilds`.
fn count(number: impl TryInto<u64>, noun: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}
