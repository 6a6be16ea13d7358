//! Waves: the row that decides about each, its plan, its members, and what it did with packages.

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::decide::Ours;
use super::error::bug;
use super::lists::{CHANGE_BUCKETS, day_of, limit};
use super::plain::in_bucket;
use super::values::{
    Cells, Value, big, boolean, given, int, json, maybe, null, text, tiny, uuid, version,
};
use super::{Inner, each};
use crate::model::env::Env;
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::model::package::{Cause, Kind, Millis};
use crate::model::wave::{PlanNode, Wave, WaveMove, WaveState};
use crate::semver::Version;
use crate::store::{Committed, Node, NodeKey, Result};

pub(super) const NODE_BUCKETS: u8 = 16;

/// A node's key: of a publish wave the package, of a promotion wave also the version.
fn node_key(key: &NodeKey) -> [Value; 2] {
    let of = key.version.as_ref().map(Version::to_string);
    [text(key.package.as_str()), text(of.unwrap_or_default())]
}

impl Inner {
    // ---- nodes -----------------------------------------------------------------------------------------------------

    pub(super) async fn write_node(
        &self,
        wave: &WaveId,
        key: &NodeKey,
        node: &Node,
        first: Value,
    ) -> Result<()> {
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
        let [package, of] = node_key(key);
        let values = vec![
            text(wave.as_str()),
            in_bucket(key.package.as_str(), NODE_BUCKETS),
            package,
            of,
            given(added.as_ref().map(json).transpose()?, |added| added),
            given(released.as_ref(), |released| text(released.as_str())),
            given(published.as_ref(), version),
            given(failed.as_deref(), text),
            given(*late, big),
            given(held.as_deref(), text),
            given(skipped.as_ref().map(json).transpose()?, |skipped| skipped),
            int(self.retain),
            first,
        ];
        self.put(&self.statements.put_node, values).await
    }

    pub(super) async fn node_of(&self, wave: &WaveId, key: &NodeKey) -> Result<Node> {
        let [package, of] = node_key(key);
        let values = vec![
            text(wave.as_str()),
            in_bucket(key.package.as_str(), NODE_BUCKETS),
            package,
            of,
        ];
        let cells = self.one(&self.statements.node, values).await?;
        cells.map_or_else(|| Ok(Node::default()), |cells| node(&cells))
    }

