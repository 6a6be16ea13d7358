//! The durable queue: shards, in each of them buckets of ten seconds, in each of them items (H1).
//!
//! Nothing is deleted, so that no read wades through tombstones: an item that is finished says so, and a shard's `low`
//! says below which bucket everything is. `put` inserts and then reads `low`: if that has passed the bucket, the item may
//! never be read, so it is inserted again into the bucket of now, and only then acknowledged. `retire` raises `low` and
//! then reads the bucket once more; what came in meanwhile is put again. One of the two sees the other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::once::now_micros;
use super::values::{Cells, big, int, json, rows, small, text, uuid};
use super::{Inner, each};
use crate::model::name::PackageName;
use crate::model::work::{Shard, Work};
use crate::store::error_of_cursor;
use crate::store::{Replica, Result};

/// The length of a bucket in microseconds.
const BUCKET: i64 = 10_000_000;

/// A bucket is retired when it has been over for this many buckets: whoever picked it has inserted by then, most likely.
const REST: i64 = 3;

/// For so many buckets, ten minutes, waiting items are left where they are; later they are moved on.
const KEPT_BACK: i64 = 60;

/// So many buckets below `low` are read as well when a shard is taken over: whoever raised it may have died before it
/// looked at them once more.
const BELOW: i64 = 60;

/// How many items are remembered; beyond that all are forgotten.
const REMEMBERED: usize = 200_000;

/// For how many microseconds a bucket that is over is still looked at for new work: a replica's clock may be behind, and
/// it may be slow to insert. What comes later yet is found when the bucket is retired.
const LOOK_BACK: i64 = 5_000_000;

/// How many items are finished or put at most at once in one shard, before others get a turn.
const MOVED: usize = 500;

/// A shard, a bucket and a put.
type Place = (i16, i64, Uuid);

/// What this process knows of where items are. Only a help: an item whose place is forgotten is found again by the next
/// scan and finished then.
#[derive(Default)]
pub(super) struct Places(Mutex<Known>);

#[derive(Default)]
struct Known {
    items: HashMap<String, Vec<Place>>,
    buckets: HashSet<(i16, i64)>,
    /// Per shard the buckets that were looked at when they were over, and whether they were empty.
    looked: HashMap<i16, BTreeMap<i64, bool>>,
}

impl Places {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remember(&self, id: &str, place: Place) {
        self.with(|known| {
            if known.items.len() >= REMEMBERED {
                // Most of them are other replicas', which never finish them here.
                known.items.clear();
            }
            let places = known.items.entry(id.to_owned()).or_default();
            if !places.contains(&place) {
                places.push(place);
            }
        });
    }
}

fn shard_of(package: &PackageName) -> i16 {
    Shard::of(package).number()
}

impl Inner {
    fn now_bucket(&self) -> i64 {
        (self.clock.now() * 1000).div_euclid(BUCKET)
    }

    /// Puts items; they are where they will be read when this answers.
    pub(super) async fn put_work(&self, items: &[Work]) -> Result<()> {
        let mut by_shard: BTreeMap<i16, Vec<&Work>> = BTreeMap::new();
        for item in items {
            by_shard
                .entry(shard_of(&item.package))
                .or_default()
                .push(item);
        }
        each(by_shard, |(shard, items)| async move {
            for slice in items.chunks(MOVED) {
                self.put_in_shard(shard, slice).await?;
            }
            Ok(())
        })
        .await
        .map(drop)
    }

    async fn put_in_shard(&self, shard: i16, items: &[&Work]) -> Result<()> {
        let put = Uuid::new_v4();
        let mut low = 0;
        loop {
            // A clock that is behind the owner's puts into the lowest bucket that is still read.
            let bucket = self.now_bucket().max(low);
            self.insert((shard, bucket, put), items).await?;
            low = self.low_of(shard).await?;
            if low <= bucket {
                for item in items {
                    self.work.remember(&item.id, (shard, bucket, put));
                }
                return Ok(());
            }
        }
    }

