//! Writes without a condition of their own: what is there already stays (timestamps that run backwards), or what was
//! decided later wins (the stamp as timestamp).

use super::error::bug;
use super::lists::{DECISION_BUCKETS, day_of};
use super::once::{backwards, now_micros};
use super::package::range_key;
use super::values::{Value, big, blob, boolean, int, json, maybe, text, tiny, unset, version};
use super::{Inner, bucket, each};
use crate::model::change::{Change, Planned};
use crate::model::decision::{Decision, RebuildIndex};
use crate::model::id::{ChangeId, RebuildId};
use crate::model::package::{RowKey, Stamp};
use crate::semver::Version;
use crate::store::{Attempt, Dependent, Line, Projection, Result, StoreError, Write};

pub(super) fn in_bucket(name: &str, buckets: u8) -> Value {
    tiny(i8::try_from(bucket(name, buckets)).unwrap_or(0))
}

impl Inner {
    /// All that come before a work item are durable before it is put; otherwise they are written at once, in no order.
    pub(super) async fn write_all(&self, writes: Vec<Write>) -> Result<()> {
        let mut facts = Vec::new();
        let mut items = Vec::new();
        for write in writes {
            match write {
                Write::Work(work) => items.push(work),
                fact => {
                    if !items.is_empty() {
                        self.write_facts(std::mem::take(&mut facts)).await?;
                        self.put_work(&std::mem::take(&mut items)).await?;
                    }
                    facts.push(fact);
                }
            }
        }
        self.write_facts(facts).await?;
        self.put_work(&items).await
    }

    async fn write_facts(&self, facts: Vec<Write>) -> Result<()> {
        each(&facts, |fact| self.write_fact(fact)).await.map(drop)
    }

    async fn write_fact(&self, write: &Write) -> Result<()> {
        let now = now_micros();
        let first = || big(backwards(now));
        let retain = || int(self.retain);
        match write {
            Write::Document {
                change,
                digest,
                json,
            } => {
                let values = vec![
                    text(change.as_str()),
                    text(digest.as_str()),
                    blob(json),
                    retain(),
                    first(),
                ];
                self.put(&self.statements.put_document, values).await
            }
            Write::Change(change) => self.write_change(change, first()).await,
            Write::Manifest {
                name,
                version: of,
                digest,
                json,
            } => {
                let values = vec![
                    text(name.as_str()),
                    version(of),
                    text(digest.as_str()),
                    blob(json),
                    first(),
                ];
                self.put(&self.statements.put_manifest, values).await
            }
            Write::Planned(id, planned) => self.write_planned(id, planned, first()).await,
            Write::Decision(change, decision) => {
                let values = of_decision(change, decision, retain(), first())?;
                self.put(&self.statements.put_decision, values).await
            }
            Write::Projection(stamp, projection) => self.project(*stamp, projection).await,
            Write::Node(wave, key, node) => self.write_node(wave, key, node, first()).await,
            Write::PlanNode(wave, plan, node) => {
                self.write_plan_node(wave, plan, node, first()).await
            }
            Write::Member(wave, change, cause) => {
                self.write_member(wave, change, cause, first()).await
            }
            Write::Hold(hold) => self.write_hold(hold, first()).await,
            Write::HoldEnded(package, id, at) => self.end_hold(package, id, *at, first()).await,
            Write::Outcome(outcome) => self.write_outcome(outcome).await,
            Write::Entry {
                name,
                version: of,
                env,
                generation,
                dependent,
                dependent_version,
            } => {
                let values = vec![
                    text(name.as_str()),
                    version(of),
                    text(env.as_str()),
                    big(i64::from(*generation)),
                    text(dependent.as_str()),
                    version(dependent_version),
                    first(),
                ];
                self.put(&self.statements.put_entry, values).await
            }
            Write::Rebuild(index) => {
                let values = of_index(index, retain(), first());
                self.put(&self.statements.put_rebuild, values).await
            }
            Write::Attempt(rebuild, attempt) => {
                let values = of_attempt(rebuild, attempt, retain(), first());
                self.put(&self.statements.put_attempt, values).await
            }
            Write::Work(_) => Err(bug("work is put apart")),
        }
    }

    /// The change, then where it is listed: a change that is listed and not there would be a hole in a page.
    async fn write_change(&self, change: &Change, first: Value) -> Result<()> {
        // In full, so that a new field cannot be forgotten here.
        let Change {
            id,
            kind,
            env,
            name,
            version: of,
            tag,
            promote,
            digest,
            key,
            accepted,
            planned,
        } = change;
        let given_text = |value: Option<&str>| value.map_or_else(unset, text);
        let values = vec![
            text(id.as_str()),
            text(kind.as_str()),
            text(env.as_str()),
            text(name.as_str()),
            version(of),
            given_text(tag.as_deref()),
            boolean(*promote),
            text(digest.as_str()),
            given_text(key.as_deref()),
            big(*accepted),
            match planned {
                Some(planned) => json(planned)?,
                // An empty one would stay empty.
                None => unset(),
            },
            int(self.retain),
            first,
        ];
        self.put(&self.statements.put_change, values).await?;
        self.list_change(id, *accepted).await
    }

