//! Reading a package's partition.
//!
//! What is read has to be consistent with `seq`. One statement is: a partition's row of statics and its other rows change
//! together on each node. Two statements need not be, since different nodes may answer them; so every statement brings
//! the `seq` that it saw, and one that saw less than the first, or nothing at all, is asked again at `LOCAL_SERIAL`, which
//! finishes what is under way (H9). One that saw more does no harm: the batch decided on it is refused.

use std::collections::{BTreeMap, BTreeSet};

use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;

use super::error::bug;
use super::values::{Cells, Value, parse_version, set, text, version as version_value};
use super::{CassandraStore, Inner};
use crate::model::edge::Edge;
use crate::model::id::{ChangeId, Digest, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{
    Facts, Head, PackageState, Rebuild, RebuildState, Row, RowKey, Slot, Top,
};
use crate::semver::Version;
use crate::store::{Published, Result, Want, WantOpen};

/// The parts of a partition (cql/0001).
pub(super) const ANCHOR: i8 = -1;
pub(super) const VERSION: i8 = 0;
pub(super) const EDGE: i8 = 1;
pub(super) const ATTACHED: i8 = 2;

/// The keys of one statement.
const KEYS: usize = 100;

/// A range of an edge as a key: Cassandra's keys end at 64 KB, manifests do not.
pub(super) fn range_key(range: &str) -> String {
    if range.len() <= 512 {
        range.to_owned()
    } else {
        format!("sha256:{}", Digest::of(range.as_bytes()).as_str())
    }
}

type Key = (i8, String, String);

fn row_key(key: &RowKey) -> Key {
    (
        VERSION,
        key.version.to_string(),
        key.slot.as_str().to_owned(),
    )
}

pub(super) fn keys(keys: &[Key]) -> Value {
    let tuple = |(part, a, b): &Key| {
        CqlValue::Tuple(vec![
            Some(CqlValue::TinyInt(*part)),
            Some(CqlValue::Text(a.clone())),
            Some(CqlValue::Text(b.clone())),
        ])
    };
    set(CqlValue::List(keys.iter().map(tuple).collect()))
}

/// The count of batches that a row of a result saw.
fn seq_of(cells: &Cells) -> Result<u64> {
    Ok(if cells.has("seq")? {
        cells.number("seq")?
    } else {
        0
    })
}

/// The part of a wave's reservation.
fn reservation(value: &CqlValue) -> Result<Version> {
    match value {
        CqlValue::Text(text) => parse_version(text),
        other => Err(bug(format!("open holds {other:?}"))),
    }
}

impl Inner {
    /// What is wanted of one partition.
    pub(super) async fn state(&self, want: &Want) -> Result<PackageState> {
        let name = &want.name;
        let mut state = PackageState {
            name: name.clone(),
            seq: 0,
            stamp: 0,
            head: None,
            top: None,
            dependent_of: None,
            open: BTreeMap::new(),
            rows: Vec::new(),
            taken: BTreeSet::new(),
            edges: BTreeMap::new(),
            attached: BTreeMap::new(),
        };
        let asked = asked(want);
        let mut found: BTreeMap<Key, Cells> = BTreeMap::new();
        let mut open = BTreeMap::new();
        for (at, slice) in slices(&asked).enumerate() {
            let rows = if at == 0 {
                self.all(
                    &self.statements.rows,
                    vec![text(name.as_str()), keys(&slice)],
                )
                .await?
            } else {
                self.at_least(
                    state.seq,
                    [&self.statements.rows, &self.statements.rows_serial],
                    vec![text(name.as_str()), keys(&slice)],
                )
                .await?
            };
            if at == 0 {
                if let Some(first) = rows.first() {
                    open = statics(&mut state, first)?;
                } else if let Some(first) = self
                    .one(&self.statements.statics, vec![text(name.as_str())])
                    .await?
                {
                    // Only a partition that nobody decided about yet: promotions write rows of packages that are not
                    // managed.
                    open = statics(&mut state, &first)?;
                }
            }
            for cells in rows {
                found.insert(key_of(&cells)?, cells);
            }
        }
        open.retain(|wave, _| match &want.open {
            WantOpen::No => false,
            WantOpen::Of(one) => one == wave,
            WantOpen::All => true,
        });
        let reserved: Vec<Key> = open
            .values()
            .map(|version| row_key(&RowKey::publish(version)))
            .filter(|key| !found.contains_key(key))
            .collect();
        if !reserved.is_empty() {
            for slice in slices(&reserved) {
                let rows = self
                    .at_least(
                        state.seq,
                        [&self.statements.rows, &self.statements.rows_serial],
                        vec![text(name.as_str()), keys(&slice)],
                    )
                    .await?;
                for cells in rows {
                    found.insert(key_of(&cells)?, cells);
                }
            }
        }
        state.open = open;
        let mut rows: BTreeMap<RowKey, Row> = BTreeMap::new();
        for ((part, ..), cells) in &found {
            if *part == VERSION {
                let row = row(cells)?;
                rows.insert(row.key.clone(), row);
            }
        }
        for prefix in &want.prefixes {
            for cells in self
                .range(
                    name,
                    prefix,
                    state.seq,
                    &[&self.statements.prefix, &self.statements.prefix_serial],
                )
                .await?
            {
                let row = row(&cells)?;
                rows.insert(row.key.clone(), row);
            }
        }
        state.rows = rows.into_values().collect();
        for prefix in &want.taken {
            // No look at `seq`: a version that is missing here is refused by the batch that would take it, which is
            // conditional on its row's absence.
            let plain = &self.statements.taken;
            for cells in self.range(name, prefix, 0, &[plain, plain]).await? {
                state.taken.insert(cells.version("a")?);
            }
        }
        for (parent, range) in &want.edges {
            let key = (EDGE, parent.as_str().to_owned(), range_key(range));
            if let Some(cells) = found.get(&key) {
                state
                    .edges
                    .insert((parent.clone(), range.clone()), cells.version("version")?);
            }
        }
        for (parent, version) in &want.attached {
            let key = (ATTACHED, parent.as_str().to_owned(), version.to_string());
            if let Some(cells) = found.get(&key) {
                state
                    .attached
                    .insert((parent.clone(), version.clone()), cells.version("version")?);
            }
        }
        if want.top_edges
            && let Some(top) = &mut state.top
        {
            let found = self
                .at_least(
                    state.seq,
                    [
                        &self.statements.top_edges,
                        &self.statements.top_edges_serial,
                    ],
                    vec![text(name.as_str())],
                )
                .await?;
            let edges: Vec<(PackageName, String)> = match found.first() {
                Some(cells) => cells.json("top_edges")?,
                None => Vec::new(),
            };
            top.edges = edges
                .into_iter()
                .map(|(parent, range)| Edge { parent, range })
                .collect();
        }
        Ok(state)
    }

    /// A read that saw at least `seq`: plainly, and, if that was answered by nodes that are behind, serially.
    async fn at_least(
        &self,
        seq: u64,
        [plain, serial]: [&PreparedStatement; 2],
        values: Vec<Value>,
    ) -> Result<Vec<Cells>> {
        let rows = self.all(plain, values.clone()).await?;
        if !self.replicated || seq == 0 {
            return Ok(rows);
        }
        let saw = rows.first().map(seq_of).transpose()?.unwrap_or(0);
        if saw >= seq {
            return Ok(rows);
        }
        self.all(serial, values).await
    }

    /// The rows of publishes whose version begins with a prefix.
    async fn range(
        &self,
        name: &PackageName,
        prefix: &str,
        seq: u64,
        [plain, serial]: &[&PreparedStatement; 2],
    ) -> Result<Vec<Cells>> {
        let values = vec![text(name.as_str()), text(prefix), text(after(prefix))];
        let rows = self.at_least(seq, [plain, serial], values).await?;
        let mut publishes = Vec::with_capacity(rows.len());
        for cells in rows {
            if cells.text("b")?.is_empty() {
                publishes.push(cells);
            }
        }
        Ok(publishes)
    }

    /// Everything that is published of a package, and the `seq` at which that was so.
    pub(super) async fn published_versions(&self, name: &PackageName) -> Result<Vec<Published>> {
        let seq = self
            .one(&self.statements.seq, vec![text(name.as_str())])
            .await?
            .map_or(Ok(0), |cells| seq_of(&cells))?;
        if let Some(list) = self.published.get(name, seq) {
            return Ok(list.to_vec());
        }
        let cells = self
            .all(&self.statements.published, vec![text(name.as_str())])
            .await?;
        let saw = cells.first().map_or(Ok(0), seq_of)?;
        let mut list = Vec::new();
        for one in &cells {
            if one.text("b")?.is_empty() && one.flag("published")? {
                list.push(Published {
                    version: one.version("a")?,
                    origin: one.maybe_version("origin")?,
                    tag: one.owned("tag")?,
                });
            }
        }
        self.published.put(name, saw, list.clone().into());
        Ok(list)
    }

    /// The lowest place among the queued rebuilds of a slot. `unended` names those that have not ended; which of them are
    /// queued, their rows say.
    pub(super) async fn first_queued(
        &self,
        name: &PackageName,
        slot: &Slot,
    ) -> Result<Option<u64>> {
        let Some(cells) = self
            .one(&self.statements.unended, vec![text(name.as_str())])
            .await?
        else {
            return Ok(None);
        };
        let asked: Vec<Key> = cells
            .map("unended")?
            .into_keys()
            .filter_map(|key| {
                let (of, version) = key.split_once('\u{0}')?;
                (of == slot.as_str()).then(|| (VERSION, version.to_owned(), of.to_owned()))
            })
            .collect();
        let mut first: Option<u64> = None;
        for slice in asked.chunks(KEYS) {
            let rows = self
                .all(
                    &self.statements.row_states,
                    vec![text(name.as_str()), keys(slice)],
                )
                .await?;
            for cells in rows {
                if cells.maybe_text("state")? == Some(RebuildState::Queued.as_str()) {
                    let place = cells.number("place")?;
                    first = Some(first.map_or(place, |first| first.min(place)));
                }
            }
        }
        Ok(first)
    }
}

/// The key of a rebuild in `unended`.
pub(super) fn unended_key(key: &RowKey) -> String {
    format!("{}\u{0}{}", key.slot.as_str(), key.version)
}

/// The rows by key that a want names, after the one that is always there.
fn asked(want: &Want) -> Vec<Key> {
    let rows = want.rows.iter().map(row_key);
    let edges = want
        .edges
        .iter()
        .map(|(parent, range)| (EDGE, parent.as_str().to_owned(), range_key(range)));
    let attached = want
        .attached
        .iter()
        .map(|(parent, version)| (ATTACHED, parent.as_str().to_owned(), version.to_string()));
    let all: BTreeSet<Key> = rows.chain(edges).chain(attached).collect();
    all.into_iter().collect()
}

/// Slices of keys, each with the anchor; at least one.
fn slices(keys: &[Key]) -> impl Iterator<Item = Vec<Key>> + '_ {
    let count = keys.len().div_ceil(KEYS).max(1);
    (0..count).map(move |at| {
        let end = keys.len().min((at + 1) * KEYS);
        let mut slice = vec![(ANCHOR, String::new(), String::new())];
        slice.extend_from_slice(&keys[at * KEYS..end]);
        slice
    })
}

