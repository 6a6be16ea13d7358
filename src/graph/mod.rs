//! The affected graph of a wave: everything that a start will reach, through ranges, and in which order (rules 8, 9,
//! 14-17).
//!
//! It exists because a wave must know, before it sends anything, who waits for whom: a dependent that went with the
//! first of its parents could not be sent again for the second. What is found here is a prediction (H16): what a run
//! of the wave gives if nothing interferes and everything that is waited for is published.
//!
//! * [`order`]: cycles are cut, levels counted (rule 16). Of publishes and promotions alike.
//! * [`Explorer`]: whom publishes reach, at which versions; it says what it needs to know and is told.

mod order;

#[cfg(test)]
mod order_tests;

pub use order::{Order, Place, Role, order};
