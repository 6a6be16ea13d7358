//! Waves through `ingest` itself, without a server.

mod dry;
