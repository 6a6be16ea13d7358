//! What is read across partitions: the names of packages, the changes of all days, the decisions of a change.
//!
//! Each is spread over a fixed number of partitions by a hash, so that none grows with the company; a page takes as many
//! from each as it may need and merges them in their order.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use scylla::statement::prepared::PreparedStatement;

use super::commit::NAME_BUCKETS;
use super::error::bug;
use super::values::{Cells, big, int, text, tiny, version};
use super::{Inner, each};
use crate::model::change::Change;
use crate::model::decision::{Decision, RebuildIndex};
use crate::model::env::Env;
use crate::model::id::{ChangeId, Digest, RebuildId};
use crate::model::name::PackageName;
use crate::model::package::{Kind, Millis, RowKey, Slot};
use crate::semver::Version;
use crate::store::{Attempt, Dependent, Line, Result, Tops};

pub(super) const CHANGE_BUCKETS: u8 = 4;
pub(super) const DECISION_BUCKETS: u8 = 8;

const DAY: i64 = 24 * 3600 * 1000;

/// Days since 1970.
pub(super) fn day_of(at: Millis) -> i32 {
    i32::try_from(at.div_euclid(DAY)).unwrap_or(i32::MAX)
}

/// The days that this process knows to be listed.
#[derive(Default)]
pub(super) struct Days(Mutex<HashSet<i32>>);

impl Days {
    fn knows(&self, day: i32) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&day)
    }

    fn learn(&self, day: i32) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(day);
    }
}

/// A limit; no page is longer than what one statement may bring.
pub(super) fn limit(count: usize) -> super::values::Value {
    int(i32::try_from(count).unwrap_or(i32::MAX))
}

impl Inner {
    pub(super) async fn put_day(&self, day: i32) -> Result<()> {
        if self.days.knows(day) {
            return Ok(());
        }
        self.put(&self.statements.put_day, vec![int(day), int(self.retain)])
            .await?;
        self.days.learn(day);
        Ok(())
    }

    pub(super) async fn change_of(&self, id: &ChangeId) -> Result<Option<Change>> {
        let cells = self
            .one(&self.statements.change, vec![text(id.as_str())])
            .await?;
        match cells {
            // What is left of one whose time to live is over.
            Some(cells) if !cells.has("kind")? => Ok(None),
            Some(cells) => change(&cells).map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn change_page(
        &self,
        before: Option<(Millis, ChangeId)>,
        count: usize,
    ) -> Result<Vec<Change>> {
        let before = before.map(|(time, id)| (time, id.as_str().to_owned()));
        let look = |accepted, id: String| -> BoxFuture<'_, _> {
            Box::pin(async move {
                let change = self.change_of(&ChangeId::new(id)).await?;
                Ok(change.filter(|change| change.accepted == accepted))
            })
        };
        self.by_day(&self.statements.changes_of_day, before, count, look)
            .await
    }

    /// A page of what is listed by days, newest first. What is listed at another time than its own, or is not there any
    /// more, is none: `look` says so.
    pub(super) async fn by_day<'a, T: Send>(
        &'a self,
        statement: &PreparedStatement,
        before: Option<(Millis, String)>,
        count: usize,
        look: impl Fn(Millis, String) -> BoxFuture<'a, Result<Option<T>>>,
    ) -> Result<Vec<T>> {
        let (mut time, mut id) = before.unwrap_or((Millis::MAX, String::new()));
        let mut found: Vec<T> = Vec::new();
        let days = self
            .all(&self.statements.days, vec![int(day_of(time))])
            .await?;
        for day in days {
            let day: i32 = day.number("day")?;
            // What was put again is listed at each time and counts at the first: a page is filled up.
            while found.len() < count {
                let missing = count - found.len();
                let listed = self.listed(statement, day, (time, &id), missing).await?;
                let Some(last) = listed.last().cloned() else {
                    break;
                };
                let all = listed.len() < missing;
                let here = each(listed, |(at, id)| look(at, id)).await?;
                found.extend(here.into_iter().flatten());
                (time, id) = last;
                if all {
                    break;
                }
            }
            if found.len() >= count {
                break;
            }
        }
        Ok(found)
    }

    /// What is listed of a day before a time and id, newest first.
    async fn listed(
        &self,
        statement: &PreparedStatement,
        day: i32,
        (time, id): (Millis, &str),
        count: usize,
    ) -> Result<Vec<(Millis, String)>> {
        let pages = each(0..CHANGE_BUCKETS, |bucket| async move {
            let values = vec![
                int(day),
                tiny(i8::try_from(bucket).unwrap_or(0)),
                big(time),
                text(id),
                limit(count),
            ];
            self.all(statement, values).await
        })
        .await?;
        let mut listed = Vec::new();
        for cells in pages.iter().flatten() {
            listed.push((cells.number("accepted")?, cells.text("id")?.to_owned()));
        }
        listed.sort_by(|a: &(Millis, String), b| b.cmp(a));
        listed.truncate(count);
        Ok(listed)
    }

