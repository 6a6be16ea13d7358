//! Reading a package's partition, and the manifests of its versions.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::error::bug;
use super::statement::{Columns, InOrder, all, limit, one, run, statements};
use crate::model::edge::Edge;
use crate::model::id::{ChangeId, Digest, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{
    Facts, Head, PackageState, Rebuild, RebuildState, Row, RowKey, Slot, Top,
};
use crate::semver::Version;
use crate::store::{Published, Result, Tops, Want, WantOpen};

/// The columns of a row in the order in which [`row`] reads them.
macro_rules! row {
    ($where:literal) => {
        concat!(
            "SELECT version, slot, born, published, noticed, notice, digest, tag, origin, previous, tarball_of, stamp, ",
            "dropped, took_place, built_with, attach, attach_stamp, rebuild, state, generation, waves, change, decision, ",
            "place, base, base_origin, base_tarball_of, cause, rebuild_with, promote, attempt, tries, owner, due, ",
            "ended_because, confirmed_by FROM pkg_row WHERE ",
            $where
        )
    };
}

/// How many of them are facts.
const FACTS: usize = 13;

statements! {
    STATICS = "SELECT seq, stamp, head_version, head_born, dependent_of, version, origin, CASE WHEN ?2 THEN edges END
        FROM pkg LEFT JOIN pkg_top USING (name) WHERE pkg.name = ?1";
    TOPS = "SELECT rowid, name, version, origin, edges FROM pkg_top WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";
    SEQ = "SELECT seq FROM pkg WHERE name = ?1";
    OPEN = "SELECT wave, version FROM pkg_open WHERE name = ?1";
    OPEN_OF = "SELECT wave, version FROM pkg_open WHERE name = ?1 AND wave = ?2";
    ROW = row!("name = ?1 AND version = ?2 AND slot = ?3");
    PREFIX = row!("name = ?1 AND version >= ?2 AND version < ?3 AND slot = ''");
    TAKEN = "SELECT version FROM pkg_row WHERE name = ?1 AND version >= ?2 AND version < ?3 AND slot = ''";
    EDGE = "SELECT version FROM pkg_edge WHERE name = ?1 AND parent = ?2 AND range = ?3";
    ATTACHED = "SELECT version FROM pkg_attached WHERE name = ?1 AND parent = ?2 AND parent_version = ?3";
    PUBLISHED = "SELECT version, origin, tag FROM pkg_row WHERE name = ?1 AND published = 1 AND slot = ''";
    FIRST_QUEUED = "SELECT place FROM pkg_row WHERE name = ?1 AND slot = ?2 AND state = 'queued' ORDER BY place LIMIT 1";
    NAMES = "SELECT name FROM pkg WHERE name > ?1 AND seq > 0 ORDER BY name LIMIT ?2";
    PUT_MANIFEST = "INSERT INTO manifest (name, version, digest, json) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    MANIFEST = "SELECT json FROM manifest WHERE name = ?1 AND version = ?2 AND digest = ?3";
}

/// Reads what is wanted of one partition. Run it inside one snapshot.
pub(super) fn state(db: &Connection, want: &Want) -> Result<PackageState> {
    let name = want.name.as_str();
    let statics = one(db, STATICS, params![name, want.top_edges], |row| {
        let mut row = InOrder::of(row);
        let (seq, stamp) = (row.count()?, row.plain()?);
        let (version, born) = (row.maybe_version()?, row.plain::<Option<i64>>()?);
        let head = match version {
            Some(version) => Some(Head {
                version,
                born: born_at(born)?,
            }),
            None => None,
        };
        Ok((seq, stamp, head, row.maybe_name()?, top(row)?))
    })?;
    let (seq, stamp, head, dependent_of, top) = statics.unwrap_or_default();
    let reservation = |row: &rusqlite::Row<'_>| {
        Ok((
            WaveId::new(row.plain::<String>("wave")?),
            row.version("version")?,
        ))
    };
    let open: BTreeMap<WaveId, Version> = match &want.open {
        WantOpen::No => BTreeMap::new(),
        WantOpen::Of(wave) => one(db, OPEN_OF, [name, wave.as_str()], reservation)?
            .into_iter()
            .collect(),
        WantOpen::All => all(db, OPEN, [name], reservation)?.into_iter().collect(),
    };
    Ok(PackageState {
        name: want.name.clone(),
        seq,
        stamp,
        head,
        top,
        dependent_of,
        rows: rows(db, want, &open)?,
        taken: taken(db, want)?,
        open,
        edges: found(&want.edges, |(parent, range)| {
            one(db, EDGE, params![name, parent.as_str(), range], |row| {
                row.version("version")
            })
        })?,
        attached: found(&want.attached, |(parent, version)| {
            one(
                db,
                ATTACHED,
                params![name, parent.as_str(), version.to_string()],
                |row| row.version("version"),
            )
        })?,
    })
}

