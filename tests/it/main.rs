//! One binary for all integration tests.

mod neighbours;
mod semver;
