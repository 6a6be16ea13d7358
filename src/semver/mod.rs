//! npm's semver, exactly as node-semver 7.8.6 answers it.
//!
//! Whether a range admits a version decides what is rebuilt, and everybody else who reads these ranges (npm, the build
//! service, the people who wrote them) reads them with node-semver. Cargo's rules differ in ordinary cases (`1.2.3` is a
//! caret range there) and no crate agrees with node-semver on the odd ones, so the rules are written out here.
//!
//! Where to look:
//! - [`version`]: a version, its order, its increments;
//! - [`range`]: a parsed range and the question whether it admits a version;
//! - `parse`: from the text of a range to comparators, one pass over the forms that people write;
//! - `expand`: what `^`, `~`, `1.x`, `1 - 2` mean as comparators;
//! - `rewrite`: node-semver's chain of text replacements, for all texts that `parse` does not recognise;
//! - `scan`: the pieces of grammar that versions and ranges share.
//!
//! Everything is linear in the length of the text: ranges arrive in documents from outside and have no length limit.

mod expand;
mod parse;
pub mod range;
mod rewrite;
mod scan;
pub mod version;

pub use range::{Range, RangeError, satisfies};
pub use version::{MAX_LENGTH, MAX_SAFE_INTEGER, Release, Version, VersionError};
