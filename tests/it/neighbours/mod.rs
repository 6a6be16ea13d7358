//! The outgoing half against neighbours that misbehave in every way design.md 4 has a row for.

mod reading;
mod sending;
mod stub;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use feedsme::neighbours::{Document, Endpoint, Failure, Tarball};
use futures_util::stream;
use serde_json::{Map, Value, json};

/// Nothing may move for this long in these tests. Long enough for a busy machine, short enough to be waited for.
const IDLE: Duration = Duration::from_millis(400);

fn endpoint(url: &str) -> Endpoint {
    let mut endpoint = Endpoint::new(url);
    endpoint.idle_timeout = IDLE;
    endpoint.connect_timeout = Duration::from_millis(500);
    endpoint
}

/// Bytes that are no valid anything, but always the same.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(byte).collect()
}

/// A tarball in pieces, with or without an announced length.
fn tarball(content: &[u8], piece: usize, announced: Option<usize>) -> Tarball {
    let pieces: Vec<Result<Bytes, Failure>> = content
        .chunks(piece)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    Tarball {
        stream: Box::pin(stream::iter(pieces)),
        length: announced.map(|length| length as u64),
        sha512: None,
    }
}

/// The two halves of a document, around its attachment `@s/c-1.0.1-0.tgz`.
struct Halves(Map<String, Value>, Map<String, Value>);

impl Halves {
    fn new() -> Self {
        let object = |value: Value| value.as_object().unwrap().clone();
        Self(
            object(json!({
                "_id": "@s/c", "name": "@s/c", "dist-tags": {"latest": "1.0.1-0"},
                "versions": {"1.0.1-0": {"name": "@s/c", "version": "1.0.1-0", "z": 1, "a": "\"ü\n"}},
            })),
            object(json!({"env": "dev", "__published": true})),
        )
    }

    fn document(&self) -> Document<'_> {
        Document {
            before: &self.0,
            attachment: "@s/c-1.0.1-0.tgz",
            after: &self.1,
        }
    }
}
