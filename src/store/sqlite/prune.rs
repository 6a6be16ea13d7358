//! What ends when it is older than `retain`: changes and waves of the past with all that is theirs, and what builds came
//! to. Nothing of it has anything left to be sent.

use rusqlite::{Connection, params};

use super::statement::{Columns, all, limit, run, statements};
use crate::model::package::Millis;
use crate::store::Result;

statements! {
    PAST = "SELECT id FROM change WHERE accepted < ?1 AND planned IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM decision, rebuild, pkg_row WHERE decision.change = change.id
        AND rebuild.id = json_extract(decision.json, '$.rebuild')
        AND pkg_row.name = rebuild.name AND pkg_row.version = rebuild.version AND pkg_row.slot = rebuild.slot
        AND pkg_row.rebuild = rebuild.id AND pkg_row.state = 'queued')
        AND NOT EXISTS (SELECT 1 FROM wave WHERE wave.id = change.id AND wave.state NOT IN ('closed', 'cancelled'))
        ORDER BY accepted, id LIMIT ?2";
    END_ATTEMPTS = "DELETE FROM attempt WHERE rebuild IN
        (SELECT json_extract(json, '$.rebuild') FROM decision WHERE change = ?1)";
    END_REBUILDS = "DELETE FROM rebuild WHERE id IN
        (SELECT json_extract(json, '$.rebuild') FROM decision WHERE change = ?1)";
    END_DECISIONS = "DELETE FROM decision WHERE change = ?1";
    END_DOCUMENTS = "DELETE FROM document WHERE change = ?1";
    END_NODES = "DELETE FROM wave_node WHERE wave = ?1";
    END_CHANGE = "DELETE FROM change WHERE id = ?1";
    PAST_WAVES = "SELECT id FROM wave WHERE opened < ?1 AND since < ?1 AND state IN ('closed', 'cancelled')
        AND NOT EXISTS (SELECT 1 FROM change WHERE change.id = wave.id) ORDER BY opened, id LIMIT ?2";
    END_PLANS = "DELETE FROM wave_plan WHERE wave = ?1";
    END_MEMBERS = "DELETE FROM wave_member WHERE wave = ?1";
    END_WAVE = "DELETE FROM wave WHERE id = ?1";
    END_OUTCOMES = "DELETE FROM outcome WHERE rowid IN (SELECT rowid FROM outcome WHERE at < ?1 ORDER BY at LIMIT ?2)";
}

/// How many things are ended at a time: others wait for the writer meanwhile.
const ENDED_AT_ONCE: usize = 100;

/// What is found by a wave, before the wave.
const OF_WAVE: [&str; 4] = [END_NODES, END_PLANS, END_MEMBERS, END_WAVE];

/// How many changes, waves of no change of their own and outcomes were ended.
pub(super) fn prune(db: &Connection, before: Millis) -> Result<usize> {
    let changes = past(db, PAST, before)?;
    for id in &changes {
        // What is found by decisions before the decisions. A wave has the id of the change that opened it.
        let of_change = [END_ATTEMPTS, END_REBUILDS, END_DECISIONS, END_DOCUMENTS];
        for sql in of_change.into_iter().chain(OF_WAVE).chain([END_CHANGE]) {
            run(db, sql, [id])?;
        }
    }
    let waves = past(db, PAST_WAVES, before)?;
    for id in &waves {
        for sql in OF_WAVE {
            run(db, sql, [id])?;
        }
    }
    let outcomes = run(db, END_OUTCOMES, params![before, limit(ENDED_AT_ONCE)])?;
    Ok(changes.len() + waves.len() + outcomes)
}

fn past(db: &Connection, sql: &str, before: Millis) -> Result<Vec<String>> {
    all(db, sql, params![before, limit(ENDED_AT_ONCE)], |row| {
        row.plain("id")
    })
}
