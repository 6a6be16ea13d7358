//! What a partition is after a batch, without reading it again.
//!
//! A batch that was applied under a `seq` found the partition as it was read, so what it made of it is known. This saves a
//! read after each decision. Whatever is decided on the result is conditional on the new `seq` or on a rebuild's own
//! state, exactly as if it had been read.

use crate::model::package::{PackageState, Rebuild, Row};
use crate::store::{PackageCommit, RebuildPatch, RowWrite};

/// The partition after `commit`, which was decided on `state` and applied. What `state` was asked for must hold all that
/// the batch is about: every row that it writes, `open` in full if it closes reservations, and what the highest version
/// declares if it keeps that one. `taken` stays as it was read, rows of reservations that were closed stay too.
pub fn applied(mut state: PackageState, commit: &PackageCommit) -> PackageState {
    let PackageCommit {
        name: _,
        expect_seq,
        statics,
        rows,
        edges,
        attached,
    } = commit;
    if let Some(seq) = expect_seq {
        state.seq = seq + 1;
    }
    if let Some(stamp) = statics.stamp {
        state.stamp = stamp;
    }
    if let Some(head) = &statics.head {
        state.head = Some(head.clone());
    }
    if let Some(top) = &statics.top {
        state.top = Some(top.clone());
    }
    if let Some(parent) = &statics.dependent_of {
        state.dependent_of.clone_from(parent);
    }
    for wave in &statics.close {
        state.open.remove(wave);
    }
    let opened = statics.open.iter();
    state
        .open
        .extend(opened.map(|(wave, version)| (wave.clone(), version.clone())));
    for write in rows {
        put(&mut state.rows, write);
    }
    for (parent, range, version) in edges {
        let key = (parent.clone(), range.clone());
        state.edges.insert(key, version.clone());
    }
    for (parent, line, version) in attached {
        let key = (parent.clone(), line.clone());
        state.attached.insert(key, version.clone());
    }
    state
}

fn put(rows: &mut Vec<Row>, write: &RowWrite) {
    let RowWrite {
        key,
        expect: _,
        born,
        facts,
        rebuild,
        patch,
    } = write;
    let at = rows
        .iter()
        .position(|row| row.key == *key)
        .unwrap_or_else(|| {
            rows.push(Row {
                key: key.clone(),
                born: *born,
                facts: None,
                rebuild: None,
            });
            rows.len() - 1
        });
    let row = &mut rows[at];
    if let Some(facts) = facts {
        row.facts = Some(facts.clone());
    }
    if let Some(rebuild) = rebuild {
        row.rebuild = Some(rebuild.clone());
    }
    if let (Some(patch), Some(rebuild)) = (patch, &mut row.rebuild) {
        change(rebuild, patch);
    }
}

fn change(rebuild: &mut Rebuild, patch: &RebuildPatch) {
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
    rebuild.state = state.unwrap_or(rebuild.state);
    rebuild.attempt = attempt.unwrap_or(rebuild.attempt);
    rebuild.tries = tries.unwrap_or(rebuild.tries);
    rebuild.due = due.unwrap_or(rebuild.due);
    if owner.is_some() {
        rebuild.owner.clone_from(owner);
    }
    rebuild.waves.extend(join.iter().cloned());
    if ended_because.is_some() {
        rebuild.ended_because.clone_from(ended_because);
    }
    if confirmed_by.is_some() {
        rebuild.confirmed_by.clone_from(confirmed_by);
    }
}