/// The keys that exist, with their values.
fn found<K: Ord + Clone, V>(
    keys: &[K],
    get: impl Fn(&K) -> Result<Option<V>>,
) -> Result<BTreeMap<K, V>> {
    let mut values = BTreeMap::new();
    for key in keys {
        if let Some(value) = get(key)? {
            values.insert(key.clone(), value);
        }
    }
    Ok(values)
}

fn born_at(born: Option<i64>) -> Result<u64> {
    born.and_then(|born| u64::try_from(born).ok())
        .ok_or_else(|| bug("a stored head was never born"))
}

fn top(mut row: InOrder<'_, '_>) -> Result<Option<Top>> {
    let Some(version) = row.maybe_version()? else {
        return Ok(None);
    };
    let origin = row.maybe_version()?;
    let edges: Vec<(PackageName, String)> = row.maybe_json()?.unwrap_or_default();
    Ok(Some(Top {
        version,
        origin,
        edges: edges
            .into_iter()
            .map(|(parent, range)| Edge { parent, range })
            .collect(),
    }))
}

/// Each row once, however many ways it was asked for.
fn rows(db: &Connection, want: &Want, open: &BTreeMap<WaveId, Version>) -> Result<Vec<Row>> {
    let name = want.name.as_str();
    let mut rows: BTreeMap<RowKey, Row> = BTreeMap::new();
    let reserved = open.values().map(RowKey::publish);
    for key in want.rows.iter().cloned().chain(reserved) {
        if let Some(row) = one(
            db,
            ROW,
            params![name, key.version.to_string(), key.slot.as_str()],
            row,
        )? {
            rows.insert(key, row);
        }
    }
    for prefix in &want.prefixes {
        for row in all(db, PREFIX, params![name, prefix, after(prefix)], row)? {
            rows.insert(row.key.clone(), row);
        }
    }
    Ok(rows.into_values().collect())
}

fn taken(db: &Connection, want: &Want) -> Result<BTreeSet<Version>> {
    let mut taken = BTreeSet::new();
    for prefix in &want.taken {
        taken.extend(all(
            db,
            TAKEN,
            params![want.name.as_str(), prefix, after(prefix)],
            |row| row.version("version"),
        )?);
    }
    Ok(taken)
}

/// The first text after all those that begin with `prefix`, so that a range of the key finds them.
fn after(prefix: &str) -> String {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
            end.push(next);
            return end.into_iter().collect();
        }
    }
    // The empty prefix: after every version, which are ASCII.
    char::MAX.to_string()
}

fn row(row: &rusqlite::Row<'_>) -> Result<Row> {
    let mut row = InOrder::of(row);
    Ok(Row {
        key: RowKey {
            version: row.version()?,
            slot: Slot::from_column(row.text()?),
        },
        born: row.count()?,
        facts: if row.plain()? {
            Some(facts(&mut row)?)
        } else {
            row.skip(FACTS);
            None
        },
        rebuild: match row.plain::<Option<String>>()? {
            Some(id) => Some(rebuild(RebuildId::new(id), row)?),
            None => None,
        },
    })
}

fn facts(row: &mut InOrder<'_, '_>) -> Result<Facts> {
    Ok(Facts {
        noticed: row.plain()?,
        notice: row.plain::<Option<String>>()?.map(ChangeId::new),
        digest: row.plain::<Option<String>>()?.map(Digest::new),
        tag: row.plain()?,
        origin: row.maybe_version()?,
        previous: row.maybe_version()?,
        tarball_of: row.maybe_version()?,
        stamp: row.plain()?,
        dropped: row.maybe_json()?,
        took_place: row.json()?,
        with: row.maybe_json()?,
        attach: row.maybe_json()?,
        attach_stamp: row.plain()?,
    })
}