fn key_of(cells: &Cells) -> Result<Key> {
    Ok((
        cells.number("part")?,
        cells.text("a")?.to_owned(),
        cells.text("b")?.to_owned(),
    ))
}

/// Reads the statics into `state`; returns the reservations.
fn statics(state: &mut PackageState, cells: &Cells) -> Result<BTreeMap<WaveId, Version>> {
    state.seq = seq_of(cells)?;
    state.stamp = cells.maybe_number("stamp")?.unwrap_or_default();
    state.head = match cells.maybe_version("head_version")? {
        Some(version) => Some(Head {
            version,
            born: cells.number("head_born")?,
        }),
        None => None,
    };
    state.dependent_of = cells.maybe_name("dependent_of")?;
    state.top = match cells.maybe_version("top_version")? {
        Some(version) => Some(Top {
            version,
            origin: cells.maybe_version("top_origin")?,
            edges: Vec::new(),
        }),
        None => None,
    };
    cells
        .map("open")?
        .iter()
        .map(|(wave, version)| Ok((WaveId::new(wave.clone()), reservation(version)?)))
        .collect()
}

/// The first text after all those that begin with `prefix`.
fn after(prefix: &str) -> String {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
            end.push(next);
            return end.into_iter().collect();
        }
    }
    char::MAX.to_string()
}

