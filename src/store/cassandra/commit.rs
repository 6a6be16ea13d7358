//! The conditional batch on one package's partition: one lightweight transaction.
//!
//! Its outcome is certain or an error, never a guess (H9). A batch that counts `seq` leaves its token in `batches` under
//! the `seq` that it made; exactly one batch ever makes a `seq`, so the token tells whose it was, however much later. A
//! batch on rows alone leaves its token in the row. After an unknown outcome the token is looked for at `LOCAL_SERIAL`,
//! which first finishes what is under way; if nothing happened, the very same batch is sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use scylla::errors::ExecutionError;
use scylla::statement::SerialConsistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use uuid::Uuid;

use super::error::{bug, may_be_done, of_write, unknown};
use super::package::{ATTACHED, EDGE, range_key, rebuild_state, unended_key};
use super::values::{
    Value, big, boolean, count, given, int, json, json_text, maybe, null, number, rows, set, text,
    texts, tiny, unset, uuid, version,
};
use super::{Inner, bucket};
use crate::model::id::{ChangeId, Digest, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Facts, Rebuild, RebuildState, Top};
use crate::store::lawful::lawful;
use crate::store::{
    Committed, Expect, PackageCommit, RebuildPatch, Result, RowWrite, StoreErrorKind,
};

/// How many seqs back a batch can still be told from another's.
const REMEMBERED: u64 = 64;

/// How often a batch whose outcome is unknown is looked after before the caller has to repeat its step.
const LOOKS: u32 = 6;

/// The buckets of `pkg_name`.
pub(super) const NAME_BUCKETS: u8 = 16;

/// The statements of one batch, with their values.
#[derive(Default)]
struct Statements<'a> {
    batch: Vec<&'a PreparedStatement>,
    values: Vec<Vec<Value>>,
}

impl<'a> Statements<'a> {
    fn add(&mut self, statement: &'a PreparedStatement, values: Vec<Value>) {
        self.batch.push(statement);
        self.values.push(values);
    }
}

/// What the store has to know of a row before it can write a batch about it, and the batch then makes sure of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Assumed {
    exists: bool,
}

/// What a look at a row at `LOCAL_SERIAL` showed.
struct Seen {
    token: Option<Uuid>,
    exists: bool,
    rebuild: Option<(String, RebuildState, u32)>,
}

impl Inner {
    /// Applies one batch, or refuses it.
    pub(super) async fn commit(&self, batch: &PackageCommit) -> Result<Committed> {
        self.open()?;
        lawful(batch)?;
        let most = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
        if batch.expect_seq.is_some_and(|seq| seq >= most) {
            // No package ever had so many.
            return Ok(Committed::Refused);
        }
        if batch.expect_seq == Some(0) {
            // First: a name without a package does no harm, a package without a name is never listed.
            let name = batch.name.as_str();
            let bucket = tiny(i8::try_from(bucket(name, NAME_BUCKETS)).unwrap_or(0));
            self.put(&self.statements.put_name, vec![bucket, text(name)])
                .await?;
        }
        let token = Uuid::new_v4();
        let mut assumed = self.assume(batch).await?;
        let places = self.places(batch).await?;
        let mut unsure = false;
        let mut last: Option<ExecutionError> = None;
        for look in 0..LOOKS {
            if look > 0 && last.is_some() {
                tokio::time::sleep(Duration::from_millis(20 << look)).await;
            }
            let statements = self.statements(batch, token, &assumed, &places)?;
            match self.send(&statements).await {
                Ok(Some(true)) => return Ok(Committed::Applied),
                // An answer that cannot be read is none.
                Ok(None) => {
                    unsure = true;
                    if self.is_ours(batch, token).await? == Some(true) {
                        return Ok(Committed::Applied);
                    }
                }
                Ok(Some(false)) => {
                    if unsure && self.is_ours(batch, token).await? == Some(true) {
                        return Ok(Committed::Applied);
                    }
                    match self.refused(batch, &assumed).await? {
                        Some(corrected) => assumed = corrected,
                        None if unsure && batch.expect_seq.is_none() => break,
                        None => return Ok(Committed::Refused),
                    }
                }
                Err(error) if may_be_done(&error) => {
                    tracing::debug!(package = %batch.name, %error, "the outcome of a batch is unknown");
                    unsure = true;
                    last = Some(error);
                    match self.is_ours(batch, token).await {
                        Ok(Some(true)) => return Ok(Committed::Applied),
                        Ok(Some(false)) => return Ok(Committed::Refused),
                        // Nothing happened yet, or nobody can say: the same once more.
                        Ok(None) => {}
                        Err(error) if error.kind == StoreErrorKind::Away => {}
                        Err(error) => return Err(error),
                    }
                }
                // For certain not done; but an earlier one may have been.
                Err(error) if unsure => last = Some(error),
                Err(error) => return Err(of_write("a batch", &error)),
            }
        }
        Err(unknown(format!(
            "cassandra: whether a batch on {} was applied: {}",
            batch.name,
            last.map_or_else(
                || "others came in between".into(),
                |error| error.to_string()
            )
        )))
    }