    async fn insert(&self, (shard, bucket, put): Place, items: &[&Work]) -> Result<()> {
        // The bucket first: an item in a bucket that is not listed is not found.
        if !self
            .work
            .with(|known| known.buckets.contains(&(shard, bucket)))
        {
            let values = vec![small(shard), big(bucket), int(self.retain)];
            self.put(&self.statements.put_bucket, values).await?;
            self.work.with(|known| {
                // The ones of long ago are not put into any more.
                known.buckets.retain(|(_, one)| *one >= bucket - REST);
                known.buckets.insert((shard, bucket));
            });
        }
        each(items, |item| async move {
            let Work {
                id,
                package,
                due,
                job,
            } = item;
            let values = vec![
                small(shard),
                big(bucket),
                text(id.as_str()),
                uuid(put),
                text(package.as_str()),
                big(*due),
                json(job)?,
                int(self.retain),
            ];
            self.put(&self.statements.put_work, values).await
        })
        .await
        .map(drop)
    }

    async fn low_of(&self, shard: i16) -> Result<i64> {
        let cells = self.one(&self.statements.low, vec![small(shard)]).await?;
        cells.map_or(Ok(0), |cells| cells.number("low"))
    }

    /// The items of a bucket that are not finished; one that was put twice comes twice.
    async fn unfinished(&self, shard: i16, bucket: i64) -> Result<Vec<(Uuid, Work)>> {
        let values = vec![small(shard), big(bucket)];
        let mut found = Vec::new();
        for cells in self.all(&self.statements.work, values).await? {
            // A row of which only `done` is there was finished after its time to live.
            if let Some(put) = cells.maybe_uuid("put")?
                && !cells.flag("done")?
                && cells.has("job")?
            {
                let item = work(&cells)?;
                self.work.remember(&item.id, (shard, bucket, put));
                found.push((put, item));
            }
        }
        Ok(found)
    }

    async fn buckets_from(&self, shard: i16, low: i64) -> Result<Vec<i64>> {
        self.all(&self.statements.buckets, vec![small(shard), big(low)])
            .await?
            .iter()
            .map(|cells| cells.number("bucket"))
            .collect()
    }

    /// Work of a shard that is not finished, a bucket a page.
    pub(super) async fn pending_of(
        &self,
        shard: Shard,
        cursor: Option<&str>,
    ) -> Result<(Vec<Work>, Option<String>)> {
        let shard = shard.number();
        let from = match cursor {
            Some(cursor) => cursor.parse().map_err(|_| error_of_cursor(cursor))?,
            None => self.low_of(shard).await? - BELOW,
        };
        let mut buckets = self.buckets_from(shard, from).await?.into_iter();
        let Some(first) = buckets.next() else {
            return Ok((Vec::new(), None));
        };
        let items = self.unfinished(shard, first).await?;
        let items = items.into_iter().map(|(_, item)| item).collect();
        Ok((items, buckets.next().map(|next| next.to_string())))
    }

    /// Work that was put of late, by whichever replica.
    pub(super) async fn recent_of(&self, shards: &[Shard]) -> Result<Vec<Work>> {
        let now = self.clock.now() * 1000;
        let first = (now - LOOK_BACK).div_euclid(BUCKET);
        let asked: Vec<(i16, i64)> = shards
            .iter()
            .flat_map(|shard| (first..=now.div_euclid(BUCKET)).map(|at| (shard.number(), at)))
            .collect();
        let found = each(asked, |(shard, bucket)| self.unfinished(shard, bucket)).await?;
        Ok(found.into_iter().flatten().map(|(_, item)| item).collect())
    }

