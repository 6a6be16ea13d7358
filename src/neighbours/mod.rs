//! The outgoing half: how feedsme talks to the build service, the warehouse and the npm registry.
//!
//! Why a module of its own: everything that can go wrong between two machines is decided here and given a name
//! ([`Outcome`]), so that the queue never looks at a status code, an error text or a socket. Nothing in here
//! retries, waits for a better moment or knows about rebuilds; that is [`crate::queue`].
//!
//! ```text
//! endpoint       the settings of one neighbour
//! client         credentials, TLS roots, timeouts: what every request shares
//! outcome        the names of what can come of a request (design.md 4)
//! registry       reading: packument and tarball          packument  its streaming reader
//! upload         writing: a document with its tarball    encode     base64 over pieces
//! build_service  the first reader of such a document     ndjson     its reply, line by line
//! warehouse      the second
//! text           what of a neighbour's words operators may see
//! ```
//!
//! A tarball is never held in memory: it flows from the registry's response through base64 into the request body,
//! and the slowest of the three sets the pace.

pub mod build_service;
pub mod client;
mod encode;
pub mod endpoint;
mod ndjson;
pub mod outcome;
pub mod packument;
pub mod registry;
mod text;
pub mod upload;
pub mod warehouse;

pub use build_service::BuildService;
pub use client::Unusable;
pub use endpoint::{Endpoint, Secret};
pub use outcome::{Class, Failure, Neighbour, Outcome};
pub use packument::Packument;
pub use registry::{Registry, Tarball};
pub use upload::{Document, Report, Streamed};
pub use warehouse::Warehouse;