    /// Whether rows exist whose condition does not say so.
    async fn assume(&self, batch: &PackageCommit) -> Result<Vec<Assumed>> {
        let mut assumed = Vec::with_capacity(batch.rows.len());
        for write in &batch.rows {
            let exists = match write.expect {
                Expect::Absent => false,
                Expect::Rebuild { .. } => true,
                Expect::Nothing | Expect::NoRebuild => {
                    let key = row_key(&batch.name, write);
                    self.one(&self.statements.row_born, key)
                        .await?
                        .map_or(Ok(false), |cells| cells.has("born"))?
                }
            };
            assumed.push(Assumed { exists });
        }
        Ok(assumed)
    }

    /// The places of rebuilds that are queued again after they had ended; a rebuild's place never changes.
    async fn places(&self, batch: &PackageCommit) -> Result<BTreeMap<String, i64>> {
        let mut places = BTreeMap::new();
        for write in &batch.rows {
            let (Some(patch), Expect::Rebuild { id, state, .. }) = (&write.patch, &write.expect)
            else {
                continue;
            };
            if !state.is_ended() || patch.state.is_none_or(RebuildState::is_ended) {
                continue;
            }
            let cells = self
                .one(&self.statements.row_place, row_key(&batch.name, write))
                .await?;
            if let Some(cells) = cells
                && cells.maybe_text("rebuild")? == Some(id.as_str())
            {
                places.insert(unended_key(&write.key), cells.number("place")?);
            }
        }
        Ok(places)
    }

    /// Sends the batch once; whether it was applied, if the answer says so.
    async fn send(
        &self,
        statements: &Statements<'_>,
    ) -> std::result::Result<Option<bool>, ExecutionError> {
        let mut cql = Batch::new(BatchType::Unlogged);
        cql.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        cql.set_is_idempotent(false);
        cql.set_execution_profile_handle(Some(self.decide.clone()));
        for statement in &statements.batch {
            cql.append_statement((*statement).clone());
        }
        let result = self.session.batch(&cql, &statements.values).await?;
        let applied = rows(result).and_then(|rows| {
            rows.first()
                .map_or(Ok(true), |first| first.flag("[applied]"))
        });
        Ok(applied.ok())
    }

    /// Why a batch was refused: `None` if a condition of the caller did not hold, else what has to be assumed instead.
    async fn refused(
        &self,
        batch: &PackageCommit,
        assumed: &[Assumed],
    ) -> Result<Option<Vec<Assumed>>> {
        let guessed =
            |write: &RowWrite| matches!(write.expect, Expect::Nothing | Expect::NoRebuild);
        if !batch.rows.iter().any(guessed) {
            return Ok(None);
        }
        if let Some(expected) = batch.expect_seq {
            let (seq, _) = self.made(batch, expected).await?;
            if seq != expected {
                return Ok(None);
            }
        }
        let mut corrected = Vec::with_capacity(assumed.len());
        for write in &batch.rows {
            let seen = self.look(&batch.name, write).await?;
            if !holds(&write.expect, &seen) {
                return Ok(None);
            }
            if write.expect == Expect::Nothing && write.rebuild.is_some() && seen.rebuild.is_some()
            {
                return Err(bug(format!(
                    "{}@{} has a rebuild that would be replaced unseen",
                    batch.name, write.key.version
                )));
            }
            corrected.push(Assumed {
                exists: seen.exists,
            });
        }
        // The same again would be refused again for a reason that is not ours to see.
        Ok((corrected != assumed).then_some(corrected))
    }

    /// Whether the batch was applied: certainly, certainly not (another took its `seq`), or not yet.
    async fn is_ours(&self, batch: &PackageCommit, token: Uuid) -> Result<Option<bool>> {
        if let Some(expected) = batch.expect_seq {
            let (seq, made_by) = self.made(batch, expected).await?;
            return Ok(if made_by == Some(token) {
                Some(true)
            } else if seq == expected {
                None
            } else if seq - expected < REMEMBERED {
                Some(false)
            } else {
                return Err(unknown(format!(
                    "cassandra: {} went on too far to tell whether a batch was applied",
                    batch.name
                )));
            });
        }
        let mut ours = !batch.rows.is_empty();
        for write in &batch.rows {
            ours &= self.look(&batch.name, write).await?.token == Some(token);
        }
        Ok(ours.then_some(true))
    }

