//! How HTTP reaches the rest: bytes in, typed data out.
//!
//! ```text
//! body     decodes and counts what a client sends
//! filter   keeps `_attachments` out of memory
//! ```

pub mod body;
pub mod filter;