    pub(super) async fn node_page_of(
        &self,
        wave: &WaveId,
        after: Option<&NodeKey>,
        count: usize,
    ) -> Result<Vec<(NodeKey, Node)>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let [package, of] = after.map_or_else(|| [text(""), text("")], node_key);
        let (package, of) = (&package, &of);
        let pages = each(0..NODE_BUCKETS, |bucket| async move {
            let values = vec![
                text(wave.as_str()),
                tiny(i8::try_from(bucket).unwrap_or(0)),
                package.clone(),
                of.clone(),
                limit(count),
            ];
            self.all(&self.statements.nodes, values).await
        })
        .await?;
        merged(&pages, &["package", "version"], count)?
            .into_iter()
            .map(|cells| {
                let key = NodeKey {
                    package: cells.name("package")?,
                    version: match cells.text("version")? {
                        "" => None,
                        _ => Some(cells.version("version")?),
                    },
                };
                Ok((key, node(cells)?))
            })
            .collect()
    }

    // ---- the wave itself -------------------------------------------------------------------------------------------

    /// Lists the wave whether this made it or not: whoever made it may have died before it was listed.
    pub(super) async fn open_wave_of(&self, wave: &Wave) -> Result<Committed> {
        let token = Uuid::new_v4();
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
        let values = vec![
            text(id.as_str()),
            uuid(token),
            text(env.as_str()),
            text(kind.as_str()),
            json(start)?,
            text(change.as_str()),
            boolean(*promote),
            big(*opened),
            text(state.as_str()),
            big(*since),
            maybe(plan.as_deref(), text),
            big(i64::from(*nodes)),
            json(pending_on)?,
            int(self.retain),
        ];
        let answer = self
            .decided(
                &format!("the opening of wave {id}"),
                || {
                    self.session
                        .execute_unpaged(&self.statements.open_wave, &values)
                },
                || async {
                    let there = self.wave_cells(id).await?;
                    there.map_or(Ok(Ours::NotYet), |cells| {
                        Ok(match cells.maybe_uuid("made_by")? {
                            Some(by) if by == token => Ours::Yes,
                            _ => Ours::No,
                        })
                    })
                },
            )
            .await?;
        let listed = match answer {
            Committed::Applied => Some(*opened),
            Committed::Refused => self.wave_of(id).await?.map(|there| there.opened),
        };
        if let Some(opened) = listed {
            self.list_wave(id, opened).await?;
        }
        Ok(answer)
    }

    async fn list_wave(&self, id: &WaveId, opened: Millis) -> Result<()> {
        let day = day_of(opened);
        self.put_day(day).await?;
        let values = vec![
            int(day),
            in_bucket(id.as_str(), CHANGE_BUCKETS),
            big(opened),
            text(id.as_str()),
            int(self.retain),
        ];
        self.put(&self.statements.put_wave_of_day, values).await
    }

    async fn wave_cells(&self, id: &WaveId) -> Result<Option<Cells>> {
        self.one(&self.statements.wave_serial, vec![text(id.as_str())])
            .await
    }

    /// A wave; sees every decision about it.
    pub(super) async fn wave_of(&self, id: &WaveId) -> Result<Option<Wave>> {
        let cells = self.wave_cells(id).await?;
        cells.map_or(Ok(None), |cells| wave(&cells))
    }

    /// A state is entered once, so the token of the move into it stays when later moves follow.
    pub(super) async fn move_wave_of(&self, id: &WaveId, to: &WaveMove) -> Result<Committed> {
        let token = Uuid::new_v4();
        let WaveMove {
            from,
            to: into,
            at,
            plan,
        } = to;
        let values = vec![
            int(self.retain),
            text(into.as_str()),
            big(*at),
            given(plan.as_ref(), |(plan, _)| text(plan.as_str())),
            given(plan.as_ref(), |(_, nodes)| big(i64::from(*nodes))),
            text(into.as_str()),
            uuid(token),
            text(id.as_str()),
            text(from.as_str()),
        ];
        self.decided(
            &format!("that wave {id} is {}", into.as_str()),
            || {
                self.session
                    .execute_unpaged(&self.statements.move_wave, &values)
            },
            || async {
                let Some(cells) = self.wave_cells(id).await? else {
                    return Ok(Ours::No);
                };
                let by = cells.map("moves")?.remove(into.as_str());
                Ok(if by.and_then(|by| by.as_uuid()) == Some(token) {
                    Ours::Yes
                } else if cells.maybe_text("state")? == Some(from.as_str()) {
                    Ours::NotYet
                } else {
                    Ours::No
                })
            },
        )
        .await
    }

    pub(super) async fn wave_page(
        &self,
        before: Option<(Millis, WaveId)>,
        count: usize,
    ) -> Result<Vec<Wave>> {
        let before = before.map(|(time, id)| (time, id.as_str().to_owned()));
        let look = |opened, id: String| -> BoxFuture<'_, _> {
            Box::pin(async move {
                let cells = self.one(&self.statements.wave, vec![text(id)]).await?;
                let there = cells.map_or(Ok(None), |cells| wave(&cells))?;
                Ok(there.filter(|there| there.opened == opened))
            })
        };
        self.by_day(&self.statements.waves_of_day, before, count, look)
            .await
    }

    // ---- plans and members -----------------------------------------------------------------------------------------

    pub(super) async fn write_plan_node(
        &self,
        wave: &WaveId,
        plan: &str,
        node: &PlanNode,
        first: Value,
    ) -> Result<()> {
        let package = node.key.package.as_str();
        let values = vec![
            text(wave.as_str()),
            text(plan),
            in_bucket(package, NODE_BUCKETS),
            text(package),
            json(node)?,
            int(self.retain),
            first,
        ];
        self.put(&self.statements.put_plan_node, values).await
    }

    pub(super) async fn plan_node_of(
        &self,
        wave: &WaveId,
        plan: &str,
        package: &PackageName,
    ) -> Result<Option<PlanNode>> {
        let package = package.as_str();
        let values = vec![
            text(wave.as_str()),
            text(plan),
            in_bucket(package, NODE_BUCKETS),
            text(package),
        ];
        let cells = self.one(&self.statements.plan_node, values).await?;
        cells.map(|cells| cells.json("json")).transpose()
    }

    pub(super) async fn plan_page_of(
        &self,
        wave: &WaveId,
        plan: &str,
        after: Option<&PackageName>,
        count: usize,
    ) -> Result<Vec<PlanNode>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let after = after.map_or("", PackageName::as_str);
        let pages = each(0..NODE_BUCKETS, |bucket| async move {
            let values = vec![
                text(wave.as_str()),
                text(plan),
                tiny(i8::try_from(bucket).unwrap_or(0)),
                text(after),
                limit(count),
            ];
            self.all(&self.statements.plan_page, values).await
        })
        .await?;
        merged(&pages, &["package"], count)?
            .into_iter()
            .map(|cells| cells.json("json"))
            .collect()
    }

    pub(super) async fn write_member(
        &self,
        wave: &WaveId,
        change: &ChangeId,
        cause: &Cause,
        first: Value,
    ) -> Result<()> {
        let values = vec![
            text(wave.as_str()),
            text(change.as_str()),
            json(cause)?,
            int(self.retain),
            first,
        ];
        self.put(&self.statements.put_member, values).await
    }

    pub(super) async fn members_of(&self, wave: &WaveId) -> Result<Vec<(ChangeId, Cause)>> {
        self.all(&self.statements.members, vec![text(wave.as_str())])
            .await?
            .iter()
            .map(|cells| Ok((ChangeId::new(cells.text("change")?), cells.json("cause")?)))
            .collect()
    }

    // ---- the wave that collects ------------------------------------------------------------------------------------

    pub(super) async fn collecting_of(&self, env: &Env) -> Result<Option<WaveId>> {
        let cells = self
            .one(&self.statements.collecting, vec![text(env.as_str())])
            .await?;
        cells.map_or(Ok(None), |cells| {
            Ok(cells.maybe_text("wave")?.map(WaveId::new))
        })
    }

    pub(super) async fn collect_of(
        &self,
        env: &Env,
        expect: Option<&WaveId>,
        next: &WaveId,
    ) -> Result<Committed> {
        let token = Uuid::new_v4();
        let [key, wave] = [text(env.as_str()), text(next.as_str())];
        let (statement, values) = match expect {
            None => (
                &self.statements.first_collecting,
                vec![key, wave, null(), uuid(token)],
            ),
            Some(before) => {
                let before = text(before.as_str());
                let values = vec![wave, before.clone(), uuid(token), key, before];
                (&self.statements.next_collecting, values)
            }
        };
        let expect = expect.map(WaveId::as_str);
        self.decided(
            &format!("the wave {next} that collects for {env}"),
            || self.session.execute_unpaged(statement, &values),
            || async {
                let there = self
                    .one(&self.statements.collecting, vec![text(env.as_str())])
                    .await?;
                let Some(cells) = there else {
                    return Ok(if expect.is_none() {
                        Ours::NotYet
                    } else {
                        Ours::No
                    });
                };
                Ok(if cells.maybe_uuid("made_by")? == Some(token) {
                    Ours::Yes
                } else if cells.maybe_text("wave")? == expect {
                    Ours::NotYet
                } else if cells.maybe_text("before")? == expect {
                    // Somebody else's came on top of what we expected.
                    Ours::No
                } else {
                    Ours::Lost
                })
            },
        )
        .await
    }
}

