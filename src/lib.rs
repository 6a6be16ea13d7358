//! feedsme

pub mod http;
pub mod model;
pub mod semver;
pub mod store;
