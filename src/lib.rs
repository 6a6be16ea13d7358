//! feedsme: when an npm package gets a new version, every dependent that lets it in is rebuilt, in order, once, never
//! lost.
//!
//! # Layout
//!
//! ```text
//! http  ── changes ──►  ingest ──►  plan  ──►  queue  ──►  dispatch  ──►  neighbours
//!  │                      │        (pure)     (pure)         │           build service, warehouse, registry
//!  └─ queries ◄── query ◄─┴───────────── store ──────────────┘
//! ```
//!
//! * [`semver`]: npm's versions and ranges, exactly.
//! * [`model`]: the words of the domain as types.
//! * [`plan`]: what follows from a change, as plain functions on data.
//! * [`graph`]: whom a wave reaches, and who waits for whom.
//! * [`store`]: what is remembered, as domain verbs; SQLite.
//! * [`ingest`]: load, decide, apply.
//! * [`queue`]: the order of work and the retry policy, as plain data.
//! * [`dispatch`]: claim, send, settle; the worker.
//! * [`neighbours`]: how the others talk.
//! * [`sandbox`]: stand-ins for them on loopback, for tests, demo and benches.
//! * [`query`]: what people and programs are told.
//! * [`http`]: how changes and questions come in.
//! * [`import`]: what was published before, from a registry or from a keyspace of the Node software.

pub mod app;
pub mod cli;
pub mod demo;
pub mod dispatch;
pub mod graph;
pub mod http;
pub mod import;
pub mod ingest;
pub mod model;
pub mod neighbours;
pub mod plan;
pub mod query;
pub mod queue;
pub mod sandbox;
pub mod semver;
pub mod settings;
pub mod store;
pub mod telemetry;
