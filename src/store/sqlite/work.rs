//! Rebuilds by id, the results of attempts, and the work that is not done.

use rusqlite::{Connection, params};

use super::statement::{Columns, all, json, limit, one, run, statements};
use crate::model::decision::RebuildIndex;
use crate::model::id::{ChangeId, RebuildId};
use crate::model::package::{RowKey, Slot};
use crate::model::work::{Shard, Work};
use crate::store::{Attempt, Result};

statements! {
    PUT_REBUILD = "INSERT INTO rebuild (id, name, version, slot, generation, change, decided)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
    REBUILD = "SELECT * FROM rebuild WHERE id = ?1";
    PUT_ATTEMPT = "INSERT INTO attempt
        (rebuild, number, started, ended, owner, outcome, neighbour, may_have_reached, status, message)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING";
    ATTEMPTS = "SELECT * FROM attempt WHERE rebuild = ?1 ORDER BY number";
    PUT_WORK = "INSERT INTO work (shard, id, package, due, job) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
    PENDING = "SELECT * FROM work WHERE shard = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
    FINISH = "DELETE FROM work WHERE shard = ?1 AND id = ?2";
    PROBE = "INSERT INTO probe (one, count) VALUES (1, 1) ON CONFLICT DO UPDATE SET count = count + 1";
    PROBED = "SELECT count FROM probe WHERE one = 1";
}

pub(super) fn put_rebuild(db: &Connection, rebuild: &RebuildIndex) -> Result<()> {
    let RebuildIndex {
        id,
        name,
        key: RowKey { version, slot },
        generation,
        change,
        decided,
    } = rebuild;
    let values = params![
        id.as_str(),
        name.as_str(),
        version.to_string(),
        slot.as_str(),
        generation,
        change.as_str(),
        decided,
    ];
    run(db, PUT_REBUILD, values)?;
    Ok(())
}

pub(super) fn rebuild(db: &Connection, id: &RebuildId) -> Result<Option<RebuildIndex>> {
    one(db, REBUILD, [id.as_str()], |row| {
        Ok(RebuildIndex {
            id: RebuildId::new(row.plain::<String>("id")?),
            name: row.name("name")?,
            key: RowKey {
                version: row.version("version")?,
                slot: Slot::from_column(&row.plain::<String>("slot")?),
            },
            generation: row.count("generation")?,
            change: ChangeId::new(row.plain::<String>("change")?),
            decided: row.plain("decided")?,
        })
    })
}

pub(super) fn put_attempt(db: &Connection, rebuild: &RebuildId, attempt: &Attempt) -> Result<()> {
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
    let values = params![
        rebuild.as_str(),
        number,
        started,
        ended,
        owner,
        outcome,
        neighbour,
        may_have_reached,
        status,
        message,
    ];
    run(db, PUT_ATTEMPT, values)?;
    Ok(())
}

pub(super) fn attempts(db: &Connection, rebuild: &RebuildId) -> Result<Vec<Attempt>> {
    all(db, ATTEMPTS, [rebuild.as_str()], |row| {
        Ok(Attempt {
            number: row.count("number")?,
            started: row.plain("started")?,
            ended: row.plain("ended")?,
            owner: row.plain("owner")?,
            outcome: row.plain("outcome")?,
            neighbour: row.plain("neighbour")?,
            may_have_reached: row.plain("may_have_reached")?,
            status: row.plain("status")?,
            message: row.plain("message")?,
        })
    })
}

pub(super) fn put(db: &Connection, work: &Work) -> Result<()> {
    let Work {
        id,
        package,
        due,
        job,
    } = work;
    let shard = work.shard().number();
    run(
        db,
        PUT_WORK,
        params![shard, id, package.as_str(), due, json(job)?],
    )?;
    Ok(())
}

pub(super) fn pending(
    db: &Connection,
    shard: Shard,
    after: Option<&str>,
    count: usize,
) -> Result<Vec<Work>> {
    all(
        db,
        PENDING,
        params![shard.number(), after.unwrap_or_default(), limit(count)],
        |row| {
            Ok(Work {
                id: row.plain("id")?,
                package: row.name("package")?,
                due: row.plain("due")?,
                job: row.json("job")?,
            })
        },
    )
}

pub(super) fn finish(db: &Connection, item: &Work) -> Result<()> {
    run(db, FINISH, params![item.shard().number(), item.id])?;
    Ok(())
}

/// Writes something: only that tells whether the disk is full.
pub(super) fn probe(db: &Connection) -> Result<()> {
    run(db, PROBE, [])?;
    Ok(())
}

/// Reads what [`probe`] wrote.
pub(super) fn probed(db: &Connection) -> Result<i64> {
    Ok(one(db, PROBED, [], |row| row.plain("count"))?.unwrap_or_default())
}
