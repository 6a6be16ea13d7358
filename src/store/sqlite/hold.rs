//! What people and builds say: holds (rule 17), and what builds came to (rule 15).

use rusqlite::{Connection, Row, params};

use super::statement::{Columns, all, json, limit, run, statements};
use crate::model::env::Env;
use crate::model::id::Digest;
use crate::model::name::PackageName;
use crate::model::package::Millis;
use crate::model::wave::{BuildOutcome, Hold};
use crate::semver::Version;
use crate::store::Result;

/// The columns of a hold.
macro_rules! columns {
    () => {
        "SELECT package, id, parent, owner, reason, placed, expires, ended FROM hold "
    };
}

statements! {
    PUT_HOLD = "INSERT INTO hold (package, id, parent, owner, reason, placed, expires, ended)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET ended = coalesce(ended, excluded.ended)";
    END_HOLD = "UPDATE hold SET ended = coalesce(ended, ?3) WHERE package = ?1 AND id = ?2";
    HOLDS = concat!(columns!(), "WHERE package = ?1 AND ended IS NULL ORDER BY id");
    ALL_HOLDS = concat!(columns!(), "WHERE ended IS NULL AND (package, id) > (?1, ?2) ORDER BY package, id LIMIT ?3");
    PUT_OUTCOME = "INSERT INTO outcome (name, version, env, at, digest, ok, message)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
    OUTCOMES = "SELECT at, ok, message FROM outcome WHERE name = ?1 AND version = ?2 AND env = ?3 ORDER BY at, digest";
}

pub(super) fn put(db: &Connection, hold: &Hold) -> Result<()> {
    // In full, so that a new field cannot be forgotten here.
    let Hold {
        id,
        package,
        parent,
        owner,
        reason,
        placed,
        expires,
        ended,
    } = hold;
    let values = params![
        package.as_str(),
        id,
        parent.as_ref().map(PackageName::as_str),
        owner,
        reason,
        placed,
        expires,
        ended,
    ];
    run(db, PUT_HOLD, values)?;
    Ok(())
}

pub(super) fn end(db: &Connection, package: &PackageName, id: &str, at: Millis) -> Result<()> {
    run(db, END_HOLD, params![package.as_str(), id, at])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Hold> {
    Ok(Hold {
        id: row.plain("id")?,
        package: row.name("package")?,
        parent: row.maybe_name("parent")?,
        owner: row.plain("owner")?,
        reason: row.plain("reason")?,
        placed: row.plain("placed")?,
        expires: row.plain("expires")?,
        ended: row.plain("ended")?,
    })
}

/// The holds of a package that have not ended, in the order of ids.
pub(super) fn of_package(db: &Connection, package: &PackageName) -> Result<Vec<Hold>> {
    all(db, HOLDS, [package.as_str()], read)
}

pub(super) fn page(
    db: &Connection,
    after: Option<&(PackageName, String)>,
    count: usize,
) -> Result<Vec<Hold>> {
    let (package, id) = after.map_or(("", ""), |(package, id)| (package.as_str(), id));
    all(db, ALL_HOLDS, params![package, id, limit(count)], read)
}

pub(super) fn put_outcome(db: &Connection, outcome: &BuildOutcome) -> Result<()> {
    let digest = Digest::of(json(outcome)?.as_bytes());
    let BuildOutcome {
        name,
        version,
        env,
        ok,
        message,
        at,
    } = outcome;
    let values = params![
        name.as_str(),
        version.to_string(),
        env.as_str(),
        at,
        digest.as_str(),
        ok,
        message,
    ];
    run(db, PUT_OUTCOME, values)?;
    Ok(())
}

pub(super) fn outcomes(
    db: &Connection,
    name: &PackageName,
    version: &Version,
    env: &Env,
) -> Result<Vec<BuildOutcome>> {
    let key = params![name.as_str(), version.to_string(), env.as_str()];
    all(db, OUTCOMES, key, |row| {
        Ok(BuildOutcome {
            name: name.clone(),
            version: version.clone(),
            env: env.clone(),
            ok: row.plain("ok")?,
            message: row.plain("message")?,
            at: row.plain("at")?,
        })
    })
}