    /// The package's `seq`, and whose batch made the one after `expected`.
    async fn made(&self, batch: &PackageCommit, expected: u64) -> Result<(u64, Option<Uuid>)> {
        let values = vec![ring(expected + 1)?, text(batch.name.as_str())];
        let Some(cells) = self.one(&self.statements.batch, values).await? else {
            return Ok((0, None));
        };
        let seq = if cells.has("seq")? {
            cells.number("seq")?
        } else {
            0
        };
        Ok((
            seq,
            cells.maybe_uuid("batch_of")?.filter(|_| seq > expected),
        ))
    }

    async fn look(&self, name: &PackageName, write: &RowWrite) -> Result<Seen> {
        let cells = self
            .one(&self.statements.row_batch, row_key(name, write))
            .await?;
        let Some(cells) = cells else {
            return Ok(Seen {
                token: None,
                exists: false,
                rebuild: None,
            });
        };
        Ok(Seen {
            token: cells.maybe_uuid("made_by")?,
            exists: cells.has("born")?,
            rebuild: match cells.owned("rebuild")? {
                Some(id) => Some((
                    id,
                    rebuild_state(cells.text("state")?)?,
                    cells.number("attempt")?,
                )),
                None => None,
            },
        })
    }

    fn statements<'a>(
        &'a self,
        batch: &PackageCommit,
        token: Uuid,
        assumed: &[Assumed],
        places: &BTreeMap<String, i64>,
    ) -> Result<Statements<'a>> {
        let mut all = Statements::default();
        let prepared = &self.statements;
        let name = batch.name.as_str();
        if let Some(seq) = batch.expect_seq {
            all.add(&prepared.set_statics, statics(batch, seq, token)?);
            if seq == 0 {
                all.add(&prepared.anchor, vec![text(name)]);
            }
            for wave in &batch.statics.close {
                if !batch.statics.open.contains_key(wave) {
                    all.add(&prepared.close, vec![text(wave.as_str()), text(name)]);
                }
            }
            for (parent, range, highest) in &batch.edges {
                all.add(
                    &prepared.summary,
                    vec![
                        text(name),
                        tiny(EDGE),
                        text(parent.as_str()),
                        text(range_key(range)),
                        version(highest),
                    ],
                );
            }
            for (parent, parent_version, attached) in &batch.attached {
                all.add(
                    &prepared.summary,
                    vec![
                        text(name),
                        tiny(ATTACHED),
                        text(parent.as_str()),
                        version(parent_version),
                        version(attached),
                    ],
                );
            }
        }
        for (write, assumed) in batch.rows.iter().zip(assumed) {
            self.row(&mut all, &batch.name, write, token, assumed, places)?;
        }
        Ok(all)
    }

    fn row<'a>(
        &'a self,
        all: &mut Statements<'a>,
        name: &PackageName,
        write: &RowWrite,
        token: Uuid,
        assumed: &Assumed,
        places: &BTreeMap<String, i64>,
    ) -> Result<()> {
        let prepared = &self.statements;
        let key = || row_key(name, write);
        let with_key = |mut values: Vec<Value>| {
            values.extend(key());
            values
        };
        match &write.expect {
            Expect::Rebuild { id, state, attempt } => {
                let mut values = with_key(vec![uuid(token)]);
                values.extend([
                    text(id.as_str()),
                    text(state.as_str()),
                    big(i64::from(*attempt)),
                ]);
                all.add(&prepared.row_rebuild, values);
            }
            _ if !assumed.exists => {
                let mut values = key();
                values.extend([count(write.born)?, uuid(token)]);
                all.add(&prepared.row_absent, values);
            }
            // One that says nothing must not replace a rebuild that it has not seen.
            Expect::Nothing if write.rebuild.is_none() => {
                all.add(&prepared.row_there, with_key(vec![uuid(token)]));
            }
            _ => all.add(&prepared.row_no_rebuild, with_key(vec![uuid(token)])),
        }
        if let Some(facts) = &write.facts {
            all.add(&prepared.set_facts, with_key(of_facts(facts)?));
        }
        let unended = text(unended_key(&write.key));
        if let Some(rebuild) = &write.rebuild {
            all.add(&prepared.set_rebuild, with_key(of_rebuild(rebuild)?));
            if rebuild.state.is_ended() {
                all.add(&prepared.end, vec![unended, text(name.as_str())]);
            } else {
                let place = count(rebuild.order)?;
                all.add(&prepared.unend, vec![unended, place, text(name.as_str())]);
            }
        } else if let Some(patch) = &write.patch {
            all.add(&prepared.patch_rebuild, with_key(of_patch(patch)));
            match patch.state {
                Some(state) if state.is_ended() => {
                    all.add(&prepared.end, vec![unended, text(name.as_str())]);
                }
                Some(_) => {
                    if let Some(place) = places.get(&unended_key(&write.key)) {
                        all.add(
                            &prepared.unend,
                            vec![unended, big(*place), text(name.as_str())],
                        );
                    }
                }
                None => {}
            }
        }
        Ok(())
    }
}