    pub(super) async fn finish(&self, items: &[Work]) -> Result<()> {
        each(items, |item| async move {
            let places = self.work.with(|known| known.items.remove(&item.id));
            for place in places.unwrap_or_default() {
                self.done(&item.id, place).await?;
            }
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Raises `low` past the buckets in which nothing is left. Each bucket is looked at once when it is over, and the lowest
    /// that is not empty each time; what keeps that one back for long is moved to the bucket of now.
    pub(super) async fn retire(&self, shard: Shard) -> Result<Vec<Work>> {
        let shard = shard.number();
        let low = self.low_of(shard).await?;
        let now = self.now_bucket();
        let mut buckets = self.buckets_from(shard, low).await?;
        buckets.retain(|bucket| *bucket < now - REST);
        let mut looked = self
            .work
            .with(|known| known.looked.remove(&shard))
            .unwrap_or_default();
        looked.retain(|bucket, _| *bucket >= low);
        let mut found = Vec::new();
        let mut raise_to = low;
        let mut all_empty = true;
        for bucket in &buckets {
            let seen = looked.get(bucket).copied();
            let empty = match seen {
                Some(true) => true,
                // Not the lowest: it is looked at again when it is.
                Some(false) if !all_empty => false,
                _ => {
                    let left = self.unfinished(shard, *bucket).await?;
                    let none = left.is_empty();
                    if !none && all_empty && *bucket < now - KEPT_BACK {
                        self.move_on(shard, *bucket).await?;
                        true
                    } else {
                        found.extend(left.into_iter().map(|(_, item)| item));
                        none
                    }
                }
            };
            looked.insert(*bucket, empty);
            all_empty &= empty;
            if all_empty {
                raise_to = bucket + 1;
            }
        }
        self.work.with(|known| known.looked.insert(shard, looked));
        // If it is not raised by us, somebody else takes care of the shard.
        if raise_to > low && self.raise(shard, low, raise_to).await? {
            // Once more: what came in after the look and before the raise.
            for bucket in buckets.into_iter().filter(|bucket| *bucket < raise_to) {
                self.move_on(shard, bucket).await?;
            }
        }
        Ok(found)
    }

    /// Puts what is left in a bucket into the bucket of now.
    async fn move_on(&self, shard: i16, bucket: i64) -> Result<()> {
        let left = self.unfinished(shard, bucket).await?;
        if left.is_empty() {
            return Ok(());
        }
        let items: Vec<&Work> = left.iter().map(|(_, item)| item).collect();
        for slice in items.chunks(MOVED) {
            self.put_in_shard(shard, slice).await?;
        }
        each(&left, |(put, item)| async move {
            let old = (shard, bucket, *put);
            self.done(&item.id, old).await?;
            self.work.with(|known| {
                if let Some(places) = known.items.get_mut(&item.id) {
                    places.retain(|place| *place != old);
                }
            });
            Ok(())
        })
        .await
        .map(drop)
    }

    async fn done(&self, id: &str, (shard, bucket, put): Place) -> Result<()> {
        let values = vec![
            int(self.retain),
            small(shard),
            big(bucket),
            text(id),
            uuid(put),
        ];
        self.put(&self.statements.finish_work, values).await
    }

    /// Whether `low` is `to` now because of us.
    async fn raise(&self, shard: i16, from: i64, to: i64) -> Result<bool> {
        let (statement, values) = if from == 0 {
            (&self.statements.first_low, vec![small(shard), big(to)])
        } else {
            (
                &self.statements.raise_low,
                vec![big(to), small(shard), big(from)],
            )
        };
        match self.session.execute_unpaged(statement, &values).await {
            Ok(result) => rows(result)?
                .first()
                .map_or(Ok(true), |first| first.flag("[applied]")),
            Err(error) if super::error::may_be_done(&error) => {
                let cells = self
                    .one(&self.statements.low_serial, vec![small(shard)])
                    .await?;
                // Whoever raised it to there: the buckets below are looked at once more.
                Ok(cells.map_or(Ok(0), |cells| cells.number::<i64>("low"))? >= to)
            }
            Err(error) => Err(super::error::of_write("retiring a bucket", &error)),
        }
    }

    // ---- replicas --------------------------------------------------------------------------------------------------

    pub(super) async fn beat_of(&self, replica: &Replica) -> Result<()> {
        // A replica that is gone for long is forgotten.
        const FORGOTTEN: i32 = 24 * 3600;
        let values = vec![
            text(replica.id.as_str()),
            big(replica.beat),
            text(replica.address.as_str()),
            int(FORGOTTEN),
        ];
        self.put(&self.statements.beat, values).await
    }

    pub(super) async fn leave_of(&self, id: &str) -> Result<()> {
        self.put(&self.statements.leave, vec![text(id)]).await
    }

    pub(super) async fn replicas_of(&self) -> Result<Vec<Replica>> {
        self.all(&self.statements.replicas, Vec::new())
            .await?
            .iter()
            .map(|cells| {
                Ok(Replica {
                    id: cells.text("id")?.to_owned(),
                    beat: cells.number("beat")?,
                    address: cells.text("address")?.to_owned(),
                })
            })
            .collect()
    }

    /// Writes and reads something.
    pub(super) async fn probe(&self) -> Result<()> {
        let now = now_micros();
        self.put(&self.statements.probe, vec![big(now)]).await?;
        self.one(&self.statements.probed, Vec::new())
            .await
            .map(drop)
    }
}

fn work(cells: &Cells) -> Result<Work> {
    Ok(Work {
        id: cells.text("id")?.to_owned(),
        package: cells.name("package")?,
        due: cells.number("due")?,
        job: cells.json("job")?,
    })
}
