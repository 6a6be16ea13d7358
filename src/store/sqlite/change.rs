//! Changes: the posted document, the change, what planning made of it, its decisions.

use rusqlite::{Connection, Row, params};

use super::error::bug;
use super::statement::{Columns, InOrder, all, json, limit, maybe_json, one, run, statements};
use crate::model::change::{Change, Planned};
use crate::model::decision::Decision;
use crate::model::env::Env;
use crate::model::id::{ChangeId, Digest};
use crate::model::package::{Kind, Millis};
use crate::semver::Version;
use crate::store::Result;

/// The columns of a change in the order in which [`read`] reads them.
macro_rules! columns {
    () => {
        "SELECT id, kind, env, name, version, tag, promote, digest, idempotency_key, accepted, planned FROM change "
    };
}

statements! {
    PUT_DOCUMENT = "INSERT INTO document (change, digest, json) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    DOCUMENT = "SELECT json FROM document WHERE change = ?1 AND digest = ?2";
    PUT_CHANGE = "INSERT INTO change
        (id, kind, env, name, version, tag, promote, digest, idempotency_key, accepted, planned)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";
    CHANGE = concat!(columns!(), "WHERE id = ?1");
    CHANGES = concat!(columns!(), "WHERE (accepted, id) < (?1, ?2) ORDER BY accepted DESC, id DESC LIMIT ?3");
    SET_PLANNED = "UPDATE change SET planned = coalesce(planned, ?2) WHERE id = ?1";
    PUT_DECISION = "INSERT INTO decision (change, wave, dependent, version, json) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT DO NOTHING";
    DECISIONS = "SELECT json FROM decision WHERE change = ?1 ORDER BY wave, dependent, version LIMIT ?3 OFFSET ?2";
}

pub(super) fn put_document(
    db: &Connection,
    change: &ChangeId,
    digest: &Digest,
    json: &[u8],
) -> Result<()> {
    run(
        db,
        PUT_DOCUMENT,
        params![change.as_str(), digest.as_str(), json],
    )?;
    Ok(())
}

pub(super) fn document(
    db: &Connection,
    change: &ChangeId,
    digest: &Digest,
) -> Result<Option<Vec<u8>>> {
    one(db, DOCUMENT, [change.as_str(), digest.as_str()], |row| {
        row.plain("json")
    })
}

pub(super) fn put(db: &Connection, change: &Change) -> Result<()> {
    // In full, so that a new field cannot be forgotten here.
    let Change {
        id,
        kind,
        env,
        name,
        version,
        tag,
        promote,
        digest,
        key,
        accepted,
        planned,
    } = change;
    run(
        db,
        PUT_CHANGE,
        params![
            id.as_str(),
            kind.as_str(),
            env.as_str(),
            name.as_str(),
            version.to_string(),
            tag,
            promote,
            digest.as_str(),
            key,
            accepted,
            maybe_json(planned.as_ref())?,
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Change> {
    let mut row = InOrder::of(row);
    Ok(Change {
        id: ChangeId::new(row.text()?),
        kind: kind(row.text()?)?,
        env: Env::trusted(row.text()?),
        name: row.name()?,
        version: row.version()?,
        tag: row.plain()?,
        promote: row.plain()?,
        digest: Digest::new(row.text()?),
        key: row.plain()?,
        accepted: row.plain()?,
        planned: row.maybe_json()?,
    })
}

fn kind(text: &str) -> Result<Kind> {
    [Kind::Publish, Kind::Promotion]
        .into_iter()
        .find(|one| one.as_str() == text)
        .ok_or_else(|| bug(format!("a stored change is of kind {text:?}")))
}

pub(super) fn get(db: &Connection, id: &ChangeId) -> Result<Option<Change>> {
    one(db, CHANGE, [id.as_str()], read)
}

pub(super) fn page(
    db: &Connection,
    before: Option<&(Millis, ChangeId)>,
    count: usize,
) -> Result<Vec<Change>> {
    let (time, id) = before.map_or((Millis::MAX, ""), |(time, id)| (*time, id.as_str()));
    all(db, CHANGES, params![time, id, limit(count)], read)
}

/// A change that is not there was never accepted, so nothing can have been planned of it.
pub(super) fn set_planned(db: &Connection, id: &ChangeId, planned: &Planned) -> Result<()> {
    match run(db, SET_PLANNED, params![id.as_str(), json(planned)?])? {
        0 => Err(bug(format!("change {id} was planned but never accepted"))),
        _ => Ok(()),
    }
}

pub(super) fn put_decision(db: &Connection, change: &ChangeId, decision: &Decision) -> Result<()> {
    let version = decision
        .version
        .as_ref()
        .map(Version::to_string)
        .unwrap_or_default();
    let values = params![
        change.as_str(),
        decision.wave.as_str(),
        decision.dependent.as_str(),
        version,
        json(decision)?,
    ];
    run(db, PUT_DECISION, values)?;
    Ok(())
}

pub(super) fn decisions(
    db: &Connection,
    change: &ChangeId,
    skip: usize,
    count: usize,
) -> Result<Vec<Decision>> {
    all(
        db,
        DECISIONS,
        params![change.as_str(), limit(skip), limit(count)],
        |row| row.json("json"),
    )
}
