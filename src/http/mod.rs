//! How HTTP reaches the rest: bytes in, typed data out.
//!
//! A handler reads its parameters, calls `ingest`, `dispatch` or `query`, and answers; whatever goes wrong on the way is
//! an [`errors::ApiError`], which is the only thing that decides what a client hears of a failure (design.md 6).
//!
//! ```text
//! server   starts it: state, limits, the table of routes
//! route    paths: patterns, tolerated spellings, methods, the access log
//! params   what a request says beside its body, judged
//! errors   the one shape of every error
//! unread   refusing a body that is still on its way
//! change   POST of a change (contract.md 1)
//! plan     the dry run of a change
//! wait     `?wait=`: answering when the first level is sent
//! read     the questions
//! wave     waves, holds, outcomes, why: what operators ask and say
//! rebuild  one rebuild, and its retry
//! health   is it alive, is it ready, what is it doing
//! body     decodes and counts what a client sends
//! filter   keeps `_attachments` out of memory
//! ```

pub mod body;
mod change;
pub mod errors;
pub mod filter;
mod health;
mod params;
mod plan;
mod read;
mod rebuild;
mod route;
mod server;
mod unread;
mod wait;
mod wave;

pub use server::{ApiState, ServerOptions, serve};
