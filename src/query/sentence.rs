//! Reasons, verdicts and states in words (rule 18). Text for people is made here and nowhere else; programs read the codes.

use super::change::DecidedRebuild;
use super::impact;
use super::plan::Counts;
use super::time::Time;
use super::wave::Waited;
use crate::ingest::Foreseen;
use crate::model::change::{Change, Verdict};
use crate::model::decision::{Decision, Flag, Reason};
use crate::model::edge::EdgeRange;
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, Rebuild, RebuildState, RowKey, Slot};
use crate::model::wave::{Hold, Node, PlanNode, Standing, Start, Wave, WaveState};
use crate::semver::Version;

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
        Verdict::TookPlace { rebuilds, waves } => format!(
            "{what} took the place of {} and goes on with {}: {decided}.",
            place(rebuilds.len()),
            if waves.len() == 1 {
                "that wave".to_owned()
            } else {
                count(waves.len(), "wave")
            }
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

/// Whose place a publish by hand took.
fn place(superseded: usize) -> String {
    match superseded {
        0 => "the rebuild that an open wave was about to ask for".to_owned(),
        some => format!("{} that was not sent yet", count(some, "rebuild")),
    }
}

/// Whom a version would reach.
pub fn impact(
    package: &PackageName,
    version: Option<&Version>,
    highest: Option<&Version>,
    counts: &impact::Counts,
) -> String {
    let what = match (version, highest) {
        (Some(version), _) => format!("{package}@{version}"),
        (None, Some(highest)) => format!("A version of {package} that is let in like {highest}"),
        (None, None) => format!("A version of {package} that everybody lets in"),
    };
    let reaches = match counts.transitive {
        0 => "would reach nobody".to_owned(),
        all => format!(
            "would reach {} in {}, {} of them directly",
            count(all, "package"),
            count(counts.by_level.len(), "level"),
            counts.direct
        ),
    };
    let out = match counts.out_of_range {
        0 => String::new(),
        1 => "; the range of 1 more is in the way".to_owned(),
        more => format!("; the ranges of {more} more are in the way"),
    };
    format!("{what} {reaches}{out}.")
}

/// What a change would come to.
pub fn plan(foreseen: &Foreseen, counts: &Counts) -> String {
    let Change {
        name, version, env, ..
    } = &foreseen.change;
    let what = match foreseen.change.kind {
        Kind::Publish => format!("Publishing {name}@{version}"),
        Kind::Promotion => format!("Promoting {name}@{version} to {env}"),
    };
    let skips = match counts.skips {
        0 => String::new(),
        skips => format!(" and skip {}", count(skips, "dependent")),
    };
    let follows = match (counts.rebuilds, foreseen.change.kind) {
        (0, _) if counts.skips == 0 => "would send nothing: nothing depends on it".to_owned(),
        (0, _) => format!("would send nothing{skips}"),
        (rebuilds, Kind::Publish) => format!(
            "would rebuild {} in {}{skips}",
            count(rebuilds, "package"),
            count(counts.levels, "level")
        ),
        (rebuilds, Kind::Promotion) => format!(
            "would send {} in {}{skips}",
            count(rebuilds, "build"),
            count(counts.levels, "level")
        ),
    };
    let approval = if foreseen.awaits_approval {
        " once an operator approves it"
    } else {
        ""
    };
    let pending = match foreseen.pending_on.len() {
        0 => String::new(),
        waves => format!(
            "; what {} still make of its line would be sent too",
            count(waves, "open wave")
        ),
    };
    match &foreseen.verdict {
        Verdict::Opened => format!("{what} {follows}{approval}{pending}."),
        Verdict::Joined { wave } => format!(
            "{what} would share wave {wave} with others that come shortly after each other, which, as it is now, {follows}{approval}."
        ),
        Verdict::Answers { waves, .. } => format!(
            "{what} would be the notice of a rebuild that was asked for, and go on with {}.",
            count(waves.len(), "wave")
        ),
        Verdict::TookPlace { rebuilds, waves } => format!(
            "{what} would take the place of {} and go on with {}.",
            place(rebuilds.len()),
            count(waves.len(), "wave")
        ),
        Verdict::Duplicate { .. } => match foreseen.change.kind {
            Kind::Publish => {
                format!("{name}@{version} was published already: nothing would be done again.")
            }
            Kind::Promotion => format!(
                "{what} would repeat a promotion that was posted shortly before: nothing would be done again."
            ),
        },
        Verdict::Tagged { tag } => {
            format!("{name}@{version} would be recorded under the tag {tag} and start nothing.")
        }
        Verdict::NoReleaseLine => {
            format!("{name}@{version} has no release line, so nothing would be sent.")
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
        Reason::AlreadyInWave => format!(
            "{dependent} was itself published in this wave, so it is not rebuilt for {parent}@{parent_version}."
        ),
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
            "None of the parents that {dependent} waited for was published: {}.",
            list(
                parents
                    .iter()
                    .map(|(name, standing)| format!("{name} {}", standing_of(*standing)))
            )
        ),
        Reason::NoLongerReached => {
            format!("No parent that was published in this wave reaches {dependent} any more.")
        }
        Reason::Held { owner, until, .. } => format!(
            "{owner} holds {dependent}: it is not to be rebuilt {}.",
            match until {
                Some(until) => format!("before {}", Time(*until)),
                None => "until the hold is removed".to_owned(),
            }
        ),
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

/// What a wave follows from, and where it stands.
pub fn wave(wave: &Wave) -> String {
    let since = Time(wave.since);
    let start = match &wave.start {
        Start::Publish { first, origins } => match origins.as_slice() {
            [] => format!("Follows from publishes that came shortly after one of {first}"),
            origins => format!(
                "Follows from the publish of {}",
                list(origins.iter().map(of))
            ),
        },
        Start::Promotion { origin } => {
            format!(
                "Follows from the promotion of {} to {}",
                of(origin),
                wave.env
            )
        }
        Start::LateParent { parent, .. } => {
            format!(
                "Brings {} to those that went without it, because it came late",
                of(parent)
            )
        }
        Start::HoldEnded { package, .. } => {
            format!("Rebuilds {package}, whose hold has ended, and what follows from that")
        }
        Start::ByHand { package } => format!(
            "Rebuilds {package}, because an operator asked for it, and what follows from that"
        ),
    };
    let stands = match wave.state {
        WaveState::Collecting => format!("since {since} it takes in further publishes"),
        WaveState::Planning => "what it reaches is being worked out".to_owned(),
        WaveState::Awaiting => format!(
            "with {} it waits for an operator's approval, since {since}",
            count(wave.nodes, "package")
        ),
        WaveState::Open => format!("it is under way, with {}", count(wave.nodes, "package")),
        WaveState::Closed => format!("it ended {since}"),
        WaveState::Cancelled => {
            format!("it was cancelled {since}: what was not sent is not sent")
        }
    };
    format!("{start}; {stands}.")
}

fn of(cause: &Cause) -> String {
    format!("{}@{}", cause.parent, cause.version)
}

/// Where a package of a wave stands.
pub fn node(
    wave: &Wave,
    plan: &PlanNode,
    node: &Node,
    waits_for: &[Waited],
    rebuild: Option<&DecidedRebuild>,
) -> String {
    let name = &plan.key.package;
    let progress = rebuild.and_then(|rebuild| rebuild.progress.as_ref());
    match node.standing() {
        Standing::Published => match &node.published {
            Some(version) if wave.kind == Kind::Promotion => {
                format!("{name}@{version} is in {}.", wave.env)
            }
            Some(version) if rebuild.is_none() => {
                format!("{name}@{version} was published by hand and took the place of a rebuild.")
            }
            Some(version) => format!("{name} was rebuilt as {name}@{version}."),
            None => format!("{name} was published."),
        },
        Standing::Failed => format!(
            "{name} failed: {}.",
            node.failed
                .as_deref()
                .unwrap_or("no reason is known")
                .trim_end_matches('.')
        ),
        Standing::Late => format!(
            "{name} was not published by its deadline{}; those that wait for it went without it.",
            node.late
                .map_or_else(String::new, |at| format!(", {}", Time(at)))
        ),
        Standing::Held => format!("{name} is held by an operator."),
        Standing::Skipped => match &node.skipped {
            Some(Reason::UpstreamFailed { parents }) => format!(
                "{name} was skipped, because none of the parents that it waited for was published: {}.",
                list(
                    parents
                        .iter()
                        .map(|(name, at)| format!("{name} {}", standing_of(*at)))
                )
            ),
            Some(Reason::NoLongerReached) => format!(
                "{name} was skipped, because none of the published parents reaches it any more."
            ),
            Some(reason) => format!("{name} was skipped: {}.", reason.code().replace('_', " ")),
            None => format!("{name} was skipped."),
        },
        Standing::Released => progress.map_or_else(
            || format!("{name} is being rebuilt."),
            |progress| progress.sentence.clone(),
        ),
        Standing::Waiting => match wave.state {
            WaveState::Cancelled => {
                format!("The wave was cancelled before {name} was sent.")
            }
            WaveState::Awaiting => {
                format!("{name} waits, because the wave waits for an operator's approval.")
            }
            _ => {
                let open = waits_for
                    .iter()
                    .filter(|one| matches!(one.standing, Standing::Waiting | Standing::Released));
                let text = list(open.map(waited));
                if text.is_empty() {
                    format!("{name} is about to be decided.")
                } else {
                    format!("{name} waits for {text}.")
                }
            }
        },
    }
}

/// A parent that is waited for: `a (since …, until … at most)`.
fn waited(parent: &Waited) -> String {
    let name = match &parent.version {
        Some(version) => format!("{}@{version}", parent.package),
        None => parent.package.to_string(),
    };
    match (parent.since, parent.deadline) {
        (Some(since), Some(until)) => {
            format!("{name} (sent {since}, waited for until {until})")
        }
        _ if parent.standing == Standing::Released => format!("{name} (being sent)"),
        _ => format!("{name} (waits itself)"),
    }
}

/// Who holds what, and until when.
pub fn hold(hold: &Hold) -> String {
    let whose = match &hold.parent {
        None => format!("{} is not rebuilt", hold.package),
        Some(parent) => format!("{} is not rebuilt for {parent}", hold.package),
    };
    let until = match hold.expires {
        Some(until) => format!("before {}", Time(until)),
        None => "until the hold is removed".to_owned(),
    };
    format!(
        "{whose} {until}: {} ({}).",
        hold.reason.trim_end_matches('.'),
        hold.owner
    )
}

/// Where a node stands, after its name.
pub fn standing_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "waits",
        Standing::Released => "is being rebuilt",
        Standing::Published => "was published",
        Standing::Failed => "failed",
        Standing::Late => "passed its deadline",
        Standing::Held => "is held",
        Standing::Skipped => "was skipped",
    }
}

/// `a`, `a and b`, `a, b and c`; of many the first few.
pub fn list(items: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let mut items: Vec<String> = items.collect();
    if items.len() > SHOWN + 1 {
        let more = items.len() - SHOWN;
        items.truncate(SHOWN);
        items.push(format!("{more} more"));
    }
    let last = items.pop().unwrap_or_default();
    if items.is_empty() {
        last
    } else {
        format!("{} and {last}", items.join(", "))
    }
}

/// `1 rebuild`, `2 rebuilds`.
pub fn count(number: impl TryInto<u64>, noun: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}