fn row(cells: &Cells) -> Result<Row> {
    Ok(Row {
        key: RowKey {
            version: cells.version("a")?,
            slot: Slot::from_column(cells.text("b")?),
        },
        born: cells.number("born")?,
        facts: if cells.flag("published")? {
            Some(facts(cells)?)
        } else {
            None
        },
        rebuild: match cells.maybe_text("rebuild")? {
            Some(id) => Some(rebuild(RebuildId::new(id), cells)?),
            None => None,
        },
    })
}

fn facts(cells: &Cells) -> Result<Facts> {
    Ok(Facts {
        noticed: cells.maybe_number("noticed")?,
        notice: cells.maybe_text("notice")?.map(ChangeId::new),
        digest: cells.maybe_text("digest")?.map(Digest::new),
        tag: cells.owned("tag")?,
        origin: cells.maybe_version("origin")?,
        previous: cells.maybe_version("previous")?,
        tarball_of: cells.maybe_version("tarball_of")?,
        stamp: cells.number("stamped")?,
        dropped: cells.maybe_json("dropped")?,
        took_place: cells.json("took_place")?,
        with: cells.maybe_json("built_with")?,
        attach: cells.maybe_json("attach")?,
        attach_stamp: cells.number("attach_stamp")?,
    })
}

fn rebuild(id: RebuildId, cells: &Cells) -> Result<Rebuild> {
    Ok(Rebuild {
        id,
        state: rebuild_state(cells.text("state")?)?,
        generation: cells.number("generation")?,
        waves: cells.set("waves")?.into_iter().map(WaveId::new).collect(),
        change: ChangeId::new(cells.text("change")?),
        decision: cells.json("decision")?,
        order: cells.number("place")?,
        base: cells.version("base")?,
        origin: cells.version("base_origin")?,
        tarball_of: cells.version("base_tarball_of")?,
        cause: cells.json("cause")?,
        with: cells.json("rebuild_with")?,
        promote: cells.flag("promote")?,
        attempt: cells.number("attempt")?,
        tries: cells.number("tries")?,
        owner: cells.owned("owner")?,
        due: cells.number("due")?,
        ended_because: cells.owned("ended_because")?,
        confirmed_by: cells.maybe_text("confirmed_by")?.map(ChangeId::new),
    })
}

pub(super) fn rebuild_state(text: &str) -> Result<RebuildState> {
    RebuildState::from_column(text)
        .ok_or_else(|| bug(format!("a stored rebuild is in state {text:?}")))
}

impl CassandraStore {
    pub(super) async fn manifest_of(
        &self,
        name: &PackageName,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>> {
        let values = vec![
            text(name.as_str()),
            version_value(version),
            text(digest.as_str()),
        ];
        self.0
            .one(&self.0.statements.manifest, values)
            .await?
            .map(|cells| cells.bytes("json"))
            .transpose()
    }
}
