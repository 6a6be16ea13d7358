//! The conditional batch on one package's partition: all conditions are looked at before anything is written.
//!
//! Nothing here takes care of other writers: there is one thread that writes, and the transaction holds the lock of the
//! whole file (`BEGIN IMMEDIATE`) against other processes.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::error::bug;
use super::package::rebuild_state;
use super::statement::{Columns, json, maybe_json, number, one, run, statements, text};
use crate::model::id::{ChangeId, Digest, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Facts, Rebuild, RebuildState, RowKey, Top};
use crate::store::lawful::lawful;
use crate::store::{Committed, Expect, PackageCommit, RebuildPatch, Result, RowWrite};

statements! {
    SEQ = "SELECT seq FROM pkg WHERE name = ?1";
    FOUND = "SELECT rebuild, state, attempt, waves FROM pkg_row WHERE name = ?1 AND version = ?2 AND slot = ?3";
    PUT_STATICS = "INSERT INTO pkg (name, seq, stamp, head_version, head_born, dependent_of)
        VALUES (?1, ?2, coalesce(?3, 0), ?4, ?5, ?7) ON CONFLICT DO UPDATE SET
        seq = ?2,
        stamp = coalesce(?3, stamp),
        head_version = coalesce(?4, head_version),
        head_born = coalesce(?5, head_born),
        dependent_of = CASE WHEN ?6 THEN ?7 ELSE dependent_of END";
    PUT_TOP = "INSERT INTO pkg_top (name, version, origin, edges) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET version = excluded.version, origin = excluded.origin, edges = excluded.edges";
    CLOSE = "DELETE FROM pkg_open WHERE name = ?1 AND wave = ?2";
    PUT_OPEN = "INSERT INTO pkg_open (name, wave, version) VALUES (?1, ?2, ?3)
        ON CONFLICT DO UPDATE SET version = excluded.version";
    PUT_EDGE = "INSERT INTO pkg_edge (name, parent, range, version) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET version = excluded.version";
    PUT_ATTACHED = "INSERT INTO pkg_attached (name, parent, parent_version, version) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET version = excluded.version";
    PUT_ROW = "INSERT INTO pkg_row (name, version, slot, born) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    SET_FACTS = "UPDATE pkg_row SET published = 1, noticed = ?4, notice = ?5, digest = ?6, tag = ?7, origin = ?8,
        previous = ?9, tarball_of = ?10, stamp = ?11, dropped = ?12, took_place = ?13, built_with = ?14, attach = ?15,
        attach_stamp = ?16
        WHERE name = ?1 AND version = ?2 AND slot = ?3";
    SET_REBUILD = "UPDATE pkg_row SET rebuild = ?4, state = ?5, generation = ?6, waves = ?7, change = ?8, decision = ?9,
        place = ?10, base = ?11, base_origin = ?12, base_tarball_of = ?13, cause = ?14, rebuild_with = ?15, promote = ?16,
        attempt = ?17, tries = ?18, owner = ?19, due = ?20, ended_because = ?21, confirmed_by = ?22
        WHERE name = ?1 AND version = ?2 AND slot = ?3";
    PATCH_REBUILD = "UPDATE pkg_row SET state = coalesce(?4, state), attempt = coalesce(?5, attempt),
        tries = coalesce(?6, tries), owner = coalesce(?7, owner), due = coalesce(?8, due), waves = coalesce(?9, waves),
        ended_because = coalesce(?10, ended_because), confirmed_by = coalesce(?11, confirmed_by)
        WHERE name = ?1 AND version = ?2 AND slot = ?3";
}

/// Applies one batch, or refuses it and writes nothing. After an error the caller takes back what was written.
pub(super) fn commit(db: &Connection, batch: &PackageCommit) -> Result<Committed> {
    lawful(batch)?;
    let name = batch.name.as_str();
    if let Some(expect) = batch.expect_seq {
        let seq: u64 = one(db, SEQ, [name], |row| row.count("seq"))?.unwrap_or_default();
        if seq != expect {
            return Ok(Committed::Refused);
        }
    }
    let mut found = Vec::with_capacity(batch.rows.len());
    for write in &batch.rows {
        let there = find(db, name, &write.key)?;
        if !holds(&write.expect, there.as_ref()) {
            return Ok(Committed::Refused);
        }
        let rebuild = there.and_then(|there| there.rebuild);
        if write.expect == Expect::Nothing && write.rebuild.is_some() && rebuild.is_some() {
            return Err(bug(format!(
                "{name}@{} has a rebuild that would be replaced unseen",
                write.key.version
            )));
        }
        found.push(rebuild);
    }
    if let Some(seq) = batch.expect_seq {
        put_statics(db, batch, seq + 1)?;
    }
    for (write, rebuild) in batch.rows.iter().zip(found) {
        put_row(db, name, write, rebuild)?;
    }
    Ok(Committed::Applied)
}

/// What conditions look at in a row that exists.
struct Found {
    rebuild: Option<FoundRebuild>,
}

struct FoundRebuild {
    id: RebuildId,
    state: RebuildState,
    attempt: u32,
    waves: BTreeSet<WaveId>,
}

fn find(db: &Connection, name: &str, key: &RowKey) -> Result<Option<Found>> {
    one(
        db,
        FOUND,
        params![name, key.version.to_string(), key.slot.as_str()],
        |row| {
            let Some(id) = row.plain::<Option<String>>("rebuild")? else {
                return Ok(Found { rebuild: None });
            };
            Ok(Found {
                rebuild: Some(FoundRebuild {
                    id: RebuildId::new(id),
                    state: rebuild_state(&row.plain::<String>("state")?)?,
                    attempt: row.count("attempt")?,
                    waves: row.json("waves")?,
                }),
            })
        },
    )
}