fn holds(expect: &Expect, seen: &Seen) -> bool {
    match expect {
        Expect::Nothing => true,
        Expect::Absent => !seen.exists,
        Expect::NoRebuild => seen.rebuild.is_none(),
        Expect::Rebuild { id, state, attempt } => {
            seen.rebuild
                .as_ref()
                .is_some_and(|(there, in_state, after)| {
                    there == id.as_str() && in_state == state && after == attempt
                })
        }
    }
}

fn row_key(name: &PackageName, write: &RowWrite) -> Vec<Value> {
    vec![
        text(name.as_str()),
        version(&write.key.version),
        text(write.key.slot.as_str()),
    ]
}

/// The place of a seq in `batches`.
fn ring(seq: u64) -> Result<Value> {
    let place = i32::try_from(seq % REMEMBERED)
        .map_err(|_| bug(format!("{seq} has no place in the ring")))?;
    Ok(int(place))
}

fn statics(batch: &PackageCommit, seq: u64, token: Uuid) -> Result<Vec<Value>> {
    let statics = &batch.statics;
    let head = statics.head.as_ref();
    let top: Option<&Top> = statics.top.as_ref();
    let edges = top
        .map(|top| {
            let edges: Vec<_> = top
                .edges
                .iter()
                .map(|edge| (&edge.parent, &edge.range))
                .collect();
            json_text(&edges)
        })
        .transpose()?;
    let open: Vec<(CqlValue, CqlValue)> = statics
        .open
        .iter()
        .map(|(wave, version)| {
            (
                CqlValue::Text(wave.as_str().to_owned()),
                CqlValue::Text(version.to_string()),
            )
        })
        .collect();
    Ok(vec![
        count(seq + 1)?,
        ring(seq + 1)?,
        uuid(token),
        match statics.stamp {
            Some(stamp) => big(stamp),
            // A package that is new has one from the start.
            None if seq == 0 => big(0),
            None => unset(),
        },
        given(head, |head| version(&head.version)),
        given(head.map(|head| number(head.born)).transpose()?, big),
        given(statics.dependent_of.as_ref(), |parent| {
            maybe(parent.as_ref(), |parent| text(parent.as_str()))
        }),
        given(top, |top| version(&top.version)),
        given(top, |top| maybe(top.origin.as_ref(), version)),
        given(edges, text),
        if open.is_empty() {
            unset()
        } else {
            set(CqlValue::Map(open))
        },
        text(batch.name.as_str()),
        if seq == 0 { null() } else { count(seq)? },
    ])
}

fn of_facts(facts: &Facts) -> Result<Vec<Value>> {
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
    Ok(vec![
        maybe(*noticed, big),
        maybe(notice.as_ref().map(ChangeId::as_str), text),
        maybe(digest.as_ref().map(Digest::as_str), text),
        maybe(tag.as_deref(), text),
        maybe(origin.as_ref(), version),
        maybe(previous.as_ref(), version),
        maybe(tarball_of.as_ref(), version),
        big(*stamp),
        maybe(dropped.as_ref().map(json_text).transpose()?, text),
        json(took_place)?,
        maybe(with.as_ref().map(json_text).transpose()?, text),
        maybe(attach.as_ref().map(json_text).transpose()?, text),
        big(*attach_stamp),
    ])
}

fn of_rebuild(rebuild: &Rebuild) -> Result<Vec<Value>> {
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
    Ok(vec![
        text(id.as_str()),
        text(state.as_str()),
        big(i64::from(*generation)),
        texts(waves.iter().map(WaveId::as_str)),
        text(change.as_str()),
        json(decision)?,
        count(*order)?,
        version(base),
        version(origin),
        version(tarball_of),
        json(cause)?,
        json(with)?,
        boolean(*promote),
        big(i64::from(*attempt)),
        big(i64::from(*tries)),
        maybe(owner.as_deref(), text),
        big(*due),
        maybe(ended_because.as_deref(), text),
        maybe(confirmed_by.as_ref().map(ChangeId::as_str), text),
    ])
}

fn of_patch(patch: &RebuildPatch) -> Vec<Value> {
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
    vec![
        given(*state, |state| text(state.as_str())),
        given(*attempt, |attempt| big(i64::from(attempt))),
        given(*tries, |tries| big(i64::from(tries))),
        given(owner.as_deref(), text),
        given(*due, big),
        if join.is_empty() {
            unset()
        } else {
            texts(join.iter().map(WaveId::as_str))
        },
        given(ended_because.as_deref(), text),
        given(confirmed_by.as_ref().map(ChangeId::as_str), text),
    ]
}
