//! Which promotions there were, and what they sent (rule 13, H13).

use std::collections::BTreeMap;

use scylla::statement::SerialConsistency;
use scylla::statement::batch::{Batch, BatchType};

use super::Inner;
use super::decide::Ours;
use super::error::bug;
use super::values::{Cells, Value, big, boolean, int, null, text, version};
use crate::model::env::Env;
use crate::model::id::ChangeId;
use crate::model::name::PackageName;
use crate::semver::Version;
use crate::store::{Committed, Promotion, Result};

impl Inner {
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
        let what = format!("the promotion of {name} to {env}");
        self.decided(
            &what,
            || self.session.batch(&batch, &values),
            || self.promoted(&key, next),
        )
        .await
    }

    /// Whether that promotion is in its partition.
    async fn promoted(&self, key: &[Value; 2], next: &Promotion) -> Result<Ours> {
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
                return Ok(if there == *next { Ours::Yes } else { Ours::No });
            }
        }
        Ok(if latest >= i64::from(next.generation) {
            Ours::No
        } else {
            Ours::NotYet
        })
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
