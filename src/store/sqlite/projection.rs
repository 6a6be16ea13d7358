//! Projections: what a package's batch decided, kept where others look for it (H19).
//!
//! Each row keeps the stamp of the batch that it comes from. A repeated or late write of an older batch finds a higher
//! stamp and changes nothing.

use rusqlite::{Connection, Row, params};

use super::statement::{Columns, all, limit, one, run, statements, text};
use crate::model::name::PackageName;
use crate::model::package::Stamp;
use crate::semver::Version;
use crate::store::{Dependent, Line, Projection, Result};

statements! {
    PUT_DEPENDENT = "INSERT INTO dependents (parent, dependent, top, range, stamp) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT DO UPDATE SET top = excluded.top, range = excluded.range, stamp = excluded.stamp
        WHERE excluded.stamp >= stamp";
    PUT_RANGE = "INSERT INTO dependents_old (parent, dependent, range, version, stamp) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT DO UPDATE SET version = excluded.version, stamp = excluded.stamp WHERE excluded.stamp >= stamp";
    PUT_LINE = "INSERT INTO release_line (pkg, version, previous_version, stamp) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET previous_version = excluded.previous_version, stamp = excluded.stamp
        WHERE excluded.stamp >= stamp";
    PUT_HEAD = "INSERT INTO release_line_head (pkg, version, previous_version, stamp) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET version = excluded.version, previous_version = excluded.previous_version,
        stamp = excluded.stamp WHERE excluded.stamp >= stamp";
    PUT_LINE_DEPENDENT = "INSERT INTO release_line_dep (pkg, version, dependent, dependent_version, stamp)
        VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT DO UPDATE SET dependent_version = excluded.dependent_version, stamp = excluded.stamp
        WHERE excluded.stamp >= stamp";
    PUT_DEPENDENT_OF = "INSERT INTO dependent_of (pkg, dependent_of, stamp) VALUES (?1, ?2, ?3)
        ON CONFLICT DO UPDATE SET dependent_of = excluded.dependent_of, stamp = excluded.stamp
        WHERE excluded.stamp >= stamp";
    DEPENDENTS = "SELECT dependent, top, range FROM dependents WHERE parent = ?1 AND dependent > ?2
        ORDER BY dependent LIMIT ?3";
    DEPENDENT = "SELECT dependent, top, range FROM dependents WHERE parent = ?1 AND dependent = ?2";
    RANGES = "SELECT range, version FROM dependents_old WHERE parent = ?1 AND dependent = ?2";
    HEAD = "SELECT pkg, version, previous_version FROM release_line_head WHERE pkg = ?1";
    LINE = "SELECT pkg, version, previous_version FROM release_line WHERE pkg = ?1 AND version = ?2";
    LINES = "SELECT pkg, version, previous_version FROM release_line WHERE pkg = ?1";
    LINE_DEPENDENTS = "SELECT dependent, dependent_version FROM release_line_dep
        WHERE pkg = ?1 AND version = ?2 AND dependent > ?3 ORDER BY dependent LIMIT ?4";
}

pub(super) fn put(db: &Connection, stamp: Stamp, projection: &Projection) -> Result<()> {
    match projection {
        Projection::Dependent {
            parent,
            row:
                Dependent {
                    dependent,
                    top,
                    range,
                },
        } => run(
            db,
            PUT_DEPENDENT,
            params![
                parent.as_str(),
                dependent.as_str(),
                top.to_string(),
                range,
                stamp
            ],
        ),
        Projection::Range {
            parent,
            dependent,
            range,
            version,
        } => run(
            db,
            PUT_RANGE,
            params![
                parent.as_str(),
                dependent.as_str(),
                range,
                version.to_string(),
                stamp
            ],
        ),
        Projection::Line(line) => put_line(db, PUT_LINE, stamp, line),
        Projection::Head(line) => put_line(db, PUT_HEAD, stamp, line),
        Projection::LineDependent {
            package,
            version,
            dependent,
            dependent_version,
        } => run(
            db,
            PUT_LINE_DEPENDENT,
            params![
                package.as_str(),
                version.to_string(),
                dependent.as_str(),
                dependent_version.to_string(),
                stamp
            ],
        ),
        Projection::DependentOf { package, parent } => run(
            db,
            PUT_DEPENDENT_OF,
            params![
                package.as_str(),
                parent.as_ref().map(PackageName::as_str),
                stamp
            ],
        ),
    }
    .map(drop)
}

fn put_line(db: &Connection, sql: &str, stamp: Stamp, line: &Line) -> Result<usize> {
    let Line {
        package,
        version,
        previous,
    } = line;
    run(
        db,
        sql,
        params![
            package.as_str(),
            version.to_string(),
            text(previous.as_ref()),
            stamp
        ],
    )
}

pub(super) fn dependents(
    db: &Connection,
    parent: &PackageName,
    after: Option<&PackageName>,
    count: usize,
) -> Result<Vec<Dependent>> {
    let after = after.map_or("", PackageName::as_str);
    all(
        db,
        DEPENDENTS,
        params![parent.as_str(), after, limit(count)],
        read_dependent,
    )
}

pub(super) fn dependent(
    db: &Connection,
    parent: &PackageName,
    dependent: &PackageName,
) -> Result<Option<Dependent>> {
    one(
        db,
        DEPENDENT,
        [parent.as_str(), dependent.as_str()],
        read_dependent,
    )
}

fn read_dependent(row: &Row<'_>) -> Result<Dependent> {
    Ok(Dependent {
        dependent: row.name("dependent")?,
        top: row.version("top")?,
        range: row.plain("range")?,
    })
}

pub(super) fn ranges(
    db: &Connection,
    parent: &PackageName,
    dependent: &PackageName,
) -> Result<Vec<(String, Version)>> {
    all(db, RANGES, [parent.as_str(), dependent.as_str()], |row| {
        Ok((row.plain("range")?, row.version("version")?))
    })
}

fn read_line(row: &Row<'_>) -> Result<Line> {
    Ok(Line {
        package: row.name("pkg")?,
        version: row.version("version")?,
        previous: row.maybe_version("previous_version")?,
    })
}

pub(super) fn head(db: &Connection, package: &PackageName) -> Result<Option<Line>> {
    one(db, HEAD, [package.as_str()], read_line)
}

pub(super) fn line(
    db: &Connection,
    package: &PackageName,
    version: &Version,
) -> Result<Option<Line>> {
    one(
        db,
        LINE,
        params![package.as_str(), version.to_string()],
        read_line,
    )
}

pub(super) fn lines(db: &Connection, package: &PackageName) -> Result<Vec<Line>> {
    all(db, LINES, [package.as_str()], read_line)
}

pub(super) fn line_dependents(
    db: &Connection,
    package: &PackageName,
    version: &Version,
    after: Option<&PackageName>,
    count: usize,
) -> Result<Vec<(PackageName, Version)>> {
    let after = after.map_or("", PackageName::as_str);
    all(
        db,
        LINE_DEPENDENTS,
        params![package.as_str(), version.to_string(), after, limit(count)],
        |row| Ok((row.name("dependent")?, row.version("dependent_version")?)),
    )
}
