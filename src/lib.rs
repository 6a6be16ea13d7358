//! feedsme

pub mod neighbours;
pub mod queue;
