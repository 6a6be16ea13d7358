//! What happens to a rebuild after an attempt to send it, and when a neighbour is left alone.
//!
//! Why apart from the dispatcher: these decisions keep the promises of design.md 4 (nothing lost, nothing sent for
//! ever, outages do not eat attempts), so they are plain functions on data. No clock, no I/O: time is an argument,
//! in milliseconds since the epoch, and so is the jitter.
//!
//! ```text
//! owner   who of several replicas lives, and which shards are whose (H25)
//! retry   one attempt's outcome → what becomes of the rebuild
//! lane    all outcomes of a neighbour → whether it is sent to at all, and what counts as poison (H25)
//! schedule   what may be started next, one item of a key at a time
//! ```

pub mod lane;
pub mod owner;
pub mod retry;
pub mod schedule;

pub use lane::{Admission, Lane, Refusal};
pub use retry::{Attempt, DeadReason, Next, after};