fn holds(expect: &Expect, there: Option<&Found>) -> bool {
    let rebuild = there.and_then(|there| there.rebuild.as_ref());
    match expect {
        Expect::Nothing => true,
        Expect::Absent => there.is_none(),
        Expect::NoRebuild => rebuild.is_none(),
        Expect::Rebuild { id, state, attempt } => rebuild.is_some_and(|there| {
            there.id == *id && there.state == *state && there.attempt == *attempt
        }),
    }
}

fn put_statics(db: &Connection, batch: &PackageCommit, seq: u64) -> Result<()> {
    let name = batch.name.as_str();
    let statics = &batch.statics;
    let head = statics.head.as_ref();
    let dependent_of = statics.dependent_of.as_ref();
    let values = params![
        name,
        number(seq)?,
        statics.stamp,
        head.map(|head| head.version.to_string()),
        head.map(|head| number(head.born)).transpose()?,
        dependent_of.is_some(),
        dependent_of
            .and_then(Option::as_ref)
            .map(PackageName::as_str),
    ];
    run(db, PUT_STATICS, values)?;
    if let Some(Top {
        version,
        origin,
        edges,
    }) = &statics.top
    {
        let edges: Vec<_> = edges
            .iter()
            .map(|edge| (&edge.parent, &edge.range))
            .collect();
        run(
            db,
            PUT_TOP,
            params![
                name,
                version.to_string(),
                text(origin.as_ref()),
                json(&edges)?
            ],
        )?;
    }
    for wave in &statics.close {
        run(db, CLOSE, [name, wave.as_str()])?;
    }
    for (wave, version) in &statics.open {
        run(
            db,
            PUT_OPEN,
            params![name, wave.as_str(), version.to_string()],
        )?;
    }
    for (parent, range, version) in &batch.edges {
        run(
            db,
            PUT_EDGE,
            params![name, parent.as_str(), range, version.to_string()],
        )?;
    }
    for (parent, parent_version, version) in &batch.attached {
        run(
            db,
            PUT_ATTACHED,
            params![
                name,
                parent.as_str(),
                parent_version.to_string(),
                version.to_string()
            ],
        )?;
    }
    Ok(())
}

fn put_row(
    db: &Connection,
    name: &str,
    write: &RowWrite,
    there: Option<FoundRebuild>,
) -> Result<()> {
    let version = write.key.version.to_string();
    let slot = write.key.slot.as_str();
    run(
        db,
        PUT_ROW,
        params![name, version, slot, number(write.born)?],
    )?;
    if let Some(facts) = &write.facts {
        set_facts(db, name, &version, slot, facts)?;
    }
    if let Some(rebuild) = &write.rebuild {
        set_rebuild(db, name, &version, slot, rebuild)?;
    }
    if let (Some(patch), Some(there)) = (&write.patch, there) {
        patch_rebuild(db, name, &version, slot, patch, there)?;
    }
    Ok(())
}

fn set_facts(db: &Connection, name: &str, version: &str, slot: &str, facts: &Facts) -> Result<()> {
    // In full, so that a new field cannot be forgotten here.
    let Facts {
        noticed,
        notice,
        digest,
        tag,
        origin,
        previous,
        tarball_of,
        stamp,
        dropped,
        took_place,
        with,
        attach,
        attach_stamp,
    } = facts;
    let values = params![
        name,
        version,
        slot,
        noticed,
        notice.as_ref().map(ChangeId::as_str),
        digest.as_ref().map(Digest::as_str),
        tag,
        text(origin.as_ref()),
        text(previous.as_ref()),
        text(tarball_of.as_ref()),
        stamp,
        maybe_json(dropped.as_ref())?,
        json(took_place)?,
        maybe_json(with.as_ref())?,
        maybe_json(attach.as_ref())?,
        attach_stamp,
    ];
    run(db, SET_FACTS, values)?;
    Ok(())
}

fn set_rebuild(
    db: &Connection,
    name: &str,
    version: &str,
    slot: &str,
    rebuild: &Rebuild,
) -> Result<()> {
    let Rebuild {
        id,
        state,
        generation,
        waves,
        change,
        decision,
        order,
        base,
        origin,
        tarball_of,
        cause,
        with,
        promote,
        attempt,
        tries,
        owner,
        due,
        ended_because,
        confirmed_by,
    } = rebuild;
    let values = params![
        name,
        version,
        slot,
        id.as_str(),
        state.as_str(),
        generation,
        json(waves)?,
        change.as_str(),
        json(decision)?,
        number(*order)?,
        base.to_string(),
        origin.to_string(),
        tarball_of.to_string(),
        json(cause)?,
        json(with)?,
        promote,
        attempt,
        tries,
        owner,
        due,
        ended_because,
        confirmed_by.as_ref().map(ChangeId::as_str),
    ];
    run(db, SET_REBUILD, values)?;
    Ok(())
}

fn patch_rebuild(
    db: &Connection,
    name: &str,
    version: &str,
    slot: &str,
    patch: &RebuildPatch,
    there: FoundRebuild,
) -> Result<()> {
    let RebuildPatch {
        state,
        attempt,
        tries,
        owner,
        due,
        join,
        ended_because,
        confirmed_by,
    } = patch;
    let waves = if join.is_empty() {
        None
    } else {
        let mut waves = there.waves;
        waves.extend(join.iter().cloned());
        Some(json(&waves)?)
    };
    let values = params![
        name,
        version,
        slot,
        state.map(RebuildState::as_str),
        attempt,
        tries,
        owner,
        due,
        waves,
        ended_because,
        confirmed_by.as_ref().map(ChangeId::as_str),
    ];
    run(db, PATCH_REBUILD, values)?;
    Ok(())
}
