//! One binary for all integration tests.
// Clippy knows tests by their attribute, not the helpers they call.
#![allow(clippy::unwrap_used)]

mod babel;
mod cassandra;
mod demo;
mod failures;
mod helpers;
mod http;
mod import;
mod kill;
mod neighbours;
mod node;
mod places;
mod process;
mod rules;
mod sandbox;
mod semver;
mod store;
mod waves;