/// The first rows of all pages in the order of these columns' texts.
fn merged<'a>(pages: &'a [Vec<Cells>], by: &[&str], count: usize) -> Result<Vec<&'a Cells>> {
    let mut keyed = Vec::new();
    for cells in pages.iter().flatten() {
        let key: Vec<&str> = by
            .iter()
            .map(|column| cells.text(column))
            .collect::<Result<_>>()?;
        keyed.push((key, cells));
    }
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    keyed.truncate(count);
    Ok(keyed.into_iter().map(|(_, cells)| cells).collect())
}

fn node(cells: &Cells) -> Result<Node> {
    Ok(Node {
        added: cells.maybe_json("added")?,
        released: cells.maybe_text("released")?.map(RebuildId::new),
        published: cells.maybe_version("published")?,
        failed: cells.owned("failed")?,
        late: cells.maybe_number("late")?,
        held: cells.owned("held")?,
        skipped: cells.maybe_json("skipped")?,
    })
}

/// A wave; none if its time to live is over and only later moves are left of it.
fn wave(cells: &Cells) -> Result<Option<Wave>> {
    if !cells.has("kind")? || !cells.has("state")? {
        return Ok(None);
    }
    let id = WaveId::new(cells.text("id")?);
    let unknown = |what: &str, text: &str| bug(format!("wave {id} is of {what} {text:?}"));
    let kind = cells.text("kind")?;
    let state = cells.text("state")?;
    Ok(Some(Wave {
        env: Env::trusted(cells.text("env")?),
        kind: [Kind::Publish, Kind::Promotion]
            .into_iter()
            .find(|one| one.as_str() == kind)
            .ok_or_else(|| unknown("kind", kind))?,
        start: cells.json("start")?,
        change: ChangeId::new(cells.text("change")?),
        promote: cells.flag("promote")?,
        opened: cells.number("opened")?,
        state: WaveState::from_column(state).ok_or_else(|| unknown("state", state))?,
        since: cells.number("since")?,
        plan: cells.owned("plan")?,
        nodes: cells.number("nodes")?,
        pending_on: cells.json("pending_on")?,
        id,
    }))
}