fn rebuild(id: RebuildId, mut row: InOrder<'_, '_>) -> Result<Rebuild> {
    Ok(Rebuild {
        id,
        state: rebuild_state(row.text()?)?,
        generation: row.count()?,
        waves: row.json()?,
        change: ChangeId::new(row.text()?),
        decision: row.json()?,
        order: row.count()?,
        base: row.version()?,
        origin: row.version()?,
        tarball_of: row.version()?,
        cause: row.json()?,
        with: row.json()?,
        promote: row.plain()?,
        attempt: row.count()?,
        tries: row.count()?,
        owner: row.plain()?,
        due: row.plain()?,
        ended_because: row.plain()?,
        confirmed_by: row.plain::<Option<String>>()?.map(ChangeId::new),
    })
}

pub(super) fn rebuild_state(text: &str) -> Result<RebuildState> {
    RebuildState::from_column(text)
        .ok_or_else(|| bug(format!("a stored rebuild is in state {text:?}")))
}

/// The count of the package's batches; 0 if it is unknown.
pub(super) fn seq(db: &Connection, name: &PackageName) -> Result<u64> {
    Ok(one(db, SEQ, [name.as_str()], |row| row.count("seq"))?.unwrap_or_default())
}

pub(super) fn published(db: &Connection, name: &PackageName) -> Result<Vec<Published>> {
    all(db, PUBLISHED, [name.as_str()], |row| {
        Ok(Published {
            version: row.version("version")?,
            origin: row.maybe_version("origin")?,
            tag: row.plain("tag")?,
        })
    })
}

pub(super) fn first_queued(
    db: &Connection,
    name: &PackageName,
    slot: &Slot,
) -> Result<Option<u64>> {
    one(db, FIRST_QUEUED, [name.as_str(), slot.as_str()], |row| {
        row.count("place")
    })
}

pub(super) fn names(
    db: &Connection,
    after: Option<&PackageName>,
    count: usize,
) -> Result<Vec<PackageName>> {
    let after = after.map_or("", PackageName::as_str);
    all(db, NAMES, params![after, limit(count)], |row| {
        row.name("name")
    })
}

/// In the order in which the table has them, which is one walk through it.
pub(super) fn tops(
    db: &Connection,
    cursor: Option<&str>,
    count: usize,
) -> Result<(Tops, Option<String>)> {
    let start: i64 = match cursor {
        None => i64::MIN,
        Some(cursor) => cursor
            .parse()
            .map_err(|_| bug(format!("{cursor:?} is no cursor of highest versions")))?,
    };
    let count = count.max(1);
    let mut page = Tops::default();
    let mut last = start;
    let mut statement = db.prepare_cached(TOPS)?;
    let mut rows = statement.query(params![start, limit(count)])?;
    while let Some(row) = rows.next()? {
        let mut row = InOrder::of(row);
        last = row.plain()?;
        let (name, version, origin) = (row.text()?, row.text()?, row.maybe_text()?);
        page.push(name, version, origin, row.text()?)
            .map_err(|error| bug(format!("the edges of {name} are unreadable: {error}")))?;
    }
    let next = (page.len() >= count).then(|| last.to_string());
    Ok((page, next))
}

pub(super) fn put_manifest(
    db: &Connection,
    name: &PackageName,
    version: &Version,
    digest: &Digest,
    json: &[u8],
) -> Result<()> {
    run(
        db,
        PUT_MANIFEST,
        params![name.as_str(), version.to_string(), digest.as_str(), json],
    )?;
    Ok(())
}

pub(super) fn manifest(
    db: &Connection,
    name: &PackageName,
    version: &Version,
    digest: &Digest,
) -> Result<Option<Vec<u8>>> {
    one(
        db,
        MANIFEST,
        params![name.as_str(), version.to_string(), digest.as_str()],
        |row| row.plain("json"),
    )
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn the_end_of_a_prefix_is_after_all_that_begin_with_it_and_before_the_rest() {
        assert_eq!(after("5.0.1-"), "5.0.1.");
        assert_eq!(after("1\u{D7FF}"), "1\u{E000}");
        assert_eq!(after("1\u{10FFFF}"), "2");
        assert!(after("").as_str() > "9.9.9-z");
    }
}
