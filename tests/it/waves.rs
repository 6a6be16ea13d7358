//! Waves through `ingest` itself, without a server.

mod circles;
mod dry;
