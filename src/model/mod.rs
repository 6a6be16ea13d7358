//! The words of `design.md` section 2 as types, so that text is judged once, at the edge, and never again inside.
//!
//! ```text
//! id         identities and digests
//! name       what a package may be called
//! edge       what a manifest's declared dependencies mean (rules 3 and 4)
//! env        the environments, in the order of promotion
//! document   what a posted body says, and what is wrong with it (rules 1 and 2)
//! change     an accepted change and what became of it
//! package    what is known of one package, its versions and their rebuilds
//! decision   rebuild or skip, with the reason (rule 18)
//! work       what the durable queue holds
//! outgoing   what a rebuild or a promotion sends (rule 10, contract.md 4 J)
//! env        the ordered environments
//! change     an accepted POST and what became of it
//! package    a package's partition: versions, rebuilds, head
//! decision   rebuild or skip, and why
//! work       what is promised and not done
//! wave       all that follows from one start
//! ```
//!
//! Everything here is a plain function on data: no clock, no I/O, no async.

pub mod change;
pub mod decision;
pub mod document;
pub mod edge;
pub mod env;
pub mod id;
mod json;
pub mod name;
pub mod outgoing;
pub mod package;
pub mod spread;
pub mod wave;
pub mod work;

pub use document::{ChangeError, Document, IncomingChange};
pub use edge::{Edge, EdgeFields, EdgeRange, Edges};
pub use name::PackageName;
