//! Waves: the row that decides about each, its plan, its members, and what it did with packages.

use rusqlite::{Connection, Row, params};

use super::error::bug;
use super::statement::{
    Columns, InOrder, all, json, limit, maybe_json, one, run, statements, text,
};
use crate::model::env::Env;
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, Millis};
use crate::model::wave::{PlanNode, Wave, WaveMove, WaveState};
use crate::store::{Committed, Node, NodeKey, Result};

/// The columns of a wave in the order in which [`read`] reads them.
macro_rules! columns {
    () => {
        "SELECT id, env, kind, start, change, promote, opened, state, since, plan, nodes, pending_on FROM wave "
    };
}

/// The columns of a node in the order in which [`read_node`] reads them.
macro_rules! node_columns {
    () => {
        "SELECT added, released, published, failed, late, held, skipped, package, version FROM wave_node "
    };
}

statements! {
    PUT_NODE = "INSERT INTO wave_node (wave, package, version, added, released, published, failed, late, held, skipped)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET added = coalesce(added, excluded.added),
        released = coalesce(released, excluded.released), published = coalesce(published, excluded.published),
        failed = coalesce(failed, excluded.failed), late = coalesce(late, excluded.late),
        held = coalesce(held, excluded.held), skipped = coalesce(skipped, excluded.skipped)";
    NODE = concat!(node_columns!(), "WHERE wave = ?1 AND package = ?2 AND version = ?3");
    NODES = concat!(node_columns!(), "WHERE wave = ?1 AND (package, version) > (?2, ?3)
        ORDER BY package, version LIMIT ?4");
    OPEN = "INSERT INTO wave (id, env, kind, start, change, promote, opened, state, since, plan, nodes, pending_on)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING";
    WAVE = concat!(columns!(), "WHERE id = ?1");
    WAVES = concat!(columns!(), "WHERE (opened, id) < (?1, ?2) ORDER BY opened DESC, id DESC LIMIT ?3");
    MOVE = "UPDATE wave SET state = ?3, since = ?4, plan = coalesce(?5, plan), nodes = coalesce(?6, nodes)
        WHERE id = ?1 AND state = ?2";
    PUT_PLAN = "INSERT INTO wave_plan (wave, plan, package, json) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    PLAN_NODE = "SELECT json FROM wave_plan WHERE wave = ?1 AND plan = ?2 AND package = ?3";
    PLAN = "SELECT json FROM wave_plan WHERE wave = ?1 AND plan = ?2 AND package > ?3 ORDER BY package LIMIT ?4";
    PUT_MEMBER = "INSERT INTO wave_member (wave, change, cause) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    MEMBERS = "SELECT change, cause FROM wave_member WHERE wave = ?1 ORDER BY change";
    COLLECTING = "SELECT wave FROM collecting WHERE env = ?1";
    COLLECT_FIRST = "INSERT INTO collecting (env, wave) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    COLLECT = "UPDATE collecting SET wave = ?2 WHERE env = ?1 AND wave = ?3";
}

/// The part of a node's key that is empty in a publish wave.
fn key_version(key: &NodeKey) -> String {
    text(key.version.as_ref()).unwrap_or_default()
}

pub(super) fn put_node(db: &Connection, wave: &WaveId, key: &NodeKey, node: &Node) -> Result<()> {
    if *node == Node::default() {
        return Ok(());
    }
    // In full, so that a new column cannot be forgotten here.
    let Node {
        added,
        released,
        published,
        failed,
        late,
        held,
        skipped,
    } = node;
    let values = params![
        wave.as_str(),
        key.package.as_str(),
        key_version(key),
        maybe_json(added.as_ref())?,
        released.as_ref().map(RebuildId::as_str),
        text(published.as_ref()),
        failed,
        late,
        held,
        maybe_json(skipped.as_ref())?,
    ];
    run(db, PUT_NODE, values)?;
    Ok(())
}

fn read_node(row: &Row<'_>) -> Result<Node> {
    let mut row = InOrder::of(row);
    Ok(Node {
        added: row.maybe_json()?,
        released: row.plain::<Option<String>>()?.map(RebuildId::new),
        published: row.maybe_version()?,
        failed: row.plain()?,
        late: row.plain()?,
        held: row.plain()?,
        skipped: row.maybe_json()?,
    })
}

pub(super) fn node(db: &Connection, wave: &WaveId, key: &NodeKey) -> Result<Node> {
    let key = params![wave.as_str(), key.package.as_str(), key_version(key)];
    Ok(one(db, NODE, key, read_node)?.unwrap_or_default())
}

pub(super) fn nodes(
    db: &Connection,
    wave: &WaveId,
    after: Option<&NodeKey>,
    count: usize,
) -> Result<Vec<(NodeKey, Node)>> {
    let values = params![
        wave.as_str(),
        after.map_or("", |key| key.package.as_str()),
        after.map(key_version).unwrap_or_default(),
        limit(count)
    ];
    all(db, NODES, values, |row| {
        let of: String = row.plain("version")?;
        let key = NodeKey {
            package: row.name("package")?,
            version: (!of.is_empty())
                .then(|| row.version("version"))
                .transpose()?,
        };
        Ok((key, read_node(row)?))
    })
}

/// A group that does not become durable answers an error, and nothing of it is there: no outcome is unknown.
pub(super) fn open(db: &Connection, wave: &Wave) -> Result<Committed> {
    // In full, so that a new field cannot be forgotten here.
    let Wave {
        id,
        env,
        kind,
        start,
        change,
        promote,
        opened,
        state,
        since,
        plan,
        nodes,
        pending_on,
    } = wave;
    let values = params![
        id.as_str(),
        env.as_str(),
        kind.as_str(),
        json(start)?,
        change.as_str(),
        promote,
        opened,
        state.as_str(),
        since,
        plan,
        nodes,
        json(pending_on)?,
    ];
    Ok(committed(run(db, OPEN, values)?))
}

fn committed(rows: usize) -> Committed {
    if rows == 0 {
        Committed::Refused
    } else {
        Committed::Applied
    }
}

fn read(row: &Row<'_>) -> Result<Wave> {
    let mut row = InOrder::of(row);
    let id = row.text()?;
    let unknown = |what: &str, text: &str| bug(format!("wave {id} is of {what} {text:?}"));
    Ok(Wave {
        id: WaveId::new(id),
        env: Env::trusted(row.text()?),
        kind: row.text().and_then(|text| {
            [Kind::Publish, Kind::Promotion]
                .into_iter()
                .find(|one| one.as_str() == text)
                .ok_or_else(|| unknown("kind", text))
        })?,
        start: row.json()?,
        change: ChangeId::new(row.text()?),
        promote: row.plain()?,
        opened: row.plain()?,
        state: row
            .text()
            .and_then(|text| WaveState::from_column(text).ok_or_else(|| unknown("state", text)))?,
        since: row.plain()?,
        plan: row.plain()?,
        nodes: row.count()?,
        pending_on: row.json()?,
    })
}

pub(super) fn get(db: &Connection, id: &WaveId) -> Result<Option<Wave>> {
    one(db, WAVE, [id.as_str()], read)
}

pub(super) fn page(
    db: &Connection,
    before: Option<&(Millis, WaveId)>,
    count: usize,
) -> Result<Vec<Wave>> {
    let (time, id) = before.map_or((Millis::MAX, ""), |(time, id)| (*time, id.as_str()));
    all(db, WAVES, params![time, id, limit(count)], read)
}

pub(super) fn go_on(db: &Connection, id: &WaveId, to: &WaveMove) -> Result<Committed> {
    let WaveMove { from, to, at, plan } = to;
    let values = params![
        id.as_str(),
        from.as_str(),
        to.as_str(),
        at,
        plan.as_ref().map(|(plan, _)| plan),
        plan.as_ref().map(|(_, nodes)| nodes),
    ];
    Ok(committed(run(db, MOVE, values)?))
}

pub(super) fn put_plan_node(
    db: &Connection,
    wave: &WaveId,
    plan: &str,
    node: &PlanNode,
) -> Result<()> {
    let values = params![wave.as_str(), plan, node.key.package.as_str(), json(node)?];
    run(db, PUT_PLAN, values)?;
    Ok(())
}

pub(super) fn plan_node(
    db: &Connection,
    wave: &WaveId,
    plan: &str,
    package: &PackageName,
) -> Result<Option<PlanNode>> {
    one(
        db,
        PLAN_NODE,
        [wave.as_str(), plan, package.as_str()],
        |row| row.json("json"),
    )
}

pub(super) fn plan(
    db: &Connection,
    wave: &WaveId,
    plan: &str,
    after: Option<&PackageName>,
    count: usize,
) -> Result<Vec<PlanNode>> {
    let after = after.map_or("", PackageName::as_str);
    let values = params![wave.as_str(), plan, after, limit(count)];
    all(db, PLAN, values, |row| row.json("json"))
}

pub(super) fn put_member(
    db: &Connection,
    wave: &WaveId,
    change: &ChangeId,
    cause: &Cause,
) -> Result<()> {
    let values = params![wave.as_str(), change.as_str(), json(cause)?];
    run(db, PUT_MEMBER, values)?;
    Ok(())
}

pub(super) fn members(db: &Connection, wave: &WaveId) -> Result<Vec<(ChangeId, Cause)>> {
    all(db, MEMBERS, [wave.as_str()], |row| {
        let change: String = row.plain("change")?;
        Ok((ChangeId::new(change), row.json("cause")?))
    })
}

pub(super) fn collecting(db: &Connection, env: &Env) -> Result<Option<WaveId>> {
    one(db, COLLECTING, [env.as_str()], |row| {
        Ok(WaveId::new(row.plain::<String>("wave")?))
    })
}

pub(super) fn collect(
    db: &Connection,
    env: &Env,
    expect: Option<&WaveId>,
    next: &WaveId,
) -> Result<Committed> {
    let rows = match expect {
        None => run(db, COLLECT_FIRST, [env.as_str(), next.as_str()])?,
        Some(before) => run(db, COLLECT, [env.as_str(), next.as_str(), before.as_str()])?,
    };
    Ok(committed(rows))
}
