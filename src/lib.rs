//! feedsme

pub mod semver;
