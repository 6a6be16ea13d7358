//! feedsme
pub mod sandbox;
