//! One conditional write until its outcome is known (H9): the driver repeats none, because a write that timed out may have
//! been done. Whoever wrote is recognised by what only it can have written.

use std::time::Duration;

use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryResult;

use super::Inner;
use super::error::{may_be_done, of_write, unknown};
use super::values::rows;
use crate::store::{Committed, Result};

/// How often an unknown outcome is looked after.
const LOOKS: u32 = 6;

/// What a serial read says of a write whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    /// It is there.
    Yes,
    /// Its condition does not hold any more, and not because of it.
    No,
    /// Its condition holds still: it can be issued again.
    NotYet,
    /// Later writes have covered the traces.
    Lost,
}

impl Inner {
    /// Issues a conditional write, again if need be; `look` is a serial read of the same partition.
    pub(super) async fn decided<I, L>(
        &self,
        what: &str,
        issue: impl Fn() -> I,
        look: impl Fn() -> L,
    ) -> Result<Committed>
    where
        I: Future<Output = std::result::Result<QueryResult, ExecutionError>>,
        L: Future<Output = Result<Ours>>,
    {
        self.open()?;
        let lost = || unknown(format!("cassandra: whether {what} was recorded"));
        let mut unsure = false;
        for again in 0..LOOKS {
            match issue().await {
                Ok(result) => {
                    let applied = rows(result)?
                        .first()
                        .map_or(Ok(true), |first| first.flag("[applied]"))?;
                    if applied {
                        return Ok(Committed::Applied);
                    }
                    if !unsure {
                        return Ok(Committed::Refused);
                    }
                    return match look().await? {
                        Ours::Yes => Ok(Committed::Applied),
                        Ours::Lost => Err(lost()),
                        Ours::No | Ours::NotYet => Ok(Committed::Refused),
                    };
                }
                Err(error) if may_be_done(&error) => {
                    unsure = true;
                    match look().await {
                        Ok(Ours::Yes) => return Ok(Committed::Applied),
                        Ok(Ours::No) => return Ok(Committed::Refused),
                        Ok(Ours::Lost) => return Err(lost()),
                        Ok(Ours::NotYet) | Err(_) => {}
                    }
                }
                Err(error) if !unsure => return Err(of_write(what, &error)),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(20 << again)).await;
        }
        Err(lost())
    }
}
