//! Every statement, prepared once, as a field. Nothing is put together at run time, so the list below is all that ever
//! reaches the cluster: no ALLOW FILTERING, no secondary index, no statement over several partitions.

use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use scylla::statement::{Consistency, SerialConsistency};

use super::error::of_prepare;
use super::session::Profiles;
use crate::store::Result;

/// The rows of one page.
const PAGE: i32 = 2_000;

macro_rules! statements {
    ($( $(#[$doc:meta])* $kind:ident $name:ident = $cql:expr; )*) => {
        /// See the module.
        pub(super) struct Statements {
            $( $(#[$doc])* pub(super) $name: PreparedStatement, )*
        }

        impl Statements {
            /// Prepares all of them.
            pub(super) async fn prepare(
                session: &Session,
                profiles: &Profiles,
                keyspace: &str,
            ) -> Result<Box<Self>> {
                Ok(Box::new(Self {
                    $( $name: $kind(session, profiles, &qualified(keyspace, $cql)).await?, )*
                }))
            }
        }

        /// All texts, for the tests.
        #[cfg(test)]
        const ALL: &[&str] = &[$($cql),*];
    };
}

/// Puts the keyspace before the tables: statements do not depend on what a connection uses.
pub(super) fn qualified(keyspace: &str, cql: &str) -> String {
    let mut text = cql.to_owned();
    for before in [
        "FROM ",
        "INTO ",
        "UPDATE ",
        "CREATE TABLE IF NOT EXISTS ",
        "ALTER TABLE ",
    ] {
        let mut parts = text.split(before);
        let mut with = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            with.push_str(before);
            let table: &str = part.split([' ', '(']).next().unwrap_or_default();
            if !table.contains('.') {
                with.push_str(keyspace);
                with.push('.');
            }
            with.push_str(part);
        }
        text = with;
    }
    text
}

async fn prepared(session: &Session, cql: &str) -> Result<PreparedStatement> {
    let mut statement = Statement::new(cql);
    statement.set_page_size(PAGE);
    session
        .prepare(statement)
        .await
        .map_err(|error| of_prepare(cql, &error))
}

async fn read(session: &Session, profiles: &Profiles, cql: &str) -> Result<PreparedStatement> {
    let mut statement = prepared(session, cql).await?;
    statement.set_is_idempotent(true);
    statement.set_execution_profile_handle(Some(profiles.read.clone().into_handle()));
    Ok(statement)
}

/// A read that finishes what conditional writes have begun (H9).
async fn serial(session: &Session, profiles: &Profiles, cql: &str) -> Result<PreparedStatement> {
    let mut statement = read(session, profiles, cql).await?;
    statement.set_consistency(Consistency::LocalSerial);
    statement.set_execution_profile_handle(Some(profiles.write.clone().into_handle()));
    Ok(statement)
}

async fn write(session: &Session, profiles: &Profiles, cql: &str) -> Result<PreparedStatement> {
    let mut statement = prepared(session, cql).await?;
    statement.set_is_idempotent(true);
    statement.set_execution_profile_handle(Some(profiles.write.clone().into_handle()));
    Ok(statement)
}

/// A conditional write, or a part of one.
async fn decide(session: &Session, profiles: &Profiles, cql: &str) -> Result<PreparedStatement> {
    let mut statement = prepared(session, cql).await?;
    statement.set_is_idempotent(false);
    statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    statement.set_execution_profile_handle(Some(profiles.decide.clone().into_handle()));
    Ok(statement)
}

const STATICS: &str = "SELECT seq, stamp, head_version, head_born, dependent_of, top_version, top_origin, open \
    FROM pkg WHERE name = ? LIMIT 1";
const ROWS: &str = "SELECT a, b, part, seq, stamp, head_version, head_born, dependent_of, top_version, top_origin, open, \
    version, born, published, noticed, notice, digest, tag, origin, previous, tarball_of, stamped, dropped, took_place, \
    built_with, attach, attach_stamp, rebuild, state, generation, waves, change, decision, place, base, base_origin, \
    base_tarball_of, cause, rebuild_with, promote, attempt, tries, owner, due, ended_because, confirmed_by \
    FROM pkg WHERE name = ? AND (part, a, b) IN ?";
const PREFIX: &str = "SELECT a, b, part, seq, born, published, noticed, notice, digest, tag, origin, previous, tarball_of, \
    stamped, dropped, took_place, built_with, attach, attach_stamp, rebuild, state, generation, waves, change, decision, \
    place, base, base_origin, base_tarball_of, cause, rebuild_with, promote, attempt, tries, owner, due, ended_because, \
    confirmed_by FROM pkg WHERE name = ? AND part = 0 AND a >= ? AND a < ?";
const TAKEN: &str = "SELECT a, b, seq FROM pkg WHERE name = ? AND part = 0 AND a >= ? AND a < ?";
const TOP_EDGES: &str = "SELECT seq, top_edges FROM pkg WHERE name = ? LIMIT 1";
const BATCH: &str = "SELECT seq, batches[?] AS batch_of FROM pkg WHERE name = ? LIMIT 1";
const WAVE: &str = "SELECT id, made_by, moves, env, kind, start, change, promote, opened, state, since, plan, nodes, \
    pending_on FROM wave WHERE id = ?";
const ROW_BATCH: &str = "SELECT made_by, born, rebuild, state, attempt FROM pkg \
    WHERE name = ? AND part = 0 AND a = ? AND b = ?";

statements! {
    // ---- a package's partition
    read statics = STATICS;
    read rows = ROWS;
    serial rows_serial = ROWS;
    read prefix = PREFIX;
    serial prefix_serial = PREFIX;
    read taken = TAKEN;
    read top_edges = TOP_EDGES;
    serial top_edges_serial = TOP_EDGES;
    read seq = "SELECT seq FROM pkg WHERE name = ? LIMIT 1";
    read published = "SELECT a, b, seq, published, origin, tag FROM pkg WHERE name = ? AND part = 0";
    read unended = "SELECT unended FROM pkg WHERE name = ? LIMIT 1";
    read row_states = "SELECT a, b, state, place FROM pkg WHERE name = ? AND (part, a, b) IN ?";
    serial row_place = "SELECT place, rebuild FROM pkg WHERE name = ? AND part = 0 AND a = ? AND b = ?";
    read row_born = "SELECT born FROM pkg WHERE name = ? AND part = 0 AND a = ? AND b = ?";
    /// Which batch made a seq, and what the seq is by now.
    serial batch = BATCH;
    serial row_batch = ROW_BATCH;
    decide set_statics = "UPDATE pkg SET seq = ?, batches[?] = ?, stamp = ?, head_version = ?, head_born = ?, \
        dependent_of = ?, top_version = ?, top_origin = ?, top_edges = ?, open = open + ? WHERE name = ? IF seq = ?";
    decide close = "DELETE open[?] FROM pkg WHERE name = ?";
    decide unend = "UPDATE pkg SET unended[?] = ? WHERE name = ?";
    decide end = "DELETE unended[?] FROM pkg WHERE name = ?";
    decide anchor = "INSERT INTO pkg (name, part, a, b, born) VALUES (?, -1, '', '', 0)";
    decide summary = "INSERT INTO pkg (name, part, a, b, version) VALUES (?, ?, ?, ?, ?)";
    decide row_absent = "INSERT INTO pkg (name, part, a, b, born, made_by) VALUES (?, 0, ?, ?, ?, ?) IF NOT EXISTS";
    decide row_there = "UPDATE pkg SET made_by = ? WHERE name = ? AND part = 0 AND a = ? AND b = ? IF born != NULL";
    decide row_no_rebuild = "UPDATE pkg SET made_by = ? WHERE name = ? AND part = 0 AND a = ? AND b = ? \
        IF born != NULL AND rebuild = NULL";
    decide row_rebuild = "UPDATE pkg SET made_by = ? WHERE name = ? AND part = 0 AND a = ? AND b = ? \
        IF rebuild = ? AND state = ? AND attempt = ?";
    decide set_facts = "UPDATE pkg SET published = true, noticed = ?, notice = ?, digest = ?, tag = ?, origin = ?, \
        previous = ?, tarball_of = ?, stamped = ?, dropped = ?, took_place = ?, built_with = ?, attach = ?, \
        attach_stamp = ? WHERE name = ? AND part = 0 AND a = ? AND b = ?";
    decide set_rebuild = "UPDATE pkg SET rebuild = ?, state = ?, generation = ?, waves = ?, change = ?, decision = ?, \
        place = ?, base = ?, base_origin = ?, base_tarball_of = ?, cause = ?, rebuild_with = ?, promote = ?, \
        attempt = ?, tries = ?, owner = ?, due = ?, ended_because = ?, confirmed_by = ? \
        WHERE name = ? AND part = 0 AND a = ? AND b = ?";
    decide patch_rebuild = "UPDATE pkg SET state = ?, attempt = ?, tries = ?, owner = ?, due = ?, waves = waves + ?, \
        ended_because = ?, confirmed_by = ? WHERE name = ? AND part = 0 AND a = ? AND b = ?";

    write put_name = "INSERT INTO pkg_name (bucket, name) VALUES (?, ?)";
    read names = "SELECT name FROM pkg_name WHERE bucket = ? AND name > ? LIMIT ?";
    /// In the order of the ring: the one statement that goes over all partitions, for those who keep it all in memory.
    read tops = "SELECT DISTINCT name, token(name) AS place, top_version, top_origin, top_edges FROM pkg \
        WHERE token(name) > ? LIMIT ?";
    write put_manifest = "INSERT INTO manifest (name, version, digest, json) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    read manifest = "SELECT json FROM manifest WHERE name = ? AND version = ? AND digest = ?";

    // ---- changes
    write put_document = "INSERT INTO document (change, digest, json) VALUES (?, ?, ?) USING TTL ? AND TIMESTAMP ?";
    read document = "SELECT json FROM document WHERE change = ? AND digest = ?";
    write put_change = "INSERT INTO change (id, kind, env, name, version, tag, promote, digest, idempotency_key, accepted, \
        planned) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?";
    read change = "SELECT id, kind, env, name, version, tag, promote, digest, idempotency_key, accepted, planned \
        FROM change WHERE id = ?";
    write put_change_of_day = "INSERT INTO change_by_day (day, bucket, accepted, id) VALUES (?, ?, ?, ?) USING TTL ?";
    read changes_of_day = "SELECT accepted, id FROM change_by_day WHERE day = ? AND bucket = ? \
        AND (accepted, id) < (?, ?) LIMIT ?";
    write put_day = "INSERT INTO change_day (one, day) VALUES (1, ?) USING TTL ?";
    read days = "SELECT day FROM change_day WHERE one = 1 AND day <= ?";
    write set_planned = "UPDATE change USING TTL ? AND TIMESTAMP ? SET planned = ? WHERE id = ?";
    write put_decision = "INSERT INTO decision (change, bucket, wave, dependent, version, json) \
        VALUES (?, ?, ?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?";
    read decisions = "SELECT wave, dependent, version, json FROM decision WHERE change = ? AND bucket = ? LIMIT ?";

    // ---- projections
    write put_dependent = "INSERT INTO dependents (parent, dependent, top, \"range\") VALUES (?, ?, ?, ?) \
        USING TIMESTAMP ?";
    read dependents = "SELECT dependent, top, \"range\" FROM dependents WHERE parent = ? AND dependent > ? LIMIT ?";
    read dependent = "SELECT dependent, top, \"range\" FROM dependents WHERE parent = ? AND dependent = ?";
    write put_range = "INSERT INTO dependents_old (parent, dependent, range_key, \"range\", version) \
        VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
    read ranges = "SELECT \"range\", version FROM dependents_old WHERE parent = ? AND dependent = ?";
    write put_line = "INSERT INTO release_line (pkg, version, previous_version) VALUES (?, ?, ?) USING TIMESTAMP ?";
    write put_line_of = "INSERT INTO line_of_pkg (pkg, version, previous) VALUES (?, ?, ?) USING TIMESTAMP ?";
    read line = "SELECT pkg, version, previous_version FROM release_line WHERE pkg = ? AND version = ?";
    read lines = "SELECT pkg, version, previous FROM line_of_pkg WHERE pkg = ?";
    write put_head = "INSERT INTO release_line_head (pkg, version, previous_version) VALUES (?, ?, ?) USING TIMESTAMP ?";
    read head = "SELECT pkg, version, previous_version FROM release_line_head WHERE pkg = ?";
    write put_line_dependent = "INSERT INTO release_line_dep (pkg, version, dependent, dependent_version) \
        VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    read line_dependents = "SELECT dependent, dependent_version FROM release_line_dep \
        WHERE pkg = ? AND version = ? AND dependent > ? LIMIT ?";
    write put_dependent_of = "INSERT INTO dependent_of (pkg, dependent_of) VALUES (?, ?) USING TIMESTAMP ?";

    // ---- waves and promotions
    write put_node = "INSERT INTO wave_node (wave, bucket, package, version, added, released, published, failed, late, \
        held, skipped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?";
    read node = "SELECT added, released, published, failed, late, held, skipped FROM wave_node \
        WHERE wave = ? AND bucket = ? AND package = ? AND version = ?";
    read nodes = "SELECT package, version, added, released, published, failed, late, held, skipped FROM wave_node \
        WHERE wave = ? AND bucket = ? AND (package, version) > (?, ?) LIMIT ?";
    decide open_wave = "INSERT INTO wave (id, made_by, env, kind, start, change, promote, opened, state, since, plan, \
        nodes, pending_on) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?";
    decide move_wave = "UPDATE wave USING TTL ? SET state = ?, since = ?, plan = ?, nodes = ?, moves[?] = ? \
        WHERE id = ? IF state = ?";
    read wave = WAVE;
    serial wave_serial = WAVE;
    write put_wave_of_day = "INSERT INTO wave_by_day (day, bucket, opened, id) VALUES (?, ?, ?, ?) USING TTL ?";
    read waves_of_day = "SELECT opened AS accepted, id FROM wave_by_day WHERE day = ? AND bucket = ? \
        AND (opened, id) < (?, ?) LIMIT ?";
    write put_plan_node = "INSERT INTO wave_plan (wave, plan, bucket, package, json) VALUES (?, ?, ?, ?, ?) \
        USING TTL ? AND TIMESTAMP ?";
    read plan_node = "SELECT json FROM wave_plan WHERE wave = ? AND plan = ? AND bucket = ? AND package = ?";
    read plan_page = "SELECT package, json FROM wave_plan WHERE wave = ? AND plan = ? AND bucket = ? AND package > ? \
        LIMIT ?";
    write put_member = "INSERT INTO wave_member (wave, change, cause) VALUES (?, ?, ?) USING TTL ? AND TIMESTAMP ?";
    read members = "SELECT change, cause FROM wave_member WHERE wave = ?";
    decide first_collecting = "INSERT INTO collecting (env, wave, before, made_by) VALUES (?, ?, ?, ?) IF NOT EXISTS";
    decide next_collecting = "UPDATE collecting SET wave = ?, before = ?, made_by = ? WHERE env = ? IF wave = ?";
    serial collecting = "SELECT wave, before, made_by FROM collecting WHERE env = ?";
    write put_hold = "INSERT INTO hold (package, id, parent, owner, reason, placed, expires, ended) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    write end_hold = "UPDATE hold USING TIMESTAMP ? SET ended = ? WHERE package = ? AND id = ?";
    read holds = "SELECT package, id, parent, owner, reason, placed, expires, ended FROM hold WHERE package = ?";
    write put_hold_pkg = "INSERT INTO hold_pkg (bucket, package) VALUES (?, ?)";
    read hold_pkgs = "SELECT package FROM hold_pkg WHERE bucket = ? AND package >= ? LIMIT ?";
    write put_outcome = "INSERT INTO outcome (name, version, env, at, digest, ok, message) \
        VALUES (?, ?, ?, ?, ?, ?, ?) USING TTL ?";
    read outcomes = "SELECT at, ok, message FROM outcome WHERE name = ? AND version = ? AND env = ?";
    decide promote = "UPDATE promotion SET latest = ? WHERE name = ? AND env = ? IF latest = ?";
    decide promotion_row = "INSERT INTO promotion (name, env, generation, version, promote, change, at) \
        VALUES (?, ?, ?, ?, ?, ?, ?)";
    read promotions = "SELECT generation, version, promote, change, at FROM promotion \
        WHERE name = ? AND env = ? LIMIT ?";
    serial promotions_serial = "SELECT latest, generation, version, promote, change, at FROM promotion \
        WHERE name = ? AND env = ? LIMIT 50";
    write put_entry = "INSERT INTO promotion_entry (name, version, env, generation, dependent, dependent_version) \
        VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    read entries = "SELECT dependent, dependent_version FROM promotion_entry WHERE name = ? AND version = ? AND env = ?";

    // ---- rebuilds and work
    write put_rebuild = "INSERT INTO rebuild (id, name, version, slot, generation, change, decided) \
        VALUES (?, ?, ?, ?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?";
    read rebuild = "SELECT id, name, version, slot, generation, change, decided FROM rebuild WHERE id = ?";
    write put_attempt = "INSERT INTO attempt (rebuild, number, started, ended, owner, outcome, neighbour, \
        may_have_reached, status, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?";
    read attempts = "SELECT number, started, ended, owner, outcome, neighbour, may_have_reached, status, message \
        FROM attempt WHERE rebuild = ?";
    write put_work = "INSERT INTO work (shard, bucket, id, put, package, due, job) VALUES (?, ?, ?, ?, ?, ?, ?) \
        USING TTL ?";
    write finish_work = "UPDATE work USING TTL ? SET done = true \
        WHERE shard = ? AND bucket = ? AND id = ? AND put = ?";
    read work = "SELECT id, put, package, due, job, done FROM work WHERE shard = ? AND bucket = ?";
    write put_bucket = "INSERT INTO work_bucket (shard, bucket) VALUES (?, ?) USING TTL ?";
    read buckets = "SELECT bucket FROM work_bucket WHERE shard = ? AND bucket >= ?";
    read low = "SELECT low FROM work_shard WHERE shard = ?";
    serial low_serial = "SELECT low FROM work_shard WHERE shard = ?";
    decide first_low = "INSERT INTO work_shard (shard, low) VALUES (?, ?) IF NOT EXISTS";
    decide raise_low = "UPDATE work_shard SET low = ? WHERE shard = ? IF low = ?";
    write beat = "INSERT INTO replica (one, id, beat, address) VALUES (1, ?, ?, ?) USING TTL ?";
    write leave = "DELETE FROM replica WHERE one = 1 AND id = ?";
    read replicas = "SELECT id, beat, address FROM replica WHERE one = 1";
    write probe = "INSERT INTO probe (one, at) VALUES (1, ?)";
    read probed = "SELECT at FROM probe WHERE one = 1";
}

#[cfg(test)]
mod tests {
    use super::{ALL, qualified};

    #[test]
    fn tables_are_named_with_their_keyspace() {
        for (plain, with) in [
            (
                "SELECT a FROM t WHERE b = ?",
                "SELECT a FROM k.t WHERE b = ?",
            ),
            (
                "INSERT INTO t (a) VALUES (?)",
                "INSERT INTO k.t (a) VALUES (?)",
            ),
            ("UPDATE t SET a = ?", "UPDATE k.t SET a = ?"),
            (
                "CREATE TABLE IF NOT EXISTS t (",
                "CREATE TABLE IF NOT EXISTS k.t (",
            ),
            (
                "ALTER TABLE t ADD IF NOT EXISTS (",
                "ALTER TABLE k.t ADD IF NOT EXISTS (",
            ),
            ("SELECT a FROM system.local", "SELECT a FROM system.local"),
        ] {
            assert_eq!(qualified("k", plain), with);
        }
        for cql in ALL {
            assert_eq!(qualified("k", cql).matches(" k.").count(), 1, "{cql}");
        }
    }

    #[test]
    fn nothing_filters_and_conditions_never_run_over_partitions() {
        for cql in ALL {
            let upper = cql.to_ascii_uppercase();
            assert!(!upper.contains("ALLOW FILTERING"), "{cql}");
            // One scan of everything, which reads statics alone.
            let scans = upper.contains("TOKEN(");
            assert_eq!(scans, cql.starts_with("SELECT DISTINCT name, token(name)"));
            let conditional = upper.contains(" IF ");
            assert!(!(conditional && upper.contains("USING TIMESTAMP")), "{cql}");
            // H8: only where one package, promotion, wave or shard is decided about.
            let table = qualified("k", cql);
            let table = table.split(" k.").nth(1).unwrap_or_default();
            let table = table.split([' ', '(']).next().unwrap_or_default();
            assert!(
                !conditional
                    || ["pkg", "promotion", "wave", "collecting", "work_shard"].contains(&table),
                "{cql}"
            );
            if upper.starts_with("SELECT") {
                assert!(upper.contains(" WHERE "), "{cql}");
            }
        }
    }
}