    pub(super) async fn decision_page(
        &self,
        change: &ChangeId,
        skip: usize,
        count: usize,
    ) -> Result<Vec<Decision>> {
        let most = skip.saturating_add(count);
        let pages = each(0..DECISION_BUCKETS, |bucket| async move {
            let values = vec![
                text(change.as_str()),
                tiny(i8::try_from(bucket).unwrap_or(0)),
                limit(most),
            ];
            self.all(&self.statements.decisions, values).await
        })
        .await?;
        let mut keyed = Vec::new();
        for cells in pages.iter().flatten() {
            let key = [
                cells.text("wave")?,
                cells.text("dependent")?,
                cells.text("version")?,
            ];
            keyed.push((key, cells));
        }
        keyed.sort_by_key(|(key, _)| *key);
        keyed
            .into_iter()
            .skip(skip)
            .take(count)
            .map(|(_, cells)| cells.json("json"))
            .collect()
    }

    pub(super) async fn document_of(
        &self,
        change: &ChangeId,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>> {
        let values = vec![text(change.as_str()), text(digest.as_str())];
        self.one(&self.statements.document, values)
            .await?
            .map(|cells| cells.bytes("json"))
            .transpose()
    }

    pub(super) async fn name_page(
        &self,
        after: Option<&PackageName>,
        count: usize,
    ) -> Result<Vec<PackageName>> {
        let after = after.map_or("", PackageName::as_str);
        let mut names: Vec<PackageName> = Vec::new();
        let mut from = after.to_owned();
        // A name is listed before its package is; such a one is passed by, and the page filled up.
        while names.len() < count {
            let missing = count - names.len();
            let start = from.as_str();
            let pages = each(0..NAME_BUCKETS, |bucket| async move {
                let values = vec![
                    tiny(i8::try_from(bucket).unwrap_or(0)),
                    text(start),
                    limit(missing),
                ];
                self.all(&self.statements.names, values).await
            })
            .await?;
            let mut found = Vec::new();
            for cells in pages.iter().flatten() {
                found.push(cells.name("name")?);
            }
            found.sort();
            found.truncate(missing);
            let Some(last) = found.last() else { break };
            from = last.as_str().to_owned();
            let managed = each(found, |name| async move {
                let seq = self
                    .one(&self.statements.seq, vec![text(name.as_str())])
                    .await?
                    .map_or(Ok(false), |cells| cells.has("seq"))?;
                Ok(seq.then_some(name))
            })
            .await?;
            names.extend(managed.into_iter().flatten());
        }
        Ok(names)
    }

    /// The cursor is the token of the last partition. Two names of one token (one in 2^64 for any two) that a page ends
    /// between would lose the second.
    pub(super) async fn top_page(
        &self,
        cursor: Option<&str>,
        count: usize,
    ) -> Result<(Tops, Option<String>)> {
        let start = match cursor {
            // No name has it.
            None => i64::MIN,
            Some(cursor) => cursor
                .parse()
                .map_err(|_| bug(format!("{cursor:?} is no cursor of highest versions")))?,
        };
        let count = count.max(1);
        let rows = self
            .all(&self.statements.tops, vec![big(start), limit(count)])
            .await?;
        let mut page = Tops::default();
        for cells in &rows {
            let (Some(version), Some(edges)) = (
                cells.maybe_text("top_version")?,
                cells.maybe_text("top_edges")?,
            ) else {
                continue;
            };
            let (name, origin) = (cells.text("name")?, cells.maybe_text("top_origin")?);
            page.push(name, version, origin, edges)
                .map_err(|error| bug(format!("top_edges of {name} is unreadable: {error}")))?;
        }
        let last = rows.last().filter(|_| rows.len() >= count);
        let next = last.map(|cells| cells.number::<i64>("place")).transpose()?;
        Ok((page, next.map(|token| token.to_string())))
    }

    pub(super) async fn dependent_page(
        &self,
        parent: &PackageName,
        after: Option<&PackageName>,
        count: usize,
    ) -> Result<Vec<Dependent>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let values = vec![
            text(parent.as_str()),
            text(after.map_or("", PackageName::as_str)),
            limit(count),
        ];
        self.all(&self.statements.dependents, values)
            .await?
            .iter()
            .map(dependent)
            .collect()
    }

    pub(super) async fn edge_of(
        &self,
        (parent, of): &(PackageName, PackageName),
    ) -> Result<Option<Dependent>> {
        let values = vec![text(parent.as_str()), text(of.as_str())];
        let cells = self.one(&self.statements.dependent, values).await?;
        cells.map(|cells| dependent(&cells)).transpose()
    }

    pub(super) async fn ranges_of(
        &self,
        parent: &PackageName,
        dependent: &PackageName,
    ) -> Result<Vec<(String, Version)>> {
        let values = vec![text(parent.as_str()), text(dependent.as_str())];
        self.all(&self.statements.ranges, values)
            .await?
            .iter()
            .map(|cells| Ok((cells.text("range")?.to_owned(), cells.version("version")?)))
            .collect()
    }