    async fn list_change(&self, id: &ChangeId, accepted: i64) -> Result<()> {
        let day = day_of(accepted);
        self.put_day(day).await?;
        let values = vec![
            int(day),
            in_bucket(id.as_str(), super::lists::CHANGE_BUCKETS),
            big(accepted),
            text(id.as_str()),
            int(self.retain),
        ];
        self.put(&self.statements.put_change_of_day, values).await
    }

    async fn write_planned(&self, id: &ChangeId, planned: &Planned, first: Value) -> Result<()> {
        // An update of a row that is not there would make half of one.
        if self.change_of(id).await?.is_none() {
            return Err(bug(format!("change {id} was planned but never accepted")));
        }
        let values = vec![int(self.retain), first, json(planned)?, text(id.as_str())];
        self.put(&self.statements.set_planned, values).await
    }

    async fn project(&self, stamp: Stamp, projection: &Projection) -> Result<()> {
        let prepared = &self.statements;
        let stamp = || big(stamp);
        match projection {
            Projection::Dependent {
                parent,
                row:
                    Dependent {
                        dependent,
                        top,
                        range,
                    },
            } => {
                let values = vec![
                    text(parent.as_str()),
                    text(dependent.as_str()),
                    version(top),
                    maybe(range.as_deref(), text),
                    stamp(),
                ];
                self.put(&prepared.put_dependent, values).await
            }
            Projection::Range {
                parent,
                dependent,
                range,
                version: highest,
            } => {
                let values = vec![
                    text(parent.as_str()),
                    text(dependent.as_str()),
                    text(range_key(range)),
                    text(range.as_str()),
                    version(highest),
                    stamp(),
                ];
                self.put(&prepared.put_range, values).await
            }
            Projection::Line(line) => {
                self.put(&prepared.put_line_of, of_line(line, stamp()))
                    .await?;
                self.put(&prepared.put_line, of_line(line, stamp())).await
            }
            Projection::Head(line) => self.put(&prepared.put_head, of_line(line, stamp())).await,
            Projection::LineDependent {
                package,
                version: of,
                dependent,
                dependent_version,
            } => {
                let values = vec![
                    text(package.as_str()),
                    version(of),
                    text(dependent.as_str()),
                    version(dependent_version),
                    stamp(),
                ];
                self.put(&prepared.put_line_dependent, values).await
            }
            Projection::DependentOf { package, parent } => {
                let values = vec![
                    text(package.as_str()),
                    maybe(parent.as_ref(), |parent| text(parent.as_str())),
                    stamp(),
                ];
                self.put(&prepared.put_dependent_of, values).await
            }
        }
    }
}

fn of_line(line: &Line, stamp: Value) -> Vec<Value> {
    let Line {
        package,
        version: of,
        previous,
    } = line;
    vec![
        text(package.as_str()),
        version(of),
        maybe(previous.as_ref(), version),
        stamp,
    ]
}

fn of_decision(
    change: &ChangeId,
    decision: &Decision,
    retain: Value,
    first: Value,
) -> std::result::Result<Vec<Value>, StoreError> {
    let sent = decision.version.as_ref().map(Version::to_string);
    Ok(vec![
        text(change.as_str()),
        in_bucket(decision.dependent.as_str(), DECISION_BUCKETS),
        text(decision.wave.as_str()),
        text(decision.dependent.as_str()),
        text(sent.unwrap_or_default()),
        json(decision)?,
        retain,
        first,
    ])
}

fn of_index(index: &RebuildIndex, retain: Value, first: Value) -> Vec<Value> {
    let RebuildIndex {
        id,
        name,
        key: RowKey { version: of, slot },
        generation,
        change,
        decided,
    } = index;
    vec![
        text(id.as_str()),
        text(name.as_str()),
        version(of),
        text(slot.as_str()),
        big(i64::from(*generation)),
        text(change.as_str()),
        big(*decided),
        retain,
        first,
    ]
}

fn of_attempt(rebuild: &RebuildId, attempt: &Attempt, retain: Value, first: Value) -> Vec<Value> {
    let Attempt {
        number,
        started,
        ended,
        owner,
        outcome,
        neighbour,
        may_have_reached,
        status,
        message,
    } = attempt;
    vec![
        text(rebuild.as_str()),
        big(i64::from(*number)),
        big(*started),
        big(*ended),
        text(owner.as_str()),
        text(outcome.as_str()),
        text(neighbour.as_str()),
        boolean(*may_have_reached),
        status.map_or_else(unset, |status| int(i32::from(status))),
        text(message.as_str()),
        retain,
        first,
    ]
}
