//! What waves did with packages, and which promotions there were.

use std::collections::BTreeMap;
use std::time::Duration;

use scylla::statement::SerialConsistency;
use scylla::statement::batch::{Batch, BatchType};

use super::Inner;
use super::error::{bug, may_be_done, of_write, unknown};
use super::plain::in_bucket;
use super::values::{Cells, Value, big, boolean, int, null, rows, text, version};
use crate::model::env::Env;
use crate::model::id::{ChangeId, RebuildId, WaveId};
use crate::model::name::PackageName;
use crate::semver::Version;
use crate::store::{Committed, Node, NodeKey, Promotion, Result};

pub(super) const NODE_BUCKETS: u8 = 16;

/// How often an unknown outcome is looked after.
const LOOKS: u32 = 6;

/// A node's key: of a publish wave the package, of a promotion wave also the version.
pub(super) fn node_key(key: &NodeKey) -> [Value; 2] {
    let of = key
        .version
        .as_ref()
        .map(Version::to_string)
        .unwrap_or_default();
    [text(key.package.as_str()), text(of)]
}

impl Inner {
    pub(super) async fn node_of(&self, wave: &WaveId, key: &NodeKey) -> Result<Node> {
        let [package, of] = node_key(key);
        let values = vec![
            text(wave.as_str()),
            in_bucket(key.package.as_str(), NODE_BUCKETS),
            package,
            of,
        ];
        let Some(cells) = self.one(&self.statements.node, values).await? else {
            return Ok(Node::default());
        };
        Ok(Node {
            released: cells.maybe_text("released")?.map(RebuildId::new),
            published: cells.maybe_version("published")?,
            ..Node::default()
        })
    }

    pub(super) async fn promotion_page(
        &self,
        name: &PackageName,
        env: &Env,
        count: usize,
    ) -> Result<Vec<Promotion>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let values = vec![
            text(name.as_str()),
            text(env.as_str()),
            int(i32::try_from(count).unwrap_or(i32::MAX)),
        ];
        self.all(&self.statements.promotions, values)
            .await?
            .iter()
            .map(promotion)
            .collect()
    }

    /// One batch on the partition of the package and environment; a generation's row says whose it was (H9, H13).
    pub(super) async fn promote_to(
        &self,
        name: &PackageName,
        env: &Env,
        expect: u32,
        next: &Promotion,
    ) -> Result<Committed> {
        self.open()?;
        if next.generation <= expect {
            return Err(bug(format!(
                "{name}: generation {} cannot follow {expect}",
                next.generation
            )));
        }
        let key = [text(name.as_str()), text(env.as_str())];
        let latest = if expect == 0 {
            null()
        } else {
            big(i64::from(expect))
        };
        let values = vec![
            vec![
                big(i64::from(next.generation)),
                key[0].clone(),
                key[1].clone(),
                latest,
            ],
            vec![
                key[0].clone(),
                key[1].clone(),
                big(i64::from(next.generation)),
                version(&next.version),
                boolean(next.promote),
                text(next.change.as_str()),
                big(next.at),
            ],
        ];
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        batch.set_is_idempotent(false);
        batch.set_execution_profile_handle(Some(self.decide.clone()));
        batch.append_statement(self.statements.promote.clone());
        batch.append_statement(self.statements.promotion_row.clone());
        let mut unsure = false;
        for look in 0..LOOKS {
            match self.session.batch(&batch, &values).await {
                Ok(result) => {
                    let applied = rows(result)?
                        .first()
                        .map_or(Ok(true), |first| first.flag("[applied]"))?;
                    if applied || (unsure && self.promoted(&key, next).await? == Some(true)) {
                        return Ok(Committed::Applied);
                    }
                    return Ok(Committed::Refused);
                }
                Err(error) if may_be_done(&error) => {
                    unsure = true;
                    match self.promoted(&key, next).await {
                        Ok(Some(true)) => return Ok(Committed::Applied),
                        Ok(Some(false)) => return Ok(Committed::Refused),
                        Ok(None) | Err(_) => {}
                    }
                    tokio::time::sleep(Duration::from_millis(20 << look)).await;
                }
                Err(error) if !unsure => return Err(of_write("a promotion", &error)),
                Err(_) => tokio::time::sleep(Duration::from_millis(20 << look)).await,
            }
        }
        Err(unknown(format!(
            "cassandra: whether the promotion of {name} to {env} was recorded"
        )))
    }

    /// Whether that promotion is in its partition; `None` if its generation is not there yet.
    async fn promoted(&self, key: &[Value; 2], next: &Promotion) -> Result<Option<bool>> {
        let rows = self
            .all(&self.statements.promotions_serial, key.to_vec())
            .await?;
        let latest = rows
            .first()
            .map_or(Ok(None), |cells| cells.maybe_number("latest"))?
            .unwrap_or_default();
        for cells in &rows {
            if !cells.has("generation")? {
                continue;
            }
            let there = promotion(cells)?;
            if there.generation == next.generation {
                return Ok(Some(there == *next));
            }
        }
        Ok((latest >= i64::from(next.generation)).then_some(false))
    }

    pub(super) async fn entries_of(
        &self,
        name: &PackageName,
        of: &Version,
        env: &Env,
    ) -> Result<BTreeMap<PackageName, Version>> {
        let values = vec![text(name.as_str()), version(of), text(env.as_str())];
        // In the order of generations: a later one replaces an earlier one.
        self.all(&self.statements.entries, values)
            .await?
            .iter()
            .map(|cells| {
                Ok((
                    cells.name("dependent")?,
                    cells.version("dependent_version")?,
                ))
            })
            .collect()
    }
}

fn promotion(cells: &Cells) -> Result<Promotion> {
    Ok(Promotion {
        version: cells.version("version")?,
        generation: cells.number("generation")?,
        promote: cells.flag("promote")?,
        change: ChangeId::new(cells.text("change")?),
        at: cells.number("at")?,
    })
}