    pub(super) async fn head_of(&self, package: &PackageName) -> Result<Option<Line>> {
        self.one(&self.statements.head, vec![text(package.as_str())])
            .await?
            .filter(|cells| is_readable(cells, "pkg", "version"))
            .map(|cells| line(&cells, "previous_version"))
            .transpose()
    }

    pub(super) async fn line_of(
        &self,
        package: &PackageName,
        of: &Version,
    ) -> Result<Option<Line>> {
        let values = vec![text(package.as_str()), version(of)];
        self.one(&self.statements.line, values)
            .await?
            .map(|cells| line(&cells, "previous_version"))
            .transpose()
    }

    pub(super) async fn lines_of(&self, package: &PackageName) -> Result<Vec<Line>> {
        self.all(&self.statements.lines, vec![text(package.as_str())])
            .await?
            .iter()
            .map(|cells| line(cells, "previous"))
            .collect()
    }

    pub(super) async fn line_dependent_page(
        &self,
        package: &PackageName,
        of: &Version,
        after: Option<&PackageName>,
        count: usize,
    ) -> Result<Vec<(PackageName, Version)>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut after = after.map_or("", PackageName::as_str).to_owned();
        loop {
            let values = vec![
                text(package.as_str()),
                version(of),
                text(after.as_str()),
                limit(count),
            ];
            let rows = self.all(&self.statements.line_dependents, values).await?;
            for cells in &rows {
                if found.len() < count && is_readable(cells, "dependent", "dependent_version") {
                    found.push((
                        cells.name("dependent")?,
                        cells.version("dependent_version")?,
                    ));
                }
            }
            // What is left out must not make a page look like the last one.
            match rows.last() {
                Some(last) if rows.len() >= count && found.len() < count => {
                    last.text("dependent")?.clone_into(&mut after);
                }
                _ => return Ok(found),
            }
        }
    }

    pub(super) async fn rebuild_of(&self, id: &RebuildId) -> Result<Option<RebuildIndex>> {
        let cells = self
            .one(&self.statements.rebuild, vec![text(id.as_str())])
            .await?;
        let Some(cells) = cells else {
            return Ok(None);
        };
        Ok(Some(RebuildIndex {
            id: RebuildId::new(cells.text("id")?),
            name: cells.name("name")?,
            key: RowKey {
                version: cells.version("version")?,
                slot: Slot::from_column(cells.text("slot")?),
            },
            generation: cells.number("generation")?,
            change: ChangeId::new(cells.text("change")?),
            decided: cells.number("decided")?,
        }))
    }

    pub(super) async fn attempts_of(&self, rebuild: &RebuildId) -> Result<Vec<Attempt>> {
        self.all(&self.statements.attempts, vec![text(rebuild.as_str())])
            .await?
            .iter()
            .map(|cells| {
                Ok(Attempt {
                    number: cells.number("number")?,
                    started: cells.number("started")?,
                    ended: cells.number("ended")?,
                    owner: cells.text("owner")?.to_owned(),
                    outcome: cells.text("outcome")?.to_owned(),
                    neighbour: cells.text("neighbour")?.to_owned(),
                    may_have_reached: cells.flag("may_have_reached")?,
                    status: match cells.maybe_number("status")? {
                        Some(_) => Some(cells.number("status")?),
                        None => None,
                    },
                    message: cells.text("message")?.to_owned(),
                })
            })
            .collect()
    }
}

fn dependent(cells: &Cells) -> Result<Dependent> {
    Ok(Dependent {
        dependent: cells.name("dependent")?,
        top: cells.version("top")?,
        range: cells.owned("range")?,
    })
}

/// Whether a row of a table that the Node software writes too has a name and a version. It is known to have written
/// `undefined` where a version belongs (contract.md 5.1): such a row says nothing, and nothing may fail because of it.
fn is_readable(cells: &Cells, name: &str, version: &str) -> bool {
    cells.name(name).is_ok() && cells.version(version).is_ok()
}

/// A line; datastar writes a missing previous version as the character U+0000 (contract.md 3.1), and what is no version
/// is none either.
fn line(cells: &Cells, previous: &str) -> Result<Line> {
    Ok(Line {
        package: cells.name("pkg")?,
        version: cells.version("version")?,
        previous: cells.maybe_version(previous).ok().flatten(),
    })
}

fn change(cells: &Cells) -> Result<Change> {
    let kind = cells.text("kind")?;
    Ok(Change {
        id: ChangeId::new(cells.text("id")?),
        kind: [Kind::Publish, Kind::Promotion]
            .into_iter()
            .find(|one| one.as_str() == kind)
            .ok_or_else(|| bug(format!("a stored change is of kind {kind:?}")))?,
        env: Env::trusted(cells.text("env")?),
        name: cells.name("name")?,
        version: cells.version("version")?,
        tag: cells.owned("tag")?,
        promote: cells.flag("promote")?,
        digest: Digest::new(cells.text("digest")?),
        key: cells.owned("idempotency_key")?,
        accepted: cells.number("accepted")?,
        planned: cells.maybe_json("planned")?,
    })
}
