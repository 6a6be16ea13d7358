//! Which promotions there were, and what they sent (rule 13, H13).

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use super::error::bug;
use super::statement::{Columns, all, limit, run, statements};
use crate::model::env::Env;
use crate::model::id::ChangeId;
use crate::model::name::PackageName;
use crate::semver::Version;
use crate::store::{Committed, Promotion, Result};

statements! {
    PUT_PROMOTION = "INSERT INTO promotion (name, env, generation, version, promote, change, at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    PROMOTIONS = "SELECT version, generation, promote, change, at FROM promotion WHERE name = ?1 AND env = ?2
        ORDER BY generation DESC LIMIT ?3";
    PUT_ENTRY = "INSERT INTO promotion_entry (name, version, env, generation, dependent, dependent_version)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
    ENTRIES = "SELECT dependent, dependent_version FROM promotion_entry WHERE name = ?1 AND version = ?2 AND env = ?3
        ORDER BY generation";
}

fn read(row: &Row<'_>) -> Result<Promotion> {
    Ok(Promotion {
        version: row.version("version")?,
        generation: row.count("generation")?,
        promote: row.plain("promote")?,
        change: ChangeId::new(row.plain::<String>("change")?),
        at: row.plain("at")?,
    })
}

pub(super) fn promotions(
    db: &Connection,
    name: &PackageName,
    env: &Env,
    count: usize,
) -> Result<Vec<Promotion>> {
    all(
        db,
        PROMOTIONS,
        params![name.as_str(), env.as_str(), limit(count)],
        read,
    )
}

/// The latest promotion is the one of the highest generation; a new one is added only on top of the one expected (H13).
pub(super) fn promote(
    db: &Connection,
    name: &PackageName,
    env: &Env,
    expect: u32,
    next: &Promotion,
) -> Result<Committed> {
    let Promotion {
        version,
        generation,
        promote,
        change,
        at,
    } = next;
    if *generation <= expect {
        return Err(bug(format!(
            "{name}: generation {generation} cannot follow {expect}"
        )));
    }
    let latest = promotions(db, name, env, 1)?
        .first()
        .map_or(0, |latest| latest.generation);
    if latest != expect {
        return Ok(Committed::Refused);
    }
    let values = params![
        name.as_str(),
        env.as_str(),
        generation,
        version.to_string(),
        promote,
        change.as_str(),
        at
    ];
    run(db, PUT_PROMOTION, values)?;
    Ok(Committed::Applied)
}

pub(super) fn put_entry(
    db: &Connection,
    (name, version, env, generation): (&PackageName, &Version, &Env, u32),
    (dependent, dependent_version): &(PackageName, Version),
) -> Result<()> {
    let values = params![
        name.as_str(),
        version.to_string(),
        env.as_str(),
        generation,
        dependent.as_str(),
        dependent_version.to_string(),
    ];
    run(db, PUT_ENTRY, values)?;
    Ok(())
}

pub(super) fn entries(
    db: &Connection,
    name: &PackageName,
    version: &Version,
    env: &Env,
) -> Result<BTreeMap<PackageName, Version>> {
    let key = params![name.as_str(), version.to_string(), env.as_str()];
    let entries = all(db, ENTRIES, key, |row| {
        Ok((row.name("dependent")?, row.version("dependent_version")?))
    })?;
    // In the order of generations: a later one replaces an earlier one.
    Ok(entries.into_iter().collect())
}
